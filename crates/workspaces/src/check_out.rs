//! Putting the files of a commit into an empty folder: every name is checked, every folder opened without following a
//! link, every file made new. Must never write over anything, and never through a link that the same tree holds.

use crate::git::{Git, failed};
use crate::names::{bad_path, link_stays_inside, shown};
use crate::walk::root;
use custody_ports::workspaces::{Entry, Owner, WorkspaceError, WorkspaceLimits};
use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Whose the files become.
#[derive(Clone, Copy)]
struct Give {
    owner: Owner,
    root: bool,
}

impl Give {
    fn new(owner: Owner) -> Give {
        Give { owner, root: rustix::process::geteuid().is_root() }
    }

    fn over(self, fd: &OwnedFd, mode: u32) -> std::io::Result<()> {
        let mode = match (self.owner, self.root) {
            (Owner::Box(id), true) => {
                let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
                rustix::fs::fchown(fd, Some(uid), Some(gid))?;
                mode
            }
            // Without root the owner cannot be given away: everybody may write, below a folder that nobody enters.
            (Owner::Box(_), false) => mode | (mode & 0o700) >> 3 | (mode & 0o700) >> 6,
            (Owner::Person, _) => mode & 0o555,
        };
        Ok(rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))?)
    }
}

/// Checks a tree's entries before anything is written.
pub(crate) fn check(entries: &[Entry], limits: &WorkspaceLimits, workspace: &str) -> Result<(), WorkspaceError> {
    let corrupt = |why: String| WorkspaceError::Corrupt { workspace: workspace.to_owned(), why };
    let mut total = 0u64;
    if entries.len() as u64 > limits.entries {
        let why = format!("{} files and links, {} are the most", entries.len(), limits.entries);
        return Err(WorkspaceError::TooLarge { code: "TOO_MANY_FILES", why });
    }
    for entry in entries {
        if let Some(why) = bad_path(entry.path.as_bytes()) {
            return Err(corrupt(format!("{}: {why}", shown(entry.path.as_bytes()))));
        }
        if entry.mode != "160000" && entry.bytes > limits.file_bytes {
            let why = format!("{} has {} bytes, {} are the most", entry.path, entry.bytes, limits.file_bytes);
            return Err(WorkspaceError::TooLarge { code: "BLOB_TOO_LARGE", why });
        }
        total = total.saturating_add(entry.bytes);
    }
    if total > limits.total_bytes {
        let why = format!("{total} bytes, {} are the most", limits.total_bytes);
        return Err(WorkspaceError::TooLarge { code: "WORKSPACE_FULL", why });
    }
    Ok(())
}

/// Writes the entries of a commit below a folder that is there and empty.
pub(crate) fn check_out(git: &Git, entries: Vec<Entry>, folder: &Path, owner: Owner) -> Result<(), WorkspaceError> {
    const DOING: &str = "writing a working copy";
    let give = Give::new(owner);
    let mut place = Place { root: root(folder)?, folders: BTreeMap::new(), give };
    let stored: Vec<Entry> = entries.into_iter().filter(|e| e.mode != "160000").collect();
    if !stored.is_empty() {
        let ask: Vec<u8> = stored.iter().flat_map(|e| [e.id.as_bytes(), b"\n"].concat()).collect();
        let mut running = git.stream(DOING, &["cat-file", "--batch"])?;
        running.talk(
            move |to| to.write_all(&ask),
            |from| {
                let mut from = BufReader::new(from);
                stored.iter().try_for_each(|entry| place.put(entry, &mut from))
            },
        )?;
        let (code, words) = running.end()?;
        if code != 0 {
            return Err(failed(DOING, words));
        }
    }
    place.finish().map_err(|e| failed(DOING, e))
}

struct Place {
    root: OwnedFd,
    /// Folders that were made, by path.
    folders: BTreeMap<String, OwnedFd>,
    give: Give,
}

impl Place {
    fn put(&mut self, entry: &Entry, from: &mut dyn BufRead) -> std::io::Result<()> {
        let mut line = String::new();
        from.take(200).read_line(&mut line)?;
        let wrong = || std::io::Error::other(format!("git answered {line:?} for {}", entry.path));
        let parts: Vec<&str> = line.trim_end().split(' ').collect();
        let bytes: u64 = match parts.as_slice() {
            [id, "blob", bytes] if *id == entry.id => bytes.parse().map_err(|_| wrong())?,
            _ => return Err(wrong()),
        };
        if bytes != entry.bytes {
            return Err(wrong());
        }
        let (parent, name) = entry.path.rsplit_once('/').unwrap_or(("", &entry.path));
        self.make_folders(parent)?;
        let folder = self.folders.get(parent).unwrap_or(&self.root);
        let mut body = from.take(bytes);
        if entry.mode == "120000" {
            let mut target = Vec::new();
            body.read_to_end(&mut target)?;
            if !link_stays_inside(entry.path.as_bytes(), &target) {
                return Err(std::io::Error::other(format!("link {} leaves the workspace", entry.path)));
            }
            rustix::fs::symlinkat(target.as_slice(), folder, name)?;
        } else {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat2(folder, name, flags, Mode::from_raw_mode(0o600), BENEATH)?;
            let mut file = File::from(fd);
            std::io::copy(&mut body, &mut file)?;
            self.give.over(&OwnedFd::from(file), if entry.mode == "100755" { 0o755 } else { 0o644 })?;
        }
        let mut end = [0u8; 1];
        from.read_exact(&mut end)?;
        if end == [b'\n'] { Ok(()) } else { Err(wrong()) }
    }

    /// Makes what is missing of a path of folders. One that is there already is opened without following a link: a tree
    /// that names a link and a folder alike ends here.
    fn make_folders(&mut self, path: &str) -> std::io::Result<()> {
        if self.folders.contains_key(path) {
            return Ok(());
        }
        // A tree of many folders must not use up this process' descriptors.
        if self.folders.len() >= 256 {
            self.give_folders()?;
        }
        let mut at = String::new();
        for name in path.split('/').filter(|n| !n.is_empty()) {
            let parent = self.folders.get(&at).unwrap_or(&self.root);
            let here = if at.is_empty() { name.to_owned() } else { [&at, "/", name].concat() };
            if !self.folders.contains_key(&here) {
                match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(e) => return Err(e.into()),
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat2(parent, name, flags, Mode::empty(), BENEATH)?;
                self.folders.insert(here.clone(), fd);
            }
            at = here;
        }
        Ok(())
    }

    fn give_folders(&mut self) -> std::io::Result<()> {
        let mode = match self.give.owner {
            // The caller still has to write into them until the end; a person's folders stay writable for that person,
            // so that the copy can be thrown away.
            Owner::Person => {
                self.folders.clear();
                return Ok(());
            }
            Owner::Box(_) => 0o755,
        };
        for (_, fd) in std::mem::take(&mut self.folders) {
            self.give.over(&fd, mode)?;
        }
        Ok(())
    }

    fn finish(mut self) -> std::io::Result<()> {
        self.give_folders()?;
        match self.give.owner {
            Owner::Box(_) => self.give.over(&self.root, 0o755),
            Owner::Person => Ok(()),
        }
    }
}
