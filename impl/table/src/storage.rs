//! The storage that the tables are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use vellum_blob::{BlobFiles, BlobFolder};
use vellum_disk::{DiskFile, Open};
use vellum_storage::{
    Blob, BlobWriter, Blobs, Bulk, Change, Content, CurrentRecord, Draft, Error, Finishing, HistoryEntry, Invalidation,
    Judged, Limits, Listener, Listeners, Listening, Loaded, LoadedAt, ObjectLocks, Oid, Order, Pack, Prepared, Result,
    Scratch, ScratchFile, SharedBlobs, Status, Storage, Tid, TidRange, TransactionMeta, TransactionRecord, UndoEntry,
    UndoLog, Verdict, Version, Versions, Vote, Voted, Waiting, Write, lock_and_judge,
};
use vellum_sync::atomic::{AtomicBool, Ordering};
use vellum_sync::{Mutex, MutexGuard};

use crate::blobs;
use crate::commit::{Commits, Job};
use crate::line::SharedLine;
use crate::options::{OpenError, Options};
use crate::pack::{self, Pace};
use crate::past::Asked;
use crate::row::Head;
use crate::store::{Moment, Oids, Store};
use crate::walk::Transactions;

/// An object database in tables. Cloning gives another handle to the same open file; when the last one is dropped, the
/// lock is given back.
#[derive(Clone, Debug)]
pub struct TableStorage {
    pub(crate) shared: Arc<Shared>,
}

vellum_storage::inherent!(TableStorage);

/// The locks are taken in this order: `packing`, the turn of the store, `judging`, `voted`, `telling`. A thread that
/// tells holds `telling` alone, since a listener may judge. So no thread takes `telling` while it holds `judging`, and
/// judging never waits for the turn: the thread that has it may wait for `telling`.
pub(crate) struct Shared {
    pub options: Options,
    pub store: Store,
    pub oids: Oids,
    pub locks: Arc<ObjectLocks>,
    pub commits: Commits,
    /// Held for reading while a transaction is judged, until it is among the voted.
    pub judging: SharedLine,
    /// Held while listeners are told, and taken before the turn is given back: so all events come in one order.
    pub telling: Mutex<()>,
    /// The revisions that transactions between vote and finish will write, for a pack to see.
    pub voted: Mutex<BTreeMap<u64, Arc<Vec<Write>>>>,
    pub listeners: Listeners,
    /// Held by a pack.
    pub packing: Mutex<()>,
    /// Whether the pack that holds it does one small step of many, and gives it back then.
    pub is_stepping: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("options", &self.options).field("store", &self.store).finish_non_exhaustive()
    }
}

impl Shared {
    pub fn name(&self) -> String {
        self.store.path.display().to_string()
    }

    pub fn writable(&self) -> Result<()> {
        if self.options.read_only { Err(Error::ReadOnly { name: self.name() }) } else { Ok(()) }
    }

    /// The right to pack.
    pub fn begin_packing(&self) -> Result<MutexGuard<'_, ()>> {
        // It may have been in its last step.
        for _ in 0..2 {
            if let Some(packing) = self.packing.try_lock() {
                return Ok(packing);
            }
            if self.is_stepping.load(Ordering::SeqCst) {
                return Ok(self.packing.lock());
            }
        }
        Err(Error::Packing { name: self.name() })
    }

    /// How much a step of a pack does.
    pub fn pace(&self) -> Pace<'_> {
        Pace::new(Some(self), self.options.step_rows)
    }

    /// Whether a thread waits for the turn of the store, or to judge.
    pub fn is_awaited(&self) -> bool {
        self.store.line.waiting() > 0 || self.judging.waiting() > 0
    }

    pub fn within_quota(&self, more: u64) -> Result<()> {
        let Some(quota) = self.options.quota else { return Ok(()) };
        let needed = self.store.size()?.saturating_add(more);
        if needed <= quota { Ok(()) } else { Err(Error::Quota { name: self.name(), quota, needed }) }
    }
}

