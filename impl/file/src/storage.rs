//! The storage that a file is: the front door to `read`, `write` and `pack`.

mod journal;
mod packing;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arc_swap::Guard;
use bytes::Bytes;
use vellum_blob::{BlobFiles, BlobFolder, Found};
use vellum_disk::DiskFile;
use vellum_storage::{
    Blob, BlobWriter, Blobs, Bulk, CurrentRecord, Draft, Error, HistoryEntry, Invalidation, Limits, Listener,
    Listening, Loaded, LoadedAt, Oid, Order, Pack, Result, SharedBlobs, Storage, Tid, TidRange, TransactionMeta,
    TransactionRecord, UndoEntry, UndoLog, Version, Versions, Vote, Waiting,
};

use crate::format::beside::beside;
use crate::format::fault::Fault;
use crate::format::record::Record;
use crate::journal::LeftJournal;
use crate::open::{self, OnDisk, Opened, Recovery};
use crate::options::{OpenError, Options};
use crate::pack;
use crate::read::database::Database;
use crate::read::generation::Generation;
use crate::read::horizon::Horizon;
use crate::read::index_file::Missing;
use crate::read::iterate::{self, Transactions};
use crate::read::log::Log;
use crate::read::undo;
use crate::read::versions::VersionTable;
use crate::walk::Walk;
use crate::write::bulk;
use crate::write::record::bare_length;
use crate::write::vote::vote;
use crate::write::writer::Writer;

/// An object database in an append-only file. Cloning gives another handle to the same open file; when the last one is
/// dropped, the `.index` is saved and the lock given back.
#[derive(Clone, Debug)]
pub struct FileStorage {
    writer: Arc<Writer>,
    recovery: Arc<Option<Recovery>>,
    journal: Arc<Option<LeftJournal>>,
    missing: Arc<Option<Missing>>,
    /// The first transaction that is out of order, if a call has looked for it.
    disorder: Arc<OnceLock<Option<Fault>>>,
}

vellum_storage::inherent!(FileStorage);

