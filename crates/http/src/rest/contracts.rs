//! The contracts and the API's own description, served from the binary: reference pages that need no network. Must never
//! differ from what the server checks with.

use super::shapes::{ContractOne, ContractShape};
use crate::api::Api;
use crate::auth::Person;
use crate::problem::{Code, Details, Problem};
use axum::Json;
use axum::extract::{Path, State};
use custody_contracts::catalogue::{self, Contract};
use custody_contracts::seal;
use serde_json::Value;

fn shape(contract: &Contract) -> Result<ContractShape, Problem> {
    let internal = |e: &dyn std::fmt::Display| Problem::new(Code::Internal, e);
    let schema: Value = serde_json::from_str(contract.schema).map_err(|e| internal(&e))?;
    Ok(ContractShape {
        name: contract.name.to_owned(),
        digest: seal::digest_of(contract),
        seal: seal::state(contract.name).map_err(|e| internal(&e))?.as_str().to_owned(),
        description: schema.get("description").and_then(Value::as_str).unwrap_or_default().to_owned(),
        shapes: catalogue::shapes(contract.name).map_err(|e| internal(&e))?.to_vec(),
    })
}

/// Every contract.
#[utoipa::path(
    get, path = "/api/v1/contracts", tag = "installation",
    responses((status = 200, body = Vec<ContractShape>), (status = 401, body = Details))
)]
pub async fn list(_person: Person) -> Result<Json<Vec<ContractShape>>, Problem> {
    catalogue::ALL.iter().map(shape).collect::<Result<Vec<_>, _>>().map(Json)
}

/// One contract: its page and its schema.
#[utoipa::path(
    get, path = "/api/v1/contracts/{name}", tag = "installation",
    params(("name" = String, Path, description = "For example unit.v1")),
    responses((status = 200, body = ContractOne), (status = 401, body = Details), (status = 404, body = Details))
)]
pub async fn one(_person: Person, Path(name): Path<String>) -> Result<Json<ContractOne>, Problem> {
    let contract = catalogue::find(&name).map_err(|_| Problem::not_found())?;
    let schema = serde_json::from_str(contract.schema).map_err(|e| Problem::new(Code::Internal, e))?;
    Ok(Json(ContractOne { contract: shape(contract)?, readme: contract.readme.to_owned(), schema }))
}

/// The OpenAPI document of this server.
#[utoipa::path(
    get, path = "/api/v1/openapi.json", tag = "installation",
    responses((status = 200, body = Object), (status = 401, body = Details))
)]
pub async fn openapi(State(_api): State<Api>, _person: Person) -> Json<utoipa::openapi::OpenApi> {
    Json(super::document())
}
