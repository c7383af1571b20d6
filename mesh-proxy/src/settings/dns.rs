//! Settings of names: where questions arrive, which names are the mesh's, and who is asked for all others.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use weft_dns::{VirtualRange, Zone};
use weft_process::settings::duration;

/// `[dns]`. Without a listener nobody is answered.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DnsSettings {
    /// Where queries arrive, over UDP and TCP; one an address family.
    pub(crate) listen: Vec<SocketAddr>,
    /// What the mesh's names end with.
    pub(crate) suffix: Zone,
    /// The addresses that stand for services.
    pub(crate) range: VirtualRange,
    /// Who is asked for other names, instead of those of `resolv_conf`.
    pub(crate) nameservers: Vec<SocketAddr>,
    /// The file that names who is asked for other names.
    pub(crate) resolv_conf: PathBuf,
    /// For one nameserver's answer.
    #[serde(deserialize_with = "duration")]
    pub(crate) timeout: Duration,
    /// Whether endpoints without a proxy may be called at virtual addresses, in plaintext.
    pub(crate) plaintext: bool,
}

impl Default for DnsSettings {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            suffix: "mesh".parse().expect("it is a suffix"),
            range: VirtualRange::default(),
            nameservers: Vec::new(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            // Two servers are tried before an application's own resolver asks again (glibc and musl: 5 s).
            timeout: Duration::from_secs(2),
            plaintext: false,
        }
    }
}
