//! The database: a storage, what its connections must know of each other's commits, and the pool of connections.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use vellum_pickle::ClassName;
use vellum_storage::{Error as StorageError, Event, Listening, Oid, Storage, Tid, TransactionMeta, Version};

use crate::Connection;
use crate::encode::encode;
use crate::error::{Error, Result, Trouble};
use crate::handle::Core;
use crate::heap::State;
use crate::value::{Record, Value};

/// Transactions that the database remembers for connections that are behind. A connection that is further behind
/// makes ghosts of all its objects.
const REMEMBERED: usize = 1000;

/// How long a new try waits to hear of the last transaction at most.
const HEARING_MAX: Duration = Duration::from_secs(1);

/// How a database treats its connections.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes of loaded objects that a connection keeps in memory.
    pub bytes_max: u64,
    /// Loaded objects that a connection keeps in memory.
    pub objects_max: u64,
    /// Closed connections that a thread keeps, with their objects.
    pub pool_max: usize,
    /// How often [`Database::transact`] tries.
    pub tries_max: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options { bytes_max: 64 << 20, objects_max: u64::MAX, pool_max: 7, tries_max: 10 }
    }
}

/// The transactions that were committed last.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// The last transaction.
    last: Tid,
    /// All changes after this transaction are remembered.
    since: Tid,
    entries: VecDeque<(Tid, Vec<Oid>)>,
}

impl Log {
    fn hear(&mut self, event: &Event) {
        match event {
            Event::Committed { tid, oids, .. } => {
                self.last = self.last.max(*tid);
                self.entries.push_back((*tid, oids.clone()));
                if self.entries.len() > REMEMBERED
                    && let Some((tid, _)) = self.entries.pop_front()
                {
                    self.since = tid;
                }
            }
            Event::Copied { last, .. } => {
                self.last = self.last.max(*last);
                self.since = self.last;
                self.entries.clear();
            }
            Event::Packed { .. } => {}
        }
    }

    /// The objects that were changed after a transaction, each with the transaction. None if that is not known.
    fn after(&self, tid: Tid) -> Option<Vec<(Tid, Oid)>> {
        if tid < self.since {
            return None;
        }
        let later = self.entries.iter().rev().take_while(|(at, _)| *at > tid);
        Some(later.flat_map(|(at, oids)| oids.iter().map(|oid| (*at, *oid))).collect())
    }
}

/// The log of a database, and its listener's word that there is more.
#[derive(Debug, Default)]
struct Hearing {
    log: Mutex<Log>,
    heard: Condvar,
}

impl Hearing {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, event: &Event) {
        self.log().hear(event);
        self.heard.notify_all();
    }
}

/// The part of a database that its connections share.
pub(crate) struct Shared {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) options: Options,
    hearing: Arc<Hearing>,
    _listening: Listening,
    /// Its number in the pools of the threads.
    number: u64,
}

impl Shared {
    /// Waits until the database has heard of the storage's last transaction. A storage gives an object free before it
    /// tells of the commit that changed it, so a transaction that begins right after a conflict may meet the same one.
    fn hear_of_last(&self) {
        let last = self.storage.last_transaction();
        let heard = self.hearing.heard.wait_timeout_while(self.hearing.log(), HEARING_MAX, |log| log.last < last);
        drop(heard.unwrap_or_else(PoisonError::into_inner));
    }

    /// The last transaction, and the objects that were changed after `tid`.
    pub(crate) fn news(&self, tid: Tid) -> (Tid, Option<Vec<(Tid, Oid)>>) {
        let log = self.hearing.log();
        (log.last, log.after(tid))
    }
}

/// A database of objects: any storage, seen through connections. Cloning gives another handle; threads share it.
///
/// ```
/// use vellum_object::{Database, PersistentMapping};
/// use vellum_storage::MemoryStorage;
///
/// let database = Database::open(MemoryStorage::new("memory"))?;
/// database.transact(|connection| {
///     let root = connection.root::<PersistentMapping>();
///     root.change(|root| root.insert("greeting", "hello"))?;
///     Ok(())
/// })?;
/// let connection = database.connect()?;
/// let root = connection.root::<PersistentMapping>().view()?;
/// assert_eq!(root.get("greeting").and_then(|value| value.as_text()), Some("hello"));
/// # Ok::<(), vellum_object::Error>(())
/// ```
#[derive(Clone)]
pub struct Database {
    shared: Arc<Shared>,
}

static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// The closed connections of one thread to one database.
struct Pool {
    database: Weak<Shared>,
    cores: Vec<Rc<Core>>,
}

thread_local! {
    /// The pools of this thread, by the number of their database.
    static POOLS: RefCell<HashMap<u64, Pool>> = RefCell::default();
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Their states run code of the program when they are dropped, so that happens after the borrow.
        let _ended = POOLS.try_with(|pools| pools.try_borrow_mut().ok()?.remove(&self.number));
    }
}

/// Takes the pools of databases that ended in other threads.
fn ended(pools: &mut HashMap<u64, Pool>) -> Vec<Pool> {
    pools.extract_if(|_, pool| pool.database.strong_count() == 0).map(|(_, pool)| pool).collect()
}

impl Database {
    /// Opens the database of a storage. A storage without a root gets one, as ZODB makes it.
    ///
    /// # Errors
    ///
    /// The storage fails.
    pub fn open(storage: impl Storage + 'static) -> Result<Database> {
        Database::with(Arc::new(storage), Options::default())
    }

