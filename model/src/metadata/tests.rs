//! What is read from which pair, in every syntax, and what a user hears about the rest.

use proptest::prelude::*;

use super::*;

fn parse(syntax: KeySyntax, pairs: &[(&str, &str)]) -> (Metadata, Vec<MetadataProblem>) {
    let domain: TrustDomain = "weft.local".parse().unwrap();
    Metadata::parse(syntax, pairs.iter().copied(), &domain, &"shop".parse().unwrap())
}

fn good(pairs: &[(&str, &str)]) -> Metadata {
    let (metadata, problems) = parse(KeySyntax::Bare, pairs);
    assert_eq!(problems, []);
    metadata
}

fn only_problem(syntax: KeySyntax, key: &str, value: &str) -> MetadataProblem {
    let (_, problems) = parse(syntax, &[(key, value)]);
    let [problem] = problems.as_slice() else { panic!("not one problem: {problems:?}") };
    problem.clone()
}

#[test]
fn every_example_of_the_table_is_read_in_every_syntax_and_has_an_effect() {
    for doc in KEYS {
        let key = doc.key.replace("PORTNAME", "http");
        let bare = good(&[(&key, doc.example)]);
        assert_ne!(bare, good(&[]), "{key} has no effect");
        for syntax in KeySyntax::ALL {
            assert_eq!(
                parse(syntax, &[(&syntax.written(&key), doc.example)]),
                (bare.clone(), vec![]),
                "{key}"
            );
        }
    }
}

#[test]
fn no_two_keys_of_the_table_put_their_value_in_the_same_place() {
    for (i, one) in KEYS.iter().enumerate() {
        for other in &KEYS[i + 1..] {
            let (a, b) = (one.key.replace("PORTNAME", "p"), other.key.replace("PORTNAME", "p"));
            let both = good(&[(&a, one.example), (&b, other.example)]);
            assert_ne!(both, good(&[(&a, one.example)]), "{b} is lost beside {a}");
            assert_ne!(both, good(&[(&b, other.example)]), "{a} is lost beside {b}");
        }
    }
}

#[test]
fn every_value_ends_where_its_getter_finds_it() {
    let metadata = good(&[
        ("protocol", "tcp"),
        ("protocol-web", "http"),
        ("identity", "cart"),
        ("tunnel", "15008"),
        ("service", "api"),
        ("namespace", "pay"),
        ("weight", "0"),
        ("locality", "eu/a"),
        ("node", "dc/host-1"),
        ("network", "west"),
        ("version", "v2"),
        ("app", "checkout"),
        ("port", "web"),
    ]);
    let web: PortName = "web".parse().unwrap();
    assert_eq!(metadata.port(), Some(&web));
    assert_eq!(metadata.protocol_for(Some(&web)), Some(Protocol::Http1));
    assert_eq!(metadata.protocol_for(Some(&"other".parse().unwrap())), Some(Protocol::Tcp));
    assert_eq!(metadata.protocol_for(None), Some(Protocol::Tcp));
    assert_eq!(metadata.identity().unwrap().as_str(), "spiffe://weft.local/ns/pay/sa/cart");
    assert_eq!(metadata.tunnel(), Some(Tunnel::Port(15008)));
    assert_eq!(metadata.service().unwrap().as_str(), "api");
    assert_eq!(metadata.namespace().as_str(), "pay");
    assert_eq!(metadata.weight(), Some(0));
    assert_eq!(metadata.locality().unwrap().to_string(), "eu/a");
    assert_eq!(metadata.node().unwrap().as_str(), "dc/host-1");
    assert_eq!(metadata.network().unwrap().as_str(), "west");
    assert_eq!(metadata.labels().collect::<Vec<_>>(), [("app", "checkout"), ("version", "v2")]);
}

