//! A provider over real HTTP: an honest sign-in, and beside it each answer that must not be believed and each way not to
//! answer.

use crate::jose::TOKEN_BYTES_MAX;
use crate::provider::{ANSWER_BYTES_MAX, RUNNING_MAX};
use crate::{OidcConfig, OidcProvider};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use custody_ports::secrets::{SecretError, SecretText, Secrets};
use custody_ports::sign_in::{Beginning, Ending, IdentityProvider, SignInFailed, Vouched};
use custody_testkit::fakes::ManualClock;
use reqwest::Url;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use ring::{digest, hmac};
use rstest::rstest;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const NOW: u64 = 1_800_000_000;
const REDIRECT: &str = "https://custody.test/api/v1/sign-in/oidc/callback";
const PERSON: &str = "5f2c7a9e";
const SECRET: &str = "s:canary%";

/// Who signs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Signer {
    #[default]
    Provider,
    /// Another key of the same algorithm.
    Stranger,
    /// Nobody: the signature is empty.
    Nobody,
    /// Whoever knows the public key, with it as the secret of HS256.
    WithThePublicKey,
}

/// What differs from an honest provider.
#[derive(Debug, Default)]
struct Does {
    metadata: Value,
    header: Value,
    claims: Value,
    signer: Signer,
    ignores_pkce: bool,
    /// What a path answers in place of what it should.
    instead: BTreeMap<&'static str, (u16, String)>,
    /// A path that never answers.
    silent: Option<&'static str>,
}

/// What a code was given for.
struct Consent {
    challenge: String,
    nonce: String,
    redirect: String,
}

struct Peer {
    base: String,
    key: Mutex<(String, EcdsaKeyPair)>,
    does: Mutex<Does>,
    codes: Mutex<BTreeMap<String, Consent>>,
    /// Path of each request.
    asked: Mutex<Vec<String>>,
    /// Authorization and form of each request for a token.
    shown: Mutex<Vec<(String, BTreeMap<String, String>)>>,
}

fn new_key() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap()
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An object with the members of another in place of its own; null takes one away.
fn merged(mut all: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().into_iter().flatten() {
        match value {
            Value::Null => drop(all.as_object_mut().unwrap().remove(name)),
            value => all[name] = value.clone(),
        }
    }
    all
}

impl Peer {
    fn signed(&self, nonce: &str) -> String {
        let (kid, key) = &*self.key.lock().unwrap();
        let does = self.does.lock().unwrap();
        let header = merged(json!({ "alg": "ES256", "kid": kid, "typ": "JWT" }), &does.header);
        let claims = json!({
            "iss": self.base, "sub": PERSON, "aud": "web", "azp": "web", "exp": NOW + 60, "iat": NOW, "nonce": nonce,
            "auth_time": NOW - 5, "sid": "s-1", "preferred_username": "jane",
        });
        let message = [encoded(header.to_string()), encoded(merged(claims, &does.claims).to_string())].join(".");
        let random = SystemRandom::new();
        let signature = match does.signer {
            Signer::Provider => key.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
            Signer::Stranger => new_key().sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
            Signer::Nobody => Vec::new(),
            Signer::WithThePublicKey => {
                let secret = hmac::Key::new(hmac::HMAC_SHA256, key.public_key().as_ref());
                hmac::sign(&secret, message.as_bytes()).as_ref().to_vec()
            }
        };
        [message, encoded(signature)].join(".")
    }

    /// What the person does in the browser: signs in there and is sent back with a code.
    fn consents(&self, url: &str) -> String {
        let url = Url::parse(url).unwrap();
        assert_eq!(url.path(), "/auth");
        let asked: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        let fixed = [
            ("response_type", "code"),
            ("client_id", "web"),
            ("redirect_uri", REDIRECT),
            ("scope", "openid email"),
            ("code_challenge_method", "S256"),
        ];
        for (name, value) in fixed {
            assert_eq!(asked[name], value, "{url}");
        }
        assert_eq!(asked.len(), fixed.len() + 3, "{url}");
        let mut codes = self.codes.lock().unwrap();
        let code = format!("code/{}+of&{}", codes.len(), asked["state"]);
        let consent = Consent {
            challenge: asked["code_challenge"].clone(),
            nonce: asked["nonce"].clone(),
            redirect: asked["redirect_uri"].clone(),
        };
        codes.insert(code.clone(), consent);
        code
    }

