//! Requests to one Consul agent: consulrs's request machinery over a transport of our own.
//!
//! consulrs comes with reqwest 0.11 and OpenSSL, so it only builds the requests here; [`Transport`] carries them. What
//! the machinery would unwrap is checked before: tokens here, the address in `settings.rs`, names by being
//! [`ServiceName`]s. When to ask again is `watch.rs`'s business.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use consulrs::api::catalog::requests::ListServicesRequest;
use consulrs::api::features::{Blocking, ConsistencyMode};
use consulrs::api::{EndpointMiddleware, Features};
use rustify::endpoint::Endpoint;
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;
use weft_model::ServiceName;
use weft_registry::RegistryErrorKind;

use crate::answer::{AgentConfig, CaRoots, HealthEntry};
use crate::endpoints::{ConnectCaRoots, HealthService, Place, ReadAgent};
use crate::error::ConsulError;
use crate::settings::{ConsulSettings, InvalidSettings};
use crate::transport::{Transport, http_client};

/// A client of one Consul agent, for one datacenter. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct ConsulClient {
    http: reqwest::Client,
    base: Arc<str>,
    datacenter: Option<Arc<str>>,
    token_file: Option<Arc<Path>>,
    stale: bool,
    answer_timeout: Duration,
}

/// An answer and what its headers say about it.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub(crate) value: T,
    /// `X-Consul-Index`.
    pub(crate) index: Option<u64>,
    /// Whether the token may not see all of it (`X-Consul-Results-Filtered-By-ACLs`, from 1.12 on).
    pub(crate) filtered: bool,
    /// For `stale` reads: how long the server that answered has not heard of the leader; `None` when it knows none.
    pub(crate) behind: Option<Duration>,
}

/// How long to wait for what to change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    pub(crate) index: u64,
    pub(crate) wait: Duration,
}

