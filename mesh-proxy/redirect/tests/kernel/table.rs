//! The table: what `nft` sees of it, what `check` says, and what is left.

use std::fs;
use std::path::Path;

use anyhow::Result;
use weft_redirect::RedirectSettings;

use crate::a_world;
use crate::world::{Place, settings};

fn has_nft(test: &str) -> bool {
    let has = std::process::Command::new("nft").arg("--version").output().is_ok();
    if !has {
        weft_integration::skipped(test, "no nft (Debian package nftables)");
    }
    has
}

#[test]
fn the_kernel_holds_the_same_after_netlink_as_after_nft_for_every_golden_file() -> Result<()> {
    let world = a_world!("netlink against nft");
    if !has_nft("netlink against nft") {
        return Ok(());
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "nft") {
            continue;
        }
        let settings = RedirectSettings::parse(fs::read_to_string(path.with_extension("json"))?.trim())?;
        world.far.nft("flush ruleset")?;
        world.far.nft(&format!("-f {}", path.display()))?;
        world.pod.kernel()?.apply(&settings.ruleset())?;
        assert_eq!(world.pod.nft("list ruleset")?, world.far.nft("list ruleset")?, "{}", path.display());
        assert_eq!(world.pod.kernel()?.check(&settings.ruleset())?, [], "{}", path.display());
        // What `nft` made of the text is what is wanted, too.
        assert_eq!(differences(&world.far, &settings)?, Vec::<String>::new(), "{}", path.display());
    }
    Ok(())
}

