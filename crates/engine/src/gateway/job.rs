//! The job of a worker, from admission, claim and runner document.

use super::Gateway;
use super::view::Claimed;
use crate::runtime::workspaces::copy_of;
use crate::runtime::{effective, workspace_path};
use custody_contracts::box_protocol::{
    Job, JobLimits, JobSession, JobWorkspace, SESSION_FOLDER_IN_BOX, SESSION_IN_BOX, SOCKET_IN_BOX,
};
use custody_contracts::runner::{Runner, SessionKind};
use custody_contracts::unit::{Entrypoint, Start};
use std::path::{Component, Path};

/// The largest prompt that is read from a workspace.
const PROMPT_BYTES_MAX: u64 = 65_536;

/// Puts a job together.
///
/// # Errors
/// A sentence that the worker and the ledger will carry, when the runner is gone or the prompt cannot be read.
pub(super) fn job(gateway: &Gateway, claimed: &Claimed) -> Result<Job, String> {
    let admitted = &claimed.admitted;
    let name = admitted.runner.name.as_str();
    let mut runner = gateway.runners.get(name).ok_or_else(|| format!("runner {name} is not installed any more"))?;
    // The admission pinned an image; a runner document that was rebuilt since then does not change this dispatch.
    runner.image.clone_from(&admitted.runner.image);
    let limits = &gateway.limits;
    let (wall_ms, idle_ms) = effective(admitted.unit.limits.as_ref(), limits);
    let workspaces = admitted.unit.workspaces.iter().enumerate().map(|(index, workspace)| JobWorkspace {
        id: workspace.id.to_string(),
        path: workspace_path(index, workspace.id.as_str()),
        mode: workspace.mode.as_str().into(),
    });
    let asked = admitted.unit.limits.as_ref();
    let turns = asked.and_then(|limits| limits.turns);
    Ok(Job {
        dispatch: admitted.dispatch.to_string(),
        attempt: claimed.claim.attempt,
        session: JobSession {
            id: admitted.session.to_string(),
            path: match runner.session.kind {
                SessionKind::File => SESSION_IN_BOX.into(),
                SessionKind::Directory => SESSION_FOLDER_IN_BOX.into(),
            },
            resume: claimed.claim.resume_digest.is_some(),
            agent_session: claimed.agent_session.clone(),
        },
        prompt: prompt(gateway, claimed)?,
        workspaces: workspaces.collect(),
        model: gateway.door.as_ref().map_or_else(|| "none".into(), |door| door.models().model_of(name).to_owned()),
        inference_url: ["unix:", SOCKET_IN_BOX].concat(),
        mcp_url: wants_tools(&runner).then(|| ["unix:", SOCKET_IN_BOX, "#", crate::mcp::PATH].concat()),
        limits: JobLimits {
            wall_ms,
            idle_ms,
            grace_ms: limits.grace_ms,
            output_bytes: limits.output_bytes,
            turns: turns.map(|most| u32::try_from(most).unwrap_or(u32::MAX)),
            tool_calls: asked.and_then(|limits| limits.tool_calls),
        },
        // Whoever asked for more than one turn has more to say: the box stays until it was idle for too long.
        follow_up: turns.is_some_and(|most| most > 1),
        runner,
    })
}

/// Whether a runner is told of the tools: by its own configuration for them, or in a template.
fn wants_tools(runner: &Runner) -> bool {
    let templated = || serde_json::to_string(runner).is_ok_and(|text| text.contains("{{mcp_url}}"));
    runner.mcp.is_some() || templated()
}

fn prompt(gateway: &Gateway, claimed: &Claimed) -> Result<String, String> {
    if claimed.admitted.sealed.is_some() {
        return Err(format!("ERASED: the words of {} cannot be opened any more", claimed.admitted.dispatch));
    }
    match &claimed.admitted.unit.start {
        Start::Entrypoint(Entrypoint::Inline(text)) => Ok(text.clone()),
        Start::Session(turn) => Ok(turn.inline.clone().unwrap_or_default()),
        Start::Entrypoint(Entrypoint::Path(path)) => {
            let first = claimed.admitted.unit.workspaces.first().ok_or("there is no workspace")?;
            // The run's own copy: the runtime has put it there before the box was started.
            let folder = gateway.runs.join(claimed.admitted.dispatch.as_str());
            read_inside(&copy_of(&folder, first.id.as_str()), path)
        }
    }
}

/// Reads a text file inside a folder. A path that leaves the folder, also through a link, is refused.
fn read_inside(folder: &Path, path: &str) -> Result<String, String> {
    let relative = Path::new(path);
    if !relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
        return Err(format!("start.entrypoint.path {path:?} leaves the workspace"));
    }
    let bad = |e: std::io::Error| format!("start.entrypoint.path {path:?}: {e}");
    let folder = folder.canonicalize().map_err(bad)?;
    let file = folder.join(relative).canonicalize().map_err(bad)?;
    if !file.starts_with(&folder) {
        return Err(format!("start.entrypoint.path {path:?} leaves the workspace"));
    }
    let facts = file.metadata().map_err(bad)?;
    if !facts.is_file() || facts.len() > PROMPT_BYTES_MAX {
        return Err(format!("start.entrypoint.path {path:?} is not a file of at most {PROMPT_BYTES_MAX} bytes"));
    }
    std::fs::read_to_string(&file).map_err(bad)
}

#[cfg(test)]
mod tests {
    use super::read_inside;
    use rstest::rstest;

    #[rstest]
    #[case::plain("ask.md", Ok("hello"))]
    #[case::in_a_folder("a/b.md", Ok("deep"))]
    #[case::up("../secret", Err("leaves"))]
    #[case::absolute("/etc/passwd", Err("leaves"))]
    #[case::through_a_link("link", Err("leaves"))]
    #[case::folder("a", Err("not a file"))]
    #[case::missing("nothing", Err("No such file"))]
    fn a_prompt_is_read_only_inside_its_workspace(#[case] path: &str, #[case] expected: Result<&str, &str>) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("ws");
        std::fs::create_dir_all(folder.join("a")).unwrap();
        std::fs::write(folder.join("ask.md"), "hello").unwrap();
        std::fs::write(folder.join("a/b.md"), "deep").unwrap();
        std::fs::write(root.path().join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink(root.path().join("secret"), folder.join("link")).unwrap();
        match (read_inside(&folder, path), expected) {
            (Ok(text), Ok(wanted)) => assert_eq!(text, wanted),
            (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
            (found, wanted) => panic!("{found:?} against {wanted:?}"),
        }
    }
}
