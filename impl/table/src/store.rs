//! The open store: snapshots for readers, and one writer at a time.

use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, Guard};
use redb::{Builder, Database, ReadTransaction, ReadableDatabase, WriteTransaction};
use vellum_blob::{BlobFiles, Opening};
use vellum_disk::{Disk, Lock, Open};
use vellum_storage::{Error, Oid, Result, Tid};

use crate::backend::{Backend, Failure, is_store};
use crate::facts::FORMAT;
use crate::line::{self, Line};
use crate::options::{OpenError, Options};
use crate::tables::{Reading, Tables, Writing, door, said, trouble};

/// The tables of a moment.
pub(crate) struct Snapshot {
    pub tables: Tables<Reading>,
    pub last: Tid,
    /// The tables are part of it.
    _transaction: ReadTransaction,
}

impl Snapshot {
    fn new(path: &Arc<Path>, database: &Database) -> Result<Snapshot> {
        let transaction = database.begin_read().map_err(|error| trouble(path, error))?;
        let tables = Tables::reading(path, &transaction)?;
        let last = tables.last()?;
        Ok(Snapshot { tables, last, _transaction: transaction })
    }
}

/// A snapshot as part 3 of the rules asks about it.
pub(crate) struct Moment(pub Arc<Snapshot>);

impl Deref for Moment {
    type Target = Tables<Reading>;

    fn deref(&self) -> &Tables<Reading> {
        &self.0.tables
    }
}

/// The right to write, with what only the writer knows.
pub(crate) struct Turn {
    /// The last number that a revision has.
    pub number: u64,
    /// Whether a pack goes by a list of revisions that it made before: no commit removes any then (rule 4.12).
    pub is_packing: bool,
    /// Whether commits keep what is old, since an old row is damaged.
    pub forgets_nothing: bool,
}

pub(crate) type OnTurn<'a> = line::OnTurn<'a, Turn>;

pub(crate) struct Store {
    pub path: Arc<Path>,
    database: Database,
    disk: Arc<dyn Disk>,
    /// The blob folder, if it has one.
    pub blobs: Option<BlobFiles>,
    now: ArcSwap<Snapshot>,
    pub line: Line<Turn>,
    failure: Arc<Failure>,
    /// Why nothing more may be written.
    failed: OnceLock<String>,
    /// Given back last.
    _lock: Box<dyn Lock>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the file, or makes an empty database in a new one.
    pub fn open(options: &Options, path: &Path, how: Open) -> Result<Store, OpenError> {
        let disk = &options.disk;
        let lock = match how {
            Open::CreateNew if exists(&**disk, path)? => return Err(OpenError::Exists { path: path.to_owned() }),
            Open::CreateNew => lock(&**disk, path)?,
            _ => lock_store(&**disk, path)?,
        };
        let opening =
            Opening { layout: options.blob_layout, read_only: options.read_only, data_is_new: how == Open::CreateNew };
        let blobs = options.blobs.as_ref().map(|folder| BlobFiles::open(disk, folder, opening)).transpose()?;
        if how == Open::CreateNew {
            make(options, path)?;
        }
        let failure = Arc::new(Failure::default());
        let how = if options.read_only { Open::Read } else { Open::ReadWrite };
        let database = open_database(options, path, how, &failure)?;
        let path: Arc<Path> = path.into();
        let now = Snapshot::new(&path, &database).map_err(|error| OpenError::NotATable {
            path: path.to_path_buf(),
            why: format!("it has not the tables of one ({error})"),
        })?;
        if now.tables.facts.format != FORMAT {
            let why = format!("its tables have form {}, and this program knows form {FORMAT}", now.tables.facts.format);
            return Err(OpenError::NotATable { path: path.to_path_buf(), why });
        }
        if options.history_free && !now.tables.facts.is_history_free {
            return Err(OpenError::KeepsHistory { path: path.to_path_buf() });
        }
        // A record whose number is counted must not come again: its references would not be counted.
        let number = now.tables.last_number()?.max(now.tables.facts.counted);
        Ok(Store {
            path,
            database,
            disk: Arc::clone(disk),
            blobs,
            now: ArcSwap::from_pointee(now),
            line: Line::new(Turn { number, is_packing: false, forgets_nothing: false }),
            failure,
            failed: OnceLock::new(),
            _lock: lock,
        })
    }

