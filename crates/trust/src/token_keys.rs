//! The keys that sign tokens, as the ledger says it or as a JWKS does (RFC 7517, RFC 8037), and how far each has come.
//! Must never hold a secret half, and never take a retired key for a good one.

use crate::key::{parse_public, token_kid};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use custody_contracts::ids::UnixMillis;
use custody_contracts::token::{TokenKeyChanged, TokenKeyState};
use ed25519_dalek::VerifyingKey;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The most keys that are read out of a JWKS.
pub const JWKS_KEYS_MAX: usize = 64;

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// How far it has come.
    pub state: TokenKeyState,
    /// Its public half.
    pub key: VerifyingKey,
    /// When it came into this state.
    pub since: UnixMillis,
}

/// Keys by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenKeys(BTreeMap<String, TokenKey>);

impl TokenKeys {
    /// Takes in one change. A public half never changes, and no state goes back, whatever is written.
    pub fn take_in(&mut self, changed: &TokenKeyChanged, at: UnixMillis) {
        let Some(key) = parse_public(&changed.public_key).filter(|key| token_kid(key) == changed.kid) else { return };
        let new = TokenKey { state: changed.state, key, since: at };
        match self.0.get_mut(&changed.kid) {
            Some(known) if known.state < new.state => *known = new,
            Some(_) => {}
            None => {
                self.0.insert(changed.kid.clone(), new);
            }
        }
    }

    /// A key by its id, retired ones too.
    pub fn get(&self, kid: &str) -> Option<&TokenKey> {
        self.0.get(kid)
    }

    /// All of them, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TokenKey)> {
        self.0.iter().map(|(kid, key)| (kid.as_str(), key))
    }

    /// The keys of one state, the one that came into it last first.
    pub fn of(&self, state: TokenKeyState) -> Vec<&str> {
        let mut found: Vec<_> = self.iter().filter(|(_, key)| key.state == state).collect();
        found.sort_by(|a, b| b.1.since.cmp(&a.1.since).then_with(|| a.0.cmp(b.0)));
        found.into_iter().map(|(kid, _)| kid).collect()
    }

    /// The JSON Web Key Set: what signs, what will, and what did and whose tokens may not have ended. No retired key.
    pub fn jwks(&self) -> Value {
        let order = [TokenKeyState::Active, TokenKeyState::Next, TokenKeyState::Retiring];
        let keys: Vec<Value> = order
            .into_iter()
            .flat_map(|state| self.of(state))
            .filter_map(|kid| {
                let x = B64.encode(self.0.get(kid)?.key.as_bytes());
                Some(json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid, "x": x }))
            })
            .collect();
        json!({ "keys": keys })
    }

    /// The keys of a JWKS, as somebody has it who has no ledger: every one of them counts as active. Keys of another kind
    /// are left out (RFC 7517, 5); of the first [`JWKS_KEYS_MAX`] only.
    pub fn from_jwks(set: &Value) -> TokenKeys {
        let keys = set["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
        let read = |one: &Value| {
            let is = |name: &str, text: &str| one[name].as_str() == Some(text);
            let ours = is("kty", "OKP") && is("crv", "Ed25519") && (one["alg"].is_null() || is("alg", "EdDSA"));
            let x = B64.decode(one["x"].as_str().filter(|_| ours)?).ok()?;
            let key = VerifyingKey::from_bytes(&<[u8; 32]>::try_from(x).ok()?).ok()?;
            let entry = TokenKey { state: TokenKeyState::Active, key, since: UnixMillis(0) };
            Some((one["kid"].as_str()?.to_owned(), entry))
        };
        TokenKeys(keys.iter().take(JWKS_KEYS_MAX).filter_map(read).collect())
    }
}
