//! What the arguments of a call must satisfy: the tool's own constraints, and those of a grant. Must never let a value
//! through that the upstream could read as something else than what was compared: what is not in its plainest form fails.

use super::ToolRefusal;
use custody_contracts::tool::{Constraint, ConstraintOn};
use serde_json::Value;

/// The most values of one argument that is a list.
pub const VALUES_MAX: usize = 256;
/// The longest value of a recipient, path or host, in bytes.
pub const VALUE_BYTES_MAX: usize = 2_048;

/// Whose constraints they are; a refusal names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose<'a> {
    /// The tool document's.
    Tool(&'a str),
    /// A grant's, by id.
    Grant(&'a str),
}

/// Checks the arguments of a call against constraints. All of them must hold.
///
/// # Errors
/// The [`ToolRefusal`] of the first constraint that does not hold: it names whose it is, which one by its place (1 is
/// the first), and the argument.
pub fn check(constraints: &[Constraint], whose: Whose<'_>, args: &Value) -> Result<(), ToolRefusal> {
    for (place, constraint) in constraints.iter().enumerate() {
        holds(constraint, args).map_err(|why| {
            let whose = match whose {
                Whose::Tool(name) => format!("tool {name}"),
                Whose::Grant(id) => format!("grant {id}"),
            };
            let (on, at) = (constraint.on.as_str(), &constraint.argument);
            let detail = format!("constraint {} of {whose} ({on} at {at}): the argument {why}", place + 1);
            let hint = "give a value that the constraint allows, or tell the person what is needed";
            ToolRefusal::new(code(constraint.on), detail, hint)
        })?;
    }
    Ok(())
}

fn code(on: ConstraintOn) -> &'static str {
    match on {
        ConstraintOn::Recipient => "RECIPIENT_NOT_ALLOWED",
        ConstraintOn::Path => "PATH_NOT_ALLOWED",
        ConstraintOn::Amount => "AMOUNT_NOT_ALLOWED",
        ConstraintOn::Host => "HOST_NOT_ALLOWED",
    }
}

/// Why it does not hold: words after "the argument".
fn holds(constraint: &Constraint, args: &Value) -> Result<(), String> {
    let value = match args.pointer(&constraint.argument) {
        None | Some(Value::Null) => return Err("is absent".into()),
        Some(value) => value,
    };
    if constraint.on == ConstraintOn::Amount {
        return amount(constraint, value);
    }
    let values = match value {
        Value::String(one) => vec![one.as_str()],
        Value::Array(many) if many.is_empty() => return Err("is an empty list".into()),
        Value::Array(many) if many.len() > VALUES_MAX => return Err(format!("has more than {VALUES_MAX} values")),
        Value::Array(many) => {
            let texts: Option<Vec<&str>> = many.iter().map(Value::as_str).collect();
            texts.ok_or("holds something that is not a text")?
        }
        _ => return Err("is neither a text nor a list of texts".into()),
    };
    let allow = constraint.allow.as_deref().unwrap_or_default();
    values.into_iter().try_for_each(|value| one(constraint.on, allow, value))
}

fn amount(constraint: &Constraint, value: &Value) -> Result<(), String> {
    let Some(given) = value.as_f64() else { return Err("is not a number".into()) };
    let Some(most) = constraint.max.as_ref().and_then(serde_json::Number::as_f64) else {
        return Err("has no largest value".into());
    };
    if !(0.0..=most).contains(&given) {
        // No refusal repeats a value: it stands in the ledger in the clear, where nothing is erased.
        return Err(format!("does not lie between 0 and {most}"));
    }
    Ok(())
}

fn one(on: ConstraintOn, allow: &[String], given: &str) -> Result<(), String> {
    if given.len() > VALUE_BYTES_MAX {
        return Err(format!("is longer than {VALUE_BYTES_MAX} bytes"));
    }
    if given.chars().any(|c| c.is_control() || is_format(c)) {
        return Err("holds a control or an invisible character".into());
    }
    let plain = match on {
        ConstraintOn::Recipient => address(given)?,
        ConstraintOn::Path => path(given)?,
        ConstraintOn::Host => host(given)?,
        ConstraintOn::Amount => return Err("is not a number".into()),
    };
    // A pattern is for names. An address of a machine is one that somebody wrote down as it is.
    let by_number = on == ConstraintOn::Host && is_number(&plain);
    let allowed = allow.iter().any(|pattern| match on {
        ConstraintOn::Path => matches(pattern, &plain),
        _ if by_number => *pattern == plain,
        _ => matches(&pattern.to_ascii_lowercase(), &plain),
    });
    if allowed { Ok(()) } else { Err(format!("is not one of {}", allow.join(", "))) }
}