    /// The same with options.
    ///
    /// # Errors
    ///
    /// The storage fails.
    pub fn with(storage: Arc<dyn Storage>, options: Options) -> Result<Database> {
        let hearing = Arc::new(Hearing::default());
        let ear = Arc::clone(&hearing);
        let listening = storage.listen(Arc::new(move |event: &Event| ear.hear(event)));
        if let Err(StorageError::KeyError { .. }) = storage.load(Oid::ROOT, &Version::TRUNK) {
            create_root(&*storage)?;
        }
        {
            let last = storage.last_transaction();
            let mut log = hearing.log();
            // The listener may have heard of later ones already.
            log.last = log.last.max(last);
            log.since = log.last;
            log.entries.clear();
        }
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Ok(Database { shared: Arc::new(Shared { storage, options, hearing, _listening: listening, number }) })
    }

    /// The storage.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.shared.storage
    }

    /// A connection that shows the last transaction: one from the pool of this thread, or a new one.
    ///
    /// # Errors
    ///
    /// None today; the storage's, once connecting asks it for something.
    pub fn connect(&self) -> Result<Connection> {
        let (pooled, _ended) = POOLS.with_borrow_mut(|pools| {
            let pooled = pools.get_mut(&self.shared.number).and_then(|pool| pool.cores.pop());
            let ended = if pooled.is_none() { ended(pools) } else { Vec::new() };
            (pooled, ended)
        });
        let core = pooled.unwrap_or_else(Core::new);
        self.give(&core);
        core.advance()?;
        Ok(Connection { core })
    }

    /// Rule 7.3: a connection that shows the database as it was after the transaction `at`, or the last one before that
    /// time. It changes nothing, and its view never moves.
    ///
    /// # Errors
    ///
    /// [`Error::Future`] for a moment after the last transaction.
    pub fn connect_at(&self, at: Tid) -> Result<Connection> {
        let last = self.shared.news(Tid::ZERO).0;
        if at > last {
            return Err(Error::Future { at, last });
        }
        let core = Core::new();
        self.give(&core);
        core.moment.set(at);
        core.is_past.set(true);
        Ok(Connection { core })
    }

    /// Gives a connection the storage, and its budget.
    fn give(&self, core: &Core) {
        core.heap(|heap| heap.clock.keep_to(self.shared.options.bytes_max, self.shared.options.objects_max));
        *core.shared.borrow_mut() = Some(Arc::clone(&self.shared));
    }

    /// Does `work` in a transaction, and commits it. It begins again after a conflict, and after a look at an object
    /// that is not there any more as the transaction sees it, since a pack removed that revision; at most as often as
    /// [`Options::tries_max`] says. After another error it gives the changes up.
    ///
    /// # Errors
    ///
    /// Those of `work` and of the commit; after the last try, that of the try.
    pub fn transact<R>(&self, mut work: impl FnMut(&Connection) -> Result<R>) -> Result<R> {
        let connection = self.connect()?;
        let mut tries = self.shared.options.tries_max.max(1);
        loop {
            tries -= 1;
            let done = work(&connection).and_then(|result| connection.commit().map(|_| result));
            match done {
                Err(error) if tries > 0 && self.is_outrun(&error) => {
                    self.shared.hear_of_last();
                    connection.abort()?;
                }
                done => return done,
            }
        }
    }

    /// Whether an error may be that of a view that others have left behind.
    fn is_outrun(&self, error: &Error) -> bool {
        let last = || self.shared.storage.last_transaction();
        error.is_conflict() || error.missing_at().is_some_and(|moment| moment < last())
    }
}

/// Ends the use of a connection, which aborts, and puts it into the pool of this thread.
pub(crate) fn close(core: &Rc<Core>) {
    let Some(shared) = core.shared.borrow().clone() else { return };
    // New objects could never be reached again. Its loaded objects stay, for the next use of the connection. Finalizers
    // may have changed some; a connection with new objects that stay is of no use to another.
    let aborted = core.abort().and_then(|()| core.collect_new()).and_then(|_| core.abort());
    *core.shared.borrow_mut() = None;
    let has_new = core.heap(|heap| {
        heap.unpin_all();
        !heap.in_states(&[State::New]).is_empty()
    });
    if aborted.is_err() || has_new || core.is_past.get() || std::thread::panicking() {
        return;
    }
    // At the end of a thread the pools may be gone.
    let _ = POOLS.try_with(|pools| {
        if let Ok(mut pools) = pools.try_borrow_mut() {
            let new = || Pool { database: Arc::downgrade(&shared), cores: Vec::new() };
            let cores = &mut pools.entry(shared.number).or_insert_with(new).cores;
            if cores.len() < shared.options.pool_max {
                cores.push(Rc::clone(core));
            }
        }
    });
}

/// The class of the root, and of all mappings.
pub(crate) const MAPPING: (&str, &str) = ("persistent.mapping", "PersistentMapping");

fn create_root(storage: &dyn Storage) -> Result<()> {
    let class = Value::class(MAPPING.0, MAPPING.1);
    let state = Value::Dict(vec![(Value::text("data"), Value::Dict(Vec::new()))]);
    let record = Record { class, state, protocol: 3 };
    let unwritable = |trouble| Error::Unwritable {
        oid: Some(Oid::ROOT),
        class: Some(Box::new(ClassName { module: MAPPING.0.to_owned(), name: MAPPING.1.to_owned() })),
        trouble,
    };
    let bytes = encode(&record, &mut |_| Err(Trouble::Unknown)).map_err(unwritable)?;
    let mut draft = storage.begin(TransactionMeta::new().description("initial database creation"))?;
    draft.store(Oid::ROOT, Tid::ZERO, bytes.into())?;
    match storage.commit(draft) {
        // Another program made one at the same time.
        Err(StorageError::Refused(_)) => storage.load(Oid::ROOT, &Version::TRUNK).map(|_| ()).map_err(Error::from),
        done => done.map(|_| ()).map_err(Error::from),
    }
}
