//! The tail of the ledger over a death of the server under it.

use crate::stack::{LOOK, Stack, signal};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

fn rows(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    // The last line may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// Waits until a sequence was printed.
async fn reaches(file: &Path, seq: u64) {
    let until = Instant::now() + Duration::from_secs(60);
    while rows(file).last().is_none_or(|row| row["seq"].as_u64().unwrap() < seq) {
        assert!(Instant::now() < until, "{seq} was never printed: {:?}", rows(file).last());
        tokio::time::sleep(LOOK).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_resumes_after_a_server_restart_with_nothing_missed_and_nothing_doubled() {
    let stack = Stack::start().await;
    let (out, err) = (stack.home().join("tail.out"), stack.home().join("tail.err"));
    let mut tail = stack.command(&["tail", "-o", "jsonl", "--checkpoints", "--after-seq", "0"]);
    let mut tail = tail.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap()).spawn().unwrap();
    let first = stack.run(&["hello"]).await;
    reaches(&out, first["last_seq"].as_u64().unwrap()).await;

    let server = stack.ok(&["status", "-o", "json"]).await.json()["nats_pid"].as_u64().unwrap();
    signal(server.try_into().unwrap(), Signal::KILL);
    // Safe to send again: one id is one dispatch, however often it is asked for while the server is away.
    let id = crate::stack::fresh();
    let until = Instant::now() + Duration::from_secs(60);
    let dispatch = loop {
        let ran = stack.custody(&["run", "--detach", "--id", &id, "--timeout", "5s", "hello again"]).await;
        if ran.code == Some(0) {
            break ran.out.trim().to_owned();
        }
        assert!(Instant::now() < until, "{ran:?}");
    };
    let second = stack.ended(&dispatch).await;
    assert_eq!(second["status"], "completed", "{second}");
    reaches(&out, second["last_seq"].as_u64().unwrap()).await;

    signal(tail.id().unwrap(), Signal::TERM);
    let status = tokio::time::timeout(Duration::from_secs(10), tail.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(130));
    let rows = rows(&out);
    let ids: BTreeSet<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), rows.len(), "an event came twice");
    let mut seqs: Vec<u64> = rows.iter().map(|row| row["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted(), "{seqs:?}");
    seqs.dedup();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    let told = fs::read_to_string(&err).unwrap();
    assert!(told.contains("lost") && told.contains("after seq"), "{told}");
    stack.nothing_is_wrong().await;
}
