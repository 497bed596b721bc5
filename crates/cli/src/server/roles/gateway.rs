//! The gateway's own start: doors, upstreams, and who it is to them. Must never take a credential anywhere but from the
//! secrets of its own machine.

use super::{Roles, failed};
use crate::client::Target;
use crate::error::{CliError, CliResult, exit};
use crate::home::random;
use crate::server::clock::SystemClock;
use crate::server::web::NatsAsks;
use crate::server::{cluster, identity, telemetry};
use custody_contracts::canonical::hex;
use custody_contracts::events::Role;
use custody_engine::deciding::Decisions;
use custody_engine::gateway::{self, Gateway};
use custody_engine::grants::Grants;
use custody_engine::inference::Door;
use custody_engine::keys::KeyBook;
use custody_engine::presenting::Presenter;
use custody_engine::runners::Runners;
use custody_engine::upstream::{self, Upstreams};
use custody_ledger::LogError;
use custody_nats::JetOutput;
use custody_ports::identity::{NoIdentity, WorkloadIdentity};
use custody_streams::accounts::ServiceUser;
use custody_trust::key::thumbprint;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// How long the gateway waits at its start for its identity. Without one it starts too, and calls that need it are refused.
const IDENTITY_WAIT: Duration = Duration::from_secs(5);

impl Roles {
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
