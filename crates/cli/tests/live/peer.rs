//! Servers of one tool over MCP, for tests whose tool is somebody else's: what such a server answers, and one that remembers
//! what it was called with. Must never judge what it is asked: what a test wants refused it refuses itself.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A tool that takes texts of these names, as its server says it.
pub(crate) fn tool(name: &str, description: &str, texts: &[&str]) -> Value {
    let properties: Value = texts.iter().map(|text| ((*text).to_owned(), json!({ "type": "string" }))).collect();
    json!({ "name": name, "description": description, "inputSchema": { "type": "object", "properties": properties } })
}

/// The result of a call that says this.
pub(crate) fn says(text: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": text }], "isError": false })
}

/// What a server of this one tool answers to a message; to a call, the result or the status that `called` gives.
pub(crate) fn reply(message: &Value, tool: &Value, called: impl FnOnce() -> Result<Value, StatusCode>) -> Response {
    let result = match message["method"].as_str().unwrap() {
        "initialize" => json!({ "protocolVersion": "2025-06-18", "capabilities": {} }),
        "tools/list" => json!({ "tools": [tool] }),
        "tools/call" => match called() {
            Ok(result) => result,
            Err(status) => return status.into_response(),
        },
        _ => return StatusCode::ACCEPTED.into_response(),
    };
    axum::Json(json!({ "jsonrpc": "2.0", "id": message["id"], "result": result })).into_response()
}

/// A server that does what it is called for, and remembers it.
pub(crate) struct Peer {
    pub(crate) url: String,
    sent: Arc<Mutex<Vec<Value>>>,
    server: JoinHandle<()>,
}

impl Peer {
    pub(crate) async fn start(tool: Value) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let sent: Arc<Mutex<Vec<Value>>> = Arc::default();
        let app = Router::new().fallback(answer).with_state((Arc::new(tool), sent.clone()));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Peer { url, sent, server }
    }

    /// How many calls came.
    pub(crate) fn calls(&self) -> usize {
        self.sent.lock().unwrap().len()
    }

    /// The arguments of every call that came.
    pub(crate) fn sent(&self) -> Vec<Value> {
        self.sent.lock().unwrap().clone()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

type Known = (Arc<Value>, Arc<Mutex<Vec<Value>>>);

async fn answer(State((tool, sent)): State<Known>, body: String) -> Response {
    let message: Value = serde_json::from_str(&body).unwrap();
    reply(&message, &tool, || {
        sent.lock().unwrap().push(message["params"]["arguments"].clone());
        Ok(says("sent"))
    })
}
