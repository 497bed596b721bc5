//! The bytes of a layer and of an archive for `docker load`. Pure: the same entries give the same bytes. Must never
//! take a time, an owner or an order from the machine it runs on.
//!
//! Source: Docker Image Specification v1.2, "Combined Image JSON + Filesystem Changeset Format".

use super::layer::Layer;
use crate::seal::{canonical, digest};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use tar::{Builder, EntryType, Header};

/// Every time in an image: 2026-01-01T00:00:00Z. A time of zero makes some tools show nonsense.
pub(crate) const EPOCH: u64 = 1_767_225_600;
const EPOCH_TEXT: &str = "2026-01-01T00:00:00Z";

/// One folder or file of the layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Permission bits.
    pub(crate) mode: u32,
    /// The owner's number.
    pub(crate) uid: u64,
    /// The group's number.
    pub(crate) gid: u64,
    /// The bytes of a file; `None` for a folder.
    pub(crate) bytes: Option<Vec<u8>>,
}

/// Entries by absolute path without a slash at the end, for example `/usr/bin`.
pub(crate) type Entries = BTreeMap<String, Entry>;

/// Bytes to be read.
pub(crate) type Reader<'a> = Box<dyn Read + 'a>;

/// An image ready to be loaded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Image {
    /// `sha256:` and 64 digits over the configuration; what the engine calls the image.
    pub(crate) id: String,
    tag: String,
    document: String,
    layers: Vec<Layer>,
}

/// The layer's tar. Folders above an entry that are not entries themselves belong to root and have mode 0755.
///
/// # Errors
/// When a path is too long for a tar header of the GNU form, which `tar` extends: never for paths of ours.
pub(crate) fn layer(entries: &Entries) -> Result<Vec<u8>> {
    let mut all = entries.clone();
    for path in entries.keys() {
        let mut above = path.as_str();
        while let Some((parent, _)) = above.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
            all.entry(parent.to_owned()).or_insert(Entry { mode: 0o755, uid: 0, gid: 0, bytes: None });
            above = parent;
        }
    }
    let mut tar = Builder::new(Vec::new());
    for (path, entry) in &all {
        append(&mut tar, path.trim_start_matches('/'), entry).with_context(|| format!("adding {path}"))?;
    }
    Ok(tar.into_inner()?)
}

fn append(tar: &mut Builder<Vec<u8>>, path: &str, entry: &Entry) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(entry.mode);
    header.set_uid(entry.uid);
    header.set_gid(entry.gid);
    header.set_mtime(EPOCH);
    let bytes = entry.bytes.as_deref().unwrap_or_default();
    header.set_size(u64::try_from(bytes.len())?);
    match entry.bytes {
        Some(_) => {
            header.set_entry_type(EntryType::Regular);
            tar.append_data(&mut header, path, bytes)?;
        }
        None => {
            header.set_entry_type(EntryType::Directory);
            tar.append_data(&mut header, format!("{path}/"), bytes)?;
        }
    }
    Ok(())
}

/// The image of these layers, the lowest first, and a configuration. The tag is no part of its id: it keeps the engine
/// from counting the image as dangling.
pub(crate) fn image(tag: &str, config: &Value, layers: Vec<Layer>) -> Image {
    let digests: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
    let history: Vec<Value> =
        layers.iter().map(|_| json!({ "created": EPOCH_TEXT, "created_by": "cargo xtask image" })).collect();
    let document = canonical(&json!({
        "architecture": "amd64",
        "os": "linux",
        "created": EPOCH_TEXT,
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": digests },
        "history": history,
    }));
    Image { id: digest(document.as_bytes()), tag: tag.to_owned(), document, layers }
}

impl Image {
    /// Bytes of all layers.
    pub(crate) fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }

    /// Writes the archive for `docker load`.
    ///
    /// # Errors
    /// When a layer cannot be read or the archive cannot be written.
    pub(crate) fn write(&self, to: impl Write) -> Result<()> {
        let config = format!("{}.json", hex(&self.id));
        let path = |layer: &Layer| format!("{}/layer.tar", hex(&layer.digest));
        let paths: Vec<String> = self.layers.iter().map(path).collect();
        let manifest = canonical(&json!([{ "Config": config, "RepoTags": [self.tag], "Layers": paths }]));
        let mut tar = Builder::new(to);
        for (layer, path) in self.layers.iter().zip(&paths) {
            append_file(&mut tar, path, layer.size, layer.open()?)?;
        }
        append_file(&mut tar, &config, self.document.len() as u64, Box::new(self.document.as_bytes()))?;
        append_file(&mut tar, "manifest.json", manifest.len() as u64, Box::new(manifest.as_bytes()))?;
        tar.into_inner()?.flush()?;
        Ok(())
    }
}

