//! Slots on a live engine: what is bound into one after its box was started is seen in that box, with its flags, and in
//! no other; and nothing stays mounted. Binding needs root: without it the test proves that slots say so.

#[expect(unreachable_pub, dead_code, reason = "one module for several test binaries")]
mod support;

use custody_docker::{BindSlots, Deadlines, Docker, Profile};
use custody_ports::containers::{BoxMount, BoxSpec, BoxState, Containers};
use custody_ports::slots::{SlotError, Slots};
use std::path::Path;
use support::Live;

#[expect(clippy::unwrap_used, reason = "a helper of the test, which fails without the table")]
fn mounted_below(folder: &Path) -> usize {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table
        .lines()
        .filter(|line| line.split(' ').nth(4).is_some_and(|place| Path::new(place).starts_with(folder)))
        .count()
}

#[tokio::test]
async fn what_is_bound_after_the_start_is_seen_with_its_flags_and_only_there() {
    let live = Live::start().await;
    let pool = live.folder("pool").canonicalize().unwrap();
    let slots = BindSlots::below(&pool);
    if !rustix::process::geteuid().is_root() {
        assert!(matches!(slots.prepare(&|_| false), Err(SlotError::Unsupported(_))));
        return;
    }
    slots.prepare(&|_| false).unwrap();
    let profile = Profile { mount_roots: vec![slots.root().to_owned()], runtime: None };
    let docker = Docker::at(live.docker.host(), profile, Deadlines::standard()).unwrap();
    let mut specs = Vec::new();
    for name in ["claimed", "blank"] {
        let spec = BoxSpec { mounts: slots.make(name).unwrap(), slots: true, ..live.spec(name, "blank") };
        docker.create(&spec).await.unwrap();
        docker.start(&spec.name).await.unwrap();
        let pid = docker.inspect(&spec.name).await.unwrap().unwrap().pid.unwrap();
        slots.reaches(name, pid).unwrap();
        specs.push(spec);
    }
    let mount = |name: &str, target: &str, read_only| {
        let source = live.folder(name);
        std::fs::write(source.join("here"), "").unwrap();
        BoxMount { source, target: target.to_owned(), read_only }
    };
    let mounts = [
        mount("gw", "/run/gw", true),
        mount("session", "/session", false),
        mount("ws", "/workspace", true),
        mount("two", "/workspaces/two", false),
    ];
    assert!(slots.fits(&mounts) && !slots.bound("claimed"));
    slots.bind("claimed", &mounts).unwrap();
    // Again, as a runtime does that died in between.
    slots.bind("claimed", &mounts).unwrap();
    assert!(slots.bound("claimed") && !slots.bound("blank"));

    assert_eq!(live.ended(&specs[0].name).await.state, BoxState::Exited { code: 0, oom: false, error: None });
    let report = std::fs::read_to_string(live.folder("session").join("report")).unwrap();
    let said = |key: &str| report.lines().find_map(|line| line.strip_prefix(&format!("{key} "))).unwrap().to_owned();
    assert_eq!(said("before"), "nothing");
    for (key, wanted) in [
        ("workspace.read", "ok"),
        ("workspace.create", "EROFS"),
        ("second.create", "ok"),
        ("session.create", "ok"),
        ("gateway.create", "EROFS"),
    ] {
        assert_eq!(said(key), wanted, "{key}");
    }
    for (target, flags) in
        [("/workspace", "ro,nosuid,nodev"), ("/workspaces/two", "rw,nosuid,nodev"), ("/run/gw", "ro,nosuid,nodev")]
    {
        let options: Vec<&str> = report
            .lines()
            .filter(|line| line.starts_with("mount."))
            .filter_map(|line| line.split_once(' ')?.1.split(' ').nth(4).zip(line.split_once(' ')?.1.split(' ').nth(5)))
            .filter(|(place, _)| *place == target)
            .map(|(_, options)| options)
            .collect();
        assert!(options.iter().any(|o| o.starts_with(flags)), "{target}: {options:?}");
    }
    assert!(!report.lines().any(|line| line.starts_with("mount.") && line.contains(" shared:")), "{report}");
    // The other one has seen nothing.
    assert_eq!(docker.inspect(&specs[1].name).await.unwrap().unwrap().state, BoxState::Running);

    for spec in &specs {
        docker.remove(&spec.name).await.unwrap();
    }
    // An earlier life's slots are cleared by the next one, but not those that it keeps.
    slots.prepare(&|name| name == "claimed").unwrap();
    assert_eq!(slots.all(), ["claimed"]);
    slots.clear("claimed").unwrap();
    slots.clear("claimed").unwrap();
    slots.close().unwrap();
    assert_eq!(mounted_below(&pool), 0);
    assert!(live.folder("ws").join("here").exists(), "what was bound is still there");
}
