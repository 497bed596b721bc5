//! The whole process dies at every named point between two durable steps, and at any other moment. What was asked for
//! is done all the same, once.

use crate::launcher::unit;
use crate::ledger::count;
use crate::stack::{Options, Stack, fresh, next, random};
use crate::{crash_tool, erasure};
use custody_engine::crash::POINTS;
use rstest::rstest;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

/// The points of the table below. A call of a tool has two more, and a table of its own, and so has an erasure; a point that is in neither fails
/// its own test.
const TABLE: [&str; 18] = [
    "au.before_decide",
    "au.after_decide",
    "au.after_reply",
    "rt.before_claim",
    "rt.made_ahead",
    "rt.after_claim",
    "rt.after_create",
    "rt.after_start_call",
    "rt.after_started_event",
    "rt.mid_stream",
    "rt.after_exit_seen",
    "ws.after_snapshot",
    "ws.after_pack",
    "ws.after_head",
    "rt.after_exit_event",
    "rt.after_remove",
    "gw.after_frame",
    "gw.after_model_call",
];
/// Points of a call that waits for a person, which no agent of this table asks for: `approvals` dies at them.
const OF_CARDS: [&str; 2] = ["gw.after_card", "gw.before_release"];

#[test]
fn every_crash_point_is_in_the_table() {
    assert_eq!([TABLE.as_slice(), &OF_CARDS, &crash_tool::POINTS, &erasure::POINTS].concat(), POINTS);
}

/// Asserts that a dispatch was done, exactly once, and that nothing of it is left.
async fn done_once(stack: &Stack, dispatch: &str) {
    let row = stack.ended(dispatch).await;
    assert_eq!((row["status"].as_str(), row["reason"].as_str()), (Some("completed"), Some("completed")), "{row}");
    assert_eq!(row["terminal_events"], 1, "{row}");
    let events = stack.events_of(dispatch).await;
    for kind in ["dispatch.admitted", "run.claimed", "run.started", "run.finished"] {
        assert_eq!(count(&events, kind), 1, "{kind}: {events:#?}");
    }
    let ids: std::collections::BTreeSet<String> =
        events.iter().filter_map(|event| Some(event.data["container"].as_str()?.to_owned())).collect();
    assert_eq!(ids.len(), 1, "{events:#?}");
    let said = stack.output(dispatch).await;
    assert_eq!(said.matches("You said: hello.").count(), 1, "{said:?}");
}

#[rstest]
#[case(TABLE[0])]
#[case(TABLE[1])]
#[case(TABLE[2])]
#[case(TABLE[3])]
#[case(TABLE[4])]
#[case(TABLE[5])]
#[case(TABLE[6])]
#[case(TABLE[7])]
#[case(TABLE[8])]
#[case(TABLE[9])]
#[case(TABLE[10])]
#[case(TABLE[11])]
#[case(TABLE[12])]
#[case(TABLE[13])]
#[case(TABLE[14])]
#[case(TABLE[15])]
#[case(TABLE[16])]
#[case(TABLE[17])]
#[tokio::test(flavor = "multi_thread")]
async fn a_death_at_a_crash_point_is_made_good(#[case] point: &str) {
    let mut stack = Stack::prepared(Options::default());
    stack.up(&[("CUSTODY_CRASH_AT", point)]).await;
    let cli = stack.connect("cli").await;
    let dispatch = cli.ask(&fresh(), &unit("cli", "hello")).await.to_string();
    let status = stack.died(Duration::from_secs(60)).await;
    assert_eq!(status.signal(), Some(6), "{status}: {}", stack.log());
    let log = stack.log();
    let fired = log.lines().any(|line| line.contains("crash point reached") && line.contains(point));
    assert!(fired, "{log}");

    stack.up(&[]).await;
    done_once(&stack, &dispatch).await;
    stack.no_container_left().await;
    stack.nothing_is_wrong().await;
}

#[rstest]
#[case::first()]
#[case::second()]
#[case::third()]
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_moment_is_made_good() {
    let mut seed = random();
    println!("seed {seed}");
    let mut stack = Stack::start().await;
    let cli = stack.connect("cli").await;
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.push(cli.ask(&fresh(), &unit("cli", "hello")).await.to_string());
    }
    // Not to wait for something: the moment is what is drawn.
    tokio::time::sleep(Duration::from_millis(next(&mut seed) % 2_000)).await;
    stack.kill().await;
    stack.up(&[]).await;
    for dispatch in &asked {
        done_once(&stack, dispatch).await;
    }
    stack.no_container_left().await;
    stack.nothing_is_wrong().await;
}
