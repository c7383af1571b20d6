//! A request on its way out: its head as the application meant it, and the forms it takes on each kind of connection.
//!
//! The head is kept until an endpoint has answered, so that each attempt can be sent anew. Path and authority stay what
//! they were; only where they are written differs between HTTP/1 and HTTP/2.

use base64::Engine as _;
use http::header::{CONNECTION, HOST, HeaderMap, HeaderValue, SEC_WEBSOCKET_KEY, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri, Version};
use hyper::ext::Protocol as ConnectProtocol;
use weft_http::http2::message;
use weft_http::{Malformed, Refused};

use crate::http::body::RequestBody;
use crate::http::failure::Failure;
use crate::http::headers::{self, WEFT_METHOD, WEFT_PORT, WEFT_PROTO};
use crate::http::replay::Replay;
use crate::record::ResponseFlag;

/// What the application's connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Http1,
    Http2,
}

/// A request without its connection.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) dialect: Dialect,
    pub(crate) body: Option<Replay>,
    /// The protocol that is to be switched to.
    pub(crate) upgrade: Option<HeaderValue>,
    authority: Authority,
    path: PathAndQuery,
    hops: u32,
}

const H1: HeaderValue = HeaderValue::from_static("h1");
const H2: HeaderValue = HeaderValue::from_static("h2");
const WITH_UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

impl Outgoing {
    /// Takes a request's head apart. `fallback` is the authority of one that names none, which HTTP/1.0 allows.
    ///
    /// # Errors
    /// When the authority or the path can't be passed on.
    pub(crate) fn new(head: http::request::Parts, fallback: &str) -> Result<Self, Refused> {
        let http::request::Parts { method, uri, version, mut headers, extensions, .. } = head;
        let dialect = if version == Version::HTTP_2 { Dialect::Http2 } else { Dialect::Http1 };
        if dialect == Dialect::Http2 {
            let protocol = extensions.get::<ConnectProtocol>().map(ConnectProtocol::as_str);
            message::request(&method, &uri, &headers, protocol)?;
            message::join_cookies(&mut headers);
        }
        let authority = authority(&uri, &headers, version, fallback)?;
        let upgrade = match dialect {
            Dialect::Http1 => headers::upgrade_wanted(&headers).map(|upgrade| upgrade.token),
            Dialect::Http2 => extensions
                .get::<ConnectProtocol>()
                .and_then(|protocol| HeaderValue::from_str(protocol.as_str()).ok()),
        };
        let hops = headers::hops(&headers);
        headers::strip_hop_by_hop(&mut headers);
        headers::strip_weft(&mut headers);
        headers::never_indexed(&mut headers);
        headers.remove(HOST);
        let path = path(uri)?;
        Ok(Self { method, headers, dialect, body: None, upgrade, authority, path, hops })
    }

    /// The authority that the application named.
    pub(crate) fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// Reads what the caller's proxy wrote about the application's own request, for what is sent on to the application.
    pub(crate) fn told(&mut self, proto: Option<&HeaderValue>, method: Option<&HeaderValue>) {
        if proto == Some(&H1) {
            self.dialect = Dialect::Http1;
        }
        if self.upgrade.is_some() && self.dialect == Dialect::Http1 {
            let meant = method.and_then(|method| Method::from_bytes(method.as_bytes()).ok());
            self.method = meant.unwrap_or(Method::GET);
        }
    }

