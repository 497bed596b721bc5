//! One installation for one test: a state folder with a short path, the real binary as a child, a scripted model. It
//! is stopped, and looked at for left-over boxes, when the test ends.

use custody_docker::{Docker, Profile};
use custody_nats::{ConnectOptions, Connection, Credentials, RequestClient, Seed};
use custody_ports::containers::{BoxState, BoxStatus, Containers};
use custody_streams::accounts::ServiceUser;
use custody_testkit::model::{ScriptedModel, Turn};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::Instant;

/// How long the binary may take to be ready.
const READY_MAX: Duration = Duration::from_secs(60);
/// How long any one command may take.
const COMMAND_MAX: Duration = Duration::from_secs(120);
/// How long an orderly stop may take.
const STOP_MAX: Duration = Duration::from_secs(45);
/// How long a box may take to be removed after its end; the reaper gives an unclaimed one 30 s.
const REMOVED_MAX: Duration = Duration::from_secs(60);
/// Between two looks.
pub(crate) const LOOK: Duration = Duration::from_millis(25);

/// Which model the installation has.
#[derive(Debug, Default)]
pub(crate) enum Model {
    /// One that echoes what its script does not say.
    #[default]
    Scripted,
    /// The one that this machine has.
    Local,
}

/// What differs from the default.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// What the scripted model does.
    pub(crate) script: Vec<Turn>,
    /// Which model.
    pub(crate) model: Model,
    /// The configuration file's text.
    pub(crate) config: Option<String>,
    /// Environment of `up`.
    pub(crate) env: Vec<(String, String)>,
    /// Everything runs where there is no network but this machine's own loopback. Needs root.
    pub(crate) offline: bool,
    /// The state folder is a file system of its own, of so many MiB. Needs root.
    pub(crate) disk_mib: Option<u32>,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Ran {
    /// Standard output as one document.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Asserts how it ended.
    pub(crate) fn ended(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }
}

/// One installation.
#[derive(Debug)]
pub(crate) struct Stack {
    /// Before the folder: fields end in this order.
    _disk: Option<Disk>,
    folder: TempDir,
    up: Option<Child>,
    model: Option<ScriptedModel>,
    env: Vec<(String, String)>,
    offline: bool,
}

/// A small file system, until this is dropped.
#[derive(Debug)]
struct Disk(PathBuf);

impl Disk {
    fn mounted(at: PathBuf, mib: u32) -> Disk {
        fs::create_dir_all(&at).unwrap();
        let size = format!("size={mib}m,mode=0700");
        let mut mount = std::process::Command::new("mount");
        let output = mount.args(["-t", "tmpfs", "-o", &size, "custody-test"]).arg(&at).output().unwrap();
        assert!(output.status.success(), "a tmpfs cannot be mounted; run this test as root: {output:?}");
        Disk(at)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let ended = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
        if !std::thread::panicking() {
            assert!(ended.unwrap().success(), "{} is still mounted", self.0.display());
        }
    }
}

/// Brings up the loopback of a new network namespace and becomes the program.
const ALONE: &str = "ip link set lo up && exec \"$0\" \"$@\"";

/// A folder whose sockets stay below the longest path that a socket may have.
pub(crate) fn short_folder() -> TempDir {
    tempfile::Builder::new().prefix("cst").tempdir_in("/tmp").unwrap()
}

/// The cache folder that holds images' documents, the server and the local model.
pub(crate) fn cache() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("CUSTODY_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|p| p.join("custody")))
        .or_else(|| set("HOME").map(|p| p.join(".cache/custody")))
        .unwrap()
}

/// The binary with an environment of its own.
pub(crate) fn binary(home: &Path) -> tokio::process::Command {
    own_environment(home, tokio::process::Command::new(BINARY))
}

const BINARY: &str = env!("CARGO_BIN_EXE_custody");

