//! Tables of given, when, then: each ceiling beside the honest dispatch that is nearest to it; and that attenuation only
//! ever shrinks.

use super::{Book, Facts, GrantCommand, GrantNo, Grants, any_consent, may_issue};
use crate::events::OfGrant;
use crate::launcher::LauncherState;
use crate::tests::{check, given};
use crate::workspace::WorkspaceState;
use custody_contracts::canonical::digest;
use custody_contracts::events::{DispatchEvent, EffectEvent, LauncherEvent, LedgerEvent};
use custody_contracts::grant::{Grant, GrantEvent, GrantIssued, GrantRequested, GrantRevoked, GrantTerms};
use custody_contracts::ids::{GrantId, UnixMillis};
use custody_contracts::unit::Invocation;
use custody_contracts::workspace::WorkspaceEvent;
use custody_trust::grant::{DEPTH_MAX, covers, narrower};
use nkeys::{KeyPair, KeyPairType};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// 2026-11-22T21:00:00Z.
pub(crate) const NOW: u64 = 1_795_381_200_000;
const DAY: u64 = 86_400_000;

fn key(seed: u8) -> String {
    KeyPair::new_from_raw(KeyPairType::User, [seed; 32]).unwrap().public_key()
}

fn at(ms: u64) -> String {
    UnixMillis(ms).rfc3339()
}

/// Terms of Jane's to the web chat, with changes at places.
fn terms_with(changes: &[(&str, Value)]) -> GrantTerms {
    let mut value = json!({
        "id": "g-1", "subject": "u_jane", "launcher": "integration:web-chat", "launcher_key": key(1),
        "tools": ["workspace_read", "workspace_list"],
        "workspaces": [{ "id": "notes", "mode": "rw" }, { "id": "org", "mode": "propose" }, { "id": "manual", "mode": "ro" }],
        "trigger": { "on": ["message", "event"] }, "constraints": [],
        "limits": { "dispatches": 3, "window_ms": 3_600_000 }, "approval": { "rule": "gated" },
        "not_before": at(NOW - DAY), "expires": at(NOW + 30 * DAY),
    });
    for (pointer, change) in changes {
        match value.pointer_mut(pointer) {
            Some(place) => *place = change.clone(),
            None => {
                let (parent, name) = pointer.rsplit_once('/').unwrap();
                value.pointer_mut(parent).unwrap()[name] = change.clone();
            }
        }
    }
    serde_json::from_value(value).unwrap()
}

fn issued(terms: GrantTerms, parent: Option<&str>) -> GrantIssued {
    let consent = any_consent(&terms);
    let statement = super::statement(&terms);
    let parent = parent.map(|id| GrantId::parse(id).unwrap());
    GrantIssued { grant: terms.agreed(consent), token: "a.b.c".into(), statement, parent, by: "t".into() }
}

/// A book that holds a grant of everything that the tests of admission ask for.
pub(crate) fn wide(subjects: &[&str], launchers: &[&str], launcher_key: &str) -> Book {
    let mut book = Book::default();
    let mut seq = 20;
    for subject in subjects {
        for launcher in launchers {
            seq += 1;
            let changes = [
                ("/id", json!(format!("g-{seq}"))),
                ("/subject", json!(subject)),
                ("/launcher", json!(launcher)),
                ("/launcher_key", json!(launcher_key)),
                ("/trigger/on", json!(["message", "scheduled", "event", "transcription"])),
                ("/limits/dispatches", json!(1_000)),
                ("/limits/per_dispatch", json!({ "turns": 100, "wall_ms": 60_000 })),
            ];
            let event = GrantEvent::Issued(Box::new(issued(terms_with(&changes), None)));
            book.take_in(seq, UnixMillis(NOW), &LedgerEvent::Grant(event));
        }
    }
    book
}

fn give(book: &mut Book, seq: u64, grant: GrantIssued) {
    book.take_in(seq, UnixMillis(NOW), &LedgerEvent::Grant(GrantEvent::Issued(Box::new(grant))));
}

fn revoke(book: &mut Book, id: &str) {
    let revoked = GrantRevoked { grant: GrantId::parse(id).unwrap(), by: "u_jane".into(), why: "lost".into() };
    book.take_in(99, UnixMillis(NOW), &LedgerEvent::Grant(GrantEvent::Revoked(revoked)));
}

