//! The port over real sockets, before applications that answer by heart.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use http::{HeaderMap, Response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use weft_identity::testkit::TestAuthority;
use weft_identity::{ClientAuth, Credentials};

use super::*;

/// A port that serves; stops when it is dropped.
struct Served {
    admin: Arc<Admin>,
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

async fn served_at(listen: &str, probes: &str) -> Served {
    let (admin, ..) = admin::tests::shown(&format!("health.listen = '{listen}'\n{probes}"));
    let listener = TcpListener::bind(listen).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(admin.clone(), listener));
    Served { admin, address, _tasks: tasks }
}

/// With one probe, `app`.
async fn served(way: &str) -> Served {
    served_at("127.0.0.1:0", &format!("[[health.probe]]\nname = 'app'\n{way}")).await
}

impl Served {
    /// Status, head and body.
    async fn ask_at(&self, address: SocketAddr, request: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{request} HTTP/1.1\r\nhost: 10.9.9.9:1\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_owned(), body.to_owned())
    }

    async fn ask(&self, request: &str) -> (u16, String) {
        let (status, _, body) = self.ask_at(self.address, request).await;
        (status, body)
    }

    async fn probe(&self) -> (u16, String) {
        self.ask("GET /probe/app").await
    }
}

/// An application that gives each connection to `serve`. Stops when it is dropped.
struct App {
    port: u16,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

async fn app_at<F>(
    listen: &str,
    serve: impl Fn(TcpStream, Arc<Mutex<Vec<String>>>) -> F + Send + 'static,
) -> App
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(listen).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (connections, requests) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<String>>>::default());
    let (counted, heard) = (connections.clone(), requests.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut serving = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            serving.spawn(serve(stream, heard.clone()));
        }
    });
    App { port, connections, requests, _tasks: tasks }
}

/// Answers each request with this text, after so long.
async fn answering(answer: impl Into<String>, after: Duration) -> App {
    let answer = answer.into();
    app_at("127.0.0.1:0", move |stream, heard| respond(stream, heard, answer.clone(), after)).await
}

async fn respond(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    heard: Arc<Mutex<Vec<String>>>,
    answer: String,
    after: Duration,
) {
    let mut request = vec![0; 4096];
    let length = stream.read(&mut request).await.unwrap();
    heard.lock().unwrap().push(String::from_utf8_lossy(&request[..length]).into_owned());
    tokio::time::sleep(after).await;
    // Who asked may have what it needs.
    _ = stream.write_all(answer.as_bytes()).await;
}

const NOW: Duration = Duration::ZERO;

#[tokio::test]
async fn the_applications_status_is_passed_on_and_nothing_else() {
    for (line, expected) in [
        ("200 OK", 200),
        ("204 No Content", 204),
        ("302 Found", 302),
        ("404 Not Found", 404),
        ("500 Oops", 500),
    ] {
        let length = if line.starts_with("204") { "" } else { "content-length: 6\r\n" };
        let body = if length.is_empty() { "" } else { "secret" };
        let app = answering(
            format!("HTTP/1.1 {line}\r\nlocation: /login\r\nset-cookie: secret\r\n{length}\r\n{body}"),
            NOW,
        )
        .await;
        let served = served(&format!("http.port = {}", app.port)).await;
        let (status, head, body) = served.ask_at(served.address, "GET /probe/app").await;
        assert_eq!(status, expected, "{head}");
        assert!(
            !head.contains("secret") && !head.contains("login") && !body.contains("secret"),
            "{head}\n{body}"
        );
        assert_eq!(body.is_empty(), expected < 400, "{body}");
    }
}

