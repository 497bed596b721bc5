//! Signing in at an identity provider, over real HTTP before a provider that is made up: who gets a session, who gets none,
//! and that a browser is led nowhere else.

use crate::stage::Stage;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use custody_http::auth::pending::LIFE_MS;
use custody_http::auth::rate::FAILURES_MAX;
use custody_http::serve::app;
use custody_ports::sign_in::{Beginning, Ending, IdentityProvider, SignInFailed, Vouched};
use futures::future::BoxFuture;
use rstest::rstest;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const HOST: &str = "127.0.0.1:1";
const PAGE: &str = "accept: text/html,application/xhtml+xml\r\n";

/// What the provider says of whoever comes back.
type Says = Result<&'static str, SignInFailed>;

struct Provider {
    says: Mutex<Says>,
    began: Mutex<Vec<Beginning>>,
    ended: Mutex<Vec<Ending>>,
}

impl IdentityProvider for Provider {
    fn label(&self) -> &str {
        "Acme"
    }

    fn begin<'a>(&'a self, beginning: &'a Beginning) -> BoxFuture<'a, Result<String, SignInFailed>> {
        Box::pin(async move {
            if let Err(down @ SignInFailed::Unavailable(_)) = self.says.lock().unwrap().clone() {
                return Err(down);
            }
            self.began.lock().unwrap().push(beginning.clone());
            Ok(format!("https://id.test/auth?state={}", beginning.state))
        })
    }

    fn end<'a>(&'a self, ending: &'a Ending) -> BoxFuture<'a, Result<Vouched, SignInFailed>> {
        Box::pin(async move {
            self.ended.lock().unwrap().push(ending.clone());
            let id = self.says.lock().unwrap().clone()?;
            Ok(Vouched { issuer: "https://id.test".into(), id: id.into() })
        })
    }
}

fn down() -> SignInFailed {
    SignInFailed::Unavailable("cannot be connected to at its-secret-address".into())
}

struct Answer {
    status: u16,
    head: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.head.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The value of a cookie that is set, not ended.
    fn cookie(&self, name: &str) -> Option<&str> {
        let set = self.head.iter().filter(|(key, _)| key == "set-cookie");
        set.filter_map(|(_, line)| line.strip_prefix(name)?.strip_prefix('=')?.split(';').next())
            .find(|value| !value.is_empty())
    }

    fn code(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap();
        body["code"].as_str().unwrap().to_owned()
    }
}

struct Web {
    stage: Stage,
    provider: Arc<Provider>,
    at: SocketAddr,
}

/// A browser that began a sign-in: its cookie and the state that the provider will send back.
struct Going {
    cookie: String,
    state: String,
}

impl Web {
    async fn new() -> Web {
        Web::under(Vec::new()).await
    }

    async fn under(origins: Vec<String>) -> Web {
        let provider =
            Arc::new(Provider { says: Mutex::new(Ok("jane")), began: Mutex::default(), ended: Mutex::default() });
        let stage = Stage::vouching(provider.clone(), origins);
        let at = served(&stage).await;
        Web { stage, provider, at }
    }

    fn says(&self, says: Says) {
        *self.provider.says.lock().unwrap() = says;
    }

    async fn begins(&self, to: &str) -> Going {
        let answer = get(self.at, &format!("/api/v1/sign-in/oidc?to={to}"), PAGE).await;
        assert_eq!(answer.status, 303, "{}", answer.body);
        let state = answer.header("location").strip_prefix("https://id.test/auth?state=").unwrap().to_owned();
        Going { cookie: answer.cookie("custody-sign-in").unwrap().to_owned(), state }
    }

    async fn returns(&self, query: &str, cookie: Option<&str>, more: &str) -> Answer {
        let cookie = cookie.map_or_else(String::new, |value| format!("cookie: custody-sign-in={value}\r\n"));
        get(self.at, &format!("/api/v1/sign-in/oidc/callback?{query}"), &[cookie.as_str(), more].concat()).await
    }

    fn ended(&self) -> usize {
        self.provider.ended.lock().unwrap().len()
    }

    async fn is_honest(&self) {
        self.says(Ok("jane"));
        let going = self.begins("/chat").await;
        let answer = self.returns(&format!("state={}&code=c", going.state), Some(&going.cookie), PAGE).await;
        assert_eq!((answer.status, answer.header("location")), (303, "/chat"));
        assert!(answer.cookie("custody").is_some());
    }
}

