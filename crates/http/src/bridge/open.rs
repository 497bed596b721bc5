//! Opening a subscription: may this person, where does it begin, and what is its snapshot. Must never say of another
//! person's thing more than of one that does not exist.

use super::feed::Feed;
use super::frames::{self, Out};
use super::hub::{Hub, Owner};
use super::items::{self, OutputItem};
use super::topic::Topic;
use crate::api::Api;
use crate::auth::Person;
use crate::problem::{Code, Problem};
use custody_contracts::box_protocol::Frame;
use custody_contracts::messages::Chunk;
use custody_contracts::ws::{EVENTS_MAX, GoneReason};
use custody_ledger::Seq;
use custody_ports::pages::PAGE_MAX;
use futures::StreamExt;
use serde_json::{Value, json};
use std::sync::Arc;

/// Rows of a list's snapshot.
const ROWS_MAX: usize = 200;
/// Rows of the audit's snapshot.
const AUDIT_ROWS_MAX: usize = 200;
/// Bytes of a snapshot's state: what does not fit comes as events.
const STATE_BYTES_MAX: usize = 512 * 1024;
/// Chunks that are read from the stream at a time.
const CHUNKS_MAX: usize = 128;
/// Messages of a dispatch that are read at the same time.
const READS_MAX: usize = 8;

/// A subscription that is open: what to send first, and where it goes on.
#[derive(Debug)]
pub struct Opened {
    /// Frames that come first.
    pub frames: Vec<Out>,
    /// The feed after them.
    pub feed: Feed,
}

/// Opens a topic for a person.
///
/// # Errors
/// `NOT_FOUND` for what is not there or not theirs, `UNAVAILABLE` when the projector does not answer.
pub async fn open(api: &Api, person: &Person, id: u64, topic: Topic, after: Option<u64>) -> Result<Opened, Problem> {
    if let Topic::Output(dispatch) = &topic {
        let owner = owner(api, person, dispatch.as_str()).await?;
        return open_output(api, id, topic.clone(), owner.subject, after).await;
    }
    let resumes = after.filter(|cursor| api.hub.reaches(*cursor) && api.hub.ledger(|ring| ring.covers(*cursor)));
    if let Some(cursor) = resumes
        && let Some(feed) = resume(api, person, id, &topic, cursor).await?
    {
        return Ok(Opened { frames: Vec::new(), feed });
    }
    let mut opened = snapshot(api, person, id, topic).await?;
    if after.is_some() && opened.feed.topic != Topic::Health {
        opened.frames.insert(0, frames::gone(id, GoneReason::Retention));
    }
    Ok(opened)
}

/// A feed after a cursor that the ring still covers.
async fn resume(api: &Api, person: &Person, id: u64, topic: &Topic, cursor: u64) -> Result<Option<Feed>, Problem> {
    Ok(match topic {
        Topic::Dispatches | Topic::Sessions | Topic::Audit => Some(Feed::new(id, topic.clone(), None, cursor)),
        Topic::Dispatch(dispatch) => {
            let owner = owner(api, person, dispatch.as_str()).await?;
            Some(Feed::new(id, topic.clone(), owner.subject, cursor))
        }
        Topic::Session(session) => {
            let (row, _, _) = session_state(api, person, session.as_str()).await?;
            let feed = Feed::new(id, topic.clone(), text(&row, "subject"), cursor);
            Some(feed.with_dispatches(turns(&row)))
        }
        Topic::Output(_) | Topic::Health => None,
    })
}

