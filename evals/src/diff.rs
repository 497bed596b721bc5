//! Field by field: where two JSON documents differ.

use serde::Serialize;
use serde_json::Value;

/// The most fields of one comparison that are told.
pub(crate) const FIELDS_MAX: usize = 20;

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldDiff {
    /// JSON pointer.
    pub pointer: String,
    /// What the log holds; `None` when it holds nothing there.
    pub recorded: Option<String>,
    /// What was computed now; `None` when nothing was.
    pub computed: Option<String>,
}

impl std::fmt::Display for FieldDiff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |v: &Option<String>| v.clone().unwrap_or_else(|| "nothing".into());
        write!(f, "{} is {} and comes out as {}", self.pointer, text(&self.recorded), text(&self.computed))
    }
}

/// Where two documents differ, in the order of the pointers, at most [`FIELDS_MAX`].
pub(crate) fn fields(recorded: &Value, computed: &Value) -> Vec<FieldDiff> {
    let mut out = Vec::new();
    walk(String::new(), Some(recorded), Some(computed), &mut out);
    out
}

fn walk(at: String, recorded: Option<&Value>, computed: Option<&Value>, out: &mut Vec<FieldDiff>) {
    if recorded == computed || out.len() >= FIELDS_MAX {
        return;
    }
    match (recorded, computed) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let step = key.replace('~', "~0").replace('/', "~1");
                walk(format!("{at}/{step}"), a.get(key), b.get(key), out);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for index in 0..a.len().max(b.len()) {
                walk(format!("{at}/{index}"), a.get(index), b.get(index), out);
            }
        }
        (a, b) => out.push(FieldDiff { pointer: at, recorded: a.map(shown), computed: b.map(shown) }),
    }
}

/// A value as text, cut to 160 characters.
pub(crate) fn shown(value: &Value) -> String {
    value.to_string().chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_difference_has_its_pointer() {
        let a = json!({"a": 1, "b": {"c": [1, 2]}, "gone": true, "x/y": 1});
        let b = json!({"a": 1, "b": {"c": [1, 3, 4]}, "new": "n", "x/y": 2});
        let found: Vec<_> = fields(&a, &b).into_iter().map(|d| (d.pointer, d.recorded, d.computed)).collect();
        let some = |t: &str| Some(t.to_owned());
        assert_eq!(
            found,
            [
                ("/b/c/1".to_owned(), some("2"), some("3")),
                ("/b/c/2".to_owned(), None, some("4")),
                ("/gone".to_owned(), some("true"), None),
                ("/new".to_owned(), None, some("\"n\"")),
                ("/x~1y".to_owned(), some("1"), some("2")),
            ]
        );
        assert!(fields(&a, &a).is_empty());
    }
}
