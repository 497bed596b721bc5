//! One log under one scenario: folded, decided again, and judged. A pure function of what was read.

use crate::check::Check;
use crate::decision::{Decisions, replay};
use crate::expect::Expect;
use crate::fold::{Foldings, digests, fold, versions};
use crate::scenario::{Eval, Mode};
use crate::slice::Slice;
use crate::verdict::Facts;
use crate::{assertions, closing};
use custody_contracts::canonical::digest;
use std::collections::BTreeMap;

/// Messages a batch in the second fold; a number that divides nothing.
const SMALL_BATCH: usize = 7;

/// Everything that came out of one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Evaluation {
    pub(crate) checks: Vec<Check>,
    pub(crate) decisions: Option<Decisions>,
    pub(crate) foldings: Foldings,
}

/// Judges a log once, folded in batches of so many messages.
///
/// # Errors
/// When a projection cannot restore its own rows.
pub(crate) fn once(
    slice: &Slice,
    eval: &Eval,
    expect: &Expect,
    goldens: &BTreeMap<String, String>,
    batch: usize,
) -> Result<Evaluation, String> {
    let foldings = fold(slice, batch)?;
    let decisions = eval.modes.contains(&Mode::Decision).then(|| replay(slice));
    let mut checks = closing::checks(slice, eval, decisions.as_ref());
    checks.extend(decisions.as_ref().map(Decisions::check));
    checks.extend(assertions::judge(expect, slice, &foldings));
    if eval.modes.contains(&Mode::Fold) {
        checks.push(versions(&foldings, &eval.folds));
        checks.extend(digests(&foldings, goldens));
    }
    Ok(Evaluation { checks, decisions, foldings })
}

/// Judges a log twice, with other batches, and adds the check that both came out the same.
///
/// # Errors
/// As [`once`].
pub(crate) fn twice(
    slice: &Slice,
    eval: &Eval,
    expect: &Expect,
    goldens: &BTreeMap<String, String>,
) -> Result<Evaluation, String> {
    let mut first = once(slice, eval, expect, goldens, usize::MAX)?;
    let second = once(slice, eval, expect, goldens, SMALL_BATCH)?;
    let mut same = Check::new("fold.same");
    same.looked_at = first.checks.len() as u64 + first.foldings.len() as u64;
    for (name, folding) in &first.foldings {
        if second.foldings.get(name) != Some(folding) {
            same.fail(None, format!("{name} folds otherwise in batches of {SMALL_BATCH} than at once"));
        }
    }
    for (a, b) in first.checks.iter().zip(&second.checks).filter(|(a, b)| a != b) {
        same.fail(None, format!("{} finds {} things and then {}", a.id, a.findings.len(), b.findings.len()));
    }
    if first.decisions != second.decisions {
        same.fail(None, "the decisions come out otherwise the second time");
    }
    first.checks.push(same);
    Ok(first)
}

/// What a baseline keeps of a log.
pub(crate) fn facts(slice: &Slice, log_digest: &str, evaluation: &Evaluation) -> Facts {
    let mut facts = Facts { log: log_digest.to_owned(), messages: slice.stored().count() as u64, ..Facts::default() };
    let mut order = String::new();
    for event in &slice.events {
        *facts.types.entry(event.kind().to_owned()).or_default() += 1;
        order.push_str(&format!("{} {}\n", event.recorded.entity.log_subject(), event.kind()));
    }
    facts.order = digest(order.as_bytes());
    facts.digests = evaluation.foldings.iter().map(|(n, f)| ((*n).to_owned(), f.digest.clone())).collect();
    facts.decisions = evaluation.decisions.as_ref().map_or_else(BTreeMap::new, |d| d.outcomes.clone());
    facts
}
