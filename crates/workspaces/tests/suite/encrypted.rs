//! Encryption at rest: what lies in the bucket, who opens it, and what a rotation changes.

use crate::support::{Folder, all_bytes, folder};
use custody_contracts::workspace::Encryption;
use custody_ports::workspaces::{Change, WorkspaceError, Workspaces};
use custody_testkit::workspace_suite::{advance, change, files};
use custody_workspaces::{Identities, new_identity};

const SECRET: &str = "the launch code is 0000 and nobody may know";

fn found(folder: &Folder) -> bool {
    let needle = SECRET.as_bytes();
    all_bytes(&folder.root.path().join("bucket")).iter().any(|(_, b)| b.windows(needle.len()).any(|w| w == needle))
}

async fn write_secret(folder: &Folder) {
    let open = folder.one.open(&folder.workspace).await.unwrap();
    let head = open.found().await.unwrap();
    let (_, commit) = change(open.as_ref(), &head, &head.trunk, &[("secret-plans.md", Some(SECRET))]).await;
    advance(open.as_ref(), &head, &commit, Change::Trunk(commit.clone())).await.unwrap();
}

#[tokio::test]
async fn nothing_in_the_bucket_can_be_read_and_each_recipient_reads_all() {
    let ((one, one_public), (two, two_public), (other, _)) = (new_identity(), new_identity(), new_identity());
    let encryption = Encryption::age(vec![one_public, two_public]);
    let folder = folder(encryption, [Identities::parse(&one).unwrap(), Identities::parse(&two).unwrap()]);
    write_secret(&folder).await;
    assert!(!found(&folder));
    let bucket = all_bytes(&folder.root.path().join("bucket"));
    assert!(bucket.len() >= 4 && bucket.iter().all(|(_, b)| !b.windows(4).any(|w| w == b"PACK")), "packs are sealed");
    assert!(bucket.iter().all(|(_, b)| !b.windows(12).any(|w| w == b"secret-plans")), "and so are names");
    let open = folder.two.open(&folder.workspace).await.unwrap();
    let head = open.head().await.unwrap();
    assert_eq!(files(open.as_ref(), &head, &head.trunk).await["secret-plans.md"], SECRET);
    for identities in [Identities::parse(&other).unwrap(), Identities::default()] {
        let stranger = crate::support::folder(folder.workspace.encryption.clone(), [identities, Identities::default()]);
        let open = stranger.one.open(&folder.workspace).await.unwrap();
        let head = open.head().await.unwrap();
        let read = open.tree(&head, &head.trunk).await;
        assert_eq!(read, Err(WorkspaceError::Locked("notes".into())));
    }
}

#[tokio::test]
async fn after_a_rotation_the_old_key_opens_nothing_that_is_there() {
    let ((old, old_public), (new, new_public)) = (new_identity(), new_identity());
    let both = || Identities::parse(&format!("{old}\n{new}")).unwrap();
    let mut folder = folder(Encryption::age(vec![old_public]), [both(), Identities::parse(&old).unwrap()]);
    write_secret(&folder).await;
    let before: Vec<String> = all_bytes(&folder.root.path().join("bucket")).into_iter().map(|(p, _)| p).collect();

    // The document names the new recipients; one call stores everything for them.
    folder.workspace.encryption = Encryption::age(vec![new_public]);
    let open = folder.one.open(&folder.workspace).await.unwrap();
    let head = open.head().await.unwrap();
    let rotated = open.repack(&head).await.unwrap().unwrap();
    assert_eq!((rotated.trunk.as_str(), rotated.packs.len()), (head.trunk.as_str(), 1));
    let after: Vec<String> = all_bytes(&folder.root.path().join("bucket")).into_iter().map(|(p, _)| p).collect();
    let packs_left = before.iter().filter(|p| p.contains("/packs/") && after.contains(p)).count();
    assert_eq!(packs_left, 0, "what the old key opens is gone");

    let old_only = folder.two.open(&folder.workspace).await.unwrap();
    let head = old_only.head().await.unwrap();
    assert_eq!(old_only.tree(&head, &head.trunk).await, Err(WorkspaceError::Locked("notes".into())));
    let new_only =
        crate::support::folder(folder.workspace.encryption.clone(), [Identities::parse(&new).unwrap(), both()]);
    let open = new_only.one.open(&folder.workspace).await.unwrap();
    let head = open.head().await.unwrap();
    assert_eq!(files(open.as_ref(), &head, &head.trunk).await["secret-plans.md"], SECRET);
    // And what lands from here on is for the new key too.
    let (_, commit) = change(open.as_ref(), &head, &head.trunk, &[("later.md", Some("later"))]).await;
    let head = advance(open.as_ref(), &head, &commit, Change::Trunk(commit.clone())).await.unwrap();
    let old_only = folder.two.open(&folder.workspace).await.unwrap();
    assert_eq!(old_only.tree(&head, &head.trunk).await, Err(WorkspaceError::Locked("notes".into())));
    assert!(!found(&folder));
}
