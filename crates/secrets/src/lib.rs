//! Secrets of upstreams at rest: one folder, one age file a secret, one identity that opens them all; and the keys of
//! persons in the same form. Must never write a secret in the clear, print one, or open one with an identity that others may
//! read.

mod subjects;

pub use subjects::SubjectKeyFiles;

use age::secrecy::ExposeSecret;
use custody_ports::secrets::{SECRET_BYTES_MAX, SecretError, SecretText, Secrets, is_reference};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

/// The most secrets.
pub const SECRETS_MAX: usize = 1_024;
/// The largest age file of a secret, in bytes.
const SEALED_BYTES_MAX: u64 = 65_536;
/// What stands for a slash in a file's name: no reference holds it.
const SLASH: &str = "~";
const ENDING: &str = ".age";

/// Why a secret could not be kept or had. No value is in it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The text is no reference.
    #[error("{0:?} is not of the form secret://name or secret://folder/name")]
    BadReference(String),
    /// The text cannot be a secret.
    #[error("a secret is 1 to {SECRET_BYTES_MAX} bytes of visible ASCII, without white space")]
    BadSecret,
    /// There are too many.
    #[error("{SECRETS_MAX} secrets are the most")]
    TooMany,
    /// There is none of this name.
    #[error("there is no {0}")]
    Unknown(String),
    /// The identity cannot be used.
    #[error("the identity {path}: {why}")]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A file cannot be used.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// The store.
#[derive(Debug, Clone)]
pub struct SecretStore {
    folder: PathBuf,
    identity: PathBuf,
}

impl SecretStore {
    /// The store of a folder and of the file with the identity that opens it. Nothing is made before it is needed.
    pub fn at(folder: PathBuf, identity: PathBuf) -> SecretStore {
        SecretStore { folder, identity }
    }

    /// Keeps a secret under a reference, in place of the one before.
    ///
    /// # Errors
    /// [`StoreError`]: then what was kept before is still kept.
    pub fn set(&self, reference: &str, secret: &SecretText) -> Result<(), StoreError> {
        let path = self.file(reference)?;
        if !path.exists() && self.list()?.len() >= SECRETS_MAX {
            return Err(StoreError::TooMany);
        }
        write(&path, &wrapped(&path, &self.identity()?, secret.expose().as_bytes())?)
    }

    /// Forgets a secret.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] when there is none.
    pub fn remove(&self, reference: &str) -> Result<(), StoreError> {
        let path = self.file(reference)?;
        std::fs::remove_file(&path).map_err(|e| match e.kind() {
            ErrorKind::NotFound => StoreError::Unknown(reference.to_owned()),
            _ => StoreError::File { path, why: e.to_string() },
        })
    }

    /// The references, sorted; never a value.
    ///
    /// # Errors
    /// [`StoreError::File`] when the folder cannot be read.
    pub fn list(&self) -> Result<Vec<String>, StoreError> {
        let bad = |e: std::io::Error| StoreError::File { path: self.folder.clone(), why: e.to_string() };
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(bad(e)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.map_err(bad)?.file_name();
            if let Some(name) = name.to_str().and_then(|name| name.strip_suffix(ENDING)) {
                found.push(["secret://", &name.replace(SLASH, "/")].concat());
            }
        }
        found.sort();
        Ok(found)
    }

    /// The secret of a reference.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(&self, reference: &str) -> Result<SecretText, StoreError> {
        let path = self.file(reference)?;
        let bad = |why: String| StoreError::File { path: path.clone(), why };
        let file = File::open(&path).map_err(|e| match e.kind() {
            ErrorKind::NotFound => StoreError::Unknown(reference.to_owned()),
            _ => bad(e.to_string()),
        })?;
        let text = unwrapped(&path, &self.identity()?, file)?;
        let text = String::from_utf8(text).map_err(|_| bad("it cannot be opened".into()))?;
        SecretText::parse(&text).ok_or(StoreError::BadSecret)
    }

    fn file(&self, reference: &str) -> Result<PathBuf, StoreError> {
        match reference.strip_prefix("secret://").filter(|_| is_reference(reference)) {
            // A file's name has room for less than a reference.
            Some(path) if path.len() <= 200 => Ok(self.folder.join([&path.replace('/', SLASH), ENDING].concat())),
            _ => Err(StoreError::BadReference(reference.chars().take(80).collect())),
        }
    }

    fn identity(&self) -> Result<age::x25519::Identity, StoreError> {
        identity_of(&self.identity)
    }
}