impl FileStorage {
    /// Opens the database at `path` for reading and writing.
    ///
    /// # Errors
    ///
    /// The file is missing, locked by another process, not a database, or damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<FileStorage, OpenError> {
        Options::new().open(path)
    }

    /// Opens the database at `path` for reading only.
    ///
    /// # Errors
    ///
    /// The file is missing, not a database, or damaged.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<FileStorage, OpenError> {
        Options::new().read_only().open(path)
    }

    /// Makes an empty database at `path`.
    ///
    /// # Errors
    ///
    /// There is a file already, or it cannot be made.
    pub fn create(path: impl AsRef<Path>) -> Result<FileStorage, OpenError> {
        Options::new().create(path)
    }

    fn new(options: &Options, opened: Opened) -> Result<FileStorage> {
        let Opened { path, file, index, end, last, recovery, journal, missing, lock, blobs, index_on_disk } = opened;
        let last_oid = index.last_oid().unwrap_or_default();
        let log = Log { path: path.clone(), file };
        let generation = Generation::new(0, log, index, Horizon::new(end, last), VersionTable::default());
        let database = Database::new(path, options, blobs, generation, index_on_disk == OnDisk::Same);
        if index_on_disk == OnDisk::Useless {
            // As ZODB does: the next opening need not walk over the whole file, even if this one ends in a crash.
            if let Err(e) = database.save_index() {
                tracing::warn!("{e}");
            }
        }
        let storage = FileStorage {
            writer: Arc::new(Writer::new(database, last_oid, lock)),
            recovery: Arc::new(recovery),
            journal: Arc::new(journal),
            missing: Arc::new(missing),
            disorder: Arc::default(),
        };
        storage.settle_blobs()?;
        storage.begin_journal()?;
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

    /// Removes what earlier processes left in the blob folder.
    fn settle_blobs(&self) -> Result<()> {
        let (database, now) = (self.database(), self.now());
        let Some(files) = database.blobs.as_ref().filter(|_| !database.options.read_only) else { return Ok(()) };
        files.folder().sweep()?;
        // Whether the pack kept the old data file tells whether it kept the blobs.
        let disk = &*database.options.disk;
        let there = |name| disk.exists(&beside(&database.path, name)).unwrap_or(true);
        pack::finish_left(files, &now, there(".old.new") || there(".old"))
    }

    fn database(&self) -> &Database {
        &self.writer.database
    }

    fn now(&self) -> Guard<Arc<Generation>> {
        self.writer.database.now()
    }

    fn draft(&self, meta: TransactionMeta) -> Result<Draft> {
        self.writer.committer.usable(self.database())?;
        meta.check(self.last_transaction())?;
        let length = bare_length(&meta);
        Ok(Draft::within(meta, Arc::clone(&self.writer) as Arc<dyn Limits>, length))
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.database().path
    }

    /// Returns the blob folder; none if the storage was opened without one.
    pub fn blob_folder(&self) -> Option<&BlobFolder> {
        self.database().blobs.as_ref().map(BlobFiles::folder)
    }

    /// Returns one of the blobs that are found first in the blob folder, if the database knows none of them: then the
    /// folder may be another database's. Single files without a record are normal.
    pub fn foreign_blob(&self) -> Option<(Oid, Tid)> {
        let (now, mut foreign) = (self.now(), None);
        for found in self.blob_folder()?.walk().take(SAMPLED) {
            let Ok(Found::Blob { oid, tid, .. }) = found else { continue };
            match now.record_at(oid, tid) {
                Ok(None) => foreign = Some((oid, tid)),
                Ok(Some(_)) | Err(_) => return None,
            }
        }
        foreign
    }

    /// Returns what the opening did to the end of the file; none if the end was in order.
    pub fn recovery(&self) -> Option<&Recovery> {
        self.recovery.as_ref().as_ref()
    }

    /// Returns what the `.index` beside the file knows that the file has not any more; none if nothing is missing. Only
    /// a storage that is open for reading can have it: for writing, such a file is refused.
    pub fn missing(&self) -> Option<&Missing> {
        self.missing.as_ref().as_ref()
    }

    /// Returns the first transaction that is not later than the one before it in the file; none if all are in order.
    /// Copying older transactions behind newer ones makes such a file. Everything in it can be read, but its state at a
    /// time is unknown. After this call, [`Storage::transactions`] finds all transactions of a range in such a file,
    /// in the order of the file; before, it may miss some.
    ///
    /// Costs, the first time: a look at every header of the file.
    pub fn disorder(&self) -> Option<&Fault> {
        let look = || {
            let now = self.now();
            open::disorder(&*now.log.file, now.horizon.end(), Tid::MAX)
        };
        self.disorder.get_or_init(look).as_ref()
    }

    /// Fails if the transactions are not in the order of their tids: for what goes by times.
    ///
    /// # Errors
    ///
    /// The first transaction that is out of order.
    pub fn in_order(&self) -> Result<()> {
        self.disorder().map_or(Ok(()), |fault| Err(open::out_of_order(self.path(), fault)))
    }

    /// Returns the bytes of memory that the index takes.
    pub fn index_memory(&self) -> u64 {
        self.now().index.memory()
    }

    /// Returns the number of voted transactions that wait for the one that is being written.
    pub fn commits_waiting(&self) -> usize {
        self.writer.committer.waiting()
    }

    /// Returns the file, and the position where the last finished transaction ends: for a walk with a
    /// [`Scanner`](crate::Scanner).
    pub fn data_file(&self) -> (Arc<dyn DiskFile>, u64) {
        let now = self.now();
        (Arc::clone(&now.log.file), now.horizon.end())
    }

    /// Returns the object's newest record as it stands in the file, in whatever version; none if the object is unknown.
    ///
    /// # Errors
    ///
    /// The record cannot be read.
    pub fn newest_record(&self, oid: Oid) -> Result<Option<Record>> {
        self.now().newest_header(oid)
    }

    /// Begins a transaction to see the verdict of its vote. As [`Storage::begin`], but a storage that is open for
    /// reading only can do it, too: there, `finish` is refused.
    ///
    /// # Errors
    ///
    /// As [`Storage::begin`].
    pub fn rehearse(&self, meta: TransactionMeta) -> Result<Draft> {
        self.draft(meta)
    }

    /// Returns the transactions that can be undone, newest first, from number `first` up to but not including `last`.
    /// As [`Storage::undo_log`], without asking whether the storage can undo: this one can.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn undoable(&self, first: usize, last: usize) -> Result<Vec<UndoEntry>> {
        UndoLog::undo_log(self, first, last)
    }

    /// Returns the versions that hold an object, by name. As [`Storage::versions`], without asking whether the storage
    /// has versions: this one has.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn all_versions(&self) -> Result<Vec<Version>> {
        Versions::versions(self)
    }

    /// Returns the objects whose newest revision is in the version, in the order of the oids.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn objects_in(&self, version: &Version) -> Result<Vec<Oid>> {
        self.now().versions(|table| table.objects(version))
    }

    /// Writes the `.index` file, so that the next opening need not walk over the file. Dropping the storage does the
    /// same, without reporting an error.
    ///
    /// # Errors
    ///
    /// The `.index` file cannot be written.
    pub fn save_index(&self) -> Result<()> {
        self.database().save_index()
    }
}

