//! A call goes out to a server of tools behind somebody else's authorization server, a real Keycloak: it gives its own access
//! token for an assertion of our token service (RFC 7523), exchanged there for one of one audience where that is asked for
//! (RFC 8693), and the server verifies that with Keycloak's keys and nothing else. `ops/trust/setup` fetches Keycloak; without
//! it this test fails.

mod audience;

use crate::grants::{misbehave, post, socket};
use crate::ledger::{Event, count};
use crate::stack::{LOOK, Options, Stack};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post as at_post;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use custody_contracts::canonical::unhex;
use custody_contracts::events::Role;
use custody_contracts::token::{AssertionClaims, DispatchActor, GatewayActor, LauncherActor, TokenType};
use custody_ledger::Sign;
use custody_trust::RoleKey;
use custody_trust::issued::{Names, mint};
use custody_trust::token::{ACTOR, Claims};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// How long Keycloak may take to be ready, and to end.
const KEYCLOAK_MAX: Duration = Duration::from_secs(300);
/// A server of tools, as Keycloak's tokens name it. Source: ops/trust/keycloak/realm.json, as the three after it.
const CRM: &str = "https://crm.test/mcp";
const CLIENT: &str = "custody";
/// Jane: how Keycloak calls her, and how it knows her from us.
pub(crate) const JANE: &str = "5f2c7a9e-3d41-4c8b-9a67-0e1b2d3c4f50";
const JANE_HERE: &str = "jane-7b0e";
pub(crate) const SECRET: &str = "t4-canary-of-the-client";
const SECRET_REF: &str = "secret://keycloak/custody";
const TOOL: &str = "crm__read";

fn now() -> u64 {
    crate::launcher::now() / 1_000
}

fn names() -> Names {
    Names::of("https://custody.local")
}

/// A real Keycloak with its realm in memory.
pub(crate) struct Keycloak {
    process: Child,
    log: PathBuf,
    pub(crate) url: String,
}

impl Keycloak {
    /// Starts it; ready it is later. `more` is what its script reads besides.
    pub(crate) fn start(port: u16, jwks: &str, home: &Path, more: &[(&str, &str)]) -> Keycloak {
        let log = home.join("keycloak.log");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ops/trust/keycloak/start");
        let mut command = Command::new(script);
        command.arg(port.to_string()).env("CUSTODY_ISSUER", names().sts());
        command.env("CUSTODY_JWKS_URL", jwks).env("CUSTODY_CLIENT_SECRET", SECRET).envs(more.iter().copied());
        let (out, err) = (File::create(&log).unwrap(), File::options().append(true).open(&log).unwrap());
        // When this test ends, however it does, the pipe ends, and Keycloak with it.
        let process = command.stdin(Stdio::piped()).stdout(out).stderr(err).spawn().unwrap();
        Keycloak { process, log, url: format!("http://127.0.0.1:{port}/realms/custody") }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) async fn ready(&mut self, http: &reqwest::Client) {
        let until = Instant::now() + KEYCLOAK_MAX;
        let about = format!("{}/.well-known/openid-configuration", self.url);
        loop {
            if http.get(&about).send().await.is_ok_and(|answer| answer.status() == 200) {
                return;
            }
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < until, "Keycloak: {ended:?}\n{}", self.said());
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(crate) async fn end(&mut self) {
        drop(self.process.stdin.take());
        let until = Instant::now() + KEYCLOAK_MAX;
        while self.process.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "Keycloak still runs:\n{}", self.said());
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Keycloak {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        if std::thread::panicking() {
            eprintln!("what Keycloak said:\n{}", self.said());
        }
    }
}

/// Modulus and exponent.
type RsaKey = (Vec<u8>, Vec<u8>);

/// A server of tools that was told Keycloak's keys once and asks nobody.
#[derive(Default)]
struct Server {
    /// How tokens for it name it.
    audience: &'static str,
    issuer: String,
    /// By `kid`.
    keys: Mutex<BTreeMap<String, RsaKey>>,
    told: Mutex<Vec<Value>>,
    tokens: Mutex<Vec<String>>,
    refused: Mutex<Vec<String>>,
}

fn raw(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap_or_default()
}

fn part(token: &str, n: usize) -> Value {
    serde_json::from_slice(&raw(token.split('.').nth(n).unwrap_or_default())).unwrap_or_default()
}

impl Server {
    /// Whose token this is, or why it is nobody's.
    fn verified(&self, token: &str) -> Result<Value, &'static str> {
        let (head, claims) = (part(token, 0), part(token, 1));
        if head["alg"] != "RS256" {
            return Err("algorithm");
        }
        let keys = self.keys.lock().unwrap();
        let (n, e) = keys.get(head["kid"].as_str().unwrap_or_default()).ok_or("key")?;
        let (signed, signature) = token.rsplit_once('.').ok_or("form")?;
        let good = RsaPublicKeyComponents { n, e };
        good.verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &raw(signature)).map_err(|_| "signature")?;
        match () {
            () if claims["iss"] != self.issuer => Err("issuer"),
            () if claims["aud"] != self.audience => Err("audience"),
            () if claims["azp"] != CLIENT => Err("client"),
            () if claims["exp"].as_u64() <= Some(now()) => Err("expired"),
            () => Ok(claims),
        }
    }

    fn caller(&self, headers: &HeaderMap) -> Result<Value, &'static str> {
        let shown = headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default();
        let token = shown.strip_prefix("Bearer ").ok_or("no token")?;
        self.tokens.lock().unwrap().push(token.to_owned());
        self.verified(token)
    }
}

