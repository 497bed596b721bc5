//! A ledger of one dispatch with fixed times, for the tests of the folds.

use crate::life::Life;
use custody_contracts::envelope::Meta;
use custody_contracts::events::{DispatchEvent, EffectEvent, LedgerEvent, RunEvent, TYPES};
use custody_ledger::recorded::encode;
use custody_ledger::{Entity, Recorded, Seq, Stored};
use custody_trust::RoleKey;
use std::path::Path;

/// The trace context of its launch.
pub(crate) const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The full golden of a shape of the ledger's contract.
pub(crate) fn golden(shape: &str) -> LedgerEvent {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/ledger.v2/golden");
    let read = |case: &str| std::fs::read_to_string(folder.join(format!("{shape}.{case}.json")));
    let text = read("full").or_else(|_| read("minimal")).unwrap();
    LedgerEvent::decode(TYPES.iter().find(|(_, s)| *s == shape).unwrap().0, &text).unwrap()
}

/// Stored messages of these events, in order, one second after another from 12:00:00 on.
pub(crate) fn stored(events: &[LedgerEvent], traceparent: Option<&str>) -> Vec<Stored> {
    let place = |(index, event): (usize, &LedgerEvent)| {
        let key = RoleKey::from_seed(event.kind().writer(), &[1; 32]);
        let meta = Meta {
            time: format!("2026-06-24T12:{:02}:{:02}.000Z", index / 60, index % 60),
            traceparent: traceparent.map(str::to_owned),
            ..Meta::default()
        };
        Stored {
            seq: Seq(index as u64 + 1),
            log_subject: Entity::new(event.kind(), "x").unwrap().log_subject(),
            message_id: None,
            bytes: encode(&key, &format!("c{index}"), std::slice::from_ref(event), &meta).unwrap(),
        }
    };
    events.iter().enumerate().map(place).collect()
}

/// The same, read.
pub(crate) fn recorded(events: &[LedgerEvent], traceparent: Option<&str>) -> Vec<Recorded> {
    stored(events, traceparent).iter().flat_map(|s| Recorded::read(s).unwrap()).collect()
}

/// Admitted at :00, claimed at :01, started at :02 (process at 12:00:01.900), a call recorded at :04, finished at :05
/// (process ended at 12:00:04.500), all of one dispatch and of the runtime `i-1`.
pub(crate) fn one_dispatch() -> Vec<LedgerEvent> {
    let base = crate::life::millis("2026-06-24T12:00:00.000Z");
    let mut events =
        ["DispatchAdmitted", "RunClaimed", "RunStarted", "DispatchRefused", "ModelCalled", "RunFinished"].map(golden);
    let mut id = None;
    for event in &mut events {
        match event {
            LedgerEvent::Dispatch(DispatchEvent::Admitted(e)) => {
                id = Some(e.dispatch.clone());
                e.launch.stored_at = Some(custody_contracts::ids::UnixMillis(base - 5));
            }
            LedgerEvent::Run(RunEvent::Claimed(e)) => {
                e.dispatch = id.clone().unwrap();
                e.runtime = "i-1".into();
                e.warm = Some(true);
            }
            LedgerEvent::Run(RunEvent::Started(e)) => {
                e.dispatch = id.clone().unwrap();
                e.started_at.0 = base + 1_900;
                e.phases_ms = [("create", 40), ("boot", 60), ("admit", 5)].map(|(n, ms)| (n.to_owned(), ms)).into();
            }
            LedgerEvent::Effect(EffectEvent::ModelCalled(e)) => {
                e.dispatch = id.clone().unwrap();
                e.duration_ms = 1_500;
            }
            LedgerEvent::Run(RunEvent::Finished(e)) => {
                e.dispatch = id.clone().unwrap();
                e.finished_at.0 = base + 4_500;
                e.phases_ms = [("first_frame", 30), ("first_byte", 70)].map(|(n, ms)| (n.to_owned(), ms)).into();
            }
            _ => {}
        }
    }
    events.into()
}

/// The life of [`one_dispatch`].
pub(crate) fn life(traceparent: Option<&str>) -> Life {
    let mut lives = crate::life::Lives::default();
    recorded(&one_dispatch(), traceparent).iter().find_map(|r| lives.apply(r)).unwrap()
}
