//! Two JSON Schemas, compared keyword by keyword. A change is additive only when every document that was valid provably
//! stays valid; whatever cannot be shown is breaking. Must never call a change harmless because it is not understood.

use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// What a change does to documents that were valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Effect {
    /// They stay valid.
    Additive,
    /// Some may not be any more.
    Breaking,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Change {
    /// JSON pointer into the newer schema; into the older one for what was removed.
    pub(super) path: String,
    /// What changed, in a few words.
    pub(super) change: String,
    /// What that does.
    pub(super) effect: Effect,
}

/// Keywords that describe and never judge. Source: JSON Schema 2020-12, validation, section 9.
const ANNOTATIONS: [&str; 9] =
    ["$comment", "$schema", "default", "deprecated", "description", "examples", "readOnly", "title", "writeOnly"];
/// Keywords that are a lower limit.
const MINIMA: [&str; 5] = ["minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"];
/// Keywords that are an upper limit.
const MAXIMA: [&str; 5] = ["maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"];
/// Keywords that hold one schema which every judged part must meet.
const SCHEMAS: [&str; 3] = ["items", "propertyNames", "unevaluatedProperties"];

/// The changes from one schema to another, in the order of their paths.
pub(super) fn diff(a: &Value, b: &Value) -> Vec<Change> {
    let mut walk = Walk { id_a: id(a), id_b: id(b), changes: Vec::new() };
    walk.schema("", a, b);
    walk.changes
}

fn id(schema: &Value) -> String {
    schema.get("$id").and_then(Value::as_str).unwrap_or_default().to_owned()
}

struct Walk {
    id_a: String,
    id_b: String,
    changes: Vec<Change>,
}

fn names(value: Option<&Value>) -> BTreeSet<String> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items.map(|i| i.as_str().map_or_else(|| i.to_string(), str::to_owned)).collect()
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "none".to_owned(), |v| v.to_string().chars().take(80).collect())
}

/// A type list with what it implies: every integer is a number.
fn types(value: Option<&Value>) -> Option<BTreeSet<String>> {
    let mut set = match value? {
        Value::String(one) => BTreeSet::from([one.clone()]),
        many => names(Some(many)),
    };
    if set.contains("number") {
        set.insert("integer".into());
    }
    Some(set)
}

fn child(path: &str, name: &str) -> String {
    [path, "/", &name.replace('~', "~0").replace('/', "~1")].concat()
}

impl Walk {
    fn note(&mut self, path: &str, change: String, effect: Effect) {
        self.changes.push(Change { path: path.to_owned(), change, effect });
    }

    fn schema(&mut self, path: &str, a: &Value, b: &Value) {
        match (a, b) {
            _ if a == b => {}
            (Value::Object(a), Value::Object(b)) => self.object(path, a, b),
            (Value::Bool(false), _) | (_, Value::Bool(true)) => {
                self.note(path, "takes more than before".into(), Effect::Additive);
            }
            _ => self.note(path, format!("was {}, is {}", shown(Some(a)), shown(Some(b))), Effect::Breaking),
        }
    }

    fn object(&mut self, path: &str, a: &Map<String, Value>, b: &Map<String, Value>) {
        let keywords: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for keyword in keywords {
            let (was, is) = (a.get(keyword), b.get(keyword));
            if was != is {
                self.keyword(path, keyword, (a, was), (b, is));
            }
        }
    }

    fn keyword(
        &mut self,
        path: &str,
        keyword: &str,
        (a, was): (&Map<String, Value>, Option<&Value>),
        (b, is): (&Map<String, Value>, Option<&Value>),
    ) {
        let at = child(path, keyword);
        match keyword {
            "$id" => {}
            "$ref" => self.reference(&at, was, is),
            "type" => self.widened(&at, types(was), types(is)),
            "enum" => self.widened(&at, was.map(|v| names(Some(v))), is.map(|v| names(Some(v)))),
            "required" => self.required(&at, &names(was), &names(is)),
            "properties" => self.properties(&at, (a, was), (b, is)),
            "additionalProperties" => self.additional(&at, was, is),
            "$defs" => self.definitions(&at, was, is),
            "anyOf" => self.any_of(&at, was, is),
            "x-shapes" => self.shapes(&at, &names(was), &names(is)),
            _ if ANNOTATIONS.contains(&keyword) => {
                self.note(&at, "the description changed".into(), Effect::Additive);
            }
            _ if MINIMA.contains(&keyword) => self.limit(&at, was, is, |was, is| is <= was),
            _ if MAXIMA.contains(&keyword) => self.limit(&at, was, is, |was, is| is >= was),
            _ if SCHEMAS.contains(&keyword) => {
                self.schema(&at, was.unwrap_or(&Value::Bool(true)), is.unwrap_or(&Value::Bool(true)));
            }
            _ => self.other(&at, keyword, was, is),
        }
    }

