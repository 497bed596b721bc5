//! Names: of contracts, found or refused with a pointer; of persons and things, parsed at the edge; of moments.

use custody_contracts::catalogue::{ALL, CheckError, RETIRED, check, find, schema_id, shapes};
use custody_contracts::ids::{
    DispatchId, LauncherId, LauncherRef, RunnerName, SessionId, Subject, UnixMillis, WorkspaceId,
};
use rstest::rstest;
use serde_json::{Value, json};

#[test]
fn every_contract_is_found_and_names_itself() {
    for contract in ALL {
        assert_eq!(find(contract.name).unwrap().name, contract.name);
        let schema: Value = serde_json::from_str(contract.schema).unwrap();
        assert_eq!(schema["$id"], schema_id(contract.name));
        assert!(contract.readme.contains(contract.name), "{}", contract.name);
        for shape in shapes(contract.name).unwrap() {
            assert!(schema["$defs"][shape].is_object(), "{} {shape}", contract.name);
        }
    }
}

#[rstest]
#[case::retired_by_full_name("event.v1", "contract event.v1 is retired", "schedule.v1")]
#[case::retired_by_its_base("task", "contract task.v1 is retired", "workspace.v1")]
#[case::retired_governance("workspace-governance.v1", "is retired", "grant.v1")]
#[case::next_version("unit.v2", "does not exist", "unit.v1")]
#[case::version_zero("unit.v0", "does not exist", "unit.v1")]
#[case::without_version("unit", "does not exist", "unit.v1")]
#[case::of_nobody("invoice.v1", "there is no contract", "custody contract ls")]
#[case::empty("", "there is no contract", "custody contract ls")]
#[case::a_path("../unit.v1", "there is no contract", "custody contract ls")]
fn a_name_that_is_not_spoken_is_refused_with_a_pointer(#[case] name: &str, #[case] says: &str, #[case] pointer: &str) {
    for error in [find(name).unwrap_err(), shapes(name).unwrap_err(), check(name, "X", &json!({})).unwrap_err()] {
        let text = error.to_string();
        assert!(text.contains(says) && text.contains(pointer), "{text}");
    }
}

#[test]
fn retired_names_point_at_contracts_that_are_spoken() {
    assert_eq!(RETIRED.len(), 3);
    for old in RETIRED.iter() {
        assert!(find(&old.replaced_by).is_ok() && !old.why.is_empty(), "{old:?}");
        assert!(matches!(find(&old.name), Err(CheckError::Retired { .. })), "{old:?}");
    }
}

#[test]
fn an_unknown_shape_is_refused_with_those_there_are_and_a_long_name_is_cut() {
    let long = "x".repeat(10_000);
    match check("proactive-card.v1", &long, &json!({})) {
        Err(CheckError::UnknownShape { contract, shape, known }) => {
            assert_eq!((contract.as_str(), shape.len(), known.as_str()), ("proactive-card.v1", 80, "Card, Decision"));
        }
        other => panic!("{other:?}"),
    }
    assert!(find(&long).unwrap_err().to_string().len() < 200);
}

#[test]
fn a_document_that_breaks_many_rules_names_at_most_twenty() {
    let workspaces: Vec<Value> = (0..16).map(|_| json!({ "id": "-", "mode": "?", "x": 1 })).collect();
    let Err(CheckError::Invalid(violations)) = check("unit.v1", "Invocation", &json!({ "workspaces": workspaces }))
    else {
        panic!("it passed");
    };
    assert_eq!(violations.len(), 20);
    assert!(violations.iter().all(|v| v.pointer.is_empty() || v.pointer.starts_with('/')));
}

type Parse = fn(&str) -> bool;
const SUBJECT: Parse = |t| Subject::parse(t).is_ok();
const LAUNCHER_REF: Parse = |t| LauncherRef::parse(t).is_ok();
const LAUNCHER_ID: Parse = |t| LauncherId::parse(t).is_ok();
const DISPATCH: Parse = |t| DispatchId::parse(t).is_ok();
const SESSION: Parse = |t| SessionId::parse(t).is_ok();
const WORKSPACE: Parse = |t| WorkspaceId::parse(t).is_ok();
const RUNNER: Parse = |t| RunnerName::parse(t).is_ok();

