//! Replaces a private file so that a crash, a power cut or a full disk leaves the old one or the new one, whole.
//!
//! Written beside its place, flushed, renamed, and the directory flushed. The temporary file has one name for each place
//! and not a random one: what a crash leaves is overwritten by the next write and does not pile up. So of one place there
//! is one writer at a time; the caller has a lock, or a name that nobody else has. What is in the files, and who may
//! open the directory, is the caller's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Replaces the file at `path` by one of this content that only its owner can read.
///
/// # Errors
/// When the disk is full or the directory not writable. The old file is then as it was, unless only flushing the
/// directory failed.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_with(path, |file| file.write_all(content))
}

/// As [`replace`], of content that `write` writes piece by piece.
///
/// # Errors
/// As [`replace`]; also that of `write`.
pub fn replace_with(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = temporary(path)?;
    // Made anew: the mode of a file that is already there, or where a link leads, would be somebody else's choice.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let replaced = write_flushed(&temporary, write).and_then(|()| fs::rename(&temporary, path));
    if replaced.is_err() {
        // Half a file is of no use to anybody; if it can't go either, the next write removes it.
        _ = fs::remove_file(&temporary);
    }
    replaced?;
    File::open(directory(path))?.sync_all()
}

fn write_flushed(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let mut file = BufWriter::new(OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?);
    write(&mut file)?;
    file.flush()?;
    file.get_ref().sync_all()
}

/// `.name.new`, in the same directory: a rename between file systems is none.
fn temporary(path: &Path) -> io::Result<PathBuf> {
    let name =
        path.file_name().ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "not a file's path"))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".new");
    Ok(path.with_file_name(hidden))
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_new_file_is_there_alone_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        fs::write(&path, "a longer old one").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!((fs::read(&path).unwrap().as_slice(), mode(&path)), (b"new".as_slice(), 0o600));
        assert_eq!(names(directory.path()), ["key.pem"]);
    }

    #[test]
    fn a_write_that_fails_half_way_leaves_the_old_file_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        replace(&path, b"old").unwrap();
        let failed = replace_with(&path, |file| {
            file.write_all(b"half")?;
            file.flush()?;
            Err(io::Error::from(ErrorKind::StorageFull))
        });
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(directory.path()), ["state.json"]);
    }

    #[test]
    fn a_rename_that_fails_leaves_no_temporary_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("taken");
        fs::create_dir(&path).unwrap();
        assert!(replace(&path, b"new").is_err());
        assert_eq!(names(directory.path()), ["taken"]);
    }

    #[test]
    fn what_a_crash_left_is_neither_followed_nor_kept() {
        let directory = tempfile::tempdir().unwrap();
        let (path, left) = (directory.path().join("key"), directory.path().join(".key.new"));
        fs::write(&left, "half of an old one").unwrap();
        fs::set_permissions(&left, fs::Permissions::from_mode(0o644)).unwrap();
        replace(&path, b"one").unwrap();
        assert_eq!(mode(&path), 0o600);
        let elsewhere = directory.path().join("elsewhere");
        symlink(&elsewhere, &left).unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert!(!elsewhere.exists() && path.symlink_metadata().unwrap().is_file());
    }

    #[test]
    fn a_path_that_names_no_file_is_refused() {
        assert_eq!(replace(Path::new("/"), b"").unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
