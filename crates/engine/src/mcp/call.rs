//! One tool call: rate, permit, intent, deed, outcome, answer, in this order; or, where a person must say yes, rate, permit,
//! card, answer. Must never go on to the next of them when one failed.

use super::rate::{HELD, PER_SECOND, RATE_LIMITED, RECORD_EVERY};
use super::wire::RpcError;
use super::{Mcp, files};
use crate::crash;
use crate::replay::{Tape, TapedWait};
use crate::upstream::Came;
use custody_contracts::approval::ToolAwaiting;
use custody_contracts::canonical::{canonical, derived_id, digest};
use custody_contracts::envelope::Meta;
use custody_contracts::events::{EffectEvent, Kind, ToolEffect, ToolFinished, ToolPhase, ToolRefused};
use custody_contracts::grant::GrantIssued;
use custody_contracts::ids::{Subject, UnixMillis, WorkspaceId};
use custody_contracts::sealed::inline;
use custody_domain::effect::{Effect, EffectCommand, EffectRefusal, EffectState};
use custody_domain::events::OfEffect;
use custody_domain::tool::{Deed, FileCall, Judged, Offered, ToolAsked, ToolPermit, ToolRefusal, WaitPermit, judge};
use custody_ledger::{Command, Decider, Entity, Expected, HandleError, Outcome, Seq, handle, handle_known};
use custody_ports::blobs::BlobError;
use custody_ports::secrets::SecretText;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How often an intent is appended before the call is refused.
const INTENT_TRIES: u32 = 3;
/// How often an outcome is appended: nothing may be answered that is not recorded.
const OUTCOME_TRIES: u32 = 30;
/// The pause between two tries.
pub(super) const PAUSE: Duration = Duration::from_millis(200);
/// The most calls of one dispatch that wait or have waited for a person.
pub(super) const CARDS_MAX: u32 = 64;
/// The longest tool name that a record repeats.
const NAME_BYTES_MAX: usize = 128;
/// The intents that this process has set out to write.
static INTENTS: AtomicU64 = AtomicU64::new(0);

/// What a tool answered.
pub(super) struct Answer {
    /// For the agent.
    pub(super) result: Value,
    /// How it ended.
    pub(super) phase: ToolPhase,
    /// Stable code, unless it succeeded.
    pub(super) code: Option<&'static str>,
}

impl Answer {
    /// It did what it should.
    pub(super) fn succeeded(result: Value) -> Answer {
        Answer { result, phase: ToolPhase::Succeeded, code: None }
    }

    /// It did not: the agent's model is to read it and think of something else.
    pub(super) fn failed(code: &'static str, detail: &str) -> Answer {
        Answer::told(ToolPhase::Failed, code, format!("{code}: {detail}"))
    }

    /// Nobody knows.
    fn in_doubt(code: &'static str, detail: &str) -> Answer {
        let text = format!("IN_DOUBT: {code}: {detail}; nobody knows whether it was done; do not repeat it");
        Answer::told(ToolPhase::InDoubt, code, text)
    }

    /// It was in doubt when it was made, and is so still.
    pub(super) fn in_doubt_again(code: &str) -> Answer {
        let text = format!("IN_DOUBT: {code}: this call was made before; nobody knows whether it was done");
        Answer::told(ToolPhase::InDoubt, "IN_DOUBT", text)
    }

    fn told(phase: ToolPhase, code: &'static str, text: String) -> Answer {
        let result = json!({ "content": [{ "type": "text", "text": text }], "isError": true });
        Answer { result, phase, code: Some(code) }
    }
}

/// What the record says of an answer that came from a recording.
const REPLAYED: &str = "REPLAYED";

impl Mcp {
    /// Lets a question through, or holds and refuses it: every kind of question counts, because each costs something.
    pub(super) async fn within_rate(&self) -> Result<(), RpcError> {
        let allowed = self.rate.lock().unwrap_or_else(PoisonError::into_inner).take(tokio::time::Instant::now());
        if !allowed {
            self.note(RATE_LIMITED, format!("questions came faster than {PER_SECOND} a second"));
            self.record_noted_later();
            tokio::time::sleep(HELD).await;
            return Err(RpcError::too_many(u64::try_from(HELD.as_millis()).unwrap_or(u64::MAX)));
        }
        Ok(())
    }

