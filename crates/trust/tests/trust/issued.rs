//! Tokens that are issued: the honest one passes, and each forged, stale, misdirected or replayed one is refused by its
//! name. The numbers are those of the attack list.

use crate::fixtures::{Writer, authority, beginning, gateway, golden, meta, retire, runtime};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use custody_contracts::canonical::canonical;
use custody_contracts::events::{KeyEvent, LedgerEvent, Role};
use custody_contracts::token::{DispatchClaims, TokenKeyChanged, TokenKeyState, TokenType, ToolClaims};
use custody_ledger::Sign;
use custody_ledger::recorded::encode;
use custody_trust::issued::{
    DISPATCH_LIFE_SECS_MAX, ISSUED_BYTES_MAX, Names, TOOL_LIFE_SECS_MAX, bound, mint, verify_actor, verify_dispatch,
    verify_tool,
};
use custody_trust::key::thumbprint;
use custody_trust::keyring::NotAuthentic;
use custody_trust::token::{ACTOR, Claims, SKEW_SECS};
use custody_trust::token_keys::TokenKeys;
use custody_trust::{Keyring, RoleKey};
use rstest::rstest;
use serde_json::{Value, json};
use std::path::Path;

const NOW: u64 = 1_795_381_200;
const MAIL: &str = "https://gmail.tools.acme.test/mcp";

fn names() -> Names {
    Names::of("https://acme.test")
}

fn signing() -> RoleKey {
    RoleKey::for_tokens(&[21; 32])
}

fn turned(key: &RoleKey, state: TokenKeyState) -> LedgerEvent {
    LedgerEvent::Key(KeyEvent::TokenKey(TokenKeyChanged {
        kid: key.kid().into(),
        state,
        public_key: key.public_hex(),
        by: "test".into(),
        why: "test".into(),
    }))
}

/// The beginning of a log, and a key for tokens brought through these states.
fn log_with(key: &RoleKey, states: &[TokenKeyState]) -> Writer {
    let mut writer = beginning();
    for state in states {
        writer.say(&authority(), key.kid(), &[turned(key, *state)]);
    }
    writer
}

fn ring_of(writer: &Writer) -> Keyring {
    let mut ring = Keyring::new();
    for message in &writer.messages {
        ring.admit(message).unwrap();
    }
    ring
}

fn keys() -> TokenKeys {
    ring_of(&log_with(&signing(), &[TokenKeyState::Next, TokenKeyState::Active])).tokens().clone()
}

fn example(shape: &str) -> Value {
    let path = format!("../../contracts/token.v1/golden/{shape}.full.json");
    serde_json::from_str(&std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()).unwrap()
}

fn dispatch() -> DispatchClaims {
    let mut claims: DispatchClaims = serde_json::from_value(example("DispatchClaims")).unwrap();
    (claims.iss, claims.aud) = (names().identity(), names().gateway());
    (claims.iat, claims.nbf, claims.exp) = (NOW, NOW, NOW + 600);
    claims.cnf.jkt = thumbprint(gateway().verifying().as_bytes());
    claims
}

fn tool() -> ToolClaims {
    let mut claims: ToolClaims = serde_json::from_value(example("ToolClaims")).unwrap();
    claims.iss = names().sts();
    (claims.iat, claims.nbf, claims.exp) = (NOW, NOW, NOW + 60);
    claims
}

fn minted(claims: &DispatchClaims) -> String {
    mint(&signing(), TokenType::Dispatch, claims).unwrap().token
}

fn code(token: &str) -> &'static str {
    match verify_dispatch(&keys(), token, &names(), NOW) {
        Ok(claims) => {
            assert_eq!(claims.sub.as_str(), "u_jane");
            "ok"
        }
        Err(refused) => refused.code(),
    }
}

