//! The child process: start, wait until it answers, restart, end. One task owns it.

use super::files::Files;
use super::{START_MAX, STOP_MAX, ServerError, ServerState};
use custody_streams::accounts::{ServerConfig, server_text};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// Ports tried before giving up when each was taken between choosing and listening.
const PORTS_MAX: u32 = 5;
const PROBE: Duration = Duration::from_millis(20);
const PROBE_MAX: Duration = Duration::from_millis(500);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A life longer than this counts as healthy: the next pause is short again.
const HEALTHY: Duration = Duration::from_secs(60);
/// The longest first line of a server that is read.
const INFO_BYTES_MAX: u64 = 64 * 1024;

pub(super) enum Command {
    Stop(oneshot::Sender<()>),
}

pub(super) struct Process {
    binary: PathBuf,
    files: Files,
    address: String,
    server_name: String,
    memory_bytes: Option<u64>,
    child: Child,
    pid: u32,
}

/// The server's first line to a client.
#[derive(Deserialize)]
struct Info {
    server_name: String,
    #[serde(default)]
    jetstream: bool,
}

impl Process {
    /// Writes the configuration and starts the child; `config.port` is filled in. Without a fixed port the folder's
    /// last one is taken, else a free one.
    pub(super) async fn start(
        binary: &Path,
        files: &Files,
        config: &mut ServerConfig,
        fixed: Option<u16>,
        memory_bytes: Option<u64>,
    ) -> Result<Process, ServerError> {
        let mut wanted = fixed.or_else(|| files.saved_port());
        let mut tries = 0;
        loop {
            tries += 1;
            let port = match wanted.take() {
                Some(port) => port,
                None => free_port(&config.host)?,
            };
            config.port = i32::from(port);
            files.replace_config(&server_text(config)?)?;
            let address = format!("{}:{port}", config.host);
            let name = &config.server_name;
            match launch(binary, files, &address, name, memory_bytes).await {
                Ok((child, pid)) => {
                    files.save_port(port)?;
                    return Ok(Process {
                        binary: binary.to_owned(),
                        files: files.clone(),
                        address,
                        server_name: name.clone(),
                        memory_bytes,
                        child,
                        pid,
                    });
                }
                // Somebody else may have the port; another free one is as good unless an operator chose it.
                Err(error) if fixed.is_some() || tries >= PORTS_MAX || port_is_free(&config.host, port) => {
                    return Err(error);
                }
                Err(_) => {}
            }
        }
    }

    pub(super) fn running(&self, restarts: u32) -> ServerState {
        ServerState::Running { pid: self.pid, restarts }
    }

    /// Keeps the child alive until it is stopped or nobody is left.
    pub(super) async fn supervise(mut self, mut commands: mpsc::Receiver<Command>, states: watch::Sender<ServerState>) {
        let mut restarts = 0;
        let mut backoff = BACKOFF_MIN;
        loop {
            let since = Instant::now();
            let ended = tokio::select! {
                ended = self.child.wait() => ended,
                command = commands.recv() => return self.end(command, &states).await,
            };
            if since.elapsed() >= HEALTHY {
                backoff = BACKOFF_MIN;
            }
            let mut why = describe(ended);
            loop {
                let retry_ms = u64::try_from(backoff.as_millis()).unwrap_or(u64::MAX);
                tracing::error!(why, retry_ms, "nats-server is down");
                states.send_replace(ServerState::Down { why, retry_ms });
                tokio::select! {
                    () = tokio::time::sleep(backoff) => {}
                    command = commands.recv() => return self.end(command, &states).await,
                }
                backoff = (backoff * 2).min(BACKOFF_MAX);
                let started = tokio::select! {
                    started = launch(&self.binary, &self.files, &self.address, &self.server_name, self.memory_bytes) => started,
                    command = commands.recv() => return self.end(command, &states).await,
                };
                match started {
                    Ok((child, pid)) => {
                        (self.child, self.pid) = (child, pid);
                        break;
                    }
                    Err(error) => why = error.to_string(),
                }
            }
            restarts += 1;
            tracing::warn!(pid = self.pid, restarts, "nats-server runs again");
            states.send_replace(self.running(restarts));
        }
    }

