//! Projections are only what the log says: thrown away and folded again, they are the same, byte for byte.

use crate::stack::Stack;
use serde_json::Value;
use std::fs;

/// Name, sequence and digest of every projection.
async fn digests(stack: &Stack) -> Vec<(String, u64, String)> {
    let rows = stack.ok(&["projection", "ls", "-o", "json"]).await.json();
    let one = |row: &Value| {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        (text("name"), row["seq"].as_u64().unwrap(), text("digest"))
    };
    rows.as_array().unwrap().iter().map(one).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_every_projection_and_rebuilding_gives_the_same_digests() {
    let mut stack = Stack::start().await;
    stack.run(&["My name is Ada."]).await;
    stack.run(&["--session", "last", "What is my name?"]).await;
    stack.run(&["--runner", "misbehave", "crash 3"]).await;
    stack.custody(&["run", "--runner", "nobody", "hello"]).await.ended(5);
    // An orderly stop writes the last checkpoint: nothing is appended afterwards, so sequences can be compared.
    stack.stop().await;
    stack.up(&[]).await;
    let before = digests(&stack).await;
    let last = stack.ledger().await.last().unwrap().seq;
    assert_eq!(
        before.iter().map(|p| p.0.as_str()).collect::<Vec<_>>(),
        ["dispatches", "sessions", "usage", "audit", "workspaces", "grants", "inbox"]
    );
    assert!(before.iter().all(|p| p.1 == last), "{last} {before:?}");

    stack.stop().await;
    let folder = stack.state().join("projections");
    assert!(fs::read_dir(&folder).unwrap().count() > 0);
    fs::remove_dir_all(&folder).unwrap();
    stack.up(&[]).await;
    assert_eq!(digests(&stack).await, before);
    let verified = stack.ok(&["projection", "verify", "-o", "json"]).await.json();
    assert!(verified.as_array().unwrap().iter().all(|row| row["equal"] == true), "{verified}");

    for (name, seq, digest) in &before {
        let row = stack.ok(&["projection", "rebuild", name, "-o", "json"]).await.json();
        assert_eq!((row["seq"].as_u64(), row["digest"].as_str()), (Some(*seq), Some(digest.as_str())), "{row}");
    }
    stack.custody(&["projection", "rebuild", "nothing"]).await.ended(3);
}