#[rstest]
#[case::honest(|_: &mut DispatchClaims| {}, "ok")]
#[case::t04_other_issuer(|c: &mut DispatchClaims| c.iss = "https://evil.test/identity".into(), "TOKEN_ISSUER")]
#[case::t09_the_token_services_issuer(|c: &mut DispatchClaims| c.iss = names().sts(), "TOKEN_ISSUER")]
#[case::t05_expired_long_ago(|c: &mut DispatchClaims| (c.iat, c.nbf, c.exp) = (NOW - 4_000, NOW - 4_000, NOW - 3_600), "TOKEN_EXPIRED")]
#[case::t05_expired(|c: &mut DispatchClaims| (c.iat, c.nbf, c.exp) = (NOW - 300, NOW - 300, NOW - SKEW_SECS), "TOKEN_EXPIRED")]
#[case::t05_expired_within_the_skew(|c: &mut DispatchClaims| (c.iat, c.nbf, c.exp) = (NOW - 300, NOW - 300, NOW - SKEW_SECS + 1), "ok")]
#[case::t05_not_yet(|c: &mut DispatchClaims| c.nbf = NOW + SKEW_SECS + 1, "TOKEN_NOT_YET")]
#[case::t05_issued_ahead(|c: &mut DispatchClaims| c.iat = NOW + SKEW_SECS + 1, "TOKEN_NOT_YET")]
#[case::t06_longest_life(|c: &mut DispatchClaims| c.exp = NOW + DISPATCH_LIFE_SECS_MAX, "ok")]
#[case::t06_lives_too_long(|c: &mut DispatchClaims| c.exp = NOW + DISPATCH_LIFE_SECS_MAX + 1, "TOKEN_LIFE")]
#[case::t06_thirty_days(|c: &mut DispatchClaims| c.exp = NOW + 30 * 86_400, "TOKEN_LIFE")]
#[case::t06_ends_before_it_begins(|c: &mut DispatchClaims| c.exp = NOW - 1, "TOKEN_LIFE")]
#[case::t07_other_audience(|c: &mut DispatchClaims| c.aud = MAIL.into(), "TOKEN_AUDIENCE")]
#[case::t07_longer_audience(|c: &mut DispatchClaims| c.aud += "/", "TOKEN_AUDIENCE")]
#[case::another_dispatch_as_actor(|c: &mut DispatchClaims| c.act.sub = names().dispatch_actor("d-other"), "TOKEN_ACTOR")]
#[case::another_trust_domain(|c: &mut DispatchClaims| c.act.sub = "spiffe://evil.test/dispatch/d-7f3a".into(), "TOKEN_ACTOR")]
#[case::another_launcher_at_the_top(|c: &mut DispatchClaims| c.launcher = "user:cli".parse_ref(), "TOKEN_ACTOR")]
fn what_a_dispatch_token_says_is_checked(#[case] change: fn(&mut DispatchClaims), #[case] expected: &str) {
    let mut claims = dispatch();
    change(&mut claims);
    assert_eq!(code(&minted(&claims)), expected);
}

trait ParseRef {
    fn parse_ref(&self) -> custody_contracts::ids::LauncherRef;
}

impl ParseRef for str {
    fn parse_ref(&self) -> custody_contracts::ids::LauncherRef {
        custody_contracts::ids::LauncherRef::parse(self).unwrap()
    }
}

/// A token whose header and body are any bytes, signed by a good key all the same.
fn signed_by(key: &RoleKey, header: &str, body: &str) -> String {
    let text = [B64.encode(header), B64.encode(body)].join(".");
    [text.clone(), B64.encode(key.sign(text.as_bytes()))].join(".")
}

fn header() -> Value {
    json!({ "alg": "EdDSA", "kid": signing().kid(), "typ": "dispatch+jwt" })
}

