//! What a box really is, measured from inside by a program that asks the kernel (`inside/inside.c`). It fails
//! without an engine.

#[expect(unreachable_pub, dead_code, reason = "one module for several test binaries")]
mod support;

use custody_contracts::isolation::Sockets;
use custody_docker::seccomp;
use custody_ports::containers::{BoxMount, BoxSpec, BoxState, Containers};
use rstest::rstest;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use support::Live;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

/// The only calls of the report that work.
const ALLOWED: [&str; 1] = ["call.personality.read"];

#[tokio::test]
async fn a_box_from_inside() {
    let live = Live::start().await;
    let gw = live.folder("gw");
    let listener = UnixListener::bind(gw.join("gw.sock")).unwrap();
    std::fs::set_permissions(gw.join("gw.sock"), std::fs::Permissions::from_mode(0o666)).unwrap();
    let gateway = tokio::spawn(async move {
        let (mut peer, _) = listener.accept().await.unwrap();
        let mut hello = String::new();
        peer.read_to_string(&mut hello).await.unwrap();
        let uid = peer.peer_cred().unwrap().uid();
        peer.write_all(b"welcome\n").await.unwrap();
        (hello, uid)
    });

    let mut spec = live.spec("report", "report");
    spec.mounts.push(BoxMount { source: gw.clone(), target: "/run/gw".to_owned(), read_only: true });
    let ended = live.run_to_end(&spec).await;
    assert_eq!(ended.state, BoxState::Exited { code: 0, oom: false, error: None });
    assert_eq!(gateway.await.unwrap(), ("hello\n".to_owned(), 65532));

    let report = live.report("report");
    let all = |key: &str| -> Vec<&str> {
        report.iter().filter(|(k, _)| k == key || k.starts_with(&format!("{key}."))).map(|(_, v)| v.as_str()).collect()
    };
    let one = |key: &str| -> &str {
        let found = all(key);
        assert_eq!(found.len(), 1, "{key}: {found:?}");
        found[0]
    };

    // Who it is.
    assert_eq!(one("ids"), "65532 65532");
    assert!(all("group").iter().all(|group| *group == "65532"), "{:?}", all("group"));
    assert_eq!(one("pid"), "1");
    let status = all("status");
    assert_eq!(status.iter().filter(|line| line.starts_with("Cap") && line.ends_with("\t0000000000000000")).count(), 5);
    assert!(status.contains(&"NoNewPrivs:\t1") && status.contains(&"Seccomp:\t2"), "{status:?}");
    assert_eq!(one("oom"), "500");
    let mut env = all("env");
    env.sort_unstable();
    assert_eq!(env, ["BOX_MODE=report", "HOME=/", "HOSTNAME=box", "PATH=/bin"]);

    // What it may use.
    assert_eq!(one("limit.nofile"), "1024 1024");
    assert_eq!(one("limit.core"), "0 0");
    assert_eq!(one("limit.fsize"), "1073741824 1073741824");
    assert_eq!(one("limit.nproc"), "4096 4096");
    assert_eq!(one("tmp.fill"), "ENOSPC 16777216");
    assert_eq!(one("home.fill"), "ENOSPC 16777216");
    assert_eq!(one("tmp.exec"), "EACCES");
    assert_eq!(one("home.exec"), "EACCES");

    // What it can see and change.
    assert_eq!(one("root.create"), "EROFS");
    assert_eq!(one("out.create"), "ok");
    assert_eq!(one("core_pattern.open"), "EACCES");
    assert_eq!(one("docker.sock"), "ENOENT");
    for key in ["sysrq.open", "cgroup.write"] {
        assert!(["EACCES", "EROFS", "ENOENT"].contains(&one(key)), "{key}: {}", one(key));
    }
    for line in all("hierarchy") {
        assert!(line.ends_with(":/"), "its own root of every control group, and not {line}");
    }
    let interfaces: Vec<&str> =
        all("interface").iter().filter_map(|line| line.trim().split_once(':')).map(|i| i.0).collect();
    assert_eq!(interfaces, ["lo"]);
    let mut nodes = all("node");
    nodes.sort_unstable();
    let harmless = [
        "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "stderr", "stdin", "stdout", "tty", "urandom",
        "zero",
    ];
    assert!(nodes.contains(&"null") && nodes.iter().all(|node| harmless.contains(node)), "{nodes:?}");

    // Where it is mounted: ours, the engine's, and nothing that travels back to the host.
    let mounts = all("mount");
    let fields = |line: &&str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let place =
        |target: &str| mounts.iter().map(fields).find(|f| f[4] == target).unwrap_or_else(|| panic!("no {target}"));
    for line in &mounts {
        assert!(!line.contains(" shared:"), "{line}");
        assert!(
            fields(line)[4] == "/" || !line.contains(" master:"),
            "what the host mounts later does not come in: {line}"
        );
    }
    assert!(place("/")[5].starts_with("ro"));
    assert!(place("/run/gw")[5].starts_with("ro"));
    assert!(place("/out")[5].starts_with("rw"));
    for scratch in ["/tmp", "/home/agent"] {
        for option in ["nosuid", "nodev", "noexec"] {
            assert!(place(scratch)[5].split(',').any(|o| o == option), "{scratch} {option}");
        }
    }
    for masked in ["/sys/firmware", "/proc/sys"] {
        assert!(place(masked)[5].starts_with("ro"), "{masked}");
    }
    let own = |target: &str| ["/proc", "/sys", "/dev"].iter().any(|top| std::path::Path::new(target).starts_with(top));
    let others: Vec<String> = mounts.iter().map(|line| fields(line)[4].clone()).filter(|t| !own(t)).collect();
    let mut expected = vec!["/", "/run/gw", "/out", "/tmp", "/home/agent"];
    // The engine's own, read-only because the root is: which of them there are depends on its version.
    for file in ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"] {
        if others.iter().any(|target| target == file) {
            assert!(place(file)[5].starts_with("ro"), "{file}");
            expected.push(file);
        }
    }
    assert!(others.iter().all(|target| expected.contains(&target.as_str())), "{others:?}");

    // The one way out.
    assert_eq!((one("gateway.connect"), one("gateway.write"), one("gateway.answer")), ("ok", "ok", "welcome"));
    for key in ["gateway.create", "gateway.unlink", "gateway.rename", "gateway.chmod"] {
        assert_eq!(one(key), "EROFS", "{key}");
    }
    assert!(gw.join("gw.sock").exists() && !gw.join("other").exists());

    // What it may ask the kernel for.
    for (key, value) in report.iter().filter(|(key, _)| key.starts_with("socket")) {
        let wanted = if key.ends_with(".unix") { "ok" } else { "EPERM" };
        assert_eq!(value, wanted, "{key}");
    }
    assert_eq!(one("call.personality.read"), "ok");
    let refused: Vec<_> = report
        .iter()
        .filter(|(key, _)| (key.starts_with("call.") || key.starts_with("clone.")) && !ALLOWED.contains(&key.as_str()))
        .collect();
    assert!(refused.len() > 45, "the table is short: {}", refused.len());
    for (key, value) in refused {
        let wanted = match key.as_str() {
            "call.clone3" => "ENOSYS",
            "call.int80" => "SIGSYS",
            _ => "EPERM",
        };
        assert_eq!(value, wanted, "{key}");
    }
}

