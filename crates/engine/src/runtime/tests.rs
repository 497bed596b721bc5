//! The runtime loop over a log in memory and containers that are data: one box for a dispatch, one terminal event,
//! whatever was already there when it began.

use super::{Runtime, RuntimeConfig, RuntimeLimits, View, run};
use crate::follow::read_or_note;
use custody_contracts::canonical::digest;
use custody_contracts::envelope::Meta;
use custody_contracts::events::{
    DispatchAdmitted, DispatchEvent, GrantCheck, Kind, LaunchRef, LedgerEvent, Role, RunEvent, RunnerRef,
    SignatureCheck, StopReason,
};
use custody_contracts::ids::{
    DispatchId, LauncherId, LauncherRef, RunnerName, SessionId, Subject, UnixMillis, WorkspaceId,
};
use custody_contracts::unit::{Entrypoint, Identity, Invocation, Mode, Start, Trigger, WorkspaceMount};
use custody_ledger::recorded::encode;
use custody_ledger::{Append, Entity, Expected, Log, MemoryLog, Recorded, Seq};
use custody_ports::containers::{BoxState, BoxStatus};
use custody_testkit::fakes::{FakeContainers, ManualClock, MemoryBlobs, MemoryOutput};
use custody_trust::RoleKey;
use futures::StreamExt;
use rstest::rstest;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

const IMAGE: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn admitted(id: &str, session: &str) -> DispatchAdmitted {
    DispatchAdmitted {
        dispatch: DispatchId::parse(id).unwrap(),
        session: SessionId::parse(session).unwrap(),
        unit: Invocation {
            identity: Identity {
                subject: Subject::parse("u_jane").unwrap(),
                launcher: LauncherRef::parse("user:cli").unwrap(),
                token: None,
            },
            runner: RunnerName::parse("r").unwrap(),
            workspaces: vec![WorkspaceMount { id: WorkspaceId::parse("default").unwrap(), mode: Mode::Ro }],
            tools: Vec::new(),
            trigger: Trigger::Message,
            context: None,
            start: Start::Entrypoint(Entrypoint::Inline("hello".into())),
            limits: None,
        },
        launch: LaunchRef {
            stream_seq: 1,
            launcher: LauncherId::parse("cli").unwrap(),
            event_id: None,
            digest: digest(b"m"),
        },
        runner: RunnerRef { name: RunnerName::parse("r").unwrap(), version: "1".into(), image: IMAGE.into() },
        grant: GrantCheck::NotChecked,
        signature: SignatureCheck::Absent,
    }
}

async fn put(log: &MemoryLog, event: LedgerEvent, id: &str) -> Seq {
    let key = RoleKey::from_seed(Role::Authority, &[1; 32]);
    let entity = Entity::new(event.kind(), id).unwrap();
    let expected = Expected::after(&log.load(&entity).await.unwrap());
    let bytes = encode(&key, &format!("{id}-{}", expected.value()), &[event], &Meta::default()).unwrap();
    let message_id = format!("{id}-{}", expected.value());
    log.append(Append { entity, expected, message_id, bytes }).await.unwrap()
}

async fn admit(log: &MemoryLog, id: &str, session: &str) {
    put(log, LedgerEvent::Dispatch(DispatchEvent::Admitted(Box::new(admitted(id, session)))), id).await;
}

fn runtime(log: &MemoryLog, containers: Arc<FakeContainers>, folder: &Path) -> Runtime {
    std::fs::create_dir_all(folder.join("workspaces/default")).unwrap();
    Runtime {
        log: Arc::new(log.clone()),
        signer: Arc::new(RoleKey::from_seed(Role::Runtime, &[2; 32])),
        clock: Arc::new(ManualClock::at(1_000_000)),
        containers,
        blobs: Arc::new(MemoryBlobs::default()),
        output: Arc::new(MemoryOutput::default()),
        config: RuntimeConfig {
            instance: "i-1".into(),
            runs: folder.join("runs"),
            workspaces: folder.join("workspaces"),
            running_max: 2,
            limits: RuntimeLimits {
                wall_ms: 60_000,
                idle_ms: 60_000,
                grace_ms: 1_000,
                memory_bytes: 1 << 26,
                nano_cpus: 1_000_000_000,
                pids: 16,
                output_bytes: 1 << 20,
                session_bytes: 1 << 20,
            },
        },
    }
}

/// Plays the gateway's part: a socket that accepts for this dispatch.
fn open_socket(folder: &Path, dispatch: &str) -> tokio::net::UnixListener {
    let gw = folder.join("runs").join(dispatch).join("gw");
    std::fs::create_dir_all(&gw).unwrap();
    tokio::net::UnixListener::bind(gw.join("gw.sock")).unwrap()
}

