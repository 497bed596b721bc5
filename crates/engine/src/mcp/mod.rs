//! The MCP door of a dispatch: the tools that its unit names, over streamable HTTP on the dispatch's own socket. The
//! socket is the identity, so no token and no session id is asked for or handed out.
//!
//! Must never carry out a call that has no permit of `domain::tool`, whose intent is not in the ledger, or beyond the
//! rate; must never answer a call before its outcome is in the ledger.
//!
//! Three versions are spoken: 2025-06-18 and 2025-11-25, which begin with a greeting, and 2026-07-28, in which every request
//! stands alone ([`era`]). The door keeps nothing between two requests in any of them.
//!
//! Written here and not taken from the official SDK: what this door is for stands between the transport and the tool
//! (bounds, strict reading, permit, intent, outcome), and the part of the protocol that is left is five methods. The SDKs
//! are the other side of this door's tests.

mod call;
pub(crate) mod era;
mod files;
mod past;
mod rate;
mod release;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod tests_stock;
pub(crate) mod wire;

pub(crate) use call::{in_doubt, tool_name};
pub(crate) use past::Past;

use crate::grants::Grants;
use crate::inference::BoxBody;
use crate::presenting::Pass;
use crate::replay::Tape;
use crate::tools::ToolBook;
use crate::upstream::Upstreams;
use bytes::Bytes;
use custody_contracts::envelope::Meta;
use custody_contracts::events::{DispatchAdmitted, ToolEffect};
use custody_domain::tool::{Policy, listed};
use custody_ledger::{Log, Sign};
use custody_ports::blobs::Blobs;
use custody_ports::clock::Clock;
use era::{Era, GREETED};
use http::header::{ALLOW, CONTENT_TYPE, ORIGIN};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use rate::Bucket;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, Weak};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use wire::{Incoming as Message, RpcError};

/// Where the door is on the dispatch's socket.
pub(crate) const PATH: &str = "/mcp";
/// What an agent's model may be told about this server.
const INSTRUCTIONS: &str = "Every call is checked, recorded and bounded. A refusal names the rule and the next step.";
/// The largest message of an agent, in bytes.
const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Calls of one dispatch that are carried out at once; further ones wait.
const RUNNING_MAX: usize = 8;

/// What the door of one dispatch needs.
pub(crate) struct Needs {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) signer: Arc<dyn Sign>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) blobs: Arc<dyn Blobs>,
    /// The admission: whose dispatch it is, and what it may call.
    pub(crate) admitted: DispatchAdmitted,
    /// The envelope of this dispatch's events, without a time.
    pub(crate) meta: Meta,
    /// Where each workspace of the unit is mounted from, in the unit's order.
    pub(crate) roots: Vec<PathBuf>,
    /// What it has called already.
    pub(crate) past: Past,
    /// How long a call waits for a person, in milliseconds.
    pub(crate) approval_ms: u64,
    /// Of this process alone.
    pub(crate) incarnation: String,
    /// What is offered.
    pub(crate) tools: ToolBook,
    /// What is asked about every call.
    pub(crate) policy: Arc<dyn Policy>,
    /// The servers of tools that are not the gateway's own.
    pub(crate) upstreams: Upstreams,
    /// The recording that the dispatch repeats: then nothing is carried out.
    pub(crate) tape: Option<Arc<Tape>>,
    /// Grants, and whether revocations arrive.
    pub(crate) grants: Grants,
    /// The dispatch's token; `None` where there is no token service.
    pub(crate) pass: Option<Pass>,
}

/// The door of one dispatch.
pub(crate) struct Mcp {
    me: Weak<Mcp>,
    needs: Needs,
    /// The number of the last call.
    last: AtomicU32,
    /// Calls that are never made twice.
    past: AsyncMutex<Past>,
    rate: Mutex<Bucket>,
    running: Semaphore,
    /// Refusals that no event stands for yet, by their reason: how many, and the words about the last one.
    noted: Mutex<BTreeMap<&'static str, (u64, String)>>,
    /// Whether somebody is about to write those events.
    flushing: AtomicBool,
    /// Bytes written into workspaces.
    written: AtomicU64,
}

impl Mcp {
    pub(crate) fn new(mut needs: Needs) -> Arc<Mcp> {
        let past = std::mem::take(&mut needs.past);
        Arc::new_cyclic(|me| Mcp {
            me: me.clone(),
            last: AtomicU32::new(past.last),
            past: AsyncMutex::new(past),
            needs,
            rate: Mutex::new(Bucket::full(tokio::time::Instant::now())),
            running: Semaphore::new(RUNNING_MAX),
            noted: Mutex::default(),
            flushing: AtomicBool::new(false),
            written: AtomicU64::new(0),
        })
    }

