//! One subscription: a cursor, what passes its filter, and the next frame after the cursor. Must never move the cursor
//! past an event that was not sent or filtered out, and never send one that the person may not see.

use super::frames::{self, EVENTS_BYTES_MAX, Out};
use super::hub::Hub;
use super::items::{LedgerItem, OutputItem};
use super::topic::Topic;
use crate::auth::Person;
use custody_contracts::events::Kind;
use custody_contracts::ws::EVENTS_MAX;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Messages of the ledger that are looked at for one frame: a filter that lets little through gives others their turn.
const SCAN_MAX: usize = 5_000;

/// What a feed has next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A frame.
    Frame(Out),
    /// Nothing, until something comes.
    Nothing,
    /// What comes after the cursor is no longer held here: the ledger's topics begin anew, output is read from its stream.
    Gone,
}

/// A subscription.
#[derive(Debug)]
pub struct Feed {
    /// Its number.
    pub id: u64,
    /// What it follows.
    pub topic: Topic,
    /// Whose thing it is, for topics of one thing.
    pub owner: Option<String>,
    /// The cursor that the client has.
    cursor: u64,
    /// Up to where nothing more is to send; at least the cursor.
    scanned: u64,
    /// Older chunks that were read from the stream.
    backlog: VecDeque<Arc<OutputItem>>,
    /// Up to where the stream was read when the backlog is sent.
    read_to: u64,
    /// Dispatches of a session.
    dispatches: BTreeSet<String>,
    caught: bool,
}

impl Feed {
    /// A feed that goes on after a cursor.
    pub fn new(id: u64, topic: Topic, owner: Option<String>, cursor: u64) -> Feed {
        Feed {
            id,
            topic,
            owner,
            cursor,
            scanned: cursor,
            backlog: VecDeque::new(),
            read_to: 0,
            dispatches: BTreeSet::new(),
            caught: false,
        }
    }

    /// The dispatches that a session has so far.
    #[must_use]
    pub fn with_dispatches(mut self, dispatches: impl IntoIterator<Item = String>) -> Feed {
        self.dispatches.extend(dispatches);
        self
    }

    /// The cursor that the client has.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The cursor after a snapshot.
    pub fn stands_at(&mut self, seq: u64) {
        self.cursor = seq;
        self.scanned = seq;
        self.caught = false;
    }

    /// Chunks that were read from the stream and come before what the hub holds. `read_to` is how far OUTPUT was read
    /// for this dispatch; 0 when there is more to read.
    pub fn put_backlog(&mut self, items: impl IntoIterator<Item = Arc<OutputItem>>, read_to: u64) {
        let after = self.scanned;
        self.read_to = read_to;
        self.backlog.extend(items.into_iter().filter(|i| i.seq > after));
    }

    /// Whether the person may still read it. Lists are filtered; things have an owner.
    pub fn may(&self, person: &Person) -> bool {
        match self.topic {
            Topic::Dispatch(_) | Topic::Session(_) | Topic::Output(_) => person.may_see(self.owner.as_deref()),
            Topic::Dispatches | Topic::Sessions | Topic::Audit | Topic::Health => true,
        }
    }

    /// How many events behind the newest, as far as it is known without reading.
    pub fn behind(&self, hub: &Hub) -> u64 {
        match &self.topic {
            Topic::Output(id) => (self.backlog.len() + hub.output_behind(id.as_str(), self.scanned)) as u64,
            Topic::Health => 0,
            _ => hub.head().saturating_sub(self.scanned),
        }
    }

    /// The next frame.
    pub fn next(&mut self, hub: &Hub, person: &Person) -> Next {
        let found = match self.topic.clone() {
            Topic::Health => return Next::Nothing,
            Topic::Output(id) => self.next_output(hub, id.as_str()),
            Topic::Dispatches | Topic::Dispatch(_) | Topic::Sessions | Topic::Session(_) | Topic::Audit => {
                self.next_ledger(hub, person)
            }
        };
        match found {
            Next::Nothing if !self.caught => {
                self.caught = true;
                self.cursor = self.scanned;
                Next::Frame(frames::caught(self.id, self.cursor))
            }
            other => other,
        }
    }

    fn next_ledger(&mut self, hub: &Hub, person: &Person) -> Next {
        loop {
            let (mut events, mut count, mut last, mut looked) = (String::new(), 0, self.scanned, 0);
            let held = hub.ledger(|ring| {
                let messages = ring.after(self.scanned)?;
                for message in messages.take(SCAN_MAX) {
                    if count + message.items.len() > EVENTS_MAX || events.len() > EVENTS_BYTES_MAX {
                        break;
                    }
                    looked += 1;
                    for item in &message.items {
                        if self.wants(item, person) {
                            let text = if self.topic == Topic::Audit { &item.row } else { &item.event };
                            if count > 0 {
                                events.push(',');
                            }
                            events.push_str(text);
                            count += 1;
                            last = message.seq;
                        }
                    }
                    self.scanned = message.seq;
                }
                Some(())
            });
            if held.is_none() {
                return Next::Gone;
            }
            if count > 0 {
                let prev = std::mem::replace(&mut self.cursor, last);
                return Next::Frame(frames::ev(self.id, last, prev, &events));
            }
            if looked < SCAN_MAX {
                return Next::Nothing;
            }
        }
    }

    /// Whether an event is one of the topic's, and the person's.
    fn wants(&mut self, item: &LedgerItem, person: &Person) -> bool {
        let of_dispatch = matches!(item.kind, Kind::Dispatch | Kind::Run);
        match &self.topic {
            Topic::Dispatches | Topic::Sessions => of_dispatch && person.may_see(item.subject.as_deref()),
            Topic::Dispatch(id) => item.dispatch.as_deref() == Some(id.as_str()),
            Topic::Session(id) => {
                let Some(dispatch) = &item.dispatch else { return false };
                if item.session.as_deref() == Some(id.as_str()) && person.may_see(item.subject.as_deref()) {
                    self.dispatches.insert(dispatch.clone());
                }
                self.dispatches.contains(dispatch)
            }
            Topic::Audit => person.may_see(item.subject.as_deref()),
            Topic::Output(_) | Topic::Health => false,
        }
    }

    fn next_output(&mut self, hub: &Hub, dispatch: &str) -> Next {
        if self.backlog.is_empty() {
            self.scanned = self.scanned.max(std::mem::take(&mut self.read_to));
        }
        let (mut events, mut count, mut last) = (String::new(), 0, self.scanned);
        let mut put = |item: &OutputItem, events: &mut String| {
            if count > 0 {
                events.push(',');
            }
            events.push_str(&item.event);
            count += 1;
            last = item.seq;
            count >= EVENTS_MAX || events.len() > EVENTS_BYTES_MAX
        };
        if self.backlog.is_empty() {
            let Some((items, _)) = hub.output(dispatch, self.scanned, EVENTS_MAX) else { return Next::Gone };
            for item in items {
                if put(&item, &mut events) {
                    break;
                }
            }
        }
        while let Some(item) = self.backlog.pop_front() {
            if put(&item, &mut events) {
                break;
            }
        }
        if count == 0 {
            return Next::Nothing;
        }
        self.scanned = last;
        let prev = std::mem::replace(&mut self.cursor, last);
        Next::Frame(frames::ev(self.id, last, prev, &events))
    }
}

#[cfg(test)]
mod tests;