    /// Carries out one `tools/call`.
    pub(super) async fn call(&self, params: &Value) -> Result<Value, RpcError> {
        let Some(name) = params["name"].as_str() else {
            return Err(RpcError::params("`name` is not a text"));
        };
        let none = json!({});
        let args = if params["arguments"].is_null() { &none } else { &params["arguments"] };
        let Ok(_running) = self.running.acquire().await else {
            return Err(RpcError::internal("the gateway is ending"));
        };
        // The same call again is the same effect: it is looked for before it gets a number.
        let kept = self.sealed(canonical(args))?;
        let key = (name.to_owned(), digest(&kept));
        let before = self.past.lock().await.once.get(&key).copied();
        let began = match before {
            Some(n) => Begun::Before(n),
            None => self.intend(name, args, &key, &kept).await?,
        };
        let (permit, seq) = match began {
            Begun::Intended(permit, seq) => (permit, seq),
            Begun::Waits(awaiting) => return Ok(pending(&awaiting.card(), awaiting.expires_at)),
            Begun::Waited(then) => return Ok(pending(&then.card, then.expires_at)),
            Begun::Before(n) => return self.answered_before(n).await,
        };
        let begun = tokio::time::Instant::now();
        crash::point("gw.after_tool_intent");
        let answer = self.carry_out(&permit).await;
        crash::point("gw.after_tool_call");
        self.outcome(&permit, seq, &answer, begun.elapsed()).await?;
        Ok(answer.result)
    }

    /// The person whose content the call is.
    fn subject(&self) -> &Subject {
        &self.needs.admitted.unit.identity.subject
    }

    /// Content as it is kept: what the person's key seals. Its digest names it.
    fn sealed(&self, text: String) -> Result<Vec<u8>, RpcError> {
        let kept = self.needs.blobs.seal(self.subject(), text.into_bytes());
        kept.map_err(|error| RpcError::internal(format!("nothing of this person is kept now: {error}")))
    }

    /// Judges the call and writes its intent, its card or its refusal.
    async fn intend(&self, name: &str, args: &Value, key: &(String, String), kept: &[u8]) -> Result<Begun, RpcError> {
        loop {
            let n = self.last.fetch_add(1, Ordering::SeqCst) + 1;
            let tools = self.needs.tools.tools();
            let policy = self.needs.policy.as_ref();
            let expires_at = UnixMillis(self.needs.clock.now().0.saturating_add(self.needs.approval_ms));
            let admitted = &self.needs.admitted;
            let issued = self.grant();
            let grant = issued.as_ref().map(|issued| &issued.grant);
            let (approval, tool, args_digest) = (None, name, key.1.as_str());
            let asked =
                ToolAsked { admitted, n, tool, args, args_digest, tools: &tools, policy, expires_at, approval, grant };
            let judged = match self.granted().and_then(|()| judge(asked)) {
                Ok(Judged::Permit(permit)) => self.as_accepted(&permit).await.map(|()| Judged::Permit(permit)),
                other => other,
            };
            // Of calls that are never made twice one begins at a time; the others do not wait for each other.
            let once = match &judged {
                Ok(Judged::Permit(permit)) => permit.intended().effect == ToolEffect::Irreversible,
                Ok(Judged::Waits(_)) => true,
                Err(_) => false,
            };
            let mut past = if once { Some(self.past.lock().await) } else { None };
            if let Some(before) = past.as_ref().and_then(|past| past.once.get(key)) {
                return Ok(Begun::Before(*before));
            }
            let waited = past.as_ref().map_or(0, |past| past.waited);
            let began = match judged {
                Ok(Judged::Permit(permit)) => self.put_intent(n, permit.holding(kept)).await?,
                Ok(Judged::Waits(permit)) => match (&self.needs.tape, may_wait(waited)) {
                    (Some(tape), _) => return self.waited_then(n, name, args, &permit, tape).await,
                    (None, Ok(())) => self.put_card(n, *permit).await?,
                    (None, Err(refusal)) => return self.refuse(n, name, args, &refusal).await,
                },
                Err(refusal) => return self.refuse(n, name, args, &refusal).await,
            };
            // Without one, another call has its number since before a restart.
            let Some(began) = began else { continue };
            if let Some(past) = past.as_mut() {
                past.waited += u32::from(matches!(began, Begun::Waits(_)));
                past.once.insert(key.clone(), n);
            }
            return Ok(began);
        }
    }

