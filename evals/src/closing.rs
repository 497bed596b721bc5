//! The checks that every log has to pass, whatever its scenario claims: sequence, bytes, signatures, schema, admission
//! before run, one container and one end for each dispatch, no secrets.

use crate::check::Check;
use crate::decision::Decisions;
use crate::scenario::Eval;
use crate::slice::{Event, Line, Slice};
use custody_contracts::catalogue::{self, CheckError};
use custody_contracts::events::{DispatchEvent, LedgerEvent, RunEvent, RunFinished};
use custody_contracts::token::TokenEvent;
use custody_domain::run::container_name;
use custody_trust::verify::Verifier;
use std::collections::{BTreeMap, BTreeSet};

/// Checks that any edit of a signed log trips, and those about the harness: no mutant may lean on them.
const TRIVIAL: &[&str] = &["log.canonical", "log.verify"];
/// Checks about what the log means.
const MEANING: &[&str] = &[
    "log.sequence",
    "log.schema",
    "log.no_secret",
    "launch.decided",
    "grant.covered",
    "run.admitted",
    "run.claim",
    "run.one_container",
    "run.has_container",
    "run.terminal",
    "run.one_turn",
    "follow_up.order",
    "effect.claimed",
    "decision",
];

/// The ids that a mutant may name.
pub(crate) fn ids<'a>() -> impl Iterator<Item = &'a str> {
    MEANING.iter().copied()
}

/// Whether a check only says that the bytes of a log were touched.
pub(crate) fn is_trivial(id: &str) -> bool {
    TRIVIAL.contains(&id) || id.starts_with("digest.") || id.starts_with("fold.")
}

/// Runs them all but `decision`, in a fixed order.
pub(crate) fn checks(slice: &Slice, eval: &Eval, decisions: Option<&Decisions>) -> Vec<Check> {
    let mut checks = vec![
        canonical(slice),
        sequence(slice),
        verify(slice, eval),
        schema(slice),
        no_secret("log.no_secret", slice, &eval.canaries),
    ];
    if let Some(decisions) = decisions {
        checks.push(launches(slice, decisions));
    }
    checks.extend([
        granted(slice, eval),
        admitted(slice),
        claim(slice),
        one_container(slice),
        has_container(slice),
        terminal(slice),
        one_turn(slice),
        follow_ups(slice),
        effects(slice),
    ]);
    checks
}

fn canonical(slice: &Slice) -> Check {
    let mut check = Check::new("log.canonical");
    check.looked_at = slice.lines.len() as u64;
    for line in &slice.not_canonical {
        check.fail(None, format!("line {line} is not canonical JSON, so its bytes are not the stored ones"));
    }
    check
}

fn sequence(slice: &Slice) -> Check {
    let mut check = Check::new("log.sequence");
    for (index, stored) in slice.stored().enumerate() {
        check.looked_at += 1;
        let expected = index as u64 + 1;
        if stored.seq.0 != expected {
            check.fail(Some(stored.seq.0), format!("expected sequence {expected}, found {}", stored.seq));
            break;
        }
    }
    check
}

/// Signatures, roles, tree and checkpoints, by the verifier of the audit chain itself.
fn verify(slice: &Slice, eval: &Eval) -> Check {
    let mut check = Check::new("log.verify");
    let mut verifier = Verifier::new(&[], Some(eval.keys.root.clone())).without_grants();
    for stored in slice.stored() {
        check.looked_at += 1;
        if let Err(finding) = verifier.push(stored) {
            check.fail(Some(finding.seq), format!("{}: {}", finding.code, finding.message));
            return check;
        }
    }
    match verifier.finish() {
        Ok(report) if report.checkpoints == 0 => check.fail(None, "no checkpoint covers anything of this log"),
        Ok(_) => {}
        Err(finding) => check.fail(Some(finding.seq), format!("{}: {}", finding.code, finding.message)),
    }
    check
}

/// Every grant is what its token says and within its parent, and every admission stands under one that covers it: by the
/// verifier of the audit chain, on the bytes alone.
fn granted(slice: &Slice, eval: &Eval) -> Check {
    let mut check = Check::new("grant.covered");
    let mut verifier = Verifier::new(&[], Some(eval.keys.root.clone()));
    for stored in slice.stored() {
        check.looked_at += 1;
        match verifier.push(stored) {
            Ok(()) => {}
            Err(finding) if matches!(finding.code, "UNGRANTED" | "GRANT_UNPROVEN") => {
                check.fail(Some(finding.seq), format!("{}: {}", finding.code, finding.message));
                return check;
            }
            // What is wrong with the bytes is said by another check.
            Err(_) => return check,
        }
    }
    check
}

