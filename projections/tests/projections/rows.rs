//! Text from outside in a row: cut, on one line, and unable to move a cursor or turn the reading direction.

use crate::fixtures::{Log, event, recorded};
use custody_projections::row::{audit_row, plain};
use rstest::rstest;
use serde_json::json;

#[rstest]
#[case::plain("web chat", 20, "web chat")]
#[case::cut("web chat", 3, "web")]
#[case::cut_by_characters("ééé", 2, "éé")]
#[case::a_line("a\nb\r\nc", 20, "a\u{fffd}b\u{fffd}\u{fffd}c")]
#[case::an_escape("\u{1b}[2Jgone", 20, "\u{fffd}[2Jgone")]
#[case::a_control_of_c1("\u{9b}31m", 20, "\u{fffd}31m")]
#[case::reading_direction("a\u{202e}b\u{2066}c", 20, "a\u{fffd}b\u{fffd}c")]
#[case::without_width("a\u{200b}b\u{feff}", 20, "a\u{fffd}b\u{fffd}")]
#[case::empty("", 20, "")]
fn text_from_outside_is_shown_plain(#[case] text: &str, #[case] max: usize, #[case] expected: &str) {
    assert_eq!(plain(text, max), expected);
}

#[test]
fn a_row_is_short_and_on_one_line_whatever_the_event_says() {
    let mut log = Log::default();
    let detail = "\u{1b}[31m\n".repeat(500);
    log.say("d-1", &[event("DispatchRefused", &json!({ "dispatch": "d-1", "detail": detail }))]);
    let row = audit_row(&recorded(&log.messages)[0]);
    assert_eq!((row.outcome.as_str(), row.object.chars().count()), ("refused", 200));
    assert!(!row.object.chars().any(char::is_control));
    assert!(row.object.starts_with("LAUNCHER_UNKNOWN: "));
}
