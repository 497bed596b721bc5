//! The one task that owns a server's process: hands it questions, gives each answer to whoever asked, and ends it when it
//! does not keep to the protocol, when nobody needs it any more, or with the gateway. Must never leave a question without
//! an end, and never say of one that the server may have read that it was not sent.
//!
//! Source: MCP 2025-11-25, "stdio" and "Lifecycle", "Shutdown": the input is closed, then TERM, then KILL.

use super::process::{Group, Process, show};
use crate::upstream::answer;
use crate::upstream::link::{Failed, RUNNING_MAX, holds};
use crate::upstream::told::Changes;
use custody_ports::secrets::SecretText;
use futures::StreamExt;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::sync::CancellationToken;

/// Messages that wait until the server reads them. One that has so many unread does not read.
const WRITES_MAX: usize = 2 * RUNNING_MAX;
/// Questions that wait for this task.
pub(super) const ORDERS_MAX: usize = RUNNING_MAX;
/// What a server may say in one second without having been asked, in bytes. A message counts for [`MESSAGE_BYTES`] more than
/// it has.
const UNASKED_BYTES_MAX: usize = 4 * 1024 * 1024;
const MESSAGE_BYTES: usize = 1_024;
/// The longest id of a server's own question.
const ID_BYTES_MAX: usize = 256;
/// How long what a process wrote before its death is read for: what it left behind may hold its output open.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long a server may take to end when its input is closed, then by TERM, then by KILL.
const STEPS: [(Option<Signal>, Duration); 3] = [
    (None, Duration::from_secs(2)),
    (Some(Signal::TERM), Duration::from_secs(2)),
    (Some(Signal::KILL), Duration::from_secs(1)),
];

/// What this task is asked for.
pub(super) enum Order {
    /// A question, and who waits for its answer.
    Ask { id: u64, line: String, answer: oneshot::Sender<Result<Value, Failed>> },
    /// A message that has no answer.
    Tell(String),
    /// Nobody waits for this one any more: its time is up.
    GaveUp(u64),
}

/// A question that was handed to the server.
struct Open {
    at: Instant,
    answer: oneshot::Sender<Result<Value, Failed>>,
}

pub(super) struct Keeper {
    server: String,
    child: Child,
    group: Group,
    lines: FramedRead<ChildStdout, LinesCodec>,
    line_bytes_max: usize,
    writes: mpsc::Sender<String>,
    /// `None` once it has ended.
    writer: Option<JoinHandle<()>>,
    errors: JoinHandle<()>,
    orders: mpsc::Receiver<Order>,
    open: BTreeMap<u64, Open>,
    /// When the server said something last.
    heard: Instant,
    unasked: Unasked,
    secrets: Vec<SecretText>,
    changes: Changes,
}

impl Keeper {
    pub(super) fn new(
        server: &str,
        process: Process,
        secrets: Vec<SecretText>,
        line_bytes_max: usize,
        orders: mpsc::Receiver<Order>,
        changes: Changes,
    ) -> Keeper {
        let Process { child, group, stdin, stdout, stderr } = process;
        let (writes, lines) = mpsc::channel(WRITES_MAX);
        let codec = LinesCodec::new_with_max_length(line_bytes_max);
        Keeper {
            server: server.to_owned(),
            child,
            group,
            lines: FramedRead::new(stdout, codec),
            line_bytes_max,
            writes,
            writer: Some(tokio::spawn(write(stdin, lines))),
            errors: tokio::spawn(show(server.to_owned(), stderr, secrets.clone())),
            orders,
            open: BTreeMap::new(),
            heard: Instant::now(),
            unasked: Unasked { since: Instant::now(), bytes: 0 },
            secrets,
            changes,
        }
    }

    /// Runs until the process has ended, by itself or because `end` says so.
    pub(super) async fn run(mut self, end: CancellationToken) {
        let why = tokio::select! {
            () = end.cancelled() => Failed::Broken("was ended".into()),
            why = self.serve() => {
                tracing::warn!(server = self.server, code = why.code(), why = why.detail(), "a server of tools is ended");
                why
            }
        };
        // What was not taken was not sent; of what was taken nobody knows how far the server came with it.
        self.orders.close();
        while let Ok(order) = self.orders.try_recv() {
            if let Order::Ask { answer, .. } = order {
                let _gone = answer.send(Err(Failed::Unreachable("is not there any more".into())));
            }
        }
        for open in std::mem::take(&mut self.open).into_values() {
            let _gone = open.answer.send(Err(why.clone()));
        }
        self.end().await;
    }

    /// Until something is wrong with it.
    async fn serve(&mut self) -> Failed {
        let mut died: Option<Instant> = None;
        loop {
            let broke = tokio::select! {
                line = self.lines.next() => match line {
                    Some(Ok(line)) => self.take_in(&line),
                    Some(Err(LinesCodecError::MaxLineLengthExceeded)) => Err(Failed::TooLarge(self.line_bytes_max)),
                    Some(Err(LinesCodecError::Io(_))) => Err(odd("is not text")),
                    None if died.is_some() => Err(Failed::Broken("has ended".into())),
                    None => Err(Failed::Broken("closed its output".into())),
                },
                _status = self.child.wait(), if died.is_none() => {
                    // What it started and left would hold its output open.
                    self.group.end();
                    died = Some(Instant::now() + LAST_WORDS);
                    Ok(())
                }
                () = until(died) => Err(Failed::Broken("has ended".into())),
                () = ended(&mut self.writer), if died.is_none() => Err(Failed::Broken("does not read".into())),
                Some(order) = self.orders.recv(), if died.is_none() => self.carry_out(order),
            };
            if let Err(failed) = broke {
                return failed;
            }
        }
    }

