//! `[audit]`: what the log is called, and where its checkpoints go. Must never take a place that cannot be read as one:
//! a checkpoint that goes nowhere is found out too late.

use custody_outside::{Address, GitPlace};
use custody_trust::cosign::WitnessKey;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// The most places of one kind.
pub(crate) const PLACES_MAX: usize = 16;

/// Checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AuditConfig {
    /// The log's name in checkpoints (C2SP origin).
    pub(crate) origin: String,
    /// Files to which every checkpoint is appended, best on another disk. The state folder always has one.
    pub(crate) copies: Vec<PathBuf>,
    /// Syslogs that get every checkpoint (RFC 5424): `unix:/dev/log`, `udp:192.0.2.7:514`.
    pub(crate) syslog: Vec<String>,
    /// Git repositories that get a commit every so many checkpoints.
    pub(crate) git: Vec<GitConfig>,
    /// C2SP witnesses that are asked to cosign.
    pub(crate) witnesses: Vec<WitnessConfig>,
}

/// One repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GitConfig {
    /// Its folder; it must be a repository already.
    pub(crate) folder: PathBuf,
    /// The branch, made when it is not there.
    #[serde(default = "branch")]
    pub(crate) branch: String,
    /// Every how many checkpoints.
    #[serde(default = "every")]
    pub(crate) every: u64,
    /// The remote that each commit is pushed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) push: Option<String>,
}

/// One witness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WitnessConfig {
    /// Its submission prefix, without `add-checkpoint`.
    pub(crate) url: String,
    /// Its verifier key (C2SP): `name+hash+base64`.
    pub(crate) key: String,
    /// The least time between two checkpoints that it gets.
    #[serde(default = "every_ms")]
    pub(crate) every_ms: u64,
}

fn branch() -> String {
    "custody-checkpoints".into()
}
fn every() -> u64 {
    60
}
fn every_ms() -> u64 {
    10_000
}

impl Default for AuditConfig {
    fn default() -> Self {
        AuditConfig {
            origin: "custody.local/ledger".into(),
            copies: Vec::new(),
            syslog: Vec::new(),
            git: Vec::new(),
            witnesses: Vec::new(),
        }
    }
}

