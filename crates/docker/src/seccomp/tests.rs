//! What the profile must say, and what it must not.

use super::*;
use rstest::rstest;
use serde_json::json;
use std::collections::BTreeSet;

fn profile() -> Value {
    serde_json::from_str(SOURCE).unwrap()
}

fn rules(name: &str) -> Vec<Value> {
    rules_of(&profile(), name)
}

fn rules_of(profile: &Value, name: &str) -> Vec<Value> {
    let all = profile["syscalls"].as_array().unwrap();
    all.iter().filter(|rule| rule["names"].as_array().unwrap().contains(&json!(name))).cloned().collect()
}

#[test]
fn everything_that_is_not_named_is_refused() {
    let profile = profile();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    assert_eq!(profile.get("defaultErrnoRet"), None, "the default is EPERM, which old engines cannot be told");
    for rule in profile["syscalls"].as_array().unwrap() {
        let refused = rule["names"] == json!(["clone3"]) && rule["action"] == "SCMP_ACT_ERRNO";
        assert!(refused || rule["action"] == "SCMP_ACT_ALLOW", "{rule}");
    }
}

#[test]
fn no_32_bit_door() {
    let arches = profile()["archMap"].as_array().unwrap().clone();
    assert!(arches.len() >= 2);
    for arch in arches {
        assert_eq!(arch["subArchitectures"], json!([]), "a second ABI would have other numbers and other socket calls");
    }
}

#[rstest]
#[case::namespaces(&["unshare", "setns"])]
#[case::mounts(&["mount", "umount", "umount2", "pivot_root", "chroot", "fsopen", "fsconfig", "fsmount", "fspick", "open_tree", "move_mount", "mount_setattr"])]
#[case::other_processes(&["ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd", "process_madvise"])]
#[case::rings(&["io_uring_setup", "io_uring_enter", "io_uring_register", "io_setup", "io_submit"])]
#[case::keys(&["keyctl", "add_key", "request_key"])]
#[case::kernel_programs(&["bpf", "perf_event_open", "userfaultfd", "lookup_dcookie", "fanotify_init"])]
#[case::modules(&["init_module", "finit_module", "delete_module", "create_module", "kexec_load", "kexec_file_load"])]
#[case::handles_and_devices(&["open_by_handle_at", "name_to_handle_at", "mknod", "mknodat", "ioperm", "iopl"])]
#[case::clocks(&["settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "stime"])]
#[case::the_machine(&["reboot", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "syslog", "sethostname", "setdomainname", "sync", "vhangup"])]
#[case::attributes(&["setxattr", "lsetxattr", "fsetxattr"])]
#[case::nameless_files(&["memfd_create", "memfd_secret"])]
#[case::shared_ipc(&["shmget", "shmat", "msgget", "semget", "mq_open"])]
#[case::identity(&["capset", "setgroups", "setfsuid"])]
#[case::abi(&["socketcall", "modify_ldt", "uselib"])]
fn forbidden(#[case] names: &[&str]) {
    for name in names {
        assert_eq!(rules(name), Vec::<Value>::new(), "{name} must not be named");
    }
}

#[rstest]
#[case::socket("socket", 0, 1, 0, "SCMP_CMP_EQ")]
#[case::socketpair("socketpair", 0, 1, 0, "SCMP_CMP_EQ")]
#[case::clone("clone", 0, 0x7E02_0000, 0, "SCMP_CMP_MASKED_EQ")]
fn allowed_under_one_rule(#[case] name: &str, #[case] i: u32, #[case] value: u64, #[case] two: u64, #[case] op: &str) {
    let found = rules(name);
    assert_eq!(found.len(), 1, "a second rule would be an alternative: {found:?}");
    assert_eq!(found[0]["action"], "SCMP_ACT_ALLOW");
    assert_eq!(found[0]["args"], json!([{ "index": i, "value": value, "valueTwo": two, "op": op }]));
}

