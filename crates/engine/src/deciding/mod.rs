//! The decision over a tool call for others than the gateway's own door: for a proxy that stands before a tool's server
//! (Envoy's ext_authz), and for whoever else keeps one (AuthZEN). Both show the tool token of the call, which is all that
//! proves who asks. What is decided is `domain::tool::judge_presented` over what the ledger's leader holds now.
//!
//! A refusal under a good token is an event, as many a minute as the token service's; a token that is not good is nobody's,
//! so it is told and not written down: whoever has none could fill the ledger. That something may be done is no event: the
//! intent of the call stands already.
//!
//! Must never perform anything, never say yes when something could not be read, and never pass one recorded call on twice.

mod facts;
mod question;
mod record;
#[cfg(test)]
mod tests;

use crate::authority::issuing::refusals::Refusals;
use crate::gateway::Gateway;
use crate::grants::Grants;
use crate::keys::KeyBook;
use crate::mcp::wire::{RpcError, reply};
use crate::tools::ToolBook;
use custody_contracts::canonical::{canonical, digest};
use custody_contracts::events::{DispatchAdmitted, RuledBy, ToolIntended};
use custody_contracts::token::ToolClaims;
use custody_domain::token::{Audience, Audiences};
use custody_domain::tool::{Policy, Presented, ToolRefusal, judge_presented};
use custody_ledger::{Log, LogError, Sign};
use custody_ports::blobs::Blobs;
use custody_ports::clock::Clock;
use custody_trust::issued::{Names, verify_tool};
use custody_trust::token::TokenRefused;
use facts::Admission;
use http::StatusCode;
use question::{Evaluation, Question};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// The largest message that is looked at, in bytes: the largest arguments of a call and what stands around them.
pub const MESSAGE_BYTES_MAX: usize = 1_310_720;
/// Questions at once; further ones are told that nobody can say.
pub const RUNNING_MAX: usize = 64;
/// The longest that one question may take.
pub const DECIDE_MAX: Duration = Duration::from_secs(2);
/// Calls that were passed on and are remembered.
const PASSED_MAX: usize = 65_536;
/// How long they are, in seconds: the longest wait for an upstream's answer, and the life of a token.
const PASSED_SECS: u64 = 720;

/// Whoever decides. Clones share it.
#[derive(Clone)]
pub struct Decisions(Arc<Inner>);

struct Inner {
    log: Arc<dyn Log>,
    signer: Arc<dyn Sign>,
    clock: Arc<dyn Clock>,
    tools: ToolBook,
    policy: Arc<dyn Policy>,
    grants: Grants,
    keys: KeyBook,
    names: Names,
    audiences: Arc<Audiences>,
    blobs: Arc<dyn Blobs>,
    running: Semaphore,
    /// The calls that were passed on, and when, in seconds.
    passed: Mutex<BTreeMap<String, u64>>,
    refusals: Mutex<Refusals>,
}

/// A request on its way to a tool's server, as a proxy tells it.
#[derive(Debug, Clone, Copy)]
pub struct Passing<'a> {
    /// Its `Authorization` header.
    pub authorization: Option<&'a str>,
    /// For whom tokens are on this way, as the proxy is configured. Never from the request.
    pub audience: &'a str,
    /// Its HTTP method.
    pub method: &'a str,
    /// Its whole body.
    pub body: &'a [u8],
}

/// Whether it may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passed {
    /// It may.
    On,
    /// It may not, and whoever sent it is told this: a JSON-RPC error. 200 for what a rule refuses, because clients of MCP
    /// read no other; 401 for a token that is not good; 400 and 405 for what is no message of the protocol.
    TurnedAway {
        /// HTTP status.
        status: StatusCode,
        /// The body.
        body: String,
    },
    /// Nobody can say, so it may not.
    Unavailable(String),
}

