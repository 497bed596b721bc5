//! Tables of given, when, then: each refusal beside the honest launch that is nearest to it.

use super::{
    CLOCK_SKEW_MS_MAX, Grants, Installed, Mounts, Permit, Refusal, RunnerEntry, UNIT_BYTES_MAX, dispatch_id, event_id,
    judge, launch_ref, read,
};
use crate::grant::Book;
use crate::grant::tests::wide;
use crate::launcher::LauncherState;
use crate::tests::documents;
use crate::workspace::WorkspaceState;
use custody_contracts::canonical::{canonical, digest};
use custody_contracts::envelope::{MESSAGE_BYTES_MAX, Meta};
use custody_contracts::events::{
    DispatchAdmitted, DispatchEvent, GrantCheck, GrantUse, LauncherDisabled, LauncherEvent, LauncherRegistered,
    LedgerEvent, Role, RunnerRef, SignatureCheck, SignatureRule,
};
use custody_contracts::ids::{GrantId, LauncherId, RunnerName, UnixMillis};
use custody_contracts::launch::BYTES_MAX;
use custody_contracts::workspace::WorkspaceEvent;
use custody_trust::{RoleKey, launch};
use nkeys::{KeyPair, KeyPairType};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// 2026-11-22T21:00:00Z.
const STORED_AT: u64 = 1_795_381_200_000;

fn key(seed: u8) -> KeyPair {
    KeyPair::new_from_raw(KeyPairType::User, [seed; 32]).unwrap()
}

fn launcher() -> LauncherId {
    LauncherId::parse("web-chat").unwrap()
}

/// Everything that a judgement depends on. The default one is honest, and is admitted.
struct World {
    event: Map<String, Value>,
    /// Changes the event after it was signed.
    after_signing: fn(&mut Map<String, Value>),
    signed_by: Option<u8>,
    /// Instead of the event.
    raw: Option<Vec<u8>>,
    rule: SignatureRule,
    subjects: Vec<String>,
    registered: bool,
    disabled: bool,
    granted: bool,
    runner: bool,
    stored_at: u64,
}

impl World {
    fn honest() -> World {
        let event = json!({
            "specversion": "1.0", "id": "m-1", "source": "launcher/web-chat", "type": "custody.launch.dispatch.v1",
            "time": "2026-11-22T21:00:00Z", "datacontenttype": "application/json",
            "dataschema": "custody:unit.v1#/$defs/Invocation",
            "data": {
                "identity": { "subject": "u_jane", "launcher": "integration:web-chat" },
                "runner": "claude-code", "workspaces": [{ "id": "notes", "mode": "rw" }], "tools": [],
                "trigger": "message", "start": { "entrypoint": { "inline": "Summarise my open tasks." } },
            },
        });
        World {
            event: event.as_object().unwrap().clone(),
            after_signing: |_| {},
            signed_by: Some(1),
            raw: None,
            rule: SignatureRule::Required,
            subjects: vec!["u_jane".into()],
            registered: true,
            disabled: false,
            granted: true,
            runner: true,
            stored_at: STORED_AT,
        }
    }

    fn with(change: impl FnOnce(&mut World)) -> World {
        let mut world = World::honest();
        change(&mut world);
        world
    }

    fn bytes(&self) -> Vec<u8> {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        let mut event = self.event.clone();
        if let Some(seed) = self.signed_by {
            launch::sign(&mut event, &key(seed)).unwrap();
        }
        (self.after_signing)(&mut event);
        serde_json::to_vec(&event).unwrap()
    }

    /// Its bytes with a part of them replaced after they were signed.
    fn replaced(&mut self, from: &str, to: &str) {
        let text = String::from_utf8(self.bytes()).unwrap();
        assert!(text.contains(from), "{text}");
        self.raw = Some(text.replacen(from, to, 1).into_bytes());
    }

    fn launcher(&self) -> LauncherState {
        let mut state = LauncherState::default();
        if self.registered {
            state = state.after(&LauncherEvent::Registered(LauncherRegistered {
                launcher: launcher(),
                public_key: key(1).public_key(),
                name: "Web chat".into(),
                signature: self.rule,
                subjects: self.subjects.clone(),
                by: "operator:cli".into(),
            }));
        }
        if self.disabled {
            let why = "lost its key".to_owned();
            state =
                state.after(&LauncherEvent::Disabled(LauncherDisabled { launcher: launcher(), by: "o".into(), why }));
        }
        state
    }

