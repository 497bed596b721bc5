//! Which servers there are. Must never hold a secret: a reference names it.

use custody_ports::secrets::is_reference;
use http::HeaderName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most servers.
const SERVERS_MAX: usize = 64;
/// The longest wait for one answer that may be configured, in milliseconds.
pub const TIMEOUT_MS_MAX: u64 = 600_000;
/// The largest answer that may be configured, in bytes.
pub const RESULT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The longest audience, in bytes. Source: contract identity.v1, `Audience`.
const AUDIENCE_BYTES_MAX: usize = 512;

/// Servers by name.
pub type Servers = BTreeMap<String, ServerConfig>;

/// One upstream MCP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Where it takes messages, for example `https://mail.example/mcp`.
    pub url: String,
    /// Which secret it is asked with, for tools that name none of their own.
    #[serde(default)]
    pub cred_ref: Option<String>,
    /// The resource URI that its tokens are for. When it is given, each request for a dispatch carries a token of its own
    /// from the token service, for tools that name no secret of their own; the server verifies it through the JWKS.
    #[serde(default)]
    pub audience: Option<String>,
    /// The header that carries the secret; in `authorization` it is a bearer token.
    #[serde(default = "authorization")]
    pub header: String,
    /// The longest wait for one answer, in milliseconds.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// The largest answer, in bytes.
    #[serde(default = "result_bytes")]
    pub result_bytes: u64,
}

fn authorization() -> String {
    "authorization".to_owned()
}

fn timeout_ms() -> u64 {
    60_000
}

fn result_bytes() -> u64 {
    1_048_576
}

/// Why servers cannot be used as they are configured.
#[derive(Debug, thiserror::Error)]
pub enum ServersError {
    /// Something is written that cannot be.
    #[error("tools.servers.{name}: {why}")]
    Bad {
        /// The server.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// No HTTP client can be made.
    #[error("no client for upstream servers: {0}")]
    Client(#[from] reqwest::Error),
}

/// Server and audience, for the servers that take tokens.
pub fn audiences(servers: &Servers) -> BTreeMap<String, String> {
    servers.iter().filter_map(|(name, server)| Some((name.clone(), server.audience.clone()?))).collect()
}

/// Checks servers.
///
/// # Errors
/// [`ServersError::Bad`] for the first one that cannot be used.
pub fn check(servers: &Servers) -> Result<(), ServersError> {
    if servers.len() > SERVERS_MAX {
        let name = servers.keys().nth(SERVERS_MAX).cloned().unwrap_or_default();
        return Err(ServersError::Bad { name, why: format!("{SERVERS_MAX} servers are the most") });
    }
    for (name, server) in servers {
        let bad = |why: String| Err(ServersError::Bad { name: name.clone(), why });
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        // Two underscores part the server's name from its tool's.
        if name.is_empty() || name.len() > 32 || !name.bytes().all(plain) || name.contains("__") {
            return bad("a name is 1 to 32 of [a-z0-9_-], without two underscores in a row".into());
        }
        let rest = server.url.strip_prefix("https://").or_else(|| server.url.strip_prefix("http://"));
        if !rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['@', ' ', '\\', '#'])) {
            return bad("url is not of the form https://host/path, without a user in it".into());
        }
        if server.cred_ref.as_deref().is_some_and(|r| !is_reference(r)) {
            return bad("cred_ref is not of the form secret://name; a value is never written here".into());
        }
        if let Some(audience) = &server.audience {
            let plain = audience.len() <= AUDIENCE_BYTES_MAX && audience.bytes().all(|b| b.is_ascii_graphic());
            if !plain || !(audience.starts_with("https://") || audience.starts_with("http://")) {
                return bad("audience is not a URI of the form https://host/path".into());
            }
            if server.cred_ref.is_some() {
                return bad("a server has a secret (cred_ref) or tokens (audience), not both".into());
            }
            let others = servers.iter().filter(|(other, _)| *other != name);
            if others.into_iter().any(|(_, other)| other.audience.as_ref() == Some(audience)) {
                return bad("another server has this audience: a token must be of use at one alone".into());
            }
        }
        if HeaderName::from_bytes(server.header.as_bytes()).is_err() {
            return bad("header is no name of a header".into());
        }
        if !(1..=TIMEOUT_MS_MAX).contains(&server.timeout_ms) {
            return bad(format!("timeout_ms lies between 1 and {TIMEOUT_MS_MAX}"));
        }
        if !(1..=RESULT_BYTES_MAX).contains(&server.result_bytes) {
            return bad(format!("result_bytes lies between 1 and {RESULT_BYTES_MAX}"));
        }
    }
    Ok(())
}
