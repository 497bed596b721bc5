//! Every dispatch and where it stands.

use crate::table::{Table, folded_table};
use custody_contracts::events::{DispatchAdmitted, DispatchEvent, KeyEvent, LedgerEvent, OutputRef, RunEvent, Usage};
use custody_contracts::sealed::{ERASED, SubjectKeyState};
use custody_contracts::unit::{Entrypoint, Start};
use custody_ledger::{Projection, Recorded};
use serde::{Deserialize, Serialize};

/// Where a dispatch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Admitted, waiting for a runtime.
    #[default]
    Queued,
    /// Refused before start.
    Refused,
    /// A runtime claimed it.
    Starting,
    /// Its container runs.
    Running,
    /// A stop was asked for.
    Stopping,
    /// It ended and did what it was asked.
    Completed,
    /// Its time was up, and its session file is kept for a later turn.
    Parked,
    /// It ended otherwise.
    Ended,
}

impl Status {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Queued => "queued",
            Status::Refused => "refused",
            Status::Starting => "starting",
            Status::Running => "running",
            Status::Stopping => "stopping",
            Status::Completed => "completed",
            Status::Parked => "parked",
            Status::Ended => "ended",
        }
    }

    /// Whether nothing follows any more.
    pub fn is_terminal(self) -> bool {
        matches!(self, Status::Refused | Status::Completed | Status::Parked | Status::Ended)
    }
}

/// One dispatch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DispatchRow {
    /// Its id.
    pub dispatch: String,
    /// Where it stands.
    pub status: Status,
    /// The person.
    pub subject: Option<String>,
    /// The launcher.
    pub launcher: String,
    /// The session.
    pub session: Option<String>,
    /// The runner.
    pub runner: Option<String>,
    /// Its image.
    pub image: Option<String>,
    /// The first words of what was asked.
    pub what: String,
    /// When it was admitted or refused, RFC 3339.
    pub decided_at: String,
    /// Stable code of the refusal, or why the run ended.
    pub reason: Option<String>,
    /// The same in a sentence.
    pub detail: Option<String>,
    /// The next step.
    pub hint: Option<String>,
    /// Which attempt.
    pub attempt: u32,
    /// The engine's container id.
    pub container: Option<String>,
    /// Milliseconds since the epoch.
    pub started_at: Option<u64>,
    /// Milliseconds since the epoch.
    pub finished_at: Option<u64>,
    /// Exit code of the container.
    pub exit_code: Option<i64>,
    /// What it used.
    pub usage: Option<Usage>,
    /// Its output.
    pub output: Option<OutputRef>,
    /// Digest of the session file that it left.
    pub session_digest: Option<String>,
    /// Digest of the session file that it resumed from.
    pub resume_digest: Option<String>,
    /// The grant that it was admitted under.
    pub grant: Option<String>,
    /// Who asked for a stop first, when somebody did.
    pub stop_by: Option<String>,
    /// The most turns that its box takes.
    pub turns_max: Option<u64>,
    /// Follow-ups accepted.
    pub follow_ups: u32,
    /// Turns that its box took, when they were counted.
    pub turns: Option<u32>,
    /// Where it was claimed; 0 while it waits.
    pub claimed_seq: u64,
    /// Terminal events seen; more than one is an anomaly.
    pub terminal_events: u32,
    /// Sequence of its first event.
    pub first_seq: u64,
    /// Sequence of its last event.
    pub last_seq: u64,
}

/// The projection.
#[derive(Debug)]
pub struct Dispatches;

impl Projection for Dispatches {
    const NAME: &'static str = "dispatches";
    const VERSION: u32 = 4;
    type State = Table<DispatchRow>;

    fn apply(state: &mut Self::State, recorded: &Recorded) {
        match &recorded.event {
            Some(LedgerEvent::Dispatch(event)) => on_dispatch(state, recorded, event),
            Some(LedgerEvent::Run(event)) => on_run(state, recorded, event),
            Some(LedgerEvent::Key(KeyEvent::Subject(e))) if e.state == SubjectKeyState::Erased => {
                erase(state, e.subject.as_str());
            }
            Some(
                LedgerEvent::Effect(_)
                | LedgerEvent::Launcher(_)
                | LedgerEvent::Key(_)
                | LedgerEvent::Checkpoint(_)
                | LedgerEvent::Workspace(_)
                | LedgerEvent::Grant(_)
                | LedgerEvent::Approval(_)
                | LedgerEvent::Token(_),
            )
            | None => {}
        }
    }
}

fn touch<'a>(state: &'a mut Table<DispatchRow>, id: &str, recorded: &Recorded) -> &'a mut DispatchRow {
    let row = state.edit(id);
    if row.first_seq == 0 {
        row.first_seq = recorded.seq.0;
        row.dispatch = id.to_owned();
    }
    row.last_seq = recorded.seq.0;
    row
}

