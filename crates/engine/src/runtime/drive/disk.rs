//! How much a run has written where it may write: the file system under it has no quota of its own, so the runtime looks,
//! and ends what is beyond its limit. Follows no link, counts blocks and not lengths, and looks at a bounded number of
//! files: more than that is too much as well.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The most entries of one look. A run that makes more is beyond any limit.
const ENTRIES_MAX: u64 = 200_000;
/// Between two looks, at least.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A look may take this part of the time; a large workspace is looked at less often.
const SHARE: u32 = 20;
/// A block of `stat`. Source: POSIX, `st_blocks` in units of 512 bytes on Linux.
const BLOCK: u64 = 512;

/// What was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// Bytes of blocks.
    pub(super) bytes: u64,
    /// Entries; at [`ENTRIES_MAX`] the look was given up.
    pub(super) entries: u64,
}

/// The use of what a run may write, from its first look on.
#[derive(Debug)]
pub(super) struct Disk {
    folders: Vec<PathBuf>,
    before: Option<Used>,
    next: Instant,
}

impl Disk {
    /// Of these folders.
    pub(super) fn of(folders: Vec<PathBuf>) -> Disk {
        Disk { folders, before: None, next: Instant::now() }
    }

    /// What was added since the first look, when it is time to look and it is more than `most`: a sentence.
    pub(super) async fn beyond(&mut self, most: u64) -> Option<String> {
        let began = Instant::now();
        if began < self.next {
            return None;
        }
        let folders = self.folders.clone();
        let now = tokio::task::spawn_blocking(move || used(&folders, ENTRIES_MAX)).await.ok()?;
        self.next = Instant::now() + LOOK_EVERY.max(began.elapsed() * SHARE);
        let before = *self.before.get_or_insert(now);
        if now.entries >= ENTRIES_MAX && before.entries < ENTRIES_MAX {
            return Some(format!("it made more than {ENTRIES_MAX} files"));
        }
        let added = now.bytes.saturating_sub(before.bytes);
        (added > most).then(|| format!("it wrote {added} bytes, {most} are the most (runtime.disk_bytes)"))
    }
}

/// What stands below folders. A file with two names counts once.
fn used(folders: &[PathBuf], entries_max: u64) -> Used {
    let mut used = Used::default();
    let mut seen = BTreeSet::new();
    let mut left: Vec<PathBuf> = folders.to_vec();
    while let Some(folder) = left.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            if used.entries >= entries_max {
                return used;
            }
            used.entries += 1;
            let Ok(facts) = entry.path().symlink_metadata() else { continue };
            if facts.is_dir() {
                left.push(entry.path());
            }
            if facts.nlink() < 2 || facts.is_dir() || seen.insert((facts.dev(), facts.ino())) {
                used.bytes += facts.blocks() * BLOCK;
            }
        }
    }
    used
}

/// What a box may write on the host, from its mounts.
pub(super) fn writable<'a>(mounts: impl Iterator<Item = (&'a Path, bool)>) -> Vec<PathBuf> {
    mounts.filter(|(_, read_only)| !read_only).map(|(source, _)| source.to_owned()).collect()
}

/// Takes set-user-id and set-group-id bits from what a run left: on the host they would lend its user to whoever
/// executes the file. Follows no link; gives back how many files had one. Only for a box that has ended.
pub(super) fn disarm(folders: &[PathBuf]) -> u64 {
    const SET_ID: u32 = 0o6_000;
    let (mut disarmed, mut looked) = (0, 0);
    let mut left: Vec<PathBuf> = folders.to_vec();
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            looked += 1;
            let Ok(facts) = entry.path().symlink_metadata() else { continue };
            if looked > ENTRIES_MAX {
                return disarmed;
            }
            if facts.is_dir() {
                left.push(entry.path());
            }
            let mode = facts.mode() & 0o7_777;
            if facts.is_file() && mode & SET_ID != 0 {
                let plain = std::fs::Permissions::from_mode(mode & !SET_ID);
                match std::fs::set_permissions(entry.path(), plain) {
                    Ok(()) => disarmed += 1,
                    Err(error) => tracing::warn!(%error, file = %entry.path().display(), "set-id bits stay"),
                }
            }
        }
    }
    disarmed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_a_run_adds_counts_and_no_link_is_followed() {
        let root = tempfile::tempdir().unwrap();
        let (folder, outside) = (root.path().join("ws"), root.path().join("outside"));
        std::fs::create_dir_all(folder.join("deep")).unwrap();
        std::fs::write(&outside, vec![1; 1 << 20]).unwrap();
        std::fs::write(folder.join("before"), vec![1; 1 << 16]).unwrap();
        let mut disk = Disk::of(vec![folder.clone()]);
        assert_eq!(disk.beyond(4_096).await, None, "what was there before is not its own");
        std::os::unix::fs::symlink(&outside, folder.join("link")).unwrap();
        std::os::unix::fs::symlink(root.path(), folder.join("up")).unwrap();
        std::fs::File::create(folder.join("sparse")).unwrap().set_len(1 << 40).unwrap();
        disk.next = Instant::now();
        assert_eq!(disk.beyond(1 << 16).await, None, "links and holes take no room");
        std::fs::write(folder.join("deep/more"), vec![1; 1 << 17]).unwrap();
        std::fs::hard_link(folder.join("deep/more"), folder.join("deep/same")).unwrap();
        assert_eq!(disk.beyond(1 << 16).await, None, "it is not time yet");
        disk.next = Instant::now();
        let why = disk.beyond(1 << 16).await.unwrap();
        assert!(why.starts_with("it wrote 1") && why.contains("65536 are the most"), "{why}");
    }

    #[test]
    fn set_id_bits_are_taken_from_files_and_never_through_a_link() {
        let root = tempfile::tempdir().unwrap();
        let (folder, outside) = (root.path().join("ws"), root.path().join("outside"));
        std::fs::create_dir_all(folder.join("deep")).unwrap();
        for file in [folder.join("deep/setuid"), folder.join("plain"), outside.clone()] {
            std::fs::write(&file, b"x").unwrap();
        }
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7_777;
        let set = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        set(&folder.join("deep/setuid"), 0o6_755);
        set(&outside, 0o4_755);
        std::os::unix::fs::symlink(&outside, folder.join("link")).unwrap();
        assert_eq!(disarm(std::slice::from_ref(&folder)), 1);
        assert_eq!((mode(&folder.join("deep/setuid")), mode(&outside)), (0o755, 0o4_755));
    }

    #[test]
    fn a_look_is_bounded() {
        let root = tempfile::tempdir().unwrap();
        (0..20).for_each(|n| std::fs::write(root.path().join(n.to_string()), b"x").unwrap());
        assert_eq!(used(&[root.path().to_owned()], 7).entries, 7);
    }
}
