//! Who may do what, asked of the server itself: a refusal must come from it, and quickly.

use crate::support::{append, entity, first, server_with, soon};
use custody_contracts::events::Kind;
use custody_ledger::{Append, AppendError, Entity, Expected, Log, Seq};
use custody_nats::{AskError, Connection, JetLog, RequestClient};
use custody_streams::accounts::ServiceUser;
use custody_streams::spec::LAUNCH;
use futures::StreamExt;
use serde_json::{Value, json};
use std::time::Duration;

/// Whether the server refuses a publish: a violation names the subject; anything else answers or stays silent.
async fn refused(connection: &Connection, subject: &str, body: &str) -> bool {
    let asked = RequestClient::new(connection).request(subject, body.as_bytes().to_vec(), Duration::from_secs(2)).await;
    match asked {
        Err(AskError::Refused(of)) => of == subject,
        Ok(_) | Err(AskError::NoResponders(_) | AskError::TimedOut(_)) => false,
        Err(other) => panic!("{subject}: {other}"),
    }
}

/// Whether the server refuses a subscription. Violations come in order, so one that is sure to come ends the wait.
async fn deaf(connection: &Connection, subject: &str) -> bool {
    let mut refusals = connection.refusals();
    let _subscription = connection.client().subscribe(subject.to_owned()).await.unwrap();
    let sentinel = format!("nobody.may.hear.{}", connection.client().new_inbox());
    let _sentinel = connection.client().subscribe(sentinel.clone()).await.unwrap();
    loop {
        let refused = soon("the violation", refusals.recv()).await.unwrap();
        if refused.subject == subject || refused.subject == sentinel {
            return refused.subject == subject;
        }
    }
}

