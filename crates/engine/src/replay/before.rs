//! What a turn that is repeated went on from: the session file of that time, which is not the session's newest one. Must
//! never name a file that the turn did not begin with, nor one of another person.

use super::{admitted, events, reference, repeats};
use custody_contracts::events::{DispatchAdmitted, Kind, LedgerEvent, RunEvent};
use custody_contracts::ids::SessionId;
use custody_domain::workspace::system;
use custody_ledger::Log;

/// The session file that a repeated turn began with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Before {
    /// Whose file it is.
    pub(crate) session: SessionId,
    /// Its digest.
    pub(crate) digest: String,
    /// The commit of the person's system workspace that holds it; `None` where it was kept as a blob.
    pub(crate) commit: Option<String>,
    /// The agent's own id for the session at that time.
    pub(crate) agent_session: Option<String>,
}

/// What the dispatch that `again` repeats went on from; `None` where nothing is repeated, or a first turn.
///
/// # Errors
/// A sentence: the ledger does not hold the two turns, or the one did not go on from the other.
pub(crate) async fn before(again: &DispatchAdmitted, log: &dyn Log) -> Result<Option<Before>, String> {
    let Some(turn) = repeats(&again.unit) else { return Ok(None) };
    let Some(earlier) = reference(&again.unit).and_then(|named| named.etag.as_deref()) else { return Ok(None) };
    let (of, from) = (admitted(log, turn, again).await?, admitted(log, earlier, again).await?);
    let claimed = runs(log, turn).await?.into_iter().find_map(|event| match event {
        RunEvent::Claimed(e) => Some(e),
        _ => None,
    });
    let finished = runs(log, earlier).await?.into_iter().find_map(|event| match event {
        RunEvent::Finished(e) => Some(e),
        _ => None,
    });
    let no = || format!("{turn} did not go on from {earlier}");
    let (claimed, finished) = claimed.zip(finished).ok_or_else(no)?;
    let file = finished.session.filter(|file| Some(&file.digest) == claimed.resume_digest.as_ref()).ok_or_else(no)?;
    if of.session != from.session {
        return Err(no());
    }
    let kept_in = system::of(&again.unit.identity.subject);
    let commit = finished.commits.into_iter().find(|commit| commit.workspace == kept_in).and_then(|c| c.commit);
    Ok(Some(Before { session: from.session, digest: file.digest, commit, agent_session: finished.agent_session }))
}

async fn runs(log: &dyn Log, dispatch: &str) -> Result<Vec<RunEvent>, String> {
    let of_run = |event| match event {
        LedgerEvent::Run(event) => Some(event),
        _ => None,
    };
    Ok(events(log, Kind::Run, dispatch).await?.into_iter().filter_map(of_run).collect())
}
