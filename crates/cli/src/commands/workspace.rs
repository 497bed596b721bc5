//! `custody workspace`: repositories in buckets. Reads and writes a bucket as the operator of this machine, with the same
//! fence as every run; what counts is recorded through the authority. Must never print an identity.

mod change;
mod keys;
mod look;
mod verify;

use super::Ctx;
use super::run::own_subject;
use crate::client::{Operator, Target, field, rows};
use crate::error::{CliError, CliResult, exit};
use crate::render::{col, notice, wide};
use crate::server::workspaces;
use custody_contracts::ids::{Subject, WorkspaceId};
use custody_contracts::unit::Mode;
use custody_contracts::workspace::{Encryption, Scheme, Workspace, WorkspaceMember, WorkspaceRegistered};
use custody_domain::workspace::system;
use custody_engine::runtime::SystemWorkspaces;
use custody_ports::workspaces::{Head, OpenWorkspace, WorkspaceError, Workspaces};
use custody_projections::workspaces::{ProposalRow, WorkspaceRow};
use custody_workspaces::GitWorkspaces;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Workspaces: repositories in buckets, mounted by dispatches.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum WorkspaceCommand {
    /// Every workspace: whose it is, where it is, what waits in it
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  custody workspace ls\n  custody workspace ls --all -o wide    also the private ones that keep session files"
    )]
    Ls {
        /// Also system workspaces
        #[arg(long)]
        all: bool,
    },
    /// Register a workspace and make its first commit
    #[command(
        visible_alias = "register",
        after_help = "With --encrypt and no --recipient the installation's own key is used, and made when there is none.\n\nExamples:\n  custody workspace new notes\n  custody workspace new finance --owner u_omar --member u_jane:ro --encrypt\n  custody workspace new org --bucket s3://acme-custody --mode propose\n\nExit codes: 0 done, 5 refused, 8 the bucket does not answer."
    )]
    New(NewArgs),
    /// One workspace: document, people, trunk, proposals that wait
    #[command(visible_alias = "show", after_help = "Examples:\n  custody workspace get notes -o json")]
    Get {
        /// Its id
        id: String,
    },
    /// Let persons in, or out again; only the owner may
    #[command(
        after_help = "Examples:\n  custody workspace share notes u_omar:ro u_ada:propose\n  custody workspace share notes --remove u_omar"
    )]
    Share {
        /// Its id
        id: String,
        /// A person and the most that they may have, SUBJECT:MODE
        #[arg(value_name = "SUBJECT:MODE")]
        members: Vec<String>,
        /// A person who may not mount it any more
        #[arg(long, value_name = "SUBJECT")]
        remove: Vec<String>,
    },
    /// The files of a workspace
    #[command(
        after_help = "Examples:\n  custody workspace tree notes\n  custody workspace tree notes --at d-7f3a    as a proposal has them"
    )]
    Tree {
        /// Its id
        id: String,
        /// A commit, or the dispatch of a proposal [default: the trunk]
        #[arg(long)]
        at: Option<String>,
    },
    /// One file of a workspace, byte for byte
    #[command(
        after_help = "Examples:\n  custody workspace cat notes plan.md\n  custody workspace cat sys-u_jane sessions/s-3mq.jsonl"
    )]
    Cat {
        /// Its id
        id: String,
        /// The file's path
        path: String,
        /// A commit, or the dispatch of a proposal [default: the trunk]
        #[arg(long)]
        at: Option<String>,
    },
    /// The commits of a workspace, newest first: who, through whom, which dispatch
    #[command(after_help = "Examples:\n  custody workspace log notes --limit 5\n  custody workspace log notes -o json")]
    Log {
        /// Its id
        id: String,
        /// At most so many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
        limit: u64,
    },
    /// What changed: in the newest commit, between two commits, or by a proposal
    #[command(
        after_help = "Examples:\n  custody workspace diff notes              the newest commit\n  custody workspace diff notes d-7f3a       what a proposal would change\n  custody workspace diff notes 1a2b… 3c4d…"
    )]
    Diff {
        /// Its id
        id: String,
        /// A commit, or the dispatch of a proposal
        from: Option<String>,
        /// Another commit
        to: Option<String>,
    },
    /// Put a read-only copy of a workspace into a new folder
    #[command(
        after_help = "A copy, taken at one commit: it does not follow the workspace. Nothing in it is ever run, and no link in it leaves it.\n\nExamples:\n  custody workspace mount notes ./notes-today"
    )]
    Mount {
        /// Its id
        id: String,
        /// A folder that is not there yet, or is empty
        folder: PathBuf,
        /// A commit, or the dispatch of a proposal [default: the trunk]
        #[arg(long)]
        at: Option<String>,
    },
    /// Put a folder's files into a workspace, as one commit by you
    #[command(
        after_help = "Files that are there already are replaced, others stay; --replace removes what the folder does not have. A .git folder is left out.\n\nExamples:\n  custody workspace import notes ./my-notes\n  custody workspace import notes ./my-notes --replace --message 'As of Friday'\n\nExit codes: 0 done, 2 something in the folder cannot be kept, 5 not yours, 6 others changed the same files."
    )]
    Import {
        /// Its id
        id: String,
        /// The folder
        folder: PathBuf,
        /// Remove what the folder does not have
        #[arg(long)]
        replace: bool,
        /// What the commit says
        #[arg(long)]
        message: Option<String>,
    },
    /// Write a workspace with its history into one file that git can clone
    #[command(
        after_help = "The file is not encrypted.\n\nExamples:\n  custody workspace export notes notes.bundle && git clone notes.bundle"
    )]
    Export {
        /// Its id
        id: String,
        /// The file; it must not exist
        file: PathBuf,
    },
    /// Compare workspaces with the ledger: every commit must be recorded, and every recorded one be there
    #[command(
        after_help = "A bucket has other doors than Custody: whoever holds its credentials can write into it. What they write is in no record, and this finds it; so does an older state that was put back.\n\nExamples:\n  custody workspace verify\n  custody workspace verify notes -o json\n\nExit codes: 0 all are as recorded, 3 no such workspace, 9 one is not."
    )]
    Verify {
        /// Which [default: all of them]
        ids: Vec<String>,
    },
    /// Keys of encrypted workspaces: ls, rotate
    #[command(subcommand)]
    Key(keys::KeyCommand),
    /// What waits for the owner of a workspace
    #[command(after_help = "Examples:\n  custody workspace proposals notes\n  custody workspace proposals notes --all")]
    Proposals {
        /// Its id
        id: String,
        /// Also those that were decided
        #[arg(long)]
        all: bool,
    },
    /// Say yes to a proposal and merge it; only the owner may
    #[command(
        after_help = "Safe to run again after a failure: it lands once.\n\nExamples:\n  custody workspace diff notes d-7f3a && custody workspace land notes d-7f3a\n\nExit codes: 0 landed, 3 no such proposal, 5 not yours or rejected before, 6 it conflicts with what landed since."
    )]
    Land {
        /// Its id
        id: String,
        /// The dispatch whose changes they are
        proposal: String,
    },
    /// Say no to a proposal; only the owner may
    #[command(after_help = "Examples:\n  custody workspace reject notes d-7f3a --why 'not what I asked for'")]
    Reject {
        /// Its id
        id: String,
        /// The dispatch whose changes they are
        proposal: String,
        /// Why; recorded
        #[arg(long, default_value = "")]
        why: String,
    },
}

