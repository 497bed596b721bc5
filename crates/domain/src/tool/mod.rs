//! Tools: which are offered, and whether one call may be made. A call that was found good leaves a [`ToolPermit`], and
//! nothing else can be written down as an intent.
//!
//! [`judge`] is the only maker of a permit: the tool's document, its constraints, the policy and, when there is one, the
//! approval are its inputs, and no call is made that has not passed through it.

mod args;
mod builtin;
pub mod constraint;
mod offered;
mod policy;
mod presented;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod tests_presented;

pub use args::{FileCall, InnerPath, READ_BYTES_MAX, WRITE_BYTES_MAX};
pub use builtin::CARD;
pub use offered::{DESCRIPTION_BYTES_MAX, Definition, NotOffered, Offered, SCHEMA_BYTES_MAX, TOOLS_MAX, Tools};
pub use policy::{Policy, PolicyAsked, Verdict, waits};
pub use presented::{Presented, judge_presented};

use crate::approval::{ApprovalState, Ended};
use constraint::Whose;
use custody_contracts::approval::{ApprovedBy, ToolAwaiting};
use custody_contracts::canonical::canonical;
use custody_contracts::catalogue;
use custody_contracts::events::{DispatchAdmitted, RuledBy, ToolEffect, ToolIntended};
use custody_contracts::grant::Grant;
use custody_contracts::ids::{Subject, UnixMillis, WorkspaceId};
use custody_contracts::sealed::{from_inline, inline};
use custody_contracts::unit::{InputTrust, Mode, WorkspaceMount};
use policy::{Ruling, ruling};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The most tool calls of a dispatch that says no limit of its own.
pub const TOOL_CALLS_MAX: u64 = 10_000;
/// The largest arguments of one call, canonical, in bytes.
pub const ARGS_BYTES_MAX: usize = 1_100_000;
/// The largest arguments of a call that waits for a person, canonical, in bytes: what is approved can be looked at.
pub const SHOWN_BYTES_MAX: usize = 32_768;

/// Everything that decides over one call.
#[derive(Debug, Clone, Copy)]
pub struct ToolAsked<'a> {
    /// The dispatch.
    pub admitted: &'a DispatchAdmitted,
    /// Its number among the dispatch's tool calls.
    pub n: u32,
    /// The tool's name, as the agent says it.
    pub tool: &'a str,
    /// Its arguments.
    pub args: &'a Value,
    /// The digest that names the canonical arguments as they are kept: it is recorded, compared, and never made here,
    /// because what is kept is sealed with the person's key.
    pub args_digest: &'a str,
    /// What is offered.
    pub tools: &'a Tools,
    /// What is asked about every call.
    pub policy: &'a dyn Policy,
    /// Until when it could be approved, if it must be.
    pub expires_at: UnixMillis,
    /// The approval, for a call that waited.
    pub approval: Option<&'a Approved>,
    /// The grant that covers the dispatch; `None` for a dispatch from before grants.
    pub grant: Option<&'a Grant>,
}

/// What came of judging a call that no rule refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// It may be made.
    Permit(Box<ToolPermit>),
    /// It may wait for a person.
    Waits(Box<WaitPermit>),
}

/// Proof that a person approved exactly one call. Only [`Approved::of`] makes one, from what the ledger holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approved {
    awaiting: ToolAwaiting,
    args_digest: String,
    by: ApprovedBy,
}