fn unit(change: impl FnOnce(&mut Value)) -> Invocation {
    let mut value = json!({
        "identity": { "subject": "u_jane", "launcher": "integration:web-chat" }, "runner": "r",
        "workspaces": [{ "id": "notes", "mode": "rw" }], "tools": ["workspace_read"], "trigger": "message",
        "start": { "entrypoint": { "inline": "Hello." } },
    });
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

fn covered(book: &Book, asked: &Invocation, now: u64) -> Result<String, &'static str> {
    let found = book.cover(asked, &key(1), "d-asked", UnixMillis(now));
    found.map(|permit| permit.id().to_string()).map_err(|short| short.code)
}

fn admit(book: &mut Book, dispatch: &str, grant: &str, ms: u64) {
    let golden = crate::tests::golden(
        "DispatchAdmitted",
        &[("dispatch", json!(dispatch)), ("grant", json!({ "checked": { "id": grant, "seq": 5 } }))],
    );
    assert!(matches!(golden, LedgerEvent::Dispatch(DispatchEvent::Admitted(_))));
    book.take_in(50, UnixMillis(ms), &golden);
}

#[rstest]
#[case::another_person(|v: &mut Value| v["identity"]["subject"] = json!("u_john"), "GRANT_MISSING")]
#[case::another_launcher(|v: &mut Value| v["identity"]["launcher"] = json!("integration:mail"), "GRANT_MISSING")]
#[case::the_same_id_as_another_kind(|v: &mut Value| v["identity"]["launcher"] = json!("user:web-chat"), "GRANT_MISSING")]
#[case::a_trigger_that_is_not_granted(|v: &mut Value| v["trigger"] = json!("scheduled"), "GRANT_TRIGGER")]
#[case::a_tool_that_is_not_granted(|v: &mut Value| v["tools"] = json!(["workspace_read", "workspace_write"]), "GRANT_TOOL")]
#[case::a_workspace_that_is_not_granted(|v: &mut Value| v["workspaces"] = json!([{ "id": "finance", "mode": "ro" }]), "GRANT_WORKSPACE")]
#[case::writing_where_it_may_propose(|v: &mut Value| v["workspaces"] = json!([{ "id": "org", "mode": "rw" }]), "GRANT_MODE")]
#[case::proposing_where_it_may_read(|v: &mut Value| v["workspaces"] = json!([{ "id": "manual", "mode": "propose" }]), "GRANT_MODE")]
fn what_goes_beyond_a_ceiling_is_not_covered(#[case] change: fn(&mut Value), #[case] code: &str) {
    let mut book = Book::default();
    give(&mut book, 5, issued(terms_with(&[]), None));
    assert_eq!(covered(&book, &unit(|_| {}), NOW), Ok("g-1".into()), "the honest one beside it");
    assert_eq!(covered(&book, &unit(change), NOW), Err(code));
}

#[rstest]
#[case::reading_where_it_may_write(|v: &mut Value| v["workspaces"] = json!([{ "id": "notes", "mode": "ro" }]))]
#[case::proposing(|v: &mut Value| v["workspaces"] = json!([{ "id": "org", "mode": "propose" }, { "id": "manual", "mode": "ro" }]))]
#[case::no_tool(|v: &mut Value| v["tools"] = json!([]))]
#[case::an_event(|v: &mut Value| v["trigger"] = json!("event"))]
fn what_is_within_every_ceiling_is_covered(#[case] change: fn(&mut Value)) {
    let mut book = Book::default();
    give(&mut book, 5, issued(terms_with(&[]), None));
    assert_eq!(covered(&book, &unit(change), NOW), Ok("g-1".into()));
}

#[rstest]
#[case::one_milli_before_it_begins(NOW - DAY - 1, Err("GRANT_NOT_YET"))]
#[case::as_it_begins(NOW - DAY, Ok(()))]
#[case::one_milli_before_it_ends(NOW + 30 * DAY - 1, Ok(()))]
#[case::as_it_ends(NOW + 30 * DAY, Err("GRANT_EXPIRED"))]
fn a_grant_has_a_beginning_and_an_end(#[case] now: u64, #[case] expected: Result<(), &str>) {
    let mut book = Book::default();
    give(&mut book, 5, issued(terms_with(&[]), None));
    assert_eq!(covered(&book, &unit(|_| {}), now).map(|_| ()), expected);
}

