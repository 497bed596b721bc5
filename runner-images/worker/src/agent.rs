//! Starts the agent's process: its own process group, an environment of its own, bounded streams. Must never pass the
//! worker's own environment or descriptors on.

use crate::{
    event::Event,
    outbox::Outbox,
    output::{self, Counts, Shared},
    prepare::Plan,
    protocol::{FrameBody, Stream},
};
use std::{
    io::{self, Write},
    os::unix::process::CommandExt,
    process::{ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

/// Follow-ups that may wait for the agent to read them.
const INPUTS_MAX: usize = 32;

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    /// Its process id, which is its group's id.
    pub pid: u32,
    /// Its standard input, for runners with `stdin: prompt`, until it is closed.
    pub stdin: Option<SyncSender<String>>,
    /// What its reading threads tell.
    pub shared: Shared,
}

/// Starts the process, says so with a `started` frame, and starts the threads that read it.
///
/// Errors: when the program cannot be started, such as absent, not executable, or arguments that are too long.
pub fn start(
    plan: &Plan,
    stream: &Stream,
    counts: &Arc<Mutex<Counts>>,
    outbox: &Arc<Outbox>,
    events: &SyncSender<Event>,
) -> io::Result<Agent> {
    let [program, arguments @ ..] = plan.argv.as_slice() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(&plan.env).process_group(0);
    command.stdin(if plan.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(workspace) = plan.workspace.as_ref().filter(|workspace| workspace.is_dir()) {
        command.current_dir(workspace);
    }
    // Dropping the handle at the end neither waits nor kills: reaping belongs to `process`.
    let mut child = command.spawn()?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    let pid = child.id();
    outbox.push_own(FrameBody::Started { pid, resumed: plan.resumed });
    let shared = Shared::default();
    output::start(stdout, stderr, stream, Arc::clone(counts), &shared, Arc::clone(outbox), events.clone())?;
    let stdin = match (child.stdin.take(), &plan.stdin) {
        (Some(stdin), Some(first)) => Some(feed(stdin, first.clone())?),
        _ => None,
    };
    Ok(Agent { pid, stdin, shared })
}

/// Writes to the agent without making the supervisor wait; standard input closes when the sender is dropped.
fn feed(mut stdin: ChildStdin, first: String) -> io::Result<SyncSender<String>> {
    let (sender, inputs) = sync_channel::<String>(INPUTS_MAX);
    thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        for text in std::iter::once(first).chain(inputs) {
            if stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).is_err() {
                return;
            }
        }
    })?;
    Ok(sender)
}
