//! A grant: asked for, issued once, revoked once. And what is done with grants: whether a person may give one, and which
//! one of theirs covers a dispatch. There is no default grant: the absence of one is a refusal.

mod book;
mod decide;
mod evolve;
mod issue;
mod statement;
#[cfg(test)]
pub(crate) mod tests;

pub use book::{Book, GrantPermit, Held, OpenUse};
pub use issue::{DOCUMENT_BYTES_MAX, Facts, GrantRefusal, STANDING_MAX, any_consent, may_issue};
pub use statement::statement;

use custody_contracts::grant::{GrantIssued, GrantRefused, GrantRequested, GrantRevoked};

/// What one grant is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GrantState {
    requested: Option<Box<GrantRequested>>,
    issued: Option<Box<GrantIssued>>,
    revoked: Option<GrantRevoked>,
}

impl GrantState {
    /// What was asked for, if it was.
    pub fn requested(&self) -> Option<&GrantRequested> {
        self.requested.as_deref()
    }

    /// The grant, if the person gave it.
    pub fn issued(&self) -> Option<&GrantIssued> {
        self.issued.as_deref()
    }

    /// How it was taken back, if it was.
    pub fn revoked(&self) -> Option<&GrantRevoked> {
        self.revoked.as_ref()
    }
}

/// What can be commanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantCommand {
    /// Ask a person for it.
    Request(Box<GrantRequested>),
    /// The person gives it. Whether they may was judged before: [`may_issue`].
    Issue(Box<GrantIssued>),
    /// They may not, and that is recorded.
    Refuse(Box<GrantRefused>),
    /// Take it back.
    Revoke(GrantRevoked),
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantNo {
    /// There is none of this id.
    #[error("there is no grant {0}; `custody grant ls` shows them")]
    Unknown(String),
    /// The id has a grant of other terms already.
    #[error("grant {0} is issued already, with other terms; a grant never changes: issue another one")]
    Exists(String),
    /// It was asked for in other terms.
    #[error("grant {0} was asked for in other terms; issue it as it was asked for, or under another id")]
    Differs(String),
}

/// The rule.
#[derive(Debug)]
pub struct Grants;
