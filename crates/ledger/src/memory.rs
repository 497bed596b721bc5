//! The log in memory, for rules, evals and the conformance suite. Keeps the order, expectation and identity rules of
//! the real one; must never be used where durability is claimed.

use crate::log::{Append, AppendError, Entity, Log, LogError, Seq, Stored};
use custody_contracts::envelope::MESSAGE_BYTES_MAX;
use futures::StreamExt;
use futures::channel::mpsc;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug, Default)]
struct Inner {
    messages: Vec<Stored>,
    tails: Vec<mpsc::UnboundedSender<Result<Stored, LogError>>>,
}

/// A log in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryLog {
    inner: Arc<Mutex<Inner>>,
}

impl MemoryLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// A log that holds these messages; their sequences are taken as they are.
    pub fn from_messages(messages: Vec<Stored>) -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { messages, tails: Vec::new() })) }
    }

    /// Everything in it.
    pub fn messages(&self) -> Vec<Stored> {
        self.lock().messages.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, append: Append) -> Result<Seq, AppendError> {
        let mut inner = self.lock();
        let log_subject = append.entity.log_subject();
        let mut of_entity = inner.messages.iter().filter(|m| m.log_subject == log_subject);
        if let Some(same) = of_entity.find(|m| m.message_id.as_ref() == Some(&append.message_id)) {
            return Ok(same.seq);
        }
        if append.bytes.len() > MESSAGE_BYTES_MAX {
            return Err(AppendError::TooLarge { bytes: append.bytes.len(), max: MESSAGE_BYTES_MAX });
        }
        let last = inner.messages.iter().rev().find(|m| m.log_subject == log_subject).map_or(0, |m| m.seq.0);
        if last != append.expected.value() {
            return Err(AppendError::Conflict {
                entity: log_subject,
                expected: append.expected.value(),
                actual: Some(last),
            });
        }
        let seq = inner.messages.last().map_or(Seq(1), |m| m.seq.next());
        let stored = Stored { seq, log_subject, message_id: Some(append.message_id), bytes: append.bytes };
        inner.messages.push(stored.clone());
        inner.tails.retain(|tail| tail.unbounded_send(Ok(stored.clone())).is_ok());
        Ok(seq)
    }
}

impl Log for MemoryLog {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Seq, AppendError>> {
        let result = self.put(append);
        Box::pin(async move { result })
    }

    fn load<'a>(&'a self, entity: &'a Entity) -> BoxFuture<'a, Result<Vec<Stored>, LogError>> {
        let log_subject = entity.log_subject();
        let found = self.lock().messages.iter().filter(|m| m.log_subject == log_subject).cloned().collect();
        Box::pin(async move { Ok(found) })
    }

    fn read(&self, from: Seq) -> BoxFuture<'_, Result<BoxStream<'static, Result<Stored, LogError>>, LogError>> {
        let found: Vec<_> = self.lock().messages.iter().filter(|m| m.seq >= from).cloned().map(Ok).collect();
        Box::pin(async move { Ok(stream::iter(found).boxed()) })
    }

    fn tail(&self, from: Seq) -> BoxFuture<'_, Result<BoxStream<'static, Result<Stored, LogError>>, LogError>> {
        let (sender, receiver) = mpsc::unbounded();
        let mut inner = self.lock();
        let found: Vec<_> = inner.messages.iter().filter(|m| m.seq >= from).cloned().map(Ok).collect();
        inner.tails.push(sender);
        let live = receiver.filter(move |m: &Result<Stored, LogError>| {
            let keep = m.as_ref().map_or(true, |m| m.seq >= from);
            async move { keep }
        });
        Box::pin(async move { Ok(stream::iter(found).chain(live).boxed()) })
    }

    fn last_seq(&self) -> BoxFuture<'_, Result<Seq, LogError>> {
        let last = self.lock().messages.last().map_or(Seq(0), |m| m.seq);
        Box::pin(async move { Ok(last) })
    }
}
