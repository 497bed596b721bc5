//! Workspaces of this installation: where their buckets are, which identities open them, the one that everybody begins
//! with. Used by the runtime role, which mounts, and by the command line of an operator on the same machine.

use crate::client::Target;
use crate::error::{CliError, CliResult, exit};
use custody_contracts::ids::WorkspaceId;
use custody_contracts::unit::Mode;
use custody_contracts::workspace::{Encryption, Workspace, WorkspaceRegistered};
use custody_nats::{Connection, JetObjects};
use custody_ports::objects::Objects;
use custody_streams::spec::WORKSPACES_BUCKET;
use custody_workspaces::{Buckets, GitWorkspaces};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The workspace that a dispatch mounts when it names none.
pub(crate) const DEFAULT: &str = "default";

/// The file of identities.
pub(crate) fn identities(target: &Target) -> PathBuf {
    target.home.path("keys/workspaces.age")
}

/// Every workspace whose bucket this machine can reach.
pub(crate) fn open(target: &Target, connection: &Connection) -> CliResult<GitWorkspaces> {
    let nats: Arc<dyn Objects> = Arc::new(JetObjects::workspaces(connection));
    let buckets = Buckets::new(BTreeMap::from([(WORKSPACES_BUCKET.to_owned(), nats)]));
    let cache = target.home.path("cache/workspaces");
    GitWorkspaces::new(&cache, &identities(target), buckets)
        .map_err(|e| CliError::new(exit::FAILED, "GIT_MISSING", e).hint("install git 2.38 or newer: ops/setup"))
}

/// How the workspace that everybody begins with is registered.
pub(crate) fn default_registration(target: &Target) -> CliResult<WorkspaceRegistered> {
    let config = &target.config.workspaces;
    let encryption = match config.recipients.is_empty() {
        true => Encryption::none(),
        false => Encryption::age(config.recipients.clone()),
    };
    let workspace = Workspace {
        id: WorkspaceId::parse(DEFAULT).map_err(|e| CliError::new(exit::FAILED, "WORKSPACE", e))?,
        bucket: config.bucket(&target.home),
        mode: Mode::Rw,
        encryption,
        purpose: "What a dispatch mounts when it names no workspace.".into(),
        trunk: "main".into(),
    };
    Ok(WorkspaceRegistered { workspace, owner: "*".into(), members: Vec::new(), by: "custody".into() })
}
