//! One dispatch from claim to removal. Every step can be the first one after a crash: each begins by looking at what
//! the ledger and the engine already have.

use super::collect::{self, Collected};
use super::{Runtime, Shared, effective, plan};
use crate::crash;
use crate::runtime::view::Open;
use custody_contracts::canonical::derived_id;
use custody_contracts::envelope::Meta;
use custody_contracts::events::{Kind, RunClaimed, RunFinished, RunStarted, StopReason, Usage};
use custody_contracts::ids::UnixMillis;
use custody_contracts::unit::Start;
use custody_domain::run::{Ended, Run, RunCommand, RunRefusal, verdict};
use custody_ledger::{Command, Entity, Outcome, handle};
use custody_ports::containers::{BoxError, BoxSpec, BoxState, BoxStatus};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the gateway may take to open a dispatch's socket.
const SOCKET_WAIT: Duration = Duration::from_secs(15);
/// The longest pause between two tries of anything.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How often a create or start is tried when the engine does not answer.
const ENGINE_TRIES_MAX: u32 = 60;

/// Why a box could not be brought up: the terminal event's detail.
struct CannotStart(String);

pub(super) async fn drive(runtime: &Runtime, shared: &Shared, dispatch: &str) {
    let Some(open) = shared.with(|view| view.get(dispatch).cloned()) else { return };
    let Some(claimed) = claim(runtime, shared, &open).await else { return };
    let folder = runtime.config.runs.join(dispatch);
    let spec = plan::box_spec(
        &runtime.config.instance,
        &open.admitted,
        claimed.attempt,
        claimed.deadline_at,
        &folder,
        &runtime.config.workspaces,
        &runtime.config.limits,
    );
    let run = One { runtime, shared, open: &open, claimed: &claimed, folder: &folder, spec: &spec };
    let finished = match run.bring_up().await {
        Ok(started) => run.watch(started).await,
        Err(CannotStart(why)) => run.never_started(why).await,
    };
    run.finish(finished).await;
    run.clean_up().await;
}

async fn claim(runtime: &Runtime, shared: &Shared, open: &Open) -> Option<RunClaimed> {
    if let Some(claimed) = &open.claimed {
        return (claimed.runtime == runtime.config.instance).then(|| claimed.clone());
    }
    crash::point("rt.before_claim");
    let admitted = &open.admitted;
    let limits = &runtime.config.limits;
    let (wall_ms, _) = effective(admitted.unit.limits.as_ref(), limits);
    let now = runtime.clock.now();
    let deadline_at = UnixMillis(now.0 + wall_ms + limits.grace_ms);
    let folder = runtime.config.runs.join(admitted.dispatch.as_str());
    let instance = &runtime.config.instance;
    let spec = plan::box_spec(instance, admitted, 1, deadline_at, &folder, &runtime.config.workspaces, limits);
    let file = match admitted.unit.start {
        Start::Session(_) => {
            shared.with(|view| view.file(admitted.session.as_str(), admitted.unit.identity.subject.as_str()).cloned())
        }
        Start::Entrypoint(_) => None,
    };
    let claim = plan::claim(instance, admitted, &spec, file.map(|f| f.digest), deadline_at);
    let outcome = append(runtime, open, "claim", RunCommand::Claim(claim.clone())).await;
    match outcome {
        Outcome::Appended(_) | Outcome::AlreadyThere(_) | Outcome::Nothing => {
            crash::point("rt.after_claim");
            Some(claim)
        }
        Outcome::Refused(refusal) => {
            tracing::debug!(dispatch = %admitted.dispatch, %refusal, "not ours");
            None
        }
    }
}

