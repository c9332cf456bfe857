//! A server in one thread, and its clients. All messages are recorded.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use vellum_server::report::Report;
use vellum_server::{
    Config, ConnectionId, Description, Effect, Event, Job, Machine, Memory, Served, StorageId, Store, Work, Worker,
};
use vellum_storage::{Listening, ManualClock, MemoryStorage, Oid, Resolvers, Storage, Tid};
use vellum_wire::{Begin, Call, Codec, Greeting, Message, MessageId, Value};

use crate::show;

/// A server with one storage, whose name is "1".
pub struct Site {
    machine: Machine,
    worker: Worker,
    /// The storage.
    pub storage: Arc<dyn Storage>,
    told: Arc<Mutex<VecDeque<Event>>>,
    names: BTreeMap<ConnectionId, String>,
    next_id: BTreeMap<ConnectionId, i64>,
    /// Jobs that are not done before a step releases them.
    pub held: Vec<Job>,
    hold: fn(&Work) -> bool,
    /// Pieces of blobs that clients did not read yet, if they are slow.
    pub unread_pieces: Option<VecDeque<Event>>,
    /// All that was said.
    pub transcript: String,
    /// The messages that each client got.
    pub inbox: BTreeMap<ConnectionId, Vec<Message>>,
    /// The connections that the server closed.
    pub closed: Vec<ConnectionId>,
    _listening: Listening,
}

/// Nothing special.
pub fn config() -> Config {
    Config {
        is_read_only: false,
        transaction_timeout: None,
        clients_resolve: false,
        offers_extensions: true,
        started: "today".to_owned(),
        memory: Memory::default(),
    }
}

/// The record of a blob, as Python writes it.
pub const BLOB_RECORD: &[u8] = b"\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N.";

/// The clients' name of their transaction.
pub const TRANSACTION: MessageId = MessageId(Value::Int(77));

impl Site {
    /// A server of a storage in memory that merges what needs no foreign code.
    pub fn new(config: Config) -> Site {
        let clock = Arc::new(ManualClock::at("2026-11-28T12:00:00Z".parse().unwrap()));
        let resolver = Arc::new(Resolvers::built_in());
        Site::of(config, Arc::new(MemoryStorage::with("memory", clock.clone(), resolver)), clock)
    }

    /// A server of this storage, which has this clock.
    pub fn of(config: Config, storage: Arc<dyn Storage>, clock: Arc<ManualClock>) -> Site {
        Site::with_queue(config, storage, clock, 3)
    }

    /// The same, which remembers so many transactions for clients that were away.
    pub fn with_queue(config: Config, storage: Arc<dyn Storage>, clock: Arc<ManualClock>, queue_size: usize) -> Site {
        let told: Arc<Mutex<VecDeque<Event>>> = Arc::default();
        let hears = Arc::clone(&told);
        let listening = storage.listen(Arc::new(move |event: &vellum_storage::Event| {
            hears
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push_back(Event::Told { storage: StorageId(0), told: event.clone() });
        }));
        let description = Description {
            location: storage.name(),
            undoes: storage.undo_log().is_some(),
            iterates_records: true,
            keeps_blobs: storage.blobs().is_some(),
            is_read_only: false,
            interfaces: vec![("zope.interface".to_owned(), "Interface".to_owned())],
        };
        let served = Served::new("1", description, &*storage, queue_size).unwrap();
        let wakes = Arc::clone(&told);
        let worker = Worker::new(vec![Store::new(Arc::clone(&storage))], clock, None, move |job| {
            wakes.lock().unwrap_or_else(PoisonError::into_inner).push_back(Event::Woken { job });
        });
        Site {
            machine: Machine::new(config, vec![served]),
            worker,
            storage,
            told,
            names: BTreeMap::new(),
            next_id: BTreeMap::new(),
            held: Vec::new(),
            hold: |_| false,
            unread_pieces: None,
            transcript: String::new(),
            inbox: BTreeMap::new(),
            closed: Vec::new(),
            _listening: listening,
        }
    }

