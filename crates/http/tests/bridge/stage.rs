//! An api over fakes: output in memory, a projector that knows nothing, and a wire that keeps what was sent.

use custody_contracts::box_protocol::{Frame, FrameBody};
use custody_contracts::messages::Chunk;
use custody_contracts::unit::Invocation;
use custody_engine::runners::Runners;
use custody_http::api::{Evidence, Parts};
use custody_http::auth::users::{Linked, User, Users};
use custody_http::auth::{Auth, Credential, Person, hash};
use custody_http::bridge::connection::{Incoming, Wire};
use custody_http::bridge::frames::Out;
use custody_http::bridge::hub::{Hub, Owner};
use custody_http::bridge::items;
use custody_http::{Api, HttpSettings};
use custody_ledger::{LogError, MemoryLog, Seq, Stored};
use custody_ports::asks::{AskFailed, Asks, LaunchFailed, Launched, Launcher};
use custody_ports::output::{OutputError, StoredChunk};
use custody_ports::pages::{LogPages, OutputPages};
use custody_ports::sign_in::IdentityProvider;
use custody_testkit::fakes::ManualClock;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

#[derive(Default)]
pub(crate) struct Chunks(Mutex<Vec<(String, StoredChunk)>>);

fn chunk(dispatch: &str, seq: u64, text: &str) -> StoredChunk {
    let frame = Frame { seq, at: 1, body: FrameBody::Text { text: text.into() } };
    let chunk = Chunk { dispatch: dispatch.into(), attempt: 1, from: seq, to: seq, frames: vec![frame] };
    StoredChunk { seq, bytes: serde_json::to_vec(&chunk).unwrap() }
}

impl Chunks {
    pub(crate) fn put(&self, dispatch: &str, seq: u64, text: &str) {
        self.0.lock().unwrap().push((dispatch.to_owned(), chunk(dispatch, seq, text)));
    }
}

impl OutputPages for Chunks {
    fn page<'a>(
        &'a self,
        dispatch: &'a str,
        after: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredChunk>, OutputError>> {
        let chunks = self.0.lock().unwrap();
        let of = chunks.iter().filter(|(d, c)| d == dispatch && c.seq > after).map(|(_, c)| c.clone());
        let page = of.take(max).collect();
        Box::pin(async move { Ok(page) })
    }
    fn said<'a>(&'a self, _: &'a str, _: u64, _: usize) -> BoxFuture<'a, Result<Vec<StoredChunk>, OutputError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn last_seq(&self) -> BoxFuture<'_, Result<u64, OutputError>> {
        Box::pin(async { Ok(0) })
    }
    fn tail(&self, _: u64) -> BoxStream<'static, Result<(String, StoredChunk), OutputError>> {
        futures::stream::pending().boxed()
    }
}

struct Nothing;

impl LogPages for Nothing {
    fn page(&self, _: Seq, _: usize) -> BoxFuture<'_, Result<Vec<Stored>, LogError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

impl Asks for Nothing {
    fn ask<'a>(&'a self, subject: &'a str, _: Vec<u8>) -> BoxFuture<'a, Result<Vec<u8>, AskFailed>> {
        Box::pin(async move { Err(AskFailed::NobodyThere(subject.to_owned())) })
    }
}

impl Launcher for Nothing {
    fn launch<'a>(&'a self, _: &'a str, _: &'a Invocation) -> BoxFuture<'a, Result<Launched, LaunchFailed>> {
        Box::pin(async { Err(LaunchFailed::Unavailable("a stage launches nothing".into())) })
    }
}

/// The output of 1200 messages ends at this sequence in every stage.
const OUTPUT_HEARD: u64 = 700;

pub(crate) struct Stage {
    _folder: tempfile::TempDir,
    pub(crate) api: Api,
    pub(crate) hub: Hub,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) output: Arc<Chunks>,
    jane: Person,
}

impl Stage {
    pub(crate) fn new() -> Stage {
        Stage::asking(Arc::new(Nothing))
    }

    /// A stage whose projector, authority and runtime are this.
    pub(crate) fn asking(asks: Arc<dyn Asks>) -> Stage {
        Stage::set(asks, None, Vec::new())
    }

    /// A stage where this provider vouches for people, under other origins besides its own. It knows Jane as `jane`.
    pub(crate) fn vouching(provider: Arc<dyn IdentityProvider>, origins: Vec<String>) -> Stage {
        Stage::set(Arc::new(Nothing), Some(provider), origins)
    }