/// Bytes as an age file that one identity opens.
fn wrapped(path: &Path, identity: &age::x25519::Identity, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    let bad = |why: String| StoreError::File { path: path.to_owned(), why };
    let recipient = identity.to_public();
    let all = std::iter::once(&recipient as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(all).map_err(|e| bad(e.to_string()))?;
    let mut sealed = Vec::new();
    let mut writer = encryptor.wrap_output(&mut sealed).map_err(|e| bad(e.to_string()))?;
    writer.write_all(bytes).map_err(|e| bad(e.to_string()))?;
    writer.finish().map_err(|e| bad(e.to_string()))?;
    Ok(sealed)
}

/// What an age file holds, at most one byte more than a secret may have.
fn unwrapped(path: &Path, identity: &age::x25519::Identity, file: File) -> Result<Vec<u8>, StoreError> {
    let bad = |why: String| StoreError::File { path: path.to_owned(), why };
    let decryptor = age::Decryptor::new(file.take(SEALED_BYTES_MAX)).map_err(|e| bad(e.to_string()))?;
    let opened = decryptor.decrypt(std::iter::once(identity as &dyn age::Identity));
    let mut bytes = Vec::new();
    let most = u64::try_from(SECRET_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    let read = opened.map_err(|e| bad(e.to_string()))?.take(most).read_to_end(&mut bytes);
    read.map_err(|_| bad("it cannot be opened".into()))?;
    Ok(bytes)
}

/// The identity of a file, made at the first call.
fn identity_of(path: &Path) -> Result<age::x25519::Identity, StoreError> {
    let bad = |why: String| StoreError::Identity { path: path.to_owned(), why };
    for _ in 0..2 {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let fresh = age::x25519::Identity::generate();
                // Somebody else's that came first is the one that counts.
                make(path, fresh.to_string().expose_secret().as_bytes())?;
                continue;
            }
            Err(e) => return Err(bad(e.to_string())),
        };
        let mode = file.metadata().map_err(|e| bad(e.to_string()))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(bad("others may read it; chmod 600".into()));
        }
        let mut text = String::new();
        file.take(1_024).read_to_string(&mut text).map_err(|e| bad(e.to_string()))?;
        return age::x25519::Identity::from_str(text.trim()).map_err(|_| bad("it is no age identity".into()));
    }
    Err(bad("it was made and is gone".into()))
}

impl Secrets for SecretStore {
    fn get(&self, reference: &str) -> Result<SecretText, SecretError> {
        self.open(reference).map_err(|error| match error {
            StoreError::Unknown(_) => SecretError::Unknown(reference.to_owned()),
            other => SecretError::Unreadable(other.to_string()),
        })
    }

    fn replace(&self, reference: &str, used: &SecretText, next: &SecretText) -> Result<bool, SecretError> {
        if self.get(reference)? != *used {
            return Ok(false);
        }
        self.set(reference, next).map_err(|error| SecretError::Unwritable(error.to_string()))?;
        Ok(true)
    }
}

/// Writes a file that only its owner may read, whole or not at all, in place of the one before.
fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let draft = draft(path, bytes)?;
    put(&draft, path, |draft| std::fs::rename(draft, path))
}

/// The same, where there is none yet; false when there is.
fn make(path: &Path, bytes: &[u8]) -> Result<bool, StoreError> {
    let draft = draft(path, bytes)?;
    let mut made = true;
    put(&draft, path, |draft| match std::fs::hard_link(draft, path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            made = false;
            Ok(())
        }
        other => other,
    })?;
    Ok(made)
}

/// Two drafts of one process must not be one file.
static DRAFTS: AtomicU64 = AtomicU64::new(0);

fn draft(path: &Path, bytes: &[u8]) -> Result<PathBuf, StoreError> {
    let bad = |e: std::io::Error| StoreError::File { path: path.to_owned(), why: e.to_string() };
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(bad)?;
    }
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".new{}-{}", std::process::id(), DRAFTS.fetch_add(1, Ordering::Relaxed)));
    let draft = PathBuf::from(draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(bad)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        let _gone = std::fs::remove_file(&draft);
    }
    written.map_err(bad)?;
    Ok(draft)
}

