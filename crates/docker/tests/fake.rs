//! The adapter against an engine that is absent, mute or says what a real one says only by accident. No engine is
//! needed: a Unix socket with written answers.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use custody_contracts::isolation::Sockets;
use custody_docker::{Deadlines, Docker, Profile};
use custody_ports::containers::{BoxError, BoxSpec, Containers, End};
use rstest::rstest;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

const VERSION: (&str, &str) = ("GET /version", r#"200 {"ApiVersion":"1.41","Version":"20.10.24"}"#);
const RUNNING: &str =
    r#"200 {"Id":"f00","Name":"/box-1","Created":"2026-11-22T21:26:00Z","State":{"Status":"running","Error":""}}"#;
const EXITED: &str = r#"200 {"Id":"f00","Name":"/box-1","Created":"2026-11-22T21:26:00Z","State":{"Status":"exited","ExitCode":0,"Error":""}}"#;
const MADE: &str =
    r#"200 {"Id":"f00","Name":"/box-1","Created":"2026-11-22T21:26:00Z","State":{"Status":"created","Error":""}}"#;
const BROKEN: &str = r#"200 {"Id":"f00","Name":"/box-1","Created":"2026-11-22T21:26:00Z","State":{"Status":"created","ExitCode":128,"Error":"no such mount"}}"#;
const CREATE: &str = "POST /containers/create";
const INSPECT: &str = "GET /containers/box-1/json";
const START: &str = "POST /containers/box-1/start";
const REMOVE: &str = "DELETE /containers/box-1";

/// Answers each call from a script: the first line whose call is the beginning of the request, used up, the last one
/// kept. `mute` never answers.
struct Fake {
    docker: Docker,
    seen: Arc<Mutex<Vec<String>>>,
    _folder: tempfile::TempDir,
}

fn fake(script: &[(&str, &str)]) -> Fake {
    let mut all = vec![VERSION];
    all.extend_from_slice(script);
    exactly(&all)
}

/// Without the answer to the first question, which every adapter asks.
fn exactly(script: &[(&str, &str)]) -> Fake {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine.sock");
    let seen = serve(&path, script);
    let docker = Docker::at(&format!("unix://{}", path.display()), profile(), deadlines()).unwrap();
    Fake { docker, seen, _folder: folder }
}

type Script = Arc<Mutex<Vec<(String, String)>>>;

fn script(lines: &[(&str, &str)]) -> Script {
    Arc::new(Mutex::new(lines.iter().map(|(call, say)| ((*call).to_owned(), (*say).to_owned())).collect()))
}

fn serve(path: &Path, lines: &[(&str, &str)]) -> Arc<Mutex<Vec<String>>> {
    let listener = UnixListener::bind(path).unwrap();
    let (script, seen) = (script(lines), Arc::new(Mutex::new(Vec::new())));
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((peer, _)) = listener.accept().await {
            tokio::spawn(answer(peer, Arc::clone(&script), Arc::clone(&log)));
        }
    });
    seen
}

async fn answer<P: AsyncRead + AsyncWrite + Unpin>(mut peer: P, script: Script, seen: Arc<Mutex<Vec<String>>>) {
    let (mut bytes, mut block) = (Vec::new(), [0; 4096]);
    let head = loop {
        let n = peer.read(&mut block).await.unwrap();
        bytes.extend_from_slice(&block[..n]);
        match bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            Some(end) => break end + 4,
            None if n == 0 => return,
            None => {}
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let length = |line: &str| line.to_lowercase().strip_prefix("content-length: ").map(|n| n.parse::<usize>().unwrap());
    let body = text.lines().find_map(length).unwrap_or(0);
    while bytes.len() < head + body {
        let n = peer.read(&mut block).await.unwrap();
        bytes.extend_from_slice(&block[..n]);
    }
    let line = text.lines().next().unwrap();
    // Whether the client writes the agreed version into the path is its own business.
    let call = match line.split_once(" /v1.") {
        Some((method, rest)) => format!("{method} /{}", rest.split_once('/').unwrap().1),
        None => line.to_owned(),
    };
    seen.lock().unwrap().push(call.clone());
    let say = {
        let mut script = script.lock().unwrap();
        let matching: Vec<usize> = (0..script.len()).filter(|i| call.starts_with(&script[*i].0)).collect();
        match matching.as_slice() {
            [] => "404 {\"message\":\"not in the script\"}".to_owned(),
            [last] => script[*last].1.clone(),
            [first, ..] => script.remove(*first).1,
        }
    };
    if say == "mute" {
        // Until the client gives up and closes.
        while peer.read(&mut block).await.is_ok_and(|n| n > 0) {}
        return;
    }
    let (status, json) = say.split_once(' ').unwrap();
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        json.len()
    );
    peer.write_all(format!("{head}{json}").as_bytes()).await.unwrap();
}

