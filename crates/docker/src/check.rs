//! What a spec must be before the engine hears of it. Pure. Must never repair a spec: one that breaks a rule is
//! refused, because the engine would read it as something else (a limit of 0 is no limit, a name of hexadecimal
//! digits is the beginning of somebody's id).

use crate::spec::{HOME, Profile, TMP};
use custody_ports::containers::{BoxMount, BoxSpec};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Most characters of a container's name.
const NAME_MAX: usize = 128;
/// Most mounts of one box.
const MOUNTS_MAX: usize = 32;
/// Most variables, and most labels.
const PAIRS_MAX: usize = 64;
/// Most bytes of one variable or label.
const PAIR_BYTES_MAX: usize = 32_768;
/// Least memory: below it the engine, or the start of a process, fails in ways that do not say why.
const MEMORY_MIN: u64 = 8 << 20;
/// Folders in a box where nothing may be mounted, nor anything above or below them.
const RESERVED: [&str; 5] = ["/proc", "/sys", "/dev", TMP, HOME];

/// Why a spec is not a box.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSpec {
    /// Not a container's name, or one that can be read as the beginning of an id.
    #[error("container name {0:?} is not 2 to 128 of [A-Za-z0-9_.-] with one character that no hexadecimal number has")]
    Name(String),
    /// Not an image id.
    #[error("image {0:?} is not sha256: and 64 hexadecimal digits")]
    Image(String),
    /// A limit that is none.
    #[error("limit {0} is {1}: it must be at least {2} and fit in 63 bits")]
    Limit(&'static str, u64, u64),
    /// A variable or label that does not fit.
    #[error("{0} {1:?} has no name, a = or a NUL in its name, or is longer than 32768 bytes")]
    Pair(&'static str, String),
    /// Too many of something.
    #[error("{0}: {1} are more than {2}")]
    TooMany(&'static str, usize, usize),
    /// A place in the box that is not free.
    #[error("mount target {0:?} is not an absolute plain path, is taken, or lies in a reserved folder")]
    Target(String),
    /// A folder of the host that may not be mounted.
    #[error("mount source {0} is not below a folder that boxes may mount")]
    Source(String),
}

/// Checks every rule of a spec that needs no look at the host.
pub(crate) fn check(spec: &BoxSpec, profile: &Profile) -> Result<(), BadSpec> {
    if !is_name(&spec.name) {
        return Err(BadSpec::Name(cut(&spec.name)));
    }
    if !is_image_id(&spec.image) {
        return Err(BadSpec::Image(cut(&spec.image)));
    }
    for (what, value, least) in
        [("memory_bytes", spec.memory_bytes, MEMORY_MIN), ("nano_cpus", spec.nano_cpus, 1), ("pids", spec.pids, 1)]
    {
        if value < least || i64::try_from(value).is_err() {
            return Err(BadSpec::Limit(what, value, least));
        }
    }
    for (what, pairs) in [("variable", &spec.env), ("label", &spec.labels)] {
        at_most(what, pairs.len(), PAIRS_MAX)?;
        if let Some((name, _)) = pairs.iter().find(|(name, value)| !is_pair(name, value)) {
            return Err(BadSpec::Pair(what, cut(name)));
        }
    }
    at_most("mount", spec.mounts.len(), MOUNTS_MAX)?;
    let mut taken = BTreeSet::new();
    for mount in &spec.mounts {
        if !is_target(&mount.target) || !taken.insert(mount.target.as_str()) {
            return Err(BadSpec::Target(cut(&mount.target)));
        }
        if below_root(mount, profile).is_none() {
            return Err(BadSpec::Source(cut(&mount.source.to_string_lossy())));
        }
    }
    Ok(())
}

/// The root that a source lies below and the plain path from there, if there is one. The root itself is not below.
pub(crate) fn below_root<'a>(mount: &'a BoxMount, profile: &'a Profile) -> Option<(&'a Path, PathBuf)> {
    let source = mount.source.as_path();
    source.to_str()?;
    profile.mount_roots.iter().find_map(|root| {
        let rest = source.strip_prefix(root).ok()?;
        (root.is_absolute() && rest.components().next().is_some() && is_plain(source) && is_plain(root))
            .then(|| (root.as_path(), rest.to_path_buf()))
    })
}

/// A name that the engine takes, and that it cannot take for the beginning of a container's id: it looks a name up
/// as an id first.
pub(crate) fn is_name(name: &str) -> bool {
    (2..=NAME_MAX).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
        && name.chars().any(|c| !c.is_ascii_hexdigit())
}

/// An image's name as `resolve_image` takes it. The adapter puts it into a URL path as it is.
pub(crate) fn is_image_name(name: &str) -> bool {
    (1..=256).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-/:@".contains(c))
        && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

fn is_image_id(image: &str) -> bool {
    image
        .strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
}

fn is_pair(name: &str, value: &str) -> bool {
    !name.is_empty()
        && name.len() + value.len() < PAIR_BYTES_MAX
        && !name.contains(['=', '\0'])
        && !value.contains('\0')
}

fn is_target(target: &str) -> bool {
    let path = Path::new(target);
    let apart = |folder: &str| !path.starts_with(folder) && !Path::new(folder).starts_with(path);
    is_plain(path) && path.parent().is_some() && RESERVED.into_iter().all(apart) && !target.contains('\0')
}

/// Absolute, without `.`, `..`, doubled or trailing slashes: the text is the place.
fn is_plain(path: &Path) -> bool {
    path.is_absolute()
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
        && path.components().collect::<PathBuf>().as_os_str() == path.as_os_str()
}

fn at_most(what: &'static str, count: usize, most: usize) -> Result<(), BadSpec> {
    if count > most { Err(BadSpec::TooMany(what, count, most)) } else { Ok(()) }
}

fn cut(text: &str) -> String {
    text.chars().take(160).collect()
}

#[cfg(test)]
mod tests;
