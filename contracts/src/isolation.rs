//! How strongly a box is held: which sockets its agent may make, and which kind of kernel boundary stands around it.
//! Words and their order only; what a host has and what a dispatch gets is decided in `engine`.

use serde::{Deserialize, Serialize};

/// Which sockets a box may make. Each has a seccomp profile of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sockets {
    /// `AF_UNIX` alone.
    #[default]
    Unix,
    /// Besides, TCP over the box's own loopback device. There is no other device.
    Loopback,
    /// Besides, datagrams over it: an agent that looks a name up, or tries any address, gets as far as the kernel, which
    /// counts it. For a self-test that wants to see what is refused otherwise; there is still no other device.
    Watched,
}

impl Sockets {
    /// Every one.
    pub const ALL: [Sockets; 3] = [Sockets::Unix, Sockets::Loopback, Sockets::Watched];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Sockets::Unix => "unix",
            Sockets::Loopback => "loopback",
            Sockets::Watched => "watched",
        }
    }
}

/// The boundary around a box, weakest first. What asks for one is content with every later one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Namespaces, seccomp, no capability, on the host's kernel.
    #[default]
    Standard,
    /// Besides, user ids of its own: what is root inside is nobody outside.
    Userns,
    /// A kernel of its own in user space.
    Gvisor,
    /// A virtual machine of its own.
    Kata,
}

impl Isolation {
    /// Every one, weakest first.
    pub const ALL: [Isolation; 4] = [Isolation::Standard, Isolation::Userns, Isolation::Gvisor, Isolation::Kata];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Isolation::Standard => "standard",
            Isolation::Userns => "userns",
            Isolation::Gvisor => "gvisor",
            Isolation::Kata => "kata",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_the_strength_and_the_words_are_the_wire() {
        assert!(Isolation::ALL.is_sorted());
        for one in Isolation::ALL {
            assert_eq!(serde_json::to_value(one).unwrap(), one.as_str());
        }
        for one in Sockets::ALL {
            assert_eq!(serde_json::to_value(one).unwrap(), one.as_str());
        }
    }
}
