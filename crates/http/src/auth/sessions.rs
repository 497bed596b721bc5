//! Sessions, in a file of their own so that a restart signs nobody out. Must never hold a token: only its hash.

use super::Provider;
use super::users::write_private;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The file's name.
const FILE: &str = "sessions.json";
/// The most sessions at once; the oldest makes room.
pub const SESSIONS_MAX: usize = 10_000;
/// The most sessions of one person; the oldest makes room.
pub const SESSIONS_EACH_MAX: usize = 50;

/// One session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Whose.
    pub subject: String,
    /// Who vouched.
    pub provider: Provider,
    /// When it began, milliseconds since the epoch.
    pub began_at: u64,
    /// When it ends.
    pub expires_at: u64,
}

/// All of them, by the hash of their token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sessions {
    sessions: BTreeMap<String, Session>,
}

impl Sessions {
    /// The file of a folder, without what has ended.
    ///
    /// # Errors
    /// When it cannot be read or is not of this form.
    pub fn read(folder: &Path, now: u64) -> std::io::Result<Sessions> {
        let mut sessions: Sessions = match std::fs::read(folder.join(FILE)) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Sessions::default(),
            Err(error) => return Err(error),
        };
        sessions.sessions.retain(|_, s| s.expires_at > now);
        Ok(sessions)
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> std::io::Result<()> {
        write_private(&folder.join(FILE), &serde_json::to_vec(self)?)
    }

    /// One that has not ended.
    pub fn live(&self, id: &str, now: u64) -> Option<&Session> {
        self.sessions.get(id).filter(|s| s.expires_at > now)
    }

    /// Adds one; what has ended goes, and the oldest beyond the limits.
    pub fn add(&mut self, id: String, session: Session, now: u64) {
        self.sessions.retain(|_, s| s.expires_at > now);
        let same = |s: &&Session| s.subject == session.subject;
        if self.sessions.values().filter(same).count() >= SESSIONS_EACH_MAX {
            self.drop_oldest(|s| s.subject == session.subject);
        }
        if self.sessions.len() >= SESSIONS_MAX {
            self.drop_oldest(|_| true);
        }
        self.sessions.insert(id, session);
    }

    fn drop_oldest(&mut self, of: impl Fn(&Session) -> bool) {
        let oldest = self.sessions.iter().filter(|(_, s)| of(s)).min_by_key(|(_, s)| s.began_at);
        if let Some(id) = oldest.map(|(id, _)| id.clone()) {
            self.sessions.remove(&id);
        }
    }

    /// Ends one.
    pub fn remove(&mut self, id: &str) {
        self.sessions.remove(id);
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}
