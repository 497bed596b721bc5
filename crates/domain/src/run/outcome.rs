//! The verdict over a box that has ended: what was seen from outside, what the worker said, and who asked for what.

use custody_contracts::box_protocol::{EXIT_GATEWAY_LOST, EXIT_IDLE, EXIT_MAX_LIFETIME, EXIT_STOPPED, ExitReason};
use custody_contracts::events::StopReason;

/// Everything that is known of a box that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ended {
    /// Exit code of the container; `None` when it vanished.
    pub code: Option<i64>,
    /// Whether the kernel killed something in it for memory.
    pub oom: bool,
    /// The worker's last frame.
    pub said: Option<ExitReason>,
    /// The detail that the worker gave.
    pub said_detail: Option<String>,
    /// Whether the agent gave a final word.
    pub result: bool,
    /// Whether the worker ended it because a limit that it counts was used up.
    pub limit_reached: bool,
    /// Why a stop was asked for before it ended, if one was.
    pub stop: Option<StopReason>,
    /// Whether it ended at or after its deadline.
    pub past_deadline: bool,
    /// Whether a model call was refused because a budget was used up.
    pub exhausted: bool,
}

/// Why it ended, and in a sentence where the reason alone does not say it. Exit codes lie: 0 without the worker's own
/// `completed` frame is not success, and an out-of-memory kill of a child counts also when the main process left with 0.
pub fn verdict(ended: &Ended) -> (StopReason, Option<String>) {
    let detail = |text: &str| Some(text.to_owned());
    if ended.oom {
        return (StopReason::Oom, detail("the kernel killed a process of the box for memory"));
    }
    // However the agent took it: it was refused what it asked for, and that is why it ended.
    if ended.exhausted {
        return (StopReason::Budget, detail("a budget is used up: custody dispatch get shows which"));
    }
    // Whoever asked for the stop said why; without that it was just stopped.
    let stopped = ended.stop.unwrap_or(StopReason::Stopped);
    let code = match ended.code {
        None if ended.past_deadline => return (StopReason::MaxLifetime, detail("the box was gone at its deadline")),
        None if ended.stop.is_some() => {
            return (stopped, detail("the box was gone after a stop was asked for"));
        }
        None => return (StopReason::Failed, detail("the box vanished: somebody removed it from outside")),
        Some(code) => code,
    };
    match (code, ended.said) {
        (0, Some(ExitReason::Completed)) => (StopReason::Completed, None),
        (EXIT_IDLE, _) | (_, Some(ExitReason::IdleTimeout)) => (StopReason::IdleTimeout, ended.said_detail.clone()),
        (EXIT_MAX_LIFETIME, _) | (_, Some(ExitReason::MaxLifetime)) => {
            (StopReason::MaxLifetime, ended.said_detail.clone())
        }
        // Nobody asked: it was told to end because its time was over.
        (EXIT_STOPPED, _) | (_, Some(ExitReason::Stopped)) if ended.past_deadline && ended.stop.is_none() => {
            (StopReason::MaxLifetime, ended.said_detail.clone().or_else(|| detail("it was ended at its deadline")))
        }
        (EXIT_STOPPED, _) | (_, Some(ExitReason::Stopped)) => (stopped, ended.said_detail.clone()),
        (EXIT_GATEWAY_LOST, _) | (_, Some(ExitReason::GatewayLost)) => {
            (StopReason::Failed, detail("the box lost its gateway for 60 s"))
        }
        (_, None) if ended.past_deadline => (StopReason::MaxLifetime, detail("it was ended at its deadline")),
        (_, None) if ended.stop.is_some() => (stopped, detail("it was killed after its grace")),
        (_, Some(ExitReason::Failed)) if ended.limit_reached => (StopReason::Budget, ended.said_detail.clone()),
        (0, None) => (StopReason::Failed, detail("it left with exit code 0 and never said that it was done")),
        (0, Some(ExitReason::Failed)) if !ended.result => {
            (StopReason::Failed, ended.said_detail.clone().or_else(|| detail("the agent left without a result")))
        }
        (code, _) => {
            let said = ended.said_detail.clone();
            (StopReason::Failed, said.or_else(|| Some(format!("exit code {code}"))))
        }
    }
}

/// Whether a run that has ended is parked: its time was up, and what its session needs to go on is kept. A later turn
/// resumes it; nothing of it runs.
pub fn is_parked(reason: StopReason, has_session_file: bool) -> bool {
    has_session_file && matches!(reason, StopReason::IdleTimeout | StopReason::MaxLifetime)
}
