//! The endpoint over a real socket.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use weft_identity::testkit::TestAuthority;

use super::*;
use crate::config::{KnownService, ProxyConfig};

/// An endpoint that serves; stops when it is dropped.
struct Served {
    admin: Arc<Admin>,
    address: std::net::SocketAddr,
    _identity: watch::Sender<IdentityStatus>,
    mesh: watch::Sender<MeshStatus>,
    _tasks: JoinSet<()>,
}

/// What a proxy of these settings shows, and what tells it.
pub(crate) fn shown(
    settings: &str,
) -> (Arc<Admin>, watch::Sender<IdentityStatus>, watch::Sender<MeshStatus>) {
    let shared = Shared::for_tests(settings);
    let (identity_status, identity) = watch::channel(IdentityStatus::default());
    let (mesh_status, mesh) = watch::channel(MeshStatus::default());
    // The layer must live for the handle to work; the subscriber is nobody's default.
    let (log, layer) = LogLevel::new("info").unwrap();
    std::mem::forget(layer);
    let (instance, drain) = ("test-1".to_owned(), Arc::new(Notify::new()));
    let admin = Arc::new(Admin { shared: Arc::new(shared), instance, identity, mesh, log, drain });
    (admin, identity_status, mesh_status)
}

async fn served(upstreams: &[&str]) -> Served {
    let upstream = |key: &&str| format!("[[upstream]]\nservice = '{key}'\nlisten = '127.0.0.1:0'\n");
    let (admin, identity_status, mesh_status) = shown(&upstreams.iter().map(upstream).collect::<String>());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(admin.clone(), listener));
    Served { admin, address, _identity: identity_status, mesh: mesh_status, _tasks: tasks }
}