/// Register a workspace.
#[derive(Debug, clap::Args)]
pub(crate) struct NewArgs {
    /// Its id
    id: String,
    /// file:///<folder>, s3://<bucket>[/<prefix>] or nats://workspaces [default: the installation's]
    #[arg(long)]
    bucket: Option<String>,
    /// The most that any dispatch may have: ro, propose, rw
    #[arg(long, default_value = "rw")]
    mode: String,
    /// What it is for, in one line
    #[arg(long, default_value = "Files.")]
    purpose: String,
    /// The branch that counts
    #[arg(long, default_value = "main")]
    trunk: String,
    /// The person whose it is; `*` is everybody [default: u_<your login>]
    #[arg(long)]
    owner: Option<String>,
    /// Somebody else who may mount it, SUBJECT:MODE; may be given several times
    #[arg(long = "member", value_name = "SUBJECT:MODE")]
    members: Vec<String>,
    /// Encrypt everything in the bucket with age
    #[arg(long)]
    encrypt: bool,
    /// An age recipient; may be given several times; means --encrypt
    #[arg(long = "recipient", value_name = "age1…")]
    recipients: Vec<String>,
    /// Do not let the command line and the web chat of this machine mount it for you
    #[arg(long)]
    no_grant: bool,
}

/// Everything that a subcommand works with.
struct Desk<'a> {
    ctx: &'a Ctx,
    target: Target,
    operator: Operator,
    all: GitWorkspaces,
}

