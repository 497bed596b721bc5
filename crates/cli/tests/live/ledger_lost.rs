//! The ledger is cut, removed or full under an installation that runs: from then on no tool is called, and the server of the
//! tool, which counts, sees nothing. Where it can be mended, calls go on.

use crate::crash_tool::{SEND, accept, letters};
use crate::grants::{misbehave, post, socket};
use crate::peer::Peer;
use crate::stack::{LOOK, Options, Stack, docker, options, seed};
use custody_nats::Connection;
use custody_ports::containers::Containers;
use custody_streams::accounts::ServiceUser;
use rstest::rstest;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// From the deed to the refusal of a call: between two checkpoints, and one call's own time.
const DETECTED_MAX: Duration = Duration::from_secs(3);
/// How long one call may take when the ledger gives no answer.
const CALL_MAX: Duration = Duration::from_secs(120);
/// How long calls may take to go on after the ledger was mended.
const HEALED_MAX: Duration = Duration::from_secs(90);

/// An installation with a box that may send letters, and who counts them.
struct Given {
    post: Peer,
    stack: Stack,
    dispatch: String,
    socket: PathBuf,
}

async fn given(disk_mib: Option<u32>) -> Given {
    let post = letters().await;
    let config = Some(format!("[tools.servers.post]\nurl = {:?}\n", post.url));
    let mut stack = Stack::prepared(Options { config, disk_mib, ..Options::default() });
    stack.up(&[]).await;
    accept(&stack).await;
    let dispatch = stack.launch(&misbehave("silent", &["--tool", SEND])).await;
    stack.running(&dispatch).await;
    let socket = socket(&stack, &dispatch);
    Given { post, stack, dispatch, socket }
}

impl Given {
    /// A letter to one address, which no other call of the test names.
    async fn send(&self, to: &str) -> Value {
        let params = json!({ "name": SEND, "arguments": { "to": to } });
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
        timeout(CALL_MAX, post(&self.socket, "/mcp", &call)).await.expect("a call is never answered")
    }

    async fn admin(&self) -> Connection {
        let seed = seed(&self.stack.state().join("users/admin.nk"));
        let inbox = ServiceUser::Admin.inbox_prefix();
        Connection::open(&options(self.stack.url(), inbox, seed)).await.unwrap()
    }

    /// The box and the server end; what the installation would record of it has no place any more.
    async fn abandon(mut self) {
        self.stack.kill().await;
        for left in self.stack.containers().await {
            docker().remove(&left.name).await.unwrap();
        }
    }

    async fn end(self) {
        self.stack.ok(&["dispatch", "kill", &self.dispatch]).await;
        self.stack.ended(&self.dispatch).await;
        self.stack.no_container_left().await;
        assert!(self.stack.ok(&["audit", "verify"]).await.out.contains("PASS"));
    }
}

async fn api(admin: &Connection, call: &str, body: &Value) -> Value {
    let answer = admin.client().request(format!("$JS.API.{call}.LEDGER"), body.to_string().into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answer.get("error"), None, "{answer}");
    answer
}

/// Changes the ledger's stream as whoever administers the server may.
async fn update(admin: &Connection, changed: &Value) {
    let mut config = api(admin, "STREAM.INFO", &json!({})).await["config"].clone();
    config.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
    api(admin, "STREAM.UPDATE", &config).await;
}

fn made(answer: &Value) -> bool {
    answer["result"]["content"][0]["text"] == "sent" && answer["result"]["isError"] != true
}

