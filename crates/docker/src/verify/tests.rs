//! A container that is what was asked for has no difference; each thing taken away or added is one.

use super::*;
use crate::spec::tests::{profile, sample};
use rstest::rstest;
use serde_json::json;

/// An inspect answer that echoes the request, with the engine's own additions.
fn faithful() -> Value {
    let request = json(&create_body(&sample(), &profile()));
    let mut host = request["HostConfig"].clone();
    host["Runtime"] = json!("runc");
    host["ShmSize"] = json!(67_108_864);
    host["MaskedPaths"] = json!(["/proc/asound", "/proc/kcore"]);
    host["ReadonlyPaths"] = json!(["/proc/bus", "/proc/sysrq-trigger"]);
    host["CapAdd"] = Value::Null;
    host["OomKillDisable"] = Value::Null;
    json!({
        "Id": "f00", "Image": sample().image, "HostConfig": host,
        "Config": { "User": "65532:65532", "NetworkDisabled": true, "StopSignal": "SIGTERM",
            "Healthcheck": { "Test": ["NONE"] },
            "Labels": { "custody.attempt": "1", "custody.dispatch": "d-0123456789abcdefghij", "of-the-image": "x" },
            "Env": ["CUSTODY_MAX_LIFETIME_MS=900000", "HOME=/home/agent", "PATH=/bin"] },
        "Mounts": [
            { "Type": "bind", "Source": "/srv/custody/gw/d-1", "Destination": "/run/gw", "RW": false, "Propagation": "rprivate" },
            { "Type": "bind", "Source": "/srv/custody/ws/jane", "Destination": "/workspace", "RW": true, "Propagation": "rprivate" },
        ],
    })
}

fn differences(answer: Value) -> Vec<Difference> {
    verify(&serde_json::from_value(answer).unwrap(), &sample(), &profile())
}

#[test]
fn what_was_asked_for() {
    assert_eq!(differences(faithful()), []);
}

#[rstest]
#[case::privileged("/HostConfig/Privileged", json!(true), "HostConfig.Privileged")]
#[case::capability_kept("/HostConfig/CapDrop", json!([]), "HostConfig.CapDrop")]
#[case::capability_added("/HostConfig/CapAdd", json!(["SYS_ADMIN"]), "HostConfig.CapAdd")]
#[case::pids_ignored("/HostConfig/PidsLimit", json!(null), "HostConfig.PidsLimit")]
#[case::pids_unlimited("/HostConfig/PidsLimit", json!(-1), "HostConfig.PidsLimit")]
#[case::memory_ignored("/HostConfig/Memory", json!(0), "HostConfig.Memory")]
#[case::swap_unlimited("/HostConfig/MemorySwap", json!(-1), "HostConfig.MemorySwap")]
#[case::cpu_ignored("/HostConfig/NanoCpus", json!(0), "HostConfig.NanoCpus")]
#[case::seccomp_dropped("/HostConfig/SecurityOpt", json!(["no-new-privileges"]), "HostConfig.SecurityOpt")]
#[case::seccomp_other("/HostConfig/SecurityOpt/1", json!("seccomp=unconfined"), "HostConfig.SecurityOpt.1")]
#[case::writable_root("/HostConfig/ReadonlyRootfs", json!(false), "HostConfig.ReadonlyRootfs")]
#[case::host_network("/HostConfig/NetworkMode", json!("host"), "HostConfig.NetworkMode")]
#[case::network_on("/Config/NetworkDisabled", json!(false), "Config.NetworkDisabled")]
#[case::host_processes("/HostConfig/PidMode", json!("host"), "HostConfig.PidMode")]
#[case::host_users("/HostConfig/UsernsMode", json!("host"), "HostConfig.UsernsMode")]
#[case::a_bind("/HostConfig/Binds", json!(["/:/host"]), "HostConfig.Binds")]
#[case::a_device("/HostConfig/Devices", json!([{ "PathOnHost": "/dev/kvm" }]), "HostConfig.Devices")]
#[case::mount_writable("/HostConfig/Mounts/0/ReadOnly", json!(false), "HostConfig.Mounts.0.ReadOnly")]
#[case::mount_really_writable("/Mounts/0/RW", json!(true), "Mounts./run/gw.RW")]
#[case::mount_shared("/Mounts/1/Propagation", json!("rshared"), "Mounts./workspace.Propagation")]
#[case::mount_of_another("/Mounts/1/Source", json!("/srv/custody/ws/john"), "Mounts./workspace.Source")]
#[case::exec_in_tmp("/HostConfig/Tmpfs/~1tmp", json!("rw"), "HostConfig.Tmpfs./tmp")]
#[case::a_limit("/HostConfig/Ulimits/2/Hard", json!(20_000), "HostConfig.Ulimits.2.Hard")]
#[case::removes_itself("/HostConfig/AutoRemove", json!(true), "HostConfig.AutoRemove")]
#[case::restarts("/HostConfig/RestartPolicy/Name", json!("always"), "HostConfig.RestartPolicy.Name")]
#[case::nothing_masked("/HostConfig/MaskedPaths", json!([]), "HostConfig.MaskedPaths")]
#[case::nothing_protected("/HostConfig/ReadonlyPaths", json!([]), "HostConfig.ReadonlyPaths")]
#[case::root("/Config/User", json!("0"), "Config.User")]
#[case::label_lost("/Config/Labels", json!({ "custody.attempt": "1" }), "Config.Labels.custody.dispatch")]
#[case::health_check("/Config/Healthcheck", json!({ "Test": ["CMD", "/x"] }), "Config.Healthcheck.Test")]
#[case::another_image("/Image", json!("sha256:ff"), "Image")]
fn one_change(#[case] pointer: &str, #[case] value: Value, #[case] field: &str) {
    let mut answer = faithful();
    *answer.pointer_mut(pointer).unwrap() = value;
    assert_eq!(differences(answer).into_iter().map(|d| d.field).collect::<Vec<_>>(), [field]);
}

#[test]
fn a_volume_of_the_image_is_not_ours() {
    let mut answer = faithful();
    answer["Mounts"].as_array_mut().unwrap().push(json!({ "Type": "volume", "Destination": "/data", "RW": true }));
    assert_eq!(differences(answer)[0].to_string(), "Mounts is /data instead of nothing");
}

#[test]
fn a_mount_that_is_missing() {
    let mut answer = faithful();
    answer["Mounts"].as_array_mut().unwrap().remove(0);
    assert_eq!(differences(answer)[0].to_string(), "Mounts is nothing instead of /run/gw");
}

#[test]
fn the_value_of_a_variable_is_not_shown() {
    let mut answer = faithful();
    answer["Config"]["Env"][1] = json!("HOME=/root");
    assert_eq!(differences(answer)[0].to_string(), "Config.Env.HOME is another instead of its value");
}

#[test]
fn an_empty_answer_has_every_difference() {
    let fields: Vec<String> = differences(json!({})).into_iter().map(|d| d.field).collect();
    for field in ["HostConfig", "Config.User", "Image", "Mounts", "HostConfig.MaskedPaths"] {
        assert!(fields.iter().any(|have| have == field), "{field} is not in {fields:?}");
    }
}
