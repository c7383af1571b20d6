//! Many thin clients of one control plane, each with an identity and a certificate of its own.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::mpsc;
use tokio::time::timeout;
use weft_model::ServiceKey;

use super::certificates::{self, Member};
use super::client::{self, Running, Seen, Who};
use super::wire::Bytes4;
use super::world::World;

/// What one client wants.
pub(super) struct Wants {
    pub(super) services: Vec<ServiceKey>,
    /// The service of which it reports one endpoint.
    pub(super) hot: String,
    /// The id of that endpoint.
    pub(super) endpoint: String,
}

impl Wants {
    /// Reports an endpoint with another id than the first one of a file's service has.
    pub(super) fn at(self, endpoint: &str) -> Self {
        Self { endpoint: endpoint.to_owned(), ..self }
    }
}

/// The clients, following.
pub(super) struct Fleet {
    members: Vec<Member>,
    who: Vec<Who>,
    clients: Vec<Running>,
    seen: mpsc::Receiver<Seen>,
}

impl Fleet {
    /// Joins `count` members by token and starts their clients. Does not wait.
    pub(super) async fn start(world: &World, count: usize, wants: impl Fn(usize) -> Wants) -> Result<Self> {
        let mut joins = Vec::with_capacity(count);
        for n in 0..count {
            joins.push(certificates::join(world, &format!("client-{n}")).await?);
        }
        let mut members = certificates::issue_all(world.address, joins, AT_ONCE).await?;
        members.sort_by(|one, other| one.account.cmp(&other.account));
        // Room for some reports of each; more than are waited for is an error of the client.
        let (reports, seen) = mpsc::channel(64 * count);
        let (mut who, mut clients) = (Vec::new(), Vec::new());
        for (number, member) in members.iter().enumerate() {
            let wants = wants(number);
            let one = Who {
                number,
                address: world.address,
                tls: member.tls()?,
                hot: key(&wants.hot)?,
                endpoint: wants.endpoint.parse()?,
                reports: reports.clone(),
            };
            clients.push(Running::start(one.clone(), client::core(&member.node(number), wants.services)));
            who.push(one);
        }
        Ok(Self { members, who, clients, seen })
    }

    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Waits until each of `count` clients has reported this weight; the times, in no order.
    pub(super) async fn all_see(&mut self, weight: Option<u32>, count: usize) -> Result<Vec<Instant>> {
        let mut times = Vec::with_capacity(count);
        let deadline = Instant::now() + PATIENCE;
        while times.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            match timeout(left, self.seen.recv()).await {
                Ok(Some(seen)) if seen.weight == weight => times.push(seen.at),
                // Of the change before, or on the way to this one.
                Ok(Some(_)) => {}
                _ => bail!("{} of {count} clients saw {weight:?}; {}", times.len(), self.ended().await),
            }
        }
        Ok(times)
    }

    /// Waits until the control plane says of each that it has everything.
    pub(super) async fn in_sync(&self, world: &World, subscriptions: usize) -> Result<Instant> {
        let start = Instant::now();
        loop {
            let good = world.in_sync(subscriptions).await.unwrap_or(0);
            if good == self.len() {
                return Ok(Instant::now());
            }
            ensure!(start.elapsed() < PATIENCE, "{good} of {} are in sync: {}", self.len(), world.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What each has received.
    pub(super) fn received(&self) -> Vec<Bytes4> {
        self.clients.iter().map(|client| client.counts.now()).collect()
    }

    /// After the control plane is gone: each connects anew, with what it holds.
    pub(super) async fn reconnect(&mut self) -> Result<()> {
        for (client, who) in std::mem::take(&mut self.clients).into_iter().zip(&self.who) {
            let (core, _why) = timeout(PATIENCE, client.task).await.context("a client did not notice")??;
            self.clients.push(Running::start(who.clone(), core));
        }
        Ok(())
    }

    /// Fails if a client's stream is over.
    pub(super) async fn check(&mut self) -> Result<()> {
        match self.clients.iter().any(|client| client.task.is_finished()) {
            true => bail!("a client is gone: {}", self.ended().await),
            false => Ok(()),
        }
    }

    async fn ended(&mut self) -> String {
        for client in &mut self.clients {
            if client.task.is_finished() {
                return (&mut client.task).await.map_or_else(|error| error.to_string(), |(_, why)| why);
            }
        }
        "all streams are open".to_owned()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.clients.iter().for_each(|client| client.task.abort());
    }
}

/// A service of the default namespace.
pub(super) fn key(service: &str) -> Result<ServiceKey> {
    Ok(format!("default/{service}").parse()?)
}

/// Handshakes at a time while joining.
const AT_ONCE: usize = 16;
const PATIENCE: Duration = Duration::from_secs(60);
