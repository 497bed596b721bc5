//! One turn: one process of the agent inside its limits, from its start until its output is handed over. Must never end
//! without having killed what it started, and never write the exit frame: that is `supervise`.

use crate::{
    agent::Agent,
    event::Event,
    follow::Follow,
    process,
    protocol::{ExitReason, Job},
    supervise::Worker,
    verdict::{AgentEnd, Ending, Observed},
};
use std::{
    sync::{PoisonError, atomic::Ordering, mpsc::TrySendError},
    time::{Duration, Instant},
};

/// Between TERM and KILL when the worker itself gets TERM.
const TERMINATE_GRACE: Duration = Duration::from_secs(5);
/// The longest time between TERM and KILL that a gateway may ask for. Source: box.v2.
const GRACE_MAX: Duration = Duration::from_secs(600);
/// How long the streams may stay open after the agent's own end, before all that holds them is killed.
const LINGER: Duration = Duration::from_millis(500);
/// How long to wait for the agent's end after KILL, and for the rest of its output while nothing moves.
const STUCK_MAX: Duration = Duration::from_secs(5);
/// The longest time to hand over the rest of the output after the agent's end.
const DRAIN_MAX: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(50);
const WAKE_MAX: Duration = Duration::from_secs(1);

/// How a turn ended.
#[derive(Debug)]
pub struct Ended {
    /// For the verdict.
    pub observed: Observed,
    /// Nothing speaks against another turn: the agent ended by itself, all its output is in the outbox, and nobody asked
    /// for an end.
    pub clean: bool,
    /// The agent's own session id, if it told one.
    pub agent_session: Option<String>,
}

/// One turn that runs.
pub struct Turn<'a> {
    worker: &'a Worker,
    job: &'a Job,
    follow: &'a mut Follow,
    agent: Agent,
    wall: Instant,
    ending: Option<Ending>,
    kill_at: Option<Instant>,
    killed_at: Option<Instant>,
    ended: Option<(AgentEnd, Instant)>,
    lingerers_killed: bool,
    output_done: bool,
    /// The last ack seen while the rest of the output is handed over, and when it came.
    moved: (u64, Instant),
    hurry_until: Option<Instant>,
}

impl<'a> Turn<'a> {
    /// A turn of an agent that was just started; `wall` is the end of the whole box.
    pub fn new(worker: &'a Worker, job: &'a Job, follow: &'a mut Follow, agent: Agent, wall: Instant) -> Self {
        let now = Instant::now();
        Self {
            worker,
            job,
            follow,
            agent,
            wall,
            ending: None,
            kill_at: None,
            killed_at: None,
            ended: None,
            lingerers_killed: false,
            output_done: false,
            moved: (0, now),
            hurry_until: None,
        }
    }

    /// Waits for the end of the turn, and enforces what the job and the gateway say.
    pub fn run(mut self) -> Ended {
        loop {
            let now = Instant::now();
            let next = if self.ended.is_some() { self.drain(now) } else { self.enforce(now) };
            let Some(next) = next else { break };
            let wait = next.saturating_duration_since(Instant::now()).min(WAKE_MAX);
            if let Ok(event) = self.worker.events.recv_timeout(wait) {
                self.take(event);
            }
        }
        process::kill_descendants();
        self.reap();
        let shared = &self.agent.shared;
        let agent_session = shared.agent_session.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ended {
            clean: self.output_done && self.ending.is_none() && self.hurry_until.is_none(),
            observed: Observed {
                ending: self.ending,
                agent: self.ended.map_or(AgentEnd::Unknown, |(end, _)| end),
                format: self.job.runner.stream.format,
                result_seen: shared.result_seen.load(Ordering::Relaxed),
            },
            agent_session,
        }
    }

    /// The agent lives: limits and the way to its end. `None` when it cannot be waited for any longer.
    fn enforce(&mut self, now: Instant) -> Option<Instant> {
        if let Some(killed_at) = self.killed_at {
            let give_up = killed_at + STUCK_MAX;
            return (now < give_up).then_some(give_up);
        }
        if let Some(kill_at) = self.kill_at {
            if now < kill_at {
                return Some(kill_at);
            }
            process::kill_all(self.agent.pid);
            self.killed_at = Some(now);
            return Some(now + STUCK_MAX);
        }
        if self.worker.outbox.is_blocked() {
            self.agent.shared.activity.touch();
        }
        let idle = after(self.agent.shared.activity.last(), Duration::from_millis(self.job.limits.idle_ms));
        let grace = Duration::from_millis(self.job.limits.grace_ms);
        if now >= self.wall {
            self.end(Ending::Because(ExitReason::MaxLifetime), grace);
            return Some(now);
        }
        if now >= idle {
            self.end(Ending::Because(ExitReason::IdleTimeout), grace);
            return Some(now);
        }
        Some(idle.min(self.wall))
    }