#[tokio::test]
async fn the_application_is_asked_what_the_settings_say_and_not_what_the_caller_says() {
    let app = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", NOW).await;
    let port = app.port;
    let plain = served(&format!("http = {{ port = {port}, path = '/healthz?a=b' }}")).await;
    let (status, ..) = plain.ask_at(plain.address, "GET /probe/app?port=1&host=evil").await;
    assert_eq!(status, 200);
    let full = format!(
        "http = {{ port = {port}, host = 'app.example', headers = [{{ name = 'X-A', value = '1' }}, \
         {{ name = 'x-a', value = '2' }}, {{ name = 'User-Agent', value = 'mine' }}, {{ name = 'Content-Length', value = '9' }}] }}"
    );
    assert_eq!(served(&full).await.probe().await.0, 200);
    let requests = app.requests.lock().unwrap().clone();
    let lines = |n: usize| {
        requests[n].trim_end().split("\r\n").map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
    };
    let agent = format!("user-agent: {}", ask::AGENT);
    let host = format!("host: 127.0.0.1:{port}");
    let expected = ["GET /healthz?a=b HTTP/1.1", &host, "accept: */*", &agent, "connection: close"];
    assert_eq!(lines(0), expected.map(str::to_owned).into());
    let expected = [
        "GET / HTTP/1.1",
        "host: app.example",
        "x-a: 1",
        "x-a: 2",
        "accept: */*",
        "user-agent: mine",
        "connection: close",
    ];
    assert_eq!(lines(1), expected.map(str::to_owned).into());
}

#[tokio::test]
async fn a_certificate_that_nobody_would_trust_is_no_reason_against_a_probe() {
    weft_identity::install_crypto_provider();
    let authority = TestAuthority::new("weft.test");
    let credentials =
        Credentials::new(authority.svid("/ns/default/sa/web").into(), authority.bundles().into(), 1);
    let acceptor =
        TlsAcceptor::from(credentials.server_config(&[b"http/1.1"], ClientAuth::Optional).unwrap());
    let app = app_at("127.0.0.1:0", move |stream, heard| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            respond(stream, heard, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned(), NOW).await;
        }
    });
    let app = app.await;
    let https = served(&format!("http = {{ port = {}, https = true }}", app.port)).await;
    assert_eq!(https.probe().await, (200, String::new()));
    let plain = answering("HTTP/1.1 400 Bad Request\r\n\r\n", NOW).await;
    let https = served(&format!("http = {{ port = {}, https = true }}", plain.port)).await;
    let (status, why) = https.probe().await;
    assert!(status == 503 && why.starts_with("TLS to 127.0.0.1:"), "{status} {why}");
}

#[tokio::test]
async fn a_connection_is_enough_for_a_tcp_probe_and_none_is_a_failure() {
    let app = answering("", NOW).await;
    let way = format!("tcp.port = {}", app.port);
    assert_eq!(served(&way).await.probe().await, (200, String::new()));
    drop(app);
    let (status, why) = served(&way).await.probe().await;
    assert!(status == 503 && why.contains("refused"), "{status} {why}");
}

#[tokio::test]
async fn an_application_that_does_not_answer_or_breaks_off_is_unhealthy_in_time() {
    let slow = answering("", Duration::from_secs(60)).await;
    let served_slow = served(&format!("timeout = '200ms'\nhttp.port = {}", slow.port)).await;
    let began = Instant::now();
    let (status, why) = served_slow.probe().await;
    assert!(status == 504 && why.contains("did not answer in 200ms"), "{status} {why}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());

    let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(1 << 20));
    for answer in ["", "garbage\r\n\r\n", "HTTP/1.1 200", &endless] {
        let app = answering(answer, NOW).await;
        let (status, why) = served(&format!("http.port = {}", app.port)).await.probe().await;
        assert!(status == 503 && why.starts_with("asking 127.0.0.1:"), "{status} {why}");
    }
}

