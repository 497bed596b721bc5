//! The command line as a client: which NATS, which user, and the three things it does there: ask, command, read.

use crate::config::Config;
use crate::error::{CliError, CliResult, exit};
use crate::home::Home;
use custody_contracts::events::DispatchAdmitted;
use custody_contracts::messages::ErrorDoc;
use custody_engine::sealed::{OpenedOutput, Opener, SealedBlobs};
use custody_nats::{
    AskError, ConnectError, ConnectOptions, Connection, Credentials, JetBlobs, JetLog, JetOutput, RequestClient,
};
use custody_ports::blobs::Blobs;
use custody_ports::subjects::SubjectKeys;
use custody_secrets::SubjectKeyFiles;
use custody_streams::accounts::{ServiceUser, inbox_prefix};
use custody_streams::subject::LogSubject;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// How long the first connect is tried.
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// Where the installation is and how to speak to it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The state folder.
    pub(crate) home: Home,
    /// The configuration.
    pub(crate) config: Config,
    /// `--timeout`.
    pub(crate) timeout: Duration,
}

impl Target {
    /// NATS's address.
    pub(crate) fn url(&self) -> CliResult<String> {
        if let Some(url) = &self.config.nats.url {
            return Ok(url.clone());
        }
        match self.home.up() {
            Some(up) => Ok(up.nats_url),
            None => Err(CliError::new(
                exit::UNREACHABLE,
                "NOT_RUNNING",
                format!("Custody does not run here (state folder {})", self.home.root().display()),
            )
            .hint("start it: custody up --detach; or name another state folder with --state")),
        }
    }

    /// The credentials of a service user.
    pub(crate) fn credentials(&self, user: ServiceUser) -> CliResult<Credentials> {
        match &self.config.nats.credentials {
            None => {
                let seed = self.home.existing_seed(&format!("users/{}.nk", user.as_str()))?;
                seed.map(Credentials::Seed).ok_or_else(|| no_credentials(user.as_str(), self.home.root()))
            }
            Some(folder) => {
                let creds = folder.join(format!("{}.creds", user.as_str()));
                if creds.is_file() {
                    return Ok(Credentials::File(creds));
                }
                let path = folder.join(format!("{}.nk", user.as_str()));
                let text = std::fs::read_to_string(&path).map_err(|_| no_credentials(user.as_str(), folder))?;
                let seed = custody_nats::Seed::parse(text.trim());
                seed.map(Credentials::Seed).map_err(|e| {
                    CliError::new(exit::NOT_SIGNED_IN, "SEED_UNREADABLE", format!("{}: {e}", path.display()))
                })
            }
        }
    }

    /// A connection as a service user.
    pub(crate) async fn connect(&self, user: ServiceUser) -> CliResult<Connection> {
        let options = ConnectOptions {
            url: self.url()?,
            name: format!("custody {}", user.as_str()),
            inbox_prefix: user.inbox_prefix(),
            credentials: self.credentials(user)?,
            wait: CONNECT_WAIT,
        };
        Connection::open(&options).await.map_err(connect_error)
    }

    /// A connection as a launcher whose seed is in the state folder.
    pub(crate) async fn connect_launcher(&self, launcher: &str) -> CliResult<(Connection, custody_nats::Seed)> {
        let seed = self.home.existing_seed(&format!("launchers/{launcher}.nk"))?;
        let seed = seed.ok_or_else(|| {
            CliError::new(
                exit::NOT_SIGNED_IN,
                "LAUNCHER_KEY_MISSING",
                format!("there is no key of launcher {launcher} in {}", self.home.path("launchers").display()),
            )
            .hint(format!("custody launcher register {launcher}"))
        })?;
        let options = ConnectOptions {
            url: self.url()?,
            name: format!("launcher {launcher}"),
            inbox_prefix: inbox_prefix(launcher),
            credentials: Credentials::Seed(seed.clone()),
            wait: CONNECT_WAIT,
        };
        Ok((Connection::open(&options).await.map_err(connect_error)?, seed))
    }

    /// The keys of persons.
    pub(crate) fn subject_keys(&self) -> Arc<dyn SubjectKeys> {
        let config = &self.config.subjects;
        let folder = config.folder.clone().unwrap_or_else(|| self.home.path("subjects"));
        let identity = config.identity.clone().unwrap_or_else(|| self.home.path("keys/subjects.age"));
        Arc::new(SubjectKeyFiles::at(folder, identity))
    }

    /// Blobs, opened with the keys of persons that are here.
    pub(crate) fn blobs(&self, connection: &Connection) -> Arc<dyn Blobs> {
        Arc::new(SealedBlobs::new(Arc::new(JetBlobs::new(connection)), self.subject_keys()))
    }

    /// Output, opened likewise.
    pub(crate) fn output(&self, connection: &Connection) -> OpenedOutput<JetOutput> {
        OpenedOutput::new(JetOutput::new(connection), self.blobs(connection))
    }

