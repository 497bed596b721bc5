//! A token endpoint over real HTTP for tests: it says what it was told to say, then what is honest, and keeps what it was asked.

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// What the endpoint says to one request.
#[derive(Debug, Clone)]
pub(super) enum Says {
    Answer(u16, String),
    /// The honest answer, once it is let go.
    Held(Arc<Notify>),
    Break,
    Nothing,
}

pub(super) fn says(status: u16, text: &str) -> Vec<Says> {
    vec![Says::Answer(status, text.to_owned())]
}

type Honest = Box<dyn Fn(&str) -> (u16, String) + Send + Sync>;

pub(super) struct Peer {
    says: Mutex<VecDeque<Says>>,
    /// Status and text, for a body.
    honest: Honest,
    /// Path, authorization and body of each request.
    pub(super) asked: Mutex<Vec<(String, String, String)>>,
}

impl Peer {
    /// Serves as long as the test runs.
    pub(super) async fn start(
        says: Vec<Says>,
        honest: impl Fn(&str) -> (u16, String) + Send + Sync + 'static,
    ) -> (Arc<Peer>, SocketAddr) {
        let peer = Arc::new(Peer { says: Mutex::new(says.into()), honest: Box::new(honest), asked: Mutex::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let serving = peer.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let peer = serving.clone();
                let service = hyper::service::service_fn(move |request| answer(peer.clone(), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        (peer, at)
    }

    /// How often it was asked.
    pub(super) fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// Whether it was asked at its own path and nowhere else.
    pub(super) fn followed_nowhere(&self) -> bool {
        self.asked.lock().unwrap().iter().all(|(path, ..)| path == "/token")
    }
}

async fn answer(peer: Arc<Peer>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert_eq!(head.headers["content-type"], "application/x-www-form-urlencoded");
    let shown = head.headers.get("authorization").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    peer.asked.lock().unwrap().push((head.uri.path().to_owned(), shown, body.clone()));
    let says = peer.says.lock().unwrap().pop_front();
    let (status, text) = match says {
        None => (peer.honest)(&body),
        Some(Says::Answer(status, text)) => (status, text),
        Some(Says::Held(until)) => {
            until.notified().await;
            (peer.honest)(&body)
        }
        Some(Says::Break) => return Err(std::io::ErrorKind::ConnectionAborted.into()),
        Some(Says::Nothing) => std::future::pending().await,
    };
    let builder = Response::builder().status(status).header("location", "/elsewhere");
    Ok(builder.body(Full::new(text.into())).unwrap())
}