    fn carry_out(&mut self, order: Order) -> Result<(), Failed> {
        match order {
            Order::Ask { id, line, answer } => {
                self.open.retain(|_, open| !open.answer.is_closed());
                if let Err(failed) = self.write(line) {
                    let _gone = answer.send(Err(Failed::Unreachable("does not read".into())));
                    return Err(failed);
                }
                self.open.insert(id, Open { at: Instant::now(), answer });
                Ok(())
            }
            Order::Tell(line) => self.write(line),
            Order::GaveUp(id) => match self.open.remove(&id) {
                // Not a word for as long as one question may take: it hangs, and so would every later question.
                Some(open) if self.heard < open.at => Err(Failed::Broken("said nothing for too long".into())),
                Some(_) => {
                    let params = json!({ "requestId": id, "reason": "no answer in time" });
                    let notice = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params });
                    self.write(notice.to_string())
                }
                None => Ok(()),
            },
        }
    }

    fn write(&self, line: String) -> Result<(), Failed> {
        self.writes.try_send(line).map_err(|_| Failed::Broken("does not read".into()))
    }

    /// One line of the server.
    fn take_in(&mut self, line: &str) -> Result<(), Failed> {
        self.heard = Instant::now();
        if line.trim().is_empty() {
            return self.unasked.take(line.len(), self.heard);
        }
        let message: Value = serde_json::from_str(line).map_err(|_| odd("is not JSON"))?;
        if message["jsonrpc"] != "2.0" {
            return Err(odd("is no message"));
        }
        if let Some(method) = message["method"].as_str() {
            self.unasked.take(line.len(), self.heard)?;
            return match message.get("id") {
                Some(id) => self.reply(id, method),
                None => {
                    self.changes.hear(&message);
                    Ok(())
                }
            };
        }
        // An answer that nobody waits for any more is one of those that came too late.
        let open = message["id"].as_u64().and_then(|id| self.open.remove(&id));
        let Some(open) = open else { return self.unasked.take(line.len(), self.heard) };
        let answer = match self.secrets.iter().any(|secret| holds(&message, secret)) {
            true => Err(Failed::Leaked),
            false => answer::of_message(message),
        };
        let _gone = open.answer.send(answer);
        Ok(())
    }

    /// Answers a question of the server. Nothing is offered to it; it may only ask whether somebody is there.
    fn reply(&mut self, id: &Value, method: &str) -> Result<(), Failed> {
        if !(id.is_u64() || id.is_i64() || id.as_str().is_some_and(|id| id.len() <= ID_BYTES_MAX)) {
            return Err(odd("has no good id"));
        }
        let reply = match method {
            "ping" => json!({ "jsonrpc": "2.0", "id": id, "result": {} }),
            _ => {
                json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32_601, "message": "nothing is offered here" } })
            }
        };
        self.write(reply.to_string())
    }

    /// Ends the process: each step has its time.
    async fn end(mut self) {
        if let Some(writer) = self.writer.take() {
            // With this task goes the server's input.
            writer.abort();
            let _aborted = writer.await;
        }
        let mut output = self.lines.into_inner();
        // A server that is in the middle of a word must not wait for somebody who reads it.
        let draining = tokio::spawn(async move { tokio::io::copy(&mut output, &mut tokio::io::sink()).await });
        for (signal, within) in STEPS {
            if let Some(signal) = signal {
                tracing::debug!(server = self.server, ?signal, "a server of tools does not end by itself");
                self.group.signal(signal);
            }
            if timeout(within, self.child.wait()).await.is_ok() {
                break;
            }
        }
        self.group.end();
        draining.abort();
        self.errors.abort();
    }
}

fn odd(what: &str) -> Failed {
    Failed::Odd(format!("what the tool's server wrote {what}"))
}

/// Until a moment, if there is one.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Until a task has ended that was not known to have.
async fn ended(task: &mut Option<JoinHandle<()>>) {
    match task {
        Some(running) => {
            let _ended = running.await;
            *task = None;
        }
        None => std::future::pending().await,
    }
}

/// Writes message after message; ends, and closes the server's input, when that is not read any more or nobody writes.
async fn write(mut stdin: ChildStdin, mut lines: mpsc::Receiver<String>) {
    while let Some(mut line) = lines.recv().await {
        line.push('\n');
        if stdin.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// What was said in this second without a question.
struct Unasked {
    since: Instant,
    bytes: usize,
}

impl Unasked {
    fn take(&mut self, bytes: usize, now: Instant) -> Result<(), Failed> {
        if now.duration_since(self.since) >= Duration::from_secs(1) {
            *self = Unasked { since: now, bytes: 0 };
        }
        self.bytes = self.bytes.saturating_add(bytes).saturating_add(MESSAGE_BYTES);
        match self.bytes <= UNASKED_BYTES_MAX {
            true => Ok(()),
            false => Err(Failed::Broken("says too much that nobody asked for".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_unasked_in_one_second_has_an_end() {
        let begin = Instant::now();
        let mut unasked = Unasked { since: begin, bytes: 0 };
        let fits = UNASKED_BYTES_MAX / (2 * MESSAGE_BYTES);
        for _ in 0..fits {
            unasked.take(MESSAGE_BYTES, begin).unwrap();
        }
        assert_eq!(unasked.take(0, begin).unwrap_err().code(), "UPSTREAM_BROKE_OFF");
        unasked.take(UNASKED_BYTES_MAX - MESSAGE_BYTES, begin + Duration::from_secs(1)).unwrap();
    }
}
