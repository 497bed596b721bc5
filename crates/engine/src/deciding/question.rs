//! What is asked, read strictly: a message of MCP as a proxy has it, and an access evaluation of AuthZEN. Pure.
//!
//! Must never read a message in another way than the server that it is for: what stands there twice, in other capitals, or
//! beyond what a call has, is refused. And a call must not get by as a message that wants no answer.

use crate::mcp::wire::{RpcError, object};
use custody_domain::tool::ToolRefusal;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What calls nothing and is answered.
const ASKS: [&str; 4] = ["initialize", "ping", "server/discover", "tools/list"];
/// What calls nothing and is not answered.
const NOTES: [&str; 2] = ["notifications/initialized", "notifications/cancelled"];
/// Where the gateway says a call's idempotency key.
const KEY: &str = "custody/idempotency-key";

/// What a message asks for.
#[derive(Debug, PartialEq)]
pub(super) enum Question {
    /// Nothing that is decided over.
    Nothing,
    /// A call.
    Call {
        /// The tool's name at its server.
        name: String,
        /// Its arguments.
        args: Value,
        /// Its idempotency key, empty when there is none.
        key: String,
    },
    /// Something that is not let through.
    Never(ToolRefusal),
}

/// Reads a message and the id that its answer has.
///
/// # Errors
/// What to tell when it is none of the protocol.
pub(super) fn read(body: &[u8]) -> Result<(Value, Question), RpcError> {
    let mut message = object(body)?;
    known(&message, &["jsonrpc", "id", "method", "params"])?;
    if message.get("jsonrpc") != Some(&json!("2.0")) {
        return Err(RpcError::invalid("`jsonrpc` is not \"2.0\""));
    }
    let Some(Value::String(method)) = message.remove("method") else {
        return Err(RpcError::invalid("`method` is not a text"));
    };
    let id = match message.remove("id") {
        None => None,
        Some(id @ (Value::String(_) | Value::Number(_))) => Some(id),
        Some(_) => return Err(RpcError::invalid("`id` is neither a text nor a number")),
    };
    let params = match message.remove("params") {
        None => Map::new(),
        Some(Value::Object(params)) => params,
        Some(_) => return Err(RpcError::invalid("`params` is not an object")),
    };
    let question = match (method.as_str(), &id) {
        ("tools/call", Some(_)) => call(params)?,
        (asks, Some(_)) if ASKS.contains(&asks) => Question::Nothing,
        (notes, None) if NOTES.contains(&notes) => Question::Nothing,
        _ => {
            let method: String = method.chars().take(80).collect();
            let detail = format!("{method:?} is not let through to a tool's server");
            let hint = "greetings, tools/list and tools/call are";
            Question::Never(ToolRefusal::new("METHOD_NOT_ALLOWED", detail, hint))
        }
    };
    Ok((id.unwrap_or_default(), question))
}

fn call(mut params: Map<String, Value>) -> Result<Question, RpcError> {
    known(&params, &["name", "arguments", "_meta"])?;
    let Some(Value::String(name)) = params.remove("name") else {
        return Err(RpcError::invalid("`name` is not a text"));
    };
    let args = params.remove("arguments").unwrap_or_else(|| json!({}));
    let key = params.get("_meta").and_then(|meta| meta[KEY].as_str()).unwrap_or_default().to_owned();
    Ok(Question::Call { name, args, key })
}

/// Whether an object has these members and no other.
fn known(object: &Map<String, Value>, names: &[&str]) -> Result<(), RpcError> {
    match object.keys().find(|name| !names.contains(&name.as_str())) {
        None => Ok(()),
        Some(other) => {
            let other: String = other.chars().take(80).collect();
            Err(RpcError::invalid(format!("{other:?} is no member of such a message")))
        }
    }
}

/// An access evaluation: may this dispatch call this tool with these arguments?
#[derive(Debug, PartialEq)]
pub(super) struct Evaluation {
    /// The dispatch.
    pub(super) dispatch: String,
    /// The tool, by the name that the dispatch has for it.
    pub(super) tool: String,
    /// The arguments.
    pub(super) args: Value,
}

