//! The adapter against a real engine: the life of a box, and what the engine says of each end. It fails without an
//! engine.

#[expect(unreachable_pub, reason = "one module for several test binaries")]
mod support;

use bollard::query_parameters::LogsOptions;
use custody_docker::verify;
use custody_ports::containers::{BoxError, BoxState, Containers, End};
use futures::StreamExt;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use support::{Live, raw};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// How long the engine may take to tell of an end that was.
const HEARD_MAX: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_whole_life() {
    let live = Live::start().await;
    let spec = live.spec("life", "seven");
    assert!(live.docker.has_image(&spec.image).await.unwrap());
    assert_eq!(live.docker.resolve_image(&spec.image).await.unwrap(), Some(spec.image.clone()));
    assert_eq!(live.docker.inspect(&spec.name).await.unwrap(), None);

    let id = live.docker.create(&spec).await.unwrap();
    let made = live.docker.inspect(&spec.name).await.unwrap().unwrap();
    assert_eq!((made.id.as_str(), made.name.as_str()), (id.as_str(), spec.name.as_str()));
    assert_eq!((made.state, made.started_at, made.finished_at), (BoxState::Created, None, None));
    assert_eq!(made.labels["box"], "life");

    live.docker.start(&spec.name).await.unwrap();
    let ended = live.ended(&spec.name).await;
    assert_eq!(ended.state, BoxState::Exited { code: 7, oom: false, error: None });
    let (started, finished) = (ended.started_at.unwrap(), ended.finished_at.unwrap());
    assert!(ended.created_at <= started && started <= finished, "{ended:?}");

    live.docker.stop(&spec.name, 1_000).await.expect("stopping what has ended is safe");
    live.docker.remove(&spec.name).await.unwrap();
    assert_eq!(live.docker.inspect(&spec.name).await.unwrap(), None);
    live.docker.remove(&spec.name).await.expect("removing what is gone is safe");
}

#[tokio::test]
async fn the_engine_made_what_was_asked() {
    let live = Live::start().await;
    let spec = live.spec("verify", "sleep");
    live.docker.create(&spec).await.unwrap();
    let profile = custody_docker::Profile { mount_roots: Vec::new(), runtime: None };
    for _ in ["created", "running"] {
        let found = live.docker.inspect_answer(&spec.name).await.unwrap().unwrap();
        assert_eq!(verify(&found, &spec, &profile), []);
        live.docker.start(&spec.name).await.expect("starting what runs is safe");
    }
    // The comparison does compare: another limit is a difference.
    let other = custody_ports::containers::BoxSpec { pids: spec.pids + 1, ..spec.clone() };
    let found = live.docker.inspect_answer(&spec.name).await.unwrap().unwrap();
    assert_eq!(verify(&found, &other, &profile)[0].field, "HostConfig.PidsLimit");
}

#[tokio::test]
async fn memory_beyond_the_limit() {
    let live = Live::start().await;
    // In the second the main process ends well although its child was killed: the code alone would be a lie.
    for (name, eats, code) in [("eat", "eat", 137), ("child", "child-eats", 0)] {
        let spec = live.spec(name, eats);
        let begin = Instant::now();
        let mut ended = live.run_to_end(&spec).await;
        // The engine hears of the kernel's kill a moment after the end, on a busy machine also later.
        while matches!(ended.state, BoxState::Exited { oom: false, .. }) && begin.elapsed() < Duration::from_secs(30) {
            tokio::time::sleep(LOOK).await;
            ended = live.docker.inspect(&spec.name).await.unwrap().unwrap();
        }
        assert_eq!(ended.state, BoxState::Exited { code, oom: true, error: None });
    }
}

