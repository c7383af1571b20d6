//! Follows the control plane: subscribes to what is wanted, turns what comes into the configuration, and keeps the last
//! known good state on disk.
//!
//! A lost control plane changes nothing but the status. What is not wanted any more is forgotten; what was restored
//! serves until the control plane says otherwise.

mod build;
mod saved;
mod subscribe;

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use weft_identity::{CONTROL_PLANE_PATH, InvalidBundle, SvidSource, TrustBundle, TrustBundles};
use weft_model::SpiffeId;
use weft_proto::NodeId;
use weft_proto::discovery::Resource;
use weft_xds_client::{Client, Event, Update};

use crate::config::ProxyConfig;
use crate::identity::save_bundles;
use crate::place::placed;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::state::StateDir;
use subscribe::Subscribed;

/// The link to the control plane, for `/ready`, the dump and the metrics.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub(crate) struct MeshStatus {
    /// Whether a stream is open.
    pub(crate) connected: bool,
    /// Why the last one ended; empty while connected.
    pub(crate) last_error: String,
    /// Services that were restored from disk at the start.
    pub(crate) restored: usize,
    /// Since when something could have answered: the first stream to a control plane, or the last known good state.
    #[serde(skip)]
    pub(crate) answering_since: Option<Instant>,
}

/// The parts that `follow` takes over.
pub(crate) struct Mesh {
    status: watch::Sender<MeshStatus>,
    restored: Vec<Resource>,
}

/// Changes are gathered for so long before they are written to disk.
const SAVE_AFTER: Duration = Duration::from_secs(1);
const USER_AGENT: &str = concat!("weft-proxy/", env!("CARGO_PKG_VERSION"));

impl Mesh {
    /// What the disk knows: services for the configuration, and bundles for `svids` where it has none.
    pub(crate) fn restore(state: &StateDir, svids: &SvidSource, settings: &Settings) -> (Self, ProxyConfig) {
        let restored = saved::restore(state);
        // The real client is made when the own identity is known; this one only reads.
        let (updates, refused) = Client::new("", USER_AGENT).restore(restored.clone());
        for refused in refused {
            tracing::error!("a saved resource is not usable and is left out: {refused}");
        }
        let mut config = ProxyConfig::default();
        for update in updates {
            match update {
                Update::ServicePresent { service, workloads } => {
                    config = build::with_service(&config, &service, &workloads);
                }
                Update::AddressOwned(address) => config = build::with_address(&config, &address),
                Update::ServiceAbsent(_) | Update::AddressFree(_) => {}
                Update::Bundles(bundles) if svids.current().is_none() => match read_bundles(bundles) {
                    Ok(bundles) => svids.set_bundles(bundles),
                    Err(error) => tracing::error!("a saved trust bundle is not usable: {error}"),
                },
                Update::Bundles(_) => {}
            }
        }
        config = placed(config, settings);
        let restored_services = config.services.len();
        let answering_since = (restored_services > 0).then(Instant::now);
        let status = MeshStatus { restored: restored_services, answering_since, ..MeshStatus::default() };
        (Self { status: watch::Sender::new(status), restored }, config)
    }

    /// The status, now and later.
    pub(crate) fn status(&self) -> watch::Receiver<MeshStatus> {
        self.status.subscribe()
    }
}

/// Runs for ever.
pub(crate) async fn follow(mesh: Mesh, shared: Arc<Shared>, state: Arc<StateDir>, instance: String) {
    let mut restored = mesh.restored;
    loop {
        let id = own_id(&shared.svids, |_| true).await;
        let node = match NodeId::new(id.clone(), &instance) {
            Ok(node) => node,
            Err(error) => {
                tracing::error!("the control plane can't be followed: setting workload.name: {error}");
                return std::future::pending().await;
            }
        };
        // Attested anew, it may have become another: a stream is of one identity.
        let next = tokio::select! {
            () = follow_as(&node, restored, &mesh.status, &shared, &state) => return,
            next = own_id(&shared.svids, |now| *now != id) => next,
        };
        tracing::warn!(before = %id, now = %next, "this proxy's identity has changed");
        restored = saved::restore(&state);
    }
}

/// Follows the control plane under one identity. Ends with the client, which does not end.
async fn follow_as(
    node: &NodeId,
    restored: Vec<Resource>,
    status: &watch::Sender<MeshStatus>,
    shared: &Shared,
    state: &Arc<StateDir>,
) {
    let mut client = Client::new(&node.to_string(), USER_AGENT);
    // What it restores is in the configuration since the start, and its errors are in the log.
    let (updates, _) = client.restore(restored);
    let held = Subscribed::of(&updates);
    // 64: the client takes commands as fast as it can put them into a request; a burst waits in `subscribe`.
    let (commands, receiver) = mpsc::channel(64);
    let changed = Notify::new();
    let sink = |event| take(event, status, shared, state, &changed);
    let endpoints = shared.settings.control.endpoints();
    tokio::join!(
        weft_xds_client::run_client(client, endpoints, || control_tls(&shared.svids), receiver, sink),
        subscribe::keep(shared, held, commands.clone(), &changed),
        saved::keep(commands, state.clone(), &changed, SAVE_AFTER),
    );
}

