//! The inference door: the one way from a box to a model. It speaks the agent's wire format, calls the upstream that the
//! configuration gives the runner, in the upstream's format and with the upstream's key, and keeps a record of every
//! call that was made.
//!
//! Must never let a key, an upstream's address or another host's name into a box; must never call anything but a
//! configured upstream; must never lose or double the record of a call.

mod call;
mod client;
mod config;
mod count;
mod errors;
mod flow;
mod key;
mod meter;
mod plan;
mod record;
mod request;
mod sse;
mod translate;

pub(crate) use client::what_broke;
pub use config::{ApiChoice, DoorError, ModelConfig, Models, Price, RETRIES_MAX, RunnerModels, Tokens, WAIT_MS_MAX};
pub use flow::{BoxBody, Broken};
pub use record::{CallContext, CallRecord, DETAIL_BYTES_MAX};
pub(crate) use sse::SseParser;

use bytes::Bytes;
use client::Upstream;
use custody_ports::blobs::Blobs;
use errors::Told;
use futures::FutureExt;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use tokio::sync::{Semaphore, oneshot};

/// The most calls in progress at once, counting those whose bodies are still being stored; the next one is told to come
/// again. It bounds what the door holds in memory.
pub const CALLS_MAX: usize = 64;

/// Where Anthropic's format counts tokens without a call of the model.
const COUNT_PATH: &str = "/v1/messages/count_tokens";

/// A wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Api {
    /// OpenAI Chat Completions.
    OpenaiChat,
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI Responses.
    OpenaiResponses,
}

impl Api {
    /// Every format.
    pub const ALL: [Api; 3] = [Api::OpenaiChat, Api::Anthropic, Api::OpenaiResponses];

    /// Its word, as in agent-runner.v2 and in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Api::OpenaiChat => "openai-chat",
            Api::Anthropic => "anthropic",
            Api::OpenaiResponses => "openai-responses",
        }
    }

    /// The path of a call.
    pub fn path(self) -> &'static str {
        match self {
            Api::OpenaiChat => "/v1/chat/completions",
            Api::Anthropic => "/v1/messages",
            Api::OpenaiResponses => "/v1/responses",
        }
    }
}

/// The inference door. Cheap to clone; all clones share one client and one bound on calls.
#[derive(Clone)]
pub struct Door(Arc<Inner>);

struct Inner {
    models: Models,
    targets: BTreeMap<String, Arc<Target>>,
    blobs: Arc<dyn Blobs>,
    calls: Arc<Semaphore>,
    /// The largest request that any of the upstreams takes.
    request_bytes_max: u64,
}

/// One upstream, ready to be called.
struct Target {
    config: ModelConfig,
    /// Its wire format.
    api: Api,
    /// Who runs it.
    provider: String,
    upstream: Upstream,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("upstreams", &self.0.targets.keys()).finish_non_exhaustive()
    }
}

impl Door {
    /// Builds a door: checks the tables, reads the key files, prepares the clients. Calls nobody.
    ///
    /// # Errors
    /// [`DoorError`] for a value that cannot be used, a key file that is missing or readable by others, and for https
    /// on a machine without trusted roots.
    pub fn new(models: Models, blobs: Arc<dyn Blobs>) -> Result<Door, DoorError> {
        models.check()?;
        let mut targets = BTreeMap::new();
        for (alias, config) in &models.upstreams {
            let route = config.route()?;
            let upstream = Upstream::new(config, &route)?;
            let target = Target { config: config.clone(), api: route.api, provider: route.provider, upstream };
            targets.insert(alias.clone(), Arc::new(target));
        }
        let request_bytes_max = models.upstreams.values().map(|c| c.request_bytes_max).max().unwrap_or(0);
        let calls = Arc::new(Semaphore::new(CALLS_MAX));
        Ok(Door(Arc::new(Inner { models, targets, blobs, calls, request_bytes_max })))
    }

