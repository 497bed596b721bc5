//! The metrics of one process, in a registry of its own. What comes from the ledger is folded; what does not is set by
//! its owner. One kind of event has one writing role, so a process counts the kinds of its own roles, and nothing is
//! counted twice over processes; of several replicas of one role take the maximum, not the sum (the runtime's are apart:
//! each counts what it claimed). Must never have a label without a bound.

use crate::life::{Life, Lives, UNNAMED, millis};
use custody_contracts::events::{BudgetScope, DispatchEvent, EffectEvent, EffectOutcome, LedgerEvent, RunEvent};
use custody_ledger::Recorded;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// The most values of one label; what comes later is `other`.
pub const LABELS_MAX: usize = 64;
/// The longest value of a label.
const LABEL_CHARS_MAX: usize = 64;

/// From 1 ms to 64 s, each twice the last.
fn seconds() -> Vec<f64> {
    (0..17).map(|n| 0.001 * f64::from(1u32 << n)).collect()
}

/// Which roles this process has: what it counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Dispatches and refusals.
    pub authority: bool,
    /// Runs that this runtime claimed.
    pub runtime: Option<String>,
    /// Calls of models and tools.
    pub gateway: bool,
}

/// Values of one label so far.
#[derive(Debug, Default)]
struct Bounded(Mutex<BTreeSet<String>>);

impl Bounded {
    /// The value itself while there is room for it, else `other`.
    fn value(&self, text: &str) -> String {
        let short: String = text.chars().filter(|c| !c.is_control()).take(LABEL_CHARS_MAX).collect();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.contains(&short) {
            return short;
        }
        if seen.len() >= LABELS_MAX {
            return "other".into();
        }
        seen.insert(short.clone());
        short
    }
}

/// Everything that `/metrics` shows.
pub struct Counts {
    registry: Registry,
    families: BTreeSet<String>,
    scope: Scope,
    lives: Mutex<Lives>,
    codes: Bounded,
    models: Bounded,
    phases: Bounded,
    dispatches: IntCounterVec,
    refusals: IntCounterVec,
    queue_depth: IntGauge,
    queue_wait: Histogram,
    phase_seconds: HistogramVec,
    start_seconds: Histogram,
    boxes_running: IntGauge,
    runs: IntCounterVec,
    output_bytes: IntCounter,
    model_calls: IntCounterVec,
    model_tokens: IntCounterVec,
    model_cost: IntCounterVec,
    tool_calls: IntCounterVec,
    tools: Bounded,
    pool_size: IntGauge,
    pool_hits: IntCounter,
    pool_misses: IntCounter,
    model_seconds: HistogramVec,
    folded_seq: IntGauge,
    last_seq: IntGauge,
    ledger_bytes: IntGauge,
    projection_lag: GaugeVec,
    append_seconds: Histogram,
    appends: IntCounterVec,
    port_bytes: IntCounterVec,
    traces: IntCounterVec,
    up: Gauge,
}

impl std::fmt::Debug for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counts").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// Makes and registers one family after another.
struct Maker(Registry, Mutex<BTreeSet<String>>);

impl Maker {
    fn add<C: prometheus::core::Collector + Clone + 'static>(
        &self,
        made: Result<C, prometheus::Error>,
    ) -> Result<C, prometheus::Error> {
        let collector = made?;
        let names = collector.desc().into_iter().map(|d| d.fq_name.clone());
        self.1.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }
    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.add(IntCounter::new(name, help))
    }
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }
    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.add(IntGauge::new(name, help))
    }
    fn histogram(&self, name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
        self.add(Histogram::with_opts(HistogramOpts::new(name, help).buckets(seconds())))
    }
    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> Result<HistogramVec, prometheus::Error> {
        self.add(HistogramVec::new(HistogramOpts::new(name, help).buckets(seconds()), labels))
    }
}

