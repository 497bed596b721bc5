//! `custody bench dispatch`: starting a dispatch beside starting its bare container: the same box by the same engine API,
//! without the platform. Both in one run, one after the other, so that a busy machine slows both.

mod bare;
mod cost;
mod measure;

use super::install::{Installation, Wanted, in_a_place};
use super::{Place, Target, failed, round};
use crate::error::CliResult;
use crate::render::{Render, col, notice};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// What `bench dispatch` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct DispatchArgs {
    /// Starts that are measured one by one, of each kind
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rounds: u64,
    /// Launches at once; may be given several times; 0 leaves bursts out
    #[arg(long, default_values_t = [100, 300], value_delimiter = ',')]
    burst: Vec<u64>,
    /// Blank boxes of the pool
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=64))]
    pool: u64,
    /// Seconds of idleness that are measured
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    idle_seconds: u64,
    /// Dispatches that live while memory is measured
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=64))]
    live: u64,
    /// The installed runner whose image is started
    #[arg(long, default_value = "custody-agent")]
    runner: String,
    /// Where the private state folder is made; on a memory file system nothing is ever synced [default: the temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// One line of the result.
pub(super) struct Row {
    pub(super) name: String,
    measure: String,
    unit: &'static str,
    pub(super) ours: f64,
    bare: Option<f64>,
    target: Target,
    /// Whether the target is for the figure itself and not for its ratio to the bare part.
    absolute: bool,
}

impl Row {
    fn against(name: &str, measure: &str, unit: &'static str, ours: f64, bare: f64, target: Target) -> Row {
        Row {
            name: name.to_owned(),
            measure: measure.to_owned(),
            unit,
            ours,
            bare: Some(bare),
            target,
            absolute: false,
        }
    }

    pub(super) fn alone(name: &str, measure: &str, unit: &'static str, ours: f64, target: Target) -> Row {
        Row { name: name.to_owned(), measure: measure.to_owned(), unit, ours, bare: None, target, absolute: true }
    }

    pub(super) fn value(&self) -> Value {
        let ratio = self.bare.filter(|bare| *bare > 0.0).map(|bare| round(self.ours / bare));
        let target = match (self.target.text(), self.absolute) {
            (Some(text), true) => Some(format!("{text} {}", self.unit)),
            (Some(text), false) => Some(format!("ratio {text}")),
            (None, _) => None,
        };
        json!({ "measure": self.measure, "unit": self.unit, "ours": round(self.ours),
                "bare": self.bare.map(round), "ratio": ratio, "target": target })
    }
}

pub(crate) async fn run(render: &Render, config: &crate::config::Config, args: DispatchArgs) -> CliResult {
    let runners = config.runners_folder();
    let measure = async |place: &Place| Box::pin(all(place, &runners, &args)).await;
    let rows = in_a_place("dispatch", args.dir.clone(), measure).await?;
    print(render, &args, &rows)
}

async fn all(place: &Place, runners: &std::path::Path, args: &DispatchArgs) -> CliResult<Vec<Row>> {
    let mut rows = Vec::new();
    let wanted = |name, pool| Wanted { name, runners, runner: &args.runner, pool, running: 0, more: "" };
    let cold = Installation::start(place, wanted("c", 0)).await?;
    let result = Box::pin(measure::cold(&cold, args, &mut rows)).await;
    cold.stop().await?;
    result?;
    notice("warm boxes");
    let pool = usize::try_from(args.pool).map_err(failed)?;
    let warm = Installation::start(place, wanted("w", pool)).await?;
    let result = Box::pin(measure::warm(&warm, args, &mut rows)).await;
    warm.stop().await?;
    result?;
    Ok(rows)
}

fn print(render: &Render, args: &DispatchArgs, rows: &[Row]) -> CliResult {
    let values: Vec<Value> = rows.iter().map(Row::value).collect();
    if render.is_json() {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let mut document = Map::new();
        for row in rows {
            document.insert(row.name.clone(), round(row.ours));
        }
        let cold = rows.iter().find(|row| row.name == "cold_first_frame_ms_p50");
        if let Some(ratio) = cold.and_then(|row| row.bare.map(|bare| row.ours / bare)) {
            document.insert("cold_ratio".to_owned(), round(ratio));
        }
        document.insert("build".into(), json!(if cfg!(debug_assertions) { "debug" } else { "release" }));
        document.insert("version".into(), json!(env!("CARGO_PKG_VERSION")));
        document.insert("cores".into(), json!(std::thread::available_parallelism().map(std::num::NonZero::get).ok()));
        document.insert("load".into(), json!(load.split(' ').take(3).collect::<Vec<_>>()));
        document.insert("rounds".into(), json!(args.rounds));
        document.insert("pool".into(), json!(args.pool));
        document.insert("rows".into(), Value::Array(values));
        return render.one("bench-dispatch.v1", "version", &Value::Object(document));
    }
    let columns = [
        col("MEASURE", "measure"),
        col("UNIT", "unit"),
        col("OURS", "ours"),
        col("BARE", "bare"),
        col("RATIO", "ratio"),
        col("TARGET", "target"),
    ];
    render.list("bench-row.v1", "measure", &columns, &values)
}

/// A quantile of samples, by rank; 0 of none.
pub(super) fn quantile(samples: &[f64], q: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank of at most some thousands of samples"
    )]
    let rank = ((sorted.len() as f64 * q).ceil() as usize).saturating_sub(1);
    sorted.get(rank.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(&[], 0.5, 0.0)]
    #[case(&[3.0], 0.99, 3.0)]
    #[case(&[4.0, 1.0, 3.0, 2.0], 0.5, 2.0)]
    #[case(&[4.0, 1.0, 3.0, 2.0], 0.99, 4.0)]
    fn quantiles_are_samples(#[case] samples: &[f64], #[case] q: f64, #[case] expected: f64) {
        assert!((quantile(samples, q) - expected).abs() < f64::EPSILON);
    }

    #[test]
    fn a_row_says_what_its_target_is_of() {
        let cold = Row::against("cold", "cold", "ms", 90.0, 80.0, Target::AtMost(1.15));
        assert_eq!((&cold.value()["ratio"], &cold.value()["target"]), (&json!(1.125), &json!("ratio <= 1.15")));
        let warm = Row::alone("warm", "warm", "ms", 12.0, Target::AtMost(20.0));
        assert_eq!((&warm.value()["bare"], &warm.value()["target"]), (&Value::Null, &json!("<= 20 ms")));
    }
}
