//! A scripted chat server on a Unix socket and the real agent beside it. Every wait has a deadline.
#![allow(unreachable_pub, reason = "a module of one test binary")]

use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

pub const PATIENCE: Duration = Duration::from_secs(30);

/// What the server does with one request.
#[derive(Clone)]
pub enum Reply {
    /// Status, further headers, body; then the connection is closed.
    Whole(u16, &'static str, String),
    /// A chunked event stream of these chunks, ended properly.
    Stream(Vec<Value>),
    /// The same, but the connection dies after the last chunk.
    Cut(Vec<Value>),
    /// The same as `Stream`, one byte of the body in each chunk.
    Drip(Vec<Value>),
    /// The connection dies without an answer.
    Nothing,
}

pub fn words(text: &str) -> Value {
    json!({ "choices": [{ "index": 0, "delta": { "content": text } }] })
}

pub fn stop(reason: &str) -> Value {
    json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] })
}

pub fn usage(input: u64, output: u64) -> Value {
    json!({ "choices": [], "usage": { "prompt_tokens": input, "completion_tokens": output } })
}

pub fn tool(index: u64, id: &str, name: &str, arguments: &str) -> Value {
    json!({ "choices": [{ "delta": { "tool_calls": [{ "index": index, "id": id, "function": { "name": name, "arguments": arguments } }] } }] })
}

pub fn answer(text: &str) -> Reply {
    Reply::Stream(vec![words(text), stop("stop"), usage(10, 2)])
}

pub fn calls(name: &str, arguments: &str) -> Reply {
    Reply::Stream(vec![tool(0, "c1", name, arguments), stop("tool_calls"), usage(20, 4)])
}

/// A folder with a workspace, a place for the session and the socket.
pub struct Place {
    dir: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("ws")).unwrap();
        fs::write(dir.path().join("ws/notes.txt"), "the code word is heron").unwrap();
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Answers so many requests, and gives back their bodies.
    pub fn serve(&self, replies: Vec<Reply>) -> Receiver<Value> {
        let socket = self.path("gw.sock");
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let (sender, requests) = channel();
        thread::spawn(move || {
            for reply in replies {
                let (stream, _) = listener.accept().unwrap();
                let request = read_request(&stream);
                // The test may have ended already.
                let _ = sender.send(request);
                write_reply(stream, &reply);
            }
        });
        requests
    }

    /// A door with these tools on a socket of its own; gives back what it is asked. A call of `broken` is refused.
    pub fn serve_door(&self, tools: Vec<&'static str>) -> Receiver<Value> {
        let listener = UnixListener::bind(self.path("mcp.sock")).unwrap();
        let (sender, requests) = channel();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let request = read_post(&stream, "/mcp");
                let result = match request["method"].as_str().unwrap() {
                    "initialize" => json!({ "result": { "protocolVersion": "2025-06-18" } }),
                    "tools/list" => {
                        let tool = |name: &&str| json!({ "name": name, "description": "d", "inputSchema": { "type": "object" } });
                        json!({ "result": { "tools": tools.iter().map(tool).collect::<Vec<_>>() } })
                    }
                    "tools/call" if request["params"]["name"] == "broken" => {
                        json!({ "error": { "code": -32001, "message": "TOOL_REFUSED: not today" } })
                    }
                    "tools/call" => {
                        json!({ "result": { "content": [{ "type": "text", "text": "the code word is heron" }], "isError": false } })
                    }
                    _ => Value::Null,
                };
                let reply = match result {
                    Value::Null => Reply::Whole(202, "", String::new()),
                    mut answer => {
                        answer["jsonrpc"] = json!("2.0");
                        answer["id"] = request["id"].clone();
                        Reply::Whole(200, "", answer.to_string())
                    }
                };
                // The test may have ended already.
                let _ = sender.send(request);
                write_reply(stream, &reply);
            }
        });
        requests
    }

    pub fn command(&self, extra: &[&str], prompt: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_custody-agent"));
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.arg("--session").arg(self.path("session.jsonl")).arg("--workspace").arg(self.path("ws"));
        command.arg("--inference").arg(format!("unix:{}", self.path("gw.sock").display())).args(["--model", "m"]);
        command.args(extra).args(["--", prompt]);
        command
    }

    pub fn run(&self, extra: &[&str], prompt: &str) -> Run {
        let mut child = self.command(extra, prompt).spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                child.kill().unwrap();
                panic!("the agent does not end");
            }
            thread::sleep(Duration::from_millis(2));
        }
        Run::from(child.wait_with_output().unwrap())
    }

    /// The messages of the session file, checked for its header.
    pub fn session(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("session.jsonl")).unwrap();
        let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        assert_eq!(lines.next().unwrap()["version"], 1);
        lines.map(|line| line["message"].clone()).collect()
    }
}

pub struct Run {
    pub code: i32,
    pub lines: Vec<Value>,
    pub log: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        Self {
            code: output.status.code().unwrap(),
            lines: lines.map(|line| serde_json::from_slice(line).unwrap()).collect(),
            log: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Run {
    pub fn of(&self, kind: &str) -> Vec<&Value> {
        self.lines.iter().filter(|line| line["type"] == kind).collect()
    }

    pub fn text(&self) -> String {
        self.of("text").iter().map(|line| line["text"].as_str().unwrap()).collect()
    }

    pub fn last(&self) -> &Value {
        self.lines.last().unwrap()
    }
}

pub fn read_request(stream: &UnixStream) -> Value {
    read_post(stream, "/v1/chat/completions")
}

pub fn read_post(stream: &UnixStream, path: &str) -> Value {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0);
    }
    assert!(head.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{head}");
    assert!(!head.to_ascii_lowercase().contains("authorization"), "the box has no credential");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}

/// A client that has what it needs may be gone before everything is written.
pub fn write_reply(mut stream: UnixStream, reply: &Reply) {
    let events = |chunks: &[Value]| -> String { chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect() };
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (body, size, ended) = match reply {
        Reply::Nothing => return,
        Reply::Whole(status, headers, body) => {
            let _ = write!(stream, "HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len());
            return;
        }
        Reply::Stream(chunks) => (events(chunks) + "data: [DONE]\n\n", 4096, true),
        Reply::Drip(chunks) => (events(chunks) + "data: [DONE]\n\n", 1, true),
        Reply::Cut(chunks) => (events(chunks), 4096, false),
    };
    let mut out = head.as_bytes().to_vec();
    for chunk in body.as_bytes().chunks(size) {
        out.extend(format!("{:x}\r\n", chunk.len()).bytes());
        out.extend(chunk);
        out.extend(b"\r\n");
    }
    if ended {
        out.extend(b"0\r\n\r\n");
    }
    let _ = stream.write_all(&out);
}
