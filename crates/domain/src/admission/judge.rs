//! The judgement: launcher, signature, clock, person, runner. Deny is the absence of a permit.

use super::{Asked, CLOCK_SKEW_MS_MAX, Refusal};
use crate::grant::{Book, GrantPermit};
use crate::launcher::LauncherState;
use crate::workspace::{WorkspaceState, may_mount};
use custody_contracts::events::{
    DispatchAdmitted, GrantCheck, GrantUse, LaunchRef, RunnerRef, SignatureCheck, SignatureRule,
};
use custody_contracts::ids::{DispatchId, LauncherId, SessionId, UnixMillis};
use custody_contracts::unit::{Mode, Start, WorkspaceMount};
use custody_trust::launch::{LaunchSignature, check};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// A runner as this installation offers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerEntry {
    /// What the record will pin.
    pub runner: RunnerRef,
}

/// The workspaces that a launch may mount.
#[derive(Debug, Clone, Copy)]
pub enum Mounts<'a> {
    /// Those that are registered, by id.
    Registered(&'a BTreeMap<String, WorkspaceState>),
    /// A log from before workspaces were registered: anything was mounted then, but nothing proposed.
    Before,
}

/// The grants that a launch may be made under.
#[derive(Debug, Clone, Copy)]
pub enum Grants<'a> {
    /// Those of the ledger, at this moment.
    Given(&'a Book, UnixMillis),
    /// A log from before its first grant: none was checked.
    Before,
}

/// What this installation offers, and what a launch may ask of it.
#[derive(Debug, Clone, Copy)]
pub struct Installed<'a> {
    /// Workspaces.
    pub mounts: Mounts<'a>,
    /// Grants.
    pub grants: Grants<'a>,
    /// Tools, by name.
    pub tools: &'a BTreeSet<String>,
    /// The runner that is asked for, when there is one of that name.
    pub runner: Option<&'a RunnerEntry>,
}

/// Proof that a launch was judged and found good. Only [`judge`] makes one; nothing is admitted without it.
#[derive(Debug)]
pub struct Permit {
    admitted: DispatchAdmitted,
}

impl Permit {
    /// The event that this permit stands for.
    pub fn into_event(self) -> DispatchAdmitted {
        self.admitted
    }
}

/// Judges one launch.
///
/// # Errors
/// The [`Refusal`] of the first rule that says no, in this order: launcher, signature, clock, person, tools, workspaces,
/// grant, runner.
pub fn judge(
    dispatch: DispatchId,
    launch: LaunchRef,
    stored_at: UnixMillis,
    asked: Asked,
    launcher: &LauncherState,
    installed: Installed<'_>,
) -> Result<Permit, Refusal> {
    let id = launch.launcher.clone();
    let (signature, subjects) = check_sender(&id, &asked.event, launcher)?;
    check_clock(asked.time_ms, stored_at)?;
    check_person(&id, &asked, subjects)?;
    check_tools(&asked.unit.tools, installed.tools)?;
    check_mounts(&asked, installed.mounts)?;
    let granted = check_grant(&asked, &dispatch, launcher, installed.grants)?;
    let Some(entry) = installed.runner else {
        return Err(Refusal::new(
            "RUNNER_UNKNOWN",
            format!("runner {} is not installed", asked.unit.runner),
            "`custody runner ls` shows what is; `ops/setup` installs custody-agent",
        ));
    };
    let mut unit = asked.unit;
    unit.identity.token = None;
    let session = session_of(&unit.start, &dispatch)?;
    let grant = match granted {
        None => GrantCheck::NotChecked,
        Some(permit) => {
            let used = GrantUse { id: permit.id().clone(), seq: permit.seq() };
            unit.limits = permit.into_limits();
            GrantCheck::Checked(used)
        }
    };
    Ok(Permit {
        admitted: DispatchAdmitted {
            dispatch,
            session,
            unit,
            launch,
            runner: entry.runner.clone(),
            grant,
            signature,
            sealed: None,
        },
    })
}

/// The grant that covers what is asked for; `None` in a log from before grants.
fn check_grant(
    asked: &Asked,
    dispatch: &DispatchId,
    launcher: &LauncherState,
    grants: Grants<'_>,
) -> Result<Option<GrantPermit>, Refusal> {
    let Grants::Given(book, now) = grants else { return Ok(None) };
    let key = launcher.registered().map_or("", |registered| registered.public_key.as_str());
    book.cover(&asked.unit, key, dispatch.as_str(), now)
        .map(Some)
        .map_err(|short| Refusal::new(short.code, short.detail, how_to_be_granted(asked)))
}

/// The command that gives what is asked for.
fn how_to_be_granted(asked: &Asked) -> String {
    let (unit, named) = (&asked.unit, asked.unit.identity.launcher.as_str());
    let (kind, id) = named.split_once(':').unwrap_or(("user", named));
    let launcher = if kind == "user" { id } else { named };
    let mut words =
        vec![format!("{} gives it: custody grant issue --as {}", unit.identity.subject, unit.identity.subject)];
    words.push(format!("--launcher {launcher}"));
    words.extend(unit.workspaces.iter().map(|w| format!("--workspace {}:{}", w.id, w.mode.as_str())));
    words.extend(unit.tools.iter().map(|tool| format!("--tool {tool}")));
    let trigger = serde_json::to_value(unit.trigger).ok();
    words.push(format!("--trigger {}", trigger.as_ref().and_then(Value::as_str).unwrap_or("message")));
    words.push("--expires 30d".to_owned());
    words.join(" ").chars().take(2_000).collect()
}

