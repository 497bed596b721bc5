//! A feed over a hub in memory: what is sent, what is not, and that each `prev` is the cursor before it.

use super::*;
use crate::auth::Provider;
use crate::bridge::items::LedgerMessage;
use custody_contracts::ids::{DispatchId, SessionId};
use rstest::rstest;
use serde_json::Value;

fn person(subject: &str, admin: bool) -> Person {
    Person {
        subject: subject.into(),
        name: subject.into(),
        admin,
        session: "s".into(),
        provider: Provider::AccessKey,
        expires_at: u64::MAX,
    }
}

fn item(kind: Kind, dispatch: &str, subject: &str, session: Option<&str>, event: String) -> LedgerItem {
    let row = format!("{{\"row\":{event}}}");
    let (dispatch, subject) = (Some(dispatch.to_owned()), (!subject.is_empty()).then(|| subject.to_owned()));
    LedgerItem { kind, dispatch, subject, session: session.map(str::to_owned), event, row, erases: false }
}

fn hub() -> Hub {
    let hub = Hub::new(0, 0);
    let mut seq = 0;
    let mut hear = |kind, dispatch: &str, subject: &str, session: Option<&str>| {
        seq += 1;
        hub.hear(LedgerMessage { seq, items: vec![item(kind, dispatch, subject, session, seq.to_string())] });
    };
    hear(Kind::Dispatch, "d-1", "u_jane", Some("s-1"));
    hear(Kind::Dispatch, "d-2", "u_omar", Some("s-2"));
    hear(Kind::Run, "d-1", "u_jane", None);
    hear(Kind::Effect, "d-1", "u_jane", None);
    hear(Kind::Checkpoint, "", "", None);
    hear(Kind::Run, "d-2", "u_omar", None);
    hear(Kind::Dispatch, "d-3", "u_jane", Some("s-1"));
    hub
}

/// Every frame until nothing comes, as (type, seq, prev, events).
fn drain(feed: &mut Feed, hub: &Hub, person: &Person) -> Vec<Value> {
    let mut out = Vec::new();
    loop {
        match feed.next(hub, person) {
            Next::Frame(frame) => out.push(serde_json::from_str(&frame.text).unwrap()),
            Next::Nothing => return out,
            Next::Gone => panic!("gone"),
        }
    }
}

fn events(frames: &[Value]) -> Vec<u64> {
    let all = frames.iter().filter_map(|f| f["events"].as_array()).flatten();
    all.map(|e| e.as_u64().or_else(|| e["row"].as_u64()).unwrap()).collect()
}

fn dispatch(id: &str) -> Topic {
    Topic::Dispatch(DispatchId::parse(id).unwrap())
}

#[rstest]
#[case::own_list(Topic::Dispatches, "u_jane", false, &[1, 3, 7])]
#[case::all_for_an_administrator(Topic::Dispatches, "u_root", true, &[1, 2, 3, 6, 7])]
#[case::strangers_list(Topic::Dispatches, "u_eve", false, &[])]
#[case::one(dispatch("d-1"), "u_jane", false, &[1, 3, 4])]
#[case::session(Topic::Session(SessionId::parse("s-1").unwrap()), "u_jane", false, &[1, 3, 4, 7])]
#[case::own_audit(Topic::Audit, "u_omar", false, &[2, 6])]
#[case::whole_audit(Topic::Audit, "u_root", true, &[1, 2, 3, 4, 5, 6, 7])]
fn a_topic_lets_its_own_through(#[case] topic: Topic, #[case] who: &str, #[case] admin: bool, #[case] wanted: &[u64]) {
    let (hub, person) = (hub(), person(who, admin));
    let mut feed = Feed::new(1, topic, None, 0);
    assert_eq!(events(&drain(&mut feed, &hub, &person)), wanted);
}

#[test]
fn each_prev_is_the_cursor_that_the_frame_before_it_left() {
    let (hub, jane) = (hub(), person("u_jane", false));
    let mut feed = Feed::new(1, Topic::Dispatches, None, 0);
    let mut cursor = 0;
    let mut follow = |feed: &mut Feed| {
        for frame in drain(feed, &hub, &jane) {
            if frame["t"] == "ev" {
                assert_eq!(frame["prev"], cursor, "{frame}");
            }
            cursor = frame["seq"].as_u64().unwrap();
        }
        assert_eq!(feed.cursor(), cursor);
    };
    follow(&mut feed);
    for seq in 8..20 {
        let who = if seq % 3 == 0 { "u_jane" } else { "u_omar" };
        hub.hear(LedgerMessage { seq, items: vec![item(Kind::Run, "d-9", who, None, seq.to_string())] });
        follow(&mut feed);
    }
    assert_eq!(cursor, 18);
}

