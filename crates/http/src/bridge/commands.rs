//! What a person may do: start, stop, retry and speak to dispatches. The same functions serve the bridge and REST. Must never
//! launch for anybody but the person who is signed in.

use super::hub::Owner;
use super::open::visible_dispatch;
use crate::api::Api;
use crate::auth::Person;
use crate::problem::{Code, Problem};
use custody_contracts::events::{DispatchEvent, LedgerEvent};
use custody_contracts::ids::{LauncherRef, SessionId};
use custody_contracts::unit::{Invocation, Start, Trigger};
use custody_contracts::ws::Command;
use custody_ledger::{Recorded, Seq};
use custody_ports::asks::{LaunchFailed, Launched};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Milliseconds between TERM and KILL when a command does not say.
const GRACE_MS: u64 = 10_000;
/// The longest that a command may ask for.
const GRACE_MS_MAX: u64 = 60_000;

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Where it is stored.
    pub seq: u64,
    /// The dispatch that it is about.
    pub dispatch: String,
    /// The dispatch that a launch would be refused under when its id was used before.
    pub refused_as: Option<String>,
}

/// Carries out a command. Safe to send again under the same id.
///
/// # Errors
/// Why nothing was stored.
pub async fn carry_out(api: &Api, person: &Person, id: &str, command: Command) -> Result<Done, Problem> {
    match command {
        Command::Start(unit) => start(api, person, id, *unit).await,
        Command::Stop(args) => stop(api, person, args.dispatch.as_str(), args.grace_ms).await,
        Command::Retry(args) => retry(api, person, id, args.dispatch.as_str()).await,
        Command::Say(args) => say(api, person, id, args.dispatch.as_str(), &args.text).await,
    }
}

/// Launches a unit in the name of the person.
///
/// # Errors
/// `SUBJECT_REFUSED` for another person's, `NOT_FOUND` for another person's session, `CONSENT_NEEDED` for a person who has
/// not agreed to what the web chat may do.
pub async fn start(api: &Api, person: &Person, id: &str, mut unit: Invocation) -> Result<Done, Problem> {
    if unit.identity.subject.as_str() != person.subject {
        let why = format!("the unit names {}, and {} is signed in", unit.identity.subject, person.subject);
        return Err(Problem::new(Code::SubjectRefused, why));
    }
    // What comes from a person's own hands is a message, whatever the page says.
    unit.trigger = Trigger::Message;
    unit.identity.token = None;
    unit.identity.launcher =
        LauncherRef::parse(&["user:", &api.settings.launcher].concat()).map_err(|e| Problem::new(Code::Internal, e))?;
    if let Start::Session(turn) = &unit.start {
        own_session(api, person, &turn.reference).await?;
    }
    super::consent::answered(api, person).await?;
    let launched = api.launcher.launch(&message_id(person, id), &unit).await.map_err(not_launched)?;
    // It can be followed from here on, also before it is decided: its id is a function of the person's own message.
    for dispatch in [launched.dispatch.as_str(), launched.refused_as.as_str()] {
        if api.hub.owner(dispatch).is_none() {
            api.hub.own(dispatch, Owner { subject: Some(person.subject.clone()), session: None });
        }
    }
    Ok(done(launched))
}

/// A message's id: one person cannot take the id of another's, and the same id of one person is one message.
fn message_id(person: &Person, id: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(person.subject.as_bytes());
    hash.update([0]);
    hash.update(id.as_bytes());
    ["web-", &custody_contracts::canonical::hex(&hash.finalize()[..16])].concat()
}

fn done(launched: Launched) -> Done {
    Done {
        seq: launched.seq,
        dispatch: launched.dispatch.to_string(),
        refused_as: Some(launched.refused_as.to_string()),
    }
}

fn not_launched(error: LaunchFailed) -> Problem {
    match error {
        LaunchFailed::TooLarge(_) => {
            Problem::new(Code::TooLarge, error).hint("put the text into a workspace file and ask with @FILE")
        }
        LaunchFailed::Refused(_) => Problem::new(Code::Unavailable, error).hint("custody launcher ls"),
        LaunchFailed::Unavailable(_) => Problem::new(Code::Unavailable, error).hint("send it again: it is safe"),
    }
}

