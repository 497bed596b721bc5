//! Where the keys of persons are, each of which seals what one person said. Must never give a secret half out: only something
//! that seals and opens.

use custody_contracts::ids::Subject;
use custody_ledger::Seal;
use std::sync::Arc;

/// Why there is no key. No secret is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectKeyError {
    /// It was destroyed, and the person was not taken in again.
    #[error("{0} was erased")]
    Erased(Subject),
    /// The store cannot be used now.
    #[error("keys of persons: {0}")]
    Unavailable(String),
}

/// One person of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSubject {
    /// Who.
    pub subject: Subject,
    /// The key's id; `None` once it is destroyed.
    pub kid: Option<String>,
}

/// The store. One installation has one: what one role seals another opens. Safe to call again.
pub trait SubjectKeys: Send + Sync {
    /// The key of a person; `None` when there is none, or none any more.
    ///
    /// # Errors
    /// [`SubjectKeyError::Unavailable`].
    fn find(&self, subject: &Subject) -> Result<Option<Arc<dyn Seal>>, SubjectKeyError>;

    /// The key of a person, made when there is none. Two callers get the same one.
    ///
    /// # Errors
    /// [`SubjectKeyError::Erased`] for a person who was erased.
    fn ensure(&self, subject: &Subject) -> Result<Arc<dyn Seal>, SubjectKeyError>;

    /// Destroys a person's key, and makes none for that person from then on. It is durable when this returns.
    ///
    /// # Errors
    /// [`SubjectKeyError::Unavailable`] when it may still be there.
    fn destroy(&self, subject: &Subject) -> Result<(), SubjectKeyError>;

    /// Takes an erased person in again, with another key; one who was not erased keeps theirs.
    ///
    /// # Errors
    /// [`SubjectKeyError::Unavailable`].
    fn enrol(&self, subject: &Subject) -> Result<Arc<dyn Seal>, SubjectKeyError>;

    /// Every person of the store, in the order of their ids.
    ///
    /// # Errors
    /// [`SubjectKeyError::Unavailable`].
    fn list(&self) -> Result<Vec<KeptSubject>, SubjectKeyError>;
}
