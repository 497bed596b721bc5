//! Signing in at the web through an OpenID provider of others, a real Keycloak: its login form, its cookies, its tokens. Each
//! browser here is a client of its own at an address of its own, because failures are counted by address. `ops/trust/setup`
//! fetches Keycloak; without it this test fails.

use crate::browser::{Browser, PATIENCE};
use crate::keycloak::{JANE, Keycloak, SECRET, escaped};
use crate::stack::{LOOK, Options, Stack};
use reqwest::{RequestBuilder, Url};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpListener;
use tokio::time::Instant;

/// Source: ops/trust/keycloak/realm.json, as the two after it.
const CLIENT: &str = "custody-web";
/// Omar, as Keycloak knows him.
const OMAR: &str = "c0a4f1d2-7e63-4b95-8d1f-6a2b3c4d5e6f";
const PASSWORD: &str = "t47-canary-of-two-people";
const SECRET_REF: &str = "secret://keycloak/web";

/// What a browser got.
#[derive(Debug)]
struct Page {
    status: u16,
    location: String,
    body: String,
}

/// A browser with its cookies. Both sites are this machine's, and a browser does not part cookies by port.
struct Person {
    http: reqwest::Client,
    web: String,
    cookies: BTreeMap<String, String>,
}

impl Person {
    /// `n` makes its address: 127.0.0.n.
    fn at(n: u8, web: &str) -> Person {
        // Another test may have done this already, with the same.
        let _there = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(PATIENCE);
        let builder = builder.redirect(reqwest::redirect::Policy::none());
        let http = builder.local_address(std::net::IpAddr::from([127, 0, 0, n])).build().unwrap();
        Person { http, web: web.to_owned(), cookies: BTreeMap::new() }
    }

    async fn sends(&mut self, request: RequestBuilder) -> Page {
        let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = request.header("accept", "text/html").header("cookie", pairs.join("; "));
        let answer = request.send().await.unwrap();
        for line in answer.headers().get_all("set-cookie") {
            let line = line.to_str().unwrap();
            let (name, rest) = line.split_once('=').unwrap();
            let (value, attributes) = rest.split_once(';').unwrap_or((rest, ""));
            match value.is_empty() || attributes.to_ascii_lowercase().contains("max-age=0") {
                true => drop(self.cookies.remove(name)),
                false => drop(self.cookies.insert(name.to_owned(), value.to_owned())),
            }
        }
        let location = answer.headers().get("location").map_or("", |v| v.to_str().unwrap()).to_owned();
        Page { status: answer.status().as_u16(), location, body: answer.text().await.unwrap() }
    }

    async fn opens(&mut self, url: &str) -> Page {
        self.sends(self.http.get(url)).await
    }

    /// Leaves for Keycloak from a page of ours, and gives what Keycloak shows: its form, or at once the way back.
    async fn leaves(&mut self, to: &str) -> Page {
        let left = self.opens(&format!("{}/api/v1/sign-in/oidc?to={to}", self.web)).await;
        assert_eq!(left.status, 303, "{left:?}");
        assert!(left.location.contains("code_challenge_method=S256"), "{left:?}");
        self.opens(&left.location).await
    }

    /// Fills in Keycloak's form.
    async fn fills(&mut self, form: &Page, user: &str, password: &str) -> Page {
        assert_eq!(form.status, 200, "{form:?}");
        // The page has such addresses elsewhere too, which begin anew.
        let action = form.body.split_once(" action=\"").and_then(|(_, after)| after.split('"').next());
        let action = action.unwrap_or_else(|| panic!("no form in {form:?}")).replace("&amp;", "&");
        assert!(action.contains("/login-actions/authenticate"), "{action}");
        let body = format!("username={}&password={}&credentialId=", escaped(user), escaped(password));
        let request = self.http.post(action).header("content-type", "application/x-www-form-urlencoded");
        self.sends(request.body(body)).await
    }

    /// Goes there and comes as far as the way back, which is given and not yet opened.
    async fn comes_back(&mut self, user: &str, to: &str) -> String {
        let mut page = self.leaves(to).await;
        if page.status == 200 {
            page = self.fills(&page, user, PASSWORD).await;
        }
        assert!(page.status == 302 || page.status == 303, "{page:?}");
        assert!(page.location.starts_with(&format!("{}/api/v1/sign-in/oidc/callback?", self.web)), "{page:?}");
        page.location
    }

