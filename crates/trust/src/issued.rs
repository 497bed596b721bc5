//! Tokens that the token service issues: of a dispatch to its gateway, of a call to a tool's server or to an authorization
//! server of others (contract token.v1).
//! Verified against keys that sign nothing else. Stricter than [`crate::token`]: header and claims must be the canonical
//! bytes, so that what is there twice, or in another order, is refused. Must never let a token choose how it is verified.

use crate::key::thumbprint;
use crate::keyring::Keyring;
use crate::token::{ACTOR, Claims, Header, TokenRefused, raw, seal, times, verify};
use crate::token_keys::TokenKeys;
use custody_contracts::canonical::{canonical, digest};
use custody_contracts::catalogue;
use custody_contracts::token::{DispatchClaims, TokenKeyState, TokenType, ToolClaims};
use custody_ledger::Sign;
use ed25519_dalek::Signature;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The longest life of a dispatch token in seconds. Source: contract token.v1.
pub const DISPATCH_LIFE_SECS_MAX: u64 = 900;
/// The longest life of a tool token and of an assertion in seconds. Source: contract token.v1.
pub const TOOL_LIFE_SECS_MAX: u64 = 120;
/// The longest issued token in bytes: claims at their contract's maxima are larger, and are refused when they are made.
pub const ISSUED_BYTES_MAX: usize = 16_384;

/// The names of an installation in its tokens, from its base, for example `https://custody.local`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    base: String,
    host: String,
}

impl Names {
    /// Of a base without a slash at its end.
    pub fn of(base: &str) -> Names {
        let rest = base.split_once("://").map_or(base, |(_, rest)| rest);
        let host = rest.split(['/', ':']).next().unwrap_or_default().to_ascii_lowercase();
        Names { base: base.to_owned(), host }
    }

    /// Who issues dispatch tokens.
    pub fn identity(&self) -> String {
        [&self.base, "/identity"].concat()
    }

    /// Who issues tool tokens and assertions.
    pub fn sts(&self) -> String {
        [&self.base, "/sts"].concat()
    }

    /// For whom dispatch tokens are.
    pub fn gateway(&self) -> String {
        [&self.base, "/gateway"].concat()
    }

    /// The host alone: the trust domain of this installation's own authority.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The gateway as an actor.
    pub fn gateway_actor(&self) -> String {
        ["spiffe://", &self.host, "/gateway"].concat()
    }

    /// A dispatch as an actor.
    pub fn dispatch_actor(&self, dispatch: &str) -> String {
        ["spiffe://", &self.host, "/dispatch/", dispatch].concat()
    }
}

/// A signed token and the digest of its canonical claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Minted {
    /// The compact form. A secret.
    pub token: String,
    /// What the ledger holds of it.
    pub claims_digest: String,
}

/// Why claims cannot become a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(pub String);

/// Signs claims that keep their contract.
///
/// # Errors
/// [`Unfit`] for claims that do not, or whose token would be longer than [`ISSUED_BYTES_MAX`].
pub fn mint(key: &dyn Sign, typ: TokenType, claims: &impl Serialize) -> Result<Minted, Unfit> {
    let value = serde_json::to_value(claims).map_err(|e| Unfit(e.to_string()))?;
    catalogue::check("token.v1", shape(typ), &value).map_err(|e| Unfit(e.to_string()))?;
    let token = seal(key, typ.as_str(), &value);
    if token.len() > ISSUED_BYTES_MAX {
        return Err(Unfit(format!("the token would have {} bytes, {ISSUED_BYTES_MAX} are the most", token.len())));
    }
    Ok(Minted { token, claims_digest: digest(canonical(&value).as_bytes()) })
}

fn shape(typ: TokenType) -> &'static str {
    match typ {
        TokenType::Dispatch => "DispatchClaims",
        TokenType::Tool => "ToolClaims",
        TokenType::Assertion => "AssertionClaims",
    }
}

/// Checks a dispatch token at one moment, in seconds since the epoch. Who presents it is asked in [`bound`].
///
/// # Errors
/// [`TokenRefused`] with the first thing that is wrong.
pub fn verify_dispatch(keys: &TokenKeys, token: &str, names: &Names, now: u64) -> Result<DispatchClaims, TokenRefused> {
    let claims: DispatchClaims = open(keys, token, TokenType::Dispatch)?;
    if claims.iss != names.identity() {
        return Err(TokenRefused::Issuer("the identity service of this installation"));
    }
    if claims.aud != names.gateway() {
        return Err(TokenRefused::Audience("the gateway of this installation"));
    }
    times(claims.iat, claims.nbf, claims.exp, DISPATCH_LIFE_SECS_MAX, now)?;
    let act = &claims.act;
    if act.sub != names.dispatch_actor(claims.dispatch_id.as_str()) || act.act.sub != claims.launcher {
        return Err(TokenRefused::Actor);
    }
    Ok(claims)
}