impl Served {
    async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

#[tokio::test]
async fn connections_that_say_nothing_keep_nobody_out() {
    let served = served(&[]).await;
    let mut silent = Vec::new();
    for _ in 0..3 * BOUNDS.places {
        silent.push(TcpStream::connect(served.address).await.unwrap());
    }
    let asked = tokio::time::timeout(BOUNDS.patience / 3, served.ask("GET", "/log_level")).await;
    assert_eq!(asked.expect("no answer").0, 200);
    assert_eq!(silent[0].read(&mut [0; 1]).await.unwrap(), 0, "the oldest is closed");
}

#[tokio::test]
async fn an_overloaded_proxy_is_ready_and_says_so() {
    let served = served(&[]).await;
    let authority = TestAuthority::new("weft.test");
    served.admin.shared.svids.set(authority.svid("/ns/default/sa/web"), authority.bundles());
    served.admin.shared.overload.measured(served.admin.shared.overload.limit);
    let (status, body) = served.ask("GET", "/ready").await;
    assert_eq!(status, 200);
    assert!(body.starts_with("ready\n") && body.contains("limits.memory"), "{body}");
    assert!(served.ask("GET", "/metrics").await.1.contains("\nweft_overload_level 2\n"));
}

#[tokio::test]
async fn ready_says_what_is_missing_until_nothing_is() {
    let served = served(&["api"]).await;
    let (status, body) = served.ask("GET", "/ready").await;
    assert_eq!(status, 503);
    assert!(body.contains("no certificate yet") && body.contains("upstream default/api"), "{body}");

    let authority = TestAuthority::new("weft.test");
    served.admin.shared.svids.set(authority.svid("/ns/default/sa/web"), authority.bundles());
    let (status, body) = served.ask("GET", "/ready").await;
    assert_eq!(status, 503);
    assert!(!body.contains("certificate"), "{body}");

    let services = imbl::HashMap::unit("api".parse().unwrap(), KnownService::Absent);
    served.admin.shared.config.publish(ProxyConfig { revision: 1, services, ..ProxyConfig::default() });
    assert_eq!(served.ask("GET", "/ready").await, (200, "ready\n".to_owned()));

    let now = Instant::now();
    served.admin.shared.drain.drain(now, now);
    let (status, body) = served.ask("GET", "/ready").await;
    assert!(status == 503 && body.contains("draining"), "{status} {body}");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_nobody_decides_holds_readiness_up_until_its_deadline() {
    let served = served(&["api", "store"]).await;
    let authority = TestAuthority::new("weft.test");
    served.admin.shared.svids.set(authority.svid("/ns/default/sa/web"), authority.bundles());
    served.mesh.send_modify(|status| status.last_error = "connection refused".to_owned());
    tokio::time::advance(Duration::from_secs(3600)).await;
    let (status, body) = served.ask("GET", "/ready").await;
    assert_eq!(status, 503, "nobody has been asked: {body}");
    assert!(body.contains("no control plane: connection refused"), "{body}");

    served.mesh.send_modify(|status| {
        (status.connected, status.answering_since) = (true, Some(Instant::now()));
    });
    let services = imbl::HashMap::unit("store".parse().unwrap(), KnownService::Absent);
    served.admin.shared.config.publish(ProxyConfig { revision: 1, services, ..ProxyConfig::default() });
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!(served.ask("GET", "/ready").await.0, 503);
    tokio::time::advance(Duration::from_secs(1)).await;
    let (status, body) = served.ask("GET", "/ready").await;
    assert_eq!(status, 200);
    assert!(body.starts_with("ready\n- upstream default/api: the control plane has said nothing"), "{body}");
    assert!(!body.contains("store"), "that there is none is an answer: {body}");
    let dump: serde_json::Value = serde_json::from_str(&served.ask("GET", "/config_dump").await.1).unwrap();
    assert_eq!(
        (dump["not_ready"].as_array().unwrap().len(), dump["undecided"].as_array().unwrap().len()),
        (0, 1)
    );
}

#[tokio::test]
async fn the_dump_is_json_without_secrets() {
    let served = served(&[]).await;
    let authority = TestAuthority::new("weft.test");
    served.admin.shared.svids.set(authority.svid("/ns/default/sa/web"), authority.bundles());
    served.mesh.send_modify(|status| status.connected = true);
    let (status, body) = served.ask("GET", "/config_dump").await;
    assert_eq!(status, 200);
    let dump: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(dump["identity"]["id"], "spiffe://weft.test/ns/default/sa/web");
    assert_eq!(dump["control"]["connected"], true);
    assert!(!body.contains("PRIVATE"), "{body}");
}

#[tokio::test]
async fn the_log_level_changes_and_a_bad_one_is_refused() {
    let served = served(&[]).await;
    assert_eq!(served.ask("GET", "/log_level").await, (200, "info\n".to_owned()));
    assert_eq!(served.ask("PUT", "/log_level?level=debug").await.0, 200);
    assert_eq!(served.ask("GET", "/log_level").await, (200, "debug\n".to_owned()));
    let (status, body) = served.ask("PUT", "/log_level?level=weft=loud").await;
    assert!(status == 400 && body.contains("not a log filter"), "{status} {body}");
    assert_eq!(served.ask("PUT", "/log_level").await.0, 400);
    assert_eq!(served.ask("GET", "/log_level").await.1, "debug\n");
}

#[tokio::test]
async fn metrics_show_what_the_shell_knows() {
    let served = served(&[]).await;
    served.mesh.send_modify(|status| status.connected = true);
    let (status, body) = served.ask("GET", "/metrics").await;
    assert_eq!(status, 200);
    assert!(body.contains("\nweft_control_connected 1\n") && body.contains("\nweft_ready 0\n"), "{body}");
}

#[tokio::test]
async fn wrong_paths_and_methods_are_told_what_is_right() {
    let served = served(&[]).await;
    let (status, body) = served.ask("GET", "/nothing").await;
    assert!(status == 404 && body.contains("/config_dump"), "{status} {body}");
    assert_eq!(served.ask("GET", "/drain").await.0, 405);
    assert_eq!(served.ask("POST", "/ready").await.0, 405);
    assert_eq!(served.ask("POST", "/drain").await.0, 202);
    tokio::time::timeout(Duration::from_secs(5), served.admin.drain.notified()).await.unwrap();
}
