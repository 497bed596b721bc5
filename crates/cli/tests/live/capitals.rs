//! A server of tools in Go, whose encoding/json takes a member in any capitals and the last one of two: what is judged here
//! and what it reads must be the same. `go` must be on this machine, as `ops/trust/setup` needs it too.

use crate::grants::{misbehave, post, socket};
use crate::mcp::repository;
use crate::stack::{Options, Stack, ran};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long it may take to start.
const START_MAX: Duration = Duration::from_secs(60);
/// The tool, as an agent calls it.
const SEND: &str = "lenient__send";

/// The server, ended with its handle.
struct Lenient {
    at: String,
    _process: Child,
}

impl Lenient {
    async fn start(folder: &Path) -> Lenient {
        let program = folder.join("lenient");
        let mut build = Command::new("go");
        build.arg("build").arg("-o").arg(&program).arg(repository("ops/trust/mcp/lenient.go"));
        build.current_dir(folder).env("GOTOOLCHAIN", "local").env("GOPROXY", "off").env("CGO_ENABLED", "0");
        let there = Command::new("go").arg("version").output().await;
        assert!(
            there.is_ok_and(|o| o.status.success()),
            "go is not on this machine, and builds the server of this test"
        );
        ran(&mut build).await.ended(0);
        let mut process = Command::new(&program).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let url = timeout(START_MAX, lines.next_line()).await.unwrap().unwrap().unwrap();
        Lenient { at: url.trim_start_matches("http://").to_owned(), _process: process }
    }

    /// One request, and the body of its answer.
    async fn ask(&self, request: String) -> Value {
        let mut stream = TcpStream::connect(&self.at).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1.trim())
            .unwrap_or_else(|e| panic!("{e}: {answer}"))
    }

    /// A message as it is written, past everything of ours.
    async fn directly(&self, body: &str) -> Value {
        let head = format!(
            "POST /mcp HTTP/1.0\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.ask([&head, body].concat()).await
    }

    /// Tool and person of every call that it heard.
    async fn heard(&self) -> Vec<(String, String)> {
        let all = self.ask("GET /heard HTTP/1.0\r\nhost: a\r\n\r\n".to_owned()).await;
        let text = |one: &Value, field: &str| one[field].as_str().unwrap().to_owned();
        all.as_array().unwrap().iter().map(|one| (text(one, "tool"), text(one, "to"))).collect()
    }
}

/// A request to the door, written by hand: what a client library would not write.
async fn by_hand(socket: &Path, body: &str) -> String {
    let mut stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: box\r\ncontent-type: application/json\r\naccept: application/json\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all([&head, body].concat().as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// T27: letters may go to Bob alone. Each message names him where it is judged, and Eve where Go would read her.
#[tokio::test(flavor = "multi_thread")]
async fn t27_a_member_in_other_capitals_never_reaches_a_server_in_go() {
    let folder = tempfile::tempdir().unwrap();
    let server = Lenient::start(folder.path()).await;
    let config = Some(format!("[tools.servers.lenient]\nurl = \"http://{}/mcp\"\n", server.at));
    let mut stack = Stack::prepared(Options { config, ..Options::default() });
    stack.up(&[]).await;
    let document = stack.home().join("send.json");
    let tool = json!({
        "name": SEND, "scope": "lenient:send", "grant": "auto", "transport": "mcp", "mcp_server": "lenient",
        "barriers": [], "effect": "write", "idempotent": true,
        "constraints": [{ "on": "recipient", "argument": "/to", "allow": ["bob@acme.test"] }],
    });
    std::fs::write(&document, tool.to_string()).unwrap();
    stack.ok(&["tool", "add", document.to_str().unwrap()]).await;
    stack.ok(&["tool", "accept", SEND]).await;
    stack.grant("u_tester", "cli", &["--tool", SEND]).await;
    let dispatch = stack.launch(&misbehave("silent", &["--tool", SEND])).await;
    stack.running(&dispatch).await;
    let door = socket(&stack, &dispatch);

    // The server does what this is about: past the door Eve gets the letter.
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"send","arguments":{"to":"bob@acme.test","TO":"eve@evil.example"}}}"#;
    let direct = server.directly(call).await;
    assert_eq!(direct["result"]["content"][0]["text"], "sent to eve@evil.example", "{direct}");
    // And the honest call beside the attacks.
    let honest = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": SEND, "arguments": { "to": "bob@acme.test" } },
    });
    let answer = post(&door, "/mcp", &honest).await;
    assert_eq!(answer["result"]["content"][0]["text"], "sent to bob@acme.test", "{answer}");
    let bob = ("send".to_owned(), "bob@acme.test".to_owned());
    let heard = server.heard().await;
    assert_eq!((heard.len(), &heard[1]), (2, &bob), "{heard:?}");

    let honest = honest.to_string();
    let changed = |from: &str, to: &str| {
        assert!(honest.contains(from), "{honest}");
        honest.replacen(from, to, 1)
    };
    let to = r#""to":"bob@acme.test""#;
    let before = server.heard().await.len();
    for capitals in ["TO", "To", "tO"] {
        for written in
            [format!("{to},\"{capitals}\":\"eve@evil.example\""), format!("\"{capitals}\":\"eve@evil.example\",{to}")]
        {
            let answer = by_hand(&door, &changed(to, &written)).await;
            assert!(answer.contains("ARGUMENTS_AMBIGUOUS"), "{written}: {answer}");
        }
    }
    // In other capitals alone it is no argument of the tool at all.
    let answer = by_hand(&door, &changed(to, r#""TO":"eve@evil.example""#)).await;
    assert!(answer.contains("\"error\""), "{answer}");
    assert_eq!(server.heard().await.len(), before, "the server was asked");

    // Around the arguments: refused, or never sent on. What the server reads is what was judged.
    let name = format!("\"name\":\"{SEND}\"");
    let arguments = r#""arguments":{"to":"bob@acme.test"}"#;
    for (from, to) in [
        (name.as_str(), format!("{name},\"Name\":\"wire\"")),
        (name.as_str(), format!("\"NAME\":\"wire\",{name}")),
        (arguments, format!("{arguments},\"Arguments\":{{\"to\":\"eve@evil.example\"}}")),
        (r#""method":"tools/call""#, r#""method":"tools/call","Method":"tools/list""#.to_owned()),
        (r#""params":"#, r#""PARAMS":{"name":"wire","arguments":{"to":"eve@evil.example"}},"params":"#.to_owned()),
    ] {
        let answer = by_hand(&door, &changed(from, &to)).await;
        assert!(!answer.contains("eve@evil.example"), "{to}: {answer}");
    }
    let heard = server.heard().await;
    assert!(heard[before..].iter().all(|one| *one == bob), "{heard:?}");

    stack.ok(&["dispatch", "kill", &dispatch]).await;
    stack.ended(&dispatch).await;
    stack.no_container_left().await;
    stack.nothing_is_wrong().await;
}