/// Brings a draft to its place, durably.
fn put(draft: &Path, path: &Path, place: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<(), StoreError> {
    let placed = place(draft);
    // Renamed it is gone already; else what is left of it is sealed, or the identity of a store that never was.
    let _gone = std::fs::remove_file(draft);
    placed
        .and_then(|()| sync_folder_of(path))
        .map_err(|e| StoreError::File { path: path.to_owned(), why: e.to_string() })
}

/// What stands in a folder is durable when the folder itself is.
fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, SecretStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = SecretStore::at(folder.path().join("secrets"), folder.path().join("keys/secrets.age"));
        (folder, store)
    }

    fn everything(folder: &Path) -> Vec<u8> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { all.extend(everything(&path)) } else { all.extend(std::fs::read(path).unwrap()) }
        }
        all
    }

    #[test]
    fn a_secret_is_kept_listed_replaced_and_forgotten_and_never_stands_in_the_clear() {
        let (folder, store) = store();
        assert!(store.list().unwrap().is_empty());
        for (reference, text) in [("secret://mail/oauth", "one"), ("secret://a", "two"), ("secret://a", "t4-canary-99")]
        {
            store.set(reference, &SecretText::parse(text).unwrap()).unwrap();
        }
        assert_eq!(store.list().unwrap(), ["secret://a", "secret://mail/oauth"]);
        assert_eq!(store.get("secret://a").unwrap().expose(), "t4-canary-99");
        let all = everything(folder.path());
        assert!(!all.windows(12).any(|w| w == b"t4-canary-99"));
        store.remove("secret://a").unwrap();
        assert!(matches!(store.get("secret://a"), Err(SecretError::Unknown(_))));
        assert!(matches!(store.remove("secret://a"), Err(StoreError::Unknown(_))));
    }

    #[test]
    fn a_secret_that_was_used_is_replaced_and_one_that_somebody_set_is_not() {
        let (folder, store) = store();
        let [one, two, three] = ["one", "two", "t4-canary-99"].map(|text| SecretText::parse(text).unwrap());
        assert!(matches!(store.replace("secret://a", &one, &two), Err(SecretError::Unknown(_))));
        store.set("secret://a", &one).unwrap();
        assert!(store.replace("secret://a", &one, &three).unwrap());
        assert!(store.get("secret://a").unwrap() == three);
        assert!(!store.replace("secret://a", &one, &two).unwrap());
        assert!(store.get("secret://a").unwrap() == three);
        let all = everything(folder.path());
        assert!(!all.windows(12).any(|w| w == b"t4-canary-99"));
        // What cannot be looked at is not replaced either.
        std::fs::set_permissions(folder.path().join("keys/secrets.age"), std::fs::Permissions::from_mode(0o640))
            .unwrap();
        assert!(matches!(store.replace("secret://a", &three, &two), Err(SecretError::Unreadable(_))));
    }

    #[test]
    fn another_identity_or_one_that_others_may_read_opens_nothing() {
        let (folder, store) = store();
        store.set("secret://a", &SecretText::parse("one").unwrap()).unwrap();
        let identity = folder.path().join("keys/secrets.age");
        std::fs::set_permissions(&identity, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(store.open("secret://a"), Err(StoreError::Identity { .. })));
        std::fs::remove_file(&identity).unwrap();
        assert!(matches!(store.open("secret://a"), Err(StoreError::File { .. })));
    }

    #[test]
    fn a_name_stays_in_the_folder_and_a_secret_has_a_size() {
        let (_folder, store) = store();
        let secret = SecretText::parse(&"x".repeat(SECRET_BYTES_MAX)).unwrap();
        for bad in ["secret://../a", "secret:///etc/passwd", "a", "secret://a~b"] {
            assert!(matches!(store.set(bad, &secret), Err(StoreError::BadReference(_))), "{bad}");
        }
        store.set("secret://a", &secret).unwrap();
        assert!(store.open("secret://a").unwrap() == secret);
    }

    #[test]
    fn there_is_a_largest_number_of_them() {
        let (folder, store) = store();
        let one = SecretText::parse("x").unwrap();
        store.set("secret://a", &one).unwrap();
        for n in 1..SECRETS_MAX {
            std::fs::copy(folder.path().join("secrets/a.age"), folder.path().join(format!("secrets/b{n}.age")))
                .unwrap();
        }
        assert!(matches!(store.set("secret://c", &one), Err(StoreError::TooMany)));
        store.set("secret://a", &one).unwrap();
    }
}
