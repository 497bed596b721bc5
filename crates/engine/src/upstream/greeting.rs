//! How a server is greeted, and what its answer says. Pure.
//!
//! Source: MCP 2025-06-18 and 2025-11-25, "Lifecycle"; 2026-07-28, "Versioning".

use super::link::Failed;
use crate::mcp::era::{ALONE, GREETED};
use serde_json::{Value, json};

/// The parameters of `initialize`.
pub(super) fn params() -> Value {
    let [newest, _] = GREETED;
    json!({
        "protocolVersion": newest, "capabilities": {},
        "clientInfo": { "name": "custody", "version": env!("CARGO_PKG_VERSION") },
    })
}

/// What follows a greeting that was answered well.
pub(super) fn ready() -> Value {
    json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })
}

/// The version that both speak.
///
/// # Errors
/// The server speaks another one.
pub(super) fn version(told: &Value) -> Result<&'static str, Failed> {
    let version = told["protocolVersion"].as_str().unwrap_or_default();
    GREETED.into_iter().find(|known| *known == version).ok_or_else(|| {
        let version: String = version.chars().take(20).collect();
        Failed::Unreachable(format!("speaks version {version:?} of the protocol"))
    })
}

/// Whether an answer to `server/discover` says that the version without a greeting is spoken.
pub(super) fn stands_alone(told: &Value) -> bool {
    told["supportedVersions"].as_array().is_some_and(|versions| versions.iter().any(|version| version == ALONE))
}

/// A greeting that failed: whatever went wrong, the call that is meant was not sent.
pub(super) fn failed(failed: Failed) -> Failed {
    match failed {
        Failed::Leaked | Failed::Secret(_) | Failed::Token(..) | Failed::Identity(_) | Failed::Unreachable(_) => failed,
        other => Failed::Unreachable(format!("did not greet: {}", other.detail())),
    }
}
