//! Which servers there are. Must never hold a secret: a reference names it.

use custody_contracts::spiffe::SpiffeId;
use custody_domain::token::{Audience, Audiences, Issuer};
use custody_outbound::{Networks, is_here, written};
use custody_ports::secrets::is_reference;
use http::HeaderName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The most servers.
const SERVERS_MAX: usize = 64;
/// The longest wait for one answer that may be configured, in milliseconds.
pub const TIMEOUT_MS_MAX: u64 = 600_000;
/// The largest answer that may be configured, in bytes.
pub const RESULT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The longest audience, in bytes. Source: contract identity.v1, `Audience`.
const AUDIENCE_BYTES_MAX: usize = 512;
/// The longest id of a client, of a server and of a person at an authorization server, in bytes. Source: contract token.v1.
const ID_BYTES_MAX: usize = 255;
/// The longest scope that is asked for, in bytes.
const SCOPE_BYTES_MAX: usize = 1_024;
/// The most words of a command, and the most variables of each kind.
const WORDS_MAX: usize = 64;
/// The longest word of a command or value of a variable, in bytes.
const WORD_BYTES_MAX: usize = 8_192;
/// The longest name of a variable, in bytes.
const VARIABLE_BYTES_MAX: usize = 128;
/// The most persons of one table.
const USERS_MAX: usize = 10_000;

/// Servers by name.
pub type Servers = BTreeMap<String, ServerConfig>;

/// One upstream MCP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Where it takes messages over streamable HTTP, for example `https://mail.example/mcp`. This or a `command`.
    #[serde(default)]
    pub url: Option<String>,
    /// The private networks that the name in `url` may lead into, for example `["10.0.0.0/8"]`; public addresses it may
    /// always lead to, link-local ones and a cloud's metadata never.
    #[serde(default, skip_serializing_if = "Networks::is_empty")]
    pub private_networks: Networks,
    /// The program that speaks over its standard input and output (stdio), its path and its arguments, for example
    /// `["/usr/bin/python3", "/opt/files/server.py"]`. It runs on the gateway's host with the gateway's rights.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// The program's whole environment, but for `env_secrets`: nothing of the gateway's own is in it.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Variable, and which secret it holds; opened at each start.
    #[serde(default)]
    pub env_secrets: BTreeMap<String, String>,
    /// The folder in which the program works; made when it is not there.
    #[serde(default)]
    pub folder: Option<PathBuf>,
    /// Which secret it is asked with, for tools that name none of their own.
    #[serde(default)]
    pub cred_ref: Option<String>,
    /// The resource URI that its tokens are for. When it is given, each request for a dispatch carries a token of its own
    /// from the token service, for tools that name no secret of their own; the server verifies it through the JWKS.
    #[serde(default)]
    pub audience: Option<String>,
    /// The authorization server of others whose tokens it takes. Each request for a dispatch carries an access token that
    /// was given for an assertion of the token service (RFC 7523), and exchanged there for one of its own audience where that is
    /// named (RFC 8693), for tools that name no secret of their own.
    #[serde(default)]
    pub exchange: Option<ExchangeConfig>,
    /// The authorization server of others that gave an operator a refresh token. Each request carries an access token that
    /// was given for it (RFC 6749, section 6), the same for every dispatch, for tools that name no secret of their own.
    #[serde(default)]
    pub oauth: Option<OauthConfig>,
    /// The workload that it is. When it is given, the server must show this id's X.509-SVID in place of a certificate of the
    /// web, and the gateway shows its own (mutual TLS).
    #[serde(default)]
    pub spiffe_id: Option<SpiffeId>,
    /// The header that carries the secret; absent: `authorization`, where it is a bearer token.
    #[serde(default)]
    pub header: Option<String>,
    /// The longest wait for one answer, in milliseconds.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// The largest answer, in bytes.
    #[serde(default = "result_bytes")]
    pub result_bytes: u64,
}

/// An authorization server of others, and what the gateway is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExchangeConfig {
    /// Its issuer identifier, to which assertions are addressed, for example `https://id.example/realms/acme`.
    pub issuer: String,
    /// Its token endpoint. Never without TLS, but on this machine.
    pub token_url: String,
    /// The private networks that the name in `token_url` may lead into, for example `["10.0.0.0/8"]`; public addresses it may
    /// always lead to, link-local ones and a cloud's metadata never.
    #[serde(default, skip_serializing_if = "Networks::is_empty")]
    pub private_networks: Networks,
    /// Who the gateway is there.
    pub client_id: String,
    /// Which secret proves it (`client_secret_basic`).
    pub client_secret_ref: String,
    /// The scope that is asked for there; absent: what the client has by default.
    #[serde(default)]
    pub scope: Option<String>,
    /// How the server of tools is called there. When it is given, the token for the assertion is shown to nobody but exchanged
    /// for one of this audience alone (RFC 8693); `scope` is asked for both times.
    #[serde(default)]
    pub audience: Option<String>,
    /// Person, and their id there. Absent: everybody has the same id there. Who is not in it gets no assertion.
    #[serde(default)]
    pub users: Option<BTreeMap<String, String>>,
}

