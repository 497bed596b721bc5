//! The dispatcher: every message of LAUNCH becomes exactly one decision in the ledger, admitted or refused, and its
//! launcher gets the answer. Safe in several replicas: the expected sequence decides.

use super::launchers::Launchers;
use super::open::OpenDispatches;
use super::say::{FollowUps, unavailable};
use super::workspaces::WorkspaceBook;
use crate::crash;
use crate::grants::Grants;
use crate::runners::Runners;
use crate::sealed::seal_start;
use crate::tools::ToolBook;
use custody_contracts::canonical::derived_id;
use custody_contracts::envelope::Meta;
use custody_contracts::events::{DispatchRefused, DispatchStopRequested, GrantCheck, Kind, LaunchRef, RunnerRef};
use custody_contracts::ids::{DispatchId, LauncherId, UnixMillis};
use custody_contracts::messages::{Reply, ReplyOutcome};
use custody_domain::admission::{self, Installed, Mounts, Refusal, RunnerEntry};
use custody_domain::dispatch::{Dispatch, DispatchCommand, DispatchRefusal, DispatchState};
use custody_domain::queue::Rules;
use custody_ledger::handle::fold;
use custody_ledger::{Command, Entity, HandleError, Log, Outcome, Seq, Sign, handle, handle_new};
use custody_ports::blobs::Blobs;
use custody_ports::clock::Clock;
use custody_ports::launches::{Launch, Launches};
use custody_ports::subjects::{SubjectKeyError, SubjectKeys};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many launches are decided at once.
pub const IN_FLIGHT_MAX: usize = 256;
/// Between TERM and KILL for a dispatch that gives way to a newer one.
const GIVE_WAY_GRACE_MS: u64 = 10_000;

/// Everything admission needs.
#[derive(Clone)]
pub struct Admission {
    /// The ledger.
    pub log: Arc<dyn Log>,
    /// Authority's key.
    pub signer: Arc<dyn Sign>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Launchers.
    pub launchers: Launchers,
    /// Workspaces.
    pub workspaces: WorkspaceBook,
    /// Grants.
    pub grants: Grants,
    /// Runners.
    pub runners: Runners,
    /// Tools.
    pub tools: ToolBook,
    /// Dispatches that have not ended.
    pub open: OpenDispatches,
    /// What an operator decided about the queue.
    pub rules: Rules,
    /// What is said to dispatches.
    pub follow_ups: FollowUps,
    /// The keys of persons.
    pub keys: Arc<dyn SubjectKeys>,
    /// Where sealed words are kept that are too many for an event.
    pub blobs: Arc<dyn Blobs>,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Where in the ledger.
    pub seq: Seq,
    /// What the launcher is told.
    pub reply: Reply,
}

/// Whether a decision was made just now, or found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fresh {
    /// Just now.
    Yes,
    /// Before.
    No,
}

