//! One bare repository on this machine: what of a workspace was fetched so far, and what is being made. Every call is
//! synchronous and bounded. Must never keep a commit as more than an id: which one counts is the head's to say.

use crate::git::{ANSWER_BYTES_MAX, Git, Who, failed};
use crate::heads::is_commit;
use crate::names::{quoted, shown};
use crate::trees::Trees;
use crate::walk::{self, Item, Kind};
use custody_contracts::canonical::digest;
use custody_ports::objects::OBJECT_BYTES_MAX;
use custody_ports::workspaces::{Entry, Logged, Merged, NewCommit, Snapshot, WorkspaceError, WorkspaceLimits};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Git's id of the tree that holds nothing. Source: `git mktree </dev/null`.
pub(crate) const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
/// Bytes that unpacked objects of one pack may have, told to git as its input's limit.
const PACK_INPUT_MAX: u64 = OBJECT_BYTES_MAX;
/// Conflicts that are named.
const CONFLICTS_MAX: usize = 50;

#[derive(Debug, Clone)]
pub(crate) struct Repository {
    pub(crate) git: Git,
    pub(crate) workspace: String,
    pub(crate) trees: Trees,
}

impl Repository {
    fn corrupt(&self, why: impl Into<String>) -> WorkspaceError {
        WorkspaceError::Corrupt { workspace: self.workspace.clone(), why: why.into() }
    }

    /// Takes in a pack. Its objects are checked as git's fsck checks them.
    pub(crate) fn take_in(&self, pack: Vec<u8>) -> Result<(), WorkspaceError> {
        let most = format!("--max-input-size={PACK_INPUT_MAX}");
        let running = self.git.stream("git index-pack", &["index-pack", "--stdin", "--fsck-objects", &most])?;
        let answer = running.feed(move |to| to.write_all(&pack), ANSWER_BYTES_MAX)?;
        answer.good("reading a stored pack").map(drop).map_err(|e| self.corrupt(e.to_string()))
    }

    /// The first commit of every workspace of this id: nothing in it, the same on every machine.
    pub(crate) fn root_commit(&self) -> Result<String, WorkspaceError> {
        self.git.ask("making the empty tree", &["mktree"], &[])?;
        let custody = Who { name: "Custody", email: "custody@custody.invalid" };
        let message = format!("Workspace {}\n", self.workspace);
        self.git.commit_tree(EMPTY_TREE, None, &custody, &custody, 0, &message)
    }

    /// Everything in a commit, and the digest over the list.
    pub(crate) fn entries(&self, commit: &str) -> Result<(Vec<Entry>, String), WorkspaceError> {
        if let Some(before) = self.trees.list(commit) {
            return Ok(before);
        }
        let list = self.list(commit)?;
        if is_commit(commit) {
            self.trees.listed(commit, &list);
        }
        Ok(list)
    }

    fn list(&self, commit: &str) -> Result<(Vec<Entry>, String), WorkspaceError> {
        let out = self.git.ask("listing a tree", &["ls-tree", "-r", "-z", "-l", "--full-tree", commit], &[])?;
        let mut entries = Vec::new();
        let mut listed = Vec::new();
        for line in out.split(|b| *b == 0).filter(|l| !l.is_empty()) {
            let tab = line.iter().position(|b| *b == b'\t').ok_or_else(|| self.corrupt("a tree"))?;
            let (facts, path) = (&line[..tab], &line[tab + 1..]);
            let facts = String::from_utf8_lossy(facts);
            let parts: Vec<&str> = facts.split_ascii_whitespace().collect();
            let [mode, _, id, bytes] = parts.as_slice() else { return Err(self.corrupt("a tree's entry")) };
            if !matches!(*mode, "100644" | "100755" | "120000" | "160000" | "100664") {
                return Err(self.corrupt(format!("{} has mode {mode}", shown(path))));
            }
            let path = String::from_utf8(path.to_vec()).map_err(|_| self.corrupt("a path that is not UTF-8"))?;
            listed.extend_from_slice(format!("{mode} {id} {path}\0").as_bytes());
            let bytes = bytes.parse().unwrap_or(0);
            entries.push(Entry { path, mode: (*mode).to_owned(), id: (*id).to_owned(), bytes });
        }
        Ok((entries, digest(&listed)))
    }

