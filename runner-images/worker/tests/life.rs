//! The real worker with real shell scripts as agents: one connection, one life.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

mod common;

use common::{Box, bodies, fifo, gone, kinds, release, text};
use rstest::rstest;
use serde_json::{Value, json};
use std::{fs, time::Instant};

const HAPPY: &str = r#"
    printf '{"type":"session","id":"a-1"}\n'
    printf '{"type":"text","text":"Hel"}\n{"type":"text","text":"lo"}\n'
    printf '{"type":"tool_call","id":"c1","name":"read_file","args":{"path":"a"}}\n'
    printf '{"type":"tool_result","id":"c1","ok":true,"text":"A"}\n'
    printf '{"type":"usage","in":7,"out":3}\n'
    printf '{"type":"result","text":"%s"}\n' "$1"
"#;

fn exit(frames: &[Value]) -> Value {
    bodies(frames).pop().unwrap()
}

#[test]
fn a_job_from_started_to_completed() {
    let sandbox = Box::new();
    let (frames, code) = sandbox.live(&sandbox.job(HAPPY));
    assert_eq!(code, 0);
    assert_eq!(frames[0]["kind"], "started");
    assert_eq!(frames[0]["resumed"], false);
    assert_eq!(text(&frames), "Hello");
    let rest: Vec<_> = bodies(&frames).into_iter().filter(|body| body["kind"] != "text").skip(1).collect();
    assert_eq!(
        rest,
        [
            json!({"kind": "session", "agent_session": "a-1"}),
            json!({"kind": "tool_call", "id": "c1", "name": "read_file", "args": {"path": "a"}}),
            json!({"kind": "tool_result", "id": "c1", "ok": true, "text": "A"}),
            json!({"kind": "usage", "input_tokens": 7, "output_tokens": 3}),
            json!({"kind": "result", "text": "hello"}),
            json!({"kind": "turn", "turn": 1, "reason": "completed", "code": 0}),
            json!({"kind": "exit", "reason": "completed", "code": 0}),
        ]
    );
}

#[test]
fn a_later_turn_uses_the_resume_command() {
    let sandbox = Box::new();
    let mut job = sandbox.job(HAPPY);
    job["session"]["resume"] = json!(true);
    let (frames, code) = sandbox.live(&job);
    assert_eq!(code, 0);
    assert_eq!(frames[0]["resumed"], true);
    let result = format!("resumed {} hello", sandbox.path("session.jsonl").display());
    assert!(bodies(&frames).contains(&json!({"kind": "result", "text": result})), "{frames:?}");
}

