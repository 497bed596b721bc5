//! The door over a real Unix socket: what is listed, what is refused, and that intent and outcome stand in the ledger
//! before anything is answered.

use super::rate::{BURST, PER_SECOND, RECORD_EVERY};
use super::*;
use crate::keys::KeyBook;
use crate::presenting::{Pass, Presenter};
use crate::runtime::tests::{admitted, put};
use crate::sealed::content;
use custody_contracts::canonical::{canonical, digest};
use custody_contracts::events::{DispatchEvent, EffectEvent, LedgerEvent, Role, ToolPhase, ToolRefused};
use custody_contracts::ids::{DispatchId, Subject};
use custody_contracts::sealed::{INLINE_BYTES_MAX, from_inline, inline};
use custody_contracts::unit::{Limits, Mode, WorkspaceMount};
use custody_domain::tool::{PolicyAsked, Verdict};
use custody_ledger::{Append, AppendError, Entity, LogError, MemoryLog, Recorded, Seq, Stored};
use custody_ports::asks::{AskFailed, Asks};
use custody_ports::blobs::{BlobError, Blobs};
use custody_testkit::fakes::{ManualClock, MemoryBlobs};
use custody_trust::RoleKey;
use custody_trust::issued::Names;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use hyper_util::rt::TokioIo;
use rstest::rstest;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

const SOCKET: &str = "gw.sock";

/// A policy that has nothing against anything.
#[derive(Debug)]
pub(crate) struct PermitAll;

impl Policy for PermitAll {
    fn digest(&self) -> &'static str {
        "sha256:0000000000000000000000000000000000000000000000000000000000000000"
    }

    fn decide(&self, _: PolicyAsked<'_>) -> Verdict {
        Verdict::Permit { rule: "tool-of-the-unit".into() }
    }
}

pub(super) struct Stand {
    folder: tempfile::TempDir,
    log: MemoryLog,
    broken: Arc<AtomicBool>,
    full: Arc<AtomicBool>,
    gate: Arc<Gate>,
    blobs: Arc<MemoryBlobs>,
    mcp: Arc<Mcp>,
    agent: reqwest::Client,
}

/// A log that can be told to take nothing any more, or to take its time.
struct Breakable(MemoryLog, Arc<AtomicBool>, Arc<Gate>);

/// Where appends wait while somebody holds it, and how many have come so far.
struct Gate {
    held: tokio::sync::RwLock<()>,
    came: tokio::sync::watch::Sender<u64>,
}

