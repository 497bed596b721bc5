//! Tokens for one audience: the honest one passes, and each thing that can be wrong with one is refused by its name.

use crate::fixtures::{authority, beginning, introduce, retire, runtime, stranger};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use custody_contracts::events::Role;
use custody_ledger::Sign;
use custody_trust::token::{Claims, LINK, RUNTIME, SKEW_SECS, Scope, TOKEN_BYTES_MAX, mint, verify};
use custody_trust::{Keyring, RoleKey};
use rstest::rstest;
use serde_json::{Value, json};

const NOW: u64 = 1_795_381_200;

fn ring() -> Keyring {
    let mut ring = Keyring::new();
    for message in beginning().messages {
        ring.admit(&message).unwrap();
    }
    ring
}

fn honest() -> Claims {
    Claims {
        iss: RUNTIME.issuer.into(),
        sub: "u_jane".into(),
        aud: RUNTIME.audience.into(),
        scope: "workloads:read workloads:write".into(),
        jti: "t-1".into(),
        iat: NOW,
        nbf: NOW,
        exp: NOW + 300,
    }
}

fn code(token: &str, now: u64) -> &'static str {
    match verify(&ring(), token, &RUNTIME, now) {
        Ok(claims) => {
            assert_eq!(claims.sub, "u_jane");
            "ok"
        }
        Err(refused) => refused.code(),
    }
}

#[rstest]
#[case::honest(|_: &mut Claims| {}, "ok")]
#[case::issuer(|c: &mut Claims| c.iss = "somebody".into(), "TOKEN_ISSUER")]
#[case::other_audience(|c: &mut Claims| c.aud = "custody/gateway".into(), "TOKEN_AUDIENCE")]
#[case::audience_with_a_space(|c: &mut Claims| c.aud = "custody/runtime ".into(), "TOKEN_AUDIENCE")]
#[case::no_person(|c: &mut Claims| c.sub = "jane@example.org".into(), "TOKEN_SUBJECT")]
#[case::empty_person(|c: &mut Claims| c.sub = String::new(), "TOKEN_SUBJECT")]
#[case::not_before(|c: &mut Claims| c.nbf = NOW + SKEW_SECS + 1, "TOKEN_NOT_YET")]
#[case::not_before_within_the_skew(|c: &mut Claims| c.nbf = NOW + SKEW_SECS, "ok")]
#[case::issued_ahead(|c: &mut Claims| c.iat = NOW + SKEW_SECS + 1, "TOKEN_NOT_YET")]
#[case::expired(|c: &mut Claims| (c.iat, c.nbf, c.exp) = (NOW - 300, NOW - 300, NOW - SKEW_SECS), "TOKEN_EXPIRED")]
#[case::expired_within_the_skew(|c: &mut Claims| (c.iat, c.nbf, c.exp) = (NOW - 300, NOW - 300, NOW - SKEW_SECS + 1), "ok")]
#[case::longest_life(|c: &mut Claims| c.exp = NOW + RUNTIME.life_secs_max, "ok")]
#[case::lives_too_long(|c: &mut Claims| c.exp = NOW + RUNTIME.life_secs_max + 1, "TOKEN_LIFE")]
#[case::no_life(|c: &mut Claims| c.exp = NOW, "TOKEN_LIFE")]
#[case::ends_before_it_begins(|c: &mut Claims| c.exp = NOW - 1, "TOKEN_LIFE")]
#[case::no_id(|c: &mut Claims| c.jti = String::new(), "TOKEN_MALFORMED")]
fn claims_are_checked(#[case] change: fn(&mut Claims), #[case] expected: &str) {
    let mut claims = honest();
    change(&mut claims);
    assert_eq!(code(&mint(&authority(), &RUNTIME, &claims).unwrap(), NOW), expected);
}

#[rstest]
#[case::authority(authority(), "ok")]
#[case::another_role(runtime(), "TOKEN_KEY")]
#[case::nobodys_key(stranger(), "TOKEN_KEY")]
#[case::a_second_authority(RoleKey::from_seed(Role::Authority, &[7; 32]), "TOKEN_KEY")]
fn only_a_key_of_authority_signs(#[case] key: RoleKey, #[case] expected: &str) {
    assert_eq!(code(&mint(&key, &RUNTIME, &honest()).unwrap(), NOW), expected);
}

#[test]
fn a_retired_key_signs_no_more() {
    let second = RoleKey::from_seed(Role::Authority, &[7; 32]);
    let mut writer = beginning();
    writer.say(&authority(), "k", &[introduce(&second), retire(&authority())]);
    let mut ring = Keyring::new();
    for message in &writer.messages {
        ring.admit(message).unwrap();
    }
    let told = |key: &RoleKey| {
        let token = mint(key, &RUNTIME, &honest()).unwrap();
        verify(&ring, &token, &RUNTIME, NOW).map_err(|e| e.code()).map(|c| c.jti)
    };
    assert_eq!(told(&authority()), Err("TOKEN_KEY"));
    assert_eq!(told(&second), Ok("t-1".into()));
}

/// A token whose header and body are anything, signed by authority all the same.
fn signed(header: &Value, body: &Value) -> String {
    let part = |v: &Value| B64.encode(v.to_string());
    let text = [part(header), part(body)].join(".");
    [text.clone(), B64.encode(authority().sign(text.as_bytes()))].join(".")
}

