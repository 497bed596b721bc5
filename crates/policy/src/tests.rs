//! Which calls the rules permit, which wait for a person, and which texts are no policy.

use super::*;
use custody_contracts::events::DispatchAdmitted;
use custody_contracts::tool::Tool;
use rstest::rstest;
use serde_json::{Value, json};

fn admitted(trigger: &str) -> DispatchAdmitted {
    let golden = include_str!("../../../contracts/ledger.v2/golden/DispatchAdmitted.minimal.json");
    let mut value: Value = serde_json::from_str(golden).unwrap();
    value["unit"]["trigger"] = json!(trigger);
    value["unit"]["identity"]["subject"] = json!("u_jane");
    value["launch"]["launcher"] = json!("web-chat");
    serde_json::from_value(value).unwrap()
}

fn tool(change: &Value) -> Tool {
    let mut document = json!({
        "name": "mail__send", "scope": "mail:send", "grant": "auto", "transport": "mcp", "mcp_server": "mail",
        "barriers": ["mnpi"], "effect": "irreversible", "idempotent": false, "constraints": [],
    });
    for (key, value) in change.as_object().unwrap() {
        document[key] = value.clone();
    }
    serde_json::from_value(document).unwrap()
}

fn decided(policy: &CedarPolicy, trigger: &str, change: &Value, approved: bool) -> String {
    let (admitted, tool) = (admitted(trigger), tool(change));
    match policy.decide(PolicyAsked { admitted: &admitted, tool: &tool, approved }) {
        Verdict::Permit { rule } => format!("permit {rule}"),
        Verdict::Forbid { rule, .. } => format!("forbid {rule}"),
    }
}

#[rstest]
#[case::trusted("message", json!({}), "permit tool-of-the-unit")]
#[case::scheduled("scheduled", json!({}), "permit tool-of-the-unit")]
#[case::untrusted("event", json!({}), "forbid untrusted-only-proposes")]
#[case::a_transcript("transcription", json!({}), "forbid untrusted-only-proposes")]
#[case::untrusted_and_reversible("event", json!({ "effect": "write" }), "permit tool-of-the-unit")]
#[case::untrusted_and_reading("event", json!({ "effect": "read" }), "permit tool-of-the-unit")]
#[case::gated("message", json!({ "grant": "gate" }), "forbid tool-is-gated")]
#[case::both("event", json!({ "grant": "gate" }), "forbid tool-is-gated")]
fn the_rules_of_every_installation(#[case] trigger: &str, #[case] change: Value, #[case] expected: &str) {
    let policy = CedarPolicy::read(None).unwrap();
    assert_eq!(policy.rules(), 3);
    assert_eq!(decided(&policy, trigger, &change, false), expected);
    assert_eq!(decided(&policy, trigger, &change, true), "permit tool-of-the-unit");
}

#[rstest]
#[case::a_tag(r#"forbid (principal, action, resource in Custody::Barrier::"mnpi");"#, "forbid own")]
#[case::another_tag(r#"forbid (principal, action, resource in Custody::Barrier::"other");"#, "permit tool-of-the-unit")]
#[case::a_server(r#"forbid (principal, action, resource in Custody::Server::"mail");"#, "forbid own")]
#[case::a_person(r#"forbid (principal in Custody::Subject::"u_jane", action, resource);"#, "forbid own")]
#[case::another_person(
    r#"forbid (principal in Custody::Subject::"u_omar", action, resource);"#,
    "permit tool-of-the-unit"
)]
#[case::a_launcher(r#"forbid (principal in Custody::Launcher::"web-chat", action, resource);"#, "forbid own")]
#[case::a_scope(
    r#"forbid (principal, action, resource is Custody::Tool) when { resource.scope like "mail:*" };"#,
    "forbid own"
)]
#[case::an_operators_permit_takes_nothing_away(
    r#"permit (principal, action, resource);"#,
    "forbid untrusted-only-proposes"
)]
fn an_operators_rules_come_on_top(#[case] own: &str, #[case] expected: &str) {
    let policy = CedarPolicy::read(Some(&format!("@id(\"own\") {own}"))).unwrap();
    let trigger = if own.starts_with("permit") { "event" } else { "message" };
    assert_eq!(decided(&policy, trigger, &json!({}), false), expected);
}

#[rstest]
#[case::no_cedar("permit everything", "cannot be read")]
#[case::no_id("permit (principal, action, resource);", "@id")]
#[case::a_rules_own_id("@id(\"tool-is-gated\") permit (principal, action, resource);", "stands twice")]
#[case::an_id_that_cannot_be_recorded("@id(\"a b\") permit (principal, action, resource);", "is none")]
#[case::our_word("@id(\"policy-error\") permit (principal, action, resource);", "is none")]
#[case::an_unknown_attribute(
    "@id(\"a\") forbid (principal, action, resource is Custody::Tool) when { resource.price > 1 };",
    "schema"
)]
#[case::an_unknown_type("@id(\"a\") forbid (principal is Custody::Robot, action, resource);", "schema")]
#[case::an_attribute_that_may_be_absent(
    "@id(\"a\") forbid (principal, action, resource) when { context.args.to == \"x\" };",
    "schema"
)]
#[case::a_template("@id(\"a\") permit (principal == ?principal, action, resource);", "templates")]
fn a_text_that_is_not_good_is_not_used(#[case] own: &str, #[case] part: &str) {
    let error = CedarPolicy::read(Some(own)).unwrap_err().to_string();
    assert!(error.contains(part), "{error}");
}

/// Cedar leaves a rule out that errs; a forbid that errs would let the call through.
#[test]
fn a_rule_that_errs_forbids() {
    let own = "@id(\"own\") forbid (principal, action, resource is Custody::Tool) when { 9223372036854775807 + (if resource.gated then 0 else 1) > 0 };";
    let policy = CedarPolicy::read(Some(own)).unwrap();
    assert_eq!(decided(&policy, "message", &json!({}), false), "forbid policy-error");
}

#[test]
fn a_text_has_a_largest_size_and_the_digest_is_of_all_of_it() {
    let one = CedarPolicy::read(Some("")).unwrap();
    assert_eq!(one.digest(), CedarPolicy::read(None).unwrap().digest());
    let comment = |len: usize| ["//", &"x".repeat(len - 2)].concat();
    let largest = CedarPolicy::read(Some(&comment(TEXT_BYTES_MAX))).unwrap();
    assert_ne!(one.digest(), largest.digest());
    assert_eq!(CedarPolicy::read(Some(&comment(TEXT_BYTES_MAX + 1))).unwrap_err(), PolicyError::TooLarge);
    let rules =
        |n: usize| (0..n).map(|i| format!("@id(\"r{i}\") permit (principal, action, resource);")).collect::<String>();
    assert!(CedarPolicy::read(Some(&rules(RULES_MAX - 3))).is_ok());
    assert_eq!(CedarPolicy::read(Some(&rules(RULES_MAX - 2))).unwrap_err(), PolicyError::TooLarge);
}