#[test]
fn every_value_for_the_proxy_ends_in_its_field() {
    let metadata = good(&[
        ("namespace", "pay"),
        ("inject", "false"),
        ("capture", "false"),
        ("dns", "false"),
        ("upstreams", "api=9000, shop/db:pg=127.0.0.2:5432,shop/x:80=[::1]:9001"),
        ("skip-inbound-ports", "1, 2,1"),
        ("skip-outbound-ports", "65535"),
        ("skip-outbound-cidrs", "0.0.0.0/0,10.1.2.3, fd00::/8"),
        ("proxy-cpu", "0.25"),
        ("proxy-memory", "64MiB"),
        ("proxy-cpu-limit", "2"),
        ("proxy-memory-limit", "128M"),
        ("log-level", "warn,weft_proxy::mesh=trace"),
        ("drain", "1500ms"),
        ("hold", "false"),
        ("inbound-plaintext", "strict"),
        ("unknown", "refuse"),
        ("status", "{}"),
    ]);
    let proxy = metadata.proxy();
    assert_eq!((proxy.inject, proxy.capture, proxy.hold), (Some(false), Some(false), Some(false)));
    assert_eq!(proxy.dns, Some(false));
    let upstreams: Vec<_> =
        proxy.upstreams.iter().map(|u| (u.service.as_str(), u.listen.to_string())).collect();
    assert_eq!(
        upstreams,
        [
            ("api", "127.0.0.1:9000".to_owned()),
            ("db", "127.0.0.2:5432".to_owned()),
            ("x", "[::1]:9001".to_owned())
        ]
    );
    assert_eq!(proxy.upstreams[0].namespace, None);
    assert_eq!(proxy.upstreams[1].port, Some("pg".parse().unwrap()));
    assert_eq!(Vec::from_iter(&proxy.skip_inbound_ports), [&1, &2]);
    assert_eq!(Vec::from_iter(&proxy.skip_outbound_ports), [&65535]);
    let cidrs: Vec<_> = proxy.skip_outbound_cidrs.iter().map(ToString::to_string).collect();
    assert_eq!(cidrs, ["0.0.0.0/0", "10.1.2.3/32", "fd00::/8"]);
    let resources = (proxy.cpu, proxy.memory, proxy.cpu_limit, proxy.memory_limit);
    let expected = (Some(Cpu(250)), Some(Memory(64 << 20)), Some(Cpu(2000)), Some(Memory(128_000_000)));
    assert_eq!(resources, expected);
    assert_eq!(proxy.log_level.as_deref(), Some("warn,weft_proxy::mesh=trace"));
    assert_eq!(proxy.drain, Some(std::time::Duration::from_millis(1500)));
    assert_eq!(proxy.inbound_plaintext, Some(InboundPlaintext::Strict));
    assert_eq!(proxy.unknown, Some(UnknownDestination::Refuse));
    assert!(proxy.injected);
}

#[test]
fn quantities_are_written_as_kubernetes_does() {
    for (cpu, written) in [("0.5", "500m"), ("2.000", "2"), ("1500m", "1500m")] {
        assert_eq!(cpu.parse::<Cpu>().unwrap().to_string(), written);
    }
    for (memory, written) in
        [("64MiB", "64Mi"), ("1024Mi", "1Gi"), ("100M", "100000000"), ("32768Ki", "32Mi")]
    {
        assert_eq!(memory.parse::<Memory>().unwrap().to_string(), written);
    }
}

#[test]
fn nothing_written_leaves_everything_to_the_adapter() {
    let metadata = good(&[]);
    assert_eq!(metadata.protocol_for(None), None);
    assert_eq!((metadata.tunnel(), metadata.weight(), metadata.identity()), (None, None, None));
    assert_eq!(metadata.namespace().as_str(), "shop");
    assert_eq!(metadata.labels().count(), 0);
}

#[test]
fn an_identity_is_the_service_s_own_unless_one_is_written() {
    let service: ServiceName = "api".parse().unwrap();
    assert_eq!(good(&[]).identity_or(&service).as_str(), "spiffe://weft.local/ns/shop/sa/api");
    assert_eq!(
        good(&[("identity", "cart")]).identity_or(&service).as_str(),
        "spiffe://weft.local/ns/shop/sa/cart"
    );
    let whole = "spiffe://other.example/x/y";
    assert_eq!(good(&[("identity", whole)]).identity_or(&service).as_str(), whole);
}

