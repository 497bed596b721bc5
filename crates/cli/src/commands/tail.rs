//! `custody tail`: the ledger as it grows. The cursor is the sequence; a lost connection is taken up where it ended, and
//! a gap is an error, not a shrug.

use super::Ctx;
use crate::args::{Point, parse_point};
use crate::client::Operator;
use crate::error::{CliError, CliResult, exit};
use crate::render::{Column, Format, col, line, notice, wide};
use custody_contracts::messages::AuditRow;
use custody_ledger::{Log, LogError, Recorded, Seq, Stored};
use custody_projections::row::audit_row;
use futures::StreamExt;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// Which events, and whether to go on.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Filters {
    /// Only so many of the newest; 20 unless another beginning is given
    #[arg(short = 'n', long)]
    lines: Option<u64>,
    /// From a time or sequence on: 15m, 2h, 09:00, yesterday, RFC 3339, seq:10421
    #[arg(long)]
    since: Option<String>,
    /// Up to a time or sequence
    #[arg(long)]
    until: Option<String>,
    /// After this sequence
    #[arg(long)]
    after_seq: Option<u64>,
    /// Reads the cursor from this file and keeps it there
    #[arg(long, value_name = "FILE")]
    cursor_file: Option<PathBuf>,
    /// Only these kinds: dispatch, run, effect, approval, grant, token, workspace, launcher, key, checkpoint
    #[arg(long, value_delimiter = ',')]
    kind: Vec<String>,
    /// Only these outcomes: ok, refused, failed
    #[arg(long, value_delimiter = ',')]
    outcome: Vec<String>,
    /// Only of these persons
    #[arg(long, value_delimiter = ',', visible_alias = "actor")]
    subject: Vec<String>,
    /// Only through these launchers
    #[arg(long, value_delimiter = ',')]
    launcher: Vec<String>,
    /// Only of these dispatches; prefixes will do
    #[arg(long, value_delimiter = ',')]
    dispatch: Vec<String>,
    /// Checkpoints too; they are left out unless asked for
    #[arg(long)]
    checkpoints: bool,
}

/// Follow the ledger.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Values of one flag are alternatives, different flags narrow. Notices go to standard error.\n\nExamples:\n  custody tail\n  custody tail -n 100 --outcome refused,failed\n  custody tail --after-seq 10422 -o jsonl\n  custody tail --tui"
)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    filters: Filters,
    /// Stop at the end instead of following
    #[arg(long)]
    no_follow: bool,
    /// On the whole screen, with keys: ? shows them
    #[arg(long, conflicts_with_all = ["no_follow", "cursor_file", "until", "since", "lines"])]
    tui: bool,
    /// With --tui: stay on the terminal's own screen, for recording
    #[arg(long, requires = "tui")]
    no_alt_screen: bool,
}

const COLUMNS: [(Column, usize); 11] = [
    (col("TIME", "time"), 8),
    (col("SEQ", "seq"), 7),
    (col("KIND", "type"), 18),
    (col("OUTCOME", "outcome"), 8),
    (col("SUBJECT", "subject"), 12),
    (col("LAUNCHER", "launcher"), 10),
    (col("SCOPE", "scope"), 22),
    (col("GRANT", "grant"), 6),
    (col("DISPATCH", "dispatch"), 22),
    (wide("KEY", "keyid"), 28),
    (col("OBJECT", "object"), 0),
];

pub(crate) async fn run(ctx: &Ctx, args: TailArgs) -> CliResult {
    if args.tui {
        let operator = ctx.target()?.operator().await?;
        let mut app = crate::tui::App::new(crate::tui::Mode::Tail, ctx.render.color);
        app.only_bad = args.filters.outcome.iter().any(|o| o == "refused" || o == "failed");
        app.filter = args.filters.subject.iter().chain(&args.filters.dispatch).next().cloned().unwrap_or_default();
        return crate::tui::run(&operator, app, !args.no_alt_screen, args.filters.after_seq).await;
    }
    follow(ctx, args.filters, !args.no_follow).await
}

