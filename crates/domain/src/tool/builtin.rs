//! The tools that are part of the gateway: files of the workspaces that the dispatch has mounted. Must never offer what
//! leaves them.

use custody_contracts::events::ToolEffect;
use custody_contracts::tool::ToolGrant;
use serde_json::{Value, json};

/// A tool that the gateway offers itself. Source: contract tool.v1, transport `builtin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Builtin {
    /// Its name, which agents' models can say: `[a-z_]` only.
    pub(super) name: &'static str,
    /// The scope that a call uses.
    pub(super) scope: &'static str,
    /// Whether each call waits for a person.
    pub(super) grant: ToolGrant,
    /// What it may do to the world.
    pub(super) effect: ToolEffect,
    /// Whether the same call may be made again after an unknown outcome.
    pub(super) idempotent: bool,
    /// For people and models.
    pub(super) description: &'static str,
    /// A JSON Schema for its arguments.
    pub(super) args_schema: &'static str,
}

impl Builtin {
    /// Its schema as a value.
    pub(super) fn schema(&self) -> Value {
        serde_json::from_str(self.args_schema).unwrap_or_else(|_| json!({ "type": "object" }))
    }
}

/// The tool that puts a card before a person.
pub const CARD: &str = "card_propose";

/// Every builtin tool, by name.
pub(super) const BUILTIN: [Builtin; 4] = [
    Builtin {
        name: CARD,
        scope: "card:propose",
        grant: ToolGrant::Gate,
        effect: ToolEffect::Write,
        idempotent: true,
        description: "Puts a proposal before the person: a title and a text. Nothing happens but that the person sees it and says yes or no.",
        args_schema: r#"{"type":"object","additionalProperties":false,"required":["title","body"],"properties":{"title":{"type":"string","minLength":1,"maxLength":200,"description":"One line."},"body":{"type":"string","maxLength":16384,"description":"What is proposed, in Markdown; it is shown as text."}}}"#,
    },
    Builtin {
        name: "workspace_list",
        scope: "workspace:read",
        grant: ToolGrant::Auto,
        effect: ToolEffect::Read,
        idempotent: true,
        description: "Lists one folder of a mounted workspace: names, kinds and sizes. Not recursive.",
        args_schema: r#"{"type":"object","additionalProperties":false,"properties":{"path":{"type":"string","maxLength":1024,"description":"A folder, relative to the workspace; the workspace itself when left out."},"workspace":{"type":"string","maxLength":63,"description":"A workspace's id; the first one when left out."}}}"#,
    },
    Builtin {
        name: "workspace_read",
        scope: "workspace:read",
        grant: ToolGrant::Auto,
        effect: ToolEffect::Read,
        idempotent: true,
        description: "Reads a text file of a mounted workspace, at most 256 KiB at once; offset and limit take a part.",
        args_schema: r#"{"type":"object","additionalProperties":false,"required":["path"],"properties":{"path":{"type":"string","minLength":1,"maxLength":1024,"description":"A file, relative to the workspace."},"workspace":{"type":"string","maxLength":63,"description":"A workspace's id; the first one when left out."},"offset":{"type":"integer","minimum":0,"description":"The first byte; 0 when left out."},"limit":{"type":"integer","minimum":1,"maximum":262144,"description":"The most bytes."}}}"#,
    },
    Builtin {
        name: "workspace_write",
        scope: "workspace:write",
        grant: ToolGrant::Auto,
        effect: ToolEffect::Write,
        idempotent: true,
        description: "Writes a whole text file of a workspace that is mounted for writing, at most 1 MiB; makes the folders above it.",
        args_schema: r#"{"type":"object","additionalProperties":false,"required":["path","text"],"properties":{"path":{"type":"string","minLength":1,"maxLength":1024,"description":"A file, relative to the workspace."},"text":{"type":"string","maxLength":1048576,"description":"The file's whole text."},"workspace":{"type":"string","maxLength":63,"description":"A workspace's id; the first one when left out."}}}"#,
    },
];