#[rstest]
#[case::honest(|_: &mut Value, _: &mut Value| {}, "ok")]
#[case::t03_none(|h: &mut Value, _: &mut Value| h["alg"] = json!("none"), "TOKEN_ALGORITHM")]
#[case::t03_hmac(|h: &mut Value, _: &mut Value| h["alg"] = json!("HS256"), "TOKEN_ALGORITHM")]
#[case::t03_rsa(|h: &mut Value, _: &mut Value| h["alg"] = json!("RS256"), "TOKEN_ALGORITHM")]
#[case::t03_other_case(|h: &mut Value, _: &mut Value| h["alg"] = json!("eddsa"), "TOKEN_ALGORITHM")]
#[case::t03_no_algorithm(|h: &mut Value, _: &mut Value| { h.as_object_mut().unwrap().remove("alg"); }, "TOKEN_ALGORITHM")]
#[case::t04_unknown_key(|h: &mut Value, _: &mut Value| h["kid"] = json!("token-0000000000000000"), "TOKEN_KEY")]
#[case::t04_a_key_of_a_role(|h: &mut Value, _: &mut Value| h["kid"] = json!(authority().kid()), "TOKEN_KEY")]
#[case::no_key(|h: &mut Value, _: &mut Value| { h.as_object_mut().unwrap().remove("kid"); }, "TOKEN_MALFORMED")]
#[case::t09_a_grant(|h: &mut Value, _: &mut Value| h["typ"] = json!("grant+jwt"), "TOKEN_TYPE")]
#[case::t09_a_tool_token(|h: &mut Value, _: &mut Value| h["typ"] = json!("at+jwt"), "TOKEN_TYPE")]
#[case::t09_any_token(|h: &mut Value, _: &mut Value| h["typ"] = json!("JWT"), "TOKEN_TYPE")]
#[case::critical(|h: &mut Value, _: &mut Value| h["crit"] = json!(["exp"]), "TOKEN_MALFORMED")]
#[case::key_of_its_own(|h: &mut Value, _: &mut Value| h["jwk"] = json!({"kty": "OKP"}), "TOKEN_MALFORMED")]
#[case::key_from_elsewhere(|h: &mut Value, _: &mut Value| h["jku"] = json!("http://x"), "TOKEN_MALFORMED")]
#[case::t06_no_end(|_: &mut Value, b: &mut Value| { b.as_object_mut().unwrap().remove("exp"); }, "TOKEN_MALFORMED")]
#[case::t07_no_audience(|_: &mut Value, b: &mut Value| { b.as_object_mut().unwrap().remove("aud"); }, "TOKEN_MALFORMED")]
#[case::t07_two_audiences(|_: &mut Value, b: &mut Value| b["aud"] = json!([names().gateway(), MAIL]), "TOKEN_MALFORMED")]
#[case::t07_one_audience_as_a_list(|_: &mut Value, b: &mut Value| b["aud"] = json!([names().gateway()]), "TOKEN_MALFORMED")]
#[case::t15_no_confirmation(|_: &mut Value, b: &mut Value| { b.as_object_mut().unwrap().remove("cnf"); }, "TOKEN_MALFORMED")]
#[case::unknown_claim(|_: &mut Value, b: &mut Value| b["admin"] = json!(true), "TOKEN_MALFORMED")]
#[case::may_act(|_: &mut Value, b: &mut Value| b["may_act"] = json!({ "sub": "user:cli" }), "TOKEN_MALFORMED")]
#[case::an_actor_too_many(|_: &mut Value, b: &mut Value| b["act"]["act"]["act"] = json!({ "sub": "user:cli" }), "TOKEN_MALFORMED")]
#[case::end_as_text(|_: &mut Value, b: &mut Value| b["exp"] = json!("2099"), "TOKEN_MALFORMED")]
#[case::short_id(|_: &mut Value, b: &mut Value| b["jti"] = json!("1"), "TOKEN_MALFORMED")]
fn header_and_members_are_exact(#[case] change: fn(&mut Value, &mut Value), #[case] expected: &str) {
    let (mut header, mut body) = (header(), serde_json::to_value(dispatch()).unwrap());
    change(&mut header, &mut body);
    assert_eq!(code(&signed_by(&signing(), &canonical(&header), &canonical(&body))), expected);
}

