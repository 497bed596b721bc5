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

/// Carries out one command on an entity that is most likely new, as [`handle_known`] does.
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
    handle_known::<D>(log, signer, command, &D::State::default(), Expected::NEW).await
}

/// Carries out one command on an entity whose state is most likely known: nothing is loaded first, and the expected
/// sequence says whether that was right. When it was not, [`handle`] decides with the history. A command id must name what
/// is decided, because an append that finds its own id counts as this decision.
///
/// # Errors
/// As [`handle`].
pub async fn handle_known<D>(
    log: &dyn Log,
    signer: &dyn Sign,
    command: Command<D::Command>,
    state: &D::State,
    expected: Expected,
) -> Result<Outcome<D::Refusal>, HandleError>
where
    D: Decider,
    D::Command: Clone,
    D::Event: TryFrom<LedgerEvent> + Into<LedgerEvent>,
{
    if let Ok(events) = D::decide(state, command.body.clone())
        && !events.is_empty()
    {
        match log.append(written(signer, &command, events, expected)?).await {
            Ok(seq) => return Ok(Outcome::Appended(seq)),
            Err(AppendError::Conflict { .. }) => {}
            Err(other) => return Err(other.into()),
        }
    }
    handle::<D>(log, signer, command).await
}

/// The id under which a command's decision is appended: the same command finds its own again.
fn message_id<C>(command: &Command<C>) -> String {
    derived_id("m-", &[command.entity.log_subject().as_bytes(), command.id.as_bytes()])
}

/// A decision as the message to append.
fn written<C, E: Into<LedgerEvent>>(
    signer: &dyn Sign,
    command: &Command<C>,
    events: Vec<E>,
    expected: Expected,
) -> Result<Append, HandleError> {
    let events: Vec<LedgerEvent> = events.into_iter().map(Into::into).collect();
    let bytes = encode(signer, &command.id, &events, &command.meta)
        .map_err(|source| HandleError::Encode { entity: command.entity.log_subject(), source })?;
    Ok(Append { entity: command.entity.clone(), expected, message_id: message_id(command), bytes })
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
    let own = message_id(&command);
    for _ in 0..TRIES_MAX {
        let history = log.load(entity).await.map_err(|source| HandleError::Load { entity: name.clone(), source })?;
        if let Some(stored) = history.iter().find(|s| s.message_id.as_deref() == Some(&own)) {
            return Ok(Outcome::AlreadyThere(stored.seq));
        }
        let state = fold::<D>(entity, &history)?;
        let events = match D::decide(&state, command.body.clone()) {
            Ok(events) if events.is_empty() => return Ok(Outcome::Nothing),
            Ok(events) => events,
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        match log.append(written(signer, &command, events, Expected::after(&history))?).await {
            Ok(seq) => return Ok(Outcome::Appended(seq)),
            Err(AppendError::Conflict { .. }) => {}
            Err(other) => return Err(other.into()),
        }
    }
    Err(HandleError::Contended { entity: name })
}