#[tokio::test]
async fn however_many_ask_at_once_the_application_is_asked_once() {
    let app = answering("HTTP/1.1 200 OK\r\n\r\n", Duration::from_millis(300)).await;
    let served = served(&format!("timeout = '10s'\nhttp.port = {}", app.port)).await;
    // One who goes away does not take the answer from the others.
    let gone = tokio::time::timeout(Duration::from_millis(100), served.probe()).await;
    assert!(gone.is_err());
    let answers = join_all((0..50).map(|_| served.probe())).await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    let asked = app.connections.load(Ordering::Relaxed);
    assert!(asked <= 2, "{asked}");
    assert_eq!(served.probe().await.0, 200);
    assert_eq!(app.connections.load(Ordering::Relaxed), asked + 1, "an old answer is no answer");
}

#[tokio::test]
async fn the_application_is_asked_at_the_address_at_which_the_port_is_asked() {
    let answer = "HTTP/1.1 200 OK\r\n\r\n".to_owned();
    let app = app_at("127.0.0.2:0", move |stream, heard| respond(stream, heard, answer.clone(), NOW)).await;
    // The second way into the same port: IPv4 within IPv6.
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let probe = format!("[[health.probe]]\nname = 'app'\nhttp.port = {}", app.port);
        let served = served_at(listen, &probe).await;
        let at = |host: [u8; 4]| SocketAddr::from((host, served.address.port()));
        assert_eq!(served.ask_at(at([127, 0, 0, 2]), "GET /probe/app").await.0, 200, "{listen}");
        assert_eq!(served.ask_at(at([127, 0, 0, 1]), "GET /probe/app").await.0, 503, "{listen}");
    }
}

