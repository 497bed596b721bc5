//! Which calls leave a permit, and what each other one is refused with.

use super::policy::tests::Tagged;
use super::*;
use crate::tests::golden;
use custody_contracts::events::{DispatchEvent, LedgerEvent};
use custody_contracts::unit::{InputTrust, Limits, Trigger};
use rstest::rstest;
use serde_json::json;

pub(crate) fn admitted(tools: &[&str], mode: &str, tool_calls: Option<u64>) -> DispatchAdmitted {
    let LedgerEvent::Dispatch(DispatchEvent::Admitted(mut admitted)) = golden("DispatchAdmitted", &[]) else {
        panic!()
    };
    admitted.unit.tools = tools.iter().map(|t| (*t).to_owned()).collect();
    admitted.unit.workspaces = serde_json::from_value(json!([
        { "id": "notes", "mode": mode }, { "id": "books", "mode": "ro" },
    ]))
    .unwrap();
    admitted.unit.limits = Some(Limits { tool_calls, ..Limits::default() });
    *admitted
}

/// A permit for the first tool call.
pub(crate) fn permit() -> ToolPermit {
    let admitted = admitted(&["workspace_read"], "rw", None);
    judged(&admitted, 1, "workspace_read", &json!({ "path": "a" }), &Tools::builtin()).unwrap()
}

fn judged(
    admitted: &DispatchAdmitted,
    n: u32,
    tool: &str,
    args: &Value,
    tools: &Tools,
) -> Result<ToolPermit, ToolRefusal> {
    judge(ToolAsked { admitted, n, tool, args, tools, policy: &Tagged })
}

/// An upstream's tool that sends mail to acme.test, and what a case changes of its document.
fn mail(change: &Value) -> Tools {
    let mut document = json!({
        "name": "mail__send", "scope": "mail:send", "grant": "auto", "transport": "mcp", "mcp_server": "mail",
        "barriers": [], "effect": "irreversible", "idempotent": false,
        "constraints": [{ "on": "recipient", "argument": "/to", "allow": ["*@acme.test"] }],
    });
    for (key, value) in change.as_object().unwrap() {
        document[key] = value.clone();
    }
    let schema = json!({
        "type": "object", "required": ["to"], "additionalProperties": false,
        "properties": { "to": { "type": "string" }, "text": { "type": "string", "maxLength": 10 } },
    });
    let input_schema = schema.as_object().unwrap().clone();
    let definition = Definition { name: "send".into(), description: "Sends.".into(), input_schema };
    let offered = Offered::read(serde_json::from_value(document).unwrap(), Some(&definition)).unwrap();
    Tools::builtin().with(offered).unwrap()
}

#[rstest]
#[case::good(json!({}), json!({ "to": "bob@acme.test" }), Trigger::Message, Ok("tool-of-the-unit"))]
#[case::a_stranger(json!({}), json!({ "to": "eve@evil.example" }), Trigger::Message, Err("RECIPIENT_NOT_ALLOWED"))]
#[case::not_of_its_schema(json!({}), json!({ "to": "bob@acme.test", "text": "too long a text" }), Trigger::Message, Err("ARGUMENTS_INVALID"))]
#[case::an_unknown_argument(json!({}), json!({ "to": "bob@acme.test", "bcc": "eve@evil.example" }), Trigger::Message, Err("ARGUMENTS_INVALID"))]
#[case::in_two_spellings(json!({}), json!({ "to": "bob@acme.test", "TO": "eve@evil.example" }), Trigger::Message, Err("ARGUMENTS_AMBIGUOUS"))]
#[case::not_an_object(json!({}), json!([]), Trigger::Message, Err("ARGUMENTS_INVALID"))]
#[case::gated(json!({ "grant": "gate" }), json!({ "to": "bob@acme.test" }), Trigger::Message, Err("APPROVAL_NEEDED tool-is-gated"))]
#[case::untrusted(json!({}), json!({ "to": "bob@acme.test" }), Trigger::Event, Err("APPROVAL_NEEDED untrusted-only-proposes"))]
#[case::untrusted_but_reversible(json!({ "effect": "write" }), json!({ "to": "bob@acme.test" }), Trigger::Event, Ok("tool-of-the-unit"))]
#[case::the_policy_asks(json!({ "barriers": ["asks"] }), json!({ "to": "bob@acme.test" }), Trigger::Message, Err("APPROVAL_NEEDED asks"))]
#[case::the_policy_forbids(json!({ "barriers": ["forbidden"] }), json!({ "to": "bob@acme.test" }), Trigger::Message, Err("POLICY_FORBIDS no-forbidden"))]
#[case::constraints_come_first(json!({ "barriers": ["forbidden"] }), json!({ "to": "eve@evil.example" }), Trigger::Message, Err("RECIPIENT_NOT_ALLOWED"))]
fn a_call_of_an_upstreams_tool_is_judged(
    #[case] change: Value,
    #[case] args: Value,
    #[case] trigger: Trigger,
    #[case] expected: Result<&str, &str>,
) {
    let mut admitted = admitted(&["mail__send"], "rw", None);
    admitted.unit.trigger = trigger;
    let found = judged(&admitted, 1, "mail__send", &args, &mail(&change));
    let rule = |p: &Option<RuledBy>| p.as_ref().map(|p| format!(" {}", p.rule)).unwrap_or_default();
    match (&found, expected) {
        (Ok(permit), Ok(by)) => {
            assert_eq!(rule(&permit.intended().policy).trim(), by);
            assert_eq!(permit.args(), canonical(&args));
            assert!(matches!(permit.deed(), Deed::Upstream { args: again, .. } if *again == args));
        }
        (Err(refusal), Err(code)) => assert_eq!(format!("{}{}", refusal.code, rule(&refusal.policy)), code),
        _ => panic!("{found:?}"),
    }
}

