//! The four forms of a request's target (RFC 9112 3.2).
//!
//! Each form only where it belongs: `*` with OPTIONS, the authority alone with CONNECT, absolute with `http` and `https`.

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Uri, uri};

use crate::bytes::is_target;
use crate::{Malformed, Refused, authority};

/// Reads `target`, a part of `head`.
pub(super) fn parse(head: &Bytes, target: &[u8], method: &Method) -> Result<Uri, Refused> {
    if !target.iter().all(|byte| is_target(*byte)) {
        return Err(Refused::new(Malformed::Target, "the request target has bytes that none may have"));
    }
    if *method == Method::CONNECT {
        return connect(target).ok_or(WRONG_FORM);
    }
    match target {
        [b'/', ..] => {
            let path = PathAndQuery::from_maybe_shared(head.slice_ref(target)).map_err(|_| WRONG_FORM)?;
            Ok(Uri::from(path))
        }
        [b'*'] if *method == Method::OPTIONS => Ok(Uri::from_static("*")),
        _ => absolute(head, target).ok_or(WRONG_FORM),
    }
}

const WRONG_FORM: Refused =
    Refused::new(Malformed::Target, "the request target has a form that is none of its method's");

fn connect(target: &[u8]) -> Option<Uri> {
    let authority = authority::parse(target)?;
    authority.port_u16()?;
    Some(Uri::from(authority))
}

fn absolute(head: &Bytes, target: &[u8]) -> Option<Uri> {
    let (scheme, rest) = scheme(target)?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    let authority: Authority = authority::parse(authority)?;
    let path = match path {
        [] => PathAndQuery::from_static("/"),
        [b'/', ..] => PathAndQuery::from_maybe_shared(head.slice_ref(path)).ok()?,
        query => PathAndQuery::try_from([b"/", query].concat()).ok()?,
    };
    let mut parts = uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority);
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).ok()
}

fn scheme(target: &[u8]) -> Option<(Scheme, &[u8])> {
    for (prefix, scheme) in [(&b"http://"[..], Scheme::HTTP), (b"https://", Scheme::HTTPS)] {
        if let Some((start, rest)) = target.split_at_checked(prefix.len())
            && start.eq_ignore_ascii_case(prefix)
        {
            return Some((scheme, rest));
        }
    }
    None
}
