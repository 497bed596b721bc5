//! Nothing is left: after many dispatches there is no container, network, volume, socket, folder, mount, shim or consumer
//! that was not there before. `CUSTODY_LEAK_DISPATCHES` says how many; `ops/leaks` runs a thousand.

use crate::launcher::unit;
use crate::ledger::count;
use crate::stack::{LOOK, Options, Stack, fresh, options, seed};
use custody_nats::Connection;
use custody_streams::accounts::ServiceUser;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// Streams that readers make consumers of.
const STREAMS: [&str; 4] = ["LEDGER", "LAUNCH", "OUTPUT", "OBJ_blobs"];
/// How long what is on its way out may take: the reaper's grace and one round.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// How long one dispatch may take on a busy machine, on average.
const EACH_MAX: Duration = Duration::from_secs(4);

/// What of an installation is on the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    containers: usize,
    networks: BTreeSet<String>,
    volumes: BTreeSet<String>,
    run_folders: BTreeSet<String>,
    sockets: usize,
    mounts: Vec<String>,
    shims: Vec<String>,
    consumers: Vec<u64>,
}

impl Machine {
    /// Looks once.
    pub(crate) async fn look(stack: &Stack) -> Machine {
        let ids: BTreeSet<String> = stack
            .ledger()
            .await
            .into_iter()
            .filter(|e| e.kind == "run.started")
            .map(|e| e.data["container"].as_str().unwrap().to_owned())
            .collect();
        let runs = stack.state().join("runs");
        let state = stack.state().display().to_string();
        Machine {
            containers: stack.containers().await.len(),
            networks: names(&engine("/networks"), "Name"),
            volumes: names(engine("/volumes").get("Volumes").unwrap_or(&Value::Null), "Name"),
            run_folders: folder(&runs).iter().map(|p| p.display().to_string()).collect(),
            sockets: sockets(&runs),
            mounts: lines_with(Path::new("/proc/self/mountinfo"), |line| {
                line.contains(&state) || ids.iter().any(|id| line.contains(id))
            }),
            shims: shims(&ids),
            consumers: consumers(stack).await,
        }
    }

    /// Asserts that nothing is there that was not there before.
    pub(crate) fn is_as(&self, before: &Machine, after: &str) {
        assert_eq!(self.containers, before.containers, "containers after {after}");
        assert_eq!(
            self.networks.difference(&before.networks).collect::<Vec<_>>(),
            Vec::<&String>::new(),
            "networks after {after}"
        );
        assert_eq!(
            self.volumes.difference(&before.volumes).collect::<Vec<_>>(),
            Vec::<&String>::new(),
            "volumes after {after}"
        );
        assert_eq!(self.run_folders, before.run_folders, "run folders after {after}");
        assert_eq!(self.sockets, before.sockets, "sockets after {after}");
        assert_eq!(self.mounts, before.mounts, "mounts after {after}");
        assert_eq!(self.shims, before.shims, "shims after {after}");
        assert_eq!(self.consumers, before.consumers, "consumers of {STREAMS:?} after {after}");
    }

