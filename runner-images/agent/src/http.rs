//! A minimal HTTP/1.1 client: one POST on a fresh connection, the answer read as a stream. Must never connect to
//! anything but a Unix socket or this machine's own loopback, and never read an unbounded head or body.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

/// How long one read may take: a model on a slow machine reads a long prompt before its first word.
const READ_MAX: Duration = Duration::from_secs(300);
const WRITE_MAX: Duration = Duration::from_secs(30);
const CONNECT_MAX: Duration = Duration::from_secs(5);
const HEAD_BYTES_MAX: u64 = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// The largest body that is read.
pub const BODY_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Where the model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `unix:/run/gw/gw.sock`
    Unix(PathBuf),
    /// `http://127.0.0.1:8080`
    Loopback(u16),
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| path.starts_with('/')) {
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let port = text.strip_prefix("http://127.0.0.1:").map(|rest| rest.trim_end_matches('/'));
        let port = port.map(|rest| rest.strip_suffix("/v1").unwrap_or(rest));
        let port = port.and_then(|port| port.parse().ok()).filter(|port| *port != 0);
        port.map(Self::Loopback)
            .ok_or_else(|| format!("--inference is unix:/PATH or http://127.0.0.1:PORT, not {text}"))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
            Self::Loopback(port) => write!(formatter, "http://127.0.0.1:{port}"),
        }
    }
}

/// An answer whose head is read.
pub struct Response {
    /// The status.
    pub status: u16,
    /// Seconds to wait, when the server says so as a number.
    pub retry_after: Option<u64>,
    /// The body: decoded, bounded; ends with an error when the connection ends before the body does.
    pub body: Box<dyn Read>,
}

trait Stream: Read + Write {}
impl Stream for UnixStream {}
impl Stream for TcpStream {}

/// Posts a JSON body and reads the head of the answer.
///
/// Errors: the connection cannot be made, is cut, takes too long, or does not speak HTTP/1.1.
pub fn post(endpoint: &Endpoint, path: &str, body: &[u8]) -> io::Result<Response> {
    let mut stream = connect(endpoint)?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: text/event-stream\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // A server may answer and close before it has read everything; then its answer is what counts.
    let written = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).and_then(|()| stream.flush());
    match read_head(BufReader::new(stream)) {
        Err(_) if written.is_err() => Err(written.err().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())),
        answer => answer,
    }
}

fn connect(endpoint: &Endpoint) -> io::Result<Box<dyn Stream>> {
    match endpoint {
        Endpoint::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(READ_MAX))?;
            stream.set_write_timeout(Some(WRITE_MAX))?;
            Ok(Box::new(stream))
        }
        Endpoint::Loopback(port) => {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
            let stream = TcpStream::connect_timeout(&address, CONNECT_MAX)?;
            stream.set_read_timeout(Some(READ_MAX))?;
            stream.set_write_timeout(Some(WRITE_MAX))?;
            Ok(Box::new(stream))
        }
    }
}

/// Reads status line and headers; the body comes as the headers say.
fn read_head(mut reader: impl BufRead + 'static) -> io::Result<Response> {
    let mut head = (&mut reader).take(HEAD_BYTES_MAX);
    let status_line = read_text_line(&mut head)?;
    let mut parts = status_line.splitn(3, ' ');
    let status = match (parts.next(), parts.next().and_then(|code| code.parse::<u16>().ok())) {
        (Some("HTTP/1.1" | "HTTP/1.0"), Some(status)) => status,
        _ => return Err(invalid("the answer is not HTTP/1.1")),
    };
    let (mut length, mut chunked, mut retry_after) = (None, false, None);
    for count in 0.. {
        let line = read_text_line(&mut head)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| invalid("a header without a colon"))?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = Some(value.parse::<u64>().map_err(|_| invalid("a bad content-length"))?),
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            "retry-after" => retry_after = value.parse().ok(),
            _ if count >= HEADERS_MAX => return Err(invalid("too many headers")),
            _ => {}
        }
    }
    let body: Box<dyn Read> = match (chunked, length) {
        (true, _) => Box::new(Chunked { reader, left: 0, state: ChunkState::Size, total: 0 }),
        (false, Some(length)) if length > BODY_BYTES_MAX => return Err(invalid("the answer is too large")),
        (false, Some(left)) => Box::new(Exactly { reader, left }),
        (false, None) => Box::new(reader.take(BODY_BYTES_MAX)),
    };
    Ok(Response { status, retry_after, body })
}

