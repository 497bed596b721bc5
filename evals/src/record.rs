//! Capture: cuts the slice of one dispatch out of a live log and writes it as a scenario, with assertions about that
//! dispatch and with mutants, and judges it at once.
//!
//! The slice is the whole log up to the first checkpoint that covers the dispatch's last event, with the launches that
//! its decisions answered: a shorter one could not be verified. Nothing is redacted, because a redacted log does not
//! verify either. What must not leave the machine is a reason to refuse. Must never overwrite, nor run on a CI machine.

mod mutants;
mod skeleton;

use crate::fold::fold;
use crate::identity::is_scenario;
use crate::run::run_one;
use crate::scenario::{CANARIES_MAX, Eval, Keys, Mode, Source, check_canary, golden_file};
use crate::slice::{LaunchLine, LedgerLine, Line, Slice, SliceError};
use crate::verdict::EvalReport;
use custody_contracts::events::{
    CheckpointEvent, DispatchEvent, DispatchRefused, KeyEvent, LedgerEvent, RunEvent, RunFinished,
};
use custody_contracts::ids::DispatchId;
use custody_ledger::{Recorded as Event, Stored};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What to capture, and what to call it.
#[derive(Debug, Clone)]
pub struct Recording {
    /// The dispatch.
    pub dispatch: String,
    /// `<stage>-<claim>`: the scenario's folder.
    pub name: String,
    /// What the log shows, in a sentence.
    pub claim: String,
    /// Ids of promises.
    pub promises: Vec<String>,
    /// Words to choose by.
    pub tags: Vec<String>,
    /// Texts that must stand nowhere in it.
    pub canaries: Vec<String>,
    /// The folder of the scenarios.
    pub scenarios: PathBuf,
    /// Whether this is a CI machine: see [`crate::in_ci`].
    pub ci: bool,
}

/// A scenario that was written.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Where.
    pub folder: PathBuf,
    /// What it comes out as.
    pub report: EvalReport,
}

