//! T16: the socket of a dispatch before whoever is not its box: another user of the machine, and another container that
//! runs as the same user and has the socket's folder mounted. Beside each the dispatch's own box, from inside.

use crate::grants::{misbehave, post, socket};
use crate::ledger::Event;
use crate::stack::{LOOK, Stack, docker_below, fresh};
use custody_contracts::isolation::Sockets;
use custody_ports::containers::{BoxMount, BoxSpec, Containers};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// How long a refusal may take to be recorded.
const RECORDED_MAX: Duration = Duration::from_secs(30);
/// Nobody on a machine that tests run on.
const STRANGER: u32 = 64_711;
/// curl's exit codes: it could not connect, and it was not answered (an empty reply, or the connection's end while it sent
/// or received). Source: curl(1).
const NOT_CONNECTED: i32 = 7;
const NOT_ANSWERED: [i32; 3] = [52, 55, 56];

/// A request of another user of this machine, and how the program that made it ended.
async fn asked_by(user: u32, socket: &Path) -> i32 {
    let mut curl = tokio::process::Command::new("curl");
    curl.args(["-q", "--silent", "--show-error", "--max-time", "20", "--noproxy", "*", "--unix-socket"]).arg(socket);
    curl.args(["--data", "{}", "http://box/mcp"]).current_dir("/").uid(user).gid(user).kill_on_drop(true);
    let output = curl.output().await.expect("curl, as another user: run this test as root");
    output.status.code().unwrap()
}

/// The same with every folder above the socket opened. Whatever opens the state folder closes it again, so it is opened
/// before each try.
async fn asked_with_open_folders(user: u32, stack: &Stack, socket: &Path) -> i32 {
    let until = Instant::now() + RECORDED_MAX;
    loop {
        for folder in socket.ancestors().skip(1).take_while(|folder| folder.starts_with(stack.home())) {
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        match asked_by(user, socket).await {
            NOT_CONNECTED if Instant::now() < until => {}
            ended => return ended,
        }
    }
}

async fn strangers(stack: &Stack, dispatch: &str, who: &str) -> Vec<Event> {
    let until = Instant::now() + RECORDED_MAX;
    loop {
        let events = stack.events_of(dispatch).await;
        let of = |e: &&Event| {
            e.kind == "effect.tool_refused"
                && e.data["reason"] == "SOCKET_STRANGER"
                && e.data["detail"].as_str().is_some_and(|detail| detail.ends_with(who))
        };
        let found: Vec<Event> = events.iter().filter(of).cloned().collect();
        if !found.is_empty() {
            return found;
        }
        assert!(Instant::now() < until, "{who} is in no event: {events:#?}\n{}", stack.log());
        tokio::time::sleep(LOOK).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t16_a_dispatchs_socket_serves_its_own_box_and_no_other_user_or_container() {
    let stack = Stack::start().await;
    stack.grant("u_jane", "cli", &["--tool", "workspace_list"]).await;
    // The box's own calls, from inside, are answered: each with a refusal of its tool, which is an answer.
    let inside = stack.run(&misbehave("mcp 3", &["--as", "u_jane", "--tool", "workspace_list"])).await;
    let said = stack.output(inside["dispatch"].as_str().unwrap()).await;
    assert!(inside["status"] == "completed" && said.contains("200: 3"), "{said} {inside}");
    let dispatch = stack.launch(&misbehave("silent", &["--as", "u_jane", "--tool", "workspace_list"])).await;
    stack.running(&dispatch).await;
    let socket = socket(&stack, &dispatch);
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "workspace_list", "arguments": {} },
    });
    assert!(post(&socket, "/mcp", &call).await["result"].is_object(), "the user that the gateway runs as");

    // Another user: the folders are closed, and with the folders open the door is.
    assert_eq!(asked_by(STRANGER, &socket).await, NOT_CONNECTED);
    let ended = asked_with_open_folders(STRANGER, &stack, &socket).await;
    assert!(NOT_ANSWERED.contains(&ended), "curl ended with {ended}: {}", stack.log());
    assert_eq!(asked_by(0, &socket).await, 0, "the same request of the gateway's user beside it");
    strangers(&stack, &dispatch, &format!("user {STRANGER}")).await;
    for _ in 0..50 {
        let ended = asked_with_open_folders(STRANGER, &stack, &socket).await;
        assert!(NOT_ANSWERED.contains(&ended), "curl ended with {ended}");
    }

    // Another container, whose user is the box's: its worker would be given the job of this dispatch.
    let runner: Value =
        serde_json::from_slice(&std::fs::read(stack.home().join("runners/misbehave.runner.json")).unwrap()).unwrap();
    let source = socket.parent().unwrap().to_owned();
    let spec = BoxSpec {
        name: format!("custody-stranger-{}", fresh()),
        image: runner["image"].as_str().unwrap().to_owned(),
        labels: BTreeMap::new(),
        env: BTreeMap::new(),
        mounts: vec![BoxMount { source, target: "/run/gw".to_owned(), read_only: true }],
        memory_bytes: 256 << 20,
        nano_cpus: 1_000_000_000,
        pids: 64,
        tmp_bytes: 16 << 20,
        home_bytes: 16 << 20,
        sockets: Sockets::Unix,
        runtime: None,
        slots: false,
    };
    let engine = docker_below(&stack.state().join("runs"));
    let other = engine.create(&spec).await.unwrap();
    engine.start(&spec.name).await.unwrap();
    let told = strangers(&stack, &dispatch, &format!("container {other}")).await;
    engine.remove(&spec.name).await.unwrap();
    assert!(told.iter().all(|e| e.data["tool"].is_null()), "{told:?}");

    // Nothing of it reached the dispatch, whose own worker is still the one that is heard, and no try was an event of its own.
    assert!(post(&socket, "/mcp", &call).await["result"].is_object());
    let row = stack.running(&dispatch).await;
    stack.ok(&["dispatch", "kill", &dispatch]).await;
    assert_eq!(stack.ended(&dispatch).await["container"], row["container"]);
    let events = stack.events_of(&dispatch).await;
    let told = events.iter().filter(|e| e.data["reason"] == "SOCKET_STRANGER").count();
    assert!(told < 20, "{told} events of some 60 tries");
    stack.no_container_left().await;
    stack.nothing_is_wrong().await;
}
