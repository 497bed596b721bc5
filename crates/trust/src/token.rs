//! Short-lived tokens for one audience: compact JWS with Ed25519 (RFC 7515, 8037), signed by authority, verified against
//! the keyring that the ledger is. Strict on purpose: one algorithm, one type, one audience as one string, no unknown
//! member, no key that the token itself brings. Must never let a token choose how it is verified.

use crate::keyring::Keyring;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use custody_contracts::canonical::{canonical, unhex};
use custody_contracts::events::Role;
use custody_contracts::ids::Subject;
use custody_ledger::Sign;
use ed25519_dalek::Signature;
use serde::{Deserialize, Serialize};

/// One kind of token: its type (RFC 8725, section 3.11), who signs it, for whom, and for how long at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenKind {
    /// `typ` of the header.
    pub typ: &'static str,
    /// `iss`.
    pub issuer: &'static str,
    /// The role whose key signs.
    pub role: Role,
    /// The one audience.
    pub audience: &'static str,
    /// The longest life in seconds.
    pub life_secs_max: u64,
}

/// For the runtime's HTTP face, signed by authority; `sub` is a person.
pub const RUNTIME: TokenKind = TokenKind {
    typ: "runtime+jwt",
    issuer: "custody/authority",
    role: Role::Authority,
    audience: "custody/runtime",
    life_secs_max: 900,
};

/// For the link of one box in a cluster to its gateway, signed by the runtime that made the box; `sub` is the dispatch.
/// It lives as long as its box may.
pub const LINK: TokenKind = TokenKind {
    typ: "link+jwt",
    issuer: "custody/runtime",
    role: Role::Runtime,
    audience: "custody/gateway",
    life_secs_max: 8 * 86_400,
};

/// A gateway's proof that it asks the token service, for one dispatch, which is `sub`. Good for a minute, taken once.
pub const ACTOR: TokenKind = TokenKind {
    typ: "actor+jwt",
    issuer: "custody/gateway",
    role: Role::Gateway,
    audience: "custody/sts",
    life_secs_max: 60,
};

/// How far two clocks may be apart, in seconds.
pub const SKEW_SECS: u64 = 5;
/// The longest token in bytes.
pub const TOKEN_BYTES_MAX: usize = 4_096;

/// What a token may be used for at the runtime's face.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Look at workloads.
    Read,
    /// Start, stop and delete them.
    Write,
}

impl Scope {
    /// Its word in `scope`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "workloads:read",
            Scope::Write => "workloads:write",
        }
    }
}

/// The claims of a runtime token. Source: RFC 7519; `aud` is one string, never a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Who signed.
    pub iss: String,
    /// Whom it is about: a person, or a dispatch.
    pub sub: String,
    /// The one audience.
    pub aud: String,
    /// Space-separated words of [`Scope`].
    pub scope: String,
    /// Unique.
    pub jti: String,
    /// Seconds since the epoch: issued.
    pub iat: u64,
    /// Not before.
    pub nbf: u64,
    /// Not after.
    pub exp: u64,
}

