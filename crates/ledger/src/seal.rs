//! A person's key, as pure code sees it: it seals and opens, and never gives itself away.

/// Why something does not open: another key, another place, or other bytes than were sealed. Which one nobody can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it does not open with this key in this place")]
pub struct Unopened;

/// One person's key.
pub trait Seal: Send + Sync {
    /// The key's id, `sk-` and 16 hexadecimal digits. It says nothing of the person.
    fn kid(&self) -> &str;
    /// Nonce and ciphertext. The same words about the same thing are the same bytes, so that a digest of them names
    /// them; whoever has no key learns their length and whether two are equal, and nothing else.
    fn seal(&self, about: &[u8], words: &[u8]) -> Vec<u8>;
    /// The words.
    ///
    /// # Errors
    /// [`Unopened`].
    fn open(&self, about: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Unopened>;
}
