//! Talks to a control plane's admin endpoint: HTTP/1 over its Unix socket, over loopback TCP, or over the API server of the
//! cluster that it runs in.
//!
//! One connection a request: a command makes one or two. In a cluster there are several control planes: one thing is asked of
//! whoever knows it, and their status of all. Every failure says what to do next. It knows paths and bytes; what they mean is
//! `weft-control-api`'s.

mod replicas;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use weft_control_api::Refused;

use replicas::Replicas;

/// Where a control plane's admin endpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ControlAddress {
    /// Its Unix socket, which does everything.
    Socket(PathBuf),
    /// `host:port`, which only reads.
    Http(String),
    /// The namespace of a Kubernetes cluster where the control planes are, which only read.
    Kubernetes(String),
}

impl Default for ControlAddress {
    fn default() -> Self {
        let directory = PathBuf::from(weft_control_api::DEFAULT_STATE_DIR);
        Self::Socket(directory.join(weft_control_api::SOCKET_NAME))
    }
}

impl FromStr for ControlAddress {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("http://") {
            let authority = rest.trim_end_matches('/');
            let has_port = authority
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
            if !has_port || authority.contains(['/', '@', '?', '#']) {
                return Err("expected http://HOST:PORT".to_owned());
            }
            return Ok(Self::Http(authority.to_owned()));
        }
        if let Some(rest) = text.strip_prefix("kubernetes") {
            match rest.strip_prefix(':') {
                None if rest.is_empty() => return Ok(Self::Kubernetes("weft-system".to_owned())),
                Some(namespace) => return crate::kubernetes::namespace(namespace).map(Self::Kubernetes),
                None => {}
            }
        }
        let path = text.strip_prefix("unix:").unwrap_or(text);
        if path.is_empty() || path.contains("://") {
            return Err(
                "expected the path of a Unix socket, http://HOST:PORT or kubernetes[:NAMESPACE]".to_owned()
            );
        }
        Ok(Self::Socket(PathBuf::from(path)))
    }
}

impl fmt::Display for ControlAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Http(authority) => write!(f, "http://{authority}"),
            Self::Kubernetes(namespace) => write!(f, "kubernetes:{namespace}"),
        }
    }
}

/// Why the control plane gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// Nobody listens there.
    #[error("no control plane answers at {address} ({cause}): {}", next_step(cause))]
    Unreachable { address: ControlAddress, cause: io::Error },
    /// Somebody listens, but does not speak as a control plane does.
    #[error("what answers at {address} is no control plane, or of another version: {reason}")]
    Garbled { address: ControlAddress, reason: String },
    /// It took too long.
    #[error("the control plane at {address} did not answer within {} s: see its log", TIMEOUT.as_secs())]
    TimedOut { address: ControlAddress },
    /// The cluster does not lead to one.
    #[error("no control plane answers at {address}: {reason}")]
    Cluster { address: ControlAddress, reason: String },
    /// It answered that it won't.
    #[error("{message}")]
    Refused { status: StatusCode, message: String },
}

fn next_step(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => "run as the user that runs weft-control, or with sudo",
        _ => "start weft-control, or name its socket with --control",
    }
}

/// A control plane to ask, or those of a cluster.
pub(crate) struct Control {
    address: ControlAddress,
    /// Those of a cluster, once it was asked for them.
    replicas: OnceCell<Replicas>,
}

