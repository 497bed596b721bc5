//! Very many tool calls: as frames of its own output, and as requests to the gateway. Must never wait long for an answer.

use crate::{behave::done, say};
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

const SOCKET: &str = "/run/gw/gw.sock";
const CALLS_MAX: usize = 1_000_000;
const ANSWER_WAIT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 65_536;

/// So many `tool_call` frames.
pub(crate) fn frames(count: usize) -> u8 {
    for n in 0..count.min(CALLS_MAX) {
        say::tool_call(&format!("c-{n}"), "files.read");
    }
    done(&format!("asked for {count} tool calls"))
}

/// So many requests for a tool, one after another on connections of their own; the result counts what came back.
pub(crate) fn over_the_socket(count: usize) -> u8 {
    let begun = Instant::now();
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for n in 0..count.min(CALLS_MAX) {
        let answer = request(n).unwrap_or_else(|error| format!("errno {}", error.raw_os_error().unwrap_or(0)));
        *answers.entry(answer).or_default() += 1;
    }
    let counted = answers.iter().map(|(answer, n)| format!("{answer}: {n}")).collect::<Vec<_>>().join(", ");
    done(&format!("{count} calls in {} ms: {counted}", begun.elapsed().as_millis()))
}

/// The status of one answer.
fn request(n: usize) -> std::io::Result<String> {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":{n},"method":"tools/call","params":{{"name":"files.read","arguments":{{"path":"a"}}}}}}"#
    );
    let mut socket = UnixStream::connect(SOCKET)?;
    socket.set_read_timeout(Some(ANSWER_WAIT))?;
    socket.set_write_timeout(Some(ANSWER_WAIT))?;
    write!(
        socket,
        "POST /mcp HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let head = String::from_utf8_lossy(&answer);
    Ok(head.split_whitespace().nth(1).unwrap_or("nothing").to_owned())
}
