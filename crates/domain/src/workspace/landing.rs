//! What becomes of a run's changes in one workspace. Pure: the facts come in, one step comes out, and whoever carries it
//! out and finds that somebody else was first asks again with new facts. Nothing is lost: what may not land is proposed,
//! and only what cannot be kept at all is refused, by name.

use custody_contracts::canonical::derived_id;
use custody_contracts::events::StopReason;
use custody_contracts::ids::{DispatchId, LauncherId, Subject, WorkspaceId};
use custody_contracts::unit::{InputTrust, Mode};

/// How often landing starts over because somebody else landed first. Then the changes become a proposal, which needs the
/// fence too but no merge, so they are tried as often again.
pub const TRIES_MAX: u32 = 16;
/// Characters of a reason. Source: contract ledger.v2, `RunCommit.reason`.
const REASON_MAX: usize = 1_000;

/// What is known when a run has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// How it was mounted.
    pub mode: Mode,
    /// How far the dispatch's input is trusted: after untrusted input a run may only propose.
    pub trust: InputTrust,
    /// How the run ended.
    pub ended: StopReason,
    /// Whether the tree that was read is the tree it began with.
    pub unchanged: bool,
    /// What could not be read or kept, as sentences with a code.
    pub left_out: Vec<String>,
    /// Whether the trunk is still where the run began.
    pub trunk_is_base: bool,
    /// Whether the changes are there already: landed or waiting, from an earlier life of this runtime.
    pub already: Option<Already>,
    /// How often landing was tried.
    pub tries: u32,
    /// What a merge with the trunk came to, once it was tried.
    pub merge: Option<MergeFound>,
}

/// An earlier life's work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Already {
    /// In the trunk, on the base.
    Landed(String),
    /// In the trunk, on something later.
    Merged(String),
    /// Among the proposals.
    Proposed(String),
}

/// What a merge came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MergeFound {
    /// One tree.
    Clean,
    /// Both changed these files.
    Conflicts(Vec<String>),
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing changed.
    Unchanged,
    /// It was done before.
    Already(Already, Option<String>),
    /// The trunk moves from the base to a commit with the tree that was read.
    Land,
    /// The trunk and the tree are to be merged before anything can be said.
    Merge,
    /// The trunk moves to a commit with the merged tree.
    LandMerged,
    /// A commit on the base waits for the owner.
    Propose(Option<String>),
    /// Nothing of it can be kept.
    Refuse(String),
}

/// The next step.
pub fn step(facts: &Facts) -> Step {
    let reason = left_out(&facts.left_out);
    if let Some(already) = &facts.already {
        return Step::Already(already.clone(), reason);
    }
    match (facts.unchanged, &reason) {
        (true, None) => return Step::Unchanged,
        (true, Some(reason)) => return Step::Refuse(reason.clone()),
        (false, Some(reason)) => return Step::Propose(Some(reason.clone())),
        (false, None) => {}
    }
    if let Some(why) = may_only_propose(facts) {
        return Step::Propose(why);
    }
    if facts.trunk_is_base {
        return Step::Land;
    }
    match &facts.merge {
        None if facts.tries >= TRIES_MAX => Step::Propose(Some(format!("BUSY: others landed first {TRIES_MAX} times"))),
        None => Step::Merge,
        Some(MergeFound::Clean) => Step::LandMerged,
        Some(MergeFound::Conflicts(paths)) => {
            Step::Propose(Some(cut(&format!("MERGE_CONFLICT: {} changed since the run began", paths.join(", ")))))
        }
    }
}

/// `None`: it may land. `Some`: it may not, and why, unless that was asked for.
fn may_only_propose(facts: &Facts) -> Option<Option<String>> {
    match (facts.mode, facts.trust, facts.ended) {
        (Mode::Ro | Mode::Propose, ..) => Some(None),
        (Mode::Rw, InputTrust::Untrusted, _) => {
            Some(Some("UNTRUSTED_INPUT: what set it off came from outside, so it may only propose".into()))
        }
        (Mode::Rw, InputTrust::Trusted, StopReason::Completed | StopReason::IdleTimeout) => None,
        (Mode::Rw, InputTrust::Trusted, other) => {
            Some(Some(format!("NOT_COMPLETED: the run ended as {}", other.as_str())))
        }
    }
}

/// One reason out of what was left out; `None` when nothing was.
pub fn left_out(sentences: &[String]) -> Option<String> {
    let first = sentences.iter().take(5).cloned().collect::<Vec<_>>().join("; ");
    match sentences.len() {
        0 => None,
        1..=5 => Some(cut(&first)),
        more => Some(cut(&format!("{first}; and {} more", more - 5))),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(REASON_MAX).collect()
}

/// The effect that a run's changes in one workspace are: the same for every try.
pub fn effect_id(dispatch: &DispatchId, workspace: &WorkspaceId) -> String {
    derived_id("w-", &[dispatch.as_str().as_bytes(), workspace.as_str().as_bytes()])
}

/// The message of a run's commit. Nothing of it is the agent's to choose.
pub fn message(dispatch: &DispatchId, workspace: &WorkspaceId, subject: &Subject, launcher: &LauncherId) -> String {
    let effect = effect_id(dispatch, workspace);
    format!(
        "Changes of {dispatch}\n\nMade for {subject}, launched by {launcher}.\n\nDispatch-Id: {dispatch}\nEffect-Id: {effect}\n"
    )
}