#[rstest]
#[case::person(SUBJECT, "u_jane", true)]
#[case::person_with_colon(SUBJECT, "idp:1.A-b_c", true)]
#[case::person_at_the_limit(SUBJECT, &"a".repeat(128), true)]
#[case::person_too_long(SUBJECT, &"a".repeat(129), false)]
#[case::person_empty(SUBJECT, "", false)]
#[case::person_by_mail(SUBJECT, "jane@example.org", false)]
#[case::person_with_a_sign_first(SUBJECT, "_jane", false)]
#[case::person_with_a_line(SUBJECT, "u_jane\n", false)]
#[case::person_beyond_ascii(SUBJECT, "u_jäne", false)]
#[case::by_user(LAUNCHER_REF, "user:u_jane", true)]
#[case::by_schedule(LAUNCHER_REF, "schedule:s-1", true)]
#[case::by_integration(LAUNCHER_REF, "integration:mail.in", true)]
#[case::by_integration_at_the_limit(LAUNCHER_REF, &format!("integration:{}", "a".repeat(63)), true)]
#[case::by_integration_too_long(LAUNCHER_REF, &format!("integration:{}", "a".repeat(64)), false)]
#[case::by_nobody(LAUNCHER_REF, "user:", false)]
#[case::by_another_kind(LAUNCHER_REF, "robot:r", false)]
#[case::by_no_kind(LAUNCHER_REF, "u_jane", false)]
#[case::by_two_kinds(LAUNCHER_REF, "user:schedule:s", false)]
#[case::launcher(LAUNCHER_ID, "web-chat", true)]
#[case::launcher_at_the_limit(LAUNCHER_ID, &"a".repeat(63), true)]
#[case::launcher_too_long(LAUNCHER_ID, &"a".repeat(64), false)]
#[case::launcher_with_a_dot(LAUNCHER_ID, "web.chat", false)]
#[case::launcher_as_a_wildcard(LAUNCHER_ID, "*", false)]
#[case::launcher_upper(LAUNCHER_ID, "Web", false)]
#[case::launcher_with_a_sign_first(LAUNCHER_ID, "-web", false)]
#[case::dispatch(DISPATCH, "d-abcdefghijklmnopqrst", true)]
#[case::dispatch_at_the_limit(DISPATCH, &"a".repeat(64), true)]
#[case::dispatch_too_long(DISPATCH, &"a".repeat(65), false)]
#[case::dispatch_as_a_path(DISPATCH, "../x", false)]
#[case::session(SESSION, "s-1", true)]
#[case::session_as_a_path(SESSION, "a/b", false)]
#[case::workspace(WORKSPACE, "notes_2026", true)]
#[case::workspace_with_a_space(WORKSPACE, "my notes", false)]
#[case::runner(RUNNER, "claude-code", true)]
#[case::runner_with_a_tag(RUNNER, "claude-code:1", false)]
fn names_are_parsed_and_nothing_else_is_one(#[case] parse: Parse, #[case] text: &str, #[case] good: bool) {
    assert_eq!(parse(text), good, "{text:?}");
}

#[test]
fn a_name_is_checked_also_when_it_is_deserialized_and_a_bad_one_is_cut() {
    assert_eq!(serde_json::from_str::<LauncherId>("\"web\"").unwrap().as_str(), "web");
    assert!(serde_json::from_str::<LauncherId>("\"web.chat\"").unwrap_err().to_string().contains("launcher id"));
    assert!(serde_json::from_str::<LauncherId>("7").is_err());
    let error = Subject::parse(&"é".repeat(500)).unwrap_err();
    assert_eq!((error.what, error.text.chars().count()), ("subject", 80));
}

#[rstest]
#[case::the_epoch(0, "1970-01-01T00:00:00.000Z")]
#[case::one_milli(1, "1970-01-01T00:00:00.001Z")]
#[case::end_of_the_first_year(31_535_999_999, "1970-12-31T23:59:59.999Z")]
#[case::first_leap_day(68_169_600_000, "1972-02-29T00:00:00.000Z")]
#[case::day_after_a_leap_day(68_256_000_000, "1972-03-01T00:00:00.000Z")]
#[case::end_of_a_leap_year(94_694_399_999, "1972-12-31T23:59:59.999Z")]
#[case::leap_day_of_a_century(951_782_400_000, "2000-02-29T00:00:00.000Z")]
#[case::a_moment_of_ours(1_795_381_200_000, "2026-11-22T21:00:00.000Z")]
#[case::no_leap_day_in_2100(4_107_542_400_000, "2100-03-01T00:00:00.000Z")]
#[case::day_before_it(4_107_456_000_000, "2100-02-28T00:00:00.000Z")]
#[case::leap_day_of_2400(13_574_563_200_000, "2400-02-29T00:00:00.000Z")]
#[case::the_last_moment(253_402_300_799_999, "9999-12-31T23:59:59.999Z")]
#[case::beyond_stays_at_the_last_second(u64::MAX, "9999-12-31T23:59:59.615Z")]
fn moments_are_written_in_rfc_3339(#[case] millis: u64, #[case] expected: &str) {
    assert_eq!(UnixMillis(millis).rfc3339(), expected);
    let back = UnixMillis::parse(expected).unwrap();
    assert_eq!(back.rfc3339(), expected);
    assert!(millis > 253_402_300_799_999 || back == UnixMillis(millis));
}

#[rstest]
#[case::no_fraction("2026-11-22T21:00:00Z", Some(1_795_381_200_000))]
#[case::another_zone("2026-11-22T21:00:00+01:00", None)]
#[case::no_time("2026-11-22", None)]
#[case::no_month("2026-13-22T21:00:00Z", None)]
#[case::other_signs("2026/11/22 21:00:00Z", None)]
#[case::not_ascii("2026-11-22T21:00:0\u{e9}Z", None)]
#[case::nothing("", None)]
fn only_moments_as_we_write_them_are_read(#[case] text: &str, #[case] expected: Option<u64>) {
    assert_eq!(UnixMillis::parse(text), expected.map(UnixMillis));
}
