//! A layer: a tar in memory or in the cache, and its digest. Layers that take long to make are made once and found again
//! by a key over everything that they are made of. Must never hold a time, an owner or an order of this machine.

use super::archive::{EPOCH, Reader};
use crate::seal::digest;
use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// The largest layer: what a box may not need is not packed.
const LAYER_BYTES_MAX: u64 = 2 << 30;

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    /// `sha256:…` of its bytes.
    pub(crate) digest: String,
    /// How many there are.
    pub(crate) size: u64,
    source: Source,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Memory(Vec<u8>),
    File(PathBuf),
}

impl Layer {
    /// A layer in memory.
    pub(crate) fn memory(bytes: Vec<u8>) -> Layer {
        Layer { digest: digest(&bytes), size: bytes.len() as u64, source: Source::Memory(bytes) }
    }

    /// A layer in the cache: made by `make` into the file that it is given, unless one of this key is there.
    ///
    /// # Errors
    /// When it cannot be made, read, or is too large.
    pub(crate) fn cached(
        folder: &Path,
        key: &str,
        what: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Layer> {
        let path = folder.join(format!("{key}.tar"));
        if !path.is_file() {
            std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
            crate::say(&format!("making the layer {what}, once\n"))?;
            let partial = folder.join(format!(".{key}.{}.partial", std::process::id()));
            let made = make(&partial).and_then(|()| Ok(std::fs::rename(&partial, &path)?));
            if made.is_err() {
                let _ = std::fs::remove_file(&partial); // it may not exist; the first error is the one to report
            }
            made.with_context(|| format!("making the layer {what}"))?;
        }
        let (digest, size) = digest_file(&path)?;
        ensure!(size <= LAYER_BYTES_MAX, "the layer {what} has {size} bytes, more than {LAYER_BYTES_MAX}");
        Ok(Layer { digest, size, source: Source::File(path) })
    }

    /// Its bytes.
    ///
    /// # Errors
    /// When its file cannot be opened.
    pub(crate) fn open(&self) -> Result<Reader<'_>> {
        Ok(match &self.source {
            Source::Memory(bytes) => Box::new(bytes.as_slice()),
            Source::File(path) => {
                Box::new(BufReader::new(File::open(path).with_context(|| format!("opening {}", path.display()))?))
            }
        })
    }
}

fn digest_file(path: &Path) -> Result<(String, u64)> {
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let count = file.read(&mut buffer).with_context(|| format!("reading {}", path.display()))?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        size += count as u64;
    }
    let mut text = String::from("sha256:");
    for byte in hash.finalize() {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
    }
    Ok((text, size))
}

/// A key over texts: those of one layer's recipe.
pub(crate) fn key(name: &str, parts: &[&str]) -> String {
    // A length before each part, so that no two lists of parts are one text.
    let text: String = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
    let digest = digest(text.as_bytes());
    format!("{name}-{}", digest.trim_start_matches("sha256:").get(..32).unwrap_or_default())
}

/// What of a tree stays out: a path below one of these, or a name that ends so.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Without<'a> {
    /// Paths without a slash at either end.
    pub(crate) below: &'a [String],
    /// Ends of names, such as `.map`.
    pub(crate) ends: &'a [String],
}

impl Without<'_> {
    fn drops(&self, path: &str) -> bool {
        let below =
            |prefix: &String| path.strip_prefix(prefix.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('/'));
        self.below.iter().any(below) || self.ends.iter().any(|end| path.ends_with(end.as_str()))
    }
}