/// A token endpoint of others, and the refresh token that is shown to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OauthConfig {
    /// The endpoint. Never without TLS, but on this machine.
    pub token_url: String,
    /// The private networks that the name in `token_url` may lead into, for example `["10.0.0.0/8"]`; public addresses it may
    /// always lead to, link-local ones and a cloud's metadata never.
    #[serde(default, skip_serializing_if = "Networks::is_empty")]
    pub private_networks: Networks,
    /// Who the gateway is there.
    pub client_id: String,
    /// Which secret proves it (`client_secret_basic`); absent: a public client, which says its name alone.
    #[serde(default)]
    pub client_secret_ref: Option<String>,
    /// Which secret is the refresh token. A new one that the endpoint gives is kept under the same reference.
    pub refresh_ref: String,
    /// The scope that is asked for; absent: what the refresh token was given for.
    #[serde(default)]
    pub scope: Option<String>,
}

impl ServerConfig {
    /// The header that carries the secret.
    pub(super) fn header(&self) -> &str {
        self.header.as_deref().unwrap_or("authorization")
    }
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
pub fn audiences(servers: &Servers) -> Audiences {
    let of = |server: &ServerConfig| match (&server.audience, &server.exchange) {
        (Some(uri), _) => Some(Audience::Server(uri.clone())),
        (None, Some(at)) => Some(Audience::Issuer(Issuer { id: at.issuer.clone(), users: at.users.clone() })),
        (None, None) => None,
    };
    servers.iter().filter_map(|(name, server)| Some((name.clone(), of(server)?))).collect()
}

/// Whether the gateway needs a workload identity.
pub fn identified(servers: &Servers) -> bool {
    servers.values().any(|server| server.spiffe_id.is_some())
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
        let transport = match (&server.url, &server.command) {
            (Some(url), None) => over_http(url, server),
            (None, Some(command)) => over_stdio(command, server),
            _ => Err("it has either a url (streamable HTTP) or a command (stdio)".to_owned()),
        };
        if let Err(why) = transport {
            return bad(why);
        }
        if server.cred_ref.as_deref().is_some_and(|r| !is_reference(r)) {
            return bad("cred_ref is not of the form secret://name; a value is never written here".into());
        }
        if let Some(audience) = &server.audience {
            if !is_audience(audience) {
                return bad("audience is not a URI of the form https://host/path".into());
            }
            let others = servers.iter().filter(|(other, _)| *other != name);
            if others.into_iter().any(|(_, other)| other.audience.as_ref() == Some(audience)) {
                return bad("another server has this audience: a token must be of use at one alone".into());
            }
        }
        let shown =
            [server.cred_ref.is_some(), server.audience.is_some(), server.exchange.is_some(), server.oauth.is_some()];
        if shown.into_iter().filter(|one| *one).count() > 1 {
            return bad(
                "a server has a secret (cred_ref) or tokens (audience, exchange or oauth), not two of them".into()
            );
        }
        if let Some(at) = &server.exchange {
            if let Err(why) = wrong(at) {
                return bad(format!("exchange.{why}"));
            }
            let others = servers.iter().filter(|(other, _)| *other != name);
            let mut others = others.filter_map(|(_, other)| other.exchange.as_ref());
            if at.audience.is_some() && others.any(|other| other.issuer == at.issuer && other.audience == at.audience) {
                return bad("exchange.audience is another server's too: a token must be of use at one alone".into());
            }
        }
        if let Some(why) = server.oauth.as_ref().and_then(|at| wrong_oauth(at).err()) {
            return bad(format!("oauth.{why}"));
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

/// What is wrong with a server at an address.
fn over_http(url: &str, server: &ServerConfig) -> Result<(), String> {
    let fails = |why: &str| Err(why.to_owned());
    if !is_address(url) {
        return fails("url is not of the form https://host/path, without a user in it");
    }
    leads(url, &server.private_networks)?;
    if server.folder.is_some() || !server.env.is_empty() || !server.env_secrets.is_empty() {
        return fails("env, env_secrets and folder are for a command: nothing is started for a url");
    }
    if server.spiffe_id.is_some() && !url.starts_with("https://") {
        return fails("spiffe_id needs an https url: the identities are shown in TLS");
    }
    if HeaderName::from_bytes(server.header().as_bytes()).is_err() {
        return fails("header is no name of a header");
    }
    Ok(())
}

/// What is wrong with a server that is a process.
fn over_stdio(command: &[String], server: &ServerConfig) -> Result<(), String> {
    let fails = |why: String| Err(why);
    let of_http = [
        ("cred_ref", server.cred_ref.is_some(), "a process has no header; use env_secrets"),
        ("audience", server.audience.is_some(), "a process is shown no token: it cannot be somebody else's"),
        ("exchange", server.exchange.is_some(), "a process is shown no token: it cannot be somebody else's"),
        ("oauth", server.oauth.is_some(), "a process has no header; use env_secrets"),
        ("spiffe_id", server.spiffe_id.is_some(), "there is no TLS to a process"),
        ("private_networks", !server.private_networks.is_empty(), "there is no name to look up"),
        ("header", server.header.is_some(), "a process has no header; use env_secrets"),
    ];
    if let Some((name, _, why)) = of_http.iter().find(|(_, written, _)| *written) {
        return fails(format!("{name} is for a url: {why}"));
    }
    let is_word = |word: &String| word.len() <= WORD_BYTES_MAX && !word.contains('\0');
    if !command.first().is_some_and(|program| program.starts_with('/')) {
        return fails("command begins with the absolute path of a program: nothing is looked for in PATH".into());
    }
    if command.len() > WORDS_MAX || !command.iter().all(is_word) {
        return fails(format!("command has at most {WORDS_MAX} words of at most {WORD_BYTES_MAX} bytes, without NUL"));
    }
    if server.folder.as_ref().is_some_and(|folder| !folder.is_absolute()) {
        return fails("folder is not absolute".into());
    }
    let mut names = server.env.keys().chain(server.env_secrets.keys());
    if let Some(name) = names.find(|name| !is_variable(name)) {
        let name: String = name.chars().take(80).collect();
        return fails(format!("{name:?} is no name of a variable: letters, digits and _, not a digit first"));
    }
    if server.env.len() > WORDS_MAX || server.env_secrets.len() > WORDS_MAX {
        return fails(format!("env and env_secrets have at most {WORDS_MAX} variables each"));
    }
    if !server.env.values().all(is_word) {
        return fails(format!("env has values of at most {WORD_BYTES_MAX} bytes, without NUL"));
    }
    if let Some(name) = server.env_secrets.keys().find(|name| server.env.contains_key(*name)) {
        return fails(format!("{name} stands in env and in env_secrets"));
    }
    if let Some((name, _)) = server.env_secrets.iter().find(|(_, reference)| !is_reference(reference)) {
        return fails(format!("env_secrets.{name} is not of the form secret://name; a value is never written here"));
    }
    Ok(())
}

fn is_variable(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=VARIABLE_BYTES_MAX).contains(&name.len())
        && name.bytes().all(plain)
        && !name.as_bytes().first().is_some_and(u8::is_ascii_digit)
}

fn is_address(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['@', ' ', '\\', '#']))
}

