//! The token service's face before an authority that is made up: what is sent away, how often it is asked, and what is told
//! when it does not answer.

use crate::stage::Stage;
use custody_contracts::messages::ErrorDoc;
use custody_http::oauth::{GRANT_TYPE, TOKEN_TYPE};
use custody_http::serve::app;
use custody_ports::asks::{AskFailed, Asks};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// How many exchanges run at once.
const RUNNING_MAX: usize = 32;

/// An authority that answers an exchange when it is let, and can fall silent.
struct Authority {
    exchanges: AtomicUsize,
    questions: AtomicUsize,
    silent: AtomicBool,
    open: Semaphore,
}

impl Asks for Authority {
    fn ask<'a>(&'a self, subject: &'a str, body: Vec<u8>) -> BoxFuture<'a, Result<Vec<u8>, AskFailed>> {
        Box::pin(async move {
            if self.silent.load(Ordering::SeqCst) {
                return Err(AskFailed::NobodyThere(subject.to_owned()));
            }
            let answer = match subject {
                "command.token.exchange" => {
                    self.exchanges.fetch_add(1, Ordering::SeqCst);
                    let _let_through = self.open.acquire().await.unwrap();
                    let asked: Value = serde_json::from_slice(&body).unwrap();
                    match asked["audience"].as_str().unwrap() {
                        "https://evil.test" => {
                            serde_json::to_value(ErrorDoc::new("TOKEN_TARGET", "nobody's", None)).unwrap()
                        }
                        _ => json!({ "ok": { "token": "a.b.c", "expires_in": 120, "scope": "tool:mail__send" } }),
                    }
                }
                "command.token.published" => {
                    self.questions.fetch_add(1, Ordering::SeqCst);
                    json!({ "ok": { "issuer": "https://custody.test/sts", "jwks": { "keys": [] } } })
                }
                other => panic!("{other}"),
            };
            Ok(answer.to_string().into_bytes())
        })
    }
}

struct Face {
    authority: Arc<Authority>,
    at: SocketAddr,
    _stage: Stage,
}

impl Face {
    async fn new() -> Face {
        let authority = Arc::new(Authority {
            exchanges: AtomicUsize::new(0),
            questions: AtomicUsize::new(0),
            silent: AtomicBool::new(false),
            open: Semaphore::new(0),
        });
        let stage = Stage::asking(authority.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, router) = (listener.local_addr().unwrap(), app(stage.api.clone()));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Face { authority, at, _stage: stage }
    }

    async fn post(&self, audience: &str) -> (u16, String) {
        let escaped = |text: &str| text.replace(':', "%3A").replace('/', "%2F");
        let body = format!(
            "grant_type={}&subject_token=a.b.c&subject_token_type={kind}&actor_token=d.e.f&actor_token_type={kind}\
             &audience={}",
            escaped(GRANT_TYPE),
            escaped(audience),
            kind = escaped(TOKEN_TYPE),
        );
        let head = format!(
            "POST /oauth2/token HTTP/1.1\r\nhost: 127.0.0.1:1\r\ncontent-type: application/x-www-form-urlencoded\r\n\
             content-length: {}\r\n",
            body.len()
        );
        send(self.at, &head, &body).await
    }

    async fn get(&self, path: &str, host: &str) -> (u16, String) {
        send(self.at, &format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n"), "").await
    }
}

/// One request; its status and everything that came back.
async fn send(at: SocketAddr, head: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(format!("{head}connection: close\r\n\r\n{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer.to_ascii_lowercase())
}

#[tokio::test]
async fn exchanges_at_once_have_a_maximum_and_one_beyond_it_is_told_to_ask_again() {
    let face = Arc::new(Face::new().await);
    let running: Vec<_> = (0..RUNNING_MAX)
        .map(|_| {
            let face = face.clone();
            tokio::spawn(async move { face.post("https://mail.test/mcp").await })
        })
        .collect();
    while face.authority.exchanges.load(Ordering::SeqCst) < RUNNING_MAX {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (status, told) = face.post("https://mail.test/mcp").await;
    assert!(status == 503 && told.contains("temporarily_unavailable") && told.contains("retry-after: 1"), "{told}");
    assert_eq!(face.authority.exchanges.load(Ordering::SeqCst), RUNNING_MAX, "authority is not asked for it");
    face.authority.open.add_permits(1);
    for one in running {
        let (status, told) = one.await.unwrap();
        assert!(status == 200 && told.contains(r#""access_token":"a.b.c""#) && told.contains("no-store"), "{told}");
    }
    let (status, told) = face.post("https://evil.test").await;
    assert!(status == 400 && told.contains(r#""error":"invalid_target""#), "{told}");
    face.authority.silent.store(true, Ordering::SeqCst);
    let (status, told) = face.post("https://mail.test/mcp").await;
    assert!(status == 503 && told.contains("temporarily_unavailable"), "{told}");
}

#[tokio::test]
async fn the_keys_are_asked_for_once_and_another_host_gets_none() {
    let face = Face::new().await;
    for _ in 0..20 {
        let (status, told) = face.get("/.well-known/jwks.json", "127.0.0.1:1").await;
        assert!(status == 200 && told.contains(r#"{"keys":[]}"#) && told.contains("max-age=60"), "{told}");
    }
    let (status, told) = face.get("/.well-known/oauth-authorization-server/sts", "localhost:1").await;
    assert!(status == 200 && told.contains(r#""issuer":"https://custody.test/sts""#), "{told}");
    assert_eq!(face.authority.questions.load(Ordering::SeqCst), 1);
    assert_eq!(face.get("/.well-known/jwks.json", "evil.test").await.0, 421);
    let silent = Face::new().await;
    silent.authority.silent.store(true, Ordering::SeqCst);
    let (status, told) = silent.get("/.well-known/jwks.json", "127.0.0.1:1").await;
    assert!(status == 503 && told.contains("does not answer"), "{told}");
}