    /// The last snapshot, for a call that ends soon.
    pub fn now(&self) -> Guard<Arc<Snapshot>> {
        self.now.load()
    }

    /// The last snapshot, to keep: the store keeps its pages as long.
    pub fn now_full(&self) -> Arc<Snapshot> {
        self.now.load_full()
    }

    /// Bytes of the file.
    pub fn size(&self) -> Result<u64> {
        let file = self.disk.open(&self.path, Open::Read).and_then(|file| file.len());
        file.map_err(|e| Error::io(&*self.path, "asking for its length", e))
    }

    pub fn turn(&self) -> OnTurn<'_> {
        self.line.turn()
    }

    /// Changes the tables in one step, which is durable and visible when this returns. After an error of the disk
    /// nothing more is written: the store cannot tell what reached it.
    pub fn change<T>(
        &self,
        turn: &mut Turn,
        change: impl FnOnce(&mut Tables<Writing<'_>>, &mut u64) -> Result<T>,
    ) -> Result<T> {
        self.usable()?;
        let transaction = self.database.begin_write().map_err(|error| self.broken(error.into()))?;
        let mut number = turn.number;
        let done = door(&self.path, || self.within(&transaction, |tables| change(tables, &mut number)));
        match done {
            Ok(done) => {
                transaction.commit().map_err(|error| self.broken(error.into()))?;
                turn.number = number;
                let next = Snapshot::new(&self.path, &self.database).inspect_err(|error| {
                    self.failed.get_or_init(|| error.to_string());
                })?;
                self.now.store(Arc::new(next));
                Ok(done)
            }
            Err(error) => {
                if let Err(abort) = transaction.abort() {
                    self.broken(abort.into());
                }
                if let Some(cause) = self.failure.get() {
                    self.failed.get_or_init(|| cause);
                }
                Err(error)
            }
        }
    }

    /// Moves pages to the beginning of the file, cuts it behind them, and closes it. The snapshots of readers must be
    /// gone, which nobody has of a store that was just opened.
    pub fn compact(self) -> Result<()> {
        let Store { path, mut database, now, failure, _lock, .. } = self;
        drop(now);
        let compacted = door(&path, || database.compact().map(drop).map_err(|error| trouble(&path, error)));
        drop(database);
        match failure.get() {
            Some(cause) => Err(Error::io(&*path, "compacting it", std::io::Error::other(cause))),
            None => compacted,
        }
    }

    fn within<'t, T>(
        &self,
        transaction: &'t WriteTransaction,
        change: impl FnOnce(&mut Tables<Writing<'t>>) -> Result<T>,
    ) -> Result<T> {
        let unowned = self.blobs.is_some() || self.now().tables.unowned.is_some();
        let mut tables = Tables::writing(&self.path, transaction, unowned)?;
        let before = tables.facts;
        let done = change(&mut tables)?;
        if tables.facts != before {
            tables.write_facts()?;
        }
        Ok(done)
    }

    fn broken(&self, error: redb::Error) -> Error {
        let cause = self.failure.get().unwrap_or_else(|| error.to_string());
        self.failed.get_or_init(|| cause.clone());
        Error::io(&*self.path, "writing a transaction, of which it is not known whether it is there", io(error, cause))
    }

    /// Writes nothing more: the state of the disk is unknown.
    pub fn fail(&self, cause: String) {
        self.failed.get_or_init(|| cause);
    }

    /// An error if an earlier write left the state of the disk unknown.
    pub fn usable(&self) -> Result<()> {
        self.failed.get().map_or(Ok(()), |cause| Err(self.error(cause)))
    }

    pub fn is_failed(&self) -> bool {
        self.failed.get().is_some()
    }

    /// The error of a call after a failure.
    pub fn error(&self, cause: &str) -> Error {
        Error::Failed { name: self.path.display().to_string(), cause: cause.to_owned() }
    }
}

fn exists(disk: &dyn Disk, path: &Path) -> Result<bool> {
    disk.exists(path).map_err(|e| Error::io(path, "looking for it", e))
}