    async fn refuse(&self, mut n: u32, name: &str, args: &Value, refusal: &ToolRefusal) -> Result<Begun, RpcError> {
        while !self.record_refusal(n, name, args, refusal).await? {
            n = self.last.fetch_add(1, Ordering::SeqCst) + 1;
        }
        Err(RpcError::refused(refusal.code, &refusal.detail, refusal.hint))
    }

    /// Writes an intent; `None` when another call has its number since before a restart.
    async fn put_intent(&self, n: u32, permit: ToolPermit) -> Result<Option<Begun>, RpcError> {
        // Both at once, and no call before both stand: an intent whose arguments are missing is one of a call that was not made.
        let stored = async {
            if permit.intended().args.is_none() {
                self.needs.blobs.put(self.subject(), permit.args().as_bytes().to_vec()).await?;
            }
            Ok::<_, BlobError>(())
        };
        let (stored, appended) = tokio::join!(stored, self.append_intent(n, &permit));
        let Some(seq) = appended? else { return Ok(None) };
        if let Err(error) = stored {
            let text = format!("the arguments were not stored, so nothing was done: {error}");
            self.outcome(&permit, seq, &Answer::failed("ARGUMENTS_NOT_STORED", &text), Duration::ZERO).await?;
            return Err(RpcError::internal(text));
        }
        tracing::info!(
            dispatch = %self.needs.admitted.dispatch,
            gen_ai.operation.name = "execute_tool",
            gen_ai.tool.name = permit.intended().tool,
            gen_ai.tool.call.id = permit.intended().idempotency_key,
            "tool call intended"
        );
        Ok(Some(Begun::Intended(permit, seq)))
    }

    /// The grant that covers the dispatch.
    pub(super) fn grant(&self) -> Option<Arc<GrantIssued>> {
        self.needs.admitted.grant.id().and_then(|id| self.needs.grants.get(id.as_str()))
    }

    /// Whether the dispatch's grant stands, and whether it would be known if it did not.
    pub(super) fn granted(&self) -> Result<(), ToolRefusal> {
        let (grants, now) = (&self.needs.grants, self.needs.clock.now());
        let stands = grants.hears().and_then(|()| grants.stands(&self.needs.admitted, now));
        let hint = "nothing more can be done in this dispatch; tell the person why";
        stands.map_err(|short| ToolRefusal::new(short.code, short.detail, hint))
    }

    /// Answers a call that waited for a person when it was recorded, as it was answered then, and asks nobody.
    async fn waited_then(
        &self,
        n: u32,
        name: &str,
        args: &Value,
        permit: &WaitPermit,
        tape: &Tape,
    ) -> Result<Begun, RpcError> {
        let awaiting = permit.awaiting();
        match tape.waited(&awaiting.tool, &awaiting.args_digest) {
            Ok(then) => {
                let detail = format!("it waited for a person as card {}; a repetition asks nobody", then.card);
                let told = ToolRefusal::new(REPLAYED, detail, "nothing was done");
                self.record_refusal(n, name, args, &told).await?;
                Ok(Begun::Waited(then))
            }
            Err(why) => {
                let refusal = ToolRefusal::new("REPLAY_DIVERGED", why, "nothing was done");
                self.refuse(n, name, args, &refusal).await
            }
        }
    }

