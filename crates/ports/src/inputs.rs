//! The input topic of a dispatch, `unit.<id>.in`: where the words of follow-ups are kept. What stands there reaches a box
//! only when the ledger says so; the topic by itself decides nothing.

use crate::output::OutputError;
use futures::future::BoxFuture;

/// The input topics.
pub trait Inputs: Send + Sync {
    /// Keeps one input.v1 and returns its sequence in OUTPUT. Called again with the same message id it may keep a second
    /// copy, which nothing refers to.
    fn keep<'a>(
        &'a self,
        dispatch: &'a str,
        message_id: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<u64, OutputError>>;
    /// What stands at a sequence, if it is this dispatch's.
    fn at<'a>(&'a self, dispatch: &'a str, seq: u64) -> BoxFuture<'a, Result<Option<Vec<u8>>, OutputError>>;
}
