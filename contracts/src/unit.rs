//! unit.v1, the dispatch: who, through whom, with what, and how it starts. Must never hold a credential.

use crate::ids::{LauncherRef, RunnerName, Subject, WorkspaceId};
use serde::{Deserialize, Serialize};

/// One dispatch as a launcher asks for it. Source: contract unit.v1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invocation {
    /// Whom it acts for and who launches.
    pub identity: Identity,
    /// The runner's name.
    pub runner: RunnerName,
    /// At least one, at most 16.
    pub workspaces: Vec<WorkspaceMount>,
    /// Names of tools it may ask for.
    #[serde(default)]
    pub tools: Vec<String>,
    /// What set it off; decides how far its input is trusted.
    pub trigger: Trigger,
    /// The circumstance it was launched in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Context>,
    /// A new session or the next turn of one.
    pub start: Start,
    /// Limits that only ever lower what the grant allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

/// Subject and launcher; the token is stripped before anything is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The person.
    pub subject: Subject,
    /// The launcher, as `user:…`, `schedule:…` or `integration:…`.
    pub launcher: LauncherRef,
    /// A launch token, when a launcher has one. Never stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// A workspace and how it is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceMount {
    /// Which one.
    pub id: WorkspaceId,
    /// Read only, read-write, or a writable copy whose changes can only be proposed.
    pub mode: Mode,
}

/// How a workspace is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Read only, enforced by the mount.
    Ro,
    /// Read and write.
    Rw,
    /// A writable copy; changes become a proposal.
    Propose,
}

impl Mode {
    /// The contract's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Ro => "ro",
            Mode::Rw => "rw",
            Mode::Propose => "propose",
        }
    }

    /// Whether this is allowed where `most` is the most: read only is less than a proposal, and that less than writing.
    pub fn within(self, most: Mode) -> bool {
        let rank = |mode| match mode {
            Mode::Ro => 0,
            Mode::Propose => 1,
            Mode::Rw => 2,
        };
        rank(self) <= rank(most)
    }
}

/// What set a dispatch off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// A person's message.
    Message,
    /// A schedule.
    Scheduled,
    /// An integration's event: untrusted input.
    Event,
    /// A meeting's transcript: untrusted input.
    Transcription,
}

/// How far the input of a dispatch is trusted. Derived from the trigger; an effect's record repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputTrust {
    /// From the person or their own schedule.
    Trusted,
    /// From outside; the run may only propose.
    Untrusted,
}

impl Trigger {
    /// Message and scheduled are trusted; event and transcription are not.
    pub fn input_trust(self) -> InputTrust {
        match self {
            Trigger::Message | Trigger::Scheduled => InputTrust::Trusted,
            Trigger::Event | Trigger::Transcription => InputTrust::Untrusted,
        }
    }
}

/// The circumstance of a launch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Which circumstance.
    pub kind: ContextKind,
    /// Present exactly when the kind is `meeting`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meeting: Option<Meeting>,
    /// Where the thing it is about can be found.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
}

/// Kinds of context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContextKind {
    /// Nothing beyond the prompt.
    None,
    /// A live meeting.
    Meeting,
    /// A mail.
    Email,
    /// Anything with a URI.
    Generic,
}

/// A live meeting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meeting {
    /// The meeting.
    pub meeting_id: String,
    /// Its transcription session.
    pub session_uid: String,
    /// Where it is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
}

/// A pointer to a thing outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// Its URI.
    pub uri: String,
    /// Its version, when known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// Exactly one of a new entrypoint or a turn of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Start {
    /// A new session that starts from a prompt.
    Entrypoint(Entrypoint),
    /// The next turn of a session.
    Session(SessionStart),
}

/// A prompt, given here or as a file of the first workspace: exactly one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Entrypoint {
    /// The prompt itself, at most 65,536 characters.
    Inline(String),
    /// A path inside the first workspace.
    Path(String),
}

/// The next turn of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionStart {
    /// The session: an id, or in other systems' documents a path.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The prompt of this turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inline: Option<String>,
}

/// Limits of one dispatch. Absent means: what the grant or the platform says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Turns of the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turns: Option<u64>,
    /// Milliseconds from start to a forced end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<u64>,
    /// Milliseconds without output after which it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
    /// Input plus output tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Millionths of the accounting currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_micros: Option<u64>,
    /// Tool calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<u64>,
}
