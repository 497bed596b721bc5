//! Makes proof bundles out of the ledger: gathers what stands behind an event, reads the tree once, and hands out only
//! what its own verifier takes. Must never make a bundle of a log whose tree is not the one that was signed.

use custody_contracts::canonical::digest;
use custody_contracts::events::{CheckpointEvent, CheckpointSigned, DispatchEvent, EffectEvent, Kind, LedgerEvent};
use custody_contracts::grant::GrantEvent;
use custody_contracts::token::TokenEvent;
use custody_ledger::merkle::{Prover, leaf};
use custody_ledger::{Entity, Log, LogError, Recorded, Seq, Stored};
use custody_trust::note::{self, Hashes};
use custody_trust::proof::{Bundle, Demands, ENTRIES_MAX, Entry, Proved, SCHEMA, Since, verify};
use custody_trust::verify::Finding;
use futures::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a checkpoint over an event that was just appended is waited for; the notary signs within a second.
pub const CHECKPOINT_WAIT: Duration = Duration::from_secs(10);
/// How many messages before the end are looked at for the newest checkpoint: one is signed at least every 256.
const LOOK_BACK: u64 = 2_000;

/// What is to be proved.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The event.
    pub focus: u64,
    /// Every message of its dispatch, or the event's own message when it has none.
    pub messages: Vec<Stored>,
    /// Whether the whole dispatch is proved, or the one event with what stands behind it.
    pub whole: bool,
    /// An older checkpoint, a signed note, from which the tree is proved to go on.
    pub since: Option<String>,
    /// What the launcher published, when it is still there.
    pub launch: Option<String>,
    /// The checkpoint to prove under, a signed note, for example one that a witness cosigned; when it covers too little, or
    /// there is none, the newest of the log is taken.
    pub under: Option<String>,
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// No checkpoint covers the event yet.
    #[error("no signed checkpoint over sequence {0} came in time")]
    NotCovered(u64),
    /// The older checkpoint is no note, or is larger than the newest one.
    #[error("the older checkpoint cannot be proved from: {0}")]
    Since(String),
    /// More events than a bundle holds.
    #[error("{0} events are more than a bundle holds ({ENTRIES_MAX}); prove one event of the dispatch instead")]
    TooMany(usize),
    /// The log is not what was signed, or the chain is not whole.
    #[error("sequence {}: {}: {}", .0.seq, .0.code, .0.message)]
    NotGood(Finding),
}

/// The newest checkpoint over at least `needed` messages: from the end of the log, or the next one to come.
///
/// # Errors
/// [`ProveError::NotCovered`] after [`CHECKPOINT_WAIT`], [`ProveError::Log`].
pub async fn head_over(log: &dyn Log, needed: Seq) -> Result<CheckpointSigned, ProveError> {
    let last = log.last_seq().await?;
    let from = Seq(last.0.saturating_sub(LOOK_BACK) + 1);
    let newest = |stored: &Stored| -> Option<CheckpointSigned> {
        if !stored.log_subject.starts_with("ledger.checkpoint.") {
            return None;
        }
        let read = Recorded::read(stored).unwrap_or_default().into_iter().rev();
        read.filter_map(|r| match r.event {
            Some(LedgerEvent::Checkpoint(CheckpointEvent::Signed(signed))) => Some(signed),
            _ => None,
        })
        .find(|signed| signed.size >= needed.0)
    };
    let mut found = None;
    let mut messages = log.read(from).await?;
    while let Some(stored) = messages.next().await {
        found = newest(&stored?).or(found);
    }
    if let Some(found) = found {
        return Ok(found);
    }
    let coming = async {
        let mut messages = log.tail(from).await?;
        while let Some(stored) = messages.next().await {
            if let Some(signed) = newest(&stored?) {
                return Ok(signed);
            }
        }
        Err(ProveError::NotCovered(needed.0))
    };
    tokio::time::timeout(CHECKPOINT_WAIT, coming).await.unwrap_or(Err(ProveError::NotCovered(needed.0)))
}

