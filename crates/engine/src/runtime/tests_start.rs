//! From the claim to the end as the engine sees it: what is asked of it and in which order, what is there when a box
//! starts, and that no end is missed.

use super::tests::{IMAGE, admitted, ended, finished, open_socket, put, register, runtime};
use super::{Runtime, box_spec, plan, run};
use custody_contracts::events::{DispatchEvent, Kind, LedgerEvent, RunEvent, RunStarted, StopReason};
use custody_contracts::ids::{DispatchId, UnixMillis, WorkspaceId};
use custody_contracts::unit::Mode;
use custody_contracts::workspace::{CommitOutcome, MountBase};
use custody_ledger::{Append, AppendError, Entity, Log, LogError, MemoryLog, Seq, Stored};
use custody_ports::containers::{BoxState, BoxStatus};
use custody_ports::workspaces::Workspaces;
use custody_testkit::fakes::FakeContainers;
use custody_testkit::workspaces::MemoryWorkspaces;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use rstest::rstest;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const NAME: &str = "custody-d-1";
/// Long for a fake engine, and short beside the time after which a runtime looks by itself.
const HEARD_MAX: Duration = Duration::from_secs(10);

/// One dispatch of one runtime, with the gateway's socket.
struct Stage {
    log: MemoryLog,
    containers: Arc<FakeContainers>,
    memory: MemoryWorkspaces,
    one: Runtime,
    _socket: tokio::net::UnixListener,
    _folder: tempfile::TempDir,
}

impl Stage {
    async fn with(containers: FakeContainers) -> Stage {
        let (log, folder, memory) = (MemoryLog::new(), tempfile::tempdir().unwrap(), MemoryWorkspaces::default());
        let containers = Arc::new(containers);
        let mut one = runtime(&log, containers.clone(), folder.path());
        one.workspaces = Arc::new(memory.clone());
        register(&log).await;
        let mut admitted = admitted("d-1", "s-1");
        admitted.unit.workspaces[0].mode = Mode::Rw;
        put(&log, LedgerEvent::Dispatch(DispatchEvent::Admitted(Box::new(admitted))), "d-1").await;
        let socket = open_socket(folder.path(), "d-1");
        Stage { log, containers, memory, one, _socket: socket, _folder: folder }
    }

    fn status(&self, state: BoxState) -> BoxStatus {
        let spec =
            box_spec("i-1", &admitted("d-1", "s-1"), 1, UnixMillis(0), &self.one.config.runs, &self.one.config.limits);
        BoxStatus {
            id: "b".repeat(64),
            name: NAME.into(),
            labels: spec.labels,
            state,
            created_at: UnixMillis(0),
            started_at: Some(UnixMillis(1_000)),
            finished_at: None,
            set: None,
            pid: None,
        }
    }

    /// A claim of an earlier life, which had come as far as this with its box.
    async fn claimed(&self, state: BoxState) {
        let document = serde_json::from_value(serde_json::json!({
            "id": "default", "bucket": "file:///nowhere", "mode": "rw", "encryption": { "scheme": "none" },
            "purpose": "Tests.", "trunk": "main",
        }));
        let base = self.memory.open(&document.unwrap()).await.unwrap().found().await.unwrap().trunk;
        let mount = MountBase { workspace: WorkspaceId::parse("default").unwrap(), mode: Mode::Rw, base };
        let (admitted, deadline) = (admitted("d-1", "s-1"), UnixMillis(2_000_000));
        let spec = box_spec("i-1", &admitted, 1, deadline, &self.one.config.runs, &self.one.config.limits);
        let claim = plan::claim("i-1", &admitted, &spec, None, deadline, vec![mount]);
        put(&self.log, LedgerEvent::Run(RunEvent::Claimed(claim)), "d-1").await;
        self.containers.plant(self.status(state));
    }

    /// Runs the runtime until the dispatch has ended.
    async fn to_its_end(&self) -> Vec<RunEvent> {
        let cancel = CancellationToken::new();
        let task = tokio::spawn(run(self.one.clone(), cancel.clone()));
        let events = tokio::time::timeout(HEARD_MAX, ended(&self.log, "d-1")).await.expect("its end was missed");
        // Its box is removed after that.
        while !self.containers.calls(NAME).contains(&"remove".to_owned()) {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
        task.await.unwrap().unwrap();
        events
    }

    /// Waits until this was asked of the box.
    async fn asked(&self, call: &str) {
        while !self.containers.calls(NAME).iter().any(|asked| asked == call) {
            tokio::task::yield_now().await;
        }
    }
}

fn exited(code: i64) -> BoxState {
    BoxState::Exited { code, oom: false, error: None }
}

#[tokio::test]
async fn an_end_is_listened_for_before_the_start_and_nothing_is_asked_twice() {
    let stage = Stage::with(FakeContainers::with_images(&[IMAGE]).ending_at_once(3)).await;
    let events = stage.to_its_end().await;
    assert_eq!(finished(&events).exit_code, Some(3));
    // One look for the record of the start, one for whose box is removed.
    let asked = ["create", "listen next", "start", "inspect", "inspect", "remove"];
    assert_eq!(stage.containers.calls(NAME), asked);
}

/// A log that takes a claim only once a box is made.
struct AfterTheBox(MemoryLog, Arc<FakeContainers>);

impl Log for AfterTheBox {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Seq, AppendError>> {
        Box::pin(async move {
            while append.entity.kind == Kind::Run && self.1.created().is_empty() {
                tokio::task::yield_now().await;
            }
            self.0.append(append).await
        })
    }
    fn load<'a>(&'a self, entity: &'a Entity) -> BoxFuture<'a, Result<Vec<Stored>, LogError>> {
        self.0.load(entity)
    }
    fn read(&self, from: Seq) -> BoxFuture<'_, Result<BoxStream<'static, Result<Stored, LogError>>, LogError>> {
        self.0.read(from)
    }
    fn tail(&self, from: Seq) -> BoxFuture<'_, Result<BoxStream<'static, Result<Stored, LogError>>, LogError>> {
        self.0.tail(from)
    }
    fn last_seq(&self) -> BoxFuture<'_, Result<Seq, LogError>> {
        self.0.last_seq()
    }
}

