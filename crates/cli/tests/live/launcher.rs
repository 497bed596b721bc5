//! A launcher as any program would be one: a connection of its own, and messages that it makes itself.

use crate::stack::{Stack, options, seed};
use custody_contracts::canonical::canonical;
use custody_contracts::ids::{DispatchId, LauncherId, UnixMillis};
use custody_contracts::launch;
use custody_contracts::messages::Reply;
use custody_domain::admission::dispatch_id;
use custody_nats::Connection;
use custody_streams::accounts::inbox_prefix;
use futures::StreamExt;
use nkeys::KeyPair;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// How long a reply may take.
pub(crate) const REPLY_MAX: Duration = Duration::from_secs(20);

/// A connected launcher.
pub(crate) struct Launcher {
    /// Its id.
    pub(crate) id: String,
    /// Its connection.
    pub(crate) connection: Connection,
    /// Its key.
    pub(crate) key: KeyPair,
}

/// Milliseconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "a launcher has a clock of its own")]
pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_millis().try_into().unwrap()
}

impl Stack {
    /// Registers a launcher that must sign and may act for `u_jane`, who grants it, and connects as it.
    pub(crate) async fn launcher(&self, id: &str) -> Launcher {
        self.ok(&["launcher", "register", id, "--subject", "u_jane"]).await;
        self.grant("u_jane", id, &[]).await;
        self.connect(id).await
    }

    /// Connects as a launcher whose key is in the state folder.
    pub(crate) async fn connect(&self, id: &str) -> Launcher {
        let seed = seed(&self.state().join(format!("launchers/{id}.nk")));
        let key = KeyPair::from_seed(seed.expose()).unwrap();
        let connection = Connection::open(&options(self.url(), inbox_prefix(id), seed)).await.unwrap();
        Launcher { id: id.to_owned(), connection, key }
    }
}

/// A unit that is good for a launcher: in the name of the operator, who granted the command line what it needs when the
/// installation was set up, or of Jane.
pub(crate) fn unit(launcher: &str, prompt: &str) -> Value {
    let subject = if launcher == "cli" { "u_tester" } else { "u_jane" };
    json!({
        "identity": { "subject": subject, "launcher": format!("user:{launcher}") },
        "runner": "custody-agent",
        "workspaces": [{ "id": "default", "mode": "rw" }],
        "trigger": "message",
        "start": { "entrypoint": { "inline": prompt } },
    })
}

impl Launcher {
    /// A message around a unit, unsigned.
    pub(crate) fn event(&self, id: &str, unit: &Value) -> Map<String, Value> {
        let event = json!({
            "specversion": "1.0", "id": id, "source": format!("launcher/{}", self.id), "type": launch::TYPE,
            "time": UnixMillis(now()).rfc3339(), "datacontenttype": "application/json",
            "dataschema": "custody:unit.v1#/$defs/Invocation", "data": unit,
        });
        event.as_object().unwrap().clone()
    }

    /// The bytes of a message, signed.
    pub(crate) fn signed(&self, mut event: Map<String, Value>) -> Vec<u8> {
        custody_trust::launch::sign(&mut event, &self.key).unwrap();
        canonical(&Value::Object(event)).into_bytes()
    }

    /// Publishes, and waits until the stream has it.
    pub(crate) async fn publish(&self, bytes: Vec<u8>) {
        let subject = format!("launch.{}.dispatch", self.id);
        let ack = tokio::time::timeout(REPLY_MAX, self.connection.client().request(subject, bytes.into())).await;
        let ack: Value = serde_json::from_slice(&ack.unwrap().unwrap().payload).unwrap();
        assert!(ack["seq"].is_u64(), "{ack}");
    }

    /// Publishes a good launch and gives back the dispatch that it is, without waiting for anybody to decide it.
    pub(crate) async fn ask(&self, id: &str, unit: &Value) -> DispatchId {
        let bytes = self.signed(self.event(id, unit));
        self.publish(bytes).await;
        dispatch_id(&LauncherId::parse(&self.id).unwrap(), Some(id), &[])
    }

    /// What its dispatches say from now on.
    pub(crate) async fn hears(&self) -> async_nats::Subscriber {
        let client = self.connection.client();
        let heard = client.subscribe(format!("reply.{}.*.out", self.id)).await.unwrap();
        client.flush().await.unwrap();
        heard
    }

    /// Publishes and waits for the reply: on the subject of the dispatch that the message's id stands for, or of the one
    /// that its bytes stand for. One subject for one message: a wildcard that is subscribed again right after it was
    /// dropped can miss a message between accounts (nats-server 2.15.1).
    pub(crate) async fn asked(&self, bytes: Vec<u8>) -> Reply {
        let launcher = LauncherId::parse(&self.id).unwrap();
        let own = dispatch_id(&launcher, custody_domain::admission::event_id(&bytes).as_deref(), &bytes);
        let by_bytes = dispatch_id(&launcher, None, &bytes);
        let client = self.connection.client();
        let first = client.subscribe(format!("reply.{}.{own}", self.id)).await.unwrap();
        let second = client.subscribe(format!("reply.{}.{by_bytes}", self.id)).await.unwrap();
        let mut replies = futures::stream::select(first, second);
        client.flush().await.unwrap();
        let shown = String::from_utf8_lossy(&bytes).chars().take(400).collect::<String>();
        self.publish(bytes).await;
        let reply = tokio::time::timeout(REPLY_MAX, replies.next()).await;
        let reply = reply.unwrap_or_else(|_| panic!("no reply in time to {shown}")).unwrap();
        serde_json::from_slice(&reply.payload).unwrap()
    }
}
