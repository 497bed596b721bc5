//! The token service over a log in memory: what is signed, what is refused and recorded, and a rotation while tokens are
//! in use. The numbers are those of the attack list.

use super::{DispatchAsk, ExchangeAsk, RETIRING_MS, RotateKeys, TokenDesk, TokenParts};
use crate::authority::tests::{Given, NOW, ask, data, given, grant, launched, message, register};
use crate::keys::KeyBook;
use crate::presenting::Presenter;
use crate::runtime::tests::put;
use custody_contracts::canonical::{canonical, digest};
use custody_contracts::events::{KeyIntroduced, LedgerEvent, Role, TYPES};
use custody_contracts::ids::DispatchId;
use custody_contracts::messages::ErrorDoc;
use custody_contracts::token::AssertionClaims;
use custody_domain::token::{Audience, Issuer};
use custody_ledger::{MemoryLog, Sign};
use custody_ports::asks::{AskFailed, Asks};
use custody_ports::clock::Clock;
use custody_ports::token_keys::{NewTokenKey, TokenKeyError, TokenKeyStore};
use custody_testkit::fakes::ManualClock;
use custody_trust::RoleKey;
use custody_trust::issued::{Names, verify_dispatch, verify_tool};
use custody_trust::key::thumbprint;
use custody_trust::token::{ACTOR, Claims, mint};
use custody_trust::token_keys::TokenKeys;
use futures::future::BoxFuture;
use rstest::rstest;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const TOOLS: &str = "https://tools.test/mcp";

/// Secret halves in memory, made one after the other.
#[derive(Default)]
struct Made(Mutex<(u8, BTreeMap<String, [u8; 32]>)>);

impl TokenKeyStore for Made {
    fn make(&self) -> Result<NewTokenKey, TokenKeyError> {
        let mut made = self.0.lock().unwrap();
        made.0 += 1;
        let seed = [100 + made.0; 32];
        let key = RoleKey::for_tokens(&seed);
        made.1.insert(key.kid().to_owned(), seed);
        Ok(NewTokenKey { kid: key.kid().to_owned(), public_key: key.public_hex() })
    }
    fn open(&self, kid: &str) -> Result<Option<Arc<dyn Sign>>, TokenKeyError> {
        let made = self.0.lock().unwrap();
        Ok(made.1.get(kid).map(|seed| Arc::new(RoleKey::for_tokens(seed)) as Arc<dyn Sign>))
    }
    fn forget(&self, kid: &str) -> Result<(), TokenKeyError> {
        self.0.lock().unwrap().1.remove(kid);
        Ok(())
    }
}

fn gateway() -> RoleKey {
    RoleKey::from_seed(Role::Gateway, &[3; 32])
}

fn other_gateway() -> RoleKey {
    RoleKey::from_seed(Role::Gateway, &[4; 32])
}

fn names() -> Names {
    Names::of("https://custody.test")
}

struct Stand {
    given: Given,
    desk: TokenDesk,
    clock: Arc<ManualClock>,
    store: Arc<Made>,
    dispatch: String,
}

async fn claim(log: &MemoryLog, dispatch: &str) {
    run_event(log, "RunClaimed", dispatch).await;
}

async fn run_event(log: &MemoryLog, shape: &str, dispatch: &str) {
    golden_event(log, shape, dispatch, &[("dispatch", json!(dispatch))]).await;
}

/// Writes an event of the contract's examples down, with other fields.
async fn golden_event(log: &MemoryLog, shape: &str, id: &str, changes: &[(&str, Value)]) {
    let golden = format!("../../contracts/ledger.v2/golden/{shape}.minimal.json");
    let text = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(golden)).unwrap();
    let mut value: Value = serde_json::from_slice(&text).unwrap();
    for (field, with) in changes {
        value[*field] = with.clone();
    }
    let event_type = TYPES.iter().find(|(_, s)| *s == shape).unwrap().0;
    put(log, LedgerEvent::decode(event_type, &value.to_string()).unwrap(), id).await;
}

