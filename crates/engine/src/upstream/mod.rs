//! Upstream MCP servers, over streamable HTTP or as a process on this host over stdio: what they offer, and one call of it.
//! Must never follow a redirect, send a call twice, hand on more than its bound, or name an address or a secret in an error.
//!
//! Source: MCP 2025-06-18, 2025-11-25 and 2026-07-28, "Streamable HTTP" and "stdio". A server is greeted, and one that knows
//! no greeting is asked in the way of 2026-07-28. A process has the gateway's rights, so only the operator's
//! configuration names one.

mod alone;
mod answer;
mod client;
mod config;
mod endpoint;
mod exchange;
mod greeting;
mod link;
mod refresh;
mod stdio;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_endpoint;
#[cfg(test)]
mod tests_exchange;
mod tls;
mod told;

pub use config::{
    ExchangeConfig, OauthConfig, RESULT_BYTES_MAX, ServerConfig, Servers, ServersError, TIMEOUT_MS_MAX, audiences,
    check, identified,
};
pub use told::FRESH;

use custody_contracts::events::ToolEffect;
use custody_domain::tool::{Definition, Offered, ToolRefusal};
use custody_ports::identity::WorkloadIdentity;
use custody_ports::secrets::{SecretText, Secrets};
use exchange::Exchange;
use http::HeaderMap;
use link::{Failed, Link, Shown};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use stdio::Program;
use tokio::sync::Mutex;
use tokio::time::Instant;
use told::{Changes, Told};

/// The most pages of one list.
const PAGES_MAX: usize = 32;

/// What a call came to. `Unknown` means that it was sent and that nobody can say what it did.
#[derive(Debug, Clone, PartialEq)]
pub enum Came {
    /// The server answered that it did it; the result as the agent may have it.
    Done(Value),
    /// The server answered that it did not, or it was never sent.
    Failed {
        /// Stable code.
        code: &'static str,
        /// For the agent.
        detail: String,
    },
    /// It was sent, and no good answer came.
    Unknown {
        /// Stable code.
        code: &'static str,
        /// For the agent.
        detail: String,
    },
}

/// The servers of this installation.
#[derive(Clone)]
pub struct Upstreams {
    by_name: Arc<BTreeMap<String, Server>>,
}

struct Server {
    way: Way,
    /// Where its tokens come from, when they are others'.
    exchange: Option<Exchange>,
    /// What it said last of its tools.
    told: Mutex<Option<Told>>,
    changes: Changes,
}

/// How a server is reached.
enum Way {
    /// Over streamable HTTP.
    Http(Box<Link>),
    /// As a process on this host.
    Stdio(Box<Program>),
}

impl Way {
    /// Asks one thing; `repeated` are arguments that a server wants in headers too, where there are any.
    async fn request(
        &self,
        method: &str,
        params: Value,
        shown: Shown<'_>,
        repeated: &HeaderMap,
    ) -> Result<Value, Failed> {
        match self {
            Way::Http(link) => link.request(method, params, shown, repeated).await,
            Way::Stdio(program) => program.request(method, params, shown).await,
        }
    }

    /// The largest result.
    fn result_bytes(&self) -> usize {
        match self {
            Way::Http(link) => link.result_bytes(),
            Way::Stdio(program) => program.result_bytes(),
        }
    }
}

impl std::fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

impl Upstreams {
    /// None.
    pub fn none() -> Upstreams {
        Upstreams { by_name: Arc::default() }
    }

    /// Those of a configuration. Nothing is connected to or started before it is needed.
    ///
    /// # Errors
    /// [`ServersError`] for what cannot be one.
    pub fn new(
        servers: &Servers,
        secrets: Arc<dyn Secrets>,
        identity: Arc<dyn WorkloadIdentity>,
    ) -> Result<Upstreams, ServersError> {
        config::check(servers)?;
        let mut by_name = BTreeMap::new();
        for (name, config) in servers {
            let changes = Changes::default();
            let way = match config.command {
                Some(_) => Way::Stdio(Box::new(Program::new(name, config, secrets.clone(), changes.clone())?)),
                None => {
                    let link = Link::new(name, config, secrets.clone(), identity.clone(), changes.clone())?;
                    Way::Http(Box::new(link))
                }
            };
            let exchange = match &config.exchange {
                Some(at) => Some(Exchange::new(at, config.timeout_ms, secrets.clone())?),
                None => None,
            };
            by_name.insert(name.clone(), Server { way, exchange, told: Mutex::default(), changes });
        }
        Ok(Upstreams { by_name: Arc::new(by_name) })
    }

    /// Ends the servers that are processes here, all at once and within some seconds, and starts none any more. Calls of
    /// them that are open end in doubt.
    pub async fn end(&self) {
        let programs = self.by_name.values().filter_map(|server| match &server.way {
            Way::Stdio(program) => Some(program.end()),
            Way::Http(_) => None,
        });
        futures::future::join_all(programs).await;
    }

    /// What a server says of all its tools, now.
    ///
    /// # Errors
    /// A code and a sentence.
    pub async fn definitions(&self, server: &str) -> Result<BTreeMap<String, Definition>, (&'static str, String)> {
        let Some(server) = self.by_name.get(server) else {
            return Err(("UPSTREAM_UNKNOWN", format!("server {server:?} is not in [tools.servers]")));
        };
        server.ask(Shown::Secret(None)).await.map_err(|failed| (failed.code(), failed.detail()))
    }

