//! Tables: which message is one, whose it is, and whom it may reach.

use super::{check_words, judge, may_reach, message_id, read};
use crate::launcher::LauncherState;
use crate::tests::golden;
use custody_contracts::canonical::canonical;
use custody_contracts::events::{
    DispatchAdmitted, DispatchEvent, LauncherEvent, LedgerEvent, SignatureCheck, SignatureRule,
};
use custody_contracts::ids::{DispatchId, LauncherId, UnixMillis};
use custody_contracts::launch::{FollowUp, SAY_BYTES_MAX, unsigned_say};
use nkeys::KeyPair;
use rstest::rstest;
use serde_json::{Map, Value, json};

const NOW: u64 = 1_795_000_000_000;

fn id(text: &str) -> LauncherId {
    LauncherId::parse(text).unwrap()
}

fn event(text: &str) -> Map<String, Value> {
    let follow_up = FollowUp { dispatch: DispatchId::parse("d-7f3a").unwrap(), text: text.into() };
    unsigned_say("m-1", "web-chat", &UnixMillis(NOW).rfc3339(), &follow_up).unwrap()
}

fn bytes(event: Map<String, Value>) -> Vec<u8> {
    canonical(&Value::Object(event)).into_bytes()
}

fn launcher(key: &KeyPair, rule: SignatureRule) -> LauncherState {
    match golden("LauncherRegistered", &[("public_key", json!(key.public_key()))]) {
        LedgerEvent::Launcher(LauncherEvent::Registered(mut e)) => {
            e.signature = rule;
            LauncherState::default().after(&LauncherEvent::Registered(e))
        }
        other => panic!("{other:?}"),
    }
}

fn changed(change: impl FnOnce(&mut Map<String, Value>)) -> Vec<u8> {
    let mut event = event("And Q4?");
    change(&mut event);
    bytes(event)
}

#[rstest]
#[case::words(bytes(event("And Q4?")), None)]
#[case::no_json(b"{".to_vec(), Some("NOT_CLOUDEVENT"))]
#[case::no_event(b"{}".to_vec(), Some("NOT_CLOUDEVENT"))]
#[case::a_launch(changed(|e| e["type"] = json!("custody.launch.dispatch.v1")), Some("TYPE_UNKNOWN"))]
#[case::no_words(changed(|e| e["data"]["text"] = json!("")), Some("INPUT_INVALID"))]
#[case::in_anothers_name(changed(|e| e["data"]["as"] = json!("u_omar")), Some("INPUT_INVALID"))]
#[case::a_subject_in_the_id(changed(|e| e["data"]["dispatch"] = json!("d.>")), Some("INPUT_INVALID"))]
#[case::as_long_as_it_may_be(bytes(event(&"x".repeat(SAY_BYTES_MAX))), None)]
#[case::too_long(bytes(event(&"x".repeat(SAY_BYTES_MAX + 1))), Some("INPUT_INVALID"))]
#[case::too_many_bytes(bytes(event(&"ü".repeat(SAY_BYTES_MAX / 2 + 1))), Some("INPUT_INVALID"))]
#[case::a_huge_message(vec![b' '; 65_537], Some("MESSAGE_TOO_LARGE"))]
fn what_is_a_follow_up(#[case] bytes: Vec<u8>, #[case] expected: Option<&str>) {
    let found = read(&bytes);
    assert_eq!(found.as_ref().err().map(|refusal| refusal.code), expected, "{found:?}");
}

#[rstest]
#[case::signed(SignatureRule::Required, true, NOW, Ok(SignatureCheck::Verified))]
#[case::not_signed(SignatureRule::Required, false, NOW, Err("SIGNATURE_MISSING"))]
#[case::need_not_sign(SignatureRule::Optional, false, NOW, Ok(SignatureCheck::Absent))]
#[case::of_yesterday(SignatureRule::Required, true, NOW + 86_400_000, Err("CLOCK_SKEW"))]
fn whose_it_is(
    #[case] rule: SignatureRule,
    #[case] signed: bool,
    #[case] stored_at: u64,
    #[case] expected: Result<SignatureCheck, &str>,
) {
    let key = KeyPair::new_user();
    let mut event = event("And Q4?");
    if signed {
        custody_trust::launch::sign(&mut event, &key).unwrap();
    }
    let said = read(&bytes(event)).unwrap();
    let found = judge(&said, &id("web-chat"), &launcher(&key, rule), UnixMillis(stored_at));
    assert_eq!(found.map_err(|refusal| refusal.code), expected);
}

#[test]
fn words_that_were_changed_after_they_were_signed_are_nobodys() {
    let key = KeyPair::new_user();
    let mut event = event("And Q4?");
    custody_trust::launch::sign(&mut event, &key).unwrap();
    event["data"]["text"] = json!("Send all of it to me");
    let said = read(&bytes(event)).unwrap();
    let found = judge(&said, &id("web-chat"), &launcher(&key, SignatureRule::Optional), UnixMillis(NOW));
    assert_eq!(found.unwrap_err().code, "SIGNATURE_FORGED");
    let stranger = judge(&said, &id("nobody"), &LauncherState::default(), UnixMillis(NOW));
    assert_eq!(stranger.unwrap_err().code, "LAUNCHER_UNKNOWN");
}

fn admitted() -> DispatchAdmitted {
    match golden("DispatchAdmitted", &[]) {
        LedgerEvent::Dispatch(DispatchEvent::Admitted(e)) => *e,
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case::own(true, Some("web-chat"), false, None)]
#[case::an_operator(true, None, false, None)]
#[case::another_launchers(true, Some("mail"), false, Some("FOLLOW_UP_UNKNOWN"))]
#[case::another_launchers_that_ended(true, Some("mail"), true, Some("FOLLOW_UP_UNKNOWN"))]
#[case::nobodys(false, Some("web-chat"), false, Some("FOLLOW_UP_UNKNOWN"))]
#[case::ended(true, Some("web-chat"), true, Some("FOLLOW_UP_CLOSED"))]
#[case::ended_for_an_operator_too(true, None, true, Some("FOLLOW_UP_CLOSED"))]
fn whom_it_reaches(
    #[case] there: bool,
    #[case] from: Option<&str>,
    #[case] ended: bool,
    #[case] expected: Option<&str>,
) {
    let mut admitted = admitted();
    admitted.launch.launcher = id("web-chat");
    let from = from.map(id);
    let found = may_reach(&admitted.dispatch, there.then_some(&admitted), from.as_ref(), ended);
    assert_eq!(found.err().map(|refusal| refusal.code), expected);
}

#[test]
fn a_refused_message_has_an_id_of_its_own() {
    let one = message_id("web-chat", Some("m-1"), b"x");
    assert_eq!(one, message_id("web-chat", Some("m-1"), b"y"));
    assert_ne!(one, message_id("mail", Some("m-1"), b"x"));
    assert_ne!(message_id("web-chat", None, b"x"), message_id("web-chat", None, b"y"));
    assert!(one.as_str().starts_with("f-"));
    assert!(check_words(json!({ "dispatch": "d-1", "text": "x" })).is_ok());
}
