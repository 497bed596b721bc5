//! From the claim to a box that runs: what must be there, folders, socket, create, start, and the event that says so.
//! Must never pull an image or touch a box of another installation.

use super::super::phases::Phases;
use super::super::{collect, plan, workspaces};
use super::claim::Ahead;
use super::{CannotStart, One, RETRY_MAX, append, places, socket_path};
use crate::crash;
use crate::replay::before;
use custody_contracts::events::{InForce, RunStarted};
use custody_contracts::ids::UnixMillis;
use custody_contracts::unit::Start;
use custody_domain::queue::Caps;
use custody_domain::run::RunCommand;
use custody_ports::containers::{BoxError, BoxSet, BoxState, BoxStatus, End, Listening};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::SemaphorePermit;

/// How long the gateway may take to open a dispatch's socket.
const SOCKET_WAIT: Duration = Duration::from_secs(15);
/// How often a create or start is tried when the engine does not answer.
const ENGINE_TRIES_MAX: u32 = 60;
/// How often a name is asked for that is taken, and the pause between: a second in all.
const NAME_TRIES_MAX: u32 = 20;
const NAME_PAUSE: Duration = Duration::from_millis(50);

/// Whether a box is made before it is started.
enum Making<'a> {
    ToDo,
    /// By an earlier life.
    Done,
    /// While its claim was being recorded.
    Ahead(Ahead<'a>),
}

/// What came of creating a box.
enum Made {
    Here(Option<Listening<'static>>),
    Before,
    NoImage(String),
}

/// A box that runs, or has run.
pub(super) struct Up<'a> {
    pub(super) started: RunStarted,
    /// What the engine said of it just now.
    pub(super) seen: Option<BoxStatus>,
    /// Where its end is heard of, from before its start on.
    pub(super) listening: Option<Listening<'a>>,
}

impl Up<'_> {
    /// One that an earlier life, or the pool, has started.
    pub(super) fn found(started: RunStarted) -> Self {
        Self { started, seen: None, listening: None }
    }
}

impl<'a> One<'a> {
    /// From the claim to a box that runs, or has run.
    pub(super) async fn bring_up(&self, ahead: Option<Ahead<'a>>) -> Result<Up<'a>, CannotStart> {
        if let Some(started) = &self.open.started {
            return Ok(Up::found(started.clone()));
        }
        if let Err(missing) = self.class {
            return Err(CannotStart(missing.to_string()));
        }
        plan::room(&self.open.admitted.runner, &self.runtime.config.limits).map_err(CannotStart)?;
        let mut phases = self.phases.clone();
        // A claim of this very moment cannot have a box yet: the engine is not asked, and a name that is taken is found
        // out by creating.
        let there = if self.fresh { None } else { self.own().await? };
        if self.blank.is_some() || there.as_ref().is_some_and(|status| self.is_awake_or_blank(status)) {
            return self.wake(phases, there).await.map(Up::found);
        }
        let listening = match there.map(|status| status.state) {
            None => self.begin(&mut phases, ahead.map_or(Making::ToDo, Making::Ahead)).await?,
            Some(BoxState::Created) => self.begin(&mut phases, Making::Done).await?,
            Some(BoxState::Running | BoxState::Exited { .. }) => None,
        };
        crash::point("rt.after_start_call");
        let Some(status) = self.own().await? else {
            return Err(CannotStart("the box was removed before it started".into()));
        };
        let started_at = status.started_at.unwrap_or_else(|| self.now());
        let in_force = status.set.clone().map(|set| self.in_force(set, false));
        let started = self.record_start(status.id.clone(), started_at, phases, in_force).await?;
        Ok(Up { started, seen: Some(status), listening })
    }

    /// Makes the box and fills its folders at the same time, listens for its end, and starts it. A box that an earlier
    /// life made gets its folders anew: what that life had put there may be half of it.
    async fn begin(&self, phases: &mut Phases, making: Making<'a>) -> Result<Option<Listening<'a>>, CannotStart> {
        self.may_start().await?;
        workspaces::all_known(self).map_err(CannotStart)?;
        if !matches!(making, Making::Ahead(_)) {
            self.places()?;
        }
        let filled = AtomicBool::new(false);
        let filling = async {
            let done = self.fill().await;
            filled.store(true, Ordering::Relaxed);
            done.map(|()| self.now())
        };
        let engine = async {
            let (permit, listening, made_at) = match making {
                Making::Ahead(Ahead { permit, listening, made_at }) => (Some(permit), listening, Some(made_at)),
                Making::ToDo => (self.starts().await, self.create().await?, None),
                Making::Done => (self.starts().await, None, None),
            };
            let listening: Option<Listening<'a>> = match listening {
                Some(listening) => Some(listening),
                // Without it the end is still found out, by looking.
                None => self.listen(End::Next).await.ok(),
            };
            // A bucket that is slow must not keep others from the engine.
            let permit = permit.filter(|_| filled.load(Ordering::Relaxed));
            Ok::<_, CannotStart>((permit, listening, made_at.unwrap_or_else(|| self.now())))
        };
        // Each is waited for, also when the other failed: nothing may write into the folders while they are removed.
        let (filled_at, made) =
            tokio::join!(filling, async { tokio::try_join!(self.timed(self.wait_for_socket()), engine) });
        let (socket_at, (permit, listening, made_at)) = made?;
        phases.lap("create", made_at);
        phases.lap("mount", socket_at.max(filled_at?));
        crash::point("rt.after_create");
        let permit = match permit {
            None => self.starts().await,
            permit => permit,
        };
        self.start().await?;
        drop(permit);
        phases.lap("boot", self.now());
        Ok(listening)
    }

    /// A place among the starts under way. They are never closed.
    async fn starts(&self) -> Option<SemaphorePermit<'a>> {
        self.shared.starts.acquire().await.ok()
    }

