//! Names of scenarios and of the files in them. Must never let a name reach a path that was not checked here.

/// Whether a text names a scenario: a stage digit, a sign, and a claim in `[a-z0-9-]`, at most 64 characters.
pub(crate) fn is_scenario(name: &str) -> bool {
    let bytes = name.as_bytes();
    name.len() <= 64
        && bytes.first().is_some_and(u8::is_ascii_digit)
        && bytes.get(1) == Some(&b'-')
        && bytes.len() > 2
        && is_word(name)
}

/// Whether a text is 1 to 64 of `[a-z0-9-]`.
pub(crate) fn is_word(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("1-second-turn-resumes", true)]
    #[case("10-two-digits", false)]
    #[case("1-", false)]
    #[case("../1-x", false)]
    #[case("1-Upper", false)]
    #[case("", false)]
    fn scenario_names(#[case] name: &str, #[case] good: bool) {
        assert_eq!(is_scenario(name), good);
    }
}
