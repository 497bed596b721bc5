//! Whether one grant covers one dispatch.

use custody_contracts::grant::Grant;
use custody_contracts::ids::UnixMillis;
use custody_contracts::unit::{Invocation, Trigger};

/// The ceiling that a dispatch does not fit under.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Shortfall {
    /// Stable code.
    pub code: &'static str,
    /// What was asked for and what is held, in a sentence.
    pub detail: String,
}

impl Shortfall {
    /// One.
    pub fn new(code: &'static str, detail: impl Into<String>) -> Shortfall {
        Shortfall { code, detail: detail.into() }
    }
}

/// Whether a grant covers a unit that a launcher asked for with this key, at this moment.
///
/// # Errors
/// The first ceiling that it does not fit under, in this order: `GRANT_SUBJECT`, `GRANT_LAUNCHER`, `GRANT_NOT_YET`,
/// `GRANT_EXPIRED`, `GRANT_KEY`, `GRANT_TRIGGER`, `GRANT_TOOL`, `GRANT_WORKSPACE`, `GRANT_MODE`.
pub fn covers(grant: &Grant, unit: &Invocation, launcher_key: &str, at: UnixMillis) -> Result<(), Shortfall> {
    let id = &grant.id;
    if grant.subject != unit.identity.subject {
        let whose = format!("grant {id} is {}'s, not {}'s", grant.subject, unit.identity.subject);
        return Err(Shortfall::new("GRANT_SUBJECT", whose));
    }
    if grant.launcher != unit.identity.launcher {
        let whose = format!("grant {id} is for {}, not for {}", grant.launcher, unit.identity.launcher);
        return Err(Shortfall::new("GRANT_LAUNCHER", whose));
    }
    if at < grant.begins() {
        return Err(Shortfall::new("GRANT_NOT_YET", format!("grant {id} begins at {}", grant.not_before)));
    }
    if at >= grant.ends() {
        return Err(Shortfall::new("GRANT_EXPIRED", format!("grant {id} ended at {}", grant.expires)));
    }
    if grant.launcher_key != launcher_key {
        let why = format!("grant {id} names another key of {} than the one it has now", grant.launcher);
        return Err(Shortfall::new("GRANT_KEY", why));
    }
    trigger(grant, unit)?;
    if let Some(tool) = unit.tools.iter().find(|tool| !grant.tools.contains(tool)) {
        return Err(Shortfall::new("GRANT_TOOL", format!("grant {id} has not the tool {tool}")));
    }
    for asked in &unit.workspaces {
        // Named more than once the least counts.
        let mut held = grant.workspaces.iter().filter(|held| held.id == asked.id).peekable();
        if held.peek().is_none() {
            return Err(Shortfall::new("GRANT_WORKSPACE", format!("grant {id} has not the workspace {}", asked.id)));
        }
        if let Some(most) = held.find(|held| !asked.mode.within(held.mode)) {
            let (id_, most, mode) = (&asked.id, most.mode.as_str(), asked.mode.as_str());
            return Err(Shortfall::new(
                "GRANT_MODE",
                format!("grant {id} has workspace {id_} as {most}, not as {mode}"),
            ));
        }
    }
    Ok(())
}

fn trigger(grant: &Grant, unit: &Invocation) -> Result<(), Shortfall> {
    let (id, pattern) = (&grant.id, &grant.trigger);
    let word = match unit.trigger {
        Trigger::Message => "a message",
        Trigger::Scheduled => "a schedule",
        Trigger::Event => "an event",
        Trigger::Transcription => "a transcription",
    };
    if !pattern.on.contains(&unit.trigger) {
        return Err(Shortfall::new("GRANT_TRIGGER", format!("grant {id} lets nothing begin by {word}")));
    }
    if unit.trigger == Trigger::Scheduled
        && let Some(rule) = &pattern.cron
    {
        // A unit does not say which rule it came from, so this cannot be proved.
        let why = format!("grant {id} is for the rule {:?} alone, and the unit does not show that it is", rule.expr);
        return Err(Shortfall::new("GRANT_TRIGGER", why));
    }
    if unit.trigger == Trigger::Event
        && let Some(only) = &pattern.integration
        && unit.identity.launcher.as_str().strip_prefix("integration:") != Some(only)
    {
        return Err(Shortfall::new("GRANT_TRIGGER", format!("grant {id} is for events of {only} alone")));
    }
    Ok(())
}
