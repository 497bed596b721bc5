//! A hub that has just begun: the log before it is still to be read, and pages come back already.

use crate::stage::Chunks;
use custody_http::bridge::hub::Hub;
use custody_ledger::{Append, AppendError, Entity, Log, LogError, Seq, Stored};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};

type Messages = BoxStream<'static, Result<Stored, LogError>>;

/// A log of so many messages, none of which has been read yet.
struct Unread(u64);

impl Log for Unread {
    fn load<'a>(&'a self, _: &'a Entity) -> BoxFuture<'a, Result<Vec<Stored>, LogError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn append(&self, _: Append) -> BoxFuture<'_, Result<Seq, AppendError>> {
        Box::pin(async { Err(AppendError::Unavailable("nothing is written here".into())) })
    }
    fn read(&self, _: Seq) -> BoxFuture<'_, Result<Messages, LogError>> {
        Box::pin(async { Ok(futures::stream::pending().boxed()) })
    }
    fn tail(&self, _: Seq) -> BoxFuture<'_, Result<Messages, LogError>> {
        Box::pin(async { Ok(futures::stream::pending().boxed()) })
    }
    fn last_seq(&self) -> BoxFuture<'_, Result<Seq, LogError>> {
        Box::pin(async { Ok(Seq(self.0)) })
    }
}

#[tokio::test]
async fn a_page_that_comes_back_before_the_log_was_read_again_keeps_its_place() {
    let hub = Hub::open(&Unread(42), &Chunks::default()).await.unwrap();
    assert_eq!(hub.head(), 0, "nothing was heard yet");
    assert!(hub.reaches(42) && hub.ledger(|ring| ring.covers(42)), "it was shown before the restart");
    assert!(!hub.reaches(43), "this log never had it");
}
