//! The judgement: launcher, signature, clock, person, runner. Deny is the absence of a permit.

use super::{Asked, CLOCK_SKEW_MS_MAX, Refusal};
use crate::launcher::LauncherState;
use custody_contracts::events::{DispatchAdmitted, GrantCheck, LaunchRef, RunnerRef, SignatureCheck, SignatureRule};
use custody_contracts::ids::{DispatchId, LauncherId, SessionId, UnixMillis};
use custody_contracts::unit::{Mode, Start};
use custody_trust::launch::{LaunchSignature, check};

/// A runner as this installation offers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerEntry {
    /// What the record will pin.
    pub runner: RunnerRef,
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
/// The [`Refusal`] of the first rule that says no, in this order: launcher, signature, clock, person, tools, runner.
pub fn judge(
    dispatch: DispatchId,
    launch: LaunchRef,
    stored_at: UnixMillis,
    asked: Asked,
    launcher: &LauncherState,
    runner: Option<&RunnerEntry>,
) -> Result<Permit, Refusal> {
    let id = launch.launcher.clone();
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
    let signature = match (check(&asked.event, &registered.public_key), registered.signature) {
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
    check_clock(asked.time_ms, stored_at)?;
    check_person(&id, &asked, &registered.subjects)?;
    if let Some(tool) = asked.unit.tools.first() {
        return Err(Refusal::new(
            "TOOL_UNKNOWN",
            format!("tool {tool:?} is not offered by this installation: no tool gateway is configured"),
            "leave tools empty",
        ));
    }
    if let Some(proposed) = asked.unit.workspaces.iter().find(|w| w.mode == Mode::Propose) {
        return Err(Refusal::new(
            "MODE_UNAVAILABLE",
            format!("workspace {} is asked for as propose, which this version does not offer yet", proposed.id),
            "ask for ro or rw",
        ));
    }
    let Some(entry) = runner else {
        return Err(Refusal::new(
            "RUNNER_UNKNOWN",
            format!("runner {} is not installed", asked.unit.runner),
            "`custody runner ls` shows what is; `ops/setup` installs custody-agent",
        ));
    };
    let mut unit = asked.unit;
    unit.identity.token = None;
    let session = session_of(&unit.start, &dispatch)?;
    Ok(Permit {
        admitted: DispatchAdmitted {
            dispatch,
            session,
            unit,
            launch,
            runner: entry.runner.clone(),
            grant: GrantCheck::NotChecked,
            signature,
        },
    })
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

fn check_clock(time_ms: Option<i64>, stored_at: UnixMillis) -> Result<(), Refusal> {
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
