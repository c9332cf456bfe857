//! Reading across the seam.
//!
//! An object that was not changed above is the base's, and so are the answers about it. Of one that was, the newest
//! revision is above, its past continues below, and a base revision may be on either side.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::seam::{SEAM, unseam};
use super::{Overlay, Shared, State};
use crate::revisions::{Point, find, undoable};
use crate::{
    Blob, BlobWriter, Blobs, Capabilities, CurrentRecord, Draft, Error, HistoryEntry, Invalidation, Listener,
    Listening, Loaded, LoadedAt, Oid, Order, Result, Storage, Tid, TidRange, TransactionMeta, TransactionRecord,
    UndoEntry, UndoLog, Version, Versions, Vote, Waiting,
};

type Transactions = Box<dyn Iterator<Item = Result<TransactionRecord>> + Send>;

impl Shared {
    /// The object's revision in this transaction, wherever it is.
    pub(super) fn find(&self, oid: Oid, tid: Tid) -> Result<Option<Point>> {
        if tid <= self.seam {
            let mut point = find(&*self.base, oid, tid)?;
            if let Some(point) = point.as_mut().filter(|point| point.revision.data.is_none()) {
                let log = self.base.undo_log();
                point.tombstone_source = log.map_or(Ok(None), |log| log.tombstone_source(oid, tid))?;
            }
            return Ok(point);
        }
        let Some(mut transaction) = crate::revisions::transaction(&*self.changes, tid)? else { return Ok(None) };
        let entries = unseam(&mut transaction).map_err(|why| self.unfit(why))?;
        let TransactionRecord { tid, revisions, .. } = transaction;
        let Some(revision) = revisions.into_iter().rev().find(|revision| revision.oid == oid) else { return Ok(None) };
        let across = entries.into_iter().find(|across| across.counts && across.oid == oid);
        let tombstone_source = across.and_then(|across| across.source).filter(|_| revision.data.is_none());
        Ok(Some(Point { tid, revision, tombstone_source }))
    }

    /// The newest revision's tid and version; none for an unknown object.
    pub(super) fn newest(&self, state: &State, oid: Oid) -> Result<Option<(Tid, Version)>> {
        if let Some(newest) = state.newest.get(&oid) {
            return Ok(Some(newest.clone()));
        }
        match self.base.history(oid, 1) {
            Err(Error::KeyError { .. }) => Ok(None),
            history => Ok(history?.into_iter().next().map(|entry| (entry.tid, entry.version))),
        }
    }

    /// The newest entries of the object's history; none for an unknown object.
    pub(super) fn history(&self, state: &State, oid: Oid, limit: usize) -> Result<Vec<HistoryEntry>> {
        let below = |limit: usize| match self.base.history(oid, limit) {
            Err(Error::KeyError { .. }) => Ok(Vec::new()),
            other => other,
        };
        if !state.newest.contains_key(&oid) {
            return below(limit);
        }
        // One may be there that is not shown yet.
        let mut entries = self.changes.history(oid, limit.saturating_add(1))?;
        entries.retain(|entry| entry.tid <= state.last);
        entries.truncate(limit);
        for entry in &mut entries {
            if state.across.get(&(oid, entry.tid)).is_some_and(|across| across.source.is_some()) {
                entry.size = 0;
            }
        }
        match entries.iter().find(|entry| state.packed.contains(&entry.tid)) {
            None if entries.len() < limit => entries.extend(below(limit - entries.len())?),
            // A packed revision has no past except its base (rule 4.5).
            Some(packed) if entries.len() < limit => {
                let under = state.across.get(&(oid, packed.tid)).and_then(|across| across.base);
                let found = |under: Tid| Ok::<_, Error>(below(usize::MAX)?.into_iter().find(|e| e.tid == under));
                entries.extend(under.map(found).transpose()?.flatten());
            }
            _ => {}
        }
        Ok(entries)
    }

