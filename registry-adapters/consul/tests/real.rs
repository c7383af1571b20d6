//! The adapter on real Consul 1.20.5 and 1.8.7: what users register, ACL tokens, TLS, restarts, and 1,000 services.
//!
//! Where a binary is missing, the test says so on stderr and passes.

#![allow(clippy::unwrap_used, reason = "what is not as expected here fails the test")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::{StreamExt, stream};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use serde_json::json;
use support::watching::{follow, follow_with};
use weft_model::{Health, Protocol, Tunnel};
use weft_registry::{GuardSettings, State, SuperviseSettings};
use weft_registry_consul::testkit::{ConsulOptions, ConsulServer, ConsulVersion};
use weft_registry_consul::{ConsulClient, ConsulSettings};

fn settings(server: &ConsulServer) -> ConsulSettings {
    ConsulSettings { address: server.address(), wait: Duration::from_secs(3), ..ConsulSettings::default() }
}

/// Runs a test on each version that is there.
async fn on_each<F: Future<Output = ()>>(options: ConsulOptions, test: impl Fn(ConsulServer) -> F) {
    support::init();
    for version in ConsulVersion::ALL {
        if let Some(server) = ConsulServer::start(version, options.clone()).await.unwrap() {
            eprintln!("on Consul {}", version.as_str());
            test(server).await;
        }
    }
}

async fn register(server: &ConsulServer, name: &str, id: &str) {
    let body = json!({"ID": id, "Name": name, "Address": "10.0.0.7", "Port": 8080});
    server.put("agent/service/register", &body).await.unwrap();
}

#[tokio::test]
async fn what_a_user_registers_becomes_a_workload_and_follows_its_checks() {
    on_each(ConsulOptions::default(), async |server| {
        let body = json!({
            "ID": "api-1", "Name": "api", "Address": "10.0.0.7", "Port": 8080, "Tags": ["blue"],
            "Meta": {"weft-protocol": "grpc", "weft-identity": "billing", "weft-tunnel": "15008", "weft-version": "v2", "team": "x"},
            "Weights": {"Passing": 4, "Warning": 1},
            "Check": {"TTL": "1h", "Status": "passing"},
        });
        server.put("agent/service/register", &body).await.unwrap();
        let proxy = json!({"ID": "api-proxy", "Name": "api-proxy", "Kind": "connect-proxy", "Port": 20000,
            "Proxy": {"DestinationServiceName": "api"}});
        server.put("agent/service/register", &proxy).await.unwrap();
        let mut watching = follow(settings(&server));
        watching.until_synced().await;
        let [api] = watching.workloads().try_into().unwrap();
        assert_eq!(api.id.as_str(), "consul/dc1/node-1/api-1");
        assert_eq!(api.identity.unwrap().as_str(), "spiffe://weft.test/ns/default/sa/billing");
        assert_eq!(api.services.values().next().unwrap()[0].protocol, Protocol::Grpc);
        assert_eq!((api.tunnel, api.weight, api.health), (Tunnel::Port(15008), 400, Health::Healthy));
        assert_eq!(api.labels["tag/blue"], "true");
        assert_eq!((api.labels["version"].as_str(), api.labels["team"].as_str()), ("v2", "x"));

        server.put("agent/check/update/service:api-1", &json!({"Status": "warning"})).await.unwrap();
        watching.until("the weight for warnings", |watching| watching.workloads()[0].weight == 100).await;
        server.put("agent/check/update/service:api-1", &json!({"Status": "critical"})).await.unwrap();
        watching.until("unhealthy", |watching| watching.workloads()[0].health == Health::Unhealthy).await;
        server.put("agent/check/update/service:api-1", &json!({"Status": "passing"})).await.unwrap();
        server.put("agent/service/maintenance/api-1?enable=true", &json!(null)).await.unwrap();
        watching.until("draining", |watching| watching.workloads()[0].health == Health::Draining).await;
        server.put("agent/service/deregister/api-1", &json!(null)).await.unwrap();
        watching.until("gone", |watching| watching.workloads().is_empty()).await;
        assert_eq!(watching.state(), State::Synced);
    })
    .await;
}

#[tokio::test]
async fn a_quiet_datacenter_wakes_the_adapter_at_once_when_something_changes() {
    on_each(ConsulOptions::default(), async |server| {
        register(&server, "api", "api-1").await;
        let mut watching = follow(ConsulSettings { wait: Duration::from_secs(300), ..settings(&server) });
        watching.until_synced().await;
        let started = tokio::time::Instant::now();
        register(&server, "api", "api-2").await;
        watching.until_members("api", 2).await;
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    })
    .await;
}

