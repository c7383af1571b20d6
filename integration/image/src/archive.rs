//! The OCI image layout (image-spec 1.1) of one image, in a tar archive: layer, config, manifest, index.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::files::{Entry, Files};
use crate::{Error, Image};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// There is no date that would be the same tomorrow.
const CREATED: &str = "1970-01-01T00:00:00Z";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: &'static str,
    digest: String,
    size: usize,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Config<'a> {
    created: &'static str,
    architecture: &'static str,
    os: &'static str,
    config: Run<'a>,
    rootfs: RootFs,
    history: [History; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Run<'a> {
    user: &'a str,
    env: [&'static str; 1],
    entrypoint: &'a [String],
    cmd: &'a [String],
    working_dir: &'static str,
    labels: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: [String; 1],
}

#[derive(Serialize)]
struct History {
    created: &'static str,
    created_by: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u8,
    media_type: &'static str,
    config: Descriptor,
    layers: [Descriptor; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u8,
    media_type: &'static str,
    manifests: [Descriptor; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Layout {
    image_layout_version: &'static str,
}

impl Image {
    /// The archive's bytes, for `ctr images import` and everything else that reads OCI layouts.
    ///
    /// # Errors
    /// When a path is too long for an archive, or the machine's architecture has no name here.
    pub fn archive(&self) -> Result<Vec<u8>, Error> {
        let document = |cause| Error::Document { image: self.name.clone(), cause };
        let tarred = |cause| Error::Archive { image: self.name.clone(), cause };
        let mut blobs = Blobs::default();
        let layer = blobs.add(LAYER, layer(&self.files).map_err(tarred)?);
        let config = self.config(layer.digest.clone())?;
        let config = blobs.add(CONFIG, serde_json::to_vec(&config).map_err(document)?);
        let manifest = Manifest { schema_version: 2, media_type: MANIFEST, config, layers: [layer] };
        let mut manifest = blobs.add(MANIFEST, serde_json::to_vec(&manifest).map_err(document)?);
        // The first is what containerd calls the image; the second is the specification's, for a tag alone.
        manifest.annotations.insert("io.containerd.image.name", self.name.clone());
        let tag = self.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        manifest.annotations.insert("org.opencontainers.image.ref.name", tag.to_owned());
        let index = Index { schema_version: 2, media_type: INDEX, manifests: [manifest] };
        let layout = Layout { image_layout_version: "1.0.0" };
        let mut all = Files::default();
        let invalid = |path: crate::InvalidPath| tarred(io::Error::other(path));
        for (name, content) in blobs.0 {
            all.file(&format!("/blobs/sha256/{name}"), 0o644, content).map_err(invalid)?;
        }
        all.file("/index.json", 0o644, serde_json::to_vec(&index).map_err(document)?).map_err(invalid)?;
        all.file("/oci-layout", 0o644, serde_json::to_vec(&layout).map_err(document)?).map_err(invalid)?;
        self::layer(&all).map_err(tarred)
    }

    fn config(&self, layer: String) -> Result<Config<'_>, Error> {
        let run = Run {
            user: &self.user,
            env: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            entrypoint: &self.entrypoint,
            cmd: &self.command,
            working_dir: "/",
            labels: &self.labels,
        };
        let history = [History { created: CREATED, created_by: "weft-image" }];
        let rootfs = RootFs { kind: "layers", diff_ids: [layer] };
        Ok(Config {
            created: CREATED,
            architecture: architecture()?,
            os: "linux",
            config: run,
            rootfs,
            history,
        })
    }
}

/// SHA-256 in hexadecimal, as blobs are named.
pub fn digest(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// Go's names, which the specification prescribes.
fn architecture() -> Result<&'static str, Error> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => Err(Error::Architecture(other.to_owned())),
    }
}

#[derive(Default)]
struct Blobs(BTreeMap<String, Vec<u8>>);

impl Blobs {
    fn add(&mut self, media_type: &'static str, content: Vec<u8>) -> Descriptor {
        let name = digest(&content);
        let (digest, size) = (format!("sha256:{name}"), content.len());
        self.0.insert(name, content);
        Descriptor { media_type, digest, size, annotations: BTreeMap::new() }
    }
}

/// A tar archive in which nothing depends on when, where or by whom it was made.
fn layer(files: &Files) -> io::Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    for (path, entry) in files.iter() {
        let mut header = Header::new_gnu();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        match entry {
            Entry::Folder { mode } => {
                header.set_entry_type(EntryType::Directory);
                header.set_mode(*mode);
                archive.append_data(&mut header, format!("{path}/"), io::empty())?;
            }
            Entry::File { mode, content } => {
                header.set_entry_type(EntryType::Regular);
                header.set_mode(*mode);
                header.set_size(content.len() as u64);
                archive.append_data(&mut header, path, content.as_slice())?;
            }
            Entry::Link { target } => {
                header.set_entry_type(EntryType::Symlink);
                header.set_mode(0o777);
                archive.append_link(&mut header, path, target)?;
            }
        }
    }
    archive.into_inner()
}

#[cfg(test)]
mod tests;