/// T40: two boxes at once, of one user. What one leaves in shared places, under a name that is no file, in its environment
/// and among its processes is found by itself and not by the other.
#[tokio::test]
async fn t40_nothing_of_another_box_can_be_seen() {
    let live = Live::start().await;
    let mut one = live.spec("one", "leave");
    one.env.insert("SECRET".to_owned(), "of one box".to_owned());
    live.docker.create(&one).await.unwrap();
    live.docker.start(&one.name).await.unwrap();
    let left = live.folder("out-one").join("left");
    let begun = Instant::now();
    while !left.exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the first box never got so far");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ended = live.run_to_end(&live.spec("two", "look")).await;
    assert_eq!(ended.state, BoxState::Exited { code: 0, oom: false, error: None });
    let (own, other) = (live.report("one"), live.report("two"));
    let of = |report: &[(String, String)], key: &str| -> String {
        let found = report.iter().find(|(k, _)| k == key);
        found.unwrap_or_else(|| panic!("{key} is not in {report:?}")).1.clone()
    };
    // Where the first one could leave something, it finds it; the second one nowhere.
    for place in ["left./tmp/secret", "left.abstract"] {
        assert_eq!(of(&own, place), "ok", "{place}");
    }
    for (key, value) in other.iter().filter(|(key, _)| key.starts_with("left.")) {
        let expected = if key == "left.abstract" { "ECONNREFUSED" } else { "ENOENT" };
        assert_eq!(value, expected, "{key}");
    }
    assert_eq!((of(&own, "others"), of(&other, "others")), ("0".to_owned(), "0".to_owned()));
    assert!(!other.iter().any(|(key, _)| key == "environ.of.another"), "{other:?}");
}

