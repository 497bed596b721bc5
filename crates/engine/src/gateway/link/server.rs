//! The gateway's side. Must never hold more connections than it has room for, nor one that does not say who it is.

use super::{HELLO, HELLO_BYTES_MAX, line};
use crate::accept::accept;
use crate::follow::{follow, read_or_note};
use crate::runtime::socket_path;
use custody_contracts::events::{LedgerEvent, RunEvent};
use custody_ledger::{Log, LogError, Seq, Stored};
use custody_ports::clock::Clock;
use custody_trust::Keyring;
use custody_trust::token::{LINK, verify};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// The most connections at once.
const CONNECTIONS_MAX: usize = 1_024;
/// From a connection to its token.
const HELLO_MAX: Duration = Duration::from_secs(5);
/// How long a dispatch's socket may take to be opened after its claim.
const SOCKET_MAX: Duration = Duration::from_secs(10);

/// What the gateway's side needs.
pub struct LinkServer {
    /// The ledger: who may sign, and what runs.
    pub log: Arc<dyn Log>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Certificate and key.
    pub tls: TlsAcceptor,
    /// One folder a run, with its socket.
    pub runs: PathBuf,
}

#[derive(Default)]
struct Known {
    keys: Keyring,
    running: BTreeSet<String>,
}

impl Known {
    fn apply(&mut self, stored: &Stored) {
        if stored.log_subject.starts_with("ledger.key.")
            && let Err(error) = self.keys.admit(stored)
        {
            tracing::error!(%error, seq = stored.seq.0, "key event not taken; its key opens no link");
        }
        for recorded in read_or_note(stored) {
            match recorded.event {
                Some(LedgerEvent::Run(RunEvent::Claimed(e))) => {
                    self.running.insert(e.dispatch.to_string());
                }
                Some(LedgerEvent::Run(RunEvent::Finished(e))) => {
                    self.running.remove(e.dispatch.as_str());
                }
                _ => {}
            }
        }
    }
}

type Shared = Arc<Mutex<Known>>;

/// Serves until cancelled.
///
/// # Errors
/// [`LogError`] when the log is broken.
pub async fn run(server: LinkServer, listener: TcpListener, cancel: CancellationToken) -> Result<(), LogError> {
    let known = Shared::default();
    let folding = {
        let known = known.clone();
        follow(server.log.clone(), Seq(0), cancel.clone(), move |stored| {
            known.lock().unwrap_or_else(PoisonError::into_inner).apply(&stored);
        })
    };
    let (server, ends) = (Arc::new(server), cancel.clone());
    let accepting = accept("a link", &listener, CONNECTIONS_MAX, &ends, |stream| {
        let (server, known) = (server.clone(), known.clone());
        async move {
            let from = stream.peer_addr().ok();
            if let Err(why) = one(&server, &known, stream).await {
                tracing::warn!(?from, why, "link refused");
            }
        }
    });
    tokio::select! {
        ended = folding => ended,
        () = accepting => Ok(()),
    }
}

async fn one(server: &LinkServer, known: &Shared, stream: tokio::net::TcpStream) -> Result<(), String> {
    let hello = async {
        let mut stream = server.tls.accept(stream).await.map_err(|e| format!("no TLS: {e}"))?;
        let first = line(&mut stream, HELLO_BYTES_MAX).await.map_err(|e| e.to_string())?;
        Ok::<_, String>((stream, first))
    };
    let hello = tokio::time::timeout(HELLO_MAX, hello).await;
    let (mut stream, first) = hello.map_err(|_| "it did not say who it is in time".to_owned())??;
    match judge(server, known, &first) {
        Ok(dispatch) => join(server, &dispatch, stream).await,
        Err(code) => {
            // Whoever is refused may be gone already.
            let _gone = stream.write_all(["no ", &code, "\n"].concat().as_bytes()).await;
            let _gone = stream.shutdown().await;
            Err(code)
        }
    }
}

/// The dispatch that a first line opens, or the code of what is wrong with it.
fn judge(server: &LinkServer, known: &Shared, first: &str) -> Result<String, String> {
    let token = first.strip_prefix(HELLO).ok_or("HELLO_INVALID")?;
    let known = known.lock().unwrap_or_else(PoisonError::into_inner);
    let claims = verify(&known.keys, token, &LINK, server.clock.now().0 / 1_000).map_err(|e| e.code().to_owned())?;
    if !known.running.contains(&claims.sub) {
        return Err("DISPATCH_NOT_RUNNING".into());
    }
    Ok(claims.sub)
}

async fn join<S: AsyncRead + AsyncWrite + Unpin>(
    server: &LinkServer,
    dispatch: &str,
    mut stream: S,
) -> Result<(), String> {
    let socket = socket_path(&server.runs.join(dispatch));
    let until = tokio::time::Instant::now() + SOCKET_MAX;
    let mut inside = loop {
        match UnixStream::connect(&socket).await {
            Ok(inside) => break inside,
            Err(_) if tokio::time::Instant::now() < until => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => return Err(format!("the socket of {dispatch} is not open: {error}")),
        }
    };
    stream.write_all(b"ok\n").await.map_err(|e| e.to_string())?;
    // An end in either direction is how a connection ends.
    let _ended = tokio::io::copy_bidirectional(&mut stream, &mut inside).await;
    Ok(())
}
