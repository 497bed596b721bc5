//! Signing in at an identity provider: there by a link, and back by another. Must never send a browser anywhere but to the
//! provider and to our own pages, and never show it more of a failure than a code.

use super::Query;
use super::session::put_cookie;
use crate::api::Api;
use crate::auth::cookie::Cookie;
use crate::auth::pending::{LIFE_MS, Pending};
use crate::auth::{Begun, Credential};
use crate::problem::{Code, Details, Problem};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use custody_ports::sign_in::{Ending, IdentityProvider, SignInFailed};
use serde::Deserialize;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Where the browser comes back to; it is registered at the provider.
pub const CALLBACK: &str = "/api/v1/sign-in/oidc/callback";
/// The longest place of ours that somebody is taken back to, in bytes.
const TO_BYTES_MAX: usize = 2_048;
/// The longest authorization code, in bytes. Source: none; those of known providers are below half of it.
const CODE_BYTES_MAX: usize = 4_096;
/// The longest state, in bytes: twice as long as ours.
const STATE_BYTES_MAX: usize = 128;
/// The longest issuer, in bytes.
const ISSUER_BYTES_MAX: usize = 512;

/// Where the person is going.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Going {
    /// An address of ours, such as `/chat`; anything else counts as `/`.
    to: Option<String>,
}

/// What the provider sends back. It may add what it likes. Source: RFC 6749, sections 4.1.2 and 4.1.2.1; RFC 9207.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
pub struct Back {
    /// The sign-in.
    state: Option<String>,
    /// The authorization code.
    code: Option<String>,
    /// Who the answer is of.
    iss: Option<String>,
    /// Why there is no code.
    error: Option<String>,
}

/// Sign in at the identity provider: leads there.
#[utoipa::path(
    get, path = "/api/v1/sign-in/oidc", tag = "session", params(Going),
    responses(
        (status = 303, description = "to the provider, or for a browser to /login with the code of what went wrong"),
        (status = 404, body = Details), (status = 503, body = Details)
    )
)]
pub async fn begin(State(api): State<Api>, headers: HeaderMap, query: Result<Query<Going>, Problem>) -> Response {
    let to = query.map(|Query(going)| going.to.filter(|to| is_own_page(to)).unwrap_or_else(|| "/".to_owned()));
    match to {
        Ok(to) => led(&api, &headers, &to).await.unwrap_or_else(|problem| told(&headers, &problem, &to)),
        Err(problem) => told(&headers, &problem, "/"),
    }
}

async fn led(api: &Api, headers: &HeaderMap, to: &str) -> Result<Response, Problem> {
    let provider = provider(api)?;
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
    let origin = api.settings.origin_of(host);
    let origin = origin.ok_or_else(|| Problem::new(Code::HostRefused, "the Host header names another server"))?;
    let Begun { beginning, browser } = api.auth.begin([&origin, CALLBACK].concat(), to.to_owned())?;
    let url = provider.begin(&beginning).await.map_err(|failed| explained(api, &failed))?;
    let mut response = sent_to(&url)?;
    let cookie = Cookie::SignIn.set(api.settings.tls(), &browser, LIFE_MS / 1_000);
    put_cookie(response.headers_mut(), &cookie);
    Ok(response)
}

/// Back from the identity provider: a session, for whom it vouches and an administrator has linked.
#[utoipa::path(
    get, path = "/api/v1/sign-in/oidc/callback", tag = "session", params(Back),
    responses(
        (status = 303, description = "to where the person was going, or for a browser to /login with the code of what went wrong"),
        (status = 400, body = Details), (status = 401, body = Details), (status = 403, body = Details),
        (status = 404, body = Details), (status = 429, body = Details), (status = 503, body = Details)
    )
)]
pub async fn callback(
    State(api): State<Api>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    query: Result<Query<Back>, Problem>,
) -> Response {
    let mut to = "/".to_owned();
    let came = match query {
        Ok(Query(back)) => signed_in(&api, &headers, back, from.ip(), &mut to).await,
        Err(problem) => Err(problem),
    };
    let tls = api.settings.tls();
    let came = came.and_then(|token| Ok((sent_to(&to)?, token)));
    let mut response = match came {
        Ok((mut response, token)) => {
            put_cookie(response.headers_mut(), &Cookie::Session.set(tls, &token, api.settings.session.as_secs()));
            response
        }
        Err(problem) => told(&headers, &problem, &to),
    };
    put_cookie(response.headers_mut(), &Cookie::SignIn.clear(tls));
    response
}