fn schema(slice: &Slice) -> Check {
    let mut check = Check::new("log.schema");
    for (seq, why) in &slice.unreadable {
        check.fail(Some(*seq), why.clone());
    }
    for event in &slice.events {
        check.looked_at += 1;
        let Some(known) = &event.recorded.event else {
            check.fail(Some(event.seq()), format!("event type {:?} is not in ledger.v2", event.kind()));
            continue;
        };
        let Some(data) = event.value.get("data") else { continue };
        match catalogue::check("ledger.v2", known.names().1, data) {
            Ok(()) => {}
            Err(CheckError::Invalid(violations)) => {
                for v in violations {
                    check.fail(Some(event.seq()), format!("/data{} ({}): {}", v.pointer, v.keyword, v.message));
                }
            }
            Err(other) => check.fail(Some(event.seq()), other.to_string()),
        }
    }
    check
}

/// No canary stands in a line, as it is written and as it was stored.
pub(crate) fn no_secret(id: &str, slice: &Slice, canaries: &[String]) -> Check {
    let mut check = Check::new(id);
    check.looked_at = (slice.lines.len() * canaries.len()) as u64;
    for (index, line) in slice.lines.iter().enumerate() {
        let (seq, bytes, subject, id) = match line {
            Line::Ledger(l) => {
                (Some(l.stored.seq.0), &l.stored.bytes, &l.stored.log_subject, l.stored.message_id.as_deref())
            }
            Line::Launch(l) => (None, &l.bytes, &l.subject, None),
        };
        let stored = String::from_utf8_lossy(bytes);
        let written = slice.texts.get(index).map_or("", String::as_str);
        let everywhere = [written, &stored, subject.as_str(), id.unwrap_or_default()];
        for (n, _) in canaries.iter().enumerate().filter(|(_, c)| everywhere.iter().any(|t| t.contains(c.as_str()))) {
            check.fail(seq, format!("canary {} stands in line {}", n + 1, index + 1));
        }
    }
    check
}

/// Every launch has one decision, and no two lines are the same launch.
fn launches(slice: &Slice, decisions: &Decisions) -> Check {
    let mut check = Check::new("launch.decided");
    let mut seen = BTreeSet::new();
    for (index, launch) in slice.launches() {
        check.looked_at += 1;
        if !seen.insert(launch.seq) {
            check.fail(None, format!("line {}: launch {} stands twice", index + 1, launch.seq));
        }
        match decisions.by_launch.get(&launch.seq).copied().unwrap_or_default() {
            1 => {}
            0 if decisions.repeats(launch) => {}
            0 => check.fail(None, format!("launch {} has no decision: it was acknowledged and then lost", launch.seq)),
            n => check.fail(None, format!("launch {} has {n} decisions", launch.seq)),
        }
    }
    check
}

fn known(slice: &Slice) -> impl Iterator<Item = (&Event, &LedgerEvent)> {
    slice.events.iter().filter_map(|e| e.recorded.event.as_ref().map(|known| (e, known)))
}

/// Every event of a run or an effect has the admission of its dispatch before it.
fn admitted(slice: &Slice) -> Check {
    let mut check = Check::new("run.admitted");
    let mut admitted = BTreeSet::new();
    for (event, known) in known(slice) {
        match known {
            LedgerEvent::Dispatch(DispatchEvent::Admitted(e)) => {
                admitted.insert(e.dispatch.as_str());
            }
            LedgerEvent::Run(_)
            | LedgerEvent::Effect(_)
            | LedgerEvent::Approval(_)
            | LedgerEvent::Token(TokenEvent::Issued(_)) => {
                check.looked_at += 1;
                let dispatch = event.dispatch().unwrap_or_default();
                if !admitted.contains(dispatch) {
                    check.fail(
                        Some(event.seq()),
                        format!("{} of dispatch {dispatch}, which was not admitted before", event.kind()),
                    );
                }
            }
            LedgerEvent::Dispatch(_)
            | LedgerEvent::Launcher(_)
            | LedgerEvent::Key(_)
            | LedgerEvent::Checkpoint(_)
            | LedgerEvent::Workspace(_)
            | LedgerEvent::Grant(_)
            | LedgerEvent::Token(TokenEvent::Refused(_)) => {}
        }
    }
    check
}