    /// Puts a card before the person; `None` when another call has its number since before a restart.
    async fn put_card(&self, n: u32, permit: WaitPermit) -> Result<Option<Begun>, RpcError> {
        if let Err(error) = self.needs.blobs.put(self.subject(), permit.args().as_bytes().to_vec()).await {
            return Err(RpcError::internal(format!("the arguments were not stored, so nothing was done: {error}")));
        }
        let awaiting = permit.awaiting().clone();
        let appended = self.append_begin(n, &EffectCommand::Await(Box::new(permit))).await?;
        if appended.is_some() {
            tracing::info!(card = awaiting.card(), tool = awaiting.tool, "a tool call waits for a person");
            crash::point("gw.after_card");
        }
        Ok(appended.map(|_| Begun::Waits(awaiting)))
    }

    /// Whether the dispatch's token is good, and an upstream's tool what was accepted. What is answered from a recording
    /// asks nobody.
    pub(super) async fn as_accepted(&self, permit: &ToolPermit) -> Result<(), ToolRefusal> {
        if self.needs.tape.is_some() {
            return Ok(());
        }
        if let Some(pass) = &self.needs.pass {
            pass.stands().await?;
        }
        let Deed::Upstream { tool, .. } = permit.deed() else { return Ok(()) };
        let stale = self.needs.upstreams.would_ask(tool).await;
        let token = if stale { self.token_for(tool, None).await? } else { None };
        self.needs.upstreams.as_accepted(tool, token.as_ref()).await
    }

