//! How the installation is, and what it can run. Must never say anything of its inside to a stranger.

use super::shapes::RunnerShape;
use crate::api::Api;
use crate::auth::Person;
use crate::problem::{Code, Details, Problem};
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

/// How the installation is: roles, streams, projections, the machine.
#[utoipa::path(
    get, path = "/api/v1/health", tag = "installation",
    responses((status = 200, body = Object), (status = 401, body = Details))
)]
pub async fn health(State(api): State<Api>, _person: Person) -> Json<Value> {
    Json(api.health.now(&api).await)
}

/// That this process answers.
#[utoipa::path(get, path = "/api/v1/healthz", tag = "installation", responses((status = 200, body = Object)))]
pub async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// The runners of this installation.
#[utoipa::path(
    get, path = "/api/v1/runners", tag = "installation",
    responses((status = 200, body = Vec<RunnerShape>), (status = 401, body = Details))
)]
pub async fn runners(State(api): State<Api>, _person: Person) -> Result<Json<Vec<RunnerShape>>, Problem> {
    let shapes = api.runners.all().into_iter().map(|runner| {
        let document = serde_json::to_value(&runner).map_err(|e| Problem::new(Code::Internal, e))?;
        Ok(RunnerShape {
            name: runner.name.to_string(),
            version: runner.version.clone(),
            image: runner.image.clone(),
            document,
        })
    });
    shapes.collect::<Result<Vec<_>, Problem>>().map(Json)
}
