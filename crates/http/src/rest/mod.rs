//! REST: what is read and commanded without a stream. One table of routes is the router and the OpenAPI document. Must
//! never hold a route that is not in the document, and never let a stranger past a route that is not `public`.

pub mod audit;
pub mod changes;
pub mod consent;
pub mod contracts;
pub mod dispatches;
pub mod follow_ups;
pub mod grants;
pub mod inbox;
pub mod installation;
pub mod provider;
pub mod session;
pub mod sessions;
pub mod shapes;
pub mod workspaces;

use crate::api::Api;
use crate::bridge;
use crate::problem::{Code, Problem};
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use custody_contracts::once::Once;
use serde::de::DeserializeOwned;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The largest request body in bytes: a launch and its JSON.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// The document's head.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Custody",
        description = "What the web UI and scripts ask of one installation. Times are RFC 3339 or Unix milliseconds, as \
                       each field says. Errors are problem+json (RFC 9457) with a stable code. A request that changes \
                       something needs the Origin header of this server.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "session", description = "Signing in and out"),
        (name = "dispatches", description = "What was asked, where it stands, what it said"),
        (name = "sessions", description = "Conversations: dispatches that share a session file"),
        (name = "workspaces", description = "What is kept in them, and what commits changed"),
        (name = "grants", description = "What launchers may do in a person's name"),
        (name = "inbox", description = "Calls that wait for a person"),
        (name = "audit", description = "The log as evidence"),
        (name = "installation", description = "How this installation is"),
        (name = "bridge", description = "Frames of ws.v1, live"),
    ),
)]
struct Document;

/// Routes that a stranger may use: signing in, and what a load balancer asks.
pub const PUBLIC: &[(&str, &str)] = &[
    ("post", "/api/v1/session"),
    ("get", "/api/v1/sign-in"),
    ("get", "/api/v1/sign-in/oidc"),
    ("get", "/api/v1/sign-in/oidc/callback"),
    ("get", "/api/v1/healthz"),
];

/// Every route, and the document that describes them.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(session::providers))
        .routes(routes!(provider::begin))
        .routes(routes!(provider::callback))
        .routes(routes!(session::sign_in, session::sign_out))
        .routes(routes!(session::me))
        .routes(routes!(dispatches::list, dispatches::launch))
        .routes(routes!(dispatches::one))
        .routes(routes!(dispatches::events))
        .routes(routes!(dispatches::output))
        .routes(routes!(dispatches::stop))
        .routes(routes!(dispatches::retry))
        .routes(routes!(follow_ups::list, follow_ups::say))
        .routes(routes!(changes::list))
        .routes(routes!(changes::one))
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::one))
        .routes(routes!(sessions::conversation))
        .routes(routes!(workspaces::list))
        .routes(routes!(workspaces::one))
        .routes(routes!(workspaces::log))
        .routes(routes!(workspaces::tree))
        .routes(routes!(workspaces::diff))
        .routes(routes!(grants::list, grants::give))
        .routes(routes!(grants::draft))
        .routes(routes!(consent::consent))
        .routes(routes!(grants::one))
        .routes(routes!(grants::revoke))
        .routes(routes!(grants::launchers))
        .routes(routes!(inbox::list))
        .routes(routes!(inbox::one))
        .routes(routes!(inbox::decide))
        .routes(routes!(audit::rows))
        .routes(routes!(audit::why))
        .routes(routes!(audit::verify))
        .routes(routes!(installation::health))
        .routes(routes!(installation::healthz))
        .routes(routes!(installation::runners))
        .routes(routes!(contracts::list))
        .routes(routes!(contracts::one))
        .routes(routes!(contracts::openapi))
        .routes(routes!(bridge::ws::ws))
        .routes(routes!(bridge::sse::events))
}

/// The OpenAPI document.
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = routes().into_openapi();
    env!("CARGO_PKG_VERSION").clone_into(&mut document.info.version);
    document
}

/// A JSON body that has one reading, and whose errors are problems.
#[derive(Debug, Clone)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Api> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        match axum::Json::<Once>::from_request(request, api).await {
            Ok(axum::Json(Once(value))) => serde_json::from_value(value)
                .map(Body)
                .map_err(|e| Problem::new(Code::Invalid, format!("the body: {e}"))),
            Err(JsonRejection::BytesRejection(e)) if e.status() == 413 => {
                Err(Problem::new(Code::TooLarge, format!("a body has at most {BODY_BYTES_MAX} bytes")))
            }
            Err(rejection) => Err(Problem::new(Code::Invalid, rejection.body_text())),
        }
    }
}

/// A query string whose errors are problems.
#[derive(Debug, Clone)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Api> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let read: Result<axum::extract::Query<T>, QueryRejection> =
            axum::extract::Query::from_request_parts(parts, api).await;
        read.map(|q| Query(q.0)).map_err(|e| Problem::new(Code::Invalid, e.body_text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_names_every_public_route_and_gives_each_operation_an_answer_for_strangers() {
        let document = serde_json::to_value(document()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        for (method, path) in PUBLIC {
            assert!(paths[*path][*method].is_object(), "{method} {path}");
        }
        for (path, item) in paths {
            for (method, operation) in item.as_object().unwrap() {
                let public = PUBLIC.contains(&(method.as_str(), path.as_str()));
                let says = operation["responses"]["401"].is_object();
                assert!(public || says, "{method} {path} does not say what a stranger gets");
            }
        }
    }
}
