//! One line of the audit tail from one recorded event. The same function serves the command line and the screens.

use custody_contracts::approval::{ApprovalEvent, Choice};
use custody_contracts::events::{
    Budget, CheckpointEvent, DispatchEvent, EffectEvent, EffectOutcome, KeyEvent, LauncherEvent, LedgerEvent, RunEvent,
    StopReason, ToolPhase,
};
use custody_contracts::grant::GrantEvent;
use custody_contracts::messages::AuditRow;
use custody_contracts::token::TokenEvent;
use custody_contracts::workspace::WorkspaceEvent;
use custody_ledger::Recorded;

/// Outcome, dispatch, scope and object of an event.
struct Said {
    outcome: String,
    dispatch: Option<String>,
    scope: Option<String>,
    object: String,
}

fn said(outcome: &str, dispatch: Option<&str>, scope: Option<String>, object: String) -> Said {
    Said { outcome: outcome.to_owned(), dispatch: dispatch.map(str::to_owned), scope, object }
}

/// The row of an event. Text from outside is cut and its control characters are replaced: nothing in a row can move a
/// terminal's cursor.
pub fn audit_row(recorded: &Recorded) -> AuditRow {
    let envelope = &recorded.envelope;
    let said = recorded
        .event
        .as_ref()
        .map_or_else(|| said("unknown", None, None, format!("event type {}", envelope.kind)), of_event);
    AuditRow {
        schema: "audit.v1".into(),
        seq: recorded.seq.0,
        time: envelope.time.clone(),
        kind: recorded.entity.kind.as_str().into(),
        event_type: envelope.kind.clone(),
        outcome: said.outcome,
        dispatch: said.dispatch,
        subject: envelope.subject.clone(),
        launcher: envelope.launcher.clone(),
        scope: said.scope,
        grant: envelope.grant.clone(),
        keyid: Some(envelope.keyid.clone()),
        object: plain(&said.object, 200),
        id: envelope.id.clone(),
    }
}

