//! Time, as a loop sees it.

use custody_contracts::ids::UnixMillis;

/// The only source of time for loops; rules get it inside their commands.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> UnixMillis;
}