    fn times(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == path).count()
    }
}

fn no(error: &str) -> Response {
    (StatusCode::BAD_REQUEST, axum::Json(json!({ "error": error, "error_description": SECRET }))).into_response()
}

async fn answered(State(peer): State<Arc<Peer>>, uri: Uri, headers: HeaderMap, body: String) -> Response {
    let path = uri.path().to_owned();
    peer.asked.lock().unwrap().push(path.clone());
    if peer.does.lock().unwrap().silent.is_some_and(|silent| silent == path) {
        std::future::pending::<()>().await;
    }
    let instead = peer.does.lock().unwrap().instead.get(path.as_str()).cloned();
    if let Some((status, text)) = instead {
        return (StatusCode::from_u16(status).unwrap(), [("location", "/elsewhere")], text).into_response();
    }
    match path.as_str() {
        "/.well-known/openid-configuration" => {
            let base = &peer.base;
            let metadata = json!({
                "issuer": base, "authorization_endpoint": format!("{base}/auth"), "jwks_uri": format!("{base}/jwks"),
                "token_endpoint": format!("{base}/token"), "authorization_response_iss_parameter_supported": true,
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
                "response_types_supported": ["code"],
            });
            axum::Json(merged(metadata, &peer.does.lock().unwrap().metadata)).into_response()
        }
        "/jwks" => {
            let (kid, key) = &*peer.key.lock().unwrap();
            let point = key.public_key().as_ref();
            let own = json!({
                "kty": "EC", "crv": "P-256", "use": "sig", "kid": kid, "x": encoded(&point[1..33]), "y": encoded(&point[33..]),
            });
            axum::Json(json!({ "keys": [{ "kty": "oct", "kid": "another" }, own] })).into_response()
        }
        "/token" => {
            let form: BTreeMap<String, String> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
            let own = headers.get("authorization").map_or("", |v| v.to_str().unwrap()).to_owned();
            assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
            assert_eq!(form["grant_type"], "authorization_code");
            peer.shown.lock().unwrap().push((own, form.clone()));
            let Some(consent) = peer.codes.lock().unwrap().remove(&form["code"]) else { return no("invalid_grant") };
            let challenge = encoded(digest::digest(&digest::SHA256, form["code_verifier"].as_bytes()));
            let ignored = peer.does.lock().unwrap().ignores_pkce;
            if (challenge != consent.challenge && !ignored) || form["redirect_uri"] != consent.redirect {
                return no("invalid_grant");
            }
            let answer =
                json!({ "access_token": "of-no-use", "token_type": "Bearer", "id_token": peer.signed(&consent.nonce) });
            axum::Json(answer).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

struct Kept;

impl Secrets for Kept {
    fn get(&self, reference: &str) -> Result<SecretText, SecretError> {
        match reference {
            "secret://id/web" => Ok(SecretText::parse(SECRET).unwrap()),
            _ => Err(SecretError::Unknown(reference.to_owned())),
        }
    }

    fn replace(&self, reference: &str, _: &SecretText, _: &SecretText) -> Result<bool, SecretError> {
        Err(SecretError::Unwritable(reference.to_owned()))
    }
}

struct Stand {
    peer: Arc<Peer>,
    provider: Arc<OidcProvider>,
}

impl Stand {
    async fn new(change: impl FnOnce(&mut Does)) -> Stand {
        Stand::waiting(Duration::from_secs(20), |_| {}, change).await
    }

    async fn waiting(
        wait: Duration,
        configured: impl FnOnce(&mut OidcConfig),
        change: impl FnOnce(&mut Does),
    ) -> Stand {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let mut does = Does::default();
        change(&mut does);
        let peer = Arc::new(Peer {
            base: base.clone(),
            key: Mutex::new(("k-1".into(), new_key())),
            does: Mutex::new(does),
            codes: Mutex::default(),
            asked: Mutex::default(),
            shown: Mutex::default(),
        });
        let router = Router::new().fallback(answered).with_state(peer.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let mut config: OidcConfig = serde_json::from_value(json!({
            "issuer": base, "client_id": "web", "client_secret_ref": "secret://id/web", "scopes": ["openid", "email"],
        }))
        .unwrap();
        configured(&mut config);
        let clock = Arc::new(ManualClock::at(NOW * 1_000));
        let provider = OidcProvider::waiting(&config, Arc::new(Kept), clock, wait).unwrap();
        Stand { peer, provider: Arc::new(provider) }
    }

    fn does(&self, change: impl FnOnce(&mut Does)) {
        change(&mut self.peer.does.lock().unwrap());
    }

    /// A sign-in up to the moment when the browser is back.
    async fn returned(&self, name: &str) -> Result<Ending, SignInFailed> {
        let verifier = format!("{name}-verifier-of-forty-three-characters-or-more");
        let beginning = Beginning {
            redirect_uri: REDIRECT.into(),
            state: format!("{name}-state"),
            nonce: format!("{name}-nonce"),
            challenge: encoded(digest::digest(&digest::SHA256, verifier.as_bytes())),
        };
        let url = self.provider.begin(&beginning).await?;
        Ok(Ending {
            code: self.peer.consents(&url),
            issuer: Some(self.peer.base.clone()),
            redirect_uri: beginning.redirect_uri,
            nonce: beginning.nonce,
            verifier,
        })
    }

    async fn signed_in(&self) -> Result<Vouched, SignInFailed> {
        let ending = self.returned("jane").await?;
        self.provider.end(&ending).await
    }

    async fn is_honest(&self) {
        self.does(|does| *does = Does::default());
        let vouched = self.signed_in().await.unwrap();
        assert_eq!(vouched, Vouched { issuer: self.peer.base.clone(), id: PERSON.into() });
    }
}

fn why<T>(told: Result<T, SignInFailed>) -> String {
    let Err(said) = told else { panic!("it was taken") };
    assert!(!said.to_string().contains("canary"), "{said}");
    match said {
        SignInFailed::Refused(why) => why,
        SignInFailed::Unavailable(why) => format!("unavailable: {why}"),
    }
}

#[tokio::test]
async fn a_person_is_vouched_for_and_what_is_published_is_read_once() {
    let stand = Stand::new(|_| {}).await;
    assert_eq!(stand.provider.label(), "127.0.0.1");
    stand.is_honest().await;
    stand.is_honest().await;
    assert_eq!(stand.peer.times("/.well-known/openid-configuration"), 1);
    assert_eq!(stand.peer.times("/jwks"), 1);
    let shown = stand.peer.shown.lock().unwrap();
    let (own, form) = &shown[0];
    assert_eq!(*own, ["Basic ", &STANDARD.encode("web:s%3Acanary%25")].concat());
    assert!(!form.contains_key("client_secret") && form["code"] == "code/0+of&jane-state", "{form:?}");
}

#[rstest]
#[case::basic(Some("secret://id/web"), json!({}), true, false)]
#[case::nothing_said(Some("secret://id/web"), json!({ "token_endpoint_auth_methods_supported": null }), true, false)]
#[case::in_the_body(Some("secret://id/web"), json!({ "token_endpoint_auth_methods_supported": ["client_secret_post"] }), false, true)]
#[case::public(None, json!({}), false, false)]
#[tokio::test]
async fn the_client_shows_its_secret_as_the_provider_takes_it_or_has_none(
    #[case] secret: Option<&str>,
    #[case] metadata: Value,
    #[case] in_head: bool,
    #[case] in_body: bool,
) {
    let wait = Duration::from_secs(20);
    let reference = secret.map(str::to_owned);
    let stand = Stand::waiting(wait, |c| c.client_secret_ref = reference, |does| does.metadata = metadata).await;
    stand.signed_in().await.unwrap();
    let shown = stand.peer.shown.lock().unwrap();
    let (own, form) = &shown[0];
    assert_eq!((!own.is_empty(), form.contains_key("client_secret")), (in_head, in_body), "{form:?}");
    assert!(in_head || form["client_id"] == "web", "{form:?}");
}

/// T47 and what stands beside it in RFC 8725: each token is given by the provider's own endpoint.
#[rstest]
#[case::t03_none(json!({ "alg": "none" }), json!({}), Signer::Nobody, "algorithm")]
#[case::t03_none_with_a_signature(json!({ "alg": "none" }), json!({}), Signer::Provider, "algorithm")]
#[case::t03_no_signature(json!({}), json!({}), Signer::Nobody, "signature")]
#[case::t47_the_public_key_as_a_secret(json!({ "alg": "HS256" }), json!({}), Signer::WithThePublicKey, "algorithm")]
#[case::t47_the_same_under_another_name(json!({}), json!({}), Signer::WithThePublicKey, "signature")]
#[case::t47_another_algorithm(json!({ "alg": "RS256" }), json!({}), Signer::Provider, "does not publish")]
#[case::t01_another_key(json!({}), json!({}), Signer::Stranger, "signature")]
#[case::t04_an_unknown_key(json!({ "kid": "k-9" }), json!({}), Signer::Provider, "does not publish")]
#[case::t04_a_key_that_is_no_signing_key(json!({ "kid": "another" }), json!({}), Signer::Provider, "does not publish")]
#[case::an_extension(json!({ "crit": ["exp"] }), json!({}), Signer::Provider, "is none")]
#[case::too_long(json!({}), json!({ "more": "x".repeat(TOKEN_BYTES_MAX) }), Signer::Provider, "is none")]
#[case::t04_another_issuer(json!({}), json!({ "iss": "https://evil.test" }), Signer::Provider, "another issuer")]
#[case::t47_another_client(json!({}), json!({ "aud": "other", "azp": null }), Signer::Provider, "another client")]
#[case::t47_given_to_another(json!({}), json!({ "azp": "other" }), Signer::Provider, "another client")]
#[case::t05_expired(json!({}), json!({ "exp": NOW - 31 }), Signer::Provider, "expired")]
#[case::t06_no_end(json!({}), json!({ "exp": null }), Signer::Provider, "claims")]
#[case::t47_another_nonce(json!({}), json!({ "nonce": "omar-nonce" }), Signer::Provider, "another sign-in")]
#[case::t47_no_nonce(json!({}), json!({ "nonce": null }), Signer::Provider, "another sign-in")]
#[case::nobody(json!({}), json!({ "sub": "" }), Signer::Provider, "who it is about")]
#[tokio::test]
async fn a_token_that_is_not_for_this_sign_in_vouches_for_nobody(
    #[case] header: Value,
    #[case] claims: Value,
    #[case] signer: Signer,
    #[case] part: &str,
) {
    let stand = Stand::new(|does| (does.header, does.claims, does.signer) = (header, claims, signer)).await;
    let why = why(stand.signed_in().await);
    assert!(why.contains(part) && !why.contains("unavailable"), "{why}");
    stand.is_honest().await;
}

#[tokio::test]
async fn t47_a_code_is_of_use_to_its_own_sign_in_once() {
    let stand = Stand::new(|_| {}).await;
    let jane = stand.returned("jane").await.unwrap();
    let omar = stand.returned("omar").await.unwrap();
    // Jane's code put into Omar's browser: the provider sees that his verifier is not hers.
    let injected = Ending { code: jane.code.clone(), ..omar.clone() };
    assert!(why(stand.provider.end(&injected).await).contains("invalid_grant"));
    stand.provider.end(&omar).await.unwrap();
    assert!(why(stand.provider.end(&omar).await).contains("invalid_grant"), "once more");
    // A provider that knows nothing of PKCE: the token repeats her nonce.
    stand.does(|does| does.ignores_pkce = true);
    let jane = stand.returned("jane").await.unwrap();
    let injected = Ending { code: jane.code.clone(), ..stand.returned("omar").await.unwrap() };
    assert!(why(stand.provider.end(&injected).await).contains("another sign-in"));
    stand.is_honest().await;
}

#[tokio::test]
async fn t47_an_answer_of_another_provider_is_told_before_its_code_goes_anywhere() {
    let stand = Stand::new(|_| {}).await;
    let honest = stand.returned("jane").await.unwrap();
    let base = stand.peer.base.clone();
    for issuer in [Some("https://evil.test".to_owned()), Some(format!("{base}/")), Some(String::new()), None] {
        let mixed = Ending { issuer: issuer.clone(), ..honest.clone() };
        assert!(why(stand.provider.end(&mixed).await).starts_with("the answer "), "{issuer:?}");
    }
    assert_eq!(stand.peer.times("/token"), 0);
    stand.provider.end(&honest).await.unwrap();
    // Where the provider does not promise to say it, it need not.
    let silent = json!({ "authorization_response_iss_parameter_supported": null });
    let other = Stand::new(|does| does.metadata = silent).await;
    let ending = other.returned("jane").await.unwrap();
    other.provider.end(&Ending { issuer: None, ..ending }).await.unwrap();
    let ending = Ending { issuer: Some("https://evil.test".into()), ..other.returned("jane").await.unwrap() };
    assert!(why(other.provider.end(&ending).await).contains("another identity provider"));
}

const METADATA: &str = "/.well-known/openid-configuration";

#[rstest]
#[case::an_error(METADATA, 500, "{}", "answered 500")]
#[case::a_redirect(METADATA, 302, "", "answered 302")]
#[case::no_metadata(METADATA, 200, "<html>", "no metadata")]
#[case::no_keys("/jwks", 200, "{}", "no keys")]
#[case::a_redirect_to_keys("/jwks", 301, "", "answered 301")]
#[case::a_redirect_of_a_code("/token", 307, "", "answered 307")]
#[case::a_failure("/token", 503, "", "answered 503")]
#[tokio::test]
async fn a_provider_that_does_not_answer_as_one_is_unavailable_and_asked_nowhere_else(
    #[case] path: &'static str,
    #[case] status: u16,
    #[case] text: &str,
    #[case] part: &str,
) {
    let stand = Stand::new(|does| drop(does.instead.insert(path, (status, text.to_owned())))).await;
    let why = why(stand.signed_in().await);
    assert!(why.starts_with("unavailable: ") && why.contains(part), "{why}");
    assert_eq!(stand.peer.times("/elsewhere"), 0, "no redirect is followed");
    assert_eq!(stand.peer.times(path), 1, "nothing is sent twice");
    stand.is_honest().await;
}

#[rstest]
#[case::another_issuer(json!({ "issuer": "https://evil.test" }), "another issuer")]
#[case::codes_without_tls(json!({ "token_endpoint": "http://evil.test/token" }), "without TLS")]
#[case::people_without_tls(json!({ "authorization_endpoint": "http://evil.test/auth" }), "without TLS")]
#[case::keys_without_tls(json!({ "jwks_uri": "http://evil.test/jwks" }), "without TLS")]
#[case::keys_in_a_file(json!({ "jwks_uri": "file:///etc/passwd" }), "without TLS")]
#[case::t38_keys_of_a_clouds_metadata(json!({ "jwks_uri": "https://169.254.169.254/latest" }), "never connected to")]
#[case::t38_the_same_as_a_number(json!({ "jwks_uri": "https://2852039166/latest" }), "never connected to")]
#[case::t38_the_same_mapped(json!({ "jwks_uri": "https://[::ffff:a9fe:a9fe]/latest" }), "never connected to")]
#[case::t38_codes_into_a_private_network(json!({ "token_endpoint": "https://10.0.0.7/token" }), "only an operator may name")]
#[case::no_token_endpoint(json!({ "token_endpoint": null }), "no metadata")]
#[tokio::test]
async fn metadata_that_leads_elsewhere_is_not_followed(#[case] metadata: Value, #[case] part: &str) {
    let stand = Stand::new(|does| does.metadata = metadata).await;
    let why = why(stand.signed_in().await);
    assert!(why.starts_with("unavailable: ") && why.contains(part), "{why}");
    stand.is_honest().await;
}

#[tokio::test]
async fn an_answer_has_a_largest_size() {
    let padded = |bytes: usize| {
        let bare = json!({ "keys": [], "pad": "" }).to_string().len();
        json!({ "keys": [], "pad": "x".repeat(bytes - bare) }).to_string()
    };
    let largest = padded(ANSWER_BYTES_MAX);
    let stand = Stand::new(|does| drop(does.instead.insert("/jwks", (200, largest)))).await;
    assert!(stand.returned("jane").await.is_ok(), "the largest one is read");
    let stand = Stand::new(|does| drop(does.instead.insert("/jwks", (200, padded(ANSWER_BYTES_MAX + 1))))).await;
    assert!(why(stand.returned("jane").await).contains("more than"));
    stand.is_honest().await;
}

#[rstest]
#[case::word("/token", 400, r#"{"error":"invalid_client","error_description":"the canary"}"#, "invalid_client")]
#[case::an_error_that_is_no_word("/token", 401, r#"{"error":"s:canary% <b>"}"#, "code: 401")]
#[case::nothing("/token", 400, "", "code: 400")]
#[case::no_id_token("/token", 200, r#"{"access_token":"a","token_type":"Bearer"}"#, "no ID token")]
#[tokio::test]
async fn a_no_of_the_provider_is_a_refusal_and_repeats_little(
    #[case] path: &'static str,
    #[case] status: u16,
    #[case] text: &str,
    #[case] part: &str,
) {
    let stand = Stand::new(|does| drop(does.instead.insert(path, (status, text.to_owned())))).await;
    let why = why(stand.signed_in().await);
    assert!(why.contains(part) && !why.contains("unavailable"), "{why}");
    stand.is_honest().await;
}

#[rstest]
#[case::metadata(METADATA)]
#[case::keys("/jwks")]
#[case::token("/token")]
#[tokio::test]
async fn a_silent_provider_is_waited_for_and_no_longer(#[case] path: &'static str) {
    let stand = Stand::waiting(Duration::from_secs(1), |_| {}, |does| does.silent = Some(path)).await;
    let why = why(stand.signed_in().await);
    assert!(why.contains("no answer within 1000 ms"), "{why}");
    assert_eq!(stand.peer.times(path), 1);
}

#[tokio::test]
async fn steps_at_once_have_a_maximum_and_one_beyond_it_is_sent_away() {
    let stand = Stand::new(|does| does.silent = Some(METADATA)).await;
    let running: Vec<_> = (0..RUNNING_MAX)
        .map(|_| {
            let provider = stand.provider.clone();
            tokio::spawn(async move {
                let ending = Ending {
                    code: "c".into(),
                    issuer: None,
                    redirect_uri: REDIRECT.into(),
                    nonce: "n".into(),
                    verifier: "v".into(),
                };
                provider.end(&ending).await
            })
        })
        .collect();
    while stand.provider.running.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(why(stand.returned("jane").await).contains("too many at once"));
    for one in running {
        one.abort();
        assert!(one.await.unwrap_err().is_cancelled());
    }
    stand.is_honest().await;
}

#[tokio::test]
async fn t46_a_new_key_counts_at_once() {
    let stand = Stand::new(|_| {}).await;
    stand.is_honest().await;
    *stand.peer.key.lock().unwrap() = ("k-2".into(), new_key());
    stand.is_honest().await;
    assert_eq!(stand.peer.times("/jwks"), 2);
    // A token of the old one now is of a key that is not published.
    stand.does(|does| does.header = json!({ "kid": "k-1" }));
    assert!(why(stand.signed_in().await).contains("does not publish"));
}

#[tokio::test]
async fn without_its_secret_the_client_asks_for_nothing() {
    let configured = |c: &mut OidcConfig| c.client_secret_ref = Some("secret://gone".into());
    let stand = Stand::waiting(Duration::from_secs(20), configured, |_| {}).await;
    let why = why(stand.signed_in().await);
    assert!(why.starts_with("unavailable: ") && why.contains("custody secret set secret://gone"), "{why}");
    assert_eq!(stand.peer.times("/token"), 0);
}

#[tokio::test]
async fn a_provider_that_is_not_there_is_told_so() {
    let configured = |c: &mut OidcConfig| c.issuer = "http://127.0.0.1:1".into();
    let stand = Stand::waiting(Duration::from_secs(20), configured, |_| {}).await;
    assert!(why(stand.returned("jane").await).contains("cannot be connected to"));
}
