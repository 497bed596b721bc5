//! A token endpoint over real HTTP, and what is made of its answers: what it is shown, what is tried again, what is said.

use super::tests_endpoint::{Peer, Says, says};
use super::*;
use custody_ports::identity::NoIdentity;
use custody_ports::secrets::SecretError;
use rstest::rstest;

const ASSERTION: &str = "head.claims.signature";
const GOOD: &str = r#"{"access_token":"of-the-realm","token_type":"Bearer","expires_in":60,"scope":"crm"}"#;
const EXCHANGED: &str = r#"{"access_token":"of-the-server","token_type":"Bearer","expires_in":60,"issued_token_type":"urn:ietf:params:oauth:token-type:access_token"}"#;

/// What an honest endpoint gives for a form.
fn honest(body: &str) -> (u16, String) {
    let of = if body.contains("&subject_token=") { EXCHANGED } else { GOOD };
    (200, of.to_owned())
}

/// With a token for the assertion, what the endpoint says to its exchange.
fn then(says: Vec<Says>) -> Vec<Says> {
    std::iter::once(Says::Answer(200, GOOD.to_owned())).chain(says).collect()
}

/// What the endpoint gives in exchange, with one member changed.
fn instead(member: &str, value: Value) -> Vec<Says> {
    let mut given: Value = serde_json::from_str(EXCHANGED).unwrap();
    given[member] = value;
    then(says(200, &given.to_string()))
}

fn for_one(config: &mut ServerConfig) {
    config.exchange.as_mut().unwrap().audience = Some("https://crm.test/mcp".into());
}

struct Kept;

impl Secrets for Kept {
    fn get(&self, reference: &str) -> Result<SecretText, SecretError> {
        match reference {
            "secret://id/custody" => Ok(SecretText::parse("s:canary%").unwrap()),
            _ => Err(SecretError::Unknown(reference.to_owned())),
        }
    }

    fn replace(&self, reference: &str, _: &SecretText, _: &SecretText) -> Result<bool, SecretError> {
        Err(SecretError::Unwritable(reference.to_owned()))
    }
}

fn config(at: std::net::SocketAddr) -> ServerConfig {
    serde_json::from_value(json!({
        "url": "http://127.0.0.1:9/mcp", "timeout_ms": 20_000,
        "exchange": {
            "issuer": "https://id.test/realms/acme", "token_url": format!("http://{at}/token"),
            "client_id": "custody-gw", "client_secret_ref": "secret://id/custody", "scope": "crm read",
        },
    }))
    .unwrap()
}

struct Stand {
    peer: Arc<Peer>,
    upstreams: Upstreams,
}

impl Stand {
    async fn new(says: Vec<Says>, change: impl FnOnce(&mut ServerConfig)) -> Stand {
        let (peer, at) = Peer::start(says, honest).await;
        let mut config = config(at);
        change(&mut config);
        let servers = BTreeMap::from([("crm".to_owned(), config)]);
        Stand { peer, upstreams: Upstreams::new(&servers, Arc::new(Kept), Arc::new(NoIdentity)).unwrap() }
    }

    async fn shown(&self) -> Result<String, ToolRefusal> {
        let assertion = SecretText::parse(ASSERTION).unwrap();
        self.upstreams.shown("crm", assertion).await.map(|token| token.expose().to_owned())
    }

    fn asked(&self) -> usize {
        self.peer.count()
    }
}