impl ConsulClient {
    /// A client with these settings; reads the certificate files once.
    ///
    /// # Errors
    /// When a setting is wrong or a file that it names can't be used.
    pub fn new(settings: &ConsulSettings) -> Result<Self, InvalidSettings> {
        settings.check()?;
        // reqwest would panic.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(InvalidSettings::new(
                "address",
                "the process has installed no rustls crypto provider",
            ));
        }
        Ok(Self {
            http: http_client(settings)?,
            base: settings.address.trim_end_matches('/').into(),
            datacenter: settings.datacenter.as_deref().map(Into::into),
            token_file: settings.token_file.as_deref().map(Into::into),
            stale: settings.stale,
            answer_timeout: settings.answer_timeout,
        })
    }

    /// The root certificates (PEM) of the datacenter's Connect CA, old ones included.
    ///
    /// # Errors
    /// When Consul does not answer, refuses, or has Connect switched off.
    pub async fn connect_ca_roots(&self) -> Result<Vec<Vec<u8>>, ConsulError> {
        let roots = self.ca_roots().await?.roots;
        Ok(roots.into_iter().map(|root| root.root_cert.into_bytes()).collect())
    }

    /// The trust domain of the datacenter's Connect CA: `11111111-2222-3333-4444-555555555555.consul`.
    ///
    /// # Errors
    /// As [`Self::connect_ca_roots`].
    pub async fn connect_trust_domain(&self) -> Result<String, ConsulError> {
        Ok(self.ca_roots().await?.trust_domain)
    }

    async fn ca_roots(&self) -> Result<CaRoots, ConsulError> {
        let answer = self
            .get("the roots of the Connect CA", || ConnectCaRoots { place: self.place(None) }, None)
            .await?;
        Ok(answer.value)
    }

    /// The names of all services in a namespace.
    pub(crate) async fn services(
        &self,
        namespace: Option<&str>,
        block: Option<Block>,
    ) -> Result<Answer<HashMap<String, Vec<String>>>, ConsulError> {
        let request = || {
            let Place { dc, ns } = self.place(namespace);
            ListServicesRequest { features: None, dc, ns }
        };
        self.get("the list of services", request, block).await
    }

    /// All instances of a service with all their checks.
    pub(crate) async fn health(
        &self,
        namespace: Option<&str>,
        name: &ServiceName,
        block: Option<Block>,
    ) -> Result<Answer<Vec<HealthEntry>>, ConsulError> {
        let endpoint = || HealthService { name: name.clone(), place: self.place(namespace) };
        self.get(&format!("service {name}"), endpoint, block).await
    }

    /// The agent's version and datacenter. Needs `agent:read`.
    pub(crate) async fn agent(&self) -> Result<AgentConfig, ConsulError> {
        Ok(self.get("the agent's version", || ReadAgent, None).await?.value.config)
    }

    fn place(&self, namespace: Option<&str>) -> Place {
        Place { dc: self.datacenter.as_deref().map(str::to_owned), ns: namespace.map(str::to_owned) }
    }

    /// Asks, and asks again where the token was replaced meanwhile: what the old one saw, minutes ago perhaps, would
    /// contradict what the new one sees.
    async fn get<E: Endpoint>(
        &self,
        what: &str,
        endpoint: impl Fn() -> E,
        block: Option<Block>,
    ) -> Result<Answer<E::Response>, ConsulError> {
        let mut token = self.token(what).await?;
        let mut answer = self.get_as(what, endpoint(), block, token.clone()).await;
        // A file that changes faster than Consul answers is no reason to go on for ever.
        for _ in 0..3 {
            let now = self.token(what).await?;
            if now == token {
                break;
            }
            token = now;
            answer = self.get_as(what, endpoint(), None, token.clone()).await;
        }
        answer
    }

    async fn get_as<E: Endpoint>(
        &self,
        what: &str,
        endpoint: E,
        block: Option<Block>,
        token: Option<String>,
    ) -> Result<Answer<E::Response>, ConsulError> {
        let wait = block.map_or(Duration::ZERO, |block| block.wait);
        let blocking = block.map(|block| Blocking {
            index: block.index,
            wait: Some(format!("{}ms", block.wait.as_millis())),
        });
        let mode = self.stale.then_some(ConsistencyMode::STALE);
        let features = Some(Features { blocking, mode, cached: None, filter: None });
        let middleware = EndpointMiddleware { features, token, version: "v1".to_owned() };
        // Consul adds up to wait/16, so that queries that started together do not end together.
        let timeout = wait + wait / 16 + self.answer_timeout;
        let transport = Transport { http: &self.http, base: &self.base, timeout };
        let asked = async { endpoint.with_middleware(&middleware).exec(&transport).await };
        // The machinery logs each request, and each failure as an error of ours; `supervise()` logs once what matters.
        let result = asked
            .with_subscriber(Dispatch::none())
            .await
            .map_err(|error| ConsulError::from_client(what, &error))?;
        let value = result.parse().map_err(|error| ConsulError::from_client(what, &error))?;
        Ok(with_headers(value, result.response.headers()))
    }

    /// The ACL token, as the file holds it now.
    async fn token(&self, what: &str) -> Result<Option<String>, ConsulError> {
        let Some(path) = &self.token_file else { return Ok(None) };
        let denied = |reason: String| {
            Err(ConsulError::new(
                RegistryErrorKind::PermissionDenied,
                what,
                format!("token file {}: {reason}", path.display()),
            ))
        };
        let bytes = match tokio::fs::read(path).await {
            Ok(bytes) => bytes,
            Err(error) => return denied(error.to_string()),
        };
        let text = bytes.trim_ascii();
        // What follows unwraps on a token that is no header value.
        if text.is_empty() || text.len() > 4096 || !text.iter().all(u8::is_ascii_graphic) {
            return denied("it holds no token: 1 to 4,096 visible ASCII characters were expected".to_owned());
        }
        Ok(Some(text.iter().copied().map(char::from).collect()))
    }
}

fn with_headers<T>(value: T, headers: &http::HeaderMap) -> Answer<T> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let known_leader = header("x-consul-knownleader") != Some("false");
    let last_contact = header("x-consul-lastcontact").and_then(|text| text.parse().ok()).unwrap_or(0);
    Answer {
        value,
        index: header("x-consul-index").and_then(|text| text.parse().ok()),
        filtered: header("x-consul-results-filtered-by-acls") == Some("true"),
        behind: known_leader.then(|| Duration::from_millis(last_contact)),
    }
}