/// Makes the bundle and verifies it. Reads the log once from its beginning to the checkpoint.
///
/// # Errors
/// [`ProveError`].
pub async fn prove(log: &dyn Log, ask: Ask) -> Result<(Bundle, Proved), ProveError> {
    let picked = gather(log, &ask).await?;
    if picked.len() > ENTRIES_MAX {
        return Err(ProveError::TooMany(picked.len()));
    }
    let last = picked.keys().next_back().copied().unwrap_or(ask.focus);
    let (checkpoint, size) = match ask.under.and_then(|text| Some((note::read(&text).ok()?.size, text))) {
        Some((size, text)) if size >= last => (text, size),
        _ => head_over(log, Seq(last)).await.map(|head| (head.note, head.size))?,
    };
    let mut prover = Prover::new(size);
    for seq in picked.keys() {
        prover.want_inclusion(seq - 1);
    }
    let since = ask.since.as_deref().map(|text| older(text, size)).transpose()?;
    if let Some(older) = since {
        prover.want_consistency(older);
    }
    let mut messages = log.read(Seq(1)).await?;
    while let Some(stored) = messages.next().await {
        let stored = stored?;
        if stored.seq.0 > size {
            break;
        }
        prover.push(leaf(&stored.bytes));
    }
    let broken = |seq: u64| LogError::Broken { seq, why: "it is not there to be proved".into() };
    let entry = |(seq, stored): (&u64, &Stored)| {
        prover.inclusion(seq - 1).and_then(|path| Entry::of(stored, path)).ok_or_else(|| broken(*seq))
    };
    let since = match (since, ask.since) {
        (Some(older), Some(checkpoint)) => {
            let path = prover.consistency(older).ok_or_else(|| broken(older))?;
            Some(Since { checkpoint, proof: Hashes(path) })
        }
        _ => None,
    };
    let launch = ask.launch.filter(|text| is_admitted(&picked, text));
    let bundle = Bundle {
        schema: SCHEMA.into(),
        focus: ask.focus,
        checkpoint,
        entries: picked.iter().map(entry).collect::<Result<_, _>>()?,
        since,
        launch,
    };
    let proved = verify(&bundle, &Demands::default()).map_err(ProveError::NotGood)?;
    Ok((bundle, proved))
}

/// Whether this is the launch that the admission names: its stream may have been made anew since.
fn is_admitted(picked: &BTreeMap<u64, Stored>, launch: &str) -> bool {
    picked.values().flat_map(|m| Recorded::read(m).unwrap_or_default()).any(|one| match one.event {
        Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) => e.launch.digest == digest(launch.as_bytes()),
        _ => false,
    })
}

/// How many leaves an older checkpoint covers.
fn older(text: &str, size: u64) -> Result<u64, ProveError> {
    let head = note::read(text).map_err(|e| ProveError::Since(e.to_string()))?;
    if head.size > size {
        return Err(ProveError::Since(format!("it covers {} messages, the newest checkpoint {size}", head.size)));
    }
    Ok(head.size)
}

/// The messages of the bundle by sequence.
async fn gather(log: &dyn Log, ask: &Ask) -> Result<BTreeMap<u64, Stored>, ProveError> {
    let mut picked = BTreeMap::new();
    let about = ask.messages.iter().find(|m| m.seq.0 == ask.focus).map(|m| m.log_subject.clone());
    let tokens = tokens_of(&ask.messages, about.as_deref());
    for stored in &ask.messages {
        if ask.whole || stored.seq.0 == ask.focus || behind(stored, ask.focus, about.as_deref(), &tokens) {
            picked.insert(stored.seq.0, stored.clone());
        }
    }
    let read: Vec<Recorded> = picked.values().flat_map(|m| Recorded::read(m).unwrap_or_default()).collect();
    let admitted = read.iter().find(|r| matches!(&r.event, Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(_)))));
    if let Some(admitted) = admitted {
        if let Some(entity) = admitted.envelope.launcher.as_ref().and_then(|id| Entity::new(Kind::Launcher, id)) {
            let before = log.load(&entity).await?.into_iter().filter(|m| m.seq < admitted.seq);
            picked.extend(before.map(|m| (m.seq.0, m)));
        }
        if let Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) = &admitted.event {
            with_grants(log, e.grant.id().map(ToString::to_string), &mut picked).await?;
        }
    }
    with_keys(log, picked).await
}

