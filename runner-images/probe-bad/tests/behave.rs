//! The real binary, outside a box: what it says and how it ends. The behaviours that need limits get small ones.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

use rstest::rstest;
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

fn misbehave(prompt: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_custody-misbehave"));
    command.args(["--", prompt]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

fn run(prompt: &str) -> (Vec<Value>, i32) {
    ended(&mut misbehave(prompt))
}

fn ended(command: &mut Command) -> (Vec<Value>, i32) {
    let output = command.output().unwrap();
    let lines = output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    (lines.collect(), output.status.code().unwrap())
}

fn result(lines: &[Value]) -> &str {
    let last = lines.last().unwrap();
    assert_eq!(last["type"], "result", "{last}");
    last["text"].as_str().unwrap()
}

/// Kills by its id what a test started.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[rstest]
#[case::echo("echo hello \u{1b}[31m world", "hello \u{1b}[31m world")]
#[case::sleep("sleep-ms 1", "slept")]
#[case::memory("oom 8", "ate 8 MiB")]
#[case::memory_of_a_child("oom-child 4", "the child ended with exit status: 0")]
#[case::fork("fork 3", "started 3 children, then nothing")]
#[case::flood("flood 2500", "wrote 2500 bytes")]
#[case::garbage("garbage", "after the garbage")]
fn ends_with_a_result(#[case] prompt: &str, #[case] expected: &str) {
    let (lines, code) = run(prompt);
    assert_eq!((result(&lines), code), (expected, 0));
}

#[rstest]
#[case::crash("crash 7", 7)]
#[case::no_result("noresult", 0)]
#[case::unknown("dance", 2)]
fn ends_without_a_result(#[case] prompt: &str, #[case] expected: i32) {
    let (lines, code) = run(prompt);
    assert_eq!(code, expected);
    assert!(lines.iter().all(|line| line["type"] != "result"), "{lines:?}");
    assert!(!lines.is_empty());
}

#[test]
fn a_flood_is_exactly_as_long_as_it_says() {
    let (lines, _) = run("flood 12345");
    let bytes: usize =
        lines.iter().filter(|line| line["type"] == "text").map(|line| line["text"].as_str().unwrap().len()).sum();
    assert_eq!(bytes, 12_345);
}

#[test]
fn garbage_has_a_huge_line_and_bytes_that_are_no_text() {
    let output = misbehave("garbage").output().unwrap().stdout;
    assert!(output.split(|byte| *byte == b'\n').any(|line| line.len() == 3 << 20));
    assert!(String::from_utf8(output).is_err());
}

#[test]
fn a_session_counts_its_turns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.jsonl");
    for expected in ["1", "2", "3"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_custody-misbehave"));
        let (lines, code) = ended(command.arg("--session").arg(&path).args(["--resume", "--", "session"]));
        assert_eq!((result(&lines), code), (expected, 0));
    }
    assert_eq!(fs::read_to_string(path).unwrap().lines().count(), 3);
}

#[test]
fn term_is_ignored_and_silence_is_not() {
    let ends_by_term = |prompt: &str, speaks: bool| {
        let mut child = Killed(misbehave(prompt).spawn().unwrap());
        let mut out = BufReader::new(child.0.stdout.take().unwrap());
        if speaks {
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            assert!(line.contains("ignoring TERM"), "{line}");
        }
        let pid = child.0.id();
        assert!(Command::new("kill").args(["-TERM", &pid.to_string()]).status().unwrap().success());
        // The signal is delivered when `kill` returns; a process that ignores it stays, one that does not becomes a
        // zombie, which `wait` sees at once.
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim().to_owned();
        let has_handler = u64::from_str_radix(&caught, 16).unwrap() & (1 << 14) != 0;
        if has_handler { None } else { Some(child.0.wait().unwrap().code()) }
    };
    assert_eq!(ends_by_term("ignore-term", true), None);
    assert_eq!(ends_by_term("silent", false), Some(None));
}

#[test]
fn a_daemon_stays_behind() {
    let mut child = Killed(misbehave("daemon").spawn().unwrap());
    let mut line = String::new();
    // Kept to the end: the daemon's parent must be able to write its result.
    let mut out = BufReader::new(child.0.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    let said: Value = serde_json::from_str(&line).unwrap();
    let pid = said["text"].as_str().unwrap().split(' ').nth(1).unwrap().to_owned();
    let code = child.0.wait().unwrap().code();
    let stayed = Path::new(&format!("/proc/{pid}")).exists();
    // Before anything can fail: it would outlive the test by a day.
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    assert_eq!((code, stayed), (Some(0), true));
}

#[test]
fn the_sandbox_report_is_json_and_true() {
    let (lines, code) = run("sandbox");
    assert_eq!(code, 0);
    let report: Value = serde_json::from_str(result(&lines)).unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap().split_whitespace().next().unwrap();
    assert!(report["status"]["uid"].as_str().unwrap().starts_with(uid));
    assert_eq!(report["status"]["cap_eff"].as_str().unwrap().len(), 16);
    assert!(report["interfaces"].as_array().unwrap().contains(&"lo".into()));
    assert_eq!(report["udp_bind"], "ok", "a test machine has a loopback");
    assert_eq!(report["tmp_writable"], "ok");
    assert_eq!(report["gateway_connect"], "errno 2", "there is no gateway here");
    let mounts = report["mounts"].as_array().unwrap();
    assert_eq!(mounts.len(), fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count().min(256));
    assert!(mounts.iter().any(|mount| mount.as_str().unwrap().starts_with("/ ")), "{mounts:?}");
    assert!(!report["environment"].as_array().unwrap().iter().any(|name| name.as_str().unwrap().contains('=')));
    for field in ["root_writable", "tmp_exec", "tcp_loopback", "tcp_outside"] {
        let said = report[field].as_str().unwrap();
        assert!(said == "ok" || said.starts_with("errno "), "{field}: {said}");
    }
    assert!(result(&lines).len() < 60_000, "it fits one result frame");
}
