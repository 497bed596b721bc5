//! The keys that sign tokens: made, brought into use, taken out of it. One signs, one is published to be the next, and one
//! that was replaced stays published until the last of its tokens has ended. Must never sign with a key that the ledger
//! does not call active, and never keep the secret half of a retired one.

use super::TokenDesk;
use crate::authority::meta;
use custody_contracts::canonical::derived_id;
use custody_contracts::events::{Kind, Role};
use custody_contracts::ids::UnixMillis;
use custody_contracts::messages::ErrorDoc;
use custody_contracts::token::{TokenKeyChanged, TokenKeyState};
use custody_domain::key::{Key, KeyCommand};
use custody_ledger::{Command, Entity, Outcome, handle};
use custody_trust::issued::DISPATCH_LIFE_SECS_MAX;
use custody_trust::token::SKEW_SECS;
use custody_trust::token_keys::TokenKeys;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// From the moment a key signs no more to the end of the last token that it signed, clocks apart as they may be.
pub const RETIRING_MS: u64 = (DISPATCH_LIFE_SECS_MAX + 2 * SKEW_SECS) * 1_000;
/// The longest that the reactor sleeps when nothing is known to end.
const LOOK_MAX: Duration = Duration::from_secs(60);
/// The longest reason. Source: contract ledger.v2, `TokenKeyChanged`.
const WHY_CHARS_MAX: usize = 2_048;
/// Between two tries to retire a key.
const RETRY: Duration = Duration::from_secs(1);

/// `command.key.rotate`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateKeys {
    /// Who asks.
    pub by: String,
    /// Why.
    pub why: String,
    /// The old keys are retired now: what they signed is refused from here on.
    #[serde(default)]
    pub at_once: bool,
}

/// The keys whose last token has ended by now, and when the next one will have.
fn due(keys: &TokenKeys, now: UnixMillis) -> (Vec<String>, Option<UnixMillis>) {
    let (mut over, mut next) = (Vec::new(), None::<UnixMillis>);
    for (kid, key) in keys.iter().filter(|(_, key)| key.state == TokenKeyState::Retiring) {
        let end = UnixMillis(key.since.0.saturating_add(RETIRING_MS));
        if end <= now {
            over.push(kid.to_owned());
        } else {
            next = Some(next.map_or(end, |next| next.min(end)));
        }
    }
    (over, next)
}

impl TokenDesk {
    /// Sees to it that one key signs and one is to be the next. Before anybody asks; safe to call again.
    ///
    /// # Errors
    /// An error.v1 when a key cannot be kept or written down.
    pub async fn prepare_keys(&self) -> Result<(), ErrorDoc> {
        let _alone = self.turning.write().await;
        let why = "the first keys of this installation";
        if self.held(TokenKeyState::Active)?.is_none() {
            let first = self.next("authority", why).await?;
            self.turn(&first, TokenKeyState::Active, "authority", why).await?;
        }
        self.next("authority", why).await?;
        // What a death in the middle of a rotation left: two that sign, or the secret half of one that is over.
        let of = |state| self.keys.with(|ring| owned(ring.tokens().of(state)));
        for kid in of(TokenKeyState::Active).into_iter().skip(1) {
            if self.store.open(&kid).map_err(unkept)?.is_some() {
                self.turn(&kid, TokenKeyState::Retiring, "authority", "another one signs").await?;
            }
        }
        for kid in of(TokenKeyState::Retired) {
            self.store.forget(&kid).map_err(unkept)?;
        }
        Ok(())
    }

    /// The next key signs from here on, and the one that signed is retiring. At once: a new key signs, and all others are
    /// retired; the next one too, because it lay beside those that somebody may have read.
    ///
    /// # Errors
    /// An error.v1 when a key cannot be kept or written down.
    pub async fn rotate_keys(&self, ask: RotateKeys) -> Result<Value, ErrorDoc> {
        let RotateKeys { by, why, at_once } = ask;
        if why.chars().count() > WHY_CHARS_MAX {
            let what = format!("why has at most {WHY_CHARS_MAX} characters");
            return Err(ErrorDoc::new("COMMAND_INVALID", what, None));
        }
        let _alone = self.turning.write().await;
        let of = |state| self.keys.with(|ring| owned(ring.tokens().of(state)));
        let mut over = of(TokenKeyState::Active);
        let (next, end) = if at_once {
            over.extend(of(TokenKeyState::Retiring));
            over.extend(of(TokenKeyState::Next));
            (self.made(&by, &why).await?, TokenKeyState::Retired)
        } else {
            (self.next(&by, &why).await?, TokenKeyState::Retiring)
        };
        // First the new one: at no moment is there none that signs.
        self.turn(&next, TokenKeyState::Active, &by, &why).await?;
        for kid in &over {
            self.turn(kid, end, &by, &why).await?;
        }
        let after = self.next(&by, &why).await?;
        Ok(json!({ "active": next, "next": after, end.as_str(): over }))
    }

