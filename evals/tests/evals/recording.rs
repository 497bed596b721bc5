//! Capture: what was recorded passes and can fail, holds the log byte for byte, and is refused where it must be.

use crate::book::{Book, Ending, Ticket, container};
use custody_contracts::canonical::canonical;
use custody_contracts::events::SignatureRule;
use custody_evals::slice::{Line, Slice};
use custody_evals::{LaunchLine, RecordError, Recording, RunOptions, Source, Verdict, record, report, run};
use custody_ledger::Stored;
use rstest::rstest;
use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;

/// A log with two dispatches that ended, one that was refused, one that is open, and more after the last checkpoint.
struct Live {
    book: Book,
    first: Ticket,
    refused: Ticket,
    open: Ticket,
    uncovered: Ticket,
}

fn live() -> Live {
    let mut book = Book::new();
    book.register("web-chat", 1, SignatureRule::Required, &["u_jane"]);
    let ask = |book: &mut Book, id: &str, key: u8| {
        let event = book.ask("web-chat", id, "u_jane", json!({ "entrypoint": { "inline": "Hello." } }));
        let launch = book.launch("web-chat", event, key);
        book.decide(&launch)
    };
    let garbage = book.publish("web-chat", "dispatch", vec![0xff, 0xfe, b'{']);
    book.decide(&garbage);
    let first = ask(&mut book, "m-01", 1);
    book.claim(&first, None);
    book.start(&first, &container("first"));
    book.call(&first, 1);
    book.finish(&first, Ending::completed(&container("first"), "a session", 1));
    book.checkpoint();
    let refused = ask(&mut book, "m-02", 9);
    book.checkpoint();
    let open = ask(&mut book, "m-03", 1);
    book.claim(&open, None);
    book.checkpoint();
    let uncovered = ask(&mut book, "m-04", 1);
    book.claim(&uncovered, None);
    book.start(&uncovered, &container("last"));
    book.finish(&uncovered, Ending::completed(&container("last"), "another session", 0));
    Live { book, first, refused, open, uncovered }
}

fn what(root: &Path, dispatch: &str) -> Recording {
    Recording {
        dispatch: dispatch.to_owned(),
        name: "1-captured".into(),
        claim: "What was captured.".into(),
        promises: vec!["P3".into()],
        tags: vec!["captured".into()],
        canaries: vec!["sk-canary-3b1f7c".into()],
        scenarios: root.join("scenarios"),
        ci: false,
    }
}

#[rstest]
#[case::that_ran(|live: &Live| live.first.dispatch.to_string(), 3)]
#[case::that_was_refused(|live: &Live| live.refused.dispatch.to_string(), 2)]
fn a_captured_dispatch_passes_at_once_and_can_fail(#[case] of: fn(&Live) -> String, #[case] mutants: usize) {
    let (live, root) = (live(), TempDir::new().expect("a folder"));
    let dispatch = of(&live);
    let recorded = record(live.book.messages(), live.book.launches(), &what(root.path(), &dispatch)).expect("recorded");
    let told = report::one(&recorded.report);
    assert_eq!(recorded.report.verdict, Verdict::Pass, "{told}\n{:?}", recorded.report.mutants);
    assert_eq!(recorded.report.source, Some(Source::Captured));
    assert_eq!(recorded.report.mutants.iter().filter(|m| m.found).count(), mutants);
    assert!(recorded.report.failed().next().is_none());
    let suite = run(root.path(), &RunOptions { only: vec!["captured".into()], baseline: false }).expect("a suite");
    assert_eq!(suite.exit_code(), 0);
    assert_eq!(suite.evals[0], recorded.report);
}

#[test]
fn the_slice_is_the_log_byte_for_byte_up_to_the_checkpoint_that_covers_it() {
    let (live, root) = (live(), TempDir::new().expect("a folder"));
    let messages = live.book.messages();
    let launches = live.book.launches();
    let what = what(root.path(), live.first.dispatch.as_str());
    let recorded = record(messages.clone(), launches.clone(), &what).expect("recorded");
    let text = std::fs::read_to_string(recorded.folder.join("log.jsonl")).expect("a log");
    let slice = Slice::parse(&text).expect("a slice");
    let kept: Vec<&Stored> = slice.stored().collect();
    assert_eq!(kept, messages.iter().take(kept.len()).collect::<Vec<_>>());
    assert!(kept.len() < messages.len());
    assert!(kept.last().is_some_and(|s| s.log_subject == "ledger.checkpoint.log"));
    let kept: Vec<&LaunchLine> = slice.launches().map(|(_, l)| l).collect();
    assert_eq!(kept, launches.iter().take(2).collect::<Vec<_>>(), "also the one that is not text");
    assert_eq!(Slice::write(&slice.lines).expect("text"), text);
}

