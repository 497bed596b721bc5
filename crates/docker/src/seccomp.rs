//! Our seccomp profile: an allow-list of system calls, in `seccomp.json` beside this folder. Must never gain a call
//! that makes a namespace, a mount, a device or a socket of another family than AF_UNIX.
//!
//! The engine's own default profile is not enough: on 20.10.24 it lets `io_uring_setup`, AF_VSOCK and AF_NETLINK
//! through. The format is the engine's: https://docs.docker.com/engine/security/seccomp/ (read 2026-11).

use serde_json::Value;

/// The profile as it is written, with its comments.
pub const SOURCE: &str = include_str!("../seccomp.json");

/// The profile as the engine takes it in `seccomp=…`: one line, no white space, the same text on every build.
pub fn compact() -> String {
    // A test parses SOURCE, so the second arm is unreachable in a build that passed; the engine refuses what it
    // cannot parse, so even then a box would never start without a filter.
    serde_json::from_str::<Value>(SOURCE).map_or_else(|_| SOURCE.to_owned(), |profile| profile.to_string())
}

#[cfg(test)]
mod tests;
