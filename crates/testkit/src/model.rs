//! A model for tests: a real HTTP server on a Unix socket or on 127.0.0.1 that speaks OpenAI Chat Completions and
//! Anthropic Messages from a script. Must never wait by the clock: a test releases what it holds.

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// What the model does with one request.
#[derive(Debug, Clone)]
pub enum Turn {
    /// Says this.
    Say(String),
    /// Says `You said: <the last user's text>. I have seen <N> user turns.`, which is also what it does when its script
    /// is over.
    Echo,
    /// Calls a tool.
    Call {
        /// The call's id.
        id: String,
        /// The tool.
        name: String,
        /// Its arguments.
        args: Value,
    },
    /// Answers with an error of this status.
    Status {
        /// HTTP status.
        status: u16,
        /// `retry-after` in seconds, if any.
        retry_after: Option<u64>,
        /// The error's words.
        message: String,
    },
    /// Says this, but its connection breaks after so many bytes of the body.
    Cut {
        /// What it would say.
        text: String,
        /// Bytes that get out.
        after_bytes: usize,
    },
    /// Sends nothing but a head, waits for a release (or for ever when none comes), then says this.
    HeldAfterHead {
        /// What it says.
        text: String,
        /// The test's release.
        release: Arc<Notify>,
    },
    /// Streams the first half of its events, waits for a release, streams the rest. A whole answer waits before it.
    HeldMidway {
        /// What it says.
        text: String,
        /// The test's release.
        release: Arc<Notify>,
    },
    /// Waits for a release before it does anything of another turn.
    Held {
        /// The test's release.
        release: Arc<Notify>,
        /// What it does then.
        turn: Box<Turn>,
    },
    /// Takes the request and never answers.
    Hang,
    /// Exactly these pieces, with this status and content type.
    Raw {
        /// HTTP status.
        status: u16,
        /// Content type.
        content_type: String,
        /// The body's pieces, each sent by itself.
        pieces: Vec<Bytes>,
    },
}

/// One request that the model got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRequest {
    /// Its method.
    pub method: String,
    /// Its path, with query.
    pub path: String,
    /// Its headers in lower case; a repeated one keeps its last value.
    pub headers: BTreeMap<String, String>,
    /// The exact bytes of its body.
    pub bytes: Vec<u8>,
    /// Its body; null when it is not JSON.
    pub body: Value,
}

/// The running model. It ends, with all its connections, when this is dropped.
#[derive(Debug)]
pub struct ScriptedModel {
    url: String,
    shared: Arc<Shared>,
    stop: tokio::task::AbortHandle,
}

#[derive(Debug)]
struct Shared {
    script: Mutex<VecDeque<Turn>>,
    seen: Mutex<Vec<SeenRequest>>,
    count: watch::Sender<usize>,
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

impl ScriptedModel {
    /// Listens on 127.0.0.1 and a port that the system chooses.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn tcp(script: Vec<Turn>) -> io::Result<ScriptedModel> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        Ok(start(url, script, Listener::Tcp(listener)))
    }

    /// Listens on a Unix socket, which must not exist yet. Must run inside a tokio runtime.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn unix(path: &Path, script: Vec<Turn>) -> io::Result<ScriptedModel> {
        let listener = UnixListener::bind(path)?;
        Ok(start(format!("unix:{}", path.display()), script, Listener::Unix(listener)))
    }

    /// Its address as the `[model]` table wants it: `http://127.0.0.1:PORT` or `unix:/path.sock`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Adds a turn to the end of the script.
    pub fn then(&self, turn: Turn) {
        lock(&self.shared.script).push_back(turn);
    }

    /// Every request so far, in order of arrival.
    pub fn requests(&self) -> Vec<SeenRequest> {
        lock(&self.shared.seen).clone()
    }

    /// Waits until it has got `n` requests. Waits for ever when they do not come: give it the test's own limit.
    pub async fn has_seen(&self, n: usize) {
        let mut count = self.shared.count.subscribe();
        // The sender lives in `self`, so the wait cannot fail; if it did, there would be nothing to wait for.
        let _ = count.wait_for(|seen| *seen >= n).await;
    }
}

