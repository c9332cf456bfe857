//! The questions of the operator's commands that the trait does not have.

use vellum_blob::Found;
use vellum_storage::{Draft, Oid, Result, Tid, TransactionMeta, Version};

use crate::storage::TableStorage;

/// So many blobs are looked for in the database when it is opened.
const SAMPLED: usize = 16;

impl TableStorage {
    /// Begins a transaction that can be voted on and cannot be finished, on a storage that is open for reading only: to
    /// see what it would do.
    ///
    /// # Errors
    ///
    /// Metadata too long; a tid asked for that is not later than the last.
    pub fn rehearse(&self, meta: TransactionMeta) -> Result<Draft> {
        self.draft(meta)
    }

    /// Whether the object has a revision of this transaction, and that may have a blob.
    ///
    /// # Errors
    ///
    /// The tables cannot be read.
    pub fn is_revision_of_blob(&self, oid: Oid, tid: Tid) -> Result<bool> {
        let now = self.shared.store.now();
        match now.tables.at(oid, tid)? {
            Some(at) if at.row.data != 0 => now.tables.may_have_blob(at.row.data),
            _ => Ok(false),
        }
    }

    /// Returns one of the blobs that are found first in the blob folder, if the database knows none of them: then the
    /// folder may be another database's.
    pub(crate) fn foreign_blob(&self) -> Option<(Oid, Tid)> {
        let mut foreign = None;
        for found in self.blob_folder()?.walk().take(SAMPLED) {
            let Ok(Found::Blob { oid, tid, .. }) = found else { continue };
            match self.is_revision_of_blob(oid, tid) {
                Ok(false) => foreign = Some((oid, tid)),
                Ok(true) | Err(_) => return None,
            }
        }
        foreign
    }

    /// Returns the objects whose newest revision is in the version, the last changed one first.
    ///
    /// # Errors
    ///
    /// The tables cannot be read.
    pub fn objects_in(&self, version: &Version) -> Result<Vec<Oid>> {
        let now = self.shared.store.now_full();
        let tables = &now.tables;
        let Some(number) = tables.version_number(version)?.filter(|_| !version.is_trunk()) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for oid in tables.objects_in(number)? {
            // A pack may hide it.
            found.extend(tables.newest(oid)?.map(|at| (at.row.number, oid)));
        }
        // By their numbers: the later one has the greater.
        found.sort_unstable_by(|a, b| b.cmp(a));
        Ok(found.into_iter().map(|(_, oid)| oid).collect())
    }
}