#[tokio::test]
async fn processes_beyond_the_limit_and_no_other_box_feels_it() {
    let live = Live::start().await;
    let mut first = live.spec("bomb", "fork");
    first.pids = 400;
    first.env.insert("BOX_STAY".to_owned(), "1".to_owned());
    live.docker.create(&first).await.unwrap();
    live.docker.start(&first.name).await.unwrap();
    let report = live.folder("out-bomb").join("report");
    let begin = Instant::now();
    while std::fs::read_to_string(&report).unwrap_or_default().is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(30), "the bomb did not report");
        tokio::time::sleep(LOOK).await;
    }
    assert_eq!(live.report("bomb"), [("fork".to_owned(), "399 EAGAIN".to_owned())]);

    let second = live.spec("quiet", "fork");
    let ended = live.run_to_end(&second).await;
    assert_eq!(ended.state, BoxState::Exited { code: 0, oom: false, error: None });
    assert_eq!(live.report("quiet"), [("fork".to_owned(), "31 EAGAIN".to_owned())]);
}

#[tokio::test]
async fn stop_ends_a_first_process_that_ignores_term() {
    let live = Live::start().await;
    let spec = live.spec("deaf", "sleep");
    live.docker.create(&spec).await.unwrap();
    live.docker.start(&spec.name).await.unwrap();
    let begin = Instant::now();
    live.docker.stop(&spec.name, 1_000).await.unwrap();
    let took = begin.elapsed();
    let status = live.docker.inspect(&spec.name).await.unwrap().unwrap();
    assert_eq!(status.state, BoxState::Exited { code: 137, oom: false, error: None });
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn a_name_is_a_lock() {
    let live = Live::start().await;
    let spec = live.spec("lock", "seven");
    live.docker.create(&spec).await.unwrap();
    assert_eq!(live.docker.create(&spec).await, Err(BoxError::NameTaken(spec.name.clone())));
    let found = live.docker.inspect(&spec.name).await.unwrap();
    assert!(found.is_some(), "the refused creation took the box of the first away");
}

#[tokio::test]
async fn nothing_is_pulled() {
    let live = Live::start().await;
    let mut spec = live.spec("missing", "seven");
    spec.image = format!("sha256:{}", "0".repeat(64));
    let begin = Instant::now();
    assert_eq!(live.docker.create(&spec).await, Err(BoxError::ImageMissing(spec.image.clone())));
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert!(!live.docker.has_image(&spec.image).await.unwrap());
    assert_eq!(live.docker.resolve_image("custody/no-such-image:1").await.unwrap(), None);
    // The engine would find it by the beginning of its id.
    assert!(!live.docker.has_image(&live.image[..20]).await.unwrap());
}

#[tokio::test]
async fn what_is_not_there() {
    let live = Live::start().await;
    let name = format!("{}-nobody", live.run);
    assert_eq!(live.docker.inspect(&name).await.unwrap(), None);
    assert_eq!(live.docker.start(&name).await, Err(BoxError::NoSuchBox(name.clone())));
    assert_eq!(live.docker.stop(&name, 0).await, Err(BoxError::NoSuchBox(name.clone())));
    live.docker.remove(&name).await.unwrap();
    let listening = live.docker.listen(&name, End::Any).await.map(drop);
    assert_eq!(listening, Err(BoxError::NoSuchBox(name)));
}

#[tokio::test]
async fn an_end_is_heard_of_by_whoever_listened_before_the_start_however_short_the_life() {
    let live = Live::start().await;
    for n in 0..10 {
        let spec = live.spec(&format!("short-{n}"), "seven");
        live.docker.create(&spec).await.unwrap();
        let mut next = live.docker.listen(&spec.name, End::Next).await.unwrap();
        assert!(futures::poll!(&mut next).is_pending(), "it was not even started");
        live.docker.start(&spec.name).await.unwrap();
        tokio::time::timeout(HEARD_MAX, next).await.expect("its end was missed");
        let ended = live.docker.inspect(&spec.name).await.unwrap().unwrap();
        assert_eq!(ended.state, BoxState::Exited { code: 7, oom: false, error: None });
        // Who comes late hears of it all the same, when any end will do.
        let any = live.docker.listen(&spec.name, End::Any).await.unwrap();
        tokio::time::timeout(HEARD_MAX, any).await.expect("it has ended");
    }
}

#[tokio::test]
async fn nothing_is_heard_of_a_box_that_runs_until_it_is_ended() {
    let live = Live::start().await;
    let spec = live.spec("runs", "sleep");
    live.docker.create(&spec).await.unwrap();
    live.docker.start(&spec.name).await.unwrap();
    let mut ended = live.docker.listen(&spec.name, End::Any).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut ended).await.is_err());
    assert_eq!(live.docker.inspect(&spec.name).await.unwrap().unwrap().state, BoxState::Running);
    live.docker.stop(&spec.name, 0).await.unwrap();
    tokio::time::timeout(HEARD_MAX, ended).await.expect("its end was missed");
}

