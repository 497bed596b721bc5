//! The log on a terminal's whole screen: `custody tail --tui` and `custody top`. Reads only: nothing is decided here.
//! Draws at most thirty times a second from a ring of rows; what it has let go is in `custody audit ls`.

mod app;
mod keys;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use app::{App, Mode};

use crate::client::Operator;
use crate::error::{CliError, CliResult, exit};
use custody_ledger::{Log, Recorded, Seq};
use custody_projections::row::audit_row;
use futures::StreamExt;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::crossterm::{cursor, execute};
use serde_json::json;
use std::io::{IsTerminal, Stdout, Write, stdout};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// The least time between two draws: thirty a second.
const DRAW_EVERY: Duration = Duration::from_millis(34);
/// How long the thread that reads keys waits before it looks whether it should end.
const KEYS_EVERY: Duration = Duration::from_millis(100);
/// Keys that wait.
const KEYS_MAX: usize = 64;
/// Rows of the first look back.
const BACK: u64 = 500;

/// A terminal in raw mode, and as it was before when this is dropped.
struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    alternate: bool,
}

impl Screen {
    fn open(alternate: bool) -> CliResult<Screen> {
        enable_raw_mode()?;
        if alternate {
            execute!(stdout(), EnterAlternateScreen)?;
        }
        Ok(Screen { terminal: Terminal::new(CrosstermBackend::new(stdout()))?, alternate })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _gone = disable_raw_mode();
        let _gone = if self.alternate {
            execute!(stdout(), LeaveAlternateScreen, cursor::Show)
        } else {
            execute!(stdout(), cursor::Show)
        };
    }
}

/// Keys from a thread of their own, because reading them blocks. It ends when nobody listens.
fn keys() -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(KEYS_MAX);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            match event::poll(KEYS_EVERY) {
                Ok(true) => match event::read() {
                    Ok(event) => {
                        if sender.blocking_send(event).is_err() {
                            return;
                        }
                    }
                    Err(_) => return,
                },
                Ok(false) => {}
                Err(_) => return,
            }
        }
    });
    receiver
}

/// Shows the log until `q`.
///
/// # Errors
/// When there is no terminal, or the log is broken.
pub(crate) async fn run(operator: &Operator, mut app: App, alternate: bool, after: Option<u64>) -> CliResult {
    if !stdout().is_terminal() {
        return Err(
            CliError::new(exit::USAGE, "NO_TERMINAL", "this needs a terminal").hint("custody tail prints lines")
        );
    }
    let log = operator.log().await?;
    let last = log.last_seq().await.map_err(unavailable)?;
    let mut cursor = Seq(after.unwrap_or_else(|| last.0.saturating_sub(BACK)).min(last.0));
    if app.mode == Mode::Top {
        let answer = operator.query("dispatch.ls", json!({ "limit": 200, "min_seq": cursor.0 })).await?;
        app.put_dispatches(crate::client::rows(&answer));
    }
    let mut screen = Screen::open(alternate)?;
    let mut pressed = keys();
    let (mut dirty, mut drawn) = (true, Instant::now() - DRAW_EVERY);
    loop {
        let tail = log.tail(cursor.next()).await;
        let mut messages = match tail {
            Ok(messages) => messages,
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        };
        let lost = loop {
            tokio::select! {
                biased;
                key = pressed.recv() => {
                    let Some(event) = key else { return Ok(()) };
                    app.now_ms = crate::server::clock::now_ms();
                    match keys::press(&mut app, &event) {
                        keys::After::Quit => return Ok(()),
                        keys::After::Copy(text) => copy(&text)?,
                        keys::After::Draw => {}
                    }
                    dirty = true;
                }
                () = tokio::time::sleep_until(drawn + DRAW_EVERY), if dirty => {
                    app.now_ms = crate::server::clock::now_ms();
                    screen.terminal.draw(|frame| view::draw(frame, &mut app))?;
                    (dirty, drawn) = (false, Instant::now());
                }
                // Ages on the screen grow also when nothing comes.
                () = tokio::time::sleep_until(drawn + Duration::from_secs(1)), if !dirty => dirty = true,
                message = messages.next() => match message {
                    Some(Ok(stored)) => {
                        if stored.seq != cursor.next() {
                            return Err(gap(cursor, stored.seq));
                        }
                        cursor = stored.seq;
                        app.connected = true;
                        for recorded in Recorded::read(&stored).unwrap_or_default() {
                            app.push(audit_row(&recorded), &recorded);
                        }
                        dirty = true;
                    }
                    Some(Err(custody_ledger::LogError::Broken { seq, .. })) => return Err(gap(cursor, Seq(seq))),
                    Some(Err(error)) => break error.to_string(),
                    None => break "the reader ended".to_owned(),
                },
            }
        };
        app.connected = false;
        app.lost = lost;
        dirty = true;
        screen.terminal.draw(|frame| view::draw(frame, &mut app))?;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

fn gap(cursor: Seq, found: Seq) -> CliError {
    let why = format!("sequence {found} follows {cursor}: the log has a gap");
    CliError::new(exit::INTEGRITY, "GAP", why).hint("custody audit verify")
}

fn unavailable(error: custody_ledger::LogError) -> CliError {
    CliError::new(exit::UNREACHABLE, "LEDGER_UNAVAILABLE", error).hint("custody doctor")
}

/// Puts text into the terminal's clipboard. Source: xterm's control sequences, OSC 52.
fn copy(text: &str) -> CliResult {
    use base64::Engine;
    let encoded = base64::engine::general_purpose::STANDARD.encode(text);
    let mut out = stdout().lock();
    write!(out, "\u{1b}]52;c;{encoded}\u{7}")?;
    Ok(out.flush()?)
}
