//! Identity of an open file, by which a path shows that the file was deleted or replaced. It must not
//! hold what is in the file.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// File that is open at a path.
#[derive(Clone, Debug)]
pub(crate) struct OpenFile {
    path: PathBuf,
    /// Device and inode; none if the path has no file of its own, as a database in memory.
    identity: Option<(u64, u64)>,
}

impl OpenFile {
    /// Remembers the file that is at `path` now.
    pub(crate) fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            identity: identity(path),
        }
    }

    /// Returns the path if the file isn't there any more.
    pub(crate) fn missing_path(&self) -> Option<PathBuf> {
        let is_lost = self.identity.is_some() && identity(&self.path) != self.identity;
        is_lost.then(|| self.path.clone())
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_deleted_or_replaced_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "1").unwrap();
        let file = OpenFile::at(&path);
        std::fs::write(&path, "12").unwrap();
        assert_eq!(file.missing_path(), None);
        std::fs::write(folder.path().join("other"), "12").unwrap();
        std::fs::rename(folder.path().join("other"), &path).unwrap();
        assert_eq!(file.missing_path(), Some(path.clone()));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(file.missing_path(), Some(path));
        assert_eq!(OpenFile::at(Path::new(":memory:")).missing_path(), None);
    }
}
