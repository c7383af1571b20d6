//! The host's side of a cluster's network: one link into its namespace and the routes over it. Uses iproute2; everything
//! here goes with the link, and the link goes with the namespace.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::command::{self, Run};
use crate::network::{Network, SLOTS};

/// Takes a free slot by making its link into the network namespace of the process `inside`. The link's alias says whose
/// it is.
pub(crate) fn claim(inside: u32, owner: &Path) -> Result<Network> {
    let dual = Path::new("/proc/net/if_inet6").exists();
    for slot in 0..SLOTS {
        let network = Network { slot, dual };
        // Two that start at once may both find it free; the kernel decides.
        if Path::new("/sys/class/net").join(network.link()).exists() {
            continue;
        }
        let kind = format!("type veth peer name eth0 netns {inside}");
        if add(network, owner, &kind).context("is this root, with CAP_NET_ADMIN?")? {
            return Ok(network);
        }
    }
    bail!("{SLOTS} clusters are there already: cargo xtask cluster list")
}

/// Makes the link of a slot; `false` where somebody else has it.
fn add(network: Network, owner: &Path, kind: &str) -> Result<bool> {
    match ip(&format!("link add {} {kind}", network.link())) {
        Ok(()) => {}
        Err(error) if format!("{error:#}").contains("File exists") => return Ok(false),
        Err(error) => return Err(error),
    }
    // Whole, as a folder's name may have spaces. Until then it is nobody's, and nobody else takes it.
    let words = ["link", "set", &network.link(), "alias"].map(str::to_owned);
    command::of("ip").args(words).arg(owner).said()?;
    Ok(true)
}

/// Whether the slot is this owner's, or nobody's and so now this owner's again: what was made for the slot may be taken
/// away. A cluster's link goes with its namespace, and another may have the slot since.
pub(crate) fn still_has(network: Network, owner: &Path) -> Result<bool> {
    if add(network, owner, "type veth")? {
        return Ok(true);
    }
    let alias = Path::new("/sys/class/net").join(network.link()).join("ifalias");
    Ok(std::fs::read_to_string(alias).is_ok_and(|alias| Path::new(alias.trim()) == owner))
}

/// Addresses the host's end and lets the host find pods and services behind it.
pub(crate) fn route(network: Network) -> Result<()> {
    let link = network.link();
    ip(&format!("addr add {}/30 dev {link}", network.host()))?;
    ip(&format!("link set {link} up"))?;
    for range in [network.pods(), network.services()] {
        ip(&format!("route add {range} via {}", network.far())).context("who else has a route to it?")?;
    }
    if network.dual {
        ip(&format!("-6 addr add {}/126 dev {link} nodad", network.host_six()))?;
        for range in [network.pods_six(), network.services_six()] {
            ip(&format!("-6 route add {range} via {} dev {link}", network.far_six()))?;
        }
    }
    Ok(())
}

/// The node's side: the link, the bridge of the pods with the node's own address, and forwarding.
pub(crate) fn inside(network: Network) -> Result<()> {
    ip("link set lo up")?;
    ip(&format!("addr add {}/30 dev eth0", network.far()))?;
    ip("link set eth0 up")?;
    ip(&format!("route add default via {}", network.host()))?;
    ip("link add cni0 type bridge")?;
    ip(&format!("addr add {}/24 dev cni0", network.node()))?;
    ip("link set cni0 up")?;
    write("/proc/sys/net/ipv4/ip_forward")?;
    if network.dual {
        write("/proc/sys/net/ipv6/conf/all/forwarding")?;
        ip(&format!("-6 addr add {}/126 dev eth0 nodad", network.far_six()))?;
        ip(&format!("-6 route add default via {} dev eth0", network.host_six()))?;
        ip(&format!("-6 addr add {}/64 dev cni0 nodad", network.node_six()))?;
    }
    Ok(())
}

fn write(switch: &str) -> Result<()> {
    std::fs::write(switch, "1").with_context(|| format!("writing {switch}"))
}

/// Ends the link, where it is still there.
pub(crate) fn cut(network: Network) -> Result<()> {
    match ip(&format!("link del {}", network.link())) {
        Err(error) if !format!("{error:#}").contains("Cannot find device") => Err(error),
        _ => Ok(()),
    }
}

fn ip(arguments: &str) -> Result<()> {
    command::of("ip").args(arguments.split(' ')).said().map(drop)
}
