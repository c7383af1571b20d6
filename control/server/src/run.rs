//! Puts the parts together, runs them, and takes them down again.
//!
//! Order of starting: identity, what was known, sockets, tasks; ready when the registries have been heard. On
//! SIGTERM: not ready, streams closed (proxies go on with what they have and come back), requests in progress
//! finished until the deadline. Every task is in one set: when `run` returns, nothing of it is left.

use std::ffi::OsString;
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::transport::Server;
use weft_ca::transport::{self, Connections};
use weft_ca::{CaService, Shares, keep_own_svid};
use weft_model::RegistryKind;
use weft_process::notify;
use weft_proto::discovery::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use weft_registry::file::{FileRegistry, FileSettings};
use weft_registry::{Registry, SuperviseSettings};
use weft_registry_consul::ConsulRegistry;
use weft_registry_kubernetes::KubernetesRegistry;
use weft_registry_nomad::NomadRegistry;

use crate::abandoned::NoteAbandoned;
use crate::admin::{self, Admin, Listeners, Seen};
use crate::ads::Ads;
use crate::ca::{Attestors, Ca};
use crate::ca_secret;
use crate::counters::Counters;
use crate::events::Events;
use crate::expelled::Expelled;
use crate::framed::{Framed, LARGEST_REQUEST};
use crate::ingest::{Followed, Ingest, RegistryChange};
use crate::last_known::LastKnown;
use crate::proxies::Proxies;
use crate::publish::{self, Readers};
use crate::readiness::{Phase, await_registries, stopping};
use crate::registry_secrets::RegistrySecrets;
use crate::rotate::Rotator;
use crate::settings::{RegistrySettings, Settings};
use crate::stalled::Stalled;
use crate::webhook::Webhook;

/// Runs the control plane until `stop` is ready.
pub(crate) async fn run(
    settings: Settings,
    notify_socket: Option<OsString>,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let started = SystemTime::now();
    make_state_directory(&settings.state_dir)?;
    let followed = settings.registry.iter().map(|one| follow(one, &settings)).collect::<Result<Vec<_>>>()?;
    let attestors = Attestors::new(&settings)?;
    ca_secret::fetch(&settings).await?;
    let shared_tokens = ca_secret::shared_tokens(&settings).await?;
    let ca = Ca::open(&settings)?;
    let admin_sockets = Listeners::bind(&settings.admin_socket(), settings.admin.listen).await?;
    let webhook = Webhook::open(&settings, &ca.authority).await?;
    let listener = TcpListener::bind(settings.listen).await;
    let listener = listener.with_context(|| format!("listening on {} for proxies", settings.listen))?;
    let listen = listener.local_addr()?;
    tracing::info!(%listen, admin = %settings.admin_socket().display(),
        admin_listen = admin_sockets.tcp_address().map(tracing::field::display),
        trust_domain = %settings.trust_domain, registries = followed.len(), "weft-control starts");

    let (publisher, published) = publish::channel();
    let (phase, phases) = watch::channel(Phase::Starting);
    let last_known = LastKnown::new(settings.state_dir.join("registries"));
    let awaits_more = settings.registry_secrets.is_some();
    let ingest = Ingest::new(followed, publisher, ca.identity.clone(), last_known, awaits_more);
    let events = Events::new(&settings, &published.reports);
    let (registry_secrets, changes) = registry_secrets(&settings, &attestors, &events);
    let ads = ads(&settings, &published, phases.clone());
    let connections = Connections::new(settings.limits.connections);
    let ca_service = ca.service(attestors, shared_tokens, settings.ca.limits);
    let ready = await_registries(published.reports.clone(), settings.ready.registry_deadline);
    let rotator = rotator(&settings, &published, &ads, &ca);
    let seen =
        Seen { rotator: rotator.clone(), counts: ca_service.counts(), connections: connections.clone() };
    let admin = Arc::new(admin(&settings, started, listen, published, &ads, &ca, seen));

    let mut tasks = JoinSet::new();
    let (authority, identity) = (Arc::clone(&ca.authority), ca.identity.clone());
    tasks.spawn(
        async move { keep_own_svid(authority, identity).await.context("renewing the own certificate") },
    );
    tasks.spawn(done(ingest.run(phases.clone(), changes)));
    if let Some(secrets) = registry_secrets {
        tasks.spawn(done(secrets.run()));
    }
    tasks.spawn(done(rotator.run()));
    if let Some(webhook) = webhook {
        let teller = events.teller(webhook.registry());
        tasks.spawn(done(webhook.run(admin.clone(), teller)));
    }
    tasks.spawn(done(events.run()));
    tasks.spawn(done(admin::serve(admin_sockets, admin)));
    let (stalled, counters) = (ads.stalled.clone(), Arc::clone(&ads.counters));
    tasks.spawn(done(stalled.run(move || counters.refused_streams.add("not_read"))));
    let incoming = transport::incoming(listener, ca.identity, connections);
    tasks.spawn(serve(incoming, ca_service, ads));
    let outcome = supervise(&mut tasks, &phase, notify_socket.as_ref(), ready, stop).await;
    notify::stopping(notify_socket.as_deref());
    phase.send_replace(Phase::Stopping);
    drain(&mut tasks, settings.shutdown.deadline).await;
    tracing::info!("weft-control has stopped");
    outcome
}

