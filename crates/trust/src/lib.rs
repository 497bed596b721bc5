//! Pure: signing and verifying events, launches and checkpoints, the keyring, and the verification of a whole log.
//!
//! Holds no key of its own and reads no clock and no file. Verification is strict: an error is a refusal.

pub mod cosign;
pub mod grant;
pub mod issued;
pub mod key;
pub mod keyring;
pub mod launch;
pub mod note;
mod place;
pub mod proof;
pub mod subject;
pub mod svid;
pub mod token;
pub mod token_keys;
pub mod verify;

pub use key::RoleKey;
pub use keyring::Keyring;
pub use subject::SubjectKey;
