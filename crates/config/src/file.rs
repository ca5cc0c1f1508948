//! Files that a configuration names. Their contents are for others to read.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::findings::{At, Findings};

/// Reports a file that is not there or can't be opened.
pub(crate) fn must_be_readable(path: &Path, at: &At, findings: &mut Findings) {
    let shown = path.display();
    let remedy = "relative paths are relative to the folder of the config file";
    match fs::File::open(path).and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_dir() => {
            findings.error(at, format!("`{shown}` is a folder"), "name a file in it");
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            findings.error(at, format!("`{shown}` does not exist"), remedy);
        }
        Err(error) => {
            let what = format!("`{shown}` can't be read: {error}");
            findings.error(at, what, "check its permissions");
        }
    }
}
