//! The worker's life: waits for a job, runs one turn after another, ends with one exit frame. Everything that happens
//! arrives as an event or a deadline. Must never end without having killed what it started.

use crate::{
    agent,
    event::{EVENTS_MAX, Event},
    files::{self, Roots},
    follow::Follow,
    link::{self, LinkConfig, LinkState},
    network::Counters,
    outbox::{self, Outbox},
    output::Counts,
    prepare::{self, BadJob, Doors, Step},
    process,
    protocol::{ExitReason, FrameBody, Job, Network, StreamFormat},
    relay::{self, Relay},
    signals,
    turn::{Ended, Turn, after},
    verdict::{AgentEnd, Ending, Observed, decide, exit_code, turn_frame},
};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

/// How long a connected gateway has to acknowledge the exit frame.
const EXIT_ACK_MAX: Duration = Duration::from_secs(5);
/// Where the tools would be.
const MCP_WITHOUT_TOOLS: &str = "unix:#/mcp";
const TICK: Duration = Duration::from_millis(50);

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

/// What all turns share.
#[derive(Debug)]
pub struct Worker {
    config: Config,
    /// Frames on their way out.
    pub outbox: Arc<Outbox>,
    /// The connection to the gateway.
    pub link: Arc<LinkState>,
    /// What happens.
    pub events: Receiver<Event>,
    sender: SyncSender<Event>,
}

/// How waiting for a job ended.
enum Waited {
    Job(Box<Job>),
    Blank(ExitReason),
    Bad(String),
}

