//! The journal of a file storage.

use std::io;

use vellum_storage::{Error, Result};

use super::FileStorage;
use crate::journal::LeftJournal;
use crate::journal::rounds::Rounds;
use crate::options::{Durability, Options};

impl FileStorage {
    /// Returns the journal that the opening found beside the file; none if there was none. If the storage is open for
    /// writing, the file was completed from it, and it is gone. If it is open for reading only, the storage shows the
    /// file as it will be then, unless [`LeftJournal::is_refused`].
    pub fn left_journal(&self) -> Option<&LeftJournal> {
        self.journal.as_ref().as_ref()
    }

    /// Makes the journal, if commits go to one.
    pub(super) fn begin_journal(&self) -> Result<()> {
        let (database, now) = (self.database(), self.now());
        let Options { durability, read_only, disk, journal_bytes, threads, .. } = &database.options;
        if *read_only || *durability != Durability::Journal {
            return Ok(());
        }
        // The journal relies on everything before its first entry.
        now.log.file.sync().map_err(|e| Error::io(&database.path, "syncing the file before a journal is begun", e))?;
        match Rounds::create(disk, &database.path, *journal_bytes, *threads > 1) {
            Ok(rounds) => self.writer.committer.journal.begin(rounds),
            Err(e) if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => tracing::warn!(
                "{}: there is no room for a journal, so each commit syncs twice: {e}",
                database.path.display()
            ),
            Err(e) => return Err(Error::io(&database.path, "making the journal", e)),
        }
        Ok(())
    }
}
