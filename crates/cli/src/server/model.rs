//! The local model as a supervised child: it is told to end when we do, by the pipe that it reads.

use crate::error::{CliError, CliResult, exit};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio_util::sync::CancellationToken;

/// How long the model may take to load.
const READY_WAIT: Duration = Duration::from_secs(60);
/// The longest pause before it is started again.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Starts the model and waits until it answers; starts it again whenever it ends, until cancelled.
pub(crate) async fn start(
    program: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    cancel: CancellationToken,
) -> CliResult<tokio::task::JoinHandle<()>> {
    // The pipe is kept apart from the child: waiting for a child closes its standard input.
    let (mut child, mut pipe) = spawn(&program, &socket, &log).await?;
    Ok(tokio::spawn(async move {
        let mut backoff = Duration::from_millis(200);
        loop {
            tokio::select! {
                () = cancel.cancelled() => {
                    drop(pipe);
                    // It ends by itself when the pipe closes; the bound is for one that hangs.
                    if tokio::time::timeout(Duration::from_secs(3), child.wait()).await.is_err() {
                        let _ended = child.kill().await;
                    }
                    return;
                }
                status = child.wait() => tracing::warn!(?status, "local model ended; starting it again"),
            }
            loop {
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = tokio::time::sleep(backoff) => {}
                }
                backoff = (backoff * 2).min(BACKOFF_MAX);
                match spawn(&program, &socket, &log).await {
                    Ok(again) => {
                        (child, pipe) = again;
                        break;
                    }
                    Err(error) => tracing::warn!(%error, "local model not started"),
                }
            }
        }
    }))
}

async fn spawn(program: &Path, socket: &Path, log: &Path) -> CliResult<(Child, ChildStdin)> {
    let failed = |why: String| {
        CliError::new(exit::FAILED, "LOCAL_MODEL", format!("local model {}: {why}", program.display()))
            .hint("configure [model], or repair it with ops/setup, or set local_model.enabled = false")
    };
    let stderr = std::fs::File::create(log).map_err(|e| failed(e.to_string()))?;
    let mut child = Command::new(program)
        .arg("--socket")
        .arg(socket)
        .arg("--exit-with-stdin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    let (Some(stdout), Some(pipe)) = (child.stdout.take(), child.stdin.take()) else {
        return Err(failed("it has no pipes".into()));
    };
    let mut lines = BufReader::new(stdout).lines();
    let ready = async {
        while let Ok(Some(line)) = lines.next_line().await {
            if line.contains("\"ready\"") {
                return true;
            }
        }
        false
    };
    match tokio::time::timeout(READY_WAIT, ready).await {
        Ok(true) => {
            // Whatever it prints later must not fill the pipe.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            Ok((child, pipe))
        }
        Ok(false) => Err(failed(format!("it ended before it was ready; see {}", log.display()))),
        Err(_) => Err(failed(format!("not ready after {} s; see {}", READY_WAIT.as_secs(), log.display()))),
    }
}
