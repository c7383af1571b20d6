//! Where things are: the checkout, and the cache beside it that outlives it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The checkout's top folder.
pub(crate) fn checkout() -> PathBuf {
    // The manifest is integration/xtask/Cargo.toml.
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The cache: `$WEFT_CACHE`, else `$XDG_CACHE_HOME/weft`, else `~/.cache/weft`.
#[allow(clippy::disallowed_methods)] // a developer task, not a component: there is no settings file to read this from
pub(crate) fn directory() -> Result<PathBuf> {
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from);
    from("WEFT_CACHE")
        .or_else(|| from("XDG_CACHE_HOME").map(|home| home.join("weft")))
        .or_else(|| from("HOME").map(|home| home.join(".cache/weft")))
        .context("no cache directory: set WEFT_CACHE or HOME")
}

/// The folder of one tool and version. It is there only when it is whole: it is filled under another name first.
pub(crate) fn tool(name_and_version: &str) -> Result<PathBuf> {
    Ok(directory()?.join("tools").join(name_and_version))
}

/// Fills the folder of a tool, unless it is there: `fill` gets an empty folder, which takes its name at the end.
pub(crate) fn once(name_and_version: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let place = tool(name_and_version)?;
    if place.exists() {
        return Ok(place);
    }
    let draft = place.with_file_name(format!("{name_and_version}.{}.draft", std::process::id()));
    std::fs::create_dir_all(&draft).with_context(|| format!("making {}", draft.display()))?;
    let filled = fill(&draft);
    if filled.is_err() {
        // What is left of a failed attempt helps nobody, and its removal may fail for the same reason.
        let _ = std::fs::remove_dir_all(&draft);
    }
    filled?;
    std::fs::rename(&draft, &place).with_context(|| format!("naming {}", place.display()))?;
    Ok(place)
}
