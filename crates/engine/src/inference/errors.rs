//! Errors in the words of each wire format, so that an agent understands them. Must never hold an address or a key;
//! words of the upstream come in already cleaned.

use super::Api;
use serde_json::{Value, json};

/// An error to tell an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// HTTP status, also the source of the error's type.
    pub(super) status: u16,
    /// Stable word, for example `request_too_large`.
    pub(super) code: String,
    /// A sentence: what happened and what to do.
    pub(super) message: String,
}

impl Told {
    /// An error of the door itself.
    pub(super) fn new(status: u16, code: &str, message: impl Into<String>) -> Told {
        Told { status, code: code.to_owned(), message: message.into() }
    }

    /// The body of an error answer.
    pub(super) fn body(&self, api: Api) -> Value {
        match api {
            Api::Anthropic => json!({
                "type": "error",
                "error": { "type": anthropic_type(self.status), "message": self.message },
            }),
            Api::OpenaiChat | Api::OpenaiResponses => json!({
                "error": {
                    "message": self.message,
                    "type": openai_type(self.status),
                    "code": self.code,
                    "param": null,
                },
            }),
        }
    }

    /// The document of an error event inside a stream.
    pub(super) fn in_stream(&self, api: Api) -> Value {
        match api {
            Api::OpenaiChat | Api::Anthropic => self.body(api),
            Api::OpenaiResponses => {
                json!({ "type": "error", "code": self.code, "message": self.message, "param": null })
            }
        }
    }
}

/// Source: Anthropic API reference, "Errors", HTTP errors.
fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

/// Source: OpenAI API reference, error types as its servers send them.
fn openai_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}

/// The words and the code of an upstream's error body: at most `max` bytes of each, control characters made blanks.
pub(super) fn upstream_words(body: &[u8], max: usize) -> (String, Option<String>) {
    let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let error = if json["error"].is_null() { &json } else { &json["error"] };
    let told = [&error["message"], error, &json["message"], &json["detail"]].into_iter().find_map(Value::as_str);
    let text = match told {
        Some(told) => told.to_owned(),
        // A page of HTML says nothing to an agent.
        None if body.trim_ascii_start().starts_with(b"<") => String::new(),
        None => String::from_utf8_lossy(body).into_owned(),
    };
    let code =
        error["code"].as_str().or_else(|| error["type"].as_str()).filter(|code| plain_word(code)).map(str::to_owned);
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    (super::record::cut(clean.trim(), max).to_owned(), code)
}

fn plain_word(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}