/// The answer to an evaluation.
#[derive(Debug, Clone, PartialEq)]
pub enum Evaluated {
    /// An answer of AuthZEN, yes or no.
    Decided(Value),
    /// The token is not good: the code.
    Unauthenticated(&'static str),
    /// It is no question that is answered here.
    Unfit(String),
    /// Nobody can say.
    Unavailable(String),
}

/// What is asked about a request under a good token.
#[derive(Debug, Clone, Copy)]
enum Asked<'a> {
    /// Something that calls nothing: greetings, lists.
    Nothing,
    /// A call that is about to be made, and its idempotency key.
    Made(Call<'a>, &'a str),
    /// Whether a call may be made.
    May(Call<'a>),
    /// Something that is never let through.
    Never(&'a ToolRefusal),
}

/// A call.
#[derive(Debug, Clone, Copy)]
struct Call<'a> {
    tool: &'a str,
    args: &'a Value,
}

/// Why not.
#[derive(Debug)]
enum No {
    Refused(ToolRefusal),
    Unavailable(String),
}

impl From<ToolRefusal> for No {
    fn from(refusal: ToolRefusal) -> No {
        No::Refused(refusal)
    }
}

impl From<LogError> for No {
    fn from(error: LogError) -> No {
        No::Unavailable(error.to_string())
    }
}

fn refused(code: &'static str, detail: impl Into<String>) -> No {
    No::Refused(ToolRefusal::new(code, detail, "nothing was done"))
}

impl Decisions {
    /// With a gateway's own eyes: its folds of keys and grants, its tools, its policy. `None` where there are no tokens.
    pub fn of(gateway: &Gateway) -> Option<Decisions> {
        let presenter = gateway.presenter.as_ref()?;
        Some(Decisions(Arc::new(Inner {
            log: gateway.log.clone(),
            signer: gateway.signer.clone(),
            clock: gateway.clock.clone(),
            tools: gateway.tools.clone(),
            policy: gateway.policy.clone(),
            grants: gateway.grants.clone(),
            keys: presenter.keys.clone(),
            names: presenter.names.clone(),
            audiences: presenter.audiences.clone(),
            blobs: gateway.blobs.clone(),
            running: Semaphore::new(RUNNING_MAX),
            passed: Mutex::default(),
            refusals: Mutex::default(),
        })))
    }

    /// Whether a request may pass on to its server. A call passes once.
    pub async fn passes(&self, request: Passing<'_>) -> Passed {
        self.0.in_time(self.0.pass(request)).await.unwrap_or_else(Passed::Unavailable)
    }

    /// Answers an access evaluation. It changes nothing: the same question again is the same answer.
    ///
    /// Source: OpenID AuthZEN Authorization API 1.0, section 6.
    pub async fn evaluates(&self, authorization: Option<&str>, body: &[u8]) -> Evaluated {
        self.0.in_time(self.0.evaluate(authorization, body)).await.unwrap_or_else(Evaluated::Unavailable)
    }
}

impl Inner {
    /// Within the room and the time that there are.
    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, String> {
        let Ok(_room) = self.running.try_acquire() else {
            return Err(format!("{RUNNING_MAX} questions are asked already"));
        };
        let late = |_| format!("there was no answer within {} ms", DECIDE_MAX.as_millis());
        tokio::time::timeout(DECIDE_MAX, work).await.map_err(late)
    }

    async fn pass(&self, request: Passing<'_>) -> Passed {
        let claims = match self.verified(request.authorization, request.audience) {
            Ok(claims) => claims,
            Err(why) => {
                tracing::info!(code = why.code(), "a request with a token that is not good is turned away");
                let why = ToolRefusal::new(why.code(), format!("the token: {why}"), "nothing was done");
                return turned_away(StatusCode::UNAUTHORIZED, &Value::Null, &RpcError::turned_away(&why));
            }
        };
        if request.method != "POST" {
            return turned_away(StatusCode::METHOD_NOT_ALLOWED, &Value::Null, &RpcError::invalid("use POST"));
        }
        if request.body.len() > MESSAGE_BYTES_MAX {
            let why = RpcError::invalid(format!("the message is larger than {MESSAGE_BYTES_MAX} bytes"));
            return turned_away(StatusCode::PAYLOAD_TOO_LARGE, &Value::Null, &why);
        }
        let (id, question) = match question::read(request.body) {
            Ok(read) => read,
            Err(why) => return turned_away(StatusCode::BAD_REQUEST, &Value::Null, &why),
        };
        let decided = match &question {
            Question::Nothing => self.decide(&claims, Asked::Nothing).await,
            Question::Never(refusal) => self.decide(&claims, Asked::Never(refusal)).await,
            Question::Call { name, args, key } => {
                let tool = self.named(&claims.aud, name);
                let refusal = ToolRefusal::new("TOOL_NOT_LISTED", "no such tool is offered", "nothing was done");
                let asked = match &tool {
                    Some(tool) => Asked::Made(Call { tool, args }, key),
                    None => Asked::Never(&refusal),
                };
                self.decide(&claims, asked).await
            }
        };
        match decided {
            Ok(_) => Passed::On,
            Err(No::Refused(refusal)) => turned_away(StatusCode::OK, &id, &RpcError::turned_away(&refusal)),
            Err(No::Unavailable(why)) => Passed::Unavailable(why),
        }
    }

