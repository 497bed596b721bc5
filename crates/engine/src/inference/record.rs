//! What is kept of one call: exactly one record, whatever happens to the connection, and the two bodies as blobs.
//! Must never send a second record and never wait for the blob store.

use super::meter::Meter;
use super::{Api, Target};
use bytes::Bytes;
use custody_contracts::canonical::digest;
use custody_contracts::events::{EffectOutcome, ModelCalled};
use custody_contracts::ids::{DispatchId, Subject};
use custody_ports::blobs::Blobs;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

/// Longest text of a record's detail in bytes.
pub const DETAIL_BYTES_MAX: usize = 500;

/// For whom a call is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallContext {
    /// The dispatch whose socket it came through.
    pub dispatch: String,
    /// The person whose content its bodies are.
    pub subject: Subject,
    /// Its runner: decides which upstream it gets.
    pub runner: String,
    /// 1 for the dispatch's first call.
    pub n: u32,
}

/// What happened in one call. Everything of [`ModelCalled`] that the door knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRecord {
    /// The wire format the agent spoke: `openai-chat`, `anthropic` or `openai-responses`.
    pub api: String,
    /// The upstream's configured name.
    pub upstream: String,
    /// The model that the upstream was asked for.
    pub model: String,
    /// Digest of the request body as the agent sent it; its bytes are the blob of that name.
    pub request_digest: String,
    /// Digest of the response body as it was passed on; its bytes are the blob of that name.
    pub response_digest: String,
    /// HTTP status of the upstream; 0 when none came.
    pub status: u16,
    /// Whether an answer came whole and was passed on whole.
    pub outcome: EffectOutcome,
    /// What went wrong, without address or key.
    pub detail: Option<String>,
    /// Tokens sent, cached ones included, as the upstream counts.
    pub input_tokens: u64,
    /// Tokens received, as the upstream counts.
    pub output_tokens: u64,
    /// Milliseconds from the request's last byte to the answer's last byte.
    pub duration_ms: u64,
    /// Of the tokens sent, those that the upstream had cached.
    pub cached_tokens: u64,
    /// What it cost; `None` without prices.
    pub cost_micros: Option<u64>,
    /// How often the upstream was asked.
    pub attempts: u32,
    /// Who runs the upstream: `gen_ai.provider.name`.
    pub provider: String,
    /// The model that answered, as the upstream named it.
    pub response_model: Option<String>,
}

impl CallRecord {
    /// The event of this record.
    pub fn into_event(self, dispatch: DispatchId, n: u32) -> ModelCalled {
        ModelCalled {
            dispatch,
            n,
            api: self.api,
            upstream: self.upstream,
            model: self.model,
            request_digest: self.request_digest,
            response_digest: self.response_digest,
            status: self.status,
            outcome: self.outcome,
            detail: self.detail,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            duration_ms: self.duration_ms,
            cached_tokens: Some(self.cached_tokens),
            cost_micros: self.cost_micros,
            attempts: Some(self.attempts),
            provider: Some(self.provider),
            response_model: self.response_model,
        }
    }
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// The answer came whole.
    Whole,
    /// It did not, and why.
    Failed(String),
}

/// Collects the facts of a call and sends its record: by [`Recorder::finish`], or when it is dropped because the
/// agent went away.
pub(super) struct Recorder {
    api: Api,
    target: Arc<Target>,
    started: Instant,
    request: Bytes,
    passed: Vec<u8>,
    call: CallContext,
    done: Option<oneshot::Sender<CallRecord>>,
    blobs: Arc<dyn Blobs>,
    runtime: tokio::runtime::Handle,
    /// Held until the blobs are stored: it bounds what is in memory at once.
    permit: Option<OwnedSemaphorePermit>,
    /// Status of the upstream; 0 until one came.
    pub(super) status: u16,
    /// How often the upstream was asked.
    pub(super) attempts: u32,
    /// Counts tokens and knows when an answer is whole.
    pub(super) meter: Meter,
    /// How the call ended if nothing more is heard of the connection.
    pub(super) fallback: Ending,
}

