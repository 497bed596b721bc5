//! The one clock that is read.

use custody_contracts::ids::UnixMillis;
use custody_ports::clock::Clock;

/// The machine's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(now_ms())
    }
}

/// Milliseconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "the edge, where time comes in")]
pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
