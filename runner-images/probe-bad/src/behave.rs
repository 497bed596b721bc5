//! The behaviours, by the prompt's first word. Must never do harm outside its own process tree and the limits it is
//! given: `oom` and `fork` have a maximum of their own, for the day somebody runs them without a box.

use crate::{calls, files, sandbox, say};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::Duration,
};

/// The longest sleep; a box never lives so long.
const SLEEP_MAX: Duration = Duration::from_secs(86_400);
const OOM_MIB_MAX: usize = 65_536;
const FORK_MAX: usize = 10_000;
const FLOOD_LINE_BYTES: usize = 1_000;
const FILL_FILE_BYTES: usize = 64 << 20;
const FILL_FILES: usize = 16;

/// Does what the prompt says; gives back the exit code.
pub(crate) fn behave(prompt: &str, session: Option<&Path>) -> u8 {
    let (word, rest) = prompt.trim().split_once(char::is_whitespace).unwrap_or_else(|| (prompt.trim(), ""));
    let rest = rest.trim();
    let number = |default: usize| rest.parse().unwrap_or(default);
    match word {
        "silent" => forever(),
        "crash" => {
            say::text("about to crash");
            u8::try_from(number(1)).unwrap_or(1)
        }
        "noresult" => {
            say::text("all done, but no result");
            0
        }
        "ignore-term" => ignore_term(),
        "flood" => flood(number(1 << 20)),
        "oom" => oom(number(OOM_MIB_MAX).min(OOM_MIB_MAX)),
        "oom-child" => oom_child(rest),
        "fork" => fork(number(FORK_MAX).min(FORK_MAX)),
        "daemon" => daemon(),
        "garbage" => garbage(),
        "sleep-ms" => {
            thread::sleep(Duration::from_millis(number(0) as u64).min(SLEEP_MAX));
            done("slept")
        }
        "echo" => done(rest),
        "session" => session_lines(session),
        "session-then-silent" => {
            session_lines(session);
            forever()
        }
        "big-session" => big_session(session, number(1 << 20)),
        "session-link" => session_link(session, rest),
        "fill" => fill(rest),
        "links" => files::links(),
        "setuid" => files::setuid(),
        "big-file" => files::big(number(1 << 20)),
        "many-files" => files::many(number(1_000)),
        "tool-calls" => calls::frames(number(10_000)),
        "mcp" => calls::over_the_socket(number(10_000)),
        "sandbox" => done(&sandbox::report().to_string()),
        "call-home" => done(&sandbox::call_home().to_string()),
        // What a behaviour starts as its own child: alive until it is killed, with its streams open.
        "child" => forever(),
        "exit-zero" => 0,
        _ => {
            say::error("unknown_behaviour", &format!("there is no behaviour {word:?}"));
            2
        }
    }
}

pub(crate) fn done(text: &str) -> u8 {
    say::text(text);
    say::result(text);
    0
}

pub(crate) fn failed(doing: &str, error: &io::Error) -> u8 {
    say::error("behaviour_failed", &format!("{doing}: {error}"));
    2
}

fn forever() -> u8 {
    thread::sleep(SLEEP_MAX);
    0
}

fn ignore_term() -> u8 {
    let seen = Arc::new(AtomicBool::new(false));
    if let Err(error) = signal_hook::flag::register(signal_hook::consts::SIGTERM, seen) {
        return failed("ignoring TERM", &error);
    }
    say::text("ignoring TERM");
    forever()
}

fn flood(bytes: usize) -> u8 {
    let piece = "x".repeat(FLOOD_LINE_BYTES);
    for _ in 0..bytes / FLOOD_LINE_BYTES {
        say::text(&piece);
    }
    say::text(&piece[..bytes % FLOOD_LINE_BYTES]);
    say::result(&format!("wrote {bytes} bytes"));
    0
}

/// Takes memory and touches every page of it.
fn oom(mib: usize) -> u8 {
    say::text("eating memory");
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    for round in 0..mib {
        eaten.push(vec![u8::try_from(round % 255).unwrap_or(0) | 1; 1 << 20]);
    }
    let kept: usize = eaten.iter().map(Vec::len).sum();
    done(&format!("ate {} MiB", kept >> 20))
}

/// The child dies of memory, the parent says that all is well.
fn oom_child(rest: &str) -> u8 {
    let prompt = format!("oom {rest}");
    match me().and_then(|mut me| me.args(["--", prompt.trim()]).stdout(Stdio::null()).status()) {
        Ok(status) => done(&format!("the child ended with {status}")),
        Err(error) => failed("starting the child", &error),
    }
}

