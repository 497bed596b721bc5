//! What the ledger's events make of a workload, and that states never go back.

use super::{ENDED_MAX, View};
use custody_contracts::catalogue;
use custody_contracts::envelope::Meta;
use custody_contracts::events::{DispatchEvent, LedgerEvent, RunEvent, TYPES};
use custody_contracts::ids::{DispatchId, LauncherId};
use custody_contracts::workload::{Backend, WorkloadState};
use custody_ledger::recorded::encode;
use custody_ledger::{Entity, Recorded, Seq, Stored};
use custody_trust::RoleKey;
use rstest::rstest;
use std::path::Path;

fn golden(shape: &str) -> LedgerEvent {
    let path = format!("../../contracts/ledger.v1/golden/{shape}.full.json");
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    LedgerEvent::decode(TYPES.iter().find(|(_, s)| *s == shape).unwrap().0, &text).unwrap()
}

/// An event of one dispatch, posted as `w-1` when it is an admission.
fn event(shape: &str, dispatch: &str, posted: bool) -> LedgerEvent {
    let id = DispatchId::parse(dispatch).unwrap();
    let mut event = golden(shape);
    match &mut event {
        LedgerEvent::Dispatch(DispatchEvent::Admitted(e)) => {
            e.dispatch = id;
            if posted {
                e.launch.launcher = LauncherId::parse("runtime-http").unwrap();
                e.launch.event_id = Some("w-1".into());
            }
        }
        LedgerEvent::Dispatch(DispatchEvent::StopRequested(e)) => e.dispatch = id,
        LedgerEvent::Run(RunEvent::Claimed(e)) => e.dispatch = id,
        LedgerEvent::Run(RunEvent::Started(e)) => e.dispatch = id,
        LedgerEvent::Run(RunEvent::Finished(e)) => e.dispatch = id,
        _ => {}
    }
    event
}

fn recorded(seq: u64, event: &LedgerEvent) -> Vec<Recorded> {
    let key = RoleKey::from_seed(event.kind().writer(), &[1; 32]);
    let meta = Meta { time: "2026-11-22T21:00:00.000Z".into(), ..Meta::default() };
    let bytes = encode(&key, &format!("c{seq}"), std::slice::from_ref(event), &meta).unwrap();
    let log_subject = Entity::new(event.kind(), "x").unwrap().log_subject();
    Recorded::read(&Stored { seq: Seq(seq), log_subject, message_id: None, bytes }).unwrap()
}

fn folded(shapes: &[&str]) -> View {
    let mut view = View::default();
    for (shape, seq) in shapes.iter().zip(1..) {
        recorded(seq, &event(shape, "d-1", true)).iter().for_each(|r| view.apply(r));
    }
    view
}

const WHOLE: [&str; 4] = ["DispatchAdmitted", "RunClaimed", "RunStarted", "RunFinished"];

#[rstest]
#[case::queued(&["DispatchAdmitted"], WorkloadState::Starting, "starting")]
#[case::claimed(&["DispatchAdmitted", "RunClaimed"], WorkloadState::Starting, "starting")]
#[case::runs(&["DispatchAdmitted", "RunClaimed", "RunStarted"], WorkloadState::Running, "starting running")]
#[case::told_to_stop(&["DispatchAdmitted", "RunClaimed", "RunStarted", "DispatchStopRequested"], WorkloadState::Stopping, "starting running stopping")]
#[case::stop_before_start(&["DispatchAdmitted", "DispatchStopRequested", "RunClaimed", "RunStarted"], WorkloadState::Stopping, "starting stopping")]
#[case::over(&WHOLE, WorkloadState::Stopped, "starting running stopped")]
#[case::stop_after_the_end(&["DispatchAdmitted", "RunClaimed", "RunStarted", "RunFinished", "DispatchStopRequested"], WorkloadState::Stopped, "starting running stopped")]
#[case::never_ran(&["DispatchAdmitted", "RunClaimed", "RunFinished"], WorkloadState::Stopped, "starting stopped")]
fn states_go_one_way(#[case] shapes: &[&str], #[case] state: WorkloadState, #[case] changes: &str) {
    let view = folded(shapes);
    let workload = view.get("w-1").unwrap();
    assert_eq!(workload.state, state);
    let told: Vec<&str> = workload.changes.iter().map(|c| c.event.state.as_str()).collect();
    assert_eq!(told.join(" "), changes);
    for change in &workload.changes {
        catalogue::check("runtime.v1", "RuntimeEvent", &serde_json::to_value(&change.event).unwrap()).unwrap();
    }
    for gone in [false, true] {
        let status = workload.status(Backend::Docker, "node-1", gone);
        catalogue::check("runtime.v1", "WorkloadStatus", &serde_json::to_value(&status).unwrap()).unwrap();
        let destroyed = gone && state == WorkloadState::Stopped;
        assert_eq!(status.state, if destroyed { WorkloadState::Destroyed } else { state });
    }
}

#[test]
fn a_posted_one_has_its_own_id_and_others_have_their_dispatchs() {
    let mut view = folded(&WHOLE);
    recorded(9, &event("DispatchAdmitted", "d-2", false)).iter().for_each(|r| view.apply(r));
    assert!(view.get("d-1").is_some_and(|w| w.id == "w-1"));
    assert!(view.get("d-2").is_some_and(|w| w.id == "d-2" && w.digest.is_none()));
    let ids: Vec<&str> = view.of("u_jane").map(|w| w.id.as_str()).collect();
    assert_eq!(ids, ["d-2", "w-1"], "newest first");
    assert_eq!(view.of("u_omar").count(), 0);
}

#[test]
fn ended_ones_are_bounded_and_open_ones_are_kept() {
    let mut view = View::default();
    let mut seq = 0;
    let mut put = |view: &mut View, shape: &str, dispatch: &str| {
        seq += 1;
        recorded(seq, &event(shape, dispatch, false)).iter().for_each(|r| view.apply(r));
    };
    put(&mut view, "DispatchAdmitted", "d-open");
    for n in 0..=ENDED_MAX {
        put(&mut view, "DispatchAdmitted", &format!("d-{n}"));
        put(&mut view, "RunFinished", &format!("d-{n}"));
    }
    assert_eq!(view.by_dispatch.len(), ENDED_MAX + 1);
    assert!(view.get("d-0").is_none() && view.get("d-1").is_some() && view.get("d-open").is_some());
}
