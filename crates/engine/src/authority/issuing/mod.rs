//! The token service: signs a token for a dispatch that runs, and exchanges it for one of a tool's server (RFC 8693) or for
//! an assertion that an authorization server of others takes (RFC 7523).
//! Each one that is signed and each refusal is an event; the token itself stands nowhere. Must never sign for whoever does
//! not prove a gateway's key, for a dispatch that does not run, or for more than was granted.

mod keys;
pub(crate) mod refusals;
#[cfg(test)]
mod tests;

pub use keys::{RETIRING_MS, RotateKeys};

use super::meta;
use crate::follow::read_or_note;
use crate::grants::Grants;
use crate::keys::KeyBook;
use custody_contracts::approval::ToolAwaiting;
use custody_contracts::canonical::derived_id;
use custody_contracts::envelope::Meta;
use custody_contracts::events::{DispatchAdmitted, DispatchEvent, EffectEvent, Kind, LedgerEvent, RunEvent};
use custody_contracts::grant::Grant;
use custody_contracts::ids::{DispatchId, UnixMillis};
use custody_contracts::messages::ErrorDoc;
use custody_contracts::token::{TokenIssued, TokenKeyState, TokenRefused, TokenType};
use custody_domain::approval::ApprovalState;
use custody_domain::effect::{Effect, EffectState};
use custody_domain::events::OfEffect;
use custody_domain::token::{
    Asked, Audiences, Behind, Given, Token, TokenAgain, TokenCommand, TokenNo, approved_call, assertion_claims,
    dispatch_claims, may_be_issued, tool_claims,
};
use custody_ledger::handle::fold;
use custody_ledger::{Command, Decider, Entity, Log, Outcome, Recorded, Sign, handle, handle_new};
use custody_ports::clock::Clock;
use custody_ports::token_keys::TokenKeyStore;
use custody_trust::issued::{Actor, Names, bound, mint, verify_actor, verify_dispatch};
use custody_trust::token::TokenRefused as Refused;
use refusals::Refusals;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The longest text of a request that a record repeats.
const SHOWN_BYTES_MAX: usize = 512;

/// Everything that the token service needs.
#[derive(Clone)]
pub struct TokenDesk {
    log: Arc<dyn Log>,
    signer: Arc<dyn Sign>,
    clock: Arc<dyn Clock>,
    grants: Grants,
    keys: KeyBook,
    store: Arc<dyn TokenKeyStore>,
    names: Names,
    audiences: Arc<Audiences>,
    refusals: Arc<Mutex<Refusals>>,
    /// Numbers the requests of this process.
    asked: Arc<AtomicU64>,
    /// Held for writing while keys change, because two rotations at once would make two active keys; for reading from the
    /// choice of a key to the record of what it signed.
    turning: Arc<tokio::sync::RwLock<()>>,
}

/// What the desk is made of.
pub struct TokenParts {
    /// The ledger.
    pub log: Arc<dyn Log>,
    /// Authority's key, which signs events.
    pub signer: Arc<dyn Sign>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Grants.
    pub grants: Grants,
    /// Keys.
    pub keys: KeyBook,
    /// The secret halves of the keys for tokens.
    pub store: Arc<dyn TokenKeyStore>,
    /// The installation's names.
    pub names: Names,
    /// The servers of tools that take tokens.
    pub audiences: Audiences,
}

/// `command.token.dispatch`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DispatchAsk {
    /// Who asks, and for which dispatch.
    pub actor_token: String,
    /// The one call that it is for, when that was approved: its dispatch may have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txn: Option<String>,
}

/// `command.token.exchange` and `command.token.assert`. Source: RFC 8693, section 2.1.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExchangeAsk {
    /// The dispatch token.
    pub subject_token: String,
    /// Who asks.
    pub actor_token: String,
    /// Where it is to be used.
    pub audience: String,
    /// What it is to allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The effect that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txn: Option<String>,
}

