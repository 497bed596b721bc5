//! Why something happened: the ladder from an effect to the person, with every signature on it checked. Must never call
//! a chain proved whose keys the ledger did not introduce.

use custody_contracts::approval::{ApprovalEvent, Choice};
use custody_contracts::envelope::split_signature;
use custody_contracts::events::{
    DispatchEvent, EffectEvent, GrantCheck, KeyEvent, Kind, LauncherEvent, LedgerEvent, RuledBy, RunEvent,
    SignatureCheck,
};
use custody_contracts::grant::GrantEvent;
use custody_contracts::messages::AuditRow;
use custody_contracts::token::{TokenEvent, TokenIssued};
use custody_ledger::{Entity, Log, LogError, Recorded, RecordedError, Seq, Stored};
use custody_projections::row::audit_row;
use custody_trust::grant::DEPTH_MAX;
use custody_trust::key::{parse_public, verify_hex};
use serde::Serialize;
use serde_json::Value;

/// One rung of the ladder, the effect above and the person below.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rung {
    /// What it says, for example `admitted`.
    pub what: &'static str,
    /// It, in a sentence.
    pub text: String,
    /// The sequence that says so: in LAUNCH for what a launcher said, else in the ledger.
    pub seq: Option<u64>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Why {
    /// The event that was asked about.
    pub focus: u64,
    /// From it down to the person.
    pub ladder: Vec<Rung>,
    /// Every event of the chain.
    pub events: Vec<AuditRow>,
    /// Good signatures on them.
    pub signatures: u64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WhyError {
    /// A message of the chain cannot be read.
    #[error(transparent)]
    Unreadable(#[from] RecordedError),
    /// A signature or a key is not what it should be.
    #[error("first bad sequence {seq}: {why}")]
    NotAuthentic {
        /// Where.
        seq: Seq,
        /// How.
        why: String,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Explains one event by the messages of its dispatch, in order.
///
/// # Errors
/// [`WhyError`]: a chain that is not whole and authentic is not explained.
pub async fn explain(log: &dyn Log, messages: &[Stored], focus: u64) -> Result<Why, WhyError> {
    let mut recorded = Vec::new();
    for stored in messages {
        recorded.extend(Recorded::read(stored)?);
    }
    let grants = grants_of(log, &recorded).await?;
    let signatures = check_signatures(log, messages).await? + check_signatures(log, &grants).await?;
    let launcher = launcher_of(log, &recorded).await?;
    let line = said_of(&grants);
    let ladder = ladder(&recorded, focus, launcher.as_ref(), &line);
    Ok(Why { focus, ladder, events: recorded.iter().map(audit_row).collect(), signatures })
}

/// Checks every signature with the key that the ledger introduced, and that introduction with authority's.
async fn check_signatures(log: &dyn Log, events: &[Stored]) -> Result<u64, WhyError> {
    let bad = |seq: Seq, why: &str| WhyError::NotAuthentic { seq, why: why.to_owned() };
    let mut good = 0;
    for stored in events {
        let value: Value = serde_json::from_slice(&stored.bytes).map_err(|e| bad(stored.seq, &e.to_string()))?;
        let values = match value {
            Value::Array(items) => items,
            one => vec![one],
        };
        for value in values {
            let kid = value.get("keyid").and_then(Value::as_str).unwrap_or_default().to_owned();
            let entity = Entity::new(Kind::Key, &kid).ok_or_else(|| bad(stored.seq, "its key has no id"))?;
            let history = log.load(&entity).await?;
            let introduced =
                history.iter().flat_map(|s| Recorded::read(s).unwrap_or_default()).find_map(|r| match r.event {
                    Some(LedgerEvent::Key(KeyEvent::Introduced(e))) => Some(e),
                    _ => None,
                });
            let key = introduced
                .and_then(|e| parse_public(&e.public_key))
                .ok_or_else(|| bad(stored.seq, "its key was never introduced"))?;
            let (bytes, signature) = split_signature(value).map_err(|e| bad(stored.seq, &e.to_string()))?;
            if !verify_hex(&key, &bytes, &signature) {
                return Err(bad(stored.seq, "the signature does not match"));
            }
            good += 1;
        }
    }
    Ok(good)
}

/// Every message about the grant that the dispatch was admitted under, and about those that it was derived from.
async fn grants_of(log: &dyn Log, recorded: &[Recorded]) -> Result<Vec<Stored>, WhyError> {
    let mut next = recorded.iter().find_map(|one| match &one.event {
        Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) => e.grant.id().cloned(),
        _ => None,
    });
    let mut out: Vec<Stored> = Vec::new();
    for _ in 0..DEPTH_MAX {
        let Some(entity) = next.take().and_then(|id| Entity::new(Kind::Grant, id.as_str())) else { break };
        let history = log.load(&entity).await?;
        next = history.iter().flat_map(|s| Recorded::read(s).unwrap_or_default()).find_map(|r| match r.event {
            Some(LedgerEvent::Grant(GrantEvent::Issued(e))) => e.parent,
            _ => None,
        });
        out.extend(history);
    }
    Ok(out)
}

/// What the ladder says of grants: who gave what to whom, how they agreed, and whether it was taken back.
fn said_of(grants: &[Stored]) -> Vec<Rung> {
    let mut rungs = Vec::new();
    for one in grants.iter().flat_map(|s| Recorded::read(s).unwrap_or_default()) {
        let seq = Some(one.seq.0);
        match one.event {
            Some(LedgerEvent::Grant(GrantEvent::Issued(e))) => {
                let grant = &e.grant;
                let on = grant.workspaces.iter().map(|w| format!("ws:{}:{}", w.id, w.mode.as_str()));
                let most: Vec<String> = on.chain(grant.tools.iter().map(|tool| ["tool:", tool].concat())).collect();
                let from = e.parent.as_ref().map_or_else(String::new, |parent| format!(", derived from {parent}"));
                let text = format!(
                    "{} ({} → {}: {}), {} dispatches in {} s, until {}{from}",
                    grant.id,
                    grant.subject,
                    grant.launcher,
                    most.join(" "),
                    grant.limits.dispatches,
                    grant.limits.window_ms / 1_000,
                    grant.expires
                );
                rungs.push(Rung { what: "under grant", text, seq });
                let consent = &grant.consent;
                let session = consent.session.as_ref().map_or_else(String::new, |s| format!(", session {s}"));
                let (method, shown) = (consent.method.as_str(), &consent.statement_digest);
                let text = format!(
                    "{} at {} ({method}{session}), statement {shown}, recorded by {}",
                    grant.subject, consent.at, e.by
                );
                rungs.push(Rung { what: "agreed to by", text, seq });
            }
            Some(LedgerEvent::Grant(GrantEvent::Revoked(e))) => {
                rungs.push(Rung { what: "revoked since", text: format!("{} by {}: {}", e.grant, e.by, e.why), seq });
            }
            _ => {}
        }
    }
    rungs
}

async fn launcher_of(log: &dyn Log, recorded: &[Recorded]) -> Result<Option<(u64, String)>, WhyError> {
    let id = recorded.iter().find_map(|r| r.envelope.launcher.clone());
    let Some(entity) = id.and_then(|id| Entity::new(Kind::Launcher, &id)) else { return Ok(None) };
    let history = log.load(&entity).await?;
    let registered =
        history.iter().rev().flat_map(|s| Recorded::read(s).unwrap_or_default()).find_map(|r| match r.event {
            Some(LedgerEvent::Launcher(LauncherEvent::Registered(e))) => Some((r.seq.0, e.public_key)),
            _ => None,
        });
    Ok(registered)
}

/// Whether an event is of the effect that was asked for: its intent and its outcome are one story.
fn of_focus(recorded: &[Recorded], one: &Recorded, focus: u64) -> bool {
    recorded.iter().any(|r| r.seq.0 == focus && r.entity == one.entity)
}

/// The same, for the card of an effect: its approval has the effect's id.
fn of_card(recorded: &[Recorded], one: &Recorded, focus: u64) -> bool {
    recorded.iter().any(|r| r.seq.0 == focus && r.entity.id == one.entity.id)
}

/// Whether a token was signed for the call that the event in focus is of.
fn of_call(recorded: &[Recorded], token: &TokenIssued, focus: u64) -> bool {
    let effect = recorded.iter().find(|r| r.seq.0 == focus).filter(|r| r.entity.kind == Kind::Effect);
    effect.is_some_and(|r| token.txn.as_ref() == Some(&r.entity.id))
}

fn ruled(by: &RuledBy) -> String {
    format!(", rule {} of policy {}", by.rule, by.digest)
}

fn ladder(recorded: &[Recorded], focus: u64, launcher: Option<&(u64, String)>, grants: &[Rung]) -> Vec<Rung> {
    let mut rungs = Vec::new();

    let mut put = |what, text: String, seq| rungs.push(Rung { what, text, seq });
    for one in recorded.iter().rev() {
        let seq = Some(one.seq.0);
        match &one.event {
            Some(LedgerEvent::Effect(EffectEvent::ModelCalled(e))) if one.seq.0 == focus => {
                put(
                    "let through by",
                    format!("gateway {}, model {} at {}", one.envelope.keyid, e.model, e.upstream),
                    seq,
                );
            }
            Some(LedgerEvent::Effect(EffectEvent::ToolIntended(e))) if of_focus(recorded, one, focus) => {
                let rule = e.policy.as_ref().map_or_else(String::new, ruled);
                let words = format!(
                    "gateway {}{rule}, tool {} under scope {}, arguments {}",
                    one.envelope.keyid, e.tool, e.scope, e.args_digest
                );
                put("let through by", words, seq);
            }
            Some(LedgerEvent::Effect(EffectEvent::ToolFinished(e))) if of_focus(recorded, one, focus) => {
                let why = e.reason.as_ref().map_or_else(String::new, |reason| format!(", {reason}"));
                put("came to", format!("{}{why} after {} ms", e.phase.as_str(), e.duration_ms), seq);
            }
            Some(LedgerEvent::Effect(EffectEvent::ToolRefused(e))) if one.seq.0 == focus => {
                let rule = e.policy.as_ref().map_or_else(String::new, ruled);
                put("refused by", format!("gateway {}{rule}: {}: {}", one.envelope.keyid, e.reason, e.detail), seq);
            }
            Some(LedgerEvent::Effect(EffectEvent::BudgetWarned(e) | EffectEvent::BudgetExhausted(e)))
                if of_focus(recorded, one, focus) =>
            {
                let words = format!(
                    "gateway {}: {} of {} {} of the {} were used",
                    one.envelope.keyid,
                    e.used,
                    e.limit,
                    e.measure.as_str(),
                    e.scope.as_str()
                );
                put("counted by", words, seq);
            }
            Some(LedgerEvent::Effect(EffectEvent::ToolAwaiting(e))) if of_card(recorded, one, focus) => {
                let words = format!(
                    "gateway {}{}, tool {} under scope {}, arguments {}",
                    one.envelope.keyid,
                    ruled(&e.policy),
                    e.tool,
                    e.scope,
                    e.args_digest
                );
                put("proposed as", format!("card {} by {words}", e.card()), seq);
            }
            Some(LedgerEvent::Approval(ApprovalEvent::Decided(e))) if of_card(recorded, one, focus) => {
                let what = match e.decision {
                    Choice::Approve => "approved by",
                    Choice::Edit => "edited by",
                    Choice::Reject => "rejected by",
                    Choice::Defer => "put off by",
                };
                let shown = e.args_digest.as_ref().map_or_else(String::new, |digest| format!(", arguments {digest}"));
                let why = e.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
                put(what, format!("{}, card {} version {}{shown}{why}", e.by, e.card, e.version), seq);
            }
            Some(LedgerEvent::Approval(ApprovalEvent::Expired(e))) if of_card(recorded, one, focus) => {
                put("expired", format!("card {} version {}, undecided", e.card, e.version), seq);
            }
            Some(LedgerEvent::Token(TokenEvent::Issued(e))) if of_call(recorded, e, focus) => {
                put(
                    "with token",
                    format!("{} {} for {}, {}, by key {}", e.typ.as_str(), e.jti, e.aud, e.scope, e.kid),
                    seq,
                );
            }
            Some(LedgerEvent::Run(RunEvent::Finished(e))) => {
                let session = e
                    .session
                    .as_ref()
                    .map_or_else(|| "no session file".into(), |s| format!("session {} {}", s.id, s.digest));
                put("ended", format!("{} · {session}", e.reason.as_str()), seq);
            }
            Some(LedgerEvent::Run(RunEvent::Started(e))) => put("ran in", format!("container {}", e.container), seq),
            Some(LedgerEvent::Run(RunEvent::Claimed(e))) => {
                put("claimed by", format!("runtime {}, image {}, options {}", e.runtime, e.image, e.spec_digest), seq);
            }
            Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) => {
                let scope = e
                    .unit
                    .workspaces
                    .iter()
                    .map(|w| format!("ws:{}:{}", w.id, w.mode.as_str()))
                    .collect::<Vec<_>>()
                    .join(" ");
                put(
                    "admitted",
                    match &e.grant {
                        GrantCheck::NotChecked => {
                            format!(
                                "runner {} {}, {scope}, from before there were grants",
                                e.runner.name, e.runner.version
                            )
                        }
                        GrantCheck::Checked(used) => {
                            format!("runner {} {}, {scope}, under {}", e.runner.name, e.runner.version, used.id)
                        }
                    },
                    seq,
                );
                let signed = match e.signature {
                    SignatureCheck::Verified => "signed by its key",
                    SignatureCheck::Absent => "not signed, which this launcher may",
                };
                let key = launcher
                    .map_or_else(|| "not registered".into(), |(at, key)| format!("key {key}, registered at {at}"));
                put(
                    "launched by",
                    format!(
                        "{} ({key}), message {} {signed}",
                        e.launch.launcher,
                        e.launch.event_id.as_deref().unwrap_or("without id")
                    ),
                    Some(e.launch.stream_seq),
                );
                put("on behalf of", format!("{} ({})", e.unit.identity.subject, e.unit.identity.launcher), None);
            }
            Some(LedgerEvent::Dispatch(DispatchEvent::Refused(e))) => {
                put("refused", format!("{}: {} · next: {}", e.reason, e.detail, e.hint), seq);
                put(
                    "asked by",
                    format!("launcher {}, message {}", e.launch.launcher, e.launch.digest),
                    Some(e.launch.stream_seq),
                );
            }
            Some(LedgerEvent::Dispatch(DispatchEvent::StopRequested(e))) => put("stop asked by", e.by.clone(), seq),
            _ => {}
        }
    }
    // Between the admission and the launch that it decided.
    if let Some(at) = rungs.iter().position(|rung| rung.what == "launched by") {
        rungs.splice(at..at, grants.iter().cloned());
    }
    rungs
}