#[rstest]
#[case::a_rule_that_nobody_can_show(json!({ "on": ["scheduled"], "cron": { "expr": "0 2 * * 0", "tz": "UTC" } }), "scheduled", Err("GRANT_TRIGGER"))]
#[case::any_schedule(json!({ "on": ["scheduled"] }), "scheduled", Ok(()))]
#[case::an_integration_of_another_name(json!({ "on": ["event"], "integration": "mail" }), "event", Err("GRANT_TRIGGER"))]
#[case::the_integration_itself(json!({ "on": ["event"], "integration": "web-chat" }), "event", Ok(()))]
fn a_trigger_pattern_binds(#[case] pattern: Value, #[case] trigger: &str, #[case] expected: Result<(), &str>) {
    let mut book = Book::default();
    give(&mut book, 5, issued(terms_with(&[("/trigger", pattern)]), None));
    let asked = unit(|v| v["trigger"] = json!(trigger));
    assert_eq!(covered(&book, &asked, NOW).map(|_| ()), expected);
}

#[test]
fn another_key_than_the_granted_one_is_refused() {
    let mut book = Book::default();
    give(&mut book, 5, issued(terms_with(&[]), None));
    let short = book.cover(&unit(|_| {}), &key(2), "d", UnixMillis(NOW)).unwrap_err();
    assert_eq!(short.code, "GRANT_KEY");
}

#[test]
fn the_window_slides_and_holds_at_its_maximum() {
    let mut book = Book::default();
    give(&mut book, 5, issued(terms_with(&[]), None));
    for (n, ms) in [(1, NOW), (2, NOW + 1_000), (3, NOW + 2_000)] {
        assert_eq!(covered(&book, &unit(|_| {}), ms), Ok("g-1".into()));
        admit(&mut book, &format!("d-{n}"), "g-1", ms);
        admit(&mut book, &format!("d-{n}"), "g-1", ms);
    }
    assert_eq!(covered(&book, &unit(|_| {}), NOW + 2_000), Err("GRANT_WINDOW"));
    assert!(book.room("g-1", "d-3", UnixMillis(NOW + 2_000)).is_ok(), "what is counted already is not one more");
    assert_eq!(covered(&book, &unit(|_| {}), NOW + 3_600_000 - 1), Err("GRANT_WINDOW"));
    assert_eq!(covered(&book, &unit(|_| {}), NOW + 3_600_000), Ok("g-1".into()));
}

#[test]
fn a_place_that_is_held_counts_until_it_is_given_back() {
    let mut book = Book::default();
    give(&mut book, 5, issued(terms_with(&[("/limits/dispatches", json!(1))]), None));
    book.reserve("g-1", "d-1", UnixMillis(NOW)).unwrap();
    assert_eq!(book.reserve("g-1", "d-2", UnixMillis(NOW)).unwrap_err().code, "GRANT_WINDOW");
    book.release("g-1", "d-1", UnixMillis(NOW));
    book.reserve("g-1", "d-2", UnixMillis(NOW)).unwrap();
    admit(&mut book, "d-2", "g-1", NOW);
    book.release("g-1", "d-2", UnixMillis(NOW));
    assert_eq!(
        book.reserve("g-1", "d-3", UnixMillis(NOW)).unwrap_err().code,
        "GRANT_WINDOW",
        "what was admitted stays"
    );
}

#[test]
fn who_read_the_clock_first_and_comes_last_finds_no_place_either() {
    let mut book = Book::default();
    give(&mut book, 5, issued(terms_with(&[("/limits/dispatches", json!(1))]), None));
    book.reserve("g-1", "d-1", UnixMillis(NOW + 1)).unwrap();
    assert_eq!(book.reserve("g-1", "d-2", UnixMillis(NOW)).unwrap_err().code, "GRANT_WINDOW");
    book.release("g-1", "d-1", UnixMillis(NOW + 1));
    book.reserve("g-1", "d-2", UnixMillis(NOW)).unwrap();
}

