//! The real worker over several turns, with a loopback port, with limits that are counted, and blank in a pool.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

mod common;

use common::{Box, Connection, Worker, bodies, fifo, kinds, release, text};
use rstest::rstest;
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
};

const ECHO: &str = r#"printf '{"type":"result","text":"%s"}\n' "$1""#;

/// A job of a box that stays, and its first connection.
fn staying(sandbox: &Box, change: impl Fn(&mut Value), script: &str) -> (Worker, Connection) {
    let mut job = sandbox.job(script);
    job["follow_up"] = json!(true);
    change(&mut job);
    let worker = sandbox.worker(&[]);
    let mut connection = sandbox.accept();
    connection.send(&json!({"type": "job", "job": job}));
    (worker, connection)
}

fn results(frames: &[Value]) -> Vec<&str> {
    frames.iter().filter(|frame| frame["kind"] == "result").map(|frame| frame["text"].as_str().unwrap()).collect()
}

fn input(connection: &mut Connection, text: &str) {
    connection.send(&json!({"type": "input", "text": text}));
}

#[test]
fn a_follow_up_runs_the_resume_command_in_the_same_box() {
    let sandbox = Box::new();
    let (worker, mut connection) = staying(&sandbox, |job| job["limits"]["idle_ms"] = json!(1_500), ECHO);
    let mut frames = connection.frames_to("turn");
    input(&mut connection, "more");
    frames.extend(connection.frames_to("turn"));
    frames.extend(connection.frames_to_exit());
    let resumed = format!("resumed {} more", sandbox.path("session.jsonl").display());
    assert_eq!(results(&frames), ["hello", resumed.as_str()]);
    let started: Vec<_> = frames.iter().filter(|f| f["kind"] == "started").map(|f| &f["resumed"]).collect();
    assert_eq!(started, [false, true]);
    let turns: Vec<_> = bodies(&frames).into_iter().filter(|body| body["kind"] == "turn").collect();
    assert_eq!(turns[1], json!({"kind": "turn", "turn": 2, "reason": "completed", "code": 0}));
    // Nobody said more: that is the ordinary end of a conversation, and no failure.
    assert_eq!(bodies(&frames).pop().unwrap(), json!({"kind": "exit", "reason": "completed", "code": 0}));
    assert_eq!(worker.code(), 0);
}