    fn tree_of(&self, commit: &str) -> Result<String, WorkspaceError> {
        if let Some(before) = self.trees.id(commit) {
            return Ok(before);
        }
        let name = ["", commit, "^{tree}"].concat();
        let tree = self.git.line("finding a tree", &["rev-parse", "--verify", "--end-of-options", &name], &[])?;
        if is_commit(commit) {
            self.trees.named(commit, &tree);
        }
        Ok(tree)
    }

    /// A working copy as a tree.
    pub(crate) fn snapshot(
        &self,
        base: &str,
        folder: &Path,
        limits: &WorkspaceLimits,
    ) -> Result<Snapshot, WorkspaceError> {
        let scan = walk::scan(folder, limits)?;
        // What is no file here (a submodule's pointer) stays as the base has it, unless something stands in its place.
        let kept: Vec<Entry> = self.entries(base)?.0.into_iter().filter(|e| e.mode == "160000").collect();
        let free = |e: &Entry| {
            let below = [e.path.as_bytes(), b"/"].concat();
            !scan.items.iter().any(|i| i.path == e.path.as_bytes() || i.path.starts_with(&below))
        };
        let kept: Vec<Entry> = kept.into_iter().filter(free).collect();
        let before = self.tree_of(base)?;
        if scan.items.is_empty() && kept.is_empty() {
            let unchanged = before == EMPTY_TREE;
            return Ok(Snapshot { tree: EMPTY_TREE.to_owned(), unchanged, left_out: scan.left_out });
        }
        let root = walk::root(folder)?;
        let items = scan.items;
        let tree = self.import(base, true, move |to| {
            for entry in &kept {
                to.write_all(format!("M 160000 {} ", entry.id).as_bytes())?;
                to.write_all(&quoted(entry.path.as_bytes()))?;
                to.write_all(b"\n")?;
            }
            items.iter().try_for_each(|item| feed(to, &root, item))
        })?;
        Ok(Snapshot { unchanged: tree == before, tree, left_out: scan.left_out })
    }

    /// The tree of `base` with one file in place of what was there.
    pub(crate) fn with_file(&self, base: &str, path: &str, bytes: Vec<u8>) -> Result<Snapshot, WorkspaceError> {
        if let Some(why) = crate::names::bad_path(path.as_bytes()) {
            return Err(failed("putting a file", format!("{}: {why}", shown(path.as_bytes()))));
        }
        let before = self.tree_of(base)?;
        let path = quoted(path.as_bytes());
        let tree =
            self.import(base, false, move |to| put(to, b"100644", &path, bytes.len() as u64, &mut bytes.as_slice()))?;
        Ok(Snapshot { unchanged: tree == before, tree, left_out: Vec::new() })
    }

    /// A tree through `git fast-import`: contents go in as they are, no attribute or filter is looked at.
    fn import<F>(&self, base: &str, anew: bool, write: F) -> Result<String, WorkspaceError>
    where
        F: FnOnce(&mut dyn Write) -> std::io::Result<()> + Send + 'static,
    {
        const DOING: &str = "making a tree";
        let scratch = tempfile::Builder::new().prefix("snap-").rand_bytes(12).tempdir_in(self.git.dir());
        let scratch = scratch.map_err(|e| failed(DOING, e))?;
        let name = scratch.path().file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let begin = format!(
            "commit refs/custody/{name}\ncommitter Custody <custody@custody.invalid> 0 +0000\ndata 0\nfrom {base}\n{}",
            if anew { "deleteall\n" } else { "" }
        );
        let running = self.git.stream(DOING, &["fast-import", "--quiet", "--done", "--force"])?;
        let answer = running.feed(
            move |to| {
                let mut to = std::io::BufWriter::with_capacity(1 << 16, to);
                to.write_all(begin.as_bytes())?;
                write(&mut to)?;
                to.write_all(b"ls \"\"\ndone\n")?;
                to.flush()
            },
            4_096,
        );
        // The name was only there because a commit needs one.
        let _gone = std::fs::remove_file(self.git.dir().join("refs/custody").join(&name));
        let out = String::from_utf8_lossy(&answer?.good(DOING)?).into_owned();
        let tree = out.split_ascii_whitespace().nth(2).unwrap_or_default().to_owned();
        if is_commit(&tree) { Ok(tree) } else { Err(failed(DOING, format!("git answered {out:?}"))) }
    }