fn on_dispatch(state: &mut Table<DispatchRow>, recorded: &Recorded, event: &DispatchEvent) {
    match event {
        DispatchEvent::Admitted(e) => {
            let row = touch(state, e.dispatch.as_str(), recorded);
            row.subject = Some(e.unit.identity.subject.to_string());
            row.launcher = e.launch.launcher.to_string();
            row.session = Some(e.session.to_string());
            row.runner = Some(e.runner.name.to_string());
            row.image = Some(e.runner.image.clone());
            row.what = first_words(e);
            row.grant.clone_from(&recorded.envelope.grant);
            row.turns_max = e.unit.limits.as_ref().and_then(|l| l.turns);
            row.decided_at.clone_from(&recorded.envelope.time);
        }
        DispatchEvent::Refused(e) => {
            let row = touch(state, e.dispatch.as_str(), recorded);
            if row.terminal_events > 0 {
                return;
            }
            row.status = Status::Refused;
            // Whom it named, where the launch could be read that far: they see it in their own list.
            row.subject.clone_from(&recorded.envelope.subject);
            row.launcher = e.launch.launcher.to_string();
            row.reason = Some(e.reason.clone());
            row.detail = Some(e.detail.clone());
            row.hint = Some(e.hint.clone());
            row.decided_at.clone_from(&recorded.envelope.time);
        }
        DispatchEvent::StopRequested(e) => {
            let row = touch(state, e.dispatch.as_str(), recorded);
            if !row.status.is_terminal() {
                row.status = Status::Stopping;
            }
            row.stop_by.get_or_insert_with(|| e.by.clone());
        }
        DispatchEvent::FollowUpAccepted(e) => {
            let row = touch(state, e.dispatch.as_str(), recorded);
            row.follow_ups = row.follow_ups.max(e.n);
        }
        // A refused message is no dispatch: its own row would say nothing that the audit does not.
        DispatchEvent::FollowUpRefused(_) => {}
    }
}

/// What ended stays as it ended: what comes after is an anomaly, which the audit projection notes.
fn on_run(state: &mut Table<DispatchRow>, recorded: &Recorded, event: &RunEvent) {
    match event {
        RunEvent::Claimed(e) => {
            let row = touch(state, e.dispatch.as_str(), recorded);
            if row.terminal_events > 0 {
                return;
            }
            row.attempt = e.attempt;
            row.claimed_seq = recorded.seq.0;
            row.resume_digest.clone_from(&e.resume_digest);
            if row.status == Status::Queued {
                row.status = Status::Starting;
            }
        }
        RunEvent::Started(e) => {
            let row = touch(state, e.dispatch.as_str(), recorded);
            if row.terminal_events > 0 {
                return;
            }
            row.container = Some(e.container.clone());
            row.started_at = Some(e.started_at.0);
            if matches!(row.status, Status::Queued | Status::Starting) {
                row.status = Status::Running;
            }
        }
        RunEvent::Finished(e) => {
            let row = touch(state, e.dispatch.as_str(), recorded);
            row.terminal_events += 1;
            if row.terminal_events > 1 {
                return;
            }
            let completed = e.reason == custody_contracts::events::StopReason::Completed;
            row.status = match (completed, e.parked) {
                (true, _) => Status::Completed,
                (false, true) => Status::Parked,
                (false, false) => Status::Ended,
            };
            row.turns = e.turns;
            row.reason = Some(e.reason.as_str().to_owned());
            row.detail.clone_from(&e.detail);
            row.exit_code = e.exit_code;
            row.finished_at = Some(e.finished_at.0);
            row.usage = Some(e.usage);
            row.output = Some(e.output.clone());
            row.session_digest = e.session.as_ref().map(|s| s.digest.clone());
            if row.container.is_none() {
                row.container.clone_from(&e.container);
            }
        }
    }
}

/// What a person asked before their key was destroyed is shown no more, whatever this fold read of it meanwhile.
fn erase(state: &mut Table<DispatchRow>, subject: &str) {
    let of = |(id, row): (&str, &DispatchRow)| {
        (row.subject.as_deref() == Some(subject) && !row.what.is_empty()).then(|| id.to_owned())
    };
    let theirs: Vec<String> = state.iter().filter_map(of).collect();
    for id in theirs {
        state.edit(&id).what = ERASED.to_owned();
    }
}

/// The first 80 characters of the prompt on one line, control characters shown as spaces.
fn first_words(admitted: &DispatchAdmitted) -> String {
    let text = match &admitted.unit.start {
        // Whoever could open it has put the words back into the unit before they are folded.
        _ if admitted.sealed.is_some() => ERASED,
        Start::Entrypoint(Entrypoint::Inline(text)) => text.as_str(),
        Start::Entrypoint(Entrypoint::Path(path)) => path.as_str(),
        Start::Session(turn) => turn.inline.as_deref().unwrap_or(""),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(80).collect::<String>().trim().to_owned()
}

folded_table!(Dispatches);
