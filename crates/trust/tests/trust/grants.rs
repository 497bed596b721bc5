//! A grant's token says what its document says or is refused; and a log in which something was admitted that no grant
//! covers is found, at the admission.

use crate::fixtures::{Writer, authority, beginning, golden, introduce, meta, runtime, verify};
use crate::proof_fixtures::bundle_of;
use custody_contracts::canonical::digest;
use custody_contracts::envelope::Meta;
use custody_contracts::events::{DispatchEvent, KeyEvent, KeyIntroduced, LauncherEvent, LedgerEvent};
use custody_contracts::grant::{Consent, ConsentMethod, Grant, GrantEvent, GrantIssued, GrantRevoked, GrantTerms};
use custody_contracts::ids::{GrantId, UnixMillis};
use custody_ledger::recorded::encode;
use custody_ledger::{Entity, Seq, Sign, Stored};
use custody_trust::grant::{Unproven, mint, prove};
use custody_trust::proof::Demands;
use custody_trust::token::{Claims, TokenKind, TokenRefused};
use custody_trust::{Keyring, RoleKey};
use nkeys::{KeyPair, KeyPairType};
use rstest::rstest;
use serde_json::{Value, json};

/// 2026-11-22T21:00:00Z, the time of every event of these logs.
const NOW: u64 = 1_795_381_200_000;
const BASE: &str = "https://custody.test";

fn nkey(seed: u8) -> String {
    KeyPair::new_from_raw(KeyPairType::User, [seed; 32]).unwrap().public_key()
}

