//! A server of one's own with a key for everybody: what live tests and measurements start. Its folder is the caller's.

use super::{ServerError, ServerOptions, Supervised, find_binary};
use crate::connect::{ConnectError, ConnectOptions, Connection, Credentials, Seed};
use crate::reconcile::{ReconcileError, apply};
use custody_contracts::ids::LauncherId;
use custody_streams::accounts::{Accounts, Launcher, ServiceUser, SyncInterval, UserKey, inbox_prefix};
use custody_streams::spec::{StreamOptions, StreamSpec, all};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(10);

/// A private server and the seeds of everybody who may connect.
#[derive(Debug)]
pub struct PrivateServer {
    /// The server.
    pub server: Supervised,
    /// The seeds of the services.
    pub services: BTreeMap<ServiceUser, Seed>,
    /// The seeds of the launchers.
    pub launchers: BTreeMap<String, Seed>,
}

/// Why there is no private server.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// The server.
    #[error("private server")]
    Server(#[from] ServerError),
    /// The streams.
    #[error("streams of a private server")]
    Streams(#[from] ReconcileError),
    /// A connection.
    #[error("connecting to a private server")]
    Connect(#[from] ConnectError),
}

impl PrivateServer {
    /// Starts a server in `folder` with these launchers, without streams.
    ///
    /// # Errors
    /// [`ServerError`]; a missing executable says where it was looked for.
    pub async fn start(
        folder: &Path,
        launchers: &[LauncherId],
        sync_interval: SyncInterval,
    ) -> Result<PrivateServer, ServerError> {
        let key = || Seed::generate().map_err(|e| ServerError::Key(e.to_string()));
        let mut services = BTreeMap::new();
        for user in ServiceUser::ALL {
            services.insert(user, key()?);
        }
        let mut seeds = BTreeMap::new();
        for launcher in launchers {
            seeds.insert(launcher.as_str().to_owned(), key()?);
        }
        let options = ServerOptions {
            binary: find_binary()?,
            state_dir: folder.to_owned(),
            host: "127.0.0.1".to_owned(),
            port: None,
            file_bytes_max: 2 * StreamOptions::one_machine().bytes_max(),
            memory_bytes: None,
            sync_interval,
            accounts: accounts(&services, &seeds)?,
        };
        let server = Supervised::start(options).await?;
        Ok(PrivateServer { server, services, launchers: seeds })
    }

    /// The same with every stream of ours.
    ///
    /// # Errors
    /// [`PrivateError`].
    pub async fn with_streams(folder: &Path, launchers: &[LauncherId]) -> Result<PrivateServer, PrivateError> {
        let server = PrivateServer::start(folder, launchers, SyncInterval::Always).await?;
        server.apply(&all(&StreamOptions::one_machine())).await?;
        Ok(server)
    }

    /// Makes streams, as the administrator.
    ///
    /// # Errors
    /// [`PrivateError`].
    pub async fn apply(&self, specs: &[StreamSpec]) -> Result<(), PrivateError> {
        let admin = self.connect(ServiceUser::Admin).await?;
        apply(&admin, specs).await?;
        admin.close().await;
        Ok(())
    }

    /// The seed of the system account's user, who is told the server's settings.
    pub fn system(&self) -> Seed {
        self.server.shared.system.clone()
    }

    /// Connects as a service.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(&self, user: ServiceUser) -> Result<Connection, ConnectError> {
        self.open(user.as_str(), user.inbox_prefix(), self.services.get(&user)).await
    }

    /// Connects as a launcher.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect_launcher(&self, launcher: &str) -> Result<Connection, ConnectError> {
        self.open(launcher, inbox_prefix(launcher), self.launchers.get(launcher)).await
    }

    /// Adds a launcher by a reload.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn add_launcher(&mut self, launcher: &LauncherId) -> Result<(), ServerError> {
        let seed = Seed::generate().map_err(|e| ServerError::Key(e.to_string()))?;
        self.launchers.insert(launcher.as_str().to_owned(), seed);
        self.server.reload(accounts(&self.services, &self.launchers)?).await
    }

    /// Takes a launcher away by a reload.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn remove_launcher(&mut self, launcher: &LauncherId) -> Result<(), ServerError> {
        self.launchers.remove(launcher.as_str());
        self.server.reload(accounts(&self.services, &self.launchers)?).await
    }

    async fn open(&self, name: &str, inbox_prefix: String, seed: Option<&Seed>) -> Result<Connection, ConnectError> {
        let seed = seed.ok_or_else(|| ConnectError::Credentials {
            path: name.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
        let options = ConnectOptions {
            url: self.server.url().to_owned(),
            name: name.to_owned(),
            inbox_prefix,
            credentials: Credentials::Seed(seed.clone()),
            wait: WAIT,
        };
        Connection::open(&options).await
    }
}

fn accounts(
    services: &BTreeMap<ServiceUser, Seed>,
    launchers: &BTreeMap<String, Seed>,
) -> Result<Accounts, ServerError> {
    let mut accounts = Accounts::default();
    for (user, seed) in services {
        accounts.services.push((*user, UserKey::parse(user.as_str(), &seed.public_key())?));
    }
    for (launcher, seed) in launchers {
        let id = LauncherId::parse(launcher).map_err(|e| ServerError::Key(e.to_string()))?;
        accounts.launchers.push(Launcher { id, key: UserKey::parse(launcher, &seed.public_key())? });
    }
    Ok(accounts)
}
