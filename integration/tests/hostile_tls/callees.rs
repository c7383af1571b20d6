//! A callee's proxy that is not who the registry says, or no proxy at all: the caller gets 503 with a reason, and nothing
//! of its request leaves.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use rustls::ServerConfig;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use weft_integration::{Mesh, MeshPlan, Proxy, ProxyPlan, eventually};

use crate::certificates::{API, Ca, rows};
use crate::wire::{HEADERS, callee};
use crate::world::{asked, refused};

const WEFT: &[u8] = b"weft/1";

/// What the endpoint does with a connection.
#[derive(Clone)]
enum Acts {
    /// Shakes hands so, then speaks HTTP/2 and keeps what it is told.
    Tls(Arc<ServerConfig>),
    /// The same, and then says this instead of HTTP/2.
    TlsThen(Arc<ServerConfig>, &'static [u8]),
    /// Says this and waits.
    Says(&'static [u8]),
    /// Closes at once.
    Closes,
}

/// An endpoint that acts as it is told, and remembers every byte that it could decrypt.
struct Endpoint {
    address: SocketAddr,
    acts: Arc<Mutex<Acts>>,
    heard: Arc<Mutex<Vec<u8>>>,
    _task: JoinSet<()>,
}

impl Endpoint {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, acts) = (listener.local_addr()?, Arc::new(Mutex::new(Acts::Closes)));
        let heard = Arc::<Mutex<Vec<u8>>>::default();
        let (acting, hearing) = (acts.clone(), heard.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let acts = acting.lock().unwrap_or_else(PoisonError::into_inner).clone();
                connections.spawn(act(acts, stream, hearing.clone()));
            }
        });
        Ok(Self { address, acts, heard, _task: task })
    }

    fn will(&self, acts: Acts) {
        *self.acts.lock().unwrap_or_else(PoisonError::into_inner) = acts;
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether what it heard holds the head of a request.
    fn heard_a_request(&self) -> bool {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // The client's preface, then frames (RFC 9113 3.4, 4.1).
        let mut rest = heard.get(24..).unwrap_or_default();
        while let [a, b, c, kind, _, _, _, _, _, after @ ..] = rest {
            if *kind == HEADERS {
                return true;
            }
            rest = after.get(u32::from_be_bytes([0, *a, *b, *c]) as usize..).unwrap_or_default();
        }
        false
    }
}

/// HTTP/2's empty settings (RFC 9113 6.5).
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

async fn act(acts: Acts, mut stream: TcpStream, heard: Arc<Mutex<Vec<u8>>>) {
    let (config, says) = match acts {
        Acts::Closes => return,
        Acts::Says(bytes) => {
            let _ = stream.write_all(bytes).await;
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            return;
        }
        Acts::Tls(config) => (config, SETTINGS),
        Acts::TlsThen(config, says) => (config, says),
    };
    let Ok(mut tls) = TlsAcceptor::from(config).accept(stream).await else { return };
    let _ = tls.write_all(says).await;
    let mut bytes = [0; 4096];
    while let Ok(read @ 1..) = tls.read(&mut bytes).await {
        heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes[..read]);
    }
}

struct Rig {
    web: Proxy,
    endpoint: Endpoint,
    ca: Ca,
    _mesh: Mesh,
}

/// `web` calls `api`, whose only endpoint is ours; no retries and no ejection, so that each call is one connection.
async fn rig() -> Result<Rig> {
    let mesh = Mesh::start(MeshPlan::default()).await?;
    let endpoint = Endpoint::start().await?;
    mesh.register(
        "api.yaml",
        &format!(
            "kind: Workload\nname: api-1\nservice: api\nidentity: api\naddresses: [127.0.0.1]\nhealth: healthy\n\
             tunnel: {}\nports: [{{name: main, number: 8080, protocol: http1}}]\n",
            endpoint.address.port()
        ),
    )?;
    let settings =
        "[retries]\nattempts = 0\n[outlier]\nconsecutive_failures = 0\n[timeouts]\nhandshake = \"1s\"\n";
    let web = mesh.proxy(ProxyPlan::new("web", "web").upstream("api").more(settings)).await?;
    web.ready().await?;
    let ca = Ca::of(&mesh)?;
    eventually("web knows the endpoint", async || {
        Ok((web.endpoints("default/api").await?.len() == 1).then_some(()))
    })
    .await?;
    Ok(Rig { web, endpoint, ca, _mesh: mesh })
}

