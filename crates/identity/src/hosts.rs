//! Requests of gRPC's C core (Python, C++, Ruby), which says the socket's path where others say a host: `:authority` is
//! `run%2Fidentity.sock`, which is no authority (RFC 3986, 3.2), and the server below would end the request with
//! PROTOCOL_ERROR. What a request says there is put in a host's form before the server reads it; nothing else is touched,
//! and nothing is decided by it: who calls is what the kernel says.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// What HTTP/2's connection begins with. Source: RFC 9113, 3.4.
const PREFACE_BYTES: usize = 24;
/// The head of a frame. Source: RFC 9113, 4.1.
const HEAD_BYTES: usize = 9;
/// The largest frame whose headers are looked into: HTTP/2's own least maximum. A larger one goes on as it came.
const FRAME_BYTES_MAX: usize = 16_384;
const HEADERS: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;
/// `:authority` in HPACK's static table. Source: RFC 7541, appendix A.
const AUTHORITY: usize = 1;
const NAME: &[u8] = b":authority";
/// What stands there afterwards. Not longer than what it stands for, so that the server's table of headers drops no entry
/// that the client still counts on.
const HOST: &[u8] = b"api";

/// What came from a client, and what of it goes on to the server.
#[derive(Debug)]
pub(crate) struct Hosts {
    came: Vec<u8>,
    ready: Vec<u8>,
    given: usize,
    /// Bytes that go on as they come.
    pass: usize,
}

impl Hosts {
    pub(crate) fn new() -> Hosts {
        Hosts { came: Vec::new(), ready: Vec::new(), given: 0, pass: PREFACE_BYTES }
    }

    /// Reads from a client as [`AsyncRead::poll_read`] does.
    pub(crate) fn poll_read<R: AsyncRead + Unpin>(
        &mut self,
        from: &mut R,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.given == self.ready.len() {
            let mut chunk = [0; 4_096];
            let mut read = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut *from).poll_read(cx, &mut read))?;
            self.ready.clear();
            self.given = 0;
            if read.filled().is_empty() {
                // The end; what is there of a frame is the server's to judge.
                self.ready.append(&mut self.came);
                if self.ready.is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
            self.came.extend_from_slice(read.filled());
            self.go_on();
        }
        let count = buf.remaining().min(self.ready.len() - self.given);
        buf.put_slice(&self.ready[self.given..self.given + count]);
        self.given += count;
        Poll::Ready(Ok(()))
    }

    /// Moves on what is complete.
    fn go_on(&mut self) {
        loop {
            let count = self.pass.min(self.came.len());
            self.ready.extend(self.came.drain(..count));
            self.pass -= count;
            if self.pass > 0 || self.came.len() < HEAD_BYTES {
                return;
            }
            let length = self.came[..3].iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
            let whole = HEAD_BYTES + length;
            if self.came[3] != HEADERS || self.came[4] & END_HEADERS == 0 || length > FRAME_BYTES_MAX {
                self.pass = whole;
                continue;
            }
            if self.came.len() < whole {
                return;
            }
            let frame: Vec<u8> = self.came.drain(..whole).collect();
            self.ready.extend(with_a_host(&frame).unwrap_or(frame));
        }
    }
}

/// A frame of headers with a host in `:authority`; `None` where it has none, or is no such frame.
fn with_a_host(frame: &[u8]) -> Option<Vec<u8>> {
    let (head, body) = frame.split_at_checked(HEAD_BYTES)?;
    let flags = head[4];
    let (padding, before) = match flags & PADDED {
        0 => (0, 0),
        _ => (usize::from(*body.first()?), 1),
    };
    let before = before + if flags & PRIORITY == 0 { 0 } else { 5 };
    let block = body.get(before..body.len().checked_sub(padding)?)?;
    let place = authority(block)?;
    let mut out = Vec::with_capacity(frame.len());
    out.extend_from_slice(&body[..before]);
    out.extend_from_slice(&block[..place.start]);
    out.push(u8::try_from(HOST.len()).ok()?);
    out.extend_from_slice(HOST);
    out.extend_from_slice(&block[place.end..]);
    out.extend_from_slice(&body[body.len() - padding..]);
    let length = u32::try_from(out.len()).ok()?.to_be_bytes();
    Some([&length[1..], &head[3..], &out].concat())
}

/// Where the text of `:authority` stands in a block of headers, with its length, when it stands there in full. Source: RFC
/// 7541, sections 5 and 6.
fn authority(block: &[u8]) -> Option<std::ops::Range<usize>> {
    let mut at = 0;
    while let Some(&first) = block.get(at) {
        let bits = match first {
            0x80.. => 7,
            0x40.. => 6,
            0x20.. => 5,
            _ => 4,
        };
        let index = number(block, &mut at, bits)?;
        // An entry of a table, or a size of it, is all there.
        if matches!(first, 0x80.. | 0x20..0x40) {
            continue;
        }
        let mut ours = index == AUTHORITY;
        if index == 0 {
            // In plain letters, as the C core writes it: as a code its first bit would be set, and its letters others.
            let length = number(block, &mut at, 7)?;
            let end = at.checked_add(length)?;
            ours = block.get(at..end)? == NAME;
            at = end;
        }
        let start = at;
        let length = number(block, &mut at, 7)?;
        at = at.checked_add(length)?;
        if ours && length >= HOST.len() && at <= block.len() {
            return Some(start..at);
        }
    }
    None
}

