//! Comparing workspaces with the ledger. Reads both, changes neither.

use super::{Desk, failed};
use crate::client::rows;
use crate::error::{CliError, CliResult, exit};
use crate::render::{col, wide};
use custody_contracts::events::{LedgerEvent, RunEvent};
use custody_contracts::ids::WorkspaceId;
use custody_contracts::workspace::{CommitOutcome, WorkspaceEvent};
use custody_domain::workspace::{OfTrunk, account};
use custody_ledger::{Log, LogError, Recorded, Seq};
use futures::StreamExt;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The most commits of one trunk that are looked at: more than that is another tool's work.
const COMMITS_MAX: usize = 1_000_000;

/// What the ledger says of all trunks.
#[derive(Default)]
struct Known {
    /// By workspace: commit and the sequence that records it.
    commits: BTreeMap<String, BTreeMap<String, Seq>>,
    running: BTreeSet<String>,
}

impl Known {
    fn take_in(&mut self, seq: Seq, event: &LedgerEvent) {
        let mut add = |workspace: &WorkspaceId, commit: &str| {
            self.commits.entry(workspace.to_string()).or_default().entry(commit.to_owned()).or_insert(seq);
        };
        match event {
            LedgerEvent::Run(RunEvent::Claimed(e)) => drop(self.running.insert(e.dispatch.to_string())),
            LedgerEvent::Run(RunEvent::Finished(e)) => {
                self.running.remove(e.dispatch.as_str());
                for made in &e.commits {
                    if let (CommitOutcome::Landed | CommitOutcome::Merged, Some(commit)) = (made.outcome, &made.commit)
                    {
                        add(&made.workspace, commit);
                    }
                }
            }
            LedgerEvent::Workspace(WorkspaceEvent::Imported(e)) => add(&e.workspace, &e.commit),
            LedgerEvent::Workspace(WorkspaceEvent::ProposalLanded(e)) => add(&e.workspace, &e.commit),
            _ => {}
        }
    }
}

async fn known(log: &dyn Log) -> Result<Known, LogError> {
    let mut known = Known::default();
    let mut messages = log.read(Seq(1)).await?;
    while let Some(stored) = messages.next().await {
        let stored = stored?;
        for recorded in Recorded::read(&stored).unwrap_or_default() {
            recorded.event.iter().for_each(|event| known.take_in(stored.seq, event));
        }
    }
    Ok(known)
}

impl Desk<'_> {
    pub(super) async fn verify(&self, ids: Vec<String>) -> CliResult {
        let unavailable = |e: LogError| CliError::new(exit::UNREACHABLE, "LEDGER_UNAVAILABLE", e);
        let ids = match ids.is_empty() {
            false => ids,
            true => {
                let all = rows(&self.operator.query("workspace.ls", json!({})).await?);
                let id = |row: &Value| row.get("workspace").and_then(Value::as_str).map(str::to_owned);
                all.iter().filter_map(id).collect()
            }
        };
        let log = self.operator.log().await?;
        // What is recorded until here must be in the trunks; what is recorded while they are read may not be.
        let due = log.last_seq().await.map_err(unavailable)?;
        let mut found = Vec::new();
        for id in ids {
            let one = self.find(&id).await?;
            let trunk = one.open.log(&one.head, &one.head.trunk, None, COMMITS_MAX).await.map_err(failed)?;
            found.push((id, trunk));
        }
        let known = known(&log).await.map_err(unavailable)?;
        let running = known.running.iter().map(String::as_str).collect();
        let nothing = BTreeMap::new();
        let (mut shown, mut bad) = (Vec::new(), Vec::new());
        for (id, commits) in &found {
            let trunk: Vec<OfTrunk<'_>> =
                commits.iter().map(|one| OfTrunk { commit: &one.commit, dispatch: one.dispatch.as_deref() }).collect();
            let recorded = known.commits.get(id).unwrap_or(&nothing);
            let until = recorded.iter().filter(|(_, seq)| **seq <= due).map(|(commit, _)| commit.as_str()).collect();
            let recorded = recorded.keys().map(String::as_str).collect();
            let is = account(&trunk, &recorded, &until, &running);
            if !is.is_whole() {
                bad.push(id.as_str());
            }
            shown.push(json!({
                "workspace": id, "commits": trunk.len(), "recorded": recorded.len(), "before": is.before,
                "under_way": is.under_way, "unknown": is.unknown, "lost": is.lost,
                "whole": is.is_whole(),
            }));
        }
        let columns = [
            col("WORKSPACE", "workspace"),
            col("WHOLE", "whole"),
            col("COMMITS", "commits"),
            col("RECORDED", "recorded"),
            col("UNKNOWN", "unknown"),
            col("LOST", "lost"),
            wide("BEFORE", "before"),
            wide("UNDER-WAY", "under_way"),
        ];
        self.ctx.render.list("workspace-verified.v1", "workspace", &columns, &shown)?;
        if bad.is_empty() {
            return Ok(());
        }
        let what = format!(
            "{} not as the ledger says: {}",
            if bad.len() == 1 { "one is" } else { "some are" },
            bad.join(", ")
        );
        Err(CliError::new(exit::INTEGRITY, "WORKSPACE_UNACCOUNTED", what).hint(
            "custody workspace log ID shows who each commit says it is by; then ask who else can write into the bucket",
        ))
    }
}
