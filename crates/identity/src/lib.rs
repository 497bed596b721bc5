//! Workload identity over the SPIFFE Workload API. [`Source`] is the port's one back: it follows the Workload API at a
//! socket, and cannot tell whose it is. [`Authority`] and [`serve`] are Custody's own behind such a socket, for one
//! machine; SPIRE's agent is the other. Must never give a certificate to a user of the system who is not registered, and
//! never a private key to anybody but its owner.
//!
//! Source: SPIFFE Workload Endpoint, Workload API and X509-SVID standards.

mod authority;
mod hosts;
mod messages;
mod server;
mod source;
#[cfg(test)]
mod tests;

pub use authority::{Authority, AuthorityError};
pub use server::{PER_USER_MAX, STRANGERS_MAX, bind, serve};
pub use source::Source;
