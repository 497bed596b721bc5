//! The assertions of `expect.toml` over one log and its folds. Each gives one check; one that finds nothing to look at
//! fails, unless it asks for an absence.

use crate::check::Check;
use crate::closing::no_secret;
use crate::diff::shown;
use crate::expect::{
    AuditAssertion, CausesAssertion, Count, EventAssertion, Expect, NeverAssertion, OrderAssertion, RefusedAssertion,
    StateAssertion,
};
use crate::fold::Foldings;
use crate::pattern::Pattern;
use crate::slice::{Event, Slice};
use custody_contracts::events::{DispatchEvent, EffectEvent, LedgerEvent, RunEvent};
use serde_json::Value;
use std::collections::BTreeMap;

/// Judges every assertion, in the order of [`Expect::ids`].
pub(crate) fn judge(expect: &Expect, slice: &Slice, foldings: &Foldings) -> Vec<Check> {
    let mut checks: Vec<Check> = Vec::new();
    checks.extend(expect.event.iter().map(|a| event(a, slice)));
    checks.extend(expect.never.iter().map(|a| never(a, slice)));
    checks.extend(expect.order.iter().map(|a| order(a, slice)));
    checks.extend(expect.causes.iter().map(|a| causes(a, slice)));
    checks.extend(expect.refused.iter().map(|a| refused(a, slice)));
    checks.extend(expect.state.iter().map(|a| state(a, foldings)));
    checks.extend(expect.digest.iter().map(|a| {
        let mut check = Check::new(&a.id);
        check.looked_at = 1;
        let found = foldings.get(a.projection.as_str()).map_or("nothing", |f| f.digest.as_str());
        if found != a.equals {
            check.fail(None, format!("{} folds to {found}", a.projection));
        }
        check
    }));
    checks.extend(expect.no_secret.iter().map(|a| no_secret(&a.id, slice, &a.canaries)));
    checks.extend(expect.audit.iter().map(|a| audit(a, slice, foldings)));
    checks
}

fn matching<'a>(pattern: &'a Pattern, slice: &'a Slice) -> impl Iterator<Item = &'a Event> {
    slice.events.iter().filter(|e| pattern.matches(&e.value))
}

/// The text that names a group: the value at the pointer, as JSON.
fn group(event: &Event, same: &str) -> Option<String> {
    event.value.pointer(same).filter(|v| !v.is_null()).map(Value::to_string)
}

fn event(a: &EventAssertion, slice: &Slice) -> Check {
    let mut check = Check::new(&a.id);
    let found: Vec<&Event> = matching(&a.event, slice).collect();
    check.looked_at = found.len() as u64;
    let count = a.count.unwrap_or(Count { min: 1, max: None });
    match &a.for_each {
        None => within(&mut check, count, found.len() as u64, found.last().map(|e| e.seq()), "the log"),
        Some(each) => {
            let mut groups: BTreeMap<String, (u64, u64)> = BTreeMap::new();
            for of in matching(&each.event, slice) {
                if let Some(name) = group(of, &each.same) {
                    groups.entry(name).or_insert_with(|| (0, of.seq()));
                }
            }
            if groups.is_empty() {
                check.fail(None, "there is no group to count in");
            }
            for one in &found {
                match group(one, &each.same).and_then(|name| groups.get_mut(&name)) {
                    Some((n, last)) => {
                        *n += 1;
                        *last = one.seq();
                    }
                    None => check.fail(Some(one.seq()), "belongs to no group"),
                }
            }
            for (name, (n, last)) in groups {
                within(&mut check, count, n, Some(last), &name);
            }
        }
    }
    for pointer in &a.distinct {
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        for one in &found {
            let Some(value) = group(one, pointer) else {
                check.fail(Some(one.seq()), format!("has nothing at {pointer}"));
                continue;
            };
            if let Some(first) = seen.insert(value.clone(), one.seq()) {
                check.fail(Some(one.seq()), format!("{pointer} is {value}, as in sequence {first}"));
            }
        }
    }
    check
}

fn within(check: &mut Check, count: Count, n: u64, seq: Option<u64>, place: &str) {
    let most = count.max.map_or_else(|| "any number".to_owned(), |m| m.to_string());
    if n < count.min || count.max.is_some_and(|max| n > max) {
        check.fail(seq, format!("{n} in {place}; wanted are {} to {most}", count.min));
    }
}

