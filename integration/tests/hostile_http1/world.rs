//! The mesh of the tables: a caller's proxy with a plaintext upstream, a callee's with a permissive port, and the recorder.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weft_integration::{Mesh, MeshPlan, Proxy, ProxyPlan, eventually, free_port};

/// What the recorder answers unless it is told otherwise.
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A TCP server that records what it is sent and answers each request with fixed bytes.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Tape>>);

#[derive(Default)]
struct Tape {
    seen: Vec<u8>,
    answer: Option<(Vec<u8>, bool)>,
}

impl Recorder {
    async fn start() -> Result<(Self, u16)> {
        let recorder = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let accepting = recorder.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(accepting.clone().serve(stream));
            }
        });
        Ok((recorder, port))
    }

    async fn serve(self, mut stream: TcpStream) -> Result<()> {
        let (mut buffer, mut request) = (vec![0; 64 * 1024], Vec::new());
        loop {
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            let bytes = buffer.get(..read).unwrap_or_default();
            self.tape().seen.extend_from_slice(bytes);
            request.extend_from_slice(bytes);
            if is_whole(&request) {
                request.clear();
                let (answer, close) = self.tape().answer.clone().unwrap_or((OK.into(), false));
                stream.write_all(&answer).await?;
                if close {
                    return Ok(());
                }
            }
        }
    }

    fn tape(&self) -> std::sync::MutexGuard<'_, Tape> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it has seen nothing.
    pub(crate) fn forget(&self) {
        self.tape().seen.clear();
    }

    /// What it saw, in the form that is compared.
    pub(crate) fn seen(&self) -> String {
        comparable(&String::from_utf8_lossy(&self.tape().seen))
    }

    /// Answers with these bytes, and may close then. `None`: [`OK`].
    pub(crate) fn answers(&self, answer: Option<(&[u8], bool)>) {
        self.tape().answer = answer.map(|(bytes, close)| (bytes.to_vec(), close));
    }
}

/// Whether the bytes are one whole request, read by another way than the proxy's.
pub(crate) fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let head = head.to_ascii_lowercase();
    if head.contains("transfer-encoding: chunked") {
        return body.starts_with("0\r\n") || body.contains("\r\n0\r\n");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let whole = request.windows(4).position(|end| end == b"\r\n\r\n").map_or(0, |at| request.len() - at - 4);
    whole >= length.unwrap_or(0)
}

/// A request with its fields in order, without those that the proxy adds.
pub(crate) fn comparable(request: &str) -> String {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return request.to_owned() };
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let added = ["x-request-id: ", "weft-hops: "];
    let mut fields: Vec<_> =
        lines.filter(|line| !added.iter().any(|added| line.starts_with(added))).collect();
    fields.sort_unstable();
    format!("{first}\r\n{}\r\n\r\n{body}", fields.join("\r\n"))
}

/// See the module.
pub(crate) struct World {
    pub(crate) recorder: Recorder,
    pub(crate) web: Proxy,
    api: Proxy,
    permissive: SocketAddr,
    _mesh: Mesh,
}

impl World {
    /// Starts it; `more` is added to the settings of both proxies.
    pub(crate) async fn start(more: &str) -> Result<Self> {
        let mesh = Mesh::start(MeshPlan::default()).await?;
        let (recorder, port) = Recorder::start().await?;
        mesh.register(
            "raw.yaml",
            &format!(
                "kind: Workload\nname: raw-1\nservice: raw\naddresses: [127.0.0.1]\nhealth: healthy\n\
                 ports: [{{name: main, number: {port}, protocol: http1}}]\n"
            ),
        )?;
        // What is bad is not tried again here, and puts nobody out of work: each row is about one exchange.
        let more = format!("\n[retries]\nattempts = 0\n[outlier]\nconsecutive_failures = 0\n{more}");
        let plan = ProxyPlan::new("web", "web").upstream_with("raw", "plaintext = true").more(&more);
        let web = mesh.proxy(plan).await?;
        let permissive = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let inbound = format!(
            "[[inbound]]\nservice = \"raw\"\nport = 80\napp = \"127.0.0.1:{port}\"\nprotocol = \"http1\"\n\
             permissive = \"{permissive}\"\n{more}"
        );
        let api = mesh.proxy(ProxyPlan::new("api", "api").more(&inbound)).await?;
        web.ready().await?;
        api.ready().await?;
        let world = Self { recorder, web, api, permissive, _mesh: mesh };
        eventually("both doors are open", async || {
            for (door, address) in world.doors() {
                let answer = world.send(address, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", 1).await?;
                anyhow::ensure!(answer.ends_with("ok"), "{door}: {answer}");
            }
            Ok(Some(()))
        })
        .await?;
        Ok(world)
    }

    /// The ways in: the caller's side and the callee's.
    pub(crate) fn doors(&self) -> [(&'static str, SocketAddr); 2] {
        [("upstream", self.web.upstream("raw")), ("permissive", self.permissive)]
    }

    /// Sends bytes in so many pieces, ends, and reads what comes until the end.
    pub(crate) async fn send(&self, to: SocketAddr, bytes: &[u8], pieces: usize) -> Result<String> {
        let mut stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        for piece in bytes.chunks(bytes.len().div_ceil(pieces).max(1)) {
            // A proxy that has refused it may have stopped reading.
            let _ = stream.write_all(piece).await;
            if pieces > 1 {
                // Long enough to be read by itself; nothing depends on it.
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        }
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
        let _ = read.with_context(|| format!("no end: {}", String::from_utf8_lossy(&answer)))?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// A metric of both proxies together, by its kind.
    pub(crate) async fn malformed(&self, metric: &str) -> Result<BTreeMap<String, u32>> {
        let mut counted = BTreeMap::new();
        for proxy in [&self.web, &self.api] {
            let (_, text) = proxy.admin("/metrics").await?;
            for line in text.lines() {
                let Some(rest) = line.strip_prefix(metric).and_then(|rest| rest.strip_prefix("{kind=\""))
                else {
                    continue;
                };
                let (kind, count) = rest.split_once("\"} ").context("a sample")?;
                *counted.entry(kind.to_owned()).or_default() += count.parse::<u32>()?;
            }
        }
        Ok(counted)
    }
}
