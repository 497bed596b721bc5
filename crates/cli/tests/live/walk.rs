//! The walk: a launch becomes a container, its output and its session file are kept, and the log can say why. And every
//! way in which a box can end.

use crate::launcher::{REPLY_MAX, unit};
use crate::ledger::count;
use crate::stack::{LOOK, Options, Stack, fresh};
use custody_contracts::box_protocol::{Frame, FrameBody};
use custody_contracts::messages::Chunk;
use custody_domain::run::container_name;
use custody_testkit::model::Turn;
use futures::StreamExt;
use rstest::rstest;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

const MISBEHAVE: [&str; 2] = ["--runner", "misbehave"];

/// `run` arguments for the agent that behaves badly.
fn misbehave<'a>(prompt: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&MISBEHAVE[..], more, &[prompt]].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_becomes_a_container_and_an_audit_chain() {
    let release = Arc::new(Notify::new());
    let turn = Turn::HeldMidway { text: "The capital is Paris.".into(), release: release.clone() };
    let mut stack = Stack::with(Options { script: vec![turn], ..Options::default() }).await;
    let watched = async {
        let until = Instant::now() + Duration::from_secs(30);
        let running = loop {
            let running = stack.boxes_running().await;
            if !running.is_empty() {
                break running;
            }
            assert!(Instant::now() < until, "no box came up");
            tokio::time::sleep(LOOK).await;
        };
        stack.model().has_seen(1).await;
        release.notify_one();
        running
    };
    let (ran, running) = tokio::join!(stack.custody(&["run", "What is the capital of France?"]), watched);
    let ran = ran.ended(0);
    assert!(ran.out.contains("The capital is Paris."), "{ran:?}");

    let row = stack.ok(&["dispatch", "get", "last", "-o", "json"]).await.json();
    let dispatch = row["dispatch"].as_str().unwrap().to_owned();
    assert_eq!((row["status"].as_str(), row["reason"].as_str()), (Some("completed"), Some("completed")), "{row}");
    assert_eq!(running.len(), 1, "{running:?}");
    assert_eq!(running[0].name, container_name(&dispatch, 1));
    assert_eq!(row["container"], running[0].id.as_str());
    assert!(row["session_digest"].as_str().unwrap().starts_with("sha256:"), "{row}");
    stack.no_container_left().await;

    let why = stack.ok(&["audit", "why", &dispatch, "-o", "json"]).await.json();
    // Runtime and gateway append on their own: a model may be called before its box is recorded as started.
    let mut kinds: Vec<&str> = why["events"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(
        (kinds.first(), kinds.last()),
        (Some(&"custody.dispatch.admitted.v1"), Some(&"custody.run.finished.v1"))
    );
    kinds.sort_unstable();
    let expected = ["dispatch.admitted", "effect.model_called", "run.claimed", "run.finished", "run.started"];
    assert_eq!(kinds, expected.map(|kind| format!("custody.{kind}.v1")), "{why}");
    // And the one of the grant, which is no event of this dispatch.
    assert_eq!(why["signatures"], kinds.len() + 1, "{why}");
    assert!(stack.ok(&["audit", "verify"]).await.out.contains("PASS"));
    let file = stack.home().join("evidence.ndjson");
    stack.ok(&["audit", "export", "--output-file", file.to_str().unwrap()]).await;
    stack.stop().await;
    assert!(stack.ok(&["audit", "verify", file.to_str().unwrap()]).await.out.contains("PASS"));
    stack.custody(&["audit", "verify"]).await.ended(8);
}

