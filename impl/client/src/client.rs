//! The asynchronous API: every call returns at once, with a promise.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use vellum_disk::RealDisk;
use vellum_storage::{
    Blob, CurrentRecord, HistoryEntry, Listener, Listening, Loaded, LoadedAt, Oid, Origin, Revision, Tid, TidRange,
    TransactionMeta, TransactionRecord, UndoEntry, Version,
};
use vellum_sync::Mutex;
use vellum_wire::Reach;

use crate::ask::{Answer, Ask, Info, IteratorId};
use crate::hint_file;
use crate::keep::Cache;
use crate::machine::{Config, Machine};
use crate::options::ClientOptions;
use crate::promise::{Promise, Resolver};
use crate::shell::dial::{Dial, Sockets};
use crate::shell::driver::Driver;
use crate::shell::hub::Hub;
use crate::tiers::TieredCache;
use crate::trace::Trace;
use crate::transaction::Transaction;

/// A client of a server. Clones are the same client; when the last of them is dropped, the connection ends.
///
/// Each call returns at once, and its answer is a [`Promise`], which can be passed on to the next call:
///
/// ```no_run
/// use vellum_client::{Client, ClientOptions};
/// use vellum_storage::{Tid, TransactionMeta};
///
/// let client = Client::open(ClientOptions::at("127.0.0.1:8100"))?;
/// let transaction = client.begin(TransactionMeta::new().user("ann"));
/// for text in ["one", "two", "three"] {
///     transaction.store(client.new_oid(), Tid::ZERO, text.into());
/// }
/// let tid = transaction.commit().wait()?;
/// println!("committed as {tid}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Client {
    pub(crate) hub: Arc<Hub>,
    oids: Arc<Mutex<Pool>>,
    life: Arc<Life>,
}

/// Ends the client when its last handle is dropped.
struct Life {
    hub: Arc<Hub>,
    /// Where its hints are kept.
    hints: Option<PathBuf>,
    cache: Option<Arc<TieredCache>>,
    trace: Option<Arc<Trace>>,
}

impl Drop for Life {
    fn drop(&mut self) {
        if let Some(path) = &self.hints
            && let Err(error) = hint_file::keep(path, &self.hub.hints())
        {
            tracing::warn!(path = %path.display(), %error, "the hints are not kept");
        }
        self.hub.end();
        if let Some(trace) = &self.trace {
            trace.flush();
        }
        if let Some(cache) = &self.cache
            && let Err(error) = cache.end()
        {
            let path = cache.path().display();
            tracing::warn!(%path, %error, "the cache file is not durable. The next start may find less in it");
        }
    }
}

/// The things that a client has for itself.
#[derive(Default)]
struct Own {
    driver: Option<Arc<Driver>>,
    hints: Option<PathBuf>,
    cache: Option<Arc<TieredCache>>,
    trace: Option<Arc<Trace>>,
}

/// Opens a cache file on this machine, with so many bytes of memory in front of it.
fn open_cache(path: &Path, bytes: u64, memory: u64) -> io::Result<Arc<TieredCache>> {
    let options = vellum_cache::Options::of_this_machine(bytes);
    let opened = TieredCache::open(Arc::new(RealDisk), path, options, memory);
    opened.map(Arc::new).map_err(|error| {
        let path = path.display();
        let why = format!(
            "the cache file {path} cannot be opened: {error}. Nothing was changed. Without the option for a cache file the \
             client caches in memory"
        );
        io::Error::new(error.kind(), why)
    })
}

/// So many oids are asked for at once.
const OIDS: u32 = 100;

/// Oids that were given to this client.
#[derive(Default)]
struct Pool {
    /// Those that are not used, the next one last.
    free: Vec<Oid>,
    /// Promises of one.
    waiting: VecDeque<Resolver<Oid>>,
    /// How many were asked for.
    coming: usize,
    /// How often the client forgot what it knew. Oids that were asked for before belong to another database.
    forgot: u64,
}

impl Client {
    /// Begins to connect. The client has a thread of its own.
    ///
    /// # Errors
    ///
    /// The system gives no thread, or the file of the cache or of its trace cannot be opened.
    pub fn open(options: ClientOptions) -> io::Result<Client> {
        let ClientOptions { addresses, config, tls, message_size_max, hints, cache_file, trace } = options;
        let config = Config { addresses: addresses.len(), ..config };
        let dial = Arc::new(Sockets { addresses, tls });
        let cache = cache_file.map(|(path, bytes)| open_cache(&path, bytes, config.cache_bytes)).transpose()?;
        let trace = trace.map(|path| Trace::open(&path).map(Arc::new)).transpose()?;
        let (driver, handle) = Driver::start()?;
        let own = Own { driver: Some(driver), hints, cache, trace };
        Ok(Client::with(config, dial, message_size_max, &handle, own))
    }

