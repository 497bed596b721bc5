//! How much a run has written where it may write: the file system under it has no quota of its own, so the runtime looks,
//! and ends what is beyond its limits. One watch for both of them: what a run adds in all, and what a working copy holds.
//! Follows no link, counts blocks and not lengths, and looks at a bounded number of files: more than that is too much as
//! well.

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};
use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The most entries of one look. A run that makes more is beyond any limit.
const ENTRIES_MAX: u64 = 200_000;
/// The deepest folder that is looked into, because each open one is a descriptor of this process. A run that makes deeper
/// ones could hide something there.
const DEPTH_MAX: usize = 128;
/// Between two looks, at least.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A look may take this part of the time; a large workspace is looked at less often.
const SHARE: u32 = 20;
/// A block of `stat`. Source: POSIX, `st_blocks` in units of 512 bytes on Linux.
const BLOCK: u64 = 512;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// A folder that a run may write into.
#[derive(Debug, Clone)]
pub(super) struct Writable {
    /// On this machine.
    pub(super) folder: PathBuf,
    /// The workspace that it is the working copy of.
    pub(super) workspace: Option<String>,
}

/// The most that there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes that a run may add, everywhere together.
    pub(super) added_bytes: u64,
    /// Bytes that one working copy may hold, with what it began with.
    pub(super) copy_bytes: u64,
}

/// What was found in one folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Used {
    /// Bytes of blocks.
    bytes: u64,
    /// Entries; all together at [`ENTRIES_MAX`] the look was given up.
    entries: u64,
    /// Whether there was a folder that was not looked into.
    too_deep: bool,
}

/// The watch over what a run may write.
#[derive(Debug)]
pub(super) struct Disk {
    writable: Vec<Writable>,
    bounds: Bounds,
}

impl Disk {
    /// Over these folders.
    pub(super) fn of(writable: Vec<Writable>, bounds: Bounds) -> Disk {
        Disk { writable, bounds }
    }

    /// Ends when it is too much, with a sentence that says what; never otherwise. What is there at the first look is not
    /// the run's own.
    pub(super) async fn outgrown(&self) -> String {
        let mut before: Option<Vec<Used>> = None;
        loop {
            let began = Instant::now();
            let folders: Vec<PathBuf> = self.writable.iter().map(|one| one.folder.clone()).collect();
            // A look that broke off is made again.
            if let Ok(now) = tokio::task::spawn_blocking(move || look(&folders, ENTRIES_MAX)).await {
                let before = before.get_or_insert_with(|| now.clone());
                if let Some(why) = beyond(&self.writable, before, &now, self.bounds) {
                    return why;
                }
            }
            tokio::time::sleep(LOOK_EVERY.max(began.elapsed() * SHARE)).await;
        }
    }
}

/// Pure: what is too much of what was found, as a sentence.
fn beyond(writable: &[Writable], before: &[Used], now: &[Used], bounds: Bounds) -> Option<String> {
    let total = |all: &[Used], of: fn(&Used) -> u64| all.iter().map(of).fold(0, u64::saturating_add);
    let most = bounds.copy_bytes;
    let copies = writable.iter().zip(now).filter(|(_, used)| used.bytes > most);
    if let Some(id) = copies.filter_map(|(one, _)| one.workspace.as_ref()).next() {
        return Some(format!("WORKSPACE_FULL: workspace {id} holds more than {most} bytes; the box was ended"));
    }
    if total(now, |used| used.entries) >= ENTRIES_MAX && total(before, |used| used.entries) < ENTRIES_MAX {
        return Some(format!("it made more than {ENTRIES_MAX} files"));
    }
    if now.iter().any(|used| used.too_deep) && !before.iter().any(|used| used.too_deep) {
        return Some(format!("it made folders more than {DEPTH_MAX} deep"));
    }
    let (added, most) = (total(now, |u| u.bytes).saturating_sub(total(before, |u| u.bytes)), bounds.added_bytes);
    (added > most).then(|| format!("it wrote {added} bytes, {most} are the most (runtime.disk_bytes)"))
}

/// What stands below each folder. A file with two names counts once, in the first of them.
fn look(folders: &[PathBuf], entries_max: u64) -> Vec<Used> {
    let mut seen = BTreeSet::new();
    let mut left = entries_max;
    let one = |folder: &PathBuf| {
        let mut used = Used::default();
        if let Ok(root) = rustix::fs::open(folder, FOLDER, Mode::empty()) {
            count(&root, &mut used, &mut seen, left, DEPTH_MAX);
        }
        left -= used.entries;
        used
    };
    folders.iter().map(one).collect()
}

/// By descriptors, so that a folder that is swapped for a link meanwhile leads nowhere.
fn count(folder: &OwnedFd, used: &mut Used, seen: &mut BTreeSet<(u64, u64)>, entries_max: u64, depth: usize) {
    let mut buffer = vec![MaybeUninit::<u8>::uninit(); 8_192];
    let mut names = RawDir::new(folder, &mut buffer);
    while let Some(Ok(entry)) = names.next() {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if used.entries >= entries_max {
            return;
        }
        used.entries += 1;
        let Ok(facts) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let is_folder = FileType::from_raw_mode(facts.st_mode) == FileType::Directory;
        if is_folder || facts.st_nlink < 2 || seen.insert((facts.st_dev, facts.st_ino)) {
            used.bytes = used.bytes.saturating_add(blocks(&facts) * BLOCK);
        }
        if is_folder && depth == 0 {
            used.too_deep = true;
        } else if is_folder && let Ok(inner) = rustix::fs::openat2(folder.as_fd(), name, FOLDER, Mode::empty(), BENEATH)
        {
            count(&inner, used, seen, entries_max, depth - 1);
        }
    }
}

