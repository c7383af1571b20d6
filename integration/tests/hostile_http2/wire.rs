//! Frames and header blocks as bytes (RFC 9113, RFC 7541), and a connection that carries whatever it is given.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(10);

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block of literals that are not indexed and not compressed (RFC 7541 6.2.2).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        text(&mut bytes, name.as_bytes());
        text(&mut bytes, value.as_bytes());
    }
    bytes
}

fn text(bytes: &mut Vec<u8>, text: &[u8]) {
    match text.len() {
        short @ ..127 => bytes.push(short as u8),
        long => {
            bytes.push(127);
            let mut rest = long - 127;
            while rest >= 128 {
                bytes.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            bytes.push(rest as u8);
        }
    }
    bytes.extend(text);
}

/// A head, in as many frames as it needs.
pub(crate) fn head(stream: u32, fields: &[(&str, &str)], flags: u8) -> Vec<u8> {
    let block = block(fields);
    let pieces: Vec<&[u8]> = if block.is_empty() { vec![&[]] } else { block.chunks(16_384).collect() };
    let mut bytes = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        let last = if at + 1 == pieces.len() { END_HEADERS } else { 0 };
        let (kind, flags) = if at == 0 { (HEADERS, flags | last) } else { (CONTINUATION, last) };
        bytes.extend(frame(kind, flags, stream, piece));
    }
    bytes
}

/// What a peer says at the start: the preface where it is a client's, empty SETTINGS, and yes to the other's.
pub(crate) fn hello(client: bool) -> Vec<u8> {
    let preface = if client { PREFACE } else { b"" };
    [preface, &frame(SETTINGS, 0, 0, &[]), &frame(SETTINGS, ACK, 0, &[])].concat()
}

/// How a stream or its connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A response's head.
    Status(u16),
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY with this code, other than 0.
    GoAway(u32),
    /// Closed without a word.
    Closed,
    /// Nothing for a long time.
    Silent,
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection to a proxy.
pub(crate) struct Raw {
    io: Box<dyn Io>,
    read: Vec<u8>,
    /// Ends of streams that were read while another was waited for.
    other: Vec<(u32, Outcome)>,
}

impl Raw {
    /// In plaintext.
    pub(crate) async fn plain(address: SocketAddr) -> Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        Ok(Self { io: Box::new(tcp), read: Vec::new(), other: Vec::new() })
    }

    /// Over mTLS.
    pub(crate) async fn tls(address: SocketAddr, config: Arc<ClientConfig>) -> Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::IpAddress(address.ip().into());
        let tls = TlsConnector::from(config).connect(name, tcp).await?;
        Ok(Self { io: Box::new(tls), read: Vec::new(), other: Vec::new() })
    }

    /// Sends all of it; an error is the other end's answer.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.io.write_all(bytes).await?;
        self.io.flush().await
    }

    /// Kind, flags, stream and payload of the next frame. `None`: closed.
    pub(crate) async fn frame(&mut self) -> Result<Option<(u8, u8, u32, Vec<u8>)>> {
        loop {
            if let [a, b, c, kind, flags, s0, s1, s2, s3, ..] = self.read[..] {
                let whole = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
                if self.read.len() >= whole {
                    let payload = self.read.get(9..whole).context("a frame has a payload")?.to_vec();
                    self.read.drain(..whole);
                    return Ok(Some((kind, flags, u32::from_be_bytes([s0, s1, s2, s3]), payload)));
                }
            }
            let mut space = vec![0; 16_384];
            match self.io.read(&mut space).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(n) => self.read.extend(space.get(..n).unwrap_or_default()),
            }
        }
    }

    /// What becomes of `stream`.
    pub(crate) async fn outcome(&mut self, stream: u32) -> Result<Outcome> {
        match tokio::time::timeout(PATIENCE, self.listen(stream)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Ok(Outcome::Silent),
        }
    }

    /// The next word on `stream`, where several are open; words on others are kept for when they are asked for.
    /// Heads after a connection's first are not read: any is a 200.
    pub(crate) async fn outcome_of(&mut self, stream: u32) -> Result<Outcome> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.other.iter().position(|(other, _)| *other == stream) {
                return Ok(self.other.remove(at).1);
            }
            let Ok(frame) = tokio::time::timeout_at(deadline, self.frame()).await else {
                return Ok(Outcome::Silent);
            };
            match frame? {
                Some((HEADERS, _, other, _)) => self.other.push((other, Outcome::Status(200))),
                Some((RST_STREAM, _, other, payload)) => {
                    self.other.push((other, Outcome::Reset(number(&payload, 0))));
                }
                Some((GOAWAY, _, _, payload)) if number(&payload, 4) != 0 => {
                    return Ok(Outcome::GoAway(number(&payload, 4)));
                }
                Some(_) => {}
                None => return Ok(Outcome::Closed),
            }
        }
    }

    async fn listen(&mut self, wanted: u32) -> Result<Outcome> {
        while let Some((kind, _, stream, payload)) = self.frame().await? {
            match kind {
                HEADERS if stream == wanted => return Ok(Outcome::Status(status(&payload)?)),
                RST_STREAM if stream == wanted => return Ok(Outcome::Reset(number(&payload, 0))),
                GOAWAY if number(&payload, 4) != 0 => return Ok(Outcome::GoAway(number(&payload, 4))),
                _ => {}
            }
        }
        Ok(Outcome::Closed)
    }

    /// Sends piece after piece until the other end wants no more, and says how it said so and after how many pieces.
    pub(crate) async fn flood(
        self,
        pieces: impl Iterator<Item = Vec<u8>> + Send,
    ) -> Result<(Outcome, usize)> {
        let (mut from, mut to) = tokio::io::split(self.io);
        let listening = tokio::spawn(async move {
            let mut all = Vec::new();
            // A reset of the connection ends it as well as a proper end.
            let _ended = from.read_to_end(&mut all).await;
            all
        });
        let mut sent = 0;
        for piece in pieces {
            if to.write_all(&piece).await.is_err() || to.flush().await.is_err() || listening.is_finished() {
                break;
            }
            sent += 1;
        }
        let Ok(all) = tokio::time::timeout(PATIENCE, listening).await else {
            return Ok((Outcome::Silent, sent));
        };
        let none = Self { io: Box::new(tokio::io::empty()), read: all?, other: Vec::new() };
        Ok((last_word(none).await?, sent))
    }
}

