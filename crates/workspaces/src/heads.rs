//! Heads in a bucket: numbered objects without a gap, the highest counts. Making the next number is the fence between
//! two writers. Must never remove a head: a writer that slept could make its number again.

use custody_contracts::canonical::{digest, hex};
use custody_ports::objects::{Created, ObjectError, Objects};
use custody_ports::workspaces::{Head, WorkspaceError};
use std::sync::Arc;

/// The largest head.
const HEAD_BYTES_MAX: usize = 1 << 20;
/// Heads of one workspace.
const HEADS_MAX: u64 = 1 << 40;

/// One workspace's part of a bucket.
#[derive(Clone)]
pub(crate) struct Heads {
    pub(crate) id: String,
    pub(crate) objects: Arc<dyn Objects>,
}

impl Heads {
    fn key(&self, n: u64) -> String {
        format!("{}/heads/{n:012}", self.id)
    }

    pub(crate) fn pack_key(&self, name: &str) -> String {
        format!("{}/packs/{}", self.id, name.strip_prefix("sha256:").unwrap_or(name))
    }

    pub(crate) fn error(&self, error: ObjectError) -> WorkspaceError {
        match error {
            ObjectError::TooLarge { key, bytes } => {
                WorkspaceError::TooLarge { code: "OBJECT_TOO_LARGE", why: format!("{key} has {bytes} bytes") }
            }
            ObjectError::Corrupt(key) => self.corrupt(format!("object {key}")),
            ObjectError::Unavailable(why) => WorkspaceError::Unavailable { workspace: self.id.clone(), why },
        }
    }

    pub(crate) fn corrupt(&self, why: impl Into<String>) -> WorkspaceError {
        WorkspaceError::Corrupt { workspace: self.id.clone(), why: why.into() }
    }

    /// One head and the digest of its bytes; `None` when there is none of that number.
    async fn get(&self, n: u64) -> Result<Option<(Head, String)>, WorkspaceError> {
        let Some(bytes) = self.objects.get(&self.key(n)).await.map_err(|e| self.error(e))? else { return Ok(None) };
        if bytes.len() > HEAD_BYTES_MAX {
            return Err(self.corrupt(format!("head {n} has {} bytes", bytes.len())));
        }
        let head: Head = serde_json::from_slice(&bytes).map_err(|e| self.corrupt(format!("head {n}: {e}")))?;
        if head.n != n || !is_commit(&head.trunk) || !head.proposals.values().all(|c| is_commit(c)) {
            return Err(self.corrupt(format!("head {n} is not what its name says")));
        }
        Ok(Some((head, digest(&bytes))))
    }

    /// The head that counts, sought from one that is known: upwards in doubling steps, then between the last that is there
    /// and the first that is not. Heads have no gap, so nothing has to be listed.
    pub(crate) async fn newest(&self, known: u64) -> Result<Option<(Head, String)>, WorkspaceError> {
        let mut best = match known {
            0 => None,
            n => self.get(n).await?,
        };
        let mut low = best.as_ref().map_or(0, |(h, _)| h.n);
        let mut step = 1;
        let mut high = loop {
            let n = low.saturating_add(step);
            if n > HEADS_MAX {
                return Err(self.corrupt("there are too many heads"));
            }
            match self.get(n).await? {
                Some(found) => {
                    best = Some(found);
                    low = n;
                    step *= 2;
                }
                None => break n,
            }
        };
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match self.get(middle).await? {
                Some(found) => {
                    best = Some(found);
                    low = middle;
                }
                None => high = middle,
            }
        }
        Ok(best)
    }

    /// Makes a head. `false`: the number is taken by another one. A repeated call finds its own.
    pub(crate) async fn make(&self, head: &Head) -> Result<bool, WorkspaceError> {
        let bytes = serde_json::to_vec(head).map_err(|e| self.corrupt(e.to_string()))?;
        if bytes.len() > HEAD_BYTES_MAX {
            return Err(WorkspaceError::TooLarge {
                code: "HEAD_TOO_LARGE",
                why: format!("{} proposals and {} packs are too many", head.proposals.len(), head.packs.len()),
            });
        }
        match self.objects.create(&self.key(head.n), bytes).await.map_err(|e| self.error(e))? {
            Created::New => Ok(true),
            // A lost answer looks like somebody else: what is there tells.
            Created::Taken => Ok(self.get(head.n).await?.is_some_and(|(there, _)| there == *head)),
        }
    }
}

/// Git's id of a commit: 40 hexadecimal digits.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// A name in the cache for a stored pack.
pub(crate) fn mark(digest: &str) -> String {
    let bytes = digest.as_bytes();
    digest.strip_prefix("sha256:").map_or_else(|| hex(bytes), str::to_owned)
}
