//! Attenuation: whether one grant lets nothing happen that another does not.

use custody_contracts::grant::{ApprovalRule, Grant, GrantTerms};
use custody_contracts::ids::Subject;
use custody_contracts::tool::Constraint;
use custody_contracts::unit::Limits;
use std::collections::BTreeSet;

/// Where a grant goes beyond the one that is to justify it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{axis}: {detail}")]
pub struct Wider {
    /// In which respect, as grant.v1 names it.
    pub axis: &'static str,
    /// How.
    pub detail: String,
}

fn wider(axis: &'static str, detail: impl Into<String>) -> Result<(), Wider> {
    Err(Wider { axis, detail: detail.into() })
}

/// Whether the terms are within a grant in every respect. Equal terms are.
///
/// # Errors
/// The first respect in which they are not.
pub fn narrower(wanted: &GrantTerms, parent: &Grant) -> Result<(), Wider> {
    let from = &parent.id;
    if wanted.subject != parent.subject {
        return wider("subject", format!("{} is not {}, whose grant {from} is", wanted.subject, parent.subject));
    }
    if wanted.launcher != parent.launcher {
        return wider(
            "launcher",
            format!("{} is not {}, and grant {from} may not be passed on", wanted.launcher, parent.launcher),
        );
    }
    if wanted.launcher_key != parent.launcher_key {
        return wider("launcher_key", format!("it is not the key that grant {from} names"));
    }
    if let Some(tool) = wanted.tools.iter().find(|tool| !parent.tools.contains(tool)) {
        return wider("tools", format!("{tool} is not in {from}"));
    }
    for workspace in &wanted.workspaces {
        let mut held = parent.workspaces.iter().filter(|held| held.id == workspace.id).peekable();
        if held.peek().is_none() {
            return wider("workspaces", format!("{} is not in {from}", workspace.id));
        }
        if let Some(most) = held.find(|held| !workspace.mode.within(held.mode)) {
            let (id, asked, most) = (&workspace.id, workspace.mode.as_str(), most.mode.as_str());
            return wider("workspaces", format!("{id} is {most} in {from}, not {asked}"));
        }
    }
    trigger(wanted, parent)?;
    constraints(wanted, parent)?;
    limits(wanted, parent)?;
    approval(&wanted.approval, &parent.approval, &parent.subject)?;
    let agreed = GrantTimes::of(wanted);
    if agreed.0 < parent.begins() {
        return wider("not_before", format!("{from} begins at {}", parent.not_before));
    }
    if agreed.1 > parent.ends() {
        return wider("expires", format!("{from} ends at {}", parent.expires));
    }
    Ok(())
}

/// Beginning and end of terms; what cannot be read is the widest that there is, so that it is never within anything.
struct GrantTimes(custody_contracts::ids::UnixMillis, custody_contracts::ids::UnixMillis);

impl GrantTimes {
    fn of(terms: &GrantTerms) -> GrantTimes {
        use custody_contracts::ids::UnixMillis;
        let begins = UnixMillis::parse(&terms.not_before).unwrap_or(UnixMillis(0));
        let ends = UnixMillis::parse(&terms.expires).unwrap_or(UnixMillis(u64::MAX));
        GrantTimes(begins, ends)
    }
}

fn trigger(wanted: &GrantTerms, parent: &Grant) -> Result<(), Wider> {
    let (from, own, most) = (&parent.id, &wanted.trigger, &parent.trigger);
    if own.on.iter().any(|on| !most.on.contains(on)) {
        return wider("trigger", format!("it begins by what {from} does not"));
    }
    if most.cron.is_some() && own.cron != most.cron {
        return wider("trigger", format!("it is not bound to the rule that {from} is bound to"));
    }
    if most.integration.is_some() && own.integration != most.integration {
        return wider("trigger", format!("it is not bound to the integration that {from} is bound to"));
    }
    Ok(())
}

fn constraints(wanted: &GrantTerms, parent: &Grant) -> Result<(), Wider> {
    let missing = parent.constraints.iter().find(|most| !wanted.constraints.iter().any(|own| as_strict(own, most)));
    match missing {
        None => Ok(()),
        Some(most) => wider("constraints", format!("{} has a rule for {} that is not kept", parent.id, most.argument)),
    }
}

/// Whether whatever keeps `own` keeps `most` too. Patterns are compared as texts: a narrower one that is spelled
/// otherwise does not count.
fn as_strict(own: &Constraint, most: &Constraint) -> bool {
    if own.on != most.on || own.argument != most.argument {
        return false;
    }
    let within = |own: &Option<Vec<String>>, most: &Option<Vec<String>>| match (own, most) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(own), Some(most)) => own.iter().all(|value| most.contains(value)),
    };
    let number = |n: &Option<serde_json::Number>| n.as_ref().map(serde_json::Number::as_f64);
    let at_most = match (number(&own.max), number(&most.max)) {
        (_, None) => true,
        (Some(Some(own)), Some(Some(most))) => own <= most,
        _ => false,
    };
    within(&own.allow, &most.allow) && at_most
}

fn limits(wanted: &GrantTerms, parent: &Grant) -> Result<(), Wider> {
    let (from, own, most) = (&parent.id, &wanted.limits, &parent.limits);
    if own.dispatches > most.dispatches {
        return wider(
            "limits",
            format!("{from} has {} dispatches in a window, not {}", most.dispatches, own.dispatches),
        );
    }
    // As many in a shorter window are more.
    if own.window_ms < most.window_ms {
        return wider("limits", format!("the window of {from} is {} ms, not {}", most.window_ms, own.window_ms));
    }
    if !at_most(own.budget_micros, most.budget_micros) {
        return wider("limits", format!("the budget is larger than that of {from}"));
    }
    let none = Limits::default();
    let (own, most) = (own.per_dispatch.as_ref().unwrap_or(&none), most.per_dispatch.as_ref().unwrap_or(&none));
    let each = [
        ("turns", own.turns, most.turns),
        ("wall_ms", own.wall_ms, most.wall_ms),
        ("idle_ms", own.idle_ms, most.idle_ms),
        ("tokens", own.tokens, most.tokens),
        ("cost_micros", own.cost_micros, most.cost_micros),
        ("tool_calls", own.tool_calls, most.tool_calls),
    ];
    match each.into_iter().find(|(_, own, most)| !at_most(*own, *most)) {
        None => Ok(()),
        Some((name, ..)) => wider("limits", format!("{name} of a dispatch is more than in {from}")),
    }
}

/// Whether a ceiling is within another; none is the highest.
fn at_most(own: Option<u64>, most: Option<u64>) -> bool {
    match (own, most) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(own), Some(most)) => own <= most,
    }
}

fn approval(own: &ApprovalRule, most: &ApprovalRule, subject: &Subject) -> Result<(), Wider> {
    if own.rule < most.rule {
        return wider(
            "approval",
            format!("fewer calls wait for a person than where the rule is {}", most.rule.as_str()),
        );
    }
    let people = |rule: &ApprovalRule| -> BTreeSet<Subject> {
        rule.approvers
            .as_ref()
            .map_or_else(|| BTreeSet::from([subject.clone()]), |named| named.iter().cloned().collect())
    };
    match people(own).difference(&people(most)).next() {
        None => Ok(()),
        Some(other) => wider("approval", format!("{other} may not approve there")),
    }
}
