//! What processes cost, as the kernel counts it: processor time and resident memory from /proc. Linux only.

use std::path::Path;

/// Kernel clock ticks a second, as every Linux shows them to programs (`USER_HZ`). Source: time(7).
const TICKS: f64 = 100.0;

/// Processor seconds of a process so far; 0 when it is gone.
pub(super) fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    ticks(&stat) / TICKS
}

/// `utime` and `stime`: fields 14 and 15; the name before them may hold anything. Source: proc_pid_stat(5).
fn ticks(stat: &str) -> f64 {
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_ascii_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum()
}

/// Resident bytes of a process in MiB; 0 when it is gone.
pub(super) fn resident_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line.and_then(|l| l.split_ascii_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0.0);
    kib / 1_024.0
}

/// The parent of a process.
pub(super) fn parent(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_costs_something() {
        let pid = std::process::id();
        assert!(resident_mib(pid) > 1.0);
        assert!(cpu_seconds(pid) >= 0.0);
        assert!(parent(pid).is_some());
        assert_eq!(resident_mib(u32::MAX).to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn a_name_may_hold_brackets_and_spaces() {
        let stat = "12 (a) b) S 1 12 12 0 -1 4194560 1 2 3 4 250 50 0 0 20 0";
        assert!((ticks(stat) - 300.0).abs() < f64::EPSILON);
    }
}
