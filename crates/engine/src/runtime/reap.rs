//! The reaper: lists what the engine has under our label and removes what no open claim stands for. Never touches a
//! container of another instance, and gives a new one a grace.

use super::drive::remove_folder;
use super::plan::{LABEL_DISPATCH, LABEL_INSTANCE};
use super::{Runtime, Shared};
use std::collections::{BTreeMap, BTreeSet};

/// How old an unclaimed container must be before it is removed: a claim may still be on its way to this view.
const GRACE_MS: u64 = 30_000;

pub(super) async fn reap(runtime: &Runtime, shared: &Shared, busy: BTreeSet<String>) {
    let labels = BTreeMap::from([(LABEL_INSTANCE.to_owned(), runtime.config.instance.clone())]);
    let listed = match runtime.containers.list(&labels).await {
        Ok(listed) => listed,
        Err(error) => {
            tracing::warn!(%error, "containers not listed; asking again in 10 s");
            return;
        }
    };
    let now = runtime.clock.now().0;
    let claimed = shared.with(|view| view.containers());
    for status in &listed {
        let dispatch = status.labels.get(LABEL_DISPATCH).cloned().unwrap_or_default();
        let open = shared.with(|view| view.get(&dispatch).is_some_and(|o| o.claimed.is_some()))
            || claimed.contains(&status.name);
        if open
            || busy.contains(&dispatch)
            || shared.pool.holds(&status.name)
            || now.saturating_sub(status.created_at.0) < GRACE_MS
        {
            continue;
        }
        tracing::warn!(container = status.name, dispatch, "orphan removed: no open claim stands for it");
        if let Err(error) = runtime.containers.remove(&status.name).await {
            tracing::warn!(%error, container = status.name, "orphan not removed; trying again in 10 s");
        }
    }
    let taken = listed.into_iter().map(|status| status.name).chain(claimed).collect();
    shared.pool.clear_leftovers(&taken);
    folders(runtime, shared, &busy);
}

/// Removes folders of runs that have ended.
fn folders(runtime: &Runtime, shared: &Shared, busy: &BTreeSet<String>) {
    let Ok(entries) = std::fs::read_dir(&runtime.config.runs) else { return };
    for entry in entries.flatten() {
        let dispatch = entry.file_name().to_string_lossy().into_owned();
        let open = shared.with(|view| view.get(&dispatch).is_some());
        if !open && !busy.contains(&dispatch) {
            remove_folder(&entry.path());
        }
    }
}
