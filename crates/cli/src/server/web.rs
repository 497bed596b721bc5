//! What the api role gets: its own connection, the web chat's launcher, the listening socket, its users. Must never get a
//! role's signing key.

use crate::client::Target;
use crate::commands::run::own_subject;
use crate::error::{CliError, CliResult, exit};
use crate::server::clock::{SystemClock, now_ms};
use custody_contracts::canonical::canonical;
use custody_contracts::ids::{DispatchId, LauncherId};
use custody_contracts::launch;
use custody_contracts::unit::Invocation;
use custody_domain::admission::dispatch_id;
use custody_engine::sealed::{OpenedLog, OpenedOutput, OpenedPages, Opener};
use custody_http::api::{Evidence, Parts, Probe};
use custody_http::auth::users::{KEY_PREFIX, User, Users};
use custody_http::auth::{Auth, hash};
use custody_http::{HttpSettings, settings};
use custody_nats::{AskError, Connection, JetPages, RequestClient};
use custody_oidc::OidcProvider;
use custody_ports::asks::{AskFailed, Asks, LaunchFailed, Launched, Launcher};
use custody_ports::pages::OutputPages;
use custody_ports::sign_in::IdentityProvider;
use custody_streams::subject::LogSubject;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long a query or a command may take.
const ASK_WAIT: Duration = Duration::from_secs(8);
/// How long a question about a workspace may take: its packs may have to be fetched and opened first.
const CONTENT_WAIT: Duration = Duration::from_secs(20);
/// How long a launch waits to be stored.
const LAUNCH_WAIT: Duration = Duration::from_secs(8);

/// Queries and commands as the user of a connection.
pub(crate) struct NatsAsks(RequestClient);

impl NatsAsks {
    /// As this connection's user, and as far as it may.
    pub(crate) fn new(connection: &Connection) -> NatsAsks {
        NatsAsks(RequestClient::new(connection))
    }
}

impl Asks for NatsAsks {
    fn ask<'a>(&'a self, subject: &'a str, body: Vec<u8>) -> BoxFuture<'a, Result<Vec<u8>, AskFailed>> {
        Box::pin(async move {
            let wait = if subject.starts_with("content.") { CONTENT_WAIT } else { ASK_WAIT };
            self.0.request(subject, body, wait).await.map_err(|error| match error {
                AskError::NoResponders { .. } => AskFailed::NobodyThere(subject.to_owned()),
                AskError::TimedOut { .. } => AskFailed::TimedOut(subject.to_owned()),
                other @ (AskError::Refused { .. } | AskError::TooLarge { .. } | AskError::Lost { .. }) => {
                    AskFailed::Lost(other.to_string())
                }
            })
        })
    }
}

/// A launcher of ours: a connection of its own in the launchers' account, and the key that signs its messages.
pub(crate) struct NatsLauncher {
    id: LauncherId,
    connection: Connection,
    key: nkeys::KeyPair,
}

impl NatsLauncher {
    /// A launcher whose seed is in the state folder.
    pub(crate) async fn connect(target: &Target, id: &str) -> CliResult<NatsLauncher> {
        let bad = |e: &dyn std::fmt::Display| CliError::new(exit::FAILED, "LAUNCHER", e);
        let parsed = LauncherId::parse(id).map_err(|e| CliError::new(exit::USAGE, "CONFIG_INVALID", e))?;
        let (connection, seed) = target.connect_launcher(id).await?;
        let key = nkeys::KeyPair::from_seed(seed.expose()).map_err(|e| bad(&e))?;
        Ok(NatsLauncher { id: parsed, connection, key })
    }

    fn message(&self, id: &str, unit: &Invocation) -> Result<Vec<u8>, LaunchFailed> {
        let bug = |e: &dyn std::fmt::Display| LaunchFailed::Unavailable(e.to_string());
        let mut event = launch::unsigned(id, self.id.as_str(), "", unit).map_err(|e| bug(&e))?;
        // Sent again it must be the same, byte for byte: no clock may be in it.
        event.remove("time");
        custody_trust::launch::sign(&mut event, &self.key).map_err(|e| bug(&e))?;
        let bytes = canonical(&Value::Object(event)).into_bytes();
        if bytes.len() > launch::BYTES_MAX {
            return Err(LaunchFailed::TooLarge(bytes.len()));
        }
        Ok(bytes)
    }
}

impl Launcher for NatsLauncher {
    fn launch<'a>(&'a self, id: &'a str, unit: &'a Invocation) -> BoxFuture<'a, Result<Launched, LaunchFailed>> {
        Box::pin(async move {
            let bytes = self.message(id, unit)?;
            let dispatch: DispatchId = dispatch_id(&self.id, Some(id), &bytes);
            let refused_as: DispatchId = dispatch_id(&self.id, None, &bytes);
            let lost = |e: &dyn std::fmt::Display| LaunchFailed::Unavailable(e.to_string());
            let subject = LogSubject::launch(self.id.as_str(), "dispatch").map_err(|e| lost(&e))?.to_string();
            let asked = self.connection.client().request(subject, bytes.into());
            let ack = tokio::time::timeout(LAUNCH_WAIT, asked).await;
            let ack = ack.map_err(|_| lost(&"the launch was not acknowledged in time"))?.map_err(|e| lost(&e))?;
            let ack: Value = serde_json::from_slice(&ack.payload).map_err(|e| lost(&e))?;
            match (ack.get("error"), ack.get("seq").and_then(Value::as_u64)) {
                (None, Some(seq)) if seq > 0 => Ok(Launched { seq, dispatch, refused_as }),
                (Some(error), _) => Err(LaunchFailed::Unavailable(format!("the launch was not stored: {error}"))),
                (None, _) => Err(lost(&"an acknowledgement without a place")),
            }
        })
    }
}

