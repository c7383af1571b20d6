//! Sends one request on one connection and says, when that fails, whether the other end can have worked on it.
//!
//! Not worked on: what was never sent, streams that the peer refused, and those above the last one that its GOAWAY names
//! (RFC 9113 6.8, 8.7). Everything else may have been worked on.

use std::error::Error;

use http::{Request, Response};

use crate::http::body::RequestBody;
use crate::http::call::chain;
use crate::http::failure::Failure;
use crate::http::http1::exchange::{self, NoResponse};
use crate::http::http2;
use crate::http::incoming::Incoming;
use crate::pool::{Held, Http1, Stream};
use crate::record::ResponseFlag;

/// A connection with room for one request.
#[derive(Debug)]
pub(crate) enum Ready {
    Http1(Http1),
    Http2(Stream),
}

/// Why there is no response.
#[derive(Debug)]
pub(crate) struct SendError {
    pub(crate) failure: Failure,
    /// The connection waited in the pool and may have been closed by the other end long before.
    pub(crate) reused: bool,
}

impl Ready {
    /// Sends the request. What it occupies is given back by the returned [`Held`].
    pub(crate) async fn send(
        self,
        request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Held), SendError> {
        match self {
            Self::Http1(connection) => {
                let reused = connection.was_reused();
                match exchange::send(connection, request).await {
                    Ok(response) => Ok((response, Held::Nothing)),
                    Err(error) => Err(SendError { failure: judge_http1(&error), reused }),
                }
            }
            Self::Http2(stream) => match http2::exchange::send(stream.sender(), request).await {
                Ok(response) => Ok((response, Held::Stream(stream))),
                Err(error) => Err(SendError { failure: judge_http2(&error), reused: false }),
            },
        }
    }
}

fn judge_http1(error: &NoResponse) -> Failure {
    match error {
        NoResponse::Unsent(_) => {
            Failure::unsent(ResponseFlag::UpstreamConnectionTermination, error.to_string())
        }
        NoResponse::Refused(refused) => Failure::malformed_response(*refused),
        NoResponse::Broken(_) | NoResponse::Closed | NoResponse::Body => {
            Failure::new(ResponseFlag::UpstreamConnectionTermination, error.to_string())
        }
    }
}

fn judge_http2(error: &http2::exchange::NoResponse) -> Failure {
    use http2::exchange::NoResponse;
    let h2 = match error {
        NoResponse::Unsent(h2) => {
            return Failure::unsent(ResponseFlag::UpstreamConnectionTermination, chain(h2));
        }
        NoResponse::Broken(h2) => h2,
    };
    let words = chain(h2);
    let refused = h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
    if h2.is_remote() && (refused || h2.is_go_away()) {
        return Failure::unsent(ResponseFlag::UpstreamRemoteReset, words);
    }
    let flag = if h2.is_library() {
        // We ended it: what the endpoint sent was no HTTP/2, or no response.
        ResponseFlag::UpstreamProtocolError
    } else if h2.is_reset() {
        ResponseFlag::UpstreamRemoteReset
    } else {
        ResponseFlag::UpstreamConnectionTermination
    };
    Failure::new(flag, words)
}

/// The cause of HTTP/2 in an error.
pub(crate) fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        source = cause.source();
    }
    None
}
