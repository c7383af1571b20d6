//! What a connection speaks, by its first bytes, which stay in the socket.
//!
//! A request line or HTTP/2's preface is HTTP, anything else is opaque. Who sends nothing within the time waits for the
//! server to speak first: also opaque. Only asked where the protocol is not declared, or is HTTP of either version.

use std::time::Duration;

use tokio::net::TcpStream;

/// What the first bytes look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http1,
    Http2,
    /// Not HTTP.
    Opaque,
    /// Nothing that could be told apart within the time.
    Silent,
    /// The caller closed without a byte.
    Nothing,
}

/// Waits for the first bytes, at most for `wait`.
pub(crate) async fn detect(stream: &TcpStream, wait: Duration) -> std::io::Result<Spoken> {
    match tokio::time::timeout(wait, look(stream)).await {
        Ok(seen) => seen,
        Err(_elapsed) => Ok(Spoken::Silent),
    }
}

async fn look(stream: &TcpStream) -> std::io::Result<Spoken> {
    // Enough for the longest method that is looked for, and one byte.
    let mut bytes = [0u8; 24];
    let mut seen = 0;
    loop {
        let now = stream.peek(&mut bytes).await?;
        if now == 0 {
            return Ok(if seen == 0 { Spoken::Nothing } else { Spoken::Opaque });
        }
        if let Some(spoken) = judge(bytes.get(..now).unwrap_or_default()) {
            return Ok(spoken);
        }
        if now == seen {
            // Readable stays set while bytes are waiting, so a peek that brings no more must not spin.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        seen = now;
    }
}

/// `None`: too few bytes to tell.
fn judge(bytes: &[u8]) -> Option<Spoken> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    if bytes.iter().zip(PREFACE).all(|(byte, expected)| byte == expected) {
        return (bytes.len() >= PREFACE.len()).then_some(Spoken::Http2);
    }
    // A method is a token of upper-case letters in practice (`M-SEARCH` has a dash), then a space (RFC 9112 3.1).
    let method = bytes.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-').count();
    match bytes.get(method) {
        None if bytes.len() < 20 => None,
        Some(b' ') if method >= 3 => Some(Spoken::Http1),
        _ => Some(Spoken::Opaque),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_the_preface_are_http_and_the_rest_is_opaque() {
        for (bytes, spoken) in [
            (&b"GET / HTTP/1.1\r\n"[..], Some(Spoken::Http1)),
            (b"OPTIONS * HTTP/1.1", Some(Spoken::Http1)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Spoken::Http2)),
            (b"PRI * HT", None),
            (b"PRINT x", Some(Spoken::Http1)),
            (b"GE", None),
            (b"\x16\x03\x01\x02\x00", Some(Spoken::Opaque)),
            (b"hello", Some(Spoken::Opaque)),
            (b"A B", Some(Spoken::Opaque)),
            (b"AAAAAAAAAAAAAAAAAAAAAAAA", Some(Spoken::Opaque)),
        ] {
            assert_eq!(judge(bytes), spoken, "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
