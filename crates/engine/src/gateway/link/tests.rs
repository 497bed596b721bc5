//! Both sides over real TLS: what is joined, and everything that is not.

use super::{LinkClient, LinkServer, run};
use custody_contracts::envelope::Meta;
use custody_contracts::events::{KeyEvent, KeyIntroduced, LedgerEvent, Role, RunEvent, TYPES};
use custody_contracts::ids::DispatchId;
use custody_ledger::recorded::encode;
use custody_ledger::{Entity, MemoryLog, Seq, Sign, Stored};
use custody_testkit::fakes::ManualClock;
use custody_trust::RoleKey;
use custody_trust::token::{Claims, LINK, mint};
use rstest::rstest;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// 2026-11-22T21:00:00Z.
const NOW: u64 = 1_795_381_200;

fn key(role: Role, seed: u8) -> RoleKey {
    RoleKey::from_seed(role, &[seed; 32])
}

fn golden(shape: &str) -> LedgerEvent {
    let path = format!("../../contracts/ledger.v1/golden/{shape}.minimal.json");
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    LedgerEvent::decode(TYPES.iter().find(|(_, s)| *s == shape).unwrap().0, &text).unwrap()
}

fn introduced(key: &RoleKey) -> LedgerEvent {
    LedgerEvent::Key(KeyEvent::Introduced(KeyIntroduced {
        kid: key.kid().into(),
        role: key.role(),
        public_key: key.public_hex(),
        instance: "test".into(),
    }))
}

/// A log in which d-1 runs and d-2 has ended.
fn log() -> MemoryLog {
    let on = |event: LedgerEvent, dispatch: &str| {
        let id = DispatchId::parse(dispatch).unwrap();
        match event {
            LedgerEvent::Run(RunEvent::Claimed(mut e)) => {
                e.dispatch = id;
                LedgerEvent::Run(RunEvent::Claimed(e))
            }
            LedgerEvent::Run(RunEvent::Finished(mut e)) => {
                e.dispatch = id;
                LedgerEvent::Run(RunEvent::Finished(e))
            }
            other => other,
        }
    };
    let (authority, runtime) = (key(Role::Authority, 1), key(Role::Runtime, 2));
    let events = [
        (&authority, introduced(&authority)),
        (&authority, introduced(&runtime)),
        (&runtime, on(golden("RunClaimed"), "d-1")),
        (&runtime, on(golden("RunClaimed"), "d-2")),
        (&runtime, on(golden("RunFinished"), "d-2")),
    ];
    let meta = Meta { time: "2026-11-22T21:00:00.000Z".into(), ..Meta::default() };
    let stored = events.iter().zip(1..).map(|((key, event), seq)| Stored {
        seq: Seq(seq),
        log_subject: Entity::new(event.kind(), &format!("e{seq}")).unwrap().log_subject(),
        message_id: None,
        bytes: encode(*key, &format!("c{seq}"), std::slice::from_ref(event), &meta).unwrap(),
    });
    MemoryLog::from_messages(stored.collect())
}

fn claims() -> Claims {
    Claims {
        iss: LINK.issuer.into(),
        sub: "d-1".into(),
        aud: LINK.audience.into(),
        scope: "link".into(),
        jti: "t-1".into(),
        iat: NOW,
        nbf: NOW,
        exp: NOW + 600,
    }
}

/// A gateway that listens, and a folder with its certificate.
struct Given {
    folder: TempDir,
    address: String,
    cancel: CancellationToken,
}

impl Given {
    async fn start() -> Given {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::Builder::new().prefix("lnk").tempdir_in("/tmp").unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["custody-gateway".into()]).unwrap();
        std::fs::write(folder.path().join("ca.crt"), made.cert.pem()).unwrap();
        let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![made.cert.der().clone()], secret).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = LinkServer {
            log: Arc::new(log()),
            clock: Arc::new(ManualClock::at(NOW * 1_000)),
            tls: Arc::new(config).into(),
            runs: folder.path().join("runs"),
        };
        let cancel = CancellationToken::new();
        tokio::spawn(run(server, listener, cancel.clone()));
        let given = Given { folder, address, cancel };
        given.echo("d-1");
        given
    }

    /// A dispatch's socket that says back what it is told.
    fn echo(&self, dispatch: &str) {
        let gw = self.folder.path().join("runs").join(dispatch).join("gw");
        std::fs::create_dir_all(&gw).unwrap();
        let listener = UnixListener::bind(gw.join("gw.sock")).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ended = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
    }

    /// A link with this token; gives back its socket.
    async fn link(&self, name: &str, ca: &Path, token: &str) -> PathBuf {
        let file = self.folder.path().join("token");
        std::fs::write(&file, token).unwrap();
        let client = LinkClient::new(&self.address, name, ca, &file).unwrap();
        let socket = self.folder.path().join("l.sock");
        let (at, cancel) = (socket.clone(), self.cancel.clone());
        tokio::spawn(async move { client.serve(&at, cancel).await });
        while UnixStream::connect(&socket).await.is_err() {
            tokio::task::yield_now().await;
        }
        socket
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }
}

