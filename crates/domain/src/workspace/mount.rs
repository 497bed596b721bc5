//! Who may mount what. Pure; asked at admission, once for each workspace of a dispatch.

use super::system::is_system;
use super::{WorkspaceState, rank};
use custody_contracts::ids::Subject;
use custody_contracts::unit::{Mode, WorkspaceMount};
use custody_contracts::workspace::WorkspaceMember;

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

/// The most that a person may have of a workspace: everything for its owner, what the owner gave for others, and never
/// more than the workspace itself allows. `None`: it is not theirs to see. `*` is everybody.
pub fn most(owner: &str, members: &[WorkspaceMember], document: Mode, person: &str) -> Option<Mode> {
    let is = |who: &str| who == "*" || who == person;
    let given = if is(owner) {
        Some(Mode::Rw)
    } else {
        members.iter().filter(|m| is(&m.subject)).map(|m| m.mode).max_by_key(|m| rank(*m))
    };
    given.map(|given| if rank(document) < rank(given) { document } else { given })
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
    let Some(limit) = most(&registered.owner, &registered.members, registered.workspace.mode, subject.as_str()) else {
        return Err(MountRefusal {
            code: "WORKSPACE_FORBIDDEN",
            detail: format!("{subject} may not mount workspace {id}"),
            hint: format!("its owner {} lets others in: custody workspace share {id} {subject}:ro", registered.owner),
        });
    };
    if rank(asked) <= rank(limit) {
        return Ok(());
    }
    Err(MountRefusal {
        code: "WORKSPACE_MODE",
        detail: format!("{subject} may mount workspace {id} as {} at most, not as {}", limit.as_str(), asked.as_str()),
        hint: format!("ask for {id}:{}", limit.as_str()),
    })
}
