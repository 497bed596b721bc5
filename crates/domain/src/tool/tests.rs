//! Which calls leave a permit, and what each other one is refused with.

use super::policy::tests::Tagged;
use super::*;
use crate::tests::golden;
use custody_contracts::approval::{ApprovalDecided, ApprovalEvent, ApprovalExpired, Choice};
use custody_contracts::canonical::digest;
use custody_contracts::events::{DispatchEvent, LedgerEvent};
use custody_contracts::ids::DispatchId;
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

pub(super) const EXPIRES: UnixMillis = UnixMillis(2_000_000);

/// A call that waits, the first of its dispatch.
pub(crate) fn waits() -> WaitPermit {
    let admitted = admitted(&["mail__send"], "rw", None);
    match asked(&admitted, 1, "mail__send", &json!({ "to": "bob@acme.test" }), &mail(&json!({ "grant": "gate" })), None)
    {
        Ok(Judged::Waits(permit)) => *permit,
        other => panic!("{other:?}"),
    }
}

/// What came of it when the person said yes, at sequence 41.
pub(super) fn yes(awaiting: &ToolAwaiting, args_digest: &str, now: UnixMillis) -> Result<Approved, ToolRefusal> {
    let decided = ApprovalEvent::Decided(ApprovalDecided {
        card: awaiting.card(),
        dispatch: awaiting.dispatch.clone(),
        version: 1,
        decision: Choice::Approve,
        by: Subject::parse("u_jane").unwrap(),
        args_digest: Some(args_digest.to_owned()),
        reason: None,
        until: None,
    });
    Approved::of(awaiting, &ApprovalState::default().after(&decided), 41, now)
}

/// The permit of that call, approved.
pub(crate) fn approved() -> ToolPermit {
    let admitted = admitted(&["mail__send"], "rw", None);
    let (waits, tools) = (waits(), mail(&json!({ "grant": "gate" })));
    let yes = yes(waits.awaiting(), &waits.awaiting().args_digest, EXPIRES).unwrap();
    match asked(&admitted, 1, "mail__send", &json!({ "to": "bob@acme.test" }), &tools, Some(&yes)) {
        Ok(Judged::Permit(permit)) => *permit,
        other => panic!("{other:?}"),
    }
}

fn asked(
    admitted: &DispatchAdmitted,
    n: u32,
    tool: &str,
    args: &Value,
    tools: &Tools,
    approval: Option<&Approved>,
) -> Result<Judged, ToolRefusal> {
    judge(ToolAsked {
        admitted,
        n,
        tool,
        args,
        args_digest: &digest(canonical(args).as_bytes()),
        tools,
        policy: &Tagged,
        expires_at: EXPIRES,
        approval,
        grant: None,
    })
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
    match asked(admitted, n, tool, args, tools, None)? {
        Judged::Permit(permit) => Ok(*permit),
        Judged::Waits(permit) => {
            let policy = Some(permit.into_event().policy);
            Err(ToolRefusal { policy, ..ToolRefusal::new("WAITS", "", "") })
        }
    }
}

