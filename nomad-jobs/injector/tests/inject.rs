//! What an injection makes of a job, and what it refuses.

#![allow(clippy::unwrap_used, reason = "what is not as expected here fails the test")]

use proptest::prelude::*;
use serde_json::{Value, json};
use weft_nomad_injector::{
    ADMIN_PORT, Driver, HEALTH_PORT, NomadInjectorSettings, READY_TASK, REDIRECT_TASK, SIDECAR_TASK,
    TUNNEL_PORT, inject, stanza, take_away,
};

fn settings() -> NomadInjectorSettings {
    NomadInjectorSettings { root_sha256: vec!["ab".repeat(32)], ..NomadInjectorSettings::default() }
}

/// A job with one group in a network of this mode, as Nomad's parser gives it.
fn job(mode: &str, meta: &[(&str, &str)]) -> Value {
    let meta: serde_json::Map<String, Value> =
        [("weft.dev/inject", "true")].iter().chain(meta).map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
    json!({
        "ID": "web", "Name": "web", "Type": "service", "Namespace": "shop", "Meta": null, "Unknown": {"kept": [1]},
        "TaskGroups": [{
            "Name": "web", "Count": 1, "Meta": meta, "ShutdownDelay": null,
            "Networks": [{"Mode": mode, "DynamicPorts": [{"Label": "http", "To": 8080, "Value": 0}], "ReservedPorts": null}],
            "Services": [{
                "Name": "web", "PortLabel": "http", "Provider": "nomad", "AddressMode": "auto", "Tags": null,
                "Checks": [
                    {"Type": "http", "Path": "/healthz", "PortLabel": "", "Timeout": 1_500_000_000_u64, "Method": "", "Header": {"X-Probe": ["1"], "Host": ["web"]}},
                    {"Type": "script", "Command": "true"},
                ],
            }],
            "Tasks": [{"Name": "app", "Driver": "raw_exec", "User": "", "Config": {"command": "app"}, "Lifecycle": null, "Services": [
                {"Name": "web-db", "PortLabel": "http", "Provider": "consul", "Checks": [{"Type": "tcp", "PortLabel": "http", "Timeout": 1}]}
            ]}],
        }],
    })
}

fn group(job: &Value) -> &Value {
    &job["TaskGroups"][0]
}

fn task<'a>(job: &'a Value, name: &str) -> Option<&'a Value> {
    group(job)["Tasks"].as_array().unwrap().iter().find(|task| task["Name"] == name)
}

fn variable<'a>(job: &'a Value, name: &str) -> &'a str {
    task(job, SIDECAR_TASK).unwrap()["Env"][format!("WEFT_PROXY_{name}")].as_str().unwrap_or_default()
}

fn labels(job: &Value) -> Vec<&str> {
    let network = &group(job)["Networks"][0];
    let ports = ["DynamicPorts", "ReservedPorts"].map(|field| network[field].as_array());
    ports.into_iter().flatten().flatten().map(|port| port["Label"].as_str().unwrap()).collect()
}

fn refused(job: &Value) -> String {
    inject(job, &settings()).unwrap_err().to_string()
}

