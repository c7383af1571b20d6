//! A control plane under test, and the ways to connect to it: as a stranger, as a member, gRPC or bare HTTP/2.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use weft_identity::{
    CONTROL_PLANE_PATH, Credentials, JoinToken, Svid, TrustBundle, TrustBundles, new_key_and_csr,
    pinned_client_config,
};
use weft_integration::{Mesh, MeshPlan, eventually};
use weft_proto::ResourceType;
use weft_proto::ca::v1 as ca;
use weft_proto::ca::v1::certificate_authority_client::CertificateAuthorityClient;
use weft_proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use weft_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};

pub(crate) type CaClient = CertificateAuthorityClient<Channel>;

/// A mesh whose control plane is attacked.
pub(crate) struct World {
    pub(crate) mesh: Mesh,
}

impl World {
    /// With these settings besides.
    pub(crate) async fn start(more: &str) -> Result<Self> {
        let plan = MeshPlan { more: more.to_owned(), ..MeshPlan::default() };
        let world = Self { mesh: Mesh::start(plan).await? };
        world.register(0)?;
        Ok(world)
    }

    /// The service `api` as of change `n`, which its workload's label tells.
    pub(crate) fn register(&self, n: usize) -> Result<()> {
        let object = format!(
            "kind: Workload\nname: api-1\nservice: api\naddresses: [127.0.0.1]\nhealth: healthy\ntunnel: 15008\n\
             labels: {{version: {}}}\nports: [{{name: main, number: 8080, protocol: http1}}]\n",
            change(n)
        );
        self.mesh.register("api.yaml", &object)
    }

    /// A join token.
    pub(crate) async fn token(&self, identity: &str, ttl: u64) -> Result<JoinToken> {
        let client = reqwest::Client::builder().unix_socket(self.mesh.socket()).build()?;
        let wanted = serde_json::json!({"identity": identity, "ttl_seconds": ttl});
        let made = client.post("http://control/v1/tokens").body(wanted.to_string()).send().await?;
        let made: serde_json::Value = serde_json::from_str(&made.text().await?)?;
        Ok(made["token"].as_str().with_context(|| made.to_string())?.parse()?)
    }

    /// How a client without a certificate connects.
    pub(crate) async fn stranger_tls(&self) -> Result<Arc<ClientConfig>> {
        let status = self.mesh.admin("/v1/status").await?;
        let pin = status["control_plane"]["roots"][0]["sha256"].as_str().context("a root")?.parse()?;
        Ok(pinned_client_config(&[pin], CONTROL_PLANE_PATH, &[b"h2"])?)
    }

    /// A connection to the CA without a certificate.
    pub(crate) async fn stranger(&self) -> Result<CaClient> {
        let tls = self.stranger_tls().await?;
        Ok(CertificateAuthorityClient::new(weft_xds_client::connect(&self.mesh.address(), tls).await?))
    }

    /// A member of the mesh with its certificate.
    pub(crate) async fn member(&self, identity: &str) -> Result<Member> {
        let token = self.token(identity, 60).await?;
        let (key, csr) = new_key_and_csr(None)?;
        let attestation = by_token(token.to_string());
        let issued = ask(&mut self.stranger().await?, csr, attestation).await?;
        let svid = Svid::from_der(certificates(&issued.chain), PrivateKeyDer::Pkcs8(key))?;
        let bundle = issued.bundles.first().context("a bundle")?;
        let bundle = TrustBundle::new(bundle.trust_domain.parse()?, certificates(&bundle.roots))?;
        let (svid, bundles) = (Arc::new(svid), Arc::new(TrustBundles::from_iter([bundle])));
        Ok(Member { svid, bundles, address: self.mesh.address() })
    }

    /// The sum of a metric's samples whose labels hold `label`.
    pub(crate) async fn metric(&self, name: &str, label: &str) -> Result<f64> {
        let page = self.mesh.admin("/metrics").await?;
        let page = page.as_str().context("text")?;
        let lines = page.lines().filter(|line| line.starts_with(name) && line.contains(label));
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        Ok(lines.filter_map(value).sum())
    }

    /// Waits until streams were refused for `reason` more often than `before`.
    pub(crate) async fn counted(&self, name: &str, reason: &str, before: f64) -> Result<()> {
        eventually(&format!("{name} counts {reason}"), async || {
            let now = self.metric(name, &format!("\"{reason}\"")).await?;
            Ok((now > before).then_some(()))
        })
        .await
    }
}

/// The label of change `n`.
pub(crate) fn change(n: usize) -> String {
    format!("change-{n:04}")
}

pub(crate) fn certificates(der: &[Bytes]) -> Vec<CertificateDer<'static>> {
    der.iter().map(|der| CertificateDer::from(der.to_vec())).collect()
}

