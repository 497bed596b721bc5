//! A launcher's own signature: good for the registered key over exactly this message, else absent or forged.

use custody_trust::launch::{LaunchSignature, check, is_user_key, sign};
use nkeys::{KeyPair, KeyPairType};
use rstest::rstest;
use serde_json::{Map, Value, json};

fn key(seed: u8) -> KeyPair {
    KeyPair::new_from_raw(KeyPairType::User, [seed; 32]).unwrap()
}

fn event() -> Map<String, Value> {
    let value = json!({
        "specversion": "1.0", "id": "m-1", "source": "launcher/web-chat", "type": "custody.launch.dispatch.v1",
        "time": "2026-11-22T21:00:00Z", "data": { "runner": "claude-code", "tools": [] },
    });
    value.as_object().unwrap().clone()
}

fn signed(by: u8) -> Map<String, Value> {
    let mut event = event();
    sign(&mut event, &key(by)).unwrap();
    event
}

type Event = Map<String, Value>;
type Change = fn(&mut Event);
const SAME: Change = |_: &mut Event| {};

#[rstest]
#[case::honest(signed(1), SAME, LaunchSignature::Good)]
#[case::without(event(), SAME, LaunchSignature::Absent)]
#[case::by_another_key(signed(2), SAME, LaunchSignature::Forged)]
#[case::by_another_key_in_its_name(signed(2), |e: &mut Event| { e.insert("keyid".into(), key(1).public_key().into()); }, LaunchSignature::Forged)]
#[case::other_data(signed(1), |e: &mut Event| { e["data"]["runner"] = "other".into(); }, LaunchSignature::Forged)]
#[case::data_of_more(signed(1), |e: &mut Event| { e["data"]["x"] = 1.into(); }, LaunchSignature::Forged)]
#[case::another_id(signed(1), |e: &mut Event| { e["id"] = "m-2".into(); }, LaunchSignature::Forged)]
#[case::another_time(signed(1), |e: &mut Event| { e["time"] = "2026-11-22T21:00:01Z".into(); }, LaunchSignature::Forged)]
#[case::no_time(signed(1), |e: &mut Event| { e.remove("time"); }, LaunchSignature::Forged)]
#[case::an_extension_added(signed(1), |e: &mut Event| { e.insert("x".into(), 1.into()); }, LaunchSignature::Forged)]
#[case::key_without_signature(signed(1), |e: &mut Event| { e.remove("signature"); }, LaunchSignature::Forged)]
#[case::signature_without_key(signed(1), |e: &mut Event| { e.remove("keyid"); }, LaunchSignature::Forged)]
#[case::a_number_as_signature(signed(1), |e: &mut Event| { e["signature"] = 7.into(); }, LaunchSignature::Forged)]
#[case::null_as_signature(signed(1), |e: &mut Event| { e["signature"] = Value::Null; }, LaunchSignature::Forged)]
#[case::no_digits(signed(1), |e: &mut Event| { e["signature"] = "zz".into(); }, LaunchSignature::Forged)]
#[case::a_short_signature(signed(1), |e: &mut Event| { e["signature"] = "00".into(); }, LaunchSignature::Forged)]
#[case::an_empty_signature(signed(1), |e: &mut Event| { e["signature"] = "".into(); }, LaunchSignature::Forged)]
#[case::of_zeros(signed(1), |e: &mut Event| { e["signature"] = "00".repeat(64).into(); }, LaunchSignature::Forged)]
fn a_signature_is_good_absent_or_forged(
    #[case] mut event: Map<String, Value>,
    #[case] change: Change,
    #[case] expected: LaunchSignature,
) {
    change(&mut event);
    assert_eq!(check(&event, &key(1).public_key()), expected);
}

#[rstest]
#[case::empty("")]
#[case::no_key("UNOKEY")]
#[case::a_seed("SUAIBDPBAUTWCWBKIO6XHQNINK5FWJW4OHLXC3HQ2KFE4PEJUA44CNHTC4")]
fn with_a_registered_key_that_is_none_nothing_is_good(#[case] registered: &str) {
    let mut event = signed(1);
    assert_eq!(check(&event, registered), LaunchSignature::Forged);
    event.insert("keyid".into(), registered.into());
    assert_eq!(check(&event, registered), LaunchSignature::Forged);
}

#[test]
fn neither_layout_nor_order_matters_and_signing_again_gives_the_same() {
    let event = signed(1);
    let pretty = serde_json::to_string_pretty(&event).unwrap();
    assert_eq!(check(&serde_json::from_str(&pretty).unwrap(), &key(1).public_key()), LaunchSignature::Good);
    let mut again = event.clone();
    sign(&mut again, &key(1)).unwrap();
    assert_eq!(again, event);
    sign(&mut again, &key(2)).unwrap();
    assert_eq!(check(&again, &key(2).public_key()), LaunchSignature::Good, "signed over by its new key");
}

#[test]
fn a_public_key_alone_signs_nothing() {
    let public = KeyPair::from_public_key(&key(1).public_key()).unwrap();
    assert!(sign(&mut event(), &public).is_err());
}

#[rstest]
#[case::a_user(key(1).public_key(), true)]
#[case::one_letter_other(format!("{}A", &key(1).public_key()[..55]), false)]
#[case::an_account(KeyPair::new_from_raw(KeyPairType::Account, [1; 32]).unwrap().public_key(), false)]
#[case::short(key(1).public_key()[..55].to_owned(), false)]
#[case::lower_case(key(1).public_key().to_lowercase(), false)]
#[case::with_a_quote(format!("U\"{}", "A".repeat(54)), false)]
#[case::beyond_ascii("Ü".repeat(28), false)]
#[case::empty(String::new(), false)]
fn a_user_key_has_its_check_sum(#[case] text: String, #[case] good: bool) {
    assert_eq!(is_user_key(&text), good);
}