fn of_event(event: &LedgerEvent) -> Said {
    match event {
        LedgerEvent::Dispatch(DispatchEvent::Admitted(e)) => {
            // audit.v1 names the one scope that was used; what is mounted stands in the words.
            let on = e.unit.workspaces.iter().map(|w| format!(" {}:{}", w.id, w.mode.as_str())).collect::<String>();
            let object = format!("{} runs {} on{on}", e.session, e.runner.name);
            said("ok", Some(e.dispatch.as_str()), Some("agent:run".into()), object)
        }
        LedgerEvent::Dispatch(DispatchEvent::Refused(e)) => {
            said("refused", Some(e.dispatch.as_str()), None, format!("{}: {}", e.reason, e.detail))
        }
        LedgerEvent::Dispatch(DispatchEvent::StopRequested(e)) => {
            let why = e.reason.map_or_else(String::new, |r| format!(" as {}", r.as_str()));
            said("ok", Some(e.dispatch.as_str()), None, format!("stop{why} within {} ms asked by {}", e.grace_ms, e.by))
        }
        LedgerEvent::Dispatch(DispatchEvent::FollowUpAccepted(e)) => {
            let object = format!("follow-up {} by {}, {} bytes", e.n, e.by, e.bytes);
            said("ok", Some(e.dispatch.as_str()), Some("agent:run".into()), object)
        }
        LedgerEvent::Dispatch(DispatchEvent::FollowUpRefused(e)) => {
            let of = e.dispatch.as_ref().unwrap_or(&e.message);
            said("refused", Some(of.as_str()), None, format!("follow-up by {}: {}: {}", e.by, e.reason, e.detail))
        }
        LedgerEvent::Run(RunEvent::Claimed(e)) => {
            said("ok", Some(e.dispatch.as_str()), None, format!("attempt {} by {}", e.attempt, e.runtime))
        }
        LedgerEvent::Run(RunEvent::Started(e)) => {
            let short: String = e.container.chars().take(12).collect();
            said("ok", Some(e.dispatch.as_str()), None, format!("container {short}"))
        }
        LedgerEvent::Run(RunEvent::Finished(e)) => {
            let outcome = if e.reason == StopReason::Completed { "ok" } else { "failed" };
            let detail = e.detail.as_ref().map_or_else(String::new, |d| format!(": {d}"));
            let commits: String =
                e.commits.iter().map(|c| format!(", {} {}", c.workspace, c.outcome.as_str())).collect();
            let parked = if e.parked { ", parked" } else { "" };
            let object = format!("{}{parked} after {} ms{commits}{detail}", e.reason.as_str(), e.usage.wall_ms);
            said(outcome, Some(e.dispatch.as_str()), None, object)
        }
        LedgerEvent::Effect(EffectEvent::ModelCalled(e)) => {
            let outcome = if e.outcome == EffectOutcome::Succeeded { "ok" } else { "failed" };
            let object = format!("{} at {}, {}+{} tokens", e.model, e.upstream, e.input_tokens, e.output_tokens);
            said(outcome, Some(e.dispatch.as_str()), Some("model:call".into()), object)
        }
        LedgerEvent::Effect(EffectEvent::ToolIntended(e)) => {
            let object = format!("{} #{} intended, {}", e.tool, e.n, e.args_digest);
            said("ok", Some(e.dispatch.as_str()), Some(e.scope.clone()), object)
        }
        LedgerEvent::Effect(EffectEvent::ToolFinished(e)) => {
            let outcome = if e.phase == ToolPhase::Succeeded { "ok" } else { "failed" };
            let why = e.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
            let object = format!("tool call #{} {}{why}", e.n, e.phase.as_str());
            said(outcome, Some(e.dispatch.as_str()), None, object)
        }
        LedgerEvent::Effect(EffectEvent::ToolRefused(e)) => {
            let tool = e.tool.as_deref().unwrap_or("a tool");
            let times = if e.count > 1 { format!(" {} times", e.count) } else { String::new() };
            let object = format!("{tool} #{}{times}: {}: {}", e.n, e.reason, e.detail);
            said("refused", Some(e.dispatch.as_str()), None, object)
        }
        LedgerEvent::Effect(EffectEvent::ToolAwaiting(e)) => {
            let object = format!("{} #{} waits for a person by rule {}, {}", e.tool, e.n, e.policy.rule, e.args_digest);
            said("ok", Some(e.dispatch.as_str()), Some(e.scope.clone()), object)
        }
        LedgerEvent::Effect(EffectEvent::BudgetWarned(e)) => {
            said("ok", Some(e.dispatch.as_str()), None, budget("nearly used up", e))
        }
        LedgerEvent::Effect(EffectEvent::BudgetExhausted(e)) => {
            said("refused", Some(e.dispatch.as_str()), None, budget("used up", e))
        }
        LedgerEvent::Launcher(LauncherEvent::Registered(e)) => {
            said("ok", None, None, format!("launcher {} for {}", e.launcher, e.subjects.join(",")))
        }
        LedgerEvent::Launcher(LauncherEvent::Rotated(e)) => {
            said("ok", None, None, format!("launcher {} new key", e.launcher))
        }
        LedgerEvent::Launcher(LauncherEvent::Disabled(e)) => {
            said("ok", None, None, format!("launcher {} disabled: {}", e.launcher, e.why))
        }
        LedgerEvent::Key(KeyEvent::Introduced(e)) => {
            said("ok", None, None, format!("{} of {}", e.kid, e.role.as_str()))
        }
        LedgerEvent::Key(KeyEvent::Retired(e)) => said("ok", None, None, format!("{} retired", e.kid)),
        LedgerEvent::Key(KeyEvent::TokenKey(e)) => {
            said("ok", None, None, format!("{} is {}: {}", e.kid, e.state.as_str(), e.why))
        }
        LedgerEvent::Key(KeyEvent::Subject(e)) => {
            let key = e.key.as_deref().unwrap_or("no key");
            said("ok", None, None, format!("{} is {}: {key} by {}", e.subject, e.state.as_str(), e.by))
        }
        LedgerEvent::Token(e) => on_token(e),
        LedgerEvent::Checkpoint(CheckpointEvent::Signed(e)) => {
            said("ok", None, None, format!("{} messages, root {}", e.size, e.root))
        }
        LedgerEvent::Workspace(e) => on_workspace(e),
        LedgerEvent::Approval(ApprovalEvent::Decided(e)) => {
            let outcome = if e.decision == Choice::Reject { "refused" } else { "ok" };
            let why = e.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
            let what = e.args_digest.as_ref().map_or_else(String::new, |digest| format!(", {digest}"));
            let object =
                format!("card {} version {}: {} by {}{what}{why}", e.card, e.version, e.decision.as_str(), e.by);
            said(outcome, Some(e.dispatch.as_str()), Some("approval:decide".into()), object)
        }
        LedgerEvent::Approval(ApprovalEvent::Expired(e)) => {
            let object = format!("card {} version {} expired undecided", e.card, e.version);
            said("refused", Some(e.dispatch.as_str()), None, object)
        }
        LedgerEvent::Grant(e) => on_grant(e),
    }
}