/// Locks a file that must be there, and must begin as the store's files do.
pub(crate) fn lock_store(disk: &dyn Disk, path: &Path) -> Result<Box<dyn Lock>, OpenError> {
    if !exists(disk, path)? {
        return Err(OpenError::NotFound { path: path.to_owned() });
    }
    if !is_store(disk, path).map_err(|e| Error::io(path, "reading its beginning", e))? {
        let why = "it does not begin as the store's files do".to_owned();
        return Err(OpenError::NotATable { path: path.to_owned(), why });
    }
    lock(disk, path)
}

fn lock(disk: &dyn Disk, path: &Path) -> Result<Box<dyn Lock>, OpenError> {
    let beside = with_suffix(path, ".lock");
    disk.lock(&beside).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => OpenError::Locked { path: path.to_owned() },
        _ => OpenError::Storage(Error::io(&beside, "taking the lock", error)),
    })
}

fn io(error: redb::Error, cause: String) -> std::io::Error {
    match error {
        redb::Error::Io(error) => error,
        _ => std::io::Error::other(cause),
    }
}

fn refused(path: &Path, error: redb::DatabaseError) -> OpenError {
    match error {
        redb::DatabaseError::Storage(redb::StorageError::Io(error))
            if error.kind() != std::io::ErrorKind::InvalidData && error.kind() != std::io::ErrorKind::UnexpectedEof =>
        {
            OpenError::Storage(Error::io(path, "opening the store", error))
        }
        other => OpenError::Damaged { path: path.to_owned(), why: other.to_string() },
    }
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(crate) fn open_database(
    options: &Options,
    path: &Path,
    how: Open,
    failure: &Arc<Failure>,
) -> Result<Database, OpenError> {
    let file = options.disk.open(path, how).map_err(|e| Error::io(path, "opening it", e))?;
    let backend = match how {
        Open::Read => Backend::read_only(file, Arc::clone(failure)).map_err(|e| Error::io(path, "opening it", e))?,
        _ => Backend::new(file, Arc::clone(failure)),
    };
    let open = || Builder::new().set_cache_size(options.cache_bytes).create_with_backend(backend);
    let opened = catch_unwind(AssertUnwindSafe(open));
    let opened = opened.map_err(|panic| OpenError::Damaged { path: path.to_owned(), why: said(&*panic) })?;
    opened.map_err(|error| refused(path, error))
}

/// Makes an empty database, under another name until it is whole.
fn make(options: &Options, path: &Path) -> Result<(), OpenError> {
    let half_made = with_suffix(path, ".new");
    let failure = Arc::new(Failure::default());
    let database = open_database(options, &half_made, Open::Truncate, &failure)?;
    let transaction = database.begin_write().map_err(|error| trouble(path, error))?;
    {
        let mut tables = Tables::writing(&path.into(), &transaction, false)?;
        tables.facts.format = FORMAT;
        tables.facts.is_history_free = options.history_free;
        tables.write_facts()?;
    }
    transaction.commit().map_err(|error| trouble(path, error))?;
    drop(database);
    if let Some(cause) = failure.get() {
        return Err(Error::io(&half_made, "making it", std::io::Error::other(cause)).into());
    }
    let disk = &options.disk;
    let named = || {
        // The store may have written while it was closed.
        disk.open(&half_made, Open::ReadWrite)?.sync()?;
        disk.rename(&half_made, path)?;
        disk.sync_directory(path)
    };
    Ok(named().map_err(|e| Error::io(path, "giving the new file its name", e))?)
}

/// The oids that are free.
#[derive(Debug)]
pub(crate) struct Oids(vellum_sync::atomic::AtomicU64);

impl Oids {
    pub fn after(last: Oid) -> Oids {
        Oids(vellum_sync::atomic::AtomicU64::new(last.0))
    }

    /// Gives out so many, each once.
    pub fn take(&self, count: u32) -> Result<Vec<Oid>> {
        use vellum_sync::atomic::Ordering::Relaxed;
        let first = self.0.fetch_update(Relaxed, Relaxed, |last| last.checked_add(u64::from(count)));
        let first = first.map_err(|_| Error::Exhausted { what: "oids" })?;
        Ok((1..=u64::from(count)).map(|n| Oid(first + n)).collect())
    }

    /// Makes sure that no oid up to this one is given out.
    pub fn saw(&self, oid: Oid) {
        self.0.fetch_max(oid.0, vellum_sync::atomic::Ordering::Relaxed);
    }
}
