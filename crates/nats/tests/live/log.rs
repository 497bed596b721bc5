//! The ledger over JetStream keeps every rule of the port.

use crate::support::{append, entity, first, server, soon};
use custody_ledger::{AppendError, Expected, Log, Seq};
use custody_nats::JetLog;
use custody_nats::server::PrivateServer;
use custody_streams::accounts::{ServiceUser, SyncInterval};
use custody_streams::spec::{StreamOptions, ledger};
use custody_testkit::conformance::{CHECKS, log_conformance};
use futures::StreamExt;
use futures::future::join_all;

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_on_jetstream_conforms() {
    let server = server().await;
    let report = log_conformance(&server.log().await).await;
    assert_eq!(report.failed, []);
    assert_eq!(report.passed.len(), CHECKS.len());
}

/// Two processes, each with its own connection and appender, race for the same entities.
#[tokio::test(flavor = "multi_thread")]
async fn racing_writers_on_two_connections_have_one_winner_for_each_entity() {
    let server = server().await;
    let logs = [server.log().await, server.log().await];
    let appends = (0..100).flat_map(|n| {
        let id = format!("race-{n}");
        logs.iter().enumerate().map(move |(who, log)| {
            log.append(append(&id, Expected::NEW, &who.to_string(), &[u8::try_from(who).unwrap()]))
        })
    });
    let results = soon("racing", join_all(appends)).await;
    for (n, pair) in results.chunks(2).enumerate() {
        let history = logs[0].load(&entity(&format!("race-{n}"))).await.unwrap();
        assert_eq!(history.len(), 1);
        let winner = usize::from(history[0].bytes[0]);
        assert_eq!(pair[winner], Ok(history[0].seq));
        assert!(matches!(pair[1 - winner], Err(AppendError::Conflict { .. })), "{:?}", pair[1 - winner]);
    }
}

/// Under load appends travel in batches; each caller still gets its own sequence.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_appends_at_once_are_stored_once_each_under_their_own_sequence() {
    let server = server().await;
    let log = server.log().await;
    let appends = (0..1000).map(|n| log.append(first(&format!("many-{n}"), n.to_string().as_bytes())));
    let results = soon("appending", join_all(appends)).await;
    let stored: Vec<_> = log.read(Seq(1)).await.unwrap().collect().await;
    assert_eq!(stored.len(), 1000);
    for (n, result) in results.into_iter().enumerate() {
        let seq = result.unwrap();
        let message = stored[usize::try_from(seq.0).unwrap() - 1].as_ref().unwrap();
        assert_eq!((message.seq, message.bytes.as_slice()), (seq, n.to_string().as_bytes()));
    }
    // Coalesced: in batches of one the server would have synced a thousand times; the headers of batches stay.
    let batched = server.connect(ServiceUser::Admin).await;
    let stream = async_nats::jetstream::new(batched.client().clone()).get_stream("LEDGER").await.unwrap();
    let headers = stream.get_raw_message(900).await.unwrap().headers;
    assert!(headers.get("Nats-Batch-Id").is_some(), "{headers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_ledger_refuses_and_forgets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let private = PrivateServer::start(folder.path(), &[], SyncInterval::Always).await.unwrap();
    let options = StreamOptions { ledger_bytes_max: 64 * 1024, ..StreamOptions::one_machine() };
    private.apply(&[ledger(&options)]).await.unwrap();
    let log = JetLog::open(&private.connect(ServiceUser::Admin).await.unwrap()).await.unwrap();
    let mut stored = 0;
    let refused = loop {
        // Incompressible for S2, so that the limit is reached soon.
        let bytes: Vec<u8> =
            (0..8192u32).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(stored) >> 13) as u8).collect();
        match log.append(first(&format!("full-{stored}"), &bytes)).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 1000, "the limit was never reached");
    };
    assert!(matches!(refused, AppendError::Full(_)), "{refused:?}");
    assert!(stored > 0);
    let all: Vec<_> = log.read(Seq(1)).await.unwrap().collect().await;
    assert_eq!(all.len(), usize::try_from(stored).unwrap());
    // Many at once, so in a batch: each of them is told the same.
    let bytes = vec![7u8; 60_000];
    let results = join_all((0..40).map(|n| log.append(first(&format!("over-{n}"), &bytes)))).await;
    let full = results.iter().filter(|r| matches!(r, Err(AppendError::Full(_)))).count();
    let kept = results.iter().filter(|r| r.is_ok()).count();
    assert_eq!(full + kept, 40, "{results:?}");
    assert!(full > 0);
    let all: Vec<_> = log.read(Seq(1)).await.unwrap().collect().await;
    assert_eq!(all.len(), usize::try_from(stored).unwrap() + kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_id_that_belongs_to_another_entity_is_refused() {
    let server = server().await;
    let log = server.log().await;
    log.append(first("mine", b"1")).await.unwrap();
    let mut stolen = first("other", b"2");
    stolen.message_id = "mine/a".to_owned();
    let refused = log.append(stolen).await;
    assert!(matches!(refused, Err(AppendError::Refused(_))), "{refused:?}");
    assert_eq!(log.load(&entity("other")).await, Ok(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_history_is_loaded_over_several_pages() {
    let server = server().await;
    let log = server.log().await;
    let mut expected = Expected::NEW;
    for n in 0..1201u32 {
        let seq = log.append(append("long", expected, &n.to_string(), &n.to_be_bytes())).await.unwrap();
        expected = Expected::at(seq);
    }
    let history = log.load(&entity("long")).await.unwrap();
    let found: Vec<u32> = history.iter().map(|s| u32::from_be_bytes(s.bytes.as_slice().try_into().unwrap())).collect();
    assert_eq!(found, (0..1201).collect::<Vec<_>>());
    // The old command again finds itself far back in the history.
    assert_eq!(log.append(append("long", Expected::NEW, "0", &0u32.to_be_bytes())).await, Ok(history[0].seq));
}