    /// The same but for consumers: those of a reader that has gone expire by themselves, after a time that is the server's.
    pub(crate) async fn settles_but_for_readers(stack: &Stack, before: &Machine, after: &str) {
        let until = Instant::now() + SETTLE_MAX;
        loop {
            let now = Machine { consumers: before.consumers.clone(), ..Machine::look(stack).await };
            let same = Machine { networks: before.networks.clone(), volumes: before.volumes.clone(), ..now.clone() }
                == *before;
            if same || Instant::now() >= until {
                return now.is_as(before, after);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until nothing is there that was not there before, as long as the reaper may take.
    async fn settles_to(stack: &Stack, before: &Machine, after: &str) -> Machine {
        Machine::settles_but_for_readers(stack, before, after).await;
        let now = Machine::look(stack).await;
        // Looking reads, and a read is a consumer for some seconds: from here on only the counts are asked.
        let until = Instant::now() + SETTLE_MAX;
        loop {
            let left = consumers(stack).await;
            if left.iter().zip(&before.consumers).all(|(now, then)| now <= then) {
                return Machine { consumers: left, ..now };
            }
            assert!(Instant::now() < until, "consumers of {STREAMS:?} after {after}: {left:?}, {:?}", before.consumers);
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Asks the engine itself, without any adapter of ours between.
fn engine(path: &str) -> Value {
    let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
    let socket = host.strip_prefix("unix://").unwrap_or_else(|| panic!("{host} is no socket on this machine"));
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: engine\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{head}");
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"))
}

fn names(list: &Value, field: &str) -> BTreeSet<String> {
    list.as_array().into_iter().flatten().map(|one| one[field].as_str().unwrap_or_default().to_owned()).collect()
}

fn folder(path: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Sockets below a folder of runs.
fn sockets(runs: &Path) -> usize {
    let inside = folder(runs).into_iter().flat_map(|run| folder(&run.join("gw")));
    inside.filter(|path| path.extension().is_some_and(|e| e == "sock")).count()
}

fn lines_with(path: &Path, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter(|line| wanted(line)).map(str::to_owned).collect()
}

/// Shims of containers of this installation, by their command lines.
fn shims(ids: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for process in folder(Path::new("/proc")) {
        let Ok(line) = std::fs::read_to_string(process.join("cmdline")) else { continue };
        if line.contains("containerd-shim") && ids.iter().any(|id| line.contains(id)) {
            found.push(line.replace('\0', " "));
        }
    }
    found
}

/// How many consumers each stream has.
async fn consumers(stack: &Stack) -> Vec<u64> {
    let seed = seed(&stack.state().join("users/operator.nk"));
    let connection = Connection::open(&options(stack.url(), ServiceUser::Operator.inbox_prefix(), seed)).await.unwrap();
    let mut counts = Vec::new();
    for stream in STREAMS {
        let answer = connection.client().request(format!("$JS.API.STREAM.INFO.{stream}"), "".into()).await.unwrap();
        let info: Value = serde_json::from_slice(&answer.payload).unwrap();
        counts.push(info["state"]["consumer_count"].as_u64().unwrap_or_else(|| panic!("{stream}: {info}")));
    }
    connection.close().await;
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn many_dispatches_leave_nothing_behind() {
    let wanted: usize = std::env::var("CUSTODY_LEAK_DISPATCHES").map_or(40, |text| text.parse().unwrap());
    let config = Some("[runtime]\nrunning_max = 4\n".to_owned());
    let stack = Stack::with(Options { config, ..Options::default() }).await;
    let web = stack.launcher("web").await;
    // The first one makes whatever is made once for all.
    let mut first = unit("web", "echo first");
    first["runner"] = json!("misbehave");
    let warm = web.ask(&fresh(), &first).await.to_string();
    stack.ended(&warm).await;
    stack.no_container_left().await;
    let before = Machine::look(&stack).await;
    let begun = Instant::now();
    for n in 0..wanted {
        let prompt = match n % 5 {
            0..=2 => format!("echo {n}"),
            3 => "session".to_owned(),
            _ => "crash 1".to_owned(),
        };
        let mut asked = unit("web", &prompt);
        asked["runner"] = json!("misbehave");
        web.ask(&fresh(), &asked).await;
    }
    let operator = stack.operator().await;
    let until = Instant::now() + EACH_MAX * u32::try_from(wanted).unwrap();
    loop {
        let open = json!({ "status": ["queued", "starting", "running", "stopping"], "limit": 1 });
        let answer = operator.ask("query.dispatch.ls", &open).await;
        let ended = stack.up_file().is_object() && answer["ok"]["rows"].as_array().is_some_and(Vec::is_empty);
        if ended && count(&stack.ledger().await, "run.finished") == wanted + 1 {
            break;
        }
        assert!(Instant::now() < until, "{answer}\n{}", stack.log());
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let took = begun.elapsed();
    let after = Machine::settles_to(&stack, &before, &format!("{wanted} dispatches")).await;
    eprintln!(
        "{wanted} dispatches in {:.1} s ({:.2}/s); before: {} containers, {} networks, {} volumes, {} sockets, {} mounts, \
         {} shims, {} run folders, consumers {:?}; after: {} containers, {} networks, {} volumes, {} sockets, {} mounts, \
         {} shims, {} run folders, consumers {:?}",
        took.as_secs_f64(),
        wanted as f64 / took.as_secs_f64(),
        before.containers,
        before.networks.len(),
        before.volumes.len(),
        before.sockets,
        before.mounts.len(),
        before.shims.len(),
        before.run_folders.len(),
        before.consumers,
        after.containers,
        after.networks.len(),
        after.volumes.len(),
        after.sockets,
        after.mounts.len(),
        after.shims.len(),
        after.run_folders.len(),
        after.consumers,
    );
    let ledger = stack.ledger().await;
    assert_eq!(count(&ledger, "run.started"), wanted + 1);
    stack.nothing_is_wrong().await;
}