impl Log for Breakable {
    fn load<'a>(&'a self, entity: &'a Entity) -> BoxFuture<'a, Result<Vec<Stored>, LogError>> {
        self.0.load(entity)
    }
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Seq, AppendError>> {
        match self.1.load(Ordering::SeqCst) {
            true => Box::pin(async { Err(AppendError::Unavailable("told to".into())) }),
            false => Box::pin(async move {
                self.2.came.send_modify(|n| *n += 1);
                let _open = self.2.held.read().await;
                self.0.append(append).await
            }),
        }
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

/// A store of blobs that can be told to take nothing any more.
struct Filling(Arc<MemoryBlobs>, Arc<AtomicBool>);

impl Blobs for Filling {
    fn put<'a>(&'a self, of: &'a Subject, bytes: Vec<u8>) -> BoxFuture<'a, Result<String, BlobError>> {
        match self.1.load(Ordering::SeqCst) {
            true => Box::pin(async { Err(BlobError::Unavailable("told to".into())) }),
            false => self.0.put(of, bytes),
        }
    }
    fn get<'a>(&'a self, digest: &'a str) -> BoxFuture<'a, Result<Vec<u8>, BlobError>> {
        self.0.get(digest)
    }
}

impl Stand {
    pub(super) async fn new(mode: Mode, tool_calls: Option<u64>) -> Stand {
        Stand::with(mode, tool_calls, None).await
    }

    async fn with(mode: Mode, tool_calls: Option<u64>, pass: Option<Pass>) -> Stand {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("default");
        std::fs::create_dir_all(root.join("a")).unwrap();
        std::fs::write(root.join("a/one.md"), "first line\nsecond line\n").unwrap();
        std::fs::write(folder.path().join("secret"), "secret").unwrap();
        let mut admitted = admitted("d-1", "s-1");
        admitted.unit.tools = ["workspace_list", "workspace_read", "workspace_write"].map(str::to_owned).to_vec();
        admitted.unit.workspaces = vec![WorkspaceMount { id: admitted.unit.workspaces[0].id.clone(), mode }];
        admitted.unit.limits = Some(Limits { tool_calls, ..Limits::default() });
        let log = MemoryLog::new();
        put(&log, LedgerEvent::Dispatch(DispatchEvent::Admitted(Box::new(admitted.clone()))), "d-1").await;
        let (broken, full) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let blobs = Arc::new(MemoryBlobs::default());
        let gate = Arc::new(Gate { held: tokio::sync::RwLock::default(), came: tokio::sync::watch::channel(0).0 });
        let mcp = Mcp::new(Needs {
            log: Arc::new(Breakable(log.clone(), broken.clone(), gate.clone())),
            signer: Arc::new(RoleKey::from_seed(Role::Gateway, &[3; 32])),
            clock: Arc::new(ManualClock::at(1_000_000)),
            blobs: Arc::new(Filling(blobs.clone(), full.clone())),
            admitted,
            meta: Meta { subject: Some("u_jane".into()), launcher: Some("cli".into()), ..Meta::default() },
            roots: vec![root],
            past: Past::default(),
            approval_ms: 60_000,
            incarnation: "p-1".into(),
            tools: ToolBook::builtin(),
            policy: Arc::new(PermitAll),
            upstreams: Upstreams::none(),
            tape: None,
            grants: crate::grants::Grants::default(),
            pass,
        });
        let socket = folder.path().join(SOCKET);
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let door = mcp.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let door = door.clone();
                let service = hyper::service::service_fn(move |request| {
                    let door = door.clone();
                    async move { Ok::<_, std::convert::Infallible>(door.serve(request).await) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let agent = reqwest::Client::builder().no_proxy().tls_certs_only([]).unix_socket(socket).build().unwrap();
        Stand { folder, log, broken, full, gate, blobs, mcp, agent }
    }

    fn root(&self) -> std::path::PathBuf {
        self.folder.path().join("default")
    }

    /// Where the door is.
    pub(super) fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join(SOCKET)
    }

    async fn post(&self, body: impl Into<reqwest::Body>) -> reqwest::Response {
        let request = self.agent.post("http://localhost/mcp").body(body).send();
        tokio::time::timeout(Duration::from_secs(30), request).await.unwrap().unwrap()
    }

    async fn ask(&self, method: &str, params: Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
        let response = self.post(body.to_string()).await;
        assert_eq!(response.status(), 200);
        let answer: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert_eq!((&answer["jsonrpc"], &answer["id"]), (&json!("2.0"), &json!(7)));
        answer
    }

    async fn call(&self, tool: &str, args: Value) -> Value {
        self.ask("tools/call", json!({ "name": tool, "arguments": args })).await
    }

    pub(super) fn effects(&self) -> Vec<(String, EffectEvent)> {
        let messages = self.log.messages();
        let read = messages.iter().flat_map(|stored| Recorded::read(stored).unwrap());
        let effect = |recorded: Recorded| match recorded.event {
            Some(LedgerEvent::Effect(e)) => Some((recorded.entity.id, e)),
            _ => None,
        };
        read.filter_map(effect).collect()
    }
}

#[rstest]
#[case::newest("2025-11-25", "2025-11-25")]
#[case::older("2025-06-18", "2025-06-18")]
#[case::one_without_greetings("2026-07-28", "2025-11-25")]
#[case::newer_than_known("2099-01-01", "2025-11-25")]
#[case::too_old("2024-11-05", "2025-06-18")]
#[tokio::test]
async fn a_version_is_agreed_on(#[case] asked: &str, #[case] agreed: &str) {
    let stand = Stand::new(Mode::Rw, None).await;
    let answer = stand.ask("initialize", json!({ "protocolVersion": asked, "capabilities": {} })).await;
    assert_eq!(answer["result"]["protocolVersion"], agreed);
    assert_eq!(answer["result"]["capabilities"]["tools"]["listChanged"], false);
    let told = stand.post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    assert_eq!((told.status().as_u16(), told.bytes().await.unwrap().len()), (202, 0));
    assert_eq!(stand.ask("ping", json!({})).await["result"], json!({}));
}

#[rstest]
#[case::not_json("{", 400, -32700)]
#[case::twice(r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}"#, 400, -32700)]
#[case::twice_deep(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{"path":"a","path":"b"}}}"#, 400, -32700)]
#[case::t26_twice_by_an_escape(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{"path":"a","\u0070ath":"b"}}}"#, 400, -32700)]
#[case::t26_a_second_document(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}{"jsonrpc":"2.0","id":2,"method":"ping"}"#, 400, -32700)]
#[case::t26_a_mark_before_it("\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}", 400, -32700)]
#[case::batch(r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, 400, -32600)]
#[case::no_version(r#"{"id":1,"method":"ping"}"#, 400, -32600)]
#[case::null_id(r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, 400, -32600)]
#[case::unknown(r#"{"jsonrpc":"2.0","id":1,"method":"resources/list"}"#, 200, -32601)]
#[case::no_name(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}"#, 200, -32602)]
#[tokio::test]
async fn what_is_not_the_protocol_is_refused(#[case] body: &'static str, #[case] status: u16, #[case] code: i64) {
    let stand = Stand::new(Mode::Rw, None).await;
    let response = stand.post(body).await;
    assert_eq!(response.status().as_u16(), status);
    let answer: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(answer["error"]["code"], code, "{answer}");
    assert!(stand.effects().is_empty());
}

/// T25, T30: who calls is the socket's to say, and a session is nobody's to name.
#[tokio::test]
async fn t25_t30_headers_that_name_a_person_a_session_or_a_token_decide_nothing() {
    let stand = Stand::new(Mode::Rw, None).await;
    let body = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "workspace_read", "arguments": { "path": "a/one.md" } },
    });
    let mut request = stand.agent.post("http://localhost/mcp").body(body.to_string());
    for (name, value) in [
        ("x-disp-sub", "u_eve"),
        ("x-forwarded-client-cert", "URI=spiffe://custody/dispatch/d-2"),
        ("x-forwarded-user", "u_eve"),
        ("launcher", "calendar"),
        ("authorization", "Bearer eyJhbGciOiJub25lIn0.e30."),
        ("mcp-session-id", "d-2@other+backend"),
    ] {
        request = request.header(name, value);
    }
    let told = request.send().await.unwrap();
    assert!(told.headers().get("mcp-session-id").is_none(), "none is handed out");
    let told: Value = serde_json::from_slice(&told.bytes().await.unwrap()).unwrap();
    let plain = stand.call("workspace_read", json!({ "path": "a/one.md" })).await;
    assert_eq!(told["result"], plain["result"], "the same call without them beside it");
    for stored in stand.log.messages().iter().filter(|stored| stored.log_subject.contains(".effect.")) {
        let text = String::from_utf8_lossy(&stored.bytes);
        assert!(text.contains(r#""subject":"u_jane""#) && text.contains(r#""launcher":"cli""#), "{text}");
        assert!(!text.contains("u_eve") && !text.contains("d-2"), "{text}");
    }
}

/// What one request of 2026-07-28 is answered: status and body.
async fn alone(stand: &Stand, told: &[(&str, &str)], method: &str, mut params: Value) -> (u16, Value) {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {},
    });
    let body = json!({ "jsonrpc": "2.0", "id": "a", "method": method, "params": params });
    let mut request = stand.agent.post("http://localhost/mcp").header("mcp-protocol-version", "2026-07-28");
    for (name, value) in told {
        request = request.header(*name, *value);
    }
    let response = request.body(body.to_string()).send().await.unwrap();
    let status = response.status().as_u16();
    let answer: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!((&answer["jsonrpc"], &answer["id"]), (&json!("2.0"), &json!("a")));
    (status, answer)
}

#[tokio::test]
async fn a_request_that_stands_alone_needs_no_greeting_and_is_answered_in_its_own_form() {
    let stand = Stand::new(Mode::Rw, None).await;
    let (status, told) = alone(&stand, &[("mcp-method", "server/discover")], "server/discover", json!({})).await;
    assert_eq!(status, 200);
    assert_eq!(told["result"]["supportedVersions"], json!(["2026-07-28", "2025-11-25", "2025-06-18"]));
    let (_, listed) = alone(&stand, &[("mcp-method", "tools/list")], "tools/list", json!({})).await;
    assert_eq!(listed["result"]["tools"].as_array().unwrap().len(), 3);
    // A grant may be revoked at any moment: nothing that was listed may be kept, nor shown to another.
    for result in [&told["result"], &listed["result"]] {
        assert_eq!((&result["ttlMs"], &result["cacheScope"]), (&json!(0), &json!("private")));
        assert_eq!(result["resultType"], "complete");
        assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "custody");
    }
    let call = json!({ "name": "workspace_list", "arguments": {} });
    let told = [("mcp-method", "tools/call"), ("mcp-name", "workspace_list")];
    let (status, called) = alone(&stand, &told, "tools/call", call.clone()).await;
    assert_eq!((status, &called["result"]["resultType"]), (200, &json!("complete")), "{called}");
    assert_eq!(stand.effects().len(), 2);