async fn messages(connection: &Connection, stream: &str) -> u64 {
    let answer = connection.client().request(format!("$JS.API.STREAM.INFO.{stream}"), "".into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    answer["state"]["messages"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launcher_may_launch_as_itself_and_nothing_else() {
    let server = server_with(&["a", "b"]).await;
    let a = server.private.connect_launcher("a").await.unwrap();
    let admin = server.connect(ServiceUser::Admin).await;

    let context = async_nats::jetstream::new(a.client().clone());
    let ack = context.publish("launch.a.dispatch", "one".into()).await.unwrap().await.unwrap();
    assert_eq!((ack.stream.as_str(), ack.sequence), (LAUNCH, 1), "the ack crosses the account border");

    for subject in [
        "launch.b.dispatch",
        "ledger.dispatch.x",
        "unit.d.in",
        "reply.a.d",
        "command.launcher.register",
        "query.dispatches",
        "$JS.API.INFO",
        "$JS.API.STREAM.INFO.LEDGER",
        "$JS.API.STREAM.NAMES",
        "$JS.API.CONSUMER.MSG.NEXT.LAUNCH.authority",
        "_INBOX_b.x",
        "$O.blobs.C.x",
        "$SYS.REQ.SERVER.PING",
    ] {
        assert!(refused(&a, subject, "{}").await, "publish {subject}");
    }
    for subject in
        ["unit.>", "unit.*.out", "launch.>", "ledger.>", "reply.>", "reply.b.>", "_INBOX.>", "_INBOX_b.>", ">"]
    {
        assert!(deaf(&a, subject).await, "subscribe {subject}");
    }
    assert!(!deaf(&a, "reply.a.>").await);
    assert_eq!(messages(&admin, LAUNCH).await, 1);
    assert_eq!(messages(&admin, "LEDGER").await, 0);
}

/// The server publishes the ack of a launch to whatever reply subject it names, without asking whether the launcher may
/// publish there. The account border keeps that inside EDGE: no second launch appears, under no name.
#[tokio::test(flavor = "multi_thread")]
async fn a_reply_subject_does_not_launch_as_somebody_else() {
    let server = server_with(&["a", "b"]).await;
    let a = server.private.connect_launcher("a").await.unwrap();
    let admin = server.connect(ServiceUser::Admin).await;
    for reply in ["launch.b.dispatch", "ledger.dispatch.x", "unit.d.out"] {
        a.client().publish_with_reply("launch.a.dispatch", reply, "one".into()).await.unwrap();
    }
    a.client().flush().await.unwrap();
    let context = async_nats::jetstream::new(a.client().clone());
    context.publish("launch.a.dispatch", "after".into()).await.unwrap().await.unwrap();
    // Three and the last one; an ack stored as a launch would be a fifth.
    assert_eq!(messages(&admin, LAUNCH).await, 4);
    let info = admin.client().request("$JS.API.STREAM.INFO.LAUNCH", r#"{"subjects_filter":">"}"#.into()).await.unwrap();
    let info: Value = serde_json::from_slice(&info.payload).unwrap();
    assert_eq!(info["state"]["subjects"], json!({ "launch.a.dispatch": 4 }));
    assert_eq!(messages(&admin, "LEDGER").await, 0);
    assert_eq!(messages(&admin, "OUTPUT").await, 0);
}

/// The same door for our own roles: what a role may ask, it could have answered into the ledger. It cannot, because no
/// role lives in the account of the streams.
#[rstest::rstest]
#[case(ServiceUser::Authority)]
#[case(ServiceUser::Runtime)]
#[case(ServiceUser::Gateway)]
#[case(ServiceUser::Projector)]
#[case(ServiceUser::Api)]
#[case(ServiceUser::Operator)]
#[tokio::test(flavor = "multi_thread")]
async fn no_role_has_the_server_write_for_it(#[case] user: ServiceUser) {
    let server = server_with(&[]).await;
    server.log().await.append(first("genuine", b"signed")).await.unwrap();
    let admin = server.connect(ServiceUser::Admin).await;
    let connection = server.connect(user).await;
    let forged =
        ["ledger.dispatch.forged", "ledger.run.forged", "ledger.effect.forged", "launch.a.dispatch", "unit.d.out"];
    for reply in forged {
        // A plain answer, and one that is the stored bytes of a genuine event.
        for (call, body) in [("$JS.API.INFO", ""), ("$JS.API.DIRECT.GET.LEDGER", r#"{"seq":1}"#)] {
            connection.client().publish_with_reply(call, reply, body.into()).await.unwrap();
        }
    }
    // Or have a consumer deliver there.
    for (n, deliver) in forged.into_iter().chain(["command.launcher.register"]).enumerate() {
        let config = json!({ "name": format!("c{n}"), "deliver_subject": deliver, "ack_policy": "none" });
        let body = json!({ "stream_name": "LEDGER", "config": config });
        let call = format!("$JS.API.CONSUMER.CREATE.LEDGER.c{n}");
        connection.client().request(call, body.to_string().into()).await.unwrap();
    }
    // Everything before this answer was carried out.
    connection.client().request("$JS.API.STREAM.INFO.LEDGER", "".into()).await.unwrap();
    assert_eq!(messages(&admin, "LEDGER").await, 1);
    assert_eq!(messages(&admin, LAUNCH).await, 0);
    assert_eq!(messages(&admin, "OUTPUT").await, 0);
}

/// Headers are capabilities that no permission checks; on LAUNCH all of them are off.
#[rstest::rstest]
#[case::ttl(&[("Nats-TTL", "1s")])]
#[case::schedule(&[("Nats-Schedule", "@at 2020-01-01T00:00:00Z"), ("Nats-Schedule-Target", "launch.b.dispatch")])]
#[case::rollup(&[("Nats-Rollup", "all")])]
#[case::batch(&[("Nats-Batch-Id", "x"), ("Nats-Batch-Sequence", "1"), ("Nats-Batch-Commit", "1")])]
#[case::counter(&[("Nats-Incr", "1")])]
#[tokio::test(flavor = "multi_thread")]
async fn a_launcher_cannot_use_headers(#[case] headers: &[(&str, &str)]) {
    let server = server_with(&["a", "b"]).await;
    let a = server.private.connect_launcher("a").await.unwrap();
    let context = async_nats::jetstream::new(a.client().clone());
    context.publish("launch.a.dispatch", "evidence".into()).await.unwrap().await.unwrap();
    let map: async_nats::HeaderMap = headers.iter().fold(async_nats::HeaderMap::new(), |mut map, (name, value)| {
        map.insert(*name, *value);
        map
    });
    let sent = context.publish_with_headers("launch.a.dispatch", map, "".into()).await.unwrap().await;
    assert!(sent.is_err(), "{sent:?}");
    let admin = server.connect(ServiceUser::Admin).await;
    assert_eq!(messages(&admin, LAUNCH).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_reaches_its_launcher_alone() {
    use custody_ports::launches::Launches;
    let server = server_with(&["a", "b"]).await;
    let (a, b) =
        (server.private.connect_launcher("a").await.unwrap(), server.private.connect_launcher("b").await.unwrap());
    let mut to_a = a.client().subscribe("reply.a.>").await.unwrap();
    let mut to_b = b.client().subscribe("reply.b.>").await.unwrap();
    a.client().flush().await.unwrap();
    b.client().flush().await.unwrap();
    let authority = server.connect(ServiceUser::Authority).await;
    let launches = custody_nats::JetLaunches::open(&authority).await.unwrap();
    launches.reply("a", "d-1", b"for a".to_vec()).await.unwrap();
    launches.reply("b", "d-2", b"for b".to_vec()).await.unwrap();
    let got = soon("a's reply", to_a.next()).await.unwrap();
    assert_eq!((got.subject.as_str(), got.payload.as_ref()), ("reply.a.d-1", b"for a".as_ref()));
    let got = soon("b's reply", to_b.next()).await.unwrap();
    assert_eq!((got.subject.as_str(), got.payload.as_ref()), ("reply.b.d-2", b"for b".as_ref()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dispatch_says_is_heard_by_its_launcher_alone() {
    use custody_ports::output::Output;
    let server = server_with(&["a", "b"]).await;
    let (a, b) =
        (server.private.connect_launcher("a").await.unwrap(), server.private.connect_launcher("b").await.unwrap());
    let mut to_a = a.client().subscribe("reply.a.*.out").await.unwrap();
    let mut to_b = b.client().subscribe("reply.b.>").await.unwrap();
    a.client().flush().await.unwrap();
    b.client().flush().await.unwrap();
    assert!(deaf(&b, "reply.a.*.out").await && deaf(&b, "reply.*.*.out").await);
    let gateway = server.connect(ServiceUser::Gateway).await;
    let output = custody_nats::JetOutput::new(&gateway);
    output.tell("a", "d-1", b"for a".to_vec()).await.unwrap();
    output.tell("b", "d-2", b"for b".to_vec()).await.unwrap();
    let got = soon("what a hears", to_a.next()).await.unwrap();
    assert_eq!((got.subject.as_str(), got.payload.as_ref()), ("reply.a.d-1.out", b"for a".as_ref()));
    let got = soon("what b hears", to_b.next()).await.unwrap();
    assert_eq!((got.subject.as_str(), got.payload.as_ref()), ("reply.b.d-2.out", b"for b".as_ref()));
    // Nobody else says anything to a launcher in a dispatch's place, and the gateway decides nothing.
    assert!(refused(&gateway, "reply.a.d-1", "{}").await);
    for user in [ServiceUser::Authority, ServiceUser::Runtime, ServiceUser::Api, ServiceUser::Operator] {
        assert!(refused(&server.connect(user).await, "reply.a.d-1.out", "{}").await, "{user:?}");
    }
}

fn of_kind(kind: Kind) -> Append {
    let entity = Entity::new(kind, "x").unwrap();
    Append { message_id: entity.log_subject(), entity, expected: Expected::NEW, bytes: b"x".to_vec() }
}

/// One kind, one writing role; the server itself tells them apart.
#[rstest::rstest]
#[case(ServiceUser::Authority, &[Kind::Dispatch, Kind::Launcher, Kind::Key, Kind::Checkpoint, Kind::Workspace, Kind::Grant, Kind::Approval, Kind::Token])]
#[case(ServiceUser::Runtime, &[Kind::Run])]
#[case(ServiceUser::Gateway, &[Kind::Effect])]
#[case(ServiceUser::Projector, &[])]
#[case(ServiceUser::Api, &[])]
#[case(ServiceUser::Operator, &[])]
#[tokio::test(flavor = "multi_thread")]
async fn a_role_appends_its_own_kinds_only(#[case] user: ServiceUser, #[case] allowed: &[Kind]) {
    let server = server_with(&[]).await;
    let log = JetLog::open(&server.connect(user).await).await.unwrap();
    for kind in Kind::ALL {
        let result = log.append(of_kind(kind)).await;
        if allowed.contains(&kind) {
            assert!(result.is_ok(), "{kind:?}: {result:?}");
        } else {
            assert!(matches!(result, Err(AppendError::Refused(_))), "{kind:?}: {result:?}");
        }
    }
    let last = log.last_seq().await.unwrap();
    assert_eq!(last, Seq(u64::try_from(allowed.len()).unwrap()));
    // What it may not write it may still read.
    let read: Vec<_> = log.read(Seq(1)).await.unwrap().collect().await;
    assert_eq!(read.len(), allowed.len());
    assert_eq!(log.load(&entity("x")).await.unwrap().len(), usize::from(allowed.contains(&Kind::Dispatch)));
}

/// In a batch a refused message leaves a gap, so the whole batch is dropped; sent singly, the others land.
#[tokio::test(flavor = "multi_thread")]
async fn one_refused_append_among_many_fails_alone() {
    let server = server_with(&[]).await;
    let log = JetLog::open(&server.connect(ServiceUser::Runtime).await).await.unwrap();
    let runs = (0..50).map(|n| {
        let entity = Entity::new(Kind::Run, &format!("r-{n}")).unwrap();
        Append { message_id: entity.log_subject(), entity, expected: Expected::NEW, bytes: b"x".to_vec() }
    });
    let appends = runs.chain([of_kind(Kind::Dispatch)]).chain((0..1).map(|_| append("y", Expected::NEW, "a", b"x")));
    let results = soon("appending", futures::future::join_all(appends.map(|a| log.append(a)))).await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 50, "{results:?}");
    assert!(results[50..].iter().all(|r| matches!(r, Err(AppendError::Refused(_)))), "{:?}", &results[50..]);
}

#[rstest::rstest]
#[case(ServiceUser::Authority)]
#[case(ServiceUser::Runtime)]
#[case(ServiceUser::Gateway)]
#[case(ServiceUser::Projector)]
#[case(ServiceUser::Api)]
#[case(ServiceUser::Operator)]
#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_administrator_changes_streams(#[case] user: ServiceUser) {
    let server = server_with(&[]).await;
    server.log().await.append(first("kept", b"1")).await.unwrap();
    let connection = server.connect(user).await;
    for stream in ["LEDGER", "LAUNCH", "OUTPUT", "OBJ_blobs"] {
        for call in ["CREATE", "UPDATE", "DELETE", "PURGE", "MSG.DELETE", "SNAPSHOT", "RESTORE"] {
            let subject = format!("$JS.API.STREAM.{call}.{stream}");
            assert!(refused(&connection, &subject, "{}").await, "{subject}");
        }
    }
    if user != ServiceUser::Authority {
        for subject in [
            "$JS.API.CONSUMER.MSG.NEXT.LAUNCH.authority",
            "$JS.API.CONSUMER.CREATE.LAUNCH.authority",
            "$JS.API.CONSUMER.DELETE.LAUNCH.authority",
            "reply.a.d",
        ] {
            assert!(refused(&connection, subject, "{}").await, "{subject}");
        }
        assert!(deaf(&connection, "command.>").await);
    }
    assert!(deaf(&connection, "ledger.>").await);
    assert!(deaf(&connection, "_INBOX_admin.>").await);
    assert!(refused(&connection, "launch.a.dispatch", "{}").await);
    assert_eq!(messages(&connection, "LEDGER").await, 1);
}
