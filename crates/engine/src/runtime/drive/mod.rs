//! One dispatch from claim to removal, as steps: `claim`, `bring_up`, `watch`, `finish`. Every step can be the first one
//! after a crash: each begins by looking at what the ledger and the engine already have. No step decides what `domain`
//! decides, and nothing here follows that is not recorded first.

mod bring_up;
mod claim;
mod disk;
mod finish;
mod wake;
mod watch;

use super::isolation::{Class, ClassMissing, Classes};
use super::phases::Phases;
use super::pool::Blank;
use super::{Runtime, Shared, collect, plan, workload, workspaces};
use crate::runtime::view::{Open, Stop};
use claim::Claim;
use custody_contracts::canonical::derived_id;
use custody_contracts::envelope::Meta;
use custody_contracts::events::{DispatchAdmitted, Kind, RunClaimed};
use custody_contracts::ids::UnixMillis;
use custody_domain::run::{Run, RunCommand, RunRefusal};
use custody_ledger::{Command, Entity, Outcome, handle, handle_new};
use custody_ports::containers::{BoxSpec, BoxStatus};
use disk::Writable;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest pause between two tries of anything.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Why a box could not be brought up: the terminal event's detail.
struct CannotStart(String);

pub(super) async fn drive(runtime: &Runtime, shared: &Shared, dispatch: &str) {
    let Some(open) = shared.with(|view| view.get(dispatch).cloned()) else { return };
    let begun = runtime.clock.now();
    let class = plan::class(&runtime.config.classes, &open.admitted.runner);
    let claim = claim::claim(runtime, shared, &open, class.as_ref().ok()).await;
    let Some(Claim { claimed, blank, ahead, fresh }) = claim else { return };
    let folder = runtime.config.runs.join(dispatch);
    let mut spec = plan::box_spec(
        &runtime.config.instance,
        &open.admitted,
        claimed.attempt,
        claimed.deadline_at,
        &folder,
        &runtime.config.limits,
    );
    spec.runtime = class.as_ref().ok().and_then(|class| class.runtime.clone());
    // A claim names its container: a warm one, or the one that is made for it.
    spec.name.clone_from(&claimed.container_name);
    let posted = workload::apply(runtime, &open.admitted, &mut spec).await;
    let mut phases = Phases::since(begun);
    phases.between("admit", open.admitted.launch.stored_at, open.admitted_at);
    phases.between("queue", open.admitted_at, Some(begun));
    if fresh {
        phases.lap("claim", runtime.clock.now());
    }
    let run = One {
        runtime,
        shared,
        open: &open,
        claimed: &claimed,
        folder: &folder,
        spec: &spec,
        class: &class,
        blank: blank.as_ref(),
        fresh,
        phases,
    };
    let up = match posted {
        // One that runs already is watched to its end, whatever cannot be read now.
        Err(why) if open.started.is_none() => Err(CannotStart(why)),
        Ok(()) | Err(_) => run.bring_up(ahead).await,
    };
    let finished = match up {
        Ok(up) => run.watch(up).await,
        Err(CannotStart(why)) => run.never_started(why).await,
    };
    run.finish(finished).await;
    run.clean_up().await;
}

/// Appends a run event; tries until the ledger answers, because nothing may follow that is not recorded.
async fn append(runtime: &Runtime, open: &Open, step: &str, command: RunCommand) -> Outcome<RunRefusal> {
    let admitted = &open.admitted;
    let dispatch = admitted.dispatch.as_str();
    let Some(entity) = Entity::new(Kind::Run, dispatch) else { return Outcome::Nothing };
    let meta = Meta {
        time: runtime.clock.now().rfc3339(),
        subject: Some(admitted.unit.identity.subject.to_string()),
        causation: Some(format!("ledger/{}", open.seq)),
        correlation: Some(dispatch.to_owned()),
        launcher: Some(admitted.launch.launcher.to_string()),
        grant: admitted.grant.id().map(ToString::to_string),
        traceparent: open.traceparent.clone(),
    };
    let instance = runtime.config.instance.as_bytes();
    let id = derived_id("run-", &[dispatch.as_bytes(), step.as_bytes(), instance]);
    let mut pause = Duration::from_millis(50);
    loop {
        let command = Command { id: id.clone(), entity: entity.clone(), meta: meta.clone(), body: command.clone() };
        let appended = match &command.body {
            // Most likely the first event of its entity: nothing is read before it.
            RunCommand::Claim(_) => handle_new::<Run>(runtime.log.as_ref(), runtime.signer.as_ref(), command).await,
            RunCommand::Start(_) | RunCommand::Finish(_) => {
                handle::<Run>(runtime.log.as_ref(), runtime.signer.as_ref(), command).await
            }
        };
        match appended {
            Ok(outcome) => return outcome,
            Err(error) => tracing::warn!(%error, dispatch, step, "run event not appended; trying again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

pub(super) struct One<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) shared: &'a Shared,
    pub(super) open: &'a Open,
    pub(super) claimed: &'a RunClaimed,
    pub(super) folder: &'a Path,
    spec: &'a BoxSpec,
    class: &'a Result<Class, ClassMissing>,
    /// The warm box that the claim took.
    blank: Option<&'a Blank>,
    /// Claimed just now: no earlier life can have made the box.
    fresh: bool,
    phases: Phases,
}

impl One<'_> {
    fn now(&self) -> UnixMillis {
        self.runtime.clock.now()
    }

    pub(super) fn dispatch(&self) -> &str {
        self.open.admitted.dispatch.as_str()
    }

    /// The stop that was asked for, as it stands now.
    fn stop(&self) -> Option<Stop> {
        self.shared.with(|view| view.get(self.dispatch()).and_then(|open| open.stop.clone()))
    }

    /// What its box may write on this machine.
    fn writable(&self) -> Vec<Writable> {
        let mounted = &self.open.admitted.unit.workspaces;
        let copy_at = |source: &Path| {
            let of = |id: &str| workspaces::copy_of(self.folder, id) == source;
            mounted.iter().find(|mount| of(mount.id.as_str())).map(|mount| mount.id.to_string())
        };
        let one = |source: &Path| Writable { folder: source.to_owned(), workspace: copy_at(source) };
        self.spec.mounts.iter().filter(|mount| !mount.read_only).map(|mount| one(&mount.source)).collect()
    }

    fn is_own(&self, status: &BoxStatus) -> bool {
        status.labels.get(plan::LABEL_INSTANCE) == Some(&self.runtime.config.instance)
    }
}

/// The folders that a dispatch's box mounts, empty: all that the engine wants to be there before it makes a box.
fn places(folder: &Path, admitted: &DispatchAdmitted, classes: &Classes) -> Result<(), CannotStart> {
    let io = |what: &str, path: &Path, e: std::io::Error| CannotStart(format!("{what} {}: {e}", path.display()));
    workspaces::places(folder, admitted, classes.box_uid()).map_err(CannotStart)?;
    let session = folder.join("session");
    std::fs::create_dir_all(&session).map_err(|e| io("making", &session, e))?;
    std::fs::create_dir_all(folder.join("gw")).map_err(|e| io("making", folder, e))?;
    collect::give_to_box(&session, classes.box_uid()).map_err(|e| io("giving away", &session, e))
}

/// The socket of a run, in the folder that is mounted into its box.
pub(crate) fn socket_path(folder: &Path) -> PathBuf {
    folder.join("gw").join("gw.sock")
}

/// Removes a run's folder; what is left is found again by the reaper.
pub(super) fn remove_folder(folder: &Path) {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), error = %e, "run folder not removed");
        }
        _ => {}
    }
}