    // A header that says something else than the body: nothing is called, and nothing but that is said.
    let other = [("mcp-method", "tools/call"), ("mcp-name", "workspace_read")];
    let (status, refused) = alone(&stand, &other, "tools/call", call).await;
    assert_eq!((status, &refused["error"]["code"]), (400, &json!(-32020)), "{refused}");
    assert_eq!(stand.effects().len(), 2);
    // A version that is not spoken is told those that are, as the answer to this very request.
    let ping = json!({ "jsonrpc": "2.0", "id": 9, "method": "ping" }).to_string();
    let other = stand.agent.post("http://localhost/mcp").header("mcp-protocol-version", "2099-01-01").body(ping);
    let other = other.send().await.unwrap();
    assert_eq!(other.status(), 400);
    let other: Value = serde_json::from_slice(&other.bytes().await.unwrap()).unwrap();
    assert_eq!((&other["id"], &other["error"]["data"]["requested"]), (&json!(9), &json!("2099-01-01")), "{other}");
    // What this version does not have any more, and what a rule refuses.
    let (status, gone) = alone(&stand, &[("mcp-method", "ping")], "ping", json!({})).await;
    assert_eq!((status, &gone["error"]["code"]), (404, &json!(-32601)));
    let told = [("mcp-method", "tools/call"), ("mcp-name", "shell")];
    let (status, refused) = alone(&stand, &told, "tools/call", json!({ "name": "shell" })).await;
    assert_eq!((status, &refused["error"]["data"]["code"]), (200, &json!("TOOL_NOT_LISTED")), "{refused}");
}