/// A refusal on its way: what is told and what is recorded.
struct No {
    code: String,
    detail: String,
    /// The record stands on the proof's own entity already.
    recorded: bool,
}

impl No {
    fn new(code: &str, detail: impl Into<String>) -> No {
        No { code: code.to_owned(), detail: detail.into(), recorded: false }
    }
}

impl From<Refused> for No {
    fn from(why: Refused) -> No {
        No::new(why.code(), why.to_string())
    }
}

impl From<TokenNo> for No {
    fn from(why: TokenNo) -> No {
        No::new(why.code, why.detail)
    }
}

/// A dispatch and the grant under it, both of which were looked at: it runs, or one call of it was approved.
struct Standing {
    admitted: DispatchAdmitted,
    grant: Grant,
    /// The approved call that it is about, and whether the dispatch runs is not asked.
    call: Option<ToolAwaiting>,
}

fn unavailable(error: &dyn std::fmt::Display) -> No {
    No { recorded: true, ..No::new("LEDGER_UNAVAILABLE", error.to_string()) }
}

impl TokenDesk {
    /// From its parts.
    pub fn new(parts: TokenParts) -> TokenDesk {
        let TokenParts { log, signer, clock, grants, keys, store, names, audiences } = parts;
        let (refusals, asked, turning) = (Arc::default(), Arc::default(), Arc::default());
        let audiences = Arc::new(audiences);
        TokenDesk { log, signer, clock, grants, keys, store, names, audiences, refusals, asked, turning }
    }

    /// The public halves of the keys whose tokens are good (RFC 7517).
    pub fn jwks(&self) -> Value {
        self.keys.with(|ring| ring.tokens().jwks())
    }

    /// Issuer and keys, for those who publish them.
    pub fn published(&self) -> Value {
        json!({ "issuer": self.names.sts(), "jwks": self.jwks() })
    }

    /// Signs a token for the dispatch that a gateway names in its proof.
    ///
    /// # Errors
    /// An error.v1 with the code of the refusal.
    pub async fn dispatch(&self, ask: DispatchAsk) -> Result<Value, ErrorDoc> {
        let _steady = (self.turning.read().await, self.grants.deciding().await);
        let proven = self.actor(&ask.actor_token);
        let issued = match &proven {
            Ok(actor) => self.for_dispatch(actor, ask.txn.as_deref()).await,
            Err(refused) => Err(No::from(refused.clone())),
        };
        self.told(issued, proven.ok().as_ref(), None).await
    }

    /// Exchanges a dispatch token for a tool token.
    ///
    /// # Errors
    /// An error.v1 with the code of the refusal.
    pub async fn exchange(&self, ask: ExchangeAsk) -> Result<Value, ErrorDoc> {
        self.exchange_for(TokenType::Tool, ask).await
    }

    /// Exchanges a dispatch token for an assertion. Asked for by a gateway alone: what it gets for it is a bearer token of
    /// others, which is never to leave it.
    ///
    /// # Errors
    /// An error.v1 with the code of the refusal.
    pub async fn assert(&self, ask: ExchangeAsk) -> Result<Value, ErrorDoc> {
        self.exchange_for(TokenType::Assertion, ask).await
    }

    async fn exchange_for(&self, typ: TokenType, ask: ExchangeAsk) -> Result<Value, ErrorDoc> {
        // Neither a rotation nor a revocation comes between the judgement and its record.
        let _steady = (self.turning.read().await, self.grants.deciding().await);
        let proven = self.actor(&ask.actor_token);
        let issued = match &proven {
            Ok(actor) => self.exchanged(typ, actor, &ask).await,
            Err(refused) => Err(No::from(refused.clone())),
        };
        self.told(issued, proven.ok().as_ref(), Some(&ask.audience)).await
    }

    fn actor(&self, token: &str) -> Result<Actor, Refused> {
        let now = self.clock.now().0 / 1_000;
        self.keys.with(|ring| verify_actor(ring, token, now))
    }