/// A number of HPACK in the low `bits` of a byte and those that follow. Source: RFC 7541, 5.1.
fn number(block: &[u8], at: &mut usize, bits: u32) -> Option<usize> {
    let most = (1 << bits) - 1;
    let mut value = usize::from(*block.get(*at)?) & most;
    *at += 1;
    if value < most {
        return Some(value);
    }
    // Four bytes more are beyond every frame.
    for shift in [0, 7, 14, 21] {
        let byte = *block.get(*at)?;
        *at += 1;
        value += usize::from(byte & 127) << shift;
        if byte < 128 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn frame(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], body].concat()
    }

    /// RFC 7541, C.3.1 and C.4.1: a request for www.example.com, plain and in Huffman's code.
    const PLAIN: &[u8] = b"\x82\x86\x84\x41\x0fwww.example.com";
    const CODED: &[u8] = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
    const AFTER: &[u8] = b"\x82\x86\x84\x41\x03api";

    #[rstest]
    #[case::plain(PLAIN, Some(AFTER))]
    #[case::coded(CODED, Some(AFTER))]
    #[case::not_kept(b"\x82\x01\x0fwww.example.com\x84", Some(b"\x82\x01\x03api\x84".as_slice()))]
    #[case::never_kept(b"\x11\x0fwww.example.com", Some(b"\x11\x03api".as_slice()))]
    #[case::after_a_name_of_its_own(b"\x40\x01a\x01b\x41\x03xyz", Some(b"\x40\x01a\x01b\x41\x03api".as_slice()))]
    #[case::by_its_name(b"@\x05:path\x02/F@\x0a:authority\x11tmp%2Fcs%2Fd.sock\x83", Some(b"@\x05:path\x02/F@\x0a:authority\x03api\x83".as_slice()))]
    #[case::another_name(b"@\x0a:authoritx\x03xyz", None)]
    #[case::a_name_cut_off(b"@\x0a:auth", None)]
    #[case::after_a_new_size(b"\x3f\xe1\x1f\x41\x03xyz", Some(b"\x3f\xe1\x1f\x41\x03api".as_slice()))]
    #[case::known_already(b"\x82\x86\x84\xbe", None)]
    #[case::shorter_than_a_host(b"\x82\x41\x02ab", None)]
    #[case::cut_off(b"\x82\x41\x0fwww", None)]
    #[case::a_length_without_end(b"\x41\x7f\xff\xff\xff\xff\xff", None)]
    #[case::nothing(b"", None)]
    fn what_a_request_says_of_the_host_is_a_host(#[case] block: &[u8], #[case] expected: Option<&[u8]>) {
        let made = |block: &[u8]| {
            let padded = [&[2, 0, 0, 0, 0, 9], block, &[0, 0]].concat();
            (frame(HEADERS, END_HEADERS, block), frame(HEADERS, END_HEADERS | PADDED | PRIORITY, &padded))
        };
        let (bare, padded) = made(block);
        let expected = expected.map(made);
        assert_eq!(with_a_host(&bare), expected.clone().map(|both| both.0));
        assert_eq!(with_a_host(&padded), expected.map(|both| both.1));
    }

    #[rstest]
    #[case::padding_beyond_the_frame(&[200, 0x41, 3, b'x', b'y', b'z'], PADDED)]
    #[case::no_room_for_the_priority(&[0, 0], PRIORITY)]
    #[case::no_padding_at_all(&[], PADDED)]
    fn a_frame_that_is_none_is_the_servers_to_refuse(#[case] body: &[u8], #[case] flags: u8) {
        assert_eq!(with_a_host(&frame(HEADERS, END_HEADERS | flags, body)), None);
    }

    /// In pieces of every size, with what is not headers, headers in two frames and one that is too large between.
    #[rstest]
    #[case::byte_by_byte(1)]
    #[case::some(7)]
    #[case::all(100_000)]
    #[tokio::test]
    async fn all_else_goes_on_as_it_came(#[case] piece: usize) {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let large = frame(HEADERS, END_HEADERS, &[0x82; FRAME_BYTES_MAX + 1]);
        let around = |block: &[u8]| {
            let frames = [
                preface.clone(),
                frame(4, 0, &[0; 6]),
                frame(HEADERS, END_HEADERS, block),
                frame(0, 1, &[1; 9_000]),
                frame(HEADERS, 0, PLAIN),
                large.clone(),
                frame(HEADERS, END_HEADERS, block),
            ];
            [frames.concat(), b"\0\0\x09\x01\x04".to_vec()].concat()
        };
        let (mut client, mut server) = tokio::io::duplex(64);
        let sent = around(CODED);
        let sending = tokio::spawn(async move {
            for bytes in sent.chunks(piece) {
                client.write_all(bytes).await.unwrap();
            }
        });
        let (mut hosts, mut heard) = (Hosts::new(), Vec::new());
        loop {
            let mut buffer = [0; 50];
            let mut read = ReadBuf::new(&mut buffer);
            std::future::poll_fn(|cx| hosts.poll_read(&mut server, cx, &mut read)).await.unwrap();
            if read.filled().is_empty() {
                break;
            }
            heard.extend_from_slice(read.filled());
        }
        sending.await.unwrap();
        assert_eq!(heard, around(AFTER));
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    }
}