async fn served(stage: &Stage) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let service = app(stage.api.clone()).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
    at
}

async fn get(at: SocketAddr, path: &str, headers: &str) -> Answer {
    sent(at, &format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n{headers}"), "").await
}

async fn sent(at: SocketAddr, head: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(format!("{head}connection: close\r\n\r\n{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let head = lines.filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_ascii_lowercase(), v.to_owned()));
    Answer { status, head: head.collect(), body: body.to_owned() }
}

#[tokio::test]
async fn a_person_goes_to_the_provider_and_comes_back_to_where_they_were_going() {
    let web = Web::new().await;
    let offered = get(web.at, "/api/v1/sign-in", "").await;
    let offered: Value = serde_json::from_str(&offered.body).unwrap();
    assert_eq!(offered[0]["kind"], "key");
    assert_eq!(offered[1], json!({ "id": "oidc", "kind": "redirect", "label": "Acme" }));

    let left = get(web.at, "/api/v1/sign-in/oidc?to=%2Fdispatches%2Fd-1%3Ftab%3Dfiles%23L7", PAGE).await;
    assert_eq!((left.status, left.header("cache-control")), (303, "no-store"));
    let line = left.header("set-cookie");
    for part in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=600"] {
        assert!(line.contains(part), "{line}");
    }
    let beginning = web.provider.began.lock().unwrap()[0].clone();
    assert_eq!(beginning.redirect_uri, "http://127.0.0.1:1/api/v1/sign-in/oidc/callback");
    let cookie = left.cookie("custody-sign-in").unwrap();
    let query = format!("session_state=x&state={}&iss=https%3A%2F%2Fid.test&code=a%2Fb", beginning.state);
    let back = web.returns(&query, Some(cookie), PAGE).await;
    assert_eq!((back.status, back.header("location")), (303, "/dispatches/d-1?tab=files#L7"), "{}", back.body);
    assert!(back.head.iter().any(|(k, v)| k == "set-cookie" && v.starts_with("custody-sign-in=;")), "it is used up");

    // What the provider was shown belongs together, and the two secrets of it never left before.
    let ending = web.provider.ended.lock().unwrap()[0].clone();
    assert_eq!(ending.code, "a/b");
    assert_eq!(ending.issuer.as_deref(), Some("https://id.test"));
    assert_eq!((&ending.nonce, &ending.redirect_uri), (&beginning.nonce, &beginning.redirect_uri));
    assert_eq!(URL_SAFE_NO_PAD.encode(Sha256::digest(&ending.verifier)), beginning.challenge);
    let fresh = [&beginning.state, &beginning.nonce, &ending.verifier, &cookie.to_owned()];
    for (n, one) in fresh.iter().enumerate() {
        assert!(one.len() >= 43 && fresh[n + 1..].iter().all(|other| other != one), "{one}");
    }

    let session = back.cookie("custody").unwrap();
    let me = get(web.at, "/api/v1/me", &format!("cookie: custody={session}\r\n")).await;
    let me: Value = serde_json::from_str(&me.body).unwrap();
    assert_eq!(
        (&me["subject"], &me["provider"], &me["expires_at"]),
        (&json!("u_jane"), &json!("oidc"), &json!(60_000))
    );
    let origin = format!("DELETE /api/v1/session HTTP/1.1\r\nhost: {HOST}\r\norigin: http://{HOST}\r\n");
    assert_eq!(sent(web.at, &format!("{origin}cookie: custody={session}\r\n"), "").await.status, 204);
    assert_eq!(get(web.at, "/api/v1/me", &format!("cookie: custody={session}\r\n")).await.status, 401);
}

/// What is wrong with how a browser comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Replayed,
    AnotherBrowser,
    NoBrowser,
    AnotherState,
    NoState,
    TooLate,
    NoCode,
    TheProviderSaysNo,
    StateTwice,
    ACodeThatIsTooLong,
}

#[rstest]
#[case::t47_a_replayed_state(Wrong::Replayed, 400, "SIGN_IN_OVER")]
#[case::t47_a_state_of_another_browser(Wrong::AnotherBrowser, 400, "SIGN_IN_OVER")]
#[case::t47_a_state_without_its_browser(Wrong::NoBrowser, 400, "SIGN_IN_OVER")]
#[case::t47_a_state_that_never_was(Wrong::AnotherState, 400, "SIGN_IN_OVER")]
#[case::no_state(Wrong::NoState, 400, "INVALID")]
#[case::a_state_of_yesterday(Wrong::TooLate, 400, "SIGN_IN_OVER")]
#[case::no_code(Wrong::NoCode, 401, "SIGN_IN_REFUSED")]
#[case::a_no(Wrong::TheProviderSaysNo, 401, "SIGN_IN_REFUSED")]
#[case::two_states(Wrong::StateTwice, 400, "INVALID")]
#[case::a_code_that_is_too_long(Wrong::ACodeThatIsTooLong, 400, "INVALID")]
#[tokio::test]
async fn whoever_comes_back_wrong_gets_no_session_and_the_provider_is_not_asked(
    #[case] wrong: Wrong,
    #[case] status: u16,
    #[case] code: &str,
) {
    // Once as a program sees it, once as a browser does.
    for html in [false, true] {
        let web = Web::new().await;
        let (going, other) = (web.begins("/chat").await, web.begins("/audit").await);
        let (mut query, mut cookie) = (format!("state={}&code=c", going.state), Some(going.cookie.as_str()));
        match wrong {
            Wrong::Replayed => assert_eq!(web.returns(&query, cookie, PAGE).await.header("location"), "/chat"),
            Wrong::AnotherBrowser => cookie = Some(&other.cookie),
            Wrong::NoBrowser => cookie = None,
            Wrong::AnotherState => query = format!("state={}&code=c", "x".repeat(43)),
            Wrong::NoState => query = "code=c".into(),
            Wrong::TooLate => web.stage.clock.advance(LIFE_MS),
            Wrong::NoCode => query = format!("state={}", going.state),
            Wrong::TheProviderSaysNo => query = format!("state={}&error=access_denied&code=c", going.state),
            Wrong::StateTwice => query = format!("state={}&state={}&code=c", going.state, other.state),
            Wrong::ACodeThatIsTooLong => query = format!("state={}&code={}", going.state, "c".repeat(4_097)),
        }
        let before = web.ended();
        let answer = web.returns(&query, cookie, if html { PAGE } else { "" }).await;
        assert_eq!(answer.cookie("custody"), None);
        if html {
            let known = matches!(wrong, Wrong::NoCode | Wrong::TheProviderSaysNo);
            let to = if known { "%2Fchat" } else { "%2F" };
            assert_eq!((answer.status, answer.header("location")), (303, &*format!("/login?problem={code}&to={to}")));
        } else {
            assert_eq!((answer.status, answer.code().as_str()), (status, code));
        }
        assert_eq!(web.ended(), before, "no code went anywhere");
        web.is_honest().await;
    }
}

#[rstest]
#[case::not_believed(Err(SignInFailed::Refused("the provider's ID token is of another issuer".into())), 401, "SIGN_IN_REFUSED")]
#[case::nobody_here(Ok("omar"), 403, "PERSON_UNKNOWN")]
#[case::gone_meanwhile(Err(down()), 503, "PROVIDER_UNAVAILABLE")]
#[tokio::test]
async fn whom_the_provider_does_not_vouch_for_or_nobody_knows_gets_no_session(
    #[case] says: Says,
    #[case] status: u16,
    #[case] code: &str,
) {
    let web = Web::new().await;
    for html in [false, true] {
        web.says(Ok("jane"));
        let going = web.begins("/chat").await;
        web.says(says.clone());
        let query = format!("state={}&code=c", going.state);
        let answer = web.returns(&query, Some(&going.cookie), if html { PAGE } else { "" }).await;
        assert_eq!(answer.cookie("custody"), None);
        if html {
            let page = format!("/login?problem={code}&to=%2Fchat");
            assert_eq!((answer.status, answer.header("location")), (303, &*page));
        } else {
            assert_eq!((answer.status, answer.code().as_str()), (status, code));
            // Who reads it may be a stranger: the reason is the log's.
            assert!(!answer.body.contains("ID token") && !answer.body.contains("secret"), "{}", answer.body);
        }
        // Tried once more, the same answer of the browser is of no use.
        web.says(Ok("jane"));
        assert_eq!(web.returns(&query, Some(&going.cookie), "").await.code(), "SIGN_IN_OVER");
        web.stage.clock.advance(60_000);
    }
    web.is_honest().await;
}

#[tokio::test]
async fn a_provider_that_is_down_is_said_so_and_keys_go_on() {
    let web = Web::new().await;
    web.says(Err(down()));
    for _ in 0..=FAILURES_MAX {
        let answer = get(web.at, "/api/v1/sign-in/oidc?to=/chat", "").await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "PROVIDER_UNAVAILABLE"));
        assert!(answer.cookie("custody-sign-in").is_none() && !answer.body.contains("secret"), "{}", answer.body);
    }
    let page = get(web.at, "/api/v1/sign-in/oidc?to=/chat", PAGE).await;
    assert_eq!((page.status, page.header("location")), (303, "/login?problem=PROVIDER_UNAVAILABLE&to=%2Fchat"));
    let body = json!({ "key": "ck_jane" }).to_string();
    let head = format!(
        "POST /api/v1/session HTTP/1.1\r\nhost: {HOST}\r\norigin: http://{HOST}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n",
        body.len()
    );
    let by_key = sent(web.at, &head, &body).await;
    assert!(by_key.status == 200 && by_key.cookie("custody").is_some(), "{}", by_key.body);
    // It was nobody's failure, so nobody has to wait when it is back.
    web.is_honest().await;
}