/// One value has one text: what a second reader could read otherwise is refused, although the signature is good.
#[rstest]
#[case::honest(|h, b| (h, b), "ok")]
#[case::t26_a_claim_twice(|h, b: String| (h, b.replacen('{', r#"{"sub":"u_omar","#, 1)), "TOKEN_NOT_CANONICAL")]
#[case::t26_twice_alike(|h, b: String| (h, b.replacen(r#""sub":"u_jane""#, r#""sub":"u_jane","sub":"u_jane""#, 1)), "TOKEN_NOT_CANONICAL")]
#[case::t26_twice_by_an_escape(|h, b: String| (h, b.replacen(r#""sub":"u_jane""#, r#""\u0073ub":"u_omar","sub":"u_jane""#, 1)), "TOKEN_NOT_CANONICAL")]
#[case::t26_twice_below(|h, b: String| (h, b.replacen(r#"{"jkt":"#, r#"{"jkt":"x","jkt":"#, 1)), "TOKEN_NOT_CANONICAL")]
#[case::t26_algorithm_twice(|h: String, b| (h.replacen('{', r#"{"alg":"none","#, 1), b), "TOKEN_NOT_CANONICAL")]
#[case::a_space(|h, b: String| (h, b.replacen(':', ": ", 1)), "TOKEN_NOT_CANONICAL")]
#[case::two_documents(|h, b: String| (h, b + "{}"), "TOKEN_MALFORMED")]
#[case::not_json(|h, _| (h, "<html>".into()), "TOKEN_MALFORMED")]
fn one_value_has_one_text(#[case] change: fn(String, String) -> (String, String), #[case] expected: &str) {
    let body = canonical(&serde_json::to_value(dispatch()).unwrap());
    let (header, body) = change(canonical(&header()), body);
    assert_eq!(code(&signed_by(&signing(), &header, &body)), expected);
}

#[rstest]
#[case::t01_another_key_under_the_same_id(|t: &mut Vec<String>| {
    let text = t[..2].join(".");
    t[2] = B64.encode(RoleKey::for_tokens(&[22; 32]).sign(text.as_bytes()));
}, "TOKEN_SIGNATURE")]
#[case::t01_authoritys_own_key(|t: &mut Vec<String>| t[2] = B64.encode(authority().sign(t[..2].join(".").as_bytes())), "TOKEN_SIGNATURE")]
#[case::t02_changed_claim(|t: &mut Vec<String>| {
    let mut body: Value = serde_json::from_slice(&B64.decode(&t[1]).unwrap()).unwrap();
    body["scope"] = json!("agent:run tool:files__drop");
    t[1] = B64.encode(canonical(&body));
}, "TOKEN_SIGNATURE")]
#[case::no_signature(|t: &mut Vec<String>| t[2].clear(), "TOKEN_SIGNATURE")]
#[case::short_signature(|t: &mut Vec<String>| t[2].truncate(84), "TOKEN_SIGNATURE")]
#[case::padded(|t: &mut Vec<String>| t[2].push('='), "TOKEN_MALFORMED")]
#[case::two_parts(|t: &mut Vec<String>| t.truncate(2), "TOKEN_MALFORMED")]
#[case::four_parts(|t: &mut Vec<String>| t.push("e30".into()), "TOKEN_MALFORMED")]
#[case::empty(|t: &mut Vec<String>| t.clear(), "TOKEN_MALFORMED")]
#[case::garbage(|t: &mut Vec<String>| t[0] = "%%%".into(), "TOKEN_MALFORMED")]
#[case::one_byte_too_long(|t: &mut Vec<String>| *t = vec!["x".repeat(ISSUED_BYTES_MAX + 1)], "TOKEN_MALFORMED")]
fn a_forged_token_is_refused(#[case] forge: fn(&mut Vec<String>), #[case] expected: &str) {
    let mut parts: Vec<String> = minted(&dispatch()).split('.').map(str::to_owned).collect();
    forge(&mut parts);
    assert_eq!(code(&parts.join(".")), expected);
}

#[rstest]
#[case::next(&[TokenKeyState::Next], "ok")]
#[case::active(&[TokenKeyState::Next, TokenKeyState::Active], "ok")]
#[case::retiring(&[TokenKeyState::Next, TokenKeyState::Active, TokenKeyState::Retiring], "ok")]
#[case::t46_retired(&[TokenKeyState::Next, TokenKeyState::Active, TokenKeyState::Retired], "TOKEN_KEY_RETIRED")]
#[case::t46_a_retired_key_does_not_come_back(&[TokenKeyState::Next, TokenKeyState::Retired, TokenKeyState::Active], "TOKEN_KEY_RETIRED")]
#[case::nobodys(&[], "TOKEN_KEY")]
fn a_key_is_good_until_it_is_retired(#[case] states: &[TokenKeyState], #[case] expected: &str) {
    let ring = ring_of(&log_with(&signing(), states));
    let told = verify_dispatch(ring.tokens(), &minted(&dispatch()), &names(), NOW);
    assert_eq!(told.map_or_else(|e| e.code(), |_| "ok"), expected);
    let listed = ring.tokens().jwks()["keys"].as_array().unwrap().len();
    assert_eq!(listed, usize::from(expected == "ok"), "no retired key is published");
}

