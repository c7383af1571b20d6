//! The API's JSON as real servers write it, and as nobody should.

use super::*;

fn one(kind: Kind, object: &str) -> Object {
    let line = format!(r#"{{"type":"ADDED","object":{object}}}"#);
    match decode_line(kind, line.as_bytes()).unwrap() {
        Some(WatchLine::Changed(decoded)) => decoded.object,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pod_keeps_what_is_used_and_nothing_else() {
    let pod = one(
        Kind::Pods,
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-0","namespace":"shop","uid":"u-1","resourceVersion":"7",
        "labels":{"app":"web","app.kubernetes.io/version":"2.1","pod-template-hash":"abc"},
        "annotations":{"weft.dev/tunnel":"15008","kubectl.kubernetes.io/last-applied-configuration":"{\"a\": 1}"},
        "managedFields":[{"manager":"kubelet","fieldsV1":{"f:status":{}}}]},
        "spec":{"nodeName":"node-1","serviceAccountName":"web","containers":[{"name":"c","image":"i"}],"hostNetwork":true},
        "status":{"phase":"Running","podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"},{"ip":"fd00::1"}],
        "conditions":[{"type":"Initialized","status":"True"},{"type":"Ready","status":"True"}]}}"#,
    );
    let Object::Pod(pod) = pod else { panic!("{pod:?}") };
    assert_eq!(
        (pod.key.as_str(), pod.uid.as_ref(), pod.node.as_deref()),
        ("shop/web-0", "u-1", Some("node-1"))
    );
    assert_eq!((pod.app.as_deref(), pod.version.as_deref()), (Some("web"), Some("2.1")));
    assert_eq!(pod.annotations.iter().collect::<Vec<_>>(), [("weft.dev/tunnel", "15008")]);
    assert_eq!(pod.ips.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["10.0.0.1", "fd00::1"]);
    assert!(pod.ready && pod.host_network && !pod.finished && !pod.deleting);
}

#[test]
fn a_pod_that_was_only_just_made_has_no_address_and_the_default_account() {
    let pod = one(
        Kind::Pods,
        r#"{"metadata":{"name":"a","namespace":"n","uid":"u","deletionTimestamp":"2026-01-01T00:00:00Z"},"spec":{}}"#,
    );
    let Object::Pod(pod) = pod else { panic!("{pod:?}") };
    assert!(pod.ips.is_empty() && pod.deleting && !pod.ready);
    assert_eq!(pod.service_account.as_ref(), "default");
}

#[test]
fn conditions_that_are_not_known_mean_ready_and_serving() {
    let slice = one(
        Kind::Slices,
        r#"{"metadata":{"name":"api-x","namespace":"shop","labels":{"kubernetes.io/service-name":"api"}},"addressType":"IPv4",
        "ports":null,"endpoints":[{"addresses":["10.0.0.1"],"conditions":{}},{"addresses":["10.0.0.2"]},
        {"addresses":["10.0.0.3"],"conditions":{"ready":false,"serving":true,"terminating":true}}]}"#,
    );
    let Object::Slice(slice) = slice else { panic!("{slice:?}") };
    let conditions: Vec<_> = slice.endpoints.iter().map(|e| (e.ready, e.serving, e.terminating)).collect();
    assert_eq!(conditions, [(true, true, false), (true, true, false), (false, true, true)]);
    assert!(slice.ports.is_empty() && !slice.is_kept);
}

#[test]
fn a_target_of_another_namespace_kind_or_without_uid_is_no_pod() {
    let slice = one(
        Kind::Slices,
        r#"{"metadata":{"name":"api-x","namespace":"shop"},"endpoints":[
        {"addresses":[],"targetRef":{"kind":"Pod","namespace":"pay","name":"a","uid":"u"}},
        {"addresses":[],"targetRef":{"kind":"Node","namespace":"shop","name":"a","uid":"u"}},
        {"addresses":[],"targetRef":{"kind":"Pod","namespace":"shop","name":"a"}},
        {"addresses":[],"targetRef":{"kind":"Pod","namespace":"shop","name":"a","uid":"u"}}]}"#,
    );
    let Object::Slice(slice) = slice else { panic!("{slice:?}") };
    let uids: Vec<_> = slice.endpoints.iter().map(|endpoint| endpoint.pod_uid.as_deref()).collect();
    assert_eq!(uids, [None, None, None, Some("u")]);
}

#[test]
fn a_headless_service_has_no_address_and_an_old_server_s_single_one_is_read() {
    let service = |spec: &str| {
        let object = format!(r#"{{"metadata":{{"name":"api","namespace":"shop"}},"spec":{spec}}}"#);
        match one(Kind::Services, &object) {
            Object::Service(service) => service,
            other => panic!("{other:?}"),
        }
    };
    assert!(
        service(r#"{"clusterIP":"None","clusterIPs":["None"],"type":"ClusterIP"}"#).cluster_ips.is_empty()
    );
    assert_eq!(service(r#"{"clusterIP":"10.96.0.1"}"#).cluster_ips.len(), 1);
    let external = service(r#"{"type":"ExternalName","externalName":"db.example.org"}"#);
    assert_eq!(external.external_name.as_deref(), Some("db.example.org"));
}

#[test]
fn a_bookmark_an_error_and_an_unknown_line_are_told_apart() {
    let line = |text: &str| decode_line(Kind::Pods, text.as_bytes()).unwrap();
    let bookmark = r#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"9","creationTimestamp":null,
        "annotations":{"k8s.io/initial-events-end":"true"}},"spec":{"containers":null},"status":{}}}"#;
    assert!(
        matches!(line(bookmark), Some(WatchLine::Bookmark { version, complete: true }) if version == "9")
    );
    let gone =
        r#"{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old resource version"}}"#;
    assert!(matches!(line(gone), Some(WatchLine::Error { code: 410, .. })));
    assert!(line(r#"{"type":"NEWER","object":{}}"#).is_none());
}

#[test]
fn what_is_no_object_of_the_api_is_an_error_and_no_panic() {
    for text in [
        "",
        "{}",
        "<html>",
        "[]",
        r#"{"type":"ADDED","object":3}"#,
        r#"{"type":"ADDED","object":{"metadata":3}}"#,
    ] {
        assert!(decode_line(Kind::Pods, text.as_bytes()).is_err(), "{text}");
        assert!(decode_page(Kind::Pods, text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn a_page_says_what_to_ask_for_next_and_the_last_says_nothing() {
    let page = |rest: &str| {
        let body = format!(r#"{{"metadata":{{"resourceVersion":"5"{rest}}},"items":null}}"#);
        decode_page(Kind::Nodes, body.as_bytes()).unwrap()
    };
    assert_eq!(page(r#","continue":"abc""#).rest.as_deref(), Some("abc"));
    assert_eq!(page(r#","continue":"""#).rest, None);
    assert_eq!((page("").rest, page("").version.as_str()), (None, "5"));
}
