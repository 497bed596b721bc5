//! Mode 2: every decision of the log is taken again by the deciders, from inputs that the log itself holds, and must be
//! the recorded one. A refusal, another event or another field is a divergence. Nothing is executed.

mod admission;
mod compare;
mod follow;
mod launches;
mod said;

use crate::check::Check;
use crate::diff::FieldDiff;
use crate::slice::{Event, LaunchLine, Slice};
use compare::compare;
use custody_contracts::approval::{ApprovalEvent, ToolAwaiting};
use custody_contracts::canonical::digest;
use custody_contracts::events::{
    CheckpointEvent, DispatchAdmitted, DispatchEvent, EffectEvent, KeyEvent, LauncherEvent, LedgerEvent, RunEvent,
};
use custody_contracts::grant::GrantEvent;
use custody_contracts::ids::UnixMillis;
use custody_contracts::sealed::SubjectKeyChanged;
use custody_contracts::token::{TokenEvent, TokenIssued};
use custody_contracts::workspace::WorkspaceEvent;
use custody_domain::approval::{ApprovalCommand, ApprovalState, Approvals, Decide};
use custody_domain::checkpoint::{CheckpointChain, CheckpointState};
use custody_domain::dispatch::{Dispatch, DispatchCommand, DispatchState};
use custody_domain::effect::{Effect, EffectCommand, EffectState};
use custody_domain::grant::{Book, Facts, GrantCommand, GrantState, Grants, may_issue};
use custody_domain::key::{Key, KeyCommand, KeyState};
use custody_domain::launcher::{Launcher, LauncherCommand, LauncherState};
use custody_domain::run::{Run, RunCommand, RunState};
use custody_domain::token::{Behind, Token, TokenCommand, TokenState, alone, approved_call, may_be_issued};
use custody_domain::tool::{Approved, judge_again, wait_again};
use custody_domain::workspace::{WorkspaceCommand, WorkspaceState, Workspaces};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A decision that turned round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reversal {
    /// What was refused would be allowed now. Blocks always.
    RefusalToAllowed,
    /// What was allowed would be refused now.
    AllowedToRefusal,
}

/// A decision that does not come out as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Divergence {
    /// Ledger sequence of the recorded decision.
    pub seq: u64,
    /// What came out instead, in a sentence.
    pub what: String,
    /// Field by field, recorded against computed.
    pub fields: Vec<FieldDiff>,
    /// Set when the decision turned round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reversal: Option<Reversal>,
}

/// Every decision of a log, taken again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Decisions {
    /// How many were taken.
    pub taken: u64,
    /// Those that came out otherwise, in log order.
    pub divergences: Vec<Divergence>,
    /// Dispatch and what it comes out as now: `admitted` or `refused:<CODE>`.
    pub outcomes: BTreeMap<String, String>,
    /// Launch and how many decisions name it.
    pub by_launch: BTreeMap<u64, u64>,
    /// Dispatch and digest of the message that decided it.
    decided: BTreeSet<(String, String)>,
}

impl Decisions {
    /// Whether this launch says byte for byte what another one said before: it needs no decision of its own.
    pub(crate) fn repeats(&self, launch: &LaunchLine) -> bool {
        let ids = admission::ids(launch);
        let bytes = digest(&launch.bytes);
        ids.into_iter().flatten().any(|id| self.decided.contains(&(id.to_string(), bytes.clone())))
    }

    /// All of it as one check.
    pub(crate) fn check(&self) -> Check {
        let mut check = Check::new("decision");
        check.looked_at = self.taken;
        for divergence in &self.divergences {
            let mut what = divergence.what.clone();
            for field in divergence.fields.iter().take(3) {
                what = format!("{what}; {field}");
            }
            check.fail(Some(divergence.seq), what);
        }
        check
    }
}

/// Who an event must be attributed to, as its admission says.
struct Admitted {
    subject: String,
    launcher: String,
    event: Box<DispatchAdmitted>,
}