fn read_text_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut bytes = Vec::new();
    reader.read_until(b'\n', &mut bytes)?;
    if bytes.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    String::from_utf8(bytes).map_err(|_| invalid("a head that is not text"))
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// A body of a length that was announced.
struct Exactly<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let count = (&mut self.reader).take(self.left).read(buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// A chunked body (RFC 9112, 7.1). Extensions and trailers are read over.
struct Chunked<R> {
    reader: R,
    left: u64,
    state: ChunkState,
    total: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ChunkState {
    Size,
    Data,
    Done,
}

impl<R: BufRead> Chunked<R> {
    fn next_size(&mut self) -> io::Result<()> {
        let mut limited = (&mut self.reader).take(HEAD_BYTES_MAX);
        let line = read_text_line(&mut limited)?;
        let digits = line.split(';').next().unwrap_or("").trim();
        self.left = u64::from_str_radix(digits, 16).map_err(|_| invalid("a bad chunk size"))?;
        self.total = self.total.saturating_add(self.left);
        if self.total > BODY_BYTES_MAX {
            return Err(invalid("the answer is too large"));
        }
        if self.left > 0 {
            self.state = ChunkState::Data;
            return Ok(());
        }
        while !read_text_line(&mut limited)?.is_empty() {}
        self.state = ChunkState::Done;
        Ok(())
    }
}

impl<R: BufRead> Read for Chunked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.state == ChunkState::Size {
            self.next_size()?;
        }
        if self.state == ChunkState::Done {
            return Ok(0);
        }
        let count = (&mut self.reader).take(self.left).read(buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        if self.left == 0 {
            if !read_text_line(&mut (&mut self.reader).take(2))?.is_empty() {
                return Err(invalid("a chunk without its end"));
            }
            self.state = ChunkState::Size;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::io::Cursor;

    #[rstest]
    #[case::unix("unix:/run/gw/gw.sock", Some(Endpoint::Unix("/run/gw/gw.sock".into())))]
    #[case::loopback("http://127.0.0.1:8080", Some(Endpoint::Loopback(8080)))]
    #[case::loopback_v1("http://127.0.0.1:8080/v1/", Some(Endpoint::Loopback(8080)))]
    #[case::relative_socket("unix:gw.sock", None)]
    #[case::another_host("http://example.org:80", None)]
    #[case::looks_like_loopback("http://127.0.0.1:80@example.org", None)]
    #[case::tls("https://127.0.0.1:443", None)]
    #[case::no_port("http://127.0.0.1:0", None)]
    fn endpoints(#[case] text: &str, #[case] expected: Option<Endpoint>) {
        assert_eq!(text.parse::<Endpoint>().ok(), expected);
    }

    fn read(answer: &'static str, capacity: usize) -> io::Result<(u16, Option<u64>, String)> {
        let mut response = read_head(BufReader::with_capacity(capacity, Cursor::new(answer)))?;
        let mut text = String::new();
        response.body.read_to_string(&mut text)?;
        Ok((response.status, response.retry_after, text))
    }

    #[rstest]
    #[case::length("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", 200, None, "abc")]
    #[case::to_the_end("HTTP/1.1 200 OK\r\n\r\nabc", 200, None, "abc")]
    #[case::chunked(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
        200,
        None,
        "abc0123456789"
    )]
    #[case::trailer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\n\r\n", 200, None, "a")]
    #[case::retry_after("HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", 503, Some(7), "")]
    #[case::retry_after_date("HTTP/1.1 503 No\r\nRetry-After: Fri, 31 Dec\r\nContent-Length: 0\r\n\r\n", 503, None, "")]
    fn reads(#[case] answer: &'static str, #[case] status: u16, #[case] retry_after: Option<u64>, #[case] body: &str) {
        for capacity in 1..20 {
            assert_eq!(read(answer, capacity).unwrap(), (status, retry_after, body.to_owned()), "buffer of {capacity}");
        }
    }

    #[rstest]
    #[case::nothing("")]
    #[case::not_http("SSH-2.0-x\r\n\r\n")]
    #[case::cut_head("HTTP/1.1 200 OK\r\nContent-Le")]
    #[case::cut_length("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")]
    #[case::cut_chunk("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc")]
    #[case::no_last_chunk("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")]
    #[case::bad_size("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")]
    #[case::huge_size("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n")]
    #[case::huge_length("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")]
    fn refuses(#[case] answer: &'static str) {
        assert!(read(answer, 8).is_err());
    }

    #[test]
    fn a_head_without_end_is_refused() {
        let endless = Cursor::new("HTTP/1.1 200 OK\r\n").chain(io::repeat(b'x'));
        assert!(read_head(BufReader::new(endless)).is_err());
    }
}
