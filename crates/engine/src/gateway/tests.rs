//! The relay: in order, without gaps or doubles, acknowledged only when stored.

use super::relay::{Pace, Relay, RelayError};
use crate::runtime::tests::admitted;
use custody_contracts::box_protocol::{ExitReason, Frame, FrameBody};
use custody_contracts::messages::Chunk;
use custody_ports::output::Output;
use custody_testkit::fakes::{MemoryBlobs, MemoryOutput, Stored};
use rstest::rstest;
use std::sync::Arc;

fn frame(seq: u64) -> Frame {
    Frame { seq, at: 0, body: FrameBody::Text { text: format!("word {seq}") } }
}

async fn open(output: &Arc<MemoryOutput>) -> Result<Relay, RelayError> {
    Relay::open(output.clone(), Arc::new(MemoryBlobs::default()), &admitted("d-1", "s-1"), 1).await
}

fn exit(seq: u64) -> Frame {
    let body = FrameBody::Exit { reason: ExitReason::Completed, code: Some(0), signal: None, detail: None };
    Frame { seq, at: 0, body }
}

async fn stored(output: &MemoryOutput) -> Vec<u64> {
    let chunks = output.all("d-1").await.unwrap();
    chunks.iter().flat_map(|c| serde_json::from_slice::<Chunk>(&c.bytes).unwrap().frames).map(|f| f.seq).collect()
}

#[tokio::test]
async fn frames_are_stored_once_and_in_order_whatever_the_worker_resends() {
    let output = Arc::new(MemoryOutput::default());
    let mut relay = open(&output).await.unwrap();
    for seq in [1, 2, 2, 1, 3] {
        assert!(!relay.take(frame(seq)).unwrap(), "small frames wait for others");
    }
    relay.flush().await.unwrap();
    // A gateway that starts again goes on where the topic stands.
    let mut relay = open(&output).await.unwrap();
    assert_eq!(relay.stored(), 3);
    for seq in [2, 3, 4] {
        relay.take(frame(seq)).unwrap();
    }
    assert!(relay.take(exit(5)).unwrap(), "the last frame is stored at once");
    relay.flush().await.unwrap();
    assert!(!relay.take(frame(6)).unwrap(), "nothing follows the last frame");
    relay.flush().await.unwrap();
    assert_eq!(stored(&output).await, [1, 2, 3, 4, 5]);
    // Its launcher was told the same, no more and no less.
    let launcher = admitted("d-1", "s-1").launch.launcher;
    let chunks = output.all("d-1").await.unwrap();
    let told = chunks.into_iter().map(|chunk| (launcher.to_string(), "d-1".to_owned(), chunk.bytes));
    assert_eq!(output.told(), told.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_missing_frame_ends_the_connection_and_stores_nothing_after_it() {
    let output = Arc::new(MemoryOutput::default());
    let mut relay = open(&output).await.unwrap();
    relay.take(frame(1)).unwrap();
    assert!(relay.take(frame(3)).is_err());
    relay.flush().await.unwrap();
    assert_eq!(stored(&output).await, [1]);
}

#[rstest]
#[case::never_arrived(Stored::No)]
#[case::stored_but_not_answered(Stored::Yes)]
#[tokio::test]
async fn a_lost_answer_neither_loses_nor_doubles_a_chunk(#[case] failure: Stored) {
    let output = Arc::new(MemoryOutput::default());
    output.fail_next(&[failure, failure]);
    let mut relay = open(&output).await.unwrap();
    relay.take(frame(1)).unwrap();
    relay.flush().await.unwrap();
    relay.take(exit(2)).unwrap();
    relay.flush().await.unwrap();
    assert_eq!(stored(&output).await, [1, 2]);
}

#[tokio::test]
async fn a_full_chunk_does_not_wait() {
    let output = Arc::new(MemoryOutput::default());
    let mut relay = open(&output).await.unwrap();
    let text = "x".repeat(33 * 1024);
    assert!(relay.take(Frame { seq: 1, at: 0, body: FrameBody::Text { text } }).unwrap());
}

#[test]
fn a_first_word_waits_for_nobody_and_a_flood_is_a_chunk_every_tenth_of_a_second() {
    let start = tokio::time::Instant::now();
    let at = |ms: u64| start + std::time::Duration::from_millis(ms);
    let mut pace = Pace::full(start);
    let mut published = Vec::new();
    // A frame every millisecond, for a second.
    for ms in 0..1_000 {
        if pace.due(at(ms)) <= at(ms) {
            pace.spend(at(ms));
            published.push(ms);
        }
    }
    assert_eq!(published[..4], [0, 1, 2, 3], "the first ones go at once");
    assert!(published[4..].windows(2).all(|two| two[1] - two[0] >= 99), "{published:?}");
    assert!((12..=14).contains(&published.len()), "{published:?}");
    // After a silence it is as at the beginning, and not more.
    let later: Vec<u64> = (10_000..10_050)
        .filter(|ms| {
            let now = pace.due(at(*ms)) <= at(*ms);
            if now {
                pace.spend(at(*ms));
            }
            now
        })
        .collect();
    assert_eq!(later, [10_000, 10_001, 10_002, 10_003]);
}
