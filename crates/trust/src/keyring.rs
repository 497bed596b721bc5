//! Which key may sign what, as the ledger itself says it: a fold over the events of kind key.

use crate::key::{kid, parse_public, token_kid, verify_hex};
use crate::token_keys::TokenKeys;
use custody_contracts::canonical::canonical;
use custody_contracts::envelope::split_signature;
use custody_contracts::events::{KeyEvent, KeyIntroduced, LedgerEvent, Role};
use custody_contracts::ids::UnixMillis;
use custody_ledger::{Recorded, Seq, Stored};
use ed25519_dalek::VerifyingKey;
use serde_json::Value;
use std::collections::BTreeMap;

/// How a signature is looked at: key, signed bytes, hexadecimal signature.
pub(crate) type Look<'a> = &'a mut dyn FnMut(&VerifyingKey, &[u8], &str) -> bool;

#[derive(Debug, Clone)]
struct Entry {
    role: Role,
    key: VerifyingKey,
    retired_at: Option<Seq>,
}

/// The keys of a ledger so far.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    keys: BTreeMap<String, Entry>,
    tokens: TokenKeys,
    root: Option<String>,
}

/// Why a stored message is not authentic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAuthentic {
    /// The signature does not match bytes and key.
    #[error("the signature by {0} does not match the event")]
    BadSignature(String),
    /// Nobody introduced this key.
    #[error("key {0} was never introduced")]
    UnknownKey(String),
    /// The key was retired before.
    #[error("key {0} was retired")]
    RetiredKey(String),
    /// The key belongs to a role that may not write this kind.
    #[error("key {kid} of role {role} may not write kind {kind}")]
    WrongRole {
        /// The key.
        kid: String,
        /// Its role.
        role: &'static str,
        /// What was written.
        kind: &'static str,
    },
    /// `source` or data name another role or key than the signature's.
    #[error("the event says one thing about its writer and its key another: {0}")]
    Inconsistent(String),
    /// The log does not begin with authority's own key.
    #[error("a log begins with authority's own key; this one begins with {0}")]
    NoRoot(String),
    /// The bytes say what was signed in another form: they are not the ones that were stored.
    #[error("the stored bytes are not canonical JSON")]
    NotCanonical,
    /// It cannot be read at all.
    #[error("{0}")]
    Unreadable(String),
}

impl Keyring {
    /// An empty ring, before the first event.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first key of the log: authority's. Pin this to know whose log it is.
    pub fn root(&self) -> Option<&str> {
        self.root.as_deref()
    }

    /// A key by its id.
    pub fn key(&self, kid: &str) -> Option<&VerifyingKey> {
        self.keys.get(kid).map(|e| &e.key)
    }

    /// Role and key of an id that may sign now: known, and not retired.
    pub fn active(&self, kid: &str) -> Option<(Role, &VerifyingKey)> {
        self.keys.get(kid).filter(|e| e.retired_at.is_none()).map(|e| (e.role, &e.key))
    }

    /// Keys that sign tokens. None of them may sign an event.
    pub fn tokens(&self) -> &TokenKeys {
        &self.tokens
    }

    /// Where a key was retired.
    pub fn retired_at(&self, kid: &str) -> Option<Seq> {
        self.keys.get(kid).and_then(|e| e.retired_at)
    }

    /// Every key's id and role.
    pub fn keys(&self) -> impl Iterator<Item = (&str, Role)> {
        self.keys.iter().map(|(kid, e)| (kid.as_str(), e.role))
    }

    /// Checks one stored message and takes in the keys that it introduces or retires. Call in log order.
    ///
    /// # Errors
    /// [`NotAuthentic`], and then the ring is unchanged.
    pub fn admit(&mut self, stored: &Stored) -> Result<Vec<Recorded>, NotAuthentic> {
        self.admit_with(stored, &mut verify_hex)
    }