#[tokio::test(flavor = "multi_thread")]
async fn second_turn_resumes_from_the_session_file_in_another_container() {
    let stack = Stack::start().await;
    let first = stack.run(&["My name is Ada."]).await;
    let second = stack.run(&["--session", "last", "What is my name?"]).await;
    let said = stack.output(second["dispatch"].as_str().unwrap()).await;
    assert!(said.contains("I have seen 2 user turns"), "{said}");
    assert_ne!(first["container"], second["container"]);
    assert!(first["session_digest"].is_string(), "{first}");
    assert_eq!(second["resume_digest"], first["session_digest"]);
    assert_eq!(second["session"], first["session"]);
    assert_ne!(second["session_digest"], first["session_digest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_message_twice_is_one_dispatch() {
    let stack = Stack::start().await;
    let id = fresh();
    let first = stack.run(&["--id", &id, "hello"]).await;
    let again = stack.launch(&["--id", &id, "hello"]).await;
    assert_eq!(first["dispatch"], again.as_str());
    assert_eq!(count(&stack.events_of(&again).await, "dispatch.admitted"), 1);

    let web = stack.launcher("web").await;
    let bytes = web.signed(web.event(&fresh(), &unit("web", "hello")));
    let (one, two) = (web.asked(bytes.clone()).await, web.asked(bytes).await);
    assert_eq!(one, two);
    stack.ended(&one.dispatch).await;
    let events = stack.events_of(&one.dispatch).await;
    assert_eq!((count(&events, "dispatch.admitted"), count(&events, "run.started")), (1, 1), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launcher_hears_what_its_dispatch_says_while_it_says_it() {
    let stack = Stack::start().await;
    let web = stack.launcher("web").await;
    let mut heard = web.hears().await;
    let reply = web.asked(web.signed(web.event(&fresh(), &unit("web", "hello")))).await;
    let (mut frames, mut ended) = (Vec::new(), false);
    while !ended {
        let message = tokio::time::timeout(REPLY_MAX, heard.next()).await.unwrap().unwrap();
        assert_eq!(message.subject.as_str(), format!("reply.web.{}.out", reply.dispatch));
        let chunk: Chunk = serde_json::from_slice(&message.payload).unwrap();
        frames.extend(chunk.frames);
        ended = frames.iter().any(|frame| matches!(frame.body, FrameBody::Exit { .. }));
    }
    let numbers: Vec<u64> = frames.iter().map(|frame| frame.seq).collect();
    assert_eq!(numbers, (1..=u64::try_from(frames.len()).unwrap()).collect::<Vec<_>>());
    let text = |frame: &Frame| match &frame.body {
        FrameBody::Text { text } => text.clone(),
        _ => String::new(),
    };
    let said: String = frames.iter().map(text).collect();
    assert!(said.contains("You said: hello"), "{said}");
    assert!(stack.output(reply.dispatch.as_str()).await.contains(&said), "what custody shows is the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_messages_with_one_id_are_never_one() {
    let stack = Stack::start().await;
    let id = fresh();
    let first = stack.run(&["--id", &id, "hello"]).await;
    let other = stack.custody(&["run", "--id", &id, "good bye"]).await.ended(5);
    assert!(other.err.contains("[MESSAGE_ID_REUSED]") && other.err.contains("next: "), "{other:?}");
    let refused: Vec<_> = stack.ledger().await.into_iter().filter(|e| e.kind == "dispatch.refused").collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_ne!(refused[0].data["dispatch"], first["dispatch"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_can_be_a_file_of_the_workspace() {
    let stack = Stack::start().await;
    let folder = stack.home().join("notes");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("ask.md"), "Water the plants.").unwrap();
    stack.ok(&["workspace", "import", "default", &folder.display().to_string()]).await;
    let web = stack.launcher("web").await;
    let mut unit = unit("web", "");
    unit["start"] = json!({ "entrypoint": { "path": "ask.md" } });
    let dispatch = web.ask(&fresh(), &unit).await.to_string();
    let row = stack.ended(&dispatch).await;
    assert_eq!(row["status"], "completed", "{row}");
    let said = stack.output(&dispatch).await;
    assert!(said.contains("You said: Water the plants."), "{said}");
}

#[rstest]
#[case::that_listens("silent", Duration::ZERO)]
#[case::that_does_not("ignore-term", Duration::from_secs(2))]
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_a_box_within_its_grace(#[case] prompt: &str, #[case] least: Duration) {
    let stack = Stack::start().await;
    let dispatch = stack.launch(&misbehave(prompt, &[])).await;
    stack.running(&dispatch).await;
    if least > Duration::ZERO {
        // Only what says that it ignores a signal does ignore it.
        let until = Instant::now() + Duration::from_secs(20);
        while !stack.output(&dispatch).await.contains("ignoring TERM") {
            assert!(Instant::now() < until, "it never said that it ignores");
        }
    }
    let asked = Instant::now();
    stack.ok(&["dispatch", "stop", &dispatch, "--grace", "2s"]).await;
    let row = stack.ended(&dispatch).await;
    let took = asked.elapsed();
    assert_eq!(row["reason"], "stopped", "{row}");
    assert!(took < Duration::from_secs(2 + 8), "{took:?}");
    stack.no_container_left().await;
}

#[rstest]
#[case::at_its_wall(&["--wall", "2s"], "silent", "max_lifetime")]
#[case::in_silence(&["--idle", "2s"], "silent", "idle_timeout")]
#[case::by_crashing(&[], "crash 3", "failed")]
#[case::without_a_result(&[], "noresult", "failed")]
#[case::out_of_memory(&[], "oom", "oom")]
#[case::with_a_child_out_of_memory(&[], "oom-child", "oom")]
#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_ends_badly_says_how(#[case] limits: &[&str], #[case] prompt: &str, #[case] reason: &str) {
    let config = Some("[runtime]\nmemory_bytes = 67108864\n".to_owned());
    let stack = Stack::with(Options { config, ..Options::default() }).await;
    let begun = Instant::now();
    let ran = stack.custody(&[&["run"], &misbehave(prompt, limits)[..]].concat()).await.ended(10);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert!(ran.err.contains("[ENDED]") && ran.err.contains("next: custody audit why"), "{ran:?}");
    let row = stack.ok(&["dispatch", "get", "last", "-o", "json"]).await.json();
    assert_eq!((row["status"].as_str(), row["reason"].as_str()), (Some("ended"), Some(reason)), "{row}");
    assert_eq!(row["terminal_events"], 1, "{row}");
    stack.no_container_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_runner_is_refused() {
    let stack = Stack::start().await;
    let ran = stack.custody(&["run", "--runner", "nobody", "hello"]).await.ended(5);
    assert!(ran.err.contains("[RUNNER_UNKNOWN]") && ran.err.contains("next: "), "{ran:?}");
    assert_eq!(count(&stack.ledger().await, "dispatch.refused"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_installations_never_touch_each_others_boxes() {
    // The same launcher and message id give the same dispatch id, and so the same container name, in both.
    let (one, two) = (Stack::start().await, Stack::start().await);
    let id = fresh();
    let arguments = misbehave("sleep-ms 4000", &["--id", &id]);
    let dispatch = one.launch(&arguments).await;
    let container = one.running(&dispatch).await["container"].clone();
    let other = two.run(&arguments).await;
    assert_eq!(other["dispatch"], dispatch.as_str());
    assert_eq!(other["reason"], "start_failed", "{other}");
    assert!(other["detail"].as_str().unwrap().starts_with("NAME_TAKEN"), "{other}");
    let mut two = two;
    two.stop().await;
    let row = one.ended(&dispatch).await;
    assert_eq!((row["status"].as_str(), &row["container"]), (Some("completed"), &container), "{row}");
}

#[rstest]
#[case::image(&["--runner", "ghost"], "IMAGE_MISSING")]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_ends_a_dispatch_at_once(#[case] arguments: &[&str], #[case] code: &str) {
    let stack = Stack::prepared(Options::default());
    let document = std::fs::read(stack.home().join("runners/misbehave.runner.json")).unwrap();
    let mut ghost: Value = serde_json::from_slice(&document).unwrap();
    ghost["name"] = json!("ghost");
    ghost["image"] = json!(format!("sha256:{}", "0".repeat(64)));
    std::fs::write(stack.home().join("runners/ghost.runner.json"), ghost.to_string()).unwrap();
    let mut stack = stack;
    stack.up(&[]).await;
    let begun = Instant::now();
    let row = stack.run(&[arguments, &["hello"]].concat()).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!((row["status"].as_str(), row["reason"].as_str()), (Some("ended"), Some("start_failed")), "{row}");
    assert!(row["detail"].as_str().unwrap().starts_with(code), "{row}");
    assert_eq!(row["container"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_nobody_registered_is_refused() {
    let stack = Stack::start().await;
    let ran = stack.custody(&["run", "--workspace", "nowhere:ro", "hello"]).await.ended(5);
    assert!(ran.err.contains("WORKSPACE_UNKNOWN"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_cut_and_the_next_dispatch_does_not_feel_it() {
    let config = Some("[runtime]\noutput_bytes = 1048576\n".to_owned());
    let stack = Stack::with(Options { config, ..Options::default() }).await;
    let row = stack.run(&misbehave("flood 8000000", &[])).await;
    assert_eq!(row["output"]["truncated"], true, "{row}");
    let bytes = row["output"]["bytes"].as_u64().unwrap();
    assert!((500_000..2_000_000).contains(&bytes), "{row}");
    let next = stack.run(&misbehave("echo still here", &[])).await;
    assert_eq!((next["status"].as_str(), &next["output"]["truncated"]), (Some("completed"), &json!(false)), "{next}");
    assert!(stack.output(next["dispatch"].as_str().unwrap()).await.contains("still here"));
}

/// What a box says of itself.
async fn report(stack: &Stack, more: &[&str]) -> Value {
    let row = stack.run(&misbehave("sandbox", more)).await;
    assert_eq!(row["status"], "completed", "{row}");
    let text = stack.output(row["dispatch"].as_str().unwrap()).await;
    serde_json::from_str(text.trim()).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_has_no_network_no_rights_and_no_way_to_get_them() {
    let stack = Stack::start().await;
    let report = report(&stack, &[]).await;
    let status = &report["status"];
    assert_eq!(status["uid"], "65532 65532 65532 65532", "{report:#}");
    for set in ["cap_inh", "cap_prm", "cap_eff", "cap_bnd", "cap_amb"] {
        assert_eq!(status[set], "0000000000000000", "{set} {report:#}");
    }
    assert_eq!((&status["no_new_privs"], &status["seccomp"]), (&json!("1"), &json!("2")), "{report:#}");
    assert_eq!(report["interfaces"], json!(["lo"]), "{report:#}");
    for refused in ["tcp_loopback", "tcp_outside", "root_writable", "tmp_exec", "home_exec", "gateway_folder_writable"]
    {
        assert!(report[refused].as_str().unwrap().starts_with("errno "), "{refused} {report:#}");
    }
    assert_eq!(report["root_writable"], "errno 30", "{report:#}");
    assert_eq!(report["docker_socket"], false, "{report:#}");
    assert_eq!(report["masked"]["readable"], json!([]), "{report:#}");
    assert_eq!(report["gateway_connect"], "ok", "{report:#}");
}

#[rstest]
#[case::read_only("default:ro", "errno 30")]
#[case::writable("default:rw", "ok")]
#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_is_written_only_where_that_was_asked_for(#[case] workspace: &str, #[case] expected: &str) {
    let stack = Stack::start().await;
    let report = report(&stack, &["--workspace", workspace]).await;
    assert_eq!(report["workspace_writable"], expected, "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_writes_a_file_that_stays_in_its_workspace() {
    let args = json!({ "path": "notes/plan.md", "content": "one\ntwo\n" });
    let script = vec![Turn::Call { id: "c1".into(), name: "write_file".into(), args }, Turn::Say("Written.".into())];
    let stack = Stack::with(Options { script, ..Options::default() }).await;
    let row = stack.run(&["Write the plan."]).await;
    assert_eq!(row["status"], "completed", "{row}");
    let kept = stack.ok(&["workspace", "cat", "default", "notes/plan.md"]).await;
    assert_eq!(kept.out, "one\ntwo\n");
    assert_eq!(count(&stack.events_of(row["dispatch"].as_str().unwrap()).await, "effect.model_called"), 2);
}
