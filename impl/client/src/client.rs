//! The asynchronous API: every call returns at once, with a promise.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use vellum_storage::{
    Blob, Change, CurrentRecord, Error, HistoryEntry, Listener, Listening, LoadedAt, Oid, Origin, Revision, Tid,
    TidRange, TransactionMeta, TransactionRecord, UndoEntry, Version,
};
use vellum_sync::Mutex;
use vellum_wire::Reach;

use crate::ask::{Answer, Ask, BlobPart, Info, IteratorId, TransactionId, Voted};
use crate::error::ClientError;
use crate::machine::{Access, Config, Machine};
use crate::promise::{Promise, Resolver};
use crate::shell::dial::{Address, Dial, Sockets};
use crate::shell::driver::Driver;
use crate::shell::hub::Hub;
use crate::shell::tls::Certificates;

/// How a client is run.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Where servers are. They are tried in order.
    pub addresses: Vec<Address>,
    /// The choices that the protocol leaves to the client.
    pub config: Config,
    /// The certificates, where servers speak TLS.
    pub tls: Option<Arc<Certificates>>,
    /// Bytes that a message may have: 512 MiB.
    pub message_size_max: usize,
    /// The file in which hints are kept over a restart. None: they are not kept.
    pub hints: Option<PathBuf>,
}

impl ClientOptions {
    /// The options for a server at one address: host and port, or the path of a Unix socket.
    pub fn at(address: &str) -> ClientOptions {
        ClientOptions {
            addresses: vec![Address::parse(address)],
            config: Config::default(),
            tls: None,
            message_size_max: 512 << 20,
            hints: None,
        }
    }

    /// Adds an address, for when there is no server at the earlier ones.
    pub fn or_at(mut self, address: &str) -> ClientOptions {
        self.addresses.push(Address::parse(address));
        self
    }

    /// Sets what the server calls the storage.
    pub fn storage(mut self, name: &str) -> ClientOptions {
        self.config.storage = name.to_owned();
        self
    }

    /// Has the client learn which objects are loaded after which, and keep that in a file: rule 9.7. After a restart
    /// the server sends what will probably be loaded next.
    pub fn hints(mut self, file: impl Into<PathBuf>) -> ClientOptions {
        self.hints = Some(file.into());
        if self.config.hint_size == 0 {
            self.config.hint_size = HINT_SIZE;
        }
        self
    }

    /// Sets whether the client writes.
    pub fn access(mut self, access: Access) -> ClientOptions {
        self.config.access = access;
        self
    }
}

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
}

impl Drop for Life {
    fn drop(&mut self) {
        if let Some(path) = &self.hints
            && let Err(error) = keep_hints(path, &self.hub.hints())
        {
            tracing::warn!(path = %path.display(), %error, "the hints are not kept");
        }
        self.hub.end();
    }
}

/// The bytes of a file of hints; none if there is no such file, or it is too long.
fn read_hints(path: &Path) -> Option<Vec<u8>> {
    let length = std::fs::metadata(path).ok()?.len();
    if length > HINTS_BYTES_MAX { None } else { std::fs::read(path).ok() }
}

/// Keeps hints: the file has the old ones or the new ones, whatever happens.
fn keep_hints(path: &Path, hints: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    std::fs::write(&beside, hints)?;
    std::fs::rename(&beside, path)
}

/// Objects in a hint.
const HINT_SIZE: usize = 16;
/// A file of hints has no more bytes.
const HINTS_BYTES_MAX: u64 = 256 << 20;

/// A blob is sent in pieces of so many bytes, as ZEO's clients send it.
const PIECE: usize = 59_000;
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
}

impl Client {
    /// Begins to connect. The client has a thread of its own.
    ///
    /// # Errors
    ///
    /// The system gives no thread.
    pub fn open(options: ClientOptions) -> io::Result<Client> {
        let ClientOptions { addresses, config, tls, message_size_max, hints } = options;
        let config = Config { addresses: addresses.len(), ..config };
        let dial = Arc::new(Sockets { addresses, tls });
        let (driver, handle) = Driver::start()?;
        Ok(Client::with(config, dial, message_size_max, &handle, Some((driver, hints))))
    }