async fn answer(State(server): State<Arc<Server>>, headers: HeaderMap, body: String) -> Response {
    let message: Value = serde_json::from_str(&body).unwrap();
    let reply =
        |result: Value| axum::Json(json!({ "jsonrpc": "2.0", "id": message["id"], "result": result })).into_response();
    match message["method"].as_str().unwrap() {
        "initialize" => reply(json!({ "protocolVersion": "2025-06-18", "capabilities": {} })),
        // An operator who accepts a definition has no dispatch, and so no token.
        "tools/list" => reply(json!({ "tools": [{
            "name": "read", "description": "Reads the caller's customers.",
            "inputSchema": { "type": "object", "properties": {} },
        }] })),
        "tools/call" => match server.caller(&headers) {
            Ok(claims) => {
                let text = format!("customers of {}", claims["sub"].as_str().unwrap());
                server.told.lock().unwrap().push(claims);
                reply(json!({ "content": [{ "type": "text", "text": text }] }))
            }
            Err(why) => {
                server.refused.lock().unwrap().push(why.to_owned());
                StatusCode::UNAUTHORIZED.into_response()
            }
        },
        _ => StatusCode::ACCEPTED.into_response(),
    }
}

/// A value of a form.
pub(crate) fn escaped(text: &str) -> String {
    let each = |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(each).collect()
}

struct Place {
    keycloak: Keycloak,
    stack: Stack,
    crm: Arc<Server>,
    erp: Arc<Server>,
    hr: Arc<Server>,
    http: reqwest::Client,
}

