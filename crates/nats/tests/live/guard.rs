//! The guard on real servers: what breaks the rules is refused by name.

use crate::support::{first, server};
use custody_ledger::{Log, LogError, Seq};
use custody_nats::facts::{SyncAssumption, guard};
use custody_nats::server::PrivateServer;
use custody_streams::Finding;
use custody_streams::accounts::{ServiceUser, SyncInterval};
use custody_streams::spec::{StreamOptions, all, ledger};
use serde_json::{Value, json};

fn codes(findings: &[Finding]) -> Vec<(&str, &str)> {
    findings.iter().map(|f| (f.code.as_str(), f.subject.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_ours_has_no_findings() {
    let server = server().await;
    let admin = server.connect(ServiceUser::Admin).await;
    let system = server.private.server.connect_system().await.unwrap();
    let specs = all(&StreamOptions::one_machine());
    let found = guard(&admin, Some(&system), SyncAssumption::None, &specs).await.unwrap();
    assert_eq!(codes(&found), []);
    // With messages in it too.
    server.log().await.append(first("a", b"1")).await.unwrap();
    let found = guard(&admin, Some(&system), SyncAssumption::None, &specs).await.unwrap();
    assert_eq!(codes(&found), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_the_default_sync_interval_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let private = PrivateServer::start(folder.path(), &[], SyncInterval::ServerDefault).await.unwrap();
    private.apply(&all(&StreamOptions::one_machine())).await.unwrap();
    let admin = private.connect(ServiceUser::Admin).await.unwrap();
    let system = private.server.connect_system().await.unwrap();
    let specs = all(&StreamOptions::one_machine());
    let found = guard(&admin, Some(&system), SyncAssumption::None, &specs).await.unwrap();
    assert_eq!(codes(&found), [("SYNC_INTERVAL_UNSAFE", "server")]);
    // An assumption does not outweigh what the server says.
    let found = guard(&admin, Some(&system), SyncAssumption::Always, &specs).await.unwrap();
    assert_eq!(codes(&found), [("SYNC_INTERVAL_UNSAFE", "server")]);
    // Not asking is not knowing.
    let found = guard(&admin, None, SyncAssumption::None, &specs).await.unwrap();
    assert_eq!(codes(&found), [("SYNC_INTERVAL_UNKNOWN", "server")]);
    assert!(found.iter().all(|f| f.fatal));
    let found = guard(&admin, None, SyncAssumption::Always, &specs).await.unwrap();
    assert_eq!(codes(&found), [("SYNC_INTERVAL_ASSUMED", "server")]);
    assert!(found.iter().all(|f| !f.fatal));
}

/// Each case is what a careless administrator could have done.
#[rstest::rstest]
#[case::deny_flags(json!({ "deny_delete": false, "deny_purge": false }), &["DENY_FLAGS_MISSING", "DENY_FLAGS_MISSING"])]
#[case::age(json!({ "max_age": 3_600_000_000_000u64 }), &["LIMITS_DISCARD"])]
#[case::discard_old(json!({ "discard": "old" }), &["LIMITS_DISCARD"])]
#[case::per_subject(json!({ "max_msgs_per_subject": 1 }), &["LIMITS_DISCARD"])]
#[case::ttl(json!({ "allow_msg_ttl": true }), &["FEATURE_FORBIDDEN"])]
#[case::schedules(json!({ "allow_msg_schedules": true, "deny_purge": false, "discard": "old" }),
    &["DENY_FLAGS_MISSING", "LIMITS_DISCARD", "FEATURE_FORBIDDEN", "FEATURE_FORBIDDEN"])]
#[case::no_batches(json!({ "allow_atomic": false }), &["ATOMIC_OFF"])]
#[case::memory(json!({ "storage": "memory", "max_bytes": 1_048_576 }), &["STORAGE_NOT_FILE"])]
#[case::async_persistence(json!({ "persist_mode": "async", "allow_atomic": false }), &["PERSIST_ASYNC", "ATOMIC_OFF"])]
#[case::republish(json!({ "republish": { "src": "ledger.*.*", "dest": "live.{{wildcard(1)}}.{{wildcard(2)}}" } }),
    &["FEATURE_FORBIDDEN"])]