#[tokio::test]
async fn a_message_has_a_largest_size_and_get_is_not_served() {
    let stand = Stand::new(Mode::Rw, None).await;
    let text = |len: usize| {
        let empty = json!({ "jsonrpc": "2.0", "id": 7, "method": "ping", "params": { "x": "" } }).to_string();
        empty.replace("\"\"", &format!("\"{}\"", "x".repeat(len - empty.len())))
    };
    assert_eq!(stand.post(text(BODY_BYTES_MAX)).await.status(), 200);
    assert_eq!(stand.post(text(BODY_BYTES_MAX + 1)).await.status(), 413);
    let got = stand.agent.get("http://localhost/mcp").send().await.unwrap();
    assert_eq!((got.status().as_u16(), got.headers()["allow"].to_str().unwrap()), (405, "POST"));
    let page =
        stand.agent.post("http://localhost/mcp").header("origin", "http://evil").body("{}").send().await.unwrap();
    assert_eq!(page.status(), 403);
    let (status, other) = alone(&stand, &[("mcp-protocol-version", "1")], "ping", json!({})).await;
    assert_eq!((status, &other["error"]["code"]), (400, &json!(-32020)), "two versions at once");
}

#[tokio::test]
async fn a_call_is_intended_carried_out_and_recorded_before_it_is_answered() {
    let stand = Stand::new(Mode::Rw, None).await;
    let tools = stand.ask("tools/list", json!({})).await;
    let names: Vec<_> = tools["result"]["tools"].as_array().unwrap().iter().map(|t| t["name"].clone()).collect();
    assert_eq!(names, ["workspace_list", "workspace_read", "workspace_write"]);
    let answer = stand.call("workspace_read", json!({ "path": "a/one.md", "offset": 6, "limit": 4 })).await;
    assert_eq!(answer["result"]["isError"], false);
    assert_eq!(answer["result"]["content"][0]["text"], "line");
    assert_eq!(answer["result"]["content"][1]["text"], "[bytes 6 to 10 of 23; read on with offset 10]");
    let effects = stand.effects();
    let [(one, EffectEvent::ToolIntended(intended)), (two, EffectEvent::ToolFinished(finished))] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((one.as_str(), two.as_str()), ("d-1-t1", "d-1-t1"));
    let args = from_inline(intended.args.as_ref().unwrap(), &intended.args_digest).unwrap();
    assert_eq!(String::from_utf8(args).unwrap(), r#"{"limit":4,"offset":6,"path":"a/one.md"}"#);
    assert_eq!((intended.tool.as_str(), intended.scope.as_str()), ("workspace_read", "workspace:read"));
    assert_eq!((finished.phase, &finished.reason), (ToolPhase::Succeeded, &None));
    let result = from_inline(finished.result.as_ref().unwrap(), finished.result_digest.as_ref().unwrap()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&result).unwrap(), answer["result"]);
    let stored = stand.log.messages();
    let envelope = &Recorded::read(stored.last().unwrap()).unwrap()[0].envelope;
    assert_eq!((envelope.subject.as_deref(), envelope.launcher.as_deref()), (Some("u_jane"), Some("cli")));
}

