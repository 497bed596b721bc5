//! The guard's rules as tables.

#![cfg(test)]

use custody_streams::guard::{ServerFacts, StreamFacts, check_server, check_stream, parse_version};
use custody_streams::spec::{Replicas, StreamOptions, StreamSpec, all, blobs, launch, ledger, output};
use serde_json::{Value, json};

fn facts(version: &str) -> ServerFacts {
    ServerFacts {
        version: version.to_owned(),
        jetstream: true,
        sync_interval_always: Some(true),
        assume_sync_always: false,
    }
}

#[rstest::rstest]
#[case("2.9.10", &[("NATS_TOO_OLD", true)])]
#[case("2.14.6", &[("NATS_TOO_OLD", true)])]
#[case("2.15.0", &[("NATS_TOO_OLD", true)])]
#[case("2.15.1", &[])]
#[case("v2.15.1", &[])]
#[case("2.15.2", &[("NATS_UNTESTED", false)])]
#[case("2.20.0-beta.1", &[("NATS_UNTESTED", false)])]
#[case("3.0.0", &[("NATS_TOO_NEW", true)])]
#[case("", &[("NATS_VERSION_UNREADABLE", true)])]
#[case("2.15", &[("NATS_VERSION_UNREADABLE", true)])]
#[case("two", &[("NATS_VERSION_UNREADABLE", true)])]
fn versions(#[case] version: &str, #[case] wanted: &[(&str, bool)]) {
    let found = check_server(&facts(version));
    assert_eq!(found.iter().map(|f| (f.code.as_str(), f.fatal)).collect::<Vec<_>>(), wanted);
    assert!(found.iter().all(|f| f.subject == "server" && !f.message.is_empty() && !f.hint.is_empty()));
}

#[test]
fn a_version_is_three_numbers() {
    assert_eq!(parse_version("2.15.1\n"), Some((2, 15, 1)));
    assert_eq!(parse_version("2.15.1.9"), None);
    assert_eq!(parse_version("99999999999999999999.0.0"), None);
}

#[rstest::rstest]
#[case(Some(true), false, true, &[])]
#[case(Some(true), true, true, &[])]
#[case(Some(false), false, true, &[("SYNC_INTERVAL_UNSAFE", true)])]
#[case(Some(false), true, true, &[("SYNC_INTERVAL_UNSAFE", true)])]
#[case(None, false, true, &[("SYNC_INTERVAL_UNKNOWN", true)])]
#[case(None, true, true, &[("SYNC_INTERVAL_ASSUMED", false)])]
#[case(Some(true), false, false, &[("JETSTREAM_OFF", true)])]
fn durability(
    #[case] always: Option<bool>,
    #[case] assumed: bool,
    #[case] jetstream: bool,
    #[case] wanted: &[(&str, bool)],
) {
    let facts = ServerFacts { sync_interval_always: always, assume_sync_always: assumed, jetstream, ..facts("2.15.1") };
    let found = check_server(&facts);
    assert_eq!(found.iter().map(|f| (f.code.as_str(), f.fatal)).collect::<Vec<_>>(), wanted);
}

fn options() -> StreamOptions {
    StreamOptions::one_machine()
}

fn as_it_should_be(spec: &StreamSpec) -> StreamFacts {
    StreamFacts { config: serde_json::to_value(spec).unwrap(), first_seq: 1, last_seq: 7, messages: 7 }
}

fn changed(spec: &StreamSpec, changes: &Value) -> StreamFacts {
    let mut facts = as_it_should_be(spec);
    facts.config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    facts
}

#[test]
fn streams_as_specified_have_no_findings() {
    for replicas in [Replicas::One, Replicas::Three] {
        for spec in all(&StreamOptions { replicas, ..options() }) {
            assert_eq!(check_stream(&spec, Some(&as_it_should_be(&spec))), []);
            let empty = StreamFacts { first_seq: 0, last_seq: 0, messages: 0, ..as_it_should_be(&spec) };
            assert_eq!(check_stream(&spec, Some(&empty)), []);
        }
    }
}

#[test]
fn a_stream_that_is_not_there_is_missing() {
    for spec in all(&options()) {
        let found = check_stream(&spec, None);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].code.as_str(), found[0].subject.as_str()), ("STREAM_MISSING", spec.name.as_str()));
    }
}