/// Prints events that pass the filters; with `on`, goes on for ever.
pub(crate) async fn follow(ctx: &Ctx, filters: Filters, on: bool) -> CliResult {
    let target = ctx.target()?;
    let operator = target.operator().await?;
    let log = operator.log().await?;
    let mut cursor = begin(ctx, &filters, &operator, &log).await?;
    let until = filters.until.as_deref().map(|t| parse_point(t, ctx.render.now_ms)).transpose()?;
    let shown: Vec<(Column, usize)> = COLUMNS.to_vec();
    let plain_columns: Vec<Column> = COLUMNS.iter().map(|(c, _)| *c).collect();
    match ctx.render.format() {
        Format::Table | Format::Wide if !ctx.render.no_headers => line(ctx.render.stream_line(&shown, None))?,
        Format::Csv if !ctx.render.no_headers => {
            line(plain_columns.iter().map(|c| c.header.to_lowercase()).collect::<Vec<_>>().join(","))?;
        }
        _ => {}
    }
    let last = log.last_seq().await.map_err(unavailable)?;
    let mut lost: Option<tokio::time::Instant> = None;
    let mut connects = operator.connection.connects();
    connects.mark_unchanged();
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    loop {
        let opened = if on { log.tail(cursor.next()).await } else { log.read(cursor.next()).await };
        let error = match opened {
            Ok(mut messages) => loop {
                let next = tokio::select! {
                    next = messages.next() => next,
                    _ = tokio::signal::ctrl_c() => return interrupted(&filters, cursor),
                    _ = term.recv() => return interrupted(&filters, cursor),
                    Ok(()) = connects.changed() => {
                        // The reader below takes up where it was; people should know that there was a break.
                        notice(format!("connection was lost and is back, going on after seq {cursor}"));
                        continue;
                    }
                };
                match next {
                    None => break None,
                    Some(Err(error)) => break Some(error),
                    Some(Ok(stored)) => {
                        if stored.seq != cursor.next() {
                            let why = format!("sequence {} follows {cursor}: the log has a gap", stored.seq);
                            return Err(CliError::new(exit::INTEGRITY, "GAP", why).hint("custody audit verify"));
                        }
                        if let Some(since) = lost.take() {
                            notice(format!(
                                "back after {:.1} s, resumed after seq {cursor}, 0 missed",
                                since.elapsed().as_secs_f64()
                            ));
                        }
                        if past(&stored, until.as_ref()) {
                            return save(&filters, cursor);
                        }
                        print(ctx, &filters, &shown, &plain_columns, &stored)?;
                        cursor = stored.seq;
                        save(&filters, cursor)?;
                    }
                }
            },
            Err(error) => Some(error),
        };
        match error {
            Some(LogError::Broken { seq, why }) => {
                return Err(CliError::new(exit::INTEGRITY, "GAP", format!("the log is broken at {seq}: {why}"))
                    .hint("custody audit verify"));
            }
            None if !on && cursor >= last => return Ok(()),
            Some(error) if !on => return Err(unavailable(error)),
            _ => {
                if lost.is_none() {
                    notice(format!("connection lost at seq {cursor}, retrying"));
                    lost = Some(tokio::time::Instant::now());
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
    }
}

fn unavailable(error: LogError) -> CliError {
    CliError::new(exit::UNREACHABLE, "LEDGER_UNAVAILABLE", error).hint("custody doctor")
}

async fn begin(ctx: &Ctx, filters: &Filters, operator: &Operator, log: &dyn Log) -> CliResult<Seq> {
    if let Some(path) = &filters.cursor_file
        && let Ok(text) = std::fs::read_to_string(path)
    {
        let seq = text.trim().parse().map_err(|_| {
            CliError::new(exit::USAGE, "CURSOR_INVALID", format!("{} does not hold a sequence", path.display()))
        })?;
        return Ok(Seq(seq));
    }
    if let Some(seq) = filters.after_seq {
        return Ok(Seq(seq));
    }
    let last = log.last_seq().await.map_err(unavailable)?;
    let by_lines = |n: u64| Seq(last.0.saturating_sub(n));
    match filters.since.as_deref().map(|t| parse_point(t, ctx.render.now_ms)).transpose()? {
        Some(Point::Seq(seq)) => Ok(Seq(seq.saturating_sub(1))),
        Some(Point::At(ms)) => first_at(operator, log, ms, last).await,
        None => Ok(match filters.lines {
            Some(n) => newest(ctx, filters, log, n, last).await?,
            None => by_lines(20),
        }),
    }
}

/// The place before the newest `n` events that pass the filters, looking back at most 100,000 messages.
async fn newest(_: &Ctx, filters: &Filters, log: &dyn Log, n: u64, last: Seq) -> CliResult<Seq> {
    let from = Seq(last.0.saturating_sub(100_000) + 1);
    let mut passing = std::collections::VecDeque::new();
    let mut messages = log.read(from).await.map_err(unavailable)?;
    while let Some(stored) = messages.next().await {
        let stored = stored.map_err(unavailable)?;
        if Recorded::read(&stored).unwrap_or_default().iter().any(|r| passes(filters, &audit_row(r))) {
            passing.push_back(stored.seq);
            if passing.len() as u64 > n {
                passing.pop_front();
            }
        }
    }
    Ok(match passing.front() {
        Some(seq) if n > 0 => Seq(seq.0 - 1),
        _ => last,
    })
}

/// The place before the first event at or after a time: times grow with sequences, so halving finds it.
async fn first_at(_: &Operator, log: &dyn Log, ms: u64, last: Seq) -> CliResult<Seq> {
    let (mut low, mut high) = (0, last.0);
    while low < high {
        let middle = (low + high) / 2;
        let mut one = log.read(Seq(middle + 1)).await.map_err(unavailable)?;
        let time = match one.next().await {
            Some(stored) => time_of(&stored.map_err(unavailable)?),
            None => None,
        };
        match time {
            Some(t) if t < ms => low = middle + 1,
            _ => high = middle,
        }
    }
    Ok(Seq(low))
}

fn time_of(stored: &Stored) -> Option<u64> {
    let recorded = Recorded::read(stored).ok()?;
    crate::render::parse_rfc3339(&recorded.first()?.envelope.time)
}

fn past(stored: &Stored, until: Option<&Point>) -> bool {
    match until {
        None => false,
        Some(Point::Seq(seq)) => stored.seq.0 > *seq,
        Some(Point::At(ms)) => time_of(stored).is_some_and(|t| t > *ms),
    }
}

fn passes(filters: &Filters, row: &AuditRow) -> bool {
    let any = |wanted: &[String], found: Option<&str>| {
        wanted.is_empty() || found.is_some_and(|f| wanted.iter().any(|w| w == f))
    };
    let dispatch = filters.dispatch.is_empty()
        || row.dispatch.as_ref().is_some_and(|d| filters.dispatch.iter().any(|w| d.starts_with(w.as_str())));
    (filters.checkpoints || row.kind != "checkpoint" || filters.kind.iter().any(|k| k == "checkpoint"))
        && any(&filters.kind, Some(&row.kind))
        && any(&filters.outcome, Some(&row.outcome))
        && any(&filters.subject, row.subject.as_deref())
        && any(&filters.launcher, row.launcher.as_deref())
        && dispatch
}

fn print(
    ctx: &Ctx,
    filters: &Filters,
    columns: &[(Column, usize)],
    plain_columns: &[Column],
    stored: &Stored,
) -> CliResult {
    let recorded = Recorded::read(stored)
        .map_err(|e| CliError::new(exit::INTEGRITY, "UNREADABLE", e).hint("custody audit verify"))?;
    for one in &recorded {
        let row = audit_row(one);
        if !passes(filters, &row) {
            continue;
        }
        let mut value = serde_json::to_value(&row)?;
        if let Some(text) = ctx.render.stream_row("audit.v1", "id", plain_columns, &value) {
            line(text)?;
            continue;
        }
        value["type"] = json!(row.event_type.trim_start_matches("custody.").trim_end_matches(".v1"));
        if ctx.render.format() == Format::Detailed {
            ctx.render.one("audit.v1", "id", &value)?;
            line("")?;
            continue;
        }
        let text = ctx.render.stream_line(columns, Some(&value));
        let painted = if row.outcome == "ok" {
            text
        } else {
            text.replacen(&row.outcome, &ctx.render.paint(&row.outcome, &row.outcome), 1)
        };
        line(painted)?;
        if let (Some(hint), true) = (refusal_hint(one), row.outcome == "refused") {
            line(format!("{:>40}next: {hint}", ""))?;
        }
    }
    Ok(())
}

fn refusal_hint(recorded: &Recorded) -> Option<String> {
    let data: Value = serde_json::from_str(recorded.envelope.data.get()).ok()?;
    Some(custody_projections::row::plain(data.get("hint")?.as_str()?, 200))
}

fn save(filters: &Filters, cursor: Seq) -> CliResult {
    match &filters.cursor_file {
        Some(path) => Ok(std::fs::write(path, format!("{cursor}\n"))?),
        None => Ok(()),
    }
}

fn interrupted(filters: &Filters, cursor: Seq) -> CliResult {
    save(filters, cursor)?;
    notice(format!("stopped at seq {cursor} (resume: custody tail --after-seq {cursor})"));
    Err(CliError::exit_only(exit::INTERRUPTED))
}
