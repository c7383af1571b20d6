//! Which namespaces are in the mesh.

use super::*;

#[test]
fn namespaces_are_chosen_by_name() {
    let names = NamespaceSettings { include: ["shop".to_owned()].into(), ..NamespaceSettings::default() };
    let mut cluster = Cluster::unread(names);
    let mut other = service("other");
    other["metadata"]["namespace"] = json!("pay");
    let mut dns = service("kube-dns");
    dns["metadata"]["namespace"] = json!("kube-system");
    cluster.list(Kind::Services, &[service("api"), other, dns]);
    [Kind::Slices, Kind::Pods, Kind::Nodes].into_iter().for_each(|kind| cluster.list(kind, &[]));
    assert_eq!(cluster.services.keys().collect::<Vec<_>>(), ["shop/api"]);
}

#[test]
fn namespaces_are_chosen_by_label_and_come_and_go_whole() {
    let names = NamespaceSettings { selector: Some("mesh=on".to_owned()), ..NamespaceSettings::default() };
    let mut cluster = Cluster::unread(names);
    cluster.list(Kind::Services, &[service("api")]);
    cluster.list(Kind::Slices, &[slice("api-1", "api", &[("a", "10.0.0.1")])]);
    cluster.list(Kind::Pods, &[pod("a", "10.0.0.1"), pod("job", "10.0.0.9")]);
    cluster.list(Kind::Nodes, &[]);
    assert_eq!(cluster.resets, 0, "a selector without namespaces to select from");
    cluster.list(Kind::Namespaces, &[]);
    assert_eq!((cluster.resets, cluster.services.len(), cluster.workloads.len()), (1, 0, 0));
    let shop = json!({"metadata": {"name": "shop", "labels": {"mesh": "on"}}});
    cluster.put(Kind::Namespaces, shop.clone());
    assert_eq!((cluster.services.len(), cluster.workloads.len()), (1, 2));
    cluster.delete(Kind::Namespaces, shop);
    assert_eq!((cluster.services.len(), cluster.workloads.len()), (0, 0));
}
