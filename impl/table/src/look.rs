//! The questions of the operator's commands that the trait does not have.

use vellum_storage::{Draft, Oid, Result, Tid, TransactionMeta, Version};

use crate::storage::TableStorage;

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
