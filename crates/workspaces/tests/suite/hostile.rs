//! What a hostile box leaves in its working copy, and what a hostile repository holds: named, bounded, never followed,
//! never run.

use crate::support::{Folder, plain_folder};
use custody_ports::workspaces::{
    Change, Head, OpenWorkspace, Owner, Snapshot, WorkspaceError, WorkspaceLimits, Workspaces,
};
use custody_testkit::workspace_suite::{advance, change};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

const SMALL: WorkspaceLimits =
    WorkspaceLimits { file_bytes: 1 << 20, total_bytes: 4 << 20, entries: 200, commit_bytes: 1 << 20 };

struct Mounted {
    _folder: Folder,
    open: Box<dyn OpenWorkspace>,
    head: Head,
    copy: tempfile::TempDir,
}

async fn mounted() -> Mounted {
    let folder = plain_folder();
    let open = folder.one.open(&folder.workspace).await.unwrap();
    let head = open.found().await.unwrap();
    let (_, commit) = change(open.as_ref(), &head, &head.trunk, &[("kept.md", Some("kept\n"))]).await;
    let head = advance(open.as_ref(), &head, &commit, Change::Trunk(commit.clone())).await.unwrap();
    let copy = tempfile::tempdir().unwrap();
    open.check_out(&head, &head.trunk, copy.path(), Owner::Box(65_532), SMALL).await.unwrap();
    Mounted { _folder: folder, open, head, copy }
}

impl Mounted {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.copy.path().join(name)
    }

    async fn snapshot(&self) -> Result<Snapshot, WorkspaceError> {
        self.open.snapshot(&self.head, &self.head.trunk, self.copy.path(), SMALL).await
    }
}

fn codes(snapshot: &Snapshot) -> Vec<(&str, &str)> {
    snapshot.left_out.iter().map(|l| (l.code, l.path.as_str())).collect()
}

fn ran(command: &mut Command) {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[tokio::test]
async fn links_that_leave_are_named_and_never_followed() {
    let m = mounted().await;
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "host secret").unwrap();
    symlink(outside.path().join("secret"), m.path("abs")).unwrap();
    symlink("../../../../etc/passwd", m.path("up")).unwrap();
    symlink(outside.path(), m.path("folder")).unwrap();
    symlink("kept.md", m.path("good")).unwrap();
    symlink("loop", m.path("loop")).unwrap();
    let snapshot = m.snapshot().await.unwrap();
    assert_eq!(codes(&snapshot), [("LINK_LEAVES", "abs"), ("LINK_LEAVES", "folder"), ("LINK_LEAVES", "up")]);
    let commit =
        custody_testkit::workspace_suite::commit(m.open.as_ref(), &m.head, &m.head.trunk, &snapshot.tree, "w-1").await;
    let (entries, _) = m.open.tree(&m.head, &commit).await.unwrap();
    let modes: Vec<_> = entries.iter().map(|e| (e.path.as_str(), e.mode.as_str())).collect();
    assert_eq!(modes, [("good", "120000"), ("kept.md", "100644"), ("loop", "120000")]);
}

#[tokio::test]
async fn devices_pipes_and_special_bits_do_not_land() {
    let m = mounted().await;
    std::fs::write(m.path("suid"), "x").unwrap();
    std::fs::set_permissions(m.path("suid"), std::fs::Permissions::from_mode(0o6755)).unwrap();
    ran(Command::new("mkfifo").arg(m.path("pipe")));
    let _socket = std::os::unix::net::UnixListener::bind(m.path("sock")).unwrap();
    let mut expected = vec![("NOT_A_FILE", "pipe"), ("NOT_A_FILE", "sock")];
    if rustix::process::geteuid().is_root() {
        // Only root makes one; a box never can.
        ran(Command::new("mknod").arg(m.path("disk")).args(["b", "8", "0"]));
        expected.insert(0, ("NOT_A_FILE", "disk"));
    }
    let snapshot = m.snapshot().await.unwrap();
    assert_eq!(codes(&snapshot), expected);
    let commit =
        custody_testkit::workspace_suite::commit(m.open.as_ref(), &m.head, &m.head.trunk, &snapshot.tree, "w-1").await;
    let copy = tempfile::tempdir().unwrap();
    m.open.check_out(&m.head, &commit, copy.path(), Owner::Box(65_532), SMALL).await.unwrap();
    let mode = std::fs::metadata(copy.path().join("suid")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7000, 0, "{mode:o}");
    assert_eq!(mode & 0o111, 0o111, "it stays executable");
}

