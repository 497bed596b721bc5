//! Refusals, written down as the dispatch's own: `effect.tool_refused`. Must never close a call that waits, and never write
//! more of them than a minute has room for: the others are counted in the next one.

use super::facts::{Admission, events};
use super::{Asked, Inner};
use crate::mcp::tool_name;
use custody_contracts::canonical::derived_id;
use custody_contracts::envelope::Meta;
use custody_contracts::events::{Kind, ToolRefused};
use custody_contracts::ids::UnixMillis;
use custody_contracts::token::ToolClaims;
use custody_domain::effect::{Effect, EffectCommand, EffectRefusal};
use custody_domain::tool::ToolRefusal;
use custody_ledger::{Command, Entity, Log, LogError, Outcome, handle};
use std::sync::PoisonError;

/// How often a number is looked for that nobody takes in the meantime.
const TRIES_MAX: u32 = 8;

impl Inner {
    /// Writes a refusal down, or counts it. That it could not be changes nothing of the answer.
    pub(super) async fn record(
        &self,
        claims: &ToolClaims,
        admission: &Admission,
        asked: Asked<'_>,
        refusal: &ToolRefusal,
    ) {
        let (dispatch, now) = (&claims.dispatch_id, self.clock.now());
        tracing::info!(%dispatch, code = refusal.code, "a call before its server is refused");
        let due = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).take(now);
        let Some((count, number)) = due else { return };
        let call = match asked {
            Asked::Made(call, _) | Asked::May(call) => Some(call),
            Asked::Nothing | Asked::Never(_) => None,
        };
        let refused = ToolRefused {
            dispatch: dispatch.clone(),
            n: 0,
            tool: call.and_then(|call| tool_name(call.tool)),
            args_digest: call.and_then(|call| self.args_digest(&admission.admitted, call.args, None).ok()),
            reason: refusal.code.to_owned(),
            detail: refusal.detail.clone(),
            count,
            policy: refusal.policy.clone(),
        };
        let unique = [claims.jti.as_bytes(), &now.0.to_be_bytes(), &number.to_be_bytes()].concat();
        if let Err(why) = self.append(refused, meta(admission, now), &unique).await {
            tracing::warn!(%dispatch, why, code = refusal.code, "a refusal before a server was not recorded");
        }
    }

    async fn append(&self, mut refused: ToolRefused, meta: Meta, unique: &[u8]) -> Result<(), String> {
        let dispatch = refused.dispatch.to_string();
        let log = self.log.as_ref();
        for _ in 0..TRIES_MAX {
            refused.n = free(log, &dispatch, refused.n).await.map_err(|e| e.to_string())?;
            let entity = Entity::new(Kind::Effect, &format!("{dispatch}-t{}", refused.n));
            let entity = entity.ok_or("its id is no entity's")?;
            let id = derived_id("wl-", &[entity.log_subject().as_bytes(), unique]);
            let body = EffectCommand::TurnAway(refused.clone());
            let command = Command { id, entity, meta: meta.clone(), body };
            match handle::<Effect>(log, self.signer.as_ref(), command).await {
                // The gateway's own door has the number by now.
                Ok(Outcome::Refused(EffectRefusal::NumberTaken)) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
        Err(format!("no number was free in {TRIES_MAX} tries"))
    }
}

/// The envelope of an event about a dispatch.
fn meta(Admission { seq, admitted }: &Admission, now: UnixMillis) -> Meta {
    Meta {
        time: now.rfc3339(),
        subject: Some(admitted.unit.identity.subject.to_string()),
        causation: Some(format!("ledger/{seq}")),
        correlation: Some(admitted.dispatch.to_string()),
        launcher: Some(admitted.launch.launcher.to_string()),
        grant: admitted.grant.id().map(ToString::to_string),
        traceparent: None,
    }
}

/// A number after one that is taken, or 0, under which nothing stands and before which there are few gaps: numbering goes
/// on there after a restart.
async fn free(log: &dyn Log, dispatch: &str, after: u32) -> Result<u32, LogError> {
    let taken = async |n: u32| {
        let found = events(log, Kind::Effect, &format!("{dispatch}-t{n}")).await?;
        Ok::<bool, LogError>(!found.is_empty())
    };
    let (mut low, mut step) = (after, 1_u32);
    while taken(low.saturating_add(step)).await? {
        low = low.saturating_add(step);
        step = step.saturating_mul(2);
    }
    let mut high = low.saturating_add(step);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if taken(middle).await? { low = middle } else { high = middle }
    }
    Ok(high)
}
