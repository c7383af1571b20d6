//! What carries a request to the agent: reqwest 0.13 with rustls, bounded in time and size.
//!
//! It takes and gives the types of consulrs's machinery (http 0.2), and lets no header through that is not visible ASCII,
//! since that machinery unwraps what a header holds. It knows nothing of Consul.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use rustify::client::Client;
use rustify::errors::ClientError;

use crate::settings::{ConsulSettings, InvalidSettings};

/// The transport's own client: rustls, no proxy, no redirect, HTTP/1.1 (a blocking query holds its connection, and
/// one cut connection must not end all of them).
pub(crate) fn http_client(settings: &ConsulSettings) -> Result<reqwest::Client, InvalidSettings> {
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .http1_only()
        .connect_timeout(settings.answer_timeout.min(Duration::from_secs(10)))
        .tcp_keepalive(Duration::from_secs(30))
        .pool_max_idle_per_host(settings.max_watches);
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

/// What carries one request.
pub(crate) struct Transport<'a> {
    pub(crate) http: &'a reqwest::Client,
    pub(crate) base: &'a str,
    pub(crate) timeout: Duration,
}

#[async_trait]
impl Client for Transport<'_> {
    async fn send(&self, request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, ClientError> {
        let mut outgoing = self.http.get(request.uri().to_string()).timeout(self.timeout);
        for (name, value) in request.headers() {
            outgoing = outgoing.header(name.as_str(), value.as_bytes());
        }
        let mut answer = outgoing.send().await.map_err(failed)?;
        let mut response = http::Response::builder().status(answer.status().as_u16());
        for (name, value) in answer.headers() {
            // consulrs unwraps `to_str()`.
            if let Ok(text) = value.to_str() {
                response = response.header(name.as_str(), text);
            }
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(ClientError::ResponseError { source: BodyTooLong.into() });
            }
            body.extend_from_slice(&chunk);
        }
        response.body(body).map_err(|error| ClientError::ResponseError { source: error.into() })
    }

    fn base(&self) -> &str {
        self.base
    }
}

fn failed(error: reqwest::Error) -> ClientError {
    ClientError::ResponseError { source: error.without_url().into() }
}

#[derive(Debug, thiserror::Error)]
#[error("the answer is longer than {} MiB", MAX_BODY >> 20)]
struct BodyTooLong;

/// Some 20,000 instances of one service. What is longer is no answer, and would cost memory.
const MAX_BODY: usize = 32 << 20;
