//! Each role with its own connection, its own key and its own adapters. A role gets nothing that is another's: only
//! `runtime` sees the container engine, only `gateway` the model's key, only `authority` the key that signs decisions.

use crate::client::Target;
use crate::error::{CliError, CliResult, exit};
use crate::home::boot_id;
use crate::server::clock::SystemClock;
use custody_contracts::events::{CheckpointSigned, KeyIntroduced, Kind, Role};
use custody_docker::{Docker, Profile};
use custody_engine::authority::admission::{self, Admission};
use custody_engine::authority::commands::{self, Commands};
use custody_engine::authority::launchers::Launchers;
use custody_engine::authority::notary::{self, Notary};
use custody_engine::checked::CheckedLog;
use custody_engine::gateway::{self, Gateway};
use custody_engine::inference::{Door, ModelConfig};
use custody_engine::projector::Projector;
use custody_engine::runners::Runners;
use custody_engine::runtime::{self, Runtime, RuntimeConfig};
use custody_ledger::{Entity, Log, LogError, Sign};
use custody_nats::{Connection, JetBlobs, JetLaunches, JetLog, JetOutput, NatsRequests};
use custody_store::SledSnapshots;
use custody_streams::accounts::ServiceUser;
use custody_trust::RoleKey;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long a role waits until authority has introduced its key.
const KEY_WAIT: Duration = Duration::from_secs(30);

/// The roles of this process.
pub(crate) struct Roles {
    target: Target,
    instance: String,
    model: Option<ModelConfig>,
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
    pub(crate) fn new(target: Target, model: Option<ModelConfig>, cancel: CancellationToken) -> CliResult<Roles> {
        let instance = target.home.instance()?;
        Ok(Roles { target, instance, model, cancel, tasks: JoinSet::new() })
    }

    fn key(&self, role: Role) -> CliResult<Arc<RoleKey>> {
        Ok(Arc::new(self.target.home.role_key(role)?))
    }

    async fn log(&self, user: ServiceUser) -> CliResult<(Connection, Arc<dyn Log>)> {
        let connection = self.target.connect(user).await?;
        let log = JetLog::open(&connection).await.map_err(|e| failed("the LEDGER stream", e))?;
        Ok((connection, Arc::new(CheckedLog::new(Arc::new(log)))))
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
        let commands =
            Commands { log: log.clone(), signer: signer.clone(), clock: clock.clone(), launchers: launchers.clone() };
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
        let following = launchers.clone().run(log.clone(), self.cancel.clone(), sender);
        self.spawn("launchers", following);
        if caught_up.await.is_err() {
            return Err(self.first_end().await);
        }
        let runners = Runners::read(&self.target.config.runners_folder()).map_err(|e| failed("runners", e))?;
        let launches = JetLaunches::open(&connection).await.map_err(|e| failed("the LAUNCH stream", e))?;
        let admission =
            Admission { log: log.clone(), signer, clock: clock.clone(), launchers: launchers.clone(), runners };
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
        let notary = Notary { log, key, clock, origin: self.target.config.audit.origin.clone(), copy: self.copies() };
        self.spawn("notary", notary::run(notary, self.cancel.clone()));
        Ok(Authority { launchers, commands })
    }

    /// Every checkpoint leaves the log: into the state folder, and into the files that the operator named.
    fn copies(&self) -> notary::CopyOutside {
        let mut files = vec![self.target.home.path("checkpoints/notes.jsonl")];
        files.extend(self.target.config.audit.copies.iter().cloned());
        let latest = self.target.home.path("checkpoints/latest");
        Arc::new(move |signed: &CheckpointSigned| {
            for file in &files {
                if let Err(error) = append_line(file, signed) {
                    tracing::error!(%error, file = %file.display(), "checkpoint not copied outside");
                }
            }
            if let Err(error) = std::fs::write(&latest, &signed.note) {
                tracing::error!(%error, "newest checkpoint not written");
            }
        })
    }

