//! Grants from end to end: without one nothing begins; and how soon a revocation is felt, by the calls of a dispatch that
//! runs and by its box, of one and of several at once.

use crate::ledger::count;
use crate::stack::{LOOK, Options, Stack};
use custody_testkit::model::Turn;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::Instant;

/// From a revocation to the refusal of the next call, and to the end of the box. Source: P7 of the README.
const REFUSED_MAX: Duration = Duration::from_secs(1);
const ENDED_MAX: Duration = Duration::from_secs(5);

pub(crate) fn misbehave<'a>(what: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["--runner", "misbehave"], more, &[what]].concat()
}

/// The socket of a dispatch on the host's side.
pub(crate) fn socket(stack: &Stack, dispatch: &str) -> PathBuf {
    fn find(folder: &Path) -> Option<PathBuf> {
        let entries: Vec<_> = std::fs::read_dir(folder).ok()?.flatten().map(|e| e.path()).collect();
        let own = entries.iter().find(|path| path.file_name().is_some_and(|name| name == "gw.sock")).cloned();
        own.or_else(|| entries.iter().filter(|path| path.is_dir()).find_map(|path| find(path)))
    }
    let folder = stack.state().join("runs").join(dispatch);
    find(&folder).unwrap_or_else(|| panic!("no socket below {}", folder.display()))
}

/// One request as an agent makes it; the answer's body.
pub(crate) async fn post(socket: &Path, path: &str, body: &Value) -> Value {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: box\r\ncontent-type: application/json\r\naccept: application/json\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let (from, to) = (body.find('{').unwrap(), body.rfind('}').unwrap());
    serde_json::from_str(&body[from..=to]).unwrap_or_else(|e| panic!("{e}: {answer}"))
}

async fn tool(socket: &Path) -> Value {
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "workspace_list", "arguments": {} },
    });
    post(socket, "/mcp", &call).await
}

async fn model(socket: &Path) -> Value {
    let ask = json!({ "model": "m", "messages": [{ "role": "user", "content": "hello" }] });
    post(socket, "/v1/chat/completions", &ask).await
}

/// T19, T24: what nobody granted is refused with the ceiling that failed and the command that gives it; and given, it runs.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_grant_nothing_begins_and_the_refusal_says_how_to_be_granted() {
    let stack = Stack::start().await;
    let refused = stack.custody(&["run", "--as", "u_jane", "hello"]).await.ended(5);
    assert!(refused.err.contains("[GRANT_MISSING]"), "{refused:?}");
    assert!(
        refused.err.contains("custody grant issue --as u_jane --launcher cli --workspace default:rw"),
        "{refused:?}"
    );
    let grant = stack.grant("u_jane", "cli", &["--workspace", "default:ro"]).await;
    let refused = stack.custody(&["run", "--as", "u_jane", "hello"]).await.ended(5);
    assert!(refused.err.contains("[GRANT_MODE]"), "{refused:?}");
    let ran = stack.run(&["--as", "u_jane", "--workspace", "default:ro", "hello"]).await;
    assert_eq!((ran["status"].as_str(), ran["grant"].as_str()), (Some("completed"), Some(grant.as_str())), "{ran}");

    // The ladder goes down to her consent, and every step of the verbs says the same.
    let why = stack.ok(&["audit", "why", ran["dispatch"].as_str().unwrap()]).await.out;
    assert!(why.contains("under grant") && why.contains(&grant) && why.contains("agreed to by"), "{why}");
    let shown = stack.ok(&["grant", "show", &grant, "-o", "json"]).await.json();
    assert_eq!((shown["uses"].as_u64(), shown["status"].as_str()), (Some(1), Some("issued")), "{shown}");
    let told = stack.ok(&["grant", "explain", &grant]).await.out;
    assert!(told.contains("u_jane lets user:cli") && told.contains("default as ro"), "{told}");
    let all = stack.ok(&["grant", "ls", "--as", "u_jane", "-o", "json"]).await.json();
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
    assert_eq!(stack.ok(&["grant", "unused", "--for", "1d", "-o", "json"]).await.json(), json!([]));

    // A derived one is narrower or it is not given; and both end with the first.
    let wider = ["grant", "issue", "--parent", &grant, "--workspace", "default:rw", "--yes"];
    let refused = stack.custody(&wider).await.ended(5);
    assert!(refused.err.contains("[GRANT_WIDER]") && refused.err.contains("workspaces: default is ro"), "{refused:?}");
    let narrow = ["grant", "issue", "--parent", &grant, "--dispatches", "1", "--yes", "-o", "json"];
    let narrow = stack.ok(&narrow).await.json()["grant"].as_str().unwrap().to_owned();
    stack.ok(&["grant", "revoke", &grant, "--why", "enough"]).await;
    for id in [&grant, &narrow] {
        let ended = stack.custody(&["grant", "explain", id]).await;
        assert!(id == &narrow || ended.code == Some(5), "{ended:?}");
    }
    let refused = stack.custody(&["run", "--as", "u_jane", "--workspace", "default:ro", "hello"]).await.ended(5);
    assert!(refused.err.contains("[GRANT_REVOKED]"), "{refused:?}");
    // A request lets nobody do anything, until the person gives it.
    let asked = ["grant", "request", "--like", &grant, "--why", "again", "-o", "json"];
    let asked = stack.ok(&asked).await.json()["grant"].as_str().unwrap().to_owned();
    stack.custody(&["run", "--as", "u_jane", "--workspace", "default:ro", "hello"]).await.ended(5);
    stack.ok(&["grant", "issue", "--request", &asked, "--yes"]).await;
    let ran = stack.run(&["--as", "u_jane", "--workspace", "default:ro", "hello"]).await;
    assert_eq!(ran["grant"], asked.as_str(), "{ran}");
    assert!(stack.ok(&["audit", "verify"]).await.out.contains("PASS"));
    stack.nothing_is_wrong().await;
}