    /// Whether it may be sent again although the first may have been worked on.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.body.is_none() && self.upgrade.is_none() && headers::is_idempotent(&self.method)
    }

    /// As a request stream between our proxies, or, with an upgrade, as an extended CONNECT (RFC 8441).
    pub(crate) fn to_proxy(&self, port: u16) -> Result<Request<RequestBody>, Failure> {
        let mut request = self.http2()?;
        let headers = request.headers_mut();
        headers.insert(WEFT_PORT, HeaderValue::from(port));
        headers.insert(WEFT_PROTO, if self.dialect == Dialect::Http2 { H2 } else { H1 });
        if let Some(token) = &self.upgrade {
            if self.dialect == Dialect::Http1 && self.method != Method::GET {
                let method =
                    HeaderValue::from_str(self.method.as_str()).map_err(|_| unspeakable("the method"))?;
                headers.insert(WEFT_METHOD, method);
            }
            switch_by_connect(&mut request, token)?;
        }
        Ok(request)
    }

    /// As HTTP/2 to an application.
    pub(crate) fn to_http2(&self) -> Result<Request<RequestBody>, Failure> {
        let mut request = self.http2()?;
        if let Some(token) = &self.upgrade {
            if self.dialect == Dialect::Http1 {
                // An HTTP/1 client expects what only the HTTP/1 server can compute (RFC 6455 4.2.2).
                return Err(unspeakable("an HTTP/1.1 upgrade to an endpoint that speaks HTTP/2 only"));
            }
            switch_by_connect(&mut request, token)?;
        }
        Ok(request)
    }

    /// As HTTP/1 to an application.
    pub(crate) fn to_http1(&self) -> Result<Request<RequestBody>, Failure> {
        let mut request = self.request()?;
        *request.uri_mut() = Uri::from(self.path.clone());
        let host =
            HeaderValue::from_str(self.authority.as_str()).map_err(|_| unspeakable("the authority"))?;
        request.headers_mut().insert(HOST, host);
        if let Some(token) = &self.upgrade {
            if self.dialect == Dialect::Http2 {
                *request.method_mut() = Method::GET;
                give_websocket_key(request.headers_mut(), token);
            }
            request.headers_mut().insert(CONNECTION, WITH_UPGRADE);
            request.headers_mut().insert(UPGRADE, token.clone());
        }
        Ok(request)
    }

    /// Counts a hop that goes to no proxy of ours: only there can a request run in circles.
    pub(crate) fn count_hop(&self, request: &mut Request<RequestBody>) -> Result<(), Failure> {
        headers::count_hop(request.headers_mut(), self.hops).ok_or_else(|| {
            Failure::unsent(ResponseFlag::NoRoute, "the request runs in circles between proxies")
        })
    }

    fn http2(&self) -> Result<Request<RequestBody>, Failure> {
        let mut request = self.request()?;
        *request.version_mut() = Version::HTTP_2;
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(self.path.clone());
        *request.uri_mut() = Uri::from_parts(parts).map_err(|_| unspeakable("the request target"))?;
        Ok(request)
    }

    fn request(&self) -> Result<Request<RequestBody>, Failure> {
        let body = match &self.body {
            None => RequestBody::Empty,
            Some(body) => RequestBody::Replay(body.attempt().ok_or_else(spent)?),
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        request.headers_mut().clone_from(&self.headers);
        Ok(request)
    }
}

fn switch_by_connect(request: &mut Request<RequestBody>, token: &HeaderValue) -> Result<(), Failure> {
    let token = token.to_str().map_err(|_| unspeakable("the protocol to switch to"))?;
    *request.method_mut() = Method::CONNECT;
    request.extensions_mut().insert(h2::ext::Protocol::from(token));
    Ok(())
}

/// HTTP/2 has no key, HTTP/1.1 needs one (RFC 8441 5). The answer to it is for nobody, so nobody checks it.
fn give_websocket_key(headers: &mut HeaderMap, token: &HeaderValue) {
    if token.as_bytes().eq_ignore_ascii_case(b"websocket") && !headers.contains_key(SEC_WEBSOCKET_KEY) {
        let key = base64::engine::general_purpose::STANDARD.encode(rand::random::<[u8; 16]>());
        if let Ok(key) = HeaderValue::from_str(&key) {
            headers.insert(SEC_WEBSOCKET_KEY, key);
        }
    }
}

/// The path in its one form.
fn path(uri: Uri) -> Result<PathAndQuery, Refused> {
    let path = uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
    match weft_http::path::normalise(path.as_str())? {
        None => Ok(path),
        Some(made) => PathAndQuery::try_from(made)
            .map_err(|_| Refused::new(Malformed::Target, "the request target has bytes that none may have")),
    }
}

fn authority(uri: &Uri, headers: &HeaderMap, version: Version, fallback: &str) -> Result<Authority, Refused> {
    let bad = |words| Refused::new(Malformed::Host, words);
    if let Some(authority) = uri.authority() {
        return Ok(authority.clone());
    }
    let mut hosts = headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.as_bytes(),
        (None, _) if version <= Version::HTTP_10 => fallback.as_bytes(),
        (None, _) => return Err(bad("the request has no Host header")),
        (Some(_), Some(_)) => return Err(bad("the request has several Host headers")),
    };
    // An empty Host is legal where the target has no authority (RFC 9112 3.2); the service's name stands in.
    let host = if host.is_empty() { fallback.as_bytes() } else { host };
    weft_http::authority::parse(host).ok_or_else(|| bad("the Host header is not an authority"))
}

fn unspeakable(what: &str) -> Failure {
    Failure::unsent(ResponseFlag::UpstreamProtocolError, format!("can't be sent on: {what}"))
}

fn spent() -> Failure {
    let words = "the request's body is too long to be sent again";
    Failure::new(ResponseFlag::RetryLimitExceeded, words)
}
