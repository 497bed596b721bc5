//! What a key does. Pure but for the state that it changes. Must never change anything outside the screen.

use super::app::{App, FILTER_MAX, Mode, Pane, Times};
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// Rows of one page.
const PAGE: isize = 20;

/// What is to be done after a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum After {
    /// Draw again.
    Draw,
    /// End.
    Quit,
    /// Put this into the clipboard.
    Copy(String),
}

/// Every key and what it does, as the help shows it.
pub(crate) const KEYS: &[(&str, &str)] = &[
    ("j k ↑ ↓", "next, previous"),
    ("PgUp PgDn", "twenty rows"),
    ("g G", "first, last"),
    ("f", "follow the newest"),
    ("Space", "pause, go on"),
    ("/", "filter; ↑ recalls"),
    ("!", "only refusals and failures"),
    ("n N", "next, previous of those"),
    ("Enter", "show it whole"),
    ("y", "copy its id"),
    ("t", "times: clock, age, whole"),
    ("w", "wrap long words"),
    ("m", "mark"),
    ("Tab", "other pane"),
    ("?", "this help"),
    ("q", "quit"),
];

/// Carries out one key.
pub(crate) fn press(app: &mut App, event: &Event) -> After {
    let Event::Key(key) = event else { return After::Draw };
    if key.kind == KeyEventKind::Release {
        return After::Draw;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
        return After::Quit;
    }
    if app.typing.is_some() {
        type_filter(app, key);
        return After::Draw;
    }
    if app.help {
        app.help = false;
        return After::Draw;
    }
    command(app, key)
}

fn type_filter(app: &mut App, key: &KeyEvent) {
    match key.code {
        KeyCode::Enter => app.take_filter(),
        KeyCode::Esc => app.typing = None,
        KeyCode::Up => app.recall(),
        KeyCode::Backspace => {
            if let Some(text) = &mut app.typing {
                text.pop();
            }
        }
        KeyCode::Char(c) => {
            if let Some(text) = app.typing.as_mut().filter(|t| t.chars().count() < FILTER_MAX && !c.is_control()) {
                text.push(c);
            }
        }
        _ => {}
    }
}

fn command(app: &mut App, key: &KeyEvent) -> After {
    match key.code {
        KeyCode::Char('q') => return After::Quit,
        KeyCode::Esc if app.detail => app.detail = false,
        KeyCode::Char('?') => app.help = true,
        KeyCode::Char('j') | KeyCode::Down => app.step(1),
        KeyCode::Char('k') | KeyCode::Up => app.step(-1),
        KeyCode::PageDown => app.step(PAGE),
        KeyCode::PageUp => app.step(-PAGE),
        KeyCode::Char('g') | KeyCode::Home => app.step(isize::MIN / 2),
        KeyCode::Char('G') | KeyCode::End => app.step(isize::MAX / 2),
        KeyCode::Char('f') => {
            app.follow = !app.follow;
            if app.follow {
                app.chosen = usize::MAX;
            }
        }
        KeyCode::Char(' ') => app.pause(),
        KeyCode::Char('/') => app.typing = Some(String::new()),
        KeyCode::Char('!') => {
            app.only_bad = !app.only_bad;
            app.chosen = usize::MAX;
        }
        KeyCode::Char('n') => app.next_bad(true),
        KeyCode::Char('N') => app.next_bad(false),
        KeyCode::Enter => app.detail = !app.detail,
        KeyCode::Char('y') => return id(app).map_or(After::Draw, After::Copy),
        KeyCode::Char('t') => {
            app.times = match app.times {
                Times::Clock => Times::Age,
                Times::Age => Times::Iso,
                Times::Iso => Times::Clock,
            };
        }
        KeyCode::Char('w') => app.wrap = !app.wrap,
        KeyCode::Char('m') => {
            if let Some(row) = app.row()
                && !app.marks.remove(&row.seq)
            {
                app.marks.insert(row.seq);
            }
        }
        KeyCode::Tab if app.mode == Mode::Top => {
            app.pane = if app.pane == Pane::Tail { Pane::Dispatches } else { Pane::Tail };
        }
        _ => {}
    }
    After::Draw
}

/// The id of what the eye is on: the dispatch, or the sequence of what belongs to none.
fn id(app: &App) -> Option<String> {
    if app.mode == Mode::Top && app.pane == Pane::Dispatches {
        return app.dispatch().map(|d| d.dispatch);
    }
    app.row().map(|row| row.dispatch.clone().unwrap_or_else(|| row.seq.to_string()))
}
