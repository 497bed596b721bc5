//! Two doors to the gateway's decision over a tool call, on one listener of the gateway role: Envoy's external
//! authorization (gRPC, `envoy.service.auth.v3.Authorization`) and the access evaluation of AuthZEN (HTTP). Both carry
//! what they are asked to [`Decisions`] and its answer back. Whoever asks shows the tool token of the call that it is
//! about; nothing else is looked at to know who asks.
//!
//! Must never decide anything, never say yes where there was no answer, and never listen where nobody configured it.

mod authzen;
mod envoy;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use custody_engine::accept::accept;
use custody_engine::deciding::{Decisions, MESSAGE_BYTES_MAX, RUNNING_MAX};
use envoy_types::ext_authz::v3::pb::AuthorizationServer;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The most connections at once.
const CONNECTIONS_MAX: usize = 64;
/// From a connection to its request's head.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// The largest question of Envoy in bytes: a message of MCP, a token, and what stands around both.
const CHECK_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 128 * 1024;

/// Serves until cancelled.
///
/// # Errors
/// The socket failed before it served anything.
pub async fn serve(
    decisions: Decisions,
    listener: TcpListener,
    cancel: CancellationToken,
) -> Result<(), std::io::Error> {
    let service = TowerToHyperService::new(router(decisions, listener.local_addr()?));
    accept("a connection with a question", &listener, CONNECTIONS_MAX, &cancel, |stream| {
        let service = service.clone();
        async move {
            let mut http = auto::Builder::new(TokioExecutor::new());
            http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
            http.http2().timer(TokioTimer::new()).max_concurrent_streams(u32::try_from(RUNNING_MAX).ok());
            // Who goes away without its answer was told nothing, and so may do nothing.
            let _ended = http.serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await;
    Ok(())
}

fn router(decisions: Decisions, at: SocketAddr) -> Router {
    let checks = AuthorizationServer::new(envoy::Checks(decisions.clone())).max_decoding_message_size(CHECK_BYTES_MAX);
    authzen::router(decisions, at)
        .layer(DefaultBodyLimit::max(MESSAGE_BYTES_MAX))
        .route_service("/envoy.service.auth.v3.Authorization/{*method}", checks)
}
