//! The private workspace of each person: where the session files of their dispatches are kept. No dispatch can mount it,
//! nobody can register it.

use custody_contracts::canonical::derived_id;
use custody_contracts::ids::{SessionId, Subject, WorkspaceId};

/// What the names of system workspaces begin with.
const PREFIX: &str = "sys-";
/// The longest workspace id. Source: contract unit.v1, `WorkspaceId`.
const ID_MAX: usize = 63;

/// Whether a name is a system workspace's.
pub fn is_system(id: &str) -> bool {
    id.starts_with(PREFIX)
}

/// A person's own: `sys-u_jane`. A person whose id is no part of a workspace's id, or could be taken for another's, has
/// one by its digest: `sys-x-…`.
pub fn of(subject: &Subject) -> WorkspaceId {
    let text = subject.as_str();
    let plain = !text.starts_with("x-") && PREFIX.len() + text.len() <= ID_MAX;
    let own = WorkspaceId::parse(&[PREFIX, text].concat()).ok().filter(|_| plain);
    own.unwrap_or_else(|| {
        let hashed = derived_id("sys-x-", &[text.as_bytes()]);
        WorkspaceId::parse(&hashed).unwrap_or_else(|_| unreachable!("derived ids are tokens"))
    })
}

/// Where a session's file is in it.
pub fn session_path(session: &SessionId) -> String {
    ["sessions/", session.as_str(), ".jsonl"].concat()
}
