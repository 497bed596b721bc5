//! A server's process: started with what its configuration names and nothing of ours, in a process group of its own, and
//! ended with everything that is left in that group. Must never give on the gateway's environment, and never write a line
//! that holds one of the server's secrets into a log.

use super::Command as Asked;
use custody_ports::secrets::SecretText;
use rustix::process::{Pid, Signal, kill_process_group};
use std::os::unix::fs::DirBuilderExt;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::Instant;

/// The longest line of standard error that is read as one: longer than a secret and what is shown together, so that no
/// secret is cut in two and shown by half.
const LINE_BYTES_MAX: u64 = 16 * 1024;
/// What is shown of a line.
const SHOWN_CHARS_MAX: usize = 1_000;
/// The most lines of standard error that are shown in one second; the others are counted.
const LINES_PER_S: u32 = 50;

/// A process that was started, and its three streams.
pub(super) struct Process {
    pub(super) child: Child,
    pub(super) group: Group,
    pub(super) stdin: ChildStdin,
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
}

/// Starts it.
///
/// # Errors
/// The working folder cannot be made, or the program cannot be executed.
pub(super) fn start(asked: &Asked, secrets: &[(String, SecretText)]) -> std::io::Result<Process> {
    let missing = || std::io::Error::from(std::io::ErrorKind::InvalidInput);
    let (program, arguments) = asked.line.split_first().ok_or_else(missing)?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&asked.folder)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(&asked.env)
        .envs(secrets.iter().map(|(name, secret)| (name, secret.expose())))
        .current_dir(&asked.folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
    let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = streams else { return Err(missing()) };
    Ok(Process { child, group, stdin, stdout, stderr })
}

/// The group of a server's process: it and what it started, as long as that did not begin a group of its own. What is left
/// of it when this is dropped is killed.
pub(super) struct Group(Option<Pid>);

impl Group {
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // All of it may have ended in between.
            let _gone = kill_process_group(group, signal);
        }
    }

    /// Kills what is left, once: the number may be another's later.
    pub(super) fn end(&mut self) {
        self.signal(Signal::KILL);
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads standard error to its end, so that a server never waits for it, and shows some of it at `debug`.
pub(super) async fn show(server: String, stderr: ChildStderr, secrets: Vec<SecretText>) {
    let mut reader = BufReader::new(stderr);
    let (mut line, mut inside) = (Vec::new(), false);
    let (mut second, mut shown, mut left_out) = (Instant::now(), 0_u32, 0_u64);
    loop {
        line.clear();
        match (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        // What is beyond the longest line is not shown.
        let rest = std::mem::replace(&mut inside, !line.ends_with(b"\n"));
        if rest {
            continue;
        }
        if second.elapsed() >= Duration::from_secs(1) {
            if left_out > 0 {
                tracing::debug!(server, left_out, "a server of tools wrote more on standard error than is shown");
            }
            (second, shown, left_out) = (Instant::now(), 0, 0);
        }
        if shown == LINES_PER_S {
            left_out += 1;
            continue;
        }
        shown += 1;
        let text = shown_of(&line, &secrets);
        tracing::debug!(server, text, "a server of tools wrote on standard error");
    }
}

/// What is shown of a line.
fn shown_of(line: &[u8], secrets: &[SecretText]) -> String {
    let text = String::from_utf8_lossy(line);
    if secrets.iter().any(|secret| secret.is_in(&text)) {
        return "(a line with a secret in it)".to_owned();
    }
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.trim_end().chars().map(plain).take(SHOWN_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_standard_error_is_shown_in_part_and_never_with_a_secret() {
        let secrets = [SecretText::parse("t4-canary-key").unwrap()];
        assert_eq!(shown_of(b"started \x1b[31mred\r\n", &secrets), "started  [31mred");
        assert_eq!(shown_of(&[b'x'; 2_000], &secrets).len(), SHOWN_CHARS_MAX);
        let late = ["x".repeat(SHOWN_CHARS_MAX - 3), "t4-canary-key".to_owned()].concat();
        for leaks in ["key=t4-canary-key\n", &late] {
            assert_eq!(shown_of(leaks.as_bytes(), &secrets), "(a line with a secret in it)");
        }
    }
}
