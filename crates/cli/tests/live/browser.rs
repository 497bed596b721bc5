//! What a browser is to the server: requests with a cookie and an origin, and a websocket that keeps a cursor for each
//! subscription and checks that every `prev` is it.

use crate::stack::Stack;
use custody_contracts::catalogue;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// How long one frame or answer may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub(crate) fn is(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

/// One browser profile.
#[derive(Debug, Clone)]
pub(crate) struct Browser {
    pub(crate) base: String,
    pub(crate) cookie: Option<String>,
    pub(crate) client: reqwest::Client,
}

impl Browser {
    /// A stranger's.
    pub(crate) fn new(base: &str) -> Browser {
        // Only one of the tests in this process is the first.
        let _first = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        Browser { base: base.to_owned(), cookie: None, client }
    }

    /// Signed in with a key.
    pub(crate) async fn signed_in(base: &str, key: &str) -> Browser {
        let mut browser = Browser::new(base);
        let answer = browser.post("/api/v1/session", &json!({ "key": key })).await.is(200);
        let cookie = answer.headers["set-cookie"].split(';').next().unwrap().to_owned();
        browser.cookie = Some(cookie);
        browser
    }

    /// Has read what the web chat may do and agreed, if that is still to be done.
    pub(crate) async fn agreed(self) -> Browser {
        let consent = self.get("/api/v1/consent").await.is(200).json();
        if consent["state"] == "needed" {
            let body = json!({ "terms": consent["terms"], "statement_digest": consent["statement_digest"] });
            self.post("/api/v1/grants", &body).await.is(201);
        }
        self
    }

    /// One request, headers as given and no others.
    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: String) -> Answer {
        let method = reqwest::Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let mut request = self.client.request(method, [&self.base, path].concat());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        let response = request.header("content-type", "application/json").body(body).send().await.unwrap();
        let status = response.status().as_u16();
        let headers = response.headers().iter();
        let headers =
            headers.map(|(k, v)| (k.as_str().to_owned(), v.to_str().unwrap_or_default().to_owned())).collect();
        Answer { status, headers, body: response.text().await.unwrap_or_default() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], String::new()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        let origin = self.base.clone();
        self.send("POST", path, &[("origin", &origin)], body.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        let origin = self.base.clone();
        self.send("DELETE", path, &[("origin", &origin)], String::new()).await
    }

    /// A websocket under an origin; the status when it is refused.
    pub(crate) async fn socket_from(&self, origin: &str) -> Result<Socket, u16> {
        let url = [&self.base.replacen("http", "ws", 1), "/api/v1/ws"].concat();
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("origin", origin.parse().unwrap());
        if let Some(cookie) = &self.cookie {
            request.headers_mut().insert("cookie", cookie.parse().unwrap());
        }
        match tokio::time::timeout(PATIENCE, connect_async(request)).await.unwrap() {
            Ok((stream, _)) => Ok(Socket { stream, cursors: BTreeMap::new() }),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// A websocket.
    pub(crate) async fn socket(&self) -> Socket {
        let mut socket = self.socket_from(&self.base).await.unwrap();
        assert_eq!(socket.next().await["t"], "hello");
        socket
    }
}

/// One websocket.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The cursor of each subscription, as the frames left it.
    pub(crate) cursors: BTreeMap<u64, u64>,
}

impl Socket {
    pub(crate) async fn say(&mut self, frame: &Value) {
        self.stream.send(Message::text(frame.to_string())).await.unwrap();
    }

    /// Raw text, of which sending may fail when the server has gone.
    pub(crate) async fn shout(&mut self, text: String) {
        let _gone = self.stream.send(Message::text(text)).await;
    }

    pub(crate) async fn sub(&mut self, id: u64, topic: &str, after: Option<u64>) {
        let mut frame = json!({ "t": "sub", "id": id, "topic": topic });
        if let Some(after) = after {
            frame["after"] = json!(after);
            self.cursors.insert(id, after);
        }
        self.say(&frame).await;
    }

    /// The next frame, checked against ws.v1 and its subscription's cursor. `closed` when the connection ended.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.stream.next()).await.expect("no frame came");
            let text = match message {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return json!({ "t": "closed" }),
                Some(Ok(_)) => continue,
            };
            let frame: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(catalogue::check("ws.v1", "ServerFrame", &frame), Ok(()), "{frame}");
            assert!(text.len() <= custody_contracts::ws::FRAME_BYTES_MAX, "{} bytes", text.len());
            if let (Some(id), Some(seq)) = (frame["id"].as_u64(), frame["seq"].as_u64()) {
                if frame["t"] == "ev" {
                    assert_eq!(frame["prev"].as_u64(), self.cursors.get(&id).copied(), "a gap: {frame}");
                }
                self.cursors.insert(id, seq);
            }
            return frame;
        }
    }

    /// The next frame that is no heartbeat and passes; frames of other kinds are passed over.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let frame = self.next().await;
            if wanted(&frame) {
                return frame;
            }
            assert_ne!(frame["t"], "closed", "the connection ended before what was waited for");
        }
    }

    /// The next frame of a subscription's type.
    pub(crate) async fn frame(&mut self, kind: &str, id: u64) -> Value {
        self.until(|f| f["t"] == kind && f["id"] == id).await
    }

    /// Sequences of events of a subscription until one of a type has come.
    pub(crate) async fn events_until(&mut self, id: u64, event_type: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let frame = self.frame("ev", id).await;
            events.extend(frame["events"].as_array().unwrap().clone());
            if events.iter().any(|e| e["type"] == event_type) {
                return events;
            }
        }
    }

    /// Words of an output subscription until its last frame.
    pub(crate) async fn words(&mut self, id: u64) -> String {
        let mut words = String::new();
        loop {
            let frame = self.until(|f| f["id"] == id && matches!(f["t"].as_str(), Some("snap" | "ev"))).await;
            let chunks: Vec<Value> = match frame["t"].as_str() {
                Some("snap") => vec![frame["state"].clone()],
                _ => frame["events"].as_array().unwrap().iter().map(|e| e["data"].clone()).collect(),
            };
            for said in chunks.iter().flat_map(|c| c["frames"].as_array().unwrap()) {
                words.push_str(said["text"].as_str().filter(|_| said["kind"] == "text").unwrap_or_default());
                if said["kind"] == "exit" {
                    return words;
                }
            }
        }
    }

    pub(crate) async fn close(mut self) {
        let _gone = self.stream.close(None).await;
    }
}