    async fn end(mut self, command: Option<Command>, states: &watch::Sender<ServerState>) {
        // Killed by the handle's drop when it does not end in time.
        if let Ok(None) = self.child.try_wait() {
            signal(self.pid, Signal::TERM);
            if tokio::time::timeout(STOP_MAX, self.child.wait()).await.is_err() {
                tracing::warn!(pid = self.pid, "nats-server did not end in time and is killed");
                if let Err(error) = self.child.kill().await {
                    tracing::error!(%error, pid = self.pid, "killing nats-server");
                }
            }
        }
        self.files.forget_pid();
        states.send_replace(ServerState::Stopped);
        if let Some(Command::Stop(done)) = command {
            // Whoever asked may have stopped waiting.
            let _ = done.send(());
        }
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended in between.
        let _ = kill_process(pid, signal);
    }
}

fn describe(ended: std::io::Result<ExitStatus>) -> String {
    match ended {
        Ok(status) => format!("it ended with {status}"),
        Err(error) => format!("waiting for it failed: {error}"),
    }
}

fn free_port(host: &str) -> Result<u16, ServerError> {
    let failed = |source| ServerError::File { path: format!("{host}:0"), source };
    let listener = std::net::TcpListener::bind((host, 0)).map_err(failed)?;
    Ok(listener.local_addr().map_err(failed)?.port())
}

fn port_is_free(host: &str, port: u16) -> bool {
    std::net::TcpListener::bind((host, port)).is_ok()
}

/// Starts one child and waits until it answers by its own name; ends it when it does not.
async fn launch(
    binary: &Path,
    files: &Files,
    address: &str,
    server_name: &str,
    memory_bytes: Option<u64>,
) -> Result<(Child, u32), ServerError> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |source| ServerError::File { path, source }
    };
    let errors = File::create(&files.errors).map_err(failed(&files.errors))?;
    let output = errors.try_clone().map_err(failed(&files.errors))?;
    let mut command = tokio::process::Command::new(binary);
    command.arg("-c").arg(&files.config).stdin(Stdio::null()).stdout(output).stderr(errors).env_clear();
    if let Some(bytes) = memory_bytes {
        command.env("GOMEMLIMIT", bytes.to_string());
    }
    // A group of its own: a terminal's Ctrl-C must reach us alone, so that the log outlives what is still appended.
    command.process_group(0).kill_on_drop(true);
    let spawned = command.spawn();
    let mut child = spawned.map_err(|source| ServerError::Execute { path: binary.display().to_string(), source })?;
    let pid = child.id().unwrap_or_default();
    files.save_pid(pid)?;
    let deadline = Instant::now() + START_MAX;
    let why = loop {
        if let Ok(Some(status)) = child.try_wait() {
            files.forget_pid();
            break describe(Ok(status));
        }
        if let Ok(Some(info)) = tokio::time::timeout(PROBE_MAX, first_line(address)).await {
            if info.server_name == server_name && info.jetstream {
                return Ok((child, pid));
            }
            if info.server_name != server_name {
                break format!("{address} is answered by another server, {}", info.server_name);
            }
        }
        if Instant::now() >= deadline {
            break format!("it did not answer on {address} within {} s", START_MAX.as_secs());
        }
        tokio::time::sleep(PROBE).await;
    };
    if let Err(error) = child.kill().await {
        tracing::debug!(%error, pid, "ending a nats-server that did not get ready");
    }
    Err(ServerError::NotReady { why, log: files.last_lines() })
}

/// What the server says first to every client; `None` when nobody of that kind answers.
async fn first_line(address: &str) -> Option<Info> {
    use tokio::io::AsyncReadExt as _;
    let socket = TcpStream::connect(address).await.ok()?;
    let mut line = String::new();
    BufReader::new(socket.take(INFO_BYTES_MAX)).read_line(&mut line).await.ok()?;
    serde_json::from_str(line.strip_prefix("INFO ")?).ok()
}