#[tokio::test]
async fn an_assertion_is_exchanged_for_a_token_that_is_kept_nowhere() {
    let stand = Stand::new(Vec::new(), |_| {}).await;
    assert_eq!(stand.shown().await.unwrap(), "of-the-realm");
    assert_eq!(stand.shown().await.unwrap(), "of-the-realm");
    let asked = stand.peer.asked.lock().unwrap().clone();
    let [first, second] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!(first, second, "each request has a token of its own");
    let grant = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
    assert_eq!(first.2, format!("grant_type={grant}&assertion={ASSERTION}&scope=crm%20read"));
    // custody-gw:s%3Acanary%25 in base 64.
    assert_eq!((first.0.as_str(), first.1.as_str()), ("/token", "Basic Y3VzdG9keS1ndzpzJTNBY2FuYXJ5JTI1"));
    // A server that has no such exchange is shown the token itself.
    let own = SecretText::parse("of-our-own").unwrap();
    assert_eq!(stand.upstreams.shown("another", own).await.unwrap().expose(), "of-our-own");
}

#[rstest]
#[case::granted(says(200, GOOD), "ok", 1)]
#[case::the_largest_answer(says(200, &format!("{GOOD}{}", " ".repeat(65_536 - GOOD.len()))), "ok", 1)]
#[case::too_large(says(200, &format!("{GOOD}{}", " ".repeat(65_537 - GOOD.len()))), "EXCHANGE_REFUSED", 1)]
#[case::no_such_user(
    says(400, r#"{"error":"invalid_grant","error_description":"User not found"}"#),
    "EXCHANGE_REFUSED",
    1
)]
#[case::not_our_client(says(401, r#"{"error":"invalid_client"}"#), "EXCHANGE_REFUSED", 1)]
#[case::sent_elsewhere(says(307, ""), "EXCHANGE_REFUSED", 1)]
#[case::a_page(says(200, "<html>"), "EXCHANGE_REFUSED", 1)]
#[case::no_token(says(200, r#"{"token_type":"Bearer"}"#), "EXCHANGE_REFUSED", 1)]
#[case::another_kind(says(200, r#"{"access_token":"x","token_type":"DPoP"}"#), "EXCHANGE_REFUSED", 1)]
#[case::no_header(says(200, r#"{"access_token":"x\ny","token_type":"bearer"}"#), "EXCHANGE_REFUSED", 1)]
#[case::down(says(503, "down"), "EXCHANGE_UNAVAILABLE", 1)]
#[case::too_often(says(429, ""), "EXCHANGE_UNAVAILABLE", 1)]
#[case::broke_once(vec![Says::Break], "ok", 2)]
#[case::broke_twice(vec![Says::Break, Says::Break], "EXCHANGE_UNAVAILABLE", 2)]
#[tokio::test]
async fn each_answer_has_its_name_and_is_asked_for_once(
    #[case] says: Vec<Says>,
    #[case] expected: &str,
    #[case] asked: usize,
) {
    let stand = Stand::new(says, |_| {}).await;
    let told = stand.shown().await;
    assert_eq!(told.as_ref().map_or_else(|no| no.code, |_| "ok"), expected, "{told:?}");
    assert_eq!(stand.asked(), asked);
    assert!(stand.peer.followed_nowhere(), "no redirect is followed");
    assert_eq!(stand.shown().await.unwrap(), "of-the-realm", "beside it the honest one");
}

#[tokio::test]
async fn a_silent_endpoint_is_waited_for_and_no_longer() {
    let stand = Stand::new(vec![Says::Nothing], |config| config.timeout_ms = 300).await;
    let told = stand.shown().await.unwrap_err();
    assert!(told.code == "EXCHANGE_UNAVAILABLE" && told.detail.contains("300 ms"), "{told:?}");
    assert_eq!(stand.asked(), 1);
    let gone = Stand::new(Vec::new(), |config| {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        config.exchange.as_mut().unwrap().token_url = format!("http://{nobody}/token");
    })
    .await;
    let told = gone.shown().await.unwrap_err();
    assert!(told.code == "EXCHANGE_UNAVAILABLE" && told.detail.contains("cannot be reached"), "{told:?}");
}

