//! Slots by bind mounts. The folder of all slots is one shared mount, a blank box has its own slot's folders mounted
//! as slaves of it, so what is mounted here later appears there: the claimed workspace, session and socket. Must never
//! mount anything outside the folder of slots, and never mount read-only later than it becomes visible.
//!
//! Needs root, and an engine that sees this process's mounts. Each mount is first made in a private folder, where it
//! gets its flags (`nosuid`, `nodev`, and `ro`), and only then bound into the slot: a mount that propagates carries its
//! flags along, while a later remount would not travel.

use custody_ports::containers::BoxMount;
use custody_ports::slots::{SlotError, Slots};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount_bind, mount_change, mount_remount, unmount,
};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Where the gateway's folder is in a box.
const GATEWAY: &str = "/run/gw";
/// Folders of a box that have a slot, with the slot's name for each.
const PLACES: [(&str, &str); 4] =
    [(GATEWAY, "gw"), ("/session", "session"), ("/workspace", "workspace"), ("/workspaces", "workspaces")];
/// Longest line of a mount table that is looked at.
const MOUNTS_MAX: u64 = 8 << 20;

/// The slots below one folder.
#[derive(Debug)]
pub struct BindSlots {
    /// The shared mount.
    root: PathBuf,
    /// A private mount, where flags are set before anything is seen.
    stage: PathBuf,
    /// One mount is staged at a time.
    staging: Mutex<()>,
}

impl BindSlots {
    /// Slots below `folder`, which is this installation's own. A link on the way to it is followed now: mount tables
    /// name real paths.
    pub fn below(folder: &Path) -> BindSlots {
        let real = |parent: &Path| std::fs::canonicalize(parent).ok();
        let named = |parent: PathBuf| folder.file_name().map(|name| parent.join(name));
        let folder = folder.parent().and_then(real).and_then(named).unwrap_or_else(|| folder.to_owned());
        BindSlots { root: folder.join("slots"), stage: folder.join("stage"), staging: Mutex::new(()) }
    }

    /// The folder that boxes mount slots from.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn slot(&self, slot: &str) -> PathBuf {
        self.root.join(slot)
    }

    /// Where a target of a box is in its slot; `None` for one that has no place.
    fn place(&self, slot: &str, target: &str) -> Option<PathBuf> {
        let found = PLACES.iter().find_map(|(path, name)| {
            let rest = Path::new(target).strip_prefix(path).ok()?;
            Some((name, rest.to_owned()))
        });
        let (name, rest) = found?;
        let below = rest.components().count();
        // Only the folder of further workspaces holds others, and only directly.
        (below == usize::from(*name == "workspaces")).then(|| self.slot(slot).join(name).join(rest))
    }

    fn one(&self, slot: &str, mount: &BoxMount) -> Result<(), SlotError> {
        let failed = |what| move |error: rustix::io::Errno| failed(slot, what, error);
        let place = self.place(slot, &mount.target).ok_or_else(|| SlotError::Failed {
            slot: slot.to_owned(),
            what: "finding a place",
            why: format!("{} has none", mount.target),
        })?;
        if !place.exists() {
            fs::create_dir(&place).map_err(|error| failed_io(slot, "making a folder", &error))?;
        }
        if is_mounted(&place) {
            return Ok(());
        }
        let _one_at_a_time = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        mount_bind(&mount.source, &self.stage).map_err(failed("binding"))?;
        let mut flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV;
        if mount.read_only {
            flags |= MountFlags::RDONLY;
        }
        let shown = mount_remount(&self.stage, flags, c"").and_then(|()| mount_bind(&self.stage, &place));
        let unstaged = unmount(&self.stage, UnmountFlags::DETACH);
        shown.map_err(failed("mounting"))?;
        unstaged.map_err(failed("unstaging"))
    }

    /// A folder as a mount of its own. Mounted once, whatever was left of earlier lives.
    fn mount_point(folder: &Path, flags: MountPropagationFlags) -> Result<(), String> {
        let why = |error: &dyn std::fmt::Display| format!("{}: {error}", folder.display());
        match fs::DirBuilder::new().mode(0o700).recursive(true).create(folder) {
            Ok(()) => {}
            Err(error) => return Err(why(&error)),
        }
        if !is_mounted(folder) {
            mount_bind(folder, folder).map_err(|error| why(&error))?;
        }
        mount_change(folder, flags).map_err(|error| why(&error))
    }
}