    fn grants(&self) -> Book {
        // Whoever is asked for has given what is asked for: another rule has to say no.
        let named = self.event.get("data").and_then(|data| data["identity"]["subject"].as_str()).unwrap_or_default();
        let named = custody_contracts::ids::Subject::parse(named).map_or("u_john", |_| named);
        let subjects: &[&str] = if self.granted { &["u_jane", named] } else { &[] };
        wide(subjects, &["integration:web-chat", "user:web-chat"], &key(1).public_key())
    }

    fn judged(&self) -> Result<DispatchAdmitted, Refusal> {
        let bytes = self.bytes();
        let id = event_id(&bytes);
        let dispatch = dispatch_id(&launcher(), id.as_deref(), &bytes);
        let origin = launch_ref(7, &launcher(), id.as_deref(), &bytes);
        let runner = self.runner.then(|| RunnerEntry { runner: runner() });
        let asked = read(&bytes)?;
        judge(
            dispatch,
            origin,
            UnixMillis(self.stored_at),
            asked,
            &self.launcher(),
            Installed {
                mounts: Mounts::Registered(&book()),
                grants: Grants::Given(&self.grants(), UnixMillis(STORED_AT)),
                tools: &tools(),
                runner: runner.as_ref(),
            },
        )
        .map(Permit::into_event)
    }
}

fn tools() -> BTreeSet<String> {
    crate::tool::Tools::builtin().names().map(str::to_owned).chain(["mail__send".to_owned()]).collect()
}

/// Workspaces: everybody's, everybody's to read, one that Jane may propose to, and one that she may not see.
fn book() -> BTreeMap<String, WorkspaceState> {
    let registered = |id: &str, mode: &str, owner: &str, members: Value| {
        let event = serde_json::from_value(json!({
            "workspace": {
                "id": id, "bucket": "file:///b", "mode": mode, "encryption": { "scheme": "none" }, "purpose": "p",
                "trunk": "main",
            },
            "owner": owner, "members": members, "by": "t",
        }));
        (id.to_owned(), WorkspaceState::default().after(&WorkspaceEvent::Registered(event.unwrap())))
    };
    BTreeMap::from([
        registered("notes", "rw", "*", json!([])),
        registered("manual", "ro", "*", json!([])),
        registered("org", "rw", "u_omar", json!([{ "subject": "u_jane", "mode": "propose" }])),
        registered("finance", "rw", "u_omar", json!([])),
    ])
}

fn mount(world: &mut World, id: &str, mode: &str) {
    world.event["data"]["workspaces"] = json!([{ "id": id, "mode": mode }]);
}

fn runner() -> RunnerRef {
    let name = RunnerName::parse("claude-code").unwrap();
    RunnerRef::plain(name, "2.1.197", format!("sha256:{}", "05".repeat(32)))
}

/// The first of each pair is refused with the code, the second, as near to it as can be, is admitted.
#[track_caller]
fn check(refused: impl FnOnce(&mut World), admitted: impl FnOnce(&mut World), code: &str, says: &str) {
    let refusal = World::with(refused).judged().expect_err("it was admitted");
    assert_eq!(refusal.code, code, "{refusal:?}");
    assert!(refusal.detail.contains(says), "{}", refusal.detail);
    assert!(!refusal.hint.is_empty() && refusal.detail.chars().count() <= 1_000);
    if let Err(refusal) = World::with(admitted).judged() {
        panic!("the honest one was refused: {refusal:?}");
    }
}

type Change = fn(&mut World);
const NOTHING: Change = |_: &mut World| {};

fn padded(world: &mut World, bytes: usize) {
    let mut message = world.bytes();
    message.resize(bytes, b' ');
    world.raw = Some(message);
}

fn start(world: &mut World, start: Value) {
    world.event["data"]["start"] = start;
}