    /// From now on jobs like this stay undone until [`Site::release`].
    pub fn hold(&mut self, hold: fn(&Work) -> bool) {
        self.hold = hold;
    }

    /// Has one of the jobs done that were held.
    pub fn release(&mut self, place: usize) {
        let job = self.held.remove(place);
        let (id, outcome) = (job.id, self.worker.run(job));
        self.happen(Event::Done { job: id, outcome });
    }

    /// Does a held job's work, without telling the machine yet.
    pub fn work(&mut self, place: usize) -> Event {
        let job = self.held.remove(place);
        Event::Done { job: job.id, outcome: self.worker.run(job) }
    }

    /// The storage's events that the machine has not heard of.
    pub fn take_told(&mut self) -> Vec<Event> {
        self.told().drain(..).collect()
    }

    fn told(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client connects.
    pub fn connect(&mut self, name: &str) -> ConnectionId {
        let connection = ConnectionId(self.names.len() as u64 + 1);
        self.names.insert(connection, name.to_owned());
        self.next_id.insert(connection, 1);
        self.worker.connected(connection);
        self.happen(Event::Connected { connection, peer: name.to_owned() });
        self.happen(Event::Greeted { connection, greeting: Greeting::Speaks(Codec::Pickle) });
        connection
    }

    /// A client connects and registers.
    pub fn client(&mut self, name: &str) -> ConnectionId {
        let connection = self.connect(name);
        self.call(connection, Call::Register { storage: Value::Text("1".to_owned()), read_only: false });
        connection
    }

    /// A client calls, and wants an answer.
    pub fn call(&mut self, connection: ConnectionId, call: Call) {
        let id = self.next_id.get_mut(&connection).unwrap();
        *id += 1;
        let message = call.into_message(Some(MessageId(Value::Int(*id - 1))));
        self.say(connection, message);
    }

    /// A client calls, and wants no answer.
    pub fn one_way(&mut self, connection: ConnectionId, call: Call) {
        self.say(connection, call.into_message(None));
    }

    /// A client sends a message.
    pub fn say(&mut self, connection: ConnectionId, message: Message) {
        let name = &self.names[&connection];
        writeln!(self.transcript, "{name:<4} -> {}", show(&message)).unwrap();
        self.happen(Event::Received { connection, message });
    }

    /// A client is gone.
    pub fn lose(&mut self, connection: ConnectionId) {
        writeln!(self.transcript, "{:<4} is gone", self.names[&connection]).unwrap();
        self.happen(Event::Lost { connection });
    }

    /// So much waits for a client to read it.
    pub fn leave_unread(&mut self, connection: ConnectionId, bytes: u64) {
        writeln!(self.transcript, "{:<4} has {bytes} bytes to read", self.names[&connection]).unwrap();
        self.happen(Event::Unread { connection, bytes });
    }

    /// The server is to end.
    pub fn end(&mut self) {
        writeln!(self.transcript, "     the server is to end").unwrap();
        self.happen(Event::End);
    }

    /// Time passes.
    pub fn pass(&mut self, seconds: u64) {
        writeln!(self.transcript, "     {seconds} s after the start").unwrap();
        self.happen(Event::Tick { now: Duration::from_secs(seconds) });
    }

    /// A vote waits only for a transaction that is voted. To be asked when no storage is at work.
    ///
    /// # Panics
    ///
    /// A vote waits for nothing.
    pub fn assert_going_on(&self) {
        let waiting = self.machine.waiting();
        assert!(self.machine.voted() > 0 || waiting.is_empty(), "votes wait for nothing: {waiting:?}");
    }

    /// No client is connected, no call is under way, and nothing is kept.
    ///
    /// # Panics
    ///
    /// Something is.
    pub fn assert_quiet(&self) {
        assert_eq!(self.machine.transactions_in_memory(), 0, "memory is counted for nobody");
        assert_eq!(self.machine.blobs_in_memory(), 0, "blobs are on their way for nobody");
        assert!(self.machine.is_quiet(), "the machine keeps something for nobody: {:?}", self.machine);
        assert!(self.worker.is_quiet(), "the worker keeps something for nobody");
    }

    fn note_spill(&mut self, job: &Job) {
        if let Work::Spill { draft } = &job.work {
            let (name, changes) = (&self.names[&job.connection], draft.changes().len());
            writeln!(self.transcript, "     {name}'s transaction with {changes} changes goes to a scratch file")
                .unwrap();
        }
    }

    /// Bytes that transactions keep in memory.
    pub fn transactions_in_memory(&self) -> u64 {
        self.machine.transactions_in_memory()
    }

    /// A client's name in the server's log.
    pub fn name_of(&self, connection: ConnectionId) -> Option<String> {
        self.machine.name_of(connection)
    }

    /// The state as the monitor reports it.
    pub fn report(&self) -> Report {
        let mut report = self.machine.report();
        self.worker.name_holders(&mut report);
        report
    }

    /// Writes something down for the reader.
    pub fn note(&mut self, text: &str) {
        writeln!(self.transcript, "     ({text})").unwrap();
    }

    /// An event, and all that follows from it.
    pub fn happen(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.machine.step(event) {
                match effect {
                    Effect::Speak { .. } => {}
                    Effect::Send { connection, message } => {
                        writeln!(self.transcript, "{:<4} <- {}", self.names[&connection], show(&message)).unwrap();
                        self.inbox.entry(connection).or_default().push(message);
                    }
                    Effect::SendPiece { connection, message, bytes } => {
                        writeln!(self.transcript, "{:<4} <- {}", self.names[&connection], show(&message)).unwrap();
                        self.inbox.entry(connection).or_default().push(message);
                        let sent = Event::PieceSent { connection, bytes };
                        match &mut self.unread_pieces {
                            Some(unread) => unread.push_back(sent),
                            None => events.push_back(sent),
                        }
                    }
                    Effect::SendFrame { connection, frame } => {
                        writeln!(self.transcript, "{:<4} <- {frame}", self.names[&connection]).unwrap();
                    }
                    Effect::Close { connection, client, why, is_trouble } => {
                        let warned = if is_trouble { format!(", and {client} is warned of") } else { String::new() };
                        writeln!(self.transcript, "{:<4} is closed{warned}: {why}", self.names[&connection]).unwrap();
                        self.closed.push(connection);
                    }
                    Effect::Cut { connection, why, .. } => {
                        writeln!(self.transcript, "{:<4} is cut off: {why}", self.names[&connection]).unwrap();
                        self.closed.push(connection);
                    }
                    Effect::Pause { connection } => {
                        writeln!(self.transcript, "{:<4} is not read from", self.names[&connection]).unwrap();
                    }
                    Effect::Resume { connection } => {
                        writeln!(self.transcript, "{:<4} is read from again", self.names[&connection]).unwrap();
                    }
                    Effect::Run(job) if (self.hold)(&job.work) => {
                        self.note_spill(&job);
                        self.held.push(job);
                    }
                    Effect::Run(job) => {
                        self.note_spill(&job);
                        let (id, outcome) = (job.id, self.worker.run(job));
                        events.push_back(Event::Done { job: id, outcome });
                    }
                    Effect::Abort { connection } => self.worker.abort(connection),
                    Effect::Forget { connection } => self.worker.forget(connection),
                }
                // A storage's events come before the result of the call that caused them.
                let told: Vec<Event> = self.told().drain(..).collect();
                told.into_iter().rev().for_each(|event| events.push_front(event));
            }
        }
        let told: Vec<Event> = self.told().drain(..).collect();
        told.into_iter().for_each(|event| self.happen(event));
    }

