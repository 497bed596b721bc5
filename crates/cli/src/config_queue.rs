//! `[queue]` of the configuration file: who may have how many boxes at once, and how much may wait. Authority, runtime and
//! projector read the same section. Must never have a maximum that means "without limit" by accident.

use custody_domain::queue::{Caps, Policy, Rules};
use serde::{Deserialize, Serialize};

/// The most that an operator may let wait: more would not fit the memory that a fold of it takes.
const WAITING_MAX: usize = 1_000_000;

/// What becomes of a launch at a cap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AtCap {
    /// It waits.
    #[default]
    Queue,
    /// It is refused.
    Reject,
    /// It is admitted, and the oldest one is stopped.
    CancelOld,
}

/// The queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct QueueSection {
    /// The most boxes of one person at once; without it only `runtime.running_max` holds.
    pub(crate) running_per_subject_max: Option<usize>,
    /// The most boxes of one launcher at once.
    pub(crate) running_per_launcher_max: Option<usize>,
    /// What becomes of a launch at one of these.
    pub(crate) policy: AtCap,
    /// The most dispatches that wait; more are refused.
    pub(crate) waiting_max: usize,
    /// The most of one launcher that wait.
    pub(crate) waiting_per_launcher_max: usize,
}

impl Default for QueueSection {
    fn default() -> Self {
        QueueSection {
            running_per_subject_max: None,
            running_per_launcher_max: None,
            policy: AtCap::default(),
            waiting_max: 20_000,
            waiting_per_launcher_max: 10_000,
        }
    }
}

impl QueueSection {
    /// As the scheduler takes them.
    pub(crate) fn caps(&self) -> Caps {
        Caps { per_subject: self.running_per_subject_max, per_launcher: self.running_per_launcher_max }
    }

    /// As admission takes them.
    pub(crate) fn rules(&self) -> Rules {
        let policy = match self.policy {
            AtCap::Queue => Policy::Queue,
            AtCap::Reject => Policy::Reject,
            AtCap::CancelOld => Policy::CancelOld,
        };
        Rules {
            caps: self.caps(),
            policy,
            waiting_max: self.waiting_max,
            waiting_per_launcher_max: self.waiting_per_launcher_max,
        }
    }

    /// Whether its numbers make sense.
    pub(crate) fn check(&self) -> Result<(), String> {
        let caps = [
            ("running_per_subject_max", self.running_per_subject_max),
            ("running_per_launcher_max", self.running_per_launcher_max),
        ];
        if let Some((name, _)) = caps.iter().find(|(_, cap)| *cap == Some(0)) {
            return Err(format!("queue.{name} is 0: nothing would ever run; leave it out for no cap"));
        }
        if self.policy != AtCap::Queue && caps.iter().all(|(_, cap)| cap.is_none()) {
            return Err("queue.policy says what happens at a cap, and there is none: set running_per_subject_max or running_per_launcher_max".into());
        }
        let waiting = [("waiting_max", self.waiting_max), ("waiting_per_launcher_max", self.waiting_per_launcher_max)];
        if let Some((name, value)) = waiting.iter().find(|(_, value)| !(1..=WAITING_MAX).contains(value)) {
            return Err(format!("queue.{name} {value} is not between 1 and {WAITING_MAX}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::nothing("", true)]
    #[case::all(
        "running_per_subject_max = 2\nrunning_per_launcher_max = 4\npolicy = \"cancel-old\"\nwaiting_max = 10\nwaiting_per_launcher_max = 5\n",
        true
    )]
    #[case::no_box_at_all("running_per_subject_max = 0\n", false)]
    #[case::a_policy_without_a_cap("policy = \"reject\"\n", false)]
    #[case::nothing_may_wait("waiting_max = 0\n", false)]
    #[case::too_much_may_wait("waiting_max = 1000001\n", false)]
    #[case::another_policy("policy = \"lottery\"\n", false)]
    #[case::an_unknown_key("running_max = 3\n", false)]
    fn what_may_be_configured(#[case] text: &str, #[case] good: bool) {
        let read = toml::from_str::<QueueSection>(text).map_err(|e| e.to_string()).and_then(|q| q.check().map(|()| q));
        assert_eq!(read.is_ok(), good, "{read:?}");
        if let Ok(section) = read {
            assert_eq!(section.rules().caps, section.caps());
        }
    }
}
