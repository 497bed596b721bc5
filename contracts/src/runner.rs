//! agent-runner.v2: how to run an agent, so that the platform is generic over agents.

use crate::ids::RunnerName;
use crate::isolation::Isolation;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// One runner. Templates may hold `{{prompt}} {{session}} {{workspace}} {{inference_url}} {{mcp_url}} {{model}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runner {
    /// Its name.
    pub name: RunnerName,
    /// Its version, as its authors number it.
    pub version: String,
    /// The image's id, `sha256:` and 64 hexadecimal digits.
    pub image: String,
    /// The command of a first turn.
    pub argv: Vec<String>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// What its standard input gets.
    pub stdin: Stdin,
    /// How its output becomes frames.
    pub stream: Stream,
    /// Where its session lives and how it resumes.
    pub session: Session,
    /// The wire format it speaks to a model.
    pub inference: Inference,
    /// How it is told of the MCP endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcp: Option<Mcp>,
    /// Files to place before it starts.
    pub files: Vec<FileTemplate>,
    /// The least isolation of its boxes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// Symbolic links to place before it starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<LinkTemplate>,
    /// Whether the agent insists on TCP: the worker then listens on 127.0.0.1 in the box, and the URLs are http.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub loopback: bool,
    /// The least that a box must offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// SPDX expression.
    pub licence: String,
    /// Where it comes from.
    pub homepage: String,
}

/// What standard input gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stdin {
    /// `/dev/null`.
    None,
    /// The prompt.
    Prompt,
}

/// How output becomes frames.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// Plain text, or one JSON document a line.
    pub format: StreamFormat,
    /// For `jsonl`: the first entry that matches a line says what frame it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub map: Vec<StreamRule>,
}

/// The form of an agent's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamFormat {
    /// Text is the answer.
    Text,
    /// JSON lines.
    Jsonl,
}

/// One rule of the stream mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamRule {
    /// JSON pointers that must hold these values.
    pub when: BTreeMap<String, Value>,
    /// The frame's kind, or `ignore`.
    pub frame: String,
    /// Frame field from JSON pointer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
    /// Frame field from a constant, where the agent's event has none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, Value>,
    /// Whether later rules may make further frames of the same line.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// Where the session lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Path of the session file inside the box.
    pub path: String,
    /// The command of a later turn.
    pub resume_argv: Vec<String>,
    /// Where the agent's own session id comes from.
    pub id_from: IdFrom,
    /// What it is made of.
    #[serde(default, skip_serializing_if = "SessionKind::is_file")]
    pub kind: SessionKind,
}

/// What a session is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionKind {
    /// One file.
    #[default]
    File,
    /// Everything below one folder, kept as one archive.
    Directory,
}

impl SessionKind {
    /// Whether it is one file, which is what a document without a word about it means.
    pub fn is_file(&self) -> bool {
        *self == SessionKind::File
    }
}

/// The least that a box must offer. The installation's own limits count where they are higher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Bytes of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// Bytes of `/tmp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tmp_bytes: Option<u64>,
    /// Bytes of the home folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home_bytes: Option<u64>,
}

/// Where the agent's own session id comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdFrom {
    /// The path is the id.
    Path,
    /// A `session` frame tells it.
    Frame,
    /// It has none.
    None,
}

/// The wire format an agent speaks to its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Inference {
    /// No model.
    #[serde(rename = "none")]
    None,
    /// Anthropic Messages.
    #[serde(rename = "anthropic")]
    Anthropic,
    /// OpenAI Chat Completions.
    #[serde(rename = "openai-chat")]
    OpenaiChat,
    /// OpenAI Responses.
    #[serde(rename = "openai-responses")]
    OpenaiResponses,
}

/// How the agent is told of MCP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mcp {
    /// The file it reads.
    pub config_path: String,
    /// That file's format.
    pub format: String,
}

/// A file to place before the agent starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileTemplate {
    /// Where.
    pub path: String,
    /// Its text, templated.
    pub template: String,
}

/// A symbolic link to place before the agent starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkTemplate {
    /// Where.
    pub path: String,
    /// What it leads to.
    pub target: String,
}
