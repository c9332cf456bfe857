//! Time travel: a storage as it was, as a storage.
//!
//! A finished transaction never changes, and so neither does what the storage answered right after it. [`AsOf`] gives
//! those answers again, whatever was committed since:
//!
//! ```text
//!   the storage    [t1]──[t2]──[t3]──[t4]──[t5]──▶
//!   AsOf t3        [t1]──[t2]──[t3]              load, history, undo_log, versions ...: as if t4 had never been
//! ```
//!
//! It keeps nothing but the moment, and asks the storage the questions that every storage answers: an object's history
//! for the newest revision then, and `load_serial` or `load_before` for the record. So anything that reads a storage
//! can read the past: a client, an export, a copy, an overlay that continues from there.
//!
//! **Revisions that a pack discards are gone**, from the view as well. About a moment before the last pack, the view
//! answers from the remaining revisions, and not as the storage did then; transactions that a pack kept have status
//! packed. As of a moment at or after the pack every answer is exact.
//!
//! A view cannot write: it refuses as a storage does that was opened read-only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::revisions::{find, newest_at, undoable};
use crate::{
    Blob, BlobWriter, Blobs, Capabilities, CurrentRecord, Draft, Error, HistoryEntry, Invalidation, Listener,
    Listening, Loaded, LoadedAt, Oid, Order, Result, Revision, Storage, Tid, TidRange, TransactionMeta,
    TransactionRecord, UndoEntry, UndoLog, Version, Versions, Vote, Waiting,
};

/// A storage as it was right after a transaction. Cloning gives another handle on the same moment.
///
/// | question | costs, beside what the storage itself needs |
/// |---|---|
/// | load, load_serial, modified_in_version | so much of the object's history as is later than the moment, and a little more |
/// | load in a version; load_before an object that was not there yet | the same, and one transaction is read |
/// | history | the object's whole history |
/// | undo_log, last_invalidations | the transactions that it names are read, with their data |
/// | current_records, versions, object_count, size | the first of them reads all transactions up to the moment, once; then some 40 bytes of memory an object |
///
/// ```
/// use std::sync::Arc;
/// use vellum_storage::{AsOf, MemoryStorage, Oid, Storage, Tid, TransactionMeta, Version};
///
/// let storage = Arc::new(MemoryStorage::new("demo"));
/// let mut last = Tid::ZERO;
/// let mut tids = Vec::new();
/// for data in ["one", "two"] {
///     let mut draft = storage.begin(TransactionMeta::new())?;
///     draft.store(Oid::ROOT, last, data.into())?;
///     last = storage.commit(draft)?;
///     tids.push(last);
/// }
/// let then = AsOf::new(storage.clone(), tids[0])?;
/// assert_eq!(then.load(Oid::ROOT, &Version::TRUNK)?.data, "one");
/// assert_eq!(then.last_transaction(), tids[0]);
/// assert!(then.begin(TransactionMeta::new()).is_err());
/// # Ok::<(), vellum_storage::Error>(())
/// ```
#[derive(Clone)]
pub struct AsOf {
    storage: Arc<dyn Storage>,
    at: Tid,
    table: Arc<OnceLock<Table>>,
}

/// The result of a walk over the past: each object's newest revision, and the bytes of all revisions.
#[derive(Debug, Default)]
struct Table {
    newest: BTreeMap<Oid, (Tid, Version)>,
    bytes: u64,
}

impl AsOf {
    /// Returns the storage as it was right after the last transaction that is not later than `at`, which may be the tid
    /// of a moment ([`Tid::at`]). For a moment in the future that is the last transaction now.
    ///
    /// # Errors
    ///
    /// The storage cannot read that transaction.
    pub fn new(storage: Arc<dyn Storage>, at: Tid) -> Result<AsOf> {
        let last = storage.transactions(TidRange::to(at), Order::NewestFirst)?.next().transpose()?;
        let at = last.map_or(Tid::ZERO, |transaction| transaction.tid);
        Ok(AsOf { storage, at, table: Arc::default() })
    }

    /// Returns the transaction after which it shows the storage; [`Tid::ZERO`] if that is before every transaction.
    pub fn tid(&self) -> Tid {
        self.at
    }