impl TableStorage {
    /// Opens the database at `path` for reading and writing.
    ///
    /// # Errors
    ///
    /// The file is missing, locked by another process, not a database, or damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<TableStorage, OpenError> {
        Options::new().open(path)
    }

    /// Makes an empty database at `path`.
    ///
    /// # Errors
    ///
    /// There is a file already, or it cannot be made.
    pub fn create(path: impl AsRef<Path>) -> Result<TableStorage, OpenError> {
        Options::new().create(path)
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.shared.store.path
    }

    /// Returns the blob folder; none if the storage was opened without one.
    pub fn blob_folder(&self) -> Option<&BlobFolder> {
        self.shared.store.blobs.as_ref().map(BlobFiles::folder)
    }

    /// Returns the transactions that can be undone, newest first, from number `first` up to but not including `last`. A
    /// history-free database has none.
    ///
    /// # Errors
    ///
    /// The tables cannot be read.
    pub fn undoable(&self, first: usize, last: usize) -> Result<Vec<UndoEntry>> {
        UndoLog::undo_log(self, first, last)
    }

    /// Returns the versions that hold an object, by name.
    ///
    /// # Errors
    ///
    /// The tables cannot be read.
    pub fn all_versions(&self) -> Result<Vec<Version>> {
        Versions::versions(self)
    }

    /// Whether it is history-free (rule 4.12): it forgets older revisions with each commit, and has no undo.
    pub fn is_history_free(&self) -> bool {
        self.shared.store.now().tables.facts.is_history_free
    }

    fn new(options: &Options, store: Store) -> Result<TableStorage> {
        let oids = Oids::after(store.now().tables.last_oid()?);
        let storage = TableStorage {
            shared: Arc::new(Shared {
                options: options.clone(),
                store,
                oids,
                locks: Arc::default(),
                commits: Commits::default(),
                judging: SharedLine::default(),
                telling: Mutex::default(),
                voted: Mutex::default(),
                listeners: Listeners::default(),
                packing: Mutex::default(),
                is_stepping: AtomicBool::new(false),
            }),
        };
        if !options.read_only {
            storage.shared.store.blobs.as_ref().map_or(Ok(0), |files| files.folder().sweep())?;
            blobs::remove_unowned(&storage.shared)?;
            pack::go_on(&storage.shared)?;
        }
        if let (Some(folder), Some((oid, tid))) = (storage.blob_folder(), storage.foreign_blob()) {
            tracing::warn!(
                "{}: the blobs in this folder, such as object {oid}'s of {tid}, are of no transaction of {}. Is it another \
                 database's folder?",
                folder.path().display(),
                storage.path().display()
            );
        }
        Ok(storage)
    }

    pub(crate) fn draft(&self, meta: TransactionMeta) -> Result<Draft> {
        self.shared.store.usable()?;
        meta.check(self.last_transaction())?;
        Ok(Draft::within(meta, Arc::clone(&self.shared) as Arc<dyn Limits>, 0))
    }
}

impl Options {
    /// Opens the database at `path`.
    ///
    /// # Errors
    ///
    /// The file is missing, locked by another process, not a database, or damaged.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<TableStorage, OpenError> {
        Ok(TableStorage::new(self, Store::open(self, path.as_ref(), Open::ReadWrite)?)?)
    }

    /// Makes an empty database at `path`.
    ///
    /// # Errors
    ///
    /// There is a file already, or it cannot be made.
    pub fn create(&self, path: impl AsRef<Path>) -> Result<TableStorage, OpenError> {
        Ok(TableStorage::new(self, Store::open(self, path.as_ref(), Open::CreateNew)?)?)
    }

    /// Opens the database at `path`, or makes an empty one if there is no file.
    ///
    /// # Errors
    ///
    /// The file is locked by another process, not a database, or damaged; or it cannot be made.
    pub fn open_or_create(&self, path: impl AsRef<Path>) -> Result<TableStorage, OpenError> {
        match self.open(path.as_ref()) {
            Err(OpenError::NotFound { .. }) => self.create(path),
            other => other,
        }
    }
}

impl Storage for TableStorage {
    fn name(&self) -> String {
        self.shared.name()
    }

    /// Rule 2.1.
    fn load(&self, oid: Oid, version: &Version) -> Result<Loaded> {
        self.shared.store.now().tables.load(oid, version)
    }

    /// Rule 2.2.
    fn load_before(&self, oid: Oid, before: Tid) -> Result<Option<LoadedAt>> {
        self.shared.store.now().tables.load_before(oid, before)
    }

