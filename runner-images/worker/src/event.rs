//! What the supervisor waits for. Everything that can happen to a worker is one of these; must never carry output, which
//! has a bounded way of its own.

use crate::protocol::{ExitReason, Job};

/// How many events may wait. Senders block beyond it.
pub const EVENTS_MAX: usize = 64;

/// One thing that happened.
#[derive(Debug)]
pub enum Event {
    /// The gateway sent a job.
    Job(Box<Job>),
    /// The gateway wants the agent ended.
    Stop {
        /// Milliseconds between TERM and KILL.
        grace_ms: u64,
        /// Why.
        reason: ExitReason,
    },
    /// The gateway sent a follow-up for the agent.
    Input(String),
    /// A line from the gateway is not box.v2; with a sentence.
    BadMessage(String),
    /// The gateway stayed away too long. The link has ended.
    GatewayLost,
    /// TERM or INT to the worker itself.
    Terminate,
    /// At least one child ended.
    ChildEnded,
    /// The agent used up a limit that is counted from its output; with a sentence.
    LimitReached(String),
    /// The agent's output is read to its end and in the outbox.
    OutputDone,
}
