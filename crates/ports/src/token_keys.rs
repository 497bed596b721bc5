//! Where the secret halves of the keys that sign tokens are. Must never give one out: only something that signs.

use custody_ledger::Sign;
use std::sync::Arc;

/// A key that was just made, and signs nothing yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTokenKey {
    /// Its id.
    pub kid: String,
    /// Its public half, 64 hexadecimal digits.
    pub public_key: String,
}

/// Why there is none. No secret is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("keys for tokens: {0}")]
pub struct TokenKeyError(pub String);

/// The store of one authority. Safe to call again.
pub trait TokenKeyStore: Send + Sync {
    /// Makes a key and keeps its secret half.
    ///
    /// # Errors
    /// [`TokenKeyError`] when it cannot be kept.
    fn make(&self) -> Result<NewTokenKey, TokenKeyError>;

    /// What signs with a key; `None` when its secret half is not here.
    ///
    /// # Errors
    /// [`TokenKeyError`] when it cannot be read.
    fn open(&self, kid: &str) -> Result<Option<Arc<dyn Sign>>, TokenKeyError>;

    /// Destroys a secret half. One that is gone is what was wanted.
    ///
    /// # Errors
    /// [`TokenKeyError`] when it is still there.
    fn forget(&self, kid: &str) -> Result<(), TokenKeyError>;
}
