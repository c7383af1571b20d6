//! Settings from all four sources, and what is refused.

use std::collections::BTreeSet;
use std::time::Duration;

use weft_model::Protocol;

use super::table::SETTINGS;
use super::*;

fn load_text(text: &str, flags: &[&str]) -> Result<Settings, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proxy.toml");
    std::fs::write(&path, text).unwrap();
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    load(Some(&path), &flags).map_err(|error| error.to_string())
}

const FULL: &str = r#"
workers = 2
state_dir = "/tmp/state"
[control]
addresses = ["https://control.example:15010/"]
root_sha256 = ["abababababababababababababababababababababababababababababababab"]
[identity.consul]
service = "web"
registry = "consul/dc1"
[[inbound]]
service = "shop/web"
port = 8080
protocol = "http"
[[upstream]]
service = "api"
port = "http"
listen = "127.0.0.1:9001"
[[upstream]]
service = "store"
port = 5432
listen = "127.0.0.1:9002"
protocol = "tcp"
[http]
[timeouts]
request = "1m 30s"
[locality]
self = "eu-1/a"
prefer = true
"#;

#[test]
fn a_file_with_every_kind_of_section_is_read() {
    let settings = load_text(FULL, &[]).unwrap();
    assert_eq!(settings.workers, 2);
    assert_eq!(settings.control.endpoints(), ["control.example:15010"]);
    assert_eq!(settings.inbound[0].app_address().to_string(), "127.0.0.1:8080");
    assert_eq!(settings.inbound[0].protocol, Protocol::Http1);
    assert_eq!(settings.upstream[0].port, Some(PortRef::Name("http".parse().unwrap())));
    assert_eq!(settings.upstream[1].port, Some(PortRef::Number(5432)));
    assert_eq!(settings.upstream[1].protocol, Some(Protocol::Tcp));
    assert_eq!(settings.http.as_ref().unwrap().listen.port(), 15001);
    assert_eq!(settings.timeouts.request, Some(Duration::from_secs(90)));
    assert_eq!(settings.timeouts.connect, Duration::from_secs(1));
    assert_eq!(settings.identity.consul.as_ref().unwrap().address, "http://127.0.0.1:8500");
    assert!(settings.locality.prefer);
}

#[test]
fn one_way_to_prove_the_identity_is_enough() {
    let kubernetes = "[identity.kubernetes]\nregistry = 'kubernetes/prod'\n";
    let settings = load_text(kubernetes, &[]).unwrap();
    let kubernetes_settings = settings.identity.kubernetes.unwrap();
    assert_eq!(kubernetes_settings.token_file.to_str(), Some("/var/run/secrets/weft.dev/token"));
    let consul = "[identity.consul]\nservice = 'web'\nregistry = 'consul/dc1'\n";
    let token = "[identity]\njoin_token_file = '/t'\n";
    let nomad = format!("[identity.nomad]\nregistry = 'nomad/prod'\nnode = '{NODE}'\n");
    let nomad_settings = load_text(&nomad, &[]).unwrap().identity.nomad.unwrap();
    assert_eq!(nomad_settings.token_file.to_str(), Some("/secrets/nomad_weft.jwt"));
    for two in [
        format!("{kubernetes}{consul}"),
        format!("{token}{kubernetes}"),
        format!("{token}{consul}"),
        format!("{kubernetes}{nomad}"),
        format!("{token}{nomad}"),
    ] {
        let error = load_text(&two, &[]).unwrap_err();
        assert!(error.contains("expected one way to prove the identity"), "{error}");
    }
}

const NODE: &str = "ebd289eb-06c2-dd80-8c1c-906ce1455b14";

#[test]
fn a_node_that_nomad_did_not_fill_in_is_named() {
    for node in ["", "node-1", "${node.unique.id}", "ebd289eb-06c2-dd80-8c1c-906ce1455b1g"] {
        let nomad = format!("[identity.nomad]\nregistry = 'nomad/prod'\nnode = '{node}'\n");
        let error = load_text(&nomad, &[]).unwrap_err();
        assert!(error.contains("identity.nomad.node: ") && error.contains("${node.unique.id} in"), "{error}");
    }
}

#[test]
fn a_flag_wins_over_the_file() {
    let settings =
        load_text(FULL, &["workers=3", "admin.listen=127.0.0.1:0", "access_log.mode=all"]).unwrap();
    assert_eq!(settings.workers, 3);
    assert_eq!(settings.admin.listen.port(), 0);
    assert_eq!(settings.access_log.mode, AccessLogMode::All);
}