/// So many blobs are looked for in the database when it is opened.
const SAMPLED: usize = 16;

impl Storage for FileStorage {
    fn name(&self) -> String {
        self.database().name()
    }

    /// Rule 2.1.
    fn load(&self, oid: Oid, version: &Version) -> Result<Loaded> {
        let now = self.now();
        now.load(oid, version, now.horizon.end())
    }

    /// Rule 2.2.
    fn load_before(&self, oid: Oid, before: Tid) -> Result<Option<LoadedAt>> {
        self.now().load_before(oid, before)
    }

    /// Rule 2.3.
    fn load_serial(&self, oid: Oid, tid: Tid) -> Result<Bytes> {
        let missing = || Error::KeyError { oid, tid: Some(tid) };
        let now = self.now();
        let record = now.record_at(oid, tid)?.ok_or_else(missing)?;
        now.data_at(oid, record.on_trunk())?.ok_or_else(missing)
    }

    /// Rule 2.4.
    fn history(&self, oid: Oid, limit: usize) -> Result<Vec<HistoryEntry>> {
        self.now().history(oid, limit)
    }

    /// Rule 2.6.
    fn transactions(
        &self,
        range: TidRange,
        order: Order,
    ) -> Result<Box<dyn Iterator<Item = Result<TransactionRecord>> + Send>> {
        let now = self.database().now_full();
        // If the order is not known, it is taken for right: to look would cost a walk over all headers.
        let found = match self.disorder.get() {
            Some(Some(_)) => Transactions::scattered(now.log.clone(), now.horizon.end(), range, order),
            _ => Transactions::new(now.log.clone(), now.horizon.get(), range, order)?,
        };
        Ok(Box::new(Walk::new(found, &self.writer, now)))
    }

    /// Rule 2.7.
    fn last_transaction(&self) -> Tid {
        self.now().horizon.get().1
    }

    /// Rule 2.8.
    fn last_invalidations(&self, count: usize) -> Result<Vec<Invalidation>> {
        let now = self.now();
        iterate::last_invalidations(&now.log, now.horizon.end(), count)
    }

    /// Rule 2.9.
    fn current_records(&self, first: Oid) -> Box<dyn Iterator<Item = Result<CurrentRecord>> + Send> {
        let now = Guard::into_inner(self.now());
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
        self.database().writable()?;
        self.writer.oids.take(count)
    }

    fn size(&self) -> u64 {
        self.now().horizon.end()
    }

    fn object_count(&self) -> u64 {
        self.now().index.len()
    }

    /// Rule 3.0.
    fn begin(&self, meta: TransactionMeta) -> Result<Draft> {
        self.database().writable()?;
        self.draft(meta)
    }