    /// Begins to connect by what `dial` makes, on this runtime.
    pub fn on(runtime: &Handle, config: Config, dial: Arc<dyn Dial>, message_size_max: usize) -> Client {
        Client::with(config, dial, message_size_max, runtime, Own::default())
    }

    /// The same with a cache file.
    pub fn over(
        runtime: &Handle,
        config: Config,
        cache: Arc<TieredCache>,
        dial: Arc<dyn Dial>,
        message_size_max: usize,
    ) -> Client {
        Client::with(config, dial, message_size_max, runtime, Own { cache: Some(cache), ..Own::default() })
    }

    fn with(config: Config, dial: Arc<dyn Dial>, message_size_max: usize, runtime: &Handle, own: Own) -> Client {
        let Own { driver, hints, cache, trace } = own;
        let of_machine = match &cache {
            Some(cache) => Cache::tiered(Arc::clone(cache)),
            None => Cache::simple(config.cache_bytes),
        };
        let mut machine = Machine::over(config, of_machine.traced(trace.clone()));
        if let Some(kept) = hints.as_deref().and_then(hint_file::read) {
            machine.learn(&kept);
        }
        let hub = Hub::start(machine, dial, message_size_max, runtime, driver, cache.clone(), trace.clone());
        let life = Arc::new(Life { hub: Arc::clone(&hub), hints, cache, trace });
        Client { hub, oids: Arc::default(), life }
    }

    /// Waits until a server is there, and the cache is verified.
    pub fn connected(&self) -> Promise<()> {
        self.hub.ask(Ask::Connected, done)
    }

    /// Whether a server is there.
    pub fn is_connected(&self) -> bool {
        self.hub.is_ready()
    }

    /// The last transaction that this client knows; none before it was connected.
    pub fn last(&self) -> Option<Tid> {
        self.hub.last()
    }

    /// The server's description of its storage; none before it was connected.
    pub fn info(&self) -> Option<Info> {
        self.hub.info()
    }

    /// Waits until this client knows all that was finished before this call.
    pub fn sync(&self) -> Promise<Tid> {
        self.hub.ask(Ask::Sync, tid)
    }

    /// Drops all that is cached, and takes a server with fewer transactions than this client knows: the way out of
    /// [`ClientError::ServerBehind`](crate::ClientError::ServerBehind). Listeners are told that all may have changed.
    /// Oids that were given to this client and not used are forgotten, too: the server may give them again.
    pub fn forget(&self) -> Promise<()> {
        let forgotten = self.hub.ask(Ask::Forget, done);
        let mut pool = self.oids.lock();
        pool.forgot += 1;
        pool.free.clear();
        forgotten
    }

    /// The state that this client knows now, to be read at leisure.
    pub fn view(&self) -> View {
        View { client: self.clone(), at: self.last().unwrap_or_default() }
    }

    /// An object as the last known transaction left it; none if it is not there yet. See rule 2.2.
    pub fn load(&self, oid: Oid) -> Promise<Option<LoadedAt>> {
        if let Some(found) = self.hub.hit(oid, None) {
            return Promise::of(Ok(Some(found)));
        }
        self.hub.ask(Ask::Load { oid, before: None }, loaded)
    }

    /// An object as it was just before a tid: rule 2.2. If this client does not know so late a tid yet, the object is
    /// as its last known transaction left it.
    pub fn load_before(&self, oid: Oid, before: Tid) -> Promise<Option<LoadedAt>> {
        if let Some(found) = self.hub.hit(oid, Some(before)) {
            return Promise::of(Ok(Some(found)));
        }
        self.hub.ask(Ask::Load { oid, before: Some(before) }, loaded)
    }

    /// Many objects as the last known transaction left them, in one call if the server offers that: rule 9.2. None for
    /// those that are not there. All belong together.
    pub fn load_many(&self, oids: Vec<Oid>) -> Promise<Vec<(Oid, Option<LoadedAt>)>> {
        self.hub.ask(Ask::LoadMany { oids, before: None }, loaded_many)
    }