/// A prompt that makes the unit's canonical JSON so many bytes long.
fn unit_of(world: &mut World, bytes: usize) {
    start(world, json!({ "entrypoint": { "inline": "" } }));
    let without = canonical(&world.event["data"]).len();
    start(world, json!({ "entrypoint": { "inline": "x".repeat(bytes - without) } }));
}

#[rstest]
#[case::one_byte_too_long(|w: &mut World| padded(w, BYTES_MAX + 1), |w: &mut World| padded(w, BYTES_MAX), "MESSAGE_TOO_LARGE", "65537 bytes")]
#[case::a_unit_too_long(|w: &mut World| unit_of(w, UNIT_BYTES_MAX + 1), |w: &mut World| unit_of(w, UNIT_BYTES_MAX), "MESSAGE_TOO_LARGE", "the unit has 61185 bytes")]
#[case::empty(|w: &mut World| w.raw = Some(vec![]), NOTHING, "NOT_JSON", "not JSON")]
#[case::cut_off(|w: &mut World| { let b = w.bytes(); w.raw = Some(b[..b.len() - 1].to_vec()); }, |w: &mut World| w.raw = Some(w.bytes()), "NOT_JSON", "not JSON")]
#[case::not_utf8(|w: &mut World| w.raw = Some(vec![0xff, 0xfe]), NOTHING, "NOT_JSON", "not JSON")]
#[case::t26_a_member_twice(|w: &mut World| w.raw = Some([br#"{"id":"m-other","#.as_slice(), &w.bytes()[1..]].concat()), |w: &mut World| w.raw = Some(w.bytes()), "NOT_JSON", "occurs twice")]
#[case::t26_a_member_twice_below(|w: &mut World| w.replaced("\"identity\":{", "\"identity\":{\"subject\":\"u_omar\","), NOTHING, "NOT_JSON", "occurs twice")]
#[case::t26_a_member_twice_by_an_escape(|w: &mut World| w.replaced("\"identity\":{", "\"identity\":{\"subj\\u0065ct\":\"u_omar\","), NOTHING, "NOT_JSON", "occurs twice")]
#[case::t26_a_second_document(|w: &mut World| w.raw = Some(w.bytes().repeat(2)), |w: &mut World| w.raw = Some(w.bytes()), "NOT_JSON", "trailing")]
#[case::t26_a_byte_order_mark(|w: &mut World| w.raw = Some(["\u{feff}".as_bytes(), &w.bytes()].concat()), NOTHING, "NOT_JSON", "not JSON")]
#[case::t26_utf_16(|w: &mut World| w.raw = Some(String::from_utf8(w.bytes()).unwrap().encode_utf16().flat_map(u16::to_le_bytes).collect()), NOTHING, "NOT_JSON", "not JSON")]
#[case::t26_packed(|w: &mut World| w.raw = Some(vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]), NOTHING, "NOT_JSON", "not JSON")]
#[case::no_event(|w: &mut World| w.raw = Some(b"{}".to_vec()), NOTHING, "NOT_CLOUDEVENT", "not a CloudEvent")]
#[case::a_batch(|w: &mut World| w.raw = Some([b"[".as_slice(), &w.bytes(), b"]"].concat()), NOTHING, "NOT_CLOUDEVENT", "not one JSON object")]
#[case::another_specversion(|w: &mut World| w.event["specversion"] = json!("0.3"), NOTHING, "NOT_CLOUDEVENT", "not a CloudEvent")]
#[case::a_header_as_attribute(|w: &mut World| { w.event.insert("Nats-Rollup".into(), json!("all")); }, |w: &mut World| { w.event.insert("natsrollup".into(), json!("all")); }, "NOT_CLOUDEVENT", "Nats-Rollup")]
#[case::an_id_too_long(|w: &mut World| w.event["id"] = json!("i".repeat(257)), |w: &mut World| w.event["id"] = json!("i".repeat(256)), "NOT_CLOUDEVENT", "1 to 256")]
#[case::without_data(|w: &mut World| { w.event.remove("data"); }, NOTHING, "NO_DATA", "no JSON data")]
#[case::another_type(|w: &mut World| w.event["type"] = json!("custody.launch.stop.v1"), NOTHING, "TYPE_UNKNOWN", "custody.launch.stop.v1")]
#[case::another_version_of_the_type(|w: &mut World| w.event["type"] = json!("custody.launch.dispatch.v2"), NOTHING, "TYPE_UNKNOWN", "dispatch.v2")]
#[case::an_event_of_before(|w: &mut World| w.event["type"] = json!("custody.event.created.v1"), NOTHING, "TYPE_RETIRED", "custody.event.created.v1")]
#[case::a_task_of_before(|w: &mut World| w.event["type"] = json!("custody.task.created.v1"), NOTHING, "TYPE_RETIRED", "custody.task.created.v1")]
#[case::a_schema_of_others(|w: &mut World| w.event["dataschema"] = json!("https://example.org/unit"), |w: &mut World| { w.event.remove("dataschema"); }, "CONTRACT_UNKNOWN", "not ours")]
#[case::a_contract_of_nobody(|w: &mut World| w.event["dataschema"] = json!("custody:invoice.v1#/$defs/Invoice"), NOTHING, "CONTRACT_UNKNOWN", "invoice.v1")]
#[case::another_contract(|w: &mut World| w.event["dataschema"] = json!("custody:effect.v1#/$defs/Effect"), NOTHING, "CONTRACT_UNKNOWN", "effect.v1")]
#[case::a_retired_contract(|w: &mut World| w.event["dataschema"] = json!("custody:event.v1#/$defs/Event"), NOTHING, "CONTRACT_RETIRED", "use schedule.v1")]
#[case::a_version_to_come(|w: &mut World| w.event["dataschema"] = json!("custody:unit.v2#/$defs/Invocation"), NOTHING, "CONTRACT_VERSION_UNKNOWN", "unit.v1 does")]
#[case::an_unknown_field(|w: &mut World| w.event["data"]["priority"] = json!(1), NOTHING, "UNIT_INVALID", "priority")]
#[case::an_unknown_field_inside(|w: &mut World| w.event["data"]["identity"]["mail"] = json!("j"), NOTHING, "UNIT_INVALID", "/identity")]
#[case::no_runner(|w: &mut World| { w.event["data"].as_object_mut().unwrap().remove("runner"); }, NOTHING, "UNIT_INVALID", "(required)")]
#[case::no_workspace(|w: &mut World| w.event["data"]["workspaces"] = json!([]), NOTHING, "UNIT_INVALID", "/workspaces")]
#[case::a_subject_of_ten_kilobytes(|w: &mut World| w.event["data"]["identity"]["subject"] = json!("u".repeat(10_240)), |w: &mut World| { w.event["data"]["identity"]["subject"] = json!("u".repeat(128)); w.subjects = vec!["u".repeat(128)]; }, "UNIT_INVALID", "/identity/subject")]
#[case::two_starts(|w: &mut World| start(w, json!({ "entrypoint": { "inline": "x" }, "session": { "ref": "s-1" } })), |w: &mut World| start(w, json!({ "session": { "ref": "s-1" } })), "UNIT_INVALID", "oneOf")]
#[case::a_path_that_climbs(|w: &mut World| start(w, json!({ "entrypoint": { "path": "../secret" } })), |w: &mut World| start(w, json!({ "entrypoint": { "path": "plans/week.md" } })), "UNIT_INVALID", "/start/entrypoint/path")]
#[case::a_whole_number_with_a_point(|w: &mut World| w.event["data"]["limits"] = json!({ "turns": 1.5 }), |w: &mut World| w.event["data"]["limits"] = json!({ "turns": 1 }), "UNIT_INVALID", "/limits/turns")]
fn a_message_that_is_no_launch_is_refused(
    #[case] refused: Change,
    #[case] admitted: Change,
    #[case] code: &str,
    #[case] says: &str,
) {
    check(refused, admitted, code, says);
}

