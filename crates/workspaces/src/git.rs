//! The `git` program, called so that nothing in a repository can make it run or reach anything: only plumbing commands on
//! a bare repository of ours, no configuration but ours, no hooks, no protocols, no attributes of the system, an empty
//! environment. Why the program and not a library: it is installed and patched by the distribution, its packs and merges
//! are the reference, `merge-tree --write-tree` (2.38) merges without a working tree, and it dies alone when it meets
//! something hostile. Must never be given a working tree, a remote or a path of a working copy.

use custody_ports::workspaces::WorkspaceError;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// The longest that one call may take.
const CALL_MAX: Duration = Duration::from_secs(120);
/// Bytes of what git says went wrong that are kept.
const WORDS_BYTES_MAX: u64 = 4_096;
/// Bytes of an ordinary answer.
pub(crate) const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// One bare repository and the program that works on it.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    program: PathBuf,
    dir: PathBuf,
}

/// What a call gave.
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) words: String,
}

/// A person or program in a commit.
pub(crate) struct Who<'a> {
    pub(crate) name: &'a str,
    pub(crate) email: &'a str,
}

pub(crate) fn failed(doing: &'static str, why: impl std::fmt::Display) -> WorkspaceError {
    WorkspaceError::Failed { doing, why: why.to_string().chars().take(400).collect() }
}

/// Where the program is.
///
/// # Errors
/// When there is none on the path.
pub(crate) fn find_program() -> Result<PathBuf, WorkspaceError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|p| p.join("git")).find(|p| p.is_absolute() && p.is_file());
    found.ok_or_else(|| failed("finding git", "there is no git on the path; ops/setup installs it"))
}

impl Git {
    pub(crate) fn new(program: &Path, dir: &Path) -> Git {
        Git { program: program.to_owned(), dir: dir.to_owned() }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the repository if it is not there.
    pub(crate) fn init(&self) -> Result<(), WorkspaceError> {
        if self.dir.join("HEAD").is_file() {
            return Ok(());
        }
        std::fs::create_dir_all(&self.dir).map_err(|e| failed("making a repository", e))?;
        let mut command = self.bare_command();
        command.env_remove("GIT_DIR");
        command.args(["init", "--quiet", "--bare", "--template=", "--initial-branch=trunk"]).arg(&self.dir);
        self.finish("git init", command, &[], ANSWER_BYTES_MAX)?.good("making a repository").map(drop)
    }

    fn bare_command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .envs([
                ("PATH", "/usr/bin:/bin"),
                ("LC_ALL", "C"),
                ("TZ", "UTC"),
                ("HOME", "/nonexistent"),
                ("GIT_CONFIG_NOSYSTEM", "1"),
                ("GIT_CONFIG_SYSTEM", "/dev/null"),
                ("GIT_CONFIG_GLOBAL", "/dev/null"),
                ("GIT_ATTR_NOSYSTEM", "1"),
                ("GIT_NO_REPLACE_OBJECTS", "1"),
                ("GIT_TERMINAL_PROMPT", "0"),
                ("GIT_OPTIONAL_LOCKS", "0"),
                ("GIT_LITERAL_PATHSPECS", "1"),
                // The empty list: no protocol may be used at all.
                ("GIT_ALLOW_PROTOCOL", ""),
            ])
            .env("GIT_DIR", &self.dir)
            .current_dir("/");
        for setting in [
            "core.hooksPath=/dev/null",
            "core.attributesFile=/dev/null",
            "core.excludesFile=/dev/null",
            "core.fsmonitor=false",
            "core.symlinks=false",
            "protocol.allow=never",
            "submodule.recurse=false",
            "gc.auto=0",
            "maintenance.auto=false",
            "pack.threads=1",
            "pack.windowMemory=64m",
            "core.bigFileThreshold=16m",
            "merge.directoryRenames=false",
            "merge.renameLimit=1000",
            "diff.external=",
            "i18n.logOutputEncoding=UTF-8",
        ] {
            command.args(["-c", setting]);
        }
        command
    }

    /// A call whose input is small and whose answer is at most `most` bytes.
    pub(crate) fn call(&self, args: &[&str], input: &[u8], most: u64) -> Result<Answer, WorkspaceError> {
        let mut command = self.bare_command();
        command.args(args);
        self.finish("git", command, input, most)
    }

    /// As [`Git::call`], and anything but exit code 0 is an error.
    pub(crate) fn ask(&self, doing: &'static str, args: &[&str], input: &[u8]) -> Result<Vec<u8>, WorkspaceError> {
        self.call(args, input, ANSWER_BYTES_MAX)?.good(doing)
    }

    /// As [`Git::ask`], with what is beyond `most` bytes left unread; whether there was more is told.
    pub(crate) fn beginning(
        &self,
        doing: &'static str,
        args: &[&str],
        most: u64,
    ) -> Result<(Vec<u8>, bool), WorkspaceError> {
        let mut running = self.stream(doing, args)?;
        let mut out = Vec::new();
        running.talk(|_| Ok(()), |from| from.take(most + 1).read_to_end(&mut out).map(drop))?;
        let (code, words) = running.end()?;
        if out.len() as u64 > most {
            // It was ended while it still wrote, so its exit code says nothing.
            out.truncate(usize::try_from(most).unwrap_or(usize::MAX));
            return Ok((out, true));
        }
        if code == 0 { Ok((out, false)) } else { Err(failed(doing, words.trim())) }
    }

