//! Each role with its own connection, its own key and its own adapters. A role gets nothing that is another's: only
//! `runtime` sees the container engine, only `gateway` the model's key, only `authority` the key that signs decisions.

mod authority;
mod gateway;
mod runtime;

use crate::client::Target;
use crate::error::{CliError, CliResult, exit};
use crate::home::boot_id;
use crate::server::{telemetry, web};
use custody_contracts::events::{KeyIntroduced, Kind, Role};
use custody_engine::authority::commands::Commands;
use custody_engine::authority::launchers::Launchers;
use custody_engine::checked::CheckedLog;
use custody_engine::inference::Models;
use custody_engine::projector::Projector;
use custody_engine::sealed::{OpenedLog, Opener, SealedBlobs};
use custody_engine::tools::ToolBook;
use custody_ledger::{Entity, Log, LogError, Sign};
use custody_nats::{Connection, JetBlobs, JetLog, NatsRequests};
use custody_ports::blobs::Blobs;
use custody_ports::subjects::SubjectKeys;
use custody_store::SledSnapshots;
use custody_streams::accounts::ServiceUser;
use custody_telemetry::Telemetry;
use custody_trust::RoleKey;
use custody_trust::issued::Names;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long a role waits until authority has introduced its key.
const KEY_WAIT: Duration = Duration::from_secs(30);
/// How long the other roles may take to end once one has failed.
const STOP_MAX: Duration = Duration::from_secs(4);

/// The roles of this process.
pub(crate) struct Roles {
    target: Target,
    instance: String,
    models: Option<Models>,
    telemetry: Option<Telemetry>,
    /// The keys of persons: what one role seals another opens.
    keys: Arc<dyn SubjectKeys>,
    /// What the metrics ask for the projections' places.
    watched: telemetry::Watched,
    cancel: CancellationToken,
    tasks: JoinSet<(&'static str, Result<(), String>)>,
}

/// What `up` needs of a running authority.
pub(crate) struct Authority {
    /// Launchers, followed live.
    pub(crate) launchers: Launchers,
    /// Commands, for registering the command line itself.
    pub(crate) commands: Commands,
}

fn failed(what: &str, error: impl std::fmt::Display) -> CliError {
    CliError::new(exit::UNREACHABLE, "ROLE_FAILED", format!("{what}: {error}")).hint("custody doctor")
}

/// A role ends by itself only where the ledger cannot be read on.
fn stopped(name: &str, why: &str) -> CliError {
    CliError::new(exit::INTEGRITY, "ROLE_STOPPED", format!("{name}: {why}"))
        .hint("keep the state folder as it is, as evidence, and compare it with a copy: custody audit verify FILE checks an exported log")
}

impl Roles {
    /// No role yet.
    pub(crate) fn new(target: Target, models: Option<Models>, cancel: CancellationToken) -> CliResult<Roles> {
        let instance = target.home.instance()?;
        let tasks = JoinSet::new();
        let keys = target.subject_keys();
        Ok(Roles { target, instance, models, telemetry: None, keys, watched: Arc::default(), cancel, tasks })
    }

    fn key(&self, role: Role) -> CliResult<Arc<RoleKey>> {
        Ok(Arc::new(self.target.home.role_key(role)?))
    }

    async fn log(&self, user: ServiceUser) -> CliResult<(Connection, Arc<dyn Log>)> {
        let connection = self.target.connect(user).await?;
        let log = JetLog::open(&connection).await.map_err(|e| failed("the LEDGER stream", e))?;
        let log: Arc<dyn Log> = Arc::new(CheckedLog::new(Arc::new(log)));
        Ok((connection, telemetry::log(self.telemetry.as_ref(), log)))
    }

    /// Blobs under the keys of persons, counted as they are stored.
    fn blobs(&self, connection: &Connection) -> Arc<dyn Blobs> {
        let stored = telemetry::blobs(self.telemetry.as_ref(), Arc::new(JetBlobs::new(connection)));
        Arc::new(SealedBlobs::new(stored, self.keys.clone()))
    }

    fn opener(&self, connection: &Connection) -> Opener {
        Opener::new(self.keys.clone(), self.blobs(connection))
    }

    /// The ledger for a role that shows what persons said, or hands it on to their box.
    async fn opened_log(&self, user: ServiceUser) -> CliResult<(Connection, Arc<dyn Log>)> {
        let (connection, log) = self.log(user).await?;
        let log = OpenedLog::new(log, self.opener(&connection));
        Ok((connection, Arc::new(log)))
    }

    /// Counts and traces what these roles do, when the configuration says so. Before the first role is started.
    pub(crate) async fn telemetry(&mut self, wanted: &[Role]) -> CliResult {
        if !self.target.config.telemetry.wanted() {
            return Ok(());
        }
        let made = telemetry::new(&self.target, &self.instance, wanted)?;
        let user = wanted.iter().find_map(|role| ServiceUser::parse(role.as_str()));
        let (connection, log) = self.log(user.unwrap_or(ServiceUser::Operator)).await?;
        if let Some(listener) = telemetry::listen(&self.target).await? {
            let refresh = telemetry::refresh(&made, &connection, self.watched.clone());
            self.spawn(
                "metrics",
                custody_telemetry::serve::serve(made.counts.clone(), refresh, listener, self.cancel.clone()),
            );
        }
        self.telemetry = Some(made.clone());
        self.spawn("telemetry", made.run(log, self.cancel.clone()));
        Ok(())
    }