/// Begins anew: the state as of a sequence that the ring covers.
///
/// # Errors
/// As [`open`].
pub async fn snapshot(api: &Api, person: &Person, id: u64, topic: Topic) -> Result<Opened, Problem> {
    match &topic {
        Topic::Dispatches => list(api, person, id, topic, "dispatch.ls").await,
        Topic::Sessions => list(api, person, id, topic, "session.ls").await,
        Topic::Dispatch(dispatch) => {
            let dispatch = dispatch.to_string();
            one_dispatch(api, person, id, topic, &dispatch).await
        }
        Topic::Session(session) => {
            let (row, dispatches, as_of) = session_state(api, person, session.as_str()).await?;
            let state = json!({ "row": row, "dispatches": dispatches });
            let feed = Feed::new(id, topic.clone(), text(&row, "subject"), as_of).with_dispatches(turns(&row));
            opened(id, as_of, &state, feed)
        }
        Topic::Audit => audit(api, person, id).await,
        Topic::Health => {
            let state = api.health.now(api).await;
            opened(id, 0, &state, Feed::new(id, topic, None, 0))
        }
        Topic::Output(dispatch) => {
            let owner = owner(api, person, dispatch.as_str()).await?;
            open_output(api, id, topic.clone(), owner.subject, None).await
        }
    }
}

fn opened(id: u64, as_of: u64, state: &Value, feed: Feed) -> Result<Opened, Problem> {
    let text = frames::state(state);
    if text.len() > custody_contracts::ws::FRAME_BYTES_MAX - 1_024 {
        return Err(
            Problem::new(Code::TooLarge, "its snapshot is larger than a frame").hint("read it in pages over REST")
        );
    }
    Ok(Opened { frames: vec![frames::snap(id, as_of, &text)], feed })
}

fn text(row: &Value, name: &str) -> Option<String> {
    row.get(name).and_then(Value::as_str).map(str::to_owned)
}

/// The projector must not stand before what the ring holds: what lies between would be in neither.
fn since(hub: &Hub) -> u64 {
    hub.ledger(super::ring::Ring::since)
}

fn as_of(answer: &Value) -> u64 {
    answer.get("as_of").and_then(Value::as_u64).unwrap_or(0)
}

async fn list(api: &Api, person: &Person, id: u64, topic: Topic, verb: &str) -> Result<Opened, Problem> {
    let subject = (!person.admin).then_some(&person.subject);
    let answer = api.query(verb, json!({ "subject": subject, "limit": ROWS_MAX, "min_seq": since(&api.hub) })).await?;
    let at = as_of(&answer);
    let rows = answer.get("rows").cloned().unwrap_or_default();
    opened(id, at, &json!({ "rows": rows }), Feed::new(id, topic, None, at))
}

/// Whose a dispatch is; not found for another's.
///
/// # Errors
/// As [`open`].
pub async fn owner(api: &Api, person: &Person, dispatch: &str) -> Result<Owner, Problem> {
    let owner = match api.hub.owner(dispatch) {
        Some(owner) => owner,
        None => {
            let (row, _, _) = dispatch_row(api, dispatch).await?;
            let owner = Owner { subject: text(&row, "subject"), session: text(&row, "session") };
            api.hub.own(dispatch, owner.clone());
            owner
        }
    };
    if person.may_see(owner.subject.as_deref()) { Ok(owner) } else { Err(Problem::not_found()) }
}

/// The row of exactly this dispatch, its events' sequences, and as of when.
async fn dispatch_row(api: &Api, dispatch: &str) -> Result<(Value, Vec<u64>, u64), Problem> {
    let body = json!({ "id": dispatch, "min_seq": since(&api.hub) });
    let answer = api.query("dispatch.get", body).await.map_err(hide_prefixes)?;
    let mut row = answer.get("row").cloned().unwrap_or_default();
    if text(&row, "dispatch").as_deref() != Some(dispatch) {
        return Err(Problem::not_found());
    }
    if text(&row, "subject").is_none() {
        // The row of a refusal names nobody; its event does, where the launch could be read that far.
        let first = Seq(row.get("first_seq").and_then(Value::as_u64).unwrap_or(0));
        let page = api.pages.page(first, 1).await.map_err(|e| Problem::new(Code::Unavailable, e))?;
        let event = page.first().filter(|stored| stored.seq == first).map(items::ledger);
        row["subject"] = json!(event.and_then(|m| m.items.into_iter().next()?.subject));
    }
    let seqs = answer.get("seqs").and_then(Value::as_array);
    let seqs = seqs.map(|s| s.iter().filter_map(Value::as_u64).collect()).unwrap_or_default();
    Ok((row, seqs, as_of(&answer)))
}