fn never(a: &NeverAssertion, slice: &Slice) -> Check {
    let mut check = Check::new(&a.id);
    check.looked_at = slice.events.len() as u64;
    for found in matching(&a.event, slice) {
        check.fail(Some(found.seq()), format!("{} is there", found.kind()));
    }
    check
}

/// Place and sequence of the first and of the last event of a step.
type Span = (Option<(usize, u64)>, Option<(usize, u64)>);

/// Within a group, every step has all of the step before it ahead of it, and at least one.
fn order(a: &OrderAssertion, slice: &Slice) -> Check {
    let mut check = Check::new(&a.id);
    let mut groups: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    for (place, one) in slice.events.iter().enumerate() {
        let Some(name) = group(one, &a.same) else { continue };
        for (step, _) in a.steps.iter().enumerate().filter(|(_, p)| p.matches(&one.value)) {
            let spans = groups.entry(name.clone()).or_insert_with(|| vec![(None, None); a.steps.len()]);
            if let Some(span) = spans.get_mut(step) {
                span.0.get_or_insert_with(|| (place, one.seq()));
                span.1 = Some((place, one.seq()));
            }
        }
    }
    for (name, spans) in &groups {
        for (step, pair) in spans.windows(2).enumerate() {
            let [(_, last_before), (first_after, _)] = pair else { continue };
            let Some((first, seq)) = first_after else { continue };
            match last_before {
                None => check.fail(Some(*seq), format!("{name}: step {} without step {}", step + 2, step + 1)),
                Some((last, late)) if last >= first => {
                    check.fail(Some(*late), format!("{name}: step {} after step {}", step + 1, step + 2));
                }
                Some(_) => {}
            }
        }
        check.looked_at += u64::from(spans.last().is_some_and(|s| s.0.is_some()));
    }
    let wanted = a.groups.unwrap_or(1);
    if check.looked_at < wanted {
        let found = check.looked_at;
        check.fail(None, format!("{found} reach the last step; wanted are {wanted}"));
    }
    check
}

fn causes(a: &CausesAssertion, slice: &Slice) -> Check {
    let mut check = Check::new(&a.id);
    for (place, one) in slice.events.iter().enumerate().filter(|(_, e)| a.each.matches(&e.value)) {
        check.looked_at += 1;
        let before = slice.events.get(..place).unwrap_or_default();
        let tied = |cause: &Event| {
            let pair = |[own, its]: &[String; 2]| (one.value.pointer(own), cause.value.pointer(its));
            let equal = a.equal.iter().map(pair).all(|(own, its)| own == its && own.is_some_and(|v| !v.is_null()));
            equal && a.differ.iter().map(pair).all(|(own, its)| own != its)
        };
        if !before.iter().any(|e| a.needs.matches(&e.value) && tied(e)) {
            check.fail(Some(one.seq()), format!("{} without the {} that it needs", one.kind(), a.needs.kind));
        }
    }
    let wanted = a.min.unwrap_or(1);
    if check.looked_at < wanted {
        let found = check.looked_at;
        check.fail(None, format!("{found} match; wanted are {wanted}"));
    }
    check
}

fn refused(a: &RefusedAssertion, slice: &Slice) -> Check {
    let mut check = Check::new(&a.id);
    let mut dispatch = None;
    for one in &slice.events {
        let Some(LedgerEvent::Dispatch(event)) = &one.recorded.event else { continue };
        match event {
            DispatchEvent::Refused(e) if e.launch.stream_seq == a.launch => {
                check.looked_at += 1;
                if e.reason != a.reason {
                    check.fail(Some(one.seq()), format!("refused for {}, not for {}", e.reason, a.reason));
                }
                dispatch = Some(e.dispatch.as_str());
            }
            DispatchEvent::Admitted(e) if e.launch.stream_seq == a.launch => {
                check.fail(Some(one.seq()), format!("launch {} was admitted", a.launch));
            }
            DispatchEvent::Refused(_)
            | DispatchEvent::Admitted(_)
            | DispatchEvent::StopRequested(_)
            | DispatchEvent::FollowUpAccepted(_)
            | DispatchEvent::FollowUpRefused(_) => {}
        }
    }
    let Some(dispatch) = dispatch else {
        check.fail(None, format!("launch {} was not refused", a.launch));
        return check;
    };
    for one in slice.events.iter().filter(|e| e.dispatch() == Some(dispatch)) {
        if !matches!(one.recorded.event, Some(LedgerEvent::Dispatch(DispatchEvent::Refused(_)))) {
            check.fail(Some(one.seq()), format!("{} of a dispatch that was refused", one.kind()));
        }
    }
    check
}