#[test]
fn a_budget_that_is_spent_covers_nothing_more() {
    let mut book = Book::default();
    give(&mut book, 5, issued(terms_with(&[("/limits/budget_micros", json!(100))]), None));
    admit(&mut book, "d-1", "g-1", NOW);
    let call = crate::tests::golden("ModelCalled", &[("dispatch", json!("d-1")), ("cost_micros", json!(99))]);
    assert!(matches!(call, LedgerEvent::Effect(EffectEvent::ModelCalled(_))));
    book.take_in(60, UnixMillis(NOW), &call);
    assert_eq!(covered(&book, &unit(|_| {}), NOW), Ok("g-1".into()));
    let more =
        crate::tests::golden("ModelCalled", &[("dispatch", json!("d-1")), ("n", json!(2)), ("cost_micros", json!(1))]);
    book.take_in(61, UnixMillis(NOW), &more);
    assert_eq!(covered(&book, &unit(|_| {}), NOW), Err("GRANT_BUDGET"));
    assert_eq!(covered(&book, &unit(|_| {}), NOW + 3_600_000), Ok("g-1".into()));
}

#[test]
fn of_several_the_first_one_that_covers_is_chosen_and_the_nearest_one_is_told() {
    let mut book = Book::default();
    give(
        &mut book,
        5,
        issued(terms_with(&[("/id", json!("g-a")), ("/workspaces", json!([{ "id": "x", "mode": "ro" }]))]), None),
    );
    give(&mut book, 6, issued(terms_with(&[("/id", json!("g-b"))]), None));
    give(&mut book, 7, issued(terms_with(&[("/id", json!("g-c"))]), None));
    assert_eq!(covered(&book, &unit(|_| {}), NOW), Ok("g-b".into()));
    revoke(&mut book, "g-b");
    assert_eq!(covered(&book, &unit(|_| {}), NOW), Ok("g-c".into()));
    revoke(&mut book, "g-c");
    let short = book.cover(&unit(|_| {}), &key(1), "d", UnixMillis(NOW)).unwrap_err();
    assert_eq!((short.code, short.detail.contains("g-a")), ("GRANT_WORKSPACE", true), "{short}");
}

#[test]
fn a_child_ends_with_its_parent_and_uses_its_windows() {
    let mut book = Book::default();
    give(&mut book, 5, issued(terms_with(&[("/limits/dispatches", json!(2))]), None));
    let narrow =
        terms_with(&[("/id", json!("g-2")), ("/limits/dispatches", json!(2)), ("/tools", json!(["workspace_read"]))]);
    give(&mut book, 6, issued(narrow, Some("g-1")));
    admit(&mut book, "d-1", "g-2", NOW);
    admit(&mut book, "d-2", "g-2", NOW);
    assert_eq!(book.room("g-1", "d-3", UnixMillis(NOW)).unwrap_err().code, "GRANT_WINDOW", "the parent's too");
    assert_eq!(book.standing("g-2", UnixMillis(NOW)).map(|h| h.seq).unwrap(), 6);
    revoke(&mut book, "g-1");
    let why = book.standing("g-2", UnixMillis(NOW)).unwrap_err();
    assert_eq!((why.code, why.detail.contains("g-2 was derived from")), ("GRANT_REVOKED", true), "{why}");
    let fallen: Vec<String> = book.fallen(UnixMillis(NOW)).into_iter().map(|(dispatch, ..)| dispatch).collect();
    assert_eq!(fallen, ["d-1", "d-2"]);
}

#[test]
fn a_dispatchs_limits_are_lowered_and_never_raised() {
    let mut book = Book::default();
    let each = json!({ "turns": 5, "wall_ms": 60_000, "tokens": 100 });
    give(&mut book, 5, issued(terms_with(&[("/limits/per_dispatch", each)]), None));
    let of = |limits: Value| {
        let asked = unit(|v| {
            if !limits.is_null() {
                v["limits"] = limits;
            }
        });
        let permit = book.cover(&asked, &key(1), "d", UnixMillis(NOW)).unwrap();
        serde_json::to_value(permit.into_limits()).unwrap()
    };
    assert_eq!(of(Value::Null), json!({ "wall_ms": 60_000, "tokens": 100 }), "a ceiling opens no box for more turns");
    assert_eq!(
        of(json!({ "turns": 9, "wall_ms": 5, "idle_ms": 7 })),
        json!({ "turns": 5, "wall_ms": 5, "idle_ms": 7, "tokens": 100 })
    );
}

