//! What was listed of a workspace's commits before: an id says all that is in its commit, so git need not be started to
//! list the same one again. Bounded, in memory, and never the only place where anything is. Must never answer for a commit
//! of another repository.

use custody_ports::workspaces::Entry;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Commits that are kept; at one more all are forgotten.
const COMMITS_MAX: usize = 32;
/// Entries of one commit; a larger one is listed anew each time.
const ENTRIES_MAX: usize = 2_000;

/// A commit's list and the digest over it.
type Listed = (Vec<Entry>, String);

/// Of one repository. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trees(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    lists: BTreeMap<String, Arc<Listed>>,
    /// Git's ids of the trees of commits.
    ids: BTreeMap<String, String>,
}

impl Trees {
    fn with<T>(&self, act: impl FnOnce(&mut Known) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a commit holds, when it was listed before.
    pub(crate) fn list(&self, commit: &str) -> Option<Listed> {
        let found = self.with(|known| known.lists.get(commit).cloned())?;
        Some((*found).clone())
    }

    /// Keeps what a commit holds.
    pub(crate) fn listed(&self, commit: &str, list: &Listed) {
        if list.0.len() <= ENTRIES_MAX {
            self.with(|known| keep(&mut known.lists, commit, Arc::new(list.clone())));
        }
    }

    /// The tree of a commit, when it was asked for before.
    pub(crate) fn id(&self, commit: &str) -> Option<String> {
        self.with(|known| known.ids.get(commit).cloned())
    }

    /// Keeps the tree of a commit.
    pub(crate) fn named(&self, commit: &str, tree: &str) {
        self.with(|known| keep(&mut known.ids, commit, tree.to_owned()));
    }
}

fn keep<T>(all: &mut BTreeMap<String, T>, commit: &str, what: T) {
    if all.len() >= COMMITS_MAX {
        all.clear();
    }
    all.insert(commit.to_owned(), what);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: usize) -> Entry {
        Entry { path: n.to_string(), mode: "100644".into(), id: "a".repeat(40), bytes: 1 }
    }

    #[test]
    fn few_are_kept_and_large_ones_never() {
        let trees = Trees::default();
        for n in 0..COMMITS_MAX {
            trees.listed(&n.to_string(), &(vec![entry(n)], "d".into()));
            trees.named(&n.to_string(), "t");
        }
        assert_eq!(trees.list("0"), Some((vec![entry(0)], "d".to_owned())));
        assert_eq!(trees.id("31").as_deref(), Some("t"));
        trees.listed("one more", &(Vec::new(), "e".into()));
        assert_eq!((trees.list("0"), trees.list("one more")), (None, Some((Vec::new(), "e".to_owned()))));
        trees.listed("large", &((0..=ENTRIES_MAX).map(entry).collect(), "f".into()));
        assert_eq!(trees.list("large"), None);
    }
}
