//! What becomes of one registration, by what is known about it.

use serde_json::{Value, json};

use super::*;

const ALLOC: &str = "187a454a-bf68-1da5-f4bf-45afaeef30c6";

/// All that Nomad says of one instance.
struct Said {
    registration: Value,
    allocation: Value,
    job: Value,
    node: Value,
    checks: Option<Value>,
}

fn said() -> Said {
    Said {
        registration: json!({
            "ID": format!("_nomad-task-{ALLOC}-group-g-web-http"), "ServiceName": "web", "Namespace": "shop", "AllocID": ALLOC,
            "Address": "10.0.0.1", "Port": 21731, "Tags": [],
        }),
        allocation: json!({
            "ID": ALLOC, "Name": "web.g[0]", "Namespace": "shop", "NodeID": "n", "NodeName": "node-1", "JobID": "web", "JobVersion": 3,
            "TaskGroup": "g", "DesiredStatus": "run", "ClientStatus": "running",
            "AllocatedResources": {"Shared": {"Ports": [{"Label": "http", "Value": 21731, "To": 8080, "HostIP": "10.0.0.1"}]}},
        }),
        job: json!({"Meta": null, "TaskGroups": [{
            "Name": "g", "Meta": {"weft.dev/protocol": "http1"}, "Services": [{"Name": "web", "Checks": null}], "Tasks": [{"Name": "app"}],
        }]}),
        node: json!({"ID": "n", "Name": "node-1", "Datacenter": "dc1", "NodePool": "default", "NodeClass": "", "Status": "ready"}),
        checks: None,
    }
}

impl Said {
    fn port(mut self, label: &str, value: i64, to: i64, host: &str) -> Self {
        let ports = self.allocation["AllocatedResources"]["Shared"]["Ports"].as_array_mut().unwrap();
        ports.push(json!({"Label": label, "Value": value, "To": to, "HostIP": host}));
        self
    }

    fn meta(mut self, key: &str, value: &str) -> Self {
        self.job["TaskGroups"][0]["Meta"][key] = json!(value);
        self
    }

    fn checked(mut self, results: Option<Value>) -> Self {
        self.job["TaskGroups"][0]["Services"][0]["Checks"] = json!([{}]);
        self.checks = results;
        self
    }

    fn made_by(self, identities: IdentityRules) -> (Option<Workload>, Vec<String>) {
        let context = Context {
            registry: "nomad/test".parse().unwrap(),
            trust_domain: "weft.test".parse().unwrap(),
            identities,
        };
        let (registration, allocation) = (
            serde_json::from_value::<Registration>(self.registration).unwrap(),
            serde_json::from_value::<Allocation>(self.allocation).unwrap(),
        );
        let (job, node): (Job, Node) =
            (serde_json::from_value(self.job).unwrap(), serde_json::from_value(self.node).unwrap());
        let checks: Option<Vec<CheckResult>> =
            self.checks.map(|checks| serde_json::from_value(checks).unwrap());
        let known = Known {
            registration: &registration,
            allocation: &allocation,
            job: &job,
            node: Some(&node),
            checks: checks.as_deref(),
        };
        let mut problems = Vec::new();
        let made = workload(&context, known, 7, &mut problems);
        (made, problems.iter().map(ToString::to_string).collect())
    }

    fn made(self) -> Workload {
        let (made, problems) = self.made_by(IdentityRules::default());
        made.unwrap_or_else(|| panic!("{problems:?}"))
    }

    fn refused(self) -> String {
        let (made, problems) = self.made_by(IdentityRules::default());
        assert_eq!(made, None, "it was taken");
        problems.join("\n")
    }
}

#[test]
fn an_instance_is_its_allocation_and_port_with_what_job_and_node_say() {
    let made = said().made();
    assert_eq!(made.id.as_str(), format!("nomad/{ALLOC}/http"));
    assert_eq!(made.identity.unwrap().to_string(), "spiffe://weft.test/ns/shop/sa/web");
    let (service, ports) = made.services.first_key_value().unwrap();
    assert_eq!(service.to_string(), "shop/web");
    assert_eq!((ports[0].number, ports[0].protocol.as_str()), (21731, "http1"));
    assert_eq!(ports[0].name.as_ref().unwrap().as_str(), "http");
    assert_eq!((made.tunnel, made.captured, made.health), (Tunnel::None, false, Health::Healthy));
    assert_eq!(
        (made.locality.to_string(), made.node.unwrap().to_string()),
        ("dc1".to_owned(), "nomad/test/node-1".to_owned())
    );
    assert_eq!(made.labels["nomad/job-version"], "3");
    assert_eq!(made.provenance.first().unwrap().object, "shop/web.g[0] web");
}

#[test]
fn the_tunnel_is_at_the_nodes_port_or_inside_where_the_service_is() {
    let mapped = said().port(TUNNEL_PORT, 27274, 15008, "10.0.0.1").made();
    assert_eq!((mapped.tunnel, mapped.addresses), (Tunnel::Port(27274), vec!["10.0.0.1".parse().unwrap()]));
    let mut inside = said().port(TUNNEL_PORT, 27274, 15008, "10.0.0.1");
    (inside.registration["Address"], inside.registration["Port"]) = (json!("172.26.64.4"), json!(8080));
    let inside = inside.made();
    assert_eq!(
        (inside.tunnel, inside.addresses),
        (Tunnel::Port(15008), vec!["172.26.64.4".parse().unwrap()])
    );
    let host = said().port(TUNNEL_PORT, 27350, 0, "10.0.0.1").made();
    assert_eq!(host.tunnel, Tunnel::Port(27350));
    let mut six = said().port(TUNNEL_PORT, 27350, 15008, "fd00::1");
    six.registration["Address"] = json!("fd00::1");
    six.allocation["AllocatedResources"]["Shared"]["Ports"][0]["HostIP"] = json!("fd00::1");
    assert_eq!(six.made().addresses, ["fd00::1".parse::<IpAddr>().unwrap()]);
    let own = said().meta("weft.dev/tunnel", "9").made();
    assert_eq!(own.tunnel, Tunnel::Port(9), "a proxy of the job's own doing");
}

