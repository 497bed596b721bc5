//! The websocket: `/api/v1/ws`. Must never be opened for a stranger or by another site's page.

use super::connection::{self, Incoming, Wire};
use super::frames::Out;
use crate::api::Api;
use crate::auth::Person;
use crate::problem::{Details, Problem};
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use custody_contracts::ws::FRAME_BYTES_MAX;
use futures::future::BoxFuture;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};

/// Bytes that wait for the socket before a send waits too: one frame of the largest size and a little.
const WRITE_BUFFER_MAX: usize = 2 * FRAME_BYTES_MAX;

struct Socket {
    sink: SplitSink<WebSocket, Message>,
    stream: SplitStream<WebSocket>,
}

impl Wire for Socket {
    fn send(&mut self, out: Out) -> BoxFuture<'_, Result<(), ()>> {
        Box::pin(async move { self.sink.send(Message::Text(out.text.into())).await.map_err(|_| ()) })
    }

    fn recv(&mut self) -> BoxFuture<'_, Incoming> {
        Box::pin(async move {
            loop {
                match self.stream.next().await {
                    Some(Ok(Message::Text(text))) => return Incoming::Text(text.as_str().to_owned()),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Binary(_))) => return Incoming::Bad("binary"),
                    // A message over the cap ends here as an error of the protocol.
                    Some(Err(error)) if too_large(&error) => return Incoming::Bad("too large"),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Incoming::Closed,
                }
            }
        })
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let frame = CloseFrame { code: close_code::NORMAL, reason: "bye".into() };
            // It may be gone already, which is what was wanted.
            let _closed = self.sink.send(Message::Close(Some(frame))).await;
            let _flushed = self.sink.close().await;
        })
    }
}

fn too_large(error: &axum::Error) -> bool {
    error.to_string().contains("too long") || error.to_string().contains("Space limit exceeded")
}

/// Follow the log over a websocket: frames of ws.v1.
#[utoipa::path(
    get,
    path = "/api/v1/ws",
    tag = "bridge",
    responses((status = 101, description = "frames of ws.v1"), (status = 401, body = Details), (status = 403, body = Details))
)]
pub async fn ws(State(api): State<Api>, person: Person, upgrade: WebSocketUpgrade) -> Result<Response, Problem> {
    let place = api.place(&person.subject)?;
    let upgrade = upgrade
        .max_message_size(FRAME_BYTES_MAX)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_write_buffer_size(WRITE_BUFFER_MAX)
        .write_buffer_size(0);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let (sink, stream) = socket.split();
        let mut socket = Socket { sink, stream };
        connection::serve(api, person, place, &mut socket, None).await;
    }))
}
