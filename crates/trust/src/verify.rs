//! Verification of a whole log, live or from a bundle: sequence, signatures, roles, tree, checkpoints and grants. One state
//! machine for both, fed one stored message after another; it stops at the first bad sequence and names it.

use crate::grant::Chain;
use crate::key::verify_hex;
use crate::keyring::{Keyring, Look};
use crate::note;
use crate::place::in_its_place;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use custody_contracts::canonical::hex;
use custody_contracts::events::{CheckpointEvent, LedgerEvent};
use custody_ledger::merkle::{Frontier, Hash, leaf};
use custody_ledger::{Seq, Stored};
use ed25519_dalek::VerifyingKey;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The first thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// First bad sequence.
    pub seq: u64,
    /// Stable code: `GAP`, `NOT_AUTHENTIC`, `CHECKPOINT_MISMATCH`, `TRUNCATED`, `WRONG_LOG`, `HEAD_MISMATCH`,
    /// `MISPLACED` for an event on the subject of another entity, `GRANT_UNPROVEN` for a grant that is not what it says,
    /// `UNGRANTED` for what no grant covers.
    pub code: &'static str,
    /// In a sentence.
    pub message: String,
}

/// What was found good.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Messages verified.
    pub messages: u64,
    /// Signatures verified.
    pub signatures: u64,
    /// Checkpoints whose root was recomputed.
    pub checkpoints: u64,
    /// Root over everything verified, hexadecimal.
    pub head: String,
    /// Leaves under the newest good checkpoint.
    pub covered: u64,
    /// The log's first key.
    pub root_key: Option<String>,
    /// Grants whose token was verified.
    pub grants: u64,
    /// Signatures by key.
    pub keys: BTreeMap<String, u64>,
}

/// A head that somebody kept outside: a checkpoint file, a witness, a number written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptHead {
    /// Leaves under it.
    pub size: u64,
    /// Root.
    pub root: Hash,
}

/// A signature that was not looked at yet.
#[derive(Debug, Clone)]
pub struct Pending {
    key: VerifyingKey,
    bytes: Vec<u8>,
    signature: String,
}

impl Pending {
    /// Whether it is good. Pure, so that many may be looked at by several threads.
    pub fn good(&self) -> bool {
        verify_hex(&self.key, &self.bytes, &self.signature)
    }
}

/// Verifies a log message by message.
#[derive(Debug, Clone, Default)]
pub struct Verifier {
    ring: Keyring,
    /// `None`: what was admitted under which grant is not asked.
    grants: Option<Chain>,
    tree: Frontier,
    report: Report,
    /// Roots wanted at a size, from heads kept outside. Two witnesses may have kept two: then one of them is wrong.
    kept: BTreeMap<u64, BTreeSet<Hash>>,
    pinned_root: Option<String>,
    /// The tree at the sizes that a later checkpoint may name; its root is worked out only when one does. Bounded:
    /// checkpoints come at least every 256 leaves.
    recent: BTreeMap<u64, Frontier>,
}

/// How many recent trees are kept to compare checkpoints with.
const RECENT_TREES_MAX: usize = 8_192;

impl Verifier {
    /// A verifier that will also compare with heads kept outside, and with a pinned first key.
    pub fn new(kept: &[KeptHead], pinned_root: Option<String>) -> Self {
        let mut wanted: BTreeMap<u64, BTreeSet<Hash>> = BTreeMap::new();
        // A head over nothing says nothing about a log.
        for head in kept.iter().filter(|h| h.size > 0) {
            wanted.entry(head.size).or_default().insert(head.root);
        }
        Verifier { kept: wanted, pinned_root, grants: Some(Chain::default()), ..Self::default() }
    }

    /// The same, of the bytes alone: sequence, signatures, roles, tree and checkpoints. What was admitted under which grant
    /// is not asked.
    #[must_use]
    pub fn without_grants(mut self) -> Self {
        self.grants = None;
        self
    }

    /// The keys so far.
    pub fn ring(&self) -> &Keyring {
        &self.ring
    }

    /// Takes the next message.
    ///
    /// # Errors
    /// The finding; nothing after it can be trusted.
    pub fn push(&mut self, stored: &Stored) -> Result<(), Finding> {
        self.push_with(stored, &mut verify_hex)
    }