fn state(a: &StateAssertion, foldings: &Foldings) -> Check {
    let mut check = Check::new(&a.id);
    let row = foldings.get(a.projection.as_str()).and_then(|f| f.rows.get(&a.key));
    let field = |pointer: &str| row.and_then(|r| r.pointer(pointer)).filter(|v| !v.is_null());
    let found = field(&a.field);
    let text = |v: Option<&Value>| v.map_or_else(|| "nothing".to_owned(), shown);
    check.looked_at = 1;
    if a.absent.is_none() && row.is_none() {
        check.fail(None, format!("{} has no row {:?}", a.projection, a.key));
        return check;
    }
    let is = format!("{} {:?} {} is {}", a.projection, a.key, a.field, text(found));
    if let Some(wanted) = &a.equals
        && found != Some(wanted)
    {
        check.fail(None, format!("{is}, wanted is {}", shown(wanted)));
    }
    if let Some(absent) = a.absent
        && found.is_none() != absent
    {
        check.fail(None, format!("{is}, wanted is {}", if absent { "nothing" } else { "something" }));
    }
    if let Some(other) = &a.same_as
        && (found.is_none() || found != field(other))
    {
        check.fail(None, format!("{is}, {other} is {}", text(field(other))));
    }
    if let Some(other) = &a.differs_from
        && (found.is_none() || found == field(other))
    {
        check.fail(None, format!("{is}, and so is {other}"));
    }
    if let Some(wanted) = a.length {
        let length = found.and_then(Value::as_array).map(|v| v.len() as u64);
        if length != Some(wanted) {
            check.fail(None, format!("{is}, wanted are {wanted} items"));
        }
    }
    check
}

fn audit(a: &AuditAssertion, slice: &Slice, foldings: &Foldings) -> Check {
    let mut check = Check::new(&a.id);
    let rows = foldings.get("audit").map(|f| &f.rows);
    let count = |key: &str| {
        rows.and_then(|r| r.get(key)).and_then(|r| r.get("count")).and_then(Value::as_u64).unwrap_or_default()
    };
    check.looked_at = slice.events.len() as u64;
    let anomalies = count("total/anomaly");
    if anomalies != a.anomalies {
        let first = rows.and_then(|r| r.range("anomaly/".to_owned()..).next());
        let first = first.filter(|(key, _)| key.starts_with("anomaly/"));
        let seq = first.and_then(|(key, _)| key.strip_prefix("anomaly/")?.parse().ok());
        let what = first.and_then(|(_, r)| r.get("anomaly")?.as_str()).unwrap_or("none");
        check.fail(seq, format!("{anomalies} anomalies, wanted are {}; the first: {what}", a.anomalies));
    }
    let checkpoints = count("total/custody.checkpoint.signed.v1");
    if checkpoints < a.checkpoints_min {
        check.fail(None, format!("{checkpoints} checkpoints, wanted are {} or more", a.checkpoints_min));
    }
    if a.calls_agree {
        calls_agree(&mut check, slice);
    }
    check
}

/// What the gateway recorded call by call is what the runtime counted in the end.
fn calls_agree(check: &mut Check, slice: &Slice) {
    let mut calls: BTreeMap<&str, [u64; 3]> = BTreeMap::new();
    for one in &slice.events {
        if let Some(LedgerEvent::Effect(EffectEvent::ModelCalled(e))) = &one.recorded.event {
            let sum = calls.entry(e.dispatch.as_str()).or_default();
            *sum = [sum[0] + 1, sum[1].saturating_add(e.input_tokens), sum[2].saturating_add(e.output_tokens)];
        }
    }
    for one in &slice.events {
        if let Some(LedgerEvent::Run(RunEvent::Finished(e))) = &one.recorded.event {
            let recorded = calls.get(e.dispatch.as_str()).copied().unwrap_or_default();
            let counted = [e.usage.model_calls, e.usage.input_tokens, e.usage.output_tokens];
            if recorded != counted {
                let why = format!(
                    "{} calls, {} and {} tokens were recorded, the terminal event counts {counted:?}",
                    recorded[0], recorded[1], recorded[2]
                );
                check.fail(Some(one.seq()), why);
            }
        }
    }
}
