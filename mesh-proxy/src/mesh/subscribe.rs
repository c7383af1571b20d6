//! Keeps the subscriptions equal to what is wanted: services, and addresses of captured connections.
//!
//! What is wanted no more leaves the configuration first: nobody would say when it changes.

use std::collections::HashSet;

use tokio::sync::{Notify, mpsc};
use weft_model::{NetworkAddress, ServiceKey};
use weft_xds_client::{Command, Update};

use super::build;
use crate::shared::Shared;

/// What is subscribed to.
#[derive(Debug, Default)]
pub(super) struct Subscribed {
    services: HashSet<ServiceKey>,
    addresses: HashSet<NetworkAddress>,
}

impl Subscribed {
    /// What a client that restored this has subscribed to.
    pub(super) fn of(restored: &[Update]) -> Self {
        let mut subscribed = Self::default();
        for update in restored {
            match update {
                Update::ServicePresent { service, .. } => _ = subscribed.services.insert(service.key.clone()),
                Update::AddressOwned(owned) => _ = subscribed.addresses.insert(owned.address.clone()),
                Update::ServiceAbsent(_) | Update::AddressFree(_) | Update::Bundles(_) => {}
            }
        }
        subscribed
    }

    /// What to say so that `wanted` is subscribed to: what goes first.
    fn until(&self, wanted: &Self) -> Vec<Command> {
        let services = |from: &HashSet<_>, to: &HashSet<_>| from.difference(to).cloned().collect::<Vec<_>>();
        let addresses = |from: &HashSet<_>, to: &HashSet<_>| from.difference(to).cloned().collect::<Vec<_>>();
        let gone = services(&self.services, &wanted.services).into_iter().map(Command::Unsubscribe);
        let free = addresses(&self.addresses, &wanted.addresses).into_iter().map(Command::UnsubscribeAddress);
        let new = services(&wanted.services, &self.services).into_iter().map(Command::Subscribe);
        let asked = addresses(&wanted.addresses, &self.addresses).into_iter().map(Command::SubscribeAddress);
        gone.chain(free).chain(new).chain(asked).collect()
    }
}

/// Runs until the client ends. `held` is what the client restored; `changed` is told when less is held.
pub(super) async fn keep(
    shared: &Shared,
    held: Subscribed,
    commands: mpsc::Sender<Command>,
    changed: &Notify,
) {
    let mut subscribed = held;
    loop {
        let wanted = Subscribed { services: shared.demand.wanted(), addresses: shared.addresses.wanted() };
        forget_others(shared, &wanted);
        for command in subscribed.until(&wanted) {
            if matches!(command, Command::Unsubscribe(_) | Command::UnsubscribeAddress(_)) {
                changed.notify_one();
            }
            if commands.send(command).await.is_err() {
                return;
            }
        }
        subscribed = wanted;
        tokio::select! {
            () = shared.demand.changed() => {}
            () = shared.addresses.changed() => {}
        }
    }
}

fn forget_others(shared: &Shared, wanted: &Subscribed) {
    let config = shared.config.load();
    for key in config.services.keys().filter(|key| !wanted.services.contains(*key)) {
        shared.config.publish(build::without(&shared.config.load(), key));
    }
    for address in config.addresses.keys().filter(|address| !wanted.addresses.contains(*address)) {
        shared.config.publish(build::without_address(&shared.config.load(), address));
    }
}
