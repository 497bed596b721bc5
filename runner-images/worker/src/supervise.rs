//! The worker's one loop: waits for a job, runs the agent inside its limits, ends with one exit frame. Everything that
//! happens arrives here as an event or a deadline. Must never end without having killed what it started.

use crate::{
    agent::{self, Agent},
    event::{EVENTS_MAX, Event},
    files::{self, Roots},
    link::{self, LinkConfig, LinkState},
    outbox::{self, Outbox},
    prepare, process,
    protocol::{ExitReason, FrameBody, Job, StreamFormat},
    signals,
    verdict::{AgentEnd, Ending, Observed, decide, exit_code},
};
use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Arc, PoisonError,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant},
};

/// How long a blank worker waits for its job.
const JOB_WAIT_MAX: Duration = Duration::from_secs(3_600);
/// Between TERM and KILL when the worker itself gets TERM.
const TERMINATE_GRACE: Duration = Duration::from_secs(5);
/// The longest time between TERM and KILL that a gateway may ask for. Source: box.v1.
const GRACE_MAX: Duration = Duration::from_secs(600);
/// How long the streams may stay open after the agent's own end, before all that holds them is killed.
const LINGER: Duration = Duration::from_millis(500);
/// How long to wait for the agent's end after KILL, and for the rest of its output while nothing moves.
const STUCK_MAX: Duration = Duration::from_secs(5);
/// The longest time to hand over the rest of the output after the agent's end.
const DRAIN_MAX: Duration = Duration::from_secs(60);
/// How long a connected gateway has to acknowledge the exit frame.
const EXIT_ACK_MAX: Duration = Duration::from_secs(5);
/// Frames about refused follow-ups in one life; later ones are refused silently.
const INPUT_ERRORS_MAX: u32 = 64;
const TICK: Duration = Duration::from_millis(50);
const WAKE_MAX: Duration = Duration::from_secs(1);

/// The worker's own settings; everything else comes with the job.
#[derive(Debug, Clone)]
pub struct Config {
    /// The gateway.
    pub link: LinkConfig,
    /// The box's home folder.
    pub home: Option<PathBuf>,
    /// The variables that the agent inherits.
    pub inherited: BTreeMap<String, String>,
}

/// Lives one life; gives back the worker's exit code.
///
/// Errors: when the worker cannot get its signals or threads, which is before any job.
pub fn run(config: Config) -> io::Result<u8> {
    process::adopt_orphans();
    let (sender, events) = sync_channel(EVENTS_MAX);
    signals::listen(&sender)?;
    let outbox = Arc::new(Outbox::new(outbox::BYTES_MAX));
    let link = Arc::new(LinkState::default());
    link::spawn(config.link.clone(), Arc::clone(&link), Arc::clone(&outbox), sender.clone())?;
    let worker = Worker { config, outbox, link, events, sender };
    Ok(worker.live())
}

struct Worker {
    config: Config,
    outbox: Arc<Outbox>,
    link: Arc<LinkState>,
    events: Receiver<Event>,
    sender: SyncSender<Event>,
}

/// How waiting for a job ended.
enum Waited {
    Job(Box<Job>),
    Blank(ExitReason),
    Bad(String),
}

impl Worker {
    fn live(self) -> u8 {
        let job = match self.wait_for_job() {
            Waited::Job(job) => job,
            // Frames belong to a dispatch; a blank worker has none.
            Waited::Blank(reason) => return exit_code(reason),
            Waited::Bad(why) => return self.refuse("bad_job", why, StreamFormat::Text),
        };
        *self.link.dispatch.lock().unwrap_or_else(PoisonError::into_inner) = Some(job.dispatch.clone());
        let format = job.runner.stream.format;
        let planned = prepare::plan(&job, self.config.inherited.clone()).and_then(|plan| {
            files::write_all(&plan.files, &Roots::new(self.config.home.clone()))?;
            Ok(plan)
        });
        let plan = match planned {
            Ok(plan) => plan,
            Err(bad) => return self.refuse(bad.code, bad.message, format),
        };
        match agent::start(&plan, &job, &self.outbox, &self.sender) {
            Ok(agent) => Supervision::new(&self, &job, agent).run(),
            Err(error) => {
                let why = format!("{} could not be started: {error}", plan.argv.first().map_or("", String::as_str));
                self.outbox.push_own(FrameBody::Error { code: "spawn_failed".to_owned(), message: why.clone() });
                self.finish(Observed {
                    ending: Some(Ending::NotStarted(why)),
                    agent: AgentEnd::Unknown,
                    format,
                    result_seen: false,
                })
            }
        }
    }

