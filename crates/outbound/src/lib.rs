//! HTTP clients for what others run: servers of tools, authorization servers, identity providers, models, witnesses. A
//! client follows no redirect, sends nothing twice by itself, and connects to no address that its operator has not said it
//! may lead to. What is judged is the address that is connected to, after the name was looked up, so no name can lead
//! somewhere else in between. Must never look a name up twice for one connection.
//!
//! Through a proxy of the environment it is the proxy's name that is looked up here: where others lead is then the proxy's
//! to decide.

mod address;
mod networks;
mod resolver;
#[cfg(test)]
mod tests;

pub use address::{Reach, reach};
pub use networks::Networks;

use reqwest::{Client, ClientBuilder, Url, redirect, retry};
use resolver::Guard;
use std::net::IpAddr;

/// Why nothing is connected to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// Nothing that anybody asks has such an address.
    #[error("{0} is link-local, a cloud's metadata or of no use, and is never connected to")]
    Never(IpAddr),
    /// A document of others names it.
    #[error("{0} is an address of this machine or of a private network, which only an operator may name")]
    Inside(IpAddr),
    /// All that a name leads to.
    #[error("{name} leads to {found}; private_networks says into which private networks it may lead")]
    Name {
        /// The name.
        name: String,
        /// The first address that was found.
        found: IpAddr,
    },
}

/// Begins a client for one address that an operator wrote. Its name may lead to public addresses, and into `inside`; to
/// this machine where it says `localhost`. An address that is written as one is taken as it is: see [`written`].
///
/// HTTP/1.1; no connection is waited for but as the caller says. Without TLS no authorities are looked for, so that a
/// machine without any can ask.
pub fn builder(url: &str, inside: &Networks) -> ClientBuilder {
    led_by(url, Guard::new(is_here(url), inside.clone()))
}

fn led_by(url: &str, guard: Guard) -> ClientBuilder {
    // Two parts of one process may both do this; the second finds it done, and both want the same provider.
    let _done = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .dns_resolver(guard)
        .redirect(redirect::Policy::none())
        .http1_only()
        .retry(retry::never())
        .referer(false)
        .user_agent(concat!("custody/", env!("CARGO_PKG_VERSION")));
    if !url.starts_with("https://") {
        builder = builder.tls_certs_only([]);
    }
    if is_here(url) {
        builder = builder.no_proxy();
    }
    builder
}

/// Whether a URL is of this machine's own loopback.
pub fn is_here(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    literal(&url).map_or_else(|| url.host_str() == Some("localhost"), |ip| reach(ip) == Reach::Here)
}

/// Whether an address that an operator wrote may be asked. A name is judged each time it is looked up.
///
/// # Errors
/// [`Forbidden::Never`], however the address is spelled.
pub fn written(url: &str) -> Result<(), Forbidden> {
    match Url::parse(url).ok().as_ref().and_then(literal) {
        Some(ip) if reach(ip) == Reach::Never => Err(Forbidden::Never(ip)),
        _ => Ok(()),
    }
}

/// Whether an address that a document of others names may be asked: `by` is where that document came from. A name is
/// judged when it is looked up, by the client that was made for `by`.
///
/// # Errors
/// [`Forbidden`] for an address that is not public, unless `inside` holds it or the document came from this machine's own.
pub fn told(url: &Url, by: &str, inside: &Networks) -> Result<(), Forbidden> {
    let Some(ip) = literal(url) else { return Ok(()) };
    match reach(ip) {
        Reach::Never => Err(Forbidden::Never(ip)),
        Reach::Here if is_here(by) => Ok(()),
        Reach::Here | Reach::Private if !inside.hold(ip) => Err(Forbidden::Inside(ip)),
        Reach::Here | Reach::Private | Reach::Public => Ok(()),
    }
}

/// The address that a URL is written with. Decimal, octal, hexadecimal and shortened forms are the same address by then
/// (WHATWG URL, "IPv4 parser").
fn literal(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_matches(['[', ']']).parse().ok()
}
