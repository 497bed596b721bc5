//! Checkpoints leave the box: to a file, a syslog, a git repository, and a real C2SP witness (litewitness), which cosigns a
//! log that only grows and refuses one that was put back. `ops/trust/setup` builds it; without it these tests fail.

use crate::c2sp::{c2sp_verify, tool};
use crate::stack::{LOOK, Options, Stack, ran, short_folder};
use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};

/// How long anything may take here.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A witness with a key of its own.
struct Witness {
    folder: TempDir,
    _agent: Child,
    _server: Child,
    url: String,
    vkey: String,
}

impl Witness {
    async fn start() -> Witness {
        let folder = short_folder();
        let at = |name: &str| folder.path().join(name);
        let (key, socket) = (at("key"), at("agent"));
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key)).await;
        let mut agent = Command::new("ssh-agent");
        let agent = agent.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        until("the agent's socket", || socket.exists().then_some(())).await;
        run(Command::new("ssh-add").arg("-q").arg(&key).env("SSH_AUTH_SOCK", &socket)).await;
        let told = run(Command::new("ssh-keygen").arg("-lf").arg(key.with_extension("pub"))).await;
        let fingerprint = told.split(' ').nth(1).unwrap().to_owned();
        // It takes no port 0 that it would tell; the one found here is free, and it says so when it is not.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = format!("127.0.0.1:{port}");
        let mut server = Command::new(tool("litewitness"));
        server.args(["-name", "witness.test/w1", "-key", &fingerprint, "-listen", &listen]);
        server.arg("-ssh-agent").arg(&socket).arg("-db").arg(at("db")).stderr(Stdio::piped()).kill_on_drop(true);
        let mut server = server.spawn().unwrap();
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
        let mut vkey = String::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((_, key)) = line.split_once("vkey=") {
                vkey = key.trim().to_owned();
            }
            if line.contains("msg=listening") {
                break;
            }
        }
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        until("the witness to listen", || std::net::TcpStream::connect(&listen).ok()).await;
        Witness { folder, _agent: agent, _server: server, url: format!("http://{listen}"), vkey }
    }

    /// Tells it of a log.
    async fn knows(&self, vkey: &str) {
        run(Command::new(tool("addlog")).arg(self.folder.path().join("db")).arg(vkey)).await;
    }
}

async fn run(command: &mut Command) -> String {
    ran(command).await.ended(0).out
}

