//! Commands of operators over request and reply: `command.launcher.register|rotate|disable`, `command.dispatch.stop`,
//! `command.dispatch.say`, `command.key.introduce|retire|rotate|ls`, `command.runtime.token`, `command.token.*`,
//! `command.workspace.*`, `command.grant.issue|request|revoke`, `command.approval.decide`. Every answer is JSON:
//! `{"ok": …}` or an error.v1.

use super::approvals::Approvals;
use super::erasing::SubjectDesk;
use super::grants::GrantDesk;
use super::issuing::TokenDesk;
use super::launchers::Launchers;
use super::meta;
use super::say::FollowUps;
use super::workspaces::WorkspaceBook;
use custody_contracts::canonical::derived_id;
use custody_contracts::events::LedgerEvent;
use custody_contracts::events::{
    DispatchStopRequested, KeyIntroduced, KeyRetired, Kind, LauncherDisabled, LauncherRegistered, LauncherRotated,
    StopReason,
};
use custody_contracts::ids::DispatchId;
use custody_contracts::messages::ErrorDoc;
use custody_contracts::once;
use custody_domain::dispatch::{Dispatch, DispatchCommand};
use custody_domain::key::{Key, KeyCommand};
use custody_domain::launcher::{Launcher, LauncherCommand};
use custody_domain::workspace::{WorkspaceCommand, Workspaces};
use custody_ledger::{Command, Decider, Entity, HandleError, Log, Outcome, Sign, handle};
use custody_ports::clock::Clock;
use custody_ports::requests::{Request, Requests};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Everything that commands need.
#[derive(Clone)]
pub struct Commands {
    /// The ledger.
    pub log: Arc<dyn Log>,
    /// Authority's key.
    pub signer: Arc<dyn Sign>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Launchers.
    pub launchers: Launchers,
    /// Workspaces.
    pub workspaces: WorkspaceBook,
    /// What is said to dispatches.
    pub follow_ups: FollowUps,
    /// Grants.
    pub grants: GrantDesk,
    /// What is decided about calls that wait.
    pub approvals: Approvals,
    /// Tokens and the keys that sign them; `None` where no tokens are signed.
    pub tokens: Option<TokenDesk>,
    /// Erasing persons; `None` where nobody is erased.
    pub subjects: Option<SubjectDesk>,
}

/// `command.dispatch.stop`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stop {
    dispatch: DispatchId,
    by: String,
    grace_ms: u64,
    #[serde(default)]
    reason: Option<StopReason>,
}

/// `command.dispatch.say`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Say {
    dispatch: DispatchId,
    text: String,
    by: String,
    /// The same id and words are the same follow-up.
    id: String,
}