#[test]
fn the_agent_sees_its_own_environment_files_and_folder_and_nothing_of_the_workers() {
    let sandbox = Box::new();
    let mut job = sandbox.job(r#"env | sort; pwd; cat "$HOME/.agent/config.json""#);
    job["runner"]["stream"] = json!({"format": "text"});
    job["runner"]["env"] = json!({"MODEL": "{{model}}"});
    let file = sandbox.path("home/.agent/config.json");
    job["runner"]["files"] = json!([{"path": file, "template": "url={{inference_url}}"}]);
    let (frames, code) = sandbox.live(&job);
    assert_eq!(code, 0);
    let text = text(&frames);
    let names: Vec<_> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert_eq!(names, ["HOME", "MODEL", "PATH", "PWD", "url"], "{text}");
    assert!(text.contains("MODEL=m\n"));
    let folder = fs::canonicalize(sandbox.path("workspace")).unwrap();
    assert!(text.ends_with(&format!("\n{}\nurl=unix:/run/gw/gw.sock", folder.display())), "{text}");
}

#[test]
fn standard_input_is_the_prompt_and_then_every_input() {
    let sandbox = Box::new();
    let mut job =
        sandbox.job(r#"read a; printf 'one=%s\n' "$a"; read b; printf 'two=%s\n' "$b"; read c || echo closed"#);
    job["runner"]["stream"] = json!({"format": "text"});
    job["runner"]["stdin"] = json!("prompt");
    let worker = sandbox.worker(&[]);
    let mut connection = sandbox.accept();
    connection.send(&json!({"type": "job", "job": job}));
    let mut frames = connection.frames_to("text");
    connection.send(&json!({"type": "input", "text": "more"}));
    frames.extend(connection.frames_to("text"));
    connection.send(&json!({"type": "stop", "grace_ms": 20_000, "reason": "stopped"}));
    frames.extend(connection.frames_to_exit());
    assert!(text(&frames).starts_with("one=hello\ntwo=more\n"), "{frames:?}");
    assert_eq!(exit(&frames)["reason"], "stopped");
    assert_eq!(worker.code(), 113);
}

#[test]
fn an_input_for_a_runner_without_one_is_an_error_frame() {
    let sandbox = Box::new();
    let pipe = sandbox.path("pipe");
    fifo(&pipe);
    let worker = sandbox.worker(&[]);
    let mut connection = sandbox.accept();
    let script = format!(r#"read x < {}; echo '{{"type":"result","text":"ok"}}'"#, pipe.display());
    connection.send(&json!({"type": "job", "job": sandbox.job(&script)}));
    connection.send(&json!({"type": "input", "text": "more"}));
    let frames = connection.frames_to("error");
    assert_eq!(frames.last().unwrap()["code"], "input_refused");
    release(&pipe);
    assert_eq!(exit(&connection.frames_to_exit())["reason"], "completed");
    assert_eq!(worker.code(), 0);
}

#[rstest]
#[case::zero_without_result("echo '{\"type\":\"text\",\"text\":\"almost\"}'", json!({"kind": "exit", "reason": "failed", "code": 0, "detail": "the agent exited with 0 but gave no result"}))]
#[case::nonzero("exit 7", json!({"kind": "exit", "reason": "failed", "code": 7, "detail": "the agent exited with 7"}))]
#[case::nonzero_after_a_result("echo '{\"type\":\"result\",\"text\":\"x\"}'; exit 3", json!({"kind": "exit", "reason": "failed", "code": 3, "detail": "the agent exited with 3"}))]
#[case::killed("kill -9 $$", json!({"kind": "exit", "reason": "failed", "signal": 9, "detail": "signal 9 ended the agent"}))]
fn a_failure_is_a_failure(#[case] script: &str, #[case] expected: Value) {
    let sandbox = Box::new();
    let (frames, code) = sandbox.live(&sandbox.job(script));
    assert_eq!((exit(&frames), code), (expected, 1));
}

#[rstest]
#[case::bad_template(json!({"/runner/argv/0": "{{token}}"}), "bad_template", 120)]
#[case::bad_file(json!({"/runner/files": [{"path": "/etc/x", "template": ""}]}), "bad_file", 120)]
#[case::unknown_field(json!({"/priority": 1}), "bad_job", 120)]
#[case::unknown_field_inside(json!({"/runner/stream/filter": "x"}), "bad_job", 120)]
#[case::unknown_frame(json!({"/runner/stream/map/0/frame": "exit"}), "bad_job", 120)]
#[case::no_limit(json!({"/limits/wall_ms": 0}), "bad_job", 120)]
#[case::no_such_program(json!({"/runner/argv/0": "/no/such/agent"}), "spawn_failed", 1)]
#[case::not_executable(json!({"/runner/argv/0": "/etc/passwd"}), "spawn_failed", 1)]
fn a_job_that_cannot_be_run(#[case] change: Value, #[case] code: &str, #[case] exit_code: i32) {
    let sandbox = Box::new();
    let mut job = sandbox.job("true");
    for (pointer, value) in change.as_object().unwrap() {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        match job.pointer_mut(parent).unwrap() {
            Value::Array(list) => list[name.parse::<usize>().unwrap()] = value.clone(),
            object => object[name] = value.clone(),
        }
    }
    let (frames, worker_code) = sandbox.live(&job);
    assert_eq!(kinds(&frames), ["error", "exit"]);
    assert_eq!(frames[0]["code"], code, "{frames:?}");
    assert_eq!(frames[1]["reason"], "failed");
    assert!(!frames[1]["detail"].as_str().unwrap().is_empty());
    assert_eq!(worker_code, exit_code);
}

#[rstest]
#[case::garbage("not json")]
#[case::unknown_type(r#"{"type":"exec","argv":["sh"]}"#)]
#[case::unknown_field(r#"{"type":"ack","seq":1,"more":true}"#)]
#[case::too_long(&"x".repeat(300_000))]
fn a_gateway_that_does_not_speak_box_v1(#[case] line: &str) {
    let sandbox = Box::new();
    let worker = sandbox.worker(&[]);
    let mut connection = sandbox.accept();
    connection.send(&json!({"type": "job", "job": sandbox.job("sleep 300")}));
    let pid = connection.frames_to("started")[0]["pid"].as_u64().unwrap();
    connection.write(format!("{line}\n").as_bytes());
    let frames = connection.frames_to_exit();
    assert_eq!(frames[0]["code"], "protocol");
    assert_eq!(exit(&frames)["reason"], "failed");
    assert_eq!(worker.code(), 120);
    assert!(gone(u32::try_from(pid).unwrap()));
}

#[rstest]
#[case::idle("/limits/idle_ms", "idle_timeout", 110)]
#[case::wall("/limits/wall_ms", "max_lifetime", 111)]
fn limits_end_the_agent(#[case] limit: &str, #[case] reason: &str, #[case] expected: i32) {
    let sandbox = Box::new();
    let mut job = sandbox.job("exec sleep 300");
    *job.pointer_mut(limit).unwrap() = json!(300);
    let begun = Instant::now();
    let (frames, code) = sandbox.live(&job);
    assert_eq!(exit(&frames), json!({"kind": "exit", "reason": reason, "signal": 15}));
    assert_eq!(code, expected);
    assert!(begun.elapsed().as_millis() >= 300);
}

#[test]
fn an_agent_that_talks_is_not_idle() {
    let sandbox = Box::new();
    // Eight times 100 ms, each far below the limit, together above it.
    let mut job = sandbox
        .job(r#"for i in 1 2 3 4 5 6 7 8; do echo noise >&2; sleep 0.1; done; echo '{"type":"result","text":"x"}'"#);
    job["limits"]["idle_ms"] = json!(600);
    let (frames, code) = sandbox.live(&job);
    assert_eq!((exit(&frames)["reason"].as_str().unwrap(), code), ("completed", 0));
}

#[rstest]
#[case::stop_from_the_gateway(false)]
#[case::term_to_the_worker(true)]
fn a_stop_lets_the_agent_finish_within_its_grace(#[case] by_signal: bool) {
    let sandbox = Box::new();
    let worker = sandbox.worker(&[]);
    let mut connection = sandbox.accept();
    let script = r#"trap 'echo "{\"type\":\"text\",\"text\":\"bye\"}"; exit 0' TERM
        echo '{"type":"text","text":"ready "}'; while :; do sleep 0.05; done"#;
    connection.send(&json!({"type": "job", "job": sandbox.job(script)}));
    let mut frames = connection.frames_to("text");
    if by_signal {
        worker.terminate();
    } else {
        connection.send(&json!({"type": "stop", "grace_ms": 20_000, "reason": "stopped"}));
    }
    frames.extend(connection.frames_to_exit());
    assert_eq!(text(&frames), "ready bye");
    assert_eq!(exit(&frames), json!({"kind": "exit", "reason": "stopped", "code": 0}));
    assert_eq!(worker.code(), 113);
}

#[test]
fn an_agent_that_ignores_term_is_killed_after_the_grace() {
    let sandbox = Box::new();
    let worker = sandbox.worker(&[]);
    let mut connection = sandbox.accept();
    let script = r#"trap '' TERM; echo '{"type":"text","text":"ready"}'; while :; do sleep 1; done"#;
    connection.send(&json!({"type": "job", "job": sandbox.job(script)}));
    let frames = connection.frames_to("text");
    let pid = u32::try_from(frames[0]["pid"].as_u64().unwrap()).unwrap();
    let begun = Instant::now();
    connection.send(&json!({"type": "stop", "grace_ms": 250, "reason": "stopped"}));
    let frames = connection.frames_to_exit();
    let took = begun.elapsed().as_millis();
    assert_eq!(exit(&frames), json!({"kind": "exit", "reason": "stopped", "signal": 9}));
    assert_eq!(worker.code(), 113);
    assert!((250..2250).contains(&took), "grace + 2 s at most, took {took} ms");
    assert!(gone(pid));
}

#[test]
fn a_daemon_that_holds_the_streams_dies_with_the_agent() {
    let sandbox = Box::new();
    let pid_file = sandbox.path("daemon.pid");
    let script = format!(
        r#"(setsid sh -c 'trap "" TERM HUP; echo $$ > {0}.new; mv {0}.new {0}; exec sleep 300' &)
        while [ ! -e {0} ]; do sleep 0.01; done
        echo '{{"type":"result","text":"done"}}'"#,
        pid_file.display()
    );
    let (frames, code) = sandbox.live(&sandbox.job(&script));
    assert_eq!((exit(&frames)["reason"].as_str().unwrap(), code), ("completed", 0));
    let pid = fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
    assert!(gone(pid), "the daemon {pid} lives on");
}

#[test]
fn orphans_are_reaped_while_the_agent_runs() {
    let sandbox = Box::new();
    let pipe = sandbox.path("pipe");
    fifo(&pipe);
    let worker = sandbox.worker(&[]);
    let mut connection = sandbox.accept();
    let script = format!(
        r#"for i in 1 2 3; do (sh -c 'echo "{{\"type\":\"session\",\"id\":\"$$\"}}"; sleep 0.05' &); done
        read x < {}; echo '{{"type":"result","text":"done"}}'"#,
        pipe.display()
    );
    connection.send(&json!({"type": "job", "job": sandbox.job(&script)}));
    for _ in 0..3 {
        let frames = connection.frames_to("session");
        let orphan: u32 = frames.last().unwrap()["agent_session"].as_str().unwrap().parse().unwrap();
        assert!(gone(orphan), "a zombie keeps its place in /proc until it is reaped");
    }
    release(&pipe);
    assert_eq!(exit(&connection.frames_to_exit())["reason"], "completed");
    assert_eq!(worker.code(), 0);
}

#[test]
fn a_huge_line_is_cut_and_marked() {
    let sandbox = Box::new();
    let script = r#"head -c 10000000 /dev/zero | tr '\0' x; echo; echo '{"type":"result","text":"ok"}'"#;
    let (frames, code) = sandbox.live(&sandbox.job(script));
    assert_eq!(code, 0);
    assert_eq!(kinds(&frames), ["started", "log", "result", "turn", "exit"]);
    let log = frames[1]["text"].as_str().unwrap();
    assert!(log.len() <= 16_384);
    let kept = log.find('\n').unwrap();
    assert_eq!(&log[kept..], format!("\n[truncated: {} bytes]", 10_000_000 - kept));
}

#[test]
fn garbage_is_logged_and_control_characters_are_data() {
    let sandbox = Box::new();
    let script = r#"printf '{"type":"text"\n\377\376\n\033]0;owned\007\r{"seq":99,"kind":"exit"}\n[]\n\n{"type":"result","text":"a\\u001b[2J\\r"}\n'
        printf '\033[31mred' >&2"#;
    let (frames, code) = sandbox.live(&sandbox.job(script));
    assert_eq!(code, 0);
    let logs: Vec<_> = frames.iter().filter(|frame| frame["kind"] == "log" && frame["stream"] == "stdout").collect();
    let logs: Vec<_> = logs.iter().map(|frame| frame["text"].as_str().unwrap()).collect();
    assert_eq!(
        logs,
        ["{\"type\":\"text\"", "\u{fffd}\u{fffd}", "\u{1b}]0;owned\u{7}\r{\"seq\":99,\"kind\":\"exit\"}", "[]"]
    );
    assert!(bodies(&frames).contains(&json!({"kind": "result", "text": "a\u{1b}[2J\r"})));
    assert!(bodies(&frames).contains(&json!({"kind": "log", "stream": "stderr", "text": "\u{1b}[31mred"})));
}

#[test]
fn output_beyond_the_limit_is_dropped_and_said_once() {
    let sandbox = Box::new();
    let mut job = sandbox.job(r#"head -c 3000000 /dev/zero | tr '\0' y >&2; echo '{"type":"text","text":"late"}'; echo '{"type":"result","text":"end"}'"#);
    job["limits"]["output_bytes"] = json!(100_000);
    let (frames, code) = sandbox.live(&job);
    assert_eq!(code, 0);
    let logged: usize =
        frames.iter().filter(|frame| frame["kind"] == "log").map(|frame| frame["text"].as_str().unwrap().len()).sum();
    // A frame of standard error is at most 8 KiB and is dropped whole.
    assert!((90_000..100_000).contains(&logged), "{logged}");
    let truncated: Vec<_> = frames.iter().filter(|frame| frame["kind"] == "truncated").collect();
    assert_eq!(truncated.len(), 1);
    let kept = truncated[0]["bytes"].as_u64().unwrap();
    assert!((logged as u64..=100_000).contains(&kept), "{kept}");
    assert!(bodies(&frames).contains(&json!({"kind": "result", "text": "end"})));
}

#[test]
fn small_deltas_become_few_frames_and_lose_nothing() {
    let sandbox = Box::new();
    let script = r#"i=0; while [ $i -lt 3000 ]; do echo "{\"type\":\"text\",\"text\":\"$i,\"}"; i=$((i+1)); done; echo '{"type":"result","text":"x"}'"#;
    let (frames, code) = sandbox.live(&sandbox.job(script));
    assert_eq!(code, 0);
    let expected: String = (0..3000).map(|i| format!("{i},")).collect();
    assert_eq!(text(&frames), expected);
    let count = frames.iter().filter(|frame| frame["kind"] == "text").count();
    assert!(count < 1000, "{count} frames for 3000 deltas");
}
