//! `custody status`: what runs here, in a few lines.

use super::Ctx;
use crate::client::rows;
use crate::error::{CliError, CliResult, exit};
use crate::render::Format;
use serde_json::{Value, json};

pub(crate) async fn run(ctx: &Ctx) -> CliResult {
    let target = ctx.target()?;
    let Some(up) = target.home.up() else {
        if target.config.nats.url.is_none() {
            if ctx.render.is_json() {
                ctx.render.one("status.v1", "state", &json!({ "state": "down", "folder": target.home.root() }))?;
            }
            return Err(CliError::new(
                exit::UNREACHABLE,
                "NOT_RUNNING",
                format!("Custody does not run here (state folder {})", target.home.root().display()),
            )
            .hint("custody up --detach"));
        }
        return remote(ctx).await;
    };
    let operator = target.operator().await?;
    let projections = rows(&operator.query("projection.ls", json!({})).await?);
    let open = operator
        .query("dispatch.ls", json!({ "status": ["queued", "starting", "running", "stopping"], "limit": 500 }))
        .await?;
    let summary = operator.query("audit.summary", json!({})).await?;
    let behind = projections.iter().filter_map(|p| p.get("seq").and_then(Value::as_u64)).min().unwrap_or(0);
    let standings = crate::server::outside::standings(&target.home);
    let anomalies = summary.get("anomalies").and_then(Value::as_array).map_or(0, Vec::len);
    let document = json!({
        "state": "up", "address": up.nats_url, "pid": up.pid, "version": up.version, "model": up.model,
        "nats_pid": up.nats_pid, "folder": target.home.root(), "open_dispatches": rows(&open).len(),
        "ledger_seq": behind, "checkpoint": summary.get("checkpoint"), "anomalies": anomalies,
        "checkpoint_copies": standings,
    });
    match ctx.render.format() {
        Format::Table | Format::Wide => {
            crate::render::line(format!("up  NATS at {}, pid {}, version {}", up.nats_url, up.pid, up.version))?;
            crate::render::line(format!(
                "model {} · {} open dispatches · ledger at {behind} · {anomalies} anomalies",
                up.model,
                rows(&open).len()
            ))?;
            for place in &standings {
                let wrong = place.error.as_ref().map_or_else(String::new, |e| format!(" · {e}"));
                let text = format!("checkpoints up to {} at {}{wrong}", place.size, place.name);
                crate::render::line(custody_projections::row::plain(&text, 300))?;
            }
            Ok(())
        }
        _ => ctx.render.one("status.v1", "state", &document),
    }
}

async fn remote(ctx: &Ctx) -> CliResult {
    let target = ctx.target()?;
    let operator = target.operator().await?;
    let projections = operator.query("projection.ls", json!({})).await?;
    ctx.render.one(
        "status.v1",
        "state",
        &json!({ "state": "up", "address": target.url()?, "projections": projections.get("rows") }),
    )
}