/// Why nothing was captured.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A CI machine records nothing.
    #[error("nothing is recorded on a CI machine: a test that writes what it expects cannot fail")]
    Ci,
    /// Not a scenario's name.
    #[error("{0:?} is not <stage>-<claim> in [a-z0-9-]")]
    BadName(String),
    /// It is there.
    #[error("{0} is there; choose another name, or remove it first")]
    Exists(String),
    /// `eval.toml` would not be good.
    #[error("{0}")]
    BadEval(String),
    /// No event of this dispatch.
    #[error("the log holds no decision about dispatch {0:?}; `custody dispatch ls` lists them")]
    NoSuchDispatch(String),
    /// It has not ended.
    #[error("dispatch {0} has not ended; wait for it, or stop it")]
    StillOpen(String),
    /// The log does not begin with sequence 1 and go on without a gap.
    #[error("the log that was given has {found} where sequence {expected} should stand")]
    Gap {
        /// What should stand there.
        expected: u64,
        /// What does.
        found: u64,
    },
    /// A message cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// No checkpoint covers its last event yet.
    #[error("no checkpoint covers sequence {0} yet; authority signs one within a second")]
    NotCovered(u64),
    /// The launch of a decision is gone.
    #[error("launch {launch}, which sequence {seq} decides, is not stored any more: LAUNCH is kept for a time only")]
    LaunchMissing {
        /// The launch.
        launch: u64,
        /// The decision.
        seq: u64,
    },
    /// Something that must not leave.
    #[error("{0}; nothing was written")]
    Secret(String),
    /// A line cannot be written.
    #[error(transparent)]
    Slice(#[from] SliceError),
    /// A file cannot be written.
    #[error("writing {path}: {why}")]
    Write {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
}

/// How the dispatch ended.
pub(crate) enum End {
    /// It ran and left this.
    Finished(Box<RunFinished>),
    /// It was refused.
    Refused(DispatchRefused),
}

/// Captures one dispatch. `messages` is the ledger from sequence 1, `launches` what LAUNCH still holds; both may be
/// more than is needed.
///
/// # Errors
/// [`RecordError`]; then nothing was written, except after [`RecordError::Write`].
pub fn record(messages: Vec<Stored>, launches: Vec<LaunchLine>, what: &Recording) -> Result<Recorded, RecordError> {
    let folder = check(what)?;
    let read = read(&messages)?;
    let (last, end) = end(&read, &what.dispatch)?;
    let cut = covering(&read, last).ok_or(RecordError::NotCovered(last))?;
    let lines = lines(messages, &read, launches, cut)?;
    let text = Slice::write(&lines)?;
    let slice = Slice::parse(&text)?;
    no_secret(&slice, &text, &what.canaries)?;

    let eval = eval(&read, &slice, what)?;
    let expect = skeleton::expect(&what.dispatch, &end, &what.canaries);
    let mut files: Vec<(String, String)> = vec![
        ("eval.toml".into(), toml::to_string(&eval).map_err(|e| RecordError::BadEval(e.to_string()))?),
        ("expect.toml".into(), expect),
        ("log.jsonl".into(), text),
    ];
    let foldings = fold(&slice, usize::MAX).map_err(RecordError::Unreadable)?;
    files.extend(foldings.iter().map(|(name, f)| (golden_file(name), format!("{}\n", f.digest))));
    for mutant in mutants::of(&lines, &what.dispatch, &end) {
        let note = toml::to_string(&mutant.note).map_err(|e| RecordError::BadEval(e.to_string()))?;
        files.push((format!("mutated/{}.toml", mutant.name), note));
        files.push((format!("mutated/{}.jsonl", mutant.name), Slice::write(&mutant.lines)?));
    }
    for (file, text) in &files {
        put(&folder, file, text)?;
    }
    let report = run_one(&folder, &what.name);
    Ok(Recorded { folder, report })
}

fn check(what: &Recording) -> Result<PathBuf, RecordError> {
    if what.ci {
        return Err(RecordError::Ci);
    }
    if !is_scenario(&what.name) {
        return Err(RecordError::BadName(what.name.clone()));
    }
    if what.canaries.len() > CANARIES_MAX {
        return Err(RecordError::BadEval(format!("more than {CANARIES_MAX} texts that must not appear")));
    }
    what.canaries.iter().try_for_each(|c| check_canary(c).map_err(RecordError::BadEval))?;
    let folder = what.scenarios.join(&what.name);
    if folder.exists() {
        return Err(RecordError::Exists(folder.display().to_string()));
    }
    Ok(folder)
}

fn read(messages: &[Stored]) -> Result<Vec<Event>, RecordError> {
    let mut out = Vec::with_capacity(messages.len());
    for (index, stored) in messages.iter().enumerate() {
        let expected = index as u64 + 1;
        if stored.seq.0 != expected {
            return Err(RecordError::Gap { expected, found: stored.seq.0 });
        }
        out.extend(Event::read(stored).map_err(|e| RecordError::Unreadable(e.to_string()))?);
    }
    Ok(out)
}

fn dispatch_of(event: &LedgerEvent) -> Option<&str> {
    match event {
        LedgerEvent::Dispatch(DispatchEvent::Admitted(e)) => Some(e.dispatch.as_str()),
        LedgerEvent::Dispatch(DispatchEvent::Refused(e)) => Some(e.dispatch.as_str()),
        LedgerEvent::Dispatch(DispatchEvent::StopRequested(e)) => Some(e.dispatch.as_str()),
        LedgerEvent::Dispatch(DispatchEvent::FollowUpAccepted(e)) => Some(e.dispatch.as_str()),
        LedgerEvent::Dispatch(DispatchEvent::FollowUpRefused(e)) => Some(e.message.as_str()),
        LedgerEvent::Run(RunEvent::Claimed(e)) => Some(e.dispatch.as_str()),
        LedgerEvent::Run(RunEvent::Started(e)) => Some(e.dispatch.as_str()),
        LedgerEvent::Run(RunEvent::Finished(e)) => Some(e.dispatch.as_str()),
        LedgerEvent::Effect(e) => Some(e.dispatch().as_str()),
        LedgerEvent::Workspace(custody_contracts::workspace::WorkspaceEvent::ProposalOpened(e)) => {
            Some(e.proposal.as_str())
        }
        LedgerEvent::Approval(e) => Some(e.dispatch().as_str()),
        LedgerEvent::Token(e) => e.dispatch().map(DispatchId::as_str),
        LedgerEvent::Launcher(_)
        | LedgerEvent::Key(_)
        | LedgerEvent::Checkpoint(_)
        | LedgerEvent::Workspace(_)
        | LedgerEvent::Grant(_) => None,
    }
}

/// Sequence of the dispatch's last event, and how it ended.
fn end(read: &[Event], dispatch: &str) -> Result<(u64, End), RecordError> {
    let mut last = None;
    let mut end = None;
    for event in read {
        let Some(known) = event.event.as_ref().filter(|e| dispatch_of(e) == Some(dispatch)) else { continue };
        last = Some(event.seq.0);
        match known {
            LedgerEvent::Run(RunEvent::Finished(e)) => end = Some(End::Finished(e.clone())),
            LedgerEvent::Dispatch(DispatchEvent::Refused(e)) => end = Some(End::Refused(e.clone())),
            _ => {}
        }
    }
    match (last, end) {
        (None, _) => Err(RecordError::NoSuchDispatch(dispatch.to_owned())),
        (Some(_), None) => Err(RecordError::StillOpen(dispatch.to_owned())),
        (Some(last), Some(end)) => Ok((last, end)),
    }
}

/// Sequence of the first checkpoint after `last` that covers it.
fn covering(read: &[Event], last: u64) -> Option<u64> {
    read.iter().find_map(|event| match &event.event {
        Some(LedgerEvent::Checkpoint(CheckpointEvent::Signed(e))) if event.seq.0 > last && e.size >= last => {
            Some(event.seq.0)
        }
        _ => None,
    })
}

/// The ledger's lines up to the cut, each decision with its launch before it.
fn lines(messages: Vec<Stored>, read: &[Event], launches: Vec<LaunchLine>, cut: u64) -> Result<Vec<Line>, RecordError> {
    let mut asked: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for event in read.iter().filter(|e| e.seq.0 <= cut) {
        let launch = match &event.event {
            Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) => e.launch.stream_seq,
            Some(LedgerEvent::Dispatch(DispatchEvent::Refused(e))) => e.launch.stream_seq,
            _ => continue,
        };
        asked.entry(event.seq.0).or_default().push(launch);
    }
    let mut launches: BTreeMap<u64, LaunchLine> = launches.into_iter().map(|l| (l.seq, l)).collect();
    let mut lines = Vec::new();
    for stored in messages.into_iter().take_while(|s| s.seq.0 <= cut) {
        for launch in asked.get(&stored.seq.0).into_iter().flatten() {
            let missing = RecordError::LaunchMissing { launch: *launch, seq: stored.seq.0 };
            lines.push(Line::Launch(launches.remove(launch).ok_or(missing)?));
        }
        lines.push(Line::Ledger(LedgerLine { stored, stored_at: None }));
    }
    Ok(lines)
}

