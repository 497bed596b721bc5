//! Workspaces in memory, for loops: files by path, commits by number, heads in a list. A merge is by whole files. Never in
//! place of the thing that a claim about git, links or encryption is about: those are made over the adapter.

use custody_contracts::canonical::digest;
use custody_contracts::workspace::Workspace;
use custody_ports::compared::{ChangedFile, Compared, ComparedMax, FileChange};
use custody_ports::workspaces::{
    Change, Entry, Head, LeftOut, Logged, Merged, NewCommit, OpenWorkspace, Owner, Pack, Snapshot, WorkspaceError,
    WorkspaceLimits, Workspaces,
};
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Files = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Default)]
struct Kept {
    heads: Vec<Head>,
    trees: BTreeMap<String, Files>,
    commits: BTreeMap<String, NewCommit>,
    /// The next so many calls of `head` find the bucket away.
    away: u32,
    /// Moves of the trunk that somebody else makes just before the next own ones.
    others: Vec<Files>,
}

/// Workspaces in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryWorkspaces(Arc<Mutex<BTreeMap<String, Kept>>>);

impl MemoryWorkspaces {
    fn with<T>(&self, id: &str, work: impl FnOnce(&mut Kept) -> T) -> T {
        let mut all: MutexGuard<'_, BTreeMap<String, Kept>> = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work(all.entry(id.to_owned()).or_default())
    }

    /// The next so many questions for a head find the bucket away.
    pub fn be_away(&self, id: &str, times: u32) {
        self.with(id, |kept| kept.away = times);
    }

    /// Just before the next own move of the trunk, somebody else lands these files over what is there.
    pub fn land_between(&self, id: &str, files: &[(&str, &str)]) {
        let files = files.iter().map(|(p, b)| ((*p).to_owned(), b.as_bytes().to_vec())).collect();
        self.with(id, |kept| kept.others.push(files));
    }

    /// The trunk's files.
    pub fn trunk(&self, id: &str) -> BTreeMap<String, String> {
        self.with(id, |kept| match kept.heads.last() {
            Some(head) => kept.files(&head.trunk.clone()).iter().map(|(p, b)| (p.clone(), text(b))).collect(),
            None => BTreeMap::new(),
        })
    }