/// A world in which the terms may be granted.
fn world() -> (LauncherState, BTreeMap<String, WorkspaceState>) {
    let registered = json!({
        "launcher": "web-chat", "public_key": key(1), "name": "Web chat", "signature": "required",
        "subjects": ["u_jane"], "by": "o",
    });
    let launcher =
        LauncherState::default().after(&LauncherEvent::Registered(serde_json::from_value(registered).unwrap()));
    let book = ["notes", "org", "manual"].into_iter().map(|id| {
        let event = json!({
            "workspace": { "id": id, "bucket": "file:///x", "mode": "rw", "encryption": { "scheme": "none" }, "purpose": "p", "trunk": "main" },
            "owner": "u_jane", "by": "o",
        });
        let event = WorkspaceEvent::Registered(serde_json::from_value(event).unwrap());
        (id.to_owned(), WorkspaceState::default().after(&event))
    });
    (launcher, book.collect())
}

fn judged(terms: &GrantTerms, parent: Option<&str>, book: &Book) -> Result<(), (&'static str, String)> {
    let (launcher, workspaces) = world();
    let facts = Facts { launcher: &launcher, workspaces: &workspaces, grants: book, now: UnixMillis(NOW) };
    let parent = parent.map(|id| GrantId::parse(id).unwrap());
    let consent = parent.as_ref().and_then(|id| book.document(id.as_str())).map(|grant| grant.consent.clone());
    let consent = consent.unwrap_or_else(|| any_consent(terms));
    may_issue(terms, &consent, parent.as_ref(), facts).map_err(|no| (no.code, no.detail))
}

#[rstest]
#[case::honest(&[], Ok(()))]
#[case::with_another_key(&[("/launcher_key", json!(key(2)))], Err("GRANT_KEY"))]
#[case::by_somebody_it_may_not_act_for(&[("/subject", json!("u_john"))], Err("SUBJECT_NOT_ALLOWED"))]
#[case::of_a_workspace_of_nobody(&[("/workspaces", json!([{ "id": "nowhere", "mode": "ro" }]))], Err("WORKSPACE_UNKNOWN"))]
#[case::of_session_files(&[("/workspaces", json!([{ "id": "sys-u_jane", "mode": "ro" }]))], Err("WORKSPACE_FORBIDDEN"))]
#[case::of_one_workspace_twice(&[("/workspaces", json!([{ "id": "notes", "mode": "ro" }, { "id": "notes", "mode": "rw" }]))], Err("GRANT_INVALID"))]
#[case::that_ends_before_it_begins(&[("/expires", json!(at(NOW - 2 * DAY)))], Err("GRANT_INVALID"))]
#[case::that_has_ended(&[("/expires", json!(at(NOW)))], Err("GRANT_EXPIRED"))]
#[case::of_ninety_days(&[("/not_before", json!(at(NOW))), ("/expires", json!(at(NOW + 90 * DAY)))], Ok(()))]
#[case::of_a_milli_more(&[("/not_before", json!(at(NOW))), ("/expires", json!(at(NOW + 90 * DAY + 1)))], Err("GRANT_TOO_LONG"))]
#[case::with_a_zone(&[("/expires", json!("2026-12-01T00:00:00+01:00"))], Err("GRANT_INVALID"))]
#[case::of_nothing(&[("/trigger/on", json!([]))], Err("GRANT_INVALID"))]
#[case::too_large(&[("/tools", json!((0..64).map(|n| format!("t{n}-{}", "x".repeat(120))).collect::<Vec<_>>()))], Err("GRANT_TOO_LARGE"))]
fn nobody_gives_what_they_have_not(#[case] changes: &[(&str, Value)], #[case] expected: Result<(), &str>) {
    let found = judged(&terms_with(changes), None, &Book::default());
    assert_eq!(found.map_err(|(code, _)| code), expected);
}