    /// A keyword of which only its absence is understood: taking a condition away never refuses anything.
    fn other(&mut self, at: &str, keyword: &str, was: Option<&Value>, is: Option<&Value>) {
        let condition = ["pattern", "format", "const", "multipleOf", "uniqueItems", "not", "contains", "allOf"];
        let gone = is.is_none() || (keyword == "uniqueItems" && is == Some(&Value::Bool(false)));
        if gone && condition.contains(&keyword) {
            self.note(at, "the condition is gone".into(), Effect::Additive);
        } else {
            self.note(at, format!("was {}, is {}", shown(was), shown(is)), Effect::Breaking);
        }
    }

    fn reference(&mut self, at: &str, was: Option<&Value>, is: Option<&Value>) {
        // A new version has a new `$id`; a reference into itself is the same reference.
        let own = |value: Option<&Value>, id: &str| {
            let text = value.and_then(Value::as_str).unwrap_or_default();
            text.strip_prefix(id).filter(|_| !id.is_empty()).unwrap_or(text).to_owned()
        };
        let (from, to) = (own(was, &self.id_a), own(is, &self.id_b));
        if from != to || was.is_none() || is.is_none() {
            self.note(at, format!("refers to {}, was {}", shown(is), shown(was)), Effect::Breaking);
        }
    }

    /// A set of what is taken; no set takes everything.
    fn widened(&mut self, at: &str, was: Option<BTreeSet<String>>, is: Option<BTreeSet<String>>) {
        let (change, effect) = match (was, is) {
            (_, None) => ("any value is taken now".to_owned(), Effect::Additive),
            (None, Some(is)) => (format!("only {} now", list(&is)), Effect::Breaking),
            (Some(was), Some(is)) if was == is => return,
            (Some(was), Some(is)) => {
                let (more, less): (BTreeSet<_>, BTreeSet<_>) =
                    (is.difference(&was).cloned().collect(), was.difference(&is).cloned().collect());
                match less.is_empty() {
                    true => (format!("also {}", list(&more)), Effect::Additive),
                    false => (format!("no longer {}", list(&less)), Effect::Breaking),
                }
            }
        };
        self.note(at, change, effect);
    }

    fn required(&mut self, at: &str, was: &BTreeSet<String>, is: &BTreeSet<String>) {
        for name in is.difference(was) {
            self.note(at, format!("{name} is required now"), Effect::Breaking);
        }
        for name in was.difference(is) {
            self.note(at, format!("{name} is optional now"), Effect::Additive);
        }
    }

    fn properties(
        &mut self,
        at: &str,
        (a, was): (&Map<String, Value>, Option<&Value>),
        (b, is): (&Map<String, Value>, Option<&Value>),
    ) {
        let empty = Map::new();
        let was = was.and_then(Value::as_object).unwrap_or(&empty);
        let is = is.and_then(Value::as_object).unwrap_or(&empty);
        for (name, schema) in is {
            let path = child(at, name);
            match was.get(name) {
                Some(before) => self.schema(&path, before, schema),
                None if a.get("additionalProperties") == Some(&Value::Bool(false)) => {
                    self.note(&path, "the property is new".into(), Effect::Additive);
                }
                None => self.note(&path, "what was free is a property now".into(), Effect::Breaking),
            }
        }
        for name in was.keys().filter(|name| !is.contains_key(*name)) {
            // Where anything else may stand, a property that is no longer named may too.
            let free = matches!(b.get("additionalProperties"), None | Some(Value::Bool(true)));
            let effect = if free { Effect::Additive } else { Effect::Breaking };
            self.note(&child(at, name), "the property is gone".into(), effect);
        }
    }