#[tokio::test]
async fn a_token_is_exchanged_for_one_of_one_audience_and_only_that_one_is_shown() {
    let stand = Stand::new(Vec::new(), for_one).await;
    assert_eq!(stand.shown().await.unwrap(), "of-the-server");
    assert_eq!(stand.shown().await.unwrap(), "of-the-server");
    let asked = stand.peer.asked.lock().unwrap().clone();
    let [first, second, third, fourth] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!((first, second), (third, fourth), "each request has tokens of its own");
    assert!(first.2.contains(&format!("&assertion={ASSERTION}&scope=")), "{first:?}");
    let kind = "urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token";
    let body = format!(
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token=of-the-realm\
         &subject_token_type={kind}&requested_token_type={kind}&audience=https%3A%2F%2Fcrm.test%2Fmcp&scope=crm%20read"
    );
    assert_eq!((&second.0, &second.1, &second.2), (&first.0, &first.1, &body));
}

/// The token that was to be exchanged is shown to no server of tools, whatever comes of it.
#[rstest]
#[case::granted(then(says(200, EXCHANGED)), "ok", 2)]
#[case::the_longest_life(instead("expires_in", json!(3_600)), "ok", 2)]
#[case::too_long(instead("expires_in", json!(3_601)), "EXCHANGE_REFUSED", 2)]
#[case::over_already(instead("expires_in", json!(0)), "EXCHANGE_REFUSED", 2)]
#[case::no_end(instead("expires_in", Value::Null), "EXCHANGE_REFUSED", 2)]
#[case::an_odd_end(instead("expires_in", json!("60")), "EXCHANGE_REFUSED", 2)]
#[case::no_kind(instead("issued_token_type", Value::Null), "EXCHANGE_REFUSED", 2)]
#[case::an_id_token(instead("issued_token_type", json!("urn:ietf:params:oauth:token-type:id_token")), "EXCHANGE_REFUSED", 2)]
#[case::no_bearer(instead("token_type", json!("N_A")), "EXCHANGE_REFUSED", 2)]
#[case::the_same(instead("access_token", json!("of-the-realm")), "EXCHANGE_REFUSED", 2)]
#[case::no_token(instead("access_token", Value::Null), "EXCHANGE_REFUSED", 2)]
#[case::no_header(instead("access_token", json!("x\ny")), "EXCHANGE_REFUSED", 2)]
#[case::the_largest_answer(then(says(200, &format!("{EXCHANGED}{}", " ".repeat(65_536 - EXCHANGED.len())))), "ok", 2)]
#[case::too_large(then(says(200, &format!("{EXCHANGED}{}", " ".repeat(65_537 - EXCHANGED.len())))), "EXCHANGE_REFUSED", 2)]
#[case::not_this_audience(
    then(says(400, r#"{"error":"invalid_request","error_description":"Requested audience not available: crm"}"#)),
    "EXCHANGE_REFUSED",
    2
)]
#[case::sent_elsewhere(then(says(307, "")), "EXCHANGE_REFUSED", 2)]
#[case::a_page(then(says(200, "<html>")), "EXCHANGE_REFUSED", 2)]
#[case::down(then(says(503, "down")), "EXCHANGE_UNAVAILABLE", 2)]
#[case::too_often(then(says(429, "")), "EXCHANGE_UNAVAILABLE", 2)]
#[case::broke_once(then(vec![Says::Break]), "ok", 3)]
#[case::broke_twice(then(vec![Says::Break, Says::Break]), "EXCHANGE_UNAVAILABLE", 3)]
#[case::nothing_to_exchange(says(400, r#"{"error":"invalid_grant"}"#), "EXCHANGE_REFUSED", 1)]
#[case::no_token_to_exchange(says(200, r#"{"access_token":"x\ny","token_type":"bearer"}"#), "EXCHANGE_REFUSED", 1)]
#[tokio::test]
async fn each_answer_to_an_exchange_has_its_name_and_is_asked_for_once(
    #[case] says: Vec<Says>,
    #[case] expected: &str,
    #[case] asked: usize,
) {
    let stand = Stand::new(says, for_one).await;
    let told = stand.shown().await;
    let told =
        told.as_ref().map_or_else(|no| no.code, |token| if token == "of-the-server" { "ok" } else { token.as_str() });
    assert_eq!((told, stand.asked()), (expected, asked));
    assert!(stand.peer.followed_nowhere(), "no redirect is followed");
    assert_eq!(stand.shown().await.unwrap(), "of-the-server", "beside it the honest one");
}

