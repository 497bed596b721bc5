//! Waiting for what the host mounts into a blank box: the kernel wakes whoever polls the mount table when it changes, so
//! a box of a pool sees its socket at once and does nothing until then. Must never read the table, only wait for it.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    fs::File,
    thread,
    time::{Duration, Instant},
};

/// The mount table of this process's own namespace. Source: proc_pid_mountinfo(5), "poll".
const TABLE: &str = "/proc/self/mountinfo";
/// Looking anyway, for kernels that wake nobody (gVisor).
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two wake-ups, so that a table that is always "changed" is no busy loop.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// Waits for changes of the mount table.
#[derive(Debug)]
pub struct Mounts(Option<File>);

impl Mounts {
    /// From now on.
    pub fn watch() -> Self {
        Self(File::open(TABLE).ok())
    }

    /// Returns when something was mounted or unmounted since the last time, or after `most`.
    pub fn changed(&self, most: Duration) {
        let begun = Instant::now();
        let woken = self.0.as_ref().is_some_and(|table| {
            let time =
                Timespec { tv_sec: i64::try_from(most.as_secs()).unwrap_or(1), tv_nsec: most.subsec_nanos().into() };
            poll(&mut [PollFd::new(table, PollFlags::PRI)], Some(&time)).is_ok()
        });
        let pause = if woken { PAUSE_MIN } else { most };
        thread::sleep(pause.saturating_sub(begun.elapsed()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_mounted_is_a_wait_with_an_end() {
        let begun = Instant::now();
        Mounts(None).changed(Duration::from_millis(5));
        assert!(begun.elapsed() >= Duration::from_millis(5));
        // Another program of this machine may mount something at any time: only that it ends is certain.
        Mounts::watch().changed(Duration::from_millis(20));
    }
}
