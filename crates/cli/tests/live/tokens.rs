//! Tokens from end to end: a server of tools that verifies what it is shown through the JWKS alone, the token service over
//! HTTP as a second gateway would use it, and a rotation while both are in use.

use crate::grants::{post, socket};
use crate::ledger::count;
use crate::peer::{reply, says, tool};
use crate::stack::{Options, Stack};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::post as at_post;
use custody_contracts::canonical::unhex;
use custody_contracts::events::Role;
use custody_contracts::token::ToolClaims;
use custody_http::oauth::{GRANT_TYPE, TOKEN_TYPE};
use custody_trust::RoleKey;
use custody_trust::issued::{Names, verify_tool};
use custody_trust::token::{ACTOR, Claims, mint};
use custody_trust::token_keys::TokenKeys;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// What the server of tools calls itself. Not its address: nobody looks it up.
const MAIL: &str = "https://mail.test/mcp";

fn now() -> u64 {
    crate::launcher::now() / 1_000
}

fn names() -> Names {
    Names::of("https://custody.local")
}

/// A server of tools that holds a JWKS and takes each token once.
#[derive(Default)]
struct Mail {
    keys: Mutex<TokenKeys>,
    taken: Mutex<BTreeSet<String>>,
    told: Mutex<Vec<ToolClaims>>,
    tokens: Mutex<Vec<String>>,
    refused: Mutex<Vec<String>>,
}

impl Mail {
    /// Whose call this is, as the token says it.
    fn caller(&self, headers: &HeaderMap) -> Result<ToolClaims, String> {
        let shown = headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default();
        let token = shown.strip_prefix("Bearer ").ok_or("no token")?;
        self.tokens.lock().unwrap().push(token.to_owned());
        let claims = verify_tool(&self.keys.lock().unwrap(), token, &names(), MAIL, now());
        let claims = claims.map_err(|e| e.code().to_owned())?;
        if claims.scope != "tool:mail__send" {
            return Err(format!("scope {}", claims.scope));
        }
        Ok(claims)
    }
}

async fn answer(State(mail): State<Arc<Mail>>, headers: HeaderMap, body: String) -> Response {
    let message: Value = serde_json::from_str(&body).unwrap();
    // An operator who accepts a definition has no dispatch, and so no token.
    reply(&message, &tool("send", "Sends a mail.", &["to"]), || {
        let claims = mail.caller(&headers).map_err(|why| {
            mail.refused.lock().unwrap().push(why);
            StatusCode::UNAUTHORIZED
        })?;
        if !mail.taken.lock().unwrap().insert(claims.jti.clone()) {
            return Err(StatusCode::UNAUTHORIZED);
        }
        let text = format!("sent for {}", claims.sub);
        mail.told.lock().unwrap().push(claims);
        Ok(says(&text))
    })
}

struct Place {
    stack: Stack,
    mail: Arc<Mail>,
    http: reqwest::Client,
    url: String,
    /// The server of tools itself.
    server: String,
    dispatch: String,
}

impl Place {
    /// An installation with that server, and a dispatch of Jane's that runs and may send mail.
    async fn new() -> Place {
        Place::with("auto").await
    }