/// T42: revoked while several boxes run under it; each one's next tool and model call is refused, and each one ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_grant_is_felt_within_a_second_and_its_boxes_end_within_five() {
    let config = Some("[runtime]\nrunning_max = 4\n".to_owned());
    let script = (0..50).map(|_| Turn::Say("Hello.".into())).collect();
    let stack = Stack::with(Options { config, script, ..Options::default() }).await;
    let grant = stack.grant("u_jane", "cli", &["--tool", "workspace_list"]).await;
    let mut under = Vec::new();
    for _ in 0..3 {
        let asked = misbehave("ignore-term", &["--as", "u_jane", "--tool", "workspace_list"]);
        under.push(stack.launch(&asked).await);
    }
    let other = stack.launch(&misbehave("silent", &["--tool", "workspace_list"])).await;
    let mut sockets = Vec::new();
    for dispatch in under.iter().chain([&other]) {
        stack.running(dispatch).await;
        sockets.push(socket(&stack, dispatch));
    }
    // The honest calls beside it.
    for one in &sockets {
        assert!(tool(one).await["result"].is_object(), "{}", stack.log());
        assert!(model(one).await["choices"].is_array(), "{}", stack.log());
    }
    let begun = Instant::now();
    stack.ok(&["grant", "revoke", &grant, "--why", "the phone was lost"]).await;
    let (revoked, mut felt) = (Instant::now(), Vec::new());
    let mut calls = tokio::task::JoinSet::new();
    for one in &sockets[..3] {
        let one = one.clone();
        calls.spawn(async move {
            loop {
                let (tool, model) = (tool(&one).await, model(&one).await);
                let refused = tool["error"]["message"].as_str().is_some_and(|text| text.contains("GRANT_REVOKED"));
                if refused && model.to_string().contains("GRANT_REVOKED") {
                    return Instant::now();
                }
                assert!(revoked.elapsed() < ENDED_MAX, "{tool} {model}");
                tokio::time::sleep(LOOK).await;
            }
        });
    }
    while let Some(at) = calls.join_next().await {
        felt.push(at.unwrap().saturating_duration_since(revoked));
    }
    // A box has ended when the engine says so; the record of its end waits for the last that it said.
    let of_them = |one: &custody_ports::containers::BoxStatus| {
        one.labels.get("custody.dispatch").is_some_and(|dispatch| under.contains(dispatch))
    };
    while stack.boxes_running().await.iter().any(of_them) {
        assert!(revoked.elapsed() <= ENDED_MAX, "a box still runs");
        tokio::time::sleep(LOOK).await;
    }
    let ended = revoked.elapsed();
    for dispatch in &under {
        let row = stack.ended(dispatch).await;
        assert_eq!((row["status"].as_str(), row["reason"].as_str()), (Some("ended"), Some("revoked")), "{row}");
    }
    println!("refused after {felt:?}, ended after {ended:?}; the command took {:?}", revoked - begun);
    assert!(felt.iter().all(|after| *after <= REFUSED_MAX), "{felt:?}");
    assert!(ended <= ENDED_MAX, "{ended:?}");
    // The other person's dispatch goes on, and its calls too.
    assert!(tool(&sockets[3]).await["result"].is_object());
    assert_eq!(stack.running(&other).await["status"], "running");
    stack.ok(&["dispatch", "kill", &other]).await;
    for dispatch in &under {
        let events = stack.events_of(dispatch).await;
        assert_eq!(count(&events, "dispatch.stop_requested"), 1, "{events:#?}");
        let refused = events.iter().any(|e| e.kind == "effect.tool_refused" && e.data["reason"] == "GRANT_REVOKED");
        assert!(refused, "{events:#?}");
    }
    stack.no_container_left().await;
    assert!(stack.ok(&["audit", "verify"]).await.out.contains("PASS"));
    stack.nothing_is_wrong().await;
}

