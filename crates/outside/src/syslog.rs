//! A syslog, RFC 5424: over a Unix datagram socket, or UDP (RFC 5426). A datagram that was taken is not one that was
//! stored: who needs to know reads it there. Must never send a line break inside a message.

use crate::line;
use custody_contracts::events::CheckpointSigned;
use custody_ports::clock::Clock;
use custody_ports::outside::{Outside, OutsideError};
use futures::future::BoxFuture;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::{UdpSocket, UnixDatagram};

/// Facility 13 (log audit), severity 5 (notice). Source: RFC 5424 section 6.2.1.
const PRIORITY: u8 = 13 * 8 + 5;

/// Where a syslog listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `unix:/dev/log`
    Unix(PathBuf),
    /// `udp:192.0.2.7:514`
    Udp(SocketAddr),
}

/// A text that is no address of a syslog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadAddress(String);

impl std::error::Error for BadAddress {}

impl std::fmt::Display for BadAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} is no syslog: unix:/absolute/path or udp:ADDRESS:PORT", self.0)
    }
}

impl std::str::FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Address, BadAddress> {
        let bad = || BadAddress(text.chars().take(120).collect());
        match text.split_once(':') {
            Some(("unix", path)) if path.starts_with('/') => Ok(Address::Unix(path.into())),
            Some(("udp", address)) => address.parse().map(Address::Udp).map_err(|_| bad()),
            _ => Err(bad()),
        }
    }
}

/// A syslog that gets every checkpoint.
pub struct SyslogCopy {
    address: Address,
    name: String,
    host: String,
    clock: Arc<dyn Clock>,
}

impl SyslogCopy {
    /// A syslog; `host` is what messages call this machine.
    pub fn new(address: Address, host: &str, clock: Arc<dyn Clock>) -> SyslogCopy {
        let name = match &address {
            Address::Unix(path) => format!("syslog unix:{}", path.display()),
            Address::Udp(to) => format!("syslog udp:{to}"),
        };
        let clean: String = host.chars().filter(char::is_ascii_graphic).take(255).collect();
        let host = if clean.is_empty() { "-".to_owned() } else { clean };
        SyslogCopy { address, name, host, clock }
    }

    fn message(&self, signed: &CheckpointSigned) -> String {
        let time = self.clock.now().rfc3339();
        format!("<{PRIORITY}>1 {time} {} custody {} checkpoint - {}", self.host, std::process::id(), line(signed))
    }

    async fn send(&self, message: &[u8]) -> std::io::Result<()> {
        let sent = match &self.address {
            Address::Unix(path) => UnixDatagram::unbound()?.send_to(message, path).await?,
            Address::Udp(to) => {
                let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
                UdpSocket::bind(any).await?.send_to(message, to).await?
            }
        };
        if sent == message.len() { Ok(()) } else { Err(std::io::Error::other("a part of the message was sent")) }
    }
}

impl Outside for SyslogCopy {
    fn name(&self) -> &str {
        &self.name
    }
    fn every(&self) -> u64 {
        1
    }
    fn put<'a>(&'a self, signed: &'a CheckpointSigned) -> BoxFuture<'a, Result<(), OutsideError>> {
        Box::pin(async move {
            self.send(self.message(signed).as_bytes()).await.map_err(|e| OutsideError::Unavailable(e.to_string()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint;
    use custody_testkit::fakes::ManualClock;
    use rstest::rstest;

    const TIME: u64 = 1_795_000_000_123;

    fn place(address: Address, host: &str) -> SyslogCopy {
        SyslogCopy::new(address, host, Arc::new(ManualClock::at(TIME)))
    }

    /// RFC 5424 section 6: PRI, version, and six fields before the message.
    fn read(datagram: &[u8]) -> serde_json::Value {
        let text = std::str::from_utf8(datagram).unwrap();
        assert!(!text.contains('\n'));
        let fields: Vec<&str> = text.splitn(8, ' ').collect();
        assert_eq!(fields[0], "<109>1");
        assert!(fields[1].starts_with("2026-11-18T") && fields[1].ends_with('Z'), "{}", fields[1]);
        assert_eq!((fields[2], fields[3], fields[5], fields[6]), ("box-1", "custody", "checkpoint", "-"));
        serde_json::from_str(fields[7]).unwrap()
    }

    #[tokio::test]
    async fn a_unix_syslog_gets_each_checkpoint_as_one_message() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let place = place(Address::Unix(path.clone()), "box-1");
        place.put(&checkpoint(7)).await.unwrap();
        let mut buffer = vec![0; 8_192];
        let read_bytes = daemon.recv(&mut buffer).await.unwrap();
        let message = read(&buffer[..read_bytes]);
        assert_eq!(message["note"], checkpoint(7).note);
        // The path goes, not the socket alone: a program that another test starts holds a copy of it for a moment.
        drop(daemon);
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(place.put(&checkpoint(8)).await, Err(OutsideError::Unavailable(_))));
    }

    #[tokio::test]
    async fn a_udp_syslog_gets_each_checkpoint_as_one_datagram() {
        let daemon = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let place = place(Address::Udp(daemon.local_addr().unwrap()), "box-1");
        place.put(&checkpoint(7)).await.unwrap();
        let mut buffer = vec![0; 8_192];
        let read_bytes = daemon.recv(&mut buffer).await.unwrap();
        assert_eq!(read(&buffer[..read_bytes])["size"], 7);
    }

    #[test]
    fn a_host_name_is_one_word() {
        let message = place("udp:127.0.0.1:1".parse().unwrap(), "a b\n<1>").message(&checkpoint(1));
        assert_eq!(message.split(' ').nth(2), Some("ab<1>"));
        let message = place("udp:127.0.0.1:1".parse().unwrap(), "").message(&checkpoint(1));
        assert_eq!(message.split(' ').nth(2), Some("-"));
    }

    #[rstest]
    #[case("unix:/dev/log", true)]
    #[case("udp:127.0.0.1:514", true)]
    #[case("udp:[::1]:514", true)]
    #[case("unix:dev/log", false)]
    #[case("udp:loghost:514", false)]
    #[case("udp:127.0.0.1", false)]
    #[case("tcp:127.0.0.1:514", false)]
    #[case("", false)]
    fn an_address_is_read(#[case] text: &str, #[case] good: bool) {
        assert_eq!(text.parse::<Address>().is_ok(), good);
    }
}
