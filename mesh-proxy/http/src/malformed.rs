//! Why a message was refused: the kinds that are counted and logged.
//!
//! One list for both versions of HTTP, so that one metric's label has few values and an operator learns them once. Which
//! answer a kind gets is decided here too; how it is written is the connection's business.

use http::StatusCode;

/// Defines the enum, its label values and its statuses from one table, so that none can be forgotten.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $label:literal, $status:ident;)*) => {
        /// A kind of malformed or hostile message.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Malformed {
            $($(#[$doc])* $name,)*
        }

        impl Malformed {
            /// Every kind in the order of the enum, for the metric's series.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The value of the metric's label `kind`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)*
                }
            }

            /// The answer to a request of this kind. A response of this kind becomes a 502 whatever is written here.
            pub fn status(self) -> StatusCode {
                match self {
                    $(Self::$name => StatusCode::$status,)*
                }
            }
        }
    };
}

kinds! {
    /// The request line or the status line is not one.
    StartLine = "start_line", BAD_REQUEST;
    /// Another version than HTTP/1.0 and HTTP/1.1.
    Version = "version", HTTP_VERSION_NOT_SUPPORTED;
    /// A method longer than any.
    Method = "method", NOT_IMPLEMENTED;
    /// A request target in a wrong form, or with bytes that none may have.
    Target = "target", BAD_REQUEST;
    /// A request target that is too long.
    TargetSize = "target_size", URI_TOO_LONG;
    /// A path that leaves the root or has an escape that is none.
    Path = "path", BAD_REQUEST;
    /// A CR or LF that does not stand in a CRLF.
    LineEnd = "line_end", BAD_REQUEST;
    /// A field's name is not a token: a space before the colon, say.
    FieldName = "field_name", BAD_REQUEST;
    /// A field's value has control characters.
    FieldValue = "field_value", BAD_REQUEST;
    /// A field that goes on in the next line (obs-fold), or a space before the first field.
    Folding = "folding", BAD_REQUEST;
    /// A head with too many bytes or fields.
    HeadSize = "head_size", REQUEST_HEADER_FIELDS_TOO_LARGE;
    /// A head that did not come in time.
    SlowHead = "slow_head", REQUEST_TIMEOUT;
    /// A body that did not come in time.
    SlowBody = "slow_body", REQUEST_TIMEOUT;
    /// No authority, several, or two that differ.
    Host = "host", BAD_REQUEST;
    /// A Content-Length that is no number, or several.
    ContentLength = "content_length", BAD_REQUEST;
    /// Content-Length beside Transfer-Encoding.
    LengthAndEncoding = "length_and_encoding", BAD_REQUEST;
    /// A Transfer-Encoding in which `chunked` is not the one and last coding, or in HTTP/1.0.
    TransferEncoding = "transfer_encoding", BAD_REQUEST;
    /// A transfer coding that nobody knows.
    UnknownEncoding = "unknown_encoding", NOT_IMPLEMENTED;
    /// A chunk's size, extension or end is wrong.
    Chunk = "chunk", BAD_REQUEST;
    /// Trailers with too many bytes, or a field in them that is not one.
    Trailers = "trailers", BAD_REQUEST;
    /// A body where none may be: TRACE, CONNECT.
    Body = "body", BAD_REQUEST;
    /// An expectation other than `100-continue`.
    Expectation = "expectation", EXPECTATION_FAILED;
    /// Bytes after the end of a response.
    Excess = "excess", BAD_GATEWAY;
    /// HTTP/2: more RST_STREAM than streams account for (rapid reset). This and the next ones end the connection with
    /// GOAWAY and ENHANCE_YOUR_CALM; the status is for the record.
    Http2Reset = "http2_reset", TOO_MANY_REQUESTS;
    /// HTTP/2: a flood of PING.
    Http2Ping = "http2_ping", TOO_MANY_REQUESTS;
    /// HTTP/2: a flood of SETTINGS.
    Http2Settings = "http2_settings", TOO_MANY_REQUESTS;
    /// HTTP/2: a flood of DATA without a byte, or in the smallest pieces.
    Http2EmptyData = "http2_empty_data", TOO_MANY_REQUESTS;
    /// HTTP/2: a head in more CONTINUATION frames than its bytes need, or many short ones.
    Http2Continuation = "http2_continuation", TOO_MANY_REQUESTS;
    /// HTTP/2: a flood of PRIORITY.
    Http2Priority = "http2_priority", TOO_MANY_REQUESTS;
    /// HTTP/2: more WINDOW_UPDATE than data accounts for.
    Http2WindowUpdate = "http2_window_update", TOO_MANY_REQUESTS;
    /// HTTP/2: a flood of frames that nobody knows.
    Http2Unknown = "http2_unknown_frame", TOO_MANY_REQUESTS;
    /// HTTP/2: a flood of GOAWAY.
    Http2GoAway = "http2_goaway", TOO_MANY_REQUESTS;
    /// HTTP/2: an endpoint sends more heads than requests account for.
    Http2Headers = "http2_headers", TOO_MANY_REQUESTS;
    /// HTTP/2: more streams at once than `limits.streams`.
    Http2Streams = "http2_streams", TOO_MANY_REQUESTS;
    /// HTTP/2: frames that break the protocol, flow control or header compression; the connection ends.
    Http2Framing = "http2_framing", BAD_REQUEST;
    /// HTTP/2: a stream whose message is malformed (RFC 9113 8.1.1): it is reset, or answered with 400.
    Http2Message = "http2_message", BAD_REQUEST;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_a_label_of_its_own_and_an_error_status() {
        let labels: BTreeSet<&str> = Malformed::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(labels.len(), Malformed::ALL.len());
        for kind in Malformed::ALL {
            assert!(kind.status().is_client_error() || kind.status().is_server_error(), "{kind:?}");
            assert_eq!(Malformed::ALL.get(*kind as usize), Some(kind));
        }
    }
}
