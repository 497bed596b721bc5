//! Where an event stands: the log subject is not in the signed bytes, so what the bytes say of their entity is compared with
//! it. Must never take a subject's word for what an event is about.

use custody_contracts::events::{DispatchEvent, KeyEvent, LauncherEvent, LedgerEvent, RunEvent};
use custody_contracts::sealed::SubjectKeyChanged;
use custody_ledger::Recorded;

/// Whether an event stands on the subject of the entity that its signed bytes name; one whose bytes name none may stand
/// on any of its kind.
///
/// # Errors
/// Both places, in a sentence.
pub(crate) fn in_its_place(one: &Recorded) -> Result<(), String> {
    match one.event.as_ref().and_then(entity_id) {
        Some(said) if said != one.entity.id => {
            Err(format!("it says that it is of {said} and stands on {}", one.entity.log_subject()))
        }
        _ => Ok(()),
    }
}

/// The entity that an event says it is of, for the events whose bytes say it.
fn entity_id(event: &LedgerEvent) -> Option<String> {
    Some(match event {
        LedgerEvent::Dispatch(DispatchEvent::FollowUpRefused(e)) => e.message.to_string(),
        LedgerEvent::Run(RunEvent::Claimed(e)) => e.dispatch.to_string(),
        LedgerEvent::Run(RunEvent::Started(e)) => e.dispatch.to_string(),
        LedgerEvent::Run(RunEvent::Finished(e)) => e.dispatch.to_string(),
        LedgerEvent::Effect(e) => e.entity_id(),
        LedgerEvent::Launcher(LauncherEvent::Registered(e)) => e.launcher.to_string(),
        LedgerEvent::Launcher(LauncherEvent::Rotated(e)) => e.launcher.to_string(),
        LedgerEvent::Launcher(LauncherEvent::Disabled(e)) => e.launcher.to_string(),
        LedgerEvent::Key(KeyEvent::Introduced(e)) => e.kid.clone(),
        LedgerEvent::Key(KeyEvent::Retired(e)) => e.kid.clone(),
        LedgerEvent::Key(KeyEvent::TokenKey(e)) => e.kid.clone(),
        LedgerEvent::Key(KeyEvent::Subject(e)) => SubjectKeyChanged::entity_id(&e.subject),
        LedgerEvent::Token(e) => e.id().to_owned(),
        LedgerEvent::Workspace(e) => e.workspace().to_string(),
        LedgerEvent::Grant(e) => e.grant().to_string(),
        _ => return dispatch_in(event),
    })
}

/// The dispatch that an event's data names.
pub(crate) fn dispatch_in(event: &LedgerEvent) -> Option<String> {
    match event {
        LedgerEvent::Dispatch(DispatchEvent::Admitted(e)) => Some(e.dispatch.to_string()),
        LedgerEvent::Dispatch(DispatchEvent::Refused(e)) => Some(e.dispatch.to_string()),
        LedgerEvent::Dispatch(DispatchEvent::StopRequested(e)) => Some(e.dispatch.to_string()),
        LedgerEvent::Dispatch(DispatchEvent::FollowUpAccepted(e)) => Some(e.dispatch.to_string()),
        LedgerEvent::Dispatch(DispatchEvent::FollowUpRefused(e)) => e.dispatch.as_ref().map(ToString::to_string),
        LedgerEvent::Run(RunEvent::Claimed(e)) => Some(e.dispatch.to_string()),
        LedgerEvent::Run(RunEvent::Started(e)) => Some(e.dispatch.to_string()),
        LedgerEvent::Run(RunEvent::Finished(e)) => Some(e.dispatch.to_string()),
        LedgerEvent::Effect(e) => Some(e.dispatch().to_string()),
        LedgerEvent::Token(e) => e.dispatch().map(ToString::to_string),
        _ => None,
    }
}