#[test]
fn consent_is_to_the_words_that_were_shown() {
    let (launcher, workspaces) = world();
    let book = Book::default();
    let facts = Facts { launcher: &launcher, workspaces: &workspaces, grants: &book, now: UnixMillis(NOW) };
    let (shown, given) = (terms_with(&[]), terms_with(&[("/workspaces/2/mode", json!("rw"))]));
    assert_eq!(may_issue(&given, &any_consent(&shown), None, facts).unwrap_err().code, "CONSENT_STATEMENT");
    assert_eq!(may_issue(&given, &any_consent(&given), None, facts), Ok(()));
    let words = super::statement(&given);
    assert!(words.contains("manual as rw") && words.contains("u_jane lets integration:web-chat"), "{words}");
    assert_eq!(digest(words.as_bytes()), any_consent(&given).statement_digest);
}

#[rstest]
#[case::a_tool(&[("/tools", json!(["workspace_write"]))], "tools")]
#[case::a_workspace(&[("/workspaces", json!([{ "id": "finance", "mode": "ro" }]))], "workspaces")]
#[case::a_mode(&[("/workspaces/2/mode", json!("propose"))], "workspaces")]
#[case::a_trigger(&[("/trigger/on", json!(["message", "scheduled"]))], "trigger")]
#[case::more_dispatches(&[("/limits/dispatches", json!(4))], "limits")]
#[case::as_many_in_a_shorter_window(&[("/limits/window_ms", json!(60_000))], "limits")]
#[case::no_budget(&[("/limits/budget_micros", Value::Null)], "limits")]
#[case::a_larger_ceiling(&[("/limits/per_dispatch", json!({ "turns": 6 }))], "limits")]
#[case::no_ceiling(&[("/limits/per_dispatch", Value::Null)], "limits")]
#[case::less_approval(&[("/approval/rule", json!("irreversible"))], "approval")]
#[case::another_approver(&[("/approval/approvers", json!(["u_john"]))], "approval")]
#[case::no_rule_for_an_argument(&[("/constraints", json!([]))], "constraints")]
#[case::a_wider_rule(&[("/constraints/0/allow", json!(["*@acme.test", "*@else.test"]))], "constraints")]
#[case::earlier(&[("/not_before", json!(at(NOW - 2 * DAY)))], "not_before")]
#[case::later(&[("/expires", json!(at(NOW + 31 * DAY)))], "expires")]
#[case::another_launcher(&[("/launcher", json!("user:web-chat"))], "launcher")]
#[case::another_person(&[("/subject", json!("u_john"))], "subject")]
#[case::another_key(&[("/launcher_key", json!(key(2)))], "launcher_key")]
fn attenuation_names_the_respect_in_which_it_would_be_wider(#[case] changes: &[(&str, Value)], #[case] axis: &str) {
    let parent = terms_with(&[
        ("/limits/budget_micros", json!(100)),
        ("/limits/per_dispatch", json!({ "turns": 5 })),
        ("/approval/rule", json!("writes")),
        ("/constraints", json!([{ "on": "recipient", "argument": "/to", "allow": ["*@acme.test"] }])),
    ]);
    let mut value = serde_json::to_value(&parent).unwrap();
    assert!(narrower(&parent, &issued(parent.clone(), None).grant).is_ok(), "equal terms are within");
    for (pointer, change) in changes {
        let (above, name) = pointer.rsplit_once('/').unwrap();
        let place = value.pointer_mut(above).unwrap();
        match (change, place) {
            (Value::Null, Value::Object(map)) => drop(map.remove(name)),
            (change, Value::Object(map)) => drop(map.insert(name.to_owned(), change.clone())),
            (_, other) => panic!("{other}"),
        }
    }
    let wanted: GrantTerms = serde_json::from_value(value).unwrap();
    assert_eq!(narrower(&wanted, &issued(parent, None).grant).unwrap_err().axis, axis);
}

