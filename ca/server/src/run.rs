//! What the commands of `weft-ca` do: they wire the library's parts and nothing else.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow, bail};
use futures::FutureExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use weft_ca::settings::{NomadAttestation, Settings};
use weft_ca::{
    Authority, CaService, CaServiceParts, ConsulAttestor, ConsulDatacenter, JoinTokens, KubernetesAttestor,
    KubernetesCluster, NomadAttestor, NomadRegion, keep_own_svid, transport,
};
use weft_identity::{SvidSource, TrustBundle, certificates_from_pem};
use weft_model::SpiffeId;
use weft_registry_consul::ConsulClient;
use weft_registry_kubernetes::attest::TokenReviews;
use weft_registry_nomad::attest::NomadWitness;

pub(crate) fn serve(settings: &Settings) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).from_env_lossy();
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(serve_until_stopped(settings))
}

async fn serve_until_stopped(settings: &Settings) -> anyhow::Result<()> {
    let authority = Arc::new(Authority::open(&settings.authority(), SystemTime::now())?);
    let pin = authority.root_pin().context("the authority has no root")?;
    let tokens = Arc::new(JoinTokens::open(&settings.state_dir, pin)?);
    let consul = consul_attestor(settings)?.map(Arc::new);
    let kubernetes = kubernetes_attestor(settings)?.map(Arc::new);
    let nomad = nomad_attestor(settings)?.map(Arc::new);
    let listener = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("listening on {}", settings.listen))?;
    let address = listener.local_addr()?;
    let source = SvidSource::new();
    let parts = CaServiceParts {
        authority: Arc::clone(&authority),
        tokens,
        shared_tokens: None,
        consul,
        kubernetes,
        nomad,
        limits: settings.limits,
    };
    let stopped = stopped()?.shared();
    let connections = transport::Connections::new(settings.connections);
    let incoming = transport::incoming(listener, source.clone(), connections);
    let server = tonic::transport::Server::builder()
        .timeout(REQUEST_TIMEOUT)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_ANSWER))
        .max_concurrent_streams(Some(REQUESTS_AT_ONCE))
        .http2_max_header_list_size(Some(LARGEST_HEAD))
        .add_service(CaService::new(parts).into_server())
        .serve_with_incoming_shutdown(incoming, stopped.clone());
    tracing::info!(%address, trust_domain = %settings.trust_domain, %pin, "the CA serves");
    tokio::select! {
        // The own certificate first: without it no handshake succeeds.
        biased;
        ended = keep_own_svid(authority, source) => ended.context("issuing the own certificate"),
        served = server => served.context("serving"),
        () = stopped.then(|()| tokio::time::sleep(GRACE)) => {
            tracing::warn!("a client did not close its connection in time");
            Ok(())
        }
    }
}

fn consul_attestor(settings: &Settings) -> anyhow::Result<Option<ConsulAttestor>> {
    let mut datacenters = std::collections::BTreeMap::new();
    for (registry, consul) in &settings.consul {
        let client = ConsulClient::new(&consul.client).with_context(|| format!("consul.{registry:?}"))?;
        let (datacenter, identities) = (consul.datacenter.clone(), consul.identities.clone());
        datacenters
            .insert(registry.clone(), ConsulDatacenter { datacenter, roots: Box::new(client), identities });
    }
    Ok((!datacenters.is_empty()).then(|| ConsulAttestor::new(settings.trust_domain.clone(), datacenters)))
}

fn kubernetes_attestor(settings: &Settings) -> anyhow::Result<Option<KubernetesAttestor>> {
    let mut clusters = std::collections::BTreeMap::new();
    for (registry, kubernetes) in &settings.kubernetes {
        let reviews = TokenReviews::new(kubernetes.client.clone());
        let reviewer = Box::new(reviews.with_context(|| format!("kubernetes.{registry:?}"))?);
        let audience = kubernetes.audience.clone();
        clusters.insert(registry.clone(), KubernetesCluster { audience, reviewer });
    }
    Ok((!clusters.is_empty()).then(|| KubernetesAttestor::new(settings.trust_domain.clone(), clusters)))
}

fn nomad_attestor(settings: &Settings) -> anyhow::Result<Option<NomadAttestor>> {
    let mut regions = std::collections::BTreeMap::new();
    for (registry, NomadAttestation { tokens, client }) in &settings.nomad {
        tokens.check().map_err(|problem| anyhow!("nomad.{registry:?}.tokens: {problem}"))?;
        let witness = NomadWitness::new(client).with_context(|| format!("nomad.{registry:?}.client"))?;
        regions.insert(registry.clone(), NomadRegion::new(tokens.clone(), client, witness));
    }
    Ok((!regions.is_empty()).then(|| NomadAttestor::new(settings.trust_domain.clone(), regions)))
}

/// SIGTERM or SIGINT: running requests are finished.
fn stopped() -> anyhow::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    })
}

pub(crate) fn create(settings: &Settings, identity: &SpiffeId, ttl: Duration) -> anyhow::Result<()> {
    if identity.trust_domain() != settings.trust_domain {
        bail!("{identity} is not of trust domain {}", settings.trust_domain);
    }
    println!("{}", tokens(settings)?.create(identity, ttl, SystemTime::now())?);
    Ok(())
}

pub(crate) fn list(settings: &Settings) -> anyhow::Result<()> {
    println!("{:<16}  {:<8}  {:<20}  IDENTITY", "ID", "STATE", "EXPIRES");
    for record in tokens(settings)?.list(SystemTime::now())? {
        let state = format!("{:?}", record.state).to_lowercase();
        let expires = humantime::format_rfc3339_seconds(record.expires);
        println!("{:<16}  {state:<8}  {expires}  {}", record.id, record.identity);
    }
    Ok(())
}

pub(crate) fn revoke(settings: &Settings, id: &str) -> anyhow::Result<()> {
    match tokens(settings)?.revoke(id)? {
        true => Ok(()),
        false => bail!("there is no unused token {id}; see `weft-ca token list`"),
    }
}

/// The tokens, beside a CA that may be serving: reads its root, takes no lock.
fn tokens(settings: &Settings) -> anyhow::Result<JoinTokens> {
    let path = match &settings.own_pem {
        Some(own) => own.roots.clone(),
        None => settings.state_dir.join("root.pem"),
    };
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("reading the CA's root {}; has the CA been started once?", path.display())
    })?;
    let roots = certificates_from_pem(&text).with_context(|| path.display().to_string())?;
    let bundle =
        TrustBundle::new(settings.trust_domain.clone(), roots).with_context(|| path.display().to_string())?;
    let root = bundle.roots.first().context("there is no root")?;
    Ok(JoinTokens::open(&settings.state_dir, weft_identity::RootPin::of(root))?)
}

/// For requests that run when the process is told to stop: one that attests over Consul takes 5 s at most.
const GRACE: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Finds peers that are gone without a word.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(10);
/// A proxy asks for a nonce, then for a certificate.
const REQUESTS_AT_ONCE: u32 = 16;
const LARGEST_HEAD: u32 = 16 * 1024;