/// A grant that ends while something runs under it ends that too.
#[tokio::test(flavor = "multi_thread")]
async fn what_runs_when_its_grant_ends_is_ended() {
    let stack = Stack::start().await;
    stack.grant("u_jane", "cli", &["--expires", "8s"]).await;
    let dispatch = stack.launch(&misbehave("silent", &["--as", "u_jane"])).await;
    let row = stack.ended(&dispatch).await;
    assert_eq!(row["reason"], "revoked", "{row}");
    let asked = stack.events_of(&dispatch).await.into_iter().find(|e| e.kind == "dispatch.stop_requested").unwrap();
    assert!(asked.data["by"].as_str().unwrap().ends_with("/GRANT_EXPIRED"), "{asked:?}");
    let refused = stack.custody(&["run", "--as", "u_jane", "hello"]).await.ended(5);
    assert!(refused.err.contains("[GRANT_EXPIRED]"), "{refused:?}");
    stack.no_container_left().await;
}

/// So many dispatches in a window and no more, also when they are asked for at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_window_holds_when_many_are_asked_for_at_once() {
    let stack = Stack::start().await;
    let web = stack.launcher("web").await;
    for row in stack.ok(&["grant", "ls", "--as", "u_jane", "-o", "json"]).await.json().as_array().unwrap() {
        stack.ok(&["grant", "revoke", row["grant"].as_str().unwrap(), "--why", "another one"]).await;
    }
    let few = [
        "grant",
        "issue",
        "--as",
        "u_jane",
        "--launcher",
        "web",
        "--workspace",
        "default:rw",
        "--dispatches",
        "3",
        "--yes",
    ];
    stack.ok(&few).await;
    let mut all = tokio::task::JoinSet::new();
    let web = std::sync::Arc::new(web);
    for _ in 0..12 {
        let web = web.clone();
        all.spawn(async move {
            let unit = crate::launcher::unit("web", "hello");
            web.asked(web.signed(web.event(&crate::stack::fresh(), &unit))).await
        });
    }
    let (mut admitted, mut reasons) = (Vec::new(), Vec::new());
    while let Some(reply) = all.join_next().await {
        let reply = reply.unwrap();
        match reply.reason {
            None => admitted.push(reply.dispatch),
            Some(reason) => reasons.push(reason),
        }
    }
    assert_eq!((admitted.len(), reasons.len()), (3, 9), "{reasons:?}");
    assert!(reasons.iter().all(|reason| reason == "GRANT_WINDOW"), "{reasons:?}");
    for dispatch in &admitted {
        stack.ended(dispatch).await;
    }
    assert!(stack.ok(&["audit", "verify"]).await.out.contains("PASS"));
}

