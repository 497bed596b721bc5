//! Every control of the request, one by one, and the whole of it as a golden file.

use super::*;
use custody_contracts::isolation::Sockets;
use rstest::rstest;
use serde_json::{Value, json};

/// A box as the runtime asks for one.
pub(crate) fn sample() -> BoxSpec {
    BoxSpec {
        name: "custody-d-0123456789abcdefghij-1".to_owned(),
        image: format!("sha256:{}", "0123456789abcdef".repeat(4)),
        labels: pairs(&[("custody.attempt", "1"), ("custody.dispatch", "d-0123456789abcdefghij")]),
        env: pairs(&[("CUSTODY_MAX_LIFETIME_MS", "900000"), ("HOME", HOME)]),
        mounts: vec![
            BoxMount { source: "/srv/custody/gw/d-1".into(), target: "/run/gw".to_owned(), read_only: true },
            BoxMount { source: "/srv/custody/ws/jane".into(), target: "/workspace".to_owned(), read_only: false },
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

/// The machine's part for [`sample`].
pub(crate) fn profile() -> Profile {
    Profile { mount_roots: vec!["/srv/custody".into()], runtime: None }
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn request() -> Value {
    sorted_json(&create_body(&sample(), &profile())).unwrap()
}

#[rstest]
#[case::no_network_sandbox("/NetworkDisabled", json!(true))]
#[case::no_network("/HostConfig/NetworkMode", json!("none"))]
#[case::not_root("/User", json!("65532:65532"))]
#[case::no_capability("/HostConfig/CapDrop", json!(["ALL"]))]
#[case::no_capability_back("/HostConfig/CapAdd", json!([]))]
#[case::no_group("/HostConfig/GroupAdd", json!([]))]
#[case::not_privileged("/HostConfig/Privileged", json!(false))]
#[case::no_new_privileges("/HostConfig/SecurityOpt/0", json!("no-new-privileges"))]
#[case::no_third_security_option("/HostConfig/SecurityOpt/2", Value::Null)]
#[case::read_only_root("/HostConfig/ReadonlyRootfs", json!(true))]
#[case::scratch("/HostConfig/Tmpfs/~1tmp", json!("rw,noexec,nosuid,nodev,size=16m,mode=1777"))]
#[case::home("/HostConfig/Tmpfs/~1home~1agent", json!("rw,noexec,nosuid,nodev,size=16m,mode=0700,uid=65532,gid=65532"))]
#[case::memory("/HostConfig/Memory", json!(536_870_912))]
#[case::no_swap("/HostConfig/MemorySwap", json!(536_870_912))]
#[case::dies_first("/HostConfig/OomScoreAdj", json!(500))]
#[case::pids("/HostConfig/PidsLimit", json!(128))]
#[case::cpu("/HostConfig/NanoCpus", json!(500_000_000))]
#[case::gives_way("/HostConfig/CpuShares", json!(128))]
#[case::limits("/HostConfig/Ulimits", json!([
    { "Name": "core", "Soft": 0, "Hard": 0 }, { "Name": "fsize", "Soft": 1_073_741_824, "Hard": 1_073_741_824 },
    { "Name": "nofile", "Soft": 1024, "Hard": 1024 }, { "Name": "nproc", "Soft": 4096, "Hard": 4096 }]))]
