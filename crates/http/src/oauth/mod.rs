//! The token service's face: `POST /oauth2/token` (RFC 8693), the JWKS (RFC 7517) and the metadata (RFC 8414). For programs
//! that prove a gateway's key, and for servers of tools that verify what they are shown; no session and no cookie is
//! looked at. Holds no key: authority is asked. Must never answer a page of a browser, and never let an answer be kept.

mod form;
mod routes;

pub use form::{GRANT_TYPE, OauthError, TOKEN_TYPE, read};
pub(crate) use routes::router;
