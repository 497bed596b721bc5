//! Following the ledger: one ordered reader with a cursor that starts again after any failure, nothing missed and
//! nothing twice.

use custody_ledger::{Log, LogError, Recorded, Seq, Stored};
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The longest pause before a reader is made again.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Hands every stored message after `cursor` to `each`, in order, until cancelled.
///
/// # Errors
/// [`LogError::Broken`] when the log itself has a hole: nothing after it may be folded.
pub async fn follow(
    log: Arc<dyn Log>,
    mut cursor: Seq,
    cancel: CancellationToken,
    mut each: impl FnMut(Stored) + Send,
) -> Result<(), LogError> {
    let mut backoff = Duration::from_millis(20);
    loop {
        let opened = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            opened = log.tail(cursor.next()) => opened,
        };
        let error = match opened {
            Ok(mut tail) => loop {
                let next = tokio::select! {
                    () = cancel.cancelled() => return Ok(()),
                    next = tail.next() => next,
                };
                match next {
                    Some(Ok(stored)) if stored.seq <= cursor => {}
                    Some(Ok(stored)) if stored.seq == cursor.next() => {
                        cursor = stored.seq;
                        backoff = Duration::from_millis(20);
                        each(stored);
                    }
                    Some(Ok(stored)) => {
                        let why = format!("sequence {} follows {cursor}", stored.seq);
                        return Err(LogError::Broken { seq: cursor.0 + 1, why });
                    }
                    Some(Err(broken @ LogError::Broken { .. })) => return Err(broken),
                    Some(Err(error)) => break error.to_string(),
                    None => break "the reader ended".to_owned(),
                }
            },
            Err(broken @ LogError::Broken { .. }) => return Err(broken),
            Err(error) => error.to_string(),
        };
        tracing::warn!(after_seq = cursor.0, %error, "ledger reader lost; reading again");
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            () = tokio::time::sleep(backoff) => {}
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// The events of a stored message; what cannot be read is reported and skipped, as a fold must.
pub fn read_or_note(stored: &Stored) -> Vec<Recorded> {
    Recorded::read(stored).unwrap_or_else(|error| {
        tracing::error!(%error, "unreadable ledger message skipped");
        Vec::new()
    })
}
