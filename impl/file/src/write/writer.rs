//! The writing side of a storage: locks, pledges, the commit queue.

use std::sync::Arc;

use vellum_disk::Lock;
use vellum_storage::{ObjectLocks, Oid};
use vellum_sync::{Mutex, RwLock};

use crate::order;
use crate::read::database::Database;
use crate::write::commit::Committer;
use crate::write::oids::Oids;
use crate::write::pledge::Pledges;

/// An open file with everything that changes it.
#[derive(Debug)]
pub(crate) struct Writer {
    pub database: Database,
    pub oids: Oids,
    /// The objects and versions of transactions between vote and finish.
    pub locks: Arc<ObjectLocks>,
    /// Held for reading while a transaction is judged, until its records are among the pledges: both speak in
    /// positions.
    pub judging: RwLock<(), order::Judging>,
    pub pledges: Pledges,
    pub committer: Committer,
    /// Held by a pack. Only tried, so it has no rank.
    pub packing: Mutex<()>,
    /// Given back last of all.
    _lock: Option<Box<dyn Lock>>,
}

impl Writer {
    /// `last`: the largest oid in the file. `lock`: that of the file, unless it is open for reading only.
    pub fn new(database: Database, last: Oid, lock: Option<Box<dyn Lock>>) -> Writer {
        Writer {
            database,
            oids: Oids::after(last),
            locks: Arc::default(),
            judging: RwLock::default(),
            pledges: Pledges::default(),
            committer: Committer::default(),
            packing: Mutex::default(),
            _lock: lock,
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // After a failure the next opening needs the journal.
        if !self.committer.is_failed()
            && let Err(e) = self.committer.journal.close(&self.database.now())
        {
            tracing::warn!("{}: the journal is left, and the next opening uses it: {e}", self.database.name());
        }
        if let Err(e) = self.database.save_index() {
            tracing::warn!("{e}");
        }
    }
}
