//! From any of the three formats to any other, by way of Chat Completions: a request, a whole answer, a stream. Must
//! never be used where both sides speak one format.

use super::super::Api;
use super::super::sse::{SseEvent, SseParser};
use super::chat_stream::{ChatToMessages, Unfollowable};
use super::messages_stream::MessagesToChat;
use super::names::ToolNames;
use super::responses_stream::ResponsesToChat;
use super::to_responses_stream::ChatToResponses;
use super::{
    Target, Untranslatable, chat_answer, chat_request, messages_answer, messages_request, responses_answer,
    responses_request, to_responses_answer, to_responses_request,
};
use serde_json::Value;

/// An agent's request in the upstream's format, and what its tools are called there.
pub(in super::super) fn request(
    agent: Api,
    upstream: Api,
    document: Value,
    target: Target<'_>,
) -> Result<(Value, ToolNames), Untranslatable> {
    let (chat, names) = match agent {
        Api::OpenaiChat => (document, ToolNames::default()),
        Api::Anthropic => (messages_request::to_chat(&document, target)?, ToolNames::default()),
        Api::OpenaiResponses => responses_request::to_chat(&document, target)?,
    };
    let translated = match upstream {
        Api::OpenaiChat => chat,
        Api::Anthropic => chat_request::to_messages(&chat, target)?,
        Api::OpenaiResponses => to_responses_request::to_responses(&chat, target)?,
    };
    Ok((translated, names))
}

/// A whole answer of the upstream in the agent's format; `None` when it is not an answer.
pub(in super::super) fn answer(agent: Api, upstream: Api, document: &Value, names: &ToolNames) -> Option<Value> {
    let chat = match upstream {
        Api::OpenaiChat => document.clone(),
        Api::Anthropic => messages_answer::to_chat(document)?,
        Api::OpenaiResponses => responses_answer::to_chat(document)?,
    };
    match agent {
        Api::OpenaiChat => Some(chat),
        Api::Anthropic => chat_answer::to_message(&chat),
        Api::OpenaiResponses => to_responses_answer::to_response(&chat, names),
    }
}

/// The way from the upstream's format to chunks.
#[derive(Debug)]
enum First {
    /// They are chunks.
    Chunks,
    Messages(MessagesToChat),
    Responses(ResponsesToChat),
}

/// The way from chunks to the agent's format.
#[derive(Debug)]
enum Second {
    /// Chunks are what it wants.
    Chunks,
    Messages(ChatToMessages),
    Responses(ChatToResponses),
}

/// A stream on its way.
#[derive(Debug)]
pub(in super::super) struct Translator {
    first: First,
    between: SseParser,
    second: Second,
}

impl Translator {
    /// A translator for one answer. `wants_usage`: whether an agent that speaks Chat Completions asked for its usage.
    pub(in super::super) fn new(
        agent: Api,
        upstream: Api,
        wants_usage: bool,
        model: &str,
        names: ToolNames,
    ) -> Translator {
        // What goes on into another format needs the usage whether or not it was asked for.
        let usage = wants_usage || agent != Api::OpenaiChat;
        Translator {
            first: match upstream {
                Api::OpenaiChat => First::Chunks,
                Api::Anthropic => First::Messages(MessagesToChat::new(usage, model)),
                Api::OpenaiResponses => First::Responses(ResponsesToChat::new(usage, model)),
            },
            between: SseParser::default(),
            second: match agent {
                Api::OpenaiChat => Second::Chunks,
                Api::Anthropic => Second::Messages(ChatToMessages::new(model)),
                Api::OpenaiResponses => Second::Responses(ChatToResponses::new(model, names)),
            },
        }
    }

    /// What one event of the upstream becomes; `json` is its data when that is a document.
    pub(in super::super) fn event(
        &mut self,
        event: &SseEvent,
        json: Option<&Value>,
        out: &mut String,
    ) -> Result<(), Unfollowable> {
        let mut chunks = String::new();
        match (&mut self.first, json) {
            (First::Chunks, _) => return self.second.take(event, json, out),
            (First::Messages(state), Some(json)) => state.event(json, &mut chunks),
            (First::Responses(state), Some(json)) => state.event(json, &mut chunks),
            (First::Messages(_) | First::Responses(_), None) => {}
        }
        if matches!(self.second, Second::Chunks) {
            out.push_str(&chunks);
            return Ok(());
        }
        let mut events = Vec::new();
        self.between.push(chunks.as_bytes(), &mut events);
        for event in &events {
            let json: Option<Value> = serde_json::from_str(&event.data).ok();
            self.second.take(event, json.as_ref(), out)?;
        }
        Ok(())
    }

    /// The events of the end, when the upstream closed after a whole answer. Safe to call twice.
    pub(in super::super) fn end(&mut self, out: &mut String) {
        self.second.end(out);
    }
}

impl Second {
    fn take(&mut self, event: &SseEvent, json: Option<&Value>, out: &mut String) -> Result<(), Unfollowable> {
        match (&mut *self, json) {
            (Second::Messages(state), Some(json)) => state.chunk(json, out),
            (Second::Responses(state), Some(json)) => state.chunk(json, out),
            (Second::Messages(_) | Second::Responses(_), None) => {
                if event.data.trim() == "[DONE]" {
                    self.end(out);
                }
                Ok(())
            }
            (Second::Chunks, _) => Ok(()),
        }
    }

    fn end(&mut self, out: &mut String) {
        match self {
            Second::Chunks => {}
            Second::Messages(state) => state.end(out),
            Second::Responses(state) => state.end(out),
        }
    }
}