/// Checks a tool token at one moment, for one audience, as the server of a tool does it: with the keys of the JWKS, the
/// installation's base, and its own resource URI.
///
/// # Errors
/// [`TokenRefused`] with the first thing that is wrong.
pub fn verify_tool(
    keys: &TokenKeys,
    token: &str,
    names: &Names,
    audience: &str,
    now: u64,
) -> Result<ToolClaims, TokenRefused> {
    let claims: ToolClaims = open(keys, token, TokenType::Tool)?;
    if claims.iss != names.sts() {
        return Err(TokenRefused::Issuer("the token service of that installation"));
    }
    if claims.aud != audience {
        return Err(TokenRefused::Audience("this server"));
    }
    times(claims.iat, claims.nbf, claims.exp, TOOL_LIFE_SECS_MAX, now)?;
    let (gateway, dispatch) = (&claims.act, &claims.act.act);
    let chain = gateway.sub == names.gateway_actor()
        && claims.client_id == gateway.sub
        && dispatch.sub == names.dispatch_actor(claims.dispatch_id.as_str())
        && dispatch.act.sub == claims.launcher;
    if !chain {
        return Err(TokenRefused::Actor);
    }
    Ok(claims)
}

/// Who asks the token service, proven by a token of the kind [`ACTOR`] that is good for a minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The key that signed.
    pub kid: String,
    /// Its thumbprint.
    pub jkt: String,
    /// The dispatch that it asks for.
    pub dispatch: String,
    /// The proof's id, to be taken once.
    pub jti: String,
}

/// Checks the proof of whoever asks: signed by an active key of the gateway role.
///
/// # Errors
/// [`TokenRefused`] with the first thing that is wrong.
pub fn verify_actor(ring: &Keyring, token: &str, now: u64) -> Result<Actor, TokenRefused> {
    let Claims { sub, jti, .. } = verify(ring, token, &ACTOR, now)?;
    let (header, _) = token.split_once('.').ok_or(TokenRefused::Malformed)?;
    let header: Header = serde_json::from_slice(&raw(header)?).map_err(|_| TokenRefused::Malformed)?;
    let key = ring.key(&header.kid).ok_or(TokenRefused::Key)?;
    Ok(Actor { jkt: thumbprint(key.as_bytes()), kid: header.kid, dispatch: sub, jti })
}

/// Whether a dispatch token may be presented by this actor, for this dispatch.
///
/// # Errors
/// [`TokenRefused::Binding`] when it is another key's, [`TokenRefused::Dispatch`] when it is another dispatch's.
pub fn bound(claims: &DispatchClaims, dispatch: &str, jkt: &str) -> Result<(), TokenRefused> {
    if claims.cnf.jkt != jkt {
        return Err(TokenRefused::Binding);
    }
    if claims.dispatch_id.as_str() != dispatch {
        return Err(TokenRefused::Dispatch);
    }
    Ok(())
}

/// Form, algorithm, type, key, signature and shape of an issued token; nothing of what it says.
fn open<T: DeserializeOwned>(keys: &TokenKeys, token: &str, typ: TokenType) -> Result<T, TokenRefused> {
    if token.len() > ISSUED_BYTES_MAX {
        return Err(TokenRefused::Malformed);
    }
    let parts: Vec<&str> = token.split('.').collect();
    let [header, body, signature] = parts.as_slice() else { return Err(TokenRefused::Malformed) };
    let head: Value = exact(header, |head| match head["alg"].as_str() {
        Some("EdDSA") => Ok(()),
        // Before the strict shape, so that a foreign algorithm is called by its name.
        _ => Err(TokenRefused::Algorithm),
    })?;
    let head: Header = serde_json::from_value(head).map_err(|_| TokenRefused::Malformed)?;
    if head.typ != typ.as_str() {
        return Err(TokenRefused::Type(typ.as_str()));
    }
    let known = keys.get(&head.kid).ok_or(TokenRefused::Key)?;
    if known.state == TokenKeyState::Retired {
        return Err(TokenRefused::KeyRetired);
    }
    let signature = <[u8; 64]>::try_from(raw(signature)?).map_err(|_| TokenRefused::Signature)?;
    let signed = [*header, *body].join(".");
    if known.key.verify_strict(signed.as_bytes(), &Signature::from_bytes(&signature)).is_err() {
        return Err(TokenRefused::Signature);
    }
    let claims = exact(body, |_| Ok(()))?;
    catalogue::check("token.v1", shape(typ), &claims).map_err(|_| TokenRefused::Malformed)?;
    serde_json::from_value(claims).map_err(|_| TokenRefused::Malformed)
}

/// JSON out of one part, whose bytes must be the canonical ones. `first` looks at it before that.
fn exact(part: &str, first: impl Fn(&Value) -> Result<(), TokenRefused>) -> Result<Value, TokenRefused> {
    let bytes = raw(part)?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| TokenRefused::Malformed)?;
    first(&value)?;
    if canonical(&value).as_bytes() != bytes { Err(TokenRefused::NotCanonical) } else { Ok(value) }
}