    /// Whether every upstream answers, within two seconds each, and if not, what it does instead. For `doctor`.
    ///
    /// # Errors
    /// A sentence that names the upstream and what happened, without address and key.
    pub async fn probe(&self) -> Result<(), String> {
        for target in self.0.targets.values() {
            let probed = target.upstream.probe().await;
            probed.map_err(|why| format!("model upstream {:?} {why}", target.config.name))?;
        }
        Ok(())
    }

    /// Every upstream's name and the wire format that it speaks, chosen or found out.
    pub fn formats(&self) -> Vec<(&str, Api)> {
        self.0.targets.values().map(|target| (target.config.name.as_str(), target.api)).collect()
    }

    /// Which upstream each runner gets.
    pub fn models(&self) -> &Models {
        &self.0.models
    }

    /// The upstream for a runner that asks for a model by name.
    fn target(&self, runner: &str, asked: Option<&str>) -> Option<Arc<Target>> {
        self.0.targets.get(self.0.models.alias(runner, asked)).cloned()
    }

    /// Answers one request of an agent. `done` gets one record when the call is over: the last byte was passed on, the
    /// agent went away, or the upstream failed. When no call of the upstream was tried (another path, a request that
    /// was refused here), `done` is dropped without a record.
    ///
    /// Must run inside a tokio runtime. Dropping the future or the body ends the upstream's call.
    pub async fn serve(
        &self,
        call: CallContext,
        request: Request<Incoming>,
        done: oneshot::Sender<CallRecord>,
    ) -> Response<BoxBody> {
        let path = request.uri().path();
        if path == "/v1/models" && request.method() == Method::GET {
            return plain(StatusCode::OK, &self.listed(&call.runner));
        }
        if path == COUNT_PATH {
            return match self.count(call, request, done).boxed().await {
                Ok(response) => response,
                Err(told) => refusal(Api::Anthropic, &told),
            };
        }
        let Some(api) = Api::ALL.into_iter().find(|api| api.path() == path) else {
            let told = Told::new(
                404,
                "unknown_path",
                "this door has POST /v1/chat/completions, POST /v1/messages, POST /v1/messages/count_tokens, \
                 POST /v1/responses and GET /v1/models",
            );
            return refusal(Api::OpenaiChat, &told);
        };
        // Boxed: the states of a call are large and would make every future around them large.
        match self.call(call, api, request, done).boxed().await {
            Ok(response) => response,
            Err(told) => refusal(api, &told),
        }
    }

    /// What a runner may ask for, in the shapes of both families at once.
    fn listed(&self, runner: &str) -> Value {
        let mut ids = vec![self.0.models.model_of(runner).to_owned()];
        if let Some(own) = self.0.models.runners.get(runner) {
            ids.extend(own.names.keys().cloned());
        }
        let models: Vec<Value> = ids
            .iter()
            .map(|id| {
                json!({
                    "id": id, "object": "model", "created": 0, "owned_by": "custody",
                    "type": "model", "display_name": id,
                })
            })
            .collect();
        json!({
            "object": "list",
            "data": models,
            "has_more": false,
            "first_id": ids.first(),
            "last_id": ids.last(),
        })
    }
}

/// Refuses a request in the words of its wire format. No call is made, so there is no record.
pub fn refuse(path: &str, status: u16, code: &str, message: String) -> Response<BoxBody> {
    let api = Api::ALL.into_iter().find(|api| path.starts_with(api.path())).unwrap_or(Api::OpenaiChat);
    refusal(api, &Told::new(status, code, message))
}

/// An error of the door itself: no call was made, so there is no record.
fn refusal(api: Api, told: &Told) -> Response<BoxBody> {
    let status = StatusCode::from_u16(told.status).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = plain(status, &told.body(api));
    match told.status {
        405 => {
            response.headers_mut().insert(http::header::ALLOW, HeaderValue::from_static("POST"));
        }
        503 => {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        _ => {}
    }
    response
}

fn plain(status: StatusCode, body: &Value) -> Response<BoxBody> {
    let full = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {});
    let mut response = Response::new(BoxBody::new(full));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests;
