//! The disk under the streams. A nats-server that could not write once refuses every write until it is started again,
//! also when there is space: so it is watched here, and started anew once a full disk has space. Must never stop a
//! server while the disk is still full.

use custody_nats::server::Supervised;
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Below this many free bytes nothing new is launched from here: what runs still has to be recorded.
pub(crate) const FREE_MIN: u64 = 16 << 20;
/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Bytes that may still be written to the file system of a folder; `None` when it does not say.
pub(crate) fn free(folder: &Path) -> Option<u64> {
    let facts = rustix::fs::statvfs(folder).ok()?;
    Some(facts.f_bavail.saturating_mul(facts.f_frsize))
}

/// What a look at the disk calls for.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Filled,
    Freed,
    Nothing,
}

/// Freed counts only at twice the room, so that a disk at its limit does not start the server again and again.
fn change(was_full: bool, free: u64) -> Change {
    match was_full {
        false if free < FREE_MIN => Change::Filled,
        true if free >= 2 * FREE_MIN => Change::Freed,
        _ => Change::Nothing,
    }
}

/// Watches until cancelled.
pub(crate) async fn watch(server: Arc<Supervised>, folder: PathBuf, cancel: CancellationToken) {
    let mut full = false;
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let Some(free) = free(&folder) else { continue };
        match change(full, free) {
            Change::Nothing => {}
            Change::Filled => {
                full = true;
                tracing::error!(free, folder = %folder.display(), "the disk is full: nothing can be recorded, so nothing is done until there is space");
            }
            Change::Freed => {
                full = false;
                tracing::warn!(free, "the disk has space again; nats-server is started anew");
                // Its supervisor starts it again when it has ended.
                let pid = server.pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
                if let Some(Err(error)) = pid.map(|pid| kill_process(pid, Signal::TERM)) {
                    tracing::warn!(%error, "nats-server was not told to end");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::enough(false, FREE_MIN, Change::Nothing)]
    #[case::too_little(false, FREE_MIN - 1, Change::Filled)]
    #[case::still_too_little(true, 0, Change::Nothing)]
    #[case::hardly_enough(true, FREE_MIN, Change::Nothing)]
    #[case::enough_again(true, 2 * FREE_MIN, Change::Freed)]
    fn a_look_at_the_disk(#[case] was_full: bool, #[case] free: u64, #[case] expected: Change) {
        assert_eq!(change(was_full, free), expected);
    }
}