#[tokio::test]
async fn one_wait_is_for_both_questions() {
    let change = |config: &mut ServerConfig| {
        for_one(config);
        config.timeout_ms = 1_000;
    };
    let stand = Stand::new(then(vec![Says::Nothing]), change).await;
    let told = stand.shown().await.unwrap_err();
    assert!(told.code == "EXCHANGE_UNAVAILABLE" && told.detail.contains("1000 ms"), "{told:?}");
    assert_eq!(stand.asked(), 2);
}

#[rstest]
#[case::what_it_says(
    r#"{"error":"invalid_request","error_description":"Requested audience not available: crm"}"#,
    "asked for one audience, the authorization server answered 400: invalid_request: Requested audience not available: crm"
)]
#[case::t04_the_token(r#"{"error":"e","error_description":"no of-the-realm"}"#, "answered 400")]
#[case::t04_the_assertion(&format!(r#"{{"error":"e","error_description":"no {ASSERTION}"}}"#), "answered 400")]
#[case::t04_the_secret(r#"{"error":"e","error_description":"no s:canary%"}"#, "answered 400")]
#[tokio::test]
async fn an_error_of_an_exchange_repeats_no_secret(#[case] text: &str, #[case] ends: &str) {
    let stand = Stand::new(then(says(400, text)), for_one).await;
    let told = stand.shown().await.unwrap_err();
    assert!(told.code == "EXCHANGE_REFUSED" && told.detail.ends_with(ends), "{told:?}");
    for hidden in ["of-the-realm", ASSERTION, "canary"] {
        assert!(!told.detail.contains(hidden), "{told:?}");
    }
}

/// What is said to an agent and written down holds neither the assertion nor the client's secret.
#[rstest]
#[case::what_it_says(
    r#"{"error":"invalid_grant","error_description":"Token reuse\ndetected"}"#,
    "invalid_grant: Token reuse?detected"
)]
#[case::not_forever(&format!(r#"{{"error":"{}"}}"#, "x".repeat(60_000)), &"x".repeat(200))]
#[case::t04_the_assertion(&format!(r#"{{"error":"e","error_description":"no {ASSERTION}"}}"#), "answered 400")]
#[case::t04_the_secret(r#"{"error":"e","error_description":"no s:canary%"}"#, "answered 400")]
#[case::no_error("{}", "answered 400")]
#[tokio::test]
async fn an_error_repeats_no_secret(#[case] text: &str, #[case] ends: &str) {
    let stand = Stand::new(says(400, text), |_| {}).await;
    let told = stand.shown().await.unwrap_err();
    assert!(told.detail.ends_with(ends), "{told:?}");
    assert!(!told.detail.contains("canary") && !told.detail.contains(ASSERTION) && told.detail.len() < 300);
}

#[tokio::test]
async fn without_the_clients_secret_nothing_is_sent() {
    let change = |config: &mut ServerConfig| config.exchange.as_mut().unwrap().client_secret_ref = "secret://no".into();
    let stand = Stand::new(Vec::new(), change).await;
    assert_eq!((stand.shown().await.unwrap_err().code, stand.asked()), ("SECRET_MISSING", 0));
}

