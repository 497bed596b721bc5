//! Runners by their own self-test: every capability that an agent's document claims is seen through the whole platform,
//! and what would make the self-test fail is seen too.

use crate::stack::{Options, Stack, binary, cache, ran, short_folder};
use rstest::rstest;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// Runners whose images somebody promised to have built, by name, separated by blanks: then a missing one is a failure.
const PROMISED: &str = "CUSTODY_TEST_RUNNERS";
/// How long one self-test may take: five boxes of an agent, on a machine that does other things too.
const VERIFY_MAX: Duration = Duration::from_secs(300);

fn promised(name: &str) -> bool {
    std::env::var(PROMISED).unwrap_or_default().split_whitespace().any(|one| one == name)
}

/// Puts a runner's document into a home; false when it was never built here.
fn installed(home: &Path, name: &str) -> bool {
    let file = format!("{name}.runner.json");
    let folder = home.join("runners");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(cache().join("runners").join(&file), folder.join(&file)).is_ok()
}

#[rstest]
#[case::custody_agent("custody-agent")]
#[case::pi("pi")]
#[case::codex("codex")]
#[case::opencode("opencode")]
#[case::claude_code("claude-code")]
#[tokio::test(flavor = "multi_thread")]
async fn a_runner_does_what_its_document_says(#[case] name: &str) {
    let home = short_folder();
    if !installed(home.path(), name) {
        let must = name == "custody-agent" || promised(name);
        assert!(!must, "runner {name} is not built here; run: cargo xtask image {name} --load");
        // Said, and counted by nobody as a proof: the README names what ops/test promises.
        eprintln!("runner {name} is not built here and not promised by {PROMISED}: nothing was tested");
        return;
    }
    let scratch = home.path().join("t");
    std::fs::create_dir(&scratch).unwrap();
    let mut command = binary(home.path());
    command.args(["runner", "verify", name, "-o", "json"]).env("TMPDIR", &scratch);
    let verified = tokio::time::timeout(VERIFY_MAX, ran(&mut command)).await.unwrap();
    let document = verified.json();
    let checks = document["checks"].as_array().unwrap();
    let wrong: Vec<&str> =
        checks.iter().filter(|check| check["status"] == "fail").map(|check| check["check"].as_str().unwrap()).collect();
    assert!(wrong.is_empty(), "{wrong:?}: {checks:?} {}", verified.err);
    assert_eq!(verified.code, Some(0));
    let passed = checks.iter().filter(|check| check["status"] == "pass").count();
    assert_eq!((passed, checks.len()), (14, 14), "each of these claims everything: {checks:?}");
    // Nothing of the self-test's own installation is left.
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);
}

/// A look-up and a connection that seccomp refuses in every other box are counted in a watched one.
#[rstest]
#[case::watched("watched", true)]
#[case::as_ever("unix", false)]
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_calls_home_is_seen_in_a_watched_box(#[case] sockets: &str, #[case] seen: bool) {
    let config = format!("[runtime]\nsockets = \"{sockets}\"\n");
    let stack = Stack::with(Options { config: Some(config), ..Options::default() }).await;
    let row = stack.run(&["--runner", "misbehave", "call-home"]).await;
    assert_eq!(row["status"], "completed", "{row}");
    let logs = stack.ok(&["dispatch", "logs", row["dispatch"].as_str().unwrap(), "-o", "json"]).await.json();
    let frames = logs["frames"].as_array().unwrap();
    let network = &frames.iter().find(|frame| frame["kind"] == "turn").unwrap()["network"];
    let counted = |name: &str| network[name].as_u64().unwrap() > 0;
    assert_eq!((counted("datagrams"), counted("no_route")), (seen, seen), "{network}");
}

#[tokio::test]
async fn what_cannot_be_verified_is_said_with_the_next_step() {
    let home = short_folder();
    let custody = async |arguments: &[&str]| ran(binary(home.path()).args(arguments).args(["-o", "json"])).await;
    let unknown = custody(&["runner", "verify", "nobody"]).await;
    assert_eq!(unknown.code, Some(3), "{unknown:?}");
    assert!(unknown.err.contains("RUNNER_UNKNOWN"), "{unknown:?}");
    assert!(installed(home.path(), "misbehave"), "run: cargo xtask image misbehave --load");
    let without_model = custody(&["runner", "verify", "misbehave"]).await;
    assert!(without_model.code == Some(2) && without_model.err.contains("RUNNER_USES_NO_MODEL"), "{without_model:?}");
    assert!(installed(home.path(), "custody-agent"), "run: cargo xtask image custody-agent --load");
    let file = home.path().join("runners/custody-agent.runner.json");
    let mut document: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    document["image"] = format!("sha256:{}", "0".repeat(64)).into();
    std::fs::write(&file, document.to_string()).unwrap();
    let missing = custody(&["runner", "verify", "custody-agent"]).await;
    let checks = missing.json()["checks"].clone();
    assert_eq!((missing.code, &checks[1]["check"], &checks[1]["status"]), (Some(10), &"image".into(), &"fail".into()));
    assert!(checks[1]["detail"].as_str().unwrap().contains("custody runner build custody-agent"), "{checks}");
    let unaccepted = custody(&["runner", "build", "claude-code", "--source", env!("CARGO_MANIFEST_DIR")]).await;
    assert!(unaccepted.code == Some(3) && unaccepted.err.contains("NO_SOURCE"), "{unaccepted:?}");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let unaccepted = custody(&["runner", "build", "claude-code", "--source", source]).await;
    assert!(unaccepted.code == Some(5) && unaccepted.err.contains("LICENCE_NOT_ACCEPTED"), "{unaccepted:?}");
    let unknown = custody(&["runner", "build", "nobody", "--source", source]).await;
    assert!(unknown.code == Some(3) && unknown.err.contains("custody-agent"), "{unknown:?}");
}