/// T13: stolen, it is of no use to another key or for another dispatch.
#[test]
fn a_dispatch_token_is_bound_to_its_gateway_and_its_dispatch() {
    let claims = dispatch();
    let own = thumbprint(gateway().verifying().as_bytes());
    let other = thumbprint(runtime().verifying().as_bytes());
    assert_eq!(bound(&claims, "d-7f3a", &own), Ok(()));
    assert_eq!(bound(&claims, "d-7f3a", &other).unwrap_err().code(), "TOKEN_BINDING");
    assert_eq!(bound(&claims, "d-other", &own).unwrap_err().code(), "TOKEN_DISPATCH");
}

fn proof() -> Claims {
    Claims {
        iss: ACTOR.issuer.into(),
        sub: "d-7f3a".into(),
        aud: ACTOR.audience.into(),
        scope: "token:exchange".into(),
        jti: "p-1".into(),
        iat: NOW,
        nbf: NOW,
        exp: NOW + 60,
    }
}

#[test]
fn whoever_asks_proves_a_gateways_key_that_is_not_retired() {
    let sign = |key: &RoleKey| custody_trust::token::mint(key, &ACTOR, &proof()).unwrap();
    let mut writer = beginning();
    let actor = verify_actor(&ring_of(&writer), &sign(&gateway()), NOW).unwrap();
    assert_eq!((actor.kid.as_str(), actor.dispatch.as_str(), actor.jti.as_str()), (gateway().kid(), "d-7f3a", "p-1"));
    assert_eq!(actor.jkt, thumbprint(gateway().verifying().as_bytes()));
    for (key, expected) in [(runtime(), "TOKEN_KEY"), (RoleKey::from_seed(Role::Gateway, &[9; 32]), "TOKEN_KEY")] {
        assert_eq!(verify_actor(&ring_of(&writer), &sign(&key), NOW).unwrap_err().code(), expected);
    }
    let late = verify_actor(&ring_of(&writer), &sign(&gateway()), NOW + 60 + SKEW_SECS);
    assert_eq!(late.unwrap_err().code(), "TOKEN_EXPIRED");
    writer.say(&authority(), "g", &[retire(&gateway())]);
    assert_eq!(verify_actor(&ring_of(&writer), &sign(&gateway()), NOW).unwrap_err().code(), "TOKEN_KEY");
}

/// T07, T09, T20: what a server of tools sees, with nothing but the JWKS.
#[rstest]
#[case::honest(|_: &mut ToolClaims| {}, MAIL, "ok")]
#[case::t20_forwarded_to_another_server(|_: &mut ToolClaims| {}, "https://files.tools.acme.test/mcp", "TOKEN_AUDIENCE")]
#[case::t09_of_the_identity_service(|c: &mut ToolClaims| c.iss = names().identity(), MAIL, "TOKEN_ISSUER")]
#[case::longest_life(|c: &mut ToolClaims| c.exp = NOW + TOOL_LIFE_SECS_MAX, MAIL, "ok")]
#[case::t06_lives_too_long(|c: &mut ToolClaims| c.exp = NOW + TOOL_LIFE_SECS_MAX + 1, MAIL, "TOKEN_LIFE")]
#[case::t05_expired(|c: &mut ToolClaims| (c.iat, c.nbf, c.exp) = (NOW - 100, NOW - 100, NOW - SKEW_SECS), MAIL, "TOKEN_EXPIRED")]
#[case::another_client(|c: &mut ToolClaims| c.client_id = "spiffe://acme.test/other".into(), MAIL, "TOKEN_ACTOR")]
#[case::another_dispatch(|c: &mut ToolClaims| c.dispatch_id = custody_contracts::ids::DispatchId::parse("d-x").unwrap(), MAIL, "TOKEN_ACTOR")]
fn a_server_verifies_a_tool_token_through_the_jwks(
    #[case] change: fn(&mut ToolClaims),
    #[case] audience: &str,
    #[case] expected: &str,
) {
    let mut claims = tool();
    change(&mut claims);
    let token = mint(&signing(), TokenType::Tool, &claims).unwrap().token;
    let published = TokenKeys::from_jwks(&keys().jwks());
    let told = verify_tool(&published, &token, &names(), audience, NOW);
    assert_eq!(told.map_or_else(|e| e.code(), |_| "ok"), expected);
}

