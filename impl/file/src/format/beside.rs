//! Names of files that stand beside a database and begin with its name.

use std::path::{Path, PathBuf};

/// The file's name with something behind it.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