    fn wait_for_job(&self) -> Waited {
        let deadline = Instant::now() + JOB_WAIT_MAX;
        loop {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Job(job)) => return Waited::Job(job),
                Ok(Event::Stop { reason, .. }) => return Waited::Blank(reason),
                Ok(Event::Terminate) => return Waited::Blank(ExitReason::Stopped),
                Ok(Event::BadMessage(why)) => return Waited::Bad(why),
                Ok(Event::GatewayLost) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Waited::Blank(ExitReason::GatewayLost);
                }
                Ok(Event::ChildEnded) => drop(process::reap()),
                Ok(Event::Input(_) | Event::OutputDone) => {}
            }
        }
    }

    fn refuse(&self, code: &str, why: String, format: StreamFormat) -> u8 {
        self.outbox.push_own(FrameBody::Error { code: code.to_owned(), message: why.clone() });
        self.finish(Observed {
            ending: Some(Ending::BadJob(why)),
            agent: AgentEnd::Unknown,
            format,
            result_seen: false,
        })
    }

    /// Kills what is left, makes the exit frame the last one, and waits until the gateway has it.
    fn finish(&self, observed: Observed) -> u8 {
        process::kill_descendants();
        process::reap();
        self.outbox.close();
        let (exit, code) = decide(&observed);
        let seq = self.outbox.push_own(exit);
        if observed.ending == Some(Ending::Because(ExitReason::GatewayLost)) || self.wait_for_ack(seq) {
            return code;
        }
        exit_code(ExitReason::GatewayLost)
    }

    /// `false` when the gateway was lost. Time counts only while it is connected: a gateway that restarts just now must
    /// still learn how the agent ended, and the link bounds its absence.
    fn wait_for_ack(&self, seq: u64) -> bool {
        let mut waited = Duration::ZERO;
        let mut hurried = false;
        let mut last = Instant::now();
        while !self.outbox.wait_acked(seq, Instant::now() + TICK) {
            let now = Instant::now();
            if hurried || self.link.connected.load(Ordering::Relaxed) {
                waited += now - last;
            }
            last = now;
            if waited >= EXIT_ACK_MAX {
                return true;
            }
            while let Ok(event) = self.events.try_recv() {
                match event {
                    Event::GatewayLost => return false,
                    Event::Terminate => hurried = true,
                    Event::ChildEnded => drop(process::reap()),
                    Event::Job(_) | Event::Stop { .. } | Event::Input(_) | Event::BadMessage(_) | Event::OutputDone => {
                    }
                }
            }
        }
        true
    }
}

/// One agent, from its start to its exit frame.
struct Supervision<'a> {
    worker: &'a Worker,
    job: &'a Job,
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
    input_errors: u32,
}

impl<'a> Supervision<'a> {
    fn new(worker: &'a Worker, job: &'a Job, agent: Agent) -> Self {
        let now = Instant::now();
        Self {
            worker,
            job,
            agent,
            wall: after(now, Duration::from_millis(job.limits.wall_ms)),
            ending: None,
            kill_at: None,
            killed_at: None,
            ended: None,
            lingerers_killed: false,
            output_done: false,
            moved: (0, now),
            hurry_until: None,
            input_errors: 0,
        }
    }

    fn run(mut self) -> u8 {
        loop {
            let now = Instant::now();
            let next = if self.ended.is_some() { self.drain(now) } else { self.enforce(now) };
            let Some(next) = next else { break };
            let wait = next.saturating_duration_since(Instant::now()).min(WAKE_MAX);
            if let Ok(event) = self.worker.events.recv_timeout(wait) {
                self.take(event);
            }
        }
        let agent = self.ended.map_or(AgentEnd::Unknown, |(end, _)| end);
        let result_seen = self.agent.shared.result_seen.load(Ordering::Relaxed);
        self.worker.finish(Observed { ending: self.ending, agent, format: self.job.runner.stream.format, result_seen })
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
                self.error("protocol", &why);
                self.give_up(Ending::BadJob(why));
            }
            Event::Stop { grace_ms, reason } => {
                self.end(Ending::Because(reason), Duration::from_millis(grace_ms));
            }
            Event::Terminate => self.end(Ending::Because(ExitReason::Stopped), TERMINATE_GRACE),
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

    fn input(&mut self, text: String) {
        let (code, message) = match self.agent.stdin.as_ref().map(|stdin| stdin.try_send(text + "\n")) {
            Some(Ok(())) => return,
            Some(Err(TrySendError::Full(_))) => ("input_full", "the agent does not read its standard input"),
            Some(Err(TrySendError::Disconnected(_))) => ("input_closed", "the agent closed its standard input"),
            None => ("input_refused", "this runner takes no input, or the agent is ending"),
        };
        if self.input_errors < INPUT_ERRORS_MAX {
            self.input_errors += 1;
            self.error(code, message);
        }
    }

    fn error(&self, code: &str, message: &str) {
        self.worker.outbox.push_own(FrameBody::Error { code: code.to_owned(), message: message.to_owned() });
    }
}

/// Limits are numbers from outside: an instant that the clock cannot hold means a year.
fn after(start: Instant, duration: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(31_536_000);
    start + duration.min(YEAR)
}
