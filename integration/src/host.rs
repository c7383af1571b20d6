//! Where a process of a test runs: this host, or a network namespace that stands for another one.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Result, bail};
use tokio::process::Command;

/// A place with an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    namespace: Option<String>,
    /// Its address.
    pub address: IpAddr,
}

impl Default for Host {
    fn default() -> Self {
        Self { namespace: None, address: Ipv4Addr::LOCALHOST.into() }
    }
}

impl Host {
    /// This host, at one of its addresses.
    pub fn at(address: IpAddr) -> Self {
        Self { namespace: None, address }
    }

    /// A command that runs there.
    pub fn command(&self, program: &Path) -> Command {
        let Some(namespace) = &self.namespace else { return Command::new(program) };
        let mut command = Command::new(program_ip());
        command.args(["netns", "exec", namespace]).arg(program);
        command
    }
}

/// A host of its own behind a link, which goes with its handle.
#[derive(Debug)]
pub struct FarHost {
    /// The place.
    pub host: Host,
    /// This host's address on the link.
    pub gateway: IpAddr,
    link: String,
}

static NEXT: AtomicU8 = AtomicU8::new(0);

impl FarHost {
    /// Makes one.
    ///
    /// # Errors
    /// With what `ip` said, where namespaces are not permitted.
    pub async fn new() -> Result<Self> {
        // The process id keeps test binaries that run at once apart, in names and in addresses.
        let (process, number) = (std::process::id(), NEXT.fetch_add(4, Ordering::Relaxed));
        let [_, _, high, low] = process.to_be_bytes();
        let at = |last: u8| Ipv4Addr::new(10, 200 + high % 50, low, number + last);
        let (link, namespace) = (format!("wv{process}n{number}"), format!("weft-{process}-{number}"));
        let host = Host { namespace: Some(namespace.clone()), address: at(2).into() };
        let made = Self { host, gateway: at(1).into(), link: link.clone() };
        ip(&format!("netns add {namespace}")).await?;
        ip(&format!("link add {link} type veth peer name eth0 netns {namespace}")).await?;
        ip(&format!("addr add {}/30 dev {link}", made.gateway)).await?;
        ip(&format!("link set {link} up")).await?;
        for command in [format!("addr add {}/30 dev eth0", made.host.address), "link set eth0 up".to_owned()]
        {
            ip(&format!("-n {namespace} {command}")).await?;
        }
        ip(&format!("-n {namespace} link set lo up")).await?;
        Ok(made)
    }

    /// Sets the far end of the link down: nothing gets there any more, and nobody is told.
    ///
    /// # Errors
    /// With what `ip` said.
    pub async fn vanish(&self) -> Result<()> {
        self.far("link set eth0 down").await
    }

    /// Sets it up again.
    ///
    /// # Errors
    /// With what `ip` said.
    pub async fn come_back(&self) -> Result<()> {
        self.far("link set eth0 up").await
    }

    async fn far(&self, command: &str) -> Result<()> {
        let namespace = self.host.namespace.as_deref().unwrap_or_default();
        ip(&format!("-n {namespace} {command}")).await
    }
}

impl Drop for FarHost {
    fn drop(&mut self) {
        let namespace = self.host.namespace.as_deref().unwrap_or_default();
        let run = |arguments: &[&str]| {
            // Nothing can be done about a failure here.
            let _ = std::process::Command::new(program_ip()).args(arguments).output();
        };
        run(&["link", "del", &self.link]);
        run(&["netns", "del", namespace]);
    }
}

#[allow(clippy::disallowed_methods)] // how cargo xtask test says where the tools are
fn program_ip() -> OsString {
    std::env::var_os("WEFT_IP").unwrap_or_else(|| "ip".into())
}

async fn ip(arguments: &str) -> Result<()> {
    let output = Command::new(program_ip()).args(arguments.split(' ')).output().await?;
    if !output.status.success() {
        bail!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
