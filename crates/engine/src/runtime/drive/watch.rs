//! From a box that runs to what is known of its end: by asking the engine, ending it at its deadline or when a stop is
//! asked for. An engine that is away is not an end.

use super::super::workspaces;
use super::One;
use super::disk::{Disk, writable};
use crate::crash;
use crate::runtime::view::Stop;
use custody_contracts::events::{RunFinished, RunStarted, StopReason};
use custody_ports::containers::BoxState;
use std::time::Duration;

/// Between TERM and KILL for a box that outlived its deadline: its worker has had its grace already.
const DEADLINE_GRACE_MS: u64 = 1_000;

impl One<'_> {
    /// From a box that runs to what is known of its end.
    pub(super) async fn watch(&self, started: RunStarted) -> RunFinished {
        crash::point("rt.mid_stream");
        let deadline = self.claimed.deadline_at;
        let mut past_deadline = false;
        let outgrown = workspaces::outgrown(self);
        tokio::pin!(outgrown);
        let mut full = false;
        let mut disk = Disk::of(writable(self.spec.mounts.iter().map(|m| (m.source.as_path(), m.read_only))));
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
            let asked = self.stop().map(|stop| stop.grace_ms);
            if let Some(grace_ms) = if past_deadline { Some(DEADLINE_GRACE_MS) } else { asked } {
                self.end_box(grace_ms).await;
                continue;
            }
            if let Some(why) = disk.beyond(self.runtime.config.limits.disk_bytes).await {
                tracing::warn!(dispatch = self.dispatch(), why, "ended: it uses too much of the disk");
                let stop = Stop { grace_ms: DEADLINE_GRACE_MS, reason: StopReason::Budget, why };
                self.shared.with(|view| view.stop(self.dispatch(), stop));
                continue;
            }
            let left = deadline.0.saturating_sub(self.now().0).clamp(10, 2_000);
            tokio::select! {
                () = self.runtime.containers.wait_hint(&self.spec.name, left) => {}
                _ = self.stop_below(u64::MAX) => {}
                why = &mut outgrown, if !full => {
                    full = true;
                    tracing::warn!(why, dispatch = self.dispatch(), "ended: its workspace is full");
                    let stop = Stop { grace_ms: 0, reason: StopReason::Budget, why };
                    self.shared.with(|view| view.stop(self.dispatch(), stop));
                }
            }
        };
        crash::point("rt.after_exit_seen");
        self.conclude(started, status, past_deadline).await
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
                tokio::time::sleep(Duration::from_millis(500)).await;
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
