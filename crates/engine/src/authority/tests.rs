//! Admission, commands and notary over a log in memory: every message is decided once, and checkpoints cover the log.

use super::admission::Admission;
use super::commands::Commands;
use super::launchers::Launchers;
use super::notary::{self, Notary};
use super::open::OpenDispatches;
use super::parts::Parts;
use super::workspaces::WorkspaceBook;
use crate::grants::Grants;
use crate::runners::Runners;
use crate::sealed::SealedBlobs;
use crate::sealed::tests::MemoryKeys;
use crate::tools::ToolBook;
use custody_contracts::canonical::canonical;
use custody_contracts::envelope::Meta;
use custody_contracts::events::{CheckpointSigned, KeyIntroduced, Kind, LedgerEvent, Role};
use custody_contracts::ids::UnixMillis;
use custody_contracts::launch;
use custody_contracts::messages::ReplyOutcome;
use custody_domain::queue::{Caps, Policy, Rules};
use custody_ledger::recorded::encode;
use custody_ledger::{Append, Entity, Expected, Log, MemoryLog, Sign};
use custody_ports::inputs::Inputs;
use custody_ports::launches::Launch;
use custody_ports::requests::Request;
use custody_testkit::fakes::{ManualClock, MemoryBlobs, MemoryOutput};
use custody_trust::RoleKey;
use custody_trust::verify::Verifier;
use rstest::rstest;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

pub(super) const NOW: u64 = 1_795_000_000_000;
pub(super) const PUBLIC: &str = "UDQFAC22ZAVH4DE2PQL4RJR7PO3D3DYQKDKZJNXSSNSXNDFOZ7DSVXEW";

pub(super) struct Given {
    pub(super) log: MemoryLog,
    pub(super) admission: Admission,
    pub(super) commands: Commands,
    pub(super) clock: Arc<ManualClock>,
    output: Arc<MemoryOutput>,
    _folder: tempfile::TempDir,
}

fn authority_key() -> RoleKey {
    RoleKey::from_seed(Role::Authority, &[1; 32])
}

fn runner_document(folder: &Path) {
    let golden =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/agent-runner.v2/golden/Runner.minimal.json");
    let mut value: Value = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
    value["name"] = json!("r");
    std::fs::write(folder.join("r.json"), value.to_string()).unwrap();
}

const RULES: Rules = Rules {
    caps: Caps { per_subject: None, per_launcher: None },
    policy: Policy::Queue,
    waiting_max: 100,
    waiting_per_launcher_max: 100,
};

pub(super) async fn given() -> Given {
    given_with(RULES).await
}

async fn given_with(rules: Rules) -> Given {
    let folder = tempfile::tempdir().unwrap();
    runner_document(folder.path());
    let log = MemoryLog::new();
    let port: Arc<dyn Log> = Arc::new(log.clone());
    let signer: Arc<dyn Sign> = Arc::new(authority_key());
    let clock = Arc::new(ManualClock::at(NOW));
    let output = Arc::new(MemoryOutput::default());
    let keys = Arc::new(MemoryKeys::default());
    // What is said to a dispatch is kept as it is, so that a test can read it.
    let parts = Parts {
        log: port,
        signer,
        clock: clock.clone(),
        launchers: Launchers::default(),
        workspaces: WorkspaceBook::default(),
        grants: Grants::default(),
        open: OpenDispatches::default(),
        inputs: output.clone(),
        blobs: Arc::new(MemoryBlobs::default()),
        keys: keys.clone(),
        base: "https://custody.test".into(),
    };
    let commands = parts.commands(None, None);
    let runners = Runners::read(folder.path()).unwrap();
    let blobs = Arc::new(SealedBlobs::new(Arc::new(MemoryBlobs::default()), keys));
    let admission = Admission { blobs, ..parts.admission(runners, ToolBook::builtin(), rules) };
    let key = authority_key();
    let root = KeyIntroduced {
        kid: key.kid().into(),
        role: Role::Authority,
        public_key: key.public_hex(),
        instance: "i".into(),
    };
    commands.introduce(root).await.unwrap();
    register_workspace(&commands, "default", "*").await.unwrap();
    Given { log, admission, commands, clock, output, _folder: folder }
}

pub(super) async fn register_workspace(
    commands: &Commands,
    id: &str,
    owner: &str,
) -> Result<Value, custody_contracts::messages::ErrorDoc> {
    let document = json!({ "id": id, "bucket": "file:///b", "mode": "rw", "encryption": { "scheme": "none" }, "purpose": "p", "trunk": "main" });
    let body = json!({ "workspace": document, "owner": owner, "by": "u_jane" });
    let request = Request {
        subject: "command.workspace.register".into(),
        bytes: body.to_string().into_bytes(),
        reply_to: String::new(),
    };
    commands.carry_out(&request).await
}

