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
//! The mark is on the disk before an oid below it is given out, and it is moved in large steps. A storage gives out
//! oids that are greater than all in it. As long as these are not beyond the mark that a server began with, the ones
//! after the mark are given out in their place: they are beyond all in the storage as well.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use vellum_storage::{Error, Oid, Result, Storage};
use vellum_sync::Mutex;

/// So many oids are marked at once.
const STEP: u64 = 10_000;

/// The mark of a storage's oids.
#[derive(Debug)]
pub struct OidMark {
    path: PathBuf,
    given: Mutex<Given>,
}

#[derive(Clone, Copy, Debug)]
struct Given {
    /// The greatest oid that may be given out before the mark is moved.
    marked: Oid,
    /// Those up to here were given out before the storage's own got there.
    ahead: Oid,
}

impl OidMark {
    /// Reads the mark of a storage. There is none before the first oid is given out.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or holds no oid.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<OidMark> {
        let path = path.into();
        let marked = match fs::read_to_string(&path) {
            Ok(text) => parse(&text).ok_or_else(|| {
                let why = format!(
                    "{} holds no oid in 16 hex digits: restore it, or remove it if no client is left",
                    path.display()
                );
                io::Error::new(io::ErrorKind::InvalidData, why)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Oid::default(),
            Err(error) => return Err(error),
        };
        Ok(OidMark { path, given: Mutex::new(Given { marked, ahead: marked }) })
    }

    /// Gives out oids.
    ///
    /// # Errors
    ///
    /// The storage gives out no oids; there are no more; the mark cannot be moved. Then none is given out.
    pub(crate) fn new_oids(&self, storage: &dyn Storage, count: u32) -> Result<Vec<Oid>> {
        let mut given = self.given.lock();
        let mut next = *given;
        let mut oids = storage.new_oids(count)?;
        if oids.first().is_some_and(|first| *first <= next.ahead) {
            let end = next.ahead.0.checked_add(u64::from(count)).filter(|end| *end < Oid::MAX.0);
            let end = end.ok_or(Error::Exhausted { what: "oids" })?;
            oids = (next.ahead.0 + 1..=end).map(Oid).collect();
            next.ahead = Oid(end);
        }
        if let Some(last) = oids.last().filter(|last| **last > next.marked) {
            next.marked = Oid(last.0.saturating_add(STEP));
            write(&self.path, next.marked).map_err(|source| Error::Io {
                path: self.path.clone(),
                doing: "marking oids as given out; none was".to_owned(),
                source,
            })?;
        }
        *given = next;
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

    use vellum_storage::{MemoryStorage, Tid, TransactionMeta};

    use super::*;

    #[test]
    fn no_oid_is_given_out_twice_over_many_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Data.fs.oids");
        let mut seen = BTreeSet::new();
        for restart in 0..5 {
            // No given oid was used: the storage knows none of them.
            let storage = MemoryStorage::new("memory");
            let mark = OidMark::open(&path).unwrap();
            for count in [1, 100, 100, STEP as u32 / (restart + 1), 1] {
                for oid in mark.new_oids(&storage, count).unwrap() {
                    assert!(seen.insert(oid), "{oid} was given out before");
                }
            }
        }
    }

    /// A client may have used an oid far away, or none of those that were given out.
    #[test]
    fn a_mark_far_away_costs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Data.fs.oids");
        let far = 1 << 62;
        fs::write(&path, format!("{far:016x}")).unwrap();
        let storage = MemoryStorage::new("memory");
        let mark = OidMark::open(&path).unwrap();
        assert_eq!(mark.new_oids(&storage, 2).unwrap(), [Oid(far + 1), Oid(far + 2)]);
        assert_eq!(mark.new_oids(&storage, 1).unwrap(), [Oid(far + 3)]);
        assert_eq!(fs::read_to_string(&path).unwrap().trim_end(), Oid(far + 1 + STEP + 1).to_string());
        // One that is in use, further away, is passed over.
        let mut draft = storage.begin(TransactionMeta::new()).unwrap();
        draft.store(Oid(far + 100), Tid::ZERO, "far".into()).unwrap();
        storage.commit(draft).unwrap();
        assert_eq!(mark.new_oids(&storage, 1).unwrap(), [Oid(far + 101)]);
        // At the end there is none, and it says so.
        fs::write(&path, "ffffffffffffff00").unwrap();
        let mark = OidMark::open(&path).unwrap();
        let error = mark.new_oids(&storage, 1000).unwrap_err();
        assert!(matches!(error, Error::Exhausted { .. }), "{error}");
    }

    #[test]
    fn a_mark_that_is_none_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Data.fs.oids");
        for text in ["", "17", "0000000000000011 and more", "000000000000001g", "+00000000000001f"] {
            fs::write(&path, text).unwrap();
            let error = OidMark::open(&path).unwrap_err().to_string();
            assert!(error.contains("holds no oid"), "{text}: {error}");
        }
    }
}