    async fn for_dispatch(&self, actor: &Actor, txn: Option<&str>) -> Result<Value, No> {
        let standing = self.standing(&actor.dispatch, txn).await?;
        let (jti, now) = (id_of(actor), self.clock.now());
        let given = Given { names: &self.names, jti: &jti, now };
        let only = standing.call.as_ref().map(|call| call.tool.as_str());
        let claims = dispatch_claims(&standing.admitted, &standing.grant, &actor.jkt, only, given)?;
        let (key, kid) = self.signing_key()?;
        let minted = mint(key.as_ref(), TokenType::Dispatch, &claims).map_err(|e| No::new("TOKEN_UNFIT", e.0))?;
        let issued = TokenIssued {
            jti,
            typ: TokenType::Dispatch,
            kid,
            dispatch: claims.dispatch_id,
            grant: claims.grant,
            aud: claims.aud,
            scope: claims.scope.clone(),
            claims_digest: minted.claims_digest,
            expires_at: UnixMillis(claims.exp * 1_000),
            actor: actor.kid.clone(),
            from: None,
            txn: txn.map(str::to_owned),
        };
        self.record(issued, &standing, None).await?;
        Ok(json!({ "token": minted.token, "expires_in": claims.exp - claims.iat, "scope": claims.scope }))
    }

    async fn exchanged(&self, typ: TokenType, actor: &Actor, ask: &ExchangeAsk) -> Result<Value, No> {
        let now = self.clock.now();
        let verified =
            self.keys.with(|ring| verify_dispatch(ring.tokens(), &ask.subject_token, &self.names, now.0 / 1_000))?;
        bound(&verified, &actor.dispatch, &actor.jkt)?;
        let from = self.issued(&verified.jti).await?;
        let standing = self.standing(&actor.dispatch, from.txn.as_deref()).await?;
        let jti = id_of(actor);
        let asked = Asked { audience: ask.audience.clone(), scope: ask.scope.clone(), txn: ask.txn.clone() };
        let given = Given { names: &self.names, jti: &jti, now };
        let (key, kid) = self.signing_key()?;
        let (minted, scope, life) = if typ == TokenType::Assertion {
            let claims = assertion_claims(&verified, &asked, &self.audiences, given)?;
            (mint(key.as_ref(), typ, &claims), asked.scope.unwrap_or_default(), (claims.iat, claims.exp))
        } else {
            let claims = tool_claims(&verified, &asked, &self.audiences, given)?;
            (mint(key.as_ref(), typ, &claims), claims.scope, (claims.iat, claims.exp))
        };
        let (minted, (iat, exp)) = (minted.map_err(|e| No::new("TOKEN_UNFIT", e.0))?, life);
        let issued = TokenIssued {
            jti,
            typ,
            kid,
            dispatch: verified.dispatch_id,
            grant: verified.grant,
            aud: asked.audience,
            scope: scope.clone(),
            claims_digest: minted.claims_digest,
            expires_at: UnixMillis(exp * 1_000),
            actor: actor.kid.clone(),
            from: Some(from.jti.clone()),
            txn: asked.txn,
        };
        self.record(issued, &standing, Some(&from)).await?;
        Ok(json!({ "token": minted.token, "expires_in": exp - iat, "scope": scope }))
    }