    /// Three-way merge without a working tree.
    pub(crate) fn merge(&self, base: &str, tree: &str, onto: &str) -> Result<Merged, WorkspaceError> {
        let custody = Who { name: "Custody", email: "custody@custody.invalid" };
        let ours = self.git.commit_tree(tree, Some(base), &custody, &custody, 0, "merge\n")?;
        let args = ["merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", onto, &ours];
        let answer = self.git.call(&args, &[], ANSWER_BYTES_MAX)?;
        if !matches!(answer.code, 0 | 1) {
            return Err(failed("merging", answer.words.trim()));
        }
        let mut parts = answer.out.split(|b| *b == 0).filter(|p| !p.is_empty());
        let merged = parts.next().map(|t| String::from_utf8_lossy(t).trim().to_owned()).unwrap_or_default();
        if answer.code == 1 {
            return Ok(Merged::Conflicts(parts.take(CONFLICTS_MAX).map(shown).collect()));
        }
        if is_commit(&merged) { Ok(Merged::Clean(merged)) } else { Err(failed("merging", "git named no tree")) }
    }

    pub(crate) fn commit(&self, new: &NewCommit) -> Result<String, WorkspaceError> {
        let (author, committer) = (address(&new.author), address(&new.committer));
        self.git.commit_tree(
            &new.tree,
            Some(&new.parent),
            &Who { name: &clean(&new.author), email: &author },
            &Who { name: &clean(&new.committer), email: &committer },
            new.time,
            &new.message,
        )
    }

    /// What a commit adds to those that are stored; `None` when it adds nothing.
    pub(crate) fn pack(&self, commit: &str, stored: &[&str], most: u64) -> Result<Option<Vec<u8>>, WorkspaceError> {
        let mut revs = format!("{commit}\n");
        stored.iter().for_each(|s| revs.push_str(&format!("^{s}\n")));
        self.pack_revs(&revs, most)
    }

    /// Everything that these commits reach, as one pack.
    pub(crate) fn pack_all(&self, commits: &[&str]) -> Result<Option<Vec<u8>>, WorkspaceError> {
        self.pack_revs(&commits.iter().map(|c| format!("{c}\n")).collect::<String>(), OBJECT_BYTES_MAX)
    }