    /// Rule 2.3.
    fn load_serial(&self, oid: Oid, tid: Tid) -> Result<Bytes> {
        self.shared.store.now().tables.load_serial(oid, tid)
    }

    /// Rule 2.4.
    fn history(&self, oid: Oid, limit: usize) -> Result<Vec<HistoryEntry>> {
        self.shared.store.now().tables.history(oid, limit)
    }

    /// Rule 2.6.
    fn transactions(
        &self,
        range: TidRange,
        order: Order,
    ) -> Result<Box<dyn Iterator<Item = Result<TransactionRecord>> + Send>> {
        Ok(Box::new(Transactions::new(&self.shared, range, order)))
    }

    /// Rule 2.7.
    fn last_transaction(&self) -> Tid {
        self.shared.store.now().last
    }

    /// Rule 2.8.
    fn last_invalidations(&self, count: usize) -> Result<Vec<Invalidation>> {
        let mut found = Vec::new();
        for transaction in self.transactions(TidRange::ALL, Order::NewestFirst)?.take(count) {
            let TransactionRecord { tid, revisions, .. } = transaction?;
            found.push(Invalidation { tid, oids: revisions.into_iter().map(|revision| revision.oid).collect() });
        }
        found.reverse();
        Ok(found)
    }

    /// Rule 2.9.
    fn current_records(&self, first: Oid) -> Box<dyn Iterator<Item = Result<CurrentRecord>> + Send> {
        let now = self.shared.store.now_full();
        let mut next = Some(first);
        Box::new(std::iter::from_fn(move || {
            loop {
                let oid = match now.tables.object_from(next?) {
                    Ok(oid) => oid?,
                    Err(error) => {
                        next = None;
                        return Some(Err(error));
                    }
                };
                next = oid.0.checked_add(1).map(Oid);
                match now.tables.load(oid, &Version::TRUNK) {
                    Ok(Loaded { data, tid }) => return Some(Ok(CurrentRecord { oid, tid, data })),
                    Err(Error::KeyError { .. }) => {}
                    Err(other) => return Some(Err(other)),
                }
            }
        }))
    }

    fn new_oids(&self, count: u32) -> Result<Vec<Oid>> {
        self.shared.writable()?;
        self.shared.oids.take(count)
    }

    fn size(&self) -> u64 {
        self.shared.store.size().unwrap_or_default()
    }

    fn object_count(&self) -> u64 {
        self.shared.store.now().tables.known_objects().unwrap_or_default()
    }

    /// Rule 3.0.
    fn begin(&self, meta: TransactionMeta) -> Result<Draft> {
        self.shared.writable()?;
        self.draft(meta)
    }

    fn attempt(&self, waiting: Waiting) -> Result<Vote> {
        vote(&self.shared, waiting)
    }

    fn listen(&self, listener: Arc<dyn Listener>) -> Listening {
        self.shared.listeners.add(listener)
    }

    /// Rule 4.12: a history-free database has no undo.
    fn undo_log(&self) -> Option<&dyn UndoLog> {
        if self.is_history_free() { None } else { Some(self) }
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

    fn blobs(&self) -> Option<&dyn Blobs> {
        self.shared.store.blobs.as_ref().map(|_| self as &dyn Blobs)
    }
}

impl Blobs for TableStorage {
    fn new_blob(&self) -> Result<Box<dyn BlobWriter>> {
        self.shared.writable()?;
        self.shared.blobs()?.writer()
    }

    /// Rule 8.2.
    fn load_blob(&self, oid: Oid, tid: Tid) -> Result<Blob> {
        let blobs = self.shared.blobs()?;
        let missing = || Error::KeyError { oid, tid: Some(tid) };
        let there = || {
            let at = self.shared.store.now().tables.in_past(oid, tid)?.ok_or_else(missing)?;
            if at.row.data == 0 { Err(missing()) } else { Ok(()) }
        };
        there()?;
        // A pack may have come between.
        blobs.load(oid, tid).or_else(|error| there().and(Err(error)))
    }

    fn shared(&self) -> Option<&dyn SharedBlobs> {
        self.shared.store.blobs.as_ref().map(|_| self as &dyn SharedBlobs)
    }
}

impl SharedBlobs for TableStorage {
    fn folder(&self) -> PathBuf {
        self.blob_folder().map(BlobFolder::path).unwrap_or_default()
    }