    /// Every revision of the object's history, newest first.
    pub(super) fn past(&self, state: &State, oid: Oid) -> Result<Vec<Point>> {
        let history = self.history(state, oid, usize::MAX)?;
        let points = history.iter().map(|entry| self.find(oid, entry.tid));
        Ok(points.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// The data that the trunk shows of the object from this revision on.
    fn shown(&self, oid: Oid, tid: Tid, version: &Version) -> Result<Option<Bytes>> {
        if version.is_trunk() {
            return match self.changes.load_serial(oid, tid) {
                Err(Error::KeyError { .. }) => Ok(None),
                other => other.map(Some),
            };
        }
        let Some(under) = self.find(oid, tid)?.and_then(|point| point.revision.base) else { return Ok(None) };
        Ok(self.find(oid, under)?.and_then(|point| point.revision.data))
    }

    fn load(&self, state: &State, oid: Oid, version: &Version) -> Result<Loaded> {
        let Some((tid, newest)) = state.newest.get(&oid) else { return self.base.load(oid, version) };
        let data = match newest == version && !version.is_trunk() {
            true => self.find(oid, *tid)?.and_then(|point| point.revision.data),
            false => self.shown(oid, *tid, newest)?,
        };
        Ok(Loaded { data: data.ok_or_else(|| Error::key(oid))?, tid: *tid })
    }

    fn load_before(&self, state: &State, oid: Oid, before: Tid) -> Result<Option<LoadedAt>> {
        if !state.newest.contains_key(&oid) {
            return self.base.load_before(oid, before);
        }
        let above = self.changes.history(oid, usize::MAX)?;
        let above: Vec<_> = above.into_iter().filter(|entry| entry.tid <= state.last).collect();
        if !state.packed.is_empty() || above.iter().any(|entry| !entry.version.is_trunk()) {
            return self.load_before_among_versions(state, oid, before);
        }
        let n = above.iter().position(|entry| entry.tid < before).unwrap_or(above.len());
        let next = n.checked_sub(1).map(|newer| above[newer].tid);
        if let Some(HistoryEntry { tid, .. }) = above.get(n) {
            let nothing = Error::KeyError { oid, tid: Some(before) };
            let data = self.shown(oid, *tid, &Version::TRUNK)?.ok_or(nothing)?;
            return Ok(Some(LoadedAt { data, tid: *tid, next }));
        }
        match self.base.load_before(oid, before) {
            // It was created above.
            Err(Error::KeyError { .. }) if !self.in_base(oid)? => Ok(None),
            shown => Ok(shown?.map(|shown| LoadedAt { next: shown.next.or(next), ..shown })),
        }
    }

    /// The rule as it stands: the trunk shows one thing from a revision in a version to the next that changes it.
    fn load_before_among_versions(&self, state: &State, oid: Oid, before: Tid) -> Result<Option<LoadedAt>> {
        let past = self.past(state, oid)?;
        let Some(n) = past.iter().position(|point| point.tid < before) else { return Ok(None) };
        let Some(shown) = past[n].on_trunk() else { return Ok(None) };
        let same = |point: &&Point| point.on_trunk() == Some(shown);
        let next = past[..n].iter().rev().find(|point| !same(point)).map(|point| point.tid);
        let tid = past[n..].iter().take_while(same).last().unwrap_or(&past[n]).tid;
        let Some(point) = self.find(oid, shown)? else { return Ok(None) };
        let data = point.revision.data.ok_or(Error::KeyError { oid, tid: Some(before) })?;
        Ok(Some(LoadedAt { data, tid, next }))
    }

    fn load_serial(&self, state: &State, oid: Oid, tid: Tid) -> Result<Bytes> {
        let missing = || Error::KeyError { oid, tid: Some(tid) };
        if !state.newest.contains_key(&oid) {
            return self.base.load_serial(oid, tid);
        }
        let ended = || Ok::<_, Error>(!self.history(state, oid, usize::MAX)?.iter().any(|entry| entry.tid == tid));
        if tid > state.last || (!state.packed.is_empty() && ended()?) {
            return Err(missing());
        }
        if tid <= self.seam {
            return self.base.load_serial(oid, tid);
        }
        match state.across.get(&(oid, tid)).and_then(|across| across.base) {
            Some(under) => self.find(oid, under)?.and_then(|point| point.revision.data).ok_or_else(missing),
            None => self.changes.load_serial(oid, tid),
        }
    }

    fn load_blob(&self, state: &State, oid: Oid, tid: Tid) -> Result<Blob> {
        let missing = || Error::KeyError { oid, tid: Some(tid) };
        let changed = state.newest.contains_key(&oid);
        let ended = || Ok::<_, Error>(!self.history(state, oid, usize::MAX)?.iter().any(|entry| entry.tid == tid));
        if changed && (tid > state.last || (!state.packed.is_empty() && ended()?)) {
            return Err(missing());
        }
        let storage = if !changed || tid <= self.seam { &self.base } else { &self.changes };
        match storage.blobs() {
            Some(blobs) => blobs.load_blob(oid, tid),
            None => storage.load_serial(oid, tid).and(Err(Error::NoBlob { oid, tid, path: None })),
        }
    }

    /// A transaction as it is answered.
    fn transactions(&self, range: TidRange, order: Order, last: Tid) -> Result<Transactions> {
        let above = TidRange { last: range.last.min(last), first: range.first.max(self.seam.next()) };
        let below = TidRange { last: range.last.min(self.seam), ..range };
        let name = self.changes.name();
        let above = self.changes.transactions(above, order)?.map(move |transaction| {
            let mut transaction = transaction?;
            let unfit = |why: &str| Error::Unfit { name: name.clone(), why: why.to_owned() };
            unseam(&mut transaction).map_err(unfit)?;
            Ok(transaction)
        });
        let below = self.base.transactions(below, order)?;
        Ok(match order {
            Order::OldestFirst => Box::new(below.chain(above)),
            Order::NewestFirst => Box::new(above.chain(below)),
        })
    }
}

impl Overlay {
    fn keeps_blobs(&self) -> bool {
        self.shared.changes.capabilities().blobs
    }
}

impl Blobs for Overlay {
    fn new_blob(&self) -> Result<Box<dyn BlobWriter>> {
        let above = self.shared.changes.blobs();
        above.ok_or_else(|| self.shared.unfit("it keeps no blobs"))?.new_blob()
    }

    /// Rule 8.2.
    fn load_blob(&self, oid: Oid, tid: Tid) -> Result<Blob> {
        self.shared.load_blob(&self.shared.state(), oid, tid)
    }
}

impl Storage for Overlay {
    fn name(&self) -> String {
        self.shared.name()
    }

    /// Rule 2.1.
    fn load(&self, oid: Oid, version: &Version) -> Result<Loaded> {
        self.shared.load(&self.shared.state(), oid, version)
    }

    /// Rule 2.2.
    fn load_before(&self, oid: Oid, before: Tid) -> Result<Option<LoadedAt>> {
        self.shared.load_before(&self.shared.state(), oid, before)
    }

    /// Rule 2.3.
    fn load_serial(&self, oid: Oid, tid: Tid) -> Result<Bytes> {
        self.shared.load_serial(&self.shared.state(), oid, tid)
    }

    /// Rule 2.4.
    fn history(&self, oid: Oid, limit: usize) -> Result<Vec<HistoryEntry>> {
        let entries = self.shared.history(&self.shared.state(), oid, limit)?;
        if entries.is_empty() && (limit > 0 || self.shared.newest(&self.shared.state(), oid)?.is_none()) {
            return Err(Error::key(oid));
        }
        Ok(entries)
    }

    /// Rule 2.6.
    fn transactions(&self, range: TidRange, order: Order) -> Result<Transactions> {
        self.shared.transactions(range, order, self.last_transaction())
    }

    /// Rule 2.7.
    fn last_transaction(&self) -> Tid {
        self.shared.state().last
    }

    /// Rule 2.8.
    fn last_invalidations(&self, count: usize) -> Result<Vec<Invalidation>> {
        let state = self.shared.state();
        // One may be there that is not shown yet.
        let mut above = self.shared.changes.last_invalidations(count.saturating_add(1))?;
        above.retain(|invalidation| invalidation.tid <= state.last);
        let mut above = above.split_off(above.len().saturating_sub(count));
        above.iter_mut().for_each(|invalidation| invalidation.oids.retain(|oid| *oid != SEAM));
        if above.len() < count {
            let mut all = self.shared.base.last_invalidations(count - above.len())?;
            all.append(&mut above);
            return Ok(all);
        }
        Ok(above)
    }

    /// Rule 2.9.
    fn current_records(&self, first: Oid) -> Box<dyn Iterator<Item = Result<CurrentRecord>> + Send> {
        let shared = self.shared.clone();
        let state = shared.state();
        let above: Vec<_> = state.newest.range(first..).map(|(oid, newest)| (*oid, newest.clone())).collect();
        let mut below = self.shared.base.current_records(first).peekable();
        drop(state);
        let mut above = above.into_iter().peekable();
        Box::new(std::iter::from_fn(move || {
            loop {
                let changed = above.peek().map(|(oid, _)| *oid);
                let is_next = |record: &Result<CurrentRecord>| match (record, changed) {
                    (Ok(record), Some(changed)) => record.oid < changed,
                    _ => true,
                };
                if let Some(record) = below.next_if(is_next) {
                    return Some(record);
                }
                let (oid, (tid, version)) = above.next()?;
                below.next_if(|record| record.as_ref().is_ok_and(|record| record.oid == oid));
                match shared.shown(oid, tid, &version).transpose() {
                    Some(data) => return Some(data.map(|data| CurrentRecord { oid, tid, data })),
                    None => continue,
                }
            }
        }))
    }

    fn new_oids(&self, count: u32) -> Result<Vec<Oid>> {
        self.shared.new_oids(count)
    }

    fn size(&self) -> u64 {
        self.shared.base.size().saturating_add(self.shared.changes.size())
    }

    fn object_count(&self) -> u64 {
        self.shared.base.object_count() + self.shared.state().born
    }

    /// Rule 3.0.
    fn begin(&self, meta: TransactionMeta) -> Result<Draft> {
        self.draft(meta)
    }

    fn attempt(&self, waiting: Waiting) -> Result<Vote> {
        self.judged(waiting)
    }

    fn listen(&self, listener: Arc<dyn Listener>) -> Listening {
        self.shared.listeners.add(listener)
    }

    fn undo_log(&self) -> Option<&dyn UndoLog> {
        Some(self)
    }

    fn versions(&self) -> Option<&dyn Versions> {
        Some(self)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { undo: true, versions: true, restore: true, blobs: self.keeps_blobs(), ..Capabilities::default() }
    }

    /// The blobs of both. None can be added if the changes keep none.
    fn blobs(&self) -> Option<&dyn Blobs> {
        (self.keeps_blobs() || self.shared.base.blobs().is_some()).then_some(self as &dyn Blobs)
    }
}

impl UndoLog for Overlay {
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
        let point = if tid <= self.last_transaction() { self.shared.find(oid, tid)? } else { None };
        Ok(point.and_then(|point| point.tombstone_source))
    }
}

impl Versions for Overlay {
    /// Rule 2.11.
    fn versions(&self) -> Result<Vec<Version>> {
        let state = self.shared.state();
        let below = self.shared.held()?.iter().filter(|(oid, _)| !state.newest.contains_key(oid));
        let above = state.newest.values().map(|(_, version)| version).filter(|version| !version.is_trunk());
        Ok(below.map(|(_, version)| version).chain(above).collect::<BTreeSet<_>>().into_iter().cloned().collect())
    }

    /// Rule 2.10.
    fn modified_in_version(&self, oid: Oid) -> Result<Version> {
        let newest = self.shared.newest(&self.shared.state(), oid)?;
        Ok(newest.map_or(Version::TRUNK, |(_, version)| version))
    }
}
