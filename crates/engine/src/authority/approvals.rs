//! What people decide about calls that wait: `command.approval.decide`, and the loop that ends what nobody decided in time.
//! Must never take a decision about a call that the ledger's leader does not hold as waiting.

use crate::follow::{follow, read_or_note};
use custody_contracts::approval::{ApprovalEvent, Choice, ToolAwaiting};
use custody_contracts::canonical::{canonical, derived_id};
use custody_contracts::envelope::Meta;
use custody_contracts::events::{EffectEvent, Kind, LedgerEvent};
use custody_contracts::ids::{Subject, UnixMillis};
use custody_contracts::messages::ErrorDoc;
use custody_domain::approval::{ApprovalCommand, ApprovalRefusal, Approvals as Rule, Decide};
use custody_domain::tool::SHOWN_BYTES_MAX;
use custody_ledger::{Command, Entity, HandleError, Log, LogError, Outcome, Recorded, Seq, Sign, handle};
use custody_ports::blobs::Blobs;
use custody_ports::clock::Clock;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often it is looked whether somebody's time is up.
const LOOK: Duration = Duration::from_millis(500);

/// Everything that decisions need.
#[derive(Clone)]
pub struct Approvals {
    /// The ledger.
    pub log: Arc<dyn Log>,
    /// Authority's key.
    pub signer: Arc<dyn Sign>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where edited arguments are kept.
    pub blobs: Arc<dyn Blobs>,
}

/// `command.approval.decide`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    card: String,
    version: u32,
    decision: Choice,
    by: Subject,
    /// The digest that was shown, for an approval.
    #[serde(default)]
    args_digest: Option<String>,
    /// The arguments that replace those that were shown, for an edit.
    #[serde(default)]
    args: Option<Value>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    until: Option<UnixMillis>,
}

impl Approvals {
    /// Takes a decision. Safe to send again: the same decision is taken once.
    pub(super) async fn decide(&self, asked: Asked) -> Result<Value, ErrorDoc> {
        let Some((awaiting, meta)) = self.awaiting(&asked.card).await.map_err(|e| unavailable(&e))? else {
            let what = format!("there is no card {:?}", asked.card.chars().take(80).collect::<String>());
            return Err(ErrorDoc::new("NOT_FOUND", what, Some("custody inbox ls".into())));
        };
        let args_digest = match (asked.decision, asked.args) {
            (Choice::Edit, Some(args)) => Some(self.keep(&meta, &args).await?),
            (_, None) => asked.args_digest,
            (_, Some(_)) => {
                return Err(ErrorDoc::new("COMMAND_INVALID", "only an edit has arguments", None));
            }
        };
        let decide = Decide {
            awaiting,
            version: asked.version,
            choice: asked.decision,
            by: asked.by,
            args_digest,
            reason: asked.reason,
            until: asked.until,
            now: self.clock.now(),
        };
        let told = format!("{:?} {:?} {:?} {:?}", decide.choice, decide.version, decide.by, decide.args_digest);
        let extra = format!("{:?} {:?}", decide.reason, decide.until);
        let outcome = self.append(&asked.card, &[&told, &extra], meta, ApprovalCommand::Decide(Box::new(decide))).await;
        match outcome.map_err(|e| unavailable(&e))? {
            Outcome::Appended(seq) | Outcome::AlreadyThere(seq) => Ok(json!({ "seq": seq.0, "changed": true })),
            Outcome::Nothing => Ok(json!({ "changed": false })),
            Outcome::Refused(refusal) => Err(refused(&refusal)),
        }
    }

    /// Stores edited arguments, and says what their digest is.
    async fn keep(&self, meta: &Meta, args: &Value) -> Result<String, ErrorDoc> {
        let text = canonical(args);
        if !args.is_object() || text.len() > SHOWN_BYTES_MAX {
            let what = format!("the arguments are an object of at most {SHOWN_BYTES_MAX} bytes");
            return Err(ErrorDoc::new("COMMAND_INVALID", what, None));
        }
        // Whose call it is, not who edits it: it is erased with the rest of the dispatch.
        let of = meta.subject.as_deref().and_then(|subject| Subject::parse(subject).ok());
        let of = of.ok_or_else(|| ErrorDoc::new("COMMAND_INVALID", "the call is of no person", None))?;
        self.blobs.put(&of, text.into_bytes()).await.map_err(|e| unavailable(&e))
    }

    /// The call that a card is about, and the envelope of events about it.
    async fn awaiting(&self, card: &str) -> Result<Option<(ToolAwaiting, Meta)>, LogError> {
        let Some(entity) = Entity::new(Kind::Effect, card) else { return Ok(None) };
        let history = self.log.load(&entity).await?;
        let read = history.iter().flat_map(|stored| Recorded::read(stored).unwrap_or_default());
        let found = read.into_iter().find_map(|recorded| match &recorded.event {
            Some(LedgerEvent::Effect(EffectEvent::ToolAwaiting(e))) => Some(((**e).clone(), meta_of(&recorded, e))),
            _ => None,
        });
        Ok(found)
    }

