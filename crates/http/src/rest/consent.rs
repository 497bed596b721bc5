//! What a person agrees to before their first dispatch from the web chat: its words and their digest. Agreeing is giving
//! that grant, as any other. Must never give it by being read.

use super::shapes::ConsentShape;
use crate::api::Api;
use crate::auth::Person;
use crate::bridge::consent::{Standing, standing, terms};
use crate::problem::{Code, Details, Problem};
use axum::Json;
use axum::extract::State;
use custody_contracts::canonical::digest;
use custody_domain::grant::statement;

/// Whether the web chat may act for the person, and if they have not answered yet, what they would agree to.
#[utoipa::path(
    get, path = "/api/v1/consent", tag = "grants",
    responses((status = 200, body = ConsentShape), (status = 401, body = Details))
)]
pub async fn consent(State(api): State<Api>, person: Person) -> Result<Json<ConsentShape>, Problem> {
    let (state, grant) = match standing(&api, &person).await? {
        Standing::Given(grant) => ("given", Some(grant)),
        Standing::Revoked(grant) => ("revoked", Some(grant)),
        Standing::Needed => ("needed", None),
    };
    let mut shape =
        ConsentShape { state: state.to_owned(), grant, terms: None, statement: None, statement_digest: None };
    if state == "needed" {
        let terms = terms(&api, &person).await?;
        let words = statement(&terms);
        shape.terms = Some(serde_json::to_value(&terms).map_err(|e| Problem::new(Code::Internal, e))?);
        shape.statement_digest = Some(digest(words.as_bytes()));
        shape.statement = Some(words);
    }
    Ok(Json(shape))
}
