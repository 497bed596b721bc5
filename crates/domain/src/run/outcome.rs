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
    /// Whether a stop was asked for before it ended.
    pub stop_requested: bool,
    /// Whether it ended at or after its deadline.
    pub past_deadline: bool,
}

/// Why it ended, and in a sentence where the reason alone does not say it. Exit codes lie: 0 without the worker's own
/// `completed` frame is not success, and an out-of-memory kill of a child counts also when the main process left with 0.
pub fn verdict(ended: &Ended) -> (StopReason, Option<String>) {
    let detail = |text: &str| Some(text.to_owned());
    if ended.oom {
        return (StopReason::Oom, detail("the kernel killed a process of the box for memory"));
    }
    let code = match ended.code {
        None if ended.past_deadline => return (StopReason::MaxLifetime, detail("the box was gone at its deadline")),
        None if ended.stop_requested => {
            return (StopReason::Stopped, detail("the box was gone after a stop was asked for"));
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
        (EXIT_STOPPED, _) | (_, Some(ExitReason::Stopped)) => (StopReason::Stopped, ended.said_detail.clone()),
        (EXIT_GATEWAY_LOST, _) | (_, Some(ExitReason::GatewayLost)) => {
            (StopReason::Failed, detail("the box lost its gateway for 60 s"))
        }
        (_, None) if ended.past_deadline => (StopReason::MaxLifetime, detail("it was ended at its deadline")),
        (_, None) if ended.stop_requested => (StopReason::Stopped, detail("it was killed after its grace")),
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
