//! A server with one tool, and a client that keeps its connection, for measuring calls. Both speak as little HTTP and MCP as
//! the other side needs. Must never be reached from another machine.

use super::failed;
use crate::error::CliResult;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixStream};

/// The tool, as an agent calls it.
pub(super) const TOOL: &str = "bench__echo";
/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// The server.
pub(super) struct Server {
    /// `host:port`.
    pub(super) address: String,
    called: Arc<Mutex<Option<Instant>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Server {
    pub(super) async fn start() -> CliResult<Server> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let called: Arc<Mutex<Option<Instant>>> = Arc::default();
        let app = Router::new().route("/mcp", post(answer)).with_state(called.clone());
        let serving = tokio::spawn(async move {
            // Ends with the measurement.
            let _ended = axum::serve(listener, app).await;
        });
        Ok(Server { address, called, serving })
    }

    /// When the tool was called last.
    pub(super) fn last_call(&self) -> Option<Instant> {
        *self.called.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The part of an installation's configuration that names it.
    pub(super) fn configuration(&self) -> String {
        format!("[tools.servers.bench]\nurl = \"http://{}/mcp\"\n", self.address)
    }

    /// The tool's document. Source: contract tool.v1.
    pub(super) fn document() -> Value {
        json!({
            "name": TOOL, "scope": "bench:echo", "grant": "auto", "transport": "mcp", "mcp_server": "bench",
            "barriers": [], "effect": "read", "idempotent": true, "constraints": [],
        })
    }
}

async fn answer(State(called): State<Arc<Mutex<Option<Instant>>>>, body: String) -> Response {
    let message: Value = serde_json::from_str(&body).unwrap_or_default();
    let reply = |result: Value| {
        axum::Json(json!({ "jsonrpc": "2.0", "id": message.get("id"), "result": result })).into_response()
    };
    match message.get("method").and_then(Value::as_str) {
        Some("initialize") => reply(json!({ "protocolVersion": "2025-06-18", "capabilities": {} })),
        Some("tools/list") => reply(json!({ "tools": [{
            "name": "echo", "description": "Says that it was called.",
            "inputSchema": { "type": "object", "properties": { "n": { "type": "integer" } } },
        }] })),
        Some("tools/call") => {
            *called.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            reply(json!({ "content": [{ "type": "text", "text": "called" }] }))
        }
        _ => StatusCode::ACCEPTED.into_response(),
    }
}

/// One connection.
pub(super) struct Client<S> {
    stream: BufReader<S>,
}

impl Client<TcpStream> {
    /// To the server itself.
    pub(super) async fn direct(address: &str) -> CliResult<Client<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Client { stream: BufReader::new(stream) })
    }
}

impl Client<UnixStream> {
    /// To the gateway, as a box has it.
    pub(super) async fn boxed(socket: &Path) -> CliResult<Client<UnixStream>> {
        Ok(Client { stream: BufReader::new(UnixStream::connect(socket).await?) })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Calls the tool under the name that this side has for it, with an argument of its own, and gives the whole answer.
    pub(super) async fn call(&mut self, name: &str, n: u64) -> CliResult<Value> {
        let body = json!({
            "jsonrpc": "2.0", "id": n, "method": "tools/call", "params": { "name": name, "arguments": { "n": n } },
        })
        .to_string();
        let request = format!(
            "POST /mcp HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n\
             accept: application/json, text/event-stream\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).await? == 0 {
                return Err(failed("the connection was closed before an answer"));
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(failed)?;
            }
        }
        if length > ANSWER_BYTES_MAX {
            return Err(failed("the answer is larger than a measurement's"));
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// The same, where anything but the tool's own answer is a failure.
    pub(super) async fn called(&mut self, name: &str, n: u64) -> CliResult {
        let answer = self.call(name, n).await?;
        match answer.pointer("/result/content/0/text").and_then(Value::as_str) {
            Some("called") => Ok(()),
            _ => Err(failed(answer)),
        }
    }
}

/// Why a call was refused: its code, or the token service's where that one refused; `None` for an answer that is none.
pub(super) fn refusal(answer: &Value) -> Option<&str> {
    let error = answer.get("error")?;
    let by_token_service = error.get("message").and_then(Value::as_str).and_then(|m| m.strip_prefix("TOKEN_REFUSED: "));
    let code = by_token_service.and_then(|why| why.split(':').next());
    Some(code.or_else(|| error.pointer("/data/code").and_then(Value::as_str)).unwrap_or("INTERNAL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_is_answered_and_another_tool_is_told_apart() {
        let server = Server::start().await.unwrap();
        let mut client = Client::direct(&server.address).await.unwrap();
        assert!(server.last_call().is_none());
        client.called("echo", 1).await.unwrap();
        client.called("echo", 2).await.unwrap();
        assert!(server.last_call().is_some());
        custody_contracts::catalogue::check("tool.v1", "Tool", &Server::document()).unwrap();
        let refused = json!({ "error": { "data": { "code": "GRANT_REVOKED" } } });
        assert_eq!((refusal(&refused), refusal(&json!({ "result": {} }))), (Some("GRANT_REVOKED"), None));
        // The token service may know of a revocation before the gateway's own fold.
        let by_token_service = json!({ "error": { "message": "TOKEN_REFUSED: GRANT_REVOKED: the grant was revoked", "data": { "code": "TOKEN_REFUSED" } } });
        assert_eq!(refusal(&by_token_service), Some("GRANT_REVOKED"));
    }
}
