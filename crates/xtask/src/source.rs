//! Just enough of Rust's lexical grammar to look for a name in code and not in a comment, a string or a test. Must
//! never be used to decide what the code means.

/// The text with the insides of comments, strings and character literals blanked. Length and line breaks stay.
pub(crate) fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => block_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' | b'b' | b'c' if !in_word(bytes, at) => match raw_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            b'\'' => char_end(bytes, at),
            _ => {
                at += 1;
                continue;
            }
        };
        blank(&mut out[at..end]);
        at = end;
    }
    // Only whole literals and comments were replaced, and those by ASCII: what is left is still UTF-8.
    String::from_utf8_lossy(&out).into_owned()
}

/// The code (see [`code`]) with every item under `#[cfg(test)]` blanked.
pub(crate) fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = code.as_bytes().to_vec();
    let mut from = 0;
    while let Some(found) = code[from..].find(MARK) {
        let start = from + found;
        let end = item_end(code.as_bytes(), start + MARK.len());
        blank(&mut out[start..end]);
        from = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Every place where `word` stands alone: no letter, digit or underscore before or after it.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = code[..*at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// The number of the line that holds a byte, from 1.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Whether the file holds tests only, by its name.
pub(crate) fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// Whether the code has a test function of this name: `fn name(` under an attribute that makes it a test.
pub(crate) fn has_test(code: &str, name: &str) -> bool {
    let head = format!("fn {name}");
    words(code, &head).any(|at| {
        let before = &code[..at];
        let attributes = &before[before.rfind("fn ").map_or(0, |other| other + 3)..];
        ["#[test]", "::test]", "::test(", "#[rstest"].iter().any(|mark| attributes.contains(mark))
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn in_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn blank(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| **byte != b'\n') {
        *byte = b' ';
    }
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |n| at + n)
}

fn block_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0usize;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of `r"…"`, `r#"…"#`, `br"…"`, `b"…"`, `c"…"`; `None` if no string begins here.
fn raw_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + usize::from(bytes[start] != b'r');
    if bytes.get(at) != Some(&b'r') {
        return (bytes.get(at) == Some(&b'"')).then(|| string_end(bytes, at));
    }
    at += 1;
    let hashes = bytes[at..].iter().take_while(|byte| **byte == b'#').count();
    at += hashes;
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.extend(std::iter::repeat_n(b'#', hashes));
    let body = at + 1;
    Some(bytes[body..].windows(close.len()).position(|w| w == close).map_or(bytes.len(), |n| body + n + close.len()))
}

/// The end of a character literal, or of the quote alone when it begins a lifetime.
fn char_end(bytes: &[u8], at: usize) -> usize {
    if bytes.get(at + 1) == Some(&b'\\') {
        return bytes[at + 3..].iter().position(|byte| *byte == b'\'').map_or(bytes.len(), |n| at + 4 + n);
    }
    // A character is at most four bytes; a lifetime has no second quote right after its first character.
    let width = match bytes.get(at + 1) {
        Some(byte) if *byte >= 0xf0 => 4,
        Some(byte) if *byte >= 0xe0 => 3,
        Some(byte) if *byte >= 0xc0 => 2,
        _ => 1,
    };
    if bytes.get(at + 1 + width) == Some(&b'\'') { at + 2 + width } else { at + 1 }
}

/// The end of the item that follows its attributes: its closing brace, or its semicolon.
fn item_end(bytes: &[u8], mut at: usize) -> usize {
    let (mut braces, mut others) = (0usize, 0usize);
    while at < bytes.len() {
        match bytes[at] {
            b'{' => braces += 1,
            b'}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 && others == 0 {
                    return at + 1;
                }
            }
            b'(' | b'[' => others += 1,
            b')' | b']' => others = others.saturating_sub(1),
            b';' if braces == 0 && others == 0 => return at + 1,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::line_comment("a // std::fs\nb", false)]
    #[case::doc_comment("//! std::fs\n", false)]
    #[case::nested_block("/* /* x */ std::fs */ b", false)]
    #[case::string(r#"let x = "std::fs";"#, false)]
    #[case::escaped_quote(r#"let x = "\" std::fs";"#, false)]
    #[case::raw_string("let x = r#\"\" std::fs\"#;", false)]
    #[case::byte_string(r#"let x = b"std::fs";"#, false)]
    #[case::after_a_string(r#"let x = ""; std::fs::read()"#, true)]
    #[case::after_a_raw_string("let x = r#\"\"#; std::fs::read()", true)]
    #[case::after_a_quote_character("let x = '\"'; std::fs::read()", true)]
    #[case::after_an_escaped_character(r"let x = '\''; std::fs::read()", true)]
    #[case::after_a_lifetime("fn f<'a>(x: &'a str) { std::fs::read() }", true)]
    #[case::after_a_wide_character("let x = '…'; std::fs::read()", true)]
    #[case::after_a_name_that_ends_in_r("let bar = 1; std::fs::read()", true)]
    fn code_hides_words_and_keeps_code(#[case] text: &str, #[case] seen: bool) {
        let code = code(text);
        assert_eq!(code.len(), text.len());
        assert_eq!(words(&code, "std::fs").next().is_some(), seen, "{code}");
    }

    #[rstest]
    #[case::module("#[cfg(test)]\nmod tests { fn f() { now() } }\n", false)]
    #[case::module_file("#[cfg(test)]\nmod tests;\nfn f() { now() }", true)]
    #[case::more_attributes("#[cfg(test)]\n#[derive(Debug)]\nstruct A([u8; 4]);\nfn f() { now() }", true)]
    #[case::function("#[cfg(test)]\nfn f(a: [u8; 2]) -> u8 { now() }", false)]
    #[case::before_the_tests("fn f() { now() }\n#[cfg(test)]\nmod tests {}", true)]
    fn without_tests_blanks_the_item_and_nothing_more(#[case] text: &str, #[case] seen: bool) {
        assert_eq!(words(&without_tests(&code(text)), "now").next().is_some(), seen);
    }

    #[rstest]
    #[case::plain("#[test]\nfn it_holds() {}", true)]
    #[case::asynchronous("#[tokio::test(flavor = \"multi_thread\")]\nasync fn it_holds() {}", true)]
    #[case::table("#[rstest]\n#[case::a(1)]\nfn it_holds(#[case] a: u8) {}", true)]
    #[case::not_a_test("fn it_holds() {}", false)]
    #[case::attribute_of_another("#[test]\nfn other() {}\nfn it_holds() {}", false)]
    #[case::in_a_comment("// #[test] fn it_holds() {}", false)]
    #[case::longer_name("#[test]\nfn it_holds_twice() {}", false)]
    fn has_test_wants_the_function_and_its_attribute(#[case] text: &str, #[case] found: bool) {
        assert_eq!(has_test(&code(text), "it_holds"), found);
    }

    #[test]
    fn line_of_counts_from_one() {
        assert_eq!((line_of("a\nb", 0), line_of("a\nb", 2)), (1, 2));
    }
}
