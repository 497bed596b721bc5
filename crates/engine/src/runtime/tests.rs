//! The runtime loop over a log in memory and containers that are data: one box for a dispatch, one terminal event,
//! whatever was already there when it began.

use super::{Classes, PoolConfig, Runtime, RuntimeConfig, RuntimeLimits, View, run};
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
use custody_contracts::isolation::{Isolation, Sockets};
use custody_contracts::unit::{Entrypoint, Identity, Invocation, Mode, Start, Trigger, WorkspaceMount};
use custody_contracts::workspace::{CommitOutcome, MountBase, WorkspaceEvent, WorkspaceRegistered};
use custody_domain::queue::Caps;
use custody_ledger::recorded::encode;
use custody_ledger::{Append, Entity, Expected, Log, MemoryLog, Recorded, Seq};
use custody_ports::containers::{BoxState, BoxStatus};
use custody_ports::workspaces::Workspaces;
use custody_testkit::fakes::{FakeContainers, ManualClock, MemoryBlobs, MemoryOutput};
use custody_testkit::workspaces::MemoryWorkspaces;
use custody_trust::RoleKey;
use futures::StreamExt;
use rstest::rstest;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

pub(super) const IMAGE: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

pub(crate) fn admitted(id: &str, session: &str) -> DispatchAdmitted {
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
            stored_at: None,
        },
        runner: RunnerRef::plain(RunnerName::parse("r").unwrap(), "1", IMAGE),
        grant: GrantCheck::NotChecked,
        signature: SignatureCheck::Absent,
        sealed: None,
    }
}

pub(crate) async fn put(log: &MemoryLog, event: LedgerEvent, id: &str) -> Seq {
    put_as(log, event, id, &Meta::default()).await
}

pub(crate) async fn put_as(log: &MemoryLog, event: LedgerEvent, id: &str, meta: &Meta) -> Seq {
    let key = RoleKey::from_seed(Role::Authority, &[1; 32]);
    let entity = Entity::new(event.kind(), id).unwrap();
    let expected = Expected::after(&log.load(&entity).await.unwrap());
    let bytes = encode(&key, &format!("{id}-{}", expected.value()), &[event], meta).unwrap();
    let message_id = format!("{id}-{}", expected.value());
    log.append(Append { entity, expected, message_id, bytes }).await.unwrap()
}

/// The workspace that every dispatch of these tests mounts.
pub(super) async fn register(log: &MemoryLog) {
    let document = custody_contracts::workspace::Workspace {
        id: WorkspaceId::parse("default").unwrap(),
        bucket: "file:///nowhere".into(),
        mode: Mode::Rw,
        encryption: custody_contracts::workspace::Encryption::none(),
        purpose: "Tests.".into(),
        trunk: "main".into(),
    };
    let event = WorkspaceRegistered { workspace: document, owner: "*".into(), members: Vec::new(), by: "test".into() };
    let entity = Entity::new(Kind::Workspace, "default").unwrap();
    if log.load(&entity).await.unwrap().is_empty() {
        put(log, LedgerEvent::Workspace(WorkspaceEvent::Registered(event)), "default").await;
    }
}

pub(super) async fn admit(log: &MemoryLog, id: &str, session: &str) {
    register(log).await;
    put(log, LedgerEvent::Dispatch(DispatchEvent::Admitted(Box::new(admitted(id, session)))), id).await;
}

pub(super) fn runtime(log: &MemoryLog, containers: Arc<FakeContainers>, folder: &Path) -> Runtime {
    Runtime {
        log: Arc::new(log.clone()),
        signer: Arc::new(RoleKey::from_seed(Role::Runtime, &[2; 32])),
        clock: Arc::new(ManualClock::at(1_000_000)),
        containers,
        slots: None,
        blobs: Arc::new(MemoryBlobs::default()),
        output: Arc::new(MemoryOutput::default()),
        workspaces: Arc::new(MemoryWorkspaces::default()),
        content: None,
        config: RuntimeConfig {
            instance: "i-1".into(),
            runs: folder.join("runs"),
            kept: folder.join("kept"),
            workspace_limits: Default::default(),
            system: super::SystemWorkspaces { bucket: "file:///nowhere".into(), recipients: Vec::new() },
            running_max: 2,
            caps: Caps::default(),
            limits: RuntimeLimits {
                wall_ms: 60_000,
                idle_ms: 60_000,
                grace_ms: 1_000,
                memory_bytes: 1 << 26,
                nano_cpus: 1_000_000_000,
                pids: 16,
                output_bytes: 1 << 20,
                session_bytes: 1 << 20,
                disk_bytes: 1 << 30,
                sockets: Sockets::Unix,
                most: super::Room { memory_bytes: 1 << 30, pids: 64, tmp_bytes: 1 << 28, home_bytes: 1 << 28 },
            },
            classes: Classes { present: BTreeMap::from([(Isolation::Standard, None)]), ..Classes::default() },
            pool: PoolConfig::default(),
        },
    }
}

