//! Consul, in the newest version that can be built and in the oldest that we serve.

use std::path::PathBuf;

use anyhow::Result;

use super::{apt, go};
use crate::cache;

/// Built from its Go module.
pub(super) fn current(name: &str) -> Result<PathBuf> {
    let place = cache::once(name, |draft| go::build("consul", &["github.com/hashicorp/consul"], "", draft))?;
    Ok(place.join("consul"))
}

/// Debian 11's package, unpacked; the suite may vanish one day, then its tests say so.
pub(super) fn oldest(name: &str) -> Result<PathBuf> {
    let place = cache::once(name, |draft| apt::unpack("bullseye", "consul", "usr/bin/consul", draft))?;
    Ok(place.join("consul"))
}
