//! The answer on its way to the agent: piece by piece, translated when the formats differ, counted and recorded.
//! Must never hold back a piece that can go on, and never let an answer that broke look whole.

use super::Api;
use super::client::what_broke;
use super::errors::Told;
use super::key::KeyGuard;
use super::record::{Ending, Recorder};
use super::sse::{self, SseEvent, SseParser};
use super::translate::chain::Translator;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Frame;
use serde_json::Value;
use std::collections::VecDeque;
use std::time::Duration;

/// The body of an answer.
pub type BoxBody = UnsyncBoxBody<Bytes, Broken>;

/// The answer broke in a place where its format has no word for it, so the connection breaks too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the model's answer broke off")]
pub struct Broken;

/// The pieces of an upstream's answer.
pub(super) type Pieces = BoxStream<'static, reqwest::Result<Bytes>>;

/// What happens to the pieces.
pub(super) enum Pipe {
    /// A document, unchanged.
    Document,
    /// Events, unchanged.
    Events(SseParser),
    /// Events, in another format.
    Translated(SseParser, Box<Translator>),
}

/// One answer on its way.
pub(super) struct Flow {
    /// The agent's format: errors are told in it.
    pub(super) api: Api,
    /// The upstream's name, for those errors.
    pub(super) upstream: String,
    pub(super) pieces: Pieces,
    pub(super) pipe: Pipe,
    pub(super) guard: KeyGuard,
    pub(super) recorder: Recorder,
    /// The longest silence.
    pub(super) idle: Duration,
    /// The most bytes in, and the most out.
    pub(super) bytes_max: u64,
    pub(super) received: u64,
    pub(super) queue: VecDeque<Bytes>,
    pub(super) end: End,
}

/// Whether the answer is over.
pub(super) enum End {
    /// More may come.
    Open,
    /// What is queued is all; then the call is over so.
    After(Ending, Last),
    /// Over.
    Over,
}

/// How the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// Like any body.
    Close,
    /// With a broken connection.
    Break,
}

impl Flow {
    /// The flow as a body. When the body is dropped early the recorder in it says so.
    pub(super) fn into_body(self) -> BoxBody {
        let stream = futures::stream::unfold(self, |mut flow| async move {
            let item = flow.next().await?;
            Some((item.map(Frame::data), flow))
        });
        UnsyncBoxBody::new(StreamBody::new(stream))
    }