/// Plays the gateway's part: a socket that accepts for this dispatch.
pub(super) fn open_socket(folder: &Path, dispatch: &str) -> tokio::net::UnixListener {
    let gw = folder.join("runs").join(dispatch).join("gw");
    std::fs::create_dir_all(&gw).unwrap();
    tokio::net::UnixListener::bind(gw.join("gw.sock")).unwrap()
}

/// Run events of a dispatch, once it has ended.
pub(super) async fn ended(log: &MemoryLog, dispatch: &str) -> Vec<RunEvent> {
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

pub(super) fn finished(events: &[RunEvent]) -> &custody_contracts::events::RunFinished {
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

/// Memory and processes of a box, of an installation with 64 MiB and 16, and at most 1 GiB and 64.
#[rstest]
#[case::asks_for_nothing(serde_json::json!(null), Ok((1 << 26, 16, 16 << 20)))]
#[case::asks_for_less(serde_json::json!({ "memory_bytes": 1 << 24, "pids": 8 }), Ok((1 << 26, 16, 16 << 20)))]
#[case::asks_for_more(serde_json::json!({ "memory_bytes": 1 << 29, "tmp_bytes": 64 << 20 }), Ok((1 << 29, 16, 64 << 20)))]
#[case::asks_for_the_most(serde_json::json!({ "memory_bytes": 1 << 30, "pids": 64 }), Ok((1 << 30, 64, 16 << 20)))]
#[case::one_byte_too_much(serde_json::json!({ "memory_bytes": (1_u64 << 30) + 1 }), Err("runtime.most.memory_bytes"))]
#[case::one_process_too_much(serde_json::json!({ "pids": 65 }), Err("runtime.most.pids"))]
#[case::too_much_scratch(serde_json::json!({ "home_bytes": (1 << 28) + 1 }), Err("runtime.most.home_bytes"))]
#[tokio::test]
async fn a_runner_gets_the_room_that_it_needs_or_does_not_start(
    #[case] resources: serde_json::Value,
    #[case] expected: Result<(u64, u64, u64), &str>,
) {
    let (log, folder) = (MemoryLog::new(), tempfile::tempdir().unwrap());
    let containers = Arc::new(FakeContainers::with_images(&[IMAGE]).ending_at_once(0));
    let mut asking = admitted("d-1", "s-1");
    register(&log).await;
    asking.runner.resources = serde_json::from_value(resources).unwrap();
    put(&log, LedgerEvent::Dispatch(DispatchEvent::Admitted(Box::new(asking.clone()))), "d-1").await;
    let one = runtime(&log, containers.clone(), folder.path());
    let spec = super::box_spec("i-1", &asking, 1, UnixMillis(0), folder.path(), &one.config.limits);
    let _listener = open_socket(folder.path(), "d-1");
    let cancel = CancellationToken::new();
    let task = tokio::spawn(run(one, cancel.clone()));
    let events = ended(&log, "d-1").await;
    cancel.cancel();
    task.await.unwrap().unwrap();
    let finished = finished(&events);
    match expected {
        Ok(room) => {
            assert_eq!((spec.memory_bytes, spec.pids, spec.tmp_bytes), room);
            // It ran: exit code 0 without the worker's own word is not success.
            assert_eq!((finished.reason, containers.created().len()), (StopReason::Failed, 1));
        }
        Err(named) => {
            let detail = finished.detail.clone().unwrap();
            assert!(detail.starts_with("RESOURCES_UNAVAILABLE") && detail.contains(named), "{detail}");
            assert_eq!((finished.reason, containers.created().len()), (StopReason::StartFailed, 0));
        }
    }
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

#[rstest]
#[case::known_at_once(137, 0, StopReason::Oom)]
#[case::heard_of_late(137, 3, StopReason::Oom)]
#[case::of_the_agent_alone(1, 3, StopReason::Oom)]
#[case::never_heard_of(137, 1_000, StopReason::Failed)]
#[tokio::test]
async fn a_kill_for_memory_that_the_engine_hears_of_late_is_named_as_one(
    #[case] code: i64,
    #[case] looks: u32,
    #[case] reason: StopReason,
) {
    let (log, folder) = (MemoryLog::new(), tempfile::tempdir().unwrap());
    let containers = FakeContainers::with_images(&[IMAGE]).ending_at_once(code).telling_of_oom_after(looks);
    let _gateway = open_socket(folder.path(), "d-1");
    admit(&log, "d-1", "s-1").await;
    let cancel = CancellationToken::new();
    let task = tokio::spawn(run(runtime(&log, Arc::new(containers), folder.path()), cancel.clone()));
    let events = ended(&log, "d-1").await;
    assert_eq!(finished(&events).reason, reason, "{events:?}");
    cancel.cancel();
    task.await.unwrap().unwrap();
}

#[rstest]
#[case::made_after_the_claim(false)]
#[case::made_ahead_of_it(true)]
#[tokio::test]
async fn two_runtimes_never_start_one_dispatch_twice(#[case] ahead: bool) {
    let log = MemoryLog::new();
    let engine = FakeContainers::with_images(&[IMAGE]).ending_at_once(1);
    let containers = Arc::new(if ahead { engine.making_ahead() } else { engine });
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
    for name in created {
        let starts = containers.calls(&name).into_iter().filter(|call| call == "start").count();
        assert_eq!(starts, 1, "{name}");
    }
    // Of what is made ahead, the box of a claim that is lost is removed, and the winner makes its own.
    assert!(ahead || containers.created().len() == ids.len(), "no name was created twice");
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
    assert_eq!(view.next("i-1", &driven, 8, &Caps::default()).as_deref(), Some("d-a"));
    driven.insert("d-a".to_owned(), ());
    assert_eq!(view.next("i-1", &driven, 8, &Caps::default()).as_deref(), Some("d-c"), "d-b waits for its session");
    assert_eq!(view.next("i-1", &driven, 1, &Caps::default()), None, "no room");
    driven.insert("d-c".to_owned(), ());
    assert_eq!(view.next("i-1", &driven, 8, &Caps::default()), None);
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
            set: None,
            pid: None,
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
        phases_ms: BTreeMap::new(),
        commits: Vec::new(),
        parked: false,
        turns: None,
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

/// A claim of an earlier life whose box has ended and whose working copy holds what it wrote.
async fn ended_box(log: &MemoryLog, containers: &FakeContainers, one: &Runtime, memory: &MemoryWorkspaces) -> String {
    let admitted = {
        let mut admitted = admitted("d-1", "s-1");
        admitted.unit.workspaces[0].mode = Mode::Rw;
        admitted
    };
    register(log).await;
    put(log, LedgerEvent::Dispatch(DispatchEvent::Admitted(Box::new(admitted.clone()))), "d-1").await;
    let document = serde_json::from_value(serde_json::json!({
        "id": "default", "bucket": "file:///nowhere", "mode": "rw", "encryption": { "scheme": "none" },
        "purpose": "Tests.", "trunk": "main",
    }));
    let base = memory.open(&document.unwrap()).await.unwrap().found().await.unwrap().trunk;
    let deadline = UnixMillis(2_000_000);
    let folder = one.config.runs.join("d-1");
    let spec = super::box_spec("i-1", &admitted, 1, deadline, &folder, &one.config.limits);
    let mount = MountBase { workspace: WorkspaceId::parse("default").unwrap(), mode: Mode::Rw, base: base.clone() };
    let claim = super::plan::claim("i-1", &admitted, &spec, None, deadline, vec![mount]);
    put(log, LedgerEvent::Run(RunEvent::Claimed(claim)), "d-1").await;
    containers.plant(BoxStatus {
        id: "b".repeat(64),
        name: "custody-d-1".into(),
        labels: spec.labels,
        state: BoxState::Exited { code: 3, oom: false, error: None },
        created_at: UnixMillis(0),
        started_at: None,
        finished_at: None,
        set: None,
        pid: None,
    });
    let copy = folder.join("ws/default");
    std::fs::create_dir_all(&copy).unwrap();
    std::fs::write(copy.join("plan.md"), "half a plan").unwrap();
    base
}

#[tokio::test]
async fn what_a_failed_run_changed_waits_for_the_owner_also_when_the_bucket_was_away() {
    let (log, folder) = (MemoryLog::new(), tempfile::tempdir().unwrap());
    let containers = Arc::new(FakeContainers::with_images(&[IMAGE]));
    let memory = MemoryWorkspaces::default();
    let mut one = runtime(&log, containers.clone(), folder.path());
    one.workspaces = Arc::new(memory.clone());
    let base = ended_box(&log, &containers, &one, &memory).await;
    let cancel = CancellationToken::new();
    let task = tokio::spawn(run(one, cancel.clone()));
    let events = ended(&log, "d-1").await;
    let commit = &finished(&events).commits[0];
    assert_eq!((commit.outcome, commit.base.as_str()), (CommitOutcome::Proposed, base.as_str()));
    assert_eq!(commit.reason.as_deref(), Some("NOT_COMPLETED: the run ended as failed"));
    let head = memory.newest("default").unwrap();
    assert_eq!((head.trunk.as_str(), head.proposals.get("d-1")), (base.as_str(), commit.commit.as_ref()));
    cancel.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_dispatch_whose_workspace_is_not_registered_does_not_start_and_says_why() {
    let (log, folder) = (MemoryLog::new(), tempfile::tempdir().unwrap());
    let containers = Arc::new(FakeContainers::with_images(&[IMAGE]));
    let mut stray = admitted("d-1", "s-1");
    stray.unit.workspaces[0].id = WorkspaceId::parse("elsewhere").unwrap();
    put(&log, LedgerEvent::Dispatch(DispatchEvent::Admitted(Box::new(stray))), "d-1").await;
    let cancel = CancellationToken::new();
    let task = tokio::spawn(run(runtime(&log, containers.clone(), folder.path()), cancel.clone()));
    let events = ended(&log, "d-1").await;
    assert!(finished(&events).detail.as_deref().unwrap().starts_with("WORKSPACE_MISSING"), "{events:?}");
    cancel.cancel();
    task.await.unwrap().unwrap();
    assert!(containers.created().is_empty());
}

/// Starts runtimes over one log, each with its own folder, and gives back what ends them.
struct Running {
    cancel: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<Result<(), custody_ledger::LogError>>>,
    _sockets: Vec<tokio::net::UnixListener>,
    _folders: Vec<tempfile::TempDir>,
}

impl Running {
    async fn end(self) {
        self.cancel.cancel();
        for task in self.tasks {
            task.await.unwrap().unwrap();
        }
    }
}

fn begin(
    log: &MemoryLog,
    containers: &Arc<FakeContainers>,
    ids: &[&str],
    runtimes: usize,
    change: impl Fn(&mut Runtime),
) -> Running {
    let mut running =
        Running { cancel: CancellationToken::new(), tasks: Vec::new(), _sockets: Vec::new(), _folders: Vec::new() };
    for n in 0..runtimes {
        let folder = tempfile::tempdir().unwrap();
        let mut one = runtime(log, containers.clone(), folder.path());
        one.config.instance = format!("i-{}", n + 1);
        change(&mut one);
        running._sockets.extend(ids.iter().map(|id| open_socket(folder.path(), id)));
        running.tasks.push(tokio::spawn(run(one, running.cancel.clone())));
        running._folders.push(folder);
    }
    running
}

async fn stop(log: &MemoryLog, id: &str, grace_ms: u64, reason: Option<StopReason>) {
    let event = custody_contracts::events::DispatchStopRequested {
        dispatch: DispatchId::parse(id).unwrap(),
        by: "u_ops".into(),
        grace_ms,
        reason,
    };
    put(log, LedgerEvent::Dispatch(DispatchEvent::StopRequested(event)), id).await;
}

/// Waits until a box was created.
async fn created(containers: &FakeContainers, name: &str) {
    while !containers.created().iter().any(|c| c == name) {
        tokio::task::yield_now().await;
    }
}

#[rstest]
#[case::asked_by_a_person(None, StopReason::Stopped)]
#[case::for_a_revocation(Some(StopReason::Revoked), StopReason::Revoked)]
#[case::for_a_budget(Some(StopReason::Budget), StopReason::Budget)]
#[tokio::test]
async fn an_end_says_what_the_stop_was_for(#[case] asked: Option<StopReason>, #[case] expected: StopReason) {
    let log = MemoryLog::new();
    let containers = Arc::new(FakeContainers::with_images(&[IMAGE]));
    admit(&log, "d-1", "s-1").await;
    let running = begin(&log, &containers, &["d-1"], 1, |_| {});
    created(&containers, "custody-d-1").await;
    stop(&log, "d-1", 1_000, asked).await;
    let events = ended(&log, "d-1").await;
    assert_eq!(finished(&events).reason, expected);
    assert_eq!(finished(&events).detail.as_deref(), Some("asked by u_ops"));
    assert!(!finished(&events).parked);
    running.end().await;
}

/// Waits until a box is recorded as started.
async fn started(log: &MemoryLog, dispatch: &str) {
    let mut tail = log.tail(Seq(1)).await.unwrap();
    while let Some(Ok(stored)) = tail.next().await {
        let all = Recorded::read(&stored).unwrap();
        let is_start = |r: &Recorded| matches!(r.event, Some(LedgerEvent::Run(RunEvent::Started(_))));
        if all.iter().any(|r| r.entity.id == dispatch && is_start(r)) {
            return;
        }
    }
}

/// T44: a deadline comes although the machine's clock is moved to before it; and a clock that is only moved, while no time
/// goes by, ends nothing.
#[rstest]
#[case::its_time_is_over(300, StopReason::MaxLifetime)]
#[case::no_time_went_by(0, StopReason::Stopped)]
#[tokio::test]
async fn t44_a_clock_that_is_moved_back_moves_no_deadline(#[case] passed: u64, #[case] expected: StopReason) {
    let log = MemoryLog::new();
    let containers = Arc::new(FakeContainers::with_images(&[IMAGE]));
    admit(&log, "d-1", "s-1").await;
    let clock = Arc::new(ManualClock::at(1_000_000));
    let running = begin(&log, &containers, &["d-1"], 1, |one| {
        one.clock = clock.clone();
        (one.config.limits.wall_ms, one.config.limits.grace_ms) = (300, 0);
    });
    started(&log, "d-1").await;
    clock.advance(passed);
    clock.move_back(900_000);
    if expected == StopReason::Stopped {
        stop(&log, "d-1", 1_000, None).await;
    }
    let events = ended(&log, "d-1").await;
    assert_eq!(finished(&events).reason, expected, "{events:?}");
    running.end().await;
}

#[tokio::test]
async fn what_waits_and_is_stopped_ends_without_a_box_and_before_its_turn() {
    let log = MemoryLog::new();
    let containers = Arc::new(FakeContainers::with_images(&[IMAGE]));
    for (id, session) in [("d-1", "s-1"), ("d-2", "s-2"), ("d-3", "s-3")] {
        admit(&log, id, session).await;
    }
    let one_box = |runtime: &mut Runtime| runtime.config.running_max = 1;
    let running = begin(&log, &containers, &["d-1", "d-2", "d-3"], 1, one_box);
    created(&containers, "custody-d-1").await;
    stop(&log, "d-3", 0, None).await;
    let events = ended(&log, "d-3").await;
    assert_eq!(finished(&events).reason, StopReason::Stopped);
    assert!(matches!(events.as_slice(), [RunEvent::Claimed(_), RunEvent::Finished(_)]), "{events:?}");
    assert_eq!(containers.created(), ["custody-d-1"], "d-2 still waits for the only place");
    running.end().await;
}

#[rstest]
#[case::of_a_person(Caps { per_subject: Some(1), per_launcher: None })]
#[case::of_a_launcher(Caps { per_subject: None, per_launcher: Some(1) })]
#[tokio::test]
async fn caps_hold_over_two_runtimes_that_claim_at_once(#[case] caps: Caps) {
    let log = MemoryLog::new();
    let containers = Arc::new(FakeContainers::with_images(&[IMAGE]));
    let ids: Vec<String> = (0..6).map(|n| format!("d-{n}")).collect();
    for id in &ids {
        admit(&log, id, &id.replace('d', "s")).await;
    }
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    let running = begin(&log, &containers, &names, 2, |runtime| runtime.config.caps = caps);
    for done in 1..=ids.len() {
        while containers.created().len() < done {
            tokio::task::yield_now().await;
        }
        // One box at a time, whoever claimed it: the next one comes only after this one has ended.
        assert_eq!(containers.created().len(), done);
        let name = containers.created()[done - 1].clone();
        let dispatch = name.trim_start_matches("custody-").to_owned();
        stop(&log, &dispatch, 0, None).await;
        ended(&log, &dispatch).await;
    }
    let mut created = containers.created();
    created.sort();
    assert_eq!(created, ids.iter().map(|id| format!("custody-{id}")).collect::<Vec<_>>());
    running.end().await;
}