async fn until<T>(what: &str, met: impl Fn() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = met() {
            return found;
        }
        assert!(began.elapsed() < WAIT_MAX, "waited for {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// How the place of this kind stands, once it stands so.
async fn standing(stack: &Stack, kind: &str, met: impl Fn(&Value) -> bool) -> Value {
    let file = stack.state().join("checkpoints/outside.json");
    until(kind, || {
        let all: Value = serde_json::from_slice(&fs::read(&file).ok()?).ok()?;
        all.as_array()?.iter().find(|s| s["name"].as_str().is_some_and(|n| n.starts_with(kind)) && met(s)).cloned()
    })
    .await
}

fn sent(standing: &Value) -> bool {
    standing["sent"].as_u64() > Some(0)
}

async fn log_key(stack: &Stack, name: &str) -> String {
    let folder = stack.home().join(name);
    stack.ok(&["audit", "export", "--tiles", folder.to_str().unwrap()]).await;
    fs::read_to_string(folder.join("log.vkey")).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_reach_a_file_a_syslog_and_a_repository() {
    let outside = short_folder();
    let at = |name: &str| outside.path().join(name);
    run(Command::new("git").args(["init", "-q", "--bare"]).arg(at("repository"))).await;
    let syslog = UnixDatagram::bind(at("log")).unwrap();
    let config = format!(
        "[audit]\ncopies = [{:?}, {:?}]\nsyslog = [\"unix:{}\"]\n[[audit.git]]\nfolder = {:?}\nevery = 1\n",
        at("notes"),
        at("no/such/folder/notes"),
        at("log").display(),
        at("repository"),
    );
    let mut stack = Stack::with(Options { config: Some(config), ..Options::default() }).await;
    stack.run(&["hello"]).await;
    for kind in ["syslog", "git"] {
        standing(&stack, kind, sent).await;
    }
    standing(&stack, &format!("file {}", at("notes").display()), sent).await;
    let lost = standing(&stack, &format!("file {}", at("no").display()), |s| s["dropped"].as_u64() > Some(0)).await;
    assert!(lost["error"].as_str().unwrap().contains("No such file"), "{lost}");
    let told = stack.custody(&["doctor", "-o", "json"]).await.json();
    let check = told["checks"].as_array().unwrap().iter().find(|c| c["check"] == "checkpoints").unwrap();
    assert_eq!(check["status"], "warn", "a place that is gone is told: {check}");
    stack.ok(&["audit", "verify"]).await;
    stack.stop().await;

    let mut datagram = vec![0; 65_536];
    let bytes = syslog.recv(&mut datagram).await.unwrap();
    assert!(datagram[..bytes].starts_with(b"<109>1 "));
    let lines = fs::read_to_string(at("notes")).unwrap();
    let newest: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    let shown =
        run(Command::new("git").arg("-C").arg(at("repository")).args(["show", "custody-checkpoints:checkpoint"])).await;
    assert_eq!(shown, newest["note"].as_str().unwrap(), "the newest one is there after an orderly stop");
}

fn copy(from: &Path, to: &Path) {
    let _gone = fs::remove_dir_all(to);
    let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_witness_cosigns_a_log_that_grows_and_refuses_one_that_was_put_back() {
    let witness = Witness::start().await;
    let config =
        format!("[audit]\n[[audit.witnesses]]\nurl = {:?}\nkey = {:?}\nevery_ms = 1000\n", witness.url, witness.vkey);
    let mut stack = Stack::with(Options { config: Some(config), ..Options::default() }).await;
    stack.run(&["hello"]).await;
    // Nobody told the witness of this log: it refuses, and the log goes on.
    let refused = standing(&stack, "witness", |s| s["refused"].as_u64() > Some(0)).await;
    assert!(refused["error"].as_str().unwrap().contains("status 403"), "{refused}");
    let log = log_key(&stack, "key").await;
    witness.knows(&log).await;
    standing(&stack, "witness", sent).await;

    stack.stop().await;
    let (state, backup): (PathBuf, PathBuf) = (stack.state(), stack.home().join("backup"));
    copy(&state, &backup);
    stack.up(&[]).await;
    let dispatch = stack.launch(&["hello again"]).await;
    stack.ended(&dispatch).await;
    let last = stack.ok(&["audit", "prove", &dispatch, "-o", "json"]).await.json()["focus"].as_u64().unwrap();
    standing(&stack, "witness", |s| s["size"].as_u64() >= Some(last)).await;

    // What is proved now is proved under a checkpoint that the witness cosigned; a stranger's verifier says so too.
    let (file, folder) = (stack.home().join("proof.json"), stack.home().join("proofs"));
    let arguments = ["audit", "prove", &dispatch, "--output-file", file.to_str().unwrap()];
    stack.ok(&[&arguments[..], &["--tlog", folder.to_str().unwrap()]].concat()).await;
    let verify = ["audit", "verify", file.to_str().unwrap(), "--witness", &witness.vkey];
    let told = stack.ok(&verify).await;
    assert!(told.out.contains("witnessed by witness.test/w1"), "{told:?}");
    let entry = folder.join(format!("{last:012}"));
    let (proof, event) = (entry.with_extension("tlog-proof"), entry.with_extension("json"));
    let files = [proof.to_str().unwrap(), event.to_str().unwrap()];
    c2sp_verify(&[&["proof", "-log", &log, "-witness", &witness.vkey][..], &files].concat()).await.ended(0);
    let other = Witness::start().await;
    c2sp_verify(&[&["proof", "-log", &log, "-witness", &other.vkey][..], &files].concat()).await.ended(1);
    stack.custody(&["audit", "verify", file.to_str().unwrap(), "--witness", &other.vkey]).await.ended(9);
    stack.stop().await;

    // An older copy of everything that this machine holds agrees with itself. The witness knows better.
    copy(&backup, &state);
    stack.up(&[]).await;
    stack.run(&["another history"]).await;
    let ahead = standing(&stack, "witness", |s| s["refused"].as_u64() > Some(0) && s["error"].is_string()).await;
    let why = ahead["error"].as_str().unwrap();
    assert!(why.contains("WITNESS_AHEAD") || why.contains("status 422"), "{why}");
    stack.ok(&["audit", "verify"]).await;
    let doctor = stack.custody(&["doctor", "-o", "json"]).await.ended(1).json();
    let check = doctor["checks"].as_array().unwrap().iter().find(|c| c["check"] == "checkpoints").unwrap();
    assert_eq!(check["status"], "fail", "{check}");
}
