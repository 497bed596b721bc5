//! Every control of the Job, one by one; the whole of it as a golden file and against the API's published schema.

use super::*;
use rstest::rstest;
use serde_json::{Value, json};

/// 2026-11-22T21:00:00Z.
pub(crate) const NOW: UnixMillis = UnixMillis(1_795_381_200_000);

/// A box as the runtime asks for one.
pub(crate) fn sample() -> BoxSpec {
    BoxSpec {
        name: "custody-d-0123456789abcdefghij".into(),
        image: format!("sha256:{}", "0123456789abcdef".repeat(4)),
        labels: [
            ("custody.instance", "i-0123456789ab"),
            ("custody.dispatch", "d-0123456789abcdefghij"),
            ("custody.attempt", "1"),
            ("custody.deadline", "1795381260000"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into(),
        env: [("CUSTODY_LOG", "info")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        mounts: vec![
            BoxMount { source: "/var/lib/custody/runs/d-1/gw".into(), target: "/run/gw".into(), read_only: true },
            BoxMount {
                source: "/var/lib/custody/runs/d-1/session".into(),
                target: "/session".into(),
                read_only: false,
            },
            BoxMount {
                source: "/var/lib/custody/workspaces/notes".into(),
                target: "/workspace".into(),
                read_only: true,
            },
        ],
        memory_bytes: 512 << 20,
        nano_cpus: 500_000_000,
        pids: 128,
        tmp_bytes: custody_ports::containers::SCRATCH_BYTES,
        home_bytes: custody_ports::containers::SCRATCH_BYTES,
        sockets: Sockets::Unix,
        runtime: None,
        slots: false,
    }
}

/// A cluster as an operator describes one.
pub(crate) fn settings() -> KubeSettings {
    KubeSettings {
        namespace: "custody-boxes".into(),
        images: [(sample().image, format!("registry.example.org/custody/agent@sha256:{}", "ab".repeat(32)))].into(),
        service_account: "custody-box".into(),
        seccomp_profile: "custody/box.json".into(),
        network_policy: "custody-boxes".into(),
        data_claim: "custody-data".into(),
        data_root: "/var/lib/custody".into(),
        runtime_class: None,
        user_namespaces: false,
        link: LinkSettings {
            image: format!("registry.example.org/custody/custody@sha256:{}", "cd".repeat(32)),
            connect: "custody-gateway:7443".into(),
            server_name: "custody-gateway".into(),
            ca_secret: "custody-link-ca".into(),
        },
    }
}

fn made() -> Value {
    serde_json::to_value(job(&sample(), &settings(), "10.0.0.7:7443", NOW).unwrap()).unwrap()
}

const AGENT_AT: &str = "/spec/template/spec/containers/0";
const LINK_AT: &str = "/spec/template/spec/initContainers/0";

#[rstest]
#[case::nothing_runs_yet("/spec/suspend", json!(true))]
#[case::never_again("/spec/backoffLimit", json!(0))]
#[case::one_pod("/spec/parallelism", json!(1))]
#[case::no_second_while_the_first_ends("/spec/podReplacementPolicy", json!("Failed"))]
#[case::deadline("/spec/activeDeadlineSeconds", json!(65))]
#[case::cleaned_up("/spec/ttlSecondsAfterFinished", json!(3600))]
#[case::selected_by_policies("/spec/template/metadata/labels/custody.box", json!("true"))]
#[case::no_api_token("/spec/template/spec/automountServiceAccountToken", json!(false))]
#[case::no_service_addresses("/spec/template/spec/enableServiceLinks", json!(false))]
#[case::own_network("/spec/template/spec/hostNetwork", json!(false))]
#[case::own_processes("/spec/template/spec/hostPID", json!(false))]
#[case::own_ipc("/spec/template/spec/hostIPC", json!(false))]
#[case::processes_apart("/spec/template/spec/shareProcessNamespace", json!(false))]
#[case::never_restarted("/spec/template/spec/restartPolicy", json!("Never"))]
#[case::no_names("/spec/template/spec/dnsPolicy", json!("None"))]
#[case::nobody_answers_names("/spec/template/spec/dnsConfig/nameservers", json!(["127.0.0.1"]))]
#[case::pod_not_root("/spec/template/spec/securityContext/runAsNonRoot", json!(true))]
#[case::link_restarts("/spec/template/spec/initContainers/0/restartPolicy", json!("Always"))]
#[case::link_to_an_address("/spec/template/spec/initContainers/0/args/4", json!("10.0.0.7:7443"))]
fn every_control_of_the_job(#[case] pointer: &str, #[case] expected: Value) {
    assert_eq!(made().pointer(pointer), Some(&expected));
}

#[rstest]
#[case::not_root("/securityContext/runAsNonRoot", json!(true), json!(true))]
#[case::user("/securityContext/runAsUser", json!(65532), json!(65531))]
#[case::group("/securityContext/runAsGroup", json!(65532), json!(65531))]
#[case::no_privilege("/securityContext/privileged", json!(false), json!(false))]
#[case::no_new_privileges("/securityContext/allowPrivilegeEscalation", json!(false), json!(false))]
#[case::no_capability("/securityContext/capabilities", json!({ "drop": ["ALL"] }), json!({ "drop": ["ALL"] }))]
#[case::read_only_root("/securityContext/readOnlyRootFilesystem", json!(true), json!(true))]
#[case::masked_proc("/securityContext/procMount", json!("Default"), json!("Default"))]
#[case::system_calls("/securityContext/seccompProfile",
    json!({ "type": "Localhost", "localhostProfile": "custody/box.json" }), json!({ "type": "RuntimeDefault" }))]
#[case::memory("/resources/limits/memory", json!("536870912"), json!("64Mi"))]
#[case::cpu("/resources/limits/cpu", json!("500m"), json!("200m"))]
#[case::no_swap_by_equal_request("/resources/requests/memory", json!("536870912"), json!("64Mi"))]
fn both_containers_are_shut_in(#[case] pointer: &str, #[case] agent: Value, #[case] link: Value) {
    let made = made();
    assert_eq!(made.pointer(&[AGENT_AT, pointer].concat()), Some(&agent));
    assert_eq!(made.pointer(&[LINK_AT, pointer].concat()), Some(&link));
}

#[rstest]
#[case::scratch("tmp", "/tmp", false, None)]
#[case::home("home", "/home/agent", false, None)]
#[case::socket("gw", "/run/gw", true, None)]
#[case::session("data", "/session", false, Some("runs/d-1/session"))]
#[case::read_only_workspace("data", "/workspace", true, Some("workspaces/notes"))]
fn the_agent_sees_its_mounts_in_their_modes(
    #[case] volume: &str,
    #[case] path: &str,
    #[case] read_only: bool,
    #[case] sub_path: Option<&str>,
) {
    let made = made();
    let mounts = made.pointer(&[AGENT_AT, "/volumeMounts"].concat()).unwrap().as_array().unwrap().clone();
    assert_eq!(mounts.len(), 5);
    let one = mounts.iter().find(|m| m["mountPath"] == path).unwrap();
    assert_eq!((one["name"].as_str(), one["readOnly"].as_bool()), (Some(volume), Some(read_only)));
    assert_eq!((one["subPath"].as_str(), one["mountPropagation"].as_str()), (sub_path, Some("None")));
}

#[test]
fn the_token_of_the_link_is_not_where_the_agent_is() {
    let made = made();
    let seen = |at: &str| made.pointer(&[at, "/volumeMounts"].concat()).unwrap().to_string();
    assert!(seen(LINK_AT).contains("\"name\":\"link\"") && !seen(AGENT_AT).contains("\"name\":\"link\""));
    assert!(!seen(AGENT_AT).contains("link-ca"));
    assert!(!made.to_string().contains("secretKeyRef"), "no credential is a variable");
}

#[rstest]
#[case::underscore(|s: &mut BoxSpec| s.name = "custody_d".into(), "Kubernetes takes no such name")]
#[case::upper_case(|s: &mut BoxSpec| s.name = "Custody".into(), "Kubernetes takes no such name")]
#[case::too_long(|s: &mut BoxSpec| s.name = "a".repeat(53), "Kubernetes takes no such name")]
#[case::sign_at_the_end(|s: &mut BoxSpec| s.name = "custody-".into(), "Kubernetes takes no such name")]
#[case::empty(|s: &mut BoxSpec| s.name.clear(), "Kubernetes takes no such name")]
#[case::loopback(|s: &mut BoxSpec| s.sockets = Sockets::Loopback, "cannot run in a Pod")]
#[case::slots(|s: &mut BoxSpec| s.slots = true, "cannot run in a Pod")]
#[case::unknown_image(|s: &mut BoxSpec| s.image = "sha256:00".into(), "no reference is configured")]
#[case::outside(|s: &mut BoxSpec| s.mounts[1].source = "/etc".into(), "does not lie on the volume")]
#[case::the_root_itself(|s: &mut BoxSpec| s.mounts[1].source = "/var/lib/custody".into(), "does not lie on the volume")]
#[case::climbing(|s: &mut BoxSpec| s.mounts[1].source = "/var/lib/custody/../x".into(), "does not lie on the volume")]
fn what_cannot_be_a_job_is_refused(#[case] change: fn(&mut BoxSpec), #[case] why: &str) {
    let mut spec = sample();
    change(&mut spec);
    let error = job(&spec, &settings(), "10.0.0.7:7443", NOW).unwrap_err();
    assert!(error.to_string().contains(why), "{error}");
}

#[test]
fn an_image_without_a_digest_is_refused() {
    let mut settings = settings();
    settings.images.insert(sample().image, "registry.example.org/custody/agent:latest".into());
    assert!(matches!(job(&sample(), &settings, "10.0.0.7:7443", NOW), Err(JobError::ImageByTag(_))));
}

#[rstest]
#[case::ahead("1795381260000", 65)]
#[case::rounded_up("1795381200001", 6)]
#[case::past("1", 5)]
#[case::unreadable("soon", 86_405)]
fn the_cluster_ends_what_no_runtime_ends(#[case] deadline: &str, #[case] seconds: i64) {
    let mut spec = sample();
    spec.labels.insert("custody.deadline".into(), deadline.into());
    let job = job(&spec, &settings(), "10.0.0.7:7443", NOW).unwrap();
    assert_eq!(job.spec.unwrap().active_deadline_seconds, Some(seconds));
}

#[rstest]
#[case::smallest(1, "1m", "1m")]
#[case::an_eighth(2_000_000_000, "2000m", "250m")]
#[case::a_floor(40_000_000, "40m", "10m")]
fn a_box_asks_for_an_eighth_of_its_processors(#[case] nano: u64, #[case] limit: &str, #[case] request: &str) {
    let found = resources(&BoxSpec { nano_cpus: nano, ..sample() });
    let cpu = |map: Option<BTreeMap<String, Quantity>>| map.unwrap()["cpu"].0.clone();
    assert_eq!((cpu(found.limits).as_str(), cpu(found.requests).as_str()), (limit, request));
}

#[test]
fn optional_strengths_are_asked_for_when_configured() {
    let strong = KubeSettings { runtime_class: Some("gvisor".into()), user_namespaces: true, ..settings() };
    let made = serde_json::to_value(job(&sample(), &strong, "10.0.0.7:7443", NOW).unwrap()).unwrap();
    assert_eq!(made.pointer("/spec/template/spec/runtimeClassName"), Some(&json!("gvisor")));
    assert_eq!(made.pointer("/spec/template/spec/hostUsers"), Some(&json!(false)));
}

/// Checks against what the API publishes, unknown fields refused.
fn valid(kind: &str, document: &Value) -> Result<(), String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schema.json");
    let mut schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    schema["$ref"] = json!(format!("#/$defs/{kind}"));
    let validator = jsonschema::validator_for(&schema).unwrap();
    let problems: Vec<String> =
        validator.iter_errors(document).map(|e| format!("{}: {e}", e.instance_path())).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

#[test]
fn it_is_what_the_api_publishes_and_the_schema_refuses_what_is_not() {
    valid("io.k8s.api.batch.v1.Job", &made()).unwrap();
    let secret = secret("custody-d-1", "custody-boxes", "b2f0", "a.b.c");
    valid("io.k8s.api.core.v1.Secret", &serde_json::to_value(secret).unwrap()).unwrap();
    for (pointer, key, value) in [
        ("/spec/template/spec", "hostNetworks", json!(false)),
        ("/spec/template/spec/containers/0/securityContext", "runAsNonroot", json!(true)),
        ("/spec", "backoffLimit", json!("none")),
        ("/spec/template/spec/containers/0/resources/limits", "pids", json!(["128"])),
    ] {
        let mut wrong = made();
        wrong.pointer_mut(pointer).unwrap()[key] = value;
        assert!(valid("io.k8s.api.batch.v1.Job", &wrong).is_err(), "{pointer}/{key}");
    }
}

/// `CUSTODY_BLESS=1 cargo test -p custody-kube golden` writes the file anew; its change is reviewed like code.
#[test]
fn the_whole_job_is_the_golden_one() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/job.json");
    let text = serde_json::to_string_pretty(&made()).unwrap() + "\n";
    if std::env::var_os("CUSTODY_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), text);
}
