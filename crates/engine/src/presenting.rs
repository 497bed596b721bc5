//! Tokens as the gateway presents them: the one of a dispatch, verified at every call and renewed in time, and those that
//! it is exchanged for at servers of tools, or at authorization servers of others. Held in memory only; no token goes into a box. Must never present a token
//! that it would not take itself.

use crate::authority::issuing::{DispatchAsk, ExchangeAsk};
use crate::keys::KeyBook;
use custody_contracts::canonical::derived_id;
use custody_contracts::ids::DispatchId;
use custody_contracts::messages::ErrorDoc;
use custody_domain::token::{Audience, Audiences};
use custody_domain::tool::ToolRefusal;
use custody_ledger::{Sign, Stored};
use custody_ports::asks::Asks;
use custody_ports::clock::Clock;
use custody_ports::secrets::SecretText;
use custody_trust::issued::{Names, bound, verify_dispatch};
use custody_trust::token::{ACTOR, Claims, TokenRefused, mint};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// A dispatch token with less than this left is renewed, in seconds.
const RENEW_SECS: u64 = 60;
/// How long the token service may take to answer.
const ASK_WAIT: Duration = Duration::from_secs(10);
/// How long a key may take from authority's record to the fold of this process.
const KEY_WAIT: Duration = Duration::from_secs(2);

/// What presenting needs. Clones share it.
#[derive(Clone)]
pub struct Presenter {
    /// The way to the token service.
    pub asks: Arc<dyn Asks>,
    /// Gateway's key, which proves who asks.
    pub signer: Arc<dyn Sign>,
    /// Its thumbprint, to which dispatch tokens are bound.
    pub jkt: String,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Keys.
    pub keys: KeyBook,
    /// The installation's names.
    pub names: Names,
    /// The servers of tools that take tokens.
    pub audiences: Arc<Audiences>,
    /// This process and no other: two of them never make the same proof.
    pub incarnation: String,
    /// Numbers the proofs of this process.
    pub proofs: Arc<AtomicU64>,
}

/// The token of one dispatch, or of one call of it that a person approved.
pub(crate) struct Pass {
    by: Presenter,
    dispatch: DispatchId,
    txn: Option<String>,
    held: Mutex<Option<Held>>,
}

/// A token, and when it ends by a clock that nobody sets: one that is moved back makes no token good for longer.
struct Held {
    token: String,
    until: Instant,
}

/// What the token service gives.
#[derive(Deserialize)]
struct Given {
    token: String,
}

fn refused(code: &'static str, detail: impl Into<String>) -> ToolRefusal {
    ToolRefusal::new(code, detail, "nothing was done; call again later, or tell the person")
}

impl Presenter {
    /// Takes in one stored message of the ledger.
    pub(crate) fn take_in(&self, stored: &Stored) {
        self.keys.take_in(stored);
    }

    /// For one dispatch; nothing is asked before it is needed.
    pub(crate) fn pass(&self, dispatch: &DispatchId) -> Pass {
        Pass { by: self.clone(), dispatch: dispatch.clone(), txn: None, held: Mutex::default() }
    }

    /// For one call that a person approved: its dispatch may have ended.
    pub(crate) fn pass_for_call(&self, dispatch: &DispatchId, txn: String) -> Pass {
        Pass { txn: Some(txn), ..self.pass(dispatch) }
    }

    /// A proof for one request, good for a minute.
    fn proof(&self, dispatch: &DispatchId, scope: &str) -> Result<String, ToolRefusal> {
        let now = self.clock.now();
        let number = self.proofs.fetch_add(1, Ordering::SeqCst);
        let iat = now.0 / 1_000;
        let claims = Claims {
            iss: ACTOR.issuer.into(),
            sub: dispatch.to_string(),
            aud: ACTOR.audience.into(),
            scope: scope.to_owned(),
            jti: derived_id(
                "ap-",
                &[
                    self.signer.kid().as_bytes(),
                    self.incarnation.as_bytes(),
                    dispatch.as_str().as_bytes(),
                    &now.0.to_be_bytes(),
                    &number.to_be_bytes(),
                ],
            ),
            iat,
            nbf: iat,
            exp: iat + ACTOR.life_secs_max,
        };
        mint(self.signer.as_ref(), &ACTOR, &claims).map_err(|e| refused("TOKEN_UNAVAILABLE", e.to_string()))
    }

