//! The supervised nats-server: one child process per state folder, on one address that stays the same, restarted when
//! it dies, reloaded when launchers change, ended with us. Must never end a process that is not provably its own.

mod files;
mod private;
mod process;

pub use files::{BINARY_ENV, find_binary, verify_binary};
pub use private::PrivateServer;

use crate::connect::{ConnectError, ConnectOptions, Connection, Credentials, Seed};
use crate::wire::AskError;
use custody_streams::accounts::{
    Accounts, AccountsError, ServerConfig, SyncInterval, UserKey, inbox_prefix, server_text,
};
use custody_streams::guard::Finding;
use files::Files;
use process::{Command, Process};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// How long a server may take until it answers.
pub const START_MAX: Duration = Duration::from_secs(20);
/// How long a server may take to end before it is killed.
pub const STOP_MAX: Duration = Duration::from_secs(5);
/// How long a reload may take.
pub const RELOAD_MAX: Duration = Duration::from_secs(5);
/// Name of the system account's user in traces and inboxes.
const SYSTEM: &str = "system";

/// What to run.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The nats-server executable; see [`find_binary`].
    pub binary: PathBuf,
    /// Everything of this server lives here: configuration, log, pid, streams. Made if missing, with mode 0700.
    pub state_dir: PathBuf,
    /// Address to listen on, for example `127.0.0.1`.
    pub host: String,
    /// Port to listen on; `None` takes a free one and keeps it for this state folder.
    pub port: Option<u16>,
    /// Bytes that all streams may be limited to together.
    pub file_bytes_max: i64,
    /// Memory the server's runtime aims to stay below; `None` leaves it alone.
    pub memory_bytes: Option<u64>,
    /// When messages reach the disk.
    pub sync_interval: SyncInterval,
    /// Who may connect. The system account's user is added.
    pub accounts: Accounts,
}

