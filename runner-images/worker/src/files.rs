//! Writes the runner's own files (an agent's configuration) before the agent starts. Must never write outside the given
//! roots, follow a link out of them, or replace what is not a plain file.

use crate::prepare::BadJob;
use rustix::fs::OFlags;
use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Component, Path, PathBuf},
};

/// Where a runner's files may go: its home and the scratch folder.
#[derive(Debug, Clone)]
pub struct Roots(Vec<PathBuf>);

impl Roots {
    /// The home folder, if there is one that is not `/`, and `/tmp`.
    pub fn new(home: Option<PathBuf>) -> Self {
        let home = home.filter(|home| home.is_absolute() && home.parent().is_some());
        Self(home.into_iter().chain([PathBuf::from("/tmp")]).collect())
    }
}

/// Writes every file with mode 0600 and its missing folders with mode 0700; replaces a plain file that is there.
///
/// Errors: [`BadJob`] with code `bad_file` at the first path that is refused or cannot be written.
pub fn write_all(files: &[(PathBuf, String)], roots: &Roots) -> Result<(), BadJob> {
    for (path, text) in files {
        write(path, text, roots)
            .map_err(|why| BadJob { code: "bad_file", message: format!("{}: {why}", path.display()) })?;
    }
    Ok(())
}

/// Makes every symbolic link and its missing folders; one that is there and leads to the same place is left alone. What
/// the target is does not matter here: the agent could make the same link itself.
///
/// Errors: [`BadJob`] with code `bad_link` at the first path that is refused or taken.
pub fn link_all(links: &[(PathBuf, PathBuf)], roots: &Roots) -> Result<(), BadJob> {
    for (path, target) in links {
        link(path, target, roots)
            .map_err(|why| BadJob { code: "bad_link", message: format!("{}: {why}", path.display()) })?;
    }
    Ok(())
}

fn link(path: &Path, target: &Path, roots: &Roots) -> Result<(), String> {
    make_parents(path, roots)?;
    match std::os::unix::fs::symlink(target, path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let same = fs::read_link(path).is_ok_and(|there| there == target);
            if same { Ok(()) } else { Err("something else is there".to_owned()) }
        }
        other => other.map_err(|error| error.to_string()),
    }
}

/// Refuses a path that is not below a root, and makes the folders above it.
fn make_parents(path: &Path, roots: &Roots) -> Result<(), String> {
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let root = roots.0.iter().find(|root| path.starts_with(root) && path != root.as_path());
    let (Some(root), true, Some(parent)) = (root, plain, path.parent()) else {
        return Err("a runner's file must be under the home folder or /tmp".to_owned());
    };
    let describe = |error: std::io::Error| error.to_string();
    let real_root = root.canonicalize().map_err(describe)?;
    // Folder by folder, so that a link is seen before anything is made behind it.
    let mut folder = root.clone();
    for part in parent.strip_prefix(root).unwrap_or_else(|_| Path::new("")).components() {
        folder.push(part);
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(describe(error)),
            Ok(()) | Err(_) => {}
        }
        if !folder.canonicalize().map_err(describe)?.starts_with(&real_root) {
            return Err("a link leads out of the allowed folder".to_owned());
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str, roots: &Roots) -> Result<(), String> {
    make_parents(path, roots)?;
    let describe = |error: std::io::Error| error.to_string();
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let no_follow = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).map_err(|error| error.to_string())?;
    let mut file = options.custom_flags(no_follow).open(path).map_err(describe)?;
    if !file.metadata().map_err(describe)?.is_file() {
        return Err("not a plain file".to_owned());
    }
    file.write_all(text.as_bytes()).map_err(describe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn writes_with_parents_and_replaces() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(".config/agent/config.json");
        let roots = Roots::new(Some(home.path().to_owned()));
        for text in ["first version", "second"] {
            write_all(&[(path.clone(), text.to_owned())], &roots).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn links_are_made_once_and_replace_nothing() {
        let home = tempfile::tempdir().unwrap();
        let roots = Roots::new(Some(home.path().to_owned()));
        let link = |path: &str, target: &str| {
            link_all(&[(home.path().join(path), PathBuf::from(target))], &roots).map_err(|bad| bad.code)
        };
        assert_eq!(link(".agent/sessions", "/session"), Ok(()));
        assert_eq!(link(".agent/sessions", "/session"), Ok(()), "a second turn finds its own link");
        assert_eq!(fs::read_link(home.path().join(".agent/sessions")).unwrap(), Path::new("/session"));
        assert_eq!(link(".agent/sessions", "/tmp"), Err("bad_link"));
        assert_eq!(link("../outside", "/tmp"), Err("bad_link"));
        fs::write(home.path().join("taken"), "x").unwrap();
        assert_eq!(link("taken", "/session"), Err("bad_link"));
    }

    #[rstest]
    #[case::outside("/etc/custody-test")]
    #[case::relative("config.json")]
    #[case::up_and_out("{home}/../escape")]
    #[case::the_root_itself("{home}")]
    #[case::prefix_is_not_a_folder("{home}x/file")]
    #[case::linked_folder("{home}/out/file")]
    #[case::new_folder_behind_a_link("{home}/out/new/file")]
    #[case::linked_file("{home}/link")]
    #[case::a_folder("{home}/folder")]
    fn refuses(#[case] path: &str) {
        let outside = tempfile::tempdir().unwrap();
        let home = tempfile::tempdir().unwrap();
        symlink(outside.path(), home.path().join("out")).unwrap();
        fs::write(outside.path().join("target"), "untouched").unwrap();
        symlink(outside.path().join("target"), home.path().join("link")).unwrap();
        fs::create_dir(home.path().join("folder")).unwrap();

        let path = PathBuf::from(path.replace("{home}", home.path().to_str().unwrap()));
        let roots = Roots(vec![home.path().to_owned()]);
        let refused = write_all(&[(path, "x".to_owned())], &roots).unwrap_err();
        assert_eq!(refused.code, "bad_file");
        assert_eq!(fs::read_to_string(outside.path().join("target")).unwrap(), "untouched");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "nothing was made outside");
    }
}
