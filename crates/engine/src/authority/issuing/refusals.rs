//! How many refusals are written down: whoever sends rubbish must not fill the ledger with it. Pure.

use custody_contracts::ids::UnixMillis;

/// The most refusals that are written down in a minute; further ones are counted in the next record.
pub(crate) const A_MINUTE_MAX: u32 = 60;

/// The count of this minute.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    minute: u64,
    written: u32,
    held: u64,
    number: u64,
}

impl Refusals {
    /// How many refusals the next record stands for, and its number; `None` when it is not to be written.
    pub(crate) fn take(&mut self, now: UnixMillis) -> Option<(u64, u64)> {
        let minute = now.0 / 60_000;
        if minute != self.minute {
            (self.minute, self.written) = (minute, 0);
        }
        if self.written >= A_MINUTE_MAX {
            self.held += 1;
            return None;
        }
        self.written += 1;
        self.number += 1;
        Some((std::mem::take(&mut self.held) + 1, self.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_rate_they_are_counted_and_told_with_the_next() {
        let mut refusals = Refusals::default();
        let at = |ms: u64| UnixMillis(1_795_381_200_000 + ms);
        for n in 1..=u64::from(A_MINUTE_MAX) {
            assert_eq!(refusals.take(at(n)), Some((1, n)));
        }
        for n in 0..1_000 {
            assert_eq!(refusals.take(at(1_000 + n)), None);
        }
        assert_eq!(refusals.take(at(60_000)), Some((1_001, 61)));
        assert_eq!(refusals.take(at(60_001)), Some((1, 62)));
    }
}
