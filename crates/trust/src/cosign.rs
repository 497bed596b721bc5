//! Cosignatures of witnesses: what is sent to one, and whether its answer is its signature. Source: C2SP tlog-witness,
//! tlog-cosignature (version 1, Ed25519), signed-note. Must never take a line for a cosignature that was not verified.

use crate::note::{self, NoteError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use custody_contracts::canonical::{hex, unhex};
use custody_ledger::merkle::Hash;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};
use std::fmt;

/// The largest answer of a witness in bytes.
pub const ANSWER_BYTES_MAX: usize = 4_096;
/// The signature type of a timestamped cosignature by Ed25519. Source: C2SP signed-note.
const COSIGNATURE_V1: u8 = 4;

/// The public key of a witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessKey {
    name: String,
    hash: [u8; 4],
    key: VerifyingKey,
}

/// A cosignature that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosignature {
    /// When the witness says that it signed; Unix seconds.
    pub time: u64,
    /// The signature line, with its newline.
    pub line: String,
}

impl WitnessKey {
    /// Reads a verifier key, `name+hash+base64`, of a cosigner; `None` for any other text or key type.
    pub fn parse(text: &str) -> Option<WitnessKey> {
        let mut parts = text.trim().splitn(3, '+');
        let (name, hash, encoded) = (parts.next()?, unhex(parts.next()?)?, parts.next()?);
        let raw = STANDARD.decode(encoded).ok()?;
        let (&kind, key) = raw.split_first()?;
        let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
        let clean = !name.is_empty() && !name.contains(char::is_whitespace);
        let expected = key_hash(name, &key);
        (kind == COSIGNATURE_V1 && clean && hash == expected).then(|| WitnessKey {
            name: name.to_owned(),
            hash: expected,
            key,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of its key, eight hexadecimal digits.
    pub fn id(&self) -> String {
        hex(&self.hash)
    }

    /// Its cosignature among the lines of a text, over the body of a note; `None` when there is no good one.
    pub fn cosignature(&self, body: &str, lines: &str) -> Option<Cosignature> {
        lines.lines().find_map(|line| {
            let (name, encoded) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
            let raw = STANDARD.decode(encoded).ok().filter(|raw| raw.len() == 4 + 8 + 64)?;
            let (hash, rest) = raw.split_at(4);
            if name != self.name || hash != self.hash {
                return None;
            }
            let (time, signature) = rest.split_at(8);
            let time = u64::from_be_bytes(time.try_into().ok()?);
            let signature = Signature::from_bytes(signature.try_into().ok()?);
            let signed = format!("cosignature/v1\ntime {time}\n{body}");
            self.key.verify_strict(signed.as_bytes(), &signature).ok()?;
            Some(Cosignature { time, line: format!("{line}\n") })
        })
    }

    /// Its cosignature on a note.
    pub fn on(&self, note: &str) -> Option<Cosignature> {
        let (body, lines) = note.split_once("\n\n")?;
        self.cosignature(&[body, "\n"].concat(), lines)
    }
}

impl fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let raw = [&[COSIGNATURE_V1], self.key.as_bytes().as_slice()].concat();
        write!(f, "{}+{}+{}", self.name, hex(&self.hash), STANDARD.encode(raw))
    }
}

fn key_hash(name: &str, key: &VerifyingKey) -> [u8; 4] {
    let mut hash = Sha256::new();
    hash.update(name.as_bytes());
    hash.update([b'\n', COSIGNATURE_V1]);
    hash.update(key.as_bytes());
    let full = hash.finalize();
    [full[0], full[1], full[2], full[3]]
}

/// The body of an `add-checkpoint` request: what the witness saw last, the proof that the note goes on from it, the note.
pub fn request(old_size: u64, proof: &[Hash], note: &str) -> String {
    let mut out = format!("old {old_size}\n");
    for hash in proof {
        out.push_str(&STANDARD.encode(hash));
        out.push('\n');
    }
    out.push('\n');
    out.push_str(note);
    out
}

/// A note with a witness's cosignature after the signatures that it has.
///
/// # Errors
/// [`NoteError`] when the note is none, or the answer holds no good cosignature of this witness.
pub fn cosigned(text: &str, answer: &str, witness: &WitnessKey) -> Result<String, NoteError> {
    note::read(text)?;
    let (body, _) = text.split_once("\n\n").ok_or(NoteError::Malformed("no empty line"))?;
    let found = witness.cosignature(&[body, "\n"].concat(), answer);
    let line = found.ok_or_else(|| NoteError::NotSigned(witness.name.clone()))?.line;
    Ok([text, &line].concat())
}
