//! The shell around the core: it keeps one stream open, for ever.
//!
//! One task, no locks: requests, responses and commands meet in one loop. Whatever ends a stream, the next attempt goes
//! to the next control plane after a pause, and what is held serves on meanwhile.

mod connect;
mod link;
mod reconnect;

pub use connect::{ConnectError, connect};
pub use reconnect::Reconnect;

use std::sync::Arc;

use rustls::ClientConfig;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use weft_model::{NetworkAddress, ServiceKey};
use weft_proto::discovery::Resource;

use crate::client::{Client, Update};
use link::Link;

/// Where to, and as who.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Control planes, `host:port`. Which one serves does not matter; the next one is tried when one fails.
    pub endpoints: Vec<String>,
    /// `Node.id`: `<spiffe id>~<instance name>`.
    pub node: String,
    /// `name/version` of this program.
    pub user_agent: String,
}

/// What the proxy asks of the client.
#[derive(Debug)]
pub enum Command {
    /// Wants a service; answered by updates, also that there is none.
    Subscribe(ServiceKey),
    /// Wants it no more. Updates that are already under way to the sink may still name it.
    Unsubscribe(ServiceKey),
    /// Wants to know whose an address is; answered by updates, also that it is nobody's.
    SubscribeAddress(NetworkAddress),
    /// Wants to know it no more.
    UnsubscribeAddress(NetworkAddress),
    /// Everything that is held, for [`Client::restore`] in the next process.
    Held(oneshot::Sender<Vec<Resource>>),
}

/// What the client tells the proxy.
#[derive(Debug)]
pub enum Event {
    /// A stream is open.
    Connected,
    /// It ended, or could not be opened: with which control plane, and why. What is held stays good.
    Disconnected(String),
    /// Something changed.
    Update(Update),
}

/// Runs for ever: follows the control plane and hands what changes to `sink`, in order.
///
/// `tls` is asked at every connection, so that a renewed certificate is used by the next one; `None` means that there
/// is none yet.
pub async fn run(
    settings: ClientSettings,
    tls: impl Fn() -> Option<Arc<ClientConfig>>,
    commands: mpsc::Receiver<Command>,
    sink: impl FnMut(Event),
) {
    let client = Client::new(&settings.node, &settings.user_agent);
    run_client(client, settings.endpoints, tls, commands, sink).await;
}

/// The same with a client that holds something already, from [`Client::restore`].
pub async fn run_client(
    client: Client,
    endpoints: Vec<String>,
    tls: impl Fn() -> Option<Arc<ClientConfig>>,
    commands: mpsc::Receiver<Command>,
    sink: impl FnMut(Event),
) {
    let mut link = Link::new(client, commands, sink);
    // Any first one, so that many proxies spread over the control planes.
    let mut reconnect = Reconnect::new(endpoints.len(), rand::random());
    loop {
        let Some(endpoint) = endpoints.get(reconnect.endpoint()) else {
            link.disconnected("no control plane is set".to_owned());
            return link.only_commands(None).await;
        };
        let started = Instant::now();
        let ended = match tls() {
            Some(tls) => link.follow(endpoint, tls).await,
            None => link::Ended::unopened("there is no certificate for the connection yet".to_owned()),
        };
        link.disconnected(format!("{endpoint}: {}", ended.why));
        let pause = reconnect.after(ended.was_open, started.elapsed(), rand::random());
        link.only_commands(Some(pause)).await;
    }
}
