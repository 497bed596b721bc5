//! Verification of a bundle, offline: sequence, signatures, who may write what, the head, every audit path, the links
//! of the chain, and what the reader demands besides. It stops at the first thing that is wrong.

use super::{Bundle, links};
use crate::cosign::WitnessKey;
use crate::grant::Chain;
use crate::keyring::Keyring;
use crate::note::{self, SignedHead};
use crate::verify::{Finding, KeptHead};
use custody_contracts::canonical::hex;
use custody_contracts::events::Role;
use custody_ledger::Recorded;
use custody_ledger::merkle::{leaf, verify_consistency, verify_inclusion};
use ed25519_dalek::VerifyingKey;
use serde::Serialize;
use std::collections::BTreeMap;

/// What the reader brings along. Without any of it a bundle shows only that it agrees with itself.
#[derive(Debug, Clone, Default)]
pub struct Demands {
    /// The id of the log's first key.
    pub root_key: Option<String>,
    /// Heads kept outside: the bundle must show that its tree is one of them or goes on from one.
    pub kept: Vec<KeptHead>,
    /// Witnesses, each of which must have cosigned the bundle's checkpoint.
    pub witnesses: Vec<WitnessKey>,
}

/// What a good bundle shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proved {
    /// The sequence that was asked about.
    pub focus: u64,
    /// Its CloudEvents type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Its dispatch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dispatch: Option<String>,
    /// The person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The launcher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launcher: Option<String>,
    /// The grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// Whether the launcher's own signature is in the bundle and good.
    pub launch_signed: bool,
    /// The log's name.
    pub origin: String,
    /// Leaves under the head.
    pub size: u64,
    /// Its root, hexadecimal.
    pub head: String,
    /// The log's first key.
    pub root_key: String,
    /// Events.
    pub entries: u64,
    /// Good signatures, the head's not counted.
    pub signatures: u64,
    /// Signatures by key.
    pub keys: BTreeMap<String, u64>,
    /// Leaves under the older checkpoint that the tree goes on from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Whether a head kept outside was among what the reader brought, and matched.
    pub kept_outside: bool,
    /// The witnesses that were demanded and have cosigned.
    pub witnesses: Vec<String>,
}

fn finding(seq: u64, code: &'static str, message: impl Into<String>) -> Finding {
    Finding { seq, code, message: message.into() }
}

/// Verifies a bundle. Reads nothing but its arguments.
///
/// # Errors
/// The first finding, with the sequence it is at (0 when it is about the head): `ORDER`, `NOT_AUTHENTIC`, `WRONG_LOG`,
/// `CHECKPOINT_MISMATCH`, `NOT_INCLUDED`, `LINK_MISSING`, `LINK_BROKEN`, `UNRELATED`, `INCONSISTENT`, `HEAD_MISMATCH`,
/// `NOT_WITNESSED`, and for grants `GRANT_UNPROVEN`, `UNGRANTED`.
pub fn verify(bundle: &Bundle, demands: &Demands) -> Result<Proved, Finding> {
    let mut ring = Keyring::new();
    let recorded = admit(bundle, &mut ring)?;
    let root_key = ring.root().unwrap_or_default().to_owned();
    if let Some(wanted) = demands.root_key.as_ref().filter(|w| **w != root_key) {
        return Err(finding(1, "WRONG_LOG", format!("the log's first key is {root_key}, not the pinned {wanted}")));
    }
    let head = head(&bundle.checkpoint, &ring)?;
    for entry in &bundle.entries {
        let index = entry.seq.wrapping_sub(1);
        if !verify_inclusion(&leaf(entry.bytes.as_bytes()), index, head.size, &entry.proof.0, &head.root) {
            return Err(finding(entry.seq, "NOT_INCLUDED", "it is not proved to be in the signed tree"));
        }
    }
    let since = since(bundle, &ring, &head)?;
    let unseen = demands.witnesses.iter().find(|w| w.on(&bundle.checkpoint).is_none());
    if let Some(witness) = unseen {
        return Err(finding(0, "NOT_WITNESSED", format!("{} did not cosign the bundle's checkpoint", witness.name())));
    }
    let kept_outside = kept(&demands.kept, &head, since.as_ref())?;
    let chain = links::check(&recorded, bundle.focus)?;
    let launch_signed = links::launch(&recorded, &chain, bundle.launch.as_deref())?;
    let mut keys: BTreeMap<String, u64> = BTreeMap::new();
    for one in &recorded {
        *keys.entry(one.envelope.keyid.clone()).or_default() += 1;
    }
    Ok(Proved {
        focus: bundle.focus,
        event_type: chain.event_type,
        dispatch: chain.dispatch,
        subject: chain.subject,
        launcher: chain.launcher,
        grant: chain.grant,
        launch_signed,
        origin: head.origin,
        size: head.size,
        head: hex(&head.root),
        root_key,
        entries: bundle.entries.len() as u64,
        signatures: recorded.len() as u64,
        keys,
        since: since.map(|s| s.size),
        kept_outside,
        witnesses: demands.witnesses.iter().map(|w| w.name().to_owned()).collect(),
    })
}

