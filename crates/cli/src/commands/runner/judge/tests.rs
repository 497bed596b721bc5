//! What passes, and what makes each capability fail: a check that cannot fail would say nothing.

use super::*;
use custody_contracts::box_protocol::ExitReason;
use custody_engine::runners::read_document;
use rstest::rstest;
use serde_json::json;
use std::path::Path;

fn plan() -> Plan {
    Plan { key: "k1".into(), word: "cedar-77".into(), text: "birch-88".into() }
}

fn runner() -> Runner {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/agent-runner.v2/golden");
    read_document(&golden.join("Runner.full.json")).unwrap()
}

fn quiet(relayed: u64) -> FrameBody {
    let network = Some(Network { opened: relayed, relayed, failed: 0, no_route: 0, datagrams: 0 });
    FrameBody::Turn { turn: 1, reason: ExitReason::Completed, code: Some(0), signal: None, network }
}

fn row(dispatch: &str, container: char) -> Value {
    json!({
        "dispatch": dispatch, "status": "completed", "reason": "completed", "terminal_events": 1,
        "container": container.to_string().repeat(64), "session_digest": "sha256:one", "resume_digest": null,
        "usage": { "wall_ms": 5 },
    })
}

fn commit(outcome: &str) -> RunCommit {
    let value = json!({ "workspace": "default", "mode": "rw", "base": "a".repeat(40), "commit": "b".repeat(40), "outcome": outcome });
    serde_json::from_value(value).unwrap()
}

fn first() -> Turn {
    Turn {
        row: row("d-1", 'a'),
        frames: vec![
            FrameBody::Text { text: "The word is ".into() },
            FrameBody::ToolCall {
                id: "1".into(),
                name: "workspace_write".into(),
                args: json!({ "path": "self-test-k1.txt" }),
            },
            FrameBody::ToolResult { id: "1".into(), ok: true, text: "wrote".into() },
            FrameBody::Text { text: "cedar-77.".into() },
            FrameBody::Usage { input_tokens: 10, output_tokens: 5 },
            quiet(3),
        ],
        commits: vec![commit("landed")],
        door_calls: 1,
        heard: Heard {
            requests: 2,
            tools: 3,
            called: Some("custody_workspace_write".into()),
            result: Some("wrote".into()),
            knows_word: false,
            as_it_is_made: true,
        },
    }
}

fn second() -> Turn {
    let mut row = row("d-2", 'b');
    row["resume_digest"] = json!("sha256:one");
    let heard = Heard { knows_word: true, result: Some("birch-88".into()), ..Heard::default() };
    Turn { row, frames: vec![quiet(2)], heard, ..Turn::default() }
}

fn refused() -> Turn {
    let mut row = row("d-3", 'c');
    row["status"] = json!("ended");
    row["reason"] = json!("failed");
    let error = FrameBody::Error { code: "http_400".into(), message: "no".into() };
    Turn { row, frames: vec![error, quiet(1)], ..Turn::default() }
}

fn watched() -> Turn {
    Turn { row: row("d-4", 'd'), frames: vec![quiet(3)], ..Turn::default() }
}

fn good() -> Seen {
    Seen { first: Some(first()), second: Some(second()), refused: Some(refused()), watched: Some(watched()) }
}

fn failed(runner: &Runner, seen: &Seen) -> Vec<&'static str> {
    let all = checks(runner, &plan(), seen);
    all.into_iter().filter(|check| check.status == Status::Fail).map(|check| check.check).collect()
}

#[test]
fn a_good_runner_passes_everything() {
    let all = checks(&runner(), &plan(), &good());
    let not: Vec<&Check> = all.iter().filter(|check| check.status != Status::Pass).collect();
    assert_eq!(not, Vec::<&Check>::new());
    assert_eq!(all.len(), 12);
}

#[test]
fn nothing_that_nobody_saw_passes() {
    let all = checks(&runner(), &plan(), &Seen::default());
    assert!(all.iter().all(|check| check.status == Status::Fail), "{all:?}");
}

#[test]
fn what_a_document_does_not_claim_is_neither() {
    let mut runner = runner();
    runner.mcp = None;
    runner.session.resume_argv.clear();
    let seen = Seen { second: None, ..good() };
    let all = checks(&runner, &plan(), &seen);
    let not_declared: Vec<_> = all.iter().filter(|c| c.status == Status::NotDeclared).map(|c| c.check).collect();
    assert_eq!(not_declared, ["mcp", "session", "resume"]);
    assert_eq!(failed(&runner, &seen), Vec::<&str>::new());
}

type Spoil = fn(&mut Seen);

fn edit(turn: &mut Option<Turn>, field: &str, value: Value) {
    turn.as_mut().unwrap().row[field] = value;
}

fn frames(turn: &mut Option<Turn>) -> &mut Vec<FrameBody> {
    &mut turn.as_mut().unwrap().frames
}

fn noise(change: impl FnOnce(&mut Network)) -> FrameBody {
    let mut network = Network { opened: 1, relayed: 1, failed: 0, no_route: 0, datagrams: 0 };
    change(&mut network);
    FrameBody::Turn { turn: 1, reason: ExitReason::Completed, code: Some(0), signal: None, network: Some(network) }
}

