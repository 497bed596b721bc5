//! A git repository: a commit that holds the newest checkpoint as the file `checkpoint`, and a push when a remote is
//! named. Plumbing commands only, on the branch that is named and nothing else; no hook of the repository runs, and no
//! working copy is touched. Must never change another branch, and never rewrite one.

use custody_contracts::events::CheckpointSigned;
use custody_ports::clock::Clock;
use custody_ports::outside::{Outside, OutsideError};
use futures::future::BoxFuture;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Bytes of what git says that are kept.
const WORDS_MAX: usize = 300;
const AUTHOR: &str = "Custody";
const EMAIL: &str = "custody@localhost";

/// Which repository, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitPlace {
    /// The repository: bare, or with a working copy that is left alone.
    pub folder: PathBuf,
    /// The branch, for example `custody-checkpoints`.
    pub branch: String,
    /// Every how many checkpoints a commit is made.
    pub every: u64,
    /// The remote that each commit is pushed to.
    pub push: Option<String>,
}

/// A repository that gets checkpoints.
pub struct GitCopy {
    place: GitPlace,
    name: String,
    clock: Arc<dyn Clock>,
}

impl GitCopy {
    /// The repository must be there: a wrong path must not become a new repository that nobody pushes.
    pub fn new(place: GitPlace, clock: Arc<dyn Clock>) -> GitCopy {
        let name = format!("git {} {}", place.folder.display(), place.branch);
        GitCopy { place, name, clock }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let seconds = self.clock.now().0 / 1_000;
        let mut command = Command::new("git");
        // Who pushes may need a home for its keys and an agent; nothing else of our environment is given on.
        let kept = ["PATH", "HOME", "SSH_AUTH_SOCK"].into_iter().filter_map(|n| Some((n, std::env::var_os(n)?)));
        command
            .env_clear()
            .envs(kept)
            .envs([("LC_ALL", "C"), ("GIT_TERMINAL_PROMPT", "0"), ("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")])
            .envs([("GIT_AUTHOR_NAME", AUTHOR), ("GIT_AUTHOR_EMAIL", EMAIL)])
            .envs([("GIT_COMMITTER_NAME", AUTHOR), ("GIT_COMMITTER_EMAIL", EMAIL)])
            .env("GIT_AUTHOR_DATE", format!("{seconds} +0000"))
            .env("GIT_COMMITTER_DATE", format!("{seconds} +0000"))
            .arg("-C")
            .arg(&self.place.folder)
            .args(["-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false", "-c", "gc.auto=0"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn git(&self, arguments: &[&str], input: &str) -> Result<String, OutsideError> {
        let doing = arguments.first().copied().unwrap_or_default();
        let failed = |why: &dyn std::fmt::Display| OutsideError::Unavailable(format!("git {doing}: {why}"));
        let mut child = self.command(arguments).spawn().map_err(|e| failed(&e))?;
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(input.as_bytes()).await {
                // It ended before it read: it says itself why.
                Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {}
                written => written.map_err(|e| failed(&e))?,
            }
        }
        let output = child.wait_with_output().await.map_err(|e| failed(&e))?;
        if !output.status.success() {
            let words: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(WORDS_MAX).collect();
            return Err(failed(&words));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    async fn commit(&self, signed: &CheckpointSigned) -> Result<(), OutsideError> {
        let branch = format!("refs/heads/{}", self.place.branch);
        let before = self.git(&["rev-parse", "--verify", "--quiet", &branch], "").await.ok();
        let blob = self.git(&["hash-object", "-w", "--stdin"], &signed.note).await?;
        let tree = self.git(&["mktree"], &format!("100644 blob {blob}\tcheckpoint\n")).await?;
        let message = format!("checkpoint over {} messages of {}\n", signed.size, signed.origin);
        let commit = match &before {
            Some(parent) => self.git(&["commit-tree", &tree, "-p", parent], &message).await?,
            None => self.git(&["commit-tree", &tree], &message).await?,
        };
        // The old value is named, so that a branch which somebody else moved is not overwritten.
        let old = before.unwrap_or_else(|| "0".repeat(commit.len()));
        self.git(&["update-ref", &branch, &commit, &old], "").await?;
        if let Some(remote) = &self.place.push {
            self.git(&["push", "--quiet", remote, &format!("{branch}:{branch}")], "").await?;
        }
        Ok(())
    }
}

impl Outside for GitCopy {
    fn name(&self) -> &str {
        &self.name
    }
    fn every(&self) -> u64 {
        self.place.every
    }
    fn put<'a>(&'a self, signed: &'a CheckpointSigned) -> BoxFuture<'a, Result<(), OutsideError>> {
        Box::pin(self.commit(signed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint;
    use custody_testkit::fakes::ManualClock;
    use std::path::Path;

    async fn git(folder: &Path, arguments: &[&str]) -> String {
        let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn place(folder: &Path, push: Option<&str>) -> GitCopy {
        let place = GitPlace {
            folder: folder.to_owned(),
            branch: "custody-checkpoints".into(),
            every: 1,
            push: push.map(str::to_owned),
        };
        GitCopy::new(place, Arc::new(ManualClock::at(1_795_000_000_000)))
    }

    #[tokio::test]
    async fn each_checkpoint_is_a_commit_on_its_own_branch_and_is_pushed() {
        let folder = tempfile::tempdir().unwrap();
        let (own, other) = (folder.path().join("own"), folder.path().join("other"));
        for (path, bare) in [(&own, "--no-bare"), (&other, "--bare")] {
            std::fs::create_dir(path).unwrap();
            git(path, if bare == "--bare" { &["init", "-q", "--bare"] } else { &["init", "-q"] }).await;
        }
        git(&own, &["remote", "add", "origin", other.to_str().unwrap()]).await;
        let hook = own.join(".git/hooks/reference-transaction");
        std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
        std::fs::write(&hook, "#!/bin/sh\nexit 1\n").unwrap();
        std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let place = place(&own, Some("origin"));
        for size in [3, 9] {
            place.put(&checkpoint(size)).await.unwrap();
        }
        let log = git(&other, &["log", "--format=%s", "custody-checkpoints"]).await;
        assert_eq!(
            log,
            "checkpoint over 9 messages of custody.test/ledger\ncheckpoint over 3 messages of custody.test/ledger"
        );
        let kept = git(&other, &["show", "custody-checkpoints~1:checkpoint"]).await;
        assert_eq!(kept, checkpoint(3).note.trim());
        assert_eq!(std::fs::read_dir(&own).unwrap().count(), 1, "the working copy is left alone");
    }

    #[tokio::test]
    async fn a_folder_that_is_no_repository_and_a_remote_that_is_gone_are_answers() {
        let folder = tempfile::tempdir().unwrap();
        let error = place(folder.path(), None).put(&checkpoint(1)).await.unwrap_err();
        assert!(matches!(&error, OutsideError::Unavailable(why) if why.contains("not a git repository")), "{error}");
        git(folder.path(), &["init", "-q", "--bare"]).await;
        let error = place(folder.path(), Some("/no/such/place")).put(&checkpoint(1)).await.unwrap_err();
        assert!(matches!(&error, OutsideError::Unavailable(why) if why.contains("git push")), "{error}");
        assert!(git(folder.path(), &["log", "--format=%s", "custody-checkpoints"]).await.contains("over 1 messages"));
    }
}