fn stored_at(world: &mut World, skew_ms: i64) {
    world.stored_at = STORED_AT.checked_add_signed(skew_ms).unwrap();
}
const TWO_DAYS: i64 = 2 * 86_400_000;

#[rstest]
#[case::nobody_knows_it(|w: &mut World| w.registered = false, NOTHING, "LAUNCHER_UNKNOWN", "web-chat is not registered")]
#[case::it_is_disabled(|w: &mut World| w.disabled = true, NOTHING, "LAUNCHER_DISABLED", "lost its key")]
#[case::it_must_sign(|w: &mut World| w.signed_by = None, |w: &mut World| { w.signed_by = None; w.rule = SignatureRule::Optional; }, "SIGNATURE_MISSING", "must sign")]
#[case::signed_by_another(|w: &mut World| w.signed_by = Some(2), NOTHING, "SIGNATURE_FORGED", "not one of launcher web-chat's key")]
#[case::a_bad_signature_also_where_none_is_needed(|w: &mut World| { w.signed_by = Some(2); w.rule = SignatureRule::Optional; }, |w: &mut World| w.rule = SignatureRule::Optional, "SIGNATURE_FORGED", "signature")]
#[case::changed_after_it_was_signed(|w: &mut World| w.after_signing = |e| e["data"]["runner"] = json!("other"), NOTHING, "SIGNATURE_FORGED", "over this message")]
#[case::another_person_after_it_was_signed(|w: &mut World| { w.after_signing = |e| e["data"]["identity"]["subject"] = json!("u_john"); w.subjects = vec!["*".into()]; }, |w: &mut World| w.subjects = vec!["*".into()], "SIGNATURE_FORGED", "signature")]
#[case::a_signature_without_its_key(|w: &mut World| w.after_signing = |e| { e.remove("keyid"); }, NOTHING, "SIGNATURE_FORGED", "signature")]
#[case::one_milli_too_early(|w: &mut World| stored_at(w, -CLOCK_SKEW_MS_MAX - 1), |w: &mut World| stored_at(w, -CLOCK_SKEW_MS_MAX), "CLOCK_SKEW", "ahead of")]
#[case::one_milli_too_late(|w: &mut World| stored_at(w, CLOCK_SKEW_MS_MAX + 1), |w: &mut World| stored_at(w, CLOCK_SKEW_MS_MAX), "CLOCK_SKEW", "behind")]
#[case::two_days_early(|w: &mut World| stored_at(w, -TWO_DAYS), NOTHING, "CLOCK_SKEW", "172800 s ahead of")]
#[case::two_days_late(|w: &mut World| stored_at(w, TWO_DAYS), |w: &mut World| { stored_at(w, TWO_DAYS); w.event.remove("time"); }, "CLOCK_SKEW", "172800 s behind")]
#[case::before_the_epoch(|w: &mut World| w.event["time"] = json!("1900-01-01T00:00:00Z"), |w: &mut World| w.event["time"] = json!("2026-11-22T22:00:00+01:00"), "CLOCK_SKEW", "behind")]
#[case::at_the_end_of_time(|w: &mut World| w.stored_at = u64::MAX, NOTHING, "CLOCK_SKEW", "behind")]
#[case::for_another_person(|w: &mut World| w.event["data"]["identity"]["subject"] = json!("u_john"), |w: &mut World| { w.event["data"]["identity"]["subject"] = json!("u_john"); w.subjects.push("u_john".into()); }, "SUBJECT_NOT_ALLOWED", "may not act for u_john")]
#[case::for_a_person_of_another_case(|w: &mut World| w.event["data"]["identity"]["subject"] = json!("U_jane"), NOTHING, "SUBJECT_NOT_ALLOWED", "U_jane")]
#[case::for_nobody(|w: &mut World| w.subjects.clear(), |w: &mut World| w.subjects = vec!["*".into()], "SUBJECT_NOT_ALLOWED", "may not act")]
#[case::in_another_launchers_name(|w: &mut World| w.event["data"]["identity"]["launcher"] = json!("integration:mail"), |w: &mut World| w.event["data"]["identity"]["launcher"] = json!("user:web-chat"), "LAUNCHER_MISMATCH", "the account boundary says web-chat")]
#[case::with_a_tool(|w: &mut World| w.event["data"]["tools"] = json!(["mail.send"]), |w: &mut World| { w.event["data"].as_object_mut().unwrap().remove("tools"); }, "TOOL_UNKNOWN", "mail.send")]
#[case::on_a_workspace_of_nobody(|w: &mut World| mount(w, "nowhere", "ro"), |w: &mut World| mount(w, "notes", "propose"), "WORKSPACE_UNKNOWN", "no workspace nowhere")]
#[case::on_a_workspace_of_another(|w: &mut World| mount(w, "finance", "ro"), |w: &mut World| mount(w, "org", "propose"), "WORKSPACE_FORBIDDEN", "u_jane may not mount workspace finance")]
#[case::on_session_files(|w: &mut World| mount(w, "sys-u_jane", "ro"), NOTHING, "WORKSPACE_FORBIDDEN", "keeps the session files")]
#[case::writing_what_it_may_propose_to(|w: &mut World| mount(w, "org", "rw"), |w: &mut World| mount(w, "org", "ro"), "WORKSPACE_MODE", "as propose at most, not as rw")]
#[case::proposing_to_what_nobody_writes(|w: &mut World| mount(w, "manual", "propose"), |w: &mut World| mount(w, "manual", "ro"), "WORKSPACE_MODE", "as ro at most")]
#[case::on_one_workspace_twice(|w: &mut World| w.event["data"]["workspaces"] = json!([{ "id": "notes", "mode": "ro" }, { "id": "notes", "mode": "rw" }]), |w: &mut World| w.event["data"]["workspaces"] = json!([{ "id": "notes", "mode": "ro" }, { "id": "org", "mode": "ro" }]), "WORKSPACE_TWICE", "named twice")]
#[case::without_a_grant(|w: &mut World| w.granted = false, NOTHING, "GRANT_MISSING", "u_jane has given integration:web-chat no grant")]
#[case::with_a_runner_of_nobody(|w: &mut World| w.runner = false, NOTHING, "RUNNER_UNKNOWN", "claude-code is not installed")]
#[case::in_a_session_by_path(|w: &mut World| start(w, json!({ "session": { "ref": "sessions/a.jsonl" } })), |w: &mut World| start(w, json!({ "session": { "ref": "s-1" } })), "SESSION_UNKNOWN", "session id")]
fn a_launch_that_a_rule_forbids_is_refused(
    #[case] refused: Change,
    #[case] admitted: Change,
    #[case] code: &str,
    #[case] says: &str,
) {
    check(refused, admitted, code, says);
}