/// The C2SP verifier key (`name+hash+key`) of the log whose head the bundle holds.
///
/// # Errors
/// As [`verify`], for keys and head.
pub fn log_vkey(bundle: &Bundle) -> Result<String, Finding> {
    let mut ring = Keyring::new();
    admit(bundle, &mut ring)?;
    signed_head(&bundle.checkpoint, &ring).map(|(head, key)| note::verifier_key(&head.origin, &key))
}

/// Every signature, and that its key was introduced by one that the log's first key stands behind.
fn admit(bundle: &Bundle, ring: &mut Keyring) -> Result<Vec<Recorded>, Finding> {
    let mut recorded = Vec::with_capacity(bundle.entries.len());
    let mut grants = Chain::default();
    let mut before = 0;
    for entry in &bundle.entries {
        if entry.seq <= before {
            return Err(finding(entry.seq, "ORDER", format!("sequence {} stands after {before}", entry.seq)));
        }
        if before == 0 && entry.seq != 1 {
            return Err(finding(
                1,
                "LINK_MISSING",
                "the log's first message, which introduces its first key, is missing",
            ));
        }
        before = entry.seq;
        let read = ring.admit(&entry.stored()).map_err(|e| finding(entry.seq, "NOT_AUTHENTIC", e.to_string()))?;
        for one in &read {
            grants.take_in(ring, one).map_err(|(code, why)| finding(entry.seq, code, why))?;
        }
        recorded.extend(read);
    }
    if recorded.is_empty() {
        return Err(finding(1, "LINK_MISSING", "it holds no event"));
    }
    Ok(recorded)
}

/// The head, signed by a key of authority that was not retired in the tree which it signs.
fn head(text: &str, ring: &Keyring) -> Result<SignedHead, Finding> {
    signed_head(text, ring).map(|(head, _)| head)
}

fn signed_head(text: &str, ring: &Keyring) -> Result<(SignedHead, VerifyingKey), Finding> {
    let mut why = "the log introduced no key of authority".to_owned();
    for (kid, role) in ring.keys().filter(|(_, role)| *role == Role::Authority) {
        let Some(key) = ring.key(kid) else { continue };
        match note::open(text, key) {
            Ok(head) => {
                let retired = ring.retired_at(kid).is_some_and(|at| at.0 <= head.size);
                if !retired {
                    return Ok((head, *key));
                }
                why = format!("it is signed by {kid} of {}, which was retired before", role.as_str());
            }
            Err(error) => why = error.to_string(),
        }
    }
    Err(finding(0, "CHECKPOINT_MISMATCH", why))
}

fn since(bundle: &Bundle, ring: &Keyring, head: &SignedHead) -> Result<Option<SignedHead>, Finding> {
    let Some(since) = &bundle.since else { return Ok(None) };
    let older = self::head(&since.checkpoint, ring)?;
    if older.origin != head.origin
        || !verify_consistency(older.size, head.size, &since.proof.0, &older.root, &head.root)
    {
        let why = format!("the tree of {} is not proved to go on from the one of {}", head.size, older.size);
        return Err(finding(0, "INCONSISTENT", why));
    }
    Ok(Some(older))
}

fn kept(kept: &[KeptHead], head: &SignedHead, since: Option<&SignedHead>) -> Result<bool, Finding> {
    for wanted in kept {
        let shown = [Some(head), since].into_iter().flatten().find(|s| s.size == wanted.size);
        match shown {
            Some(shown) if shown.root == wanted.root => {}
            Some(_) => {
                let why = format!("the head kept outside over {} messages has another root", wanted.size);
                return Err(finding(0, "HEAD_MISMATCH", why));
            }
            None => {
                let why = format!(
                    "it does not show that its tree goes on from the head kept outside over {} messages; a bundle made with --since does",
                    wanted.size
                );
                return Err(finding(0, "HEAD_MISMATCH", why));
            }
        }
    }
    Ok(!kept.is_empty())
}
