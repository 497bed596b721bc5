//! `custody audit why`: the ladder from an event to the person. Must never explain a chain whose signatures are not good.

use super::{Ctx, unavailable};
use crate::client::Operator;
use crate::error::{CliError, CliResult, exit};
use crate::render::{Format, line};
use custody_contracts::events::Kind;
use custody_engine::why::{Why, WhyError, explain};
use custody_ledger::{Entity, Log, Recorded, Seq, Stored};
use custody_nats::JetLog;
use custody_projections::row::{audit_row, plain};
use futures::StreamExt;
use serde_json::{Value, json};

pub(super) async fn why(ctx: &Ctx, id: &str) -> CliResult {
    let target = ctx.target()?;
    let operator = target.operator().await?;
    let log = operator.log().await?;
    let About { messages: events, focus, .. } = about(&operator, &log, id).await?;
    let Why { ladder: rungs, events: rows, signatures, .. } =
        explain(&log, &events, focus).await.map_err(not_proved)?;
    let summary = operator.query("audit.summary", json!({})).await?;
    let covered = summary.pointer("/checkpoint/size").and_then(Value::as_u64).unwrap_or(0);
    let last = events.last().map_or(0, |s| s.seq.0);
    if ctx.render.format.is_some() && ctx.render.format() != Format::Table {
        return ctx.render.one("why.v1", "focus", &json!({ "focus": focus, "ladder": rungs, "events": rows, "signatures": signatures, "checkpoint_covers": covered >= last }));
    }
    for row in &rows {
        let mark = if row.seq == focus { "→" } else { " " };
        line(format!(
            "{mark} {:>6}  {}  {:<24} {:<8} {}",
            row.seq,
            row.time.get(11..23).unwrap_or_default(),
            row.event_type.trim_start_matches("custody.").trim_end_matches(".v1"),
            row.outcome,
            plain(&row.object, 120)
        ))?;
    }
    for rung in &rungs {
        line(format!("   ↑ {:<15} {}", rung.what, plain(&rung.text, 200)))?;
    }
    let cover = if covered >= last {
        format!("under the signed checkpoint over {covered} messages")
    } else {
        "the next checkpoint will cover it within a second".to_owned()
    };
    line(format!("chain verified: {} events, {signatures} signatures good, {cover}", rows.len()))
}

/// What an id means.
pub(super) struct About {
    /// Every message of its dispatch, or its own message when it has none.
    pub(super) messages: Vec<Stored>,
    /// The event that is meant.
    pub(super) focus: u64,
    /// Whether a dispatch was named, and not one event of it.
    pub(super) whole: bool,
}

/// The event that is meant by a ledger sequence, an effect's id, a dispatch's id, a prefix of one, or `last`.
pub(super) async fn about(operator: &Operator, log: &JetLog, id: &str) -> CliResult<About> {
    let one = match id.parse::<u64>() {
        Ok(seq) => Some(read_one(log, Seq(seq)).await?),
        Err(_) => last_of_effect(log, id).await?,
    };
    let Some(one) = one else {
        let messages = chain(operator, log, id).await?;
        let focus = messages.last().map_or(0, |s| s.seq.0);
        return Ok(About { messages, focus, whole: true });
    };
    let focus = one.seq.0;
    let dispatch = Recorded::read(&one).ok().and_then(|r| r.first().map(audit_row)).and_then(|row| row.dispatch);
    let messages = match dispatch {
        Some(dispatch) => chain(operator, log, &dispatch).await?,
        None => vec![one],
    };
    Ok(About { messages, focus, whole: false })
}

/// The newest event of an effect, when the id is one's: `<dispatch>-t<n>`, `<dispatch>-m<n>`, or `<dispatch>-budget`.
async fn last_of_effect(log: &JetLog, id: &str) -> CliResult<Option<Stored>> {
    match Entity::new(Kind::Effect, id).filter(|_| is_effect(id)) {
        Some(entity) => Ok(log.load(&entity).await.map_err(unavailable)?.pop()),
        None => Ok(None),
    }
}

/// Whether an id is shaped as an effect's. A dispatch's own id may begin with `d-t` or `d-m`.
fn is_effect(id: &str) -> bool {
    let number = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
    let numbered = |kind: &str| id.rsplit_once(kind).is_some_and(|(_, n)| number(n));
    numbered("-t") || numbered("-m") || id.ends_with("-budget")
}

fn not_proved(error: WhyError) -> CliError {
    match error {
        WhyError::Unreadable(_) => CliError::new(exit::INTEGRITY, "UNREADABLE", error),
        WhyError::NotAuthentic { .. } => {
            CliError::new(exit::INTEGRITY, "NOT_AUTHENTIC", error).hint("custody audit verify")
        }
        WhyError::Log(error) => unavailable(error),
    }
}

async fn read_one(log: &dyn Log, seq: Seq) -> CliResult<Stored> {
    let missing = || {
        CliError::new(exit::NOT_FOUND, "NOT_FOUND", format!("there is no event at sequence {seq}"))
            .hint("custody audit ls")
    };
    let mut messages = log.read(seq).await.map_err(unavailable)?;
    match messages.next().await {
        Some(Ok(stored)) if stored.seq == seq => Ok(stored),
        Some(Err(error)) => Err(unavailable(error)),
        _ => Err(missing()),
    }
}

/// Every event of a dispatch, in order.
async fn chain(operator: &Operator, log: &dyn Log, id: &str) -> CliResult<Vec<Stored>> {
    let answer = operator.query("dispatch.get", json!({ "id": id })).await?;
    let seqs: Vec<u64> = crate::client::field(&answer, "seqs")?;
    let mut out = Vec::new();
    for seq in seqs {
        out.push(read_one(log, Seq(seq)).await?);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::is_effect;
    use rstest::rstest;

    #[rstest]
    #[case::of_a_tool("d-3yobhsajg3ueg556dm2y-t12", true)]
    #[case::of_a_model("d-3yobhsajg3ueg556dm2y-m1", true)]
    #[case::of_a_budget("d-3yobhsajg3ueg556dm2y-budget", true)]
    #[case::a_model_where_the_dispatch_begins_with_t("d-tctc2tzptkepe2lyawsh-m1", true)]
    #[case::a_tool_where_the_dispatch_begins_with_m("d-mctc2tzptkepe2lyawsh-t1", true)]
    #[case::a_dispatch("d-tctc2tzptkepe2lyawsh", false)]
    #[case::no_number("d-3yobhsajg3ueg556dm2y-t", false)]
    #[case::last("last", false)]
    fn an_effect_is_known_by_its_id(#[case] id: &str, #[case] effect: bool) {
        assert_eq!(is_effect(id), effect);
    }
}