#[case::no_shared_memory("/HostConfig/IpcMode", json!("none"))]
#[case::own_processes("/HostConfig/PidMode", json!(""))]
#[case::own_control_groups("/HostConfig/CgroupnsMode", json!("private"))]
#[case::own_user_namespace_if_any("/HostConfig/UsernsMode", json!(""))]
#[case::log_is_capped("/HostConfig/LogConfig", json!({ "Type": "local", "Config": { "compress": "false", "max-file": "1", "max-size": "1m" } }))]
#[case::stays_after_its_end("/HostConfig/AutoRemove", json!(false))]
#[case::never_again("/HostConfig/RestartPolicy", json!({ "Name": "no", "MaximumRetryCount": 0 }))]
#[case::no_devices("/HostConfig/Devices", json!([]))]
#[case::no_binds("/HostConfig/Binds", json!([]))]
#[case::no_check_inside("/Healthcheck/Test", json!(["NONE"]))]
#[case::stop("/StopSignal", json!("SIGTERM"))]
#[case::engine_masks_paths("/HostConfig/MaskedPaths", Value::Null)]
#[case::engine_protects_paths("/HostConfig/ReadonlyPaths", Value::Null)]
#[case::engine_runtime("/HostConfig/Runtime", Value::Null)]
#[case::image_decides_what_runs("/Entrypoint", Value::Null)]
#[case::no_arguments("/Cmd", Value::Null)]
#[case::env_is_ours("/Env", json!(["CUSTODY_MAX_LIFETIME_MS=900000", "HOME=/home/agent"]))]
fn control(#[case] pointer: &str, #[case] wanted: Value) {
    assert_eq!(request().pointer(pointer).cloned().unwrap_or_default(), wanted);
}

#[rstest]
#[case::unix(Sockets::Unix)]
#[case::loopback(Sockets::Loopback)]
#[case::watched(Sockets::Watched)]
fn seccomp_is_the_whole_profile(#[case] sockets: Sockets) {
    let spec = BoxSpec { sockets, ..sample() };
    let request = sorted_json(&create_body(&spec, &profile())).unwrap();
    let text = request.pointer("/HostConfig/SecurityOpt/1").and_then(Value::as_str).unwrap();
    assert_eq!(text, format!("seccomp={}", seccomp::compact(sockets)));
}

#[rstest]
#[case::whole(300 << 20, "size=300m")]
#[case::part((1 << 20) + 1, "size=1048577")]
fn a_box_has_the_scratch_that_it_asks_for(#[case] bytes: u64, #[case] expected: &str) {
    let spec = BoxSpec { tmp_bytes: bytes, home_bytes: bytes + (1 << 20), ..sample() };
    let request = sorted_json(&create_body(&spec, &profile())).unwrap();
    let options = |folder: &str| request.pointer(folder).unwrap().as_str().unwrap().to_owned();
    let (tmp, home) = (options("/HostConfig/Tmpfs/~1tmp"), options("/HostConfig/Tmpfs/~1home~1agent"));
    assert!(tmp.contains(&format!(",{expected},")) && !home.contains(&format!(",{expected},")), "{tmp} {home}");
}

#[test]
fn slots_take_in_what_the_host_mounts_and_give_nothing_back() {
    let blank = BoxSpec { slots: true, ..sample() };
    let request = sorted_json(&create_body(&blank, &profile())).unwrap();
    for mount in request["HostConfig"]["Mounts"].as_array().unwrap() {
        assert_eq!(mount["BindOptions"]["Propagation"], "rslave");
    }
}

#[rstest]
#[case::read_only(0, json!(true), "/srv/custody/gw/d-1", "/run/gw")]
#[case::writable(1, json!(false), "/srv/custody/ws/jane", "/workspace")]
fn mounts(#[case] i: usize, #[case] read_only: Value, #[case] source: &str, #[case] target: &str) {
    assert_eq!(
        request()["HostConfig"]["Mounts"][i],
        json!({ "Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only,
                "BindOptions": { "Propagation": "rprivate", "NonRecursive": true } })
    );
}

#[test]
fn another_runtime_by_policy() {
    let gvisor = Profile { runtime: Some("runsc".to_owned()), ..profile() };
    assert_eq!(create_body(&sample(), &gvisor).host_config.unwrap().runtime, Some("runsc".to_owned()));
    let own = BoxSpec { runtime: Some("kata".to_owned()), ..sample() };
    assert_eq!(
        create_body(&own, &gvisor).host_config.unwrap().runtime,
        Some("kata".to_owned()),
        "a box's own comes first"
    );
}

#[test]
fn a_number_too_large_is_never_negative() {
    assert_eq!(signed(u64::MAX), i64::MAX);
}

/// `UPDATE_GOLDEN=1` writes the file anew; its change is reviewed like code.
#[test]
fn golden() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/create.json");
    let text = format!("{}\n", serde_json::to_string_pretty(&request()).unwrap());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(file, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), text, "run again with UPDATE_GOLDEN=1 and review the change");
}
