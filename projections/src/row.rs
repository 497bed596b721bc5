//! One line of the audit tail from one recorded event. The same function serves the command line and the screens.

use custody_contracts::events::{
    CheckpointEvent, DispatchEvent, EffectEvent, EffectOutcome, KeyEvent, LauncherEvent, LedgerEvent, RunEvent,
    StopReason,
};
use custody_contracts::messages::AuditRow;
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
            said("ok", Some(e.dispatch.as_str()), None, format!("stop asked by {}", e.by))
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
            let object = format!("{} after {} ms{detail}", e.reason.as_str(), e.usage.wall_ms);
            said(outcome, Some(e.dispatch.as_str()), None, object)
        }
        LedgerEvent::Effect(EffectEvent::ModelCalled(e)) => {
            let outcome = if e.outcome == EffectOutcome::Succeeded { "ok" } else { "failed" };
            let object = format!("{} at {}, {}+{} tokens", e.model, e.upstream, e.input_tokens, e.output_tokens);
            said(outcome, Some(e.dispatch.as_str()), Some("model:call".into()), object)
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
        LedgerEvent::Checkpoint(CheckpointEvent::Signed(e)) => {
            said("ok", None, None, format!("{} messages, root {}", e.size, e.root))
        }
    }
}

/// Text from outside, cut to `max` characters, control and format characters replaced.
pub fn plain(text: &str, max: usize) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().map(|c| if hidden(c) { '\u{fffd}' } else { c }).take(max).collect()
}
