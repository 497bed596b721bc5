//! Reading a folder that a box has written: by descriptors below one root, never through a link, never opening what is
//! not a regular file. What cannot be kept is named and left out; what is too much ends the reading.

use crate::git::failed;
use crate::names::{DEPTH_MAX, PATH_BYTES_MAX, bad_name, link_stays_inside, shown};
use custody_ports::workspaces::{LeftOut, WorkspaceError, WorkspaceLimits};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// How many names of what is left out are kept.
pub(crate) const LEFT_OUT_MAX: usize = 100;

/// Something that can be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File { bytes: u64, executable: bool },
    Link { target: Vec<u8> },
}

/// A folder, read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// In the order of their paths.
    pub(crate) items: Vec<Item>,
    pub(crate) left_out: Vec<LeftOut>,
}

const READING: &str = "reading a working copy";
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Opens the root of a working copy. The root itself is ours and no link.
pub(crate) fn root(folder: &Path) -> Result<OwnedFd, WorkspaceError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(folder, flags, Mode::empty()).map_err(|e| failed("opening a working copy", e))
}

/// Opens a regular file below the root for reading.
pub(crate) fn file(root: &OwnedFd, path: &[u8]) -> std::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::openat2(root, path, flags, Mode::empty(), BENEATH)?;
    let file = File::from(fd);
    if file.metadata()?.is_file() { Ok(file) } else { Err(std::io::Error::other("not a regular file any more")) }
}

struct Reader<'a> {
    limits: &'a WorkspaceLimits,
    scan: Scan,
    entries: u64,
    bytes: u64,
}

/// Reads a folder.
///
/// # Errors
/// [`WorkspaceError::TooLarge`] with `TOO_MANY_FILES` or `WORKSPACE_FULL`; [`WorkspaceError::Failed`] for the disk.
pub(crate) fn scan(folder: &Path, limits: &WorkspaceLimits) -> Result<Scan, WorkspaceError> {
    let mut reader = Reader { limits, scan: Scan::default(), entries: 0, bytes: 0 };
    reader.folder(&root(folder)?, &[], 1)?;
    reader.scan.items.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(reader.scan)
}

/// The names in a folder, without `.` and `..`.
fn names(fd: &OwnedFd, most: u64) -> std::io::Result<Vec<Vec<u8>>> {
    let mut buffer = vec![MaybeUninit::<u8>::uninit(); 16_384];
    let mut raw = RawDir::new(fd, &mut buffer);
    let mut out = Vec::new();
    while let Some(entry) = raw.next() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            out.push(name);
        }
        if out.len() as u64 > most {
            break;
        }
    }
    out.sort();
    Ok(out)
}

fn stat(folder: &OwnedFd, name: &[u8]) -> std::io::Result<Stat> {
    Ok(rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn open_folder(folder: &OwnedFd, name: &[u8]) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(folder.as_fd(), name, flags, Mode::empty(), BENEATH)?)
}

impl Reader<'_> {
    fn leave_out(&mut self, code: &'static str, path: &[u8], detail: impl Into<String>) {
        if self.scan.left_out.len() < LEFT_OUT_MAX {
            self.scan.left_out.push(LeftOut { code, path: shown(path), detail: detail.into() });
        }
    }

    fn folder(&mut self, fd: &OwnedFd, at: &[u8], depth: usize) -> Result<(), WorkspaceError> {
        let names = names(fd, self.limits.entries).map_err(|e| failed(READING, e))?;
        for name in names {
            self.entries += 1;
            if self.entries > self.limits.entries {
                let why = format!("more than {} files, links and folders", self.limits.entries);
                return Err(WorkspaceError::TooLarge { code: "TOO_MANY_FILES", why });
            }
            let mut path = at.to_vec();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            self.entry(fd, &name, path, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, fd: &OwnedFd, name: &[u8], path: Vec<u8>, depth: usize) -> Result<(), WorkspaceError> {
        if let Some(why) = bad_name(name) {
            self.leave_out("PATH_NOT_ALLOWED", &path, why);
            return Ok(());
        }
        if path.len() > PATH_BYTES_MAX || depth > DEPTH_MAX {
            self.leave_out("PATH_NOT_ALLOWED", &path, "it lies too deep");
            return Ok(());
        }
        let facts = match stat(fd, name) {
            Ok(facts) => facts,
            Err(e) => {
                self.leave_out("UNREADABLE", &path, e.to_string());
                return Ok(());
            }
        };
        match FileType::from_raw_mode(facts.st_mode) {
            FileType::Directory => match open_folder(fd, name) {
                Ok(inner) => self.folder(&inner, &path, depth + 1)?,
                Err(e) => self.leave_out("UNREADABLE", &path, e.to_string()),
            },
            FileType::RegularFile => self.regular(&facts, path)?,
            FileType::Symlink => match rustix::fs::readlinkat(fd, name, Vec::new()) {
                Ok(target) if link_stays_inside(&path, target.to_bytes()) => {
                    let target = target.to_bytes().to_vec();
                    self.scan.items.push(Item { path, kind: Kind::Link { target } });
                }
                Ok(target) => self.leave_out("LINK_LEAVES", &path, format!("it leads to {}", shown(target.to_bytes()))),
                Err(e) => self.leave_out("UNREADABLE", &path, e.to_string()),
            },
            other => self.leave_out("NOT_A_FILE", &path, format!("it is a {}", word(other))),
        }
        Ok(())
    }

    fn regular(&mut self, facts: &Stat, path: Vec<u8>) -> Result<(), WorkspaceError> {
        let bytes = u64::try_from(facts.st_size).unwrap_or(u64::MAX);
        if bytes > self.limits.file_bytes {
            let most = self.limits.file_bytes;
            self.leave_out("BLOB_TOO_LARGE", &path, format!("{bytes} bytes, {most} are the most"));
            return Ok(());
        }
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limits.total_bytes {
            let why = format!("its files have more than {} bytes together", self.limits.total_bytes);
            return Err(WorkspaceError::TooLarge { code: "WORKSPACE_FULL", why });
        }
        // Set-user-id and set-group-id bits go here: git keeps one bit of a file's mode.
        let executable = facts.st_mode & 0o100 != 0;
        self.scan.items.push(Item { path, kind: Kind::File { bytes, executable } });
        Ok(())
    }
}

fn word(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "pipe",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        _ => "thing of no known kind",
    }
}
