//! A token endpoint over real HTTP that gives each refresh token one successor, and what is made of its answers: what is
//! shown, kept, asked again, and never asked again.

use super::*;
use crate::upstream::tests::{Says as Tool, Stand as Tools};
use crate::upstream::tests_endpoint::{Peer, Says, says};
use crate::upstream::{Came, ServerConfig, check};
use custody_ports::secrets::SecretError;
use rstest::rstest;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex as Std;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

const REF: &str = "secret://mail/refresh";
/// How long anything may take that happens by itself.
const HAPPENS_MAX: Duration = Duration::from_secs(30);

/// What an honest endpoint gives.
struct Grants {
    /// The refresh token that is good, and how many answers were given.
    good: Std<(String, usize)>,
    /// Whether a new one is given each time, and the old one is good no more.
    rotates: bool,
}

impl Grants {
    fn honest(&self, body: &str) -> (u16, String) {
        let mut good = self.good.lock().unwrap();
        let shown = body.split('&').find_map(|pair| pair.strip_prefix("refresh_token=")).unwrap_or_default();
        if shown != good.0 {
            return (400, json!({ "error": "invalid_grant", "error_description": "Token is not active" }).to_string());
        }
        good.1 += 1;
        let mut given =
            json!({ "access_token": format!("access-{}", good.1), "token_type": "Bearer", "expires_in": 3_600 });
        if self.rotates {
            good.0 = format!("refresh-{}", good.1);
            given["refresh_token"] = json!(good.0);
        }
        (200, given.to_string())
    }
}

/// Secrets that can be changed, unless the disk is full.
#[derive(Default)]
struct Store {
    kept: Std<BTreeMap<String, String>>,
    full: AtomicBool,
}

impl Store {
    fn set(&self, reference: &str, text: &str) {
        self.kept.lock().unwrap().insert(reference.to_owned(), text.to_owned());
    }

    fn refresh(&self) -> String {
        self.kept.lock().unwrap()[REF].clone()
    }
}

impl Secrets for Store {
    fn get(&self, reference: &str) -> Result<SecretText, SecretError> {
        let kept = self.kept.lock().unwrap().get(reference).and_then(|text| SecretText::parse(text));
        kept.ok_or_else(|| SecretError::Unknown(reference.to_owned()))
    }

    fn replace(&self, reference: &str, used: &SecretText, next: &SecretText) -> Result<bool, SecretError> {
        if self.get(reference)? != *used {
            return Ok(false);
        }
        if self.full.load(Ordering::SeqCst) {
            return Err(SecretError::Unwritable("no space left".into()));
        }
        self.set(reference, next.expose());
        Ok(true)
    }
}

struct Stand {
    peer: Arc<Peer>,
    grants: Arc<Grants>,
    store: Arc<Store>,
    config: OauthConfig,
    refresh: Arc<Refresh>,
}

impl Stand {
    async fn new(rotates: bool, says: Vec<Says>) -> Stand {
        Stand::with(rotates, says, 20_000, |_| {}).await
    }

    async fn with(rotates: bool, says: Vec<Says>, ms: u64, change: impl FnOnce(&mut OauthConfig)) -> Stand {
        let grants = Arc::new(Grants { good: Std::new(("refresh-0".to_owned(), 0)), rotates });
        let honest = grants.clone();
        let (peer, at) = Peer::start(says, move |body| honest.honest(body)).await;
        let mut config: OauthConfig = serde_json::from_value(json!({
            "token_url": format!("http://{at}/token"),
            "client_id": "custody-gw", "client_secret_ref": "secret://mail/client", "refresh_ref": REF,
            "scope": "mail read",
        }))
        .unwrap();
        change(&mut config);
        let store = Arc::new(Store::default());
        store.set(REF, "refresh-0");
        store.set("secret://mail/client", "s:canary%");
        let refresh = Refresh::new(&config, ms, store.clone()).unwrap();
        Stand { peer, grants, store, config, refresh }
    }

    /// As after a restart of the gateway.
    fn restarted(&mut self) {
        self.refresh = Refresh::new(&self.config, 20_000, self.store.clone()).unwrap();
    }

    async fn token(&self) -> Result<String, Failed> {
        let told = self.refresh.token(Instant::now() + HAPPENS_MAX).await;
        told.map(|token| token.expose().to_owned())
    }

