//! The process dies around a call of a tool of somebody else's: after the intent, before anything was sent, and after the
//! answer, before it was recorded. Nobody knows then how the call ended: that is what the ledger says, and the call is not
//! made again. The server of the tool counts what was done.

use crate::launcher::unit;
use crate::ledger::count;
use crate::stack::{Options, Stack, fresh};
use custody_testkit::model::Turn;
use rstest::rstest;
use serde_json::{Value, json};
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The points of this file's table.
pub(crate) const POINTS: [&str; 2] = ["gw.after_tool_intent", "gw.after_tool_call"];
/// The tool, as the model calls it.
const SEND: &str = "post__send";

/// A server of one tool over MCP, which counts the letters that it sent.
struct Post {
    url: String,
    sent: Arc<AtomicUsize>,
    server: tokio::task::JoinHandle<()>,
}

impl Post {
    async fn open() -> Post {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = sent.clone();
        let server = tokio::spawn(async move {
            while let Ok((peer, _)) = listener.accept().await {
                tokio::spawn(answer(peer, counted.clone()));
            }
        });
        Post { url, sent, server }
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// One request of one connection.
async fn answer(mut peer: TcpStream, sent: Arc<AtomicUsize>) {
    let mut bytes = Vec::new();
    let message = loop {
        if peer.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        // The body is one JSON value: it is all there once it can be read.
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && let Ok(message) = serde_json::from_str::<Value>(body)
        {
            break message;
        }
    };
    let result = match message["method"].as_str() {
        Some("initialize") => json!({ "protocolVersion": "2025-06-18", "capabilities": {} }),
        Some("tools/list") => json!({ "tools": [{
            "name": "send", "description": "Sends a letter.",
            "inputSchema": { "type": "object", "properties": { "to": { "type": "string" } } },
        }] }),
        Some("tools/call") => {
            sent.fetch_add(1, Ordering::SeqCst);
            json!({ "content": [{ "type": "text", "text": "sent" }] })
        }
        _ => Value::Null,
    };
    let (status, body) = match message.get("id") {
        Some(id) => ("200 OK", json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string()),
        None => ("202 Accepted", String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    // A client that has gone needs no answer.
    let _gone = peer.write_all([head, body].concat().as_bytes()).await;
}

/// An installation that dies at a point, whose model sends one letter and then speaks, with the tool accepted and granted.
async fn stack_at(point: &str, post: &Post) -> Stack {
    let call = Turn::Call { id: "c1".into(), name: SEND.into(), args: json!({ "to": "jane@acme.test" }) };
    let script = vec![call, Turn::Say("I cannot tell whether it was sent.".into())];
    let config = Some(format!("[tools.servers.post]\nurl = \"{}\"\n", post.url));
    let mut stack = Stack::prepared(Options { script, config, ..Options::default() });
    stack.up(&[("CUSTODY_CRASH_AT", point)]).await;
    let document = stack.home().join("send.json");
    let tool = json!({
        "name": SEND, "scope": "post:send", "grant": "auto", "transport": "mcp", "mcp_server": "post", "barriers": [],
        "effect": "irreversible", "idempotent": false, "constraints": [],
    });
    std::fs::write(&document, tool.to_string()).unwrap();
    stack.ok(&["tool", "add", document.to_str().unwrap()]).await;
    stack.ok(&["tool", "accept", SEND]).await;
    stack.grant("u_tester", "cli", &["--tool", SEND]).await;
    stack
}

#[rstest]
#[case::nothing_was_sent(POINTS[0], 0)]
#[case::it_was_sent_and_nobody_heard(POINTS[1], 1)]
#[tokio::test(flavor = "multi_thread")]
async fn a_tool_call_that_a_death_cut_in_two_is_in_doubt_says_so_and_is_not_made_again(
    #[case] point: &str,
    #[case] sent: usize,
) {
    let post = Post::open().await;
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
    assert_eq!(post.sent(), sent);

    stack.up(&[]).await;
    let row = stack.ended(&dispatch).await;
    // The agent lived on, was told that its call broke off, and said so: only the call is in doubt, not the run.
    assert_eq!((row["reason"].as_str(), row["terminal_events"].as_u64()), (Some("completed"), Some(1)), "{row}");
    assert!(stack.output(&dispatch).await.contains("I cannot tell whether it was sent."));
    assert_eq!(post.sent(), sent, "a call in doubt was made again");

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