/// Private keys and tokens are in it.
fn make_state_directory(path: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("making the state directory {}", path.display()))
}

/// What follows Secrets, where the settings want it, and what it says to ingestion.
fn registry_secrets(
    settings: &Settings,
    attestors: &Attestors,
    events: &Events,
) -> (Option<RegistrySecrets>, mpsc::Receiver<RegistryChange>) {
    // Each change is made before the next is read: a handful of registries.
    let (sender, changes) = mpsc::channel(4);
    let wanted = settings.registry_secrets.clone().and_then(|wanted| {
        let registry = settings.registry.iter().find(|registry| registry.id == wanted.registry)?;
        Some(RegistrySecrets {
            cluster: registry.kubernetes.clone().unwrap_or_default(),
            trust_domain: settings.trust_domain.clone(),
            configured: settings.registry.iter().map(|registry| registry.id.clone()).collect(),
            changes: sender,
            attestor: Arc::clone(&attestors.kubernetes),
            teller: events.teller(&wanted.registry),
            settings: wanted,
        })
    });
    (wanted, changes)
}

fn ads(settings: &Settings, published: &Readers, phase: watch::Receiver<Phase>) -> Ads {
    Ads {
        state: published.state.clone(),
        phase,
        proxies: Proxies::default(),
        counters: Arc::new(Counters::default()),
        room: Shares::new(settings.limits.streams, settings.limits.streams_per_identity),
        limits: settings.limits.clone(),
        stalled: Stalled::default(),
        expelled: Expelled::default(),
    }
}

fn rotator(settings: &Settings, published: &Readers, ads: &Ads, ca: &Ca) -> Rotator {
    Rotator {
        trust_domain: settings.trust_domain.clone(),
        authority: Arc::clone(&ca.authority),
        tokens: Arc::clone(&ca.tokens),
        identity: ca.identity.clone(),
        proxies: ads.proxies.clone(),
        published: published.clone(),
        shared_root: settings.ca.secret.is_some(),
    }
}

fn admin(
    settings: &Settings,
    started: SystemTime,
    listen: SocketAddr,
    published: Readers,
    ads: &Ads,
    ca: &Ca,
    seen: Seen,
) -> Admin {
    Admin {
        trust_domain: settings.trust_domain.clone(),
        started,
        listen,
        published,
        phase: ads.phase.clone(),
        proxies: ads.proxies.clone(),
        counters: Arc::clone(&ads.counters),
        authority: Arc::clone(&ca.authority),
        tokens: Arc::clone(&ca.tokens),
        identity: ca.identity.clone(),
        seen,
    }
}

