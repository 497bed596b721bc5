//! Every session: its turns, and the session file that the next one resumes from.

use crate::table::{Table, folded_table};
use custody_contracts::events::{DispatchEvent, LedgerEvent, RunEvent};
use custody_ledger::{Projection, Recorded};
use serde::{Deserialize, Serialize};

/// How many turns a row keeps; older ones are counted.
pub const TURNS_KEPT_MAX: usize = 200;

/// One turn.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Turn {
    /// The dispatch.
    pub dispatch: String,
    /// Container that ran it.
    pub container: Option<String>,
    /// How it ended; empty while it runs.
    pub outcome: Option<String>,
    /// Digest of the file it resumed from.
    pub resumed_from: Option<String>,
    /// Digest of the file it left.
    pub left: Option<String>,
}

/// One session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionRow {
    /// Its id.
    pub session: String,
    /// The person of its first turn.
    pub subject: String,
    /// The runner of its newest turn.
    pub runner: String,
    /// The newest turns, oldest first.
    pub turns: Vec<Turn>,
    /// All turns.
    pub turn_count: u64,
    /// Digest of the newest session file.
    pub digest: Option<String>,
    /// Its size.
    pub bytes: u64,
    /// The agent's own id for it.
    pub agent_session: Option<String>,
    /// When it began, RFC 3339.
    pub began_at: String,
    /// Sequence of its last event.
    pub last_seq: u64,
}

/// The projection.
#[derive(Debug)]
pub struct Sessions;

impl Projection for Sessions {
    const NAME: &'static str = "sessions";
    const VERSION: u32 = 1;
    type State = Table<SessionRow>;

    fn apply(state: &mut Self::State, recorded: &Recorded) {
        match &recorded.event {
            Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) => {
                let row = state.edit(e.session.as_str());
                if row.turn_count == 0 {
                    row.session = e.session.to_string();
                    row.subject = e.unit.identity.subject.to_string();
                    row.began_at.clone_from(&recorded.envelope.time);
                }
                row.runner = e.runner.name.to_string();
                row.turn_count += 1;
                row.turns.push(Turn { dispatch: e.dispatch.to_string(), ..Turn::default() });
                if row.turns.len() > TURNS_KEPT_MAX {
                    row.turns.remove(0);
                }
                row.last_seq = recorded.seq.0;
                // A run event names its dispatch, not its session: the pointer row says where to look.
                state.edit(&["dispatch/", e.dispatch.as_str()].concat()).session = e.session.to_string();
            }
            Some(LedgerEvent::Run(RunEvent::Claimed(e))) => {
                let digest = e.resume_digest.clone();
                on_turn(state, recorded, e.dispatch.as_str(), |turn| {
                    if turn.outcome.is_none() {
                        turn.resumed_from = digest;
                    }
                });
            }
            Some(LedgerEvent::Run(RunEvent::Started(e))) => {
                let container = Some(e.container.clone());
                on_turn(state, recorded, e.dispatch.as_str(), |turn| {
                    if turn.outcome.is_none() {
                        turn.container = container;
                    }
                });
            }
            Some(LedgerEvent::Run(RunEvent::Finished(e))) => {
                let left = e.session.as_ref().map(|s| s.digest.clone());
                let outcome = Some(e.reason.as_str().to_owned());
                let mut first = true;
                let id = on_turn(state, recorded, e.dispatch.as_str(), |turn| {
                    first = turn.outcome.is_none();
                    if first {
                        turn.outcome = outcome;
                        turn.left = left;
                    }
                });
                // Only a first terminal event says what the next turn resumes from.
                if let (true, Some(id), Some(file)) = (first, id, &e.session) {
                    let row = state.edit(&id);
                    row.digest = Some(file.digest.clone());
                    row.bytes = file.bytes;
                    if e.agent_session.is_some() {
                        row.agent_session.clone_from(&e.agent_session);
                    }
                }
            }
            Some(
                LedgerEvent::Dispatch(
                    DispatchEvent::Refused(_)
                    | DispatchEvent::StopRequested(_)
                    | DispatchEvent::FollowUpAccepted(_)
                    | DispatchEvent::FollowUpRefused(_),
                )
                | LedgerEvent::Effect(_)
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

fn on_turn(
    state: &mut Table<SessionRow>,
    recorded: &Recorded,
    dispatch: &str,
    change: impl FnOnce(&mut Turn),
) -> Option<String> {
    let id = state.get(&["dispatch/", dispatch].concat())?.session.clone();
    let row = state.edit(&id);
    row.last_seq = recorded.seq.0;
    if let Some(turn) = row.turns.iter_mut().find(|t| t.dispatch == dispatch) {
        change(turn);
    }
    Some(id)
}

/// Sessions proper, without the pointer rows.
pub fn rows(state: &Table<SessionRow>) -> impl DoubleEndedIterator<Item = &SessionRow> {
    state.iter().filter(|(key, _)| !key.starts_with("dispatch/")).map(|(_, row)| row)
}

folded_table!(Sessions);