    /// Whether a tool is at its server what was accepted. Asked before an intent is written. `token` goes to a server that
    /// takes tokens.
    ///
    /// # Errors
    /// The refusal of a call of it.
    pub async fn as_accepted(&self, tool: &Offered, token: Option<&SecretText>) -> Result<(), ToolRefusal> {
        let Some((server, own)) = tool.upstream() else { return Ok(()) };
        let name = &tool.document().name;
        let unreachable =
            |detail: String| ToolRefusal::new("UPSTREAM_UNAVAILABLE", detail, "nothing was done; call again later");
        let Some(at) = self.by_name.get(server) else {
            return Err(unreachable(format!("server {server:?} is not configured here")));
        };
        let now = at.current(server, tool, token).await.map_err(|failed| match failed {
            Failed::Token(code, detail) => ToolRefusal::new(code, detail, "nothing was done; tell the person"),
            other => unreachable(other.detail()),
        })?;
        match now.get(own) {
            Some(found) if Some(found.digest().as_str()) == tool.definition() => Ok(()),
            Some(_) => Err(ToolRefusal::new(
                "TOOL_CHANGED",
                format!("server {server} says something else of {own} than what was accepted"),
                "an operator looks at it and accepts it: custody tool accept",
            )),
            None => Err(ToolRefusal::new(
                "TOOL_GONE",
                format!("server {server} has no tool {own} any more, so {name} cannot be called"),
                "do it in another way, or tell the person",
            )),
        }
    }

    /// Whether [`Upstreams::as_accepted`] would ask the server of a tool, and so need a token of it.
    pub async fn would_ask(&self, tool: &Offered) -> bool {
        match tool.upstream().and_then(|(server, _)| self.by_name.get(server)) {
            Some(server) => server.is_stale().await,
            None => false,
        }
    }

    /// What a server of tools is shown for a token of ours: the token itself, or what its own authorization server gives
    /// for it. That one is kept nowhere: it is for the request that it was asked for.
    ///
    /// # Errors
    /// The refusal of a call.
    pub async fn shown(&self, server: &str, token: SecretText) -> Result<SecretText, ToolRefusal> {
        match self.by_name.get(server).and_then(|server| server.exchange.as_ref()) {
            Some(exchange) => exchange.token(&token).await,
            None => Ok(token),
        }
    }

    /// Makes one call. Sends it once. `token` goes to a server that takes tokens.
    pub async fn call(&self, tool: &Offered, args: &Value, idempotency_key: &str, token: Option<&SecretText>) -> Came {
        let found = tool.upstream().and_then(|(server, own)| Some((self.by_name.get(server)?, own)));
        let Some((server, own)) = found else {
            return Came::Failed { code: "UPSTREAM_UNAVAILABLE", detail: "its server is not configured here".into() };
        };
        let params = json!({
            "name": own, "arguments": args, "_meta": { "custody/idempotency-key": idempotency_key },
        });
        let cred = Shown::of(tool.document().cred_ref.as_deref(), token);
        let repeated = alone::arguments(tool.args_schema(), args);
        match server.way.request("tools/call", params, cred, &repeated).await {
            Ok(result) => answer::of_result(&result, server.way.result_bytes()),
            Err(failed) => {
                let (code, detail) = (failed.code(), failed.detail());
                // Reading twice changes nothing: that it failed is all there is to know.
                match failed.was_sent() && tool.document().effect != ToolEffect::Read {
                    true => Came::Unknown { code, detail },
                    false => Came::Failed { code, detail },
                }
            }
        }
    }
}

impl Server {
    /// Whether what it said last does not count any more, so that it must be asked again.
    async fn is_stale(&self) -> bool {
        let told = self.told.lock().await;
        told.as_ref().is_none_or(|told| told.is_stale(self.changes.count(), Instant::now()))
    }

    /// What the server said of its tools, not longer than [`FRESH`] ago and not before it last said that they changed.
    async fn current(
        &self,
        name: &str,
        tool: &Offered,
        token: Option<&SecretText>,
    ) -> Result<BTreeMap<String, Definition>, Failed> {
        let mut told = self.told.lock().await;
        let changes = self.changes.count();
        if let Some(last) = told.as_ref()
            && !last.is_stale(changes, Instant::now())
        {
            return Ok(last.definitions.clone());
        }
        let now = self.ask(Shown::of(tool.document().cred_ref.as_deref(), token)).await?;
        if let Some(last) = told.as_ref() {
            last.compare(name, &now);
        }
        *told = Some(Told::now(changes, now.clone()));
        Ok(now)
    }

    async fn ask(&self, cred: Shown<'_>) -> Result<BTreeMap<String, Definition>, Failed> {
        let mut found = BTreeMap::new();
        let mut cursor = None;
        for _ in 0..PAGES_MAX {
            let params = cursor.map_or_else(|| json!({}), |cursor: String| json!({ "cursor": cursor }));
            let page = self.way.request("tools/list", params, cred, &HeaderMap::new()).await?;
            answer::take_definitions(&page, &mut found).map_err(Failed::Odd)?;
            cursor = page["nextCursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                return Ok(found);
            }
        }
        Err(Failed::Odd(format!("its list of tools has more than {PAGES_MAX} pages")))
    }
}