/// The id of the image in an archive of ours, if it is one.
pub(crate) fn image_in(archive: &Path) -> Option<String> {
    let mut tar = tar::Archive::new(std::fs::File::open(archive).ok()?);
    for entry in tar.entries_with_seek().ok()? {
        let entry = entry.ok()?;
        if let Some(id) = entry.path().ok()?.to_str()?.strip_suffix(".json").filter(|name| *name != "manifest") {
            return Some(format!("sha256:{id}"));
        }
    }
    None
}

fn append_file(tar: &mut Builder<impl Write>, path: &str, size: u64, bytes: Reader<'_>) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(EPOCH);
    header.set_size(size);
    Ok(tar.append_data(&mut header, path, bytes)?)
}

fn hex(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Entries {
        Entries::from([
            ("/usr/bin/worker".into(), Entry { mode: 0o755, uid: 0, gid: 0, bytes: Some(b"elf".to_vec()) }),
            ("/home/agent".into(), Entry { mode: 0o750, uid: 65532, gid: 65532, bytes: None }),
        ])
    }

    fn read(bytes: &[u8]) -> Vec<(String, u32, u64, u64, u64, Vec<u8>)> {
        let mut archive = tar::Archive::new(bytes);
        let rows = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let header = entry.header().clone();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let mode = header.mode().unwrap();
            (path, mode, header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap(), content)
        });
        rows.collect()
    }

    #[test]
    fn layer_holds_the_entries_and_the_folders_above_them_in_order() {
        let rows = read(&layer(&entries()).unwrap());
        let row = |path: &str, mode, id, bytes: &[u8]| (path.to_owned(), mode, id, id, EPOCH, bytes.to_vec());
        assert_eq!(
            rows,
            [
                row("home/", 0o755, 0, b""),
                row("home/agent/", 0o750, 65532, b""),
                row("usr/", 0o755, 0, b""),
                row("usr/bin/", 0o755, 0, b""),
                row("usr/bin/worker", 0o755, 0, b"elf"),
            ]
        );
    }

    #[test]
    fn the_same_entries_are_the_same_image_and_others_are_another() {
        let config = json!({"User": "65532:65532", "Env": []});
        let image = |tag: &str, config: &Value, bytes| image(tag, config, vec![Layer::memory(bytes)]);
        let one = image("a:1", &config, layer(&entries()).unwrap());
        assert_eq!(one, image("a:1", &config, layer(&entries()).unwrap()));
        // The tag is no part of the image.
        assert_eq!(one.id, image("b:1", &config, layer(&entries()).unwrap()).id);
        let mut other = entries();
        other.get_mut("/home/agent").unwrap().mode = 0o755;
        assert_ne!(one.id, image("a:1", &config, layer(&other).unwrap()).id);
        assert_ne!(one.id, image("a:1", &json!({"User": "0:0"}), layer(&entries()).unwrap()).id);
    }

    #[test]
    fn image_is_an_archive_whose_names_are_digests_of_what_they_hold() {
        let made = image("a:1", &json!({"User": "65532:65532"}), vec![Layer::memory(layer(&entries()).unwrap())]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        made.write(std::fs::File::create(&path).unwrap()).unwrap();
        assert_eq!(image_in(&path), Some(made.id.clone()));
        assert_eq!(image_in(folder.path()), None);
        let rows = read(&std::fs::read(&path).unwrap());
        let names: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
        let layer_hex = hex(&digest(&rows[0].5)).to_owned();
        assert_eq!(
            names,
            [format!("{layer_hex}/layer.tar"), format!("{}.json", hex(&made.id)), "manifest.json".into()]
        );
        assert_eq!(digest(&rows[1].5), made.id);
        let config: Value = serde_json::from_slice(&rows[1].5).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"], json!([format!("sha256:{layer_hex}")]));
        assert_eq!(config["config"], json!({"User": "65532:65532"}));
        let manifest: Value = serde_json::from_slice(&rows[2].5).unwrap();
        assert_eq!(manifest, json!([{"Config": names[1], "RepoTags": ["a:1"], "Layers": [names[0]]}]));
    }
}