    // Messages that clients send all the time.

    /// Begins a transaction.
    pub fn begin(&mut self, connection: ConnectionId) {
        let begin = Begin {
            transaction: TRANSACTION,
            user: Bytes::from_static(b"ann"),
            description: Bytes::from_static(b"a change"),
            extension: Value::Dict(vec![]),
            tid: None,
            status: Value::Text(" ".to_owned()),
        };
        self.one_way(connection, Call::TpcBegin(Box::new(begin)));
    }

    /// Stores an object.
    pub fn store(&mut self, connection: ConnectionId, oid: u64, serial: Tid, data: impl AsRef<[u8]>) {
        let data = Bytes::copy_from_slice(data.as_ref());
        self.one_way(connection, Call::Store { oid: Oid(oid), serial, data, transaction: TRANSACTION });
    }

    /// Begins a blob.
    pub fn start_blob(&mut self, connection: ConnectionId) {
        self.one_way(connection, Call::StoreBlobStart);
    }

    /// Sends a piece of a blob.
    pub fn chunk(&mut self, connection: ConnectionId, chunk: impl AsRef<[u8]>) {
        self.one_way(connection, Call::StoreBlobChunk { chunk: Bytes::copy_from_slice(chunk.as_ref()) });
    }

    /// Ends a blob, and stores it with its record.
    pub fn end_blob(&mut self, connection: ConnectionId, oid: u64, serial: Tid) {
        let data = Bytes::from_static(BLOB_RECORD);
        self.one_way(connection, Call::StoreBlobEnd { oid: Oid(oid), serial, data, transaction: TRANSACTION });
    }