/// T33: by the administrator of the server, under a gateway that has read all of it long ago.
#[rstest]
#[case::trimmed(false)]
#[case::deleted(true)]
#[tokio::test(flavor = "multi_thread")]
async fn t33_a_ledger_that_is_shrunk_or_deleted_stops_every_tool_call(#[case] deleted: bool) {
    let given = given(None).await;
    // The honest calls beside it, before.
    for n in 0..2 {
        let answer = given.send(&format!("before-{n}@acme.test")).await;
        assert!(made(&answer), "{answer}");
    }
    let admin = given.admin().await;
    let begun = Instant::now();
    match deleted {
        true => drop(api(&admin, "STREAM.DELETE", &json!({})).await),
        false => update(&admin, &json!({ "max_msgs": 3, "discard": "old" })).await,
    }
    let done = Instant::now();
    let mut n = 0;
    let refused = loop {
        let answer = given.send(&format!("after-{n}@acme.test")).await;
        if answer.to_string().contains("LEDGER_BROKEN") {
            break answer;
        }
        assert!(!(deleted && made(&answer)), "a call was made that nothing records: {answer}");
        assert!(done.elapsed() < CALL_MAX, "the loss is never noticed: {answer}\n{}", given.stack.log());
        n += 1;
        tokio::time::sleep(LOOK).await;
    };
    let noticed = done.elapsed();
    println!("told {noticed:?} after the deed, which took {:?}: {refused}", done - begun);
    // Where nothing can be recorded, the first refusal may have waited for the ledger.
    assert!(deleted || noticed <= DETECTED_MAX, "{noticed:?}");
    let sent = given.post.calls();
    for n in 0..4 {
        let answer = given.send(&format!("late-{n}@acme.test")).await;
        assert!(answer.to_string().contains("LEDGER_BROKEN") && !made(&answer), "{answer}");
    }
    assert_eq!(given.post.calls(), sent, "a call passed after the loss was known");
    admin.close().await;
    given.abandon().await;
}

/// T34: the ledger's limit is reached, so it refuses what is new and forgets nothing.
#[tokio::test(flavor = "multi_thread")]
async fn t34_a_full_ledger_lets_no_tool_call_through_and_one_with_room_does() {
    let given = given(None).await;
    let admin = given.admin().await;
    assert!(made(&given.send("before@acme.test").await));
    let limit = api(&admin, "STREAM.INFO", &json!({})).await["config"]["max_bytes"].clone();
    // Full as it stands; what slips in between the two makes it fuller, and is kept.
    let full = api(&admin, "STREAM.INFO", &json!({})).await["state"]["bytes"].as_u64().unwrap();
    update(&admin, &json!({ "max_bytes": full })).await;
    let sent = given.post.calls();
    for n in 0..3 {
        let answer = given.send(&format!("full-{n}@acme.test")).await;
        assert!(answer["error"].is_object(), "{answer}");
    }
    assert_eq!(given.post.calls(), sent, "a call was made that the ledger did not take; it holds {full} bytes");

    update(&admin, &json!({ "max_bytes": limit })).await;
    let until = Instant::now() + HEALED_MAX;
    let mut n = 0;
    loop {
        let answer = given.send(&format!("again-{n}@acme.test")).await;
        if made(&answer) {
            break;
        }
        assert!(Instant::now() < until, "{answer}\n{}", given.stack.log());
        n += 1;
        tokio::time::sleep(LOOK).await;
    }
    assert_eq!(given.post.calls(), sent + 1);
    admin.close().await;
    given.end().await;
}

/// T34: not one byte more fits onto the disk that holds ledger and blobs.
#[tokio::test(flavor = "multi_thread")]
async fn t34_a_full_disk_lets_no_tool_call_through() {
    let given = given(Some(96)).await;
    assert!(made(&given.send("before@acme.test").await));
    let filler = given.stack.state().join("filler");
    let mut file = File::create(&filler).unwrap();
    for block in [1 << 20, 4096, 1] {
        let bytes = vec![b'x'; block];
        while file.write_all(&bytes).is_ok() {}
    }
    drop(file);
    let sent = given.post.calls();
    // The arguments are larger than what is left of a page that a file has already.
    for n in 0..3 {
        let answer = given.send(&format!("full-{n}-{}@acme.test", "x".repeat(16_384))).await;
        assert!(!made(&answer), "{answer}");
    }
    assert_eq!(given.post.calls(), sent, "a call was made of which the arguments are kept nowhere");

    fs::remove_file(&filler).unwrap();
    let until = Instant::now() + HEALED_MAX;
    let mut n = 0;
    loop {
        let answer = given.send(&format!("again-{n}@acme.test")).await;
        if made(&answer) {
            break;
        }
        assert!(Instant::now() < until, "{answer}\n{}", given.stack.log());
        n += 1;
        tokio::time::sleep(LOOK).await;
    }
    given.end().await;
}
