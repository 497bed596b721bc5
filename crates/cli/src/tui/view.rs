//! How the state is drawn. Must never put text from outside on the screen that was not made plain.

use super::app::{App, Mode, Pane, age};
use super::keys::KEYS;
use custody_contracts::messages::AuditRow;
use custody_projections::dispatches::{DispatchRow, Status};
use custody_projections::row::plain;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, Wrap};

/// The narrowest and lowest screen on which something is shown.
const SMALLEST: (u16, u16) = (20, 5);

/// Draws everything.
pub(crate) fn draw(frame: &mut Frame<'_>, app: &mut App) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        frame.render_widget(Paragraph::new("too small"), area);
        return;
    }
    let [body, foot] = Layout::vertical([Constraint::Min(3), Constraint::Length(1)]).areas(area);
    let detail = if app.detail { (body.height / 2).max(3) } else { 0 };
    let [lists, whole] = Layout::vertical([Constraint::Min(2), Constraint::Length(detail)]).areas(body);
    if app.mode == Mode::Top {
        let [above, below] = Layout::vertical([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(lists);
        dispatches(frame, app, above);
        tail(frame, app, below);
    } else {
        tail(frame, app, lists);
    }
    if app.detail {
        one(frame, app, whole);
    }
    frame.render_widget(Paragraph::new(footer(app)).style(style(app, Color::Reset, Modifier::REVERSED)), foot);
    if app.help {
        help(frame, area);
    }
}

fn style(app: &App, color: Color, modifier: Modifier) -> Style {
    let style = Style::default().add_modifier(modifier);
    if app.color { style.fg(color) } else { style }
}

/// The outcome's word stays; its colour is only beside it.
fn outcome(app: &App, word: &str) -> Style {
    match word {
        "ok" | "completed" => style(app, Color::Green, Modifier::empty()),
        "refused" | "failed" | "ended" => style(app, Color::Red, Modifier::BOLD),
        _ => style(app, Color::Yellow, Modifier::empty()),
    }
}

fn cell(text: &str, width: usize) -> String {
    let text = plain(text, width.max(1));
    format!("{text:<width$} ")
}

fn window(chosen: usize, len: usize, height: usize) -> (usize, usize) {
    let chosen = chosen.min(len.saturating_sub(1));
    let first = (chosen + 1).saturating_sub(height).min(len.saturating_sub(height.min(len)));
    (first, chosen)
}

fn titled<'a>(app: &App, title: String, active: bool) -> Block<'a> {
    let modifier = if active { Modifier::BOLD } else { Modifier::DIM };
    Block::default().borders(Borders::TOP).title(title).border_style(style(app, Color::Reset, modifier))
}

fn tail(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let shown = app.shown();
    let height = usize::from(area.height.saturating_sub(2));
    let (first, chosen) = window(app.chosen, shown.len(), height);
    let active = app.mode == Mode::Tail || app.pane == Pane::Tail;
    let mut title = format!(" tail · {} rows", shown.len());
    if app.only_bad {
        title.push_str(" · only refusals and failures");
    }
    if !app.filter.is_empty() {
        title.push_str(&format!(" · /{}", plain(&app.filter, 60)));
    }
    if app.let_go > 0 {
        title.push_str(&format!(" · {} older rows: custody audit ls", app.let_go));
    }
    title.push(' ');
    let mut lines = vec![Line::styled(
        [
            cell(" TIME", 9),
            cell("SEQ", 7),
            cell("KIND", 22),
            cell("OUTCOME", 8),
            cell("SUBJECT", 12),
            cell("DISPATCH", 22),
        ]
        .concat()
            + "OBJECT",
        style(app, Color::Reset, Modifier::DIM),
    )];
    for (index, row) in shown.iter().enumerate().skip(first).take(height) {
        lines.push(line(app, row, active && index == chosen));
    }
    if shown.is_empty() {
        let why = if app.filter.is_empty() && !app.only_bad { "nothing yet" } else { "nothing passes the filter" };
        lines.push(Line::raw(format!(" {why}")));
    }
    frame.render_widget(Paragraph::new(lines).block(titled(app, title, active)), area);
}

fn line<'a>(app: &App, row: &AuditRow, chosen: bool) -> Line<'a> {
    let mark = if app.marks.contains(&row.seq) { "*" } else { " " };
    let kind = row.event_type.trim_start_matches("custody.").trim_end_matches(".v1");
    let base = if chosen { Modifier::REVERSED } else { Modifier::empty() };
    let time = app.time(&row.time);
    let width = if time.chars().count() > 8 { 24 } else { 8 };
    let line = Line::from(vec![
        Span::raw([mark, &cell(&time, width), &cell(&row.seq.to_string(), 7), &cell(kind, 22)].concat()),
        Span::styled(cell(&row.outcome, 8), outcome(app, &row.outcome)),
        Span::raw(
            [
                cell(row.subject.as_deref().unwrap_or("-"), 12),
                cell(row.dispatch.as_deref().unwrap_or("-"), 22),
                plain(&row.object, 300),
            ]
            .concat(),
        ),
    ]);
    line.style(Style::default().add_modifier(base))
}

fn dispatches(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let rows = app.dispatches();
    let height = usize::from(area.height.saturating_sub(2));
    let (first, chosen) = window(app.chosen_dispatch, rows.len(), height);
    let active = app.pane == Pane::Dispatches;
    let running = rows.iter().filter(|r| !r.status.is_terminal()).count();
    let title = format!(" dispatches · {running} at work · {} known ", rows.len());
    let heads = [cell(" ID", 23), cell("STATUS", 10), cell("AGE", 5), cell("WHO", 12), cell("VIA", 10)].concat();
    let mut lines = vec![Line::styled(heads + "WHAT", style(app, Color::Reset, Modifier::DIM))];
    for (index, row) in rows.iter().enumerate().skip(first).take(height) {
        let base = if active && index == chosen { Modifier::REVERSED } else { Modifier::empty() };
        lines.push(dispatch_line(app, row).style(Style::default().add_modifier(base)));
    }
    if rows.is_empty() {
        lines.push(Line::raw(" none yet: custody run 'your words'"));
    }
    frame.render_widget(Paragraph::new(lines).block(titled(app, title, active)), area);
}

fn dispatch_line<'a>(app: &App, row: &DispatchRow) -> Line<'a> {
    let old = crate::render::parse_rfc3339(&row.decided_at).map_or_else(|| "-".into(), |ms| age(app.now_ms, ms));
    let what = match row.status {
        Status::Refused | Status::Parked | Status::Ended => {
            format!("{}: {}", row.reason.as_deref().unwrap_or("-"), row.detail.as_deref().unwrap_or(&row.what))
        }
        _ => row.what.clone(),
    };
    Line::from(vec![
        Span::raw([" ", &cell(&row.dispatch, 22)].concat()),
        Span::styled(cell(row.status.as_str(), 10), outcome(app, row.status.as_str())),
        Span::raw(
            [
                cell(&old, 5),
                cell(row.subject.as_deref().unwrap_or("-"), 12),
                cell(&row.launcher, 10),
                plain(&what, 200),
            ]
            .concat(),
        ),
    ])
}

fn one(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let (title, fields) = if app.mode == Mode::Top && app.pane == Pane::Dispatches {
        let row = app.dispatch().unwrap_or_default();
        (row.dispatch.clone(), serde_json::to_value(row))
    } else {
        match app.row() {
            Some(row) => (format!("seq {}", row.seq), serde_json::to_value(row)),
            None => (String::new(), Ok(serde_json::Value::Null)),
        }
    };
    let mut lines = Vec::new();
    if let Ok(serde_json::Value::Object(map)) = fields {
        for (name, value) in map.iter().filter(|(_, value)| !value.is_null()) {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            lines.push(Line::raw(format!(" {name:<15} {}", plain(&text, 4_000))));
        }
    }
    let mut text = Paragraph::new(lines).block(titled(app, format!(" {} ", plain(&title, 80)), true));
    if app.wrap {
        text = text.wrap(Wrap { trim: false });
    }
    frame.render_widget(text, area);
}

fn footer(app: &App) -> String {
    if let Some(text) = &app.typing {
        return format!(" /{}▏  Enter takes it · Esc leaves · ↑ recalls", plain(text, 120));
    }
    let state = match (app.connected, app.paused) {
        (false, _) => format!("RECONNECTING: {}", plain(&app.lost, 80)),
        (true, Some(count)) => format!("PAUSED +{count}"),
        (true, None) if app.follow => "LIVE".to_owned(),
        (true, None) => "LIVE, not following".to_owned(),
    };
    format!(" {state}   ? help · / filter · ! refusals · Space pause · f follow · Enter detail · q quit")
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let width = 44.min(area.width);
    let height = u16::try_from(KEYS.len()).unwrap_or(20).saturating_add(2).min(area.height);
    let middle = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let lines: Vec<Line<'_>> = KEYS.iter().map(|(key, does)| Line::raw(format!(" {key:<10} {does}"))).collect();
    frame.render_widget(Clear, middle);
    frame.render_widget(Paragraph::new(lines).block(Block::default().borders(Borders::ALL).title(" keys ")), middle);
}