#[rstest]
#[case::honest(|_: &mut Value, _: &mut Value| {}, "ok")]
#[case::none(|h: &mut Value, _: &mut Value| h["alg"] = json!("none"), "TOKEN_ALGORITHM")]
#[case::hmac(|h: &mut Value, _: &mut Value| h["alg"] = json!("HS256"), "TOKEN_ALGORITHM")]
#[case::other_case(|h: &mut Value, _: &mut Value| h["alg"] = json!("eddsa"), "TOKEN_ALGORITHM")]
#[case::no_algorithm(|h: &mut Value, _: &mut Value| { h.as_object_mut().unwrap().remove("alg"); }, "TOKEN_ALGORITHM")]
#[case::other_type(|h: &mut Value, _: &mut Value| h["typ"] = json!("dispatch+jwt"), "TOKEN_TYPE")]
#[case::type_in_capitals(|h: &mut Value, _: &mut Value| h["typ"] = json!("RUNTIME+JWT"), "TOKEN_TYPE")]
#[case::no_type(|h: &mut Value, _: &mut Value| { h.as_object_mut().unwrap().remove("typ"); }, "TOKEN_MALFORMED")]
#[case::critical(|h: &mut Value, _: &mut Value| h["crit"] = json!(["exp"]), "TOKEN_MALFORMED")]
#[case::key_of_its_own(|h: &mut Value, _: &mut Value| h["jwk"] = json!({"kty": "OKP"}), "TOKEN_MALFORMED")]
#[case::key_from_elsewhere(|h: &mut Value, _: &mut Value| h["jku"] = json!("http://x"), "TOKEN_MALFORMED")]
#[case::two_audiences(|_: &mut Value, b: &mut Value| b["aud"] = json!(["custody/runtime", "other"]), "TOKEN_MALFORMED")]
#[case::unknown_claim(|_: &mut Value, b: &mut Value| b["admin"] = json!(true), "TOKEN_MALFORMED")]
#[case::no_end(|_: &mut Value, b: &mut Value| { b.as_object_mut().unwrap().remove("exp"); }, "TOKEN_MALFORMED")]
#[case::end_as_text(|_: &mut Value, b: &mut Value| b["exp"] = json!("2099"), "TOKEN_MALFORMED")]
#[case::negative_beginning(|_: &mut Value, b: &mut Value| b["nbf"] = json!(-1), "TOKEN_MALFORMED")]
fn header_and_members_are_exact(#[case] change: fn(&mut Value, &mut Value), #[case] expected: &str) {
    let mut header = json!({ "alg": "EdDSA", "kid": authority().kid(), "typ": RUNTIME.typ });
    let mut body = serde_json::to_value(honest()).unwrap();
    change(&mut header, &mut body);
    assert_eq!(code(&signed(&header, &body), NOW), expected);
}

#[rstest]
#[case::changed_claim(|parts: &mut Vec<String>| {
    let mut body: Value = serde_json::from_slice(&B64.decode(&parts[1]).unwrap()).unwrap();
    body["sub"] = json!("u_omar");
    parts[1] = B64.encode(body.to_string());
}, "TOKEN_SIGNATURE")]
#[case::no_signature(|parts: &mut Vec<String>| parts[2].clear(), "TOKEN_SIGNATURE")]
#[case::short_signature(|parts: &mut Vec<String>| parts[2].truncate(84), "TOKEN_SIGNATURE")]
#[case::padded(|parts: &mut Vec<String>| parts[2].push('='), "TOKEN_MALFORMED")]
#[case::two_parts(|parts: &mut Vec<String>| parts.truncate(2), "TOKEN_MALFORMED")]
#[case::four_parts(|parts: &mut Vec<String>| parts.push("e30".into()), "TOKEN_MALFORMED")]
#[case::empty(|parts: &mut Vec<String>| parts.clear(), "TOKEN_MALFORMED")]
#[case::garbage(|parts: &mut Vec<String>| parts[0] = "%%%".into(), "TOKEN_MALFORMED")]
fn a_forged_token_is_refused(#[case] forge: fn(&mut Vec<String>), #[case] expected: &str) {
    let token = mint(&authority(), &RUNTIME, &honest()).unwrap();
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    forge(&mut parts);
    assert_eq!(code(&parts.join("."), NOW), expected);
}

#[test]
fn one_byte_more_than_the_longest_token_is_not_read() {
    assert_eq!(code(&"x".repeat(TOKEN_BYTES_MAX + 1), NOW), "TOKEN_MALFORMED");
    let mut claims = honest();
    claims.scope = "x".repeat(TOKEN_BYTES_MAX);
    assert_eq!(code(&mint(&authority(), &RUNTIME, &claims).unwrap(), NOW), "TOKEN_MALFORMED");
}

#[test]
fn a_token_of_one_kind_is_none_of_another() {
    let of_link =
        Claims { iss: LINK.issuer.into(), aud: LINK.audience.into(), sub: "d-1".into(), exp: NOW + 7_200, ..honest() };
    let token = mint(&runtime(), &LINK, &of_link).unwrap();
    assert_eq!(verify(&ring(), &token, &LINK, NOW).unwrap().sub, "d-1");
    assert_eq!(code(&token, NOW), "TOKEN_TYPE");
    let refused = |token: &str| verify(&ring(), token, &LINK, NOW).unwrap_err().code();
    assert_eq!(refused(&mint(&authority(), &LINK, &of_link).unwrap()), "TOKEN_KEY", "authority signs no links");
    assert_eq!(refused(&mint(&authority(), &RUNTIME, &honest()).unwrap()), "TOKEN_TYPE");
    assert_eq!(refused(&mint(&runtime(), &LINK, &honest()).unwrap()), "TOKEN_ISSUER");
}

#[test]
fn a_scope_is_a_whole_word() {
    let with = |scope: &str| Claims { scope: scope.into(), ..honest() };
    assert!(with("workloads:read").may(Scope::Read));
    assert!(!with("workloads:read").may(Scope::Write));
    assert!(!with("workloads:writer").may(Scope::Write));
    assert!(!with("").may(Scope::Read));
}
