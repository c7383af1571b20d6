//! An agent's configuration for tests, and the client that speaks to it.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::NomadOptions;

/// An agent's ports.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) http: u16,
    pub(super) rpc: u16,
    serf: u16,
}

impl Ports {
    /// Nomad's own where the agent has a network of its own; else such that nobody has at this moment, for TCP and UDP. They
    /// are below the range that the system gives to outgoing connections: a restarted agent must find its own ports free. All
    /// are held until the last is known.
    pub(super) fn free(shared: bool) -> io::Result<Self> {
        if !shared {
            return Ok(Self { http: 4646, rpc: 4647, serf: 4648 });
        }
        let mut held = Vec::new();
        let mut free = || {
            let found = (0..1000).map(|_| rand::random_range(10_000..20_000)).find_map(|port: u16| {
                let at = (Ipv4Addr::LOCALHOST, port);
                Some((port, TcpListener::bind(at).ok()?, UdpSocket::bind(at).ok()?))
            });
            let (port, tcp, udp) =
                found.ok_or_else(|| io::Error::other("no free port from 10000 to 20000"))?;
            held.push((tcp, udp));
            Ok::<u16, io::Error>(port)
        };
        Ok(Self { http: free()?, rpc: free()?, serf: free()? })
    }
}

/// The agent's configuration.
pub(super) fn agent(options: &NomadOptions, ports: Ports, directory: &Path) -> Value {
    let address = options.address.to_string();
    let at = |port: u16| format!("{address}:{port}");
    let meta: Map<String, Value> =
        options.meta.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let servers = options.joins.clone().unwrap_or_else(|| at(ports.rpc));
    let mut config = json!({
        "name": options.name,
        "region": options.region,
        "datacenter": options.datacenter,
        "bind_addr": address,
        "advertise": {"http": at(ports.http), "rpc": at(ports.rpc), "serf": at(ports.serf)},
        "ports": {"http": ports.http, "rpc": ports.rpc, "serf": ports.serf},
        "data_dir": directory.join("data"),
        "log_level": "INFO",
        "disable_update_check": true,
        "acl": {"enabled": options.acl},
        "consul": {"auto_advertise": false, "server_auto_join": false, "client_auto_join": false},
        "plugin": [
            {"raw_exec": [{"config": [{"enabled": true}]}]},
            {"docker": [{"config": [{"disable_log_collection": true}]}]},
        ],
    });
    if options.server {
        // A node that is gone is known as gone within seconds, not minutes.
        config["server"] = json!({
            "enabled": true, "bootstrap_expect": 1, "raft_multiplier": 1, "heartbeat_grace": "2s",
            "min_heartbeat_ttl": "2s",
        });
        if let Some(issuer) = &options.issuer {
            config["server"]["oidc_issuer"] = json!(issuer);
        }
    }
    if options.client {
        // Where the tests' own network ends no cloud is asked what machine this is.
        let denied = "env_aws,env_gce,env_azure,env_digitalocean";
        config["client"] = json!({
            "enabled": true, "servers": [servers], "cni_path": "/usr/lib/cni", "meta": meta,
            "options": {"fingerprint.denylist": denied},
            "host_network": [{"default": [{"cidr": format!("{address}/32")}]}],
        });
        // Else it wants the interface of a default route.
        let interface = if options.address.is_loopback() { "lo" } else { "eth0" };
        config["client"]["network_interface"] = json!(interface);
    }
    if let Some([ca, certificate, key]) = &options.tls {
        config["tls"] = json!({
            "http": true, "rpc": true, "ca_file": ca, "cert_file": certificate, "key_file": key,
            "verify_server_hostname": true, "verify_https_client": true,
        });
    }
    if let Some(limit) = options.max_connections {
        config["limits"] = json!({"http_max_conns_per_client": limit});
    }
    config
}

/// The test's own client.
pub(super) fn http(options: &NomadOptions) -> io::Result<reqwest::Client> {
    let builder = reqwest::Client::builder().no_proxy();
    let Some([ca, certificate, key]) = &options.tls else {
        return builder.tls_certs_only([]).build().map_err(io::Error::other);
    };
    let roots = reqwest::Certificate::from_pem_bundle(&std::fs::read(ca)?).map_err(io::Error::other)?;
    let pem = [std::fs::read(certificate)?, b"\n".to_vec(), std::fs::read(key)?].concat();
    let identity = reqwest::Identity::from_pem(&pem).map_err(io::Error::other)?;
    builder.tls_certs_only(roots).identity(identity).build().map_err(io::Error::other)
}
