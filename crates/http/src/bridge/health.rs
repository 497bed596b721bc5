//! How the installation is, looked at once for every page that asks. Must never be looked at once a page.

use crate::api::Api;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often it is looked at while somebody watches.
const EVERY: Duration = Duration::from_secs(3);

/// The newest look.
#[derive(Debug, Clone)]
pub struct Health(watch::Sender<Arc<Value>>);

impl Default for Health {
    fn default() -> Health {
        Health(watch::channel(Arc::new(Value::Null)).0)
    }
}

impl Health {
    /// Changes when the installation is otherwise.
    pub fn changes(&self) -> watch::Receiver<Arc<Value>> {
        self.0.subscribe()
    }

    /// Looks now, and tells those who watch.
    pub async fn now(&self, api: &Api) -> Value {
        let look = look(api).await;
        self.0.send_if_modified(|before| {
            let changed = **before != look;
            if changed {
                *before = Arc::new(look.clone());
            }
            changed
        });
        look
    }

    /// Looks again and again while somebody watches, until cancelled.
    pub async fn watch(self, api: Api, cancel: CancellationToken) {
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            if self.0.receiver_count() > 0 {
                self.now(&api).await;
            }
        }
    }
}

async fn look(api: &Api) -> Value {
    let projections = api.query("projection.ls", json!({})).await;
    let head = api.hub.head();
    let projections = match projections {
        Ok(answer) => {
            let rows = answer.get("rows").and_then(Value::as_array).cloned().unwrap_or_default();
            let rows = rows.into_iter().map(|row| {
                let seq = row.get("seq").and_then(Value::as_u64).unwrap_or(0);
                json!({ "name": row.get("name"), "seq": seq, "rows": row.get("rows"), "lag": head.saturating_sub(seq) })
            });
            json!({ "status": "ok", "rows": rows.collect::<Vec<_>>() })
        }
        Err(problem) => json!({ "status": "fail", "code": problem.code, "detail": problem.detail, "rows": [] }),
    };
    let mut value = (api.probe)().await;
    if !value.is_object() {
        value = json!({});
    }
    value["version"] = json!(api.settings.version);
    value["contracts"] = json!(api.settings.contracts);
    value["projections"] = projections;
    value["connections"] = json!(api.connections());
    value
}
