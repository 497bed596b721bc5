//! The same frames over server-sent events, one topic a stream: `/api/v1/events`. For proxies that break websockets,
//! and for curl. Must never differ from the websocket in what it shows.

use super::connection::{self, Incoming, Wire};
use super::frames::Out;
use super::topic::Topic;
use crate::api::Api;
use crate::auth::Person;
use crate::problem::{Code, Details, Problem};
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::future::BoxFuture;
use serde::Deserialize;
use tokio::sync::mpsc;

/// What to follow.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Follow {
    /// A topic of ws.v1, for example `dispatches` or `output/d-7f3a`.
    topic: String,
    /// The last sequence that the client has; the header `Last-Event-ID` wins over it.
    after: Option<u64>,
}

struct Events(mpsc::Sender<Result<Bytes, std::convert::Infallible>>);

impl Wire for Events {
    fn send(&mut self, out: Out) -> BoxFuture<'_, Result<(), ()>> {
        Box::pin(async move {
            let id = out.cursor.map_or_else(String::new, |cursor| format!("id: {cursor}\n"));
            let text = [&id, "data: ", &out.text, "\n\n"].concat();
            self.0.send(Ok(Bytes::from(text))).await.map_err(|_| ())
        })
    }

    fn recv(&mut self) -> BoxFuture<'_, Incoming> {
        Box::pin(async move {
            self.0.closed().await;
            Incoming::Closed
        })
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// Follow one topic over server-sent events: frames of ws.v1.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    tag = "bridge",
    params(Follow, ("Last-Event-ID" = Option<u64>, Header, description = "The cursor to go on from")),
    responses(
        (status = 200, description = "frames of ws.v1", content_type = "text/event-stream"),
        (status = 400, body = Details), (status = 401, body = Details), (status = 404, body = Details)
    )
)]
pub async fn events(
    State(api): State<Api>,
    person: Person,
    Query(follow): Query<Follow>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let topic = Topic::parse(&follow.topic).ok_or_else(Problem::not_found)?;
    let last = match headers.get("last-event-id") {
        None => None,
        Some(text) => {
            let seq = text.to_str().ok().and_then(|t| t.parse().ok());
            Some(seq.ok_or_else(|| Problem::new(Code::Invalid, "Last-Event-ID is not a sequence"))?)
        }
    };
    let place = api.place(&person.subject)?;
    // One frame waits for its reader, and the next one for that.
    let (sender, mut receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut wire = Events(sender);
        connection::serve(api, person, place, &mut wire, Some((topic, last.or(follow.after)))).await;
    });
    let stream = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
    let mut response = Body::from_stream(stream).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}