#[tokio::test]
async fn files_are_listed_and_written_in_place() {
    let stand = Stand::new(Mode::Rw, None).await;
    let wrote = stand.call("workspace_write", json!({ "path": "new/deep/two.md", "text": "2" })).await;
    assert_eq!(wrote["result"]["isError"], false, "{wrote}");
    assert_eq!(std::fs::read_to_string(stand.root().join("new/deep/two.md")).unwrap(), "2");
    let listed = stand.call("workspace_list", json!({})).await;
    assert_eq!(listed["result"]["content"][0]["text"], "a/\nnew/");
    let listed = stand.call("workspace_list", json!({ "path": "new/deep" })).await;
    assert_eq!(listed["result"]["content"][0]["text"], "two.md\t1 bytes");
    let again = stand.call("workspace_write", json!({ "path": "new/deep/two.md", "text": "zwei" })).await;
    assert_eq!(again["result"]["content"][0]["text"], "wrote 4 bytes to new/deep/two.md");
    assert_eq!(std::fs::read_dir(stand.root().join("new/deep")).unwrap().count(), 1, "nothing is left over");
}

/// What a box may plant in its own workspace, and where a call through it must not get.
fn plant(root: &Path, secret: &Path) {
    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, root.join(name)).unwrap();
    link(secret, "file");
    link(secret.parent().unwrap(), "folder");
    link(Path::new("../secret"), "relative");
    link(Path::new("/proc/self/environ"), "magic");
    link(Path::new("loop"), "loop");
    let made = std::process::Command::new("mkfifo").arg(root.join("pipe")).status().unwrap();
    assert!(made.success());
}

#[rstest]
#[case::a_link("workspace_read", json!({"path": "file"}), "PATH_LEAVES_WORKSPACE")]
#[case::a_linked_folder("workspace_read", json!({"path": "folder/secret"}), "PATH_LEAVES_WORKSPACE")]
#[case::a_relative_link("workspace_read", json!({"path": "relative"}), "PATH_LEAVES_WORKSPACE")]
#[case::proc("workspace_read", json!({"path": "magic"}), "PATH_LEAVES_WORKSPACE")]
#[case::a_loop("workspace_read", json!({"path": "loop"}), "PATH_LEAVES_WORKSPACE")]
#[case::listing_through_a_link("workspace_list", json!({"path": "folder"}), "PATH_LEAVES_WORKSPACE")]
#[case::writing_through_a_link("workspace_write", json!({"path": "folder/secret", "text": "x"}), "NOT_A_FOLDER")]
#[case::a_pipe("workspace_read", json!({"path": "pipe"}), "NOT_A_FILE")]
#[case::writing_a_pipe("workspace_write", json!({"path": "pipe", "text": "x"}), "NOT_A_FILE")]
#[case::writing_a_folder("workspace_write", json!({"path": "a", "text": "x"}), "NOT_A_FILE")]
#[case::reading_a_folder("workspace_read", json!({"path": "a"}), "NOT_A_FILE")]
#[case::nothing("workspace_read", json!({"path": "b"}), "NOT_FOUND")]
#[tokio::test]
async fn a_file_that_is_elsewhere_or_none_is_not_reached(#[case] tool: &str, #[case] args: Value, #[case] code: &str) {
    let stand = Stand::new(Mode::Rw, None).await;
    let secret = stand.folder.path().join("secret");
    plant(&stand.root(), &secret);
    let answer = stand.call(tool, args).await;
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    let said = answer["result"]["content"][0]["text"].as_str().unwrap();
    assert!(said.starts_with(code), "{said}");
    assert_eq!(std::fs::read_to_string(secret).unwrap(), "secret");
    let effects = stand.effects();
    let Some((_, EffectEvent::ToolFinished(finished))) = effects.last() else { panic!("{effects:?}") };
    assert_eq!((finished.phase, finished.reason.as_deref()), (ToolPhase::Failed, Some(code)));
}