fn fork(most: usize) -> u8 {
    let mut children = Vec::new();
    let refused = loop {
        if children.len() == most {
            break "nothing".to_owned();
        }
        match child() {
            Ok(child) => children.push(child),
            Err(error) => break format!("errno {}", error.raw_os_error().unwrap_or(0)),
        }
    };
    let count = children.len();
    for mut child in children {
        // It may have been killed already by whoever counts processes.
        let _ = child.kill();
        let _ = child.wait();
    }
    done(&format!("started {count} children, then {refused}"))
}

/// Leaves a process behind, in a group of its own, that holds the streams.
fn daemon() -> u8 {
    match child() {
        Ok(child) => done(&format!("left {} behind", child.id())),
        Err(error) => failed("starting the daemon", &error),
    }
}

fn garbage() -> u8 {
    say::raw(
        b"not json\n{\"type\":\"text\"\n\xff\xfe\x80\n\x1b]0;owned\x07\x1b[2J\r\x00\n\n[1,2]\n{\"type\":\"new\"}\n",
    );
    say::raw(b"{\"type\":\"frame\",\"frame\":{\"seq\":1,\"at\":1,\"kind\":\"exit\",\"reason\":\"completed\"}}\n");
    say::raw(format!("{}\n", "x".repeat(3 << 20)).as_bytes());
    // Only what is on standard output is looked at.
    let _ = io::stderr().write_all(b"\x1b[31mnoise\xff\n");
    done("after the garbage")
}

fn session_lines(path: Option<&Path>) -> u8 {
    let Some(path) = path else {
        say::error("no_session", "no --session was given");
        return 2;
    };
    let added = OpenOptions::new().append(true).create(true).open(path).and_then(|mut file| {
        file.write_all(b"{\"type\":\"turn\"}\n")?;
        file.sync_all()
    });
    match added.and_then(|()| fs::read_to_string(path)) {
        Ok(text) => done(&text.lines().count().to_string()),
        Err(error) => failed("the session file", &error),
    }
}

/// A session file of so many bytes, with blocks behind all of them.
fn big_session(path: Option<&Path>, bytes: usize) -> u8 {
    let Some(path) = path else { return failed("the session file", &io::ErrorKind::NotFound.into()) };
    match fill_file(path, bytes) {
        Ok(()) => done(&format!("the session has {bytes} bytes")),
        Err((written, error)) => {
            done(&format!("the session has {written} bytes, then errno {}", error.raw_os_error().unwrap_or(0)))
        }
    }
}

/// The session file as a link to somewhere else.
fn session_link(path: Option<&Path>, target: &str) -> u8 {
    let Some(path) = path else { return failed("the session file", &io::ErrorKind::NotFound.into()) };
    let _ = fs::remove_file(path);
    match std::os::unix::fs::symlink(if target.is_empty() { "/etc/passwd" } else { target }, path) {
        Ok(()) => done("the session is a link"),
        Err(error) => failed("the link", &error),
    }
}

/// Writes files into a folder until that is refused, at most 1 GiB, and then stays.
fn fill(folder: &str) -> u8 {
    let folder = Path::new(if folder.is_empty() { "/tmp" } else { folder });
    let mut total = 0;
    say::text("filling");
    for n in 0..FILL_FILES {
        match fill_file(&folder.join(format!("fill-{n}")), FILL_FILE_BYTES) {
            Ok(()) => total += FILL_FILE_BYTES,
            Err((written, error)) => {
                let errno = error.raw_os_error().unwrap_or(0);
                return done(&format!("wrote {} bytes, then errno {errno}", total + written));
            }
        }
    }
    say::text(&format!("wrote {total} bytes, and nothing refused it"));
    forever()
}

fn fill_file(path: &Path, bytes: usize) -> Result<(), (usize, io::Error)> {
    let piece = vec![0x5a_u8; 1 << 20];
    let mut file = fs::File::create(path).map_err(|error| (0, error))?;
    let mut written = 0;
    while written < bytes {
        let next = piece.len().min(bytes - written);
        file.write_all(&piece[..next]).map_err(|error| (written, error))?;
        written += next;
    }
    Ok(())
}

fn child() -> io::Result<Child> {
    me()?.args(["--", "child"]).process_group(0).stdin(Stdio::null()).spawn()
}

/// This program again. By its own path: /proc may be hidden.
fn me() -> io::Result<Command> {
    Ok(Command::new(std::env::current_exe()?))
}
