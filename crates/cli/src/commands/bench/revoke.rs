//! Revocations under load: many dispatches that call a tool without a pause, whose grants are taken back one after the
//! other. How long until the next call of each is refused, and until its box is gone; and when the last call goes through
//! of a gateway that hears no revocations any more.

use super::dispatch::{Row, quantile};
use super::install::{Installation, Launched, Wanted, in_a_place};
use super::peers::{Client, Server, TOOL, refusal};
use super::tool::{granted, offer};
use super::{Place, Target, failed, show};
use crate::commands::Ctx;
use crate::commands::runner::engine;
use crate::error::CliResult;
use crate::render::notice;
use custody_ports::containers::Containers;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Between two calls of one dispatch: fewer than the 50 a second that it may make.
const PAUSE: Duration = Duration::from_millis(25);
/// Between two looks whether a box's process is still there.
const LOOK: Duration = Duration::from_millis(5);
/// The longest wait for what a revocation must do.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How long the ledger is held still: a gateway must have noticed after 10 s.
const CUT: Duration = Duration::from_secs(14);

/// What `bench revoke` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct RevokeArgs {
    /// Dispatches that run and call at once
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..=64))]
    dispatches: u64,
    /// The installed runner whose image is started
    #[arg(long, default_value = "custody-agent")]
    runner: String,
    /// Where the private state folder is made; on a memory file system nothing is ever synced [default: the temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// One dispatch that calls.
struct Under {
    grant: String,
    /// Process 1 of its box, as this machine numbers it.
    process: PathBuf,
    /// When its first call was refused, and how.
    refused: watch::Receiver<Option<(Instant, String)>>,
}

pub(super) async fn run(ctx: &Ctx, runners: &Path, args: RevokeArgs) -> CliResult {
    let measure = async |place: &Place| Box::pin(measure(place, runners, &args)).await;
    let rows = in_a_place("revoke", args.dir.clone(), measure).await?;
    let mut what = Map::from_iter([("dispatches".to_owned(), json!(args.dispatches))]);
    what.extend(rows.iter().map(|row| (row.name.clone(), super::round(row.ours))));
    let rows: Vec<Value> = rows.iter().map(Row::value).collect();
    show(&ctx.render, &Value::Object(what), &rows)
}

async fn measure(place: &Place, runners: &Path, args: &RevokeArgs) -> CliResult<Vec<Row>> {
    let server = Server::start().await?;
    let more = server.configuration();
    let running = usize::try_from(args.dispatches).map_err(failed)? + 1;
    let wanted = Wanted { name: "r", runners, runner: &args.runner, pool: 0, running, more: &more };
    let at = Installation::start(place, wanted).await?;
    let result = Box::pin(all(&at, &server, args.dispatches)).await;
    at.stop().await?;
    result
}

async fn all(at: &Installation, server: &Server, count: u64) -> CliResult<Vec<Row>> {
    offer(at).await?;
    notice(format!("{count} dispatches"));
    let (mut under, mut callers) = (Vec::new(), tokio::task::JoinSet::new());
    let mut launched = Vec::new();
    for n in 0..=count {
        let subject = format!("u_bench{n}");
        let grant = granted(at, &subject).await?;
        launched.push((grant, at.stays(&subject, &[TOOL]).await?));
    }
    let processes = processes(at).await?;
    let (_, kept) = launched.pop().ok_or_else(|| failed("nothing was launched"))?;
    for (grant, one) in launched {
        let process = processes.get(&one.dispatch).ok_or_else(|| failed("a box has no process"))?.clone();
        let (tell, refused) = watch::channel(None);
        callers.spawn(call(at.socket(&one), tell));
        under.push(Under { grant, process, refused });
    }
    notice("grants are revoked, one after the other");
    let (mut felt, mut ended) = (Vec::new(), Vec::new());
    for one in &under {
        if under.iter().skip(felt.len()).any(|one| one.refused.borrow().is_some()) {
            return Err(failed("a call was refused under a grant that stands"));
        }
        let (refused, gone) = revoke(at, one).await?;
        felt.push(refused);
        ended.push(gone);
    }
    callers.shutdown().await;
    notice(format!("the ledger is held still for {} s", CUT.as_secs()));
    let last = cut(at, server, &kept).await?;
    let (half, most) = (0.5, 0.99);
    let row = |name: &str, what: &str, value: f64, target: Target| Row::alone(name, what, "ms", value, target);
    Ok(vec![
        row("refused_ms_p50", "revoked to the first refused call, p50", quantile(&felt, half), Target::None),
        row("refused_ms_p99", "revoked to the first refused call, p99", quantile(&felt, most), Target::AtMost(1_000.0)),
        row("ended_ms_p50", "revoked to the end of the box, p50", quantile(&ended, half), Target::None),
        row("ended_ms_p99", "revoked to the end of the box, p99", quantile(&ended, most), Target::AtMost(5_000.0)),
        row("cut_last_call_ms", "ledger gone to the last call that was made", last, Target::AtMost(10_000.0)),
    ])
}