    async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        loop {
            if let Some(bytes) = self.queue.pop_front() {
                self.recorder.pass(&bytes);
                self.note_fallback();
                return Some(Ok(bytes));
            }
            match std::mem::replace(&mut self.end, End::Over) {
                End::Over => return None,
                End::After(ending, last) => {
                    self.recorder.finish(ending);
                    if last == Last::Close {
                        return None;
                    }
                    // The server writes out what it has only when the body lets it; without this pause the agent would
                    // lose the head and every byte that is still in the server's buffer.
                    tokio::task::yield_now().await;
                    return Some(Err(Broken));
                }
                End::Open => self.end = End::Open,
            }
            match tokio::time::timeout(self.idle, self.pieces.next()).await {
                Ok(Some(Ok(bytes))) => self.take(&bytes),
                Ok(Some(Err(why))) => self.fail(&what_broke(&why)),
                Ok(None) => self.ended(),
                Err(_) => self.fail(&format!("was silent for {} ms", self.idle.as_millis())),
            }
        }
    }

    /// Agents close as soon as they have seen the end mark, or an error; neither makes the call another one.
    fn note_fallback(&mut self) {
        if !self.queue.is_empty() {
            return;
        }
        let meter = &self.recorder.meter;
        if let End::After(ending, _) = &self.end {
            self.recorder.fallback = ending.clone();
        } else if meter.closed && meter.error.is_none() {
            self.recorder.fallback = Ending::Whole;
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.received = self.received.saturating_add(bytes.len() as u64);
        match self.guard.push(bytes) {
            Ok(clean) => self.convert(clean),
            Err(_) => self.fail("repeated its own key, so its answer was stopped"),
        }
        if self.received > self.bytes_max && matches!(self.end, End::Open) {
            self.fail(&format!("answered with more than {} bytes", self.bytes_max));
        }
    }

    fn convert(&mut self, bytes: Vec<u8>) {
        let mut events = Vec::new();
        match &mut self.pipe {
            Pipe::Document => {}
            Pipe::Events(parser) | Pipe::Translated(parser, _) => parser.push(&bytes, &mut events),
        }
        if matches!(self.pipe, Pipe::Document | Pipe::Events(_)) {
            self.send(Bytes::from(bytes));
        }
        self.events(&events);
    }

    fn events(&mut self, events: &[SseEvent]) {
        let mut out = String::new();
        let mut lost = None;
        for event in events {
            let json: Option<Value> = serde_json::from_str(&event.data).ok();
            self.recorder.meter.event(event, json.as_ref());
            if self.recorder.meter.error.is_some() {
                break;
            }
            if let Pipe::Translated(_, state) = &mut self.pipe {
                lost = state.event(event, json.as_ref(), &mut out).err();
            }
            if lost.is_some() {
                break;
            }
        }
        if !out.is_empty() {
            self.send(Bytes::from(out));
        }
        let translated = matches!(self.pipe, Pipe::Translated(..));
        if let Some(why) = lost {
            self.fail(&format!("sent a stream that cannot be translated: {}", why.0));
        } else if translated && let Some(why) = self.recorder.meter.error.clone() {
            self.fail(&format!("reported an error inside its answer: {why}"));
        }
    }

    fn send(&mut self, bytes: Bytes) {
        let queued: u64 = self.queue.iter().map(|bytes| bytes.len() as u64).sum();
        if self.recorder.passed_len() + queued + bytes.len() as u64 > self.bytes_max {
            self.fail(&format!("answered with more than {} bytes", self.bytes_max));
        } else if !bytes.is_empty() && matches!(self.end, End::Open) {
            self.queue.push_back(bytes);
        }
    }

    /// The upstream closed.
    fn ended(&mut self) {
        let rest = self.guard.rest();
        self.convert(rest);
        let last = match &mut self.pipe {
            Pipe::Document => None,
            Pipe::Events(parser) | Pipe::Translated(parser, _) => parser.finish(),
        };
        self.events(last.as_slice());
        if !matches!(self.end, End::Open) {
            return;
        }
        if let Pipe::Document = self.pipe {
            // What is still queued was not passed on yet, but belongs to the document.
            let document: Vec<u8> =
                self.queue.iter().fold(self.recorder.passed().to_vec(), |all, piece| [&all[..], &piece[..]].concat());
            match serde_json::from_slice(&document) {
                Ok(json) => self.recorder.meter.document(&json),
                Err(_) => return self.fail("answered with something that is not JSON"),
            }
        }
        match (&self.recorder.meter.error, self.recorder.meter.whole_at_end()) {
            (Some(why), _) => {
                let why = format!("the upstream reported an error inside its answer: {why}");
                self.end = End::After(Ending::Failed(self.clean(&why)), Last::Close);
            }
            (None, true) => {
                let mut out = String::new();
                if let Pipe::Translated(_, state) = &mut self.pipe {
                    state.end(&mut out);
                }
                self.send(Bytes::from(out));
                if matches!(self.end, End::Open) {
                    self.end = End::After(Ending::Whole, Last::Close);
                }
            }
            (None, false) => self.fail("closed its answer before the end"),
        }
    }

    /// The answer cannot go on; an answer whose end mark has passed has lost nothing and stays whole.
    fn fail(&mut self, what: &str) {
        if !matches!(self.end, End::Open) {
            return;
        }
        if self.recorder.meter.closed && self.recorder.meter.error.is_none() {
            self.end = End::After(Ending::Whole, Last::Close);
            return;
        }
        let why = self.clean(&format!("the upstream {what}"));
        let last = match self.pipe {
            Pipe::Document => Last::Break,
            Pipe::Events(_) | Pipe::Translated(..) => {
                let told =
                    Told::new(502, "upstream_failed", format!("upstream {:?} {}", self.upstream, self.clean(what)));
                self.queue.push_back(sse::error(self.api, &told.in_stream(self.api)));
                Last::Close
            }
        };
        self.end = End::After(Ending::Failed(why), last);
    }

    /// Words for people, without the key.
    fn clean(&self, text: &str) -> String {
        self.guard.scrub(text)
    }
}

/// A body that is complete already, recorded as it goes.
pub(super) fn fixed(bytes: Bytes, ending: Ending, mut flow: Flow) -> BoxBody {
    if let Ending::Failed(_) = &ending {
        flow.recorder.fallback = ending.clone();
    }
    flow.queue.push_back(bytes);
    flow.end = End::After(ending, Last::Close);
    flow.into_body()
}
