//! What the runtime's HTTP face gets: its launcher, its way to authority, its listening socket. Must never get a key
//! but the launcher's own, and never listen where nobody configured it.

use crate::client::Target;
use crate::config_runtime::BackendKind;
use crate::error::{CliError, CliResult, exit};
use crate::server::clock::SystemClock;
use crate::server::web::{NatsAsks, NatsLauncher};
use custody_contracts::workload::{Backend, LAUNCHER};
use custody_http::workloads::face::{Ports, Refused};
use custody_http::workloads::spec::Ceilings;
use custody_http::workloads::{Face, FaceSettings};
use custody_ledger::Log;
use custody_nats::Connection;
use custody_ports::blobs::Blobs;
use custody_ports::containers::Containers;
use custody_telemetry::Telemetry;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// How long the launcher's connection may take: `up` tells the server of a new launcher while roles start.
const KNOWN_WAIT: Duration = Duration::from_secs(30);

/// The face and its socket, when one is configured.
pub(crate) async fn face(
    target: &Target,
    instance: &str,
    connection: &Connection,
    log: Arc<dyn Log>,
    blobs: Arc<dyn Blobs>,
    containers: Arc<dyn Containers>,
    telemetry: Option<&Telemetry>,
) -> CliResult<Option<(Face, TcpListener)>> {
    let Some(http) = &target.config.runtime.http else { return Ok(None) };
    let listener = TcpListener::bind(http.listen).await.map_err(|e| {
        CliError::new(exit::CONFLICT, "RUNTIME_NOT_LISTENING", format!("{}: {e}", http.listen))
            .hint("[runtime.http] listen in the configuration")
    })?;
    // With port 0 nobody could know where it is.
    std::fs::write(target.home.path("run/runtime-http"), listener.local_addr()?.to_string())?;
    let counts = telemetry.map(|t| t.counts.clone());
    let refused: Refused = Arc::new(move |code: &str| {
        if let Some(counts) = &counts {
            counts.refused(code);
        }
    });
    let section = &target.config.runtime;
    let settings = FaceSettings {
        instance: instance.to_owned(),
        backend: match section.backend {
            BackendKind::Docker => Backend::Docker,
            BackendKind::Kubernetes => Backend::K8s,
        },
        node: node(),
        ceilings: Ceilings {
            cpu: section.cpus,
            memory_mb: section.memory_bytes >> 20,
            pids: section.pids,
            idle_sec: section.idle_ms / 1_000,
        },
        grace_ms: section.grace_ms,
    };
    let ports = Ports {
        log,
        blobs,
        clock: Arc::new(SystemClock),
        containers,
        launcher: Arc::new(known(target).await?),
        asks: Arc::new(NatsAsks::new(connection)),
        refused,
    };
    Ok(Some((Face::new(ports, settings), listener)))
}

/// The launcher, once the server knows it.
async fn known(target: &Target) -> CliResult<NatsLauncher> {
    let until = tokio::time::Instant::now() + KNOWN_WAIT;
    loop {
        match NatsLauncher::connect(target, LAUNCHER).await {
            Ok(launcher) => return Ok(launcher),
            Err(error) if tokio::time::Instant::now() >= until => {
                return Err(error.hint(format!("custody launcher register {LAUNCHER} --subject '*'")));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// This machine's name, as the contract writes one.
fn node() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let clean: String =
        name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || "_.-".contains(*c)).take(253).collect();
    if clean.starts_with(|c: char| c.is_ascii_alphanumeric()) { clean } else { "localhost".into() }
}