    /// Starts runtime.
    pub(crate) async fn runtime(&mut self) -> CliResult {
        let (connection, log) = self.log(ServiceUser::Runtime).await?;
        let key = self.key(Role::Runtime)?;
        self.wait_for_key(log.as_ref(), &key).await?;
        let home = &self.target.home;
        let section = &self.target.config.runtime;
        let profile = Profile {
            mount_roots: vec![home.path("runs"), home.path("workspaces")],
            runtime: section.oci_runtime.clone(),
        };
        let docker = Docker::from_env(profile).map_err(|e| failed("the container engine", e))?;
        let containers: Arc<dyn custody_ports::containers::Containers> = Arc::new(docker);
        let facts = containers.facts().await.map_err(|e| {
            CliError::new(exit::UNREACHABLE, "ENGINE_UNREACHABLE", format!("no container engine: {e}"))
                .hint("install and start it: ops/setup, then ops/docker start; or name it in DOCKER_HOST")
        })?;
        tracing::info!(
            version = facts.version,
            api = facts.api_version,
            cgroup = facts.cgroup_version,
            live_restore = facts.live_restore,
            "container engine"
        );
        let runtime = Runtime {
            log,
            signer: key,
            clock: Arc::new(SystemClock),
            containers,
            blobs: Arc::new(JetBlobs::new(&connection)),
            output: Arc::new(JetOutput::new(&connection)),
            config: RuntimeConfig {
                instance: self.instance.clone(),
                runs: home.path("runs"),
                workspaces: home.path("workspaces"),
                running_max: section.running_max,
                limits: section.limits(),
            },
        };
        self.spawn("runtime", runtime::run(runtime, self.cancel.clone()));
        Ok(())
    }

    /// Starts gateway.
    pub(crate) async fn gateway(&mut self) -> CliResult {
        let (connection, log) = self.log(ServiceUser::Gateway).await?;
        let key = self.key(Role::Gateway)?;
        self.wait_for_key(log.as_ref(), &key).await?;
        let blobs = Arc::new(JetBlobs::new(&connection));
        let door = match &self.model {
            Some(model) => Some(Door::new(model.clone(), blobs).map_err(|e| {
                CliError::new(exit::USAGE, "MODEL_INVALID", format!("{e}")).hint("ops/custody.toml explains [model]")
            })?),
            None => None,
        };
        let home = &self.target.home;
        let gateway = Gateway {
            log,
            signer: key,
            clock: Arc::new(SystemClock),
            output: Arc::new(JetOutput::new(&connection)),
            runners: Runners::read(&self.target.config.runners_folder()).map_err(|e| failed("runners", e))?,
            door,
            model: self.model.as_ref().map_or_else(|| "none".into(), |m| m.model.clone()),
            runs: home.path("runs"),
            workspaces: home.path("workspaces"),
            instance: self.instance.clone(),
            limits: self.target.config.runtime.limits(),
        };
        self.spawn("gateway", gateway::run(gateway, self.cancel.clone()));
        Ok(())
    }

    /// Starts projector.
    pub(crate) async fn projector(&mut self) -> CliResult {
        let (connection, log) = self.log(ServiceUser::Projector).await?;
        let store = Arc::new(SledSnapshots::new(&self.target.home.path("projections"), &boot_id()));
        let projector = Projector::open(log, store).await.map_err(|e| failed("projections", e))?;
        let requests =
            NatsRequests::listen(&connection, &["query.>"], "projector").await.map_err(|e| failed("queries", e))?;
        let (serving, cancel) = (projector.clone(), self.cancel.clone());
        self.spawn::<LogError>("queries", async move {
            serving.serve(Arc::new(requests), cancel).await;
            Ok(())
        });
        self.spawn("projector", projector.run(self.cancel.clone()));
        Ok(())
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

    /// Runs until a role fails or everything is cancelled.
    pub(crate) async fn join(mut self) -> CliResult {
        while let Some(ended) = self.tasks.join_next().await {
            let (name, result) = ended.map_err(|e| failed("a role", e))?;
            match result {
                Ok(()) if self.cancel.is_cancelled() => {}
                Ok(()) => {
                    self.cancel.cancel();
                    return Err(failed(name, "it ended by itself"));
                }
                Err(why) => {
                    self.cancel.cancel();
                    return Err(stopped(name, &why));
                }
            }
        }
        Ok(())
    }
}

fn append_line(file: &PathBuf, signed: &CheckpointSigned) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(signed)?;
    line.push(b'\n');
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file)?;
    file.write_all(&line)
}