/// A tool outside the unit's list is refused however well it is hidden.
#[test]
fn t17_t29_a_tool_outside_the_dispatchs_scope_is_refused_behind_any_arguments() {
    let (tools, long) = (mail(&json!({})), json!({ "to": "bob@acme.test", "text": "x".repeat(40_000) }));
    let only_reads = admitted(&["workspace_read"], "rw", None);
    let found = judged(&only_reads, 1, "mail__send", &long, &tools);
    assert_eq!(found.map_err(|r| r.code).unwrap_err(), "TOOL_NOT_LISTED");
    let may = admitted(&["mail__send"], "rw", None);
    judged(&may, 1, "mail__send", &json!({ "to": "bob@acme.test" }), &tools).unwrap();
}

#[test]
fn what_the_policy_forbids_is_not_listed_and_what_waits_is() {
    let admitted = admitted(&["mail__send", "workspace_read", "mail__send"], "rw", None);
    let names = |change: Value| {
        let listed = listed(&admitted, &mail(&change), &Tagged);
        listed.iter().map(|t| t.document().name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(json!({})), ["mail__send", "workspace_read"]);
    assert_eq!(names(json!({ "barriers": ["asks"] })), ["mail__send", "workspace_read"]);
    assert_eq!(names(json!({ "barriers": ["forbidden"] })), ["workspace_read"]);
}

#[test]
fn an_intent_is_judged_again_from_the_log_alone() {
    let mut own = admitted(&["mail__send"], "rw", None);
    let recorded = judged(&own, 3, "mail__send", &json!({ "to": "bob@acme.test" }), &mail(&json!({}))).unwrap();
    let recorded = recorded.into_event();
    assert_eq!(judge_again(&own, &recorded).unwrap(), recorded);
    own.unit.trigger = Trigger::Event;
    assert_eq!(judge_again(&own, &recorded).unwrap_err().code, "APPROVAL_NEEDED");
    own.unit.tools.clear();
    assert_eq!(judge_again(&own, &recorded).unwrap_err().code, "TOOL_NOT_LISTED");
    let before = ToolIntended { tool_digest: None, ..recorded };
    assert_eq!(judge_again(&admitted(&["mail__send"], "rw", None), &before).unwrap_err().code, "TOOL_NOT_LISTED");
}

#[rstest]
#[case::read("workspace_read", json!({"path": "a"}), "rw", 1, Ok(()))]
#[case::read_only("workspace_read", json!({"path": "a"}), "ro", 1, Ok(()))]
#[case::write("workspace_write", json!({"path": "a", "text": ""}), "rw", 1, Ok(()))]
#[case::write_a_copy("workspace_write", json!({"path": "a", "text": ""}), "propose", 1, Ok(()))]
#[case::write_read_only("workspace_write", json!({"path": "a", "text": ""}), "ro", 1, Err("WORKSPACE_READ_ONLY"))]
#[case::write_another_read_only("workspace_write", json!({"path": "a", "text": "", "workspace": "books"}), "rw", 1, Err("WORKSPACE_READ_ONLY"))]
#[case::another_workspace("workspace_read", json!({"path": "a", "workspace": "secret"}), "rw", 1, Err("WORKSPACE_NOT_MOUNTED"))]
#[case::a_workspace_that_is_no_name("workspace_read", json!({"path": "a", "workspace": 1}), "rw", 1, Err("WORKSPACE_NOT_MOUNTED"))]
#[case::up("workspace_read", json!({"path": "a/../../b"}), "rw", 1, Err("PATH_NOT_ALLOWED"))]
#[case::absolute("workspace_read", json!({"path": "/etc/passwd"}), "rw", 1, Err("PATH_NOT_ALLOWED"))]
#[case::control("workspace_read", json!({"path": "a\u{0}b"}), "rw", 1, Err("PATH_NOT_ALLOWED"))]
#[case::a_long_path("workspace_read", json!({"path": "x".repeat(1025)}), "rw", 1, Err("PATH_NOT_ALLOWED"))]
#[case::the_longest_path("workspace_read", json!({"path": "x".repeat(1024)}), "rw", 1, Ok(()))]
#[case::a_git_hook("workspace_write", json!({"path": "a/.Git/hooks/post-checkout", "text": ""}), "rw", 1, Err("PATH_NOT_ALLOWED"))]
#[case::no_path("workspace_read", json!({}), "rw", 1, Err("ARGUMENTS_INVALID"))]
#[case::no_text("workspace_write", json!({"path": "a"}), "rw", 1, Err("ARGUMENTS_INVALID"))]
#[case::unknown_argument("workspace_read", json!({"path": "a", "mode": "rw"}), "rw", 1, Err("ARGUMENTS_INVALID"))]
#[case::another_tools_argument("workspace_read", json!({"path": "a", "text": "b"}), "rw", 1, Err("ARGUMENTS_INVALID"))]
#[case::not_an_object("workspace_read", json!([1]), "rw", 1, Err("ARGUMENTS_INVALID"))]
#[case::most_to_read("workspace_read", json!({"path": "a", "limit": READ_BYTES_MAX}), "rw", 1, Ok(()))]
#[case::more_to_read("workspace_read", json!({"path": "a", "limit": READ_BYTES_MAX + 1}), "rw", 1, Err("ARGUMENTS_INVALID"))]
#[case::most_to_write("workspace_write", json!({"path": "a", "text": "x".repeat(WRITE_BYTES_MAX)}), "rw", 1, Ok(()))]
#[case::more_to_write("workspace_write", json!({"path": "a", "text": "x".repeat(WRITE_BYTES_MAX + 1)}), "rw", 1, Err("ARGUMENTS_INVALID"))]
#[case::not_listed("workspace_list", json!({}), "rw", 1, Err("TOOL_NOT_LISTED"))]
#[case::not_a_tool("shell", json!({}), "rw", 1, Err("TOOL_NOT_LISTED"))]
#[case::the_last_allowed("workspace_read", json!({"path": "a"}), "rw", 3, Ok(()))]
#[case::beyond_the_limit("workspace_read", json!({"path": "a"}), "rw", 4, Err("TOOL_CALLS_LIMIT"))]
fn a_call_is_judged(
    #[case] tool: &str,
    #[case] args: Value,
    #[case] mode: &str,
    #[case] n: u32,
    #[case] expected: Result<(), &str>,
) {
    let admitted = admitted(&["workspace_read", "workspace_write", "shell"], mode, Some(3));
    let judged = judged(&admitted, n, tool, &args, &Tools::builtin());
    assert_eq!(judged.as_ref().map(|_| ()).map_err(|refusal| refusal.code), expected, "{judged:?}");
}

#[test]
fn a_permit_is_for_exactly_these_arguments() {
    let mut admitted = admitted(&["workspace_read"], "rw", None);
    admitted.unit.trigger = Trigger::Event;
    let of = |args: Value| judged(&admitted, 7, "workspace_read", &args, &Tools::builtin()).unwrap();
    let one = of(json!({ "path": "a", "offset": 1 }));
    assert_eq!(one.args(), r#"{"offset":1,"path":"a"}"#);
    assert_eq!(one.intended().args_digest, digest(one.args().as_bytes()));
    assert_eq!(one.intended().input_trust, InputTrust::Untrusted);
    assert_eq!(one, of(serde_json::from_str(r#"{ "offset":1, "path":"a" }"#).unwrap()));
    assert_ne!(one.intended().idempotency_key, of(json!({ "path": "b" })).intended().idempotency_key);
}

#[test]
fn arguments_have_a_size() {
    let admitted = admitted(&["workspace_read"], "rw", None);
    let of = |len: usize| {
        let args = json!({ "text": "x".repeat(len) });
        judged(&admitted, 1, "workspace_read", &args, &Tools::builtin()).map_err(|r| r.code).err()
    };
    let frame = canonical(&json!({ "text": "" })).len();
    assert_eq!(of(ARGS_BYTES_MAX - frame), Some("ARGUMENTS_INVALID"), "the size alone does not refuse it");
    assert_eq!(of(ARGS_BYTES_MAX - frame + 1), Some("ARGUMENTS_TOO_LARGE"));
}

#[test]
fn what_is_listed_is_what_the_unit_names_and_the_gateway_has() {
    let admitted = admitted(&["workspace_write", "mail.send", "workspace_list"], "rw", None);
    let listed = listed(&admitted, &Tools::builtin(), &Tagged);
    let names: Vec<_> = listed.iter().map(|t| t.document().name.as_str()).collect();
    assert_eq!(names, ["workspace_write", "workspace_list"]);
}