#[test]
fn a_token_of_one_kind_is_none_of_the_other() {
    let x = mint(&signing(), TokenType::Tool, &tool()).unwrap().token;
    assert_eq!(code(&x), "TOKEN_TYPE");
    let d = minted(&dispatch());
    assert_eq!(verify_tool(&keys(), &d, &names(), MAIL, NOW).unwrap_err().code(), "TOKEN_TYPE");
    // Not even with the other's type: the claims are of another shape.
    let header = json!({ "alg": "EdDSA", "kid": signing().kid(), "typ": "dispatch+jwt" });
    let body = canonical(&serde_json::to_value(tool()).unwrap());
    assert_eq!(code(&signed_by(&signing(), &canonical(&header), &body)), "TOKEN_MALFORMED");
}

#[test]
fn claims_that_break_their_contract_are_not_signed() {
    let mut claims = dispatch();
    claims.aud = String::new();
    assert!(mint(&signing(), TokenType::Dispatch, &claims).is_err());
    let mut claims = dispatch();
    claims.scope = vec!["tool:a"; 800].join(" ");
    assert!(mint(&signing(), TokenType::Dispatch, &claims).is_err(), "4096 characters of scope");
    let minted = mint(&signing(), TokenType::Dispatch, &dispatch()).unwrap();
    let body = minted.token.split('.').nth(1).unwrap();
    let claims = B64.decode(body).unwrap();
    assert_eq!(
        minted.claims_digest,
        custody_contracts::canonical::digest(&claims),
        "the ledger's digest is of these bytes"
    );
}

/// The key that signs tokens signs nothing else: what it writes is no event.
#[test]
fn a_key_for_tokens_writes_no_event() {
    let mut writer = log_with(&signing(), &[TokenKeyState::Next, TokenKeyState::Active]);
    let mut ring = ring_of(&writer);
    let forged = encode(&signing(), "c", &[golden("DispatchAdmitted")], &meta()).unwrap();
    writer.put("ledger.dispatch.d-1", forged);
    let refused = ring.admit(writer.messages.last().unwrap());
    assert_eq!(refused.unwrap_err(), NotAuthentic::UnknownKey(signing().kid().into()));
    let mut other = turned(&signing(), TokenKeyState::Next);
    let LedgerEvent::Key(KeyEvent::TokenKey(changed)) = &mut other else { panic!() };
    changed.public_key = RoleKey::for_tokens(&[22; 32]).public_hex();
    writer.say(&authority(), signing().kid(), &[other]);
    let refused = ring.admit(writer.messages.last().unwrap());
    assert!(matches!(refused, Err(NotAuthentic::Inconsistent(_))), "{refused:?}");
}

#[rstest]
#[case::nothing(json!({}), 0)]
#[case::another_kind(json!({ "keys": [{ "kty": "RSA", "kid": "r", "n": "x", "e": "AQAB" }] }), 0)]
#[case::another_curve(json!({ "keys": [{ "kty": "OKP", "crv": "X25519", "kid": "x", "x": B64.encode([1; 32]) }] }), 0)]
#[case::no_point(json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "x", "x": B64.encode([2; 32]) }] }), 0)]
#[case::no_id(json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": B64.encode(authority().verifying().as_bytes()) }] }), 0)]
#[case::one(json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "a", "x": B64.encode(authority().verifying().as_bytes()) }] }), 1)]
fn a_jwks_is_read_with_care(#[case] set: Value, #[case] count: usize) {
    assert_eq!(TokenKeys::from_jwks(&set).iter().count(), count);
}
