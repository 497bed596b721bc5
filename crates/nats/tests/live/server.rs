//! The supervised server.

use crate::support::{LONG, launchers, server, soon};
use custody_nats::server::{PrivateServer, find_binary, verify_binary};
use custody_nats::{ServerError, ServerOptions, ServerState, Supervised};
use custody_streams::accounts::{Accounts, Launcher, ServiceUser, SyncInterval, UserKey};
use std::path::Path;

/// Written by another process: a file that this one has open for writing cannot be executed by anybody that a test
/// beside this one forks meanwhile ("text file busy").
fn script(folder: &Path, text: &str) -> std::path::PathBuf {
    let path = folder.join("fake-server");
    let write = r#"printf '%s' "$2" > "$1" && chmod 755 "$1""#;
    let mut command = std::process::Command::new("sh");
    let status = command.args(["-c", write, "sh"]).arg(&path).arg(text).status().unwrap();
    assert!(status.success());
    path
}

#[rstest::rstest]
#[case::old("nats-server: v2.9.10", Some("NATS_TOO_OLD"))]
#[case::buggy("nats-server: v2.14.0", Some("NATS_TOO_OLD"))]
#[case::tested("nats-server: v2.15.1", None)]
#[case::newer("nats-server: v2.16.0", None)]
#[case::major("nats-server: v3.0.0", Some("NATS_TOO_NEW"))]
#[case::silent("", Some("NATS_VERSION_UNREADABLE"))]
#[tokio::test]
async fn an_executable_of_another_version_is_refused_by_name(#[case] says: &str, #[case] code: Option<&str>) {
    let folder = tempfile::tempdir().unwrap();
    let binary = script(folder.path(), &format!("#!/bin/sh\necho '{says}'\n"));
    let refused = match verify_binary(&binary).await {
        Ok(_) => None,
        Err(ServerError::Version(finding)) => Some(finding.code),
        Err(other) => panic!("{other}"),
    };
    assert_eq!(refused.as_deref(), code);
}

fn options(binary: &Path, folder: &Path) -> ServerOptions {
    ServerOptions {
        binary: binary.to_owned(),
        state_dir: folder.join("state"),
        host: "127.0.0.1".to_owned(),
        port: None,
        file_bytes_max: 1 << 30,
        memory_bytes: None,
        sync_interval: SyncInterval::Always,
        accounts: Accounts::default(),
    }
}

