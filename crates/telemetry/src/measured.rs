//! Ports that count what goes through them and change nothing: the ledger's appends by how long they took, output and
//! blobs by their bytes. Must never alter a result or hold a call up.

use crate::counts::Counts;
use custody_contracts::ids::Subject;
use custody_ledger::{Append, AppendError, Entity, Log, LogError, Seq, Stored};
use custody_ports::blobs::{BlobError, Blobs};
use custody_ports::output::{Output, OutputError, StoredChunk};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::sync::Arc;

/// A log whose appends are measured.
pub struct MeasuredLog {
    inner: Arc<dyn Log>,
    counts: Arc<Counts>,
}

impl MeasuredLog {
    /// Measures this log.
    pub fn new(inner: Arc<dyn Log>, counts: Arc<Counts>) -> MeasuredLog {
        MeasuredLog { inner, counts }
    }
}

fn outcome(result: &Result<Seq, AppendError>) -> &'static str {
    match result {
        Ok(_) => "stored",
        Err(AppendError::Conflict { .. }) => "conflict",
        Err(_) => "failed",
    }
}

impl Log for MeasuredLog {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Seq, AppendError>> {
        Box::pin(async move {
            let begun = tokio::time::Instant::now();
            let result = self.inner.append(append).await;
            self.counts.appended(outcome(&result), begun.elapsed().as_secs_f64());
            result
        })
    }
    fn load<'a>(&'a self, entity: &'a Entity) -> BoxFuture<'a, Result<Vec<Stored>, LogError>> {
        self.inner.load(entity)
    }
    fn read(&self, from: Seq) -> BoxFuture<'_, Result<BoxStream<'static, Result<Stored, LogError>>, LogError>> {
        self.inner.read(from)
    }
    fn tail(&self, from: Seq) -> BoxFuture<'_, Result<BoxStream<'static, Result<Stored, LogError>>, LogError>> {
        self.inner.tail(from)
    }
    fn last_seq(&self) -> BoxFuture<'_, Result<Seq, LogError>> {
        self.inner.last_seq()
    }
}

/// Output whose bytes are counted.
pub struct MeasuredOutput {
    inner: Arc<dyn Output>,
    counts: Arc<Counts>,
}

impl MeasuredOutput {
    /// Counts what is appended to this.
    pub fn new(inner: Arc<dyn Output>, counts: Arc<Counts>) -> MeasuredOutput {
        MeasuredOutput { inner, counts }
    }
}

impl Output for MeasuredOutput {
    fn append<'a>(
        &'a self,
        dispatch: &'a str,
        last_seq: u64,
        message_id: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<u64, OutputError>> {
        Box::pin(async move {
            let size = bytes.len() as u64;
            let result = self.inner.append(dispatch, last_seq, message_id, bytes).await;
            if result.is_ok() {
                self.counts.moved("output", size);
            }
            result
        })
    }
    fn tell<'a>(
        &'a self,
        launcher: &'a str,
        dispatch: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<(), OutputError>> {
        self.inner.tell(launcher, dispatch, bytes)
    }
    fn last<'a>(&'a self, dispatch: &'a str) -> BoxFuture<'a, Result<Option<StoredChunk>, OutputError>> {
        self.inner.last(dispatch)
    }
    fn all<'a>(&'a self, dispatch: &'a str) -> BoxFuture<'a, Result<Vec<StoredChunk>, OutputError>> {
        self.inner.all(dispatch)
    }
    fn follow<'a>(
        &'a self,
        dispatch: &'a str,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<StoredChunk, OutputError>>, OutputError>> {
        self.inner.follow(dispatch)
    }
}

/// Blobs whose bytes are counted.
pub struct MeasuredBlobs {
    inner: Arc<dyn Blobs>,
    counts: Arc<Counts>,
}

impl MeasuredBlobs {
    /// Counts what is put and got.
    pub fn new(inner: Arc<dyn Blobs>, counts: Arc<Counts>) -> MeasuredBlobs {
        MeasuredBlobs { inner, counts }
    }
}

impl Blobs for MeasuredBlobs {
    fn put<'a>(&'a self, of: &'a Subject, bytes: Vec<u8>) -> BoxFuture<'a, Result<String, BlobError>> {
        Box::pin(async move {
            let size = bytes.len() as u64;
            let result = self.inner.put(of, bytes).await;
            if result.is_ok() {
                self.counts.moved("blob_put", size);
            }
            result
        })
    }
    fn get<'a>(&'a self, digest: &'a str) -> BoxFuture<'a, Result<Vec<u8>, BlobError>> {
        Box::pin(async move {
            let result = self.inner.get(digest).await;
            if let Ok(bytes) = &result {
                self.counts.moved("blob_get", bytes.len() as u64);
            }
            result
        })
    }
    fn seal(&self, of: &Subject, bytes: Vec<u8>) -> Result<Vec<u8>, BlobError> {
        self.inner.seal(of, bytes)
    }
    fn open(&self, kept: Vec<u8>) -> Result<Vec<u8>, BlobError> {
        self.inner.open(kept)
    }
}
