//! The HTTP client that servers of tools and authorization servers are asked with. Must never follow a redirect or send
//! anything twice by itself.

use std::time::Duration;

/// The longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// A client for one address and nothing else, by the web's authorities where there is TLS.
pub(super) fn guarded(url: &str, timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    builder(url, timeout).build()
}

/// The beginning of a client for one address.
pub(super) fn builder(url: &str, timeout: Duration) -> reqwest::ClientBuilder {
    // Two parts of one process may both do this; the second finds it done, and both want the same provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_MAX.min(timeout))
        .http1_only()
        .retry(reqwest::retry::never())
        .referer(false)
        .user_agent(concat!("custody/", env!("CARGO_PKG_VERSION")));
    if !url.starts_with("https://") {
        builder = builder.tls_certs_only([]);
    }
    if is_local(url) {
        builder = builder.no_proxy();
    }
    builder
}

/// Whether an address is this machine's own.
pub(super) fn is_local(url: &str) -> bool {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let host = rest.split(['/', ':', '?']).next().unwrap_or_default();
    matches!(host, "localhost" | "127.0.0.1")
}