    async fn ask(&self, verb: &str, body: &impl Serialize) -> Result<String, ToolRefusal> {
        let lost = |why: &dyn std::fmt::Display| refused("TOKEN_UNAVAILABLE", format!("no token was given: {why}"));
        let body = serde_json::to_vec(body).map_err(|e| lost(&e))?;
        let subject = ["command.token.", verb].concat();
        let asked = tokio::time::timeout(ASK_WAIT, self.asks.ask(&subject, body)).await;
        let bytes = asked.map_err(|_| lost(&"it does not answer in time"))?.map_err(|e| lost(&e))?;
        let mut answer: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| lost(&e))?;
        match answer.get_mut("ok") {
            Some(ok) => serde_json::from_value::<Given>(ok.take()).map(|given| given.token).map_err(|e| lost(&e)),
            None => match serde_json::from_value::<ErrorDoc>(answer) {
                Ok(doc) => {
                    let code = if doc.code == "LEDGER_UNAVAILABLE" { "TOKEN_UNAVAILABLE" } else { "TOKEN_REFUSED" };
                    Err(refused(code, format!("{}: {}", doc.code, doc.message)))
                }
                Err(error) => Err(lost(&error)),
            },
        }
    }
}

impl Pass {
    /// Verifies the dispatch's token as if somebody else had presented it. One that ends soon, or whose key was retired, is
    /// replaced first.
    ///
    /// # Errors
    /// The refusal of the call.
    pub(crate) async fn stands(&self) -> Result<(), ToolRefusal> {
        self.token().await.map(|_| ())
    }

    /// A token for one server of tools and one tool of it; `None` for a server that takes none. For a server that takes
    /// tokens of others it is the assertion that one is given for. `txn` is the effect.
    ///
    /// # Errors
    /// The refusal of the call.
    pub(crate) async fn for_tool(
        &self,
        server: &str,
        tool: &str,
        txn: Option<String>,
    ) -> Result<Option<SecretText>, ToolRefusal> {
        let (verb, audience) = match self.by.audiences.get(server) {
            None => return Ok(None),
            Some(Audience::Server(uri)) => ("exchange", uri),
            Some(Audience::Issuer(issuer)) => ("assert", &issuer.id),
        };
        let ask = ExchangeAsk {
            subject_token: self.token().await?,
            actor_token: self.by.proof(&self.dispatch, "token:exchange")?,
            audience: audience.clone(),
            scope: Some(["tool:", tool].concat()),
            txn,
        };
        let token = self.by.ask(verb, &ask).await?;
        let secret = SecretText::parse(&token);
        secret
            .map(Some)
            .ok_or_else(|| refused("TOKEN_REFUSED", "TOKEN_UNFIT: the token is larger than a header may be"))
    }

    async fn token(&self) -> Result<String, ToolRefusal> {
        let mut held = self.held.lock().await;
        if let Some(Held { token, until }) = held.as_ref()
            && Instant::now() < *until
            && self.good(token, RENEW_SECS).is_ok()
        {
            return Ok(token.clone());
        }
        let actor_token = self.by.proof(&self.dispatch, "token:dispatch")?;
        let mut changes = self.by.keys.changes();
        let token = self.by.ask("dispatch", &DispatchAsk { actor_token, txn: self.txn.clone() }).await?;
        let mut checked = self.good(&token, 0);
        // A key that was made a moment ago may not have come round yet.
        while checked == Err(TokenRefused::Key) {
            match tokio::time::timeout(KEY_WAIT, changes.changed()).await {
                Ok(Ok(())) => checked = self.good(&token, 0),
                Ok(Err(_)) | Err(_) => break,
            }
        }
        let left = checked
            .map_err(|why| refused("TOKEN_REFUSED", format!("{}: the token that was given: {why}", why.code())))?;
        *held = Some(Held { token: token.clone(), until: Instant::now() + Duration::from_secs(left) });
        Ok(token)
    }

    /// The seconds that a token has left, if it is good and they are so many.
    fn good(&self, token: &str, left_secs: u64) -> Result<u64, TokenRefused> {
        let (by, now) = (&self.by, self.by.clock.now().0 / 1_000);
        let claims = by.keys.with(|ring| verify_dispatch(ring.tokens(), token, &by.names, now))?;
        bound(&claims, self.dispatch.as_str(), &by.jkt)?;
        let left = claims.exp.saturating_sub(now);
        if left < left_secs { Err(TokenRefused::Expired) } else { Ok(left) }
    }
}
