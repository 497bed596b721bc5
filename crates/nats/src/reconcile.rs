//! Streams as they should be against streams as they are: plan, and apply what the plan allows. Needs the
//! administrator's connection; no role has these rights. Must never apply half of a forbidden plan.

use crate::connect::Connection;
use crate::wire::{ApiError, code};
use custody_streams::diff::{Change, diff};
use custody_streams::spec::StreamSpec;
use serde_json::{Value, json};

/// Why streams could not be planned or applied.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// JetStream did not answer or said no.
    #[error("stream {stream}")]
    Api {
        /// Which.
        stream: String,
        /// Why.
        source: ApiError,
    },
    /// The plan holds changes that must not be made.
    #[error("{} changes are forbidden, the first: {}.{}: {}", .0.len(), .0[0].stream, .0[0].field, .0[0].why)]
    Forbidden(Vec<Change>),
}

/// What stands between the streams of a server and these specs.
///
/// # Errors
/// [`ReconcileError::Api`].
pub async fn plan(connection: &Connection, specs: &[StreamSpec]) -> Result<Vec<Change>, ReconcileError> {
    let mut changes = Vec::new();
    for spec in specs {
        changes.extend(diff(spec, actual(connection, &spec.name).await?.as_ref()));
    }
    Ok(changes)
}

/// Makes the streams what the specs say and returns what was changed. Safe to call again.
///
/// # Errors
/// [`ReconcileError::Forbidden`] before anything is changed, when the plan holds a forbidden change.
pub async fn apply(connection: &Connection, specs: &[StreamSpec]) -> Result<Vec<Change>, ReconcileError> {
    let changes = plan(connection, specs).await?;
    let forbidden: Vec<Change> = changes.iter().filter(|c| !c.allowed).cloned().collect();
    if !forbidden.is_empty() {
        return Err(ReconcileError::Forbidden(forbidden));
    }
    for spec in specs {
        let api = |source| ReconcileError::Api { stream: spec.name.clone(), source };
        let mut mine = changes.iter().filter(|c| c.stream == spec.name).peekable();
        let Some(first) = mine.peek() else { continue };
        let call = if first.field == "stream" { "STREAM.CREATE." } else { "STREAM.UPDATE." };
        let body = desired(spec, actual(connection, &spec.name).await?.as_ref());
        let _: Value = connection.api(&[call, &spec.name].concat(), &body).await.map_err(api)?;
    }
    Ok(changes)
}

/// The configuration to send: ours, over what the server has where we say nothing.
fn desired(spec: &StreamSpec, actual: Option<&Value>) -> Value {
    let mut body = serde_json::to_value(spec).unwrap_or(Value::Null);
    if let (Value::Object(body), Some(Value::Object(actual))) = (&mut body, actual) {
        for (field, value) in actual {
            if !body.contains_key(field) && !custody_streams::diff::FOREIGN_FIELDS.contains(&field.as_str()) {
                body.insert(field.clone(), value.clone());
            }
        }
    }
    body
}

async fn actual(connection: &Connection, stream: &str) -> Result<Option<Value>, ReconcileError> {
    match connection.stream_info(stream).await {
        Ok(info) => Ok(Some(info.config)),
        Err(ApiError::Api { code: code::STREAM_NOT_FOUND, .. }) => Ok(None),
        Err(source) => Err(ReconcileError::Api { stream: stream.to_owned(), source }),
    }
}

/// Bytes that a stream holds now, and how many messages: for `doctor` and `streams ls`.
///
/// # Errors
/// [`ReconcileError::Api`].
pub async fn usage(connection: &Connection, stream: &str) -> Result<Value, ReconcileError> {
    let info: Result<Value, ApiError> = connection.api(&["STREAM.INFO.", stream].concat(), &json!({})).await;
    let info = info.map_err(|source| ReconcileError::Api { stream: stream.to_owned(), source })?;
    Ok(info.get("state").cloned().unwrap_or(Value::Null))
}