    /// The token that an upstream's tool is called with, when its server takes tokens.
    async fn token_for(&self, tool: &Offered, txn: Option<String>) -> Result<Option<SecretText>, ToolRefusal> {
        match (&self.needs.pass, tool.upstream()) {
            (Some(pass), Some((server, _))) if tool.document().cred_ref.is_none() => {
                match pass.for_tool(server, &tool.document().name, txn).await? {
                    Some(own) => self.needs.upstreams.shown(server, own).await.map(Some),
                    None => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }

    /// Appends an intent under its number, and says where it stands; `None` when another call has that number since before a
    /// restart.
    pub(super) async fn append_intent(&self, n: u32, permit: &ToolPermit) -> Result<Option<Seq>, RpcError> {
        self.append_begin(n, &EffectCommand::Intend(permit.clone())).await
    }

    /// Appends the first event of a call, or the intent of one that waited; `None` when it is somebody else's.
    async fn append_begin(&self, n: u32, command: &EffectCommand) -> Result<Option<Seq>, RpcError> {
        let own = match command {
            // What was approved is followed by every gateway that sees it: only one of them is to find its own intent.
            EffectCommand::Intend(permit) if permit.is_approved() => self.needs.incarnation.clone(),
            // Nothing is looked up before it, so no other intent may have its id: not even one of the same words.
            EffectCommand::Intend(_) => {
                format!("{}/{}", self.needs.incarnation, INTENTS.fetch_add(1, Ordering::Relaxed))
            }
            EffectCommand::Await(permit) => permit.awaiting().idempotency_key.clone(),
            _ => String::new(),
        };
        // Nothing is looked up before the intent of a new call: its number is most likely free.
        let new = matches!(command, EffectCommand::Intend(permit) if !permit.is_approved());
        let new = new.then(|| (EffectState::default(), Expected::NEW));
        for tried in 1..=INTENT_TRIES {
            match self.record_as(n, &own, command.clone(), new.as_ref()).await {
                Ok(Outcome::Appended(seq)) => return Ok(Some(seq)),
                // Found after a lost answer it is this call's own; found at once it is an earlier call's.
                Ok(Outcome::AlreadyThere(seq)) => return Ok((tried > 1).then_some(seq)),
                Ok(Outcome::Refused(EffectRefusal::NumberTaken)) => return Ok(None),
                Ok(
                    Outcome::Nothing
                    | Outcome::Refused(
                        EffectRefusal::NotIntended | EffectRefusal::NotAwaiting | EffectRefusal::BudgetLeft,
                    ),
                ) => break,
                Err(error) => {
                    tracing::warn!(%error, dispatch = %self.needs.admitted.dispatch, n, tried, "intent not recorded");
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(RpcError::internal("the ledger does not take the intent, so nothing was done; call again later"))
    }

    pub(super) async fn carry_out(&self, permit: &ToolPermit) -> Answer {
        if let Some(tape) = &self.needs.tape {
            let intended = permit.intended();
            return match tape.take_tool(&intended.tool, &intended.args_digest) {
                Ok(taped) if taped.succeeded => Answer::succeeded(taped.result),
                Ok(taped) => Answer { result: taped.result, phase: ToolPhase::Failed, code: Some(REPLAYED) },
                Err(why) => Answer::failed("REPLAY_DIVERGED", &format!("{why}; nothing was done")),
            };
        }
        match permit.deed() {
            Deed::Card => Answer::succeeded(json!({
                "content": [{ "type": "text", "text": "the person said yes" }], "isError": false,
            })),
            Deed::File { workspace, call } => self.on_file(workspace, call).await,
            Deed::Upstream { tool, args } => {
                let intended = permit.intended();
                let txn = format!("{}-t{}", intended.dispatch, intended.n);
                let token = match self.token_for(tool, Some(txn)).await {
                    Ok(token) => token,
                    Err(refusal) => return Answer::failed(refusal.code, &refusal.detail),
                };
                match self.needs.upstreams.call(tool, args, &intended.idempotency_key, token.as_ref()).await {
                    Came::Done(result) => Answer::succeeded(result),
                    Came::Failed { code, detail } => Answer::failed(code, &detail),
                    Came::Unknown { code, detail } => Answer::in_doubt(code, &detail),
                }
            }
        }
    }

    async fn on_file(&self, workspace: &WorkspaceId, call: &FileCall) -> Answer {
        let mounts = &self.needs.admitted.unit.workspaces;
        let place = mounts.iter().position(|mount| mount.id == *workspace);
        let Some(root) = place.and_then(|place| self.needs.roots.get(place)).cloned() else {
            return Answer::failed("WORKSPACE_MISSING", "the workspace is not there");
        };
        if !files::may_write(call, &self.written) {
            return Answer::failed("WRITTEN_TOO_MUCH", "this dispatch has written as much through tools as it may");
        }
        let call = call.clone();
        let done = tokio::task::spawn_blocking(move || files::carry_out(&root, &call)).await;
        done.unwrap_or_else(|_| Answer::failed("TOOL_BROKE", "the tool broke off"))
    }

    /// Writes how the call ended whose intent stands at `seq`; the agent is answered only when that stands.
    pub(super) async fn outcome(
        &self,
        permit: &ToolPermit,
        seq: Seq,
        answer: &Answer,
        took: Duration,
    ) -> Result<(), RpcError> {
        let text = canonical(&answer.result);
        let (n, size) = (permit.intended().n, text.len());
        let kept = self.sealed(text.clone()).ok();
        let result = kept.as_deref().and_then(inline);
        let finished = ToolFinished {
            dispatch: self.needs.admitted.dispatch.clone(),
            n,
            phase: answer.phase,
            reason: answer.code.or_else(|| self.needs.tape.is_some().then_some(REPLAYED)).map(str::to_owned),
            result_digest: kept.as_deref().map(digest),
            result,
            result_bytes: u64::try_from(size).ok(),
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        };
        // The outcome stands also where its result cannot be kept, so neither waits for the other.
        let stored = async {
            if finished.result.is_none() {
                self.needs.blobs.put(self.subject(), text.into_bytes()).await?;
            }
            Ok::<_, BlobError>(())
        };
        let (stored, recorded) = tokio::join!(stored, self.append_outcome(permit, seq, &finished));
        if let Err(error) = stored {
            tracing::warn!(%error, dispatch = %self.needs.admitted.dispatch, n, "a tool's result was not stored");
        }
        recorded
    }

    async fn append_outcome(&self, permit: &ToolPermit, seq: Seq, finished: &ToolFinished) -> Result<(), RpcError> {
        let n = finished.n;
        // What follows an intent is known without looking.
        let intended = EffectEvent::ToolIntended(permit.intended().clone());
        let known = (Effect::evolve(EffectState::default(), &OfEffect(intended)), Expected::at(seq));
        for tried in 1..=OUTCOME_TRIES {
            match self.record_as(n, "", EffectCommand::Finish(finished.clone()), Some(&known)).await {
                Ok(_) => return Ok(()),
                Err(error) => {
                    tracing::warn!(%error, dispatch = %self.needs.admitted.dispatch, n, tried, "outcome not recorded");
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(RpcError::internal("IN_DOUBT: the call was made and its outcome could not be recorded; do not repeat it"))
    }

    /// Writes a refusal under its number; false when something else has that number since.
    async fn record_refusal(&self, n: u32, name: &str, args: &Value, refusal: &ToolRefusal) -> Result<bool, RpcError> {
        let refused = ToolRefused {
            dispatch: self.needs.admitted.dispatch.clone(),
            n,
            tool: tool_name(name),
            args_digest: Some(digest(&self.sealed(canonical(args))?)),
            reason: refusal.code.to_owned(),
            detail: refusal.detail.clone(),
            count: 1,
            policy: refusal.policy.clone(),
        };
        match self.record(n, EffectCommand::TurnAway(refused)).await {
            Ok(outcome) => Ok(!matches!(outcome, Outcome::Refused(_))),
            // What cannot be recorded is refused all the same, by the same name.
            Err(error) => {
                let text =
                    format!("refused: {}: {}; the ledger does not take it: {error}", refusal.code, refusal.detail);
                Err(RpcError::internal(text))
            }
        }
    }

    /// Closes a call that waited.
    pub(super) async fn record_close(&self, awaiting: &ToolAwaiting, refusal: &ToolRefusal) -> Result<(), RpcError> {
        let refused = ToolRefused {
            dispatch: awaiting.dispatch.clone(),
            n: awaiting.n,
            tool: Some(awaiting.tool.clone()),
            args_digest: Some(awaiting.args_digest.clone()),
            reason: refusal.code.to_owned(),
            detail: refusal.detail.clone(),
            count: 1,
            policy: refusal.policy.clone(),
        };
        for _ in 1..=OUTCOME_TRIES {
            match self.record(awaiting.n, EffectCommand::Refuse(refused.clone())).await {
                Ok(_) => return Ok(()),
                Err(error) => tracing::warn!(%error, card = awaiting.card(), "a closed call is not recorded"),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(RpcError::internal("the ledger does not take it"))
    }

    /// Refuses something of this dispatch that has no number of its own, such as a call of the model: the first is an event
    /// at once, and what follows is one event at most every [`RECORD_EVERY`].
    pub(crate) async fn note_refusal(&self, reason: &'static str, detail: String) {
        self.note(reason, detail);
        if self.record_noted_later() {
            self.record_noted().await;
        }
    }

    fn note(&self, reason: &'static str, detail: String) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, words) = noted.entry(reason).or_default();
        (*count, *words) = (count.saturating_add(1), detail);
    }

    /// Some time from now one event for each reason stands for all that is noted until then. False when that was to be
    /// done already.
    fn record_noted_later(&self) -> bool {
        if self.flushing.swap(true, Ordering::SeqCst) {
            return false;
        }
        let Some(door) = self.me.upgrade() else { return true };
        tokio::spawn(async move {
            tokio::time::sleep(RECORD_EVERY).await;
            door.flushing.store(false, Ordering::SeqCst);
            door.record_noted().await;
        });
        true
    }

    /// Writes the events for what was noted since the last time.
    pub(crate) async fn record_noted(&self) {
        let noted = std::mem::take(&mut *self.noted.lock().unwrap_or_else(PoisonError::into_inner));
        for (reason, (count, detail)) in noted {
            let n = self.last.fetch_add(1, Ordering::SeqCst) + 1;
            let refused = ToolRefused {
                dispatch: self.needs.admitted.dispatch.clone(),
                n,
                tool: None,
                args_digest: None,
                reason: reason.to_owned(),
                detail: detail.clone(),
                count,
                policy: None,
            };
            if let Err(error) = self.record(n, EffectCommand::Refuse(refused)).await {
                tracing::warn!(%error, dispatch = %self.needs.admitted.dispatch, reason, count, "refusals not recorded");
                let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
                let (again, words) = noted.entry(reason).or_default();
                *again = again.saturating_add(count);
                if words.is_empty() {
                    *words = detail;
                }
            }
        }
    }

    async fn record(&self, n: u32, body: EffectCommand) -> Result<Outcome<EffectRefusal>, HandleError> {
        self.record_as(n, "", body, None).await
    }

    /// `own` tells this decision from others of its kind under the number; `known` is what most likely stands there.
    async fn record_as(
        &self,
        n: u32,
        own: &str,
        body: EffectCommand,
        known: Option<&(EffectState, Expected)>,
    ) -> Result<Outcome<EffectRefusal>, HandleError> {
        let dispatch = self.needs.admitted.dispatch.as_str();
        let Some(entity) = Entity::new(Kind::Effect, &format!("{dispatch}-t{n}")) else { return Ok(Outcome::Nothing) };
        let step = match &body {
            EffectCommand::Intend(permit) if permit.is_approved() => "release",
            EffectCommand::Intend(_) => "intend",
            EffectCommand::Await(_) => "await",
            EffectCommand::Finish(_) => "finish",
            _ => "refuse",
        };
        let id = derived_id("eff-", &[entity.log_subject().as_bytes(), step.as_bytes(), own.as_bytes()]);
        let meta = Meta { time: self.needs.clock.now().rfc3339(), ..self.needs.meta.clone() };
        let (log, signer) = (self.needs.log.as_ref(), self.needs.signer.as_ref());
        let command = Command { id, entity, meta, body };
        match known {
            Some((state, expected)) => handle_known::<Effect>(log, signer, command, state, *expected).await,
            None => handle::<Effect>(log, signer, command).await,
        }
    }
}

/// How a call began.
enum Begun {
    /// It is made; where its intent stands.
    Intended(ToolPermit, Seq),
    /// It waits for a person.
    Waits(ToolAwaiting),
    /// It waited for a person in the run that this one repeats.
    Waited(TapedWait),
    /// It was begun before, under this number.
    Before(u32),
}

/// Whether one more call may wait for a person.
fn may_wait(waited: u32) -> Result<(), ToolRefusal> {
    if waited >= CARDS_MAX {
        let detail = format!("{CARDS_MAX} calls of this dispatch have waited for a person");
        return Err(ToolRefusal::new("CARDS_FULL", detail, "finish with what is decided"));
    }
    Ok(())
}

/// The answer of a call that waits: no error, because nothing is wrong, and no result, because nothing was done.
pub(super) fn pending(card: &str, expires_at: UnixMillis) -> Value {
    let until = expires_at.rfc3339();
    let text = format!(
        "PENDING: nothing was done yet. This call waits for the person's decision as card {card}, until {until}. If they \
         approve, exactly this call is made, also after you have ended. Do not call it again; go on, and say that it waits."
    );
    json!({
        "content": [{ "type": "text", "text": text }],
        "structuredContent": { "status": "pending", "card": card, "expires_at": until },
        "isError": false,
    })
}

/// A tool's name as a record may hold it.
pub(crate) fn tool_name(name: &str) -> Option<String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    (first && name.len() <= NAME_BYTES_MAX && name.chars().all(good)).then(|| name.to_owned())
}

/// The outcome of a call that was intended before a restart and of which nobody knows how it ended.
pub(crate) fn in_doubt(intended: &EffectEvent) -> Option<ToolFinished> {
    let EffectEvent::ToolIntended(intended) = intended else { return None };
    Some(ToolFinished {
        dispatch: intended.dispatch.clone(),
        n: intended.n,
        phase: ToolPhase::InDoubt,
        reason: Some("GATEWAY_RESTARTED".to_owned()),
        result_digest: None,
        result: None,
        result_bytes: None,
        duration_ms: 0,
    })
}