    /// The newest head.
    pub fn newest(&self, id: &str) -> Option<Head> {
        self.with(id, |kept| kept.heads.last().cloned())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Forty digits that stand for something.
fn name(of: &str) -> String {
    digest(of.as_bytes()).chars().skip(7).take(40).collect()
}

impl Kept {
    fn tree(&mut self, files: Files) -> String {
        let listed: String = files.iter().map(|(p, b)| format!("{p} {}\n", digest(b))).collect();
        let id = name(&["tree ", &listed].concat());
        self.trees.insert(id.clone(), files);
        id
    }

    fn add(&mut self, new: &NewCommit) -> String {
        let id = name(&format!("commit {new:?}"));
        self.commits.insert(id.clone(), new.clone());
        id
    }

    fn files(&self, commit: &str) -> Files {
        self.commits.get(commit).and_then(|c| self.trees.get(&c.tree)).cloned().unwrap_or_default()
    }

    fn somebody_else(&mut self, files: Files) {
        let Some(head) = self.heads.last().cloned() else { return };
        let mut all = self.files(&head.trunk);
        all.extend(files);
        let tree = self.tree(all);
        let commit = self.add(&NewCommit {
            tree,
            parent: head.trunk.clone(),
            author: "u_other".into(),
            committer: "other".into(),
            time: 1,
            message: "Somebody else's\n".into(),
        });
        self.heads.push(head.next(String::new(), Change::Trunk(commit), None));
    }
}

/// Whole files against whole files.
fn compared(from: &Files, to: &Files, most: &ComparedMax) -> Compared {
    let paths: std::collections::BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    let changed: Vec<&String> = paths.into_iter().filter(|path| from.get(*path) != to.get(*path)).collect();
    let lines = |files: &Files, path: &str, sign: &str| {
        let text = files.get(path).map(|b| text(b)).unwrap_or_default();
        let signed: Vec<String> = text.lines().map(|line| [sign, line, "\n"].concat()).collect();
        (u64::try_from(signed.len()).unwrap_or(u64::MAX), signed.concat())
    };
    let one = |path: &&String| {
        let ((removed, old), (added, new)) = (lines(from, path, "-"), lines(to, path, "+"));
        let patch = format!("@@ -1,{removed} +1,{added} @@\n{old}{new}");
        let cut = patch.len() > most.patch_bytes;
        let change = match (from.contains_key(*path), to.contains_key(*path)) {
            (false, _) => FileChange::Added,
            (true, false) => FileChange::Deleted,
            (true, true) => FileChange::Modified,
        };
        let patch = if cut { String::new() } else { patch };
        ChangedFile { path: (*path).clone(), before: None, change, added, removed, binary: false, patch, cut }
    };
    let files: Vec<ChangedFile> = changed.iter().take(most.files).map(one).collect();
    let cut = files.len() < changed.len() || files.iter().any(|f| f.cut);
    Compared { files, total: u64::try_from(changed.len()).unwrap_or(u64::MAX), cut }
}

struct Opened {
    all: MemoryWorkspaces,
    id: String,
}

fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

fn read_folder(folder: &Path, at: &str, limits: &WorkspaceLimits, files: &mut Files, left_out: &mut Vec<LeftOut>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if at.is_empty() { name } else { [at, "/", &name].concat() };
        let Ok(facts) = std::fs::symlink_metadata(entry.path()) else { continue };
        if facts.is_dir() {
            read_folder(&entry.path(), &path, limits, files, left_out);
        } else if facts.len() > limits.file_bytes {
            left_out.push(LeftOut { code: "BLOB_TOO_LARGE", path, detail: format!("{} bytes", facts.len()) });
        } else if let Ok(bytes) = std::fs::read(entry.path()) {
            files.insert(path, bytes);
        }
    }
}

impl Workspaces for MemoryWorkspaces {
    fn open<'a>(&'a self, workspace: &'a Workspace) -> BoxFuture<'a, Result<Box<dyn OpenWorkspace>, WorkspaceError>> {
        let opened = Opened { all: self.clone(), id: workspace.id.to_string() };
        ready(Ok(Box::new(opened) as Box<dyn OpenWorkspace>))
    }
}

impl OpenWorkspace for Opened {
    fn found(&self) -> BoxFuture<'_, Result<Head, WorkspaceError>> {
        ready(self.all.with(&self.id, |kept| {
            if let Some(head) = kept.heads.last() {
                return Ok(head.clone());
            }
            let tree = kept.tree(Files::new());
            let trunk = kept.add(&NewCommit {
                tree,
                parent: String::new(),
                author: "Custody".into(),
                committer: "Custody".into(),
                time: 0,
                message: "Workspace\n".into(),
            });
            let head = Head { n: 1, previous: String::new(), trunk, proposals: BTreeMap::new(), packs: Vec::new() };
            kept.heads.push(head.clone());
            Ok(head)
        }))
    }

