//! The whole command line: verbs, flags, help texts.

use crate::commands;
use crate::config::Config;
use crate::error::{CliError, CliResult, exit};
use crate::render::{Format, Render, TimeForm, use_color};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// Run AI agents as short-lived containers, each under a launcher that is answerable, with every effect in an
/// append-only log that you can tail, verify and replay.
#[derive(Debug, Parser)]
#[command(
    name = "custody",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = "Topics: custody help environment | exit-codes | formatting | subjects | accessibility"
)]
pub(crate) struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// State folder of the installation [default: $CUSTODY_STATE, $XDG_STATE_HOME/custody, ~/.local/state/custody]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global")]
    pub(crate) state: Option<PathBuf>,
    /// Configuration file [default: $CUSTODY_CONFIG, ~/.config/custody/config.toml]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global")]
    pub(crate) config: Option<PathBuf>,
    /// table, wide, detailed, json, jsonl, csv, name, template='{field} …'
    #[arg(short, long, global = true, value_name = "FORM", env = "CUSTODY_OUTPUT", help_heading = "Global")]
    pub(crate) output: Option<Format>,
    /// No header line
    #[arg(long, global = true, help_heading = "Global")]
    pub(crate) no_headers: bool,
    /// Do not cut long cells
    #[arg(long, global = true, help_heading = "Global")]
    pub(crate) no_trunc: bool,
    /// Only these fields, comma-separated
    #[arg(long, global = true, value_delimiter = ',', value_name = "A,B", help_heading = "Global")]
    pub(crate) fields: Vec<String>,
    /// How people see times
    #[arg(long, global = true, value_enum, help_heading = "Global")]
    pub(crate) time: Option<TimeForm>,
    /// auto, always or never; NO_COLOR and CLICOLOR_FORCE are honoured
    #[arg(long, global = true, default_value = "auto", value_parser = ["auto", "always", "never"], env = "CUSTODY_COLOR", help_heading = "Global")]
    pub(crate) color: String,
    /// Longest wait for an answer, for example 30s or 2m
    #[arg(long, global = true, value_parser = parse_duration, env = "CUSTODY_TIMEOUT", help_heading = "Global")]
    pub(crate) timeout: Option<Duration>,
    /// Never ask; fail where a question would be needed
    #[arg(long, global = true, env = "CUSTODY_NO_INPUT", help_heading = "Global")]
    pub(crate) no_input: bool,
}

impl Global {
    /// How to print.
    pub(crate) fn render(&self) -> Render {
        Render {
            format: self.output.clone(),
            no_headers: self.no_headers,
            no_trunc: self.no_trunc,
            fields: self.fields.clone(),
            time: self.time.unwrap_or(TimeForm::Relative),
            color: use_color(&self.color),
            now_ms: crate::server::clock::now_ms(),
        }
    }

    /// Configuration and state folder.
    pub(crate) fn target(&self) -> CliResult<crate::client::Target> {
        let config = Config::read(self.config.as_deref())?;
        let home = config.home(self.state.as_deref())?;
        Ok(crate::client::Target { home, config, timeout: self.timeout.unwrap_or(Duration::from_secs(10)) })
    }
}

/// Every verb.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start everything on this machine: NATS and all roles in one process
    Up(commands::up::UpArgs),
    /// Stop what `custody up` started here
    Down(commands::down::DownArgs),
    /// Run some roles in this process against an outside NATS
    Serve(commands::serve::ServeArgs),
    /// What runs here
    #[command(after_help = "Examples:\n  custody status\n  custody status -o json | jq .ledger_seq")]
    Status,
    /// Find out what is wrong, read-only
    Doctor(commands::doctor::DoctorArgs),
    /// Dispatch an agent with a prompt and watch it
    Run(commands::run::RunArgs),
    /// Run a dispatch again, answered from its recording
    Replay(commands::replay::ReplayArgs),
    /// Tokens, costs and calls, the most expensive first
    Usage(commands::usage::UsageArgs),
    /// Dispatches: ls, get, watch, logs, wait, say, stop, kill, rerun, resume
    #[command(subcommand, visible_alias = "dispatches")]
    Dispatch(commands::dispatch::DispatchCommand),
    /// Follow the ledger; short for `audit tail -f`
    Tail(commands::tail::TailArgs),
    /// Dispatches and the log, live on the whole screen; read-only
    Top(commands::top::TopArgs),
    /// The audit log: ls, tail, why, verify, export
    #[command(subcommand)]
    Audit(commands::audit::AuditCommand),
    /// Sessions: ls, show
    #[command(subcommand)]
    Session(commands::session::SessionCommand),
    /// Workspaces: ls, new, get, share, tree, cat, log, diff, mount, import, export, key, proposals, land, reject
    #[command(subcommand, visible_alias = "ws")]
    Workspace(commands::workspace::WorkspaceCommand),
    /// Launchers: register, ls, rotate, disable
    #[command(subcommand)]
    Launcher(commands::launcher::LauncherCommand),
    /// Grants: issue, request, ls, show, explain, revoke, unused
    #[command(subcommand, visible_alias = "grants")]
    Grant(commands::grant::GrantCommand),
    /// Users of the web: ls, add, reset-key, admin, disable, enable
    #[command(subcommand)]
    User(commands::user::UserCommand),
    /// Print the address of the web, and open it where there is a screen
    Open(commands::open::OpenArgs),
    /// Runners: ls, get, build, verify
    #[command(subcommand)]
    Runner(commands::runner::RunnerCommand),
    /// Calls that wait for a person: ls, show, approve, reject, edit, defer, next
    #[command(subcommand)]
    Inbox(commands::inbox::InboxCommand),
    /// Tools that dispatches may call: ls, show, add, accept, rm
    #[command(subcommand, visible_alias = "tools")]
    Tool(commands::tool::ToolCommand),
    /// Credentials of upstream servers, encrypted at rest: set, ls, rm
    #[command(subcommand)]
    Secret(commands::secret::SecretCommand),
    /// Keys that sign: ls, rotate
    #[command(subcommand)]
    Key(commands::key::KeyCommand),
    /// Persons whose content is kept: ls, show, erase, enrol
    #[command(subcommand)]
    Subject(commands::subject::SubjectCommand),
    /// Carry a box's connections to the gateway, in a cluster
    Link(commands::link::LinkArgs),
    /// The runtime's HTTP face: token
    #[command(subcommand)]
    Runtime(commands::runtime::RuntimeCommand),
    /// Contracts: ls, show, validate, diff, export
    #[command(subcommand)]
    Contract(commands::contract::ContractCommand),
    /// Streams: ls, diff, apply, accounts
    #[command(subcommand)]
    Streams(commands::streams::StreamsCommand),
    /// Projections: ls, rebuild, verify
    #[command(subcommand)]
    Projection(commands::projection::ProjectionCommand),
    /// Replay evals: ls, record, run
    #[command(subcommand)]
    Eval(commands::eval::EvalCommand),
    /// Measure hot paths beside the bare part in the same run
    #[command(subcommand)]
    Bench(commands::bench::BenchCommand),
    /// Completion script for a shell
    Completion(commands::meta::CompletionArgs),
    /// Manual pages into a folder
    Man(commands::meta::ManArgs),
    /// Client, server and contract versions
    #[command(after_help = "Examples:\n  custody version\n  custody version -o json")]
    Version,
    /// Help for a command, or a topic: environment, exit-codes, formatting, subjects, accessibility
    Help(commands::meta::HelpArgs),
}

