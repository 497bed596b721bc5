//! The scripted model as a server on a Unix socket. Must never answer a prompt that no plan has with anything but a
//! title, and never hold an answer longer than [`HOLD_MAX`].

use super::script::{self, Act, Plan, Step, Wire};
use super::wire;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::StreamExt;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How long the second half of an answer waits for the first to arrive.
pub(super) const HOLD_MAX: Duration = Duration::from_secs(3);
/// The largest request; the gateway in front allows less.
const REQUEST_BYTES_MAX: usize = 32 << 20;

/// What the model saw and did in one step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// Requests with the step's prompt.
    pub(super) requests: u32,
    /// The most tools that one of them offered.
    pub(super) tools: usize,
    /// The tool that it called.
    pub(super) called: Option<String>,
    /// What the tool answered.
    pub(super) result: Option<String>,
    /// Whether a request held the word of an earlier turn.
    pub(super) knows_word: bool,
    /// Whether the beginning of the answer arrived before its end was sent.
    pub(super) as_it_is_made: bool,
}

struct Shared {
    plans: Mutex<BTreeMap<String, Played>>,
}

struct Played {
    plan: Plan,
    heard: BTreeMap<Step, Heard>,
    arrived: BTreeMap<Step, Arc<Notify>>,
    answers: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Played>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running model; it ends when this is dropped.
pub(super) struct Model {
    shared: Arc<Shared>,
    serving: tokio::task::AbortHandle,
}

impl Model {
    /// Listens on a socket that is not there yet. Must run inside a tokio runtime.
    ///
    /// # Errors
    /// When it cannot listen.
    pub(super) fn listen(socket: &Path) -> std::io::Result<Model> {
        let listener = tokio::net::UnixListener::bind(socket)?;
        let shared = Arc::new(Shared { plans: Mutex::default() });
        let routes = Router::new()
            .route("/v1/chat/completions", post(chat))
            .route("/v1/messages", post(messages))
            .route("/v1/messages/count_tokens", post(count))
            .route("/v1/responses", post(responses))
            .route("/v1/models", get(models))
            .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
            .with_state(shared.clone());
        let serving = tokio::spawn(async move {
            // Every connection's failure is the agent's to see.
            let _ended = axum::serve(listener, routes).await;
        });
        Ok(Model { shared, serving: serving.abort_handle() })
    }

    /// Answers the prompts of this plan from now on.
    pub(super) fn play(&self, plan: Plan) {
        let played = Played { plan: plan.clone(), heard: BTreeMap::new(), arrived: BTreeMap::new(), answers: 0 };
        self.shared.lock().insert(plan.key, played);
    }

    /// What it saw and did in a step.
    pub(super) fn heard(&self, plan: &Plan, step: Step) -> Heard {
        self.shared.lock().get(&plan.key).and_then(|p| p.heard.get(&step).cloned()).unwrap_or_default()
    }

    /// Words of the step's answer arrived: the rest may be said.
    pub(super) fn arrived(&self, plan: &Plan, step: Step) {
        if let Some(played) = self.shared.lock().get_mut(&plan.key) {
            played.arrived.entry(step).or_default().notify_one();
        }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

type Plans = State<Arc<Shared>>;

async fn chat(State(shared): Plans, body: Bytes) -> Response {
    answer(&shared, Wire::Chat, &body)
}

async fn messages(State(shared): Plans, body: Bytes) -> Response {
    answer(&shared, Wire::Messages, &body)
}

async fn responses(State(shared): Plans, body: Bytes) -> Response {
    answer(&shared, Wire::Responses, &body)
}

async fn count() -> Response {
    document(StatusCode::OK, &json!({ "input_tokens": wire::TOKENS.0 }))
}

async fn models() -> Response {
    document(StatusCode::OK, &json!({ "object": "list", "data": [{ "id": "scripted", "object": "model" }] }))
}

fn document(status: StatusCode, value: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

fn answer(shared: &Arc<Shared>, wire: Wire, body: &[u8]) -> Response {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let (act, id, held) = decide(shared, wire, &body);
    if let Act::Refuse(words) = &act {
        let status = StatusCode::from_u16(wire::REFUSED_STATUS).unwrap_or(StatusCode::BAD_REQUEST);
        return document(status, &wire::refusal(wire, words));
    }
    let stream = body["stream"].as_bool() == Some(true);
    let mut parts = wire::answer(wire, &act, stream, body["model"].as_str().unwrap_or("scripted"), &id);
    if !stream {
        return ([(header::CONTENT_TYPE, "application/json")], parts.concat()).into_response();
    }
    let rest = parts.split_off(1.min(parts.len())).concat();
    let first = futures::stream::iter(parts);
    let shared = shared.clone();
    let rest = futures::stream::once(async move {
        if let Some((key, step, arrived)) = held
            && tokio::time::timeout(HOLD_MAX, arrived.notified()).await.is_ok()
            && let Some(played) = shared.lock().get_mut(&key)
        {
            played.heard.entry(step).or_default().as_it_is_made = true;
        }
        rest
    });
    let pieces = first.chain(rest).map(|part| Ok::<_, Infallible>(Bytes::from(part)));
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(pieces)).into_response()
}

type Held = (String, Step, Arc<Notify>);

/// What to do, the answer's own id, and what the second half of the answer waits for.
fn decide(shared: &Shared, wire: Wire, body: &Value) -> (Act, String, Option<Held>) {
    let mut plans = shared.lock();
    for (key, played) in plans.iter_mut() {
        let Some(asked) = script::read(wire, body, &played.plan) else { continue };
        let act = script::act(&asked, &played.plan);
        let heard = played.heard.entry(asked.step).or_default();
        heard.requests += 1;
        heard.tools = heard.tools.max(asked.tools.len());
        heard.knows_word |= asked.knows_word;
        if let Some(result) = asked.results.last() {
            heard.result = Some(result.clone());
        }
        if let Act::Call { tool, .. } = &act {
            heard.called = Some(tool.name.clone());
        }
        played.answers += 1;
        let id = format!("{key}_{}", played.answers);
        let held = matches!(act, Act::Answer(_) if asked.step == Step::First);
        let held = held.then(|| (key.clone(), asked.step, played.arrived.entry(asked.step).or_default().clone()));
        return (act, id, held);
    }
    (Act::Aside("Self-test".to_owned()), "0".to_owned(), None)
}