    /// As [`Git::ask`], for one line of text.
    pub(crate) fn line(&self, doing: &'static str, args: &[&str], input: &[u8]) -> Result<String, WorkspaceError> {
        Ok(String::from_utf8_lossy(&self.ask(doing, args, input)?).trim().to_owned())
    }

    /// A commit.
    pub(crate) fn commit_tree(
        &self,
        tree: &str,
        parent: Option<&str>,
        author: &Who<'_>,
        committer: &Who<'_>,
        time: u64,
        message: &str,
    ) -> Result<String, WorkspaceError> {
        // The sign says that it is seconds: a small number would be taken for a date.
        let date = format!("@{time} +0000");
        let mut command = self.bare_command();
        command
            .env("GIT_AUTHOR_NAME", author.name)
            .env("GIT_AUTHOR_EMAIL", author.email)
            .env("GIT_AUTHOR_DATE", &date)
            .env("GIT_COMMITTER_NAME", committer.name)
            .env("GIT_COMMITTER_EMAIL", committer.email)
            .env("GIT_COMMITTER_DATE", &date)
            .args(["commit-tree", tree]);
        if let Some(parent) = parent {
            command.args(["-p", parent]);
        }
        command.args(["-F", "-"]);
        let out = self.finish("git commit-tree", command, message.as_bytes(), ANSWER_BYTES_MAX)?;
        Ok(String::from_utf8_lossy(&out.good("making a commit")?).trim().to_owned())
    }

    fn finish(
        &self,
        doing: &'static str,
        mut command: Command,
        input: &[u8],
        most: u64,
    ) -> Result<Answer, WorkspaceError> {
        let running = Running::start(doing, &mut command)?;
        let input = input.to_vec();
        running.feed(move |to| to.write_all(&input), most)
    }

    /// A call that is fed as it runs.
    pub(crate) fn stream(&self, doing: &'static str, args: &[&str]) -> Result<Running, WorkspaceError> {
        let mut command = self.bare_command();
        command.args(args);
        Running::start(doing, &mut command)
    }
}

impl Answer {
    pub(crate) fn good(self, doing: &'static str) -> Result<Vec<u8>, WorkspaceError> {
        if self.code == 0 { Ok(self.out) } else { Err(failed(doing, self.words.trim())) }
    }
}

/// A call that runs. It is killed when it takes too long, and when it is dropped before its end.
pub(crate) struct Running {
    doing: &'static str,
    child: Child,
    /// Dropped when the call has ended: then nobody kills a process id that may be another's by now.
    watched: Option<mpsc::Sender<()>>,
}

impl Running {
    fn start(doing: &'static str, command: &mut Command) -> Result<Running, WorkspaceError> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|e| failed(doing, e))?;
        let (sender, receiver) = mpsc::channel();
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            std::thread::spawn(move || {
                if receiver.recv_timeout(CALL_MAX) == Err(mpsc::RecvTimeoutError::Timeout) {
                    // Not waited for yet, so the id is still this child's.
                    let _gone = kill_process(pid, Signal::KILL);
                }
            });
        }
        Ok(Running { doing, child, watched: Some(sender) })
    }

    /// Writes its input, reads its answer of at most `most` bytes, waits for its end.
    pub(crate) fn feed<F>(mut self, write: F, most: u64) -> Result<Answer, WorkspaceError>
    where
        F: FnOnce(&mut dyn Write) -> std::io::Result<()> + Send + 'static,
    {
        let mut out = Vec::new();
        self.talk(write, |from| from.take(most + 1).read_to_end(&mut out).map(drop))?;
        let (code, words) = self.end()?;
        if out.len() as u64 > most {
            return Err(WorkspaceError::TooLarge { code: "ANSWER_TOO_LARGE", why: format!("more than {most} bytes") });
        }
        Ok(Answer { code, out, words })
    }

    /// Writes with one thread and reads with this one, so that neither side waits for ever.
    pub(crate) fn talk<F, R>(&mut self, write: F, read: R) -> Result<(), WorkspaceError>
    where
        F: FnOnce(&mut dyn Write) -> std::io::Result<()> + Send + 'static,
        R: FnOnce(&mut dyn Read) -> std::io::Result<()>,
    {
        let stdin = self.child.stdin.take();
        let writer = std::thread::spawn(move || match stdin {
            Some(mut stdin) => write(&mut stdin),
            None => Ok(()),
        });
        let read = match self.child.stdout.as_mut() {
            Some(stdout) => read(stdout),
            None => Ok(()),
        };
        if read.is_err() {
            let _gone = self.child.kill();
        }
        // Dropping what is left to read ends a child that still writes.
        drop(self.child.stdout.take());
        let wrote = writer.join().map_err(|_| failed(self.doing, "its input could not be written"))?;
        read.map_err(|e| failed(self.doing, e))?;
        match wrote {
            // It ended before it had read everything: its exit code says why.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(|e| failed(self.doing, e)),
        }
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Result<(i32, String), WorkspaceError> {
        let mut words = Vec::new();
        if let Some(stderr) = self.child.stderr.take() {
            // What cannot be read of it is not needed.
            let _cut = stderr.take(WORDS_BYTES_MAX).read_to_end(&mut words);
        }
        let status = self.child.wait().map_err(|e| failed(self.doing, e))?;
        drop(self.watched.take());
        let words = String::from_utf8_lossy(&words).into_owned();
        Ok((status.code().unwrap_or(-1), words))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.watched.take().is_some() {
            let _gone = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}
