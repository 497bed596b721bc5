//! The claim: an append under an expected sequence, so that of two runtimes one has the dispatch. Its box may be made at the
//! same time, where that leaves nothing behind. Must never start one, and removes what was taken or made for a claim that
//! was lost.

use super::super::isolation::Class;
use super::super::pool::{Blank, Kind};
use super::super::{Runtime, Shared, effective, plan, workload, workspaces};
use super::{append, places};
use crate::crash;
use crate::replay::before;
use crate::runtime::view::{Open, View};
use custody_contracts::events::RunClaimed;
use custody_contracts::ids::UnixMillis;
use custody_contracts::unit::Start;
use custody_domain::queue::Caps;
use custody_domain::run::RunCommand;
use custody_ledger::Outcome;
use custody_ports::containers::{BoxSpec, Listening};
use std::path::Path;
use tokio::sync::SemaphorePermit;

/// A claim that stands.
pub(super) struct Claim<'a> {
    pub(super) claimed: RunClaimed,
    /// The warm box that it took.
    pub(super) blank: Option<Blank>,
    /// The box that was made while it was being recorded.
    pub(super) ahead: Option<Ahead<'a>>,
    /// Made just now: no earlier life can have made the box.
    pub(super) fresh: bool,
}

/// A box that is made and not started, with its folders.
pub(super) struct Ahead<'a> {
    pub(super) permit: SemaphorePermit<'a>,
    pub(super) listening: Option<Listening<'static>>,
    pub(super) made_at: UnixMillis,
}

/// The claim of a dispatch: the one that is recorded already, or a new one. `None` when another runtime has it.
pub(super) async fn claim<'a>(
    runtime: &'a Runtime,
    shared: &'a Shared,
    open: &Open,
    class: Option<&Class>,
) -> Option<Claim<'a>> {
    if let Some(claimed) = &open.claimed {
        let own = claimed.runtime == runtime.config.instance;
        return own.then(|| Claim { claimed: claimed.clone(), blank: None, ahead: None, fresh: false });
    }
    crash::point("rt.before_claim");
    let admitted = &open.admitted;
    let limits = &runtime.config.limits;
    let (wall_ms, _) = effective(admitted.unit.limits.as_ref(), limits);
    let now = runtime.clock.now();
    let deadline_at = UnixMillis(now.0 + wall_ms + limits.grace_ms);
    let folder = runtime.config.runs.join(admitted.dispatch.as_str());
    let instance = &runtime.config.instance;
    let mut spec = plan::box_spec(instance, admitted, 1, deadline_at, &folder, limits);
    spec.runtime = class.and_then(|class| class.runtime.clone());
    let applied = workload::apply(runtime, admitted, &mut spec).await;
    if let Err(why) = &applied {
        // It is claimed all the same, so that somebody records that it could not start.
        tracing::warn!(why, dispatch = %admitted.dispatch, "claimed without its specification");
    }
    // A blank box has its variables and ceilings already: a posted workload gets one of its own.
    let fits = class.filter(|_| workload::posted(admitted).is_none());
    let blank = fits.and_then(|_| shared.pool.take(&Kind::of(&spec), &spec));
    if let Some(blank) = &blank {
        spec.name.clone_from(&blank.name);
    }
    let resumed = match admitted.unit.start {
        Start::Session(_) => {
            let (session, subject) = (admitted.session.as_str(), admitted.unit.identity.subject.as_str());
            shared.with(|view| view.file(session, subject).map(|file| file.digest.clone()))
        }
        // Without what it went on from it is claimed all the same, so that somebody records that it could not start.
        Start::Entrypoint(_) => before(admitted, runtime.log.as_ref()).await.ok().flatten().map(|before| before.digest),
    };
    let record = async {
        let mounts = workspaces::bases(runtime, shared, open).await;
        let claim = plan::claim(instance, admitted, &spec, resumed.clone(), deadline_at, mounts);
        let outcome = append(runtime, open, "claim", RunCommand::Claim(claim.clone())).await;
        (claim, outcome)
    };
    let resumes = resumed.is_some() || !matches!(admitted.unit.start, Start::Session(_));
    let likely = resumes && blank.is_none() && class.is_some() && applied.is_ok();
    let ahead = async { if likely { ahead(runtime, shared, open, &spec, &folder).await } else { None } };
    let ((claim, outcome), ahead) = tokio::join!(record, ahead);
    match outcome {
        Outcome::Appended(_) => {
            crash::point("rt.after_claim");
            return Some(Claim { claimed: claim, blank, ahead, fresh: true });
        }
        // An earlier claim of ours stands, perhaps of another box: it is taken up when this view has it.
        Outcome::AlreadyThere(_) | Outcome::Nothing => {}
        Outcome::Refused(refusal) => tracing::debug!(dispatch = %admitted.dispatch, %refusal, "not ours"),
    }
    // A box that was taken is not given back.
    if blank.is_some() || ahead.is_some() {
        match runtime.containers.remove(&spec.name).await {
            Ok(()) => shared.pool.clear(&spec.name),
            Err(error) => tracing::warn!(%error, container = spec.name, "box not removed; the reaper will"),
        }
    }
    None
}

/// Makes the box of a claim that is not recorded yet, when it will most likely stand and start: nothing is to be waited for,
/// and nothing is known that forbids it. What goes wrong here is told by the making that follows the claim.
async fn ahead<'a>(
    runtime: &'a Runtime,
    shared: &'a Shared,
    open: &Open,
    spec: &BoxSpec,
    folder: &Path,
) -> Option<Ahead<'a>> {
    let config = &runtime.config;
    let unit = &open.admitted.unit;
    let may_start = |view: &mut View| {
        let stopped = view.get(open.admitted.dispatch.as_str()).is_none_or(|now| now.stop.is_some());
        !stopped && unit.workspaces.iter().all(|mount| view.workspace(mount.id.as_str()).is_some())
    };
    let nothing_waits = config.caps == Caps::default() && plan::room(&open.admitted.runner, &config.limits).is_ok();
    if !runtime.containers.makes_ahead() || !nothing_waits || !shared.with(may_start) {
        return None;
    }
    let permit = shared.starts.try_acquire().ok()?;
    places(folder, &open.admitted, &config.classes).ok()?;
    match runtime.containers.create_heard(spec).await {
        Ok(listening) => {
            crash::point("rt.made_ahead");
            Some(Ahead { permit, listening, made_at: runtime.clock.now() })
        }
        Err(error) => {
            tracing::debug!(%error, dispatch = %open.admitted.dispatch, "no box was made ahead of its claim");
            None
        }
    }
}