impl Approved {
    /// What an approval came to, `seq` being the ledger sequence of its last event.
    ///
    /// # Errors
    /// The [`ToolRefusal`] of a call that was rejected, has expired, or is not decided (`APPROVAL_PENDING`).
    pub fn of(
        awaiting: &ToolAwaiting,
        state: &ApprovalState,
        seq: u64,
        now: UnixMillis,
    ) -> Result<Approved, ToolRefusal> {
        let card = awaiting.card();
        let refuse = |code, detail: String, hint| Err(ToolRefusal::new(code, detail, hint));
        match state.ended() {
            None => refuse("APPROVAL_PENDING", format!("nobody decided about {card}"), "wait for the decision"),
            Some(Ended::Rejected { by, .. }) => {
                refuse("APPROVAL_REJECTED", format!("{by} said no to {card}"), "do it in another way, or not at all")
            }
            Some(Ended::Expired) => refuse(
                "APPROVAL_EXPIRED",
                format!("nobody approved {card} in time"),
                "propose it again in a new dispatch",
            ),
            // Whoever said yes meant now, and not whenever the gateway may come up again.
            Some(Ended::Approved { .. }) if now > awaiting.expires_at => refuse(
                "APPROVAL_EXPIRED",
                format!("{card} was approved, and its time was up before it was begun"),
                "propose it again in a new dispatch",
            ),
            Some(Ended::Approved { by, args_digest }) => Ok(Approved {
                awaiting: awaiting.clone(),
                args_digest: args_digest.clone(),
                by: ApprovedBy { seq, version: state.version(), by: by.clone() },
            }),
        }
    }

    /// The digest of the arguments that were approved.
    pub fn args_digest(&self) -> &str {
        &self.args_digest
    }
}

/// Proof that a call was judged and may wait for a person. Only [`judge`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitPermit {
    awaiting: ToolAwaiting,
    args: String,
}

impl WaitPermit {
    /// The canonical arguments that were judged.
    pub fn args(&self) -> &str {
        &self.args
    }

    /// What will be written down.
    pub fn awaiting(&self) -> &ToolAwaiting {
        &self.awaiting
    }

    /// The event that this permit stands for.
    pub fn into_event(self) -> ToolAwaiting {
        self.awaiting
    }
}

/// What a permitted call does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Something with a file of a workspace.
    File {
        /// Which workspace.
        workspace: WorkspaceId,
        /// What.
        call: FileCall,
    },
    /// A card that was put before a person, and that the person said yes to: nothing follows from it here.
    Card,
    /// A call of an upstream's tool, with the arguments that were judged.
    Upstream {
        /// The tool.
        tool: Arc<Offered>,
        /// Its arguments, read again from their canonical text: nothing else is sent on.
        args: Value,
    },
}

/// Proof that a call was judged and found good. Only [`judge`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolPermit {
    intended: ToolIntended,
    args: String,
    deed: Deed,
}

impl ToolPermit {
    /// The canonical arguments that were judged.
    pub fn args(&self) -> &str {
        &self.args
    }

    /// The same arguments as they are carried out.
    pub fn deed(&self) -> &Deed {
        &self.deed
    }

    /// The event that this permit stands for.
    pub fn into_event(self) -> ToolIntended {
        self.intended
    }

    /// What will be written down.
    pub fn intended(&self) -> &ToolIntended {
        &self.intended
    }

    /// Lets its intent hold the arguments as they are kept, when they are small: no blob is needed then. What has not the
    /// digest that was judged is not taken.
    #[must_use]
    pub fn holding(mut self, kept: &[u8]) -> ToolPermit {
        let named = self.intended.args_digest.as_str();
        self.intended.args = inline(kept).filter(|text| from_inline(text, named).is_some());
        self
    }

    /// Whether it rests on an approval.
    pub fn is_approved(&self) -> bool {
        self.intended.approval.is_some()
    }
}

/// Why a call may not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct ToolRefusal {
    /// Stable code.
    pub code: &'static str,
    /// What was wrong, in a sentence.
    pub detail: String,
    /// The next step.
    pub hint: &'static str,
    /// The policy that said so.
    pub policy: Option<RuledBy>,
}

impl ToolRefusal {
    /// One that no policy has to do with.
    pub fn new(code: &'static str, detail: impl Into<String>, hint: &'static str) -> ToolRefusal {
        ToolRefusal { code, detail: detail.into(), hint, policy: None }
    }
}

