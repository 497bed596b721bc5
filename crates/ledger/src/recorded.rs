//! A stored message, read: envelopes and events at the door of every fold.

use crate::log::{Entity, Seq, Stored};
use custody_contracts::envelope::{Envelope, EnvelopeError, Meta, seal, signed_bytes, unsigned};
use custody_contracts::events::{LedgerEvent, Role};

/// One event with its place and envelope.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The message's place in the log.
    pub seq: Seq,
    /// The entity.
    pub entity: Entity,
    /// The envelope.
    pub envelope: Envelope,
    /// The event; `None` when its type is not known here (a projection notes it and goes on, a decider stops).
    pub event: Option<LedgerEvent>,
}

/// Why a stored message cannot be read. Never stops a projection; always stops a decider for that entity alone.
#[derive(Debug, thiserror::Error)]
pub enum RecordedError {
    /// The log subject is not one of the ledger's.
    #[error("sequence {seq}: subject {log_subject:?} is not a ledger entity")]
    BadSubject {
        /// Where.
        seq: Seq,
        /// What it was.
        log_subject: String,
    },
    /// The bytes are not envelopes.
    #[error("sequence {seq}: {source}")]
    BadEnvelope {
        /// Where.
        seq: Seq,
        /// How.
        source: EnvelopeError,
    },
}

impl Recorded {
    /// The events of one stored message.
    ///
    /// # Errors
    /// [`RecordedError`] when subject, envelope or data are not what ledger.v2 says. An event type that is not known
    /// is not an error: its `event` is `None`.
    pub fn read(stored: &Stored) -> Result<Vec<Recorded>, RecordedError> {
        let bad = |source| RecordedError::BadEnvelope { seq: stored.seq, source };
        let entity = Entity::parse(&stored.log_subject).ok_or_else(|| RecordedError::BadSubject {
            seq: stored.seq,
            log_subject: stored.log_subject.chars().take(120).collect(),
        })?;
        let mut out = Vec::with_capacity(1);
        for envelope in Envelope::read(&stored.bytes).map_err(bad)? {
            let event = match envelope.event() {
                Ok(event) => Some(event),
                Err(EnvelopeError::Data(custody_contracts::events::DecodeError::UnknownType(_))) => None,
                Err(other) => return Err(bad(other)),
            };
            out.push(Recorded { seq: stored.seq, entity: entity.clone(), envelope, event });
        }
        Ok(out)
    }
}

/// A role's signing key, as pure code sees it.
pub trait Sign: Send + Sync {
    /// The key's id.
    fn kid(&self) -> &str;
    /// The role it signs for.
    fn role(&self) -> Role;
    /// Ed25519 over exactly these bytes, 128 hexadecimal digits.
    fn sign_hex(&self, bytes: &[u8]) -> String;
}

/// The stored bytes of one decision: one signed event, or an array when there are several.
///
/// # Errors
/// Only if an event cannot be represented as JSON, which means a bug.
pub fn encode(
    signer: &dyn Sign,
    command_id: &str,
    events: &[LedgerEvent],
    meta: &Meta,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut messages = Vec::with_capacity(events.len());
    for (index, event) in events.iter().enumerate() {
        let id = [command_id, "/", &index.to_string()].concat();
        let map = unsigned(&id, signer.role().as_str(), signer.kid(), event, meta)?;
        let signature = signer.sign_hex(&signed_bytes(&map));
        messages.push(seal(map, signature));
    }
    if messages.len() == 1 {
        return Ok(messages.remove(0));
    }
    let mut out = vec![b'['];
    for (index, message) in messages.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(message);
    }
    out.push(b']');
    Ok(out)
}
