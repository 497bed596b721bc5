//! The executable and the files of one server's state folder. Must never end a process whose command line does not
//! hold this folder's configuration path.

use super::{STOP_MAX, ServerError};
use custody_streams::guard::{ServerFacts, check_server};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The environment variable that names the executable.
pub const BINARY_ENV: &str = "CUSTODY_NATS_SERVER";
/// Lines of the log that an error repeats.
const LOG_LINES: usize = 12;
/// Bytes at the end of the log that are looked at.
const LOG_BYTES: usize = 16 * 1024;
const POLL: Duration = Duration::from_millis(20);

/// The nats-server executable: `CUSTODY_NATS_SERVER`, else `custody/bin/nats-server` in the user's cache folder, else
/// the first on `PATH`.
///
/// # Errors
/// [`ServerError::NotFound`] with every place looked at.
pub fn find_binary() -> Result<PathBuf, ServerError> {
    let mut looked: Vec<PathBuf> = Vec::new();
    if let Some(path) = std::env::var_os(BINARY_ENV).filter(|p| !p.is_empty()) {
        looked.push(path.into());
    } else {
        let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
        let cache = std::env::var_os("XDG_CACHE_HOME").filter(|p| !p.is_empty()).map(PathBuf::from).or_else(home);
        looked.extend(cache.map(|cache| cache.join("custody/bin/nats-server")));
        let path = std::env::var_os("PATH").unwrap_or_default();
        looked.extend(std::env::split_paths(&path).map(|folder| folder.join("nats-server")));
    }
    if let Some(found) = looked.iter().find(|path| path.is_file()) {
        return Ok(found.clone());
    }
    let looked: Vec<String> = looked.iter().map(|path| path.display().to_string()).collect();
    Err(ServerError::NotFound { looked: looked.join(", ") })
}

/// Runs `nats-server --version` and refuses what the guard refuses.
///
/// # Errors
/// [`ServerError::Version`] by name; [`ServerError::Execute`] when it cannot be run.
pub async fn verify_binary(binary: &Path) -> Result<String, ServerError> {
    let run = tokio::process::Command::new(binary).arg("--version").output();
    let output = run.await.map_err(|source| ServerError::Execute { path: binary.display().to_string(), source })?;
    let text = String::from_utf8_lossy(&output.stdout);
    // `nats-server: v2.15.1`
    let version = text.trim().rsplit(' ').next().unwrap_or_default().trim_start_matches('v').to_owned();
    let facts = ServerFacts {
        version: version.clone(),
        jetstream: true,
        sync_interval_always: Some(true),
        assume_sync_always: false,
    };
    for finding in check_server(&facts) {
        if finding.fatal {
            return Err(ServerError::Version(Box::new(finding)));
        }
        tracing::warn!(code = finding.code, "{}", finding.message);
    }
    Ok(version)
}

/// The files of one state folder, and the lock that makes us its only supervisor.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) config: PathBuf,
    pub(super) store: PathBuf,
    pub(super) log: PathBuf,
    pub(super) errors: PathBuf,
    pid: PathBuf,
    port: PathBuf,
    _lock: Arc<File>,
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> ServerError + '_ {
    move |source| ServerError::File { path: path.display().to_string(), source }
}

impl Files {
    pub(super) fn prepare(folder: &Path) -> Result<Files, ServerError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))?;
        let folder = fs::canonicalize(folder).map_err(failed(folder))?;
        let path = folder.join("nats-server.lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(ServerError::InUse(folder.display().to_string())),
            Err(fs::TryLockError::Error(source)) => return Err(failed(&path)(source)),
        }
        Ok(Files {
            config: folder.join("nats-server.conf"),
            store: folder.join("jetstream"),
            log: folder.join("nats-server.log"),
            errors: folder.join("nats-server.err"),
            pid: folder.join("nats-server.pid"),
            port: folder.join("nats-server.port"),
            _lock: Arc::new(lock),
        })
    }

    /// A name that no server of another state folder has: what answers on our port must say it.
    pub(super) fn server_name(&self) -> String {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(self.config.as_os_str().as_encoded_bytes());
        let hex: String = digest.iter().take(6).map(|b| format!("{b:02x}")).collect();
        ["custody-", &hex].concat()
    }

    /// Writes the configuration whole or not at all, and returns what was there.
    pub(super) fn replace_config(&self, text: &str) -> Result<Option<String>, ServerError> {
        let before = fs::read_to_string(&self.config).ok();
        write_whole(&self.config, text)?;
        Ok(before)
    }

    pub(super) fn saved_port(&self) -> Option<u16> {
        fs::read_to_string(&self.port).ok()?.trim().parse().ok()
    }

    pub(super) fn save_port(&self, port: u16) -> Result<(), ServerError> {
        write_whole(&self.port, &port.to_string())
    }

    pub(super) fn save_pid(&self, pid: u32) -> Result<(), ServerError> {
        write_whole(&self.pid, &pid.to_string())
    }

    pub(super) fn forget_pid(&self) {
        // A file that stays names a process that is gone, or whose command line is not ours.
        let _ = fs::remove_file(&self.pid);
    }

    /// Ends the server that an earlier life left behind: TERM, then KILL.
    pub(super) async fn end_leftover(&self) -> Result<(), ServerError> {
        let pid: Option<i32> = fs::read_to_string(&self.pid).ok().and_then(|text| text.trim().parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw).filter(|pid| self.is_ours(*pid)) else { return Ok(()) };
        tracing::warn!(pid = pid.as_raw_nonzero().get(), "ending a nats-server that an earlier run left behind");
        for signal in [Signal::TERM, Signal::KILL] {
            // It may end by itself in between.
            let _ = kill_process(pid, signal);
            let deadline = tokio::time::Instant::now() + STOP_MAX;
            while self.is_ours(pid) && tokio::time::Instant::now() < deadline {
                tokio::time::sleep(POLL).await;
            }
            if !self.is_ours(pid) {
                self.forget_pid();
                return Ok(());
            }
        }
        Err(ServerError::InUse(self.store.display().to_string()))
    }

    /// Whether a process was started with this folder's configuration.
    fn is_ours(&self, pid: Pid) -> bool {
        let path = format!("/proc/{}/cmdline", pid.as_raw_nonzero());
        let Ok(line) = fs::read(path) else { return false };
        line.split(|b| *b == 0).any(|argument| argument == self.config.as_os_str().as_encoded_bytes())
    }

    /// The last lines of what the server wrote.
    pub(super) fn last_lines(&self) -> String {
        let mut lines = Vec::new();
        for path in [&self.log, &self.errors] {
            let bytes = fs::read(path).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_BYTES)..]).into_owned();
            let kept: Vec<&str> = text.lines().rev().take(LOG_LINES).collect();
            lines.extend(kept.into_iter().rev().map(str::to_owned));
        }
        lines.join("\n")
    }
}

fn write_whole(path: &Path, text: &str) -> Result<(), ServerError> {
    let next = path.with_extension("next");
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true).mode(0o600);
    let mut file = options.open(&next).map_err(failed(&next))?;
    file.write_all(text.as_bytes()).map_err(failed(&next))?;
    file.sync_all().map_err(failed(&next))?;
    fs::rename(&next, path).map_err(failed(path))
}
