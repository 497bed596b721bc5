//! The recording of one dispatch: its model calls and tool calls with what was answered. Each is given out once.

use super::{admitted, events, normal};
use crate::sealed::content;
use custody_contracts::events::{
    DispatchAdmitted, EffectEvent, EffectOutcome, Kind, LedgerEvent, ModelCalled, ToolFinished, ToolIntended, ToolPhase,
};
use custody_contracts::ids::{Subject, UnixMillis};
use custody_ledger::Log;
use custody_ports::blobs::Blobs;
use serde_json::Value;
use std::sync::{Mutex, PoisonError};

/// The most calls of one recording.
const CALLS_MAX: u32 = 10_000;

/// One recorded model call.
#[derive(Debug, Clone)]
pub(crate) struct TapedCall {
    /// What the ledger says of it.
    pub(crate) called: ModelCalled,
    /// What the agent was sent.
    pub(crate) response: Vec<u8>,
    request: Value,
}

/// One recorded tool call.
#[derive(Debug, Clone)]
pub(crate) struct TapedTool {
    tool: String,
    args_digest: String,
    /// What the agent was answered.
    pub(crate) result: Value,
    /// Whether it had worked.
    pub(crate) succeeded: bool,
}

/// One recorded tool call that waited for a person. What they decided came too late for its agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TapedWait {
    tool: String,
    args_digest: String,
    /// The card that it waited as.
    pub(crate) card: String,
    /// Until when.
    pub(crate) expires_at: UnixMillis,
}

/// A recording, or why there is none.
#[derive(Debug)]
pub(crate) struct Tape {
    kept: Result<Mutex<Kept>, String>,
}

#[derive(Debug, Default)]
struct Kept {
    calls: Vec<Option<TapedCall>>,
    tools: Vec<Option<TapedTool>>,
    waits: Vec<TapedWait>,
}

impl Tape {
    /// The recording of a dispatch, for another one of the same person with the same runner. What cannot be read whole
    /// is no recording: every question to it is then answered with the reason.
    pub(crate) async fn of(dispatch: &str, again: &DispatchAdmitted, log: &dyn Log, blobs: &dyn Blobs) -> Tape {
        Tape { kept: load(dispatch, again, log, blobs).await.map(Mutex::new) }
    }

    #[cfg(test)]
    pub(super) fn holding(calls: Vec<(ModelCalled, Value, Vec<u8>)>) -> Tape {
        let calls = calls.into_iter().map(|(called, request, response)| {
            Some(TapedCall { called, response, request: normal::request(&request) })
        });
        Tape { kept: Ok(Mutex::new(Kept { calls: calls.collect(), ..Kept::default() })) }
    }

    /// The recorded call that this request is, and takes it off.
    ///
    /// # Errors
    /// A sentence: where this request differs from the next recorded one.
    pub(crate) fn take_call(&self, api: &str, request: &[u8]) -> Result<TapedCall, String> {
        let mut kept = self.kept.as_ref().map_err(String::clone)?.lock().unwrap_or_else(PoisonError::into_inner);
        let document: Value = serde_json::from_slice(request).map_err(|e| format!("the request is not JSON: {e}"))?;
        let asked = normal::request(&document);
        let is = |call: &TapedCall| call.called.api == api && call.request == asked;
        if let Some(found) = kept.calls.iter_mut().find(|call| call.as_ref().is_some_and(is)) {
            return found.take().ok_or_else(|| "taken".to_owned());
        }
        let next = kept.calls.iter().flatten().next();
        Err(match next {
            None => "the recording has no further model call".to_owned(),
            Some(next) if next.called.api != api => {
                format!("recorded call {} speaks {}, this one {api}", next.called.n, next.called.api)
            }
            Some(next) => {
                let place = normal::differs(&next.request, &asked).unwrap_or_default();
                format!("it differs from recorded call {} at {place:?}", next.called.n)
            }
        })
    }

    /// The recorded tool call that this one is, and takes it off.
    ///
    /// # Errors
    /// A sentence that names the next recorded one.
    pub(crate) fn take_tool(&self, tool: &str, args_digest: &str) -> Result<TapedTool, String> {
        let mut kept = self.kept.as_ref().map_err(String::clone)?.lock().unwrap_or_else(PoisonError::into_inner);
        let is = |taped: &TapedTool| taped.tool == tool && taped.args_digest == args_digest;
        if let Some(found) = kept.tools.iter_mut().find(|taped| taped.as_ref().is_some_and(is)) {
            return found.take().ok_or_else(|| "taken".to_owned());
        }
        Err(match kept.tools.iter().flatten().next() {
            None => "the recording has no further tool call".to_owned(),
            Some(next) if next.tool == tool => format!("the next recorded call of {tool} has other arguments"),
            Some(next) => format!("the next recorded call is of {}", next.tool),
        })
    }