    /// Has the server send what can be reached from these objects, in the background and ahead of its loads: rule 9.3.
    /// The promise has the number of revisions that came. A server that does not offer it sends nothing.
    ///
    /// ```no_run
    /// # use vellum_client::{Client, ClientOptions, Reach};
    /// # use vellum_storage::Oid;
    /// # let client = Client::open(ClientOptions::at("127.0.0.1:8100"))?;
    /// client.prefetch(vec![Oid::ROOT], Reach { depth: 3, count: 10_000, bytes: 16 << 20 });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn prefetch(&self, oids: Vec<Oid>, reach: Reach) -> Promise<u64> {
        self.hub.ask(Ask::Prefetch { oids, before: None, reach }, |answer| match answer {
            Answer::Prefetched(count) => Some(count),
            _ => None,
        })
    }

    /// The record of exactly this revision: rule 2.3.
    pub fn load_serial(&self, oid: Oid, tid: Tid) -> Promise<Bytes> {
        self.hub.ask(Ask::LoadSerial { oid, tid }, |answer| match answer {
            Answer::Record(data) => Some(data),
            _ => None,
        })
    }

    /// An object as it is now in a version: rule 2.1. The server has to offer versions, and this client to ask for them
    /// ([`ClientOptions::versions`]).
    pub fn load_in_version(&self, oid: Oid, version: Version) -> Promise<Loaded> {
        self.hub.ask(Ask::LoadInVersion { oid, version }, |answer| match answer {
            Answer::LoadedInVersion(loaded) => Some(loaded),
            _ => None,
        })
    }

    /// The version of the object's newest revision: rule 2.10.
    pub fn modified_in_version(&self, oid: Oid) -> Promise<Version> {
        self.hub.ask(Ask::ModifiedInVersion { oid }, |answer| match answer {
            Answer::Version(version) => Some(version),
            _ => None,
        })
    }

    /// The versions in which some object's newest revision lies: rule 2.11.
    pub fn versions(&self) -> Promise<Vec<Version>> {
        self.hub.ask(Ask::Versions, |answer| match answer {
            Answer::Versions(versions) => Some(versions),
            _ => None,
        })
    }

    /// Whether this client works with versions: it wants to, and its server has them.
    pub fn has_versions(&self) -> bool {
        self.hub.has_versions()
    }

    /// The blob of exactly this revision: rule 8.2. Its bytes are in a scratch file on this machine.
    pub fn load_blob(&self, oid: Oid, tid: Tid) -> Promise<Blob> {
        self.hub.ask_blob(oid, tid)
    }

    /// The newest revisions of an object, newest first: rule 2.4.
    pub fn history(&self, oid: Oid, limit: u32) -> Promise<Vec<HistoryEntry>> {
        self.hub.ask(Ask::History { oid, limit }, |answer| match answer {
            Answer::History(entries) => Some(entries),
            _ => None,
        })
    }

    /// Transactions that can be undone, newest first, from number `first` up to but not including `last`: rule 2.5.
    pub fn undo_log(&self, first: u32, last: u32) -> Promise<Vec<UndoEntry>> {
        self.hub.ask(Ask::UndoLog { first, last }, |answer| match answer {
            Answer::UndoLog(entries) => Some(entries),
            _ => None,
        })
    }

    /// The first object from `first` on, as it is at the server, and the oid of the next one: rule 2.9.
    pub(crate) fn current_record(&self, first: Oid) -> Promise<Option<(CurrentRecord, Option<Oid>)>> {
        self.hub.ask(Ask::CurrentRecord { first }, |answer| match answer {
            Answer::CurrentRecord(record) => Some(record),
            _ => None,
        })
    }

    pub(crate) fn iterate(&self, range: TidRange) -> Promise<IteratorId> {
        self.hub.ask(Ask::Iterate { range }, iterator)
    }

    pub(crate) fn next_transaction(&self, iterator: IteratorId) -> Promise<Option<TransactionRecord>> {
        self.hub.ask(Ask::NextTransaction { iterator }, |answer| match answer {
            Answer::Transaction(transaction) => Some(transaction),
            _ => None,
        })
    }

    pub(crate) fn revisions(&self, iterator: IteratorId, tid: Tid) -> Promise<IteratorId> {
        self.hub.ask(Ask::Revisions { iterator, tid }, self::iterator)
    }

    pub(crate) fn next_revision(&self, iterator: IteratorId) -> Promise<Option<(Tid, Revision)>> {
        self.hub.ask(Ask::NextRevision { iterator }, |answer| match answer {
            Answer::Revision(revision) => Some(revision),
            _ => None,
        })
    }

    pub(crate) fn forget_iterator(&self, iterator: IteratorId) {
        self.hub.ask(Ask::ForgetIterator { iterator }, done);
    }

    /// Oids that nobody was given before: some, and at most `count`.
    pub fn new_oids(&self, count: u32) -> Promise<Vec<Oid>> {
        self.hub.ask(Ask::NewOids { count }, |answer| match answer {
            Answer::Oids(oids) => Some(oids),
            _ => None,
        })
    }

    /// An oid that nobody was given before. The server is asked for many at a time.
    pub fn new_oid(&self) -> Promise<Oid> {
        let mut pool = self.oids.lock();
        if pool.waiting.is_empty()
            && let Some(oid) = pool.free.pop()
        {
            return oid.into();
        }
        let (promise, resolver) = Promise::new(self.hub.driver());
        pool.waiting.push_back(resolver);
        drop(pool);
        fill(&self.hub, &self.oids);
        promise
    }

    /// Keeps the hints in their file now. The end of the client does so, too.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn keep_hints(&self) -> io::Result<()> {
        match &self.life.hints {
            Some(path) => hint_file::keep(path, &self.hub.hints()),
            None => Ok(()),
        }
    }

    /// Asks again what the storage is: how large, above all.
    pub fn ask_info(&self) -> Promise<Info> {
        self.hub.ask(Ask::Info, |answer| match answer {
            Answer::Info(info) => Some(info),
            _ => None,
        })
    }

    /// Packs, as the server's operator has it done: part 4 of the rules.
    pub fn pack(&self, to: Tid) -> Promise<()> {
        self.hub.ask(Ask::Pack { to }, done)
    }

    /// Begins a transaction. It has its turn when this client's earlier ones are over.
    pub fn begin(&self, meta: TransactionMeta) -> Transaction {
        self.begin_as(meta, Origin::default())
    }

    /// The same with a mark that listeners see.
    pub fn begin_as(&self, meta: TransactionMeta, origin: Origin) -> Transaction {
        let id = self.hub.ask(Ask::Begin { meta, origin }, |answer| match answer {
            Answer::Begun(id) => Some(id),
            _ => None,
        });
        Transaction::new(self.clone(), id)
    }

    /// Tells this listener what changes from now on, until what it returns is dropped.
    pub fn listen(&self, listener: Arc<dyn Listener>) -> Listening {
        self.hub.listeners.add(listener)
    }
}

