//! The words that a person agrees to. Made from the terms and nothing else, so that what was shown is what is granted.

use custody_contracts::grant::{ApprovalFor, GrantTerms};
use custody_contracts::unit::{Limits, Trigger};
use std::fmt::Write as _;

/// What the terms let happen, in sentences, one a line.
pub fn statement(terms: &GrantTerms) -> String {
    let mut out = format!(
        "{} lets {} (key {}) run agents in their name, from {} to {}.\n",
        terms.subject, terms.launcher, terms.launcher_key, terms.not_before, terms.expires
    );
    let mut say = |line: String| {
        out.push_str(&line);
        out.push('\n');
    };
    let words = |on: &Trigger| match on {
        Trigger::Message => "a message",
        Trigger::Scheduled => "a schedule",
        Trigger::Event => "an event (untrusted input)",
        Trigger::Transcription => "a transcription (untrusted input)",
    };
    let mut begins = terms.trigger.on.iter().map(words).collect::<Vec<_>>().join(", ");
    if let Some(cron) = &terms.trigger.cron {
        let _ = write!(begins, "; scheduled only by {:?} in {}", cron.expr, cron.tz);
    }
    if let Some(integration) = &terms.trigger.integration {
        let _ = write!(begins, "; events only of {integration}");
    }
    say(format!("Begun by: {begins}."));
    let workspaces: Vec<String> = terms.workspaces.iter().map(|w| format!("{} as {}", w.id, w.mode.as_str())).collect();
    say(format!("Workspaces: {}.", workspaces.join(", ")));
    say(match terms.tools.is_empty() {
        true => "Tools: none.".to_owned(),
        false => format!("Tools: {}.", terms.tools.join(", ")),
    });
    for rule in &terms.constraints {
        let allowed = match (&rule.allow, &rule.max) {
            (Some(allow), _) => format!("one of {}", allow.join(", ")),
            (None, Some(max)) => format!("at most {max}"),
            (None, None) => "nothing".to_owned(),
        };
        say(format!("In every call, {} at {}: {allowed}.", rule.on.as_str(), rule.argument));
    }
    let limits = &terms.limits;
    let mut how_much = format!("At most {} dispatches in {} s", limits.dispatches, limits.window_ms / 1_000);
    if let Some(budget) = limits.budget_micros {
        let _ = write!(how_much, ", and model calls for {budget} millionths");
    }
    say(format!("{how_much}."));
    if let Some(each) = &limits.per_dispatch {
        say(format!("Each dispatch: {}.", ceilings(each)));
    }
    let when = match terms.approval.rule {
        ApprovalFor::Gated => "calls of gated tools wait for a person",
        ApprovalFor::Irreversible => "calls of gated tools and whatever cannot be undone wait for a person",
        ApprovalFor::Writes => "calls that change something wait for a person",
        ApprovalFor::Always => "every call waits for a person",
    };
    let who = match &terms.approval.approvers {
        None => terms.subject.to_string(),
        Some(people) => people.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    say(format!("Approval: {when} ({who}). It may not be passed on, and can be revoked at any time."));
    out
}

fn ceilings(limits: &Limits) -> String {
    let all = [
        ("turns", limits.turns),
        ("ms in all", limits.wall_ms),
        ("ms without output", limits.idle_ms),
        ("tokens", limits.tokens),
        ("millionths of cost", limits.cost_micros),
        ("tool calls", limits.tool_calls),
    ];
    let set: Vec<String> = all.iter().filter_map(|(name, value)| Some(format!("{} {name}", (*value)?))).collect();
    if set.is_empty() { "no ceiling of its own".to_owned() } else { set.join(", ") }
}
