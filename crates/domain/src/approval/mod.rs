//! An approval: one card, its versions, and what was decided about them. A decision is bound to the digest of the exact
//! arguments, taken once, by somebody who may, before its time is up. Nothing here acts.

#[cfg(test)]
mod tests;

use crate::events::OfApproval;
use custody_contracts::approval::{ApprovalDecided, ApprovalEvent, ApprovalExpired, Choice, ToolAwaiting};
use custody_contracts::ids::{Subject, UnixMillis};
use custody_ledger::Decider;

/// The most versions of one card.
pub const VERSIONS_MAX: u32 = 100;
/// The most deferrals of one card.
pub const DEFERRALS_MAX: u32 = 100;
/// The longest reason, in characters. Source: contract ledger.v2, `ApprovalDecided`.
pub const REASON_CHARS_MAX: usize = 2_048;

/// How a card ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Somebody said yes to exactly these arguments.
    Approved {
        /// Who.
        by: Subject,
        /// The digest of the arguments.
        args_digest: String,
    },
    /// Somebody said no.
    Rejected {
        /// Who.
        by: Subject,
        /// Why.
        reason: String,
    },
    /// Nobody said anything in time.
    Expired,
}

/// What one card is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApprovalState {
    edits: u32,
    deferrals: u32,
    /// The arguments of the version of now; `None` for those that the agent gave.
    args_digest: Option<String>,
    until: Option<UnixMillis>,
    ended: Option<Ended>,
}

impl ApprovalState {
    /// The version of now: 1, and one more for each edit.
    pub fn version(&self) -> u32 {
        self.edits + 1
    }

    /// The digest of the arguments of the version of now.
    pub fn args_digest<'a>(&'a self, awaiting: &'a ToolAwaiting) -> &'a str {
        self.args_digest.as_deref().unwrap_or(&awaiting.args_digest)
    }

    /// How it ended; `None` while it waits.
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// The state after an event.
    #[must_use]
    pub fn after(self, event: &ApprovalEvent) -> ApprovalState {
        Approvals::evolve(self, &OfApproval(event.clone()))
    }
}

/// A decision as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decide {
    /// The call that waits, as the ledger has it.
    pub awaiting: ToolAwaiting,
    /// The version that was on the screen.
    pub version: u32,
    /// What was decided.
    pub choice: Choice,
    /// Who decided.
    pub by: Subject,
    /// The digest of the arguments that were shown, for an approval; of those that replace them, for an edit.
    pub args_digest: Option<String>,
    /// Why, for a rejection.
    pub reason: Option<String>,
    /// When to ask again, for a deferral.
    pub until: Option<UnixMillis>,
    /// Now.
    pub now: UnixMillis,
}

/// What may be asked of an approval.
#[derive(Debug, Clone)]
pub enum ApprovalCommand {
    /// Decide.
    Decide(Box<Decide>),
    /// Say that nobody did in time.
    Expire {
        /// The call that waits.
        awaiting: Box<ToolAwaiting>,
        /// Now.
        now: UnixMillis,
    },
}

