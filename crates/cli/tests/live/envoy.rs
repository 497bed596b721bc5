//! A second wall: the real Envoy before two servers of tools, with the configuration of `ops/trust/envoy`, asking Custody
//! about each request. Every attack stands beside the honest call that passes. `ops/trust/setup` fetches Envoy; without it
//! these tests fail. The numbers are those of the attack list.

use crate::grants::{post, socket};
use crate::ledger::count;
use crate::peer::{reply, says, tool};
use crate::stack::{LOOK, Options, Stack, cache, signal};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What the servers call themselves.
const MAIL: &str = "https://mail.test/mcp";
const FILES: &str = "https://files.test/mcp";
/// How long anything may take here.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A request as it is written on a connection.
#[derive(Debug, Clone)]
struct Sent {
    verb: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// What came back.
#[derive(Debug)]
struct Got {
    status: u16,
    body: String,
}

impl Sent {
    fn path(mut self, path: &str) -> Sent {
        self.path = path.to_owned();
        self
    }

    fn header(mut self, name: &str, value: &str) -> Sent {
        self.headers.retain(|(own, _)| own != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Sent {
        self.headers.retain(|(own, _)| own != name);
        self
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Sent {
        self.body = body.into();
        self
    }

    /// The same request with another message.
    fn message(self, method: &str, params: &Value) -> Sent {
        self.body(json!({ "jsonrpc": "2.0", "id": 9, "method": method, "params": params }).to_string())
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The same request with a changed text.
    fn replace(self, from: &str, to: &str) -> Sent {
        let text = self.text();
        assert!(text.contains(from), "{from} is not in {text}");
        self.body(text.replace(from, to))
    }

    fn token(&self) -> String {
        let own = self.headers.iter().find(|(name, _)| name == "authorization");
        own.unwrap().1.clone()
    }

    async fn send(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Got {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: tools.test\r\nconnection: close\r\n", self.verb, self.path);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", self.body.len()));
        let mut answer = Vec::new();
        // Whoever refuses early does not read to the end.
        let _refused = stream.write_all(&[head.as_bytes(), &self.body].concat()).await;
        let _cut = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Got { status: status.unwrap_or_else(|| panic!("{self:?}: {answer:?}")), body: body.to_owned() }
    }
}

/// A server of tools, which notes what arrives.
#[derive(Debug, Default)]
struct Server(Mutex<Vec<(HeaderMap, Value)>>);

impl Server {
    fn arrived(&self, method: &str) -> Vec<HeaderMap> {
        let all = self.0.lock().unwrap();
        all.iter().filter(|(_, message)| message["method"] == method).map(|(headers, _)| headers.clone()).collect()
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    async fn start(self: &Arc<Self>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let app = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        at
    }
}

async fn answer(State(server): State<Arc<Server>>, headers: HeaderMap, body: String) -> Response {
    let message: Value = serde_json::from_str(&body).unwrap();
    server.0.lock().unwrap().push((headers, message.clone()));
    reply(&message, &tool("send", "Sends a mail.", &["to"]), || Ok(says("sent")))
}

/// Where the gateway believes the wall to be: a test looks at its requests here, and keeps a call until it says go.
struct Tap {
    wall: PathBuf,
    behind: SocketAddr,
    /// An operator asks for definitions from behind the wall.
    around: AtomicBool,
    keeps: Mutex<Option<mpsc::UnboundedSender<Kept>>>,
}

/// A call on its way, and the word that lets it go on.
struct Kept {
    call: Sent,
    go: oneshot::Sender<()>,
}

impl Tap {
    fn keep(&self) -> mpsc::UnboundedReceiver<Kept> {
        let (sender, kept) = mpsc::unbounded_channel();
        *self.keeps.lock().unwrap() = Some(sender);
        kept
    }
}

async fn tap(State(tap): State<Arc<Tap>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 4 << 20).await.unwrap().to_vec();
    let ours = ["host", "content-length", "connection"];
    let headers = head.headers.iter().filter(|(name, _)| !ours.contains(&name.as_str()));
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    let sent = Sent { verb: "POST", path: head.uri.path().to_owned(), headers, body };
    let got = if tap.around.load(Ordering::SeqCst) {
        sent.send(TcpStream::connect(tap.behind).await.unwrap()).await
    } else {
        let keeps = tap.keeps.lock().unwrap().clone();
        if let Some(keeps) = keeps.filter(|_| sent.text().contains("\"tools/call\"")) {
            let (go, gone) = oneshot::channel();
            keeps.send(Kept { call: sent.clone(), go }).unwrap();
            gone.await.unwrap();
        }
        sent.send(UnixStream::connect(&tap.wall).await.unwrap()).await
    };
    let status = axum::http::StatusCode::from_u16(got.status).unwrap();
    (status, [("content-type", "application/json")], got.body).into_response()
}

struct Place {
    stack: Stack,
    tap: Arc<Tap>,
    mail: Arc<Server>,
    files: Arc<Server>,
    grant: String,
    dispatch: String,
    _envoy: tokio::process::Child,
}

impl Place {
    /// An installation, two servers behind the wall, and a dispatch of Jane's that runs and may send mail.
    async fn new() -> Place {
        let (mail, files) = (Arc::new(Server::default()), Arc::new(Server::default()));
        let (behind, other) = (mail.start().await, files.start().await);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let server = |name: &str, audience: &str| {
            format!("[tools.servers.{name}]\nurl = \"http://{at}/mcp/{name}\"\naudience = \"{audience}\"\n")
        };
        let listen = "[gateway]\ndecisions_listen = \"127.0.0.1:0\"\n";
        let config = [listen, &server("mail", MAIL), &server("files", FILES)].concat();
        let stack = Stack::with(Options { config: Some(config), ..Options::default() }).await;
        let (wall, keeps) = (stack.home().join("envoy.sock"), Mutex::default());
        let tap_of = Arc::new(Tap { wall: wall.clone(), behind, around: AtomicBool::new(true), keeps });
        let app = Router::new().fallback(tap).with_state(tap_of.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });

        let document = json!({
            "name": "mail__send", "scope": "mail:send", "grant": "auto", "transport": "mcp", "mcp_server": "mail",
            "barriers": [], "effect": "write", "idempotent": false, "constraints": [],
        });
        let file = stack.home().join("mail__send.json");
        std::fs::write(&file, document.to_string()).unwrap();
        stack.ok(&["tool", "add", file.to_str().unwrap()]).await;
        stack.ok(&["tool", "accept", "mail__send"]).await;
        tap_of.around.store(false, Ordering::SeqCst);
        let _envoy = envoy(&stack, &wall, behind, other).await;
        let grant = stack.grant("u_jane", "cli", &["--tool", "mail__send"]).await;
        let dispatch =
            stack.launch(&["--runner", "misbehave", "--as", "u_jane", "--tool", "mail__send", "silent"]).await;
        stack.running(&dispatch).await;
        mail.0.lock().unwrap().clear();
        Place { stack, tap: tap_of, mail, files, grant, dispatch, _envoy }
    }

    /// What the agent of the dispatch does.
    fn call(&self) -> JoinHandle<Value> {
        let socket = socket(&self.stack, &self.dispatch);
        let call = json!({
            "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": { "name": "mail__send", "arguments": { "to": "bob@acme.test" } },
        });
        tokio::spawn(async move { post(&socket, "/mcp", &call).await })
    }

    /// Sends a request to the wall.
    async fn send(&self, sent: &Sent) -> Got {
        let stream = UnixStream::connect(&self.tap.wall).await.unwrap();
        tokio::time::timeout(WAIT_MAX, sent.send(stream)).await.unwrap_or_else(|_| panic!("no answer: {sent:?}"))
    }

    fn arrived(&self) -> usize {
        self.mail.count() + self.files.count()
    }
}

/// Envoy with the configuration of `ops/trust/envoy`, once it answers.
async fn envoy(stack: &Stack, wall: &Path, mail: SocketAddr, files: SocketAddr) -> tokio::process::Child {
    let tcp = |at: SocketAddr| format!("socket_address: {{ address: {}, port_value: {} }}", at.ip(), at.port());
    let up = stack.up_file()["http_url"].as_str().unwrap().to_owned();
    let decisions = std::fs::read_to_string(stack.state().join("run/decisions")).unwrap();
    let mut text = include_str!("../../../../ops/trust/envoy/envoy.yaml").to_owned();
    for (sign, with) in [
        ("LISTEN", format!("pipe: {{ path: {} }}", wall.display())),
        ("ISSUER", "https://custody.local/sts".to_owned()),
        ("API", tcp(up.trim_start_matches("http://").parse().unwrap())),
        ("API_URL", up),
        ("DECISIONS", tcp(decisions.parse().unwrap())),
        ("MAIL", tcp(mail)),
        ("FILES", tcp(files)),
        ("MAIL_AUDIENCE", MAIL.to_owned()),
        ("FILES_AUDIENCE", FILES.to_owned()),
    ] {
        text = text.replace(&format!("@{sign}@"), &with);
    }
    let (file, log) = (stack.home().join("envoy.yaml"), stack.home().join("envoy.log"));
    std::fs::write(&file, text).unwrap();
    let program = cache().join("tools/envoy/envoy");
    assert!(program.exists(), "{} is not there; run: ops/trust/setup", program.display());
    let mut command = tokio::process::Command::new(program);
    command.arg("-c").arg(&file).args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warn"]);
    let errors = std::fs::File::create(&log).unwrap();
    let mut child = command.stdin(Stdio::null()).stderr(errors).kill_on_drop(true).spawn().unwrap();
    let nothing = Sent { verb: "GET", path: "/".into(), headers: Vec::new(), body: Vec::new() };
    let until = Instant::now() + WAIT_MAX;
    loop {
        // Its first answer comes when it has the keys.
        if let Ok(stream) = UnixStream::connect(wall).await {
            assert_eq!(nothing.send(stream).await.status, 401);
            return child;
        }
        let ended = child.try_wait().unwrap();
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        assert!(ended.is_none() && Instant::now() < until, "envoy: {ended:?}\n{}", said());
        tokio::time::sleep(LOOK).await;
    }
}

fn named<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn said(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_default()
}

/// What an attack is called, what is sent, its status, and what its answer says.
type Attack<'a> = (&'a str, Sent, u16, &'a str);

/// T07, T08, T17, T26, T27, T28: each with the honest call's own token, while that call is on its way and may pass.
#[tokio::test(flavor = "multi_thread")]
async fn an_honest_call_passes_the_wall_and_nothing_that_only_looks_like_it() {
    let place = Place::new().await;
    let mut kept = place.tap.keep();
    let agent = place.call();
    let Kept { call, go } = kept.recv().await.unwrap();
    let greeting = call.clone().message("initialize", &json!({ "protocolVersion": "2025-06-18" }));
    let listing = call.clone().message("tools/list", &json!({}));
    let greeted = place.send(&greeting).await;
    assert!(greeted.status == 200 && greeted.body.contains("protocolVersion"), "{greeted:?}");

    // T25: what a client says of itself is not what the server is told.
    let mut spoofed = greeting.clone();
    for name in ["x-custody-subject", "X-Custody-Dispatch", "x-forwarded-client-cert", "x-envoy-original-path"] {
        spoofed = spoofed.header(name, "u_admin");
    }
    assert_eq!(place.send(&spoofed).await.status, 200);
    let told = place.mail.arrived("initialize").pop().unwrap();
    assert_eq!((named(&told, "x-custody-subject"), named(&told, "x-custody-launcher")), ("u_jane", "user:cli"));
    assert_eq!(named(&told, "x-custody-dispatch"), place.dispatch);
    assert!(told.values().all(|value| value.as_bytes() != b"u_admin"), "{told:?}");

    let modern = |method: &str| {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let sent = call.clone().message("tools/list", &json!({ "_meta": meta }));
        sent.header("mcp-protocol-version", "2026-07-28").header("mcp-method", method)
    };
    let passes = place.send(&modern("tools/list")).await;
    assert_eq!(passes.status, 200, "T28's honest one: {passes:?}");

    let before = place.arrived();
    let own = call.token();
    let token = own.trim_start_matches("Bearer ");
    let wide: Vec<u8> = call.text().encode_utf16().flat_map(u16::to_le_bytes).collect();
    // `{}`, packed.
    let packed: Vec<u8> = vec![31, 139, 8, 0, 0, 0, 0, 0, 0, 3, 171, 174, 5, 0, 67, 191, 166, 163, 2, 0, 0, 0];
    let attacks: Vec<Attack<'_>> = vec![
        ("no token", call.clone().without("authorization"), 401, ""),
        ("no token of ours", call.clone().header("authorization", "Bearer a.b.c"), 401, ""),
        ("T02 a changed token", call.clone().header("authorization", &own.replacen("eyJ", "eyK", 1)), 401, ""),
        (
            "a token in the query",
            listing.clone().without("authorization").path(&format!("/mcp/mail?access_token={token}")),
            401,
            "",
        ),
        ("T07 another audience", call.clone().path("/mcp/files"), 401, ""),
        ("T08 up and down", call.clone().path("/mcp/mail/../files"), 401, ""),
        ("T08 escaped points", call.clone().path("/mcp/mail/%2e%2e/files"), 401, ""),
        ("T08 escaped slashes", call.clone().path("/mcp/mail%2f..%2ffiles"), 400, ""),
        ("T08 escaped backslash", call.clone().path("/mcp/mail%5c..%5cfiles"), 400, ""),
        ("T08 two slashes", call.clone().path("//mcp//files"), 401, ""),
        ("T08 other letters", call.clone().path("/MCP/files"), 401, ""),
        ("T08 a slash at the end", call.clone().path("/mcp/files/"), 401, ""),
        ("T08 below its own", call.clone().path("/mcp/mail/x"), 401, ""),
        ("T25 an underscore", greeting.clone().header("x_custody_subject", "u_admin"), 400, ""),
        (
            "T26 a member twice",
            call.clone().replace("\"name\":\"send\"", "\"name\":\"send\",\"name\":\"drop\""),
            400,
            "",
        ),
        ("T26 twice below", call.clone().replace("\"to\":\"bob", "\"to\":\"eve@acme.test\",\"to\":\"bob"), 400, ""),
        (
            "T26 twice by an escape",
            call.clone().replace("\"name\":\"send\"", r#""name":"send","n\u0061me":"drop""#),
            400,
            "",
        ),
        ("T26 a batch", call.clone().body(format!("[{}]", call.text())), 400, ""),
        ("T26 a second document", call.clone().body([call.text(), call.text()].concat()), 400, ""),
        ("T26 a mark before it", call.clone().body(format!("\u{feff}{}", call.text())), 400, ""),
        ("T26 UTF-16", call.clone().body(wide), 400, ""),
        ("T26 packed", call.clone().header("content-encoding", "gzip").body(packed), 400, ""),
        ("T26 too large", call.clone().replace("bob@acme.test", &"x".repeat(1_400_000)), 400, ""),
        (
            "T27 other capitals",
            call.clone().replace("\"name\":\"send\"", "\"name\":\"send\",\"Name\":\"drop\""),
            400,
            "no member",
        ),
        ("T28 another method", modern("tools/call"), 400, "-32020"),
        ("T17 another tool", call.clone().replace("\"send\"", "\"drop\""), 200, "TOOL_NOT_LISTED"),
        ("other arguments", call.clone().replace("bob@", "eve@"), 200, "CALL_CHANGED"),
        ("T29 behind 40 KB", call.clone().replace("bob@acme.test", &"x".repeat(40_000)), 200, "CALL_CHANGED"),
        (
            "another question",
            call.clone().message("resources/read", &json!({ "uri": "file:///etc/passwd" })),
            200,
            "METHOD_NOT_ALLOWED",
        ),
    ];
    for (name, sent, status, says) in &attacks {
        let got = place.send(sent).await;
        assert!(got.status == *status && got.body.contains(says), "{name}: {got:?}");
        assert_eq!(place.arrived(), before, "{name} arrived");
    }

    // The same decision by AuthZEN, with the same token.
    let asks = async |token: Option<&str>, to: &str| {
        let at = std::fs::read_to_string(place.stack.state().join("run/decisions")).unwrap();
        let question = json!({
            "subject": { "type": "dispatch", "id": place.dispatch }, "action": { "name": "tools/call" },
            "resource": { "type": "tool", "id": "mail__send" }, "context": { "arguments": { "to": to } },
        });
        let headers = token.map(|token| ("authorization".to_owned(), token.to_owned())).into_iter();
        let headers = headers.chain([("content-type".to_owned(), "application/json".to_owned())]).collect();
        let body = question.to_string().into_bytes();
        let sent = Sent { verb: "POST", path: "/access/v1/evaluation".into(), headers, body };
        sent.send(TcpStream::connect(at).await.unwrap()).await
    };
    let yes = asks(Some(&own), "bob@acme.test").await;
    assert!(yes.status == 200 && yes.body.contains("\"decision\":true"), "{yes:?}");
    let no = asks(Some(&own), "eve@acme.test").await;
    assert!(no.body.contains("\"decision\":false") && no.body.contains("CALL_CHANGED"), "{no:?}");
    assert_eq!(asks(None, "bob@acme.test").await.status, 401);

    go.send(()).unwrap();
    let answer = agent.await.unwrap();
    assert_eq!(said(&answer), "sent", "{answer}");
    let [arrived]: [HeaderMap; 1] = place.mail.arrived("tools/call").try_into().unwrap();
    assert_eq!((named(&arrived, "authorization"), named(&arrived, "x-custody-subject")), (own.as_str(), "u_jane"));
    assert_eq!(named(&arrived, "x-custody-txn"), format!("{}-t1", place.dispatch));
    // T12: the whole call again, taken off the wire.
    let again = place.send(&call).await;
    assert!(again.status == 200 && again.body.contains("CALL_NOT_OPEN"), "{again:?}");
    assert_eq!((place.mail.arrived("tools/call").len(), place.files.count()), (1, 0));

    let events = place.stack.events_of(&place.dispatch).await;
    let refused: Vec<&str> = events
        .iter()
        .filter(|event| event.kind == "effect.tool_refused")
        .map(|event| event.data["reason"].as_str().unwrap())
        .collect();
    let expected =
        ["TOOL_NOT_LISTED", "CALL_CHANGED", "CALL_CHANGED", "METHOD_NOT_ALLOWED", "CALL_CHANGED", "CALL_NOT_OPEN"];
    assert_eq!(refused, expected, "each under the good token is an event");
    assert_eq!(count(&events, "effect.tool_finished"), 1);
    place.stack.ok(&["dispatch", "kill", &place.dispatch]).await;
    place.stack.ended(&place.dispatch).await;
    place.stack.nothing_is_wrong().await;
}

/// T45, T42: who gets no decision passes nothing; and what was revoked is refused at once, with a token that is good.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_decision_nothing_passes_and_after_a_revocation_nothing_either() {
    let mut place = Place::new().await;
    let mut kept = place.tap.keep();
    let agent = place.call();
    let Kept { call, go } = kept.recv().await.unwrap();
    let greeting = call.message("initialize", &json!({ "protocolVersion": "2025-06-18" }));
    let greeted = place.send(&greeting).await;
    assert_eq!(greeted.status, 200, "{greeted:?}");
    let before = place.arrived();

    signal(place.stack.pid(), Signal::STOP);
    let slow = place.send(&greeting).await;
    signal(place.stack.pid(), Signal::CONT);
    assert_eq!((slow.status, place.arrived()), (503, before), "{slow:?}");
    let greeted = place.send(&greeting).await;
    assert!(greeted.status == 200 && greeted.body.contains("protocolVersion"), "{greeted:?}");

    let before = place.arrived();
    place.stack.ok(&["grant", "revoke", &place.grant, "--why", "the phone was lost"]).await;
    go.send(()).unwrap();
    let refused = place.send(&greeting).await;
    assert!(refused.status == 200 && refused.body.contains("GRANT_REVOKED"), "the token is good: {refused:?}");
    let until = Instant::now() + WAIT_MAX;
    let events = loop {
        let events = place.stack.events_of(&place.dispatch).await;
        if count(&events, "effect.tool_finished") == 1 {
            break events;
        }
        assert!(Instant::now() < until, "{events:#?}");
        tokio::time::sleep(LOOK).await;
    };
    let finished = events.iter().find(|event| event.kind == "effect.tool_finished").unwrap();
    assert_eq!(finished.data["phase"], "failed", "nobody has to wonder whether it was done: {events:#?}");
    let of_revoked = |event: &&crate::ledger::Event| event.data["reason"] == "GRANT_REVOKED";
    assert_eq!(events.iter().filter(of_revoked).count(), 2, "{events:#?}");
    assert_eq!((place.arrived(), place.mail.arrived("tools/call").len()), (before, 0));
    place.stack.ended(&place.dispatch).await;
    agent.abort();

    place.stack.kill().await;
    let down = place.send(&greeting).await;
    assert_eq!((down.status, place.arrived()), (503, before), "{down:?}");
    place.stack.up(&[]).await;
    place.stack.no_container_left().await;
    place.stack.nothing_is_wrong().await;
}
