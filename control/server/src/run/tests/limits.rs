//! How long streams live and how many there may be.

use super::*;

#[tokio::test]
async fn a_stream_ends_with_the_certificate_that_opened_it() {
    let directory = tempfile::tempdir().unwrap();
    let other = weft_identity::testkit::TestAuthority::new("mesh.test");
    let root = directory.path().join("other.pem");
    std::fs::write(&root, other.bundle().to_pem()).unwrap();
    let mesh = Mesh::start(directory, &format!("[ca]\nextra_roots = [{root:?}]"));
    mesh.until("it is ready", |status| status.control_plane.ready).await;
    let joined = mesh.join("default/web").await;
    let mut params = weft_identity::testkit::leaf_params("spiffe://mesh.test/ns/default/sa/web");
    params.not_after = (SystemTime::now() + Duration::from_secs(2)).into();
    let (chain, key) = other.sign(params);
    let bundles = joined.source.current().unwrap().bundles.as_ref().clone();
    let source = SvidSource::new();
    source.set(Svid::from_der(chain, key).unwrap(), bundles);
    let short = Proxy { source, address: joined.address };
    let (mut short, mut long) = (short.follow(NODE).await, joined.follow(NODE).await);
    for following in [&mut short, &mut long] {
        following.acked().await;
        following.acked().await;
    }
    let started = std::time::Instant::now();
    let ended = short.next().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unauthenticated, "{ended}");
    assert!(ended.message().contains("has expired"), "{ended}");
    assert!(started.elapsed() > Duration::from_secs(5), "not before it is over: {:?}", started.elapsed());
    let goes_on = tokio::time::timeout(Duration::from_millis(200), long.responses.message()).await;
    assert!(goes_on.is_err(), "{goes_on:?}");
    drop((short, long));
    mesh.stop().await;
}

#[tokio::test]
async fn more_streams_than_the_limit_are_refused_until_one_ends() {
    let mesh = Mesh::started("limits.streams = 1").await;
    let proxy = mesh.join("default/web").await;
    let mut first = proxy.follow(NODE).await;
    first.acked().await;
    let (_requests, receiver) = mpsc::channel(1);
    let refused = proxy.stream(receiver).await.err().expect("refused");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    drop(first);
    mesh.until("the first is gone", |status| status.proxies.is_empty()).await;
    proxy.follow(NODE).await.acked().await;
    mesh.stop().await;
}
