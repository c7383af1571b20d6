//! Golden tables, and what a name and a namespace choose.

use serde_json::json;

use super::*;

const PLAIN: Style = Style { colour: false };

fn services() -> Vec<ServiceView> {
    serde_json::from_value(json!([
        {"key": "default/api", "ports": [{"name": "http", "number": 80, "protocol": "http1"}, {"name": null, "number": 9000, "protocol": "grpc"}],
         "labels": {}, "workloads": {"healthy": 2, "draining": 0, "unhealthy": 1, "unknown": 0}, "registries": ["consul/dc1", "file/local"]},
        {"key": "shop/cart", "ports": [{"name": "http", "number": 0, "protocol": "http2"}],
         "labels": {}, "workloads": {"healthy": 0, "draining": 0, "unhealthy": 0, "unknown": 0}, "registries": []},
    ]))
    .unwrap()
}

fn workloads() -> Vec<Workload> {
    serde_json::from_value(json!([
        {"id": "file/local/api-v1", "services": {"default/api": [{"name": "http", "number": 8080, "protocol": "http1"}]},
         "addresses": ["10.0.0.1", "fd00::1"], "network": "default", "identity": "spiffe://td/ns/default/sa/api",
         "tunnel": {"port": 15008}, "locality": "", "weight": 100, "health": "healthy", "labels": {}, "provenance": []},
        {"id": "consul/dc1/n1/cart", "services": {"shop/cart": []},
         "addresses": [], "network": "default", "identity": null,
         "tunnel": "none", "locality": "eu/a", "weight": 0, "health": "draining", "labels": {}, "provenance": []},
    ]))
    .unwrap()
}

fn proxies() -> Vec<ProxyStatus> {
    serde_json::from_value(json!([
        {"name": "spiffe://td/ns/default/sa/api~api-1", "identity": "spiffe://td/ns/default/sa/api", "instance": "api-1",
         "address": "10.0.0.1:40000", "user_agent": "weft-proxy 0.1.0", "connected_unix_ms": 1000, "applied_revision": 7,
         "sync": "in_sync", "reasons": [], "subscriptions": 2},
        {"name": "spiffe://td/ns/shop/sa/web~w", "identity": "spiffe://td/ns/shop/sa/web", "instance": "w",
         "address": "10.0.0.2:40000", "user_agent": "", "connected_unix_ms": 1000, "applied_revision": 5,
         "sync": "refused", "reasons": ["it refused shop/cart: ports[0].number: 0"], "subscriptions": 1},
    ]))
    .unwrap()
}

fn text(table: &Table) -> String {
    table.lines(PLAIN, "").join("\n")
}

fn choice(name: Option<&str>, namespace: Option<&str>) -> Choice {
    Choice { name: name.map(str::to_owned), namespace: namespace.map(|ns| ns.parse().unwrap()) }
}

#[test]
fn services_are_shown_with_ports_and_usable_workloads() {
    assert_eq!(
        text(&services_table(&services())),
        "NAMESPACE   NAME   PORTS                     USABLE   REGISTRIES\n\
         default     api    http:80/http1,9000/grpc   2/3      consul/dc1,file/local\n\
         shop        cart   http/http2                0/0      -"
    );
}

#[test]
fn workloads_are_shown_once_for_each_of_their_services() {
    let shown = text(&workloads_table(&workloads()));
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(
        lines[1],
        "default/api   10.0.0.1   http:8080/http1   healthy    100      15008    spiffe://td/ns/default/sa/api   file/local/api-v1"
    );
    assert_eq!(
        lines[2],
        "shop/cart     -          -                 draining   0        none     -                               consul/dc1/n1/cart"
    );
}

#[test]
fn a_proxy_that_refuses_says_why() {
    let shown = text(&proxies_table(&proxies(), 61_000));
    assert!(shown.lines().nth(1).unwrap().ends_with("60s         7          in sync"), "{shown}");
    assert!(shown.ends_with("refused: it refused shop/cart: ports[0].number: 0"), "{shown}");
}

