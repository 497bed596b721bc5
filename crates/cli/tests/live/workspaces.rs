//! Workspaces from end to end: what runs change is one commit each, nothing is lost, what waits is landed by its owner,
//! what is encrypted cannot be read in its bucket.

use crate::ledger::{Event, count};
use crate::stack::{LOOK, Options, Ran, Stack};
use custody_nats::JetObjects;
use custody_ports::workspaces::{Change, NewCommit, WorkspaceLimits, Workspaces};
use custody_streams::accounts::ServiceUser;
use custody_testkit::model::Turn;
use custody_testkit::workspace_suite::suite;
use custody_workspaces::{Buckets, GitWorkspaces};
use rstest::rstest;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How long what a run leaves on this machine may outlive it: the reaper's grace and one round.
const CLEANED_MAX: Duration = Duration::from_secs(60);

fn write(path: &str, content: &str) -> Turn {
    let args = json!({ "path": path, "content": content });
    Turn::Call { id: "c1".into(), name: "write_file".into(), args }
}

fn held(release: &Arc<Notify>, turn: Turn) -> Turn {
    Turn::Held { release: release.clone(), turn: Box::new(turn) }
}

fn scripted(script: Vec<Turn>) -> Options {
    Options { script, ..Options::default() }
}

/// What became of a dispatch's changes, by workspace.
async fn commits(stack: &Stack, dispatch: &str) -> BTreeMap<String, Value> {
    let events = stack.events_of(dispatch).await;
    let finished = events.iter().find(|e| e.kind == "run.finished").unwrap_or_else(|| panic!("{events:#?}"));
    let all = finished.data["commits"].as_array().cloned().unwrap_or_default();
    all.into_iter().map(|c| (c["workspace"].as_str().unwrap().to_owned(), c)).collect()
}

async fn outcome(stack: &Stack, dispatch: &str) -> (String, Value) {
    let commit = commits(stack, dispatch).await.remove("default").expect("default was mounted");
    (commit["outcome"].as_str().unwrap().to_owned(), commit)
}

async fn cat(stack: &Stack, id: &str, path: &str) -> Ran {
    stack.custody(&["workspace", "cat", id, path]).await
}

/// Waits until authority has recorded a proposal.
async fn proposed(stack: &Stack, id: &str, dispatch: &str) -> Value {
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let rows = stack.ok(&["workspace", "proposals", id, "--all", "-o", "json"]).await.json();
        let found = rows.as_array().unwrap().iter().find(|r| r["proposal"] == dispatch).cloned();
        if let Some(row) = found {
            return row;
        }
        assert!(tokio::time::Instant::now() < until, "{dispatch} was never proposed: {rows}");
        tokio::time::sleep(crate::stack::LOOK).await;
    }
}

