//! Schemas that stand alone: every reference from one contract into another is followed and put beside it, so that a
//! reader without this catalogue can check the same documents. Must never resolve a reference outside the catalogue.

use crate::catalogue::{self, ALL};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// One `$defs` entry of a contract.
pub(crate) type Place = (String, String);

/// `unit.v1.Invocation`: the key of a place in a bundle.
pub(crate) fn key(contract: &str, definition: &str) -> String {
    [contract, ".", definition].concat()
}

/// Every shape of every contract as a JSON Schema 2020-12 that refers to nothing outside itself, by `unit.v1.Invocation`.
pub fn schemas() -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    for contract in ALL {
        for shape in catalogue::shapes(contract.name).unwrap_or_default() {
            let key = key(contract.name, shape);
            let definitions = closure(&[(contract.name.to_owned(), shape.clone())], "#/$defs/");
            let schema = json!({
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "$id": format!("custody:bundle/{key}"),
                "title": key,
                "$ref": format!("#/$defs/{key}"),
                "$defs": definitions.into_iter().collect::<Map<_, _>>(),
            });
            out.insert(key, schema);
        }
    }
    out
}

/// These definitions and everything that they refer to, each reference now `prefix` and a key of the result.
pub(crate) fn closure(roots: &[Place], prefix: &str) -> BTreeMap<String, Value> {
    let documents: BTreeMap<&str, Value> =
        ALL.iter().filter_map(|c| Some((c.name, serde_json::from_str(c.schema).ok()?))).collect();
    let mut wanted: Vec<Place> = roots.to_vec();
    let mut out = BTreeMap::new();
    while let Some((contract, definition)) = wanted.pop() {
        let key = key(&contract, &definition);
        if out.contains_key(&key) {
            continue;
        }
        let found = documents.get(contract.as_str()).and_then(|d| d.get("$defs")?.get(&definition));
        if let Some(found) = found {
            out.insert(key, localised(found, &contract, prefix, &mut wanted));
        }
    }
    out
}

/// A schema with its references rewritten; what they point at is added to `wanted`. A reference with keywords beside it
/// becomes an `allOf`, because readers of older drafts ignore what stands beside `$ref`.
fn localised(value: &Value, own: &str, prefix: &str, wanted: &mut Vec<Place>) -> Value {
    match value {
        Value::Object(map) => {
            let mut out: Map<String, Value> = map
                .iter()
                .filter(|(name, inner)| name.as_str() != "$ref" || !inner.is_string())
                .map(|(name, inner)| (name.clone(), localised(inner, own, prefix, wanted)))
                .collect();
            let Some(place) = map.get("$ref").and_then(Value::as_str).and_then(|r| place(r, own)) else {
                return Value::Object(out);
            };
            let reference = json!({ "$ref": format!("{prefix}{}", key(&place.0, &place.1)) });
            wanted.push(place);
            if out.is_empty() {
                return reference;
            }
            out.insert("allOf".to_owned(), json!([reference]));
            Value::Object(out)
        }
        Value::Array(items) => items.iter().map(|item| localised(item, own, prefix, wanted)).collect(),
        scalar => scalar.clone(),
    }
}

/// Where a reference of a contract points.
fn place(reference: &str, own: &str) -> Option<Place> {
    let (contract, definition) = reference.split_once("#/$defs/")?;
    let contract = contract.strip_prefix("custody:").unwrap_or(own);
    Some((contract.to_owned(), definition.to_owned()))
}
