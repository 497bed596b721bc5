//! The ledger as a test reads it: every stored event, from the exported file.

use crate::stack::Stack;
use serde_json::Value;

/// One stored event.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// Its place.
    pub(crate) seq: u64,
    /// Its type without `custody.` and `.v1`.
    pub(crate) kind: String,
    /// What happened.
    pub(crate) data: Value,
}

/// Every event of an exported file.
pub(crate) fn events(bundle: &str) -> Vec<Event> {
    let mut out = Vec::new();
    for line in bundle.lines().skip(1) {
        let line: Value = serde_json::from_str(line).unwrap();
        let seq = line["seq"].as_u64().unwrap();
        let stored: Value = serde_json::from_str(line["bytes"].as_str().unwrap()).unwrap();
        let stored = match stored {
            Value::Array(several) => several,
            one => vec![one],
        };
        for event in stored {
            let kind = event["type"].as_str().unwrap();
            let kind = kind.trim_start_matches("custody.").trim_end_matches(".v1").to_owned();
            out.push(Event { seq, kind, data: event["data"].clone() });
        }
    }
    out
}

impl Stack {
    /// Every event so far.
    pub(crate) async fn ledger(&self) -> Vec<Event> {
        events(&self.ok(&["audit", "export"]).await.out)
    }

    /// The events of one dispatch.
    pub(crate) async fn events_of(&self, dispatch: &str) -> Vec<Event> {
        self.ledger().await.into_iter().filter(|event| event.data["dispatch"] == dispatch).collect()
    }

    /// What may be said of every installation at any time: nothing impossible was seen, the log is what was signed, and
    /// what is folded is what folding gives.
    pub(crate) async fn nothing_is_wrong(&self) {
        let summary = self.operator().await.ask("query.audit.summary", &serde_json::json!({})).await;
        assert_eq!(summary["ok"]["anomalies"], serde_json::json!([]), "{summary}");
        let verified = self.ok(&["audit", "verify"]).await;
        assert!(verified.out.contains("PASS"), "{verified:?}");
        self.ok(&["projection", "verify"]).await;
    }
}

/// How many of a kind.
pub(crate) fn count(events: &[Event], kind: &str) -> usize {
    events.iter().filter(|event| event.kind == kind).count()
}
