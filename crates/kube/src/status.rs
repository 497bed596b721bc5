//! From what the cluster says of a Job and its Pod to what the runtime asks of a box. Pure. Must never call a box ended
//! because the cluster said nothing.

use crate::job::AGENT;
use custody_contracts::ids::UnixMillis;
use custody_ports::containers::{BoxState, BoxStatus};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Where an exit code is kept once its Pod is gone: an annotation of the Job.
pub const EXIT_CODE: &str = "custody.exit-code";
/// Whether memory ended it.
pub const EXIT_OOM: &str = "custody.exit-oom";
/// Exit code of an end that the cluster keeps none of, as a shell says of a process that was killed.
const KILLED: i64 = 137;

/// Reasons for waiting that do not pass by themselves. Source: kubelet, `pkg/kubelet/images` and `kuberuntime`, 1.34.
const STUCK: [&str; 8] = [
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
];

fn millis(time: Option<&Time>) -> Option<UnixMillis> {
    time.and_then(|t| u64::try_from(t.0.as_millisecond()).ok()).map(UnixMillis)
}

/// The state of one container of a Pod.
fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerState> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|s| s.name == name)?.state.as_ref()
}

/// What a box is, from its Job and its Pod, when there is one.
pub fn status(job: &Job, pod: Option<&Pod>) -> BoxStatus {
    let meta = &job.metadata;
    let agent = pod.and_then(|pod| container(pod, AGENT));
    let running = agent.and_then(|s| s.running.as_ref());
    let ended = agent.and_then(|s| s.terminated.as_ref());
    let started_at = running.and_then(|r| r.started_at.as_ref()).or_else(|| ended.and_then(|t| t.started_at.as_ref()));
    let finished = ended.and_then(|t| t.finished_at.as_ref()).or_else(|| failed_at(job));
    let state = state(job, pod);
    let finished_at = if matches!(state, BoxState::Exited { .. }) { millis(finished) } else { None };
    BoxStatus {
        id: meta.uid.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        labels: meta.labels.clone().unwrap_or_default(),
        state,
        created_at: millis(meta.creation_timestamp.as_ref()).unwrap_or_default(),
        started_at: millis(started_at),
        finished_at,
        // The API shows what was asked for, not what a node set; and a Pod's processes are another machine's.
        set: None,
        pid: None,
    }
}

fn state(job: &Job, pod: Option<&Pod>) -> BoxState {
    if let Some(ended) = pod.and_then(|pod| container(pod, AGENT)).and_then(|s| s.terminated.as_ref()) {
        let reason = ended.reason.as_deref().unwrap_or_default();
        let oom = reason == "OOMKilled";
        let error = (!matches!(reason, "" | "Completed" | "Error" | "OOMKilled")).then(|| reason.to_owned());
        return BoxState::Exited { code: ended.exit_code.into(), oom, error };
    }
    let kept = |key: &str| job.metadata.annotations.as_ref().and_then(|a| a.get(key)).cloned();
    if let Some(code) = kept(EXIT_CODE).and_then(|text| text.parse().ok()) {
        return BoxState::Exited { code, oom: kept(EXIT_OOM).as_deref() == Some("true"), error: None };
    }
    if let Some((reason, message)) = condition(job, "Failed") {
        let error = format!("{reason}: {message}; the cluster keeps no exit code of a Pod that is gone");
        return BoxState::Exited { code: KILLED, oom: false, error: Some(error.chars().take(500).collect()) };
    }
    if condition(job, "Complete").is_some() {
        return BoxState::Exited { code: 0, oom: false, error: None };
    }
    let suspended = job.spec.as_ref().and_then(|s| s.suspend).unwrap_or_default();
    if suspended && pod.is_none() { BoxState::Created } else { BoxState::Running }
}

/// Reason and message of a condition of the Job that is true.
fn condition(job: &Job, kind: &str) -> Option<(String, String)> {
    let all = job.status.as_ref()?.conditions.as_ref()?;
    let one = all.iter().find(|c| c.type_ == kind && c.status == "True")?;
    Some((one.reason.clone().unwrap_or_default(), one.message.clone().unwrap_or_default()))
}

fn failed_at(job: &Job) -> Option<&Time> {
    let all = job.status.as_ref()?.conditions.as_ref()?;
    let ended = |c: &&k8s_openapi::api::batch::v1::JobCondition| c.status == "True" && c.type_ != "Suspended";
    all.iter().find(ended)?.last_transition_time.as_ref()
}

/// Whether the agent's process has begun, or what keeps it from it for good.
pub fn begun(pod: &Pod) -> Result<bool, String> {
    let status = pod.status.as_ref();
    let all = status.into_iter().flat_map(|s| s.container_statuses.iter().chain(&s.init_container_statuses).flatten());
    for one in all {
        let waiting = one.state.as_ref().and_then(|s| s.waiting.as_ref());
        if let Some(reason) = waiting.and_then(|w| w.reason.as_deref()).filter(|r| STUCK.contains(r)) {
            let message = waiting.and_then(|w| w.message.as_deref()).unwrap_or_default();
            return Err(format!("container {}: {reason}: {message}", one.name).chars().take(500).collect());
        }
    }
    let agent = container(pod, AGENT);
    Ok(agent.is_some_and(|s| s.running.is_some() || s.terminated.is_some()))
}

#[cfg(test)]
mod tests;