async fn admitted(given: &Given, seq: u64, id: &str) -> String {
    let mut event: Value = serde_json::from_slice(&message(id, "hello")).unwrap();
    event["data"]["tools"] = json!(["workspace_list", "workspace_read"]);
    let launch = launched(seq, canonical(&event).into_bytes());
    let reply = given.admission.decide(&launch).await.unwrap().unwrap().reply;
    reply.dispatch.to_string()
}

impl Stand {
    async fn new() -> Stand {
        let given = given().await;
        register(&given.commands, "web").await.unwrap();
        ask(&given.commands, "grant.revoke", json!({ "grant": "g-1", "by": "t", "why": "w" })).await.unwrap();
        let wider = [("/id", json!("g-2")), ("/tools", json!(["workspace_list", "workspace_read"]))];
        grant(&given.commands, "web", &wider).await.unwrap();
        for key in [gateway(), other_gateway()] {
            let (kid, public_key) = (key.kid().to_owned(), key.public_hex());
            let introduced = KeyIntroduced { kid, role: Role::Gateway, public_key, instance: "i".into() };
            given.commands.introduce(introduced).await.unwrap();
        }
        let dispatch = admitted(&given, 1, "m-1").await;
        claim(&given.log, &dispatch).await;
        let keys = KeyBook::default();
        given.log.messages().iter().for_each(|stored| keys.take_in(stored));
        let (clock, store) = (Arc::new(ManualClock::at(NOW)), Arc::new(Made::default()));
        let desk = TokenDesk::new(TokenParts {
            log: Arc::new(crate::checked::CheckedLog::new(Arc::new(given.log.clone()))),
            signer: given.commands.signer.clone(),
            clock: clock.clone(),
            grants: given.commands.grants.grants.clone(),
            keys,
            store: store.clone(),
            names: names(),
            audiences: BTreeMap::from([("builtin".to_owned(), Audience::Server(TOOLS.to_owned()))]),
        });
        desk.prepare_keys().await.unwrap();
        Stand { given, desk, clock, store, dispatch }
    }

    fn now(&self) -> u64 {
        self.clock.now().0 / 1_000
    }

    fn proof(&self, key: &RoleKey, dispatch: &str, jti: &str) -> String {
        let now = self.now();
        let claims = Claims {
            iss: ACTOR.issuer.into(),
            sub: dispatch.into(),
            aud: ACTOR.audience.into(),
            scope: "token:exchange".into(),
            jti: jti.into(),
            iat: now,
            nbf: now,
            exp: now + 60,
        };
        mint(key, &ACTOR, &claims).unwrap()
    }

    fn ask_of(&self, dispatch: &str, jti: &str) -> DispatchAsk {
        DispatchAsk { actor_token: self.proof(&gateway(), dispatch, jti), txn: None }
    }

    async fn d(&self, jti: &str) -> Result<String, ErrorDoc> {
        let actor_token = self.proof(&gateway(), &self.dispatch, jti);
        let given = self.desk.dispatch(DispatchAsk { actor_token, txn: None }).await?;
        Ok(given["token"].as_str().unwrap().to_owned())
    }

    /// An honest exchange, and what somebody makes of it.
    async fn x(&self, d: &str, jti: &str, change: impl FnOnce(&mut ExchangeAsk)) -> Result<Value, ErrorDoc> {
        let mut ask = ExchangeAsk {
            subject_token: d.to_owned(),
            actor_token: self.proof(&gateway(), &self.dispatch, jti),
            audience: TOOLS.into(),
            scope: Some("tool:workspace_read".into()),
            txn: Some(format!("{}-t1", self.dispatch)),
        };
        change(&mut ask);
        self.desk.exchange(ask).await
    }

    fn keys(&self) -> TokenKeys {
        TokenKeys::from_jwks(&self.desk.jwks())
    }

    fn states(&self) -> Vec<(String, String)> {
        let all = self.desk.list_keys();
        let of = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
        let tokens = all.as_array().unwrap().iter().filter(|one| one["signs"] == "tokens");
        let mut states: Vec<_> = tokens.map(|one| (of(one, "state"), of(one, "kid"))).collect();
        states.sort();
        states
    }
}