#[test]
fn caught_comes_once_and_holds_how_far_was_looked() {
    let (hub, eve) = (hub(), person("u_eve", false));
    let mut feed = Feed::new(1, Topic::Dispatches, None, 0);
    let frames = drain(&mut feed, &hub, &eve);
    assert_eq!(frames.len(), 1);
    assert_eq!((frames[0]["t"].as_str(), frames[0]["seq"].as_u64()), (Some("caught"), Some(7)));
    assert!(drain(&mut feed, &hub, &eve).is_empty());
}

#[test]
fn a_frame_keeps_its_limits_and_a_decision_is_not_torn() {
    let hub = Hub::new(0, 0);
    for seq in 1..=(EVENTS_MAX as u64 / 2 + 1) {
        let one = || item(Kind::Run, "d-1", "u_jane", None, seq.to_string());
        hub.hear(LedgerMessage { seq, items: vec![one(), one(), one()] });
    }
    let frames = drain(&mut Feed::new(1, Topic::Dispatches, None, 0), &hub, &person("u_jane", false));
    for frame in &frames {
        let events = frame["events"].as_array().map_or(0, Vec::len);
        assert!(events <= EVENTS_MAX && events % 3 == 0, "{events}");
    }
    assert_eq!(events(&frames).len(), 3 * (EVENTS_MAX / 2 + 1));
}

#[test]
fn a_cursor_from_before_the_ring_is_gone() {
    let hub = Hub::new(10, 10);
    let jane = person("u_jane", false);
    assert_eq!(Feed::new(1, Topic::Dispatches, None, 9).next(&hub, &jane), Next::Gone);
    let topic = Topic::Output(DispatchId::parse("d-1").unwrap());
    assert_eq!(Feed::new(1, topic, None, 9).next(&hub, &jane), Next::Gone);
}

#[test]
fn output_comes_from_the_backlog_and_then_from_the_hub_each_chunk_once() {
    let hub = Hub::new(0, 5);
    let jane = person("u_jane", false);
    let chunk = |seq: u64| OutputItem { seq, event: seq.to_string(), last: false };
    hub.hear_output("d-1", chunk(6));
    hub.hear_output("d-2", chunk(7));
    hub.hear_output("d-1", chunk(8));
    let mut feed = Feed::new(1, Topic::Output(DispatchId::parse("d-1").unwrap()), Some("u_jane".into()), 0);
    assert_eq!(feed.next(&hub, &jane), Next::Gone);
    feed.put_backlog([2, 3, 6].map(|seq| Arc::new(chunk(seq))), 6);
    assert_eq!(events(&drain(&mut feed, &hub, &jane)), [2, 3, 6, 8]);
}

#[test]
fn a_dispatch_that_said_nothing_is_caught_up_with() {
    let (hub, jane) = (Hub::new(0, 5), person("u_jane", false));
    let mut feed = Feed::new(1, Topic::Output(DispatchId::parse("d-1").unwrap()), Some("u_jane".into()), 0);
    assert_eq!(feed.next(&hub, &jane), Next::Gone);
    feed.put_backlog([], 5);
    let frames = drain(&mut feed, &hub, &jane);
    assert_eq!((frames.len(), frames[0]["t"].as_str(), frames[0]["seq"].as_u64()), (1, Some("caught"), Some(5)));
}

#[test]
fn a_withdrawn_right_ends_a_feed_of_one_thing_and_filters_a_list() {
    let feed = Feed::new(1, dispatch("d-2"), Some("u_omar".into()), 0);
    assert!(feed.may(&person("u_root", true)) && feed.may(&person("u_omar", false)));
    assert!(!feed.may(&person("u_root", false)));
    let (hub, mut list) = (hub(), Feed::new(2, Topic::Dispatches, None, 0));
    assert_eq!(events(&drain(&mut list, &hub, &person("u_root", false))), [0u64; 0]);
}
