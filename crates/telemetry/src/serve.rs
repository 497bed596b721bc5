//! The admin listener: `/metrics` in the Prometheus text format, and `/healthz`. It has no token: bind it to a loopback
//! address or let the network policy say who may ask. Must never show anything but numbers and stable codes.

use crate::counts::Counts;
use custody_engine::accept::accept;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The most connections at once.
const CONNECTIONS_MAX: usize = 32;
/// From a connection to its request's head.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// How long asking for what is not folded may take.
const REFRESH_MAX: Duration = Duration::from_secs(5);

/// Asks for what no event says, such as the size of the ledger, before it is shown.
pub type Refresh = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// Serves until cancelled.
///
/// # Errors
/// None of its own; the signature is a role's.
pub async fn serve(
    counts: Arc<Counts>,
    refresh: Refresh,
    listener: TcpListener,
    cancel: CancellationToken,
) -> Result<(), Infallible> {
    accept("an admin connection", &listener, CONNECTIONS_MAX, &cancel, |stream| {
        let (counts, refresh) = (counts.clone(), refresh.clone());
        async move {
            let service = hyper::service::service_fn(move |request| {
                let (counts, refresh) = (counts.clone(), refresh.clone());
                async move { Ok::<_, Infallible>(answer(&counts, &refresh, &request).await) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX).keep_alive(false);
            // A reader that goes away is not worth a word.
            let _ended = http.serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await;
    Ok(())
}

async fn answer(counts: &Counts, refresh: &Refresh, request: &Request<Incoming>) -> Response<String> {
    let (status, kind, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            // Older numbers are better than none.
            let _late = tokio::time::timeout(REFRESH_MAX, refresh()).await;
            match counts.text() {
                Ok(text) => (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text),
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string()),
            }
        }
        (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, "text/plain", "ok\n".into()),
        (_, "/metrics" | "/healthz") => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET\n".into()),
        _ => (StatusCode::NOT_FOUND, "text/plain", "/metrics, /healthz\n".into()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    headers.insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
