//! Nomad, in the version that can be built from its Go module.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::go;
use crate::cache;

/// The agent, which is server and client.
pub(super) fn agent(name: &str) -> Result<PathBuf> {
    // Its drivers hold runc's library, which is partly C.
    let build = |draft: &Path| go::build_with_c("nomad", &["github.com/hashicorp/nomad"], draft);
    let place = cache::once(name, build)?;
    Ok(place.join("nomad"))
}