#[derive(Default)]
struct States<'a> {
    launches: BTreeMap<u64, (usize, &'a LaunchLine)>,
    launchers: BTreeMap<String, LauncherState>,
    dispatches: BTreeMap<String, DispatchState>,
    admitted: BTreeMap<String, Admitted>,
    runs: BTreeMap<String, RunState>,
    effects: BTreeMap<String, EffectState>,
    /// What waits for a person, by card, and what was decided about it, with the sequence of the last decision.
    waiting: BTreeMap<String, ToolAwaiting>,
    approvals: BTreeMap<String, (ApprovalState, u64)>,
    tokens: BTreeMap<String, TokenState>,
    keys: BTreeMap<String, KeyState>,
    checkpoints: CheckpointState,
    workspaces: BTreeMap<String, WorkspaceState>,
    grants: BTreeMap<String, GrantState>,
    book: Book,
}

/// Takes every decision of a log again.
pub(crate) fn replay(slice: &Slice) -> Decisions {
    let mut states = States::default();
    for (index, launch) in slice.launches() {
        states.launches.entry(launch.seq).or_insert((index, launch));
    }
    let mut out = Decisions::default();
    for event in &slice.events {
        let Some(known) = &event.recorded.event else { continue };
        out.taken += 1;
        if let Some(divergence) = states.again(event, known, &mut out) {
            out.divergences.push(divergence);
        }
        // What was recorded is what happened: one divergence must not make others.
        states.follow(event, known);
    }
    out
}

fn divergence(event: &Event, what: impl Into<String>) -> Divergence {
    Divergence { seq: event.seq(), what: what.into(), fields: Vec::new(), reversal: None }
}

