//! Secrets of upstreams at rest: one folder, one age file a secret, one identity that opens them all. Must never write a
//! secret in the clear, print one, or open one with an identity that others may read.

use age::secrecy::ExposeSecret;
use custody_ports::secrets::{SECRET_BYTES_MAX, SecretError, SecretText, Secrets, is_reference};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

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
        let recipient = self.identity()?.to_public();
        let bad = |why: String| StoreError::File { path: path.clone(), why };
        let all = std::iter::once(&recipient as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(all).map_err(|e| bad(e.to_string()))?;
        let mut sealed = Vec::new();
        let mut writer = encryptor.wrap_output(&mut sealed).map_err(|e| bad(e.to_string()))?;
        writer.write_all(secret.expose().as_bytes()).map_err(|e| bad(e.to_string()))?;
        writer.finish().map_err(|e| bad(e.to_string()))?;
        write(&path, &sealed)
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
        let identity = self.identity()?;
        let decryptor = age::Decryptor::new(file.take(SEALED_BYTES_MAX)).map_err(|e| bad(e.to_string()))?;
        let opened = decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity));
        let mut text = String::new();
        let most = u64::try_from(SECRET_BYTES_MAX).unwrap_or(u64::MAX) + 1;
        let read = opened.map_err(|e| bad(e.to_string()))?.take(most).read_to_string(&mut text);
        read.map_err(|_| bad("it cannot be opened".into()))?;
        SecretText::parse(&text).ok_or(StoreError::BadSecret)
    }

    fn file(&self, reference: &str) -> Result<PathBuf, StoreError> {
        match reference.strip_prefix("secret://").filter(|_| is_reference(reference)) {
            // A file's name has room for less than a reference.
            Some(path) if path.len() <= 200 => Ok(self.folder.join([&path.replace('/', SLASH), ENDING].concat())),
            _ => Err(StoreError::BadReference(reference.chars().take(80).collect())),
        }
    }

    /// The identity, made at the first call.
    fn identity(&self) -> Result<age::x25519::Identity, StoreError> {
        let bad = |why: String| StoreError::Identity { path: self.identity.clone(), why };
        let file = match File::open(&self.identity) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let fresh = age::x25519::Identity::generate();
                write(&self.identity, fresh.to_string().expose_secret().as_bytes())?;
                return Ok(fresh);
            }
            Err(e) => return Err(bad(e.to_string())),
        };
        let mode = file.metadata().map_err(|e| bad(e.to_string()))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(bad("others may read it; chmod 600".into()));
        }
        let mut text = String::new();
        file.take(1_024).read_to_string(&mut text).map_err(|e| bad(e.to_string()))?;
        age::x25519::Identity::from_str(text.trim()).map_err(|_| bad("it is no age identity".into()))
    }
}

impl Secrets for SecretStore {
    fn get(&self, reference: &str) -> Result<SecretText, SecretError> {
        self.open(reference).map_err(|error| match error {
            StoreError::Unknown(_) => SecretError::Unknown(reference.to_owned()),
            other => SecretError::Unreadable(other.to_string()),
        })
    }
}

/// Writes a file that only its owner may read, whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let bad = |e: std::io::Error| StoreError::File { path: path.to_owned(), why: e.to_string() };
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(bad)?;
    }
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".new{}", std::process::id()));
    let draft = PathBuf::from(draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(bad)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&draft, path));
    if written.is_err() {
        // What is left of a draft is sealed, or the identity of a store that never was.
        let _gone = std::fs::remove_file(&draft);
    }
    written.map_err(bad)
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