#[rstest]
#[case::honest("/exchange/issuer", json!("https://id.test"), true)]
#[case::this_machine("/exchange/token_url", json!("http://localhost:8080/token"), true)]
#[case::without_tls("/exchange/token_url", json!("http://id.test/token"), false)]
#[case::t37_a_clouds_metadata("/exchange/token_url", json!("https://169.254.169.254/token"), false)]
#[case::t37_a_clouds_metadata_as_a_number("/exchange/token_url", json!("https://2852039166/token"), false)]
#[case::a_house_of_its_own("/exchange/token_url", json!("https://10.0.0.7/token"), true)]
#[case::a_user_in_it("/exchange/token_url", json!("https://a@id.test/token"), false)]
#[case::no_issuer("/exchange/issuer", json!("acme"), false)]
#[case::a_value("/exchange/client_secret_ref", json!("hunter2"), false)]
#[case::no_client("/exchange/client_id", json!(""), false)]
#[case::a_newline("/exchange/scope", json!("crm\nread"), false)]
#[case::users("/exchange/users", json!({ "u_jane": "7b0e2c1a" }), true)]
#[case::no_id("/exchange/users", json!({ "u_jane": "" }), false)]
#[case::a_space("/exchange/users", json!({ "u_jane": "jane doe" }), false)]
#[case::a_secret_too("/cred_ref", json!("secret://mail"), false)]
#[case::own_tokens_too("/audience", json!("https://crm.test/mcp"), false)]
fn an_exchange_is_checked_before_it_is_used(#[case] at: &str, #[case] value: Value, #[case] good: bool) {
    let mut one = json!(config("127.0.0.1:9".parse().unwrap()));
    *one.pointer_mut(at).unwrap() = value;
    let one: ServerConfig = serde_json::from_value(one).unwrap();
    // Two servers may stand behind one authorization server.
    let two = BTreeMap::from([("crm".to_owned(), one.clone()), ("erp".to_owned(), one)]);
    assert_eq!(check(&two).is_ok(), good, "{:?}", check(&two).err());
    let many: BTreeMap<String, String> = (0..10_001).map(|n| (format!("u_{n}"), n.to_string())).collect();
    let mut full = two["crm"].clone();
    full.exchange.as_mut().unwrap().users = Some(many);
    assert!(check(&BTreeMap::from([("crm".to_owned(), full)])).is_err());
}

#[rstest]
#[case::honest("https://crm.test/mcp", true)]
#[case::the_longest(&"a".repeat(255), true)]
#[case::too_long(&"a".repeat(256), false)]
#[case::none("", false)]
#[case::two("crm erp", false)]
#[case::ourselves("custody-gw", false)]
fn an_audience_names_one_server_and_not_the_gateway(#[case] audience: &str, #[case] good: bool) {
    let mut one = config("127.0.0.1:9".parse().unwrap());
    one.exchange.as_mut().unwrap().audience = Some(audience.to_owned());
    let found = check(&BTreeMap::from([("crm".to_owned(), one)]));
    assert_eq!(found.is_ok(), good, "{:?}", found.err());
}

/// A token that is exchanged is of use at one server alone.
#[test]
fn servers_of_one_issuer_have_audiences_of_their_own() {
    let named = |audience: &str| {
        let mut one = config("127.0.0.1:9".parse().unwrap());
        one.exchange.as_mut().unwrap().audience = Some(audience.to_owned());
        one
    };
    let mut two = BTreeMap::from([("crm".to_owned(), named("crm")), ("erp".to_owned(), named("erp"))]);
    assert!(check(&two).is_ok(), "{:?}", check(&two).err());
    two.insert("erp".into(), named("crm"));
    let told = check(&two).unwrap_err().to_string();
    assert!(told.contains("exchange.audience is another server's too"), "{told}");
    two.get_mut("erp").unwrap().exchange.as_mut().unwrap().issuer = "https://id.test/realms/other".into();
    assert!(check(&two).is_ok(), "another issuer's names are others: {:?}", check(&two).err());
    // What would be for an authorization server of another kind is not passed over.
    let mut written = json!(two["crm"]);
    written["exchange"]["resource"] = json!("https://crm.test/mcp");
    let told = serde_json::from_value::<ServerConfig>(written).unwrap_err().to_string();
    assert!(told.contains("unknown field `resource`"), "{told}");
}