#[tokio::test]
async fn a_box_that_cannot_start_is_refused_with_the_reason() {
    let live = Live::start().await;
    let spec = live.spec("broken", "seven");
    live.docker.create(&spec).await.unwrap();
    // The folder that it mounts goes away between its creation and its start.
    std::fs::remove_dir(live.folder("out-broken")).unwrap();
    match live.docker.start(&spec.name).await {
        Err(BoxError::Refused(why)) => assert!(why.contains("out-broken"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(live.docker.inspect(&spec.name).await.unwrap().unwrap().state, BoxState::Created);
}

#[tokio::test]
async fn list_is_by_every_label_and_in_any_state() {
    let live = Live::start().await;
    for (name, mode) in [("b-ended", "seven"), ("a-runs", "sleep"), ("c-made", "seven")] {
        let spec = live.spec(name, mode);
        live.docker.create(&spec).await.unwrap();
        if name != "c-made" {
            live.docker.start(&spec.name).await.unwrap();
        }
    }
    live.ended(&live.spec("b-ended", "seven").name).await;
    let all = live.docker.list(&live.labels()).await.unwrap();
    let seen: Vec<_> = all.into_iter().map(|b| (b.labels["box"].clone(), b.state)).collect();
    let ended = BoxState::Exited { code: 7, oom: false, error: None };
    let wanted = [("a-runs", BoxState::Running), ("b-ended", ended), ("c-made", BoxState::Created)];
    assert_eq!(seen, wanted.map(|(name, state)| (name.to_owned(), state)));

    let mut two = live.labels();
    two.insert("box".to_owned(), "c-made".to_owned());
    assert_eq!(live.docker.list(&two).await.unwrap().len(), 1);
    two.insert("box".to_owned(), "nobody".to_owned());
    assert_eq!(live.docker.list(&two).await.unwrap(), []);
    assert!(matches!(live.docker.list(&BTreeMap::new()).await, Err(BoxError::Refused(_))));
}

#[tokio::test]
async fn remove_ends_what_runs() {
    let live = Live::start().await;
    let spec = live.spec("gone", "sleep");
    live.docker.create(&spec).await.unwrap();
    live.docker.start(&spec.name).await.unwrap();
    let twice = tokio::join!(live.docker.remove(&spec.name), live.docker.remove(&spec.name));
    assert_eq!(twice, (Ok(()), Ok(())), "two removals at one time are one");
    assert_eq!(live.docker.inspect(&spec.name).await.unwrap(), None);
}

#[tokio::test]
async fn the_log_is_capped() {
    let live = Live::start().await;
    let spec = live.spec("flood", "flood");
    let ended = live.run_to_end(&spec).await;
    assert_eq!(ended.state, BoxState::Exited { code: 0, oom: false, error: None });
    let options = LogsOptions { stdout: true, tail: "all".to_owned(), ..LogsOptions::default() };
    let client = raw(&live.docker);
    let mut lines = Box::pin(client.logs(&spec.name, Some(options)));
    let mut bytes = 0;
    while let Some(line) = lines.next().await {
        bytes += line.unwrap().into_bytes().len();
    }
    assert!(bytes > 0 && bytes < 2 << 20, "13 MB were written, {bytes} are kept");
}

#[tokio::test]
async fn the_facts() {
    let live = Live::start().await;
    let facts = live.docker.facts().await.unwrap();
    assert!(!facts.version.is_empty());
    let (major, minor) = facts.api_version.split_once('.').unwrap();
    assert!((major.parse::<u32>().unwrap(), minor.parse::<u32>().unwrap()) >= (1, 41), "{facts:?}");
    assert!(["1", "2"].contains(&facts.cgroup_version.as_str()), "{facts:?}");
    assert!(facts.security.iter().any(|option| option.contains("seccomp")), "{facts:?}");
}
