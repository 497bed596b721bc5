//! What a request of MCP 2026-07-28 says about itself: its envelope, and the headers that repeat parts of it. Pure.
//!
//! Source: MCP 2026-07-28, "Basic", "Streamable HTTP" (standard and custom request headers); SEP-2243, SEP-2575.

use crate::mcp::era::{ALONE, CAPABILITIES_KEY, METHOD_HEADER, NAME_HEADER, VERSION_KEY};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

/// The most arguments that are repeated in headers.
const HEADERS_MAX: usize = 32;

/// Puts what every request says about itself into its parameters.
pub(super) fn envelope(params: &mut Value) {
    let meta = &mut params["_meta"];
    meta[VERSION_KEY] = json!(ALONE);
    meta[CAPABILITIES_KEY] = json!({});
    meta["io.modelcontextprotocol/clientInfo"] = json!({ "name": "custody", "version": env!("CARGO_PKG_VERSION") });
}

/// The headers that repeat what the body says.
pub(super) fn repeated(method: &str, params: &Value) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(METHOD_HEADER, written(method));
    if method == "tools/call"
        && let Some(name) = params["name"].as_str()
    {
        headers.insert(NAME_HEADER, written(name));
    }
    headers
}

/// The headers in which a server wants arguments repeated (`x-mcp-header` in the schema of the tool).
pub(super) fn arguments(schema: &Value, args: &Value) -> HeaderMap {
    let mut headers = HeaderMap::new();
    walk(schema, args, &mut headers);
    headers
}

fn walk(schema: &Value, value: &Value, headers: &mut HeaderMap) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let Some(value) = value.get(name) else { continue };
        let header = property["x-mcp-header"].as_str().map(|token| format!("mcp-param-{token}").parse::<HeaderName>());
        if let Some(Ok(header)) = header
            && headers.len() < HEADERS_MAX
            && let Some(text) = rendered(value)
        {
            headers.insert(header, written(&text));
        }
        walk(property, value, headers);
    }
}

/// A value as a header says it. A number with a fraction has no one form, so it is not said.
fn rendered(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) => Some(value.to_string()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}

/// A text as a header's value: itself where every reader reads the same, else `=?base64?…?=`.
fn written(text: &str) -> HeaderValue {
    let plain =
        text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && text.trim() == text && !text.starts_with("=?base64?");
    let value = match plain {
        true => HeaderValue::from_str(text),
        false => HeaderValue::from_str(&format!("=?base64?{}?=", STANDARD.encode(text))),
    };
    // Both forms are visible ASCII.
    value.unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::plain("mail.send", "mail.send")]
    #[case::other_letters("über", "=?base64?w7xiZXI=?=")]
    #[case::edges(" a", "=?base64?IGE=?=")]
    #[case::looks_packed("=?base64?w7xiZXI=?=", "=?base64?PT9iYXNlNjQ/dzd4aVpYST0/PQ==?=")]
    #[case::a_line("a\r\nx-evil: 1", "=?base64?YQ0KeC1ldmlsOiAx?=")]
    fn a_header_says_it_so_that_every_reader_reads_the_same(#[case] text: &str, #[case] header: &str) {
        assert_eq!(written(text), header);
    }

    #[test]
    fn arguments_are_repeated_where_the_schema_asks_for_it() {
        let schema = json!({ "properties": {
            "region": { "type": "string", "x-mcp-header": "Region" },
            "count": { "type": "integer", "x-mcp-header": "Count" },
            "dry": { "type": "boolean", "x-mcp-header": "Dry" },
            "part": { "properties": { "id": { "type": "string", "x-mcp-header": "Part-Id" } } },
            "fraction": { "type": "number", "x-mcp-header": "Fraction" },
            "broken": { "type": "string", "x-mcp-header": "no token" },
            "absent": { "type": "string", "x-mcp-header": "Absent" },
            "plain": { "type": "string" },
        } });
        let args = json!({
            "region": "eu", "count": 3, "dry": true, "part": { "id": "p" }, "fraction": 0.5, "broken": "b", "plain": "x",
        });
        let headers = arguments(&schema, &args);
        let told: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        let wanted = [
            ("mcp-param-region", "eu"),
            ("mcp-param-count", "3"),
            ("mcp-param-dry", "true"),
            ("mcp-param-part-id", "p"),
        ];
        assert_eq!(told.len(), wanted.len(), "{told:?}");
        for pair in wanted {
            assert!(told.contains(&pair), "{pair:?} in {told:?}");
        }
    }

    #[test]
    fn an_envelope_keeps_what_was_there() {
        let mut params = json!({ "name": "send", "_meta": { "custody/idempotency-key": "k" } });
        envelope(&mut params);
        assert_eq!(params["_meta"]["custody/idempotency-key"], "k");
        assert_eq!(params["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        let headers = repeated("tools/call", &params);
        assert_eq!((&headers["mcp-method"], &headers["mcp-name"]), (&written("tools/call"), &written("send")));
    }
}