/// A prefix that several have would name others' ids: it is nothing here.
fn hide_prefixes(problem: Problem) -> Problem {
    if matches!(problem.code.as_str(), "AMBIGUOUS" | "NOT_FOUND") { Problem::not_found() } else { problem }
}

/// The row of a dispatch that the person may see.
///
/// # Errors
/// As [`open`].
pub async fn visible_dispatch(api: &Api, person: &Person, dispatch: &str) -> Result<(Value, Vec<u64>, u64), Problem> {
    let found = dispatch_row(api, dispatch).await?;
    if person.may_see(text(&found.0, "subject").as_deref()) { Ok(found) } else { Err(Problem::not_found()) }
}

/// Events of the ledger by their sequences, in order.
///
/// # Errors
/// `UNAVAILABLE` when the ledger cannot be read.
pub async fn messages(api: &Api, seqs: &[u64]) -> Result<Vec<super::items::LedgerMessage>, Problem> {
    let read = |seq: u64| async move {
        let page = api.pages.page(Seq(seq), 1).await.map_err(|e| Problem::new(Code::Unavailable, e))?;
        Ok::<_, Problem>(page.first().filter(|s| s.seq.0 == seq).map(items::ledger))
    };
    let found: Vec<_> = futures::stream::iter(seqs.iter().copied().map(read)).buffered(READS_MAX).collect().await;
    found.into_iter().filter_map(Result::transpose).collect()
}

async fn one_dispatch(api: &Api, person: &Person, id: u64, topic: Topic, dispatch: &str) -> Result<Opened, Problem> {
    let (row, seqs, at) = match visible_dispatch(api, person, dispatch).await {
        Ok(found) => found,
        Err(problem) => return undecided(api, person, id, topic, dispatch, problem),
    };
    let owner = Owner { subject: text(&row, "subject"), session: text(&row, "session") };
    api.hub.own(dispatch, owner.clone());
    let messages = messages(api, &seqs).await?;
    let mut events: Vec<Value> = Vec::new();
    let mut bytes = 0;
    // The newest fit; older ones are in the log, and `before` says from where on.
    let mut before = None;
    for message in messages.iter().rev() {
        for item in message.items.iter().rev() {
            bytes += item.event.len();
            if bytes > STATE_BYTES_MAX {
                before.get_or_insert(message.seq);
                continue;
            }
            events.push(serde_json::from_str(&item.event).unwrap_or_default());
        }
    }
    events.reverse();
    let state = json!({ "row": row, "events": events, "events_before": before });
    opened(id, at, &state, Feed::new(id, topic, owner.subject, at))
}

/// A dispatch that its own person has just launched and nobody has decided: nothing yet, and then what comes.
fn undecided(
    api: &Api,
    person: &Person,
    id: u64,
    topic: Topic,
    dispatch: &str,
    problem: Problem,
) -> Result<Opened, Problem> {
    let own = api.hub.owner(dispatch).is_some_and(|o| o.subject.as_deref() == Some(person.subject.as_str()));
    if !own || problem.code != "NOT_FOUND" {
        return Err(problem);
    }
    let at = since(&api.hub);
    let state = json!({ "row": null, "events": [], "events_before": null });
    opened(id, at, &state, Feed::new(id, topic, Some(person.subject.clone()), at))
}

fn turns(row: &Value) -> Vec<String> {
    let turns = row.get("turns").and_then(Value::as_array);
    turns.map(|t| t.iter().filter_map(|turn| text(turn, "dispatch")).collect()).unwrap_or_default()
}

/// A session that the person may see, and the rows of its dispatches, oldest first.
///
/// # Errors
/// As [`open`].
pub async fn session_state(api: &Api, person: &Person, session: &str) -> Result<(Value, Vec<Value>, u64), Problem> {
    let body = json!({ "id": session, "min_seq": since(&api.hub) });
    let answer = api.query("session.get", body).await.map_err(hide_prefixes)?;
    let row = answer.get("row").cloned().unwrap_or_default();
    let ours = text(&row, "session").as_deref() == Some(session) && person.may_see(text(&row, "subject").as_deref());
    if !ours {
        return Err(Problem::not_found());
    }
    let at = as_of(&answer);
    let body = json!({ "session": session, "limit": 500, "min_seq": at });
    let answer = api.query("dispatch.ls", body).await?;
    let mut rows = answer.get("rows").and_then(Value::as_array).cloned().unwrap_or_default();
    rows.reverse();
    // Rows may be newer than the session's row: events up to them are then sent again, and folding them again is safe.
    Ok((row, rows, at))
}

