//! How often a dispatch may call: a token bucket. A call beyond it waits before it is told, so that a box which asks
//! without end is slowed down by its own connections.

use std::time::Duration;
use tokio::time::Instant;

/// Calls a second, in the long run.
pub(super) const PER_SECOND: u32 = 50;
/// Calls at once.
pub(super) const BURST: u32 = 100;
/// How long a refused call is held.
pub(super) const HELD: Duration = Duration::from_millis(100);
/// What the event says of calls beyond it.
pub(super) const RATE_LIMITED: &str = "RATE_LIMITED";
/// How often an event is written for refusals that have none of their own, at most.
pub(super) const RECORD_EVERY: Duration = Duration::from_secs(5);

/// The bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: u32,
    /// When the last token came in.
    at: Instant,
}

impl Bucket {
    /// A full one.
    pub(super) fn full(now: Instant) -> Bucket {
        Bucket { tokens: BURST, at: now }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let one = Duration::from_secs(1) / PER_SECOND;
        let came = now.saturating_duration_since(self.at).as_nanos() / one.as_nanos();
        let came = u32::try_from(came).unwrap_or(BURST).min(BURST);
        if self.tokens + came >= BURST {
            (self.tokens, self.at) = (BURST, now);
        } else {
            self.tokens += came;
            self.at += one * came;
        }
        let taken = self.tokens > 0;
        self.tokens -= u32::from(taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        let taken = |bucket: &mut Bucket, ms: u64| {
            (0..10_000).filter(|_| bucket.take(start + Duration::from_millis(ms))).count()
        };
        assert_eq!(taken(&mut bucket, 0), 100);
        assert_eq!(taken(&mut bucket, 19), 0);
        assert_eq!(taken(&mut bucket, 20), 1);
        assert_eq!(taken(&mut bucket, 1_020), 50);
        assert_eq!(taken(&mut bucket, 3_600_000), 100, "what was not used in time is gone");
    }
}
