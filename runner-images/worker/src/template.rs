//! Fills `{{name}}` in a runner's templates, in one pass, so that text from a prompt is never itself a template.
//! Must never escape or quote: an argv element is one element whatever it holds.

use std::collections::BTreeMap;

/// The names a template may use, each with its value for this job.
pub type Values = BTreeMap<&'static str, String>;

/// Why a template cannot be filled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A name that this job has no value for.
    #[error("no value for {{{{{0}}}}}")]
    Unknown(String),
    /// `{{` that never closes.
    #[error("a {{{{ is not closed")]
    Unclosed,
}

/// The template with every `{{name}}` replaced.
///
/// Errors: [`TemplateError`] at the first name without a value, and for `{{` without `}}`.
pub fn fill(template: &str, values: &Values) -> Result<String, TemplateError> {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, tail) = after.split_once("}}").ok_or(TemplateError::Unclosed)?;
        let value = values.get(name).ok_or_else(|| TemplateError::Unknown(name.chars().take(64).collect()))?;
        filled.push_str(before);
        filled.push_str(value);
        rest = tail;
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn values() -> Values {
        BTreeMap::from([("prompt", "say {{model}}".to_owned()), ("model", "m1".to_owned()), ("session", String::new())])
    }

    #[rstest]
    #[case::plain("no braces", "no braces")]
    #[case::one("--model={{model}}", "--model=m1")]
    #[case::two("{{model}}/{{model}}", "m1/m1")]
    #[case::value_is_not_a_template("{{prompt}}", "say {{model}}")]
    #[case::empty_value("[{{session}}]", "[]")]
    #[case::json_closing_braces(r#"{"a":{"b":"{{model}}"}}"#, r#"{"a":{"b":"m1"}}"#)]
    #[case::non_ascii("é{{model}}é", "ém1é")]
    fn fills(#[case] template: &str, #[case] expected: &str) {
        assert_eq!(fill(template, &values()).unwrap(), expected);
    }

    #[rstest]
    #[case::unknown("{{token}}", TemplateError::Unknown("token".into()))]
    #[case::spaces_are_part_of_the_name("{{ model }}", TemplateError::Unknown(" model ".into()))]
    #[case::unclosed("{{model", TemplateError::Unclosed)]
    #[case::empty_name("{{}}", TemplateError::Unknown(String::new()))]
    fn refuses(#[case] template: &str, #[case] expected: TemplateError) {
        assert_eq!(fill(template, &values()).unwrap_err(), expected);
    }

    #[test]
    fn says_the_name_in_braces() {
        assert_eq!(TemplateError::Unknown("x".into()).to_string(), "no value for {{x}}");
    }
}