/// The role's folder inside the state folder.
pub(crate) fn folder(target: &Target) -> PathBuf {
    target.home.path("api")
}

/// Makes the first user, an administrator, and gives the key, once. `None` when there is somebody already.
pub(crate) fn first_user(target: &Target) -> CliResult<Option<(String, String)>> {
    let folder = folder(target);
    let mut users = Users::read(&folder).map_err(unreadable)?;
    if !users.is_empty() {
        return Ok(None);
    }
    let subject = own_subject();
    let key = new_key()?;
    let user = User {
        subject: subject.clone(),
        name: subject.trim_start_matches("u_").to_owned(),
        admin: true,
        key_hash: hash(&key),
        disabled: false,
        linked: None,
        added_at: now_ms(),
    };
    users.put(user).map_err(|e| CliError::new(exit::USAGE, "TOO_MANY_USERS", e))?;
    users.write(&folder)?;
    Ok(Some((subject, key)))
}

/// A key of a user: printed once, stored as a hash.
pub(crate) fn new_key() -> CliResult<String> {
    custody_http::auth::secret(KEY_PREFIX).map_err(|p| CliError::new(exit::FAILED, &p.code, &p.detail))
}

/// Users that cannot be read let nobody in.
pub(crate) fn unreadable(error: std::io::Error) -> CliError {
    CliError::new(exit::FAILED, "USERS_UNREADABLE", format!("the file of users: {error}"))
}

/// The listening socket. Port 0 takes a free one and keeps it, as long as it is free at the next start.
pub(crate) async fn listen(target: &Target) -> CliResult<TcpListener> {
    let wanted = target.config.http.listen;
    let kept = folder(target).join("port");
    let in_use = |e: std::io::Error| {
        CliError::new(exit::CONFLICT, "HTTP_NOT_LISTENING", format!("{wanted}: {e}"))
            .hint("[http] listen in the configuration")
    };
    if wanted.port() != 0 {
        return TcpListener::bind(wanted).await.map_err(in_use);
    }
    let before = std::fs::read_to_string(&kept).ok().and_then(|t| t.trim().parse::<u16>().ok());
    if let Some(port) = before
        && let Ok(listener) = TcpListener::bind(SocketAddr::new(wanted.ip(), port)).await
    {
        return Ok(listener);
    }
    let listener = TcpListener::bind(wanted).await.map_err(in_use)?;
    std::fs::write(kept, listener.local_addr()?.port().to_string())?;
    Ok(listener)
}

/// Where people reach it: the configured origin, or the address.
pub(crate) fn url(target: &Target, listener: &TcpListener) -> CliResult<String> {
    Ok(match target.config.http.origins.first() {
        Some(origin) => origin.clone(),
        None => format!("http://{}", listener.local_addr()?),
    })
}

/// Everything the role is given.
pub(crate) async fn parts(
    target: &Target,
    connection: &Connection,
    log: Arc<dyn custody_ledger::Log>,
    opener: Opener,
    listen: SocketAddr,
    cancel: CancellationToken,
) -> CliResult<Parts> {
    let http = &target.config.http;
    let bad = |e: &dyn std::fmt::Display| CliError::new(exit::FAILED, "API", e);
    let launcher = NatsLauncher::connect(target, &http.launcher).await?;
    let settings = HttpSettings {
        listen,
        origins: http.origins.clone(),
        session: Duration::from_secs(http.session_s),
        ui: http.ui.clone(),
        state: folder(target),
        launcher: http.launcher.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        contracts: crate::commands::contract::set_digest(),
        heartbeat: Duration::from_millis(settings::HEARTBEAT_MS),
    };
    let clock = Arc::new(SystemClock);
    let auth = Auth::open(folder(target), clock.clone(), settings.session).map_err(unreadable)?;
    let provider = match &http.oidc {
        None => None,
        Some(oidc) => {
            let provider =
                OidcProvider::new(oidc, Arc::new(target.home.secrets()), clock.clone()).map_err(|e| bad(&e))?;
            Some(Arc::new(provider) as Arc<dyn IdentityProvider>)
        }
    };
    let pages = Arc::new(JetPages::new(connection));
    let evidence = {
        let target = target.clone();
        let root_key = crate::commands::audit::pinned(&target);
        let kept = Arc::new(move || crate::commands::audit::kept_heads(&target));
        Evidence { log: log.clone(), pages: pages.clone(), kept, root_key }
    };
    Ok(Parts {
        settings,
        auth,
        provider,
        log: Arc::new(OpenedLog::new(log, opener.clone())),
        pages: Arc::new(OpenedPages::new(pages.clone(), opener)),
        output: Arc::new(OpenedOutput::new(pages as Arc<dyn OutputPages>, target.blobs(connection))),
        blobs: target.blobs(connection),
        asks: Arc::new(NatsAsks::new(connection)),
        launcher: Arc::new(launcher),
        clock,
        runners: custody_engine::runners::Runners::read(&target.config.runners_folder()).map_err(|e| bad(&e))?,
        evidence,
        probe: probe(target, connection),
        cancel,
    })
}

/// What the machine and NATS say of themselves.
fn probe(target: &Target, connection: &Connection) -> Probe {
    let (target, connection) = (target.clone(), connection.clone());
    Arc::new(move || {
        let (target, connection) = (target.clone(), connection.clone());
        Box::pin(async move {
            let free = crate::server::disk::free(target.home.root());
            let nats = json!({
                "connected": connection.client().connection_state() == async_nats::connection::State::Connected,
                "server": connection.client().server_info().version,
            });
            let model = target.home.up().map(|up| up.model);
            json!({ "nats": nats, "disk_free_bytes": free, "model": model })
        })
    })
}
