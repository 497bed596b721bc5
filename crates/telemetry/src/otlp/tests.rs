//! Against a collector that decodes what it gets.

use super::{Collector, OtlpError};
use crate::fixtures::life;
use crate::spans::spans;
use custody_testkit::collector::Collector as Taker;
use rstest::rstest;

#[rstest]
#[case::plain("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces")]
#[case::slash("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces")]
#[case::path("https://c.example.org/otlp", "https://c.example.org/otlp/v1/traces")]
#[case::whole("http://127.0.0.1:4318/v1/traces", "http://127.0.0.1:4318/v1/traces")]
fn an_endpoint_is_completed(#[case] given: &str, #[case] url: &str) {
    if let Ok(collector) = Collector::new(given, "i-1", "1") {
        assert_eq!(collector.url.as_str(), url);
    } else {
        assert!(given.starts_with("https:"), "only TLS may lack the machine's roots");
    }
}

#[rstest]
#[case::word("collector")]
#[case::scheme("grpc://127.0.0.1:4317")]
#[case::file("file:///etc/passwd")]
#[case::credentials("http://me:secret@127.0.0.1:4318")]
#[case::empty("")]
fn what_is_no_endpoint_is_refused(#[case] given: &str) {
    assert_eq!(Collector::new(given, "i-1", "1").unwrap_err(), OtlpError::Endpoint(given.to_owned()));
}

#[tokio::test]
async fn spans_arrive_as_they_were_made() {
    let taker = Taker::start(0).await.unwrap();
    let made = spans(&life(None));
    Collector::new(taker.url(), "i-1", "1").unwrap().send(&made).await.unwrap();
    let seen = taker.spans();
    assert_eq!(seen.len(), made.len());
    for (seen, made) in seen.iter().zip(&made) {
        assert_eq!((seen.name.as_str(), seen.trace.as_slice()), (made.name.as_str(), made.trace.as_slice()));
        assert_eq!((seen.start_ns, seen.end_ns), (made.start_ms * 1_000_000, made.end_ms * 1_000_000));
        assert_eq!(seen.failed, made.error.is_some());
        assert_eq!(seen.attributes.len(), made.attributes.len());
    }
    assert!(taker.bad().is_empty());
}

#[tokio::test]
async fn a_busy_collector_is_asked_again_and_a_bounded_number_of_times() {
    let made = spans(&life(None));
    let to = |taker: &Taker| {
        let mut collector = Collector::new(taker.url(), "i-1", "1").unwrap();
        collector.pause = std::time::Duration::from_millis(1);
        collector
    };
    let taker = Taker::start(2).await.unwrap();
    to(&taker).send(&made).await.unwrap();
    assert_eq!((taker.requests(), taker.spans().len()), (3, made.len()));
    let taker = Taker::start(100).await.unwrap();
    let refused = to(&taker).send(&made).await.unwrap_err();
    assert_eq!((refused, taker.requests()), (OtlpError::Refused("status 503".into()), 5));
}