/// A session's token. `to` becomes where the person was going as soon as that is known.
async fn signed_in(
    api: &Api,
    headers: &HeaderMap,
    back: Back,
    from: IpAddr,
    to: &mut String,
) -> Result<String, Problem> {
    let provider = provider(api)?;
    let long = |text: &Option<String>, most: usize| text.as_ref().is_some_and(|text| text.len() > most);
    if long(&back.state, STATE_BYTES_MAX) || long(&back.code, CODE_BYTES_MAX) || long(&back.iss, ISSUER_BYTES_MAX) {
        return Err(Problem::new(Code::Invalid, "that is no answer of an identity provider"));
    }
    let state = back.state.ok_or_else(|| Problem::new(Code::Invalid, "state is missing"))?;
    // The sign-in is used up before anything else is looked at: what comes with its state comes once.
    let browser = Cookie::SignIn.token(api.settings.tls(), headers);
    let pending = api.auth.returned(&state, browser, from).inspect_err(|problem| logged(problem, "", ""))?;
    to.clone_from(&pending.to);
    let Some(code) = back.code.filter(|_| back.error.is_none()) else {
        // The provider's own word is text of another: what is logged of it is a few letters.
        let word = back.error.unwrap_or_else(|| "no code".to_owned());
        let word: String = word.chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).take(40).collect();
        let failed = SignInFailed::Refused(format!("the provider said {word}"));
        api.auth.failed(from);
        return Err(explained(api, &failed));
    };
    let Pending { nonce, verifier, redirect_uri, .. } = pending;
    let ending = Ending { code, issuer: back.iss, redirect_uri, nonce, verifier };
    let vouched = provider.end(&ending).await.map_err(|failed| {
        if matches!(failed, SignInFailed::Refused(_)) {
            api.auth.failed(from);
        }
        explained(api, &failed)
    })?;
    let signed = api.auth.sign_in(&Credential::Vouched(&vouched), from);
    let (token, _) = signed.inspect_err(|problem| logged(problem, &vouched.issuer, &vouched.id))?;
    Ok(token)
}

fn provider(api: &Api) -> Result<&Arc<dyn IdentityProvider>, Problem> {
    let none = || Problem::new(Code::NotFound, "no identity provider is configured here").hint("[http.oidc]");
    api.provider.as_ref().ok_or_else(none)
}

/// A failure for its reader, who may be a stranger; the log has the reason. Refusals are as many as the rate lets through.
fn explained(api: &Api, failed: &SignInFailed) -> Problem {
    let problem = match failed {
        SignInFailed::Unavailable(_) => Problem::new(Code::ProviderUnavailable, "nobody can be asked who you are")
            .hint("try again, or sign in with a key"),
        SignInFailed::Refused(_) => {
            Problem::new(Code::SignInRefused, "the identity provider vouched for nobody").hint("begin again at /login")
        }
    };
    if matches!(failed, SignInFailed::Refused(_)) || api.auth.tells_of_silence() {
        tracing::warn!(code = %problem.code, reason = %failed, "a sign-in at the identity provider failed");
    }
    problem
}

/// A refusal of ours, with what an administrator needs to link somebody. What the rate sends away is no line each.
fn logged(problem: &Problem, issuer: &str, id: &str) {
    if problem.status == 429 {
        return;
    }
    tracing::warn!(code = %problem.code, issuer, id, "a sign-in at the identity provider was refused");
}

/// A page of ours, as a path: what a browser would take for another site is none.
fn is_own_page(to: &str) -> bool {
    let plain = |b: u8| b.is_ascii_graphic() && b != b'\\';
    to.len() <= TO_BYTES_MAX
        && to.starts_with('/')
        && !to.starts_with("//")
        && !to.starts_with("/api/")
        && to.bytes().all(plain)
}

fn sent_to(url: &str) -> Result<Response, Problem> {
    let place = HeaderValue::from_str(url).map_err(|_| Problem::new(Code::Internal, "an address that is none"))?;
    let mut response = StatusCode::SEE_OTHER.into_response();
    response.headers_mut().insert(header::LOCATION, place);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// A browser gets the page that has the other ways to sign in; a program gets the problem.
fn told(headers: &HeaderMap, problem: &Problem, to: &str) -> Response {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if !accepts.into_iter().any(|value| value.contains("text/html")) {
        return problem.clone().into_response();
    }
    let to: String = form_urlencoded::byte_serialize(to.as_bytes()).collect();
    sent_to(&format!("/login?problem={}&to={to}", problem.code)).unwrap_or_else(IntoResponse::into_response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::root("/", true)]
    #[case::deep("/dispatches/d-1?tab=files#L7", true)]
    #[case::another_site("https://evil.test/", false)]
    #[case::another_host("//evil.test/", false)]
    #[case::another_host_in_a_browser("/\\evil.test", false)]
    #[case::a_tab_that_a_browser_drops("/\t/evil.test", false)]
    #[case::a_script("javascript:alert(1)", false)]
    #[case::no_path("chat", false)]
    #[case::an_answer("/api/v1/sign-in/oidc", false)]
    #[case::two_lines("/a\r\nset-cookie: custody=x", false)]
    #[case::longest(&["/", &"x".repeat(TO_BYTES_MAX - 1)].concat(), true)]
    #[case::too_long(&["/", &"x".repeat(TO_BYTES_MAX)].concat(), false)]
    fn nobody_is_taken_to_anything_but_a_page_of_ours(#[case] to: &str, #[case] own: bool) {
        assert_eq!(is_own_page(to), own);
    }
}
