//! The worker's own copy of the few box.v1 and agent-runner.v1 types it needs. The contracts crate is not used because
//! PID 1 stays small; a test reads that contract's goldens so that the two cannot drift. Must never hold behaviour.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The protocol's name, said in `hello`. Source: box.v1.
pub const PROTOCOL: &str = "box.v1";
/// The name of the HTTP upgrade. Source: box.v1.
pub const UPGRADE: &str = "custody-box.v1";
/// The longest line in either direction, in bytes, with its line feed. Source: box.v1.
pub const LINE_BYTES_MAX: usize = 262_144;
/// Where the gateway's socket is inside a box. Source: box.v1.
pub const SOCKET_IN_BOX: &str = "/run/gw/gw.sock";

/// From the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum WorkerMessage {
    /// First line after every connect.
    Hello {
        /// Always `box.v1`.
        protocol: String,
        /// The dispatch it works for, once it knows.
        dispatch: Option<String>,
        /// Highest frame number made so far; 0 at boot.
        last_seq: u64,
    },
    /// One frame.
    Frame {
        /// The frame.
        frame: Frame,
    },
}

/// From the gateway.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum GatewayMessage {
    /// What to do; once after each hello.
    Job {
        /// The job.
        job: Box<Job>,
    },
    /// Every frame up to here is durable.
    Ack {
        /// The number.
        seq: u64,
    },
    /// End the agent.
    Stop {
        /// Milliseconds between TERM and KILL.
        grace_ms: u64,
        /// Why.
        reason: StopReason,
    },
    /// A follow-up for the agent's standard input.
    Input {
        /// The text.
        text: String,
    },
}

/// What one worker has to do.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The dispatch, `d-…`.
    pub dispatch: String,
    /// Which attempt.
    pub attempt: u32,
    /// Its session.
    pub session: JobSession,
    /// How to run the agent.
    pub runner: Runner,
    /// The prompt.
    pub prompt: String,
    /// What is mounted.
    pub workspaces: Vec<JobWorkspace>,
    /// The model's name.
    pub model: String,
    /// Where the inference door is, such as `unix:/run/gw/gw.sock`.
    pub inference_url: String,
    /// Where the tools are.
    #[serde(default)]
    pub mcp_url: Option<String>,
    /// Its limits.
    pub limits: Limits,
}

/// The session of a job.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSession {
    /// Which one.
    pub id: String,
    /// The file inside the box.
    pub path: String,
    /// Whether the file is there and must be resumed from.
    pub resume: bool,
    /// The agent's own id for it.
    #[serde(default)]
    pub agent_session: Option<String>,
}

/// A mounted workspace.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobWorkspace {
    /// Which one.
    pub id: String,
    /// Where, inside the box.
    pub path: String,
    /// How: `ro`, `rw` or `propose`.
    pub mode: String,
}

/// Limits that the worker enforces; the runtime enforces them again from outside.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Milliseconds from the agent's start to a forced end.
    pub wall_ms: u64,
    /// Milliseconds without output after which it ends.
    pub idle_ms: u64,
    /// Milliseconds between TERM and KILL.
    pub grace_ms: u64,
    /// Bytes of output that are kept.
    pub output_bytes: u64,
}

/// agent-runner.v1: how to run one agent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runner {
    /// Its name.
    pub name: String,
    /// Its version, as its authors number it.
    pub version: String,
    /// The image's id. The runtime checks it; the worker only carries it.
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
    pub session: RunnerSession,
    /// The wire format it speaks to a model: the gateway's concern.
    pub inference: String,
    /// How it is told of the MCP endpoint; the file itself is one of `files`.
    #[serde(default)]
    pub mcp: Option<Mcp>,
    /// Files to place before it starts.
    pub files: Vec<FileTemplate>,
    /// SPDX expression.
    pub licence: String,
    /// Where it comes from.
    pub homepage: String,
}

/// What standard input gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stdin {
    /// `/dev/null`.
    None,
    /// The prompt and then every `input`, each followed by a line feed.
    Prompt,
}

