//! Lists that are read anew, and kinds that can't be read.

use super::*;

#[test]
fn what_a_list_lacks_goes_when_all_were_read_again_with_a_reset() {
    let mut cluster = Cluster::with_two_pods();
    let resets = cluster.resets;
    cluster.list(Kind::Pods, &[pod("a", "10.0.0.1"), pod("b", "10.0.0.2")]);
    assert!(cluster.named == 0 && !cluster.view.wants_all_read());
    cluster.list(Kind::Services, &[]);
    assert!(cluster.view.wants_all_read() && cluster.named == 0);
    cluster.view.start_over();
    assert!(!cluster.view.wants_all_read());
    cluster.list(Kind::Services, &[]);
    cluster.list(Kind::Slices, &[]);
    cluster.list(Kind::Pods, &[]);
    assert_eq!((cluster.resets, cluster.services.len()), (resets, 1));
    // One that is there again meanwhile is not gone.
    cluster.put(Kind::Pods, pod("a", "10.0.0.1"));
    cluster.list(Kind::Nodes, &[]);
    assert_eq!((cluster.resets, cluster.services.len()), (resets + 1, 0));
    assert!(
        cluster.has("pod/u-a") && !cluster.has("pod/u-b") && cluster.workload("pod/u-a").services.is_empty()
    );
    assert!(!cluster.view.wants_all_read());
}

#[test]
fn a_new_round_ends_with_a_reset_even_if_nothing_changed() {
    let mut cluster = Cluster::with_two_pods();
    let resets = cluster.resets;
    cluster.view.start_over();
    cluster.list(Kind::Services, &[service("api")]);
    cluster.list(Kind::Slices, &[slice("api-1", "api", &[("a", "10.0.0.1"), ("b", "10.0.0.2")])]);
    cluster.list(Kind::Pods, &[pod("a", "10.0.0.1"), pod("b", "10.0.0.2")]);
    assert_eq!(cluster.resets, resets);
    cluster.list(Kind::Nodes, &[node("node-1", "eu", "1")]);
    assert_eq!((cluster.resets, cluster.workloads.len()), (resets + 1, 2));
}

#[test]
fn errors_remove_nothing_and_are_the_source_s_where_the_mesh_needs_the_kind() {
    let mut cluster = Cluster::with_two_pods();
    for (kind, status, is_source_s) in [
        (Kind::Services, 403, Some(RegistryErrorKind::PermissionDenied)),
        (Kind::Slices, 404, Some(RegistryErrorKind::NotFound)),
        (Kind::Pods, 503, Some(RegistryErrorKind::SourceDown)),
        (Kind::Pods, 403, None),
        (Kind::Nodes, 403, None),
    ] {
        cluster.fail(kind, status);
        assert_eq!(cluster.view.source_error().map(|error| error.kind), is_source_s, "{kind:?} {status}");
        assert_eq!(cluster.problems().len(), usize::from(is_source_s.is_none()), "{kind:?} {status}");
        assert_eq!((cluster.workloads.len(), cluster.services.len()), (2, 1));
        cluster.view.on_well(&source(kind));
        assert!(cluster.view.source_error().is_none() && cluster.problems().is_empty());
    }
}

#[test]
fn without_the_right_to_read_pods_the_rest_goes_on_without_identities() {
    let mut cluster = Cluster::unread(NamespaceSettings::default());
    cluster.list(Kind::Services, &[service("api")]);
    cluster.list(Kind::Slices, &[slice("api-1", "api", &[("a", "10.0.0.1")])]);
    cluster.fail(Kind::Pods, 503);
    cluster.list(Kind::Nodes, &[]);
    assert_eq!(cluster.resets, 0, "who is only down is waited for");
    cluster.fail(Kind::Pods, 403);
    let a = cluster.workload("pod/u-a");
    assert_eq!((cluster.resets, a.identity.is_none(), a.tunnel), (1, true, Tunnel::None));
    assert!(cluster.only_problem().starts_with("pods: permission denied"), "{}", cluster.only_problem());
    cluster.list(Kind::Pods, &[pod("a", "10.0.0.1")]);
    assert_eq!(cluster.workload("pod/u-a").tunnel, Tunnel::Port(15008));
    assert_eq!(cluster.problems(), [""; 0]);
}