/// The tools of a dispatch, in the order of its unit. What nobody offers is left out, and so is what the policy would
/// refuse also with an approval: what cannot be called is not shown.
pub fn listed(admitted: &DispatchAdmitted, tools: &Tools, policy: &dyn Policy) -> Vec<Arc<Offered>> {
    let mut seen = BTreeSet::new();
    let names = admitted.unit.tools.iter().filter(|name| seen.insert(name.as_str()));
    let offered = names.filter_map(|name| tools.get(name)).cloned();
    offered
        .filter(|tool| !matches!(ruling(policy, admitted, tool.document(), None, false), Ruling::Forbidden(..)))
        .collect()
}

/// The most tool calls of a dispatch.
pub fn calls_max(admitted: &DispatchAdmitted) -> u64 {
    let asked = admitted.unit.limits.as_ref().and_then(|l| l.tool_calls);
    asked.map_or(TOOL_CALLS_MAX, |asked| asked.min(TOOL_CALLS_MAX))
}

/// Judges one call.
///
/// # Errors
/// The [`ToolRefusal`] of the first rule that says no, in this order: list, limit, size, ambiguity, schema or arguments,
/// mode, the tool's constraints, the grant's tools and constraints, the approval, policy.
pub fn judge(asked: ToolAsked<'_>) -> Result<Judged, ToolRefusal> {
    let ToolAsked { admitted, n, .. } = asked;
    let named = admitted.unit.tools.iter().any(|own| own == asked.tool);
    let Some(tool) = asked.tools.get(asked.tool).filter(|_| named) else { return Err(not_listed(asked.tool)) };
    within_limit(admitted, n)?;
    let args = canonical(asked.args);
    if args.len() > ARGS_BYTES_MAX {
        let detail = format!("the arguments are {} bytes; {ARGS_BYTES_MAX} are the most", args.len());
        return Err(ToolRefusal::new("ARGUMENTS_TOO_LARGE", detail, "send less in one call"));
    }
    if let Some(member) = twice_but_for_case(asked.args) {
        let detail = format!("{member:?} stands twice in one object, spelled with other capitals");
        return Err(ToolRefusal::new("ARGUMENTS_AMBIGUOUS", detail, "say each argument once"));
    }
    let (deed, mode) = deed(tool, asked.args, &args, &admitted.unit.workspaces)?;
    let document = tool.document();
    if document.effect != ToolEffect::Read && mode == Some(Mode::Ro) {
        return Err(ToolRefusal::new(
            "WORKSPACE_READ_ONLY",
            "the workspace is mounted read-only for this dispatch",
            "propose the change in words, or ask for mode rw or propose",
        ));
    }
    constraint::check(&document.constraints, Whose::Tool(&document.name), asked.args)?;
    if let Some(grant) = asked.grant {
        within_grant(grant, tool, asked.args)?;
    }
    let args_digest = asked.args_digest.to_owned();
    if let Some(approved) = asked.approval {
        is_approved(approved, admitted, n, tool, &args_digest)?;
    }
    // What is written into a copy waits for the workspace's owner when the run ends: that is its approval.
    let proposes = mode == Some(Mode::Propose) && document.effect != ToolEffect::Read;
    let rule = asked.grant.map(|grant| grant.approval.rule);
    let policy = match ruling(asked.policy, admitted, document, rule, asked.approval.is_some() || proposes) {
        Ruling::Permitted(rule) => rule,
        Ruling::Waits(rule) => return wait(&asked, tool, &deed, args, args_digest, rule),
        Ruling::Forbidden(rule, why) => {
            let detail = format!("rule {} forbids it: {why}", rule.rule);
            let hint = "do it in another way, or tell the person what is needed";
            return Err(ToolRefusal { code: "POLICY_FORBIDS", detail, hint, policy: Some(rule) });
        }
    };
    let intended = ToolIntended {
        dispatch: admitted.dispatch.clone(),
        n,
        tool: document.name.clone(),
        scope: document.scope.clone(),
        effect: document.effect,
        input_trust: admitted.unit.trigger.input_trust(),
        idempotency_key: idempotency_key(admitted, n, &args_digest),
        args_digest,
        args: None,
        policy: Some(policy),
        tool_digest: Some(tool.digest().to_owned()),
        approval: asked.approval.map(|approved| approved.by.clone()),
    };
    Ok(Judged::Permit(Box::new(ToolPermit { intended, args, deed })))
}