fn check_tools(asked: &[String], offered: &BTreeSet<String>) -> Result<(), Refusal> {
    let Some(tool) = asked.iter().find(|tool| !offered.contains(*tool)) else { return Ok(()) };
    Err(Refusal::new(
        "TOOL_UNKNOWN",
        format!("tool {tool:?} is not offered by this installation"),
        "leave it out, or name one that `custody tool ls` lists",
    ))
}

fn check_mounts(asked: &Asked, mounts: Mounts<'_>) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    for mount in &asked.unit.workspaces {
        if !seen.insert(mount.id.as_str()) {
            return Err(Refusal::new(
                "WORKSPACE_TWICE",
                format!("workspace {} is named twice", mount.id),
                "name each workspace once, with the mode that is needed",
            ));
        }
        check_mount(asked, mount, mounts)?;
    }
    Ok(())
}

fn check_mount(asked: &Asked, mount: &WorkspaceMount, mounts: Mounts<'_>) -> Result<(), Refusal> {
    match mounts {
        Mounts::Registered(book) => {
            let subject = &asked.unit.identity.subject;
            may_mount(book.get(mount.id.as_str()), subject, mount)
                .map_err(|no| Refusal::new(no.code, no.detail, no.hint))
        }
        Mounts::Before if mount.mode == Mode::Propose => Err(Refusal::new(
            "MODE_UNAVAILABLE",
            format!("workspace {} is asked for as propose, which this version does not offer yet", mount.id),
            "ask for ro or rw",
        )),
        Mounts::Before => Ok(()),
    }
}

/// Whether a message is its launcher's: registered, enabled, signed as it must. With the persons it may act for.
///
/// # Errors
/// The [`Refusal`] of the first rule that says no.
pub(crate) fn check_sender<'a>(
    id: &LauncherId,
    event: &Map<String, Value>,
    launcher: &'a LauncherState,
) -> Result<(SignatureCheck, &'a [String]), Refusal> {
    let Some(registered) = launcher.registered() else {
        return Err(Refusal::new(
            "LAUNCHER_UNKNOWN",
            format!("launcher {id} is not registered"),
            format!("an operator registers it: custody launcher register {id}"),
        ));
    };
    if let Some(why) = launcher.disabled() {
        return Err(Refusal::new(
            "LAUNCHER_DISABLED",
            format!("launcher {id} is disabled: {why}"),
            format!("an operator registers it again: custody launcher register {id}"),
        ));
    }
    let signature = match (check(event, &registered.public_key), registered.signature) {
        (LaunchSignature::Good, _) => SignatureCheck::Verified,
        (LaunchSignature::Absent, SignatureRule::Optional) => SignatureCheck::Absent,
        (LaunchSignature::Absent, SignatureRule::Required) => {
            return Err(Refusal::new(
                "SIGNATURE_MISSING",
                format!("launcher {id} must sign its messages"),
                "sign with the launcher's key: extensions keyid and signature",
            ));
        }
        (LaunchSignature::Forged, _) => {
            return Err(Refusal::new(
                "SIGNATURE_FORGED",
                format!("the signature is not one of launcher {id}'s key over this message"),
                "sign the canonical event with the registered key, after the last change to it",
            ));
        }
    };
    Ok((signature, &registered.subjects))
}

/// A turn names its session; a new session is named after its first dispatch.
fn session_of(start: &Start, dispatch: &DispatchId) -> Result<SessionId, Refusal> {
    let own;
    let text = match start {
        Start::Session(turn) => turn.reference.as_str(),
        Start::Entrypoint(_) => {
            own = ["s-", dispatch.as_str().strip_prefix("d-").unwrap_or(dispatch.as_str())].concat();
            own.as_str()
        }
    };
    SessionId::parse(text).map_err(|e| {
        Refusal::new("SESSION_UNKNOWN", e.to_string(), "`custody session ls` shows the sessions and their ids")
    })
}

pub(crate) fn check_clock(time_ms: Option<i64>, stored_at: UnixMillis) -> Result<(), Refusal> {
    let Some(time) = time_ms else { return Ok(()) };
    let stored = i64::try_from(stored_at.0).unwrap_or(i64::MAX);
    let skew = time.saturating_sub(stored);
    if skew.saturating_abs() <= CLOCK_SKEW_MS_MAX {
        return Ok(());
    }
    let word = if skew > 0 { "ahead of" } else { "behind" };
    Err(Refusal::new(
        "CLOCK_SKEW",
        format!(
            "the message's time is {} s {word} the server's clock; {} s are the most",
            skew.abs() / 1000,
            CLOCK_SKEW_MS_MAX / 1000
        ),
        "set the launcher's clock, or publish a new message instead of an old one",
    ))
}

fn check_person(id: &LauncherId, asked: &Asked, subjects: &[String]) -> Result<(), Refusal> {
    let subject = asked.unit.identity.subject.as_str();
    if !subjects.iter().any(|s| s == "*" || s == subject) {
        return Err(Refusal::new(
            "SUBJECT_NOT_ALLOWED",
            format!("launcher {id} may not act for {subject}"),
            format!("an operator registers it for that person: custody launcher register {id} --subject {subject}"),
        ));
    }
    let named = asked.unit.identity.launcher.as_str();
    let own = named.split_once(':').map(|(_, own)| own);
    if own != Some(id.as_str()) {
        return Err(Refusal::new(
            "LAUNCHER_MISMATCH",
            format!("the unit names launcher {named:?}, the account boundary says {id}"),
            format!(
                "name user:{id}, schedule:{id} or integration:{id}, or publish on the other launcher's own subject"
            ),
        ));
    }
    Ok(())
}
