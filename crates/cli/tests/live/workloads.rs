//! The runtime's HTTP face from outside: real HTTP against the real binary. Who is let in, what becomes of a posted
//! workload, that every answer is a shape of runtime.v1, and that all of it is in the ledger like any other dispatch.

use crate::stack::{LOOK, Options, Stack};
use custody_contracts::canonical::unhex;
use custody_contracts::catalogue;
use custody_contracts::events::Role;
use custody_testkit::model::Turn;
use custody_trust::RoleKey;
use custody_trust::token::{Claims, LINK, RUNTIME, TokenKind, mint};
use rstest::rstest;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a workload may take to get somewhere on a busy machine.
const LIFE_MAX: Duration = Duration::from_secs(120);

/// One answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|l| l.to_ascii_lowercase().starts_with(&format!("{name}: ")))?;
        line.split_once(": ").map(|(_, value)| value)
    }

    /// Asserts the status; what went well is of a shape of runtime.v1, what did not is a problem with a code.
    fn is(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{self:?}");
        if status < 300 {
            let all = self.body.as_array().cloned().unwrap_or_else(|| vec![self.body.clone()]);
            for one in all {
                let shape = if one.get("at").is_some() { "RuntimeEvent" } else { "WorkloadStatus" };
                catalogue::check("runtime.v1", shape, &one).unwrap_or_else(|e| panic!("{e}: {one}"));
            }
        } else {
            assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
            let code = self.body["code"].as_str().unwrap();
            assert!(
                self.body["status"] == status && code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'),
                "{self:?}"
            );
        }
        self
    }
}

/// A face that runs.
struct Face {
    stack: Stack,
    address: String,
}

impl Face {
    async fn start(script: Vec<Turn>) -> Face {
        let config = Some("[runtime.http]\nlisten = \"127.0.0.1:0\"\n".to_owned());
        let stack = Stack::with(Options { config, script, ..Options::default() }).await;
        let address = std::fs::read_to_string(stack.state().join("run/runtime-http")).unwrap();
        Face { stack, address }
    }

    async fn token(&self, more: &[&str]) -> String {
        self.stack.ok(&[&["runtime", "token"], more].concat()).await.out.trim().to_owned()
    }

