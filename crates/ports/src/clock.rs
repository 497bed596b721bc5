//! Time, as a loop sees it.

use custody_contracts::ids::UnixMillis;

/// The only source of time for loops; rules get it inside their commands.
pub trait Clock: Send + Sync {
    /// Now. Never earlier than it was before: see [`Forward`].
    fn now(&self) -> UnixMillis;
}

/// Time that is never moved back: as late as the machine's clock says, or as late as it was shown before and has become
/// since by a clock that nobody can set. Whoever sets the machine's clock back makes nothing good for longer.
///
/// A machine whose clock was wrong by being ahead is ahead until the process starts again: what ends, ends too early.
#[derive(Debug, Clone, Copy, Default)]
pub struct Forward {
    shown: u64,
    up: u64,
}

impl Forward {
    /// Nothing was shown yet.
    pub const fn new() -> Forward {
        Forward { shown: 0, up: 0 }
    }

    /// The time of now. `wall` is what the machine's clock says; `up` are milliseconds of a clock that only goes forward,
    /// from any beginning.
    pub fn read(&mut self, wall: UnixMillis, up: u64) -> UnixMillis {
        let since = up.saturating_sub(self.up);
        self.shown = wall.0.max(self.shown.saturating_add(since));
        self.up = self.up.max(up);
        UnixMillis(self.shown)
    }

    /// Whether the machine's clock is behind what was shown last by more than this many milliseconds.
    pub fn is_ahead_of(&self, wall: UnixMillis, ms: u64) -> bool {
        self.shown > wall.0.saturating_add(ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T44: wall and up, one reading after another, and what is shown.
    #[test]
    fn t44_a_clock_that_is_moved_back_goes_on_from_where_it_was() {
        let mut clock = Forward::new();
        let readings = [
            // The honest clock: what the machine says.
            (1_000_000, 10, 1_000_000),
            (1_000_500, 510, 1_000_500),
            // Moved back by ten minutes: time goes on as if it had not been.
            (400_600, 610, 1_000_600),
            (401_600, 1_610, 1_001_600),
            // To the epoch, and once more.
            (0, 2_610, 1_002_600),
            (0, 2_610, 1_002_600),
            // Moved forward, or set right again: the machine's word.
            (1_010_000, 2_700, 1_010_000),
            (1_009_999, 2_701, 1_010_001),
            // After the machine slept, of which the other clock may know nothing.
            (9_000_000, 2_702, 9_000_000),
        ];
        for (wall, up, shown) in readings {
            assert_eq!(clock.read(UnixMillis(wall), up), UnixMillis(shown), "wall {wall}, up {up}");
        }
        assert!(clock.is_ahead_of(UnixMillis(8_998_000), 1_000) && !clock.is_ahead_of(UnixMillis(8_999_500), 1_000));
    }

    #[test]
    fn a_clock_at_its_end_stays_there() {
        let mut clock = Forward::new();
        assert_eq!(clock.read(UnixMillis(u64::MAX), 1), UnixMillis(u64::MAX));
        assert_eq!(clock.read(UnixMillis(0), u64::MAX), UnixMillis(u64::MAX));
    }
}
