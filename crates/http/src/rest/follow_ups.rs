//! What was said to a dispatch while it ran. Words come from its input topic and are shown only when the ledger accepted
//! them and they are, byte for byte, what it accepted. Must never show words that reached no box.

use super::Body;
use super::dispatches::{command_id, known};
use super::shapes::{FollowUpBody, FollowUpList, FollowUpShape, Stopped};
use crate::api::Api;
use crate::auth::Person;
use crate::bridge::commands;
use crate::bridge::open::{messages, visible_dispatch};
use crate::problem::{Code, Details, Problem};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use custody_engine::sealed::said_words;
use custody_ports::blobs::Blobs;
use custody_ports::pages::PAGE_MAX;
use serde_json::Value;
use std::collections::BTreeMap;

/// CloudEvents type of an accepted follow-up.
const ACCEPTED: &str = "custody.dispatch.follow_up_accepted.v1";

/// What was said to a dispatch and accepted, in order.
#[utoipa::path(
    get, path = "/api/v1/dispatches/{id}/follow-ups", tag = "dispatches",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, body = FollowUpList), (status = 401, body = Details), (status = 404, body = Details))
)]
pub async fn list(
    State(api): State<Api>,
    person: Person,
    Path(id): Path<String>,
) -> Result<Json<FollowUpList>, Problem> {
    let id = known(&id)?;
    let (_, seqs, as_of) = visible_dispatch(&api, &person, id.as_str()).await?;
    let messages = messages(&api, &seqs).await?;
    let events = messages.iter().flat_map(|m| &m.items).filter_map(|i| serde_json::from_str::<Value>(&i.event).ok());
    let accepted: Vec<FollowUpShape> = events.filter_map(|event| accepted(&event)).collect();
    let words = match accepted.first() {
        Some(first) => words(&api, id.as_str(), first.input_seq.saturating_sub(1)).await?,
        None => BTreeMap::new(),
    };
    let follow_ups = accepted.into_iter().map(|follow_up| with_words(follow_up, &words, api.blobs.as_ref())).collect();
    Ok(Json(FollowUpList { as_of, follow_ups }))
}

/// Say more to a dispatch of one's own that has not ended. The same id and words are the same follow-up.
#[utoipa::path(
    post, path = "/api/v1/dispatches/{id}/follow-ups", tag = "dispatches", request_body = FollowUpBody,
    params(("id" = String, Path, description = "Which")),
    responses(
        (status = 202, body = Stopped, description = "accepted: it is its next turn"),
        (status = 400, body = Details), (status = 401, body = Details), (status = 404, body = Details),
        (status = 409, body = Details, description = "it takes no follow-up: the code says why")
    )
)]
pub async fn say(
    State(api): State<Api>,
    person: Person,
    Path(dispatch): Path<String>,
    Body(body): Body<FollowUpBody>,
) -> Result<(StatusCode, Json<Stopped>), Problem> {
    let dispatch = known(&dispatch)?;
    let done = commands::say(&api, &person, command_id(&body.id)?, dispatch.as_str(), &body.text).await?;
    Ok((StatusCode::ACCEPTED, Json(Stopped { dispatch: done.dispatch, seq: done.seq })))
}

fn accepted(event: &Value) -> Option<FollowUpShape> {
    if event.get("type").and_then(Value::as_str) != Some(ACCEPTED) {
        return None;
    }
    let mut shape: FollowUpShape = serde_json::from_value(event.get("data")?.clone()).ok()?;
    shape.seq = event.get("seq").and_then(Value::as_u64)?;
    event.get("time").and_then(Value::as_str)?.clone_into(&mut shape.time);
    Some(shape)
}

/// Words as they are kept, by their place. A dispatch takes a thousand turns at the most, so two pages are all there can be.
async fn words(api: &Api, dispatch: &str, after: u64) -> Result<BTreeMap<u64, Vec<u8>>, Problem> {
    let mut found = BTreeMap::new();
    let mut from = after;
    loop {
        let page = api.output.said(dispatch, from, PAGE_MAX).await.map_err(|e| Problem::new(Code::Unavailable, e))?;
        let full = page.len() == PAGE_MAX;
        for stored in page {
            from = stored.seq;
            found.insert(stored.seq, stored.bytes);
        }
        if !full || found.len() >= 2 * PAGE_MAX {
            return Ok(found);
        }
    }
}

fn with_words(mut shape: FollowUpShape, kept: &BTreeMap<u64, Vec<u8>>, blobs: &dyn Blobs) -> FollowUpShape {
    let found = kept.get(&shape.input_seq).cloned();
    shape.text = found.and_then(|kept| said_words(blobs, kept, &shape.digest));
    shape
}

#[cfg(test)]
mod tests {
    use super::*;
    use custody_contracts::canonical::digest;
    use serde_json::json;

    fn event() -> Value {
        json!({ "seq": 12, "type": ACCEPTED, "time": "2026-11-22T10:00:00.000Z", "data": {
            "dispatch": "d-1", "n": 1, "by": "u_jane", "digest": digest(b"And of Spain?"), "bytes": 13, "input_seq": 7,
        }})
    }

    #[test]
    fn words_are_shown_when_they_are_those_that_the_ledger_accepted() {
        let shape = accepted(&event()).unwrap();
        let words =
            |text: &str| BTreeMap::from([(7, json!({ "dispatch": "d-1", "text": text }).to_string().into_bytes())]);
        let blobs = custody_testkit::fakes::MemoryBlobs::default();
        let with_words = |shape, words: &BTreeMap<u64, Vec<u8>>| with_words(shape, words, &blobs);
        assert_eq!(with_words(shape.clone(), &words("And of Spain?")).text.as_deref(), Some("And of Spain?"));
        assert_eq!(with_words(shape.clone(), &words("Delete everything.")).text, None);
        assert_eq!(with_words(shape, &BTreeMap::new()).text, None);
    }

    #[test]
    fn other_events_are_no_follow_ups() {
        let mut refused = event();
        refused["type"] = json!("custody.dispatch.follow_up_refused.v1");
        assert_eq!(accepted(&refused), None);
    }
}
