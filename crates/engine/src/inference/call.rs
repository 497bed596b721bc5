//! One call, from the agent's request to the answer's first piece. Must never answer an agent in words that hold the
//! upstream's address or key, and must leave a record once the upstream was called.

use super::client::{self, Reached};
use super::errors::{self, Told};
use super::flow::{self, BoxBody, End, Flow, Pieces, Pipe};
use super::key::KeyGuard;
use super::plan::Plan;
use super::record::{Call, CallContext, CallRecord, Ending, Recorder};
use super::sse::SseParser;
use super::translate::chat_stream::ChatToMessages;
use super::translate::messages_stream::MessagesToChat;
use super::translate::{chat_answer, messages_answer};
use super::{Api, CALLS_MAX, Door, request};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

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
        let patience = Duration::from_millis(inner.config.timeout_ms);
        let body = tokio::time::timeout(patience, request::read_body(body, inner.config.request_bytes_max))
            .await
            .map_err(|_| Told::new(408, "request_timeout", "the request's body did not arrive in time"))??;
        let plan = Plan::of(inner, api, &body, &head.headers)?;
        let recorder = Recorder::start(
            Call {
                context,
                api,
                upstream_api: inner.api,
                upstream: inner.config.name.clone(),
                model: inner.config.model.clone(),
                request: body,
                permit,
            },
            done,
            Arc::clone(&inner.blobs),
        );
        Ok(self.forward(api, plan, recorder).await)
    }

    /// Calls the upstream; from here on there is a record.
    async fn forward(&self, api: Api, plan: Plan, mut recorder: Recorder) -> Response<BoxBody> {
        let inner = &self.0;
        match inner.upstream.call(plan.body, plan.stream, plan.headers).await {
            Reached::Answer(response) => {
                recorder.status = response.status().as_u16();
                self.answer(api, plan.stream, plan.wants_usage, response, recorder).await
            }
            Reached::Refused { status, retry_after, body } => {
                recorder.status = status;
                let (told, detail) = self.told_of_refusal(status, &body);
                let mut response = self.failed(api, &told, detail, recorder);
                if let Some(wait) = retry_after {
                    response.headers_mut().insert(RETRY_AFTER, wait);
                }
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
        response: reqwest::Response,
        recorder: Recorder,
    ) -> Response<BoxBody> {
        let inner = &self.0;
        let kind = response.headers().get(CONTENT_TYPE).cloned();
        let events = kind.as_ref().is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if api != inner.api && events != stream {
            let asked = if stream { "was asked for a stream and sent none" } else { "sent a stream nobody asked for" };
            return self.unreached(api, 502, "upstream_failed", asked, recorder);
        }
        let mut pieces = response.bytes_stream().boxed();
        let idle = Duration::from_millis(inner.config.idle_timeout_ms);
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
        if api != inner.api && !events {
            return self.translated(api, pieces, recorder).await;
        }
        let model = &inner.config.model;
        let pipe = match (api == inner.api, api) {
            (false, Api::OpenaiChat) => Pipe::ToChat(SseParser::default(), MessagesToChat::new(wants_usage, model)),
            (false, _) => Pipe::ToMessages(SseParser::default(), ChatToMessages::new(model)),
            (true, _) if events => Pipe::Events(SseParser::default()),
            (true, _) => Pipe::Document,
        };
        let kind = match pipe {
            Pipe::ToChat(..) | Pipe::ToMessages(..) => Some(HeaderValue::from_static("text/event-stream")),
            Pipe::Document | Pipe::Events(_) => kind,
        };
        let mut answer = Response::new(self.flow(api, pieces, pipe, recorder).into_body());
        if let Some(kind) = kind {
            answer.headers_mut().insert(CONTENT_TYPE, kind);
        }
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        answer
    }

    /// A whole answer in the other format.
    async fn translated(&self, api: Api, mut pieces: Pieces, mut recorder: Recorder) -> Response<BoxBody> {
        let inner = &self.0;
        let idle = Duration::from_millis(inner.config.idle_timeout_ms);
        let mut whole = BytesMut::new();
        loop {
            match tokio::time::timeout(idle, pieces.next()).await {
                Ok(None) => break,
                Ok(Some(Ok(bytes))) if whole.len() as u64 + bytes.len() as u64 <= inner.config.response_bytes_max => {
                    whole.extend_from_slice(&bytes);
                }
                Ok(Some(Ok(_))) => {
                    let what = format!("answered with more than {} bytes", inner.config.response_bytes_max);
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
        let answer = json.as_ref().and_then(|json| match api {
            Api::OpenaiChat => messages_answer::to_chat(json),
            Api::Anthropic | Api::OpenaiResponses => chat_answer::to_message(json),
        });
        match (answer, KeyGuard::new(inner.upstream.key.as_ref()).push(&whole)) {
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
        let inner = &self.0;
        Flow {
            api,
            upstream: inner.config.name.clone(),
            pieces,
            pipe,
            guard: KeyGuard::new(inner.upstream.key.as_ref()),
            recorder,
            idle: Duration::from_millis(inner.config.idle_timeout_ms),
            bytes_max: inner.config.response_bytes_max,
            received: 0,
            queue: VecDeque::new(),
            end: End::Open,
        }
    }

    /// What an agent is told of an upstream's error, and what the record says of it.
    fn told_of_refusal(&self, status: u16, body: &[u8]) -> (Told, String) {
        let name = &self.0.config.name;
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
        let told = Told::new(status, code, format!("upstream {:?} {what}", self.0.config.name));
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
        self.0.upstream.key.as_ref().map_or_else(|| text.to_owned(), |key| key.scrub(text))
    }
}