/// How output becomes frames.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// Plain text, or one JSON document a line.
    pub format: StreamFormat,
    /// For `jsonl`: the first entry that matches a line says what frame it is.
    #[serde(default)]
    pub map: Vec<StreamRule>,
}

/// The form of an agent's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamFormat {
    /// Text is the answer.
    Text,
    /// JSON lines.
    Jsonl,
}

/// One rule of the stream mapping.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamRule {
    /// JSON pointers (RFC 6901) that must hold these values.
    pub when: BTreeMap<String, Value>,
    /// The frame's kind.
    pub frame: RuleFrame,
    /// Frame field from JSON pointer.
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
}

/// What a rule makes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleFrame {
    /// More words.
    Text,
    /// A tool is called.
    ToolCall,
    /// A tool answered.
    ToolResult,
    /// Tokens used.
    Usage,
    /// The agent's own session id.
    Session,
    /// The final word.
    Result,
    /// Something went wrong.
    Error,
    /// Nothing: the line is dropped.
    Ignore,
}

/// Where the session lives.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunnerSession {
    /// Path of the session file inside the box.
    pub path: String,
    /// The command of a later turn.
    pub resume_argv: Vec<String>,
    /// Where the agent's own session id comes from.
    pub id_from: IdFrom,
}

/// Where the agent's own session id comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdFrom {
    /// The path is the id.
    Path,
    /// A `session` frame tells it.
    Frame,
    /// It has none.
    None,
}

/// How the agent is told of MCP.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mcp {
    /// The file it reads.
    pub config_path: String,
    /// That file's format.
    pub format: String,
}

/// A file to place before the agent starts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileTemplate {
    /// Where: an absolute path under `$HOME` or `/tmp`.
    pub path: String,
    /// Its text, templated.
    pub template: String,
}

/// One frame of output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// 1, 2, 3, … without holes.
    pub seq: u64,
    /// Milliseconds since the epoch, by the box's clock: a hint for screens.
    pub at: u64,
    /// What it says.
    #[serde(flatten)]
    pub body: FrameBody,
}

/// What a frame says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields are box.v1's, documented there; a second text would drift")]
pub enum FrameBody {
    /// The agent's process runs.
    Started { pid: u32, resumed: bool },
    /// More of the assistant's words.
    Text { text: String },
    /// The agent calls a tool.
    ToolCall { id: String, name: String, args: Value },
    /// A tool answered.
    ToolResult { id: String, ok: bool, text: String },
    /// Tokens used, as the agent counts.
    Usage { input_tokens: u64, output_tokens: u64 },
    /// The agent's own session id.
    Session { agent_session: String },
    /// Output that the mapping did not know, and standard error.
    Log { stream: LogStream, text: String },
    /// Something went wrong.
    Error { code: String, message: String },
    /// The agent's own final word.
    Result { text: String },
    /// Output was dropped after so many bytes of frames.
    Truncated { bytes: u64 },
    /// The last frame.
    Exit {
        reason: ExitReason,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<i64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
}

/// Where a log frame's text came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output that the mapping did not know.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Why the agent's process ended, as the worker saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// It did what it was asked.
    Completed,
    /// It failed.
    Failed,
    /// It was silent for too long.
    IdleTimeout,
    /// It lived too long.
    MaxLifetime,
    /// It was told to stop.
    Stopped,
    /// The gateway stayed away, or is another dispatch's.
    GatewayLost,
}

/// Why a gateway ends an agent; the exit frame says the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// Somebody asked for it.
    Stopped,
    /// It lived too long.
    MaxLifetime,
    /// It was silent for too long.
    IdleTimeout,
}

impl From<StopReason> for ExitReason {
    fn from(reason: StopReason) -> Self {
        match reason {
            StopReason::Stopped => Self::Stopped,
            StopReason::MaxLifetime => Self::MaxLifetime,
            StopReason::IdleTimeout => Self::IdleTimeout,
        }
    }
}
