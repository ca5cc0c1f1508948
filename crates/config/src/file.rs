//! Files that a configuration names. Reading their contents is left to those who use them.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::diagnostics::Diagnostics;
use crate::path::ConfigPath;

/// Reports a file that doesn't exist or can't be opened.
pub(crate) fn require_readable(path: &Path, at: &ConfigPath, diagnostics: &mut Diagnostics) {
    let name = path.display();
    match fs::File::open(path).and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_dir() => {
            diagnostics.error(at, format!("`{name}` is a folder"), "name a file");
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let remedy = "check the path; relative paths start at the folder of the config file";
            diagnostics.error(at, format!("`{name}` does not exist"), remedy);
        }
        Err(error) => {
            let problem = format!("failed to read `{name}`: {error}");
            diagnostics.error(at, problem, "check the file's permissions");
        }
    }
}