    fn head(&self) -> BoxFuture<'_, Result<Head, WorkspaceError>> {
        ready(self.all.with(&self.id, |kept| {
            if kept.away > 0 {
                kept.away -= 1;
                return Err(WorkspaceError::Unavailable { workspace: self.id.clone(), why: "away".into() });
            }
            kept.heads.last().cloned().ok_or_else(|| WorkspaceError::Empty(self.id.clone()))
        }))
    }

    fn check_out<'a>(
        &'a self,
        _head: &'a Head,
        commit: &'a str,
        folder: &'a Path,
        _owner: Owner,
        _limits: WorkspaceLimits,
    ) -> BoxFuture<'a, Result<(), WorkspaceError>> {
        let files = self.all.with(&self.id, |kept| kept.files(commit));
        let write = |(path, bytes): (String, Vec<u8>)| -> std::io::Result<()> {
            let path = folder.join(path);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(path, bytes)
        };
        let done = files.into_iter().try_for_each(write);
        ready(done.map_err(|e| WorkspaceError::Failed { doing: "writing", why: e.to_string() }))
    }

    fn snapshot<'a>(
        &'a self,
        _head: &'a Head,
        base: &'a str,
        folder: &'a Path,
        limits: WorkspaceLimits,
    ) -> BoxFuture<'a, Result<Snapshot, WorkspaceError>> {
        let (mut files, mut left_out) = (Files::new(), Vec::new());
        read_folder(folder, "", &limits, &mut files, &mut left_out);
        ready(Ok(self.all.with(&self.id, |kept| {
            let unchanged = kept.files(base) == files;
            Snapshot { tree: kept.tree(files), unchanged, left_out }
        })))
    }

    fn with_file<'a>(
        &'a self,
        _head: &'a Head,
        base: &'a str,
        path: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<Snapshot, WorkspaceError>> {
        ready(Ok(self.all.with(&self.id, |kept| {
            let before = kept.files(base);
            let mut files = before.clone();
            files.insert(path.to_owned(), bytes);
            let unchanged = files == before;
            Snapshot { tree: kept.tree(files), unchanged, left_out: Vec::new() }
        })))
    }

    fn merge<'a>(
        &'a self,
        _head: &'a Head,
        base: &'a str,
        tree: &'a str,
        onto: &'a str,
    ) -> BoxFuture<'a, Result<Merged, WorkspaceError>> {
        ready(Ok(self.all.with(&self.id, |kept| {
            let (base, ours, theirs) =
                (kept.files(base), kept.trees.get(tree).cloned().unwrap_or_default(), kept.files(onto));
            let mut merged = theirs.clone();
            let mut conflicts = Vec::new();
            let paths: std::collections::BTreeSet<&String> = base.keys().chain(ours.keys()).collect();
            for path in paths {
                let (before, mine, other) = (base.get(path), ours.get(path), theirs.get(path));
                if mine == before || mine == other {
                    continue;
                }
                match (other == before, mine) {
                    (false, _) => conflicts.push(path.clone()),
                    (true, Some(bytes)) => drop(merged.insert(path.clone(), bytes.clone())),
                    (true, None) => drop(merged.remove(path)),
                }
            }
            if conflicts.is_empty() { Merged::Clean(kept.tree(merged)) } else { Merged::Conflicts(conflicts) }
        })))
    }

    fn commit<'a>(&'a self, _head: &'a Head, new: &'a NewCommit) -> BoxFuture<'a, Result<String, WorkspaceError>> {
        ready(Ok(self.all.with(&self.id, |kept| kept.add(new))))
    }

    fn store<'a>(
        &'a self,
        _head: &'a Head,
        commit: &'a str,
        _limits: WorkspaceLimits,
    ) -> BoxFuture<'a, Result<Option<Pack>, WorkspaceError>> {
        ready(Ok(Some(Pack { digest: digest(commit.as_bytes()), bytes: 1 })))
    }

    fn advance<'a>(
        &'a self,
        head: &'a Head,
        change: Change,
        pack: Option<Pack>,
    ) -> BoxFuture<'a, Result<Option<Head>, WorkspaceError>> {
        ready(Ok(self.all.with(&self.id, |kept| {
            if matches!(change, Change::Trunk(_))
                && let Some(files) = kept.others.pop()
            {
                kept.somebody_else(files);
            }
            if kept.heads.last() != Some(head) {
                return None;
            }
            let next = head.next(String::new(), change, pack);
            kept.heads.push(next.clone());
            Some(next)
        })))
    }

    fn log<'a>(
        &'a self,
        _head: &'a Head,
        commit: &'a str,
        since: Option<&'a str>,
        most: usize,
    ) -> BoxFuture<'a, Result<Vec<Logged>, WorkspaceError>> {
        ready(Ok(self.all.with(&self.id, |kept| {
            let mut found = Vec::new();
            let mut at = commit.to_owned();
            while let Some(one) = kept.commits.get(&at).filter(|_| Some(at.as_str()) != since && found.len() < most) {
                let trailer = |key: &str| {
                    let line = one.message.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(": "));
                    line.map(str::to_owned)
                };
                found.push(Logged {
                    commit: at.clone(),
                    author: one.author.clone(),
                    committer: one.committer.clone(),
                    time: one.time,
                    subject: one.message.lines().next().unwrap_or_default().to_owned(),
                    dispatch: trailer("Dispatch-Id"),
                    effect: trailer("Effect-Id"),
                });
                at.clone_from(&one.parent);
            }
            found
        })))
    }

    fn tree<'a>(
        &'a self,
        _head: &'a Head,
        commit: &'a str,
    ) -> BoxFuture<'a, Result<(Vec<Entry>, String), WorkspaceError>> {
        ready(Ok(self.all.with(&self.id, |kept| {
            let files = kept.files(commit);
            let entry = |(path, bytes): (&String, &Vec<u8>)| Entry {
                path: path.clone(),
                mode: "100644".into(),
                id: name(&text(bytes)),
                bytes: bytes.len() as u64,
            };
            let entries: Vec<Entry> = files.iter().map(entry).collect();
            let listed: String = entries.iter().map(|e| format!("{} {}\n", e.path, e.id)).collect();
            (entries, digest(listed.as_bytes()))
        })))
    }

    fn file<'a>(
        &'a self,
        _head: &'a Head,
        commit: &'a str,
        path: &'a str,
        _bytes_max: u64,
    ) -> BoxFuture<'a, Result<Vec<u8>, WorkspaceError>> {
        let found = self.all.with(&self.id, |kept| kept.files(commit).get(path).cloned());
        ready(found.ok_or_else(|| WorkspaceError::Missing(format!("file {path} in {commit}"))))
    }

    fn diff<'a>(
        &'a self,
        _head: &'a Head,
        from: &'a str,
        to: &'a str,
        _bytes_max: u64,
    ) -> BoxFuture<'a, Result<String, WorkspaceError>> {
        ready(Ok(self.all.with(&self.id, |kept| {
            let (from, to) = (kept.files(from), kept.files(to));
            let changed = to.iter().filter(|(p, b)| from.get(*p) != Some(b)).map(|(p, _)| p.as_str());
            changed.collect::<Vec<_>>().join("\n")
        })))
    }

    fn compare<'a>(
        &'a self,
        _head: &'a Head,
        from: Option<&'a str>,
        to: &'a str,
        most: ComparedMax,
    ) -> BoxFuture<'a, Result<Compared, WorkspaceError>> {
        ready(Ok(self.all.with(&self.id, |kept| {
            let (from, to) = (from.map(|from| kept.files(from)).unwrap_or_default(), kept.files(to));
            compared(&from, &to, &most)
        })))
    }

    fn reaches<'a>(
        &'a self,
        _head: &'a Head,
        tip: &'a str,
        commit: &'a str,
    ) -> BoxFuture<'a, Result<bool, WorkspaceError>> {
        ready(Ok(self.all.with(&self.id, |kept| {
            let mut at = tip.to_owned();
            while let Some(one) = kept.commits.get(&at).filter(|_| at != commit) {
                at.clone_from(&one.parent);
            }
            at == commit && kept.commits.contains_key(commit)
        })))
    }

    fn bundle<'a>(&'a self, head: &'a Head, branch: &'a str) -> BoxFuture<'a, Result<Vec<u8>, WorkspaceError>> {
        ready(Ok(format!("{branch} {}", head.trunk).into_bytes()))
    }

    fn repack<'a>(&'a self, head: &'a Head) -> BoxFuture<'a, Result<Option<Head>, WorkspaceError>> {
        ready(Ok(self.all.with(&self.id, |kept| {
            if kept.heads.last() != Some(head) {
                return None;
            }
            let mut next = head.clone();
            next.n += 1;
            kept.heads.push(next.clone());
            Some(next)
        })))
    }
}