    /// The same, where the tool may be called so: `auto`, or `gate` when a person has to say yes.
    async fn with(how: &str) -> Place {
        let mail = Arc::new(Mail::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let app = Router::new().route("/mcp", at_post(answer)).with_state(mail.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let config = format!("[tools.servers.mail]\nurl = \"http://{at}/mcp\"\naudience = \"{MAIL}\"\n");
        let stack = Stack::with(Options { config: Some(config), ..Options::default() }).await;
        let document = json!({
            "name": "mail__send", "scope": "mail:send", "grant": how, "transport": "mcp", "mcp_server": "mail",
            "barriers": [], "effect": "write", "idempotent": false, "constraints": [],
        });
        let file = stack.home().join("mail__send.json");
        std::fs::write(&file, document.to_string()).unwrap();
        stack.ok(&["tool", "add", file.to_str().unwrap()]).await;
        stack.ok(&["tool", "accept", "mail__send"]).await;
        stack.grant("u_jane", "cli", &["--tool", "mail__send"]).await;
        let dispatch =
            stack.launch(&["--runner", "misbehave", "--as", "u_jane", "--tool", "mail__send", "silent"]).await;
        stack.running(&dispatch).await;
        let url = stack.up_file()["http_url"].as_str().unwrap().to_owned();
        // Another test may have done this already, with the same.
        let _there = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let place = Place { stack, mail, http, url, server: format!("http://{at}/mcp"), dispatch };
        place.publish().await;
        place
    }

    async fn get(&self, path: &str) -> (reqwest::header::HeaderMap, Value) {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let headers = answer.headers().clone();
        (headers, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
    }

    /// The server of tools gets the published keys.
    async fn publish(&self) -> usize {
        // What authority said counts for some seconds.
        let listed = self.stack.ok(&["key", "ls", "-o", "json"]).await.json();
        let good = |row: &&Value| row["signs"] == "tokens" && row["state"] != "retired";
        let expected: BTreeSet<String> = listed.as_array().unwrap().iter().filter(good).map(kid).collect();
        loop {
            let (_, set) = self.get("/.well-known/jwks.json").await;
            let keys = TokenKeys::from_jwks(&set);
            if keys.iter().map(|(kid, _)| kid.to_owned()).collect::<BTreeSet<_>>() == expected {
                *self.mail.keys.lock().unwrap() = keys;
                return expected.len();
            }
            tokio::time::sleep(crate::stack::LOOK).await;
        }
    }

    /// What the agent of the dispatch does: it has a socket and no token.
    async fn send(&self) -> Value {
        let call = json!({
            "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": { "name": "mail__send", "arguments": { "to": "bob@acme.test" } },
        });
        post(&socket(&self.stack, &self.dispatch), "/mcp", &call).await
    }

    /// A proof of the gateway's own key: what a gateway on another machine would hold.
    fn proof(&self, jti: &str) -> String {
        let text = std::fs::read_to_string(self.stack.state().join("keys/gateway.ed25519")).unwrap();
        let key = RoleKey::from_seed(Role::Gateway, &unhex(text.trim()).unwrap().try_into().unwrap());
        let claims = Claims {
            iss: ACTOR.issuer.into(),
            sub: self.dispatch.clone(),
            aud: ACTOR.audience.into(),
            scope: "token:exchange".into(),
            jti: jti.into(),
            iat: now(),
            nbf: now(),
            exp: now() + 60,
        };
        mint(&key, &ACTOR, &claims).unwrap()
    }

    async fn dispatch_token(&self, jti: &str) -> String {
        let ask = json!({ "actor_token": self.proof(jti) });
        let given = self.stack.operator().await.ask("command.token.dispatch", &ask).await;
        given["ok"]["token"].as_str().unwrap_or_else(|| panic!("{given}")).to_owned()
    }

    /// `POST /oauth2/token`; status, `Cache-Control`, body.
    async fn exchange(&self, d: &str, jti: &str, changes: &[(&str, Option<&str>)]) -> (u16, String, Value) {
        let proof = self.proof(jti);
        let mut form = vec![
            ("grant_type", GRANT_TYPE),
            ("subject_token", d),
            ("subject_token_type", TOKEN_TYPE),
            ("actor_token", proof.as_str()),
            ("actor_token_type", TOKEN_TYPE),
            ("resource", MAIL),
            ("scope", "tool:mail__send"),
        ];
        for (name, value) in changes {
            form.retain(|(known, _)| known != name);
            form.extend(value.map(|value| (*name, value)));
        }
        let escaped = |text: &str| {
            let each = |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") };
            text.bytes().map(each).collect::<String>()
        };
        let body = form.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect::<Vec<_>>().join("&");
        let request = self.http.post(format!("{}/oauth2/token", self.url));
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        let answer = request.send().await.unwrap();
        let (status, kept) = (answer.status().as_u16(), answer.headers()["cache-control"].to_str().unwrap().to_owned());
        (status, kept, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
    }
}

fn kid(row: &Value) -> String {
    row["kid"].as_str().unwrap().to_owned()
}

fn said(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_default()
}

/// Who stands behind a call is known to a server of tools that knows the published keys and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_tools_knows_who_stands_behind_a_call_also_across_a_rotation() {
    let place = Place::new().await;
    let sent = place.send().await;
    assert_eq!(said(&sent), "sent for u_jane", "{sent} {:?}", place.mail.refused.lock().unwrap());
    {
        let told = place.mail.told.lock().unwrap();
        let claims = &told[0];
        assert_eq!((claims.dispatch_id.as_str(), claims.launcher.as_str()), (place.dispatch.as_str(), "user:cli"));
        assert_eq!(claims.txn.as_deref(), Some(format!("{}-t1", place.dispatch).as_str()));
        assert_eq!(claims.act.act.act.sub, claims.launcher);
        // Neither the next server nor the next moment can use it.
        let token = place.mail.tokens.lock().unwrap().last().unwrap().clone();
        let keys = place.mail.keys.lock().unwrap();
        let of = |audience: &str, at: u64| verify_tool(&keys, &token, &names(), audience, at).map_err(|e| e.code());
        assert!(of(MAIL, now()).is_ok());
        assert_eq!(of("https://files.test/mcp", now()).unwrap_err(), "TOKEN_AUDIENCE");
        assert_eq!(of(MAIL, now() + 200).unwrap_err(), "TOKEN_EXPIRED");
    }
    // T12: whoever took it off the wire comes too late: the server has taken its id.
    let captured = place.mail.tokens.lock().unwrap()[0].clone();
    let call = json!({
        "jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": { "name": "send", "arguments": { "to": "eve@acme.test" } },
    });
    let replayed = place.http.post(&place.server).bearer_auth(&captured).body(call.to_string()).send().await.unwrap();
    assert_eq!((replayed.status().as_u16(), place.mail.told.lock().unwrap().len()), (401, 1));
    // T46: the next key signs from here on, and what the old one signed is still exchanged.
    place.stack.ok(&["key", "rotate", "--why", "monthly"]).await;
    assert_eq!(place.publish().await, 3, "one signs, one is next, one is retiring");
    assert_eq!(said(&place.send().await), "sent for u_jane", "{:?}", place.mail.refused.lock().unwrap());
    place.stack.ok(&["key", "rotate", "--at-once", "--why", "a backup was lost"]).await;
    assert_eq!(place.publish().await, 2, "what was retired is not published");
    assert_eq!(said(&place.send().await), "sent for u_jane", "a new token is asked for");
    let old = place.mail.tokens.lock().unwrap()[0].clone();
    let refused = verify_tool(&place.mail.keys.lock().unwrap(), &old, &names(), MAIL, now());
    assert_eq!(refused.unwrap_err().code(), "TOKEN_KEY", "what a retired key signed is good nowhere");
    assert_eq!(*place.mail.refused.lock().unwrap(), Vec::<String>::new());

    let events = place.stack.events_of(&place.dispatch).await;
    let issued: Vec<&Value> = events.iter().filter(|e| e.kind == "token.issued").map(|e| &e.data).collect();
    // Who asks why finds the token, and a proof of the call holds it and the one that it was exchanged for.
    let made = events.iter().find(|e| e.kind == "effect.tool_finished").unwrap().seq.to_string();
    let why = place.stack.ok(&["audit", "why", &made]).await.out;
    assert!(why.contains("with token") && why.contains(&format!("for {MAIL}, tool:mail__send")), "{why}");
    let bundle = place.stack.home().join("proof.json");
    let bundle = bundle.to_str().unwrap();
    let proved = place.stack.ok(&["audit", "prove", &made]).await.out;
    std::fs::write(bundle, &proved).unwrap();
    assert_eq!(proved.matches("custody.token.issued.v1").count(), 2, "{proved}");
    assert!(place.stack.ok(&["audit", "verify", bundle]).await.out.contains("PASS"));
    let kinds = |typ: &str| issued.iter().filter(|data| data["typ"] == typ).count();
    assert!(kinds("dispatch+jwt") == 2 && kinds("at+jwt") >= 3, "{issued:#?}");
    assert_eq!((count(&events, "effect.tool_finished"), count(&events, "token.refused")), (3, 0), "{events:#?}");
    // No token stands in the ledger: not one signature of those that the server was shown.
    let ledger = format!("{:?}", place.stack.ledger().await);
    for token in place.mail.tokens.lock().unwrap().iter() {
        assert!(!ledger.contains(token.rsplit('.').next().unwrap()));
    }
    place.stack.ok(&["dispatch", "kill", &place.dispatch]).await;
    place.stack.ended(&place.dispatch).await;
    assert!(place.stack.ok(&["audit", "verify"]).await.out.contains("PASS"));
    place.stack.nothing_is_wrong().await;
}

/// A person says yes when the box is long gone: the call is made with a token for itself alone.
#[tokio::test(flavor = "multi_thread")]
async fn an_approved_call_carries_a_token_of_its_own_when_its_box_is_gone() {
    let place = Place::with("gate").await;
    let told = place.send().await;
    let card = told["result"]["structuredContent"]["card"].as_str().unwrap_or_else(|| panic!("{told}")).to_owned();
    place.stack.ok(&["dispatch", "kill", &place.dispatch]).await;
    place.stack.ended(&place.dispatch).await;
    let shown = place.stack.ok(&["inbox", "show", &card, "-o", "json"]).await.json();
    let digest = shown["row"]["args_digest"].as_str().unwrap_or_else(|| panic!("{shown}"));
    place.stack.ok(&["inbox", "approve", &card, "--as", "u_jane", "--digest", digest]).await;
    let until = Instant::now() + Duration::from_secs(60);
    let events = loop {
        let events = place.stack.events_of(&place.dispatch).await;
        if count(&events, "effect.tool_finished") == 1 {
            break events;
        }
        assert!(Instant::now() < until && count(&events, "effect.tool_refused") == 0, "{events:#?}");
        tokio::time::sleep(crate::stack::LOOK).await;
    };
    assert_eq!(*place.mail.refused.lock().unwrap(), Vec::<String>::new());
    let [claims]: [ToolClaims; 1] = place.mail.told.lock().unwrap().clone().try_into().unwrap();
    assert_eq!((claims.txn.as_deref(), claims.sub.as_str()), (Some(card.as_str()), "u_jane"));
    let issued: Vec<&Value> = events.iter().filter(|e| e.kind == "token.issued").map(|e| &e.data).collect();
    assert!(issued.iter().all(|data| data["scope"] == "tool:mail__send"), "{issued:#?}");
    assert!(issued.iter().any(|data| data["typ"] == "dispatch+jwt" && data["txn"] == card), "{issued:#?}");
    place.stack.nothing_is_wrong().await;
}

/// What an exchange is called, what is changed of the honest one, and its status, error and words.
type Refusal<'a> = (&'a str, &'a [(&'a str, Option<&'a str>)], u16, &'a str, &'a str);

/// The token service as RFC 8693, RFC 7517 and RFC 8414 describe it; each refusal beside the honest exchange.
#[tokio::test(flavor = "multi_thread")]
async fn the_token_service_answers_as_its_rfcs_say() {
    let place = Place::new().await;
    let (headers, about) = place.get("/.well-known/oauth-authorization-server/sts").await;
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(about["issuer"], "https://custody.local/sts");
    assert_eq!(about["token_endpoint"], format!("{}/oauth2/token", place.url));
    assert_eq!(about["jwks_uri"], format!("{}/.well-known/jwks.json", place.url));
    assert_eq!(about["grant_types_supported"], json!([GRANT_TYPE]));
    let (_, set) = place.get("/.well-known/jwks.json").await;
    for key in set["keys"].as_array().unwrap() {
        let members: Vec<&str> = key.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["kty", "crv", "use", "alg", "kid", "x"], "a public half and nothing else");
    }

    let d = place.dispatch_token("proof-of-the-first-one").await;
    let (status, kept, given) = place.exchange(&d, "p-1", &[]).await;
    assert_eq!((status, kept.as_str()), (200, "no-store"), "{given}");
    assert_eq!((&given["token_type"], &given["scope"]), (&json!("Bearer"), &json!("tool:mail__send")));
    assert_eq!(given["issued_token_type"], "urn:ietf:params:oauth:token-type:access_token");
    let token = given["access_token"].as_str().unwrap();
    let claims = verify_tool(&TokenKeys::from_jwks(&set), token, &names(), MAIL, now()).unwrap();
    assert_eq!((claims.sub.as_str(), claims.txn), ("u_jane", None));

    let proof_again = place.proof("p-1");
    let forged = format!("{d}x");
    let refusals: [Refusal<'_>; 11] = [
        ("T02 forged", &[("subject_token", Some(&forged))], 400, "invalid_request", "TOKEN_"),
        ("T09 a tool token", &[("subject_token", Some(token))], 400, "invalid_request", "TOKEN_TYPE"),
        ("T11 the same proof", &[("actor_token", Some(&proof_again))], 400, "invalid_request", "TOKEN_REPLAYED"),
        ("no proof", &[("actor_token", None)], 400, "invalid_request", "actor_token"),
        ("T17 another tool", &[("scope", Some("tool:mail__drop"))], 400, "invalid_scope", "TOKEN_SCOPE"),
        ("T17 everything", &[("scope", Some("agent:run"))], 400, "invalid_scope", "TOKEN_SCOPE"),
        ("T20 elsewhere", &[("resource", Some("https://evil.test/mcp"))], 400, "invalid_target", "TOKEN_TARGET"),
        ("nowhere", &[("resource", None)], 400, "invalid_target", "neither"),
        ("a password", &[("grant_type", Some("password"))], 400, "unsupported_grant_type", "only"),
        ("another type", &[("subject_token_type", Some("x"))], 400, "invalid_request", "subject_token_type"),
        ("a call of another", &[("txn", Some("d-other-t1"))], 400, "invalid_request", "TOKEN_TXN"),
    ];
    for (number, (name, changes, code, error, says)) in refusals.iter().enumerate() {
        let (status, kept, told) = place.exchange(&d, &format!("p-r-{number}"), changes).await;
        assert_eq!((status, kept.as_str(), &told["error"]), (*code, "no-store", &json!(error)), "{name}: {told}");
        assert!(told["error_description"].as_str().unwrap().contains(says), "{name}: {told}");
    }
    let (status, _, given) = place.exchange(&d, "p-2", &[]).await;
    assert_eq!(status, 200, "the honest one goes on: {given}");

    // A page of a browser, another form, and more than a request may have.
    let asked = |kind: &'static str, origin: Option<&'static str>, body: String| {
        let mut request =
            place.http.post(format!("{}/oauth2/token", place.url)).header("content-type", kind).body(body);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        async move {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        }
    };
    let form = "application/x-www-form-urlencoded";
    for (told, says) in [
        (asked(form, Some("https://evil.test"), "a=b".into()).await, "browser"),
        (asked("application/json", None, "{}".into()).await, "x-www-form-urlencoded"),
        (asked(form, None, "a".repeat(64 * 1024 + 1)).await, "65536"),
    ] {
        assert!(told.0 == 400 && told.1.contains(says), "{told:?}");
    }

    let refused: Vec<Value> =
        place.stack.ledger().await.into_iter().filter(|e| e.kind == "token.refused").map(|e| e.data).collect();
    assert_eq!(refused.len(), 7, "each that reached authority is one event: {refused:#?}");
    place.stack.ok(&["dispatch", "kill", &place.dispatch]).await;
    place.stack.ended(&place.dispatch).await;
    let (status, _, told) = place.exchange(&d, "p-3", &[]).await;
    assert_eq!((status, &told["error"]), (400, &json!("invalid_request")));
    assert!(told["error_description"].as_str().unwrap().starts_with("TOKEN_DISPATCH_NOT_RUNNING"), "{told}");
    assert!(place.stack.ok(&["audit", "verify"]).await.out.contains("PASS"));
}