    fn additional(&mut self, at: &str, was: Option<&Value>, is: Option<&Value>) {
        let anything = Value::Bool(true);
        let (was, is) = (was.unwrap_or(&anything), is.unwrap_or(&anything));
        match (was, is) {
            (Value::Bool(true), Value::Bool(false)) => {
                self.note(at, "other properties are refused now".into(), Effect::Breaking);
            }
            (Value::Bool(false), _) => self.note(at, "other properties are taken now".into(), Effect::Additive),
            _ => self.schema(at, was, is),
        }
    }

    fn definitions(&mut self, at: &str, was: Option<&Value>, is: Option<&Value>) {
        let empty = Map::new();
        let was = was.and_then(Value::as_object).unwrap_or(&empty);
        let is = is.and_then(Value::as_object).unwrap_or(&empty);
        for (name, schema) in is {
            let path = child(at, name);
            match was.get(name) {
                Some(before) => self.schema(&path, before, schema),
                None => self.note(&path, "the definition is new".into(), Effect::Additive),
            }
        }
        for name in was.keys().filter(|name| !is.contains_key(*name)) {
            self.note(&child(at, name), "the definition is gone".into(), Effect::Breaking);
        }
    }

    /// Branches of which one must fit: every old one must still be there.
    fn any_of(&mut self, at: &str, was: Option<&Value>, is: Option<&Value>) {
        let (Some(was), Some(is)) = (was.and_then(Value::as_array), is.and_then(Value::as_array)) else {
            return self.other(at, "anyOf", was, is);
        };
        for (index, branch) in was.iter().enumerate() {
            match is.get(index) {
                _ if is.contains(branch) => {}
                Some(now) => self.schema(&child(at, &index.to_string()), branch, now),
                None => self.note(&child(at, &index.to_string()), "the branch is gone".into(), Effect::Breaking),
            }
        }
        for (index, _) in is.iter().enumerate().skip(was.len()) {
            self.note(&child(at, &index.to_string()), "the branch is new".into(), Effect::Additive);
        }
    }

    fn shapes(&mut self, at: &str, was: &BTreeSet<String>, is: &BTreeSet<String>) {
        for name in is.difference(was) {
            self.note(at, format!("shape {name} is new"), Effect::Additive);
        }
        for name in was.difference(is) {
            self.note(at, format!("shape {name} is gone"), Effect::Breaking);
        }
    }

    fn limit(&mut self, at: &str, was: Option<&Value>, is: Option<&Value>, looser: impl Fn(f64, f64) -> bool) {
        let number = |value: Option<&Value>| value.and_then(Value::as_f64);
        let effect = match (number(was), number(is)) {
            (_, None) if is.is_none() => Effect::Additive,
            (Some(was), Some(is)) if looser(was, is) => Effect::Additive,
            _ => Effect::Breaking,
        };
        self.note(at, format!("was {}, is {}", shown(was), shown(is)), effect);
    }
}

