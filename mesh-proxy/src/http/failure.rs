//! A failure that the proxy itself makes, and the response that it becomes.
//!
//! The status is a function of the flag, so that one reason looks the same everywhere. To a gRPC caller it is a
//! trailers-only response, since its library shows no other kind of failure well.
//! How much the caller reads is the caller's side's choice: its own application gets the sentence, a peer the flag only.

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use weft_http::{Malformed, Refused};

use crate::http::body::ResponseBody;
use crate::http::headers::{GRPC_MESSAGE, GRPC_STATUS, WEFT_UNSENT};
use crate::record::ResponseFlag;

/// What failed, in the words of the access log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", flag.as_str())]
pub(crate) struct Failure {
    pub(crate) flag: ResponseFlag,
    /// One sentence: what failed, with which address and error.
    pub(crate) detail: String,
    /// The application has seen nothing of the request, so it may go elsewhere.
    pub(crate) unsent: bool,
    /// What is counted, where a message was malformed.
    pub(crate) malformed: Option<Malformed>,
}

impl Failure {
    /// A failure after which nobody may repeat the request unasked.
    pub(crate) fn new(flag: ResponseFlag, detail: impl Into<String>) -> Self {
        Self { flag, detail: detail.into(), unsent: false, malformed: None }
    }

    /// A failure before anything of the request left.
    pub(crate) fn unsent(flag: ResponseFlag, detail: impl Into<String>) -> Self {
        Self { flag, detail: detail.into(), unsent: true, malformed: None }
    }

    /// A request that is not passed on for its form.
    pub(crate) fn malformed(refused: Refused) -> Self {
        let flag = ResponseFlag::DownstreamProtocolError;
        Self { malformed: Some(refused.kind), ..Self::unsent(flag, refused.detail) }
    }

    /// A response that is not passed on for its form.
    pub(crate) fn malformed_response(refused: Refused) -> Self {
        let flag = ResponseFlag::UpstreamProtocolError;
        Self { malformed: Some(refused.kind), ..Self::new(flag, refused.detail) }
    }

    /// The status that a plain HTTP caller gets.
    pub(crate) fn status(&self) -> StatusCode {
        if let (ResponseFlag::DownstreamProtocolError, Some(kind)) = (self.flag, self.malformed) {
            return kind.status();
        }
        match self.flag {
            ResponseFlag::NoRoute => StatusCode::NOT_FOUND,
            ResponseFlag::Unauthorized => StatusCode::FORBIDDEN,
            ResponseFlag::DownstreamProtocolError => StatusCode::BAD_REQUEST,
            ResponseFlag::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            ResponseFlag::UpstreamConnectionTermination
            | ResponseFlag::UpstreamRemoteReset
            | ResponseFlag::UpstreamProtocolError => StatusCode::BAD_GATEWAY,
            ResponseFlag::NoHealthyUpstream
            | ResponseFlag::NoLocalEndpoint
            | ResponseFlag::UpstreamConnectionFailure
            | ResponseFlag::RetryLimitExceeded
            | ResponseFlag::UpstreamOverflow
            | ResponseFlag::DownstreamConnectionTermination
            | ResponseFlag::UpstreamIdentity
            | ResponseFlag::Overloaded
            | ResponseFlag::Draining => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// gRPC's status by the mapping that its own clients use for HTTP statuses.
    pub(crate) fn grpc_status(&self) -> u16 {
        match self.status() {
            StatusCode::BAD_REQUEST => 13,
            StatusCode::FORBIDDEN => 7,
            StatusCode::NOT_FOUND => 12,
            _ => 14,
        }
    }

    /// The response to the proxy's own application.
    pub(crate) fn to_application(&self, grpc: bool) -> Response<ResponseBody> {
        let text = format!("weft: {} ({})\n", self.detail, self.flag.as_str());
        self.response(grpc, text)
    }

    /// The response to a peer's proxy, which learns no more than it needs.
    pub(crate) fn to_peer(&self, grpc: bool) -> Response<ResponseBody> {
        let mut response = self.to_stranger(grpc);
        if self.unsent {
            response.headers_mut().insert(WEFT_UNSENT, HeaderValue::from_static("1"));
        }
        response
    }

    /// The response to a plaintext caller outside the mesh.
    pub(crate) fn to_stranger(&self, grpc: bool) -> Response<ResponseBody> {
        self.response(grpc, format!("weft: {}\n", self.flag.as_str()))
    }

    fn response(&self, grpc: bool, text: String) -> Response<ResponseBody> {
        if grpc {
            return self.trailers_only(&text);
        }
        let mut response = Response::new(ResponseBody::text(text));
        *response.status_mut() = self.status();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }

    fn trailers_only(&self, text: &str) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::empty());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(GRPC_STATUS, HeaderValue::from(self.grpc_status()));
        if let Ok(message) = HeaderValue::from_str(&percent_encoded(text.trim_end())) {
            headers.insert(GRPC_MESSAGE, message);
        }
        response
    }
}

/// gRPC's encoding of `grpc-message`: printable ASCII but `%` as it is.
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (0x20..=0x7e).contains(&byte) && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_caller_gets_a_trailers_only_response_with_status_200() {
        let failure = Failure::new(ResponseFlag::NoHealthyUpstream, "no endpoint of api, 100 % down");
        let response = failure.to_application(true);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[GRPC_STATUS], "14");
        assert_eq!(response.headers()[GRPC_MESSAGE], "weft: no endpoint of api, 100 %25 down (UH)");
    }

    #[test]
    fn a_peer_learns_the_flag_and_whether_the_request_may_go_elsewhere_only() {
        let failure = Failure::unsent(ResponseFlag::UpstreamConnectionFailure, "10.0.0.7:8080 refused");
        let response = failure.to_peer(false);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key(WEFT_UNSENT));
        assert!(!failure.to_application(false).headers().contains_key(WEFT_UNSENT));
    }

    #[test]
    fn every_flag_has_an_error_status() {
        for flag in ResponseFlag::ALL {
            let failure = Failure::new(flag, "x");
            assert!(failure.status().as_u16() >= 400, "{flag:?}");
            assert_ne!(failure.grpc_status(), 0, "{flag:?}");
        }
    }
}
