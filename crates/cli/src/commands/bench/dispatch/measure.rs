//! The measurements, each between runs of its bare part.

use super::super::install::{Installation, Launched, SLEEPER, TRIVIAL};
use super::bare::Bare;
use super::cost::{cpu_seconds, parent, resident_mib};
use super::{DispatchArgs, Row, Target, failed, quantile};
use crate::commands::runner::engine;
use crate::config_runtime::RuntimeSection;
use crate::error::CliResult;
use crate::render::notice;
use custody_contracts::events::{Kind, LedgerEvent, RunEvent};
use custody_ledger::{Entity, Log, Recorded};
use custody_ports::containers::{BoxState, BoxStatus, Containers};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Containers in flight where throughput is measured.
const PARALLEL: usize = 4;
/// How long a pool may take to be full again, or boxes to be gone.
const SETTLE_MAX: Duration = Duration::from_secs(120);

/// Milliseconds from one moment to another.
fn ms(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1_000.0
}

/// One dispatch, to its end: milliseconds to its first frame, and to its agent's first byte.
async fn one(at: &Installation, runner: &str, session: Option<&str>) -> CliResult<(f64, f64, Launched)> {
    let launched = at.launch(runner, session).await?;
    let (frame, byte) = at
        .until(&launched, |times| {
            times.end?;
            Some((times.frame?, times.byte))
        })
        .await?;
    let byte = byte.unwrap_or(frame);
    Ok((ms(launched.at, frame), ms(launched.at, byte), launched))
}

/// Containers of an installation.
async fn boxes(at: &Installation) -> CliResult<Vec<BoxStatus>> {
    let instance = std::fs::read_to_string(at.target.home.path("instance"))?;
    let labels = BTreeMap::from([("custody.instance".to_owned(), instance.trim().to_owned())]);
    engine().map_err(failed)?.list(&labels).await.map_err(failed)
}