/// One process to ask.
#[derive(Clone, Copy)]
enum Way<'a> {
    Socket(&'a Path),
    Http(&'a str),
    Replica(&'a Replicas, &'a str),
}

impl Control {
    /// The one at `address`. Nothing is connected yet.
    pub(crate) fn new(address: ControlAddress) -> Self {
        Self { address, replicas: OnceCell::new() }
    }

    /// The namespace of the cluster whose control planes are asked, if it is one.
    pub(crate) fn namespace(&self) -> Option<&str> {
        match &self.address {
            ControlAddress::Kubernetes(namespace) => Some(namespace),
            _ => None,
        }
    }

    /// Reads what is at `path`, from the first that has it.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ControlError> {
        let ways = self.ways().await?;
        let mut answer = self.call(ways[0], Method::GET, path, Bytes::new()).await;
        for way in &ways[1..] {
            if answer.is_err() {
                answer = self.call(*way, Method::GET, path, Bytes::new()).await.or(answer);
            }
        }
        self.decode(&answer?)
    }

    /// Reads what is at `path` from each; also why some gave no answer, as long as one did.
    pub(crate) async fn get_all<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<(Vec<T>, Vec<ControlError>), ControlError> {
        let (mut answers, mut silent) = (Vec::new(), Vec::new());
        for way in self.ways().await? {
            let answer = self.call(way, Method::GET, path, Bytes::new()).await;
            match answer.and_then(|body| self.decode(&body)) {
                Ok(answer) => answers.push(answer),
                Err(error) => silent.push(error),
            }
        }
        match silent.pop() {
            Some(error) if answers.is_empty() => Err(error),
            last => {
                silent.extend(last);
                Ok((answers, silent))
            }
        }
    }

    /// Sends `body` to `path` and reads the answer.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ControlError> {
        let body = serde_json::to_vec(body).map_err(|error| self.garbled(&error))?;
        let answer = self.call(self.ways().await?[0], Method::POST, path, body.into()).await?;
        self.decode(&answer)
    }

    /// Deletes what is at `path`.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), ControlError> {
        self.call(self.ways().await?[0], Method::DELETE, path, Bytes::new()).await.map(|_| ())
    }

    /// Whom to ask; at least one.
    async fn ways(&self) -> Result<Vec<Way<'_>>, ControlError> {
        Ok(match &self.address {
            ControlAddress::Socket(path) => vec![Way::Socket(path)],
            ControlAddress::Http(authority) => vec![Way::Http(authority)],
            ControlAddress::Kubernetes(namespace) => {
                let opening = self.replicas.get_or_try_init(|| Replicas::open(namespace));
                let replicas = opening.await.map_err(|error| self.of_cluster(&error))?;
                replicas.pods().map(|pod| Way::Replica(replicas, pod)).collect()
            }
        })
    }

    async fn call(
        &self,
        way: Way<'_>,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, ControlError> {
        let exchange = async {
            match way {
                Way::Socket(socket) => {
                    let stream = UnixStream::connect(socket).await.map_err(|e| self.unreachable(e))?;
                    self.exchange(stream, "localhost", method, path, body).await
                }
                Way::Http(authority) => {
                    let stream = TcpStream::connect(authority).await.map_err(|e| self.unreachable(e))?;
                    self.exchange(stream, authority, method, path, body).await
                }
                Way::Replica(replicas, pod) => {
                    let stream = replicas.stream(pod).await.map_err(|e| self.of_cluster(&e.into()))?;
                    self.exchange(stream, "localhost", method, path, body).await
                }
            }
        };
        let timed_out = |_| ControlError::TimedOut { address: self.address.clone() };
        tokio::time::timeout(TIMEOUT, exchange).await.map_err(timed_out)?
    }

    async fn exchange<S>(
        &self,
        stream: S,
        host: &str,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, ControlError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, host)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.garbled(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.garbled(&error))?;
        // Owned here: the connection ends with this call.
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| self.garbled(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        let body = body.map_err(|error| self.garbled(&*error))?.to_bytes();
        if status.is_success() { Ok(body) } else { Err(self.refused(status, &body)) }
    }

    fn decode<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ControlError> {
        serde_json::from_slice(body).map_err(|error| self.garbled(&error))
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> ControlError {
        match serde_json::from_slice::<Refused>(body) {
            Ok(refused) => ControlError::Refused { status, message: refused.error },
            Err(_) => self.garbled(&format!("status {status} without a reason")),
        }
    }

    fn of_cluster(&self, error: &anyhow::Error) -> ControlError {
        ControlError::Cluster { address: self.address.clone(), reason: format!("{error:#}") }
    }

    fn unreachable(&self, cause: io::Error) -> ControlError {
        ControlError::Unreachable { address: self.address.clone(), cause }
    }

    fn garbled(&self, reason: &(impl fmt::Display + ?Sized)) -> ControlError {
        ControlError::Garbled { address: self.address.clone(), reason: reason.to_string() }
    }
}

