//! The HTTP client that servers of tools and authorization servers are asked with. Must never follow a redirect, send
//! anything twice by itself, or lead where its operator has not said.

use custody_outbound::Networks;
use std::time::Duration;

/// The longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// A client for one address and nothing else, by the web's authorities where there is TLS.
pub(super) fn guarded(url: &str, inside: &Networks, timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    builder(url, inside, timeout).build()
}

/// The beginning of a client for one address.
pub(super) fn builder(url: &str, inside: &Networks, timeout: Duration) -> reqwest::ClientBuilder {
    custody_outbound::builder(url, inside).connect_timeout(CONNECT_MAX.min(timeout))
}
