//! Listening for a box's end: one call whose answer begins when the engine listens and ends when the box has. `bollard`
//! 0.21.1 hands such an answer out only once it is whole, so nobody could tell from it when the engine has begun; this is
//! that one call, on a connection of its own. Must never wait for the beginning of an answer by itself: its caller does.

use crate::failure::words;
use custody_ports::containers::{BoxError, End, Listening};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// Bytes of an answer's head, and of the words of a refusal.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A connection to the engine.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Asks, and returns when the engine listens. Source: Engine API, `POST /containers/{id}/wait`; since 1.30 its answer's
/// head is sent as soon as the wait is registered (moby, `postContainersWait`).
///
/// # Errors
/// [`BoxError::NoSuchBox`]; [`BoxError::Refused`] for another no; [`BoxError::Unavailable`] for everything else.
pub(crate) async fn listen(host: &str, name: &str, end: End) -> Result<Listening<'static>, BoxError> {
    let away = |error: std::io::Error| BoxError::Unavailable(format!("wait at {host}: {error}"));
    let mut wire = connect(host).await.map_err(away)?;
    let condition = match end {
        End::Next => "next-exit",
        End::Any => "not-running",
    };
    let request = format!(
        "POST /containers/{name}/wait?condition={condition} HTTP/1.1\r\nHost: engine\r\nContent-Length: 0\r\n\r\n"
    );
    wire.write_all(request.as_bytes()).await.map_err(away)?;
    let mut answer = Vec::new();
    let head = loop {
        if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if answer.len() >= HEAD_BYTES_MAX || wire.read_buf(&mut answer).await.map_err(away)? == 0 {
            return Err(BoxError::Unavailable(format!("wait at {host}: its answer has no head")));
        }
    };
    match status(&answer) {
        Some(200) => {}
        Some(404) => return Err(BoxError::NoSuchBox(name.to_owned())),
        code => {
            // As far as they came with the head: the code says enough.
            let said = words(&String::from_utf8_lossy(answer.get(head..).unwrap_or_default()));
            return match code {
                Some(400..500) => Err(BoxError::Refused(said)),
                _ => Err(BoxError::Unavailable(format!("wait at {host}: status {}: {said}", code.unwrap_or(0)))),
            };
        }
    }
    // The first byte of the body is the end's; so is the connection's own end, after which the caller looks.
    let ended = answer.len() > head;
    Ok(Box::pin(async move {
        if !ended && let Err(error) = wire.read(&mut [0; 64]).await {
            tracing::debug!(%error, "the engine no longer tells of an end");
        }
    }))
}

async fn connect(host: &str) -> std::io::Result<Box<dyn Wire>> {
    match host.strip_prefix("unix://") {
        Some(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        None => Ok(Box::new(TcpStream::connect(host.trim_start_matches("tcp://")).await?)),
    }
}

/// The code of `HTTP/1.1 200 OK`. Source: RFC 9112, 4.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
}