impl Drop for ScriptedModel {
    fn drop(&mut self) {
        self.stop.abort();
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

fn start(url: String, script: Vec<Turn>, listener: Listener) -> ScriptedModel {
    let shared = Arc::new(Shared {
        script: Mutex::new(script.into()),
        seen: Mutex::new(Vec::new()),
        count: watch::Sender::new(0),
    });
    let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
    ScriptedModel { url, shared, stop: task.abort_handle() }
}

/// Connections live in the set, so they end with this task.
async fn accept(listener: Listener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let shared = Arc::clone(&shared);
        match &listener {
            Listener::Tcp(tcp) => {
                let Ok((stream, _)) = tcp.accept().await else { return };
                connections.spawn(connection(stream, shared));
            }
            Listener::Unix(unix) => {
                let Ok((stream, _)) = unix.accept().await else { return };
                connections.spawn(connection(stream, shared));
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, shared: Arc<Shared>) {
    let service = hyper::service::service_fn(move |request| answer(request, Arc::clone(&shared)));
    // A connection that breaks is part of what is tested.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Body>, io::Error> {
    let (head, body) = request.into_parts();
    let bytes = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let seen = SeenRequest {
        method: head.method.to_string(),
        path: head.uri.to_string(),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect(),
        body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        bytes: bytes.to_vec(),
    };
    lock(&shared.seen).push(seen.clone());
    shared.count.send_modify(|count| *count += 1);
    let wire = match head.uri.path() {
        "/v1/models" => {
            return Ok(whole(200, &json!({ "object": "list", "data": [{ "id": "scripted", "object": "model" }] })));
        }
        "/health" => return Ok(whole(200, &json!({ "status": "ok" }))),
        "/v1/chat/completions" => Wire::Chat,
        "/v1/messages" | "/v1/messages/count_tokens" => Wire::Messages,
        "/v1/responses" => Wire::Other,
        _ => return Ok(whole(404, &json!({ "error": { "message": "not found" } }))),
    };
    let turn = lock(&shared.script).pop_front().unwrap_or(Turn::Echo);
    play(turn, wire, &seen.body).await
}

async fn play(turn: Turn, wire: Wire, body: &Value) -> Result<Response<Body>, io::Error> {
    let stream = body["stream"].as_bool() == Some(true);
    let say = |text: &str| wire.answer(&Words::Text(text.to_owned()), body);
    match turn {
        Turn::Say(text) => Ok(send(stream, say(&text))),
        Turn::Echo => Ok(send(stream, say(&echo(body)))),
        Turn::Call { id, name, args } => Ok(send(stream, wire.answer(&Words::Call { id, name, args }, body))),
        Turn::Status { status, retry_after, message } => {
            let mut response = whole(status, &wire.error(status, &message));
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(http::header::RETRY_AFTER, seconds.into());
            }
            Ok(response)
        }
        Turn::Cut { text, after_bytes } => {
            let all: Vec<u8> = say(&text).concat().into_bytes();
            let kept = Bytes::copy_from_slice(&all[..after_bytes.min(all.len())]);
            let cut = futures::stream::once(async {
                // The server writes out what it has only when the body lets it.
                tokio::task::yield_now().await;
                Err(io::Error::other("the script cuts the connection here"))
            });
            Ok(streamed(kind(stream), futures::stream::iter([Ok(kept)]).chain(cut)))
        }
        Turn::HeldAfterHead { text, release } => Ok(held(stream, Vec::new(), release, say(&text))),
        Turn::HeldMidway { text, release } => {
            let mut first = say(&text);
            let rest = first.split_off(if stream { first.len() / 2 } else { 0 });
            Ok(held(stream, first, release, rest))
        }
        Turn::Held { release, turn } => {
            release.notified().await;
            Box::pin(play(*turn, wire, body)).await
        }
        Turn::Hang => std::future::pending().await,
        Turn::Raw { status, content_type, pieces } => {
            let mut response = streamed(&content_type, futures::stream::iter(pieces.into_iter().map(Ok)));
            *response.status_mut() = StatusCode::from_u16(status).map_err(io::Error::other)?;
            Ok(response)
        }
    }
}

/// What the model says.
enum Words {
    Text(String),
    Call { id: String, name: String, args: Value },
}

#[derive(Clone, Copy)]
enum Wire {
    Chat,
    Messages,
    /// Only raw turns make sense here.
    Other,
}

impl Wire {
    /// The pieces of an answer: one piece when it is whole, one an event when it is streamed.
    ///
    /// Usage: input is the number of words in all messages of the request, output the number of words said (a call
    /// counts one).
    fn answer(self, words: &Words, body: &Value) -> Vec<String> {
        let stream = body["stream"].as_bool() == Some(true);
        let input = all_texts(body).split_whitespace().count();
        let output = match words {
            Words::Text(text) => text.split_whitespace().count(),
            Words::Call { .. } => 1,
        };
        match (self, stream) {
            (Wire::Chat, true) => {
                let wants_usage = body["stream_options"]["include_usage"].as_bool() == Some(true);
                chat_stream(words, &body["model"], wants_usage.then_some((input, output)))
            }
            (Wire::Chat, false) => vec![chat_whole(words, &body["model"], (input, output))],
            (Wire::Messages, true) => message_stream(words, &body["model"], (input, output)),
            (Wire::Messages, false) => vec![message_whole(words, &body["model"], (input, output))],
            (Wire::Other, _) => {
                vec![self.error(501, "the scripted model speaks this format only by raw turns").to_string()]
            }
        }
    }

    fn error(self, status: u16, message: &str) -> Value {
        match self {
            Wire::Messages => json!({ "type": "error", "error": { "type": "scripted_error", "message": message } }),
            Wire::Chat | Wire::Other => {
                json!({ "error": { "message": message, "type": "scripted_error", "code": format!("scripted_{status}") } })
            }
        }
    }
}

/// `[text]` cut after each blank, as a model's words come.
fn pieces_of(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(' ')
}

fn chat_stream(words: &Words, model: &Value, usage: Option<(usize, usize)>) -> Vec<String> {
    let line = |choices: Value, usage: Value| {
        let mut chunk = json!({
            "id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": choices,
        });
        if !usage.is_null() {
            chunk["usage"] = usage;
        }
        format!("data: {chunk}\n\n")
    };
    let delta = |delta: Value, finish: Value| {
        line(json!([{ "index": 0, "delta": delta, "finish_reason": finish }]), Value::Null)
    };
    let mut out = vec![delta(json!({ "role": "assistant", "content": "" }), Value::Null)];
    let finish = match words {
        Words::Text(text) => {
            out.extend(pieces_of(text).map(|piece| delta(json!({ "content": piece }), Value::Null)));
            "stop"
        }
        Words::Call { id, name, args } => {
            let start =
                json!({ "index": 0, "id": id, "type": "function", "function": { "name": name, "arguments": "" } });
            out.push(delta(json!({ "tool_calls": [start] }), Value::Null));
            let args = args.to_string();
            let (a, b) = args.split_at(args.len() / 2);
            for part in [a, b] {
                let part = json!({ "index": 0, "function": { "arguments": part } });
                out.push(delta(json!({ "tool_calls": [part] }), Value::Null));
            }
            "tool_calls"
        }
    };
    out.push(delta(json!({}), json!(finish)));
    if let Some((input, output)) = usage {
        out.push(line(json!([]), chat_usage(input, output)));
    }
    out.push("data: [DONE]\n\n".to_owned());
    out
}

fn chat_usage(input: usize, output: usize) -> Value {
    json!({ "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output })
}

fn chat_whole(words: &Words, model: &Value, (input, output): (usize, usize)) -> String {
    let (message, finish) = match words {
        Words::Text(text) => (json!({ "role": "assistant", "content": text }), "stop"),
        Words::Call { id, name, args } => {
            let call =
                json!({ "id": id, "type": "function", "function": { "name": name, "arguments": args.to_string() } });
            (json!({ "role": "assistant", "content": null, "tool_calls": [call] }), "tool_calls")
        }
    };
    json!({
        "id": "chatcmpl-scripted", "object": "chat.completion", "created": 1, "model": model,
        "choices": [{ "index": 0, "message": message, "finish_reason": finish }],
        "usage": chat_usage(input, output),
    })
    .to_string()
}

fn message_stream(words: &Words, model: &Value, (input, output): (usize, usize)) -> Vec<String> {
    let event = |mut body: Value, name: &str| {
        body["type"] = json!(name);
        format!("event: {name}\ndata: {body}\n\n")
    };
    let message = json!({
        "id": "msg_scripted", "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": { "input_tokens": input, "output_tokens": 1 },
    });
    let mut out = vec![event(json!({ "message": message }), "message_start")];
    let delta = |delta: Value| event(json!({ "index": 0, "delta": delta }), "content_block_delta");
    let stop = match words {
        Words::Text(text) => {
            out.push(event(
                json!({ "index": 0, "content_block": { "type": "text", "text": "" } }),
                "content_block_start",
            ));
            out.extend(pieces_of(text).map(|piece| delta(json!({ "type": "text_delta", "text": piece }))));
            "end_turn"
        }
        Words::Call { id, name, args } => {
            let block = json!({ "type": "tool_use", "id": id, "name": name, "input": {} });
            out.push(event(json!({ "index": 0, "content_block": block }), "content_block_start"));
            let args = args.to_string();
            let (a, b) = args.split_at(args.len() / 2);
            out.extend([a, b].map(|part| delta(json!({ "type": "input_json_delta", "partial_json": part }))));
            "tool_use"
        }
    };
    out.push(event(json!({ "index": 0 }), "content_block_stop"));
    out.push(event(
        json!({ "delta": { "stop_reason": stop, "stop_sequence": null }, "usage": { "output_tokens": output } }),
        "message_delta",
    ));
    out.push(event(json!({}), "message_stop"));
    out
}

fn message_whole(words: &Words, model: &Value, (input, output): (usize, usize)) -> String {
    let (block, stop) = match words {
        Words::Text(text) => (json!({ "type": "text", "text": text }), "end_turn"),
        Words::Call { id, name, args } => {
            (json!({ "type": "tool_use", "id": id, "name": name, "input": args }), "tool_use")
        }
    };
    json!({
        "id": "msg_scripted", "type": "message", "role": "assistant", "model": model, "content": [block],
        "stop_reason": stop, "stop_sequence": null, "usage": { "input_tokens": input, "output_tokens": output },
    })
    .to_string()
}

/// What the model says when nothing is scripted: a resumed conversation shows in the number of turns.
fn echo(body: &Value) -> String {
    let users: Vec<String> = messages(body)
        .iter()
        .filter(|message| message["role"] == "user")
        .map(|message| text_of(&message["content"]))
        .filter(|text| !text.trim().is_empty())
        .collect();
    let last = users.last().map(|text| text.trim()).unwrap_or_default();
    format!("You said: {last}. I have seen {} user turns.", users.len())
}

fn messages(body: &Value) -> &[Value] {
    body["messages"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn all_texts(body: &Value) -> String {
    let texts: Vec<String> = messages(body).iter().map(|message| text_of(&message["content"])).collect();
    texts.join(" ")
}

/// The words of a content; what is not text (a tool's result, a picture) has none.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
            texts.join(" ")
        }
        _ => String::new(),
    }
}

fn kind(stream: bool) -> &'static str {
    if stream { "text/event-stream" } else { "application/json" }
}

fn send(stream: bool, pieces: Vec<String>) -> Response<Body> {
    streamed(kind(stream), futures::stream::iter(pieces.into_iter().map(|piece| Ok(Bytes::from(piece)))))
}

/// Some pieces, a wait, the other pieces.
fn held(stream: bool, first: Vec<String>, release: Arc<Notify>, rest: Vec<String>) -> Response<Body> {
    let wait = futures::stream::once(async move { release.notified().await }).filter_map(|()| async { None });
    let ok = |piece: String| Ok(Bytes::from(piece));
    let pieces = futures::stream::iter(first.into_iter().map(ok)).chain(wait);
    streamed(kind(stream), pieces.chain(futures::stream::iter(rest.into_iter().map(ok))))
}

fn streamed<S>(content_type: &str, pieces: S) -> Response<Body>
where
    S: futures::Stream<Item = Result<Bytes, io::Error>> + Send + 'static,
{
    let mut response = Response::new(UnsyncBoxBody::new(StreamBody::new(pieces.map(|piece| piece.map(Frame::data)))));
    if let Ok(value) = http::HeaderValue::from_str(content_type) {
        response.headers_mut().insert(http::header::CONTENT_TYPE, value);
    }
    response
}

fn whole(status: u16, body: &Value) -> Response<Body> {
    let full = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {});
    let mut response = Response::new(UnsyncBoxBody::new(full));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

/// A test that panicked while it held the lock left the list in order all the same.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
