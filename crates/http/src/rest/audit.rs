//! The audit tail, the chain of an event, and the verifier. Must never call a log good that was not read whole.

use super::Query;
use super::dispatches::shaped;
use super::shapes::{AuditPage, AuditShape, VerifyShape, WhyShape};
use crate::api::Api;
use crate::auth::Person;
use crate::bridge::open::visible_dispatch;
use crate::problem::{Code, Details, Problem};
use axum::Json;
use axum::extract::{Path, State};
use custody_engine::follow::read_or_note;
use custody_engine::why::{WhyError, explain};
use custody_ledger::{LogError, Seq, Stored};
use custody_ports::pages::PAGE_MAX;
use custody_projections::row::audit_row;
use custody_trust::verify::{Finding, Report, Verifier};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::sync::Semaphore;

/// Rows of a page.
const LIMIT: usize = 100;
/// The most rows of a page.
const LIMIT_MAX: usize = 1_000;
/// Messages that one request looks at.
const LOOK_MAX: u64 = 20_000;
/// Messages that are read at the same time for one chain.
const READS_MAX: usize = 8;

/// The whole log is read by one request at a time.
static VERIFYING: Semaphore = Semaphore::const_new(1);

/// Which rows: the same filters as `custody audit ls`. Values of one are alternatives, different ones narrow.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct RowsQuery {
    /// Only these kinds; comma-separated.
    kind: Option<String>,
    /// Only these outcomes; comma-separated.
    outcome: Option<String>,
    /// Only of these persons; comma-separated.
    subject: Option<String>,
    /// Only through these launchers; comma-separated.
    launcher: Option<String>,
    /// Only of these dispatches, prefixes will do; comma-separated.
    dispatch: Option<String>,
    /// Only rows whose words or id hold this text.
    text: Option<String>,
    /// Checkpoints too.
    #[serde(default)]
    checkpoints: bool,
    /// Only before this sequence: the next page.
    before_seq: Option<u64>,
    /// Only after this sequence.
    after_seq: Option<u64>,
    /// Only from this time on. RFC 3339.
    since: Option<String>,
    /// Only up to this time. RFC 3339.
    until: Option<String>,
    /// At most so many rows; 1000 are the most.
    limit: Option<usize>,
}

impl RowsQuery {
    fn passes(&self, row: &AuditShape) -> bool {
        let any = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_ref().is_none_or(|w| w.split(',').any(|one| found == Some(one)))
        };
        let named = self.kind.as_deref().is_some_and(|k| k.split(',').any(|one| one == "checkpoint"));
        let dispatch = self
            .dispatch
            .as_ref()
            .is_none_or(|w| row.dispatch.as_ref().is_some_and(|d| w.split(',').any(|one| d.starts_with(one))));
        let text = self.text.as_ref().is_none_or(|t| {
            let wanted = t.to_lowercase();
            [&row.object, &row.id, &row.event_type].iter().any(|found| found.to_lowercase().contains(&wanted))
        });
        (self.checkpoints || named || row.kind != "checkpoint")
            && any(&self.kind, Some(&row.kind))
            && any(&self.outcome, Some(&row.outcome))
            && any(&self.subject, row.subject.as_deref())
            && any(&self.launcher, row.launcher.as_deref())
            // Times of the ledger have one form, so they compare as text.
            && self.since.as_ref().is_none_or(|t| row.time.as_str() >= t.as_str())
            && self.until.as_ref().is_none_or(|t| row.time.as_str() <= t.as_str())
            && dispatch
            && text
    }
}

fn rows_of(stored: &Stored) -> Vec<AuditShape> {
    let rows = read_or_note(stored);
    rows.iter().filter_map(|r| serde_json::from_value(serde_json::to_value(audit_row(r)).ok()?).ok()).collect()
}

fn unavailable(error: LogError) -> Problem {
    match error {
        LogError::Unavailable(_) => Problem::new(Code::Unavailable, "the ledger cannot be read").hint("custody doctor"),
        LogError::Broken { .. } => Problem::new(Code::Integrity, error).hint("custody audit verify"),
    }
}

