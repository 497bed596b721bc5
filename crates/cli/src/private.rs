//! A private installation: `custody up` as a process of its own, in a folder of its own, with a configuration of its own.
//! For commands that measure or check the platform without touching the one that people use. Must never outlive the
//! command that started it, and never read another state folder.

use crate::client::Target;
use crate::config::Config;
use crate::error::{CliError, CliResult, exit};
use crate::home::Home;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How long `up` may take.
const READY_MAX: Duration = Duration::from_secs(60);
/// How long it may take to end.
const STOP_MAX: Duration = Duration::from_secs(60);

/// One that runs.
pub(crate) struct Private {
    child: tokio::process::Child,
    /// Its own process.
    pub(crate) pid: u32,
    /// Its nats-server.
    pub(crate) nats_pid: Option<u32>,
    /// How to speak to it.
    pub(crate) target: Target,
}

impl Private {
    /// Starts one in a folder, with this configuration file, and waits until it is ready. Its state is in `s` below the
    /// folder, what it says in `up.log`. Safe to call again in the same folder after a stop: the state goes on.
    ///
    /// # Errors
    /// When it ends before it is ready, with its last lines, or is not ready in time.
    pub(crate) async fn start(folder: &Path, config: &Path) -> CliResult<Private> {
        let state = state(folder);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("up.log"))?;
        let mut child = tokio::process::Command::new(std::env::current_exe()?)
            .arg("up")
            .arg("--state")
            .arg(&state)
            .arg("--config")
            .arg(config)
            // What chooses a model or a place for the person's own installation is not for this one.
            .env_remove("CUSTODY_MODEL_URL")
            .env_remove("CUSTODY_STATE")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let home = Home::at(Some(&state))?;
        let until = Instant::now() + READY_MAX;
        let up = loop {
            if let Some(up) = home.up() {
                break up;
            }
            if let Some(status) = child.try_wait()? {
                let text = std::fs::read_to_string(folder.join("up.log")).unwrap_or_default();
                let mut last: Vec<&str> = text.lines().rev().take(3).collect();
                last.reverse();
                let why = format!("custody up ended: {status}: {}", last.join(" | "));
                return Err(CliError::new(exit::FAILED, "NOT_STARTED", why).hint("custody doctor"));
            }
            if Instant::now() >= until {
                return Err(CliError::new(exit::TIMED_OUT, "NOT_READY", "custody up is not ready in time"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let target = Target { home, config: Config::default(), timeout: Duration::from_secs(30) };
        Ok(Private { child, pid: up.pid, nats_pid: up.nats_pid, target })
    }

    /// A command of this binary on it, with this configuration file; its output, or null when that is no document.
    ///
    /// # Errors
    /// When it does not end well, with what it said.
    pub(crate) async fn custody(&self, config: &Path, arguments: &[&str]) -> CliResult<Value> {
        let mut command = tokio::process::Command::new(std::env::current_exe()?);
        command.args(arguments).arg("--state").arg(self.target.home.root()).arg("--config").arg(config);
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
        if !output.status.success() {
            return Err(CliError::new(exit::FAILED, "COMMAND_FAILED", String::from_utf8_lossy(&output.stderr)));
        }
        Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    /// Stops it; its boxes are gone then.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub(crate) async fn stop(mut self) -> CliResult {
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself.
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        match tokio::time::timeout(STOP_MAX, self.child.wait()).await {
            Ok(status) => status.map(drop).map_err(Into::into),
            Err(_) => self.child.kill().await.map_err(Into::into),
        }
    }
}

/// The state folder of the installation in a folder.
pub(crate) fn state(folder: &Path) -> PathBuf {
    folder.join("s")
}

/// Ends what an interrupted one left in its folder.
pub(crate) async fn sweep(folder: &Path) {
    let state = state(folder);
    if state.is_dir()
        && let Ok(program) = std::env::current_exe()
    {
        let down = tokio::process::Command::new(program)
            .arg("down")
            .arg("--state")
            .arg(&state)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let _ended = tokio::time::timeout(STOP_MAX, down).await;
    }
}