/// How waiting for a follow-up ended.
enum Next {
    Turn(String),
    /// Nobody came: the last turn's outcome stands.
    Idle,
    End(Ending),
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
        let doors = match self.open_doors(&job) {
            Ok(doors) => doors,
            Err(bad) => return self.refuse(bad.code, bad.message, job.runner.stream.format),
        };
        self.turns(&job, doors.0, &doors.1)
    }

    /// The addresses that the agent gets: the gateway's socket, or a port of the box's own loopback that leads there.
    fn open_doors(&self, job: &Job) -> Result<(Option<Relay>, Doors), BadJob> {
        let doors = Doors { inference: job.inference_url.clone(), mcp: job.mcp_url.clone() };
        if !job.runner.loopback {
            return Ok((None, doors));
        }
        let relay = relay::start(self.config.link.socket.clone()).map_err(|error| BadJob {
            code: "no_loopback",
            message: format!("this runner needs a port on 127.0.0.1, and the box gives none: {error}"),
        })?;
        // Where no tools are offered the door says so itself: an agent's configuration names one address or another.
        let mcp = doors.mcp.map_or_else(|| relay.url(MCP_WITHOUT_TOOLS), |address| relay.url(&address));
        let doors = Doors { inference: relay.url(&doors.inference), mcp: Some(mcp) };
        Ok((Some(relay), doors))
    }

    fn turns(&self, job: &Job, relay: Option<Relay>, doors: &Doors) -> u8 {
        let wall = after(Instant::now(), Duration::from_millis(job.limits.wall_ms));
        let counts = Arc::new(Mutex::new(Counts::new(job.limits.output_bytes, job.limits.tool_calls)));
        let mut follow = Follow::new(job);
        let mut step = Step::first(job);
        loop {
            let number = follow.begin();
            let meter = Meter::start(relay.as_ref());
            let ended = match self.turn(job, &step, doors, &counts, &mut follow, wall) {
                Ok(ended) => ended,
                Err(code) => return code,
            };
            self.outbox.push_own(turn_frame(number, &ended.observed, meter.end(relay.as_ref())));
            if let Some(id) = ended.agent_session {
                step.agent_session = Some(id);
            }
            if !ended.clean || decide(&ended.observed).1 != exit_code(ExitReason::Completed) {
                return self.finish(ended.observed);
            }
            let waited = match follow.take() {
                Some(text) => Next::Turn(text),
                None if follow.may_go_on() => self.wait_for_input(job, &mut follow, wall),
                None => Next::Idle,
            };
            match waited {
                Next::Turn(prompt) => step = Step { prompt, resume: true, agent_session: step.agent_session },
                Next::Idle => return self.finish(ended.observed),
                Next::End(ending) => return self.finish(Observed { ending: Some(ending), ..ended.observed }),
            }
        }
    }

    /// One turn; the worker's exit code when it cannot even begin.
    fn turn(
        &self,
        job: &Job,
        step: &Step,
        doors: &Doors,
        counts: &Arc<Mutex<Counts>>,
        follow: &mut Follow,
        wall: Instant,
    ) -> Result<Ended, u8> {
        let format = job.runner.stream.format;
        let planned = prepare::plan(job, step, doors, self.config.inherited.clone()).and_then(|plan| {
            let roots = Roots::new(self.config.home.clone());
            files::write_all(&plan.files, &roots)?;
            files::link_all(&plan.links, &roots)?;
            Ok(plan)
        });
        let plan = planned.map_err(|bad| self.refuse(bad.code, bad.message, format))?;
        match agent::start(&plan, &job.runner.stream, counts, &self.outbox, &self.sender) {
            Ok(agent) => Ok(Turn::new(self, job, follow, agent, wall).run()),
            Err(error) => {
                let why = format!("{} could not be started: {error}", plan.argv.first().map_or("", String::as_str));
                self.error("spawn_failed", &why);
                let ending = Some(Ending::NotStarted(why));
                Err(self.finish(Observed { ending, agent: AgentEnd::Unknown, format, result_seen: false }))
            }
        }
    }

    fn wait_for_job(&self) -> Waited {
        let deadline = after(Instant::now(), self.config.link.job_wait);
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
                Ok(Event::Input(_) | Event::OutputDone | Event::LimitReached(_)) => {}
            }
        }
    }

    /// Between turns nothing of the agent's runs: only the box stays.
    fn wait_for_input(&self, job: &Job, follow: &mut Follow, wall: Instant) -> Next {
        let idle = after(Instant::now(), Duration::from_millis(job.limits.idle_ms)).min(wall);
        loop {
            match self.events.recv_timeout(idle.saturating_duration_since(Instant::now())) {
                Ok(Event::Input(text)) => match follow.queue(text) {
                    Ok(()) => return follow.take().map_or(Next::Idle, Next::Turn),
                    Err((code, message)) if follow.may_complain() => self.error(code, message),
                    Err(_) => {}
                },
                Ok(Event::Job(again)) if again.dispatch == job.dispatch && again.attempt == job.attempt => {}
                Ok(Event::Job(_)) => {
                    self.link.silenced.store(true, Ordering::Relaxed);
                    return Next::End(Ending::Because(ExitReason::GatewayLost));
                }
                Ok(Event::Stop { reason, .. }) => return Next::End(Ending::Because(reason)),
                Ok(Event::Terminate) => return Next::End(Ending::Because(ExitReason::Stopped)),
                Ok(Event::GatewayLost) => return Next::End(Ending::Because(ExitReason::GatewayLost)),
                Ok(Event::BadMessage(why)) => {
                    self.error("protocol", &why);
                    return Next::End(Ending::BadJob(why));
                }
                Ok(Event::ChildEnded) => drop(process::reap()),
                Ok(Event::OutputDone | Event::LimitReached(_)) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Next::Idle,
            }
        }
    }

    fn refuse(&self, code: &str, why: String, format: StreamFormat) -> u8 {
        self.error(code, &why);
        self.finish(Observed {
            ending: Some(Ending::BadJob(why)),
            agent: AgentEnd::Unknown,
            format,
            result_seen: false,
        })
    }

    /// A frame of the worker's own about something that went wrong.
    pub fn error(&self, code: &str, message: &str) {
        self.outbox.push_own(FrameBody::Error { code: code.to_owned(), message: message.to_owned() });
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
                    Event::Job(_) | Event::Stop { .. } | Event::Input(_) => {}
                    Event::BadMessage(_) | Event::OutputDone | Event::LimitReached(_) => {}
                }
            }
        }
        true
    }
}

/// The kernel's counters at the beginning of a turn.
struct Meter {
    counters: Option<Counters>,
    relayed: u64,
}

impl Meter {
    fn start(relay: Option<&Relay>) -> Self {
        Self { counters: Counters::read(Path::new("/proc")), relayed: relay.map_or(0, Relay::taken) }
    }

    /// What the turn did; `None` where the kernel does not show it.
    fn end(&self, relay: Option<&Relay>) -> Option<Network> {
        let after = Counters::read(Path::new("/proc"))?;
        Some(after.since(self.counters?, relay.map_or(0, Relay::taken).saturating_sub(self.relayed)))
    }
}
