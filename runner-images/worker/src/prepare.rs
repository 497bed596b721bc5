//! Turns a job into exactly what to start: filled argv, environment, files. Must never touch the file system: that is
//! `files`, so that this stays a table.

use crate::{
    protocol::{IdFrom, Job, Stdin},
    template::{TemplateError, Values, fill},
};
use std::{collections::BTreeMap, path::PathBuf};

/// What to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The program and its arguments; never empty.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Files to write first, path and text.
    pub files: Vec<(PathBuf, String)>,
    /// Symbolic links to make first, path and target.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Whether the session is there and is resumed from.
    pub resumed: bool,
    /// The first workspace, when there is one.
    pub workspace: Option<PathBuf>,
    /// What standard input begins with; `None` is `/dev/null`.
    pub stdin: Option<String>,
}

/// Why a job cannot be run; `code` goes into the error frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadJob {
    /// Stable code: `bad_template`, `bad_job` or `bad_file`.
    pub code: &'static str,
    /// A sentence.
    pub message: String,
}

/// What differs from turn to turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The words.
    pub prompt: String,
    /// Whether the session is there and must be resumed from.
    pub resume: bool,
    /// The agent's own id for it.
    pub agent_session: Option<String>,
}

impl Step {
    /// The job's own turn.
    pub fn first(job: &Job) -> Self {
        Self {
            prompt: job.prompt.clone(),
            resume: job.session.resume,
            agent_session: job.session.agent_session.clone(),
        }
    }
}

/// Where the agent reaches the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doors {
    /// `{{inference_url}}`.
    pub inference: String,
    /// `{{mcp_url}}`, if tools are offered.
    pub mcp: Option<String>,
}

/// Fills every template of the job. `inherited` are the variables of the box itself (`PATH`, `HOME`), which the
/// runner's own may replace.
///
/// Errors: [`BadJob`] for a template without a value, an empty command, a limit of 0.
pub fn plan(job: &Job, step: &Step, doors: &Doors, inherited: BTreeMap<String, String>) -> Result<Plan, BadJob> {
    let limits = job.limits;
    if limits.wall_ms == 0 || limits.idle_ms == 0 || limits.output_bytes == 0 {
        return Err(BadJob {
            code: "bad_job",
            message: "a limit of 0 is no limit: wall_ms, idle_ms and output_bytes".to_owned(),
        });
    }
    let values = values(job, step, doors);
    let at = |place: &str, template: &str| fill(template, &values).map_err(|error| bad_template(place, &error));

    let template = if step.resume { &job.runner.session.resume_argv } else { &job.runner.argv };
    let argv = template.iter().map(|part| at("argv", part)).collect::<Result<Vec<_>, _>>()?;
    if argv.first().is_none_or(String::is_empty) {
        return Err(BadJob { code: "bad_job", message: "the runner's command is empty".to_owned() });
    }
    let mut env = inherited;
    for (name, template) in &job.runner.env {
        env.insert(name.clone(), at(name, template)?);
    }
    refuse_nul(&argv, &env)?;
    let files = job.runner.files.iter();
    let files = files.map(|file| Ok((PathBuf::from(&file.path), at(&file.path, &file.template)?)));
    Ok(Plan {
        argv,
        env,
        files: files.collect::<Result<_, BadJob>>()?,
        links: job.runner.links.iter().map(|link| (link.path.clone().into(), link.target.clone().into())).collect(),
        resumed: step.resume,
        workspace: job.workspaces.first().map(|workspace| PathBuf::from(&workspace.path)),
        stdin: (job.runner.stdin == Stdin::Prompt).then(|| format!("{}\n", step.prompt)),
    })
}

/// `{{workspace}}` is empty for a job without one. `{{session}}` is the agent's own id where only the agent knows it,
/// and else the path.
fn values(job: &Job, step: &Step, doors: &Doors) -> Values {
    let session = match (job.runner.session.id_from, &step.agent_session) {
        (IdFrom::Frame, Some(id)) => Some(id.clone()),
        (IdFrom::Frame, None) if step.resume => None,
        (IdFrom::Frame | IdFrom::Path | IdFrom::None, _) => Some(job.session.path.clone()),
    };
    let mut values = Values::from([
        ("prompt", step.prompt.clone()),
        ("workspace", job.workspaces.first().map(|workspace| workspace.path.clone()).unwrap_or_default()),
        ("inference_url", doors.inference.clone()),
        ("model", job.model.clone()),
    ]);
    values.extend(session.map(|session| ("session", session)));
    values.extend(doors.mcp.clone().map(|url| ("mcp_url", url)));
    values
}

fn bad_template(place: &str, error: &TemplateError) -> BadJob {
    BadJob { code: "bad_template", message: format!("{place}: {error}") }
}