pub(crate) fn by_token(token: String) -> Option<ca::issue_request::Attestation> {
    Some(ca::issue_request::Attestation::JoinToken(ca::JoinToken { token }))
}

pub(crate) async fn ask(
    client: &mut CaClient,
    csr: Vec<u8>,
    attestation: Option<ca::issue_request::Attestation>,
) -> Result<ca::IssueResponse, Status> {
    Ok(client.issue(ca::IssueRequest { csr: csr.into(), attestation }).await?.into_inner())
}

/// Somebody with a certificate of the mesh.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) svid: Arc<Svid>,
    bundles: Arc<TrustBundles>,
    pub(crate) address: String,
}

impl Member {
    pub(crate) fn tls(&self) -> Result<Arc<ClientConfig>> {
        let credentials = Credentials::new(Arc::clone(&self.svid), Arc::clone(&self.bundles), 1);
        let id = format!("spiffe://{}{CONTROL_PLANE_PATH}", Mesh::TRUST_DOMAIN).parse()?;
        Ok(credentials.client_config(&id, &[b"h2"])?)
    }

    /// The same certificate, with another's trust.
    pub(crate) fn with_bundles_of(&self, other: &Self) -> Self {
        Self { bundles: Arc::clone(&other.bundles), ..self.clone() }
    }

    pub(crate) fn node(&self, instance: &str) -> String {
        format!("{}~{instance}", self.svid.id())
    }

    pub(crate) async fn channel(&self) -> Result<Channel> {
        Ok(weft_xds_client::connect(&self.address, self.tls()?).await?)
    }

    pub(crate) async fn ca(&self) -> Result<CaClient> {
        Ok(CertificateAuthorityClient::new(self.channel().await?))
    }

    /// A stream on a connection of its own.
    pub(crate) async fn stream(&self, instance: &str) -> Result<Client> {
        Client::open(self.channel().await?, self.node(instance)).await
    }

    /// A TLS connection, for whoever speaks HTTP/2 by hand.
    pub(crate) async fn raw(&self) -> Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(&self.address).await?;
        let name = ServerName::IpAddress(tcp.peer_addr()?.ip().into());
        Ok(TlsConnector::from(self.tls()?).connect(name, tcp).await?)
    }
}

/// A client's side of a stream, that does what it is told and no more.
pub(crate) struct Client {
    node: String,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    _channel: Channel,
}

impl Client {
    pub(crate) async fn open(channel: Channel, node: String) -> Result<Self> {
        let (requests, receiver) = mpsc::channel(64);
        let large =
            AggregatedDiscoveryServiceClient::new(channel.clone()).max_decoding_message_size(64 << 20);
        let opened = large.clone().delta_aggregated_resources(ReceiverStream::new(receiver)).await?;
        Ok(Self { node, requests, responses: opened.into_inner(), _channel: channel })
    }

    pub(crate) fn request(&self, kind: ResourceType) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest {
            node: Some(Node { id: self.node.clone(), ..Node::default() }),
            type_url: kind.url().to_owned(),
            ..Default::default()
        }
    }

    /// That the stream has ended shows in its answer.
    pub(crate) async fn send(&self, request: DeltaDiscoveryRequest) {
        _ = self.requests.send(request).await;
    }

    pub(crate) async fn subscribe(&self, kind: ResourceType, names: &[&str]) {
        let resource_names_subscribe = names.iter().map(|&name| name.to_owned()).collect();
        self.send(DeltaDiscoveryRequest { resource_names_subscribe, ..self.request(kind) }).await;
    }

    pub(crate) async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        match self.responses.message().await {
            Ok(Some(response)) => Ok(response),
            Ok(None) => Err(Status::ok("the stream ended")),
            Err(status) => Err(status),
        }
    }

    pub(crate) async fn acknowledge(&self, response: &DeltaDiscoveryResponse) {
        let (type_url, response_nonce) = (response.type_url.clone(), response.nonce.clone());
        self.send(DeltaDiscoveryRequest { type_url, response_nonce, ..Default::default() }).await;
    }

    /// Reads, with an ACK for each response or none, until the stream ends.
    pub(crate) async fn end(&mut self, acknowledging: bool) -> Result<Status> {
        let reading = async {
            loop {
                match self.next().await {
                    Ok(response) if acknowledging => self.acknowledge(&response).await,
                    Ok(_) => {}
                    Err(status) => return status,
                }
            }
        };
        tokio::time::timeout(weft_integration::PATIENCE, reading).await.context("the stream goes on")
    }
}

/// What a call that must fail says.
pub(crate) fn refused<T>(answer: Result<T, Status>, code: Code) -> Result<()> {
    match answer {
        Ok(_) => bail!("it was granted, expected {code:?}"),
        Err(status) if status.code() == code => Ok(()),
        Err(status) => bail!("{status}, expected {code:?}"),
    }
}
