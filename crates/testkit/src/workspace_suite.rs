//! What every workspace keeps, whatever its bucket: the conformance suite of the port. Panics where it is not kept.
#![expect(clippy::expect_used, clippy::missing_panics_doc, reason = "a suite of assertions, linked into tests alone")]

use custody_contracts::workspace::Workspace;
use custody_ports::compared::{ComparedMax, FileChange};
use custody_ports::workspaces::{Change, Head, Merged, NewCommit, OpenWorkspace, Owner, WorkspaceLimits, Workspaces};
use std::collections::BTreeMap;
use std::path::Path;

/// The files of a commit, checked out.
pub async fn files(open: &dyn OpenWorkspace, head: &Head, commit: &str) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().expect("a folder");
    open.check_out(head, commit, folder.path(), Owner::Box(65_532), WorkspaceLimits::default())
        .await
        .expect("checked out");
    let mut found = BTreeMap::new();
    read(folder.path(), folder.path(), &mut found);
    found
}

fn read(root: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        if entry.file_type().expect("a type").is_dir() {
            read(root, &entry.path(), found);
        } else {
            let path = entry.path().strip_prefix(root).expect("below").to_string_lossy().into_owned();
            found.insert(path, std::fs::read_to_string(entry.path()).expect("text"));
        }
    }
}

/// A commit that makes these files of what is at `base`; `None` removes one.
pub async fn change(
    open: &dyn OpenWorkspace,
    head: &Head,
    base: &str,
    files: &[(&str, Option<&str>)],
) -> (String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let limits = WorkspaceLimits::default();
    open.check_out(head, base, folder.path(), Owner::Box(65_532), limits).await.expect("checked out");
    for (path, text) in files {
        let path = folder.path().join(path);
        match text {
            Some(text) => {
                std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
                std::fs::write(path, text).expect("written");
            }
            None => std::fs::remove_file(path).expect("removed"),
        }
    }
    let snapshot = open.snapshot(head, base, folder.path(), limits).await.expect("read");
    assert!(!snapshot.unchanged && snapshot.left_out.is_empty(), "{snapshot:?}");
    (snapshot.tree.clone(), commit(open, head, base, &snapshot.tree, "w-1").await)
}

/// A commit of a tree on a parent.
pub async fn commit(open: &dyn OpenWorkspace, head: &Head, parent: &str, tree: &str, effect: &str) -> String {
    let new = NewCommit {
        tree: tree.to_owned(),
        parent: parent.to_owned(),
        author: "u_jane".into(),
        committer: "web".into(),
        time: 1_700_000_000,
        message: format!("Changes of d-1\n\nDispatch-Id: d-1\nEffect-Id: {effect}\n"),
    };
    open.commit(head, &new).await.expect("committed")
}

/// Stores and moves.
pub async fn advance(open: &dyn OpenWorkspace, head: &Head, commit: &str, change: Change) -> Option<Head> {
    let pack = open.store(head, commit, WorkspaceLimits::default()).await.expect("stored");
    open.advance(head, change, pack).await.expect("asked")
}

fn map(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files.iter().map(|(p, t)| ((*p).to_owned(), (*t).to_owned())).collect()
}

