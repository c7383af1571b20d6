//! Requests to one Nomad agent: bounded in time and size, with the token as its file holds it now.
//!
//! Paths are given in parts and encoded here, since a job's id may hold anything. When to ask again is not its business.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use weft_registry::RegistryErrorKind;

use crate::error::NomadError;
use crate::settings::{InvalidSettings, NomadSettings};

/// A client of one Nomad agent, for one region. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct NomadClient {
    http: reqwest::Client,
    base: Url,
    region: Option<Arc<str>>,
    token: Option<Token>,
    answer_timeout: Duration,
}

/// Where the ACL token is.
#[derive(Clone)]
enum Token {
    File(Arc<Path>),
    Given(Arc<str>),
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Given(_) => f.write_str("given"),
        }
    }
}

/// An answer and what its headers say about it.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// What was asked for.
    pub value: T,
    /// `X-Nomad-Index`.
    pub index: Option<u64>,
    /// `X-Nomad-KnownLeader`: whether the server that answered knows a leader.
    pub known_leader: bool,
}

/// How long to wait for what to change.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    /// The index of the last answer.
    pub index: u64,
    /// At most so long.
    pub wait: Duration,
}

impl NomadClient {
    /// A client with these settings; reads the certificate files once.
    ///
    /// # Errors
    /// When a setting is wrong or a file that it names can't be used.
    pub fn new(settings: &NomadSettings) -> Result<Self, InvalidSettings> {
        settings.check()?;
        // reqwest would panic.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(InvalidSettings::new(
                "address",
                "the process has installed no rustls crypto provider",
            ));
        }
        let base = Url::parse(&settings.address)
            .map_err(|error| InvalidSettings::new("address", error.to_string()))?;
        Ok(Self {
            http: http_client(settings)?,
            base,
            region: settings.region.as_deref().map(Into::into),
            token: settings.token_file.as_deref().map(|path| Token::File(path.into())),
            answer_timeout: settings.answer_timeout,
        })
    }

    /// The same client with this ACL token: for people, who have theirs in the environment.
    ///
    /// # Errors
    /// When it is none.
    pub fn with_token(self, token: &str) -> Result<Self, NomadError> {
        let token = legal("the ACL token", token.as_bytes())?;
        Ok(Self { token: Some(Token::Given(token.into())), ..self })
    }

    /// Reads `/PATH?QUERY`, waiting for a change where `block` says so. `what` names it in errors.
    ///
    /// # Errors
    /// When Nomad does not answer, refuses, or its answer can't be read.
    pub async fn get<T: DeserializeOwned>(
        &self,
        what: &str,
        path: &[&str],
        query: &[(&str, &str)],
        block: Option<Block>,
    ) -> Result<Answer<T>, NomadError> {
        let mut request = self.request(what, Method::GET, path, query).await?;
        let mut wait = Duration::ZERO;
        if let Some(block) = block {
            let text = format!("{}ms", block.wait.as_millis());
            request = request.query(&[("index", block.index.to_string()), ("wait", text)]);
            wait = block.wait;
        }
        // Nomad adds up to wait/16, so that queries that started together do not end together.
        let timeout = wait + wait / 16 + self.answer_timeout;
        self.answer(what, request.timeout(timeout)).await
    }

    /// Sends `body` to `/PATH?QUERY` and reads the answer.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        what: &str,
        path: &[&str],
        query: &[(&str, &str)],
        body: &impl Serialize,
    ) -> Result<T, NomadError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| NomadError::new(RegistryErrorKind::Garbage, what, error.to_string()))?;
        let request = self.request(what, Method::POST, path, query).await?;
        let request = request.header("content-type", "application/json").body(body);
        Ok(self.answer(what, request.timeout(self.answer_timeout)).await?.value)
    }

    /// Opens a stream: an answer without an end. Only its start is bounded in time.
    ///
    /// # Errors
    /// When Nomad does not answer, or refuses.
    pub async fn stream(
        &self,
        what: &str,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<reqwest::Response, NomadError> {
        let request = self.request(what, Method::GET, path, query).await?;
        let started = tokio::time::timeout(self.answer_timeout, request.send()).await;
        let late = |_| NomadError::new(RegistryErrorKind::SourceDown, what, "it does not answer");
        let answer = started.map_err(late)?.map_err(|error| NomadError::of_transport(what, error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let body = tokio::time::timeout(self.answer_timeout, bounded(what, answer)).await.map_err(late)??;
        Err(NomadError::of_status(what, status, &String::from_utf8_lossy(&body)))
    }

    async fn request(
        &self,
        what: &str,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<reqwest::RequestBuilder, NomadError> {
        let mut url = self.base.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.clear().extend(path);
        }
        let mut request = self.http.request(method, url).query(query);
        if let Some(region) = &self.region {
            request = request.query(&[("region", region)]);
        }
        if let Some(token) = self.token(what).await? {
            request = request.header(TOKEN, token);
        }
        Ok(request)
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        what: &str,
        request: reqwest::RequestBuilder,
    ) -> Result<Answer<T>, NomadError> {
        let answer = request.send().await.map_err(|error| NomadError::of_transport(what, error))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = bounded(what, answer).await?;
        if !status.is_success() {
            return Err(NomadError::of_status(what, status, &String::from_utf8_lossy(&body)));
        }
        let value = serde_json::from_slice(&body).map_err(|error| NomadError::of_body(what, &error))?;
        let header = |name| text(&headers, name);
        Ok(Answer {
            value,
            index: header("x-nomad-index").and_then(|text| text.parse().ok()),
            known_leader: header("x-nomad-knownleader") != Some("false"),
        })
    }

    /// The ACL token, as the file holds it now.
    async fn token(&self, what: &str) -> Result<Option<String>, NomadError> {
        let path = match &self.token {
            None => return Ok(None),
            Some(Token::Given(token)) => return Ok(Some(token.to_string())),
            Some(Token::File(path)) => path,
        };
        let named = |reason: String| {
            let reason = format!("token file {}: {reason}", path.display());
            NomadError::new(RegistryErrorKind::PermissionDenied, what, reason)
        };
        let bytes = tokio::fs::read(path).await.map_err(|error| named(error.to_string()))?;
        legal(what, &bytes).map(Some).map_err(|error| named(error.reason))
    }
}

/// A token that can be sent. ACL tokens are UUIDs; workload identities are longer.
fn legal(what: &str, bytes: &[u8]) -> Result<String, NomadError> {
    let text = bytes.trim_ascii();
    if text.is_empty() || text.len() > 16 * 1024 || !text.iter().all(u8::is_ascii_graphic) {
        let reason = "it holds no token: visible ASCII characters were expected";
        return Err(NomadError::new(RegistryErrorKind::PermissionDenied, what, reason));
    }
    Ok(text.iter().copied().map(char::from).collect())
}

fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Option<&'a str> {
    headers.get(HeaderName::from_static(name)).and_then(|value| value.to_str().ok())
}

async fn bounded(what: &str, mut answer: reqwest::Response) -> Result<Vec<u8>, NomadError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| NomadError::of_transport(what, error))? {
        if body.len() + chunk.len() > MAX_BODY {
            let reason = format!("the answer is longer than {} MiB", MAX_BODY >> 20);
            return Err(NomadError::new(RegistryErrorKind::Garbage, what, reason));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// rustls, no proxy, no redirect, HTTP/1.1: a blocking query holds its connection, and one cut connection must not end all.
fn http_client(settings: &NomadSettings) -> Result<reqwest::Client, InvalidSettings> {
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .http1_only()
        .connect_timeout(settings.answer_timeout.min(Duration::from_secs(10)))
        .tcp_keepalive(Duration::from_secs(30))
        .pool_max_idle_per_host(settings.max_requests);
    if let Some(path) = &settings.ca_file {
        let pem = read("ca_file", path)?;
        let roots = reqwest::Certificate::from_pem_bundle(&pem).ok().filter(|roots| !roots.is_empty());
        let roots = roots.ok_or_else(|| wrong("ca_file", path, "it holds no PEM certificate"))?;
        builder = builder.tls_certs_only(roots);
    } else if settings.address.starts_with("http://") {
        // No system roots are read, which a minimal image may not have.
        builder = builder.tls_certs_only([]);
    }
    if let (Some(certificate), Some(key)) = (&settings.client_certificate, &settings.client_key) {
        let pem =
            [read("client_certificate", certificate)?, b"\n".to_vec(), read("client_key", key)?].concat();
        let identity = reqwest::Identity::from_pem(&pem).map_err(|error| {
            wrong("client_certificate", certificate, &format!("no PEM chain with its key: {error}"))
        })?;
        builder = builder.identity(identity);
    }
    builder.build().map_err(|error| InvalidSettings::new("ca_file", weft_registry::causes(&error)))
}

fn read(key: &'static str, path: &PathBuf) -> Result<Vec<u8>, InvalidSettings> {
    std::fs::read(path).map_err(|error| wrong(key, path, &error.to_string()))
}

fn wrong(key: &'static str, path: &Path, reason: &str) -> InvalidSettings {
    InvalidSettings::new(key, format!("{}: {reason}", path.display()))
}

const TOKEN: &str = "x-nomad-token";
/// A list of some 50,000 allocations. What is longer is no answer, and would cost memory.
const MAX_BODY: usize = 128 << 20;
