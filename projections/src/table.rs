//! Rows by key, which of them changed, and the digest over all of them.

use custody_ledger::{Projection, Seq};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// One changed row: its key, and its bytes or `None` when it is gone.
pub type RowChange = (String, Option<Vec<u8>>);

/// Rows by key.
#[derive(Debug, Clone)]
pub struct Table<R> {
    rows: BTreeMap<String, R>,
    dirty: BTreeSet<String>,
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Table { rows: BTreeMap::new(), dirty: BTreeSet::new() }
    }
}

impl<R: Serialize + DeserializeOwned + Default> Table<R> {
    /// A row.
    pub fn get(&self, key: &str) -> Option<&R> {
        self.rows.get(key)
    }

    /// Changes a row, which is made when it is not there.
    pub fn edit(&mut self, key: &str) -> &mut R {
        if !self.dirty.contains(key) {
            self.dirty.insert(key.to_owned());
        }
        self.rows.entry(key.to_owned()).or_default()
    }

    /// Rows in the order of their keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &R)> {
        self.rows.iter().map(|(k, r)| (k.as_str(), r))
    }

    /// Rows whose key starts so.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a R)> {
        self.rows
            .range(prefix.to_owned()..)
            .take_while(move |(k, _)| k.starts_with(prefix))
            .map(|(k, r)| (k.as_str(), r))
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// A projection's state as rows, for snapshots and digests.
pub trait Folded: Projection {
    /// Rows that changed since the last call.
    fn take_changes(state: &mut Self::State) -> Vec<RowChange>;
    /// The state of stored rows; `None` if one cannot be read, and then it is rebuilt.
    fn restore(rows: Vec<(String, Vec<u8>)>) -> Option<Self::State>;
    /// Every row, in key order.
    fn export(state: &Self::State, each: &mut dyn FnMut(&str, &[u8]));
    /// How many rows.
    fn count(state: &Self::State) -> usize;
}

impl<R: Serialize + DeserializeOwned + Default> Table<R> {
    /// See [`Folded::take_changes`].
    pub fn take_changes(&mut self) -> Vec<RowChange> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty
            .into_iter()
            .map(|key| {
                let bytes = self.rows.get(&key).and_then(|row| serde_json::to_vec(row).ok());
                (key, bytes)
            })
            .collect()
    }

    /// See [`Folded::restore`].
    pub fn restore(rows: Vec<(String, Vec<u8>)>) -> Option<Self> {
        let mut table = Table::default();
        for (key, bytes) in rows {
            table.rows.insert(key, serde_json::from_slice(&bytes).ok()?);
        }
        Some(table)
    }

    /// See [`Folded::export`].
    pub fn export(&self, each: &mut dyn FnMut(&str, &[u8])) {
        for (key, row) in &self.rows {
            if let Ok(bytes) = serde_json::to_vec(row) {
                each(key, &bytes);
            }
        }
    }
}

/// The digest of a projection at a sequence: over name, version, sequence and every row, sorted, length-prefixed.
/// Never over a store's files, which are not deterministic.
pub fn digest<P: Folded>(state: &P::State, seq: Seq) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(P::NAME.as_bytes());
    part(&P::VERSION.to_be_bytes());
    part(&seq.0.to_be_bytes());
    P::export(state, &mut |key, bytes| {
        part(key.as_bytes());
        part(bytes);
    });
    format!("sha256:{}", custody_contracts::canonical::hex(&hash.finalize()))
}

/// Implements [`Folded`] for a projection whose state is a [`Table`].
macro_rules! folded_table {
    ($projection:ty) => {
        impl $crate::table::Folded for $projection {
            fn take_changes(state: &mut Self::State) -> Vec<$crate::table::RowChange> {
                state.take_changes()
            }
            fn restore(rows: Vec<(String, Vec<u8>)>) -> Option<Self::State> {
                $crate::table::Table::restore(rows)
            }
            fn export(state: &Self::State, each: &mut dyn FnMut(&str, &[u8])) {
                state.export(each);
            }
            fn count(state: &Self::State) -> usize {
                state.len()
            }
        }
    };
}
pub(crate) use folded_table;