#[test]
fn a_group_of_its_own_network_is_captured_and_its_checks_ask_the_proxy() {
    let injection = inject(&job("bridge", &[("weft.dev/upstreams", "api=9000")]), &settings()).unwrap();
    assert_eq!((injection.groups.as_slice(), injection.warnings.len()), (["web".to_owned()].as_slice(), 0));
    let job = injection.job;
    for name in [SIDECAR_TASK, REDIRECT_TASK, READY_TASK] {
        assert_eq!(task(&job, name).unwrap()["Lifecycle"]["Hook"], "prestart", "{name}");
    }
    assert_eq!(task(&job, SIDECAR_TASK).unwrap()["Lifecycle"]["Sidecar"], true);
    assert_eq!(task(&job, READY_TASK).unwrap()["Lifecycle"]["Sidecar"], false);
    assert_eq!(labels(&job), ["http", TUNNEL_PORT, HEALTH_PORT]);
    let check = &group(&job)["Services"][0]["Checks"][0];
    assert_eq!(
        (&check["PortLabel"], &check["Path"], &check["Header"]),
        (&json!(HEALTH_PORT), &json!("/probe/check-0"), &Value::Null)
    );
    assert_eq!(group(&job)["Services"][0]["Checks"][1]["Type"], "script", "it does not come from outside");
    let other = &task(&job, "app").unwrap()["Services"][0]["Checks"][0];
    assert_eq!((&other["Type"], &other["Path"]), (&json!("http"), &json!("/probe/check-1")));
    assert_eq!(
        variable(&job, "HEALTH__PROBE"),
        r#"[{name="check-0",timeout="2s",http={port=8080,path="/healthz",host="web",headers=[{name="X-Probe",value="1"}]}},{name="check-1",timeout="1s",tcp={port=8080}}]"#
    );
    assert_eq!(
        variable(&job, "INBOUND"),
        r#"[{service="shop/web",port=${NOMAD_HOST_PORT_http},app="127.0.0.1:8080"},{service="shop/web",port=8080,app="127.0.0.1:8080"}]"#
    );
    assert_eq!(variable(&job, "UPSTREAM"), r#"[{service="shop/api",listen="127.0.0.1:9000"}]"#);
    assert_eq!(group(&job)["ShutdownDelay"], 2_000_000_000);
}

#[test]
fn in_the_nodes_network_nothing_is_captured_and_nothing_needs_a_privilege() {
    let job = inject(
        &job("host", &[("weft.dev/upstreams", "api=9000"), ("weft.dev/protocol", "grpc")]),
        &settings(),
    )
    .unwrap()
    .job;
    assert!(task(&job, REDIRECT_TASK).is_none());
    assert_eq!(task(&job, SIDECAR_TASK).unwrap().get("User"), None);
    assert_eq!(group(&job)["Services"][0]["Checks"][0]["Path"], "/healthz", "checks go where they went");
    assert_eq!(labels(&job), ["http", TUNNEL_PORT, HEALTH_PORT, ADMIN_PORT, "weft_upstream_9000"]);
    assert_eq!(variable(&job, "TUNNEL__LISTEN"), r#""${NOMAD_IP_weft_tunnel}:${NOMAD_PORT_weft_tunnel}""#);
    assert_eq!(
        variable(&job, "INBOUND"),
        r#"[{service="shop/web",port=${NOMAD_HOST_PORT_http},app="${NOMAD_IP_http}:${NOMAD_PORT_http}",protocol="grpc"}]"#
    );
}

#[test]
fn a_group_without_a_network_gets_one_of_the_node_for_the_proxys_ports() {
    let mut plain = job("host", &[]);
    plain["TaskGroups"][0]["Networks"] = Value::Null;
    plain["TaskGroups"][0]["Services"] = Value::Null;
    plain["TaskGroups"][0]["Tasks"][0]["Services"] = Value::Null;
    let injected = inject(&plain, &settings()).unwrap().job;
    assert_eq!(labels(&injected), [TUNNEL_PORT, HEALTH_PORT, ADMIN_PORT]);
    assert_eq!(group(&injected)["ShutdownDelay"], Value::Null, "nobody calls it");
    assert_eq!(take_away(&injected), plain);
}

#[test]
fn the_job_differs_by_the_sidecar_alone_and_twice_is_once() {
    for mode in ["bridge", "host", "cni/mine"] {
        let original = job(mode, &[("weft.dev/upstreams", "bank/api:http=9000,db=9001")]);
        let once = inject(&original, &settings()).unwrap().job;
        assert_eq!(take_away(&once), original, "{mode}");
        assert_eq!(inject(&once, &settings()).unwrap().job, once, "{mode}");
        let other = NomadInjectorSettings { hold: false, ..settings() };
        let again = inject(&once, &other).unwrap().job;
        assert!(task(&again, READY_TASK).is_none(), "{mode}: new settings replace the old ones");
        assert_eq!(take_away(&again), original, "{mode}");
    }
}

#[test]
fn only_groups_that_ask_get_a_sidecar_and_a_job_where_none_does_is_said() {
    let mut two = job("bridge", &[]);
    let mut other = two["TaskGroups"][0].clone();
    (other["Name"], other["Meta"]) = (json!("other"), json!({"weft.dev/inject": "false"}));
    two["TaskGroups"].as_array_mut().unwrap().push(other.clone());
    let injection = inject(&two, &settings()).unwrap();
    assert_eq!(injection.groups, ["web"]);
    assert_eq!(injection.job["TaskGroups"][1], other);
    two["TaskGroups"][0]["Meta"] = Value::Null;
    assert!(refused(&two).contains("weft.dev/inject"));
    two["Meta"] = json!({"weft.dev/inject": "true"});
    assert_eq!(inject(&two, &settings()).unwrap().groups, ["web"], "the job's meta is each group's");
}

#[test]
fn what_cannot_be_is_refused_with_its_reason_and_place() {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut wrong = job("bridge", &[]);
        change(&mut wrong["TaskGroups"][0]);
        refused(&wrong)
    };
    type Change<'a> = &'a dyn Fn(&mut Value);
    let cases: &[(Change<'_>, &str)] = &[
        (&|group| group["Networks"][0]["Mode"] = json!("none"), "mode \"none\""),
        (&|group| group["Tasks"][0]["Driver"] = json!("qemu"), "driver \"qemu\""),
        (&|group| group["Tasks"][0]["Name"] = json!("weft-proxy"), "task \"weft-proxy\" has the name"),
        (&|group| group["Tasks"][0]["User"] = json!("weft"), "runs as user \"weft\""),
        (
            &|group| group["Networks"][0]["DynamicPorts"][0]["Label"] = json!("weft_tunnel"),
            "port \"weft_tunnel\" has the name",
        ),
        (
            &|group| group["Networks"][0]["DynamicPorts"][0]["To"] = json!(15006),
            "15006, which is one of the proxy's",
        ),
        (
            &|group| group["Services"][0]["Connect"] = json!({"SidecarService": {}}),
            "service \"web\": it has a connect block",
        ),
        (&|group| group["Services"][0]["PortLabel"] = json!("nope"), "port \"nope\" is not a port"),
        (&|group| group["Services"][0]["AddressMode"] = json!("driver"), "address_mode \"driver\""),
        (
            &|group| group["Meta"]["weft.dev/upstreams"] = json!("api=8080"),
            "8080 is where port \"http\" leads",
        ),
        (
            &|group| group["Meta"]["weft.dev/upstreams"] = json!("api"),
            "weft.dev/upstreams is \"api\": expected",
        ),
        (
            &|group| group["Meta"]["weft.dev/proxy-cpu-limit"] = json!("1"),
            "Nomad limits no task's processor share",
        ),
        (&|group| group["Meta"]["weft.dev/tunnel"] = json!("15008"), "it follows from the group's ports"),
        (
            &|group| group["Meta"] = json!({"weft.dev/inject": "true", "weft.dev/capture": "false", "weft.dev/inbound-plaintext": "strict"}),
            "nobody can refuse plaintext",
        ),
        (
            &|group| {
                group["Meta"]["weft.dev/inbound-plaintext"] = json!("strict");
                group["Services"][0]["Checks"][0]["Method"] = json!("POST");
            },
            "service \"web\", check 0: the proxy asks only by GET",
        ),
    ];
    for (change, wanted) in cases {
        let said = with(change);
        assert!(said.starts_with("group \"web\": ") && said.contains(wanted), "{wanted}: {said}");
    }
}

#[test]
fn what_no_network_has_room_for_and_what_is_no_job_is_refused() {
    let host = refused(&job("host", &[("weft.dev/capture", "true")]));
    assert!(host.contains("would capture the node"), "{host}");
    let mut containers = job("host", &[]);
    containers["TaskGroups"][0]["Tasks"][0]["Driver"] = json!("docker");
    assert!(refused(&containers).contains("networks of their own"));
    assert!(refused(&json!({"ID": "x"})).contains("TaskGroups"));
    let settings = NomadInjectorSettings { drain: std::time::Duration::ZERO, ..settings() };
    assert!(inject(&job("bridge", &[]), &settings).unwrap_err().to_string().contains("setting drain"));
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let mut wrong = job("bridge", &[("weft.dev/upstreams", "api"), ("weft.dev/hold", "maybe")]);
    wrong["TaskGroups"][0]["Services"][0]["PortLabel"] = json!("nope");
    let said = refused(&wrong);
    assert!(["upstreams", "hold", "nope"].iter().all(|part| said.contains(part)), "{said}");
}

#[test]
fn containers_get_a_container_with_the_one_capability_that_capture_needs() {
    let mut containers = job("bridge", &[]);
    containers["TaskGroups"][0]["Tasks"][0]["Driver"] = json!("docker");
    let job = inject(&containers, &settings()).unwrap().job;
    let proxy = task(&job, SIDECAR_TASK).unwrap();
    assert_eq!(
        (&proxy["Driver"], &proxy["User"], &proxy["Config"]["cap_add"]),
        (&json!("docker"), &json!("1337"), &Value::Null)
    );
    assert_eq!(task(&job, REDIRECT_TASK).unwrap()["Config"]["cap_add"], json!(["net_admin"]));
    let settings = NomadInjectorSettings { driver: Driver::RawExec, ..settings() };
    let job = inject(&containers, &settings).unwrap().job;
    assert_eq!(task(&job, SIDECAR_TASK).unwrap()["Driver"], "raw_exec", "the settings win");
}

#[test]
fn what_may_surprise_is_a_warning() {
    let mut job = job(
        "bridge",
        &[("weft.dev/capture", "false"), ("weft.dev/dns", "true"), ("weft.dev/protokol", "grpc")],
    );
    let warnings = inject(&job, &NomadInjectorSettings::default()).unwrap().warnings.join("\n");
    for part in ["weft.dev/dns has no effect", "no root of the mesh", "did you mean \"weft.dev/protocol\""] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
    job["TaskGroups"][0]["Meta"] = json!({"weft.dev/inject": "true"});
    let early =
        json!({"Name": "migrate", "Driver": "raw_exec", "Lifecycle": {"Hook": "prestart", "Sidecar": false}});
    job["TaskGroups"][0]["Tasks"].as_array_mut().unwrap().push(early);
    let warnings = inject(&job, &settings()).unwrap().warnings.join("\n");
    assert!(warnings.contains("\"migrate\" is a prestart task"), "{warnings}");
}

#[test]
fn the_stanza_holds_every_task_and_port_that_is_added() {
    let injection = inject(&job("bridge", &[("weft.dev/app", "a\"${x} %{y}")]), &settings()).unwrap();
    let text = stanza(&injection);
    for part in [
        "task \"weft-proxy\"",
        "task \"weft-ready\"",
        "port \"weft_tunnel\"",
        "to = 15021",
        "shutdown_delay = \"2000ms\"",
        "/probe/check-0",
        "%%{y}",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z/.{}$\"-]{0,12}".prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let names = prop::sample::select(vec![
            "Name",
            "Meta",
            "Networks",
            "Tasks",
            "Services",
            "Checks",
            "Mode",
            "Driver",
            "DynamicPorts",
            "To",
            "weft.dev/inject",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(names.prop_map(str::to_owned), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_job_makes_it_panic_and_what_is_injected_twice_is_injected_once(path in prop::sample::select(vec!["Networks", "Tasks", "Services", "Meta", "ShutdownDelay", "Name"]), odd in any_json()) {
        let mut odd_job = job("bridge", &[]);
        odd_job["TaskGroups"][0][path] = odd.clone();
        if let Ok(injection) = inject(&odd_job, &settings()) {
            prop_assert_eq!(&inject(&injection.job, &settings()).unwrap().job, &injection.job);
        }
        let _ = take_away(&odd_job);
        odd_job["TaskGroups"] = json!([odd]);
        odd_job["Meta"] = json!({"weft.dev/inject": "true"});
        let _ = (inject(&odd_job, &settings()), take_away(&odd_job));
    }
}
