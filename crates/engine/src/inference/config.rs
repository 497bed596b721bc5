//! The `[model]` table of the configuration file, and what follows from it. Must never hold the key itself: the table
//! names the file, and the file is read once when the door is built.

use super::Api;
use custody_ports::blobs::BLOB_BYTES_MAX;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The most retries that may be configured.
pub const RETRIES_MAX: u32 = 10;

/// The longest wait for a head or between two chunks, in milliseconds: one hour.
pub const WAIT_MS_MAX: u64 = 3_600_000;

/// The longest path of a Unix socket in bytes. Source: unix(7), `sun_path`.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// One upstream model, as an operator writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// What people and the ledger call the upstream, for example `house-llama`. Never an address.
    pub name: String,
    /// Where it listens: `http(s)://host[:port][/prefix][/v1]` or `unix:/path.sock`. An address that ends with the
    /// path of one call (`/v1/messages`, `/v1/chat/completions`, `/v1/responses`) is understood too.
    pub url: String,
    /// The wire format it speaks.
    #[serde(default)]
    pub api: ApiChoice,
    /// The model's name at the upstream. Whatever name the agent asks for is replaced by this one.
    pub model: String,
    /// A file that holds the key and nothing else; nobody but its owner may read it (mode 0600 or 0400).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_file: Option<PathBuf>,
    /// Milliseconds to wait for the answer's head, per attempt. An answer that is not streamed has its head only when
    /// it is complete.
    #[serde(default = "defaults::timeout_ms")]
    pub timeout_ms: u64,
    /// Milliseconds to wait for the next bytes of an answer.
    #[serde(default = "defaults::idle_timeout_ms")]
    pub idle_timeout_ms: u64,
    /// Further attempts after the first, at most [`RETRIES_MAX`].
    #[serde(default = "defaults::max_retries")]
    pub max_retries: u32,
    /// The largest request body in bytes.
    #[serde(default = "defaults::request_bytes_max")]
    pub request_bytes_max: u64,
    /// The largest answer in bytes; a longer one is cut and counts as failed.
    #[serde(default = "defaults::response_bytes_max")]
    pub response_bytes_max: u64,
    /// Output tokens to ask for where the upstream's format demands a number and the agent named none.
    #[serde(default = "defaults::max_output_tokens")]
    pub max_output_tokens: u32,
    /// Who runs it, as OpenTelemetry's `gen_ai.provider.name` says it, for example `anthropic`. Found out from the wire
    /// format and the address when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// What it costs. Without prices no cost is counted, and a budget in money refuses every call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
}

/// Prices in millionths of the accounting currency for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Tokens sent.
    pub input: u64,
    /// Tokens received.
    pub output: u64,
    /// Tokens sent that were in the upstream's cache; the price of any sent token when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<u64>,
    /// Tokens sent that were put into the cache; the price of any sent token when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<u64>,
}

impl Price {
    /// What a call costs, in millionths of the currency, rounded up: a part of a millionth is never given away.
    pub fn cost_micros(&self, tokens: Tokens) -> u64 {
        let times = |tokens: u64, price: u64| u128::from(tokens).saturating_mul(u128::from(price));
        let plain = tokens.input.saturating_sub(tokens.cached).saturating_sub(tokens.cache_write);
        let parts = [
            times(plain, self.input),
            times(tokens.cached, self.cached.unwrap_or(self.input)),
            times(tokens.cache_write, self.cache_write.unwrap_or(self.input)),
            times(tokens.output, self.output),
        ];
        let sum = parts.into_iter().fold(0u128, u128::saturating_add);
        u64::try_from(sum.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

/// What an upstream counted for one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Sent, cached ones included.
    pub input: u64,
    /// Of those, read from the upstream's cache.
    pub cached: u64,
    /// Of those, put into the upstream's cache.
    pub cache_write: u64,
    /// Received.
    pub output: u64,
}

/// Every upstream of an installation, and which one each runner gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Models {
    /// The upstreams, by the name that the configuration gives them.
    pub upstreams: BTreeMap<String, ModelConfig>,
    /// The one for runners that have none of their own.
    pub default: String,
    /// What runners get.
    pub runners: BTreeMap<String, RunnerModels>,
}

/// Which upstreams one runner gets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunnerModels {
    /// The one for every name that `names` does not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// By the model's name as the agent asks for it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<String, String>,
}

impl Models {
    /// One upstream for everybody.
    pub fn one(config: ModelConfig) -> Models {
        let default = "default".to_owned();
        Models { upstreams: BTreeMap::from([(default.clone(), config)]), default, runners: BTreeMap::new() }
    }