#[test]
fn the_first_rule_that_says_no_is_the_one_that_is_told() {
    let mut world = World::with(|w| {
        w.registered = false;
        w.signed_by = None;
        w.stored_at = 0;
        w.event["data"]["identity"] = json!({ "subject": "u_john", "launcher": "integration:mail" });
        w.event["data"]["tools"] = json!(["mail.send"]);
        mount(w, "nowhere", "rw");
        w.granted = false;
        w.runner = false;
        start(w, json!({ "session": { "ref": "a/b" } }));
    });
    let mut told = vec![];
    let mends: [Change; 9] = [
        |w| w.registered = true,
        |w| w.signed_by = Some(1),
        |w| w.stored_at = STORED_AT,
        |w| w.event["data"]["identity"]["subject"] = json!("u_jane"),
        |w| w.event["data"]["identity"]["launcher"] = json!("integration:web-chat"),
        |w| w.event["data"]["tools"] = json!([]),
        |w| mount(w, "notes", "rw"),
        |w| w.granted = true,
        |w| w.runner = true,
    ];
    for mend in mends {
        told.push(world.judged().unwrap_err().code);
        mend(&mut world);
    }
    told.push(world.judged().unwrap_err().code);
    let order = [
        "LAUNCHER_UNKNOWN",
        "SIGNATURE_MISSING",
        "CLOCK_SKEW",
        "SUBJECT_NOT_ALLOWED",
        "LAUNCHER_MISMATCH",
        "TOOL_UNKNOWN",
        "WORKSPACE_UNKNOWN",
        "GRANT_MISSING",
        "RUNNER_UNKNOWN",
        "SESSION_UNKNOWN",
    ];
    assert_eq!(told, order);
}

