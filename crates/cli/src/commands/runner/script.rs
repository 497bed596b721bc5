//! What the scripted model of a self-test says to a request, whatever the agent makes of its prompt around it. Pure: the
//! same request and plan give the same answer. Must never depend on which agent asks.

use serde_json::{Map, Value, json};

/// The wire format of a request, as the agent speaks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    /// OpenAI Chat Completions.
    Chat,
    /// Anthropic Messages.
    Messages,
    /// OpenAI Responses.
    Responses,
}

/// One dispatch of a self-test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Writes a file with a tool, then says the word.
    First,
    /// In another box: reads the file, then ends. The model must see the word.
    Second,
    /// The model refuses.
    Refused,
    /// As the first, in a box that lets every attempt at a network happen and be counted.
    Watched,
}

impl Step {
    const ALL: [Step; 4] = [Step::First, Step::Second, Step::Refused, Step::Watched];

    /// What people read.
    pub(super) fn title(self) -> &'static str {
        match self {
            Step::First => "the first turn",
            Step::Second => "the second turn",
            Step::Refused => "the turn that the model refuses",
            Step::Watched => "the watched turn",
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Step::First => "first",
            Step::Second => "second",
            Step::Refused => "refused",
            Step::Watched => "watched",
        }
    }
}

/// The words of one self-test. All are random, so that nothing can be there by chance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// Tells this self-test's prompts from others'.
    pub(super) key: String,
    /// What only the model says, in the first turn.
    pub(super) word: String,
    /// What is written into the file.
    pub(super) text: String,
}

impl Plan {
    /// The prompt of a step.
    pub(super) fn prompt(&self, step: Step) -> String {
        let marker = self.marker(step);
        match step {
            Step::First | Step::Watched => {
                format!("{marker} Write a file into the workspace with a tool, then tell me the word.")
            }
            Step::Second => format!("{marker} Read that file again with a tool, then say that you have finished."),
            Step::Refused => format!("{marker} The model will refuse this one."),
        }
    }

    /// The file of the first turn, relative to the workspace.
    pub(super) fn file(&self) -> String {
        format!("self-test-{}.txt", self.key)
    }

    /// What the model says at the end of the first turn.
    pub(super) fn answer(&self) -> String {
        format!("The file is written. The word that you asked me for is {} and nothing else.", self.word)
    }

    fn marker(&self, step: Step) -> String {
        format!("[self-test {} {}]", self.key, step.as_str())
    }
}

/// A tool that the agent offers its model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offered {
    /// Its name.
    pub(super) name: String,
    /// The group it is in, where a format has groups.
    pub(super) namespace: Option<String>,
    fields: Vec<String>,
}

/// What the model does.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Act {
    /// Says something at once: what is not the answer to a prompt of ours, such as a title for the session.
    Aside(String),
    /// Says the answer of a turn, held in its middle until its beginning has arrived.
    Answer(String),
    /// Calls a tool.
    Call {
        /// The tool.
        tool: Offered,
        /// Its arguments.
        args: Value,
    },
    /// Refuses the request.
    Refuse(String),
}

/// A request as far as it is understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    /// Which prompt of ours is the last one.
    pub(super) step: Step,
    /// The tools.
    pub(super) tools: Vec<Offered>,
    /// What tools answered since that prompt.
    pub(super) results: Vec<String>,
    /// Whether the word of the first turn stands before that prompt.
    pub(super) knows_word: bool,
}

/// What the model says when it refuses.
pub(super) const REFUSAL: &str = "the scripted model refuses this request, as the self-test wants it";

/// Reads a request; `None` when no prompt of this plan is in it.
pub(super) fn read(wire: Wire, body: &Value, plan: &Plan) -> Option<Asked> {
    let items = items(wire, body);
    let step_of = |text: &str| Step::ALL.into_iter().find(|step| text.contains(&plan.marker(*step)));
    let last = items.iter().rposition(|item| matches!(item, Item::User(text) if step_of(text).is_some()))?;
    let step = items.get(last).and_then(|item| if let Item::User(text) = item { step_of(text) } else { None })?;
    let (before, after) = items.split_at(last);
    let knows_word = before.iter().any(|item| matches!(item, Item::Other(text) if text.contains(&plan.word)));
    let results = after.iter().filter_map(|i| if let Item::Result(text) = i { Some(text.clone()) } else { None });
    Some(Asked { step, tools: offered(wire, body), results: results.collect(), knows_word })
}