#[test]
fn follow_ups_that_come_during_a_turn_wait_in_order_and_no_more_than_the_turns_left() {
    let sandbox = Box::new();
    let pipe = sandbox.path("pipe");
    fifo(&pipe);
    let script = format!(r#"case "$1" in hello) read x < {};; esac; {ECHO}"#, pipe.display());
    let (worker, mut connection) = staying(&sandbox, |job| job["limits"]["turns"] = json!(3), &script);
    connection.frames_to("started");
    for text in ["two", "three", "four"] {
        input(&mut connection, text);
    }
    let refused = connection.frames_to("error");
    assert_eq!(refused.last().unwrap()["code"], "turn_limit");
    release(&pipe);
    let frames = connection.frames_to_exit();
    let path = sandbox.path("session.jsonl").display().to_string();
    assert_eq!(results(&frames), ["hello", &format!("resumed {path} two"), &format!("resumed {path} three")]);
    assert_eq!(worker.code(), 0);
}

#[test]
fn an_agent_that_names_its_session_resumes_by_that_name() {
    let sandbox = Box::new();
    let script = format!(r#"echo '{{"type":"session","id":"t-9"}}'; {ECHO}"#);
    let change = |job: &mut Value| {
        job["runner"]["session"]["id_from"] = json!("frame");
        job["limits"]["turns"] = json!(2);
    };
    let (worker, mut connection) = staying(&sandbox, change, &script);
    connection.frames_to("turn");
    input(&mut connection, "more");
    assert_eq!(results(&connection.frames_to_exit()), ["resumed t-9 more"]);
    assert_eq!(worker.code(), 0);
}

#[test]
fn a_stop_between_turns_ends_the_box() {
    let sandbox = Box::new();
    let (worker, mut connection) = staying(&sandbox, |_| {}, ECHO);
    connection.frames_to("turn");
    connection.send(&json!({"type": "stop", "grace_ms": 20_000, "reason": "stopped"}));
    assert_eq!(connection.frames_to_exit()[0]["reason"], "stopped");
    assert_eq!(worker.code(), 113);
}

#[test]
fn a_failed_turn_ends_the_box_whatever_waits() {
    let sandbox = Box::new();
    let pipe = sandbox.path("pipe");
    fifo(&pipe);
    let (worker, mut connection) = staying(&sandbox, |_| {}, &format!("read x < {}; exit 4", pipe.display()));
    connection.frames_to("started");
    input(&mut connection, "more");
    release(&pipe);
    let frames = connection.frames_to_exit();
    assert_eq!(kinds(&frames), ["turn", "exit"]);
    assert_eq!((&frames[1]["reason"], &frames[1]["code"]), (&json!("failed"), &json!(4)));
    assert_eq!(worker.code(), 1);
}

#[test]
fn what_a_turn_left_running_does_not_see_the_next_one() {
    let sandbox = Box::new();
    let pid = sandbox.path("pid");
    let script = format!(
        r#"case "$1" in hello) (setsid sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 300' >/dev/null 2>&1 &)
        while [ ! -e {0} ]; do sleep 0.01; done;; *) kill -0 $(cat {0}) 2>/dev/null && exit 9;; esac; {ECHO}"#,
        pid.display()
    );
    let (worker, mut connection) = staying(&sandbox, |job| job["limits"]["turns"] = json!(2), &script);
    connection.frames_to("turn");
    input(&mut connection, "more");
    assert_eq!(connection.frames_to_exit().last().unwrap()["reason"], "completed");
    assert_eq!(worker.code(), 0);
}

#[test]
fn output_is_counted_over_all_turns() {
    let sandbox = Box::new();
    let change = |job: &mut Value| {
        job["limits"]["output_bytes"] = json!(9_000);
        job["limits"]["turns"] = json!(2);
    };
    let script = format!("head -c 5000 /dev/zero | tr '\\0' y >&2; {ECHO}");
    let (worker, mut connection) = staying(&sandbox, change, &script);
    let mut frames = connection.frames_to("turn");
    assert!(!kinds(&frames).contains(&"truncated"));
    input(&mut connection, "more");
    frames.extend(connection.frames_to_exit());
    assert!(kinds(&frames).contains(&"truncated"), "{:?}", kinds(&frames));
    assert_eq!(worker.code(), 0);
}

#[rstest]
#[case::one_too_many(11, "failed", 1)]
#[case::exactly(10, "completed", 0)]
fn tool_calls_are_counted(#[case] calls: u32, #[case] reason: &str, #[case] code: i32) {
    let sandbox = Box::new();
    let call = r#"{\"type\":\"tool_call\",\"id\":\"$i\",\"name\":\"t\",\"args\":{}}"#;
    let wait = if calls > 10 { "exec sleep 300" } else { ":" };
    let script = format!(r#"i=0; while [ $i -lt {calls} ]; do echo "{call}"; i=$((i+1)); done; {wait}; {ECHO}"#);
    let mut job = sandbox.job(&script);
    job["limits"]["tool_calls"] = json!(10);
    let (frames, worker_code) = sandbox.live(&job);
    let exit = bodies(&frames).pop().unwrap();
    assert_eq!((exit["reason"].as_str().unwrap(), worker_code), (reason, code));
    if calls > 10 {
        assert_eq!(exit["detail"], "more than 10 tool calls");
        assert!(frames.iter().any(|frame| frame["code"] == "limit_reached"));
    }
}

#[test]
fn ten_thousand_tool_calls_a_second_are_bounded_and_the_agent_dies() {
    let sandbox = Box::new();
    let mut job = sandbox.job(
        r#"trap '' TERM; yes '{"type":"tool_call","id":"c","name":"t","args":{}}'; echo '{"type":"result","text":"x"}'"#,
    );
    job["limits"]["tool_calls"] = json!(100);
    job["limits"]["output_bytes"] = json!(1_000_000);
    let (frames, code) = sandbox.live(&job);
    assert_eq!(code, 1);
    assert!(frames.iter().filter(|frame| frame["kind"] == "tool_call").count() < 10_000);
    assert_eq!(frames.iter().filter(|frame| frame["code"] == "limit_reached").count(), 1);
}

#[test]
fn an_agent_that_knows_only_tcp_reaches_the_gateway_and_nothing_is_missing_in_the_count() {
    let sandbox = Box::new();
    let script = r#"port=${1##*:}; port=${port%%/*}; exec 3<>/dev/tcp/127.0.0.1/$port; echo "ask $1" >&3
        read -r line <&3; printf '{"type":"result","text":"%s"}\n' "$line""#;
    let mut job = sandbox.job(script);
    job["runner"]["loopback"] = json!(true);
    job["runner"]["argv"] = json!(["bash", "-c", script, "agent", "{{mcp_url}}"]);
    job["inference_url"] = json!(format!("unix:{}", sandbox.path("gw/gw.sock").display()));
    job["mcp_url"] = json!(format!("unix:{}#/mcp", sandbox.path("gw/gw.sock").display()));
    let worker = sandbox.worker(&[]);
    let mut connection = sandbox.accept();
    connection.send(&json!({"type": "job", "job": job}));
    let asked = sandbox.accept_raw();
    let mut line = String::new();
    BufReader::new(asked.try_clone().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("ask http://127.0.0.1:") && line.ends_with("/mcp\n"), "{line}");
    (&asked).write_all(b"answer\n").unwrap();
    let frames = connection.frames_to_exit();
    assert_eq!(results(&frames), ["answer"], "{frames:?}");
    let turn = frames.iter().find(|frame| frame["kind"] == "turn").unwrap();
    assert_eq!(turn["network"]["relayed"], 1);
    assert!(turn["network"]["opened"].as_u64().unwrap() >= 1);
    assert_eq!(worker.code(), 0);
}

#[test]
fn an_agent_finds_its_links() {
    let sandbox = Box::new();
    let session = sandbox.path("session");
    fs::create_dir(&session).unwrap();
    let mut job = sandbox.job(r#"echo kept > "$HOME/.agent/sessions/one"; cat "$HOME/.agent/sessions/one""#);
    job["runner"]["stream"] = json!({"format": "text"});
    job["runner"]["links"] = json!([{"path": sandbox.path("home/.agent/sessions"), "target": session}]);
    let (frames, code) = sandbox.live(&job);
    assert_eq!((text(&frames).as_str(), code), ("kept\n", 0), "{frames:?}");
    assert_eq!(fs::read_to_string(session.join("one")).unwrap(), "kept\n");
}

#[test]
fn a_blank_worker_waits_for_a_gateway_and_for_folders_that_come_late() {
    let mut sandbox = Box::new();
    fs::remove_dir(sandbox.path("workspace")).unwrap();
    fs::remove_file(sandbox.path("gw/gw.sock")).unwrap();
    // Shorter than the waiting below: it counts only for a worker that has a job.
    let worker = sandbox.worker(&[("CUSTODY_GW_LOST_MS", "50")]);
    std::thread::sleep(std::time::Duration::from_millis(400));
    fs::write(sandbox.path("gw/gw.sock"), "").unwrap();
    sandbox.rebind();
    let mut connection = sandbox.accept();
    assert_eq!(connection.hello["dispatch"], Value::Null);
    // The pool's keeper goes away and comes back before the claim.
    drop(connection);
    sandbox.rebind();
    connection = sandbox.accept();
    fs::create_dir(sandbox.path("workspace")).unwrap();
    let mut job = sandbox.job("pwd");
    job["runner"]["stream"] = json!({"format": "text"});
    connection.send(&json!({"type": "job", "job": job}));
    let frames = connection.frames_to_exit();
    assert!(text(&frames).ends_with("/workspace\n"), "{frames:?}");
    assert_eq!(worker.code(), 0);
}
