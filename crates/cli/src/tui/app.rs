//! What is on the screen, as data: rows, what of them is shown, and where the eye is. Pure: keys and rows come in.

use crate::render::parse_rfc3339;
use custody_contracts::messages::AuditRow;
use custody_ledger::{Projection, Recorded};
use custody_projections::Dispatches;
use custody_projections::dispatches::DispatchRow;
use custody_projections::table::Table;
use serde_json::Value;
use std::collections::{BTreeSet, VecDeque};

/// Rows that are kept; older ones are in `custody audit ls`.
pub(crate) const ROWS_MAX: usize = 20_000;
/// Filters that are remembered.
const FILTERS_MAX: usize = 20;
/// The longest filter.
pub(crate) const FILTER_MAX: usize = 120;

/// Which screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The tail alone.
    Tail,
    /// Dispatches above the tail.
    Top,
}

/// Where keys go on the screen `top`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pane {
    /// The list of dispatches.
    Dispatches,
    /// The tail.
    Tail,
}

/// How times are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times {
    /// `12:30:01`, UTC.
    Clock,
    /// `41s` ago.
    Age,
    /// RFC 3339.
    Iso,
}

/// The whole state.
pub(crate) struct App {
    /// Which screen.
    pub(crate) mode: Mode,
    /// Where keys go.
    pub(crate) pane: Pane,
    rows: VecDeque<AuditRow>,
    /// Rows that were let go.
    pub(crate) let_go: u64,
    /// Dispatches, folded.
    dispatches: Table<DispatchRow>,
    /// Whether the newest row is followed.
    pub(crate) follow: bool,
    /// Rows that came since the pause.
    pub(crate) paused: Option<u64>,
    held: VecDeque<AuditRow>,
    /// Only rows with this text.
    pub(crate) filter: String,
    /// The filter while it is typed.
    pub(crate) typing: Option<String>,
    filters: Vec<String>,
    recalled: usize,
    /// Only refusals and failures.
    pub(crate) only_bad: bool,
    /// The chosen row, by its place in what is shown.
    pub(crate) chosen: usize,
    /// The chosen dispatch, by its place.
    pub(crate) chosen_dispatch: usize,
    /// Whether the chosen one is shown whole.
    pub(crate) detail: bool,
    /// How times are shown.
    pub(crate) times: Times,
    /// Whether long words are wrapped in the detail.
    pub(crate) wrap: bool,
    /// Marked rows, by sequence.
    pub(crate) marks: BTreeSet<u64>,
    /// Whether the keys are shown.
    pub(crate) help: bool,
    /// Whether the log is being read.
    pub(crate) connected: bool,
    /// Why not.
    pub(crate) lost: String,
    /// Colours.
    pub(crate) color: bool,
    /// Now, for ages; milliseconds since the epoch.
    pub(crate) now_ms: u64,
}

/// Whether a row is a refusal or a failure.
pub(crate) fn is_bad(row: &AuditRow) -> bool {
    !matches!(row.outcome.as_str(), "ok" | "running")
}

impl App {
    /// An empty screen.
    pub(crate) fn new(mode: Mode, color: bool) -> App {
        App {
            mode,
            pane: if mode == Mode::Top { Pane::Dispatches } else { Pane::Tail },
            rows: VecDeque::new(),
            let_go: 0,
            dispatches: Table::default(),
            follow: true,
            paused: None,
            held: VecDeque::new(),
            filter: String::new(),
            typing: None,
            filters: Vec::new(),
            recalled: 0,
            only_bad: false,
            chosen: 0,
            chosen_dispatch: 0,
            detail: false,
            times: Times::Clock,
            wrap: false,
            marks: BTreeSet::new(),
            help: false,
            connected: true,
            lost: String::new(),
            color,
            now_ms: 0,
        }
    }

    /// Dispatches as the projector has them.
    pub(crate) fn put_dispatches(&mut self, rows: Vec<Value>) {
        for row in rows {
            if let Ok(row) = serde_json::from_value::<DispatchRow>(row) {
                let id = row.dispatch.clone();
                *self.dispatches.edit(&id) = row;
            }
        }
    }

    /// Takes in one event; checkpoints are no news.
    pub(crate) fn push(&mut self, row: AuditRow, recorded: &Recorded) {
        Dispatches::apply(&mut self.dispatches, recorded);
        self.push_row(row);
    }

    /// Takes in one row.
    pub(crate) fn push_row(&mut self, row: AuditRow) {
        if row.kind == "checkpoint" {
            return;
        }
        let queue = match &mut self.paused {
            Some(count) => {
                *count += 1;
                &mut self.held
            }
            None => &mut self.rows,
        };
        queue.push_back(row);
        if queue.len() > ROWS_MAX {
            queue.pop_front();
            self.let_go += 1;
            if self.paused.is_none() {
                self.chosen = self.chosen.saturating_sub(1);
            }
        }
        if self.follow && self.paused.is_none() {
            self.chosen = usize::MAX;
        }
    }

