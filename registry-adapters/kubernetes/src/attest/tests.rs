//! What is asked, and what is read of the answers, over a connection to a server that answers by heart.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use super::*;

/// A server that gives one answer to one request, and then says what the request was.
struct Server {
    reviews: TokenReviews,
    kubeconfig: tempfile::NamedTempFile,
    request: JoinHandle<String>,
}

fn server(status: &'static str, body: String) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let kubeconfig = tempfile::NamedTempFile::new().unwrap();
    point(&kubeconfig, &format!("http://{}", listener.local_addr().unwrap()));
    let request = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let request = read_request(&mut stream);
        let head =
            format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).unwrap();
        request
    });
    let path = Some(kubeconfig.path().to_owned());
    let settings = KubernetesSettings { kubeconfig: path, ..KubernetesSettings::default() };
    Server { reviews: TokenReviews::new(settings).unwrap(), kubeconfig, request }
}

/// Writes a kubeconfig for the server of this address.
fn point(kubeconfig: &tempfile::NamedTempFile, address: &str) {
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: dev\ncontexts: [{{name: dev, context: {{cluster: dev, user: dev}}}}]\n\
         clusters: [{{name: dev, cluster: {{server: '{address}'}}}}]\nusers: [{{name: dev, user: {{token: x}}}}]\n"
    );
    std::fs::write(kubeconfig.path(), text).unwrap();
}

fn read_request(stream: &mut impl Read) -> String {
    let (mut request, mut piece) = (String::new(), [0; 4096]);
    loop {
        let length = stream.read(&mut piece).unwrap();
        assert_ne!(length, 0, "half a request: {request}");
        request += std::str::from_utf8(&piece[..length]).unwrap();
        let Some((head, body)) = request.split_once("\r\n\r\n") else { continue };
        let expected = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= expected.map_or(0, |length| length.parse().unwrap()) {
            return request;
        }
    }
}

#[tokio::test]
async fn a_token_is_reviewed_for_the_audience_and_its_bindings_are_read() {
    let answer = json!({"kind": "TokenReview", "spec": {"token": "t0ken"}, "status": {
        "authenticated": true, "audiences": ["weft"],
        "user": {"username": "system:serviceaccount:shop:web", "uid": "u", "groups": ["g"],
                 "extra": {extra::POD_NAME: ["web-1"], extra::POD_UID: ["1234"]}}}});
    let server = server("201 Created", answer.to_string());
    let status = server.reviews.review("t0ken", "weft").await.unwrap();
    assert!(status.authenticated && status.error.is_empty());
    assert_eq!(
        (status.audiences, status.user.username),
        (vec!["weft".to_owned()], "system:serviceaccount:shop:web".to_owned())
    );
    assert_eq!(status.user.extra[extra::POD_UID], ["1234"]);
    let request = server.request.join().unwrap();
    assert!(request.starts_with("POST /apis/authentication.k8s.io/v1/tokenreviews? "), "{request}");
    let sent: serde_json::Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(sent["spec"], json!({"token": "t0ken", "audiences": ["weft"]}));
}

#[tokio::test]
async fn a_refused_token_has_the_servers_words_and_no_user() {
    let answer = json!({"status": {"user": {}, "error": "[invalid bearer token, it has expired]"}});
    let status = server("201 Created", answer.to_string()).reviews.review("t0ken", "weft").await.unwrap();
    assert_eq!(
        status,
        TokenReviewStatus {
            error: "[invalid bearer token, it has expired]".to_owned(),
            ..Default::default()
        }
    );
}

#[tokio::test]
async fn no_error_shows_the_token() {
    let forbidden = json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "no create"});
    for (status, body, expected) in [
        ("403 Forbidden", forbidden.to_string(), "answers 403: no create"),
        ("502 Bad Gateway", "cannot forward t0ken".to_owned(), "[the token]"),
        (
            "201 Created",
            "{\"spec\": {\"token\": \"t0ken\"}, \"status\": \"t0ken\"}".to_owned(),
            "line 1, column",
        ),
    ] {
        let error = server(status, body).reviews.review("t0ken", "weft").await.unwrap_err().to_string();
        assert!(error.contains("create on tokenreviews") && error.contains(expected), "{error}");
        assert!(!error.contains("t0ken"), "{error}");
    }
}

#[tokio::test]
async fn a_pod_is_read_as_it_is_now() {
    let running = json!({"metadata": {"uid": "1234"}, "status": {"phase": "Running"},
                         "spec": {"nodeName": "n1", "serviceAccountName": "web", "containers": []}});
    let server = server("200 OK", running.to_string());
    let pod = server.reviews.pod("shop", "web-1").await.unwrap().unwrap();
    let (uid, node, service_account) = ("1234".to_owned(), Some("n1".to_owned()), "web".to_owned());
    assert_eq!(pod, LivePod { uid, node, service_account, terminating: false, finished: false });
    let request = server.request.join().unwrap();
    assert!(request.starts_with("GET /api/v1/namespaces/shop/pods/web-1 "), "{request}");

    let ending = json!({"metadata": {"uid": "1", "deletionTimestamp": "2026-01-01T00:00:00Z"},
                        "spec": {"serviceAccountName": "web"}, "status": {"phase": "Failed"}});
    let pod = self::server("200 OK", ending.to_string()).reviews.pod("shop", "web-1").await.unwrap().unwrap();
    assert!(pod.terminating && pod.finished && pod.node.is_none());
}

#[tokio::test]
async fn a_kubeconfig_that_is_missing_or_changed_is_read_when_it_is_needed() {
    let pod = json!({"metadata": {"uid": "1"}, "spec": {}});
    let first = server("200 OK", pod.to_string());
    let second = server("200 OK", pod.to_string());
    let second_address = std::fs::read_to_string(second.kubeconfig.path()).unwrap();
    std::fs::rename(first.kubeconfig.path(), first.kubeconfig.path().with_extension("away")).unwrap();
    let missing = first.reviews.pod("shop", "web-1").await.unwrap_err().to_string();
    assert!(missing.contains("kubeconfig "), "{missing}");
    std::fs::rename(first.kubeconfig.path().with_extension("away"), first.kubeconfig.path()).unwrap();
    first.reviews.pod("shop", "web-1").await.unwrap().unwrap();
    std::fs::write(first.kubeconfig.path(), second_address).unwrap();
    first.reviews.pod("shop", "web-2").await.unwrap().unwrap();
    let request = second.request.join().unwrap();
    assert!(request.starts_with("GET /api/v1/namespaces/shop/pods/web-2 "), "{request}");
}

#[tokio::test]
async fn no_pod_is_an_answer_and_an_api_server_that_fails_is_none() {
    let missing = json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "no pod"});
    assert_eq!(
        server("404 Not Found", missing.to_string()).reviews.pod("shop", "web-1").await.unwrap(),
        None
    );
    let error =
        server("500 Oops", "{}".to_owned()).reviews.pod("shop", "web-1").await.unwrap_err().to_string();
    assert!(error.starts_with("reading a pod (get on pods): "), "{error}");
}
