//! `custody doctor`: what is wrong, and the command that mends it. Read-only and bounded: no check changes anything or
//! takes longer than [`CHECK_WAIT`]. Must never print a secret.

mod machine;
mod remote;
mod sandbox;

use super::Ctx;
use crate::client::Target;
use crate::config::Config;
use crate::error::{CliError, CliResult, exit};
use crate::render::{Render, col, notice};
use serde::Serialize;
use serde_json::json;
use std::time::Duration;

/// The longest that one check may take.
const CHECK_WAIT: Duration = Duration::from_secs(5);

/// Find out what is wrong, read-only.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Changes nothing; each check takes at most 5 s; no secret is printed, so the output can be put into a report.\n\nWith --sandbox it launches probes through the running installation: dispatches like any other, recorded like any other.\n\nExamples:\n  custody doctor\n  custody doctor --sandbox\n  custody doctor --sandbox -o json | jq '.controls[] | select(.status == \"fail\")'\n  custody doctor -o json | jq '.checks[] | select(.status != \"ok\")'\n\nExit codes: 0 nothing failed (warnings may be there), 1 a check failed."
)]
pub(crate) struct DoctorArgs {
    /// Dispatch a probe and show every control of the sandbox, as set and as measured from inside
    #[arg(long)]
    sandbox: bool,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// Nothing to do.
    Ok,
    /// Could not be checked, because something before it is missing.
    Skip,
    /// It works, and something should be done.
    Warn,
    /// It does not work.
    Fail,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    check: &'static str,
    status: Status,
    detail: String,
    /// A command that mends it.
    fix: Option<String>,
}

impl Check {
    fn new(check: &'static str, status: Status, detail: impl Into<String>) -> Check {
        Check { check, status, detail: detail.into(), fix: None }
    }

    fn ok(check: &'static str, detail: impl Into<String>) -> Check {
        Check::new(check, Status::Ok, detail)
    }

    fn skip(check: &'static str, detail: impl Into<String>) -> Check {
        Check::new(check, Status::Skip, detail)
    }

    fn warn(check: &'static str, detail: impl Into<String>, fix: &str) -> Check {
        Check { fix: Some(fix.to_owned()), ..Check::new(check, Status::Warn, detail) }
    }

    fn fail(check: &'static str, detail: impl Into<String>, fix: &str) -> Check {
        Check { fix: Some(fix.to_owned()), ..Check::new(check, Status::Fail, detail) }
    }

    /// An error of the command line as a failed check.
    fn failed(check: &'static str, error: CliError) -> Check {
        Check { fix: error.hint, ..Check::new(check, Status::Fail, error.message) }
    }
}

/// A check with its limit: one that does not answer has failed.
async fn bounded(check: &'static str, run: impl Future<Output = Check>) -> Check {
    within(CHECK_WAIT, check, run).await
}

async fn within(limit: Duration, check: &'static str, run: impl Future<Output = Check>) -> Check {
    match tokio::time::timeout(limit, run).await {
        Ok(done) => done,
        Err(_) => Check::fail(check, format!("no answer in {} ms", limit.as_millis()), "custody status"),
    }
}

pub(crate) async fn run(ctx: &Ctx, args: DoctorArgs) -> CliResult {
    if args.sandbox {
        return Box::pin(sandbox::run(ctx)).await;
    }
    let mut checks = vec![Check::ok(
        "client",
        format!("custody {}, contracts {}", env!("CARGO_PKG_VERSION"), super::contract::set_digest()),
    )];
    let (config, target) = configuration(ctx);
    checks.push(config);
    if let Some(target) = &target {
        checks.push(machine::state(target));
        checks.push(machine::disk(target));
        checks.push(bounded("nats-server", machine::nats_binary(target)).await);
        checks.extend(Box::pin(remote::checks(target)).await);
        checks.push(bounded("engine", machine::engine()).await);
        checks.push(bounded("runners", machine::runners(target)).await);
        checks.push(bounded("model", machine::model(target)).await);
        checks.push(machine::checkpoints(target));
    }
    report(&ctx.render, &checks)
}

/// The configuration; one that cannot be used leaves nothing else to check.
fn configuration(ctx: &Ctx) -> (Check, Option<Target>) {
    match ctx.target() {
        Err(error) => (Check::failed("config", error), None),
        Ok(target) => {
            let from = match &ctx.global.config {
                Some(path) => path.display().to_string(),
                None if target.config == Config::default() => "defaults".to_owned(),
                None => "the configuration file of its default place".to_owned(),
            };
            (Check::ok("config", format!("{from}; state folder {}", target.home.root().display())), Some(target))
        }
    }
}

fn report(render: &Render, checks: &[Check]) -> CliResult {
    if render.is_json() {
        render.one("doctor.v1", "schema", &json!({ "checks": checks }))?;
    } else {
        let rows = checks.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
        let columns = [col("CHECK", "check"), col("STATUS", "status"), col("DETAIL", "detail"), col("FIX", "fix")];
        let whole = Render { no_trunc: true, ..render.clone() };
        whole.list("doctor.v1", "check", &columns, &rows)?;
    }
    let count = |status: Status| checks.iter().filter(|c| c.status == status).count();
    let (warnings, failures) = (count(Status::Warn), count(Status::Fail));
    notice(format!(
        "{} checks, {warnings} warnings, {failures} failures, {} skipped",
        checks.len(),
        count(Status::Skip)
    ));
    if failures > 0 { Err(CliError::exit_only(exit::FAILED)) } else { Ok(()) }
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => {
            let tenths = bytes.saturating_mul(10) / unit;
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(0, "0 B")]
    #[case(1_023, "1023 B")]
    #[case(1_536, "1.5 KiB")]
    #[case(5 << 30, "5.0 GiB")]
    fn sizes(#[case] bytes: u64, #[case] shown: &str) {
        assert_eq!(size(bytes), shown);
    }

    #[tokio::test]
    async fn a_check_that_hangs_has_failed() {
        let check = within(Duration::from_millis(1), "model", std::future::pending()).await;
        assert_eq!((check.status, check.detail.as_str()), (Status::Fail, "no answer in 1 ms"));
    }

    #[test]
    fn only_a_failure_is_an_exit_code() {
        let render = Render {
            format: Some(crate::render::Format::Name),
            no_headers: false,
            no_trunc: false,
            fields: Vec::new(),
            time: crate::render::TimeForm::Iso,
            color: false,
            now_ms: 0,
        };
        let warned = [Check::ok("a", ""), Check::warn("b", "", "do"), Check::skip("c", "")];
        assert!(report(&render, &warned).is_ok());
        assert_eq!(report(&render, &[Check::fail("a", "", "do")]).unwrap_err().exit, exit::FAILED);
    }
}
