//! A gateway on a real Unix socket and the real worker binary, for the tests of both. Every wait has a deadline.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Longer than any correct wait, so that a broken worker fails the test and not the whole run.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A folder with a socket, a home and a session folder.
pub struct Box {
    pub dir: TempDir,
    listener: UnixListener,
}

impl Box {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["gw", "home", "workspace"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let listener = UnixListener::bind(dir.path().join("gw/gw.sock")).unwrap();
        Self { dir, listener }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the worker with nothing but its own variables.
    pub fn worker(&self, extra: &[(&str, &str)]) -> Worker {
        let mut command = Command::new(env!("CARGO_BIN_EXE_custody-worker"));
        command.env_clear().env("PATH", std::env::var("PATH").unwrap()).env("HOME", self.path("home"));
        command.env("CUSTODY_GW_SOCK", self.path("gw/gw.sock")).env("CUSTODY_SECRET", "must not reach the agent");
        command.envs(extra.iter().copied()).stdin(Stdio::null());
        Worker { child: command.spawn().unwrap() }
    }

    /// A gateway that comes back: a new socket file in the same folder.
    pub fn rebind(&mut self) {
        std::fs::remove_file(self.path("gw/gw.sock")).unwrap();
        self.listener = UnixListener::bind(self.path("gw/gw.sock")).unwrap();
    }

    /// Takes the next connection as it is.
    pub fn accept_raw(&self) -> UnixStream {
        self.listener.set_nonblocking(true).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let stream = loop {
            match self.listener.accept() {
                Ok((stream, _)) => break stream,
                Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
                Err(error) => panic!("the worker did not connect: {error}"),
            }
        };
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Takes the next connection through the upgrade and the hello.
    pub fn accept(&self) -> Connection {
        let stream = self.accept_raw();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(reader.read_line(&mut head).unwrap(), 0, "head was {head:?}");
        }
        assert!(head.starts_with("GET /worker HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("Upgrade: custody-box.v2\r\n") && head.contains("Connection: Upgrade\r\n"), "{head}");
        let mut connection = Connection { stream, reader, hello: Value::Null };
        connection.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: custody-box.v2\r\n\r\n");
        connection.hello = connection.line().expect("a hello");
        assert_eq!(connection.hello["type"], "hello");
        assert_eq!(connection.hello["protocol"], "box.v2");
        connection
    }

    /// A job for `/bin/sh -c SCRIPT`, with the test's stream map; `$1` is the prompt.
    pub fn job(&self, script: &str) -> Value {
        json!({
            "dispatch": "d-1", "attempt": 1,
            "session": {"id": "s-1", "path": self.path("session.jsonl"), "resume": false},
            "runner": {
                "name": "test", "version": "1", "image": "@image",
                "argv": ["/bin/sh", "-c", script, "agent", "{{prompt}}"], "env": {}, "stdin": "none",
                "stream": {"format": "jsonl", "map": [
                    {"when": {"/type": "session"}, "frame": "session", "fields": {"agent_session": "/id"}},
                    {"when": {"/type": "text"}, "frame": "text", "fields": {"text": "/text"}},
                    {"when": {"/type": "tool_call"}, "frame": "tool_call", "fields": {"id": "/id", "name": "/name", "args": "/args"}},
                    {"when": {"/type": "tool_result"}, "frame": "tool_result", "fields": {"id": "/id", "ok": "/ok", "text": "/text"}},
                    {"when": {"/type": "usage"}, "frame": "usage", "fields": {"input_tokens": "/in", "output_tokens": "/out"}},
                    {"when": {"/type": "error"}, "frame": "error", "fields": {"code": "/code", "message": "/message"}},
                    {"when": {"/type": "result"}, "frame": "result", "fields": {"text": "/text"}}
                ]},
                "session": {"path": self.path("session.jsonl"), "resume_argv": ["/bin/sh", "-c", script, "agent", "resumed {{session}} {{prompt}}"], "id_from": "path"},
                "inference": "none", "files": [], "licence": "Apache-2.0", "homepage": "https://example.org"
            },
            "prompt": "hello",
            "workspaces": [{"id": "w", "path": self.path("workspace"), "mode": "rw"}],
            "model": "m", "inference_url": "unix:/run/gw/gw.sock",
            "limits": {"wall_ms": 60000, "idle_ms": 60000, "grace_ms": 300, "output_bytes": 100_000_000}
        })
    }

    /// The whole life of one job on one connection: every frame, and the worker's exit code.
    pub fn live(&self, job: &Value) -> (Vec<Value>, i32) {
        let worker = self.worker(&[]);
        let mut connection = self.accept();
        assert_eq!(connection.hello, json!({"type": "hello", "protocol": "box.v2", "dispatch": null, "last_seq": 0}));
        connection.send(&json!({"type": "job", "job": job}));
        let frames = connection.frames_to_exit();
        (frames, worker.code())
    }
}

/// One upgraded connection.
pub struct Connection {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
    pub hello: Value,
}

impl Connection {
    pub fn send(&mut self, message: &Value) {
        self.write(format!("{message}\n").as_bytes());
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn ack(&mut self, seq: u64) {
        self.send(&json!({"type": "ack", "seq": seq}));
    }

    fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        let count = self.reader.by_ref().take(262_145).read_line(&mut line).unwrap();
        assert!(count <= 262_144, "a line of the worker is too long");
        (count > 0).then(|| serde_json::from_str(&line).unwrap())
    }

    /// The next frame, not acknowledged.
    pub fn frame(&mut self) -> Value {
        let line = self.line().expect("a frame before the connection ends");
        assert_eq!(line["type"], "frame", "{line}");
        line["frame"].clone()
    }

    /// `None` when nothing came for so long.
    pub fn frame_within(&mut self, wait: Duration) -> Option<Value> {
        self.stream.set_read_timeout(Some(wait)).unwrap();
        let ready = !self.reader.buffer().is_empty() || self.reader.fill_buf().is_ok();
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        ready.then(|| self.frame())
    }

    /// Frames up to the first of this kind, each acknowledged.
    pub fn frames_to(&mut self, kind: &str) -> Vec<Value> {
        let mut frames = Vec::new();
        loop {
            let frame = self.frame();
            self.ack(frame["seq"].as_u64().unwrap());
            let last = frame["kind"] == kind;
            frames.push(frame);
            if last {
                return frames;
            }
        }
    }

    /// All frames to the exit frame, each acknowledged; checks the numbering, and that nothing follows.
    pub fn frames_to_exit(&mut self) -> Vec<Value> {
        let frames = self.frames_to("exit");
        let first = frames[0]["seq"].as_u64().unwrap();
        for (expected, frame) in (first..).zip(&frames) {
            assert_eq!(frame["seq"], expected);
            assert!(frame["at"].as_u64().unwrap() > 1_600_000_000_000);
        }
        assert_eq!(self.line(), None, "nothing follows the exit frame");
        frames
    }
}

/// The running worker; killed by its id should the test end early.
pub struct Worker {
    child: Child,
}

impl Worker {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn terminate(&self) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// The exit code, within the deadline.
    pub fn code(mut self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().expect("the worker exits by itself");
            }
            assert!(Instant::now() < deadline, "the worker does not end");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The frames without number and time, and without what the kernel counted: a test shares this machine's network.
pub fn bodies(frames: &[Value]) -> Vec<Value> {
    let strip = |frame: &Value| {
        let mut frame = frame.clone();
        let fields = frame.as_object_mut().unwrap();
        fields.remove("seq");
        fields.remove("at");
        fields.remove("network");
        frame
    };
    frames.iter().map(strip).collect()
}

pub fn kinds(frames: &[Value]) -> Vec<&str> {
    frames.iter().map(|frame| frame["kind"].as_str().unwrap()).collect()
}

/// The text of all text frames.
pub fn text(frames: &[Value]) -> String {
    frames.iter().filter(|frame| frame["kind"] == "text").map(|frame| frame["text"].as_str().unwrap()).collect()
}

/// Makes a named pipe that a script can wait on.
pub fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Lets a script that reads the pipe go on. The open waits for the reader.
pub fn release(path: &Path) {
    let (done, opened) = mpsc::channel();
    let path = path.to_owned();
    thread::spawn(move || done.send(std::fs::write(path, "go\n").is_ok()));
    assert!(opened.recv_timeout(PATIENCE).unwrap());
}

/// Waits until a process is gone, or is a zombie of somebody else's.
pub fn gone(pid: u32) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Path::new(&format!("/proc/{pid}")).exists() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
    true
}
