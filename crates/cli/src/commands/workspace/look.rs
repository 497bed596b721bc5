//! Looking at a workspace: its files, its history, what changed, what waits.

use super::{Desk, failed, proposal, usage};
use crate::error::{CliError, CliResult, exit};
use crate::render::{col, notice, raw, wide};
use custody_domain::workspace::system::is_system;
use custody_ports::workspaces::Owner;
use serde_json::{Value, json};
use std::path::Path;

/// The largest file or difference that is shown.
const SHOWN_BYTES_MAX: u64 = 64 << 20;

impl Desk<'_> {
    pub(super) async fn tree(&self, id: &str, at: Option<&str>) -> CliResult {
        let found = self.find(id).await?;
        let commit = found.commit(at).await?;
        let (entries, digest) = found.open.tree(&found.head, &commit).await.map_err(failed)?;
        let rows: Vec<Value> = entries.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
        notice(format!("{id} at {commit}, tree {digest}"));
        let columns = [col("PATH", "path"), col("BYTES", "bytes"), col("MODE", "mode"), wide("ID", "id")];
        self.ctx.render.list("workspace-entry.v1", "path", &columns, &rows)
    }

    pub(super) async fn cat(&self, id: &str, path: &str, at: Option<&str>) -> CliResult {
        let found = self.find(id).await?;
        let commit = found.commit(at).await?;
        let kept = found.open.file(&found.head, &commit, path, SHOWN_BYTES_MAX).await.map_err(failed)?;
        if !is_system(id) {
            return raw(&kept);
        }
        // A session file is kept sealed with its person's key.
        let opened = self.target.blobs(&self.operator.connection).open(kept);
        raw(&opened
            .map_err(|e| CliError::new(exit::REFUSED, "SESSION_SEALED", format!("{path} cannot be opened: {e}")))?)
    }

    pub(super) async fn log(&self, id: &str, limit: u64) -> CliResult {
        let found = self.find(id).await?;
        let most = usize::try_from(limit).unwrap_or(1_000);
        let log = found.open.log(&found.head, &found.head.trunk, None, most).await.map_err(failed)?;
        let mut rows: Vec<Value> = log.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
        for row in &mut rows {
            let seconds = row.get("time").and_then(Value::as_u64).unwrap_or(0);
            row["time"] = custody_contracts::ids::UnixMillis(seconds.saturating_mul(1_000)).rfc3339().into();
        }
        let columns = [
            col("COMMIT", "commit"),
            col("TIME", "time"),
            col("AUTHOR", "author"),
            col("THROUGH", "committer"),
            col("DISPATCH", "dispatch"),
            col("SUBJECT", "subject"),
            wide("EFFECT", "effect"),
        ];
        self.ctx.render.list("workspace-commit.v1", "commit", &columns, &rows)
    }

    pub(super) async fn diff(&self, id: &str, from: Option<&str>, to: Option<&str>) -> CliResult {
        let found = self.find(id).await?;
        let (before, after) = match (from, to) {
            (Some(from), Some(to)) => (found.commit(Some(from)).await?, found.commit(Some(to)).await?),
            (Some(one), None) if found.head.proposals.contains_key(one) => {
                let row = proposal(&found.row, one)?;
                (row.base.clone(), row.commit.clone())
            }
            (one, _) => {
                let after = found.commit(one).await?;
                let log = found.open.log(&found.head, &after, None, 2).await.map_err(failed)?;
                match log.get(1) {
                    Some(parent) => (parent.commit.clone(), after),
                    None => {
                        notice("this is the first commit; nothing was before it");
                        return Ok(());
                    }
                }
            }
        };
        let text = found.open.diff(&found.head, &before, &after, SHOWN_BYTES_MAX).await.map_err(failed)?;
        // From an agent: nothing in it may move the terminal.
        let safe: String =
            text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect();
        raw(safe.as_bytes())
    }

    pub(super) async fn mount(&self, id: &str, folder: &Path, at: Option<&str>) -> CliResult {
        let found = self.find(id).await?;
        let commit = found.commit(at).await?;
        std::fs::create_dir_all(folder)?;
        if std::fs::read_dir(folder)?.next().is_some() {
            return Err(usage(format!("{} is not empty", folder.display())).hint("name a folder that is not there yet"));
        }
        let limits = self.target.config.workspaces.limits();
        found.open.check_out(&found.head, &commit, folder, Owner::Person, limits).await.map_err(failed)?;
        let row = json!({ "workspace": id, "commit": commit, "folder": folder });
        self.ctx.render.one("workspace-copy.v1", "workspace", &row)
    }

    pub(super) async fn export(&self, id: &str, file: &Path) -> CliResult {
        let found = self.find(id).await?;
        if file.exists() {
            return Err(
                CliError::new(exit::CONFLICT, "FILE_EXISTS", format!("{} exists", file.display())).hint("another name")
            );
        }
        let trunk = found.document.trunk.clone();
        let bytes = found.open.bundle(&found.head, &trunk).await.map_err(failed)?;
        let size = bytes.len();
        std::fs::write(file, bytes)?;
        let row = json!({ "workspace": id, "commit": found.head.trunk, "file": file, "bytes": size, "branch": trunk });
        self.ctx.render.one("workspace-bundle.v1", "workspace", &row)
    }

    pub(super) async fn proposals(&self, id: &str, all: bool) -> CliResult {
        let row = self.row(id).await?;
        let shown = row.proposals.iter().filter(|p| all || matches!(p.state.as_str(), "open" | "accepted"));
        let rows: Vec<Value> = shown.map(serde_json::to_value).collect::<Result<_, _>>()?;
        let columns = [
            col("PROPOSAL", "proposal"),
            col("STATE", "state"),
            col("BY", "subject"),
            col("OPENED", "opened_at"),
            col("WHY", "reason"),
            wide("BASE", "base"),
            wide("COMMIT", "commit"),
            wide("LANDED-AS", "landed"),
        ];
        self.ctx.render.list("workspace-proposal.v1", "proposal", &columns, &rows)
    }
}
