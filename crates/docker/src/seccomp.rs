//! Our seccomp profile in three forms: an allow-list of system calls in `seccomp.json` beside this folder, the rules that
//! `seccomp-loopback.json` adds for an agent that insists on TCP, and those that `seccomp-watched.json` adds for a
//! self-test that counts what an agent tries. Must never gain a call that makes a namespace, a mount or a device, nor a
//! socket of another family than AF_UNIX in the first form, TCP in the second, and UDP in the third.
//!
//! The engine's own default profile is not enough: on 20.10.24 it lets `io_uring_setup`, AF_VSOCK and AF_NETLINK
//! through. The format is the engine's: https://docs.docker.com/engine/security/seccomp/ (read 2026-11).

use custody_contracts::canonical;
use custody_contracts::isolation::Sockets;
use serde_json::Value;
use std::sync::LazyLock;

/// The profile as it is written, with its comments: AF_UNIX alone.
pub const SOURCE: &str = include_str!("../seccomp.json");
/// What TCP over loopback needs besides.
pub const LOOPBACK: &str = include_str!("../seccomp-loopback.json");
/// What UDP needs besides.
pub const WATCHED: &str = include_str!("../seccomp-watched.json");

static UNIX_TEXT: LazyLock<String> = LazyLock::new(|| text(SOURCE, &[]));
static LOOPBACK_TEXT: LazyLock<String> = LazyLock::new(|| text(SOURCE, &[LOOPBACK]));
static WATCHED_TEXT: LazyLock<String> = LazyLock::new(|| text(SOURCE, &[LOOPBACK, WATCHED]));

/// The profile as the engine takes it in `seccomp=…`: one line, no white space, the same text on every build.
pub fn compact(sockets: Sockets) -> &'static str {
    match sockets {
        Sockets::Unix => &UNIX_TEXT,
        Sockets::Loopback => &LOOPBACK_TEXT,
        Sockets::Watched => &WATCHED_TEXT,
    }
}

/// Digest of that text: the name of the profile in a run's record.
pub fn digest(sockets: Sockets) -> String {
    canonical::digest(compact(sockets).as_bytes())
}

fn text(base: &str, more: &[&str]) -> String {
    // A test parses all files, so the fall-back is unreachable in a build that passed; the engine refuses what it
    // cannot parse, so even then a box would never start without a filter.
    merged(base, more).map_or_else(|| base.to_owned(), |profile| canonical::canonical(&profile))
}

fn merged(base: &str, more: &[&str]) -> Option<Value> {
    let mut profile: Value = serde_json::from_str(base).ok()?;
    for more in more {
        let more: Vec<Value> = serde_json::from_str(more).ok()?;
        profile.get_mut("syscalls")?.as_array_mut()?.extend(more);
    }
    Some(profile)
}

#[cfg(test)]
mod tests;
