//! The keys of persons: one folder, one age file a person, and a mark in its place once it is destroyed. Must never make a key
//! for somebody who has a mark, and must never say that a key is gone before that is durable.

use crate::{StoreError, identity_of, make, sync_folder_of, unwrapped, wrapped};
use custody_contracts::ids::Subject;
use custody_ledger::Seal;
use custody_ports::subjects::{KeptSubject, SubjectKeyError, SubjectKeys};
use custody_trust::SubjectKey;
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The most keys that are held opened; beyond it all are let go.
const OPENED_MAX: usize = 4_096;
const KEY: &str = ".age";
const MARK: &str = ".erased";

/// Which file a key was opened from.
type Place = (u64, u64, i64, i64);
type Opened = BTreeMap<Subject, (Place, Arc<SubjectKey>)>;

/// The store. Clones share what is opened.
#[derive(Debug, Clone)]
pub struct SubjectKeyFiles {
    folder: PathBuf,
    identity: PathBuf,
    opened: Arc<Mutex<Opened>>,
}

fn unavailable(error: impl std::fmt::Display) -> SubjectKeyError {
    SubjectKeyError::Unavailable(error.to_string())
}

impl SubjectKeyFiles {
    /// The store of a folder and of the file with the identity that opens it. Nothing is made before it is needed.
    pub fn at(folder: PathBuf, identity: PathBuf) -> SubjectKeyFiles {
        SubjectKeyFiles { folder, identity, opened: Arc::default() }
    }

    fn file(&self, subject: &Subject, ending: &str) -> PathBuf {
        // A person's id has no slash and begins with a letter or a digit, so it is a file's name.
        self.folder.join([subject.as_str(), ending].concat())
    }

    fn key(&self, subject: &Subject) -> Result<Option<Arc<SubjectKey>>, SubjectKeyError> {
        let path = self.file(subject, KEY);
        let Some(facts) = there(&path)? else {
            self.forget(subject);
            return Ok(None);
        };
        if let Some((at, key)) = self.opened.lock().unwrap_or_else(PoisonError::into_inner).get(subject)
            && *at == place(&facts)
        {
            return Ok(Some(key.clone()));
        }
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unavailable(format!("{}: {error}", path.display()))),
        };
        let at = place(&file.metadata().map_err(unavailable)?);
        let identity = identity_of(&self.identity).map_err(unavailable)?;
        let bytes = unwrapped(&path, &identity, file).map_err(unavailable)?;
        let parts =
            bytes.split_first_chunk::<8>().and_then(|(id, rest)| Some((*id, <&[u8; 32]>::try_from(rest).ok()?)));
        let (id, secret) = parts.ok_or_else(|| unavailable(format!("{} holds no key", path.display())))?;
        let key = Arc::new(SubjectKey::new(id, secret));
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.len() >= OPENED_MAX {
            opened.clear();
        }
        opened.insert(subject.clone(), (at, key.clone()));
        Ok(Some(key))
    }

    fn forget(&self, subject: &Subject) {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).remove(subject);
    }

    fn fresh(&self, subject: &Subject) -> Result<(), SubjectKeyError> {
        let mut bytes = [0; 40];
        getrandom::fill(&mut bytes).map_err(unavailable)?;
        let path = self.file(subject, KEY);
        let identity = identity_of(&self.identity).map_err(unavailable)?;
        make(&path, &wrapped(&path, &identity, &bytes).map_err(unavailable)?).map_err(unavailable)?;
        Ok(())
    }
}

impl SubjectKeys for SubjectKeyFiles {
    fn find(&self, subject: &Subject) -> Result<Option<Arc<dyn Seal>>, SubjectKeyError> {
        // A mark counts also when the key is still there: it is being destroyed.
        if there(&self.file(subject, MARK))?.is_some() {
            self.forget(subject);
            return Ok(None);
        }
        Ok(self.key(subject)?.map(|key| key as Arc<dyn Seal>))
    }

    fn ensure(&self, subject: &Subject) -> Result<Arc<dyn Seal>, SubjectKeyError> {
        if let Some(key) = self.find(subject)? {
            return Ok(key);
        }
        if there(&self.file(subject, MARK))?.is_some() {
            return Err(SubjectKeyError::Erased(subject.clone()));
        }
        self.fresh(subject)?;
        // A mark that was set meanwhile is found now.
        self.find(subject)?.ok_or_else(|| SubjectKeyError::Erased(subject.clone()))
    }

