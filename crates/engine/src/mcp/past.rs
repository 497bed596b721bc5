//! What a dispatch has called already, as far as the same call again must not be a second effect: calls that cannot be
//! undone, and calls that waited for a person. Must never say that something was not done when the log cannot be read.

use super::call::Answer;
use super::wire::RpcError;
use super::{Mcp, call};
use crate::sealed::content;
use custody_contracts::events::{EffectEvent, Kind, LedgerEvent, ToolEffect, ToolPhase};
use custody_ledger::{Entity, Log, Recorded};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Numbers in a row that nothing stands under, after which no later one is looked for: a number is left out when its
/// arguments could not be stored, or when the same call came at the same time, and fewer than so many run at once.
const GAP_MAX: u32 = 16;

/// The calls of one dispatch that are never a second effect: tool and digest of the arguments, and their number.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// The last number that is taken.
    pub(crate) last: u32,
    /// How many of them wait or have waited for a person.
    pub(super) waited: u32,
    pub(super) once: BTreeMap<(String, String), u32>,
}

impl Past {
    /// Reads what the ledger holds of a dispatch. What cannot be read is asked for again until it can.
    pub(crate) async fn load(log: &dyn Log, dispatch: &str) -> Past {
        let mut past = Past::default();
        let mut n = 0;
        while n < past.last + GAP_MAX {
            n += 1;
            let events = events(log, dispatch, n).await;
            if !events.is_empty() {
                past.last = n;
            }
            for event in &events {
                past.take_in(n, event);
            }
        }
        past
    }

    fn take_in(&mut self, n: u32, event: &EffectEvent) {
        match event {
            EffectEvent::ToolAwaiting(e) => {
                self.waited += 1;
                self.once.insert((e.tool.clone(), e.args_digest.clone()), n);
            }
            EffectEvent::ToolIntended(e) if e.effect == ToolEffect::Irreversible => {
                self.once.insert((e.tool.clone(), e.args_digest.clone()), n);
            }
            EffectEvent::ToolIntended(_)
            | EffectEvent::ToolFinished(_)
            | EffectEvent::ToolRefused(_)
            | EffectEvent::ModelCalled(_)
            | EffectEvent::BudgetWarned(_)
            | EffectEvent::BudgetExhausted(_) => {}
        }
    }
}

/// The events of a tool call, read until they can be.
pub(super) async fn events(log: &dyn Log, dispatch: &str, n: u32) -> Vec<EffectEvent> {
    let Some(entity) = Entity::new(Kind::Effect, &format!("{dispatch}-t{n}")) else { return Vec::new() };
    loop {
        match log.load(&entity).await {
            Ok(history) => {
                let read = history.iter().flat_map(|stored| Recorded::read(stored).unwrap_or_default());
                let effect = |recorded: Recorded| match recorded.event {
                    Some(LedgerEvent::Effect(event)) => Some(event),
                    _ => None,
                };
                return read.filter_map(effect).collect();
            }
            Err(error) => {
                tracing::warn!(%error, dispatch, n, "a dispatch's calls cannot be read; trying again");
                tokio::time::sleep(call::PAUSE).await;
            }
        }
    }
}

impl Mcp {
    /// The answer of a call that was made before, from its record.
    pub(super) async fn answered_before(&self, n: u32) -> Result<Value, RpcError> {
        let dispatch = self.needs.admitted.dispatch.as_str();
        match events(self.needs.log.as_ref(), dispatch, n).await.pop() {
            Some(EffectEvent::ToolAwaiting(e)) => Ok(call::pending(&e.card(), e.expires_at)),
            Some(EffectEvent::ToolRefused(e)) => {
                Err(RpcError::refused(&e.reason, &e.detail, "the same call again is the same answer"))
            }
            Some(EffectEvent::ToolFinished(e)) if e.phase == ToolPhase::InDoubt => {
                let reason = e.reason.as_deref().unwrap_or("IN_DOUBT");
                Ok(Answer::in_doubt_again(reason).result)
            }
            Some(EffectEvent::ToolFinished(e)) => {
                let digest = e.result_digest.unwrap_or_default();
                let kept = content(self.needs.blobs.as_ref(), e.result.as_deref(), &digest).await;
                let kept = kept.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
                Ok(kept.unwrap_or_else(|| {
                    let text = format!("this call was made before and {}; its answer is not kept", e.phase.as_str());
                    json!({ "content": [{ "type": "text", "text": text }], "isError": false })
                }))
            }
            _ => Err(RpcError::internal("IN_DOUBT: this call was begun before; it is not made a second time")),
        }
    }
}
