//! What is sealed opens for its person's key alone, and what cannot be opened is shown as erased and stops nobody.

use super::{OpenedLog, Opener, SealedBlobs, TEXT_BYTES_MAX, seal_start};
use custody_contracts::envelope::Meta;
use custody_contracts::events::{DispatchAdmitted, DispatchEvent, LedgerEvent, Role};
use custody_contracts::ids::Subject;
use custody_contracts::sealed::{SEALED, words};
use custody_contracts::unit::{Entrypoint, Start};
use custody_ledger::recorded::encode;
use custody_ledger::{Append, Entity, Expected, Log, MemoryLog, Recorded, Seal, Seq};
use custody_ports::blobs::{BLOB_BYTES_MAX, BlobError, Blobs};
use custody_ports::subjects::{KeptSubject, SubjectKeyError, SubjectKeys};
use custody_testkit::fakes::MemoryBlobs;
use custody_trust::{RoleKey, SubjectKey};
use futures::StreamExt;
use rstest::rstest;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

/// Keys of persons in memory; `None` once destroyed.
#[derive(Default)]
pub(crate) struct MemoryKeys {
    keys: Mutex<BTreeMap<Subject, Option<Arc<SubjectKey>>>>,
    made: AtomicU8,
}

impl MemoryKeys {
    fn fresh(&self) -> Arc<SubjectKey> {
        let n = self.made.fetch_add(1, Ordering::SeqCst);
        Arc::new(SubjectKey::new([n; 8], &[n; 32]))
    }
}

impl SubjectKeys for MemoryKeys {
    fn find(&self, subject: &Subject) -> Result<Option<Arc<dyn Seal>>, SubjectKeyError> {
        let found = self.keys.lock().unwrap().get(subject).cloned().flatten();
        Ok(found.map(|key| key as Arc<dyn Seal>))
    }
    fn ensure(&self, subject: &Subject) -> Result<Arc<dyn Seal>, SubjectKeyError> {
        let mut keys = self.keys.lock().unwrap();
        let key = keys.entry(subject.clone()).or_insert_with(|| Some(self.fresh())).clone();
        key.map(|key| key as Arc<dyn Seal>).ok_or_else(|| SubjectKeyError::Erased(subject.clone()))
    }
    fn destroy(&self, subject: &Subject) -> Result<(), SubjectKeyError> {
        self.keys.lock().unwrap().insert(subject.clone(), None);
        Ok(())
    }
    fn enrol(&self, subject: &Subject) -> Result<Arc<dyn Seal>, SubjectKeyError> {
        self.keys.lock().unwrap().retain(|_, key| key.is_some());
        self.ensure(subject)
    }
    fn list(&self) -> Result<Vec<KeptSubject>, SubjectKeyError> {
        let keys = self.keys.lock().unwrap();
        let kept = |(subject, key): (&Subject, &Option<Arc<SubjectKey>>)| KeptSubject {
            subject: subject.clone(),
            kid: key.as_ref().map(|key| key.kid().to_owned()),
        };
        Ok(keys.iter().map(kept).collect())
    }
}

fn subject(text: &str) -> Subject {
    Subject::parse(text).unwrap()
}

fn stores() -> (Arc<MemoryBlobs>, Arc<MemoryKeys>, SealedBlobs) {
    let (stored, keys) = (Arc::new(MemoryBlobs::default()), Arc::new(MemoryKeys::default()));
    (stored.clone(), keys.clone(), SealedBlobs::new(stored, keys))
}

#[tokio::test]
async fn a_blob_is_stored_sealed_named_as_it_is_stored_and_gone_with_its_key() {
    let (stored, keys, blobs) = stores();
    let (jane, omar) = (subject("u_jane"), subject("u_omar"));
    let name = blobs.put(&jane, b"a secret phrase".to_vec()).await.unwrap();
    assert_eq!(blobs.put(&jane, b"a secret phrase".to_vec()).await.unwrap(), name, "the same is one blob");
    assert_eq!(blobs.name(&jane, b"a secret phrase").unwrap(), name);
    let theirs = blobs.put(&omar, b"a secret phrase".to_vec()).await.unwrap();
    assert_ne!(theirs, name, "whether two persons said the same is not told");
    assert_ne!(name, custody_contracts::canonical::digest(b"a secret phrase"), "a guess cannot be checked");
    let kept = stored.get(&name).await.unwrap();
    assert!(!kept.windows(6).any(|part| part == b"secret"));
    assert_eq!(blobs.get(&name).await.unwrap(), b"a secret phrase");
    assert_eq!(blobs.open(kept.clone()).unwrap(), b"a secret phrase");
    keys.destroy(&jane).unwrap();
    assert_eq!(blobs.get(&name).await, Err(BlobError::Erased("u_jane".into())));
    assert_eq!(blobs.put(&jane, vec![1]).await, Err(BlobError::Erased("u_jane".into())), "and nothing more is taken");
    keys.enrol(&jane).unwrap();
    assert_eq!(blobs.get(&name).await, Err(BlobError::Erased("u_jane".into())), "another key is not that key");
    assert_eq!(blobs.get(&theirs).await.unwrap(), b"a secret phrase", "of others nothing is gone");
}