#[case::work_queue(json!({ "retention": "workqueue" }), &["RETENTION_WRONG"])]
#[case::subjects(json!({ "subjects": ["ledger.>"] }), &["SUBJECTS_DIFFER"])]
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_may_lose_is_refused(#[case] changed: Value, #[case] wanted: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let private = PrivateServer::start(folder.path(), &[], SyncInterval::Always).await.unwrap();
    let admin = private.connect(ServiceUser::Admin).await.unwrap();
    let spec = ledger(&StreamOptions::one_machine());
    let mut config = serde_json::to_value(&spec).unwrap();
    config.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
    raw_api(&admin, "STREAM.CREATE.LEDGER", &config).await;
    let found = guard(&admin, None, SyncAssumption::Always, &[spec]).await.unwrap();
    let found: Vec<&Finding> = found.iter().filter(|f| f.subject == "LEDGER").collect();
    assert_eq!(found.iter().map(|f| f.code.as_str()).collect::<Vec<_>>(), wanted, "{found:?}");
    assert!(found.iter().all(|f| f.fatal));
}

async fn raw_api(admin: &custody_nats::Connection, call: &str, body: &Value) -> Value {
    let answer = admin.client().request(format!("$JS.API.{call}"), body.to_string().into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answer.get("error"), None, "{answer}");
    answer
}

/// `deny_delete` and `deny_purge` do not stop an update that trims: the guard sees what is gone, also after the limit
/// was taken back.
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_whose_history_was_cut_is_refused() {
    let server = server().await;
    let log = server.log().await;
    for n in 0..10 {
        log.append(first(&format!("cut-{n}"), b"1")).await.unwrap();
    }
    let admin = server.connect(ServiceUser::Admin).await;
    let spec = ledger(&StreamOptions::one_machine());
    let mut config = serde_json::to_value(&spec).unwrap();
    config["max_msgs"] = json!(5);
    config["discard"] = json!("old");
    raw_api(&admin, "STREAM.UPDATE.LEDGER", &config).await;
    let found = guard(&admin, None, SyncAssumption::Always, std::slice::from_ref(&spec)).await.unwrap();
    let on_ledger = |found: &[Finding]| -> Vec<String> {
        found.iter().filter(|f| f.subject == "LEDGER").map(|f| f.code.clone()).collect()
    };
    assert_eq!(on_ledger(&found), ["LIMITS_DISCARD", "LIMITS_DISCARD", "HISTORY_TRIMMED"]);
    config["max_msgs"] = json!(-1);
    config["discard"] = json!("new");
    raw_api(&admin, "STREAM.UPDATE.LEDGER", &config).await;
    let found = guard(&admin, None, SyncAssumption::Always, &[spec]).await.unwrap();
    assert_eq!(on_ledger(&found), ["HISTORY_TRIMMED"]);
}

/// T33 while it runs: a log that was opened before says at the next question that it is not whole, by which its roles stop.
#[rstest::rstest]
#[case::its_head_is_trimmed("STREAM.UPDATE.LEDGER", json!({ "max_msgs": 5, "discard": "old" }), 1)]
#[case::all_but_the_last_are_trimmed("STREAM.UPDATE.LEDGER", json!({ "max_msgs": 1, "discard": "old" }), 1)]
#[case::it_is_deleted("STREAM.DELETE.LEDGER", json!({}), 0)]
#[tokio::test(flavor = "multi_thread")]
async fn t33_a_ledger_that_is_cut_or_deleted_while_it_is_read_says_so(
    #[case] call: &str,
    #[case] changed: Value,
    #[case] broken_at: u64,
) {
    let server = server().await;
    let log = server.log().await;
    for n in 0..10 {
        log.append(first(&format!("while-{n}"), b"1")).await.unwrap();
    }
    // The honest ledger beside it.
    assert_eq!(log.last_seq().await, Ok(Seq(10)));
    let admin = server.connect(ServiceUser::Admin).await;
    let body = match call {
        "STREAM.UPDATE.LEDGER" => {
            let mut config = serde_json::to_value(ledger(&StreamOptions::one_machine())).unwrap();
            config.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
            config
        }
        _ => changed,
    };
    raw_api(&admin, call, &body).await;
    match log.last_seq().await {
        Err(LogError::Broken { seq, .. }) => assert_eq!(seq, broken_at),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_stream_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let private = PrivateServer::start(folder.path(), &[], SyncInterval::Always).await.unwrap();
    let admin = private.connect(ServiceUser::Admin).await.unwrap();
    let specs = all(&StreamOptions::one_machine());
    let found = guard(&admin, None, SyncAssumption::Always, &specs).await.unwrap();
    let missing: Vec<&str> = found.iter().filter(|f| f.code == "STREAM_MISSING").map(|f| f.subject.as_str()).collect();
    assert_eq!(missing, ["LEDGER", "LAUNCH", "OUTPUT", "TRANSCRIPT", "OBJ_blobs", "OBJ_workspaces"]);
}