#[tokio::test]
async fn a_write_replaces_a_link_and_not_what_it_points_to() {
    let stand = Stand::new(Mode::Rw, None).await;
    let secret = stand.folder.path().join("secret");
    plant(&stand.root(), &secret);
    let answer = stand.call("workspace_write", json!({ "path": "file", "text": "mine" })).await;
    assert_eq!(answer["result"]["isError"], false, "{answer}");
    assert_eq!(std::fs::read_to_string(stand.root().join("file")).unwrap(), "mine");
    assert_eq!(std::fs::read_to_string(secret).unwrap(), "secret");
}

pub(super) fn refusal(effects: &[(String, EffectEvent)]) -> &ToolRefused {
    match effects.last() {
        Some((_, EffectEvent::ToolRefused(refused))) => refused,
        _ => panic!("{effects:?}"),
    }
}

#[rstest]
#[case::not_listed("shell", json!({}), -32602, "TOOL_NOT_LISTED")]
#[case::read_only("workspace_write", json!({"path": "x", "text": "x"}), -32001, "WORKSPACE_READ_ONLY")]
#[case::hooks("workspace_write", json!({"path": ".git/hooks/x", "text": "x"}), -32001, "PATH_NOT_ALLOWED")]
#[tokio::test]
async fn a_refused_call_is_told_and_recorded(
    #[case] tool: &str,
    #[case] args: Value,
    #[case] code: i64,
    #[case] reason: &str,
) {
    let stand = Stand::new(Mode::Ro, None).await;
    let answer = stand.call(tool, args).await;
    assert_eq!((&answer["error"]["code"], &answer["error"]["data"]["code"]), (&json!(code), &json!(reason)));
    let effects = stand.effects();
    assert_eq!((refusal(&effects).reason.as_str(), refusal(&effects).count, effects.len()), (reason, 1, 1));
    assert!(!stand.root().join("x").exists());
}

#[tokio::test]
async fn the_units_own_limit_of_calls_holds() {
    let stand = Stand::new(Mode::Rw, Some(2)).await;
    for _ in 0..2 {
        assert!(stand.call("workspace_list", json!({})).await["result"].is_object());
    }
    let answer = stand.call("workspace_list", json!({})).await;
    assert_eq!(answer["error"]["data"]["code"], "TOOL_CALLS_LIMIT");
}

#[tokio::test]
async fn a_call_whose_intent_cannot_be_recorded_does_nothing() {
    let stand = Stand::new(Mode::Rw, None).await;
    stand.broken.store(true, Ordering::SeqCst);
    let answer = stand.call("workspace_write", json!({ "path": "x", "text": "x" })).await;
    assert_eq!(answer["error"]["code"], -32603, "{answer}");
    assert!(!stand.root().join("x").exists());
}

/// T45: a ledger that is slow decides nothing meanwhile. The call waits for its intent, and nothing is done before that
/// stands; when it does, the same call is made, once.
#[tokio::test]
async fn t45_a_ledger_that_is_slow_lets_no_call_through_before_its_intent_stands() {
    let stand = Arc::new(Stand::new(Mode::Rw, None).await);
    let shut = stand.gate.held.write().await;
    let mut came = stand.gate.came.subscribe();
    let asking = stand.clone();
    let call = tokio::spawn(async move { asking.call("workspace_write", json!({ "path": "x", "text": "x" })).await });
    came.wait_for(|n| *n > 0).await.unwrap();
    // The intent has reached the ledger, which says nothing.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert!(!call.is_finished() && !stand.root().join("x").exists());
    assert!(stand.effects().is_empty());
    drop(shut);
    let answer = call.await.unwrap();
    assert_eq!(answer["result"]["isError"], false, "{answer}");
    assert!(stand.root().join("x").exists());
    assert_eq!(stand.effects().len(), 2, "its intent and its outcome");
}

