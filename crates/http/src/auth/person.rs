//! The signed-in person as an argument of a route: a route that takes one cannot be reached by a stranger. Must never
//! be made from anything but the session cookie.

use super::Person;
use super::cookie::Cookie;
use crate::api::Api;
use crate::problem::{Code, Problem};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;

impl FromRequestParts<Api> for Person {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Person, Problem> {
        let token = Cookie::Session.token(api.settings.tls(), &parts.headers);
        token.and_then(|token| api.auth.who(token)).ok_or_else(|| {
            Problem::new(Code::NotSignedIn, "there is no session, or it ended").hint("sign in at /login")
        })
    }
}

/// A signed-in administrator.
#[derive(Debug, Clone)]
pub struct Admin(pub Person);

impl FromRequestParts<Api> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Admin, Problem> {
        let person = Person::from_request_parts(parts, api).await?;
        if person.admin { Ok(Admin(person)) } else { Err(Problem::new(Code::Forbidden, "this is for administrators")) }
    }
}
