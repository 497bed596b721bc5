//! Which protocol a message is written in: one that began with a greeting (2025), or one in which every request says all
//! about itself (2026-07-28). Pure.
//!
//! Must never let header and body name two different things: whoever stands between the agent and this door may have
//! decided by the header alone.
//!
//! Source: MCP 2026-07-28, "Basic", "Versioning" and "Streamable HTTP" (standard request headers); SEP-2243, SEP-2575.

use super::wire::RpcError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use serde_json::{Map, Value, json};

/// The versions that begin with a greeting, the newest first.
pub(crate) const GREETED: [&str; 2] = ["2025-11-25", "2025-06-18"];
/// The version in which every request stands alone.
pub(crate) const ALONE: &str = "2026-07-28";

pub(crate) const VERSION_HEADER: &str = "mcp-protocol-version";
pub(crate) const METHOD_HEADER: &str = "mcp-method";
pub(crate) const NAME_HEADER: &str = "mcp-name";
pub(crate) const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
pub(crate) const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";
const SERVER_KEY: &str = "io.modelcontextprotocol/serverInfo";

/// How a message is to be read and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Era {
    /// A greeting agreed on a version.
    Greeted,
    /// The request stands alone.
    Alone,
}

/// Every version that is spoken, the newest first.
fn spoken() -> Vec<&'static str> {
    std::iter::once(ALONE).chain(GREETED).collect()
}

/// The one value of a header.
///
/// # Errors
/// It occurs twice, or is no text.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, RpcError> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(RpcError::headers(format!("{name} occurs more than once")));
    }
    first.map(|v| v.to_str().map_err(|_| RpcError::headers(format!("{name} is not visible ASCII")))).transpose()
}

/// What the headers of a message say. Of a notification nothing else is asked.
///
/// # Errors
/// A version that is not spoken, or one that occurs twice.
pub(super) fn of_headers(headers: &HeaderMap) -> Result<Era, RpcError> {
    match one(headers, VERSION_HEADER)? {
        Some(ALONE) => Ok(Era::Alone),
        None => Ok(Era::Greeted),
        Some(version) if GREETED.contains(&version) => Ok(Era::Greeted),
        Some(other) => Err(RpcError::version(other, &spoken())),
    }
}

/// What a whole request is written in.
///
/// # Errors
/// Its headers are of no version, the envelope is not whole, header and body differ, or the version of both is not spoken; in
/// this order.
pub(super) fn of_request(headers: &HeaderMap, method: &str, params: &Value) -> Result<Era, RpcError> {
    let told = of_headers(headers)?;
    let envelope = params.get("_meta").and_then(Value::as_object);
    let version = envelope.and_then(|meta| meta.get(VERSION_KEY));
    if told == Era::Greeted && version.is_none() {
        return Ok(Era::Greeted);
    }
    let missing =
        |key: &str| RpcError::params(format!("params._meta has no {key:?}; every request of {ALONE} has one"));
    let Some(version) = version else { return Err(missing(VERSION_KEY)) };
    match envelope.and_then(|meta| meta.get(CAPABILITIES_KEY)) {
        None => return Err(missing(CAPABILITIES_KEY)),
        Some(Value::Object(_)) => {}
        Some(_) => return Err(RpcError::params(format!("params._meta: {CAPABILITIES_KEY:?} is not an object"))),
    }
    let Value::String(version) = version else {
        return Err(RpcError::params(format!("params._meta: {VERSION_KEY:?} is not a text")));
    };
    let same = |header: &str, body: &str, what: &str| match one(headers, header)?.map(decoded) {
        Some(Some(told)) if told == body => Ok(()),
        Some(_) => Err(RpcError::headers(format!("{header} is not the {what} of the message"))),
        None => Err(RpcError::headers(format!("{header} is missing; it repeats the {what} of the message"))),
    };
    same(VERSION_HEADER, version, "protocol version")?;
    same(METHOD_HEADER, method, "method")?;
    if let ("tools/call", Some(name)) = (method, params.get("name").and_then(Value::as_str)) {
        same(NAME_HEADER, name, "tool")?;
    }
    match version == ALONE {
        true => Ok(Era::Alone),
        false => Err(RpcError::version(version, &spoken())),
    }
}