#[tokio::test]
async fn a_token_is_signed_exchanged_and_recorded_and_stands_nowhere() {
    let stand = Stand::new().await;
    let d = stand.d("p-1").await.unwrap();
    let claims = verify_dispatch(&stand.keys(), &d, &names(), stand.now()).unwrap();
    assert_eq!((claims.sub.as_str(), claims.dispatch_id.as_str()), ("u_jane", stand.dispatch.as_str()));
    assert_eq!(claims.scope, "agent:run ws:default:ro tool:workspace_list tool:workspace_read");
    let x = stand.x(&d, "p-2", |_| {}).await.unwrap();
    assert_eq!((x["expires_in"].as_u64(), x["scope"].as_str()), (Some(120), Some("tool:workspace_read")));
    let x = x["token"].as_str().unwrap().to_owned();
    // A server of tools, with the published keys alone.
    let told = verify_tool(&stand.keys(), &x, &names(), TOOLS, stand.now()).unwrap();
    assert_eq!((told.sub, told.act.act.sub, told.launcher), (claims.sub, claims.act.sub, claims.launcher));
    assert_eq!(told.txn, Some(format!("{}-t1", stand.dispatch)));

    let issued = data(&stand.given.log, "custody.token.issued.v1");
    let [first, second] = issued.as_slice() else { panic!("{issued:#?}") };
    assert_eq!((first["typ"].as_str(), second["typ"].as_str()), (Some("dispatch+jwt"), Some("at+jwt")));
    assert_eq!((&second["from"], &second["actor"]), (&first["jti"], &json!(gateway().kid())));
    for (token, event) in [(&d, first), (&x, second)] {
        use base64::Engine as _;
        let body = token.split('.').nth(1).unwrap();
        let body = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(body).unwrap();
        assert_eq!(event["claims_digest"], digest(&body), "whoever holds the token can show that it is this one");
        for stored in stand.given.log.messages() {
            let text = String::from_utf8(stored.bytes).unwrap();
            assert!(!text.contains(token.rsplit('.').next().unwrap()), "{text}");
        }
    }
}

/// Each beside the honest exchange, which succeeds after it; each is one event with its reason.
#[rstest]
#[case::t17_more_than_the_dispatch(|a: &mut ExchangeAsk, _: &Stand| a.scope = Some("tool:workspace_write".into()), "TOKEN_SCOPE")]
#[case::t20_another_audience(|a: &mut ExchangeAsk, _: &Stand| a.audience = "https://evil.test/mcp".into(), "TOKEN_TARGET")]
#[case::another_dispatchs_call(|a: &mut ExchangeAsk, _: &Stand| a.txn = Some("d-other-t1".into()), "TOKEN_TXN")]
#[case::t02_changed(|a: &mut ExchangeAsk, _: &Stand| a.subject_token = a.subject_token.replacen("eyJ", "eyK", 1), "TOKEN_MALFORMED")]
#[case::t09_a_proof_as_dispatch_token(|a: &mut ExchangeAsk, _: &Stand| a.subject_token = a.actor_token.clone(), "TOKEN_TYPE")]
#[case::t09_the_dispatch_token_as_proof(|a: &mut ExchangeAsk, _: &Stand| a.actor_token = a.subject_token.clone(), "TOKEN_TYPE")]
#[case::t11_the_proof_again(|a: &mut ExchangeAsk, s: &Stand| a.actor_token = s.proof(&gateway(), &s.dispatch, "p-1"), "TOKEN_REPLAYED")]
#[case::t13_another_gateway(|a: &mut ExchangeAsk, s: &Stand| a.actor_token = s.proof(&other_gateway(), &s.dispatch, "p-x"), "TOKEN_BINDING")]
#[case::another_dispatch(|a: &mut ExchangeAsk, s: &Stand| a.actor_token = s.proof(&gateway(), "d-other", "p-x"), "TOKEN_DISPATCH")]
#[case::t01_a_stranger(|a: &mut ExchangeAsk, s: &Stand| a.actor_token = s.proof(&RoleKey::from_seed(Role::Gateway, &[9; 32]), &s.dispatch, "p-x"), "TOKEN_KEY")]
#[case::another_role(|a: &mut ExchangeAsk, s: &Stand| a.actor_token = s.proof(&RoleKey::from_seed(Role::Authority, &[1; 32]), &s.dispatch, "p-x"), "TOKEN_KEY")]
#[case::t05_expired(|a: &mut ExchangeAsk, s: &Stand| { s.clock.advance(906_000); a.actor_token = s.proof(&gateway(), &s.dispatch, "p-x"); }, "TOKEN_EXPIRED")]
#[tokio::test]
async fn what_is_not_right_is_refused_by_its_name_and_recorded(
    #[case] change: fn(&mut ExchangeAsk, &Stand),
    #[case] code: &str,
) {
    let stand = Stand::new().await;
    let d = stand.d("p-1").await.unwrap();
    let refused = stand.x(&d, "p-2", |ask| change(ask, &stand)).await.unwrap_err();
    assert_eq!(refused.code, code, "{refused:?}");
    let recorded = data(&stand.given.log, "custody.token.refused.v1");
    assert_eq!(recorded.len(), 1, "{recorded:?}");
    assert_eq!((recorded[0]["reason"].as_str(), recorded[0]["count"].as_u64()), (Some(code), Some(1)));
    let d = if code == "TOKEN_EXPIRED" { stand.d("p-3").await.unwrap() } else { d };
    stand.x(&d, "p-4", |_| {}).await.unwrap();
}

