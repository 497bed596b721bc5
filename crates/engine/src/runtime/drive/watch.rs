//! From a box that runs to what is known of its end: by listening for it and then asking the engine, ending it at its
//! deadline or when a stop is asked for. An engine that is away is not an end.

use super::One;
use super::bring_up::Up;
use super::disk::{Bounds, Disk};
use crate::crash;
use crate::runtime::view::Stop;
use custody_contracts::events::{RunFinished, StopReason};
use custody_ports::containers::{BoxError, BoxState, End, Listening};
use std::time::Duration;

/// Between TERM and KILL for a box that outlived its deadline: its worker has had its grace already.
const DEADLINE_GRACE_MS: u64 = 1_000;
/// The longest that nobody looks at a box that is listened to: an engine that never tells of an end is found out by it.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Between two tries of anything that the engine does not do.
const AGAIN: Duration = Duration::from_millis(500);

impl<'a> One<'a> {
    /// From a box that runs to what is known of its end.
    pub(super) async fn watch(&self, up: Up<'a>) -> RunFinished {
        crash::point("rt.mid_stream");
        let Up { started, mut seen, mut listening } = up;
        let deadline = self.claimed.deadline_at;
        let mut past_deadline = false;
        let limits = &self.runtime.config;
        let bounds = Bounds { added_bytes: limits.limits.disk_bytes, copy_bytes: limits.workspace_limits.total_bytes };
        let disk = Disk::of(self.writable(), bounds);
        let outgrown = disk.outgrown();
        tokio::pin!(outgrown);
        let (mut full, mut told) = (false, false);
        let status = loop {
            let look = match seen.take() {
                Some(status) => Ok(Some(status)),
                None => self.runtime.containers.inspect(&self.spec.name).await,
            };
            match look {
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
            let asked = self.stop().map(|stop| stop.grace_ms);
            if let Some(grace_ms) = if past_deadline { Some(DEADLINE_GRACE_MS) } else { asked } {
                self.end_box(grace_ms).await;
                continue;
            }
            // Whoever listens from before the start, or to a box that was just seen to run, misses no end.
            let ended = match &mut listening {
                Some(ended) => ended,
                none => match self.listen_again(&mut told).await {
                    Ok(ended) => none.insert(ended),
                    Err(error) => {
                        tracing::warn!(%error, dispatch = self.dispatch(), "its end is not listened for; looking again");
                        tokio::time::sleep(AGAIN).await;
                        continue;
                    }
                },
            };
            let left = Duration::from_millis(deadline.0.saturating_sub(self.now().0).max(10)).min(LOOK_EVERY);
            tokio::select! {
                () = ended => (listening, told) = (None, true),
                () = tokio::time::sleep(left) => {}
                _ = self.stop_below(u64::MAX) => {}
                why = &mut outgrown, if !full => {
                    full = true;
                    tracing::warn!(why, dispatch = self.dispatch(), "ended: it uses too much of the disk");
                    let stop = Stop { grace_ms: 0, reason: StopReason::Budget, why };
                    self.shared.with(|view| view.stop(self.dispatch(), stop));
                }
            }
        };
        crash::point("rt.after_exit_seen");
        self.conclude(started, status, past_deadline).await
    }

    /// Listens to a box that was just seen to run. One that was told of as ended and still runs is not asked about in a hurry.
    async fn listen_again(&self, told: &mut bool) -> Result<Listening<'a>, BoxError> {
        if std::mem::take(told) {
            tokio::time::sleep(AGAIN).await;
        }
        self.listen(End::Any).await
    }

    /// Listens for an end of its box.
    pub(super) async fn listen(&self, end: End) -> Result<Listening<'a>, BoxError> {
        self.runtime.containers.listen(&self.spec.name, end).await
    }

    /// TERM, and KILL of everything in the box after the grace; at once when a shorter grace is asked for meanwhile.
    async fn end_box(&self, mut grace_ms: u64) {
        loop {
            let stopped = tokio::select! {
                stopped = self.runtime.containers.stop(&self.spec.name, grace_ms) => stopped,
                shorter = self.stop_below(grace_ms) => {
                    grace_ms = shorter;
                    continue;
                }
            };
            if let Err(error) = stopped {
                tracing::warn!(%error, dispatch = self.dispatch(), "stop not carried out; trying again");
                tokio::time::sleep(AGAIN).await;
            }
            return;
        }
    }

    /// Ends when a stop with less than this grace is asked for, with its grace.
    async fn stop_below(&self, grace_ms: u64) -> u64 {
        let mut seq = self.shared.seq.subscribe();
        loop {
            match self.stop() {
                Some(stop) if stop.grace_ms < grace_ms => return stop.grace_ms,
                _ => {}
            }
            if seq.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}