impl Place {
    async fn new() -> Place {
        // Keycloak takes no port 0 that it would tell; the one found here is free, and it says so when it is not.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let issuer = format!("http://127.0.0.1:{port}/realms/custody");
        let of = |audience| Arc::new(Server { audience, issuer: issuer.clone(), ..Server::default() });
        let (crm, erp, hr) = (of(CRM), of(audience::ERP), of(audience::HR));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (mut app, mut config) = (Router::new(), String::new());
        let own = format!("scope = \"crm\"\nusers = {{ u_jane = {JANE_HERE:?}, u_bob = \"nobody-there\" }}");
        let one = audience::written;
        let all = [("crm", &crm, own), ("erp", &erp, one(audience::ERP)), ("hr", &hr, one(audience::NOT_OURS))];
        for (name, server, own) in all {
            app = app.route(&format!("/{name}"), at_post(answer).with_state(server.clone()));
            config.push_str(&format!(
                "[tools.servers.{name}]\nurl = \"http://{at}/{name}\"\n[tools.servers.{name}.exchange]\n\
                 issuer = {issuer:?}\ntoken_url = \"{issuer}/protocol/openid-connect/token\"\n\
                 client_id = {CLIENT:?}\nclient_secret_ref = {SECRET_REF:?}\n{own}\n"
            ));
        }
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let stack = Stack::with(Options { config: Some(config), ..Options::default() }).await;
        let jwks = format!("{}/.well-known/jwks.json", stack.up_file()["http_url"].as_str().unwrap());
        let keycloak =
            Keycloak::start(port, &jwks, stack.home(), &[("CUSTODY_SERVER_SECRET", audience::SERVER_SECRET)]);
        // Another test may have done this already, with the same.
        let _there = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let place = Place { keycloak, stack, crm, erp, hr, http };
        place.operated().await;
        place
    }

    /// What an operator does: the client's secret, and the tools.
    async fn operated(&self) {
        let file = self.stack.home().join("client.secret");
        std::fs::write(&file, SECRET).unwrap();
        let mut set = self.stack.command(&["secret", "set", SECRET_REF]);
        crate::stack::ran(set.stdin(File::open(&file).unwrap())).await.ended(0);
        for server in ["crm", "erp", "hr"] {
            let tool = format!("{server}__read");
            let document = json!({
                "name": tool, "scope": format!("{server}:read"), "grant": "auto", "transport": "mcp",
                "mcp_server": server, "barriers": [], "effect": "read", "idempotent": true, "constraints": [],
            });
            let file = self.stack.home().join(format!("{tool}.json"));
            std::fs::write(&file, document.to_string()).unwrap();
            self.stack.ok(&["tool", "add", file.to_str().unwrap()]).await;
            self.stack.ok(&["tool", "accept", &tool]).await;
        }
    }

    /// A dispatch of somebody's that runs and may call some tools, and the grant that it rests on.
    async fn dispatch(&self, person: &str, tools: &[&str]) -> (String, String) {
        let named: Vec<&str> = tools.iter().flat_map(|tool| ["--tool", *tool]).collect();
        let grant = self.stack.grant(person, "cli", &named).await;
        let asked = [&["--as", person], named.as_slice()].concat();
        let dispatch = self.stack.launch(&misbehave("silent", &asked)).await;
        self.stack.running(&dispatch).await;
        (dispatch, grant)
    }

    /// The servers of tools are told Keycloak's keys.
    async fn publish(&self) {
        let certs = format!("{}/protocol/openid-connect/certs", self.keycloak.url);
        let set = self.http.get(certs).send().await.unwrap().bytes().await.unwrap();
        let set: Value = serde_json::from_slice(&set).unwrap();
        let text = |key: &Value, name: &str| key[name].as_str().unwrap_or_default().to_owned();
        let signs = |key: &&Value| key["use"] == "sig" && key["kty"] == "RSA";
        let all = set["keys"].as_array().unwrap().iter().filter(signs);
        let all = all.map(|key| (text(key, "kid"), (raw(&text(key, "n")), raw(&text(key, "e")))));
        let all: BTreeMap<String, RsaKey> = all.collect();
        for server in [&self.crm, &self.erp, &self.hr] {
            server.keys.lock().unwrap().clone_from(&all);
        }
    }

