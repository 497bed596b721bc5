//! Signing in and out. Must never answer with a key or a token: the token goes into the cookie.

use super::shapes::Me;
use super::{Body, Query};
use crate::api::Api;
use crate::auth::cookie::Cookie;
use crate::auth::{Credential, Person};
use crate::problem::{Code, Details, Problem};
use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use utoipa::ToSchema;

/// A way to sign in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProviderShape {
    /// Its id.
    pub id: String,
    /// `key`: a field for a key. `redirect`: a link to `/api/v1/sign-in/<id>`, which leads to an identity provider.
    pub kind: String,
    /// What it is called.
    pub label: String,
}

/// A key of this installation.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignInBody {
    /// As it was printed.
    #[schema(min_length = 1, max_length = 128)]
    key: String,
}

/// The longest key that is looked at.
const KEY_MAX: usize = 128;

/// How people sign in here.
#[utoipa::path(get, path = "/api/v1/sign-in", tag = "session", responses((status = 200, body = Vec<ProviderShape>)))]
pub async fn providers(State(api): State<Api>) -> Json<Vec<ProviderShape>> {
    let key = ProviderShape { id: "access_key".into(), kind: "key".into(), label: "Key of this installation".into() };
    let redirect = |label: &str| ProviderShape { id: "oidc".into(), kind: "redirect".into(), label: label.to_owned() };
    Json(std::iter::once(key).chain(api.provider.iter().map(|provider| redirect(provider.label()))).collect())
}

/// Sign in: a key becomes a session cookie.
#[utoipa::path(
    post, path = "/api/v1/session", tag = "session", request_body = SignInBody,
    responses((status = 200, body = Me), (status = 401, body = Details), (status = 429, body = Details))
)]
pub async fn sign_in(
    State(api): State<Api>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Body(body): Body<SignInBody>,
) -> Result<Response, Problem> {
    let key = body.key.trim();
    if key.is_empty() || key.len() > KEY_MAX {
        return Err(Problem::new(Code::Invalid, "that is not a key"));
    }
    let (token, person) = api.auth.sign_in(&Credential::AccessKey(key), from.ip())?;
    let set = Cookie::Session.set(api.settings.tls(), &token, api.settings.session.as_secs());
    let mut response = Json(shape(&api, &person)).into_response();
    put_cookie(response.headers_mut(), &set);
    Ok(response)
}

/// Sign out: the session ends, and every stream of it.
#[utoipa::path(
    delete, path = "/api/v1/session", tag = "session",
    responses((status = 204, description = "it ended"), (status = 401, body = Details))
)]
pub async fn sign_out(State(api): State<Api>, person: Person) -> Result<Response, Problem> {
    api.auth.sign_out(&person.session)?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    put_cookie(response.headers_mut(), &Cookie::Session.clear(api.settings.tls()));
    Ok(response)
}

/// Who is signed in.
#[utoipa::path(
    get, path = "/api/v1/me", tag = "session",
    responses((status = 200, body = Me), (status = 401, body = Details))
)]
pub async fn me(State(api): State<Api>, person: Person, _: Query<Nothing>) -> Json<Me> {
    Json(shape(&api, &person))
}

/// No query.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

fn shape(api: &Api, person: &Person) -> Me {
    Me {
        subject: person.subject.clone(),
        name: person.name.clone(),
        admin: person.admin,
        provider: person.provider,
        expires_at: person.expires_at,
        launcher: api.settings.launcher.clone(),
        version: api.settings.version.clone(),
    }
}

pub(super) fn put_cookie(headers: &mut HeaderMap, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.append(header::SET_COOKIE, value);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}