/// Rows of the audit tail, newest first.
#[utoipa::path(
    get, path = "/api/v1/audit", tag = "audit", params(RowsQuery),
    responses((status = 200, body = AuditPage), (status = 400, body = Details), (status = 401, body = Details))
)]
pub async fn rows(
    State(api): State<Api>,
    person: Person,
    Query(query): Query<RowsQuery>,
) -> Result<Json<AuditPage>, Problem> {
    let limit = query.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let head = api.hub.head();
    let lowest = query.after_seq.unwrap_or(0);
    let mut to = query.before_seq.map_or(head, |b| b.saturating_sub(1).min(head));
    let stop = to.saturating_sub(LOOK_MAX).max(lowest);
    let mut rows = Vec::new();
    'looking: while to > stop {
        let from = to.saturating_sub(PAGE_MAX as u64).max(stop) + 1;
        let page = api.pages.page(Seq(from), PAGE_MAX).await.map_err(unavailable)?;
        let newest = to;
        for stored in page.iter().rev().filter(|s| s.seq.0 <= newest) {
            for row in rows_of(stored).into_iter().rev() {
                let owner = row.subject.clone().or_else(|| owner_of(&api, &row));
                if person.may_see(owner.as_deref()) && query.passes(&row) {
                    rows.push(row);
                }
            }
            to = stored.seq.0 - 1;
            if rows.len() >= limit {
                break 'looking;
            }
        }
        to = to.min(from - 1);
    }
    let next_before_seq = (to > lowest).then_some(to + 1);
    Ok(Json(AuditPage { head, rows, next_before_seq }))
}

/// An event that names no person belongs to whom its dispatch belongs to.
fn owner_of(api: &Api, row: &AuditShape) -> Option<String> {
    api.hub.owner(row.dispatch.as_deref()?)?.subject
}

/// Who caused it, under which authority, and what the log proves.
#[utoipa::path(
    get, path = "/api/v1/audit/why/{id}", tag = "audit",
    params(("id" = String, Path, description = "A dispatch id or a ledger sequence")),
    responses((status = 200, body = WhyShape), (status = 401, body = Details), (status = 404, body = Details))
)]
pub async fn why(State(api): State<Api>, person: Person, Path(id): Path<String>) -> Result<Json<WhyShape>, Problem> {
    let (dispatch, focus) = match id.parse::<u64>() {
        Err(_) => (Some(super::dispatches::known(&id)?.to_string()), None),
        Ok(seq) => {
            let page = api.evidence.pages.page(Seq(seq.max(1)), 1).await.map_err(unavailable)?;
            let stored = page.first().filter(|s| s.seq.0 == seq).ok_or_else(Problem::not_found)?;
            let dispatch = rows_of(stored).into_iter().find_map(|r| r.dispatch);
            if dispatch.is_none() && !person.admin {
                return Err(Problem::not_found());
            }
            (dispatch, Some(seq))
        }
    };
    let seqs = match &dispatch {
        Some(dispatch) => visible_dispatch(&api, &person, dispatch).await?.1,
        None => focus.into_iter().collect(),
    };
    let read = |seq: u64| {
        let api = api.clone();
        async move { api.evidence.pages.page(Seq(seq), 1).await.map(|p| p.into_iter().find(|s| s.seq.0 == seq)) }
    };
    let found: Vec<_> = futures::stream::iter(seqs.into_iter().map(read)).buffered(READS_MAX).collect().await;
    let messages: Vec<Stored> =
        found.into_iter().filter_map(Result::transpose).collect::<Result<_, _>>().map_err(unavailable)?;
    let last = messages.last().map_or(0, |s| s.seq.0);
    let why =
        explain(api.evidence.log.as_ref(), &messages, focus.unwrap_or(last)).await.map_err(|error| match error {
            WhyError::Log(error) => unavailable(error),
            WhyError::Unreadable(_) | WhyError::NotAuthentic { .. } => {
                Problem::new(Code::Integrity, error).hint("custody audit verify")
            }
        })?;
    let summary = api.query("audit.summary", json!({})).await?;
    let covered = summary.pointer("/checkpoint/size").and_then(Value::as_u64).unwrap_or(0);
    let mut value = serde_json::to_value(&why).map_err(|e| Problem::new(Code::Internal, e))?;
    value["checkpoint_covers"] = json!(covered >= last);
    shaped(&json!({ "why": value }), "why").map(Json)
}

