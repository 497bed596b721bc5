//! Reading streams for screens: a page at a time, without a consumer on the server for each reader, and one tail of all
//! output for a whole process.

use crate::output::{OutputError, StoredChunk};
use custody_ledger::{LogError, Seq, Stored};
use futures::future::BoxFuture;
use futures::stream::BoxStream;

/// The most messages of one page.
pub const PAGE_MAX: usize = 500;

/// The ledger, a page at a time. What it gives may be a moment old; no decision may rest on it.
pub trait LogPages: Send + Sync {
    /// At most `max` messages from a sequence on, in order.
    fn page(&self, from: Seq, max: usize) -> BoxFuture<'_, Result<Vec<Stored>, LogError>>;
}

/// The output of all dispatches.
pub trait OutputPages: Send + Sync {
    /// At most `max` chunks of one dispatch after a sequence of OUTPUT, in order.
    fn page<'a>(
        &'a self,
        dispatch: &'a str,
        after: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredChunk>, OutputError>>;
    /// At most `max` follow-ups kept for one dispatch after a sequence of OUTPUT, in order. What the ledger accepted of
    /// them is not told here.
    fn said<'a>(
        &'a self,
        dispatch: &'a str,
        after: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredChunk>, OutputError>>;
    /// The last sequence of OUTPUT; 0 when it is empty.
    fn last_seq(&self) -> BoxFuture<'_, Result<u64, OutputError>>;
    /// Every chunk of every dispatch after a sequence, with the dispatch it is of, and then what comes.
    fn tail(&self, after: u64) -> BoxStream<'static, Result<(String, StoredChunk), OutputError>>;
}
