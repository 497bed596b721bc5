//! The notary: follows the ledger, keeps the tree, and signs a checkpoint every second or 256 leaves while something
//! new was appended. Each checkpoint is appended and handed to copies outside the log.

use super::meta;
use custody_contracts::canonical::derived_id;
use custody_contracts::events::{CheckpointEvent, CheckpointSigned, Kind, LedgerEvent};
use custody_domain::checkpoint::{CheckpointChain, CheckpointState};
use custody_domain::events::OfCheckpoint;
use custody_ledger::merkle::{Frontier, leaf};
use custody_ledger::recorded::encode;
use custody_ledger::{Append, AppendError, Decider, Entity, Expected, Log, LogError, Recorded, Seq, Stored};
use custody_ports::clock::Clock;
use custody_trust::{RoleKey, note};
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Leaves after which a checkpoint is signed at once.
pub const LEAVES_MAX: u64 = 256;
/// The longest that a new leaf waits for a checkpoint.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Takes each checkpoint besides the ledger. Called in the notary's loop, so it hands on and waits for nothing: see
/// [`super::outside`].
pub type CopyOutside = Arc<dyn Fn(&CheckpointSigned) + Send + Sync>;

/// Everything the notary needs.
#[derive(Clone)]
pub struct Notary {
    /// The ledger.
    pub log: Arc<dyn Log>,
    /// Authority's key.
    pub key: Arc<RoleKey>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The log's name in checkpoints.
    pub origin: String,
    /// Copies.
    pub copy: CopyOutside,
}

#[derive(Default)]
struct State {
    tree: Frontier,
    chain: CheckpointState,
    last_checkpoint: Option<Seq>,
    /// Leaves that are not checkpoints and are under no checkpoint yet.
    uncovered: u64,
    blocked: bool,
}

impl State {
    fn push(&mut self, stored: &Stored) {
        self.tree.push(leaf(&stored.bytes));
        if !stored.log_subject.starts_with("ledger.checkpoint.") {
            self.uncovered += 1;
            return;
        }
        self.last_checkpoint = Some(stored.seq);
        self.blocked = false;
        for recorded in Recorded::read(stored).unwrap_or_default() {
            if let Some(LedgerEvent::Checkpoint(event)) = recorded.event {
                let CheckpointEvent::Signed(signed) = &event;
                self.uncovered = self.uncovered.min(self.tree.size().saturating_sub(signed.size + 1));
                self.chain = CheckpointChain::evolve(std::mem::take(&mut self.chain), &OfCheckpoint(event));
            }
        }
    }
}

/// Runs until cancelled.
///
/// # Errors
/// [`LogError`] when the log is broken.
pub async fn run(notary: Notary, cancel: CancellationToken) -> Result<(), LogError> {
    let (sender, mut leaves) = mpsc::unbounded_channel();
    let reader = crate::follow::follow(notary.log.clone(), Seq(0), cancel.clone(), move |stored| {
        // The receiver lives as long as this reader.
        let _closed = sender.send(stored);
    });
    let mut state = State::default();
    let signer = async {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let due = tokio::select! {
                stored = leaves.recv() => match stored {
                    Some(stored) => { state.push(&stored); state.uncovered >= LEAVES_MAX && leaves.is_empty() }
                    None => return,
                },
                _ = tick.tick() => state.uncovered > 0 && leaves.is_empty(),
            };
            if due && !state.blocked {
                sign(&notary, &mut state).await;
            }
        }
    };
    tokio::select! {
        result = reader => result?,
        () = signer => {}
    }
    while let Ok(stored) = leaves.try_recv() {
        state.push(&stored);
    }
    // An orderly stop leaves nothing behind that no checkpoint covers: neither what the reader had not shown when it
    // was stopped, nor what came after a checkpoint that it had not shown.
    if let Err(error) = catch_up(&notary, &mut state).await {
        tracing::warn!(%error, "the end of the log cannot be read; the next start signs it");
        return Ok(());
    }
    if state.uncovered > 0 {
        sign(&notary, &mut state).await;
    }
    Ok(())
}

/// Reads from the log what the tree does not hold yet.
async fn catch_up(notary: &Notary, state: &mut State) -> Result<(), LogError> {
    let last = notary.log.last_seq().await?;
    if state.tree.size() >= last.0 {
        return Ok(());
    }
    let mut rest = notary.log.read(Seq(state.tree.size() + 1)).await?;
    while state.tree.size() < last.0
        && let Some(stored) = rest.next().await
    {
        state.push(&stored?);
    }
    Ok(())
}

async fn sign(notary: &Notary, state: &mut State) {
    let (size, root) = (state.tree.size(), state.tree.root());
    let text = note::sign(&notary.key, &notary.origin, size, &root);
    let root = text.lines().nth(2).unwrap_or_default().to_owned();
    let signed = CheckpointSigned { origin: notary.origin.clone(), size, root, note: text };
    let Ok(events) = CheckpointChain::decide(&state.chain, signed.clone()) else { return };
    let Some(entity) = Entity::new(Kind::Checkpoint, "log") else { return };
    let id = derived_id("cp-", &[&size.to_be_bytes(), signed.root.as_bytes()]);
    let events: Vec<LedgerEvent> = events.into_iter().map(Into::into).collect();
    let bytes = match encode(notary.key.as_ref(), &id, &events, &meta(notary.clock.now(), "checkpoint")) {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::error!(%error, "checkpoint cannot be encoded");
            return;
        }
    };
    let expected = state.last_checkpoint.map_or(Expected::NEW, Expected::at);
    match notary.log.append(Append { entity, expected, message_id: id, bytes }).await {
        Ok(seq) => {
            // Nothing more is signed until the reader has shown this one: its own leaf comes first.
            state.blocked = true;
            tracing::debug!(size, seq = seq.0, "checkpoint signed");
            (notary.copy)(&signed);
        }
        Err(AppendError::Conflict { .. }) => tracing::debug!(size, "another notary was first"),
        Err(error) => tracing::warn!(%error, size, "checkpoint not appended; it is tried again"),
    }
}
