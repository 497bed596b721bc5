//! What is sent to the upstream for an agent's request. Must never pass on a header of the agent that is not named here.

use super::errors::Told;
use super::translate::{Target, Untranslatable, chat_request, messages_request};
use super::{Api, Inner, request};
use bytes::Bytes;
use http::{HeaderMap, HeaderName};

/// The largest `anthropic-beta` header that is passed on, in bytes.
const BETA_BYTES_MAX: usize = 1024;

/// What is sent to the upstream.
pub(super) struct Plan {
    /// The body in the upstream's format.
    pub(super) body: Bytes,
    /// Whether the agent wants its answer streamed.
    pub(super) stream: bool,
    /// Whether the agent itself asked for the usage in a streamed chat answer.
    pub(super) wants_usage: bool,
    /// Headers of the agent that go on.
    pub(super) headers: HeaderMap,
}

impl Plan {
    /// Reads a request and makes the upstream's of it.
    pub(super) fn of(inner: &Inner, api: Api, body: &[u8], agent: &HeaderMap) -> Result<Plan, Told> {
        let request = request::AgentRequest::parse(body)?;
        let stream = request.stream;
        let mut headers = HeaderMap::new();
        if api == inner.api {
            let beta = HeaderName::from_static("anthropic-beta");
            if let Some(value) = agent.get(&beta).filter(|v| api == Api::Anthropic && v.len() <= BETA_BYTES_MAX) {
                headers.insert(beta, value.clone());
            }
            let body = request.pass_through(api, &inner.config.model)?;
            return Ok(Plan { body, stream, wants_usage: false, headers });
        }
        let target = Target { model: &inner.config.model, max_output_tokens: inner.config.max_output_tokens };
        let document = match (api, inner.api) {
            (Api::OpenaiChat, Api::Anthropic) | (Api::Anthropic, Api::OpenaiChat) => request.document()?,
            (_, upstream) => {
                return Err(Told::new(
                    501,
                    "not_translated",
                    format!(
                        "upstream {:?} speaks {}, this agent {}, and there is no translation between the two; \
                         set model.api to {} if the upstream speaks it, or use a runner that speaks {}",
                        inner.config.name,
                        upstream.as_str(),
                        api.as_str(),
                        api.as_str(),
                        upstream.as_str(),
                    ),
                ));
            }
        };
        let wants_usage = document["stream_options"]["include_usage"].as_bool() == Some(true);
        let translated = match api {
            Api::OpenaiChat => chat_request::to_messages(&document, target),
            Api::Anthropic | Api::OpenaiResponses => messages_request::to_chat(&document, target),
        };
        let translated = translated.map_err(|Untranslatable(why)| Told::new(400, "not_supported", why))?;
        Ok(Plan { body: Bytes::from(translated.to_string()), stream, wants_usage, headers })
    }
}
