//! A token that is exchanged at Keycloak for one of one audience (RFC 8693): what a server of tools is shown, and what Keycloak
//! refuses beside it.

use super::{CLIENT, JANE, JANE_HERE, Place, SECRET, claims, now, part, said};
use crate::stack::LOOK;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use custody_contracts::token::TokenType;
use custody_trust::RoleKey;
use custody_trust::issued::mint;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The server that tokens are exchanged for, and its secret. Source: ops/trust/keycloak/realm.json, as the scope and Omar.
pub(super) const ERP: &str = "https://erp.test/mcp";
pub(super) const SERVER_SECRET: &str = "t4-canary-of-the-server";
/// What makes a token be for two servers of tools.
const SCOPE: &str = "suite";
const OMAR: &str = "c0a4f1d2-7e63-4b95-8d1f-6a2b3c4d5e6f";
pub(super) const HR: &str = "https://hr.test/mcp";
/// Another client of the realm, that ours gets no token for. An operator named it as the audience of the server of HR.
pub(super) const NOT_OURS: &str = "custody-web";
pub(super) const TOOLS: [&str; 2] = ["erp__read", "hr__read"];
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// How long an assertion is good whose token is to end while the test runs, in seconds.
const SHORT_S: u64 = 15;

/// What is written of a server's exchange besides what all have.
pub(super) fn written(audience: &str) -> String {
    format!("scope = {SCOPE:?}\naudience = {audience:?}\nusers = {{ u_ada = {JANE_HERE:?} }}")
}

/// A call reaches its server with a token that is for it alone; where Keycloak gives none, nothing reaches anybody.
pub(super) async fn called(place: &Place, ada: &str) {
    let told = place.call(ada, "erp__read").await;
    assert_eq!(said(&told), format!("customers of {JANE}"), "{told} {:?}", place.erp.refused.lock().unwrap());
    let claims = place.erp.told.lock().unwrap()[0].clone();
    let life = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert!(claims["aud"] == ERP && claims["azp"] == CLIENT && claims["scope"] == SCOPE && life <= 60, "{claims}");
    let token = place.erp.tokens.lock().unwrap().last().unwrap().clone();
    assert_eq!(place.crm.verified(&token).unwrap_err(), "audience", "T20: it is of no use at another");
    let events = place.stack.events_of(ada).await;
    let issued = events.iter().find(|e| e.kind == "token.issued" && e.data["txn"] == format!("{ada}-t1")).unwrap();
    assert_eq!(issued.data["aud"], json!(place.keycloak.url), "what is signed here is for Keycloak and nobody else");

    let told = place.call(ada, "hr__read").await.to_string();
    assert!(told.contains("EXCHANGE_REFUSED") && told.contains("Requested audience not available"), "{told}");
    assert!(place.hr.tokens.lock().unwrap().is_empty(), "no token is shown in place of the one that was refused");
}

/// Keycloak's token for an assertion.
async fn granted(place: &Place, key: &RoleKey, jti: &str, life_s: u64) -> String {
    let mut claims = claims(place, jti);
    claims.exp = claims.iat + life_s;
    let assertion = mint(key, TokenType::Assertion, &claims).unwrap().token;
    let form = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("assertion", &assertion),
        ("scope", SCOPE),
        ("client_id", CLIENT),
        ("client_secret", SECRET),
    ];
    let (status, given) = place.form(&form).await;
    assert_eq!(status, 200, "{given}");
    given["access_token"].as_str().unwrap().to_owned()
}

/// Asks Keycloak for an exchange as the gateway does, but for `change`; what is changed to nothing is left out.
async fn exchanged(place: &Place, token: &str, change: &[(&str, &str)]) -> (u16, Value) {
    let mut form = BTreeMap::from([
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", token),
        ("subject_token_type", ACCESS_TOKEN),
        ("requested_token_type", ACCESS_TOKEN),
        ("audience", ERP),
        ("scope", SCOPE),
        ("client_id", CLIENT),
        ("client_secret", SECRET),
    ]);
    form.extend(change.iter().copied());
    form.retain(|_, value| !value.is_empty());
    place.form(&form.into_iter().collect::<Vec<_>>()).await
}

/// What a control is called, its token, what is changed of the honest request, and what Keycloak says.
type Control<'a> = (&'static str, &'a str, &'a [(&'a str, &'a str)], Result<(), &'static str>);

/// What Keycloak must refuse, each beside an honest one.
pub(super) async fn controls(place: &Place) {
    let key = place.signing().await;
    let ending = granted(place, &key, "tk-an-exchange-that-ends", SHORT_S).await;
    assert_eq!(exchanged(place, &ending, &[]).await.0, 200, "beside its end the honest one");

    let token = granted(place, &key, "tk-an-exchange-of-a-test", 120).await;
    for server in [&place.crm, &place.erp] {
        assert_eq!(server.verified(&token).unwrap_err(), "audience", "before its exchange it is for two");
    }
    let (status, given) = exchanged(place, &token, &[]).await;
    assert_eq!((status, &given["issued_token_type"]), (200, &json!(ACCESS_TOKEN)), "{given}");
    assert!(given["refresh_token"].is_null(), "nothing that lives on: {given}");
    let narrow = given["access_token"].as_str().unwrap();
    assert_eq!(place.erp.verified(narrow).unwrap()["sub"], JANE);
    assert_eq!(place.crm.verified(narrow).unwrap_err(), "audience");

    let mut claimed = part(&token, 1);
    claimed["sub"] = json!(OMAR);
    let mut parts: Vec<&str> = token.split('.').collect();
    let claimed = URL_SAFE_NO_PAD.encode(claimed.to_string());
    parts[1] = &claimed;
    let altered = parts.join(".");
    let foreign = mint(&key, TokenType::Assertion, &claims(place, "tk-an-exchange-of-ours")).unwrap().token;
    let as_server: &[_] = &[("client_id", ERP), ("client_secret", SERVER_SECRET)];
    let cases: [Control<'_>; 9] = [
        ("honest", &token, &[], Ok(())),
        ("T20 for an audience that is not ours to name", &token, &[("audience", NOT_OURS)], Err("not available")),
        ("T20 for nobody", &token, &[("audience", "https://evil.test")], Err("Audience not found")),
        ("T17 more than it has", &token, &[("scope", "suite crm")], Err("not present in the initial access token")),
        ("T02 altered", &altered, &[], Err("Invalid token")),
        ("T04 of another issuer", &foreign, &[("scope", "")], Err("Invalid token")),
        ("by another client", &token, &[("client_secret", "another secret")], Err("unauthorized_client")),
        ("handed on by the server that it is for", narrow, as_server, Err("not enabled for the requested client")),
        ("honest again", &token, &[], Ok(())),
    ];
    for (name, token, change, expected) in cases {
        let (status, told) = exchanged(place, token, change).await;
        match expected {
            Ok(()) => assert_eq!(status, 200, "{name}: {told}"),
            Err(why) => {
                assert!(matches!(status, 400 | 401) && told.to_string().contains(why), "{name}: {status} {told}")
            }
        }
    }

    // T05: it ends with the assertion that it was given for, and then is exchanged for nothing.
    let end = part(&ending, 1)["exp"].as_u64().unwrap();
    assert!(end <= now() + SHORT_S, "{end}");
    while now() <= end {
        tokio::time::sleep(LOOK).await;
    }
    let (status, told) = exchanged(place, &ending, &[]).await;
    assert!(status == 400 && told["error_description"] == "Invalid token", "T05: {status} {told}");
}
