//! The project's files in memory, so that every rule is a function over them and a test can hold a tree of three
//! files. Holds what git tracks or would track; must never read a build folder.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// One file.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// Its bytes; for a symbolic link the text of its target.
    pub(crate) bytes: Vec<u8>,
    /// Whether its owner may execute it.
    pub(crate) executable: bool,
}

/// Paths relative to the project's root with `/` between their parts, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, File>,
}

impl Tree {
    /// Reads what git tracks or would track below `root`. A tracked file that is deleted on disk is left out.
    ///
    /// # Errors
    /// When git does not answer, or a file cannot be read.
    pub(crate) fn load(root: &Path) -> Result<Self> {
        let listed = Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
            .current_dir(root)
            .output()
            .context("running git ls-files; git must be installed")?;
        if !listed.status.success() {
            bail!("git ls-files in {}: {}", root.display(), String::from_utf8_lossy(&listed.stderr).trim());
        }
        let mut tree = Self::default();
        for raw in listed.stdout.split(|byte| *byte == 0).filter(|raw| !raw.is_empty()) {
            let path = std::str::from_utf8(raw).context("a file name that is not UTF-8")?;
            if let Some(file) = read(&root.join(path)).with_context(|| format!("reading {path}"))? {
                tree.files.insert(path.to_owned(), file);
            }
        }
        Ok(tree)
    }

    /// Every path with its file, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// Every file that is UTF-8 text, in order.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().filter_map(|(path, file)| Some((path, std::str::from_utf8(&file.bytes).ok()?)))
    }

    /// The text at a path; `None` if there is no such file or it is not UTF-8.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        std::str::from_utf8(&self.files.get(path)?.bytes).ok()
    }

    /// The bytes at a path.
    pub(crate) fn bytes(&self, path: &str) -> Option<&[u8]> {
        self.files.get(path).map(|file| file.bytes.as_slice())
    }

    /// Whether there is a file at the path, or any file below it.
    pub(crate) fn exists(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let below = format!("{path}/");
        self.files.contains_key(path) || self.below(&below).next().is_some()
    }

    /// Every path that begins with `prefix`, which ends with `/`.
    pub(crate) fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.files.range(prefix.to_owned()..).map(|(path, _)| path.as_str()).take_while(move |p| p.starts_with(prefix))
    }

    /// The names of the folders directly below `prefix`, which ends with `/`.
    pub(crate) fn folders(&self, prefix: &str) -> Vec<String> {
        let mut names: Vec<String> =
            self.below(prefix).filter_map(|path| Some(path[prefix.len()..].split_once('/')?.0.to_owned())).collect();
        names.dedup();
        names
    }
}

fn read(path: &Path) -> Result<Option<File>> {
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::PermissionsExt;
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if metadata.is_symlink() {
        let target = std::fs::read_link(path)?.into_os_string().into_vec();
        return Ok(Some(File { bytes: target, executable: false }));
    }
    if metadata.is_dir() {
        return Ok(None);
    }
    // Another program may remove the file between the two calls; then it is not there either.
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(File { bytes, executable: metadata.permissions().mode() & 0o100 != 0 })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
impl Tree {
    /// A tree of text files, none of them executable.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        for (path, text) in files {
            tree.put(path, text, false);
        }
        tree
    }

    /// Adds or replaces one file.
    pub(crate) fn put(&mut self, path: &str, text: &str, executable: bool) {
        self.files.insert(path.to_owned(), File { bytes: text.as_bytes().to_vec(), executable });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(root: &Path, args: &[&str]) {
        let status = Command::new("git").args(args).current_dir(root).status().unwrap();
        assert!(status.success(), "git {args:?}");
    }

    #[test]
    fn load_reads_tracked_and_new_files_and_leaves_ignored_ones_out() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        git(root, &["init", "--quiet"]);
        for (path, text) in [(".gitignore", "/target\n"), ("target/x", "no"), ("a/tracked", "1"), ("a/gone", "2")] {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), text).unwrap();
        }
        git(root, &["add", "a"]);
        std::fs::remove_file(root.join("a/gone")).unwrap();
        std::fs::write(root.join("new"), "3").unwrap();
        std::os::unix::fs::symlink("../outside", root.join("link")).unwrap();

        let tree = Tree::load(root).unwrap();

        assert_eq!(tree.iter().map(|(path, _)| path).collect::<Vec<_>>(), [".gitignore", "a/tracked", "link", "new"]);
        assert_eq!(tree.text("link"), Some("../outside"));
        assert_eq!(tree.folders(""), ["a"]);
        assert!(tree.exists("a") && tree.exists("a/") && tree.exists("new") && !tree.exists("ne"));
    }

    #[test]
    fn load_says_why_when_the_folder_is_no_checkout() {
        let folder = tempfile::tempdir().unwrap();
        let why = Tree::load(folder.path()).unwrap_err().to_string();
        assert!(why.contains("git ls-files"), "{why}");
    }
}
