//! Launches come at least once, in order, until they are done.

use crate::support::{Server, server_with, soon};
use custody_nats::{Connection, JetLaunches};
use custody_ports::launches::Launches;
use custody_streams::accounts::ServiceUser;

async fn launch(launcher: &Connection, subject: &str, body: &str) {
    let context = async_nats::jetstream::new(launcher.client().clone());
    context.publish(subject.to_owned(), body.to_owned().into()).await.unwrap().await.unwrap();
}

async fn setup() -> (Server, Connection, JetLaunches) {
    let server = server_with(&["web-chat"]).await;
    let launcher = server.private.connect_launcher("web-chat").await.unwrap();
    let launches = JetLaunches::open(&server.connect(ServiceUser::Authority).await).await.unwrap();
    (server, launcher, launches)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_says_who_published_what() {
    let (_server, launcher, launches) = setup().await;
    launch(&launcher, "launch.web-chat.dispatch", "one").await;
    let got = soon("the launch", launches.next()).await.unwrap();
    assert_eq!((got.seq, got.launcher.as_str(), got.verb.as_str()), (1, "web-chat", "dispatch"));
    assert_eq!(got.bytes, b"one");
    assert!(got.stored_at.0 > 1_700_000_000_000, "{:?}", got.stored_at);
    launches.done(got.seq).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_does_not_come_again_and_what_is_not_does() {
    let (server, launcher, launches) = setup().await;
    for n in 0..100 {
        launch(&launcher, "launch.web-chat.dispatch", &n.to_string()).await;
    }
    let mut seqs = Vec::new();
    for _ in 0..100 {
        let got = soon("a launch", launches.next()).await.unwrap();
        if got.seq % 2 == 0 {
            launches.done(got.seq).await.unwrap();
        } else {
            launches.later(got.seq).await.unwrap();
        }
        seqs.push(got.seq);
    }
    assert_eq!(seqs, (1..=100).collect::<Vec<_>>());
    drop(launches);
    // Another replica, or the same after a restart: the rest comes, once each.
    let launches = JetLaunches::open(&server.connect(ServiceUser::Authority).await).await.unwrap();
    let mut again = Vec::new();
    for _ in 0..50 {
        let got = soon("a launch again", launches.next()).await.unwrap();
        launches.done(got.seq).await.unwrap();
        again.push(got.seq);
    }
    again.sort_unstable();
    assert_eq!(again, (1..=100).step_by(2).collect::<Vec<_>>());
    let info = server.connect(ServiceUser::Admin).await;
    let info = info.client().request("$JS.API.CONSUMER.INFO.LAUNCH.authority", "".into()).await.unwrap();
    let info: serde_json::Value = serde_json::from_slice(&info.payload).unwrap();
    assert_eq!(info["num_pending"], 0);
    assert_eq!(info["num_ack_pending"], 0, "the acks are confirmed by the server");
}

#[tokio::test(flavor = "multi_thread")]
async fn launches_go_on_after_the_server_was_killed() {
    let (server, launcher, launches) = setup().await;
    launch(&launcher, "launch.web-chat.dispatch", "before").await;
    let got = soon("the first", launches.next()).await.unwrap();
    launches.done(got.seq).await.unwrap();
    let killed = server.private.server.pid().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(killed).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let mut states = server.private.server.states();
    let again = |state: &custody_nats::ServerState| matches!(state, custody_nats::ServerState::Running { pid, .. } if *pid != killed);
    soon("the restart", states.wait_for(again)).await.unwrap();
    let mut connects = launcher.connects();
    soon("the reconnect", connects.wait_for(|n| *n > 1)).await.unwrap();
    launch(&launcher, "launch.web-chat.dispatch", "after").await;
    let mut got = soon("the second", launches.next()).await.unwrap();
    // The killed server may have forgotten the ack of the first: at least once, never less.
    if got.seq == 1 {
        launches.done(got.seq).await.unwrap();
        got = soon("the second", launches.next()).await.unwrap();
    }
    assert_eq!((got.seq, got.bytes.as_slice()), (2, b"after".as_ref()));
    launches.done(got.seq).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_is_too_large_is_refused_by_the_stream() {
    let (_server, launcher, _launches) = setup().await;
    let context = async_nats::jetstream::new(launcher.client().clone());
    let largest = vec![b'x'; custody_contracts::launch::BYTES_MAX];
    context.publish("launch.web-chat.dispatch", largest.into()).await.unwrap().await.unwrap();
    let larger = vec![b'x'; custody_contracts::launch::BYTES_MAX + 1];
    let refused = context.publish("launch.web-chat.dispatch", larger.into()).await.unwrap().await;
    assert!(refused.is_err(), "{refused:?}");
}
