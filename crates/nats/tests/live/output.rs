//! Output has one writer for each dispatch, and readers that follow.

use crate::support::{server, soon};
use custody_nats::JetOutput;
use custody_ports::output::{Output, OutputError};
use custody_streams::accounts::ServiceUser;
use futures::StreamExt;

#[tokio::test(flavor = "multi_thread")]
async fn chunks_come_back_in_order_and_followers_see_what_comes() {
    let server = server().await;
    let gateway = JetOutput::new(&server.connect(ServiceUser::Gateway).await);
    let operator = JetOutput::new(&server.connect(ServiceUser::Operator).await);
    assert_eq!(gateway.last("d-1").await, Ok(None));
    assert_eq!(gateway.all("d-1").await, Ok(Vec::new()));
    let mut follow = operator.follow("d-1").await.unwrap();
    let mut last = 0;
    for n in 0..20u8 {
        let id = format!("d-1/{n}");
        last = gateway.append("d-1", last, &id, vec![n]).await.unwrap();
        // A retry changes nothing.
        assert_eq!(gateway.append("d-1", 0, &id, vec![n]).await, Ok(last));
        // Another dispatch in between.
        gateway.append("d-2", 0, &format!("d-2/{n}"), vec![n]).await.ok();
        let chunk = soon("the follower", follow.next()).await.unwrap().unwrap();
        assert_eq!((chunk.seq, chunk.bytes), (last, vec![n]));
    }
    let all = operator.all("d-1").await.unwrap();
    assert_eq!(all.iter().map(|c| c.bytes[0]).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    assert_eq!(gateway.last("d-1").await.unwrap().map(|c| (c.seq, c.bytes)), Some((last, vec![19])));
    let other = gateway.append("d-1", last - 1, "other", vec![1]).await;
    assert!(matches!(other, Err(OutputError::Conflict(_))), "{other:?}");
    let bad = gateway.append("d.1", 0, "x", vec![1]).await;
    assert!(matches!(bad, Err(OutputError::Unavailable(_))), "{bad:?}");
}