    /// Begins to connect by what `dial` makes, on this runtime.
    pub fn on(runtime: &Handle, config: Config, dial: Arc<dyn Dial>, message_size_max: usize) -> Client {
        Client::with(config, dial, message_size_max, runtime, None)
    }

    fn with(
        config: Config,
        dial: Arc<dyn Dial>,
        message_size_max: usize,
        runtime: &Handle,
        own: Option<(Arc<Driver>, Option<PathBuf>)>,
    ) -> Client {
        let (driver, hints) = own.unzip();
        let hints = hints.flatten();
        let mut machine = Machine::new(config);
        if let Some(kept) = hints.as_deref().and_then(read_hints) {
            machine.learn(&kept);
        }
        let hub = Hub::start(machine, dial, message_size_max, runtime, driver);
        let life = Arc::new(Life { hub: Arc::clone(&hub), hints });
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
    /// [`ClientError::ServerBehind`](crate::ClientError::ServerBehind).
    pub fn forget(&self) -> Promise<()> {
        self.hub.ask(Ask::Forget, done)
    }

    /// The state that this client knows now, to be read at leisure.
    pub fn view(&self) -> View {
        View { client: self.clone(), at: self.last().unwrap_or_default() }
    }

    /// An object as the last known transaction left it; none if it is not there yet. See rule 2.2.
    pub fn load(&self, oid: Oid) -> Promise<Option<LoadedAt>> {
        self.hub.ask(Ask::Load { oid, before: None }, loaded)
    }

    /// An object as it was just before a tid: rule 2.2. If this client does not know so late a tid yet, the object is
    /// as its last known transaction left it.
    pub fn load_before(&self, oid: Oid, before: Tid) -> Promise<Option<LoadedAt>> {
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
            Some(path) => keep_hints(path, &self.hub.hints()),
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
        Transaction { client: self.clone(), id, open: Mutex::default(), is_over: false }
    }

    /// Tells this listener what changes from now on, until what it returns is dropped.
    pub fn listen(&self, listener: Arc<dyn Listener>) -> Listening {
        self.hub.listeners.add(listener)
    }
}

/// Asks for as many oids as are waited for.
fn fill(hub: &Arc<Hub>, pool: &Arc<Mutex<Pool>>) {
    {
        let mut pool = pool.lock();
        if pool.coming >= pool.waiting.len() {
            return;
        }
        pool.coming += OIDS as usize;
    }
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

fn done(answer: Answer) -> Option<()> {
    matches!(answer, Answer::Done).then_some(())
}

fn tid(answer: Answer) -> Option<Tid> {
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

/// A transaction that is under way. Changes stream out without being waited for; the vote says what is wrong with them.
/// Dropping it aborts it.
pub struct Transaction {
    client: Client,
    id: Promise<TransactionId>,
    /// Changes that were not sent when they were asked for.
    open: Mutex<Vec<Promise<()>>>,
    is_over: bool,
}

impl Transaction {
    /// Changes an object, or creates it; `serial` is the revision that was changed, [`Tid::ZERO`] for a new object. The
    /// oid may be a promise.
    ///
    /// The promise is kept when there is room for more: a caller that waits for it does not fill the memory.
    pub fn store(&self, oid: impl Into<Promise<Oid>>, serial: Tid, data: Bytes) -> Promise<()> {
        let oid = oid.into();
        let version = Version::TRUNK;
        match oid.get() {
            Some(Ok(oid)) => self.change(Change::Store { oid, serial, version, data: data.into() }),
            _ => {
                let (id, client) = (self.id.clone(), self.client.clone());
                let sent = oid.then(move |oid| {
                    let change = Change::Store { oid, serial, version, data: data.into() };
                    id.then(move |id| send(&client, id, change))
                });
                self.open.lock().push(sent.clone());
                sent
            }
        }
    }

    /// Changes an object that has a blob: rule 8.1. It reads the blob, and waits while too much is on its way.
    ///
    /// # Errors
    ///
    /// The blob cannot be read; the transaction is over.
    pub fn store_blob(&self, oid: Oid, serial: Tid, data: Bytes, blob: &Blob) -> vellum_storage::Result<()> {
        let remote = |error: ClientError| Error::Remote { name: "a server".to_owned(), why: error.to_string() };
        let transaction = self.id.wait().map_err(remote)?;
        let send = |part| {
            let sent = self.client.hub.ask(Ask::Blob { transaction, part }, done).wait();
            sent.and_then(|()| self.client.hub.room().wait()).map_err(remote)
        };
        send(BlobPart::Start)?;
        blob.pieces(PIECE, &mut |piece| send(BlobPart::Chunk(Bytes::copy_from_slice(piece))))?;
        send(BlobPart::End { oid, serial, data })
    }

    /// Changes anything, by the rules of part 3.
    pub fn change(&self, change: Change) -> Promise<()> {
        let sent = match self.id.get() {
            Some(Ok(id)) => send(&self.client, id, change),
            _ => {
                let client = self.client.clone();
                self.id.then(move |id| send(&client, id, change))
            }
        };
        if !matches!(sent.get(), Some(Ok(()))) {
            let mut open = self.open.lock();
            open.retain(|earlier| !matches!(earlier.get(), Some(Ok(()))));
            open.push(sent.clone());
        }
        sent
    }

    /// The first phase. It comes after all changes, and fails if one of them could not be sent.
    pub fn vote(&self) -> Promise<Voted> {
        let open = std::mem::take(&mut *self.open.lock());
        let (id, hub) = (self.id.clone(), Arc::clone(&self.client.hub));
        let sent = open.into_iter().fold(Promise::of(Ok(())), |before, change| before.then(move |()| change));
        sent.then(move |()| {
            id.then(move |transaction| {
                hub.ask(Ask::Vote { transaction }, |answer| match answer {
                    Answer::Voted(voted) => Some(voted),
                    _ => None,
                })
            })
        })
    }

    /// The second phase. If its answer is lost, the outcome is
    /// [unknown](crate::ClientError::OutcomeUnknown): it is never tried again.
    pub fn finish(mut self) -> Promise<Tid> {
        self.is_over = true;
        let hub = Arc::clone(&self.client.hub);
        self.id.then(move |transaction| hub.ask(Ask::Finish { transaction }, tid))
    }

    /// Both phases. Changes that the client would have to merge are a conflict.
    pub fn commit(mut self) -> Promise<Tid> {
        self.is_over = true;
        let (id, hub) = (self.id.clone(), Arc::clone(&self.client.hub));
        let voted = self.vote();
        let gives_up = (self.id.clone(), Arc::clone(&self.client.hub));
        let finished = voted.then(move |voted| match voted {
            Voted::Ready(_) => id.then(move |transaction| hub.ask(Ask::Finish { transaction }, tid)),
            Voted::Conflicts(conflicts) => Promise::of(Err(crate::error::conflict(&conflicts))),
        });
        finished.finally(move |outcome| {
            if outcome.is_err() {
                abort(&gives_up.0, gives_up.1);
            }
        });
        finished
    }

    /// Gives it up.
    pub fn abort(self) {}
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.is_over {
            abort(&self.id, Arc::clone(&self.client.hub));
        }
    }
}

/// Sends a change. The promise is kept when there is room for more.
fn send(client: &Client, transaction: TransactionId, change: Change) -> Promise<()> {
    let hub = Arc::clone(&client.hub);
    let sent = client.hub.ask(Ask::Change { transaction, change }, done);
    match sent.get() {
        Some(Ok(())) => hub.room(),
        Some(Err(_)) => sent,
        None => sent.then(move |()| hub.room()),
    }
}

fn abort(id: &Promise<TransactionId>, hub: Arc<Hub>) {
    id.finally(move |begun| {
        if let Ok(transaction) = begun {
            hub.ask(Ask::Abort { transaction }, done);
        }
    });
}