    /// What the agent of a dispatch does: it has a socket and no token.
    async fn call(&self, dispatch: &str, tool: &str) -> Value {
        let call = json!({
            "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": tool, "arguments": {} },
        });
        post(&socket(&self.stack, dispatch), "/mcp", &call).await
    }

    async fn read(&self, dispatch: &str) -> Value {
        self.call(dispatch, TOOL).await
    }

    /// A proof of the gateway's own key.
    fn proof(&self, dispatch: &str, jti: &str) -> String {
        let key = RoleKey::from_seed(Role::Gateway, &self.seed("gateway"));
        let claims = Claims {
            iss: ACTOR.issuer.into(),
            sub: dispatch.into(),
            aud: ACTOR.audience.into(),
            scope: "token:exchange".into(),
            jti: jti.into(),
            iat: now(),
            nbf: now(),
            exp: now() + 60,
        };
        custody_trust::token::mint(&key, &ACTOR, &claims).unwrap()
    }

    fn seed(&self, name: &str) -> [u8; 32] {
        let text = std::fs::read_to_string(self.stack.state().join(format!("keys/{name}.ed25519"))).unwrap();
        unhex(text.trim()).unwrap().try_into().unwrap()
    }

    /// An assertion as the token service signs it for a gateway that asks, or what it answers instead.
    async fn assertion(&self, dispatch: &str, n: u32, change: impl FnOnce(&mut Value)) -> Result<String, Value> {
        let operator = self.stack.operator().await;
        let ask = json!({ "actor_token": self.proof(dispatch, &format!("proof-of-a-dispatch-{n}")) });
        let given = operator.ask("command.token.dispatch", &ask).await;
        let mut ask = json!({
            "subject_token": given["ok"]["token"], "audience": self.keycloak.url, "scope": format!("tool:{TOOL}"),
            "actor_token": self.proof(dispatch, &format!("proof-of-an-assertion-{n}")),
        });
        if given["ok"].is_null() {
            return Err(given);
        }
        change(&mut ask);
        let told = operator.ask("command.token.assert", &ask).await;
        told["ok"]["token"].as_str().map(str::to_owned).ok_or(told)
    }

    /// The key that signs tokens now: what nobody but authority holds.
    async fn signing(&self) -> RoleKey {
        let listed = self.stack.ok(&["key", "ls", "-o", "json"]).await.json();
        let active = |row: &&Value| row["signs"] == "tokens" && row["state"] == "active";
        let kid = listed.as_array().unwrap().iter().find(active).unwrap()["kid"].as_str().unwrap().to_owned();
        RoleKey::for_tokens(&self.seed(&kid))
    }

    /// Asks Keycloak as the gateway does.
    async fn exchange(&self, assertion: &str, secret: &str) -> (u16, Value) {
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("assertion", assertion),
            ("scope", "crm"),
            ("client_id", CLIENT),
            ("client_secret", secret),
        ];
        self.form(&form).await
    }

    /// Sends a form to Keycloak's token endpoint.
    async fn form(&self, form: &[(&str, &str)]) -> (u16, Value) {
        let pairs: Vec<String> = form.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        let request = self.http.post(format!("{}/protocol/openid-connect/token", self.keycloak.url));
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(pairs.join("&"));
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    }
}

fn said(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_default()
}

fn assertions(events: &[Event]) -> usize {
    let is_one = |e: &&Event| e.kind == "token.issued" && e.data["typ"] == TokenType::Assertion.as_str();
    events.iter().filter(is_one).count()
}

/// What somebody who holds the right key, or does not, could sign.
fn claims(place: &Place, jti: &str) -> AssertionClaims {
    let launcher = custody_contracts::ids::LauncherRef::parse("user:cli").unwrap();
    let dispatch = custody_contracts::ids::DispatchId::parse("d-forged").unwrap();
    AssertionClaims {
        iss: names().sts(),
        sub: JANE_HERE.into(),
        act: GatewayActor {
            sub: names().gateway_actor(),
            act: DispatchActor { sub: names().dispatch_actor("d-forged"), act: LauncherActor { sub: launcher } },
        },
        aud: place.keycloak.url.clone(),
        jti: jti.into(),
        dispatch_id: dispatch,
        txn: None,
        iat: now(),
        nbf: now(),
        exp: now() + 120,
    }
}

/// A key that says it is another.
struct Posing(RoleKey, String);

