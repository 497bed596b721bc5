//! What a grant lets a launcher do: whether it covers a dispatch, whether one grant is narrower than another, and its
//! signed form. Functions of the documents alone: how often it was used, and whether it was revoked, is the ledger's.
//! Must never say yes where it cannot read what it compares.

mod chain;
mod cover;
mod narrow;
mod token;

pub(crate) use chain::Chain;
pub use chain::DEPTH_MAX;
pub use cover::{Shortfall, covers};
pub use narrow::{Wider, narrower};
pub use token::{GrantToken, Unproven, mint, prove, server_of};
