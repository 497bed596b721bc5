//! The one clock that is read. Must never show what decides a time that is earlier than one it has shown.

use custody_contracts::ids::UnixMillis;
use custody_ports::clock::{Clock, Forward};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

/// How far the machine's clock may be behind before somebody is told, in milliseconds. Small steps back are ordinary.
const BEHIND_MS: u64 = 5_000;

/// What this process has shown: one for all of its clocks.
static SHOWN: Mutex<Forward> = Mutex::new(Forward::new());
/// Where the clock that nobody can set begins.
static BEGUN: OnceLock<Instant> = OnceLock::new();
/// Somebody was told.
static TOLD: AtomicBool = AtomicBool::new(false);

/// The machine's clock, which goes on when it is moved back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        let wall = UnixMillis(now_ms());
        let up = BEGUN.get_or_init(Instant::now).elapsed().as_millis();
        let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let now = shown.read(wall, u64::try_from(up).unwrap_or(u64::MAX));
        if shown.is_ahead_of(wall, BEHIND_MS) && !TOLD.swap(true, Ordering::Relaxed) {
            tracing::error!(
                wall = wall.0,
                shown = now.0,
                "the machine's clock was moved back; time goes on until a restart"
            );
        }
        now
    }
}

/// Milliseconds since the epoch, as the machine's clock says: for what a person asks, never for what decides.
#[expect(clippy::disallowed_methods, reason = "the edge, where time comes in")]
pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