/// Waits for readiness, then for the end: `stop`, or a task that should not have ended.
async fn supervise(
    tasks: &mut JoinSet<Result<()>>,
    phase: &watch::Sender<Phase>,
    notify_socket: Option<&OsString>,
    ready: impl Future<Output = ()>,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let (mut ready, mut stop) = (std::pin::pin!(ready), std::pin::pin!(stop));
    loop {
        tokio::select! {
            () = &mut ready, if *phase.borrow() == Phase::Starting => {
                phase.send_replace(Phase::Serving);
                tracing::info!("ready");
                notify::ready(notify_socket.map(OsString::as_os_str));
            }
            () = &mut stop => {
                tracing::info!("stopping");
                return Ok(());
            }
            Some(ended) = tasks.join_next() => {
                ended.context("a task failed")??;
                bail!("a task ended that runs for ever");
            }
        }
    }
}

/// Gives streams, requests and the last write time to finish; the tasks that never end are dropped.
async fn drain(tasks: &mut JoinSet<Result<()>>, deadline: Duration) {
    // The server and ingestion end by themselves; the admin endpoint and the renewal do not.
    let finish = async {
        for _ in 0..ENDING_TASKS {
            if let Some(Ok(Err(error))) = tasks.join_next().await {
                tracing::warn!(%error, "while stopping");
            }
        }
    };
    if tokio::time::timeout(deadline, finish).await.is_err() {
        tracing::warn!(?deadline, "what was in progress is cut off");
    }
    tasks.shutdown().await;
}

/// The proxies' port: discovery and certificates over mTLS.
async fn serve(
    incoming: impl futures::Stream<Item = std::io::Result<transport::Connection>> + Send,
    ca: CaService,
    ads: Ads,
) -> Result<()> {
    let discovery = AggregatedDiscoveryServiceServer::new(ads.clone());
    let mut phase = ads.phase.clone();
    Server::builder()
        // A proxy that is gone without a word is noticed within 40 s.
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        // A proxy has one stream and a certificate request now and then; a second stream while it comes back.
        .max_concurrent_streams(Some(STREAMS_ON_A_CONNECTION))
        // From its head to its answer's: a certificate request over Consul takes 5 s at most. A stream's answer begins
        // at once.
        .timeout(REQUEST_TIMEOUT)
        .http2_max_header_list_size(Some(16 * 1024))
        .layer(NoteAbandoned)
        .add_service(ca.into_server())
        .add_service(Framed::new(discovery.max_decoding_message_size(LARGEST_REQUEST)))
        .serve_with_incoming_shutdown(incoming, async move { stopping(&mut phase).await })
        .await
        .context("serving proxies")
}

async fn done(task: impl Future<Output = ()>) -> Result<()> {
    task.await;
    Ok(())
}

fn follow(one: &RegistrySettings, settings: &Settings) -> Result<Followed> {
    let (id, trust_domain) = (one.id.clone(), settings.trust_domain.clone());
    let registry: Box<dyn Registry> = match (id.kind(), &one.directory) {
        (RegistryKind::File, Some(directory)) => {
            Box::new(FileRegistry::new(id, FileSettings::new(directory), trust_domain))
        }
        (RegistryKind::Consul, _) => {
            let consul = one.consul.clone().unwrap_or_default();
            let registry = ConsulRegistry::new(id, consul, trust_domain);
            Box::new(registry.with_context(|| format!("settings of registry {}", one.id))?)
        }
        (RegistryKind::Kubernetes, _) => {
            let kubernetes = one.kubernetes.clone().unwrap_or_default();
            let registry = KubernetesRegistry::new(id, kubernetes, trust_domain);
            Box::new(registry.with_context(|| format!("settings of registry {}", one.id))?)
        }
        (RegistryKind::Nomad, _) => {
            let nomad = one.nomad.clone().unwrap_or_default();
            let registry = NomadRegistry::new(id, nomad, trust_domain);
            Box::new(registry.with_context(|| format!("settings of registry {}", one.id))?)
        }
        _ => bail!(
            "settings of registry {}: expected file/NAME with a directory, consul/NAME, kubernetes/NAME or nomad/NAME",
            one.id
        ),
    };
    let supervise = SuperviseSettings { guard: (&one.guard).into() };
    Ok(Followed { registry, required: one.required, mapping: one.mapping.clone(), supervise })
}

/// [`serve`] and [`Ingest::run`].
const ENDING_TASKS: usize = 2;

const STREAMS_ON_A_CONNECTION: u32 = 8;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests;