/// Nobody's first message from the web chat is launched before its words were shown and agreed to, by their digest.
#[tokio::test(flavor = "multi_thread")]
async fn the_web_chat_launches_nothing_before_its_words_were_agreed_to() {
    let stack = Stack::start().await;
    let jane = stack.user("u_jane").await;
    let body = json!({ "id": "m-1", "unit": crate::browser::unit("u_jane", "hello", None) });
    let refused = jane.post("/api/v1/dispatches", &body).await.is(409).json();
    assert_eq!(refused["code"], "CONSENT_NEEDED", "{refused}");
    let consent = jane.get("/api/v1/consent").await.is(200).json();
    assert_eq!(consent["state"], "needed");
    let words = consent["statement"].as_str().unwrap();
    assert!(words.contains("u_jane lets user:web-chat") && words.contains("Workspaces: default as rw."), "{words}");
    // Reading gives nothing, and a yes to other words is none.
    jane.post("/api/v1/dispatches", &body).await.is(409);
    let other = format!("sha256:{}", "0".repeat(64));
    let agree = |digest: &Value| json!({ "terms": consent["terms"], "statement_digest": digest });
    jane.post("/api/v1/grants", &agree(&json!(other))).await.is(409);
    assert_eq!(jane.get("/api/v1/consent").await.is(200).json()["state"], "needed");
    // Nor may another person agree for her.
    let omar = stack.user("u_omar").await;
    assert_eq!(
        omar.post("/api/v1/grants", &agree(&consent["statement_digest"])).await.is(403).json()["code"],
        "SUBJECT_REFUSED"
    );

    let given = jane.post("/api/v1/grants", &agree(&consent["statement_digest"])).await.is(201).json();
    let stands = jane.get("/api/v1/consent").await.is(200).json();
    assert_eq!((&stands["state"], &stands["grant"]), (&json!("given"), &given["grant"]));
    let shown = stack.ok(&["grant", "get", given["grant"].as_str().unwrap(), "-o", "json"]).await.json();
    assert_eq!(shown["consent"]["statement_digest"], consent["statement_digest"], "{shown}");
    let launched = jane.post("/api/v1/dispatches", &body).await.is(201).json();
    assert_eq!(stack.ended(launched["dispatch"].as_str().unwrap()).await["status"], "completed");

    // What she takes back is not asked for again; what is launched then is refused by its own rule.
    jane.post(&format!("/api/v1/grants/{}/revoke", given["grant"].as_str().unwrap()), &json!({ "why": "enough" }))
        .await
        .is(202);
    let until = Instant::now() + Duration::from_secs(30);
    while jane.get("/api/v1/consent").await.is(200).json()["state"] != "revoked" {
        assert!(Instant::now() < until, "her revocation was never folded");
        tokio::time::sleep(LOOK).await;
    }
    let body = json!({ "id": "m-2", "unit": crate::browser::unit("u_jane", "hello", None) });
    assert_eq!(jane.post("/api/v1/dispatches", &body).await.is(403).json()["code"], "GRANT_REVOKED");
}

/// Setting up is the operator's consent, once: what they revoke is not given again by the next start.
#[tokio::test(flavor = "multi_thread")]
async fn the_operators_own_grant_is_given_once() {
    let mut stack = Stack::start().await;
    let own = ["grant", "ls", "--as", "u_tester", "--launcher", "cli", "-o", "json"];
    let rows = stack.ok(&own).await.json();
    assert_eq!((rows.as_array().unwrap().len(), rows[0]["method"].as_str()), (1, Some("operator")), "{rows}");
    stack.stop().await;
    stack.up(&[]).await;
    assert_eq!(stack.ok(&own).await.json().as_array().unwrap().len(), 1);
    stack.ok(&["run", "hello"]).await;
    stack.ok(&["grant", "revoke", rows[0]["grant"].as_str().unwrap(), "--why", "no more"]).await;
    stack.stop().await;
    stack.up(&[]).await;
    let refused = stack.custody(&["run", "hello"]).await.ended(5);
    assert!(refused.err.contains("[GRANT_REVOKED]"), "{refused:?}");
}
