//! A call as it arrives before its server, shown with a tool token: whether exactly this call was recorded, and would be
//! let through as things are now. Must never take a token's word for what the ledger says, and never leave a permit: who
//! asks here makes no call.

use super::{Approved, Judged, Policy, ToolAsked, ToolRefusal, Tools, judge};
use custody_contracts::events::{DispatchAdmitted, RuledBy, ToolIntended};
use custody_contracts::grant::Grant;
use custody_contracts::ids::UnixMillis;
use custody_contracts::token::ToolClaims;
use serde_json::Value;

/// A call that is shown with a token whose signature is good, and what is known about both.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// What the token says.
    pub claims: &'a ToolClaims,
    /// The tool, by the name that the dispatch has for it.
    pub tool: &'a str,
    /// The arguments as they arrived.
    pub args: &'a Value,
    /// The digest that names them as they are kept.
    pub args_digest: &'a str,
    /// The admission of the token's dispatch.
    pub admitted: &'a DispatchAdmitted,
    /// The grant that covers it.
    pub grant: Option<&'a Grant>,
    /// The intent under the token's `txn`, while it has no outcome.
    pub intended: Option<&'a ToolIntended>,
    /// The approval that the intent rests on, if it does.
    pub approval: Option<&'a Approved>,
    /// What is offered now.
    pub tools: &'a Tools,
    /// What is asked about every call, now.
    pub policy: &'a dyn Policy,
}

/// Judges a call that is shown with a token, by the same rules as one of an agent. A token with a `txn` is good for the
/// call that was recorded under it and for no other. One without asks whether such a call would be let through; the limit
/// of calls is not asked then, because a call that was not begun has no number.
///
/// # Errors
/// The [`ToolRefusal`] of the first rule that says no: `TOKEN_DISPATCH`, `TOKEN_SCOPE`, `CALL_NOT_OPEN`, `CALL_CHANGED`,
/// those of [`judge`], `APPROVAL_NEEDED`, `TOOL_CHANGED`.
pub fn judge_presented(asked: Presented<'_>) -> Result<Option<RuledBy>, ToolRefusal> {
    let Presented { claims, tool, args, admitted, .. } = asked;
    if claims.dispatch_id != admitted.dispatch || admitted.grant.id() != Some(&claims.grant) {
        let detail = "the token names another dispatch or another grant than the admission";
        return Err(ToolRefusal::new("TOKEN_DISPATCH", detail, "nothing may be done with it"));
    }
    if !claims.scope.split(' ').any(|word| word.strip_prefix("tool:") == Some(tool)) {
        let tool: String = tool.chars().take(80).collect();
        let detail = format!("the token is not for tool {tool:?}");
        return Err(ToolRefusal::new("TOKEN_SCOPE", detail, "a token is for the tool that it names"));
    }
    if claims.txn.is_some() {
        recorded(asked)?;
    }
    let judged = judge(ToolAsked {
        admitted,
        n: asked.intended.map_or(1, |intended| intended.n),
        tool,
        args,
        args_digest: asked.args_digest,
        tools: asked.tools,
        policy: asked.policy,
        expires_at: UnixMillis::default(),
        approval: asked.approval,
        grant: asked.grant,
    })?;
    match (judged, asked.intended) {
        (Judged::Waits(waits), _) => {
            let rule = waits.into_event().policy;
            let detail = format!("rule {} asks for a person", rule.rule);
            let hint = "nothing was done; the dispatch proposes it";
            Err(ToolRefusal { code: "APPROVAL_NEEDED", detail, hint, policy: Some(rule) })
        }
        (Judged::Permit(permit), Some(intended)) if permit.intended().tool_digest != intended.tool_digest => {
            let detail = format!("{tool} is offered otherwise now than when the call was recorded");
            Err(ToolRefusal::new("TOOL_CHANGED", detail, "call it again"))
        }
        (Judged::Permit(permit), _) => Ok(permit.into_event().policy),
    }
}

/// Whether the call is the one that stands under the token's `txn` and has no outcome.
fn recorded(asked: Presented<'_>) -> Result<(), ToolRefusal> {
    let Presented { claims, tool, args_digest, .. } = asked;
    let under = |intended: &&ToolIntended| {
        intended.dispatch == claims.dispatch_id && claims.txn == Some(format!("{}-t{}", intended.dispatch, intended.n))
    };
    let Some(intended) = asked.intended.filter(under) else {
        let detail = "no call stands open under the token's txn";
        return Err(ToolRefusal::new("CALL_NOT_OPEN", detail, "a call is recorded before it is made, and made once"));
    };
    if intended.tool != tool || intended.args_digest != args_digest {
        let detail = "its tool or its arguments are not those that were recorded under the token's txn";
        return Err(ToolRefusal::new("CALL_CHANGED", detail, "nothing is passed on that was not recorded"));
    }
    Ok(())
}
