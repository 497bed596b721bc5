//! Who may mount what. Pure; asked at admission, once for each workspace of a dispatch.

use super::system::is_system;
use super::{WorkspaceState, rank};
use custody_contracts::ids::Subject;
use custody_contracts::unit::{Mode, WorkspaceMount};

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountRefusal {
    /// Stable code.
    pub code: &'static str,
    /// What was wrong.
    pub detail: String,
    /// What to do next.
    pub hint: String,
}

/// Whether a person may mount a workspace as asked.
///
/// # Errors
/// `WORKSPACE_UNKNOWN`, `WORKSPACE_FORBIDDEN` or `WORKSPACE_MODE`, with the next step.
pub fn may_mount(
    state: Option<&WorkspaceState>,
    subject: &Subject,
    mount: &WorkspaceMount,
) -> Result<(), MountRefusal> {
    let (id, asked) = (mount.id.as_str(), mount.mode);
    if is_system(id) {
        return Err(MountRefusal {
            code: "WORKSPACE_FORBIDDEN",
            detail: format!("workspace {id} keeps the session files of one person; no dispatch mounts it"),
            hint: "continue the session instead: start.session".into(),
        });
    }
    let Some(registered) = state.and_then(WorkspaceState::registered) else {
        return Err(MountRefusal {
            code: "WORKSPACE_UNKNOWN",
            detail: format!("there is no workspace {id}"),
            hint: format!("`custody workspace ls` shows them; make one with `custody workspace new {id}`"),
        });
    };
    let own = |who: &str| who == "*" || who == subject.as_str();
    let most = if own(&registered.owner) {
        Some(Mode::Rw)
    } else {
        let members = registered.members.iter().filter(|m| own(&m.subject)).map(|m| m.mode);
        members.max_by_key(|m| rank(*m))
    };
    let Some(most) = most else {
        return Err(MountRefusal {
            code: "WORKSPACE_FORBIDDEN",
            detail: format!("{subject} may not mount workspace {id}"),
            hint: format!("its owner {} lets others in: custody workspace share {id} {subject}:ro", registered.owner),
        });
    };
    let document = registered.workspace.mode;
    let limit = if rank(document) < rank(most) { document } else { most };
    if rank(asked) <= rank(limit) {
        return Ok(());
    }
    Err(MountRefusal {
        code: "WORKSPACE_MODE",
        detail: format!("{subject} may mount workspace {id} as {} at most, not as {}", limit.as_str(), asked.as_str()),
        hint: format!("ask for {id}:{}", limit.as_str()),
    })
}
