//! The lookup of a name, once for each connection, with only what may be connected to handed on. Must never hand on an
//! address that it did not judge.

use crate::address::{Reach, reach};
use crate::{Forbidden, Networks};
use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The most addresses of one name that are looked at.
const ADDRESSES_MAX: usize = 64;

/// Looks a name up: the system's own way, or a test's.
pub(crate) type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// Stands between a client and its connections.
pub(crate) struct Guard {
    here: bool,
    inside: Networks,
    look_up: Lookup,
}

impl Guard {
    /// `here`: the operator wrote an address of this machine's own.
    pub(crate) fn new(here: bool, inside: Networks) -> Guard {
        Guard::looking(here, inside, Arc::new(|name| Box::pin(by_the_system(name))))
    }

    pub(crate) fn looking(here: bool, inside: Networks, look_up: Lookup) -> Guard {
        Guard { here, inside, look_up }
    }
}

async fn by_the_system(name: String) -> io::Result<Vec<IpAddr>> {
    Ok(tokio::net::lookup_host((name, 0)).await?.map(|at| at.ip()).collect())
}

/// Of what a name leads to, what may be connected to.
pub(crate) fn allowed(name: &str, found: Vec<IpAddr>, here: bool, inside: &Networks) -> Result<Vec<IpAddr>, Forbidden> {
    let first = found.first().copied();
    let may = |ip: &IpAddr| match reach(*ip) {
        Reach::Public => true,
        Reach::Here => here || inside.hold(*ip),
        Reach::Private => inside.hold(*ip),
        Reach::Never => false,
    };
    let good: Vec<IpAddr> = found.into_iter().take(ADDRESSES_MAX).filter(may).collect();
    match first.filter(|_| good.is_empty()) {
        Some(found) => Err(Forbidden::Name { name: name.to_owned(), found }),
        None => Ok(good),
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let (name, here, inside) = (name.as_str().to_owned(), self.here, self.inside.clone());
        let found = (self.look_up)(name.clone());
        Box::pin(async move {
            let good = allowed(&name, found.await?, here, &inside).inspect_err(|why| {
                tracing::warn!(%why, "a name leads where nothing may be connected to");
            })?;
            let addresses: Addrs = Box::new(good.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}