fn is_audience(text: &str) -> bool {
    let plain = text.len() <= AUDIENCE_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic());
    plain && (text.starts_with("https://") || text.starts_with("http://"))
}

/// What is wrong with where an address leads.
fn leads(url: &str, inside: &Networks) -> Result<(), String> {
    written(url).map_err(|why| why.to_string())?;
    inside.check()
}

/// What is wrong with a client at a token endpoint of others.
fn wrong_client(token_url: &str, id: &str, secret: Option<&str>, scope: Option<&str>) -> Result<(), String> {
    let fails = |why: &str| Err(why.to_owned());
    if !is_address(token_url) || !(token_url.starts_with("https://") || is_here(token_url)) {
        return fails("token_url is not of the form https://host/path; without TLS only this machine's own");
    }
    if !is_id(id) {
        return fails("client_id is 1 to 255 visible characters");
    }
    if secret.is_some_and(|reference| !is_reference(reference)) {
        return fails("client_secret_ref is not of the form secret://name; a value is never written here");
    }
    let is_word = |b: u8| (b' '..=b'~').contains(&b) && b != b'"' && b != b'\\';
    if scope.is_some_and(|s| s.is_empty() || s.len() > SCOPE_BYTES_MAX || !s.bytes().all(is_word)) {
        return fails("scope is words with one space between them (RFC 6749, 3.3), at most 1024 characters");
    }
    Ok(())
}

/// What is wrong with a refresh token of others.
fn wrong_oauth(at: &OauthConfig) -> Result<(), String> {
    leads(&at.token_url, &at.private_networks)?;
    wrong_client(&at.token_url, &at.client_id, at.client_secret_ref.as_deref(), at.scope.as_deref())?;
    match is_reference(&at.refresh_ref) {
        true => Ok(()),
        false => Err("refresh_ref is not of the form secret://name; a value is never written here".to_owned()),
    }
}

fn is_id(id: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
}

/// What is wrong with an authorization server of others.
fn wrong(at: &ExchangeConfig) -> Result<(), String> {
    if !is_audience(&at.issuer) {
        return Err("issuer is not a URI of the form https://host/path".to_owned());
    }
    leads(&at.token_url, &at.private_networks)?;
    wrong_client(&at.token_url, &at.client_id, Some(&at.client_secret_ref), at.scope.as_deref())?;
    if let Some(audience) = &at.audience {
        if !is_id(audience) {
            return Err("audience is 1 to 255 visible characters".to_owned());
        }
        if *audience == at.client_id {
            return Err("audience is the gateway itself (client_id): it names the server of tools".to_owned());
        }
    }
    let users = at.users.iter().flatten();
    if let Some((person, _)) = users.clone().find(|(_, id)| !is_id(id)) {
        return Err(format!("users.{person} is not 1 to 255 visible characters"));
    }
    if users.count() > USERS_MAX {
        return Err(format!("users has at most {USERS_MAX} persons"));
    }
    Ok(())
}
