//! What the hub holds, what it lets go, and whose an event is.

use super::*;
use custody_contracts::events::Kind;

fn chunk(seq: u64, bytes: usize) -> OutputItem {
    OutputItem { seq, event: "x".repeat(bytes), last: false }
}

fn event(seq: u64, kind: Kind, dispatch: &str, subject: Option<&str>, session: Option<&str>) -> LedgerMessage {
    let item = LedgerItem {
        kind,
        dispatch: Some(dispatch.into()),
        subject: subject.map(str::to_owned),
        session: session.map(str::to_owned),
        event: format!("{{\"seq\":{seq}}}"),
        row: String::new(),
        erases: false,
    };
    LedgerMessage { seq, items: vec![item] }
}

#[test]
fn an_event_without_a_person_is_its_dispatchs() {
    let hub = Hub::new(0, 0);
    hub.hear(event(1, Kind::Dispatch, "d-1", Some("u_jane"), Some("s-1")));
    hub.hear(event(2, Kind::Dispatch, "d-1", None, None));
    hub.hear(event(3, Kind::Dispatch, "d-2", None, None));
    let seen = hub.ledger(|ring| {
        let messages = ring.after(1).unwrap();
        messages.map(|m| (m.items[0].subject.clone(), m.items[0].session.clone())).collect::<Vec<_>>()
    });
    assert_eq!(seen, [(Some("u_jane".into()), Some("s-1".into())), (None, None)]);
    assert_eq!(hub.head(), 3);
}

#[test]
fn an_erasure_lets_go_of_everything_that_was_held_before_it() {
    let hub = Hub::new(0, 0);
    hub.hear(event(1, Kind::Dispatch, "d-1", Some("u_jane"), Some("s-1")));
    hub.hear_output("d-1", chunk(7, 10));
    assert!(hub.ledger(|ring| ring.after(0).is_some()) && hub.output("d-1", 6, 10).is_some());
    let mut erasure = event(2, Kind::Key, "", Some("u_jane"), None);
    erasure.items[0].erases = true;
    hub.hear(erasure);
    assert!(hub.ledger(|ring| ring.after(0).is_none()), "what came before must be read again");
    assert_eq!(hub.ledger(|ring| ring.after(1).map(Iterator::count)), Some(1));
    assert!(hub.output("d-1", 6, 10).is_none() && hub.output("d-1", 7, 10).is_some());
}

#[test]
fn output_that_is_not_held_is_said_to_be_and_not_left_out() {
    let hub = Hub::new(0, 10);
    assert!(hub.output("d-1", 0, 10).is_none(), "what came before the hub must be read");
    assert!(hub.output("d-1", 10, 10).is_some());
    hub.hear_output("d-1", chunk(11, 10));
    hub.hear_output("d-2", chunk(12, 10));
    hub.hear_output("d-1", chunk(13, 10));
    let (items, more) = hub.output("d-1", 10, 1).unwrap();
    assert_eq!((items.len(), items[0].seq, more), (1, 11, true));
    assert_eq!(hub.output("d-1", 11, 10).unwrap().0[0].seq, 13);
    assert!(hub.output("d-1", 3, 10).is_none());
}

#[test]
fn the_quietest_output_goes_first_and_leaves_a_mark() {
    let hub = Hub::new(0, 0);
    let big = TOPIC_BYTES_MAX - 1_000;
    let topics = OUTPUT_BYTES_MAX / big + 2;
    for n in 0..topics {
        hub.hear_output(&format!("d-{n}"), chunk(n as u64 + 1, big));
    }
    assert!(hub.topics().bytes <= OUTPUT_BYTES_MAX);
    assert!(hub.output("d-0", 0, 10).is_none(), "its chunk was let go");
    assert!(hub.output(&format!("d-{}", topics - 1), topics as u64 - 1, 10).is_some());
}

#[tokio::test]
async fn a_decision_is_waited_for() {
    let hub = Hub::new(0, 0);
    let waiting = tokio::spawn({
        let hub = hub.clone();
        async move { hub.decision(&["d-1", "d-x"], 0, Duration::from_secs(20)).await }
    });
    hub.hear(event(1, Kind::Run, "d-1", None, None));
    hub.hear(event(2, Kind::Dispatch, "d-1", Some("u_jane"), None));
    assert_eq!(waiting.await.unwrap().unwrap(), "{\"seq\":2}");
}