    /// The dispatch, when it was admitted under a grant that stands, was claimed, and has not ended; or when `txn` is a
    /// call of it that was approved and has not ended. Read from the leader.
    async fn standing(&self, dispatch: &str, txn: Option<&str>) -> Result<Standing, No> {
        let not = |what: &str| No::new("TOKEN_DISPATCH_NOT_RUNNING", format!("dispatch {dispatch} {what}"));
        let decided = self.history(Kind::Dispatch, dispatch).await?;
        let admitted = decided.into_iter().find_map(|one| match one.event {
            Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(admitted))) => Some(*admitted),
            _ => None,
        });
        let admitted = admitted.ok_or_else(|| not("was not admitted"))?;
        let call = match txn {
            Some(txn) => Some(self.approved(dispatch, txn).await?),
            None => None,
        };
        let (mut claimed, mut finished) = (false, false);
        for one in self.history(Kind::Run, dispatch).await? {
            claimed |= matches!(one.event, Some(LedgerEvent::Run(RunEvent::Claimed(_))));
            finished |= matches!(one.event, Some(LedgerEvent::Run(RunEvent::Finished(_))));
        }
        if call.is_none() && (!claimed || finished) {
            return Err(not(if finished { "has ended" } else { "was not claimed" }));
        }
        let stands = self.grants.stands(&admitted, self.clock.now());
        stands.map_err(|short| No::new(short.code, short.detail))?;
        let grant = admitted.grant.id().and_then(|id| self.grants.get(id.as_str()));
        let grant = grant.ok_or_else(|| No::new("GRANT_MISSING", "the dispatch was admitted without a grant"))?;
        Ok(Standing { grant: grant.grant.clone(), admitted, call })
    }

    /// A call of a dispatch that waited, that a person approved, and that has not ended. Read from the leader.
    async fn approved(&self, dispatch: &str, txn: &str) -> Result<ToolAwaiting, No> {
        let (mut effect, mut awaiting) = (EffectState::default(), None);
        for one in self.history(Kind::Effect, txn).await? {
            let Some(LedgerEvent::Effect(event)) = one.event else { continue };
            if let EffectEvent::ToolAwaiting(waits) = &event {
                awaiting = Some((**waits).clone());
            }
            effect = Effect::evolve(effect, &OfEffect(event));
        }
        let mut approval = ApprovalState::default();
        for one in self.history(Kind::Approval, txn).await? {
            if let Some(LedgerEvent::Approval(event)) = &one.event {
                approval = approval.after(event);
            }
        }
        let found = approved_call(awaiting.as_ref(), &effect, &approval);
        let found = found.filter(|waits| waits.dispatch.as_str() == dispatch && waits.card() == txn);
        found.cloned().ok_or_else(|| No::new("TOKEN_CALL", "no call of this dispatch that is approved waits under txn"))
    }

    async fn history(&self, kind: Kind, id: &str) -> Result<Vec<Recorded>, No> {
        let Some(entity) = Entity::new(kind, id) else { return Ok(Vec::new()) };
        let stored = self.log.load(&entity).await.map_err(|e| unavailable(&e))?;
        Ok(stored.iter().flat_map(read_or_note).collect())
    }

    /// What the ledger says of a token that was issued. Read from the leader.
    async fn issued(&self, jti: &str) -> Result<TokenIssued, No> {
        let unknown = || No::new("TOKEN_UNKNOWN", "the ledger does not say that this token was issued");
        let entity = Entity::new(Kind::Token, jti).ok_or_else(unknown)?;
        let history = self.log.load(&entity).await.map_err(|e| unavailable(&e))?;
        let state = fold::<Token>(&entity, &history).map_err(|e| unavailable(&e))?;
        state.issued().cloned().ok_or_else(unknown)
    }

    /// The newest active key whose secret half is here.
    fn signing_key(&self) -> Result<(Arc<dyn Sign>, String), No> {
        let active = self.keys.with(|ring| -> Vec<String> {
            ring.tokens().of(TokenKeyState::Active).into_iter().map(str::to_owned).collect()
        });
        for kid in active {
            match self.store.open(&kid) {
                Ok(Some(key)) => return Ok((key, kid)),
                Ok(None) => {}
                Err(error) => return Err(No::new("TOKEN_KEY_MISSING", error.to_string())),
            }
        }
        Err(No::new("TOKEN_KEY_MISSING", "no active key for tokens is held here"))
    }

    /// Writes down that a token was signed; only then may it be given out.
    async fn record(&self, issued: TokenIssued, standing: &Standing, from: Option<&TokenIssued>) -> Result<(), No> {
        let admitted = &standing.admitted;
        let behind = Behind {
            admitted: Some(admitted),
            running: standing.call.is_none(),
            grant_ends: Some(standing.grant.ends()),
            key: self.keys.with(|ring| ring.tokens().get(&issued.kid).map(|key| key.state)),
            from,
            approved: standing.call.as_ref(),
            now: self.clock.now(),
        };
        may_be_issued(&issued, behind)?;
        let Some(entity) = Entity::new(Kind::Token, &issued.jti) else {
            return Err(No::new("TOKEN_UNFIT", "its id is no entity's"));
        };
        let meta = Meta {
            subject: Some(admitted.unit.identity.subject.to_string()),
            launcher: Some(admitted.launch.launcher.to_string()),
            grant: Some(issued.grant.to_string()),
            ..meta(self.clock.now(), admitted.dispatch.as_str())
        };
        // Each request is a command of its own: one that finds another's record finds a proof that was taken.
        let number = self.asked.fetch_add(1, Ordering::SeqCst).to_be_bytes();
        let now = self.clock.now().0.to_be_bytes();
        let id = derived_id("tc-", &[issued.jti.as_bytes(), issued.claims_digest.as_bytes(), &now, &number]);
        let body = TokenCommand::Issue(Box::new(issued));
        let command = Command { id, entity, meta, body };
        match handle_new::<Token>(self.log.as_ref(), self.signer.as_ref(), command).await {
            // Already there is this very request's, whose answer was lost.
            Ok(Outcome::Appended(_) | Outcome::AlreadyThere(_)) => Ok(()),
            Ok(Outcome::Nothing | Outcome::Refused(TokenAgain::Replayed)) => Err(Refused::Replayed.into()),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// The answer; a refusal is written down first.
    async fn told(
        &self,
        issued: Result<Value, No>,
        actor: Option<&Actor>,
        audience: Option<&str>,
    ) -> Result<Value, ErrorDoc> {
        let no = match issued {
            Ok(value) => return Ok(value),
            Err(no) => no,
        };
        if !no.recorded {
            self.record_refusal(&no, actor, audience).await;
        }
        Err(ErrorDoc::new(
            &no.code,
            no.detail,
            Some("custody key ls shows the keys; custody tail shows every refusal".into()),
        ))
    }

    async fn record_refusal(&self, no: &No, actor: Option<&Actor>, audience: Option<&str>) {
        let now = self.clock.now();
        let due = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).take(now);
        let Some((count, number)) = due else { return };
        let who = actor.map_or("", |actor| actor.jti.as_str());
        let id = derived_id("tr-", &[who.as_bytes(), no.code.as_bytes(), &now.0.to_be_bytes(), &number.to_be_bytes()]);
        let fits =
            |text: &&str| !text.is_empty() && text.len() <= SHOWN_BYTES_MAX && !text.contains([' ', '\t', '\r', '\n']);
        let refused = TokenRefused {
            id: id.clone(),
            dispatch: actor.and_then(|actor| DispatchId::parse(&actor.dispatch).ok()),
            aud: audience.filter(fits).map(str::to_owned),
            reason: no.code.clone(),
            detail: no.detail.chars().take(SHOWN_BYTES_MAX).collect(),
            actor: actor.map(|actor| actor.kid.clone()),
            count,
        };
        let Some(entity) = Entity::new(Kind::Token, &id) else { return };
        let meta = meta(now, refused.dispatch.as_ref().map_or(id.as_str(), |d| d.as_str()));
        let command = Command { id, entity, meta, body: TokenCommand::Refuse(refused) };
        if let Err(error) = handle::<Token>(self.log.as_ref(), self.signer.as_ref(), command).await {
            tracing::warn!(%error, code = no.code, "a refused token was not recorded");
        }
    }
}

/// The id of the token that a proof makes: a function of the proof, so that it makes one.
fn id_of(actor: &Actor) -> String {
    derived_id("tk-", &[actor.kid.as_bytes(), actor.jti.as_bytes()])
}
