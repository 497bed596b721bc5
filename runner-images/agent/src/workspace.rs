//! Files of the workspace, for the model's tools. Must never touch a path outside the workspace, whatever the model
//! writes: not by `..`, not by an absolute path, not through a link. The container is the real boundary; this keeps the
//! agent honest inside it.

use std::{
    fmt, fs,
    io::{self, Read},
    path::{Component, Path, PathBuf},
};

/// The largest file that is read.
pub const READ_BYTES_MAX: u64 = 256 * 1024;
/// The largest file that is written.
pub const WRITE_BYTES_MAX: usize = 1024 * 1024;
const LIST_ENTRIES_MAX: usize = 200;
const LIST_DEPTH_MAX: usize = 6;
const PATH_BYTES_MAX: usize = 1024;

/// Why a path or file is refused, in words for the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub String);

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self(match error.kind() {
            io::ErrorKind::NotFound => "no such file".to_owned(),
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                "the workspace is read-only".to_owned()
            }
            _ => error.to_string(),
        })
    }
}

fn refused<T>(why: &str) -> Result<T, Refused> {
    Err(Refused(why.to_owned()))
}

/// A workspace whose folder exists.
#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// Opens the folder.
    ///
    /// Errors: when it is not there or is no folder.
    pub fn open(path: &Path) -> Result<Self, Refused> {
        let root = path.canonicalize()?;
        if root.is_dir() { Ok(Self { root }) } else { refused("the workspace is not a folder") }
    }

    /// Whether the mount that holds it is read-only, from the kernel's table of mounts.
    pub fn is_mounted_read_only(&self) -> bool {
        fs::read_to_string("/proc/self/mountinfo").is_ok_and(|mounts| read_only_in(&mounts, &self.root))
    }

    /// The text of a file; what is not UTF-8 in it is replaced.
    ///
    /// Errors: [`Refused`].
    pub fn read(&self, path: &str) -> Result<String, Refused> {
        let path = self.resolve(path)?;
        let metadata = fs::metadata(&path)?;
        if !metadata.is_file() {
            return refused("not a file");
        }
        let mut bytes = Vec::new();
        fs::File::open(&path)?.take(READ_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > READ_BYTES_MAX {
            return Err(Refused(format!("the file is larger than {READ_BYTES_MAX} bytes")));
        }
        if bytes.contains(&0) {
            return refused("not a text file");
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Writes a file whole, making its folders. A reader sees the old text or the new one, never half.
    ///
    /// Errors: [`Refused`].
    pub fn write(&self, path: &str, content: &str) -> Result<(), Refused> {
        if content.len() > WRITE_BYTES_MAX {
            return Err(Refused(format!("the content is larger than {WRITE_BYTES_MAX} bytes")));
        }
        let parts = parts(path)?;
        if parts.iter().any(|part| part.eq_ignore_ascii_case(".git")) {
            return refused("the version history is not written by hand");
        }
        let Some((name, folders)) = parts.split_last() else { return refused("a file name is needed") };
        let mut folder = self.root.clone();
        for part in folders {
            folder.push(part);
            match fs::create_dir(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
                Ok(()) | Err(_) => folder = self.inside(&folder)?,
            }
        }
        let target = folder.join(name);
        let permissions = match fs::symlink_metadata(&target) {
            Ok(metadata) if !metadata.is_file() => return refused("not a plain file"),
            Ok(metadata) => Some(metadata.permissions()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let temporary = folder.join(format!(".{name}.custody-{}", std::process::id()));
        let written = fs::write(&temporary, content)
            .and_then(|()| permissions.map_or(Ok(()), |permissions| fs::set_permissions(&temporary, permissions)))
            .and_then(|()| fs::rename(&temporary, &target));
        if written.is_err() {
            // What failed is told; the leftover may not exist at all.
            let _ = fs::remove_file(&temporary);
        }
        Ok(written?)
    }

    /// Files below a folder, one a line with their sizes, sorted; links are named and not followed.
    ///
    /// Errors: [`Refused`].
    pub fn list(&self, path: &str) -> Result<String, Refused> {
        let top = if path.is_empty() { self.root.clone() } else { self.resolve(path)? };
        if !top.is_dir() {
            return refused("not a folder");
        }
        let mut lines = Vec::new();
        self.list_into(&top, 0, &mut lines)?;
        if lines.is_empty() {
            lines.push("(no files)".to_owned());
        }
        Ok(lines.join("\n"))
    }

    fn list_into(&self, folder: &Path, depth: usize, lines: &mut Vec<String>) -> Result<(), Refused> {
        let mut entries: Vec<_> = fs::read_dir(folder)?.take(10_000).flatten().collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            if lines.len() > LIST_ENTRIES_MAX {
                return Ok(());
            }
            let path = entry.path();
            let shown = path.strip_prefix(&self.root).unwrap_or(&path).to_string_lossy().into_owned();
            let kind = entry.file_type()?;
            if lines.len() == LIST_ENTRIES_MAX {
                lines.push("(and more)".to_owned());
            } else if kind.is_symlink() {
                lines.push(format!("{shown} (link)"));
            } else if !kind.is_dir() {
                lines.push(format!("{shown} ({} bytes)", entry.metadata()?.len()));
            } else if entry.file_name() == ".git" {
                // The history is not part of the work.
            } else if depth + 1 >= LIST_DEPTH_MAX {
                lines.push(format!("{shown}/ (not listed further)"));
            } else {
                self.list_into(&path, depth + 1, lines)?;
            }
        }
        Ok(())
    }

    /// The real path of something that exists, walked part by part.
    fn resolve(&self, path: &str) -> Result<PathBuf, Refused> {
        let mut current = self.root.clone();
        for part in parts(path)? {
            current = self.inside(&current.join(part))?;
        }
        Ok(current)
    }

    /// The real path, if it is inside. Each part is looked at as a link first, so that a link out is refused before
    /// anything behind it is touched.
    fn inside(&self, path: &Path) -> Result<PathBuf, Refused> {
        if !fs::symlink_metadata(path)?.is_symlink() {
            return Ok(path.to_owned());
        }
        let real = path.canonicalize()?;
        if real.starts_with(&self.root) { Ok(real) } else { refused("the path leads out of the workspace") }
    }
}

/// The parts of a relative path without `.`.
fn parts(path: &str) -> Result<Vec<&str>, Refused> {
    if path.is_empty() || path.len() > PATH_BYTES_MAX || path.contains('\0') {
        return refused("a path of 1 to 1024 bytes is needed");
    }
    let mut parts = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => parts.extend(name.to_str()),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return refused("the path must be relative to the workspace"),
            Component::ParentDir => return refused("the path must not hold '..'"),
        }
    }
    Ok(parts)
}

/// Whether the innermost mount above a path has the option `ro`. Source: proc_pid_mountinfo(5), fields 5 and 6.
fn read_only_in(mounts: &str, path: &Path) -> bool {
    let of_line = |line: &str| {
        let mut fields = line.split(' ').skip(4);
        Some((
            PathBuf::from(fields.next()?.replace("\\040", " ")),
            fields.next()?.split(',').any(|option| option == "ro"),
        ))
    };
    let above = mounts.lines().filter_map(of_line).filter(|(point, _)| path.starts_with(point));
    // Of two mounts on one point, the later one is seen.
    above.max_by_key(|(point, _)| point.components().count()).is_some_and(|(_, read_only)| read_only)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use tempfile::TempDir;

    /// `ws/` is the workspace, `outside/` is not; `ws` has links of every kind.
    fn workspace() -> (TempDir, Workspace) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["ws/docs/deep", "ws/.git/hooks", "outside", "ws-evil"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for file in ["ws/a.txt", "ws/docs/b.md", "ws/.git/config", "outside/secret", "ws-evil/secret"] {
            fs::write(at(file), format!("content of {file}")).unwrap();
        }
        symlink("../outside", at("ws/out")).unwrap();
        symlink("../outside/secret", at("ws/out-file")).unwrap();
        symlink(at("ws-evil"), at("ws/neighbour")).unwrap();
        symlink("docs", at("ws/in")).unwrap();
        symlink("docs/b.md", at("ws/in-file")).unwrap();
        symlink("/", at("ws/root")).unwrap();
        symlink("nowhere", at("ws/dangling")).unwrap();
        symlink("loop", at("ws/loop")).unwrap();
        let workspace = Workspace::open(&at("ws")).unwrap();
        (dir, workspace)
    }

    #[rstest]
    #[case::file("a.txt", Ok("content of ws/a.txt"))]
    #[case::folder("docs/b.md", Ok("content of ws/docs/b.md"))]
    #[case::dot("./docs/./b.md", Ok("content of ws/docs/b.md"))]
    #[case::double_slash("docs//b.md", Ok("content of ws/docs/b.md"))]
    #[case::link_inside("in/b.md", Ok("content of ws/docs/b.md"))]
    #[case::file_link_inside("in-file", Ok("content of ws/docs/b.md"))]
    #[case::absolute("/etc/passwd", Err("the path must be relative to the workspace"))]
    #[case::absolute_inside("{ws}/a.txt", Err("the path must be relative to the workspace"))]
    #[case::parent("../outside/secret", Err("the path must not hold '..'"))]
    #[case::parent_in_the_middle("docs/../../outside/secret", Err("the path must not hold '..'"))]
    #[case::parent_that_stays("docs/../a.txt", Err("the path must not hold '..'"))]
    #[case::parent_behind_a_link("out/../outside/secret", Err("the path must not hold '..'"))]
    #[case::link_out("out/secret", Err("the path leads out of the workspace"))]
    #[case::file_link_out("out-file", Err("the path leads out of the workspace"))]
    #[case::same_prefix("neighbour/secret", Err("the path leads out of the workspace"))]
    #[case::link_to_the_root("root/etc/passwd", Err("the path leads out of the workspace"))]
    #[case::dangling("dangling", Err("no such file"))]
    #[case::missing("x/y", Err("no such file"))]
    #[case::a_folder("docs", Err("not a file"))]
    #[case::empty("", Err("a path of 1 to 1024 bytes is needed"))]
    #[case::nul("a.txt\0", Err("a path of 1 to 1024 bytes is needed"))]
    fn reads_only_inside(#[case] path: &str, #[case] expected: Result<&str, &str>) {
        let (dir, workspace) = workspace();
        let path = path.replace("{ws}", dir.path().join("ws").to_str().unwrap());
        let read = workspace.read(&path).map_err(|refused| refused.0);
        assert_eq!(read.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn a_loop_of_links_is_refused() {
        let (_dir, workspace) = workspace();
        assert!(workspace.read("loop").is_err());
        assert!(workspace.write("loop/x", "").is_err());
    }

    #[rstest]
    #[case::new("new.txt", Ok("new.txt"))]
    #[case::new_folders("x/y/z.txt", Ok("x/y/z.txt"))]
    #[case::existing("a.txt", Ok("a.txt"))]
    #[case::link_inside("in/new.md", Ok("docs/new.md"))]
    #[case::absolute("/tmp/custody-agent-must-not-exist", Err("the path must be relative to the workspace"))]
    #[case::parent("../outside/new", Err("the path must not hold '..'"))]
    #[case::link_out("out/new", Err("the path leads out of the workspace"))]
    #[case::new_folder_behind_a_link("out/x/new", Err("the path leads out of the workspace"))]
    #[case::file_link_out("out-file", Err("not a plain file"))]
    #[case::file_link_inside("in-file", Err("not a plain file"))]
    #[case::dangling("dangling", Err("not a plain file"))]
    #[case::a_folder("docs", Err("not a plain file"))]
    #[case::the_workspace_itself(".", Err("a file name is needed"))]
    #[case::git(".git/hooks/post-merge", Err("the version history is not written by hand"))]
    #[case::git_in_capitals("sub/.GIT/config", Err("the version history is not written by hand"))]
    fn writes_only_inside(#[case] path: &str, #[case] expected: Result<&str, &str>) {
        let (dir, workspace) = workspace();
        let written = workspace.write(path, "new text").map_err(|refused| refused.0);
        match expected {
            Ok(real) => {
                assert_eq!(written, Ok(()));
                assert_eq!(fs::read_to_string(dir.path().join("ws").join(real)).unwrap(), "new text");
            }
            Err(why) => assert_eq!(written.as_ref().map_err(String::as_str), Err(why)),
        }
        assert_eq!(fs::read_to_string(dir.path().join("outside/secret")).unwrap(), "content of outside/secret");
        assert_eq!(fs::read_dir(dir.path().join("outside")).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(dir.path().join("ws/docs/b.md")).unwrap(), "content of ws/docs/b.md");
    }

    #[test]
    fn a_write_keeps_the_mode_and_leaves_nothing_behind() {
        let (dir, workspace) = workspace();
        let file = dir.path().join("ws/a.txt");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o750)).unwrap();
        let before = fs::read_dir(dir.path().join("ws")).unwrap().count();
        workspace.write("a.txt", "x").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o750);
        assert_eq!(fs::read_dir(dir.path().join("ws")).unwrap().count(), before);
    }

    #[rstest]
    #[case::at_the_maximum(READ_BYTES_MAX, true)]
    #[case::one_more(READ_BYTES_MAX + 1, false)]
    fn reads_are_bounded(#[case] bytes: u64, #[case] accepted: bool) {
        let (dir, workspace) = workspace();
        fs::write(dir.path().join("ws/big"), "x".repeat(usize::try_from(bytes).unwrap())).unwrap();
        assert_eq!(workspace.read("big").is_ok(), accepted);
    }

    #[rstest]
    #[case::at_the_maximum(WRITE_BYTES_MAX, true)]
    #[case::one_more(WRITE_BYTES_MAX + 1, false)]
    fn writes_are_bounded(#[case] bytes: usize, #[case] accepted: bool) {
        let (_dir, workspace) = workspace();
        assert_eq!(workspace.write("big", &"x".repeat(bytes)).is_ok(), accepted);
    }

    #[test]
    fn binary_is_refused_and_bad_text_is_replaced() {
        let (dir, workspace) = workspace();
        fs::write(dir.path().join("ws/bin"), b"a\0b").unwrap();
        fs::write(dir.path().join("ws/latin"), b"caf\xe9").unwrap();
        assert_eq!(workspace.read("bin"), refused("not a text file"));
        assert_eq!(workspace.read("latin").unwrap(), "caf\u{fffd}");
    }

    #[test]
    fn lists_sorted_without_history_and_without_following_links() {
        let (_dir, workspace) = workspace();
        let listed = workspace.list("").unwrap();
        let expected = [
            "a.txt (19 bytes)",
            "dangling (link)",
            "docs/b.md (23 bytes)",
            "in (link)",
            "in-file (link)",
            "loop (link)",
            "neighbour (link)",
            "out (link)",
            "out-file (link)",
            "root (link)",
        ];
        assert_eq!(listed.lines().collect::<Vec<_>>(), expected);
        assert_eq!(workspace.list("docs").unwrap(), "docs/b.md (23 bytes)");
        assert_eq!(workspace.list("docs/deep").unwrap(), "(no files)");
        assert_eq!(workspace.list("out"), refused("the path leads out of the workspace"));
        assert_eq!(workspace.list("a.txt"), refused("not a folder"));
    }

    #[test]
    fn lists_are_bounded() {
        let (dir, workspace) = workspace();
        for number in 0..300 {
            fs::write(dir.path().join(format!("ws/docs/{number}")), "").unwrap();
        }
        let listed = workspace.list("docs").unwrap();
        assert_eq!(listed.lines().count(), LIST_ENTRIES_MAX + 1);
        assert!(listed.ends_with("(and more)"));
    }

    #[rstest]
    #[case::below_a_read_only_mount("/workspace/x", true)]
    #[case::innermost_wins("/workspace/rw/x", false)]
    #[case::root_is_read_only("/etc", true)]
    #[case::not_a_name_prefix("/workspaces", true)]
    #[case::tmp("/tmp/a", false)]
    fn reads_mounts(#[case] path: &str, #[case] expected: bool) {
        let mounts = "1 0 0:1 / / ro,relatime - overlay overlay rw\n\
            2 1 0:2 / /workspace ro,nosuid - ext4 /dev/x rw\n\
            3 2 0:3 / /workspace/rw rw - ext4 /dev/x rw\n\
            4 1 0:4 / /tmp rw,noexec - tmpfs tmpfs rw";
        assert_eq!(read_only_in(mounts, Path::new(path)), expected);
    }
}
