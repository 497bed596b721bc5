//! Admission, commands and notary over a log in memory: every message is decided once, and checkpoints cover the log.

use super::admission::Admission;
use super::commands::Commands;
use super::launchers::Launchers;
use super::notary::{self, Notary};
use crate::runners::Runners;
use custody_contracts::canonical::canonical;
use custody_contracts::events::{KeyIntroduced, Role};
use custody_contracts::ids::UnixMillis;
use custody_contracts::launch;
use custody_contracts::messages::ReplyOutcome;
use custody_ledger::{Log, MemoryLog, Sign};
use custody_ports::launches::Launch;
use custody_ports::requests::Request;
use custody_testkit::fakes::ManualClock;
use custody_trust::RoleKey;
use custody_trust::verify::Verifier;
use rstest::rstest;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

const NOW: u64 = 1_795_000_000_000;
const PUBLIC: &str = "UDQFAC22ZAVH4DE2PQL4RJR7PO3D3DYQKDKZJNXSSNSXNDFOZ7DSVXEW";

struct Given {
    log: MemoryLog,
    admission: Admission,
    commands: Commands,
    _folder: tempfile::TempDir,
}

fn authority_key() -> RoleKey {
    RoleKey::from_seed(Role::Authority, &[1; 32])
}

fn runner_document(folder: &Path) {
    let golden =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/agent-runner.v1/golden/Runner.minimal.json");
    let mut value: Value = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
    value["name"] = json!("r");
    std::fs::write(folder.join("r.json"), value.to_string()).unwrap();
}

async fn given() -> Given {
    let folder = tempfile::tempdir().unwrap();
    runner_document(folder.path());
    let log = MemoryLog::new();
    let port: Arc<dyn Log> = Arc::new(log.clone());
    let signer: Arc<dyn Sign> = Arc::new(authority_key());
    let clock = Arc::new(ManualClock::at(NOW));
    let launchers = Launchers::default();
    let commands =
        Commands { log: port.clone(), signer: signer.clone(), clock: clock.clone(), launchers: launchers.clone() };
    let runners = Runners::read(folder.path()).unwrap();
    let admission = Admission { log: port, signer, clock, launchers, runners };
    let key = authority_key();
    let root = KeyIntroduced {
        kid: key.kid().into(),
        role: Role::Authority,
        public_key: key.public_hex(),
        instance: "i".into(),
    };
    commands.introduce(root).await.unwrap();
    Given { log, admission, commands, _folder: folder }
}

async fn register(commands: &Commands, id: &str) -> Result<Value, custody_contracts::messages::ErrorDoc> {
    let body = json!({ "launcher": id, "public_key": PUBLIC, "name": id, "signature": "optional", "subjects": ["u_jane"], "by": "t" });
    let request = Request {
        subject: "command.launcher.register".into(),
        bytes: body.to_string().into_bytes(),
        reply_to: String::new(),
    };
    commands.carry_out(&request).await
}

fn message(id: &str, prompt: &str) -> Vec<u8> {
    let unit = json!({
        "identity": { "subject": "u_jane", "launcher": "user:web" }, "runner": "r",
        "workspaces": [{ "id": "default", "mode": "ro" }], "tools": [], "trigger": "message",
        "start": { "entrypoint": { "inline": prompt } },
    });
    let unit = serde_json::from_value(unit).unwrap();
    let event = launch::unsigned(id, "web", &UnixMillis(NOW).rfc3339(), &unit).unwrap();
    canonical(&Value::Object(event)).into_bytes()
}

fn launched(seq: u64, bytes: Vec<u8>) -> Launch {
    Launch { seq, launcher: "web".into(), verb: "dispatch".into(), stored_at: UnixMillis(NOW), bytes }
}

#[tokio::test]
async fn the_same_message_is_one_dispatch_and_gets_the_same_answer() {
    let given = given().await;
    register(&given.commands, "web").await.unwrap();
    let first = given.admission.decide(&launched(1, message("m-1", "hello"))).await.unwrap().unwrap();
    assert_eq!(first.reply.outcome, ReplyOutcome::Admitted, "{:?}", first.reply);
    let again = given.admission.decide(&launched(2, message("m-1", "hello"))).await.unwrap().unwrap();
    assert_eq!((again.seq, &again.reply.dispatch), (first.seq, &first.reply.dispatch));
    let other = given.admission.decide(&launched(3, message("m-2", "hello"))).await.unwrap().unwrap();
    assert_ne!(other.reply.dispatch, first.reply.dispatch, "two messages are never one");
}

