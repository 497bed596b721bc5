//! What the admin listener answers, over a real socket.

use super::serve;
use crate::counts::{Counts, Scope};
use rstest::rstest;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

#[rstest]
#[case::metrics("GET /metrics", 200, "custody_ledger_bytes 4096")]
#[case::health("GET /healthz", 200, "ok")]
#[case::elsewhere("GET /", 404, "/metrics, /healthz")]
#[case::climbing("GET /../etc/passwd", 404, "/metrics, /healthz")]
#[case::posting("POST /metrics", 405, "GET")]
#[tokio::test]
async fn numbers_and_nothing_else(#[case] asked: &str, #[case] status: u16, #[case] part: &str) {
    let counts = Arc::new(Counts::new(Scope::default(), "1").unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cancel = CancellationToken::new();
    let refreshed = counts.clone();
    let refresh = Arc::new(move || {
        let counts = refreshed.clone();
        Box::pin(async move { counts.ledger(7, Some(4_096)) }) as futures::future::BoxFuture<'static, ()>
    });
    let serving = tokio::spawn(serve(counts, refresh, listener, cancel.clone()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{asked} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(part), "{answer}");
    cancel.cancel();
    serving.await.unwrap().unwrap();
}
