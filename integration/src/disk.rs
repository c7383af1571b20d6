//! A small file system in memory, to be filled to the last byte. Mounting needs rights; without them that is said.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::skipped;

/// A small file system, which goes with its handle.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where it is not permitted; that is said.
    ///
    /// # Errors
    /// When the directory can't be made.
    pub fn mount(path: &Path, what: &str) -> Result<Option<Self>> {
        std::fs::create_dir_all(path)?;
        let mut command = Command::new("mount");
        let mounted = command.args(["-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs"]).arg(path).output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Some(Self(path.to_owned()))),
            Ok(output) => {
                skipped(what, &format!("mount: {}", String::from_utf8_lossy(&output.stderr).trim()));
                Ok(None)
            }
            Err(error) => {
                skipped(what, &format!("mount: {error}"));
                Ok(None)
            }
        }
    }

    /// Leaves not a byte.
    ///
    /// # Errors
    /// When it does not become full.
    pub fn fill(&self) -> Result<()> {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.filler())?;
        for piece in [4096, 1] {
            while file.write_all(&vec![b'x'; piece]).is_ok() {}
        }
        let refused = std::fs::write(self.0.join("probe"), "x").err().context("the disk is not full")?;
        anyhow::ensure!(refused.kind() == std::io::ErrorKind::StorageFull, "{refused}");
        Ok(std::fs::remove_file(self.0.join("probe"))?)
    }

    /// Gives the space back.
    ///
    /// # Errors
    /// When it was not filled.
    pub fn free(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the processes end a moment later, with their handles.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