    async fn ask(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> Answer {
        let authorization = token.map_or_else(String::new, |t| format!("authorization: Bearer {t}\r\n"));
        self.raw(method, path, &authorization, body).await
    }

    async fn raw(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // A body that is too large is not read to its end.
        let _closed = stream.write_all(body.as_bytes()).await;
        let mut bytes = Vec::new();
        let _reset = tokio::time::timeout(LIFE_MAX, stream.read_to_end(&mut bytes)).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, rest) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {path}: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let rest = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            dechunked(rest)
        } else {
            rest.into()
        };
        let body = serde_json::from_str(&rest).unwrap_or(Value::String(rest));
        Answer { status, head: head.to_owned(), body }
    }

    /// A workload once it is in this state or a later one.
    async fn reaches(&self, id: &str, token: &str, states: &[&str]) -> Value {
        let until = Instant::now() + LIFE_MAX;
        loop {
            let told = self.ask("GET", &format!("/workloads/{id}"), Some(token), "").await.is(200).body;
            if states.contains(&told["state"].as_str().unwrap()) {
                return told;
            }
            assert!(Instant::now() < until, "still {told}:\n{}", self.stack.log());
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn dechunked(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or_default();
        if size == 0 || after.len() < size {
            break;
        }
        out.push_str(&after[..size]);
        rest = after[size..].trim_start_matches("\r\n");
    }
    out
}

fn spec(id: &str, prompt: &str) -> Value {
    json!({ "workloadId": id, "profile": "custody-agent", "env": { "CUSTODY_PROMPT": prompt } })
}

const ROUTES: [(&str, &str); 6] = [
    ("POST", "/workloads"),
    ("GET", "/workloads"),
    ("GET", "/workloads/w-1"),
    ("DELETE", "/workloads/w-1"),
    ("POST", "/workloads/w-1/stop"),
    ("GET", "/workloads/w-1/events"),
];

fn seconds() -> u64 {
    crate::launcher::now() / 1_000
}

/// Every route and every token that is not good: refused by name, and nothing of it is in the ledger.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_no_good_token_gets_nothing() {
    let face = Face::start(Vec::new()).await;
    let key = |role: Role| {
        let text = std::fs::read_to_string(face.stack.state().join(format!("keys/{}.ed25519", role.as_str()))).unwrap();
        let seed: [u8; 32] = unhex(text.trim()).unwrap().try_into().unwrap();
        RoleKey::from_seed(role, &seed)
    };
    let now = seconds();
    let claims = Claims {
        iss: RUNTIME.issuer.into(),
        sub: "u_tester".into(),
        aud: RUNTIME.audience.into(),
        scope: "workloads:read workloads:write".into(),
        jti: "t-1".into(),
        iat: now,
        nbf: now,
        exp: now + 300,
    };
    let made = |key: &RoleKey, kind: &TokenKind, change: &dyn Fn(&mut Claims)| {
        let mut claims = claims.clone();
        change(&mut claims);
        mint(key, kind, &claims).unwrap()
    };
    let authority = key(Role::Authority);
    let good = made(&authority, &RUNTIME, &|_| {});
    face.ask("GET", "/workloads", Some(&good), "").await.is(200);
    let forged = {
        let (signed, _) = good.rsplit_once('.').unwrap();
        let (_, other) = made(&authority, &RUNTIME, &|c| c.sub = "u_omar".into())
            .rsplit_once('.')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap();
        format!("{signed}.{other}")
    };
    let refused = [
        ("TOKEN_MALFORMED", "garbage".to_owned()),
        ("TOKEN_MALFORMED", "x".repeat(5_000)),
        ("TOKEN_EXPIRED", made(&authority, &RUNTIME, &|c| (c.iat, c.nbf, c.exp) = (now - 300, now - 300, now - 60))),
        ("TOKEN_NOT_YET", made(&authority, &RUNTIME, &|c| (c.nbf, c.exp) = (now + 120, now + 240))),
        ("TOKEN_LIFE", made(&authority, &RUNTIME, &|c| c.exp = now + 86_400)),
        ("TOKEN_AUDIENCE", made(&authority, &RUNTIME, &|c| c.aud = "custody/gateway".into())),
        ("TOKEN_ISSUER", made(&authority, &RUNTIME, &|c| c.iss = "somebody".into())),
        ("TOKEN_TYPE", made(&key(Role::Runtime), &LINK, &|_| {})),
        ("TOKEN_KEY", made(&key(Role::Gateway), &RUNTIME, &|_| {})),
        ("TOKEN_KEY", made(&RoleKey::from_seed(Role::Authority, &[7; 32]), &RUNTIME, &|_| {})),
        ("TOKEN_SIGNATURE", forged),
    ];
    for (method, path) in ROUTES {
        let none = face.ask(method, path, None, "{}").await.is(401);
        assert_eq!(
            (none.body["code"].as_str(), none.header("www-authenticate")),
            (Some("TOKEN_MISSING"), Some("Bearer realm=\"custody/runtime\""))
        );
        let basic = face.raw(method, path, "authorization: Basic dTpw\r\n", "{}").await.is(401);
        assert_eq!(basic.body["code"], "TOKEN_MISSING");
        for (code, token) in &refused {
            let answer = face.ask(method, path, Some(token), "{}").await.is(401);
            assert_eq!(answer.body["code"], *code, "{method} {path}");
            assert!(!answer.body.to_string().contains(token.as_str()), "the token is repeated");
        }
    }
    let reader = face.token(&["--read-only"]).await;
    face.ask("GET", "/workloads", Some(&reader), "").await.is(200);
    for (method, path) in ROUTES.into_iter().filter(|(method, _)| *method != "GET") {
        let answer = face.ask(method, path, Some(&reader), &spec("w-1", "hello").to_string()).await.is(403);
        assert_eq!(answer.body["code"], "TOKEN_SCOPE", "{method} {path}");
    }
    let operator = face.stack.operator().await;
    let rows = operator.ask("query.dispatch.ls", &json!({ "limit": 10 })).await;
    assert_eq!(rows["ok"]["rows"], json!([]), "a refused request left a dispatch");
    let log = face.stack.log();
    assert!(log.contains("TOKEN_AUDIENCE") && !log.contains(&good), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_posted_workload_is_a_dispatch_like_any_other() {
    let face = Face::start(vec![Turn::Say("four".into())]).await;
    face.stack.grant("u_jane", "integration:runtime-http", &[]).await;
    face.stack.grant("u_jane", "cli", &[]).await;
    let token = face.token(&["--as", "u_jane"]).await;
    let body = spec("sum-1", "what is two and two?").to_string();
    let made = face.ask("POST", "/workloads", Some(&token), &body).await.is(201);
    assert_eq!(made.header("location"), Some("/workloads/sum-1"));
    assert_eq!((made.body["workloadId"].as_str(), made.body["backend"].as_str()), (Some("sum-1"), Some("docker")));
    // The same again is the same, in whatever state it is; the body may be written otherwise.
    let again = serde_json::to_string_pretty(&spec("sum-1", "what is two and two?")).unwrap();
    face.ask("POST", "/workloads", Some(&token), &again).await.is(200);
    let other =
        face.ask("POST", "/workloads", Some(&token), &spec("sum-1", "something else").to_string()).await.is(409);
    assert_eq!(other.body["code"], "WORKLOAD_EXISTS");

    let end = face.reaches("sum-1", &token, &["destroyed"]).await;
    assert_eq!((end["stopReason"].as_str(), end["exitCode"].as_i64()), (Some("completed"), Some(0)), "{end}");
    assert!(end["startedAt"].is_string() && end["stoppedAt"].is_string() && end["node"].is_string(), "{end}");
    face.stack.no_container_left().await;
    let events = face.ask("GET", "/workloads/sum-1/events", Some(&token), "").await.is(200).body;
    let states: Vec<&str> = events.as_array().unwrap().iter().map(|e| e["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["starting", "running", "stopped", "destroyed"]);
    let streamed = face
        .raw(
            "GET",
            "/workloads/sum-1/events",
            &format!("authorization: Bearer {token}\r\naccept: text/event-stream\r\n"),
            "",
        )
        .await;
    let text = streamed.body.as_str().unwrap();
    let data: Vec<Value> =
        text.lines().filter_map(|l| l.strip_prefix("data: ")).map(|d| serde_json::from_str(d).unwrap()).collect();
    let states: Vec<&str> = data.iter().map(|e| e["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["starting", "running", "stopped", "destroyed"], "{text}");

    // The ledger has it, once, under the launcher of the face and the token's person.
    let operator = face.stack.operator().await;
    let rows = operator.ask("query.dispatch.ls", &json!({ "limit": 10 })).await["ok"]["rows"].clone();
    assert_eq!(rows.as_array().unwrap().len(), 1, "{rows}");
    assert_eq!(
        (rows[0]["launcher"].as_str(), rows[0]["subject"].as_str()),
        (Some("runtime-http"), Some("u_jane")),
        "{rows}"
    );
    assert!(face.stack.ok(&["audit", "verify"]).await.out.contains("PASS"));

    // Somebody else's is not there, for any verb.
    let stranger = face.token(&["--as", "u_omar"]).await;
    for (method, path) in [
        ("GET", "/workloads/sum-1"),
        ("DELETE", "/workloads/sum-1"),
        ("POST", "/workloads/sum-1/stop"),
        ("GET", "/workloads/sum-1/events"),
    ] {
        assert_eq!(face.ask(method, path, Some(&stranger), "").await.is(404).body["code"], "NOT_FOUND");
    }
    assert_eq!(face.ask("GET", "/workloads", Some(&stranger), "").await.is(200).body, json!([]));
    face.ask("POST", "/workloads", Some(&stranger), &body).await.is(409);

    // Another program's dispatch of the same person is seen under its own id, newest first, page by page.
    let dispatch = face.stack.launch(&["--as", "u_jane", "hello"]).await;
    face.reaches(&dispatch, &token, &["destroyed"]).await;
    let page = face.ask("GET", "/workloads?limit=1", Some(&token), "").await.is(200);
    assert_eq!(page.body[0]["workloadId"], dispatch.as_str());
    let next = page.header("link").unwrap().split(['<', '>']).nth(1).unwrap().to_owned();
    assert_eq!(face.ask("GET", &next, Some(&token), "").await.is(200).body[0]["workloadId"], "sum-1");
    let none = face.ask("GET", "/workloads?state=running", Some(&token), "").await.is(200);
    assert_eq!(none.body, json!([]));
}

#[rstest]
#[case::stop("stop-1", "POST", "/stop")]
#[case::delete("delete-1", "DELETE", "")]
#[tokio::test(flavor = "multi_thread")]
async fn a_running_one_is_ended_on_the_record(#[case] id: &str, #[case] method: &str, #[case] below: &str) {
    // A workload's id makes its box's name, and all installations of this engine share one space of names.
    let own = format!("/workloads/{id}");
    let path = format!("{own}{below}");
    let release = Arc::new(Notify::new());
    let face = Face::start(vec![Turn::HeldAfterHead { text: "late".into(), release }]).await;
    let token = face.token(&[]).await;
    face.ask("POST", "/workloads", Some(&token), &spec(id, "hold on").to_string()).await.is(201);
    face.reaches(id, &token, &["running"]).await;
    let told = face.ask(method, &path, Some(&token), "").await;
    assert!(matches!(told.status, 200 | 202), "{told:?}");
    let end = face.reaches(id, &token, &["destroyed"]).await;
    assert_eq!(end["stopReason"], "stopped", "{end}");
    // Asking again changes nothing.
    assert_eq!(face.ask(method, &path, Some(&token), "").await.is(200).body, end);
    let events = face.ask("GET", &format!("{own}/events"), Some(&token), "").await.is(200).body;
    let states: Vec<&str> = events.as_array().unwrap().iter().map(|e| e["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["starting", "running", "stopping", "stopped", "destroyed"]);
    let why = face.stack.ok(&["audit", "ls", "-o", "json"]).await.out;
    assert!(why.contains("dispatch.stop_requested"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_by_name_and_leave_nothing() {
    let face = Face::start(Vec::new()).await;
    let token = face.token(&[]).await;
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = spec("w-1", "hello");
        change(&mut body);
        body.to_string()
    };
    let posts = [
        (400, "NOT_JSON", "{".to_owned()),
        (400, "SPEC_INVALID", with(&|v| v["backend"] = json!("process"))),
        (400, "SPEC_INVALID", with(&|v| v["ports"] = json!([80]))),
        (400, "SPEC_INVALID", with(&|v| v["env"] = json!({}))),
        (422, "BACKEND_UNAVAILABLE", with(&|v| v["backend"] = json!("k8s"))),
        (422, "RESOURCES_TOO_LARGE", with(&|v| v["resources"] = json!({ "memoryMb": 1_048_576 }))),
        (
            413,
            "TOO_LARGE",
            with(&|v| v["env"]["X"] = json!("x".repeat(30_000))).replace("\"X\"", &"\"A\":\"\",".repeat(0))
                + &" ".repeat(140_000),
        ),
    ];
    for (status, code, body) in posts {
        assert_eq!(face.ask("POST", "/workloads", Some(&token), &body).await.is(status).body["code"], code);
    }
    for (path, code) in [
        ("/workloads?limit=0", "QUERY_INVALID"),
        ("/workloads?limit=501", "QUERY_INVALID"),
        ("/workloads?state=gone", "QUERY_INVALID"),
        ("/workloads?all=1", "QUERY_INVALID"),
    ] {
        assert_eq!(face.ask("GET", path, Some(&token), "").await.is(400).body["code"], code, "{path}");
    }
    face.ask("GET", "/workloads?limit=500", Some(&token), "").await.is(200);
    assert_eq!(face.ask("GET", "/workloads/nobody", Some(&token), "").await.is(404).body["code"], "NOT_FOUND");
    assert_eq!(face.ask("GET", "/elsewhere", Some(&token), "").await.is(404).body["code"], "NO_ROUTE");
    assert_eq!(face.ask("PUT", "/workloads", Some(&token), "").await.is(405).body["code"], "METHOD_NOT_ALLOWED");
    // A rule of admission speaks through the face, with its own code, and is on the record.
    let unknown = with(&|v| v["profile"] = json!("nobody"));
    let refused = face.ask("POST", "/workloads", Some(&token), &unknown).await.is(422);
    assert_eq!(refused.body["code"], "RUNNER_UNKNOWN");
    assert!(refused.body["hint"].is_string());
    let operator = face.stack.operator().await;
    let rows = operator.ask("query.dispatch.ls", &json!({ "limit": 10 })).await["ok"]["rows"].clone();
    assert_eq!((rows.as_array().unwrap().len(), rows[0]["status"].as_str()), (1, Some("refused")), "{rows}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_configuration_there_is_no_face() {
    let stack = Stack::start().await;
    assert!(!stack.state().join("run/runtime-http").exists());
    assert!(!stack.ok(&["launcher", "ls"]).await.out.contains("runtime-http"));
}
