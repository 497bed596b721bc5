//! What stands before every route: the host's name, the origin of what changes something, and the headers of every
//! answer. Must never let a request through because a header is missing where a browser would send it.

use crate::problem::{Code, Problem};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// Names and origins that are ours.
#[derive(Debug, Clone)]
pub struct Own {
    origins: Vec<String>,
    hosts: Vec<String>,
    csp: HeaderValue,
}

/// No page of ours runs or loads anything from elsewhere. `connect-src 'self'` covers the websocket in current
/// browsers; older ones need its own scheme, which is added for each host.
fn policy(origins: &[String]) -> HeaderValue {
    // The grammar of a policy knows no IPv6 address; there `'self'` has to do.
    let named = origins.iter().filter(|o| !o.contains('['));
    let sockets: Vec<String> = named.map(|o| o.replacen("http", "ws", 1)).collect();
    let text = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self' {}; \
         font-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'self'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types svelte-trusted-html",
        sockets.join(" ")
    );
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
}

impl Own {
    /// From our origins, such as `http://127.0.0.1:7070`.
    pub fn new(origins: Vec<String>) -> Own {
        let hosts = origins.iter().filter_map(|o| o.split_once("://")).map(|(_, h)| h.to_ascii_lowercase()).collect();
        let csp = policy(&origins);
        Own { origins, hosts, csp }
    }

    /// A browser was told another name for this machine (DNS rebinding) when the host is not ours.
    pub(crate) fn knows_host(&self, headers: &HeaderMap) -> bool {
        let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
        self.hosts.iter().any(|own| own.eq_ignore_ascii_case(host))
    }

    /// Whether the page that asks is ours. No origin is no browser's, and passes only where the cookie is not the
    /// proof; for what changes something it must be there.
    pub fn is_ours(&self, headers: &HeaderMap) -> bool {
        let origin = headers.get(header::ORIGIN).and_then(|o| o.to_str().ok()).unwrap_or_default();
        self.origins.iter().any(|own| own.eq_ignore_ascii_case(origin))
    }
}

/// Before and after every route.
pub async fn guard(State(own): State<Arc<Own>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let safe = matches!(*request.method(), Method::GET | Method::HEAD);
    let upgrade = headers.contains_key(header::UPGRADE);
    let answer = if !own.knows_host(headers) {
        Problem::new(Code::HostRefused, "the Host header names another server").into_response()
    } else if (!safe || upgrade) && !own.is_ours(headers) {
        Problem::new(Code::OriginRefused, "the Origin header is missing or names another site").into_response()
    } else {
        next.run(request).await
    };
    harden(&own, answer)
}

pub(crate) fn harden(own: &Own, mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, own.csp.clone());
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("permissions-policy", "camera=(), microphone=(), geolocation=()"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn own() -> Own {
        Own::new(vec!["http://127.0.0.1:7070".into(), "https://custody.acme.test".into()])
    }

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        headers
    }

    #[rstest]
    #[case::own("http://127.0.0.1:7070", true)]
    #[case::behind_a_proxy("https://custody.acme.test", true)]
    #[case::other_port("http://127.0.0.1:7071", false)]
    #[case::other_scheme("https://127.0.0.1:7070", false)]
    #[case::longer("http://127.0.0.1:7070.evil.test", false)]
    #[case::null("null", false)]
    #[case::empty("", false)]
    fn only_our_own_origin_is_ours(#[case] origin: &str, #[case] ours: bool) {
        assert_eq!(own().is_ours(&with(header::ORIGIN, origin)), ours);
        assert!(!own().is_ours(&HeaderMap::new()));
    }

    #[rstest]
    #[case::own("127.0.0.1:7070", true)]
    #[case::proxy("CUSTODY.acme.test", true)]
    #[case::rebound("evil.test:7070", false)]
    fn only_our_own_names_are_answered(#[case] host: &str, #[case] known: bool) {
        assert_eq!(own().knows_host(&with(header::HOST, host)), known);
        assert!(!own().knows_host(&HeaderMap::new()));
    }

    #[test]
    fn the_policy_lets_nothing_in_from_elsewhere() {
        let csp = own().csp.to_str().unwrap().to_owned();
        assert!(csp.starts_with("default-src 'none'") && csp.contains("require-trusted-types-for 'script'"));
        assert!(!csp.contains("unsafe") && !csp.contains('*'));
        assert!(csp.contains("ws://127.0.0.1:7070") && csp.contains("wss://custody.acme.test"));
    }
}