/// Canaries, and credentials in launches: a launch is kept byte for byte, so it must not hold one.
fn no_secret(slice: &Slice, text: &str, canaries: &[String]) -> Result<(), RecordError> {
    let planted = crate::closing::no_secret("log.no_secret", slice, canaries);
    if let Some(finding) = planted.findings.first() {
        return Err(RecordError::Secret(finding.what.clone()));
    }
    if let Some(n) = canaries.iter().position(|c| text.contains(c.as_str())) {
        return Err(RecordError::Secret(format!("canary {} stands in the log", n + 1)));
    }
    for (_, launch) in slice.launches() {
        let value: Option<Value> = serde_json::from_slice(&launch.bytes).ok();
        if value.as_ref().and_then(|v| v.pointer("/data/identity/token")).is_some_and(|t| !t.is_null()) {
            return Err(RecordError::Secret(format!("launch {} holds a token", launch.seq)));
        }
    }
    Ok(())
}

fn eval(read: &[Event], slice: &Slice, what: &Recording) -> Result<Eval, RecordError> {
    let root = match read.first().and_then(|e| e.event.as_ref()) {
        Some(LedgerEvent::Key(KeyEvent::Introduced(e))) => e.kid.clone(),
        _ => return Err(RecordError::Unreadable("the log does not begin with a key".into())),
    };
    let foldings = fold(slice, usize::MAX).map_err(RecordError::Unreadable)?;
    let eval = Eval {
        schema: "eval.v1".into(),
        claim: what.claim.clone(),
        promises: what.promises.clone(),
        modes: vec![Mode::Fold, Mode::Decision],
        source: Source::Captured,
        tags: what.tags.clone(),
        canaries: what.canaries.clone(),
        keys: Keys { root, test: Vec::new() },
        folds: foldings.iter().map(|(name, f)| ((*name).to_owned(), f.version)).collect(),
    };
    eval.check().map_err(RecordError::BadEval)?;
    Ok(eval)
}

fn put(folder: &Path, file: &str, text: &str) -> Result<(), RecordError> {
    let path = folder.join(file);
    let wrong = |e: std::io::Error| RecordError::Write { path: path.display().to_string(), why: e.to_string() };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(wrong)?;
    }
    std::fs::write(&path, text).map_err(wrong)
}