/// Source: OpenID AuthZEN Authorization API 1.0, section 5. `properties` is refused like everything else that nobody here
/// looks at: whoever sends it believes that it is looked at.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    subject: Thing,
    action: Action,
    resource: Thing,
    #[serde(default)]
    context: Context,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Thing {
    r#type: String,
    id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Action {
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Context {
    #[serde(default)]
    arguments: Option<Value>,
}

/// Reads an evaluation.
///
/// # Errors
/// A sentence: it is none, or not of the kind that is answered here.
pub(super) fn evaluation(body: &[u8]) -> Result<Evaluation, String> {
    let read = object(body).map_err(|why| why.message().to_owned())?;
    let Given { subject, action, resource, context } =
        serde_json::from_value(Value::Object(read)).map_err(|e| e.to_string())?;
    if subject.r#type != "dispatch" || action.name != "tools/call" || resource.r#type != "tool" {
        return Err(
            "the question that is answered: may a subject of type dispatch do tools/call on a resource of type tool"
                .into(),
        );
    }
    let args = context.arguments.unwrap_or_else(|| json!({}));
    Ok(Evaluation { dispatch: subject.id, tool: resource.id, args })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"send","arguments":{"to":"bob"},"_meta":{"custody/idempotency-key":"k"}}}"#;

    fn told(body: &[u8]) -> &'static str {
        match read(body) {
            Ok((_, Question::Nothing)) => "nothing",
            Ok((_, Question::Call { .. })) => "call",
            Ok((_, Question::Never(refusal))) => refusal.code,
            Err(_) => "no message",
        }
    }

    /// T26, T27: each beside the honest call.
    #[rstest]
    #[case::honest(CALL.to_owned(), "call")]
    #[case::a_greeting(r#"{"jsonrpc":"2.0","id":"a","method":"initialize","params":{"x":{}}}"#.to_owned(), "nothing")]
    #[case::a_list(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#.to_owned(), "nothing")]
    #[case::greeted(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned(), "nothing")]
    #[case::a_call_that_wants_no_answer(CALL.replace("\"id\":1,", ""), "METHOD_NOT_ALLOWED")]
    #[case::a_note_that_wants_one(r#"{"jsonrpc":"2.0","id":1,"method":"notifications/initialized"}"#.to_owned(), "METHOD_NOT_ALLOWED")]
    #[case::another_method(CALL.replace("tools/call", "resources/read"), "METHOD_NOT_ALLOWED")]
    #[case::in_other_capitals(CALL.replace("tools/call", "Tools/Call"), "METHOD_NOT_ALLOWED")]
    #[case::an_answer(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.to_owned(), "no message")]
    #[case::a_batch(format!("[{CALL}]"), "no message")]
    #[case::twice(CALL.replace("\"id\":1", "\"id\":1,\"id\":2"), "no message")]
    #[case::twice_by_an_escape(CALL.replace("\"name\":\"send\"", r#""name":"send","n\u0061me":"drop""#), "no message")]
    #[case::twice_in_the_arguments(CALL.replace("\"to\":\"bob\"", "\"to\":\"bob\",\"to\":\"eve\""), "no message")]
    #[case::in_two_spellings(CALL.replace("\"name\":\"send\"", "\"name\":\"send\",\"Name\":\"drop\""), "no message")]
    #[case::params_in_two_spellings(CALL.replace("\"params\"", "\"Params\":{},\"params\""), "no message")]
    #[case::a_second_document(format!("{CALL}{CALL}"), "no message")]
    #[case::a_mark_before_it(format!("\u{feff}{CALL}"), "no message")]
    #[case::another_version(CALL.replace("2.0", "1.0"), "no message")]
    #[case::no_name(CALL.replace("\"send\"", "7"), "no message")]
    #[case::a_null_id(CALL.replace("\"id\":1", "\"id\":null"), "no message")]
    #[case::params_in_a_list(CALL.replace(r#"{"name":"send","arguments":{"to":"bob"},"_meta":{"custody/idempotency-key":"k"}}"#, "[]"), "no message")]
    fn a_message_is_read_in_one_way_or_not_at_all(#[case] body: String, #[case] expected: &str) {
        assert_eq!(told(body.as_bytes()), expected);
        let wide: Vec<u8> = body.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(told(&wide), "no message");
    }

    #[test]
    fn a_call_is_what_was_sent() {
        let (id, question) = read(CALL.as_bytes()).unwrap();
        let call = Question::Call { name: "send".into(), args: json!({ "to": "bob" }), key: "k".into() };
        assert_eq!((id, question), (json!(1), call));
    }

    #[rstest]
    #[case::honest(json!({}), Ok(()))]
    #[case::no_arguments(json!({ "context": {} }), Ok(()))]
    #[case::another_kind_of_subject(json!({ "subject": { "type": "user", "id": "u_jane" } }), Err("the question"))]
    #[case::another_action(json!({ "action": { "name": "can_read" } }), Err("the question"))]
    #[case::another_resource(json!({ "resource": { "type": "file", "id": "a" } }), Err("the question"))]
    #[case::properties(json!({ "action": { "name": "tools/call", "properties": { "mode": "dry" } } }), Err("unknown field"))]
    #[case::an_unknown_context(json!({ "context": { "time": "now" } }), Err("unknown field"))]
    #[case::more(json!({ "evaluations": [] }), Err("unknown field"))]
    #[case::no_resource(json!({ "resource": null }), Err("invalid type"))]
    fn an_evaluation_is_answered_only_as_a_whole(#[case] change: Value, #[case] expected: Result<(), &str>) {
        let mut asked = json!({
            "subject": { "type": "dispatch", "id": "d-1" },
            "action": { "name": "tools/call" },
            "resource": { "type": "tool", "id": "mail__send" },
            "context": { "arguments": { "to": "bob" } },
        });
        for (name, value) in change.as_object().unwrap() {
            asked[name] = value.clone();
        }
        let found = evaluation(asked.to_string().as_bytes());
        match expected {
            Ok(()) => assert_eq!(found.unwrap().tool, "mail__send"),
            Err(why) => assert!(found.as_ref().unwrap_err().starts_with(why), "{found:?}"),
        }
    }
}
