//! Container images from scratch: files, and what runs, become one OCI archive.
//!
//! Pure: the same files give the same bytes on every machine and on every day, so an image can be checked by building it
//! again. No times, no owners but root, names in order, JSON from structs and not from maps. One layer, not compressed:
//! what is inside is a static program, and compressors change their output between versions. Nothing is read from the
//! disk here and nothing is written.

mod archive;
mod files;

pub use archive::digest;
pub use files::{Files, InvalidPath};

use std::collections::BTreeMap;

/// An image to be.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its whole name, with the tag: `weft.dev/proxy:0.1.0`.
    pub name: String,
    /// All that is in it.
    pub files: Files,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// The arguments where a pod names none.
    pub command: Vec<String>,
    /// Who runs it, as a number; Kubernetes' `runAsNonRoot` can't judge a name.
    pub user: String,
    /// `org.opencontainers.image.*` and the like.
    pub labels: BTreeMap<String, String>,
}

/// Why an image can't be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An archive can't hold it.
    #[error("writing the archive of {image}: {cause}")]
    Archive {
        /// The image.
        image: String,
        /// What the writer said.
        cause: std::io::Error,
    },
    /// A document can't be written.
    #[error("writing a document of {image}: {cause}")]
    Document {
        /// The image.
        image: String,
        /// What the writer said.
        cause: serde_json::Error,
    },
    /// The machine has an architecture whose name in the registry of images is not known here.
    #[error("no OCI name is known for the architecture {0:?}")]
    Architecture(String),
}
