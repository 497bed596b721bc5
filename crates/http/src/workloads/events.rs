//! Changes of one workload: a list of what was, or with `Accept: text/event-stream` a stream of it and of what comes,
//! until its container is gone. An event's id is its place in the ledger; `Last-Event-ID` goes on after one. Must never
//! leave a change out: each turn reads the fold anew.

use super::auth::admit;
use super::face::Face;
use super::view::Workload;
use crate::problem::{Code, Problem};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use custody_contracts::workload::{RuntimeEvent, WorkloadState};
use custody_trust::token::Scope;
use futures::stream::{self, Stream};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

/// The longest that one stream is open; its reader comes again and goes on where it was.
const STREAM_MAX: Duration = Duration::from_secs(3_600);
/// How often the engine is asked whether a container that ended is gone.
const GONE_EVERY: Duration = Duration::from_millis(250);
/// Comments that keep the connection open.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Answers `GET /workloads/{id}/events`.
pub(super) async fn events(
    State(face): State<Face>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = admit(&face, &headers, Scope::Read)?;
    let workload = face.find(&id, caller.subject.as_str()).await?;
    let wants = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !wants(header::ACCEPT).contains("text/event-stream") {
        let mut all: Vec<RuntimeEvent> = workload.changes.iter().map(|c| c.event.clone()).collect();
        if workload.state == WorkloadState::Stopped && face.gone(&workload).await {
            all.push(workload.destroyed(face.clock.now()));
        }
        return Ok(Json(all).into_response());
    }
    let after = headers.get("last-event-id").and_then(|v| v.to_str().ok()?.parse().ok()).unwrap_or_default();
    let permit = face.streams.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Problem::new(Code::TooManyStreams, "every stream is taken; ask for the list"))?;
    let changes = face.changes();
    let until = Instant::now() + STREAM_MAX;
    let state = Streaming {
        face,
        id,
        subject: caller.subject.to_string(),
        after,
        changes,
        until,
        over: false,
        _permit: permit,
    };
    Ok(Sse::new(streamed(state)).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response())
}

struct Streaming {
    face: Face,
    id: String,
    subject: String,
    /// The last change that was sent.
    after: u64,
    changes: watch::Receiver<u64>,
    until: Instant,
    over: bool,
    _permit: OwnedSemaphorePermit,
}

fn streamed(state: Streaming) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(state, async |mut state| {
        let event = state.next().await?;
        Some((Ok(event), state))
    })
}

fn sent(event: &RuntimeEvent, id: Option<u64>) -> Option<Event> {
    let made = Event::default().event("state").json_data(event).ok()?;
    Some(match id {
        Some(seq) => made.id(seq.to_string()),
        None => made,
    })
}

impl Streaming {
    async fn next(&mut self) -> Option<Event> {
        while !self.over && Instant::now() < self.until {
            // Marked before the look: a change that comes in between wakes the wait below.
            self.changes.borrow_and_update();
            let workload = self.face.find(&self.id, &self.subject).await.ok()?;
            if let Some(change) = workload.changes.iter().find(|c| c.seq > self.after) {
                self.after = change.seq;
                return sent(&change.event, Some(change.seq));
            }
            if workload.state != WorkloadState::Stopped {
                let _late = tokio::time::timeout_at(self.until, self.changes.changed()).await;
                continue;
            }
            return self.until_gone(&workload).await;
        }
        None
    }

    async fn until_gone(&mut self, workload: &Workload) -> Option<Event> {
        while Instant::now() < self.until {
            if self.face.gone(workload).await {
                self.over = true;
                return sent(&workload.destroyed(self.face.clock.now()), None);
            }
            tokio::time::sleep(GONE_EVERY).await;
        }
        None
    }
}