/// A claim is for what was admitted: session, image, and the container name that the dispatch decides.
fn claim(slice: &Slice) -> Check {
    let mut check = Check::new("run.claim");
    let mut admissions = BTreeMap::new();
    for (event, known) in known(slice) {
        match known {
            LedgerEvent::Dispatch(DispatchEvent::Admitted(e)) => {
                admissions.entry(e.dispatch.as_str()).or_insert(e);
            }
            LedgerEvent::Run(RunEvent::Claimed(e)) => {
                check.looked_at += 1;
                let name = container_name(e.dispatch.as_str(), e.attempt);
                if e.container_name != name {
                    check.fail(Some(event.seq()), format!("container name is {:?}, not {name:?}", e.container_name));
                }
                let Some(admission) = admissions.get(e.dispatch.as_str()) else { continue };
                if e.session != admission.session {
                    check.fail(
                        Some(event.seq()),
                        format!("session is {}, admitted was {}", e.session, admission.session),
                    );
                }
                if e.image != admission.runner.image {
                    check.fail(
                        Some(event.seq()),
                        format!("image is {}, admitted was {}", e.image, admission.runner.image),
                    );
                }
            }
            _ => {}
        }
    }
    check
}

/// A container id belongs to one dispatch, and a dispatch has one start.
fn one_container(slice: &Slice) -> Check {
    let mut check = Check::new("run.one_container");
    let mut owner: BTreeMap<&str, &str> = BTreeMap::new();
    let mut started: BTreeMap<&str, &str> = BTreeMap::new();
    for (event, known) in known(slice) {
        let (dispatch, container, starts) = match known {
            LedgerEvent::Run(RunEvent::Started(e)) => (e.dispatch.as_str(), e.container.as_str(), true),
            LedgerEvent::Run(RunEvent::Finished(e)) => match &e.container {
                Some(container) => (e.dispatch.as_str(), container.as_str(), false),
                None => continue,
            },
            _ => continue,
        };
        check.looked_at += 1;
        let short: String = container.chars().take(12).collect();
        let first = *owner.entry(container).or_insert(dispatch);
        if first != dispatch {
            check.fail(Some(event.seq()), format!("container {short} of {dispatch} is the one of {first}"));
        }
        match started.get(dispatch) {
            Some(_) if starts => check.fail(Some(event.seq()), format!("{dispatch} started a second time")),
            Some(before) if *before != container => {
                check.fail(
                    Some(event.seq()),
                    format!("{dispatch} ended in container {short}, which is not the one it started in"),
                );
            }
            None if starts => {
                started.insert(dispatch, container);
            }
            _ => {}
        }
    }
    check
}

/// Work without a container happened in somebody's process: output, a model call or a session file needs one.
fn has_container(slice: &Slice) -> Check {
    let mut check = Check::new("run.has_container");
    let mut contained = BTreeSet::new();
    let mut worked = BTreeSet::new();
    for (event, known) in known(slice) {
        match known {
            LedgerEvent::Run(RunEvent::Started(e)) => {
                check.looked_at += 1;
                if is_container(&e.container) {
                    contained.insert(e.dispatch.as_str());
                } else {
                    check.fail(
                        Some(event.seq()),
                        format!("{:?} is no container id of 64 hexadecimal digits", e.container),
                    );
                }
            }
            LedgerEvent::Effect(e) => {
                worked.insert(e.dispatch().as_str());
            }
            LedgerEvent::Run(RunEvent::Finished(e)) => {
                check.looked_at += 1;
                let own = e.container.as_deref().is_some_and(is_container);
                let work = did_work(e) || worked.contains(e.dispatch.as_str());
                if work && !own && !contained.contains(e.dispatch.as_str()) {
                    check.fail(
                        Some(event.seq()),
                        format!("{} has output, effects or a session file and no container", e.dispatch),
                    );
                }
            }
            _ => {}
        }
    }
    check
}

