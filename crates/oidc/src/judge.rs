//! What an ID token must say, so that it is one for this sign-in. Pure: time comes in.
//!
//! Source: OpenID Connect Core 1.0, sections 2 and 3.1.3.7.

use custody_ports::sign_in::is_person;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// How far the provider's clock may be from ours, in seconds.
pub(crate) const SKEW_S: u64 = 30;
/// How old an ID token may be, in seconds: it is made when its code is redeemed.
pub(crate) const AGE_MAX_S: u64 = 600;

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: u64,
    iat: u64,
    nbf: Option<u64>,
    nonce: Option<String>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// What it must say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) client: &'a str,
    pub(crate) nonce: &'a str,
    /// Which claim says who it is.
    pub(crate) claim: &'a str,
}

/// Equal in constant time for texts of one length.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differs, (x, y)| differs | (x ^ y)) == 0
}

/// Who an ID token is about.
///
/// # Errors
/// What is wrong with it. Nothing of the token is in it.
pub(crate) fn judged(said: &[u8], wanted: Wanted<'_>, now_ms: u64) -> Result<String, &'static str> {
    let claims: Claims = serde_json::from_slice(said).map_err(|_| "has not the claims of one")?;
    let now = now_ms / 1_000;
    if claims.iss != wanted.issuer {
        return Err("is of another issuer");
    }
    let ours = |client: &String| client == wanted.client;
    let (for_us, alone) = match &claims.aud {
        Audience::One(client) => (ours(client), true),
        Audience::Several(clients) => (clients.iter().any(ours), clients.len() == 1),
    };
    if !for_us {
        return Err("is for another client");
    }
    match &claims.azp {
        Some(client) if !ours(client) => return Err("was given to another client"),
        None if !alone => return Err("is for several clients and does not say to which it was given"),
        _ => {}
    }
    if claims.exp.saturating_add(SKEW_S) <= now {
        return Err("has expired");
    }
    if claims.iat > now.saturating_add(SKEW_S) || claims.nbf.is_some_and(|nbf| nbf > now.saturating_add(SKEW_S)) {
        return Err("is of the future");
    }
    if claims.iat.saturating_add(AGE_MAX_S + SKEW_S) <= now {
        return Err("was made too long ago");
    }
    if !claims.nonce.as_deref().is_some_and(|nonce| same(nonce, wanted.nonce)) {
        return Err("is of another sign-in");
    }
    let id = match wanted.claim {
        "sub" => Some(claims.sub.as_str()),
        // An address that nobody has shown to be theirs is a name that anybody can give themselves.
        "email" if claims.others.get("email_verified") != Some(&Value::Bool(true)) => {
            return Err("has an address that was not verified");
        }
        other => claims.others.get(other).and_then(Value::as_str),
    };
    match id.filter(|id| is_person(id)) {
        Some(id) => Ok(id.to_owned()),
        None => Err("does not say who it is about"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    const NOW: u64 = 1_800_000_000;

    fn judge(changes: &Value, claim: &str) -> Result<String, &'static str> {
        let mut claims = json!({
            "iss": "https://id.test", "sub": "5f2c", "aud": "web", "exp": NOW + 60, "iat": NOW, "nonce": "n-1",
            "email": "jane@acme.test", "email_verified": true, "custom": "jane", "number": 7,
        });
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        let wanted = Wanted { issuer: "https://id.test", client: "web", nonce: "n-1", claim };
        judged(claims.to_string().as_bytes(), wanted, NOW * 1_000 + 999)
    }

    #[rstest]
    #[case::honest(json!({}), Ok("5f2c"))]
    #[case::another_issuer(json!({ "iss": "https://evil.test" }), Err("another issuer"))]
    #[case::almost_the_issuer(json!({ "iss": "https://id.test/" }), Err("another issuer"))]
    #[case::another_client(json!({ "aud": "other" }), Err("another client"))]
    #[case::nobodys(json!({ "aud": [] }), Err("another client"))]
    #[case::ours_in_a_list(json!({ "aud": ["web"] }), Ok("5f2c"))]
    #[case::ours_among_others(json!({ "aud": ["web", "other"], "azp": "web" }), Ok("5f2c"))]
    #[case::ours_among_others_and_given_to_none(json!({ "aud": ["web", "other"] }), Err("several clients"))]
    #[case::given_to_another(json!({ "aud": ["web", "other"], "azp": "other" }), Err("given to another"))]
    #[case::given_to_another_alone(json!({ "azp": "other" }), Err("given to another"))]
    #[case::just_not_expired(json!({ "exp": NOW - SKEW_S + 1 }), Ok("5f2c"))]
    #[case::expired(json!({ "exp": NOW - SKEW_S }), Err("expired"))]
    #[case::no_end(json!({ "exp": null }), Err("claims"))]
    #[case::a_far_end(json!({ "exp": u64::MAX }), Ok("5f2c"))]
    #[case::an_end_in_words(json!({ "exp": "tomorrow" }), Err("claims"))]
    #[case::a_clock_ahead(json!({ "iat": NOW + SKEW_S }), Ok("5f2c"))]
    #[case::of_the_future(json!({ "iat": NOW + SKEW_S + 1 }), Err("future"))]
    #[case::not_yet(json!({ "nbf": NOW + SKEW_S + 1 }), Err("future"))]
    #[case::old(json!({ "iat": NOW - AGE_MAX_S - SKEW_S }), Err("too long ago"))]
    #[case::almost_old(json!({ "iat": NOW - AGE_MAX_S - SKEW_S + 1 }), Ok("5f2c"))]
    #[case::no_beginning(json!({ "iat": null }), Err("claims"))]
    #[case::another_nonce(json!({ "nonce": "n-2" }), Err("another sign-in"))]
    #[case::a_longer_nonce(json!({ "nonce": "n-11" }), Err("another sign-in"))]
    #[case::no_nonce(json!({ "nonce": null }), Err("another sign-in"))]
    #[case::nobody(json!({ "sub": "" }), Err("who it is about"))]
    #[case::no_subject(json!({ "sub": null }), Err("claims"))]
    #[case::a_subject_in_two_lines(json!({ "sub": "5f2c\nadmin" }), Err("who it is about"))]
    fn an_id_token_is_for_this_sign_in_or_for_none(
        #[case] changes: Value,
        #[case] expected: Result<&str, &'static str>,
    ) {
        match (judge(&changes, "sub"), expected) {
            (Ok(id), Ok(wanted)) => assert_eq!(id, wanted),
            (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
            (told, wanted) => panic!("{told:?}, not {wanted:?}"),
        }
    }

    #[rstest]
    #[case::custom("custom", json!({}), Some("jane"))]
    #[case::absent("absent", json!({}), None)]
    #[case::a_number("number", json!({}), None)]
    #[case::not_the_issuer("iss", json!({}), None)]
    #[case::email("email", json!({}), Some("jane@acme.test"))]
    #[case::email_not_verified("email", json!({ "email_verified": false }), None)]
    #[case::email_nobody_speaks_of("email", json!({ "email_verified": null }), None)]
    #[case::email_verified_in_words("email", json!({ "email_verified": "true" }), None)]
    fn who_it_is_stands_in_the_claim_that_is_configured(
        #[case] claim: &str,
        #[case] changes: Value,
        #[case] id: Option<&str>,
    ) {
        assert_eq!(judge(&changes, claim).ok().as_deref(), id);
    }

    #[test]
    fn a_claim_that_counts_and_stands_there_twice_is_refused() {
        let twice = format!(
            r#"{{"iss":"https://id.test","sub":"5f2c","sub":"admin","aud":"web","exp":{},"iat":{NOW},"nonce":"n-1"}}"#,
            NOW + 60
        );
        let wanted = Wanted { issuer: "https://id.test", client: "web", nonce: "n-1", claim: "sub" };
        assert!(judged(twice.as_bytes(), wanted, NOW * 1_000).is_err());
        let once = twice.replacen(r#""sub":"admin","#, "", 1);
        assert_eq!(judged(once.as_bytes(), wanted, NOW * 1_000).unwrap(), "5f2c");
    }
}
