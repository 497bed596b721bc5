//! A session that is a folder, as one archive: packed after its box has ended, unpacked before the next one exists. The
//! host does both and not the worker: at those times no process of the box lives, so nothing can be exchanged under the
//! reader's hands, and nothing that the box wrote is trusted. Must never follow a link, take the rights of another user
//! along, or hold more than the session's limit.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use tar::{Archive, Builder, EntryType, Header};

/// Files and folders of one session.
const ENTRIES_MAX: usize = 4_096;
/// Folders in folders.
const DEPTH_MAX: usize = 24;
/// Bytes of one path.
const PATH_BYTES_MAX: usize = 1_024;
/// A tar's own bytes for one entry: a header, padding, and a long name's header and blocks.
const ENTRY_BYTES: u64 = 3 * 512 + PATH_BYTES_MAX as u64;
/// `O_NOFOLLOW | O_NONBLOCK` on Linux.
const O_NOFOLLOW_NONBLOCK: i32 = 0o400_000 | 0o4_000;
/// Set-user-id and set-group-id.
const FOREIGN_RIGHTS: u32 = 0o6000;

/// The folder's archive, the same for the same content; `None` when nothing is in it.
///
/// # Errors
/// A sentence, for the first thing that is not packed: then nothing is.
pub(super) fn pack(folder: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, String> {
    let mut packer = Packer { tar: Builder::new(Vec::new()), entries: 0, bytes: 0, bytes_max };
    packer.folder(folder, Path::new(""), 0)?;
    if packer.entries == 0 {
        return Ok(None);
    }
    packer.tar.into_inner().map(Some).map_err(|e| e.to_string())
}

struct Packer {
    tar: Builder<Vec<u8>>,
    entries: usize,
    bytes: u64,
    bytes_max: u64,
}

impl Packer {
    fn folder(&mut self, from: &Path, inside: &Path, depth: usize) -> Result<(), String> {
        let say = |why: &dyn std::fmt::Display| format!("{}: {why}", shown(inside));
        if depth > DEPTH_MAX {
            return Err(say(&format!("more than {DEPTH_MAX} folders deep")));
        }
        let mut names = Vec::new();
        for entry in std::fs::read_dir(from).map_err(|e| say(&e))? {
            names.push(entry.map_err(|e| say(&e))?.file_name());
            if self.entries + names.len() > ENTRIES_MAX {
                return Err(format!("more than {ENTRIES_MAX} files and folders"));
            }
        }
        names.sort();
        for name in names {
            self.entry(&from.join(&name), &inside.join(&name), depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, from: &Path, inside: &Path, depth: usize) -> Result<(), String> {
        let say = |why: &dyn std::fmt::Display| format!("{}: {why}", shown(inside));
        if inside.to_str().is_none_or(|text| text.len() > PATH_BYTES_MAX) {
            return Err(say(&"a name that is not UTF-8 or too long"));
        }
        let facts = std::fs::symlink_metadata(from).map_err(|e| say(&e))?;
        if facts.mode() & FOREIGN_RIGHTS != 0 {
            return Err(say(&"has the rights of another user (set-user-id or set-group-id)"));
        }
        self.entries += 1;
        self.room(ENTRY_BYTES, inside)?;
        if facts.is_dir() {
            let mut header = header(EntryType::Directory, 0o700, 0);
            self.tar.append_data(&mut header, inside.join(""), std::io::empty()).map_err(|e| say(&e))?;
            return self.folder(from, inside, depth + 1);
        }
        if !facts.is_file() {
            return Err(say(&"is neither a file nor a folder"));
        }
        let file = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW_NONBLOCK).open(from).map_err(|e| say(&e))?;
        let size = file.metadata().map_err(|e| say(&e))?.len();
        self.room(size, inside)?;
        let mut header = header(EntryType::Regular, 0o600 | (facts.mode() & 0o100), size);
        self.tar.append_data(&mut header, inside, file.take(size)).map_err(|e| say(&e))
    }

    fn room(&mut self, bytes: u64, inside: &Path) -> Result<(), String> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.bytes_max {
            return Err(format!("more than {} bytes, at {}", self.bytes_max, shown(inside)));
        }
        Ok(())
    }
}

/// A path for a sentence: data of an agent's.
fn shown(path: &Path) -> String {
    let text: String = path.to_string_lossy().chars().take(200).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.is_empty() { "the session's folder".to_owned() } else { text }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

/// Writes an archive's files into a folder that no box has seen yet, and gives each to `give`.
///
/// # Errors
/// A sentence, for what [`pack`] would not have written.
pub(super) fn unpack(
    bytes: &[u8],
    folder: &Path,
    give: impl Fn(&Path, u32) -> std::io::Result<()>,
) -> Result<(), String> {
    let mut archive = Archive::new(bytes);
    let entries = archive.entries().map_err(|e| e.to_string())?;
    for (number, entry) in entries.enumerate() {
        let mut entry = entry.map_err(|e| format!("not an archive of a session: {e}"))?;
        if number >= ENTRIES_MAX {
            return Err(format!("more than {ENTRIES_MAX} files and folders"));
        }
        let inside = entry.path().map_err(|e| e.to_string())?.into_owned();
        let say = |why: &dyn std::fmt::Display| format!("{}: {why}", shown(&inside));
        let path = below(folder, &inside).ok_or_else(|| say(&"leaves the session's folder"))?;
        let mode = entry.header().mode().map_err(|e| say(&e))? & 0o700;
        match entry.header().entry_type() {
            EntryType::Directory => DirBuilder::new().mode(0o700).create(&path).map_err(|e| say(&e))?,
            EntryType::Regular => {
                let options = File::options().write(true).create_new(true).mode(0o600).clone();
                let mut file = options.open(&path).map_err(|e| say(&e))?;
                std::io::copy(&mut entry, &mut file).map_err(|e| say(&e))?;
                file.flush().map_err(|e| say(&e))?;
                file.set_permissions(Permissions::from_mode(mode)).map_err(|e| say(&e))?;
            }
            _ => return Err(say(&"is neither a file nor a folder")),
        }
        give(&path, mode).map_err(|e| say(&e))?;
    }
    Ok(())
}

fn below(folder: &Path, inside: &Path) -> Option<PathBuf> {
    let plain = inside.components().all(|part| matches!(part, Component::Normal(_)));
    (plain && inside.components().count() > 0).then(|| folder.join(inside))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::fs;
    use std::os::unix::fs::symlink;

    const MAX: u64 = 1 << 20;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("b/c")).unwrap();
        fs::create_dir(at("empty")).unwrap();
        for (path, mode) in [("z.jsonl", 0o644), ("b/c/run", 0o755), ("a.db", 0o600)] {
            fs::write(at(path), path.repeat(100)).unwrap();
            fs::set_permissions(at(path), Permissions::from_mode(mode)).unwrap();
        }
        folder
    }

    fn keep(_: &Path, _: u32) -> std::io::Result<()> {
        Ok(())
    }

    #[test]
    fn what_was_packed_comes_back_and_packs_to_the_same_bytes() {
        let one = folder();
        let packed = pack(one.path(), MAX).unwrap().unwrap();
        let two = tempfile::tempdir().unwrap();
        unpack(&packed, two.path(), keep).unwrap();
        assert_eq!(fs::read_to_string(two.path().join("b/c/run")).unwrap(), "b/c/run".repeat(100));
        assert_eq!(fs::metadata(two.path().join("b/c/run")).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(two.path().join("z.jsonl")).unwrap().mode() & 0o777, 0o600);
        assert!(two.path().join("empty").is_dir());
        assert_eq!(pack(two.path(), MAX).unwrap().unwrap(), packed);
        assert_eq!(pack(folder().path(), MAX).unwrap().unwrap(), packed, "times and owners do not count");
    }

    #[test]
    fn an_empty_folder_is_no_session() {
        assert_eq!(pack(tempfile::tempdir().unwrap().path(), MAX), Ok(None));
    }

    #[rstest]
    #[case::link_out(|f: &Path| symlink("/etc/passwd", f.join("b/passwd")).unwrap(), "b/passwd: is neither")]
    #[case::link_to_a_folder(|f: &Path| symlink("/etc", f.join("etc")).unwrap(), "etc: is neither")]
    #[case::link_inside(|f: &Path| symlink("a.db", f.join("a2.db")).unwrap(), "a2.db: is neither")]
    #[case::set_user_id(|f: &Path| fs::set_permissions(f.join("b/c/run"), Permissions::from_mode(0o4755)).unwrap(), "b/c/run: has the rights")]
    #[case::set_group_id_folder(|f: &Path| fs::set_permissions(f.join("b"), Permissions::from_mode(0o2755)).unwrap(), "b: has the rights")]
    #[case::socket(|f: &Path| drop(std::os::unix::net::UnixListener::bind(f.join("s")).unwrap()), "s: is neither")]
    #[case::too_large(|f: &Path| File::create(f.join("large")).unwrap().set_len(500 << 20).unwrap(), "more than 1048576 bytes")]
    #[case::together_too_large(|f: &Path| (0..20).for_each(|n| fs::write(f.join(format!("n{n}")), vec![0; 60_000]).unwrap()), "more than 1048576 bytes")]
    #[case::too_deep(|f: &Path| fs::create_dir_all(f.join("d/".repeat(40))).unwrap(), "folders deep")]
    fn what_is_refused_is_refused_whole(#[case] spoil: fn(&Path), #[case] expected: &str) {
        let folder = folder();
        spoil(folder.path());
        let why = pack(folder.path(), MAX).unwrap_err();
        assert!(why.contains(expected), "{why}");
    }

    #[test]
    fn the_number_of_files_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        (0..ENTRIES_MAX).for_each(|n| fs::write(folder.path().join(n.to_string()), "").unwrap());
        assert!(pack(folder.path(), 1 << 30).is_ok());
        fs::write(folder.path().join("one more"), "").unwrap();
        assert!(pack(folder.path(), 1 << 30).unwrap_err().contains("more than 4096"));
    }

    fn archive(kind: EntryType, path: &str, link: Option<&str>) -> Vec<u8> {
        let mut tar = Builder::new(Vec::new());
        let mut header = header(kind, 0o4777, 0);
        // Written by hand: the crate itself refuses to write such paths.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        if let Some(link) = link {
            header.set_link_name(link).unwrap();
        }
        header.set_cksum();
        tar.append(&header, std::io::empty()).unwrap();
        tar.into_inner().unwrap()
    }

    #[rstest]
    #[case::climbs(archive(EntryType::Regular, "../out", None), "leaves")]
    #[case::absolute(archive(EntryType::Regular, "/etc/out", None), "leaves")]
    #[case::link(archive(EntryType::Symlink, "a", Some("/etc")), "neither")]
    #[case::hard_link(archive(EntryType::Link, "a", Some("/etc/passwd")), "neither")]
    #[case::device(archive(EntryType::Char, "a", None), "neither")]
    #[case::a_session_file(b"{\"type\":\"session\"}\n".repeat(100), "not an archive")]
    fn a_foreign_archive_is_refused(#[case] bytes: Vec<u8>, #[case] expected: &str) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("session");
        fs::create_dir(&folder).unwrap();
        let why = unpack(&bytes, &folder, keep).unwrap_err();
        assert!(why.contains(expected), "{why}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_never_comes_back_with_foreign_rights() {
        let folder = tempfile::tempdir().unwrap();
        unpack(&archive(EntryType::Regular, "a", None), folder.path(), keep).unwrap();
        assert_eq!(fs::metadata(folder.path().join("a")).unwrap().mode() & 0o7777, 0o700);
    }
}
