//! Which key may sign what: each rule broken once, by somebody who can sign.

use crate::fixtures::{Writer, authority, beginning, gateway, golden, introduce, meta, retire, runtime, stranger};
use custody_contracts::envelope::{seal, signed_bytes, unsigned};
use custody_contracts::events::{KeyEvent, KeyIntroduced, LedgerEvent, Role};
use custody_ledger::recorded::encode;
use custody_ledger::{Seq, Sign, Stored};
use custody_trust::keyring::NotAuthentic;
use custody_trust::{Keyring, RoleKey};
use rstest::rstest;

fn ring() -> Keyring {
    let mut ring = Keyring::new();
    for message in beginning().messages {
        ring.admit(&message).unwrap();
    }
    ring
}

fn stored(log_subject: &str, bytes: Vec<u8>) -> Stored {
    Stored { seq: Seq(5), log_subject: log_subject.into(), message_id: None, bytes }
}

fn said(log_subject: &str, key: &RoleKey, event: LedgerEvent) -> Stored {
    stored(log_subject, encode(key, "c5", &[event], &meta()).unwrap())
}

/// A message whose envelope says another source than its key's role.
fn with_source(log_subject: &str, key: &RoleKey, role: &str, event: &LedgerEvent) -> Stored {
    let map = unsigned("c5/0", role, key.kid(), event, &meta()).unwrap();
    let signature = key.sign_hex(&signed_bytes(&map));
    stored(log_subject, seal(map, signature))
}

fn introduced(kid: &str, public_key: &str) -> LedgerEvent {
    LedgerEvent::Key(KeyEvent::Introduced(KeyIntroduced {
        kid: kid.into(),
        role: Role::Runtime,
        public_key: public_key.into(),
        instance: "test".into(),
    }))
}

#[test]
fn the_ring_knows_its_root_and_each_role() {
    let ring = ring();
    assert_eq!(ring.root(), Some(authority().kid()));
    assert_eq!(ring.keys().count(), 3);
    for key in [authority(), runtime(), gateway()] {
        assert_eq!(ring.key(key.kid()), Some(&key.verifying()));
        assert!(ring.keys().any(|(kid, role)| kid == key.kid() && role == key.role()));
    }
    assert_eq!(ring.key(stranger().kid()), None);
}

#[rstest]
#[case::dispatch_by_authority(said("ledger.dispatch.d-1", &authority(), golden("DispatchAdmitted")))]
#[case::run_by_runtime(said("ledger.run.d-1", &runtime(), golden("RunClaimed")))]
#[case::effect_by_gateway(said("ledger.effect.d-1-m1", &gateway(), golden("ModelCalled")))]
#[case::a_type_of_later_by_its_writer({
    let map = unsigned("c5/0", "runtime", runtime().kid(), &golden("RunClaimed"), &meta()).unwrap();
    let mut map = map;
    map.insert("type".into(), "custody.run.paused.v1".into());
    let signature = runtime().sign_hex(&signed_bytes(&map));
    stored("ledger.run.d-1", seal(map, signature))
})]
fn each_role_may_write_its_own_kind(#[case] message: Stored) {
    assert_eq!(ring().admit(&message).unwrap().len(), 1);
}

fn forged() -> Stored {
    let mut message = said("ledger.run.d-1", &runtime(), golden("RunClaimed"));
    let text = String::from_utf8(message.bytes).unwrap();
    message.bytes = text.replace("\"attempt\":1", "\"attempt\":2").into_bytes();
    message
}

fn in_anothers_name() -> Stored {
    let map = unsigned("c5/0", "runtime", runtime().kid(), &golden("RunClaimed"), &meta()).unwrap();
    let signature = stranger().sign_hex(&signed_bytes(&map));
    stored("ledger.run.d-1", seal(map, signature))
}

fn upper_case_signature() -> Stored {
    let map = unsigned("c5/0", "runtime", runtime().kid(), &golden("RunClaimed"), &meta()).unwrap();
    let signature = runtime().sign_hex(&signed_bytes(&map)).to_uppercase();
    stored("ledger.run.d-1", seal(map, signature))
}

