//! The machine's state of a storage.

use std::collections::{BTreeSet, VecDeque};

use vellum_storage::{Invalidation, Oid, Storage, Tid};

/// A storage that is served.
#[derive(Clone, Debug)]
pub struct Served {
    /// Its name for clients.
    pub(crate) name: String,
    pub(crate) description: Description,
    pub(crate) has_versions: bool,
    /// The last transaction that clients were told of.
    pub(crate) last: Tid,
    /// The changes of the last transactions, the oldest first.
    invalidations: VecDeque<Invalidation>,
    invalidations_max: usize,
    pub(crate) counters: Counters,
}

/// The description of a storage for clients.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Description {
    /// Where it is: of a file, its path.
    pub location: String,
    /// Whether it can undo.
    pub undoes: bool,
    /// Whether all its current records can be asked for, one after the other.
    pub iterates_records: bool,
    /// Whether it keeps blobs.
    pub keeps_blobs: bool,
    /// Whether it only reads.
    pub is_read_only: bool,
    /// The Python interfaces that it provides, by module and name, as ZODB's storage of this kind has them.
    pub interfaces: Vec<(String, String)>,
}

/// Events since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of ZEO's status")]
pub struct Counters {
    pub loads: u64,
    pub stores: u64,
    pub commits: u64,
    pub aborts: u64,
    pub conflicts: u64,
    pub conflicts_resolved: u64,
}

impl Served {
    /// A storage as it is now, under the name that clients call it by. Its events must be listened to already: those
    /// that report transactions that are known from here are ignored.
    ///
    /// # Errors
    ///
    /// The storage cannot be read.
    pub fn new(
        name: impl Into<String>,
        description: Description,
        storage: &dyn Storage,
        invalidations_max: usize,
    ) -> vellum_storage::Result<Served> {
        let invalidations = storage.last_invalidations(invalidations_max)?;
        let has_versions = storage.versions().is_some();
        Ok(Served { has_versions, ..Served::with(name, description, invalidations, invalidations_max) })
    }

    /// A storage without versions, whose last transactions changed these objects, the oldest transaction first.
    pub fn with(
        name: impl Into<String>,
        description: Description,
        invalidations: Vec<Invalidation>,
        invalidations_max: usize,
    ) -> Served {
        let last = invalidations.last().map_or(Tid::ZERO, |newest| newest.tid);
        let (invalidations, counters) = (invalidations.into(), Counters::default());
        let has_versions = false;
        Served { name: name.into(), description, has_versions, last, invalidations, invalidations_max, counters }
    }

    /// The changes of the last transactions, the oldest first.
    pub(crate) fn invalidations(&self) -> impl Iterator<Item = &Invalidation> {
        self.invalidations.iter()
    }

    /// Notes a finished transaction.
    pub(crate) fn note(&mut self, tid: Tid, oids: Vec<Oid>) {
        self.last = tid;
        if self.invalidations.len() >= self.invalidations_max {
            self.invalidations.pop_front();
        }
        self.invalidations.push_back(Invalidation { tid, oids });
    }

    /// Forgets the changes before this: they are unknown.
    pub(crate) fn forget(&mut self, last: Tid) {
        self.last = last;
        self.invalidations.clear();
    }

    /// The objects that were changed after one transaction and up to another, each once; none if that is not known any
    /// more, or if the first is no transaction of this storage: then the client was told of another history, from
    /// before the storage was rolled back.
    pub(crate) fn changed(&self, tid: Tid, last: Tid) -> Option<BTreeSet<Oid>> {
        let is_known = tid >= self.last || self.invalidations.iter().any(|invalidation| invalidation.tid == tid);
        self.invalidations.front().filter(|oldest| oldest.tid <= tid && is_known)?;
        let later = self.invalidations.iter().filter(|invalidation| tid < invalidation.tid && invalidation.tid <= last);
        Some(later.flat_map(|invalidation| &invalidation.oids).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The storage was rolled back to transaction 3, and has another one since: a client that knows 4 or 5 knows
    /// objects that never were.
    #[test]
    fn nothing_is_known_of_the_changes_since_a_transaction_of_another_history() {
        let description = Description {
            location: "memory".to_owned(),
            undoes: true,
            iterates_records: true,
            keeps_blobs: false,
            is_read_only: false,
            interfaces: Vec::new(),
        };
        let told = [2, 3, 6].map(|n| Invalidation { tid: Tid(n), oids: vec![Oid(n)] });
        let mut served = Served::with("1", description, told.to_vec(), 3);
        let changed = |served: &Served, tid| served.changed(Tid(tid), Tid(9)).map(|oids| oids.len());
        assert_eq!([1, 2, 3, 4, 5, 6].map(|tid| changed(&served, tid)), [None, Some(2), Some(1), None, None, Some(0)]);
        served.note(Tid(8), vec![Oid(8)]);
        assert_eq!([2, 3, 6, 7, 8].map(|tid| changed(&served, tid)), [None, Some(2), Some(1), None, Some(0)]);
        served.forget(Tid(9));
        assert_eq!([8, 9].map(|tid| changed(&served, tid)), [None, None]);
    }
}