    /// The event that says that the box runs.
    pub(super) async fn record_start(
        &self,
        container: String,
        started_at: UnixMillis,
        phases: Phases,
        in_force: Option<InForce>,
    ) -> Result<RunStarted, CannotStart> {
        let started = RunStarted {
            dispatch: self.open.admitted.dispatch.clone(),
            attempt: self.claimed.attempt,
            container,
            started_at,
            phases_ms: phases.done(),
            in_force,
        };
        append(self.runtime, self.open, "start", RunCommand::Start(started.clone())).await;
        crash::point("rt.after_started_event");
        Ok(started)
    }

    /// What the run's record says of its box: what the engine set, and what this host is.
    pub(super) fn in_force(&self, set: BoxSet, warm: bool) -> InForce {
        let classes = &self.runtime.config.classes;
        InForce {
            warm,
            sockets: self.spec.sockets,
            seccomp_digest: set.seccomp_digest,
            isolation: self.class.as_ref().map(|class| class.isolation).unwrap_or_default(),
            oci_runtime: set.runtime.chars().take(128).collect(),
            userns: classes.userns,
            cgroup_version: classes.cgroup_version.clone(),
            memory_bytes: set.memory_bytes,
            nano_cpus: set.nano_cpus,
            pids: set.pids,
        }
    }

    /// When a step that went well ended.
    async fn timed(&self, step: impl Future<Output = Result<(), CannotStart>>) -> Result<UnixMillis, CannotStart> {
        step.await?;
        Ok(self.now())
    }

    /// What may have changed while it waited.
    pub(super) async fn may_start(&self) -> Result<(), CannotStart> {
        self.wait_for_place().await?;
        if let Some(stop) = self.stop() {
            return Err(CannotStart(format!("a stop was {} before it started", stop.why)));
        }
        self.check_session().await
    }

    /// Waits while an earlier claim has the place: two runtimes can claim the last one at the same moment, and the ledger's
    /// order decides who begins. Ends also when a stop is asked for.
    async fn wait_for_place(&self) -> Result<(), CannotStart> {
        let mut seq = self.shared.seq.subscribe();
        let caps = &self.runtime.config.caps;
        if *caps == Caps::default() {
            return Ok(());
        }
        while self.stop().is_none() && !self.shared.with(|view| view.may_start(self.dispatch(), caps)) {
            if self.now() >= self.claimed.deadline_at {
                return Err(CannotStart("no box of its person or launcher ended before its deadline".into()));
            }
            // A look every second besides, for the deadline.
            let _moved_or_not = tokio::time::timeout(Duration::from_secs(1), seq.changed()).await;
        }
        Ok(())
    }

    /// The box of this dispatch, if the engine has it. Another installation on the same engine may have a dispatch of
    /// the same id, and then its box has the same name: that one is never started, watched, stopped or removed.
    pub(super) async fn own(&self) -> Result<Option<BoxStatus>, CannotStart> {
        match self.ask(|| self.runtime.containers.inspect(&self.spec.name)).await? {
            Some(status) if !self.is_own(&status) => Err(self.name_taken()),
            status => Ok(status),
        }
    }