/// Two runs that both hold the workspace's first commit before either ends.
async fn two_at_once(stack: &Stack, releases: [&Arc<Notify>; 2]) -> [String; 2] {
    let first = stack.launch(&["write the first"]).await;
    stack.model().has_seen(1).await;
    let second = stack.launch(&["write the second"]).await;
    stack.model().has_seen(2).await;
    releases[0].notify_one();
    assert_eq!(stack.ended(&first).await["status"], "completed");
    releases[1].notify_one();
    assert_eq!(stack.ended(&second).await["status"], "completed");
    [first, second]
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_on_one_workspace_both_land() {
    let (one, two) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let script = vec![held(&one, write("first.md", "first\n")), held(&two, write("second.md", "second\n"))];
    let stack = Stack::with(scripted(script)).await;
    let [first, second] = two_at_once(&stack, [&one, &two]).await;
    let ((landed, a), (merged, b)) = (outcome(&stack, &first).await, outcome(&stack, &second).await);
    assert_eq!((landed.as_str(), merged.as_str()), ("landed", "merged"), "{a} {b}");
    assert_eq!(a["base"], b["base"], "both began at one commit");
    assert_eq!(cat(&stack, "default", "first.md").await.ended(0).out, "first\n");
    assert_eq!(cat(&stack, "default", "second.md").await.ended(0).out, "second\n");
    // One commit each, by the person, with the dispatch and the effect in its trailers.
    let log = stack.ok(&["workspace", "log", "default", "-o", "json"]).await.json();
    let rows = log.as_array().unwrap();
    let of = |row: &Value| (row["author"].clone(), row["committer"].clone(), row["dispatch"].clone());
    assert_eq!(of(&rows[0]), (json!("u_tester"), json!("cli"), json!(second)), "{log}");
    assert_eq!(of(&rows[1]), (json!("u_tester"), json!("cli"), json!(first)), "{log}");
    assert!(rows[0]["effect"].as_str().unwrap().starts_with("w-") && rows[0]["effect"] != rows[1]["effect"]);
    assert_eq!((rows.len(), &rows[0]["commit"], &rows[1]["commit"]), (3, &b["commit"], &a["commit"]), "{log}");
    stack.nothing_is_wrong().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_runs_that_change_one_line_the_second_waits_and_nothing_is_lost() {
    let (one, two) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let script =
        vec![held(&one, write("plan.md", "the first plan\n")), held(&two, write("plan.md", "the second plan\n"))];
    let stack = Stack::with(scripted(script)).await;
    let [first, second] = two_at_once(&stack, [&one, &two]).await;
    assert_eq!(outcome(&stack, &first).await.0, "landed");
    let (waits, commit) = outcome(&stack, &second).await;
    assert_eq!(waits, "proposed");
    assert!(commit["reason"].as_str().unwrap().starts_with("MERGE_CONFLICT: plan.md"), "{commit}");
    assert_eq!(cat(&stack, "default", "plan.md").await.ended(0).out, "the first plan\n");
    let row = proposed(&stack, "default", &second).await;
    assert_eq!(
        (&row["state"], &row["commit"], &row["subject"]),
        (&json!("open"), &commit["commit"], &json!("u_tester"))
    );
    let shown = stack.ok(&["workspace", "cat", "default", "plan.md", "--at", &second]).await;
    assert_eq!(shown.out, "the second plan\n");
    let diff = stack.ok(&["workspace", "diff", "default", &second]).await.out;
    assert!(diff.contains("+the second plan"), "{diff}");
    // It cannot land as it is; the owner is told so, and lets it go.
    let refused = stack.custody(&["workspace", "land", "default", &second]).await.ended(6);
    assert!(refused.err.contains("[MERGE_CONFLICT]") && refused.err.contains("plan.md"), "{refused:?}");
    stack.ok(&["workspace", "reject", "default", &second, "--why", "the first will do"]).await;
    let refused = stack.custody(&["workspace", "land", "default", &second]).await.ended(5);
    assert!(refused.err.contains("rejected before"), "{refused:?}");
    stack.nothing_is_wrong().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_may_only_propose_changes_nothing_until_the_owner_says_yes() {
    let stack = Stack::with(scripted(vec![write("plan.md", "a proposal\n")])).await;
    let row = stack.run(&["--workspace", "default:propose", "write it"]).await;
    let dispatch = row["dispatch"].as_str().unwrap().to_owned();
    let (waits, commit) = outcome(&stack, &dispatch).await;
    assert_eq!((waits.as_str(), &commit["reason"], &commit["mode"]), ("proposed", &Value::Null, &json!("propose")));
    cat(&stack, "default", "plan.md").await.ended(3);
    proposed(&stack, "default", &dispatch).await;
    let landed = stack.ok(&["workspace", "land", "default", &dispatch, "-o", "json"]).await.json();
    assert_eq!(cat(&stack, "default", "plan.md").await.ended(0).out, "a proposal\n");
    // Once is once.
    let again = stack.ok(&["workspace", "land", "default", &dispatch, "-o", "json"]).await.json();
    assert_eq!((&again["commit"], &again["changed"]), (&landed["commit"], &json!(false)));
    let events: Vec<Event> = stack.ledger().await.into_iter().filter(|e| e.kind.starts_with("workspace.")).collect();
    for kind in ["workspace.proposal_opened", "workspace.proposal_accepted", "workspace.proposal_landed"] {
        assert_eq!(count(&events, kind), 1, "{events:#?}");
    }
    stack.nothing_is_wrong().await;
}

fn found_below(folder: &Path, needle: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(found_below(&entry.path(), needle));
        } else if std::fs::read(entry.path()).is_ok_and(|b| b.windows(needle.len()).any(|w| w == needle)) {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_workspace_is_unreadable_in_its_bucket_and_survives_its_keys() {
    const CANARY: &str = "CANARY-the-vault-is-behind-the-painting";
    let stack = Stack::with(scripted(vec![write("vault.md", CANARY)])).await;
    stack.ok(&["workspace", "new", "vault", "--encrypt", "--purpose", "Secrets."]).await;
    let row = stack.run(&["--workspace", "vault:rw", "write it down"]).await;
    assert_eq!(row["status"], "completed", "{row}");
    assert_eq!(cat(&stack, "vault", "vault.md").await.ended(0).out, CANARY);
    let packs = || std::fs::read_dir(stack.state().join("buckets/vault/packs")).unwrap().count();
    assert!(packs() >= 2);
    assert_eq!(found_below(&stack.state().join("buckets/vault"), CANARY.as_bytes()), [""; 0]);
    assert_eq!(found_below(&stack.state().join("buckets/vault"), b"vault.md"), [""; 0]);
    // Nothing of it stays on this machine once the run is cleaned up: no working copy, no cache.
    stack.no_container_left().await;
    for place in ["runs", "cache", "kept"] {
        let place = stack.state().join(place);
        let until = tokio::time::Instant::now() + CLEANED_MAX;
        while !found_below(&place, CANARY.as_bytes()).is_empty() && tokio::time::Instant::now() < until {
            tokio::time::sleep(LOOK).await;
        }
        assert_eq!(found_below(&place, CANARY.as_bytes()), [""; 0], "{}", place.display());
    }
    let before = stack.ok(&["workspace", "key", "ls", "-o", "json"]).await.json();
    let rotated = stack.ok(&["workspace", "key", "rotate", "vault", "-o", "json"]).await.json();
    assert_ne!(rotated["recipients"][0], before[0]["recipient"]);
    assert_eq!(packs(), 1, "what the old key opens is gone");
    // With the old key alone nothing opens any more; with the new one everything does.
    let file = stack.state().join("keys/workspaces.age");
    let both = std::fs::read_to_string(&file).unwrap();
    let old: String = both.lines().take(2).map(|l| format!("{l}\n")).collect();
    std::fs::write(&file, old).unwrap();
    let locked = cat(&stack, "vault", "vault.md").await.ended(5);
    assert!(locked.err.contains("[WORKSPACE_LOCKED]"), "{locked:?}");
    std::fs::write(&file, both).unwrap();
    assert_eq!(cat(&stack, "vault", "vault.md").await.ended(0).out, CANARY);
    let row = stack.run(&["--workspace", "vault:ro", "hello"]).await;
    assert_eq!(row["status"], "completed", "{row}");
    stack.nothing_is_wrong().await;
}

#[rstest]
#[case::nobodys("nowhere:ro", "WORKSPACE_UNKNOWN")]
#[case::somebody_elses("theirs:ro", "WORKSPACE_FORBIDDEN")]
#[case::more_than_is_shared("shared:rw", "WORKSPACE_MODE")]
#[case::session_files("sys-u_tester:ro", "WORKSPACE_FORBIDDEN")]
#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_one_may_not_mount_is_refused_with_the_way_out(#[case] asked: &str, #[case] code: &str) {
    let stack = Stack::start().await;
    stack.ok(&["workspace", "new", "theirs", "--owner", "u_omar"]).await;
    stack.ok(&["workspace", "new", "shared", "--owner", "u_omar", "--member", "u_tester:ro"]).await;
    let refused = stack.custody(&["run", "--workspace", asked, "hello"]).await.ended(5);
    assert!(refused.err.contains(&format!("[{code}]")) && refused.err.contains("next: "), "{refused:?}");
    stack.grant("u_tester", "cli", &["--workspace", "shared:ro"]).await;
    let ran = stack.run(&["--workspace", "shared:ro", "hello"]).await;
    assert_eq!(ran["status"], "completed", "{ran}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_too_large_is_refused_by_name_and_the_next_dispatch_is_unaffected() {
    let config = "[workspaces]\nfile_bytes = 1000\n".to_owned();
    let script = vec![write("huge.bin", &"x".repeat(2_000)), Turn::Say("Done.".into()), write("small.md", "small\n")];
    let stack = Stack::with(Options { config: Some(config), script, ..Options::default() }).await;
    let row = stack.run(&["write a huge file"]).await;
    let (refused, commit) = outcome(&stack, row["dispatch"].as_str().unwrap()).await;
    assert_eq!(refused, "refused");
    assert_eq!(commit["reason"], "BLOB_TOO_LARGE: huge.bin, 2000 bytes, 1000 are the most");
    let row = stack.run(&["write a small one"]).await;
    assert_eq!(outcome(&stack, row["dispatch"].as_str().unwrap()).await.0, "landed");
    assert_eq!(cat(&stack, "default", "small.md").await.ended(0).out, "small\n");
    stack.nothing_is_wrong().await;
}

/// T35: what somebody writes into a bucket beside Custody, in the name of a run, and an older state that is put back.
#[tokio::test(flavor = "multi_thread")]
async fn t35_what_is_in_a_bucket_and_in_no_record_is_found_and_so_is_what_is_missing() {
    let stack = Stack::with(scripted(vec![write("a.md", "a\n"), Turn::Say("Done.".into())])).await;
    let row = stack.run(&["write a file"]).await;
    let dispatch = row["dispatch"].as_str().unwrap();
    let (landed, made) = outcome(&stack, dispatch).await;
    assert_eq!(landed, "landed");
    let verified = |ran: &Ran| {
        let rows: Vec<Value> = serde_json::from_str(&ran.out).unwrap();
        rows.into_iter().find(|row| row["workspace"] == "default").unwrap()
    };
    let honest = stack.ok(&["workspace", "verify", "-o", "json"]).await;
    let honest = verified(&honest);
    assert_eq!((&honest["whole"], &honest["recorded"], &honest["before"]), (&json!(true), &json!(1), &json!(1)));

    let buckets = stack.state().join("buckets");
    let document = serde_json::from_value(json!({
        "id": "default", "bucket": format!("file://{}", buckets.display()), "mode": "rw",
        "encryption": { "scheme": "none" }, "purpose": "The same.", "trunk": "main",
    }));
    let cache = tempfile::tempdir().unwrap();
    let own = GitWorkspaces::new(cache.path(), Path::new("/nonexistent"), Buckets::new(BTreeMap::new())).unwrap();
    let open = own.open(&document.unwrap()).await.unwrap();
    let head = open.found().await.unwrap();
    assert_eq!(head.trunk, made["commit"]);
    let tree = open.with_file(&head, &head.trunk, "b.md", b"b\n".to_vec()).await.unwrap().tree;
    let forged = NewCommit {
        tree,
        parent: head.trunk.clone(),
        author: "u_tester".into(),
        committer: "cli".into(),
        time: 1_795_000_000,
        message: format!("Changes of {dispatch}\n\nDispatch-Id: {dispatch}\n"),
    };
    let commit = open.commit(&head, &forged).await.unwrap();
    let pack = open.store(&head, &commit, WorkspaceLimits::default()).await.unwrap();
    open.advance(&head, Change::Trunk(commit.clone()), pack).await.unwrap().unwrap();
    let found = stack.custody(&["workspace", "verify", "default", "-o", "json"]).await.ended(9);
    assert!(found.err.contains("WORKSPACE_UNACCOUNTED") && found.err.contains("default"), "{found:?}");
    let found = verified(&found);
    assert_eq!((&found["unknown"], &found["lost"]), (&json!([commit]), &json!([])));

    // The heads from before the run: what it did is recorded and not there.
    let heads = buckets.join("default/heads");
    let mut names: Vec<_> = std::fs::read_dir(&heads).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names.iter().rev().take(2).for_each(|newest| std::fs::remove_file(newest).unwrap());
    let found = stack.custody(&["workspace", "verify", "default", "-o", "json"]).await.ended(9);
    assert_eq!(verified(&found)["lost"], json!([made["commit"]]));
    stack.custody(&["workspace", "verify", "nowhere"]).await.ended(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn session_files_are_in_the_persons_own_system_workspace() {
    let stack = Stack::start().await;
    let row = stack.run(&["My name is Ada."]).await;
    let dispatch = row["dispatch"].as_str().unwrap();
    let events = stack.events_of(dispatch).await;
    let finished = events.iter().find(|e| e.kind == "run.finished").unwrap();
    let session = &finished.data["session"];
    let path = format!("sessions/{}.jsonl", session["id"].as_str().unwrap());
    // As it is kept it is sealed with the person's key, and the digest is of that; shown, it is opened.
    let kept = cat(&stack, "sys-u_tester", &path).await.ended(0).out;
    assert!(kept.contains("My name is Ada.") && session["digest"].is_string(), "{kept}");
    assert_eq!(commits(&stack, dispatch).await["sys-u_tester"]["outcome"], "landed");
    // The second turn resumes from there: as a blob it is nowhere.
    let second = stack.run(&["--session", "last", "What is my name?"]).await;
    assert_eq!(second["status"], "completed", "{second}");
    let log = stack.ok(&["workspace", "log", "sys-u_tester", "-o", "json"]).await.json();
    assert_eq!(log.as_array().unwrap().len(), 3, "{log}");
    let all = stack.ok(&["workspace", "ls", "--all", "-o", "json"]).await.json();
    assert!(all.as_array().unwrap().iter().any(|w| w["workspace"] == "sys-u_tester"), "{all}");
    stack.nothing_is_wrong().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_goes_in_and_comes_out_again_by_every_door() {
    let stack = Stack::start().await;
    let folder = stack.home().join("notes");
    std::fs::create_dir_all(folder.join("deep")).unwrap();
    std::fs::create_dir_all(folder.join(".git")).unwrap();
    std::fs::write(folder.join("ask.md"), "Water the plants.").unwrap();
    std::fs::write(folder.join("deep/plan.md"), "one\n").unwrap();
    std::fs::write(folder.join(".git/config"), "not ours").unwrap();
    stack.ok(&["workspace", "new", "notes", "--bucket", "nats://workspaces"]).await;
    let path = folder.display().to_string();
    stack.ok(&["workspace", "import", "notes", &path]).await;
    let again = stack.ok(&["workspace", "import", "notes", &path, "-o", "json"]).await.json();
    assert_eq!(again["changed"], false);
    let tree = stack.ok(&["workspace", "tree", "notes", "-o", "json"]).await.json();
    let paths: Vec<&str> = tree.as_array().unwrap().iter().map(|e| e["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["ask.md", "deep/plan.md"]);
    let copy = stack.home().join("copy").display().to_string();
    stack.ok(&["workspace", "mount", "notes", &copy]).await;
    assert_eq!(std::fs::read_to_string(Path::new(&copy).join("deep/plan.md")).unwrap(), "one\n");
    let bundle = stack.home().join("notes.bundle").display().to_string();
    stack.ok(&["workspace", "export", "notes", &bundle]).await;
    let clone = stack.home().join("clone");
    let cloned =
        std::process::Command::new("git").args(["clone", "--quiet", "-b", "main", &bundle]).arg(&clone).output();
    assert!(cloned.as_ref().unwrap().status.success(), "{cloned:?}");
    assert_eq!(std::fs::read_to_string(clone.join("ask.md")).unwrap(), "Water the plants.");
    // And a dispatch finds its prompt there.
    let mut unit = crate::launcher::unit("web", "");
    unit["workspaces"] = json!([{ "id": "notes", "mode": "ro" }, { "id": "default", "mode": "rw" }]);
    unit["start"] = json!({ "entrypoint": { "path": "ask.md" } });
    stack.ok(&["workspace", "share", "notes", "u_jane:ro"]).await;
    let web = stack.launcher("web").await;
    stack.grant("u_jane", "web", &["--workspace", "notes:ro", "--workspace", "default:rw"]).await;
    let dispatch = web.ask(&crate::stack::fresh(), &unit).await.to_string();
    assert_eq!(stack.ended(&dispatch).await["status"], "completed");
    let said = stack.output(&dispatch).await;
    assert!(said.contains("You said: Water the plants."), "{said}");
    stack.nothing_is_wrong().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_in_the_object_store_of_nats_keeps_the_suite() {
    let stack = Stack::start().await;
    let caches = tempfile::tempdir().unwrap();
    let mut views = Vec::new();
    for user in [ServiceUser::Runtime, ServiceUser::Operator] {
        let seed = crate::stack::seed(&stack.state().join(format!("users/{}.nk", user.as_str())));
        let options = crate::stack::options(stack.url(), user.inbox_prefix(), seed);
        let connection = custody_nats::Connection::open(&options).await.unwrap();
        let objects: Arc<dyn custody_ports::objects::Objects> = Arc::new(JetObjects::workspaces(&connection));
        let buckets = Buckets::new(BTreeMap::from([("workspaces".to_owned(), objects)]));
        let cache = caches.path().join(user.as_str());
        views.push(GitWorkspaces::new(&cache, Path::new("/nonexistent"), buckets).unwrap());
    }
    let document = serde_json::from_value(json!({
        "id": "suite", "bucket": "nats://workspaces", "mode": "rw", "encryption": { "scheme": "none" },
        "purpose": "A suite.", "trunk": "main",
    }));
    suite(&views[0], &views[1], &document.unwrap()).await;
}
