//! The doors of a box from end to end: a budget that ends a dispatch, and a dispatch that is repeated without its model.

use crate::ledger::count;
use crate::stack::{Options, Stack};
use custody_testkit::model::Turn;
use serde_json::json;

fn listing() -> Turn {
    Turn::Call { id: "c1".into(), name: "list_files".into(), args: json!({ "path": "." }) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_is_used_up_ends_the_dispatch_and_says_so() {
    let script = vec![listing(), Turn::Say("Never said.".into()), Turn::Say("Hello.".into())];
    let stack = Stack::with(Options { script, ..Options::default() }).await;
    let row = stack.run(&["--tokens", "1", "What is here?"]).await;
    assert_eq!((row["status"].as_str(), row["reason"].as_str()), (Some("ended"), Some("budget")), "{row}");
    let dispatch = row["dispatch"].as_str().unwrap();
    let events = stack.events_of(dispatch).await;
    // Whether it was also told before is a matter of which end came first: one call used up all of it.
    let kinds = ["effect.model_called", "effect.budget_exhausted", "run.finished"];
    assert_eq!(kinds.map(|kind| count(&events, kind)), [1, 1, 1], "{events:#?}");
    assert_eq!(stack.model().requests().len(), 1, "the second call never reached the model");
    // The next dispatch has a budget of its own.
    let next = stack.run(&["--tokens", "100000", "Hello?"]).await;
    assert_eq!(next["reason"], "completed", "{next}");

    let got = stack.ok(&["dispatch", "get", dispatch, "-o", "json"]).await.json();
    let budgets = got["used"]["budgets"].as_array().unwrap();
    assert!(budgets.contains(&json!("out dispatch tokens")), "{got}");
    assert_eq!(got["used"]["sums"]["model_calls"], 1, "{got}");
    let usage = stack.ok(&["usage", "--by", "dispatch", "-o", "json"]).await.json();
    let rows = usage.as_array().unwrap();
    let of = |id: &str| rows.iter().find(|row| row["dispatch"] == id).unwrap()["input_tokens"].as_u64().unwrap();
    assert_eq!(of(dispatch), row["usage"]["input_tokens"].as_u64().unwrap(), "{usage}");
    let csv = stack.ok(&["usage", "--by", "subject", "--since", "today", "-o", "csv"]).await.out;
    assert!(csv.contains("u_tester,2,"), "{csv}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatch_is_repeated_from_its_recording_and_another_question_is_not_asked() {
    let script = vec![listing(), Turn::Say("One file: plan.md.".into())];
    let stack = Stack::with(Options { script, ..Options::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    let import = ["workspace", "import", "default", folder.path().to_str().unwrap()];
    std::fs::write(folder.path().join("plan.md"), "Buy bread.").unwrap();
    stack.ok(&import).await;
    let first = stack.run(&["What stands in @plan.md?"]).await;
    assert_eq!(first["reason"], "completed", "{first}");
    let asked = stack.model().requests().len();
    assert_eq!(asked, 2);

    let again = stack.ok(&["replay", "last", "--write", "-o", "json"]).await.json();
    assert_eq!((&again["same"], &again["same_words"]), (&json!(true), &json!(true)), "{again}");
    assert_eq!(again["model_calls"], json!([2, 2]), "{again}");
    let second = again["dispatch"].as_str().unwrap();
    assert!(stack.output(second).await.contains("One file: plan.md."));
    assert_eq!(stack.model().requests().len(), asked, "the model was not asked again");

    // Another file is another question.
    std::fs::write(folder.path().join("plan.md"), "Buy milk.").unwrap();
    stack.ok(&import).await;
    let other = stack.custody(&["replay", first["dispatch"].as_str().unwrap(), "--write"]).await.ended(10);
    assert!(other.err.contains("[REPLAY_DIFFERS]"), "{other:?}");
    assert_eq!(stack.model().requests().len(), asked);
    let diverged = stack
        .ledger()
        .await
        .into_iter()
        .any(|event| event.data["detail"].as_str().is_some_and(|detail| detail.starts_with("REPLAY_DIVERGED")));
    assert!(diverged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_turn_is_repeated_from_the_session_file_of_its_time() {
    let script = ["Hello Ada.", "You are Ada.", "Good-bye."].map(|words| Turn::Say(words.into()));
    let stack = Stack::with(Options { script: script.to_vec(), ..Options::default() }).await;
    let first = stack.run(&["My name is Ada."]).await;
    let second = stack.run(&["--session", "last", "What is my name?"]).await;
    // The session goes on: its newest file is not what the second turn began with.
    let third = stack.run(&["--session", "last", "Bye."]).await;
    assert_eq!((&second["session"], &third["session"]), (&first["session"], &first["session"]));
    let asked = stack.model().requests().len();

    let again = stack.ok(&["replay", second["dispatch"].as_str().unwrap(), "-o", "json"]).await.json();
    assert_eq!((&again["same"], &again["model_calls"]), (&json!(true), &json!([1, 1])), "{again}");
    let repeated = stack.ended(again["dispatch"].as_str().unwrap()).await;
    assert_eq!(repeated["resume_digest"], first["session_digest"], "{repeated}");
    assert_ne!(repeated["session"], first["session"], "the session that it was of is left alone");
    assert_eq!(stack.model().requests().len(), asked, "no model was asked");
}
