//! The loop: follows the ledger, counts, and sends the trace of each dispatch that ends. Its place is a file; when it is
//! lost, nothing older than now is sent. Must never hold the ledger's readers up: what a collector does not take in time
//! is dropped and counted.

use crate::counts::{Counts, Scope};
use crate::life::Life;
use crate::otlp::{Collector, OtlpError};
use crate::spans::spans;
use custody_engine::follow::{follow, read_or_note};
use custody_ledger::{Log, LogError, Seq};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Traces that wait to be sent.
const WAITING_MAX: usize = 1_024;
/// Traces of one request.
const BATCH_MAX: usize = 64;

/// What an operator decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TelemetrySettings {
    /// Where traces go; `None` sends nothing.
    pub otlp_endpoint: Option<String>,
    /// The file that remembers which trace was sent last.
    pub cursor: PathBuf,
    /// This installation's name.
    pub instance: String,
    /// Version of the binary.
    pub version: String,
}

/// Metrics and traces of one process.
#[derive(Clone)]
pub struct Telemetry {
    /// The metrics.
    pub counts: Arc<Counts>,
    collector: Option<Collector>,
    cursor: PathBuf,
}

impl Telemetry {
    /// Sets up; opens nothing and sends nothing yet.
    ///
    /// # Errors
    /// [`OtlpError`] for an endpoint that is none.
    pub fn new(scope: Scope, settings: &TelemetrySettings) -> Result<Telemetry, OtlpError> {
        let counts = Counts::new(scope, &settings.version).map_err(|e| OtlpError::Client(e.to_string()))?;
        let collector = settings.otlp_endpoint.as_deref();
        let collector = collector.map(|url| Collector::new(url, &settings.instance, &settings.version)).transpose()?;
        Ok(Telemetry { counts: Arc::new(counts), collector, cursor: settings.cursor.clone() })
    }

    /// Runs until cancelled.
    ///
    /// # Errors
    /// [`LogError`] when the log is broken.
    pub async fn run(self, log: Arc<dyn Log>, cancel: CancellationToken) -> Result<(), LogError> {
        let last = log.last_seq().await?;
        let sent = read_cursor(&self.cursor).unwrap_or(last.0);
        let (traces, waiting) = mpsc::channel(WAITING_MAX);
        let counts = self.counts.clone();
        let sends = self.collector.is_some();
        let folding = follow(log, Seq(0), cancel.clone(), move |stored| {
            for recorded in read_or_note(&stored) {
                let Some(life) = counts.apply(&recorded) else { continue };
                if sends && recorded.seq.0 > sent && traces.try_send(life).is_err() {
                    counts.traced("dropped", 1);
                }
            }
        });
        let sending = async {
            match &self.collector {
                Some(collector) => self.send_all(collector, waiting).await,
                None => cancel.cancelled().await,
            }
            Ok(())
        };
        tokio::select! {
            result = folding => result,
            result = sending => result,
        }
    }

    async fn send_all(&self, collector: &Collector, mut waiting: mpsc::Receiver<Life>) {
        let mut batch: Vec<Life> = Vec::with_capacity(BATCH_MAX);
        while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let made: Vec<_> = batch.iter().flat_map(spans).collect();
            let many = batch.len() as u64;
            match collector.send(&made).await {
                Ok(()) => self.counts.traced("sent", many),
                Err(error) => {
                    tracing::warn!(%error, traces = many, "traces dropped; the ledger has what they said");
                    self.counts.traced("dropped", many);
                }
            }
            let last = batch.iter().filter_map(|life| life.end).map(|end| end.seq).max();
            if let Some(seq) = last
                && let Err(error) = write_cursor(&self.cursor, seq)
            {
                tracing::warn!(%error, "place of the traces not written; some may be sent twice, which changes nothing");
            }
            batch.clear();
        }
    }
}

fn read_cursor(path: &PathBuf) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn write_cursor(path: &PathBuf, seq: u64) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    std::fs::write(&draft, seq.to_string())?;
    std::fs::rename(draft, path)
}

#[cfg(test)]
mod tests;