    fn pack_revs(&self, revs: &str, most: u64) -> Result<Option<Vec<u8>>, WorkspaceError> {
        let args = ["pack-objects", "--revs", "--stdout", "--delta-base-offset", "-q"];
        let answer = self.git.call(&args, revs.as_bytes(), most).map_err(|e| match e {
            WorkspaceError::TooLarge { .. } => WorkspaceError::TooLarge {
                code: "COMMIT_TOO_LARGE",
                why: format!("packed, it adds more than {most} bytes"),
            },
            other => other,
        })?;
        let pack = answer.good("packing")?;
        // Source: gitformat-pack(5): PACK, version, number of objects.
        let objects = pack.get(8..12).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes);
        Ok((objects > 0).then_some(pack))
    }

    pub(crate) fn log(&self, commit: &str, since: Option<&str>, most: usize) -> Result<Vec<Logged>, WorkspaceError> {
        let format = "--format=%H%x1f%an%x1f%cn%x1f%ct%x1f%s%x1f%(trailers:key=Dispatch-Id,valueonly,separator=%x2C)\
                      %x1f%(trailers:key=Effect-Id,valueonly,separator=%x2C)%x1e";
        let range = since.map_or_else(|| commit.to_owned(), |since| format!("{since}..{commit}"));
        let count = format!("--max-count={most}");
        let args =
            ["log", "--no-color", "--no-mailmap", "--no-show-signature", &count, format, "--end-of-options", &range];
        let out = self.git.ask("reading a history", &args, &[])?;
        let text = String::from_utf8_lossy(&out).into_owned();
        let none = |s: &str| (!s.is_empty()).then(|| s.to_owned());
        let mut found = Vec::new();
        for line in text.split('\x1e').map(str::trim_start).filter(|l| !l.is_empty()) {
            let parts: Vec<&str> = line.split('\x1f').collect();
            let [commit, author, committer, time, subject, dispatch, effect] = parts.as_slice() else { continue };
            found.push(Logged {
                commit: (*commit).to_owned(),
                author: (*author).to_owned(),
                committer: (*committer).to_owned(),
                time: time.parse().unwrap_or(0),
                subject: subject.chars().take(200).collect(),
                dispatch: none(dispatch),
                effect: none(effect),
            });
        }
        Ok(found)
    }

    pub(crate) fn file(&self, commit: &str, path: &str, most: u64) -> Result<Vec<u8>, WorkspaceError> {
        let missing = || WorkspaceError::Missing(format!("file {} in {commit}", shown(path.as_bytes())));
        if crate::names::bad_path(path.as_bytes()).is_some() {
            return Err(missing());
        }
        let name = [commit, ":", path].concat();
        let answer = self.git.call(&["cat-file", "blob", &name], &[], most)?;
        if answer.code == 0 { Ok(answer.out) } else { Err(missing()) }
    }

    /// A bundle needs a branch by name; the name is written for the call, and whoever comes next writes it again.
    pub(crate) fn bundle(&self, commit: &str, branch: &str) -> Result<Vec<u8>, WorkspaceError> {
        const DOING: &str = "making a bundle";
        let name = ["refs/heads/", branch].concat();
        self.git.ask(DOING, &["update-ref", &name, commit], &[])?;
        self.git.call(&["bundle", "create", "--quiet", "-", &name], &[], OBJECT_BYTES_MAX)?.good(DOING)
    }

    /// Whether a commit is a tip or came before it; what is not stored here is not.
    pub(crate) fn reaches(&self, tip: &str, commit: &str) -> Result<bool, WorkspaceError> {
        if !is_commit(tip) || !is_commit(commit) {
            return Ok(false);
        }
        let answer = self.git.call(&["merge-base", "--is-ancestor", commit, tip], &[], ANSWER_BYTES_MAX)?;
        match answer.code {
            0 => Ok(true),
            // 128: one of them is no commit that is stored here.
            1 | 128 => Ok(false),
            _ => Err(failed("looking for a commit", answer.words.trim())),
        }
    }

    pub(crate) fn diff(&self, from: &str, to: &str, most: u64) -> Result<String, WorkspaceError> {
        let args = ["diff-tree", "-r", "-p", "--no-color", "--no-ext-diff", "--no-textconv", "--stat", "-M", from, to];
        let out = self.git.call(&args, &[], most)?.good("comparing")?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }
}

/// One item as `git fast-import` takes it.
fn feed(to: &mut dyn Write, root: &OwnedFd, item: &Item) -> std::io::Result<()> {
    let path = quoted(&item.path);
    match &item.kind {
        Kind::Link { target } => put(to, b"120000", &path, target.len() as u64, &mut target.as_slice()),
        Kind::File { bytes, executable } => {
            let mode: &[u8] = if *executable { b"100755" } else { b"100644" };
            put(to, mode, &path, *bytes, &mut walk::file(root, &item.path)?)
        }
    }
}

fn put(to: &mut dyn Write, mode: &[u8], path: &[u8], bytes: u64, from: &mut dyn Read) -> std::io::Result<()> {
    to.write_all(&[b"M ", mode, b" inline ", path, format!("\ndata {bytes}\n").as_bytes()].concat())?;
    if std::io::copy(&mut from.take(bytes), to)? != bytes {
        return Err(std::io::Error::other("a file is shorter than it was"));
    }
    to.write_all(b"\n")
}

/// A name without what git cuts or refuses.
fn clean(name: &str) -> String {
    let clean: String = name.chars().filter(|c| !c.is_control() && !"<>\n".contains(*c)).take(128).collect();
    if clean.trim().is_empty() { "nobody".into() } else { clean }
}

/// An address that belongs to nobody. Source: RFC 2606, `.invalid`.
fn address(name: &str) -> String {
    let local: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
    format!("{local}@custody.invalid")
}