#[tokio::test]
async fn a_blob_of_two_gigabytes_is_refused_by_name_and_costs_nothing() {
    let m = mounted().await;
    // Sparse: its length is what counts, also where it costs no disk.
    std::fs::File::create(m.path("huge.bin")).unwrap().set_len(2 << 30).unwrap();
    let begun = std::time::Instant::now();
    let snapshot = m.snapshot().await.unwrap();
    assert!(begun.elapsed().as_secs() < 20);
    assert_eq!(codes(&snapshot), [("BLOB_TOO_LARGE", "huge.bin")]);
    assert_eq!(snapshot.left_out[0].detail, "2147483648 bytes, 1048576 are the most");
    assert!(snapshot.unchanged);
}

#[tokio::test]
async fn too_much_in_all_is_refused_by_name() {
    let m = mounted().await;
    for n in 0..5 {
        std::fs::write(m.path(&format!("part{n}")), vec![b'x'; 1 << 20]).unwrap();
    }
    assert!(matches!(m.snapshot().await, Err(WorkspaceError::TooLarge { code: "WORKSPACE_FULL", .. })));
    let m = mounted().await;
    for n in 0..201 {
        std::fs::write(m.path(&format!("f{n}")), "").unwrap();
    }
    assert!(matches!(m.snapshot().await, Err(WorkspaceError::TooLarge { code: "TOO_MANY_FILES", .. })));
    // What does not compress does not fit into a commit either, once it is packed.
    let m = mounted().await;
    let mut random = vec![0u8; 3 << 20];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut random).unwrap();
    for (n, part) in random.chunks(1 << 20).enumerate() {
        std::fs::write(m.path(&format!("r{n}")), part).unwrap();
    }
    let snapshot = m.snapshot().await.unwrap();
    let commit =
        custody_testkit::workspace_suite::commit(m.open.as_ref(), &m.head, &m.head.trunk, &snapshot.tree, "w-1").await;
    let stored = m.open.store(&m.head, &commit, SMALL).await;
    assert!(matches!(stored, Err(WorkspaceError::TooLarge { code: "COMMIT_TOO_LARGE", .. })), "{stored:?}");
}