/// The processes of boxes, by dispatch.
async fn processes(at: &Installation) -> CliResult<BTreeMap<String, PathBuf>> {
    let labels = BTreeMap::from([("custody.instance".to_owned(), at.target.home.instance()?)]);
    let mut out = BTreeMap::new();
    for status in engine().map_err(failed)?.list(&labels).await.map_err(failed)? {
        let status = engine().map_err(failed)?.inspect(&status.name).await.map_err(failed)?.unwrap_or(status);
        if let (Some(dispatch), Some(pid)) = (status.labels.get("custody.dispatch"), status.pid) {
            out.insert(dispatch.clone(), PathBuf::from(format!("/proc/{pid}")));
        }
    }
    Ok(out)
}

/// Calls again and again, as its agent would, until a call is refused.
async fn call(socket: PathBuf, tell: watch::Sender<Option<(Instant, String)>>) -> CliResult {
    let mut client = Client::boxed(&socket).await?;
    for n in 1.. {
        let answer = client.call(TOOL, n).await?;
        if let Some(code) = refusal(&answer) {
            tell.send_replace(Some((Instant::now(), code.to_owned())));
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Milliseconds from the asking to the first refusal, and to the end of the box.
async fn revoke(at: &Installation, one: &Under) -> CliResult<(f64, f64)> {
    let asked = Instant::now();
    let body = json!({ "grant": one.grant, "by": "custody-bench", "why": "a measurement" });
    at.operator.command("grant.revoke", body).await?;
    let mut refused = one.refused.clone();
    let felt = async {
        match refused.wait_for(Option::is_some).await.map_err(failed)?.clone() {
            Some((at, code)) if code == "GRANT_REVOKED" => Ok(at),
            other => Err(failed(format!("refused in another way: {other:?}"))),
        }
    };
    let ended = async {
        while one.process.exists() {
            tokio::time::sleep(LOOK).await;
        }
        Ok(Instant::now())
    };
    let both = async { tokio::try_join!(felt, ended) };
    let both = tokio::time::timeout(WAIT_MAX, both).await;
    let (felt, ended) = both.map_err(|_| failed("a revocation was not felt in time"))??;
    let ms = |to: Instant| to.saturating_duration_since(asked).as_secs_f64() * 1_000.0;
    Ok((ms(felt), ms(ended)))
}

/// Milliseconds from the moment that the ledger stands still to the last call that reached the tool; 0 when none did.
async fn cut(at: &Installation, server: &Server, kept: &Launched) -> CliResult<f64> {
    Client::boxed(&at.socket(kept)).await?.called(TOOL, 1).await?;
    let server_process = i32::try_from(at.nats_pid).ok().and_then(Pid::from_raw);
    let process = server_process.ok_or_else(|| failed("the server has no process"))?;
    let held = Held::stop(process)?;
    let begun = Instant::now();
    let mut n = 2;
    while begun.elapsed() < CUT {
        // Each on a connection of its own: one that waits must not keep the next from being tried.
        let mut client = Client::boxed(&at.socket(kept)).await?;
        // Whether it was made is seen at the tool, not in the answer.
        let _answer = tokio::time::timeout(Duration::from_secs(1), client.call(TOOL, n)).await;
        n += 1;
    }
    drop(held);
    let last = server.last_call().filter(|last| *last > begun);
    let ms = last.map_or(0.0, |last| last.duration_since(begun).as_secs_f64() * 1_000.0);
    // Beside it: when the ledger goes on, so do calls.
    let until = Instant::now() + WAIT_MAX;
    while Client::boxed(&at.socket(kept)).await?.called(TOOL, n).await.is_err() {
        if Instant::now() >= until {
            return Err(failed("no call is made though the ledger goes on"));
        }
        n += 1;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(ms)
}

/// A process that stands still until this is dropped.
struct Held(Pid);

impl Held {
    fn stop(process: Pid) -> CliResult<Held> {
        kill_process(process, Signal::STOP).map_err(failed)?;
        Ok(Held(process))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It may be gone.
        let _gone = kill_process(self.0, Signal::CONT);
    }
}
