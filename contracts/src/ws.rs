//! ws.v1: the frames between a screen and the log, over the websocket and over server-sent events. A topic is a
//! snapshot at a sequence and then the events after it. Unknown fields of what a browser sends are refused by the
//! schema, which every frame is checked against before it comes here.

use crate::ids::DispatchId;
use crate::unit::Invocation;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The largest frame in bytes, in both directions.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// The most events of one frame.
pub const EVENTS_MAX: usize = 500;
/// CloudEvents type of a row of the topic `audit`.
pub const AUDIT_ROW: &str = "custody.audit.row.v1";
/// CloudEvents type of a chunk of a topic `output/<dispatch>`.
pub const OUTPUT_CHUNK: &str = "custody.output.chunk.v1";

/// What the browser sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "lowercase", deny_unknown_fields)]
pub enum ClientFrame {
    /// Follow a topic.
    Sub {
        /// Numbered by the client.
        id: u64,
        /// What to follow.
        topic: String,
        /// The last sequence that the client has.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<u64>,
    },
    /// Follow no longer.
    Unsub {
        /// Which.
        id: u64,
    },
    /// A command.
    Cmd(Cmd),
}

/// A command of the browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cmd {
    /// Made by the client: the same id sent twice is one command.
    pub id: String,
    /// What to do.
    #[serde(flatten)]
    pub command: Command,
}

/// What a command does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", content = "args", deny_unknown_fields)]
pub enum Command {
    /// Start a dispatch.
    #[serde(rename = "dispatch.start")]
    Start(Box<Invocation>),
    /// Stop one.
    #[serde(rename = "dispatch.stop")]
    Stop(StopArgs),
    /// Launch again what one was asked.
    #[serde(rename = "dispatch.retry")]
    Retry(RetryArgs),
    /// Say more to one that has not ended.
    #[serde(rename = "dispatch.say")]
    Say(SayArgs),
}

/// What to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopArgs {
    /// Which.
    pub dispatch: DispatchId,
    /// Milliseconds between TERM and KILL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
}

/// What to launch again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryArgs {
    /// Which.
    pub dispatch: DispatchId,
}

/// What to say, and to whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SayArgs {
    /// To which.
    pub dispatch: DispatchId,
    /// The words.
    pub text: String,
}

/// What the server sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "lowercase", deny_unknown_fields)]
pub enum ServerFrame {
    /// The first frame of a connection.
    Hello {
        /// The server's clock.
        now: u64,
        /// The ledger's last sequence.
        head: u64,
        /// Digest of the set of contracts.
        contracts: String,
        /// The server's version.
        version: String,
        /// A heartbeat comes at least this often.
        hb_ms: u64,
    },
    /// A topic's state as of a sequence.
    Snap {
        /// Which subscription.
        id: u64,
        /// The cursor now.
        seq: u64,
        /// The state.
        state: Value,
    },
    /// Events of a topic.
    Ev {
        /// Which subscription.
        id: u64,
        /// The cursor now.
        seq: u64,
        /// The cursor before.
        prev: u64,
        /// Oldest first.
        events: Vec<Event>,
    },
    /// There is no more; what comes now is live.
    Caught {
        /// Which subscription.
        id: u64,
        /// The cursor now.
        seq: u64,
    },
    /// The client reads more slowly than events come.
    Lag {
        /// Which subscription.
        id: u64,
        /// How many events.
        behind: u64,
    },
    /// The cursor is not readable.
    Gone {
        /// Which subscription.
        id: u64,
        /// Why.
        reason: GoneReason,
    },
    /// A command is stored.
    Ack {
        /// Which.
        id: String,
        /// Where.
        seq: u64,
        /// The dispatch that it is about.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dispatch: Option<String>,
    },
    /// A command or a subscription is refused.
    Nack {
        /// Which.
        id: NackId,
        /// Stable code.
        code: String,
        /// A sentence.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
        /// The next step.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
    /// The connection lives.
    Hb {
        /// The server's clock.
        now: u64,
        /// The ledger's last sequence.
        head: u64,
    },
    /// The server closes the connection.
    Bye {
        /// Why.
        reason: ByeReason,
        /// Come back after this long; 0: sign in first.
        retry_ms: u64,
    },
}

/// One event of a topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Its sequence in the topic's stream.
    pub seq: u64,
    /// Its own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// CloudEvents type.
    #[serde(rename = "type")]
    pub kind: String,
    /// RFC 3339.
    pub time: String,
    /// The person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The launcher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launcher: Option<String>,
    /// The grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// The key that signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyid: Option<String>,
    /// What caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation: Option<String>,
    /// What it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
    /// The event.
    pub data: Value,
}

/// Why a cursor is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GoneReason {
    /// What comes after it is no longer held; a snapshot follows.
    Retention,
    /// The right to read was withdrawn.
    Forbidden,
    /// There is no such thing, or it is not the client's.
    Unknown,
}

/// A command's id, or a subscription's number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum NackId {
    /// A subscription.
    Sub(u64),
    /// A command.
    Cmd(String),
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ByeReason {
    /// The client did not keep up.
    Slow,
    /// The session was ended.
    SignedOut,
    /// The session's time is over.
    Expired,
    /// The server stops.
    Shutdown,
    /// The page is too old.
    Version,
    /// A frame was not of this contract, or too large.
    Protocol,
    /// There is no room.
    Full,
}
