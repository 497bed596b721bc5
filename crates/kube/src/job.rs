//! From what a box is to the Job that Kubernetes is asked for. Pure: two equal boxes at one moment give equal Jobs.
//!
//! A Pod's containers share one network namespace, and a NetworkPolicy speaks of Pods, not of containers. The box needs
//! the gateway's socket, so a second container, the *link*, holds the connection to the gateway and offers the socket in
//! an `emptyDir` that both see. The policy must let the link out to the gateway, and so on its own it would let the
//! agent out there too. What closes that is the agent's seccomp profile, the same one that Docker's boxes have: it
//! allows sockets of the family `AF_UNIX` alone, so the agent's container has a network namespace and no way to open a
//! socket in it. A runner that asks for the loopback profile is refused here for that reason. The link runs under another user, has the token that names this dispatch, and speaks to one address.
//!
//! What the API has no field for, and what holds instead: the number of processes (the node's `podPidsLimit`; the chart
//! says so), `noexec` on an `emptyDir` (no-new-privileges and the empty capability sets), limits on open files and file
//! sizes (memory, the sizes of the volumes, ephemeral storage). Must never leave a limit that does have a field to the
//! cluster.

use custody_contracts::ids::UnixMillis;
use custody_contracts::isolation::Sockets;
use custody_ports::containers::{BoxMount, BoxSpec};
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvVar, ExecAction, PersistentVolumeClaimVolumeSource, PodDNSConfig,
    PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, Secret,
    SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// User and group of everything in a box.
pub const BOX_USER: i64 = 65_532;
/// User and group of the link.
pub const LINK_USER: i64 = 65_531;
/// The label that every Pod of a box has, for NetworkPolicies to select.
pub const LABEL_BOX: &str = "custody.box";
/// The container of the agent.
pub const AGENT: &str = "agent";
/// The container of the link.
pub const LINK: &str = "link";
/// Where the gateway's socket is, in both containers.
const GATEWAY: &str = "/run/gw";
/// What its image must contain: the binary `custody`.
const LINK_PROGRAM: &str = "/usr/bin/custody";
/// A finished Job that nobody removed is removed by the cluster after this long.
const TTL_SECS: i32 = 3_600;
/// Seconds between TERM and KILL when nobody says otherwise.
const GRACE_SECS: i64 = 10;
/// Longest name of a Job whose Pods' names still fit into a label.
const NAME_MAX: usize = 52;

/// How a box reaches the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSettings {
    /// The image of `custody`, by digest.
    pub image: String,
    /// `host:port` of the gateway's link listener.
    pub connect: String,
    /// The name in its certificate.
    pub server_name: String,
    /// The Secret with `ca.crt` that signed it.
    pub ca_secret: String,
}

/// What an operator decides about the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeSettings {
    /// Where boxes run; nothing else should.
    pub namespace: String,
    /// Image id of a runner's document to a reference that the cluster can pull, by digest.
    pub images: BTreeMap<String, String>,
    /// The service account of boxes: one that may do nothing.
    pub service_account: String,
    /// The node's seccomp profile, below the kubelet's `seccomp` folder.
    pub seccomp_profile: String,
    /// The NetworkPolicy that must be there before any box is made.
    pub network_policy: String,
    /// The volume claim that the runtime's state folder lies on.
    pub data_claim: String,
    /// Where that claim is mounted in the runtime's own Pod.
    pub data_root: PathBuf,
    /// A runtime class such as gVisor's, when there is one.
    pub runtime_class: Option<String>,
    /// Whether Pods get a user namespace of their own.
    pub user_namespaces: bool,
    /// The link.
    pub link: LinkSettings,
}

/// Why no Job can be made of a box.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// The name is not one that Kubernetes takes.
    #[error("{0:?} is not 1 to 52 of [a-z0-9-]: Kubernetes takes no such name")]
    Name(String),
    /// No reference is configured for this image.
    #[error("no reference is configured for image {0}; add it to [runtime.kubernetes.images]")]
    Image(String),
    /// The reference has no digest.
    #[error("image reference {0:?} has no digest: a box runs exactly the image that was admitted")]
    ImageByTag(String),
    /// Its seccomp profile would let it speak TCP, and in a Pod that is the network that the link is in.
    #[error("a box that may make TCP sockets cannot run in a Pod: the loopback device there is not its own")]
    Loopback,
    /// Slots are filled by mounts on the box's own machine.
    #[error("a blank box with slots cannot run in a Pod")]
    Slots,
    /// Something outside the shared volume would be mounted.
    #[error("{0} does not lie on the volume that boxes share with the runtime")]
    Mount(String),
}

