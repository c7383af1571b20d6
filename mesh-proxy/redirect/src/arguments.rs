//! The command line and the environment of `weft-redirect`.
//!
//! `--settings` is the whole in one piece, as the pod's annotation has it; each further flag replaces one setting of it.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use weft_redirect::{Cidr, Families, RedirectSettings, SettingsError};

/// Leads the traffic of a network namespace through the Weft proxy in it.
#[derive(Debug, Parser)]
#[command(
    name = "weft-redirect",
    version,
    after_help = "Exit status: 0 done; 1 failed; 2 check found differences."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// The network namespace, as a file; this process's own without it.
    #[arg(long, global = true, env = "WEFT_REDIRECT_NETNS")]
    pub(crate) netns: Option<PathBuf>,
    /// All settings as JSON, as the annotation weft.dev/redirect has them [default: {"version":1}].
    #[arg(long, global = true, env = "WEFT_REDIRECT_SETTINGS", value_name = "JSON")]
    settings: Option<String>,
    /// The proxy's user, whose traffic is left alone [default: 1337].
    #[arg(long, global = true, env = "WEFT_REDIRECT_PROXY_UID", value_name = "UID")]
    proxy_uid: Option<u32>,
    /// The same by name, of a user of this machine (/etc/passwd); the group decides nothing then.
    #[arg(
        long,
        global = true,
        env = "WEFT_REDIRECT_PROXY_USER",
        value_name = "NAME",
        conflicts_with_all = ["proxy_uid", "proxy_gid"]
    )]
    pub(crate) proxy_user: Option<String>,
    /// The proxy's group, whose traffic is left alone [default: 1337].
    #[arg(long, global = true, env = "WEFT_REDIRECT_PROXY_GID", value_name = "GID")]
    proxy_gid: Option<u32>,
    /// Where outbound TCP goes [default: 15001].
    #[arg(long, global = true, env = "WEFT_REDIRECT_OUTBOUND_PORT", value_name = "PORT")]
    outbound_port: Option<u16>,
    /// Where inbound TCP goes [default: 15006].
    #[arg(long, global = true, env = "WEFT_REDIRECT_INBOUND_PORT", value_name = "PORT")]
    inbound_port: Option<u16>,
    /// The proxy's tunnel port, reached as it is [default: 15008].
    #[arg(long, global = true, env = "WEFT_REDIRECT_TUNNEL_PORT", value_name = "PORT")]
    tunnel_port: Option<u16>,
    /// The proxy's health port, reached as it is [default: 15021].
    #[arg(long, global = true, env = "WEFT_REDIRECT_HEALTH_PORT", value_name = "PORT")]
    health_port: Option<u16>,
    /// The proxy's admin port on loopback [default: 15000].
    #[arg(long, global = true, env = "WEFT_REDIRECT_ADMIN_PORT", value_name = "PORT")]
    admin_port: Option<u16>,
    /// Where DNS goes; without it DNS is not captured.
    #[arg(long, global = true, env = "WEFT_REDIRECT_DNS_PORT", value_name = "PORT")]
    dns_port: Option<u16>,
    /// Inbound ports that are reached as they are.
    #[arg(
        long,
        global = true,
        env = "WEFT_REDIRECT_EXCLUDE_INBOUND_PORTS",
        value_delimiter = ',',
        value_name = "PORTS"
    )]
    exclude_inbound_ports: Option<Vec<u16>>,
    /// Destination ports that are reached as they are.
    #[arg(
        long,
        global = true,
        env = "WEFT_REDIRECT_EXCLUDE_OUTBOUND_PORTS",
        value_delimiter = ',',
        value_name = "PORTS"
    )]
    exclude_outbound_ports: Option<Vec<u16>>,
    /// Destinations that are reached as they are.
    #[arg(
        long,
        global = true,
        env = "WEFT_REDIRECT_EXCLUDE_OUTBOUND_CIDRS",
        value_delimiter = ',',
        value_name = "CIDRS"
    )]
    exclude_outbound_cidrs: Option<Vec<Cidr>>,
    /// Further users whose traffic is left alone.
    #[arg(
        long,
        global = true,
        env = "WEFT_REDIRECT_EXCLUDE_UIDS",
        value_delimiter = ',',
        value_name = "UIDS"
    )]
    exclude_uids: Option<Vec<u32>>,
    /// Capture only these inbound ports.
    #[arg(
        long,
        global = true,
        env = "WEFT_REDIRECT_INCLUDE_INBOUND_PORTS",
        value_delimiter = ',',
        value_name = "PORTS"
    )]
    include_inbound_ports: Option<Vec<u16>>,
    /// Capture only these destination ports.
    #[arg(
        long,
        global = true,
        env = "WEFT_REDIRECT_INCLUDE_OUTBOUND_PORTS",
        value_delimiter = ',',
        value_name = "PORTS"
    )]
    include_outbound_ports: Option<Vec<u16>>,
    /// Capture only these destinations.
    #[arg(
        long,
        global = true,
        env = "WEFT_REDIRECT_INCLUDE_OUTBOUND_CIDRS",
        value_delimiter = ',',
        value_name = "CIDRS"
    )]
    include_outbound_cidrs: Option<Vec<Cidr>>,
    /// The address families that are captured: both, ipv4 or ipv6 [default: both].
    #[arg(long, global = true, env = "WEFT_REDIRECT_FAMILIES", value_parser = families)]
    families: Option<Families>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum Command {
    /// Make the rules what the settings say, whatever they were. Needs NET_ADMIN.
    Apply,
    /// Say in what the rules differ from the settings. Needs NET_ADMIN.
    Check,
    /// Remove the rules. Needs NET_ADMIN.
    Clean,
    /// Print the rules as nft has them. Changes nothing.
    Rules,
    /// Look, without any privilege, whether traffic is captured: before the proxy listens, as any user but the proxy's.
    Verify,
}