/// T18, T42: a dispatch that has ended, or whose grant was taken back, gets nothing more.
#[tokio::test]
async fn what_stands_no_more_gets_no_token() {
    let stand = Stand::new().await;
    let d = stand.d("p-1").await.unwrap();
    stand.x(&d, "p-2", |_| {}).await.unwrap();
    run_event(&stand.given.log, "RunFinished", &stand.dispatch).await;
    assert_eq!(stand.x(&d, "p-3", |_| {}).await.unwrap_err().code, "TOKEN_DISPATCH_NOT_RUNNING");
    let waiting = admitted(&stand.given, 2, "m-2").await;
    let unclaimed = stand.ask_of(&waiting, "p-4");
    assert_eq!(stand.desk.dispatch(unclaimed).await.unwrap_err().code, "TOKEN_DISPATCH_NOT_RUNNING");
    claim(&stand.given.log, &waiting).await;
    let claimed = stand.ask_of(&waiting, "p-5");
    stand.desk.dispatch(claimed).await.unwrap();
    ask(&stand.given.commands, "grant.revoke", json!({ "grant": "g-2", "by": "t", "why": "w" })).await.unwrap();
    let revoked = stand.ask_of(&waiting, "p-6");
    assert_eq!(stand.desk.dispatch(revoked).await.unwrap_err().code, "GRANT_REVOKED");
    let unknown = stand.ask_of("d-unknown", "p-7");
    assert_eq!(stand.desk.dispatch(unknown).await.unwrap_err().code, "TOKEN_DISPATCH_NOT_RUNNING");
}