pub(super) async fn register(commands: &Commands, id: &str) -> Result<Value, custody_contracts::messages::ErrorDoc> {
    let body = json!({ "launcher": id, "public_key": PUBLIC, "name": id, "signature": "optional", "subjects": ["u_jane"], "by": "t" });
    let request = Request {
        subject: "command.launcher.register".into(),
        bytes: body.to_string().into_bytes(),
        reply_to: String::new(),
    };
    let answer = commands.carry_out(&request).await?;
    grant(commands, id, &[]).await?;
    Ok(answer)
}

/// Jane's grant to a launcher on the default workspace, with changes at places.
pub(super) async fn grant(
    commands: &Commands,
    launcher: &str,
    changes: &[(&str, Value)],
) -> Result<Value, custody_contracts::messages::ErrorDoc> {
    let mut wanted = json!({
        "id": "g-1", "subject": "u_jane", "launcher": format!("user:{launcher}"), "launcher_key": PUBLIC,
        "tools": [], "workspaces": [{ "id": "default", "mode": "ro" }], "trigger": { "on": ["message"] },
        "constraints": [], "limits": { "dispatches": 100_000, "window_ms": 86_400_000 },
        "approval": { "rule": "gated" }, "not_before": UnixMillis(NOW).rfc3339(),
        "expires": UnixMillis(NOW + 86_400_000).rfc3339(),
    });
    for (pointer, change) in changes {
        *wanted.pointer_mut(pointer).unwrap() = change.clone();
    }
    let words = custody_domain::grant::statement(&serde_json::from_value(wanted.clone()).unwrap());
    let shown = custody_contracts::canonical::digest(words.as_bytes());
    let body = json!({ "wanted": wanted, "method": "operator", "by": "t", "statement_digest": shown });
    ask(commands, "grant.issue", body).await
}

pub(super) async fn ask(
    commands: &Commands,
    verb: &str,
    body: Value,
) -> Result<Value, custody_contracts::messages::ErrorDoc> {
    let request =
        Request { subject: format!("command.{verb}"), bytes: body.to_string().into_bytes(), reply_to: String::new() };
    commands.carry_out(&request).await
}

pub(super) fn message(id: &str, prompt: &str) -> Vec<u8> {
    let unit = json!({
        "identity": { "subject": "u_jane", "launcher": "user:web" }, "runner": "r",
        "workspaces": [{ "id": "default", "mode": "ro" }], "tools": [], "trigger": "message",
        "start": { "entrypoint": { "inline": prompt } },
    });
    let unit = serde_json::from_value(unit).unwrap();
    let event = launch::unsigned(id, "web", &UnixMillis(NOW).rfc3339(), &unit).unwrap();
    canonical(&Value::Object(event)).into_bytes()
}