/// Appends a run event; tries until the ledger answers, because nothing may follow that is not recorded.
async fn append(runtime: &Runtime, open: &Open, step: &str, command: RunCommand) -> Outcome<RunRefusal> {
    let admitted = &open.admitted;
    let dispatch = admitted.dispatch.as_str();
    let Some(entity) = Entity::new(Kind::Run, dispatch) else { return Outcome::Nothing };
    let meta = Meta {
        time: runtime.clock.now().rfc3339(),
        subject: Some(admitted.unit.identity.subject.to_string()),
        causation: Some(format!("ledger/{}", open.seq)),
        correlation: Some(dispatch.to_owned()),
        launcher: Some(admitted.launch.launcher.to_string()),
        grant: None,
        traceparent: open.traceparent.clone(),
    };
    let instance = runtime.config.instance.as_bytes();
    let id = derived_id("run-", &[dispatch.as_bytes(), step.as_bytes(), instance]);
    let mut pause = Duration::from_millis(50);
    loop {
        let command = Command { id: id.clone(), entity: entity.clone(), meta: meta.clone(), body: command.clone() };
        match handle::<Run>(runtime.log.as_ref(), runtime.signer.as_ref(), command).await {
            Ok(outcome) => return outcome,
            Err(error) => tracing::warn!(%error, dispatch, step, "run event not appended; trying again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

struct One<'a> {
    runtime: &'a Runtime,
    shared: &'a Shared,
    open: &'a Open,
    claimed: &'a RunClaimed,
    folder: &'a Path,
    spec: &'a BoxSpec,
}

impl One<'_> {
    fn now(&self) -> UnixMillis {
        self.runtime.clock.now()
    }

    fn dispatch(&self) -> &str {
        self.open.admitted.dispatch.as_str()
    }

    fn stop_grace(&self) -> Option<u64> {
        self.shared.with(|view| view.get(self.dispatch()).and_then(|o| o.stop.as_ref().map(|s| s.grace_ms)))
    }

    /// From the claim to a box that runs, or has run.
    async fn bring_up(&self) -> Result<RunStarted, CannotStart> {
        if let Some(started) = &self.open.started {
            return Ok(started.clone());
        }
        let begun = self.now();
        let mut phases = BTreeMap::new();
        let mut lap = begun;
        let mut phase = |name: &str, now: UnixMillis| {
            phases.insert(name.to_owned(), now.0.saturating_sub(lap.0));
            lap = now;
        };
        let there = self.own().await?;
        if there.is_none() {
            if self.stop_grace().is_some() {
                return Err(CannotStart("a stop was asked for before it started".into()));
            }
            self.check_session()?;
            self.check_image().await?;
            self.prepare().await?;
            phase("prepare", self.now());
            self.create().await?;
            phase("create", self.now());
            crash::point("rt.after_create");
        }
        let before = there.as_ref().map_or(&BoxState::Created, |s| &s.state);
        if *before == BoxState::Created {
            self.start().await?;
            phase("start", self.now());
        }
        crash::point("rt.after_start_call");
        let Some(status) = self.own().await? else {
            return Err(CannotStart("the box was removed before it started".into()));
        };
        phase("inspect", self.now());
        let started = RunStarted {
            dispatch: self.open.admitted.dispatch.clone(),
            attempt: self.claimed.attempt,
            container: status.id.clone(),
            started_at: status.started_at.unwrap_or_else(|| self.now()),
            phases_ms: phases,
        };
        append(self.runtime, self.open, "start", RunCommand::Start(started.clone())).await;
        crash::point("rt.after_started_event");
        Ok(started)
    }

    /// The box of this dispatch, if the engine has it. Another installation on the same engine may have a dispatch of
    /// the same id, and then its box has the same name: that one is never started, watched, stopped or removed.
    async fn own(&self) -> Result<Option<BoxStatus>, CannotStart> {
        match self.ask(|| self.runtime.containers.inspect(&self.spec.name)).await? {
            Some(status) if !self.is_own(&status) => Err(CannotStart(format!(
                "NAME_TAKEN: container {} belongs to another installation on this engine; launch again under another message id",
                self.spec.name
            ))),
            status => Ok(status),
        }
    }

    fn is_own(&self, status: &BoxStatus) -> bool {
        status.labels.get(plan::LABEL_INSTANCE) == Some(&self.runtime.config.instance)
    }

    /// Asks the engine until it answers, a bounded number of times: an engine that is away is not a failed dispatch.
    async fn ask<T, F>(&self, mut question: impl FnMut() -> F) -> Result<T, CannotStart>
    where
        F: Future<Output = Result<T, BoxError>>,
    {
        let mut pause = Duration::from_millis(100);
        for _ in 0..ENGINE_TRIES_MAX {
            match question().await {
                Ok(answer) => return Ok(answer),
                Err(BoxError::Unavailable(why)) => {
                    tracing::warn!(why, dispatch = self.dispatch(), "container engine away; asking again");
                }
                Err(error) => return Err(CannotStart(error.to_string())),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
        Err(CannotStart("the container engine did not answer; start it and dispatch again (custody doctor)".into()))
    }

    /// A turn of a session that left no file, or that is another person's, has nothing to go on from, and must not
    /// pretend to. Both are told alike.
    fn check_session(&self) -> Result<(), CannotStart> {
        match (&self.open.admitted.unit.start, &self.claimed.resume_digest) {
            (Start::Session(_), None) => Err(CannotStart(format!(
                "SESSION_UNKNOWN: session {} has no session file of {} to resume from; custody session ls",
                self.open.admitted.session, self.open.admitted.unit.identity.subject
            ))),
            _ => Ok(()),
        }
    }

    async fn check_image(&self) -> Result<(), CannotStart> {
        let image = &self.claimed.image;
        if self.ask(|| self.runtime.containers.has_image(image)).await? {
            return Ok(());
        }
        Err(CannotStart(format!(
            "IMAGE_MISSING: {image} is not on this machine and nothing is pulled; ops/setup builds the runner images"
        )))
    }

    /// Folders, session file, socket.
    async fn prepare(&self) -> Result<(), CannotStart> {
        let io = |what: &str, path: &Path, e: std::io::Error| CannotStart(format!("{what} {}: {e}", path.display()));
        for workspace in &self.open.admitted.unit.workspaces {
            let path = self.runtime.config.workspaces.join(workspace.id.as_str());
            if !path.is_dir() {
                return Err(CannotStart(format!(
                    "WORKSPACE_MISSING: there is no workspace {}; make the folder {}",
                    workspace.id,
                    path.display()
                )));
            }
        }
        let session = self.folder.join("session");
        std::fs::create_dir_all(&session).map_err(|e| io("making", &session, e))?;
        std::fs::create_dir_all(self.folder.join("gw")).map_err(|e| io("making", self.folder, e))?;
        collect::give_to_box(&session).map_err(|e| io("giving away", &session, e))?;
        if let Some(digest) = &self.claimed.resume_digest {
            let bytes = self.runtime.blobs.get(digest).await;
            let bytes = bytes.map_err(|e| CannotStart(format!("the session file cannot be restored: {e}")))?;
            let file = collect::session_file(self.folder);
            collect::write_for_box(&file, &bytes).map_err(|e| io("writing", &file, e))?;
        }
        self.wait_for_socket().await
    }

    async fn wait_for_socket(&self) -> Result<(), CannotStart> {
        let socket = socket_path(self.folder);
        let until = tokio::time::Instant::now() + SOCKET_WAIT;
        let mut pause = Duration::from_millis(2);
        loop {
            if tokio::net::UnixStream::connect(&socket).await.is_ok() {
                return Ok(());
            }
            if tokio::time::Instant::now() >= until {
                return Err(CannotStart(
                    "no gateway opened the dispatch's socket; is the gateway role running on this machine?".into(),
                ));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }

    async fn create(&self) -> Result<(), CannotStart> {
        // A name that is taken is this very box, created before an answer was lost.
        self.ask(|| async {
            match self.runtime.containers.create(self.spec).await {
                Ok(_) | Err(BoxError::NameTaken(_)) => Ok(()),
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn start(&self) -> Result<(), CannotStart> {
        self.ask(|| self.runtime.containers.start(&self.spec.name)).await
    }

    /// From a box that runs to what is known of its end.
    async fn watch(&self, started: RunStarted) -> RunFinished {
        crash::point("rt.mid_stream");
        let deadline = self.claimed.deadline_at;
        let mut past_deadline = false;
        let mut stopped = false;
        let status = loop {
            match self.runtime.containers.inspect(&self.spec.name).await {
                Ok(None) => break None,
                // Ours is gone, and another installation has taken the name since.
                Ok(Some(status)) if !self.is_own(&status) => break None,
                Ok(Some(status)) if matches!(status.state, BoxState::Exited { .. }) => break Some(status),
                Ok(Some(_)) => {}
                Err(error) => {
                    tracing::warn!(%error, dispatch = self.dispatch(), "container engine away; the box is not given up");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            }
            past_deadline = self.now() >= deadline;
            let grace = self.stop_grace();
            if past_deadline || (grace.is_some() && !stopped) {
                stopped = grace.is_some();
                let grace = if past_deadline { 1_000 } else { grace.unwrap_or_default() };
                if let Err(error) = self.runtime.containers.stop(&self.spec.name, grace).await {
                    tracing::warn!(%error, dispatch = self.dispatch(), "stop not carried out; trying again");
                    stopped = false;
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                continue;
            }
            let left = deadline.0.saturating_sub(self.now().0).clamp(10, 2_000);
            tokio::select! {
                () = self.runtime.containers.wait_hint(&self.spec.name, left) => {}
                () = self.stop_wanted() => {}
            }
        };
        crash::point("rt.after_exit_seen");
        self.conclude(started, status, past_deadline).await
    }

    /// Ends when a stop is asked for; never, once it has been.
    async fn stop_wanted(&self) {
        let mut seq = self.shared.seq.subscribe();
        if self.stop_grace().is_some() {
            return std::future::pending().await;
        }
        while seq.changed().await.is_ok() {
            if self.stop_grace().is_some() {
                return;
            }
        }
    }

    async fn conclude(&self, started: RunStarted, status: Option<BoxStatus>, past_deadline: bool) -> RunFinished {
        let collected = collect::collect(self.runtime, self.dispatch(), self.folder, &self.open.admitted.session).await;
        let (code, oom, error) = match status.as_ref().map(|s| &s.state) {
            Some(BoxState::Exited { code, oom, error }) => (Some(*code), *oom, error.clone()),
            _ => (None, false, None),
        };
        let ended = Ended {
            code,
            oom,
            said: collected.said,
            said_detail: collected.said_detail.clone().or(error),
            result: collected.result,
            stop_requested: self.stop_grace().is_some(),
            past_deadline,
        };
        let (reason, detail) = verdict(&ended);
        let finished_at = status.and_then(|s| s.finished_at).unwrap_or_else(|| self.now());
        let wall_ms = finished_at.0.saturating_sub(started.started_at.0);
        let detail = match (detail, &collected.session_problem) {
            (detail, None) => detail,
            (None, Some(problem)) => Some(problem.clone()),
            (Some(detail), Some(problem)) => Some(format!("{detail}; {problem}")),
        };
        self.finished(reason, detail, collected, wall_ms, code, Some(&started), finished_at)
    }

    async fn never_started(&self, why: String) -> RunFinished {
        tracing::warn!(dispatch = self.dispatch(), why, "box not started");
        let stopped = self.stop_grace().is_some();
        let reason = if stopped { StopReason::Stopped } else { StopReason::StartFailed };
        self.finished(reason, Some(why), Collected::default(), 0, None, None, self.now())
    }

    #[expect(clippy::too_many_arguments, reason = "the one place where the terminal event is put together")]
    fn finished(
        &self,
        reason: StopReason,
        detail: Option<String>,
        collected: Collected,
        wall_ms: u64,
        exit_code: Option<i64>,
        started: Option<&RunStarted>,
        finished_at: UnixMillis,
    ) -> RunFinished {
        let output = collected.output.unwrap_or_else(|| collect::no_output(self.dispatch()));
        RunFinished {
            dispatch: self.open.admitted.dispatch.clone(),
            attempt: self.claimed.attempt,
            container: started.map(|s| s.container.clone()),
            exit_code,
            reason,
            detail: detail.map(|d| d.chars().take(1_000).collect()),
            started_at: started.map(|s| s.started_at),
            finished_at,
            session: collected.session,
            output,
            usage: Usage { wall_ms, ..collected.usage },
            agent_session: collected.agent_session,
        }
    }

    async fn finish(&self, finished: RunFinished) {
        let reason = finished.reason.as_str();
        match append(self.runtime, self.open, "finish", RunCommand::Finish(Box::new(finished))).await {
            Outcome::Refused(refusal) => tracing::info!(dispatch = self.dispatch(), %refusal, "end recorded before"),
            Outcome::Appended(_) | Outcome::AlreadyThere(_) | Outcome::Nothing => {
                tracing::info!(dispatch = self.dispatch(), reason, "run finished");
            }
        }
        crash::point("rt.after_exit_event");
    }

    async fn clean_up(&self) {
        match self.runtime.containers.inspect(&self.spec.name).await {
            Ok(Some(status)) if !self.is_own(&status) => return remove_folder(self.folder),
            _ => {}
        }
        if let Err(error) = self.runtime.containers.remove(&self.spec.name).await {
            tracing::warn!(%error, dispatch = self.dispatch(), "box not removed; the reaper will");
            return;
        }
        crash::point("rt.after_remove");
        remove_folder(self.folder);
    }
}

/// The socket of a run, in the folder that is mounted into its box.
pub(crate) fn socket_path(folder: &Path) -> PathBuf {
    folder.join("gw").join("gw.sock")
}

/// Removes a run's folder; what is left is found again by the reaper.
pub(super) fn remove_folder(folder: &Path) {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), error = %e, "run folder not removed");
        }
        _ => {}
    }
}
