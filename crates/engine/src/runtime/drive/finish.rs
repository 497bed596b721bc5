//! The end: what the box left behind, the one terminal event, and the removal of box and folder. The event comes first:
//! what is removed before it is recorded could never be recorded.

use super::super::collect::{self, Collected};
use super::super::workspaces;
use super::disk::disarm;
use super::{One, append, remove_folder};
use crate::crash;
use custody_contracts::events::{RunFinished, RunStarted, StopReason, Usage};
use custody_contracts::ids::UnixMillis;
use custody_domain::run::{Ended, RunCommand, is_parked, verdict};
use custody_ledger::Outcome;
use custody_ports::containers::{BoxState, BoxStatus};
use std::collections::BTreeMap;
use std::time::Duration;

/// What an engine reports for a main process that SIGKILL ended. Source: 128 + 9, as shells count.
const CODE_OF_KILL: i64 = 137;
/// The worker's code for an agent that failed, also for one that the kernel killed.
const CODE_OF_FAILURE: i64 = 1;
/// How often the engine is asked again why a box ended that nobody had asked to.
const LATE_LOOKS: u32 = 5;
/// Between two of those.
const LATE_LOOK_EVERY: Duration = Duration::from_millis(40);

impl One<'_> {
    pub(super) async fn conclude(
        &self,
        started: RunStarted,
        status: Option<BoxStatus>,
        past_deadline: bool,
    ) -> RunFinished {
        let admitted = &self.open.admitted;
        let kind = admitted.runner.session_kind;
        let mut collected = collect::collect(self.runtime, self.dispatch(), self.folder, kind).await;
        // Only now: a session folder with such a file is refused whole.
        let folders: Vec<_> = self.writable().into_iter().map(|one| one.folder).collect();
        let disarmed = tokio::task::spawn_blocking(move || disarm(&folders)).await.unwrap_or_default();
        if disarmed > 0 {
            tracing::warn!(
                dispatch = self.dispatch(),
                disarmed,
                "it left files with set-id bits; they were taken away"
            );
        }
        let (code, mut oom, error) = match status.as_ref().map(|s| &s.state) {
            Some(BoxState::Exited { code, oom, error }) => (Some(*code), *oom, error.clone()),
            _ => (None, false, None),
        };
        let unexplained = code == Some(CODE_OF_KILL) || code == Some(CODE_OF_FAILURE);
        if unexplained && !oom && self.stop().is_none() && !past_deadline {
            oom = self.heard_of_oom().await;
        }
        let ended = Ended {
            code,
            oom,
            said: collected.said,
            said_detail: collected.said_detail.clone().or(error),
            result: collected.result,
            limit_reached: collected.limit_reached,
            stop: self.stop().map(|stop| stop.reason),
            past_deadline,
            exhausted: collected.exhausted,
        };
        let (reason, detail) = verdict(&ended);
        // Whoever ended it says why, where the box itself had nothing to say.
        let stopped = self.stop().filter(|stop| stop.reason == reason);
        let detail = match (detail, stopped) {
            (None, Some(stop)) => Some(stop.why),
            (Some(detail), Some(stop)) if !stop.why.starts_with("asked by") => Some(format!("{}; {detail}", stop.why)),
            (detail, _) => detail,
        };
        let finished_at = status.and_then(|s| s.finished_at).unwrap_or_else(|| self.now());
        let wall_ms = finished_at.0.saturating_sub(started.started_at.0);
        collected.commits = workspaces::land(self, reason, finished_at).await;
        if let Some(bytes) = collected.session_bytes.take() {
            let (file, commit, problem) = workspaces::keep_session(self, bytes, finished_at).await;
            collected.session = file;
            collected.commits.extend(commit);
            collected.session_problem = problem;
        }
        let said = [detail, collected.session_problem.take()];
        let said: Vec<String> = said.into_iter().flatten().collect();
        let detail = (!said.is_empty()).then(|| said.join("; "));
        self.finished(reason, detail, collected, wall_ms, code, Some(&started), finished_at)
    }

    /// Whether the engine has heard by now that the kernel killed for memory: it is told by an event of its own, which can
    /// come after the one of the end.
    async fn heard_of_oom(&self) -> bool {
        for _ in 0..LATE_LOOKS {
            match self.runtime.containers.inspect(&self.spec.name).await {
                Ok(Some(BoxStatus { state: BoxState::Exited { oom: true, .. }, .. })) => return true,
                Ok(Some(_)) => tokio::time::sleep(LATE_LOOK_EVERY).await,
                Ok(None) | Err(_) => return false,
            }
        }
        false
    }

    pub(super) async fn never_started(&self, why: String) -> RunFinished {
        tracing::warn!(dispatch = self.dispatch(), why, "box not started");
        let reason = self.stop().map_or(StopReason::StartFailed, |stop| stop.reason);
        self.finished(reason, Some(why), Collected::default(), 0, None, None, self.now())
    }

    #[expect(clippy::too_many_arguments, reason = "the one place where the terminal event is put together")]
    pub(super) fn finished(
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
            parked: is_parked(reason, collected.session.is_some()),
            turns: collected.turns,
            detail: detail.map(|d| d.chars().take(1_000).collect()),
            started_at: started.map(|s| s.started_at),
            finished_at,
            session: collected.session,
            output,
            usage: Usage { wall_ms, ..collected.usage },
            agent_session: collected.agent_session,
            phases_ms: started.map_or_else(BTreeMap::new, |started| collected.spoke.phases(started)),
            commits: collected.commits,
        }
    }

    pub(super) async fn finish(&self, finished: RunFinished) {
        let reason = finished.reason.as_str();
        match append(self.runtime, self.open, "finish", RunCommand::Finish(Box::new(finished))).await {
            Outcome::Refused(refusal) => tracing::info!(dispatch = self.dispatch(), %refusal, "end recorded before"),
            Outcome::Appended(_) | Outcome::AlreadyThere(_) | Outcome::Nothing => {
                tracing::info!(dispatch = self.dispatch(), reason, "run finished");
            }
        }
        crash::point("rt.after_exit_event");
    }

    pub(super) async fn clean_up(&self) {
        match self.runtime.containers.inspect(&self.spec.name).await {
            Ok(Some(status)) if !self.is_own(&status) => return remove_folder(self.folder),
            _ => {}
        }
        if let Err(error) = self.runtime.containers.remove(&self.spec.name).await {
            tracing::warn!(%error, dispatch = self.dispatch(), "box not removed; the reaper will");
            return;
        }
        self.shared.pool.clear(&self.spec.name);
        crash::point("rt.after_remove");
        remove_folder(self.folder);
    }
}
