//! The storage that a file is: reading, and the door to writing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use vellum_disk::{Disk, DiskFile, Lock};
use vellum_storage::{
    Bulk, Clock, CurrentRecord, Error, HistoryEntry, Invalidation, Loaded, LoadedAt, ObjectLocks, Oid, Order, Pack,
    Resolver, Result, Storage, Tid, TidRange, Transaction, TransactionMeta, TransactionRecord, UndoLog, Version,
    Versions,
};
use vellum_sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vellum_sync::{Mutex, RwLock};

use crate::format::scan::Record;
use crate::open::{Opened, Recovery};
use crate::read::generation::Generation;
use crate::read::horizon::Horizon;
use crate::read::index_file;
use crate::read::iterate::Transactions;
use crate::read::log::{Log, Past};
use crate::read::versions::VersionTable;
use crate::write::commit::Committer;
use crate::write::draft::Draft;
use crate::write::pledge::Pledges;
use crate::{Durability, OpenError, Options};

/// An object database in an append-only file. Cloning gives another handle to the same open file; when the last one is
/// dropped, the `.index` is saved and the lock given back.
#[derive(Clone, Debug)]
pub struct FileStorage {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub path: PathBuf,
    /// The data file of the moment. Another one takes its place only while nobody writes.
    pub generation: ArcSwap<Generation>,
    pub locks: Arc<ObjectLocks>,
    /// Held for reading while a transaction is judged, and until what it comes to is among the pledges: both speak in
    /// positions.
    pub judging: RwLock<()>,
    pub pledges: Pledges,
    pub committer: Committer,
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub resolver: Arc<dyn Resolver>,
    pub durability: Durability,
    pub quota: Option<u64>,
    pub spill_after: u64,
    pub copy_part: u64,
    pub threads: u64,
    pub read_only: bool,
    last_oid: AtomicU64,
    index_saved: AtomicBool,
    /// Held while the `.index` is written: two at once would write the same temporary file.
    pub saving: Mutex<()>,
    /// Held by a pack.
    pub packing: Mutex<()>,
    recovery: Option<Recovery>,
    /// Given back last of all.
    _lock: Option<Box<dyn Lock>>,
}

impl FileStorage {
    /// Opens the database at `path` for reading and writing.
    pub fn open(path: impl AsRef<Path>) -> Result<FileStorage, OpenError> {
        Options::new().open(path)
    }