#[tokio::test]
async fn a_call_whose_arguments_are_not_stored_is_not_made_and_its_record_says_so() {
    let stand = Stand::new(Mode::Rw, None).await;
    let large = "x".repeat(INLINE_BYTES_MAX);
    let write = || stand.call("workspace_write", json!({ "path": "x", "text": large }));
    stand.full.store(true, Ordering::SeqCst);
    let answer = write().await;
    assert_eq!(answer["error"]["code"], -32603, "{answer}");
    assert!(!stand.root().join("x").exists());
    let effects = stand.effects();
    let [(_, EffectEvent::ToolIntended(_)), (_, EffectEvent::ToolFinished(finished))] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((finished.phase, finished.reason.as_deref()), (ToolPhase::Failed, Some("ARGUMENTS_NOT_STORED")));
    stand.full.store(false, Ordering::SeqCst);
    assert_eq!(write().await["result"]["isError"], false);
    assert!(stand.root().join("x").exists());
}

/// What is small stands in the events themselves, what is larger is a blob; the digest is of the same bytes in both.
#[tokio::test]
async fn content_is_in_the_event_up_to_its_size_and_a_blob_beyond() {
    let stand = Stand::new(Mode::Rw, None).await;
    let around = canonical(&json!({ "path": "x", "text": "" })).len();
    for (bytes, held) in [(INLINE_BYTES_MAX, true), (INLINE_BYTES_MAX + 1, false)] {
        let args = json!({ "path": "x", "text": "x".repeat(bytes - around) });
        assert_eq!(stand.call("workspace_write", args.clone()).await["result"]["isError"], false);
        let mut intents = stand.effects().into_iter().filter_map(|(_, effect)| match effect {
            EffectEvent::ToolIntended(intended) => Some(intended),
            _ => None,
        });
        let last = intents.next_back().unwrap();
        assert_eq!(
            (last.args.is_some(), last.args_digest.as_str()),
            (held, digest(canonical(&args).as_bytes()).as_str())
        );
        let stored = stand.blobs.get(&last.args_digest).await;
        assert_eq!(stored.is_ok(), !held);
        let read = content(stand.blobs.as_ref(), last.args.as_deref(), &last.args_digest).await.unwrap();
        assert_eq!(read, canonical(&args).into_bytes());
    }
    let other = inline(b"another").unwrap();
    let refused = content(stand.blobs.as_ref(), Some(&other), &digest(b"one")).await;
    assert!(matches!(refused, Err(BlobError::Corrupt(_))), "{refused:?}");
}

/// A token service that is not there.
struct Nobody;

impl Asks for Nobody {
    fn ask<'a>(&'a self, subject: &'a str, _: Vec<u8>) -> BoxFuture<'a, Result<Vec<u8>, AskFailed>> {
        Box::pin(async move { Err(AskFailed::NobodyThere(subject.to_owned())) })
    }
}

/// T45: a call for which no good token can be had is refused before its intent.
#[tokio::test]
async fn a_call_without_a_good_token_is_refused_and_nothing_is_done() {
    let presenter = Presenter {
        asks: Arc::new(Nobody),
        signer: Arc::new(RoleKey::from_seed(Role::Gateway, &[3; 32])),
        jkt: String::new(),
        clock: Arc::new(ManualClock::at(1_000_000)),
        keys: KeyBook::default(),
        names: Names::of("https://custody.test"),
        audiences: Arc::default(),
        incarnation: "p-1".into(),
        proofs: Arc::default(),
    };
    let pass = presenter.pass(&DispatchId::parse("d-1").unwrap());
    let stand = Stand::with(Mode::Rw, None, Some(pass)).await;
    let write = json!({ "path": "new.md", "text": "x" });
    let answer = stand.call("workspace_write", write.clone()).await;
    assert_eq!(answer["error"]["data"]["code"], "TOKEN_UNAVAILABLE", "{answer}");
    assert!(!stand.root().join("new.md").exists());
    let effects = stand.effects();
    assert_eq!((effects.len(), refusal(&effects).reason.as_str()), (1, "TOKEN_UNAVAILABLE"));
    let honest = Stand::new(Mode::Rw, None).await;
    honest.call("workspace_write", write).await;
    assert!(honest.root().join("new.md").exists(), "beside it the same call without a token service");
}