/// Why a decision is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalRefusal {
    /// Somebody who may not.
    #[error("{0} may not decide about this card")]
    NotYours(Subject),
    /// It has ended.
    #[error("it is decided already: {0}")]
    Decided(&'static str),
    /// Its time is up.
    #[error("its time was up at {}", .0.rfc3339())]
    Expired(UnixMillis),
    /// Another version was on the screen.
    #[error("version {shown} was shown, and it is at version {now}: look again")]
    OtherVersion {
        /// The version of the decision.
        shown: u32,
        /// The version of now.
        now: u32,
    },
    /// Other arguments were on the screen.
    #[error("other arguments were shown than those that wait: look again")]
    OtherArguments,
    /// A decision without what belongs to it, or with what does not.
    #[error("{0}")]
    Incomplete(&'static str),
    /// Edited or deferred too often.
    #[error("it was edited or deferred {0} times, and no more")]
    TooOften(u32),
    /// Its time is not up.
    #[error("its time is not up")]
    NotYet,
}

/// The rule.
#[derive(Debug)]
pub struct Approvals;

impl Decider for Approvals {
    type Command = ApprovalCommand;
    type Event = OfApproval;
    type State = ApprovalState;
    type Refusal = ApprovalRefusal;

    fn decide(state: &ApprovalState, command: ApprovalCommand) -> Result<Vec<OfApproval>, ApprovalRefusal> {
        match command {
            ApprovalCommand::Decide(decide) => decided(state, *decide),
            ApprovalCommand::Expire { .. } if state.ended.is_some() => Ok(Vec::new()),
            ApprovalCommand::Expire { awaiting, now } if now <= awaiting.expires_at => Err(ApprovalRefusal::NotYet),
            ApprovalCommand::Expire { awaiting, .. } => Ok(vec![OfApproval(ApprovalEvent::Expired(ApprovalExpired {
                card: awaiting.card(),
                dispatch: awaiting.dispatch.clone(),
                version: state.version(),
                expired_at: awaiting.expires_at,
            }))]),
        }
    }

    fn evolve(mut state: ApprovalState, event: &OfApproval) -> ApprovalState {
        match &event.0 {
            ApprovalEvent::Decided(e) => match e.decision {
                Choice::Approve => {
                    let args_digest = e.args_digest.clone().unwrap_or_default();
                    state.ended = Some(Ended::Approved { by: e.by.clone(), args_digest });
                }
                Choice::Reject => {
                    let reason = e.reason.clone().unwrap_or_default();
                    state.ended = Some(Ended::Rejected { by: e.by.clone(), reason });
                }
                Choice::Edit => {
                    state.edits = state.edits.saturating_add(1);
                    state.args_digest.clone_from(&e.args_digest);
                    state.until = None;
                }
                Choice::Defer => {
                    state.deferrals = state.deferrals.saturating_add(1);
                    state.until = e.until;
                }
            },
            ApprovalEvent::Expired(_) => state.ended = Some(Ended::Expired),
        }
        state
    }
}

fn decided(state: &ApprovalState, asked: Decide) -> Result<Vec<OfApproval>, ApprovalRefusal> {
    let awaiting = &asked.awaiting;
    if !awaiting.approvers.contains(&asked.by) {
        return Err(ApprovalRefusal::NotYours(asked.by));
    }
    if let Some(ended) = &state.ended {
        return same_again(ended, &asked);
    }
    if asked.now > awaiting.expires_at {
        return Err(ApprovalRefusal::Expired(awaiting.expires_at));
    }
    if asked.version != state.version() {
        return Err(ApprovalRefusal::OtherVersion { shown: asked.version, now: state.version() });
    }
    let current = state.args_digest(awaiting);
    match (asked.choice, &asked.args_digest, &asked.reason, asked.until) {
        (Choice::Approve, Some(shown), None, None) if shown == current => {}
        (Choice::Approve, Some(_), None, None) => return Err(ApprovalRefusal::OtherArguments),
        (Choice::Edit, Some(next), None, None) if next == current => return Ok(Vec::new()),
        (Choice::Edit, Some(_), None, None) if state.version() < VERSIONS_MAX => {}
        (Choice::Edit, Some(_), None, None) => return Err(ApprovalRefusal::TooOften(VERSIONS_MAX)),
        (Choice::Reject, None, Some(reason), None) if (1..=REASON_CHARS_MAX).contains(&reason.chars().count()) => {}
        (Choice::Defer, None, None, Some(until)) if until <= asked.now || until >= awaiting.expires_at => {
            return Err(ApprovalRefusal::Incomplete(
                "it can be put off only until some time before its own time is up",
            ));
        }
        (Choice::Defer, None, None, Some(_)) if state.deferrals < DEFERRALS_MAX => {}
        (Choice::Defer, None, None, Some(_)) => return Err(ApprovalRefusal::TooOften(DEFERRALS_MAX)),
        (Choice::Approve, ..) => {
            return Err(ApprovalRefusal::Incomplete("an approval names the digest that was shown"));
        }
        (Choice::Edit, ..) => return Err(ApprovalRefusal::Incomplete("an edit has new arguments and nothing else")),
        (Choice::Reject, ..) => {
            return Err(ApprovalRefusal::Incomplete("a rejection has a reason of 1 to 2048 characters"));
        }
        (Choice::Defer, ..) => return Err(ApprovalRefusal::Incomplete("a deferral has a time")),
    }
    Ok(vec![OfApproval(ApprovalEvent::Decided(ApprovalDecided {
        card: awaiting.card(),
        dispatch: awaiting.dispatch.clone(),
        version: asked.version,
        decision: asked.choice,
        by: asked.by,
        args_digest: asked.args_digest,
        reason: asked.reason,
        until: asked.until,
    }))])
}

/// The same decision again is no new one; another one comes too late.
fn same_again(ended: &Ended, asked: &Decide) -> Result<Vec<OfApproval>, ApprovalRefusal> {
    let same = match ended {
        Ended::Approved { by, args_digest } => {
            asked.choice == Choice::Approve && *by == asked.by && asked.args_digest.as_ref() == Some(args_digest)
        }
        Ended::Rejected { by, .. } => asked.choice == Choice::Reject && *by == asked.by,
        Ended::Expired => false,
    };
    match ended {
        _ if same => Ok(Vec::new()),
        Ended::Approved { .. } => Err(ApprovalRefusal::Decided("approved")),
        Ended::Rejected { .. } => Err(ApprovalRefusal::Decided("rejected")),
        Ended::Expired => Err(ApprovalRefusal::Expired(asked.awaiting.expires_at)),
    }
}