/// The Job of a box, suspended: nothing runs before it is started. `connect` is the gateway's address as resolved now:
/// a box can resolve no name.
///
/// # Errors
/// [`JobError`].
pub fn job(spec: &BoxSpec, settings: &KubeSettings, connect: &str, now: UnixMillis) -> Result<Job, JobError> {
    check_name(&spec.name)?;
    if spec.sockets != Sockets::Unix {
        return Err(JobError::Loopback);
    }
    if spec.slots {
        return Err(JobError::Slots);
    }
    let image = settings.images.get(&spec.image).ok_or_else(|| JobError::Image(spec.image.clone()))?;
    if !image.contains("@sha256:") {
        return Err(JobError::ImageByTag(image.clone()));
    }
    let labels = labels(spec);
    let pod = PodSpec {
        automount_service_account_token: Some(false),
        service_account_name: Some(settings.service_account.clone()),
        enable_service_links: Some(false),
        host_network: Some(false),
        host_pid: Some(false),
        host_ipc: Some(false),
        host_users: settings.user_namespaces.then_some(false),
        share_process_namespace: Some(false),
        restart_policy: Some("Never".into()),
        runtime_class_name: spec.runtime.clone().or_else(|| settings.runtime_class.clone()),
        termination_grace_period_seconds: Some(GRACE_SECS),
        // No name is resolved in a box: the link is given an address.
        dns_policy: Some("None".into()),
        dns_config: Some(PodDNSConfig { nameservers: Some(vec!["127.0.0.1".into()]), ..PodDNSConfig::default() }),
        hostname: Some("box".into()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(BOX_USER),
            run_as_group: Some(BOX_USER),
            seccomp_profile: Some(seccomp("RuntimeDefault", None)),
            ..PodSecurityContext::default()
        }),
        // A sidecar in the cluster's own sense: it starts first, and the Job is done when the agent is.
        init_containers: Some(vec![link(settings, connect)]),
        containers: vec![agent(spec, settings, image)?],
        volumes: Some(volumes(spec, settings)),
        ..PodSpec::default()
    };
    Ok(Job {
        metadata: ObjectMeta {
            name: Some(spec.name.clone()),
            namespace: Some(settings.namespace.clone()),
            labels: Some(labels.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            suspend: Some(true),
            parallelism: Some(1),
            completions: Some(1),
            // One claim, one life: a box that failed is never run again.
            backoff_limit: Some(0),
            pod_replacement_policy: Some("Failed".into()),
            active_deadline_seconds: Some(deadline_secs(spec, now)),
            ttl_seconds_after_finished: Some(TTL_SECS),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(pod),
            },
            ..JobSpec::default()
        }),
        ..Job::default()
    })
}

/// The Secret with the token of one box's link, owned by its Job, so that it goes with it.
pub fn secret(name: &str, namespace: &str, job_uid: &str, token: &str) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(BTreeMap::from([(LABEL_BOX.to_owned(), "true".to_owned())])),
            owner_references: Some(vec![OwnerReference {
                api_version: "batch/v1".into(),
                kind: "Job".into(),
                name: name.to_owned(),
                uid: job_uid.to_owned(),
                block_owner_deletion: Some(false),
                controller: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        string_data: Some(BTreeMap::from([("token".to_owned(), token.to_owned())])),
        type_: Some("Opaque".into()),
        ..Secret::default()
    }
}

fn check_name(name: &str) -> Result<(), JobError> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let edges = name.bytes().next().is_some_and(|b| b != b'-') && !name.ends_with('-');
    if !edges || name.len() > NAME_MAX || !name.bytes().all(good) {
        return Err(JobError::Name(name.to_owned()));
    }
    Ok(())
}

fn labels(spec: &BoxSpec) -> BTreeMap<String, String> {
    let mut labels = spec.labels.clone();
    labels.insert(LABEL_BOX.into(), "true".into());
    labels
}

/// Seconds until the deadline that the labels name, rounded up and with five to spare: the runtime's own stop comes
/// first, this one holds when there is no runtime.
fn deadline_secs(spec: &BoxSpec, now: UnixMillis) -> i64 {
    let at = spec.labels.get("custody.deadline").and_then(|t| t.parse::<u64>().ok());
    let left = at.map_or(86_400_000, |at| at.saturating_sub(now.0));
    i64::try_from(left.div_ceil(1_000)).unwrap_or(86_400).saturating_add(5)
}

fn seccomp(kind: &str, profile: Option<&str>) -> SeccompProfile {
    SeccompProfile { type_: kind.into(), localhost_profile: profile.map(str::to_owned) }
}

fn security(user: i64, seccomp: SeccompProfile) -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".into()]) }),
        privileged: Some(false),
        proc_mount: Some("Default".into()),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        run_as_user: Some(user),
        run_as_group: Some(user),
        seccomp_profile: Some(seccomp),
        ..SecurityContext::default()
    }
}

fn agent(spec: &BoxSpec, settings: &KubeSettings, image: &str) -> Result<Container, JobError> {
    let mut mounts = vec![mount("tmp", "/tmp", false, None), mount("home", "/home/agent", false, None)];
    for one in &spec.mounts {
        mounts.push(match one.target.as_str() {
            GATEWAY => mount("gw", GATEWAY, true, None),
            target => mount("data", target, one.read_only, Some(sub_path(one, settings)?)),
        });
    }
    let env = spec.env.iter().map(|(name, value)| EnvVar {
        name: name.clone(),
        value: Some(value.clone()),
        value_from: None,
    });
    Ok(Container {
        name: AGENT.into(),
        image: Some(image.to_owned()),
        image_pull_policy: Some("IfNotPresent".into()),
        env: Some(env.collect()),
        resources: Some(resources(spec)),
        security_context: Some(security(BOX_USER, seccomp("Localhost", Some(&settings.seccomp_profile)))),
        stdin: Some(false),
        tty: Some(false),
        volume_mounts: Some(mounts),
        ..Container::default()
    })
}

