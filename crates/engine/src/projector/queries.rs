//! Queries over request and reply. Every answer says as of which sequence it is; `min_seq` makes a reader's own write
//! visible, with a limit.

use super::Projector;
use super::waiting::{told, waiting};
use custody_contracts::messages::ErrorDoc;
use custody_contracts::once;
use custody_ports::requests::{REQUEST_BYTES_MAX, Request, Requests};
use custody_projections::audit::{anomalies, launchers};
use custody_projections::dispatches::DispatchRow;
use custody_projections::grants::GrantRow;
use custody_projections::inbox::CardRow;
use custody_projections::sessions;
use custody_projections::usage::{self, By};
use custody_projections::workspaces::WorkspaceRow;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The verbs that are answered.
pub const QUERIES: [&str; 16] = [
    "dispatch.ls",
    "dispatch.get",
    "session.ls",
    "session.get",
    "usage.ls",
    "launcher.ls",
    "workspace.ls",
    "workspace.get",
    "grant.ls",
    "grant.get",
    "inbox.ls",
    "inbox.get",
    "audit.summary",
    "projection.ls",
    "projection.rebuild",
    "projection.verify",
];
/// The longest that a query waits for a sequence.
const MIN_SEQ_WAIT: Duration = Duration::from_secs(5);
/// Rows of one answer.
const ROWS_MAX: usize = 500;

/// What a query may say.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Query {
    /// Wait until this sequence is folded.
    min_seq: u64,
    /// An id or a unique prefix of one.
    id: Option<String>,
    /// Only these states.
    status: Vec<String>,
    /// Only this person.
    subject: Option<String>,
    /// Only this launcher.
    launcher: Option<String>,
    /// Only cards that this person may decide.
    approver: Option<String>,
    /// Only of this session.
    session: Option<String>,
    /// Only under this grant.
    grant: Option<String>,
    /// At most so many rows, newest first.
    limit: Option<usize>,
    /// Only rows that began before this sequence: the next page.
    before_seq: Option<u64>,
    /// How usage is put together.
    by: Option<By>,
    /// Only usage since this day, `2026-11-22`.
    since: Option<String>,
}