    /// Takes the next messages, their signatures looked at together by `all_good`. The answer is the one that [`push`](Self::push)
    /// gives for one after the other: when anything is wrong they are looked at again, one by one.
    ///
    /// # Errors
    /// The finding, as [`push`](Self::push).
    pub fn push_all(&mut self, messages: &[Stored], all_good: impl FnOnce(&[Pending]) -> bool) -> Result<(), Finding> {
        let before = self.clone();
        let mut pending = Vec::with_capacity(messages.len());
        let mut put_off = |key: &VerifyingKey, bytes: &[u8], signature: &str| {
            pending.push(Pending { key: *key, bytes: bytes.to_vec(), signature: signature.to_owned() });
            true
        };
        let taken = messages.iter().try_for_each(|stored| self.push_with(stored, &mut put_off));
        if taken.is_ok() && all_good(&pending) {
            return Ok(());
        }
        *self = before;
        messages.iter().try_for_each(|stored| self.push(stored))
    }

    fn push_with(&mut self, stored: &Stored, look: Look<'_>) -> Result<(), Finding> {
        let expected = self.report.messages + 1;
        let at = |code, message| Finding { seq: stored.seq.0.min(expected), code, message };
        if stored.seq != Seq(expected) {
            return Err(at("GAP", format!("expected sequence {expected}, found {}", stored.seq)));
        }
        let recorded = self.ring.admit_with(stored, look).map_err(|e| Finding {
            seq: expected,
            code: "NOT_AUTHENTIC",
            message: e.to_string(),
        })?;
        if let (1, Some(pinned), root) = (expected, &self.pinned_root, self.ring.root())
            && root != Some(pinned)
        {
            let found = root.unwrap_or("none");
            return Err(at("WRONG_LOG", format!("the log's first key is {found}, not the pinned {pinned}")));
        }
        for event in &recorded {
            in_its_place(event).map_err(|why| at("MISPLACED", why))?;
            if let Some(grants) = &mut self.grants {
                grants.take_in(&self.ring, event).map_err(|(code, message)| at(code, message))?;
            }
            self.report.signatures += 1;
            *self.report.keys.entry(event.envelope.keyid.clone()).or_default() += 1;
            if let Some(LedgerEvent::Checkpoint(CheckpointEvent::Signed(signed))) = &event.event {
                let key = self.ring.key(&event.envelope.keyid);
                let head = key.and_then(|k| note::open(&signed.note, k).ok());
                let head = head.ok_or_else(|| at("CHECKPOINT_MISMATCH", "its note is not signed by its key".into()))?;
                let same = head.size == signed.size && STANDARD.encode(head.root) == signed.root;
                if !same || self.recent.get(&head.size).map(Frontier::root) != Some(head.root) {
                    let why = format!("its root over {} messages is not the root of this log", head.size);
                    return Err(at("CHECKPOINT_MISMATCH", why));
                }
                self.report.checkpoints += 1;
                self.report.covered = head.size;
            }
        }
        self.tree.push(leaf(&stored.bytes));
        self.recent.insert(expected, self.tree.clone());
        if self.recent.len() > RECENT_TREES_MAX {
            self.recent.pop_first();
        }
        if let Some(kept) = self.kept.remove(&expected)
            && kept.iter().any(|k| *k != self.tree.root())
        {
            return Err(at("HEAD_MISMATCH", format!("a head kept outside over {expected} messages has another root")));
        }
        self.report.messages = expected;
        Ok(())
    }

    /// Ends the verification.
    ///
    /// # Errors
    /// `TRUNCATED` when a head kept outside is larger than this log; the first missing sequence is named.
    pub fn finish(mut self) -> Result<Report, Finding> {
        if let Some((size, _)) = self.kept.last_key_value() {
            let message =
                format!("a head kept outside covers {size} messages, the log ends after {}", self.report.messages);
            return Err(Finding { seq: self.report.messages + 1, code: "TRUNCATED", message });
        }
        self.report.head = hex(&self.tree.root());
        self.report.root_key = self.ring.root().map(str::to_owned);
        self.report.grants = self.grants.as_ref().map_or(0, Chain::verified);
        Ok(self.report)
    }
}
