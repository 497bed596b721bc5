//! Which calls stand before their server, and what each other one is refused with. Each case is the honest call with one
//! thing changed.

use super::policy::tests::Tagged;
use super::tests::{EXPIRES, admitted, approved, grant, mail, waits, yes};
use super::*;
use custody_contracts::canonical::digest;
use custody_contracts::events::{GrantCheck, GrantUse};
use custody_contracts::ids::{DispatchId, GrantId};
use custody_contracts::token::ToolClaims;
use custody_contracts::unit::{InputTrust, Trigger};
use rstest::rstest;
use serde_json::json;

/// Everything that decides over one call before its server.
struct Case {
    claims: ToolClaims,
    tool: &'static str,
    args: Value,
    admitted: DispatchAdmitted,
    grant: Grant,
    intended: Option<ToolIntended>,
    approval: Option<Approved>,
    tools: Tools,
}

fn claims(admitted: &DispatchAdmitted, txn: Option<String>) -> ToolClaims {
    let golden = include_str!("../../../../contracts/token.v1/golden/ToolClaims.minimal.json");
    let claims: ToolClaims = serde_json::from_str(golden).unwrap();
    ToolClaims {
        scope: "tool:mail__send".into(),
        dispatch_id: admitted.dispatch.clone(),
        grant: admitted.grant.id().unwrap().clone(),
        txn,
        ..claims
    }
}

impl Case {
    /// The honest call, recorded as the first of its dispatch.
    fn honest() -> Case {
        let (tools, grant) = (mail(&json!({})), grant(&json!({})));
        let mut admitted = admitted(&["mail__send"], "rw", Some(1));
        admitted.grant = GrantCheck::Checked(GrantUse { id: grant.id.clone(), seq: 7 });
        let args = json!({ "to": "bob@acme.test" });
        let asked = ToolAsked {
            admitted: &admitted,
            n: 1,
            tool: "mail__send",
            args: &args,
            args_digest: &digest(canonical(&args).as_bytes()),
            tools: &tools,
            policy: &Tagged,
            expires_at: EXPIRES,
            approval: None,
            grant: Some(&grant),
        };
        let Ok(Judged::Permit(permit)) = judge(asked) else { panic!() };
        let txn = Some(format!("{}-t1", admitted.dispatch));
        let (claims, intended, approval) = (claims(&admitted, txn), Some(permit.into_event()), None);
        Case { claims, tool: "mail__send", args, admitted, grant, intended, approval, tools }
    }

    fn judged(&self) -> Result<Option<RuledBy>, ToolRefusal> {
        judge_presented(Presented {
            claims: &self.claims,
            tool: self.tool,
            args: &self.args,
            args_digest: &digest(canonical(&self.args).as_bytes()),
            admitted: &self.admitted,
            grant: Some(&self.grant),
            intended: self.intended.as_ref(),
            approval: self.approval.as_ref(),
            tools: &self.tools,
            policy: &Tagged,
        })
    }
}

fn intended(case: &mut Case) -> &mut ToolIntended {
    case.intended.as_mut().unwrap()
}