/// The kernel's strings end at NUL, so a NUL in a prompt cannot become an argument.
fn refuse_nul(argv: &[String], env: &BTreeMap<String, String>) -> Result<(), BadJob> {
    let bad_name = |name: &str| name.is_empty() || name.contains(['=', '\0']);
    if argv.iter().any(|part| part.contains('\0'))
        || env.iter().any(|(name, value)| bad_name(name) || value.contains('\0'))
    {
        return Err(BadJob {
            code: "bad_job",
            message: "a NUL character or a bad name in the command or the environment".to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn job(change: Value) -> Job {
        let mut job = json!({
            "dispatch": "d-1", "attempt": 1,
            "session": {"id": "s-1", "path": "/session/session.jsonl", "resume": false},
            "runner": {
                "name": "r", "version": "1", "image": "@image",
                "argv": ["run", "{{session}}", "{{prompt}}"], "env": {"URL": "{{inference_url}}"}, "stdin": "none",
                "stream": {"format": "text"},
                "session": {"path": "/session/session.jsonl", "resume_argv": ["again", "{{session}}"], "id_from": "path"},
                "inference": "none", "files": [{"path": "/tmp/m", "template": "{{model}} {{workspace}}"}],
                "licence": "Apache-2.0", "homepage": "https://example.org"
            },
            "prompt": "hello {{model}}",
            "workspaces": [{"id": "w", "path": "/workspace", "mode": "rw"}, {"id": "x", "path": "/x", "mode": "ro"}],
            "model": "m", "inference_url": "unix:/run/gw/gw.sock",
            "limits": {"wall_ms": 1000, "idle_ms": 1000, "grace_ms": 10, "output_bytes": 1000}
        });
        for (pointer, value) in change.as_object().unwrap() {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            job.pointer_mut(parent).unwrap()[name] = value.clone();
        }
        serde_json::from_value(job).unwrap()
    }

    fn plan(job: &Job, inherited: BTreeMap<String, String>) -> Result<Plan, BadJob> {
        let doors = Doors { inference: job.inference_url.clone(), mcp: job.mcp_url.clone() };
        super::plan(job, &Step::first(job), &doors, inherited)
    }

    fn inherited() -> BTreeMap<String, String> {
        BTreeMap::from([("HOME".to_owned(), "/home/agent".to_owned())])
    }

    #[test]
    fn a_first_turn() {
        let plan = plan(&job(json!({})), inherited()).unwrap();
        assert_eq!(plan.argv, ["run", "/session/session.jsonl", "hello {{model}}"]);
        assert_eq!(plan.env["URL"], "unix:/run/gw/gw.sock");
        assert_eq!(plan.env["HOME"], "/home/agent");
        assert_eq!(plan.files, [(PathBuf::from("/tmp/m"), "m /workspace".to_owned())]);
        assert_eq!((plan.workspace, plan.stdin), (Some(PathBuf::from("/workspace")), None));
    }

    #[rstest]
    #[case::path(json!({"/session/resume": true}), &["again", "/session/session.jsonl"])]
    #[case::own_id(json!({"/session/resume": true, "/runner/session/id_from": "frame", "/session/agent_session": "t-9"}), &["again", "t-9"])]
    #[case::no_workspace(json!({"/workspaces": [], "/runner/argv": ["run", "--workspace", "{{workspace}}"]}), &["run", "--workspace", ""])]
    #[case::mcp(json!({"/mcp_url": "unix:/run/gw/gw.sock#/mcp", "/runner/argv": ["{{mcp_url}}"]}), &["unix:/run/gw/gw.sock#/mcp"])]
    fn fills_argv(#[case] change: Value, #[case] argv: &[&str]) {
        assert_eq!(plan(&job(change), inherited()).unwrap().argv, argv);
    }

    #[test]
    fn a_prompt_for_standard_input_ends_its_line() {
        assert_eq!(
            plan(&job(json!({"/runner/stdin": "prompt"})), inherited()).unwrap().stdin.unwrap(),
            "hello {{model}}\n"
        );
    }

    #[rstest]
    #[case::unknown_name(json!({"/runner/argv": ["run", "{{token}}"]}), "bad_template", "argv: no value for {{token}}")]
    #[case::in_env(json!({"/runner/env": {"A": "{{x}}"}}), "bad_template", "A: no value for {{x}}")]
    #[case::in_file(json!({"/runner/files": [{"path": "/tmp/a", "template": "{{"}]}), "bad_template", "/tmp/a: a {{ is not closed")]
    #[case::no_mcp(json!({"/runner/argv": ["{{mcp_url}}"]}), "bad_template", "argv: no value for {{mcp_url}}")]
    #[case::resume_without_own_id(json!({"/session/resume": true, "/runner/session/id_from": "frame"}), "bad_template", "argv: no value for {{session}}")]
    #[case::no_command(json!({"/runner/argv": []}), "bad_job", "the runner's command is empty")]
    #[case::nul(json!({"/prompt": "a\u{0}b"}), "bad_job", "a NUL character or a bad name in the command or the environment")]
    #[case::env_name(json!({"/runner/env": {"A=B": "x"}}), "bad_job", "a NUL character or a bad name in the command or the environment")]
    #[case::no_wall(json!({"/limits/wall_ms": 0}), "bad_job", "a limit of 0 is no limit: wall_ms, idle_ms and output_bytes")]
    fn refuses(#[case] change: Value, #[case] code: &str, #[case] message: &str) {
        let refused = plan(&job(change), inherited()).unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (code, message));
    }
}
