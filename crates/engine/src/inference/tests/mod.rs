//! The door as a gateway uses it: behind a real HTTP server, before a real one.

mod broken;
mod pass;
mod refused;
mod secret;
mod translated;

use super::*;
use bytes::Bytes;
use custody_ports::blobs::BlobError;
use custody_testkit::model::{ScriptedModel, Turn};
use futures::StreamExt;
use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

/// How long a test waits for what must come.
const LIMIT: Duration = Duration::from_secs(30);

/// Blobs in memory that a test can wait for.
pub(super) struct Kept {
    blobs: Mutex<BTreeMap<String, Vec<u8>>>,
    count: watch::Sender<usize>,
}

impl Kept {
    pub(super) fn new() -> Arc<Kept> {
        Arc::new(Kept { blobs: Mutex::new(BTreeMap::new()), count: watch::Sender::new(0) })
    }

    async fn wait(&self, n: usize) -> BTreeMap<String, Vec<u8>> {
        let mut count = self.count.subscribe();
        tokio::time::timeout(LIMIT, count.wait_for(|c| *c >= n)).await.unwrap().unwrap();
        self.blobs.lock().unwrap().clone()
    }
}

impl Blobs for Kept {
    fn put<'a>(
        &'a self,
        _of: &'a custody_contracts::ids::Subject,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<String, BlobError>> {
        let name = custody_contracts::canonical::digest(&bytes);
        self.blobs.lock().unwrap().insert(name.clone(), bytes);
        self.count.send_modify(|count| *count += 1);
        futures::future::ready(Ok(name)).boxed()
    }

    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<u8>, BlobError>> {
        let found = self.blobs.lock().unwrap().get(name).cloned();
        futures::future::ready(found.ok_or_else(|| BlobError::Missing(name.to_owned()))).boxed()
    }
}

/// A door between a scripted model and a client that plays the agent.
struct Stand {
    model: ScriptedModel,
    door: Door,
    blobs: Arc<Kept>,
    url: String,
    agent: reqwest::Client,
    records: mpsc::Receiver<Option<CallRecord>>,
}

/// A configuration for a model, with short waits.
pub(super) fn config(url: &str) -> ModelConfig {
    serde_json::from_value(json!({
        "name": "house", "url": url, "model": "real-model", "timeout_ms": 10_000, "idle_timeout_ms": 10_000,
    }))
    .unwrap()
}

impl Stand {
    async fn new(script: Vec<Turn>, adjust: impl FnOnce(&mut ModelConfig)) -> Stand {
        let model = ScriptedModel::tcp(script).await.unwrap();
        let mut config = config(model.url());
        adjust(&mut config);
        let blobs = Kept::new();
        let door = Door::new(Models::one(config), blobs.clone()).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (send, records) = mpsc::channel(16);
        tokio::spawn(gateway(listener, door.clone(), send));
        let agent = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        Stand { model, door, blobs, url, agent, records }
    }

    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> reqwest::Response {
        let request = self.agent.post(format!("{}{path}", self.url)).body(body).send();
        tokio::time::timeout(LIMIT, request).await.unwrap().unwrap()
    }

    async fn chat(&self, stream: bool) -> reqwest::Response {
        self.post("/v1/chat/completions", say(stream).to_string()).await
    }

    /// What the next finished request told of itself; `None` when it made no call.
    async fn record(&mut self) -> Option<CallRecord> {
        tokio::time::timeout(LIMIT, self.records.recv()).await.unwrap().unwrap()
    }
}

fn say(stream: bool) -> Value {
    json!({ "model": "any", "max_tokens": 50, "messages": [{ "role": "user", "content": "two words" }], "stream": stream })
}

/// The gateway's part: one server, one record for each request.
async fn gateway(listener: TcpListener, door: Door, records: mpsc::Sender<Option<CallRecord>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (door, records) = (door.clone(), records.clone());
        let service = hyper::service::service_fn(move |request| {
            let (door, records) = (door.clone(), records.clone());
            async move {
                let (done, record) = oneshot::channel();
                tokio::spawn(async move { records.send(record.await.ok()).await });
                let call = CallContext {
                    dispatch: "d-test".to_owned(),
                    subject: custody_contracts::ids::Subject::parse("u_jane").unwrap(),
                    runner: "r".to_owned(),
                    n: 1,
                };
                Ok::<_, std::convert::Infallible>(door.serve(call, request, done).await)
            }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

fn events(body: &str) -> Vec<Value> {
    body.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect()
}
