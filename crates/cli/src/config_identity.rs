//! `[identity]`: whose Workload API the gateway asks, and who else gets an identity from Custody's own.

use crate::home::Home;
use custody_engine::upstream::{Servers, identified};
use custody_trust::svid::SVID_SECS;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The shortest and the longest life of a certificate, in seconds.
const SVID_S: std::ops::RangeInclusive<u64> = 10..=86_400;

/// Workload identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct IdentityConfig {
    /// Somebody else's Workload API, such as SPIRE's: `unix:/path`. Without it, Custody's own.
    pub(crate) workload_api: Option<String>,
    /// Custody's own: its socket.
    pub(crate) listen: Option<PathBuf>,
    /// Custody's own: workloads by name, and the user of the system that each runs as.
    pub(crate) workloads: BTreeMap<String, u32>,
    /// Custody's own: the life of a certificate, in seconds.
    pub(crate) svid_s: u64,
}

impl Default for IdentityConfig {
    fn default() -> Self {
        IdentityConfig { workload_api: None, listen: None, workloads: BTreeMap::new(), svid_s: SVID_SECS }
    }
}

impl IdentityConfig {
    /// What is wrong with it.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Some(endpoint) = &self.workload_api {
            if !endpoint.strip_prefix("unix:").is_some_and(|path| path.starts_with('/') && path.len() > 1) {
                return Err("identity.workload_api is of the form unix:/path/to/socket".into());
            }
            if *self != (IdentityConfig { workload_api: self.workload_api.clone(), ..IdentityConfig::default() }) {
                return Err("identity.workload_api is somebody else's authority: listen, workloads and svid_s are of Custody's own".into());
            }
        }
        if self.listen.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err("identity.listen is not an absolute path".into());
        }
        if !SVID_S.contains(&self.svid_s) {
            return Err(format!("identity.svid_s lies between {} and {}", SVID_S.start(), SVID_S.end()));
        }
        Ok(())
    }

    /// Where Custody's own Workload API is.
    pub(crate) fn socket(&self, home: &Home) -> PathBuf {
        self.listen.clone().unwrap_or_else(|| home.path("run/identity.sock"))
    }

    /// Whether Custody serves one: only when somebody would ask it.
    pub(crate) fn served(&self, servers: &Servers) -> bool {
        self.workload_api.is_none() && (self.listen.is_some() || !self.workloads.is_empty() || identified(servers))
    }
}
