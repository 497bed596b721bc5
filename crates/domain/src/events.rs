//! The ledger's enums as each decider's own event type, and back.

use custody_contracts::approval::ApprovalEvent;
use custody_contracts::events::{
    CheckpointEvent, DispatchEvent, EffectEvent, KeyEvent, LauncherEvent, LedgerEvent, RunEvent,
};
use custody_contracts::grant::GrantEvent;
use custody_contracts::token::TokenEvent;
use custody_contracts::workspace::WorkspaceEvent;

macro_rules! event_type {
    ($(#[$doc:meta])* $name:ident, $inner:ident, $variant:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(pub $inner);
        impl TryFrom<LedgerEvent> for $name {
            type Error = ();
            fn try_from(event: LedgerEvent) -> Result<Self, ()> {
                match event {
                    LedgerEvent::$variant(inner) => Ok($name(inner)),
                    _ => Err(()),
                }
            }
        }
        impl From<$name> for LedgerEvent {
            fn from(event: $name) -> Self {
                LedgerEvent::$variant(event.0)
            }
        }
    };
}
event_type!(
    /// An event of one dispatch.
    OfDispatch, DispatchEvent, Dispatch);
event_type!(
    /// An event of one run.
    OfRun, RunEvent, Run);
event_type!(
    /// An event of one effect.
    OfEffect, EffectEvent, Effect);
event_type!(
    /// An event of one launcher.
    OfLauncher, LauncherEvent, Launcher);
event_type!(
    /// An event of one key.
    OfKey, KeyEvent, Key);
event_type!(
    /// An event of the checkpoint chain.
    OfCheckpoint, CheckpointEvent, Checkpoint);
event_type!(
    /// An event of one approval.
    OfApproval, ApprovalEvent, Approval);
event_type!(
    /// An event of one workspace.
    OfWorkspace, WorkspaceEvent, Workspace);
event_type!(
    /// An event of one grant.
    OfGrant, GrantEvent, Grant);
event_type!(
    /// An event of one token.
    OfToken, TokenEvent, Token);
