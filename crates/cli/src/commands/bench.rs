//! `custody bench`: hot paths beside the bare part that they are made of, measured in the same run on a private server.
//! Publishes ratios; never judges them: a slow machine is no failure, and no exit code depends on a time.

mod accept;
mod audit;
mod bridge;
mod dispatch;
mod drive;
mod events;
mod install;
mod peers;
mod rebuild;
mod revoke;
mod token;
mod tool;

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
    /// Dispatches: starting one beside starting its bare container, cold and warm
    #[command(
        after_help = "Starts an installation of its own in a temporary folder, with the image of an installed runner and an agent that says one\nline and ends. The bare part is the same box by the same engine API. Needs a release build, an engine, and a quiet machine.\n\nExamples:\n  cargo run --release -p custody-cli -- bench dispatch\n  custody bench dispatch --rounds 100 -o json | jq '{cold_ratio, warm_first_byte_ms_p50}'\n  custody bench dispatch --burst 0 --idle-seconds 60"
    )]
    Dispatch(dispatch::DispatchArgs),
    /// Verifying a log: every signature, the tree and its checkpoints, beside reading and hashing the same file
    #[command(
        after_help = "Writes a signed log with a checkpoint every 256 messages into a temporary folder and verifies it as `audit verify FILE` does.\nThe bare part reads the same lines and puts their SHA-256 into the same tree. Needs a release build.\n\nExamples:\n  cargo run --release -p custody-cli -- bench audit\n  custody bench audit --events 100000 -o json"
    )]
    Audit(audit::AuditArgs),
    /// Tokens: minting, verifying and deciding over a call, beside bare Ed25519 signatures
    #[command(
        after_help = "One thread, nothing on a disk or a network. Each measurement runs bare, ours, bare. Needs a release build.\n\nExamples:\n  cargo run --release -p custody-cli -- bench token\n  custody bench token --rounds 100000 -o json"
    )]
    Token(token::TokenArgs),
    /// A tool call through the gateway, beside the same call without it and two durable appends
    #[command(
        after_help = "Starts an installation of its own in a temporary folder, a server with one tool, and one dispatch that may call it. Calls are\npaced below the rate that a dispatch may call with. Needs a release build, an engine, and a quiet machine.\n\nExamples:\n  cargo run --release -p custody-cli -- bench tool\n  custody bench tool --calls 1000 -o json --dir /var/tmp"
    )]
    Tool(tool::ToolArgs),
    /// Revocations under load: to the next refused call, to the end of the box, and without a ledger to the last call
    #[command(
        after_help = "Starts an installation of its own in a temporary folder. Every dispatch has a person and a grant of its own and calls a tool\nwithout end; the grants are revoked one after the other. Then the nats-server is held still for 14 s.\nNeeds a release build and an engine.\n\nExamples:\n  cargo run --release -p custody-cli -- bench revoke\n  custody bench revoke --dispatches 10 -o json | jq '{refused_ms_p99, ended_ms_p99}'"
    )]
    Revoke(revoke::RevokeArgs),
    /// The bridge: frames of one output to many websockets, beside a bare broadcast server
    #[command(
        after_help = "Ours goes through a nats-server of its own: publish, store, one tail, every socket. The clients are in this process too.\n\nExamples:\n  cargo run --release -p custody-cli -- bench bridge\n  custody bench bridge --clients 1000 --seconds 10 -o json"
    )]
    Bridge(BridgeArgs),
}

/// What `bench bridge` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct BridgeArgs {
    /// Websockets
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_100))]
    clients: u64,
    /// Frames a second to each
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    rate: u64,
    /// Seconds of each run
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Where the server's folder is made [default: the temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
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
    let args = match command {
        BenchCommand::Log(args) => args,
        BenchCommand::Dispatch(args) => {
            let config = crate::config::Config::read(ctx.global.config.as_deref())?;
            return Box::pin(dispatch::run(&ctx.render, &config, args)).await;
        }
        BenchCommand::Audit(args) => return audit::run(ctx, args).await,
        BenchCommand::Tool(args) => {
            let config = crate::config::Config::read(ctx.global.config.as_deref())?;
            return Box::pin(tool::run(ctx, &config.runners_folder(), args)).await;
        }
        BenchCommand::Revoke(args) => {
            let config = crate::config::Config::read(ctx.global.config.as_deref())?;
            return Box::pin(revoke::run(ctx, &config.runners_folder(), args)).await;
        }
        BenchCommand::Token(args) => return token::run(ctx, args).await,
        BenchCommand::Bridge(args) => return bridge_beside_bare(ctx, args).await,
    };
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
    let what = json!({ "seconds": args.seconds, "events": args.events, "in_flight": args.in_flight });
    show(&ctx.render, &what, &result?)
}

async fn bridge_beside_bare(ctx: &Ctx, args: BridgeArgs) -> CliResult {
    let place = Place::make(args.dir.clone())?;
    if cfg!(debug_assertions) {
        notice("this is a debug build: cargo run --release -p custody-cli -- bench bridge");
    }
    let every = std::time::Duration::from_micros(1_000_000 / args.rate);
    let (frames, clients) = (args.rate * args.seconds, usize::try_from(args.clients).unwrap_or(usize::MAX));
    let result = tokio::select! {
        result = bridge::measure(&place, clients, frames, every) => result,
        _ = tokio::signal::ctrl_c() => Err(CliError::exit_only(exit::INTERRUPTED)),
    };
    place.clear().await;
    let both = result?;
    let what = format!("{} websockets x {}/s", args.clients, args.rate);
    let count = |n: u64| u32::try_from(n).map_or(f64::MAX, f64::from);
    let rows = [
        row(
            &[&what, ", frames that arrived"].concat(),
            "frames",
            count(both.ours.frames),
            count(both.bare.frames),
            Target::AtLeast(1.0),
            None,
        ),
        row(
            &[&what, ", made to received, p50"].concat(),
            "ms",
            both.ours.ms(0.5),
            both.bare.ms(0.5),
            Target::None,
            None,
        ),
        row(
            &[&what, ", made to received, p99"].concat(),
            "ms",
            both.ours.ms(0.99),
            both.bare.ms(0.99),
            Target::None,
            None,
        ),
    ];
    if both.ours.frames < both.ours.wanted {
        notice(format!("{} of {} frames arrived in time", both.ours.frames, both.ours.wanted));
    }
    let what = json!({
        "clients": args.clients, "rate": args.rate, "seconds": args.seconds, "wanted": both.ours.wanted,
    });
    show(&ctx.render, &what, &rows)
}

/// Prints rows beside their bare part; `what` are the members of the document that say what was measured.
fn show(render: &Render, what: &Value, rows: &[Value]) -> CliResult {
    if rows.iter().any(|r| r.get("void") == Some(&Value::Bool(true))) {
        notice(
            "the bare part differed by more than a quarter between two runs: this machine is busy, distrust the ratios",
        );
    }
    if render.is_json() {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let mut document = json!({
            "build": if cfg!(debug_assertions) { "debug" } else { "release" },
            "version": env!("CARGO_PKG_VERSION"),
            "cores": std::thread::available_parallelism().map(std::num::NonZero::get).ok(),
            "load": load.split(' ').take(3).collect::<Vec<_>>(),
            "rows": rows,
        });
        if let (Some(document), Some(what)) = (document.as_object_mut(), what.as_object()) {
            document.extend(what.clone());
        }
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
