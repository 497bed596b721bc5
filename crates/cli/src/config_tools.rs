//! `[tools]`: upstream servers, where the documents are, and the operator's own policy.

use crate::home::Home;
use custody_engine::gateway::APPROVAL_MS;
use custody_engine::upstream::{self, Servers};
use custody_policy::{CedarPolicy, PolicyError};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The longest that a call may wait for a person, in milliseconds.
const APPROVAL_MS_MAX: u64 = 2_592_000_000;

/// Tools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ToolsConfig {
    /// Folder with one tool.v1 document a tool.
    pub(crate) folder: Option<PathBuf>,
    /// Cedar rules on top of those of every installation.
    pub(crate) policy: Option<PathBuf>,
    /// How long a call waits for a person, in milliseconds.
    pub(crate) approval_ms: u64,
    /// Upstream MCP servers, by name.
    pub(crate) servers: Servers,
}

impl Default for ToolsConfig {
    fn default() -> Self {
        ToolsConfig { folder: None, policy: None, approval_ms: APPROVAL_MS, servers: Servers::new() }
    }
}

impl ToolsConfig {
    /// What is wrong with it.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !(1_000..=APPROVAL_MS_MAX).contains(&self.approval_ms) {
            return Err(format!("tools.approval_ms lies between 1000 and {APPROVAL_MS_MAX}, which is 30 days"));
        }
        upstream::check(&self.servers).map_err(|e| e.to_string())
    }

    /// The folder of documents.
    pub(crate) fn folder(&self, home: &Home) -> PathBuf {
        self.folder.clone().unwrap_or_else(|| home.path("tools"))
    }

    /// The servers; one that is a process has a folder of its own in the state folder, where no other is named.
    pub(crate) fn servers(&self, home: &Home) -> Servers {
        let mut servers = self.servers.clone();
        for (name, server) in servers.iter_mut().filter(|(_, server)| server.command.is_some()) {
            server.folder.get_or_insert_with(|| home.path("servers").join(name));
        }
        servers
    }

    /// The rules, read now.
    pub(crate) fn policy(&self) -> Result<CedarPolicy, String> {
        let own = match &self.policy {
            None => None,
            Some(path) => {
                let size = std::fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?.len();
                if size > custody_policy::TEXT_BYTES_MAX as u64 {
                    return Err(format!("{}: {}", path.display(), PolicyError::TooLarge));
                }
                Some(std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?)
            }
        };
        CedarPolicy::read(own.as_deref()).map_err(|e| e.to_string())
    }
}
