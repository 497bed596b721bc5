//! What an address is good for. Pure, and a list of what is allowed: what no line names is never connected to. Must never
//! judge an address by its outer form alone: one inside another is the inner one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where an address leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Into the internet.
    Public,
    /// Into a network of an organisation's own, or of a provider's.
    Private,
    /// To this machine.
    Here,
    /// Nowhere that anybody asks: link-local addresses, a cloud's metadata, many at once, nobody, or not in use.
    Never,
}

/// Where an address leads. Source: IANA's special-purpose address registries for IPv4 and IPv6, 2025.
pub fn reach(ip: IpAddr) -> Reach {
    match plain(ip) {
        IpAddr::V4(ip) => of_v4(ip),
        IpAddr::V6(ip) => of_v6(ip),
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped (RFC 4291, 2.5.5.2), or through a NAT64 (RFC 6052, 2.1).
pub(crate) fn plain(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        _ => ip,
    }
}

fn of_v4(ip: Ipv4Addr) -> Reach {
    match ip.octets() {
        // Metadata of Alibaba's cloud, inside a range that is otherwise a provider's own.
        [100, 100, 100, 200] => Reach::Never,
        [127, ..] => Reach::Here,
        // RFC 1918, shared address space (RFC 6598), and 198.18.0.0/15 (RFC 2544), which local DNS tunnels hand out.
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] | [198, 18..=19, ..] => Reach::Private,
        // This network; link-local, where most clouds' metadata are; protocol assignments, Oracle's metadata among them;
        // documentation; 6to4 relays; multicast, reserved, broadcast.
        [0, ..]
        | [169, 254, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [224..=255, ..] => Reach::Never,
        _ => Reach::Public,
    }
}

fn of_v6(ip: Ipv6Addr) -> Reach {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Here,
        // Metadata of Amazon's and Google's clouds.
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => Reach::Never,
        // Unique local addresses (RFC 4193).
        [0xfc00..=0xfdff, ..] => Reach::Private,
        // Protocol assignments, Teredo among them; documentation; 6to4: each can hold another address.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => Reach::Never,
        [0x2000..=0x3fff, ..] => Reach::Public,
        // Unspecified, IPv4-compatible, link-local, site-local, multicast, NAT64 of a network's own, and what is not in use.
        _ => Reach::Never,
    }
}
