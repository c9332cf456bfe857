//! The records that transactions between vote and finish will write (rule 4.9).
//!
//! A vote is a promise: the transaction is finished as it was voted, whatever happens in between. A verdict names
//! sources and base revisions by their positions. So a pack looks at all pledges: it keeps the records that they name,
//! and when it puts its file in place, it changes the positions to where these are now.

use std::sync::{Arc, Weak};

use vellum_sync::{Mutex, MutexGuard};

use crate::order;
use crate::write::record::{NewRecord, is_spilled};

/// The records that one transaction will write.
#[derive(Debug)]
pub(crate) struct Pledge {
    records: Mutex<Vec<NewRecord>, order::Pledged>,
    /// Whether data of it waits in a scratch file.
    pub is_spilled: bool,
}

impl Pledge {
    /// Its records. The thread that writes them takes them away.
    pub fn records(&self) -> MutexGuard<'_, Vec<NewRecord>> {
        self.records.lock()
    }
}

/// All pledges, as long as a transaction holds them.
#[derive(Debug, Default)]
pub(crate) struct Pledges(Mutex<Vec<Weak<Pledge>>, order::Pledges>);

impl Pledges {
    /// Adds one. Only while [`judging`](crate::write::writer::Writer::judging) is held since its positions were found.
    pub fn add(&self, records: Vec<NewRecord>) -> Arc<Pledge> {
        let is_spilled = records.iter().any(is_spilled);
        let pledge = Arc::new(Pledge { records: Mutex::ranked(records), is_spilled });
        let mut all = self.0.lock();
        if all.len() == all.capacity() {
            all.retain(|pledge| pledge.strong_count() > 0);
        }
        all.push(Arc::downgrade(&pledge));
        pledge
    }

    /// Those that are held.
    pub fn all(&self) -> Vec<Arc<Pledge>> {
        self.0.lock().iter().filter_map(Weak::upgrade).collect()
    }
}