    /// Opens a way back that must lead to no session, and says why.
    async fn is_refused(&mut self, back: &str) -> String {
        let session = self.cookies.get("custody").cloned();
        let page = self.opens(back).await;
        assert_eq!(page.status, 303, "{page:?}");
        assert_eq!(self.cookies.get("custody").cloned(), session, "no session is made and none is taken away");
        let told = page.location.strip_prefix("/login?problem=").unwrap_or_else(|| panic!("{page:?}"));
        told.split('&').next().unwrap().to_owned()
    }

    /// Whom the server says they are; null for nobody.
    async fn is(&mut self) -> Value {
        let page = self.opens(&format!("{}/api/v1/me", self.web)).await;
        let said: Value = serde_json::from_str(&page.body).unwrap();
        if page.status == 200 { said } else { Value::Null }
    }
}

/// An address with another value of one of its parameters.
fn with(url: &str, name: &str, value: &str) -> String {
    let mut url = Url::parse(url).unwrap();
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    assert!(pairs.iter().any(|(key, _)| key == name), "{url}");
    let mut query = url.query_pairs_mut();
    query.clear();
    for (key, old) in &pairs {
        query.append_pair(key, if key == name { value } else { old });
    }
    drop(query);
    url.into()
}

fn parameter(url: &str, name: &str) -> String {
    let url = Url::parse(url).unwrap();
    url.query_pairs().find(|(key, _)| key == name).unwrap_or_else(|| panic!("no {name} in {url}")).1.into_owned()
}

struct Place {
    keycloak: Keycloak,
    stack: Stack,
}

impl Place {
    /// An installation beside a Keycloak that starts meanwhile.
    async fn new() -> Place {
        // Keycloak takes no port 0 that it would tell; the one found here is free, and it says so when it is not.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "[http.oidc]\nissuer = \"http://127.0.0.1:{port}/realms/custody\"\nclient_id = {CLIENT:?}\n\
             client_secret_ref = {SECRET_REF:?}\nlabel = \"Acme\"\n"
        );
        let stack = Stack::with(Options { config: Some(config), ..Options::default() }).await;
        without_a_provider(&stack).await;
        let web = stack.web();
        let more = [("CUSTODY_WEB_URL", web.as_str()), ("CUSTODY_USER_PASSWORD", PASSWORD)];
        let keycloak = Keycloak::start(port, &format!("{web}/.well-known/jwks.json"), stack.home(), &more);
        Place { keycloak, stack }
    }

    /// What an operator does: the client's secret, and Jane by her id at Keycloak. Omar has no link.
    async fn operated(&self) {
        let file = self.stack.home().join("client.secret");
        std::fs::write(&file, SECRET).unwrap();
        let mut set = self.stack.command(&["secret", "set", SECRET_REF]);
        crate::stack::ran(set.stdin(File::open(&file).unwrap())).await.ended(0);
        self.stack.ok(&["user", "add", "u_jane", "--link", JANE]).await;
        self.stack.ok(&["user", "add", "u_omar"]).await;
        let taken = self.stack.custody(&["user", "link", "u_omar", JANE]).await;
        assert!(taken.err.contains("u_jane"), "one id is one person: {taken:?}");
    }
}

/// Nobody answers at the provider's address yet: it is said so, and the printed key is as good as ever.
async fn without_a_provider(stack: &Stack) {
    let admin = stack.admin().await;
    let offered = admin.get("/api/v1/sign-in").await.is(200).json();
    assert_eq!(offered[1], json!({ "id": "oidc", "kind": "redirect", "label": "Acme" }), "{offered}");
    let answer = Browser::new(&stack.web()).get("/api/v1/sign-in/oidc").await.is(503);
    assert_eq!(answer.json()["code"], "PROVIDER_UNAVAILABLE");
    let page = Person::at(9, &stack.web()).opens(&format!("{}/api/v1/sign-in/oidc?to=/chat", stack.web())).await;
    assert_eq!((page.status, &*page.location), (303, "/login?problem=PROVIDER_UNAVAILABLE&to=%2Fchat"));
}

