//! A call that waited, once its card has ended: made exactly once, or closed. Must never make a call that the ledger's
//! leader does not hold an approval of, that policy or grant forbid now, or whose intent does not stand.

use super::Mcp;
use super::call::PAUSE;
use crate::crash;
use custody_contracts::approval::ToolAwaiting;
use custody_contracts::canonical::{canonical, digest};
use custody_contracts::events::Kind;
use custody_domain::approval::{ApprovalState, Approvals};
use custody_domain::tool::{Approved, Judged, ToolAsked, ToolPermit, ToolRefusal, judge};
use custody_ledger::Entity;
use custody_ledger::handle::fold;
use custody_ports::blobs::BlobError;
use serde_json::Value;
use std::time::Duration;

/// How often what only time can mend is asked for, before an approved call is given up.
const TRIES_MAX: u32 = 30;
/// Between two of these tries.
const AGAIN: Duration = Duration::from_secs(2);
/// Refusals that only say that nobody can be asked at the moment.
const MAY_PASS: [&str; 7] = [
    "LEDGER_BROKEN",
    "REVOCATION_FEED_LOST",
    "UPSTREAM_UNAVAILABLE",
    "ARGUMENTS_UNAVAILABLE",
    "TOKEN_UNAVAILABLE",
    "EXCHANGE_UNAVAILABLE",
    "REFRESH_UNAVAILABLE",
];

impl Mcp {
    /// Follows what was decided about a call. Safe to call twice, also in two processes: the intent is the lock.
    pub(crate) async fn release(&self, awaiting: &ToolAwaiting) {
        crash::point("gw.before_release");
        let card = awaiting.card();
        let permit = match self.approved(awaiting).await {
            Ok(permit) => permit,
            Err(refusal) if refusal.code == "APPROVAL_PENDING" => return,
            Err(refusal) => {
                tracing::info!(card, code = refusal.code, "a call that waited is closed");
                if let Err(error) = self.record_close(awaiting, &refusal).await {
                    tracing::error!(?error, card, "a call that waited could not be closed");
                }
                return;
            }
        };
        let seq = match self.append_intent(awaiting.n, &permit).await {
            Ok(Some(seq)) => seq,
            // Another process has it.
            Ok(None) => return,
            Err(error) => {
                tracing::error!(?error, card, "an approved call could not be intended; a restart tries again");
                return;
            }
        };
        let begun = tokio::time::Instant::now();
        crash::point("gw.after_tool_intent");
        let answer = self.carry_out(&permit).await;
        crash::point("gw.after_tool_call");
        if let Err(error) = self.outcome(&permit, seq, &answer, begun.elapsed()).await {
            tracing::error!(
                ?error,
                card,
                "an approved call's outcome is not recorded; a restart says that it is in doubt"
            );
        }
    }

    /// Everything that decides, read and judged anew at each try, until it decides something.
    async fn approved(&self, awaiting: &ToolAwaiting) -> Result<ToolPermit, ToolRefusal> {
        let mut tried = 1;
        loop {
            match self.approved_now(awaiting).await {
                Err(refusal) if tried < TRIES_MAX && MAY_PASS.contains(&refusal.code) => {
                    tracing::warn!(card = awaiting.card(), why = refusal.detail, "an approved call waits");
                }
                decided => return decided,
            }
            tried += 1;
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn approved_now(&self, awaiting: &ToolAwaiting) -> Result<ToolPermit, ToolRefusal> {
        let (state, seq) = self.approval(&awaiting.card()).await?;
        let approved = Approved::of(awaiting, &state, seq, self.needs.clock.now())?;
        self.granted()?;
        let args = self.shown(approved.args_digest()).await?;
        let (tools, issued) = (self.needs.tools.tools(), self.grant());
        let text = canonical(&args);
        // A card from before content was sealed names its arguments by their own digest.
        let args_digest = match digest(text.as_bytes()) {
            plain if plain == approved.args_digest() => plain,
            _ => {
                let subject = &self.needs.admitted.unit.identity.subject;
                self.needs.blobs.name(subject, text.as_bytes()).map_err(|error| lost(&error.to_string()))?
            }
        };
        let judged = judge(ToolAsked {
            admitted: &self.needs.admitted,
            n: awaiting.n,
            tool: &awaiting.tool,
            args: &args,
            args_digest: &args_digest,
            tools: &tools,
            policy: self.needs.policy.as_ref(),
            expires_at: awaiting.expires_at,
            approval: Some(&approved),
            grant: issued.as_ref().map(|issued| &issued.grant),
        })?;
        let permit = match judged {
            Judged::Permit(permit) => *permit,
            Judged::Waits(_) => return Err(lost("the policy asks for an approval that it has")),
        };
        self.as_accepted(&permit).await?;
        Ok(permit)
    }

    /// The approval as the leader has it, and the sequence of its last event.
    async fn approval(&self, card: &str) -> Result<(ApprovalState, u64), ToolRefusal> {
        let unreadable = |why: String| {
            ToolRefusal::new("APPROVAL_UNREADABLE", format!("what was decided about {card}: {why}"), "nothing was done")
        };
        let entity = Entity::new(Kind::Approval, card).ok_or_else(|| unreadable("it is no card".to_owned()))?;
        loop {
            match self.needs.log.load(&entity).await {
                Ok(history) => {
                    let seq = history.last().map_or(0, |stored| stored.seq.0);
                    let state = fold::<Approvals>(&entity, &history).map_err(|e| unreadable(e.to_string()))?;
                    return Ok((state, seq));
                }
                Err(error) => {
                    tracing::warn!(%error, card, "an approval cannot be read; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// The arguments of a digest, which the store has checked.
    async fn shown(&self, args_digest: &str) -> Result<Value, ToolRefusal> {
        let bytes = self.needs.blobs.get(args_digest).await.map_err(|error| match &error {
            BlobError::Unavailable(why) => {
                ToolRefusal::new("ARGUMENTS_UNAVAILABLE", why.clone(), "nothing was done; propose it again")
            }
            BlobError::Missing(_) | BlobError::Corrupt(_) | BlobError::TooLarge { .. } | BlobError::Erased(_) => {
                lost(&error.to_string())
            }
        })?;
        serde_json::from_slice(&bytes).map_err(|e| lost(&e.to_string()))
    }
}

fn lost(why: &str) -> ToolRefusal {
    ToolRefusal::new("ARGUMENTS_LOST", format!("the approved arguments cannot be used: {why}"), "propose it again")
}