#[rstest]
#[case::failed_run(|s: &mut Seen| edit(&mut s.first, "status", json!("ended")), &["turn"])]
#[case::two_ends(|s: &mut Seen| edit(&mut s.first, "terminal_events", json!(2)), &["turn"])]
#[case::other_words(|s: &mut Seen| frames(&mut s.first).retain(|f| !matches!(f, FrameBody::Text { .. })), &["text"])]
#[case::silent_call(|s: &mut Seen| frames(&mut s.first).retain(|f| !matches!(f, FrameBody::ToolCall { .. })), &["tool_call"])]
#[case::another_tool(|s: &mut Seen| frames(&mut s.first).iter_mut().for_each(|f| if let FrameBody::ToolCall { name, .. } = f { *name = "shell".into() }), &["tool_call"])]
#[case::silent_result(|s: &mut Seen| frames(&mut s.first).retain(|f| !matches!(f, FrameBody::ToolResult { .. })), &["tool_result"])]
#[case::failed_result(|s: &mut Seen| frames(&mut s.first).iter_mut().for_each(|f| if let FrameBody::ToolResult { ok, .. } = f { *ok = false }), &["tool_result"])]
#[case::empty_result(|s: &mut Seen| frames(&mut s.first).iter_mut().for_each(|f| if let FrameBody::ToolResult { text, .. } = f { text.clear() }), &["tool_result"])]
#[case::not_in_the_ledger(|s: &mut Seen| s.first.as_mut().unwrap().door_calls = 0, &["mcp"])]
#[case::result_lost(|s: &mut Seen| s.first.as_mut().unwrap().heard.result = None, &["mcp"])]
#[case::own_tool(|s: &mut Seen| s.first.as_mut().unwrap().heard.called = Some("write_file".into()), &["tool_call", "mcp"])]
#[case::no_tool(|s: &mut Seen| s.first.as_mut().unwrap().heard.called = None, &["tool_call", "mcp"])]
#[case::no_usage(|s: &mut Seen| frames(&mut s.first).retain(|f| !matches!(f, FrameBody::Usage { .. })), &["usage"])]
#[case::usage_of_nothing(|s: &mut Seen| frames(&mut s.first).push(FrameBody::Usage { input_tokens: 0, output_tokens: 0 }), &["usage"])]
#[case::no_error(|s: &mut Seen| frames(&mut s.refused).retain(|f| !matches!(f, FrameBody::Error { .. })), &["error"])]
#[case::refusal_ignored(|s: &mut Seen| edit(&mut s.refused, "status", json!("completed")), &["error"])]
#[case::no_session(|s: &mut Seen| edit(&mut s.first, "session_digest", Value::Null), &["session", "resume"])]
#[case::same_container(|s: &mut Seen| edit(&mut s.second, "container", json!("a".repeat(64))), &["resume"])]
#[case::from_nothing(|s: &mut Seen| edit(&mut s.second, "resume_digest", Value::Null), &["resume"])]
#[case::from_elsewhere(|s: &mut Seen| edit(&mut s.second, "resume_digest", json!("sha256:x")), &["resume"])]
#[case::forgotten(|s: &mut Seen| s.second.as_mut().unwrap().heard.knows_word = false, &["resume"])]
#[case::no_commit(|s: &mut Seen| s.first.as_mut().unwrap().commits.clear(), &["workspace"])]
#[case::proposed(|s: &mut Seen| s.first.as_mut().unwrap().commits = vec![commit("proposed")], &["workspace"])]
#[case::not_read_again(|s: &mut Seen| s.second.as_mut().unwrap().heard.result = Some("NOT_FOUND".into()), &["workspace"])]
#[case::nobody_counted(|s: &mut Seen| frames(&mut s.second).clear(), &["packets"])]
#[case::another_connection(|s: &mut Seen| frames(&mut s.second).push(noise(|n| n.opened = 2)), &["packets"])]
#[case::refused_connection(|s: &mut Seen| frames(&mut s.refused).push(noise(|n| n.failed = 1)), &["packets"])]
#[case::no_route(|s: &mut Seen| frames(&mut s.first).push(noise(|n| n.no_route = 1)), &["packets"])]
#[case::lookup(|s: &mut Seen| frames(&mut s.watched).push(noise(|n| n.datagrams = 1)), &["lookups"])]
#[case::connect(|s: &mut Seen| frames(&mut s.watched).push(noise(|n| n.no_route = 2)), &["lookups"])]
#[case::watched_failed(|s: &mut Seen| edit(&mut s.watched, "status", json!("ended")), &["lookups"])]
#[case::not_watched(|s: &mut Seen| s.watched = None, &["lookups"])]
fn each_capability_can_fail(#[case] spoil: Spoil, #[case] expected: &[&str]) {
    let mut seen = good();
    spoil(&mut seen);
    assert_eq!(failed(&runner(), &seen), expected);
}

#[test]
fn a_failure_says_what_the_agent_said_in_one_line() {
    let mut seen = good();
    let turn = seen.first.as_mut().unwrap();
    turn.row["status"] = json!("ended");
    turn.row["detail"] = json!("exit code 1");
    turn.frames.push(FrameBody::Log { stream: "stderr".into(), text: "no\u{1b}[31m such\nfile".into() });
    let all = checks(&runner(), &plan(), &seen);
    assert!(all[0].detail.ends_with("exit code 1; the agent: no [31m such file"), "{}", all[0].detail);
}
