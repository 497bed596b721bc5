//! The claim: an append under an expected sequence, so that of two runtimes one has the dispatch. Must never touch the
//! engine, except to remove a warm box that was taken for a claim that was lost.

use super::super::isolation::Class;
use super::super::pool::{Blank, Kind};
use super::super::{Runtime, Shared, effective, plan, workload, workspaces};
use super::append;
use crate::crash;
use crate::replay::before;
use crate::runtime::view::Open;
use custody_contracts::events::RunClaimed;
use custody_contracts::ids::UnixMillis;
use custody_contracts::unit::Start;
use custody_domain::run::RunCommand;
use custody_ledger::Outcome;

/// A claim that stands.
pub(super) struct Claim {
    pub(super) claimed: RunClaimed,
    /// The warm box that it took.
    pub(super) blank: Option<Blank>,
    /// Made just now: no earlier life can have made the box.
    pub(super) fresh: bool,
}

/// The claim of a dispatch: the one that is recorded already, or a new one. `None` when another runtime has it.
pub(super) async fn claim(runtime: &Runtime, shared: &Shared, open: &Open, class: Option<&Class>) -> Option<Claim> {
    if let Some(claimed) = &open.claimed {
        let own = claimed.runtime == runtime.config.instance;
        return own.then(|| Claim { claimed: claimed.clone(), blank: None, fresh: false });
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
    if let Err(why) = workload::apply(runtime, admitted, &mut spec).await {
        // It is claimed all the same, so that somebody records that it could not start.
        tracing::warn!(why, dispatch = %admitted.dispatch, "claimed without its specification");
    }
    let mounts = workspaces::bases(runtime, shared, open).await;
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
    let claim = plan::claim(instance, admitted, &spec, resumed, deadline_at, mounts);
    let outcome = append(runtime, open, "claim", RunCommand::Claim(claim.clone())).await;
    match outcome {
        Outcome::Appended(_) => {
            crash::point("rt.after_claim");
            return Some(Claim { claimed: claim, blank, fresh: true });
        }
        // An earlier claim of ours stands, perhaps of another box: it is taken up when this view has it.
        Outcome::AlreadyThere(_) | Outcome::Nothing => {}
        Outcome::Refused(refusal) => tracing::debug!(dispatch = %admitted.dispatch, %refusal, "not ours"),
    }
    // A box that was taken is not given back.
    if let Some(blank) = blank {
        match runtime.containers.remove(&blank.name).await {
            Ok(()) => shared.pool.clear(&blank.name),
            Err(error) => tracing::warn!(%error, container = blank.name, "box not removed; the reaper will"),
        }
    }
    None
}
