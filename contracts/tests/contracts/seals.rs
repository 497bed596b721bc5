//! Seals: what stands in seal.json has not changed, and a change of any kind would be seen.

use custody_contracts::canonical::digest;
use custody_contracts::catalogue::{ALL, Contract, find};
use custody_contracts::seal::{SEALS, SealState, digest_of, state, state_in};
use rstest::rstest;
use std::collections::BTreeMap;

/// The ledger's events grow with each stage that is being built. What is stored stays readable: an event may get a kind
/// beside it, and a field that may be absent.
const OPEN: &[&str] = &["ledger.v2"];

#[test]
fn every_contract_but_the_open_ones_is_sealed_and_has_not_changed() {
    for contract in ALL {
        let expected = if OPEN.contains(&contract.name) { SealState::Unsealed } else { SealState::Sealed };
        assert_eq!(state(contract.name), Ok(expected), "{}", contract.name);
    }
    assert_eq!(SEALS.len(), ALL.len() - OPEN.len());
    assert!(SEALS.keys().all(|name| find(name).is_ok()), "a contract that was sealed is gone");
}

#[test]
fn names_that_are_not_spoken_have_no_state() {
    assert!(state("event.v1").unwrap_err().to_string().contains("retired"));
    assert!(state("unit.v2").is_err());
}

const SCHEMA: &str = r#"{"$defs":{"A":{"type":"object","required":["a","b"]}}}"#;

fn contract(schema: &'static str) -> Contract {
    Contract { name: "a.v1", schema, readme: "" }
}

#[rstest]
#[case::as_it_was(SCHEMA, "sealed")]
#[case::in_another_layout("{ \"$defs\": { \"A\": {\"required\": [\"a\", \"b\"], \"type\": \"object\"} } }\n", "sealed")]
#[case::a_word_of_a_description(
    r#"{"$defs":{"A":{"type":"object","required":["a","b"],"description":"."}}}"#,
    "broken"
)]
#[case::a_list_in_another_order(r#"{"$defs":{"A":{"type":"object","required":["b","a"]}}}"#, "broken")]
#[case::not_json(r#"{"$defs":"#, "broken")]
fn a_sealed_schema_may_change_its_layout_and_nothing_else(#[case] schema: &'static str, #[case] expected: &str) {
    let sealed = digest_of(&contract(SCHEMA));
    let seals = BTreeMap::from([("a.v1".to_owned(), sealed.clone())]);
    let found = state_in(&seals, &contract(schema));
    assert_eq!(found.as_str(), expected);
    if let SealState::Broken { sealed: was, now } = found {
        assert_eq!(was, sealed);
        assert_ne!(now, sealed);
    }
    assert_eq!(state_in(&BTreeMap::new(), &contract(schema)), SealState::Unsealed);
}

#[test]
fn the_digest_is_over_the_canonical_bytes() {
    assert_eq!(digest_of(&contract(SCHEMA)), digest(br#"{"$defs":{"A":{"required":["a","b"],"type":"object"}}}"#));
}
