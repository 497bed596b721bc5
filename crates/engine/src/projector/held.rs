//! One live projection: its state, where it stands, and its snapshot.

use super::ProjectionFacts;
use custody_ledger::{Recorded, Seq, Stored};
use custody_ports::snapshots::{Checkpoint, Snapshots};
use custody_projections::{Folded, digest};

pub(crate) struct Held<P: Folded> {
    state: P::State,
    seq: Seq,
    saved: Seq,
    genesis: String,
    /// After a replacement every row must be written again.
    write_all: bool,
}

impl<P: Folded> Held<P> {
    pub(super) fn open(store: &dyn Snapshots, genesis: &str, last: Seq) -> Self {
        let mut held = Held {
            state: P::State::default(),
            seq: Seq(0),
            saved: Seq(0),
            genesis: genesis.to_owned(),
            write_all: false,
        };
        let why = match store.load(P::NAME) {
            Ok(None) => return held,
            Ok(Some((checkpoint, rows))) => match (checkpoint, P::restore(rows)) {
                (c, _) if c.version != P::VERSION => {
                    format!("it is of version {}, the fold is of {}", c.version, P::VERSION)
                }
                (c, _) if c.genesis != genesis => "it is of another log".to_owned(),
                (c, _) if c.seq > last.0 => format!("it stands at {}, the log ends at {last}", c.seq),
                (_, None) => "a row cannot be read".to_owned(),
                (c, Some(state)) => {
                    held.state = state;
                    held.seq = Seq(c.seq);
                    held.saved = held.seq;
                    return held;
                }
            },
            Err(error) => error.to_string(),
        };
        tracing::warn!(projection = P::NAME, why, "snapshot thrown away; folding from the first event");
        if let Err(error) = store.wipe(P::NAME) {
            tracing::error!(%error, "snapshot cannot be wiped");
        }
        held
    }

    pub(crate) fn state(&self) -> &P::State {
        &self.state
    }

    pub(crate) fn seq(&self) -> Seq {
        self.seq
    }

    pub(super) fn apply(&mut self, stored: &Stored, recorded: &[Recorded]) {
        if stored.seq <= self.seq {
            return;
        }
        if self.genesis.is_empty() && stored.seq == Seq(1) {
            self.genesis = custody_contracts::canonical::digest(&stored.bytes);
        }
        recorded.iter().for_each(|r| P::apply(&mut self.state, r));
        self.seq = stored.seq;
    }

    pub(super) fn replace(&mut self, state: P::State) {
        self.state = state;
        self.write_all = true;
        self.saved = Seq(0);
    }

    /// Takes the snapshot away before a message is applied, so that nothing of what it blots out stays on the disk: every
    /// row is written again, into files that never held it.
    pub(super) fn forget_before(&mut self, stored: &Stored, store: &dyn Snapshots) {
        if stored.seq <= self.seq {
            return;
        }
        if let Err(error) = store.wipe(P::NAME) {
            tracing::error!(%error, "a snapshot that holds what was erased cannot be wiped; remove its folder");
        }
        self.saved = Seq(0);
        self.write_all = true;
    }

    pub(super) fn save(&mut self, store: &dyn Snapshots) {
        if self.saved == self.seq || self.genesis.is_empty() {
            return;
        }
        let changes = P::take_changes(&mut self.state);
        let changes = if self.write_all {
            let mut all = Vec::new();
            P::export(&self.state, &mut |key, bytes| all.push((key.to_owned(), Some(bytes.to_vec()))));
            all
        } else {
            changes
        };
        let checkpoint = Checkpoint { version: P::VERSION, seq: self.seq.0, genesis: self.genesis.clone() };
        match store.save(P::NAME, &checkpoint, changes) {
            Ok(()) => {
                self.saved = self.seq;
                self.write_all = false;
            }
            Err(error) => {
                // The changes are gone from the table's list: the next save writes every row.
                tracing::error!(%error, "snapshot not saved; the projection goes on in memory");
                self.write_all = true;
            }
        }
    }

    pub(super) fn facts(&self) -> ProjectionFacts {
        ProjectionFacts {
            name: P::NAME.to_owned(),
            version: P::VERSION,
            seq: self.seq.0,
            rows: P::count(&self.state),
            digest: digest::<P>(&self.state, self.seq),
        }
    }
}
