//! A person is erased: what they said is found nowhere that this installation keeps for good, nothing that was signed is
//! another, nobody else loses a word, and a death in the middle is made good.

use crate::ledger::count;
use crate::stack::{Options, Stack};
use custody_testkit::model::Turn;
use rstest::rstest;
use serde_json::{Value, json};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The points of this file's table.
pub(crate) const POINTS: [&str; 2] = ["au.after_erasing", "au.after_destroyed"];
/// Nobody says this by accident, nor does a model.
const PHRASE: &str = "zuckerwatte-7f3a91";
const OTHERS: &str = "lebkuchen-51c0de";
/// The stream that holds what launchers published in the clear, for 30 days. SECURITY.md says so.
const AGED: &str = "LAUNCH";

/// Files below a folder that hold a text, as they lie on the disk.
fn holding(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(holding(&path, text));
        } else if path.is_file() {
            // A file that has gone since holds nothing.
            let bytes = std::fs::read(&path).unwrap_or_default();
            if bytes.windows(text.len()).any(|part| part == text.as_bytes()) {
                found.push(path);
            }
        }
    }
    found
}

/// The same without the stream that ages.
fn kept_for_good(stack: &Stack, text: &str) -> Vec<PathBuf> {
    let aged = |path: &PathBuf| path.components().any(|part| part.as_os_str() == AGED);
    let mut found = holding(&stack.state(), text);
    found.retain(|path| !aged(path));
    found
}

/// Two turns of Jane's in one session, with a tool call, and one of Omar's.
async fn given(stack: &Stack) -> (String, String, String) {
    for subject in ["u_jane", "u_omar"] {
        stack.grant(subject, "cli", &["--tool", "workspace_read"]).await;
    }
    let asked = format!("Remember {PHRASE}.");
    let first = stack.run(&["--as", "u_jane", "--tool", "workspace_read", &asked]).await;
    let (first, session) = (text(&first, "dispatch"), text(&first, "session"));
    let again = format!("What of {PHRASE}?");
    let second = text(&stack.run(&["--as", "u_jane", "--session", &session, &again]).await, "dispatch");
    let omar = text(&stack.run(&["--as", "u_omar", &format!("Remember {OTHERS}.")]).await, "dispatch");
    (first, second, omar)
}

fn text(row: &Value, field: &str) -> String {
    row[field].as_str().unwrap_or_else(|| panic!("{row}")).to_owned()
}

fn script() -> Vec<Turn> {
    let args = json!({ "path": format!("{PHRASE}.md") });
    vec![
        Turn::Call { id: "c1".into(), name: "workspace_read".into(), args },
        Turn::Say(format!("There is no {PHRASE}.")),
        Turn::Echo,
        Turn::Echo,
    ]
}

