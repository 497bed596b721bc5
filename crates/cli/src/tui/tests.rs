//! Screens as text, and what keys do to them.

use super::app::{App, Mode, Pane, ROWS_MAX};
use super::keys::{After, press};
use super::view::draw;
use custody_contracts::messages::AuditRow;
use custody_projections::dispatches::DispatchRow;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use rstest::rstest;

fn row(seq: u64, outcome: &str, object: &str) -> AuditRow {
    AuditRow {
        schema: "audit.v1".into(),
        seq,
        time: format!("2026-11-22T10:41:{:02}.000Z", seq % 60),
        kind: "run".into(),
        event_type: "custody.run.started.v1".into(),
        outcome: outcome.into(),
        dispatch: Some("d-7f3a".into()),
        subject: Some("u_jane".into()),
        launcher: Some("web-chat".into()),
        scope: None,
        grant: None,
        keyid: None,
        object: object.into(),
        id: format!("e-{seq}"),
    }
}

fn app(mode: Mode) -> App {
    let mut app = App::new(mode, false);
    app.now_ms = 1_795_344_120_000;
    for seq in 1..=4 {
        app.push_row(row(seq, if seq == 2 { "refused" } else { "ok" }, &format!("object {seq}")));
    }
    app
}

fn screen(app: &mut App, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, app)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

fn keys(app: &mut App, text: &str) -> After {
    let mut after = After::Draw;
    for c in text.chars() {
        let code = match c {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            '^' => KeyCode::Up,
            c => KeyCode::Char(c),
        };
        after = press(app, &Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    }
    after
}

#[test]
fn the_tail_is_a_table_with_a_footer() {
    let lines = screen(&mut app(Mode::Tail), 110, 8);
    let wanted = [
        " tail · 4 rows ",
        " TIME     SEQ     KIND                   OUTCOME  SUBJECT      DISPATCH               OBJECT",
        " 10:41:01 1       run.started            ok       u_jane       d-7f3a                 object 1",
        " 10:41:02 2       run.started            refused  u_jane       d-7f3a                 object 2",
        " 10:41:03 3       run.started            ok       u_jane       d-7f3a                 object 3",
        " 10:41:04 4       run.started            ok       u_jane       d-7f3a                 object 4",
    ];
    for (line, wanted) in lines.iter().zip(wanted) {
        assert!(line.starts_with(wanted.trim_end()), "{line:?} is not {wanted:?}\n{}", lines.join("\n"));
    }
    assert!(lines[7].starts_with(" LIVE   ? help"), "{}", lines[7]);
}

#[test]
fn top_has_dispatches_above_the_tail_and_the_chosen_one_whole() {
    let mut app = app(Mode::Top);
    let dispatch = DispatchRow {
        dispatch: "d-7f3a".into(),
        what: "Summarise the notes".into(),
        launcher: "web-chat".into(),
        subject: Some("u_jane".into()),
        decided_at: "2026-11-22T10:40:00.000Z".into(),
        first_seq: 1,
        ..DispatchRow::default()
    };
    app.put_dispatches(vec![serde_json::to_value(dispatch).unwrap()]);
    keys(&mut app, "\n");
    let text = screen(&mut app, 110, 28).join("\n");
    for part in ["dispatches · 1 at work · 1 known", "queued", "Summarise the notes", "tail · 4 rows", "first_seq"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert_eq!(keys(&mut app, "y"), After::Copy("d-7f3a".into()));
    keys(&mut app, "\t");
    assert_eq!(app.pane, Pane::Tail);
}

#[rstest]
#[case::tiny(19, 4, "too small")]
#[case::narrow(40, 6, "tail")]
#[case::wide(250, 60, "object 4")]
fn every_size_shows_something(#[case] width: u16, #[case] height: u16, #[case] part: &str) {
    assert!(screen(&mut app(Mode::Tail), width, height).join("\n").contains(part));
    screen(&mut app(Mode::Top), width, height);
}

#[test]
fn a_pause_counts_and_loses_nothing() {
    let mut app = app(Mode::Tail);
    keys(&mut app, " ");
    for seq in 5..=136 {
        app.push_row(row(seq, "ok", "later"));
    }
    assert!(screen(&mut app, 100, 8)[7].contains("PAUSED +132"));
    assert_eq!(app.shown().len(), 4);
    keys(&mut app, " ");
    assert_eq!(app.shown().len(), 136);
    assert_eq!(app.row().unwrap().seq, 136);
}

#[test]
fn a_filter_works_whether_or_not_it_follows_and_is_recalled() {
    let mut app = app(Mode::Tail);
    keys(&mut app, "f/object 3\n");
    assert_eq!(app.shown().iter().map(|r| r.seq).collect::<Vec<_>>(), [3]);
    app.push_row(row(5, "ok", "object 3 again"));
    assert_eq!(app.shown().len(), 2);
    keys(&mut app, "/nothing of it\n");
    assert!(screen(&mut app, 100, 8).join("\n").contains("nothing passes the filter"));
    keys(&mut app, "/^^\n");
    assert_eq!(app.filter, "object 3");
    keys(&mut app, "/\n!");
    assert_eq!(app.shown().iter().map(|r| r.seq).collect::<Vec<_>>(), [2]);
}

#[test]
fn refusals_are_found_in_both_directions() {
    let mut app = app(Mode::Tail);
    app.push_row(row(5, "failed", "object 5"));
    keys(&mut app, "gn");
    assert_eq!(app.row().unwrap().seq, 2);
    keys(&mut app, "n");
    assert_eq!(app.row().unwrap().seq, 5);
    keys(&mut app, "N");
    assert_eq!(app.row().unwrap().seq, 2);
    assert!(!app.follow);
    keys(&mut app, "mf");
    assert!(app.marks.contains(&2) && app.follow && app.row().unwrap().seq == 5);
}

#[test]
fn the_ring_is_bounded_and_says_where_the_rest_is() {
    let mut app = App::new(Mode::Tail, false);
    for seq in 1..=(ROWS_MAX as u64 + 7) {
        app.push_row(row(seq, "ok", "x"));
    }
    assert_eq!((app.shown().len(), app.let_go), (ROWS_MAX, 7));
    assert!(screen(&mut app, 100, 8)[0].contains("7 older rows: custody audit ls"));
}

#[test]
fn nothing_from_outside_moves_the_cursor() {
    let mut app = app(Mode::Tail);
    app.push_row(row(9, "ok", "\u{1b}[2Jgone\u{7}"));
    assert!(!screen(&mut app, 120, 10).join("").contains('\u{1b}'));
}

#[test]
fn help_lists_the_keys_and_any_key_leaves_it() {
    let mut app = app(Mode::Tail);
    keys(&mut app, "?");
    assert!(screen(&mut app, 80, 24).join("\n").contains("only refusals and failures"));
    assert_eq!(keys(&mut app, "q"), After::Draw);
    assert_eq!(keys(&mut app, "q"), After::Quit);
}