/// Run events of a dispatch, once it has ended.
async fn ended(log: &MemoryLog, dispatch: &str) -> Vec<RunEvent> {
    let mut tail = log.tail(Seq(1)).await.unwrap();
    let mut events = Vec::new();
    while let Some(Ok(stored)) = tail.next().await {
        for recorded in Recorded::read(&stored).unwrap() {
            if let (Some(LedgerEvent::Run(event)), true) = (recorded.event, recorded.entity.id == dispatch) {
                let last = matches!(event, RunEvent::Finished(_));
                events.push(event);
                if last {
                    return events;
                }
            }
        }
    }
    events
}

fn finished(events: &[RunEvent]) -> &custody_contracts::events::RunFinished {
    match events.last() {
        Some(RunEvent::Finished(f)) => f,
        other => panic!("not finished: {other:?}"),
    }
}

#[tokio::test]
async fn a_dispatch_gets_one_box_and_one_terminal_event() {
    let (log, folder) = (MemoryLog::new(), tempfile::tempdir().unwrap());
    let containers = Arc::new(FakeContainers::with_images(&[IMAGE]).ending_at_once(0));
    admit(&log, "d-1", "s-1").await;
    let _gateway = open_socket(folder.path(), "d-1");
    let cancel = CancellationToken::new();
    let task = tokio::spawn(run(runtime(&log, containers.clone(), folder.path()), cancel.clone()));
    let events = ended(&log, "d-1").await;
    assert!(
        matches!(events.as_slice(), [RunEvent::Claimed(_), RunEvent::Started(_), RunEvent::Finished(_)]),
        "{events:?}"
    );
    // Exit code 0 without the worker's own word is not success.
    assert_eq!(finished(&events).reason, StopReason::Failed);
    cancel.cancel();
    task.await.unwrap().unwrap();
    assert_eq!(containers.created(), ["custody-d-1"]);
}

#[tokio::test]
async fn an_image_that_is_not_here_is_never_pulled() {
    let (log, folder) = (MemoryLog::new(), tempfile::tempdir().unwrap());
    let containers = Arc::new(FakeContainers::with_images(&[]));
    admit(&log, "d-1", "s-1").await;
    let cancel = CancellationToken::new();
    let task = tokio::spawn(run(runtime(&log, containers.clone(), folder.path()), cancel.clone()));
    let events = ended(&log, "d-1").await;
    let finished = finished(&events);
    assert_eq!(finished.reason, StopReason::StartFailed);
    assert!(finished.detail.as_deref().unwrap().starts_with("IMAGE_MISSING"));
    cancel.cancel();
    task.await.unwrap().unwrap();
    assert!(containers.created().is_empty());
}

#[tokio::test]
async fn two_runtimes_never_start_one_dispatch_twice() {
    let log = MemoryLog::new();
    let containers = Arc::new(FakeContainers::with_images(&[IMAGE]).ending_at_once(1));
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let ids: Vec<String> = (0..6).map(|n| format!("d-{n}")).collect();
    for id in &ids {
        admit(&log, id, &id.replace('d', "s")).await;
    }
    let cancel = CancellationToken::new();
    let mut tasks = Vec::new();
    let mut sockets = Vec::new();
    for (n, folder) in folders.iter().enumerate() {
        let mut one = runtime(&log, containers.clone(), folder.path());
        one.config.instance = format!("i-{n}");
        ids.iter().for_each(|id| sockets.push(open_socket(folder.path(), id)));
        tasks.push(tokio::spawn(run(one, cancel.clone())));
    }
    for id in &ids {
        let events = ended(&log, id).await;
        assert_eq!(events.iter().filter(|e| matches!(e, RunEvent::Claimed(_))).count(), 1);
        assert_eq!(events.iter().filter(|e| matches!(e, RunEvent::Finished(_))).count(), 1);
    }
    cancel.cancel();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let mut created = containers.created();
    created.sort();
    created.dedup();
    assert_eq!(created.len(), ids.len());
    assert_eq!(containers.created().len(), ids.len(), "no name was created twice");
}

#[rstest]
#[case::created(BoxState::Created)]
#[case::running(BoxState::Exited { code: 3, oom: false, error: None })]
#[tokio::test]
async fn a_claim_of_an_earlier_life_goes_on_with_its_box(#[case] state: BoxState) {
    let (log, folder) = (MemoryLog::new(), tempfile::tempdir().unwrap());
    let containers = Arc::new(FakeContainers::with_images(&[IMAGE]).ending_at_once(3));
    admit(&log, "d-1", "s-1").await;
    let one = runtime(&log, containers.clone(), folder.path());
    let admitted = admitted("d-1", "s-1");
    let deadline = UnixMillis(2_000_000);
    let spec = super::box_spec("i-1", &admitted, 1, deadline, folder.path(), folder.path(), &one.config.limits);
    let claim = super::plan::claim("i-1", &admitted, &spec, None, deadline);
    put(&log, LedgerEvent::Run(RunEvent::Claimed(claim)), "d-1").await;
    containers.plant(BoxStatus {
        id: "b".repeat(64),
        name: "custody-d-1".into(),
        labels: spec.labels,
        state,
        created_at: UnixMillis(0),
        started_at: None,
        finished_at: None,
    });
    let cancel = CancellationToken::new();
    let task = tokio::spawn(run(one, cancel.clone()));
    let events = ended(&log, "d-1").await;
    assert!(
        matches!(events.as_slice(), [RunEvent::Claimed(_), RunEvent::Started(_), RunEvent::Finished(_)]),
        "{events:?}"
    );
    assert_eq!(finished(&events).exit_code, Some(3));
    cancel.cancel();
    task.await.unwrap().unwrap();
    assert!(containers.created().is_empty(), "no second box");
}

