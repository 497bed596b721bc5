//! A run again without a model: what a dispatch asked and was answered is read from the ledger and the blobs, and a
//! second dispatch that names the first one gets the same answers to the same questions.
//!
//! Must never call a model or carry out a tool: what is not on the tape is a divergence, told and recorded. Must never
//! hand a recording to another person than the one whose dispatch it was.

mod before;
mod normal;
mod tape;
#[cfg(test)]
mod tests;

pub(crate) use before::before;
pub(crate) use tape::{Tape, TapedCall, TapedWait};

use custody_contracts::events::{DispatchAdmitted, DispatchEvent, Kind, LedgerEvent};
use custody_contracts::unit::{Invocation, Reference};
use custody_ledger::{Entity, Log, Recorded};

/// How a unit names the dispatch that it is to repeat: `context.ref.uri` is this and the dispatch's id. Where that one was a
/// turn of a session, `context.ref.etag` is the dispatch whose session file it went on from.
pub const REPLAY_URI: &str = "custody:replay/";

/// The dispatch that a unit is to repeat.
pub fn repeats(unit: &Invocation) -> Option<&str> {
    reference(unit)?.uri.strip_prefix(REPLAY_URI)
}

fn reference(unit: &Invocation) -> Option<&Reference> {
    unit.context.as_ref()?.reference.as_ref()
}

/// The admission of a dispatch of the same person. Somebody else's is told of as if it were not there.
async fn admitted(log: &dyn Log, dispatch: &str, again: &DispatchAdmitted) -> Result<Box<DispatchAdmitted>, String> {
    let found = events(log, Kind::Dispatch, dispatch).await?.into_iter().find_map(|event| match event {
        LedgerEvent::Dispatch(DispatchEvent::Admitted(e)) => Some(e),
        _ => None,
    });
    let own = found.filter(|e| e.unit.identity.subject == again.unit.identity.subject);
    own.ok_or_else(|| format!("there is no dispatch {dispatch} of this person to repeat"))
}

async fn events(log: &dyn Log, kind: Kind, id: &str) -> Result<Vec<LedgerEvent>, String> {
    let Some(entity) = Entity::new(kind, id) else { return Ok(Vec::new()) };
    let history = log.load(&entity).await.map_err(|e| format!("the ledger cannot be read: {e}"))?;
    let read = history.iter().flat_map(|stored| Recorded::read(stored).unwrap_or_default());
    Ok(read.filter_map(|recorded| recorded.event).collect())
}
