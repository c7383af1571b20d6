//! Answers of real servers against the golden files, and the rules of conversion one by one.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::*;

fn context() -> Context {
    Context { registry: "consul/dc1".parse().unwrap(), trust_domain: "weft.test".parse().unwrap() }
}

/// An instance as Consul shows it, changed.
fn entry(change: impl FnOnce(&mut Value)) -> HealthEntry {
    let mut entry = json!({
        "Node": {"Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1"},
        "Service": {"ID": "web-1", "Service": "web", "Port": 80, "Meta": {}, "Weights": {"Passing": 1, "Warning": 1}},
        "Checks": [{"CheckID": "serfHealth", "Status": "passing"}],
    });
    change(&mut entry);
    serde_json::from_value(entry).unwrap()
}

fn one(change: impl FnOnce(&mut Value)) -> Converted {
    convert(&context(), &[entry(change)], &[], 7)
}

fn workload_of(change: impl FnOnce(&mut Value)) -> Workload {
    let Converted { workloads, problems } = one(change);
    assert!(problems.is_empty(), "{problems:?}");
    let [workload] = workloads.try_into().unwrap();
    workload
}

/// Answers of real servers, and what becomes of them. `BLESS=1` rewrites the latter.
#[test]
fn answers_of_real_servers_become_what_the_golden_files_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut cases = 0;
    for file in fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(case) = name.strip_suffix(".health.json") else { continue };
        let entries: Vec<HealthEntry> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let Converted { workloads, problems } = convert(&context(), &entries, &[], 7);
        let got = serde_json::to_string_pretty(&json!({"workloads": workloads, "problems": problems}))
            .unwrap()
            + "\n";
        let golden = folder.join(format!("{case}.golden.json"));
        if std::env::var_os("BLESS").is_some() {
            fs::write(&golden, &got).unwrap();
        }
        assert_eq!(got, fs::read_to_string(&golden).unwrap_or_default(), "{case}; BLESS=1 rewrites");
        cases += 1;
    }
    assert!(cases >= 3, "only {cases} cases in {}", folder.display());
}

#[test]
fn checks_decide_health_and_the_worst_wins() {
    let health = |checks: Value| {
        let workload = workload_of(|entry| {
            entry["Service"]["Weights"] = json!({"Passing": 4, "Warning": 1});
            entry["Checks"] = checks;
        });
        (workload.health, workload.weight)
    };
    let check = |id: &str, status: &str| json!({"CheckID": id, "Status": status});
    let serf = check("serfHealth", "passing");
    assert_eq!(health(json!([serf])), (Health::Healthy, 400));
    assert_eq!(health(json!([])), (Health::Unknown, 400));
    assert_eq!(health(json!(null)), (Health::Unknown, 400));
    assert_eq!(health(json!([serf, check("c", "warning")])), (Health::Healthy, 100));
    assert_eq!(health(json!([serf, check("c", "critical")])).0, Health::Unhealthy);
    assert_eq!(health(json!([check("serfHealth", "critical")])).0, Health::Unhealthy);
    assert_eq!(health(json!([serf, check("c", "what-is-this")])).0, Health::Unhealthy);
    let maintenance = check("_service_maintenance:web-1", "critical");
    assert_eq!(health(json!([serf, maintenance])).0, Health::Draining);
    assert_eq!(health(json!([serf, check("_node_maintenance", "critical")])).0, Health::Draining);
    assert_eq!(health(json!([maintenance, check("c", "critical")])).0, Health::Unhealthy);
}

#[test]
fn a_weight_of_ours_wins_and_shrinks_with_a_warning_as_consuls_would() {
    let weight = |status: &str| {
        let status = status.to_owned();
        workload_of(move |entry| {
            entry["Service"]["Meta"] = json!({"weft-weight": "50"});
            entry["Service"]["Weights"] = json!({"Passing": 10, "Warning": 1});
            entry["Checks"][0]["Status"] = json!(status);
        })
        .weight
    };
    assert_eq!((weight("passing"), weight("warning")), (50, 5));
}

#[test]
fn the_services_address_wins_over_the_nodes_and_tagged_ones_follow_where_the_port_is_the_same() {
    let text = |workload: Workload| workload.addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
    let tagged = json!({"lan": "10.0.0.1", "wan": "192.0.2.1", "wan_ipv6": "2001:db8::1"});
    let of_node = workload_of(|entry| entry["Node"]["TaggedAddresses"] = tagged.clone());
    assert_eq!(text(of_node), ["10.0.0.1", "192.0.2.1", "2001:db8::1"]);
    let of_service = workload_of(|entry| {
        entry["Node"]["TaggedAddresses"] = tagged.clone();
        entry["Service"]["Address"] = json!("10.0.0.9");
        entry["Service"]["TaggedAddresses"] = json!({
            "lan": {"Address": "10.0.0.9", "Port": 80}, "lan_ipv6": {"Address": "fd00::9", "Port": 80},
            "wan": {"Address": "192.0.2.9", "Port": 8443}, "virtual": {"Address": "240.0.0.1", "Port": 80},
        });
    });
    assert_eq!(text(of_service), ["10.0.0.9", "fd00::9"]);
}

