//! Upcasting: the newest form is its own, unknown and retired versions are refused, and the mechanism does what it says
//! over a table of versions that do not exist.

use crate::fixtures::goldens;
use custody_contracts::canonical::canonical;
use custody_contracts::catalogue::check;
use custody_contracts::upcast::{STEPS, Step, UpcastError, through, upcast};
use rstest::rstest;
use serde_json::{Value, json};

#[test]
fn a_document_of_the_newest_version_is_its_own_newest_form() {
    for golden in goldens().into_iter().filter(|g| STEPS.iter().all(|s| s.from != g.contract)) {
        let once = upcast(golden.contract, &golden.shape, golden.value.clone()).unwrap();
        assert_eq!(canonical(&once), canonical(&golden.value), "{}", golden.place);
        assert_eq!(upcast(golden.contract, &golden.shape, once.clone()), Ok(once), "{}", golden.place);
    }
}

#[test]
fn a_document_of_an_older_version_is_valid_in_the_newest() {
    for golden in goldens() {
        let Some(step) = STEPS.iter().find(|s| s.from == golden.contract) else { continue };
        let newest = upcast(golden.contract, &golden.shape, golden.value.clone()).unwrap();
        assert_eq!(check(step.to, &golden.shape, &newest), Ok(()), "{}", golden.place);
    }
}

#[rstest]
#[case::retired("event.v1", "Event", "use schedule.v1")]
#[case::not_yet("unit.v2", "Invocation", "unit.v1 does")]
#[case::of_nobody("invoice.v1", "Invoice", "custody contract ls")]
#[case::unknown_shape("unit.v1", "Invoice", "it has Invocation")]
fn what_is_not_spoken_is_refused_at_the_door(#[case] name: &str, #[case] shape: &str, #[case] pointer: &str) {
    let error = upcast(name, shape, json!({})).unwrap_err();
    assert!(matches!(error, UpcastError::NotSpoken(_)), "{error:?}");
    assert!(error.to_string().contains(pointer), "{error}");
}

#[test]
fn every_step_leads_from_a_version_to_the_one_after_it() {
    for step in STEPS {
        let number = |name: &str| name.rsplit_once(".v").unwrap().1.parse::<u32>().unwrap();
        assert_eq!(number(step.to), number(step.from) + 1, "{step:?}");
        assert_eq!(step.to.split(".v").next(), step.from.split(".v").next(), "{step:?}");
    }
}

/// A made-up history: v2 split the name in two, v3 counts in milliseconds.
const MADE_UP: &[Step] = &[
    Step { from: "visit.v1", to: "visit.v2", lift: split_name },
    Step { from: "visit.v2", to: "visit.v3", lift: in_milliseconds },
];

fn split_name(shape: &str, mut document: Value) -> Result<Value, String> {
    if shape != "Visit" {
        return Ok(document);
    }
    let name = document["name"].as_str().unwrap_or_default().to_owned();
    let (first, last) = name.split_once(' ').ok_or("the name has one word")?;
    document.as_object_mut().ok_or("no object")?.remove("name");
    document["first"] = first.into();
    document["last"] = last.into();
    Ok(document)
}

fn in_milliseconds(_: &str, mut document: Value) -> Result<Value, String> {
    let seconds = document["s"].as_u64().ok_or("no seconds")?;
    document.as_object_mut().ok_or("no object")?.remove("s");
    document["ms"] = (seconds * 1000).into();
    Ok(document)
}

#[rstest]
#[case::over_two_versions("visit.v1", json!({ "name": "Jane Doe", "s": 2 }))]
#[case::over_one_version("visit.v2", json!({ "first": "Jane", "last": "Doe", "s": 2 }))]
#[case::not_at_all("visit.v3", json!({ "first": "Jane", "last": "Doe", "ms": 2000 }))]
fn every_version_ends_in_the_same_newest_form(#[case] name: &'static str, #[case] document: Value) {
    let expected = json!({ "first": "Jane", "last": "Doe", "ms": 2000 });
    let once = through(MADE_UP, name, "Visit", document.clone()).unwrap();
    assert_eq!(once, ("visit.v3", expected));
    let again = through(MADE_UP, once.0, "Visit", once.1.clone()).unwrap();
    assert_eq!(canonical(&again.1), canonical(&once.1), "upcast and written again it stays");
    assert_eq!(through(MADE_UP, name, "Visit", document).unwrap(), once, "a pure function");
}

#[test]
fn shapes_that_a_step_does_not_change_go_through() {
    let (name, document) = through(MADE_UP, "visit.v1", "Note", json!({ "s": 1 })).unwrap();
    assert_eq!((name, document), ("visit.v3", json!({ "ms": 1000 })));
}

#[test]
fn a_document_without_a_newer_form_is_refused_with_the_step_that_found_none() {
    let error = through(MADE_UP, "visit.v1", "Visit", json!({ "name": "Jane", "s": 2 })).unwrap_err();
    assert_eq!(error.to_string(), "Visit of visit.v1 has no form in visit.v2: the name has one word");
}

#[test]
fn a_circle_of_steps_ends_with_an_error() {
    let circle =
        [Step { from: "a.v1", to: "a.v2", lift: |_, d| Ok(d) }, Step { from: "a.v2", to: "a.v1", lift: |_, d| Ok(d) }];
    assert_eq!(through(&circle, "a.v1", "A", json!({})), Err(UpcastError::Endless("a.v1".into())));
}
