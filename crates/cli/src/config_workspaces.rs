//! `[workspaces]` of the configuration file: where workspaces are kept, and how large they may become. Must never name a
//! place that is nobody's kind of bucket, nor take a secret for a recipient.

use crate::home::Home;
use custody_ports::objects::OBJECT_BYTES_MAX;
use custody_ports::workspaces::WorkspaceLimits;
use serde::{Deserialize, Serialize};

/// Workspaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WorkspacesConfig {
    /// Where workspaces are kept that name no bucket of their own, and everybody's session files.
    pub(crate) bucket: Option<String>,
    /// Age recipients of session files and of the default workspace; none: they are not encrypted.
    pub(crate) recipients: Vec<String>,
    /// Bytes of one file.
    pub(crate) file_bytes: u64,
    /// Bytes of a working copy.
    pub(crate) total_bytes: u64,
    /// Files, links and folders of a working copy.
    pub(crate) entries: u64,
    /// Bytes that one commit may add, packed.
    pub(crate) commit_bytes: u64,
}

impl Default for WorkspacesConfig {
    fn default() -> Self {
        let most = WorkspaceLimits::default();
        WorkspacesConfig {
            bucket: None,
            recipients: Vec::new(),
            file_bytes: most.file_bytes,
            total_bytes: most.total_bytes,
            entries: most.entries,
            commit_bytes: most.commit_bytes,
        }
    }
}

impl WorkspacesConfig {
    /// As loops and adapters take them.
    pub(crate) fn limits(&self) -> WorkspaceLimits {
        WorkspaceLimits {
            file_bytes: self.file_bytes,
            total_bytes: self.total_bytes,
            entries: self.entries,
            commit_bytes: self.commit_bytes,
        }
    }

    /// The bucket of this installation.
    pub(crate) fn bucket(&self, home: &Home) -> String {
        self.bucket.clone().unwrap_or_else(|| format!("file://{}", home.path("buckets").display()))
    }

    /// What is wrong with it, as a sentence.
    pub(crate) fn check(&self) -> Result<(), String> {
        let bucket = self.bucket.as_deref().unwrap_or("file:///default");
        if !["file:///", "s3://", "nats://"].iter().any(|scheme| bucket.starts_with(scheme)) {
            return Err(format!("workspaces.bucket {bucket:?} is not file:///, s3:// or nats://"));
        }
        if let Some(bad) = self.recipients.iter().find(|r| !r.starts_with("age1")) {
            return Err(format!(
                "workspaces.recipients: {:?} is no age recipient",
                bad.chars().take(12).collect::<String>()
            ));
        }
        if self.file_bytes == 0 || self.entries == 0 || self.commit_bytes == 0 || self.total_bytes < self.file_bytes {
            return Err("workspaces: no limit may be 0, and total_bytes not below file_bytes".into());
        }
        if self.commit_bytes > OBJECT_BYTES_MAX {
            return Err(format!("workspaces.commit_bytes is above {OBJECT_BYTES_MAX}, the largest object"));
        }
        Ok(())
    }
}