#[test]
fn a_wider_child_is_refused_and_its_parent_must_stand() {
    let mut book = Book::default();
    give(&mut book, 5, issued(terms_with(&[]), None));
    let child = |changes: &[(&str, Value)]| terms_with(&[&[("/id", json!("g-2"))], changes].concat());
    assert_eq!(judged(&child(&[]), Some("g-1"), &book), Ok(()));
    let (code, detail) = judged(&child(&[("/tools", json!(["workspace_write"]))]), Some("g-1"), &book).unwrap_err();
    assert_eq!((code, detail.starts_with("tools: workspace_write")), ("GRANT_WIDER", true), "{detail}");
    assert_eq!(judged(&child(&[]), Some("g-9"), &book).unwrap_err().0, "GRANT_MISSING");
    revoke(&mut book, "g-1");
    assert_eq!(judged(&child(&[]), Some("g-1"), &book).unwrap_err().0, "GRANT_REVOKED");
}

#[test]
fn a_line_of_grants_has_an_end() {
    let mut book = Book::default();
    give(&mut book, 1, issued(terms_with(&[]), None));
    for n in 2..=DEPTH_MAX {
        let terms = terms_with(&[("/id", json!(format!("g-{n}")))]);
        assert_eq!(judged(&terms, Some(&format!("g-{}", n - 1)), &book), Ok(()));
        let consent = book.document("g-1").unwrap().consent.clone();
        let mut next = issued(terms, Some(&format!("g-{}", n - 1)));
        next.grant.consent = consent;
        give(&mut book, n as u64, next);
    }
    let last = format!("g-{}", DEPTH_MAX);
    let beyond = terms_with(&[("/id", json!("g-beyond"))]);
    assert_eq!(judged(&beyond, Some(&last), &book).unwrap_err().0, "GRANT_DEPTH");
}

#[test]
fn so_many_grants_of_one_pair_stand_and_no_more() {
    let mut book = Book::default();
    for n in 0..super::STANDING_MAX {
        let terms = terms_with(&[("/id", json!(format!("g-{n}")))]);
        assert_eq!(judged(&terms, None, &book), Ok(()));
        give(&mut book, n as u64 + 1, issued(terms, None));
    }
    let one_more = terms_with(&[("/id", json!("g-more"))]);
    assert_eq!(judged(&one_more, None, &book).unwrap_err().0, "GRANT_TOO_MANY");
    revoke(&mut book, "g-0");
    assert_eq!(judged(&one_more, None, &book), Ok(()));
}

fn of(event: GrantEvent) -> OfGrant {
    OfGrant(event)
}

fn is_issued(changes: &[(&str, Value)]) -> OfGrant {
    of(GrantEvent::Issued(Box::new(issued(terms_with(changes), None))))
}

fn is_requested(changes: &[(&str, Value)]) -> OfGrant {
    let asked = GrantRequested { wanted: terms_with(changes), by: "u_omar".into(), why: "w".into() };
    of(GrantEvent::Requested(Box::new(asked)))
}

fn is_revoked() -> OfGrant {
    let revoked = GrantRevoked { grant: GrantId::parse("g-1").unwrap(), by: "u_jane".into(), why: "w".into() };
    of(GrantEvent::Revoked(revoked))
}

fn to(event: OfGrant) -> GrantCommand {
    match event.0 {
        GrantEvent::Requested(e) => GrantCommand::Request(e),
        GrantEvent::Issued(e) => GrantCommand::Issue(e),
        GrantEvent::Refused(e) => GrantCommand::Refuse(e),
        GrantEvent::Revoked(e) => GrantCommand::Revoke(e),
    }
}

