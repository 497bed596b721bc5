//! The SPIFFE Workload API at a Unix socket. Must never answer a caller whom the kernel does not vouch for, nor one who does
//! not say that it means this API.
//!
//! Who calls is the user id of the process at the other end (SO_PEERCRED), and nothing else: no path, no digest of a
//! program. X.509 alone: tokens are the token service's, so the JWT calls are answered UNIMPLEMENTED.

use crate::authority::{Authority, Minted};
use crate::hosts::Hosts;
use crate::messages::{Empty, SERVICE, X509BundlesResponse, X509Svid, X509SvidResponse};
use bytes::Bytes;
use custody_contracts::spiffe::SpiffeId;
use custody_trust::svid::Register;
use futures::future::{BoxFuture, Ready, ready};
use futures::stream::{self, BoxStream, Stream, StreamExt};
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::{Grpc, ServerStreamingService};
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

/// The most connections of one registered user.
pub const PER_USER_MAX: usize = 16;
/// The most connections of all users together who are not registered. They are told so, in the API's own words.
pub const STRANGERS_MAX: usize = 16;
/// The most calls on one connection at once.
const CALLS_MAX: u32 = 8;
/// The largest request: every request of this API is empty.
const REQUEST_BYTES_MAX: usize = 1_024;
/// The largest headers of a request, in bytes.
const HEADER_BYTES_MAX: u32 = 8_192;
/// Connections whose other end does not answer to a ping within as much again are closed.
const PING: Duration = Duration::from_secs(60);

/// Opens the socket. Everybody who reaches its folder may connect: the kernel says who it is.
///
/// # Errors
/// Of the file system.
pub fn bind(path: &Path) -> std::io::Result<UnixListener> {
    // One of an earlier life is nobody's now.
    let _gone = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// Serves until cancelled.
///
/// # Errors
/// [`tonic::transport::Error`] when the server cannot go on.
pub async fn serve(
    authority: Authority,
    register: Register,
    listener: UnixListener,
    cancel: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let register = Arc::new(register);
    let api = Api { authority: Arc::new(authority), register: register.clone(), cancel: cancel.clone() };
    let server = tonic::transport::Server::builder()
        .max_concurrent_streams(CALLS_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_keepalive_interval(Some(PING))
        .http2_keepalive_timeout(Some(PING))
        .serve_with_incoming(api, accepted(listener, register));
    tokio::select! {
        served = server => served,
        () = cancel.cancelled() => Ok(()),
    }
}

/// Connections as they come, as long as there is room for those of their user.
fn accepted(listener: UnixListener, register: Arc<Register>) -> impl Stream<Item = std::io::Result<Caller>> {
    let room = Room::default();
    stream::unfold((listener, register, room), |(listener, register, room)| async move {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "caller of the Workload API not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(peer) = stream.peer_cred() else { continue };
            let user = Some(peer.uid()).filter(|user| register.identity(*user).is_some());
            let Some(place) = room.take(user) else {
                tracing::warn!(user = peer.uid(), "too many connections to the Workload API");
                continue;
            };
            let caller = Caller { stream, hosts: Hosts::new(), user: peer.uid(), _place: place };
            return Some((Ok(caller), (listener, register, room)));
        }
    })
}

/// Connections by registered user; those of everybody else together are `None`'s.
#[derive(Clone, Default)]
struct Room(Arc<Mutex<BTreeMap<Option<u32>, usize>>>);

impl Room {
    fn take(&self, user: Option<u32>) -> Option<Place> {
        let most = if user.is_some() { PER_USER_MAX } else { STRANGERS_MAX };
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(user).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place { room: self.clone(), user })
    }
}

struct Place {
    room: Room,
    user: Option<u32>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.user) {
            *count = count.saturating_sub(1);
        }
    }
}

/// One connection, and whose it is.
struct Caller {
    stream: UnixStream,
    hosts: Hosts,
    user: u32,
    _place: Place,
}

/// The user at the other end of a connection.
#[derive(Debug, Clone, Copy)]
struct User(u32);

impl Connected for Caller {
    type ConnectInfo = User;

    fn connect_info(&self) -> User {
        User(self.user)
    }
}

impl AsyncRead for Caller {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let Caller { stream, hosts, .. } = self.get_mut();
        hosts.poll_read(stream, cx, buf)
    }
}

