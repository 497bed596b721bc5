//! From a posted specification to a unit. Pure. Must never invent what was not asked for: what the runtime cannot do is
//! refused by name.

use crate::problem::{Code, Problem};
use custody_contracts::canonical::canonical;
use custody_contracts::catalogue::{self, CheckError};
use custody_contracts::ids::{LauncherRef, RunnerName, Subject, WorkspaceId};
use custody_contracts::once;
use custody_contracts::unit::{
    Context, ContextKind, Entrypoint, Identity, Invocation, Limits, Mode, Reference, SessionStart, Start, Trigger,
    WorkspaceMount,
};
use custody_contracts::workload::{
    Backend, LAUNCHER, PROMPT, PROMPT_PATH, Resources, SESSION, TOOLS, TRIGGER, WORKSPACES, WorkloadSpec, uri,
};

/// What a runtime allows one box.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ceilings {
    /// Cores.
    pub cpu: f64,
    /// MiB.
    pub memory_mb: u64,
    /// Processes.
    pub pids: u64,
    /// Whether an idle box is ended, whatever is asked.
    pub idle_sec: u64,
}

/// A posted workload, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Posted {
    /// Its id.
    pub id: String,
    /// What will be launched.
    pub unit: Invocation,
    /// Canonical bytes of the specification: what its digest is over, and the blob that the runtime reads.
    pub bytes: Vec<u8>,
    /// Digest of those bytes: the same id with another one is a conflict.
    pub digest: String,
}

/// Reads and checks a body.
///
/// # Errors
/// A [`Problem`] with the pointer of what is wrong, or the name of what this runtime does not do.
pub fn read(
    body: &[u8],
    subject: &Subject,
    backend: Backend,
    ceilings: &Ceilings,
    name: impl Fn(&[u8]) -> Result<String, Problem>,
) -> Result<Posted, Problem> {
    let value = once::value(body)
        .map_err(|e| Problem::new(Code::Invalid, format!("the body is not JSON: {e}")).code("NOT_JSON"))?;
    catalogue::check("runtime.v1", "WorkloadSpec", &value).map_err(|error| {
        let why = match error {
            CheckError::Invalid(violations) => violations.into_iter().next().map_or_else(String::new, |v| {
                format!("runtime.v1 WorkloadSpec at \"{}\" ({}): {}", v.pointer, v.keyword, v.message)
            }),
            other => other.to_string(),
        };
        Problem::new(Code::Invalid, why)
            .code("SPEC_INVALID")
            .hint("custody contract validate runtime.v1 FILE says what is wrong")
    })?;
    let bytes = canonical(&value).into_bytes();
    let digest = name(&bytes)?;
    let spec: WorkloadSpec =
        serde_json::from_value(value).map_err(|e| Problem::new(Code::Invalid, e).code("SPEC_INVALID"))?;
    possible(&spec, backend, ceilings)?;
    let unit = unit(&spec, subject, &digest)?;
    Ok(Posted { id: spec.workload_id, unit, bytes, digest })
}

fn impossible(code: &str, why: String, hint: &str) -> Problem {
    Problem::new(Code::Unprocessable, why).code(code).hint(hint)
}

fn possible(spec: &WorkloadSpec, backend: Backend, ceilings: &Ceilings) -> Result<(), Problem> {
    if spec.backend.is_some_and(|asked| asked != backend) {
        let why = format!("this runtime is set up for {backend:?}, not for {:?}", spec.backend);
        return Err(impossible("BACKEND_UNAVAILABLE", why, "leave backend out, or ask the runtime that has it"));
    }
    if spec.idle_timeout_sec == Some(0) {
        let why = format!("an idle box is ended after {} s here; never is not offered", ceilings.idle_sec);
        return Err(impossible("IDLE_BOUNDED", why, "leave idleTimeoutSec out, or name a number of seconds"));
    }
    let Resources { cpu, memory_mb, pids } = spec.resources.unwrap_or_default();
    let over = [
        ("cpu", cpu.is_some_and(|asked| asked > ceilings.cpu), ceilings.cpu.to_string()),
        ("memoryMb", memory_mb.is_some_and(|asked| asked > ceilings.memory_mb), ceilings.memory_mb.to_string()),
        ("pids", pids.is_some_and(|asked| asked > ceilings.pids), ceilings.pids.to_string()),
    ];
    if let Some((name, _, most)) = over.iter().find(|(_, over, _)| *over) {
        let why = format!("resources.{name} is more than this runtime gives a box: {most}");
        return Err(impossible("RESOURCES_TOO_LARGE", why, "ask for less, or raise [runtime] of its configuration"));
    }
    Ok(())
}

