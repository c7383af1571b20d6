//! A workload of the demo on this machine: its ports, and what is written for it as a user would write it.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};

use super::ports::Ports;
use super::stage::local;

/// What a workload is, before it has ports.
#[derive(Clone, Copy)]
pub(super) struct Role {
    /// The registry's name for this instance, and that of its files.
    pub(super) name: &'static str,
    pub(super) service: &'static str,
    pub(super) version: &'static str,
    pub(super) protocol: &'static str,
    /// Services that it calls.
    pub(super) upstreams: &'static [&'static str],
}

/// Where a workload is, and which mesh it is in.
#[derive(Clone)]
pub(super) struct Place {
    /// The address at which its proxy accepts the tunnel.
    pub(super) host: IpAddr,
    /// Its namespace in the mesh.
    pub(super) namespace: String,
    /// The control plane.
    pub(super) control: SocketAddr,
}

/// A workload with its proxy.
pub(super) struct Member {
    pub(super) name: &'static str,
    pub(super) service: &'static str,
    pub(super) version: &'static str,
    pub(super) protocol: &'static str,
    pub(super) place: Place,
    /// The application's own port, on loopback.
    pub(super) app: u16,
    /// Where its proxy accepts the tunnel.
    pub(super) tunnel: u16,
    /// Its proxy's admin port.
    pub(super) admin: u16,
    /// Upstream listeners of its proxy: service and port.
    pub(super) upstreams: Vec<(&'static str, u16)>,
}

impl Member {
    /// Gives a role its ports.
    pub(super) fn new(role: &Role, place: Place, ports: &mut Ports) -> Result<Self> {
        let mut upstreams = Vec::new();
        for upstream in role.upstreams {
            upstreams.push((*upstream, ports.free()?));
        }
        let Role { name, service, version, protocol, .. } = *role;
        let (app, tunnel, admin) = (ports.free()?, ports.free()?, ports.free()?);
        Ok(Self { name, service, version, protocol, place, app, tunnel, admin, upstreams })
    }

    /// The upstream listener that leads to `service`.
    pub(super) fn upstream(&self, service: &str) -> Result<SocketAddr> {
        let found = self.upstreams.iter().find(|(name, _)| *name == service);
        found
            .map(|(_, port)| local(*port))
            .with_context(|| format!("{} has no upstream {service}", self.name))
    }

    /// `namespace/account`, as a join token names it.
    pub(super) fn identity(&self) -> String {
        format!("{}/{}", self.place.namespace, self.service)
    }

    /// Its identity in the demo's trust domain.
    pub(super) fn spiffe_id(&self) -> String {
        format!("spiffe://demo.weft/ns/{}/sa/{}", self.place.namespace, self.service)
    }

    /// The workload as an object of the file registry. Its one port has no name, so that it is the service's port
    /// whatever that is called in another registry.
    pub(super) fn object(&self) -> String {
        let Place { host, namespace, .. } = &self.place;
        format!(
            "kind: Workload\nname: {}\nservice: {}\nnamespace: {namespace}\nversion: {}\nidentity: {}\n\
             addresses: [\"{host}\"]\nhealth: healthy\ntunnel: {}\nports: [{{number: {}, protocol: {}}}]\n",
            self.name,
            self.service,
            self.version,
            self.spiffe_id(),
            self.tunnel,
            self.app,
            self.protocol
        )
    }

    /// The settings of its proxy, whose state is below `top`.
    pub(super) fn proxy_settings(&self, top: &Path, token: &str) -> String {
        let top = top.display();
        let Self { name, service, version, protocol, place, app, tunnel, admin, .. } = self;
        let (control, namespace) = (place.control, &place.namespace);
        let listen = SocketAddr::new(place.host, *tunnel);
        let mut settings = format!(
            "state_dir = \"{top}/{name}\"\n\n[workload]\napp = \"{service}\"\nversion = \"{version}\"\n\n\
             [control]\naddresses = [\"{control}\"]\n\n\
             [identity]\njoin_token = \"{token}\"\n\n[tunnel]\nlisten = \"{listen}\"\n\n\
             [admin]\nlisten = \"127.0.0.1:{admin}\"\n\n\
             [access_log]\nmode = \"all\"\nformat = \"json\"\noutput = \"{top}/{name}.access.log\"\n\n\
             [[inbound]]\nservice = \"{namespace}/{service}\"\nport = {app}\napp = \"127.0.0.1:{app}\"\nprotocol = \"{protocol}\"\n",
        );
        for (upstream, port) in &self.upstreams {
            settings += &format!(
                "\n[[upstream]]\nservice = \"{namespace}/{upstream}\"\nlisten = \"127.0.0.1:{port}\"\n"
            );
        }
        settings
    }
}
