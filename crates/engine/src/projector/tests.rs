//! Projections beside a log: snapshots are disposable, rebuilding gives the same digests, wrong snapshots are refused.

use super::Projector;
use custody_contracts::envelope::Meta;
use custody_contracts::events::{KeyEvent, KeyIntroduced, Kind, LedgerEvent, Role};
use custody_ledger::recorded::encode;
use custody_ledger::{Append, Entity, Expected, Log, MemoryLog, Sign};
use custody_ports::snapshots::{Checkpoint, RowChange, Snapshot, SnapshotError, Snapshots};
use custody_trust::RoleKey;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

type Held = (Checkpoint, BTreeMap<String, Vec<u8>>);

#[derive(Default)]
struct MemorySnapshots(Mutex<BTreeMap<String, Held>>);

impl Snapshots for MemorySnapshots {
    fn load(&self, name: &str) -> Result<Option<Snapshot>, SnapshotError> {
        Ok(self.0.lock().unwrap().get(name).map(|(c, rows)| (c.clone(), rows.clone().into_iter().collect())))
    }
    fn save(&self, name: &str, checkpoint: &Checkpoint, changes: Vec<RowChange>) -> Result<(), SnapshotError> {
        let mut all = self.0.lock().unwrap();
        let (held, rows) = all.entry(name.to_owned()).or_insert_with(|| (checkpoint.clone(), BTreeMap::new()));
        *held = checkpoint.clone();
        for (key, value) in changes {
            match value {
                Some(bytes) => rows.insert(key, bytes),
                None => rows.remove(&key),
            };
        }
        Ok(())
    }
    fn wipe(&self, name: &str) -> Result<(), SnapshotError> {
        self.0.lock().unwrap().remove(name);
        Ok(())
    }
}

async fn append_keys(log: &MemoryLog, seeds: std::ops::Range<u8>) {
    let authority = RoleKey::from_seed(Role::Authority, &[0; 32]);
    for seed in seeds {
        let key = RoleKey::from_seed(Role::Authority, &[seed; 32]);
        let event = KeyIntroduced {
            kid: key.kid().into(),
            role: Role::Authority,
            public_key: key.public_hex(),
            instance: "i".into(),
        };
        let entity = Entity::new(Kind::Key, key.kid()).unwrap();
        let events = [LedgerEvent::Key(KeyEvent::Introduced(event))];
        let bytes = encode(&authority, &format!("c-{seed}"), &events, &Meta::default()).unwrap();
        let message_id = format!("m-{seed}");
        log.append(Append { entity, expected: Expected::NEW, message_id, bytes }).await.unwrap();
    }
}

async fn folded(log: &MemoryLog, store: &Arc<MemorySnapshots>, seq: u64) -> Vec<super::ProjectionFacts> {
    let projector = Projector::open(Arc::new(log.clone()), store.clone()).await.unwrap();
    let cancel = CancellationToken::new();
    let task = tokio::spawn(projector.clone().run(cancel.clone()));
    assert!(projector.caught_up(seq, Duration::from_secs(10)).await);
    let facts = projector.facts();
    for verified in projector.verify().await.unwrap() {
        assert!(verified.equal, "{verified:?}");
    }
    cancel.cancel();
    task.await.unwrap().unwrap();
    facts
}

#[tokio::test]
async fn a_projection_that_goes_on_from_a_snapshot_equals_one_folded_from_nothing() {
    let (log, store) = (MemoryLog::new(), Arc::new(MemorySnapshots::default()));
    append_keys(&log, 0..5).await;
    folded(&log, &store, 5).await;
    append_keys(&log, 5..9).await;
    let continued = folded(&log, &store, 9).await;
    let fresh = folded(&log, &Arc::new(MemorySnapshots::default()), 9).await;
    assert_eq!(continued, fresh);
    assert!(fresh.iter().all(|f| f.seq == 9));
}

#[tokio::test]
async fn snapshots_of_another_log_version_or_future_are_thrown_away() {
    let log = MemoryLog::new();
    append_keys(&log, 0..3).await;
    let good = folded(&log, &Arc::new(MemorySnapshots::default()), 3).await;
    for spoil in [
        (|c: &mut Checkpoint| c.genesis = "sha256:other".into()) as fn(&mut Checkpoint),
        |c| c.version += 1,
        |c| c.seq = 1_000,
    ] {
        let store = Arc::new(MemorySnapshots::default());
        folded(&log, &store, 3).await;
        for (checkpoint, rows) in store.0.lock().unwrap().values_mut() {
            spoil(checkpoint);
            rows.insert("total/nonsense".into(), b"{\"count\":7}".to_vec());
        }
        assert_eq!(folded(&log, &store, 3).await, good);
    }
}

#[tokio::test]
async fn rebuild_replaces_a_row_that_was_changed_from_outside() {
    let (log, store) = (MemoryLog::new(), Arc::new(MemorySnapshots::default()));
    append_keys(&log, 0..3).await;
    let good = folded(&log, &store, 3).await;
    if let Some((_, rows)) = store.0.lock().unwrap().get_mut("audit") {
        rows.insert("total/nonsense".into(), b"{\"count\":7}".to_vec());
    }
    let projector = Projector::open(Arc::new(log.clone()), store.clone()).await.unwrap();
    let unequal: Vec<_> = projector.verify().await.unwrap().into_iter().filter(|v| !v.equal).map(|v| v.name).collect();
    assert_eq!(unequal, ["audit"], "verify sees what is wrong");
    let rebuilt = projector.rebuild("audit").await.unwrap().unwrap();
    assert_eq!(Some(&rebuilt), good.iter().find(|f| f.name == "audit"));
    assert!(projector.rebuild("nothing").await.unwrap().is_none());
}
