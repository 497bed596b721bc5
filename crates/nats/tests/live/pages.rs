//! What screens read: pages of both streams without a consumer, and one tail of all output.

use crate::support::{append, server_with};
use custody_ledger::{Expected, Log, Seq};
use custody_nats::{JetOutput, JetPages};
use custody_ports::output::Output;
use custody_ports::pages::{LogPages, OutputPages, PAGE_MAX};
use custody_streams::accounts::ServiceUser;
use futures::StreamExt;

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_is_read_in_pages_by_a_role_that_may_only_read() {
    let server = server_with(&[]).await;
    let log = server.log().await;
    for n in 0..7 {
        log.append(append(&format!("e-{n}"), Expected::NEW, &format!("m-{n}"), b"x")).await.unwrap();
    }
    let connection = server.connect(ServiceUser::Api).await;
    let pages = JetPages::new(&connection);
    let seqs = async |from: u64, max: usize| {
        let page = LogPages::page(&pages, Seq(from), max).await.unwrap();
        page.iter().map(|s| s.seq.0).collect::<Vec<_>>()
    };
    assert_eq!(seqs(1, 3).await, [1, 2, 3]);
    assert_eq!(seqs(6, PAGE_MAX * 2).await, [6, 7]);
    assert_eq!(seqs(0, 1).await, [1]);
    assert_eq!(seqs(8, 10).await, [0u64; 0]);
    let info = connection.client().request("$JS.API.STREAM.INFO.LEDGER", "".into()).await.unwrap();
    let info: serde_json::Value = serde_json::from_slice(&info.payload).unwrap();
    assert_eq!(info["state"]["consumer_count"], 0, "a page needs no consumer");
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_read_by_dispatch_and_heard_as_one() {
    let server = server_with(&[]).await;
    let output = JetOutput::new(&server.connect(ServiceUser::Gateway).await);
    let pages = JetPages::new(&server.connect(ServiceUser::Api).await);
    assert_eq!(OutputPages::last_seq(&pages).await.unwrap(), 0);
    assert!(OutputPages::page(&pages, "d-a", 0, 10).await.unwrap().is_empty());
    let (mut a, mut b) = (0, 0);
    for n in 0..3 {
        a = output.append("d-a", a, &format!("a-{n}"), format!("a{n}").into_bytes()).await.unwrap();
        b = output.append("d-b", b, &format!("b-{n}"), format!("b{n}").into_bytes()).await.unwrap();
    }
    let page = OutputPages::page(&pages, "d-a", 1, 10).await.unwrap();
    assert_eq!(page.iter().map(|c| c.bytes.clone()).collect::<Vec<_>>(), [b"a1".to_vec(), b"a2".to_vec()]);
    assert_eq!(OutputPages::page(&pages, "d-b", 0, 2).await.unwrap().len(), 2);
    assert_eq!(OutputPages::last_seq(&pages).await.unwrap(), 6);
    let mut tail = pages.tail(2);
    let mut heard = Vec::new();
    while heard.len() < 4 {
        let next = tokio::time::timeout(std::time::Duration::from_secs(20), tail.next()).await.unwrap();
        heard.push(next.unwrap().unwrap().0);
    }
    assert_eq!(heard, ["d-a", "d-b", "d-a", "d-b"]);
}