#[test]
fn what_cannot_be_a_workload_is_refused_with_the_field() {
    let refused = |change: &dyn Fn(&mut Value)| {
        let Converted { workloads, problems } = one(change);
        assert!(workloads.is_empty());
        let [problem] = problems.try_into().unwrap();
        assert_eq!((problem.severity, problem.object.as_str().starts_with("n1/")), (Severity::Error, true));
        problem.field.unwrap()
    };
    assert_eq!(refused(&|entry| entry["Service"]["Address"] = json!("web.internal")), "Address");
    assert_eq!(refused(&|entry| entry["Service"]["Address"] = json!("0.0.0.0")), "Address");
    assert_eq!(refused(&|entry| entry["Node"]["Address"] = json!("")), "Node.Address");
    assert_eq!(refused(&|entry| entry["Service"]["Port"] = json!(0)), "Port");
    assert_eq!(refused(&|entry| drop(entry["Service"].as_object_mut().unwrap().remove("Port"))), "Port");
    assert_eq!(refused(&|entry| entry["Service"]["Port"] = json!(70_000)), "Port");
    assert_eq!(refused(&|entry| entry["Service"]["ID"] = json!("a*b")), "ID");
    assert_eq!(refused(&|entry| entry["Service"]["Namespace"] = json!("a b")), "Namespace");
    assert_eq!(
        refused(&|entry| entry["Service"]["Meta"] = json!({"weft-weight": "heavy"})),
        "Meta.weft-weight"
    );
}

#[test]
fn an_unknown_key_is_a_warning_and_the_instance_is_used() {
    let Converted { workloads, problems } =
        one(|entry| entry["Service"]["Meta"] = json!({"weft-protokol": "grpc"}));
    assert_eq!((workloads.len(), problems[0].severity), (1, Severity::Warning));
    assert!(problems[0].message.contains("weft-protocol"), "{}", problems[0]);
}

#[test]
fn a_bad_value_keeps_the_last_good_state_of_that_instance_alone() {
    let good = one(|_| {}).workloads;
    let bad = entry(|entry| {
        entry["Service"]["Port"] = json!(81);
        entry["Service"]["Meta"] = json!({"weft-tunnel": "yes"});
    });
    let other = entry(|entry| entry["Service"]["ID"] = json!("web-2"));
    let after = convert(&context(), &[bad, other], &good, 9);
    assert_eq!(after.workloads[0], good[0]);
    assert_eq!(after.workloads.len(), 2);
    assert_eq!(after.problems.len(), 1);
}

#[test]
fn since_is_when_it_was_first_seen() {
    let first = one(|_| {}).workloads;
    let again = convert(&context(), &[entry(|_| {})], &first, 99).workloads;
    assert_eq!(again, first);
}

#[test]
fn sidecars_and_gateways_are_no_workloads() {
    for kind in ["connect-proxy", "mesh-gateway", "terminating-gateway", "ingress-gateway", "api-gateway"] {
        let Converted { workloads, problems } = one(|entry| entry["Service"]["Kind"] = json!(kind));
        assert!(workloads.is_empty() && problems.is_empty(), "{kind}");
    }
}

#[test]
fn what_nomad_registered_has_nomads_instance_id() {
    let alloc = "0f3c2a10-1111-2222-3333-444455556666";
    let id = |id: String| {
        workload_of(|entry| {
            entry["Service"]["Service"] = json!("my-web");
            entry["Service"]["ID"] = json!(id);
        })
        .id
        .to_string()
    };
    assert_eq!(id(format!("_nomad-task-{alloc}-group-my-web-my-web-http")), format!("nomad/{alloc}/http"));
    assert_eq!(id(format!("_nomad-task-{alloc}-server-my-web-admin-ui")), format!("nomad/{alloc}/admin-ui"));
    assert_eq!(id(format!("_nomad-task-{alloc}-server-my-web-")), format!("nomad/{alloc}/80"));
    assert_eq!(id("_nomad-task-shorthash".to_owned()), "consul/dc1/n1/_nomad-task-shorthash");
    let odd = "_nomad-task-éééééééééééééééééééééé-server-my-web-http";
    assert_eq!(id(odd.to_owned()), format!("consul/dc1/n1/{odd}"));
}

#[test]
fn meta_renames_moves_and_names_the_port() {
    let workload = workload_of(|entry| {
        entry["Service"]["Namespace"] = json!("team");
        entry["Service"]["Meta"] = json!({
            "weft-service": "shop", "weft-port": "http", "weft-protocol-http": "http2", "weft-locality": "eu/a", "team": "x",
        });
        entry["Service"]["Tags"] = json!(["blue"]);
    });
    let (key, ports) = workload.services.first_key_value().unwrap();
    assert_eq!((key.to_string().as_str(), ports[0].protocol.as_str()), ("team/shop", "http2"));
    assert_eq!(ports[0].name.as_ref().unwrap().as_str(), "http");
    assert_eq!(workload.identity.unwrap().as_str(), "spiffe://weft.test/ns/team/sa/shop");
    assert_eq!(workload.locality.to_string(), "eu/a");
    assert_eq!(
        workload.labels,
        BTreeMap::from([("tag/blue".into(), "true".into()), ("team".into(), "x".into())])
    );
}

proptest::proptest! {
    #[test]
    fn no_instance_however_odd_makes_it_panic(id in ".*", name in ".*", node in ".*", address in ".*", port in proptest::num::i64::ANY, passing in proptest::num::i64::ANY, warning in proptest::num::i64::ANY, key in ".*", value in ".*") {
        let converted = one(|entry| {
            entry["Node"]["Node"] = json!(node);
            entry["Service"] = json!({
                "ID": id, "Service": name, "Address": address, "Port": port, "Meta": {format!("weft-{key}"): value},
                "Weights": {"Passing": passing, "Warning": warning},
            });
            entry["Checks"][0]["Status"] = json!("warning");
        });
        proptest::prop_assert!(converted.workloads.len() <= 1);
    }
}