/// The identity of the certificate, when there is one and it is `wanted`.
async fn own_id(svids: &SvidSource, wanted: impl Fn(&SpiffeId) -> bool) -> SpiffeId {
    let mut changes = svids.subscribe();
    loop {
        if let Some(credentials) = svids.current()
            && wanted(credentials.svid.id())
        {
            return credentials.svid.id().clone();
        }
        if changes.changed().await.is_err() {
            // The source lives in `Shared`, as long as this task.
            std::future::pending::<()>().await;
        }
    }
}

/// TLS to the control plane of the own trust domain, with the certificate of now.
fn control_tls(svids: &SvidSource) -> Option<Arc<ClientConfig>> {
    let credentials = svids.current()?;
    let domain = credentials.svid.id().trust_domain();
    let control: SpiffeId = format!("spiffe://{domain}{CONTROL_PLANE_PATH}").parse().ok()?;
    credentials.client_config(&control, &[b"h2"]).ok()
}

/// Takes over what the control plane says.
fn take(
    event: Event,
    status: &watch::Sender<MeshStatus>,
    shared: &Shared,
    state: &StateDir,
    changed: &Notify,
) {
    match event {
        Event::Connected => {
            tracing::info!("connected to the control plane");
            status.send_modify(|status| {
                (status.connected, status.last_error) = (true, String::new());
                status.answering_since.get_or_insert_with(Instant::now);
            });
        }
        Event::Disconnected(why) => {
            if status.borrow().connected || status.borrow().last_error != why {
                tracing::warn!("no control plane; the last known configuration serves on: {why}");
            }
            status.send_modify(|status| (status.connected, status.last_error) = (false, why));
        }
        Event::Update(update) => {
            apply(update, shared, state);
            changed.notify_one();
        }
    }
}

fn apply(update: Update, shared: &Shared, state: &StateDir) {
    let config = shared.config.load();
    match update {
        // An answer to a subscription that was given up meanwhile.
        Update::ServicePresent { service, .. } if !shared.demand.wants(&service.key) => {}
        Update::ServiceAbsent(key) if !shared.demand.wants(&key) => {}
        Update::ServicePresent { service, workloads } => {
            tracing::debug!(service = %service.key, workloads = workloads.len(), "service changed");
            shared.config.publish(build::with_service(&config, &service, &workloads));
        }
        Update::ServiceAbsent(key) => {
            // Anybody can name a service in a Host header; a declared upstream was written by a person.
            if shared.demand.declared().any(|declared| *declared == key) {
                tracing::warn!(service = %key, "the control plane knows no such service; an [[upstream]] leads to it");
            }
            shared.config.publish(build::with_absent(&config, &key));
        }
        Update::AddressOwned(owned) if !shared.addresses.wants(&owned.address) => {}
        Update::AddressFree(address) if !shared.addresses.wants(&address) => {}
        Update::AddressOwned(owned) => {
            let next = build::with_address(&config, &owned);
            shared.config.publish(placed(next, &shared.settings));
        }
        Update::AddressFree(address) => shared.config.publish(build::with_free(&config, &address)),
        Update::Bundles(bundles) => trust(bundles, shared, state),
    }
}

/// Bundles are all or nothing: a half-understood set could trust too little without anybody noticing.
fn trust(bundles: Vec<weft_proto::TrustBundle>, shared: &Shared, state: &StateDir) {
    match read_bundles(bundles) {
        Ok(bundles) if lacks_own(&bundles, shared) => {
            // Taken over, it would cut this proxy off from everybody, the control plane first.
            tracing::error!(
                "the trust bundles that came lack this proxy's own trust domain; the old ones stay"
            );
        }
        Ok(bundles) => {
            if let Err(error) = save_bundles(state, &bundles) {
                tracing::error!("the new trust bundles are in use but not saved: {error}");
            }
            shared.svids.set_bundles(bundles);
        }
        Err(error) => tracing::error!(
            "the control plane sent a trust bundle that can't be used; the old ones stay: {error}"
        ),
    }
}

fn lacks_own(bundles: &TrustBundles, shared: &Shared) -> bool {
    shared.svids.current().is_some_and(|own| bundles.get(&own.svid.id().trust_domain()).is_none())
}

fn read_bundles(bundles: Vec<weft_proto::TrustBundle>) -> Result<TrustBundles, InvalidBundle> {
    let read = bundles.into_iter().map(|bundle| {
        let roots = bundle.roots.into_iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        TrustBundle::new(bundle.trust_domain, roots)
    });
    read.collect()
}

#[cfg(test)]
mod tests;