#[tokio::test]
async fn a_server_that_ends_at_once_is_reported_with_its_last_words() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        "#!/bin/sh\n[ \"$1\" = --version ] && echo 'nats-server: v2.15.1' && exit 0\necho 'disk on fire' >&2\nexit 7\n";
    let binary = script(folder.path(), text);
    match soon("the refusal", Supervised::start(options(&binary, folder.path()))).await {
        Err(ServerError::NotReady { why, log }) => {
            assert!(why.contains('7'), "{why}");
            assert!(log.contains("disk on fire"), "{log}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_supervisors_of_one_folder_are_one_too_many() {
    let server = server().await;
    let options = ServerOptions {
        state_dir: server.folder.path().to_owned(),
        ..options(&find_binary().unwrap(), server.folder.path())
    };
    assert!(matches!(Supervised::start(options).await, Err(ServerError::InUse(_))));
    assert!(server.private.server.pid().is_some(), "the first one still runs");
}

/// A supervisor that was killed leaves its child behind; the next one ends that child and takes over the folder.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_left_behind_is_ended_before_the_next_start() {
    let server = server().await;
    let folder = tempfile::tempdir().unwrap();
    let binary = find_binary().unwrap();
    // What a killed supervisor leaves: a child started with this folder's configuration, and its pid file.
    let config = folder.path().canonicalize().unwrap().join("nats-server.conf");
    std::fs::write(&config, "listen: \"127.0.0.1:-1\"\n").unwrap();
    let mut left = tokio::process::Command::new(&binary)
        .arg("-c")
        .arg(&config)
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    std::fs::write(folder.path().join("nats-server.pid"), left.id().unwrap().to_string()).unwrap();
    let waiting = tokio::spawn(async move { left.wait().await });
    let private = soon("the start", PrivateServer::with_streams(folder.path(), &[])).await.unwrap();
    soon("the end of the one left behind", waiting).await.unwrap().unwrap();
    assert!(private.connect(ServiceUser::Authority).await.is_ok());
    // Another folder's server is not touched.
    assert!(server.connect(ServiceUser::Authority).await.client().flush().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pid_file_that_names_somebody_else_ends_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let mut other = tokio::process::Command::new("sleep").arg("600").kill_on_drop(true).spawn().unwrap();
    std::fs::write(folder.path().join("nats-server.pid"), other.id().unwrap().to_string()).unwrap();
    let private = soon("the start", PrivateServer::with_streams(folder.path(), &[])).await.unwrap();
    assert_eq!(other.try_wait().unwrap(), None, "it still runs");
    assert!(private.server.pid().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_adds_a_launcher_and_keeps_every_connection() {
    let folder = tempfile::tempdir().unwrap();
    let mut private = PrivateServer::with_streams(folder.path(), &launchers(&["a"])).await.unwrap();
    let authority = private.connect(ServiceUser::Authority).await.unwrap();
    let a = private.connect_launcher("a").await.unwrap();
    let before = (*authority.connects().borrow(), *a.connects().borrow());
    let pid = private.server.pid();
    private.add_launcher(&launchers(&["b"])[0]).await.unwrap();
    let b = private.connect_launcher("b").await.unwrap();
    for connection in [&authority, &a, &b] {
        tokio::time::timeout(LONG, connection.client().flush()).await.unwrap().unwrap();
    }
    let context = async_nats::jetstream::new(b.client().clone());
    context.publish("launch.b.dispatch", "x".into()).await.unwrap().await.unwrap();
    assert_eq!((*authority.connects().borrow(), *a.connects().borrow()), before);
    assert_eq!(private.server.pid(), pid);
    // What was loaded stays in force for the next life of the server.
    kill(&private).await;
    private.connect_launcher("b").await.unwrap();
}

async fn kill(private: &PrivateServer) {
    let killed = private.server.pid().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(killed).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let mut states = private.server.states();
    let again = |state: &ServerState| matches!(state, ServerState::Running { pid, .. } if *pid != killed);
    soon("the restart", states.wait_for(again)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_puts_a_launcher_out_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut private = PrivateServer::with_streams(folder.path(), &launchers(&["a", "b"])).await.unwrap();
    let (a, b) = (private.connect_launcher("a").await.unwrap(), private.connect_launcher("b").await.unwrap());
    let seed = private.launchers["a"].clone();
    private.remove_launcher(&launchers(&["a"])[0]).await.unwrap();
    // Whatever it sends now, also over the connection it had, reaches nobody.
    let context = async_nats::jetstream::new(a.client().clone());
    let sent =
        tokio::time::timeout(LONG, async { context.publish("launch.a.dispatch", "x".into()).await?.await }).await;
    assert!(!matches!(sent, Ok(Ok(_))), "{sent:?}");
    private.launchers.insert("a".to_owned(), seed);
    let again = private.connect_launcher("a").await;
    assert!(matches!(again, Err(custody_nats::ConnectError::Refused { .. })), "{again:?}");
    let context = async_nats::jetstream::new(b.client().clone());
    let ack = context.publish("launch.b.dispatch", "x".into()).await.unwrap().await.unwrap();
    assert_eq!(ack.sequence, 1);
    assert_eq!(*b.connects().borrow(), 1);
}

/// A nats-server refuses everybody for a moment while it reads its accounts.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_connects_while_accounts_are_read_anew_is_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let private = PrivateServer::with_streams(folder.path(), &launchers(&["a"])).await.unwrap();
    let (url, seed) = (private.server.url().to_owned(), private.services[&ServiceUser::Operator].clone());
    let over = tokio::sync::watch::Sender::new(false);
    let connecting = (0..4).map(|_| {
        let (url, seed, over) = (url.clone(), seed.clone(), over.subscribe());
        tokio::spawn(async move {
            let mut connected = 0;
            while !*over.borrow() {
                let options = custody_nats::ConnectOptions {
                    url: url.clone(),
                    name: "busy".to_owned(),
                    inbox_prefix: ServiceUser::Operator.inbox_prefix(),
                    credentials: custody_nats::Credentials::Seed(seed.clone()),
                    wait: LONG,
                };
                custody_nats::Connection::open(&options).await.unwrap().close().await;
                connected += 1;
            }
            connected
        })
    });
    let connecting: Vec<_> = connecting.collect();
    let mut private = private;
    for n in 0..20 {
        private.add_launcher(&launchers(&[&format!("more-{n}")])[0]).await.unwrap();
    }
    over.send_replace(true);
    for task in connecting {
        assert!(task.await.unwrap() > 0, "none connected in time");
    }
}

/// The accounts that are in force are not lost to accounts that cannot be.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_cannot_be_written_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let private = PrivateServer::with_streams(folder.path(), &launchers(&["a"])).await.unwrap();
    let key = UserKey::parse("a", &private.launchers["a"].public_key()).unwrap();
    let twice = launchers(&["x", "y"]).into_iter().map(|id| Launcher { id, key: key.clone() }).collect();
    let refused = private.server.reload(Accounts { launchers: twice, ..Accounts::default() }).await;
    assert!(matches!(refused, Err(ServerError::Accounts(_))), "{refused:?}");
    private.connect_launcher("a").await.unwrap();
    kill(&private).await;
    private.connect_launcher("a").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_refused_soon() {
    let server = server().await;
    let other = crate::support::server().await;
    let started = std::time::Instant::now();
    let stranger = custody_nats::Connection::open(&custody_nats::ConnectOptions {
        url: server.private.server.url().to_owned(),
        name: "stranger".to_owned(),
        inbox_prefix: "_INBOX_authority".to_owned(),
        credentials: custody_nats::Credentials::Seed(other.private.services[&ServiceUser::Authority].clone()),
        wait: LONG,
    })
    .await;
    assert!(matches!(stranger, Err(custody_nats::ConnectError::Refused { .. })), "{stranger:?}");
    assert!(started.elapsed() < LONG / 2, "a refusal is retried for a moment only");
}