fn grant_with(changes: &[(&str, Value)]) -> Grant {
    let words = statement();
    let mut value = json!({
        "id": "g-1", "subject": "u_jane", "launcher": "integration:web-chat", "launcher_key": nkey(1), "tools": ["workspace_read", "mail.read"],
        "workspaces": [{ "id": "notes", "mode": "rw" }], "trigger": { "on": ["message"] },
        "constraints": [{ "on": "recipient", "argument": "/to", "allow": ["*@acme.test"] }],
        "limits": { "dispatches": 2, "window_ms": 3_600_000 }, "redelegation_depth": 0, "approval": { "rule": "gated" },
        "not_before": UnixMillis(NOW - 1_000).rfc3339(), "expires": UnixMillis(NOW + 86_400_000).rfc3339(),
        "consent": { "method": "operator", "at": UnixMillis(NOW).rfc3339(), "statement_digest": digest(words.as_bytes()) },
    });
    for (pointer, change) in changes {
        *value.pointer_mut(pointer).unwrap() = change.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn statement() -> String {
    "Jane lets the web chat run agents in her name.".to_owned()
}

fn issued(grant: Grant) -> GrantIssued {
    let token = mint(&authority(), &grant, BASE, UnixMillis(NOW)).unwrap().into_text();
    GrantIssued { grant, token, statement: statement(), parent: None, by: "u_jane".into() }
}

fn ring() -> Keyring {
    let mut ring = Keyring::new();
    for (n, key) in [authority(), runtime()].iter().enumerate() {
        let event = LedgerEvent::Key(KeyEvent::Introduced(KeyIntroduced {
            kid: key.kid().into(),
            role: key.role(),
            public_key: key.public_hex(),
            instance: "test".into(),
        }));
        let id = format!("k{n}");
        let bytes = encode(&authority(), &id, &[event], &meta()).unwrap();
        let log_subject = Entity::new(custody_contracts::events::Kind::Key, &id).unwrap().log_subject();
        ring.admit(&Stored { seq: Seq(n as u64 + 1), log_subject, message_id: None, bytes }).unwrap();
    }
    ring
}

#[test]
fn an_issued_grant_is_proved_by_its_token() {
    assert_eq!(prove(&ring(), &issued(grant_with(&[]))), Ok(()));
}

#[rstest]
#[case::another_workspace(&[("/workspaces/0/id", json!("finance"))])]
#[case::another_mode(&[("/workspaces/0/mode", json!("ro"))])]
#[case::another_tool(&[("/tools/0", json!("workspace_write"))])]
#[case::another_rule(&[("/constraints/0/allow/0", json!("*"))])]
#[case::another_end(&[("/expires", json!("2027-01-01T00:00:00.000Z"))])]
#[case::another_key(&[("/launcher_key", json!(nkey(2)))])]
#[case::another_person(&[("/subject", json!("u_john"))])]
#[case::more_dispatches(&[("/limits/dispatches", json!(3))])]
#[case::less_approval(&[("/approval/rule", json!("always"))])]
fn a_document_that_was_changed_is_not_what_the_token_says(#[case] changes: &[(&str, Value)]) {
    let honest = issued(grant_with(&[]));
    let changed = GrantIssued { grant: grant_with(changes), ..honest };
    assert!(matches!(prove(&ring(), &changed), Err(Unproven::Differs(_))), "{:?}", prove(&ring(), &changed));
}

#[test]
fn another_statement_is_not_what_was_agreed_to() {
    let changed = GrantIssued { statement: "Jane lets the web chat do anything.".into(), ..issued(grant_with(&[])) };
    assert_eq!(prove(&ring(), &changed), Err(Unproven::Statement));
}

/// Signed by a role that may not, by nobody known, of another type, without a signature.
#[test]
fn a_token_that_authority_did_not_sign_is_refused() {
    let with = |token: String| prove(&ring(), &GrantIssued { token, ..issued(grant_with(&[])) });
    let by = |key: &RoleKey| mint(key, &grant_with(&[]), BASE, UnixMillis(NOW)).unwrap().into_text();
    assert_eq!(with(by(&runtime())), Err(Unproven::Token(TokenRefused::Key)));
    assert_eq!(with(by(&RoleKey::from_seed(authority().role(), &[7; 32]))), Err(Unproven::Token(TokenRefused::Key)));
    let honest = by(&authority());
    let mut parts: Vec<&str> = honest.split('.').collect();
    parts[2] = "AAAA";
    assert_eq!(with(parts.join(".")), Err(Unproven::Token(TokenRefused::Signature)));
    let kind = TokenKind {
        typ: "dispatch+jwt",
        issuer: "custody/authority",
        role: authority().role(),
        audience: "x",
        life_secs_max: 900,
    };
    let claims = Claims {
        iss: "custody/authority".into(),
        sub: "u_jane".into(),
        aud: "x".into(),
        scope: "s".into(),
        jti: "j".into(),
        iat: 1,
        nbf: 1,
        exp: 2,
    };
    let other = custody_trust::token::mint(&authority(), &kind, &claims).unwrap();
    assert_eq!(with(other), Err(Unproven::Token(TokenRefused::Type("grant+jwt"))));
}

/// A log with a launcher, Jane's grant and one dispatch under it.
fn granted() -> Writer {
    let mut writer = beginning();
    writer.say(&authority(), "web-chat", &[rotated()]).say(&authority(), "g-1", &[issue(issued(grant_with(&[])))]);
    writer
}

fn rotated() -> LedgerEvent {
    let rotated = json!({ "launcher": "web-chat", "public_key": nkey(1), "by": "o" });
    LedgerEvent::Launcher(LauncherEvent::Rotated(serde_json::from_value(rotated).unwrap()))
}

fn issue(issued: GrantIssued) -> LedgerEvent {
    LedgerEvent::Grant(GrantEvent::Issued(Box::new(issued)))
}

fn revoke(id: &str) -> LedgerEvent {
    let revoked = GrantRevoked { grant: GrantId::parse(id).unwrap(), by: "u_jane".into(), why: "w".into() };
    LedgerEvent::Grant(GrantEvent::Revoked(revoked))
}

fn admitted(dispatch: &str, grant: Value, changes: &[(&str, Value)]) -> LedgerEvent {
    let LedgerEvent::Dispatch(DispatchEvent::Admitted(honest)) = golden("DispatchAdmitted") else { panic!() };
    let mut value = serde_json::to_value(&honest).unwrap();
    value["dispatch"] = json!(dispatch);
    value["grant"] = grant;
    value["launch"]["launcher"] = json!("web-chat");
    value["unit"] = json!({
        "identity": { "subject": "u_jane", "launcher": "integration:web-chat" }, "runner": "r",
        "workspaces": [{ "id": "notes", "mode": "ro" }], "tools": [], "trigger": "message",
        "start": { "entrypoint": { "inline": "Hello." } },
    });
    for (pointer, change) in changes {
        *value.pointer_mut(pointer).unwrap() = change.clone();
    }
    LedgerEvent::Dispatch(DispatchEvent::Admitted(serde_json::from_value(value).unwrap()))
}

fn under(id: &str, seq: u64) -> Value {
    json!({ "checked": { "id": id, "seq": seq } })
}

#[test]
fn a_dispatch_under_a_grant_that_covers_it_is_verified() {
    let mut log = granted();
    log.say(&authority(), "d-1", &[admitted("d-1", under("g-1", 6), &[])]);
    let report = verify(&log.messages, &[]).unwrap();
    assert_eq!((report.messages, report.grants), (7, 1));
}

#[rstest]
#[case::under_none(json!("not_checked"), &[], "without a grant")]
#[case::under_one_of_nobody(under("g-9", 6), &[], "never issued")]
#[case::under_another_sequence(under("g-1", 5), &[], "issued at sequence 6")]
#[case::for_another_person(under("g-1", 6), &[("/unit/identity/subject", json!("u_john"))], "GRANT_SUBJECT")]
#[case::in_more_than_it_has(under("g-1", 6), &[("/unit/workspaces/0/id", json!("finance"))], "GRANT_WORKSPACE")]
#[case::with_a_tool_that_it_has_not(under("g-1", 6), &[("/unit/tools", json!(["mail.send"]))], "GRANT_TOOL")]
#[case::by_a_trigger_that_it_has_not(under("g-1", 6), &[("/unit/trigger", json!("event"))], "GRANT_TRIGGER")]
#[case::by_another_launcher(under("g-1", 6), &[("/launch/launcher", json!("mail"))], "GRANT_KEY")]
fn what_no_grant_covers_is_found(#[case] grant: Value, #[case] changes: &[(&str, Value)], #[case] says: &str) {
    let mut log = granted();
    log.say(&authority(), "d-1", &[admitted("d-1", grant, changes)]);
    let finding = verify(&log.messages, &[]).unwrap_err();
    assert_eq!((finding.seq, finding.code), (7, "UNGRANTED"), "{finding:?}");
    assert!(finding.message.contains(says), "{finding:?}");
}

#[test]
fn what_is_admitted_after_a_revocation_is_found_and_what_was_before_stands() {
    let mut log = granted();
    log.say(&authority(), "d-1", &[admitted("d-1", under("g-1", 6), &[])]).say(&authority(), "g-1", &[revoke("g-1")]);
    assert!(verify(&log.messages, &[]).is_ok());
    log.say(&authority(), "d-2", &[admitted("d-2", under("g-1", 6), &[])]);
    let finding = verify(&log.messages, &[]).unwrap_err();
    assert_eq!((finding.seq, finding.code), (9, "UNGRANTED"));
    assert!(finding.message.contains("revoked at sequence 8"), "{finding:?}");
}

#[test]
fn more_dispatches_than_a_window_has_are_found() {
    let mut log = granted();
    for n in 1..=2 {
        let id = format!("d-{n}");
        log.say(&authority(), &id, &[admitted(&id, under("g-1", 6), &[])]);
    }
    assert!(verify(&log.messages, &[]).is_ok());
    log.say(&authority(), "d-3", &[admitted("d-3", under("g-1", 6), &[])]);
    assert!(verify(&log.messages, &[]).unwrap_err().message.contains("one more"));
}

fn derived(changes: &[(&str, Value)]) -> GrantIssued {
    let changes = [&[("/id", json!("g-2"))], changes].concat();
    GrantIssued { parent: Some(GrantId::parse("g-1").unwrap()), ..issued(grant_with(&changes)) }
}

#[test]
fn a_narrower_grant_is_within_its_parent_and_ends_with_it() {
    let mut log = granted();
    log.say(&authority(), "g-2", &[issue(derived(&[("/tools", json!(["mail.read"]))]))]);
    log.say(&authority(), "d-1", &[admitted("d-1", under("g-2", 7), &[])]);
    assert_eq!(verify(&log.messages, &[]).unwrap().grants, 2);
    log.say(&authority(), "g-1", &[revoke("g-1")]);
    log.say(&authority(), "d-2", &[admitted("d-2", under("g-2", 7), &[])]);
    let finding = verify(&log.messages, &[]).unwrap_err();
    assert!(finding.code == "UNGRANTED" && finding.message.contains("grant g-1 was revoked"), "{finding:?}");
}

#[test]
fn a_derived_grant_that_is_wider_is_found() {
    let mut log = granted();
    log.say(&authority(), "g-2", &[issue(derived(&[("/limits/dispatches", json!(3))]))]);
    let finding = verify(&log.messages, &[]).unwrap_err();
    assert_eq!((finding.seq, finding.code), (7, "GRANT_UNPROVEN"));
    assert!(finding.message.contains("goes beyond g-1: limits"), "{finding:?}");
}

#[test]
fn a_log_from_before_grants_verifies_as_it_is() {
    let mut log = beginning();
    log.say(&authority(), "d-1", &[admitted("d-1", json!("not_checked"), &[])]);
    assert_eq!(verify(&log.messages, &[]).unwrap().grants, 0);
}

#[test]
fn a_grant_with_a_key_that_is_none_is_not_signed() {
    let grant = grant_with(&[("/launcher_key", json!(format!("{}A", &nkey(1)[..55])))]);
    assert!(matches!(mint(&authority(), &grant, BASE, UnixMillis(NOW)), Err(Unproven::Unfit(_))));
    let terms: GrantTerms = grant_with(&[]).terms();
    let consent = Consent { method: ConsentMethod::Cli, at: "x".into(), session: None, statement_digest: "y".into() };
    assert_eq!(terms.clone().agreed(consent).terms(), terms);
}

/// Authority's key 1, the launcher 2 and 3, its grant 4, and what comes after.
fn chain_of(rest: &[(&str, LedgerEvent)]) -> Writer {
    let chain = Meta {
        subject: Some("u_jane".into()),
        launcher: Some("web-chat".into()),
        correlation: Some("d-1".into()),
        grant: Some("g-1".into()),
        ..meta()
    };
    let mut log = Writer::default();
    log.say(&authority(), authority().kid(), &[introduce(&authority())])
        .say(&authority(), "web-chat", &[golden("LauncherRegistered")])
        .say(&authority(), "web-chat", &[rotated()])
        .say(&authority(), "g-1", &[issue(issued(grant_with(&[])))]);
    for (id, event) in rest {
        log.say_in(&authority(), id, std::slice::from_ref(event), &chain);
    }
    log
}

#[test]
fn a_proof_bundle_holds_the_grant_and_is_found_without_it() {
    let log = chain_of(&[("d-1", admitted("d-1", under("g-1", 4), &[]))]);
    let of = |seqs: &[u64]| custody_trust::proof::verify(&bundle_of(&log, seqs, 5, 5), &Demands::default());
    let proved = of(&[1, 2, 3, 4, 5]).unwrap();
    assert_eq!((proved.grant.as_deref(), proved.subject.as_deref()), (Some("g-1"), Some("u_jane")));
    for (seqs, seq, code) in [
        (&[1, 2, 3, 5][..], 5, "UNGRANTED"),
        (&[1, 2, 4, 5], 5, "UNGRANTED"),
        (&[1, 4, 5], 5, "UNGRANTED"),
        (&[1, 2, 3, 4], 5, "LINK_MISSING"),
    ] {
        let finding = of(seqs).expect_err("a part was left out");
        assert_eq!((finding.seq, finding.code), (seq, code), "{seqs:?}: {}", finding.message);
    }
    let wider = [("/unit/workspaces/0/id", json!("finance"))];
    let log = chain_of(&[("d-1", admitted("d-1", under("g-1", 4), &wider))]);
    let finding = custody_trust::proof::verify(&bundle_of(&log, &[1, 2, 3, 4, 5], 5, 5), &Demands::default());
    assert_eq!(finding.unwrap_err().code, "UNGRANTED", "a grant that does not cover it");
}

/// What a bundle cannot show: that nothing was left out. The whole log does.
#[test]
fn an_admission_after_a_revocation_is_found_when_the_revocation_is_there() {
    let log = chain_of(&[("g-1", revoke("g-1")), ("d-1", admitted("d-1", under("g-1", 4), &[]))]);
    let of = |seqs: &[u64]| custody_trust::proof::verify(&bundle_of(&log, seqs, 6, 6), &Demands::default());
    assert_eq!(of(&[1, 2, 3, 4, 5, 6]).unwrap_err().code, "UNGRANTED");
    assert!(of(&[1, 2, 3, 4, 6]).is_ok());
    assert_eq!(verify(&log.messages, &[]).unwrap_err().code, "UNGRANTED");
}
