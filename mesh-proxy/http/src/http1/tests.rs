//! What is refused and as what, and that no split of the bytes changes it.

mod bodies;
mod heads;
mod properties;

use ::bytes::BytesMut;
use http::{HeaderMap, Method};

use super::*;
use crate::{Malformed, Refused};

const LIMITS: Limits = Limits { head: 4096, target: 1024, fields: 16 };

/// What a whole request is read as.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Read<H> {
    head: H,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// What stands behind it.
    rest: Vec<u8>,
}

/// Feeds the pieces one after the other; `None` when the message is not whole at the end.
fn request(pieces: &[&[u8]]) -> Result<Option<Read<RequestHead>>, Refused> {
    message(pieces, |buffer, scan| request::take(buffer, scan, &LIMITS), |head| head.framing)
}

fn response(pieces: &[&[u8]], method: &Method) -> Result<Option<Read<ResponseHead>>, Refused> {
    message(pieces, |buffer, scan| response::take(buffer, scan, method, &LIMITS), |head| head.framing)
}

fn message<H>(
    pieces: &[&[u8]],
    mut take: impl FnMut(&mut BytesMut, &mut Scan) -> Result<Option<H>, Refused>,
    framing: impl Fn(&H) -> Framing,
) -> Result<Option<Read<H>>, Refused> {
    let (mut buffer, mut scan) = (BytesMut::new(), Scan::default());
    let mut reading: Option<(H, Decoder, Vec<u8>)> = None;
    let mut ended: Option<Read<H>> = None;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if reading.is_none() && ended.is_none() {
            reading = take(&mut buffer, &mut scan)?.map(|head| {
                let decoder = Decoder::new(framing(&head), LIMITS);
                (head, decoder, Vec::new())
            });
        }
        let Some((head, mut decoder, mut body)) = reading.take() else { continue };
        loop {
            match decoder.decode(&mut buffer)? {
                Decoded::Data(data) => body.extend_from_slice(&data),
                Decoded::More => {
                    reading = Some((head, decoder, body));
                    break;
                }
                Decoded::End(trailers) => {
                    ended = Some(Read { head, body, trailers, rest: Vec::new() });
                    break;
                }
            }
        }
    }
    if let Some((head, mut decoder, body)) = reading
        && decoder.close().is_ok()
    {
        ended = Some(Read { head, body, trailers: None, rest: Vec::new() });
    }
    Ok(ended.map(|read| Read { rest: buffer.to_vec(), ..read }))
}

fn kind<H>(read: Result<Option<Read<H>>, Refused>) -> Option<Malformed> {
    read.err().map(|refused| refused.kind)
}
