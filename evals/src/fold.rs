//! Mode 1: the log folded into every projection, in batches, with a snapshot and a restore between some of them. Must
//! give the same rows and digests whatever the batches are.

use crate::check::Check;
use crate::slice::Slice;
use custody_ledger::{Projection, Recorded, Seq, Stored};
use custody_projections::{Audit, Dispatches, Folded, Sessions, digest};
use serde_json::Value;
use std::collections::BTreeMap;

/// The projections, in the order of their names.
pub(crate) const NAMES: &[&str] = &["audit", "dispatches", "sessions"];
/// How often a state is thrown away and restored from its rows within one fold.
const RESTORES_MAX: usize = 16;

/// One projection after the whole log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folding {
    /// The version of its fold.
    pub version: u32,
    /// Its digest.
    pub digest: String,
    /// Its rows.
    pub rows: BTreeMap<String, Value>,
}

/// Every projection by its name.
pub(crate) type Foldings = BTreeMap<&'static str, Folding>;

/// Folds a log in batches of so many messages.
///
/// # Errors
/// When a projection cannot restore its own rows, which is a bug of that projection.
pub(crate) fn fold(slice: &Slice, batch: usize) -> Result<Foldings, String> {
    let stored: Vec<&Stored> = slice.stored().collect();
    let mut out = Foldings::new();
    out.insert("audit", one::<Audit>(&stored, batch)?);
    out.insert("dispatches", one::<Dispatches>(&stored, batch)?);
    out.insert("sessions", one::<Sessions>(&stored, batch)?);
    Ok(out)
}

fn one<P: Folded>(stored: &[&Stored], batch: usize) -> Result<Folding, String> {
    let batch = batch.max(1);
    let every = stored.len().div_ceil(batch).div_ceil(RESTORES_MAX).max(1);
    let mut state = P::State::default();
    for (index, messages) in stored.chunks(batch).enumerate() {
        for message in messages {
            // A message that cannot be read is a finding of log.schema; the folds go on without it, as they do live.
            for recorded in Recorded::read(message).unwrap_or_default() {
                P::apply(&mut state, &recorded);
            }
        }
        if index > 0 && index % every == 0 {
            let restored = P::restore(rows::<P>(&state));
            state = restored.ok_or_else(|| format!("{} cannot restore its own rows", P::NAME))?;
        }
    }
    let seq = Seq(stored.last().map_or(0, |s| s.seq.0));
    let mut folded = BTreeMap::new();
    for (key, bytes) in rows::<P>(&state) {
        let row = serde_json::from_slice(&bytes).map_err(|e| format!("{} row {key:?}: {e}", P::NAME))?;
        folded.insert(key, row);
    }
    Ok(Folding { version: <P as Projection>::VERSION, digest: digest::<P>(&state, seq), rows: folded })
}

fn rows<P: Folded>(state: &P::State) -> Vec<(String, Vec<u8>)> {
    let mut rows = Vec::with_capacity(P::count(state));
    P::export(state, &mut |key, bytes| rows.push((key.to_owned(), bytes.to_vec())));
    rows
}

/// Digests against the goldens; a projection without a golden fails.
pub(crate) fn digests(foldings: &Foldings, goldens: &BTreeMap<String, String>) -> Vec<Check> {
    let compare = |(name, folding): (&&str, &Folding)| {
        let mut check = Check::new(format!("digest.{name}"));
        check.looked_at = 1;
        match goldens.get(*name) {
            Some(golden) if *golden == folding.digest => {}
            Some(golden) => check.fail(None, format!("golden is {golden}, the fold gives {}", folding.digest)),
            None => check.fail(None, format!("there is no {}", crate::scenario::golden_file(name))),
        }
        check
    };
    foldings.iter().map(compare).collect()
}

/// The versions that the goldens were made with are the ones that fold now.
pub(crate) fn versions(foldings: &Foldings, folds: &BTreeMap<String, u32>) -> Check {
    let mut check = Check::new("fold.version");
    for (name, folding) in foldings {
        check.looked_at += 1;
        match folds.get(*name) {
            Some(version) if *version == folding.version => {}
            Some(version) => {
                check.fail(
                    None,
                    format!("{name} folds as version {}, the goldens were made with {version}", folding.version),
                );
            }
            None => {
                check.fail(None, format!("eval.toml does not say which version of {name} its golden was made with"))
            }
        }
    }
    for name in folds.keys().filter(|n| !NAMES.contains(&n.as_str())) {
        check.fail(None, format!("there is no projection {name:?}"));
    }
    check
}
