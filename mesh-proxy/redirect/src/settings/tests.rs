//! The settings' JSON: what is left out, what is refused and with which words.

use super::*;

fn refused(json: &str) -> String {
    RedirectSettings::parse(json).unwrap_err().to_string()
}

#[test]
fn the_annotation_of_the_defaults_is_the_version_alone() {
    let defaults = RedirectSettings::default();
    assert_eq!(defaults.annotation(), r#"{"version":1}"#);
    assert_eq!(RedirectSettings::parse(r#"{"version":1}"#).unwrap(), defaults);
}

#[test]
fn everything_comes_back_as_it_was_written() {
    let settings = RedirectSettings {
        proxy_uid: 101,
        proxy_gid: None,
        outbound_port: 1,
        inbound_port: 2,
        tunnel_port: 3,
        health_port: 4,
        admin_port: 5,
        dns_port: Some(15053),
        exclude_inbound_ports: vec![22],
        exclude_outbound_ports: vec![25],
        exclude_outbound_cidrs: vec!["169.254.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()],
        exclude_uids: vec![0],
        include_inbound_ports: Some(vec![]),
        include_outbound_ports: Some(vec![80]),
        include_outbound_cidrs: Some(vec!["10.0.0.0/8".parse().unwrap()]),
        families: Families::Ipv4,
        version: Version,
    };
    let json = settings.annotation();
    assert_eq!(RedirectSettings::parse(&json).unwrap(), settings);
    assert_eq!(
        json,
        concat!(
            r#"{"version":1,"proxy_uid":101,"proxy_gid":null,"outbound_port":1,"inbound_port":2,"tunnel_port":3,"#,
            r#""health_port":4,"admin_port":5,"dns_port":15053,"exclude_inbound_ports":[22],"#,
            r#""exclude_outbound_ports":[25],"exclude_outbound_cidrs":["169.254.0.0/16","fd00::/8"],"#,
            r#""exclude_uids":[0],"include_inbound_ports":[],"include_outbound_ports":[80],"#,
            r#""include_outbound_cidrs":["10.0.0.0/8"],"families":"ipv4"}"#
        )
    );
}

#[test]
fn another_version_or_none_is_refused() {
    assert!(refused("{}").contains("missing field `version`"));
    assert!(refused(r#"{"version":2}"#).contains("version 2 is not understood; 1 is"));
}

#[test]
fn what_is_not_understood_is_named() {
    assert!(refused(r#"{"version":1,"exclude_port":[1]}"#).contains("unknown field `exclude_port`"));
    assert!(refused(r#"{"version":1,"families":"ipx"}"#).contains("unknown variant `ipx`"));
    assert!(refused(r#"{"version":1,"exclude_outbound_cidrs":["10.0.0.1/8"]}"#).contains("host bits"));
    assert!(refused(r#"{"version":1,"outbound_port":70000}"#).contains("expected u16"));
}

#[test]
fn values_that_cannot_be_are_refused_with_their_setting() {
    assert_eq!(refused(r#"{"version":1,"dns_port":0}"#), "dns_port: 0 is no port");
    assert_eq!(
        refused(r#"{"version":1,"include_inbound_ports":[0]}"#),
        "include_inbound_ports: 0 is no port"
    );
    assert_eq!(refused(r#"{"version":1,"inbound_port":15001}"#), "inbound_port: 15001 is also outbound_port");
    assert!(refused(r#"{"version":1,"proxy_uid":0}"#).starts_with("proxy_uid: "));
    assert!(refused(r#"{"version":1,"proxy_gid":0}"#).starts_with("proxy_gid: "));
    let both = r#"{"version":1,"dns_port":15053,"exclude_outbound_ports":[53]}"#;
    assert!(refused(both).starts_with("exclude_outbound_ports: 53 is excluded"));
}

#[test]
fn a_list_that_no_transaction_could_hold_is_refused() {
    let mut settings = RedirectSettings { exclude_inbound_ports: (1..=1000).collect(), ..Default::default() };
    settings.validate().unwrap();
    settings.exclude_inbound_ports.push(1001);
    assert_eq!(
        settings.validate().unwrap_err().to_string(),
        "exclude_inbound_ports: it has 1001 entries; at most 1000 are allowed"
    );
}