    /// The upstream's name for a runner that asks for a model by name.
    pub fn alias<'a>(&'a self, runner: &str, asked: Option<&str>) -> &'a str {
        let Some(own) = self.runners.get(runner) else { return &self.default };
        let named = asked.and_then(|name| own.names.get(name));
        named.or(own.model.as_ref()).unwrap_or(&self.default)
    }

    /// The model's name at the upstream that a runner gets when it asks for nothing in particular.
    pub fn model_of(&self, runner: &str) -> &str {
        self.upstreams.get(self.alias(runner, None)).map_or("none", |config| &config.model)
    }

    /// Whether every upstream that a runner may get has a price.
    pub fn is_priced(&self, runner: &str) -> bool {
        let own = self.runners.get(runner);
        let named = own.into_iter().flat_map(|own| own.names.values().map(String::as_str));
        let priced = |alias: &str| self.upstreams.get(alias).is_none_or(|config| config.price.is_some());
        named.chain([self.alias(runner, None)]).all(priced)
    }

    /// Checks that every upstream that is named is there.
    ///
    /// # Errors
    /// [`DoorError::UnknownModel`] with the place that names it.
    pub fn check(&self) -> Result<(), DoorError> {
        let known = |place: String, alias: &String| match self.upstreams.contains_key(alias) {
            true => Ok(()),
            false => Err(DoorError::UnknownModel { place, alias: alias.clone() }),
        };
        known("the default".to_owned(), &self.default)?;
        for (runner, own) in &self.runners {
            for alias in own.model.iter().chain(own.names.values()) {
                known(format!("runners.{runner}"), alias)?;
            }
        }
        Ok(())
    }
}

/// The wire format of an upstream, or the wish that it be found out from its address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApiChoice {
    /// Anthropic when the address ends with `/v1/messages` or its host says so, else OpenAI Chat Completions.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// OpenAI Chat Completions.
    #[serde(rename = "openai-chat")]
    OpenaiChat,
    /// Anthropic Messages.
    #[serde(rename = "anthropic")]
    Anthropic,
    /// OpenAI Responses.
    #[serde(rename = "openai-responses")]
    OpenaiResponses,
}

/// Why a door cannot be built. All of them are for the operator to put right.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The address cannot be used.
    #[error("model.url cannot be used: {0}")]
    BadUrl(String),
    /// Another value of the table cannot be used.
    #[error("model.{field} cannot be used: {why}")]
    BadValue {
        /// Its key in the table.
        field: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
    /// The key cannot be read, or others can read it too.
    #[error("the key file {path} cannot be used: {why}")]
    BadKeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        why: String,
    },
    /// A place of the configuration names an upstream that is not there.
    #[error("{place} names the model {alias:?}, which [models] does not have")]
    UnknownModel {
        /// Where.
        place: String,
        /// What it names.
        alias: String,
    },
    /// The HTTP client could not be built, for example because this machine has no trusted roots for https.
    #[error("the HTTP client for the model could not be built")]
    Client(#[source] reqwest::Error),
}

mod defaults {
    pub(super) fn timeout_ms() -> u64 {
        120_000
    }
    // A small machine may read a long prompt for a minute before it says its first word.
    pub(super) fn idle_timeout_ms() -> u64 {
        120_000
    }
    pub(super) fn max_retries() -> u32 {
        3
    }
    pub(super) fn request_bytes_max() -> u64 {
        1024 * 1024
    }
    pub(super) fn response_bytes_max() -> u64 {
        8 * 1024 * 1024
    }
    pub(super) fn max_output_tokens() -> u32 {
        4096
    }
}

/// Where calls go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    /// Everything before `/v1/…`, without a slash at the end.
    pub(super) base: String,
    /// The socket, when it is not TCP.
    pub(super) socket: Option<PathBuf>,
    /// Whether it is this machine: a socket or a loopback address.
    pub(super) local: bool,
    /// Whether TLS is spoken.
    pub(super) tls: bool,
    /// The wire format.
    pub(super) api: Api,
    /// Who runs it.
    pub(super) provider: String,
}

impl ModelConfig {
    /// Checks every value and says where calls go.
    pub(super) fn route(&self) -> Result<Route, DoorError> {
        self.check()?;
        let mut route = match self.url.strip_prefix("unix:") {
            Some(path) => socket_route(path, self.api)?,
            None => tcp_route(&self.url, self.api)?,
        };
        if let Some(provider) = &self.provider {
            route.provider.clone_from(provider);
        }
        Ok(route)
    }

