//! Saying more to a dispatch that has not ended: a launcher's message on `launch.<launcher>.say`, or an operator's
//! command, becomes one event, accepted or refused. The words are kept on `unit.<id>.in` first and named by the event:
//! only what the ledger accepted reaches a box. Safe to come again; must never tell a launcher of another one's dispatch.

use super::admission::{Decision, entity};
use super::launchers::Launchers;
use super::meta;
use crate::grants::Grants;
use custody_contracts::canonical::{derived_id, digest};
use custody_contracts::envelope::Meta;
use custody_contracts::events::{
    DispatchEvent, FollowUpAccepted, FollowUpRefused, Kind, LaunchRef, LedgerEvent, SignatureCheck,
};
use custody_contracts::ids::{DispatchId, LauncherId};
use custody_contracts::launch::FollowUp;
use custody_contracts::messages::{ErrorDoc, Reply, ReplyOutcome};
use custody_domain::admission::{Refusal, event_id, launch_ref};
use custody_domain::dispatch::{Dispatch, DispatchCommand, DispatchRefusal, DispatchState};
use custody_domain::run::{Run, RunState};
use custody_domain::say::{check_words, judge, may_reach, message_id, read};
use custody_ledger::handle::fold;
use custody_ledger::{
    AppendError, Command, Decider, Entity, HandleError, Log, Outcome, Recorded, Seq, Sign, Stored, handle,
};
use custody_ports::blobs::{BlobError, Blobs};
use custody_ports::clock::Clock;
use custody_ports::inputs::Inputs;
use custody_ports::launches::Launch;
use serde_json::{Value, json};
use std::sync::Arc;

/// The most bytes that a refusal says a text had: it is evidence, not a measure of what may come.
const TOLD_BYTES_MAX: u64 = 65_536;

/// Everything that follow-ups need.
#[derive(Clone)]
pub struct FollowUps {
    /// The ledger.
    pub log: Arc<dyn Log>,
    /// Authority's key.
    pub signer: Arc<dyn Sign>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Launchers.
    pub launchers: Launchers,
    /// Input topics.
    pub inputs: Arc<dyn Inputs>,
    /// Grants.
    pub grants: Grants,
    /// What seals words with their person's key, and names them so.
    pub blobs: Arc<dyn Blobs>,
}

/// One follow-up, by whomever.
struct Ask {
    /// The message's own id, for a refusal.
    message: DispatchId,
    /// For whom; `None` when it could not be read.
    dispatch: Option<DispatchId>,
    /// Who said it.
    by: String,
    launch: Option<LaunchRef>,
    /// Digest and size of the words, or of the message when it has none.
    digest: String,
    bytes: u64,
}

/// What was decided: the number and where it stands, or the refusal and where that stands.
type Said = Result<(u32, Seq), (Refusal, Seq)>;

pub(super) fn unavailable(entity: &Entity, why: impl std::fmt::Display) -> HandleError {
    HandleError::Append(AppendError::Unavailable(format!("{}: {why}", entity.log_subject())))
}

impl FollowUps {
    /// Decides a launcher's message and says what it is answered. Safe to call again.
    ///
    /// # Errors
    /// [`HandleError`] when nothing could be recorded; the message must come again.
    pub async fn launched(&self, launch: &Launch, launcher: &LauncherId) -> Result<Decision, HandleError> {
        let own_id = event_id(&launch.bytes);
        let origin = launch_ref(launch.seq, launcher, own_id.as_deref(), &launch.bytes);
        let mut ask = Ask {
            message: message_id(launcher.as_str(), own_id.as_deref(), &launch.bytes),
            dispatch: None,
            by: launcher.to_string(),
            launch: Some(origin),
            digest: digest(&launch.bytes),
            bytes: launch.bytes.len() as u64,
        };
        let read = read(&launch.bytes).and_then(|said| {
            let signature = judge(&said, launcher, &self.launchers.get(launcher.as_str()), launch.stored_at)?;
            Ok((said.follow_up, signature))
        });
        let said = match read {
            Ok((follow_up, signature)) => self.decide(&mut ask, follow_up, Some(signature), Some(launcher)).await?,
            Err(refusal) => self.refuse(&ask, refusal).await?,
        };
        let dispatch = ask.dispatch.as_ref().unwrap_or(&ask.message).to_string();
        let (seq, refused) = match said {
            Ok((_, seq)) => (seq, None),
            Err((refusal, seq)) => (seq, Some(refusal)),
        };
        let reply = Reply {
            launcher: launcher.to_string(),
            event_id: own_id,
            outcome: if refused.is_some() { ReplyOutcome::Refused } else { ReplyOutcome::Admitted },
            reason: refused.as_ref().map(|r| r.code.to_owned()),
            detail: refused.as_ref().map(|r| r.detail.clone()),
            hint: refused.map(|r| r.hint),
            output: ["unit.", &dispatch, ".out"].concat(),
            seq: seq.0,
            dispatch,
        };
        Ok(Decision { seq, reply })
    }

