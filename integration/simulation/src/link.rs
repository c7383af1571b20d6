//! A stream between a proxy and a control plane: two directions, each in order, each as late as it likes.
//!
//! A message is its protobuf bytes. What is under way when a stream breaks is lost, with all that follows: as with TCP, a
//! single message never is.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use weft_model::{InstanceId, ServiceKey};
use weft_proto::discovery::DeltaDiscoveryRequest;
use weft_xds::Stream;

/// A response under way, and what in it would take from the proxy without the registry ever having said so.
#[derive(Debug)]
pub(crate) struct ToProxy {
    pub(crate) bytes: Vec<u8>,
    pub(crate) unfounded: BTreeSet<(ServiceKey, InstanceId)>,
}

/// A stream.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) proxy: usize,
    pub(crate) plane: usize,
    pub(crate) opened: Duration,
    /// The control plane's state of it.
    pub(crate) stream: Stream,
    /// The first request was answered.
    pub(crate) started: bool,
    /// The control plane had not heard everything when it began.
    pub(crate) incomplete: bool,
    /// Requests that came before the control plane was ready.
    pub(crate) waiting: VecDeque<DeltaDiscoveryRequest>,
    /// Nothing arrives any more; which ends know it.
    pub(crate) broken: bool,
    pub(crate) proxy_knows: bool,
    pub(crate) plane_knows: bool,
    /// When the last message of each direction arrives.
    pub(crate) last_up: Duration,
    pub(crate) last_down: Duration,
}