#[tokio::test]
async fn wrong_returns_are_counted_as_wrong_keys_are() {
    let web = Web::new().await;
    for _ in 0..FAILURES_MAX {
        assert_eq!(web.returns("state=guess&code=c", Some("guess"), "").await.code(), "SIGN_IN_OVER");
    }
    let going = web.begins("/").await;
    let query = format!("state={}&code=c", going.state);
    let answer = web.returns(&query, Some(&going.cookie), "").await;
    assert_eq!((answer.status, answer.code().as_str()), (429, "TOO_MANY"));
    web.stage.clock.advance(60_000);
    assert_eq!(web.returns(&query, Some(&going.cookie), PAGE).await.status, 303, "it was not even looked at before");
}

#[rstest]
#[case::another_site("https%3A%2F%2Fevil.test%2F")]
#[case::another_host("%2F%2Fevil.test")]
#[case::another_host_in_a_browser("%2F%5Cevil.test")]
#[case::a_header("%2F%0D%0Aset-cookie%3A%20custody%3Dx")]
#[case::nothing("")]
#[tokio::test]
async fn nobody_is_led_to_another_site(#[case] to: &str) {
    let web = Web::new().await;
    let going = web.begins(to).await;
    let answer = web.returns(&format!("state={}&code=c", going.state), Some(&going.cookie), PAGE).await;
    assert_eq!((answer.status, answer.header("location")), (303, "/"));
}