/// Who a call is for is told to an authorization server of others in a token of its own kind; whose call it is stays with
/// the dispatch, and what stands no more gets none.
#[tokio::test]
async fn an_assertion_is_signed_for_one_call_and_recorded() {
    const REALM: &str = "https://id.test/realms/acme";
    let mut stand = Stand::new().await;
    let users = Some(BTreeMap::from([("u_jane".to_owned(), "7b0e2c1a".to_owned())]));
    let realm = Audience::Issuer(Issuer { id: REALM.into(), users });
    stand.desk.audiences = Arc::new(BTreeMap::from([("builtin".to_owned(), realm)]));
    let dispatch = DispatchId::parse(&stand.dispatch).unwrap();
    let wire = Wire(Some(stand.desk.clone()), Arc::default());
    let pass = stand.presenter(&wire).pass(&dispatch);
    let txn = Some(format!("{dispatch}-t1"));
    let assertion = pass.for_tool("builtin", "workspace_read", txn.clone()).await.unwrap().unwrap();
    let part = |n: usize| {
        use base64::Engine as _;
        let part = assertion.expose().split('.').nth(n).unwrap();
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()
    };
    let header: Value = serde_json::from_slice(&part(0)).unwrap();
    assert_eq!((&header["alg"], &header["typ"]), (&json!("EdDSA"), &json!("authorization-grant+jwt")));
    let claims: AssertionClaims = serde_json::from_slice(&part(1)).unwrap();
    assert_eq!((claims.iss, claims.sub.as_str(), claims.aud.as_str()), (names().sts(), "7b0e2c1a", REALM));
    assert_eq!((claims.txn, claims.exp - claims.iat), (txn, 120));
    let issued = data(&stand.given.log, "custody.token.issued.v1");
    let [first, second] = issued.as_slice() else { panic!("{issued:#?}") };
    assert_eq!((&second["typ"], &second["aud"]), (&header["typ"], &json!(REALM)));
    assert_eq!((&second["scope"], &second["from"]), (&json!("tool:workspace_read"), &first["jti"]));
    assert_eq!(second["claims_digest"], digest(&part(1)));
    // It is no tool token, and no dispatch token either.
    let refused = verify_tool(&stand.keys(), assertion.expose(), &names(), REALM, stand.now()).unwrap_err();
    assert_eq!(refused.code(), "TOKEN_TYPE");
    let refused = verify_dispatch(&stand.keys(), assertion.expose(), &names(), stand.now()).unwrap_err();
    assert_eq!(refused.code(), "TOKEN_TYPE");
    // Each beside the honest one: the door that the web may ask at, two tools, and what stands no more.
    let d = stand.d("p-d").await.unwrap();
    let at_the_realm = |ask: &mut ExchangeAsk| ask.audience = REALM.into();
    assert_eq!(stand.x(&d, "p-x", at_the_realm).await.unwrap_err().code, "TOKEN_TARGET");
    let ask = |jti: &str, scope: &str| ExchangeAsk {
        subject_token: d.clone(),
        actor_token: stand.proof(&gateway(), &stand.dispatch, jti),
        audience: REALM.into(),
        scope: Some(scope.to_owned()),
        txn: None,
    };
    let both = ask("p-y", "tool:workspace_read tool:workspace_list");
    assert_eq!(stand.desk.assert(both).await.unwrap_err().code, "TOKEN_SCOPE");
    stand.desk.assert(ask("p-z", "tool:workspace_read")).await.unwrap();
    assert_eq!(stand.desk.assert(ask("p-z", "tool:workspace_read")).await.unwrap_err().code, "TOKEN_REPLAYED");
    ask_to_revoke(&stand).await;
    assert_eq!(stand.desk.assert(ask("p-r", "tool:workspace_read")).await.unwrap_err().code, "GRANT_REVOKED");
    let assertions = data(&stand.given.log, "custody.token.issued.v1");
    assert_eq!(assertions.iter().filter(|one| one["typ"] == header["typ"]).count(), 2);
}

async fn ask_to_revoke(stand: &Stand) {
    ask(&stand.given.commands, "grant.revoke", json!({ "grant": "g-2", "by": "t", "why": "w" })).await.unwrap();
}

