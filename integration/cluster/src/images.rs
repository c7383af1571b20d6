//! The images of a cluster, made of what is on the machine: nothing is pulled from anywhere.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use weft_image::{Files, Image};

use crate::command::{self, Run};

/// Debian's static busybox.
const BUSYBOX: &str = "/usr/bin/busybox";
/// What tests look at a pod's network with, where the machine has it.
const LOOKING: &[&str] = &["/usr/sbin/nft", "/usr/sbin/ip"];

/// What holds a pod's namespaces; containerd kills it with SIGKILL, so it need not listen.
pub(crate) fn pause() -> Result<Image> {
    let mut files = Files::default();
    files.file("/bin/busybox", 0o755, read(BUSYBOX)?)?;
    Ok(image("weft.test/pause:1", files, &["/bin/busybox", "sleep", "2147483647"], "65534"))
}

/// A shell with the usual small programs, `nft` and `ip`. It runs what a pod says.
pub(crate) fn app() -> Result<Image> {
    Ok(image("weft.test/app:1", shell()?, &[], "0"))
}

/// The same with a program of ours at `/usr/bin/weft`, whose `workload` commands are small servers.
pub(crate) fn workload(weft: &Path) -> Result<Image> {
    let mut files = shell()?;
    program(&mut files, weft, "/usr/bin/weft")?;
    Ok(image("weft.test/workload:1", files, &["/usr/bin/weft", "workload"], "65534"))
}

/// Programs as they are on this machine with the libraries that they need, each at `/usr/bin` under its own name; the first
/// is what runs. For tests, which have them built already; what is shipped is static.
pub(crate) fn programs(name: &str, user: &str, programs: &[&Path]) -> Result<Image> {
    let mut files = Files::default();
    let mut places = Vec::new();
    for from in programs {
        let own = from.file_name().and_then(|own| own.to_str()).context("a program has a name")?;
        places.push(format!("/usr/bin/{own}"));
        program(&mut files, from, &format!("/usr/bin/{own}"))?;
    }
    let first = places.first().context("an image of programs has one")?;
    Ok(image(name, files, &[first], user))
}

/// The cluster's DNS.
pub(crate) fn coredns(program: &Path) -> Result<Image> {
    let mut files = Files::default();
    files.file("/coredns", 0o755, read(program)?)?;
    Ok(image("weft.test/coredns:1", files, &["/coredns"], "0"))
}

fn shell() -> Result<Files> {
    let mut files = Files::default();
    files.file("/bin/busybox", 0o755, read(BUSYBOX)?)?;
    for name in command::of(BUSYBOX).arg("--list").said()?.lines() {
        if name != "busybox" {
            files.link(&format!("/bin/{name}"), "/bin/busybox")?;
        }
    }
    files.folder("/tmp", 0o1777)?.folder("/proc", 0o555)?.folder("/sys", 0o555)?;
    files.folder("/dev", 0o755)?.folder("/run", 0o755)?.folder("/var/run", 0o755)?;
    files.file(
        "/etc/passwd",
        0o644,
        "root:x:0:0:root:/:/bin/sh\nproxy:x:1337:1337::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
    )?;
    files.file("/etc/group", 0o644, "root:x:0:\nproxy:x:1337:\nnobody:x:65534:\n")?;
    files.file("/www/index.html", 0o644, "hello\n")?;
    for file in LOOKING.iter().map(Path::new).filter(|file| file.exists()) {
        program(&mut files, file, &file.display().to_string())?;
    }
    Ok(files)
}

/// Adds a program with the libraries that it needs, each at its own place.
fn program(files: &mut Files, from: &Path, to: &str) -> Result<()> {
    files.file(to, 0o755, read(from)?)?;
    for library in libraries(from)? {
        let content = read(&library)?;
        files.file(&library.display().to_string(), 0o755, content)?;
    }
    Ok(())
}

fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let Ok(said) = command::of("ldd").arg(program).said() else {
        // It says "not a dynamic executable", and fails.
        return Ok(Vec::new());
    };
    let words = said.split_ascii_whitespace().filter(|word| word.starts_with('/'));
    Ok(words.map(PathBuf::from).collect())
}

fn image(name: &str, files: Files, entrypoint: &[&str], user: &str) -> Image {
    Image {
        name: name.to_owned(),
        files,
        entrypoint: entrypoint.iter().map(|&word| word.to_owned()).collect(),
        command: Vec::new(),
        user: user.to_owned(),
        labels: std::collections::BTreeMap::new(),
    }
}

fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    let path = path.as_ref();
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}