fn invalid(name: &str, why: impl std::fmt::Display) -> Problem {
    Problem::new(Code::Invalid, format!("env.{name}: {why}")).code("SPEC_INVALID")
}

fn unit(spec: &WorkloadSpec, subject: &Subject, digest: &str) -> Result<Invocation, Problem> {
    let env = |name: &str| spec.env.get(name).map(String::as_str);
    let launcher = ["integration:", LAUNCHER].concat();
    Ok(Invocation {
        identity: Identity {
            subject: subject.clone(),
            launcher: LauncherRef::parse(&launcher).map_err(|e| Problem::new(Code::Internal, e))?,
            token: None,
        },
        runner: RunnerName::parse(&spec.profile).map_err(|e| Problem::new(Code::Invalid, e).code("SPEC_INVALID"))?,
        workspaces: workspaces(env(WORKSPACES).unwrap_or("default:rw"))?,
        tools: words(env(TOOLS).unwrap_or_default()).map(str::to_owned).collect(),
        trigger: trigger(env(TRIGGER).unwrap_or("message"))?,
        context: Some(Context {
            kind: ContextKind::Generic,
            meeting: None,
            reference: Some(Reference { uri: uri(&spec.workload_id), etag: Some(digest.to_owned()) }),
        }),
        start: start(env(SESSION), env(PROMPT), env(PROMPT_PATH))?,
        limits: limits(spec),
    })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|w| !w.is_empty())
}

fn workspaces(text: &str) -> Result<Vec<WorkspaceMount>, Problem> {
    words(text)
        .map(|word| {
            let (id, mode) = word.split_once(':').unwrap_or((word, "ro"));
            let mode = match mode {
                "ro" => Mode::Ro,
                "rw" => Mode::Rw,
                "propose" => Mode::Propose,
                other => return Err(invalid(WORKSPACES, format!("{other:?} is not ro, rw or propose"))),
            };
            Ok(WorkspaceMount { id: WorkspaceId::parse(id).map_err(|e| invalid(WORKSPACES, e))?, mode })
        })
        .collect()
}

fn trigger(word: &str) -> Result<Trigger, Problem> {
    match word {
        "message" => Ok(Trigger::Message),
        "scheduled" => Ok(Trigger::Scheduled),
        "event" => Ok(Trigger::Event),
        "transcription" => Ok(Trigger::Transcription),
        other => Err(invalid(TRIGGER, format!("{other:?} is not message, scheduled, event or transcription"))),
    }
}

fn start(session: Option<&str>, prompt: Option<&str>, path: Option<&str>) -> Result<Start, Problem> {
    match (session, prompt, path) {
        (Some(id), inline, None) => {
            Ok(Start::Session(SessionStart { reference: id.to_owned(), inline: inline.map(str::to_owned) }))
        }
        (None, Some(text), None) => Ok(Start::Entrypoint(Entrypoint::Inline(text.to_owned()))),
        (None, None, Some(path)) => Ok(Start::Entrypoint(Entrypoint::Path(path.to_owned()))),
        (None, None, None) => Err(invalid(PROMPT, "nothing says what to do")
            .hint("set CUSTODY_PROMPT, CUSTODY_PROMPT_PATH, or CUSTODY_SESSION for a next turn")),
        (_, _, Some(_)) => Err(invalid(PROMPT_PATH, "it stands beside another prompt or a session")),
    }
}

fn limits(spec: &WorkloadSpec) -> Option<Limits> {
    let ms = |secs: Option<u64>| secs.map(|s| s.saturating_mul(1_000));
    let limits = Limits { wall_ms: ms(spec.max_lifetime_sec), idle_ms: ms(spec.idle_timeout_sec), ..Limits::default() };
    (limits != Limits::default()).then_some(limits)
}

#[cfg(test)]
mod tests;
