//! The guard's facts: what a server says about itself and its streams. Judging is `custody_streams::guard`'s.

use crate::connect::Connection;
use crate::wire::{ApiError, AskError, code};
use custody_streams::guard::{Finding, ServerFacts, StreamFacts, check_server, check_stream};
use custody_streams::spec::StreamSpec;
use serde_json::{Value, json};

/// What to believe of a server whose settings cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncAssumption {
    /// Nothing: an unknown setting is a fatal finding.
    None,
    /// An operator vouches for `sync_interval: always`.
    Always,
}

/// What a server says about itself. `system` is a connection of a user of the system account; without one the server
/// does not tell its settings.
///
/// # Errors
/// [`ApiError`] when it does not answer.
pub async fn server(
    connection: &Connection,
    system: Option<&Connection>,
    assume: SyncAssumption,
) -> Result<ServerFacts, ApiError> {
    let info = connection.client().server_info();
    let account: Result<Value, ApiError> = connection.api("INFO", &json!({})).await;
    let jetstream = match account {
        Ok(_) => true,
        Err(ApiError::Ask(AskError::NoResponders(_)) | ApiError::Api { .. }) => false,
        Err(other) => return Err(other),
    };
    let sync_interval_always = match system {
        Some(system) => settings(system, &info.server_id).await?,
        None => None,
    };
    let assume_sync_always = assume == SyncAssumption::Always;
    Ok(ServerFacts { version: info.version, jetstream, sync_interval_always, assume_sync_always })
}

/// Whether the running server syncs before it acknowledges, by its own word: `sync_always` in its JetStream settings.
/// Servers leave the field out when it is false.
async fn settings(system: &Connection, server_id: &str) -> Result<Option<bool>, ApiError> {
    let subject = ["$SYS.REQ.SERVER.", server_id, ".JSZ"].concat();
    let body = json!({ "config": true }).to_string().into();
    let answer = system.ask(&subject, None, body, crate::connect::REQUEST_TIMEOUT).await?;
    let answer: Value = crate::wire::answer(&answer.payload)?;
    let Some(config) = answer.pointer("/data/config").filter(|c| c.is_object()) else { return Ok(None) };
    Ok(Some(config.get("sync_always").and_then(Value::as_bool).unwrap_or(false)))
}

/// What a server says about a stream; `None` when it does not exist.
///
/// # Errors
/// [`ApiError`] when it does not answer.
pub async fn stream(connection: &Connection, name: &str) -> Result<Option<StreamFacts>, ApiError> {
    match connection.stream_info(name).await {
        Ok(info) => Ok(Some(StreamFacts {
            config: info.config,
            first_seq: info.state.first_seq,
            last_seq: info.state.last_seq,
            messages: info.state.messages,
        })),
        Err(ApiError::Api { code: code::STREAM_NOT_FOUND, .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// The ledger's last sequence and its size in bytes.
///
/// # Errors
/// [`ApiError`] when the server does not answer.
pub async fn ledger_size(connection: &Connection) -> Result<(u64, u64), ApiError> {
    let info = connection.stream_info(custody_streams::spec::LEDGER).await?;
    Ok((info.state.last_seq, info.state.bytes))
}

/// Everything the guard finds about a server and the streams that the user of `connection` may see.
///
/// # Errors
/// [`ApiError`] when the server does not answer.
pub async fn guard(
    connection: &Connection,
    system: Option<&Connection>,
    assume: SyncAssumption,
    specs: &[StreamSpec],
) -> Result<Vec<Finding>, ApiError> {
    let mut findings = check_server(&server(connection, system, assume).await?);
    for spec in specs {
        findings.extend(check_stream(spec, stream(connection, &spec.name).await?.as_ref()));
    }
    Ok(findings)
}
