//! What a trace of one dispatch is: names, order, places in time, ids.

use super::{Kind, Span, Value, spans, trace_context};
use crate::fixtures::{TRACEPARENT, life};
use crate::life::millis;
use custody_contracts::events::StopReason;
use rstest::rstest;
use std::collections::BTreeSet;

fn named<'a>(made: &'a [Span], name: &str) -> &'a Span {
    made.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("{name} is not in {made:?}"))
}

#[rstest]
#[case::admit("admit", -5, 0)]
#[case::queue("queue", 0, 1_000)]
#[case::create("create", 1_000, 1_040)]
#[case::boot("boot", 1_040, 1_100)]
#[case::first_frame("first_frame", 1_900, 1_930)]
#[case::first_byte("first_byte", 1_930, 2_000)]
#[case::run("run", 1_900, 4_500)]
#[case::model_call("chat small-1", 2_500, 4_000)]
#[case::finish("finish", 4_500, 5_000)]
#[case::root("dispatch claude-code", -5, 5_000)]
fn every_step_has_its_place_in_time(#[case] name: &str, #[case] from: i64, #[case] to: i64) {
    let base = i64::try_from(millis("2026-06-24T12:00:00.000Z")).unwrap();
    let made = spans(&life(None));
    let span = named(&made, name);
    let place = |ms: u64| i64::try_from(ms).unwrap() - base;
    assert_eq!((place(span.start_ms), place(span.end_ms)), (from, to));
}

#[test]
fn it_is_one_tree_with_ids_of_its_own() {
    let made = spans(&life(None));
    let root = named(&made, "dispatch claude-code");
    assert_eq!((root.parent, root.kind), (None, Kind::Consumer));
    assert!(made.iter().all(|s| s.trace == root.trace && s.start_ms <= s.end_ms));
    assert!(made.iter().filter(|s| s.id != root.id).all(|s| s.parent == Some(root.id)));
    assert_eq!(made.iter().map(|s| s.id).collect::<BTreeSet<_>>().len(), made.len());
    assert_eq!(made, spans(&life(None)), "a second sending is the same");
}

#[test]
fn the_launchs_trace_is_gone_on_with() {
    let (trace, parent) = trace_context(TRACEPARENT).unwrap();
    let made = spans(&life(Some(TRACEPARENT)));
    assert!(made.iter().all(|s| s.trace == trace));
    assert_eq!(named(&made, "dispatch claude-code").parent, Some(parent));
}

#[rstest]
#[case::good(TRACEPARENT, true)]
#[case::no_trace("00-00000000000000000000000000000000-b7ad6b7169203331-01", false)]
#[case::no_span("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false)]
#[case::short("00-0af7-b7ad6b7169203331-01", false)]
#[case::text("hello", false)]
#[case::empty("", false)]
fn a_trace_context_is_checked(#[case] text: &str, #[case] good: bool) {
    assert_eq!(trace_context(text).is_some(), good);
}

#[test]
fn the_attributes_are_those_of_the_conventions_and_name_no_person() {
    let made = spans(&life(None));
    let call = named(&made, "chat small-1");
    let has = |key: &str| call.attributes.iter().find(|(k, _)| *k == key).map(|(_, v)| v.clone());
    assert_eq!(has("gen_ai.request.model"), Some(Value::Text("small-1".into())));
    assert_eq!(has("gen_ai.usage.input_tokens"), Some(Value::Int(1_204)));
    assert_eq!((call.kind, call.error.is_some()), (Kind::Client, true));
    assert!(!format!("{made:?}").contains("u_jane"));
}

#[rstest]
#[case::completed(StopReason::Completed, false)]
#[case::stopped(StopReason::Stopped, false)]
#[case::budget(StopReason::Budget, true)]
#[case::oom(StopReason::Oom, true)]
fn an_end_that_nobody_wanted_is_an_error(#[case] reason: StopReason, #[case] error: bool) {
    let mut life = life(None);
    life.end.as_mut().unwrap().reason = reason;
    assert_eq!(spans(&life)[0].error.is_some(), error);
    life.end = None;
    assert!(spans(&life).is_empty(), "a dispatch that goes on has no trace yet");
}