/// Whether a grant has this tool, and whether the arguments satisfy it. A constraint of a grant is of the calls that have
/// its argument: of tools whose schema names it, and of calls that give it all the same.
fn within_grant(grant: &Grant, tool: &Offered, args: &Value) -> Result<(), ToolRefusal> {
    let name = &tool.document().name;
    if !grant.tools.contains(name) {
        let detail = format!("grant {} does not hold tool {name}", grant.id);
        return Err(ToolRefusal::new("TOOL_NOT_GRANTED", detail, "ask the person for a grant that holds it"));
    }
    let concerned = grant.constraints.iter().filter(|constraint| {
        let first = constraint.argument.split('/').nth(1).unwrap_or_default().replace("~1", "/").replace("~0", "~");
        args.get(&first).is_some() || names_argument(tool.args_schema(), &first)
    });
    let concerned: Vec<_> = concerned.cloned().collect();
    constraint::check(&concerned, Whose::Grant(grant.id.as_str()), args)
}

/// Whether a schema names a member of the arguments, at its top or in one of its `allOf`.
fn names_argument(schema: &Value, member: &str) -> bool {
    let all = schema["allOf"].as_array().map(Vec::as_slice).unwrap_or_default();
    schema["properties"].get(member).is_some() || all.iter().any(|one| names_argument(one, member))
}

/// Whether an approval is of this call: of this number, this tool as it was offered, and these arguments.
fn is_approved(
    approved: &Approved,
    admitted: &DispatchAdmitted,
    n: u32,
    tool: &Offered,
    args_digest: &str,
) -> Result<(), ToolRefusal> {
    let awaiting = &approved.awaiting;
    if awaiting.dispatch != admitted.dispatch || awaiting.n != n || approved.args_digest != args_digest {
        let detail = format!("{} was approved for other arguments", awaiting.card());
        return Err(ToolRefusal::new("APPROVAL_OF_ANOTHER_CALL", detail, "nothing was done"));
    }
    if awaiting.tool != tool.document().name || awaiting.tool_digest != tool.digest() {
        let detail = format!("{} is offered otherwise now than when the call was shown", awaiting.tool);
        return Err(ToolRefusal::new("TOOL_CHANGED", detail, "propose it again in a new dispatch"));
    }
    Ok(())
}

/// A call that a person must approve.
fn wait(
    asked: &ToolAsked<'_>,
    tool: &Offered,
    deed: &Deed,
    args: String,
    args_digest: String,
    rule: RuledBy,
) -> Result<Judged, ToolRefusal> {
    let ToolAsked { admitted, n, .. } = *asked;
    if matches!(deed, Deed::File { .. }) {
        return Err(ToolRefusal {
            code: "APPROVAL_NEEDED",
            detail: format!("rule {} asks for a person, and a file of a running box cannot wait for one", rule.rule),
            hint: "ask for the workspace in mode propose: its owner looks at the changes",
            policy: Some(rule),
        });
    }
    if args.len() > SHOWN_BYTES_MAX {
        let detail = format!("the arguments are {} bytes; a person is shown {SHOWN_BYTES_MAX} at most", args.len());
        return Err(ToolRefusal::new("ARGUMENTS_TOO_LARGE", detail, "send less in one call"));
    }
    let document = tool.document();
    let awaiting = ToolAwaiting {
        dispatch: admitted.dispatch.clone(),
        n,
        tool: document.name.clone(),
        scope: document.scope.clone(),
        effect: document.effect,
        args_bytes: args.len() as u64,
        input_trust: admitted.unit.trigger.input_trust(),
        idempotency_key: idempotency_key(admitted, n, &args_digest),
        args_digest,
        policy: rule,
        tool_digest: tool.digest().to_owned(),
        approvers: approvers(admitted, asked.grant),
        expires_at: asked.expires_at,
    };
    Ok(Judged::Waits(Box::new(WaitPermit { awaiting, args })))
}

