//! Who calls: a bearer token of the runtime's own audience, checked against the keys that the ledger holds. A refusal is
//! logged and counted, with its code and never with the token; it is not written into the ledger, because whoever has
//! no token could then fill it.

use super::face::Face;
use crate::problem::{Code, Problem};
use axum::http::{HeaderMap, header};
use custody_contracts::ids::Subject;
use custody_trust::token::{RUNTIME, Scope, verify};

/// A caller that was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The person that everything is done for.
    pub subject: Subject,
    /// The token's id.
    pub jti: String,
}

/// Lets a request in, or says why not.
///
/// # Errors
/// 401 for a token that is missing or not good, 403 for one that may not do this.
pub fn admit(face: &Face, headers: &HeaderMap, scope: Scope) -> Result<Caller, Problem> {
    judge(face, headers, scope).inspect_err(|problem| {
        tracing::warn!(code = problem.code, "runtime face refused a request");
        (face.refused)(&problem.code);
    })
}

fn judge(face: &Face, headers: &HeaderMap, scope: Scope) -> Result<Caller, Problem> {
    let hint = "custody runtime token";
    let missing = || Problem::new(Code::NotSignedIn, "there is no bearer token").code("TOKEN_MISSING").hint(hint);
    let given = headers.get(header::AUTHORIZATION).ok_or_else(missing)?;
    // More than one is nobody's honest request.
    if headers.get_all(header::AUTHORIZATION).iter().count() != 1 {
        return Err(missing());
    }
    let token = given.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")).ok_or_else(missing)?;
    let now = face.clock.now().0 / 1_000;
    let claims = face.keys(|ring| verify(ring, token, &RUNTIME, now));
    let claims = claims.map_err(|refused| {
        Problem::new(Code::NotSignedIn, format!("the token is refused: {refused}")).code(refused.code()).hint(hint)
    })?;
    if !claims.may(scope) {
        let why = format!("the token has no scope {}", scope.as_str());
        return Err(Problem::new(Code::Forbidden, why).code("TOKEN_SCOPE").hint(hint));
    }
    let subject =
        Subject::parse(&claims.sub).map_err(|e| Problem::new(Code::NotSignedIn, e).code("TOKEN_SUBJECT").hint(hint))?;
    Ok(Caller { subject, jti: claims.jti })
}
