//! Saying more to a dispatch that has not ended: from the bytes that a launcher published to words for a dispatch of its
//! own, or a refusal. Nothing is looked up; whether turns are left is a rule of the dispatch itself.

#[cfg(test)]
mod tests;

use crate::admission::{Refusal, check_clock, check_sender};
use crate::launcher::LauncherState;
use custody_contracts::canonical::{derived_id, digest};
use custody_contracts::catalogue::{self, CheckError};
use custody_contracts::cloudevent;
use custody_contracts::events::{DispatchAdmitted, SignatureCheck};
use custody_contracts::ids::{DispatchId, LauncherId, UnixMillis};
use custody_contracts::launch::{BYTES_MAX, FollowUp, SAY_BYTES_MAX, SAY_TYPE};
use serde_json::{Map, Value};

/// A message that says more.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// Its time in milliseconds since the epoch, when it has one.
    pub time_ms: Option<i64>,
    /// The whole event, for its signature.
    pub event: Map<String, Value>,
    /// The words, and for whom.
    pub follow_up: FollowUp,
}

/// The id under which a message that says more is refused; never the id of a dispatch.
pub fn message_id(from: &str, event_id: Option<&str>, bytes: &[u8]) -> DispatchId {
    let own = digest(bytes);
    let (kind, id) = event_id.map_or(("bytes", own.as_str()), |id| ("id", id));
    let text = derived_id("f-", &[from.as_bytes(), kind.as_bytes(), id.as_bytes()]);
    DispatchId::parse(&text).unwrap_or_else(|_| unreachable!("derived ids are tokens"))
}

/// Reads a message.
///
/// # Errors
/// A [`Refusal`] that names the first thing that is wrong.
pub fn read(bytes: &[u8]) -> Result<Said, Refusal> {
    let hint = "publish a structured CloudEvent 1.0; `custody contract show input.v1` has an example";
    if bytes.len() > BYTES_MAX {
        let detail = format!("the message has {} bytes, {BYTES_MAX} are the most", bytes.len());
        return Err(Refusal::new("MESSAGE_TOO_LARGE", detail, "say less, or name a file of the workspace"));
    }
    let incoming = cloudevent::read(bytes).map_err(|e| Refusal::new("NOT_CLOUDEVENT", e.to_string(), hint))?;
    if incoming.kind != SAY_TYPE {
        let shown: String = incoming.kind.chars().take(120).collect();
        let detail = format!("type {shown:?} is not a follow-up");
        return Err(Refusal::new("TYPE_UNKNOWN", detail, format!("use type {SAY_TYPE:?} with an input.v1")));
    }
    let Ok(Value::Object(event)) = serde_json::from_slice(bytes) else {
        return Err(Refusal::new("NOT_JSON", "the message is not one JSON object", hint));
    };
    let follow_up = check_words(incoming.data)?;
    Ok(Said { time_ms: incoming.time_ms, event, follow_up })
}

/// The words of an input.v1.
///
/// # Errors
/// `INPUT_INVALID` with the place and the rule that it breaks.
pub fn check_words(data: Value) -> Result<FollowUp, Refusal> {
    let hint = "check it with `custody contract validate input.v1 FILE`";
    catalogue::check("input.v1", "FollowUp", &data).map_err(|error| {
        let detail = match error {
            CheckError::Invalid(violations) => violations
                .into_iter()
                .next()
                .map_or_else(String::new, |v| format!("input.v1 at \"{}\" ({}): {}", v.pointer, v.keyword, v.message)),
            other => other.to_string(),
        };
        Refusal::new("INPUT_INVALID", detail, hint)
    })?;
    let follow_up: FollowUp =
        serde_json::from_value(data).map_err(|e| Refusal::new("INPUT_INVALID", e.to_string(), hint))?;
    if follow_up.text.len() > SAY_BYTES_MAX {
        let detail = format!("the text has {} bytes, {SAY_BYTES_MAX} are the most", follow_up.text.len());
        return Err(Refusal::new("INPUT_INVALID", detail, "say less, or name a file of the workspace"));
    }
    Ok(follow_up)
}

/// Whether a message is its launcher's own, as it must be signed, and of now.
///
/// # Errors
/// The [`Refusal`] of the first rule that says no: launcher, signature, clock.
pub fn judge(
    said: &Said,
    id: &LauncherId,
    launcher: &LauncherState,
    stored_at: UnixMillis,
) -> Result<SignatureCheck, Refusal> {
    let (signature, _) = check_sender(id, &said.event, launcher)?;
    check_clock(said.time_ms, stored_at)?;
    Ok(signature)
}

/// Whether a dispatch may be spoken to: by the launcher that began it, or by an operator (`None`), while it has not ended.
/// A dispatch that is another launcher's is told like one that does not exist.
///
/// # Errors
/// `FOLLOW_UP_UNKNOWN`, `FOLLOW_UP_CLOSED`.
pub fn may_reach<'a>(
    dispatch: &DispatchId,
    admitted: Option<&'a DispatchAdmitted>,
    launcher: Option<&LauncherId>,
    ended: bool,
) -> Result<&'a DispatchAdmitted, Refusal> {
    let own = admitted.filter(|a| launcher.is_none_or(|l| *l == a.launch.launcher));
    let Some(own) = own else {
        let whose = launcher.map_or_else(String::new, |l| format!(" of launcher {l}"));
        return Err(Refusal::new(
            "FOLLOW_UP_UNKNOWN",
            format!("there is no dispatch {dispatch}{whose}"),
            "a launcher speaks to the dispatches that it began; `custody dispatch ls` shows them",
        ));
    };
    if ended {
        return Err(Refusal::new(
            "FOLLOW_UP_CLOSED",
            format!("dispatch {dispatch} has ended"),
            format!("ask in its session instead: custody run --session {} TEXT", own.session),
        ));
    }
    Ok(own)
}
