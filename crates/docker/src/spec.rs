//! From what a box is to what the engine is asked for. Pure. The one place where an option of a container is set:
//! everything a box may not do is written here, also where the engine's default says the same today, so that
//! [`crate::verify`] can compare it. Must never add a way out of the box, and never leave a limit to the engine.
//!
//! Not given, because the engine's API has no field for it: `nosuid` and `nodev` on a bind mount. No-new-privileges,
//! the empty capability sets and the device list of the control group hold in their place.

use crate::seccomp;
use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount,
    MountBindOptions, MountBindOptionsPropagationEnum, MountType, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};
use custody_ports::containers::{BoxMount, BoxSpec};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// User and group of everything in a box. Nobody on the host has this id.
pub const USER: &str = "65532:65532";
/// Scratch of every box, that no file can be executed from.
pub const TMP: &str = "/tmp";
/// Home of every box, the box's own, that no file can be executed from.
pub const HOME: &str = "/home/agent";
const TMP_RIGHTS: &str = "mode=1777";
const HOME_RIGHTS: &str = "mode=0700,uid=65532,gid=65532";
/// An eighth of the engine's default of 1,024: a box gives way to everything else on the machine.
const CPU_SHARES: i64 = 128;
/// The kernel ends a box before anything else on the machine.
const OOM_SCORE_ADJ: i64 = 500;
/// Open files, per process.
const FILES_MAX: i64 = 1_024;
/// Bytes of one file.
const FILE_BYTES_MAX: i64 = 1 << 30;
/// Processes of the user id. The kernel counts them over all boxes together, since all have one id, so this is only
/// a floor under the machine; the limit of one box is `pids`.
const USER_PROCESSES_MAX: i64 = 4_096;

/// What does not depend on the dispatch: the machine's part of a box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Folders of the host below which everything lies that a box may mount. Empty: nothing can be mounted.
    pub mount_roots: Vec<PathBuf>,
    /// The runtime of boxes that name none, for example `crun`. `None` is the engine's own.
    pub runtime: Option<String>,
}

/// The exact request for one box. Two equal specs give equal requests.
pub fn create_body(spec: &BoxSpec, profile: &Profile) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        hostname: Some("box".to_owned()),
        user: Some(USER.to_owned()),
        env: Some(spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(spec.labels.clone().into_iter().collect()),
        // Not only the mode `none` below: without this the engine still builds a network sandbox for every start.
        network_disabled: Some(true),
        attach_stdin: Some(false),
        attach_stdout: Some(false),
        attach_stderr: Some(false),
        open_stdin: Some(false),
        tty: Some(false),
        stop_signal: Some("SIGTERM".to_owned()),
        // A health check is a process that the engine starts inside, with every interval.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        host_config: Some(host_config(spec, profile)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(spec: &BoxSpec, profile: &Profile) -> HostConfig {
    HostConfig {
        // Who and what it may be.
        privileged: Some(false),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(Vec::new()),
        group_add: Some(Vec::new()),
        security_opt: Some(vec!["no-new-privileges".to_owned(), format!("seccomp={}", seccomp::compact(spec.sockets))]),
        // What it shares with the host: nothing but the mounts.
        network_mode: Some("none".to_owned()),
        ipc_mode: Some("none".to_owned()),
        pid_mode: Some(String::new()),
        uts_mode: Some(String::new()),
        userns_mode: Some(String::new()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        publish_all_ports: Some(false),
        devices: Some(Vec::new()),
        binds: Some(Vec::new()),
        volumes_from: Some(Vec::new()),
        readonly_rootfs: Some(true),
        tmpfs: Some(texts(&[
            (TMP, &scratch(spec.tmp_bytes, TMP_RIGHTS)),
            (HOME, &scratch(spec.home_bytes, HOME_RIGHTS)),
        ])),
        mounts: Some(spec.mounts.iter().map(|one| mount(one, spec.slots)).collect()),
        // How much it may use.
        memory: Some(signed(spec.memory_bytes)),
        memory_swap: Some(signed(spec.memory_bytes)),
        oom_score_adj: Some(OOM_SCORE_ADJ),
        oom_kill_disable: Some(false),
        pids_limit: Some(signed(spec.pids)),
        nano_cpus: Some(signed(spec.nano_cpus)),
        cpu_shares: Some(CPU_SHARES),
        ulimits: Some(ulimits()),
        // How it lives. The worker of the image is PID 1 and reaps; the runtime removes, so the exit code stays.
        init: Some(false),
        auto_remove: Some(false),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: Some(0) }),
        runtime: spec.runtime.clone().or_else(|| profile.runtime.clone()),
        // Nobody reads this log in ordinary work: it is for the diagnosis of a worker that never spoke.
        log_config: Some(HostConfigLogConfig {
            typ: Some("local".to_owned()),
            config: Some(texts(&[("max-size", "1m"), ("max-file", "1"), ("compress", "false")])),
        }),
        ..HostConfig::default()
    }
}

/// The options of a file system in memory. Whole mebibytes are written as such, as the kernel shows them.
fn scratch(bytes: u64, rights: &str) -> String {
    let size = if bytes.is_multiple_of(1 << 20) { format!("{}m", bytes >> 20) } else { bytes.to_string() };
    format!("rw,noexec,nosuid,nodev,size={size},{rights}")
}

/// How a mount of a box answers to what the host mounts below it later: not at all, or, for the empty slots of a blank
/// box, by taking it in. Nothing ever travels from the box to the host.
pub(crate) fn propagation(slots: bool) -> MountBindOptionsPropagationEnum {
    if slots { MountBindOptionsPropagationEnum::RSLAVE } else { MountBindOptionsPropagationEnum::RPRIVATE }
}

fn mount(mount: &BoxMount, slots: bool) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(mount.source.to_string_lossy().into_owned()),
        target: Some(mount.target.clone()),
        read_only: Some(mount.read_only),
        bind_options: Some(MountBindOptions {
            propagation: Some(propagation(slots)),
            // Nothing that is mounted below the folder on the host comes along, so `read_only` covers all of it.
            non_recursive: Some(true),
            ..MountBindOptions::default()
        }),
        ..Mount::default()
    }
}

fn ulimits() -> Vec<ResourcesUlimits> {
    [("core", 0), ("fsize", FILE_BYTES_MAX), ("nofile", FILES_MAX), ("nproc", USER_PROCESSES_MAX)]
        .into_iter()
        .map(|(name, most)| ResourcesUlimits { name: Some(name.to_owned()), soft: Some(most), hard: Some(most) })
        .collect()
}

fn texts(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The engine's fields are signed. [`crate::check`] has refused what does not fit; here it is the largest, never
/// a negative number, which the engine reads as "no limit".
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The request as JSON with sorted keys, for comparing and for showing. `bollard` keeps maps without an order.
///
/// # Errors
/// Never for a request made here; the type of the underlying writer has an error.
pub fn sorted_json<T: serde::Serialize>(request: &T) -> Result<serde_json::Value, serde_json::Error> {
    serde_json::to_value(request).map(sorted)
}

fn sorted(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(map) => {
            let ordered: BTreeMap<String, serde_json::Value> = map.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            ordered.into_iter().collect()
        }
        serde_json::Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}

#[cfg(test)]
pub(crate) mod tests;
