//! Places that work, fail, refuse, hang; and a witness that believes us, does not, or knows better.

use super::*;
use crate::authority::outside::witness::WAIT_MAX;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use custody_contracts::canonical::hex;
use custody_contracts::events::Role;
use custody_ledger::merkle::{Frontier, Hash, leaf, verify_consistency};
use custody_ledger::{Append, Entity, Expected, Log, MemoryLog};
use custody_ports::outside::{Witness, WitnessAnswer};
use custody_testkit::fakes::ManualClock;
use custody_trust::cosign::WitnessKey;
use custody_trust::{RoleKey, note};
use futures::future::BoxFuture;
use sha2::{Digest, Sha256};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Notify, watch};

const ORIGIN: &str = "custody.test/ledger";

fn board() -> Board {
    Board::new(Arc::new(ManualClock::at(1_795_000_000_000)), Arc::new(|_| {}))
}

fn signed(size: u64) -> CheckpointSigned {
    signed_over(size, [7; 32])
}

fn signed_over(size: u64, root: Hash) -> CheckpointSigned {
    let key = RoleKey::from_seed(Role::Authority, &[1; 32]);
    let note = note::sign(&key, ORIGIN, size, &root);
    CheckpointSigned { origin: ORIGIN.into(), size, root: STANDARD.encode(root), note }
}

/// A place that does what its script says, and then works.
struct Scripted {
    every: u64,
    script: Mutex<Vec<OutsideError>>,
    got: Mutex<Vec<u64>>,
    hangs: bool,
    done: Notify,
}

impl Scripted {
    fn new(every: u64, script: Vec<OutsideError>) -> Arc<Scripted> {
        Self::made(every, script, false)
    }
    fn made(every: u64, script: Vec<OutsideError>, hangs: bool) -> Arc<Scripted> {
        let script = Mutex::new(script);
        Arc::new(Scripted { every, script, got: Mutex::default(), hangs, done: Notify::new() })
    }
    fn got(&self) -> Vec<u64> {
        self.got.lock().unwrap().clone()
    }
}

impl Outside for Scripted {
    fn name(&self) -> &str {
        "place"
    }
    fn every(&self) -> u64 {
        self.every
    }
    fn put<'a>(&'a self, signed: &'a CheckpointSigned) -> BoxFuture<'a, Result<(), OutsideError>> {
        Box::pin(async move {
            if self.hangs {
                std::future::pending::<()>().await;
            }
            let next = self.script.lock().unwrap().pop();
            if let Some(error) = next {
                return Err(error);
            }
            self.got.lock().unwrap().push(signed.size);
            self.done.notify_one();
            Ok(())
        })
    }
}

fn gone() -> OutsideError {
    OutsideError::Unavailable("gone".into())
}