impl AsyncWrite for Caller {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[derive(Clone)]
struct Api {
    authority: Arc<Authority>,
    register: Arc<Register>,
    cancel: CancellationToken,
}

impl tower_service::Service<http::Request<Body>> for Api {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let api = self.clone();
        Box::pin(async move {
            let id = match api.caller(&request) {
                Ok(id) => id,
                Err(status) => return Ok(status.into_http()),
            };
            let method = request.uri().path().strip_prefix(SERVICE).unwrap_or_default().to_owned();
            Ok(match method.as_str() {
                "FetchX509SVID" => grpc().server_streaming(Svids { api, id }, request).await,
                "FetchX509Bundles" => grpc().server_streaming(Bundles { api, id }, request).await,
                "FetchJWTSVID" | "FetchJWTBundles" | "ValidateJWTSVID" => {
                    Status::unimplemented("this authority signs no JWT-SVID").into_http()
                }
                _ => Status::unimplemented("not a method of the SPIFFE Workload API").into_http(),
            })
        })
    }
}

fn grpc<T: prost::Message + Default + Send + 'static>() -> Grpc<ProstCodec<T, Empty>> {
    Grpc::new(ProstCodec::default()).max_decoding_message_size(REQUEST_BYTES_MAX)
}

impl Api {
    /// Who calls. Source: SPIFFE Workload Endpoint, section 4 (the header), and Workload API, section 4.4 (the codes).
    fn caller(&self, request: &http::Request<Body>) -> Result<SpiffeId, Status> {
        let mut said = request.headers().get_all("workload.spiffe.io").iter();
        if said.next().is_none_or(|value| value != "true") || said.next().is_some() {
            return Err(Status::invalid_argument("the metadata workload.spiffe.io: true is missing"));
        }
        let user = request.extensions().get::<User>();
        let id = user.and_then(|user| self.register.identity(user.0));
        id.cloned().ok_or_else(|| Status::permission_denied("no identity is registered for this user"))
    }

    /// Answers now, and again whenever half of the certificate's life is over; by then a new authority is in the bundle too.
    fn answers<T: Send + 'static>(self, id: SpiffeId, make: fn(Minted, Bytes) -> T) -> Answers<T> {
        let answers = stream::unfold(Some(0), move |at: Option<u64>| {
            let (api, id) = (self.clone(), id.clone());
            async move {
                let wait = Duration::from_secs(api.authority.until(at?));
                tokio::select! {
                    () = api.cancel.cancelled() => return None,
                    () = tokio::time::sleep(wait) => {}
                }
                match api.authority.issue(&id).and_then(|minted| Ok((minted, api.authority.bundle()?))) {
                    Ok((minted, bundle)) => {
                        let next = minted.renew_at;
                        Some((Ok(make(minted, bundle)), Some(next)))
                    }
                    Err(error) => {
                        tracing::error!(%error, "the Workload API has no certificate to give");
                        Some((Err(Status::unavailable("no certificate can be made now")), None))
                    }
                }
            }
        });
        answers.boxed()
    }
}

type Answers<T> = BoxStream<'static, Result<T, Status>>;

struct Svids {
    api: Api,
    id: SpiffeId,
}

impl ServerStreamingService<Empty> for Svids {
    type Response = X509SvidResponse;
    type ResponseStream = Answers<X509SvidResponse>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, _request: Request<Empty>) -> Self::Future {
        let answers = self.api.clone().answers(self.id.clone(), |minted, bundle| X509SvidResponse {
            svids: vec![X509Svid {
                spiffe_id: minted.id.to_string(),
                x509_svid: minted.certificate,
                x509_svid_key: minted.key,
                bundle,
            }],
        });
        ready(Ok(Response::new(answers)))
    }
}

struct Bundles {
    api: Api,
    id: SpiffeId,
}

impl ServerStreamingService<Empty> for Bundles {
    type Response = X509BundlesResponse;
    type ResponseStream = Answers<X509BundlesResponse>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, _request: Request<Empty>) -> Self::Future {
        let answers = self.api.clone().answers(self.id.clone(), |minted, bundle| X509BundlesResponse {
            bundles: HashMap::from([(minted.id.trust_domain().id(), bundle)]),
        });
        ready(Ok(Response::new(answers)))
    }
}