    /// Decides an operator's command. The same id and words again are the same follow-up.
    ///
    /// # Errors
    /// An error.v1 with the code of the refusal, or `LEDGER_UNAVAILABLE`.
    pub async fn commanded(&self, dispatch: DispatchId, text: String, by: String, id: &str) -> Result<Value, ErrorDoc> {
        let told = |refusal: Refusal| ErrorDoc::new(refusal.code, refusal.detail, Some(refusal.hint));
        let mut ask = Ask {
            message: message_id(&by, Some(id), text.as_bytes()),
            dispatch: Some(dispatch.clone()),
            by,
            launch: None,
            digest: digest(text.as_bytes()),
            bytes: text.len() as u64,
        };
        let words = check_words(json!({ "dispatch": dispatch, "text": text }));
        let said = match words {
            Ok(follow_up) => self.decide(&mut ask, follow_up, None, None).await,
            Err(refusal) => self.refuse(&ask, refusal).await,
        };
        match said {
            Ok(Ok((n, seq))) => Ok(json!({ "dispatch": dispatch, "n": n, "seq": seq.0 })),
            Ok(Err((refusal, _))) => Err(told(refusal)),
            Err(error) => Err(ErrorDoc::new("LEDGER_UNAVAILABLE", error.to_string(), Some("custody doctor".into()))),
        }
    }

    async fn decide(
        &self,
        ask: &mut Ask,
        follow_up: FollowUp,
        signature: Option<SignatureCheck>,
        launcher: Option<&LauncherId>,
    ) -> Result<Said, HandleError> {
        let text = follow_up.text.as_bytes();
        ask.bytes = text.len() as u64;
        ask.dispatch = Some(follow_up.dispatch.clone());
        let entity = entity(&follow_up.dispatch)?;
        let history = self.load(&entity).await?;
        let state = fold::<Dispatch>(&entity, &history)?;
        let sealed = match state.admitted.as_deref().map(|a| self.blobs.seal(&a.unit.identity.subject, text.to_vec())) {
            None => Vec::new(),
            Some(Ok(sealed)) => sealed,
            Some(Err(BlobError::Erased(who))) => {
                let hint = "nothing more is said in the name of whoever was erased".to_owned();
                let refusal = Refusal { code: "SUBJECT_ERASED", detail: format!("{who} was erased"), hint };
                return self.refuse(ask, refusal).await;
            }
            Some(Err(error)) => return Err(unavailable(&entity, error)),
        };
        if state.admitted.is_some() {
            ask.digest = digest(&sealed);
        }
        let own = state.admitted.as_deref().filter(|a| launcher.is_none_or(|l| *l == a.launch.launcher));
        // What was accepted stays accepted, also when the dispatch has ended since.
        if own.is_some()
            && let Some((n, was, seq)) = said_before(ask, &history)
        {
            let reused = Refusal {
                code: "MESSAGE_ID_REUSED",
                detail: format!("the message id was used before for other words (follow-up {n})"),
                hint: "give every message an id of its own; repeat a message byte for byte".into(),
            };
            return if was == ask.digest { Ok(Ok((n, seq))) } else { self.refuse(ask, reused).await };
        }
        let ended = self.has_ended(&follow_up.dispatch).await?;
        if let Err(refusal) = may_reach(&follow_up.dispatch, state.admitted.as_deref(), launcher, ended) {
            return self.refuse(ask, refusal).await;
        }
        // Who may no longer begin anything may not go on with it either.
        let stands = state.admitted.as_deref().map_or(Ok(()), |a| self.grants.stands(a, self.clock.now()));
        if let Err(short) = stands {
            let hint = "`custody grant ls` shows the grants that stand".to_owned();
            return self.refuse(ask, Refusal { code: short.code, detail: short.detail, hint }).await;
        }
        let mut accepted = FollowUpAccepted {
            dispatch: follow_up.dispatch.clone(),
            n: 0,
            by: ask.by.clone(),
            launch: ask.launch.clone(),
            signature,
            digest: ask.digest.clone(),
            bytes: ask.bytes,
            input_seq: 0,
        };
        // Whatever the rule would refuse is not kept first.
        if let Err(refused) = Dispatch::decide(&state, DispatchCommand::FollowUp(accepted.clone())) {
            return self.refuse(ask, closed(&refused)).await;
        }
        let kept = self.inputs.keep(follow_up.dispatch.as_str(), ask.message.as_str(), sealed).await;
        accepted.input_seq = kept.map_err(|e| unavailable(&entity, e))?;
        let command = Command {
            id: ask.command_id(),
            entity: entity.clone(),
            meta: self.meta(ask, &state),
            body: DispatchCommand::FollowUp(accepted),
        };
        match handle::<Dispatch>(self.log.as_ref(), self.signer.as_ref(), command).await? {
            Outcome::Appended(seq) | Outcome::AlreadyThere(seq) => {
                let history = self.load(&entity).await?;
                let n = history.iter().find(|s| s.seq == seq).and_then(|s| follow_ups(s).next()).map_or(0, |e| e.n);
                Ok(Ok((n, seq)))
            }
            Outcome::Nothing => Err(unavailable(&entity, "nothing was decided")),
            Outcome::Refused(refused) => self.refuse(ask, closed(&refused)).await,
        }
    }

