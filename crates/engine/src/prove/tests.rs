//! Proofs of single effects over a log in memory: whole chains, keys, sizes, and what cannot be proved.

use super::*;
use custody_contracts::envelope::Meta;
use custody_contracts::events::{KeyEvent, KeyIntroduced, Role, TYPES};
use custody_ledger::merkle::Frontier;
use custody_ledger::recorded::encode;
use custody_ledger::{Append, Expected, MemoryLog, Sign};
use custody_trust::RoleKey;
use rstest::rstest;
use std::path::Path;

const ORIGIN: &str = "custody.test/ledger";

fn key(role: Role) -> RoleKey {
    RoleKey::from_seed(role, &[role as u8 + 1; 32])
}

fn golden(shape: &str) -> LedgerEvent {
    let path = format!("../../contracts/ledger.v2/golden/{shape}.minimal.json");
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    LedgerEvent::decode(TYPES.iter().find(|(_, s)| *s == shape).unwrap().0, &text).unwrap()
}

fn introduced(role: Role) -> LedgerEvent {
    let key = key(role);
    LedgerEvent::Key(KeyEvent::Introduced(KeyIntroduced {
        kid: key.kid().into(),
        role,
        public_key: key.public_hex(),
        instance: "test".into(),
    }))
}

async fn say(log: &MemoryLog, role: Role, id: &str, event: LedgerEvent, chain: bool) {
    let entity = Entity::new(event.kind(), id).unwrap();
    let text = |t: &str| chain.then(|| t.to_owned());
    let meta = Meta {
        time: "2026-11-22T21:00:00.000Z".into(),
        subject: text("u_jane"),
        launcher: text("web-chat"),
        correlation: text("d-7f3a"),
        ..Meta::default()
    };
    let expected = Expected::after(&log.load(&entity).await.unwrap());
    let message_id = format!("m{}", log.messages().len());
    let bytes = encode(&key(role), &message_id, &[event], &meta).unwrap();
    log.append(Append { entity, expected, message_id, bytes }).await.unwrap();
}

fn tree(log: &MemoryLog) -> Frontier {
    let mut tree = Frontier::default();
    log.messages().iter().for_each(|m| tree.push(leaf(&m.bytes)));
    tree
}

async fn checkpoint(log: &MemoryLog) -> String {
    let tree = tree(log);
    let note = note::sign(&key(Role::Authority), ORIGIN, tree.size(), &tree.root());
    let root = note.lines().nth(2).unwrap().to_owned();
    let signed = CheckpointSigned { origin: ORIGIN.into(), size: tree.size(), root, note: note.clone() };
    say(log, Role::Authority, "log", LedgerEvent::Checkpoint(CheckpointEvent::Signed(signed)), false).await;
    note
}

/// Keys 1 to 3, launcher 4, another 5, checkpoint 6 (over 5), the dispatch 7 to 13, checkpoint 14 (over 13).
async fn log() -> MemoryLog {
    let log = MemoryLog::new();
    for role in [Role::Authority, Role::Runtime, Role::Gateway] {
        say(&log, Role::Authority, key(role).kid(), introduced(role), false).await;
    }
    say(&log, Role::Authority, "web-chat", golden("LauncherRegistered"), false).await;
    say(&log, Role::Authority, "other", golden("LauncherRotated"), false).await;
    checkpoint(&log).await;
    say(&log, Role::Authority, "d-7f3a", golden("DispatchAdmitted"), true).await;
    say(&log, Role::Runtime, "d-7f3a", golden("RunClaimed"), true).await;
    say(&log, Role::Runtime, "d-7f3a", golden("RunStarted"), true).await;
    say(&log, Role::Gateway, "d-7f3a-t1", golden("ToolIntended"), true).await;
    say(&log, Role::Gateway, "d-7f3a-t1", golden("ToolFinished"), true).await;
    say(&log, Role::Gateway, "d-7f3a-m1", golden("ModelCalled"), true).await;
    say(&log, Role::Runtime, "d-7f3a", golden("RunFinished"), true).await;
    checkpoint(&log).await;
    log
}

async fn ask(log: &MemoryLog, focus: u64, whole: bool) -> Ask {
    let messages = log.messages();
    let of_dispatch = messages[6..13].to_vec();
    let messages = if (7..=13).contains(&focus) { of_dispatch } else { vec![messages[focus as usize - 1].clone()] };
    Ask { focus, messages, whole, since: None, launch: None, under: None }
}

