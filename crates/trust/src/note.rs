//! C2SP signed notes and tlog checkpoints: the form in which the tree's head leaves the box.

use crate::key::RoleKey;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use custody_ledger::merkle::Hash;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

/// A checkpoint that was read and whose signature was good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHead {
    /// The log's name.
    pub origin: String,
    /// How many leaves.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

/// Hashes of a proof; as text a list of standard base 64, one of 32 bytes each, at most
/// [`PROOF_HASHES_MAX`](custody_ledger::merkle::PROOF_HASHES_MAX).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hashes(pub Vec<Hash>);

impl serde::Serialize for Hashes {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter().map(|hash| STANDARD.encode(hash)))
    }
}

impl<'de> serde::Deserialize<'de> for Hashes {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Hashes, D::Error> {
        use serde::de::Error;
        let texts = Vec::<String>::deserialize(from)?;
        if texts.len() > custody_ledger::merkle::PROOF_HASHES_MAX {
            return Err(D::Error::custom("a proof of more hashes than any tree needs"));
        }
        let hash = |text: String| STANDARD.decode(text).ok().and_then(|raw| Hash::try_from(raw).ok());
        let read: Option<Vec<Hash>> = texts.into_iter().map(hash).collect();
        read.map(Hashes).ok_or_else(|| D::Error::custom("a hash is 32 bytes in standard base 64"))
    }
}

/// Why a note is not a checkpoint of this log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not of the form `origin\nsize\nroot\n\n— name signature\n`.
    #[error("not a signed checkpoint: {0}")]
    Malformed(&'static str),
    /// No line of this key, or a bad one.
    #[error("the checkpoint carries no good signature of {0}")]
    NotSigned(String),
}

/// Key id of a signed note: the first four bytes of SHA-256 over name, newline, 0x01 and key. Source: C2SP signed-note.
fn key_hash(name: &str, key: &VerifyingKey) -> [u8; 4] {
    let mut hash = Sha256::new();
    hash.update(name.as_bytes());
    hash.update(b"\n\x01");
    hash.update(key.as_bytes());
    let full = hash.finalize();
    [full[0], full[1], full[2], full[3]]
}

/// The text of a checkpoint, ending in a newline. Source: C2SP tlog-checkpoint.
pub fn body(origin: &str, size: u64, root: &Hash) -> String {
    format!("{origin}\n{size}\n{}\n", STANDARD.encode(root))
}

/// A signed checkpoint. The key's name is the log's origin.
pub fn sign(key: &RoleKey, origin: &str, size: u64, root: &Hash) -> String {
    let body = body(origin, size, root);
    let mut raw = key_hash(origin, &key.verifying()).to_vec();
    raw.extend_from_slice(&key.sign(body.as_bytes()));
    format!("{body}\n\u{2014} {origin} {}\n", STANDARD.encode(raw))
}

/// The verifier key text of a note (`name+hash+key`), which third-party verifiers take. Source: C2SP signed-note.
pub fn verifier_key(origin: &str, key: &VerifyingKey) -> String {
    let mut raw = vec![1u8];
    raw.extend_from_slice(key.as_bytes());
    let hash = custody_contracts::canonical::hex(&key_hash(origin, key));
    format!("{origin}+{hash}+{}", STANDARD.encode(raw))
}

/// Reads size and root of a checkpoint without checking any signature: for a note that counts because of who kept it.
///
/// # Errors
/// [`NoteError::Malformed`].
pub fn read(note: &str) -> Result<SignedHead, NoteError> {
    parts(note).map(|(head, _, _)| head)
}

/// The head, the signed text, and the signature lines.
fn parts(note: &str) -> Result<(SignedHead, String, &str), NoteError> {
    let (body, signatures) = note.split_once("\n\n").ok_or(NoteError::Malformed("no empty line"))?;
    let body = [body, "\n"].concat();
    let mut lines = body.lines();
    let origin = lines.next().filter(|o| !o.is_empty()).ok_or(NoteError::Malformed("no origin"))?.to_owned();
    let size = lines.next().and_then(|s| s.parse().ok()).ok_or(NoteError::Malformed("no size"))?;
    let root = lines.next().and_then(|r| STANDARD.decode(r).ok()).and_then(|r| Hash::try_from(r).ok());
    let root = root.ok_or(NoteError::Malformed("no root of 32 bytes"))?;
    Ok((SignedHead { origin, size, root }, body, signatures))
}

/// Reads a checkpoint and checks that this key signed it.
///
/// # Errors
/// [`NoteError`].
pub fn open(note: &str, key: &VerifyingKey) -> Result<SignedHead, NoteError> {
    let (head, body, signatures) = parts(note)?;
    let wanted = key_hash(&head.origin, key);
    for line in signatures.lines() {
        let Some(rest) = line.strip_prefix("\u{2014} ") else { continue };
        let Some((name, encoded)) = rest.split_once(' ') else { continue };
        let Ok(raw) = STANDARD.decode(encoded) else { continue };
        if name != head.origin || raw.len() != 68 || raw.get(..4) != Some(&wanted[..]) {
            continue;
        }
        let Some(Ok(signature)) = raw.get(4..).map(<[u8; 64]>::try_from) else { continue };
        if key.verify_strict(body.as_bytes(), &Signature::from_bytes(&signature)).is_ok() {
            return Ok(head);
        }
    }
    Err(NoteError::NotSigned(head.origin))
}