#[tokio::test]
async fn what_was_stored_before_keys_is_read_as_it_is_and_what_was_changed_is_not() {
    let (stored, _, blobs) = stores();
    let jane = subject("u_jane");
    let plain = stored.put(&jane, b"from before".to_vec()).await.unwrap();
    assert_eq!(blobs.get(&plain).await.unwrap(), b"from before");
    let mut kept = blobs.seal(&jane, b"words".to_vec()).unwrap();
    *kept.last_mut().unwrap() ^= 1;
    assert!(matches!(blobs.open(kept), Err(BlobError::Corrupt(_))));
    for odd in [b"custody sealed v1 ".as_slice(), b"custody sealed v1 sk-0 ../x\n", b"custody sealed v1 \n"] {
        assert!(matches!(blobs.open(odd.to_vec()), Err(BlobError::Corrupt(_))), "{odd:?}");
    }
    let size = usize::try_from(BLOB_BYTES_MAX).unwrap() + 1;
    assert!(matches!(blobs.put(&jane, vec![0; size]).await, Err(BlobError::TooLarge { .. })));
}

fn admitted(text: &str) -> DispatchAdmitted {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/ledger.v2/golden/DispatchAdmitted.minimal.json");
    let mut data: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    data["unit"]["start"] = json!({ "entrypoint": { "inline": text } });
    serde_json::from_value(data).unwrap()
}

async fn appended(log: &MemoryLog, admitted: &DispatchAdmitted) {
    let key = RoleKey::from_seed(Role::Authority, &[1; 32]);
    let event = LedgerEvent::Dispatch(DispatchEvent::Admitted(Box::new(admitted.clone())));
    let meta = Meta { time: "2026-11-28T03:00:00.000Z".into(), ..Meta::default() };
    let bytes = encode(&key, "c", &[event], &meta).unwrap();
    let entity = Entity::parse(&["ledger.dispatch.", admitted.dispatch.as_str()].concat()).unwrap();
    log.append(Append { entity, expected: Expected::NEW, message_id: "m".into(), bytes }).await.unwrap();
}

async fn read(log: &dyn Log) -> DispatchAdmitted {
    let stored = log.read(Seq(1)).await.unwrap().next().await.unwrap().unwrap();
    match Recorded::read(&stored).unwrap().remove(0).event {
        Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) => *e,
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case::few_words("Summarise my open tasks.".to_owned(), true)]
#[case::as_many_as_an_event_holds("x".repeat(TEXT_BYTES_MAX / 4 * 3 - 40), true)]
#[case::one_more("x".repeat(TEXT_BYTES_MAX / 4 * 3 - 39), false)]
#[case::as_many_as_a_unit_holds("x".repeat(60_000), false)]
#[tokio::test]
async fn the_words_of_an_admission_are_stored_sealed_read_opened_and_gone_with_the_key(
    #[case] text: String,
    #[case] in_the_event: bool,
) {
    let (_, keys, blobs) = stores();
    let plain = admitted(&text);
    let sealed = seal_start(plain.clone(), keys.as_ref(), &blobs).await.unwrap();
    assert_eq!(seal_start(plain.clone(), keys.as_ref(), &blobs).await.unwrap(), sealed, "again it is the same");
    assert_eq!(words(&sealed.unit.start), Some(SEALED));
    assert_eq!(sealed.sealed.as_ref().unwrap().text.is_some(), in_the_event);
    let data = serde_json::to_value(&sealed).unwrap();
    custody_contracts::catalogue::check("ledger.v2", "DispatchAdmitted", &data).unwrap();
    let log = MemoryLog::new();
    appended(&log, &sealed).await;
    let before = log.messages();
    let opened = OpenedLog::new(Arc::new(log.clone()), Opener::new(keys.clone(), Arc::new(blobs.clone())));
    assert_eq!(read(&opened).await, plain);
    let entity = Entity::parse(&before[0].log_subject).unwrap();
    assert_ne!(opened.load(&entity).await.unwrap(), before);
    keys.destroy(&plain.unit.identity.subject).unwrap();
    assert_eq!(read(&opened).await, sealed, "nobody fails over it");
    assert_eq!(opened.load(&entity).await.unwrap(), before);
    assert_eq!(log.messages(), before, "and no byte of the ledger is another");
}

#[tokio::test]
async fn words_moved_to_another_dispatch_open_nowhere_and_a_path_is_left_as_it_is() {
    let (_, keys, blobs) = stores();
    let mut moved = seal_start(admitted("Go."), keys.as_ref(), &blobs).await.unwrap();
    moved.dispatch = custody_contracts::ids::DispatchId::parse("d-other").unwrap();
    let log = MemoryLog::new();
    appended(&log, &moved).await;
    let opener = Opener::new(keys.clone(), Arc::new(blobs.clone()));
    assert_eq!(read(&OpenedLog::new(Arc::new(log), opener)).await, moved);
    let mut path = admitted("x");
    path.unit.start = Start::Entrypoint(Entrypoint::Path("ask.md".into()));
    assert_eq!(seal_start(path.clone(), keys.as_ref(), &blobs).await.unwrap(), path);
    // From before words were sealed.
    let old = admitted("Written when nobody sealed.");
    let log = MemoryLog::new();
    appended(&log, &old).await;
    let opener = Opener::new(keys, Arc::new(blobs));
    assert_eq!(read(&OpenedLog::new(Arc::new(log), opener)).await, old);
}