#[test]
fn errors_name_where_which_key_and_what_was_expected() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("[admin]\nlisen = 'x'", &[], &["proxy.toml", "admin.lisen", "listen"]),
        ("workers = 'many'", &[], &["proxy.toml", "workers", "many"]),
        ("[timeouts]\nconnect = '1 parsec'", &[], &["proxy.toml", "timeouts.connect", "500ms"]),
        (
            "[[upstream]]\nservice = 'a b'\nlisten = '127.0.0.1:1'",
            &[],
            &["proxy.toml", "upstream", "service name"],
        ),
        ("[[upstream]]\nservice = 'a'", &[], &["proxy.toml", "listen"]),
        ("[[upstream]]\nservice = 'a'\nlisten = '127.0.0.1:1'\nport = 70000", &[], &["1 to 65535"]),
        ("[access_log]\nmode = 'some'", &[], &["access_log.mode", "off"]),
        ("", &["admin.listn=1"], &["--set admin.listn=1", "listn", "listen"]),
    ];
    for (text, flags, expected) in cases {
        let error = load_text(text, flags).unwrap_err();
        for part in *expected {
            assert!(error.contains(part), "{part:?} is not in: {error}");
        }
    }
}

#[test]
fn what_does_not_fit_together_is_all_said_at_once() {
    let text = "workers = 0\nlog = 'weft=loud'\n[outlier]\nmax_ejected_percent = 101\n\
                [control]\nroot_sha256 = ['zz']\naddresses = ['host']\n\
                [locality]\nprefer = true\n[[inbound]]\nservice = 'a'\nport = 1\n[[inbound]]\nservice = 'b'\nport = 1\n\
                [[upstream]]\nservice = 'a'\nlisten = '127.0.0.1:9'\n[[upstream]]\nservice = 'b'\nlisten = '127.0.0.1:9'";
    let error = load_text(text, &[]).unwrap_err();
    for part in [
        "workers",
        "log: \"weft=loud\" is not a log filter",
        "max_ejected_percent",
        "root_sha256",
        "\"host\" is not host:port",
        "locality.self",
        "inbound[1].port",
        "upstream[1].listen: 127.0.0.1:9 is already used by upstream[0].listen",
    ] {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

#[test]
fn names_are_answered_at_addresses_that_answers_can_come_from_and_only_where_calls_are_captured() {
    let good =
        "[capture]\noutbound = ['127.0.0.1:15001']\n[dns]\nlisten = ['127.0.0.1:15053', '[::1]:15053']\n";
    let settings = load_text(good, &[]).unwrap();
    assert_eq!((settings.dns.listen.len(), settings.dns.suffix.to_string()), (2, "mesh".to_owned()));
    assert_eq!(settings.dns.range.to_string(), "240.240.0.0/16");
    for (text, part) in [
        ("[dns]\nlisten = ['127.0.0.1:15053']", "capture.outbound is empty"),
        ("[dns]\nlisten = ['0.0.0.0:15053']", "dns.listen[0]: 0.0.0.0:15053 is every address"),
        (
            "[dns]\nlisten = ['127.0.0.1:15000']",
            "dns.listen[0]: 127.0.0.1:15000 is already used by admin.listen",
        ),
        ("[dns]\nlisten = ['127.0.0.1:15053']\nrange = '10.0.0.0/24'", "dns.range has 254 addresses"),
        ("[dns]\nsuffix = 'Mesh!'", "as in \"mesh\""),
        ("[dns]\nrange = 'fd00::/8'", "240.240.0.0/16"),
        ("[dns]\nnameservers = ['resolver']", "dns.nameservers"),
    ] {
        let error = load_text(text, &[]).unwrap_err();
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

/// The fields that a section knows, from what serde says about one that it doesn't.
fn fields_of(section: &str) -> BTreeSet<String> {
    let text = match section {
        "" => "zz = 1".to_owned(),
        "inbound" | "upstream" | "health.probe" => format!("[[{section}]]\nzz = 1"),
        section if section.starts_with("health.probe.") => format!("[[health.probe]]\n[{section}]\nzz = 1"),
        section => format!("[{section}]\nzz = 1"),
    };
    let error = load_text(&text, &[]).unwrap_err();
    let (_, list) = error.split_once("expected").unwrap_or_else(|| panic!("no list in: {error}"));
    let names = list.split(" (").next().unwrap();
    let words = names.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| !matches!(*word, "" | "one" | "of" | "or")).map(str::to_owned).collect()
}

#[test]
fn the_table_lists_exactly_what_is_read() {
    let mut sections: BTreeSet<String> = BTreeSet::from([String::new()]);
    for setting in SETTINGS {
        if let Some((section, _)) = setting.key.rsplit_once('.') {
            sections.insert(section.to_owned());
        }
    }
    for section in &sections {
        let prefix = if section.is_empty() { String::new() } else { format!("{section}.") };
        let own =
            |key: &str| key.strip_prefix(&prefix).map(|rest| rest.split('.').next().unwrap().to_owned());
        let listed: BTreeSet<String> = SETTINGS.iter().filter_map(|setting| own(setting.key)).collect();
        assert_eq!(listed, fields_of(section), "section [{section}]");
    }
}
