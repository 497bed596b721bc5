//! A box that calls its tools as often as it can, at the real gateway: what it gets is bounded, the ledger says so in few
//! words, and the box beside it does not feel it.

use crate::crash_tool::{SEND, accept, letters};
use crate::grants::{misbehave, post, socket};
use crate::stack::{LOOK, Options, Stack};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

/// How many callers call without a pause, and how often each.
const CALLERS: usize = 200;
const CALLS: usize = 50;
/// What a dispatch may call at once, and in a second. Source: `custody_engine::mcp::rate`.
const BURST: f64 = 100.0;
const PER_SECOND: f64 = 50.0;
/// Between two events for refusals of one kind.
const EVENT_EVERY_S: u64 = 5;
/// How long one call of the box beside it may take.
const BESIDE_MAX: Duration = Duration::from_secs(20);
/// How long a call and the last event may take.
const LONG: Duration = Duration::from_secs(120);

fn letter(to: &str) -> Value {
    let params = json!({ "name": SEND, "arguments": { "to": to } });
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params })
}

/// What became of one call: the rule that refused it, `made`, or that the door was too full to be opened.
async fn called(socket: &Path, to: &str) -> std::io::Result<String> {
    let body = letter(to).to_string();
    let mut stream = UnixStream::connect(socket).await?;
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: box\r\ncontent-type: application/json\r\naccept: application/json\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all([head, body].concat().as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let limited = answer.contains("RATE_LIMITED");
    Ok(if limited {
        "RATE_LIMITED"
    } else if answer.contains("\"sent\"") {
        "made"
    } else {
        "other"
    }
    .to_owned())
}

/// T41: ten thousand calls from 200 callers that never pause.
#[tokio::test(flavor = "multi_thread")]
async fn t41_ten_thousand_calls_get_what_the_rate_gives_and_the_box_beside_does_not_feel_it() {
    let server = letters().await;
    let config = format!("[runtime]\nrunning_max = 2\n[tools.servers.post]\nurl = {:?}\n", server.url);
    let mut stack = Stack::prepared(Options { config: Some(config), ..Options::default() });
    stack.up(&[]).await;
    accept(&stack).await;
    let mut boxes = Vec::new();
    for _ in 0..2 {
        let dispatch = stack.launch(&misbehave("silent", &["--tool", SEND])).await;
        stack.running(&dispatch).await;
        let socket = socket(&stack, &dispatch);
        boxes.push((dispatch, socket));
    }
    let [(flooding, door), (beside, other)]: [(String, PathBuf); 2] = boxes.try_into().unwrap();

    let begun = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        let door = door.clone();
        callers.spawn(async move {
            let (mut made, mut limited, mut shut, mut others) = (0_u64, 0_u64, 0_u64, Vec::new());
            for n in 0..CALLS {
                let came = timeout(LONG, called(&door, &format!("{caller}-{n}@acme.test"))).await;
                match came.expect("a call is never answered").as_deref() {
                    Ok("made") => made += 1,
                    Ok("RATE_LIMITED") => limited += 1,
                    Ok(other) => others.push(other.to_owned()),
                    // The kernel's queue of the socket is full: nobody has looked at the call.
                    Err(_) => shut += 1,
                }
            }
            (made, limited, shut, others)
        });
    }
    // The honest calls beside it, all the while.
    let mut beside_n = 0_u64;
    let (mut made, mut limited, mut shut, mut others) = (0, 0, 0, Vec::new());
    while !callers.is_empty() {
        let answer = timeout(BESIDE_MAX, post(&other, "/mcp", &letter(&format!("beside-{beside_n}@acme.test")))).await;
        let answer = answer.expect("the box beside waits for the flood");
        assert_eq!(answer["result"]["content"][0]["text"], "sent", "{answer}");
        beside_n += 1;
        while let Some(one) = callers.try_join_next() {
            let (m, l, s, o) = one.unwrap();
            (made, limited, shut) = (made + m, limited + l, shut + s);
            others.extend(o);
        }
        tokio::time::sleep(LOOK * 4).await;
    }
    let took = begun.elapsed();
    println!("{made} made, {limited} limited, {shut} shut out in {took:?}; {beside_n} calls beside");
    assert_eq!(others, Vec::<String>::new());
    assert_eq!(made + limited + shut, (CALLERS * CALLS) as u64);
    let most = BURST + PER_SECOND * (took.as_secs_f64() + 1.0);
    assert!(limited > 0 && made > 0 && made as f64 <= most, "{made} of at most {most}");
    assert_eq!(server.calls() as u64, made + beside_n, "the server of the tool saw another number");

    // One event for many refusals, and none is lost.
    let until = Instant::now() + LONG;
    let told = loop {
        let events = stack.events_of(&flooding).await;
        let of_rate = events.iter().filter(|e| e.kind == "effect.tool_refused" && e.data["reason"] == "RATE_LIMITED");
        let told: Vec<u64> = of_rate.map(|e| e.data["count"].as_u64().unwrap_or(1)).collect();
        if told.iter().sum::<u64>() == limited {
            break told;
        }
        assert!(Instant::now() < until, "{told:?} are not {limited}");
        tokio::time::sleep(LOOK * 8).await;
    };
    assert!(told.len() as u64 <= took.as_secs() / EVENT_EVERY_S + 3, "{told:?} in {took:?}");
    // The same box goes on, within its rate.
    let answer = post(&door, "/mcp", &letter("after@acme.test")).await;
    assert_eq!(answer["result"]["content"][0]["text"], "sent", "{answer}");
    for dispatch in [&flooding, &beside] {
        stack.ok(&["dispatch", "kill", dispatch]).await;
        stack.ended(dispatch).await;
    }
    stack.no_container_left().await;
    stack.nothing_is_wrong().await;
}
