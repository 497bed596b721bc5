//! What is sent to the upstream for an agent's request. Must never pass on a header of the agent that is not named here.

use super::errors::Told;
use super::translate::names::ToolNames;
use super::translate::{self, Untranslatable, chain};
use super::{Api, Target, request};
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
    /// What the agent's tools are called at the upstream.
    pub(super) names: ToolNames,
    /// Headers of the agent that go on.
    pub(super) headers: HeaderMap,
}

impl Plan {
    /// Reads a request and makes the upstream's of it.
    pub(super) fn of(to: &Target, api: Api, request: request::AgentRequest, agent: &HeaderMap) -> Result<Plan, Told> {
        let stream = request.stream;
        let mut headers = HeaderMap::new();
        if api == to.api {
            let beta = HeaderName::from_static("anthropic-beta");
            if let Some(value) = agent.get(&beta).filter(|v| api == Api::Anthropic && v.len() <= BETA_BYTES_MAX) {
                headers.insert(beta, value.clone());
            }
            let body = request.pass_through(api, &to.config.model)?;
            return Ok(Plan { body, stream, wants_usage: false, names: ToolNames::default(), headers });
        }
        let target = translate::Target { model: &to.config.model, max_output_tokens: to.config.max_output_tokens };
        let document = request.document()?;
        let wants_usage = document["stream_options"]["include_usage"].as_bool() == Some(true);
        let (translated, names) = chain::request(api, to.api, document, target)
            .map_err(|Untranslatable(why)| Told::new(400, "not_supported", why))?;
        Ok(Plan { body: Bytes::from(translated.to_string()), stream, wants_usage, names, headers })
    }
}