    /// The agent has ended: its last output on the way to the outbox. `None` when that is done or cannot be.
    fn drain(&mut self, now: Instant) -> Option<Instant> {
        let ended_at = self.ended.map_or(now, |(_, at)| at);
        if self.output_done || self.hurry_until.is_some_and(|until| now >= until) {
            return None;
        }
        if now < ended_at + LINGER {
            return Some(ended_at + LINGER);
        }
        if !self.lingerers_killed {
            process::kill_descendants();
            self.lingerers_killed = true;
            self.moved = (self.worker.outbox.acked(), now);
        }
        let acked = self.worker.outbox.acked();
        if acked != self.moved.0 {
            self.moved = (acked, now);
        }
        // A gateway that is away is bounded by the link and by the whole.
        let connected = self.worker.link.connected.load(Ordering::Relaxed);
        let stuck = connected && now >= self.moved.1 + STUCK_MAX;
        (!stuck && now < ended_at + DRAIN_MAX).then_some(now + TICK)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Job(job) if job.dispatch == self.job.dispatch && job.attempt == self.job.attempt => {}
            Event::Job(_) => {
                self.worker.link.silenced.store(true, Ordering::Relaxed);
                self.give_up(Ending::Because(ExitReason::GatewayLost));
            }
            Event::GatewayLost => self.give_up(Ending::Because(ExitReason::GatewayLost)),
            Event::BadMessage(_) if matches!(self.ending, Some(Ending::BadJob(_))) => {}
            Event::BadMessage(why) => {
                self.worker.error("protocol", &why);
                self.give_up(Ending::BadJob(why));
            }
            Event::Stop { grace_ms, reason } => {
                self.end(Ending::Because(reason), Duration::from_millis(grace_ms));
            }
            Event::Terminate => self.end(Ending::Because(ExitReason::Stopped), TERMINATE_GRACE),
            Event::LimitReached(why) => {
                self.worker.error("limit_reached", &why);
                self.end(Ending::Limit(why), Duration::from_millis(self.job.limits.grace_ms));
            }
            Event::Input(text) => self.input(text),
            Event::OutputDone => self.output_done = true,
            Event::ChildEnded => self.reap(),
        }
    }

    fn reap(&mut self) {
        for (pid, end) in process::reap() {
            if pid == self.agent.pid && self.ended.is_none() {
                self.ended = Some((end, Instant::now()));
                self.agent.stdin = None;
            }
        }
    }

    /// TERM now and KILL after the grace. The first reason stays; a later, shorter grace counts. An agent that ended by
    /// itself keeps its outcome, and only the handing over of its output is hurried.
    fn end(&mut self, ending: Ending, grace: Duration) {
        let deadline = Instant::now() + grace.min(GRACE_MAX);
        if self.ended.is_some() {
            self.hurry_until = Some(self.hurry_until.map_or(deadline, |until| until.min(deadline)));
            return;
        }
        if self.ending.is_none() {
            self.ending = Some(ending);
            self.agent.stdin = None;
            process::terminate_group(self.agent.pid);
        }
        self.kill_at = Some(self.kill_at.map_or(deadline, |at| at.min(deadline)));
    }

    /// Kills at once, and the reason counts whatever the agent did: its output can no longer arrive.
    fn give_up(&mut self, ending: Ending) {
        self.end(ending.clone(), Duration::ZERO);
        self.ending = Some(ending);
        self.worker.outbox.close();
    }

    /// To the agent's standard input where it has one; otherwise it waits for the end of the turn.
    fn input(&mut self, text: String) {
        let refused = match self.agent.stdin.as_ref() {
            Some(stdin) => match stdin.try_send(text + "\n") {
                Ok(()) => return,
                Err(TrySendError::Full(_)) => ("input_full", "the agent does not read its standard input"),
                Err(TrySendError::Disconnected(_)) => ("input_closed", "the agent closed its standard input"),
            },
            // A runner that reads its standard input but is ending, or is being ended, takes nothing more.
            None if self.ending.is_some() => ("input_refused", "the agent is ending"),
            None => match self.follow.queue(text) {
                Ok(()) => return,
                Err(refused) => refused,
            },
        };
        if self.follow.may_complain() {
            self.worker.error(refused.0, refused.1);
        }
    }
}

/// Limits are numbers from outside: an instant that the clock cannot hold means a year.
pub fn after(start: Instant, duration: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(31_536_000);
    start + duration.min(YEAR)
}
