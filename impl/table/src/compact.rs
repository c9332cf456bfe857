//! Giving back the space that packs have freed, of a database that nobody has open.

use std::path::Path;

use vellum_disk::Open;
use vellum_storage::Error;

use crate::options::{OpenError, Options};
use crate::store::Store;

/// What was given back to the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes of the file before.
    pub before: u64,
    /// Bytes of it now.
    pub after: u64,
}

impl Options {
    /// Moves the pages of a closed database to the beginning of its file, and cuts the file behind them.
    ///
    /// A pack frees pages inside the file, for later commits. This gives them back to the system. It writes about as
    /// much as the tables have, and no commit can go on beside it. A crash in the middle loses nothing.
    ///
    /// # Errors
    ///
    /// As [`Options::open`]; or the disk fails, and the database is as it was or compacted in part.
    pub fn compact(&self, path: impl AsRef<Path>) -> Result<Compacted, OpenError> {
        let store = Store::open(self, path.as_ref(), Open::ReadWrite)?;
        let before = store.size()?;
        store.compact()?;
        let file = self.disk.open(path.as_ref(), Open::Read).and_then(|file| file.len());
        let after = file.map_err(|e| Error::io(path.as_ref(), "asking for its length", e))?;
        Ok(Compacted { before, after })
    }
}
