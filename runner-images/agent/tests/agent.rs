//! The real binary against a scripted server on a Unix socket.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

mod common;

use common::{Place, Reply, Run, answer, calls, stop, tool, usage, words};
use rstest::rstest;
use serde_json::json;
use std::{fs, process::Command, time::Instant};

#[test]
fn a_plain_answer() {
    let place = Place::new();
    let requests = place.serve(vec![Reply::Stream(vec![words("Hel"), words("lo"), stop("stop"), usage(10, 2)])]);
    let run = place.run(&[], "say hello");
    assert_eq!(run.code, 0, "{}", run.log);
    let id = run.lines[0]["id"].as_str().unwrap();
    assert_eq!(
        run.lines,
        [
            json!({"type": "session", "id": id}),
            json!({"type": "text", "text": "Hel"}),
            json!({"type": "text", "text": "lo"}),
            json!({"type": "usage", "input_tokens": 10, "output_tokens": 2}),
            json!({"type": "result", "text": "Hello"}),
        ]
    );
    let request = requests.recv().unwrap();
    assert_eq!(request["model"], "m");
    assert_eq!(request["messages"][1], json!({"role": "user", "content": "say hello"}));
    assert_eq!(
        place.session(),
        [json!({"role": "user", "content": "say hello"}), json!({"role": "assistant", "content": "Hello"})]
    );
}

#[test]
fn a_stream_of_single_bytes_is_the_same_stream() {
    let place = Place::new();
    place.serve(vec![Reply::Drip(vec![words("é€"), words("😀\u{1b}[0m\r\n"), stop("stop"), usage(1, 1)])]);
    let run = place.run(&[], "x");
    assert_eq!((run.code, run.last()), (0, &json!({"type": "result", "text": "é€😀\u{1b}[0m\r\n"})));
}