#[test]
fn the_namespace_mask_is_every_flag() {
    // linux/sched.h: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. NEWTIME is clone3's and unshare's only.
    let flags = [0x0002_0000_u64, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];
    assert_eq!(flags.iter().fold(0, |mask, flag| mask | flag), 0x7E02_0000);
}

#[test]
fn personality_is_read_or_default() {
    let args: Vec<Value> = rules("personality").into_iter().map(|rule| rule["args"].clone()).collect();
    let one = |value: u64| json!([{ "index": 0, "value": value, "valueTwo": 0, "op": "SCMP_CMP_EQ" }]);
    assert_eq!(args, vec![one(0xffff_ffff), one(0)]);
}

#[test]
fn clone3_says_that_it_does_not_exist() {
    let found = rules("clone3");
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["action"], &found[0]["errnoRet"]), (&json!("SCMP_ACT_ERRNO"), &json!(38)));
}

#[test]
fn no_call_is_named_twice_without_a_condition() {
    let mut seen = BTreeSet::new();
    for rule in profile()["syscalls"].as_array().unwrap() {
        if rule.get("args").is_none() {
            for name in rule["names"].as_array().unwrap() {
                assert!(seen.insert(name.to_string()), "{name} is named twice");
            }
        }
    }
    assert!(seen.len() > 150, "too few for a C library: {}", seen.len());
}

#[rstest]
#[case::unix(Sockets::Unix)]
#[case::loopback(Sockets::Loopback)]
#[case::watched(Sockets::Watched)]
fn one_line_for_the_engine(#[case] sockets: Sockets) {
    let text = compact(sockets);
    assert_eq!(text.lines().count(), 1);
    let parsed: Value = serde_json::from_str(text).unwrap();
    let (mut bare, all) = (parsed.clone(), parsed["syscalls"].as_array().unwrap().clone());
    let base = profile()["syscalls"].as_array().unwrap().len();
    bare["syscalls"] = json!(all[..base]);
    assert_eq!(bare, profile());
    assert_eq!(digest(sockets), custody_contracts::canonical::digest(text.as_bytes()));
}

#[rstest]
#[case::loopback_adds_tcp(Sockets::Loopback, &[(1, 6)])]
#[case::watched_adds_tcp_and_udp(Sockets::Watched, &[(1, 6), (2, 17)])]
fn sockets_that_are_added_and_nothing_else(#[case] sockets: Sockets, #[case] kinds: &[(u64, u64)]) {
    let parsed: Value = serde_json::from_str(compact(sockets)).unwrap();
    let base = profile()["syscalls"].as_array().unwrap().len();
    let added = parsed["syscalls"].as_array().unwrap()[base..].to_vec();
    let arg = |i: u32, value: u64, two: u64, op: &str| json!({ "index": i, "value": value, "valueTwo": two, "op": op });
    let mut wanted = Vec::new();
    for (kind, named) in kinds {
        for family in [2, 10] {
            for protocol in [0, *named] {
                wanted.push(json!([
                    arg(0, family, 0, "SCMP_CMP_EQ"),
                    arg(1, 15, *kind, "SCMP_CMP_MASKED_EQ"),
                    arg(2, protocol, 0, "SCMP_CMP_EQ"),
                ]));
            }
        }
    }
    assert_eq!(added.iter().map(|rule| rule["args"].clone()).collect::<Vec<_>>(), wanted);
    for rule in &added {
        assert_eq!((&rule["names"], &rule["action"]), (&json!(["socket"]), &json!("SCMP_ACT_ALLOW")));
    }
    // socketpair of an IP family does not exist; it keeps its one rule.
    assert_eq!(rules_of(&parsed, "socketpair"), rules("socketpair"));
    let mut others = Sockets::ALL.into_iter().filter(|other| *other != sockets);
    assert!(others.all(|other| digest(other) != digest(sockets)));
}