#[test]
fn a_launch_is_kept_byte_for_byte_whatever_it_is() {
    // The last two: as long as a launch may be and six times that when it is escaped, and as deep as JSON is read.
    let long = vec![1; custody_contracts::launch::BYTES_MAX];
    let deep = ["[".repeat(127), "]".repeat(127)].concat().into_bytes();
    let texts =
        ["{\"a\":1}", "{ \"a\":1 }", "{\"a\":1,\"a\":2}", "{\"a\":1.50}", "\"text\"", "null", "\u{0}é\u{7f}", ""];
    let all = texts.iter().map(|t| t.as_bytes().to_vec()).chain([b"\xff\x00".to_vec(), long, deep]);
    for bytes in all {
        let launch = LaunchLine {
            seq: 1,
            subject: "launch.web-chat.dispatch".into(),
            stored_at: custody_contracts::ids::UnixMillis(1),
            bytes,
        };
        let line = Line::Launch(launch);
        let text = Slice::write(std::slice::from_ref(&line)).expect("text");
        let slice = Slice::parse(&text).expect("a slice");
        assert_eq!(slice.lines, [line], "{text}");
        assert!(slice.not_canonical.is_empty(), "{text}");
    }
}

/// Everything that a recording is given.
struct Given {
    live: Live,
    messages: Vec<Stored>,
    launches: Vec<LaunchLine>,
    what: Recording,
}

#[rstest]
#[case::ci(|g: &mut Given| g.what.ci = true, "CI machine")]
#[case::a_path(|g: &mut Given| g.what.name = "../1-x".into(), "is not <stage>-<claim>")]
#[case::no_such_dispatch(|g: &mut Given| g.what.dispatch = "d-none".into(), "no decision about")]
#[case::still_open(|g: &mut Given| g.what.dispatch = g.live.open.dispatch.to_string(), "has not ended")]
#[case::not_covered(|g: &mut Given| g.what.dispatch = g.live.uncovered.dispatch.to_string(), "no checkpoint covers")]
#[case::a_gap(|g: &mut Given| drop(g.messages.remove(3)), "where sequence 4 should stand")]
#[case::a_launch_gone(|g: &mut Given| drop(g.launches.remove(1)), "is not stored any more")]
#[case::a_promise(|g: &mut Given| g.what.promises = vec!["everything".into()], "promise")]
#[case::a_short_canary(|g: &mut Given| g.what.canaries = vec!["x".into()], "4 to 128")]
#[case::planted(|g: &mut Given| g.what.canaries = vec!["custody-agent".into()], "nothing was written")]
fn what_must_not_be_recorded_is_not(#[case] change: fn(&mut Given), #[case] said: &str) {
    let (live, root) = (live(), TempDir::new().expect("a folder"));
    let what = what(root.path(), live.first.dispatch.as_str());
    let mut given = Given { messages: live.book.messages(), launches: live.book.launches(), what, live };
    change(&mut given);
    let error = record(given.messages, given.launches, &given.what).expect_err("refused").to_string();
    assert!(error.contains(said), "{error:?} does not say {said:?}");
    assert!(!root.path().join("scenarios").exists(), "nothing is written when nothing is recorded");
}

#[test]
fn a_launch_with_a_token_never_leaves() {
    let mut book = Book::new();
    book.register("web-chat", 1, SignatureRule::Optional, &["u_jane"]);
    let mut ask = book.ask("web-chat", "m-01", "u_jane", json!({ "entrypoint": { "inline": "Hello." } }));
    ask["data"]["identity"]["token"] = json!("a-launch-token-of-somebody");
    let launch = book.publish("web-chat", "dispatch", canonical(&Value::Object(ask)).into_bytes());
    let ticket = book.decide(&launch);
    book.claim(&ticket, None);
    book.start(&ticket, &container("box"));
    book.finish(&ticket, Ending::completed(&container("box"), "a session", 0));
    book.checkpoint();
    assert!(book.messages().iter().all(|m| !String::from_utf8_lossy(&m.bytes).contains("a-launch-token")));
    let root = TempDir::new().expect("a folder");
    let error = record(book.messages(), book.launches(), &what(root.path(), ticket.dispatch.as_str()));
    assert!(matches!(&error, Err(RecordError::Secret(why)) if why.contains("holds a token")), "{error:?}");
    assert!(!root.path().join("scenarios").exists());
}

#[test]
fn nothing_is_overwritten() {
    let (live, root) = (live(), TempDir::new().expect("a folder"));
    let what = what(root.path(), live.first.dispatch.as_str());
    let first = record(live.book.messages(), live.book.launches(), &what).expect("recorded");
    let before = std::fs::read(first.folder.join("log.jsonl")).expect("a log");
    let second = record(live.book.messages(), live.book.launches(), &what);
    assert!(matches!(second, Err(RecordError::Exists(_))), "{second:?}");
    assert_eq!(std::fs::read(first.folder.join("log.jsonl")).expect("a log"), before);
}