    /// Every key, of roles and for tokens.
    pub fn list_keys(&self) -> Value {
        self.keys.with(|ring| {
            let roles = ring.keys().map(|(kid, role)| {
                let state = if ring.retired_at(kid).is_some() { "retired" } else { "active" };
                json!({ "kid": kid, "signs": role.as_str(), "state": state })
            });
            let tokens = ring.tokens().iter().map(|(kid, key)| {
                json!({ "kid": kid, "signs": "tokens", "state": key.state.as_str(), "since": key.since.rfc3339() })
            });
            Value::Array(roles.chain(tokens).collect())
        })
    }

    /// Retires keys whose last token has ended, until cancelled.
    pub async fn retire_ended(self, cancel: CancellationToken) {
        let mut changed = self.keys.changes();
        loop {
            changed.mark_unchanged();
            let now = self.clock.now();
            let (over, next) = self.keys.with(|ring| due(ring.tokens(), now));
            let mut failed = false;
            for kid in over {
                let why = "the last of its tokens has ended";
                if let Err(error) = self.turn(&kid, TokenKeyState::Retired, Role::Authority.as_str(), why).await {
                    tracing::warn!(kid, error = error.message, "key not retired; trying again");
                    failed = true;
                }
            }
            let wait = match (failed, next) {
                (true, _) => RETRY,
                (false, Some(UnixMillis(at))) => Duration::from_millis(at.saturating_sub(now.0)).min(LOOK_MAX),
                (false, None) => LOOK_MAX,
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                result = changed.changed() => if result.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// The newest key of a state whose secret half is here.
    fn held(&self, state: TokenKeyState) -> Result<Option<String>, ErrorDoc> {
        for kid in self.keys.with(|ring| owned(ring.tokens().of(state))) {
            if self.store.open(&kid).map_err(unkept)?.is_some() {
                return Ok(Some(kid));
            }
        }
        Ok(None)
    }

    /// The key that is published to be the next one; made when there is none.
    async fn next(&self, by: &str, why: &str) -> Result<String, ErrorDoc> {
        match self.held(TokenKeyState::Next)? {
            Some(kid) => Ok(kid),
            None => self.made(by, why).await,
        }
    }

    /// A new key, published.
    async fn made(&self, by: &str, why: &str) -> Result<String, ErrorDoc> {
        let made = self.store.make().map_err(unkept)?;
        let (kid, public_key) = (made.kid, made.public_key);
        let changed = TokenKeyChanged {
            kid: kid.clone(),
            state: TokenKeyState::Next,
            public_key,
            by: by.to_owned(),
            why: why.to_owned(),
        };
        self.append(changed).await?;
        Ok(kid)
    }

    async fn turn(&self, kid: &str, state: TokenKeyState, by: &str, why: &str) -> Result<(), ErrorDoc> {
        let public = self.keys.with(|ring| ring.tokens().get(kid).map(|key| *key.key.as_bytes()));
        let Some(public) = public else {
            return Err(ErrorDoc::new("KEY_UNKNOWN", format!("there is no key {kid}"), Some("custody key ls".into())));
        };
        let public_key = custody_contracts::canonical::hex(&public);
        let (by, why) = (by.to_owned(), why.to_owned());
        self.append(TokenKeyChanged { kid: kid.to_owned(), state, public_key, by, why }).await?;
        if state == TokenKeyState::Retired {
            self.store.forget(kid).map_err(unkept)?;
        }
        Ok(())
    }

    async fn append(&self, changed: TokenKeyChanged) -> Result<(), ErrorDoc> {
        let kid = changed.kid.clone();
        let entity = Entity::new(Kind::Key, &kid)
            .ok_or_else(|| ErrorDoc::new("COMMAND_INVALID", format!("{kid:?} is not an id"), None))?;
        let id = derived_id("key-", &[kid.as_bytes(), changed.state.as_str().as_bytes()]);
        let meta = meta(self.clock.now(), &kid);
        let command = Command { id, entity: entity.clone(), meta, body: KeyCommand::Turn(changed) };
        let unavailable = |error: &dyn std::fmt::Display| {
            ErrorDoc::new("LEDGER_UNAVAILABLE", error.to_string(), Some("custody doctor".into()))
        };
        match handle::<Key>(self.log.as_ref(), self.signer.as_ref(), command).await {
            Ok(Outcome::Refused(no)) => {
                return Err(ErrorDoc::new("KEY_REFUSED", no.to_string(), Some("custody key ls".into())));
            }
            Ok(Outcome::Appended(_) | Outcome::AlreadyThere(_) | Outcome::Nothing) => {}
            Err(error) => return Err(unavailable(&error)),
        }
        // Known here before it comes round: the next token is signed by it.
        for stored in self.log.load(&entity).await.map_err(|e| unavailable(&e))? {
            self.keys.take_in(&stored);
        }
        Ok(())
    }
}

fn owned(kids: Vec<&str>) -> Vec<String> {
    kids.into_iter().map(str::to_owned).collect()
}

fn unkept(error: custody_ports::token_keys::TokenKeyError) -> ErrorDoc {
    ErrorDoc::new("KEY_UNKEPT", error.to_string(), Some("the state folder must be writable: custody doctor".into()))
}
