//! Registries whose names are mapped.

use super::*;

#[test]
fn a_registry_kept_apart_shares_no_service() {
    let mut catalog = mapped("consul/dc2", Mapping { apart: true, ..Mapping::default() });
    catalog.apply(&registry("consul/dc1"), upsert([workload("a", &["web"])]));
    let changed = catalog.apply(&registry("consul/dc2"), upsert([workload("b", &["web"])]));
    assert_eq!(changed, changes(&["web-dc2"], &["b"], false));
    let changed = catalog.apply(&registry("consul/dc2"), reset(only(&["web"]), []));
    assert_eq!(changed, changes(&["web-dc2"], &["b"], true));
    assert_eq!(names(&catalog), ["pod/a"]);
}

#[test]
fn two_services_that_a_mapping_makes_one_are_still_reset_one_at_a_time() {
    let rename = BTreeMap::from([(key("old-web"), key("web"))]);
    let mut catalog = mapped("consul/dc1", Mapping { rename, ..Mapping::default() });
    let consul = registry("consul/dc1");
    let both = ["web", "old-web"].map(|name| Entry::Service(service(name, &[(name, 80)])));
    catalog.apply(&consul, RegistryEvent::Upsert(both.into()));
    catalog.apply(&consul, upsert([workload("a", &["web"]), workload("b", &["old-web"])]));
    assert_eq!(catalog.snapshot().members(&key("web")).count(), 2);
    assert_eq!(catalog.held_by(&consul), 4);
    let changed = catalog.apply(&consul, reset(only(&["old-web"]), []));
    assert_eq!(changed, changes(&["web"], &["b"], true));
    assert_eq!(names(&catalog), ["pod/a"]);
    assert_eq!(catalog.snapshot().service(&key("web")).unwrap().ports, service("web", &[("web", 80)]).ports);
}

#[test]
fn a_workload_that_moves_between_two_services_that_are_one_leaves_the_first_s_scope() {
    let rename = BTreeMap::from([(key("old-web"), key("web"))]);
    let mut catalog = mapped("consul/dc1", Mapping { rename, ..Mapping::default() });
    let consul = registry("consul/dc1");
    catalog.apply(&consul, upsert([workload("a", &["old-web"])]));
    assert_eq!(catalog.apply(&consul, upsert([workload("a", &["web"])])), NOTHING);
    assert_eq!(catalog.apply(&consul, reset(only(&["old-web"]), [])), NOTHING);
    assert_eq!(catalog.apply(&consul, reset(only(&["web"]), [])), changes(&["web"], &["a"], true));
}
