//! Runs one operation again and again, with a fixed number in flight, and keeps every latency. Closed loop: the next
//! one starts when one has ended, so a latency here is the latency at capacity.

use crate::error::CliResult;
use hdrhistogram::Histogram;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The longest latency that is told apart, in microseconds.
const MICROS_MAX: u64 = 60_000_000;
/// How far two runs of the bare part may lie apart, as a share of the faster one.
const SPREAD_MAX: f64 = 0.25;
/// How often a measurement is tried until two bare runs agree.
pub(super) const TRIES_MAX: u32 = 3;

/// What a run came to.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    /// Operations that ended well.
    pub(super) done: u64,
    /// In which time.
    pub(super) elapsed: Duration,
    latencies: Option<Histogram<u64>>,
}

impl Measured {
    /// A run without latencies.
    pub(super) fn bulk(done: u64, elapsed: Duration) -> Measured {
        Measured { done, elapsed, latencies: None }
    }

    /// Operations a second.
    pub(super) fn rate(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let done = self.done as f64;
        if seconds > 0.0 { done / seconds } else { 0.0 }
    }

    /// A quantile of the latencies in milliseconds; 0 when none were kept.
    pub(super) fn quantile_ms(&self, quantile: f64) -> f64 {
        let micros = self.latencies.as_ref().map_or(0, |l| l.value_at_quantile(quantile));
        #[expect(clippy::cast_precision_loss, reason = "at most 60 seconds in microseconds")]
        let micros = micros as f64;
        micros / 1_000.0
    }
}

/// Ours between two runs of the bare part.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    /// The bare part before.
    pub(super) before: Measured,
    /// Ours.
    pub(super) ours: Measured,
    /// The bare part after.
    pub(super) after: Measured,
}

impl Pair {
    /// The mean rate of the bare part.
    pub(super) fn bare_rate(&self) -> f64 {
        f64::midpoint(self.before.rate(), self.after.rate())
    }

    /// The mean of the bare part's quantiles, in milliseconds.
    pub(super) fn bare_ms(&self, quantile: f64) -> f64 {
        f64::midpoint(self.before.quantile_ms(quantile), self.after.quantile_ms(quantile))
    }

    /// How far the two bare runs lie apart, as a share of the faster one.
    pub(super) fn spread(&self) -> f64 {
        let (a, b) = (self.before.rate(), self.after.rate());
        let faster = a.max(b);
        if faster > 0.0 { (a - b).abs() / faster } else { 1.0 }
    }

    /// Whether the machine was too busy for the ratio to say anything.
    pub(super) fn void(&self) -> bool {
        self.spread() > SPREAD_MAX
    }
}

/// Runs `each(0)`, `each(1)`, … below `count`, `in_flight` at a time, until `limit` is over.
///
/// # Errors
/// The first error of an operation.
pub(super) async fn drive<F, O>(in_flight: usize, count: usize, limit: Duration, each: F) -> CliResult<Measured>
where
    F: Fn(usize) -> O + Clone + Send + 'static,
    O: Future<Output = CliResult> + Send + 'static,
{
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..in_flight {
        let (next, each) = (next.clone(), each.clone());
        workers.spawn(async move {
            let mut latencies = histogram()?;
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let begun = Instant::now();
                if index >= count || begun.duration_since(started) >= limit {
                    return Ok::<_, crate::error::CliError>(latencies);
                }
                each(index).await?;
                let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(MICROS_MAX);
                latencies.saturating_record(micros.max(1));
            }
        });
    }
    let mut all = histogram()?;
    while let Some(ended) = workers.join_next().await {
        all.add(ended.map_err(super::failed)??).map_err(super::failed)?;
    }
    Ok(Measured { done: all.len(), elapsed: started.elapsed(), latencies: Some(all) })
}

/// Runs `each` so often, one after the other, and begins no two in less than `every`: what is measured has its own time and
/// no queue before it. What it took is the sum of the operations, without the pauses.
///
/// # Errors
/// The first error of an operation.
pub(super) async fn paced<F>(count: u64, every: Duration, mut each: F) -> CliResult<Measured>
where
    F: AsyncFnMut(u64) -> CliResult,
{
    let (mut latencies, mut elapsed) = (histogram()?, Duration::ZERO);
    let mut due = Instant::now();
    for index in 0..count {
        tokio::time::sleep_until(due).await;
        let begun = Instant::now();
        due = begun + every;
        each(index).await?;
        let took = begun.elapsed();
        elapsed += took;
        latencies.saturating_record(u64::try_from(took.as_micros()).unwrap_or(MICROS_MAX).max(1));
    }
    Ok(Measured { done: latencies.len(), elapsed, latencies: Some(latencies) })
}

fn histogram() -> CliResult<Histogram<u64>> {
    Histogram::new_with_bounds(1, MICROS_MAX, 3).map_err(super::failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn run(done: u64) -> Measured {
        Measured::bulk(done, Duration::from_secs(1))
    }

    #[rstest]
    #[case::alike(100, 90, false)]
    #[case::apart(100, 70, true)]
    #[case::nothing(0, 0, true)]
    fn two_bare_runs_must_agree(#[case] before: u64, #[case] after: u64, #[case] void: bool) {
        let pair = Pair { before: run(before), ours: run(10), after: run(after) };
        assert_eq!(pair.void(), void);
    }

    #[tokio::test]
    async fn every_index_is_driven_once_and_no_more() {
        let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
        let shared = seen.clone();
        let each = move |index: usize| {
            let shared = shared.clone();
            async move {
                shared.lock().unwrap().push(index);
                Ok(())
            }
        };
        let measured = drive(8, 1_000, Duration::from_secs(60), each).await.unwrap();
        let mut seen = seen.lock().unwrap().clone();
        seen.sort_unstable();
        assert_eq!(seen, (0..1_000).collect::<Vec<_>>());
        assert_eq!(measured.done, 1_000);
        assert!(measured.quantile_ms(0.99) > 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pace_is_kept_and_not_measured() {
        let begun = Instant::now();
        let each = async |_| {
            tokio::time::sleep(Duration::from_millis(3)).await;
            Ok(())
        };
        let measured = paced(10, Duration::from_millis(25), each).await.unwrap();
        assert_eq!((measured.done, begun.elapsed()), (10, Duration::from_millis(9 * 25 + 3)));
        assert!((measured.quantile_ms(0.5) - 3.0).abs() < 0.1 && measured.elapsed == Duration::from_millis(30));
    }

    #[tokio::test]
    async fn an_error_ends_the_run() {
        let each = |index: usize| async move { if index == 3 { Err(super::super::failed("no")) } else { Ok(()) } };
        assert!(drive(2, 10, Duration::from_secs(60), each).await.is_err());
    }
}
