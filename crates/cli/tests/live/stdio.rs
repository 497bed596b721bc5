//! A stranger's server that is a process of the gateway's: Python's official SDK over stdio, called by a dispatch, killed in
//! the middle of a call, and gone with the installation.

use crate::grants::{misbehave, post, socket};
use crate::mcp::{ADD, peer, repository};
use crate::stack::{LOOK, Options, Stack, signal};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// The tool that does not come back.
const WAIT: &str = "stock__wait";
/// How long a stranger may take to begin with a call.
const BEGINS_MAX: Duration = Duration::from_secs(60);

async fn call(socket: &Path, tool: &str, args: Value) -> Value {
    let params = json!({ "name": tool, "arguments": args });
    post(socket, "/mcp", &json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params })).await
}

fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

/// Waits until a call of [`WAIT`] has begun.
async fn began(file: &Path) {
    let until = Instant::now() + BEGINS_MAX;
    while !file.exists() {
        assert!(Instant::now() < until, "no {}", file.display());
        tokio::time::sleep(LOOK).await;
    }
}

/// The server's process, as it says itself.
fn pid(work: &Path) -> u32 {
    std::fs::read_to_string(work.join("pid")).unwrap().parse().unwrap()
}

fn is_there(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_process_serves_a_dispatch_and_one_that_is_killed_in_the_middle_leaves_its_call_in_doubt() {
    let command = [peer("python/bin/python"), repository("ops/trust/mcp/stdio.py")];
    let config = Some(format!("[tools.servers.stock]\ncommand = {command:?}\n"));
    let mut stack = Stack::prepared(Options { config, ..Options::default() });
    stack.up(&[]).await;
    for (name, effect, idempotent) in [(ADD, "write", true), (WAIT, "irreversible", false)] {
        let document = stack.home().join("tool.json");
        let tool = json!({
            "name": name, "scope": "stock:use", "grant": "auto", "transport": "mcp", "mcp_server": "stock", "barriers": [],
            "effect": effect, "idempotent": idempotent, "constraints": [],
        });
        std::fs::write(&document, tool.to_string()).unwrap();
        stack.ok(&["tool", "add", document.to_str().unwrap()]).await;
        stack.ok(&["tool", "accept", name]).await;
    }
    let tools = ["--tool", ADD, "--tool", WAIT];
    stack.grant("u_jane", "cli", &tools).await;
    let dispatch = stack.launch(&misbehave("silent", &[&["--as", "u_jane"], &tools[..]].concat())).await;
    stack.running(&dispatch).await;
    let (socket, work) = (socket(&stack, &dispatch), stack.state().join("servers/stock"));

    let answer = call(&socket, ADD, json!({ "a": 20, "b": 22 })).await;
    assert_eq!((text(&answer), &answer["result"]["isError"]), ("42", &json!(false)));
    let why = stack.ok(&["audit", "why", &[&dispatch, "-t1"].concat(), "-o", "json"]).await.json();
    let rung = |what: &str| {
        let found = why["ladder"].as_array().unwrap().iter().find(|rung| rung["what"] == what);
        found.and_then(|rung| rung["text"].as_str()).unwrap_or_else(|| panic!("no {what:?}: {why}"))
    };
    assert!(rung("came to").starts_with("succeeded after "), "{why}");
    assert!(rung("let through by").contains("tool stock__add under scope stock:use"), "{why}");
    assert!(rung("on behalf of").starts_with("u_jane ("), "{why}");

    let first = pid(&work);
    let killing = async {
        began(&work.join("began")).await;
        signal(first, Signal::KILL);
    };
    let (answer, ()) = tokio::join!(call(&socket, WAIT, json!({ "name": "began" })), killing);
    assert!(text(&answer).starts_with("IN_DOUBT: UPSTREAM_BROKE_OFF"), "{answer}");
    let events = stack.events_of(&dispatch).await;
    let finished = events.iter().rfind(|event| event.kind == "effect.tool_finished").unwrap();
    let said = (finished.data["phase"].as_str(), finished.data["reason"].as_str());
    assert_eq!(said, (Some("in_doubt"), Some("UPSTREAM_BROKE_OFF")), "{finished:?}");
    let why = stack.ok(&["audit", "why", &[&dispatch, "-t2"].concat()]).await.out;
    assert!(why.lines().any(|line| line.contains("effect.tool_finished") && line.contains("in_doubt")), "{why}");

    // The next call is served by another process, and the one in doubt is not made again.
    std::fs::remove_file(work.join("began")).unwrap();
    let answer = call(&socket, ADD, json!({ "a": 1, "b": 2 })).await;
    assert_eq!(text(&answer), "3");
    let second = pid(&work);
    assert!(is_there(second) && !is_there(first), "{first} {second}");
    assert!(!work.join("began").exists(), "a call in doubt was made again");

    stack.ok(&["dispatch", "kill", &dispatch]).await;
    stack.ended(&dispatch).await;
    stack.no_container_left().await;
    stack.nothing_is_wrong().await;
    // With the installation its servers end.
    stack.stop().await;
    assert!(!is_there(second), "{second} is left: {}", stack.log());
}
