//! What the gateway writes about calls. Must never give up an event that stands for a call that was made before it has
//! tried for a while, and must never number two calls alike.

use super::Gateway;
use super::view::Claimed;
use crate::crash;
use crate::inference::CallRecord;
use crate::mcp;
use custody_contracts::canonical::derived_id;
use custody_contracts::events::{EffectEvent, Kind, ToolIntended};
use custody_domain::effect::{Effect, EffectCommand};
use custody_ledger::{Command, Entity, handle};
use std::time::Duration;

/// How often an event is tried.
const TRIES_MAX: u32 = 30;
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// How many calls of a kind (`m`odel, `t`ool) are in the ledger: after a restart numbering goes on there.
pub(super) async fn recorded(gateway: &Gateway, dispatch: &str, kind: char) -> u32 {
    for n in 1u32.. {
        let entity = Entity::new(Kind::Effect, &format!("{dispatch}-{kind}{n}"));
        let Some(entity) = entity else { return n - 1 };
        match gateway.log.load(&entity).await {
            Ok(history) if !history.is_empty() => {}
            _ => return n - 1,
        }
    }
    0
}

/// Records a model call.
pub(super) async fn record_call(gateway: &Gateway, claimed: &Claimed, n: u32, record: CallRecord) {
    let dispatch = claimed.admitted.dispatch.as_str();
    let event = record.into_event(claimed.admitted.dispatch.clone(), n);
    let id = derived_id("eff-", &[dispatch.as_bytes(), &n.to_be_bytes(), event.request_digest.as_bytes()]);
    append(gateway, claimed, &format!("{dispatch}-m{n}"), &id, EffectCommand::Call(Box::new(event))).await;
    crash::point("gw.after_model_call");
}

/// Records that nobody knows how a tool call ended.
pub(super) async fn in_doubt(gateway: &Gateway, claimed: &Claimed, intended: ToolIntended) {
    let intended = EffectEvent::ToolIntended(intended);
    let entity = intended.entity_id();
    let Some(outcome) = mcp::in_doubt(&intended) else { return };
    let id = derived_id("eff-", &[entity.as_bytes(), b"in_doubt"]);
    append(gateway, claimed, &entity, &id, EffectCommand::Finish(outcome)).await;
}

/// Appends an event of kind effect; false when it could not be.
pub(super) async fn append(gateway: &Gateway, claimed: &Claimed, entity: &str, id: &str, body: EffectCommand) -> bool {
    let Some(entity) = Entity::new(Kind::Effect, entity) else { return false };
    let meta = claimed.meta(gateway.clock.now().rfc3339());
    for tried in 1..=TRIES_MAX {
        let command = Command { id: id.to_owned(), entity: entity.clone(), meta: meta.clone(), body: body.clone() };
        match handle::<Effect>(gateway.log.as_ref(), gateway.signer.as_ref(), command).await {
            Ok(_) => return true,
            Err(error) if tried == TRIES_MAX => {
                tracing::error!(%error, entity = entity.log_subject(), "an effect could not be recorded");
            }
            Err(error) => {
                tracing::warn!(%error, entity = entity.log_subject(), "an effect is not recorded; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    false
}
