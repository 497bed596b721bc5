//! One call, from the agent's request to the answer's first piece. Must never answer an agent in words that hold the
//! upstream's address or key, and must leave a record once the upstream was called.

use super::client::{self, Reached};
use super::errors::{self, Told};
use super::flow::{self, BoxBody, End, Flow, Pieces, Pipe};
use super::key::KeyGuard;
use super::plan::Plan;
use super::record::{Call, CallContext, CallRecord, Ending, Recorder};
use super::sse::SseParser;
use super::translate::chain::{self, Translator};
use super::translate::names::ToolNames;
use super::{Api, CALLS_MAX, Door, Target, request};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long an agent may take to send its request.
const BODY_MAX: Duration = Duration::from_secs(120);

/// How much of an upstream's own words an agent is told, in bytes.
const WORDS_BYTES_MAX: usize = 500;

impl Door {
    /// Answers one call; an error is told by the door itself and has no record.
    pub(super) async fn call(
        &self,
        context: CallContext,
        api: Api,
        request: Request<Incoming>,
        done: oneshot::Sender<CallRecord>,
    ) -> Result<Response<BoxBody>, Told> {
        let (target, read, call, agent) = self.begin(context, api, request).await?;
        let plan = Plan::of(&target, api, read, &agent)?;
        let recorder = Recorder::start(call, done, Arc::clone(&self.0.blobs));
        Ok(target.forward(api, target.api.path(), plan, recorder).await)
    }

    /// Reads a request within its bounds and finds its upstream.
    pub(super) async fn begin(
        &self,
        context: CallContext,
        api: Api,
        request: Request<Incoming>,
    ) -> Result<(Arc<Target>, request::AgentRequest, Call, HeaderMap), Told> {
        let inner = &self.0;
        if request.method() != Method::POST {
            return Err(Told::new(405, "method_not_allowed", "use POST"));
        }
        let permit = Arc::clone(&inner.calls).try_acquire_owned().map_err(|_| {
            Told::new(503, "too_many_calls", format!("{CALLS_MAX} model calls are in progress; try again"))
        })?;
        let (head, body) = request.into_parts();
        if head.headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            return Err(Told::new(415, "unsupported_encoding", "send the request without content-encoding"));
        }
        let body = tokio::time::timeout(BODY_MAX, request::read_body(body, inner.request_bytes_max))
            .await
            .map_err(|_| Told::new(408, "request_timeout", "the request's body did not arrive in time"))??;
        let read = request::AgentRequest::parse(&body)?;
        let target = self
            .target(&context.runner, read.model().as_deref())
            .ok_or_else(|| Told::new(503, "no_model", "no model is configured for this runner"))?;
        if body.len() as u64 > target.config.request_bytes_max {
            return Err(request::too_large(target.config.request_bytes_max));
        }
        let call = Call { context, api, target: target.clone(), request: body, permit };
        Ok((target, read, call, head.headers))
    }
}

impl Target {
    /// Calls the upstream; from here on there is a record.
    pub(super) async fn forward(
        &self,
        api: Api,
        path: &'static str,
        plan: Plan,
        mut recorder: Recorder,
    ) -> Response<BoxBody> {
        let Plan { body, stream, wants_usage, names, headers } = plan;
        let (reached, attempts) = self.upstream.call(path, body, stream, headers).await;
        recorder.attempts = attempts;
        match reached {
            Reached::Answer(response) => {
                recorder.status = response.status().as_u16();
                let told = client::limits(response.headers());
                let mut answer = self.answer(api, stream, wants_usage, names, response, recorder).await;
                answer.headers_mut().extend(told);
                answer
            }
            Reached::Refused { status, told: limits, body } => {
                recorder.status = status;
                let (told, detail) = self.told_of_refusal(status, &body);
                let mut response = self.failed(api, &told, detail, recorder);
                response.headers_mut().extend(limits);
                response
            }
            Reached::Silent(what) => self.unreached(api, 504, "upstream_timeout", &what, recorder),
            Reached::Broken(what) => self.unreached(api, 502, "upstream_unreachable", &what, recorder),
        }
    }

    /// The head of an answer is here. Its first piece is awaited too, so that an upstream which dies or hangs before it
    /// is told of by a status and not inside a stream.
    async fn answer(
        &self,
        api: Api,
        stream: bool,
        wants_usage: bool,
        names: ToolNames,
        response: reqwest::Response,
        recorder: Recorder,
    ) -> Response<BoxBody> {
        let kind = response.headers().get(CONTENT_TYPE).cloned();
        let events = kind.as_ref().is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if api != self.api && events != stream {
            let asked = if stream { "was asked for a stream and sent none" } else { "sent a stream nobody asked for" };
            return self.unreached(api, 502, "upstream_failed", asked, recorder);
        }
        let mut pieces = response.bytes_stream().boxed();
        let idle = Duration::from_millis(self.config.idle_timeout_ms);
        let first = match tokio::time::timeout(idle, pieces.next()).await {
            Ok(Some(Ok(bytes))) => bytes,
            Ok(Some(Err(why))) => {
                return self.unreached(api, 502, "upstream_failed", &client::what_broke(&why), recorder);
            }
            Ok(None) => return self.unreached(api, 502, "upstream_failed", "sent an empty answer", recorder),
            Err(_) => {
                let what = format!("was silent for {} ms", idle.as_millis());
                return self.unreached(api, 504, "upstream_timeout", &what, recorder);
            }
        };
        let pieces = futures::stream::iter([Ok(first)]).chain(pieces).boxed();
        if api != self.api && !events {
            return self.translated(api, pieces, &names, recorder).await;
        }
        let (pipe, kind) = if api != self.api {
            let translator = Translator::new(api, self.api, wants_usage, &self.config.model, names);
            let kind = Some(HeaderValue::from_static("text/event-stream"));
            (Pipe::Translated(SseParser::default(), Box::new(translator)), kind)
        } else if events {
            (Pipe::Events(SseParser::default()), kind)
        } else {
            (Pipe::Document, kind)
        };
        let mut answer = Response::new(self.flow(api, pieces, pipe, recorder).into_body());
        if let Some(kind) = kind {
            answer.headers_mut().insert(CONTENT_TYPE, kind);
        }
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        answer
    }

