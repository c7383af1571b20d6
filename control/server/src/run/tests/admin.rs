//! The admin endpoint, and two processes.

use super::*;

#[tokio::test]
async fn the_admin_endpoint_on_tcp_only_reads() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mesh = Mesh::started(&format!("admin.listen = \"{free}\"")).await;
    let tcp = |method, path, host| async move {
        let stream = TcpStream::connect(free).await.unwrap();
        exchange(TokioIo::new(stream), host, method, path, "{}").await.unwrap().0
    };
    assert_eq!(tcp("GET", "/ready", "localhost").await, 200);
    assert_eq!(tcp("GET", path::SERVICES, "127.0.0.1:1").await, 200);
    assert_eq!(tcp("GET", path::SERVICES, "evil.test").await, 403);
    assert_eq!(tcp("GET", path::TOKENS, "localhost").await, 403);
    assert_eq!(tcp("POST", path::TOKENS, "localhost").await, 403);
    assert_eq!(tcp("DELETE", "/v1/tokens/a", "localhost").await, 403);
    mesh.stop().await;
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked() {
    let mesh = Mesh::started("").await;
    mesh.token("default/web").await;
    let listed: Vec<weft_control_api::TokenView> = mesh.get(path::TOKENS).await;
    assert_eq!(listed[0].identity, "spiffe://mesh.test/ns/default/sa/web");
    let one = path::of(path::TOKENS, &listed[0].id);
    assert_eq!(ask(&mesh.socket(), "DELETE", &one, "").await.unwrap().0, 200);
    assert_eq!(ask(&mesh.socket(), "DELETE", &one, "").await.unwrap().0, 404);
    for (body, status) in [
        ("", 400),
        ("{\"identity\":\"web\",\"ttl_seconds\":60}", 400),
        ("{\"identity\":\"a/b\",\"ttl_seconds\":0}", 400),
        ("{\"identity\":\"weft-system/weft-control\",\"ttl_seconds\":60}", 400),
        ("{\"identity\":\"a/b\",\"ttl_seconds\":60,\"uses\":2}", 400),
    ] {
        assert_eq!(ask(&mesh.socket(), "POST", path::TOKENS, body).await.unwrap().0, status, "{body}");
    }
    for (method, path, status) in
        [("GET", "/v2", 404), ("PUT", path::TOKENS, 405), ("GET", "/v1/proxies/none", 404)]
    {
        assert_eq!(ask(&mesh.socket(), method, path, "").await.unwrap().0, status, "{method} {path}");
    }
    mesh.stop().await;
}

#[tokio::test]
async fn a_second_process_is_refused_and_a_stale_socket_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    drop(std::os::unix::net::UnixListener::bind(state.join("admin.sock")).unwrap());
    let mesh = Mesh::start(directory, "");
    mesh.until("it is ready", |status| status.control_plane.ready).await;
    let settings = crate::settings::load(Some(&mesh.directory.path().join("control.toml")), &[]).unwrap();
    let error = run(settings, None, std::future::pending()).await.unwrap_err();
    assert!(format!("{error:#}").contains("lock") || format!("{error:#}").contains("another"), "{error:#}");
    assert!(mesh.status().await.is_some(), "the first one goes on");
    mesh.stop().await;
}
