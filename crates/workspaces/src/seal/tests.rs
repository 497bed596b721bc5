//! What is stored can be opened by its recipients and by nobody else.

use super::{Identities, SealError, new_identity, open, seal};
use custody_contracts::workspace::Encryption;
use std::os::unix::fs::PermissionsExt;

const PLAIN: &[u8] = b"the plaintext that must not be found";

fn found(bytes: &[u8]) -> bool {
    bytes.windows(9).any(|w| w == b"plaintext")
}

#[test]
fn every_recipient_opens_it_and_no_other() {
    let ((one, one_public), (two, two_public), (other, _)) = (new_identity(), new_identity(), new_identity());
    let encryption = Encryption::age(vec![one_public, two_public]);
    let stored = seal(PLAIN.to_vec(), &encryption).unwrap();
    assert!(!found(&stored));
    for key in [&one, &two] {
        let identities = Identities::parse(key).unwrap();
        assert_eq!(open(stored.clone(), &encryption, &identities, 100).unwrap(), PLAIN);
    }
    let stranger = Identities::parse(&other).unwrap();
    assert_eq!(open(stored.clone(), &encryption, &stranger, 100), Err(SealError::Locked));
    let none = Identities::default();
    assert_eq!(open(stored.clone(), &encryption, &none, 100), Err(SealError::Locked));
    let identities = Identities::parse(&one).unwrap();
    assert_eq!(open(stored.clone(), &encryption, &identities, 4), Err(SealError::TooLarge(4)));
    let mut cut = stored;
    cut.truncate(cut.len() - 1);
    assert!(matches!(open(cut, &encryption, &identities, 100), Err(SealError::Damaged(_))));
}

#[test]
fn without_encryption_bytes_are_as_they_are() {
    let stored = seal(PLAIN.to_vec(), &Encryption::none()).unwrap();
    assert_eq!(stored, PLAIN);
    assert_eq!(open(stored, &Encryption::none(), &Identities::default(), 1).unwrap(), PLAIN);
}

#[test]
fn a_file_of_identities_is_private_and_prints_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workspaces.age");
    assert!(Identities::read(&path).unwrap().recipients().is_empty());
    let (line, public) = new_identity();
    std::fs::write(&path, format!("# made today\n{line}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(Identities::read(&path).unwrap_err().to_string().contains("chmod 600"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let identities = Identities::read(&path).unwrap();
    assert_eq!(identities.recipients(), [public]);
    assert!(!format!("{identities:?}").contains("SECRET"));
    let error = Identities::parse("AGE-SECRET-KEY-nonsense").unwrap_err();
    assert_eq!(error, "line 1 is no age identity");
}

#[test]
fn a_bad_recipient_is_named() {
    let encryption = Encryption::age(vec!["age1nonsense".into()]);
    assert_eq!(seal(Vec::new(), &encryption), Err(SealError::BadRecipient("age1nonsense".into())));
}