/// Runs the whole suite over one fresh workspace. `again` opens the same bucket as another process would.
pub async fn suite(one: &dyn Workspaces, again: &dyn Workspaces, workspace: &Workspace) {
    let first = one.open(workspace).await.expect("opened");
    let head = first.found().await.expect("made");
    let second = again.open(workspace).await.expect("opened");
    assert_eq!(second.found().await.expect("found"), head, "founding again changes nothing");
    assert!(files(second.as_ref(), &head, &head.trunk).await.is_empty());

    // What lands is there for everybody, with its author and its trailers.
    let (_, landed) =
        change(first.as_ref(), &head, &head.trunk, &[("a.md", Some("a\n")), ("d/b.md", Some("b\n"))]).await;
    let next = advance(first.as_ref(), &head, &landed, Change::Trunk(landed.clone())).await.expect("first");
    assert_eq!((next.n, next.trunk.as_str()), (2, landed.as_str()));
    let seen = second.head().await.expect("a head");
    assert_eq!(seen, next);
    assert_eq!(files(second.as_ref(), &seen, &seen.trunk).await, map(&[("a.md", "a\n"), ("d/b.md", "b\n")]));
    let log = second.log(&seen, &seen.trunk, Some(&head.trunk), 10).await.expect("a history");
    let found: Vec<_> = log.iter().map(|l| (l.author.as_str(), l.dispatch.as_deref(), l.effect.as_deref())).collect();
    assert_eq!(found, [("u_jane", Some("d-1"), Some("w-1"))]);
    let (entries, digest) = second.tree(&seen, &seen.trunk).await.expect("a tree");
    assert_eq!(entries.iter().map(|e| (e.path.as_str(), e.bytes)).collect::<Vec<_>>(), [("a.md", 2), ("d/b.md", 2)]);
    assert!(digest.starts_with("sha256:"));
    assert_eq!(second.file(&seen, &seen.trunk, "d/b.md", 100).await.expect("a file"), b"b\n");
    assert!(second.file(&seen, &seen.trunk, "d/nothing", 100).await.is_err());

    // What it changed is told, and what nobody stored is no part of it.
    let most = ComparedMax { files: 10, patch_bytes: 1_000, bytes: 10_000, read_bytes: 1 << 20 };
    let told = second.compare(&seen, Some(&head.trunk), &landed, most).await.expect("compared");
    let files_told: Vec<_> =
        told.files.iter().map(|f| (f.path.as_str(), f.change, f.added, f.removed, f.binary, f.cut)).collect();
    let added = |path| (path, FileChange::Added, 1, 0, false, false);
    assert_eq!(files_told, [added("a.md"), added("d/b.md")]);
    assert!(told.files[0].patch.starts_with("@@ ") && told.files[0].patch.ends_with("@@\n+a\n"), "{told:?}");
    assert_eq!((told.total, told.cut), (2, false));
    assert_eq!(second.compare(&seen, None, &landed, most).await.expect("compared"), told, "from nothing");
    let less = second.compare(&seen, None, &landed, ComparedMax { files: 1, ..most }).await.expect("compared");
    assert_eq!((less.files.len(), less.total, less.cut), (1, 2, true));
    let less = second.compare(&seen, None, &landed, ComparedMax { patch_bytes: 3, ..most }).await.expect("compared");
    assert!(less.cut && less.files.iter().all(|f| f.cut && f.patch.is_empty()), "{less:?}");
    for (tip, commit, is) in
        [(&seen.trunk, &landed, true), (&seen.trunk, &head.trunk, true), (&head.trunk, &landed, false)]
    {
        assert_eq!(second.reaches(&seen, tip, commit).await.expect("asked"), is, "{tip} {commit}");
    }
    assert!(!second.reaches(&seen, &seen.trunk, &"0".repeat(40)).await.expect("asked"));

    // Nothing changed is nothing changed.
    let folder = tempfile::tempdir().expect("a folder");
    let limits = WorkspaceLimits::default();
    second.check_out(&seen, &seen.trunk, folder.path(), Owner::Box(65_532), limits).await.expect("checked out");
    assert!(second.snapshot(&seen, &seen.trunk, folder.path(), limits).await.expect("read").unchanged);

    // Of two writers one is first, and the other learns it and merges.
    let base = seen.trunk.clone();
    let (_, mine) = change(first.as_ref(), &seen, &base, &[("mine.md", Some("mine\n"))]).await;
    let (tree, theirs) = change(second.as_ref(), &seen, &base, &[("theirs.md", Some("theirs\n"))]).await;
    let moved = advance(first.as_ref(), &seen, &mine, Change::Trunk(mine.clone())).await.expect("first");
    assert_eq!(advance(second.as_ref(), &seen, &theirs, Change::Trunk(theirs.clone())).await, None, "the fence");
    assert_eq!(second.head().await.expect("a head"), moved);
    let Merged::Clean(tree) = second.merge(&moved, &base, &tree, &moved.trunk).await.expect("merged") else {
        panic!("two files are no conflict")
    };
    let both = commit(second.as_ref(), &moved, &moved.trunk, &tree, "w-2").await;
    let moved = advance(second.as_ref(), &moved, &both, Change::Trunk(both.clone())).await.expect("alone");
    let all = map(&[("a.md", "a\n"), ("d/b.md", "b\n"), ("mine.md", "mine\n"), ("theirs.md", "theirs\n")]);
    assert_eq!(files(first.as_ref(), &first.head().await.expect("a head"), &both).await, all);

    // The same line changed twice is a conflict, and what cannot land waits.
    let (tree, other) = change(second.as_ref(), &moved, &base, &[("a.md", Some("other\n"))]).await;
    let (_, new) = change(first.as_ref(), &moved, &moved.trunk, &[("a.md", Some("new\n"))]).await;
    let moved = advance(first.as_ref(), &moved, &new, Change::Trunk(new.clone())).await.expect("alone");
    let merged = second.merge(&moved, &base, &tree, &moved.trunk).await.expect("asked");
    assert_eq!(merged, Merged::Conflicts(vec!["a.md".into()]));
    let propose = Change::Propose { id: "d-9".into(), commit: other.clone() };
    let moved = advance(second.as_ref(), &moved, &other, propose).await.expect("alone");
    assert_eq!((moved.proposals.get("d-9"), moved.trunk.as_str()), (Some(&other), new.as_str()));

    // Everything anew: the same trunk, the same proposals, nothing lost.
    let packed = first.repack(&first.head().await.expect("a head")).await.expect("asked").expect("alone");
    assert_eq!((packed.trunk.as_str(), &packed.proposals), (new.as_str(), &moved.proposals));
    let third = again.open(workspace).await.expect("opened");
    let head = third.head().await.expect("a head");
    assert_eq!(files(third.as_ref(), &head, &other).await["a.md"], "other\n");
    assert_eq!(files(third.as_ref(), &head, &head.trunk).await["a.md"], "new\n");
    let land = Change::Land { id: "d-9".into(), commit: other.clone() };
    let landed = third.advance(&head, land, None).await.expect("asked").expect("alone");
    assert!(landed.proposals.is_empty() && landed.trunk == other);

    // One file put in place, as session files are.
    let put = third.with_file(&landed, &landed.trunk, "sessions/s-1.jsonl", b"{}\n".to_vec()).await.expect("put");
    assert!(!put.unchanged);
    let with = commit(third.as_ref(), &landed, &landed.trunk, &put.tree, "w-3").await;
    let last = advance(third.as_ref(), &landed, &with, Change::Trunk(with.clone())).await.expect("alone");
    let again = third.with_file(&last, &last.trunk, "sessions/s-1.jsonl", b"{}\n".to_vec()).await.expect("put");
    assert!(again.unchanged);
}
