//! Runtime's own start. Must never run beside a container engine that did not say what it is.

use super::{Roles, failed};
use crate::config_runtime::BackendKind;
use crate::error::{CliError, CliResult, exit};
use crate::server::clock::SystemClock;
use crate::server::{cluster, face, workspaces};
use custody_contracts::events::Role;
use custody_docker::BindSlots;
use custody_engine::runtime::{self, Classes, PoolConfig, Runtime, RuntimeConfig, SystemWorkspaces};
use custody_nats::{JetOutput, NatsRequests};
use custody_ports::slots::Slots;
use custody_streams::accounts::ServiceUser;
use custody_streams::subject::CONTENT_ALL;
use std::sync::{Arc, PoisonError};

impl Roles {
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
}