#[test]
fn a_name_chooses_in_every_namespace_and_a_namespace_narrows() {
    let chosen = |choice: &Choice| {
        let fits = |view: &&ServiceView| {
            choice.service(view.service.key.namespace.as_str(), view.service.key.name.as_str())
        };
        services().iter().filter(fits).count()
    };
    assert_eq!(chosen(&choice(None, None)), 2);
    assert_eq!(chosen(&choice(Some("cart"), None)), 1);
    assert_eq!(chosen(&choice(Some("shop/cart"), None)), 1);
    assert_eq!(chosen(&choice(Some("default/cart"), None)), 0);
    assert_eq!(chosen(&choice(Some("cart"), Some("default"))), 0);
    assert_eq!(chosen(&choice(None, Some("shop"))), 1);
}

#[test]
fn a_workload_is_chosen_by_id_or_by_service() {
    let chosen = |choice: &Choice| workloads().iter().filter(|w| choice.workload(w)).count();
    assert_eq!(chosen(&choice(Some("file/local/api-v1"), None)), 1);
    assert_eq!(chosen(&choice(Some("file/local/api-v1"), Some("shop"))), 0);
    assert_eq!(chosen(&choice(Some("cart"), None)), 1);
    assert_eq!(chosen(&choice(Some("nothing"), None)), 0);
}

#[test]
fn a_proxy_is_chosen_by_instance_id_or_service_account() {
    let chosen = |choice: &Choice| proxies().iter().filter(|p| choice.proxy(p)).count();
    assert_eq!(chosen(&choice(Some("w"), None)), 1);
    assert_eq!(chosen(&choice(Some("shop/web"), None)), 1);
    assert_eq!(chosen(&choice(Some("spiffe://td/ns/shop/sa/web~w"), None)), 1);
    assert_eq!(chosen(&choice(None, Some("default"))), 1);
}

#[test]
fn a_name_that_nothing_has_is_an_error_and_an_empty_mesh_is_not() {
    let error = choice(Some("x"), Some("shop")).found(false, "services").unwrap_err().to_string();
    assert_eq!(error, "nothing is called \"x\" in namespace shop: `weft get services` lists all services");
    assert!(choice(None, Some("shop")).found(false, "services").is_ok());
    assert_eq!(show(&[], services_table, Format::Table, PLAIN).unwrap(), "There are none.\n");
    assert_eq!(show(&[], services_table, Format::Json, PLAIN).unwrap(), "[]\n");
}

#[test]
fn json_and_yaml_say_the_same() {
    let json = show(&services(), services_table, Format::Json, PLAIN).unwrap();
    let yaml = show(&services(), services_table, Format::Yaml, PLAIN).unwrap();
    let read: Vec<ServiceView> = serde_saphyr::from_str(&yaml).unwrap();
    assert_eq!(read, serde_json::from_str::<Vec<ServiceView>>(&json).unwrap());
}

#[test]
fn one_proxy_is_shown_with_its_types() {
    let types = json!([{"resource_type": "Service", "subscribed": 2, "held": 1, "waiting": 0, "in_flight_revision": null,
        "sent_revision": 7, "acked_revision": null, "refused": [{"resource": "a", "field_path": "", "reason": "no"}]}]);
    let dump = ProxyDump { proxy: proxies().remove(0), types: serde_json::from_value(types).unwrap() };
    let shown = dump_text(&dump, 61_000, PLAIN);
    assert!(
        shown.contains("\n\n  TYPE      SUBSCRIBED   HELD   WAITING   SENT   ACKNOWLEDGED   REFUSED\n"),
        "{shown}"
    );
    assert!(
        shown.ends_with("\n  Service   2            1      0         7      -              1\n"),
        "{shown}"
    );
}