/// Waits until exactly so many boxes run and no other is there.
async fn settled(at: &Installation, count: usize) -> CliResult {
    let until = Instant::now() + SETTLE_MAX;
    loop {
        let all = boxes(at).await?;
        if all.len() == count && all.iter().all(|status| status.state == BoxState::Running) {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(failed(format!("{} boxes instead of {count} after {} s", all.len(), SETTLE_MAX.as_secs())));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The pool's boxes, with time for the machine to become quiet.
async fn full(at: &Installation, pool: u64) -> CliResult {
    let pool = usize::try_from(pool).map_err(failed)?;
    settled(at, pool).await?;
    // A box that just ended may have stood for one that was not there yet.
    tokio::time::sleep(Duration::from_millis(300)).await;
    settled(at, pool).await
}

/// How long each phase of a start took, by its record.
async fn phases_of(at: &Installation, launched: &Launched) -> CliResult<BTreeMap<String, f64>> {
    let entity = Entity::new(Kind::Run, &launched.dispatch).ok_or_else(|| failed("no entity"))?;
    let mut phases = BTreeMap::new();
    for stored in at.operator.log().await?.load(&entity).await.map_err(failed)? {
        for recorded in Recorded::read(&stored).map_err(failed)? {
            let took = match recorded.event {
                Some(LedgerEvent::Run(RunEvent::Started(started))) => started.phases_ms,
                Some(LedgerEvent::Run(RunEvent::Finished(finished))) => finished.phases_ms,
                _ => BTreeMap::new(),
            };
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of one start")]
            phases.extend(took.into_iter().map(|(phase, ms)| (phase, ms as f64)));
        }
    }
    Ok(phases)
}

pub(super) async fn cold(at: &Installation, args: &DispatchArgs, rows: &mut Vec<Row>) -> CliResult {
    let bare = Bare::new(&at.folder, &at.image, RuntimeSection::default().limits())?;
    // The first of each finds files and programs not yet in memory.
    one(at, TRIVIAL, None).await?;
    bare.one().await?;
    settled(at, 0).await?;
    notice("cold, one at a time");
    let (mut bares, mut frames, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    let mut phases: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for _ in 0..args.rounds {
        bares.push(bare.one().await?);
        let (frame, byte, launched) = one(at, TRIVIAL, None).await?;
        frames.push(frame);
        bytes.push(byte);
        settled(at, 0).await?;
        for (phase, took) in phases_of(at, &launched).await? {
            phases.entry(phase).or_default().push(took);
        }
    }
    let (half, most) = (0.5, 0.99);
    rows.push(Row::against(
        "cold_first_frame_ms_p50",
        "cold, publish to first frame, p50",
        "ms",
        quantile(&frames, half),
        quantile(&bares, half),
        Target::AtMost(1.15),
    ));
    rows.push(Row::against(
        "cold_first_frame_ms_p99",
        "cold, publish to first frame, p99",
        "ms",
        quantile(&frames, most),
        quantile(&bares, most),
        Target::None,
    ));
    rows.push(Row::alone(
        "control_overhead_ms_p50",
        "cold, over the bare container, p50",
        "ms",
        quantile(&frames, half) - quantile(&bares, half),
        Target::AtMost(5.0),
    ));
    rows.push(Row::alone(
        "control_overhead_ms_p99",
        "cold, over the bare container, p99",
        "ms",
        quantile(&frames, most) - quantile(&bares, most),
        Target::AtMost(20.0),
    ));
    rows.push(Row::alone(
        "cold_first_byte_ms_p50",
        "cold, publish to the agent's first byte, p50",
        "ms",
        quantile(&bytes, half),
        Target::None,
    ));
    for (phase, took) in &phases {
        let (name, measure) = (format!("cold_phase_{phase}_ms_p50"), format!("cold, of which {phase}, p50"));
        rows.push(Row::alone(&name, &measure, "ms", quantile(took, half), Target::None));
    }
    notice("first turn and second turn");
    turns(at, args, "second_turn_ms_p50", "second turn, to the agent's first byte, against the first, p50", rows)
        .await?;
    notice("four at a time");
    Box::pin(throughput(at, &bare, rows)).await?;
    for burst in args.burst.iter().filter(|burst| **burst > 0) {
        notice(format!("burst of {burst}, cold"));
        self::burst(at, *burst, "cold", "cold", rows).await?;
        settled(at, 0).await?;
    }
    idle(at, args, rows).await?;
    notice("memory of live dispatches");
    memory(at, args, rows).await
}

pub(super) async fn warm(at: &Installation, args: &DispatchArgs, rows: &mut Vec<Row>) -> CliResult {
    // The pool follows use: this is its first.
    one(at, TRIVIAL, None).await?;
    full(at, args.pool).await?;
    let (mut frames, mut bytes) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        let (frame, byte, _) = one(at, TRIVIAL, None).await?;
        frames.push(frame);
        bytes.push(byte);
        full(at, args.pool).await?;
    }
    for (name, measure, samples, q, target) in [
        ("warm_first_frame_ms_p50", "warm, publish to first frame, p50", &frames, 0.5, Target::AtMost(20.0)),
        ("warm_first_frame_ms_p99", "warm, publish to first frame, p99", &frames, 0.99, Target::AtMost(100.0)),
        ("warm_first_byte_ms_p50", "warm, publish to the agent's first byte, p50", &bytes, 0.5, Target::None),
        ("warm_first_byte_ms_p99", "warm, publish to the agent's first byte, p99", &bytes, 0.99, Target::None),
    ] {
        rows.push(Row::alone(name, measure, "ms", quantile(samples, q), target));
    }
    // As many at once as the pool holds, and then more than it holds.
    notice(format!("burst of {}, warm", args.pool));
    self::burst(at, args.pool, "warm_pool", "warm, as many as the pool holds", rows).await?;
    full(at, args.pool).await?;
    for burst in args.burst.iter().filter(|burst| **burst > 0) {
        notice(format!("burst of {burst}, warm"));
        self::burst(at, *burst, "warm", "warm", rows).await?;
        full(at, args.pool).await?;
    }
    Ok(())
}

async fn turns(at: &Installation, args: &DispatchArgs, name: &str, measure: &str, rows: &mut Vec<Row>) -> CliResult {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let runner = at.runner.clone();
    for _ in 0..args.rounds.min(20) {
        let (_, byte, launched) = one(at, &runner, None).await?;
        first.push(byte);
        let row = at.ended(&launched).await?;
        settled(at, 0).await?;
        let session = row.get("session").and_then(Value::as_str).unwrap_or_default().to_owned();
        let (_, byte, again) = one(at, &runner, Some(&session)).await?;
        second.push(byte);
        at.ended(&again).await?;
        settled(at, 0).await?;
    }
    rows.push(Row::against(name, measure, "ms", quantile(&second, 0.5), quantile(&first, 0.5), Target::None));
    Ok(())
}

/// Whole lives a second with four in flight: launch to removal here, create to removal there.
async fn throughput(at: &Installation, bare: &Bare, rows: &mut Vec<Row>) -> CliResult {
    const LIVES: usize = 60;
    let begun = Instant::now();
    let mut done = 0;
    while done < LIVES {
        let (a, b, c, d) = tokio::join!(bare.one(), bare.one(), bare.one(), bare.one());
        for one in [a, b, c, d] {
            one?;
            done += 1;
        }
    }
    let bare_rate = rate(done, begun);
    let begun = Instant::now();
    let lane = async || -> CliResult<usize> {
        let mut ended = 0;
        for _ in 0..LIVES / PARALLEL {
            one(at, TRIVIAL, None).await?;
            ended += 1;
        }
        Ok(ended)
    };
    let (a, b, c, d) = tokio::join!(lane(), lane(), lane(), lane());
    let ended = a? + b? + c? + d?;
    settled(at, 0).await?;
    rows.push(Row::against(
        "containers_per_second_4",
        "whole lives, four in flight",
        "1/s",
        rate(ended, begun),
        bare_rate,
        Target::None,
    ));
    Ok(())
}

fn rate(count: usize, since: Instant) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "some tens")]
    let count = count as f64;
    count / since.elapsed().as_secs_f64()
}