#[test]
fn the_namespace_counts_for_the_identity_whichever_is_written_first() {
    let expected = "spiffe://weft.local/ns/pay/sa/cart";
    for pairs in [[("namespace", "pay"), ("identity", "cart")], [("identity", "cart"), ("namespace", "pay")]]
    {
        assert_eq!(good(&pairs).identity().unwrap().as_str(), expected);
    }
}

#[test]
fn bad_values_are_errors_that_say_what_is_expected() {
    for (key, value, expected) in [
        ("protocol", "htpp", "http1, http2, grpc, tcp, tls or detect"),
        ("protocol-http", "", "http1, http2, grpc, tcp, tls or detect"),
        ("protocol-", "tcp", "a port name behind \"protocol-\", but it is empty"),
        ("identity", "a/b", "a service account or a whole SPIFFE id with a path, but '/' is not allowed"),
        ("identity", "", "a service account or a whole SPIFFE id with a path, but it is empty"),
        (
            "identity",
            "spiffe://a",
            "a service account or a whole SPIFFE id with a path, but the path is missing",
        ),
        (
            "identity",
            "spiffe:/a/b",
            "a service account or a whole SPIFFE id with a path, but it does not start",
        ),
        ("tunnel", "0", "a port number from 1 to 65535, or none"),
        ("tunnel", "65536", "a port number from 1 to 65535, or none"),
        ("service", "a b", "a service name, but ' ' is not allowed"),
        ("namespace", "..", "a namespace, but a path step"),
        ("weight", "1001", "a whole number from 0 to 1000"),
        ("weight", "-1", "a whole number from 0 to 1000"),
        ("locality", "", "region, region/zone or region/zone/subzone"),
        ("locality", "a//b", "region, region/zone or region/zone/subzone, but"),
        ("network", "*", "a network name, but"),
        ("version", "a\nb", "1 to 253 bytes without control characters"),
        ("app", "", "1 to 253 bytes without control characters"),
        ("port", "", "a port name, but it is empty"),
    ] {
        assert_refused(key, value, expected);
    }
}

#[test]
fn bad_values_for_the_proxy_are_errors_that_say_what_is_expected() {
    let upstreams = "[NAMESPACE/]SERVICE[:PORT]=[127.0.0.1:]PORT with commas between several, but";
    for (value, but) in [
        ("", "\"\" has no ="),
        ("api=0", "\"api=0\" has no address"),
        ("a=1,api=0.0.0.0:2", "\"api=0.0.0.0:2\" does not listen on loopback"),
        ("a/b/c=1", "\"a/b/c=1\" is not one"),
    ] {
        assert_refused("upstreams", value, &format!("{upstreams} {but}"));
    }
    assert_refused(
        "upstreams",
        "a=1,b=127.0.0.1:1",
        "each service at an address of its own, but 127.0.0.1:1 is",
    );
    for (key, value, one) in [("skip-inbound-ports", "80,", ""), ("skip-outbound-ports", "80-90", "80-90")] {
        let ports = "port numbers from 1 to 65535 with commas between them, but one is";
        assert_refused(key, value, &format!("{ports} {one:?}"));
    }
    for (value, but) in [
        ("10.0.0.1/8", "has bits set behind its length"),
        ("10.0.0.0/33", "has no such length"),
        ("fd00::1/0", "has bits set behind its length"),
        ("host/8", "has no IP address"),
    ] {
        let cidrs = "a range of addresses as 10.0.0.0/8 or fd00::/8, but";
        assert_refused("skip-outbound-cidrs", value, &format!("{cidrs} {value:?} {but}"));
    }
    for (key, value, expected) in [
        ("inject", "yes", "true or false"),
        ("capture", "TRUE", "true or false"),
        ("hold", "", "true or false"),
        ("dns", "off", "true or false"),
        ("proxy-cpu", "0", "processors as 100m, 0.5 or 2, from 1m to 256, but it is \"0\""),
        ("proxy-cpu", "+1", "processors as 100m"),
        ("proxy-cpu-limit", "0.0001", "processors as 100m"),
        ("proxy-memory", "64", "a size as 64Mi or 1Gi, at least 32Mi, but it is \"64\""),
        ("proxy-memory-limit", "31Mi", "a size as 64Mi or 1Gi, at least 32Mi"),
        ("log-level", "verbose", "off, error, warn, info, debug or trace"),
        ("log-level", "info,a b=debug", "off, error, warn, info, debug or trace"),
        ("drain", "30", "a duration as 500ms, 30s or 5m, from 1s to 1h"),
        ("drain", "2h", "a duration as 500ms"),
        ("inbound-plaintext", "on", "permissive or strict"),
        ("unknown", "drop", "pass or refuse"),
    ] {
        assert_refused(key, value, expected);
    }
}