#[test]
fn an_admission_says_what_was_asked_checked_and_pinned() {
    let world = World::honest();
    let bytes = world.bytes();
    let admitted = world.judged().unwrap();
    assert_eq!(admitted.dispatch, dispatch_id(&launcher(), Some("m-1"), &bytes));
    assert_eq!(admitted.session.as_str(), admitted.dispatch.as_str().replacen("d-", "s-", 1));
    let mut asked = world.event["data"].clone();
    asked["limits"] = json!({ "wall_ms": 60_000 });
    assert_eq!(serde_json::to_value(&admitted.unit).unwrap(), asked, "with the grant's ceilings");
    assert_eq!((admitted.launch.stream_seq, admitted.launch.event_id.as_deref()), (7, Some("m-1")));
    assert_eq!(admitted.launch.digest, digest(&bytes));
    let used = GrantUse { id: GrantId::parse("g-21").unwrap(), seq: 21 };
    assert_eq!((admitted.grant, admitted.signature), (GrantCheck::Checked(used), SignatureCheck::Verified));
    assert_eq!(admitted.runner, runner());
    let unsigned = World::with(|w| {
        w.signed_by = None;
        w.rule = SignatureRule::Optional;
    });
    assert_eq!(unsigned.judged().unwrap().signature, SignatureCheck::Absent);
}

