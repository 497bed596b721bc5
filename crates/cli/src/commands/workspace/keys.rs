//! Keys of encrypted workspaces. Identities stay in a file of mode 0600 in the state folder; only their public halves are
//! ever shown.

use super::{Desk, failed, usage};
use crate::client::Target;
use crate::commands::run::own_subject;
use crate::error::{CliError, CliResult, exit};
use crate::render::{col, notice};
use crate::server::workspaces::identities;
use custody_contracts::ids::WorkspaceId;
use custody_contracts::workspace::{Encryption, WorkspaceKeyRotated};
use custody_domain::workspace::landing::TRIES_MAX;
use custody_ports::workspaces::Workspaces;
use custody_workspaces::{Identities, new_identity};
use serde_json::{Value, json};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

/// Keys of encrypted workspaces.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum KeyCommand {
    /// The public halves of the identities that this installation holds
    #[command(visible_alias = "list", after_help = "Examples:\n  custody workspace key ls")]
    Ls,
    /// Store a workspace anew for other recipients; what the old key opens is removed from the bucket
    #[command(
        after_help = "Without --recipient a new identity is made for this installation. Copies of the bucket that somebody kept still open with the old key. Safe to run again with the same recipients after a failure.\n\nExamples:\n  custody workspace key rotate finance\n  custody workspace key rotate finance --recipient age1… --recipient age1…"
    )]
    Rotate {
        /// The workspace
        id: String,
        /// An age recipient; may be given several times
        #[arg(long = "recipient", value_name = "age1…")]
        recipients: Vec<String>,
    },
}

fn held(target: &Target) -> CliResult<Identities> {
    let path = identities(target);
    Identities::read(&path).map_err(|e| CliError::new(exit::FAILED, "IDENTITIES_UNREADABLE", e))
}

/// A new identity in the file; its public half.
fn add_identity(target: &Target) -> CliResult<String> {
    let (line, public) = new_identity();
    let path = identities(target);
    let mut file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
    writeln!(file, "# public key: {public}\n{line}")?;
    file.sync_all()?;
    notice(format!("a new identity was added to {}; keep a copy of that file where it is safe", path.display()));
    Ok(public)
}

/// The public half of this installation's first identity, which is made when there is none.
pub(super) fn own_recipient(target: &Target) -> CliResult<String> {
    match held(target)?.recipients().into_iter().next() {
        Some(public) => Ok(public),
        None => add_identity(target),
    }
}

impl Desk<'_> {
    pub(super) async fn key(&self, command: KeyCommand) -> CliResult {
        match command {
            KeyCommand::Ls => {
                let rows: Vec<Value> =
                    held(&self.target)?.recipients().into_iter().map(|r| json!({ "recipient": r })).collect();
                self.ctx.render.list("workspace-key.v1", "recipient", &[col("RECIPIENT", "recipient")], &rows)
            }
            KeyCommand::Rotate { id, recipients } => self.rotate(&id, recipients).await,
        }
    }

    async fn rotate(&self, id: &str, recipients: Vec<String>) -> CliResult {
        let found = self.find(id).await?;
        Self::may_write(&found)?;
        // Read before anything changes: without the old key there is nothing to store anew.
        found.open.tree(&found.head, &found.head.trunk).await.map_err(failed)?;
        let recipients = match recipients.is_empty() {
            true => vec![add_identity(&self.target)?],
            false => recipients,
        };
        let event = WorkspaceKeyRotated {
            workspace: WorkspaceId::parse(id).map_err(usage)?,
            recipients: recipients.clone(),
            by: own_subject(),
        };
        let answer = self.operator.command("workspace.rotate", serde_json::to_value(&event)?).await?;
        let mut document = found.document.clone();
        document.encryption = Encryption::age(recipients.clone());
        let open = self.all.open(&document).await.map_err(failed)?;
        for _ in 0..TRIES_MAX {
            let head = open.head().await.map_err(failed)?;
            if let Some(head) = open.repack(&head).await.map_err(failed)? {
                let row =
                    json!({ "workspace": id, "commit": head.trunk, "recipients": recipients, "state": "rotated" });
                return self.done(row, &answer);
            }
        }
        Err(CliError::new(exit::CONFLICT, "WORKSPACE_BUSY", format!("others changed {id} meanwhile"))
            .hint(format!("custody workspace key rotate {id} with the same --recipient")))
    }
}
