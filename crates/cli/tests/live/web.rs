//! The web of the real binary: the bridge under reloads, restarts and slow readers, sign-in, and that every route is
//! closed to strangers.

use crate::browser::{Browser, PATIENCE, unit};
use crate::stack::{LOOK, Options, Stack, fresh, signal};
use custody_testkit::model::Turn;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

const EXIT: &str = "custody.run.finished.v1";

/// Agrees, starts a dispatch over a websocket and gives its id.
async fn start(browser: &Browser, subject: &str, prompt: &str) -> String {
    let browser = browser.clone().agreed().await;
    let mut socket = browser.socket().await;
    let id = fresh();
    let cmd = json!({ "t": "cmd", "id": id, "name": "dispatch.start", "args": unit(subject, prompt, None) });
    socket.say(&cmd).await;
    let ack = socket.until(|f| matches!(f["t"].as_str(), Some("ack" | "nack"))).await;
    assert_eq!(ack["t"], "ack", "{ack}");
    // Sent again it is the same dispatch.
    socket.say(&cmd).await;
    let again = socket.until(|f| f["t"] == "ack").await;
    assert_eq!(again["dispatch"], ack["dispatch"]);
    ack["dispatch"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_turn_streams_and_a_reload_in_the_middle_misses_no_word() {
    let release = Arc::new(Notify::new());
    let text = "The capital of France is Paris, and it always was.".to_owned();
    let turn = Turn::HeldMidway { text: text.clone(), release: release.clone() };
    let stack = Stack::with(Options { script: vec![turn], ..Options::default() }).await;
    let browser = stack.admin().await;
    let mut list = browser.socket().await;
    list.sub(1, "dispatches", None).await;
    let snap = list.frame("snap", 1).await;
    assert_eq!(snap["state"]["rows"], json!([]));
    let dispatch = start(&browser, "u_tester", "What is the capital of France?").await;
    let events = list.events_until(1, "custody.run.started.v1").await;
    assert!(events.iter().all(|e| e["data"]["dispatch"] == dispatch.as_str()), "{events:?}");
    let admitted = events.iter().filter(|e| e["type"] == "custody.dispatch.admitted.v1").count();
    assert_eq!(admitted, 1, "the same message twice is one dispatch");

    stack.model().has_seen(1).await;
    let topic = format!("output/{dispatch}");
    let mut first = browser.socket().await;
    first.sub(7, &topic, None).await;
    let begun = first.until(|f| f["id"] == 7 && f.to_string().contains("capital")).await;
    let cursor = first.cursors[&7];
    assert!(cursor > 0, "{begun}");
    first.close().await;
    release.notify_one();
    // A reload with a cursor, a reload without, and a second tab say the same.
    let (mut after, mut anew) = (browser.socket().await, browser.socket().await);
    after.sub(1, &topic, Some(cursor)).await;
    anew.sub(1, &topic, None).await;
    let (rest, all) = tokio::join!(after.words(1), anew.words(1));
    assert_eq!(all, text);
    assert!(text.ends_with(&rest) && rest.len() < text.len(), "{rest:?}");
    list.events_until(1, EXIT).await;

    // The session's own topic, and a follow-up into it.
    let row = browser.get(&format!("/api/v1/dispatches/{dispatch}")).await.is(200).json();
    let session = row["row"]["session"].as_str().unwrap().to_owned();
    let mut chat = browser.socket().await;
    chat.sub(2, &format!("session/{session}"), None).await;
    let snap = chat.frame("snap", 2).await;
    assert_eq!(snap["state"]["dispatches"][0]["dispatch"], dispatch.as_str(), "{snap}");
    let args = unit("u_tester", "And of Spain?", Some(&session));
    chat.say(&json!({ "t": "cmd", "id": fresh(), "name": "dispatch.start", "args": args })).await;
    chat.events_until(2, EXIT).await;
    let page = browser.get(&format!("/api/v1/sessions/{session}/conversation")).await.is(200).json();
    let prompts: Vec<_> = page["turns"].as_array().unwrap().iter().map(|t| t["prompt"].as_str().unwrap()).collect();
    assert_eq!(prompts, ["What is the capital of France?", "And of Spain?"]);
    assert!(page["turns"][0]["frames"].to_string().contains("always was"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_server_and_nats_loses_and_repeats_nothing() {
    let mut stack = Stack::start().await;
    let browser = stack.admin().await;
    let mut socket = browser.socket().await;
    socket.sub(1, "audit", None).await;
    let snap = socket.frame("snap", 1).await;
    let mut seqs: Vec<u64> =
        snap["state"]["rows"].as_array().unwrap().iter().map(|r| r["seq"].as_u64().unwrap()).collect();
    stack.run(&["one"]).await;
    let collect = |frame: &Value, seqs: &mut Vec<u64>| {
        seqs.extend(frame["events"].as_array().unwrap().iter().map(|e| e["seq"].as_u64().unwrap()));
    };
    while !stack_is_shown(&stack, &seqs).await {
        let frame = socket.frame("ev", 1).await;
        collect(&frame, &mut seqs);
    }
    // NATS alone: the connection stays.
    let nats = stack.up_file()["nats_pid"].as_u64().unwrap();
    signal(nats.try_into().unwrap(), Signal::KILL);
    stack.run(&["two"]).await;
    while !stack_is_shown(&stack, &seqs).await {
        let frame = socket.frame("ev", 1).await;
        collect(&frame, &mut seqs);
    }
    // The server, without a goodbye: the same cursor finds its place.
    let cursor = socket.cursors[&1];
    stack.kill().await;
    stack.up(&[]).await;
    assert_eq!(stack.web(), browser.base, "the address is kept");
    let mut socket = browser.socket().await;
    socket.sub(1, "audit", Some(cursor)).await;
    stack.run(&["three"]).await;
    while !stack_is_shown(&stack, &seqs).await {
        let frame = socket.until(|f| f["t"] == "ev" || f["t"] == "gone").await;
        assert_eq!(frame["t"], "ev", "{frame}");
        collect(&frame, &mut seqs);
    }
    let whole: Vec<u64> = (seqs[0]..=*seqs.last().unwrap()).collect();
    assert_eq!(seqs, whole, "0 gaps, 0 twice");
    // An orderly stop says so.
    let ended = async {
        stack.stop().await;
    };
    let told = socket.until(|f| f["t"] == "bye");
    let (told, ()) = tokio::join!(told, ended);
    assert_eq!(told["reason"], "shutdown");
}

/// Whether everything that is in the ledger now was seen.
async fn stack_is_shown(stack: &Stack, seqs: &[u64]) -> bool {
    let status = stack.ok(&["status", "-o", "json"]).await.json();
    let last = status["ledger_seq"].as_u64().unwrap();
    seqs.last().is_some_and(|s| *s >= last)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_gets_nothing_from_any_route() {
    let stack = Stack::start().await;
    let admin = stack.admin().await;
    let stranger = Browser::new(&stack.web());
    let document = admin.get("/api/v1/openapi.json").await.is(200).json();
    let mut checked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            if custody_http::rest::PUBLIC.contains(&(method.as_str(), path.as_str())) {
                continue;
            }
            let at = path.replace("{id}", "d-1").replace("{name}", "unit.v1");
            let at = at.replace("{workspace}", "default").replace("{commit}", &"0".repeat(40));
            let origin = stranger.base.clone();
            let upgrade = [
                ("origin", origin.as_str()),
                ("connection", "upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ];
            let headers = if path.ends_with("/ws") { &upgrade[..] } else { &upgrade[..1] };
            let answer = stranger.send(method, &at, headers, "{}".into()).await;
            assert_eq!(answer.status, 401, "{method} {path}: {answer:?}");
            assert_eq!(answer.json()["code"], "NOT_SIGNED_IN", "{method} {path}");
            // A cookie that somebody made up is no better.
            let forged = Browser { cookie: Some("custody=forged".into()), ..stranger.clone() };
            assert_eq!(forged.send(method, &at, headers, "{}".into()).await.status, 401, "{method} {path}");
            checked += 1;
        }
    }
    assert!(checked >= 19, "{checked} routes were tried");
    assert_eq!(stranger.socket_from(&stranger.base).await.unwrap_err(), 401);
    assert_eq!(stranger.get("/api/v1/nothing").await.json()["code"], "NO_ROUTE");
    let page = stranger.get("/chat").await.is(200);
    assert!(page.headers["content-security-policy"].contains("require-trusted-types-for 'script'"));
    assert_eq!(page.headers["cache-control"], "no-cache");
    assert_eq!(stranger.get("/api/v1/healthz").await.is(200).json()["status"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_site_and_another_name_are_refused() {
    let stack = Stack::start().await;
    let admin = stack.admin().await;
    assert_eq!(admin.socket_from("https://evil.test").await.unwrap_err(), 403);
    assert_eq!(admin.socket_from("null").await.unwrap_err(), 403);
    for headers in [&[("origin", "https://evil.test")][..], &[]] {
        let answer = admin.send("POST", "/api/v1/dispatches", headers, "{}".into()).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (403, Some("ORIGIN_REFUSED")), "{headers:?}");
        assert_eq!(admin.send("DELETE", "/api/v1/session", headers, String::new()).await.status, 403);
    }
    let rebound = admin.send("GET", "/api/v1/me", &[("host", "evil.test")], String::new()).await;
    assert_eq!((rebound.status, rebound.json()["code"].as_str()), (421, Some("HOST_REFUSED")));
    admin.get("/api/v1/me").await.is(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_sees_their_own_and_never_anothers() {
    let stack = Stack::start().await;
    let (jane, omar, admin) = (stack.user("u_jane").await, stack.user("u_omar").await, stack.admin().await);
    let dispatch = start(&jane, "u_jane", "mine").await;
    stack.ended(&dispatch).await;
    let row = jane.get(&format!("/api/v1/dispatches/{dispatch}")).await.is(200).json();
    let session = row["row"]["session"].as_str().unwrap().to_owned();

    let mut socket = omar.socket().await;
    for (id, topic) in (1..).zip([
        format!("dispatch/{dispatch}"),
        format!("output/{dispatch}"),
        format!("session/{session}"),
        "dispatch/d-none".to_owned(),
        // A prefix is not an id.
        format!("dispatch/{}", &dispatch[..8]),
    ]) {
        socket.sub(id, &topic, None).await;
        let nack = socket.until(|f| f["id"] == id).await;
        assert_eq!((nack["t"].as_str(), nack["code"].as_str()), (Some("nack"), Some("NOT_FOUND")), "{topic}: {nack}");
    }
    socket.sub(10, "audit", None).await;
    let rows = socket.frame("snap", 10).await;
    assert_eq!(rows["state"]["rows"], json!([]), "{rows}");
    for command in ["dispatch.stop", "dispatch.retry"] {
        let id = fresh();
        socket.say(&json!({ "t": "cmd", "id": id, "name": command, "args": { "dispatch": dispatch } })).await;
        let nack = socket.until(|f| f["id"] == id.as_str()).await;
        assert_eq!(nack["code"], "NOT_FOUND", "{command}: {nack}");
    }
    // Neither in another's name nor into another's session.
    for (args, code) in
        [(unit("u_jane", "x", None), "SUBJECT_REFUSED"), (unit("u_omar", "x", Some(&session)), "NOT_FOUND")]
    {
        let id = fresh();
        socket.say(&json!({ "t": "cmd", "id": id, "name": "dispatch.start", "args": args })).await;
        let nack = socket.until(|f| f["id"] == id.as_str()).await;
        assert_eq!(nack["code"], code, "{nack}");
    }
    for path in [
        format!("/api/v1/dispatches/{dispatch}"),
        format!("/api/v1/dispatches/{dispatch}/events"),
        format!("/api/v1/dispatches/{dispatch}/output"),
        format!("/api/v1/sessions/{session}"),
        format!("/api/v1/sessions/{session}/conversation"),
        format!("/api/v1/audit/why/{dispatch}"),
        format!("/api/v1/audit/why/{}", row["row"]["first_seq"]),
    ] {
        assert_eq!(omar.get(&path).await.is(404).json()["code"], "NOT_FOUND", "{path}");
        jane.get(&path).await.is(200);
        admin.get(&path).await.is(200);
    }
    let rows =
        async |browser: &Browser, path: &str| browser.get(path).await.is(200).json()["rows"].as_array().unwrap().len();
    for path in ["/api/v1/dispatches", "/api/v1/sessions"] {
        assert_eq!((rows(&omar, path).await, rows(&jane, path).await, rows(&admin, path).await), (0, 1, 1), "{path}");
    }
    assert_eq!(rows(&omar, "/api/v1/dispatches?subject=u_jane").await, 0);
    assert_eq!(rows(&omar, "/api/v1/audit").await, 0);
    assert!(rows(&jane, "/api/v1/audit").await >= 4);
    let why = jane.get(&format!("/api/v1/audit/why/{dispatch}")).await.json();
    let events = why["events"].as_array().unwrap().len();
    assert_eq!(why["signatures"].as_u64().unwrap() as usize, events + 1, "each event's, and that of her grant");
    let verified = omar.post("/api/v1/audit/verify", &json!({})).await.is(200).json();
    assert_eq!(verified["result"], "pass", "{verified}");
    let head = verified["head"].as_str().unwrap();
    assert_eq!(head.len(), 64, "{verified}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_change_end_topics_and_sessions_in_the_middle() {
    let stack = Stack::start().await;
    let (jane, admin) = (stack.user("u_jane").await, stack.admin().await);
    stack.ok(&["user", "add", "u_boss", "--admin"]).await;
    stack.ok(&["user", "admin", "u_jane"]).await;
    let dispatch = start(&admin, "u_tester", "not hers").await;
    stack.ended(&dispatch).await;
    let until = Instant::now() + PATIENCE;
    while jane.get(&format!("/api/v1/dispatches/{dispatch}")).await.status != 200 {
        assert!(Instant::now() < until, "she never became an administrator");
        tokio::time::sleep(LOOK).await;
    }
    let mut socket = jane.socket().await;
    socket.sub(1, &format!("dispatch/{dispatch}"), None).await;
    socket.frame("caught", 1).await;
    socket.sub(2, "dispatches", None).await;
    assert_eq!(socket.frame("snap", 2).await["state"]["rows"].as_array().unwrap().len(), 1);
    stack.ok(&["user", "admin", "u_jane", "--revoke"]).await;
    let gone = socket.frame("gone", 1).await;
    assert_eq!(gone["reason"], "forbidden");
    let snap = socket.frame("snap", 2).await;
    assert_eq!(snap["state"]["rows"], json!([]), "the list begins anew without what is not hers");
    stack.ok(&["user", "disable", "u_jane"]).await;
    let bye = socket.until(|f| f["t"] == "bye").await;
    assert_eq!((bye["reason"].as_str(), bye["retry_ms"].as_u64()), (Some("signed_out"), Some(0)));
    assert_eq!(socket.next().await["t"], "closed");
    assert_eq!(jane.socket_from(&jane.base).await.unwrap_err(), 401);
    // A sign-out ends the streams of that session, and of no other.
    let (other, mut mine) = (stack.admin().await, admin.socket().await);
    let mut theirs = other.socket().await;
    admin.delete("/api/v1/session").await.is(204);
    assert_eq!(mine.until(|f| f["t"] == "bye").await["reason"], "signed_out");
    theirs.sub(1, "health", None).await;
    theirs.frame("snap", 1).await;
    admin.get("/api/v1/me").await.is(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_expires_ends_its_stream_with_a_reason() {
    let config = Some("[http]\nsession_s = 3\n".to_owned());
    let stack = Stack::with(Options { config, ..Options::default() }).await;
    let admin = stack.admin().await;
    let mut socket = admin.socket().await;
    let bye = socket.until(|f| f["t"] == "bye").await;
    assert_eq!((bye["reason"].as_str(), bye["retry_ms"].as_u64()), (Some("expired"), Some(0)));
    admin.get("/api/v1/me").await.is(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_are_counted_and_nothing_on_disk_is_a_key() {
    let stack = Stack::start().await;
    let (stranger, key) = (Browser::new(&stack.web()), stack.admin_key());
    for _ in 0..5 {
        let answer = stranger.post("/api/v1/session", &json!({ "key": "ck_guess" })).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (401, Some("KEY_REFUSED")));
    }
    let answer = stranger.post("/api/v1/session", &json!({ "key": key })).await.is(429);
    assert_eq!(answer.json()["code"], "TOO_MANY");
    for file in std::fs::read_dir(stack.state().join("api")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(!text.contains(&key) && !text.contains("ck_"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_frame_ends_the_connection_and_what_is_wrong_is_answered() {
    let stack = Stack::start().await;
    let admin = stack.admin().await;
    for bad in ["{".to_owned(), "x".repeat((1 << 20) + 1), json!({ "t": "hb", "now": 1, "head": 1 }).to_string()] {
        let mut socket = admin.socket().await;
        let long = bad.len();
        socket.shout(bad).await;
        let last = socket.until(|f| matches!(f["t"].as_str(), Some("bye" | "closed"))).await;
        assert!(last["t"] == "closed" || last["reason"] == "protocol", "{long} bytes: {last}");
    }
    let mut socket = admin.socket().await;
    socket.say(&json!({ "t": "sub", "id": 1, "topic": "cards" })).await;
    assert_eq!(socket.until(|f| f["id"] == 1).await["code"], "NOT_FOUND");
    socket.say(&json!({ "t": "sub", "id": 2, "topic": "health" })).await;
    socket.frame("snap", 2).await;
    socket.say(&json!({ "t": "sub", "id": 2, "topic": "audit" })).await;
    assert_eq!(socket.until(|f| f["t"] == "nack").await["code"], "SUB_IN_USE");
    for id in 10..100 {
        socket.say(&json!({ "t": "sub", "id": id, "topic": "dispatches" })).await;
    }
    assert_eq!(socket.until(|f| f["t"] == "nack").await["code"], "TOO_MANY_SUBS");
    // A cursor of a log that is not this one: said to be gone, and begun anew.
    let mut socket = admin.socket().await;
    socket.sub(1, "dispatches", Some(1 << 40)).await;
    let gone = socket.until(|f| f["id"] == 1).await;
    assert_eq!((gone["t"].as_str(), gone["reason"].as_str()), (Some("gone"), Some("retention")), "{gone}");
    socket.frame("snap", 1).await;
    socket.frame("caught", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_frames_come_over_server_sent_events() {
    let stack = Stack::start().await;
    let admin = stack.admin().await;
    let dispatch = start(&admin, "u_tester", "hello").await;
    stack.ended(&dispatch).await;
    let first = sse(&admin, &format!("output/{dispatch}"), None).await;
    assert_eq!(first[0].1["t"], "hello");
    let snap = first.iter().find(|(_, f)| f["t"] == "snap").unwrap();
    assert_eq!(snap.0, snap.1["seq"].as_u64(), "the event's id is the cursor");
    let (at, _) = first.iter().find(|(_, f)| f["t"] == "caught").unwrap();
    let again = sse(&admin, "dispatches", Some(at.unwrap())).await;
    assert!(again.iter().any(|(_, f)| f["t"] == "caught"), "{again:?}");
    let refused = admin.send("GET", "/api/v1/events?topic=audit", &[("last-event-id", "x")], String::new()).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (400, Some("INVALID")));
}

/// Frames of an event stream until it has caught up, each with its id.
async fn sse(browser: &Browser, topic: &str, last: Option<u64>) -> Vec<(Option<u64>, Value)> {
    use futures::StreamExt;
    let url = format!("{}/api/v1/events?topic={topic}", browser.base);
    let mut request = reqwest::Client::new().get(url).header("cookie", browser.cookie.as_ref().unwrap());
    if let Some(last) = last {
        request = request.header("last-event-id", last.to_string());
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let (mut bytes, mut text, mut frames) = (response.bytes_stream(), String::new(), Vec::new());
    while !frames.iter().any(|(_, f): &(Option<u64>, Value)| f["t"] == "caught") {
        let more = tokio::time::timeout(PATIENCE, bytes.next()).await.unwrap().unwrap().unwrap();
        text.push_str(std::str::from_utf8(&more).unwrap());
        while let Some((event, rest)) = text.split_once("\n\n") {
            let id = event.lines().find_map(|l| l.strip_prefix("id: ")).map(|id| id.parse().unwrap());
            let data = event.lines().find_map(|l| l.strip_prefix("data: ")).unwrap();
            frames.push((id, serde_json::from_str(data).unwrap()));
            text = rest.to_owned();
        }
    }
    frames
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_over_rest_is_decided_once_and_a_refusal_names_its_rule() {
    let stack = Stack::start().await;
    let admin = stack.admin().await;
    let body = json!({ "id": fresh(), "unit": unit("u_tester", "hello", None) });
    let first = admin.post("/api/v1/dispatches", &body).await.is(201).json();
    assert_eq!(first["outcome"], "admitted");
    let again = admin.post("/api/v1/dispatches", &body).await.is(201).json();
    assert_eq!(again["dispatch"], first["dispatch"]);
    let dispatch = first["dispatch"].as_str().unwrap();
    stack.ended(dispatch).await;
    let retried = json!({ "id": fresh() });
    let retried = admin.post(&format!("/api/v1/dispatches/{dispatch}/retry"), &retried).await.is(201).json();
    assert_ne!(retried["dispatch"], first["dispatch"]);
    stack.ended(retried["dispatch"].as_str().unwrap()).await;
    let late = admin.post(&format!("/api/v1/dispatches/{dispatch}/stop"), &json!({})).await.is(409).json();
    assert_eq!(late["code"], "ALREADY_ENDED");
    stack.ok(&["launcher", "disable", "web-chat", "--why", "a test"]).await;
    let body = json!({ "id": fresh(), "unit": unit("u_tester", "refused", None) });
    let refused = admin.post("/api/v1/dispatches", &body).await;
    assert!(matches!(refused.status, 403 | 503), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_asked_for_and_its_receipt_arrives() {
    let release = Arc::new(Notify::new());
    let turn = Turn::HeldMidway { text: "never ending".into(), release: release.clone() };
    let stack = Stack::with(Options { script: vec![turn], ..Options::default() }).await;
    let jane = stack.user("u_jane").await;
    let dispatch = start(&jane, "u_jane", "go on for ever").await;
    stack.running(&dispatch).await;
    let mut socket = jane.socket().await;
    socket.sub(1, &format!("dispatch/{dispatch}"), None).await;
    socket.frame("caught", 1).await;
    let id = fresh();
    let args = json!({ "dispatch": dispatch, "grace_ms": 500 });
    socket.say(&json!({ "t": "cmd", "id": id, "name": "dispatch.stop", "args": args })).await;
    let (mut acked, mut events) = (false, Vec::new());
    while !acked || !events.iter().any(|e: &Value| e["type"] == EXIT) {
        let frame = socket.until(|f| f["t"] == "ack" || f["t"] == "nack" || f["t"] == "ev").await;
        assert_ne!(frame["t"], "nack", "{frame}");
        acked |= frame["t"] == "ack" && frame["id"] == id.as_str();
        events.extend(frame["events"].as_array().cloned().unwrap_or_default());
    }
    let asked = events.iter().find(|e| e["type"] == "custody.dispatch.stop_requested.v1").unwrap();
    assert_eq!(asked["data"]["by"], "u_jane", "{asked}");
    let ended = events.iter().find(|e| e["type"] == EXIT).unwrap();
    assert_eq!(ended["data"]["reason"], "stopped", "{ended}");
    release.notify_one();
    stack.no_container_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_come_and_hold_the_head() {
    let stack = Stack::start().await;
    let admin = stack.admin().await;
    let mut socket = admin.socket().await;
    let began = Instant::now();
    let hb = socket.until(|f| f["t"] == "hb").await;
    assert!(hb["head"].as_u64().unwrap() > 0 && began.elapsed() < Duration::from_secs(30));
}
