//! What of the host's files a node sees as its own: nothing that a node writes outside its folder reaches the host.
//!
//! Programs write to well-known places, whatever they are told: each such place becomes the host's with a layer in memory
//! above it. `/run` is empty. The few switches of the whole machine that a kubelet sets are files that hold already what
//! it wants.

use std::ffi::CString;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, mount, mount_bind};

use crate::files::Folder;

/// Where nodes write: CNI's settings and programs, the kubelet's sockets, links to logs.
const LAYERED: &[&str] = &["/etc", "/opt", "/var/lib", "/var/log"];

/// Switches that a kubelet sets for the whole machine, with the values that it wants.
const SWITCHES: &[(&str, &str)] = &[
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Debian's place of the CNI plugins.
const PLUGINS: &str = "/usr/lib/cni";

/// Makes all mounts, and lays out CNI where everybody expects it.
pub(super) fn make(folder: &Folder) -> Result<()> {
    for hidden in LAYERED.iter().chain(&["/run"]) {
        if folder.0.starts_with(hidden) {
            bail!("a cluster can't be kept under {hidden}, which its node hides");
        }
    }
    mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), None).context("/run")?;
    for path in ["/run/netns", "/run/lock", "/run/switches"] {
        std::fs::create_dir(path).with_context(|| format!("making {path}"))?;
    }
    for place in LAYERED {
        layer(place).with_context(|| (*place).to_owned())?;
    }
    for (switch, value) in SWITCHES {
        pretend(switch, value).with_context(|| (*switch).to_owned())?;
    }
    cni(folder)
}

fn layer(place: &str) -> Result<()> {
    let own = format!("/run/layers{place}");
    for part in ["upper", "work"] {
        std::fs::create_dir_all(format!("{own}/{part}"))?;
    }
    let options = CString::new(format!("lowerdir={place},upperdir={own}/upper,workdir={own}/work"))?;
    Ok(mount("overlay", place, "overlay", MountFlags::empty(), options.as_c_str())?)
}

fn pretend(switch: &str, value: &str) -> Result<()> {
    let real = Path::new("/proc/sys").join(switch);
    if real.exists() {
        let file = Path::new("/run/switches").join(switch.replace('/', "."));
        std::fs::write(&file, format!("{value}\n"))?;
        mount_bind(&file, &real)?;
    }
    Ok(())
}

fn cni(folder: &Folder) -> Result<()> {
    for path in ["/etc/cni/net.d", "/opt/cni/bin"] {
        std::fs::create_dir_all(path).with_context(|| format!("making {path}"))?;
    }
    for plugin in std::fs::read_dir(PLUGINS).context("CNI's plugins")? {
        let plugin = plugin?;
        let here = Path::new("/opt/cni/bin").join(plugin.file_name());
        if !here.exists() {
            std::os::unix::fs::symlink(plugin.path(), here)?;
        }
    }
    let file = "10-node.conflist";
    std::fs::copy(folder.path("conf").join(file), Path::new("/etc/cni/net.d").join(file))
        .context("CNI's network")?;
    Ok(())
}