    /// A whole answer in the other format.
    async fn translated(
        &self,
        api: Api,
        mut pieces: Pieces,
        names: &ToolNames,
        mut recorder: Recorder,
    ) -> Response<BoxBody> {
        let idle = Duration::from_millis(self.config.idle_timeout_ms);
        let mut whole = BytesMut::new();
        loop {
            match tokio::time::timeout(idle, pieces.next()).await {
                Ok(None) => break,
                Ok(Some(Ok(bytes))) if whole.len() as u64 + bytes.len() as u64 <= self.config.response_bytes_max => {
                    whole.extend_from_slice(&bytes);
                }
                Ok(Some(Ok(_))) => {
                    let what = format!("answered with more than {} bytes", self.config.response_bytes_max);
                    return self.unreached(api, 502, "upstream_failed", &what, recorder);
                }
                Ok(Some(Err(why))) => {
                    return self.unreached(api, 502, "upstream_failed", &client::what_broke(&why), recorder);
                }
                Err(_) => {
                    let what = format!("was silent for {} ms", idle.as_millis());
                    return self.unreached(api, 504, "upstream_timeout", &what, recorder);
                }
            }
        }
        let json: Option<Value> = serde_json::from_slice(&whole).ok();
        if let Some(json) = &json {
            recorder.meter.document(json);
        }
        let answer = json.as_ref().and_then(|json| chain::answer(api, self.api, json, names));
        match (answer, KeyGuard::new(self.upstream.key.as_ref()).push(&whole)) {
            (Some(answer), Ok(_)) => {
                let bytes = Bytes::from(answer.to_string());
                let flow = self.flow(api, futures::stream::empty().boxed(), Pipe::Document, recorder);
                let mut response = Response::new(flow::fixed(bytes, Ending::Whole, flow));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
            (_, Err(_)) => {
                let what = "repeated its own key, so its answer was stopped";
                self.unreached(api, 502, "upstream_failed", what, recorder)
            }
            (None, Ok(_)) => {
                let what = "answered with something that is not an answer of its wire format";
                self.unreached(api, 502, "upstream_failed", what, recorder)
            }
        }
    }

    pub(super) fn flow(&self, api: Api, pieces: Pieces, pipe: Pipe, recorder: Recorder) -> Flow {
        Flow {
            api,
            upstream: self.config.name.clone(),
            pieces,
            pipe,
            guard: KeyGuard::new(self.upstream.key.as_ref()),
            recorder,
            idle: Duration::from_millis(self.config.idle_timeout_ms),
            bytes_max: self.config.response_bytes_max,
            received: 0,
            queue: VecDeque::new(),
            end: End::Open,
        }
    }

    /// What an agent is told of an upstream's error, and what the record says of it.
    fn told_of_refusal(&self, status: u16, body: &[u8]) -> (Told, String) {
        let name = &self.config.name;
        // What an upstream says of a key often shows a part of it.
        let (words, code) = match status {
            401 | 403 => (
                "it does not accept this installation's key; the operator must check model.api_key_file".to_owned(),
                None,
            ),
            300..=399 => ("it wants to send the call elsewhere, which is never followed".to_owned(), None),
            _ => errors::upstream_words(body, WORDS_BYTES_MAX),
        };
        let words = self.scrub(&words);
        let code = code.map_or_else(|| "upstream_error".to_owned(), |code| self.scrub(&code));
        let colon = if words.is_empty() { "" } else { ": " };
        // Anything below 400 is not an answer that an agent can use, so it must not look like one.
        let shown = if (400..=599).contains(&status) { status } else { 502 };
        let message = format!("upstream {name:?} answered {status}{colon}{words}");
        (Told { status: shown, code, message }, format!("the upstream answered {status}{colon}{words}"))
    }

    fn unreached(&self, api: Api, status: u16, code: &str, what: &str, recorder: Recorder) -> Response<BoxBody> {
        let told = Told::new(status, code, format!("upstream {:?} {what}", self.config.name));
        self.failed(api, &told, format!("the upstream {what}"), recorder)
    }

    /// An error answer to a call that was made.
    fn failed(&self, api: Api, told: &Told, detail: String, recorder: Recorder) -> Response<BoxBody> {
        let bytes = Bytes::from(told.body(api).to_string());
        let flow = self.flow(api, futures::stream::empty().boxed(), Pipe::Document, recorder);
        let mut response = Response::new(flow::fixed(bytes, Ending::Failed(detail), flow));
        *response.status_mut() = StatusCode::from_u16(told.status).unwrap_or(StatusCode::BAD_GATEWAY);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    fn scrub(&self, text: &str) -> String {
        self.upstream.key.as_ref().map_or_else(|| text.to_owned(), |key| key.scrub(text))
    }
}