impl Claims {
    /// Whether it may be used for this.
    pub fn may(&self, scope: Scope) -> bool {
        self.scope.split(' ').any(|word| word == scope.as_str())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    #[serde(rename = "alg")]
    _alg: String,
    pub(crate) kid: String,
    pub(crate) typ: String,
}

/// Why a token is refused. [`TokenRefused::code`] is stable; none of them repeats the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    /// It is not three parts of base64url with the JSON that belongs there.
    #[error("it is not a compact JWS with exactly the members that are expected")]
    Malformed,
    /// Another algorithm, `none` among them.
    #[error("its algorithm is not EdDSA")]
    Algorithm,
    /// A token of another kind.
    #[error("its type is not {0}")]
    Type(&'static str),
    /// A key that the ledger does not know, or that was retired, or that is another role's.
    #[error("its key is not an active key of the role that signs such tokens")]
    Key,
    /// The signature is not good for these bytes.
    #[error("its signature is not good")]
    Signature,
    /// Another issuer.
    #[error("its issuer is not {0}")]
    Issuer(&'static str),
    /// It was made for somebody else.
    #[error("its audience is not {0}")]
    Audience(&'static str),
    /// Its end is past.
    #[error("it has expired")]
    Expired,
    /// Its beginning is ahead.
    #[error("it is not valid yet")]
    NotYet,
    /// It would live longer than any token may.
    #[error("it lives longer than {0} s, or ends before it begins")]
    Life(u64),
    /// Its subject is no id.
    #[error("its subject is not an id")]
    Subject,
    /// Its bytes are not the canonical ones: a member stands there twice, or in another order, or with a space.
    #[error("its JSON is not canonical")]
    NotCanonical,
    /// The key that signed it was retired.
    #[error("the key that signed it was retired")]
    KeyRetired,
    /// Its chain of actors is not the one of its dispatch.
    #[error("its actors are not those of its dispatch")]
    Actor,
    /// It was made for another key.
    #[error("it may be presented by another key only")]
    Binding,
    /// It is another dispatch's.
    #[error("it is another dispatch's")]
    Dispatch,
    /// What may be taken once was taken before.
    #[error("it was used before")]
    Replayed,
}

impl TokenRefused {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            TokenRefused::Malformed => "TOKEN_MALFORMED",
            TokenRefused::Algorithm => "TOKEN_ALGORITHM",
            TokenRefused::Type(_) => "TOKEN_TYPE",
            TokenRefused::Key => "TOKEN_KEY",
            TokenRefused::Signature => "TOKEN_SIGNATURE",
            TokenRefused::Issuer(_) => "TOKEN_ISSUER",
            TokenRefused::Audience(_) => "TOKEN_AUDIENCE",
            TokenRefused::Expired => "TOKEN_EXPIRED",
            TokenRefused::NotYet => "TOKEN_NOT_YET",
            TokenRefused::Life(_) => "TOKEN_LIFE",
            TokenRefused::Subject => "TOKEN_SUBJECT",
            TokenRefused::NotCanonical => "TOKEN_NOT_CANONICAL",
            TokenRefused::KeyRetired => "TOKEN_KEY_RETIRED",
            TokenRefused::Actor => "TOKEN_ACTOR",
            TokenRefused::Binding => "TOKEN_BINDING",
            TokenRefused::Dispatch => "TOKEN_DISPATCH",
            TokenRefused::Replayed => "TOKEN_REPLAYED",
        }
    }
}

/// The compact form of a token. Whoever calls decides what the claims say; [`verify`] refuses what it would not take.
///
/// # Errors
/// Only if the claims cannot be represented as JSON, which means a bug.
pub fn mint(key: &dyn Sign, kind: &TokenKind, claims: &Claims) -> Result<String, serde_json::Error> {
    Ok(seal(key, kind.typ, &serde_json::to_value(claims)?))
}

/// Header, claims and signature as a compact JWS.
pub(crate) fn seal(key: &dyn Sign, typ: &str, claims: &serde_json::Value) -> String {
    let header = serde_json::json!({ "alg": "EdDSA", "kid": key.kid(), "typ": typ });
    let part = |value: &serde_json::Value| B64.encode(canonical(value));
    let signed = [part(&header), part(claims)].join(".");
    let signature = B64.encode(unhex(&key.sign_hex(signed.as_bytes())).unwrap_or_default());
    [signed, signature].join(".")
}

/// A token whose signature is good.
pub(crate) struct SignedParts {
    /// What it says.
    pub(crate) claims: serde_json::Value,
}

/// Checks form, algorithm, type, key and signature of a token, and nothing of what it says.
pub(crate) fn parts(
    keyring: &Keyring,
    token: &str,
    typ: &'static str,
    signer: Role,
    bytes_max: usize,
) -> Result<SignedParts, TokenRefused> {
    if token.len() > bytes_max {
        return Err(TokenRefused::Malformed);
    }
    let parts: Vec<&str> = token.split('.').collect();
    let [header, body, signature] = parts.as_slice() else { return Err(TokenRefused::Malformed) };
    let head: serde_json::Value = decoded(header)?;
    // Before the strict shape, so that a foreign algorithm is called by its name.
    if head.get("alg").and_then(|a| a.as_str()) != Some("EdDSA") {
        return Err(TokenRefused::Algorithm);
    }
    let head: Header = serde_json::from_value(head).map_err(|_| TokenRefused::Malformed)?;
    if head.typ != typ {
        return Err(TokenRefused::Type(typ));
    }
    let (role, key) = keyring.active(&head.kid).ok_or(TokenRefused::Key)?;
    if role != signer {
        return Err(TokenRefused::Key);
    }
    let raw = B64.decode(signature).map_err(|_| TokenRefused::Malformed)?;
    let raw = <[u8; 64]>::try_from(raw).map_err(|_| TokenRefused::Signature)?;
    let signed = [*header, *body].join(".");
    if key.verify_strict(signed.as_bytes(), &Signature::from_bytes(&raw)).is_err() {
        return Err(TokenRefused::Signature);
    }
    Ok(SignedParts { claims: decoded(body)? })
}

/// Checks a token of one kind at one moment, in seconds since the epoch.
///
/// # Errors
/// [`TokenRefused`] with the first thing that is wrong.
pub fn verify(keyring: &Keyring, token: &str, kind: &TokenKind, now: u64) -> Result<Claims, TokenRefused> {
    let SignedParts { claims } = parts(keyring, token, kind.typ, kind.role, TOKEN_BYTES_MAX)?;
    let claims: Claims = serde_json::from_value(claims).map_err(|_| TokenRefused::Malformed)?;
    check(&claims, kind, now)?;
    Ok(claims)
}

fn check(claims: &Claims, kind: &TokenKind, now: u64) -> Result<(), TokenRefused> {
    if claims.iss != kind.issuer {
        return Err(TokenRefused::Issuer(kind.issuer));
    }
    if claims.aud != kind.audience {
        return Err(TokenRefused::Audience(kind.audience));
    }
    times(claims.iat, claims.nbf, claims.exp, kind.life_secs_max, now)?;
    if claims.jti.is_empty() || claims.jti.len() > 64 {
        return Err(TokenRefused::Malformed);
    }
    Subject::parse(&claims.sub).map(|_| ()).map_err(|_| TokenRefused::Subject)
}

/// Whether a token lives no longer than it may, has begun, and has not ended.
pub(crate) fn times(iat: u64, nbf: u64, exp: u64, life_secs_max: u64, now: u64) -> Result<(), TokenRefused> {
    let life = exp.checked_sub(nbf.min(iat));
    if life.is_none_or(|life| life == 0 || life > life_secs_max) {
        return Err(TokenRefused::Life(life_secs_max));
    }
    if nbf.max(iat) > now.saturating_add(SKEW_SECS) {
        return Err(TokenRefused::NotYet);
    }
    if exp.saturating_add(SKEW_SECS) <= now {
        return Err(TokenRefused::Expired);
    }
    Ok(())
}

/// The bytes of one part.
pub(crate) fn raw(part: &str) -> Result<Vec<u8>, TokenRefused> {
    B64.decode(part).map_err(|_| TokenRefused::Malformed)
}

/// JSON out of one part. The decoder takes no padding and no stray bits, so one value has one text.
fn decoded<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, TokenRefused> {
    let bytes = raw(part)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenRefused::Malformed)
}