#[rstest]
#[case::request(&[], is_requested(&[]), Ok(vec![is_requested(&[])]))]
#[case::request_again(&[is_requested(&[])], is_requested(&[]), Ok(vec![]))]
#[case::request_other_terms(&[is_requested(&[])], is_requested(&[("/tools", json!([]))]), Err(GrantNo::Differs("g-1".into())))]
#[case::issue(&[], is_issued(&[]), Ok(vec![is_issued(&[])]))]
#[case::issue_what_was_asked_for(&[is_requested(&[])], is_issued(&[]), Ok(vec![is_issued(&[])]))]
#[case::issue_other_terms_than_asked_for(&[is_requested(&[])], is_issued(&[("/tools", json!([]))]), Err(GrantNo::Differs("g-1".into())))]
#[case::issue_again(&[is_issued(&[])], is_issued(&[]), Ok(vec![]))]
#[case::issue_again_after_it_was_revoked(&[is_issued(&[]), is_revoked()], is_issued(&[]), Ok(vec![]))]
#[case::issue_other_terms(&[is_issued(&[])], is_issued(&[("/tools", json!([]))]), Err(GrantNo::Exists("g-1".into())))]
#[case::revoke(&[is_issued(&[])], is_revoked(), Ok(vec![is_revoked()]))]
#[case::revoke_twice(&[is_issued(&[]), is_revoked()], is_revoked(), Ok(vec![]))]
#[case::revoke_what_was_only_asked_for(&[is_requested(&[])], is_revoked(), Err(GrantNo::Unknown("g-1".into())))]
#[case::revoke_nothing(&[], is_revoked(), Err(GrantNo::Unknown("g-1".into())))]
fn decide(#[case] history: &[OfGrant], #[case] command: OfGrant, #[case] expected: Result<Vec<OfGrant>, GrantNo>) {
    check::<Grants>(history, to(command), expected);
}

fn any_terms() -> impl Strategy<Value = GrantTerms> {
    let tools = prop::sample::subsequence(vec!["workspace_read", "workspace_list", "workspace_write"], 0..=3);
    let mode = prop::sample::select(vec!["ro", "propose", "rw"]);
    let on = prop::sample::subsequence(vec!["message", "scheduled", "event"], 1..=3);
    let spaces = (prop::sample::subsequence(vec!["notes", "org"], 1..=2), mode);
    (tools, spaces, on, 1u64..4, 0u64..4, 1u64..4).prop_map(|(tools, (ids, mode), on, dispatches, begins, lasts)| {
        let workspaces: Vec<Value> = ids.iter().map(|id| json!({ "id": id, "mode": mode })).collect();
        terms_with(&[
            ("/tools", json!(tools)),
            ("/workspaces", json!(workspaces)),
            ("/trigger/on", json!(on)),
            ("/limits/dispatches", json!(dispatches)),
            ("/not_before", json!(at(NOW + begins * DAY))),
            ("/expires", json!(at(NOW + (begins + lasts) * DAY))),
        ])
    })
}

fn any_unit() -> impl Strategy<Value = (Invocation, u64)> {
    let tools = prop::sample::subsequence(vec!["workspace_read", "workspace_list", "workspace_write"], 0..=2);
    let place = (prop::sample::select(vec!["notes", "org"]), prop::sample::select(vec!["ro", "propose", "rw"]));
    let trigger = prop::sample::select(vec!["message", "scheduled", "event"]);
    (tools, place, trigger, 0u64..8).prop_map(|(tools, (id, mode), trigger, day)| {
        let unit = unit(|v| {
            v["tools"] = json!(tools);
            v["workspaces"] = json!([{ "id": id, "mode": mode }]);
            v["trigger"] = json!(trigger);
        });
        (unit, NOW + day * DAY)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_a_narrower_grant_covers_its_parent_covers(child in any_terms(), parent in any_terms(), asked in any_unit()) {
        let parent: Grant = issued(parent, None).grant;
        let child_grant: Grant = issued(child.clone(), None).grant;
        let (unit, now) = asked;
        if narrower(&child, &parent).is_ok() && covers(&child_grant, &unit, &key(1), UnixMillis(now)).is_ok() {
            prop_assert!(covers(&parent, &unit, &key(1), UnixMillis(now)).is_ok());
        }
    }

    #[test]
    fn a_grant_is_issued_once_and_never_comes_back(which in prop::collection::vec(0u8..3, 0..20)) {
        let commands = which.into_iter().map(|n| to(match n {
            0 => is_requested(&[]),
            1 => is_issued(&[]),
            _ => is_revoked(),
        })).collect();
        let events = crate::tests::carried_out::<Grants>(commands);
        let count = |wanted: fn(&GrantEvent) -> bool| events.iter().filter(|e| wanted(&e.0)).count();
        prop_assert!(count(|e| matches!(e, GrantEvent::Issued(_))) <= 1);
        prop_assert!(count(|e| matches!(e, GrantEvent::Revoked(_))) <= 1);
        let state = given::<Grants>(&events);
        prop_assert!(state.revoked().is_none() || state.issued().is_some());
    }
}