    async fn append(
        &self,
        card: &str,
        told: &[&str],
        meta: Meta,
        body: ApprovalCommand,
    ) -> Result<Outcome<ApprovalRefusal>, HandleError> {
        let Some(entity) = Entity::new(Kind::Approval, card) else { return Ok(Outcome::Nothing) };
        // Asking again after it changed is a new command.
        let last = self.log.load(&entity).await.ok().and_then(|history| history.last().map(|s| s.seq.0)).unwrap_or(0);
        let mut parts = vec![card.as_bytes().to_vec(), last.to_be_bytes().to_vec()];
        parts.extend(told.iter().map(|part| part.as_bytes().to_vec()));
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let id = derived_id("apr-", &parts);
        let meta = Meta { time: self.clock.now().rfc3339(), ..meta };
        handle::<Rule>(self.log.as_ref(), self.signer.as_ref(), Command { id, entity, meta, body }).await
    }

    /// Ends what nobody decided in time, until cancelled.
    ///
    /// # Errors
    /// [`LogError`] when the log is broken.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), LogError> {
        let waiting: Arc<Mutex<BTreeMap<String, (ToolAwaiting, Meta)>>> = Arc::default();
        let book = waiting.clone();
        let folding = follow(self.log.clone(), Seq(0), cancel.clone(), move |stored| {
            let of_interest = ["ledger.effect.", "ledger.approval."].iter().any(|p| stored.log_subject.starts_with(p));
            if !of_interest {
                return;
            }
            for recorded in read_or_note(&stored) {
                take_in(&mut book.lock().unwrap_or_else(PoisonError::into_inner), &recorded);
            }
        });
        let ending = async {
            loop {
                tokio::time::sleep(LOOK).await;
                let now = self.clock.now();
                let due: Vec<_> = {
                    let all = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                    all.values().filter(|(awaiting, _)| now > awaiting.expires_at).cloned().collect()
                };
                for (awaiting, meta) in due {
                    let card = awaiting.card();
                    let body = ApprovalCommand::Expire { awaiting: Box::new(awaiting), now };
                    match self.append(&card, &["expire"], meta, body).await {
                        Ok(_) => drop(waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&card)),
                        Err(error) => tracing::warn!(%error, card, "a card is not ended; trying again"),
                    }
                }
            }
        };
        tokio::select! {
            result = folding => result,
            () = ending => Ok(()),
        }
    }
}

fn take_in(waiting: &mut BTreeMap<String, (ToolAwaiting, Meta)>, recorded: &Recorded) {
    match &recorded.event {
        Some(LedgerEvent::Effect(EffectEvent::ToolAwaiting(e))) => {
            waiting.insert(e.card(), ((**e).clone(), meta_of(recorded, e)));
        }
        Some(LedgerEvent::Effect(event @ (EffectEvent::ToolIntended(_) | EffectEvent::ToolRefused(_)))) => {
            waiting.remove(&event.entity_id());
        }
        Some(LedgerEvent::Approval(ApprovalEvent::Expired(e))) => drop(waiting.remove(&e.card)),
        Some(LedgerEvent::Approval(ApprovalEvent::Decided(e)))
            if matches!(e.decision, Choice::Approve | Choice::Reject) =>
        {
            waiting.remove(&e.card);
        }
        _ => {}
    }
}

fn meta_of(recorded: &Recorded, awaiting: &ToolAwaiting) -> Meta {
    Meta {
        subject: recorded.envelope.subject.clone(),
        causation: Some(format!("ledger/{}", recorded.seq)),
        correlation: Some(awaiting.dispatch.to_string()),
        launcher: recorded.envelope.launcher.clone(),
        traceparent: recorded.envelope.traceparent.clone(),
        ..Meta::default()
    }
}

fn refused(refusal: &ApprovalRefusal) -> ErrorDoc {
    let (code, hint) = match refusal {
        ApprovalRefusal::NotYours(_) => ("APPROVAL_NOT_YOURS", "the card's approvers decide: custody inbox show"),
        ApprovalRefusal::Decided(_) => ("APPROVAL_DECIDED", "custody inbox show"),
        ApprovalRefusal::Expired(_) => ("APPROVAL_EXPIRED", "the agent proposes it again in a new dispatch"),
        ApprovalRefusal::OtherVersion { .. } | ApprovalRefusal::OtherArguments => {
            ("APPROVAL_STALE", "custody inbox show, and decide about what is there now")
        }
        ApprovalRefusal::Incomplete(_) | ApprovalRefusal::TooOften(_) | ApprovalRefusal::NotYet => {
            ("APPROVAL_REFUSED", "custody inbox --help")
        }
    };
    ErrorDoc::new(code, refusal.to_string(), Some(hint.into()))
}

fn unavailable(error: &dyn std::fmt::Display) -> ErrorDoc {
    ErrorDoc::new("LEDGER_UNAVAILABLE", error.to_string(), Some("custody doctor".into()))
}