    fn set(asks: Arc<dyn Asks>, provider: Option<Arc<dyn IdentityProvider>>, origins: Vec<String>) -> Stage {
        let folder = tempfile::tempdir().unwrap();
        let mut users = Users::default();
        let user = User {
            subject: "u_jane".into(),
            name: "Jane".into(),
            admin: false,
            key_hash: hash("ck_jane"),
            disabled: false,
            linked: Some(Linked { issuer: "https://id.test".into(), id: "jane".into() }),
            added_at: 0,
        };
        users.put(user).unwrap();
        users.write(folder.path()).unwrap();
        let clock = Arc::new(ManualClock::at(0));
        let auth = Auth::open(folder.path().to_owned(), clock.clone(), Duration::from_secs(60)).unwrap();
        let (_, jane) = auth.sign_in(&Credential::AccessKey("ck_jane"), [127, 0, 0, 1].into()).unwrap();
        let settings = HttpSettings {
            listen: ([127, 0, 0, 1], 1).into(),
            origins,
            session: Duration::from_secs(60),
            ui: None,
            state: folder.path().to_owned(),
            launcher: "web-chat".into(),
            version: "0".into(),
            contracts: ["sha256:", &"0".repeat(64)].concat(),
            heartbeat: Duration::from_secs(10),
        };
        let output = Arc::new(Chunks::default());
        let parts = Parts {
            settings,
            auth,
            provider,
            log: Arc::new(MemoryLog::default()),
            pages: Arc::new(Nothing),
            output: output.clone(),
            asks,
            blobs: Arc::new(custody_testkit::fakes::MemoryBlobs::default()),
            launcher: Arc::new(Nothing),
            clock: clock.clone(),
            runners: Runners::read(folder.path())
                .unwrap_or_else(|_| Runners::read(std::path::Path::new("/none")).unwrap()),
            evidence: Evidence {
                log: Arc::new(MemoryLog::default()),
                pages: Arc::new(Nothing),
                kept: Arc::new(Vec::new),
                root_key: None,
            },
            probe: Arc::new(|| Box::pin(async { json!({}) })),
            cancel: CancellationToken::new(),
        };
        let hub = Hub::new(0, OUTPUT_HEARD);
        let api = Api::new(parts, hub.clone());
        Stage { _folder: folder, api, hub, clock, output, jane }
    }

    pub(crate) fn jane(&self) -> Person {
        self.jane.clone()
    }

    pub(crate) fn own(&self, dispatch: &str, subject: &str) {
        self.hub.own(dispatch, Owner { subject: Some(subject.into()), session: None });
    }

    pub(crate) fn hear_output(&self, dispatch: &str, seq: u64) {
        self.output.put(dispatch, seq, "z");
        self.hub.hear_output(dispatch, items::output(&chunk(dispatch, seq, "z")).unwrap());
    }
}

/// Holds a send until it is opened.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    reached: Arc<Notify>,
    opened: Arc<Notify>,
}

impl Gate {
    pub(crate) async fn reached(&self) {
        self.reached.notified().await;
    }

    pub(crate) fn open(&self) {
        self.opened.notify_one();
    }
}

/// A wire that keeps what was sent.
pub(crate) struct Wired {
    pub(crate) frames: Arc<Mutex<Vec<Value>>>,
    incoming: VecDeque<String>,
    stuck_after: usize,
    held: Option<(&'static str, Gate)>,
}

impl Wired {
    pub(crate) fn new() -> Wired {
        Wired { frames: Arc::default(), incoming: VecDeque::new(), stuck_after: usize::MAX, held: None }
    }

    pub(crate) fn stuck_after(&mut self, frames: usize) {
        self.stuck_after = frames;
    }

    pub(crate) fn held_at(&mut self, kind: &'static str) -> Gate {
        let gate = Gate::default();
        self.held = Some((kind, gate.clone()));
        gate
    }

    pub(crate) fn says(&mut self, frame: &Value) {
        self.incoming.push_back(frame.to_string());
    }
}

impl Wire for Wired {
    fn send(&mut self, out: Out) -> BoxFuture<'_, Result<(), ()>> {
        Box::pin(async move {
            if self.frames.lock().unwrap().len() >= self.stuck_after {
                std::future::pending::<()>().await;
            }
            let frame: Value = serde_json::from_str(&out.text).unwrap();
            let held = self.held.take_if(|(kind, _)| frame["t"] == *kind);
            self.frames.lock().unwrap().push(frame);
            if let Some((_, gate)) = held {
                gate.reached.notify_one();
                gate.opened.notified().await;
            }
            Ok(())
        })
    }

    fn recv(&mut self) -> BoxFuture<'_, Incoming> {
        Box::pin(async move {
            match self.incoming.pop_front() {
                Some(text) => Incoming::Text(text),
                None => std::future::pending().await,
            }
        })
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}
