//! Checks of NATS and of the roles behind it, over one connection.

use super::{CHECK_WAIT, Check, bounded, size};
use crate::client::{Operator, Target, rows};
use crate::commands::streams;
use crate::error::{CliResult, exit};
use crate::render::parse_rfc3339;
use crate::server::clock::now_ms;
use custody_nats::Connection;
use custody_streams::spec::{LEDGER, StreamSpec};
use serde_json::{Value, json};

/// Hundredths of a stream's limit above which it is a warning.
const FULL_WARN: u64 = 80;
/// Hundredths above which it is a failure.
const FULL_FAIL: u64 = 97;
/// Milliseconds between this clock and the server's above which it is a warning.
const SKEW_WARN_MS: u64 = 2_000;
/// Milliseconds above which it is a failure: launches are refused at ten minutes.
const SKEW_FAIL_MS: u64 = 60_000;
/// Events behind the ledger's end above which a projection is late.
const LAG_WARN: u64 = 1_000;

const NAMES: [&str; 5] = ["server", "guard", "streams", "clock", "projections"];

/// Every check that needs the server.
pub(super) async fn checks(target: &Target) -> Vec<Check> {
    if target.home.up().is_none() && target.config.nats.url.is_none() {
        let mut out = vec![Check::warn("server", "Custody does not run here", "custody up --detach")];
        out.extend(NAMES.into_iter().skip(1).map(|name| Check::skip(name, "nothing runs")));
        return out;
    }
    let opened = tokio::time::timeout(CHECK_WAIT, streams::observer(target)).await;
    let (connection, specs) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => return unreachable(Check::failed("server", error)),
        Err(_) => return unreachable(Check::fail("server", "no answer in 5 s", "custody status")),
    };
    let out = tokio::join!(
        bounded("server", server(target, &connection)),
        bounded("guard", guard(target, &connection, &specs)),
        bounded("streams", usage(&connection, &specs)),
        bounded("clock", clock(&connection)),
        bounded("projections", projections(target)),
    );
    connection.close().await;
    vec![out.0, out.1, out.2, out.3, out.4]
}

fn unreachable(server: Check) -> Vec<Check> {
    let mut out = vec![server];
    out.extend(NAMES.into_iter().skip(1).map(|name| Check::skip(name, "the server is not reachable")));
    out
}

/// One call of the JetStream API, as it answers.
async fn api(connection: &Connection, call: &str) -> Result<Value, String> {
    let subject = ["$JS.API.", call].concat();
    let answer = connection.client().request(subject, "{}".into()).await.map_err(|e| e.to_string())?;
    serde_json::from_slice(&answer.payload).map_err(|e| e.to_string())
}

async fn server(target: &Target, connection: &Connection) -> Check {
    let url = target.url().map(|u| streams::redact(&u)).unwrap_or_default();
    let started = tokio::time::Instant::now();
    if let Err(why) = api(connection, "INFO").await {
        return Check::fail("server", format!("{url}: JetStream does not answer: {why}"), "custody streams guard");
    }
    let micros = started.elapsed().as_micros();
    let version = connection.client().server_info().version;
    let rtt = format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100);
    Check::ok("server", format!("{url} nats-server {version}, JetStream answers in {rtt}"))
}

async fn guard(target: &Target, connection: &Connection, specs: &[StreamSpec]) -> Check {
    let findings = match streams::findings(target, connection, specs).await {
        Ok(findings) => findings,
        Err(error) => return Check::failed("guard", error),
    };
    let said =
        findings.iter().map(|f| format!("{} {}: {}", f.code, f.subject, f.message)).collect::<Vec<_>>().join("; ");
    match (findings.iter().find(|f| f.fatal), findings.first()) {
        (Some(fatal), _) => Check::fail("guard", said, &fatal.hint),
        (None, Some(first)) => Check::warn("guard", said, &first.hint),
        (None, None) => Check::ok("guard", format!("the server and {} streams keep the rules", specs.len())),
    }
}

async fn usage(connection: &Connection, specs: &[StreamSpec]) -> Check {
    match streams::usage(connection, specs).await {
        Ok(rows) => fullness(&rows),
        Err(error) => Check::failed("streams", error),
    }
}

/// How full the streams are, the fullest first.
fn fullness(rows: &[Value]) -> Check {
    let number = |row: &Value, field: &str| row.get(field).and_then(Value::as_u64).unwrap_or(0);
    let one = |row: &Value| {
        let name = row.get("stream").and_then(Value::as_str).unwrap_or_default().to_owned();
        match row.get("bytes_max") {
            Some(_) => format!("{name} {} of {}", size(number(row, "bytes")), size(number(row, "bytes_max"))),
            None => format!("{name} is missing"),
        }
    };
    let detail = rows.iter().map(one).collect::<Vec<_>>().join(" · ");
    match rows.iter().map(|row| number(row, "used")).max().unwrap_or(0) {
        used if used >= FULL_FAIL => {
            Check::fail("streams", detail, "raise nats.ledger_bytes_max, then custody streams apply")
        }
        used if used >= FULL_WARN => {
            Check::warn("streams", detail, "raise nats.ledger_bytes_max, then custody streams apply")
        }
        _ => Check::ok("streams", detail),
    }
}