#[tokio::test]
async fn turns_of_one_session_wait_for_each_other_and_the_queue_is_in_order() {
    let log = MemoryLog::new();
    for (id, session) in [("d-a", "s-1"), ("d-b", "s-1"), ("d-c", "s-2")] {
        admit(&log, id, session).await;
    }
    let mut view = View::default();
    log.messages().iter().flat_map(read_or_note).for_each(|r| view.apply(&r));
    let mut driven = BTreeMap::new();
    assert_eq!(view.next("i-1", &driven, 8).as_deref(), Some("d-a"));
    driven.insert("d-a".to_owned(), ());
    assert_eq!(view.next("i-1", &driven, 8).as_deref(), Some("d-c"), "d-b waits for its session");
    assert_eq!(view.next("i-1", &driven, 1), None, "no room");
    driven.insert("d-c".to_owned(), ());
    assert_eq!(view.next("i-1", &driven, 8), None);
}

#[tokio::test]
async fn the_reaper_removes_what_nobody_claims_and_nothing_else() {
    let (log, folder) = (MemoryLog::new(), tempfile::tempdir().unwrap());
    let containers = Arc::new(FakeContainers::with_images(&[IMAGE]));
    let plant = |name: &str, instance: &str, created_at: u64| {
        let labels = BTreeMap::from([
            ("custody.instance".to_owned(), instance.to_owned()),
            ("custody.dispatch".to_owned(), name.to_owned()),
        ]);
        let state = BoxState::Running;
        let name = name.to_owned();
        containers.plant(BoxStatus {
            id: name.clone(),
            name,
            labels,
            state,
            created_at: UnixMillis(created_at),
            started_at: None,
            finished_at: None,
        });
    };
    plant("orphan", "i-1", 0);
    plant("just-made", "i-1", 999_999);
    plant("of-another-instance", "i-2", 0);
    let cancel = CancellationToken::new();
    let task = tokio::spawn(run(runtime(&log, containers.clone(), folder.path()), cancel.clone()));
    while containers.existing().len() == 3 {
        tokio::task::yield_now().await;
    }
    cancel.cancel();
    task.await.unwrap().unwrap();
    assert_eq!(containers.existing(), ["just-made", "of-another-instance"]);
    assert_eq!(Kind::Run.writer(), Role::Runtime);
}

#[tokio::test]
async fn a_session_is_gone_on_with_only_by_the_person_whose_it_is() {
    let (log, folder) = (MemoryLog::new(), tempfile::tempdir().unwrap());
    let containers = Arc::new(FakeContainers::with_images(&[IMAGE]));
    admit(&log, "d-1", "s-1").await;
    let finished_first = custody_contracts::events::RunFinished {
        dispatch: DispatchId::parse("d-1").unwrap(),
        attempt: 1,
        container: None,
        exit_code: Some(0),
        reason: StopReason::Completed,
        detail: None,
        started_at: None,
        finished_at: UnixMillis(1),
        session: Some(custody_contracts::events::SessionFile {
            id: SessionId::parse("s-1").unwrap(),
            digest: digest(b"secret"),
            bytes: 6,
        }),
        output: Default::default(),
        usage: Default::default(),
        agent_session: None,
    };
    put(&log, LedgerEvent::Run(RunEvent::Finished(Box::new(finished_first))), "d-1").await;
    let mut view = View::default();
    log.messages().iter().flat_map(read_or_note).for_each(|r| view.apply(&r));
    assert!(view.file("s-1", "u_jane").is_some());
    assert!(view.file("s-1", "u_omar").is_none());
    let mut stranger = admitted("d-2", "s-1");
    stranger.unit.identity.subject = Subject::parse("u_omar").unwrap();
    stranger.unit.start =
        Start::Session(custody_contracts::unit::SessionStart { reference: "s-1".into(), inline: None });
    put(&log, LedgerEvent::Dispatch(DispatchEvent::Admitted(Box::new(stranger))), "d-2").await;
    let cancel = CancellationToken::new();
    let task = tokio::spawn(run(runtime(&log, containers.clone(), folder.path()), cancel.clone()));
    let events = ended(&log, "d-2").await;
    assert!(finished(&events).detail.as_deref().unwrap().starts_with("SESSION_UNKNOWN"));
    cancel.cancel();
    task.await.unwrap().unwrap();
    assert!(containers.created().is_empty());
}