async fn until(board: &Board, met: impl Fn(&Standing) -> bool) -> Standing {
    loop {
        if let Some(standing) = board.standings().into_iter().find(&met) {
            return standing;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_that_fails_is_tried_again_and_told() {
    let (place, board, cancel) = (Scripted::new(1, vec![gone(), gone()]), board(), CancellationToken::new());
    let (copies, _tasks) = Copies::start(vec![place.clone()], board.clone(), &cancel);
    copies.give(&signed(5));
    let standing = until(&board, |s| s.sent == 1).await;
    assert_eq!((standing.failed, standing.dropped, standing.size, standing.error), (2, 0, 5, None));
    assert_eq!((place.got(), standing.at), (vec![5], Some(1_795_000_000_000)));
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_is_given_up_after_the_last_try_and_the_next_one_gets_there() {
    let failures = vec![gone(); TRIES_MAX as usize];
    let (place, board, cancel) = (Scripted::new(1, failures), board(), CancellationToken::new());
    let (copies, _tasks) = Copies::start(vec![place.clone()], board.clone(), &cancel);
    copies.give(&signed(5));
    copies.give(&signed(9));
    let standing = until(&board, |s| s.sent == 1).await;
    assert_eq!((standing.failed, standing.dropped, place.got()), (u64::from(TRIES_MAX), 1, vec![9]));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_an_alarm_and_not_tried_again() {
    let script = vec![OutsideError::Refused("no".into())];
    let (place, board, cancel) = (Scripted::new(1, script), board(), CancellationToken::new());
    let (copies, _tasks) = Copies::start(vec![place.clone()], board.clone(), &cancel);
    copies.give(&signed(5));
    let standing = until(&board, |s| s.refused == 1).await;
    assert_eq!((standing.failed, standing.sent, standing.error.as_deref()), (0, 0, Some("no")));
}

#[tokio::test(start_paused = true)]
async fn a_place_that_hangs_holds_nobody_up_and_its_queue_has_an_end() {
    let (stuck, board, cancel) = (Scripted::made(1, vec![], true), board(), CancellationToken::new());
    let (copies, _tasks) = Copies::start(vec![stuck], board.clone(), &cancel);
    tokio::task::yield_now().await;
    // One is being tried once the task has run; the queue takes its maximum besides.
    copies.give(&signed(1));
    tokio::task::yield_now().await;
    for size in 0..WAITING_MAX as u64 {
        copies.give(&signed(2 + size));
    }
    assert_eq!(board.standings()[0].dropped, 0, "the queue takes {WAITING_MAX}");
    copies.give(&signed(1_000));
    assert_eq!(board.standings()[0].dropped, 1, "and one more is dropped at once");
}

#[tokio::test(start_paused = true)]
async fn a_place_that_wants_few_gets_the_first_every_so_many_and_the_last_at_the_end() {
    let (place, board, cancel) = (Scripted::new(3, vec![]), board(), CancellationToken::new());
    let (copies, tasks) = Copies::start(vec![place.clone()], board.clone(), &cancel);
    for size in 1..=5 {
        copies.give(&signed(size));
    }
    until(&board, |s| s.size == 4).await;
    // As at an orderly stop: told to stop, one more is signed, and nobody hands out more.
    cancel.cancel();
    copies.give(&signed(6));
    drop(copies);
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(place.got(), [1, 4, 6]);
}

/// A witness as C2SP describes it.
struct Honest {
    key: RoleKey,
    seen: Mutex<(u64, Hash)>,
    asked: AtomicU64,
    answers: Mutex<Vec<WitnessAnswer>>,
}

const NAME: &str = "witness.test/w";

impl Honest {
    fn new(seen: u64, root: Hash) -> Arc<Honest> {
        let key = RoleKey::from_seed(Role::Runtime, &[9; 32]);
        Arc::new(Honest { key, seen: Mutex::new((seen, root)), asked: AtomicU64::new(0), answers: Mutex::default() })
    }
    fn hash(&self) -> Vec<u8> {
        Sha256::digest([NAME.as_bytes(), b"\n\x04", self.key.verifying().as_bytes()].concat())[..4].to_vec()
    }
    fn public(&self) -> WitnessKey {
        let raw = [b"\x04", self.key.verifying().as_bytes().as_slice()].concat();
        WitnessKey::parse(&format!("{NAME}+{}+{}", hex(&self.hash()), STANDARD.encode(raw))).unwrap()
    }
    fn judge(&self, request: &str) -> WitnessAnswer {
        let (head, text) = request.split_once("\n\n").unwrap();
        let mut lines = head.lines();
        let old: u64 = lines.next().unwrap().strip_prefix("old ").unwrap().parse().unwrap();
        let proof: Vec<Hash> = lines.map(|l| STANDARD.decode(l).unwrap().try_into().unwrap()).collect();
        let log = RoleKey::from_seed(Role::Authority, &[1; 32]);
        let Ok(head) = note::open(text, &log.verifying()) else {
            return WitnessAnswer::Refused { status: 403, detail: "signature".into() };
        };
        let mut seen = self.seen.lock().unwrap();
        if old != seen.0 {
            return WitnessAnswer::Conflict(seen.0);
        }
        if old > 0 && !verify_consistency(old, head.size, &proof, &seen.1, &head.root) {
            return WitnessAnswer::Refused { status: 422, detail: "proof".into() };
        }
        *seen = (head.size, head.root);
        let body = note::body(ORIGIN, head.size, &head.root);
        let signature = self.key.sign(format!("cosignature/v1\ntime 7\n{body}").as_bytes());
        let raw = [self.hash(), 7u64.to_be_bytes().to_vec(), signature.to_vec()].concat();
        WitnessAnswer::Cosigned(format!("\u{2014} {NAME} {}\n", STANDARD.encode(raw)))
    }
}

impl Witness for Honest {
    fn add(&self, request: String) -> BoxFuture<'_, Result<WitnessAnswer, OutsideError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let scripted = self.answers.lock().unwrap().pop();
        let answer = scripted.unwrap_or_else(|| self.judge(&request));
        Box::pin(async move { Ok(answer) })
    }
}

/// A log of so many messages, and its tree.
async fn log(n: u64, salt: &str) -> (Arc<MemoryLog>, Frontier) {
    let (log, mut tree) = (MemoryLog::new(), Frontier::default());
    for i in 0..n {
        let bytes = format!("{salt}{i}").into_bytes();
        tree.push(leaf(&bytes));
        let entity = Entity::parse(&format!("ledger.run.r-{i}")).unwrap();
        log.append(Append { entity, expected: Expected::NEW, message_id: i.to_string(), bytes }).await.unwrap();
    }
    (Arc::new(log), tree)
}

async fn head(n: u64, salt: &str) -> CheckpointSigned {
    signed_over(n, log(n, salt).await.1.root())
}

struct Fed {
    board: Board,
    newest: watch::Sender<Option<CheckpointSigned>>,
    kept: Arc<Mutex<Vec<(u64, String)>>>,
    cancel: CancellationToken,
}

async fn fed(log: Arc<MemoryLog>, witness: &Arc<Honest>) -> Fed {
    let (newest, reader) = watch::channel(None);
    let (board, kept, cancel) = (board(), Arc::<Mutex<Vec<(u64, String)>>>::default(), CancellationToken::new());
    let keep = kept.clone();
    let watched = Watched {
        key: witness.public(),
        peer: witness.clone(),
        every: Duration::from_secs(1),
        keep: Arc::new(move |size, note: &str| keep.lock().unwrap().push((size, note.to_owned()))),
    };
    tokio::spawn(feed(log, watched, reader, board.clone(), cancel.clone()));
    Fed { board, newest, kept, cancel }
}

#[tokio::test(start_paused = true)]
async fn a_witness_cosigns_checkpoint_after_checkpoint_and_the_notes_are_kept() {
    let witness = Honest::new(0, [0; 32]);
    let fed = fed(log(40, "m").await.0, &witness).await;
    for size in [3, 17, 40] {
        fed.newest.send(Some(head(size, "m").await)).unwrap();
        until(&fed.board, |s| s.size == size).await;
    }
    let kept = fed.kept.lock().unwrap().clone();
    assert_eq!(kept.iter().map(|k| k.0).collect::<Vec<_>>(), [3, 17, 40]);
    assert!(kept.iter().all(|(_, note)| witness.public().on(note).is_some()));
    assert_eq!(witness.asked.load(Ordering::SeqCst), 3, "nothing was asked twice");
    fed.cancel.cancel();
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_the_witness_says_where_it_is_and_is_gone_on_with() {
    let witness = Honest::new(17, log(17, "m").await.1.root());
    let fed = fed(log(40, "m").await.0, &witness).await;
    fed.newest.send(Some(head(40, "m").await)).unwrap();
    let standing = until(&fed.board, |s| s.size == 40).await;
    assert_eq!((standing.refused, witness.asked.load(Ordering::SeqCst)), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_was_replaced_is_refused_by_its_witness() {
    let witness = Honest::new(17, log(17, "other").await.1.root());
    let fed = fed(log(40, "m").await.0, &witness).await;
    fed.newest.send(Some(head(40, "m").await)).unwrap();
    let standing = until(&fed.board, |s| s.refused > 0).await;
    assert!(standing.error.unwrap().contains("status 422"));
    assert!(fed.kept.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_log_that_was_cut_is_known_to_its_witness() {
    let witness = Honest::new(40, log(40, "m").await.1.root());
    let fed = fed(log(17, "m").await.0, &witness).await;
    fed.newest.send(Some(head(17, "m").await)).unwrap();
    let standing = until(&fed.board, |s| s.refused > 0).await;
    assert!(standing.error.unwrap().starts_with("WITNESS_AHEAD"));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_not_the_signed_one_is_not_even_shown() {
    let witness = Honest::new(0, [0; 32]);
    let fed = fed(log(17, "m").await.0, &witness).await;
    fed.newest.send(Some(head(17, "other").await)).unwrap();
    let standing = until(&fed.board, |s| s.refused > 0).await;
    assert!(standing.error.unwrap().starts_with("LOG_CHANGED"));
    assert_eq!(witness.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_cosignature_of_the_witness_is_not_kept() {
    let witness = Honest::new(0, [0; 32]);
    let forged = WitnessAnswer::Cosigned("\u{2014} witness.test/w AAAA\n".into());
    witness.answers.lock().unwrap().push(forged);
    let fed = fed(log(17, "m").await.0, &witness).await;
    fed.newest.send(Some(head(17, "m").await)).unwrap();
    let standing = until(&fed.board, |s| s.refused > 0).await;
    assert!(standing.error.unwrap().starts_with("BAD_COSIGNATURE"));
    // It is asked again, and its honest answer is kept.
    until(&fed.board, |s| s.size == 17).await;
    assert_eq!(fed.kept.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_witness_that_refuses_is_asked_again_ever_more_seldom_but_never_less_than_the_maximum() {
    let witness = Honest::new(0, [0; 32]);
    let refusal = WitnessAnswer::Refused { status: 403, detail: "unknown".into() };
    witness.answers.lock().unwrap().extend(vec![refusal; 10_000]);
    let fed = fed(log(3, "m").await.0, &witness).await;
    fed.newest.send(Some(head(3, "m").await)).unwrap();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let asked = witness.asked.load(Ordering::SeqCst);
    let least = 3_600 / WAIT_MAX.as_secs();
    assert!((least..least + 12).contains(&asked), "{asked} in an hour");
}