/// What the model does.
pub(super) fn act(asked: &Asked, plan: &Plan) -> Act {
    if asked.tools.is_empty() && asked.step != Step::Refused {
        return Act::Aside("Self-test".to_owned());
    }
    let reading = match asked.step {
        Step::Refused => return Act::Refuse(REFUSAL.to_owned()),
        Step::First | Step::Watched => false,
        Step::Second => true,
    };
    if asked.results.is_empty()
        && let Some(tool) = choose(&asked.tools, if reading { "read" } else { "write" })
    {
        let args = arguments(&tool, plan, !reading);
        return Act::Call { tool, args };
    }
    match reading {
        false => Act::Answer(plan.answer()),
        true => Act::Answer("I have finished.".to_owned()),
    }
}

/// Whether a tool is one of the MCP door's, under whatever name the agent gives it.
pub(super) fn is_of_the_door(name: &str) -> bool {
    name.ends_with("workspace_write") || name.ends_with("workspace_read")
}

/// The tool of the MCP door when it is offered, else one of the agent's own.
fn choose(tools: &[Offered], verb: &str) -> Option<Offered> {
    let of_the_door = tools.iter().find(|tool| tool.name.ends_with(&format!("workspace_{verb}")));
    let own = || tools.iter().find(|tool| tool.name.contains(verb) && field(tool, &PATHS).is_some());
    of_the_door.or_else(own).cloned()
}

const PATHS: [&str; 4] = ["path", "file_path", "filePath", "file"];
const TEXTS: [&str; 3] = ["text", "content", "contents"];

fn field(tool: &Offered, names: &[&str]) -> Option<String> {
    names.iter().find(|name| tool.fields.iter().any(|field| field == *name)).map(|name| (*name).to_owned())
}

fn arguments(tool: &Offered, plan: &Plan, writing: bool) -> Value {
    let mut args = Map::new();
    args.insert(field(tool, &PATHS).unwrap_or_else(|| "path".to_owned()), json!(plan.file()));
    if writing {
        args.insert(field(tool, &TEXTS).unwrap_or_else(|| "text".to_owned()), json!(plan.text));
    }
    Value::Object(args)
}

/// One piece of a conversation.
enum Item {
    User(String),
    /// A tool's result.
    Result(String),
    /// What the model said, and everything else.
    Other(String),
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn items(wire: Wire, body: &Value) -> Vec<Item> {
    let list = if wire == Wire::Responses { &body["input"] } else { &body["messages"] };
    if let Some(text) = list.as_str() {
        return vec![Item::User(text.to_owned())];
    }
    array(list).iter().flat_map(|one| of(wire, one)).collect()
}

fn of(wire: Wire, one: &Value) -> Vec<Item> {
    let role = one["role"].as_str().unwrap_or_default();
    match (wire, role, one["type"].as_str().unwrap_or_default()) {
        (Wire::Responses, _, "function_call_output" | "custom_tool_call_output") => {
            vec![Item::Result(text_of(&one["output"]))]
        }
        (Wire::Chat, "tool", _) => vec![Item::Result(text_of(&one["content"]))],
        (Wire::Messages, "user", _) if one["content"].is_array() => {
            let block = |block: &Value| match block["type"].as_str() {
                Some("tool_result") => Item::Result(text_of(&block["content"])),
                _ => Item::User(text_of(block)),
            };
            array(&one["content"]).iter().map(block).collect()
        }
        (_, "user", _) => vec![Item::User(text_of(&one["content"]))],
        _ => vec![Item::Other(text_of(&one["content"]))],
    }
}

/// The words of a text, a list of parts, or a part.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(text_of).collect::<Vec<_>>().join(" "),
        Value::Object(part) => part.get("text").or_else(|| part.get("content")).map(text_of).unwrap_or_default(),
        _ => String::new(),
    }
}