async fn what(stack: &Stack, dispatch: &str) -> String {
    text(&stack.ok(&["dispatch", "get", dispatch, "-o", "json"]).await.json(), "what")
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_an_erased_person_said_is_left_and_the_ledger_is_whole() {
    let mut stack = Stack::with(Options { script: script(), ..Options::default() }).await;
    let (first, second, omar) = given(&stack).await;
    // Before: it is shown, it is where it may be, and it lies nowhere in the clear that keeps it for good.
    assert!(what(&stack, &first).await.contains(PHRASE));
    assert!(what(&stack, &second).await.contains(PHRASE));
    let events = stack.events_of(&first).await;
    assert_eq!(
        ["effect.tool_intended", "effect.tool_finished"].map(|kind| count(&events, kind)),
        [1, 1],
        "{events:#?}"
    );
    let streams = stack.state().join("nats");
    let found = holding(&streams, PHRASE);
    assert!(found.iter().any(|path| path.components().any(|part| part.as_os_str() == AGED)), "{found:?}");
    assert!(stack.output(&first).await.contains(PHRASE));
    let in_the_clear = |found: Vec<PathBuf>| found.into_iter().filter(|p| p.starts_with(&streams)).collect::<Vec<_>>();
    assert_eq!(in_the_clear(kept_for_good(&stack, PHRASE)), Vec::<PathBuf>::new());
    let jane = stack.user("u_jane").await;
    let session = text(&stack.ok(&["dispatch", "get", &first, "-o", "json"]).await.json(), "session");
    let conversation = format!("/api/v1/sessions/{session}/conversation");
    let prompt = |page: &Value| text(&page["turns"][0], "prompt");
    assert!(prompt(&jane.get(&conversation).await.is(200).json()).contains(PHRASE));
    let older = stack.kept_checkpoint("older").await;
    let proof = stack.home().join("proof.json");
    stack.ok(&["audit", "prove", &first, "--output-file", proof.to_str().unwrap()]).await;

    // Without a yes nothing happens; what would is said.
    let asked = stack.custody(&["subject", "erase", "u_jane"]).await.ended(2);
    assert!(asked.err.contains("destroyed: ") && asked.err.contains("stays: "), "{asked:?}");
    assert!(what(&stack, &first).await.contains(PHRASE));
    let done = stack.ok(&["subject", "erase", "u_jane", "--yes", "-o", "json"]).await.json();
    assert_eq!(
        (&done["state"], &done["changed"], &done["grants_revoked"]),
        (&json!("erased"), &json!(true), &json!(1))
    );
    let again = stack.ok(&["subject", "erase", "u_jane", "--yes", "-o", "json"]).await.json();
    assert_eq!((&again["state"], &again["changed"]), (&json!("erased"), &json!(false)));

    // After: the projector has folded it when it says so.
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while what(&stack, &first).await != "(erased)" {
        assert!(tokio::time::Instant::now() < until, "it is still shown");
        tokio::time::sleep(crate::stack::LOOK).await;
    }
    assert_eq!(what(&stack, &second).await, "(erased)");
    assert_eq!(kept_for_good(&stack, PHRASE), Vec::<PathBuf>::new());
    let page = jane.get(&conversation).await.is(200).json();
    assert_eq!(prompt(&page), "(erased)");
    assert!(!page.to_string().contains(PHRASE), "{page}");
    for arguments in [
        &["dispatch", "ls", "-o", "json"][..],
        &["dispatch", "logs", &first],
        &["audit", "why", &first, "-o", "json"],
        &["session", "show", &session, "-o", "json"],
        &["tail", "--no-follow", "-o", "json"],
        &["subject", "ls", "-o", "json"],
    ] {
        let ran = stack.custody(arguments).await;
        assert!(!ran.out.contains(PHRASE) && !ran.err.contains(PHRASE), "{arguments:?}");
    }
    assert!(stack.custody(&["dispatch", "rerun", &first]).await.err.contains("[ERASED]"));
    let exported = stack.home().join("all.ndjson");
    stack.ok(&["audit", "export", "--output-file", exported.to_str().unwrap()]).await;
    // The control: Omar's words are where they were.
    assert!(what(&stack, &omar).await.contains(OTHERS));

    // The log verifies as before, also against a checkpoint and a proof from before.
    stack.nothing_is_wrong().await;
    stack.ok(&["audit", "verify", proof.to_str().unwrap(), "--checkpoint", older.to_str().unwrap()]).await;
    stack.ok(&["audit", "verify", exported.to_str().unwrap()]).await;
    stack.ok(&["projection", "verify"]).await;

    // Jane is kept out, also after a restart, until she is taken in again; what was erased stays erased.
    let refused = stack.custody(&["run", "--as", "u_jane", "hello"]).await.ended(5);
    assert!(refused.err.contains("[GRANT_REVOKED]") || refused.err.contains("[GRANT_MISSING]"), "{refused:?}");
    stack.grant("u_jane", "cli", &[]).await;
    let refused = stack.custody(&["run", "--as", "u_jane", "hello"]).await.ended(5);
    assert!(refused.err.contains("[SUBJECT_ERASED]"), "{refused:?}");
    stack.stop().await;
    assert_eq!(kept_for_good(&stack, PHRASE), Vec::<PathBuf>::new());
    stack.up(&[]).await;
    assert!(stack.custody(&["run", "--as", "u_jane", "hello"]).await.ended(5).err.contains("[SUBJECT_ERASED]"));
    stack.ok(&["subject", "enrol", "u_jane"]).await;
    let anew = stack.run(&["--as", "u_jane", "hello again"]).await;
    assert_eq!(anew["status"], "completed", "{anew}");
    assert_eq!(what(&stack, &first).await, "(erased)");
    assert!(what(&stack, &text(&anew, "dispatch")).await.contains("hello again"));
    stack.nothing_is_wrong().await;
}

#[rstest]
#[case::before_anything_was_destroyed(POINTS[0])]
#[case::before_it_was_recorded(POINTS[1])]
#[tokio::test(flavor = "multi_thread")]
async fn a_death_in_the_middle_of_an_erasure_is_made_good(#[case] point: &str) {
    let mut stack = Stack::prepared(Options { script: script(), ..Options::default() });
    stack.up(&[("CUSTODY_CRASH_AT", point)]).await;
    let (first, _, omar) = given(&stack).await;
    // Who asked is not answered: the process is dead.
    assert_ne!(stack.custody(&["subject", "erase", "u_jane", "--yes"]).await.code, Some(0));
    let status = stack.died(Duration::from_secs(60)).await;
    assert_eq!(status.signal(), Some(6), "{status}: {}", stack.log());
    stack.up(&[]).await;
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while what(&stack, &first).await != "(erased)" {
        assert!(tokio::time::Instant::now() < until, "the restart does not finish it");
        tokio::time::sleep(crate::stack::LOOK).await;
    }
    let events = stack.ledger().await;
    let states: Vec<&str> = events
        .iter()
        .filter(|event| event.kind == "key.subject_key_changed")
        .map(|event| event.data["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["erasing", "erased"]);
    assert_eq!(kept_for_good(&stack, PHRASE), Vec::<PathBuf>::new());
    assert!(what(&stack, &omar).await.contains(OTHERS));
    stack.nothing_is_wrong().await;
}