/// A person may say yes when the dispatch has long ended: the one call has a token of its own then, from the yes to its end.
#[tokio::test]
async fn an_approved_call_gets_a_token_for_itself_also_after_its_dispatch() {
    let stand = Stand::new().await;
    let (log, dispatch) = (&stand.given.log, json!(stand.dispatch));
    let card = format!("{}-t3", stand.dispatch);
    let asked = async |jti: &str| {
        let ask = DispatchAsk { txn: Some(card.clone()), ..stand.ask_of(&stand.dispatch, jti) };
        stand.desk.dispatch(ask).await.map(|given| given["token"].as_str().unwrap().to_owned())
    };
    run_event(log, "RunFinished", &stand.dispatch).await;
    assert_eq!(asked("p-1").await.unwrap_err().code, "TOKEN_CALL", "nothing waits");
    let waits = [("dispatch", dispatch.clone()), ("tool", json!("workspace_read"))];
    golden_event(log, "ToolAwaiting", &card, &waits).await;
    assert_eq!(asked("p-2").await.unwrap_err().code, "TOKEN_CALL", "nobody said yes");
    golden_event(log, "ApprovalDecided", &card, &[("dispatch", dispatch.clone()), ("card", json!(card))]).await;
    let d = asked("p-3").await.unwrap();
    let claims = verify_dispatch(&stand.keys(), &d, &names(), stand.now()).unwrap();
    assert_eq!(claims.scope, "tool:workspace_read", "that call and nothing else");
    assert_eq!(stand.d("p-4").await.unwrap_err().code, "TOKEN_DISPATCH_NOT_RUNNING");
    let of_call = |ask: &mut ExchangeAsk| ask.txn = Some(card.clone());
    let x = stand.x(&d, "p-5", of_call).await.unwrap();
    let told = verify_tool(&stand.keys(), x["token"].as_str().unwrap(), &names(), TOOLS, stand.now()).unwrap();
    assert_eq!((told.txn, told.scope.as_str()), (Some(card.clone()), "tool:workspace_read"));
    // T17: not another tool of the same dispatch, and no other call.
    let wider = |ask: &mut ExchangeAsk| (ask.txn, ask.scope) = (Some(card.clone()), Some("tool:workspace_list".into()));
    assert_eq!(stand.x(&d, "p-6", wider).await.unwrap_err().code, "TOKEN_SCOPE");
    assert_eq!(stand.x(&d, "p-7", |_| {}).await.unwrap_err().code, "TOKEN_TXN");
    golden_event(log, "ToolRefused", &card, &[("dispatch", dispatch), ("n", json!(3))]).await;
    assert_eq!(stand.x(&d, "p-8", of_call).await.unwrap_err().code, "TOKEN_CALL", "it was closed");
}

/// T46: a rotation while tokens are in use.
#[tokio::test(start_paused = true)]
async fn keys_are_rotated_while_tokens_are_in_use() {
    let stand = Stand::new().await;
    let rotate = |at_once| RotateKeys { by: "t".into(), why: "monthly".into(), at_once };
    let [(active, first), (next, second)] = stand.states().try_into().unwrap();
    assert_eq!((active.as_str(), next.as_str()), ("active", "next"));
    stand.desk.prepare_keys().await.unwrap();
    assert_eq!(stand.states().len(), 2, "prepared once");
    let published = |kid: &str| stand.keys().get(kid).is_some();
    assert!(published(&first) && published(&second), "the next one is published before it signs");

    let d = stand.d("p-1").await.unwrap();
    stand.desk.rotate_keys(rotate(false)).await.unwrap();
    let states: BTreeMap<String, String> = stand.states().into_iter().map(|(state, kid)| (kid, state)).collect();
    assert_eq!((states[&first].as_str(), states[&second].as_str(), states.len()), ("retiring", "active", 3));
    // What the old key signed is good until its end; what is signed now is signed by the new one.
    let x = stand.x(&d, "p-2", |_| {}).await.unwrap();
    verify_tool(&stand.keys(), x["token"].as_str().unwrap(), &names(), TOOLS, stand.now()).unwrap();
    let issued = data(&stand.given.log, "custody.token.issued.v1");
    assert_eq!((issued[0]["kid"].as_str(), issued[1]["kid"].as_str()), (Some(first.as_str()), Some(second.as_str())));

    // When the last of its tokens has ended it is retired, and its secret half is gone.
    let cancel = CancellationToken::new();
    let retiring = tokio::spawn(stand.desk.clone().retire_ended(cancel.clone()));
    stand.clock.advance(RETIRING_MS);
    let mut changes = stand.desk.keys.changes();
    tokio::time::timeout(Duration::from_secs(120), async {
        while stand.store.open(&first).unwrap().is_some() {
            changes.changed().await.unwrap();
        }
    })
    .await
    .unwrap_or(());
    cancel.cancel();
    retiring.await.unwrap();
    assert!(stand.store.open(&first).unwrap().is_none());
    assert!(!published(&first) && published(&second));

    // At once: what was signed is refused from here on, and asked for anew.
    let d = stand.d("p-3").await.unwrap();
    stand.x(&d, "p-4", |_| {}).await.unwrap();
    stand.desk.rotate_keys(rotate(true)).await.unwrap();
    assert_eq!(stand.x(&d, "p-5", |_| {}).await.unwrap_err().code, "TOKEN_KEY_RETIRED");
    let d = stand.d("p-6").await.unwrap();
    stand.x(&d, "p-7", |_| {}).await.unwrap();
    let turned = data(&stand.given.log, "custody.key.token_key_changed.v1");
    let seen: Vec<&str> = turned.iter().map(|e| e["state"].as_str().unwrap()).collect();
    assert_eq!(
        seen,
        [
            "next", "active", "next", "active", "retiring", "next", "retired", "next", "active", "retired", "retired",
            "next"
        ]
    );
}