/// What comes back of a word; empty when the connection ends instead.
async fn said(socket: &Path, word: &[u8]) -> Vec<u8> {
    let talk = async {
        let mut stream = UnixStream::connect(socket).await.unwrap();
        // A refused link may close before it has read.
        let _closed = stream.write_all(word).await;
        let mut back = vec![0; word.len()];
        match stream.read_exact(&mut back).await {
            Ok(_) => back,
            Err(_) => Vec::new(),
        }
    };
    tokio::time::timeout(Duration::from_secs(30), talk).await.unwrap()
}

impl Drop for Given {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn token(role: &RoleKey, change: fn(&mut Claims)) -> String {
    let mut claims = claims();
    change(&mut claims);
    mint(role, &LINK, &claims).unwrap()
}

#[rstest]
#[case::honest(token(&key(Role::Runtime, 2), |_| {}), true)]
#[case::nobodys_key(token(&key(Role::Runtime, 9), |_| {}), false)]
#[case::authoritys_key(token(&key(Role::Authority, 1), |_| {}), false)]
#[case::one_that_ended(token(&key(Role::Runtime, 2), |c| c.sub = "d-2".into()), false)]
#[case::one_that_never_was(token(&key(Role::Runtime, 2), |c| c.sub = "d-3".into()), false)]
#[case::expired(token(&key(Role::Runtime, 2), |c| (c.iat, c.nbf, c.exp) = (NOW - 600, NOW - 600, NOW - 10)), false)]
#[case::for_the_runtime(token(&key(Role::Runtime, 2), |c| c.aud = "custody/runtime".into()), false)]
#[case::no_token(String::new(), false)]
#[case::too_long("x".repeat(10_000), false)]
#[tokio::test]
async fn only_the_token_of_a_running_dispatch_opens_its_socket(#[case] token: String, #[case] joined: bool) {
    let given = Given::start().await;
    let socket = given.link("custody-gateway", &given.ca(), &token).await;
    let back = said(&socket, b"hello").await;
    assert_eq!(back, if joined { b"hello".to_vec() } else { Vec::new() });
}

#[tokio::test]
async fn many_connections_are_carried_whole_and_apart() {
    let given = Given::start().await;
    let socket = given.link("custody-gateway", &given.ca(), &token(&key(Role::Runtime, 2), |_| {})).await;
    let words: Vec<Vec<u8>> = (0..8u8).map(|n| vec![n; 200_000]).collect();
    let talks = words.iter().map(|word| async {
        let (mut read, mut write) = UnixStream::connect(&socket).await.unwrap().into_split();
        let (sent, mut back) = (word.clone(), vec![0; word.len()]);
        let writing = tokio::spawn(async move { write.write_all(&sent).await.unwrap() });
        tokio::time::timeout(Duration::from_secs(60), read.read_exact(&mut back)).await.unwrap().unwrap();
        writing.await.unwrap();
        back
    });
    assert_eq!(futures::future::join_all(talks).await, words);
}

#[tokio::test]
async fn a_gateway_that_the_authority_did_not_sign_gets_no_token() {
    let given = Given::start().await;
    let other = rcgen::generate_simple_self_signed(vec!["custody-gateway".into()]).unwrap();
    let ca = given.folder.path().join("other.crt");
    std::fs::write(&ca, other.cert.pem()).unwrap();
    let token = token(&key(Role::Runtime, 2), |_| {});
    let socket = given.link("custody-gateway", &ca, &token).await;
    assert!(said(&socket, b"hello").await.is_empty());
}

#[tokio::test]
async fn another_name_than_the_certificates_is_not_spoken_to() {
    let given = Given::start().await;
    let token = token(&key(Role::Runtime, 2), |_| {});
    let socket = given.link("somebody-else", &given.ca(), &token).await;
    assert!(said(&socket, b"hello").await.is_empty());
}