fn assert_refused(key: &str, value: &str, expected: &str) {
    let problem = only_problem(KeySyntax::Bare, key, value);
    assert_eq!((problem.severity, problem.key.as_str()), (Severity::Error, key));
    assert!(problem.expected.starts_with(expected), "{problem}");
}

#[test]
fn a_bad_value_leaves_the_good_ones() {
    let (metadata, problems) = parse(KeySyntax::Dash, &[("weft-weight", "lots"), ("weft-version", "v1")]);
    assert_eq!((metadata.weight(), metadata.version()), (None, Some("v1")));
    assert_eq!(
        problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["weft-weight is \"lots\": expected a whole number from 0 to 1000"]
    );
}

#[test]
fn an_unknown_key_is_a_warning_that_names_the_near_miss() {
    for (syntax, key, near) in [
        (KeySyntax::Dash, "weft-protcol", "weft-protocol"),
        (KeySyntax::Dash, "weft-Weight", "weft-weight"),
        (KeySyntax::Slash, "weft.dev/indentity", "weft.dev/identity"),
        (KeySyntax::Slash, "weft.dev/weft-protocol", "weft.dev/protocol"),
        (KeySyntax::Bare, "weft.dev/tunnel", "tunnel"),
        (KeySyntax::Bare, "protocol_http", "protocol-http"),
        (KeySyntax::Bare, "protokol-http", "protocol-http"),
        (KeySyntax::Bare, "apps", "app"),
    ] {
        let problem = only_problem(syntax, key, "x");
        assert_eq!(problem.severity, Severity::Warning);
        assert_eq!(problem.to_string(), format!("unknown key {key:?}: did you mean {near:?}?"));
    }
}

#[test]
fn an_unknown_key_that_is_near_nothing_lists_what_is_known() {
    let problem = only_problem(KeySyntax::Dash, "weft-colour", "x");
    assert!(problem.expected.starts_with("known are weft-protocol, weft-protocol-PORTNAME, "), "{problem}");
}

#[test]
fn keys_of_others_are_nobody_s_problem() {
    for (syntax, key) in [
        (KeySyntax::Slash, "weft-weight"),
        (KeySyntax::Slash, "app"),
        (KeySyntax::Slash, "x.weft.dev/weight"),
        (KeySyntax::Dash, "weft.dev/weight"),
        (KeySyntax::Dash, "weight"),
        (KeySyntax::Dash, "weft_weight"),
    ] {
        assert_eq!(parse(syntax, &[(key, "x")]), parse(syntax, &[]), "{key}");
    }
}

#[test]
fn a_huge_value_does_not_fill_the_log() {
    let problem = only_problem(KeySyntax::Bare, "weight", &"é".repeat(200_000));
    assert_eq!(problem.value.chars().count(), 101);
}

proptest! {
    #[test]
    fn any_pairs_are_read_without_panic_and_a_pair_has_at_most_one_problem(
        pairs in prop::collection::vec((".{0,80}", ".{0,80}"), 0..8),
        known in prop::collection::vec((0..KEYS.len(), ".{0,40}"), 0..8),
    ) {
        let known = known.into_iter().map(|(i, value)| (KEYS[i].key.replace("PORTNAME", &value), value));
        let pairs: Vec<(String, String)> = pairs.into_iter().chain(known).collect();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        for syntax in KeySyntax::ALL {
            let (metadata, problems) = parse(syntax, &pairs);
            prop_assert!(problems.len() <= pairs.len());
            prop_assert!(metadata.weight().is_none_or(|weight| weight <= 1000));
            metadata.identity_or(&"api".parse().unwrap()).as_str().parse::<SpiffeId>().unwrap();
        }
    }
}
