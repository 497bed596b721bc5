//! Texts that two parsers read as two different things, at every door of the real binary that reads JSON: launches, the web's
//! API, its websocket, commands. The same tricks at each, and the honest text after them. The tool door and the wall before
//! servers have their own tables (`engine::what_is_not_the_protocol_is_refused`, `envoy.rs`).

use crate::browser::{Browser, unit as web_unit};
use crate::launcher::unit;
use crate::ledger::count;
use crate::stack::{Stack, fresh};
use custody_contracts::messages::ReplyOutcome;
use serde_json::{Value, json};

/// `{}`, packed.
const PACKED: [u8; 22] = [31, 139, 8, 0, 0, 0, 0, 0, 0, 3, 171, 174, 5, 0, 67, 191, 166, 163, 2, 0, 0, 0];

/// Every trick on an honest object with a member `id` and, below it, an object `identity`.
fn tricks(honest: &str) -> Vec<(&'static str, Vec<u8>)> {
    assert!(honest.starts_with('{') && honest.contains("\"identity\":{"), "{honest}");
    let first = |member: &str| [member.as_bytes(), &honest.as_bytes()[1..]].concat();
    let below = |member: &str| honest.replacen("\"identity\":{", &["\"identity\":{", member].concat(), 1).into_bytes();
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    vec![
        ("a member twice", first("{\"id\":\"m-other\",")),
        ("twice by an escape", first("{\"\\u0069d\":\"m-other\",")),
        ("twice below", below("\"subject\":\"u_omar\",")),
        ("twice below by an escape", below("\"s\\u0075bject\":\"u_omar\",")),
        ("a batch", format!("[{honest}]").into_bytes()),
        ("a second document", honest.repeat(2).into_bytes()),
        ("a mark before it", format!("\u{feff}{honest}").into_bytes()),
        ("UTF-16", wide(honest)),
        ("UTF-16 with its mark", wide(&format!("\u{feff}{honest}"))),
        ("packed", PACKED.to_vec()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn t26_a_launch_with_two_readings_is_refused_and_recorded() {
    let stack = Stack::start().await;
    let web = stack.launcher("web").await;
    let names: Vec<&str> = tricks(r#"{"identity":{"a":1}}"#).into_iter().map(|(name, _)| name).collect();
    for (at, name) in names.iter().enumerate() {
        let honest = String::from_utf8(web.signed(web.event(&fresh(), &unit("web", "hello")))).unwrap();
        let bytes = tricks(&honest).swap_remove(at).1;
        let reply = web.asked(bytes).await;
        let wanted = if *name == "a batch" { "NOT_CLOUDEVENT" } else { "NOT_JSON" };
        let told = (reply.outcome, reply.reason.as_deref());
        assert_eq!(told, (ReplyOutcome::Refused, Some(wanted)), "{name}: {reply:?}");
    }
    // 70 KB are more than the stream takes: nobody reads them.
    let honest = String::from_utf8(web.signed(web.event(&fresh(), &unit("web", "hello")))).unwrap();
    let large = [honest.as_bytes(), &vec![b' '; 70_000 - honest.len()]].concat();
    let answer = web.connection.client().request("launch.web.dispatch", large.into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answer["error"]["err_code"], 10054, "{answer}");

    let ledger = stack.ledger().await;
    let counted = ["dispatch.refused", "dispatch.admitted"].map(|kind| count(&ledger, kind));
    assert_eq!(counted, [names.len(), 0]);
    let reply = web.asked(honest.into_bytes()).await;
    assert_eq!(reply.outcome, ReplyOutcome::Admitted, "{reply:?}");
    stack.ended(&reply.dispatch).await;
    stack.nothing_is_wrong().await;
}

async fn posted(jane: &Browser, body: Vec<u8>, packed: bool) -> (u16, String) {
    let mut request = jane.client.post([&jane.base, "/api/v1/dispatches"].concat()).body(body);
    request = request.header("origin", &jane.base).header("content-type", "application/json");
    request = request.header("cookie", jane.cookie.as_deref().unwrap());
    if packed {
        request = request.header("content-encoding", "gzip");
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn t26_the_webs_doors_read_one_text_in_one_way() {
    let stack = Stack::start().await;
    let jane = stack.user("u_jane").await.agreed().await;
    let body = |id: &str| json!({ "id": id, "unit": web_unit("u_jane", "hello", None) }).to_string();
    for (name, bytes) in tricks(&body(&fresh())) {
        let (status, text) = posted(&jane, bytes, name == "packed").await;
        assert_eq!(status, 400, "{name}: {text}");
    }
    let honest = body(&fresh());
    // Larger than a body may be: 256 KiB.
    let large = [honest.as_bytes(), &vec![b' '; 300_000]].concat();
    assert_eq!(posted(&jane, large, false).await.0, 413);

    // A frame that is none ends the connection, and starts nothing.
    let frame = |id: &str| {
        let args = web_unit("u_jane", "hello", None);
        json!({ "t": "cmd", "id": id, "name": "dispatch.start", "args": args }).to_string()
    };
    for (name, bytes) in tricks(&frame(&fresh())) {
        // What is no text is no frame of a text socket: the client could not send it as one.
        let Ok(text) = String::from_utf8(bytes) else { continue };
        let mut socket = jane.socket().await;
        socket.shout(text).await;
        let ended = socket.until(|f| matches!(f["t"].as_str(), Some("bye" | "closed" | "ack" | "nack"))).await;
        assert!(ended["t"] == "bye" || ended["t"] == "closed", "{name}: {ended}");
        socket.close().await;
    }
    let mut socket = jane.socket().await;
    let wide = custody_contracts::ws::FRAME_BYTES_MAX + 1;
    socket.shout(format!("{}{}", frame(&fresh()), " ".repeat(wide))).await;
    let ended = socket.until(|f| matches!(f["t"].as_str(), Some("bye" | "closed" | "ack" | "nack"))).await;
    assert!(ended["t"] == "bye" || ended["t"] == "closed", "{ended}");
    socket.close().await;
    assert_eq!(count(&stack.ledger().await, "dispatch.admitted"), 0);

    // And the honest ones.
    let (status, text) = posted(&jane, honest.into_bytes(), false).await;
    assert_eq!(status, 201, "{text}");
    let launched: Value = serde_json::from_str(&text).unwrap();
    stack.ended(launched["dispatch"].as_str().unwrap()).await;
    let mut socket = jane.socket().await;
    socket.shout(frame(&fresh())).await;
    let ack = socket.until(|f| matches!(f["t"].as_str(), Some("ack" | "nack"))).await;
    assert_eq!(ack["t"], "ack", "{ack}");
    stack.ended(ack["dispatch"].as_str().unwrap()).await;
    socket.close().await;
    stack.nothing_is_wrong().await;
}
