//! The builtin file tools, on the host's side of a mounted workspace. Must never resolve a path out of the workspace's
//! folder, through a link or otherwise: the kernel is told so for each path (`openat2` with `RESOLVE_BENEATH`). Must
//! never open what is not a regular file or a folder.

use super::call::Answer;
use custody_domain::tool::{FileCall, InnerPath};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, fchmod, fchown, fstat, mkdirat, open, openat2, renameat,
    statat, unlinkat,
};
use rustix::io::Errno;
use serde_json::json;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// The most entries of one listing.
const ENTRIES_MAX: usize = 1_000;
/// The most bytes that one dispatch may write through tools.
const WRITTEN_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What went wrong, as a stable code and a sentence.
struct Failure(&'static str, String);

/// Counts what a call writes; false when that is more than a dispatch may.
pub(super) fn may_write(call: &FileCall, written: &AtomicU64) -> bool {
    let FileCall::Write { text, .. } = call else { return true };
    let bytes = text.len() as u64;
    written.fetch_add(bytes, Ordering::SeqCst).saturating_add(bytes) <= WRITTEN_BYTES_MAX
}

/// Carries out one call below `root`. Blocks.
pub(super) fn carry_out(root: &Path, call: &FileCall) -> Answer {
    let folder = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let done = open(root, folder, Mode::empty())
        .map_err(|_| Failure("WORKSPACE_MISSING", "the workspace is not there".to_owned()))
        .and_then(|root| match call {
            FileCall::List { path } => list(&root, path),
            FileCall::Read { path, offset, limit } => read(&root, path, *offset, *limit),
            FileCall::Write { path, text } => write(&root, path, text),
        });
    match done {
        Ok(texts) => {
            let content: Vec<_> = texts.iter().map(|text| json!({ "type": "text", "text": text })).collect();
            Answer::succeeded(json!({ "content": content, "isError": false }))
        }
        Err(Failure(code, detail)) => Answer::failed(code, &detail),
    }
}

/// Opens a path below a folder, and nothing else, whatever links stand in between.
fn beneath(root: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // A pipe or a device must not hold us; what it is is asked of what was opened.
    let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    openat2(root, path, flags, Mode::empty(), resolve)
}

fn told(path: &InnerPath, error: Errno) -> Failure {
    let path = path.text();
    match error {
        Errno::NOENT => Failure("NOT_FOUND", format!("there is no {path}")),
        Errno::XDEV | Errno::LOOP => Failure("PATH_LEAVES_WORKSPACE", format!("{path} leads out of the workspace")),
        Errno::NOTDIR => Failure("NOT_A_FOLDER", format!("{path} goes through something that is no folder")),
        Errno::ISDIR => Failure("NOT_A_FILE", format!("{path} is a folder")),
        Errno::NOSPC | Errno::DQUOT => Failure("DISK_FULL", format!("{path}: the disk is full")),
        Errno::NXIO => Failure("NOT_A_FILE", format!("{path} is no regular file")),
        other => Failure("FILE_ERROR", format!("{path}: {other}")),
    }
}

fn list(root: &OwnedFd, path: &InnerPath) -> Result<Vec<String>, Failure> {
    let folder = beneath(root, &path.text(), OFlags::DIRECTORY | OFlags::RDONLY).map_err(|e| told(path, e))?;
    let mut rows = Vec::new();
    let mut more = false;
    for entry in Dir::read_from(&folder).map_err(|e| told(path, e))? {
        let entry = entry.map_err(|e| told(path, e))?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if rows.len() == ENTRIES_MAX {
            more = true;
            break;
        }
        // What went away in between is not listed.
        let Ok(facts) = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let name: String =
            name.to_string_lossy().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        rows.push(match FileType::from_raw_mode(facts.st_mode) {
            FileType::Directory => format!("{name}/"),
            FileType::RegularFile => format!("{name}\t{} bytes", facts.st_size),
            FileType::Symlink => format!("{name}\tlink"),
            _ => format!("{name}\tspecial"),
        });
    }
    rows.sort();
    let mut texts = vec![rows.join("\n")];
    if more {
        texts.push(format!("[the folder has more than {ENTRIES_MAX} entries; these are some of them]"));
    }
    Ok(texts)
}

fn read(root: &OwnedFd, path: &InnerPath, offset: u64, limit: u64) -> Result<Vec<String>, Failure> {
    let mut file = File::from(beneath(root, &path.text(), OFlags::RDONLY).map_err(|e| told(path, e))?);
    let io = |e: std::io::Error| Failure("FILE_ERROR", format!("{}: {}", path.text(), e.kind()));
    let facts = file.metadata().map_err(io)?;
    if !facts.is_file() {
        return Err(Failure("NOT_A_FILE", format!("{} is no regular file", path.text())));
    }
    file.seek(SeekFrom::Start(offset)).map_err(io)?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(io)?;
    if bytes.contains(&0) {
        return Err(Failure("NOT_TEXT", format!("{} is not a text", path.text())));
    }
    let end = offset.saturating_add(bytes.len() as u64);
    let mut texts = vec![String::from_utf8_lossy(&bytes).into_owned()];
    if end < facts.len() {
        texts.push(format!("[bytes {offset} to {end} of {}; read on with offset {end}]", facts.len()));
    }
    Ok(texts)
}

fn write(root: &OwnedFd, path: &InnerPath, text: &str) -> Result<Vec<String>, Failure> {
    let Some((name, folders)) = path.parts().split_last() else {
        return Err(Failure("NOT_A_FILE", "the workspace itself is a folder".to_owned()));
    };
    let mut folder = beneath(root, ".", OFlags::DIRECTORY | OFlags::RDONLY).map_err(|e| told(path, e))?;
    for part in folders {
        folder = enter(&folder, part).map_err(|e| told(path, e))?;
    }
    // The file that stands there keeps its mode; a folder is not replaced, a link is: it is never followed.
    let before = statat(&folder, name.as_str(), AtFlags::SYMLINK_NOFOLLOW).ok();
    let kind = before.map(|facts| FileType::from_raw_mode(facts.st_mode));
    if !matches!(kind, None | Some(FileType::RegularFile | FileType::Symlink)) {
        return Err(Failure("NOT_A_FILE", format!("{} is no regular file", path.text())));
    }
    let mode = match (before, kind) {
        (Some(facts), Some(FileType::RegularFile)) => Mode::from_raw_mode(facts.st_mode & 0o777),
        _ => Mode::from_raw_mode(0o644),
    };
    let scratch = [".custody-", &custody_contracts::canonical::digest(text.as_bytes())[7..23], ".part"].concat();
    let done = replace(&folder, &scratch, name, text, mode);
    if done.is_err() {
        let _gone = unlinkat(&folder, scratch.as_str(), AtFlags::empty());
    }
    done.map_err(|e| told(path, e))?;
    Ok(vec![format!("wrote {} bytes to {}", text.len(), path.text())])
}

/// A folder below a folder, made when it is not there.
fn enter(folder: &OwnedFd, part: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW;
    match beneath(folder, part, flags) {
        Err(Errno::NOENT) => {
            match mkdirat(folder, part, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(other) => return Err(other),
            }
            let made = beneath(folder, part, flags)?;
            give(&made, folder)?;
            Ok(made)
        }
        other => other,
    }
}

/// Writes a new file beside the old one and puts it in its place: a reader sees the old text or the new one.
fn replace(folder: &OwnedFd, scratch: &str, name: &str, text: &str, mode: Mode) -> Result<(), Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let fresh = match openat2(folder, scratch, flags, Mode::from_raw_mode(0o600), resolve) {
        // Left over by a gateway that ended in the middle.
        Err(Errno::EXIST) => {
            unlinkat(folder, scratch, AtFlags::empty())?;
            openat2(folder, scratch, flags, Mode::from_raw_mode(0o600), resolve)?
        }
        other => other?,
    };
    let mut file = File::from(fresh);
    let io = |e: std::io::Error| e.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
    file.write_all(text.as_bytes()).map_err(io)?;
    give(&file, folder)?;
    fchmod(&file, mode)?;
    renameat(folder, scratch, folder, name)
}

/// What is new belongs to whoever the folder above belongs to: the box's user must be able to change it.
fn give(new: impl AsFd, folder: &OwnedFd) -> Result<(), Errno> {
    let above = fstat(folder)?;
    let own = fstat(&new)?;
    if (own.st_uid, own.st_gid) == (above.st_uid, above.st_gid) {
        return Ok(());
    }
    let (user, group) = (rustix::fs::Uid::from_raw(above.st_uid), rustix::fs::Gid::from_raw(above.st_gid));
    fchown(new, Some(user), Some(group))
}