impl Arguments {
    /// The settings that all of it amounts to.
    pub(crate) fn settings(&self) -> Result<RedirectSettings, SettingsError> {
        let mut settings = match &self.settings {
            Some(json) => RedirectSettings::parse(json)?,
            None => RedirectSettings::default(),
        };
        replace(&mut settings.proxy_uid, &self.proxy_uid);
        replace(&mut settings.outbound_port, &self.outbound_port);
        replace(&mut settings.inbound_port, &self.inbound_port);
        replace(&mut settings.tunnel_port, &self.tunnel_port);
        replace(&mut settings.health_port, &self.health_port);
        replace(&mut settings.admin_port, &self.admin_port);
        replace(&mut settings.exclude_inbound_ports, &self.exclude_inbound_ports);
        replace(&mut settings.exclude_outbound_ports, &self.exclude_outbound_ports);
        replace(&mut settings.exclude_outbound_cidrs, &self.exclude_outbound_cidrs);
        replace(&mut settings.exclude_uids, &self.exclude_uids);
        replace(&mut settings.families, &self.families);
        for (setting, flag) in [
            (&mut settings.include_inbound_ports, &self.include_inbound_ports),
            (&mut settings.include_outbound_ports, &self.include_outbound_ports),
        ] {
            replace(setting, &flag.clone().map(Some));
        }
        replace(&mut settings.proxy_gid, &self.proxy_gid.map(Some));
        replace(&mut settings.dns_port, &self.dns_port.map(Some));
        replace(&mut settings.include_outbound_cidrs, &self.include_outbound_cidrs.clone().map(Some));
        settings.validate()?;
        Ok(settings)
    }
}

fn replace<T: Clone>(setting: &mut T, flag: &Option<T>) {
    if let Some(value) = flag {
        setting.clone_from(value);
    }
}

fn families(text: &str) -> Result<Families, String> {
    match text {
        "both" => Ok(Families::Both),
        "ipv4" => Ok(Families::Ipv4),
        "ipv6" => Ok(Families::Ipv6),
        _ => Err("both, ipv4 or ipv6".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(flags: &[&str]) -> Result<RedirectSettings, SettingsError> {
        let line = ["weft-redirect", "rules"].iter().chain(flags);
        Arguments::try_parse_from(line).unwrap().settings()
    }

    #[test]
    fn a_flag_replaces_what_the_settings_in_one_piece_say() {
        let json = r#"{"version":1,"exclude_inbound_ports":[1],"families":"ipv4","proxy_uid":7}"#;
        let got = settings(&["--settings", json, "--exclude-inbound-ports", "2,3", "--dns-port", "15053"]);
        let wanted = RedirectSettings {
            exclude_inbound_ports: vec![2, 3],
            dns_port: Some(15053),
            families: Families::Ipv4,
            proxy_uid: 7,
            ..RedirectSettings::default()
        };
        assert_eq!(got.unwrap(), wanted);
    }

    #[test]
    fn every_setting_has_a_flag() {
        let flags = "--proxy-uid 2000 --proxy-gid 2001 --outbound-port 16001 --inbound-port 16006 --tunnel-port 16008 \
            --health-port 16021 --admin-port 16000 --dns-port 16053 --exclude-inbound-ports 22 \
            --exclude-outbound-ports 25 --exclude-outbound-cidrs 10.0.0.5,2001:db8::/32 --exclude-uids 42 \
            --include-inbound-ports 80,443 --include-outbound-ports 80,443,5432 \
            --include-outbound-cidrs 10.0.0.0/8,2001:db8::/31 --families both";
        let flags: Vec<_> = flags.split_whitespace().collect();
        let everything = RedirectSettings::parse(include_str!("../tests/golden/everything.json")).unwrap();
        assert_eq!(settings(&flags).unwrap(), everything);
    }

    #[test]
    fn what_flags_amount_to_is_validated() {
        assert!(settings(&["--dns-port", "15001"]).is_err());
    }
}
