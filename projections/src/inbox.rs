//! Cards: every call that waits or has waited for a person, and what came of it. What is shown of a call is its arguments,
//! and those are a blob: a row has their digest.

use crate::table::{Table, folded_table};
use custody_contracts::approval::{ApprovalEvent, Choice};
use custody_contracts::events::{EffectEvent, LedgerEvent};
use custody_ledger::{Projection, Recorded};
use serde::{Deserialize, Serialize};

/// One card.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CardRow {
    /// Its id: the dispatch's, `-t`, and the call's number.
    pub card: String,
    /// The dispatch whose call it is.
    pub dispatch: String,
    /// In whose name.
    pub subject: String,
    /// Who launched it.
    pub launcher: String,
    /// Who may decide.
    pub approvers: Vec<String>,
    /// The tool.
    pub tool: String,
    /// The scope that the call would use.
    pub scope: String,
    /// `read`, `write` or `irreversible`.
    pub effect: String,
    /// `trusted` or `untrusted`.
    pub input_trust: String,
    /// The rule that asks for a person.
    pub rule: String,
    /// The version that waits: 1, and one more for each edit.
    pub version: u32,
    /// Digest of that version's arguments.
    pub args_digest: String,
    /// `waiting`, `approved`, `rejected`, `expired`, `refused`, `running`, `succeeded`, `failed` or `in_doubt`.
    pub state: String,
    /// Whether somebody has still to decide.
    pub open: bool,
    /// Deferred until then, milliseconds since the Unix epoch.
    pub until: Option<u64>,
    /// Its time is up then, milliseconds since the Unix epoch.
    pub expires_at: u64,
    /// Who decided last.
    pub by: Option<String>,
    /// Why it was rejected, refused or failed.
    pub reason: Option<String>,
    /// When the call was made, RFC 3339.
    pub opened_at: String,
    /// Sequence of its first event.
    pub first_seq: u64,
    /// Sequence of its last event.
    pub last_seq: u64,
}

/// The projection.
#[derive(Debug)]
pub struct Inbox;

impl Projection for Inbox {
    const NAME: &'static str = "inbox";
    const VERSION: u32 = 1;
    type State = Table<CardRow>;

    fn apply(state: &mut Self::State, recorded: &Recorded) {
        match &recorded.event {
            Some(LedgerEvent::Effect(event)) => on_effect(state, recorded, event),
            Some(LedgerEvent::Approval(event)) if state.get(event.card()).is_some() => {
                let row = state.edit(event.card());
                row.last_seq = recorded.seq.0;
                on_approval(row, event);
            }
            Some(
                LedgerEvent::Approval(_)
                | LedgerEvent::Dispatch(_)
                | LedgerEvent::Run(_)
                | LedgerEvent::Launcher(_)
                | LedgerEvent::Key(_)
                | LedgerEvent::Checkpoint(_)
                | LedgerEvent::Workspace(_)
                | LedgerEvent::Grant(_)
                | LedgerEvent::Token(_),
            )
            | None => {}
        }
    }
}

fn on_effect(state: &mut Table<CardRow>, recorded: &Recorded, event: &EffectEvent) {
    let id = event.entity_id();
    if let EffectEvent::ToolAwaiting(e) = event {
        let words = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let row = state.edit(&id);
        *row = CardRow {
            card: id,
            dispatch: e.dispatch.to_string(),
            subject: recorded.envelope.subject.clone().unwrap_or_default(),
            launcher: recorded.envelope.launcher.clone().unwrap_or_default(),
            approvers: e.approvers.iter().map(ToString::to_string).collect(),
            tool: e.tool.clone(),
            scope: e.scope.clone(),
            effect: words(serde_json::to_value(e.effect).unwrap_or_default()),
            input_trust: words(serde_json::to_value(e.input_trust).unwrap_or_default()),
            rule: e.policy.rule.clone(),
            version: 1,
            args_digest: e.args_digest.clone(),
            state: "waiting".into(),
            open: true,
            until: None,
            expires_at: e.expires_at.0,
            by: None,
            reason: None,
            opened_at: recorded.envelope.time.clone(),
            first_seq: recorded.seq.0,
            last_seq: recorded.seq.0,
        };
        return;
    }
    if state.get(&id).is_none() {
        return;
    }
    let row = state.edit(&id);
    row.last_seq = recorded.seq.0;
    row.open = false;
    match event {
        EffectEvent::ToolIntended(_) => row.state = "running".into(),
        EffectEvent::ToolFinished(e) => {
            row.state = e.phase.as_str().into();
            row.reason.clone_from(&e.reason);
        }
        // What a person refused is closed by the gateway too; the person's word stays.
        EffectEvent::ToolRefused(_) if matches!(row.state.as_str(), "rejected" | "expired") => {}
        EffectEvent::ToolRefused(e) => {
            row.state = "refused".into();
            row.reason = Some(e.reason.clone());
        }
        EffectEvent::ToolAwaiting(_)
        | EffectEvent::ModelCalled(_)
        | EffectEvent::BudgetWarned(_)
        | EffectEvent::BudgetExhausted(_) => {}
    }
}

fn on_approval(row: &mut CardRow, event: &ApprovalEvent) {
    match event {
        ApprovalEvent::Expired(_) => {
            row.state = "expired".into();
            row.open = false;
        }
        ApprovalEvent::Decided(e) => {
            row.by = Some(e.by.to_string());
            match e.decision {
                Choice::Approve => {
                    row.state = "approved".into();
                    row.open = false;
                }
                Choice::Reject => {
                    row.state = "rejected".into();
                    row.reason.clone_from(&e.reason);
                    row.open = false;
                }
                Choice::Edit => {
                    row.version += 1;
                    row.args_digest = e.args_digest.clone().unwrap_or_default();
                    row.until = None;
                }
                Choice::Defer => row.until = e.until.map(|until| until.0),
            }
        }
    }
}

folded_table!(Inbox);