/// What a flood is told, what the ledger keeps of it, and that the same box goes on working.
#[tokio::test]
async fn calls_beyond_the_rate_are_held_told_and_recorded_as_one() {
    let stand = Arc::new(Stand::new(Mode::Rw, None).await);
    let asked = 1_000;
    let begun = tokio::time::Instant::now();
    let flood = futures::future::join_all((0..20).map(|_| {
        let stand = stand.clone();
        tokio::spawn(async move {
            let mut refused = 0;
            for _ in 0..asked / 20 {
                let answer = stand.call("workspace_list", json!({})).await;
                if answer["error"]["data"]["code"] == "RATE_LIMITED" {
                    assert_eq!(answer["error"]["data"]["retry_after_ms"], 100);
                    refused += 1;
                }
            }
            refused
        })
    }));
    let refused: u64 = flood.await.into_iter().map(Result::unwrap).sum();
    let took = begun.elapsed().as_secs_f64();
    let most = f64::from(BURST) + f64::from(PER_SECOND) * (took + 1.0);
    #[expect(clippy::cast_precision_loss, reason = "a count of a test")]
    let made = (asked - refused) as f64;
    assert!(refused > 0 && made <= most, "{made} of {asked} calls in {took} s");
    stand.mcp.record_noted().await;
    let effects = stand.effects();
    let told: Vec<u64> = effects
        .iter()
        .filter_map(|(_, e)| match e {
            EffectEvent::ToolRefused(e) if e.reason == "RATE_LIMITED" => Some(e.count),
            _ => None,
        })
        .collect();
    assert_eq!(told.iter().sum::<u64>(), refused);
    assert!(told.len() <= 1 + usize::try_from(took as u64 / 5).unwrap() + 1, "{told:?}");
    let answer = loop {
        let answer = stand.call("workspace_read", json!({ "path": "a/one.md" })).await;
        if answer["error"].is_null() {
            break answer;
        }
    };
    assert_eq!(answer["result"]["isError"], false, "the box itself goes on");
}

/// The first is told at once; a flood of them is one event more, and none is lost when the ledger takes nothing for a while.
#[tokio::test(start_paused = true)]
async fn refusals_without_a_number_are_an_event_at_once_and_then_one_for_many() {
    let stand = Stand::new(Mode::Rw, None).await;
    let told = |stand: &Stand| -> Vec<(String, u64)> {
        let effects = stand.effects();
        let refused = effects.iter().filter_map(|(_, e)| match e {
            EffectEvent::ToolRefused(e) => Some((e.reason.clone(), e.count)),
            _ => None,
        });
        refused.collect()
    };
    stand.mcp.note_refusal("GRANT_REVOKED", "a call of the model".to_owned()).await;
    assert_eq!(told(&stand), [("GRANT_REVOKED".to_owned(), 1)]);
    for _ in 0..8_000 {
        stand.mcp.note_refusal("GRANT_REVOKED", "a call of the model".to_owned()).await;
    }
    assert_eq!(told(&stand).len(), 1);
    tokio::time::sleep(RECORD_EVERY + Duration::from_millis(1)).await;
    assert_eq!(told(&stand)[1..], [("GRANT_REVOKED".to_owned(), 8_000)]);
    // What the ledger does not take is not forgotten.
    stand.broken.store(true, Ordering::SeqCst);
    stand.mcp.note_refusal("SOCKET_STRANGER", "user 4711".to_owned()).await;
    stand.broken.store(false, Ordering::SeqCst);
    assert_eq!(told(&stand).len(), 2);
    stand.mcp.record_noted().await;
    assert_eq!(told(&stand)[2..], [("SOCKET_STRANGER".to_owned(), 1)]);
}

#[tokio::test]
async fn numbers_go_on_after_a_restart_and_never_meet() {
    let stand = Stand::new(Mode::Rw, None).await;
    stand.call("workspace_list", json!({})).await;
    // A gateway that counted wrongly finds its number taken and goes on to the next.
    stand.mcp.last.store(0, Ordering::SeqCst);
    assert!(stand.call("workspace_list", json!({})).await["result"].is_object());
    let ids: Vec<String> = stand.effects().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["d-1-t1", "d-1-t1", "d-1-t2", "d-1-t2"]);
}