    /// The recorded tool call that waited for a person and is this one. It stays: the same call again was answered alike.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn waited(&self, tool: &str, args_digest: &str) -> Result<TapedWait, String> {
        let kept = self.kept.as_ref().map_err(String::clone)?.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.waits.iter().find(|wait| wait.tool == tool && wait.args_digest == args_digest);
        found.cloned().ok_or_else(|| format!("no recorded call of {tool} with these arguments waited for a person"))
    }
}

async fn load(dispatch: &str, again: &DispatchAdmitted, log: &dyn Log, blobs: &dyn Blobs) -> Result<Kept, String> {
    let own = admitted(log, dispatch, again).await?;
    if own.runner.name != again.runner.name {
        return Err(format!("{dispatch} was run by {}, this one is run by {}", own.runner.name, again.runner.name));
    }
    let mut kept = Kept::default();
    for n in 1..=CALLS_MAX {
        let found = events(log, Kind::Effect, &format!("{dispatch}-m{n}")).await?;
        let Some(LedgerEvent::Effect(EffectEvent::ModelCalled(called))) = found.into_iter().next() else { break };
        let missing = |e| format!("model call {n} of {dispatch} is not stored whole: {e}");
        let request = blobs.get(&called.request_digest).await.map_err(missing)?;
        let response = blobs.get(&called.response_digest).await.map_err(missing)?;
        let request: Value = serde_json::from_slice(&request).unwrap_or_default();
        kept.calls.push(Some(TapedCall { called, response, request: normal::request(&request) }));
    }
    for n in 1..=CALLS_MAX {
        let found = events(log, Kind::Effect, &format!("{dispatch}-t{n}")).await?;
        if found.is_empty() {
            break;
        }
        let person = &own.unit.identity.subject;
        if let Some(LedgerEvent::Effect(EffectEvent::ToolAwaiting(e))) = found.first() {
            let args_digest = named_now(None, &e.args_digest, person, blobs).await;
            kept.waits.push(TapedWait { tool: e.tool.clone(), args_digest, card: e.card(), expires_at: e.expires_at });
        }
        kept.tools.extend(tool(&found, person, blobs).await.map(Some));
    }
    Ok(kept)
}

/// A tool call whose outcome is known; one that was refused is refused again by the rules.
async fn tool(events: &[LedgerEvent], of: &Subject, blobs: &dyn Blobs) -> Option<TapedTool> {
    let [
        LedgerEvent::Effect(EffectEvent::ToolIntended(ToolIntended { tool, args_digest, args, .. })),
        LedgerEvent::Effect(EffectEvent::ToolFinished(ToolFinished {
            phase, result_digest: Some(digest), result, ..
        })),
    ] = events
    else {
        return None;
    };
    let result = serde_json::from_slice(&content(blobs, result.as_deref(), digest).await.ok()?).ok()?;
    let args_digest = named_now(args.as_deref(), args_digest, of, blobs).await;
    let succeeded = *phase == ToolPhase::Succeeded;
    Some(TapedTool { tool: tool.clone(), args_digest, result, succeeded })
}

/// The digest that the same arguments are named by now: a recording may be from before they were sealed.
async fn named_now(inline: Option<&str>, recorded: &str, of: &Subject, blobs: &dyn Blobs) -> String {
    let args = content(blobs, inline, recorded).await.ok();
    args.and_then(|args| blobs.name(of, &args).ok()).unwrap_or_else(|| recorded.to_owned())
}

impl TapedCall {
    /// The status that an agent is told: what the upstream said, where that is a status of an answer.
    pub(crate) fn status(&self) -> u16 {
        match (self.called.outcome, self.called.status) {
            (EffectOutcome::Succeeded, status @ 200..=299) => status,
            (EffectOutcome::Succeeded, _) => 200,
            (EffectOutcome::Failed, status @ 400..=599) => status,
            (EffectOutcome::Failed, status @ 200..=299) => status,
            (EffectOutcome::Failed, _) => 502,
        }
    }
}