fn blocks(facts: &Stat) -> u64 {
    u64::try_from(facts.st_blocks).unwrap_or(0)
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
    use rstest::rstest;
    use std::path::Path;

    const MOST: Bounds = Bounds { added_bytes: 1_000, copy_bytes: 5_000 };

    /// A session folder and a working copy: bytes and entries before, and now.
    #[rstest]
    #[case::nothing((0, 0), (0, 0), (0, 0), None)]
    #[case::what_was_there_is_not_its_own((4_000, 9), (4_900, 10), (100, 1), None)]
    #[case::as_much_as_may_be((0, 0), (600, 1), (400, 1), None)]
    #[case::together_too_much((0, 0), (600, 1), (401, 1), Some("it wrote 1001 bytes, 1000 are the most"))]
    #[case::a_copy_that_holds_too_much((4_900, 1), (5_001, 1), (0, 0), Some("WORKSPACE_FULL: workspace notes holds"))]
    #[case::a_session_has_no_such_bound((0, 0), (0, 0), (6_000, 1), Some("it wrote 6000 bytes"))]
    #[case::too_many_files((0, 0), (0, 199_999), (0, 1), Some("it made more than 200000 files"))]
    #[case::one_less((0, 0), (0, 199_998), (0, 1), None)]
    #[case::had_too_many_before((0, 200_000), (0, 200_000), (0, 0), None)]
    fn what_is_too_much(
        #[case] copy_before: (u64, u64),
        #[case] copy: (u64, u64),
        #[case] session: (u64, u64),
        #[case] wanted: Option<&str>,
    ) {
        let used = |(bytes, entries)| Used { bytes, entries, too_deep: false };
        let one =
            |workspace: Option<&str>| Writable { folder: PathBuf::new(), workspace: workspace.map(str::to_owned) };
        let writable = [one(None), one(Some("notes"))];
        let before = [Used::default(), used(copy_before)];
        let said = beyond(&writable, &before, &[used(session), used(copy)], MOST);
        match wanted {
            None => assert_eq!(said, None),
            Some(words) => assert!(said.as_ref().is_some_and(|said| said.starts_with(words)), "{said:?}"),
        }
    }

    #[test]
    fn nothing_hides_below_folders_that_are_too_deep() {
        let root = tempfile::tempdir().unwrap();
        let deep = |levels: usize| std::fs::create_dir_all(root.path().join("d/".repeat(levels))).unwrap();
        let looked = || look(std::slice::from_ref(&root.path().to_owned()), ENTRIES_MAX);
        deep(DEPTH_MAX);
        let before = looked();
        assert!(!before[0].too_deep, "{before:?}");
        deep(DEPTH_MAX + 1);
        let writable = [Writable { folder: root.path().to_owned(), workspace: None }];
        let most = Bounds { added_bytes: u64::MAX, copy_bytes: u64::MAX };
        assert_eq!(beyond(&writable, &before, &looked(), most).as_deref(), Some("it made folders more than 128 deep"));
        assert_eq!(beyond(&writable, &looked(), &looked(), most), None, "they were there before");
    }

    #[test]
    fn blocks_count_once_and_no_link_is_followed() {
        let root = tempfile::tempdir().unwrap();
        let (folder, outside) = (root.path().join("ws"), root.path().join("outside"));
        std::fs::create_dir_all(folder.join("deep")).unwrap();
        std::fs::write(&outside, vec![1; 1 << 20]).unwrap();
        let bytes = || look(std::slice::from_ref(&folder), ENTRIES_MAX)[0].bytes;
        std::os::unix::fs::symlink(&outside, folder.join("link")).unwrap();
        std::os::unix::fs::symlink(root.path(), folder.join("up")).unwrap();
        std::fs::File::create(folder.join("sparse")).unwrap().set_len(1 << 40).unwrap();
        let before = bytes();
        assert!(before < 1 << 16, "links and holes take no room: {before}");
        std::fs::write(folder.join("deep/more"), vec![1; 1 << 17]).unwrap();
        std::fs::hard_link(folder.join("deep/more"), folder.join("deep/same")).unwrap();
        let added = bytes() - before;
        assert!((1 << 17..1 << 18).contains(&added), "two names of one file are one: {added}");
    }

    #[tokio::test]
    async fn a_run_that_writes_too_much_while_it_is_watched_is_told_of() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("before"), vec![1; 1 << 17]).unwrap();
        let writable = vec![Writable { folder: root.path().to_owned(), workspace: Some("notes".into()) }];
        let disk = Disk::of(writable, Bounds { added_bytes: 1 << 16, copy_bytes: u64::MAX });
        let outgrown = disk.outgrown();
        tokio::pin!(outgrown);
        let early = tokio::time::timeout(LOOK_EVERY * 3, &mut outgrown).await;
        assert!(early.is_err(), "what was there before is not its own: {early:?}");
        std::fs::write(root.path().join("more"), vec![1; 1 << 18]).unwrap();
        let why = tokio::time::timeout(Duration::from_secs(30), outgrown).await.unwrap();
        assert!(why.starts_with("it wrote 2") && why.contains("65536 are the most"), "{why}");
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
        let folders = [root.path().to_owned(), root.path().to_owned()];
        let entries = look(&folders, 27).iter().map(|used| used.entries).collect::<Vec<_>>();
        assert_eq!(entries, [20, 7], "all folders together");
    }
}
