//! What authority's parts have in common, and the parts made of it: whoever needs admission needs the books and the key that
//! commands have too. Must never hold anything that one part alone needs.

use super::admission::Admission;
use super::approvals::Approvals;
use super::commands::Commands;
use super::erasing::SubjectDesk;
use super::grants::GrantDesk;
use super::issuing::TokenDesk;
use super::launchers::Launchers;
use super::open::OpenDispatches;
use super::say::FollowUps;
use super::workspaces::WorkspaceBook;
use crate::grants::Grants;
use crate::runners::Runners;
use crate::tools::ToolBook;
use custody_domain::queue::Rules;
use custody_ledger::{Log, Sign};
use custody_ports::blobs::Blobs;
use custody_ports::clock::Clock;
use custody_ports::inputs::Inputs;
use custody_ports::subjects::SubjectKeys;
use std::sync::Arc;

/// What several parts work with. All that are made of one share its books.
#[derive(Clone)]
pub struct Parts {
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
    /// Grants.
    pub grants: Grants,
    /// Dispatches that have not ended.
    pub open: OpenDispatches,
    /// Input topics.
    pub inputs: Arc<dyn Inputs>,
    /// What seals a person's words, and keeps those that are too many for an event.
    pub blobs: Arc<dyn Blobs>,
    /// The keys of persons.
    pub keys: Arc<dyn SubjectKeys>,
    /// Who says so in tokens of grants, for example `https://custody.local`.
    pub base: String,
}

impl Parts {
    /// What is said to dispatches.
    pub fn follow_ups(&self) -> FollowUps {
        FollowUps {
            log: self.log.clone(),
            signer: self.signer.clone(),
            clock: self.clock.clone(),
            launchers: self.launchers.clone(),
            inputs: self.inputs.clone(),
            grants: self.grants.clone(),
            blobs: self.blobs.clone(),
        }
    }

    /// Grants.
    pub fn desk(&self) -> GrantDesk {
        GrantDesk {
            log: self.log.clone(),
            signer: self.signer.clone(),
            clock: self.clock.clone(),
            launchers: self.launchers.clone(),
            workspaces: self.workspaces.clone(),
            grants: self.grants.clone(),
            base: self.base.clone(),
        }
    }

    /// What is decided about calls that wait.
    pub fn approvals(&self) -> Approvals {
        Approvals {
            log: self.log.clone(),
            signer: self.signer.clone(),
            clock: self.clock.clone(),
            blobs: self.blobs.clone(),
        }
    }

    /// Commands; without `tokens` none are signed, without `subjects` nobody is erased.
    pub fn commands(&self, tokens: Option<TokenDesk>, subjects: Option<SubjectDesk>) -> Commands {
        Commands {
            log: self.log.clone(),
            signer: self.signer.clone(),
            clock: self.clock.clone(),
            launchers: self.launchers.clone(),
            workspaces: self.workspaces.clone(),
            follow_ups: self.follow_ups(),
            grants: self.desk(),
            approvals: self.approvals(),
            tokens,
            subjects,
        }
    }

    /// Admission, for these runners and tools, under what an operator decided about the queue.
    pub fn admission(&self, runners: Runners, tools: ToolBook, rules: Rules) -> Admission {
        Admission {
            log: self.log.clone(),
            signer: self.signer.clone(),
            clock: self.clock.clone(),
            launchers: self.launchers.clone(),
            workspaces: self.workspaces.clone(),
            grants: self.grants.clone(),
            runners,
            tools,
            open: self.open.clone(),
            rules,
            follow_ups: self.follow_ups(),
            keys: self.keys.clone(),
            blobs: self.blobs.clone(),
        }
    }
}