#[test]
fn a_group_with_the_task_that_captures_is_captured() {
    let mut captured = said();
    captured.job["TaskGroups"][0]["Tasks"] = json!([{"Name": "app"}, {"Name": REDIRECT_TASK}]);
    assert!(captured.made().captured);
}

#[test]
fn health_is_the_worst_that_is_known() {
    type Change = fn(&mut Said);
    let cases: &[(Change, Health)] = &[
        (|_| {}, Health::Healthy),
        (|said| said.allocation["DesiredStatus"] = json!("stop"), Health::Draining),
        (|said| said.allocation["DesiredStatus"] = json!("evict"), Health::Draining),
        (|said| said.allocation["ClientStatus"] = json!("pending"), Health::Unhealthy),
        (|said| said.allocation["ClientStatus"] = json!("failed"), Health::Unhealthy),
        (|said| said.allocation["ClientStatus"] = json!("lost"), Health::Unhealthy),
        (|said| said.allocation["ClientStatus"] = json!("unknown"), Health::Unknown),
        (|said| said.node["Status"] = json!("disconnected"), Health::Unknown),
        (|said| said.node["Status"] = json!("down"), Health::Unhealthy),
    ];
    for (number, (change, wanted)) in cases.iter().enumerate() {
        let mut one = said();
        change(&mut one);
        assert_eq!(one.made().health, *wanted, "case {number}");
    }
}

#[test]
fn checks_decide_for_their_own_service_and_none_known_is_not_yet_healthy() {
    let result = |service: &str, status: &str| json!({"Service": service, "Status": status});
    for (results, wanted) in [
        (Some(json!([result("web", "success")])), Health::Healthy),
        (Some(json!([result("web", "success"), result("web", "failure")])), Health::Unhealthy),
        (Some(json!([result("web", "pending")])), Health::Unhealthy),
        (Some(json!([result("web", "success"), result("other", "failure")])), Health::Healthy),
        (Some(json!([])), Health::Unhealthy),
        (None, Health::Unhealthy),
    ] {
        assert_eq!(said().checked(results.clone()).made().health, wanted, "{results:?}");
    }
    let mut deployed = said().checked(None);
    deployed.allocation["DeploymentStatus"] = json!({"Healthy": true, "Canary": true});
    let deployed = deployed.made();
    assert_eq!((deployed.health, deployed.labels["nomad/canary"].as_str()), (Health::Healthy, "true"));
}

#[test]
fn meta_of_the_group_wins_over_the_jobs_and_tags_over_both() {
    let mut one = said().meta("weft.dev/version", "group");
    one.job["Meta"] = json!({"weft.dev/version": "job", "weft.dev/app": "shop"});
    one.registration["Tags"] = json!(["plain", "weft.dev/protocol=grpc"]);
    let made = one.made();
    assert_eq!((made.labels["version"].as_str(), made.labels["app"].as_str()), ("group", "shop"));
    assert_eq!(made.services.first_key_value().unwrap().1[0].protocol.as_str(), "grpc");
    assert_eq!(made.labels["tag/plain"], "true");
    assert!(!made.labels.keys().any(|key| key.contains("weft.dev")));
}

#[test]
fn a_job_is_what_a_rule_allows_it_to_be_and_a_child_what_its_parent_is() {
    let claims = || said().meta("weft.dev/identity", "front");
    assert!(claims().refused().contains("no rule in the registry's identities"));
    let rule = crate::IdentityRule {
        namespace: "shop".to_owned(),
        job: "web".to_owned(),
        identities: vec!["front".to_owned()],
    };
    let allowed = claims().made_by([rule].into_iter().collect()).0.unwrap();
    assert_eq!(allowed.identity.unwrap().to_string(), "spiffe://weft.test/ns/shop/sa/front");
    let mut child = said();
    (child.allocation["JobID"], child.job["ParentID"]) = (json!("web/periodic-1"), json!("web"));
    assert_eq!(child.made().identity.unwrap().to_string(), "spiffe://weft.test/ns/shop/sa/web");
}

#[test]
fn what_cannot_be_used_is_named_with_its_field() {
    let with = |field: &str, value: Value| {
        let mut one = said();
        one.registration[field] = value;
        one.refused()
    };
    assert!(with("Port", json!(0)).contains("Port"));
    assert!(with("Port", json!(70_000)).contains("70000 is no port"));
    assert!(with("Address", json!("web.example")).contains("host names are not resolved"));
    assert!(with("Address", json!("0.0.0.0")).contains("no address to connect to"));
    assert!(with("ID", json!("other")).contains("no id of Nomad's"));
    let bad = said().meta("weft.dev/weight", "many").refused();
    assert!(bad.contains("shop/web.g[0] web") && bad.contains("meta.weft.dev/weight"), "{bad}");
}