    /// Asks the engine until it answers, a bounded number of times: an engine that is away is not a failed dispatch.
    pub(super) async fn ask<T, F>(&self, mut question: impl FnMut() -> F) -> Result<T, CannotStart>
    where
        F: Future<Output = Result<T, BoxError>>,
    {
        let mut pause = Duration::from_millis(100);
        for _ in 0..ENGINE_TRIES_MAX {
            match question().await {
                Ok(answer) => return Ok(answer),
                Err(BoxError::Unavailable(why)) => {
                    tracing::warn!(why, dispatch = self.dispatch(), "container engine away; asking again");
                }
                Err(error) => return Err(CannotStart(error.to_string())),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
        Err(CannotStart("the container engine did not answer; start it and dispatch again (custody doctor)".into()))
    }

    /// A turn of a session that left no file, or that is another person's, has nothing to go on from, and must not
    /// pretend to. Both are told alike.
    pub(super) async fn check_session(&self) -> Result<(), CannotStart> {
        let admitted = &self.open.admitted;
        if self.claimed.resume_digest.is_some() {
            return Ok(());
        }
        match &admitted.unit.start {
            Start::Session(_) => Err(CannotStart(format!(
                "SESSION_UNKNOWN: session {} has no session file of {} to resume from; custody session ls",
                admitted.session, admitted.unit.identity.subject
            ))),
            Start::Entrypoint(_) => match before(admitted, self.runtime.log.as_ref()).await {
                Ok(None) => Ok(()),
                Ok(Some(_)) => {
                    Err(CannotStart("the turn that it repeats could not be read when it was claimed".into()))
                }
                Err(why) => Err(CannotStart(format!("SESSION_UNKNOWN: {why}"))),
            },
        }
    }

    /// The folders that the box mounts, empty.
    pub(super) fn places(&self) -> Result<(), CannotStart> {
        places(self.folder, &self.open.admitted, &self.runtime.config.classes)
    }

    /// What is in them when the box starts: the workspaces' files, and the session.
    pub(super) async fn fill(&self) -> Result<(), CannotStart> {
        let (copies, session) = tokio::join!(workspaces::fill(self), self.restore_session());
        copies.map_err(CannotStart)?;
        session
    }

    async fn restore_session(&self) -> Result<(), CannotStart> {
        let Some(digest) = &self.claimed.resume_digest else { return Ok(()) };
        let bytes = workspaces::session_bytes(self, digest).await;
        let bytes = bytes.map_err(|e| CannotStart(format!("the session file cannot be restored: {e}")))?;
        let (kind, uid) = (self.open.admitted.runner.session_kind, self.runtime.config.classes.box_uid());
        collect::restore(self.folder, kind, &bytes, uid)
            .map_err(|e| CannotStart(format!("the session cannot be restored: {e}")))
    }

    pub(super) async fn wait_for_socket(&self) -> Result<(), CannotStart> {
        let socket = socket_path(self.folder);
        let until = tokio::time::Instant::now() + SOCKET_WAIT;
        let mut pause = Duration::from_millis(1);
        // The gateway sees the claim when this runtime does: the socket is a matter of milliseconds.
        for looked in 0u32.. {
            if tokio::net::UnixStream::connect(&socket).await.is_ok() {
                return Ok(());
            }
            if tokio::time::Instant::now() >= until {
                return Err(CannotStart(
                    "no gateway opened the dispatch's socket; is the gateway role running on this machine?".into(),
                ));
            }
            tokio::time::sleep(pause).await;
            if looked > 20 {
                pause = (pause * 2).min(Duration::from_millis(100));
            }
        }
        Ok(())
    }

    pub(super) async fn create(&self) -> Result<Option<Listening<'static>>, CannotStart> {
        for _ in 0..NAME_TRIES_MAX {
            let made = self.ask(|| async {
                match self.runtime.containers.create_heard(self.spec).await {
                    Ok(listening) => Ok(Made::Here(listening)),
                    Err(BoxError::NameTaken(_)) => Ok(Made::Before),
                    Err(BoxError::ImageMissing(image)) => Ok(Made::NoImage(image)),
                    Err(error) => Err(error),
                }
            });
            match made.await? {
                Made::Here(listening) => return Ok(listening),
                Made::Before => {}
                Made::NoImage(image) => {
                    return Err(CannotStart(format!(
                        "IMAGE_MISSING: {image} is not on this machine and nothing is pulled; ops/setup builds the runner images"
                    )));
                }
            }
            match self.ask(|| self.runtime.containers.inspect(&self.spec.name)).await? {
                None => {}
                // This very box, created before an answer was lost.
                Some(status) if self.is_own(&status) && self.is_as_claimed(&status) => return Ok(None),
                // An earlier life made it ahead of a claim that it did not record.
                Some(status) if self.is_own(&status) => {
                    self.ask(|| self.runtime.containers.remove(&self.spec.name)).await?;
                }
                // Another runtime of this ledger may have made it ahead of a claim that it has lost.
                Some(status) if status.state == BoxState::Created => tokio::time::sleep(NAME_PAUSE).await,
                Some(_) => break,
            }
        }
        Err(self.name_taken())
    }

    /// Whether a box carries what its claim says, or has begun and is not made anew.
    fn is_as_claimed(&self, status: &BoxStatus) -> bool {
        let same = |(label, value): (&String, &String)| status.labels.get(label) == Some(value);
        status.state != BoxState::Created || self.spec.labels.iter().all(same)
    }

    fn name_taken(&self) -> CannotStart {
        CannotStart(format!(
            "NAME_TAKEN: container {} belongs to another installation on this engine; launch again under another message id",
            self.spec.name
        ))
    }

    pub(super) async fn start(&self) -> Result<(), CannotStart> {
        self.ask(|| self.runtime.containers.start(&self.spec.name)).await
    }
}