#[rstest]
#[case::exactly_that("d-1", 1, json!({ "to": "bob@acme.test" }), json!({ "grant": "gate" }), Ok(()))]
#[case::other_arguments("d-1", 1, json!({ "to": "eve@acme.test" }), json!({ "grant": "gate" }), Err("APPROVAL_OF_ANOTHER_CALL"))]
#[case::another_call("d-1", 2, json!({ "to": "bob@acme.test" }), json!({ "grant": "gate" }), Err("APPROVAL_OF_ANOTHER_CALL"))]
#[case::another_dispatch("d-2", 1, json!({ "to": "bob@acme.test" }), json!({ "grant": "gate" }), Err("APPROVAL_OF_ANOTHER_CALL"))]
#[case::a_tool_that_changed("d-1", 1, json!({ "to": "bob@acme.test" }), json!({ "grant": "gate", "scope": "mail:all" }), Err("TOOL_CHANGED"))]
#[case::a_policy_that_changed("d-1", 1, json!({ "to": "bob@acme.test" }), json!({ "grant": "gate", "barriers": ["forbidden"] }), Err("TOOL_CHANGED"))]
fn an_approval_is_of_one_call_with_exactly_these_arguments(
    #[case] dispatch: &str,
    #[case] n: u32,
    #[case] args: Value,
    #[case] change: Value,
    #[case] expected: Result<(), &str>,
) {
    let mut admitted = admitted(&["mail__send"], "rw", None);
    admitted.dispatch = DispatchId::parse("d-1").unwrap();
    let gated = mail(&json!({ "grant": "gate" }));
    let Ok(Judged::Waits(waits)) = asked(&admitted, 1, "mail__send", &json!({ "to": "bob@acme.test" }), &gated, None)
    else {
        panic!()
    };
    let yes = yes(waits.awaiting(), &waits.awaiting().args_digest, EXPIRES).unwrap();
    admitted.dispatch = DispatchId::parse(dispatch).unwrap();
    let found = asked(&admitted, n, "mail__send", &args, &mail(&change), Some(&yes));
    match &found {
        Ok(Judged::Permit(permit)) => assert_eq!(permit.intended().approval.as_ref().map(|a| a.seq), Some(41)),
        Ok(Judged::Waits(_)) => panic!("it waits again"),
        Err(_) => {}
    }
    assert_eq!(found.as_ref().map(|_| ()).map_err(|r| r.code), expected, "{found:?}");
}

pub(super) fn grant(change: &Value) -> Grant {
    let golden = include_str!("../../../../contracts/grant.v1/golden/Grant.full.json");
    let mut document: Value = serde_json::from_str(golden).unwrap();
    document["tools"] = json!(["mail__send", "workspace_read"]);
    document["constraints"] = json!([]);
    document["approval"] = json!({ "rule": "gated" });
    for (key, value) in change.as_object().unwrap() {
        document[key] = value.clone();
    }
    serde_json::from_value(document).unwrap()
}

#[rstest]
#[case::covered(json!({}), "mail__send", json!({ "to": "bob@acme.test" }), Ok(()))]
#[case::not_in_it(json!({ "tools": ["workspace_read"] }), "mail__send", json!({ "to": "bob@acme.test" }), Err("TOOL_NOT_GRANTED"))]
#[case::narrower_than_the_tool(json!({ "constraints": [{ "on": "recipient", "argument": "/to", "allow": ["bob@acme.test"] }] }), "mail__send", json!({ "to": "eve@acme.test" }), Err("RECIPIENT_NOT_ALLOWED"))]
#[case::wider_than_the_tool(json!({ "constraints": [{ "on": "recipient", "argument": "/to", "allow": ["*"] }] }), "mail__send", json!({ "to": "eve@evil.example" }), Err("RECIPIENT_NOT_ALLOWED"))]
#[case::left_out_where_the_tool_has_it(json!({ "constraints": [{ "on": "recipient", "argument": "/text", "allow": ["*"] }] }), "mail__send", json!({ "to": "bob@acme.test" }), Err("RECIPIENT_NOT_ALLOWED"))]
#[case::of_no_concern_to_another_tool(json!({ "constraints": [{ "on": "recipient", "argument": "/to", "allow": ["bob@acme.test"] }] }), "workspace_read", json!({ "path": "a" }), Ok(()))]
#[case::asks_for_what_cannot_be_undone(json!({ "approval": { "rule": "irreversible" } }), "mail__send", json!({ "to": "bob@acme.test" }), Err("WAITS"))]
#[case::asks_for_what_writes(json!({ "approval": { "rule": "writes" } }), "workspace_read", json!({ "path": "a" }), Ok(()))]
#[case::asks_for_every_call(json!({ "approval": { "rule": "always" } }), "workspace_read", json!({ "path": "a" }), Err("APPROVAL_NEEDED"))]
fn a_grant_is_a_ceiling_of_each_call(
    #[case] change: Value,
    #[case] tool: &str,
    #[case] args: Value,
    #[case] expected: Result<(), &str>,
) {
    let admitted = admitted(&["mail__send", "workspace_read"], "rw", None);
    let (tools, grant) = (mail(&json!({})), grant(&change));
    let asked = ToolAsked {
        admitted: &admitted,
        n: 1,
        tool,
        args: &args,
        args_digest: &digest(canonical(&args).as_bytes()),
        tools: &tools,
        policy: &Tagged,
        expires_at: EXPIRES,
        approval: None,
        grant: Some(&grant),
    };
    let found = match judge(asked) {
        Ok(Judged::Permit(_)) => Ok(()),
        Ok(Judged::Waits(permit)) => {
            assert_eq!(permit.awaiting().policy.rule, "grant-asks");
            Err("WAITS")
        }
        Err(refusal) => Err(refusal.code),
    };
    assert_eq!(found, expected);
}

