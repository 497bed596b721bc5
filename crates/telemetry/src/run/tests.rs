//! The loop over a log in memory: what is sent, what is not sent again, and that nothing is sent without an endpoint.

use super::{Telemetry, TelemetrySettings};
use crate::counts::Scope;
use crate::fixtures::{one_dispatch, stored};
use custody_ledger::MemoryLog;
use custody_testkit::collector::Collector;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

fn settings(folder: &Path, endpoint: Option<&str>) -> TelemetrySettings {
    TelemetrySettings {
        otlp_endpoint: endpoint.map(str::to_owned),
        cursor: folder.join("traces"),
        instance: "i-1".into(),
        version: "1".into(),
    }
}

fn scope() -> Scope {
    Scope { authority: true, runtime: Some("i-1".into()), gateway: true }
}

#[tokio::test]
async fn a_trace_is_sent_once_and_the_place_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let taker = Collector::start(0).await.unwrap();
    let log = Arc::new(MemoryLog::from_messages(stored(&one_dispatch(), None)));
    // A place before the end: the process had been down when the dispatch ended.
    std::fs::write(folder.path().join("traces"), "2").unwrap();
    let cancel = CancellationToken::new();
    let telemetry = Telemetry::new(scope(), &settings(folder.path(), Some(taker.url()))).unwrap();
    let running = tokio::spawn(telemetry.run(log.clone(), cancel.clone()));
    let root = tokio::time::timeout(Duration::from_secs(30), taker.has("dispatch claude-code")).await.unwrap();
    assert!(root.parent.is_empty());
    while std::fs::read_to_string(folder.path().join("traces")).unwrap() != "6" {
        tokio::task::yield_now().await;
    }
    cancel.cancel();
    running.await.unwrap().unwrap();
    let sent = taker.requests();

    let cancel = CancellationToken::new();
    let telemetry = Telemetry::new(scope(), &settings(folder.path(), Some(taker.url()))).unwrap();
    let counts = telemetry.counts.clone();
    let running = tokio::spawn(telemetry.run(log, cancel.clone()));
    while !counts.text().unwrap().contains("custody_telemetry_ledger_seq 6") {
        tokio::task::yield_now().await;
    }
    cancel.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(taker.requests(), sent, "it was sent before");
}

#[tokio::test]
async fn without_an_endpoint_it_only_counts() {
    let folder = tempfile::tempdir().unwrap();
    let log = Arc::new(MemoryLog::from_messages(stored(&one_dispatch(), None)));
    std::fs::write(folder.path().join("traces"), "0").unwrap();
    let cancel = CancellationToken::new();
    let telemetry = Telemetry::new(scope(), &settings(folder.path(), None)).unwrap();
    let counts = telemetry.counts.clone();
    let running = tokio::spawn(telemetry.run(log, cancel.clone()));
    while !counts.text().unwrap().contains("custody_telemetry_ledger_seq 6") {
        tokio::task::yield_now().await;
    }
    cancel.cancel();
    running.await.unwrap().unwrap();
    let text = counts.text().unwrap();
    assert!(!text.contains("custody_traces_total{"), "{text}");
}
