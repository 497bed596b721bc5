//! box.v2: what the worker inside a box and the gateway role say to each other over the one mounted socket.

use crate::runner::Runner;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The name of the HTTP upgrade.
pub const UPGRADE: &str = "custody-box.v2";
/// The longest line in either direction, in bytes.
pub const LINE_BYTES_MAX: usize = 262_144;
/// Where the gateway's socket is inside the box.
pub const SOCKET_IN_BOX: &str = "/run/gw/gw.sock";
/// Where the session file is inside the box; what a runner's template means by `{{session}}`.
pub const SESSION_IN_BOX: &str = "/session/session.jsonl";
/// Where the folder of a session is inside the box, for runners that keep one.
pub const SESSION_FOLDER_IN_BOX: &str = "/session";
/// Exit code of the worker when it was silent for too long.
pub const EXIT_IDLE: i64 = 110;
/// Exit code of the worker when it lived too long.
pub const EXIT_MAX_LIFETIME: i64 = 111;
/// Exit code of the worker when the gateway stayed away for 60 s.
pub const EXIT_GATEWAY_LOST: i64 = 112;
/// Exit code of the worker when it was told to stop.
pub const EXIT_STOPPED: i64 = 113;

/// From the worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum WorkerMessage {
    /// First line after every connect.
    Hello {
        /// Always `box.v2`.
        protocol: String,
        /// The dispatch it works for, once it knows.
        dispatch: Option<String>,
        /// Highest frame number made so far.
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum GatewayMessage {
    /// What to do.
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
        reason: ExitReason,
    },
    /// A follow-up for the agent.
    Input {
        /// The text.
        text: String,
        /// Its number, from 1; the worker takes each once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        n: Option<u32>,
    },
}

/// What one worker has to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The dispatch.
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
    /// Where the inference door is.
    pub inference_url: String,
    /// Where the tools are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp_url: Option<String>,
    /// Its limits.
    pub limits: JobLimits,
    /// Whether the worker stays after a turn for an input, which is the next turn.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follow_up: bool,
}

/// The session of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSession {
    /// Which one.
    pub id: String,
    /// The file inside the box.
    pub path: String,
    /// Whether the file is there and must be resumed from.
    pub resume: bool,
    /// The agent's own id for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_session: Option<String>,
}

/// A mounted workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobWorkspace {
    /// Which one.
    pub id: String,
    /// Where.
    pub path: String,
    /// How.
    pub mode: String,
}

/// Limits that the worker enforces itself; the runtime enforces them again from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobLimits {
    /// Milliseconds from start to a forced end.
    pub wall_ms: u64,
    /// Milliseconds without output after which it ends.
    pub idle_ms: u64,
    /// Milliseconds between TERM and KILL.
    pub grace_ms: u64,
    /// Bytes of output that are kept.
    pub output_bytes: u64,
    /// The most turns in this box.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<u32>,
    /// The most tool calls in this box, counted from the agent's output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<u64>,
}

/// What the kernel counted in a box's network namespace during one turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// TCP connections that were begun, the relay's among them.
    pub opened: u64,
    /// Those that the worker's relay took.
    pub relayed: u64,
    /// TCP connections that were refused or timed out.
    pub failed: u64,
    /// Packets and connections for which there was no route.
    pub no_route: u64,
    /// UDP datagrams that were sent.
    pub datagrams: u64,
}

/// One frame of output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// 1, 2, 3, …
    pub seq: u64,
    /// Milliseconds since the epoch, by the box's clock: a hint for screens, never a decision's input.
    pub at: u64,
    /// What it says.
    #[serde(flatten)]
    pub body: FrameBody,
}

/// What a frame says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FrameBody {
    /// The agent's process runs.
    Started {
        /// Its process id inside the box.
        pid: u32,
        /// Whether it resumed a session.
        resumed: bool,
    },
    /// More of the assistant's words.
    Text {
        /// The words.
        text: String,
    },
    /// The agent calls a tool.
    ToolCall {
        /// The call.
        id: String,
        /// The tool.
        name: String,
        /// Its arguments.
        args: Value,
    },
    /// A tool answered.
    ToolResult {
        /// The call.
        id: String,
        /// Whether it worked.
        ok: bool,
        /// What it said.
        text: String,
    },
    /// Tokens used, as the agent counts.
    Usage {
        /// Sent.
        input_tokens: u64,
        /// Received.
        output_tokens: u64,
    },
    /// The agent's own session id.
    Session {
        /// The id.
        agent_session: String,
    },
    /// Output that the mapping did not know.
    Log {
        /// stdout or stderr.
        stream: String,
        /// The text.
        text: String,
    },
    /// Something went wrong.
    Error {
        /// Stable code.
        code: String,
        /// A sentence.
        message: String,
    },
    /// The agent's own final word.
    Result {
        /// The word.
        text: String,
    },
    /// Output beyond the limit was dropped.
    Truncated {
        /// How many bytes were kept.
        bytes: u64,
    },
    /// One turn is over: the agent's process has ended, and its output is in the frames before this one.
    Turn {
        /// Which turn of this box, from 1.
        turn: u32,
        /// Why.
        reason: ExitReason,
        /// The agent's exit code.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<i64>,
        /// The signal that ended it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i64>,
        /// What the kernel counted in the box's network namespace.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        network: Option<Network>,
    },
    /// The last frame.
    Exit {
        /// Why.
        reason: ExitReason,
        /// The agent's exit code.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<i64>,
        /// The signal that ended it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i64>,
        /// More, in a sentence.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
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
    /// The gateway stayed away.
    GatewayLost,
}
