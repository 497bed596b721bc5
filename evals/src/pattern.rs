//! Which events an assertion is about: a type and predicates over fields.

use custody_contracts::events::TYPES;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// A type, and predicates over JSON pointers into the CloudEvent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pattern {
    /// A type of ledger.v2, or the beginning of several followed by `*`.
    #[serde(rename = "type")]
    pub kind: String,
    /// JSON pointer and what must hold there.
    #[serde(default, rename = "where")]
    pub fields: BTreeMap<String, Predicate>,
}

/// What must hold for one field: a value that it equals, or a table of tests that all hold.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Value")]
pub(crate) enum Predicate {
    /// Equals this.
    Equals(Value),
    /// Passes all of these.
    Tests(Box<Tests>),
}

/// Tests of one field. Those that are given must all hold.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tests {
    /// Is there and not null, or the opposite.
    pub present: Option<bool>,
    /// Is not this; an absent field is not.
    pub not: Option<Value>,
    /// Is one of these.
    pub one_of: Option<Vec<Value>>,
    /// Text that begins so.
    pub prefix: Option<String>,
    /// Text of exactly this many lower-case hexadecimal digits.
    pub hex: Option<usize>,
    /// Anything else than that, also nothing.
    pub not_hex: Option<usize>,
    /// A whole number of at least this.
    pub min: Option<i64>,
    /// A whole number of at most this.
    pub max: Option<i64>,
}

impl TryFrom<Value> for Predicate {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value {
            Value::Object(ref table) if table.is_empty() => Err("a table of tests is empty".into()),
            Value::Object(_) => {
                let tests: Tests = serde_json::from_value(value).map_err(|e| e.to_string())?;
                Ok(Predicate::Tests(Box::new(tests)))
            }
            Value::Number(ref n) if n.is_f64() => Err("events hold whole numbers only".into()),
            other => Ok(Predicate::Equals(other)),
        }
    }
}

impl Predicate {
    /// Whether it holds for what is at the pointer.
    pub(crate) fn holds(&self, found: Option<&Value>) -> bool {
        match self {
            Predicate::Equals(wanted) => found == Some(wanted),
            Predicate::Tests(tests) => tests.hold(found),
        }
    }
}

impl Tests {
    fn hold(&self, found: Option<&Value>) -> bool {
        let text = found.and_then(Value::as_str);
        let number = found.and_then(Value::as_i64);
        let is_hex =
            |n: usize| text.is_some_and(|t| t.len() == n && t.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
        let all = [
            self.present.map(|wanted| found.is_some_and(|v| !v.is_null()) == wanted),
            self.not.as_ref().map(|other| found != Some(other)),
            self.one_of.as_ref().map(|all| found.is_some_and(|v| all.contains(v))),
            self.prefix.as_ref().map(|p| text.is_some_and(|t| t.starts_with(p.as_str()))),
            self.hex.map(is_hex),
            self.not_hex.map(|n| !is_hex(n)),
            self.min.map(|min| number.is_some_and(|n| n >= min)),
            self.max.map(|max| number.is_some_and(|n| n <= max)),
        ];
        all.into_iter().flatten().all(|held| held)
    }
}

impl Pattern {
    /// What is wrong with the pattern itself: a type that does not exist would match nothing for ever.
    pub(crate) fn problem(&self) -> Option<String> {
        let known = match self.kind.strip_suffix('*') {
            Some(prefix) => TYPES.iter().any(|(kind, _)| kind.starts_with(prefix)),
            None => TYPES.iter().any(|(kind, _)| *kind == self.kind),
        };
        if !known {
            return Some(format!("type {:?} matches no type of ledger.v2", self.kind));
        }
        let bad = self.fields.keys().find(|p| !is_pointer(p));
        bad.map(|p| format!("{p:?} is not a JSON pointer; it begins with /"))
    }

    /// Whether it matches an event.
    pub(crate) fn matches(&self, event: &Value) -> bool {
        let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
        let right = match self.kind.strip_suffix('*') {
            Some(prefix) => kind.starts_with(prefix),
            None => kind == self.kind,
        };
        right && self.fields.iter().all(|(pointer, predicate)| predicate.holds(event.pointer(pointer)))
    }
}

/// Whether a text is a JSON pointer into a document, and not the whole.
pub(crate) fn is_pointer(text: &str) -> bool {
    text.len() > 1 && text.len() <= 256 && text.starts_with('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case::equal(json!(1), json!(1), true)]
    #[case::another_value(json!(1), json!(2), false)]
    #[case::present(json!({"present": true}), json!("x"), true)]
    #[case::null_is_absent(json!({"present": true}), json!(null), false)]
    #[case::not(json!({"not": "a"}), json!("b"), true)]
    #[case::not_equal(json!({"not": "a"}), json!("a"), false)]
    #[case::one_of(json!({"one_of": ["a", "b"]}), json!("b"), true)]
    #[case::none_of(json!({"one_of": ["a", "b"]}), json!("c"), false)]
    #[case::prefix(json!({"prefix": "sha256:"}), json!("sha256:00"), true)]
    #[case::hex(json!({"hex": 4}), json!("00ff"), true)]
    #[case::upper_case_is_no_hex(json!({"hex": 4}), json!("00FF"), false)]
    #[case::not_hex(json!({"not_hex": 4}), json!("00f"), true)]
    #[case::range(json!({"min": 1, "max": 3}), json!(3), true)]
    #[case::out_of_range(json!({"min": 1, "max": 3}), json!(4), false)]
    fn predicates(#[case] predicate: Value, #[case] found: Value, #[case] holds: bool) {
        let predicate = Predicate::try_from(predicate).expect("a predicate");
        assert_eq!(predicate.holds(Some(&found)), holds);
    }

    #[rstest]
    #[case::unknown_test(json!({"regex": "a"}))]
    #[case::no_test(json!({}))]
    #[case::fraction(json!(0.5))]
    fn not_a_predicate(#[case] predicate: Value) {
        assert!(Predicate::try_from(predicate).is_err());
    }

    #[rstest]
    #[case("custody.run.started.v1", true)]
    #[case("custody.run.*", true)]
    #[case("custody.run.begun.v1", false)]
    #[case("custody.task.*", false)]
    fn types_that_do_not_exist_are_refused(#[case] kind: &str, #[case] good: bool) {
        let pattern = Pattern { kind: kind.into(), fields: BTreeMap::new() };
        assert_eq!(pattern.problem().is_none(), good);
    }
}