#[tokio::test]
async fn gits_own_files_and_hostile_names_do_not_land_and_nothing_runs() {
    let m = mounted().await;
    let witness = m.copy.path().parent().unwrap().join(format!("ran-{}", std::process::id()));
    let run = format!("touch {}", witness.display());
    std::fs::create_dir_all(m.path(".git/hooks")).unwrap();
    std::fs::write(
        m.path(".git/config"),
        format!(
            "[core]\n\tfsmonitor = {run}\n\thooksPath = hooks\n[filter \"x\"]\n\tclean = {run}\n\tsmudge = {run}\n"
        ),
    )
    .unwrap();
    std::fs::write(m.path(".gitattributes"), "* filter=x diff=x merge=x\n").unwrap();
    std::fs::write(m.path(".gitmodules"), "[submodule \"s\"]\n\tpath = s\n\turl = ext::sh -c 'touch x'\n").unwrap();
    for hook in ["pre-commit", "post-checkout", "post-index-change", "reference-transaction"] {
        let path = m.path(&format!(".git/hooks/{hook}"));
        std::fs::write(&path, format!("#!/bin/sh\n{run}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::write(m.path("new\nline"), "x").unwrap();
    std::fs::write(m.path("-rf"), "dash").unwrap();
    std::fs::write(m.path("--upload-pack=x"), "dash").unwrap();
    let snapshot = m.snapshot().await.unwrap();
    assert_eq!(codes(&snapshot), [("PATH_NOT_ALLOWED", ".git"), ("PATH_NOT_ALLOWED", "new\\u{a}line")]);
    let commit =
        custody_testkit::workspace_suite::commit(m.open.as_ref(), &m.head, &m.head.trunk, &snapshot.tree, "w-1").await;
    let copy = tempfile::tempdir().unwrap();
    m.open.check_out(&m.head, &commit, copy.path(), Owner::Box(65_532), SMALL).await.unwrap();
    assert_eq!(std::fs::read_to_string(copy.path().join("-rf")).unwrap(), "dash");
    assert!(copy.path().join(".gitattributes").exists() && !copy.path().join(".git").exists());
    m.open.diff(&m.head, &m.head.trunk, &commit, 1 << 20).await.unwrap();
    assert!(!witness.exists(), "something in the working copy ran");
}

#[tokio::test]
async fn a_repository_that_names_places_outside_is_not_written() {
    let m = mounted().await;
    // Trees that no working copy can make, put together by hand as a hostile bucket would.
    let repository = tempfile::tempdir().unwrap();
    let git = |args: &[&str], input: &str| {
        use std::io::Write;
        let mut child = Command::new("git")
            .args(["-C", repository.path().to_str().unwrap(), "-c", "core.protectHFS=false"])
            .args(args)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
    };
    git(&["init", "--quiet", "--bare", "."], "");
    let blob = git(&["hash-object", "-w", "--stdin"], "owned");
    let out = git(&["hash-object", "-w", "--stdin"], "/etc");
    let inner = git(&["mktree"], &format!("100644 blob {blob}\tpasswd\n"));
    let up = git(&["mktree"], &format!("040000 tree {inner}\t..\n"));
    let hidden = git(&["mktree"], &format!("040000 tree {inner}\t.git\n"));
    let link = git(&["mktree"], &format!("120000 blob {out}\tetc\n"));
    for (tree, what) in [(up, ".."), (hidden, ".git"), (link, "etc")] {
        let open = &m.open;
        let commit = custody_testkit::workspace_suite::commit(open.as_ref(), &m.head, &m.head.trunk, &tree, "w-1");
        // The tree is not in the workspace's own repository: it has to come in by a pack, which git's fsck looks at.
        let _never = commit;
        let folder = tempfile::tempdir().unwrap();
        let pack = hostile_pack(repository.path(), &tree);
        let bucket = m._folder.root.path().join("bucket/notes");
        let (name, head) = plant(&bucket, &m.head, &pack);
        let read = open.check_out(&head, &name, folder.path(), Owner::Box(65_532), SMALL).await;
        assert!(read.is_err(), "{what}: {read:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{what}");
    }
}

/// A commit of a tree, and everything it reaches, as a pack.
fn hostile_pack(repository: &Path, tree: &str) -> (String, Vec<u8>) {
    let run = |args: &[&str], input: &str| {
        use std::io::Write;
        let mut child = Command::new("git")
            .args(["-C", repository.to_str().unwrap(), "-c", "user.name=x", "-c", "user.email=x@x"])
            .args(args)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap().stdout
    };
    let commit = String::from_utf8(run(&["commit-tree", tree, "-m", "x"], "")).unwrap().trim().to_owned();
    let pack = run(&["pack-objects", "--revs", "--stdout", "-q"], &format!("{commit}\n"));
    (commit, pack)
}

/// Puts a pack into the bucket as if it had always been there.
fn plant(bucket: &Path, head: &Head, (commit, pack): &(String, Vec<u8>)) -> (String, Head) {
    let digest = custody_contracts::canonical::digest(pack);
    std::fs::write(bucket.join("packs").join(digest.trim_start_matches("sha256:")), pack).unwrap();
    let mut head = head.clone();
    head.packs.push(custody_ports::workspaces::Pack { digest, bytes: pack.len() as u64 });
    (commit.clone(), head)
}

#[tokio::test]
async fn a_bucket_that_was_tampered_with_is_said_to_be_damaged() {
    let m = mounted().await;
    let packs = m._folder.root.path().join("bucket/notes/packs");
    for entry in std::fs::read_dir(&packs).unwrap().flatten() {
        let mut bytes = std::fs::read(entry.path()).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(entry.path(), bytes).unwrap();
    }
    let open = m._folder.two.open(&m._folder.workspace).await.unwrap();
    let head = open.head().await.unwrap();
    let read = open.tree(&head, &head.trunk).await;
    assert!(matches!(read, Err(WorkspaceError::Corrupt { .. })), "{read:?}");
}