    fn attempt(&self, waiting: Waiting) -> Result<Vote> {
        vote(&self.writer, waiting)
    }

    fn listen(&self, listener: Arc<dyn Listener>) -> Listening {
        self.database().listeners.add(listener)
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

    fn blobs(&self) -> Option<&dyn Blobs> {
        self.database().blobs.as_ref().map(|_| self as &dyn Blobs)
    }
}

impl Blobs for FileStorage {
    fn new_blob(&self) -> Result<Box<dyn BlobWriter>> {
        self.database().writable()?;
        self.database().blobs()?.writer()
    }

    /// Rule 8.2.
    fn load_blob(&self, oid: Oid, tid: Tid) -> Result<Blob> {
        let blobs = self.database().blobs()?;
        let missing = || Error::KeyError { oid, tid: Some(tid) };
        let there = || {
            let now = self.now();
            let record = now.record_at(oid, tid)?.ok_or_else(missing)?;
            now.data_at(oid, record.position)?.ok_or_else(missing)
        };
        there()?;
        // A pack may have come between.
        blobs.load(oid, tid).or_else(|error| there().and(Err(error)))
    }

    fn shared(&self) -> Option<&dyn SharedBlobs> {
        self.database().blobs.as_ref().map(|_| self as &dyn SharedBlobs)
    }
}

impl SharedBlobs for FileStorage {
    fn folder(&self) -> PathBuf {
        self.blob_folder().map(BlobFolder::path).unwrap_or_default()
    }

    fn path_of(&self, oid: Oid, tid: Tid) -> PathBuf {
        self.blob_folder().map(|folder| folder.path_of(oid, tid)).unwrap_or_default()
    }

    fn adopt(&self, oid: Oid, name: &str) -> Result<Blob> {
        self.database().writable()?;
        self.database().blobs()?.adopt(oid, name)
    }
}

impl UndoLog for FileStorage {
    fn undo_log_where(
        &self,
        first: usize,
        last: usize,
        filter: &mut dyn FnMut(&UndoEntry) -> bool,
    ) -> Result<Vec<UndoEntry>> {
        undo::undo_log(&self.now(), first, last, filter)
    }

    fn tombstone_source(&self, oid: Oid, tid: Tid) -> Result<Option<Tid>> {
        undo::tombstone_source(&self.now(), oid, tid)
    }
}

impl Versions for FileStorage {
    /// Rule 2.11.
    fn versions(&self) -> Result<Vec<Version>> {
        self.now().versions(|table| table.names())
    }

    /// Rule 2.10.
    fn modified_in_version(&self, oid: Oid) -> Result<Version> {
        Ok(self.now().newest_header(oid)?.map(|record| record.version()).unwrap_or_default())
    }
}

impl Bulk for FileStorage {
    fn copy_in(&self, transactions: Vec<TransactionRecord>) -> Result<()> {
        bulk::copy_in(&self.writer, transactions)
    }
}

impl Options {
    /// Opens the database at `path`.
    ///
    /// # Errors
    ///
    /// The file is missing, locked by another process, not a database, or damaged.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<FileStorage, OpenError> {
        Ok(FileStorage::new(self, open::open(self, path.as_ref())?)?)
    }

    /// Makes an empty database at `path`.
    ///
    /// # Errors
    ///
    /// There is a file already, or it cannot be made.
    pub fn create(&self, path: impl AsRef<Path>) -> Result<FileStorage, OpenError> {
        Ok(FileStorage::new(self, open::create(self, path.as_ref())?)?)
    }

    /// Opens the database at `path`, or makes an empty one if there is no file.
    ///
    /// # Errors
    ///
    /// The file is locked by another process, not a database, or damaged; or it cannot be made.
    pub fn open_or_create(&self, path: impl AsRef<Path>) -> Result<FileStorage, OpenError> {
        match self.open(path.as_ref()) {
            Err(OpenError::NotFound { .. }) => self.create(path),
            other => other,
        }
    }
}
