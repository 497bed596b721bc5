//! JSON-RPC 2.0 as MCP uses it: one message a body, read strictly. Must never accept a message that two parsers could
//! read as two different things: a member that occurs twice is refused, and so is a batch.
//!
//! Source: MCP 2025-06-18, 2025-11-25 and 2026-07-28, "Base Protocol"; JSON-RPC 2.0.

use custody_contracts::once;
use custody_domain::tool::ToolRefusal;
use http::StatusCode;
use serde_json::{Map, Value, json};

/// A call was refused by a rule.
const REFUSED: i64 = -32001;
/// Too many calls.
const TOO_MANY: i64 = -32029;
/// A header does not say what the body says. Source: MCP 2026-07-28, "Streamable HTTP".
const HEADERS: i64 = -32020;
/// The version is not spoken. Source: MCP 2026-07-28, "Versioning".
const VERSION: i64 = -32022;
/// There is no such method.
const NO_METHOD: i64 = -32601;
/// The parameters are wrong.
const PARAMS: i64 = -32602;
/// The message is not one of the protocol.
const INVALID: i64 = -32600;
/// The message is not JSON.
const NOT_JSON: i64 = -32700;

/// What an agent sent.
#[derive(Debug, PartialEq)]
pub(super) enum Incoming {
    /// It wants an answer.
    Request {
        /// Its id, a string or a number.
        id: Value,
        /// The method.
        method: String,
        /// Its parameters.
        params: Value,
    },
    /// A notification, or the answer to a question that was never asked.
    Nothing,
}

/// An error to tell.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RpcError {
    code: i64,
    message: String,
    data: Option<Value>,
}

impl RpcError {
    /// The message is not one of the protocol.
    pub(crate) fn invalid(message: impl Into<String>) -> RpcError {
        RpcError { code: INVALID, message: message.into(), data: None }
    }

    /// No such method; these are offered.
    pub(super) fn unknown_method(method: &str, offered: &str) -> RpcError {
        RpcError { code: NO_METHOD, message: format!("{method:?} is not offered; {offered} are"), data: None }
    }

    /// A header and the body say two things, or a header says two.
    pub(super) fn headers(message: impl Into<String>) -> RpcError {
        RpcError { code: HEADERS, message: message.into(), data: None }
    }

    /// A version that is not spoken.
    pub(super) fn version(requested: &str, spoken: &[&str]) -> RpcError {
        let requested: String = requested.chars().take(80).collect();
        let message = format!("version {requested:?} is not spoken; {} are", spoken.join(", "));
        RpcError { code: VERSION, message, data: Some(json!({ "supported": spoken, "requested": requested })) }
    }

    /// The HTTP status that stands for it where the version has one. A rule's refusal is an answer like any other.
    pub(super) fn status(&self) -> StatusCode {
        match self.code {
            NO_METHOD => StatusCode::NOT_FOUND,
            // A tool that is not there has the number of wrong parameters, and is a refusal.
            PARAMS if self.data.is_none() => StatusCode::BAD_REQUEST,
            INVALID | NOT_JSON | HEADERS | VERSION => StatusCode::BAD_REQUEST,
            _ => StatusCode::OK,
        }
    }

    /// In words.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Its number.
    #[cfg(test)]
    pub(super) fn code(&self) -> i64 {
        self.code
    }

    /// What a program may read of it.
    #[cfg(test)]
    pub(super) fn data(&self) -> Option<&Value> {
        self.data.as_ref()
    }

    /// The parameters are wrong.
    pub(super) fn params(message: impl Into<String>) -> RpcError {
        RpcError { code: PARAMS, message: message.into(), data: None }
    }

    /// The gateway could not do its part.
    pub(super) fn internal(message: impl Into<String>) -> RpcError {
        RpcError { code: -32603, message: message.into(), data: None }
    }

    /// A rule said no.
    pub(super) fn refused(code: &str, detail: &str, hint: &str) -> RpcError {
        // The protocol has a number of its own for a tool that is not there.
        let number = if code == "TOOL_NOT_LISTED" { PARAMS } else { REFUSED };
        let data = json!({ "code": code, "hint": hint });
        RpcError { code: number, message: format!("{code}: {detail}; {hint}"), data: Some(data) }
    }

    /// Whoever stands before a tool's server does not pass it on. Its number says that nobody looked at it (JSON-RPC 2.0,
    /// 5.1), so that a client does not have to wonder whether it was done.
    pub(crate) fn turned_away(refusal: &ToolRefusal) -> RpcError {
        let ToolRefusal { code, detail, hint, policy } = refusal;
        let mut data = json!({ "code": code, "hint": hint });
        if let Some(by) = policy {
            data["rule"] = json!(by.rule);
        }
        RpcError { code: INVALID, message: format!("{code}: {detail}; {hint}"), data: Some(data) }
    }

    /// Beyond the rate.
    pub(super) fn too_many(retry_after_ms: u64) -> RpcError {
        let message = format!("RATE_LIMITED: too many tool calls; wait {retry_after_ms} ms");
        let data = json!({ "code": "RATE_LIMITED", "retry_after_ms": retry_after_ms });
        RpcError { code: TOO_MANY, message, data: Some(data) }
    }
}

/// Reads one message.
///
/// # Errors
/// What to tell when it is not one.
pub(super) fn read(bytes: &[u8]) -> Result<Incoming, RpcError> {
    let mut message = object(bytes)?;
    if message.get("jsonrpc") != Some(&json!("2.0")) {
        return Err(RpcError::invalid("`jsonrpc` is not \"2.0\""));
    }
    let method = match message.remove("method") {
        Some(Value::String(method)) => method,
        Some(_) => return Err(RpcError::invalid("`method` is not a text")),
        None if message.contains_key("result") || message.contains_key("error") => return Ok(Incoming::Nothing),
        None => return Err(RpcError::invalid("there is no `method`")),
    };
    match message.remove("id") {
        None => Ok(Incoming::Nothing),
        Some(id @ (Value::String(_) | Value::Number(_))) => {
            let params = match message.remove("params") {
                None => json!({}),
                Some(params @ Value::Object(_)) => params,
                Some(_) => return Err(RpcError::params("`params` is not an object")),
            };
            Ok(Incoming::Request { id, method, params })
        }
        Some(_) => Err(RpcError::invalid("`id` is neither a text nor a number")),
    }
}

/// Reads an object in which no member occurs twice, however deep.
///
/// # Errors
/// What to tell when it is none.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, RpcError> {
    let value = once::value(bytes).map_err(|why| RpcError {
        code: NOT_JSON,
        message: format!("the message is not JSON: {why}"),
        data: None,
    })?;
    match value {
        Value::Object(message) => Ok(message),
        _ => Err(RpcError::invalid("one message a request: an object, and no batch")),
    }
}

/// The answer to a request.
pub(crate) fn reply(id: &Value, answered: Result<Value, RpcError>) -> Value {
    match answered {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(RpcError { code, message, data }) => {
            let mut error = json!({ "code": code, "message": message });
            if let Some(data) = data {
                error["data"] = data;
            }
            json!({ "jsonrpc": "2.0", "id": id, "error": error })
        }
    }
}
