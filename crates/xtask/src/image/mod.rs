//! `cargo xtask image NAME`: a runner image from files in the repository, static binaries of this workspace and, for an
//! agent of others, packages that are pinned by digest on a Debian root file system. No registry of images, no builder.
//! The same sources and packages give the same image id, on every machine. Must never put anything into an image that
//! `layer.toml` does not name.

mod archive;
mod build;
mod debian;
mod layer;
mod npm;
mod spec;

pub(crate) use spec::{FOLDER, problems, runners};

use crate::tree::Tree;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the command line says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    /// The runner's name, which is its folder's.
    pub(crate) name: String,
    /// Where the archive goes; in the cache when not given.
    pub(crate) out: Option<PathBuf>,
    /// Whether the Docker engine gets the image too.
    pub(crate) load: bool,
}

/// Builds the image and prints its id, and nothing else, to standard output. Safe to run again: what is there and
/// equal is left alone.
///
/// # Errors
/// When a document is wrong, a binary does not build, a file cannot be written, or the engine does not take the image.
pub(crate) fn run(root: &Path, request: &Request) -> Result<()> {
    let tree = Tree::load(root)?;
    let spec = spec::Spec::find(&tree, &request.name)?;
    let kept = cache()?.join("layers");
    let mut layers = Vec::new();
    if spec.debian {
        layers.push(debian::layer(&tree, &kept)?);
    }
    if let Some(packages) = &spec.npm {
        layers.push(packages.layer(&kept)?);
    }
    let mut binaries = build::static_binaries(root, &spec.packages())?;
    let programs = tempfile::tempdir()?;
    binaries.extend(build::c_programs(root, &spec.c_sources(), programs.path())?);
    layers.push(layer::Layer::memory(archive::layer(&spec.entries(&binaries)?)?));
    let image = archive::image(&spec.tag(), &spec.config, layers);

    let tar = match &request.out {
        Some(path) => path.clone(),
        None => cache()?.join("runners").join(format!("{}.tar", spec.name())),
    };
    let folder = tar.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let wrote = archive::image_in(&tar).as_ref() != Some(&image.id);
    if wrote {
        in_one_step(&tar, |file| image.write(std::io::BufWriter::new(file)))?;
    }
    let runner = folder.join(format!("{}.runner.json", spec.name()));
    replace(&runner, &document(&spec.runner, &image.id)?)?;

    // For `custody runner build`, which is called from anywhere.
    replace(&cache()?.join("source"), format!("{}\n", root.display()).as_bytes())?;

    let did = if wrote { "wrote" } else { "unchanged" };
    crate::say(&format!(
        "{did} {} ({} bytes of layers)\nrunner document {}\n",
        tar.display(),
        image.size(),
        runner.display()
    ))?;
    if request.load {
        load(&tar, &image.id)?;
    }
    crate::out(&format!("{}\n", image.id))
}

/// The runner document with the image filled in.
fn document(runner: &Value, id: &str) -> Result<Vec<u8>> {
    let mut filled = runner.clone();
    let Some(fields) = filled.as_object_mut() else { bail!("the runner document is not an object") };
    fields.insert("image".to_owned(), Value::from(id));
    let mut text = serde_json::to_vec_pretty(&filled)?;
    text.push(b'\n');
    Ok(text)
}

/// Where things go that can be made again.
fn cache() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("CUSTODY_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|base| base.join("custody")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/custody")))
        .context("neither CUSTODY_CACHE nor XDG_CACHE_HOME nor HOME is set")
}

/// Puts the bytes under their name in one step, unless they are there already. Says whether it wrote.
fn replace(path: &Path, bytes: &[u8]) -> Result<bool> {
    if std::fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(false);
    }
    in_one_step(path, |mut file| Ok(file.write_all(bytes)?))?;
    Ok(true)
}

/// Writes a file under another name and gives it its own when it is complete.
fn in_one_step(path: &Path, write: impl FnOnce(&std::fs::File) -> Result<()>) -> Result<()> {
    // The number keeps two runs at the same time from writing into one another's file.
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = PathBuf::from(name);
    let written = std::fs::File::create(&partial)
        .map_err(anyhow::Error::from)
        .and_then(|file| write(&file).and_then(|()| Ok(file.sync_all()?)))
        .and_then(|()| Ok(std::fs::rename(&partial, path)?));
    if written.is_err() {
        let _ = std::fs::remove_file(&partial); // it may not exist; the first error is the one to report
    }
    written.with_context(|| format!("writing {}", path.display()))
}

/// Gives the archive to the engine that DOCKER_HOST names, unless it has the image, and asks for it by its id.
fn load(tar: &Path, id: &str) -> Result<()> {
    if has(id)? {
        return crate::say("the engine has it already\n");
    }
    let loaded = Command::new("docker").args(["load", "--quiet", "--input"]).arg(tar).output();
    let loaded = loaded.context("running docker load; is Docker's command line installed?")?;
    if !loaded.status.success() {
        bail!("docker load: {}", String::from_utf8_lossy(&loaded.stderr).trim());
    }
    if !has(id)? {
        bail!(
            "the engine took {} but has no image {id}: its image store names images by something else",
            tar.display()
        );
    }
    crate::say("loaded into the engine\n")
}

fn has(id: &str) -> Result<bool> {
    let inspected = Command::new("docker").args(["image", "inspect", "--format", "{{.Id}}", id]).output();
    let inspected = inspected.context("running docker image inspect; is Docker's command line installed?")?;
    Ok(inspected.status.success() && String::from_utf8_lossy(&inspected.stdout).trim() == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn document_fills_the_image_in_and_nothing_else() {
        let text = document(&json!({"name": "a", "image": "sha256:0", "argv": ["x"]}), "sha256:1").unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&text).unwrap(),
            json!({"name": "a", "image": "sha256:1", "argv": ["x"]})
        );
        assert!(document(&json!([]), "sha256:1").is_err());
    }

    #[test]
    fn replace_writes_only_what_differs_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert!(replace(&path, b"1").unwrap());
        assert!(!replace(&path, b"1").unwrap());
        assert!(replace(&path, b"2").unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"2");
        assert!(replace(&folder.path().join("none/a"), b"1").is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