impl Counts {
    /// Counters for a process of these roles.
    ///
    /// # Errors
    /// Only when two families have one name, which means a bug.
    pub fn new(scope: Scope, version: &str) -> Result<Counts, prometheus::Error> {
        let registry = Registry::new();
        let make = Maker(registry.clone(), Mutex::default());
        let mut counts = Counts {
            families: BTreeSet::new(),
            scope,
            lives: Mutex::default(),
            codes: Bounded::default(),
            models: Bounded::default(),
            phases: Bounded::default(),
            dispatches: make.counters("custody_dispatches_total", "Launches decided, by outcome.", &["outcome"])?,
            refusals: make.counters("custody_refusals_total", "Refusals, by stable code.", &["code"])?,
            queue_depth: make.gauge("custody_queue_depth", "Admitted dispatches that no runtime has claimed.")?,
            queue_wait: make.histogram("custody_queue_wait_seconds", "From admission to claim.")?,
            phase_seconds: make.histograms(
                "custody_start_phase_seconds",
                "Phases of the start of a box, by name.",
                &["phase"],
            )?,
            start_seconds: make.histogram("custody_start_seconds", "From claim to a process that runs.")?,
            boxes_running: make.gauge("custody_boxes_running", "Boxes of this runtime that run.")?,
            runs: make.counters("custody_runs_total", "Runs that ended, by stop reason.", &["reason"])?,
            output_bytes: make.counter("custody_run_output_bytes_total", "Bytes of output of runs that ended.")?,
            model_calls: make.counters(
                "custody_model_calls_total",
                "Model calls, by model and outcome.",
                &["model", "outcome"],
            )?,
            model_tokens: make.counters(
                "custody_model_tokens_total",
                "Tokens, as the upstream counts them.",
                &["model", "direction"],
            )?,
            model_cost: make.counters(
                "custody_model_cost_micros_total",
                "Cost in millionths of the accounting currency, by model.",
                &["model"],
            )?,
            tool_calls: make.counters(
                "custody_tool_calls_total",
                "Tool calls, by tool and outcome.",
                &["tool", "outcome"],
            )?,
            tools: Bounded::default(),
            pool_size: make.gauge("custody_pool_size", "Warm boxes that wait for a claim.")?,
            pool_hits: make.counter("custody_pool_hits_total", "Claims that took a warm box.")?,
            pool_misses: make.counter("custody_pool_misses_total", "Claims that found no warm box and made one.")?,
            model_seconds: make.histograms(
                "custody_model_call_seconds",
                "From request to the last byte of the answer.",
                &["model"],
            )?,
            folded_seq: make.gauge("custody_telemetry_ledger_seq", "Last ledger sequence counted here.")?,
            last_seq: make.gauge("custody_ledger_seq", "Last sequence of the ledger.")?,
            ledger_bytes: make.gauge("custody_ledger_bytes", "Bytes of the ledger's stream.")?,
            projection_lag: make.add(GaugeVec::new(
                Opts::new("custody_projection_lag", "Ledger messages that a projection has not applied yet."),
                &["projection"],
            ))?,
            append_seconds: make.histogram("custody_append_seconds", "From an append to its durable answer.")?,
            appends: make.counters("custody_appends_total", "Appends to the ledger, by outcome.", &["outcome"])?,
            port_bytes: make.counters(
                "custody_gateway_bytes_total",
                "Bytes that this process moved: output of boxes, blobs stored, blobs read.",
                &["what"],
            )?,
            traces: make.counters(
                "custody_traces_total",
                "Traces of dispatches, by what became of them.",
                &["outcome"],
            )?,
            up: make.add(Gauge::with_opts(
                Opts::new("custody_build_info", "1, with the version of the binary.").const_label("version", version),
            ))?,
            registry,
        };
        counts.families = make.1.into_inner().unwrap_or_else(PoisonError::into_inner);
        counts.up.set(1.0);
        // A family without a value is not shown, and a first refusal would look like a jump from nothing.
        for outcome in ["admitted", "refused"] {
            counts.dispatches.with_label_values(&[outcome]);
        }
        Ok(counts)
    }