/// Characters that are not seen and can reorder or hide what is.
fn is_format(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Exactly one address and nothing around it: in a header, a comma, a name in quotes or a comment would make it another.
fn address(given: &str) -> Result<String, String> {
    let plain =
        |c: char| c.is_ascii_graphic() && !matches!(c, ',' | ';' | '<' | '>' | '"' | '(' | ')' | '[' | ']' | '\\');
    let one = given.matches('@').count() <= 1;
    if given.is_empty() || !one || !given.chars().all(plain) {
        return Err("is not one plain address".into());
    }
    Ok(given.to_ascii_lowercase())
}

/// A path as it is: nothing that climbs, stays, doubles or is written in another way.
fn path(given: &str) -> Result<String, String> {
    let inner = given.strip_prefix('/').unwrap_or(given);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    let odd = |part: &str| matches!(part, "" | "." | "..");
    if given.is_empty() || given.contains(['\\', '%', '?', '#']) || inner.split('/').any(odd) {
        return Err("is not a plain path".into());
    }
    Ok(given.to_owned())
}

/// The host of a URL, or the text itself: letters, digits, dots and hyphens, and nothing that hides another host.
fn host(given: &str) -> Result<String, String> {
    let rest = match given.split_once("://") {
        None => given,
        Some((scheme, rest)) => {
            if !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") {
                return Err("is a URL of another scheme than http and https".into());
            }
            rest.split(['/', '?', '#']).next().unwrap_or_default()
        }
    };
    let name = match rest.split_once(':') {
        None => rest,
        Some((name, port)) if !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()) => name,
        Some(_) => return Err("has no plain host".into()),
    };
    let good = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    // An unencoded backslash or a user before the host is what parsers differ about.
    if given.contains(['\\', '@']) || !name.split('.').all(good) {
        return Err("has no plain host".into());
    }
    Ok(name.to_ascii_lowercase())
}

/// Whether a host is a number in any of the forms that resolvers take: 127.0.0.1, 2130706433, 0x7f000001, 0177.0.0.1.
fn is_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    let hex = |t: &str| t.strip_prefix("0x").is_some_and(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
    last.bytes().all(|b| b.is_ascii_digit()) || hex(last)
}

