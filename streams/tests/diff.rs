//! What `streams diff` says.

#![cfg(test)]

use custody_streams::diff::diff;
use custody_streams::spec::{Replicas, StreamOptions, StreamSpec, all, launch, ledger, output};
use serde_json::{Value, json};

fn options() -> StreamOptions {
    StreamOptions::one_machine()
}

/// The form a server gives a configuration back in: defaults left out, its own metadata added.
fn as_the_server_says(spec: &StreamSpec) -> Value {
    let mut config = serde_json::to_value(spec).unwrap();
    let map = config.as_object_mut().unwrap();
    map.retain(|_, v| *v != json!(false) && *v != json!("default") && *v != json!(0));
    map["metadata"]["_nats.ver"] = json!("2.15.1");
    map.insert("consumer_limits".to_owned(), json!({}));
    config
}

#[test]
fn a_stream_as_specified_needs_nothing() {
    for replicas in [Replicas::One, Replicas::Three] {
        for spec in all(&StreamOptions { replicas, ..options() }) {
            assert_eq!(diff(&spec, Some(&as_the_server_says(&spec))), []);
        }
    }
}

#[test]
fn a_missing_stream_is_one_allowed_change() {
    for spec in all(&options()) {
        let changes = diff(&spec, None);
        assert_eq!(changes.len(), 1);
        assert!(changes[0].allowed && changes[0].field == "stream" && changes[0].stream == spec.name);
    }
}

#[rstest::rstest]
#[case::deny_comes_back(ledger(&options()), json!({ "deny_delete": false }), &[("deny_delete", true)])]
#[case::age_goes(ledger(&options()), json!({ "max_age": 5 }), &[("max_age", true)])]
#[case::trim_goes(ledger(&options()), json!({ "max_msgs": 5 }), &[("max_msgs", true)])]
#[case::more_room(ledger(&options()), json!({ "max_bytes": 1024 }), &[("max_bytes", true)])]
#[case::less_room(ledger(&options()), json!({ "max_bytes": 1i64 << 50 }), &[("max_bytes", false)])]
#[case::a_first_limit(ledger(&options()), json!({ "max_bytes": -1 }), &[("max_bytes", false)])]
#[case::less_room_for_output(output(&options()), json!({ "max_bytes": 1i64 << 50 }), &[("max_bytes", true)])]
#[case::memory(ledger(&options()), json!({ "storage": "memory" }), &[("storage", false)])]
#[case::queue(launch(&options()), json!({ "retention": "workqueue" }), &[("retention", false)])]
#[case::persistence(output(&options()), json!({ "persist_mode": "default" }), &[("persist_mode", false)])]
#[case::ledger_subjects(ledger(&options()), json!({ "subjects": ["ledger.>"] }), &[("subjects", false)])]
#[case::launch_subjects(launch(&options()), json!({ "subjects": ["launch.>"] }), &[("subjects", true)])]
#[case::mirror(ledger(&options()), json!({ "mirror": { "name": "X" } }), &[("mirror", false)])]
#[case::sealed(ledger(&options()), json!({ "sealed": true }), &[("sealed", false)])]
#[case::republish(ledger(&options()), json!({ "republish": { "src": ">", "dest": "x.>" } }), &[("republish", true)])]
#[case::replicas(ledger(&StreamOptions { replicas: Replicas::Three, ..options() }), json!({ "num_replicas": 1 }),
    &[("num_replicas", true)])]
#[case::a_stray_denial(output(&options()), json!({ "deny_delete": true }), &[("deny_delete", false)])]
#[case::our_metadata(ledger(&options()), json!({ "metadata": {} }), &[("metadata", true)])]
#[case::foreign_metadata(ledger(&options()), json!({ "metadata": { "custody.schema": "ledger.v2", "team": "x" } }), &[])]
fn changes(#[case] spec: StreamSpec, #[case] actual: Value, #[case] wanted: &[(&str, bool)]) {
    let mut config = as_the_server_says(&spec);
    config.as_object_mut().unwrap().extend(actual.as_object().unwrap().clone());
    let found = diff(&spec, Some(&config));
    assert_eq!(found.iter().map(|c| (c.field.as_str(), c.allowed)).collect::<Vec<_>>(), wanted, "{found:?}");
    assert!(found.iter().all(|c| !c.why.is_empty() && c.from != c.to));
}

/// The rules of the design that no option may change.
#[test]
fn what_is_evidence_is_never_forgotten() {
    for replicas in [Replicas::One, Replicas::Three] {
        let specs = all(&StreamOptions { replicas, ..options() });
        let by_name = |name: &str| specs.iter().find(|s| s.name == name).unwrap();
        for name in ["LEDGER", "TRANSCRIPT"] {
            let spec = by_name(name);
            assert!(spec.deny_delete && spec.deny_purge && spec.max_age == 0);
            assert_eq!(serde_json::to_value(spec.discard).unwrap(), "new");
        }
        for spec in &specs {
            assert!(!spec.allow_msg_ttl && !spec.allow_msg_schedules && !spec.allow_rollup_hdrs);
            assert!(!spec.allow_msg_counter && !spec.allow_batched);
            assert!(spec.max_bytes > 0 && spec.max_msg_size > 0, "{} has no limit", spec.name);
            assert_eq!(spec.allow_atomic, spec.name == "LEDGER");
            let persistence = serde_json::to_value(spec.persist_mode).unwrap();
            assert_eq!(persistence == "async", spec.name == "OUTPUT" && replicas == Replicas::One);
        }
    }
}
