//! The file in which hints are kept over a restart.

use std::io;
use std::path::Path;

/// A file of hints has no more bytes.
const HINTS_BYTES_MAX: u64 = 256 << 20;

/// The bytes of a file of hints; none if there is no such file, or it is too long.
pub fn read(path: &Path) -> Option<Vec<u8>> {
    let length = std::fs::metadata(path).ok()?.len();
    if length > HINTS_BYTES_MAX { None } else { std::fs::read(path).ok() }
}

/// Keeps hints: a process that ends during that leaves the old ones or the new ones.
pub fn keep(path: &Path, hints: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    std::fs::write(&beside, hints)?;
    std::fs::rename(&beside, path)
}
