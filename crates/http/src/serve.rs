//! One listening server: guard, routes, pages. Must never outlive its role, and never wait for a page that stays open.

use crate::api::{Api, Parts};
use crate::bridge::hub::Hub;
use crate::guard::{Own, guard};
use crate::oauth;
use crate::problem::{Code, Problem};
use crate::rest::{self, BODY_BYTES_MAX};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use axum::{Router, middleware};
use custody_ledger::LogError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// How long connections have to end when the role does.
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// How often the users' file is looked at.
const USERS_EVERY: Duration = Duration::from_millis(500);

/// Why the role ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The ledger cannot be shown any further.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The socket failed.
    #[error("the listening socket: {0}")]
    Io(#[from] std::io::Error),
}

/// The whole application over its state.
pub fn app(api: Api) -> Router {
    let own = Arc::new(Own::new(api.settings.own_origins()));
    let (routes, _document) = rest::routes().split_for_parts();
    routes
        .fallback(pages)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(own.clone(), guard))
        .with_state(api.clone())
        .merge(oauth::router(api, own))
}

async fn pages(State(api): State<Api>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    if uri.path().starts_with("/api/") {
        return Err(Problem::new(Code::NoRoute, "there is no such route; /api/v1/openapi.json has them all"));
    }
    Ok(api.assets.serve(&uri, &headers))
}

async fn wrong_method() -> Problem {
    Problem::new(Code::Method, "/api/v1/openapi.json says which methods there are")
}

/// Serves until cancelled.
///
/// # Errors
/// [`ServeError`] when the ledger is broken or the socket fails.
pub async fn run(parts: Parts, listener: TcpListener) -> Result<(), ServeError> {
    let cancel = parts.cancel.clone();
    let hub = Hub::open(parts.log.as_ref(), parts.output.as_ref()).await?;
    let api = Api::new(parts, hub.clone());
    let ledger = hub.clone().follow_ledger(api.log.clone(), cancel.clone());
    let output = tokio::spawn(hub.follow_output(api.output.clone(), cancel.clone()));
    let health = tokio::spawn(api.health.clone().watch(api.clone(), cancel.clone()));
    let users = tokio::spawn(watch_users(api.clone()));
    let service = app(api).into_make_service_with_connect_info::<SocketAddr>();
    let stop = cancel.clone();
    let serving = axum::serve(listener, service).with_graceful_shutdown(async move { stop.cancelled().await });
    let mut serving = tokio::spawn(async move { serving.await });
    // A task that has been waited for must not be waited for again.
    let mut over = false;
    let ended = tokio::select! {
        ended = ledger => ended.map_err(ServeError::from),
        served = &mut serving => {
            over = true;
            served.unwrap_or_else(|e| Err(std::io::Error::other(e))).map_err(ServeError::from)
        }
    };
    if ended.is_err() {
        cancel.cancel();
    }
    if !over {
        // A page that does not close its connection is left behind.
        let _drained = tokio::time::timeout(DRAIN_MAX, &mut serving).await;
        serving.abort();
    }
    for task in [output, health, users] {
        task.abort();
    }
    ended
}

async fn watch_users(api: Api) {
    loop {
        tokio::select! {
            () = api.cancel.cancelled() => return,
            () = tokio::time::sleep(USERS_EVERY) => {}
        }
        if let Err(error) = api.auth.refresh() {
            tracing::warn!(%error, "users cannot be read; they stay as they were");
        }
    }
}