impl Sign for Posing {
    fn kid(&self) -> &str {
        &self.1
    }
    fn role(&self) -> Role {
        self.0.role()
    }
    fn sign_hex(&self, bytes: &[u8]) -> String {
        self.0.sign_hex(bytes)
    }
}

/// One Keycloak for all of it: its start is what costs.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_behind_keycloak_is_called_as_the_person_and_by_nobody_else() {
    let mut place = Place::new().await;
    let (jane, grant) = place.dispatch("u_jane", &[TOOL]).await;
    let (bob, _) = place.dispatch("u_bob", &[TOOL]).await;
    let (carol, _) = place.dispatch("u_carol", &[TOOL]).await;
    let (ada, _) = place.dispatch("u_ada", &audience::TOOLS).await;
    let http = place.http.clone();
    place.keycloak.ready(&http).await;
    place.publish().await;

    honest(&place, &jane).await;
    // Bob is none of Keycloak's people, and Carol is not in the operator's table.
    for (dispatch, code, why) in
        [(&bob, "EXCHANGE_REFUSED", "User not found"), (&carol, "TOKEN_REFUSED", "TOKEN_SUBJECT")]
    {
        let told = place.read(dispatch).await.to_string();
        assert!(told.contains(code) && told.contains(why), "{told}");
    }
    controls(&place, &jane).await;
    audience::called(&place, &ada).await;
    audience::controls(&place).await;
    assert_eq!(said(&place.read(&jane).await), format!("customers of {JANE}"), "beside them the honest one");
    let calls = place.crm.told.lock().unwrap().len();

    // Nobody there: one call, one try, a name.
    place.keycloak.end().await;
    let before = Instant::now();
    let told = place.read(&jane).await;
    assert!(told.to_string().contains("EXCHANGE_UNAVAILABLE"), "{told}");
    assert!(before.elapsed() < Duration::from_secs(20), "{:?}", before.elapsed());
    let events = place.stack.events_of(&jane).await;
    let lost = events.iter().filter(|e| e.data["reason"] == "EXCHANGE_UNAVAILABLE").count();
    assert_eq!(
        (count(&events, "effect.tool_finished") + count(&events, "effect.tool_refused"), lost),
        (3, 1),
        "{events:#?}"
    );

    // T18: with the grant goes the assertion.
    let signed = assertions(&events);
    place.stack.ok(&["grant", "revoke", &grant, "--why", "enough"]).await;
    let refused = place.assertion(&jane, 90, |_| {}).await.unwrap_err();
    assert!(["GRANT_REVOKED", "TOKEN_DISPATCH_NOT_RUNNING"].contains(&refused["code"].as_str().unwrap()), "{refused}");
    place.stack.ended(&jane).await;
    assert_eq!(assertions(&place.stack.events_of(&jane).await), signed);
    assert_eq!(place.crm.told.lock().unwrap().len(), calls, "the server was called no more");
    for server in [&place.crm, &place.erp, &place.hr] {
        assert_eq!(*server.refused.lock().unwrap(), Vec::<String>::new());
    }

    // Neither an assertion, nor a token of Keycloak's, nor the client's secret stands in the ledger or in a log.
    let ledger = format!("{:?}{}", place.stack.ledger().await, place.stack.log());
    assert!(!ledger.contains(SECRET));
    for token in place.crm.tokens.lock().unwrap().iter().chain(place.erp.tokens.lock().unwrap().iter()) {
        assert!(!ledger.contains(token.rsplit('.').next().unwrap()));
    }
    for dispatch in [&bob, &carol, &ada] {
        place.stack.ok(&["dispatch", "kill", dispatch]).await;
        place.stack.ended(dispatch).await;
    }
    place.stack.no_container_left().await;
    place.stack.nothing_is_wrong().await;
}