fn link(settings: &KubeSettings, connect: &str) -> Container {
    let socket = [GATEWAY, "/gw.sock"].concat();
    let text = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let quantities = |cpu: &str, memory: &str| {
        BTreeMap::from([("cpu".to_owned(), Quantity(cpu.into())), ("memory".to_owned(), Quantity(memory.into()))])
    };
    Container {
        name: LINK.into(),
        image: Some(settings.link.image.clone()),
        image_pull_policy: Some("IfNotPresent".into()),
        restart_policy: Some("Always".into()),
        command: Some(text(&[LINK_PROGRAM])),
        args: Some(text(&[
            "link",
            "--listen",
            &socket,
            "--connect",
            connect,
            "--server-name",
            &settings.link.server_name,
            "--ca",
            "/run/link-ca/ca.crt",
            "--token-file",
            "/run/link/token",
        ])),
        // The agent is not started before its socket answers.
        startup_probe: Some(Probe {
            exec: Some(ExecAction { command: Some(text(&[LINK_PROGRAM, "link", "--check", &socket])) }),
            period_seconds: Some(1),
            failure_threshold: Some(30),
            ..Probe::default()
        }),
        resources: Some(ResourceRequirements {
            limits: Some(quantities("200m", "64Mi")),
            requests: Some(quantities("10m", "64Mi")),
            ..ResourceRequirements::default()
        }),
        security_context: Some(security(LINK_USER, seccomp("RuntimeDefault", None))),
        volume_mounts: Some(vec![
            mount("gw", GATEWAY, false, None),
            mount("link", "/run/link", true, None),
            mount("link-ca", "/run/link-ca", true, None),
        ]),
        ..Container::default()
    }
}

fn mount(name: &str, path: &str, read_only: bool, sub_path: Option<String>) -> VolumeMount {
    VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only: Some(read_only),
        sub_path,
        mount_propagation: Some("None".into()),
        ..VolumeMount::default()
    }
}

/// Where a folder of the runtime's lies on the volume that it shares with its boxes.
fn sub_path(mount: &BoxMount, settings: &KubeSettings) -> Result<String, JobError> {
    let outside = || JobError::Mount(mount.source.display().to_string());
    let inside = mount.source.strip_prefix(&settings.data_root).map_err(|_| outside())?;
    let climbs = inside.components().any(|part| !matches!(part, std::path::Component::Normal(_)));
    let text = inside.to_str().filter(|text| !text.is_empty() && !climbs).ok_or_else(outside)?;
    Ok(text.to_owned())
}

fn resources(spec: &BoxSpec) -> ResourceRequirements {
    // Quantities have no smaller unit of a processor than a thousandth.
    let milli = (spec.nano_cpus / 1_000_000).max(1);
    let memory = Quantity(spec.memory_bytes.to_string());
    let limits = BTreeMap::from([
        ("cpu".to_owned(), Quantity(format!("{milli}m"))),
        ("memory".to_owned(), memory.clone()),
        ("ephemeral-storage".to_owned(), Quantity("64Mi".into())),
    ]);
    // An eighth of its ceiling, as with Docker's shares: a box gives way to everything else.
    let requests = BTreeMap::from([
        ("cpu".to_owned(), Quantity(format!("{}m", (milli / 8).max(10).min(milli)))),
        ("memory".to_owned(), memory),
        ("ephemeral-storage".to_owned(), Quantity("64Mi".into())),
    ]);
    ResourceRequirements { limits: Some(limits), requests: Some(requests), ..ResourceRequirements::default() }
}

/// A quantity, in mebibytes where it is a whole number of them.
fn mebibytes(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 20) { format!("{}Mi", bytes >> 20) } else { bytes.to_string() }
}

fn volumes(spec: &BoxSpec, settings: &KubeSettings) -> Vec<Volume> {
    let scratch = |name: &str, size: &str| Volume {
        name: name.into(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".into()),
            size_limit: Some(Quantity(size.into())),
        }),
        ..Volume::default()
    };
    let secret = |name: &str, secret: &str, items: &str, mode: i32| Volume {
        name: name.into(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            items: Some(vec![k8s_openapi::api::core::v1::KeyToPath {
                key: items.into(),
                path: items.into(),
                mode: Some(mode),
            }]),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    vec![
        scratch("tmp", &mebibytes(spec.tmp_bytes)),
        scratch("home", &mebibytes(spec.home_bytes)),
        scratch("gw", "1Mi"),
        secret("link", &spec.name, "token", 0o444),
        secret("link-ca", &settings.link.ca_secret, "ca.crt", 0o444),
        Volume {
            name: "data".into(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: settings.data_claim.clone(),
                read_only: None,
            }),
            ..Volume::default()
        },
    ]
}

#[cfg(test)]
mod tests;
