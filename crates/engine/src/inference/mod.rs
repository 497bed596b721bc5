//! The inference door: the one way from a box to a model. It speaks the agent's wire format, calls the one configured
//! upstream in the upstream's format with the upstream's key, and keeps a record of every call that was made.
//!
//! Must never let the key, the upstream's address or another host's name into a box; must never call anything but the
//! configured upstream; must never lose or double the record of a call.

mod call;
mod client;
mod config;
mod errors;
mod flow;
mod key;
mod meter;
mod plan;
mod record;
mod request;
mod sse;
mod translate;

pub use config::{ApiChoice, DoorError, ModelConfig, RETRIES_MAX, WAIT_MS_MAX};
pub use flow::{BoxBody, Broken};
pub use record::{CallContext, CallRecord, DETAIL_BYTES_MAX};

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
use std::fmt;
use std::sync::Arc;
use tokio::sync::{Semaphore, oneshot};

/// The most calls in progress at once, counting those whose bodies are still being stored; the next one is told to come
/// again. It bounds what the door holds in memory.
pub const CALLS_MAX: usize = 64;

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

    /// Its word, as in agent-runner.v1 and in the ledger.
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
    config: ModelConfig,
    /// The upstream's wire format.
    api: Api,
    upstream: Upstream,
    blobs: Arc<dyn Blobs>,
    calls: Arc<Semaphore>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door")
            .field("upstream", &self.0.config.name)
            .field("api", &self.0.api)
            .field("has_key", &self.0.upstream.key.is_some())
            .finish_non_exhaustive()
    }
}

impl Door {
    /// Builds a door: checks the table, reads the key file, prepares the client. Calls nobody.
    ///
    /// # Errors
    /// [`DoorError`] for a value that cannot be used, a key file that is missing or readable by others, and for https
    /// on a machine without trusted roots.
    pub fn new(config: ModelConfig, blobs: Arc<dyn Blobs>) -> Result<Door, DoorError> {
        let route = config.route()?;
        let upstream = Upstream::new(&config, &route)?;
        let calls = Arc::new(Semaphore::new(CALLS_MAX));
        Ok(Door(Arc::new(Inner { config, api: route.api, upstream, blobs, calls })))
    }

    /// Whether the upstream answers, within two seconds, and if not, what it does instead. For `doctor`.
    ///
    /// # Errors
    /// A sentence that names the upstream and what happened, without address and key.
    pub async fn probe(&self) -> Result<(), String> {
        self.0.upstream.probe().await.map_err(|why| format!("model upstream {:?} {why}", self.0.config.name))
    }

    /// The upstream's wire format, chosen or found out.
    pub fn upstream_api(&self) -> Api {
        self.0.api
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
            return plain(StatusCode::OK, &self.models());
        }
        let Some(api) = Api::ALL.into_iter().find(|api| api.path() == path) else {
            let told = Told::new(
                404,
                "unknown_path",
                "this door has POST /v1/chat/completions, POST /v1/messages, POST /v1/responses and GET /v1/models",
            );
            return refusal(Api::OpenaiChat, &told);
        };
        // Boxed: the states of a call are large and would make every future around them large.
        match self.call(call, api, request, done).boxed().await {
            Ok(response) => response,
            Err(told) => refusal(api, &told),
        }
    }

    /// In the shapes of both families at once.
    fn models(&self) -> Value {
        let config = &self.0.config;
        json!({
            "object": "list",
            "data": [{
                "id": config.model, "object": "model", "created": 0, "owned_by": config.name,
                "type": "model", "display_name": config.model,
            }],
            "has_more": false,
            "first_id": config.model,
            "last_id": config.model,
        })
    }
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
