//! The tools of the gateway's MCP door, when the dispatch has any: listed once, called by name. Must never connect to
//! anything but the one address that it is given, nor fail the run because the door is shut: a tool that cannot be called
//! says so to the model.

use crate::{
    http::{self, Endpoint},
    tools::Outcome,
};
use serde_json::{Map, Value, json};
use std::{io, io::Read, str::FromStr};

/// The version of the protocol that is spoken. Source: MCP 2025-06-18, "Lifecycle" and "Tools".
const VERSION: &str = "2025-06-18";
/// The largest answer of the door.
const ANSWER_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// How much of a result the model is given, in bytes.
pub const RESULT_BYTES_MAX: usize = 16 * 1024;
/// The most tools that are offered to the model.
const TOOLS_MAX: usize = 64;

/// Where the door is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    endpoint: Endpoint,
    path: String,
}

impl FromStr for Address {
    type Err = String;

    /// `unix:/PATH#/mcp` or `http://127.0.0.1:PORT/mcp`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (endpoint, path) = match text.split_once('#') {
            Some((socket, path)) => (socket.to_owned(), path.to_owned()),
            None => {
                let rest = text.strip_prefix("http://").unwrap_or_default();
                let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
                (format!("http://{host}"), format!("/{path}"))
            }
        };
        let wrong = || format!("--mcp is unix:/PATH#/PATH or http://127.0.0.1:PORT/PATH, not {text}");
        if !path.starts_with('/') || path.contains(char::is_whitespace) {
            return Err(wrong());
        }
        Ok(Self { endpoint: endpoint.parse().map_err(|_: String| wrong())?, path })
    }
}

/// The open door.
#[derive(Debug)]
pub struct Door {
    address: Address,
    names: Vec<String>,
    definitions: Vec<Value>,
    asked: u64,
}

impl Door {
    /// Greets and asks for the tools.
    ///
    /// Errors: the door is not there, or does not speak the protocol.
    pub fn open(address: Address) -> io::Result<Self> {
        let mut door = Self { address, names: Vec::new(), definitions: Vec::new(), asked: 0 };
        let client = json!({ "name": "custody-agent", "version": env!("CARGO_PKG_VERSION") });
        door.ask("initialize", json!({ "protocolVersion": VERSION, "capabilities": {}, "clientInfo": client }))
            .map_err(io::Error::other)?;
        door.post(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))?;
        let listed = door.ask("tools/list", json!({})).map_err(io::Error::other)?;
        for tool in listed["tools"].as_array().into_iter().flatten().take(TOOLS_MAX) {
            let Some(name) = tool["name"].as_str() else { continue };
            door.names.push(name.to_owned());
            door.definitions.push(json!({ "type": "function", "function": {
                "name": name, "description": tool["description"], "parameters": tool["inputSchema"],
            } }));
        }
        Ok(door)
    }

    /// The tools in OpenAI's form.
    pub fn definitions(&self) -> &[Value] {
        &self.definitions
    }

    /// Whether a tool is one of the door's.
    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    /// Calls one.
    pub fn call(&mut self, name: &str, arguments: Map<String, Value>) -> Outcome {
        match self.ask("tools/call", json!({ "name": name, "arguments": arguments })) {
            Ok(result) => {
                let parts = result["content"].as_array().into_iter().flatten();
                let texts: Vec<&str> = parts.filter_map(|part| part["text"].as_str()).collect();
                let text = crate::tools::excerpt(&texts.join("\n"), 0, RESULT_BYTES_MAX);
                Outcome { ok: result["isError"] != true, text }
            }
            Err(why) => Outcome { ok: false, text: format!("error: {why}") },
        }
    }

    /// One question; the error is a sentence, the door's own where it has one.
    fn ask(&mut self, method: &str, params: Value) -> Result<Value, String> {
        self.asked += 1;
        let question = json!({ "jsonrpc": "2.0", "id": self.asked, "method": method, "params": params });
        let answer = self.post(&question).map_err(|error| format!("the gateway's tools cannot be reached: {error}"))?;
        if let Some(message) = answer["error"]["message"].as_str() {
            return Err(message.chars().take(1_000).collect());
        }
        match answer.get("result") {
            Some(result) if answer["id"] == self.asked => Ok(result.clone()),
            _ => Err("the gateway answered something else than was asked".to_owned()),
        }
    }

    fn post(&self, message: &Value) -> io::Result<Value> {
        let response = http::post(&self.address.endpoint, &self.address.path, message.to_string().as_bytes())?;
        let mut body = Vec::new();
        response.body.take(ANSWER_BYTES_MAX).read_to_end(&mut body)?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::socket("unix:/run/gw/gw.sock#/mcp", Some("/mcp"))]
    #[case::loopback("http://127.0.0.1:8080/mcp", Some("/mcp"))]
    #[case::another_host("http://example.org:80/mcp", None)]
    #[case::looks_like_loopback("http://127.0.0.1:80@example.org/mcp", None)]
    #[case::no_path("unix:/run/gw/gw.sock#mcp", None)]
    #[case::two_requests("unix:/run/gw/gw.sock#/a HTTP/1.1\r\nX: y", None)]
    #[case::relative("unix:gw.sock#/mcp", None)]
    #[case::nothing("", None)]
    fn addresses(#[case] text: &str, #[case] path: Option<&str>) {
        assert_eq!(text.parse::<Address>().ok().map(|address| address.path).as_deref(), path);
    }
}