fn on_token(event: &TokenEvent) -> Said {
    match event {
        TokenEvent::Issued(e) => {
            let object = format!("{} {} for {}", e.typ.as_str(), e.jti, e.aud);
            // A row has one scope; which ones a whole dispatch has, its admission says.
            let one = Some(e.scope.clone()).filter(|scope| !scope.contains(' '));
            said("ok", Some(e.dispatch.as_str()), one, object)
        }
        TokenEvent::Refused(e) => {
            let times = if e.count > 1 { format!(" {} times", e.count) } else { String::new() };
            let dispatch = e.dispatch.as_ref().map(|d| d.as_str());
            said("refused", dispatch, None, format!("token{times}: {}: {}", e.reason, e.detail))
        }
    }
}

fn on_grant(event: &GrantEvent) -> Said {
    match event {
        GrantEvent::Requested(e) => {
            let of = format!("{} asks {} for a grant to {}: {}", e.by, e.wanted.subject, e.wanted.launcher, e.why);
            said("ok", None, None, of)
        }
        GrantEvent::Issued(e) => {
            let (grant, from) = (&e.grant, e.parent.as_ref().map_or_else(String::new, |p| format!(" from {p}")));
            let on = grant.workspaces.iter().map(|w| format!(" {}:{}", w.id, w.mode.as_str())).collect::<String>();
            let what = format!("{} of {} to {}{from}:{on}", grant.id, grant.subject, grant.launcher);
            said("ok", None, None, format!("{what}, {} tools, until {}", grant.tools.len(), grant.expires))
        }
        GrantEvent::Refused(e) => said("refused", None, None, format!("{}: {}: {}", e.wanted.id, e.reason, e.detail)),
        GrantEvent::Revoked(e) => said("ok", None, None, format!("{} revoked by {}: {}", e.grant, e.by, e.why)),
    }
}

fn on_workspace(event: &WorkspaceEvent) -> Said {
    let workspace = event.workspace();
    let of = |proposal: &custody_contracts::ids::DispatchId, what: String| {
        said("ok", Some(proposal.as_str()), Some("workspace:propose".into()), what)
    };
    match event {
        WorkspaceEvent::Registered(e) => said(
            "ok",
            None,
            None,
            format!("workspace {workspace} of {}, {} at most", e.owner, e.workspace.mode.as_str()),
        ),
        WorkspaceEvent::KeyRotated(e) => said(
            "ok",
            None,
            None,
            format!("workspace {workspace} for {} new recipients by {}", e.recipients.len(), e.by),
        ),
        WorkspaceEvent::Imported(e) => said(
            "ok",
            None,
            Some("workspace:write".into()),
            format!("workspace {workspace} is {} by {}", e.commit, e.by),
        ),
        WorkspaceEvent::ProposalOpened(e) => {
            let why = e.reason.as_ref().map_or_else(String::new, |r| format!(": {r}"));
            of(&e.proposal, format!("{} waits for the owner of {workspace}{why}", e.commit))
        }
        WorkspaceEvent::ProposalAccepted(e) => of(&e.proposal, format!("accepted in {workspace} by {}", e.by)),
        WorkspaceEvent::ProposalLanded(e) => of(&e.proposal, format!("landed in {workspace} as {}", e.commit)),
        WorkspaceEvent::ProposalRejected(e) => {
            of(&e.proposal, format!("rejected in {workspace} by {}: {}", e.by, e.why))
        }
    }
}

fn budget(how: &str, e: &Budget) -> String {
    format!("{}'s budget is {how}: {} of {} {}", e.scope.as_str(), e.used, e.limit, e.measure.as_str())
}

/// Text from outside, cut to `max` characters, control and format characters replaced.
pub fn plain(text: &str, max: usize) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().map(|c| if hidden(c) { '\u{fffd}' } else { c }).take(max).collect()
}
