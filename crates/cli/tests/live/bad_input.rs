//! What bad input gets, through the whole platform: an agent that does its worst is bounded, recorded and cleaned up, and
//! the dispatch after it does not feel it. One table; every row is followed by a good dispatch and a look at the machine.

use crate::leaks;
use crate::stack::{Options, Stack};
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// Small limits, so that each row reaches its own.
const CONFIG: &str = "[runtime]\nmemory_bytes = 134217728\npids = 64\noutput_bytes = 1048576\nsession_bytes = 1048576\n\
                      disk_bytes = 67108864\nrunning_max = 2\n";
/// How long the good dispatch after each row may take on a busy machine.
const NEXT_MAX: Duration = Duration::from_secs(30);

/// One row.
struct Row {
    what: &'static str,
    prompt: &'static str,
    more: &'static [&'static str],
    /// Every reason that may stand in its one terminal event.
    ends: &'static [&'static str],
    /// Words of which one must stand in its detail or output; empty: nothing to say.
    says: &'static [&'static str],
}

const fn row(
    what: &'static str,
    prompt: &'static str,
    more: &'static [&'static str],
    ends: &'static [&'static str],
    says: &'static [&'static str],
) -> Row {
    Row { what, prompt, more, ends, says }
}

const LONG: &[&str] = &["--wall", "180s", "--idle", "60s"];

const ROWS: &[Row] = &[
    row("never speaks", "silent", &["--idle", "2s"], &["idle_timeout"], &[]),
    row("never ends", "silent", &["--wall", "2s"], &["max_lifetime"], &[]),
    row("speaks garbage", "garbage", LONG, &["completed"], &["after the garbage"]),
    row("floods 1 GB of output", "flood 1073741824", LONG, &["completed", "max_lifetime"], &[]),
    row("forks without end", "fork", LONG, &["completed"], &["then errno 11"]),
    row("takes all memory", "oom", LONG, &["oom"], &["for memory"]),
    row("takes all memory in a child", "oom-child", LONG, &["oom"], &["for memory"]),
    row("fills its temporary files", "fill /tmp", LONG, &["completed", "oom"], &["then errno 28", "for memory"]),
    row("fills its disk", "fill /workspace", LONG, &["budget"], &["runtime.disk_bytes", "WORKSPACE_FULL"]),
    row("exits 0 without a result", "noresult", LONG, &["failed"], &["gave no result", "without a result"]),
    row("exits 0 without a word", "exit-zero", LONG, &["failed"], &["gave no result", "without a result"]),
    row("crashes", "crash 3", LONG, &["failed"], &["exited with 3"]),
    row("leaves a daemon", "daemon", LONG, &["completed"], &["behind"]),
    row("writes a session file of 500 MB", "big-session 524288000", LONG, &["completed", "budget"], &["not taken"]),
    row("makes its session file a link", "session-link /etc/passwd", LONG, &["completed"], &["not taken"]),
    row("leaves links out of the workspace", "links", LONG, &["completed"], &["made 5 links"]),
    row("leaves setuid files", "setuid", LONG, &["completed"], &["left a setuid file"]),
    row("leaves a blob of 2 GB", "big-file 2147483648", LONG, &["failed", "completed"], &[]),
    row("leaves very many files", "many-files 20000", LONG, &["completed"], &["left 20000 files"]),
    row(
        "asks for 10,000 tool calls",
        "mcp 10000",
        &["--wall", "180s", "--idle", "10s"],
        &["completed", "idle_timeout"],
        &[],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_worst_is_bounded_recorded_and_cleaned_up_and_the_next_dispatch_does_not_feel_it() {
    let stack = Stack::with(Options { config: Some(CONFIG.into()), ..Options::default() }).await;
    let before = leaks::Machine::look(&stack).await;
    let mut wrong = Vec::new();
    for row in ROWS {
        let begun = Instant::now();
        let arguments = [&["--runner", "misbehave"], row.more, &[row.prompt]].concat();
        let ended = stack.run(&arguments).await;
        wrong.extend(judge(&stack, row, &ended).await);
        // The workspace is the next one's too: what was left in it must not trouble anybody.
        let next = Instant::now();
        let good = stack.run(&["--runner", "misbehave", "echo fine"]).await;
        assert_eq!(good["status"], "completed", "after {}: {good}", row.what);
        assert!(next.elapsed() < NEXT_MAX, "after {}: {:?}", row.what, next.elapsed());
        assert!(stack.output(good["dispatch"].as_str().unwrap()).await.contains("fine"), "after {}", row.what);
        stack.no_container_left().await;
        leaks::Machine::settles_but_for_readers(&stack, &before, row.what).await;
        eprintln!("{}: {} in {} ms", row.what, ended["reason"], begun.elapsed().as_millis());
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    stack.nothing_is_wrong().await;
}

/// What is not as the row says; every row is judged, so that one run shows all that is wrong.
async fn judge(stack: &Stack, row: &Row, ended: &Value) -> Vec<String> {
    let dispatch = ended["dispatch"].as_str().unwrap();
    let said = [stack.output(dispatch).await, ended["detail"].as_str().unwrap_or_default().to_owned()].concat();
    let reason = ended["reason"].as_str().unwrap_or_default();
    let session_kept = row.what.contains("session file") && !ended["session_digest"].is_null();
    [
        (row.ends.contains(&reason), "its reason"),
        (ended["terminal_events"] == 1, "one terminal event"),
        (ended["output"]["bytes"].as_u64().unwrap() < 4 << 20, "its output is bounded"),
        (row.says.is_empty() || row.says.iter().any(|words| said.contains(words)), "what is said of it"),
        (!said.contains('\u{1b}'), "no terminal escape reaches whoever looks"),
        (!session_kept, "no session file is kept"),
    ]
    .into_iter()
    .filter(|(good, _)| !good)
    .map(|(_, what)| format!("{}: {what}: {said:?} {ended}", row.what))
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_ignores_its_end_is_ended() {
    let stack = Stack::start().await;
    let before = leaks::Machine::look(&stack).await;
    let dispatch = stack.launch(&["--runner", "misbehave", "ignore-term"]).await;
    stack.running(&dispatch).await;
    let asked = Instant::now();
    stack.ok(&["dispatch", "stop", &dispatch, "--grace", "1s"]).await;
    let row = stack.ended(&dispatch).await;
    assert_eq!(row["reason"], "stopped", "{row}");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    stack.no_container_left().await;
    leaks::Machine::settles_but_for_readers(&stack, &before, "a stop").await;
    stack.nothing_is_wrong().await;
}