async fn audit(api: &Api, person: &Person, id: u64) -> Result<Opened, Problem> {
    let head = api.hub.head();
    let mut rows: Vec<String> = Vec::new();
    let mut to = head;
    // Looks back over at most ten pages for rows of a person who sees few.
    for _ in 0..10 {
        if to == 0 || rows.len() >= AUDIT_ROWS_MAX {
            break;
        }
        let from = to.saturating_sub(PAGE_MAX as u64) + 1;
        let page = api.pages.page(Seq(from), PAGE_MAX).await.map_err(|e| Problem::new(Code::Unavailable, e))?;
        let mut part: Vec<String> = Vec::new();
        for message in page.iter().filter(|s| s.seq.0 <= to).map(items::ledger) {
            let own = message.items.into_iter().filter(|i| person.may_see(i.subject.as_deref()));
            part.extend(own.map(|i| i.row));
        }
        part.append(&mut rows);
        rows = part;
        to = from - 1;
    }
    let first = rows.len().saturating_sub(AUDIT_ROWS_MAX);
    let rows: Vec<Value> = rows
        .iter()
        .skip(first)
        .filter_map(|r| serde_json::from_str::<Value>(r).ok()?.get_mut("data").map(Value::take))
        .collect();
    opened(id, head, &json!({ "rows": rows }), Feed::new(id, Topic::Audit, None, head))
}

/// The beginning of an output is its snapshot, words joined; what does not fit follows as events.
async fn open_output(
    api: &Api,
    id: u64,
    topic: Topic,
    owner: Option<String>,
    after: Option<u64>,
) -> Result<Opened, Problem> {
    let Topic::Output(dispatch) = topic.clone() else { return Err(Problem::not_found()) };
    let mut feed = Feed::new(id, topic, owner, after.unwrap_or(0));
    if after.is_some() {
        return Ok(Opened { frames: Vec::new(), feed });
    }
    let mut frames: Vec<Frame> = Vec::new();
    let (mut seq, mut bytes, mut attempt) = (0, 0, 0);
    'reading: loop {
        let page = api.output.page(dispatch.as_str(), seq, CHUNKS_MAX).await;
        let page = page.map_err(|e| Problem::new(Code::Unavailable, e))?;
        let full = page.len() == CHUNKS_MAX;
        for stored in page {
            bytes += stored.bytes.len();
            if bytes > STATE_BYTES_MAX {
                break 'reading;
            }
            seq = stored.seq;
            if let Ok(chunk) = serde_json::from_slice::<Chunk>(&stored.bytes) {
                attempt = chunk.attempt;
                chunk.frames.into_iter().for_each(|frame| items::merge(&mut frames, frame));
            }
        }
        if !full {
            break;
        }
    }
    let state = json!({ "dispatch": dispatch, "attempt": attempt, "frames": frames });
    feed.stands_at(seq);
    Ok(Opened { frames: vec![frames::snap(id, seq, &frames::state(&state))], feed })
}

/// Chunks of an output after a cursor that are not held, and how far OUTPUT was read for them; 0 when there are more.
///
/// # Errors
/// `UNAVAILABLE` when the stream cannot be read.
pub async fn older_output(api: &Api, dispatch: &str, after: u64) -> Result<(Vec<Arc<OutputItem>>, u64), Problem> {
    let heard = api.hub.last_chunk();
    let max = CHUNKS_MAX.min(EVENTS_MAX);
    let page = api.output.page(dispatch, after, max).await.map_err(|e| Problem::new(Code::Unavailable, e))?;
    let read_to = if page.len() < max { heard } else { 0 };
    Ok((page.iter().filter_map(items::output).map(Arc::new).collect(), read_to))
}