#[rstest]
#[case::a_key_that_nobody_introduced(said("ledger.run.d-1", &stranger(), golden("RunClaimed")), "UnknownKey")]
#[case::changed_after_it_was_signed(forged(), "BadSignature")]
#[case::signed_by_another_in_its_name(in_anothers_name(), "BadSignature")]
#[case::a_signature_in_other_digits(upper_case_signature(), "BadSignature")]
#[case::a_dispatch_by_runtime(said("ledger.dispatch.d-1", &runtime(), golden("DispatchAdmitted")), "WrongRole")]
#[case::a_run_by_authority(said("ledger.run.d-1", &authority(), golden("RunClaimed")), "WrongRole")]
#[case::an_effect_by_runtime(said("ledger.effect.d-1-m1", &runtime(), golden("ModelCalled")), "WrongRole")]
#[case::a_key_by_runtime(said("ledger.key.x", &runtime(), introduce(&stranger())), "WrongRole")]
#[case::a_checkpoint_by_gateway(said("ledger.checkpoint.log", &gateway(), golden("CheckpointSigned")), "WrongRole")]
#[case::a_run_on_a_dispatchs_subject(said("ledger.dispatch.d-1", &authority(), golden("RunClaimed")), "Inconsistent")]
#[case::a_key_on_a_launchers_subject(said("ledger.launcher.x", &authority(), introduce(&stranger())), "Inconsistent")]
#[case::in_anothers_source(with_source("ledger.run.d-1", &runtime(), "authority", &golden("RunClaimed")), "Inconsistent")]
#[case::a_key_of_another_id(said("ledger.key.x", &authority(), introduced("k-runtime-0", &stranger().public_hex())), "Inconsistent")]
#[case::a_key_of_anothers_id(said("ledger.key.x", &authority(), introduced(runtime().kid(), &stranger().public_hex())), "Inconsistent")]
#[case::no_point_of_the_curve(said("ledger.key.x", &authority(), introduced("k", &"02".repeat(32))), "Unreadable")]
#[case::not_a_key_at_all(said("ledger.key.x", &authority(), introduced("k", "02")), "Unreadable")]
#[case::another_stream(said("launch.x.dispatch", &authority(), golden("DispatchAdmitted")), "Unreadable")]
#[case::nothing(stored("ledger.run.d-1", vec![]), "Unreadable")]
#[case::no_event(stored("ledger.run.d-1", b"[]".to_vec()), "Unreadable")]
#[case::with_a_space({ let mut m = said("ledger.run.d-1", &runtime(), golden("RunClaimed")); m.bytes.push(b' '); m }, "NotCanonical")]
fn what_breaks_a_rule_is_not_authentic_and_changes_nothing(#[case] message: Stored, #[case] expected: &str) {
    let mut ring = ring();
    let error = ring.admit(&message).unwrap_err();
    assert!(format!("{error:?}").starts_with(expected), "{error:?}");
    assert_eq!(format!("{ring:?}"), format!("{:?}", self::ring()));
}

#[rstest]
#[case::no_key(said("ledger.dispatch.d-1", &authority(), golden("DispatchAdmitted")), "NoRoot")]
#[case::another_roles_key(said("ledger.key.r", &runtime(), introduce(&runtime())), "NoRoot")]
#[case::authoritys_key_by_another(said("ledger.key.a", &runtime(), introduce(&authority())), "NoRoot")]
#[case::authoritys_key_on_anothers_subject(said("ledger.run.a", &authority(), introduce(&authority())), "WrongRole")]
#[case::authoritys_key_from_another_source(with_source("ledger.key.a", &authority(), "api", &introduce(&authority())), "Inconsistent")]
fn a_log_begins_with_authoritys_own_key(#[case] message: Stored, #[case] expected: &str) {
    let mut ring = Keyring::new();
    let error = ring.admit(&message).unwrap_err();
    assert!(format!("{error:?}").starts_with(expected), "{error:?}");
    assert_eq!(ring.root(), None);
    assert_eq!(ring.admit(&said("ledger.key.a", &authority(), introduce(&authority()))).unwrap().len(), 1);
}

#[test]
fn a_retired_key_signs_nothing_and_never_comes_back() {
    let mut ring = ring();
    ring.admit(&said("ledger.key.r", &authority(), retire(&runtime()))).unwrap();
    let retired = |ring: &mut Keyring| {
        let error = ring.admit(&said("ledger.run.d-1", &runtime(), golden("RunClaimed"))).unwrap_err();
        assert_eq!(error, NotAuthentic::RetiredKey(runtime().kid().into()));
    };
    retired(&mut ring);
    ring.admit(&said("ledger.key.r", &authority(), introduce(&runtime()))).unwrap();
    retired(&mut ring);
    ring.admit(&said("ledger.key.x", &authority(), introduce(&stranger()))).unwrap();
    assert_eq!(ring.admit(&said("ledger.run.d-1", &stranger(), golden("RunClaimed"))).unwrap().len(), 1);
}

#[test]
fn of_several_events_all_are_good_or_none_counts() {
    let mut writer = Writer::default();
    writer.say(&authority(), "x", &[introduce(&stranger()), retire(&gateway())]);
    let good = writer.messages[0].clone();
    let mut bad = good.clone();
    let text = String::from_utf8(bad.bytes).unwrap();
    bad.bytes = text.replace("\"why\":\"test\"", "\"why\":\"best\"").into_bytes();
    let mut ring = ring();
    assert!(matches!(ring.admit(&bad), Err(NotAuthentic::BadSignature(_))));
    assert_eq!(ring.key(stranger().kid()), None, "the first of the two stayed");
    assert_eq!(ring.admit(&good).unwrap().len(), 2);
    assert!(ring.key(stranger().kid()).is_some());
}