    fn newest(&self, oid: Oid) -> Result<(Tid, Version)> {
        match self.table.get() {
            Some(table) => table.newest.get(&oid).cloned(),
            None => newest_at(&*self.storage, oid, self.at)?,
        }
        .ok_or_else(|| Error::key(oid))
    }

    /// The part of a range that the view has.
    fn clip(&self, range: TidRange) -> TidRange {
        TidRange { last: range.last.min(self.at), ..range }
    }

    fn newest_first(&self) -> Result<Box<dyn Iterator<Item = Result<TransactionRecord>> + Send>> {
        self.storage.transactions(TidRange::to(self.at), Order::NewestFirst)
    }

    fn table(&self) -> Result<&Table> {
        if let Some(table) = self.table.get() {
            return Ok(table);
        }
        let mut made = Table::default();
        for transaction in self.storage.transactions(TidRange::to(self.at), Order::OldestFirst)? {
            let TransactionRecord { tid, revisions, .. } = transaction?;
            for Revision { oid, version, data, source, .. } in revisions {
                made.bytes += data.filter(|_| source.is_none()).map_or(0, |data| data.len() as u64);
                made.newest.insert(oid, (tid, version));
            }
        }
        // Another thread may have made the same table at the same time.
        Ok(self.table.get_or_init(|| made))
    }
}

impl fmt::Debug for AsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsOf").field("storage", &self.storage.name()).field("at", &self.at).finish_non_exhaustive()
    }
}

impl Storage for AsOf {
    fn name(&self) -> String {
        format!("{} as of {}", self.storage.name(), self.at)
    }

    /// Rule 2.1.
    fn load(&self, oid: Oid, version: &Version) -> Result<Loaded> {
        let (tid, newest) = self.newest(oid)?;
        let data = if newest == *version && !newest.is_trunk() {
            find(&*self.storage, oid, tid)?.and_then(|point| point.revision.data)
        } else {
            // Of a revision in a version, this is what the trunk shows under it.
            Some(self.storage.load_serial(oid, tid)?)
        };
        Ok(Loaded { data: data.ok_or_else(|| Error::key(oid))?, tid })
    }

    /// Rule 2.2.
    fn load_before(&self, oid: Oid, before: Tid) -> Result<Option<LoadedAt>> {
        let shown = self.storage.load_before(oid, before.min(self.at.next()))?;
        if shown.is_none() {
            // Not there yet; or was it unknown then?
            self.newest(oid)?;
        }
        Ok(shown.map(|shown| LoadedAt { next: shown.next.filter(|next| *next <= self.at), ..shown }))
    }

    /// Rule 2.3.
    fn load_serial(&self, oid: Oid, tid: Tid) -> Result<Bytes> {
        if tid > self.at {
            return Err(Error::KeyError { oid, tid: Some(tid) });
        }
        self.storage.load_serial(oid, tid)
    }

    /// Rule 2.4.
    fn history(&self, oid: Oid, limit: usize) -> Result<Vec<HistoryEntry>> {
        let mut entries = self.storage.history(oid, usize::MAX)?;
        entries.retain(|entry| entry.tid <= self.at);
        if entries.is_empty() {
            return Err(Error::key(oid));
        }
        entries.truncate(limit);
        Ok(entries)
    }

    /// Rule 2.6.
    fn transactions(
        &self,
        range: TidRange,
        order: Order,
    ) -> Result<Box<dyn Iterator<Item = Result<TransactionRecord>> + Send>> {
        self.storage.transactions(self.clip(range), order)
    }

    /// Rule 2.7.
    fn last_transaction(&self) -> Tid {
        self.at
    }

    /// Rule 2.8.
    fn last_invalidations(&self, count: usize) -> Result<Vec<Invalidation>> {
        let changed = |transaction: Result<TransactionRecord>| {
            let TransactionRecord { tid, revisions, .. } = transaction?;
            Ok(Invalidation { tid, oids: revisions.into_iter().map(|revision| revision.oid).collect() })
        };
        let mut changes = self.newest_first()?.take(count).map(changed).collect::<Result<Vec<_>>>()?;
        changes.reverse();
        Ok(changes)
    }

