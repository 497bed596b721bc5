//! tool.v1: a capability, the credential it needs, and what its arguments must satisfy. Must never hold a credential's value.

use crate::events::ToolEffect;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

/// One capability. Source: contract tool.v1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// The name that dispatches and grants use; of an upstream's tool `<server>__<its own name>`.
    pub name: String,
    /// The scope that a call needs.
    pub scope: String,
    /// Whether each call waits for a person.
    pub grant: ToolGrant,
    /// Which credential the gateway uses: `secret://…`, never a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cred_ref: Option<String>,
    /// Where it is.
    pub transport: Transport,
    /// Which upstream server, when it is one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp_server: Option<String>,
    /// Tags that policy reads.
    pub barriers: Vec<String>,
    /// What it may do to the world.
    pub effect: ToolEffect,
    /// Whether the same call may be sent again after an unknown outcome.
    pub idempotent: bool,
    /// A JSON Schema for the arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args_schema: Option<Map<String, Value>>,
    /// What the arguments must satisfy, whatever the grant says.
    pub constraints: Vec<Constraint>,
}

/// Whether each call waits for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolGrant {
    /// The agent may call it.
    Auto,
    /// Each call waits for an approval of its exact arguments.
    Gate,
}

/// Where a tool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// At an upstream MCP server.
    Mcp,
    /// In the gateway.
    Builtin,
}

/// A rule for one argument of a call. An argument that is absent fails it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constraint {
    /// What the argument means.
    pub on: ConstraintOn,
    /// Where it stands in the arguments: a JSON pointer.
    pub argument: String,
    /// The values that are allowed; a `*` stands for any run of characters. Of everything but an amount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<String>>,
    /// The largest amount, in the argument's own unit. Of an amount alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Number>,
}

/// What a constrained argument means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConstraintOn {
    /// An address of somebody, or several.
    Recipient,
    /// A path, or several.
    Path,
    /// A number.
    Amount,
    /// A host, or a URL whose host counts, or several.
    Host,
}

impl ConstraintOn {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            ConstraintOn::Recipient => "recipient",
            ConstraintOn::Path => "path",
            ConstraintOn::Amount => "amount",
            ConstraintOn::Host => "host",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tool;
    use serde_json::Value;

    #[test]
    fn every_golden_tool_is_read_and_written_alike() {
        for golden in [
            include_str!("../tool.v1/golden/Tool.full.json"),
            include_str!("../tool.v1/golden/Tool.minimal.json"),
            include_str!("../tool.v1/golden/Tool.path-and-host.json"),
        ] {
            let value: Value = serde_json::from_str(golden).unwrap();
            let tool: Tool = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(serde_json::to_value(tool).unwrap(), value);
        }
    }
}
