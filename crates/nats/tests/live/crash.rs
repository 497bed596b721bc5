//! kill -9 of the server: nothing acknowledged is lost, nothing is stored twice, and readers go on where they were.

use crate::support::{Server, append, entity, first, server, soon};
use custody_ledger::{AppendError, Expected, Log, LogError, Seq, Stored};
use custody_nats::server::PrivateServer;
use custody_nats::{JetLog, ServerState};
use custody_streams::accounts::ServiceUser;
use futures::StreamExt;
use futures::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;

fn kill(server: &Server) -> u32 {
    let pid = server.private.server.pid().expect("the server runs");
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
    pid
}

async fn restarted(server: &Server, killed: u32) {
    let mut states = server.private.server.states();
    let again = |state: &ServerState| matches!(state, ServerState::Running { pid, .. } if *pid != killed);
    soon("the restart", states.wait_for(again)).await.unwrap();
}

const WRITERS: usize = 500;
const ROUNDS: usize = 6;

/// 500 writers, each with its next append under way as soon as the one before is answered; the server is killed twice
/// in the middle of it, when the tail shows that it is the middle.
#[tokio::test(flavor = "multi_thread")]
async fn kills_under_load_lose_no_acknowledged_append_and_double_none() {
    let server = server().await;
    let log = server.log().await;
    let url = server.private.server.url().to_owned();
    let id = |writer: usize, round: usize| format!("load-{writer}-{round}");
    let tasks: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let log = log.clone();
            tokio::spawn(async move {
                let mut results = Vec::new();
                for round in 0..ROUNDS {
                    let id = id(writer, round);
                    results.push(log.append(first(&id, id.as_bytes())).await);
                }
                results
            })
        })
        .collect();
    let mut tail = log.tail(Seq(1)).await.unwrap();
    for middle in [700, 1900] {
        while soon("the tail", tail.next()).await.unwrap().unwrap().seq < Seq(middle) {}
        let killed = kill(&server);
        restarted(&server, killed).await;
    }
    assert_eq!(server.private.server.url(), url, "the port stays");
    let results = soon("appending", join_all(tasks)).await;

    let mut answered = BTreeMap::new();
    for (writer, results) in results.into_iter().enumerate() {
        for (round, result) in results.unwrap().into_iter().enumerate() {
            let id = id(writer, round);
            let seq = match result {
                Ok(seq) => seq,
                // Whoever was not answered asks again, as the same command.
                Err(AppendError::Unavailable(_)) => {
                    soon("the retry", log.append(first(&id, id.as_bytes()))).await.unwrap()
                }
                Err(other) => panic!("{id}: {other:?}"),
            };
            answered.insert(entity(&id).log_subject(), seq);
        }
    }
    let stored: Vec<Stored> = log.read(Seq(1)).await.unwrap().map(Result::unwrap).collect().await;
    assert_eq!(stored.len(), WRITERS * ROUNDS, "nothing is lost and nothing is there twice");
    let stored: BTreeMap<String, Seq> = stored.into_iter().map(|s| (s.log_subject, s.seq)).collect();
    assert_eq!(stored, answered);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_survives_kills_without_gap_or_double() {
    let server = server().await;
    let log = server.log().await;
    let mut tail = log.tail(Seq(1)).await.unwrap();
    let mut expected = Expected::NEW;
    let mut next = 1;
    for round in 0..3 {
        for n in 0..50 {
            let sent = append("tail", expected, &format!("{round}/{n}"), format!("{round}/{n}").as_bytes());
            let seq = soon("appending", log.append(sent)).await.unwrap();
            expected = Expected::at(seq);
            // Half of a round is read before the kill, the rest after it.
            if n < 25 {
                let message = soon("the tail", tail.next()).await.unwrap().unwrap();
                assert_eq!(message.seq, Seq(next));
                next += 1;
            }
        }
        let killed = kill(&server);
        restarted(&server, killed).await;
        for _ in 25..50 {
            let message = soon("the tail after a kill", tail.next()).await.unwrap().unwrap();
            assert_eq!(message.seq, Seq(next));
            next += 1;
        }
    }
    assert_eq!(next, 151);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_survives_a_lost_connection() {
    let server = server().await;
    let (log, other) = (server.log().await, server.connect(ServiceUser::Admin).await);
    let reader = JetLog::open(&other).await.unwrap();
    let mut tail = reader.tail(Seq(1)).await.unwrap();
    let mut expected = Expected::NEW;
    for n in 1..=30u64 {
        let seq = log.append(append("lost", expected, &n.to_string(), b"x")).await.unwrap();
        expected = Expected::at(seq);
        if n % 10 == 0 {
            other.client().force_reconnect().await.unwrap();
        }
    }
    for n in 1..=30 {
        assert_eq!(soon("the tail", tail.next()).await.unwrap().unwrap().seq, Seq(n));
    }
}

/// Nobody answers: every append ends by itself, and its callers know that they do not know.
#[tokio::test(flavor = "multi_thread")]
async fn appends_without_a_server_end_as_unknown_in_bounded_time() {
    let server = server().await;
    let log = server.log().await;
    log.append(first("before", b"1")).await.unwrap();
    soon("the stop", server.private.server.stop()).await;
    let appends = join_all((0..4).map(|n| log.append(first(&format!("gone-{n}"), b"1"))));
    let before = entity("before");
    let (results, last, history) =
        soon("giving up", async { tokio::join!(appends, log.last_seq(), log.load(&before)) }).await;
    assert!(results.iter().all(|r| matches!(r, Err(AppendError::Unavailable(_)))), "{results:?}");
    assert!(matches!(last, Err(LogError::Unavailable(_))), "{last:?}");
    assert!(matches!(history, Err(LogError::Unavailable(_))), "{history:?}");
}

/// The log of an earlier life is there after a stop and a new start in the same folder.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_starts_again_with_its_streams_and_its_port() {
    let Server { private, folder } = server().await;
    let admin = private.connect(ServiceUser::Admin).await.unwrap();
    let seq = JetLog::open(&admin).await.unwrap().append(first("kept", b"1")).await.unwrap();
    let url = private.server.url().to_owned();
    soon("the stop", private.server.stop()).await;
    assert_eq!(*private.server.states().borrow(), ServerState::Stopped);
    drop(private);
    let private = soon("the start", PrivateServer::with_streams(folder.path(), &[])).await.unwrap();
    assert_eq!(private.server.url(), url);
    let runtime = private.connect(ServiceUser::Runtime).await.unwrap();
    let history = JetLog::open(&runtime).await.unwrap().load(&entity("kept")).await.unwrap();
    assert_eq!(history.iter().map(|s| s.seq).collect::<Vec<_>>(), [seq]);
}