/// What a call is made of at its start.
pub(super) struct Call {
    pub(super) context: CallContext,
    pub(super) api: Api,
    pub(super) target: Arc<Target>,
    pub(super) request: Bytes,
    pub(super) permit: OwnedSemaphorePermit,
}

impl Recorder {
    /// Starts the clock of a call. Must run inside the async runtime that will store the blobs.
    pub(super) fn start(call: Call, done: oneshot::Sender<CallRecord>, blobs: Arc<dyn Blobs>) -> Recorder {
        Recorder {
            api: call.api,
            meter: Meter::new(call.target.api),
            target: call.target,
            started: Instant::now(),
            request: call.request,
            passed: Vec::new(),
            call: call.context,
            done: Some(done),
            blobs,
            runtime: tokio::runtime::Handle::current(),
            permit: Some(call.permit),
            status: 0,
            attempts: 0,
            fallback: Ending::Failed(
                "the agent went away, or the gateway stopped, before the end of the answer".to_owned(),
            ),
        }
    }

    /// These bytes go to the agent now.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        self.passed.extend_from_slice(bytes);
    }

    /// How many bytes went to the agent.
    pub(super) fn passed_len(&self) -> u64 {
        self.passed.len() as u64
    }

    /// What went to the agent.
    pub(super) fn passed(&self) -> &[u8] {
        &self.passed
    }

    /// The digest that names a body as it is kept. Of a person whose key is gone none is kept, and the record says so by the
    /// digest of nothing: a digest of the body itself would still tell a good guess from a bad one.
    fn named(&self, body: &[u8]) -> String {
        self.blobs.name(&self.call.subject, body).unwrap_or_else(|_| digest(b""))
    }

    /// The call is over. Later calls, and the drop, do nothing.
    pub(super) fn finish(&mut self, ending: Ending) {
        let Some(done) = self.done.take() else { return };
        let (outcome, detail) = match ending {
            Ending::Whole => (EffectOutcome::Succeeded, None),
            Ending::Failed(why) => (EffectOutcome::Failed, Some(cut(&why, DETAIL_BYTES_MAX).to_owned())),
        };
        let tokens = self.meter.tokens;
        let (request, response) = (std::mem::take(&mut self.request), std::mem::take(&mut self.passed));
        let record = CallRecord {
            api: self.api.as_str().to_owned(),
            upstream: self.target.config.name.clone(),
            model: self.target.config.model.clone(),
            request_digest: self.named(&request),
            response_digest: self.named(&response),
            status: self.status,
            outcome,
            detail,
            input_tokens: tokens.input,
            output_tokens: tokens.output,
            duration_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            cached_tokens: tokens.cached,
            cost_micros: self.target.config.price.map(|price| price.cost_micros(tokens)),
            attempts: self.attempts,
            provider: self.target.provider.clone(),
            response_model: self.meter.response_model.clone(),
        };
        tracing::info!(
            dispatch = self.call.dispatch,
            gen_ai.operation.name = "chat",
            gen_ai.provider.name = record.provider,
            gen_ai.request.model = record.model,
            gen_ai.response.model = record.response_model,
            gen_ai.usage.input_tokens = record.input_tokens,
            gen_ai.usage.output_tokens = record.output_tokens,
            http.response.status_code = record.status,
            duration_ms = record.duration_ms,
            "model called"
        );
        let (dispatch, subject, n) = (self.call.dispatch.clone(), self.call.subject.clone(), self.call.n);
        if done.send(record).is_err() {
            tracing::warn!(dispatch, n, "nobody waits for the record of this model call");
        }
        let (blobs, permit) = (Arc::clone(&self.blobs), self.permit.take());
        self.runtime.spawn(async move {
            for (what, bytes) in [("request", request.to_vec()), ("response", response)] {
                if let Err(why) = blobs.put(&subject, bytes).await {
                    tracing::warn!(dispatch, n, what, %why, "a body of a model call was not stored");
                }
            }
            drop(permit);
        });
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.finish(self.fallback.clone());
    }
}

/// At most `max` bytes of a text, cut between characters.
pub(super) fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