/// The same root file system without what a box must not or need not have: devices, rights of another user, dropped
/// paths; every time the same.
///
/// # Errors
/// When it cannot be read or written.
pub(crate) fn clean_tar(from: impl Read, to: impl Write, drop: Without<'_>) -> Result<()> {
    let mut archive = tar::Archive::new(from);
    let mut out = Builder::new(to);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = plain(&entry.path()?)?;
        let kind = entry.header().entry_type();
        let known = matches!(kind, EntryType::Regular | EntryType::Directory | EntryType::Symlink | EntryType::Link);
        if path.is_empty() || !known || drop.drops(&path) {
            continue;
        }
        let mut header = header(kind, entry.header().mode()? & 0o1777);
        header.set_uid(entry.header().uid()?);
        header.set_gid(entry.header().gid()?);
        match kind {
            EntryType::Regular => {
                header.set_size(entry.header().size()?);
                out.append_data(&mut header, &path, &mut entry)?;
            }
            EntryType::Directory => out.append_data(&mut header, format!("{path}/"), std::io::empty())?,
            _ => {
                let target = entry.link_name()?.context("a link without a target")?.into_owned();
                // A hard link names its target in the archive; a symbolic one is text.
                let target = if kind == EntryType::Link { PathBuf::from(plain(&target)?) } else { target };
                out.append_link(&mut header, &path, target)?;
            }
        }
    }
    out.into_inner()?.flush()?;
    Ok(())
}

/// A file, or a folder and everything in it, as a tar under `dest`, in the order of names, as root's.
///
/// # Errors
/// When something cannot be read, is neither file, folder nor symbolic link, or leads out of the tree.
pub(crate) fn tree_tar(pairs: &[(PathBuf, String)], to: impl Write, drop: Without<'_>) -> Result<()> {
    let mut out = Builder::new(to);
    let mut parents = std::collections::BTreeSet::new();
    for (from, dest) in pairs {
        let dest = dest.trim_start_matches('/');
        let mut above = Path::new(dest).parent();
        let mut missing = Vec::new();
        while let Some(parent) = above.filter(|parent| !parent.as_os_str().is_empty()) {
            missing.push(parent.to_owned());
            above = parent.parent();
        }
        for parent in missing.into_iter().rev().filter(|parent| parents.insert(parent.clone())) {
            let name = format!("{}/", parent.display());
            out.append_data(&mut header(EntryType::Directory, 0o755), name, std::io::empty())?;
        }
        add(&mut out, from, dest, "", drop).with_context(|| format!("packing {}", from.display()))?;
    }
    out.into_inner()?.flush()?;
    Ok(())
}

fn add(out: &mut Builder<impl Write>, from: &Path, dest: &str, inside: &str, drop: Without<'_>) -> Result<()> {
    if drop.drops(inside) {
        return Ok(());
    }
    let facts = std::fs::symlink_metadata(from).with_context(|| format!("looking at {}", from.display()))?;
    if facts.is_symlink() {
        let target = std::fs::read_link(from)?;
        out.append_link(&mut header(EntryType::Symlink, 0o777), dest, target)?;
    } else if facts.is_dir() {
        out.append_data(&mut header(EntryType::Directory, 0o755), format!("{dest}/"), std::io::empty())?;
        let mut names = std::fs::read_dir(from)?.map(|e| Ok(e?.file_name())).collect::<Result<Vec<_>>>()?;
        names.sort();
        for name in names {
            let text = name.to_str().with_context(|| format!("a name in {} is not UTF-8", from.display()))?;
            let inner = if inside.is_empty() { text.to_owned() } else { format!("{inside}/{text}") };
            add(out, &from.join(text), &format!("{dest}/{text}"), &inner, drop)?;
        }
    } else {
        ensure!(facts.is_file(), "{} is neither a file, a folder nor a link", from.display());
        use std::os::unix::fs::PermissionsExt;
        let mode = if facts.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
        let mut header = header(EntryType::Regular, mode);
        header.set_size(facts.len());
        out.append_data(&mut header, dest, File::open(from)?)?;
    }
    Ok(())
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(EPOCH);
    header.set_size(0);
    header
}

