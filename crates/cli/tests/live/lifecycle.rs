//! The life of a dispatch as people steer it: stopped alone or in numbers, killed, parked and resumed, asked again, spoken
//! to while it runs, waiting its turn.

use crate::ledger::count;
use crate::stack::{LOOK, Options, Stack, fresh};
use rstest::rstest;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

const MISBEHAVE: [&str; 2] = ["--runner", "misbehave"];

fn misbehave<'a>(prompt: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&MISBEHAVE[..], more, &[prompt]].concat()
}

fn text(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_default().to_owned()
}

/// Waits until a condition holds of a dispatch's row.
async fn until(stack: &Stack, dispatch: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let operator = stack.operator().await;
    let limit = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = operator.ask("query.dispatch.get", &json!({ "id": dispatch })).await;
        let row = answer["ok"]["row"].clone();
        if wanted(&row) {
            return row;
        }
        assert!(Instant::now() < limit, "{what}: {row}\n{}", stack.log());
        tokio::time::sleep(LOOK).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_cuts_a_long_grace_short() {
    let stack = Stack::start().await;
    let dispatch = stack.launch(&misbehave("ignore-term", &[])).await;
    stack.running(&dispatch).await;
    until_said(&stack, &dispatch, "ignoring TERM").await;
    stack.ok(&["dispatch", "stop", &dispatch, "--grace", "60s"]).await;
    until(&stack, &dispatch, "stopping", |row| row["status"] == "stopping").await;
    let asked = Instant::now();
    stack.ok(&["dispatch", "kill", &dispatch]).await;
    let row = stack.ended(&dispatch).await;
    assert!(asked.elapsed() < Duration::from_secs(30), "far less than the first grace: {:?}", asked.elapsed());
    assert_eq!(row["reason"], "stopped", "{row}");
    let stops: Vec<u64> = stack
        .events_of(&dispatch)
        .await
        .iter()
        .filter(|e| e.kind == "dispatch.stop_requested")
        .map(|e| e.data["grace_ms"].as_u64().unwrap())
        .collect();
    assert_eq!(stops, [60_000, 0], "each stop that changes something is an event");
    stack.no_container_left().await;
    stack.nothing_is_wrong().await;
}

/// Waits until a dispatch's output holds some words.
async fn until_said(stack: &Stack, dispatch: &str, words: &str) {
    let limit = Instant::now() + Duration::from_secs(30);
    while !stack.output(dispatch).await.contains(words) {
        assert!(Instant::now() < limit, "it never said {words:?}");
        tokio::time::sleep(LOOK).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_stopped_by_person_by_launcher_or_all_and_each_has_its_own_event() {
    let config = Some("[runtime]\nrunning_max = 2\n".to_owned());
    let stack = Stack::with(Options { config, ..Options::default() }).await;
    let mut ids = Vec::new();
    for subject in ["u_jane", "u_omar", "u_jane", "u_omar"] {
        stack.grant(subject, "cli", &[]).await;
        ids.push(stack.launch(&misbehave("silent", &["--as", subject])).await);
    }
    // Two run, two wait: both sorts are ended.
    let asked = stack.ok(&["dispatch", "stop", "--subject", "u_jane", "--grace", "1s", "-o", "json"]).await.json();
    let asked: Vec<String> = asked.as_array().unwrap().iter().map(|row| text(row, "dispatch")).collect();
    let mut jane = vec![ids[0].clone(), ids[2].clone()];
    jane.sort();
    let mut found = asked.clone();
    found.sort();
    assert_eq!(found, jane);
    for id in &jane {
        let row = stack.ended(id).await;
        assert_eq!((row["reason"].as_str(), row["stop_by"].as_str()), (Some("stopped"), Some("u_tester")), "{row}");
        assert_eq!(count(&stack.events_of(id).await, "dispatch.stop_requested"), 1);
    }
    // Without a yes nobody stops everything.
    let refused = stack.custody(&["dispatch", "kill", "--all", "-o", "json"]).await.ended(2);
    assert!(refused.err.contains("CONFIRMATION_NEEDED"), "{refused:?}");
    let all = stack.ok(&["dispatch", "kill", "--all", "--yes", "-o", "json"]).await.json();
    assert_eq!(all.as_array().unwrap().len(), 2, "{all}");
    for id in [&ids[1], &ids[3]] {
        assert_eq!(stack.ended(id).await["reason"], "stopped");
    }
    assert_eq!(stack.ok(&["dispatch", "stop", "--grant", "g-none", "-o", "json"]).await.json(), json!([]));
    stack.custody(&["dispatch", "stop", &ids[0]]).await.ended(6);
    stack.no_container_left().await;
    stack.nothing_is_wrong().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_disabled_launcher_began_ends_as_revoked() {
    let stack = Stack::start().await;
    stack.ok(&["launcher", "register", "web", "--subject", "u_tester"]).await;
    stack.grant("u_tester", "web", &[]).await;
    let dispatch = stack.launch(&misbehave("silent", &["--launcher", "web"])).await;
    let others = stack.launch(&misbehave("sleep-ms 1500", &[])).await;
    stack.running(&dispatch).await;
    let told = stack.ok(&["launcher", "disable", "web", "--why", "key lost", "--stop-running", "-o", "json"]).await;
    assert_eq!(told.json()["stopped"], 1, "{told:?}");
    let row = stack.ended(&dispatch).await;
    assert_eq!(row["reason"], "revoked", "{row}");
    assert_eq!(stack.ended(&others).await["status"], "completed");
    stack.nothing_is_wrong().await;
}

#[rstest]
#[case::in_silence(&["--idle", "2s"], "idle_timeout")]
#[case::at_its_wall(&["--wall", "3s"], "max_lifetime")]
#[tokio::test(flavor = "multi_thread")]
async fn what_runs_out_of_time_is_parked_and_a_later_turn_goes_on(#[case] limits: &[&str], #[case] reason: &str) {
    let stack = Stack::start().await;
    let first = stack.run(&misbehave("session", &[])).await;
    let session = text(&first, "session");
    let arguments = [&["--session", &session], limits].concat();
    let parked = stack.run(&misbehave("session-then-silent", &arguments)).await;
    assert_eq!((parked["status"].as_str(), parked["reason"].as_str()), (Some("parked"), Some(reason)), "{parked}");
    assert!(parked["session_digest"].is_string(), "{parked}");
    let events = stack.events_of(&text(&parked, "dispatch")).await;
    let last = events.iter().find(|e| e.kind == "run.finished").unwrap();
    assert_eq!(last.data["parked"], true, "{last:?}");
    let shown = stack.custody(&["dispatch", "watch", &text(&parked, "dispatch")]).await.ended(10);
    assert!(shown.err.contains("custody dispatch resume"), "{shown:?}");
    let resume = ["dispatch", "resume", &text(&parked, "dispatch"), "session", "--detach", "-o", "json"];
    let resumed = text(&stack.ok(&resume).await.json(), "dispatch");
    let row = stack.ended(&resumed).await;
    assert_eq!(row["status"], "completed", "{row}");
    assert_eq!((&row["session"], &row["resume_digest"]), (&parked["session"], &parked["session_digest"]));
    assert_eq!(stack.output(&resumed).await.trim(), "3", "the third line of one session file");
    stack.no_container_left().await;
    stack.nothing_is_wrong().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatch_is_asked_again_as_it_was_or_edited() {
    let stack = Stack::start().await;
    let first = stack.run(&misbehave("echo one", &[])).await;
    let again = ["dispatch", "rerun", &text(&first, "dispatch"), "--detach", "-o", "json"];
    let second = stack.ended(&text(&stack.ok(&again).await.json(), "dispatch")).await;
    assert_ne!(first["dispatch"], second["dispatch"]);
    assert_eq!((&second["status"], &second["what"]), (&json!("completed"), &json!("echo one")));
    let editor = stack.home().join("editor");
    std::fs::write(&editor, "#!/bin/sh\nsed -i 's/echo one/echo two/' \"$1\"\n").unwrap();
    std::fs::set_permissions(&editor, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = stack.command(&["dispatch", "rerun", "last", "--edit", "--detach", "-o", "json"]);
    let edited = crate::stack::ran(command.env("EDITOR", &editor)).await.ended(0);
    let third = stack.ended(&text(&edited.json(), "dispatch")).await;
    assert_eq!(stack.output(&text(&third, "dispatch")).await.trim(), "two");
    // Nothing to resume where nothing was left, and nothing to go on with while it runs.
    stack.custody(&["dispatch", "resume", &text(&third, "dispatch")]).await.ended(6);
    stack.custody(&["dispatch", "rerun", "d-nobody"]).await.ended(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_told_for_what_and_nobody_takes_anothers_turn() {
    let config = Some("[runtime]\nrunning_max = 1\n".to_owned());
    let stack = Stack::with(Options { config, ..Options::default() }).await;
    stack.grant("u_jane", "cli", &[]).await;
    stack.grant("u_omar", "cli", &[]).await;
    let running = stack.launch(&misbehave("silent", &["--as", "u_jane"])).await;
    let row = stack.running(&running).await;
    let session = text(&row, "session");
    let mut jane = Vec::new();
    for n in 0..3 {
        jane.push(stack.launch(&misbehave(&format!("echo {n}"), &["--as", "u_jane"])).await);
    }
    let turn = stack.launch(&misbehave("echo turn", &["--as", "u_jane", "--session", &session])).await;
    let omar = stack.launch(&misbehave("echo omar", &["--as", "u_omar"])).await;
    let waits = async |id: &str| {
        let row = until(&stack, id, "waits", |row| row["waits_for"].is_string()).await;
        (text(&row, "waits_for"), row["position"].as_u64())
    };
    assert_eq!(waits(&turn).await.0, format!("turn {running} of its session"));
    // The one whose person was not served yet comes before the second of the flood.
    let shown = stack.ok(&["dispatch", "ls"]).await.out;
    assert!(shown.contains("WAITS FOR") && shown.contains("position 1"), "{shown}");
    let mut places = Vec::new();
    for id in [&jane[0], &jane[1], &jane[2], &omar] {
        places.push(waits(id).await.1.unwrap());
    }
    assert!(places[3] <= 2, "{places:?}");
    assert!(places[0] < places[1] && places[1] < places[2], "{places:?}");
    stack.ok(&["dispatch", "kill", &running]).await;
    for id in jane.iter().chain([&omar]) {
        assert_eq!(stack.ended(id).await["status"], "completed");
    }
    // The order of the claims is the order that was told.
    let ledger = stack.ledger().await;
    let claimed: Vec<&str> = ledger
        .iter()
        .filter(|e| e.kind == "run.claimed")
        .map(|e| e.data["dispatch"].as_str().unwrap())
        .filter(|id| jane.iter().chain([&omar]).any(|d| d == id))
        .collect();
    let mut order: Vec<(u64, &str)> =
        places.iter().copied().zip(jane.iter().chain([&omar]).map(String::as_str)).collect();
    order.sort_unstable();
    assert_eq!(claimed, order.iter().map(|(_, id)| *id).collect::<Vec<_>>());
    stack.ended(&turn).await;
    stack.nothing_is_wrong().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_and_a_reached_cap_are_refused_with_when_to_come_again() {
    let config = "[runtime]\nrunning_max = 1\n[queue]\nwaiting_max = 2\n".to_owned();
    let stack = Stack::with(Options { config: Some(config), ..Options::default() }).await;
    let running = stack.launch(&misbehave("silent", &[])).await;
    stack.running(&running).await;
    for _ in 0..2 {
        stack.launch(&misbehave("echo waits", &[])).await;
    }
    let refused = stack.custody(&["run", "--runner", "misbehave", "echo too much"]).await.ended(5);
    assert!(refused.err.contains("[QUEUE_FULL]") && refused.err.contains("again in 30 s"), "{refused:?}");
    stack.ok(&["dispatch", "kill", "--all", "--yes"]).await;
    stack.no_container_left().await;
    stack.nothing_is_wrong().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_gives_way_where_that_is_the_policy() {
    let config = "[queue]\nrunning_per_subject_max = 1\npolicy = \"cancel-old\"\n".to_owned();
    let stack = Stack::with(Options { config: Some(config), ..Options::default() }).await;
    let old = stack.launch(&misbehave("silent", &[])).await;
    stack.running(&old).await;
    let new = stack.launch(&misbehave("echo new", &[])).await;
    let row = stack.ended(&old).await;
    assert_eq!(row["reason"], "stopped", "{row}");
    assert_eq!(row["stop_by"], format!("policy:cancel-old/{new}"), "{row}");
    assert_eq!(stack.ended(&new).await["status"], "completed");
    stack.nothing_is_wrong().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_to_a_running_dispatch_comes_once_and_in_order_also_over_a_restart() {
    let mut stack = Stack::start().await;
    let idle = ["--turns", "6", "--idle", "60s"];
    let dispatch = stack.launch(&misbehave("session", &idle)).await;
    until_said(&stack, &dispatch, "1").await;
    let id = fresh();
    for _ in 0..2 {
        // The same message again is the same follow-up.
        let said = stack.ok(&["run", "--follow-up", &dispatch, "--id", &id, "echo by-launcher", "-o", "json"]).await;
        assert_eq!(said.json()["outcome"], "admitted", "{said:?}");
    }
    let said = stack.ok(&["dispatch", "say", &dispatch, "echo by-operator", "-o", "json"]).await.json();
    assert_eq!(said["n"], 2, "{said}");
    until_said(&stack, &dispatch, "by-operator").await;
    // Roles die and come back; the box and its worker live on.
    stack.kill().await;
    stack.up(&[]).await;
    stack.ok(&["dispatch", "say", &dispatch, "echo after-restart"]).await;
    until_said(&stack, &dispatch, "after-restart").await;
    // Somebody else's dispatch is nobody's.
    stack.ok(&["launcher", "register", "mail", "--subject", "u_tester"]).await;
    let strange =
        stack.custody(&["run", "--launcher", "mail", "--follow-up", &dispatch, "echo stranger"]).await.ended(5);
    assert!(strange.err.contains("[FOLLOW_UP_UNKNOWN]"), "{strange:?}");
    for _ in 0..2 {
        stack.ok(&["dispatch", "say", &dispatch, "echo last"]).await;
    }
    let full = stack.custody(&["dispatch", "say", &dispatch, "echo one too many"]).await;
    assert!(full.err.contains("FOLLOW_UP_NO_TURN"), "{full:?}");
    let row = stack.ended(&dispatch).await;
    assert_eq!(
        (row["status"].as_str(), row["turns"].as_u64(), row["follow_ups"].as_u64()),
        (Some("completed"), Some(6), Some(5)),
        "{row}"
    );
    let output = stack.output(&dispatch).await;
    let heard: Vec<&str> = ["by-launcher", "by-operator", "after-restart", "last", "stranger", "one too many"]
        .into_iter()
        .filter(|words| output.contains(words))
        .collect();
    assert_eq!(heard, ["by-launcher", "by-operator", "after-restart", "last"], "{output}");
    assert_eq!(output.matches("by-launcher").count(), 1, "once: {output}");
    let closed = stack.custody(&["dispatch", "say", &dispatch, "echo late"]).await;
    assert!(closed.err.contains("FOLLOW_UP_CLOSED"), "{closed:?}");
    let ledger = stack.ledger().await;
    let by: Vec<&str> = ledger
        .iter()
        .filter(|e| e.kind == "dispatch.follow_up_accepted")
        .map(|e| e.data["by"].as_str().unwrap())
        .collect();
    assert_eq!(by, ["cli", "u_tester", "u_tester", "u_tester", "u_tester"]);
    assert_eq!(count(&ledger, "dispatch.follow_up_refused"), 3);
    stack.no_container_left().await;
    stack.nothing_is_wrong().await;
}

/// Every process of the machine whose command line holds a word, with its id.
fn processes_with(word: &str) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        // It may have ended meanwhile.
        let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        if line.contains(word) {
            found.push((pid, line.replace('\0', " ")));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_only_ever_inside_its_box() {
    let stack = Stack::start().await;
    let word = fresh();
    let dispatch = stack.launch(&misbehave(&format!("silent {word}"), &[])).await;
    let container = text(&stack.running(&dispatch).await, "container");
    let limit = Instant::now() + Duration::from_secs(30);
    let found = loop {
        let found = processes_with(&word);
        if !found.is_empty() {
            break found;
        }
        assert!(Instant::now() < limit, "no process of the agent is there");
        tokio::time::sleep(LOOK).await;
    };
    let own = std::fs::read_link("/proc/self/ns/pid").unwrap();
    for (pid, line) in &found {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
        assert_ne!(std::fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap(), own, "{line} runs beside us");
        assert!(read("cgroup").contains(&container), "{line} is in {}", read("cgroup"));
        assert!(read("status").contains("Uid:\t65532\t65532\t65532\t65532"), "{line}: {}", read("status"));
    }
    stack.ok(&["dispatch", "kill", &dispatch]).await;
    stack.ended(&dispatch).await;
    stack.no_container_left().await;
    assert_eq!(processes_with(&word), Vec::new(), "the whole tree is gone");
}
