//! `custody bench`: hot paths beside the bare part that they are made of, measured in the same run on a private server.
//! Publishes ratios; never judges them: a slow machine is no failure, and no exit code depends on a time.

mod accept;
mod drive;
mod events;
mod rebuild;

use super::Ctx;
use crate::error::{CliError, CliResult, exit};
use crate::home::random;
use crate::render::{Render, col, notice};
use custody_contracts::canonical::hex;
use custody_contracts::ids::LauncherId;
use custody_nats::server::{PrivateServer, Supervised};
use custody_streams::accounts::SyncInterval;
use drive::Pair;
use serde_json::{Value, json};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Hot paths beside the bare part.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum BenchCommand {
    /// The log: accepting launches, and rebuilding projections
    #[command(
        after_help = "Starts a nats-server of its own in a temporary folder, on the file system of --dir. Each measurement runs bare, ours, bare; when\nthe two bare runs differ by more than a quarter it is repeated, at most three times. Needs a release build to mean anything.\n\nExamples:\n  cargo run --release -p custody-cli -- bench log\n  custody bench log --seconds 10 --events 100000 -o json\n  custody bench log --dir /var/tmp"
    )]
    Log(LogArgs),
}

/// What `bench log` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct LogArgs {
    /// Seconds of each run
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Ledger events to rebuild from
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(5..=20_000_000))]
    events: u64,
    /// Launches in flight
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(2..=4_096))]
    in_flight: u64,
    /// Where the server's folder is made; on a memory file system nothing is ever synced [default: the temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// A folder and the servers in it: both are gone in the end, whatever happened.
struct Place {
    folder: PathBuf,
    servers: Mutex<Vec<Supervised>>,
}

impl Place {
    fn make(dir: Option<PathBuf>) -> CliResult<Place> {
        let dir = dir.unwrap_or_else(std::env::temp_dir);
        let folder = dir.join(["custody-bench-", &hex(&random::<6>()?)].concat());
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(Place { folder, servers: Mutex::default() })
    }

    async fn server(&self, name: &str, launchers: &[LauncherId], sync: SyncInterval) -> CliResult<PrivateServer> {
        let started = PrivateServer::start(&self.folder.join(name), launchers, sync).await;
        let server = started.map_err(|e| CliError::new(exit::UNREACHABLE, "NATS_NOT_STARTED", e).hint("ops/setup"))?;
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).push(server.server.clone());
        Ok(server)
    }

    async fn clear(&self) {
        let servers = std::mem::take(&mut *self.servers.lock().unwrap_or_else(PoisonError::into_inner));
        for server in servers {
            server.stop().await;
        }
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            notice(format!("{} not removed: {error}", self.folder.display()));
        }
    }
}

/// Anything that goes wrong while measuring.
fn failed(error: impl std::fmt::Display) -> CliError {
    CliError::new(exit::FAILED, "BENCH", error)
}

pub(crate) async fn run(ctx: &Ctx, command: BenchCommand) -> CliResult {
    let BenchCommand::Log(args) = command;
    let place = Place::make(args.dir.clone())?;
    if cfg!(debug_assertions) {
        notice("this is a debug build: cargo run --release -p custody-cli -- bench log");
    }
    notice(format!("measuring in {}{}", place.folder.display(), in_memory(&place.folder)));
    let result = tokio::select! {
        result = log(&place, &args) => result,
        _ = tokio::signal::ctrl_c() => Err(CliError::exit_only(exit::INTERRUPTED)),
    };
    place.clear().await;
    print(&ctx.render, &args, &result?)
}

/// A word of warning when nothing here reaches a disk. Source: statfs(2), `TMPFS_MAGIC`.
fn in_memory(folder: &std::path::Path) -> &'static str {
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    match rustix::fs::statfs(folder) {
        Ok(stat) if u64::try_from(stat.f_type) == Ok(TMPFS_MAGIC) => {
            ": a memory file system, where a sync costs nothing"
        }
        _ => "",
    }
}