/// A path without a leading `./` or `/`.
fn plain(path: &Path) -> Result<String> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str().context("a path is not UTF-8")?),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => anyhow::bail!("the path {} climbs", path.display()),
        }
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn names(bytes: &[u8]) -> Vec<(String, u32, EntryType)> {
        let mut archive = tar::Archive::new(bytes);
        let rows = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            assert_eq!((entry.header().mtime().unwrap(), entry.header().uid().unwrap()), (EPOCH, 0));
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            (path, entry.header().mode().unwrap(), entry.header().entry_type())
        });
        rows.collect()
    }

    #[test]
    fn a_tree_is_packed_in_order_without_what_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        std::fs::create_dir_all(at("b/arm")).unwrap();
        for (path, mode) in [("z.js", 0o600), ("a.js", 0o700), ("a.js.map", 0o600), ("b/arm/x", 0o600)] {
            std::fs::write(at(path), path).unwrap();
            std::fs::set_permissions(at(path), PermissionsExt::from_mode(mode)).unwrap();
        }
        symlink("a.js", at("link")).unwrap();
        let (below, ends) = (["b/arm".to_owned()], [".map".to_owned()]);
        let pack = || {
            let mut bytes = Vec::new();
            let pairs = [(folder.path().to_owned(), "/opt/agent".to_owned()), (at("z.js"), "/opt/one".to_owned())];
            tree_tar(&pairs, &mut bytes, Without { below: &below, ends: &ends }).unwrap();
            bytes
        };
        let row = |path: &str, mode, kind| (path.to_owned(), mode, kind);
        let (file, dir) = (EntryType::Regular, EntryType::Directory);
        assert_eq!(
            names(&pack()),
            [
                row("opt/", 0o755, dir),
                row("opt/agent/", 0o755, dir),
                row("opt/agent/a.js", 0o755, file),
                row("opt/agent/b/", 0o755, dir),
                row("opt/agent/link", 0o777, EntryType::Symlink),
                row("opt/agent/z.js", 0o644, file),
                row("opt/one", 0o644, file),
            ]
        );
        assert_eq!(pack(), pack());
    }

    #[test]
    fn a_root_file_system_loses_devices_foreign_rights_and_times() {
        let mut from = Builder::new(Vec::new());
        let mut put = |path: &str, kind, mode, link: Option<&str>| {
            let mut header = header(kind, mode);
            header.set_mtime(7);
            match link {
                Some(link) => from.append_link(&mut header, path, link).unwrap(),
                None => from.append_data(&mut header, path, std::io::empty()).unwrap(),
            }
        };
        put("./", EntryType::Directory, 0o755, None);
        put("./dev/null", EntryType::Char, 0o666, None);
        put("./tmp/", EntryType::Directory, 0o1777, None);
        put("./usr/bin/su", EntryType::Regular, 0o4755, None);
        put("./usr/bin/su2", EntryType::Link, 0o4755, Some("./usr/bin/su"));
        put("./bin", EntryType::Symlink, 0o777, Some("usr/bin"));
        put("./etc/resolv.conf", EntryType::Regular, 0o644, None);
        let from = from.into_inner().unwrap();
        let below = ["etc/resolv.conf".to_owned()];
        let mut bytes = Vec::new();
        clean_tar(from.as_slice(), &mut bytes, Without { below: &below, ends: &[] }).unwrap();
        let row = |path: &str, mode, kind| (path.to_owned(), mode, kind);
        assert_eq!(
            names(&bytes),
            [
                row("tmp/", 0o1777, EntryType::Directory),
                row("usr/bin/su", 0o755, EntryType::Regular),
                row("usr/bin/su2", 0o755, EntryType::Link),
                row("bin", 0o777, EntryType::Symlink),
            ]
        );
    }

    #[test]
    fn a_layer_is_made_once_and_a_failure_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Layer::cached(folder.path(), "k", "x", |_| anyhow::bail!("no")).is_err());
        let make = |path: &Path| Ok(std::fs::write(path, b"abc")?);
        let one = Layer::cached(folder.path(), "k", "x", make).unwrap();
        let two = Layer::cached(folder.path(), "k", "x", |_| anyhow::bail!("made twice")).unwrap();
        assert_eq!((&one, one.size), (&two, 3));
        assert_eq!(one.digest, Layer::memory(b"abc".to_vec()).digest);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_ne!(key("a", &["b", "c"]), key("a", &["bc"]));
    }
}