/// So many launches at once: how long until each has its first frame.
async fn burst(at: &Installation, count: u64, name: &str, how: &str, rows: &mut Vec<Row>) -> CliResult {
    let begun = Instant::now();
    let launches = (0..count).map(|_| at.launch(TRIVIAL, None));
    let launched = futures::future::try_join_all(launches).await?;
    let mut waits = Vec::new();
    for one in &launched {
        let frame = at.until(one, |times| times.frame).await?;
        waits.push(ms(begun, frame));
        at.until(one, |times| times.end).await?;
    }
    let last = waits.iter().copied().fold(0.0, f64::max);
    #[expect(clippy::cast_precision_loss, reason = "some hundreds")]
    let a_second = count as f64 / (last / 1_000.0);
    let name = format!("{name}_burst_{count}");
    let measure = format!("burst of {count}, {how}");
    for (what, unit, q) in
        [("first frame, p50", "first_frame_ms_p50", 0.5), ("first frame, p99", "first_frame_ms_p99", 0.99)]
    {
        let key = format!("{name}_{unit}");
        rows.push(Row::alone(&key, &format!("{measure}, {what}"), "ms", quantile(&waits, q), Target::None));
    }
    let key = format!("{name}_per_second");
    rows.push(Row::alone(&key, &format!("{measure}, started"), "1/s", a_second, Target::None));
    Ok(())
}

/// Processor and memory of everything that runs while nothing happens.
async fn idle(at: &Installation, args: &DispatchArgs, rows: &mut Vec<Row>) -> CliResult {
    settled(at, 0).await?;
    notice(format!("idle for {} s", args.idle_seconds));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let all = [at.pid, at.nats_pid];
    let before: f64 = all.iter().map(|pid| cpu_seconds(*pid)).sum();
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(args.idle_seconds)).await;
    let used = all.iter().map(|pid| cpu_seconds(*pid)).sum::<f64>() - before;
    let share = used / begun.elapsed().as_secs_f64() * 100.0;
    rows.push(Row::alone(
        "idle_cpu_percent",
        "idle, custody and nats-server, of one core",
        "%",
        share,
        Target::AtMost(2.0),
    ));
    for (name, measure, pid) in [
        ("idle_custody_mib", "idle, custody, resident", at.pid),
        ("idle_nats_mib", "idle, nats-server, resident", at.nats_pid),
    ] {
        rows.push(Row::alone(name, measure, "MiB", resident_mib(pid), Target::None));
    }
    let both = all.iter().map(|pid| resident_mib(*pid)).sum();
    rows.push(Row::alone("idle_mib", "idle, both, resident", "MiB", both, Target::AtMost(100.0)));
    Ok(())
}

/// Memory that each live dispatch adds: our processes, its shim and its worker, but not its agent.
async fn memory(at: &Installation, args: &DispatchArgs, rows: &mut Vec<Row>) -> CliResult {
    let all = [at.pid, at.nats_pid];
    let before: f64 = all.iter().map(|pid| resident_mib(*pid)).sum();
    let mut launched = Vec::new();
    for _ in 0..args.live {
        launched.push(at.launch(SLEEPER, None).await?);
    }
    for one in &launched {
        at.until(one, |times| times.frame).await?;
    }
    settled(at, launched.len()).await?;
    let ours = all.iter().map(|pid| resident_mib(*pid)).sum::<f64>() - before;
    let (mut shims, mut workers) = (0.0, 0.0);
    for status in boxes(at).await? {
        let Some(pid) = status.pid else { continue };
        workers += resident_mib(pid);
        shims += parent(pid).map_or(0.0, resident_mib);
    }
    #[expect(clippy::cast_precision_loss, reason = "some tens")]
    let count = launched.len() as f64;
    let each = (ours.max(0.0) + shims + workers) / count;
    rows.push(Row::alone("live_mib", "each live dispatch, besides its agent", "MiB", each, Target::AtMost(20.0)));
    rows.push(Row::alone("live_shim_mib", "of which the engine's shim", "MiB", shims / count, Target::None));
    rows.push(Row::alone("live_worker_mib", "of which its worker", "MiB", workers / count, Target::None));
    rows.push(Row::alone("live_platform_mib", "of which custody and nats-server", "MiB", ours / count, Target::None));
    for one in &launched {
        let body = serde_json::json!({ "dispatch": one.dispatch, "by": "u_bench", "grace_ms": 0 });
        at.operator.command("dispatch.stop", body).await?;
    }
    settled(at, 0).await
}