#[tokio::test]
async fn refusals_beyond_the_rate_are_counted_and_not_each_written_down() {
    let stand = Stand::new().await;
    for _ in 0..100 {
        stand.desk.dispatch(DispatchAsk { actor_token: "x".into(), txn: None }).await.unwrap_err();
    }
    let recorded = data(&stand.given.log, "custody.token.refused.v1");
    assert_eq!(recorded.len(), 60);
    stand.clock.advance(60_000);
    stand.desk.dispatch(DispatchAsk { actor_token: "x".into(), txn: None }).await.unwrap_err();
    assert_eq!(data(&stand.given.log, "custody.token.refused.v1")[60]["count"], 41);
}

/// The wire between a gateway and the token service; cut when there is none.
#[derive(Clone)]
struct Wire(Option<TokenDesk>, Arc<AtomicUsize>);

impl Asks for Wire {
    fn ask<'a>(&'a self, subject: &'a str, body: Vec<u8>) -> BoxFuture<'a, Result<Vec<u8>, AskFailed>> {
        Box::pin(async move {
            let desk = self.0.as_ref().ok_or_else(|| AskFailed::NobodyThere(subject.to_owned()))?;
            self.1.fetch_add(1, Ordering::SeqCst);
            let told = match subject {
                "command.token.dispatch" => desk.dispatch(serde_json::from_slice(&body).unwrap()).await,
                "command.token.exchange" => desk.exchange(serde_json::from_slice(&body).unwrap()).await,
                "command.token.assert" => desk.assert(serde_json::from_slice(&body).unwrap()).await,
                other => panic!("{other}"),
            };
            let answer = told.map_or_else(|e| serde_json::to_value(e).unwrap(), |ok| json!({ "ok": ok }));
            Ok(answer.to_string().into_bytes())
        })
    }
}

impl Stand {
    fn presenter(&self, wire: &Wire) -> Presenter {
        Presenter {
            asks: Arc::new(wire.clone()),
            jkt: thumbprint(gateway().verifying().as_bytes()),
            signer: Arc::new(gateway()),
            clock: self.clock.clone(),
            keys: self.desk.keys.clone(),
            names: names(),
            audiences: self.desk.audiences.clone(),
            incarnation: "p-1".into(),
            proofs: Arc::default(),
        }
    }
}

#[tokio::test]
async fn the_gateway_verifies_what_it_holds_and_renews_it_in_time() {
    let stand = Stand::new().await;
    let wire = Wire(Some(stand.desk.clone()), Arc::default());
    let dispatch = DispatchId::parse(&stand.dispatch).unwrap();
    let pass = stand.presenter(&wire).pass(&dispatch);
    let asked = async || {
        pass.stands().await.unwrap();
        wire.1.load(Ordering::SeqCst)
    };
    assert_eq!((asked().await, asked().await), (1, 1), "asked for once");
    stand.clock.advance(839_000);
    assert_eq!(asked().await, 1);
    stand.clock.advance(2_000);
    assert_eq!(asked().await, 2, "renewed before it ends");
    let at_once = RotateKeys { by: "t".into(), why: "w".into(), at_once: true };
    stand.desk.rotate_keys(at_once).await.unwrap();
    assert_eq!(asked().await, 3, "a retired key's token is good for nothing here either");
    let txn = Some(format!("{}-t1", stand.dispatch));
    let token = pass.for_tool("builtin", "workspace_read", txn).await.unwrap().unwrap();
    verify_tool(&stand.keys(), token.expose(), &names(), TOOLS, stand.now()).unwrap();
    assert!(pass.for_tool("another", "another__x", None).await.unwrap().is_none(), "no audience, no token");
    // T18: what stands no more. The refusal has the rule's code in its sentence.
    run_event(&stand.given.log, "RunFinished", &stand.dispatch).await;
    let refused = pass.for_tool("builtin", "workspace_read", None).await.err().unwrap();
    assert!(refused.code == "TOKEN_REFUSED" && refused.detail.contains("NOT_RUNNING"), "{refused:?}");
}