    /// Opens the database at `path` for reading only.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<FileStorage, OpenError> {
        Options::new().read_only().open(path)
    }

    /// Makes an empty database at `path`, where there must be no file yet.
    pub fn create(path: impl AsRef<Path>) -> Result<FileStorage, OpenError> {
        Options::new().create(path)
    }

    pub(crate) fn new(options: &Options, opened: Opened) -> FileStorage {
        let Opened { path, file, index, end, last, recovery, lock, index_saved } = opened;
        let last_oid = index.last_oid().unwrap_or_default();
        FileStorage {
            inner: Arc::new(Inner {
                generation: ArcSwap::from_pointee(Generation::new(
                    0,
                    Log { path: path.clone(), file },
                    index,
                    Horizon::new(end, last),
                    VersionTable::default(),
                )),
                path,
                locks: Arc::default(),
                judging: RwLock::default(),
                pledges: Pledges::default(),
                committer: Committer::default(),
                disk: Arc::clone(&options.disk),
                clock: Arc::clone(&options.clock),
                resolver: Arc::clone(&options.resolver),
                durability: options.durability,
                quota: options.quota,
                spill_after: options.spill_after,
                copy_part: options.copy_part,
                threads: options.threads,
                read_only: options.read_only,
                last_oid: AtomicU64::new(last_oid.0),
                index_saved: AtomicBool::new(index_saved),
                saving: Mutex::default(),
                packing: Mutex::default(),
                recovery,
                _lock: lock,
            }),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// What had to be done to the end of the file when it was opened; none if it was in order.
    pub fn recovery(&self) -> Option<&Recovery> {
        self.inner.recovery.as_ref()
    }

    /// Bytes of memory that the index takes.
    pub fn index_memory(&self) -> u64 {
        self.inner.now().index.memory()
    }

    /// How many voted transactions wait for the one that is being written.
    pub fn commits_waiting(&self) -> usize {
        self.inner.committer.waiting()
    }

    /// The file's bytes, and where the last finished transaction ends: for who walks over them with a
    /// [`Scanner`](crate::Scanner).
    pub fn data_file(&self) -> (Arc<dyn DiskFile>, u64) {
        let now = self.inner.now();
        (Arc::clone(&now.log.file), now.horizon.end())
    }

    /// The object's newest record as it stands in the file, in whatever version; none if the object is unknown.
    pub fn newest_record(&self, oid: Oid) -> Result<Option<Record>> {
        self.inner.now().newest_header(oid)
    }

    /// Begins a transaction to see what its vote comes to. As [`Storage::begin`], but also of a storage that was opened for
    /// reading only: there, `finish` is what is refused.
    pub fn rehearse(&self, meta: TransactionMeta) -> Result<Box<dyn Transaction>> {
        self.inner.draft(meta)
    }

    /// The objects whose newest revision is in the version, in the order of the oids.
    pub fn objects_in(&self, version: &Version) -> Result<Vec<Oid>> {
        self.inner.now().versions(|table| table.objects(version))
    }

    /// Writes the `.index` file, so that the next opening need not walk over the file. Done when the storage is dropped
    /// anyway; this tells whether it worked.
    pub fn save_index(&self) -> Result<()> {
        self.inner.save_index()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(e) = self.save_index() {
            tracing::warn!("{e}");
        }
    }
}

impl Inner {
    /// The data file of the moment.
    pub fn now(&self) -> Guard<Arc<Generation>> {
        self.generation.load()
    }

    fn save_index(&self) -> Result<()> {
        let _saving = self.saving.lock();
        self.save_index_alone()
    }

    /// The same by who holds `saving`.
    pub fn save_index_alone(&self) -> Result<()> {
        if self.read_only || self.index_saved.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let now = self.now();
        let end = now.horizon.end();
        let before_end = |oid| match now.newest_position(oid, end) {
            Ok(position) => Ok(Some(position)),
            Err(Error::KeyError { .. }) => Ok(None),
            Err(other) => Err(other),
        };
        index_file::save(&*self.disk, &self.path, &now.index, end, &before_end).inspect_err(|_| self.index_changed())
    }

    pub fn index_changed(&self) {
        self.index_saved.store(false, Ordering::Release);
    }

    /// It is not to be saved, until something else is committed.
    pub fn index_is_settled(&self) {
        self.index_saved.store(true, Ordering::Release);
    }

    pub fn writable(&self) -> Result<()> {
        if self.read_only { Err(Error::ReadOnly { name: self.path.display().to_string() }) } else { Ok(()) }
    }

    fn draft(self: &Arc<Inner>, meta: TransactionMeta) -> Result<Box<dyn Transaction>> {
        meta.check()?;
        self.committer.usable(self)?;
        let last = self.now().horizon.get().1;
        match meta.tid {
            Some(tid) if tid <= last => Err(Error::TidNotLater { tid, last }),
            _ => Ok(Box::new(Draft::new(Arc::clone(self), meta))),
        }
    }

    /// Refuses what would make the file larger than it may be.
    pub fn within_quota(&self, needed: u64) -> Result<()> {
        match self.quota.filter(|&quota| needed > quota) {
            Some(quota) => Err(Error::Quota { name: self.path.display().to_string(), quota, needed }),
            None => Ok(()),
        }
    }

    /// Makes sure that no oid up to this one is given out.
    pub fn saw_oid(&self, oid: Oid) {
        self.last_oid.fetch_max(oid.0, Ordering::Relaxed);
    }
}

impl Storage for FileStorage {
    fn name(&self) -> String {
        self.inner.path.display().to_string()
    }

    /// Rule 2.1.
    fn load(&self, oid: Oid, version: &Version) -> Result<Loaded> {
        let now = self.inner.now();
        now.load(oid, version, now.horizon.end())
    }

    /// Rule 2.2.
    fn load_before(&self, oid: Oid, before: Tid) -> Result<Option<LoadedAt>> {
        let now = self.inner.now();
        let (log, end) = (&now.log, now.horizon.end());
        let mut past = Past::new(log, oid, now.newest_position(oid, end)?, end);
        let Some(mut record) = past.older()? else { return Ok(None) };
        // The revisions after the moment, newest first, as far as the trunk showed one thing after the other: what, since
        // when, and since when it showed the next thing.
        let mut shown: Option<(u64, Tid)> = None;
        let mut then = None;
        while record.header.tid >= before {
            if shown.is_none_or(|(position, _)| position != record.on_trunk()) {
                then = shown.map(|(_, since)| since);
            }
            shown = Some((record.on_trunk(), record.header.tid));
            match past.older()? {
                Some(found) => record = found,
                None => return Ok(None),
            }
        }
        let position = record.on_trunk();
        if position == 0 {
            return Ok(None);
        }
        let next = match shown {
            Some((other, since)) if other != position => Some(since),
            _ => then,
        };
        let held = if position == record.position { record.clone() } else { log.header(oid, position, end)? };
        let (data, _) = log.data_of(held, None, end)?.ok_or(Error::KeyError { oid, tid: Some(before) })?;
        let mut tid = record.header.tid;
        while record.position != position {
            match past.older()?.filter(|earlier| earlier.on_trunk() == position) {
                Some(earlier) => (tid, record) = (earlier.header.tid, earlier),
                None => break,
            }
        }
        Ok(Some(LoadedAt { data, tid, next }))
    }

    /// Rule 2.3.
    fn load_serial(&self, oid: Oid, tid: Tid) -> Result<Bytes> {
        let missing = || Error::KeyError { oid, tid: Some(tid) };
        let now = self.inner.now();
        let record = now.record_at(oid, tid)?.ok_or_else(missing)?;
        now.data_at(oid, record.on_trunk())?.ok_or_else(missing)
    }

    /// Rule 2.4.
    fn history(&self, oid: Oid, limit: usize) -> Result<Vec<HistoryEntry>> {
        let now = self.inner.now();
        let (log, end) = (&now.log, now.horizon.end());
        let mut past = Past::new(log, oid, now.newest_position(oid, end)?, end);
        let mut entries = Vec::new();
        while entries.len() < limit {
            let Some(record) = past.older()? else { break };
            let (_, [user, description, extension]) = log.transaction(record.header.transaction, end)?;
            entries.push(HistoryEntry {
                tid: record.header.tid,
                size: record.header.data_length,
                version: record.version(),
                user,
                description,
                extension,
            });
        }
        Ok(entries)
    }

    /// Rule 2.6.
    fn transactions(
        &self,
        range: TidRange,
        order: Order,
    ) -> Result<Box<dyn Iterator<Item = Result<TransactionRecord>> + Send>> {
        let now = self.inner.now();
        let found = Transactions::new(now.log.clone(), now.horizon.get(), range, order)?;
        Ok(Box::new(found))
    }

    /// Rule 2.7.
    fn last_transaction(&self) -> Tid {
        self.inner.now().horizon.get().1
    }

    /// Rule 2.8.
    fn last_invalidations(&self, count: usize) -> Result<Vec<Invalidation>> {
        let now = self.inner.now();
        crate::read::iterate::last_invalidations(&now.log, now.horizon.end(), count)
    }

    /// Rule 2.9.
    fn current_records(&self, first: Oid) -> Box<dyn Iterator<Item = Result<CurrentRecord>> + Send> {
        let now = Guard::into_inner(self.inner.now());
        let end = now.horizon.end();
        let mut next = Some(first);
        Box::new(std::iter::from_fn(move || {
            loop {
                let (oid, _) = now.index.next(next?)?;
                next = oid.0.checked_add(1).map(Oid);
                match now.load(oid, &Version::TRUNK, end) {
                    Ok(Loaded { data, tid }) => return Some(Ok(CurrentRecord { oid, tid, data })),
                    Err(Error::KeyError { .. }) => {}
                    Err(other) => return Some(Err(other)),
                }
            }
        }))
    }

    fn new_oids(&self, count: u32) -> Result<Vec<Oid>> {
        self.inner.writable()?;
        let add = |last: u64| last.checked_add(u64::from(count));
        let first = self.inner.last_oid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        let first = first.map_err(|_| Error::Exhausted { what: "oids" })?;
        Ok((1..=u64::from(count)).map(|n| Oid(first + n)).collect())
    }

    fn size(&self) -> u64 {
        self.inner.now().horizon.end()
    }

    fn object_count(&self) -> u64 {
        self.inner.now().index.len()
    }

    fn begin(&self, meta: TransactionMeta) -> Result<Box<dyn Transaction>> {
        self.inner.writable()?;
        self.inner.draft(meta)
    }

    fn undo_log(&self) -> Option<&dyn UndoLog> {
        Some(self)
    }

    fn versions(&self) -> Option<&dyn Versions> {
        Some(self)
    }

    fn pack(&self) -> Option<&dyn Pack> {
        Some(self)
    }

    fn bulk(&self) -> Option<&dyn Bulk> {
        Some(self)
    }
}
