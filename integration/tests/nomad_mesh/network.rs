//! A network for the machines of a test: a bridge of its own, and a network namespace for each machine.
//!
//! Up to sixteen stand side by side. A slot is taken by making its bridge, which the kernel lets only one do.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The last byte of the first machine's address.
const FIRST: u8 = 10;
/// How many there may be at once.
const SLOTS: u8 = 16;

/// The network of one test. It ends with its value.
pub(crate) struct Network {
    slot: u8,
    machines: Vec<String>,
}

impl Network {
    /// Takes a free slot.
    pub(crate) fn claim() -> Result<Self> {
        for slot in 0..SLOTS {
            let network = Self { slot, machines: Vec::new() };
            if ip(&format!("link add {} type bridge", network.bridge())).is_err() {
                // Its slot is somebody else's: nothing of theirs may be taken away.
                std::mem::forget(network);
                continue;
            }
            ip(&format!("addr add {}/24 dev {}", network.host(), network.bridge()))?;
            ip(&format!("link set {} up", network.bridge()))?;
            return Ok(network);
        }
        bail!("no network could be made: is this root, with CAP_NET_ADMIN?")
    }

    /// The test's own machine, as the others reach it.
    pub(crate) fn host(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 79, self.slot, 1)
    }

    /// Adds a machine: the name of its namespace and its address.
    pub(crate) fn machine(&mut self) -> Result<(String, Ipv4Addr)> {
        let number = FIRST + u8::try_from(self.machines.len()).context("too many machines")?;
        let (name, link) = (format!("wn{}-{number}", self.slot), self.link(number));
        let address = Ipv4Addr::new(10, 79, self.slot, number);
        ip(&format!("netns add {name}"))?;
        self.machines.push(name.clone());
        ip(&format!("link add {link} type veth peer name eth0 netns {name}"))?;
        ip(&format!("link set {link} master {} up", self.bridge()))?;
        ip(&format!("-n {name} addr add {address}/24 dev eth0"))?;
        ip(&format!("-n {name} link set lo up"))?;
        ip(&format!("-n {name} link set eth0 up"))?;
        ip(&format!("-n {name} route add default via {}", self.host()))?;
        Ok((name, address))
    }

    fn link(&self, machine: u8) -> String {
        format!("wn{}v{machine}", self.slot)
    }

    fn bridge(&self) -> String {
        format!("wnomad{}", self.slot)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Nothing can be done about a failure here. A namespace goes only with its last process; its link must not stay for it.
        for (number, machine) in (FIRST..).zip(&self.machines) {
            let _ = ip(&format!("link del {}", self.link(number)));
            let _ = ip(&format!("netns del {machine}"));
        }
        let _ = ip(&format!("link del {}", self.bridge()));
    }
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output().context("ip")?;
    if !output.status.success() {
        bail!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
