//! The dispatcher: every message of LAUNCH becomes exactly one decision in the ledger, admitted or refused, and its
//! launcher gets the answer. Safe in several replicas: the expected sequence decides.

use super::launchers::Launchers;
use crate::crash;
use crate::runners::Runners;
use custody_contracts::canonical::derived_id;
use custody_contracts::envelope::Meta;
use custody_contracts::events::{DispatchRefused, Kind, LaunchRef, RunnerRef};
use custody_contracts::ids::{DispatchId, LauncherId, UnixMillis};
use custody_contracts::messages::{Reply, ReplyOutcome};
use custody_domain::admission::{self, Refusal, RunnerEntry};
use custody_domain::dispatch::{Dispatch, DispatchCommand, DispatchRefusal, DispatchState};
use custody_ledger::handle::fold;
use custody_ledger::{Command, Entity, HandleError, Log, Outcome, Seq, Sign, handle_new};
use custody_ports::clock::Clock;
use custody_ports::launches::{Launch, Launches};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many launches are decided at once.
pub const IN_FLIGHT_MAX: usize = 256;

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
    /// Runners.
    pub runners: Runners,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Where in the ledger.
    pub seq: Seq,
    /// What the launcher is told.
    pub reply: Reply,
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
        let event_id = admission::event_id(&launch.bytes);
        let dispatch = admission::dispatch_id(&launcher, event_id.as_deref(), &launch.bytes);
        let origin = admission::launch_ref(launch.seq, &launcher, event_id.as_deref(), &launch.bytes);
        let (command, meta) = self.judge(launch, &launcher, dispatch.clone(), origin.clone());
        match self.append(&dispatch, command, meta.clone()).await? {
            Ok(decision) => Ok(Some(decision)),
            Err(DispatchRefusal::NotAdmitted(_)) => Ok(None),
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
                Ok(self.append(&dispatch, DispatchCommand::Refuse(refused), meta).await?.ok())
            }
        }
    }

    fn judge(
        &self,
        launch: &Launch,
        launcher: &LauncherId,
        dispatch: DispatchId,
        origin: LaunchRef,
    ) -> (DispatchCommand, Meta) {
        let mut meta = Meta {
            time: self.now().rfc3339(),
            causation: Some(format!("launch/{}", launch.seq)),
            correlation: Some(dispatch.to_string()),
            launcher: Some(launcher.to_string()),
            ..Meta::default()
        };
        let judged = self.try_judge(launch, launcher, &dispatch, &origin, &mut meta);
        let command = match judged {
            Ok(permit) => DispatchCommand::Admit(Box::new(permit.into_event())),
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
        let runner = self
            .runners
            .get(asked.unit.runner.as_str())
            .map(|r| RunnerEntry { runner: RunnerRef { name: r.name, version: r.version, image: r.image } });
        let state = self.launchers.get(launcher.as_str());
        admission::judge(dispatch.clone(), origin.clone(), launch.stored_at, asked, &state, runner.as_ref())
    }

    async fn append(
        &self,
        dispatch: &DispatchId,
        command: DispatchCommand,
        meta: Meta,
    ) -> Result<Result<Decision, DispatchRefusal>, HandleError> {
        let entity = entity(dispatch)?;
        // The id names the decision too: a message that comes again and would now be decided otherwise finds that the
        // entity is not new, and then the first decision is what counts.
        let (digest, outcome) = match &command {
            DispatchCommand::Admit(e) => (e.launch.digest.as_str(), "admit"),
            DispatchCommand::Refuse(e) => (e.launch.digest.as_str(), e.reason.as_str()),
            DispatchCommand::RequestStop(_) => ("", "stop"),
        };
        let id = derived_id("adm-", &[dispatch.as_str().as_bytes(), digest.as_bytes(), outcome.as_bytes()]);
        let body = Command { id, entity: entity.clone(), meta, body: command.clone() };
        let seq = match handle_new::<Dispatch>(self.log.as_ref(), self.signer.as_ref(), body).await? {
            Outcome::Appended(seq) => return Ok(Ok(Decision { seq, reply: reply(&state_of(command), seq) })),
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
        Ok(Ok(Decision { seq, reply: reply(&state, seq) }))
    }

    fn now(&self) -> UnixMillis {
        self.clock.now()
    }
}

fn entity(dispatch: &DispatchId) -> Result<Entity, HandleError> {
    Entity::new(Kind::Dispatch, dispatch.as_str())
        .ok_or_else(|| HandleError::Corrupt { entity: dispatch.to_string(), why: "not an entity id".into() })
}

fn state_of(command: DispatchCommand) -> DispatchState {
    match command {
        DispatchCommand::Admit(e) => DispatchState { admitted: Some(e), ..DispatchState::default() },
        DispatchCommand::Refuse(e) => DispatchState { refused: Some(e), ..DispatchState::default() },
        DispatchCommand::RequestStop(_) => DispatchState::default(),
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