fn profile() -> Profile {
    Profile { mount_roots: Vec::new(), runtime: None }
}

fn deadlines() -> Deadlines {
    let ms = Duration::from_millis;
    Deadlines { control: ms(400), change: ms(400), removal: ms(200), removal_pause: ms(5) }
}

fn spec() -> BoxSpec {
    BoxSpec {
        name: "box-1".to_owned(),
        image: format!("sha256:{}", "0".repeat(64)),
        labels: BTreeMap::new(),
        env: BTreeMap::new(),
        mounts: Vec::new(),
        memory_bytes: 64 << 20,
        nano_cpus: 1,
        pids: 1,
        tmp_bytes: custody_ports::containers::SCRATCH_BYTES,
        home_bytes: custody_ports::containers::SCRATCH_BYTES,
        sockets: Sockets::Unix,
        runtime: None,
        slots: false,
    }
}

fn unavailable<T: std::fmt::Debug>(answer: Result<T, BoxError>) -> String {
    match answer {
        Err(BoxError::Unavailable(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nobody_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let host = format!("unix://{}/engine.sock", folder.path().display());
    let docker = Docker::at(&host, profile(), deadlines()).unwrap();
    let why = unavailable(docker.facts().await);
    assert!(why.contains(&host) && why.to_lowercase().contains("not found"), "{why}");
    // A socket that nobody listens at any more.
    drop(UnixListener::bind(folder.path().join("engine.sock")).unwrap());
    let why = unavailable(docker.inspect("box-1").await);
    assert!(why.contains(&host) && why.contains("refused"), "{why}");
    // It comes back: the adapter needs no restart.
    std::fs::remove_file(folder.path().join("engine.sock")).unwrap();
    serve(&folder.path().join("engine.sock"), &[VERSION, (INSPECT, RUNNING)]);
    assert!(docker.inspect("box-1").await.unwrap().is_some());
}

#[tokio::test]
async fn over_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("tcp://{}", listener.local_addr().unwrap());
    let script = script(&[VERSION, (INSPECT, RUNNING)]);
    tokio::spawn(async move {
        while let Ok((peer, _)) = listener.accept().await {
            tokio::spawn(answer(peer, Arc::clone(&script), Arc::default()));
        }
    });
    let docker = Docker::at(&host, profile(), deadlines()).unwrap();
    assert_eq!(docker.inspect("box-1").await.unwrap().unwrap().id, "f00");
}

#[rstest]
#[case::ssh("ssh://somewhere")]
#[case::https("https://somewhere:2376")]
#[case::relative("unix://docker.sock")]
#[case::empty("")]
fn an_address_of_another_kind(#[case] host: &str) {
    assert!(matches!(Docker::at(host, profile(), deadlines()), Err(BoxError::Refused(_))));
}

#[tokio::test]
async fn an_engine_that_is_too_old() {
    let fake = exactly(&[("GET /version", r#"200 {"ApiVersion":"1.40"}"#)]);
    match fake.docker.facts().await {
        Err(BoxError::Refused(why)) => assert!(why.contains("1.40 is older than 1.41"), "{why}"),
        other => panic!("{other:?}"),
    }
}

/// It accepts and never answers: every call ends by its own deadline.
#[rstest]
#[case::from_the_start(exactly_mute)]
#[case::after_the_first_question(mute_after_version)]
#[tokio::test]
async fn a_mute_engine(#[case] make: fn() -> Fake) {
    let fake = make();
    let docker = &fake.docker;
    let begin = Instant::now();
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    unavailable(docker.inspect("box-1").await);
    unavailable(docker.has_image("custody/pi:1").await);
    unavailable(docker.create(&spec()).await);
    unavailable(docker.start("box-1").await);
    unavailable(docker.stop("box-1", 0).await);
    unavailable(docker.remove("box-1").await);
    unavailable(docker.list(&labels).await);
    let why = unavailable(docker.facts().await);
    unavailable(docker.listen("box-1", End::Any).await.map(drop));
    assert!(why.contains("no answer in 400 ms"), "{why}");
    assert!(fake.seen.lock().unwrap().len() >= 9, "every call reached it");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

fn exactly_mute() -> Fake {
    exactly(&[("", "mute")])
}
fn mute_after_version() -> Fake {
    fake(&[("", "mute")])
}

fn refused(why: &str) -> Result<(), BoxError> {
    Err(BoxError::Refused(why.to_owned()))
}
fn not_known(why: &str) -> Result<(), BoxError> {
    Err(BoxError::Unavailable(why.to_owned()))
}

#[rstest]
#[case::no_image(&[(CREATE, r#"404 {"message":"No such image"}"#)], Err(BoxError::ImageMissing(spec().image)))]
#[case::taken(&[(CREATE, r#"409 {"message":"in use"}"#)], Err(BoxError::NameTaken("box-1".to_owned())))]
#[case::bad(&[(CREATE, r#"400 {"message":"bad"}"#)], refused("bad"))]
#[case::fell_over_before(&[(CREATE, r#"500 {"message":"disk full"}"#)], refused("disk full"))]
#[case::fell_over_after(&[(CREATE, r#"500 {"message":"oops"}"#), (INSPECT, MADE)], not_known("status 500: oops"))]
#[case::fell_over_and_nobody_knows(&[(CREATE, r#"500 {"message":"oops"}"#), (INSPECT, "503 {}")], not_known("status 500: oops"))]
#[case::a_proxy_in_between(&[(CREATE, r#"502 {"message":"gateway"}"#)], not_known("status 502: gateway"))]
#[tokio::test]
async fn create_by_status(#[case] script: &[(&str, &str)], #[case] wanted: Result<(), BoxError>) {
    assert_eq!(fake(script).docker.create(&spec()).await.map(drop), wanted);
}

#[tokio::test]
async fn another_box_than_asked_is_removed_and_refused() {
    let fake = fake(&[
        (CREATE, r#"201 {"Id":"f00","Warnings":["limits discarded"]}"#),
        ("GET /containers/f00/json", MADE),
        ("DELETE /containers/f00", "204 "),
    ]);
    match fake.docker.create(&spec()).await {
        Err(BoxError::Refused(why)) => assert!(why.contains("another box than asked: HostConfig is null"), "{why}"),
        other => panic!("{other:?}"),
    }
    let seen = fake.seen.lock().unwrap().clone();
    assert!(seen.last().unwrap().starts_with("DELETE /containers/f00"), "{seen:?}");
}

#[rstest]
#[case::started(&[(START, "204 ")], Ok(()))]
#[case::runs_already(&[(START, "304 ")], Ok(()))]
#[case::gone(&[(START, r#"404 {"message":"no"}"#)], Err(BoxError::NoSuchBox("box-1".to_owned())))]
#[case::being_removed(&[(START, r#"409 {"message":"marked for removal"}"#)], refused("marked for removal"))]
#[case::cannot_run(&[(START, r#"500 {"message":"OCI"}"#), (INSPECT, BROKEN)], refused("no such mount"))]
#[case::fell_over_after(&[(START, r#"500 {"message":"OCI"}"#), (INSPECT, RUNNING)], Ok(()))]
#[case::fell_over_after_a_short_life(&[(START, r#"500 {"message":"OCI"}"#), (INSPECT, EXITED)], Ok(()))]
#[case::fell_over_before(&[(START, r#"500 {"message":"OCI"}"#), (INSPECT, MADE)], not_known("status 500: OCI"))]
#[case::not_now(&[(START, r#"503 {"message":"later"}"#)], not_known("status 503: later"))]
#[tokio::test]
async fn start_by_status(#[case] script: &[(&str, &str)], #[case] wanted: Result<(), BoxError>) {
    assert_eq!(fake(script).docker.start("box-1").await, wanted);
}

const BUSY: &str = r#"409 {"message":"removal of container box-1 is already in progress"}"#;

#[rstest]
#[case::removed(&[(REMOVE, "204 ")], Ok(()), 1)]
#[case::gone(&[(REMOVE, r#"404 {"message":"no"}"#)], Ok(()), 1)]
#[case::in_progress(&[(REMOVE, BUSY), (REMOVE, BUSY), (REMOVE, r#"404 {"message":"no"}"#)], Ok(()), 3)]
#[case::busy_mount(&[(REMOVE, r#"500 {"message":"device or resource busy"}"#), (REMOVE, "204 ")], Ok(()), 2)]
#[case::bad(&[(REMOVE, r#"400 {"message":"bad"}"#)], refused("bad"), 1)]
#[tokio::test]
async fn remove_by_status(#[case] script: &[(&str, &str)], #[case] wanted: Result<(), BoxError>, #[case] tries: usize) {
    let fake = fake(script);
    assert_eq!(fake.docker.remove("box-1").await, wanted);
    assert_eq!(fake.seen.lock().unwrap().iter().filter(|call| call.starts_with(REMOVE)).count(), tries);
}

#[rstest]
#[case::in_progress(BUSY, "already in progress")]
#[case::busy_mount(r#"500 {"message":"device or resource busy"}"#, "busy")]
#[tokio::test]
async fn a_removal_has_an_end(#[case] say: &str, #[case] words: &str) {
    let fake = fake(&[(REMOVE, say)]);
    let begin = Instant::now();
    let why = unavailable(fake.docker.remove("box-1").await);
    assert!(why.contains(words), "{why}");
    assert!(begin.elapsed() >= Duration::from_millis(200) && begin.elapsed() < Duration::from_secs(5));
    assert!(fake.seen.lock().unwrap().iter().filter(|call| call.starts_with(REMOVE)).count() > 2);
}

#[tokio::test]
async fn stop_asks_for_whole_seconds_of_grace() {
    let fake = fake(&[("POST /containers/box-1/stop", "304 ")]);
    for grace_ms in [0, 1, 1_000, 1_001] {
        fake.docker.stop("box-1", grace_ms).await.unwrap();
    }
    let seen = fake.seen.lock().unwrap().clone();
    let asked: Vec<&str> = seen.iter().filter_map(|call| call.split_once("t=")).map(|(_, t)| &t[..1]).collect();
    assert_eq!(asked, ["0", "1", "1", "2"]);
}

/// A name goes into a URL: what is none never reaches the engine.
#[rstest]
#[case("../images/x")]
#[case("box-1?force=1")]
#[case("deadbeef")]
#[case("")]
#[tokio::test]
async fn no_call_for_a_name_that_is_none(#[case] name: &str) {
    let fake = fake(&[]);
    assert!(matches!(fake.docker.inspect(name).await, Err(BoxError::Refused(_))));
    assert!(matches!(fake.docker.start(name).await, Err(BoxError::Refused(_))));
    assert!(matches!(fake.docker.stop(name, 0).await, Err(BoxError::Refused(_))));
    assert!(matches!(fake.docker.listen(name, End::Any).await, Err(BoxError::Refused(_))));
    assert!(matches!(fake.docker.remove(name).await, Err(BoxError::Refused(_))));
    assert!(matches!(
        fake.docker.create(&BoxSpec { name: name.to_owned(), ..spec() }).await,
        Err(BoxError::Refused(_))
    ));
    assert!(matches!(fake.docker.resolve_image("../containers/json").await, Err(BoxError::Refused(_))));
    assert_eq!(*fake.seen.lock().unwrap(), Vec::<String>::new());
}

/// An engine that answers a wait in two parts, each when it is told to.
async fn slow_waiter(path: &Path, head: &'static str, tell: tokio::sync::oneshot::Receiver<&'static str>) -> String {
    let listener = UnixListener::bind(path).unwrap();
    let (mut peer, _) = listener.accept().await.unwrap();
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        assert!(peer.read_buf(&mut asked).await.unwrap() > 0);
    }
    peer.write_all(head.as_bytes()).await.unwrap();
    if let Ok(rest) = tell.await {
        peer.write_all(rest.as_bytes()).await.unwrap();
    }
    String::from_utf8(asked).unwrap().lines().next().unwrap().to_owned()
}

const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[rstest]
#[case::the_next_end(End::Next, "next-exit", Some("10\r\n{\"StatusCode\":0}\r\n"))]
#[case::any_end(End::Any, "not-running", Some("10\r\n{\"StatusCode\":0}\r\n"))]
#[case::the_engine_goes_away(End::Any, "not-running", None)]
#[tokio::test]
async fn listening_begins_with_the_head_of_the_answer_and_ends_with_what_comes_after(
    #[case] end: End,
    #[case] condition: &str,
    #[case] rest: Option<&'static str>,
) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine.sock");
    let (tell, told) = tokio::sync::oneshot::channel();
    let engine = tokio::spawn({
        let path = path.clone();
        async move { slow_waiter(&path, HEAD, told).await }
    });
    while !path.exists() {
        tokio::task::yield_now().await;
    }
    let docker = Docker::at(&format!("unix://{}", path.display()), profile(), deadlines()).unwrap();
    let mut heard = docker.listen("box-1", end).await.unwrap();
    assert!(futures::poll!(&mut heard).is_pending());
    match rest {
        Some(rest) => tell.send(rest).unwrap(),
        None => drop(tell),
    }
    heard.await;
    assert_eq!(engine.await.unwrap(), format!("POST /containers/box-1/wait?condition={condition} HTTP/1.1"));
}

#[rstest]
#[case::nobody("404 {}", "does not exist")]
#[case::bad(r#"400 {"message":"bad"}"#, "refused")]
#[case::fell_over(r#"500 {"message":"oops"}"#, "status 500")]
#[tokio::test]
async fn who_is_not_listened_for_is_told_why(#[case] say: &'static str, #[case] words: &str) {
    let fake = fake(&[("POST /containers/box-1/wait", say)]);
    let refused = fake.docker.listen("box-1", End::Any).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains(words), "{refused}");
}

#[tokio::test]
async fn a_box_that_goes_away_during_the_list_is_not_in_it() {
    let list = r#"200 [{"Id":"gone"},{"Id":"f00"}]"#;
    let fake = fake(&[("GET /containers/json", list), ("GET /containers/f00/json", RUNNING)]);
    let labels = BTreeMap::from([("custody.instance".to_owned(), "i-1".to_owned())]);
    let found = fake.docker.list(&labels).await.unwrap();
    assert_eq!(found.into_iter().map(|b| b.name).collect::<Vec<_>>(), ["box-1"]);
    let seen = fake.seen.lock().unwrap().join("\n");
    assert!(seen.contains("all=true") && seen.contains("custody.instance%3Di-1"), "{seen}");
}