#[tokio::test]
async fn an_unknown_datacenter_is_not_found_and_the_roots_can_be_read() {
    on_each(ConsulOptions::default(), async |server| {
        let mut watching =
            follow(ConsulSettings { datacenter: Some("nope".to_owned()), ..settings(&server) });
        watching.until("not found", |watching| watching.state() == State::NotFound).await;
        let client = ConsulClient::new(&settings(&server)).unwrap();
        let roots = client.connect_ca_roots().await.unwrap();
        assert!(roots[0].starts_with(b"-----BEGIN CERTIFICATE-----"));
        assert!(client.connect_trust_domain().await.unwrap().ends_with(".consul"));
    })
    .await;
}

#[tokio::test]
async fn a_token_that_loses_and_regains_rights_removes_nothing() {
    on_each(ConsulOptions { acl: true, ..ConsulOptions::default() }, async |server| {
        let rules = "service_prefix \"\" { policy = \"read\" } node_prefix \"\" { policy = \"read\" }";
        let good = server.make_token("good", rules).await.unwrap();
        let no_nodes =
            server.make_token("no-nodes", "service_prefix \"\" { policy = \"read\" }").await.unwrap();
        for (name, id) in [("api", "api-1"), ("api", "api-2"), ("web", "web-1")] {
            register(&server, name, id).await;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, format!("{good}\n")).unwrap();
        let with_token = ConsulSettings { token_file: Some(file.path().to_owned()), ..settings(&server) };
        let guard = GuardSettings { enabled: false, ..GuardSettings::default() };
        let mut watching = follow_with(with_token, SuperviseSettings { guard });
        watching.until_synced().await;
        assert_eq!(watching.workloads().len(), 3);
        for bad in ["00000000-0000-4000-8000-00000000dead", no_nodes.as_str(), "", "not\u{1}a\u{1}token"] {
            fs::write(&file, bad).unwrap();
            watching.until("denied", |watching| watching.state() == State::Denied).await;
            watching.during(Duration::from_secs(2)).await;
            assert_eq!(watching.workloads().len(), 3, "with token {bad:?}");
            fs::write(&file, &good).unwrap();
            watching.until_synced().await;
        }
        server.put("agent/service/deregister/web-1", &json!(null)).await.unwrap();
        watching.until_members("web", 0).await;
        assert_eq!(watching.members("api").len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_token_for_some_services_sees_those_and_loses_none_of_them_wrongly() {
    on_each(ConsulOptions { acl: true, ..ConsulOptions::default() }, async |server| {
        let nodes = "node_prefix \"\" { policy = \"read\" }";
        let both = format!("service_prefix \"api\" {{ policy = \"read\" }} service_prefix \"web\" {{ policy = \"read\" }} {nodes}");
        let (both, api) = (
            server.make_token("both", &both).await.unwrap(),
            server.make_token("api", &format!("service_prefix \"api\" {{ policy = \"read\" }} {nodes}")).await.unwrap(),
        );
        for (name, id) in [("api", "api-1"), ("web", "web-1"), ("secret", "secret-1")] {
            register(&server, name, id).await;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, &both).unwrap();
        let mut watching =
            follow(ConsulSettings { token_file: Some(file.path().to_owned()), ..settings(&server) });
        watching.until_synced().await;
        assert_eq!(watching.workloads().len(), 2);
        fs::write(&file, &api).unwrap();
        watching.during(Duration::from_secs(8)).await;
        // `web` is hidden now, and not gone.
        assert_eq!(watching.workloads().len(), 2);
        fs::write(&file, &both).unwrap();
        server.put("agent/service/deregister/web-1", &json!(null)).await.unwrap();
        if server.version() == ConsulVersion::V1_20_5 {
            watching.until_members("web", 0).await;
        } else {
            // 1.8 does not say whether something is hidden: the warning says what to do.
            watching.during(Duration::from_secs(8)).await;
            assert_eq!(watching.members("web").len(), 1);
            assert!(watching.problems().iter().any(|text| text.contains("service_prefix")), "{:?}", watching.problems());
        }
        assert_eq!(watching.members("api").len(), 1);
    })
    .await;
}

/// A CA with a certificate for a name, as PEM files: CA, certificate, key.
fn certificates(directory: &Path, ca: &str, name: &str) -> [PathBuf; 3] {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::IpAddress("127.0.0.1".parse().unwrap()));
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let paths = ["ca.pem", "cert.pem", "key.pem"].map(|part| directory.join(format!("{ca}-{part}")));
    fs::write(&paths[0], issuer.pem()).unwrap();
    fs::write(&paths[1], certificate.pem()).unwrap();
    fs::write(&paths[2], key.serialize_pem()).unwrap();
    paths
}

#[tokio::test]
async fn https_with_its_own_ca_and_a_client_certificate_works_and_without_one_is_down() {
    let directory = tempfile::tempdir().unwrap();
    let [ca, certificate, key] = certificates(directory.path(), "ours", "localhost");
    let [other_ca, other_certificate, other_key] = certificates(directory.path(), "other", "localhost");
    let options = ConsulOptions {
        tls: Some([ca.clone(), certificate.clone(), key.clone()]),
        ..ConsulOptions::default()
    };
    on_each(options, async |server| {
        register(&server, "api", "api-1").await;
        let with = |ca: &Path, pair: Option<(&Path, &Path)>| ConsulSettings {
            address: server.https_address(),
            ca_file: Some(ca.to_owned()),
            client_certificate: pair.map(|pair| pair.0.to_owned()),
            client_key: pair.map(|pair| pair.1.to_owned()),
            ..settings(&server)
        };
        let mut watching = follow(with(&ca, Some((&certificate, &key))));
        watching.until_synced().await;
        assert_eq!(watching.members("api").len(), 1);
        for refused in [
            with(&ca, None),
            with(&ca, Some((&other_certificate, &other_key))),
            with(&other_ca, Some((&certificate, &key))),
        ] {
            let mut watching = follow(refused);
            watching.until("stale", |watching| watching.state() == State::Stale).await;
            // As rustls puts what either side refuses.
            let error = watching.error();
            assert!(
                ["invalid peer certificate", "CertificateRequired", "UnknownCA", "BadCertificate"]
                    .iter()
                    .any(|why| error.contains(why)),
                "{error}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_is_killed_and_restarted_keeps_everything_also_with_a_new_state() {
    for persistent in [true, false] {
        on_each(ConsulOptions { persistent, ..ConsulOptions::default() }, async |mut server| {
            for id in ["api-1", "api-2", "api-3"] {
                register(&server, "api", id).await;
            }
            let mut watching = follow(settings(&server));
            watching.until_synced().await;
            server.kill().unwrap();
            watching.until("stale", |watching| watching.state() == State::Stale).await;
            assert_eq!(watching.members("api").len(), 3);
            server.restart().await.unwrap();
            watching.until_synced().await;
            watching.during(Duration::from_secs(1)).await;
            // Without its state the list is shorter: more than half is not believed at once.
            assert_eq!(watching.members("api").len(), 3);
            register(&server, "api", "api-4").await;
            watching.until_members("api", 4).await;
        })
        .await;
    }
}

/// Registers services in transactions of 60: each an external instance of its own.
async fn register_many(server: &ConsulServer, count: usize) {
    server.put("catalog/register", &json!({"Node": "far", "Address": "10.9.9.9"})).await.unwrap();
    let names: Vec<String> = (0..count).map(|number| format!("svc-{number:04}")).collect();
    let one = |name: &String| {
        let service = json!({"ID": name, "Service": name, "Port": 80});
        json!({"Service": {"Verb": "set", "Node": "far", "Service": service}})
    };
    let chunks = names.chunks(60).map(|chunk| chunk.iter().map(one).collect::<Vec<_>>());
    stream::iter(chunks)
        .for_each_concurrent(4, |chunk| async move {
            server.put("txn", &json!(chunk)).await.unwrap();
        })
        .await;
}

async fn follows_a_thousand(limit: Option<u32>, max_watches: usize) {
    on_each(ConsulOptions { max_connections: limit, ..ConsulOptions::default() }, async |server| {
        register_many(&server, 1000).await;
        let mut watching = follow(ConsulSettings { max_watches, wait: Duration::from_secs(60), ..settings(&server) });
        watching.until_synced().await;
        assert_eq!(watching.workloads().len(), 1000);
        let rotates = watching.problems().iter().any(|text| text.contains("max_watches"));
        watching.during(Duration::from_millis(500)).await;
        let rotates = rotates || watching.problems().iter().any(|text| text.contains("max_watches"));
        assert_eq!(rotates, max_watches < 1000, "{:?}", watching.problems());
        let more = json!({"Node": "far", "Address": "10.9.9.9", "Service": {"ID": "new", "Service": "svc-0500", "Port": 81}});
        server.put("catalog/register", &more).await.unwrap();
        watching.until_members("svc-0500", 2).await;
        server.put("catalog/deregister", &json!({"Node": "far", "ServiceID": "svc-0007"})).await.unwrap();
        watching.until_members("svc-0007", 0).await;
        assert_eq!((watching.workloads().len(), watching.state()), (1000, State::Synced));
    })
    .await;
}

#[tokio::test]
async fn a_thousand_services_take_turns_within_consuls_default_limit_of_connections() {
    follows_a_thousand(None, 150).await;
}

#[tokio::test]
async fn a_thousand_services_are_watched_at_once_where_consul_allows_the_connections() {
    follows_a_thousand(Some(2000), 1200).await;
}