#[rstest]
#[case::honest(|_: &mut Case| {}, Ok("tool-of-the-unit"))]
#[case::another_dispatchs_token(|c: &mut Case| c.claims.dispatch_id = DispatchId::parse("d-other").unwrap(), Err("TOKEN_DISPATCH"))]
#[case::another_grants_token(|c: &mut Case| c.claims.grant = GrantId::parse("g-other").unwrap(), Err("TOKEN_DISPATCH"))]
#[case::t17_a_tool_that_the_token_does_not_name(|c: &mut Case| c.claims.scope = "tool:mail__read".into(), Err("TOKEN_SCOPE"))]
#[case::t17_a_longer_name(|c: &mut Case| c.tool = "mail__send_all", Err("TOKEN_SCOPE"))]
#[case::nothing_was_recorded(|c: &mut Case| c.intended = None, Err("CALL_NOT_OPEN"))]
#[case::recorded_under_another_number(|c: &mut Case| intended(c).n = 2, Err("CALL_NOT_OPEN"))]
#[case::recorded_for_another_dispatch(|c: &mut Case| intended(c).dispatch = DispatchId::parse("d-other").unwrap(), Err("CALL_NOT_OPEN"))]
#[case::other_arguments(|c: &mut Case| c.args = json!({ "to": "eve@acme.test" }), Err("CALL_CHANGED"))]
#[case::one_argument_more(|c: &mut Case| c.args = json!({ "to": "bob@acme.test", "text": "x" }), Err("CALL_CHANGED"))]
#[case::another_tool_was_recorded(|c: &mut Case| intended(c).tool = "mail__read".into(), Err("CALL_CHANGED"))]
#[case::the_tool_left_the_unit(|c: &mut Case| c.admitted.unit.tools.clear(), Err("TOOL_NOT_LISTED"))]
#[case::the_tool_is_offered_no_more(|c: &mut Case| c.tools = Tools::builtin(), Err("TOOL_NOT_LISTED"))]
#[case::the_tool_was_changed(|c: &mut Case| c.tools = mail(&json!({ "scope": "mail:all" })), Err("TOOL_CHANGED"))]
#[case::the_tool_was_narrowed(|c: &mut Case| c.tools = mail(&json!({ "constraints": [{ "on": "recipient", "argument": "/to", "allow": ["omar@acme.test"] }] })), Err("RECIPIENT_NOT_ALLOWED"))]
#[case::not_in_the_grant(|c: &mut Case| c.grant.tools.clear(), Err("TOOL_NOT_GRANTED"))]
#[case::the_policy_forbids_it_now(|c: &mut Case| c.tools = mail(&json!({ "barriers": ["forbidden"] })), Err("POLICY_FORBIDS no-forbidden"))]
#[case::it_must_be_approved_now(|c: &mut Case| c.tools = mail(&json!({ "grant": "gate" })), Err("APPROVAL_NEEDED tool-is-gated"))]
#[case::untrusted_input(|c: &mut Case| c.admitted.unit.trigger = Trigger::Event, Err("APPROVAL_NEEDED untrusted-only-proposes"))]
#[case::a_question_before_the_call(|c: &mut Case| { c.claims.txn = None; c.intended = None; }, Ok("tool-of-the-unit"))]
#[case::a_question_about_another_recipient(|c: &mut Case| { c.claims.txn = None; c.intended = None; c.args = json!({ "to": "eve@evil.example" }); }, Err("RECIPIENT_NOT_ALLOWED"))]
fn a_call_stands_before_its_server_exactly_as_it_was_recorded(
    #[case] change: fn(&mut Case),
    #[case] expected: Result<&str, &str>,
) {
    let mut case = Case::honest();
    change(&mut case);
    let found = case.judged();
    let rule = |rule: Option<RuledBy>| rule.map(|by| by.rule).unwrap_or_default();
    let found = found.map(rule).map_err(|refusal| {
        let by = refusal.policy.map(|by| format!(" {}", by.rule)).unwrap_or_default();
        format!("{}{by}", refusal.code)
    });
    assert_eq!(found.as_ref().map(String::as_str).map_err(String::as_str), expected);
}

/// What a person approved stands with the approval, and not without it.
#[test]
fn an_approved_call_stands_with_its_approval() {
    let mut case = Case::honest();
    case.tools = mail(&json!({ "grant": "gate" }));
    case.admitted.unit.trigger = Trigger::Event;
    let waits = waits();
    case.intended = Some(approved().into_event());
    case.approval = Some(yes(waits.awaiting(), &waits.awaiting().args_digest, EXPIRES).unwrap());
    assert_eq!(case.admitted.unit.trigger.input_trust(), InputTrust::Untrusted);
    assert_eq!(case.judged().unwrap().unwrap().rule, "tool-of-the-unit");
    case.approval = None;
    assert_eq!(case.judged().unwrap_err().code, "APPROVAL_NEEDED");
}