impl Stack {
    /// Where the web is.
    pub(crate) fn web(&self) -> String {
        self.up_file()["http_url"].as_str().unwrap().to_owned()
    }

    /// The key that `up` printed.
    pub(crate) fn admin_key(&self) -> String {
        let out = std::fs::read_to_string(self.home().join("up.out")).unwrap();
        let line = out.lines().find(|l| l.starts_with("admin key")).unwrap_or_else(|| panic!("no key in {out}"));
        line.rsplit(' ').next().unwrap().to_owned()
    }

    /// The administrator's browser.
    pub(crate) async fn admin(&self) -> Browser {
        Browser::signed_in(&self.web(), &self.admin_key()).await.agreed().await
    }

    /// A new user's browser. They have not agreed to anything.
    pub(crate) async fn user(&self, subject: &str) -> Browser {
        let added = self.ok(&["user", "add", subject, "-o", "json"]).await.json();
        let key = added["key"].as_str().unwrap().to_owned();
        // The server looks at its users twice a second.
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let browser = Browser::new(&self.web());
            let answer = browser.post("/api/v1/session", &json!({ "key": key })).await;
            if answer.status == 200 {
                let cookie = answer.headers["set-cookie"].split(';').next().unwrap().to_owned();
                return Browser { cookie: Some(cookie), ..browser };
            }
            assert!(tokio::time::Instant::now() < until, "{answer:?}");
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
    }
}

/// A unit of a person.
pub(crate) fn unit(subject: &str, prompt: &str, session: Option<&str>) -> Value {
    let start = match session {
        None => json!({ "entrypoint": { "inline": prompt } }),
        Some(session) => json!({ "session": { "ref": session, "inline": prompt } }),
    };
    json!({
        "identity": { "subject": subject, "launcher": "user:web-chat" }, "runner": "custody-agent",
        "workspaces": [{ "id": "default", "mode": "rw" }], "trigger": "message", "start": start,
    })
}