/// A session must be there and be the person's own: an administrator reads others' sessions and does not speak in them.
async fn own_session(api: &Api, person: &Person, session: &str) -> Result<(), Problem> {
    SessionId::parse(session).map_err(|e| Problem::new(Code::Invalid, e))?;
    let answer = api.query("session.get", json!({ "id": session })).await;
    match answer {
        Ok(answer) => {
            let field = |name: &str| answer.get("row").and_then(|r| r.get(name)).and_then(Value::as_str);
            let own = field("session") == Some(session) && field("subject") == Some(&person.subject);
            if own { Ok(()) } else { Err(Problem::not_found()) }
        }
        Err(problem) if matches!(problem.code.as_str(), "NOT_FOUND" | "AMBIGUOUS") => Err(Problem::not_found()),
        Err(problem) => Err(problem),
    }
}

/// Asks for a dispatch to stop.
///
/// # Errors
/// `NOT_FOUND` for another person's; what the authority refuses.
pub async fn stop(api: &Api, person: &Person, dispatch: &str, grace_ms: Option<u64>) -> Result<Done, Problem> {
    let (row, _, _) = visible_dispatch(api, person, dispatch).await?;
    let status = row.get("status").and_then(Value::as_str).unwrap_or_default();
    if matches!(status, "completed" | "ended" | "refused") {
        return Err(Problem::new(Code::Conflict, "it has ended already").code("ALREADY_ENDED"));
    }
    let grace_ms = grace_ms.unwrap_or(GRACE_MS).min(GRACE_MS_MAX);
    let body = json!({ "dispatch": dispatch, "by": person.subject, "grace_ms": grace_ms });
    let answer = api.command("dispatch.stop", body).await?;
    let seq = answer.get("seq").and_then(Value::as_u64).unwrap_or(0);
    Ok(Done { seq, dispatch: dispatch.to_owned(), refused_as: None })
}

/// Says more to a dispatch of the person's own that has not ended. An administrator reads others' and does not speak there.
///
/// # Errors
/// `NOT_FOUND` for another person's; what the authority refuses, which is in the ledger then.
pub async fn say(api: &Api, person: &Person, id: &str, dispatch: &str, text: &str) -> Result<Done, Problem> {
    let (row, _, _) = visible_dispatch(api, person, dispatch).await?;
    if row.get("subject").and_then(Value::as_str) != Some(&person.subject) {
        return Err(Problem::not_found());
    }
    let body = json!({ "dispatch": dispatch, "text": text, "by": person.subject, "id": message_id(person, id) });
    let answer = api.command("dispatch.say", body).await?;
    let seq = answer.get("seq").and_then(Value::as_u64).unwrap_or(0);
    Ok(Done { seq, dispatch: dispatch.to_owned(), refused_as: None })
}

/// Launches again what a dispatch was asked: the next turn of its session, or a new one if it began one.
///
/// # Errors
/// `NOT_FOUND` for another person's; `CONFLICT` for one that was never admitted, whose unit is not in the ledger.
pub async fn retry(api: &Api, person: &Person, id: &str, dispatch: &str) -> Result<Done, Problem> {
    let (_, seqs, _) = visible_dispatch(api, person, dispatch).await?;
    let first = seqs.first().copied().unwrap_or(0);
    let page = api.pages.page(Seq(first), 1).await.map_err(|e| Problem::new(Code::Unavailable, e))?;
    let recorded = page.first().map(custody_engine::follow::read_or_note).unwrap_or_default();
    if recorded.iter().any(is_erased) {
        return Err(Problem::new(Code::Conflict, "what it was asked was erased").code("ERASED").hint("ask anew"));
    }
    let unit = recorded.into_iter().find_map(unit_of);
    let unit = unit.ok_or_else(|| {
        Problem::new(Code::Conflict, "it was never admitted, so what it was asked is not in the ledger")
            .code("NEVER_ADMITTED")
            .hint("send the message again")
    })?;
    start(api, person, id, unit).await
}

/// Whether it is an admission whose words nobody can open any more.
fn is_erased(recorded: &Recorded) -> bool {
    matches!(&recorded.event, Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) if e.sealed.is_some())
}

fn unit_of(recorded: Recorded) -> Option<Invocation> {
    match recorded.event {
        Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) => Some(e.unit),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Provider;

    #[test]
    fn one_persons_message_id_is_not_anothers_and_is_always_the_same() {
        let person = |subject: &str| Person {
            subject: subject.into(),
            name: String::new(),
            admin: false,
            session: String::new(),
            provider: Provider::AccessKey,
            expires_at: 0,
        };
        let jane = message_id(&person("u_jane"), "m-1");
        assert_eq!(jane, message_id(&person("u_jane"), "m-1"));
        assert_ne!(jane, message_id(&person("u_omar"), "m-1"));
        assert_ne!(jane, message_id(&person("u_jane"), "m-2"));
    }
}