impl Rig {
    /// One call, which must fail with 503 and one of these flags; nothing of it was heard.
    async fn fails(&self, name: &str, flags: &[&str]) -> Result<()> {
        let path = format!("/evil/{}", name.replace(' ', "-"));
        let (head, body) =
            asked(self.web.upstream("api"), &path).await.with_context(|| format!("row {name:?}"))?;
        ensure!(head.starts_with("HTTP/1.1 503 "), "row {name:?}: {head}\n{body}");
        ensure!(flags.iter().any(|flag| body.contains(&format!("({flag})"))), "row {name:?}: {body}");
        ensure!(!self.endpoint.heard_a_request(), "row {name:?}: the endpoint got the request");
        Ok(())
    }
}

#[tokio::test]
async fn a_callee_with_a_wrong_certificate_gets_nothing_of_the_request() -> Result<()> {
    let rig = rig().await?;
    let wrong_id = crate::certificates::Row {
        name: "another workload of the mesh",
        presented: rig.ca.leaf("spiffe://test.weft/ns/default/sa/web", |_| {})?,
        reason: "wrong_id",
    };
    let rows: Vec<_> = rows(&rig.ca)?.into_iter().chain([wrong_id]).collect();
    for row in &rows {
        rig.endpoint.will(Acts::Tls(Arc::new(callee(row.presented.certified()?, &[&TLS13], &[WEFT])?)));
        let before = refused(&rig.web, "source", row.reason).await?;
        rig.fails(row.name, &["UTI"]).await?;
        let after = refused(&rig.web, "source", row.reason).await?;
        ensure!(after == before + 1.0, "row {:?}: {} was {before} and is {after}", row.name, row.reason);
    }
    // The rig itself can be trusted: then it does get the request.
    let good = rig.ca.leaf(API, |_| {})?.certified()?;
    rig.endpoint.will(Acts::Tls(Arc::new(callee(good, &[&TLS13], &[WEFT])?)));
    let address = rig.web.upstream("api");
    let call = tokio::spawn(async move { asked(address, "/good").await });
    eventually("a right endpoint gets the request", async || {
        Ok(rig.endpoint.heard_a_request().then_some(()))
    })
    .await?;
    call.abort();
    println!("{} wrong certificates of callees: each refused and counted", rows.len());
    Ok(())
}

#[tokio::test]
async fn a_callee_that_speaks_something_else_gets_nothing_of_the_request() -> Result<()> {
    let rig = rig().await?;
    let good = || rig.ca.leaf(API, |_| {})?.certified();
    let tls = |versions, alpn: &[&[u8]]| anyhow::Ok(Arc::new(callee(good()?, versions, alpn)?));
    let rows = [
        ("TLS 1.2 only", Acts::Tls(tls(&[&TLS12], &[WEFT])?)),
        ("no protocol", Acts::Tls(tls(&[&TLS13], &[])?)),
        ("an unknown protocol", Acts::Tls(tls(&[&TLS13], &[b"http/1.1"])?)),
        ("closes", Acts::Closes),
        ("plain HTTP", Acts::Says(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno")),
        ("noise", Acts::Says(&[0xa5; 4096])),
        ("says nothing", Acts::Says(b"")),
        ("half a record", Acts::Says(b"\x16\x03\x03\x40\x00\x02")),
    ];
    for (name, acts) in rows {
        rig.endpoint.will(acts);
        rig.fails(name, &["UF"]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_callee_that_is_right_and_talks_nonsense_fails_the_call_and_not_the_proxy() -> Result<()> {
    let rig = rig().await?;
    let right = Arc::new(callee(rig.ca.leaf(API, |_| {})?.certified()?, &[&TLS13], &[WEFT])?);
    for says in [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &[0xff; 64], &[0; 64]] {
        rig.endpoint.will(Acts::TlsThen(right.clone(), says));
        let (head, body) = asked(rig.web.upstream("api"), "/nonsense").await?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        ensure!(matches!(status, "502" | "503"), "{says:?}: {head}\n{body}");
    }
    assert_eq!(rig.web.admin("/ready").await?.0, 200);
    Ok(())
}
