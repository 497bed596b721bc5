//! `handle`: load, already there?, fold, decide, append; on conflict start over, at most [`TRIES_MAX`] times.

use crate::decider::Decider;
use crate::log::{Append, AppendError, Entity, Expected, Log, LogError, Seq, Stored};
use crate::recorded::{Recorded, RecordedError, Sign, encode};
use custody_contracts::canonical::derived_id;
use custody_contracts::envelope::Meta;
use custody_contracts::events::LedgerEvent;

/// How often one command is decided again after a conflict.
pub const TRIES_MAX: u32 = 8;

/// A command with everything that pure code may not find out itself.
#[derive(Debug, Clone)]
pub struct Command<C> {
    /// Unique for what is commanded; a retry has the same one.
    pub id: String,
    /// To whom.
    pub entity: Entity,
    /// Time and causes.
    pub meta: Meta,
    /// What.
    pub body: C,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<R> {
    /// It is in the log now.
    Appended(Seq),
    /// It already was.
    AlreadyThere(Seq),
    /// The rule found nothing to do.
    Nothing,
    /// A rule said no.
    Refused(R),
}

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// The history could not be loaded.
    #[error("loading {entity}: {source}")]
    Load {
        /// The log subject.
        entity: String,
        /// Why.
        source: LogError,
    },
    /// The history cannot be understood; this entity stops, others go on.
    #[error("history of {entity} cannot be folded: {why}")]
    Corrupt {
        /// The log subject.
        entity: String,
        /// Why.
        why: String,
    },
    /// The append failed.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The event cannot be written down: a bug.
    #[error("encoding events of {entity}: {source}")]
    Encode {
        /// The log subject.
        entity: String,
        /// Why.
        source: serde_json::Error,
    },
    /// Somebody else was faster too often.
    #[error("{entity} moved {TRIES_MAX} times while deciding")]
    Contended {
        /// The log subject.
        entity: String,
    },
}

impl From<(String, RecordedError)> for HandleError {
    fn from((entity, source): (String, RecordedError)) -> Self {
        HandleError::Corrupt { entity, why: source.to_string() }
    }
}

/// The state of an entity from its history.
///
/// # Errors
/// [`HandleError::Corrupt`] when a message cannot be read or its event is not known: a decider that does not know its
/// own history does not know its state.
pub fn fold<D>(entity: &Entity, history: &[Stored]) -> Result<D::State, HandleError>
where
    D: Decider,
    D::Event: TryFrom<LedgerEvent>,
{
    let corrupt = |why: String| HandleError::Corrupt { entity: entity.log_subject(), why };
    let mut state = D::State::default();
    for stored in history {
        for recorded in Recorded::read(stored).map_err(|e| corrupt(e.to_string()))? {
            let kind = recorded.envelope.kind;
            let event = recorded.event.and_then(|e| D::Event::try_from(e).ok());
            let event = event.ok_or_else(|| corrupt(format!("event type {kind:?} at sequence {}", stored.seq)))?;
            state = D::evolve(state, &event);
        }
    }
    Ok(state)
}

/// Carries out one command on an entity that is most likely new: nothing is loaded first, and the expected sequence 0
/// says whether that was right. When it was not, [`handle`] decides with the history. A command id must name what is
/// decided, because an append that finds its own id counts as this decision.
///
/// # Errors
/// As [`handle`].
pub async fn handle_new<D>(
    log: &dyn Log,
    signer: &dyn Sign,
    command: Command<D::Command>,
) -> Result<Outcome<D::Refusal>, HandleError>
where
    D: Decider,
    D::Command: Clone,
    D::Event: TryFrom<LedgerEvent> + Into<LedgerEvent>,
{
    let name = command.entity.log_subject();
    let events = match D::decide(&D::State::default(), command.body.clone()) {
        Ok(events) if events.is_empty() => return handle::<D>(log, signer, command).await,
        Ok(events) => events,
        Err(_) => return handle::<D>(log, signer, command).await,
    };
    let events: Vec<LedgerEvent> = events.into_iter().map(Into::into).collect();
    let bytes = encode(signer, &command.id, &events, &command.meta)
        .map_err(|source| HandleError::Encode { entity: name.clone(), source })?;
    let message_id = derived_id("m-", &[name.as_bytes(), command.id.as_bytes()]);
    let append = Append { entity: command.entity.clone(), expected: Expected::NEW, message_id, bytes };
    match log.append(append).await {
        Ok(seq) => Ok(Outcome::Appended(seq)),
        Err(AppendError::Conflict { .. }) => handle::<D>(log, signer, command).await,
        Err(other) => Err(other.into()),
    }
}

/// Carries out one command. Safe to call again with the same command id.
///
/// # Errors
/// See [`HandleError`]. A refusal is an outcome, not an error.
pub async fn handle<D>(
    log: &dyn Log,
    signer: &dyn Sign,
    command: Command<D::Command>,
) -> Result<Outcome<D::Refusal>, HandleError>
where
    D: Decider,
    D::Command: Clone,
    D::Event: TryFrom<LedgerEvent> + Into<LedgerEvent>,
{
    let entity = &command.entity;
    let name = entity.log_subject();
    let message_id = derived_id("m-", &[name.as_bytes(), command.id.as_bytes()]);
    for _ in 0..TRIES_MAX {
        let history = log.load(entity).await.map_err(|source| HandleError::Load { entity: name.clone(), source })?;
        if let Some(stored) = history.iter().find(|s| s.message_id.as_deref() == Some(&message_id)) {
            return Ok(Outcome::AlreadyThere(stored.seq));
        }
        let state = fold::<D>(entity, &history)?;
        let events = match D::decide(&state, command.body.clone()) {
            Ok(events) if events.is_empty() => return Ok(Outcome::Nothing),
            Ok(events) => events,
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        let events: Vec<LedgerEvent> = events.into_iter().map(Into::into).collect();
        let bytes = encode(signer, &command.id, &events, &command.meta)
            .map_err(|source| HandleError::Encode { entity: name.clone(), source })?;
        let append = Append {
            entity: entity.clone(),
            expected: Expected::after(&history),
            message_id: message_id.clone(),
            bytes,
        };
        match log.append(append).await {
            Ok(seq) => return Ok(Outcome::Appended(seq)),
            Err(AppendError::Conflict { .. }) => {}
            Err(other) => return Err(other.into()),
        }
    }
    Err(HandleError::Contended { entity: name })
}
