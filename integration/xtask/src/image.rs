//! `cargo xtask image`: the images that are shipped, from scratch, as OCI archives, each with the list of its parts.
//!
//! An image holds static programs and that list: no shell, no libraries, no distribution. Who builds the same commit with
//! the same toolchain and C library gets the same bytes, wherever the checkout is. Pushing them is not this task's.

mod build;
mod parts;
mod sbom;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use weft_image::{Files, Image};

use crate::test;

/// What an image of proxy or control plane may take at most, in bytes.
const LIMIT: usize = 25_000_000;

/// `cargo xtask image`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which; all where none is named: proxy, control, cni.
    names: Vec<String>,
    /// Where to write; `target/images` otherwise.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Cargo's profile. What is shipped is `dist`; `dev` is built fast, and its size is not judged.
    #[arg(long, default_value = "dist")]
    profile: String,
}

/// One image that is shipped.
struct Shipped {
    name: &'static str,
    title: &'static str,
    /// The packages whose programs, of the same names, are in it; the first one's is what runs.
    programs: &'static [&'static str],
    /// Who runs it where a pod says nothing.
    user: &'static str,
    limited: bool,
}

const SHIPPED: &[Shipped] = &[
    Shipped {
        name: "proxy",
        title: "Weft's proxy, and what redirects a pod's connections to it",
        programs: &["weft-proxy", "weft-redirect"],
        user: "1337",
        limited: true,
    },
    Shipped {
        name: "control",
        title: "Weft's control plane",
        programs: &["weft-control"],
        user: "65532",
        limited: true,
    },
    Shipped {
        name: "cni",
        title: "Weft's CNI plugin, and what installs it on a node",
        programs: &["weft-cni"],
        // It writes into the node's folders of CNI, which are root's.
        user: "0",
        limited: false,
    },
];

/// `cargo xtask image`.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(unknown) = args.names.iter().find(|name| !SHIPPED.iter().any(|image| image.name == *name)) {
        let known: Vec<&str> = SHIPPED.iter().map(|image| image.name).collect();
        bail!("no image {unknown:?}; known: {}", known.join(", "));
    }
    let output = match &args.output {
        Some(output) => output.clone(),
        None => test::target_directory()?.join("images"),
    };
    std::fs::create_dir_all(&output).with_context(|| format!("making {}", output.display()))?;
    let wanted = |image: &&Shipped| args.names.is_empty() || args.names.iter().any(|name| name == image.name);
    for shipped in SHIPPED.iter().filter(wanted) {
        let judged = shipped.limited && args.profile != "dev";
        write(shipped, &args.profile, judged, &output)
            .with_context(|| format!("the image {}", shipped.name))?;
    }
    Ok(())
}

fn write(shipped: &Shipped, profile: &str, judged: bool, output: &Path) -> Result<()> {
    let target = build::target()?;
    let programs = build::programs(shipped.programs, profile, &target)?;
    let version = parts::version(shipped.programs)?;
    let list = sbom::document(shipped.name, &version, &parts::of(shipped.programs, &target)?)?;
    let image = image(shipped, &version, &programs, &list)?;
    let archive = image.archive()?;
    if judged && archive.len() > LIMIT {
        bail!("{} bytes, of at most {LIMIT}", archive.len());
    }
    let path = output.join(format!("{}.tar", shipped.name));
    std::fs::write(&path, &archive).with_context(|| format!("writing {}", path.display()))?;
    let beside = output.join(format!("{}.cdx.json", shipped.name));
    std::fs::write(&beside, &list).with_context(|| format!("writing {}", beside.display()))?;
    let megabytes = archive.len() as f64 / 1e6;
    println!(
        "{}  {megabytes:.1} MB  sha256:{}  {}",
        image.name,
        weft_image::digest(&archive),
        path.display()
    );
    Ok(())
}

fn image(shipped: &Shipped, version: &str, programs: &[(String, Vec<u8>)], list: &str) -> Result<Image> {
    let mut files = Files::default();
    for (name, content) in programs {
        files.file(&format!("/usr/bin/{name}"), 0o755, content.as_slice())?;
    }
    files.file(&format!("/usr/share/sbom/{}.cdx.json", shipped.name), 0o644, list)?;
    let first = programs.first().context("an image has a program")?;
    let label = |name: &str, value: &str| (format!("org.opencontainers.image.{name}"), value.to_owned());
    Ok(Image {
        name: format!("weft.dev/{}:{version}", shipped.name),
        entrypoint: vec![format!("/usr/bin/{}", first.0)],
        command: Vec::new(),
        user: shipped.user.to_owned(),
        labels: BTreeMap::from([
            label("title", shipped.title),
            label("version", version),
            label("licenses", "Apache-2.0"),
        ]),
        files,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_its_programs_its_list_of_parts_and_nothing_else() {
        let shipped = SHIPPED.iter().find(|shipped| shipped.name == "proxy").unwrap();
        let programs = [("weft-proxy".to_owned(), vec![1]), ("weft-redirect".to_owned(), vec![2])];
        let built = image(shipped, "0.1.0", &programs, "{}").unwrap();
        let mut files = Files::default();
        files.file("/usr/bin/weft-proxy", 0o755, [1]).unwrap();
        files.file("/usr/bin/weft-redirect", 0o755, [2]).unwrap();
        files.file("/usr/share/sbom/proxy.cdx.json", 0o644, "{}").unwrap();
        assert_eq!(built.files, files);
        assert_eq!((built.name.as_str(), built.user.as_str()), ("weft.dev/proxy:0.1.0", "1337"));
        assert_eq!(built.entrypoint, ["/usr/bin/weft-proxy"]);
    }

    #[test]
    fn users_are_numbers_as_kubernetes_can_judge_nothing_else() {
        assert!(SHIPPED.iter().all(|shipped| shipped.user.parse::<u32>().is_ok()));
    }
}