#[test]
fn a_grant_names_who_approves() {
    let admitted = admitted(&["mail__send"], "rw", None);
    let named = grant(&json!({ "approval": { "rule": "gated", "approvers": ["u_omar"] } }));
    let waits = waits().into_event();
    let again = wait_again(&admitted, &waits, Some(&named)).unwrap();
    assert_eq!(again.approvers, [Subject::parse("u_omar").unwrap()]);
}

#[test]
fn what_was_approved_is_not_begun_after_its_time_and_what_was_not_never_is() {
    let waits = waits().into_event();
    let code = |found: Result<Approved, ToolRefusal>| found.map(|_| ()).map_err(|r| r.code);
    let late = UnixMillis(EXPIRES.0 + 1);
    assert_eq!(code(yes(&waits, &waits.args_digest, EXPIRES)), Ok(()));
    assert_eq!(code(yes(&waits, &waits.args_digest, late)), Err("APPROVAL_EXPIRED"));
    assert_eq!(code(Approved::of(&waits, &ApprovalState::default(), 41, EXPIRES)), Err("APPROVAL_PENDING"));
    let (card, dispatch) = (waits.card(), waits.dispatch.clone());
    let expired = ApprovalEvent::Expired(ApprovalExpired { card, dispatch, version: 1, expired_at: EXPIRES });
    let state = ApprovalState::default().after(&expired);
    assert_eq!(code(Approved::of(&waits, &state, 41, EXPIRES)), Err("APPROVAL_EXPIRED"));
}

#[rstest]
#[case::a_card(json!({ "title": "Reply to Bob", "body": "" }), Err("WAITS"))]
#[case::the_longest_title(json!({ "title": "x".repeat(200), "body": "" }), Err("WAITS"))]
#[case::a_longer_title(json!({ "title": "x".repeat(201), "body": "" }), Err("ARGUMENTS_INVALID"))]
#[case::two_lines(json!({ "title": "a\nb", "body": "" }), Err("ARGUMENTS_INVALID"))]
#[case::the_longest_body(json!({ "title": "a", "body": "x".repeat(16_384) }), Err("WAITS"))]
#[case::a_longer_body(json!({ "title": "a", "body": "x".repeat(16_385) }), Err("ARGUMENTS_INVALID"))]
#[case::an_effect_in_it(json!({ "title": "a", "body": "b", "effect": {} }), Err("ARGUMENTS_INVALID"))]
fn a_card_waits_for_a_person_and_does_nothing_else(#[case] args: Value, #[case] expected: Result<(), &str>) {
    let admitted = admitted(&["card_propose"], "rw", None);
    let found = judged(&admitted, 1, "card_propose", &args, &Tools::builtin());
    assert_eq!(found.map(|_| ()).map_err(|r| r.code), expected);
}

#[test]
fn a_file_does_not_wait_but_its_workspace_may_be_mounted_to_propose() {
    let mut document = serde_json::to_value(Tools::builtin().get("workspace_write").unwrap().document()).unwrap();
    document["barriers"] = json!(["asks"]);
    let tool = Offered::read(serde_json::from_value(document).unwrap(), None).unwrap();
    let tools = Tools::builtin().with(tool).unwrap();
    let write = |mode: &str| {
        let admitted = admitted(&["workspace_write"], mode, None);
        judged(&admitted, 1, "workspace_write", &json!({ "path": "a", "text": "" }), &tools)
            .map(|_| ())
            .map_err(|r| r.code)
    };
    assert_eq!((write("rw"), write("propose")), (Err("APPROVAL_NEEDED"), Ok(())));
}

