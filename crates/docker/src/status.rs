//! From the engine's inspect answer to what the loops see. Pure. Must never guess an exit code or a time.

use crate::failure::words;
use bollard::models::{ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, HostConfig};
use custody_contracts::canonical::digest;
use custody_contracts::ids::UnixMillis;
use custody_ports::containers::{BoxError, BoxSet, BoxState, BoxStatus};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// One container of ours, as of now.
///
/// # Errors
/// [`BoxError::Unavailable`] when the answer lacks what every container has: it is not the engine we know.
pub(crate) fn status(answer: ContainerInspectResponse) -> Result<BoxStatus, BoxError> {
    let (Some(id), Some(name), Some(state)) = (answer.id, answer.name, answer.state) else {
        return Err(BoxError::Unavailable("its inspect answer has no id, name or state".to_owned()));
    };
    let name = name.trim_start_matches('/').to_owned();
    let created_at = answer
        .created
        .as_deref()
        .and_then(millis)
        .ok_or_else(|| BoxError::Unavailable(format!("its inspect answer for {name} has no time of creation")))?;
    let finished_at = state.finished_at.as_deref().and_then(millis);
    // The engine notes the start when the process already runs: a short life can end "before" it (seen: 1 ms, 20.10).
    let started_at = state.started_at.as_deref().and_then(millis).map(|at| finished_at.map_or(at, |end| at.min(end)));
    let pid = state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
    Ok(BoxStatus {
        id,
        set: answer.host_config.as_ref().map(read_back),
        pid,
        labels: answer.config.and_then(|config| config.labels).unwrap_or_default().into_iter().collect(),
        started_at,
        finished_at,
        state: box_state(&state, &name)?,
        created_at,
        name,
    })
}

/// The options of the record. An engine that does not say a limit has none: 0.
fn read_back(host: &HostConfig) -> BoxSet {
    let number = |value: Option<i64>| value.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    let seccomp = host.security_opt.iter().flatten().find_map(|option| option.strip_prefix("seccomp="));
    BoxSet {
        seccomp_digest: digest(seccomp.unwrap_or_default().as_bytes()),
        runtime: host.runtime.clone().unwrap_or_default(),
        memory_bytes: number(host.memory),
        nano_cpus: number(host.nano_cpus),
        pids: number(host.pids_limit),
    }
}

fn box_state(state: &ContainerState, name: &str) -> Result<BoxState, BoxError> {
    use ContainerStateStatusEnum as Engine;
    match state.status {
        Some(Engine::CREATED) => Ok(BoxState::Created),
        Some(Engine::RUNNING | Engine::PAUSED | Engine::RESTARTING | Engine::STOPPING) => Ok(BoxState::Running),
        // `removing` and `dead` are seen when a removal did not come to its end: what ran has ended.
        Some(Engine::EXITED | Engine::REMOVING | Engine::DEAD) => {
            let code = state
                .exit_code
                .ok_or_else(|| BoxError::Unavailable(format!("its inspect answer for {name} has no exit code")))?;
            let error = state.error.as_deref().filter(|text| !text.is_empty()).map(words);
            Ok(BoxState::Exited { code, oom: state.oom_killed == Some(true), error })
        }
        Some(Engine::EMPTY) | None => Err(BoxError::Unavailable(format!("its inspect answer for {name} has no state"))),
    }
}

/// RFC 3339 with any fraction and offset, cut to milliseconds. The engine's zero time `0001-01-01T00:00:00Z` means
/// "not yet" and, like every time before 1970, is none.
fn millis(text: &str) -> Option<UnixMillis> {
    let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
    u64::try_from(nanos.div_euclid(1_000_000)).ok().map(UnixMillis)
}

#[cfg(test)]
mod tests;
