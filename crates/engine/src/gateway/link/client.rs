//! The box's side, in the link's container: a socket that the agent's worker connects to, each connection carried to the
//! gateway. Must never speak to another address than the one it was given, nor to a server that the given authority did
//! not sign.

use super::{ANSWER_BYTES_MAX, HELLO, line};
use crate::accept::accept;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

/// The most connections of one box at once.
const CONNECTIONS_MAX: usize = 64;
/// From nothing to the gateway's word.
const OPEN_MAX: Duration = Duration::from_secs(15);

/// Why a link cannot work.
#[derive(Debug, thiserror::Error)]
pub enum LinkClientError {
    /// A file or socket.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The name is none.
    #[error("{0:?} is not a server's name")]
    Name(String),
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// One link.
#[derive(Clone)]
pub struct LinkClient {
    connect: String,
    name: ServerName<'static>,
    tls: TlsConnector,
    token: Arc<str>,
}

impl LinkClient {
    /// A link to an address whose certificate has this name and is signed by the authority in `ca`; `token` is a file.
    ///
    /// # Errors
    /// [`LinkClientError`].
    pub fn new(connect: &str, name: &str, ca: &Path, token: &Path) -> Result<LinkClient, LinkClientError> {
        // Another part of the process may have done it; both want the same provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let bad = |path: &Path, why: String| LinkClientError::File { path: path.to_owned(), why };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca).map_err(|e| bad(ca, e.to_string()))? {
            roots.add(certificate.map_err(|e| bad(ca, e.to_string()))?)?;
        }
        let text = std::fs::read_to_string(token).map_err(|e| bad(token, e.to_string()))?;
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(LinkClient {
            connect: connect.to_owned(),
            name: ServerName::try_from(name.to_owned()).map_err(|_| LinkClientError::Name(name.to_owned()))?,
            tls: TlsConnector::from(Arc::new(config)),
            token: text.trim().into(),
        })
    }

    /// Serves the socket until cancelled.
    ///
    /// # Errors
    /// [`LinkClientError::File`] when the socket cannot be opened.
    pub async fn serve(&self, socket: &Path, cancel: CancellationToken) -> Result<(), LinkClientError> {
        let bad = |e: std::io::Error| LinkClientError::File { path: socket.to_owned(), why: e.to_string() };
        // One of an earlier life of this container is nobody's now.
        let _gone = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).map_err(bad)?;
        // The agent's user is another one; the folder is this Pod's alone.
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666)).map_err(bad)?;
        accept("a connection of the box", &listener, CONNECTIONS_MAX, &cancel, |stream| {
            let link = self.clone();
            async move {
                if let Err(why) = link.carry(stream).await {
                    tracing::warn!(why, "connection not carried to the gateway");
                }
            }
        })
        .await;
        Ok(())
    }

    async fn carry(&self, mut stream: UnixStream) -> Result<(), String> {
        let opened = tokio::time::timeout(OPEN_MAX, self.open()).await;
        let mut gateway = opened.map_err(|_| "the gateway did not answer in time".to_owned())??;
        // An end in either direction is how a connection ends.
        let _ended = tokio::io::copy_bidirectional(&mut stream, &mut gateway).await;
        Ok(())
    }

    async fn open(&self) -> Result<TlsStream<TcpStream>, String> {
        let stream = TcpStream::connect(&self.connect).await.map_err(|e| format!("connect: {e}"))?;
        let mut gateway = self.tls.connect(self.name.clone(), stream).await.map_err(|e| format!("TLS: {e}"))?;
        let hello = [HELLO, &self.token, "\n"].concat();
        gateway.write_all(hello.as_bytes()).await.map_err(|e| format!("hello: {e}"))?;
        gateway.flush().await.map_err(|e| format!("hello: {e}"))?;
        match line(&mut gateway, ANSWER_BYTES_MAX).await.map_err(|e| format!("answer: {e}"))?.as_str() {
            "ok" => Ok(gateway),
            other => Err(format!("the gateway refused the link: {other}")),
        }
    }
}