/// Read the whole ledger and check sequence, signatures, roles, tree and checkpoints.
#[utoipa::path(
    post, path = "/api/v1/audit/verify", tag = "audit",
    responses((status = 200, body = VerifyShape), (status = 401, body = Details), (status = 429, body = Details))
)]
pub async fn verify(State(api): State<Api>, _person: Person) -> Result<Json<VerifyShape>, Problem> {
    let Ok(_permit) = VERIFYING.try_acquire() else {
        return Err(Problem::new(Code::TooMany, "the log is being verified; one at a time"));
    };
    let began = api.auth.now();
    let last = api.evidence.log.last_seq().await.map_err(unavailable)?;
    let kept = (api.evidence.kept)();
    let mut verifier = Verifier::new(&kept, api.evidence.root_key.clone());
    let mut messages = api.evidence.log.read(Seq(1)).await.map_err(unavailable)?;
    let mut done = 0;
    let gap = |seq: u64, message: String| Finding { seq, code: "GAP", message };
    let result = loop {
        match messages.next().await {
            Some(Ok(stored)) => {
                if let Err(finding) = verifier.push(&stored) {
                    break Err(finding);
                }
                done = stored.seq.0;
            }
            Some(Err(LogError::Broken { seq, why })) => break Err(gap(seq, why)),
            Some(Err(error)) => return Err(unavailable(error)),
            None if done < last.0 => {
                break Err(gap(done + 1, format!("the stream says {last} messages and gives {done}")));
            }
            None => break verifier.finish(),
        }
    };
    Ok(Json(found(result, api.auth.now().saturating_sub(began))))
}

fn found(result: Result<Report, Finding>, took_ms: u64) -> VerifyShape {
    let empty = VerifyShape {
        result: "pass".into(),
        head: None,
        messages: None,
        signatures: None,
        checkpoints: None,
        covered: None,
        keys: BTreeMap::new(),
        root_key: None,
        code: None,
        message: None,
        seq: None,
        took_ms,
    };
    match result {
        Ok(report) => VerifyShape {
            head: Some(report.head),
            messages: Some(report.messages),
            signatures: Some(report.signatures),
            checkpoints: Some(report.checkpoints),
            covered: Some(report.covered),
            keys: report.keys.into_iter().collect(),
            root_key: report.root_key,
            ..empty
        },
        Err(finding) => VerifyShape {
            result: "fail".into(),
            code: Some(finding.code.to_owned()),
            message: Some(finding.message),
            seq: Some(finding.seq),
            ..empty
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn row(kind: &str, outcome: &str, subject: &str, dispatch: &str) -> AuditShape {
        AuditShape {
            kind: kind.into(),
            outcome: outcome.into(),
            subject: Some(subject.into()),
            dispatch: Some(dispatch.into()),
            launcher: Some("web-chat".into()),
            time: "2026-11-22T10:00:00.000Z".into(),
            object: "Attempt 1".into(),
            ..AuditShape::default()
        }
    }

    #[rstest]
    #[case::none("", true)]
    #[case::alternatives("kind=dispatch,run", true)]
    #[case::other_kind("kind=effect", false)]
    #[case::both("kind=run&outcome=ok", true)]
    #[case::narrowed("kind=run&outcome=failed", false)]
    #[case::person("subject=u_omar,u_jane", true)]
    #[case::prefix("dispatch=d-7", true)]
    #[case::other_dispatch("dispatch=d-8", false)]
    #[case::words("text=attempt", true)]
    #[case::other_words("text=nothing", false)]
    #[case::after("since=2026-11-22T10:00:00.001Z", false)]
    #[case::until("until=2026-11-22T10:00:00.000Z", true)]
    fn filters_are_the_command_lines(#[case] query: &str, #[case] passes: bool) {
        let uri: axum::http::Uri = ["/?", query].concat().parse().unwrap();
        let query = axum::extract::Query::<RowsQuery>::try_from_uri(&uri).unwrap().0;
        assert_eq!(query.passes(&row("run", "ok", "u_jane", "d-7f3a")), passes);
    }

    #[test]
    fn checkpoints_are_left_out_unless_asked_for() {
        let query = |text: &str| {
            let uri: axum::http::Uri = text.parse().unwrap();
            axum::extract::Query::<RowsQuery>::try_from_uri(&uri).unwrap().0
        };
        let checkpoint = row("checkpoint", "ok", "", "");
        assert!(!query("/?").passes(&checkpoint));
        assert!(query("/?checkpoints=true").passes(&checkpoint) && query("/?kind=checkpoint").passes(&checkpoint));
    }
}