    /// An admission with the words that it was asked with.
    pub(crate) async fn opened(
        &self,
        connection: &Connection,
        mut admitted: DispatchAdmitted,
    ) -> CliResult<DispatchAdmitted> {
        let opener = Opener::new(self.subject_keys(), self.blobs(connection));
        let opened = opener.open_start(&mut admitted).await;
        opened.map_err(|e| CliError::new(exit::UNREACHABLE, "WORDS_UNAVAILABLE", e).hint("custody doctor"))?;
        if admitted.sealed.is_none() {
            return Ok(admitted);
        }
        let why = format!("what {} was asked cannot be opened: its person was erased", admitted.dispatch);
        let hint =
            "on a machine without the installation's keys of persons nothing can be: [subjects] in the configuration";
        Err(CliError::new(exit::NOT_FOUND, "ERASED", why).hint(hint))
    }

    /// The operator's session.
    pub(crate) async fn operator(&self) -> CliResult<Operator> {
        let connection = self.connect(ServiceUser::Operator).await?;
        Ok(Operator { requests: RequestClient::new(&connection), connection, timeout: self.timeout })
    }
}

/// An operator's connection.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    /// The connection.
    pub(crate) connection: Connection,
    requests: RequestClient,
    timeout: Duration,
}

impl Operator {
    /// Asks the projector.
    pub(crate) async fn query(&self, verb: &str, body: Value) -> CliResult<Value> {
        self.ask(
            LogSubject::query(verb).map_err(|e| CliError::new(exit::USAGE, "QUERY_INVALID", e))?,
            body,
            "projector",
        )
        .await
    }

    /// Commands the authority.
    pub(crate) async fn command(&self, verb: &str, body: Value) -> CliResult<Value> {
        self.ask(
            LogSubject::command(verb).map_err(|e| CliError::new(exit::USAGE, "COMMAND_INVALID", e))?,
            body,
            "authority",
        )
        .await
    }

    async fn ask(&self, subject: LogSubject, body: Value, role: &str) -> CliResult<Value> {
        let answer = self.requests.request(&subject.to_string(), body.to_string().into_bytes(), self.timeout).await;
        let bytes = answer.map_err(|error| {
            let (exit, code) = match error {
                AskError::NoResponders { .. } => (exit::UNREACHABLE, "ROLE_NOT_RUNNING"),
                AskError::TimedOut { .. } => (exit::TIMED_OUT, "TIMED_OUT"),
                AskError::Refused { .. } => (exit::NOT_SIGNED_IN, "PERMISSION_DENIED"),
                AskError::TooLarge { .. } => (exit::USAGE, "TOO_LARGE"),
                AskError::Lost { .. } => (exit::UNREACHABLE, "CONNECTION_LOST"),
            };
            CliError::new(exit, code, error).hint(format!("is the {role} role running? custody status"))
        })?;
        let value: Value = serde_json::from_slice(&bytes)?;
        match value.get("ok") {
            Some(ok) => Ok(ok.clone()),
            None => Err(CliError::from_doc(serde_json::from_value::<ErrorDoc>(value)?)),
        }
    }

    /// The ledger, to read.
    pub(crate) async fn log(&self) -> CliResult<JetLog> {
        JetLog::open(&self.connection)
            .await
            .map_err(|e| CliError::new(exit::UNREACHABLE, "LEDGER_UNAVAILABLE", e).hint("custody doctor"))
    }
}

/// One field of an answer as a type.
pub(crate) fn field<T: DeserializeOwned>(answer: &Value, name: &str) -> CliResult<T> {
    Ok(serde_json::from_value(answer.get(name).cloned().unwrap_or(Value::Null))?)
}

/// Rows of an answer.
pub(crate) fn rows(answer: &Value) -> Vec<Value> {
    answer.get("rows").and_then(Value::as_array).cloned().unwrap_or_default()
}

fn no_credentials(user: &str, folder: &std::path::Path) -> CliError {
    CliError::new(
        exit::NOT_SIGNED_IN,
        "NO_CREDENTIALS",
        format!("there are no credentials of user {user} in {}", folder.display()),
    )
    .hint("run `custody up` once, or name the state folder of an installation with --state")
}

fn connect_error(error: ConnectError) -> CliError {
    let (exit, code) = match &error {
        ConnectError::Credentials { .. } | ConnectError::Refused { .. } => (exit::NOT_SIGNED_IN, "CREDENTIALS_REFUSED"),
        ConnectError::Unreachable { .. } => (exit::UNREACHABLE, "NATS_UNREACHABLE"),
    };
    let source = std::error::Error::source(&error).map_or_else(String::new, |s| format!(": {s}"));
    CliError::new(exit, code, format!("{error}{source}"))
        .hint("custody status shows what runs; custody doctor what is wrong")
}
