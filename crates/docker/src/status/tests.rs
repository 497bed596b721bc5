//! Inspect answers as Docker 20.10.24 writes them.

use super::*;
use rstest::rstest;
use serde_json::{Value, json};

fn answer(state: Value) -> ContainerInspectResponse {
    let mut all = json!({ "Status": "created", "StartedAt": "0001-01-01T00:00:00Z", "FinishedAt": "0001-01-01T00:00:00Z",
                          "ExitCode": 0, "OOMKilled": false, "Error": "" });
    all.as_object_mut().unwrap().extend(state.as_object().unwrap().clone());
    serde_json::from_value(json!({ "Id": "f00", "Name": "/custody-d-1", "Created": "2026-11-22T21:26:00.123456789Z",
        "State": all, "Config": { "Labels": { "b": "2", "a": "1" } } }))
    .unwrap()
}

#[rstest]
#[case::created(json!({}), BoxState::Created)]
#[case::start_failed(json!({ "ExitCode": 127, "Error": "no such file" }), BoxState::Created)]
#[case::running(json!({ "Status": "running", "Running": true }), BoxState::Running)]
#[case::paused(json!({ "Status": "paused" }), BoxState::Running)]
#[case::stopping(json!({ "Status": "stopping" }), BoxState::Running)]
#[case::exited(json!({ "Status": "exited", "ExitCode": 7 }), BoxState::Exited { code: 7, oom: false, error: None })]
#[case::oom(json!({ "Status": "exited", "ExitCode": 137, "OOMKilled": true }), BoxState::Exited { code: 137, oom: true, error: None })]
#[case::oom_of_a_child(json!({ "Status": "exited", "OOMKilled": true }), BoxState::Exited { code: 0, oom: true, error: None })]
#[case::words(json!({ "Status": "exited", "ExitCode": 128, "Error": "mount" }), BoxState::Exited { code: 128, oom: false, error: Some("mount".into()) })]
#[case::dead(json!({ "Status": "dead", "ExitCode": 1 }), BoxState::Exited { code: 1, oom: false, error: None })]
#[case::removing(json!({ "Status": "removing", "ExitCode": 137 }), BoxState::Exited { code: 137, oom: false, error: None })]
fn states(#[case] state: Value, #[case] wanted: BoxState) {
    assert_eq!(status(answer(state)).unwrap().state, wanted);
}

#[test]
fn the_rest_of_it() {
    let state = json!({ "Status": "exited", "StartedAt": "2026-11-22T22:26:01+01:00", "FinishedAt": "2026-11-22T21:26:02.9999Z" });
    let got = status(answer(state)).unwrap();
    assert_eq!((got.id.as_str(), got.name.as_str()), ("f00", "custody-d-1"));
    assert_eq!(got.labels.into_iter().collect::<Vec<_>>(), [("a".into(), "1".into()), ("b".into(), "2".into())]);
    assert_eq!(got.created_at.rfc3339(), "2026-11-22T21:26:00.123Z");
    assert_eq!(got.started_at.unwrap().rfc3339(), "2026-11-22T21:26:01.000Z");
    assert_eq!(got.finished_at.unwrap().rfc3339(), "2026-11-22T21:26:02.999Z");
}

#[test]
fn a_short_life_does_not_end_before_it_starts() {
    let state = json!({ "Status": "exited", "StartedAt": "2026-11-22T21:26:01.370Z", "FinishedAt": "2026-11-22T21:26:01.369Z" });
    let got = status(answer(state)).unwrap();
    assert_eq!(got.started_at, got.finished_at);
    assert_eq!(got.finished_at.unwrap().rfc3339(), "2026-11-22T21:26:01.369Z");
}

#[rstest]
#[case::epoch("1970-01-01T00:00:00Z", Some(0))]
#[case::nanoseconds("1970-01-01T00:00:01.999999999Z", Some(1_999))]
#[case::zero_time("0001-01-01T00:00:00Z", None)]
#[case::before_the_epoch("1969-12-31T23:59:59.9999Z", None)]
#[case::not_a_time("yesterday", None)]
#[case::empty("", None)]
fn times(#[case] text: &str, #[case] wanted: Option<u64>) {
    assert_eq!(millis(text), wanted.map(UnixMillis));
}

#[rstest]
#[case::no_id(|a: &mut ContainerInspectResponse| a.id = None)]
#[case::no_name(|a: &mut ContainerInspectResponse| a.name = None)]
#[case::no_state(|a: &mut ContainerInspectResponse| a.state = None)]
#[case::no_creation(|a: &mut ContainerInspectResponse| a.created = None)]
#[case::creation_unreadable(|a: &mut ContainerInspectResponse| a.created = Some("soon".into()))]
#[case::state_unknown(|a: &mut ContainerInspectResponse| a.state.as_mut().unwrap().status = None)]
#[case::no_code(|a: &mut ContainerInspectResponse| a.state = Some(ContainerState { status: Some(ContainerStateStatusEnum::EXITED), ..Default::default() }))]
fn nothing_is_guessed(#[case] change: fn(&mut ContainerInspectResponse)) {
    let mut answer = answer(json!({}));
    change(&mut answer);
    assert!(matches!(status(answer), Err(BoxError::Unavailable(_))));
}
