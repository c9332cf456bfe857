//! The answers of the tables to part 3 of the rules.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use vellum_blob::BlobFiles;
use vellum_storage::{Blob, Oid, Past, PastRevision, Result, Status, Tid, Version};

use crate::store::Moment;
use crate::tables::{Access, Tables, Writing};
use crate::view::At;

impl<A: Access> Tables<A> {
    /// Rule 4.12: whether a transaction that holds the object may name this revision. A history-free database may
    /// forget the others before the transaction is finished.
    fn lasts(&self, oid: Oid, tid: Tid) -> Result<bool> {
        if !self.facts.is_history_free {
            return Ok(true);
        }
        Ok(self.newest(oid)?.is_some_and(|newest| newest.tid == tid || newest.row.base == Some(tid)))
    }

    fn past_revision(&self, at: At) -> Result<PastRevision<Tid>> {
        let version = self.version(at.row.version)?;
        Ok(PastRevision { oid: at.oid, tid: at.tid, place: at.tid, version, base: self.base(&at)? })
    }
}

/// Tables that can be asked, with their blobs.
pub(crate) struct Asked<'b, T> {
    pub tables: T,
    pub blobs: Option<&'b BlobFiles>,
}

/// The answers of tables of either kind. (One `impl` for both would have to name a lifetime that the trait does not.)
macro_rules! answers {
    ([$($lifetimes:tt)*] $asked:ty) => {
        impl<$($lifetimes)*> Past for $asked {
            type Place = Tid;

            fn newest(&self, oid: Oid) -> Result<Option<PastRevision<Tid>>> {
                self.tables.newest(oid)?.map(|at| self.tables.past_revision(at)).transpose()
            }

            fn revisions(&self, oid: Oid) -> Result<impl Iterator<Item = Result<PastRevision<Tid>>>> {
                Ok(self.tables.past(oid).map(|at| self.tables.past_revision(at?)))
            }

            fn find(&self, oid: Oid, tid: Tid) -> Result<Option<PastRevision<Tid>>> {
                if !self.tables.lasts(oid, tid)? {
                    return Ok(None);
                }
                self.tables.at(oid, tid)?.map(|at| self.tables.past_revision(at)).transpose()
            }

            fn source(&self, oid: Oid, tid: Tid) -> Result<Option<Tid>> {
                Ok(self.tables.at(oid, tid)?.and_then(|at| at.source()))
            }

            fn data(&self, oid: Oid, tid: Tid) -> Result<Option<Bytes>> {
                self.tables.at(oid, tid)?.map_or(Ok(None), |at| self.tables.data_of(&at))
            }

            fn blob(&self, oid: Oid, tid: Tid) -> Result<Option<Blob>> {
                self.blobs.map_or(Ok(None), |blobs| blobs.find(oid, tid))
            }

            fn undoable(&self, tid: Tid) -> Result<Option<Vec<Oid>>> {
                let Some(head) = self.tables.head(tid)? else { return Ok(None) };
                // Rule 4.12.
                if self.tables.facts.is_history_free {
                    return Ok(None);
                }
                if self.tables.status(tid, &head) != Status::Complete {
                    return Ok(None);
                }
                let mut seen = HashSet::new();
                Ok(Some(head.revisions.into_iter().map(|(oid, _)| oid).filter(|oid| seen.insert(*oid)).collect()))
            }

            fn in_version(&self, version: &Version) -> Result<Vec<PastRevision<Tid>>> {
                if version.is_trunk() {
                    return Ok(Vec::new());
                }
                let Some(number) = self.tables.version_number(version)? else { return Ok(Vec::new()) };
                // By their numbers: the later one has the greater.
                let mut found = BTreeMap::new();
                for oid in self.tables.objects_in(number)? {
                    if let Some(at) = self.tables.newest(oid)? {
                        found.insert(at.row.number, at);
                    }
                }
                found.into_values().rev().map(|at| self.tables.past_revision(at)).collect()
            }
        }
    };
}

answers!(['b] Asked<'b, Moment>);
answers!(['a, 'b, 't] Asked<'b, &'a Tables<Writing<'t>>>);
