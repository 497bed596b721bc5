//! The messages of a conversation, as the session file keeps them. Must never change without a new session version.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "lowercase", deny_unknown_fields)]
pub enum Message {
    /// What was asked.
    User {
        /// The words.
        content: String,
    },
    /// What the model said.
    Assistant {
        /// The words.
        content: String,
        /// The tools it wants used.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ToolCall>,
    },
    /// What a tool answered.
    Tool {
        /// Which call.
        tool_call_id: String,
        /// The words.
        content: String,
    },
}

/// One tool call of the model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// The model's id for it.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Its arguments, as the model wrote them: a JSON object in a string, if the model did well.
    pub arguments: String,
}

impl Message {
    /// The message as OpenAI Chat Completions wants it.
    pub fn to_wire(&self) -> Value {
        match self {
            Self::User { content } => json!({ "role": "user", "content": content }),
            Self::Assistant { content, tool_calls } if tool_calls.is_empty() => {
                json!({ "role": "assistant", "content": content })
            }
            Self::Assistant { content, tool_calls } => {
                let calls: Vec<_> = tool_calls.iter().map(ToolCall::to_wire).collect();
                json!({ "role": "assistant", "content": content, "tool_calls": calls })
            }
            Self::Tool { tool_call_id, content } => {
                json!({ "role": "tool", "tool_call_id": tool_call_id, "content": content })
            }
        }
    }

    /// Bytes it takes in the model's context, near enough.
    pub fn size(&self) -> usize {
        const FRAME: usize = 48;
        FRAME
            + match self {
                Self::User { content } => content.len(),
                Self::Assistant { content, tool_calls } => {
                    let calls =
                        tool_calls.iter().map(|call| FRAME + call.id.len() + call.name.len() + call.arguments.len());
                    content.len() + calls.sum::<usize>()
                }
                Self::Tool { tool_call_id, content } => tool_call_id.len() + content.len(),
            }
    }
}

impl ToolCall {
    fn to_wire(&self) -> Value {
        json!({ "id": self.id, "type": "function", "function": { "name": self.name, "arguments": self.arguments } })
    }
}