pub(super) async fn serve(projector: Projector, requests: Arc<dyn Requests>, cancel: CancellationToken) {
    loop {
        let request = tokio::select! {
            () = cancel.cancelled() => return,
            request = requests.next() => request,
        };
        match request {
            Ok(request) => {
                let (projector, requests) = (projector.clone(), requests.clone());
                tokio::spawn(async move {
                    let mut bytes = answer(&projector, &request).await.to_string().into_bytes();
                    if bytes.len() > REQUEST_BYTES_MAX {
                        let error = ErrorDoc::new(
                            "ANSWER_TOO_LARGE",
                            "the answer is too large for one message",
                            Some("ask for fewer rows with --limit".into()),
                        );
                        bytes = serde_json::to_vec(&error).unwrap_or_default();
                    }
                    if let Err(error) = requests.answer(&request.reply_to, bytes).await {
                        tracing::warn!(%error, subject = request.subject, "answer not sent");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "query queue lost; listening again");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn answer(projector: &Projector, request: &Request) -> Value {
    match carry_out(projector, request).await {
        Ok(value) => json!({ "ok": value }),
        Err(error) => serde_json::to_value(error).unwrap_or_default(),
    }
}

async fn carry_out(projector: &Projector, request: &Request) -> Result<Value, ErrorDoc> {
    let bytes: &[u8] = if request.bytes.is_empty() { b"{}" } else { &request.bytes };
    let query: Query = once::value(bytes)
        .and_then(serde_json::from_value)
        .map_err(|e| ErrorDoc::new("QUERY_INVALID", format!("{}: {e}", request.subject), None))?;
    if !projector.caught_up(query.min_seq, MIN_SEQ_WAIT).await {
        let message = format!("the projector has not reached sequence {} in time", query.min_seq);
        return Err(ErrorDoc::new(
            "STALE",
            message,
            Some("try again; `custody projection ls` shows where it stands".into()),
        ));
    }
    let broken =
        |e: custody_ledger::LogError| ErrorDoc::new("LEDGER_UNAVAILABLE", e.to_string(), Some("custody doctor".into()));
    match request.subject.strip_prefix("query.").unwrap_or_default() {
        "dispatch.ls" => Ok(projector.with(|all| {
            let mut rows: Vec<&DispatchRow> =
                all.dispatches.state().iter().map(|(_, r)| r).filter(|r| wanted(&query, r)).collect();
            rows.sort_by_key(|r| std::cmp::Reverse(r.first_seq));
            rows.truncate(query.limit.unwrap_or(50).min(ROWS_MAX));
            // Only where something waits is it worth knowing who comes when.
            let waits = if rows.iter().any(|r| !r.status.is_terminal() && r.claimed_seq == 0) {
                waiting(all.dispatches.state().iter().map(|(_, r)| r), &projector.caps)
            } else {
                BTreeMap::new()
            };
            let rows: Vec<Value> = rows.into_iter().map(|r| told(r, waits.get(r.dispatch.as_str()))).collect();
            json!({ "as_of": all.dispatches.seq().0, "rows": rows })
        })),
        "dispatch.get" => projector.with(|all| {
            let table = all.dispatches.state();
            let id = query.id.clone().unwrap_or_default();
            let row = if id == "last" {
                table.iter().map(|(_, r)| r).max_by_key(|r| r.first_seq)
            } else {
                one(&id, "dispatch", table.with_prefix(&id).map(|(k, r)| (k.to_owned(), r)))?
            };
            let row = row.ok_or_else(|| missing("dispatch", &id))?;
            let chain = all.audit.state().get(&["chain/", &row.dispatch].concat());
            let used = usage::of_dispatch(all.usage.state(), &row.dispatch).map(|row| (&row.sums, &row.budgets));
            let used = used.map(|(sums, budgets)| json!({ "sums": sums, "budgets": budgets }));
            let waits = if !row.status.is_terminal() && row.claimed_seq == 0 {
                waiting(table.iter().map(|(_, r)| r), &projector.caps)
            } else {
                BTreeMap::new()
            };
            let row = told(row, waits.get(row.dispatch.as_str()));
            Ok(json!({
                "as_of": all.dispatches.seq().0, "row": row, "used": used, "seqs": chain.map(|c| &c.seqs),
            }))
        }),
        "session.ls" => Ok(projector.with(|all| {
            let mut rows: Vec<_> = sessions::rows(all.sessions.state())
                .filter(|r| query.subject.as_ref().is_none_or(|s| *s == r.subject))
                .filter(|r| query.before_seq.is_none_or(|b| r.last_seq < b))
                .collect();
            rows.sort_by_key(|r| std::cmp::Reverse(r.last_seq));
            rows.truncate(query.limit.unwrap_or(50).min(ROWS_MAX));
            json!({ "as_of": all.sessions.seq().0, "rows": rows })
        })),
        "session.get" => projector.with(|all| {
            let id = query.id.clone().unwrap_or_default();
            let found = if id == "last" {
                sessions::rows(all.sessions.state()).max_by_key(|r| r.last_seq)
            } else {
                let rows = sessions::rows(all.sessions.state()).filter(|r| r.session.starts_with(&id));
                one(&id, "session", rows.map(|r| (r.session.clone(), r)))?
            };
            let row = found.ok_or_else(|| missing("session", &id))?;
            Ok(json!({ "as_of": all.sessions.seq().0, "row": row }))
        }),
        "usage.ls" => Ok(projector.with(|all| {
            let since = query.since.clone().unwrap_or_default();
            let mut rows = usage::grouped(all.usage.state(), query.by.unwrap_or(By::Subject), &since);
            rows.truncate(query.limit.unwrap_or(ROWS_MAX).min(ROWS_MAX));
            json!({ "as_of": all.usage.seq().0, "rows": rows })
        })),
        "launcher.ls" => Ok(projector.with(|all| {
            let rows: Vec<_> = launchers(all.audit.state()).collect();
            json!({ "as_of": all.audit.seq().0, "rows": rows })
        })),
        "workspace.ls" => Ok(projector.with(|all| {
            let all = &all.workspaces;
            let mut rows: Vec<_> = all.state().iter().map(|(_, row)| row).collect();
            rows.truncate(query.limit.unwrap_or(ROWS_MAX).min(ROWS_MAX));
            let rows: Vec<Value> = rows.into_iter().map(short).collect();
            json!({ "as_of": all.seq().0, "rows": rows })
        })),
        "workspace.get" => projector.with(|all| {
            let id = query.id.clone().unwrap_or_default();
            let row = all.workspaces.state().get(&id).ok_or_else(|| missing("workspace", &id))?;
            Ok(json!({ "as_of": all.workspaces.seq().0, "row": row }))
        }),
        "grant.ls" => Ok(projector.with(|all| {
            let all = &all.grants;
            let mut rows: Vec<&GrantRow> =
                all.state().iter().map(|(_, row)| row).filter(|r| of_grant(&query, r)).collect();
            rows.sort_by_key(|r| std::cmp::Reverse(r.issued_seq.unwrap_or(r.last_seq)));
            rows.truncate(query.limit.unwrap_or(50).min(ROWS_MAX));
            let rows: Vec<Value> = rows.into_iter().map(without_statement).collect();
            json!({ "as_of": all.seq().0, "rows": rows })
        })),
        "grant.get" => projector.with(|all| {
            let id = query.id.clone().unwrap_or_default();
            let table = all.grants.state();
            let row = one(&id, "grant", table.with_prefix(&id).map(|(k, r)| (k.to_owned(), r)))?;
            let row = row.ok_or_else(|| missing("grant", &id))?;
            Ok(json!({ "as_of": all.grants.seq().0, "row": row }))
        }),
        "inbox.ls" => Ok(projector.with(|all| {
            let table = all.inbox.state();
            let mut rows: Vec<_> = table.iter().map(|(_, row)| row).filter(|r| shown(&query, r)).collect();
            // What ends soonest comes first; what has ended, newest first.
            rows.sort_by_key(|r| (!r.open, if r.open { r.expires_at } else { u64::MAX - r.last_seq }));
            rows.truncate(query.limit.unwrap_or(50).min(ROWS_MAX));
            json!({ "as_of": all.inbox.seq().0, "rows": rows })
        })),
        "inbox.get" => projector.with(|all| {
            let id = query.id.clone().unwrap_or_default();
            let table = all.inbox.state();
            let row = one(&id, "card", table.with_prefix(&id).map(|(k, r)| (k.to_owned(), r)))?;
            let row = row.ok_or_else(|| {
                ErrorDoc::new("NOT_FOUND", format!("there is no card {id:?}"), Some("custody inbox ls".into()))
            })?;
            Ok(json!({ "as_of": all.inbox.seq().0, "row": row }))
        }),
        "audit.summary" => Ok(projector.with(|all| {
            let state = all.audit.state();
            let totals: BTreeMap<_, _> =
                state.with_prefix("total/").map(|(k, r)| (k.trim_start_matches("total/"), r.count)).collect();
            let odd: Vec<_> =
                anomalies(state).take(ROWS_MAX).map(|(seq, what)| json!({ "seq": seq, "what": what })).collect();
            let checkpoint = state.get("checkpoint").map(|c| json!({ "size": c.size, "root": c.root }));
            json!({ "as_of": all.audit.seq().0, "totals": totals, "anomalies": odd, "checkpoint": checkpoint })
        })),
        "projection.ls" => Ok(json!({ "rows": projector.facts() })),
        "projection.rebuild" => {
            let id = query.id.clone().unwrap_or_default();
            let facts = projector.rebuild(&id).await.map_err(broken)?;
            facts.map(|f| json!({ "row": f })).ok_or_else(|| missing("projection", &id))
        }
        "projection.verify" => Ok(json!({ "rows": projector.verify().await.map_err(broken)? })),
        other => Err(ErrorDoc::new("QUERY_UNKNOWN", format!("there is no query {other:?}"), None)),
    }
}

fn wanted(query: &Query, row: &DispatchRow) -> bool {
    (query.status.is_empty() || query.status.iter().any(|s| s == row.status.as_str()))
        && query.subject.as_ref().is_none_or(|s| row.subject.as_ref() == Some(s))
        && query.launcher.as_ref().is_none_or(|l| *l == row.launcher)
        && query.session.as_ref().is_none_or(|s| row.session.as_ref() == Some(s))
        && query.grant.as_ref().is_none_or(|g| row.grant.as_ref() == Some(g))
        && query.before_seq.is_none_or(|b| row.first_seq < b)
}

fn of_grant(query: &Query, row: &GrantRow) -> bool {
    (query.status.is_empty() || query.status.contains(&row.status))
        && query.subject.as_ref().is_none_or(|s| *s == row.subject)
        && query.launcher.as_ref().is_none_or(|l| row.launcher == *l || row.launcher.ends_with(&[":", l].concat()))
}

/// A grant's row without the words that were agreed to, which are long.
fn without_statement(row: &GrantRow) -> Value {
    let mut value = serde_json::to_value(row).unwrap_or_default();
    if let Value::Object(map) = &mut value {
        map.remove("statement");
    }
    value
}

/// Whether a card is asked for: open ones, unless states are named.
fn shown(query: &Query, row: &CardRow) -> bool {
    let state = match query.status.is_empty() {
        true => row.open,
        false => query.status.iter().any(|s| *s == row.state || s == "all"),
    };
    state
        && query.subject.as_ref().is_none_or(|s| row.subject == *s || row.approvers.contains(s))
        && query.approver.as_ref().is_none_or(|s| row.approvers.contains(s))
        && query.launcher.as_ref().is_none_or(|l| *l == row.launcher)
        && query.before_seq.is_none_or(|b| row.last_seq < b)
}

/// A workspace's row without its proposals, which are many.
fn short(row: &WorkspaceRow) -> Value {
    let mut value = serde_json::to_value(row).unwrap_or_default();
    if let Value::Object(map) = &mut value {
        map.remove("proposals");
    }
    value
}

/// The row of an id or unique prefix.
fn one<'a, R>(id: &str, what: &str, rows: impl Iterator<Item = (String, &'a R)>) -> Result<Option<&'a R>, ErrorDoc> {
    let mut rows = rows.take(3).collect::<Vec<_>>();
    if let Some(exact) = rows.iter().position(|(key, _)| key == id) {
        return Ok(Some(rows.swap_remove(exact).1));
    }
    if id.is_empty() || rows.len() > 1 {
        let few = rows.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(", ");
        return Err(ErrorDoc::new(
            "AMBIGUOUS",
            format!("{id:?} is the beginning of more than one {what}: {few}"),
            Some("give more of the id".into()),
        ));
    }
    Ok(rows.pop().map(|(_, row)| row))
}

fn missing(what: &str, id: &str) -> ErrorDoc {
    ErrorDoc::new("NOT_FOUND", format!("there is no {what} {id:?}"), Some(format!("custody {what} ls")))
}