    async fn evaluate(&self, authorization: Option<&str>, body: &[u8]) -> Evaluated {
        let mut tried = self.servers().map(|(_, audience)| self.verified(authorization, audience));
        // A token is for one audience: the first try that does not fail for that alone decides.
        let claims = match tried.find(|found| !matches!(found, Err(TokenRefused::Audience(_)))) {
            Some(Ok(claims)) => claims,
            Some(Err(why)) => return Evaluated::Unauthenticated(why.code()),
            None => return Evaluated::Unauthenticated("TOKEN_AUDIENCE"),
        };
        let Evaluation { dispatch, tool, args } = match question::evaluation(body) {
            Ok(asked) => asked,
            Err(why) => return Evaluated::Unfit(why),
        };
        let other = ToolRefusal::new("TOKEN_DISPATCH", "the token is another dispatch's", "ask with its own");
        let asked = match dispatch == claims.dispatch_id.as_str() {
            true => Asked::May(Call { tool: &tool, args: &args }),
            false => Asked::Never(&other),
        };
        match self.decide(&claims, asked).await {
            Ok(rule) => Evaluated::Decided(json!({ "decision": true, "context": context(None, rule.as_ref()) })),
            Err(No::Refused(why)) => {
                let context = context(Some(&why), why.policy.as_ref());
                Evaluated::Decided(json!({ "decision": false, "context": context }))
            }
            Err(No::Unavailable(why)) => Evaluated::Unavailable(why),
        }
    }

    /// What a bearer token says that is good here, now, for this audience.
    fn verified(&self, authorization: Option<&str>, audience: &str) -> Result<ToolClaims, TokenRefused> {
        let shown = authorization.and_then(|shown| shown.split_once(' '));
        let shown = shown.filter(|(how, _)| how.eq_ignore_ascii_case("bearer"));
        let (_, token) = shown.ok_or(TokenRefused::Malformed)?;
        let now = self.clock.now().0 / 1_000;
        self.keys.with(|ring| verify_tool(ring.tokens(), token, &self.names, audience, now))
    }

    /// The servers that take tool tokens, each with their audience. Assertions for authorization servers of others are never
    /// shown here.
    fn servers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.audiences.iter().filter_map(|(server, audience)| match audience {
            Audience::Server(uri) => Some((server.as_str(), uri.as_str())),
            Audience::Issuer(_) => None,
        })
    }

    /// The tool that has this name at the server whose tokens have this audience.
    fn named(&self, audience: &str, name: &str) -> Option<String> {
        let (server, _) = self.servers().find(|(_, own)| *own == audience)?;
        let tools = self.tools.tools();
        let found = tools.all().find(|tool| tool.upstream() == Some((server, name)));
        found.map(|tool| tool.document().name.clone())
    }

    /// Decides, and writes a refusal down.
    async fn decide(&self, claims: &ToolClaims, asked: Asked<'_>) -> Result<Option<RuledBy>, No> {
        let dispatch = claims.dispatch_id.as_str();
        let Some(admission) = facts::admission(self.log.as_ref(), dispatch).await? else {
            return Err(refused("TOKEN_DISPATCH_NOT_RUNNING", format!("dispatch {dispatch} was not admitted")));
        };
        let decided = self.judged(claims, &admission, asked).await;
        if let Err(No::Refused(refusal)) = &decided {
            self.record(claims, &admission, asked, refusal).await;
        }
        decided
    }

