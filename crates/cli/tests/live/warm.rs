//! Warm boxes: a second dispatch gets a blank box that ran before, used once, with its own workspace and session and
//! nothing of another's; what is blank is gone when the installation is, however it ended.

use crate::launcher::unit;
use crate::stack::{LOOK, Options, Stack, fresh};
use custody_ports::containers::{BoxState, BoxStatus};
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

const SETTLE_MAX: Duration = Duration::from_secs(90);

async fn warm() -> Stack {
    Stack::with(Options { config: Some("[runtime.pool]\nsize = 1\n".to_owned()), ..Options::default() }).await
}

fn is_blank(status: &BoxStatus) -> bool {
    status.labels.contains_key("custody.pool") && status.state == BoxState::Running
}

/// Waits until one blank box runs and no other box is there.
async fn blank(stack: &Stack) -> BoxStatus {
    let until = Instant::now() + SETTLE_MAX;
    loop {
        let all = stack.containers().await;
        if let [one] = all.as_slice()
            && is_blank(one)
        {
            return one.clone();
        }
        assert!(Instant::now() < until, "{all:?}\n{}", stack.log());
        tokio::time::sleep(LOOK).await;
    }
}

async fn event(stack: &Stack, dispatch: &str, kind: &str) -> Value {
    let events = stack.events_of(dispatch).await;
    let found = events.iter().find(|event| event.kind.contains(kind));
    found.unwrap_or_else(|| panic!("no {kind} of {dispatch}")).data.clone()
}

/// Mounts below the state folder, on the host.
fn mounted(stack: &Stack) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let state = stack.state().canonicalize().unwrap();
    let places = table.lines().filter_map(|line| line.split(' ').nth(4).map(str::to_owned));
    places.filter(|place| place.starts_with(state.to_str().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_box_is_used_once_and_has_only_what_its_dispatch_has() {
    if !rustix::process::geteuid().is_root() {
        // Binding into a running box needs root; `custody doctor --sandbox` says so too.
        return;
    }
    let mut stack = warm().await;
    let first = stack.run(&["hello"]).await;
    assert_eq!(first["reason"], "completed", "{first}");
    let cold = event(&stack, first["dispatch"].as_str().unwrap(), "run.started").await;
    assert_eq!(cold["in_force"]["warm"], false, "{cold}");

    let waiting = blank(&stack).await;
    let second = stack.run(&["--session", first["session"].as_str().unwrap(), "hello again"]).await;
    assert_eq!(second["reason"], "completed", "{second}");
    let dispatch = second["dispatch"].as_str().unwrap();
    let claimed = event(&stack, dispatch, "run.claimed").await;
    assert_eq!(
        (&claimed["warm"], claimed["container_name"].as_str()),
        (&Value::Bool(true), Some(waiting.name.as_str()))
    );
    let started = event(&stack, dispatch, "run.started").await;
    assert_eq!(
        (started["container"].as_str(), &started["in_force"]["warm"]),
        (Some(waiting.id.as_str()), &Value::Bool(true))
    );
    assert!(started["phases_ms"]["mount"].is_u64() && started["phases_ms"]["create"].is_null(), "{started}");
    // It resumed from its own session file, which was bound into it, and left the longer one behind.
    assert!(second["session_digest"].as_str().unwrap().starts_with("sha256:"), "{second}");
    assert_ne!(second["session_digest"], first["session_digest"]);

    let next = blank(&stack).await;
    assert_ne!(next.id, waiting.id, "never returned: another one waits");
    let third = stack.run(&["--runner", "misbehave", "sandbox"]).await;
    assert_eq!(third["reason"], "completed", "another image starts cold: {third}");
    let trace = stack.ok(&["dispatch", "trace", dispatch, "-o", "json"]).await.json();
    assert_eq!(
        (&trace["start"], &trace["in_force"]["sockets"]),
        (&Value::from("warm"), &Value::from("unix")),
        "{trace}"
    );
    assert!(trace["phases_ms"]["first_frame"].is_u64(), "{trace}");
    stack.nothing_is_wrong().await;
    stack.stop().await;
    assert_eq!(stack.containers().await, [], "blank boxes go with the installation");
    assert_eq!(mounted(&stack), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claimed_warm_box_survives_a_death_and_a_blank_one_does_not() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for point in ["rt.after_claim", "rt.after_start_call", "rt.after_started_event", "rt.after_exit_event"] {
        let mut stack =
            Stack::prepared(Options { config: Some("[runtime.pool]\nsize = 1\n".to_owned()), ..Options::default() });
        stack.up(&[]).await;
        stack.run(&["hello"]).await;
        let before = blank(&stack).await;
        stack.kill().await;
        // The next life does not know whose the blank box is, and makes one of its own.
        stack.up(&[]).await;
        let until = Instant::now() + SETTLE_MAX;
        let waiting = loop {
            let all = stack.containers().await;
            if let Some(one) = all.iter().find(|one| is_blank(one) && one.id != before.id) {
                break one.clone();
            }
            assert!(Instant::now() < until, "{all:?}\n{}", stack.log());
            tokio::time::sleep(LOOK).await;
        };
        stack.kill().await;

        stack.up(&[("CUSTODY_CRASH_AT", point)]).await;
        let until = Instant::now() + SETTLE_MAX;
        while !stack.containers().await.iter().any(|one| is_blank(one) && one.id != waiting.id && one.id != before.id) {
            assert!(Instant::now() < until, "{}", stack.log());
            tokio::time::sleep(LOOK).await;
        }
        let cli = stack.connect("cli").await;
        let dispatch = cli.ask(&fresh(), &unit("cli", "hello")).await.to_string();
        stack.died(Duration::from_secs(60)).await;
        stack.up(&[]).await;
        let row = stack.ended(&dispatch).await;
        assert_eq!(
            (row["reason"].as_str(), &row["terminal_events"]),
            (Some("completed"), &Value::from(1)),
            "{point}: {row}"
        );
        stack.stop().await;
        // What earlier lives left blank is reaped by any later one, once it is old enough; `down` does not wait for that.
        stack.ok(&["down"]).await;
        assert_eq!(stack.containers().await, [], "{point}");
        assert_eq!(mounted(&stack), Vec::<String>::new(), "{point}");
    }
}
