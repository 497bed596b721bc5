//! The way from a box on another machine to its dispatch's socket: TLS, one line with the token of the dispatch, and
//! then the bytes of the socket itself.
//!
//! The link in the box's Pod listens on a socket and opens one connection here for each that it takes; the gateway joins
//! it to the socket that it has open for that dispatch, and everything behind that is as on one machine. Must never
//! answer before the token was checked, and never join a dispatch that is not running.

mod client;
mod server;
#[cfg(test)]
mod tests;

pub use client::{LinkClient, LinkClientError};
pub use server::{LinkServer, run};

/// What a link says first, before its token.
const HELLO: &str = "custody-link/1 ";
/// The longest first line.
const HELLO_BYTES_MAX: usize = custody_trust::token::TOKEN_BYTES_MAX + HELLO.len() + 1;
/// The longest answer to it.
const ANSWER_BYTES_MAX: usize = 128;

/// Reads one line without its end, byte by byte: what comes after belongs to the box.
async fn line<R: tokio::io::AsyncRead + Unpin>(reader: &mut R, bytes_max: usize) -> std::io::Result<String> {
    use tokio::io::AsyncReadExt;
    let mut bytes = Vec::new();
    loop {
        let byte = reader.read_u8().await?;
        if byte == b'\n' {
            return String::from_utf8(bytes).map_err(|_| std::io::Error::other("the first line is not text"));
        }
        if bytes.len() >= bytes_max {
            return Err(std::io::Error::other("the first line is too long"));
        }
        bytes.push(byte);
    }
}