    async fn judged(
        &self,
        claims: &ToolClaims,
        Admission { admitted, .. }: &Admission,
        asked: Asked<'_>,
    ) -> Result<Option<RuledBy>, No> {
        let (log, now) = (self.log.as_ref(), self.clock.now());
        // From the leader, so that a revocation is felt by the very next question.
        facts::learn_grant(log, &self.grants, claims.grant.as_str()).await?;
        let stands = self.grants.hears().and_then(|()| self.grants.stands(admitted, now));
        stands.map_err(|short| refused(short.code, short.detail))?;
        if !facts::runs(log, claims).await? {
            let detail = format!("dispatch {} does not run", claims.dispatch_id);
            return Err(refused("TOKEN_DISPATCH_NOT_RUNNING", detail));
        }
        let (call, key) = match asked {
            Asked::Nothing => return Ok(None),
            Asked::Never(refusal) => return Err(refusal.clone().into()),
            Asked::Made(..) if claims.txn.is_none() => {
                return Err(refused("CALL_NOT_OPEN", "the token is for no call that was recorded"));
            }
            Asked::Made(call, key) => (call, Some(key)),
            Asked::May(call) => (call, None),
        };
        let (intended, approval) = match &claims.txn {
            Some(txn) => facts::call(log, txn, now).await?,
            None => (None, None),
        };
        let args_digest = self.args_digest(admitted, call.args, intended.as_ref())?;
        let (tools, issued) = (self.tools.tools(), self.grants.get(claims.grant.as_str()));
        let rule = judge_presented(Presented {
            claims,
            tool: call.tool,
            args: call.args,
            args_digest: &args_digest,
            admitted,
            grant: issued.as_ref().map(|issued| &issued.grant),
            intended: intended.as_ref(),
            approval: approval.as_ref(),
            tools: &tools,
            policy: self.policy.as_ref(),
        })?;
        if let (Some(key), Some(intended)) = (key, &intended) {
            if key != intended.idempotency_key {
                return Err(refused("CALL_CHANGED", "its idempotency key is not the one that was recorded"));
            }
            self.once(&intended.idempotency_key, now.0 / 1_000)?;
        }
        Ok(rule)
    }

    /// The digest that names arguments as the person's key keeps them; one that was recorded before there were such keys
    /// names them themselves.
    fn args_digest(
        &self,
        admitted: &DispatchAdmitted,
        args: &Value,
        intended: Option<&ToolIntended>,
    ) -> Result<String, No> {
        let text = canonical(args);
        let plain = digest(text.as_bytes());
        if intended.is_some_and(|intended| intended.args_digest == plain) {
            return Ok(plain);
        }
        let named = self.blobs.name(&admitted.unit.identity.subject, text.as_bytes());
        named.map_err(|why| No::Unavailable(why.to_string()))
    }

    /// Whether a call was not passed on before.
    fn once(&self, key: &str, now: u64) -> Result<(), No> {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        if passed.len() >= PASSED_MAX {
            passed.retain(|_, at| at.saturating_add(PASSED_SECS) > now);
        }
        if passed.contains_key(key) {
            return Err(refused("CALL_REPLAYED", "this call was passed on before"));
        }
        if passed.len() >= PASSED_MAX {
            return Err(No::Unavailable(format!("{PASSED_MAX} calls were passed on in {PASSED_SECS} s")));
        }
        passed.insert(key.to_owned(), now);
        Ok(())
    }
}

fn turned_away(status: StatusCode, id: &Value, why: &RpcError) -> Passed {
    Passed::TurnedAway { status, body: reply(id, Err(why.clone())).to_string() }
}

/// What an answer says beside yes or no: the rule's name, and why.
fn context(refusal: Option<&ToolRefusal>, rule: Option<&RuledBy>) -> Value {
    let mut context = json!({});
    if let Some(by) = rule {
        context["rule"] = json!(by.rule);
        context["policy"] = json!(by.digest);
    }
    if let Some(refusal) = refusal {
        context["code"] = json!(refusal.code);
        context["reason_admin"] = json!({ "en": refusal.detail });
    }
    context
}