    fn path_of(&self, oid: Oid, tid: Tid) -> PathBuf {
        self.blob_folder().map(|folder| folder.path_of(oid, tid)).unwrap_or_default()
    }

    fn adopt(&self, oid: Oid, name: &str) -> Result<Blob> {
        self.shared.writable()?;
        self.shared.blobs()?.adopt(oid, name)
    }
}

impl UndoLog for TableStorage {
    /// Rule 2.5.
    fn undo_log_where(
        &self,
        first: usize,
        last: usize,
        filter: &mut dyn FnMut(&UndoEntry) -> bool,
    ) -> Result<Vec<UndoEntry>> {
        let now = self.shared.store.now_full();
        if now.tables.facts.is_history_free {
            return Ok(Vec::new());
        }
        let (mut entries, mut to) = (Vec::new(), Tid::MAX);
        while entries.len() < last {
            let Some((tid, head)) = now.tables.head_in(Tid::ZERO, to, true)? else { break };
            if now.tables.status(tid, &head) != Status::Complete {
                break;
            }
            let Head { user, description, extension, .. } = head;
            let entry = UndoEntry { tid, user, description, extension, size: 0 };
            if filter(&entry) {
                entries.push(entry);
            }
            match tid.0.checked_sub(1) {
                Some(before) => to = Tid(before),
                None => break,
            }
        }
        Ok(entries.into_iter().skip(first).collect())
    }

    fn tombstone_source(&self, oid: Oid, tid: Tid) -> Result<Option<Tid>> {
        let found = self.shared.store.now().tables.at(oid, tid)?;
        Ok(found.filter(|at| at.row.data == 0).and_then(|at| at.source()))
    }
}

impl Versions for TableStorage {
    /// Rule 2.11.
    fn versions(&self) -> Result<Vec<Version>> {
        let now = self.shared.store.now();
        let mut versions = Vec::new();
        for number in now.tables.versions_in_use()? {
            let mut objects = now.tables.objects_in(number)?.into_iter().map(|oid| now.tables.newest(oid));
            // A pack may hide them.
            if objects.try_fold(false, |any, newest| newest.map(|newest| any || newest.is_some()))? {
                versions.push(now.tables.version(number)?);
            }
        }
        versions.sort();
        Ok(versions)
    }

    /// Rule 2.10.
    fn modified_in_version(&self, oid: Oid) -> Result<Version> {
        let now = self.shared.store.now();
        now.tables.newest(oid)?.map_or(Ok(Version::TRUNK), |at| now.tables.version(at.row.version))
    }
}

/// Votes on a draft, if nothing that it needs is held.
fn vote(shared: &Arc<Shared>, waiting: Waiting) -> Result<Vote> {
    let judging = shared.judging.read();
    let files = shared.store.blobs.as_ref();
    let now = || Asked { tables: Moment(shared.store.now_full()), blobs: files };
    let judged = match lock_and_judge(&shared.locks, now, &*shared.options.resolver, waiting)? {
        Ok(judged) => judged,
        Err(waiting) => return Ok(Vote::Busy(waiting)),
    };
    let Judged { draft, held, past, verdict } = judged;
    let (meta, origin, _) = draft.into_parts();
    let bytes = |write: &Write| match &write.content {
        Content::Data(data) => data.len(),
        _ => 0,
    };
    shared.within_quota(verdict.writes.iter().map(bytes).sum())?;
    let brings = |write: &Write| matches!(&write.content, Content::Data(data) if data.blob().is_some());
    if verdict.writes.iter().any(brings) {
        shared.blobs()?;
    }
    let blobs = blobs::of_writes(files, &past, &verdict.writes)?;
    verdict.writes.iter().for_each(|write| shared.oids.saw(write.oid));
    let waits = |write: &Write| matches!(&write.content, Content::Data(data) if data.in_memory().is_none());
    let is_spilled = verdict.writes.iter().any(waits);
    let writes = Arc::new(verdict.writes.clone());
    let mut voted = shared.voted.lock();
    let number = voted.last_key_value().map_or(0, |(last, _)| last + 1);
    voted.insert(number, Arc::clone(&writes));
    // From now on a pack keeps the shared revisions, and their blobs.
    drop((voted, past, judging));
    let (touched, merged) = (verdict.touched(), verdict.merged.clone());
    let job = Job { meta, origin, writes, held, number, blobs: Vec::new(), is_spilled };
    let mut prepared = Finish { shared: Arc::clone(shared), verdict, job: Some(job), number };
    // A rehearsal has no files: it is never finished.
    if let (Some(files), Some(job), false) = (files, &mut prepared.job, shared.options.read_only) {
        for (oid, blob) in blobs {
            job.blobs.push((oid, files.claim(&blob, oid)?));
        }
    }
    Ok(Vote::Voted(Voted::new(touched, merged, prepared)))
}

/// A transaction after its vote.
struct Finish {
    shared: Arc<Shared>,
    verdict: Verdict,
    job: Option<Job>,
    number: u64,
}

impl Drop for Finish {
    fn drop(&mut self) {
        if self.job.is_some() {
            self.shared.voted.lock().remove(&self.number);
        }
    }
}

impl Prepared for Finish {
    fn verdict(&self) -> Result<Verdict> {
        Ok(self.verdict.clone())
    }

