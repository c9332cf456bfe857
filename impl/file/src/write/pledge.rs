//! What transactions between vote and finish will write (rule 4.9).
//!
//! A vote is a promise: it is finished as it was voted, whatever comes in between. What it will write speaks of positions (it
//! shares the data of a record, it has one under it), so a pack has to know of it: it keeps those records, and when it
//! puts its file in place it says where they are now.

use std::sync::{Arc, Weak};

use vellum_disk::DiskFile;
use vellum_sync::{Mutex, MutexGuard};

use crate::write::record::NewRecord;

/// What one transaction will write.
#[derive(Debug)]
pub(crate) struct Pledge {
    records: Mutex<Vec<NewRecord>>,
    /// Where data of it lies that does not stay in memory.
    pub scratch: Option<Arc<dyn DiskFile>>,
}

impl Pledge {
    /// Its records. Whoever writes them takes them away.
    pub fn records(&self) -> MutexGuard<'_, Vec<NewRecord>> {
        self.records.lock()
    }
}

/// All that there are, as long as somebody holds them.
#[derive(Debug, Default)]
pub(crate) struct Pledges(Mutex<Vec<Weak<Pledge>>>);

impl Pledges {
    /// Adds one. Only while [`judging`](crate::write::writer::Writer::judging) is held since its positions were found.
    pub fn add(&self, records: Vec<NewRecord>, scratch: Option<Arc<dyn DiskFile>>) -> Arc<Pledge> {
        let pledge = Arc::new(Pledge { records: Mutex::new(records), scratch });
        let mut all = self.0.lock();
        if all.len() == all.capacity() {
            all.retain(|pledge| pledge.strong_count() > 0);
        }
        all.push(Arc::downgrade(&pledge));
        pledge
    }

    /// Those that somebody holds.
    pub fn all(&self) -> Vec<Arc<Pledge>> {
        self.0.lock().iter().filter_map(Weak::upgrade).collect()
    }
}
