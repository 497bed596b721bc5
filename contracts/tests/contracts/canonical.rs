//! Canonical JSON, digests, hexadecimal and derived ids: the same thing always gives the same bytes.

use custody_contracts::canonical::{canonical, derived_id, digest, hex, unhex};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

#[rstest]
#[case::sorted(r#"{ "b": 1, "a": { "d": [ 1, 2 ], "c": null } }"#, r#"{"a":{"c":null,"d":[1,2]},"b":1}"#)]
#[case::texts("\"a \\\"b\\\" \\u00e9\\n\\u0001\"", "\"a \\\"b\\\" é\\n\\u0001\"")]
#[case::upper_before_lower(r#"{"a":1,"B":2,"_":3,"1":4}"#, r#"{"1":4,"B":2,"_":3,"a":1}"#)]
#[case::empty("[ {}, [], \"\" ]", r#"[{},[],""]"#)]
#[case::whole_numbers(
    "[0, -1, 18446744073709551615, 9007199254740991]",
    "[0,-1,18446744073709551615,9007199254740991]"
)]
#[case::truths("[true, false, null]", "[true,false,null]")]
// RFC 8785, section 3.2.3, its ASCII part.
#[case::of_the_rfc(
    r#"{"literals":[null,true,false],"string":"\u20ac$\u000f\nA'B\"\\\\\"/"}"#,
    "{\"literals\":[null,true,false],\"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}"
)]
fn canonical_depends_on_the_document_only(#[case] text: &str, #[case] expected: &str) {
    assert_eq!(canonical(&serde_json::from_str(text).unwrap()), expected);
}

/// JSON as our contracts write it: whole numbers.
fn documents() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec(("[a-zA-Z_]{0,6}", inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn reversed(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let turned: Map<String, Value> = map.iter().rev().map(|(k, v)| (k.clone(), reversed(v))).collect();
            Value::Object(turned)
        }
        Value::Array(items) => items.iter().map(reversed).collect(),
        scalar => scalar.clone(),
    }
}

proptest! {
    #[test]
    fn canonical_is_read_back_as_the_same_document(value in documents()) {
        let text = canonical(&value);
        let again: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&again, &value);
        prop_assert_eq!(canonical(&again), text);
    }

    #[test]
    fn canonical_does_not_know_in_which_order_a_map_was_filled(value in documents()) {
        prop_assert_eq!(canonical(&reversed(&value)), canonical(&value));
    }

    #[test]
    fn two_documents_have_the_same_canonical_text_only_if_they_are_one(a in documents(), b in documents()) {
        prop_assert_eq!(canonical(&a) == canonical(&b), a == b);
    }

    #[test]
    fn hexadecimal_is_read_back(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        prop_assert_eq!(unhex(&hex(&bytes)), Some(bytes));
    }

    #[test]
    fn unhex_never_panics(text in ".{0,40}") {
        if let Some(bytes) = unhex(&text) {
            prop_assert_eq!(hex(&bytes), text.to_ascii_lowercase());
        }
    }

    #[test]
    fn a_derived_id_is_a_token_and_changes_with_each_part(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 1..4),
        at in any::<prop::sample::Index>(),
    ) {
        let id = |parts: &[Vec<u8>]| derived_id("d-", &parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let first = id(&parts);
        prop_assert_eq!(first.len(), 22);
        prop_assert!(first[2..].bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b)));
        let mut other = parts.clone();
        let at = at.index(other.len());
        other[at].push(0);
        prop_assert_ne!(id(&other), first.clone());
        prop_assert_eq!(id(&parts), first);
    }
}

#[test]
fn where_one_part_ends_and_the_next_begins_counts() {
    let ids: BTreeSet<String> = [&[b"ab".as_slice(), b"c"][..], &[b"a", b"bc"], &[b"abc"], &[b"abc", b""], &[]]
        .iter()
        .map(|p| derived_id("x-", p))
        .collect();
    assert_eq!(ids.len(), 5);
}

#[test]
fn derived_ids_never_change() {
    // Made by an independent implementation: first 100 bits of SHA-256 over length-prefixed parts, base 32.
    assert_eq!(derived_id("d-", &[b"web-chat", b"id", b"m-1"]), "d-fyl4stlf6lurb4ikd7er");
}

#[test]
fn digest_is_sha_256() {
    // FIPS 180-2, appendix B.1.
    assert_eq!(digest(b"abc"), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(digest(canonical(&json!({})).as_bytes()), digest(b"{}"));
}

#[rstest]
#[case::odd("abc")]
#[case::no_digit("zz")]
#[case::beyond_ascii("éé")]
#[case::a_sign("+1")]
fn what_is_no_hexadecimal_is_none(#[case] text: &str) {
    assert_eq!(unhex(text), None);
}