/// Whether a text is of a pattern in which `*` stands for any run of characters. Linear in the text for each star.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn rule(on: &str, allow: &[&str]) -> Constraint {
        serde_json::from_value(json!({ "on": on, "argument": "/a", "allow": allow })).unwrap()
    }

    fn most(max: f64) -> Constraint {
        serde_json::from_value(json!({ "on": "amount", "argument": "/a", "max": max })).unwrap()
    }

    #[rstest]
    #[case::one("recipient", &["*@acme.test"], json!("bob@acme.test"), true)]
    #[case::in_another_case("recipient", &["*@Acme.test"], json!("Bob@ACME.test"), true)]
    #[case::several("recipient", &["*@acme.test"], json!(["bob@acme.test", "eve@acme.test"]), true)]
    #[case::one_of_several("recipient", &["*@acme.test"], json!(["bob@acme.test", "eve@evil.example"]), false)]
    #[case::a_stranger("recipient", &["*@acme.test"], json!("eve@evil.example"), false)]
    #[case::a_longer_domain("recipient", &["*@acme.test"], json!("bob@acme.test.evil.example"), false)]
    #[case::two_in_one_text("recipient", &["*@acme.test"], json!("eve@evil.example,bob@acme.test"), false)]
    #[case::two_at("recipient", &["*@acme.test"], json!("eve@evil.example@acme.test"), false)]
    #[case::a_name_before_it("recipient", &["*@acme.test"], json!("<eve@evil.example> bob@acme.test"), false)]
    #[case::a_new_line("recipient", &["*@acme.test"], json!("eve@evil.example\r\nCc: bob@acme.test"), false)]
    #[case::invisible("recipient", &["*"], json!("bob@acme.test\u{202e}"), false)]
    #[case::a_lookalike("recipient", &["*"], json!("bob@аcme.test"), false)]
    #[case::nobody("recipient", &["*"], json!([]), false)]
    #[case::no_text("recipient", &["*"], json!(1), false)]
    #[case::null("recipient", &["*"], json!(null), false)]
    #[case::a_list_of_lists("recipient", &["*"], json!([["bob@acme.test"]]), false)]
    #[case::a_channel("recipient", &["#general"], json!("#general"), true)]
    #[case::path("path", &["/public/*"], json!("/public/a/b.html"), true)]
    #[case::folder("path", &["notes/*"], json!("notes/a/"), true)]
    #[case::exactly("path", &["notes/today.md"], json!("notes/today.md"), true)]
    #[case::another_case("path", &["notes/*"], json!("Notes/a"), false)]
    #[case::up("path", &["/public/*"], json!("/public/../etc/passwd"), false)]
    #[case::stay("path", &["/public/*"], json!("/public/./a"), false)]
    #[case::double("path", &["/public/*"], json!("/public//a"), false)]
    #[case::encoded("path", &["/public/*"], json!("/public/%2e%2e/etc"), false)]
    #[case::backslash("path", &["/public/*"], json!("/public/..\\etc"), false)]
    #[case::query("path", &["/public/*"], json!("/public/a?b=../c"), false)]
    #[case::elsewhere("path", &["/public/*"], json!("/private/a"), false)]
    #[case::host("host", &["docs.acme.test"], json!("docs.acme.test"), true)]
    #[case::host_of_a_url("host", &["docs.acme.test"], json!("https://DOCS.acme.test:8443/a?b#c"), true)]
    #[case::any_below("host", &["*.acme.test"], json!("https://docs.acme.test/"), true)]
    #[case::the_domain_itself("host", &["*.acme.test"], json!("https://acme.test/"), false)]
    #[case::prefix("host", &["docs.acme.test"], json!("https://docs.acme.test.evil.example/"), false)]
    #[case::user_info("host", &["docs.acme.test"], json!("https://docs.acme.test@evil.example/"), false)]
    #[case::user_info_behind("host", &["*"], json!("https://docs.acme.test:443@evil.example/"), false)]
    #[case::backslash_url("host", &["*.acme.test"], json!("https://evil.example\\.acme.test/"), false)]
    #[case::other_scheme("host", &["*"], json!("file://docs.acme.test/"), false)]
    #[case::trailing_dot("host", &["*"], json!("https://docs.acme.test./"), false)]
    #[case::metadata("host", &["*"], json!("http://169.254.169.254/latest"), false)]
    #[case::decimal("host", &["*"], json!("http://2852039166/"), false)]
    #[case::hexadecimal("host", &["*"], json!("http://0xa9fea9fe/"), false)]
    #[case::octal("host", &["*"], json!("http://0251.0376.0251.0376/"), false)]
    #[case::v6("host", &["*"], json!("http://[::ffff:169.254.169.254]/"), false)]
    #[case::an_address_that_was_written_down("host", &["10.0.0.7"], json!("http://10.0.0.7/"), true)]
    #[case::empty("host", &["*"], json!(""), false)]
    #[case::most_values("recipient", &["*"], json!(vec!["a"; VALUES_MAX]), true)]
    #[case::more_values("recipient", &["*"], json!(vec!["a"; VALUES_MAX + 1]), false)]
    #[case::longest("path", &["*"], json!("x".repeat(VALUE_BYTES_MAX)), true)]
    #[case::longer("path", &["*"], json!("x".repeat(VALUE_BYTES_MAX + 1)), false)]
    fn a_text_is_one_that_is_allowed(
        #[case] on: &str,
        #[case] allow: &[&str],
        #[case] value: Value,
        #[case] good: bool,
    ) {
        let found = check(&[rule(on, allow)], Whose::Tool("t"), &json!({ "a": value }));
        assert_eq!(found.is_ok(), good, "{found:?}");
    }

    #[rstest]
    #[case::none(json!(0), true)]
    #[case::the_most(json!(100.5), true)]
    #[case::more(json!(100.51), false)]
    #[case::below_nothing(json!(-1), false)]
    #[case::a_text(json!("1"), false)]
    #[case::a_list(json!([1]), false)]
    #[case::very_much(json!(1e300), false)]
    fn an_amount_is_not_above_the_most(#[case] value: Value, #[case] good: bool) {
        assert_eq!(check(&[most(100.5)], Whose::Tool("t"), &json!({ "a": value })).is_ok(), good);
    }

    #[test]
    fn an_absent_argument_fails_and_the_refusal_names_the_rule() {
        let rules = [most(1.0), rule("host", &["acme.test"])];
        let refusal = check(&rules, Whose::Grant("g-1"), &json!({ "b": "acme.test" })).unwrap_err();
        assert_eq!(refusal.code, "AMOUNT_NOT_ALLOWED");
        assert_eq!(refusal.detail, "constraint 1 of grant g-1 (amount at /a): the argument is absent");
        let refusal = check(&rules[1..], Whose::Tool("web"), &json!({ "a": "evil.example" })).unwrap_err();
        assert_eq!(refusal.detail, "constraint 1 of tool web (host at /a): the argument is not one of acme.test");
        assert_eq!(check(&[], Whose::Tool("web"), &json!({})), Ok(()));
    }

    #[rstest]
    #[case("*", "", true)]
    #[case("a*", "a", true)]
    #[case("*a*b*", "xaxxbx", true)]
    #[case("*a*b", "ba", false)]
    #[case("a*a", "a", false)]
    #[case("ab", "abc", false)]
    #[case("**", "x", true)]
    fn a_star_is_any_run(#[case] pattern: &str, #[case] text: &str, #[case] good: bool) {
        assert_eq!(matches(pattern, text), good);
    }
}