/// The server's clock against ours, at the middle of one question.
async fn clock(connection: &Connection) -> Check {
    let before = now_ms();
    let answer = match api(connection, &["STREAM.INFO.", LEDGER].concat()).await {
        Ok(answer) => answer,
        Err(why) => return Check::fail("clock", why, "custody streams guard"),
    };
    let middle = before / 2 + now_ms() / 2;
    match answer.get("ts").and_then(Value::as_str).and_then(parse_rfc3339) {
        Some(server) => skew(server, middle),
        None => Check::skip("clock", "the server does not tell its time"),
    }
}

fn skew(server_ms: u64, own_ms: u64) -> Check {
    let apart = server_ms.abs_diff(own_ms);
    let sign = if server_ms >= own_ms { "+" } else { "-" };
    let detail = format!("the server's is {sign}{apart} ms from this one");
    match apart {
        _ if apart >= SKEW_FAIL_MS => {
            Check::fail("clock", detail, "set both clocks by NTP: launches are refused at ten minutes")
        }
        _ if apart >= SKEW_WARN_MS => Check::warn("clock", detail, "set both clocks by NTP"),
        _ => Check::ok("clock", detail),
    }
}

async fn projections(target: &Target) -> Check {
    match asked(target).await {
        Ok((last, rows, anomalies)) => lag(last, &rows, anomalies),
        Err(error) if error.exit == exit::UNREACHABLE => {
            Check::fail("projections", format!("the projector does not answer: {error}"), "custody status")
        }
        Err(error) => Check::failed("projections", error),
    }
}

async fn asked(target: &Target) -> CliResult<(u64, Vec<Value>, usize)> {
    let operator: Operator = target.operator().await?;
    let info = api(&operator.connection, &["STREAM.INFO.", LEDGER].concat()).await;
    let last = info.ok().and_then(|i| i.pointer("/state/last_seq")?.as_u64()).unwrap_or(0);
    let rows = rows(&operator.query("projection.ls", json!({})).await?);
    let summary = operator.query("audit.summary", json!({})).await?;
    let anomalies = summary.get("anomalies").and_then(Value::as_array).map_or(0, Vec::len);
    operator.connection.close().await;
    Ok((last, rows, anomalies))
}

fn lag(last: u64, rows: &[Value], anomalies: usize) -> Check {
    let Some(slowest) = rows.iter().filter_map(|r| r.get("seq")?.as_u64()).min() else {
        return Check::fail("projections", "the projector names no projection", "custody projection ls");
    };
    let behind = last.saturating_sub(slowest);
    let detail = format!("{} of them, {behind} events behind {last}, {anomalies} anomalies", rows.len());
    match (behind > LAG_WARN, anomalies > 0) {
        (_, true) => Check::warn("projections", format!("{detail}: events that cannot follow"), "custody audit verify"),
        (true, _) => Check::warn("projections", detail, "custody projection ls, again in a minute"),
        _ => Check::ok("projections", detail),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(1_000_000, 1_000_041, Status::Ok, "-41 ms")]
    #[case(1_000_041, 1_000_000, Status::Ok, "+41 ms")]
    #[case(1_005_000, 1_000_000, Status::Warn, "+5000 ms")]
    #[case(1_000_000, 1_100_000, Status::Fail, "-100000 ms")]
    fn clocks(#[case] server: u64, #[case] own: u64, #[case] status: Status, #[case] part: &str) {
        let check = skew(server, own);
        assert_eq!(check.status, status);
        assert!(check.detail.contains(part), "{}", check.detail);
    }

    #[rstest]
    #[case(10, Status::Ok)]
    #[case(80, Status::Warn)]
    #[case(97, Status::Fail)]
    fn the_fullest_stream_decides(#[case] used: u64, #[case] status: Status) {
        let row = |used: u64| json!({ "stream": "LEDGER", "bytes": used, "bytes_max": 100, "used": used });
        assert_eq!(fullness(&[row(1), row(used)]).status, status);
    }

    #[rstest]
    #[case::in_step(100, 100, 0, Status::Ok)]
    #[case::late(10_000, 100, 0, Status::Warn)]
    #[case::odd(100, 100, 1, Status::Warn)]
    fn projections_follow(#[case] last: u64, #[case] seq: u64, #[case] anomalies: usize, #[case] status: Status) {
        assert_eq!(lag(last, &[json!({ "seq": seq }), json!({ "seq": last })], anomalies).status, status);
    }

    #[test]
    fn no_projection_at_all_is_a_failure() {
        assert_eq!(lag(5, &[], 0).status, Status::Fail);
    }
}