    fn destroy(&self, subject: &Subject) -> Result<(), SubjectKeyError> {
        // The mark first: whoever comes between finds no key and makes none.
        make(&self.file(subject, MARK), b"").map_err(unavailable)?;
        let path = self.file(subject, KEY);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(unavailable(format!("{}: {error}", path.display())));
            }
            _ => {}
        }
        sync_folder_of(&path).map_err(unavailable)?;
        self.forget(subject);
        Ok(())
    }

    fn enrol(&self, subject: &Subject) -> Result<Arc<dyn Seal>, SubjectKeyError> {
        let mark = self.file(subject, MARK);
        if there(&mark)?.is_some() {
            // What a destruction that was broken off has left must not come back.
            self.destroy(subject)?;
            std::fs::remove_file(&mark).map_err(unavailable)?;
            sync_folder_of(&mark).map_err(unavailable)?;
        }
        self.ensure(subject)
    }

    fn list(&self) -> Result<Vec<KeptSubject>, SubjectKeyError> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unavailable(format!("{}: {error}", self.folder.display()))),
        };
        let mut found = BTreeMap::new();
        for entry in entries {
            let name = entry.map_err(unavailable)?.file_name();
            let Some(name) = name.to_str() else { continue };
            let named = name.strip_suffix(KEY).or_else(|| name.strip_suffix(MARK));
            if let Some(subject) = named.and_then(|text| Subject::parse(text).ok()) {
                let kid = self.find(&subject)?.map(|key| key.kid().to_owned());
                found.insert(subject, kid);
            }
        }
        Ok(found.into_iter().map(|(subject, kid)| KeptSubject { subject, kid }).collect())
    }
}

/// What a file is; `None` when there is none.
fn there(path: &Path) -> Result<Option<Metadata>, SubjectKeyError> {
    match std::fs::symlink_metadata(path) {
        Ok(facts) => Ok(Some(facts)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unavailable(StoreError::File { path: path.to_owned(), why: error.to_string() })),
    }
}

fn place(facts: &Metadata) -> Place {
    (facts.dev(), facts.ino(), facts.ctime(), facts.ctime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, SubjectKeyFiles) {
        let folder = tempfile::tempdir().unwrap();
        let store = again(&folder);
        (folder, store)
    }

    /// Another process of the same installation.
    fn again(folder: &tempfile::TempDir) -> SubjectKeyFiles {
        SubjectKeyFiles::at(folder.path().join("subjects"), folder.path().join("keys/subjects.age"))
    }

    fn jane() -> Subject {
        Subject::parse("u_jane:x.y").unwrap()
    }

    #[test]
    fn a_person_has_one_key_in_every_process_until_it_is_destroyed_in_all() {
        let (folder, store) = store();
        let other = again(&folder);
        assert!(store.find(&jane()).unwrap().is_none());
        let key = store.ensure(&jane()).unwrap();
        let same = other.ensure(&jane()).unwrap();
        assert_eq!(key.kid(), same.kid());
        let sealed = key.seal(b"a", b"words");
        assert_eq!(same.open(b"a", &sealed).unwrap(), b"words");
        store.destroy(&jane()).unwrap();
        store.destroy(&jane()).unwrap();
        for store in [&store, &other] {
            assert!(store.find(&jane()).unwrap().is_none());
            assert!(matches!(store.ensure(&jane()), Err(SubjectKeyError::Erased(_))));
        }
        assert_eq!(store.list().unwrap(), [KeptSubject { subject: jane(), kid: None }]);
        let fresh = other.enrol(&jane()).unwrap();
        assert_ne!(fresh.kid(), key.kid());
        assert!(fresh.open(b"a", &sealed).is_err(), "what was erased stays erased");
        assert_eq!(store.ensure(&jane()).unwrap().kid(), fresh.kid());
        assert_eq!(store.enrol(&jane()).unwrap().kid(), fresh.kid(), "who was not erased keeps the key");
    }

    #[test]
    fn a_destruction_that_was_broken_off_leaves_no_key_to_be_used() {
        let (folder, store) = store();
        let kid = store.ensure(&jane()).unwrap().kid().to_owned();
        // The mark was set, and then the process died.
        std::fs::write(folder.path().join("subjects/u_jane:x.y.erased"), "").unwrap();
        assert!(store.find(&jane()).unwrap().is_none());
        assert!(matches!(store.ensure(&jane()), Err(SubjectKeyError::Erased(_))));
        assert_ne!(store.enrol(&jane()).unwrap().kid(), kid, "the key of before does not come back");
    }

    #[test]
    fn no_key_stands_in_the_clear_and_two_at_once_make_one() {
        let (folder, store) = store();
        let kids: Vec<String> = std::thread::scope(|scope| {
            let each = |_| scope.spawn(|| again(&folder).ensure(&jane()).unwrap().kid().to_owned());
            (0..8).map(each).collect::<Vec<_>>().into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(kids.iter().all(|kid| *kid == kids[0]), "{kids:?}");
        assert_eq!(store.list().unwrap().len(), 1);
        let text = std::fs::read(folder.path().join("subjects/u_jane:x.y.age")).unwrap();
        assert!(text.starts_with(b"age-encryption.org/v1"));
        std::fs::remove_file(folder.path().join("keys/subjects.age")).unwrap();
        assert!(again(&folder).find(&jane()).is_err(), "another identity opens nothing");
    }
}
