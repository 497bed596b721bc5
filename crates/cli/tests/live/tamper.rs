//! The log as evidence: what is edited, cut or replaced by an older copy is found, with the first bad sequence.

use crate::stack::{Ran, Stack};
use rstest::rstest;
use std::fs;
use std::path::{Path, PathBuf};

/// An exported log of one dispatch, and where its lines are.
async fn bundle(stack: &mut Stack) -> (PathBuf, String) {
    stack.run(&["hello"]).await;
    let file = stack.home().join("evidence.ndjson");
    stack.ok(&["audit", "export", "--output-file", file.to_str().unwrap()]).await;
    stack.ok(&["audit", "verify", file.to_str().unwrap()]).await;
    stack.stop().await;
    let text = fs::read_to_string(&file).unwrap();
    (file, text)
}

/// Verifies a file with this text.
async fn verify(stack: &Stack, lines: &[String], more: &[&str]) -> Ran {
    let file = stack.home().join("changed.ndjson");
    fs::write(&file, lines.join("\n") + "\n").unwrap();
    stack.custody(&[&["audit", "verify", file.to_str().unwrap()], more].concat()).await
}

fn names(ran: &Ran, code: &str, seq: usize) {
    assert_eq!(ran.code, Some(9), "{ran:?}");
    assert!(ran.err.contains(&format!("[{code}]")), "{ran:?}");
    assert!(ran.out.contains(&format!("first bad sequence {seq}: ")), "{seq}: {ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn edited_message_is_found() {
    let mut stack = Stack::start().await;
    let (_, text) = bundle(&mut stack).await;
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    // Line 0 is the head; line n holds sequence n.
    let at = lines.iter().position(|line| line.contains("custody.dispatch.admitted.v1")).unwrap();

    let mut edited = lines.clone();
    edited[at] = lines[at].replace("custody-agent", "custody-agend");
    assert_ne!(edited[at], lines[at]);
    let ran = verify(&stack, &edited, &[]).await;
    assert_eq!(ran.code, Some(9), "{ran:?}");
    assert!(ran.out.contains(&format!("first bad sequence {at}: ")), "{ran:?}");

    let mut missing = lines.clone();
    missing.remove(at);
    names(&verify(&stack, &missing, &[]).await, "GAP", at);

    let mut swapped = lines.clone();
    swapped.swap(at, at + 1);
    assert_eq!(verify(&stack, &swapped, &[]).await.code, Some(9));
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_file_is_found() {
    let mut stack = Stack::start().await;
    let (_, text) = bundle(&mut stack).await;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let all = lines.len() - 1;
    lines.truncate(lines.len() - 2);
    names(&verify(&stack, &lines, &[]).await, "TRUNCATED", all - 1);
    // The head can be made to fit; a checkpoint that was kept outside cannot.
    let mut head: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    head["messages"] = (all - 2).into();
    head.as_object_mut().unwrap().remove("checkpoint");
    lines[0] = head.to_string();
    let kept = stack.state().join("checkpoints/latest");
    let ran = verify(&stack, &lines, &["--checkpoint", kept.to_str().unwrap()]).await;
    names(&ran, "TRUNCATED", all - 1);
}

/// The newest block file of the ledger.
fn block(stack: &Stack) -> PathBuf {
    let mut found = Vec::new();
    files(&stack.state().join("nats"), &mut found);
    found.retain(|path| path.extension().is_some_and(|e| e == "blk") && path.to_string_lossy().contains("/LEDGER/"));
    found.sort();
    found.pop().unwrap()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// Starts again on a damaged store: either `up` refuses with the integrity code, or `audit verify` does. Gives back
/// what was said.
async fn refuses_to_pass(stack: &mut Stack) -> String {
    if let Err(status) = stack.try_up(&[]).await {
        assert_eq!(status.code(), Some(9), "{status}: {}", stack.log());
        return stack.log();
    }
    let ran = stack.custody(&["audit", "verify"]).await.ended(9);
    [ran.out, ran.err].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn edited_store_is_found() {
    let mut stack = Stack::start().await;
    stack.run(&["hello"]).await;
    stack.run(&["hello again"]).await;
    stack.stop().await;
    let block = block(&stack);
    let mut bytes = fs::read(&block).unwrap();
    // What somebody said stands there sealed; whose it is does not.
    let at = bytes.windows(8).position(|part| part == b"u_tester").unwrap();
    bytes[at..at + 8].copy_from_slice(b"u_nobody");
    fs::write(&block, bytes).unwrap();
    let said = refuses_to_pass(&mut stack).await;
    assert!(names_a_sequence(&said), "{said}");
}

fn names_a_sequence(said: &str) -> bool {
    said.contains("first bad sequence ") || said.contains("broken at sequence ") || said.contains("[HISTORY_TRIMMED]")
}

#[rstest]
#[case::and_the_index_tells(false)]
#[case::and_the_index_is_gone(true)]
#[tokio::test(flavor = "multi_thread")]
async fn cut_store_is_found(#[case] index_too: bool) {
    let mut stack = Stack::start().await;
    stack.run(&["hello"]).await;
    stack.run(&["hello again"]).await;
    stack.stop().await;
    let block = block(&stack);
    let bytes = fs::read(&block).unwrap();
    fs::write(&block, &bytes[..bytes.len() * 2 / 3]).unwrap();
    if index_too {
        // The server then believes what the block says.
        fs::remove_file(block.with_file_name("index.db")).unwrap();
    }
    let said = refuses_to_pass(&mut stack).await;
    assert!(names_a_sequence(&said), "{said}");
    // What is appended after the cut takes the place of what was lost: then the kept head has another root.
    let by_kept_head = said.contains("TRUNCATED") || said.contains("HEAD_MISMATCH");
    assert_eq!(by_kept_head, index_too, "{said}");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_checkpoint_finds_a_restored_backup() {
    let mut stack = Stack::start().await;
    stack.run(&["hello"]).await;
    stack.stop().await;
    let (store, backup) = (stack.state().join("nats/jetstream"), stack.home().join("backup"));
    copy(&store, &backup);
    stack.up(&[]).await;
    stack.run(&["hello again"]).await;
    stack.run(&["and again"]).await;
    stack.nothing_is_wrong().await;
    stack.stop().await;
    fs::remove_dir_all(&store).unwrap();
    copy(&backup, &store);
    let said = refuses_to_pass(&mut stack).await;
    assert!(said.contains("TRUNCATED") && said.contains("first bad sequence "), "{said}");
}