    /// The token, or the code of its refusal.
    async fn told(&self) -> String {
        self.token().await.unwrap_or_else(|failed| {
            assert!(!failed.was_sent(), "nothing was sent to the server of tools");
            failed.code().to_owned()
        })
    }

    fn asked(&self) -> usize {
        self.peer.count()
    }

    /// As if the token were as old as it may be.
    async fn over(&self) {
        self.refresh.state.lock().await.access.as_mut().unwrap().until = Instant::now();
    }

    /// As if the pause were over.
    async fn rested(&self) {
        self.refresh.state.lock().await.failure.as_mut().unwrap().until = Some(Instant::now());
    }

    async fn until(&self, holds: impl Fn(&Stand) -> bool) {
        let end = Instant::now() + HAPPENS_MAX;
        while !holds(self) {
            assert!(Instant::now() < end, "not so after {HAPPENS_MAX:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[rstest]
#[case::an_hour(Some(3_600), 3_570_000)]
#[case::twice_the_margin(Some(60), 30_000)]
#[case::short(Some(10), 5_000)]
#[case::at_once(Some(0), 0)]
#[case::nothing_said(None, 30_000)]
#[case::for_ever(Some(u64::MAX), 86_370_000)]
fn a_token_is_not_used_up_to_its_end(#[case] expires_in: Option<u64>, #[case] ms: u64) {
    assert_eq!(used_for(expires_in), Duration::from_millis(ms));
}

#[tokio::test]
async fn a_refresh_token_gives_one_access_token_until_shortly_before_its_end() {
    let stand = Stand::new(false, Vec::new()).await;
    for _ in 0..3 {
        assert_eq!(stand.told().await, "access-1");
    }
    let asked = stand.peer.asked.lock().unwrap().clone();
    // custody-gw:s%3Acanary%25 in base 64.
    let shown = "Basic Y3VzdG9keS1ndzpzJTNBY2FuYXJ5JTI1".to_owned();
    let body = "grant_type=refresh_token&refresh_token=refresh-0&scope=mail%20read".to_owned();
    assert_eq!(asked, [("/token".to_owned(), shown, body)]);
    stand.over().await;
    assert_eq!((stand.told().await.as_str(), stand.asked()), ("access-2", 2));

    // A public client says its name, and proves nothing.
    let public = Stand::with(false, Vec::new(), 20_000, |config| {
        config.client_secret_ref = None;
        config.scope = None;
    })
    .await;
    assert_eq!(public.told().await, "access-1");
    let body = "grant_type=refresh_token&refresh_token=refresh-0&client_id=custody-gw".to_owned();
    assert_eq!(*public.peer.asked.lock().unwrap(), [("/token".to_owned(), String::new(), body)]);
}

#[tokio::test]
async fn another_refresh_token_counts_from_the_next_call_on_and_so_does_none() {
    let stand = Stand::new(false, Vec::new()).await;
    assert_eq!(stand.told().await, "access-1");
    stand.grants.good.lock().unwrap().0 = "of-somebody-else".into();
    stand.store.set(REF, "of-somebody-else");
    assert_eq!((stand.told().await.as_str(), stand.asked()), ("access-2", 2));
    assert_eq!((stand.told().await.as_str(), stand.asked()), ("access-2", 2));
    stand.store.kept.lock().unwrap().remove(REF);
    assert_eq!((stand.told().await.as_str(), stand.asked()), ("SECRET_MISSING", 2));
}

#[tokio::test]
async fn many_who_need_a_token_at_once_ask_for_one() {
    let go = Arc::new(Notify::new());
    let stand = Stand::new(true, vec![Says::Held(go.clone())]).await;
    let all = futures::future::join_all((0..8).map(|_| stand.told()));
    let letting_go = async {
        stand.until(|stand| stand.asked() == 1).await;
        go.notify_one();
    };
    let (all, ()) = futures::join!(all, letting_go);
    assert_eq!(all, vec!["access-1".to_owned(); 8]);
    assert_eq!(stand.asked(), 1);
}

#[tokio::test]
async fn a_new_refresh_token_is_kept_before_its_access_token_is_used() {
    let mut stand = Stand::new(true, Vec::new()).await;
    assert_eq!((stand.told().await.as_str(), stand.store.refresh().as_str()), ("access-1", "refresh-1"));
    stand.over().await;
    assert_eq!((stand.told().await.as_str(), stand.store.refresh().as_str()), ("access-2", "refresh-2"));
    // A process that died after it was kept goes on with it.
    stand.restarted();
    assert_eq!((stand.told().await.as_str(), stand.store.refresh().as_str()), ("access-3", "refresh-3"));
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_used_and_nothing_more_is_asked_for() {
    let stand = Stand::new(true, Vec::new()).await;
    stand.store.full.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!((stand.told().await.as_str(), stand.asked()), ("REFRESH_NOT_KEPT", 1));
    }
    stand.store.full.store(false, Ordering::SeqCst);
    assert_eq!((stand.told().await.as_str(), stand.asked()), ("access-1", 1));
    assert_eq!(stand.store.refresh(), "refresh-1");
}

/// The process dies between the answer and its keeping: the old refresh token is left, and the server takes it no more.
#[tokio::test]
async fn a_refresh_token_that_was_lost_in_a_crash_is_refused_by_name_until_an_operator_gives_another() {
    let mut stand = Stand::new(true, Vec::new()).await;
    stand.store.full.store(true, Ordering::SeqCst);
    assert_eq!(stand.told().await, "REFRESH_NOT_KEPT");
    stand.restarted();
    stand.store.full.store(false, Ordering::SeqCst);
    for _ in 0..3 {
        let failed = stand.token().await.unwrap_err();
        assert_eq!((failed.code(), stand.asked()), ("REFRESH_REFUSED", 2), "it is not asked again");
        assert!(failed.detail().ends_with("answered 400: invalid_grant: Token is not active"), "{failed:?}");
    }
    stand.store.set(REF, "refresh-1");
    assert_eq!((stand.told().await.as_str(), stand.asked()), ("access-2", 3));
}

#[tokio::test]
async fn a_refresh_token_that_somebody_set_in_between_stays() {
    let go = Arc::new(Notify::new());
    let stand = Stand::new(true, vec![Says::Held(go.clone())]).await;
    let setting = async {
        stand.until(|stand| stand.asked() == 1).await;
        stand.store.set(REF, "of-an-operator");
        go.notify_one();
    };
    let (told, ()) = futures::join!(stand.told(), setting);
    assert_eq!((told.as_str(), stand.store.refresh().as_str()), ("access-1", "of-an-operator"));
}

#[tokio::test]
async fn what_was_answered_is_kept_also_when_nobody_waits_any_more() {
    let go = Arc::new(Notify::new());
    let stand = Stand::new(true, vec![Says::Held(go.clone())]).await;
    let late = stand.refresh.token(Instant::now() + Duration::from_millis(300)).await;
    assert_eq!(late.map(|_| ()).unwrap_err().code(), "REFRESH_UNAVAILABLE");
    stand.until(|stand| stand.asked() == 1).await;
    go.notify_one();
    stand.until(|stand| stand.store.refresh() == "refresh-1").await;
    assert_eq!((stand.told().await.as_str(), stand.asked()), ("access-1", 1));
}

const GOOD: &str = r#"{"access_token":"of-the-realm","token_type":"Bearer","expires_in":60}"#;

/// Each answer has its name, and is not asked for again at once: beside each, later, the honest one.
#[rstest]
#[case::granted(says(200, GOOD), "of-the-realm")]
#[case::odd_life(
    says(200, r#"{"access_token":"of-the-realm","token_type":"bearer","expires_in":"60"}"#),
    "of-the-realm"
)]
#[case::the_largest_answer(says(200, &format!("{GOOD}{}", " ".repeat(65_536 - GOOD.len()))), "of-the-realm")]
#[case::too_large(says(200, &format!("{GOOD}{}", " ".repeat(65_537 - GOOD.len()))), "REFRESH_REFUSED")]
#[case::not_our_client(says(401, r#"{"error":"invalid_client"}"#), "REFRESH_REFUSED")]
#[case::not_this_scope(says(400, r#"{"error":"invalid_scope"}"#), "REFRESH_REFUSED")]
#[case::sent_elsewhere(says(307, ""), "REFRESH_REFUSED")]
#[case::a_page(says(200, "<html>"), "REFRESH_REFUSED")]
#[case::no_token(says(200, r#"{"token_type":"Bearer"}"#), "REFRESH_REFUSED")]
#[case::another_kind(says(200, r#"{"access_token":"x","token_type":"DPoP"}"#), "REFRESH_REFUSED")]
#[case::no_header(says(200, r#"{"access_token":"x\ny","token_type":"bearer"}"#), "REFRESH_REFUSED")]
#[case::not_to_be_kept(
    says(200, r#"{"access_token":"x","token_type":"bearer","refresh_token":"a b"}"#),
    "REFRESH_REFUSED"
)]
#[case::down(says(503, "down"), "REFRESH_UNAVAILABLE")]
#[case::too_often(says(429, ""), "REFRESH_UNAVAILABLE")]
#[case::broke(vec![Says::Break], "REFRESH_UNAVAILABLE")]
#[tokio::test]
async fn an_answer_that_is_no_token_has_its_name_and_a_pause(#[case] says: Vec<Says>, #[case] expected: &str) {
    let stand = Stand::new(false, says).await;
    for _ in 0..3 {
        assert_eq!((stand.told().await.as_str(), stand.asked()), (expected, 1));
    }
    assert_eq!(stand.store.refresh(), "refresh-0");
    if expected.starts_with("REFRESH") {
        stand.rested().await;
    } else {
        stand.over().await;
    }
    assert_eq!((stand.told().await.as_str(), stand.asked()), ("access-1", 2));
    assert!(stand.peer.followed_nowhere(), "no redirect is followed");
}

#[tokio::test]
async fn pauses_grow_and_have_a_longest() {
    let down = || Says::Answer(503, String::new());
    let stand = Stand::new(false, std::iter::repeat_with(down).take(8).collect()).await;
    let mut pauses = Vec::new();
    for n in 1..=8 {
        assert_eq!((stand.told().await.as_str(), stand.asked()), ("REFRESH_UNAVAILABLE", n));
        pauses.push(stand.refresh.state.lock().await.failure.as_ref().unwrap().pause.as_secs());
        stand.rested().await;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(stand.told().await, "access-1");
    assert!(stand.refresh.state.lock().await.failure.is_none());
}

#[tokio::test]
async fn a_silent_endpoint_is_waited_for_and_no_longer() {
    let stand = Stand::with(false, vec![Says::Nothing], 300, |_| {}).await;
    let failed = stand.token().await.unwrap_err();
    assert_eq!((failed.code(), stand.asked()), ("REFRESH_UNAVAILABLE", 1));
    assert!(failed.detail().contains("300 ms"), "{failed:?}");
}

/// What is said to an agent and written down holds neither the refresh token nor the client's secret.
#[rstest]
#[case::what_it_says(r#"{"error":"invalid_request","error_description":"a\nb"}"#, "invalid_request: a?b")]
#[case::t04_the_refresh_token(r#"{"error":"invalid_grant","error_description":"no refresh-0"}"#, "answered 400")]
#[case::t04_the_secret(r#"{"error":"e","error_description":"no s:canary%"}"#, "answered 400")]
#[case::no_error("{}", "answered 400")]
#[tokio::test]
async fn an_error_repeats_no_secret(#[case] text: &str, #[case] ends: &str) {
    let stand = Stand::new(false, says(400, text)).await;
    let failed = stand.token().await.unwrap_err();
    assert!(failed.code() == "REFRESH_REFUSED" && failed.detail().ends_with(ends), "{failed:?}");
    assert!(!failed.detail().contains("refresh-0") && !failed.detail().contains("canary"), "{failed:?}");
}

#[rstest]
#[case::the_refresh_token(REF)]
#[case::the_clients_secret("secret://mail/client")]
#[tokio::test]
async fn without_its_secrets_nothing_is_asked(#[case] reference: &str) {
    let stand = Stand::new(false, Vec::new()).await;
    let before = stand.store.kept.lock().unwrap().remove(reference).unwrap();
    assert_eq!((stand.told().await.as_str(), stand.asked()), ("SECRET_MISSING", 0));
    stand.store.set(reference, &before);
    assert_eq!(stand.told().await, "access-1");
}

#[tokio::test]
async fn a_token_that_the_server_of_tools_does_not_take_is_asked_for_anew_but_not_at_once() {
    let stand = Stand::new(false, Vec::new()).await;
    let first = stand.refresh.token(Instant::now() + HAPPENS_MAX).await.unwrap();
    stand.refresh.not_taken(&first).await;
    assert_eq!((stand.told().await.as_str(), stand.asked()), ("access-1", 1));
    stand.refresh.state.lock().await.access.as_mut().unwrap().given = Instant::now() - SETTLED;
    stand.refresh.not_taken(&SecretText::parse("another").unwrap()).await;
    assert_eq!((stand.told().await.as_str(), stand.asked()), ("access-1", 1));
    stand.refresh.not_taken(&first).await;
    assert_eq!((stand.told().await.as_str(), stand.asked()), ("access-2", 2));
}

/// What the server of tools is shown is the access token, on every request, and it never comes back in an answer.
#[tokio::test]
async fn a_server_of_tools_is_shown_the_access_token_and_nothing_else() {
    let stand = Stand::with(false, Vec::new(), 20_000, |_| {}).await;
    // The secrets of the server of tools know one reference, whose value is the one that the endpoint takes.
    *stand.grants.good.lock().unwrap() = ("t4-canary-key".to_owned(), 0);
    let oauth = OauthConfig { client_secret_ref: None, refresh_ref: "secret://mail".into(), ..stand.config.clone() };
    let tools = Tools::new(|config| {
        config.cred_ref = None;
        config.oauth = Some(oauth);
    })
    .await;
    let content = json!({ "content": [{ "type": "text", "text": "sent" }] });
    for _ in 0..2 {
        let came = tools.call("irreversible", Tool::Result(content.clone())).await;
        assert!(matches!(came, Came::Done(_)), "{came:?}");
    }
    let leaks = json!({ "content": [{ "type": "text", "text": "you are access-1" }] });
    let came = tools.call("irreversible", Tool::Result(leaks)).await;
    assert!(matches!(came, Came::Unknown { code: "SECRET_IN_ANSWER", .. }), "{came:?}");
    let asked = tools.peer.asked.lock().unwrap();
    assert_eq!(asked.len(), 5, "a greeting, what follows it, and three calls");
    assert!(asked.iter().all(|(_, shown, _)| shown == "Bearer access-1"), "{asked:?}");
    assert_eq!(stand.asked(), 1);
}

#[tokio::test]
async fn a_refused_refresh_token_ends_a_call_by_its_name_and_nothing_is_sent() {
    let stand = Stand::new(false, Vec::new()).await;
    let oauth = OauthConfig { client_secret_ref: None, refresh_ref: "secret://mail".into(), ..stand.config.clone() };
    let tools = Tools::new(|config| {
        config.cred_ref = None;
        config.oauth = Some(oauth);
    })
    .await;
    for _ in 0..3 {
        let came = tools.call("irreversible", Tool::Nothing).await;
        assert!(matches!(came, Came::Failed { code: "REFRESH_REFUSED", .. }), "{came:?}");
    }
    assert!(tools.peer.asked.lock().unwrap().is_empty());
    assert_eq!(stand.asked(), 1, "no storm");
}

#[rstest]
#[case::honest("/oauth/token_url", json!("https://id.test/token"), true)]
#[case::this_machine("/oauth/token_url", json!("http://localhost:8080/token"), true)]
#[case::a_public_client("/oauth/client_secret_ref", Value::Null, true)]
#[case::without_tls("/oauth/token_url", json!("http://id.test/token"), false)]
#[case::a_value("/oauth/refresh_ref", json!("1//0abc"), false)]
#[case::a_secret_by_value("/oauth/client_secret_ref", json!("hunter2"), false)]
#[case::no_client("/oauth/client_id", json!(""), false)]
#[case::a_newline("/oauth/scope", json!("crm\nread"), false)]
#[case::a_secret_too("/cred_ref", json!("secret://mail"), false)]
#[case::own_tokens_too("/audience", json!("https://mail.test/mcp"), false)]
#[case::others_tokens_too(
    "/exchange",
    json!({ "issuer": "https://id.test", "token_url": "https://id.test/token", "client_id": "a", "client_secret_ref": "secret://a" }),
    false
)]
fn a_refresh_token_is_checked_before_it_is_used(#[case] at: &str, #[case] value: Value, #[case] good: bool) {
    let mut one = json!({
        "url": "https://mail.test/mcp", "cred_ref": null, "audience": null, "exchange": null,
        "oauth": {
            "token_url": "https://id.test/token", "client_id": "custody", "client_secret_ref": "secret://a",
            "refresh_ref": REF, "scope": "mail",
        },
    });
    *one.pointer_mut(at).unwrap() = value;
    let one: ServerConfig = serde_json::from_value(one).unwrap();
    let found = check(&BTreeMap::from([("mail".to_owned(), one)]));
    assert_eq!(found.is_ok(), good, "{:?}", found.err());
}