impl AuditConfig {
    /// Whether it can be used.
    ///
    /// # Errors
    /// A sentence with the key that cannot.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.origin.is_empty() || self.origin.contains(char::is_whitespace) || self.origin.contains('+') {
            return Err("audit.origin must not be empty or hold white space or plus signs (C2SP)".into());
        }
        for (what, found) in [
            ("copies", self.copies.len()),
            ("syslog", self.syslog.len()),
            ("git", self.git.len()),
            ("witnesses", self.witnesses.len()),
        ] {
            if found > PLACES_MAX {
                return Err(format!("audit.{what} has {found} entries, at most {PLACES_MAX} are taken"));
            }
        }
        self.syslogs()?;
        for git in &self.git {
            let word = |text: &str| {
                !text.is_empty()
                    && !text.starts_with(['-', '.', '/'])
                    && !text.contains("..")
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
            };
            if !word(&git.branch) || git.branch.ends_with('/') {
                return Err(format!("audit.git: {:?} is no name of a branch", git.branch));
            }
            if git.push.as_deref().is_some_and(|remote| !word(remote)) {
                return Err("audit.git.push is the name of a remote of that repository, for example origin".into());
            }
            if git.every == 0 || git.every > 100_000 {
                return Err(format!("audit.git.every {} is not between 1 and 100000", git.every));
            }
            if !git.folder.is_absolute() {
                return Err("audit.git.folder is an absolute path".into());
            }
        }
        for witness in &self.witnesses {
            if WitnessKey::parse(&witness.key).is_none() {
                return Err(format!(
                    "audit.witnesses: {:?} is no cosigner's key (name+hash+base64, C2SP)",
                    witness.key
                ));
            }
            if !(witness.url.starts_with("http://") || witness.url.starts_with("https://")) {
                return Err(format!("audit.witnesses: {:?} is no http:// or https:// address", witness.url));
            }
            if !(1_000..=86_400_000).contains(&witness.every_ms) {
                return Err(format!("audit.witnesses.every_ms {} is not between 1000 and 86400000", witness.every_ms));
            }
        }
        Ok(())
    }

    /// The syslogs.
    ///
    /// # Errors
    /// A sentence for the first that is none.
    pub(crate) fn syslogs(&self) -> Result<Vec<Address>, String> {
        self.syslog.iter().map(|text| text.parse().map_err(|e| format!("audit.syslog: {e}"))).collect()
    }

    /// The repositories.
    pub(crate) fn repositories(&self) -> Vec<GitPlace> {
        let place = |git: &GitConfig| GitPlace {
            folder: git.folder.clone(),
            branch: git.branch.clone(),
            every: git.every,
            push: git.push.clone(),
        };
        self.git.iter().map(place).collect()
    }

    /// The witnesses: address, key, and the least time between two checkpoints.
    pub(crate) fn watched(&self) -> Vec<(String, WitnessKey, Duration)> {
        let one =
            |w: &WitnessConfig| Some((w.url.clone(), WitnessKey::parse(&w.key)?, Duration::from_millis(w.every_ms)));
        self.witnesses.iter().filter_map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn read(text: &str) -> Result<AuditConfig, String> {
        let config: AuditConfig = toml::from_str(text).map_err(|e| e.to_string())?;
        config.check().map(|()| config)
    }

    #[rstest]
    #[case::nothing("")]
    #[case::files("copies = [\"/mnt/other/notes\"]")]
    #[case::syslogs("syslog = [\"unix:/dev/log\", \"udp:127.0.0.1:514\"]")]
    #[case::git("[[git]]\nfolder = \"/srv/org.git\"\nevery = 1\npush = \"origin\"")]
    fn what_can_be_used(#[case] text: &str) {
        assert!(read(text).is_ok(), "{text}: {:?}", read(text));
    }

    #[rstest]
    #[case::origin("origin = \"a b\"", "origin")]
    #[case::syslog("syslog = [\"tcp:a:1\"]", "audit.syslog")]
    #[case::branch("[[git]]\nfolder = \"/g\"\nbranch = \"--force\"", "branch")]
    #[case::up("[[git]]\nfolder = \"/g\"\nbranch = \"a/../b\"", "branch")]
    #[case::remote("[[git]]\nfolder = \"/g\"\npush = \"--exec=x\"", "push")]
    #[case::never("[[git]]\nfolder = \"/g\"\nevery = 0", "every")]
    #[case::folder("[[git]]\nfolder = \"g\"", "folder")]
    #[case::unknown("[[git]]\nfolder = \"/g\"\nhook = \"x\"", "hook")]
    #[case::key("[[witnesses]]\nurl = \"https://w\"\nkey = \"w\"", "key")]
    #[case::log_key(
        "[[witnesses]]\nurl = \"https://w\"\nkey = \"custody.test/ledger+a1f82e1d+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c\"",
        "key"
    )]
    fn what_cannot(#[case] text: &str, #[case] why: &str) {
        let error = read(text).unwrap_err();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn places_have_a_maximum() {
        let config = |n: usize| AuditConfig { copies: vec!["/a".into(); n], ..AuditConfig::default() };
        assert!(config(PLACES_MAX).check().is_ok() && config(PLACES_MAX + 1).check().is_err());
    }

    #[rstest]
    #[case::address("ftp://w", 10_000, "address")]
    #[case::often("https://w", 10, "every_ms")]
    #[case::good("https://w", 10_000, "")]
    fn a_witness_is_checked(#[case] url: &str, #[case] every_ms: u64, #[case] why: &str) {
        use custody_trust::RoleKey;
        let key = RoleKey::from_seed(custody_contracts::events::Role::Gateway, &[3; 32]);
        let key = witness_key(&key);
        let witnesses = vec![WitnessConfig { url: url.into(), key, every_ms }];
        let checked = AuditConfig { witnesses, ..AuditConfig::default() }.check();
        match why {
            "" => assert_eq!(checked, Ok(())),
            why => assert!(checked.unwrap_err().contains(why)),
        }
    }

    fn witness_key(key: &custody_trust::RoleKey) -> String {
        use base64::Engine;
        use sha2::{Digest, Sha256};
        let raw = [&[4u8], key.verifying().as_bytes().as_slice()].concat();
        let hash = Sha256::digest([b"w\n".as_slice(), &raw].concat());
        let hash = custody_contracts::canonical::hex(hash.get(..4).unwrap());
        format!("w+{hash}+{}", base64::engine::general_purpose::STANDARD.encode(raw))
    }
}
