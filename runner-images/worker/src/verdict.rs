//! Decides the exit frame and the worker's own exit code from what was observed. Pure; must never call an exit code of 0
//! a success by itself.

use crate::protocol::{ExitReason, FrameBody, Network, StreamFormat};

/// The worker's exit code for a bad job or a broken protocol. Source: box.v2.
pub const EXIT_BAD_JOB: u8 = 120;

/// How the agent's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentEnd {
    /// It exited by itself.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// It never ran, or could not be reaped before the last deadline.
    Unknown,
}

/// Why the worker itself decided to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// A limit, a stop, or the gateway's absence.
    Because(ExitReason),
    /// The job or the protocol is broken; with a sentence.
    BadJob(String),
    /// The agent could not be started; with a sentence.
    NotStarted(String),
    /// The agent used up a limit that is counted from its output; with a sentence.
    Limit(String),
}

/// All that the verdict needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Set when the worker ended the agent.
    pub ending: Option<Ending>,
    /// How the agent's process ended.
    pub agent: AgentEnd,
    /// The form of its output.
    pub format: StreamFormat,
    /// Whether a result frame was made.
    pub result_seen: bool,
}

/// The last frame and the worker's exit code.
pub fn decide(observed: &Observed) -> (FrameBody, u8) {
    let (reason, code, detail) = match &observed.ending {
        Some(Ending::BadJob(why)) => (ExitReason::Failed, EXIT_BAD_JOB, Some(why.clone())),
        Some(Ending::NotStarted(why) | Ending::Limit(why)) => {
            (ExitReason::Failed, exit_code(ExitReason::Failed), Some(why.clone()))
        }
        Some(Ending::Because(reason)) => (*reason, exit_code(*reason), None),
        None => {
            let (reason, detail) = by_itself(observed);
            (reason, exit_code(reason), detail)
        }
    };
    let (agent_code, signal) = match observed.agent {
        AgentEnd::Code(code) => (Some(i64::from(code)), None),
        AgentEnd::Signal(signal) => (None, Some(i64::from(signal))),
        AgentEnd::Unknown => (None, None),
    };
    (FrameBody::Exit { reason, code: agent_code, signal, detail }, code)
}

/// The frame that closes one turn: the same verdict as that of a box which ends with it.
pub fn turn_frame(turn: u32, observed: &Observed, network: Option<Network>) -> FrameBody {
    let (reason, code, signal) = match decide(observed).0 {
        FrameBody::Exit { reason, code, signal, .. } => (reason, code, signal),
        _ => (ExitReason::Failed, None, None),
    };
    FrameBody::Turn { turn, reason, code, signal, network }
}

/// The worker's exit code for a reason. Source: box.v2.
pub fn exit_code(reason: ExitReason) -> u8 {
    match reason {
        ExitReason::Completed => 0,
        ExitReason::Failed => 1,
        ExitReason::IdleTimeout => 110,
        ExitReason::MaxLifetime => 111,
        ExitReason::GatewayLost => 112,
        ExitReason::Stopped => 113,
    }
}

fn by_itself(observed: &Observed) -> (ExitReason, Option<String>) {
    match observed.agent {
        AgentEnd::Code(0) if observed.result_seen || observed.format == StreamFormat::Text => {
            (ExitReason::Completed, None)
        }
        AgentEnd::Code(0) => (ExitReason::Failed, Some("the agent exited with 0 but gave no result".to_owned())),
        AgentEnd::Code(code) => (ExitReason::Failed, Some(format!("the agent exited with {code}"))),
        AgentEnd::Signal(signal) => (ExitReason::Failed, Some(format!("signal {signal} ended the agent"))),
        AgentEnd::Unknown => (ExitReason::Failed, Some("the agent's end was not seen".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ExitReason::{Completed, Failed, GatewayLost, IdleTimeout, MaxLifetime, Stopped};
    use StreamFormat::{Jsonl, Text};
    use rstest::rstest;

    #[rstest]
    #[case::result_and_zero(None, AgentEnd::Code(0), Jsonl, true, Completed, 0)]
    #[case::zero_without_result(None, AgentEnd::Code(0), Jsonl, false, Failed, 1)]
    #[case::text_needs_no_result(None, AgentEnd::Code(0), Text, false, Completed, 0)]
    #[case::text_nonzero(None, AgentEnd::Code(2), Text, false, Failed, 1)]
    #[case::result_but_nonzero(None, AgentEnd::Code(3), Jsonl, true, Failed, 1)]
    #[case::killed_from_outside(None, AgentEnd::Signal(9), Jsonl, true, Failed, 1)]
    #[case::never_reaped(None, AgentEnd::Unknown, Jsonl, true, Failed, 1)]
    #[case::idle(Some(Ending::Because(IdleTimeout)), AgentEnd::Signal(15), Jsonl, false, IdleTimeout, 110)]
    #[case::idle_although_it_then_finished(
        Some(Ending::Because(IdleTimeout)),
        AgentEnd::Code(0),
        Jsonl,
        true,
        IdleTimeout,
        110
    )]
    #[case::wall(Some(Ending::Because(MaxLifetime)), AgentEnd::Signal(9), Jsonl, false, MaxLifetime, 111)]
    #[case::lost(Some(Ending::Because(GatewayLost)), AgentEnd::Signal(9), Jsonl, false, GatewayLost, 112)]
    #[case::stopped(Some(Ending::Because(Stopped)), AgentEnd::Code(0), Jsonl, true, Stopped, 113)]
    #[case::bad_job(Some(Ending::BadJob("x".into())), AgentEnd::Unknown, Jsonl, false, Failed, 120)]
    #[case::limit(Some(Ending::Limit("x".into())), AgentEnd::Signal(15), Jsonl, true, Failed, 1)]
    #[case::not_started(Some(Ending::NotStarted("x".into())), AgentEnd::Unknown, Text, false, Failed, 1)]
    fn decides(
        #[case] ending: Option<Ending>,
        #[case] agent: AgentEnd,
        #[case] format: StreamFormat,
        #[case] result_seen: bool,
        #[case] expected_reason: ExitReason,
        #[case] expected_code: u8,
    ) {
        let (frame, code) = decide(&Observed { ending, agent, format, result_seen });
        let FrameBody::Exit { reason, code: agent_code, signal, detail } = frame else { panic!("not an exit frame") };
        assert_eq!((reason, code), (expected_reason, expected_code));
        assert!(agent_code.is_none() || signal.is_none());
        assert!(reason != Failed || detail.is_some(), "a failure says why");
    }
}
