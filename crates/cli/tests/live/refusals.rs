//! What a launcher may not do, tried by a registered launcher over plain NATS: every such message is answered with a
//! code and is in the log; what it may not even publish, the server refuses.

use crate::launcher::{Launcher, REPLY_MAX, now, unit};
use crate::ledger::count;
use crate::stack::{Stack, fresh, options, seed};
use custody_contracts::ids::UnixMillis;
use custody_contracts::messages::ReplyOutcome;
use custody_nats::{ConnectError, Connection};
use custody_streams::accounts::inbox_prefix;
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// Two days.
const FAR_MS: u64 = 172_800_000;

/// A message that must be refused with this code.
struct Bad {
    what: &'static str,
    code: &'static str,
    bytes: Vec<u8>,
}

/// A signed message around the unit and the event that a change makes of good ones.
fn changed(web: &Launcher, what: &'static str, code: &'static str, change: fn(&mut Map<String, Value>)) -> Bad {
    let mut event = web.event(what, &unit("web", "hello"));
    change(&mut event);
    Bad { what, code, bytes: web.signed(event) }
}

fn bad_messages(web: &Launcher) -> Vec<Bad> {
    let whole = web.signed(web.event("cut", &unit("web", "hello")));
    let mut forged = web.event("forged", &unit("web", "hello"));
    custody_trust::launch::sign(&mut forged, &web.key).unwrap();
    forged["data"]["start"] = json!({ "entrypoint": { "inline": "something else" } });
    let mut stranger = web.event("stranger", &unit("web", "hello"));
    custody_trust::launch::sign(&mut stranger, &nkeys::KeyPair::new_user()).unwrap();
    let unsigned = web.event("unsigned", &unit("web", "hello"));
    let bytes = |event: Map<String, Value>| serde_json::to_vec(&event).unwrap();
    vec![
        Bad { what: "half a message", code: "NOT_JSON", bytes: whole[..whole.len() / 2].to_vec() },
        Bad { what: "no text", code: "NOT_JSON", bytes: vec![0xff, 0xfe, 0x00] },
        Bad { what: "no event", code: "NOT_CLOUDEVENT", bytes: b"{}".to_vec() },
        Bad { what: "changed after it was signed", code: "SIGNATURE_FORGED", bytes: bytes(forged) },
        Bad { what: "signed by a stranger", code: "SIGNATURE_FORGED", bytes: bytes(stranger) },
        Bad { what: "not signed", code: "SIGNATURE_MISSING", bytes: bytes(unsigned) },
        changed(web, "an unknown field", "UNIT_INVALID", |e| e["data"]["surprise"] = json!(1)),
        changed(web, "an unknown version", "CONTRACT_VERSION_UNKNOWN", |e| {
            e["dataschema"] = json!("custody:unit.v9#/$defs/Invocation");
        }),
        changed(web, "a retired contract", "CONTRACT_RETIRED", |e| e["dataschema"] = json!("custody:task.v1")),
        changed(web, "a retired type", "TYPE_RETIRED", |e| e["type"] = json!("custody.task.created.v1")),
        changed(web, "another type", "TYPE_UNKNOWN", |e| e["type"] = json!("com.example.thing")),
        changed(web, "a person of 10 KB", "UNIT_INVALID", |e| {
            e["data"]["identity"]["subject"] = json!("u".repeat(10_240));
        }),
        changed(web, "two days behind", "CLOCK_SKEW", |e| e["time"] = json!(UnixMillis(now() - FAR_MS).rfc3339())),
        changed(web, "two days ahead", "CLOCK_SKEW", |e| e["time"] = json!(UnixMillis(now() + FAR_MS).rfc3339())),
        changed(web, "another launcher's unit", "LAUNCHER_MISMATCH", |e| {
            e["data"]["identity"]["launcher"] = json!("user:mail");
        }),
        changed(web, "a person that it may not act for", "SUBJECT_NOT_ALLOWED", |e| {
            e["data"]["identity"]["subject"] = json!("u_omar");
        }),
        changed(web, "a path out of the workspace", "UNIT_INVALID", |e| {
            e["data"]["start"] = json!({ "entrypoint": { "path": "../../etc/passwd" } });
        }),
        changed(web, "an unknown tool", "TOOL_UNKNOWN", |e| e["data"]["tools"] = json!(["mail"])),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_message_is_answered_with_its_code_and_recorded() {
    let stack = Stack::start().await;
    let web = stack.launcher("web").await;
    let bad = bad_messages(&web);
    let mut replies = Vec::new();
    for one in &bad {
        let begun = Instant::now();
        let reply = web.asked(one.bytes.clone()).await;
        assert!(begun.elapsed() < REPLY_MAX, "{}", one.what);
        assert_eq!(
            (reply.outcome, reply.reason.as_deref()),
            (ReplyOutcome::Refused, Some(one.code)),
            "{}: {reply:?}",
            one.what
        );
        assert!(reply.detail.is_some() && reply.hint.is_some(), "{}: {reply:?}", one.what);
        replies.push(reply);
    }
    let ledger = stack.ledger().await;
    assert_eq!(count(&ledger, "dispatch.refused"), bad.len());
    assert_eq!(count(&ledger, "dispatch.admitted"), 0);
    for (one, reply) in bad.iter().zip(&replies) {
        let event = ledger.iter().find(|event| event.seq == reply.seq).unwrap();
        assert_eq!(
            (event.kind.as_str(), event.data["reason"].as_str()),
            ("dispatch.refused", Some(one.code)),
            "{}",
            one.what
        );
        assert_eq!(event.data["dispatch"], reply.dispatch.as_str(), "{}", one.what);
    }
    // Who was refused is not shut out.
    let reply = web.asked(web.signed(web.event(&fresh(), &unit("web", "hello")))).await;
    assert_eq!(reply.outcome, ReplyOutcome::Admitted, "{reply:?}");
    assert_eq!(stack.ended(&reply.dispatch).await["status"], "completed");
    stack.nothing_is_wrong().await;
}

/// Waits for the server's next refusal.
async fn next<R: Clone>(refusals: &mut tokio::sync::broadcast::Receiver<R>) -> R {
    tokio::time::timeout(REPLY_MAX, refusals.recv()).await.expect("the server did not refuse").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_message_is_refused_and_holds_nobody_up() {
    let stack = Stack::start().await;
    let (web, mail) = (stack.launcher("web").await, stack.launcher("mail").await);
    // Between accounts a message without a byte ends the answer that it is a part of: the next one must come all the same.
    for _ in 0..3 {
        let reply = web.asked(Vec::new()).await;
        assert_eq!(reply.reason.as_deref(), Some("NOT_JSON"), "{reply:?}");
        let reply = mail.asked(mail.signed(mail.event(&fresh(), &unit("mail", "hello")))).await;
        assert_eq!(reply.outcome, ReplyOutcome::Admitted, "{reply:?}");
        stack.ended(&reply.dispatch).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launcher_publishes_only_on_its_own_subjects() {
    let stack = Stack::start().await;
    let web = stack.launcher("web").await;
    stack.launcher("mail").await;
    let mut refusals = web.connection.refusals();
    let others = [
        "launch.mail.dispatch",
        "ledger.dispatch.d-forged",
        "command.launcher.register",
        "query.dispatch.ls",
        "unit.d-forged.out",
        "reply.mail.d-forged",
        "$JS.API.STREAM.DELETE.LEDGER",
        "$JS.API.STREAM.PURGE.LEDGER",
    ];
    for subject in others {
        web.connection.client().publish(subject, "x".into()).await.unwrap();
        assert_eq!(next(&mut refusals).await.subject, subject);
    }
    assert_eq!(count(&stack.ledger().await, "dispatch.refused"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launcher_reads_only_its_own_replies() {
    let stack = Stack::start().await;
    let web = stack.launcher("web").await;
    let mut refusals = web.connection.refusals();
    for subject in ["unit.>", "ledger.>", "launch.>", "reply.>", "reply.mail.>", "command.>", ">", "_INBOX.>"] {
        let _subscriber = web.connection.client().subscribe(subject).await.unwrap();
        assert_eq!(next(&mut refusals).await.subject, subject);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_two_megabytes_is_refused_before_it_is_stored() {
    let stack = Stack::start().await;
    let web = stack.launcher("web").await;
    let subject = "launch.web.dispatch";
    let error = web.connection.client().request(subject, vec![b'x'; 2 << 20].into()).await.unwrap_err();
    assert!(error.to_string().to_lowercase().contains("max"), "{error}");
    // What the server's own limit lets through, the stream's does not.
    let answer = web.connection.client().request(subject, vec![b'x'; 100_000].into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answer["error"]["err_code"], 10054, "{answer}");
    let text = "x".repeat(100_000);
    let ran = stack.custody(&["run", &text]).await.ended(2);
    assert!(ran.err.contains("[MESSAGE_TOO_LARGE]") && ran.err.contains("next: "), "{ran:?}");
    assert_eq!(count(&stack.ledger().await, "dispatch.refused"), 0);
}

/// Tries to connect with an old key until the server says no.
async fn is_shut_out(stack: &Stack, id: &str, seed: &custody_nats::Seed) {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match Connection::open(&options(stack.url(), inbox_prefix(id), seed.clone())).await {
            Err(ConnectError::Refused { .. }) => return,
            Err(other) => panic!("{other}"),
            Ok(connection) => connection.close().await,
        }
        assert!(Instant::now() < until, "it is still let in");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_launcher_is_refused_and_then_shut_out() {
    let stack = Stack::start().await;
    let web = stack.launcher("web").await;
    let seed = seed(&stack.state().join("launchers/web.nk"));
    stack.ok(&["launcher", "disable", "web", "--why", "key lost"]).await;
    is_shut_out(&stack, "web", &seed).await;
    // Its old connection may be cut already; if it is not, what it asks is refused.
    let subject = "launch.web.dispatch";
    let bytes = web.signed(web.event(&fresh(), &unit("web", "hello")));
    let _cut =
        tokio::time::timeout(Duration::from_secs(2), web.connection.client().request(subject, bytes.into())).await;
    assert_eq!(count(&stack.ledger().await, "dispatch.admitted"), 0);
    let ran = stack.custody(&["run", "--launcher", "web", "--as", "u_jane", "hello"]).await.ended(4);
    assert!(ran.err.contains("[CREDENTIALS_REFUSED]"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_is_refused_and_the_new_one_is_taken() {
    let stack = Stack::start().await;
    let web = stack.launcher("web").await;
    let old = seed(&stack.state().join("launchers/web.nk"));
    stack.ok(&["launcher", "rotate", "web"]).await;
    is_shut_out(&stack, "web", &old).await;
    let again = stack.connect("web").await;
    assert_ne!(again.key.public_key(), web.key.public_key());
    // A message under the old key is a forgery, whoever delivers it.
    let reply = again.asked(web.signed(again.event(&fresh(), &unit("web", "hello")))).await;
    assert_eq!(reply.reason.as_deref(), Some("SIGNATURE_FORGED"), "{reply:?}");
    // The person granted the old key, and nobody else.
    let reply = again.asked(again.signed(again.event(&fresh(), &unit("web", "hello")))).await;
    assert_eq!(reply.reason.as_deref(), Some("GRANT_KEY"), "{reply:?}");
    stack.grant("u_jane", "web", &[]).await;
    let reply = again.asked(again.signed(again.event(&fresh(), &unit("web", "hello")))).await;
    assert_eq!(reply.outcome, ReplyOutcome::Admitted, "{reply:?}");
    stack.ended(&reply.dispatch).await;
}
