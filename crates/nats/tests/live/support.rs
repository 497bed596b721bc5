//! What the live tests share: a private server in a folder that goes with the test, and waiting without sleeping
//! blindly.

use custody_contracts::events::Kind;
use custody_contracts::ids::LauncherId;
use custody_ledger::{Append, Entity, Expected};
use custody_nats::server::PrivateServer;
use custody_nats::{Connection, JetLog};
use custody_streams::accounts::ServiceUser;
use std::time::Duration;
use tempfile::TempDir;

/// The longest that anything in a test may take.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    pub(crate) private: PrivateServer,
    // Removed after the server has ended: fields drop in order.
    pub(crate) folder: TempDir,
}

pub(crate) fn launchers(names: &[&str]) -> Vec<LauncherId> {
    names.iter().map(|name| LauncherId::parse(name).unwrap()).collect()
}

pub(crate) async fn server() -> Server {
    server_with(&[]).await
}

pub(crate) async fn server_with(names: &[&str]) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let started = PrivateServer::with_streams(folder.path(), &launchers(names)).await;
    let private = started.unwrap_or_else(|error| {
        let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        panic!("live tests need a real nats-server: {error}: {why}")
    });
    Server { private, folder }
}

impl Server {
    pub(crate) async fn connect(&self, user: ServiceUser) -> Connection {
        self.private.connect(user).await.unwrap()
    }

    /// The ledger as the administrator, who may write every kind: what the conformance suite needs.
    pub(crate) async fn log(&self) -> JetLog {
        JetLog::open(&self.connect(ServiceUser::Admin).await).await.unwrap()
    }
}

pub(crate) fn entity(id: &str) -> Entity {
    Entity::new(Kind::Dispatch, id).unwrap()
}

pub(crate) fn first(id: &str, bytes: &[u8]) -> Append {
    append(id, Expected::NEW, "a", bytes)
}

pub(crate) fn append(id: &str, expected: Expected, message: &str, bytes: &[u8]) -> Append {
    Append { entity: entity(id), expected, message_id: format!("{id}/{message}"), bytes: bytes.to_vec() }
}

/// Waits for a future, but not for ever.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LONG, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} took longer than {LONG:?}"),
    }
}
