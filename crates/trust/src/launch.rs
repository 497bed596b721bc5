//! A launcher's own signature on its launch message. A NATS nkey is an Ed25519 key, so the launcher signs with the key
//! it connects with.

use custody_contracts::launch::signed_bytes;
use nkeys::KeyPair;
use serde_json::{Map, Value};

/// What was found of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaunchSignature {
    /// There is none.
    Absent,
    /// It is good for this key.
    Good,
    /// It is there and is not good: another key, other bytes, or no signature at all.
    Forged,
}

/// Whether a text is the public half of a NATS user nkey, its check sum included. Source: nkeys, `U` and 55 base-32 digits.
pub fn is_user_key(text: &str) -> bool {
    let shape = text.len() == 56 && text.bytes().all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b));
    shape && text.starts_with('U') && KeyPair::from_public_key(text).is_ok()
}

/// Checks the `keyid` and `signature` of a launch message against the registered key.
pub fn check(event: &Map<String, Value>, public_key: &str) -> LaunchSignature {
    let (keyid, signature) = match (event.get("keyid"), event.get("signature")) {
        (None, None) => return LaunchSignature::Absent,
        (Some(Value::String(keyid)), Some(Value::String(signature))) => (keyid, signature),
        _ => return LaunchSignature::Forged,
    };
    if keyid != public_key {
        return LaunchSignature::Forged;
    }
    let Some(raw) = custody_contracts::canonical::unhex(signature) else { return LaunchSignature::Forged };
    let Ok(key) = KeyPair::from_public_key(public_key) else { return LaunchSignature::Forged };
    match key.verify(&signed_bytes(event), &raw) {
        Ok(()) => LaunchSignature::Good,
        Err(_) => LaunchSignature::Forged,
    }
}

/// Puts `keyid` and `signature` into a launch message.
///
/// # Errors
/// When the key pair holds no seed.
pub fn sign(event: &mut Map<String, Value>, key: &KeyPair) -> Result<(), nkeys::error::Error> {
    event.insert("keyid".into(), Value::String(key.public_key()));
    let signature = key.sign(&signed_bytes(event))?;
    event.insert("signature".into(), Value::String(custody_contracts::canonical::hex(&signature)));
    Ok(())
}