impl Slots for BindSlots {
    fn prepare(&self, keep: &dyn Fn(&str) -> bool) -> Result<(), SlotError> {
        if !rustix::process::geteuid().is_root() {
            return Err(SlotError::Unsupported("mounting needs root, and this process is not".to_owned()));
        }
        let unsupported = SlotError::Unsupported;
        let parent = self.stage.parent().unwrap_or(&self.stage);
        // Private first, so that neither the stage nor the slots are ever seen through a parent that is shared.
        Self::mount_point(parent, MountPropagationFlags::PRIVATE).map_err(unsupported)?;
        Self::mount_point(&self.root, MountPropagationFlags::SHARED).map_err(unsupported)?;
        fs::create_dir_all(&self.stage).map_err(|e| unsupported(e.to_string()))?;
        // The box's user must be able to pass through to its own slot; the folder above is closed.
        fs::set_permissions(&self.root, fs::Permissions::from_mode(0o711)).map_err(|e| unsupported(e.to_string()))?;
        while is_mounted(&self.stage) {
            unmount(&self.stage, UnmountFlags::DETACH).map_err(|e| unsupported(e.to_string()))?;
        }
        for slot in self.all().into_iter().filter(|slot| !keep(slot)) {
            self.clear(&slot)?;
        }
        Ok(())
    }

    fn make(&self, slot: &str) -> Result<Vec<BoxMount>, SlotError> {
        let io = |what| move |error: std::io::Error| failed_io(slot, what, &error);
        fs::DirBuilder::new().mode(0o755).create(self.slot(slot)).map_err(io("making it"))?;
        let mut mounts = Vec::new();
        for (target, name) in PLACES {
            let source = self.slot(slot).join(name);
            fs::DirBuilder::new().mode(0o755).create(&source).map_err(io("making a folder"))?;
            // Nothing is written into an empty slot; what is mounted there has flags of its own.
            mounts.push(BoxMount { source, target: target.to_owned(), read_only: true });
        }
        Ok(mounts)
    }

    fn reaches(&self, slot: &str, pid: u32) -> Result<(), SlotError> {
        let unseen = |why: String| SlotError::Unsupported(why);
        let read = |path: String| read_mounts(&path).map_err(|e| unseen(format!("{path}: {e}")));
        let ours = read("/proc/self/mountinfo".to_owned())?;
        let theirs = read(format!("/proc/{pid}/mountinfo"))?;
        let root = self.root.to_string_lossy();
        let group = ours.iter().rev().find(|m| m.place == root).and_then(|m| m.tag("shared:"));
        let Some(group) = group else { return Err(unseen(format!("{root} is not a shared mount"))) };
        let slave = theirs.iter().any(|m| m.place == GATEWAY && m.tag("master:") == Some(group));
        if slave {
            Ok(())
        } else {
            Err(unseen(format!("the engine does not pass on what is mounted in {}", self.slot(slot).display())))
        }
    }

    fn fits(&self, mounts: &[BoxMount]) -> bool {
        mounts.iter().all(|mount| self.place("x", &mount.target).is_some())
    }

    fn bind(&self, slot: &str, mounts: &[BoxMount]) -> Result<(), SlotError> {
        let (last, first): (Vec<_>, Vec<_>) = mounts.iter().partition(|mount| mount.target == GATEWAY);
        first.into_iter().chain(last).try_for_each(|mount| self.one(slot, mount))
    }

    fn bound(&self, slot: &str) -> bool {
        self.place(slot, GATEWAY).is_some_and(|place| is_mounted(&place))
    }

    fn clear(&self, slot: &str) -> Result<(), SlotError> {
        let folder = self.slot(slot);
        for mounted in mounts_below(&folder) {
            unmount(&mounted, UnmountFlags::DETACH).map_err(|error| failed(slot, "unmounting", error))?;
        }
        // Only empty folders: were something still mounted, its content must not be removed with them.
        for (_, name) in PLACES {
            let place = folder.join(name);
            for inner in fs::read_dir(&place).into_iter().flatten().flatten() {
                gone(slot, fs::remove_dir(inner.path()))?;
            }
            gone(slot, fs::remove_dir(&place))?;
        }
        gone(slot, fs::remove_dir(&folder))
    }