/// Runs until cancelled.
pub async fn run(admission: Admission, launches: Arc<dyn Launches>, cancel: CancellationToken) {
    let permits = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let tasks = TaskTracker::new();
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { break };
        let launch = tokio::select! {
            () = cancel.cancelled() => break,
            launch = launches.next() => launch,
        };
        match launch {
            Ok(launch) => {
                let (admission, launches) = (admission.clone(), launches.clone());
                tasks.spawn(async move {
                    one(&admission, launches.as_ref(), launch).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "launch stream lost; reading again");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

async fn one(admission: &Admission, launches: &dyn Launches, launch: Launch) {
    crash::point("au.before_decide");
    let result = match admission.decide(&launch).await {
        Ok(Some(decision)) => {
            crash::point("au.after_decide");
            let bytes = serde_json::to_vec(&decision.reply).unwrap_or_default();
            if let Err(error) = launches.reply(&launch.launcher, &decision.reply.dispatch, bytes).await {
                tracing::warn!(%error, dispatch = decision.reply.dispatch, "reply not sent; the decision stands");
            }
            crash::point("au.after_reply");
            launches.done(launch.seq).await
        }
        Ok(None) => launches.done(launch.seq).await,
        Err(error) => {
            tracing::error!(%error, launch = launch.seq, "launch not decided; it comes again");
            launches.later(launch.seq).await
        }
    };
    if let Err(error) = result {
        tracing::warn!(%error, launch = launch.seq, "launch not acknowledged; it comes again and is recognised");
    }
}

impl Admission {
    /// Decides one launch. `None` for a message that no launcher can have published. Safe to call again.
    ///
    /// # Errors
    /// [`HandleError`] when the ledger could not be read or written; the launch must come again.
    pub async fn decide(&self, launch: &Launch) -> Result<Option<Decision>, HandleError> {
        let Ok(launcher) = LauncherId::parse(&launch.launcher) else {
            tracing::warn!(launcher = launch.launcher, "launch on a subject that is no launcher's");
            return Ok(None);
        };
        if launch.verb == "say" {
            return self.follow_ups.launched(launch, &launcher).await.map(Some);
        }
        let event_id = admission::event_id(&launch.bytes);
        let dispatch = admission::dispatch_id(&launcher, event_id.as_deref(), &launch.bytes);
        let mut origin = admission::launch_ref(launch.seq, &launcher, event_id.as_deref(), &launch.bytes);
        origin.stored_at = Some(launch.stored_at);
        // No grant is revoked between the judgement and its record.
        let deciding = self.grants.deciding().await;
        let now = self.now();
        let (command, meta) = self.judge(launch, &launcher, dispatch.clone(), origin.clone(), now);
        let newest = match &command {
            DispatchCommand::Admit(e) => Some((e.unit.identity.subject.to_string(), e.launch.launcher.to_string())),
            _ => None,
        };
        let granted = match &command {
            DispatchCommand::Admit(e) => e.grant.id().cloned(),
            _ => None,
        };
        let appended = match self.sealed(&dispatch, command).await {
            Ok(command) => self.append(&dispatch, command, meta.clone()).await,
            Err(error) => Err(error),
        };
        drop(deciding);
        // A place that was held for it is kept only by what was admitted just now.
        match &appended {
            Ok(Ok((decision, Fresh::Yes))) => self.open.admitted(dispatch.as_str(), decision.seq.0),
            _ => {
                self.open.release(dispatch.as_str());
                if let Some(grant) = granted {
                    self.grants.release(&grant, dispatch.as_str(), now);
                }
            }
        }
        match appended? {
            Ok((decision, _)) => {
                if let (Some((subject, launcher)), ReplyOutcome::Admitted) = (newest, decision.reply.outcome) {
                    self.give_way(&subject, &launcher, &decision.reply.dispatch).await;
                }
                Ok(Some(decision))
            }
            Err(DispatchRefusal::NotAdmitted(_) | DispatchRefusal::OneTurn(_) | DispatchRefusal::NoTurnLeft { .. }) => {
                Ok(None)
            }
            Err(reused @ DispatchRefusal::IdReused { .. }) => {
                // The first message keeps the id; this one is told apart by its bytes.
                let dispatch = admission::dispatch_id(&launcher, None, &launch.bytes);
                let refused = DispatchRefused {
                    dispatch: dispatch.clone(),
                    launch: origin,
                    reason: "MESSAGE_ID_REUSED".into(),
                    detail: reused.to_string(),
                    hint: "give every message an id of its own; repeat a message byte for byte".into(),
                };
                let appended = self.append(&dispatch, DispatchCommand::Refuse(refused), meta).await?;
                Ok(appended.ok().map(|(decision, _)| decision))
            }
        }
    }

    /// The same command with the person's words under their key: in the clear they never reach the ledger.
    async fn sealed(&self, dispatch: &DispatchId, command: DispatchCommand) -> Result<DispatchCommand, HandleError> {
        let DispatchCommand::Admit(admitted) = command else { return Ok(command) };
        let sealed = seal_start(*admitted, self.keys.as_ref(), self.blobs.as_ref()).await;
        match sealed {
            Ok(admitted) => Ok(DispatchCommand::Admit(Box::new(admitted))),
            // Also when it was erased just now: the launch comes again, and is refused then.
            Err(error) => Err(unavailable(&entity(dispatch)?, error)),
        }
    }

    fn judge(
        &self,
        launch: &Launch,
        launcher: &LauncherId,
        dispatch: DispatchId,
        origin: LaunchRef,
        now: UnixMillis,
    ) -> (DispatchCommand, Meta) {
        let mut meta = Meta {
            time: now.rfc3339(),
            causation: Some(format!("launch/{}", launch.seq)),
            correlation: Some(dispatch.to_string()),
            launcher: Some(launcher.to_string()),
            ..Meta::default()
        };
        let judged = self.try_judge(launch, launcher, &dispatch, &origin, &mut meta, now).and_then(|permit| {
            let admitted = permit.into_event();
            // Only now: whoever may launch for nobody makes no key for anybody.
            if let Err(SubjectKeyError::Erased(subject)) = self.keys.ensure(&admitted.unit.identity.subject) {
                return Err(Refusal {
                    code: "SUBJECT_ERASED",
                    detail: format!("{subject} was erased, and nothing is begun in their name"),
                    hint: format!("whoever may decide it takes them in again: custody subject enrol {subject}"),
                });
            }
            // Last of all: whoever is wrong is told so, and not that there is no room.
            let GrantCheck::Checked(used) = &admitted.grant else {
                return self.open.reserve(&admitted, &self.rules).map(|()| admitted);
            };
            let taken = self.grants.edit(|book| book.reserve(used.id.as_str(), dispatch.as_str(), now));
            taken.map_err(|short| Refusal {
                code: short.code,
                detail: short.detail,
                hint: "wait for the window to pass, or ask for another grant: custody grant request".into(),
            })?;
            if let Err(full) = self.open.reserve(&admitted, &self.rules) {
                self.grants.release(&used.id, dispatch.as_str(), now);
                return Err(full);
            }
            meta.grant = Some(used.id.to_string());
            Ok(admitted)
        });
        let command = match judged {
            Ok(admitted) => DispatchCommand::Admit(Box::new(admitted)),
            Err(refusal) => DispatchCommand::Refuse(DispatchRefused {
                dispatch,
                launch: origin,
                reason: refusal.code.into(),
                detail: refusal.detail,
                hint: refusal.hint,
            }),
        };
        (command, meta)
    }

    fn try_judge(
        &self,
        launch: &Launch,
        launcher: &LauncherId,
        dispatch: &DispatchId,
        origin: &LaunchRef,
        meta: &mut Meta,
        now: UnixMillis,
    ) -> Result<admission::Permit, Refusal> {
        if launch.verb != "dispatch" {
            return Err(Refusal {
                code: "VERB_UNKNOWN",
                detail: format!("launch.{launcher}.{} is not a verb of launchers", launch.verb),
                hint: format!("publish on launch.{launcher}.dispatch"),
            });
        }
        let asked = admission::read(&launch.bytes)?;
        meta.subject = Some(asked.unit.identity.subject.to_string());
        meta.traceparent.clone_from(&asked.traceparent);
        let runner = self.runners.get(asked.unit.runner.as_str()).map(|r| RunnerEntry { runner: RunnerRef::of(r) });
        let state = self.launchers.get(launcher.as_str());
        let book = self.workspaces.of(asked.unit.workspaces.iter().map(|w| w.id.as_str()));
        let mounts = Mounts::Registered(&book);
        let tools = self.tools.tools().names().map(str::to_owned).collect();
        self.grants.with(|book| {
            let (dispatch, origin) = (dispatch.clone(), origin.clone());
            let grants = admission::Grants::Given(book, now);
            let installed = Installed { mounts, grants, tools: &tools, runner: runner.as_ref() };
            admission::judge(dispatch, origin, launch.stored_at, asked, &state, installed)
        })
    }

    async fn append(
        &self,
        dispatch: &DispatchId,
        command: DispatchCommand,
        meta: Meta,
    ) -> Result<Result<(Decision, Fresh), DispatchRefusal>, HandleError> {
        let entity = entity(dispatch)?;
        // The id names the decision too: a message that comes again and would now be decided otherwise finds that the
        // entity is not new, and then the first decision is what counts.
        let (digest, outcome) = match &command {
            DispatchCommand::Admit(e) => (e.launch.digest.as_str(), "admit"),
            DispatchCommand::Refuse(e) => (e.launch.digest.as_str(), e.reason.as_str()),
            DispatchCommand::RequestStop(_) | DispatchCommand::FollowUp(_) | DispatchCommand::RefuseFollowUp(_) => {
                ("", "other")
            }
        };
        let id = derived_id("adm-", &[dispatch.as_str().as_bytes(), digest.as_bytes(), outcome.as_bytes()]);
        let body = Command { id, entity: entity.clone(), meta, body: command.clone() };
        let seq = match handle_new::<Dispatch>(self.log.as_ref(), self.signer.as_ref(), body).await? {
            Outcome::Appended(seq) => {
                return Ok(Ok((Decision { seq, reply: reply(&state_of(command), seq) }, Fresh::Yes)));
            }
            Outcome::AlreadyThere(seq) => Some(seq),
            Outcome::Nothing => None,
            Outcome::Refused(refusal) => return Ok(Err(refusal)),
        };
        // Decided before, perhaps otherwise than it would be now: the first decision stands and is what is answered.
        let history = self
            .log
            .load(&entity)
            .await
            .map_err(|source| HandleError::Load { entity: entity.log_subject(), source })?;
        let state = fold::<Dispatch>(&entity, &history)?;
        let seq = seq.or_else(|| history.first().map(|s| s.seq)).unwrap_or_default();
        Ok(Ok((Decision { seq, reply: reply(&state, seq) }, Fresh::No)))
    }

    /// Stops the oldest dispatches beyond a cap, where that is the policy. Asked again for the same newest one it finds
    /// those that are stopping already, so a crash before the launch is acknowledged loses nothing.
    async fn give_way(&self, subject: &str, launcher: &str, newest: &str) {
        for dispatch in self.open.superseded(subject, launcher, &self.rules) {
            let Ok(id) = DispatchId::parse(&dispatch) else { continue };
            let Ok(entity) = entity(&id) else { continue };
            let stop = DispatchStopRequested {
                dispatch: id,
                by: ["policy:cancel-old/", newest].concat(),
                grace_ms: GIVE_WAY_GRACE_MS,
                reason: None,
            };
            let meta = Meta { causation: Some(["dispatch/", newest].concat()), ..super::meta(self.now(), &dispatch) };
            let id = derived_id("way-", &[dispatch.as_bytes()]);
            let command = Command { id, entity, meta, body: DispatchCommand::RequestStop(stop) };
            match handle::<Dispatch>(self.log.as_ref(), self.signer.as_ref(), command).await {
                Ok(_) => tracing::info!(dispatch, newest, "gives way to a newer dispatch"),
                Err(error) => tracing::warn!(%error, dispatch, "could not be asked to give way"),
            }
        }
    }

    fn now(&self) -> UnixMillis {
        self.clock.now()
    }
}

pub(super) fn entity(dispatch: &DispatchId) -> Result<Entity, HandleError> {
    Entity::new(Kind::Dispatch, dispatch.as_str())
        .ok_or_else(|| HandleError::Corrupt { entity: dispatch.to_string(), why: "not an entity id".into() })
}

fn state_of(command: DispatchCommand) -> DispatchState {
    match command {
        DispatchCommand::Admit(e) => DispatchState { admitted: Some(e), ..DispatchState::default() },
        DispatchCommand::Refuse(e) => DispatchState { refused: Some(e), ..DispatchState::default() },
        DispatchCommand::RequestStop(_) | DispatchCommand::FollowUp(_) | DispatchCommand::RefuseFollowUp(_) => {
            DispatchState::default()
        }
    }
}

fn reply(state: &DispatchState, seq: Seq) -> Reply {
    let launch = state.launch();
    let (dispatch, refused) = match (&state.admitted, &state.refused) {
        (Some(e), _) => (e.dispatch.to_string(), None),
        (None, Some(e)) => (e.dispatch.to_string(), Some(e)),
        (None, None) => (String::new(), None),
    };
    Reply {
        launcher: launch.map_or_else(String::new, |l| l.launcher.to_string()),
        event_id: launch.and_then(|l| l.event_id.clone()),
        outcome: if refused.is_some() { ReplyOutcome::Refused } else { ReplyOutcome::Admitted },
        reason: refused.map(|r| r.reason.clone()),
        detail: refused.map(|r| r.detail.clone()),
        hint: refused.map(|r| r.hint.clone()),
        output: ["unit.", &dispatch, ".out"].concat(),
        seq: seq.0,
        dispatch,
    }
}
