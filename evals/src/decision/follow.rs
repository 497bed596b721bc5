//! What was recorded, taken into the states that the next decision is taken from.

use super::{Admitted, States, time};
use crate::slice::Event;
use custody_contracts::events::{DispatchEvent, EffectEvent, KeyEvent, LauncherEvent, LedgerEvent, RunEvent};
use custody_contracts::sealed::SubjectKeyChanged;
use custody_domain::checkpoint::CheckpointChain;
use custody_domain::dispatch::Dispatch;
use custody_domain::effect::Effect;
use custody_domain::events::{
    OfCheckpoint, OfDispatch, OfEffect, OfGrant, OfKey, OfLauncher, OfRun, OfToken, OfWorkspace,
};
use custody_domain::grant::Grants;
use custody_domain::key::Key;
use custody_domain::launcher::Launcher;
use custody_domain::run::Run;
use custody_domain::token::Token;
use custody_domain::workspace::Workspaces;
use custody_ledger::Decider;
use std::collections::BTreeMap;

impl States<'_> {
    pub(super) fn follow(&mut self, event: &Event, known: &LedgerEvent) {
        self.book.take_in(event.seq(), time(event), known);
        match known.clone() {
            LedgerEvent::Dispatch(e) => {
                let id = match &e {
                    DispatchEvent::Admitted(e) => {
                        let admitted = Admitted {
                            subject: e.unit.identity.subject.to_string(),
                            launcher: e.launch.launcher.to_string(),
                            event: e.clone(),
                        };
                        self.admitted.entry(e.dispatch.to_string()).or_insert(admitted);
                        e.dispatch.to_string()
                    }
                    DispatchEvent::Refused(e) => e.dispatch.to_string(),
                    DispatchEvent::StopRequested(e) => e.dispatch.to_string(),
                    DispatchEvent::FollowUpAccepted(e) => e.dispatch.to_string(),
                    DispatchEvent::FollowUpRefused(e) => e.message.to_string(),
                };
                evolve::<Dispatch>(&mut self.dispatches, id, &OfDispatch(e));
            }
            LedgerEvent::Run(e) => {
                let id = match &e {
                    RunEvent::Claimed(e) => e.dispatch.to_string(),
                    RunEvent::Started(e) => e.dispatch.to_string(),
                    RunEvent::Finished(e) => e.dispatch.to_string(),
                };
                evolve::<Run>(&mut self.runs, id, &OfRun(e));
            }
            LedgerEvent::Approval(e) => {
                let (state, _) = self.approvals.remove(e.card()).unwrap_or_default();
                self.approvals.insert(e.card().to_owned(), (state.after(&e), event.seq()));
            }
            LedgerEvent::Effect(e) => {
                if let EffectEvent::ToolAwaiting(waits) = &e {
                    self.waiting.insert(waits.card(), (**waits).clone());
                }
                evolve::<Effect>(&mut self.effects, e.entity_id(), &OfEffect(e));
            }
            LedgerEvent::Launcher(e) => {
                let id = match &e {
                    LauncherEvent::Registered(e) => e.launcher.to_string(),
                    LauncherEvent::Rotated(e) => e.launcher.to_string(),
                    LauncherEvent::Disabled(e) => e.launcher.to_string(),
                };
                evolve::<Launcher>(&mut self.launchers, id, &OfLauncher(e));
            }
            LedgerEvent::Key(e) => {
                let id = match &e {
                    KeyEvent::Introduced(e) => e.kid.clone(),
                    KeyEvent::Retired(e) => e.kid.clone(),
                    KeyEvent::TokenKey(e) => e.kid.clone(),
                    KeyEvent::Subject(e) => SubjectKeyChanged::entity_id(&e.subject),
                };
                evolve::<Key>(&mut self.keys, id, &OfKey(e));
            }
            LedgerEvent::Checkpoint(e) => {
                self.checkpoints = CheckpointChain::evolve(std::mem::take(&mut self.checkpoints), &OfCheckpoint(e));
            }
            LedgerEvent::Workspace(e) => {
                let id = e.workspace().to_string();
                evolve::<Workspaces>(&mut self.workspaces, id, &OfWorkspace(e));
            }
            LedgerEvent::Grant(e) => {
                let id = e.grant().to_string();
                evolve::<Grants>(&mut self.grants, id, &OfGrant(e));
            }
            LedgerEvent::Token(e) => {
                let id = e.id().to_owned();
                evolve::<Token>(&mut self.tokens, id, &OfToken(e));
            }
        }
    }
}

fn evolve<D: Decider>(states: &mut BTreeMap<String, D::State>, id: String, event: &D::Event) {
    let before = states.remove(&id).unwrap_or_default();
    states.insert(id, D::evolve(before, event));
}