    fn close(&self) -> Result<(), SlotError> {
        if !self.all().is_empty() {
            return Ok(());
        }
        let parent = self.stage.parent().unwrap_or(&self.stage);
        for place in [&*self.stage, &*self.root, parent] {
            while is_mounted(place) {
                unmount(place, UnmountFlags::DETACH).map_err(|error| failed("", "unmounting their folder", error))?;
            }
        }
        Ok(())
    }

    fn all(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}

fn gone(slot: &str, removed: std::io::Result<()>) -> Result<(), SlotError> {
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed_io(slot, "removing a folder", &error)),
        _ => Ok(()),
    }
}

fn failed(slot: &str, what: &'static str, why: impl std::fmt::Display) -> SlotError {
    SlotError::Failed { slot: slot.to_owned(), what, why: why.to_string() }
}

fn failed_io(slot: &str, what: &'static str, why: &std::io::Error) -> SlotError {
    failed(slot, what, why)
}

/// One line of a mount table.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    place: String,
    optional: Vec<String>,
}

impl Line {
    fn tag(&self, name: &str) -> Option<&str> {
        self.optional.iter().find_map(|field| field.strip_prefix(name))
    }
}

/// Source: proc_pid_mountinfo(5). Spaces and the like in a path are octal.
fn parse_line(line: &str) -> Option<Line> {
    let (left, _) = line.split_once(" - ")?;
    let mut fields = left.split(' ').skip(4);
    let place = unescaped(fields.next()?);
    Some(Line { place, optional: fields.skip(1).map(str::to_owned).collect() })
}

fn unescaped(text: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

fn read_mounts(path: &str) -> std::io::Result<Vec<Line>> {
    use std::io::Read;
    let mut text = String::new();
    fs::File::open(path)?.take(MOUNTS_MAX).read_to_string(&mut text)?;
    Ok(text.lines().filter_map(parse_line).collect())
}

/// What is mounted below a folder, the last one first, so that each can be unmounted.
fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let lines = read_mounts("/proc/self/mountinfo").unwrap_or_default();
    let places = lines.into_iter().rev().map(|line| PathBuf::from(line.place));
    places.filter(|place| place.starts_with(folder) && place != folder).collect()
}

fn is_mounted(place: &Path) -> bool {
    let lines = read_mounts("/proc/self/mountinfo").unwrap_or_default();
    lines.iter().any(|line| Path::new(&line.place) == place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::gateway("/run/gw", Some("gw"))]
    #[case::session("/session", Some("session"))]
    #[case::first("/workspace", Some("workspace"))]
    #[case::another("/workspaces/notes", Some("workspaces/notes"))]
    #[case::their_folder("/workspaces", None)]
    #[case::inside_one("/workspaces/notes/deep", None)]
    #[case::inside_the_first("/workspace/deep", None)]
    #[case::elsewhere("/etc", None)]
    fn a_slot_has_a_place_for_what_a_dispatch_mounts(#[case] target: &str, #[case] place: Option<&str>) {
        let slots = BindSlots::below(Path::new("/p"));
        assert_eq!(slots.place("a", target), place.map(|p| Path::new("/p/slots/a").join(p)));
        let mount = BoxMount { source: "/x".into(), target: target.to_owned(), read_only: true };
        assert_eq!(slots.fits(&[mount]), place.is_some());
    }

    #[rstest]
    #[case::shared(
        "43 27 254:0 /a/pool /a/pool rw,relatime shared:2 - ext4 /dev/vda rw",
        Some(("/a/pool", &["shared:2"][..]))
    )]
    #[case::slave("59 91 254:0 /src /workspace ro,nosuid master:4 - ext4 /dev/vda rw", Some(("/workspace", &["master:4"][..])))]
    #[case::both("1 2 0:1 / /x rw shared:3 master:4 - tmpfs tmpfs rw", Some(("/x", &["shared:3", "master:4"][..])))]
    #[case::private("22 27 0:21 / /proc rw,relatime - proc proc rw", Some(("/proc", &[][..])))]
    #[case::a_space("22 27 0:21 / /a\\040b rw - proc proc rw", Some(("/a b", &[][..])))]
    #[case::not_a_line("nonsense", None)]
    fn lines(#[case] line: &str, #[case] wanted: Option<(&str, &[&str])>) {
        let found = parse_line(line);
        let found = found.as_ref().map(|line| (line.place.as_str(), line.optional.clone()));
        let wanted = wanted.map(|(place, tags)| (place, tags.iter().map(|t| (*t).to_owned()).collect()));
        assert_eq!(found, wanted);
    }
}
