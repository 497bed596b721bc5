//! The users of one machine, in one file of the role's folder that `custody user` writes and the server reads. Must
//! never hold a key: only its hash.

use super::{hash, same};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The file's name.
pub const FILE: &str = "users.json";
/// The most users of one machine; more come from an identity provider.
pub const USERS_MAX: usize = 1_000;
/// How a key begins, so that people and scanners recognise one.
pub const KEY_PREFIX: &str = "ck_";

/// Who somebody is at an identity provider. One id at two providers is two persons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linked {
    /// The provider's issuer identifier.
    pub issuer: String,
    /// Their id there.
    pub id: String,
}

/// One user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The person, as units and events name them.
    pub subject: String,
    /// What people call them.
    pub name: String,
    /// Whether they see everybody's.
    pub admin: bool,
    /// SHA-256 of their key, hexadecimal.
    pub key_hash: String,
    /// Whether they may no longer come in.
    #[serde(default)]
    pub disabled: bool,
    /// Who they are at the identity provider, if they may come in from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linked: Option<Linked>,
    /// When they were added, milliseconds since the epoch.
    pub added_at: u64,
}

/// All of them, by subject.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Users {
    users: BTreeMap<String, User>,
}

impl Users {
    /// The file of a folder; no file, no users.
    ///
    /// # Errors
    /// When it cannot be read or is not of this form.
    pub fn read(folder: &Path) -> std::io::Result<Users> {
        match std::fs::read(folder.join(FILE)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Users::default()),
            Err(error) => Err(error),
        }
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> std::io::Result<()> {
        write_private(&folder.join(FILE), &serde_json::to_vec_pretty(self)?)
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// In the order of their subjects.
    pub fn iter(&self) -> impl Iterator<Item = &User> {
        self.users.values()
    }

    /// One.
    pub fn get(&self, subject: &str) -> Option<&User> {
        self.users.get(subject)
    }

    /// Adds or replaces one.
    ///
    /// # Errors
    /// When there are too many.
    pub fn put(&mut self, user: User) -> Result<(), String> {
        if self.users.len() >= USERS_MAX && !self.users.contains_key(&user.subject) {
            return Err(format!("{USERS_MAX} users are the most"));
        }
        self.users.insert(user.subject.clone(), user);
        Ok(())
    }

    /// Removes one; true when there was one.
    pub fn remove(&mut self, subject: &str) -> bool {
        self.users.remove(subject).is_some()
    }

    /// Whose key it is. Every user is compared, also after a hit.
    pub fn by_key(&self, key: &str) -> Option<User> {
        let wanted = hash(key);
        let mut found = None;
        for user in self.users.values() {
            if same(&user.key_hash, &wanted) && !user.disabled {
                found = Some(user.clone());
            }
        }
        found
    }

    /// Who somebody at a provider is here. Nobody is by a name that is only alike: an administrator linked them.
    pub fn by_link(&self, issuer: &str, id: &str) -> Option<User> {
        let is_them = |user: &&User| {
            !user.disabled && user.linked.as_ref().is_some_and(|link| link.issuer == issuer && link.id == id)
        };
        self.users.values().find(is_them).cloned()
    }

    /// Links a user to an id at a provider, or to none.
    ///
    /// # Errors
    /// Whose it is already, or that there is no such user.
    pub fn link(&mut self, subject: &str, linked: Option<Linked>) -> Result<(), String> {
        let has_it = |user: &&User| user.subject != subject && linked.is_some() && user.linked == linked;
        if let Some(other) = self.users.values().find(has_it) {
            return Err(format!("that id is {}'s already", other.subject));
        }
        let user = self.users.get_mut(subject).ok_or_else(|| format!("there is no user {subject:?}"))?;
        user.linked = linked;
        Ok(())
    }
}

/// Writes a file of mode 0600, whole or not at all.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension(format!("new{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(draft, path)
}
