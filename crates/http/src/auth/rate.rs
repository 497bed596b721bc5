//! How often keys may be wrong: a few times a minute from one address. Pure: time comes in. Must never grow without
//! end, and never forget an address that is still trying to make room for a new one.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Failures from one address in one window.
pub const FAILURES_MAX: u32 = 5;
/// The window, in milliseconds.
pub const WINDOW_MS: u64 = 60_000;
/// The most addresses that are remembered; when it is full, new addresses are refused until a window ends.
pub const ADDRESSES_MAX: usize = 10_000;

/// Failures by address.
#[derive(Debug, Clone, Default)]
pub struct Rate {
    failures: BTreeMap<IpAddr, (u64, u32)>,
}

impl Rate {
    /// Whether this address may try.
    pub fn allows(&mut self, from: IpAddr, now: u64) -> bool {
        if self.failures.len() >= ADDRESSES_MAX {
            self.failures.retain(|_, (began, _)| now.saturating_sub(*began) < WINDOW_MS);
        }
        match self.failures.get(&from) {
            Some((began, count)) => now.saturating_sub(*began) >= WINDOW_MS || *count < FAILURES_MAX,
            None => self.failures.len() < ADDRESSES_MAX,
        }
    }

    /// Counts a failure.
    pub fn failed(&mut self, from: IpAddr, now: u64) {
        let entry = self.failures.entry(from).or_insert((now, 0));
        if now.saturating_sub(entry.0) >= WINDOW_MS {
            *entry = (now, 0);
        }
        entry.1 += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn five_failures_close_an_address_for_the_rest_of_a_minute() {
        let mut rate = Rate::default();
        for n in 0..u64::from(FAILURES_MAX) {
            assert!(rate.allows(HERE, n));
            rate.failed(HERE, n);
        }
        assert!(!rate.allows(HERE, WINDOW_MS - 1));
        assert!(rate.allows(IpAddr::from([10, 0, 0, 1]), 10));
        assert!(rate.allows(HERE, WINDOW_MS));
    }

    #[test]
    fn a_full_table_refuses_new_addresses_and_keeps_the_old() {
        let mut rate = Rate::default();
        for n in 0..u32::try_from(ADDRESSES_MAX).unwrap() {
            rate.failed(IpAddr::from(n.to_be_bytes()), 1_000);
        }
        assert!(!rate.allows(IpAddr::from([200, 0, 0, 1]), 2_000));
        assert!(rate.allows(IpAddr::from([200, 0, 0, 1]), 1_000 + WINDOW_MS));
    }
}