/// Who may approve a call of a dispatch: those that the grant names, else the person alone.
fn approvers(admitted: &DispatchAdmitted, grant: Option<&Grant>) -> Vec<Subject> {
    let named = grant.and_then(|grant| grant.approval.approvers.clone()).filter(|named| !named.is_empty());
    named.unwrap_or_else(|| vec![admitted.unit.identity.subject.clone()])
}

/// What a call does, and in which mode the workspace is mounted that it is about.
fn deed(
    tool: &Arc<Offered>,
    given: &Value,
    args: &str,
    mounts: &[WorkspaceMount],
) -> Result<(Deed, Option<Mode>), ToolRefusal> {
    let bad =
        |detail: String| ToolRefusal::new("ARGUMENTS_INVALID", detail, "tools/list has the schema of the arguments");
    if tool.document().name == CARD {
        args::card(given)?;
        return Ok((Deed::Card, None));
    }
    if tool.upstream().is_none() {
        let (mount, call) = args::read(&tool.document().name, given, mounts)?;
        return Ok((Deed::File { workspace: mount.id.clone(), call }, Some(mount.mode)));
    }
    let name = &tool.document().name;
    if !given.is_object() {
        return Err(bad(format!("{name}: the arguments are not an object")));
    }
    catalogue::check_against(tool.args_schema(), given).map_err(|why| bad(format!("{name}: {why}")))?;
    let args = serde_json::from_str(args).map_err(|why| bad(format!("{name}: {why}")))?;
    Ok((Deed::Upstream { tool: tool.clone(), args }, None))
}

/// A recorded intent, judged again as far as the log alone allows: its arguments are sealed or a blob, and the documents of
/// upstreams' tools are the installation's.
///
/// # Errors
/// The [`ToolRefusal`] that such a call would get.
pub fn judge_again(
    admitted: &DispatchAdmitted,
    recorded: &ToolIntended,
    approval: Option<&Approved>,
) -> Result<ToolIntended, ToolRefusal> {
    let digest = recorded.tool_digest.as_deref();
    let (scope, effect) =
        offered_again(admitted, recorded.n, &recorded.tool, digest, &recorded.scope, recorded.effect)?;
    if recorded.args.as_ref().is_some_and(|args| from_inline(args, &recorded.args_digest).is_none()) {
        let detail = "the arguments that it holds have not the digest that it names";
        return Err(ToolRefusal::new("ARGUMENTS_OF_ANOTHER_CALL", detail, "nothing may be done"));
    }
    let input_trust = admitted.unit.trigger.input_trust();
    match approval {
        Some(approved) => {
            let ToolAwaiting { tool, tool_digest, .. } = &approved.awaiting;
            let same = *tool == recorded.tool && Some(tool_digest) == recorded.tool_digest.as_ref();
            if !same || approved.awaiting.n != recorded.n || approved.args_digest != recorded.args_digest {
                let detail = "it is not the call that was approved";
                return Err(ToolRefusal::new("APPROVAL_OF_ANOTHER_CALL", detail, "nothing may be done"));
            }
        }
        None if input_trust == InputTrust::Untrusted && effect == ToolEffect::Irreversible => {
            let detail = "its input is untrusted and the effect cannot be undone, and nobody approved it";
            return Err(ToolRefusal::new("APPROVAL_NEEDED", detail, "propose it"));
        }
        None => {}
    }
    Ok(ToolIntended {
        dispatch: admitted.dispatch.clone(),
        n: recorded.n,
        tool: recorded.tool.clone(),
        scope,
        effect,
        input_trust,
        idempotency_key: idempotency_key(admitted, recorded.n, &recorded.args_digest),
        args_digest: recorded.args_digest.clone(),
        args: recorded.args.clone(),
        policy: recorded.policy.clone(),
        tool_digest: recorded.tool_digest.clone(),
        approval: approval.map(|approved| approved.by.clone()),
    })
}