/// T39: each way out that the trust design lists, tried from inside; beside them what a box may do. What the kernel refuses
/// nobody records: there is no monitor of system calls.
#[tokio::test]
async fn t39_every_listed_way_out_of_a_box_is_refused() {
    let live = Live::start().await;
    // A file of the host that everybody may read, and that no mount leads to.
    let secret = live.folder("host").join("secret");
    std::fs::write(&secret, "of the host").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut spec = live.spec("escape", "escape");
    spec.env.insert("BOX_HOST".to_owned(), secret.to_str().unwrap().to_owned());
    let ended = live.run_to_end(&spec).await;
    assert_eq!(ended.state, BoxState::Exited { code: 0, oom: false, error: None });
    let report = live.report("escape");
    let honest: Vec<_> = report.iter().filter(|(key, _)| key.starts_with("honest.")).collect();
    assert_eq!(honest.len(), 6);
    assert!(honest.iter().all(|(_, value)| value == "ok"), "{honest:?}");

    let tried: Vec<_> = report.iter().filter(|(key, _)| key.starts_with("escape.")).collect();
    assert_eq!(tried.len(), 39, "the table is short: {tried:?}");
    for (key, value) in tried {
        let wanted: &[&str] = match key.as_str() {
            // There is no such thing in the box.
            key if key.starts_with("escape.engine.") || key.starts_with("escape.host.") => &["ENOENT"],
            "escape.device.disk" | "escape.device.memory" | "escape.device.kernel_log" => &["ENOENT"],
            // It is there, and is not the box's: read-only, hidden, or root's.
            "escape.release_agent" | "escape.notify_on_release" | "escape.cgroup.procs" | "escape.cgroup.make" => {
                &["EACCES", "EROFS", "EPERM", "ENOENT"]
            }
            "escape.core_pattern" | "escape.modprobe" | "escape.uevent_helper" | "escape.sysrq" => {
                &["EACCES", "EROFS", "EPERM", "ENOENT"]
            }
            "escape.kernel_memory" => &["EACCES", "EPERM", "ENOENT"],
            // The kernel is not even asked.
            _ => &["EPERM"],
        };
        assert!(wanted.contains(&value.as_str()), "{key}: {value}, not one of {wanted:?}");
    }
    let of = |key: &str| report.iter().find(|(k, _)| k == key || k.starts_with(&format!("{key}."))).unwrap().1.clone();
    assert_eq!((of("processes.of.others"), of("name.of.1")), ("0".to_owned(), "inside".to_owned()));
    // Nothing of the host was touched, and what the links name there is as it was.
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "of the host");
    assert!(!std::path::Path::new("/sys/fs/cgroup/escape").exists());
}

#[rstest]
#[case::loopback(Sockets::Loopback, &["socket.inet", "socket.inet6"])]
#[case::watched(Sockets::Watched, &["socket.inet", "socket.inet6", "socket.inet.udp"])]
#[tokio::test]
async fn a_box_with_more_sockets_may_make_those_and_nothing_else(#[case] sockets: Sockets, #[case] more: &[&str]) {
    let live = Live::start().await;
    let spec = BoxSpec { sockets, ..live.spec("loopback", "report") };
    let ended = live.run_to_end(&spec).await;
    assert_eq!(ended.state, BoxState::Exited { code: 0, oom: false, error: None });
    assert_eq!(ended.set.unwrap().seccomp_digest, seccomp::digest(sockets));
    let report = live.report("loopback");
    for (key, value) in report.iter().filter(|(key, _)| key.starts_with("socket")) {
        let allowed = ["socket.unix", "socketpair.unix"].contains(&key.as_str()) || more.contains(&key.as_str());
        assert_eq!(value, if allowed { "ok" } else { "EPERM" }, "{key}");
    }
    assert!(report.iter().any(|(key, _)| key == "socket.inet.udp"));
    for (key, value) in report.iter().filter(|(key, _)| key.starts_with("call.io_uring") || key == "call.bpf") {
        assert_eq!(value, "EPERM", "{key}");
    }
}