/// The tokens that were signed for an effect, and the dispatch tokens that they were exchanged for.
fn tokens_of(messages: &[Stored], about: Option<&str>) -> BTreeSet<String> {
    let effect = about.and_then(|subject| subject.strip_prefix("ledger.effect."));
    let read = messages.iter().flat_map(|stored| Recorded::read(stored).unwrap_or_default());
    read.filter_map(|one| match one.event {
        Some(LedgerEvent::Token(TokenEvent::Issued(e))) if effect.is_some() && e.txn.as_deref() == effect => {
            Some(std::iter::once(e.jti).chain(e.from))
        }
        _ => None,
    })
    .flatten()
    .collect()
}

/// Whether a message of the dispatch stands behind the event: how it was admitted, its box, the effect's own other
/// half, and the tokens that were signed for it.
fn behind(stored: &Stored, focus: u64, about: Option<&str>, tokens: &BTreeSet<String>) -> bool {
    Recorded::read(stored).unwrap_or_default().iter().any(|one| match &one.event {
        Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(_) | DispatchEvent::Refused(_))) => true,
        Some(LedgerEvent::Run(_)) => stored.seq.0 < focus,
        Some(LedgerEvent::Token(TokenEvent::Issued(e))) => tokens.contains(&e.jti),
        Some(LedgerEvent::Effect(EffectEvent::ToolIntended(_) | EffectEvent::ToolFinished(_))) => {
            about == Some(stored.log_subject.as_str())
        }
        _ => false,
    })
}

/// Adds the history of a grant, its revocation too, and of those that justify it.
async fn with_grants(
    log: &dyn Log,
    grant: Option<String>,
    picked: &mut BTreeMap<u64, Stored>,
) -> Result<(), ProveError> {
    let (mut next, mut seen) = (grant, BTreeSet::new());
    while let Some(entity) = next.take().and_then(|id| Entity::new(Kind::Grant, &id)) {
        if !seen.insert(entity.id.clone()) {
            break;
        }
        for stored in log.load(&entity).await? {
            for one in Recorded::read(&stored).unwrap_or_default() {
                if let Some(LedgerEvent::Grant(GrantEvent::Issued(e))) = one.event {
                    next = e.parent.map(|parent| parent.to_string());
                }
            }
            picked.insert(stored.seq.0, stored);
        }
    }
    Ok(())
}

/// Adds the history of every key that signed something here, and of those that signed that, down to the log's first.
async fn with_keys(log: &dyn Log, mut picked: BTreeMap<u64, Stored>) -> Result<BTreeMap<u64, Stored>, ProveError> {
    let mut first = log.read(Seq(1)).await?;
    if let Some(stored) = first.next().await {
        let stored = stored?;
        picked.insert(stored.seq.0, stored);
    }
    let mut known: BTreeSet<String> = BTreeSet::new();
    loop {
        let signers = picked.values().flat_map(|m| Recorded::read(m).unwrap_or_default()).map(|r| r.envelope.keyid);
        let fresh: BTreeSet<String> = signers.filter(|kid| !known.contains(kid)).collect();
        if fresh.is_empty() {
            return Ok(picked);
        }
        for kid in fresh {
            if let Some(entity) = Entity::new(Kind::Key, &kid) {
                picked.extend(log.load(&entity).await?.into_iter().map(|m| (m.seq.0, m)));
            }
            known.insert(kid);
        }
    }
}

#[cfg(test)]
mod tests;
