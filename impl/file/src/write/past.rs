//! The answers of the file to the questions of part 3 of the rules, in positions.

use std::cmp::Reverse;
use std::sync::Arc;

use arc_swap::Guard;
use bytes::Bytes;
use vellum_blob::BlobFiles;
use vellum_storage::{Blob, Oid, Past, PastRevision, Result, Tid, Version};
use vellum_sync::RwLockReadGuard;

use crate::format::record::Record;
use crate::read::generation::Generation;
use crate::read::log;
use crate::read::undo;

/// The data file of the moment, which no pack replaces while this is held: a verdict holds positions of it.
pub(crate) struct Now<'a> {
    pub generation: Guard<Arc<Generation>>,
    pub _judging: RwLockReadGuard<'a, ()>,
    pub blobs: Option<&'a BlobFiles>,
}

impl Past for Now<'_> {
    type Place = u64;

    fn newest(&self, oid: Oid) -> Result<Option<PastRevision<u64>>> {
        Ok(self.generation.newest_header(oid)?.map(revision))
    }

    fn revisions(&self, oid: Oid) -> Result<impl Iterator<Item = Result<PastRevision<u64>>>> {
        let now = &**self.generation;
        let newest = now.newest_header(oid)?;
        let mut past = newest.map(|newest| log::Past::new(&now.log, oid, newest.position, now.horizon.end()));
        Ok(std::iter::from_fn(move || past.as_mut()?.older().transpose().map(|record| record.map(revision))))
    }

    fn find(&self, oid: Oid, tid: Tid) -> Result<Option<PastRevision<u64>>> {
        Ok(self.generation.record_in(oid, tid)?.map(revision))
    }

    fn source(&self, oid: Oid, place: u64) -> Result<Option<u64>> {
        let record = self.generation.log.header(oid, place, self.generation.horizon.end())?;
        Ok(Some(record.backpointer).filter(|source| record.header.data_length == 0 && *source != 0))
    }

    fn data(&self, oid: Oid, place: u64) -> Result<Option<Bytes>> {
        self.generation.data_at(oid, place)
    }

    fn blob(&self, oid: Oid, place: u64) -> Result<Option<Blob>> {
        let Some(blobs) = self.blobs else { return Ok(None) };
        blobs.find(oid, self.generation.log.header(oid, place, self.generation.horizon.end())?.header.tid)
    }

    fn undoable(&self, tid: Tid) -> Result<Option<Vec<Oid>>> {
        undo::undoable(&self.generation, tid)
    }

    fn in_version(&self, version: &Version) -> Result<Vec<PastRevision<u64>>> {
        let mut found = Vec::new();
        for oid in self.generation.versions(|table| table.objects(version))? {
            // The table may be behind the horizon, or ahead of this moment.
            found.extend(self.newest(oid)?.filter(|revision| revision.version == *version));
        }
        found.sort_by_key(|revision| Reverse(revision.place));
        Ok(found)
    }

    /// The table knows them without a read.
    fn objects_in(&self, version: &Version) -> Result<Vec<Oid>> {
        self.generation.versions(|table| table.objects(version))
    }
}

/// A record in the file, as part 3 sees it.
pub(crate) fn revision(record: Record) -> PastRevision<u64> {
    let base = record.in_version.as_ref().map(|version| version.trunk).filter(|base| *base != 0);
    PastRevision {
        oid: record.header.oid,
        tid: record.header.tid,
        place: record.position,
        version: record.version(),
        base,
    }
}