async fn last_word(mut said: Raw) -> Result<Outcome> {
    while let Some((kind, _, _, payload)) = said.frame().await? {
        if kind == GOAWAY && number(&payload, 4) != 0 {
            return Ok(Outcome::GoAway(number(&payload, 4)));
        }
    }
    Ok(Outcome::Closed)
}

/// The big-endian number at this place of a payload.
pub(crate) fn number(payload: &[u8], at: usize) -> u32 {
    let four = payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    four.map_or(u32::MAX, u32::from_be_bytes)
}

/// The status of the first response on a connection: the first field, from the static table or as digits (RFC 7541 A, B).
fn status(block: &[u8]) -> Result<u16> {
    // An update of the table's size may come first.
    let block = match block {
        [0x20..=0x3e, rest @ ..] => rest,
        all => all,
    };
    match block {
        [indexed @ 0x88..=0x8e, ..] => {
            let known = [200, 204, 206, 304, 400, 404, 500];
            Ok(known.get(usize::from(indexed - 0x88)).copied().unwrap_or_default())
        }
        [0x08 | 0x18 | 0x48, 3, digits @ ..] => {
            Ok(std::str::from_utf8(digits.get(..3).context("three digits")?)?.parse()?)
        }
        [0x08 | 0x18 | 0x48, length @ 0x80..=0xff, digits @ ..] => {
            compressed(digits.get(..usize::from(length & 0x7f)).context("compressed digits")?)
        }
        other => anyhow::bail!("not the head of a response: {other:x?}"),
    }
}

/// Three digits in Huffman's code: 0 to 2 have five bits, the others six (RFC 7541 B).
fn compressed(bytes: &[u8]) -> Result<u16> {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let (mut at, mut number) = (0, 0);
    for _ in 0..3 {
        let take = |n: usize| {
            bits.get(at..at + n).map(|bits| bits.iter().fold(0u16, |sum, bit| sum * 2 + u16::from(*bit)))
        };
        let five = take(5).context("five bits")?;
        let (digit, length) =
            if five <= 2 { (five, 5) } else { (take(6).context("six bits")? - 0b011001 + 3, 6) };
        number = number * 10 + digit;
        at += length;
    }
    Ok(number)
}

#[test]
fn a_status_is_read_in_each_of_its_forms() -> Result<()> {
    assert_eq!(status(&[0x88])?, 200);
    assert_eq!(status(&[0x20, 0x8d])?, 404);
    assert_eq!(status(b"\x48\x03431")?, 431);
    // 4, 3, 1: 011010 011001 00001, filled up with ones.
    assert_eq!(status(&[0x48, 0x83, 0b0110_1001, 0b1001_0000, 0b1111_1111])?, 431);
    Ok(())
}
