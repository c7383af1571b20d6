//! One stream after another over one client.
//!
//! Nothing here grows with the server's speed: it sends one response a type and waits for our answer, and commands are
//! taken only while few requests wait to be sent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use weft_proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use weft_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

use super::connect::connect;
use super::{Command, Event};
use crate::client::Client;

/// The client with its two ends in the proxy.
pub(super) struct Link<S> {
    client: Client,
    // `None` once the proxy has no more commands.
    commands: Option<mpsc::Receiver<Command>>,
    sink: S,
    outgoing: VecDeque<DeltaDiscoveryRequest>,
}

/// How a stream ended.
pub(super) struct Ended {
    pub(super) why: String,
    /// The server took the stream.
    pub(super) was_open: bool,
}

impl Ended {
    pub(super) fn unopened(why: String) -> Self {
        Self { why, was_open: false }
    }
}

/// Requests that wait before commands have to: a response needs one answer, a command two requests.
const OUTGOING: usize = 64;
/// An open that takes longer has met a server that accepts and then hangs.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

impl<S: FnMut(Event)> Link<S> {
    pub(super) fn new(client: Client, commands: mpsc::Receiver<Command>, sink: S) -> Self {
        Self { client, commands: Some(commands), sink, outgoing: VecDeque::new() }
    }

    /// Opens a stream and serves it to its end.
    pub(super) async fn follow(&mut self, endpoint: &str, tls: Arc<ClientConfig>) -> Ended {
        self.outgoing = self.client.on_connected().into();
        // What does not fit waits in `outgoing`.
        let (requests, receiver) = mpsc::channel(OUTGOING);
        let opening = tokio::time::timeout(OPEN_WITHIN, open(endpoint, tls, receiver));
        let ended = match self.while_taking_commands(opening, &requests).await {
            Ok(Ok(responses)) => {
                (self.sink)(Event::Connected);
                self.exchange(responses, &requests).await
            }
            Ok(Err(why)) => Ended::unopened(why),
            Err(_) => Ended::unopened(format!("no stream within {} s", OPEN_WITHIN.as_secs())),
        };
        self.client.on_disconnected();
        self.outgoing.clear();
        ended
    }

    /// A server may wait for the first request before it opens its side, so requests go out meanwhile.
    async fn while_taking_commands<T>(
        &mut self,
        opening: impl Future<Output = T>,
        requests: &mpsc::Sender<DeltaDiscoveryRequest>,
    ) -> T {
        let mut opening = std::pin::pin!(opening);
        loop {
            tokio::select! {
                opened = &mut opening => return opened,
                gone = send_next(requests, &mut self.outgoing) => {
                    if gone {
                        return opening.await;
                    }
                }
                command = next(&mut self.commands), if self.outgoing.len() < OUTGOING => self.obey(command),
            }
        }
    }

    async fn exchange(
        &mut self,
        mut responses: Streaming<DeltaDiscoveryResponse>,
        requests: &mpsc::Sender<DeltaDiscoveryRequest>,
    ) -> Ended {
        // Without a limit for the first response: a client that holds everything already gets none. A peer that is gone
        // is noticed by the channel's pings.
        let why = loop {
            tokio::select! {
                response = responses.message() => match response {
                    Ok(Some(response)) => self.take(response),
                    Ok(None) => break "the control plane closed the stream".to_owned(),
                    Err(status) => break format!("{:?}: {}", status.code(), status.message()),
                },
                gone = send_next(requests, &mut self.outgoing) => {
                    if gone {
                        // Only the end of the responses says why.
                        break match responses.message().now_or_never() {
                            Some(Err(status)) => format!("{:?}: {}", status.code(), status.message()),
                            _ => "the stream broke".to_owned(),
                        };
                    }
                }
                command = next(&mut self.commands), if self.outgoing.len() < OUTGOING => self.obey(command),
            }
        };
        Ended { why, was_open: true }
    }

    fn take(&mut self, response: DeltaDiscoveryResponse) {
        let applied = self.client.on_response(response);
        for refused in &applied.refused {
            tracing::warn!("refused what the control plane sent; the last good state stays: {refused}");
        }
        self.outgoing.push_back(applied.request);
        applied.updates.into_iter().for_each(|update| (self.sink)(Event::Update(update)));
    }

    fn obey(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Subscribe(key)) => self.outgoing.extend(self.client.subscribe(key)),
            Some(Command::Unsubscribe(key)) => self.outgoing.extend(self.client.unsubscribe(&key)),
            Some(Command::SubscribeAddress(address)) => {
                self.outgoing.extend(self.client.subscribe_address(address));
            }
            Some(Command::UnsubscribeAddress(address)) => {
                self.outgoing.extend(self.client.unsubscribe_address(&address));
            }
            Some(Command::Held(reply)) => {
                // Who asked may have gone.
                let _ = reply.send(self.client.held());
            }
            None => self.commands = None,
        }
    }

    pub(super) fn disconnected(&mut self, why: String) {
        (self.sink)(Event::Disconnected(why));
    }

    /// Between streams: for `pause`, or for ever.
    pub(super) async fn only_commands(&mut self, pause: Option<Duration>) {
        let sleep = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        let mut sleep = std::pin::pin!(sleep);
        loop {
            tokio::select! {
                () = &mut sleep => return,
                command = next(&mut self.commands) => self.obey(command),
            }
        }
    }
}

async fn open(
    endpoint: &str,
    tls: Arc<ClientConfig>,
    requests: mpsc::Receiver<DeltaDiscoveryRequest>,
) -> Result<Streaming<DeltaDiscoveryResponse>, String> {
    let channel = connect(endpoint, tls).await.map_err(|error| error.to_string())?;
    let mut service = AggregatedDiscoveryServiceClient::new(channel);
    match service.delta_aggregated_resources(ReceiverStream::new(requests)).await {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(format!("{:?}: {}", status.code(), status.message())),
    }
}

/// Sends what waits first, once there is room. Returns whether the stream is gone. Never ends while nothing waits.
async fn send_next(
    requests: &mpsc::Sender<DeltaDiscoveryRequest>,
    outgoing: &mut VecDeque<DeltaDiscoveryRequest>,
) -> bool {
    if outgoing.is_empty() {
        return std::future::pending().await;
    }
    match requests.reserve().await {
        Ok(permit) => {
            if let Some(request) = outgoing.pop_front() {
                permit.send(request);
            }
            false
        }
        Err(_) => true,
    }
}

async fn next(commands: &mut Option<mpsc::Receiver<Command>>) -> Option<Command> {
    match commands {
        Some(commands) => commands.recv().await,
        None => std::future::pending().await,
    }
}