/// One Keycloak for all of it: its start is what costs.
#[tokio::test(flavor = "multi_thread")]
async fn people_sign_in_at_keycloak_and_nobody_else_gets_a_session() {
    let mut place = Place::new().await;
    place.operated().await;
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    place.keycloak.ready(&http).await;
    let web = place.stack.web();
    let (mut jane, mut omar, mut thief) = (Person::at(2, &web), Person::at(3, &web), Person::at(4, &web));

    // A wrong password is Keycloak's to refuse; the right one leads to where she was going, and once.
    let form = jane.leaves("/dispatches").await;
    let again = jane.fills(&form, "jane", "wrong").await;
    let back = jane.fills(&again, "jane", PASSWORD).await.location;
    let landed = jane.opens(&back).await;
    assert_eq!((landed.status, &*landed.location), (303, "/dispatches"), "{landed:?}\n{}", place.stack.log());
    let me = jane.is().await;
    assert_eq!((&me["subject"], &me["provider"], &me["admin"]), (&json!("u_jane"), &json!("oidc"), &json!(false)));
    assert_eq!(jane.is_refused(&back).await, "SIGN_IN_OVER", "T47: the same way back again");

    // T47: her next way back in somebody else's browser is good there for nothing, and then nowhere.
    let stolen = jane.comes_back("jane", "/").await;
    assert_eq!(thief.is_refused(&stolen).await, "SIGN_IN_OVER");
    assert_eq!(thief.is().await, Value::Null);
    assert_eq!(jane.is_refused(&stolen).await, "SIGN_IN_OVER");

    // T47: Omar's way back in her browser, so that she would act as him.
    let planted = omar.comes_back("omar", "/").await;
    assert_eq!(jane.is_refused(&planted).await, "SIGN_IN_OVER");
    assert_eq!(jane.is().await["subject"], "u_jane");

    // T47: her code under his state. Keycloak itself sees that the verifier is not hers.
    let (hers, his) = (jane.comes_back("jane", "/").await, omar.comes_back("omar", "/").await);
    let mixed = with(&his, "code", &parameter(&hers, "code"));
    assert_eq!(omar.is_refused(&mixed).await, "SIGN_IN_REFUSED");

    // T47: an answer that says that it is of another provider.
    let elsewhere = with(&jane.comes_back("jane", "/").await, "iss", "https://evil.test/realms/custody");
    assert_eq!(jane.is_refused(&elsewhere).await, "SIGN_IN_REFUSED");

    unknown(&place.stack, &mut omar).await;

    // It goes away between two steps: a name for it, and sessions that are there go on.
    let last = thief.comes_back("jane", "/").await;
    place.keycloak.end().await;
    assert_eq!(thief.is_refused(&last).await, "PROVIDER_UNAVAILABLE");
    assert_eq!(jane.is().await["subject"], "u_jane");
    let out = jane.http.delete(format!("{web}/api/v1/session")).header("origin", &web);
    assert_eq!(jane.sends(out).await.status, 204);
    assert_eq!(jane.is().await, Value::Null);

    let said = place.stack.log();
    let ledger = format!("{:?}", place.stack.ledger().await);
    for hidden in [SECRET, PASSWORD, &parameter(&back, "code"), &parameter(&back, "state")] {
        assert!(!said.contains(hidden) && !ledger.contains(hidden), "{hidden} stands in a log");
    }
}

/// Whom Keycloak knows and nobody here has linked. The log has what an administrator needs; then he is let in at once, and
/// out as soon as the link is gone.
async fn unknown(stack: &Stack, omar: &mut Person) {
    let back = omar.comes_back("omar", "/").await;
    assert_eq!(omar.is_refused(&back).await, "PERSON_UNKNOWN");
    let log = stack.log();
    assert!(log.contains("PERSON_UNKNOWN") && log.contains(OMAR), "{log}");
    stack.ok(&["user", "link", "u_omar", OMAR]).await;
    let back = omar.comes_back("omar", "/chat").await;
    assert_eq!(omar.opens(&back).await.location, "/chat");
    assert_eq!(omar.is().await["subject"], "u_omar");
    stack.ok(&["user", "link", "u_omar", "--remove"]).await;
    let until = Instant::now() + PATIENCE;
    while omar.is().await != Value::Null {
        assert!(Instant::now() < until, "his session goes on without the link");
        tokio::time::sleep(LOOK).await;
    }
}