#[test]
fn a_token_is_never_admitted_with_its_unit() {
    let world = World::with(|w| w.event["data"]["identity"]["token"] = json!("secret-of-the-launcher"));
    assert!(String::from_utf8(world.bytes()).unwrap().contains("secret-of-the-launcher"));
    let admitted = serde_json::to_string(&world.judged().unwrap()).unwrap();
    assert!(!admitted.contains("secret") && !admitted.contains("token"), "{admitted}");
}

#[test]
fn a_turn_keeps_its_session_and_a_new_session_has_the_dispatchs_name() {
    let world = World::with(|w| start(w, json!({ "session": { "ref": "s-20ab", "inline": "And then?" } })));
    assert_eq!(world.judged().unwrap().session.as_str(), "s-20ab");
    let other = World::with(|w| w.event["id"] = json!("m-2"));
    assert_ne!(other.judged().unwrap().session, World::honest().judged().unwrap().session);
}

/// The worst of everything that is copied into the record: a largest unit, an id of escapes, a trace.
#[test]
fn whatever_is_admitted_or_refused_fits_into_one_ledger_message() {
    let worst = World::with(|w| {
        unit_of(w, UNIT_BYTES_MAX);
        w.event["id"] = json!("\u{1}".repeat(256));
        w.event.insert("traceparent".into(), json!("x".repeat(2_000)));
    });
    assert!(worst.bytes().len() <= BYTES_MAX, "{}", worst.bytes().len());
    let admitted = worst.judged().unwrap();
    let asked = read(&worst.bytes()).unwrap();
    assert_eq!(asked.traceparent, None);
    let long = |n: usize| Some("x".repeat(n));
    let meta = Meta {
        time: UnixMillis(STORED_AT).rfc3339(),
        subject: long(128),
        causation: Some(format!("launch/{}", u64::MAX)),
        correlation: long(64),
        launcher: long(63),
        grant: long(64),
        traceparent: long(55),
    };
    let event = LedgerEvent::Dispatch(DispatchEvent::Admitted(Box::new(admitted)));
    let key = RoleKey::from_seed(Role::Authority, &[1; 32]);
    let stored = custody_ledger::recorded::encode(&key, "adm-abcdefghijklmnopqrst", &[event], &meta).unwrap();
    assert!(stored.len() <= MESSAGE_BYTES_MAX, "{}", stored.len());
    assert!(stored.len() > MESSAGE_BYTES_MAX - 2_048, "{}: the reserve is too large", stored.len());
}

#[rstest]
#[case::good("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true)]
#[case::upper_case("00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01", false)]
#[case::too_short("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", false)]
#[case::too_long("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x", false)]
#[case::a_line_break("00-0af7651916cd43dd8448eb211c8031\n9-b7ad6b7169203331-01", false)]
#[case::empty("", false)]
fn a_trace_parent_is_one_or_is_ignored(#[case] text: &str, #[case] kept: bool) {
    let world = World::with(|w| {
        w.event.insert("traceparent".into(), json!(text));
    });
    assert_eq!(read(&world.bytes()).unwrap().traceparent.as_deref(), kept.then_some(text));
    assert!(world.judged().is_ok(), "a trace never decides");
}