/// Asks for as many oids as are waited for.
fn fill(hub: &Arc<Hub>, pool: &Arc<Mutex<Pool>>) {
    let forgot = {
        let mut pool = pool.lock();
        if pool.coming >= pool.waiting.len() {
            return;
        }
        pool.coming += OIDS as usize;
        pool.forgot
    };
    let new = hub.ask(Ask::NewOids { count: OIDS }, |answer| match answer {
        Answer::Oids(oids) => Some(oids),
        _ => None,
    });
    let (hub, pool) = (Arc::clone(hub), Arc::clone(pool));
    new.finally(move |new| {
        let mut resolved = Vec::new();
        {
            let mut pool = pool.lock();
            pool.coming -= OIDS as usize;
            match new {
                // Those that wait get others.
                Ok(_) if pool.forgot != forgot => {}
                Ok(new) => {
                    pool.free.splice(0..0, new.into_iter().rev());
                    while let Some(oid) = pool.free.last().copied()
                        && let Some(waiting) = pool.waiting.pop_front()
                    {
                        pool.free.pop();
                        resolved.push((waiting, Ok(oid)));
                    }
                }
                Err(error) => {
                    let failed = pool.waiting.len().min(OIDS as usize);
                    resolved.extend(pool.waiting.drain(..failed).map(|waiting| (waiting, Err(error.clone()))));
                }
            }
        }
        resolved.into_iter().for_each(|(waiting, oid)| waiting.resolve(oid));
        // The server may have given fewer.
        fill(&hub, &pool);
    });
}

pub(crate) fn done(answer: Answer) -> Option<()> {
    matches!(answer, Answer::Done).then_some(())
}

pub(crate) fn tid(answer: Answer) -> Option<Tid> {
    match answer {
        Answer::Tid(tid) => Some(tid),
        _ => None,
    }
}

fn loaded(answer: Answer) -> Option<Option<LoadedAt>> {
    match answer {
        Answer::Loaded(found) => Some(found),
        _ => None,
    }
}

fn loaded_many(answer: Answer) -> Option<Vec<(Oid, Option<LoadedAt>)>> {
    match answer {
        Answer::LoadedMany(found) => Some(found),
        _ => None,
    }
}

fn iterator(answer: Answer) -> Option<IteratorId> {
    match answer {
        Answer::Iterator(iterator) => Some(iterator),
        _ => None,
    }
}

/// The database as one transaction left it. All that is read in it belongs together.
#[derive(Clone)]
pub struct View {
    client: Client,
    at: Tid,
}

impl View {
    /// The transaction.
    pub fn at(&self) -> Tid {
        self.at
    }

    /// An object as that transaction left it; none if it was not there yet.
    pub fn load(&self, oid: Oid) -> Promise<Option<LoadedAt>> {
        self.client.load_before(oid, self.at.next())
    }

    /// Many objects as that transaction left them: rule 9.2.
    pub fn load_many(&self, oids: Vec<Oid>) -> Promise<Vec<(Oid, Option<LoadedAt>)>> {
        self.client.hub.ask(Ask::LoadMany { oids, before: Some(self.at.next()) }, loaded_many)
    }
}
