//! A role's Ed25519 key. Its secret part has no text form but the one its owner asks for by name.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use custody_contracts::canonical::hex;
use custody_contracts::events::Role;
use custody_ledger::Sign;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use std::fmt;

/// A signing key and the role it signs for.
pub struct RoleKey {
    role: Role,
    kid: String,
    signing: SigningKey,
}

impl fmt::Debug for RoleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoleKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl RoleKey {
    /// The key of 32 secret bytes. The bytes come from the edge: nothing here is random.
    pub fn from_seed(role: Role, seed: &[u8; 32]) -> Self {
        let signing = SigningKey::from_bytes(seed);
        let kid = kid(role, &signing.verifying_key());
        RoleKey { role, kid, signing }
    }

    /// A key of authority's that signs tokens and nothing else: its id is of another form, so what it signs is no event.
    pub fn for_tokens(seed: &[u8; 32]) -> Self {
        let signing = SigningKey::from_bytes(seed);
        RoleKey { role: Role::Authority, kid: token_kid(&signing.verifying_key()), signing }
    }

    /// The public half, 64 hexadecimal digits.
    pub fn public_hex(&self) -> String {
        hex(self.signing.verifying_key().as_bytes())
    }

    /// The public half.
    pub fn verifying(&self) -> VerifyingKey {
        self.signing.verifying_key()
    }

    /// A raw signature, for signed notes.
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.signing.sign(bytes).to_bytes()
    }
}

/// The id of a key: role and the first 16 digits of the digest of its public half. RFC 7638's idea.
pub fn kid(role: Role, key: &VerifyingKey) -> String {
    let digest = hex(&Sha256::digest(key.as_bytes()));
    ["k-", role.as_str(), "-", digest.get(..16).unwrap_or_default()].concat()
}

/// The id of a key for tokens: `token-` and the first 16 digits of the digest of its public half.
pub fn token_kid(key: &VerifyingKey) -> String {
    let digest = hex(&Sha256::digest(key.as_bytes()));
    ["token-", digest.get(..16).unwrap_or_default()].concat()
}

/// The JWK thumbprint of an Ed25519 key. Source: RFC 7638 and RFC 8037, section 2.
pub fn thumbprint(raw: &[u8; 32]) -> String {
    let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, B64.encode(raw));
    B64.encode(Sha256::digest(jwk.as_bytes()))
}

impl Sign for RoleKey {
    fn kid(&self) -> &str {
        &self.kid
    }
    fn role(&self) -> Role {
        self.role
    }
    fn sign_hex(&self, bytes: &[u8]) -> String {
        hex(&self.sign(bytes))
    }
}

/// Checks a signature strictly (RFC 8032 with the malleability checks of `verify_strict`). One signature has one text:
/// upper-case digits are refused, or a stored event could be changed and still be signed.
pub fn verify_hex(key: &VerifyingKey, bytes: &[u8], signature_hex: &str) -> bool {
    if signature_hex.bytes().any(|b| b.is_ascii_uppercase()) {
        return false;
    }
    let Some(raw) = custody_contracts::canonical::unhex(signature_hex) else { return false };
    let Ok(raw) = <[u8; 64]>::try_from(raw) else { return false };
    key.verify_strict(bytes, &Signature::from_bytes(&raw)).is_ok()
}

/// The key of 64 hexadecimal digits.
pub fn parse_public(text: &str) -> Option<VerifyingKey> {
    let raw = <[u8; 32]>::try_from(custody_contracts::canonical::unhex(text)?).ok()?;
    VerifyingKey::from_bytes(&raw).ok()
}
