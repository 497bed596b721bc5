//! Metrics and traces of this process, as the configuration wants them: ports are wrapped only when they are counted.
//! Must never open a listener or name a collector that nobody configured.

use crate::client::Target;
use crate::error::{CliError, CliResult, exit};
use custody_contracts::events::Role;
use custody_engine::projector::Projector;
use custody_ledger::Log;
use custody_nats::Connection;
use custody_ports::blobs::Blobs;
use custody_ports::containers::{BoxState, Containers};
use custody_ports::output::Output;
use custody_telemetry::measured::{MeasuredBlobs, MeasuredLog, MeasuredOutput};
use custody_telemetry::serve::Refresh;
use custody_telemetry::{Scope, Telemetry, TelemetrySettings};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;

/// What of this process is asked at a scrape, once it is there.
#[derive(Default)]
pub(crate) struct Parts {
    /// The projector, for how far its projections are.
    pub(crate) projector: Option<Projector>,
    /// The container port and this installation's name, for its warm boxes.
    pub(crate) containers: Option<(Arc<dyn Containers>, String)>,
}

/// Shared by the roles and the listener.
pub(crate) type Watched = Arc<Mutex<Parts>>;

/// The label that every warm box has. Source: `custody_engine::runtime::pool`.
const LABEL_POOL: &str = "custody.pool";

/// Sets up for these roles.
pub(crate) fn new(target: &Target, instance: &str, roles: &[Role]) -> CliResult<Telemetry> {
    let scope = Scope {
        authority: roles.contains(&Role::Authority),
        runtime: roles.contains(&Role::Runtime).then(|| instance.to_owned()),
        gateway: roles.contains(&Role::Gateway),
    };
    let settings = TelemetrySettings {
        // One process sends the traces: the one that has the runtime, whose events end them.
        otlp_endpoint: target.config.telemetry.otlp_endpoint.clone().filter(|_| scope.runtime.is_some()),
        cursor: target.home.path("run/traces"),
        instance: instance.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    Telemetry::new(scope, &settings)
        .map_err(|e| CliError::new(exit::USAGE, "TELEMETRY_INVALID", e).hint("ops/custody.toml explains [telemetry]"))
}

/// The admin listener, when one is configured.
pub(crate) async fn listen(target: &Target) -> CliResult<Option<TcpListener>> {
    let Some(wanted) = target.config.telemetry.metrics_listen else { return Ok(None) };
    let listener = TcpListener::bind(wanted).await.map_err(|e| {
        CliError::new(exit::CONFLICT, "METRICS_NOT_LISTENING", format!("{wanted}: {e}"))
            .hint("[telemetry] metrics_listen in the configuration")
    })?;
    // With port 0 nobody could know where it is.
    std::fs::write(target.home.path("run/metrics"), listener.local_addr()?.to_string())?;
    Ok(Some(listener))
}

/// Asks for what no event says: where the ledger stands, and how far behind the projector of this process is.
pub(crate) fn refresh(telemetry: &Telemetry, connection: &Connection, watched: Watched) -> Refresh {
    let (counts, connection) = (telemetry.counts.clone(), connection.clone());
    Arc::new(move || {
        let (counts, connection, watched) = (counts.clone(), connection.clone(), watched.clone());
        Box::pin(async move {
            match custody_nats::facts::ledger_size(&connection).await {
                Ok((last, bytes)) => {
                    counts.ledger(last, Some(bytes));
                    if let Some(projector) = &watched.lock().unwrap_or_else(PoisonError::into_inner).projector {
                        for (name, seq) in projector.positions() {
                            counts.lag(name, last.saturating_sub(seq));
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "ledger's size not asked"),
            }
            let engine = watched.lock().unwrap_or_else(PoisonError::into_inner).containers.clone();
            if let Some((containers, instance)) = engine
                && let Ok(all) = containers.list(&BTreeMap::from([("custody.instance".to_owned(), instance)])).await
            {
                let warm = all.iter().filter(|b| b.labels.contains_key(LABEL_POOL) && b.state == BoxState::Running);
                counts.pool(warm.count());
            }
        })
    })
}

/// The ledger, measured when there is somebody to tell.
pub(crate) fn log(telemetry: Option<&Telemetry>, inner: Arc<dyn Log>) -> Arc<dyn Log> {
    match telemetry {
        Some(telemetry) => Arc::new(MeasuredLog::new(inner, telemetry.counts.clone())),
        None => inner,
    }
}

/// Output, likewise.
pub(crate) fn output(telemetry: Option<&Telemetry>, inner: Arc<dyn Output>) -> Arc<dyn Output> {
    match telemetry {
        Some(telemetry) => Arc::new(MeasuredOutput::new(inner, telemetry.counts.clone())),
        None => inner,
    }
}

/// Blobs, likewise.
pub(crate) fn blobs(telemetry: Option<&Telemetry>, inner: Arc<dyn Blobs>) -> Arc<dyn Blobs> {
    match telemetry {
        Some(telemetry) => Arc::new(MeasuredBlobs::new(inner, telemetry.counts.clone())),
        None => inner,
    }
}
