//! One run: prompt in, model and tools in turn, result out; every complete message is in the session file before the
//! next step. Must never end with success without a result line.

use crate::{
    args::{Args, Mode},
    attach::attach,
    context::{CONTEXT_BYTES_MAX, fit},
    events::{Event, log, say},
    mcp::Door,
    message::{Message, ToolCall},
    model::{Failure, Model},
    session::{Session, SessionError, new_id},
    tools,
    workspace::Workspace,
};
use serde_json::{Value, json};
use std::io;

/// Short, because the smallest model that must work has 135 million parameters.
const SYSTEM: &str = "You are a helpful assistant. Answer the request briefly and exactly.";
const SYSTEM_TOOLS: &str = " Use the tools to look at files when you need them, then answer.";

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new("output_closed", error.to_string())
    }
}

/// Runs to the result line.
///
/// Errors: [`Failure`], which the caller says as an error line.
pub fn run(args: Args) -> Result<(), Failure> {
    let bad_workspace = |refused: crate::workspace::Refused| Failure::new("bad_workspace", refused.0);
    let workspace = args.workspace.as_deref().map(Workspace::open).transpose().map_err(bad_workspace)?;
    let may_write = match args.mode {
        Mode::ReadOnly => false,
        Mode::Write => true,
        Mode::Auto => workspace.as_ref().is_some_and(|workspace| !workspace.is_mounted_read_only()),
    };
    let mut session = if args.resume {
        Session::resume(&args.session)?
    } else {
        Session::create(&args.session, new_id().map_err(|error| Failure::new("session_io", error.to_string()))?)?
    };
    say(&Event::Session { id: &session.id })?;
    session.append(Message::User { content: attach(&args.prompt, workspace.as_ref()) })?;
    let mut door = args.mcp.and_then(|address| {
        // Without its tools there is still a model to ask.
        Door::open(address).inspect_err(|error| log(&format!("the gateway's tools are not there: {error}"))).ok()
    });
    let mut tools = door.as_ref().map(|door| door.definitions().to_vec()).unwrap_or_default();
    if workspace.is_some() {
        tools.extend(tools::definitions(may_write));
    }
    let system = format!("{SYSTEM}{}", if tools.is_empty() { "" } else { SYSTEM_TOOLS });
    let mut model = Model { endpoint: args.inference, name: args.model, system, tools };
    let mut used = (0, 0);
    for turn in 0..args.turns_max {
        let (messages, left_out) = fit(&session.messages, CONTEXT_BYTES_MAX);
        if left_out > 0 {
            log(&format!("the {left_out} oldest messages of the session do not fit and are not sent"));
        }
        let answer = model.ask(&messages)?;
        if let Some((input, output)) = answer.usage {
            used = (used.0 + input, used.1 + output);
            say(&Event::Usage { input_tokens: used.0, output_tokens: used.1 })?;
        }
        if answer.finish.as_deref() == Some("length") {
            log("the answer was cut at its maximum of tokens");
        }
        let calls = answer.numbered_calls(turn);
        if calls.is_empty() && answer.text.trim().is_empty() {
            return Err(Failure::new("empty_answer", "the model answered with nothing"));
        }
        session.append(Message::Assistant { content: answer.text.clone(), tool_calls: calls.clone() })?;
        if calls.is_empty() {
            return Ok(say(&Event::Result { text: &answer.text })?);
        }
        for call in &calls {
            let content = use_tool(workspace.as_ref(), may_write, door.as_mut(), call)?;
            session.append(Message::Tool { tool_call_id: call.id.clone(), content })?;
        }
    }
    Err(Failure::new("max_turns", format!("no answer after {} model calls", args.turns_max)))
}

/// Runs one call between its two lines; gives back what the model is told.
fn use_tool(
    workspace: Option<&Workspace>,
    may_write: bool,
    door: Option<&mut Door>,
    call: &ToolCall,
) -> Result<String, Failure> {
    let arguments = tools::arguments(call);
    let args = arguments.clone().map_or_else(|| json!({ "unreadable": call.arguments }), Value::Object);
    say(&Event::ToolCall { id: &call.id, name: &call.name, args })?;
    let door = door.filter(|door| door.has(&call.name));
    let outcome = match (door, arguments, workspace) {
        (Some(door), Some(arguments), _) => door.call(&call.name, arguments),
        (Some(_), None, _) => {
            tools::Outcome { ok: false, text: "error: the arguments are not a JSON object".to_owned() }
        }
        (None, _, Some(workspace)) => tools::run(workspace, may_write, call),
        (None, _, None) => tools::Outcome { ok: false, text: "error: there is no workspace".to_owned() },
    };
    say(&Event::ToolResult { id: &call.id, ok: outcome.ok, text: &outcome.text })?;
    Ok(outcome.text)
}
