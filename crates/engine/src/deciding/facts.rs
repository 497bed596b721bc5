//! What stands behind a request, read from the ledger's leader. Must never answer from a fold: what ended a moment ago has
//! ended.

use super::{No, refused};
use crate::follow::read_or_note;
use crate::grants::Grants;
use custody_contracts::approval::ToolAwaiting;
use custody_contracts::events::{
    DispatchAdmitted, DispatchEvent, EffectEvent, Kind, LedgerEvent, RunEvent, ToolIntended,
};
use custody_contracts::ids::UnixMillis;
use custody_contracts::token::{TokenEvent, TokenIssued, ToolClaims};
use custody_domain::approval::ApprovalState;
use custody_domain::effect::{Effect, EffectState};
use custody_domain::events::OfEffect;
use custody_domain::token::{alone, approved_call};
use custody_domain::tool::Approved;
use custody_ledger::{Decider, Entity, Log, LogError, Recorded, Stored};

/// An admission and where it stands.
pub(super) struct Admission {
    pub(super) seq: u64,
    pub(super) admitted: DispatchAdmitted,
}

/// A call as far as it has come.
#[derive(Default)]
struct Effects {
    state: EffectState,
    awaiting: Option<ToolAwaiting>,
    intended: Option<ToolIntended>,
}

async fn stored(log: &dyn Log, kind: Kind, id: &str) -> Result<Vec<Stored>, LogError> {
    match Entity::new(kind, id) {
        Some(entity) => log.load(&entity).await,
        None => Ok(Vec::new()),
    }
}

pub(super) async fn events(log: &dyn Log, kind: Kind, id: &str) -> Result<Vec<Recorded>, LogError> {
    Ok(stored(log, kind, id).await?.iter().flat_map(read_or_note).collect())
}

pub(super) async fn admission(log: &dyn Log, dispatch: &str) -> Result<Option<Admission>, LogError> {
    let found = events(log, Kind::Dispatch, dispatch).await?.into_iter().find_map(|one| match one.event {
        Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(admitted))) => {
            Some(Admission { seq: one.seq.0, admitted: *admitted })
        }
        _ => None,
    });
    Ok(found)
}

/// Lets the book of grants know of a grant what the leader knows.
pub(super) async fn learn_grant(log: &dyn Log, grants: &Grants, grant: &str) -> Result<(), LogError> {
    stored(log, Kind::Grant, grant).await?.iter().for_each(|stored| grants.learn(stored));
    Ok(())
}

/// Whether the token's dispatch runs, or the call that the token is for alone was approved and has not ended.
pub(super) async fn runs(log: &dyn Log, claims: &ToolClaims) -> Result<bool, No> {
    let (mut claimed, mut finished) = (false, false);
    for one in events(log, Kind::Run, claims.dispatch_id.as_str()).await? {
        claimed |= matches!(one.event, Some(LedgerEvent::Run(RunEvent::Claimed(_))));
        finished |= matches!(one.event, Some(LedgerEvent::Run(RunEvent::Finished(_))));
    }
    if claimed && !finished {
        return Ok(true);
    }
    let Some(token) = issued(log, &claims.jti).await? else {
        return Err(refused("TOKEN_UNKNOWN", "the ledger does not say that this token was issued"));
    };
    let from = match &token.from {
        Some(from) => issued(log, from).await?,
        None => None,
    };
    let Some(card) = alone(&token, from.as_ref()) else { return Ok(false) };
    let effects = effects(log, card).await?;
    let (approval, _) = approval(log, card).await?;
    let found = approved_call(effects.awaiting.as_ref(), &effects.state, &approval);
    Ok(found.is_some_and(|waits| waits.dispatch == claims.dispatch_id && waits.card() == card))
}

/// The intent of a call that has no outcome, and the approval that it rests on.
pub(super) async fn call(
    log: &dyn Log,
    txn: &str,
    now: UnixMillis,
) -> Result<(Option<ToolIntended>, Option<Approved>), No> {
    let Effects { state, awaiting, intended } = effects(log, txn).await?;
    let intended = intended.filter(|_| state.is_open());
    let rests = intended.as_ref().is_some_and(|intended| intended.approval.is_some());
    let approval = match awaiting.filter(|_| rests) {
        Some(awaiting) => {
            let (state, seq) = approval(log, txn).await?;
            // That it was begun in time is what its intent says.
            Some(Approved::of(&awaiting, &state, seq, now.min(awaiting.expires_at))?)
        }
        None => None,
    };
    Ok((intended, approval))
}

async fn effects(log: &dyn Log, id: &str) -> Result<Effects, LogError> {
    let mut found = Effects::default();
    for one in events(log, Kind::Effect, id).await? {
        let Some(LedgerEvent::Effect(event)) = one.event else { continue };
        match &event {
            EffectEvent::ToolAwaiting(waits) => found.awaiting = Some((**waits).clone()),
            EffectEvent::ToolIntended(intended) => found.intended = Some(intended.clone()),
            EffectEvent::ToolFinished(_)
            | EffectEvent::ToolRefused(_)
            | EffectEvent::ModelCalled(_)
            | EffectEvent::BudgetWarned(_)
            | EffectEvent::BudgetExhausted(_) => {}
        }
        found.state = Effect::evolve(found.state, &OfEffect(event));
    }
    Ok(found)
}

/// What was decided about a call, and the sequence of the last word.
async fn approval(log: &dyn Log, card: &str) -> Result<(ApprovalState, u64), LogError> {
    let (mut state, mut seq) = (ApprovalState::default(), 0);
    for one in events(log, Kind::Approval, card).await? {
        if let Some(LedgerEvent::Approval(event)) = &one.event {
            state = state.after(event);
            seq = one.seq.0;
        }
    }
    Ok((state, seq))
}

async fn issued(log: &dyn Log, jti: &str) -> Result<Option<TokenIssued>, LogError> {
    let found = events(log, Kind::Token, jti).await?.into_iter().find_map(|one| match one.event {
        Some(LedgerEvent::Token(TokenEvent::Issued(issued))) => Some(*issued),
        _ => None,
    });
    Ok(found)
}