    fn finish(self: Box<Self>) -> Result<Tid> {
        self.begin_finish()()
    }

    fn begin_finish(mut self: Box<Self>) -> Finishing {
        if let Err(error) = self.shared.writable() {
            return Box::new(|| Err(error));
        }
        let Some(job) = self.job.take() else { unreachable!("it is finished once") };
        let shared = Arc::clone(&self.shared);
        let ticket = shared.commits.enqueue(job);
        Box::new(move || shared.commits.outcome(&shared, ticket))
    }
}

impl Limits for Shared {
    /// Refuses a store over the quota at once, and keeps its oid from being given out.
    fn admit(&self, length: u64, change: &Change) -> Result<u64> {
        if change.blob().is_some() {
            self.blobs()?;
        }
        if matches!(change, Change::Undo { .. }) && self.store.now().tables.facts.is_history_free {
            let why = "it is history-free: it forgets older revisions, so nothing can be undone".to_owned();
            return Err(Error::Unfit { name: self.name(), why });
        }
        if let Change::Store { oid, .. } | Change::Restore { oid, .. } = change {
            self.oids.saw(*oid);
        }
        let length = length + change.data().map_or(0, |data| data.len());
        self.within_quota(length)?;
        Ok(length)
    }

    fn spill_after(&self) -> u64 {
        self.options.spill_after
    }

    fn scratch(&self) -> Result<Scratch> {
        let path = &*self.store.path;
        let file = self.options.disk.scratch(path);
        let file = file.map_err(|e| Error::io(path, "writing a large transaction to a scratch file beside it", e))?;
        Ok(Scratch::new(path, Box::new(OnDisk(file))))
    }
}

/// A scratch file of our own disk.
struct OnDisk(Arc<dyn DiskFile>);

impl ScratchFile for OnDisk {
    fn write_at(&self, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        self.0.write_at(bytes, offset)
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
        match self.0.read_full_at(bytes, offset)? {
            read if read == bytes.len() => Ok(()),
            _ => Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "a scratch file is shorter than it was")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use vellum_disk::SimDisk;

    use super::*;

    /// The step of a pack waits for a listener before it gives its turn back: a listener that judges must not wait for
    /// that turn.
    #[test]
    fn a_vote_does_not_wait_for_the_turn() {
        let storage = Options::new().disk(Arc::new(SimDisk::new(0))).create("site.vellum").unwrap();
        let shared = &storage.shared;
        let mut draft = storage.begin(TransactionMeta::new()).unwrap();
        draft.store(Oid::ROOT, Tid::ZERO, Bytes::from_static(b"cm\nC\n.N.")).unwrap();
        let (voted, is_voted) = channel();
        let in_time = std::thread::scope(|scope| {
            let turn = shared.store.turn();
            let judging = shared.judging.write();
            scope.spawn(|| {
                drop(storage.vote(draft).unwrap());
                voted.send(()).unwrap();
            });
            while !shared.is_awaited() {
                std::thread::yield_now();
            }
            drop(judging);
            let in_time = is_voted.recv_timeout(std::time::Duration::from_secs(10));
            drop(turn);
            in_time
        });
        in_time.unwrap();
    }
}