async fn log(place: &Place, args: &LogArgs) -> CliResult<Vec<Value>> {
    // First, while this process is small: the peak of its memory is one of the results.
    let rebuilt = rebuild::measure(place, args.events).await?;
    let accepted = accept::measure(place, args.seconds, usize::try_from(args.in_flight).unwrap_or(usize::MAX)).await?;
    let many = args.in_flight;
    let one = &accepted.one;
    let mut rows = vec![
        row("accept, 1 in flight", "launches/s", one.ours.rate(), one.bare_rate(), Target::AtLeast(0.5), Some(one)),
        row("accept, 1 in flight, p50", "ms", one.ours.quantile_ms(0.5), one.bare_ms(0.5), Target::None, Some(one)),
        row(
            "accept, 1 in flight, p99",
            "ms",
            one.ours.quantile_ms(0.99),
            one.bare_ms(0.99),
            Target::AtMost(3.0),
            Some(one),
        ),
    ];
    let ours = &accepted.many.ours;
    rows.extend([
        row(
            &format!("accept, {many} in flight, against bare 1"),
            "launches/s",
            ours.rate(),
            one.bare_rate(),
            Target::AtLeast(0.5),
            Some(one),
        ),
        row(
            &format!("accept, {many} in flight, against bare {many}"),
            "launches/s",
            ours.rate(),
            accepted.many.bare_rate(),
            Target::AtLeast(0.5),
            Some(&accepted.many),
        ),
        row(
            &format!("accept, {many} in flight, p50"),
            "ms",
            ours.quantile_ms(0.5),
            accepted.many.bare_ms(0.5),
            Target::None,
            Some(&accepted.many),
        ),
        row(
            &format!("accept, {many} in flight, p99"),
            "ms",
            ours.quantile_ms(0.99),
            accepted.many.bare_ms(0.99),
            Target::None,
            Some(&accepted.many),
        ),
        row(
            &format!("rebuild of {} events", args.events),
            "events/s",
            rebuilt.pair.ours.rate(),
            rebuilt.pair.bare_rate(),
            Target::AtLeast(0.25),
            Some(&rebuilt.pair),
        ),
    ]);
    rows.push(match rebuilt.peak_mib {
        Some(peak) => {
            json!({ "measure": "rebuild, peak memory", "unit": "MiB", "ours": round(peak), "target": "<= 512" })
        }
        None => json!({ "measure": "rebuild, peak memory", "unit": "MiB", "target": "<= 512" }),
    });
    Ok(rows)
}

/// What a ratio should be.
#[derive(Debug, Clone, Copy)]
enum Target {
    None,
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    fn text(self) -> Option<String> {
        match self {
            Target::None => None,
            Target::AtLeast(ratio) => Some(format!(">= {ratio}")),
            Target::AtMost(ratio) => Some(format!("<= {ratio}")),
        }
    }
}

/// Three digits are more than a shared machine repeats.
fn round(value: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "rates, milliseconds and MiB are far below 2^63")]
    if value >= 100.0 { json!(value.round() as i64) } else { json!((value * 1_000.0).round() / 1_000.0) }
}

fn row(measure: &str, unit: &str, ours: f64, bare: f64, target: Target, pair: Option<&Pair>) -> Value {
    let ratio = if bare > 0.0 { Some(round(ours / bare)) } else { None };
    json!({
        "measure": measure, "unit": unit, "ours": round(ours), "bare": round(bare), "ratio": ratio,
        "target": target.text(), "bare_spread": pair.map(|p| round(p.spread())), "void": pair.map(Pair::void),
    })
}

fn print(render: &Render, args: &LogArgs, rows: &[Value]) -> CliResult {
    if rows.iter().any(|r| r.get("void") == Some(&Value::Bool(true))) {
        notice(
            "the bare part differed by more than a quarter between two runs: this machine is busy, distrust the ratios",
        );
    }
    if render.is_json() {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let document = json!({
            "build": if cfg!(debug_assertions) { "debug" } else { "release" },
            "version": env!("CARGO_PKG_VERSION"),
            "cores": std::thread::available_parallelism().map(std::num::NonZero::get).ok(),
            "load": load.split(' ').take(3).collect::<Vec<_>>(),
            "seconds": args.seconds, "events": args.events, "in_flight": args.in_flight, "rows": rows,
        });
        return render.one("bench.v1", "version", &document);
    }
    let columns = [
        col("MEASURE", "measure"),
        col("UNIT", "unit"),
        col("OURS", "ours"),
        col("BARE", "bare"),
        col("RATIO", "ratio"),
        col("TARGET", "target"),
        crate::render::wide("BARE-SPREAD", "bare_spread"),
    ];
    render.list("bench-row.v1", "measure", &columns, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(4_567.8, "4568")]
    #[case(0.12345, "0.123")]
    #[case(12.3456, "12.346")]
    fn numbers_have_few_digits(#[case] value: f64, #[case] shown: &str) {
        assert_eq!(round(value).to_string(), shown);
    }

    #[test]
    fn nothing_is_divided_by_nothing() {
        let row = row("x", "s", 1.0, 0.0, Target::AtLeast(0.5), None);
        assert_eq!(row["ratio"], Value::Null);
        assert_eq!(row["target"], ">= 0.5");
    }

    #[tokio::test]
    async fn the_folder_is_gone_in_the_end() {
        let outer = tempfile::tempdir().unwrap();
        let place = Place::make(Some(outer.path().to_owned())).unwrap();
        assert!(place.folder.is_dir());
        place.clear().await;
        assert!(!place.folder.exists());
    }
}
