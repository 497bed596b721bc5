//! Whether one more may come in, and what gives way for it. Must never be asked before everything else was found good:
//! a launch that is wrong is told what is wrong with it, not that there is no room.

use super::{Policy, Rules};
use crate::admission::Refusal;

/// How much there is already, when a launch is decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Dispatches that wait.
    pub waiting: usize,
    /// Of those, the launcher's.
    pub waiting_of_launcher: usize,
    /// Dispatches of the person that have not ended.
    pub open_of_subject: usize,
    /// Dispatches of the launcher that have not ended.
    pub open_of_launcher: usize,
}

/// Whether one more may come in.
///
/// # Errors
/// `QUEUE_FULL` at the most that may wait, `LIMIT_REACHED` at a cap where the policy is to refuse.
pub fn room(load: &Load, rules: &Rules) -> Result<(), Refusal> {
    // A decision stands for ever under its message's id, so trying again takes another one.
    let hint = |ask: &str| format!("try again in 30 s under another message id; {ask}");
    let full = |count: usize, most: usize, whose: &str| Refusal {
        code: "QUEUE_FULL",
        detail: format!("{count} dispatches wait{whose}, {most} are the most"),
        hint: hint("custody dispatch ls --status queued shows what waits"),
    };
    if load.waiting >= rules.waiting_max {
        return Err(full(load.waiting, rules.waiting_max, ""));
    }
    if load.waiting_of_launcher >= rules.waiting_per_launcher_max {
        return Err(full(load.waiting_of_launcher, rules.waiting_per_launcher_max, " through this launcher"));
    }
    if rules.policy != Policy::Reject {
        return Ok(());
    }
    let limits = [
        (load.open_of_subject, rules.caps.per_subject, "of this person"),
        (load.open_of_launcher, rules.caps.per_launcher, "of this launcher"),
    ];
    for (count, most, whose) in limits {
        if let Some(most) = most.filter(|most| count >= *most) {
            return Err(Refusal {
                code: "LIMIT_REACHED",
                detail: format!("{count} dispatches {whose} have not ended, {most} are the most at once"),
                hint: hint("or end one: custody dispatch stop"),
            });
        }
    }
    Ok(())
}

/// The dispatches that give way under [`Policy::CancelOld`]: the oldest ones beyond a cap. `open` is every dispatch of
/// one person, or of one launcher, that has not ended and was not asked to stop: sequence and id.
pub fn superseded<'a>(open: &[(u64, &'a str)], cap: Option<usize>, rules: &Rules) -> Vec<&'a str> {
    let Some(most) = cap.filter(|_| rules.policy == Policy::CancelOld) else { return Vec::new() };
    let mut sorted = open.to_vec();
    sorted.sort_unstable();
    let beyond = sorted.len().saturating_sub(most);
    sorted.into_iter().take(beyond).map(|(_, id)| id).collect()
}