    /// Pauses, or goes on with what came meanwhile.
    pub(crate) fn pause(&mut self) {
        if self.paused.take().is_none() {
            self.paused = Some(0);
            return;
        }
        for row in std::mem::take(&mut self.held) {
            self.push_row(row);
        }
    }

    /// Rows that pass the filter, oldest first.
    pub(crate) fn shown(&self) -> Vec<&AuditRow> {
        let wanted = self.filter.to_lowercase();
        let dispatch = match (self.mode, self.pane) {
            (Mode::Top, Pane::Tail) | (Mode::Tail, _) => None,
            (Mode::Top, Pane::Dispatches) => None::<&str>,
        };
        self.rows
            .iter()
            .filter(|row| !self.only_bad || is_bad(row))
            .filter(|row| dispatch.is_none_or(|d| row.dispatch.as_deref() == Some(d)))
            .filter(|row| wanted.is_empty() || words(row).contains(&wanted))
            .collect()
    }

    /// Dispatches, newest first.
    pub(crate) fn dispatches(&self) -> Vec<&DispatchRow> {
        let mut rows: Vec<&DispatchRow> = self.dispatches.iter().map(|(_, row)| row).collect();
        rows.sort_by_key(|row| (row.status.is_terminal(), std::cmp::Reverse(row.first_seq)));
        rows
    }

    /// The chosen row.
    pub(crate) fn row(&self) -> Option<AuditRow> {
        let shown = self.shown();
        shown.get(self.chosen.min(shown.len().saturating_sub(1))).map(|r| (*r).clone())
    }

    /// The chosen dispatch.
    pub(crate) fn dispatch(&self) -> Option<DispatchRow> {
        let rows = self.dispatches();
        rows.get(self.chosen_dispatch.min(rows.len().saturating_sub(1))).map(|r| (*r).clone())
    }

    /// Moves the eye; away from the newest row it stops following.
    pub(crate) fn step(&mut self, by: isize) {
        if self.mode == Mode::Top && self.pane == Pane::Dispatches {
            let last = self.dispatches().len().saturating_sub(1);
            self.chosen_dispatch = self.chosen_dispatch.min(last).saturating_add_signed(by).min(last);
            return;
        }
        let last = self.shown().len().saturating_sub(1);
        self.chosen = self.chosen.min(last).saturating_add_signed(by).min(last);
        self.follow = self.chosen == last && by > 0;
    }

    /// The next refusal or failure in a direction.
    pub(crate) fn next_bad(&mut self, forward: bool) {
        let shown = self.shown();
        let at = self.chosen.min(shown.len().saturating_sub(1));
        let found = if forward {
            (at + 1..shown.len()).find(|i| shown.get(*i).is_some_and(|r| is_bad(r)))
        } else {
            (0..at).rev().find(|i| shown.get(*i).is_some_and(|r| is_bad(r)))
        };
        if let Some(found) = found {
            self.chosen = found;
            self.follow = false;
        }
    }

    /// Takes the typed filter, and remembers it.
    pub(crate) fn take_filter(&mut self) {
        let Some(text) = self.typing.take() else { return };
        if !text.is_empty() {
            self.filters.retain(|f| *f != text);
            self.filters.push(text.clone());
            if self.filters.len() > FILTERS_MAX {
                self.filters.remove(0);
            }
        }
        self.recalled = 0;
        self.filter = text;
        self.chosen = usize::MAX;
    }

    /// The filter before the one that is typed.
    pub(crate) fn recall(&mut self) {
        if self.typing.is_none() || self.filters.is_empty() {
            return;
        }
        let at = self.filters.len() - 1 - (self.recalled % self.filters.len());
        self.recalled += 1;
        self.typing = self.filters.get(at).cloned();
    }

    /// A time as it is shown.
    pub(crate) fn time(&self, rfc3339: &str) -> String {
        match self.times {
            Times::Iso => rfc3339.to_owned(),
            Times::Clock => rfc3339.get(11..19).unwrap_or("-").to_owned(),
            Times::Age => parse_rfc3339(rfc3339).map_or_else(|| "-".into(), |ms| age(self.now_ms, ms)),
        }
    }
}

/// How long ago, in one unit.
pub(crate) fn age(now_ms: u64, ms: u64) -> String {
    let seconds = now_ms.saturating_sub(ms) / 1000;
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn words(row: &AuditRow) -> String {
    let all = [
        row.event_type.as_str(),
        &row.outcome,
        row.subject.as_deref().unwrap_or_default(),
        row.launcher.as_deref().unwrap_or_default(),
        row.dispatch.as_deref().unwrap_or_default(),
        row.scope.as_deref().unwrap_or_default(),
        &row.object,
    ];
    all.join(" ").to_lowercase()
}