impl States<'_> {
    fn again(&self, event: &Event, known: &LedgerEvent, out: &mut Decisions) -> Option<Divergence> {
        match known {
            LedgerEvent::Dispatch(DispatchEvent::Admitted(e)) => self.judged(event, known, &e.launch, out),
            LedgerEvent::Dispatch(DispatchEvent::Refused(e)) => self.judged(event, known, &e.launch, out),
            LedgerEvent::Dispatch(DispatchEvent::StopRequested(e)) => {
                let id = e.dispatch.as_str();
                let command = DispatchCommand::RequestStop(e.clone());
                compare::<Dispatch>(event, known, id, &state(&self.dispatches, id), command, &[])
            }
            LedgerEvent::Dispatch(DispatchEvent::FollowUpAccepted(e)) => {
                if let Some(found) = e.launch.as_ref().and_then(|at| self.said(event, known, at, out)) {
                    return Some(found);
                }
                let (id, command) = (e.dispatch.as_str(), DispatchCommand::FollowUp(e.clone()));
                compare::<Dispatch>(event, known, id, &state(&self.dispatches, id), command, &[])
            }
            LedgerEvent::Dispatch(DispatchEvent::FollowUpRefused(e)) => {
                if let Some(found) = e.launch.as_ref().and_then(|at| self.said(event, known, at, out)) {
                    return Some(found);
                }
                let (id, command) = (e.message.as_str(), DispatchCommand::RefuseFollowUp(e.clone()));
                compare::<Dispatch>(event, known, id, &state(&self.dispatches, id), command, &[])
            }
            LedgerEvent::Run(run) => {
                let (id, command) = match run {
                    RunEvent::Claimed(e) => (&e.dispatch, RunCommand::Claim(e.clone())),
                    RunEvent::Started(e) => (&e.dispatch, RunCommand::Start(e.clone())),
                    RunEvent::Finished(e) => (&e.dispatch, RunCommand::Finish(e.clone())),
                };
                let id = id.as_str();
                compare::<Run>(event, known, id, &state(&self.runs, id), command, &self.attribution(id))
            }
            LedgerEvent::Effect(effect) => self.effect(event, known, effect),
            LedgerEvent::Approval(approval) => self.approval(event, known, approval),
            LedgerEvent::Launcher(launcher) => {
                let (id, command) = match launcher {
                    LauncherEvent::Registered(e) => (&e.launcher, LauncherCommand::Register(e.clone())),
                    LauncherEvent::Rotated(e) => (&e.launcher, LauncherCommand::Rotate(e.clone())),
                    LauncherEvent::Disabled(e) => (&e.launcher, LauncherCommand::Disable(e.clone())),
                };
                let id = id.as_str();
                compare::<Launcher>(event, known, id, &state(&self.launchers, id), command, &[])
            }
            LedgerEvent::Key(key) => {
                let (id, command) = match key {
                    KeyEvent::Introduced(e) => (e.kid.clone(), KeyCommand::Introduce(e.clone())),
                    KeyEvent::Retired(e) => (e.kid.clone(), KeyCommand::Retire(e.clone())),
                    KeyEvent::TokenKey(e) => (e.kid.clone(), KeyCommand::Turn(e.clone())),
                    KeyEvent::Subject(e) => (SubjectKeyChanged::entity_id(&e.subject), KeyCommand::Person(e.clone())),
                };
                compare::<Key>(event, known, &id, &state(&self.keys, &id), command, &[])
            }
            LedgerEvent::Checkpoint(CheckpointEvent::Signed(e)) => {
                compare::<CheckpointChain>(event, known, "log", &self.checkpoints, e.clone(), &[])
            }
            LedgerEvent::Workspace(e) => {
                let command = match e.clone() {
                    WorkspaceEvent::Registered(e) => WorkspaceCommand::Register(e),
                    WorkspaceEvent::KeyRotated(e) => WorkspaceCommand::RotateKey(e),
                    WorkspaceEvent::Imported(e) => WorkspaceCommand::Import(e),
                    WorkspaceEvent::ProposalOpened(e) => WorkspaceCommand::OpenProposal(e),
                    WorkspaceEvent::ProposalAccepted(e) => WorkspaceCommand::AcceptProposal(e),
                    WorkspaceEvent::ProposalLanded(e) => WorkspaceCommand::LandProposal(e),
                    WorkspaceEvent::ProposalRejected(e) => WorkspaceCommand::RejectProposal(e),
                };
                let id = e.workspace().as_str();
                compare::<Workspaces>(event, known, id, &state(&self.workspaces, id), command, &[])
            }
            LedgerEvent::Grant(e) => self.grant(event, known, e),
            LedgerEvent::Token(e) => {
                let command = match e {
                    TokenEvent::Issued(e) => {
                        if let Err(no) = may_be_issued(e, self.behind(event, e)) {
                            let mut found = divergence(event, format!("the token is refused now: {no}"));
                            found.reversal = Some(Reversal::AllowedToRefusal);
                            return Some(found);
                        }
                        TokenCommand::Issue(e.clone())
                    }
                    TokenEvent::Refused(e) => TokenCommand::Refuse(e.clone()),
                };
                compare::<Token>(event, known, e.id(), &state(&self.tokens, e.id()), command, &[])
            }
        }
    }

    /// What stands behind a token that was signed at this place of the log.
    fn behind(&self, event: &Event, token: &TokenIssued) -> Behind<'_> {
        let (dispatch, now) = (token.dispatch.as_str(), time(event));
        let run = self.runs.get(dispatch);
        let from = token.from.as_ref().and_then(|jti| self.tokens.get(jti)?.issued());
        let approved = alone(token, from).and_then(|card| {
            let (approval, _) = self.approvals.get(card)?;
            approved_call(self.waiting.get(card), self.effects.get(card)?, approval)
        });
        Behind {
            admitted: self.admitted.get(dispatch).map(|admitted| admitted.event.as_ref()),
            running: matches!(run, Some(RunState::Claimed(_) | RunState::Started(..))),
            grant_ends: self.book.standing(token.grant.as_str(), now).ok().map(|held| held.issued.grant.ends()),
            key: self.keys.get(&token.kid).and_then(|key| key.token()).map(|key| key.state),
            from,
            approved,
            now,
        }
    }

    /// What was granted must be grantable, and what was refused must be refused for the same reason.
    fn grant(&self, event: &Event, known: &LedgerEvent, grant: &GrantEvent) -> Option<Divergence> {
        let may = |terms: &custody_contracts::grant::GrantTerms, consent, parent| {
            let own = terms.launcher.as_str().split_once(':').map_or("", |(_, own)| own);
            let launcher = state(&self.launchers, own);
            let facts =
                Facts { launcher: &launcher, workspaces: &self.workspaces, grants: &self.book, now: time(event) };
            may_issue(terms, consent, parent, facts).map_err(|refusal| refusal.code)
        };
        let command = match grant {
            GrantEvent::Requested(e) => GrantCommand::Request(e.clone()),
            GrantEvent::Issued(e) => {
                if let Err(code) = may(&e.grant.terms(), &e.grant.consent, e.parent.as_ref()) {
                    let mut found = divergence(event, format!("the grant is refused now: {code}"));
                    found.reversal = Some(Reversal::AllowedToRefusal);
                    return Some(found);
                }
                GrantCommand::Issue(e.clone())
            }
            GrantEvent::Refused(e) => {
                // How the person agreed is not in a refusal; whatever else was wrong shows with any consent.
                let parent = e.parent.as_ref().and_then(|id| self.book.document(id.as_str()));
                let consent =
                    parent.map_or_else(|| custody_domain::grant::any_consent(&e.wanted), |p| p.consent.clone());
                match may(&e.wanted, &consent, e.parent.as_ref()) {
                    Err(code) if code == e.reason => {}
                    _ if e.reason == "CONSENT_STATEMENT" => {}
                    Err(code) => return Some(divergence(event, format!("refused for {code}, not for {}", e.reason))),
                    Ok(()) => {
                        let mut found = divergence(event, "the grant is given now");
                        found.reversal = Some(Reversal::RefusalToAllowed);
                        return Some(found);
                    }
                }
                GrantCommand::Refuse(e.clone())
            }
            GrantEvent::Revoked(e) => GrantCommand::Revoke(e.clone()),
        };
        let id = grant.grant().as_str();
        compare::<Grants>(event, known, id, &state(&self.grants, id), command, &[])
    }

    fn effect(&self, event: &Event, known: &LedgerEvent, effect: &EffectEvent) -> Option<Divergence> {
        let (id, dispatch) = (effect.entity_id(), effect.dispatch().as_str());
        let now = state(&self.effects, &id);
        let command = match effect {
            EffectEvent::ModelCalled(e) => EffectCommand::Call(Box::new(e.clone())),
            EffectEvent::ToolFinished(e) => EffectCommand::Finish(e.clone()),
            EffectEvent::ToolRefused(e) => EffectCommand::Refuse(e.clone()),
            EffectEvent::BudgetWarned(e) => EffectCommand::Warn(e.clone()),
            EffectEvent::BudgetExhausted(e) => EffectCommand::Exhaust(e.clone()),
            EffectEvent::ToolAwaiting(recorded) => {
                let Some(admitted) = self.admitted.get(dispatch) else {
                    return Some(divergence(event, format!("{dispatch}, whose tool call it is, was never admitted")));
                };
                if now.is_recorded() {
                    return Some(divergence(event, "another call stands under this number"));
                }
                let grant = admitted.event.grant.id().and_then(|id| self.book.document(id.as_str()));
                return match wait_again(&admitted.event, recorded, grant) {
                    Ok(again) if again == **recorded => None,
                    Ok(_) => Some(divergence(event, "what waits does not come out as recorded")),
                    Err(refusal) => Some(divergence(event, format!("the call is refused now: {refusal}"))),
                };
            }
            EffectEvent::ToolIntended(recorded) => {
                let Some(admitted) = self.admitted.get(dispatch) else {
                    return Some(divergence(event, format!("{dispatch}, whose tool call it is, was never admitted")));
                };
                if now.is_recorded() != recorded.approval.is_some() || now.is_recorded() != now.waits() {
                    return Some(divergence(event, "another call stands under this number, or none that waited"));
                }
                let approved = match self.approved(&id, event) {
                    Ok(approved) => approved,
                    Err(found) => return Some(found),
                };
                return match judge_again(&admitted.event, recorded, approved.as_ref()) {
                    Ok(intended) if intended == *recorded => None,
                    Ok(_) => Some(divergence(event, "the intent does not come out as recorded")),
                    Err(refusal) => {
                        let mut found = divergence(event, format!("the call is refused now: {refusal}"));
                        found.reversal = Some(Reversal::AllowedToRefusal);
                        Some(found)
                    }
                };
            }
        };
        compare::<Effect>(event, known, &id, &now, command, &self.attribution(dispatch))
    }

    /// The approval of a call that waited; `None` for a call that did not.
    fn approved(&self, card: &str, event: &Event) -> Result<Option<Approved>, Divergence> {
        let Some(awaiting) = self.waiting.get(card) else { return Ok(None) };
        let (state, seq) = self.approvals.get(card).cloned().unwrap_or_default();
        let now = UnixMillis::parse(&event.recorded.envelope.time).unwrap_or(UnixMillis(u64::MAX));
        match Approved::of(awaiting, &state, seq, now) {
            Ok(approved) => Ok(Some(approved)),
            Err(refusal) => {
                let mut found = divergence(event, format!("the call is refused now: {refusal}"));
                found.reversal = Some(Reversal::AllowedToRefusal);
                Err(found)
            }
        }
    }

    /// A decision about a card, taken again.
    fn approval(&self, event: &Event, known: &LedgerEvent, approval: &ApprovalEvent) -> Option<Divergence> {
        let card = approval.card();
        let Some(awaiting) = self.waiting.get(card).cloned() else {
            return Some(divergence(event, format!("nothing waits as card {card}")));
        };
        let now = UnixMillis::parse(&event.recorded.envelope.time).unwrap_or(UnixMillis(u64::MAX));
        let command = match approval {
            ApprovalEvent::Expired(_) => ApprovalCommand::Expire { awaiting: Box::new(awaiting), now },
            ApprovalEvent::Decided(e) => ApprovalCommand::Decide(Box::new(Decide {
                awaiting,
                version: e.version,
                choice: e.decision,
                by: e.by.clone(),
                args_digest: e.args_digest.clone(),
                reason: e.reason.clone(),
                until: e.until,
                now,
            })),
        };
        let (state, _) = self.approvals.get(card).cloned().unwrap_or_default();
        let dispatch = approval.dispatch().as_str();
        compare::<Approvals>(event, known, card, &state, command, &self.attribution(dispatch))
    }

    fn attribution(&self, dispatch: &str) -> Vec<(&'static str, Option<String>)> {
        let Some(admitted) = self.admitted.get(dispatch) else { return Vec::new() };
        vec![
            ("subject", Some(admitted.subject.clone())),
            ("launcher", Some(admitted.launcher.clone())),
            ("correlation", Some(dispatch.to_owned())),
        ]
    }
}

/// The time of an event's envelope; the epoch when it cannot be read, at which no grant stands.
fn time(event: &Event) -> UnixMillis {
    UnixMillis::parse(&event.recorded.envelope.time).unwrap_or_default()
}

fn state<S: Clone + Default>(states: &BTreeMap<String, S>, id: &str) -> S {
    states.get(id).cloned().unwrap_or_default()
}