    /// Rule 2.9.
    fn current_records(&self, first: Oid) -> Box<dyn Iterator<Item = Result<CurrentRecord>> + Send> {
        if let Err(error) = self.table() {
            return Box::new(std::iter::once(Err(error)));
        }
        let view = self.clone();
        let mut next = Some(first);
        Box::new(std::iter::from_fn(move || {
            while let Some(from) = next {
                let table = view.table.get()?;
                let (&oid, _) = table.newest.range(from..).next()?;
                next = oid.0.checked_add(1).map(Oid);
                match view.load(oid, &Version::TRUNK) {
                    Ok(Loaded { data, tid }) => return Some(Ok(CurrentRecord { oid, tid, data })),
                    Err(Error::KeyError { .. }) => {}
                    Err(other) => return Some(Err(other)),
                }
            }
            None
        }))
    }

    /// # Errors
    ///
    /// [`Error::ReadOnly`], always.
    fn new_oids(&self, _: u32) -> Result<Vec<Oid>> {
        Err(Error::ReadOnly { name: self.name() })
    }

    /// Bytes of the records that the transactions up to the moment hold; if they cannot be read, the storage's own
    /// size.
    fn size(&self) -> u64 {
        self.table().map_or_else(|_| self.storage.size(), |table| table.bytes)
    }

    /// The objects of which there is a revision up to the moment, tombstones included; if the past cannot be read, the
    /// storage's present number.
    fn object_count(&self) -> u64 {
        self.table().map_or_else(|_| self.storage.object_count(), |table| table.newest.len() as u64)
    }

    /// # Errors
    ///
    /// [`Error::ReadOnly`], always.
    fn begin(&self, _: TransactionMeta) -> Result<Draft> {
        Err(Error::ReadOnly { name: self.name() })
    }

    /// # Errors
    ///
    /// Read-only, always.
    fn attempt(&self, _: Waiting) -> Result<Vote> {
        Err(Error::ReadOnly { name: self.name() })
    }

    fn listen(&self, _: Arc<dyn Listener>) -> Listening {
        Listening::never()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// The transactions that could be undone then, though not here.
    fn undo_log(&self) -> Option<&dyn UndoLog> {
        self.storage.undo_log().map(|_| self as &dyn UndoLog)
    }

    fn versions(&self) -> Option<&dyn Versions> {
        self.storage.versions().map(|_| self as &dyn Versions)
    }

    /// The blobs as they were; none can be added.
    fn blobs(&self) -> Option<&dyn Blobs> {
        self.storage.blobs().map(|_| self as &dyn Blobs)
    }
}

impl Blobs for AsOf {
    /// # Errors
    ///
    /// [`Error::ReadOnly`], always.
    fn new_blob(&self) -> Result<Box<dyn BlobWriter>> {
        Err(Error::ReadOnly { name: self.name() })
    }

    /// Rule 8.2.
    fn load_blob(&self, oid: Oid, tid: Tid) -> Result<Blob> {
        match self.storage.blobs().filter(|_| tid <= self.at) {
            Some(blobs) => blobs.load_blob(oid, tid),
            None => Err(Error::KeyError { oid, tid: Some(tid) }),
        }
    }
}

impl UndoLog for AsOf {
    /// Rule 2.5.
    fn undo_log_where(
        &self,
        first: usize,
        last: usize,
        filter: &mut dyn FnMut(&UndoEntry) -> bool,
    ) -> Result<Vec<UndoEntry>> {
        undoable(self.newest_first()?, first, last, filter)
    }

    fn tombstone_source(&self, oid: Oid, tid: Tid) -> Result<Option<Tid>> {
        match self.storage.undo_log().filter(|_| tid <= self.at) {
            Some(log) => log.tombstone_source(oid, tid),
            None => Ok(None),
        }
    }
}

impl Versions for AsOf {
    /// Rule 2.11.
    fn versions(&self) -> Result<Vec<Version>> {
        let held = self.table()?.newest.values().map(|(_, version)| version).filter(|version| !version.is_trunk());
        Ok(held.collect::<BTreeSet<_>>().into_iter().cloned().collect())
    }

    /// Rule 2.10.
    fn modified_in_version(&self, oid: Oid) -> Result<Version> {
        match self.newest(oid) {
            Err(Error::KeyError { .. }) => Ok(Version::TRUNK),
            other => Ok(other?.1),
        }
    }
}
