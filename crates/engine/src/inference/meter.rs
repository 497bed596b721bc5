//! Counts the tokens of an answer and knows whether it is whole, from the upstream's own words. Must never change a
//! byte of the answer.

use super::Api;
use super::config::Tokens;
use super::sse::SseEvent;
use serde_json::Value;

/// The longest model name that is kept, in bytes.
const MODEL_BYTES_MAX: usize = 200;

/// What is known of an answer so far.
#[derive(Debug)]
pub(super) struct Meter {
    api: Api,
    /// Tokens so far.
    pub(super) tokens: Tokens,
    /// The model that answers, as the upstream names it.
    pub(super) response_model: Option<String>,
    /// The model said why it stopped.
    finished: bool,
    /// The format's end mark came: nothing can follow.
    pub(super) closed: bool,
    /// The upstream reported a failure inside its answer.
    pub(super) error: Option<String>,
}

impl Meter {
    /// A meter for an upstream's wire format.
    pub(super) fn new(api: Api) -> Meter {
        Meter { api, tokens: Tokens::default(), response_model: None, finished: false, closed: false, error: None }
    }

    /// Whether the answer is whole if the stream ends here.
    pub(super) fn whole_at_end(&self) -> bool {
        match self.api {
            // Several servers close after the last chunk and never send `[DONE]`.
            Api::OpenaiChat => self.finished || self.closed,
            Api::Anthropic | Api::OpenaiResponses => self.closed,
        }
    }

    /// One event of a streamed answer; `json` is its data when that is a document.
    pub(super) fn event(&mut self, event: &SseEvent, json: Option<&Value>) {
        let Some(json) = json else {
            self.closed |= self.api == Api::OpenaiChat && event.data.trim() == "[DONE]";
            return;
        };
        match self.api {
            Api::OpenaiChat => self.chat_chunk(json),
            Api::Anthropic => self.message_event(json),
            Api::OpenaiResponses => self.response_event(json),
        }
    }

    /// A whole answer that was not streamed.
    pub(super) fn document(&mut self, json: &Value) {
        self.closed = true;
        self.note_error(json);
        self.usage(json);
    }

    fn chat_chunk(&mut self, json: &Value) {
        self.note_error(json);
        self.usage(json);
        let choices = json["choices"].as_array().map(Vec::as_slice).unwrap_or_default();
        self.finished |= choices.iter().any(|choice| choice["finish_reason"].is_string());
    }

    fn message_event(&mut self, json: &Value) {
        match json["type"].as_str() {
            Some("message_start") => self.usage(&json["message"]),
            Some("message_delta") => self.usage(json),
            Some("message_stop") => self.closed = true,
            Some("error") => self.note_error(json),
            _ => {}
        }
    }

    fn response_event(&mut self, json: &Value) {
        match json["type"].as_str() {
            Some("response.created") => self.usage(&json["response"]),
            Some("response.completed" | "response.incomplete") => {
                self.closed = true;
                self.usage(&json["response"]);
            }
            Some("response.failed") => {
                self.usage(&json["response"]);
                self.error = Some(words(&json["response"]["error"]));
            }
            Some("error") => self.error = Some(words(if json["error"].is_object() { &json["error"] } else { json })),
            _ => {}
        }
    }

    fn note_error(&mut self, json: &Value) {
        if !json["error"].is_null() {
            self.error = Some(words(&json["error"]));
        }
    }

    /// Counts are totals so far, so the largest one seen stands: a later event may leave a part of them out.
    fn usage(&mut self, holder: &Value) {
        if let Some(model) = holder["model"].as_str().filter(|model| !model.is_empty()) {
            self.response_model.get_or_insert_with(|| super::record::cut(model, MODEL_BYTES_MAX).to_owned());
        }
        let usage = &holder["usage"];
        let of = |value: &Value| value.as_u64().unwrap_or(0);
        let count = |name: &str| of(&usage[name]);
        let seen = match self.api {
            Api::OpenaiChat => Tokens {
                input: count("prompt_tokens"),
                cached: of(&usage["prompt_tokens_details"]["cached_tokens"]),
                cache_write: 0,
                output: count("completion_tokens"),
            },
            Api::OpenaiResponses => Tokens {
                input: count("input_tokens"),
                cached: of(&usage["input_tokens_details"]["cached_tokens"]),
                cache_write: 0,
                output: count("output_tokens"),
            },
            Api::Anthropic => {
                let (cached, cache_write) = (count("cache_read_input_tokens"), count("cache_creation_input_tokens"));
                let input = count("input_tokens").saturating_add(cache_write).saturating_add(cached);
                Tokens { input, cached, cache_write, output: count("output_tokens") }
            }
        };
        let tokens = &mut self.tokens;
        tokens.input = tokens.input.max(seen.input);
        tokens.cached = tokens.cached.max(seen.cached);
        tokens.cache_write = tokens.cache_write.max(seen.cache_write);
        tokens.output = tokens.output.max(seen.output);
    }
}

/// The words of an error object, whatever shape it has.
fn words(error: &Value) -> String {
    error["message"].as_str().or(error.as_str()).unwrap_or("it gave no reason").to_owned()
}
