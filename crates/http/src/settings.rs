//! What an operator decides about the HTTP surface, read at the edge and passed down. Must never hold a default that
//! opens a port to the network.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The heartbeat of the bridge, in milliseconds.
pub const HEARTBEAT_MS: u64 = 10_000;

/// Settings of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// Where it listens, as bound.
    pub listen: SocketAddr,
    /// Other origins under which people reach it, for example `https://custody.acme.test` behind a proxy that ends TLS.
    pub origins: Vec<String>,
    /// How long a session lasts.
    pub session: Duration,
    /// A folder with a built UI that is served instead of the embedded one: for those who work on it.
    pub ui: Option<PathBuf>,
    /// The state folder of the role: users and sessions.
    pub state: PathBuf,
    /// The launcher that chat messages are launched through.
    pub launcher: String,
    /// The server's version.
    pub version: String,
    /// Digest of the set of contracts that this server speaks.
    pub contracts: String,
    /// Time between heartbeats of the bridge.
    pub heartbeat: Duration,
}

impl HttpSettings {
    /// Whether people reach it over TLS: then the cookie is `Secure` and has the `__Host-` prefix.
    pub fn tls(&self) -> bool {
        !self.origins.is_empty() && self.origins.iter().all(|o| o.starts_with("https://"))
    }

    /// Every origin that counts as our own.
    pub fn own_origins(&self) -> Vec<String> {
        let port = self.listen.port();
        let mut own = vec![format!("http://{}", self.listen)];
        if self.listen.ip().is_loopback() || self.listen.ip().is_unspecified() {
            own.extend(["localhost", "127.0.0.1", "[::1]"].map(|host| format!("http://{host}:{port}")));
        }
        own.extend(self.origins.iter().cloned());
        own
    }

    /// Our origin under the name that a request was sent to, if it is one of ours.
    pub fn origin_of(&self, host: &str) -> Option<String> {
        let own = self.own_origins().into_iter();
        let named = own.filter(|o| o.split_once("://").is_some_and(|(_, name)| name.eq_ignore_ascii_case(host)));
        named.max_by_key(|origin| origin.starts_with("https://"))
    }
}
