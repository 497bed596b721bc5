//! From the claim of a warm box to one that works for its dispatch: folders first, the gateway's socket last, which is
//! what its worker waits for. Must never bind a second dispatch into a box, nor write into the folder of one that has
//! begun.

use super::super::phases::Phases;
use super::super::{pool, workspaces};
use super::{CannotStart, One};
use crate::crash;
use custody_contracts::events::RunStarted;
use custody_ports::containers::{BoxState, BoxStatus};

impl One<'_> {
    /// Whether a box that an earlier life claimed is a warm one that runs.
    pub(super) fn is_awake_or_blank(&self, status: &BoxStatus) -> bool {
        pool::is_warm(&self.spec.name) && status.state == BoxState::Running
    }

    /// Gives a warm box its dispatch.
    pub(super) async fn wake(&self, mut phases: Phases, there: Option<BoxStatus>) -> Result<RunStarted, CannotStart> {
        // With its socket in place an earlier life gave it everything, and its agent may have begun.
        if !self.shared.pool.bound(&self.spec.name) {
            self.may_start().await?;
            workspaces::all_known(self).map_err(CannotStart)?;
            self.places()?;
            let (filled, socket) = tokio::join!(self.fill(), self.wait_for_socket());
            filled.and(socket)?;
            self.shared.pool.bind(&self.spec.name, self.spec).map_err(|error| CannotStart(error.to_string()))?;
            phases.lap("mount", self.now());
        }
        crash::point("rt.after_start_call");
        let (container, set) = match (self.blank, there) {
            (Some(blank), _) => (blank.container.clone(), blank.set.clone()),
            (None, Some(status)) => (status.id, status.set),
            (None, None) => return Err(CannotStart("the warm box is gone".into())),
        };
        self.record_start(container, self.now(), phases, set.map(|set| self.in_force(set, true))).await
    }
}