    fn check(&self) -> Result<(), DoorError> {
        let word = |field: &'static str, text: &str| match text {
            "" => Err(DoorError::BadValue { field, why: "it is empty".to_owned() }),
            t if t.len() > 200 || t.chars().any(char::is_control) => {
                Err(DoorError::BadValue { field, why: "at most 200 bytes, no control characters".to_owned() })
            }
            _ => Ok(()),
        };
        let range = |field: &'static str, value: u64, min: u64, max: u64| match (min..=max).contains(&value) {
            true => Ok(()),
            false => Err(DoorError::BadValue { field, why: format!("{value} is not between {min} and {max}") }),
        };
        word("name", &self.name)?;
        word("model", &self.model)?;
        self.provider.as_deref().map_or(Ok(()), |provider| word("provider", provider))?;
        range("timeout_ms", self.timeout_ms, 1, WAIT_MS_MAX)?;
        range("idle_timeout_ms", self.idle_timeout_ms, 1, WAIT_MS_MAX)?;
        range("max_retries", u64::from(self.max_retries), 0, u64::from(RETRIES_MAX))?;
        range("request_bytes_max", self.request_bytes_max, 1, BLOB_BYTES_MAX)?;
        range("response_bytes_max", self.response_bytes_max, 1, BLOB_BYTES_MAX / 2)?;
        range("max_output_tokens", u64::from(self.max_output_tokens), 1, 1_000_000)
    }
}

fn chosen(choice: ApiChoice, auto: Api) -> Api {
    match choice {
        ApiChoice::Auto => auto,
        ApiChoice::OpenaiChat => Api::OpenaiChat,
        ApiChoice::Anthropic => Api::Anthropic,
        ApiChoice::OpenaiResponses => Api::OpenaiResponses,
    }
}

/// Well-known values of `gen_ai.provider.name`. Source: OpenTelemetry semantic conventions for generative AI, 2025.
fn provider(host: &str, api: Api, local: bool) -> String {
    let word = match api {
        _ if local => "local",
        _ if host.ends_with("openai.azure.com") => "azure.ai.openai",
        _ if host.ends_with("mistral.ai") => "mistral_ai",
        _ if host.ends_with("groq.com") => "groq",
        _ if host.ends_with("deepseek.com") => "deepseek",
        Api::Anthropic => "anthropic",
        Api::OpenaiChat | Api::OpenaiResponses => "openai",
    };
    word.to_owned()
}

fn socket_route(path: &str, choice: ApiChoice) -> Result<Route, DoorError> {
    // `unix:///run/x.sock` is how URLs are usually written; both forms name the same file.
    let path = path.strip_prefix("//").unwrap_or(path);
    if !path.starts_with('/') || path.len() > SOCKET_PATH_BYTES_MAX {
        return Err(DoorError::BadUrl(format!(
            "a socket is written unix:/path.sock, absolute and at most {SOCKET_PATH_BYTES_MAX} bytes"
        )));
    }
    Ok(Route {
        // The host is only for the Host header; no name is looked up for a socket.
        base: "http://localhost".to_owned(),
        socket: Some(PathBuf::from(path)),
        local: true,
        tls: false,
        api: chosen(choice, Api::OpenaiChat),
        provider: provider("", chosen(choice, Api::OpenaiChat), true),
    })
}

fn tcp_route(text: &str, choice: ApiChoice) -> Result<Route, DoorError> {
    let bad = |why: &str| DoorError::BadUrl(why.to_owned());
    let url = reqwest::Url::parse(text).map_err(|why| DoorError::BadUrl(why.to_string()))?;
    let tls = match url.scheme() {
        "https" => true,
        "http" => false,
        _ => return Err(bad("it starts with http://, https:// or unix:")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("it holds a user name or a password; put the key into model.api_key_file"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad("it holds a ? or a #"));
    }
    let host = url.host_str().ok_or_else(|| bad("it names no host"))?;
    custody_outbound::written(text).map_err(|why| DoorError::BadUrl(why.to_string()))?;
    let path = url.path().trim_end_matches('/');
    let by_path = Api::ALL.into_iter().find(|api| path.ends_with(api.path()));
    let prefix = match by_path {
        Some(api) => path.strip_suffix(api.path()),
        None if path.is_empty() => Some(""),
        None => path.strip_suffix("/v1"),
    };
    let prefix = prefix.ok_or_else(|| bad("its path must be empty or end with /v1"))?;
    let auto = match by_path {
        Some(api) => api,
        None if host.contains("anthropic") => Api::Anthropic,
        None => Api::OpenaiChat,
    };
    let local = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    Ok(Route {
        base: format!("{}{prefix}", url.origin().ascii_serialization()),
        socket: None,
        local,
        tls,
        api: chosen(choice, auto),
        provider: provider(host, chosen(choice, auto), local),
    })
}

#[cfg(test)]
#[path = "tests_config.rs"]
mod tests;