/// Reads `90s`, `15m`, `2h30m`, `500ms`, `3d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| format!("{text:?} is not a duration like 15m or 2h30m"))?;
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(format!("{text:?}: a unit is ms, s, m, h or d")),
        };
        let part = number.checked_mul(millis).filter(|m| *m <= 366 * 86_400_000).ok_or("longer than a year")?;
        total += Duration::from_millis(part);
        rest = after;
    }
    if total.is_zero() { Err(format!("{text:?} is no time at all")) } else { Ok(total) }
}

/// Where a read of the ledger begins or ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Point {
    /// A ledger sequence.
    Seq(u64),
    /// Milliseconds since the epoch.
    At(u64),
}

/// Reads `15m`, `2h30m`, RFC 3339, `09:00`, `yesterday`, `seq:10421`.
pub(crate) fn parse_point(text: &str, now_ms: u64) -> CliResult<Point> {
    const DAY: u64 = 86_400_000;
    if let Some(seq) = text.strip_prefix("seq:") {
        let seq = seq
            .parse()
            .map_err(|_| CliError::new(exit::USAGE, "TIME_INVALID", format!("{text:?} is not seq:NUMBER")))?;
        return Ok(Point::Seq(seq));
    }
    let midnight = now_ms - now_ms % DAY;
    if text == "today" {
        return Ok(Point::At(midnight));
    }
    if text == "yesterday" {
        return Ok(Point::At(midnight.saturating_sub(DAY)));
    }
    if let Some(ms) = crate::render::parse_rfc3339(text) {
        return Ok(Point::At(ms));
    }
    if let Some((h, m)) = text.split_once(':')
        && let (Ok(h), Ok(m)) = (h.parse::<u64>(), m.parse::<u64>())
        && h < 24
        && m < 60
    {
        return Ok(Point::At(midnight + (h * 60 + m) * 60_000));
    }
    match parse_duration(text) {
        Ok(ago) => Ok(Point::At(now_ms.saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)))),
        Err(_) => Err(CliError::new(exit::USAGE, "TIME_INVALID", format!("{text:?} is not a time"))
            .hint("15m, 2h30m, 3d, 2026-11-22T09:00:00Z, 09:00 (UTC), today, yesterday, seq:10421")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use rstest::rstest;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[rstest]
    #[case("90s", 90_000)]
    #[case("2h30m", 9_000_000)]
    #[case("500ms", 500)]
    fn durations(#[case] text: &str, #[case] ms: u64) {
        assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)));
    }

    #[rstest]
    #[case("")]
    #[case("5")]
    #[case("5y")]
    #[case("0s")]
    #[case("99999999999d")]
    fn no_durations(#[case] text: &str) {
        assert!(parse_duration(text).is_err());
    }

    #[rstest]
    #[case("seq:12", Point::Seq(12))]
    #[case("15m", Point::At(1_700_000_000_000 - 900_000))]
    #[case("2023-11-14T00:00:00Z", Point::At(1_699_920_000_000))]
    #[case("yesterday", Point::At(1_699_833_600_000))]
    #[case("09:00", Point::At(1_699_920_000_000 + 9 * 3_600_000))]
    fn points(#[case] text: &str, #[case] point: Point) {
        assert_eq!(parse_point(text, 1_700_000_000_000).unwrap(), point);
    }
}