fn own_environment(home: &Path, mut command: tokio::process::Command) -> tokio::process::Command {
    let kept = ["PATH", "DOCKER_HOST"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let kept: Vec<_> = kept.collect();
    let server = custody_nats::server::find_binary().unwrap();
    let log = std::env::var("CUSTODY_LOG").unwrap_or_else(|_| "warn".into());
    command.env_clear().envs(kept).env("HOME", home).env("USER", "tester").env("CUSTODY_LOG", log);
    command.env("CUSTODY_CACHE", cache()).env("CUSTODY_NATS_SERVER", server);
    command.env("CUSTODY_RUNNERS", home.join("runners"));
    command.stdin(Stdio::null()).current_dir(home).kill_on_drop(true);
    command
}

/// Runs a command to its end, within a bound.
pub(crate) async fn ran(command: &mut tokio::process::Command) -> Ran {
    let output = tokio::time::timeout(COMMAND_MAX, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("not done after {COMMAND_MAX:?}: {command:?}")).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Puts the documents of the runner images into a folder.
pub(crate) fn runners(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for name in ["custody-agent", "misbehave"] {
        let file = format!("{name}.runner.json");
        let from = cache().join("runners").join(&file);
        let copied = fs::copy(&from, folder.join(&file));
        copied.unwrap_or_else(|e| panic!("{}: {e}; run: cargo xtask image {name} --load", from.display()));
    }
}

impl Stack {
    /// An installation that is ready.
    pub(crate) async fn start() -> Stack {
        Stack::with(Options::default()).await
    }

    /// One that differs.
    pub(crate) async fn with(options: Options) -> Stack {
        let mut stack = Stack::prepared(options);
        stack.up(&[]).await;
        stack.has_images().await;
        stack
    }

    /// One that is not started yet.
    pub(crate) fn prepared(options: Options) -> Stack {
        let folder = short_folder();
        runners(&folder.path().join("runners"));
        if let Some(text) = options.config {
            fs::write(folder.path().join("config.toml"), text).unwrap();
        }
        let model = match options.model {
            Model::Scripted => Some(ScriptedModel::unix(&folder.path().join("model.sock"), options.script).unwrap()),
            Model::Local => None,
        };
        let disk = options.disk_mib.map(|mib| Disk::mounted(folder.path().join("s"), mib));
        Stack { _disk: disk, folder, up: None, model, env: options.env, offline: options.offline }
    }

    /// Without its image a runner's every dispatch would fail in the same way.
    async fn has_images(&self) {
        for name in ["custody-agent", "misbehave"] {
            let file = self.home().join("runners").join(format!("{name}.runner.json"));
            let document: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
            let image = document["image"].as_str().unwrap();
            let there = docker().has_image(image).await.unwrap();
            assert!(there, "image {image} is not on this machine; run: cargo xtask image {name} --load");
        }
    }

    /// The test's folder.
    pub(crate) fn home(&self) -> &Path {
        self.folder.path()
    }

    /// The state folder.
    pub(crate) fn state(&self) -> PathBuf {
        self.home().join("s")
    }

    /// The model.
    pub(crate) fn model(&self) -> &ScriptedModel {
        self.model.as_ref().unwrap()
    }

    /// What `up` said on standard error, in all its lives.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.home().join("up.err")).unwrap_or_default()
    }

    /// Starts `up` and waits until it is ready.
    pub(crate) async fn up(&mut self, env: &[(&str, &str)]) {
        if let Err(status) = self.try_up(env).await {
            panic!("custody up ended with {status}:\n{}", self.log());
        }
    }

    /// Starts `up`; gives back how it ended when it did so before it was ready.
    pub(crate) async fn try_up(&mut self, env: &[(&str, &str)]) -> Result<(), ExitStatus> {
        assert!(self.up.is_none(), "it runs already");
        let out = self.home().join("up.out");
        let mut command = match self.offline {
            false => binary(self.home()),
            true => {
                let mut alone = tokio::process::Command::new("unshare");
                alone.args(["--net", "sh", "-c", ALONE, BINARY]);
                own_environment(self.home(), alone)
            }
        };
        let command = command.as_std_mut();
        command.args(["up", "--state"]).arg(self.state()).args(self.configured());
        if let Some(model) = &self.model {
            command.args(["--model-url", model.url()]);
        }
        command.envs(self.env.iter().cloned()).envs(env.iter().copied());
        let err = File::options().create(true).append(true).open(self.home().join("up.err")).unwrap();
        let mut child = command.stdout(File::create(&out).unwrap()).stderr(err).spawn().unwrap();
        let until = Instant::now() + READY_MAX;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return Err(status);
            }
            if fs::read_to_string(&out).unwrap().lines().any(|line| line.starts_with("Custody ")) {
                self.up = Some(child);
                return Ok(());
            }
            if Instant::now() >= until {
                self.up = Some(child);
                panic!("not ready after {READY_MAX:?}:\n{}", self.log());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn configured(&self) -> Vec<String> {
        let file = self.home().join("config.toml");
        if file.exists() { vec!["--config".into(), file.display().to_string()] } else { Vec::new() }
    }

    /// Process id of `up`.
    pub(crate) fn pid(&self) -> u32 {
        self.up.as_ref().unwrap().id()
    }

    /// Stops `up` in an orderly way.
    pub(crate) async fn stop(&mut self) {
        signal(self.pid(), Signal::TERM);
        let status = self.died(STOP_MAX).await;
        assert!(status.success(), "custody up stopped with {status}:\n{}", self.log());
    }

    /// Kills `up`.
    pub(crate) async fn kill(&mut self) {
        signal(self.pid(), Signal::KILL);
        self.died(STOP_MAX).await;
    }

    /// Waits until `up` has ended.
    pub(crate) async fn died(&mut self, within: Duration) -> ExitStatus {
        let mut child = self.up.take().unwrap();
        let until = Instant::now() + within;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() >= until {
                self.up = Some(child);
                panic!("custody up still runs after {within:?}:\n{}", self.log());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// A command on this installation.
    pub(crate) fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = match (self.offline, &self.up) {
            (true, Some(up)) => {
                let mut joined = tokio::process::Command::new("nsenter");
                joined.arg(format!("--net=/proc/{}/ns/net", up.id())).arg(BINARY);
                own_environment(self.home(), joined)
            }
            _ => binary(self.home()),
        };
        command.args(arguments).arg("--state").arg(self.state()).args(self.configured());
        command
    }

    /// Runs a command.
    pub(crate) async fn custody(&self, arguments: &[&str]) -> Ran {
        ran(&mut self.command(arguments)).await
    }

    /// Runs a command that must end with 0.
    pub(crate) async fn ok(&self, arguments: &[&str]) -> Ran {
        self.custody(arguments).await.ended(0)
    }

    /// Records a person's consent to a launcher on the default workspace; `more` says what differs.
    pub(crate) async fn grant(&self, subject: &str, launcher: &str, more: &[&str]) -> String {
        let own =
            ["grant", "issue", "--as", subject, "--launcher", launcher, "--dispatches", "10000", "--yes", "-o", "json"];
        let place: &[&str] = if more.contains(&"--workspace") { &[] } else { &["--workspace", "default:rw"] };
        let given = self.ok(&[&own, place, more].concat()).await.json();
        given["grant"].as_str().unwrap().to_owned()
    }

    /// Launches in the background and gives back the dispatch.
    pub(crate) async fn launch(&self, arguments: &[&str]) -> String {
        let all = [&["run", "--detach", "-o", "json"], arguments].concat();
        self.ok(&all).await.json()["dispatch"].as_str().unwrap().to_owned()
    }

    /// Launches, waits for the end and gives back the dispatch's row.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Value {
        let dispatch = self.launch(arguments).await;
        self.ended(&dispatch).await
    }

    /// A dispatch's output for people.
    pub(crate) async fn output(&self, dispatch: &str) -> String {
        self.ok(&["dispatch", "logs", dispatch]).await.out
    }

    /// A dispatch's row at its end.
    pub(crate) async fn ended(&self, dispatch: &str) -> Value {
        let over = |row: &Value| matches!(row["status"].as_str(), Some("completed" | "parked" | "ended" | "refused"));
        self.row_when(dispatch, over).await
    }

    /// A dispatch's row once it runs.
    pub(crate) async fn running(&self, dispatch: &str) -> Value {
        self.row_when(dispatch, |row| row["status"] == "running").await
    }

    async fn row_when(&self, dispatch: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let operator = self.operator().await;
        let until = Instant::now() + COMMAND_MAX;
        let mut last = Value::Null;
        loop {
            let answer = operator.ask("query.dispatch.get", &json!({ "id": dispatch })).await;
            let row = answer["ok"]["row"].clone();
            if row["dispatch"] == dispatch && wanted(&row) {
                return row;
            }
            if !row.is_null() {
                last = row;
            }
            assert!(Instant::now() < until, "still {last} {answer}:\n{}", self.log());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// A copy of the newest checkpoint that the state folder kept; waits for the first, which is due a second after the
    /// first event.
    pub(crate) async fn kept_checkpoint(&self, name: &str) -> PathBuf {
        let (latest, copy) = (self.state().join("checkpoints/latest"), self.home().join(name));
        let until = Instant::now() + Duration::from_secs(20);
        while !latest.exists() {
            assert!(Instant::now() < until, "no checkpoint: {}", self.log());
            tokio::time::sleep(LOOK).await;
        }
        fs::copy(&latest, &copy).unwrap();
        copy
    }

    /// What `up` says of itself.
    pub(crate) fn up_file(&self) -> Value {
        serde_json::from_slice(&fs::read(self.state().join("run/up.json")).unwrap()).unwrap()
    }

    /// NATS's address.
    pub(crate) fn url(&self) -> String {
        self.up_file()["nats_url"].as_str().unwrap().to_owned()
    }

    /// A connection as an operator, for queries.
    pub(crate) async fn operator(&self) -> Operator {
        let seed = seed(&self.state().join("users/operator.nk"));
        let inbox = ServiceUser::Operator.inbox_prefix();
        let connection = Connection::open(&options(self.url(), inbox, seed)).await.unwrap();
        Operator(RequestClient::new(&connection))
    }

    /// Containers of this installation.
    pub(crate) async fn containers(&self) -> Vec<BoxStatus> {
        containers(&self.state()).await
    }

    /// Waits until no container of this installation is left.
    pub(crate) async fn no_container_left(&self) {
        let until = Instant::now() + REMOVED_MAX;
        loop {
            let left = self.containers().await;
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < until, "left: {left:?}\n{}", self.log());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Containers that run now.
    pub(crate) async fn boxes_running(&self) -> Vec<BoxStatus> {
        self.containers().await.into_iter().filter(|b| b.state == BoxState::Running).collect()
    }
}

/// Someone who may ask.
#[derive(Debug)]
pub(crate) struct Operator(RequestClient);

impl Operator {
    /// One question; null when nobody answers in time.
    pub(crate) async fn ask(&self, subject: &str, body: &Value) -> Value {
        let bytes = body.to_string().into_bytes();
        let answer = self.0.request(subject, bytes, Duration::from_secs(10)).await;
        answer.map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).unwrap())
    }
}

/// The seed in a file.
pub(crate) fn seed(path: &Path) -> Seed {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Seed::parse(text.trim()).unwrap()
}

/// How a test connects.
pub(crate) fn options(url: String, inbox_prefix: String, seed: Seed) -> ConnectOptions {
    let credentials = Credentials::Seed(seed);
    ConnectOptions { url, name: "a live test".into(), inbox_prefix, credentials, wait: Duration::from_secs(10) }
}

/// Sends a signal to a process that the test started.
pub(crate) fn signal(pid: u32, signal: Signal) {
    // It may have ended by itself.
    let _gone = kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal);
}

/// The engine, only to look and to clean up.
pub(crate) fn docker() -> Docker {
    Docker::from_env(Profile { mount_roots: Vec::new(), runtime: None }).unwrap()
}

/// The engine, for a container of a test's own that mounts something below a folder.
pub(crate) fn docker_below(folder: &Path) -> Docker {
    Docker::from_env(Profile { mount_roots: vec![folder.to_owned()], runtime: None }).unwrap()
}

async fn containers(state: &Path) -> Vec<BoxStatus> {
    let Ok(instance) = fs::read_to_string(state.join("instance")) else { return Vec::new() };
    let labels = BTreeMap::from([("custody.instance".to_owned(), instance.trim().to_owned())]);
    docker().list(&labels).await.unwrap()
}

impl Drop for Stack {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            eprintln!("what custody up said:\n{}", self.log());
        }
        if let Some(mut child) = self.up.take() {
            signal(child.id(), Signal::TERM);
            let until = Instant::now() + STOP_MAX;
            while child.try_wait().unwrap().is_none() {
                if Instant::now() >= until {
                    child.kill().unwrap();
                    child.wait().unwrap();
                }
                std::thread::sleep(LOOK);
            }
        }
        // A test that killed `up` left its server; `down` ends it, and only it. What it finds of boxes is a fault of an
        // installation that had the time to clean up, so it is counted first.
        let state = self.state();
        let looked = std::thread::scope(|scope| {
            let looking = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let left = containers(&state).await;
                    (left, ran(binary(self.home()).arg("down").arg("--state").arg(&state)).await)
                })
            });
            looking.join()
        });
        if !failed {
            let (left, down) = looked.unwrap();
            assert_eq!(down.code, Some(0), "{down:?}");
            assert!(left.is_empty(), "left: {left:?}");
        }
    }
}

/// A fresh random number, for seeds that a failing test prints.
pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

/// A message id that no other test uses: a dispatch's id comes from it, and its box's name from that.
pub(crate) fn fresh() -> String {
    format!("m-{:016x}", random())
}

/// The next number after a seed: one step of splitmix64.
pub(crate) fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
