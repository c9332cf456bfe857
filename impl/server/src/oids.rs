//! Oids that were given out are never given out again, whether they were used or not.
//!
//! A client asks for a hundred oids and uses them one by one, also after it has lost its server and found it again. A
//! storage knows only the oids that are in it. So a server that is started again would give out those that a client
//! still has, and two objects would get one oid. ZEO 6.2 does that.
//!
//! A file beside the database holds an oid that is greater than all that were given out:
//!
//! ```text
//!   used ─────────┤ given out ────┤        marked │
//!                                 └ the next one   └ a restarted server continues here
//! ```
//!
//! The mark is on the disk before an oid below it is given out, and it is moved in large steps.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use vellum_storage::{Oid, Storage};
use vellum_sync::Mutex;

/// So many oids are marked at once.
const STEP: u64 = 10_000;
/// So many are passed over at once.
const SKIPPED_MAX: u64 = 1 << 20;

/// The mark of a storage's oids.
#[derive(Debug)]
pub struct OidMark {
    path: PathBuf,
    /// The greatest oid that may be given out before the mark is moved.
    marked: Mutex<Oid>,
}

impl OidMark {
    /// Reads the mark of a storage, and has the storage go on after it. There is none before the first oid is given
    /// out.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or holds no oid; the storage gives out no oids.
    pub fn open(path: impl Into<PathBuf>, storage: &dyn Storage) -> io::Result<OidMark> {
        let path = path.into();
        let marked = match fs::read_to_string(&path) {
            Ok(text) => parse(&text).ok_or_else(|| {
                let why = format!(
                    "{} holds no oid in 16 hex digits: restore it, or remove it if no client is left",
                    path.display()
                );
                io::Error::new(io::ErrorKind::InvalidData, why)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(OidMark { path, marked: Mutex::default() });
            }
            Err(error) => return Err(error),
        };
        let next = |count| storage.new_oids(count).map_err(io::Error::other);
        let mut last = next(1)?[0];
        while last < marked {
            let count = (marked.0 - last.0).min(SKIPPED_MAX) as u32;
            last = next(count)?.last().copied().unwrap_or(marked);
        }
        Ok(OidMark { path, marked: Mutex::new(marked) })
    }

    /// Gives out oids.
    ///
    /// # Errors
    ///
    /// The storage gives out no oids; the mark cannot be moved. Then none is given out.
    pub(crate) fn new_oids(&self, storage: &dyn Storage, count: u32) -> vellum_storage::Result<Vec<Oid>> {
        let oids = storage.new_oids(count)?;
        let last = oids.last().copied().unwrap_or_default();
        let mut marked = self.marked.lock();
        if last > *marked {
            let next = Oid(last.0.saturating_add(STEP));
            write(&self.path, next).map_err(|source| vellum_storage::Error::Io {
                path: self.path.clone(),
                doing: "marking oids as given out; none was".to_owned(),
                source,
            })?;
            *marked = next;
        }
        Ok(oids)
    }
}

fn parse(text: &str) -> Option<Oid> {
    let digits = text.trim_end();
    let is_oid = digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u64::from_str_radix(digits, 16).ok().filter(|_| is_oid).map(Oid)
}

/// Puts the mark on the disk. After a crash the file holds the mark before or this one.
fn write(path: &Path, mark: Oid) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let mut file = File::create(&new)?;
    writeln!(file, "{mark}")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use vellum_storage::MemoryStorage;

    use super::*;

    #[test]
    fn no_oid_is_given_out_twice_over_many_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Data.fs.oids");
        let mut seen = BTreeSet::new();
        for restart in 0..5 {
            // No given oid was used: the storage knows none of them.
            let storage = MemoryStorage::new("memory");
            let mark = OidMark::open(&path, &storage).unwrap();
            for count in [1, 100, 100, STEP as u32 / (restart + 1), 1] {
                for oid in mark.new_oids(&storage, count).unwrap() {
                    assert!(seen.insert(oid), "{oid} was given out before");
                }
            }
        }
    }

    #[test]
    fn a_mark_that_is_none_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Data.fs.oids");
        for text in ["", "17", "0000000000000011 and more", "000000000000001g", "+00000000000001f"] {
            fs::write(&path, text).unwrap();
            let error = OidMark::open(&path, &MemoryStorage::new("memory")).unwrap_err().to_string();
            assert!(error.contains("holds no oid"), "{text}: {error}");
        }
    }
}
