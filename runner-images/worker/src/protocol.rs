//! The worker's own copy of the few box.v2 and agent-runner.v2 types it needs. The contracts crate is not used because
//! PID 1 stays small; a test reads that contract's goldens so that the two cannot drift. Must never hold behaviour.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The protocol's name, said in `hello`. Source: box.v2.
pub const PROTOCOL: &str = "box.v2";
/// The name of the HTTP upgrade. Source: box.v2.
pub const UPGRADE: &str = "custody-box.v2";
/// The longest line in either direction, in bytes, with its line feed. Source: box.v2.
pub const LINE_BYTES_MAX: usize = 262_144;
/// Where the gateway's socket is inside a box. Source: box.v2.
pub const SOCKET_IN_BOX: &str = "/run/gw/gw.sock";

/// From the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum WorkerMessage {
    /// First line after every connect.
    Hello {
        /// Always `box.v2`.
        protocol: String,
        /// The dispatch it works for, once it knows.
        dispatch: Option<String>,
        /// Highest frame number made so far; 0 at boot.
        last_seq: u64,
        /// Highest follow-up taken.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inputs: Option<u32>,
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
        /// Its number, from 1; taken once.
        #[serde(default)]
        n: Option<u32>,
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
    /// Whether the worker stays for further turns after the first one, until it was idle for too long.
    #[serde(default)]
    pub follow_up: bool,
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
    /// The most turns in this box. Absent: as many as fit the other limits.
    #[serde(default)]
    pub turns: Option<u32>,
    /// The most tool calls in this box. Absent: as many as fit the other limits.
    #[serde(default)]
    pub tool_calls: Option<u64>,
}

/// agent-runner.v2: how to run one agent.
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
    /// Symbolic links to place before it starts, for an agent that keeps its session in a folder of its own.
    #[serde(default)]
    pub links: Vec<LinkTemplate>,
    /// Whether the agent insists on TCP: the worker then listens on 127.0.0.1 and copies bytes to the socket.
    #[serde(default)]
    pub loopback: bool,
    /// The least that a box must offer: the runtime's concern.
    #[serde(default)]
    pub resources: Option<Value>,
    /// The least isolation of its boxes: the runtime's concern.
    #[serde(default)]
    pub isolation: Option<String>,
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
    /// Frame field from a constant, where the document has none.
    #[serde(default)]
    pub values: BTreeMap<String, Value>,
    /// Whether later rules may make further frames of the same line.
    #[serde(default)]
    pub more: bool,
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
    /// Whether the session is one file or a folder: the runtime's concern.
    #[serde(default)]
    pub kind: SessionKind,
}

/// What a session is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionKind {
    /// One file.
    #[default]
    File,
    /// Everything below one folder.
    Directory,
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

/// A symbolic link to place before the agent starts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkTemplate {
    /// Where: an absolute path under `$HOME` or `/tmp`.
    pub path: String,
    /// What it leads to: an absolute path.
    pub target: String,
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
#[expect(missing_docs, reason = "the fields are box.v2's, documented there; a second text would drift")]
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
    /// One turn of the agent is over: its process has ended and its output is in the frames before this one.
    Turn {
        turn: u32,
        reason: ExitReason,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<i64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        network: Option<Network>,
    },
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

/// What the kernel counted in the box's own network namespace during one turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// TCP connections that were begun, the relay's among them.
    pub opened: u64,
    /// Of those, the ones that the worker's relay took.
    pub relayed: u64,
    /// TCP connections that were refused or timed out.
    pub failed: u64,
    /// Packets and connections for which there was no route.
    pub no_route: u64,
    /// UDP datagrams that were sent.
    pub datagrams: u64,
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