fn offered(wire: Wire, body: &Value) -> Vec<Offered> {
    let one = |tool: &Value, schema: &Value, namespace: Option<&str>| {
        let fields = schema["properties"].as_object().map(|p| p.keys().cloned().collect()).unwrap_or_default();
        let name = tool["name"].as_str()?.to_owned();
        Some(Offered { name, namespace: namespace.map(str::to_owned), fields })
    };
    let read = |tool: &Value| -> Vec<Offered> {
        let found = match wire {
            Wire::Chat => one(&tool["function"], &tool["function"]["parameters"], None),
            Wire::Messages => one(tool, &tool["input_schema"], None),
            Wire::Responses if tool["type"] == "namespace" => {
                let inner = array(&tool["tools"]).iter();
                return inner.filter_map(|t| one(t, &t["parameters"], tool["name"].as_str())).collect();
            }
            Wire::Responses if tool["type"] == "function" => one(tool, &tool["parameters"], None),
            Wire::Responses => None,
        };
        found.into_iter().collect()
    };
    array(&body["tools"]).iter().flat_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn plan() -> Plan {
        Plan { key: "k1".into(), word: "cedar-77".into(), text: "birch-88".into() }
    }

    fn properties() -> Value {
        json!({ "type": "object", "properties": { "path": {}, "text": {} } })
    }

    /// A request of a format: earlier items, the prompt, later items; with the tools of the door.
    fn request(wire: Wire, step: Step, resumed: bool, answered: bool) -> Value {
        let prompt = plan().prompt(step);
        let said = plan().answer();
        match wire {
            Wire::Chat => {
                let mut all = vec![json!({ "role": "system", "content": "be good" })];
                if resumed {
                    all.push(json!({ "role": "user", "content": plan().prompt(Step::First) }));
                    all.push(json!({ "role": "tool", "content": "written" }));
                    all.push(json!({ "role": "assistant", "content": said }));
                }
                all.push(json!({ "role": "user", "content": [{ "type": "text", "text": prompt }] }));
                if answered {
                    all.push(json!({ "role": "assistant", "content": null, "tool_calls": [{}] }));
                    all.push(json!({ "role": "tool", "tool_call_id": "c", "content": "birch-88" }));
                }
                let tool = json!({ "type": "function", "function": { "name": "custody_workspace_write", "parameters": properties() } });
                let read = json!({ "type": "function", "function": { "name": "custody_workspace_read", "parameters": properties() } });
                json!({ "messages": all, "tools": [tool, read] })
            }
            Wire::Messages => {
                let mut all = Vec::new();
                if resumed {
                    all.push(json!({ "role": "user", "content": plan().prompt(Step::First) }));
                    all.push(json!({ "role": "assistant", "content": [{ "type": "text", "text": said }] }));
                }
                all.push(json!({ "role": "user", "content": [{ "type": "text", "text": "<reminder>" }, { "type": "text", "text": prompt }] }));
                if answered {
                    all.push(json!({ "role": "assistant", "content": [{ "type": "tool_use" }] }));
                    all.push(json!({ "role": "user", "content": [{ "type": "tool_result", "content": [{ "type": "text", "text": "birch-88" }] }] }));
                }
                let tool = |verb: &str| json!({ "name": format!("mcp__custody__workspace_{verb}"), "input_schema": properties() });
                json!({ "messages": all, "tools": [tool("write"), tool("read")] })
            }
            Wire::Responses => {
                let message = |role: &str, kind: &str, text: &str| json!({ "type": "message", "role": role, "content": [{ "type": kind, "text": text }] });
                let mut all = vec![message("user", "input_text", "<environment_context>")];
                if resumed {
                    all.push(message("user", "input_text", &plan().prompt(Step::First)));
                    all.push(message("assistant", "output_text", &said));
                }
                all.push(message("user", "input_text", &prompt));
                if answered {
                    all.push(json!({ "type": "function_call", "name": "workspace_write", "arguments": "{}" }));
                    all.push(json!({ "type": "function_call_output", "output": [{ "type": "input_text", "text": "birch-88" }] }));
                }
                let tool = |verb: &str| json!({ "type": "function", "name": format!("workspace_{verb}"), "parameters": properties() });
                let space =
                    json!({ "type": "namespace", "name": "mcp__custody", "tools": [tool("write"), tool("read")] });
                json!({ "input": all, "tools": [{ "type": "custom", "name": "apply_patch" }, space] })
            }
        }
    }

    #[rstest]
    fn each_format_is_read_the_same(
        #[values(Wire::Chat, Wire::Messages, Wire::Responses)] wire: Wire,
        #[values(false, true)] resumed: bool,
        #[values(false, true)] answered: bool,
    ) {
        let step = if resumed { Step::Second } else { Step::First };
        let asked = read(wire, &request(wire, step, resumed, answered), &plan()).unwrap();
        assert_eq!((asked.step, asked.knows_word), (step, resumed));
        assert_eq!(asked.results, if answered { vec!["birch-88".to_owned()] } else { Vec::new() });
        let act = act(&asked, &plan());
        match (resumed, answered) {
            (_, true) => assert!(matches!(act, Act::Answer(_))),
            (false, false) => {
                let Act::Call { tool, args } = act else { panic!("{act:?}") };
                assert!(tool.name.ends_with("workspace_write") && is_of_the_door(&tool.name));
                assert_eq!(tool.namespace.is_some(), wire == Wire::Responses);
                assert_eq!(args, json!({ "path": "self-test-k1.txt", "text": "birch-88" }));
            }
            (true, false) => {
                let Act::Call { tool, args } = act else { panic!("{act:?}") };
                assert!(tool.name.ends_with("workspace_read"));
                assert_eq!(args, json!({ "path": "self-test-k1.txt" }));
            }
        }
    }

    #[test]
    fn a_word_that_is_only_in_a_prompt_is_no_memory() {
        let mut body = request(Wire::Chat, Step::Second, false, false);
        body["messages"].as_array_mut().unwrap().insert(0, json!({ "role": "user", "content": "cedar-77" }));
        assert!(!read(Wire::Chat, &body, &plan()).unwrap().knows_word);
    }

    #[rstest]
    #[case::of_another_test(json!({ "messages": [{ "role": "user", "content": "[self-test k2 first] go" }] }))]
    #[case::no_prompt(json!({ "messages": [] }))]
    #[case::nothing(json!(null))]
    fn what_is_not_of_this_plan_is_not_read(#[case] body: Value) {
        assert_eq!(read(Wire::Chat, &body, &plan()), None);
    }

    #[test]
    fn a_request_without_tools_is_no_turn_and_a_refusal_needs_none() {
        let mut body = request(Wire::Chat, Step::First, false, false);
        body["tools"] = json!([]);
        assert!(matches!(act(&read(Wire::Chat, &body, &plan()).unwrap(), &plan()), Act::Aside(_)));
        let mut body = request(Wire::Chat, Step::Refused, false, false);
        body["tools"] = json!([]);
        assert!(matches!(act(&read(Wire::Chat, &body, &plan()).unwrap(), &plan()), Act::Refuse(_)));
    }

    #[rstest]
    #[case::own("write_file", json!({ "path": {}, "content": {} }), Some(json!({ "path": "self-test-k1.txt", "content": "birch-88" })))]
    #[case::camel("write", json!({ "filePath": {}, "content": {} }), Some(json!({ "filePath": "self-test-k1.txt", "content": "birch-88" })))]
    #[case::without_a_path("write_stdin", json!({ "chars": {} }), None)]
    #[case::another("bash", json!({ "path": {} }), None)]
    fn without_the_door_a_tool_of_the_agents_own_is_called(
        #[case] name: &str,
        #[case] fields: Value,
        #[case] expected: Option<Value>,
    ) {
        let mut body = request(Wire::Chat, Step::First, false, false);
        body["tools"] =
            json!([{ "type": "function", "function": { "name": name, "parameters": { "properties": fields } } }]);
        let act = act(&read(Wire::Chat, &body, &plan()).unwrap(), &plan());
        match expected {
            Some(expected) => assert!(matches!(act, Act::Call { args, .. } if args == expected)),
            None => assert!(matches!(act, Act::Answer(_))),
        }
    }
}