fn list(items: &BTreeSet<String>) -> String {
    items.iter().cloned().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use Effect::{Additive, Breaking};
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case::a_type_more(json!({"type":"string"}), json!({"type":["string","null"]}), Some(Additive))]
    #[case::a_type_less(json!({"type":["string","null"]}), json!({"type":"string"}), Some(Breaking))]
    #[case::integers_are_numbers(json!({"type":"integer"}), json!({"type":"number"}), Some(Additive))]
    #[case::numbers_are_not_integers(json!({"type":"number"}), json!({"type":"integer"}), Some(Breaking))]
    #[case::a_type_at_all(json!({}), json!({"type":"string"}), Some(Breaking))]
    #[case::a_word_more(json!({"enum":["a"]}), json!({"enum":["a","b"]}), Some(Additive))]
    #[case::a_word_less(json!({"enum":["a","b"]}), json!({"enum":["a"]}), Some(Breaking))]
    #[case::required(json!({"required":["a"]}), json!({"required":["a","b"]}), Some(Breaking))]
    #[case::optional(json!({"required":["a","b"]}), json!({"required":["a"]}), Some(Additive))]
    #[case::a_property_of_a_closed_object(
        json!({"additionalProperties":false,"properties":{}}),
        json!({"additionalProperties":false,"properties":{"a":{}}}), Some(Additive))]
    #[case::a_property_of_an_open_object(json!({"properties":{}}), json!({"properties":{"a":{"type":"string"}}}), Some(Breaking))]
    #[case::a_property_gone_from_a_closed_object(
        json!({"additionalProperties":false,"properties":{"a":{}}}),
        json!({"additionalProperties":false,"properties":{}}), Some(Breaking))]
    #[case::closed(json!({"additionalProperties":true}), json!({"additionalProperties":false}), Some(Breaking))]
    #[case::opened(json!({"additionalProperties":false}), json!({}), Some(Additive))]
    #[case::higher(json!({"maxLength":5}), json!({"maxLength":9}), Some(Additive))]
    #[case::lower(json!({"maxLength":9}), json!({"maxLength":5}), Some(Breaking))]
    #[case::a_new_limit(json!({}), json!({"minItems":1}), Some(Breaking))]
    #[case::no_limit(json!({"minItems":1}), json!({}), Some(Additive))]
    #[case::a_pattern(json!({"pattern":"a"}), json!({"pattern":"b"}), Some(Breaking))]
    #[case::a_pattern_gone(json!({"pattern":"a"}), json!({}), Some(Additive))]
    #[case::a_branch_of_any(json!({"anyOf":[{"const":1}]}), json!({"anyOf":[{"const":1},{"const":2}]}), Some(Additive))]
    #[case::a_branch_of_one(json!({"oneOf":[{"const":1}]}), json!({"oneOf":[{"const":1},{"const":2}]}), Some(Breaking))]
    #[case::a_definition(json!({"$defs":{}}), json!({"$defs":{"A":{}}}), Some(Additive))]
    #[case::a_definition_gone(json!({"$defs":{"A":{}}}), json!({"$defs":{}}), Some(Breaking))]
    #[case::a_shape_gone(json!({"x-shapes":["A"]}), json!({"x-shapes":[]}), Some(Breaking))]
    #[case::words(json!({"description":"a"}), json!({"description":"b"}), Some(Additive))]
    #[case::not_understood(json!({"x-strange":1}), json!({"x-strange":2}), Some(Breaking))]
    #[case::inside(json!({"items":{"type":"string"}}), json!({"items":{"type":"integer"}}), Some(Breaking))]
    #[case::own_reference(
        json!({"$id":"custody:a.v1","$defs":{"X":{"$ref":"custody:a.v1#/$defs/Y"}}}),
        json!({"$id":"custody:a.v2","$defs":{"X":{"$ref":"custody:a.v2#/$defs/Y"}}}), None)]
    #[case::another_reference(json!({"$ref":"#/$defs/A"}), json!({"$ref":"#/$defs/B"}), Some(Breaking))]
    #[case::the_same(json!({"type":"string"}), json!({"type":"string"}), None)]
    fn one_change(#[case] a: Value, #[case] b: Value, #[case] effect: Option<Effect>) {
        let changes = diff(&a, &b);
        let found: Vec<Effect> = changes.iter().map(|c| c.effect).collect();
        assert_eq!(found, effect.into_iter().collect::<Vec<_>>(), "{changes:?}");
    }

    #[test]
    fn the_path_is_a_json_pointer() {
        let a = json!({"$defs":{"A":{"properties":{"a/b":{"type":"string"}}}}});
        let b = json!({"$defs":{"A":{"properties":{"a/b":{"type":"null"}}}}});
        assert_eq!(diff(&a, &b)[0].path, "/$defs/A/properties/a~1b/type");
    }

    #[test]
    fn no_contract_differs_from_itself() {
        for contract in custody_contracts::catalogue::ALL {
            let schema: Value = serde_json::from_str(contract.schema).unwrap();
            assert_eq!(diff(&schema, &schema), []);
        }
    }
}
