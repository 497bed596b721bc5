//! The process dies around a call of a tool of somebody else's: after the intent, before anything was sent, and after the
//! answer, before it was recorded. Nobody knows then how the call ended: that is what the ledger says, and the call is not
//! made again. The server of the tool counts what was done.

use crate::launcher::unit;
use crate::ledger::count;
use crate::peer::{Peer, tool};
use crate::stack::{Options, Stack, fresh};
use custody_testkit::model::Turn;
use rstest::rstest;
use serde_json::json;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

/// The points of this file's table.
pub(crate) const POINTS: [&str; 2] = ["gw.after_tool_intent", "gw.after_tool_call"];
/// The tool, as the model calls it.
pub(crate) const SEND: &str = "post__send";

/// The server that sends letters.
pub(crate) async fn letters() -> Peer {
    Peer::start(tool("send", "Sends a letter.", &["to"])).await
}

/// An installation that dies at a point, whose model sends one letter and then speaks, with the tool accepted and granted.
async fn stack_at(point: &str, post: &Peer) -> Stack {
    let call = Turn::Call { id: "c1".into(), name: SEND.into(), args: json!({ "to": "jane@acme.test" }) };
    let script = vec![call, Turn::Say("I cannot tell whether it was sent.".into())];
    let config = Some(format!("[tools.servers.post]\nurl = \"{}\"\n", post.url));
    let mut stack = Stack::prepared(Options { script, config, ..Options::default() });
    stack.up(&[("CUSTODY_CRASH_AT", point)]).await;
    accept(&stack).await;
    stack
}

/// Adds the tool, accepts it, and lets the operator's dispatches use it.
pub(crate) async fn accept(stack: &Stack) {
    let document = stack.home().join("send.json");
    let tool = json!({
        "name": SEND, "scope": "post:send", "grant": "auto", "transport": "mcp", "mcp_server": "post", "barriers": [],
        "effect": "irreversible", "idempotent": false, "constraints": [],
    });
    std::fs::write(&document, tool.to_string()).unwrap();
    stack.ok(&["tool", "add", document.to_str().unwrap()]).await;
    stack.ok(&["tool", "accept", SEND]).await;
    stack.grant("u_tester", "cli", &["--tool", SEND]).await;
}

#[rstest]
#[case::nothing_was_sent(POINTS[0], 0)]
#[case::it_was_sent_and_nobody_heard(POINTS[1], 1)]
#[tokio::test(flavor = "multi_thread")]
async fn a_tool_call_that_a_death_cut_in_two_is_in_doubt_says_so_and_is_not_made_again(
    #[case] point: &str,
    #[case] sent: usize,
) {
    let post = letters().await;
    let mut stack = stack_at(point, &post).await;
    let mut asked = unit("cli", "Send Jane a letter.");
    asked["tools"] = json!([SEND]);
    let cli = stack.connect("cli").await;
    let dispatch = cli.ask(&fresh(), &asked).await.to_string();
    let status = stack.died(Duration::from_secs(60)).await;
    assert_eq!(status.signal(), Some(6), "{status}: {}", stack.log());
    let log = stack.log();
    let fired = log.lines().any(|line| line.contains("crash point reached") && line.contains(point));
    assert!(fired, "{log}");
    assert_eq!(post.calls(), sent);

    stack.up(&[]).await;
    let row = stack.ended(&dispatch).await;
    // The agent lived on, was told that its call broke off, and said so: only the call is in doubt, not the run.
    assert_eq!((row["reason"].as_str(), row["terminal_events"].as_u64()), (Some("completed"), Some(1)), "{row}");
    assert!(stack.output(&dispatch).await.contains("I cannot tell whether it was sent."));
    assert_eq!(post.calls(), sent, "a call in doubt was made again");

    let events = stack.events_of(&dispatch).await;
    assert_eq!(
        ["tool_intended", "tool_finished"].map(|k| count(&events, &["effect.", k].concat())),
        [1, 1],
        "{events:#?}"
    );
    let finished = events.iter().find(|event| event.kind == "effect.tool_finished").unwrap();
    let said = (finished.data["phase"].as_str(), finished.data["reason"].as_str());
    assert_eq!(said, (Some("in_doubt"), Some("GATEWAY_RESTARTED")), "{finished:?}");
    // And so does whoever asks what happened.
    let why = stack.ok(&["audit", "why", &[&dispatch, "-t1"].concat()]).await.out;
    assert!(why.lines().any(|line| line.contains("effect.tool_finished") && line.contains("in_doubt")), "{why}");
    stack.no_container_left().await;
    stack.nothing_is_wrong().await;
}
