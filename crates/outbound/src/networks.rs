//! The private networks that a name may lead into. Must never allow what is never connected to.

use crate::address::plain;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The most networks of one list.
const NETWORKS_MAX: usize = 64;

/// Networks as an operator writes them, for example `["10.0.0.0/8", "fd12:3456::/32"]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// All of them: for what an operator runs beside Custody, such as a model of the house.
    pub fn any() -> Networks {
        Networks(vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())])
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is wrong with them.
    ///
    /// # Errors
    /// That there are too many.
    pub fn check(&self) -> Result<(), String> {
        match self.0.len() <= NETWORKS_MAX {
            true => Ok(()),
            false => Err(format!("private_networks has at most {NETWORKS_MAX} networks")),
        }
    }

    pub(crate) fn hold(&self, ip: IpAddr) -> bool {
        let ip = plain(ip);
        self.0.iter().any(|network| network.contains(&ip))
    }
}
