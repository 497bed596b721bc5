//! Goldens pass and keep their meaning through the serde types; rejects fail by the keyword they are named after.

use crate::fixtures::{decoder, goldens, rejects, without};
use custody_contracts::catalogue::{ALL, CheckError, check, shapes};
use custody_contracts::events::TYPES;
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[test]
fn every_golden_passes_its_schema() {
    let goldens = goldens();
    for golden in &goldens {
        assert_eq!(check(golden.contract, &golden.shape, &golden.value), Ok(()), "{}", golden.place);
    }
    let seen: BTreeSet<_> = goldens.iter().map(|g| (g.contract, g.shape.as_str())).collect();
    for contract in ALL {
        for shape in shapes(contract.name).unwrap() {
            assert!(seen.contains(&(contract.name, shape.as_str())), "{} {shape} has no golden", contract.name);
        }
    }
}

#[test]
fn every_reject_fails_by_the_keyword_in_its_name() {
    let rejects = rejects();
    for reject in &rejects {
        match check(reject.contract, &reject.shape, &reject.value) {
            Err(CheckError::Invalid(violations)) => {
                let keywords: Vec<_> = violations.iter().map(|v| v.keyword.as_str()).collect();
                assert!(keywords.contains(&reject.says.as_str()), "{} failed by {keywords:?}", reject.place);
                assert!(violations.len() <= 20 && violations.iter().all(|v| v.message.chars().count() <= 400));
            }
            other => panic!("{}: {other:?}", reject.place),
        }
    }
    assert!(rejects.len() >= ALL.len(), "{} rejects", rejects.len());
}

/// Three ways to say nothing are written as no field: no token, an empty token's null, no tools, no rules of a stream.
fn without_empty(shape: &str, value: &Value) -> Value {
    let mut value = value.clone();
    let unit = if shape == "DispatchAdmitted" { "/unit" } else { "" };
    let places = [
        (format!("{unit}/identity/token"), Value::Null),
        (format!("{unit}/tools"), json!([])),
        ("/args/tools".to_owned(), json!([])),
        ("/stream/map".to_owned(), json!([])),
    ];
    for (pointer, empty) in places {
        if value.pointer(&pointer) == Some(&empty) {
            value = without(&value, &pointer).unwrap();
        }
    }
    value
}

#[test]
fn every_golden_of_a_type_is_decoded_and_written_again_as_it_was() {
    let mut typed = BTreeSet::new();
    for golden in goldens() {
        let Some(decode) = decoder(golden.contract, &golden.shape) else { continue };
        let (_, again) = decode(&golden.value).unwrap_or_else(|why| panic!("{}: {why}", golden.place));
        assert_eq!(
            without_empty(&golden.shape, &again),
            without_empty(&golden.shape, &golden.value),
            "{}",
            golden.place
        );
        assert_eq!(check(golden.contract, &golden.shape, &again), Ok(()), "{} as written again", golden.place);
        typed.insert((golden.contract, golden.shape));
    }
    let missing: Vec<_> = ALL
        .iter()
        .flat_map(|c| shapes(c.name).unwrap().iter().map(|s| (c.name, s.clone())))
        .filter(|place| decoder(place.0, &place.1).is_some() && !typed.contains(place))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    let count = |name: &str| typed.iter().filter(|place| place.0 == name).count();
    assert_eq!((count("ledger.v1"), count("ledger.v2")), (13, TYPES.len()));
    assert_eq!((count("box.v1"), count("box.v2")), (4, 4));
    assert_eq!(
        typed.len(),
        13 + TYPES.len() + 4 + 4 + 2 + 12,
        "token.v1 has three shapes and ws.v1 two, the others one each, two of them in two versions"
    );
}