pub(crate) async fn run(ctx: &Ctx, command: WorkspaceCommand) -> CliResult {
    let target = ctx.target()?;
    let operator = target.operator().await?;
    let all = workspaces::open(&target, &operator.connection)?;
    let desk = Desk { ctx, target, operator, all };
    match command {
        WorkspaceCommand::Ls { all } => desk.ls(all).await,
        WorkspaceCommand::New(args) => desk.new_one(args).await,
        WorkspaceCommand::Get { id } => desk.get(&id).await,
        WorkspaceCommand::Share { id, members, remove } => desk.share(&id, &members, &remove).await,
        WorkspaceCommand::Tree { id, at } => desk.tree(&id, at.as_deref()).await,
        WorkspaceCommand::Cat { id, path, at } => desk.cat(&id, &path, at.as_deref()).await,
        WorkspaceCommand::Log { id, limit } => desk.log(&id, limit).await,
        WorkspaceCommand::Diff { id, from, to } => desk.diff(&id, from.as_deref(), to.as_deref()).await,
        WorkspaceCommand::Mount { id, folder, at } => desk.mount(&id, &folder, at.as_deref()).await,
        WorkspaceCommand::Import { id, folder, replace, message } => {
            desk.import(&id, &folder, replace, message.as_deref()).await
        }
        WorkspaceCommand::Export { id, file } => desk.export(&id, &file).await,
        WorkspaceCommand::Verify { ids } => desk.verify(ids).await,
        WorkspaceCommand::Key(command) => desk.key(command).await,
        WorkspaceCommand::Proposals { id, all } => desk.proposals(&id, all).await,
        WorkspaceCommand::Land { id, proposal } => desk.land(&id, &proposal).await,
        WorkspaceCommand::Reject { id, proposal, why } => desk.reject(&id, &proposal, &why).await,
    }
}

fn usage(error: impl std::fmt::Display) -> CliError {
    CliError::new(exit::USAGE, "WORKSPACE_INVALID", error)
}

/// A workspace's failure as an operator meets it.
fn failed(error: WorkspaceError) -> CliError {
    match &error {
        WorkspaceError::BadBucket(_) => CliError::new(exit::USAGE, "BUCKET_INVALID", error),
        WorkspaceError::Empty(_) => CliError::new(exit::NOT_FOUND, "WORKSPACE_EMPTY", error)
            .hint("is it the bucket that it was registered with?"),
        WorkspaceError::Locked(_) => CliError::new(exit::REFUSED, "WORKSPACE_LOCKED", error)
            .hint("put an identity that opens it into keys/workspaces.age of the state folder, mode 0600"),
        WorkspaceError::Corrupt { .. } => CliError::new(exit::INTEGRITY, "WORKSPACE_CORRUPT", error)
            .hint("restore the bucket from a copy; the ledger names every commit"),
        WorkspaceError::TooLarge { code, .. } => {
            CliError::new(exit::USAGE, code, error).hint("[workspaces] in the configuration has the limits")
        }
        WorkspaceError::Missing(_) => {
            CliError::new(exit::NOT_FOUND, "NOT_FOUND", error).hint("custody workspace tree ID lists the files")
        }
        WorkspaceError::Unavailable { .. } => CliError::new(exit::UNREACHABLE, "BUCKET_UNREACHABLE", error)
            .hint("is its address right, and its service up?"),
        WorkspaceError::Failed { .. } => CliError::new(exit::FAILED, "WORKSPACE_FAILED", error),
    }
}

fn mode(text: &str) -> CliResult<Mode> {
    match text {
        "ro" => Ok(Mode::Ro),
        "propose" => Ok(Mode::Propose),
        "rw" => Ok(Mode::Rw),
        other => Err(usage(format!("{other:?} is not a mode")).hint("ro, propose or rw")),
    }
}

fn person(text: &str) -> CliResult<String> {
    if text != "*" {
        Subject::parse(text).map_err(usage)?;
    }
    Ok(text.to_owned())
}

fn member(text: &str) -> CliResult<WorkspaceMember> {
    let (subject, word) = text.rsplit_once(':').unwrap_or((text, "ro"));
    Ok(WorkspaceMember { subject: person(subject)?, mode: mode(word)? })
}

/// A workspace as it is found, open.
struct Found {
    row: WorkspaceRow,
    document: Workspace,
    open: Box<dyn OpenWorkspace>,
    head: Head,
}