#[test]
fn two_applications_make_one_table_and_clean_leaves_what_was_there() -> Result<()> {
    let world = a_world!("apply twice and clean");
    if !has_nft("apply twice and clean") {
        return Ok(());
    }
    world.pod.nft("add table inet other")?;
    world.pod.nft("add chain inet other output { type nat hook output priority -90; }")?;
    let before = world.pod.nft("list ruleset")?;
    world.apply(r#""dns_port":15053,"exclude_inbound_ports":[1]"#)?;
    let all = world.apply("")?;
    let once = world.pod.nft("list ruleset")?;
    world.apply("")?;
    assert_eq!(world.pod.nft("list ruleset")?, once);
    assert_eq!(once, format!("{before}{}", world.pod.nft("list table inet weft")?));
    assert!(!once.contains("15053"));
    assert!(world.pod.kernel()?.clean()?);
    assert_eq!(world.pod.nft("list ruleset")?, before);
    assert!(!world.pod.kernel()?.clean()?);
    assert_eq!(differences(&world.pod, &all)?, ["table inet weft: it is missing"]);
    Ok(())
}

#[test]
fn the_namespace_of_who_applies_stays_as_it_is() -> Result<()> {
    let world = a_world!("the own namespace");
    if !has_nft("the own namespace") {
        return Ok(());
    }
    let own = || fs::read_link("/proc/thread-self/ns/net");
    let before = own()?;
    world.apply("")?;
    assert_eq!(own()?, before);
    assert!(world.pod.nft("list tables")?.contains("table inet weft"));
    assert_eq!(world.far.nft("list tables")?, "");
    Ok(())
}

#[test]
fn lists_as_long_as_they_may_be_are_applied_and_found_again() -> Result<()> {
    let world = a_world!("long lists");
    let ports: Vec<u16> = (20_000..21_000).collect();
    let block = |n: u32| match n % 2 {
        0 => format!("10.{}.{}.0/24", n / 200, n % 200),
        _ => format!("fd00:{n:x}::/32"),
    };
    let all = RedirectSettings {
        exclude_inbound_ports: ports.clone(),
        exclude_outbound_ports: ports.clone(),
        include_inbound_ports: Some(ports.clone()),
        include_outbound_ports: Some(ports),
        exclude_uids: (1..=1000).collect(),
        exclude_outbound_cidrs: (0..1000).map(|n| block(n).parse()).collect::<Result<_, _>>()?,
        include_outbound_cidrs: Some((0..1000).map(|n| block(n * 2 + 1).parse()).collect::<Result<_, _>>()?),
        ..RedirectSettings::default()
    };
    all.validate()?;
    world.pod.kernel()?.apply(&all.ruleset())?;
    assert_eq!(differences(&world.pod, &all)?, Vec::<String>::new());
    // Eight sets and nine rules: of the included blocks none is of IPv4, which is a rule without a set.
    assert_eq!(differences(&world.pod, &settings("")?)?.len(), 8 + 9);
    Ok(())
}

fn differences(place: &Place, settings: &RedirectSettings) -> Result<Vec<String>> {
    let found = place.kernel()?.check(&settings.ruleset())?;
    Ok(found.iter().map(ToString::to_string).collect())
}

/// What somebody does with `nft`, and what `check` says then: each is the start of one difference.
const CHANGES: &[(&[&str], &[&str])] = &[
    (
        &["delete element inet weft exclude_inbound_ports { 23 }"],
        &["set exclude_inbound_ports: 23 is missing"],
    ),
    (
        &["add element inet weft exclude_outbound_ipv4 { 11.0.0.0/8 }"],
        &["set exclude_outbound_ipv4: 11.0.0.0/8 is not wanted"],
    ),
    (&["add element inet weft exclude_uids { 43 }"], &["set exclude_uids: 43 is not wanted"]),
    (
        &["delete rule inet weft output handle HANDLE:skuid 1337"],
        &["chain output: rule \"meta skuid 1337 accept\" is missing"],
    ),
    (
        &["insert rule inet weft prerouting tcp dport 80 accept"],
        &[concat!(
            "chain prerouting: a rule that is not wanted: [meta 16] [is 0x06] ",
            "[payload 2+2, 2 bytes] [is 0x0050] [accept]"
        )],
    ),
    (
        &["insert rule inet weft prerouting counter drop"],
        &["chain prerouting: a rule that is not wanted: [counter"],
    ),
    (
        &[
            "delete rule inet weft prerouting handle HANDLE:iifname",
            "add rule inet weft prerouting iifname \"lo\" accept",
        ],
        &["chain prerouting: its rules are in another order"],
    ),
    (&["add chain inet weft more"], &["chain more: it is not wanted"]),
    (&["add set inet weft more { type uid; }"], &["set more: it is not wanted"]),
    (
        &["add chain inet weft output { policy drop; }"],
        &["chain output: its type, hook, priority or policy is another"],
    ),
    (
        &["add table inet weft { flags dormant; }"],
        &["table inet weft: its flags are 1; none are wanted (1: it is dormant)"],
    ),
    (&["delete table inet weft"], &["table inet weft: it is missing"]),
];

#[test]
fn check_says_exactly_what_differs() -> Result<()> {
    let world = a_world!("check");
    if !has_nft("check") {
        return Ok(());
    }
    let json =
        r#""exclude_inbound_ports":[22,23],"exclude_outbound_cidrs":["10.0.0.0/8"],"exclude_uids":[42]"#;
    let wanted = settings(json)?;
    for (does, says) in CHANGES {
        world.apply(json)?;
        assert_eq!(differences(&world.pod, &wanted)?, Vec::<String>::new());
        for command in *does {
            let command = match command.split_once("HANDLE:") {
                Some((start, rule)) => format!("{start}{}", handle(&world.pod, rule)?),
                None => (*command).to_owned(),
            };
            world.pod.nft(&command)?;
        }
        let found = differences(&world.pod, &wanted)?;
        let as_said = found.len() == says.len() && found.iter().zip(*says).all(|(f, s)| f.starts_with(s));
        assert!(as_said, "{does:?}: {found:#?}");
    }
    Ok(())
}

/// The handle of the first rule in whose text this is.
fn handle(place: &Place, rule: &str) -> Result<String> {
    let listed = place.nft("-a list table inet weft")?;
    let line = listed.lines().find(|line| line.contains(rule)).unwrap_or_default();
    Ok(line.rsplit(' ').next().unwrap_or_default().to_owned())
}

#[test]
fn check_says_which_rule_other_settings_would_have() -> Result<()> {
    let world = a_world!("check of other settings");
    world.apply("")?;
    let found = differences(&world.pod, &settings("\"outbound_port\":16001")?)?;
    let rule = "tcp flags & (fin | syn | rst | ack) == syn redirect to :16001";
    assert_eq!(found.len(), 4, "{found:#?}");
    assert_eq!(found[..2], ["set proxy_ports: 16001 is missing", "set proxy_ports: 15001 is not wanted"]);
    assert_eq!(found[2], format!("chain output: rule {rule:?} is missing"));
    assert!(found[3].starts_with("chain output: a rule that is not wanted: "));
    Ok(())
}

#[test]
fn whatever_was_in_our_table_apply_makes_it_what_is_wanted() -> Result<()> {
    let world = a_world!("apply over anything");
    if !has_nft("apply over anything") {
        return Ok(());
    }
    world.pod.nft("add table inet weft { flags dormant; }")?;
    world.pod.nft("add chain inet weft output { type filter hook input priority 7; policy drop; }")?;
    world.pod.nft("add set inet weft proxy_ports { type ipv4_addr; }")?;
    let wanted = world.apply("")?;
    assert_eq!(differences(&world.pod, &wanted)?, Vec::<String>::new());
    Ok(())
}
