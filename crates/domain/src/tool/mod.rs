//! Tools: which are offered, and whether one call may be made. A call that was found good leaves a [`ToolPermit`], and
//! nothing else can be written down as an intent.
//!
//! [`judge`] is the only maker of a permit: the tool's document, its constraints and the policy are its inputs, and no
//! call is made that has not passed through it.

mod args;
mod builtin;
pub mod constraint;
mod offered;
mod policy;
#[cfg(test)]
pub(crate) mod tests;

pub use args::{FileCall, InnerPath, READ_BYTES_MAX, WRITE_BYTES_MAX};
pub use offered::{DESCRIPTION_BYTES_MAX, Definition, NotOffered, Offered, SCHEMA_BYTES_MAX, TOOLS_MAX, Tools};
pub use policy::{Policy, PolicyAsked, Verdict, waits};

use constraint::Whose;
use custody_contracts::canonical::{canonical, digest};
use custody_contracts::catalogue;
use custody_contracts::events::{DispatchAdmitted, RuledBy, ToolEffect, ToolIntended};
use custody_contracts::ids::WorkspaceId;
use custody_contracts::unit::{InputTrust, Mode, WorkspaceMount};
use policy::{Ruling, ruling};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The most tool calls of a dispatch that says no limit of its own.
pub const TOOL_CALLS_MAX: u64 = 10_000;
/// The largest arguments of one call, canonical, in bytes.
pub const ARGS_BYTES_MAX: usize = 1_100_000;

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
    /// What is offered.
    pub tools: &'a Tools,
    /// What is asked about every call.
    pub policy: &'a dyn Policy,
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
    offered.filter(|tool| !matches!(ruling(policy, admitted, tool.document(), false), Ruling::Forbidden(..))).collect()
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
/// mode, the tool's constraints, policy.
pub fn judge(asked: ToolAsked<'_>) -> Result<ToolPermit, ToolRefusal> {
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
    let policy = match ruling(asked.policy, admitted, document, false) {
        Ruling::Permitted(rule) => rule,
        Ruling::Waits(rule) => {
            let detail = format!("rule {} asks for a person's approval, which this version cannot wait for", rule.rule);
            let hint = "tell the person what you would have done";
            return Err(ToolRefusal { code: "APPROVAL_NEEDED", detail, hint, policy: Some(rule) });
        }
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
        idempotency_key: idempotency_key(admitted, n, &digest(args.as_bytes())),
        args_digest: digest(args.as_bytes()),
        policy: Some(policy),
        tool_digest: Some(tool.digest().to_owned()),
    };
    Ok(ToolPermit { intended, args, deed })
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

/// A recorded intent, judged again as far as the log alone allows: its arguments are a blob, and the documents of
/// upstreams' tools are the installation's.
///
/// # Errors
/// The [`ToolRefusal`] that such a call would get.
pub fn judge_again(admitted: &DispatchAdmitted, recorded: &ToolIntended) -> Result<ToolIntended, ToolRefusal> {
    if !admitted.unit.tools.contains(&recorded.tool) {
        return Err(not_listed(&recorded.tool));
    }
    within_limit(admitted, recorded.n)?;
    let own = Tools::builtin();
    let (scope, effect) = match (own.get(&recorded.tool), &recorded.tool_digest) {
        (Some(tool), _) => (tool.document().scope.clone(), tool.document().effect),
        (None, Some(_)) => (recorded.scope.clone(), recorded.effect),
        // From before upstreams' tools were offered: there was none of that name.
        (None, None) => return Err(not_listed(&recorded.tool)),
    };
    let input_trust = admitted.unit.trigger.input_trust();
    if input_trust == InputTrust::Untrusted && effect == ToolEffect::Irreversible {
        let detail = "its input is untrusted and the effect cannot be undone, and nobody approved it";
        return Err(ToolRefusal::new("APPROVAL_NEEDED", detail, "propose it"));
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
        policy: recorded.policy.clone(),
        tool_digest: recorded.tool_digest.clone(),
    })
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
