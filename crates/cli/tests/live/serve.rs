//! Other ways to run: roles apart from each other against somebody's server, and everything that `up` and `serve` must
//! refuse by name.

use crate::browser::Browser;
use crate::launcher::unit;
use crate::stack::{LOOK, Options, Ran, Stack, binary, fresh, ran, runners, short_folder, signal};
use custody_contracts::ids::LauncherId;
use custody_nats::Seed;
use custody_nats::server::PrivateServer;
use custody_streams::accounts::SyncInterval;
use custody_streams::spec::{StreamOptions, all};
use custody_testkit::model::ScriptedModel;
use rstest::rstest;
use rustix::process::Signal;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::process::Child;
use tokio::time::Instant;

/// How long a role may take to be ready.
const READY_MAX: Duration = Duration::from_secs(40);

/// An outside server, and a configuration that names it.
struct Outside {
    folder: TempDir,
    server: PrivateServer,
    /// A container engine that answers nobody and counts who comes.
    asked: Arc<AtomicUsize>,
}

fn write_seed(file: &Path, seed: &Seed) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, seed.expose()).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

impl Outside {
    async fn start(sync: SyncInterval) -> Outside {
        let folder = short_folder();
        let web = [LauncherId::parse("web").unwrap()];
        let server = PrivateServer::start(&folder.path().join("nats"), &web, sync).await.unwrap();
        server.apply(&all(&StreamOptions::one_machine())).await.unwrap();
        for (user, seed) in &server.services {
            write_seed(&folder.path().join("users").join(format!("{}.nk", user.as_str())), seed);
        }
        runners(&folder.path().join("runners"));
        let asked = Arc::new(AtomicUsize::new(0));
        let (engine, counted) = (UnixListener::bind(folder.path().join("engine.sock")).unwrap(), asked.clone());
        tokio::spawn(async move {
            while engine.accept().await.is_ok() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Outside { folder, server, asked }
    }

    fn counting_engine(&self) -> String {
        format!("unix://{}", self.home().join("engine.sock").display())
    }

    fn home(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the configuration, and the seed of the system account's user when it may be asked.
    fn configure(&self, may_ask: bool, assume: bool, model: &str) {
        if may_ask {
            write_seed(&self.home().join("users/system.nk"), &self.server.system());
        }
        let (url, users) = (self.server.server.url(), self.home().join("users"));
        let text = format!(
            "[nats]\nurl = {url:?}\ncredentials = {users:?}\nassume_sync_always = {assume}\n\n\
             [model]\nname = \"scripted\"\nurl = {model:?}\nmodel = \"scripted\"\n\n\
             [http]\nlisten = \"127.0.0.1:0\"\nlauncher = \"web\"\n"
        );
        fs::write(self.home().join("config.toml"), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = binary(self.home());
        command.args(arguments).arg("--state").arg(self.home().join("s"));
        command.arg("--config").arg(self.home().join("config.toml"));
        command
    }

    async fn custody(&self, arguments: &[&str]) -> Ran {
        ran(&mut self.command(arguments)).await
    }
}

/// A process of some roles.
struct Role {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Role {
    /// Starts one and waits until it serves.
    async fn start(outside: &Outside, name: &str, more: &[&str]) -> Role {
        let (out, err) = (outside.home().join(format!("{name}.out")), outside.home().join(format!("{name}.err")));
        let mut command = outside.command(&[&["serve", "--roles", name], more].concat());
        if name != "runtime" {
            // Only runtime touches the engine: whoever else did would be counted.
            command.env("DOCKER_HOST", outside.counting_engine());
        }
        let child = command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap()).spawn().unwrap();
        let mut role = Role { child, out, err };
        let until = Instant::now() + READY_MAX;
        while !role.said().contains("serving ") {
            let ended = role.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < until, "{name} {ended:?}: {}", role.log());
            tokio::time::sleep(LOOK).await;
        }
        role
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.err).unwrap()
    }

    async fn stop(mut self) {
        signal(self.child.id().unwrap(), Signal::TERM);
        let status = tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await.unwrap().unwrap();
        assert!(status.success(), "{status}: {}", self.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_in_separate_processes_against_an_outside_nats() {
    let outside = Outside::start(SyncInterval::Always).await;
    let model = ScriptedModel::unix(&outside.home().join("model.sock"), Vec::new()).unwrap();
    outside.configure(true, false, model.url());
    let shown = outside.custody(&["serve", "--roles", "runtime,gateway", "--show-keys"]).await.ended(0);
    let keys: Vec<&str> = shown.out.lines().flat_map(|key| ["--introduce", key]).collect();
    assert_eq!(keys.len(), 4, "{shown:?}");
    let mut roles = vec![Role::start(&outside, "authority", &keys).await];
    for name in ["projector", "gateway", "runtime"] {
        roles.push(Role::start(&outside, name, &[]).await);
    }
    let seed = &outside.server.launchers["web"];
    write_seed(&outside.home().join("s/launchers/web.nk"), seed);
    let public = seed.public_key();
    let register = ["launcher", "register", "web", "--subject", "u_jane", "--public-key", &public];
    outside.custody(&register).await.ended(0);
    let launch = ["run", "--launcher", "web", "--as", "u_jane", "hello"];
    let refused = outside.custody(&launch).await.ended(5);
    assert!(refused.err.contains("[GRANT_MISSING]"), "{refused:?}");
    let grant = ["grant", "issue", "--as", "u_jane", "--launcher", "web", "--workspace", "default:rw", "--yes"];
    outside.custody(&grant).await.ended(0);
    let ran = outside.custody(&launch).await.ended(0);
    assert!(ran.out.contains("You said: hello."), "{ran:?}");
    roles.push(Role::start(&outside, "api", &[]).await);
    let said = roles.last().unwrap().said();
    let base = said.lines().find_map(|l| l.strip_prefix("open ")).unwrap_or_else(|| panic!("no address: {said}"));
    a_person_chats_over_an_api_of_its_own(&outside, base).await;
    assert!(outside.custody(&["audit", "verify"]).await.ended(0).out.contains("PASS"));
    assert_eq!(outside.asked.load(Ordering::SeqCst), 0, "a role other than runtime connected to the engine");
    for role in roles.into_iter().rev() {
        role.stop().await;
    }
    // The count would have seen it: runtime itself, with that engine, is refused and counted.
    let mut command = outside.command(&["serve", "--roles", "runtime"]);
    let refused = crate::stack::ran(command.env("DOCKER_HOST", outside.counting_engine())).await.ended(8);
    assert!(refused.err.contains("[ENGINE_UNREACHABLE]"), "{refused:?}");
    assert!(outside.asked.load(Ordering::SeqCst) > 0);
    outside.server.server.stop().await;
}

/// The api role by itself: it launches as its own launcher, follows what the other processes do, and holds no key of a role.
async fn a_person_chats_over_an_api_of_its_own(outside: &Outside, base: &str) {
    let added = outside.custody(&["user", "add", "u_jane"]).await.ended(0);
    let said = [added.out.as_str(), &added.err].concat();
    let key =
        said.split_whitespace().find(|word| word.starts_with("ck_")).unwrap_or_else(|| panic!("no key: {added:?}"));
    let browser = Browser::signed_in(base, key).await.agreed().await;
    let mut socket = browser.socket().await;
    socket.sub(1, "dispatches", None).await;
    socket.frame("snap", 1).await;
    let mut unit = crate::browser::unit("u_jane", "hello again", None);
    unit["identity"]["launcher"] = "user:web".into();
    let cmd = serde_json::json!({ "t": "cmd", "id": fresh(), "name": "dispatch.start", "args": unit });
    socket.say(&cmd).await;
    let ack = socket.until(|f| matches!(f["t"].as_str(), Some("ack" | "nack"))).await;
    assert_eq!(ack["t"], "ack", "{ack}");
    let dispatch = ack["dispatch"].as_str().unwrap();
    let events = socket.events_until(1, "custody.run.finished.v1").await;
    assert_eq!(events.last().unwrap()["data"]["reason"], "completed", "{events:?}");
    let output = browser.get(&format!("/api/v1/dispatches/{dispatch}/output")).await.is(200);
    assert!(output.body.contains("You said: hello again."), "{output:?}");
}

#[rstest]
#[case::that_says_so(true, "SYNC_INTERVAL_UNSAFE")]
#[case::that_does_not_say(false, "SYNC_INTERVAL_UNKNOWN")]
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_may_lose_what_it_acknowledged_is_refused(#[case] may_ask: bool, #[case] code: &str) {
    let outside = Outside::start(SyncInterval::ServerDefault).await;
    outside.configure(may_ask, false, "unix:/nobody");
    let ran = outside.custody(&["serve", "--roles", "authority"]).await.ended(9);
    assert!(ran.err.contains(&format!("[{code}]")) && ran.err.contains("next: "), "{ran:?}");
    // An operator may vouch for a server that does not say, and never against one that does.
    outside.configure(may_ask, true, "unix:/nobody");
    if may_ask {
        let ran = outside.custody(&["serve", "--roles", "authority"]).await.ended(9);
        assert!(ran.err.contains("[SYNC_INTERVAL_UNSAFE]"), "{ran:?}");
    } else {
        let role = Role::start(&outside, "authority", &[]).await;
        assert!(role.log().contains("SYNC_INTERVAL_ASSUMED"), "{}", role.log());
        role.stop().await;
    }
    outside.server.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_server_is_refused_by_name() {
    let mut stack = Stack::prepared(Options::default());
    let old = stack.home().join("nats-server");
    fs::write(&old, "#!/bin/sh\necho 'nats-server: v2.9.10'\n").unwrap();
    fs::set_permissions(&old, fs::Permissions::from_mode(0o755)).unwrap();
    let status = stack.try_up(&[("CUSTODY_NATS_SERVER", old.to_str().unwrap())]).await.unwrap_err();
    assert_eq!(status.code(), Some(1));
    assert!(stack.log().contains("[NATS_TOO_OLD]") && stack.log().contains("next: "), "{}", stack.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_engine_up_says_so_and_leaves_nothing_behind() {
    let mut stack = Stack::prepared(Options::default());
    let status = stack.try_up(&[("DOCKER_HOST", "unix:///nonexistent/docker.sock")]).await.unwrap_err();
    assert_eq!(status.code(), Some(8));
    assert!(stack.log().contains("[ENGINE_UNREACHABLE]") && stack.log().contains("next: "), "{}", stack.log());
    let pid = stack.state().join("nats/nats-server.pid");
    assert!(!pid.exists(), "the server was left behind");
    stack.up(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_up_in_one_state_folder_is_refused() {
    let stack = Stack::start().await;
    let ran = stack.custody(&["up"]).await.ended(6);
    assert!(ran.err.contains("[ALREADY_RUNNING]") && ran.err.contains("next: "), "{ran:?}");
    assert_eq!(stack.run(&["hello"]).await["status"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_clearly_and_heals_when_there_is_space() {
    let stack = Stack::with(Options { disk_mib: Some(96), ..Options::default() }).await;
    assert_eq!(stack.run(&["hello"]).await["status"], "completed");
    let filler = stack.state().join("filler");
    let mut file = File::create(&filler).unwrap();
    // Until not one byte more fits.
    for block in [1 << 20, 4096, 1] {
        let bytes = vec![b'x'; block];
        while std::io::Write::write_all(&mut file, &bytes).is_ok() {}
    }
    drop(file);
    let ran = stack.custody(&["run", "hello"]).await.ended(8);
    assert!(ran.err.contains("[DISK_FULL]") && ran.err.contains("next: "), "{ran:?}");
    // Another program's launch is not acknowledged: what is not on the disk was not taken.
    let cli = stack.connect("cli").await;
    let bytes = cli.signed(cli.event(&fresh(), &unit("cli", &"x".repeat(20_000))));
    let ack = cli.connection.client().request("launch.cli.dispatch", bytes.into());
    let ack = tokio::time::timeout(Duration::from_secs(3), ack).await;
    if let Ok(Ok(answer)) = ack {
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
        assert!(answer["error"].is_object(), "a full disk took a launch: {answer}");
    }
    fs::remove_file(&filler).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let id = fresh();
    loop {
        let ran = stack.custody(&["run", "--id", &id, "--timeout", "10s", "are you back?"]).await;
        if ran.code == Some(0) {
            assert!(ran.out.contains("You said: are you back?"), "{ran:?}");
            break;
        }
        assert!(Instant::now() < until, "{ran:?}");
    }
    // Everything that was acknowledged is in the log, and nothing else.
    assert!(stack.ok(&["audit", "verify"]).await.out.contains("PASS"));
}

/// T45: who decides every tool call is not there, is no file, or cannot be understood. A policy of which a part is good is not
/// used at all; with a good one beside it Custody starts.
#[rstest]
#[case::missing(None, Some(2))]
#[case::cut_off(Some("@id(\"own\") forbid(principal, action"), Some(2))]
#[case::half_good(Some("@id(\"own\") forbid(principal, action, resource); permit(nonsense);"), Some(2))]
#[case::of_nothing_that_there_is(
    Some("@id(\"own\") forbid(principal, action, resource) when { context.nothing };"),
    Some(2)
)]
#[case::good(Some("@id(\"own\") forbid(principal, action, resource);"), None)]
#[tokio::test(flavor = "multi_thread")]
async fn t45_without_a_policy_that_is_good_as_a_whole_nothing_starts(
    #[case] text: Option<&str>,
    #[case] ends: Option<i32>,
) {
    let mut stack = Stack::prepared(Options::default());
    let policy = stack.home().join("policy.cedar");
    if let Some(text) = text {
        fs::write(&policy, text).unwrap();
    }
    fs::write(stack.home().join("config.toml"), format!("[tools]\npolicy = {:?}\n", policy.to_str().unwrap())).unwrap();
    match (stack.try_up(&[]).await, ends) {
        (Ok(()), None) => {}
        (Err(status), Some(code)) => {
            assert_eq!(status.code(), Some(code), "{status}: {}", stack.log());
            assert!(stack.log().contains("[POLICY_INVALID]") && stack.log().contains("next: "), "{}", stack.log());
        }
        (other, _) => panic!("{other:?}: {}", stack.log()),
    }
}