/// The person arrives as Keycloak knows them, at the one server, for no longer than the assertion; and the audit shows it.
async fn honest(place: &Place, jane: &str) {
    let told = place.read(jane).await;
    assert_eq!(said(&told), format!("customers of {JANE}"), "{told} {:?}", place.crm.refused.lock().unwrap());
    let claims = place.crm.told.lock().unwrap()[0].clone();
    let life = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert!(life <= 120 && claims["scope"] == "crm", "{claims}");
    let events = place.stack.events_of(jane).await;
    let made = events.iter().find(|e| e.kind == "effect.tool_finished").unwrap().seq.to_string();
    let why = place.stack.ok(&["audit", "why", &made]).await.out;
    assert!(why.contains("with token") && why.contains(&format!("for {}, tool:{TOOL}", place.keycloak.url)), "{why}");
    let issued = events.iter().find(|e| e.kind == "token.issued" && e.data["txn"] == format!("{jane}-t1")).unwrap();
    assert_eq!((&issued.data["typ"], &issued.data["aud"]), (&json!(TokenType::Assertion.as_str()), &claims["iss"]));
}

/// What a control is called, what is changed of the honest claims, whether another key signs them, and what Keycloak says.
type Control = (&'static str, fn(&mut AssertionClaims), bool, Result<(), &'static str>);

/// What Keycloak must refuse, each beside an honest one; and what our token service refuses to sign.
async fn controls(place: &Place, jane: &str) {
    let honest = place.assertion(jane, 1, |_| {}).await.unwrap();
    let (status, given) = place.exchange(&honest, SECRET).await;
    assert_eq!(status, 200, "{given}");
    let token = given["access_token"].as_str().unwrap();
    assert_eq!(place.crm.verified(token).unwrap()["sub"], JANE);
    assert!(given["refresh_token"].is_null(), "nothing that lives on: {given}");
    let (status, told) = place.exchange(&honest, SECRET).await;
    assert_eq!((status, &told["error_description"]), (400, &json!("Token reuse detected")), "T11: {told}");
    let (status, told) = place.exchange(&place.assertion(jane, 2, |_| {}).await.unwrap(), "another secret").await;
    assert_eq!((status, &told["error"]), (401, &json!("unauthorized_client")), "{told}");
    let elsewhere = place.assertion(jane, 3, |ask| ask["audience"] = json!("https://evil.test")).await.unwrap_err();
    assert_eq!(elsewhere["code"], "TOKEN_TARGET", "T20: {elsewhere}");

    let key = place.signing().await;
    let posing = Posing(RoleKey::for_tokens(&[7; 32]), key.kid().to_owned());
    let cases: [Control; 8] = [
        ("honest", |_| {}, false, Ok(())),
        ("T20 for another", |c| c.aud = "https://id.test/realms/other".into(), false, Err("Invalid token audience")),
        (
            "T05 expired",
            |c| (c.iat, c.nbf, c.exp) = (now() - 200, now() - 200, now() - 80),
            false,
            Err("Token is not active"),
        ),
        ("T06 too long", |c| (c.iat, c.nbf, c.exp) = (now() - 400, now() - 400, now() + 400), false, Err("Token ")),
        ("an unknown user", |c| c.sub = "mallory".into(), false, Err("User not found")),
        ("another issuer", |c| c.iss = "https://evil.test/sts".into(), false, Err("No Identity Provider")),
        ("T01 another key", |_| {}, true, Err("Invalid signature")),
        ("honest again", |_| {}, false, Ok(())),
    ];
    for (n, (name, change, forged, expected)) in cases.into_iter().enumerate() {
        let mut claims = claims(place, &format!("tk-a-control-of-a-test-{n}"));
        change(&mut claims);
        let signer: &dyn Sign = if forged { &posing } else { &key };
        let signed = mint(signer, TokenType::Assertion, &claims).unwrap().token;
        let (status, told) = place.exchange(&signed, SECRET).await;
        let description = told["error_description"].as_str().unwrap_or_default();
        match expected {
            Ok(()) => assert_eq!(status, 200, "{name}: {told}"),
            Err(why) => assert!(status == 400 && description.contains(why), "{name}: {status} {told}"),
        }
    }
}