/// The text that a header stands for: itself, or what is in `=?base64?…?=`. Nothing when that is broken.
fn decoded(value: &str) -> Option<String> {
    let Some(packed) = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) else {
        return Some(value.to_owned());
    };
    String::from_utf8(STANDARD.decode(packed).ok()?).ok()
}

/// The answer to `server/discover`.
pub(super) fn discovered(about: &Value, instructions: &str) -> Value {
    fresh(
        json!({ "supportedVersions": spoken(), "capabilities": { "tools": {} }, "instructions": instructions }),
        about,
    )
}

/// A result that says itself for how long it may be kept: not at all, because a grant can be revoked at any moment.
pub(super) fn fresh(mut result: Value, about: &Value) -> Value {
    result["ttlMs"] = json!(0);
    result["cacheScope"] = json!("private");
    complete(result, about)
}

/// A result that is all that there is to say, and says by whom.
pub(super) fn complete(mut result: Value, about: &Value) -> Value {
    result["resultType"] = json!("complete");
    result["_meta"][SERVER_KEY] = about.clone();
    result
}

/// A schema of arguments without what asks for arguments in headers (`x-mcp-header`): this door reads arguments from the
/// body alone, so it must not ask for a second copy that could differ.
pub(super) fn without_headers(schema: &Value) -> Value {
    match schema {
        Value::Object(members) => {
            let kept = members.iter().filter(|(name, _)| *name != "x-mcp-header");
            Value::Object(kept.map(|(name, value)| (name.clone(), inside(name, value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_headers).collect()),
        other => other.clone(),
    }
}

/// A member of a schema: what holds values is left as it is, and what holds schemas by name keeps its names.
fn inside(name: &str, value: &Value) -> Value {
    match (name, value) {
        ("const" | "enum" | "default" | "examples" | "required", _) => value.clone(),
        ("properties" | "patternProperties" | "dependentSchemas" | "$defs" | "definitions", Value::Object(named)) => {
            let named: Map<String, Value> = named.iter().map(|(n, v)| (n.clone(), without_headers(v))).collect();
            Value::Object(named)
        }
        _ => without_headers(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use rstest::rstest;

    fn headers(list: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    /// The parameters of a whole request.
    fn whole(name: Option<&str>) -> Value {
        let mut params = json!({ "_meta": { VERSION_KEY: ALONE, CAPABILITIES_KEY: {} } });
        if let Some(name) = name {
            params["name"] = json!(name);
        }
        params
    }

    const V: (&str, &str) = (VERSION_HEADER, ALONE);
    const LIST: (&str, &str) = (METHOD_HEADER, "tools/list");
    const CALL: (&str, &str) = (METHOD_HEADER, "tools/call");

    #[rstest]
    #[case::list(&[V, LIST], "tools/list", whole(None))]
    #[case::call(&[V, CALL, (NAME_HEADER, "mail.send")], "tools/call", whole(Some("mail.send")))]
    #[case::packed(&[V, CALL, (NAME_HEADER, "=?base64?w7xiZXI=?=")], "tools/call", whole(Some("über")))]
    fn a_request_that_says_all_about_itself_is_taken(
        #[case] told: &[(&str, &str)],
        #[case] method: &str,
        #[case] params: Value,
    ) {
        let told = headers(told);
        assert_eq!(of_request(&told, method, &params), Ok(Era::Alone));
    }

    #[rstest]
    #[case::nothing(&[])]
    #[case::newest(&[(VERSION_HEADER, "2025-11-25")])]
    #[case::progress(&[(VERSION_HEADER, "2025-06-18")])]
    fn what_began_with_a_greeting_needs_no_envelope(#[case] told: &[(&str, &str)]) {
        let told = headers(told);
        let params = json!({ "_meta": { "progressToken": 1 } });
        assert_eq!(of_request(&told, "tools/list", &params), Ok(Era::Greeted));
    }

    fn changed(change: impl FnOnce(&mut Value)) -> Value {
        let mut params = whole(None);
        change(&mut params["_meta"]);
        params
    }

    #[rstest]
    #[case::no_envelope(&[V, LIST], json!({}), -32602, "no")]
    #[case::no_capabilities(&[V, LIST], changed(|m| { m.as_object_mut().unwrap().remove(CAPABILITIES_KEY); }), -32602, "no")]
    #[case::capabilities(&[V, LIST], changed(|m| m[CAPABILITIES_KEY] = json!(1)), -32602, "not an object")]
    #[case::version_kind(&[V, LIST], changed(|m| m[VERSION_KEY] = json!(20)), -32602, "not a text")]
    #[case::no_version_header(&[LIST], whole(None), -32020, "mcp-protocol-version is missing")]
    #[case::other_version(&[(VERSION_HEADER, "2025-11-25"), LIST], whole(None), -32020, "mcp-protocol-version is not")]
    #[case::no_method(&[V], whole(None), -32020, "mcp-method is missing")]
    #[case::other_method(&[V, CALL], whole(None), -32020, "mcp-method is not")]
    #[case::two_methods(&[V, LIST, CALL], whole(None), -32020, "mcp-method occurs more than once")]
    #[case::both_of_an_older(&[(VERSION_HEADER, "2025-11-25"), LIST], changed(|m| m[VERSION_KEY] = json!("2025-11-25")), -32022, "2025-11-25")]
    fn header_and_body_never_differ(
        #[case] told: &[(&str, &str)],
        #[case] params: Value,
        #[case] code: i64,
        #[case] says: &str,
    ) {
        let told = headers(told);
        let error = of_request(&told, "tools/list", &params).unwrap_err();
        assert_eq!(error.code(), code, "{error:?}");
        assert!(format!("{error:?}").contains(says), "{error:?}");
    }

    #[rstest]
    #[case::other(&[V, CALL, (NAME_HEADER, "files.read")])]
    #[case::none(&[V, CALL])]
    #[case::broken(&[V, CALL, (NAME_HEADER, "=?base64?!?=")])]
    #[case::twice(&[V, CALL, (NAME_HEADER, "mail.send"), (NAME_HEADER, "mail.send")])]
    fn a_call_names_its_tool_in_both(#[case] told: &[(&str, &str)]) {
        let told = headers(told);
        let error = of_request(&told, "tools/call", &whole(Some("mail.send"))).unwrap_err();
        assert_eq!(error.code(), -32020, "{error:?}");
    }

    #[rstest]
    #[case::unknown(&[(VERSION_HEADER, "2099-01-01")], -32022)]
    #[case::too_old(&[(VERSION_HEADER, "2024-11-05")], -32022)]
    #[case::twice(&[V, V], -32020)]
    fn a_version_that_is_not_spoken_is_told_those_that_are(#[case] told: &[(&str, &str)], #[case] code: i64) {
        let error = of_headers(&headers(told)).unwrap_err();
        assert_eq!(error.code(), code);
        if code == -32022 {
            assert_eq!(error.data().unwrap()["supported"], json!(["2026-07-28", "2025-11-25", "2025-06-18"]));
            assert_eq!(error.data().unwrap()["requested"], told[0].1);
        }
    }

    #[test]
    fn no_argument_is_asked_for_in_a_header() {
        let schema = json!({
            "type": "object",
            "properties": {
                "to": { "type": "string", "x-mcp-header": "To", "enum": ["x-mcp-header"] },
                "x-mcp-header": { "type": "string" },
            },
            "allOf": [{ "properties": { "cc": { "x-mcp-header": "Cc" } } }],
            "default": { "x-mcp-header": 1 },
        });
        let plain = json!({
            "type": "object",
            "properties": { "to": { "type": "string", "enum": ["x-mcp-header"] }, "x-mcp-header": { "type": "string" } },
            "allOf": [{ "properties": { "cc": {} } }],
            "default": { "x-mcp-header": 1 },
        });
        assert_eq!(without_headers(&schema), plain);
    }
}