#[tokio::test]
async fn an_id_that_is_used_for_another_message_is_refused_and_the_first_dispatch_stands() {
    let given = given().await;
    register(&given.commands, "web").await.unwrap();
    let first = given.admission.decide(&launched(1, message("m-1", "hello"))).await.unwrap().unwrap();
    let reused = given.admission.decide(&launched(2, message("m-1", "goodbye"))).await.unwrap().unwrap();
    assert_eq!(reused.reply.reason.as_deref(), Some("MESSAGE_ID_REUSED"));
    assert_ne!(reused.reply.dispatch, first.reply.dispatch);
    let again = given.admission.decide(&launched(3, message("m-1", "goodbye"))).await.unwrap().unwrap();
    assert_eq!(again.seq, reused.seq, "a refusal is one event too");
}

#[tokio::test]
async fn a_decision_stands_when_the_message_comes_again_under_other_circumstances() {
    let given = given().await;
    let refused = given.admission.decide(&launched(1, message("m-1", "hello"))).await.unwrap().unwrap();
    assert_eq!(refused.reply.reason.as_deref(), Some("LAUNCHER_UNKNOWN"));
    register(&given.commands, "web").await.unwrap();
    let again = given.admission.decide(&launched(1, message("m-1", "hello"))).await.unwrap().unwrap();
    assert_eq!((again.seq, again.reply.outcome), (refused.seq, ReplyOutcome::Refused));
}

#[rstest]
#[case::garbage(b"{".to_vec(), "NOT_JSON")]
#[case::no_event(b"{}".to_vec(), "NOT_CLOUDEVENT")]
#[case::nothing(Vec::new(), "NOT_JSON")]
#[tokio::test]
async fn what_cannot_be_read_is_refused_in_the_ledger(#[case] bytes: Vec<u8>, #[case] code: &str) {
    let given = given().await;
    register(&given.commands, "web").await.unwrap();
    let decision = given.admission.decide(&launched(1, bytes)).await.unwrap().unwrap();
    assert_eq!(decision.reply.reason.as_deref(), Some(code));
    assert!(decision.reply.hint.is_some());
    assert_eq!(given.log.last_seq().await.unwrap(), decision.seq);
}

#[tokio::test]
async fn commands_are_idempotent_and_refusals_have_codes() {
    let given = given().await;
    assert_eq!(register(&given.commands, "web").await.unwrap()["changed"], true);
    assert_eq!(register(&given.commands, "web").await.unwrap()["changed"], false);
    let request = |subject: &str, body: Value| Request {
        subject: subject.into(),
        bytes: body.to_string().into_bytes(),
        reply_to: String::new(),
    };
    assert_eq!(register(&given.commands, "twin").await.unwrap_err().code, "LAUNCHER_REFUSED", "one key, one launcher");
    let disable = request("command.launcher.disable", json!({ "launcher": "nobody", "by": "t", "why": "w" }));
    assert_eq!(given.commands.carry_out(&disable).await.unwrap_err().code, "LAUNCHER_REFUSED");
    let nonsense = request("command.launcher.register", json!({ "launcher": "web", "unknown": 1 }));
    assert_eq!(given.commands.carry_out(&nonsense).await.unwrap_err().code, "COMMAND_INVALID");
    let unknown = request("command.launcher.promote", json!({}));
    assert_eq!(given.commands.carry_out(&unknown).await.unwrap_err().code, "COMMAND_UNKNOWN");
    let stop = request("command.dispatch.stop", json!({ "dispatch": "d-none", "by": "t", "grace_ms": 1 }));
    assert_eq!(given.commands.carry_out(&stop).await.unwrap_err().code, "DISPATCH_NOT_ADMITTED");
}

#[tokio::test]
async fn the_notary_signs_a_tree_that_verifies_and_stops_when_nothing_is_new() {
    let given = given().await;
    register(&given.commands, "web").await.unwrap();
    let copies = Arc::new(Mutex::new(Vec::new()));
    let kept = copies.clone();
    let cancel = CancellationToken::new();
    let notary = Notary {
        log: Arc::new(given.log.clone()),
        key: Arc::new(authority_key()),
        clock: Arc::new(ManualClock::at(NOW)),
        origin: "test/ledger".into(),
        copy: Arc::new(move |signed| kept.lock().unwrap().push(signed.clone())),
    };
    let task = tokio::spawn(notary::run(notary, cancel.clone()));
    while copies.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    for n in 0..600 {
        given.admission.decide(&launched(n + 1, message(&format!("m-{n}"), "hello"))).await.unwrap();
    }
    while copies.lock().unwrap().last().is_none_or(|c| c.size < 600) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    cancel.cancel();
    task.await.unwrap().unwrap();
    let mut verifier = Verifier::new(&[], None);
    given.log.messages().iter().for_each(|stored| verifier.push(stored).unwrap());
    let report = verifier.finish().unwrap();
    assert_eq!(report.checkpoints as usize, copies.lock().unwrap().len());
    assert!(report.covered >= 600);
    let last_two: Vec<_> = given.log.messages().iter().rev().take(2).map(|m| m.log_subject.clone()).collect();
    assert!(
        last_two.iter().any(|s| !s.starts_with("ledger.checkpoint.")),
        "a checkpoint does not call for another one"
    );
}