/// Runs until cancelled.
pub async fn run(commands: Commands, requests: Arc<dyn Requests>, cancel: CancellationToken) {
    loop {
        let request = tokio::select! {
            () = cancel.cancelled() => return,
            request = requests.next() => request,
        };
        match request {
            Ok(request) => {
                let (commands, requests) = (commands.clone(), requests.clone());
                tokio::spawn(async move {
                    let answer = match commands.carry_out(&request).await {
                        Ok(value) => json!({ "ok": value }),
                        Err(error) => serde_json::to_value(error).unwrap_or_default(),
                    };
                    let bytes = answer.to_string().into_bytes();
                    if let Err(error) = requests.answer(&request.reply_to, bytes).await {
                        tracing::warn!(%error, subject = request.subject, "answer not sent");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "command queue lost; listening again");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

fn read<'a, T: Deserialize<'a>>(request: &'a Request) -> Result<T, ErrorDoc> {
    once::value(&request.bytes)
        .and_then(|_| serde_json::from_slice(&request.bytes))
        .map_err(|e| ErrorDoc::new("COMMAND_INVALID", format!("{}: {e}", request.subject), None))
}

impl Commands {
    /// Carries out one command. Safe to send again.
    ///
    /// # Errors
    /// An error.v1 with a stable code.
    pub async fn carry_out(&self, request: &Request) -> Result<Value, ErrorDoc> {
        match request.subject.strip_prefix("command.").unwrap_or_default() {
            "launcher.register" => {
                let body: LauncherRegistered = read(request)?;
                self.launcher(body.launcher.to_string(), LauncherCommand::Register(body)).await
            }
            "launcher.rotate" => {
                let body: LauncherRotated = read(request)?;
                self.launcher(body.launcher.to_string(), LauncherCommand::Rotate(body)).await
            }
            "launcher.disable" => {
                let body: LauncherDisabled = read(request)?;
                self.launcher(body.launcher.to_string(), LauncherCommand::Disable(body)).await
            }
            "dispatch.stop" => {
                let body: Stop = read(request)?;
                let may_be = [None, Some(StopReason::Stopped), Some(StopReason::Revoked), Some(StopReason::Budget)];
                if !may_be.contains(&body.reason) {
                    return Err(ErrorDoc::new("COMMAND_INVALID", "a stop is stopped, revoked or budget", None));
                }
                let event = DispatchStopRequested {
                    dispatch: body.dispatch,
                    by: body.by,
                    grace_ms: body.grace_ms.min(60_000),
                    reason: body.reason,
                };
                let id = event.dispatch.to_string();
                self.send::<Dispatch>(Kind::Dispatch, &id, DispatchCommand::RequestStop(event), "DISPATCH_NOT_ADMITTED")
                    .await
            }
            "dispatch.say" => {
                let body: Say = read(request)?;
                self.follow_ups.commanded(body.dispatch, body.text, body.by, &body.id).await
            }
            "key.introduce" => {
                let body: KeyIntroduced = read(request)?;
                let id = body.kid.clone();
                self.send::<Key>(Kind::Key, &id, KeyCommand::Introduce(body), "KEY_REFUSED").await
            }
            "key.retire" => {
                let body: KeyRetired = read(request)?;
                let id = body.kid.clone();
                self.send::<Key>(Kind::Key, &id, KeyCommand::Retire(body), "KEY_REFUSED").await
            }
            "runtime.token" => super::tokens::runtime_token(self.signer.as_ref(), self.clock.now(), &read(request)?),
            "token.dispatch" => self.desk()?.dispatch(read(request)?).await,
            "token.exchange" => self.desk()?.exchange(read(request)?).await,
            "token.assert" => self.desk()?.assert(read(request)?).await,
            "token.published" => Ok(self.desk()?.published()),
            "key.ls" => Ok(self.desk()?.list_keys()),
            "key.rotate" => self.desk()?.rotate_keys(read(request)?).await,
            "subject.erase" => self.subjects()?.erase(read(request)?).await,
            "subject.enrol" => self.subjects()?.enrol(read(request)?).await,
            "subject.ls" => self.subjects()?.list(),
            "grant.request" => self.grants.request(read(request)?).await,
            "grant.issue" => self.grants.issue(read(request)?).await,
            "grant.revoke" => self.grants.revoke(read(request)?).await,
            "workspace.register" => self.workspace(WorkspaceCommand::Register(read(request)?)).await,
            "workspace.rotate" => self.workspace(WorkspaceCommand::RotateKey(read(request)?)).await,
            "workspace.import" => self.workspace(WorkspaceCommand::Import(read(request)?)).await,
            "workspace.accept" => self.workspace(WorkspaceCommand::AcceptProposal(read(request)?)).await,
            "workspace.landed" => self.workspace(WorkspaceCommand::LandProposal(read(request)?)).await,
            "workspace.reject" => self.workspace(WorkspaceCommand::RejectProposal(read(request)?)).await,
            "approval.decide" => self.approvals.decide(read(request)?).await,
            other => Err(ErrorDoc::new("COMMAND_UNKNOWN", format!("there is no command {other:?}"), None)),
        }
    }

    fn desk(&self) -> Result<&TokenDesk, ErrorDoc> {
        let none = || ErrorDoc::new("TOKENS_NOT_SIGNED", "no tokens are signed here", None);
        self.tokens.as_ref().ok_or_else(none)
    }

    fn subjects(&self) -> Result<&SubjectDesk, ErrorDoc> {
        let none = || ErrorDoc::new("SUBJECTS_NOT_KEPT", "no keys of persons are kept here", None);
        self.subjects.as_ref().ok_or_else(none)
    }

    async fn launcher(&self, id: String, command: LauncherCommand) -> Result<Value, ErrorDoc> {
        let wanted = match &command {
            LauncherCommand::Register(e) => Some(&e.public_key),
            LauncherCommand::Rotate(e) => Some(&e.public_key),
            LauncherCommand::Disable(_) => None,
        };
        // The key is who one is at the account boundary: two launchers with one key could not be told apart there.
        if let Some((other, _)) =
            self.launchers.enabled().iter().find(|(other, key)| **other != id && Some(*key) == wanted)
        {
            let message = format!("launcher {other} has this key already");
            return Err(ErrorDoc::new(
                "LAUNCHER_REFUSED",
                message,
                Some("give every launcher a key of its own".into()),
            ));
        }
        let answer = self.send::<Launcher>(Kind::Launcher, &id, command, "LAUNCHER_REFUSED").await?;
        if let Some(entity) = Entity::new(Kind::Launcher, &id)
            && let Ok(history) = self.log.load(&entity).await
        {
            self.launchers.replace(&id, &history);
        }
        Ok(answer)
    }

    async fn workspace(&self, command: WorkspaceCommand) -> Result<Value, ErrorDoc> {
        let id = match &command {
            WorkspaceCommand::Register(e) => e.workspace.id.to_string(),
            WorkspaceCommand::RotateKey(e) => e.workspace.to_string(),
            WorkspaceCommand::Import(e) => e.workspace.to_string(),
            WorkspaceCommand::OpenProposal(e) => e.workspace.to_string(),
            WorkspaceCommand::AcceptProposal(e) => e.workspace.to_string(),
            WorkspaceCommand::LandProposal(e) => e.workspace.to_string(),
            WorkspaceCommand::RejectProposal(e) => e.workspace.to_string(),
        };
        let answer = self.send::<Workspaces>(Kind::Workspace, &id, command, "WORKSPACE_REFUSED").await?;
        if let Some(entity) = Entity::new(Kind::Workspace, &id)
            && let Ok(history) = self.log.load(&entity).await
        {
            self.workspaces.replace(&id, &history);
        }
        Ok(answer)
    }

    /// Introduces a key; used at start for the keys of this installation.
    ///
    /// # Errors
    /// As [`Commands::carry_out`].
    pub async fn introduce(&self, key: KeyIntroduced) -> Result<Value, ErrorDoc> {
        let id = key.kid.clone();
        self.send::<Key>(Kind::Key, &id, KeyCommand::Introduce(key), "KEY_REFUSED").await
    }

    async fn send<D>(&self, kind: Kind, id: &str, body: D::Command, refused: &str) -> Result<Value, ErrorDoc>
    where
        D: Decider,
        D::Command: Clone + std::fmt::Debug,
        D::Event: TryFrom<LedgerEvent> + Into<LedgerEvent>,
        D::Refusal: Display,
    {
        let entity = Entity::new(kind, id)
            .ok_or_else(|| ErrorDoc::new("COMMAND_INVALID", format!("{id:?} is not an id"), None))?;
        // Two operators who ask for the same thing ask once; asking again after it changed is a new command.
        let last = self.log.load(&entity).await.map_err(|e| unavailable(&e))?.last().map_or(0, |s| s.seq.0);
        let told = format!("{body:?}");
        let command_id = derived_id("cmd-", &[id.as_bytes(), told.as_bytes(), &last.to_be_bytes()]);
        let command = Command { id: command_id, entity, meta: meta(self.clock.now(), id), body };
        match handle::<D>(self.log.as_ref(), self.signer.as_ref(), command).await {
            Ok(Outcome::Appended(seq) | Outcome::AlreadyThere(seq)) => Ok(json!({ "seq": seq.0, "changed": true })),
            Ok(Outcome::Nothing) => Ok(json!({ "seq": last, "changed": false })),
            Ok(Outcome::Refused(refusal)) => Err(ErrorDoc::new(refused, refusal.to_string(), None)),
            Err(HandleError::Append(e)) => Err(unavailable(&e)),
            Err(other) => Err(unavailable(&other)),
        }
    }
}

fn unavailable(error: &dyn Display) -> ErrorDoc {
    ErrorDoc::new("LEDGER_UNAVAILABLE", error.to_string(), Some("custody doctor".into()))
}
