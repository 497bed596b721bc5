//! Process groups, orphans and the end of everything below the worker. Must never signal a process that is not a
//! descendant of this one.

use crate::verdict::AgentEnd;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, set_child_subreaper, wait};
use std::{collections::BTreeMap, fs, thread, time::Duration};

const KILL_ROUNDS_MAX: u32 = 40;
const KILL_ROUND: Duration = Duration::from_millis(5);

/// Makes orphans below this process its children, as they are for PID 1 anyway.
pub fn adopt_orphans() {
    // Refused only by kernels older than 3.4; PID 1 does not need it.
    let _ = set_child_subreaper(Some(rustix::process::getpid()));
}

/// Reaps every child that has ended, known or adopted.
pub fn reap() -> Vec<(u32, AgentEnd)> {
    let mut ended = Vec::new();
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        let end = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => AgentEnd::Code(code),
            (None, Some(signal)) => AgentEnd::Signal(signal),
            (None, None) => continue,
        };
        ended.push((pid.as_raw_nonzero().get().unsigned_abs(), end));
    }
    ended
}

/// TERM to the agent's process group. A group that is gone is not an error.
pub fn terminate_group(pid: u32) {
    signal_group(pid, Signal::TERM);
}

/// KILL to the agent's process group and to everything else below the worker, whatever group or session it made.
pub fn kill_all(pid: u32) {
    signal_group(pid, Signal::KILL);
    kill_descendants();
}

/// KILL to everything below the worker, again until nothing is left or the rounds are used up.
pub fn kill_descendants() {
    for _ in 0..KILL_ROUNDS_MAX {
        let alive = descendants();
        if alive.is_empty() {
            return;
        }
        for pid in alive {
            // It may have ended since it was listed.
            let _ = kill_process(pid, Signal::KILL);
        }
        thread::sleep(KILL_ROUND);
    }
}

fn signal_group(pid: u32, signal: Signal) {
    let Some(group) = i32::try_from(pid).ok().filter(|pid| *pid > 1).and_then(Pid::from_raw) else { return };
    // The group may have ended already.
    let _ = kill_process_group(group, signal);
}

/// Living processes below this one, from /proc.
fn descendants() -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let parents: BTreeMap<i32, (i32, bool)> = pids
        .filter_map(|pid| Some((pid, parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?)))
        .collect();
    let me = rustix::process::getpid().as_raw_nonzero().get();
    let below_me = |mut pid: i32| {
        // A chain of parents is never longer than the table; a reused number cannot make this loop for ever.
        for _ in 0..parents.len() {
            match parents.get(&pid) {
                Some((parent, _)) if *parent == me => return true,
                Some((parent, _)) => pid = *parent,
                None => return false,
            }
        }
        false
    };
    let alive = parents.iter().filter(|(pid, (_, alive))| *alive && **pid != me && below_me(**pid));
    alive.filter_map(|(pid, _)| Pid::from_raw(*pid)).collect()
}

/// Parent and whether it lives, from `/proc/PID/stat`. The name in parentheses may itself hold parentheses.
fn parse_stat(stat: &str) -> Option<(i32, bool)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    Some((fields.next()?.parse().ok()?, !matches!(state, "Z" | "X")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::running("12 (sh) S 7 12 12 0", Some((7, true)))]
    #[case::zombie("12 (sh) Z 7 12", Some((7, false)))]
    #[case::name_with_parentheses("12 (a) Z 1) R 7 12", Some((7, true)))]
    #[case::cut("12 (sh) S", None)]
    #[case::empty("", None)]
    fn reads_stat(#[case] stat: &str, #[case] expected: Option<(i32, bool)>) {
        assert_eq!(parse_stat(stat), expected);
    }
}