#[test]
fn every_golden_unit_is_read_at_the_public_edge_and_every_reject_is_refused_there() {
    let event = |unit: &Value| World::with(|w| w.event["data"] = unit.clone()).bytes();
    let goldens = documents("unit.v1/golden");
    for (name, unit) in &goldens {
        let asked = read(&event(unit)).unwrap_or_else(|refusal| panic!("{name}: {refusal:?}"));
        assert_eq!(asked.event["data"], *unit, "{name}");
    }
    let rejects = documents("unit.v1/reject");
    for (name, unit) in &rejects {
        let code = read(&event(unit)).map(|_| ()).unwrap_err().code;
        let too_large = canonical(unit).len() > UNIT_BYTES_MAX;
        assert_eq!(code, if too_large { "MESSAGE_TOO_LARGE" } else { "UNIT_INVALID" }, "{name}");
    }
    assert!(goldens.len() >= 7 && rejects.len() >= 40);
}

#[test]
fn the_same_message_is_the_same_dispatch_and_another_is_another() {
    let (a, b) = (launcher(), LauncherId::parse("mail").unwrap());
    let id = |launcher: &LauncherId, event: Option<&str>, bytes: &[u8]| dispatch_id(launcher, event, bytes).to_string();
    assert_eq!(id(&a, Some("m-1"), b"x"), id(&a, Some("m-1"), b"y"), "an id is its launcher's, whatever it says");
    assert_ne!(id(&a, Some("m-1"), b"x"), id(&b, Some("m-1"), b"x"));
    assert_ne!(id(&a, Some("m-1"), b"x"), id(&a, Some("m-2"), b"x"));
    assert_eq!(id(&a, None, b"x"), id(&a, None, b"x"));
    assert_ne!(id(&a, None, b"x"), id(&a, None, b"y"));
    assert_ne!(id(&a, None, b"x"), id(&a, Some(&digest(b"x")), b"x"), "an id that looks like a digest is an id");
    assert_eq!(id(&a, None, b"x").len(), 22);
}

#[rstest]
#[case::of_a_launch(br#"{"id":"m-1"}"#, Some("m-1"))]
#[case::of_something_else(br#"{"id":"m-1","x":[]}"#, Some("m-1"))]
#[case::a_number(br#"{"id":1}"#, None)]
#[case::empty(br#"{"id":""}"#, None)]
#[case::none(b"{}", None)]
#[case::a_list(br#"[{"id":"m-1"}]"#, None)]
#[case::not_json(b"id", None)]
fn the_messages_own_id_is_found_where_there_is_one(#[case] bytes: &[u8], #[case] expected: Option<&str>) {
    assert_eq!(event_id(bytes).as_deref(), expected);
}

#[test]
fn an_id_that_is_too_long_is_none_and_is_cut_in_the_record() {
    let of = |n: usize| event_id(json!({ "id": "é".repeat(n) }).to_string().as_bytes());
    assert_eq!((of(256).map(|i| i.chars().count()), of(257)), (Some(256), None));
    let origin = launch_ref(7, &launcher(), Some(&"é".repeat(300)), b"x");
    assert_eq!(origin.event_id.map(|i| i.chars().count()), Some(256));
}

proptest! {
    #[test]
    fn whatever_bytes_come_reading_ends_with_a_code(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = event_id(&bytes);
        if let Err(refusal) = read(&bytes) {
            prop_assert!(refusal.code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'));
        }
    }

    #[test]
    fn one_changed_byte_of_a_signed_launch_is_never_admitted_as_another(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let honest = World::honest();
        let mut bytes = honest.bytes();
        let at = at.index(bytes.len());
        bytes[at] = to;
        let world = World::with(|w| w.raw = Some(bytes));
        if let Ok(admitted) = world.judged() {
            prop_assert_eq!(admitted.unit, honest.judged().unwrap().unit);
            prop_assert_eq!(admitted.launch.event_id, Some("m-1".into()));
        }
    }
}