#[tokio::test]
async fn nothing_can_be_changed_and_only_what_is_named_can_be_asked() {
    let app = answering("HTTP/1.1 200 OK\r\n\r\n", NOW).await;
    let served = served(&format!("http.port = {}", app.port)).await;
    let unknown = [
        "/drain",
        "/log_level?level=trace",
        "/config_dump",
        "/probe/",
        "/probe/other",
        "/probe/app/x",
        "/probe/../probe/app",
    ];
    for path in unknown {
        for method in ["GET", "POST", "PUT"] {
            let (status, body) = served.ask(&format!("{method} {path}")).await;
            assert!(status == 404 && body.contains("/probe/NAME"), "{method} {path}: {status} {body}");
        }
    }
    for path in ["/", "/ready", "/live", "/metrics", "/probe/app"] {
        for method in ["POST", "PUT", "DELETE", "HEAD"] {
            assert_eq!(
                served.ask_at(served.address, &format!("{method} {path}")).await.0,
                405,
                "{method} {path}"
            );
        }
    }
    assert_eq!(app.connections.load(Ordering::Relaxed), 0);
    assert_eq!(served.admin.log.current(), "info");
    assert_eq!(served.ask("GET /live").await, (200, "live\n".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn readiness_and_metrics_are_those_of_the_admin_endpoint() {
    let served = served("tcp.port = 1").await;
    let (status, body) = served.ask("GET /ready").await;
    assert!(status == 503 && body.contains("no certificate yet"), "{status} {body}");
    let not_ready = served.ask("GET /metrics").await.1;
    assert!(not_ready.contains("\nweft_ready 0\n"), "{not_ready}");
    let authority = TestAuthority::new("weft.test");
    served.admin.shared.svids.set(authority.svid("/ns/default/sa/web"), authority.bundles());
    assert_eq!(served.ask("GET /ready").await, (200, "ready\n".to_owned()));
    tokio::time::advance(FRESH).await;
    assert!(served.ask("GET /metrics").await.1.contains("\nweft_ready 1\n"));
}

#[tokio::test]
async fn connections_that_say_nothing_keep_no_kubelet_out() {
    let served = served_at("0.0.0.0:0", "").await;
    let at = |host: [u8; 4]| SocketAddr::from((host, served.address.port()));
    let mut flood = Vec::new();
    let from = |host: [u8; 4]| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((host, 0))).unwrap();
        socket.connect(at([127, 0, 0, 1]))
    };
    let mut kubelet = from([127, 0, 0, 3]).await.unwrap();
    for _ in 0..BOUNDS.places + 50 {
        flood.push(from([127, 0, 0, 4]).await.unwrap());
    }
    kubelet.write_all(b"GET /live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut response = String::new();
    tokio::time::timeout(Duration::from_secs(5), kubelet.read_to_string(&mut response))
        .await
        .unwrap()
        .unwrap();
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    assert_eq!(flood[0].read(&mut [0; 1]).await.unwrap(), 0, "the flood's own oldest is closed");
}

type Headers = &'static [(&'static str, &'static str)];

/// A gRPC server that answers with this head, message and trailers.
async fn grpc(head: Headers, message: Option<&'static [u8]>, trailers: Headers) -> App {
    app_at("127.0.0.1:0", move |stream, heard| async move {
        let Ok(mut connection) = h2::server::handshake(stream).await else { return };
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let (parts, mut body) = request.into_parts();
            let sent = async { body.data().await.unwrap().unwrap() };
            let closed = std::future::poll_fn(|cx| connection.poll_closed(cx));
            let sent = tokio::select! { sent = sent => sent, _ = closed => return };
            heard.lock().unwrap().push(format!("{} {} {sent:?}", parts.method, parts.uri));
            let mut response = Response::new(());
            *response.headers_mut() = map(head);
            let mut stream = respond.send_response(response, message.is_none()).unwrap();
            if let Some(message) = message {
                stream.send_data(Bytes::from_static(message), false).unwrap();
                stream.send_trailers(map(trailers)).unwrap();
            }
        }
    })
    .await
}

fn map(headers: Headers) -> HeaderMap {
    headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

#[tokio::test]
async fn a_grpc_service_says_by_itself_whether_it_serves() {
    let app = grpc(&[], Some(b"\0\0\0\0\x02\x08\x01"), &[("grpc-status", "0")]).await;
    let served = served(&format!("grpc = {{ port = {}, service = 'shop' }}", app.port)).await;
    assert_eq!(served.probe().await, (200, String::new()));
    let expected = format!(
        "POST http://127.0.0.1:{}/grpc.health.v1.Health/Check b\"\\0\\0\\0\\0\\x06\\n\\x04shop\"",
        app.port
    );
    assert_eq!(app.requests.lock().unwrap().clone(), [expected]);
}

#[tokio::test]
async fn whatever_else_a_grpc_server_says_is_unhealthy() {
    const OK: Headers = &[("grpc-status", "0")];
    let huge: &'static [u8] = vec![0; 10_000].leak();
    let cases: [(Headers, Option<&'static [u8]>, Headers, &str); 8] = [
        (&[], Some(b"\0\0\0\0\x02\x08\x02"), OK, "not serving (status 2)"),
        (&[], Some(b"\0\0\0\0\0"), OK, "not serving (status 0)"),
        (&[], Some(b"\x01\0\0\0\x02\x08\x01"), OK, "can't be read"),
        (&[], Some(b"\0\0"), OK, "can't be read"),
        (&[], Some(huge), OK, "no gRPC status"),
        (&[], Some(b"\0\0\0\0\x02\x08\x01"), &[], "no gRPC status"),
        (&[("grpc-status", "12")], None, &[], "no gRPC health service"),
        (&[("grpc-status", "5")], None, &[], "does not know the service"),
    ];
    for (head, message, trailers, says) in cases {
        let app = grpc(head, message, trailers).await;
        let (status, why) = served(&format!("grpc.port = {}", app.port)).await.probe().await;
        assert!(status == 503 && why.contains(says), "{says}: {status} {why}");
    }
    let http1 = answering("HTTP/1.1 400 Bad Request\r\n\r\n", NOW).await;
    let (status, why) = served(&format!("grpc.port = {}", http1.port)).await.probe().await;
    assert!(status == 503 && why.contains("by gRPC"), "{status} {why}");
}
