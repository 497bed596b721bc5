//! Follow-ups of a box that stays: what waits, and how many turns are left. Pure; must never hold more than
//! [`INPUTS_MAX`] texts, each of which is at most one line of the gateway's.

use crate::protocol::Job;
use std::collections::VecDeque;

/// Follow-ups that may wait for the end of a turn.
pub const INPUTS_MAX: usize = 16;
/// Frames about refused follow-ups in one life; later ones are refused silently.
const COMPLAINTS_MAX: u32 = 64;

/// Why a follow-up is not taken: a stable code and a sentence.
pub type Refused = (&'static str, &'static str);

/// The turns of one box.
#[derive(Debug)]
pub struct Follow {
    open: bool,
    resumes: bool,
    turns_max: u32,
    begun: u32,
    waiting: VecDeque<String>,
    complaints: u32,
}

impl Follow {
    /// Before the first turn.
    pub fn new(job: &Job) -> Self {
        Self {
            open: job.follow_up,
            resumes: !job.runner.session.resume_argv.is_empty(),
            turns_max: job.limits.turns.unwrap_or(u32::MAX),
            begun: 0,
            waiting: VecDeque::new(),
            complaints: 0,
        }
    }

    /// Begins a turn; gives back its number, from 1.
    pub fn begin(&mut self) -> u32 {
        self.begun = self.begun.saturating_add(1);
        self.begun
    }

    /// Keeps a follow-up for the end of the turn.
    ///
    /// Errors: [`Refused`] when this box takes none, no turn is left for it, or too many wait.
    pub fn queue(&mut self, text: String) -> Result<(), Refused> {
        if !self.open {
            return Err(("input_refused", "this run takes no follow-up"));
        }
        if !self.resumes {
            return Err(("input_refused", "this runner cannot resume a session"));
        }
        if self.begun as usize + self.waiting.len() >= self.turns_max as usize {
            return Err(("turn_limit", "no turn is left for a follow-up"));
        }
        if self.waiting.len() >= INPUTS_MAX {
            return Err(("input_full", "too many follow-ups wait"));
        }
        self.waiting.push_back(text);
        Ok(())
    }

    /// The next follow-up that waits.
    pub fn take(&mut self) -> Option<String> {
        self.waiting.pop_front()
    }

    /// Whether it is worth waiting for a follow-up.
    pub fn may_go_on(&self) -> bool {
        self.open && self.resumes && self.begun < self.turns_max
    }

    /// Whether a refusal may still become a frame; counts it.
    pub fn may_complain(&mut self) -> bool {
        self.complaints = self.complaints.saturating_add(1);
        self.complaints <= COMPLAINTS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn follow(open: bool, resumes: bool, turns_max: u32) -> Follow {
        Follow { open, resumes, turns_max, begun: 0, waiting: VecDeque::new(), complaints: 0 }
    }

    #[rstest]
    #[case::taken(follow(true, true, 2), Ok(()))]
    #[case::not_asked_for(follow(false, true, 9), Err("input_refused"))]
    #[case::cannot_resume(follow(true, false, 9), Err("input_refused"))]
    #[case::last_turn(follow(true, true, 1), Err("turn_limit"))]
    fn takes_a_follow_up(#[case] mut follow: Follow, #[case] expected: Result<(), &str>) {
        assert_eq!(follow.begin(), 1);
        assert_eq!(follow.may_go_on(), expected.is_ok());
        assert_eq!(follow.queue("more".into()).map_err(|(code, _)| code), expected);
        assert_eq!(follow.take().is_some(), expected.is_ok());
    }

    #[test]
    fn what_waits_counts_as_turns() {
        let mut follow = follow(true, true, 3);
        follow.begin();
        assert!(follow.queue("2".into()).is_ok() && follow.queue("3".into()).is_ok());
        assert_eq!(follow.queue("4".into()).unwrap_err().0, "turn_limit");
    }

    #[test]
    fn the_queue_and_the_complaints_are_bounded() {
        let mut follow = follow(true, true, u32::MAX);
        let taken = (0..1000).filter(|n| follow.queue(n.to_string()).is_ok()).count();
        assert_eq!(taken, INPUTS_MAX);
        assert_eq!((0..1000).filter(|_| follow.may_complain()).count(), COMPLAINTS_MAX as usize);
    }
}