impl Found {
    /// A commit by its id, its beginning within the newest thousand, or the dispatch of a proposal.
    async fn commit(&self, at: Option<&str>) -> CliResult<String> {
        let Some(at) = at else { return Ok(self.head.trunk.clone()) };
        if let Some(commit) = self.head.proposals.get(at) {
            return Ok(commit.clone());
        }
        let log = self.open.log(&self.head, &self.head.trunk, None, 1_000).await.map_err(failed)?;
        let mut found = log.into_iter().filter(|l| l.commit.starts_with(at) || l.dispatch.as_deref() == Some(at));
        match (at.len() >= 4).then(|| found.next()).flatten() {
            Some(one) => Ok(one.commit),
            None => {
                Err(CliError::new(exit::NOT_FOUND, "COMMIT_UNKNOWN", format!("there is no commit or proposal {at:?}"))
                    .hint("custody workspace log ID, custody workspace proposals ID"))
            }
        }
    }
}

impl Desk<'_> {
    async fn row(&self, id: &str) -> CliResult<WorkspaceRow> {
        let answer = self.operator.query("workspace.get", json!({ "id": id })).await?;
        field(&answer, "row")
    }

    /// A registered workspace, or somebody's system workspace, whose document follows from the configuration.
    async fn find(&self, id: &str) -> CliResult<Found> {
        let row = match self.row(id).await {
            Ok(row) => row,
            Err(error) if error.code == "NOT_FOUND" && system::is_system(id) => WorkspaceRow::default(),
            Err(error) => return Err(error),
        };
        let document = match &row.document {
            Some(document) => document.clone(),
            None => self.system(id)?,
        };
        let open = self.all.open(&document).await.map_err(failed)?;
        let head = match row.document.is_some() {
            true => open.found().await.map_err(failed)?,
            false => open.head().await.map_err(failed)?,
        };
        Ok(Found { row, document, open, head })
    }

    fn system(&self, id: &str) -> CliResult<Workspace> {
        let config = &self.target.config.workspaces;
        let all = SystemWorkspaces { bucket: config.bucket(&self.target.home), recipients: config.recipients.clone() };
        Ok(all.document(WorkspaceId::parse(id).map_err(usage)?))
    }

    async fn ls(&self, all: bool) -> CliResult {
        let answer = self.operator.query("workspace.ls", json!({})).await?;
        let mut rows = rows(&answer);
        rows.retain(|row| all || row.get("document").is_some_and(|d| !d.is_null()));
        for row in &mut rows {
            flatten(row);
        }
        let columns = [
            col("WORKSPACE", "workspace"),
            col("OWNER", "owner"),
            col("MODE", "mode"),
            col("ENCRYPTION", "encryption"),
            col("LANDED", "landed"),
            col("WAITING", "waiting"),
            col("PURPOSE", "purpose"),
            wide("BUCKET", "bucket"),
            wide("COMMIT", "commit"),
            wide("SHARED-WITH", "shared_with"),
        ];
        self.ctx.render.list("workspace-row.v1", "workspace", &columns, &rows)
    }

    async fn get(&self, id: &str) -> CliResult {
        let mut row = serde_json::to_value(self.row(id).await?)?;
        flatten(&mut row);
        self.ctx.render.one("workspace-row.v1", "workspace", &row)
    }

    async fn new_one(&self, args: NewArgs) -> CliResult {
        let encryption = match (args.encrypt, args.recipients.is_empty()) {
            (false, true) => Encryption::none(),
            (true, true) => Encryption::age(vec![keys::own_recipient(&self.target)?]),
            (_, false) => Encryption::age(args.recipients),
        };
        let document = Workspace {
            id: WorkspaceId::parse(&args.id).map_err(usage)?,
            bucket: args.bucket.unwrap_or_else(|| self.target.config.workspaces.bucket(&self.target.home)),
            mode: mode(&args.mode)?,
            encryption,
            purpose: args.purpose,
            trunk: args.trunk,
        };
        // Before it is recorded: a bucket that does not answer, or a key that does not open it, is found here.
        let open = self.all.open(&document).await.map_err(failed)?;
        let head = open.found().await.map_err(failed)?;
        open.tree(&head, &head.trunk).await.map_err(failed)?;
        let owner = person(args.owner.as_deref().unwrap_or(&own_subject()))?;
        let members = args.members.iter().map(|m| member(m)).collect::<CliResult<Vec<_>>>()?;
        let event = WorkspaceRegistered { workspace: document, owner, members, by: own_subject() };
        let (id, mode, own) = (event.workspace.id.clone(), event.workspace.mode, event.owner == own_subject());
        let answer = self.operator.command("workspace.register", serde_json::to_value(&event)?).await?;
        if (own || event.owner == "*") && !args.no_grant {
            let operator = self.target.operator().await?;
            super::grant::let_own_mount(self.ctx, &self.target, operator, &id, mode).await?;
        }
        self.done(json!({ "workspace": args.id, "commit": head.trunk, "state": "registered" }), &answer)
    }

    async fn share(&self, id: &str, members: &[String], remove: &[String]) -> CliResult {
        let row = self.row(id).await?;
        let Some(workspace) = row.document else { return Err(usage("a system workspace is shared with nobody")) };
        let mut all = row.members;
        for text in members {
            let new = member(text)?;
            all.retain(|m| m.subject != new.subject);
            all.push(new);
        }
        all.retain(|m| !remove.contains(&m.subject));
        let event = WorkspaceRegistered { workspace, owner: row.owner, members: all, by: own_subject() };
        let answer = self.operator.command("workspace.register", serde_json::to_value(&event)?).await?;
        self.done(json!({ "workspace": id, "state": "shared" }), &answer)
    }

    /// Says what was done, and whether anything changed.
    fn done(&self, mut row: Value, answer: &Value) -> CliResult {
        row["changed"] = answer.get("changed").cloned().unwrap_or(Value::Null);
        row["seq"] = answer.get("seq").cloned().unwrap_or(Value::Null);
        if row["changed"] == json!(false) {
            notice("nothing changed: it was so before");
        }
        self.ctx.render.one("workspace-done.v1", "workspace", &row)
    }

    fn may_write(found: &Found) -> CliResult {
        let me = own_subject();
        if found.row.document.is_none() {
            return Err(CliError::new(exit::REFUSED, "WORKSPACE_FORBIDDEN", "session files are written by runs alone"));
        }
        if found.row.owner == "*" || found.row.owner == me {
            return Ok(());
        }
        let what = format!("workspace {} is {}'s, and you are {me}", found.document.id, found.row.owner);
        Err(CliError::new(exit::REFUSED, "WORKSPACE_FORBIDDEN", what).hint("ask its owner"))
    }
}