#[test]
fn what_waits_can_be_looked_at() {
    let admitted = admitted(&["mail__send"], "rw", None);
    let document = json!({ "grant": "gate", "constraints": [] });
    let tools = |schema: Value| {
        let document: Value = serde_json::to_value(mail(&document).get("mail__send").unwrap().document()).unwrap();
        let input_schema = schema.as_object().unwrap().clone();
        let definition = Definition { name: "send".into(), description: String::new(), input_schema };
        Tools::builtin()
            .with(Offered::read(serde_json::from_value(document).unwrap(), Some(&definition)).unwrap())
            .unwrap()
    };
    let frame = canonical(&json!({ "to": "" })).len();
    let of = |len: usize| {
        let args = json!({ "to": "x".repeat(len) });
        judged(&admitted, 1, "mail__send", &args, &tools(json!({ "type": "object" }))).unwrap_err().code
    };
    assert_eq!((of(SHOWN_BYTES_MAX - frame), of(SHOWN_BYTES_MAX - frame + 1)), ("WAITS", "ARGUMENTS_TOO_LARGE"));
}

/// An upstream's tool that sends mail to acme.test, and what a case changes of its document.
pub(super) fn mail(change: &Value) -> Tools {
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
#[case::gated(json!({ "grant": "gate" }), json!({ "to": "bob@acme.test" }), Trigger::Message, Err("WAITS tool-is-gated"))]
#[case::untrusted(json!({}), json!({ "to": "bob@acme.test" }), Trigger::Event, Err("WAITS untrusted-only-proposes"))]
#[case::untrusted_but_reversible(json!({ "effect": "write" }), json!({ "to": "bob@acme.test" }), Trigger::Event, Ok("tool-of-the-unit"))]
#[case::the_policy_asks(json!({ "barriers": ["asks"] }), json!({ "to": "bob@acme.test" }), Trigger::Message, Err("WAITS asks"))]
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
fn an_approved_intent_and_what_waited_are_judged_again_from_the_log_alone() {
    let mut own = admitted(&["mail__send"], "rw", None);
    let (waits, recorded) = (waits().into_event(), approved().into_event());
    assert_eq!(wait_again(&own, &waits, None).unwrap(), waits);
    let yes = yes(&waits, &waits.args_digest, EXPIRES).unwrap();
    own.unit.trigger = Trigger::Event;
    let recorded = ToolIntended { input_trust: InputTrust::Untrusted, ..recorded };
    assert_eq!(judge_again(&own, &recorded, Some(&yes)).unwrap(), recorded);
    assert_eq!(judge_again(&own, &recorded, None).unwrap_err().code, "APPROVAL_NEEDED");
    let other = ToolIntended { args_digest: recorded.tool_digest.clone().unwrap(), ..recorded };
    assert_eq!(judge_again(&own, &other, Some(&yes)).unwrap_err().code, "APPROVAL_OF_ANOTHER_CALL");
}

#[test]
fn an_intent_is_judged_again_from_the_log_alone() {
    let mut own = admitted(&["mail__send"], "rw", None);
    let recorded = judged(&own, 3, "mail__send", &json!({ "to": "bob@acme.test" }), &mail(&json!({}))).unwrap();
    let plain = recorded.args().as_bytes().to_vec();
    let holds = recorded.clone().holding(&plain).into_event();
    assert_eq!(judge_again(&own, &holds, None).unwrap().args, inline(&plain));
    assert_eq!(recorded.clone().holding(b"another").into_event().args, None);
    let recorded = recorded.into_event();
    assert_eq!(judge_again(&own, &recorded, None).unwrap(), recorded);
    let of_another = ToolIntended { args: inline(b"another"), ..recorded.clone() };
    assert_eq!(judge_again(&own, &of_another, None).unwrap_err().code, "ARGUMENTS_OF_ANOTHER_CALL");
    own.unit.trigger = Trigger::Event;
    assert_eq!(judge_again(&own, &recorded, None).unwrap_err().code, "APPROVAL_NEEDED");
    own.unit.tools.clear();
    assert_eq!(judge_again(&own, &recorded, None).unwrap_err().code, "TOOL_NOT_LISTED");
    let before = ToolIntended { tool_digest: None, ..recorded };
    assert_eq!(judge_again(&admitted(&["mail__send"], "rw", None), &before, None).unwrap_err().code, "TOOL_NOT_LISTED");
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