    fn spawn<E: std::fmt::Display>(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.tasks.spawn(async move { (name, task.await.map_err(|e| e.to_string())) });
    }

    /// Waits until the ledger knows a role's key: before that its events could not be verified.
    async fn wait_for_key(&self, log: &dyn Log, key: &RoleKey) -> CliResult {
        let entity = Entity::new(Kind::Key, key.kid()).ok_or_else(|| failed("key", "its id is no entity id"))?;
        let until = tokio::time::Instant::now() + KEY_WAIT;
        loop {
            match log.load(&entity).await {
                Ok(history) if !history.is_empty() => return Ok(()),
                Ok(_) if tokio::time::Instant::now() >= until => {
                    return Err(CliError::new(
                        exit::NOT_SIGNED_IN,
                        "KEY_NOT_INTRODUCED",
                        format!("key {} of role {} was not introduced", key.kid(), key.role().as_str()),
                    )
                    .hint(format!(
                        "where authority runs: custody serve --roles authority --introduce {}:{}:{}",
                        key.role().as_str(),
                        key.public_hex(),
                        self.instance
                    )));
                }
                Ok(_) => {}
                Err(error) if tokio::time::Instant::now() >= until => return Err(failed("the ledger", error)),
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The installation's names in its tokens.
    fn names(&self) -> Names {
        Names::of(&issuer(&self.target.config.audit.origin))
    }

    /// The tools that are offered.
    fn tools(&self) -> CliResult<ToolBook> {
        let config = &self.target.config.tools;
        let servers = config.servers.keys().cloned().collect();
        ToolBook::read(&config.folder(&self.target.home), servers)
            .map_err(|e| CliError::new(exit::USAGE, "TOOL_INVALID", e).hint("custody tool ls"))
    }

    /// Starts projector.
    pub(crate) async fn projector(&mut self) -> CliResult {
        let (connection, log) = self.opened_log(ServiceUser::Projector).await?;
        let store = Arc::new(SledSnapshots::new(&self.target.home.path("projections"), &boot_id()));
        let projector = Projector::open(log, store).await.map_err(|e| failed("projections", e))?;
        let projector = projector.with_caps(self.target.config.queue.caps());
        let requests =
            NatsRequests::listen(&connection, &["query.>"], "projector").await.map_err(|e| failed("queries", e))?;
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).projector = Some(projector.clone());
        let (serving, cancel) = (projector.clone(), self.cancel.clone());
        self.spawn::<LogError>("queries", async move {
            serving.serve(Arc::new(requests), cancel).await;
            Ok(())
        });
        self.spawn("projector", projector.run(self.cancel.clone()));
        Ok(())
    }

    /// Starts api: the web. It says where it listens.
    pub(crate) async fn api(&mut self) -> CliResult<String> {
        let (connection, log) = self.log(ServiceUser::Api).await?;
        let listener = web::listen(&self.target).await?;
        let url = web::url(&self.target, &listener)?;
        let parts = web::parts(
            &self.target,
            &connection,
            log,
            self.opener(&connection),
            listener.local_addr()?,
            self.cancel.clone(),
        )
        .await?;
        self.spawn("api", custody_http::serve::run(parts, listener));
        Ok(url)
    }

    /// Public halves of the keys that this state folder holds, to be introduced.
    pub(crate) fn own_keys(&self, roles: &[Role]) -> CliResult<Vec<KeyIntroduced>> {
        let mut out = Vec::new();
        for role in roles {
            let key = self.target.home.role_key(*role)?;
            out.push(KeyIntroduced {
                kid: key.kid().to_owned(),
                role: *role,
                public_key: key.public_hex(),
                instance: self.instance.clone(),
            });
        }
        Ok(out)
    }

    /// Why a role ended that had only just begun.
    async fn first_end(&mut self) -> CliError {
        match self.tasks.join_next().await {
            Some(Ok((name, Err(why)))) => stopped(name, &why),
            Some(Ok((name, Ok(())))) => failed(name, "it ended by itself"),
            Some(Err(error)) => failed("a role", error),
            None => failed("a role", "none was started"),
        }
    }

    /// Runs until a role fails or everything is cancelled. The others then have [`STOP_MAX`] for an orderly end.
    pub(crate) async fn join(mut self) -> CliResult {
        let mut result = Ok(());
        while result.is_ok()
            && let Some(ended) = self.tasks.join_next().await
        {
            result = match ended {
                Ok((_, Ok(()))) if self.cancel.is_cancelled() => Ok(()),
                Ok((name, Ok(()))) => Err(failed(name, "it ended by itself")),
                Ok((name, Err(why))) => Err(stopped(name, &why)),
                Err(error) => Err(failed("a role", error)),
            };
        }
        if result.is_err() {
            self.cancel.cancel();
            let rest = async { while self.tasks.join_next().await.is_some() {} };
            let _late = tokio::time::timeout(STOP_MAX, rest).await;
        }
        result
    }
}

/// Who signs grants, from the log's name: `custody.local/ledger` is `https://custody.local`.
fn issuer(origin: &str) -> String {
    let host = origin.split('/').next().filter(|host| !host.is_empty()).unwrap_or("custody.local");
    ["https://", host].concat()
}