    /// Records a refusal under the message's own id.
    async fn refuse(&self, ask: &Ask, refusal: Refusal) -> Result<Said, HandleError> {
        let entity = entity(&ask.message)?;
        let refused = FollowUpRefused {
            message: ask.message.clone(),
            dispatch: ask.dispatch.clone(),
            by: ask.by.clone(),
            launch: ask.launch.clone(),
            digest: ask.digest.clone(),
            bytes: ask.bytes.min(TOLD_BYTES_MAX),
            reason: refusal.code.to_owned(),
            detail: refusal.detail.clone(),
            hint: refusal.hint.clone(),
        };
        let command = Command {
            id: ask.command_id(),
            entity: entity.clone(),
            meta: self.meta(ask, &DispatchState::default()),
            body: DispatchCommand::RefuseFollowUp(refused),
        };
        let outcome = handle::<Dispatch>(self.log.as_ref(), self.signer.as_ref(), command).await?;
        let seq = match outcome {
            Outcome::Appended(seq) | Outcome::AlreadyThere(seq) => seq,
            Outcome::Nothing | Outcome::Refused(_) => {
                self.load(&entity).await?.last().map(|stored| stored.seq).unwrap_or_default()
            }
        };
        Ok(Err((refusal, seq)))
    }

    async fn load(&self, entity: &Entity) -> Result<Vec<Stored>, HandleError> {
        let loaded = self.log.load(entity).await;
        loaded.map_err(|source| HandleError::Load { entity: entity.log_subject(), source })
    }

    /// Read from the leader: a fold of this process could be behind.
    async fn has_ended(&self, dispatch: &DispatchId) -> Result<bool, HandleError> {
        let Some(entity) = Entity::new(Kind::Run, dispatch.as_str()) else { return Ok(false) };
        let history = self.load(&entity).await?;
        Ok(matches!(fold::<Run>(&entity, &history)?, RunState::Finished(_)))
    }

    fn meta(&self, ask: &Ask, state: &DispatchState) -> Meta {
        let correlation = ask.dispatch.as_ref().unwrap_or(&ask.message);
        let admitted = state.admitted.as_ref();
        Meta {
            subject: admitted.map(|a| a.unit.identity.subject.to_string()),
            launcher: admitted.map(|a| a.launch.launcher.to_string()),
            grant: admitted.and_then(|a| a.grant.id()).map(ToString::to_string),
            causation: ask.launch.as_ref().map(|l| format!("launch/{}", l.stream_seq)),
            ..meta(self.clock.now(), correlation.as_str())
        }
    }
}

impl Ask {
    fn command_id(&self) -> String {
        derived_id("say-", &[self.message.as_str().as_bytes(), self.digest.as_bytes()])
    }
}

/// Follow-ups in one stored message.
fn follow_ups(stored: &Stored) -> impl Iterator<Item = FollowUpAccepted> {
    let recorded = Recorded::read(stored).unwrap_or_default();
    recorded.into_iter().filter_map(|recorded| match recorded.event {
        Some(LedgerEvent::Dispatch(DispatchEvent::FollowUpAccepted(e))) => Some(e),
        _ => None,
    })
}

/// Number, digest and place of the follow-up that this message is already.
fn said_before(ask: &Ask, history: &[Stored]) -> Option<(u32, String, Seq)> {
    let own = ask.launch.as_ref()?.event_id.as_ref()?;
    history.iter().find_map(|stored| {
        let same = |e: &FollowUpAccepted| e.launch.as_ref().is_some_and(|l| l.event_id.as_ref() == Some(own));
        follow_ups(stored).find(|e| e.by == ask.by && same(e)).map(|e| (e.n, e.digest, stored.seq))
    })
}

/// A rule of the dispatch as the refusal of a message.
fn closed(refused: &DispatchRefusal) -> Refusal {
    let (code, hint) = match refused {
        DispatchRefusal::OneTurn(_) => ("FOLLOW_UP_ONE_TURN", "launch with --turns N to say more to it while it runs"),
        DispatchRefusal::NoTurnLeft { .. } => {
            ("FOLLOW_UP_NO_TURN", "ask in its session: custody run --session ID TEXT")
        }
        DispatchRefusal::NotAdmitted(_) | DispatchRefusal::IdReused { .. } => {
            ("FOLLOW_UP_UNKNOWN", "custody dispatch ls shows the dispatches")
        }
    };
    Refusal { code, detail: refused.to_string(), hint: hint.into() }
}
