//! What is put between the client and the application, and what is spoken.
//!
//! A scenario is data: the generator, the peers and the report read it. That a peer cannot do one is the peer's to say.

use clap::ValueEnum;

/// One row of the proxy's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// HTTP/1.1 through two sidecars, mTLS between them.
    #[value(name = "pair_h1")]
    PairHttp1,
    /// gRPC calls through two sidecars, mTLS between them.
    #[value(name = "pair_grpc")]
    PairGrpc,
    /// One plaintext HTTP/1.1 hop.
    #[value(name = "hop_h1")]
    HopHttp1,
}

/// What client and application speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wire {
    /// HTTP/1.1 with keep-alive.
    Http1,
    /// HTTP/2 with prior knowledge, gRPC's framing, `grpc-status` in trailers.
    Grpc,
}

impl Scenario {
    /// As it is called on the command line and in the JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PairHttp1 => "pair_h1",
            Self::PairGrpc => "pair_grpc",
            Self::HopHttp1 => "hop_h1",
        }
    }

    /// For the report.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::PairHttp1 => "HTTP/1.1 through a pair of sidecars, mTLS 1.3 between",
            Self::PairGrpc => {
                "gRPC (unary, 64 B to 1 KiB) through a pair of sidecars, mTLS 1.3 between, HTTP/2 on every hop, \
                 four calls at a time a connection"
            }
            Self::HopHttp1 => {
                "HTTP/1.1 through one proxy, plaintext on both sides (Weft: its outbound side, to an endpoint without a proxy)"
            }
        }
    }

    /// What is spoken.
    pub(crate) fn wire(self) -> Wire {
        match self {
            Self::PairHttp1 | Self::HopHttp1 => Wire::Http1,
            Self::PairGrpc => Wire::Grpc,
        }
    }

    /// Whether two proxies with mTLS between them stand in the way.
    pub(crate) fn is_pair(self) -> bool {
        self != Self::HopHttp1
    }
}

impl Wire {
    /// As it is called on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Grpc => "grpc",
        }
    }

    /// As Weft's settings and registry call it.
    pub(crate) fn protocol(self) -> &'static str {
        self.name()
    }
}
