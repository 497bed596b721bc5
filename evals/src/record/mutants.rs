//! The first mutants of a captured scenario. Their signatures are broken, because the live keys are not here; what each
//! has to fail by is a check about what the log means.

use super::End;
use crate::scenario::MutantNote;
use crate::slice::Line;
use custody_contracts::canonical::canonical;
use custody_ledger::Seq;
use serde_json::{Value, json};

/// A mutated log.
pub(super) struct Made {
    pub(super) name: &'static str,
    pub(super) note: MutantNote,
    pub(super) lines: Vec<Line>,
}

fn made(name: &'static str, why: &str, must_fail_by: &str, lines: Vec<Line>) -> Made {
    Made { name, note: MutantNote { why: why.into(), must_fail_by: must_fail_by.into() }, lines }
}

/// The mutants for one dispatch.
pub(super) fn of(lines: &[Line], dispatch: &str, end: &End) -> Vec<Made> {
    let of_dispatch = ["ledger.dispatch.", dispatch].concat();
    let of_run = ["ledger.run.", dispatch].concat();
    match end {
        End::Finished(_) => vec![
            made(
                "second-end",
                "The terminal event stands twice: a dispatch ends once.",
                "run.terminal",
                repeated(lines, &of_run),
            ),
            made(
                "no-admission",
                "The admission was cut out and the rest renumbered: nothing runs that was not admitted.",
                "run.admitted",
                without(lines, &of_dispatch),
            ),
            made(
                "another-person",
                "The admission names another person than the launch: the deciders would not have written it.",
                "decision",
                changed(lines, &of_dispatch, "/data/unit/identity/subject", json!("u_somebody_else")),
            ),
        ],
        End::Refused(_) => vec![
            made(
                "another-reason",
                "The refusal gives another reason than the rules do.",
                "decision",
                changed(lines, &of_dispatch, "/data/reason", json!("SOMETHING_ELSE")),
            ),
            made(
                "launch-lost",
                "The refusal was cut out and the rest renumbered: every launch is decided.",
                "launch.decided",
                without(lines, &of_dispatch),
            ),
        ],
    }
}

fn is_on(line: &Line, subject: &str) -> bool {
    matches!(line, Line::Ledger(l) if l.stored.log_subject == subject)
}

/// Without the first message of an entity, the ledger's sequences closed up.
fn without(lines: &[Line], subject: &str) -> Vec<Line> {
    let at = lines.iter().position(|l| is_on(l, subject));
    let mut out: Vec<Line> =
        lines.iter().enumerate().filter(|(i, _)| Some(*i) != at).map(|(_, line)| line.clone()).collect();
    let mut seq = 0;
    for line in &mut out {
        if let Line::Ledger(l) = line {
            seq += 1;
            l.stored.seq = Seq(seq);
        }
    }
    out
}

/// With the last message of an entity once more at the end.
fn repeated(lines: &[Line], subject: &str) -> Vec<Line> {
    let mut out = lines.to_vec();
    let last = lines.iter().rev().find(|l| is_on(l, subject)).cloned();
    let next = lines.iter().filter(|l| matches!(l, Line::Ledger(_))).count() as u64 + 1;
    if let Some(Line::Ledger(mut line)) = last {
        line.stored.seq = Seq(next);
        line.stored.message_id = None;
        out.push(Line::Ledger(line));
    }
    out
}

/// With one field of the first message of an entity changed.
fn changed(lines: &[Line], subject: &str, pointer: &str, value: Value) -> Vec<Line> {
    let mut out = lines.to_vec();
    let found = out.iter_mut().find(|l| is_on(l, subject));
    if let Some(Line::Ledger(line)) = found
        && let Ok(mut event) = serde_json::from_slice::<Value>(&line.stored.bytes)
    {
        if let Some(field) = event.pointer_mut(pointer) {
            *field = value;
        }
        line.stored.bytes = canonical(&event).into_bytes();
    }
    out
}