/// For a whole answer; the largest (a snapshot of 100,000 workloads) takes well under a second.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A wrong address must not fill the memory; 100,000 workloads are about 60 MB.
const MAX_BODY: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    #[test]
    fn a_control_plane_is_named_by_path_or_url() {
        let parse = |text: &str| text.parse::<ControlAddress>();
        assert_eq!(parse("/run/a.sock"), Ok(ControlAddress::Socket("/run/a.sock".into())));
        assert_eq!(parse("unix:/run/a.sock"), Ok(ControlAddress::Socket("/run/a.sock".into())));
        assert_eq!(parse("http://127.0.0.1:15011/"), Ok(ControlAddress::Http("127.0.0.1:15011".into())));
        assert_eq!(parse("kubernetes"), Ok(ControlAddress::Kubernetes("weft-system".into())));
        assert_eq!(parse("kubernetes:mesh"), Ok(ControlAddress::Kubernetes("mesh".into())));
        assert_eq!(parse("kubernetes.sock"), Ok(ControlAddress::Socket("kubernetes.sock".into())));
        for bad in [
            "",
            "kubernetes:",
            "kubernetes:a/b",
            "unix:",
            "https://a:1",
            "http://a",
            "http://:1",
            "http://a:1/v1",
            "http://u@a:1",
            "http://a:99999",
        ] {
            assert!(parse(bad).is_err(), "{bad} was accepted");
        }
    }

    #[tokio::test]
    async fn a_missing_socket_says_what_to_do_next() {
        let control = Control::new(ControlAddress::Socket("/nonexistent/admin.sock".into()));
        let error = control.get::<u32>("/v1/status").await.unwrap_err().to_string();
        assert!(error.starts_with("no control plane answers at /nonexistent/admin.sock"), "{error}");
        assert!(error.ends_with("start weft-control, or name its socket with --control"), "{error}");
    }

    async fn answering(answer: &'static str) -> (tempfile::TempDir, Control, JoinSet<Vec<u8>>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            request.truncate(length);
            stream.write_all(answer.as_bytes()).await.unwrap();
            request
        });
        (directory, Control::new(ControlAddress::Socket(path)), tasks)
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_the_control_planes_words() {
        let (_directory, control, _server) =
            answering("HTTP/1.1 404 Not Found\r\ncontent-length: 28\r\n\r\n{\"error\":\"no such token: a\"}")
                .await;
        let error = control.delete("/v1/tokens/a").await.unwrap_err();
        assert!(
            matches!(&error, ControlError::Refused { status, .. } if *status == StatusCode::NOT_FOUND),
            "{error}"
        );
    }

    #[tokio::test]
    async fn something_else_at_the_socket_is_no_control_plane() {
        for answer in [
            "SSH-2.0-OpenSSH_9\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            "HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n",
        ] {
            let (_directory, control, _server) = answering(answer).await;
            let error = control.get::<Vec<u32>>("/v1/services").await.unwrap_err();
            assert!(matches!(error, ControlError::Garbled { .. }), "{answer:?}: {error}");
        }
    }

    #[tokio::test]
    async fn a_body_is_sent_as_json() {
        let (_directory, control, mut server) =
            answering("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n7").await;
        assert_eq!(control.post::<u32>("/v1/tokens", &[1]).await.unwrap(), 7);
        let request = String::from_utf8(server.join_next().await.unwrap().unwrap()).unwrap();
        assert!(request.starts_with("POST /v1/tokens HTTP/1.1\r\n"), "{request}");
    }
}