#[test]
fn a_round_of_the_gateways_tools() {
    let place = Place::new();
    let asked = place.serve_door(vec!["workspace_read", "broken"]);
    let requests = place.serve(vec![
        calls("workspace_read", r#"{"path":"notes.txt"}"#),
        calls("broken", "{}"),
        answer("It is heron."),
    ]);
    let door = format!("unix:{}#/mcp", place.path("mcp.sock").display());
    let run = place.run(&["--mcp", &door], "what is the code word?");
    assert_eq!(run.code, 0, "{}", run.log);
    let offered = requests.recv().unwrap()["tools"].clone();
    let names: Vec<&str> =
        offered.as_array().unwrap().iter().map(|t| t["function"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["workspace_read", "broken", "list_files", "read_file", "write_file"]);
    let methods: Vec<String> = asked.try_iter().map(|a| a["method"].as_str().unwrap().to_owned()).collect();
    assert_eq!(methods, ["initialize", "notifications/initialized", "tools/list", "tools/call", "tools/call"]);
    let results: Vec<(&serde_json::Value, &str)> =
        run.of("tool_result").iter().map(|r| (&r["ok"], r["text"].as_str().unwrap())).collect();
    assert_eq!(results, [(&json!(true), "the code word is heron"), (&json!(false), "error: TOOL_REFUSED: not today")]);
    let last = requests.try_iter().last().unwrap();
    let seen = last["messages"].as_array().unwrap().iter().rev().find(|m| m["role"] == "tool").unwrap();
    assert_eq!(seen["content"], "error: TOOL_REFUSED: not today");
}

#[test]
fn a_door_that_is_shut_leaves_the_agent_its_own_tools() {
    let place = Place::new();
    let requests = place.serve(vec![answer("Hello.")]);
    let door = format!("unix:{}#/mcp", place.path("nobody.sock").display());
    let run = place.run(&["--mcp", &door], "say hello");
    assert_eq!(run.code, 0, "{}", run.log);
    assert!(run.log.contains("the gateway's tools are not there"), "{}", run.log);
    assert_eq!(requests.recv().unwrap()["tools"].as_array().unwrap().len(), 3);
}

#[test]
fn a_round_of_tools() {
    let place = Place::new();
    let requests = place.serve(vec![
        Reply::Stream(vec![
            words("Let me look."),
            tool(0, "c1", "list_files", "{}"),
            tool(1, "c2", "read_file", r#"{"path":"#),
            tool(1, "", "", r#""notes.txt"}"#),
            stop("tool_calls"),
            usage(20, 4),
        ]),
        calls("write_file", r#"{"path":"out/answer.txt","content":"heron"}"#),
        answer("It is heron."),
    ]);
    let run = place.run(&["--workspace-mode", "rw"], "what is the code word?");
    assert_eq!(run.code, 0, "{}", run.log);
    assert_eq!(
        run.lines[2..],
        [
            json!({"type": "usage", "input_tokens": 20, "output_tokens": 4}),
            json!({"type": "tool_call", "id": "c1", "name": "list_files", "args": {}}),
            json!({"type": "tool_result", "id": "c1", "ok": true, "text": "notes.txt (22 bytes)"}),
            json!({"type": "tool_call", "id": "c2", "name": "read_file", "args": {"path": "notes.txt"}}),
            json!({"type": "tool_result", "id": "c2", "ok": true, "text": "the code word is heron"}),
            json!({"type": "usage", "input_tokens": 40, "output_tokens": 8}),
            json!({"type": "tool_call", "id": "c1", "name": "write_file", "args": {"path": "out/answer.txt", "content": "heron"}}),
            json!({"type": "tool_result", "id": "c1", "ok": true, "text": "wrote 5 bytes to out/answer.txt"}),
            json!({"type": "text", "text": "It is heron."}),
            json!({"type": "usage", "input_tokens": 50, "output_tokens": 10}),
            json!({"type": "result", "text": "It is heron."}),
        ]
    );
    assert_eq!(fs::read_to_string(place.path("ws/out/answer.txt")).unwrap(), "heron");
    let offered = requests.recv().unwrap()["tools"].as_array().unwrap().len();
    assert_eq!(offered, 3);
    let second = requests.recv().unwrap();
    assert_eq!(
        second["messages"][2]["tool_calls"][1]["function"],
        json!({"name": "read_file", "arguments": "{\"path\":\"notes.txt\"}"})
    );
    assert_eq!(
        second["messages"][4],
        json!({"role": "tool", "tool_call_id": "c2", "content": "the code word is heron"})
    );
}

#[rstest]
#[case::reading_outside("read_file", r#"{"path":"../session.jsonl"}"#)]
#[case::writing_read_only("write_file", r#"{"path":"x","content":"y"}"#)]
#[case::a_shell("run", r#"{"command":"id"}"#)]
fn a_refused_tool_is_told_to_the_model_and_the_run_goes_on(#[case] name: &str, #[case] arguments: &str) {
    let place = Place::new();
    let requests = place.serve(vec![calls(name, arguments), answer("I could not.")]);
    let run = place.run(&["--workspace-mode", "ro"], "try");
    assert_eq!((run.code, run.text().as_str()), (0, "I could not."));
    assert_eq!(run.of("tool_result")[0]["ok"], false);
    assert_eq!(
        requests.recv().unwrap()["tools"].as_array().unwrap().len(),
        2,
        "no write_file in a read-only workspace"
    );
    let told = requests.recv().unwrap()["messages"][3]["content"].as_str().unwrap().to_owned();
    assert!(told.starts_with("error: "), "{told}");
    assert!(!place.path("ws/x").exists());
}

#[test]
fn a_resumed_session_sees_the_earlier_turn() {
    let place = Place::new();
    place.serve(vec![answer("I will remember heron.")]);
    let first = place.run(&[], "remember heron");
    let requests = place.serve(vec![answer("heron")]);
    let second = place.run(&["--resume"], "which word?");
    assert_eq!((second.code, second.last()), (0, &json!({"type": "result", "text": "heron"})));
    assert_eq!(first.lines[0], second.lines[0], "the session keeps its id");
    let messages = requests.recv().unwrap()["messages"].as_array().unwrap()[1..].to_vec();
    assert_eq!(
        messages,
        [
            json!({"role": "user", "content": "remember heron"}),
            json!({"role": "assistant", "content": "I will remember heron."}),
            json!({"role": "user", "content": "which word?"}),
        ]
    );
    assert_eq!(place.session().len(), 4);
}

#[test]
fn a_run_that_was_killed_between_call_and_result_can_be_resumed() {
    let place = Place::new();
    fs::write(
        place.path("session.jsonl"),
        concat!(
            r#"{"type":"session","version":1,"id":"s-9"}"#,
            "\n",
            r#"{"type":"message","message":{"role":"user","content":"look"}}"#,
            "\n",
            r#"{"type":"message","message":{"role":"assistant","content":"","tool_calls":[{"id":"c9","name":"list_files","arguments":"{}"}]}}"#,
            "\n",
            r#"{"type":"message","message":{"role":"tool","tool_ca"#
        ),
    )
    .unwrap();
    let requests = place.serve(vec![answer("ok")]);
    let run = place.run(&["--resume"], "go on");
    assert_eq!((run.code, run.lines[0]["id"].as_str().unwrap()), (0, "s-9"));
    let messages = requests.recv().unwrap()["messages"].clone();
    assert_eq!(messages[3]["role"], "tool", "{messages}");
    assert_eq!(messages[3]["tool_call_id"], "c9");
    assert_eq!(place.session().len(), 4);
}

#[rstest]
#[case::nothing_to_resume(None, true, "session_missing")]
#[case::corrupt(Some("garbage\n"), true, "session_corrupt")]
#[case::later_version(Some("{\"type\":\"session\",\"version\":7,\"id\":\"x\"}\n"), true, "session_version")]
#[case::not_empty(Some("something\n"), false, "session_exists")]
fn a_session_that_cannot_be_used(#[case] content: Option<&str>, #[case] resume: bool, #[case] code: &str) {
    let place = Place::new();
    if let Some(content) = content {
        fs::write(place.path("session.jsonl"), content).unwrap();
    }
    let run = place.run(if resume { &["--resume"] } else { &[] }, "x");
    assert_eq!((run.code, run.lines.len()), (1, 1));
    assert_eq!(run.last()["type"], "error");
    assert_eq!(run.last()["code"], code);
}

#[rstest]
#[case::unavailable(Reply::Whole(503, "Retry-After: 1\r\n", "busy".into()), 1_000)]
#[case::bad_gateway(Reply::Whole(502, "", String::new()), 0)]
#[case::asked_to_wait(Reply::Whole(429, "Retry-After: 0\r\n", String::new()), 0)]
#[case::no_answer(Reply::Nothing, 0)]
#[case::cut_head(Reply::Cut(vec![]), 0)]
fn a_broken_way_is_tried_again(#[case] broken: Reply, #[case] at_least_ms: u128) {
    let place = Place::new();
    let requests = place.serve(vec![broken, answer("fine")]);
    let begun = Instant::now();
    let run = place.run(&[], "x");
    assert_eq!((run.code, run.last()), (0, &json!({"type": "result", "text": "fine"})), "{}", run.log);
    assert!(begun.elapsed().as_millis() >= at_least_ms);
    assert_eq!(requests.recv().unwrap(), requests.recv().unwrap(), "the same request again");
    assert_eq!(place.session().len(), 2);
}

#[test]
fn a_gateway_that_restarts_is_waited_for() {
    let place = Place::new();
    let child = place.command(&[], "x").spawn().unwrap();
    // The socket appears only after the agent has begun; whether before or after its first attempt does not matter.
    place.serve(vec![answer("there")]);
    let run = Run::from(child.wait_with_output().unwrap());
    assert_eq!((run.code, run.last()), (0, &json!({"type": "result", "text": "there"})), "{}", run.log);
}

#[test]
fn a_stream_that_is_cut_is_asked_for_again_without_doubled_words() {
    let place = Place::new();
    place.serve(vec![
        Reply::Cut(vec![words("One "), words("two ")]),
        Reply::Cut(vec![words("One two three ")]),
        Reply::Stream(vec![words("One t"), words("wo three four"), stop("stop"), usage(5, 5)]),
    ]);
    let run = place.run(&[], "count");
    assert_eq!(run.code, 0, "{}", run.log);
    assert_eq!(run.text(), "One two three four");
    assert_eq!(run.last(), &json!({"type": "result", "text": "One two three four"}));
    assert_eq!(place.session()[1]["content"], "One two three four");
}

#[test]
fn another_answer_after_a_cut_says_that_it_begins_again() {
    let place = Place::new();
    place.serve(vec![Reply::Cut(vec![words("One ")]), answer("Uno")]);
    let run = place.run(&[], "count");
    assert_eq!(run.text(), "One \n[the stream was cut and the answer begins again]\nUno");
    assert_eq!(run.last(), &json!({"type": "result", "text": "Uno"}));
}

#[rstest]
#[case::refused(Reply::Whole(403, "", r#"{"error":{"message":"no budget","type":"budget_exceeded"}}"#.into()), "budget_exceeded", "no budget")]
#[case::rate_without_a_time(Reply::Whole(429, "", r#"{"error":{"message":"slow","code":"rate"}}"#.into()), "rate", "slow")]
#[case::plain_text(Reply::Whole(404, "", "no such path".into()), "http_404", "no such path")]
#[case::in_the_stream(Reply::Stream(vec![words("Well"), json!({"error": {"message": "broke", "code": "overloaded"}})]), "overloaded", "broke")]
#[case::no_words(Reply::Stream(vec![stop("stop"), usage(1, 0)]), "empty_answer", "the model answered with nothing")]
fn a_model_error_ends_the_run(#[case] reply: Reply, #[case] code: &str, #[case] message: &str) {
    let place = Place::new();
    let requests = place.serve(vec![reply]);
    let run = place.run(&[], "x");
    assert_eq!(run.code, 1);
    assert_eq!(run.last(), &json!({"type": "error", "code": code, "message": message}));
    assert!(run.of("result").is_empty());
    assert_eq!(requests.iter().count(), 1, "a refusal is not repeated");
}

#[test]
fn a_model_that_stays_away_ends_the_run() {
    let place = Place::new();
    let requests = place.serve(vec![Reply::Nothing; 6]);
    let run = place.run(&[], "x");
    assert_eq!((run.code, run.last()["code"].as_str().unwrap()), (1, "model_unreachable"));
    assert_eq!(requests.iter().count(), 6);
}

#[test]
fn a_server_without_tools_is_asked_without_them() {
    let place = Place::new();
    let refusal = r#"{"error":{"code":500,"message":"tools param requires --jinja flag","type":"server_error"}}"#;
    let requests = place.serve(vec![Reply::Whole(500, "", refusal.into()), answer("heron")]);
    let run = place.run(&[], "what does @notes.txt say?");
    assert_eq!((run.code, run.last()["text"].as_str().unwrap()), (0, "heron"));
    assert!(requests.recv().unwrap().get("tools").is_some());
    let second = requests.recv().unwrap();
    assert!(second.get("tools").is_none());
    let asked = second["messages"][1]["content"].as_str().unwrap();
    assert_eq!(asked, "File notes.txt:\n```\nthe code word is heron\n```\n\nwhat does notes.txt say?");
}

#[test]
fn turns_are_bounded() {
    let place = Place::new();
    let requests = place.serve(vec![calls("list_files", "{}"); 3]);
    let run = place.run(&["--max-turns", "3"], "loop");
    assert_eq!((run.code, run.last()["code"].as_str().unwrap()), (1, "max_turns"));
    assert_eq!(requests.iter().count(), 3);
}

#[test]
fn a_long_session_is_sent_in_part_and_says_so() {
    let place = Place::new();
    let mut text = String::from("{\"type\":\"session\",\"version\":1,\"id\":\"s\"}\n");
    for number in 0..20 {
        for role in ["user", "assistant"] {
            let message = json!({"type": "message", "message": {"role": role, "content": format!("{number} {}", "x".repeat(2_000))}});
            text.push_str(&format!("{message}\n"));
        }
    }
    fs::write(place.path("session.jsonl"), &text).unwrap();
    let requests = place.serve(vec![answer("ok")]);
    let run = place.run(&["--resume"], "and now?");
    assert_eq!(run.code, 0);
    assert!(run.log.contains("oldest messages of the session do not fit"), "{}", run.log);
    let request = requests.recv().unwrap();
    let messages = request["messages"].as_array().unwrap();
    assert_eq!(messages[0]["role"], "system");
    assert_eq!(messages[1]["role"], "user", "whole turns only");
    assert_eq!(messages.last().unwrap()["content"], "and now?");
    assert!((10..14).contains(&messages.len()), "{}", messages.len());
    assert!(
        fs::read_to_string(place.path("session.jsonl")).unwrap().starts_with(&text),
        "the session keeps everything"
    );
}

#[test]
fn no_workspace_means_no_tools() {
    let place = Place::new();
    let requests = place.serve(vec![answer("hi")]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_custody-agent"));
    command.env_clear().args(["--workspace", "", "--model", "m", "--session"]).arg(place.path("session.jsonl"));
    command
        .arg("--inference")
        .arg(format!("unix:{}", place.path("gw.sock").display()))
        .args(["--", "hello @notes.txt"]);
    let run = Run::from(command.output().unwrap());
    assert_eq!((run.code, run.last()["text"].as_str().unwrap()), (0, "hi"));
    let request = requests.recv().unwrap();
    assert!(request.get("tools").is_none());
    assert_eq!(request["messages"][1]["content"], "hello @notes.txt");
}

#[test]
fn a_bad_command_line_says_how_to_call_it() {
    let output = Command::new(env!("CARGO_BIN_EXE_custody-agent")).args(["--token", "x", "--", "y"]).output().unwrap();
    let run = Run::from(output);
    assert_eq!((run.code, run.last()["code"].as_str().unwrap()), (2, "usage"));
    assert!(run.log.contains("usage: custody-agent"));
}