    /// Takes in one event. Gives back the life of a dispatch that it ended.
    pub fn apply(&self, recorded: &Recorded) -> Option<Life> {
        let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = lives.apply(recorded);
        self.count(recorded, &lives, ended.as_ref());
        self.folded_seq.set(signed(recorded.seq.0));
        self.depths(&lives);
        ended
    }

    fn ours(&self, life: &Life) -> bool {
        life.claimed.as_ref().is_some_and(|(_, runtime)| Some(runtime) == self.scope.runtime.as_ref())
    }

    fn count(&self, recorded: &Recorded, lives: &Lives, ended: Option<&Life>) {
        match &recorded.event {
            Some(LedgerEvent::Dispatch(event)) if self.scope.authority => match event {
                DispatchEvent::Admitted(_) => self.dispatches.with_label_values(&["admitted"]).inc(),
                DispatchEvent::Refused(e) => {
                    self.dispatches.with_label_values(&["refused"]).inc();
                    self.refused(&e.reason);
                }
                DispatchEvent::StopRequested(_) | DispatchEvent::FollowUpAccepted(_) => {}
                DispatchEvent::FollowUpRefused(e) => self.refused(&e.reason),
            },
            Some(LedgerEvent::Run(event)) => self.count_run(recorded, event, lives, ended),
            Some(LedgerEvent::Effect(event)) if self.scope.gateway => self.count_effect(event, lives),
            _ => {}
        }
    }

    fn count_effect(&self, event: &EffectEvent, lives: &Lives) {
        match event {
            EffectEvent::ModelCalled(e) => {
                let model = self.models.value(&e.model);
                let outcome = match e.outcome {
                    EffectOutcome::Succeeded => "succeeded",
                    EffectOutcome::Failed => "failed",
                };
                self.model_calls.with_label_values(&[&*model, outcome]).inc();
                self.model_tokens.with_label_values(&[&*model, "input"]).inc_by(e.input_tokens);
                self.model_tokens.with_label_values(&[&*model, "output"]).inc_by(e.output_tokens);
                self.model_cost.with_label_values(&[&model]).inc_by(e.cost_micros.unwrap_or_default());
                self.model_seconds.with_label_values(&[&model]).observe(as_seconds(e.duration_ms));
            }
            EffectEvent::ToolFinished(e) => {
                let tool = self.tools.value(lives.tool(e.dispatch.as_str(), e.n));
                self.tool_calls.with_label_values(&[&*tool, e.phase.as_str()]).inc();
            }
            EffectEvent::ToolRefused(e) => {
                let tool = self.tools.value(e.tool.as_deref().unwrap_or(UNNAMED));
                self.tool_calls.with_label_values(&[&*tool, "refused"]).inc_by(e.count);
                self.refusals.with_label_values(&[&self.codes.value(&e.reason)]).inc_by(e.count);
            }
            EffectEvent::BudgetExhausted(e) => self.refused(match e.scope {
                BudgetScope::Dispatch => "BUDGET_OF_DISPATCH",
                BudgetScope::Subject => "BUDGET_OF_SUBJECT",
                BudgetScope::Launcher => "BUDGET_OF_LAUNCHER",
            }),
            EffectEvent::ToolAwaiting(e) => {
                let tool = self.tools.value(&e.tool);
                self.tool_calls.with_label_values(&[&*tool, "waits"]).inc();
            }
            EffectEvent::ToolIntended(_) | EffectEvent::BudgetWarned(_) => {}
        }
    }