    /// Answers one HTTP request.
    pub(crate) async fn serve(self: Arc<Mcp>, request: Request<Incoming>) -> Response<BoxBody> {
        let (Parts { method, headers, .. }, body) = request.into_parts();
        if method != Method::POST {
            // No stream of the server's own is offered, and there is no session to end.
            let mut response = error(StatusCode::METHOD_NOT_ALLOWED, &RpcError::invalid("use POST"));
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return response;
        }
        if headers.contains_key(ORIGIN) {
            return error(StatusCode::FORBIDDEN, &RpcError::invalid("no page of a browser is served here"));
        }
        let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => {
                let why = RpcError::invalid(format!("the message broke off or is larger than {BODY_BYTES_MAX} bytes"));
                return error(StatusCode::PAYLOAD_TOO_LARGE, &why);
            }
        };
        match wire::read(&body) {
            Err(why) => error(StatusCode::BAD_REQUEST, &why),
            Ok(Message::Nothing) => match era::of_headers(&headers) {
                Ok(_) => empty(StatusCode::ACCEPTED),
                Err(why) => error(StatusCode::BAD_REQUEST, &why),
            },
            Ok(Message::Request { id, method, params }) => {
                let era = match era::of_request(&headers, &method, &params) {
                    Ok(era) => era,
                    Err(why) => return document(StatusCode::BAD_REQUEST, &wire::reply(&id, Err(why))),
                };
                // The call goes on when the agent goes away: its outcome belongs into the ledger all the same.
                let door = self.clone();
                let answered = tokio::spawn(async move { door.answer(era, &method, &params).await }).await;
                let answered = answered.unwrap_or_else(|_| Err(RpcError::internal("the call broke off; call again")));
                let status = match (&answered, era) {
                    (Err(why), Era::Alone) => why.status(),
                    _ => StatusCode::OK,
                };
                document(status, &wire::reply(&id, answered))
            }
        }
    }

    async fn answer(&self, era: Era, method: &str, params: &Value) -> Result<Value, RpcError> {
        self.within_rate().await?;
        match (era, method) {
            (Era::Greeted, "initialize") => Ok(initialize(params)),
            (Era::Greeted, "ping") => Ok(json!({})),
            (Era::Greeted, "tools/list") => Ok(self.list()),
            (Era::Greeted, "tools/call") => self.call(params).await,
            (Era::Alone, "server/discover") => Ok(era::discovered(&about(), INSTRUCTIONS)),
            (Era::Alone, "tools/list") => Ok(era::fresh(self.list(), &about())),
            (Era::Alone, "tools/call") => self.call(params).await.map(|result| era::complete(result, &about())),
            (era, other) => {
                let other: String = other.chars().take(80).collect();
                let offered = match era {
                    Era::Greeted => "initialize, ping, tools/list and tools/call",
                    Era::Alone => "server/discover, tools/list and tools/call",
                };
                Err(RpcError::unknown_method(&other, offered))
            }
        }
    }

    fn list(&self) -> Value {
        let offered = self.needs.tools.tools();
        let listed = listed(&self.needs.admitted, &offered, self.needs.policy.as_ref());
        let tools = listed.iter().map(|tool| {
            let document = tool.document();
            json!({
                "name": document.name,
                "description": tool.description(),
                "inputSchema": era::without_headers(tool.args_schema()),
                "annotations": {
                    "readOnlyHint": document.effect == ToolEffect::Read,
                    "destructiveHint": document.effect != ToolEffect::Read,
                    "idempotentHint": document.idempotent,
                    "openWorldHint": tool.upstream().is_some(),
                },
            })
        });
        json!({ "tools": tools.collect::<Vec<_>>() })
    }
}

/// The answer to a greeting. A version that is not spoken is answered with one that is: an older one with the oldest.
fn initialize(params: &Value) -> Value {
    let asked = params["protocolVersion"].as_str().unwrap_or_default();
    let [newest, oldest] = GREETED;
    let version = match GREETED.iter().find(|version| **version == asked) {
        Some(version) => version,
        None if asked < newest => oldest,
        None => newest,
    };
    json!({
        "protocolVersion": version,
        "capabilities": { "tools": { "listChanged": false } },
        "serverInfo": about(),
        "instructions": INSTRUCTIONS,
    })
}

/// Who answers.
fn about() -> Value {
    json!({ "name": "custody", "title": "Custody gateway", "version": env!("CARGO_PKG_VERSION") })
}

fn document(status: StatusCode, value: &Value) -> Response<BoxBody> {
    let mut response = Response::new(full(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn error(status: StatusCode, why: &RpcError) -> Response<BoxBody> {
    document(status, &wire::reply(&Value::Null, Err(why.clone())))
}

fn empty(status: StatusCode) -> Response<BoxBody> {
    let mut response = Response::new(full(String::new()));
    *response.status_mut() = status;
    response
}

fn full(text: String) -> BoxBody {
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync()
}
