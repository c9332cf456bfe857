//! What the storage in memory answers to part 3 of the rules, to undo and about versions.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;
use vellum_sync::RwLockReadGuard;

use super::blobs::own;
use super::{At, MemoryStorage, State};
use crate::revisions::undoable;
use crate::{
    Blob, Content, Error, Oid, Order, Past, PastRevision, Result, Revision, Status, Tid, TidRange, UndoEntry, UndoLog,
    Verdict, Version, Versions, Write,
};

/// The storage at this moment. Nothing is finished while it is held.
pub(super) struct Now<'a>(RwLockReadGuard<'a, State>);

impl<'a> Now<'a> {
    pub fn new(state: RwLockReadGuard<'a, State>) -> Now<'a> {
        Now(state)
    }

    /// What a verdict writes, as the list of transactions keeps it.
    pub fn revisions_of(&self, verdict: &Verdict) -> Result<Vec<Revision>> {
        let mut revisions: Vec<_> =
            verdict.writes.iter().map(|write| self.revision_of(write)).collect::<Result<_>>()?;
        // Rule 8.1: what is written over has no blob.
        let mut seen = HashSet::new();
        for revision in revisions.iter_mut().rev().filter(|revision| !seen.insert(revision.oid)) {
            revision.blob = None;
        }
        Ok(revisions)
    }

    fn revision_of(&self, Write { oid, version, base, content }: &Write) -> Result<Revision> {
        let (data, blob, source) = match content {
            Content::Data(data) => (Some(data.bytes()?), data.blob().map(own).transpose()?, None),
            Content::Shared(tid) => (self.data(*oid, *tid)?, self.blob(*oid, *tid)?, Some(*tid)),
            Content::Tombstone => (None, None, None),
        };
        Ok(Revision { oid: *oid, version: version.clone(), data, blob, source, base: *base })
    }

    fn at(&self, oid: Oid, tid: Tid) -> Result<At<'_>> {
        self.0.at(oid, tid).ok_or(Error::KeyError { oid, tid: Some(tid) })
    }
}

fn past_revision(at: At<'_>) -> PastRevision<Tid> {
    let Revision { oid, version, base, .. } = at.revision;
    let tid = at.transaction.tid;
    PastRevision { oid: *oid, tid, place: tid, version: version.clone(), base: *base }
}

impl Past for Now<'_> {
    type Place = Tid;

    fn newest(&self, oid: Oid) -> Result<Option<PastRevision<Tid>>> {
        Ok(self.0.newest(oid).map(past_revision))
    }

    fn revisions(&self, oid: Oid) -> Result<impl Iterator<Item = Result<PastRevision<Tid>>>> {
        Ok(self.0.past(oid).unwrap_or_default().into_iter().map(past_revision).map(Ok))
    }

    fn find(&self, oid: Oid, tid: Tid) -> Result<Option<PastRevision<Tid>>> {
        Ok(self.0.at(oid, tid).map(past_revision))
    }

    fn source(&self, oid: Oid, tid: Tid) -> Result<Option<Tid>> {
        Ok(self.at(oid, tid)?.revision.source)
    }

    fn data(&self, oid: Oid, tid: Tid) -> Result<Option<Bytes>> {
        Ok(self.at(oid, tid)?.revision.data.clone())
    }

    fn blob(&self, oid: Oid, tid: Tid) -> Result<Option<Blob>> {
        Ok(self.at(oid, tid)?.revision.blob.clone())
    }

    fn undoable(&self, tid: Tid) -> Result<Option<Vec<Oid>>> {
        let found = self.0.transactions.iter().find(|transaction| transaction.tid == tid);
        let mut seen = HashSet::new();
        Ok(found.filter(|transaction| transaction.status == Status::Complete).map(|transaction| {
            transaction.revisions.iter().map(|revision| revision.oid).filter(|oid| seen.insert(*oid)).collect()
        }))
    }

    fn in_version(&self, version: &Version) -> Result<Vec<PastRevision<Tid>>> {
        let newest = self.0.revisions.keys().filter_map(|oid| self.0.newest(*oid));
        let mut found: Vec<_> = newest.filter(|at| at.revision.version == *version).collect();
        found.sort_by_key(|at| Reverse(at.place));
        Ok(found.into_iter().map(past_revision).collect())
    }
}

impl UndoLog for MemoryStorage {
    /// Rule 2.5.
    fn undo_log_where(
        &self,
        first: usize,
        last: usize,
        filter: &mut dyn FnMut(&UndoEntry) -> bool,
    ) -> Result<Vec<UndoEntry>> {
        undoable(self.transactions(TidRange::ALL, Order::NewestFirst)?, first, last, filter)
    }

    fn tombstone_source(&self, oid: Oid, tid: Tid) -> Result<Option<Tid>> {
        Ok(self.read().at(oid, tid).filter(|at| at.revision.data.is_none()).and_then(|at| at.revision.source))
    }
}

impl Versions for MemoryStorage {
    /// Rule 2.11.
    fn versions(&self) -> Result<Vec<Version>> {
        let state = self.read();
        let newest = state.revisions.keys().filter_map(|oid| state.newest(*oid));
        let versions = newest.map(|at| &at.revision.version).filter(|version| !version.is_trunk());
        Ok(versions.collect::<BTreeSet<_>>().into_iter().cloned().collect())
    }

    /// Rule 2.10.
    fn modified_in_version(&self, oid: Oid) -> Result<Version> {
        Ok(self.read().newest(oid).map(|at| at.revision.version.clone()).unwrap_or_default())
    }
}