#[tokio::test]
async fn a_box_is_made_while_its_claim_is_recorded_and_started_after_it() {
    let mut stage = Stage::with(FakeContainers::with_images(&[IMAGE]).ending_at_once(3).making_ahead()).await;
    stage.one.log = Arc::new(AfterTheBox(stage.log.clone(), stage.containers.clone()));
    let events = stage.to_its_end().await;
    assert_eq!(finished(&events).exit_code, Some(3));
    let asked = ["create", "listen next", "start", "inspect", "inspect", "remove"];
    assert_eq!(stage.containers.calls(NAME), asked);
}

/// A death between the making of a box and the record of its claim leaves one with another deadline: it is no box of the
/// claim that follows.
#[tokio::test]
async fn a_box_of_a_claim_that_was_never_recorded_is_made_anew() {
    let stage = Stage::with(FakeContainers::with_images(&[IMAGE]).ending_at_once(3).making_ahead()).await;
    stage.containers.plant(stage.status(BoxState::Created));
    let events = stage.to_its_end().await;
    assert_eq!(finished(&events).exit_code, Some(3));
    let asked = ["inspect", "remove", "create", "listen next", "start", "inspect"];
    assert_eq!(stage.containers.calls(NAME)[..asked.len()], asked);
}

#[tokio::test]
async fn an_end_is_heard_of_without_looking() {
    let stage = Stage::with(FakeContainers::with_images(&[IMAGE])).await;
    let ends = async {
        stage.asked("inspect").await;
        // Long enough for a runtime that looks again and again.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let looked = stage.containers.calls(NAME);
        stage.containers.plant(stage.status(exited(7)));
        looked
    };
    let (events, looked) = tokio::join!(stage.to_its_end(), ends);
    assert_eq!(looked, ["create", "listen next", "start", "inspect"]);
    assert_eq!(finished(&events).exit_code, Some(7));
}

#[tokio::test]
async fn a_box_that_an_earlier_life_started_is_listened_to_anew() {
    let stage = Stage::with(FakeContainers::with_images(&[IMAGE])).await;
    stage.claimed(BoxState::Running).await;
    let started = RunStarted {
        dispatch: DispatchId::parse("d-1").unwrap(),
        attempt: 1,
        container: "b".repeat(64),
        started_at: UnixMillis(1_000),
        phases_ms: BTreeMap::new(),
        in_force: None,
    };
    put(&stage.log, LedgerEvent::Run(RunEvent::Started(started)), "d-1").await;
    let ends = async {
        stage.asked("listen any").await;
        stage.containers.plant(stage.status(exited(7)));
    };
    let (events, ()) = tokio::join!(stage.to_its_end(), ends);
    assert_eq!(finished(&events).exit_code, Some(7));
    assert_eq!(events.len(), 3, "{events:?}");
}

#[rstest]
#[case::created(BoxState::Created, &["inspect", "listen next", "start", "inspect", "inspect", "remove"])]
#[case::ended(exited(3), &["inspect", "inspect", "inspect", "remove"])]
#[tokio::test]
async fn a_claim_of_an_earlier_life_goes_on_with_its_box(#[case] state: BoxState, #[case] asked: &[&str]) {
    let stage = Stage::with(FakeContainers::with_images(&[IMAGE]).ending_at_once(3)).await;
    stage.claimed(state).await;
    let events = stage.to_its_end().await;
    assert!(
        matches!(events.as_slice(), [RunEvent::Claimed(_), RunEvent::Started(_), RunEvent::Finished(_)]),
        "{events:?}"
    );
    assert_eq!(finished(&events).exit_code, Some(3));
    assert_eq!(stage.containers.calls(NAME), asked);
    assert!(stage.containers.created().is_empty(), "no second box");
}

/// The box is made while its folders are filled, so a death between may leave half of a working copy beside a box that
/// is made. Nothing of that half is taken for the run's own work.
#[tokio::test]
async fn a_half_filled_working_copy_of_an_earlier_life_is_filled_anew() {
    let stage = Stage::with(FakeContainers::with_images(&[IMAGE]).ending_at_once(0)).await;
    stage.claimed(BoxState::Created).await;
    let copy = stage.one.config.runs.join("d-1/ws/default");
    std::fs::create_dir_all(&copy).unwrap();
    std::fs::write(copy.join("half"), "half of a file").unwrap();
    let events = stage.to_its_end().await;
    let commit = &finished(&events).commits[0];
    assert_eq!(
        (commit.outcome, finished(&events).reason),
        (CommitOutcome::Unchanged, StopReason::Failed),
        "{commit:?}"
    );
}
