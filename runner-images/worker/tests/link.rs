//! The real worker and a gateway that goes away, comes back, is slow, or is another dispatch's.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

mod common;

use common::{Box, PATIENCE, bodies, fifo, gone, release, text};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

const RESULT: &str = r#"echo '{"type":"result","text":"end"}'"#;

#[test]
fn a_gateway_that_restarts_in_mid_stream_loses_and_doubles_nothing() {
    let mut sandbox = Box::new();
    let pipe = sandbox.path("pipe");
    fifo(&pipe);
    let script = format!(
        r#"for i in 1 2 3 4 5 6 7 8; do echo "{{\"type\":\"session\",\"id\":\"$i\"}}"; done
        read x < {}
        for i in 9 10 11 12; do echo "{{\"type\":\"session\",\"id\":\"$i\"}}"; done; {RESULT}"#,
        pipe.display()
    );
    let job = sandbox.job(&script);
    let worker = sandbox.worker(&[]);
    let mut connection = sandbox.accept();
    connection.send(&json!({"type": "job", "job": job}));
    // Frame 1 is `started`. Six are read, four made durable; then the gateway dies in the middle of a line.
    let mut durable = BTreeMap::new();
    for seq in 1..=6 {
        let frame = connection.frame();
        assert_eq!(frame["seq"], seq);
        if seq <= 4 {
            durable.insert(seq, frame);
        }
    }
    connection.ack(3);
    connection.write(br#"{"type":"ack","se"#);
    drop(connection);
    sandbox.rebind();
    release(&pipe);

    let mut connection = sandbox.accept();
    assert_eq!(connection.hello["dispatch"], "d-1");
    assert!(connection.hello["last_seq"].as_u64().unwrap() >= 6);
    assert_eq!(
        connection.frame_within(Duration::from_millis(200)),
        None,
        "nothing before the gateway says what it has"
    );
    connection.ack(4);
    connection.send(&json!({"type": "job", "job": job}));
    let rest = connection.frames_to_exit();
    for frame in rest {
        let seq = frame["seq"].as_u64().unwrap();
        assert!(durable.insert(seq, frame).is_none(), "frame {seq} came twice");
    }
    assert_eq!(worker.code(), 0);
    let frames: Vec<_> = durable.into_values().collect();
    let ids: Vec<_> = frames.iter().filter_map(|frame| frame["agent_session"].as_str()).collect();
    assert_eq!(ids, (1..=12).map(|id| id.to_string()).collect::<Vec<_>>());
    assert_eq!(frames.last().unwrap()["reason"], "completed");
    assert_eq!(frames.last().unwrap()["seq"], frames.len());
}

#[test]
fn a_gateway_that_restarts_at_the_very_end_still_learns_the_exit() {
    let mut sandbox = Box::new();
    let job = sandbox.job(RESULT);
    let worker = sandbox.worker(&[]);
    let mut connection = sandbox.accept();
    connection.send(&json!({"type": "job", "job": job}));
    let exit = loop {
        let frame = connection.frame();
        if frame["kind"] == "exit" {
            break frame;
        }
    };
    drop(connection);
    sandbox.rebind();
    let mut connection = sandbox.accept();
    assert_eq!(connection.hello["last_seq"], exit["seq"]);
    connection.ack(exit["seq"].as_u64().unwrap() - 1);
    connection.send(&json!({"type": "job", "job": job}));
    assert_eq!(connection.frames_to_exit(), [exit]);
    assert_eq!(worker.code(), 0);
}

#[test]
fn a_gateway_that_stays_away_ends_the_agent() {
    let sandbox = Box::new();
    let worker = sandbox.worker(&[("CUSTODY_GW_LOST_MS", "300")]);
    let mut connection = sandbox.accept();
    connection.send(&json!({"type": "job", "job": sandbox.job("trap '' TERM; while :; do sleep 1; done")}));
    let pid = u32::try_from(connection.frames_to("started")[0]["pid"].as_u64().unwrap()).unwrap();
    drop(connection);
    std::fs::remove_file(sandbox.path("gw/gw.sock")).unwrap();
    assert_eq!(worker.code(), 112);
    assert!(gone(pid));
}

#[test]
fn a_gateway_that_was_never_there_ends_a_blank_worker() {
    let sandbox = Box::new();
    std::fs::remove_file(sandbox.path("gw/gw.sock")).unwrap();
    assert_eq!(sandbox.worker(&[("CUSTODY_JOB_WAIT_MS", "200")]).code(), 112);
}

#[test]
fn a_connection_without_a_word_is_not_a_gateway() {
    let sandbox = Box::new();
    let worker = sandbox.worker(&[("CUSTODY_JOB_WAIT_MS", "1500")]);
    // Accepted, upgraded, and dropped at once: were each of these a sign of life, the worker would wait for ever.
    for _ in 0..3 {
        drop(sandbox.accept());
    }
    std::fs::remove_file(sandbox.path("gw/gw.sock")).unwrap();
    assert_eq!(worker.code(), 112);
}

#[test]
fn term_ends_a_blank_worker() {
    let sandbox = Box::new();
    let worker = sandbox.worker(&[]);
    let _connection = sandbox.accept();
    worker.terminate();
    assert_eq!(worker.code(), 113);
}

#[test]
fn a_job_of_another_dispatch_silences_the_worker() {
    let mut sandbox = Box::new();
    let mut job = sandbox.job("sleep 300");
    let worker = sandbox.worker(&[]);
    let mut connection = sandbox.accept();
    connection.send(&json!({"type": "job", "job": job}));
    let pid = u32::try_from(connection.frames_to("started")[0]["pid"].as_u64().unwrap()).unwrap();
    drop(connection);
    sandbox.rebind();
    let mut connection = sandbox.accept();
    job["attempt"] = json!(2);
    connection.send(&json!({"type": "job", "job": job}));
    assert_eq!(worker.code(), 112);
    assert!(gone(pid));
}

#[test]
fn the_same_job_again_changes_nothing() {
    let sandbox = Box::new();
    let pipe = sandbox.path("pipe");
    fifo(&pipe);
    let job = sandbox.job(&format!("read x < {}; {RESULT}", pipe.display()));
    let worker = sandbox.worker(&[]);
    let mut connection = sandbox.accept();
    connection.send(&json!({"type": "job", "job": job}));
    connection.send(&json!({"type": "job", "job": job}));
    connection.frames_to("started");
    release(&pipe);
    let frames = connection.frames_to_exit();
    assert_eq!(
        bodies(&frames),
        [
            json!({"kind": "result", "text": "end"}),
            json!({"kind": "turn", "turn": 1, "reason": "completed", "code": 0}),
            json!({"kind": "exit", "reason": "completed", "code": 0})
        ]
    );
    assert_eq!(worker.code(), 0);
}

#[test]
fn a_gateway_that_acknowledges_nothing_stops_the_agent_from_writing() {
    const TOTAL: usize = 12 * 1024 * 1024;
    let sandbox = Box::new();
    let mut job = sandbox.job(&format!("head -c {TOTAL} /dev/zero | tr '\\0' z"));
    job["runner"]["stream"] = json!({"format": "text"});
    // Shorter than the standstill below: waiting for the gateway is not the agent's silence.
    job["limits"]["idle_ms"] = json!(400);
    let worker = sandbox.worker(&[]);
    let mut connection = sandbox.accept();
    connection.send(&json!({"type": "job", "job": job}));
    let mut frames: Vec<Value> = Vec::new();
    while let Some(frame) = connection.frame_within(Duration::from_millis(1_000)) {
        frames.push(frame);
    }
    let unacknowledged = text(&frames).len();
    assert!(unacknowledged <= 4 * 1024 * 1024, "{unacknowledged}");
    assert!(unacknowledged >= 3 * 1024 * 1024, "{unacknowledged}");
    connection.ack(frames.last().unwrap()["seq"].as_u64().unwrap());
    frames.extend(connection.frames_to_exit());
    assert_eq!(text(&frames).len(), TOTAL);
    assert_eq!(frames.last().unwrap()["reason"], "completed");
    assert_eq!(worker.code(), 0);
}

#[test]
fn an_exit_that_nobody_acknowledges_is_not_waited_for_for_ever() {
    let sandbox = Box::new();
    let worker = sandbox.worker(&[]);
    let mut connection = sandbox.accept();
    connection.send(&json!({"type": "job", "job": sandbox.job(RESULT)}));
    let begun = std::time::Instant::now();
    assert_eq!(worker.code(), 0);
    assert!(begun.elapsed() >= Duration::from_secs(4) && begun.elapsed() < PATIENCE);
}
