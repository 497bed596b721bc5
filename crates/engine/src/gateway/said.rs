//! What a worker is told beside its job: the follow-ups that the ledger accepted, in its order, each once. The worker says
//! at every connect which one it took last, so a gateway that starts anew goes on there. Must never hand over words that
//! the ledger did not accept: the topic is only where they are kept.

use crate::sealed::said_words;
use custody_contracts::box_protocol::GatewayMessage;
use custody_contracts::events::FollowUpAccepted;
use custody_ports::blobs::Blobs;
use custody_ports::inputs::Inputs;
use custody_ports::output::OutputError;
use tokio::sync::watch;

/// The follow-ups of one connection.
pub(super) struct Said {
    accepted: watch::Receiver<Vec<FollowUpAccepted>>,
    /// The last one handed over; `None` before the worker has its job.
    last: Option<u32>,
}

impl Said {
    /// Of a worker that was not greeted yet.
    pub(super) fn new(accepted: watch::Receiver<Vec<FollowUpAccepted>>) -> Said {
        Said { accepted, last: None }
    }

    /// The worker has its job, and took follow-ups up to here before.
    pub(super) fn greeted(&mut self, last: u32) {
        self.last = Some(last);
    }

    /// Ends when there is one to hand over. Cancel-safe.
    pub(super) async fn more(&mut self) {
        let Some(last) = self.last else { return std::future::pending().await };
        let there = |all: &Vec<FollowUpAccepted>| all.iter().any(|one| one.n > last);
        if self.accepted.wait_for(there).await.is_err() {
            std::future::pending().await
        }
    }

    /// The next one as a line; `None` when all are handed over. One whose words are gone or are others than were accepted
    /// is passed over: they cannot come back, and the ledger still says that it was accepted.
    ///
    /// # Errors
    /// [`OutputError`] when the topic cannot be read now.
    pub(super) async fn next(
        &mut self,
        inputs: &dyn Inputs,
        blobs: &dyn Blobs,
    ) -> Result<Option<GatewayMessage>, OutputError> {
        let Some(last) = self.last else { return Ok(None) };
        let mut following: Vec<FollowUpAccepted> =
            self.accepted.borrow().iter().filter(|one| one.n > last).cloned().collect();
        following.sort_by_key(|one| one.n);
        for one in following {
            let kept = inputs.at(one.dispatch.as_str(), one.input_seq).await?;
            self.last = Some(one.n);
            match kept.and_then(|kept| said_words(blobs, kept, &one.digest)) {
                Some(text) => return Ok(Some(GatewayMessage::Input { text, n: Some(one.n) })),
                None => {
                    tracing::error!(dispatch = %one.dispatch, n = one.n, "accepted words are not on the input topic")
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use custody_contracts::canonical::digest;
    use custody_contracts::ids::DispatchId;
    use custody_testkit::fakes::{MemoryBlobs, MemoryOutput};
    use serde_json::json;

    async fn accepted(inputs: &MemoryOutput, n: u32, text: &str, accepted: &str) -> FollowUpAccepted {
        let bytes = json!({ "dispatch": "d-1", "text": text }).to_string().into_bytes();
        FollowUpAccepted {
            dispatch: DispatchId::parse("d-1").unwrap(),
            n,
            by: "web".into(),
            launch: None,
            signature: None,
            digest: digest(accepted.as_bytes()),
            bytes: accepted.len() as u64,
            input_seq: inputs.keep("d-1", "m", bytes).await.unwrap(),
        }
    }

    fn told(message: Option<GatewayMessage>) -> Option<(u32, String)> {
        match message? {
            GatewayMessage::Input { text, n } => Some((n.unwrap(), text)),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn accepted_words_come_in_order_once_and_nothing_else_does() {
        let (inputs, blobs) = (MemoryOutput::default(), MemoryBlobs::default());
        // Kept by somebody, accepted by nobody.
        inputs.keep("d-1", "stray", b"{\"dispatch\":\"d-1\",\"text\":\"stray\"}".to_vec()).await.unwrap();
        let two = accepted(&inputs, 2, "two", "two").await;
        let one = accepted(&inputs, 1, "one", "one").await;
        let forged = accepted(&inputs, 3, "others", "three").await;
        let mut elsewhere = accepted(&inputs, 4, "four", "four").await;
        elsewhere.dispatch = DispatchId::parse("d-2").unwrap();
        let five = accepted(&inputs, 5, "five", "five").await;
        let (sender, receiver) = watch::channel(vec![two, one]);
        let mut said = Said::new(receiver.clone());
        assert_eq!(told(said.next(&inputs, &blobs).await.unwrap()), None, "not before the job");
        said.greeted(0);
        said.more().await;
        assert_eq!(told(said.next(&inputs, &blobs).await.unwrap()), Some((1, "one".into())));
        assert_eq!(told(said.next(&inputs, &blobs).await.unwrap()), Some((2, "two".into())));
        assert_eq!(told(said.next(&inputs, &blobs).await.unwrap()), None);
        sender.send_modify(|all| all.extend([forged, elsewhere, five]));
        said.more().await;
        assert_eq!(told(said.next(&inputs, &blobs).await.unwrap()), Some((5, "five".into())));
        // A worker that comes again says what it has.
        let mut again = Said::new(receiver);
        again.greeted(1);
        assert_eq!(told(again.next(&inputs, &blobs).await.unwrap()), Some((2, "two".into())));
    }
}