    fn count_run(&self, recorded: &Recorded, event: &RunEvent, lives: &Lives, ended: Option<&Life>) {
        let life = |id: &str| lives.open().find(|l| l.dispatch == id).filter(|l| self.ours(l));
        match event {
            RunEvent::Claimed(e) => {
                if let Some(life) = life(e.dispatch.as_str()) {
                    match e.warm {
                        Some(true) => self.pool_hits.inc(),
                        Some(false) => self.pool_misses.inc(),
                        None => {}
                    }
                    let waited = millis(&recorded.envelope.time).saturating_sub(life.admitted_ms);
                    self.queue_wait.observe(as_seconds(waited));
                }
            }
            RunEvent::Started(e) => {
                if life(e.dispatch.as_str()).is_some() {
                    self.took(&e.phases_ms);
                    let start = e.phases_ms.iter().filter(|(name, _)| !["admit", "queue"].contains(&name.as_str()));
                    self.start_seconds.observe(as_seconds(start.map(|(_, ms)| ms).sum()));
                }
            }
            RunEvent::Finished(e) => {
                if ended.is_some_and(|life| self.ours(life)) {
                    self.runs.with_label_values(&[e.reason.as_str()]).inc();
                    self.took(&e.phases_ms);
                    self.output_bytes.inc_by(e.output.bytes);
                }
            }
        }
    }

    fn took(&self, phases: &BTreeMap<String, u64>) {
        for (phase, took) in phases {
            let phase = self.phases.value(phase);
            self.phase_seconds.with_label_values(&[&phase]).observe(as_seconds(*took));
        }
    }

    fn depths(&self, lives: &Lives) {
        if self.scope.runtime.is_none() {
            return;
        }
        let waiting = lives.open().filter(|l| l.claimed.is_none()).count();
        let running = lives.open().filter(|l| self.ours(l) && l.started_ms.is_some()).count();
        self.queue_depth.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.boxes_running.set(i64::try_from(running).unwrap_or(i64::MAX));
    }

    /// Counts a refusal that is no event, such as a token that was not good.
    pub fn refused(&self, code: &str) {
        self.refusals.with_label_values(&[&self.codes.value(code)]).inc();
    }

    /// Counts one append.
    pub fn appended(&self, outcome: &'static str, seconds: f64) {
        self.append_seconds.observe(seconds);
        self.appends.with_label_values(&[outcome]).inc();
    }

    /// Counts bytes that went by.
    pub fn moved(&self, what: &'static str, bytes: u64) {
        self.port_bytes.with_label_values(&[what]).inc_by(bytes);
    }

    /// How many boxes of the pool run: what a claim has taken of them is not waiting any more.
    pub fn pool(&self, running: usize) {
        let lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = lives.open().filter(|l| l.warm && self.ours(l)).count();
        self.pool_size.set(i64::try_from(running.saturating_sub(taken)).unwrap_or(i64::MAX));
    }

    /// Counts a trace: `sent`, `dropped`.
    pub fn traced(&self, outcome: &'static str, how_many: u64) {
        self.traces.with_label_values(&[outcome]).inc_by(how_many);
    }

    /// Names of every family, also of those without a value yet.
    pub fn families(&self) -> impl Iterator<Item = &str> {
        self.families.iter().map(String::as_str)
    }

    /// Where the ledger stands, as asked just now.
    pub fn ledger(&self, last_seq: u64, bytes: Option<u64>) {
        self.last_seq.set(signed(last_seq));
        if let Some(bytes) = bytes {
            self.ledger_bytes.set(signed(bytes));
        }
    }

    /// How far a projection is behind.
    #[expect(clippy::cast_precision_loss, reason = "a lag of more than 2^53 messages is as good as any")]
    pub fn lag(&self, projection: &str, messages: u64) {
        self.projection_lag.with_label_values(&[projection]).set(messages as f64);
    }

    /// The Prometheus text format, version 0.0.4.
    ///
    /// # Errors
    /// Only when it cannot be written into memory.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of a run are far below 2^53")]
fn as_seconds(millis: u64) -> f64 {
    millis as f64 / 1_000.0
}

#[cfg(test)]
mod tests;