#[tokio::test]
async fn behind_tls_the_way_back_and_the_cookie_are_of_that_name() {
    let web = Web::under(vec!["https://custody.test".into()]).await;
    let head = format!("GET /api/v1/sign-in/oidc HTTP/1.1\r\nhost: custody.test\r\n{PAGE}");
    let answer = sent(web.at, &head, "").await;
    assert_eq!(answer.status, 303);
    let line = answer.header("set-cookie");
    assert!(line.starts_with("__Host-custody-sign-in=") && line.ends_with("; Secure"), "{line}");
    let beginning = web.provider.began.lock().unwrap()[0].clone();
    assert_eq!(beginning.redirect_uri, "https://custody.test/api/v1/sign-in/oidc/callback");
    let rebound = sent(web.at, &head.replace("host: custody.test", "host: evil.test"), "").await;
    assert_eq!(rebound.status, 421);
    // Under the name without TLS there is no such cookie, so what it began cannot be ended there.
    let other = format!(
        "GET /api/v1/sign-in/oidc/callback?state={}&code=c HTTP/1.1\r\nhost: {HOST}\r\ncookie: custody-sign-in={}\r\n",
        beginning.state,
        answer.cookie("__Host-custody-sign-in").unwrap()
    );
    assert_eq!(sent(web.at, &other, "").await.code(), "SIGN_IN_OVER");
}

#[tokio::test]
async fn without_a_provider_nothing_is_offered_and_nobody_is_led_anywhere() {
    let stage = Stage::new();
    let at = served(&stage).await;
    let offered = get(at, "/api/v1/sign-in", "").await;
    assert_eq!(serde_json::from_str::<Value>(&offered.body).unwrap().as_array().unwrap().len(), 1);
    for path in ["/api/v1/sign-in/oidc", "/api/v1/sign-in/oidc/callback?state=a&code=b"] {
        let answer = get(at, path, "").await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "NOT_FOUND"), "{path}");
        assert_eq!(answer.cookie("custody"), None);
    }
}
