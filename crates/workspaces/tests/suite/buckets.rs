//! The same suite over each bucket, and what a bucket itself must keep.

use crate::support::{file_objects, folder, over, plain_folder, workspace};
use custody_contracts::workspace::Encryption;
use custody_ports::objects::{Created, ObjectError, Objects};
use custody_testkit::workspace_suite::suite;
use custody_testkit::workspaces::MemoryWorkspaces;
use custody_workspaces::{Identities, S3Objects, new_identity};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

#[tokio::test]
async fn a_workspace_in_memory_keeps_the_suite() {
    let memory = MemoryWorkspaces::default();
    suite(&memory, &memory, &workspace("nats://bucket", Encryption::none())).await;
}

#[tokio::test]
async fn a_workspace_in_a_folder_keeps_the_suite() {
    let folder = plain_folder();
    suite(&folder.one, &folder.two, &folder.workspace).await;
}

#[tokio::test]
async fn an_encrypted_workspace_keeps_the_suite() {
    let (key, public) = new_identity();
    let identities = || Identities::parse(&key).unwrap();
    let folder = folder(Encryption::age(vec![public]), [identities(), identities()]);
    suite(&folder.one, &folder.two, &folder.workspace).await;
    // What was fetched of it is gone with the values that fetched it.
    for process in ["one", "two"] {
        let left: Vec<_> = std::fs::read_dir(folder.root.path().join(process)).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// moto, a separate implementation of S3 in Python, in a process of its own.
struct Moto {
    child: Child,
    endpoint: String,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The Python that has moto; `ops/setup` installs it.
fn python() -> PathBuf {
    let named = std::env::var_os("CUSTODY_S3_PYTHON").map(PathBuf::from);
    let cache = || {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        let cache = std::env::var_os("CUSTODY_CACHE").map_or_else(|| home.join(".cache/custody"), PathBuf::from);
        cache.join("s3/bin/python")
    };
    let found = named.unwrap_or_else(cache);
    assert!(found.exists(), "{} is missing: ops/setup installs the S3 service of the tests", found.display());
    found
}

fn moto() -> Moto {
    // Port 0: the system chooses, and the server says which.
    let program = "import sys
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
server = make_server('127.0.0.1', 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(server.server_port, flush=True)
server.serve_forever()";
    let mut child = Command::new(python())
        .args(["-c", program])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port: u16 = line.trim().parse().unwrap_or_else(|_| panic!("moto did not start: {line:?}"));
    Moto { child, endpoint: format!("http://127.0.0.1:{port}") }
}

async fn s3(moto: &Moto, prefix: &str) -> Arc<dyn Objects> {
    let status = std::process::Command::new(python())
        .args([
            "-c",
            "import sys, urllib.request as u; u.urlopen(u.Request(sys.argv[1] + '/workspaces', method='PUT'))",
        ])
        .arg(&moto.endpoint)
        .status()
        .unwrap();
    assert!(status.success(), "the bucket was not made");
    Arc::new(S3Objects::at(&moto.endpoint, "key", "secret", "workspaces", prefix).unwrap())
}

#[tokio::test]
async fn a_workspace_in_s3_keeps_the_suite() {
    let moto = moto();
    let objects = s3(&moto, "a/prefix").await;
    let caches = tempfile::tempdir().unwrap();
    let one = over(objects.clone(), &caches.path().join("one"), Identities::default());
    let two = over(objects, &caches.path().join("two"), Identities::default());
    suite(&one, &two, &workspace("nats://bucket", Encryption::none())).await;
}

async fn keeps_objects(objects: &dyn Objects) {
    assert_eq!(objects.get("w/a").await.unwrap(), None);
    assert_eq!(objects.create("w/a", b"first".to_vec()).await.unwrap(), Created::New);
    assert_eq!(objects.create("w/a", b"second".to_vec()).await.unwrap(), Created::Taken);
    assert_eq!(objects.get("w/a").await.unwrap().as_deref(), Some(&b"first"[..]));
    assert_eq!(objects.create("w/empty", Vec::new()).await.unwrap(), Created::New);
    assert_eq!(objects.get("w/empty").await.unwrap().as_deref(), Some(&b""[..]));
    let racers = (0..8u8).map(|n| objects.create("w/raced", vec![n; 1_000]));
    let won: Vec<Created> = futures::future::join_all(racers).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(won.iter().filter(|w| **w == Created::New).count(), 1, "{won:?}");
    objects.remove("w/a").await.unwrap();
    objects.remove("w/a").await.unwrap();
    assert_eq!(objects.get("w/a").await.unwrap(), None);
    let big = objects.create("w/big", vec![0; 256 * 1024 * 1024 + 1]).await;
    assert!(matches!(big, Err(ObjectError::TooLarge { .. })), "{big:?}");
}

#[tokio::test]
async fn objects_in_a_folder_are_made_once() {
    let root = tempfile::tempdir().unwrap();
    keeps_objects(file_objects(root.path()).as_ref()).await;
}

#[tokio::test]
async fn objects_in_s3_are_made_once() {
    let moto = moto();
    keeps_objects(s3(&moto, "").await.as_ref()).await;
}
