//! Feeds one witness: the newest checkpoint with the proof that it goes on from what the witness saw last, and its
//! cosignature back. Must never ask a witness to sign a tree that is not the one in the log, and never take for a
//! cosignature what the witness's key did not sign.

use super::Board;
use custody_contracts::events::CheckpointSigned;
use custody_ledger::merkle::{Frontier, Prover, leaf};
use custody_ledger::{Log, LogError, Seq};
use custody_ports::outside::{OutsideError, Witness, WitnessAnswer};
use custody_trust::cosign::{self, WitnessKey};
use custody_trust::note;
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The longest wait between two tries at a witness that is gone or refuses.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(300);

/// Where a cosigned checkpoint is kept: its size and its note.
pub(super) type Keep = Arc<dyn Fn(u64, &str) + Send + Sync>;

/// A witness that is fed.
#[derive(Clone)]
pub struct Watched {
    /// Its key.
    pub key: WitnessKey,
    /// How it is reached.
    pub peer: Arc<dyn Witness>,
    /// The least time between two checkpoints that it gets.
    pub every: Duration,
    /// Who gets the notes with its cosignature: size and note.
    pub keep: Keep,
}

/// What came of one try.
enum Came {
    /// It signed; the tree is the one that it signed.
    Signed(Frontier, String),
    /// It saw another size last.
    Saw(u64),
    /// Nobody answered.
    Gone(String),
    /// It refused, or what it said is not its signature.
    Refused(String),
}

/// Runs until cancelled or until nobody signs checkpoints any more.
pub async fn feed(
    log: Arc<dyn Log>,
    watched: Watched,
    mut newest: watch::Receiver<Option<CheckpointSigned>>,
    board: Board,
    cancel: CancellationToken,
) {
    let name = format!("witness {}", watched.key.name());
    board.note(&name, |_| {});
    let mut tree = Frontier::default();
    let mut wait = watched.every;
    loop {
        let signed = newest.borrow_and_update().clone().filter(|signed| signed.size > tree.size());
        if let Some(signed) = signed {
            let came = tokio::select! {
                () = cancel.cancelled() => return,
                came = go_on(log.as_ref(), &watched, &mut tree, &signed) => came,
            };
            wait = match came {
                Ok(Came::Signed(grown, note)) => {
                    tree = grown;
                    (watched.keep)(signed.size, &note);
                    board.there(&name, signed.size);
                    watched.every
                }
                Ok(Came::Saw(size)) => {
                    let why = format!(
                        "WITNESS_AHEAD: it has seen {size} messages of this log, which has {}: the log was cut or replaced",
                        signed.size
                    );
                    board.refused(&name, &why);
                    longer(wait)
                }
                Ok(Came::Refused(why)) => {
                    board.refused(&name, &why);
                    longer(wait)
                }
                Ok(Came::Gone(why)) => {
                    board.failed(&name, &why);
                    longer(wait)
                }
                Err(error) => {
                    board.failed(&name, &format!("the log cannot be read for its proof: {error}"));
                    longer(wait)
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            continue;
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = newest.changed() => if changed.is_err() { return },
        }
    }
}

fn longer(wait: Duration) -> Duration {
    (wait * 2).clamp(super::WAIT_MIN, WAIT_MAX)
}

/// One checkpoint; once more when the witness saw another size than we thought.
async fn go_on(
    log: &dyn Log,
    watched: &Watched,
    tree: &mut Frontier,
    signed: &CheckpointSigned,
) -> Result<Came, LogError> {
    match ask(log, watched, tree, signed).await? {
        Came::Saw(size) if size <= signed.size && size != tree.size() => {
            *tree = tree_of(log, size).await?;
            ask(log, watched, tree, signed).await
        }
        came => Ok(came),
    }
}

async fn ask(log: &dyn Log, watched: &Watched, tree: &Frontier, signed: &CheckpointSigned) -> Result<Came, LogError> {
    let old_size = tree.size();
    let mut prover = Prover::going_on(tree.clone(), signed.size);
    prover.want_consistency(old_size);
    let mut messages = log.read(Seq(old_size + 1)).await?;
    while prover.root().is_none()
        && let Some(stored) = messages.next().await
    {
        prover.push(leaf(&stored?.bytes));
    }
    let same = note::read(&signed.note).is_ok_and(|head| Some(head.root) == prover.root());
    let Some(proof) = prover.consistency(old_size).filter(|_| same) else {
        let why = format!("LOG_CHANGED: the tree over {} messages is not the one that was signed", signed.size);
        return Ok(Came::Refused(why));
    };
    let request = cosign::request(old_size, &proof, &signed.note);
    let late = Err(OutsideError::Unavailable(format!("no answer within {} s", super::TRY_TIME.as_secs())));
    Ok(match tokio::time::timeout(super::TRY_TIME, watched.peer.add(request)).await.unwrap_or(late) {
        Ok(WitnessAnswer::Cosigned(lines)) => match cosign::cosigned(&signed.note, &lines, &watched.key) {
            Ok(note) => Came::Signed(prover.into_frontier(), note),
            Err(error) => Came::Refused(format!("BAD_COSIGNATURE: {error}")),
        },
        Ok(WitnessAnswer::Conflict(size)) => Came::Saw(size),
        Ok(WitnessAnswer::Refused { status, detail }) => {
            Came::Refused(format!("WITNESS_REFUSED: status {status}: {detail}"))
        }
        Err(OutsideError::Refused(why)) => Came::Refused(why),
        Err(OutsideError::Unavailable(why)) => Came::Gone(why),
    })
}

/// The tree over the first messages.
async fn tree_of(log: &dyn Log, size: u64) -> Result<Frontier, LogError> {
    let mut tree = Frontier::default();
    let mut messages = log.read(Seq(1)).await?;
    while tree.size() < size
        && let Some(stored) = messages.next().await
    {
        tree.push(leaf(&stored?.bytes));
    }
    Ok(tree)
}
