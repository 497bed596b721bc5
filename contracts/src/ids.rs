//! Names that appear in contracts, parsed once at the edge. Must never be built from unchecked text.

use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// Why a text is not a name of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not valid: {rule}")]
pub struct BadName {
    /// The kind of name.
    pub what: &'static str,
    /// The text, cut to 80 characters.
    pub text: String,
    /// What a valid one looks like.
    pub rule: &'static str,
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);
        impl $name {
            /// Checks and wraps a text.
            ///
            /// # Errors
            /// [`BadName`] when the text breaks the rule of this name.
            pub fn parse(text: &str) -> Result<Self, BadName> {
                if $check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(BadName { what: $what, text: text.chars().take(80).collect(), rule: $rule })
                }
            }
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

/// True for 1 to `max` characters of `[a-z0-9_-]`, the first not a sign. Safe as one token of a log subject.
fn token(text: &str, max: usize) -> bool {
    !text.is_empty()
        && text.len() <= max
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}
fn token63(text: &str) -> bool {
    token(text, 63)
}
fn token64(text: &str) -> bool {
    token(text, 64)
}
fn subject_ok(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b))
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}
fn launcher_ref_ok(text: &str) -> bool {
    let Some((kind, id)) = text.split_once(':') else { return false };
    matches!(kind, "user" | "schedule" | "integration")
        && !id.is_empty()
        && id.len() <= 63
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        && id.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}

name_type!(
    /// The person a dispatch acts for: an opaque stable id such as `u_jane`, never an e-mail address. RFC 8693 `sub`.
    Subject, "subject", "1 to 128 of [A-Za-z0-9_.:-], starting with a letter or digit", subject_ok);
name_type!(
    /// Who launches, as a unit says it: `user:<id>`, `schedule:<id>` or `integration:<name>`. RFC 8693 actor.
    LauncherRef, "launcher", "user:<id>, schedule:<id> or integration:<name>", launcher_ref_ok);
name_type!(
    /// A launcher's token in `launch.<launcher>.dispatch`, for example `web-chat`.
    LauncherId, "launcher id", "1 to 63 of [a-z0-9_-], starting with a letter or digit", token63);
name_type!(
    /// One dispatch, `d-` and 20 base-32 digits, derived from launcher and message id.
    DispatchId, "dispatch id", "1 to 64 of [a-z0-9_-], starting with a letter or digit", token64);
name_type!(
    /// One session: several dispatches that share one session file.
    SessionId, "session id", "1 to 64 of [a-z0-9_-], starting with a letter or digit", token64);
name_type!(
    /// A workspace's id.
    WorkspaceId, "workspace id", "1 to 63 of [a-z0-9_-], starting with a letter or digit", token63);
name_type!(
    /// A grant's id, `g-` and 20 base-32 digits where Custody makes it.
    GrantId, "grant id", "1 to 64 of [a-z0-9_-], starting with a letter or digit", token64);
name_type!(
    /// A runner's name.
    RunnerName, "runner", "1 to 63 of [a-z0-9_-], starting with a letter or digit", token63);

/// Milliseconds since the Unix epoch, UTC. From the event or the command, never read from a clock in pure code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// The instant of an envelope's `time`, as [`UnixMillis::rfc3339`] writes it; a fraction may be missing.
    pub fn parse(text: &str) -> Option<UnixMillis> {
        let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (h, m, s) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let signs = [(4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":")];
        let shaped = signs.iter().all(|(at, sign)| text.get(*at..*at + 1) == Some(*sign));
        let millis = match text.get(19..)? {
            "Z" => 0,
            rest => rest.strip_prefix('.')?.strip_suffix('Z').filter(|digits| digits.len() == 3)?.parse().ok()?,
        };
        let known = (1..=12).contains(&month) && (1..=31).contains(&day) && h < 24 && m < 60 && s < 60;
        if !shaped || !known || year < 1970 {
            return None;
        }
        // Civil date to days, Howard Hinnant's algorithm again.
        let year = year - u64::from(month <= 2);
        let (era, yoe) = (year / 400, year % 400);
        let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
        let days = era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468;
        Some(UnixMillis((days * 86_400 + h * 3_600 + m * 60 + s) * 1_000 + millis))
    }

    /// The instant as RFC 3339 with milliseconds, for example `2026-11-22T21:00:00.000Z`.
    pub fn rfc3339(self) -> String {
        let secs = (self.0 / 1000).min(253_402_300_799);
        let millis = self.0 % 1000;
        let days = secs / 86_400;
        let (h, m, s) = (secs % 86_400 / 3600, secs % 3600 / 60, secs % 60);
        // Days to civil date, Howard Hinnant's algorithm (chrono-Compatible Low-Level Date Algorithms, 2013).
        let z = days + 719_468;
        let era = z / 146_097;
        let doe = z % 146_097;
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let day = doy - (153 * mp + 2) / 5 + 1;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        let year = yoe + era * 400 + u64::from(month <= 2);
        format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{millis:03}Z")
    }

    /// The instant of a text that [`UnixMillis::rfc3339`] wrote; `None` for any other form.
    pub fn from_rfc3339(text: &str) -> Option<UnixMillis> {
        let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let of_day = number(11, 13)? * 3_600 + number(14, 16)? * 60 + number(17, 19)?;
        // The inverse of the algorithm above.
        let shifted = if month <= 2 { year.checked_sub(1)? } else { year };
        let (era, yoe) = (shifted / 400, shifted % 400);
        let doy = (153 * ((month + 9) % 12) + 2) / 5 + day.checked_sub(1)?;
        let days = (era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy).checked_sub(719_468)?;
        let found = UnixMillis((days * 86_400 + of_day) * 1_000 + number(20, 23)?);
        (found.rfc3339() == text).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::UnixMillis;

    #[test]
    fn a_time_that_was_written_is_read() {
        for ms in [0, 1, 951_782_399_999, 951_782_400_000, 1_795_730_489_218, 4_102_444_800_000, 253_402_300_799_999] {
            assert_eq!(UnixMillis::from_rfc3339(&UnixMillis(ms).rfc3339()), Some(UnixMillis(ms)));
        }
        for text in
            ["", "2026-11-22", "2026-13-01T00:00:00.000Z", "2026-11-22T21:00:00.000+01:00", "2026-02-30T00:00:00.000Z"]
        {
            assert_eq!(UnixMillis::from_rfc3339(text), None, "{text}");
        }
    }
}