    /// The same, with another way to look at a signature: it may be put off, but then the ring holds what nobody signed
    /// until it was looked at.
    pub(crate) fn admit_with(&mut self, stored: &Stored, good: Look<'_>) -> Result<Vec<Recorded>, NotAuthentic> {
        let unreadable = |e: &dyn std::fmt::Display| NotAuthentic::Unreadable(e.to_string());
        let recorded = Recorded::read(stored).map_err(|e| unreadable(&e))?;
        let value: Value = serde_json::from_slice(&stored.bytes).map_err(|e| unreadable(&e))?;
        if canonical(&value).as_bytes() != stored.bytes {
            return Err(NotAuthentic::NotCanonical);
        }
        let values = match value {
            Value::Array(items) => items,
            one => vec![one],
        };
        // A later event of the same message may be bad, so what its first ones change is kept only at the end.
        let mut after = (values.len() > 1).then(|| self.clone());
        for (recorded, value) in recorded.iter().zip(values) {
            let (bytes, signature) = split_signature(value).map_err(|e| unreadable(&e))?;
            let ring = after.as_mut().unwrap_or(self);
            ring.check(recorded, &bytes, &signature, good)?;
            ring.take_in(recorded);
        }
        if let Some(after) = after {
            *self = after;
        }
        Ok(recorded)
    }

    fn check(&self, recorded: &Recorded, bytes: &[u8], signature: &str, good: Look<'_>) -> Result<(), NotAuthentic> {
        let signer = &recorded.envelope.keyid;
        let (key, role) = match introduced(recorded)? {
            Some((event, key)) if self.root.is_none() => {
                if event.role != Role::Authority || &event.kid != signer {
                    return Err(NotAuthentic::NoRoot(format!("a key of {}", event.role.as_str())));
                }
                (key, event.role)
            }
            None if self.root.is_none() => return Err(NotAuthentic::NoRoot(recorded.envelope.kind.clone())),
            _ => {
                let entry = self.keys.get(signer).ok_or_else(|| NotAuthentic::UnknownKey(signer.clone()))?;
                if entry.retired_at.is_some() {
                    return Err(NotAuthentic::RetiredKey(signer.clone()));
                }
                (entry.key, entry.role)
            }
        };
        if let Some(LedgerEvent::Key(KeyEvent::TokenKey(event))) = &recorded.event {
            let own = parse_public(&event.public_key)
                .ok_or_else(|| NotAuthentic::Unreadable("the public key is not an Ed25519 key".into()))?;
            if token_kid(&own) != event.kid {
                return Err(NotAuthentic::Inconsistent("the key's id is not the digest of the key".into()));
            }
        }
        if !good(&key, bytes, signature) {
            return Err(NotAuthentic::BadSignature(signer.clone()));
        }
        if recorded.entity.kind.writer() != role {
            return Err(NotAuthentic::WrongRole {
                kid: signer.clone(),
                role: role.as_str(),
                kind: recorded.entity.kind.as_str(),
            });
        }
        let source = ["custody/", role.as_str()].concat();
        if recorded.envelope.source != source {
            return Err(NotAuthentic::Inconsistent(format!(
                "source is {:?}, not {source:?}",
                recorded.envelope.source
            )));
        }
        if recorded.event.as_ref().is_some_and(|e| e.kind() != recorded.entity.kind) {
            return Err(NotAuthentic::Inconsistent("an event stands on another kind's subject".into()));
        }
        Ok(())
    }

    fn take_in(&mut self, recorded: &Recorded) {
        match &recorded.event {
            Some(LedgerEvent::Key(KeyEvent::Introduced(event))) => {
                if let Some(key) = parse_public(&event.public_key) {
                    self.root.get_or_insert_with(|| event.kid.clone());
                    // A key that is known stays as it is: introducing a retired one again does not bring it back.
                    let new = Entry { role: event.role, key, retired_at: None };
                    self.keys.entry(event.kid.clone()).or_insert(new);
                }
            }
            Some(LedgerEvent::Key(KeyEvent::Retired(event))) => {
                if let Some(entry) = self.keys.get_mut(&event.kid) {
                    entry.retired_at = Some(recorded.seq);
                }
            }
            Some(LedgerEvent::Key(KeyEvent::TokenKey(event))) => {
                let at = UnixMillis::parse(&recorded.envelope.time).unwrap_or_default();
                self.tokens.take_in(event, at);
            }
            _ => {}
        }
    }
}

/// The key that an event introduces, when it does.
fn introduced(recorded: &Recorded) -> Result<Option<(&KeyIntroduced, VerifyingKey)>, NotAuthentic> {
    let Some(LedgerEvent::Key(KeyEvent::Introduced(event))) = &recorded.event else { return Ok(None) };
    let key = parse_public(&event.public_key)
        .ok_or_else(|| NotAuthentic::Unreadable("the public key is not an Ed25519 key".into()))?;
    if kid(event.role, &key) != event.kid {
        return Err(NotAuthentic::Inconsistent("the key's id is not the digest of the key".into()));
    }
    Ok(Some((event, key)))
}