/// A recorded call that waits, judged again as far as the log alone allows.
///
/// # Errors
/// The [`ToolRefusal`] that such a call would get.
pub fn wait_again(
    admitted: &DispatchAdmitted,
    recorded: &ToolAwaiting,
    grant: Option<&Grant>,
) -> Result<ToolAwaiting, ToolRefusal> {
    let digest = Some(recorded.tool_digest.as_str());
    let (scope, effect) =
        offered_again(admitted, recorded.n, &recorded.tool, digest, &recorded.scope, recorded.effect)?;
    Ok(ToolAwaiting {
        dispatch: admitted.dispatch.clone(),
        scope,
        effect,
        input_trust: admitted.unit.trigger.input_trust(),
        idempotency_key: idempotency_key(admitted, recorded.n, &recorded.args_digest),
        approvers: approvers(admitted, grant),
        ..recorded.clone()
    })
}

/// The scope and the effect of a recorded call: a builtin tool has its own, an upstream's has what was recorded.
fn offered_again(
    admitted: &DispatchAdmitted,
    n: u32,
    tool: &str,
    digest: Option<&str>,
    scope: &str,
    effect: ToolEffect,
) -> Result<(String, ToolEffect), ToolRefusal> {
    if !admitted.unit.tools.iter().any(|own| own == tool) {
        return Err(not_listed(tool));
    }
    within_limit(admitted, n)?;
    match (Tools::builtin().get(tool), digest) {
        (Some(own), _) => Ok((own.document().scope.clone(), own.document().effect)),
        (None, Some(_)) => Ok((scope.to_owned(), effect)),
        // From before upstreams' tools were offered: there was none of that name.
        (None, None) => Err(not_listed(tool)),
    }
}

fn not_listed(name: &str) -> ToolRefusal {
    let named: String = name.chars().take(80).collect();
    ToolRefusal::new(
        "TOOL_NOT_LISTED",
        format!("this dispatch has no tool {named:?}"),
        "call a tool of tools/list; the launcher names them in unit.tools",
    )
}

fn within_limit(admitted: &DispatchAdmitted, n: u32) -> Result<(), ToolRefusal> {
    let most = calls_max(admitted);
    if u64::from(n) <= most {
        return Ok(());
    }
    Err(ToolRefusal::new(
        "TOOL_CALLS_LIMIT",
        format!("this dispatch has made its {most} tool calls"),
        "finish with what is known; the launcher's limit is unit.limits.tool_calls",
    ))
}

fn idempotency_key(admitted: &DispatchAdmitted, n: u32, args_digest: &str) -> String {
    let short = args_digest.get(7..23).unwrap_or_default();
    format!("{}-t{n}:{short}", admitted.dispatch)
}

/// A member that stands in one object in two spellings that differ only in their capitals: two parsers could take
/// different ones.
fn twice_but_for_case(value: &Value) -> Option<String> {
    match value {
        Value::Object(members) => {
            let mut seen = BTreeSet::new();
            let twice = members.keys().find(|name| !seen.insert(name.to_lowercase()));
            twice.cloned().or_else(|| members.values().find_map(twice_but_for_case))
        }
        Value::Array(items) => items.iter().find_map(twice_but_for_case),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// The workspace that a call names; the first one when it names none.
///
/// # Errors
/// A refusal when it names one that is not mounted.
fn workspace<'a>(mounts: &'a [WorkspaceMount], args: &Value) -> Result<&'a WorkspaceMount, ToolRefusal> {
    let named = &args["workspace"];
    let found = match named.as_str() {
        Some(id) => mounts.iter().find(|mount| mount.id.as_str() == id),
        None if named.is_null() => mounts.first(),
        None => None,
    };
    found.ok_or_else(|| {
        let known = mounts.iter().map(|m| m.id.as_str()).collect::<Vec<_>>().join(", ");
        ToolRefusal::new(
            "WORKSPACE_NOT_MOUNTED",
            format!("this dispatch has no such workspace; it has {known}"),
            "leave `workspace` out for the first one",
        )
    })
}