#[rstest]
#[case::an_outcome(11, false, &[1, 2, 3, 4, 7, 8, 9, 10, 11])]
#[case::an_intent_brings_its_outcome(10, false, &[1, 2, 3, 4, 7, 8, 9, 10, 11])]
#[case::a_model_call(12, false, &[1, 2, 3, 4, 7, 8, 9, 12])]
#[case::the_admission(7, false, &[1, 4, 7])]
#[case::the_end_of_the_run(13, false, &[1, 2, 4, 7, 8, 9, 13])]
#[case::the_whole_dispatch(13, true, &[1, 2, 3, 4, 7, 8, 9, 10, 11, 12, 13])]
#[case::a_launcher(4, false, &[1, 4])]
#[case::a_key(2, false, &[1, 2])]
#[tokio::test]
async fn a_bundle_holds_what_stands_behind_the_event_and_no_more(
    #[case] focus: u64,
    #[case] whole: bool,
    #[case] expected: &[u64],
) {
    let log = log().await;
    let (bundle, proved) = prove(&log, ask(&log, focus, whole).await).await.unwrap();
    assert_eq!(bundle.entries.iter().map(|e| e.seq).collect::<Vec<_>>(), expected);
    assert_eq!((proved.focus, proved.size), (focus, 13));
    assert_eq!(verify(&bundle, &Demands::default()), Ok(proved));
}

#[tokio::test]
async fn an_older_checkpoint_is_proved_to_be_gone_on_from() {
    let log = log().await;
    let kept = checkpoint_of(&log, 6);
    let ask = Ask { since: Some(kept.clone()), ..ask(&log, 11, false).await };
    let (bundle, proved) = prove(&log, ask).await.unwrap();
    assert_eq!(proved.since, Some(5));
    assert_eq!(bundle.since.map(|s| s.checkpoint), Some(kept));
}

fn checkpoint_of(log: &MemoryLog, seq: usize) -> String {
    match Recorded::read(&log.messages()[seq - 1]).unwrap().remove(0).event {
        Some(LedgerEvent::Checkpoint(CheckpointEvent::Signed(signed))) => signed.note,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_older_checkpoint_of_another_log_is_not_proved_from() {
    let log = log().await;
    let forged = note::sign(&key(Role::Authority), ORIGIN, 5, &[7; 32]);
    let asked = Ask { since: Some(forged), ..ask(&log, 11, false).await };
    assert!(matches!(prove(&log, asked).await, Err(ProveError::NotGood(f)) if f.code == "INCONSISTENT"));
    let ahead = note::sign(&key(Role::Authority), ORIGIN, 99, &[7; 32]);
    for since in [ahead, "nonsense".to_owned()] {
        let asked = Ask { since: Some(since), ..ask(&log, 11, false).await };
        assert!(matches!(prove(&log, asked).await, Err(ProveError::Since(_))));
    }
}

#[tokio::test]
async fn a_log_that_is_not_the_signed_one_gives_no_bundle() {
    let honest = log().await;
    let mut messages = honest.messages();
    messages[4].bytes = messages[3].bytes.clone();
    let changed = MemoryLog::from_messages(messages);
    let error = prove(&changed, ask(&changed, 11, false).await).await.unwrap_err();
    assert!(matches!(&error, ProveError::NotGood(f) if f.code == "NOT_INCLUDED"), "{error}");
}

#[tokio::test]
async fn a_checkpoint_that_is_named_is_proved_under_when_it_covers_the_event() {
    let log = log().await;
    say(&log, Role::Authority, "third", golden("LauncherRotated"), false).await;
    let newest = checkpoint(&log).await;
    let named = checkpoint_of(&log, 14) + "\u{2014} witness.test/w AAAA\n";
    for (under, size) in [(named.clone(), 13), (checkpoint_of(&log, 6), 15), (newest, 15), ("nonsense".into(), 15)] {
        let asked = Ask { under: Some(under), ..ask(&log, 11, false).await };
        assert_eq!(prove(&log, asked).await.unwrap().1.size, size);
    }
    let asked = Ask { under: Some(named.clone()), ..ask(&log, 11, false).await };
    assert_eq!(prove(&log, asked).await.unwrap().0.checkpoint, named, "with what stands on it");
}

#[tokio::test]
async fn a_launch_that_is_not_the_admitted_one_is_left_out() {
    let log = log().await;
    let asked = Ask { launch: Some("another".into()), ..ask(&log, 7, false).await };
    assert_eq!(prove(&log, asked).await.unwrap().0.launch, None);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_no_checkpoint_covers_is_waited_for_and_then_not_proved() {
    let log = log().await;
    say(&log, Role::Authority, "web-chat", golden("LauncherRotated"), false).await;
    let error = prove(&log, ask(&log, 15, false).await).await.unwrap_err();
    assert!(matches!(error, ProveError::NotCovered(15)), "{error}");
    let (coming, asked) = (log.clone(), ask(&log, 15, false).await);
    let (proved, _) = tokio::join!(prove(&log, asked), checkpoint(&coming));
    assert_eq!(proved.unwrap().1.size, 15);
}

#[tokio::test]
async fn a_dispatch_of_more_events_than_a_bundle_holds_is_refused() {
    let log = log().await;
    let mut asked = ask(&log, 13, true).await;
    let one = asked.messages[5].clone();
    asked.messages.extend((0..ENTRIES_MAX as u64).map(|n| Stored { seq: Seq(100 + n), ..one.clone() }));
    assert!(matches!(prove(&log, asked).await, Err(ProveError::TooMany(_))));
}
