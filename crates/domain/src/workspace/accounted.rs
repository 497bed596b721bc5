//! Whether a trunk holds what the ledger says and nothing else: a bucket has other doors than Custody.

use std::collections::BTreeSet;

/// One commit of a trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfTrunk<'a> {
    /// Git's id.
    pub commit: &'a str,
    /// The dispatch that it says it is of.
    pub dispatch: Option<&'a str>,
}

/// What a trunk and the ledger have not in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounted {
    /// In the trunk, after something that is recorded, and recorded nowhere. Newest first.
    pub unknown: Vec<String>,
    /// Recorded, and not in the trunk: somebody put an older state back.
    pub lost: Vec<String>,
    /// In the trunk from before the first commit that is recorded: the first one of all, and what a bucket held when it was
    /// registered.
    pub before: u64,
    /// In the trunk and of a dispatch that has not ended, which records it at its end.
    pub under_way: u64,
}

impl Accounted {
    /// Whether all is as it is recorded.
    pub fn is_whole(&self) -> bool {
        self.unknown.is_empty() && self.lost.is_empty()
    }
}

/// Compares a trunk, newest commit first, with the commits that the ledger records of it, of which those of `due` were
/// recorded before the trunk was read, and with the dispatches that have not ended.
pub fn account(
    trunk: &[OfTrunk<'_>],
    recorded: &BTreeSet<&str>,
    due: &BTreeSet<&str>,
    running: &BTreeSet<&str>,
) -> Accounted {
    let known = |one: &OfTrunk<'_>| recorded.contains(one.commit);
    // Where something is recorded and nothing of it is here, all of it is another history.
    let nowhere = if recorded.is_empty() { 0 } else { trunk.len() };
    let since = trunk.iter().rposition(known).map_or(nowhere, |oldest| oldest + 1);
    let (after, before) = trunk.split_at_checked(since).unwrap_or((trunk, &[]));
    let open = |one: &&OfTrunk<'_>| one.dispatch.is_some_and(|dispatch| running.contains(dispatch));
    let (under_way, unknown): (Vec<&OfTrunk<'_>>, Vec<&OfTrunk<'_>>) =
        after.iter().filter(|one| !known(one)).partition(open);
    let here: BTreeSet<&str> = trunk.iter().map(|one| one.commit).collect();
    Accounted {
        unknown: unknown.into_iter().map(|one| one.commit.to_owned()).collect(),
        lost: due.difference(&here).map(|commit| (*commit).to_owned()).collect(),
        before: before.len() as u64,
        under_way: under_way.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// `c3` of no dispatch, `d-1:c3` of one.
    fn of_trunk(text: &str) -> OfTrunk<'_> {
        match text.split_once(':') {
            Some((dispatch, commit)) => OfTrunk { commit, dispatch: Some(dispatch) },
            None => OfTrunk { commit: text, dispatch: None },
        }
    }

    #[rstest]
    #[case::honest(&["d-1:c3", "c2", "c1"], &["c2", "c3"], &[], &[], 1, 0)]
    #[case::t35_beside_the_ledger(&["x", "d-1:c3", "c2", "c1"], &["c2", "c3"], &["x"], &[], 1, 0)]
    #[case::t35_between(&["d-1:c3", "x", "c2", "c1"], &["c2", "c3"], &["x"], &[], 1, 0)]
    #[case::t35_in_the_name_of_a_run_that_ended(&["d-1:x", "d-1:c3", "c1"], &["c3"], &["x"], &[], 1, 0)]
    #[case::of_a_run_that_has_not_ended(&["d-9:c4", "d-1:c3", "c1"], &["c3"], &[], &[], 1, 1)]
    #[case::an_older_state(&["c2", "c1"], &["c2", "c3"], &[], &["c3"], 1, 0)]
    #[case::another_history(&["y", "x"], &["c2"], &["y", "x"], &["c2"], 0, 0)]
    #[case::nothing_is_recorded(&["c2", "c1"], &[], &[], &[], 2, 0)]
    #[case::nothing_at_all(&[], &[], &[], &[], 0, 0)]
    fn a_trunk_is_what_the_ledger_says(
        #[case] trunk: &[&str],
        #[case] recorded: &[&str],
        #[case] unknown: &[&str],
        #[case] lost: &[&str],
        #[case] before: u64,
        #[case] under_way: u64,
    ) {
        let trunk: Vec<OfTrunk<'_>> = trunk.iter().map(|text| of_trunk(text)).collect();
        let recorded = recorded.iter().copied().collect();
        let found = account(&trunk, &recorded, &recorded, &BTreeSet::from(["d-9"]));
        assert_eq!((found.unknown.as_slice(), found.lost.as_slice()), (&own(unknown)[..], &own(lost)[..]));
        assert_eq!((found.before, found.under_way), (before, under_way));
        assert_eq!(found.is_whole(), unknown.is_empty() && lost.is_empty());
    }

    #[test]
    fn what_was_recorded_after_the_trunk_was_read_is_not_lost() {
        let trunk = ["c2", "c1"].map(of_trunk);
        let found = account(&trunk, &BTreeSet::from(["c2", "c3"]), &BTreeSet::from(["c2"]), &BTreeSet::new());
        assert_eq!(found, Accounted { before: 1, ..Accounted::default() });
    }

    fn own(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }
}