/// What the child does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerState {
    /// It answers.
    Running {
        /// Its process id.
        pid: u32,
        /// How often it was started again since we started it.
        restarts: u32,
    },
    /// It died; it is started again after a pause.
    Down {
        /// How it ended and the last lines of its log.
        why: String,
        /// The pause.
        retry_ms: u64,
    },
    /// It was stopped.
    Stopped,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No executable.
    #[error("nats-server was not found: set {BINARY_ENV} to it (looked at: {looked})")]
    NotFound {
        /// Where it was looked for.
        looked: String,
    },
    /// It is not a version that we run on.
    #[error("{}: {}; {}", .0.code, .0.message, .0.hint)]
    Version(Box<Finding>),
    /// It cannot be executed.
    #[error("running {path}")]
    Execute {
        /// The executable.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file of its state folder.
    #[error("state file {path}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Another process of ours supervises a server in this folder.
    #[error("{0} is used by another running custody")]
    InUse(String),
    /// It did not get ready.
    #[error("nats-server did not start: {why}\n{log}")]
    NotReady {
        /// What happened.
        why: String,
        /// The last lines of its log.
        log: String,
    },
    /// The accounts cannot be written.
    #[error(transparent)]
    Accounts(#[from] AccountsError),
    /// The key of the system user.
    #[error("making a key for the server's system user: {0}")]
    Key(String),
    /// The system connection.
    #[error("asking the server about itself")]
    Connect(#[from] ConnectError),
    /// The reload was not carried out; the old configuration is in force.
    #[error("reloading the server: {0}")]
    Reload(String),
    /// The supervising task has ended.
    #[error("the server is stopped")]
    Stopped,
}

/// A running, supervised server. Clones share it; the child ends with [`Supervised::stop`] or with the last clone.
#[derive(Debug, Clone)]
pub struct Supervised {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    files: Files,
    config: ServerConfig,
    system: Seed,
    url: String,
    commands: mpsc::Sender<Command>,
    states: watch::Receiver<ServerState>,
    /// One reload at a time: each writes the whole configuration.
    reload: tokio::sync::Mutex<()>,
}

/// Ends a server that a killed supervisor left behind in this state folder; nothing happens when there is none.
///
/// # Errors
/// [`ServerError::InUse`] while a supervisor lives there, or when the server cannot be ended.
pub async fn end_leftover(folder: &std::path::Path) -> Result<(), ServerError> {
    Files::prepare(folder)?.end_leftover().await
}

impl Supervised {
    /// Starts a server and waits until it answers. A server that an earlier life of ours left behind in this state
    /// folder is ended first.
    ///
    /// # Errors
    /// See [`ServerError`]; after an error no child is left.
    pub async fn start(options: ServerOptions) -> Result<Supervised, ServerError> {
        verify_binary(&options.binary).await?;
        let files = Files::prepare(&options.state_dir)?;
        files.end_leftover().await?;
        let system = Seed::generate().map_err(|e| ServerError::Key(e.to_string()))?;
        let key = UserKey::parse(SYSTEM, &system.public_key())?;
        let mut config = ServerConfig {
            server_name: files.server_name(),
            host: options.host.clone(),
            port: 0,
            store_dir: files.store.display().to_string(),
            log_file: files.log.display().to_string(),
            file_bytes_max: options.file_bytes_max,
            sync_interval: options.sync_interval,
            accounts: Accounts { system: vec![key], ..options.accounts },
        };
        let process = Process::start(&options.binary, &files, &mut config, options.port, options.memory_bytes).await?;
        let url = format!("nats://{}:{}", config.host, config.port);
        let (commands, receiver) = mpsc::channel(1);
        let (state, states) = watch::channel(process.running(0));
        tokio::spawn(process.supervise(receiver, state));
        let reload = tokio::sync::Mutex::new(());
        Ok(Supervised { shared: Arc::new(Shared { files, config, system, url, commands, states, reload }) })
    }

    /// Where clients connect. The same for the life of this value and, without a fixed port, of the state folder.
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// What the child does, and what it will do.
    pub fn states(&self) -> watch::Receiver<ServerState> {
        self.shared.states.clone()
    }

    /// The child's process id, when it runs.
    pub fn pid(&self) -> Option<u32> {
        match *self.shared.states.borrow() {
            ServerState::Running { pid, .. } => Some(pid),
            ServerState::Down { .. } | ServerState::Stopped => None,
        }
    }

    /// A connection of the system account, for the guard's facts.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect_system(&self) -> Result<Connection, ConnectError> {
        let options = ConnectOptions {
            url: self.shared.url.clone(),
            name: ["custody ", SYSTEM].concat(),
            inbox_prefix: inbox_prefix(SYSTEM),
            credentials: Credentials::Seed(self.shared.system.clone()),
            wait: RELOAD_MAX,
        };
        Connection::open(&options).await
    }

    /// Puts other accounts in force. Connections of users that stay the same are kept; users that are gone are
    /// disconnected.
    ///
    /// # Errors
    /// [`ServerError::Reload`] when the server refused; the old accounts stay in force then.
    pub async fn reload(&self, accounts: Accounts) -> Result<(), ServerError> {
        let _one = self.shared.reload.lock().await;
        let system = self.shared.config.accounts.system.clone();
        let accounts = Accounts { system, ..accounts };
        let text = server_text(&ServerConfig { accounts, ..self.shared.config.clone() })?;
        let connection = self.connect_system().await?;
        let id = connection.client().server_info().server_id;
        let before = self.shared.files.replace_config(&text)?;
        let subject = ["$SYS.REQ.SERVER.", &id, ".RELOAD"].concat();
        let answer = connection.ask(&subject, None, "{}".into(), RELOAD_MAX).await;
        let result = match answer {
            Ok(answer) => reload_answer(&answer.payload),
            Err(error @ (AskError::TimedOut(_) | AskError::Lost(_))) => {
                // It may have been carried out: the new text stays, and the next start uses it.
                return Err(ServerError::Reload(error.to_string()));
            }
            Err(error) => Err(ServerError::Reload(error.to_string())),
        };
        if result.is_err()
            && let Some(before) = before
        {
            self.shared.files.replace_config(&before)?;
        }
        result
    }

    /// Ends the child: TERM, and KILL after [`STOP_MAX`].
    pub async fn stop(&self) {
        let (done, ended) = oneshot::channel();
        if self.shared.commands.send(Command::Stop(done)).await.is_ok() {
            // An ended task has ended the child.
            let _ = ended.await;
        }
    }
}

fn reload_answer(payload: &[u8]) -> Result<(), ServerError> {
    let answer: serde_json::Value = serde_json::from_slice(payload).map_err(|e| ServerError::Reload(e.to_string()))?;
    match answer.get("error").filter(|e| !e.is_null()) {
        None => Ok(()),
        Some(error) => {
            let text = error.get("description").and_then(serde_json::Value::as_str);
            Err(ServerError::Reload(text.map_or_else(|| error.to_string(), str::to_owned)))
        }
    }
}
