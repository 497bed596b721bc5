//! Two requests of the same agent at the same place of its conversation are the same but for what changes by itself: ids
//! that it makes up, dates, and what it calls its session. Must never make two different questions alike: names, words,
//! numbers and the order of everything stay.

use serde_json::Value;

/// Members of a request that name the session or the account, or that the gateway replaces anyway.
const IGNORED: [&str; 7] =
    ["model", "prompt_cache_key", "user", "metadata", "client_metadata", "safety_identifier", "stream_options"];

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A request without what changes by itself.
pub(super) fn request(document: &Value) -> Value {
    let mut document = value(document);
    if let Some(members) = document.as_object_mut() {
        for name in IGNORED {
            members.remove(name);
        }
    }
    document
}

fn value(given: &Value) -> Value {
    match given {
        Value::String(words) => Value::String(text(words)),
        Value::Array(items) => Value::Array(items.iter().map(value).collect()),
        Value::Object(members) => members.iter().map(|(name, inner)| (name.clone(), value(inner))).collect(),
        other => other.clone(),
    }
}

/// A text in which every id and date is one sign.
pub(super) fn text(given: &str) -> String {
    let mut out = String::with_capacity(given.len());
    // Numbers beside the name of a month or a day belong to the date.
    let mut in_date = false;
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.' | '_');
    let mut rest = given;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c: char| inside(c) != inside(first)).unwrap_or(rest.len());
        let (token, after) = rest.split_at(end);
        rest = after;
        if !inside(first) {
            in_date &= token.chars().all(|c| matches!(c, ' ' | ',' | '/'));
            out.push_str(token);
            continue;
        }
        let core = token.trim_end_matches(['.', ':', '-']);
        let tail = &token[core.len()..];
        let named = is_named_date(core);
        let small = core.len() <= 4 && core.bytes().all(|b| b.is_ascii_digit());
        match () {
            () if named => {
                in_date = true;
                out.push_str("<date>");
            }
            () if in_date && (small || is_time(core)) => out.push_str("<date>"),
            () if is_id(core) => out.push_str("<id>"),
            () if is_date(core) || is_time(core) => out.push_str("<date>"),
            () => out.push_str(core),
        }
        if !named {
            in_date &= small;
        }
        out.push_str(tail);
    }
    out
}

fn is_named_date(token: &str) -> bool {
    let full = [
        "january",
        "february",
        "march",
        "april",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ];
    let lower = token.to_ascii_lowercase();
    let capital = token.bytes().next().is_some_and(|b| b.is_ascii_uppercase());
    // "May" alone is a word more often than a month, but a date is what it is beside a number, and so is a name of a day.
    capital && (full.contains(&lower.as_str()) || MONTHS.contains(&lower.as_str()) || DAYS.contains(&lower.as_str()))
}

/// A UUID, or a long run of hexadecimal or decimal digits, alone or behind a short prefix and a sign.
fn is_id(token: &str) -> bool {
    let parts: Vec<&str> = token.split('-').collect();
    let hex = |part: &&str| part.bytes().all(|b| b.is_ascii_hexdigit());
    if parts.len() >= 5 && parts[parts.len() - 5..].iter().map(|p| p.len()).eq([8, 4, 4, 4, 12]) {
        return parts[parts.len() - 5..].iter().all(hex);
    }
    let last = token.rsplit(['_', '-']).next().unwrap_or(token);
    let has_digit = last.bytes().any(|b| b.is_ascii_digit());
    let digits = last.bytes().all(|b| b.is_ascii_digit());
    (has_digit && last.len() >= 16 && hex(&last)) || (digits && last.len() >= 10)
}

/// `2026-11-22`, also with a time behind it.
fn is_date(token: &str) -> bool {
    let bytes = token.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    bytes.len() >= 10
        && [0, 1, 2, 3, 5, 6, 8, 9].into_iter().all(digit)
        && bytes[4] == b'-'
        && bytes[7] == b'-'
        && bytes.get(10).is_none_or(|b| matches!(b, b'T' | b't' | b'-' | b'_'))
}

/// `21:00` and `21:00:00`, also with a fraction.
fn is_time(token: &str) -> bool {
    let parts: Vec<&str> = token.split(':').collect();
    let two = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    match parts.as_slice() {
        [h, m] => two(h) && two(m),
        [h, m, s] => {
            two(h)
                && two(m)
                && s.get(..2).is_some_and(|s| two(&s))
                && s.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        }
        _ => false,
    }
}

/// Where two documents differ first, as a JSON pointer.
pub(super) fn differs(a: &Value, b: &Value) -> Option<String> {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            names.into_iter().find_map(|name| match (a.get(name), b.get(name)) {
                (Some(a), Some(b)) => differs(a, b).map(|inner| format!("/{name}{inner}")),
                _ => Some(format!("/{name}")),
            })
        }
        (Value::Array(a), Value::Array(b)) => {
            let inner = a.iter().zip(b).enumerate().find_map(|(at, (a, b))| differs(a, b).map(|i| format!("/{at}{i}")));
            inner.or_else(|| (a.len() != b.len()).then(|| format!("/{}", a.len().min(b.len()))))
        }
        (a, b) => (a != b).then(String::new),
    }
}