/// T44, at the token service: a dispatch token that has ended is no token of now again.
#[tokio::test]
async fn t44_a_clock_that_is_moved_back_makes_no_ended_token_good_again() {
    let stand = Stand::new().await;
    let d = stand.d("p-1").await.unwrap();
    stand.clock.move_back(600_000);
    stand.x(&d, "p-2", |_| {}).await.unwrap();
    stand.clock.advance(906_000);
    stand.clock.move_back(900_000);
    assert_eq!(stand.x(&d, "p-3", |_| {}).await.unwrap_err().code, "TOKEN_EXPIRED");
}

/// T44: a clock that is moved back makes the token that is held no better.
#[tokio::test(start_paused = true)]
async fn t44_a_clock_that_is_moved_back_makes_no_token_good_for_longer() {
    let stand = Stand::new().await;
    let wire = Wire(Some(stand.desk.clone()), Arc::default());
    let pass = stand.presenter(&wire).pass(&DispatchId::parse(&stand.dispatch).unwrap());
    pass.stands().await.unwrap();
    tokio::time::advance(Duration::from_secs(600)).await;
    pass.stands().await.unwrap();
    assert_eq!(wire.1.load(Ordering::SeqCst), 1, "beside it, in its time: the token that is held is good");
    // By the clock that is read no time has passed at all, and the token would be good for ever.
    tokio::time::advance(Duration::from_secs(301)).await;
    pass.stands().await.unwrap();
    assert_eq!(wire.1.load(Ordering::SeqCst), 2, "asked for anew");
}

/// A token service that takes a request and never answers.
struct Silent;

impl Asks for Silent {
    fn ask<'a>(&'a self, _: &'a str, _: Vec<u8>) -> BoxFuture<'a, Result<Vec<u8>, AskFailed>> {
        Box::pin(std::future::pending())
    }
}

/// T45: a token service that is slow is one that is not there, after a bound.
#[tokio::test(start_paused = true)]
async fn t45_a_token_service_that_never_answers_is_refused_in_time() {
    let stand = Stand::new().await;
    let dispatch = DispatchId::parse(&stand.dispatch).unwrap();
    let mut presenter = stand.presenter(&Wire(None, Arc::default()));
    presenter.asks = Arc::new(Silent);
    let begun = tokio::time::Instant::now();
    let refused = presenter.pass(&dispatch).stands().await.unwrap_err();
    assert!(refused.code == "TOKEN_UNAVAILABLE" && refused.detail.contains("in time"), "{refused:?}");
    assert_eq!(begun.elapsed().as_secs(), 10);
    let wire = Wire(Some(stand.desk.clone()), Arc::default());
    stand.presenter(&wire).pass(&dispatch).stands().await.unwrap();
}

/// T45: no token, no call.
#[tokio::test]
async fn without_the_token_service_nothing_is_presented() {
    let stand = Stand::new().await;
    let dispatch = DispatchId::parse(&stand.dispatch).unwrap();
    let cut = stand.presenter(&Wire(None, Arc::default())).pass(&dispatch);
    assert_eq!(cut.stands().await.unwrap_err().code, "TOKEN_UNAVAILABLE");
    let wire = Wire(Some(stand.desk.clone()), Arc::default());
    stand.presenter(&wire).pass(&dispatch).stands().await.unwrap();
    // A token of another gateway's is none of this one's.
    let mut other = stand.presenter(&wire);
    other.incarnation = "p-2".into();
    other.jkt = thumbprint(other_gateway().verifying().as_bytes());
    let refused = other.pass(&dispatch).stands().await.unwrap_err();
    assert!(refused.detail.contains("TOKEN_BINDING"), "{refused:?}");
}
