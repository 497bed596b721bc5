//! What the kernel counted in the box's own network namespace: connections begun, refused, without a route, datagrams. It
//! shows whether an agent tried another way out than the relay, without tracing it. Must never open anything but two
//! files of `/proc`.

use crate::protocol::Network;
use std::{collections::BTreeMap, fs, path::Path};

/// The longest of the two files that is read.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// Counters of a namespace since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    opened: u64,
    failed: u64,
    no_route: u64,
    datagrams: u64,
}

impl Counters {
    /// As they are now; `None` when the kernel does not show them here.
    pub fn read(proc: &Path) -> Option<Self> {
        let text = |name: &str| fs::read_to_string(proc.join("net").join(name)).ok();
        let v4 = text("snmp").filter(|text| text.len() <= FILE_BYTES_MAX)?;
        // A kernel without IPv6 has no such file: then nothing was sent over it.
        let v6 = text("snmp6").filter(|text| text.len() <= FILE_BYTES_MAX).unwrap_or_default();
        Self::parse(&v4, &v6)
    }

    /// From the text of `/proc/net/snmp` and `/proc/net/snmp6`.
    pub fn parse(v4: &str, v6: &str) -> Option<Self> {
        let mut numbers = BTreeMap::new();
        let mut lines = v4.lines();
        // Pairs of lines: `Tcp: Name Name …` and `Tcp: 1 2 …`.
        while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
            let (group, names) = names.split_once(": ")?;
            let (same, values) = values.split_once(": ")?;
            if group != same {
                return None;
            }
            for (name, value) in names.split_ascii_whitespace().zip(values.split_ascii_whitespace()) {
                // `MaxConn` is -1: not a counter.
                numbers.insert(format!("{group}{name}"), value.parse::<u64>().unwrap_or(0));
            }
        }
        for line in v6.lines() {
            let mut words = line.split_ascii_whitespace();
            if let (Some(name), Some(value)) = (words.next(), words.next()) {
                numbers.insert(name.to_owned(), value.parse::<u64>().unwrap_or(0));
            }
        }
        let number = |name: &str| numbers.get(name).copied();
        let optional = |name: &str| number(name).unwrap_or(0);
        Some(Self {
            // TCP over both versions is counted together.
            opened: number("TcpActiveOpens")?,
            failed: number("TcpAttemptFails")?,
            no_route: number("IpOutNoRoutes")? + optional("Ip6OutNoRoutes"),
            datagrams: number("UdpOutDatagrams")? + optional("Udp6OutDatagrams"),
        })
    }

    /// What came since `before`, and how many connections the relay took in that time.
    pub fn since(self, before: Self, relayed: u64) -> Network {
        Network {
            opened: self.opened.saturating_sub(before.opened),
            relayed,
            failed: self.failed.saturating_sub(before.failed),
            no_route: self.no_route.saturating_sub(before.no_route),
            datagrams: self.datagrams.saturating_sub(before.datagrams),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const V4: &str = "Ip: Forwarding DefaultTTL OutRequests OutDiscards OutNoRoutes\nIp: 1 64 19 0 2\n\
        Tcp: RtoAlgorithm MaxConn ActiveOpens PassiveOpens AttemptFails\nTcp: 1 -1 7 5 3\n\
        Udp: InDatagrams NoPorts InErrors OutDatagrams\nUdp: 0 1 0 4\n\
        UdpLite: InDatagrams NoPorts InErrors OutDatagrams\nUdpLite: 0 0 0 9\n";
    const V6: &str = "Ip6InReceives   0\nIp6OutNoRoutes  \t10\nUdp6OutDatagrams 20\n";

    #[rstest]
    #[case::both(V4, V6, Some(Counters { opened: 7, failed: 3, no_route: 12, datagrams: 24 }))]
    #[case::no_ipv6(V4, "", Some(Counters { opened: 7, failed: 3, no_route: 2, datagrams: 4 }))]
    #[case::empty("", V6, None)]
    #[case::no_tcp("Ip: OutNoRoutes\nIp: 2\n", V6, None)]
    #[case::lines_out_of_step("Ip: OutNoRoutes\nTcp: 2\n", V6, None)]
    fn reads_the_kernels_files(#[case] v4: &str, #[case] v6: &str, #[case] expected: Option<Counters>) {
        assert_eq!(Counters::parse(v4, v6), expected);
    }

    #[test]
    fn reads_this_machines_files() {
        assert!(Counters::read(Path::new("/proc")).is_some());
        assert_eq!(Counters::read(Path::new("/proc/nothing")), None);
    }

    #[test]
    fn a_difference_is_never_negative() {
        let before = Counters { opened: 7, failed: 3, no_route: 2, datagrams: 4 };
        let after = Counters { opened: 9, failed: 3, no_route: 5, datagrams: 0 };
        let expected = Network { opened: 2, relayed: 1, failed: 0, no_route: 3, datagrams: 0 };
        assert_eq!(after.since(before, 1), expected);
    }
}
