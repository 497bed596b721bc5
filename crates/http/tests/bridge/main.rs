//! The connection loop over fakes and a clock that is stopped: what a slow reader costs, and when it is cut.

#![cfg(test)]

mod sign_in;
mod stage;
mod start;
mod tokens;
mod workspaces;

use custody_contracts::events::Kind;
use custody_http::bridge::connection::serve;
use custody_http::bridge::hub::LEDGER_ITEMS_MAX;
use custody_http::bridge::items::{LedgerItem, LedgerMessage};
use custody_http::bridge::topic::Topic;
use custody_http::bridge::{CONNECTIONS_EACH_MAX, SUBS_MAX};
use serde_json::{Value, json};
use stage::{Stage, Wired};
use std::time::Duration;

fn message(seq: u64) -> LedgerMessage {
    let event = json!({ "seq": seq, "type": "custody.run.started.v1", "time": "2026-06-24T10:42:01.118Z", "data": {} });
    let item = LedgerItem {
        erases: false,
        kind: Kind::Run,
        dispatch: Some("d-1".into()),
        subject: Some("u_jane".into()),
        session: None,
        event: event.to_string(),
        row: event.to_string(),
    };
    LedgerMessage { seq, items: vec![item] }
}

fn last(frames: &[Value]) -> &Value {
    frames.last().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_is_cut_and_holds_nothing_up() {
    let stage = Stage::new();
    stage.hub.hear(message(1));
    let mut wire = Wired::new();
    wire.stuck_after(1);
    let began = tokio::time::Instant::now();
    let place = stage.api.place("u_jane").unwrap();
    let follow = Some((Topic::Dispatches, Some(0)));
    tokio::time::timeout(Duration::from_secs(60), serve(stage.api.clone(), stage.jane(), place, &mut wire, follow))
        .await
        .expect("the connection was not cut");
    assert!(began.elapsed() >= Duration::from_secs(10));
    assert_eq!(stage.api.connections(), 0, "its place is given back");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_the_log_has_left_behind_is_told_and_sent_away_with_its_cursor() {
    let stage = Stage::new();
    stage.hub.hear(message(1));
    let mut wire = Wired::new();
    let gate = wire.held_at("ev");
    let frames = wire.frames.clone();
    let place = stage.api.place("u_jane").unwrap();
    let (api, jane) = (stage.api.clone(), stage.jane());
    let serving = tokio::spawn(async move {
        serve(api, jane, place, &mut wire, Some((Topic::Dispatches, Some(0)))).await;
    });
    gate.reached().await;
    for seq in 2..=(LEDGER_ITEMS_MAX as u64 + 10) {
        stage.hub.hear(message(seq));
    }
    gate.open();
    tokio::time::timeout(Duration::from_secs(60), serving).await.unwrap().unwrap();
    let frames = frames.lock().unwrap().clone();
    let kinds: Vec<&str> = frames.iter().map(|f| f["t"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["hello", "ev", "lag", "bye"], "{kinds:?}");
    assert_eq!((last(&frames)["reason"].as_str(), frames[1]["seq"].as_u64()), (Some("slow"), Some(1)));
}

#[tokio::test(start_paused = true)]
async fn an_end_of_the_role_and_an_end_of_the_session_are_told() {
    for (end, reason) in [("cancel", "shutdown"), ("expire", "expired"), ("sign out", "signed_out")] {
        let stage = Stage::new();
        let mut wire = Wired::new();
        let frames = wire.frames.clone();
        let place = stage.api.place("u_jane").unwrap();
        let (api, jane) = (stage.api.clone(), stage.jane());
        let session = jane.session.clone();
        let serving = tokio::spawn(async move { serve(api, jane, place, &mut wire, None).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        match end {
            "cancel" => stage.api.cancel.cancel(),
            "expire" => stage.clock.advance(60_000),
            _ => stage.api.auth.sign_out(&session).unwrap(),
        }
        tokio::time::timeout(Duration::from_secs(120), serving).await.unwrap().unwrap();
        let frames = frames.lock().unwrap().clone();
        assert_eq!(
            (last(&frames)["t"].as_str(), last(&frames)["reason"].as_str()),
            (Some("bye"), Some(reason)),
            "{end}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn heartbeats_come_as_often_as_hello_says() {
    let stage = Stage::new();
    let mut wire = Wired::new();
    let frames = wire.frames.clone();
    let place = stage.api.place("u_jane").unwrap();
    let (api, jane) = (stage.api.clone(), stage.jane());
    let serving = tokio::spawn(async move { serve(api, jane, place, &mut wire, None).await });
    tokio::time::sleep(Duration::from_secs(35)).await;
    stage.api.cancel.cancel();
    serving.await.unwrap();
    let frames = frames.lock().unwrap().clone();
    assert_eq!(frames[0]["hb_ms"], 10_000);
    assert_eq!(frames.iter().filter(|f| f["t"] == "hb").count(), 3, "{frames:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_read_by_pages_and_what_is_heard_join_without_a_gap() {
    let stage = Stage::new();
    for seq in 1..=300 {
        stage.output.put("d-1", seq * 2, "x");
        stage.output.put("d-2", seq * 2 + 1, "y");
    }
    stage.own("d-1", "u_jane");
    let mut wire = Wired::new();
    let frames = wire.frames.clone();
    let place = stage.api.place("u_jane").unwrap();
    let (api, jane) = (stage.api.clone(), stage.jane());
    let topic = Topic::parse("output/d-1").unwrap();
    let serving = tokio::spawn(async move { serve(api, jane, place, &mut wire, Some((topic, Some(40)))).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.hear_output("d-1", 1_000);
    stage.hear_output("d-1", 1_004);
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.api.cancel.cancel();
    serving.await.unwrap();
    let frames = frames.lock().unwrap().clone();
    let (mut cursor, mut seqs) = (40, Vec::new());
    for frame in frames.iter().filter(|f| matches!(f["t"].as_str(), Some("ev" | "caught"))) {
        if frame["t"] == "ev" {
            assert_eq!(frame["prev"], cursor);
        }
        cursor = frame["seq"].as_u64().unwrap();
        seqs.extend(frame["events"].as_array().into_iter().flatten().map(|e| e["seq"].as_u64().unwrap()));
    }
    let wanted: Vec<u64> = (21..=300).map(|n| n * 2).chain([1_000, 1_004]).collect();
    assert_eq!(seqs, wanted);
}

#[tokio::test(start_paused = true)]
async fn places_and_subscriptions_have_a_maximum() {
    let stage = Stage::new();
    let places: Vec<_> = (0..CONNECTIONS_EACH_MAX).map(|_| stage.api.place("u_jane").unwrap()).collect();
    assert_eq!(stage.api.place("u_jane").unwrap_err().code, "TOO_MANY_STREAMS");
    assert!(stage.api.place("u_omar").is_ok());
    drop(places);
    let mut wire = Wired::new();
    for id in 1..=(SUBS_MAX + 5) {
        wire.says(&json!({ "t": "sub", "id": id, "topic": "health" }));
    }
    let frames = wire.frames.clone();
    let place = stage.api.place("u_jane").unwrap();
    let (api, jane) = (stage.api.clone(), stage.jane());
    let serving = tokio::spawn(async move { serve(api, jane, place, &mut wire, None).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.api.cancel.cancel();
    serving.await.unwrap();
    let frames = frames.lock().unwrap().clone();
    assert!(frames.iter().any(|f| f["code"] == "TOO_MANY_SUBS"), "{frames:?}");
}