#[rstest::rstest]
#[case::deny_delete(ledger(&options()), json!({ "deny_delete": false }), &["DENY_FLAGS_MISSING"])]
#[case::deny_purge(launch(&options()), json!({ "deny_purge": false }), &["DENY_FLAGS_MISSING"])]
#[case::old(ledger(&options()), json!({ "discard": "old" }), &["LIMITS_DISCARD"])]
#[case::age(ledger(&options()), json!({ "max_age": 1 }), &["LIMITS_DISCARD"])]
#[case::msgs(ledger(&options()), json!({ "max_msgs": 5 }), &["LIMITS_DISCARD"])]
#[case::per_subject(ledger(&options()), json!({ "max_msgs_per_subject": 1 }), &["LIMITS_DISCARD"])]
#[case::shorter(launch(&options()), json!({ "max_age": 60_000_000_000u64 }), &["LIMITS_DISCARD"])]
#[case::longer(launch(&options()), json!({ "max_age": 0 }), &[])]
#[case::output_may_drop(output(&options()), json!({ "discard": "old" }), &[])]
#[case::blobs_may_not(blobs(&options()), json!({ "discard": "old" }), &["LIMITS_DISCARD"])]
#[case::memory(ledger(&options()), json!({ "storage": "memory" }), &["STORAGE_NOT_FILE"])]
#[case::queue(ledger(&options()), json!({ "retention": "interest" }), &["RETENTION_WRONG"])]
#[case::lazy(blobs(&options()), json!({ "persist_mode": "async" }), &["PERSIST_ASYNC"])]
#[case::lazy_output(output(&options()), json!({ "persist_mode": "async" }), &[])]
#[case::no_batches(ledger(&options()), json!({ "allow_atomic": false }), &["ATOMIC_OFF"])]
#[case::batches_on_launch(launch(&options()), json!({ "allow_atomic": true }), &["FEATURE_FORBIDDEN"])]
#[case::ttl(launch(&options()), json!({ "allow_msg_ttl": true }), &["FEATURE_FORBIDDEN"])]
#[case::schedules(launch(&options()), json!({ "allow_msg_schedules": true }), &["FEATURE_FORBIDDEN"])]
#[case::counters(launch(&options()), json!({ "allow_msg_counter": true }), &["FEATURE_FORBIDDEN"])]
#[case::rollup(ledger(&options()), json!({ "allow_rollup_hdrs": true }), &["FEATURE_FORBIDDEN"])]
#[case::mirror(ledger(&options()), json!({ "mirror": { "name": "X" } }), &["FEATURE_FORBIDDEN"])]
#[case::sources(ledger(&options()), json!({ "sources": [{ "name": "X" }] }), &["FEATURE_FORBIDDEN"])]
#[case::sealed(ledger(&options()), json!({ "sealed": true }), &["FEATURE_FORBIDDEN"])]
#[case::subjects(ledger(&options()), json!({ "subjects": ["ledger.>"] }), &["SUBJECTS_DIFFER"])]
#[case::more_subjects(launch(&options()), json!({ "subjects": ["launch.*.*", "x"] }), &["SUBJECTS_DIFFER"])]
#[case::several(ledger(&options()), json!({ "deny_delete": false, "discard": "old" }),
    &["DENY_FLAGS_MISSING", "LIMITS_DISCARD"])]
fn broken_streams(#[case] spec: StreamSpec, #[case] changes: Value, #[case] wanted: &[&str]) {
    let found = check_stream(&spec, Some(&changed(&spec, &changes)));
    assert_eq!(found.iter().map(|f| f.code.as_str()).collect::<Vec<_>>(), wanted, "{found:?}");
    assert!(found.iter().all(|f| f.fatal && f.subject == spec.name));
}

#[rstest::rstest]
#[case::whole(1, 7, 7, &[])]
#[case::head_cut(3, 7, 5, &["HISTORY_TRIMMED"])]
#[case::hole(1, 7, 6, &["HISTORY_TRIMMED"])]
#[case::emptied(8, 7, 0, &["HISTORY_TRIMMED"])]
#[case::empty(0, 0, 0, &[])]
fn history(#[case] first_seq: u64, #[case] last_seq: u64, #[case] messages: u64, #[case] wanted: &[&str]) {
    let at = |spec: &StreamSpec| StreamFacts { first_seq, last_seq, messages, ..as_it_should_be(spec) };
    let spec = ledger(&options());
    let found = check_stream(&spec, Some(&at(&spec)));
    assert_eq!(found.iter().map(|f| f.code.as_str()).collect::<Vec<_>>(), wanted);
    // Streams that age may start anywhere.
    for spec in [launch(&options()), output(&options())] {
        assert_eq!(check_stream(&spec, Some(&at(&spec))), []);
    }
}
