//! Each role with its own connection, its own key and its own adapters. A role gets nothing that is another's: only
//! `runtime` sees the container engine, only `gateway` the model's key, only `authority` the key that signs decisions.

use crate::client::Target;
use crate::config_runtime::BackendKind;
use crate::error::{CliError, CliResult, exit};
use crate::home::{boot_id, random};
use crate::server::clock::SystemClock;
use crate::server::web::NatsAsks;
use crate::server::{cluster, face, identity, outside, telemetry, web, workspaces};
use custody_contracts::canonical::hex;
use custody_contracts::events::{KeyIntroduced, Kind, Role};
use custody_docker::BindSlots;
use custody_engine::authority::admission;
use custody_engine::authority::commands::{self, Commands};
use custody_engine::authority::erasing::SubjectDesk;
use custody_engine::authority::issuing::{TokenDesk, TokenParts};
use custody_engine::authority::launchers::Launchers;
use custody_engine::authority::notary::{self, Notary};
use custody_engine::authority::open::OpenDispatches;
use custody_engine::authority::parts::Parts;
use custody_engine::authority::workspaces::WorkspaceBook;
use custody_engine::checked::CheckedLog;
use custody_engine::deciding::Decisions;
use custody_engine::gateway::{self, Gateway};
use custody_engine::grants::Grants;
use custody_engine::inference::{Door, Models};
use custody_engine::keys::KeyBook;
use custody_engine::presenting::Presenter;
use custody_engine::projector::Projector;
use custody_engine::runners::Runners;
use custody_engine::runtime::{self, Classes, PoolConfig, Runtime, RuntimeConfig, SystemWorkspaces};
use custody_engine::sealed::{OpenedLog, Opener, SealedBlobs};
use custody_engine::tools::ToolBook;
use custody_engine::upstream::{self, Upstreams};
use custody_ledger::{Entity, Log, LogError, Sign};
use custody_nats::{Connection, JetBlobs, JetLaunches, JetLog, JetOutput, NatsRequests};
use custody_ports::blobs::Blobs;
use custody_ports::clock::Clock;
use custody_ports::identity::{NoIdentity, WorkloadIdentity};
use custody_ports::slots::Slots;
use custody_ports::subjects::SubjectKeys;
use custody_store::SledSnapshots;
use custody_streams::accounts::ServiceUser;
use custody_streams::subject::CONTENT_ALL;
use custody_telemetry::Telemetry;
use custody_trust::RoleKey;
use custody_trust::issued::Names;
use custody_trust::key::thumbprint;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long a role waits until authority has introduced its key.
const KEY_WAIT: Duration = Duration::from_secs(30);
/// How long the gateway waits at its start for its identity. Without one it starts too, and calls that need it are refused.
const IDENTITY_WAIT: Duration = Duration::from_secs(5);
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

    /// Starts authority: introduces keys, then admission, commands, notary.
    pub(crate) async fn authority(&mut self, introduce: &[KeyIntroduced]) -> CliResult<Authority> {
        let (connection, log) = self.log(ServiceUser::Authority).await?;
        let key = self.key(Role::Authority)?;
        let signer: Arc<dyn Sign> = key.clone();
        let clock = Arc::new(SystemClock);
        let launchers = Launchers::default();
        let workspaces = WorkspaceBook::default();
        let open = OpenDispatches::default();
        let grants = Grants::default();
        let parts = Parts {
            log: log.clone(),
            signer: signer.clone(),
            clock: clock.clone(),
            launchers: launchers.clone(),
            workspaces: workspaces.clone(),
            grants: grants.clone(),
            open: open.clone(),
            inputs: Arc::new(JetOutput::new(&connection)),
            blobs: self.blobs(&connection),
            keys: self.keys.clone(),
            base: issuer(&self.target.config.audit.origin),
        };
        let (desk, approvals) = (parts.desk(), parts.approvals());
        let keys = KeyBook::default();
        let subjects = SubjectDesk {
            log: log.clone(),
            signer: signer.clone(),
            clock: clock.clone(),
            keys: self.keys.clone(),
            book: keys.clone(),
            grants: desk.clone(),
        };
        let tokens = TokenDesk::new(TokenParts {
            log: log.clone(),
            signer: signer.clone(),
            clock: clock.clone(),
            grants: grants.clone(),
            keys: keys.clone(),
            store: Arc::new(self.target.home.token_keys()),
            names: self.names(),
            audiences: upstream::audiences(&self.target.config.tools.servers),
        });
        let commands = parts.commands(Some(tokens.clone()), Some(subjects.clone()));
        let own = KeyIntroduced {
            kid: key.kid().to_owned(),
            role: Role::Authority,
            public_key: key.public_hex(),
            instance: self.instance.clone(),
        };
        for event in std::iter::once(&own).chain(introduce) {
            commands.introduce(event.clone()).await.map_err(|e| failed("introducing a key", e.message))?;
        }
        let (sender, caught_up) = tokio::sync::oneshot::channel();
        let (book, cancel) = (launchers.clone(), self.cancel.clone());
        let following = book.run(open.clone(), grants.clone(), keys, log.clone(), cancel, sender);
        self.spawn("launchers", following);
        if caught_up.await.is_err() {
            return Err(self.first_end().await);
        }
        let cancel = self.cancel.clone();
        self.spawn::<LogError>("erasing", async move {
            subjects.run(cancel).await;
            Ok(())
        });
        tokens.prepare_keys().await.map_err(CliError::from_doc)?;
        let cancel = self.cancel.clone();
        self.spawn::<LogError>("keys", async move {
            tokens.retire_ended(cancel).await;
            Ok(())
        });
        self.workspaces(&workspaces, &commands, log.clone(), signer).await?;
        let runners = Runners::read(&self.target.config.runners_folder()).map_err(|e| failed("runners", e))?;
        let launches = JetLaunches::open(&connection).await.map_err(|e| failed("the LAUNCH stream", e))?;
        let admission = parts.admission(runners, self.tools()?, self.target.config.queue.rules());
        let cancel = self.cancel.clone();
        self.spawn::<LogError>("grants", async move {
            desk.end_fallen(cancel).await;
            Ok(())
        });
        let (cancel, launches) = (self.cancel.clone(), Arc::new(launches));
        self.spawn::<LogError>("admission", async move {
            admission::run(admission, launches, cancel).await;
            Ok(())
        });
        let requests =
            NatsRequests::listen(&connection, &["command.>"], "authority").await.map_err(|e| failed("commands", e))?;
        let (serving, cancel) = (commands.clone(), self.cancel.clone());
        self.spawn::<LogError>("commands", async move {
            commands::run(serving, Arc::new(requests), cancel).await;
            Ok(())
        });
        let times: Arc<dyn Clock> = clock.clone();
        let (copy, places) = outside::copies(&self.target, &log, &times, &self.cancel)?;
        let stop = self.cancel.clone();
        self.spawn::<LogError>("checkpoints outside", async move {
            stop.cancelled().await;
            for place in places {
                if let Err(error) = place.await {
                    tracing::error!(%error, "a place for checkpoints ended badly");
                }
            }
            Ok(())
        });
        if let Some((authority, register, listener)) = identity::served(&self.target, &self.names())? {
            self.spawn("identity", custody_identity::serve(authority, register, listener, self.cancel.clone()));
        }
        self.spawn("approvals", approvals.run(self.cancel.clone()));
        let notary = Notary { log, key, clock, origin: self.target.config.audit.origin.clone(), copy };
        self.spawn("notary", notary::run(notary, self.cancel.clone()));
        Ok(Authority { launchers, commands })
    }

    /// Follows workspaces, records the proposals that runs leave, and registers the workspace that everybody begins with.
    async fn workspaces(
        &mut self,
        book: &WorkspaceBook,
        commands: &Commands,
        log: Arc<dyn Log>,
        signer: Arc<dyn Sign>,
    ) -> CliResult {
        let (sender, caught_up) = tokio::sync::oneshot::channel();
        self.spawn("workspaces", book.clone().run(log.clone(), self.cancel.clone(), sender));
        if caught_up.await.is_err() {
            return Err(self.first_end().await);
        }
        let (reacting, cancel) = (book.clone(), self.cancel.clone());
        self.spawn::<LogError>("proposals", async move {
            reacting.open_proposals(log, signer, Arc::new(SystemClock), cancel).await;
            Ok(())
        });
        if book.get(workspaces::DEFAULT).registered().is_some() {
            return Ok(());
        }
        let body = workspaces::default_registration(&self.target)?;
        let request = custody_ports::requests::Request {
            subject: "command.workspace.register".into(),
            bytes: serde_json::to_vec(&body)?,
            reply_to: String::new(),
        };
        commands.carry_out(&request).await.map_err(CliError::from_doc)?;
        Ok(())
    }

    /// Starts runtime.
    pub(crate) async fn runtime(&mut self) -> CliResult {
        let (connection, log) = self.log(ServiceUser::Runtime).await?;
        let key = self.key(Role::Runtime)?;
        self.wait_for_key(log.as_ref(), &key).await?;
        let home = &self.target.home;
        let section = &self.target.config.runtime;
        let slots = BindSlots::below(&home.path("pool"));
        let containers = cluster::containers(&self.target, key.clone(), slots.root()).await?;
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).containers =
            Some((containers.clone(), self.instance.clone()));
        let facts = containers.facts().await.map_err(|e| {
            CliError::new(exit::UNREACHABLE, "ENGINE_UNREACHABLE", format!("no container engine: {e}"))
                .hint(cluster::engine_hint(section.backend))
        })?;
        tracing::info!(
            version = facts.version,
            api = facts.api_version,
            cgroup = facts.cgroup_version,
            live_restore = facts.live_restore,
            "container engine"
        );
        let classes = Classes::detect(&facts, &section.classes, section.isolation);
        if classes.uid_offset > 0 {
            // Made for the user of a box without remapping; without root it stays as it is, and a write is refused.
            let owner = Some(classes.box_uid());
            let _not_root = std::os::unix::fs::chown(home.path("workspaces/default"), owner, owner);
        }
        let blobs = self.blobs(&connection);
        let face = face::face(
            &self.target,
            &self.instance,
            &connection,
            log.clone(),
            blobs.clone(),
            containers.clone(),
            self.telemetry.as_ref(),
        );
        let face = face.await?;
        let questions = NatsRequests::listen(&connection, &[CONTENT_ALL], "runtime")
            .await
            .map_err(|e| failed("questions about workspaces", e))?;
        let runtime = Runtime {
            log,
            signer: key,
            clock: Arc::new(SystemClock),
            containers,
            slots: (section.backend == BackendKind::Docker).then(|| Arc::new(slots) as Arc<dyn Slots>),
            blobs,
            output: Arc::new(JetOutput::new(&connection)),
            workspaces: Arc::new(workspaces::open(&self.target, &connection)?),
            content: Some(Arc::new(questions)),
            config: RuntimeConfig {
                instance: self.instance.clone(),
                runs: home.path("runs"),
                kept: home.path("kept"),
                workspace_limits: self.target.config.workspaces.limits(),
                system: SystemWorkspaces {
                    bucket: self.target.config.workspaces.bucket(home),
                    recipients: self.target.config.workspaces.recipients.clone(),
                },
                running_max: section.running_max,
                caps: self.target.config.queue.caps(),
                limits: section.limits(),
                classes,
                pool: PoolConfig { size: section.pool.size },
            },
        };
        if let Some((face, listener)) = face {
            self.spawn("runtime's face", face.run(listener, self.cancel.clone()));
        }
        self.spawn("runtime", runtime::run(runtime, self.cancel.clone()));
        Ok(())
    }

    /// Starts gateway.
    pub(crate) async fn gateway(&mut self) -> CliResult {
        let (connection, log) = self.opened_log(ServiceUser::Gateway).await?;
        let key = self.key(Role::Gateway)?;
        self.wait_for_key(log.as_ref(), &key).await?;
        let blobs = self.blobs(&connection);
        let door = match &self.models {
            Some(models) => Some(Door::new(models.clone(), blobs.clone()).map_err(|e| {
                CliError::new(exit::USAGE, "MODEL_INVALID", format!("{e}")).hint("ops/custody.toml explains [model]")
            })?),
            None => None,
        };
        let identity = self.identity().await;
        let home = &self.target.home;
        let incarnation = hex(&random::<16>()?);
        let presenter = Presenter {
            asks: Arc::new(NatsAsks::new(&connection)),
            jkt: thumbprint(key.verifying().as_bytes()),
            signer: key.clone(),
            clock: Arc::new(SystemClock),
            keys: KeyBook::default(),
            names: self.names(),
            audiences: Arc::new(upstream::audiences(&self.target.config.tools.servers)),
            incarnation: incarnation.clone(),
            proofs: Arc::default(),
        };
        let servers = self.target.config.tools.servers(home);
        let upstreams = Upstreams::new(&servers, Arc::new(home.secrets()), identity);
        let upstreams = upstreams.map_err(|e| failed("upstream servers", e))?;
        let gateway = Gateway {
            grants: Grants::default(),
            presenter: Some(presenter),
            log,
            signer: key,
            clock: Arc::new(SystemClock),
            output: telemetry::output(self.telemetry.as_ref(), Arc::new(JetOutput::new(&connection))),
            blobs,
            inputs: Arc::new(JetOutput::new(&connection)),
            runners: Runners::read(&self.target.config.runners_folder()).map_err(|e| failed("runners", e))?,
            approval_ms: self.target.config.tools.approval_ms,
            incarnation,
            tools: self.tools()?,
            policy: Arc::new(self.target.config.tools.policy().map_err(|e| {
                CliError::new(exit::USAGE, "POLICY_INVALID", e).hint("ops/custody.toml explains tools.policy")
            })?),
            upstreams: upstreams.clone(),
            door,
            runs: home.path("runs"),
            instance: self.instance.clone(),
            limits: self.target.config.runtime.limits(),
            budgets: self.target.config.budgets.clone(),
        };
        if let Some((server, listener)) = cluster::link(&self.target, gateway.log.clone()).await? {
            self.spawn("links", gateway::link::run(server, listener, self.cancel.clone()));
        }
        if let (Some(listener), Some(decisions)) = (decisions(&self.target).await?, Decisions::of(&gateway)) {
            self.spawn("decisions", custody_authz::serve(decisions, listener, self.cancel.clone()));
        }
        let cancel = self.cancel.clone();
        self.spawn("gateway", async move {
            let ended = gateway::run(gateway, cancel).await;
            // Servers that are processes here end with it.
            upstreams.end().await;
            ended
        });
        Ok(())
    }

    /// Who the gateway is to servers that ask for it.
    async fn identity(&mut self) -> Arc<dyn WorkloadIdentity> {
        let Some(source) = identity::source(&self.target) else { return Arc::new(NoIdentity) };
        let (following, cancel) = (source.clone(), self.cancel.clone());
        self.spawn::<LogError>("workload identity", async move {
            following.run(cancel).await;
            Ok(())
        });
        if let Err(error) = source.ready(IDENTITY_WAIT).await {
            tracing::warn!(%error, "calls of servers that ask for the gateway's identity are refused until it has one");
        }
        Arc::new(source)
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

/// Where others ask for decisions, when somebody configured it.
async fn decisions(target: &Target) -> CliResult<Option<TcpListener>> {
    let Some(at) = target.config.gateway.decisions_listen else { return Ok(None) };
    let listener = TcpListener::bind(at).await.map_err(|e| {
        CliError::new(exit::CONFLICT, "DECISIONS_NOT_LISTENING", format!("{at}: {e}"))
            .hint("[gateway] decisions_listen in the configuration")
    })?;
    // With port 0 nobody could know where it is.
    std::fs::write(target.home.path("run/decisions"), listener.local_addr()?.to_string())?;
    Ok(Some(listener))
}

/// Who signs grants, from the log's name: `custody.local/ledger` is `https://custody.local`.
fn issuer(origin: &str) -> String {
    let host = origin.split('/').next().filter(|host| !host.is_empty()).unwrap_or("custody.local");
    ["https://", host].concat()
}