/// The parts of the document that a table shows, beside it.
fn flatten(row: &mut Value) {
    let document: Option<Workspace> = row.get("document").and_then(|d| serde_json::from_value(d.clone()).ok());
    if let Some(document) = document {
        row["mode"] = document.mode.as_str().into();
        row["encryption"] = match document.encryption.scheme {
            Scheme::None => "none".into(),
            Scheme::Age => format!("age, {} recipients", document.encryption.recipients.len()).into(),
        };
        row["bucket"] = document.bucket.into();
        row["purpose"] = document.purpose.into();
    }
    let members: Vec<WorkspaceMember> =
        row.get("members").and_then(|m| serde_json::from_value(m.clone()).ok()).unwrap_or_default();
    let shared: Vec<String> = members.iter().map(|m| format!("{}:{}", m.subject, m.mode.as_str())).collect();
    row["shared_with"] = shared.join(",").into();
}

fn proposal<'a>(row: &'a WorkspaceRow, id: &str) -> CliResult<&'a ProposalRow> {
    row.proposals.iter().find(|p| p.proposal == id).ok_or_else(|| {
        CliError::new(exit::NOT_FOUND, "PROPOSAL_UNKNOWN", format!("there is no proposal {id:?} in {}", row.workspace))
            .hint(format!("custody workspace proposals {}", row.workspace))
    })
}

/// The path of a session's file in its system workspace, for whoever looks for it.
#[cfg(test)]
fn session_path(session: &str) -> String {
    custody_contracts::ids::SessionId::parse(session).map(|s| system::session_path(&s)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::plain("u_jane:rw", "u_jane", Mode::Rw)]
    #[case::without("u_jane", "u_jane", Mode::Ro)]
    #[case::with_a_colon("org:u_jane:propose", "org:u_jane", Mode::Propose)]
    #[case::everybody("*:ro", "*", Mode::Ro)]
    fn a_member_is_a_person_and_a_mode(#[case] text: &str, #[case] subject: &str, #[case] mode: Mode) {
        assert_eq!(member(text).unwrap(), WorkspaceMember { subject: subject.into(), mode });
    }

    #[test]
    fn what_is_no_member_is_refused() {
        assert_eq!(member("u_jane:write").unwrap_err().exit, exit::USAGE);
        assert_eq!(member("jane@acme.test:ro").unwrap_err().exit, exit::USAGE);
        assert_eq!(session_path("s-1"), "sessions/s-1.jsonl");
    }
}