fn is_container(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn did_work(end: &RunFinished) -> bool {
    end.output.frames > 0 || end.output.bytes > 0 || end.usage.model_calls > 0 || end.session.is_some()
}

/// Exactly one terminal event for each dispatch that ended, after its claim, and no run event after it. A dispatch that
/// is still open at the end of the slice has none yet.
fn terminal(slice: &Slice) -> Check {
    let mut check = Check::new("run.terminal");
    let mut claimed = BTreeSet::new();
    let mut ended: BTreeMap<&str, u64> = BTreeMap::new();
    for (event, known) in known(slice) {
        let LedgerEvent::Run(run) = known else { continue };
        let (dispatch, ends) = match run {
            RunEvent::Claimed(e) => {
                claimed.insert(e.dispatch.as_str());
                (e.dispatch.as_str(), false)
            }
            RunEvent::Started(e) => (e.dispatch.as_str(), false),
            RunEvent::Finished(e) => (e.dispatch.as_str(), true),
        };
        if let Some(first) = ended.get(dispatch) {
            let what = if ends { "a second terminal event" } else { "a run event after the terminal one" };
            check.fail(Some(event.seq()), format!("{dispatch}: {what}; it ended at sequence {first}"));
        } else if ends {
            check.looked_at += 1;
            ended.insert(dispatch, event.seq());
            if !claimed.contains(dispatch) {
                check.fail(Some(event.seq()), format!("{dispatch} ended and was never claimed"));
            }
        }
    }
    check
}

/// At most one turn of a session runs at a time: from its claim to its end no other of the session is claimed.
fn one_turn(slice: &Slice) -> Check {
    let mut check = Check::new("run.one_turn");
    let mut running: BTreeMap<&str, &str> = BTreeMap::new();
    for (event, known) in known(slice) {
        match known {
            LedgerEvent::Run(RunEvent::Claimed(e)) => {
                check.looked_at += 1;
                let (session, dispatch) = (e.session.as_str(), e.dispatch.as_str());
                match running.insert(session, dispatch) {
                    Some(before) if before != dispatch => {
                        let why =
                            format!("{dispatch} is claimed while turn {before} of session {session} has not ended");
                        check.fail(Some(event.seq()), why);
                    }
                    _ => {}
                }
            }
            LedgerEvent::Run(RunEvent::Finished(e)) => running.retain(|_, dispatch| *dispatch != e.dispatch.as_str()),
            _ => {}
        }
    }
    check
}

/// What is said to a dispatch is numbered from 1 without a gap, comes between its admission and its end, and, when it
/// came by a launcher, by the launcher that began it.
fn follow_ups(slice: &Slice) -> Check {
    let mut check = Check::new("follow_up.order");
    let mut open: BTreeMap<&str, (&str, u32)> = BTreeMap::new();
    for (event, known) in known(slice) {
        match known {
            LedgerEvent::Dispatch(DispatchEvent::Admitted(e)) => {
                open.insert(e.dispatch.as_str(), (e.launch.launcher.as_str(), 0));
            }
            LedgerEvent::Run(RunEvent::Finished(e)) => {
                open.remove(e.dispatch.as_str());
            }
            LedgerEvent::Dispatch(DispatchEvent::FollowUpAccepted(e)) => {
                check.looked_at += 1;
                let Some((launcher, last)) = open.get_mut(e.dispatch.as_str()) else {
                    check.fail(Some(event.seq()), format!("more is said to {}, which is not open", e.dispatch));
                    continue;
                };
                if e.n != *last + 1 {
                    check.fail(Some(event.seq()), format!("follow-up {} of {} comes after {last}", e.n, e.dispatch));
                }
                *last = e.n;
                if let Some(other) = e.launch.as_ref().map(|l| l.launcher.as_str()).filter(|l| l != launcher) {
                    check.fail(Some(event.seq()), format!("{other} speaks to {}, which {launcher} began", e.dispatch));
                }
            }
            _ => {}
        }
    }
    check
}

/// Every effect belongs to a dispatch that a runtime has claimed.
fn effects(slice: &Slice) -> Check {
    let mut check = Check::new("effect.claimed");
    let mut claimed = BTreeSet::new();
    for (event, known) in known(slice) {
        match known {
            LedgerEvent::Run(RunEvent::Claimed(e)) => {
                claimed.insert(e.dispatch.as_str());
            }
            LedgerEvent::Effect(e) => {
                check.looked_at += 1;
                let dispatch = e.dispatch().as_str();
                if !claimed.contains(dispatch) {
                    check.fail(Some(event.seq()), format!("an effect of {dispatch}, which no runtime has claimed"));
                }
            }
            _ => {}
        }
    }
    check
}
