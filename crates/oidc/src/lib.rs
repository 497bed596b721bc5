//! An OpenID provider that vouches for people who sign in at the web: the authorization code flow with PKCE, for any
//! provider that publishes its metadata. Must never follow a redirect, keep a token, take one that is not signed with a
//! published key by an algorithm of the list, or repeat in an error what must not be read.
//!
//! Source: OpenID Connect Core 1.0; OpenID Connect Discovery 1.0; RFC 7636; RFC 9207; RFC 9700, section 2.1.
//!
//! The crate `openidconnect` is not used: it links RSA and three curves a second time beside ring, among them the crate
//! `rsa` with its open advisory (RUSTSEC-2023-0071).

mod config;
mod jose;
mod judge;
mod provider;
#[cfg(test)]
mod tests;

pub use config::OidcConfig;
pub use provider::OidcProvider;
