//! A launch judged again: the same reading, the same rules, the launchers and the dispatches as the log had them.
//!
//! Two refusals are taken by the dispatcher itself before and after the rules, for a verb that is none and for a
//! message id that was used before; their words are repeated here because a replay must not depend on the loops.

use crate::slice::LaunchLine;
use custody_contracts::events::{DispatchAdmitted, DispatchEvent, DispatchRefused, LedgerEvent, RunnerRef};
use custody_contracts::ids::{DispatchId, LauncherId, UnixMillis};
use custody_contracts::sealed::{SEALED, set_words};
use custody_domain::admission::{
    Asked, Grants, Installed, Mounts, Refusal, RunnerEntry, dispatch_id, event_id, judge as rules, launch_ref, read,
};
use custody_domain::dispatch::{Dispatch, DispatchCommand, DispatchRefusal, DispatchState};
use custody_domain::grant::Book;
use custody_domain::launcher::LauncherState;
use custody_domain::tool::Tools;
use custody_domain::workspace::WorkspaceState;
use custody_ledger::Decider;
use custody_streams::subject::LogSubject;
use std::collections::{BTreeMap, BTreeSet};

/// What a launch comes out as.
pub(super) struct Judged {
    pub(super) dispatch: DispatchId,
    pub(super) launcher: LauncherId,
    pub(super) subject: Option<String>,
    pub(super) command: DispatchCommand,
}

fn address(launch: &LaunchLine) -> Option<(LauncherId, String)> {
    match LogSubject::parse(&launch.subject) {
        Ok(LogSubject::Launch { launcher, verb }) => {
            Some((LauncherId::parse(launcher.as_str()).ok()?, verb.as_str().to_owned()))
        }
        _ => None,
    }
}

/// The dispatch ids that a launch can have: by its own id, and by its bytes.
pub(super) fn ids(launch: &LaunchLine) -> [Option<DispatchId>; 2] {
    let Some((launcher, _)) = address(launch) else { return [None, None] };
    let id = event_id(&launch.bytes);
    [Some(dispatch_id(&launcher, id.as_deref(), &launch.bytes)), Some(dispatch_id(&launcher, None, &launch.bytes))]
}

/// Judges a launch as the log stood before `recorded`.
///
/// # Errors
/// When no launcher can have published it.
pub(super) fn judge(
    launch: &LaunchLine,
    launchers: &BTreeMap<String, LauncherState>,
    workspaces: &BTreeMap<String, WorkspaceState>,
    dispatches: &BTreeMap<String, DispatchState>,
    grants: (&Book, UnixMillis),
    recorded: &LedgerEvent,
) -> Result<Judged, String> {
    let Some((launcher, verb)) = address(launch) else {
        return Err(format!("{:?} is no launcher's subject, so nothing is decided about it", launch.subject));
    };
    let own_id = event_id(&launch.bytes);
    let dispatch = dispatch_id(&launcher, own_id.as_deref(), &launch.bytes);
    let origin = launch_ref(launch.seq, &launcher, own_id.as_deref(), &launch.bytes);
    let mut subject = None;
    let verb_unknown = || Refusal {
        code: "VERB_UNKNOWN",
        detail: format!("launch.{launcher}.{verb} is not a verb of launchers"),
        hint: format!("publish on launch.{launcher}.dispatch"),
    };
    let asked = if verb == "dispatch" { read(&launch.bytes) } else { Err(verb_unknown()) };
    let judged = asked.and_then(|asked| {
        subject = Some(asked.unit.identity.subject.to_string());
        let runner = runner(recorded, &asked);
        let state = launchers.get(launcher.as_str()).cloned().unwrap_or_default();
        // A log that registers none is from before workspaces were registered.
        let mounts = if workspaces.is_empty() { Mounts::Before } else { Mounts::Registered(workspaces) };
        let (book, now) = grants;
        let grants = if book.begun() { Grants::Given(book, now) } else { Grants::Before };
        let installed = Installed { mounts, grants, tools: &tools(recorded), runner: runner.as_ref() };
        rules(dispatch.clone(), origin.clone(), launch.stored_at, asked, &state, installed)
    });
    let command = match judged {
        // How much may wait or run is configuration, which no log holds: for want of room a launch may be refused that the
        // rules would let in, and for nothing else.
        Ok(_) if let Some(full) = for_want_of_room(recorded) => DispatchCommand::Refuse(full),
        Ok(permit) => DispatchCommand::Admit(Box::new(sealed_as(permit.into_event(), recorded))),
        Err(refusal) => DispatchCommand::Refuse(DispatchRefused {
            dispatch: dispatch.clone(),
            launch: origin.clone(),
            reason: refusal.code.into(),
            detail: refusal.detail,
            hint: refusal.hint,
        }),
    };
    let before = dispatches.get(dispatch.as_str()).cloned().unwrap_or_default();
    if let Err(reused @ DispatchRefusal::IdReused { .. }) = Dispatch::decide(&before, command.clone()) {
        let dispatch = dispatch_id(&launcher, None, &launch.bytes);
        let refused = DispatchRefused {
            dispatch: dispatch.clone(),
            launch: origin,
            reason: "MESSAGE_ID_REUSED".into(),
            detail: reused.to_string(),
            hint: "give every message an id of its own; repeat a message byte for byte".into(),
        };
        return Ok(Judged { dispatch, launcher, subject, command: DispatchCommand::Refuse(refused) });
    }
    Ok(Judged { dispatch, launcher, subject, command })
}

/// Sealing needs the person's key, which no log holds: the words of a launch are compared as far as both have them.
fn sealed_as(mut judged: DispatchAdmitted, recorded: &LedgerEvent) -> DispatchAdmitted {
    if let LedgerEvent::Dispatch(DispatchEvent::Admitted(e)) = recorded
        && e.sealed.is_some()
    {
        set_words(&mut judged.unit.start, SEALED.to_owned());
        judged.sealed.clone_from(&e.sealed);
    }
    judged
}

fn for_want_of_room(recorded: &LedgerEvent) -> Option<DispatchRefused> {
    match recorded {
        LedgerEvent::Dispatch(DispatchEvent::Refused(e))
            if matches!(e.reason.as_str(), "QUEUE_FULL" | "LIMIT_REACHED") =>
        {
            Some(e.clone())
        }
        _ => None,
    }
}

/// The catalogue as the log shows it: what was admitted was installed under the name that was asked for, and what was
/// refused for its runner was not. Any other refusal came before the runner mattered, so a runner is offered: a rule
/// that no longer refuses shows as an admission, and not as another refusal.
fn runner(recorded: &LedgerEvent, asked: &Asked) -> Option<RunnerEntry> {
    let name = asked.unit.runner.clone();
    match recorded {
        LedgerEvent::Dispatch(DispatchEvent::Admitted(e)) => {
            (e.runner.name == name).then(|| RunnerEntry { runner: e.runner.clone() })
        }
        LedgerEvent::Dispatch(DispatchEvent::Refused(e)) if e.reason == "RUNNER_UNKNOWN" => None,
        _ => {
            let image = ["sha256:", &"0".repeat(64)].concat();
            Some(RunnerEntry { runner: RunnerRef::plain(name, "0", image) })
        }
    }
}

/// The tools as the log shows them: those of the gateway itself, and those that an admission names.
fn tools(recorded: &LedgerEvent) -> BTreeSet<String> {
    let mut tools: BTreeSet<String> = Tools::builtin().names().map(str::to_owned).collect();
    if let LedgerEvent::Dispatch(DispatchEvent::Admitted(e)) = recorded {
        tools.extend(e.unit.tools.iter().cloned());
    }
    tools
}