pub(super) fn launched(seq: u64, bytes: Vec<u8>) -> Launch {
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

#[tokio::test]
async fn an_orderly_stop_of_the_notary_leaves_nothing_uncovered_that_its_reader_had_not_shown() {
    let given = given().await;
    register(&given.commands, "web").await.unwrap();
    let copies = Arc::new(Mutex::new(Vec::<CheckpointSigned>::new()));
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
    // On this one thread nothing of the notary runs between the append and the stop.
    given.admission.decide(&launched(1, message("m-1", "hello"))).await.unwrap();
    cancel.cancel();
    task.await.unwrap().unwrap();
    let admitted = given.log.messages().iter().position(|m| m.log_subject.starts_with("ledger.dispatch.")).unwrap();
    assert!(copies.lock().unwrap().last().unwrap().size > admitted as u64, "the dispatch is under no kept checkpoint");
}

fn finished_with_a_proposal(dispatch: &str) -> LedgerEvent {
    let golden =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/ledger.v2/golden/RunFinished.minimal.json");
    let mut value: Value = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
    value["dispatch"] = json!(dispatch);
    let commit = |workspace: &str| json!({ "workspace": workspace, "mode": "propose", "base": "a".repeat(40), "commit": "b".repeat(40), "outcome": "proposed" });
    value["commits"] = json!([commit("default"), commit("sys-u_jane")]);
    LedgerEvent::decode("custody.run.finished.v1", &value.to_string()).unwrap()
}

#[tokio::test]
async fn a_proposal_that_a_run_has_left_is_recorded_once_whoever_looks_again() {
    let given = given().await;
    let runtime = RoleKey::from_seed(Role::Runtime, &[2; 32]);
    let entity = Entity::new(Kind::Run, "d-9").unwrap();
    let meta = Meta { subject: Some("u_jane".into()), ..Meta::default() };
    let bytes = encode(&runtime, "run-1", &[finished_with_a_proposal("d-9")], &meta).unwrap();
    let append = Append { entity, expected: Expected::after(&[]), message_id: "run-1".into(), bytes };
    given.log.append(append).await.unwrap();
    for _ in 0..2 {
        // Each time as a new process would: everything is read from the start.
        let book = WorkspaceBook::default();
        given.log.messages().iter().for_each(|stored| book.take_in(stored));
        let cancel = tokio_util::sync::CancellationToken::new();
        let log: Arc<dyn Log> = Arc::new(given.log.clone());
        let clock = Arc::new(ManualClock::at(NOW));
        let reacting = tokio::spawn(book.open_proposals(log, Arc::new(authority_key()), clock, cancel.clone()));
        let entity = Entity::new(Kind::Workspace, "default").unwrap();
        while given.log.load(&entity).await.unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
        reacting.await.unwrap();
        assert_eq!(given.log.load(&entity).await.unwrap().len(), 2, "registered, and one proposal");
        let private = Entity::new(Kind::Workspace, "sys-u_jane").unwrap();
        assert!(given.log.load(&private).await.unwrap().is_empty(), "nobody is asked about session files");
    }
}

fn message_with_turns(id: &str, turns: u64) -> Vec<u8> {
    let mut event: Value = serde_json::from_slice(&message(id, "hello")).unwrap();
    event["data"]["limits"] = json!({ "turns": turns });
    canonical(&event).into_bytes()
}

fn said(seq: u64, id: &str, dispatch: &str, text: &str) -> Launch {
    let follow_up =
        launch::FollowUp { dispatch: custody_contracts::ids::DispatchId::parse(dispatch).unwrap(), text: text.into() };
    let event = launch::unsigned_say(id, "web", &UnixMillis(NOW).rfc3339(), &follow_up).unwrap();
    let bytes = canonical(&Value::Object(event)).into_bytes();
    Launch { seq, launcher: "web".into(), verb: "say".into(), stored_at: UnixMillis(NOW), bytes }
}

/// The data of every event of one type, in order.
pub(super) fn data(log: &MemoryLog, event_type: &str) -> Vec<Value> {
    let read = |stored: &custody_ledger::Stored| serde_json::from_slice::<Value>(&stored.bytes).unwrap();
    let of = log.messages().iter().map(read).filter(|event| event["type"] == event_type).collect::<Vec<_>>();
    of.into_iter().map(|event| event["data"].clone()).collect()
}

#[tokio::test]
async fn what_is_said_is_accepted_once_in_order_and_only_while_there_are_turns() {
    let given = given().await;
    register(&given.commands, "web").await.unwrap();
    let first = given.admission.decide(&launched(1, message_with_turns("m-1", 3))).await.unwrap().unwrap();
    let dispatch = first.reply.dispatch.clone();
    let one = given.admission.decide(&said(2, "q-1", &dispatch, "one")).await.unwrap().unwrap();
    assert_eq!(one.reply.outcome, ReplyOutcome::Admitted, "{:?}", one.reply);
    let again = given.admission.decide(&said(3, "q-1", &dispatch, "one")).await.unwrap().unwrap();
    assert_eq!((again.seq, again.reply.outcome), (one.seq, ReplyOutcome::Admitted), "the same message is the same one");
    let reused = given.admission.decide(&said(4, "q-1", &dispatch, "confidential")).await.unwrap().unwrap();
    assert_eq!(reused.reply.reason.as_deref(), Some("MESSAGE_ID_REUSED"));
    given.admission.decide(&said(5, "q-2", &dispatch, "two")).await.unwrap().unwrap();
    let full = given.admission.decide(&said(6, "q-3", &dispatch, "three")).await.unwrap().unwrap();
    assert_eq!(full.reply.reason.as_deref(), Some("FOLLOW_UP_NO_TURN"));
    let accepted = data(&given.log, "custody.dispatch.follow_up_accepted.v1");
    assert_eq!(accepted.iter().map(|e| e["n"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);
    let mut words = Vec::new();
    for event in &accepted {
        let kept = given.output.at(&dispatch, event["input_seq"].as_u64().unwrap()).await.unwrap().unwrap();
        words.push(Value::from(String::from_utf8(kept).unwrap()));
    }
    assert_eq!(words, ["one", "two"]);
    assert_eq!(data(&given.log, "custody.dispatch.follow_up_refused.v1").len(), 2);
    let ledger =
        given.log.messages().iter().map(|m| String::from_utf8_lossy(&m.bytes).into_owned()).collect::<String>();
    assert!(!ledger.contains("confidential"), "what is said stands in no event");
}

#[rstest]
#[case::to_nobody("d-none", "FOLLOW_UP_UNKNOWN")]
#[case::where_one_turn_was_asked_for("", "FOLLOW_UP_ONE_TURN")]
#[tokio::test]
async fn what_may_not_be_said_is_refused_and_recorded(#[case] dispatch: &str, #[case] code: &str) {
    let given = given().await;
    register(&given.commands, "web").await.unwrap();
    let first = given.admission.decide(&launched(1, message("m-1", "hello"))).await.unwrap().unwrap();
    let dispatch = if dispatch.is_empty() { first.reply.dispatch.as_str() } else { dispatch };
    let refused = given.admission.decide(&said(2, "q-1", dispatch, "more")).await.unwrap().unwrap();
    assert_eq!(refused.reply.reason.as_deref(), Some(code), "{:?}", refused.reply);
    let again = given.admission.decide(&said(3, "q-1", dispatch, "more")).await.unwrap().unwrap();
    assert_eq!(again.seq, refused.seq, "a refusal is one event too");
    assert_eq!(data(&given.log, "custody.dispatch.follow_up_refused.v1").len(), 1);
    // An operator is told the same.
    let request = Request {
        subject: "command.dispatch.say".into(),
        bytes: json!({ "dispatch": dispatch, "text": "more", "by": "u_ops", "id": "q-1" }).to_string().into_bytes(),
        reply_to: String::new(),
    };
    assert_eq!(given.commands.carry_out(&request).await.unwrap_err().code, code);
}

#[tokio::test]
async fn a_full_queue_refuses_with_a_reason_and_when_to_come_again() {
    let given = given_with(Rules { waiting_max: 2, ..RULES }).await;
    register(&given.commands, "web").await.unwrap();
    let (mut admitted, mut refused) = (0, Vec::new());
    for n in 0..4 {
        let launch = launched(n + 1, message(&format!("m-{n}"), "hello"));
        let decision = given.admission.decide(&launch).await.unwrap().unwrap();
        match decision.reply.outcome {
            ReplyOutcome::Admitted => admitted += 1,
            ReplyOutcome::Refused => refused.push(decision.reply),
        }
    }
    assert_eq!((admitted, refused.len()), (2, 2));
    assert!(refused.iter().all(|reply| reply.reason.as_deref() == Some("QUEUE_FULL")));
    assert!(refused[0].hint.as_deref().unwrap().contains("again in 30 s"), "{refused:?}");
    // What was admitted is found again, full or not.
    let again = given.admission.decide(&launched(9, message("m-0", "hello"))).await.unwrap().unwrap();
    assert_eq!(again.reply.outcome, ReplyOutcome::Admitted);
}

#[rstest]
#[case::refuse(Policy::Reject, &["LIMIT_REACHED"], 0)]
#[case::cancel_the_oldest(Policy::CancelOld, &[], 1)]
#[case::wait(Policy::Queue, &[], 0)]
#[tokio::test]
async fn at_a_cap_the_policy_decides(#[case] policy: Policy, #[case] refused: &[&str], #[case] stops: usize) {
    let caps = Caps { per_subject: Some(1), per_launcher: None };
    let given = given_with(Rules { caps, policy, ..RULES }).await;
    register(&given.commands, "web").await.unwrap();
    let first = given.admission.decide(&launched(1, message("m-1", "hello"))).await.unwrap().unwrap();
    let second = given.admission.decide(&launched(2, message("m-2", "hello"))).await.unwrap().unwrap();
    let reasons: Vec<String> = second.reply.reason.into_iter().collect();
    assert_eq!(reasons, refused);
    let asked = data(&given.log, "custody.dispatch.stop_requested.v1");
    assert_eq!(asked.len(), stops);
    for stop in asked {
        assert_eq!(stop["dispatch"], first.reply.dispatch.as_str());
        assert!(stop["by"].as_str().unwrap().starts_with("policy:cancel-old/"), "{stop}");
    }
}

/// T26 at the door of commands, which only operators' programs and other roles reach: each beside the honest one.
#[tokio::test]
async fn t26_a_command_with_two_readings_is_refused() {
    let given = given().await;
    register(&given.commands, "web").await.unwrap();
    let revoke = |text: &str| Request {
        subject: "command.grant.revoke".into(),
        bytes: text.as_bytes().to_vec(),
        reply_to: String::new(),
    };
    let honest = r#"{"grant":"g-1","by":"u_jane","why":"enough"}"#;
    for text in [
        r#"{"grant":"g-2","grant":"g-1","by":"u_jane","why":"enough"}"#.to_owned(),
        r#"{"gr\u0061nt":"g-2","grant":"g-1","by":"u_jane","why":"enough"}"#.to_owned(),
        honest.repeat(2),
        format!("[{honest}]"),
        format!("\u{feff}{honest}"),
    ] {
        let refused = given.commands.carry_out(&revoke(&text)).await.unwrap_err();
        assert_eq!(refused.code, "COMMAND_INVALID", "{text}: {refused:?}");
    }
    given.commands.carry_out(&revoke(honest)).await.unwrap();
}
