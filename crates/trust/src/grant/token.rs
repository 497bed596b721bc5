//! A grant as a signed token: `grant+jwt` with identity.v1's claims, so that it can be shown to somebody who has no
//! ledger. Authority mints it; [`prove`] says whether token, document and statement are one.

use crate::keyring::Keyring;
use crate::token::{SignedParts, TokenRefused, parts, seal};
use custody_contracts::canonical::{canonical, digest};
use custody_contracts::catalogue;
use custody_contracts::events::Role;
use custody_contracts::grant::{Grant, GrantIssued};
use custody_contracts::ids::UnixMillis;
use custody_ledger::Sign;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// `typ` of a grant's token.
const TYP: &str = "grant+jwt";

/// A signed token, not longer than the ledger takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantToken(String);

impl GrantToken {
    /// The longest, in bytes. Source: contract ledger.v2, `GrantIssued.token`.
    pub const BYTES_MAX: usize = 24_576;

    /// The compact form.
    pub fn into_text(self) -> String {
        self.0
    }
}

/// Why a grant is not what it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// Its token is not good.
    #[error("its token is refused: {0}")]
    Token(#[from] TokenRefused),
    /// The token is not one of this document.
    #[error("its token says something else than its document: {0}")]
    Differs(String),
    /// The statement is not the one that was agreed to.
    #[error("its statement is not the one whose digest was agreed to")]
    Statement,
    /// The launcher's key cannot be read, or the claims do not keep their contract.
    #[error("it cannot be put into a token: {0}")]
    Unfit(String),
}

/// Signs a grant. `base` is who says so, for example `https://custody.local`; `issued` is the moment of signing.
///
/// # Errors
/// [`Unproven::Unfit`] for a grant whose claims do not keep identity.v1, or whose token would be too long.
pub fn mint(key: &dyn Sign, grant: &Grant, base: &str, issued: UnixMillis) -> Result<GrantToken, Unproven> {
    let document = document(grant)?;
    let jti = custody_contracts::canonical::derived_id("gr-", &[digest(document.as_bytes()).as_bytes()]);
    let issuer = [base, "/identity/grant"].concat();
    let audience = [base, "/authority"].concat();
    let claims = claims(grant, &document, &issuer, &audience, &jti, issued.0 / 1_000)?;
    catalogue::check("identity.v1", "Grant", &claims).map_err(|e| Unproven::Unfit(e.to_string()))?;
    let token = seal(key, TYP, &claims);
    if token.len() > GrantToken::BYTES_MAX {
        return Err(Unproven::Unfit(format!(
            "its token has {} bytes, {} are the most",
            token.len(),
            GrantToken::BYTES_MAX
        )));
    }
    Ok(GrantToken(token))
}

/// Whether token, document and statement of an issued grant are one, signed by a key of authority that is active in the
/// ring. Says nothing about time: whether it is valid now is asked elsewhere.
///
/// # Errors
/// [`Unproven`] with the first thing that is wrong.
pub fn prove(ring: &Keyring, issued: &GrantIssued) -> Result<(), Unproven> {
    let grant = &issued.grant;
    if digest(issued.statement.as_bytes()) != grant.consent.statement_digest {
        return Err(Unproven::Statement);
    }
    let SignedParts { claims: found, .. } = parts(ring, &issued.token, TYP, Role::Authority, GrantToken::BYTES_MAX)?;
    catalogue::check("identity.v1", "Grant", &found).map_err(|e| Unproven::Differs(e.to_string()))?;
    let text = |name: &str| found.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (issuer, audience, jti) = (text("iss"), text("aud"), text("jti"));
    let base = issuer.strip_suffix("/identity/grant").unwrap_or("");
    if base.is_empty() || audience != [base, "/authority"].concat() {
        return Err(Unproven::Differs("issuer and audience are not of one authority".into()));
    }
    let iat = found.get("iat").and_then(Value::as_u64).unwrap_or_default();
    let expected = claims(grant, &document(grant)?, &issuer, &audience, &jti, iat)?;
    if found != expected {
        let other = |name: &&String| found.get(name.as_str()) != expected.get(name.as_str());
        let first = expected.as_object().and_then(|all| all.keys().find(other).cloned()).unwrap_or_default();
        return Err(Unproven::Differs(format!("claim {first}")));
    }
    Ok(())
}

fn document(grant: &Grant) -> Result<String, Unproven> {
    let value = serde_json::to_value(grant).map_err(|e| Unproven::Unfit(e.to_string()))?;
    Ok(canonical(&value))
}

fn claims(grant: &Grant, document: &str, issuer: &str, audience: &str, jti: &str, iat: u64) -> Result<Value, Unproven> {
    let mut scope = vec!["agent:run".to_owned()];
    scope.extend(grant.workspaces.iter().map(|w| ["ws:", w.id.as_str(), ":", w.mode.as_str()].concat()));
    scope.extend(grant.tools.iter().map(|tool| ["tool:", tool].concat()));
    let mut details: Vec<Value> =
        grant.workspaces.iter().map(|w| json!({ "type": "workspace", "id": w.id, "mode": w.mode })).collect();
    let mut servers: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for tool in &grant.tools {
        servers.entry(server_of(tool)).or_default().push(tool);
    }
    details.extend(servers.into_iter().map(|(server, tools)| {
        let mut detail = json!({ "type": "mcp", "server": server, "tools": tools });
        if !grant.constraints.is_empty() {
            detail["args"] = json!(grant.constraints);
        }
        detail
    }));
    let key =
        thumbprint(&grant.launcher_key).ok_or_else(|| Unproven::Unfit("the launcher's key cannot be read".into()))?;
    Ok(json!({
        "iss": issuer, "sub": grant.subject, "launcher": grant.launcher,
        "may_act": { "sub": grant.launcher, "cnf": { "jkt": key } },
        "aud": audience, "scope": scope.join(" "), "authorization_details": details, "jti": jti, "grant": grant.id,
        "gsh": digest(document.as_bytes()), "iat": iat,
        "nbf": grant.begins().0 / 1_000, "exp": grant.ends().0 / 1_000,
    }))
}

/// The server of a tool by its name: what stands before `__` or the first dot, else `builtin`.
pub fn server_of(tool: &str) -> String {
    let head = tool.split_once("__").or_else(|| tool.split_once('.')).map(|(head, _)| head.to_ascii_lowercase());
    let token = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    head.filter(|h| !h.is_empty() && h.len() <= 63 && h.bytes().all(token) && h.as_bytes()[0].is_ascii_alphanumeric())
        .unwrap_or_else(|| "builtin".to_owned())
}

/// The JWK thumbprint of a user nkey's public half.
fn thumbprint(nkey: &str) -> Option<String> {
    Some(crate::key::thumbprint(&raw_key(nkey)?))
}

/// The 32 bytes inside an nkey: base 32 of a prefix, the key and a check sum. Source: nkeys.
fn raw_key(nkey: &str) -> Option<[u8; 32]> {
    if !crate::launch::is_user_key(nkey) {
        return None;
    }
    let (mut bytes, mut buffer, mut bits) = (Vec::with_capacity(35), 0u32, 0u32);
    for c in nkey.bytes() {
        let digit = match c {
            b'A'..=b'Z' => c - b'A',
            b'2'..=b'7' => c - b'2' + 26,
            _ => return None,
        };
        buffer = (buffer << 5) | u32::from(digit);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((buffer >> bits) & 0xff).ok()?);
            buffer &= (1 << bits) - 1;
        }
    }
    bytes.get(1..33)?.try_into().ok()
}
