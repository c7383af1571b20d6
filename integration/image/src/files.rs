//! The files of an image: a tree by path, in order. A file's folders need not be named.

use std::collections::BTreeMap;

/// What is in an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<String, Entry>);

/// One thing of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    Folder { mode: u32 },
    File { mode: u32, content: Vec<u8> },
    Link { target: String },
}

/// A path that is not one of an image.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no path of an image: absolute, without empty parts, . and ..")]
pub struct InvalidPath(String);

impl Files {
    /// Adds a file.
    ///
    /// # Errors
    /// When the path is none.
    pub fn file(
        &mut self,
        path: &str,
        mode: u32,
        content: impl Into<Vec<u8>>,
    ) -> Result<&mut Self, InvalidPath> {
        self.add(path, Entry::File { mode, content: content.into() })
    }

    /// Adds a folder, for one that is empty or has rights of its own.
    ///
    /// # Errors
    /// When the path is none.
    pub fn folder(&mut self, path: &str, mode: u32) -> Result<&mut Self, InvalidPath> {
        self.add(path, Entry::Folder { mode })
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// When the path is none.
    pub fn link(&mut self, path: &str, target: &str) -> Result<&mut Self, InvalidPath> {
        self.add(path, Entry::Link { target: target.to_owned() })
    }

    fn add(&mut self, path: &str, entry: Entry) -> Result<&mut Self, InvalidPath> {
        let wrong = || InvalidPath(path.to_owned());
        let inside = path.strip_prefix('/').ok_or_else(wrong)?;
        if inside.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(wrong());
        }
        for (at, _) in inside.match_indices('/') {
            self.0.entry(inside[..at].to_owned()).or_insert(Entry::Folder { mode: 0o755 });
        }
        self.0.insert(inside.to_owned(), entry);
        Ok(self)
    }

    /// In the order of the archive: a folder stands before what is in it, as its path is the beginning of theirs.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.0.iter().map(|(path, entry)| (path.as_str(), entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_with_their_files_and_before_them() {
        let mut files = Files::default();
        files.file("/usr/bin/weft", 0o755, "x").unwrap().folder("/tmp", 0o1777).unwrap();
        let paths: Vec<&str> = files.iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["tmp", "usr", "usr/bin", "usr/bin/weft"]);
    }

    #[test]
    fn a_folder_of_its_own_rights_keeps_them_when_a_file_comes_into_it() {
        let mut files = Files::default();
        files.folder("/tmp", 0o1777).unwrap().file("/tmp/a", 0o644, "").unwrap();
        assert_eq!(files.iter().next(), Some(("tmp", &Entry::Folder { mode: 0o1777 })));
    }

    #[test]
    fn paths_that_are_relative_or_lead_elsewhere_are_refused() {
        for path in ["", "/", "bin/weft", "/bin//weft", "/../etc", "/bin/./weft", "/bin/"] {
            assert_eq!(Files::default().file(path, 0o644, "").err(), Some(InvalidPath(path.to_owned())));
        }
    }
}