    /// Stores a blob as ZEO's clients do: its record first, alone.
    pub fn store_blob(&mut self, connection: ConnectionId, oid: u64, serial: Tid, chunks: &[&str]) {
        self.store(connection, oid, serial, BLOB_RECORD);
        self.start_blob(connection);
        chunks.iter().for_each(|chunk| self.chunk(connection, chunk));
        self.end_blob(connection, oid, serial);
    }

    /// A whole commit of one blob.
    pub fn commit_blob(&mut self, connection: ConnectionId, oid: u64, serial: Tid, chunks: &[&str]) -> Tid {
        self.begin(connection);
        self.store_blob(connection, oid, serial, chunks);
        self.vote(connection);
        self.finish(connection);
        self.storage.last_transaction()
    }

    /// Asks for a blob.
    pub fn send_blob(&mut self, connection: ConnectionId, oid: u64, serial: Tid) {
        self.call(connection, Call::SendBlob { oid: Oid(oid), serial });
    }

    /// A client reads a piece of a blob that it left unread.
    pub fn read_piece(&mut self) -> bool {
        let unread = self.unread_pieces.as_mut().and_then(VecDeque::pop_front);
        let is_one = unread.is_some();
        unread.into_iter().for_each(|sent| self.happen(sent));
        is_one
    }

    /// Bytes of blobs that are on their way.
    pub fn blobs_in_memory(&self) -> u64 {
        self.machine.blobs_in_memory()
    }

    /// Blobs that clients are sending.
    pub fn uploads(&self) -> usize {
        self.worker.uploads()
    }

    /// Votes.
    pub fn vote(&mut self, connection: ConnectionId) {
        self.call(connection, Call::Vote { transaction: TRANSACTION });
    }

    /// Finishes.
    pub fn finish(&mut self, connection: ConnectionId) {
        self.call(connection, Call::TpcFinish { transaction: TRANSACTION });
    }

    /// Aborts.
    pub fn abort(&mut self, connection: ConnectionId) {
        self.call(connection, Call::TpcAbort { transaction: TRANSACTION });
    }

    /// Loads the current revision.
    pub fn load(&mut self, connection: ConnectionId, oid: u64) {
        self.call(connection, Call::LoadBefore { oid: Oid(oid), before: Tid(i64::MAX as u64) });
    }

    /// A whole commit of one object.
    pub fn commit(&mut self, connection: ConnectionId, oid: u64, serial: Tid, data: impl AsRef<[u8]>) -> Tid {
        self.begin(connection);
        self.store(connection, oid, serial, data);
        self.vote(connection);
        self.finish(connection);
        self.storage.last_transaction()
    }
}
