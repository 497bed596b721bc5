//! Commands and queries reach one replica, answers reach who asked, and nobody else can listen or answer.

use crate::support::{server, soon};
use custody_nats::{AskError, NatsRequests, RequestClient};
use custody_ports::requests::{REQUEST_BYTES_MAX, Requests};
use custody_streams::accounts::ServiceUser;
use custody_streams::subject::{COMMAND_ALL, CONTENT_ALL, QUERY_ALL};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_answered_once_by_one_of_two_replicas() {
    let server = server().await;
    let mut served = Vec::new();
    for replica in 0..2 {
        let authority = server.connect(ServiceUser::Authority).await;
        let requests = NatsRequests::listen(&authority, &[COMMAND_ALL], "authority").await.unwrap();
        served.push(tokio::spawn(async move {
            let mut count = 0;
            while let Ok(request) = requests.next().await {
                count += 1;
                let body =
                    [request.subject.as_bytes(), b" ", &request.bytes, format!(" {replica}").as_bytes()].concat();
                requests.answer(&request.reply_to, body).await.unwrap();
            }
            count
        }));
    }
    let operator = RequestClient::new(&server.connect(ServiceUser::Operator).await);
    for n in 0..50 {
        let answer = operator.request("command.launcher.register", n.to_string().into_bytes(), WAIT).await.unwrap();
        let text = String::from_utf8(answer).unwrap();
        assert!(text.starts_with(&format!("command.launcher.register {n} ")), "{text}");
    }
    for task in served {
        task.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_ask_or_listen_is_told_so_at_once() {
    let server = server().await;
    let operator = RequestClient::new(&server.connect(ServiceUser::Operator).await);
    let nobody = operator.request("query.dispatches", b"{}".to_vec(), WAIT).await;
    assert_eq!(nobody, Err(AskError::NoResponders("query.dispatches".to_owned())));
    let runtime = server.connect(ServiceUser::Runtime).await;
    let refused = RequestClient::new(&runtime).request("command.launcher.register", b"{}".to_vec(), WAIT).await;
    assert_eq!(refused, Err(AskError::Refused("command.launcher.register".to_owned())));
    let projector = server.connect(ServiceUser::Projector).await;
    for (connection, pattern) in
        [(&runtime, COMMAND_ALL), (&runtime, QUERY_ALL), (&projector, COMMAND_ALL), (&projector, CONTENT_ALL)]
    {
        let requests = NatsRequests::listen(connection, &[pattern], "thief").await.unwrap();
        assert!(soon("the refusal", requests.next()).await.is_err(), "{pattern}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_request_and_answer_pass_and_one_byte_more_does_not() {
    let server = server().await;
    let projector = server.connect(ServiceUser::Projector).await;
    let requests = NatsRequests::listen(&projector, &[QUERY_ALL], "projector").await.unwrap();
    let operator = RequestClient::new(&server.connect(ServiceUser::Operator).await);
    let asked = tokio::spawn({
        let operator = operator.clone();
        async move { operator.request("query.x", vec![1; REQUEST_BYTES_MAX], WAIT).await }
    });
    let request = soon("the request", requests.next()).await.unwrap();
    assert_eq!(request.bytes.len(), REQUEST_BYTES_MAX);
    assert!(requests.answer(&request.reply_to, vec![2; REQUEST_BYTES_MAX + 1]).await.is_err());
    requests.answer(&request.reply_to, vec![2; REQUEST_BYTES_MAX]).await.unwrap();
    assert_eq!(asked.await.unwrap().unwrap().len(), REQUEST_BYTES_MAX);
    let refused = operator.request("query.x", vec![1; REQUEST_BYTES_MAX + 1], WAIT).await;
    assert_eq!(refused, Err(AskError::TooLarge { bytes: REQUEST_BYTES_MAX + 1 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_never_sent_onto_a_subject_of_the_ledger() {
    let server = server().await;
    let runtime = server.connect(ServiceUser::Runtime).await;
    let requests = NatsRequests::listen(&runtime, &[CONTENT_ALL], "runtime").await.unwrap();
    let api = server.connect(ServiceUser::Api).await;
    // What runtime itself may append, and what nobody in this account may.
    for reply in ["ledger.run.forged", "ledger.dispatch.forged", "unit.d.out", "command.dispatch.stop"] {
        api.client().publish_with_reply("content.diff", reply, "{}".into()).await.unwrap();
    }
    let asked = tokio::spawn({
        let client = RequestClient::new(&api);
        async move { client.request("content.tree", b"{}".to_vec(), WAIT).await }
    });
    let first = soon("the honest one", requests.next()).await.unwrap();
    assert_eq!(first.subject, "content.tree", "the others were left out");
    requests.answer(&first.reply_to, b"here".to_vec()).await.unwrap();
    assert_eq!(asked.await.unwrap().unwrap(), b"here");
}
