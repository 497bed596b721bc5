//! Workspaces with caches of their own over one bucket, as two processes have them.

use custody_contracts::ids::WorkspaceId;
use custody_contracts::unit::Mode;
use custody_contracts::workspace::{Encryption, Workspace};
use custody_ports::objects::Objects;
use custody_workspaces::{Buckets, FileObjects, GitWorkspaces, Identities};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub(crate) fn workspace(bucket: &str, encryption: Encryption) -> Workspace {
    Workspace {
        id: WorkspaceId::parse("notes").unwrap(),
        bucket: bucket.to_owned(),
        mode: Mode::Rw,
        encryption,
        purpose: "Notes.".into(),
        trunk: "main".into(),
    }
}

/// A process' own view of whatever `nats://bucket` is here.
pub(crate) fn over(objects: Arc<dyn Objects>, cache: &Path, identities: Identities) -> GitWorkspaces {
    let buckets = Buckets::new(BTreeMap::from([("bucket".to_owned(), objects)]));
    GitWorkspaces::with_identities(cache, identities, buckets).unwrap()
}

/// A folder as a bucket, and two processes that use it.
pub(crate) struct Folder {
    pub(crate) root: tempfile::TempDir,
    pub(crate) workspace: Workspace,
    pub(crate) one: GitWorkspaces,
    pub(crate) two: GitWorkspaces,
}

pub(crate) fn folder(encryption: Encryption, identities: [Identities; 2]) -> Folder {
    let root = tempfile::tempdir().unwrap();
    let bucket = format!("file://{}/bucket", root.path().display());
    let [one, two] = identities;
    let process = |name: &str, identities| {
        GitWorkspaces::with_identities(&root.path().join(name), identities, Buckets::new(BTreeMap::new())).unwrap()
    };
    let (one, two) = (process("one", one), process("two", two));
    Folder { workspace: workspace(&bucket, encryption), one, two, root }
}

pub(crate) fn plain_folder() -> Folder {
    folder(Encryption::none(), [Identities::default(), Identities::default()])
}

/// All bytes of every file below a folder.
pub(crate) fn all_bytes(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(all_bytes(&entry.path()));
        } else {
            found.push((entry.path().display().to_string(), std::fs::read(entry.path()).unwrap()));
        }
    }
    found
}

pub(crate) fn file_objects(root: &Path) -> Arc<dyn Objects> {
    Arc::new(FileObjects::new(root).unwrap())
}
