//! The protocol: what each event does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use vellum_storage::{Busy, Change, Draft, LoadedAt, Oid, Origin, Tid, TidRange, TransactionMeta, Version};
use vellum_wire::{BadCall, Begin, Call, Fault, Greeting, Message, MessageId, Notice, TransactionId, Value};

use crate::answers::{self, eight};
use crate::connection::{Connection, Queued};
use crate::event::{ConnectionId, Effect, Event, Info, Job, JobId, Outcome, Question, StorageId, Work};
use crate::transaction::{Stage, Transaction, Wrong};
use crate::{Counters, Served};

/// What an operator can choose.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether clients may only read.
    pub is_read_only: bool,
    /// A transaction that is voted for longer than this is aborted, and its connection is closed.
    pub transaction_timeout: Option<Duration>,
    /// Whether a client is asked to merge what the storage cannot.
    pub clients_resolve: bool,
    /// When the server was started, as ZEO says it.
    pub started: String,
}

/// The server, without its network: see the crate's documentation.
#[derive(Clone, Debug)]
pub struct Machine {
    config: Config,
    storages: Vec<Served>,
    connections: BTreeMap<ConnectionId, Connection>,
    jobs: BTreeMap<JobId, Running>,
    job_next: u64,
    now: Duration,
    effects: Vec<Effect>,
}

/// A call of a storage that is under way.
#[derive(Clone, Debug)]
struct Running {
    connection: ConnectionId,
    storage: StorageId,
    reply: Option<MessageId>,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// A load; whether its object was changed since it began.
    Load { oid: Oid, before: Tid, is_stale: bool },
    /// A question whose answer is sent as it is.
    Ask,
    /// The size of the storage, which is sent with what is known of it.
    Info,
    /// Whatever a transaction does; its stage has the rest.
    Transaction,
    /// A pack; whether its caller waits for it.
    Pack { waits: bool },
}

type Answer = Result<Value, Fault>;

/// What a call leads to.
enum Next {
    /// An answer now.
    Answer(Answer),
    /// An answer when a storage is done.
    Later,
}

use Next::Later;

fn done(value: Value) -> Next {
    Next::Answer(Ok(value))
}

fn fail(fault: Fault) -> Next {
    Next::Answer(Err(fault))
}

/// So many new oids are given out at once at most.
const OIDS_MAX: i64 = 100;

impl Machine {
    /// A server of these storages, to which nobody is connected.
    pub fn new(config: Config, storages: Vec<Served>) -> Machine {
        Machine {
            config,
            storages,
            connections: BTreeMap::new(),
            jobs: BTreeMap::new(),
            job_next: 0,
            now: Duration::ZERO,
            effects: Vec::new(),
        }
    }

    /// Serves one more storage.
    pub fn serve(&mut self, served: Served) {
        self.storages.push(served);
    }

    /// Clients that have a transaction that is voted, or is being finished.
    pub fn voted(&self) -> usize {
        let stages = self.connections.values().filter_map(|client| client.transaction.as_ref());
        stages.filter(|transaction| matches!(transaction.stage, Stage::Voted { .. } | Stage::Finishing { .. })).count()
    }

    /// Whether nobody is connected and nothing is under way.
    pub fn is_quiet(&self) -> bool {
        self.connections.is_empty() && self.jobs.is_empty()
    }

    /// Lets an event happen.
    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Connected { connection, peer } => {
                self.connections.insert(connection, Connection::new(peer));
            }
            Event::Greeted { connection, greeting } => self.greeted(connection, greeting),
            Event::Received { connection, message } => self.received(connection, message),
            Event::Malformed { connection, why } => self.close(connection, why),
            Event::Lost { connection } => self.forget(connection),
            Event::Told { storage, told } => self.told(storage, told),
            Event::Done { job, outcome } => self.job_done(job, outcome),
            Event::Woken { job } => self.woken(job),
            Event::Tick { now } => self.tick(now),
        }
        std::mem::take(&mut self.effects)
    }

    // Connections.

    fn greeted(&mut self, connection: ConnectionId, greeting: Greeting) {
        let Some(client) = self.connections.get_mut(&connection) else { return };
        match greeting {
            Greeting::Speaks(codec) => {
                client.codec = Some(codec);
                self.effects.push(Effect::Speak { connection, codec });
            }
            Greeting::Status => {
                let frame = self.status();
                self.effects.push(Effect::SendFrame { connection, frame });
                self.close(connection, "it asked for the status".to_owned());
            }
            Greeting::Unknown(frame) => {
                self.close(connection, format!("bad handshake {:?}", frame.escape_ascii().to_string()))
            }
        }
    }

    /// Closes a connection from this side.
    fn close(&mut self, connection: ConnectionId, why: String) {
        if self.connections.contains_key(&connection) {
            self.effects.push(Effect::Close { connection, why });
            self.forget(connection);
        }
    }

    /// Drops a connection with everything that it has.
    fn forget(&mut self, connection: ConnectionId) {
        let Some(client) = self.connections.remove(&connection) else { return };
        if let (Some(transaction), Some(storage)) = (&client.transaction, client.storage) {
            self.storages[storage.0].counters.aborts += 1;
            match transaction.stage {
                // What a storage is doing is dropped when it is done.
                Stage::Voting { .. } | Stage::Finishing { .. } => return,
                Stage::Waiting { job, .. } => _ = self.jobs.remove(&job),
                Stage::Open | Stage::Voted { .. } => {}
            }
        }
        self.effects.push(Effect::Forget { connection });
    }

    // Messages.

    fn received(&mut self, connection: ConnectionId, message: Message) {
        let Some(client) = self.connections.get_mut(&connection) else { return };
        if message.is_heartbeat() {
            return;
        }
        let is_one_way = message.is_one_way();
        let reply = if is_one_way { None } else { Some(MessageId(message.id)) };
        match Call::parse(&message.name, message.args) {
            Ok(Call::Register { .. }) if client.storage.is_some() => {
                self.close(connection, "it registered twice".to_owned());
            }
            Ok(call) if client.storage.is_none() && !matches!(call, Call::Register { .. }) => {
                self.close(connection, format!("it called {} before it registered", call.name()));
            }
            Ok(call) if client.must_wait(&call) => client.queue.push_back(Queued { reply, call }),
            Ok(call) => self.call(connection, reply, call),
            Err(BadCall::Unknown(method)) => self.close(connection, format!("there is no method {method}")),
            Err(BadCall::Arguments(bad)) => {
                self.answer(connection, reply, Err(Fault::text("builtins.TypeError", bad.to_string())));
            }
        }
    }

    fn call(&mut self, connection: ConnectionId, reply: Option<MessageId>, call: Call) {
        match self.carry_out(connection, &reply, call) {
            Next::Answer(answer) => self.answer(connection, reply, answer),
            Later => {}
        }
    }

    /// Answers a call. A one-way call that fails has no other answer than the end of its connection.
    fn answer(&mut self, connection: ConnectionId, reply: Option<MessageId>, answer: Answer) {
        let Some(codec) = self.connections.get(&connection).and_then(|client| client.codec) else { return };
        match (reply, answer) {
            (Some(MessageId(id)), Ok(value)) => self.send(connection, Message::reply(id, value)),
            (Some(MessageId(id)), Err(fault)) => self.send(connection, Message::error(id, fault.into_value(codec))),
            (None, Ok(_)) => {}
            (None, Err(fault)) => self.close(connection, format!("a call that is not answered failed: {fault}")),
        }
    }

    fn send(&mut self, connection: ConnectionId, message: Message) {
        self.effects.push(Effect::Send { connection, message });
    }

    /// Has a storage do something for a call.
    fn run(&mut self, connection: ConnectionId, reply: Option<MessageId>, kind: Kind, work: Work) -> JobId {
        let id = JobId(self.job_next);
        self.job_next += 1;
        let storage = self.connections[&connection].storage.expect("a connection without a storage asks for nothing");
        self.jobs.insert(id, Running { connection, storage, reply, kind });
        self.effects.push(Effect::Run(Job { id, connection, storage, work }));
        id
    }

    fn ask(&mut self, connection: ConnectionId, reply: &Option<MessageId>, question: Question) -> Next {
        self.run(connection, reply.clone(), Kind::Ask, Work::Ask(question));
        Later
    }

    // Calls.

    fn carry_out(&mut self, connection: ConnectionId, reply: &Option<MessageId>, call: Call) -> Next {
        if let Call::Register { storage, read_only } = call {
            return self.register(connection, storage, read_only);
        }
        let storage = self.connections[&connection].storage.expect("it has registered");
        let client = self.connections.get_mut(&connection).expect("a call has a connection");
        let served = &mut self.storages[storage.0];
        match call {
            Call::Register { .. } => unreachable!("done above"),
            Call::Ping => done(Value::None),
            Call::LastTransaction => done(eight(client.last)),
            Call::LoadBefore { oid, before } => {
                served.counters.loads += 1;
                let kind = Kind::Load { oid, before, is_stale: false };
                self.run(connection, reply.clone(), kind, Work::Load { oid, before });
                Later
            }
            Call::GetInfo => {
                self.run(connection, reply.clone(), Kind::Info, Work::Measure);
                Later
            }
            Call::GetInvalidations { tid } => match served.changed(tid, client.last) {
                Some(oids) => done(Value::Tuple(vec![eight(client.last), answers::oids(oids)])),
                None => self.ask(connection, reply, Question::Since { tid }),
            },
            Call::SetClientLabel { label } => {
                client.label = Some(label);
                done(Value::None)
            }
            Call::ServerStatus => done(self.status_of(storage)),
            Call::NewOid => {
                fail(Fault::text("builtins.AttributeError", "'ZEOStorage' object has no attribute 'new_oid'"))
            }
            Call::NewOids { .. } | Call::TpcBegin(_) if client.read_only => fail(Fault::ReadOnly),
            Call::NewOids { count } => {
                let count = count.clamp(1, OIDS_MAX) as u32;
                self.ask(connection, reply, Question::NewOids { count })
            }
            Call::LoadSerial { oid, tid } => self.ask(connection, reply, Question::LoadSerial { oid, tid }),
            Call::GetTid { oid } => self.ask(connection, reply, Question::NewestTid { oid }),
            Call::History { oid, size } => self.ask(connection, reply, Question::History { oid, size }),
            Call::RecordIterNext { next } => self.ask(connection, reply, Question::NextRecord { next }),
            Call::UndoLog { first, last } => {
                self.ask(connection, reply, Question::UndoLog { first, last, specification: Value::None })
            }
            Call::UndoInfo { first, last, specification } => {
                self.ask(connection, reply, Question::UndoLog { first, last, specification })
            }
            Call::Pack { time, wait } => {
                let waiting = if wait { reply.clone() } else { None };
                self.run(connection, waiting, Kind::Pack { waits: wait }, Work::Pack { time });
                if wait { Later } else { done(Value::None) }
            }
            Call::IteratorStart { start, stop } => {
                let range = TidRange { first: start.unwrap_or(Tid::ZERO), last: stop.unwrap_or(Tid::MAX) };
                self.ask(connection, reply, Question::Iterate { range })
            }
            Call::IteratorNext { iterator } => self.ask(connection, reply, Question::NextTransaction { iterator }),
            Call::IteratorRecordStart { iterator, tid } => {
                self.ask(connection, reply, Question::Revisions { iterator, tid })
            }
            Call::IteratorRecordNext { iterator } => self.ask(connection, reply, Question::NextRevision { iterator }),
            Call::IteratorGc { iterators } => self.ask(connection, reply, Question::ForgetIterators { iterators }),
            Call::StoreBlobStart
            | Call::StoreBlobChunk { .. }
            | Call::StoreBlobEnd { .. }
            | Call::StoreBlobShared { .. }
            | Call::SendBlob { .. } => fail(Fault::text("builtins.TypeError", "Blobs are not supported")),
            Call::TpcBegin(begin) => self.begin(connection, *begin),
            Call::Store { oid, serial, data, transaction } => {
                let version = Version::TRUNK;
                self.change(connection, transaction, Change::Store { oid, serial, version, data: data.into() })
            }
            Call::Delete { oid, serial, transaction } => {
                self.change(connection, transaction, Change::Delete { oid, serial })
            }
            Call::CheckCurrent { oid, serial, transaction } => {
                self.change(connection, transaction, Change::CheckCurrent { oid, serial })
            }
            Call::Restore { oid, tid: _, data, source, transaction } => {
                let data = data.map(Into::into);
                let change = Change::Restore { oid, version: Version::TRUNK, data, source, base: None };
                self.change(connection, transaction, change)
            }
            Call::Undo { undone, transaction } => self.undo(connection, transaction, &undone),
            Call::Vote { transaction } => self.vote(connection, reply, transaction),
            Call::TpcFinish { transaction } => self.finish(connection, reply, transaction),
            Call::TpcAbort { transaction } => self.abort(connection, transaction),
        }
    }

    fn register(&mut self, connection: ConnectionId, name: Value, read_only: bool) -> Next {
        let found = match &name {
            Value::Text(name) => self.storages.iter().position(|served| served.name == *name),
            _ => None,
        };
        let Some(found) = found else {
            let name = match name {
                Value::Text(name) => name,
                other => format!("{other:?}"),
            };
            return fail(Fault::text("builtins.ValueError", format!("unknown storage: {name}")));
        };
        let served = &self.storages[found];
        if !read_only && (self.config.is_read_only || served.description.is_read_only) {
            return fail(Fault::ReadOnly);
        }
        let client = self.connections.get_mut(&connection).expect("a call has a connection");
        client.storage = Some(StorageId(found));
        client.read_only = read_only;
        client.last = served.last;
        done(eight(served.last))
    }

    // Transactions.

    fn begin(&mut self, connection: ConnectionId, begin: Begin) -> Next {
        let client = self.connections.get_mut(&connection).expect("a call has a connection");
        if let Some(current) = &client.transaction {
            return match current.id == begin.transaction {
                true => done(Value::None),
                false => fail(Fault::text(
                    "ZODB.POSException.StorageTransactionError",
                    "Multiple simultaneous tpc_begin requests from one client.",
                )),
            };
        }
        let Begin { transaction, user, description, extension, tid, status } = begin;
        let Some(status) = answers::status(&status) else {
            return fail(Fault::text("builtins.ValueError", "a transaction's status is ' ', 'p' or 'u'"));
        };
        let extension = match extension {
            Value::Bytes(pickle) => pickle,
            Value::Dict(pairs) if !pairs.is_empty() => vellum_pickle::encode(&Value::Dict(pairs)).into(),
            _ => Bytes::new(),
        };
        let mut draft = Draft::new(TransactionMeta { user, description, extension, tid, status });
        draft.set_origin(Origin(connection.0));
        client.transaction =
            Some(Transaction { id: transaction, draft, stage: Stage::Open, wrong: None, resolving: BTreeSet::new() });
        done(Value::None)
    }

    /// The client's transaction, if it is the one that a call names.
    fn transaction(&mut self, connection: ConnectionId, given: TransactionId) -> Result<&mut Transaction, Fault> {
        let client = self.connections.get_mut(&connection).expect("a call has a connection");
        if client.read_only {
            return Err(Fault::ReadOnly);
        }
        let current = client.transaction.as_ref().map(|transaction| transaction.id.clone());
        match &mut client.transaction {
            Some(transaction) if transaction.id == given => Ok(transaction),
            _ => Err(Fault::Transaction { current, given }),
        }
    }

    fn change(&mut self, connection: ConnectionId, given: TransactionId, change: Change) -> Next {
        let is_store = !matches!(change, Change::CheckCurrent { .. });
        let transaction = match self.transaction(connection, given) {
            Ok(transaction) => transaction,
            Err(fault) => return fail(fault),
        };
        if transaction.stage != Stage::Open {
            return fail(Fault::text("builtins.AssertionError", "the transaction is voted: it takes no more changes"));
        }
        if let Change::Store { oid, .. } = &change
            && transaction.resolving.remove(oid)
        {
            transaction.replace_store(*oid);
        }
        // What is wrong with a change is told by the vote: nobody waits for an answer to this.
        if let Err(error) = transaction.draft.push(change) {
            transaction.wrong.get_or_insert(Wrong(crate::faults::fault(error)));
        }
        if is_store {
            self.counters(connection).stores += 1;
        }
        done(Value::None)
    }

    fn undo(&mut self, connection: ConnectionId, given: TransactionId, undone: &[u8]) -> Next {
        if let Some(tid) = answers::undone(undone) {
            return self.change(connection, given, Change::Undo { tid });
        }
        match self.transaction(connection, given) {
            Ok(transaction) => {
                let fault = Fault::text("binascii.Error", "the name of the transaction to undo is no tid in base64");
                transaction.wrong.get_or_insert(Wrong(fault));
                done(Value::None)
            }
            Err(fault) => fail(fault),
        }
    }

    fn counters(&mut self, connection: ConnectionId) -> &mut Counters {
        let storage = self.connections[&connection].storage.expect("it has registered");
        &mut self.storages[storage.0].counters
    }

    fn vote(&mut self, connection: ConnectionId, reply: &Option<MessageId>, given: TransactionId) -> Next {
        let clients_resolve = self.config.clients_resolve;
        let transaction = match self.transaction(connection, given) {
            Ok(transaction) => transaction,
            Err(fault) => return fail(fault),
        };
        let already = |how: &str| {
            fail(Fault::text("ZODB.POSException.StorageTransactionError", format!("Already voting ({how})")))
        };
        match &transaction.stage {
            Stage::Open => {}
            Stage::Waiting { .. } => return already("waiting"),
            Stage::Voting { .. } | Stage::Voted { .. } | Stage::Finishing { .. } => return already("locked"),
        }
        if let Some(Wrong(fault)) = transaction.wrong.take() {
            self.end_transaction(connection);
            return fail(fault);
        }
        let draft = match clients_resolve {
            true => transaction.draft.clone(),
            false => std::mem::replace(&mut transaction.draft, Draft::new(TransactionMeta::new())),
        };
        let job = self.run(connection, None, Kind::Transaction, Work::Vote { draft });
        self.set_stage(connection, Stage::Voting { job, reply: reply.clone(), is_woken: false });
        Later
    }

    fn finish(&mut self, connection: ConnectionId, reply: &Option<MessageId>, given: TransactionId) -> Next {
        match self.transaction(connection, given) {
            Ok(Transaction { stage: Stage::Voted { .. }, .. }) => {}
            Ok(_) => return fail(Fault::text("builtins.AssertionError", "finished called wo lock")),
            Err(Fault::ReadOnly) => return fail(Fault::ReadOnly),
            // It may be gone already: ZEO says nothing then.
            Err(_) => return done(Value::None),
        }
        let job = self.run(connection, None, Kind::Transaction, Work::Finish);
        self.set_stage(connection, Stage::Finishing { job, reply: reply.clone() });
        Later
    }

    fn abort(&mut self, connection: ConnectionId, given: TransactionId) -> Next {
        match self.transaction(connection, given) {
            Ok(_) => {}
            Err(Fault::ReadOnly) => return fail(Fault::ReadOnly),
            Err(_) => return done(Value::None),
        }
        self.counters(connection).aborts += 1;
        self.end_transaction(connection);
        done(Value::None)
    }

    fn set_stage(&mut self, connection: ConnectionId, stage: Stage) {
        let client = self.connections.get_mut(&connection).expect("its transaction goes on");
        client.transaction.as_mut().expect("it goes on").stage = stage;
    }

    /// Drops the transaction of a connection, and what a storage has of it.
    fn end_transaction(&mut self, connection: ConnectionId) {
        let client = self.connections.get_mut(&connection).expect("its transaction ends");
        let Some(transaction) = client.transaction.take() else { return };
        if let Stage::Waiting { job, .. } = transaction.stage {
            self.jobs.remove(&job);
        }
        if !matches!(transaction.stage, Stage::Open) {
            self.effects.push(Effect::Abort { connection });
        }
    }

    // Storages.

    /// A storage finished or packed something.
    fn told(&mut self, storage: StorageId, told: vellum_storage::Event) {
        match told {
            vellum_storage::Event::Committed { tid, oids, origin } if tid > self.storages[storage.0].last => {
                self.storages[storage.0].note(tid, oids.clone());
                for running in self.jobs.values_mut().filter(|running| running.storage == storage) {
                    if let Kind::Load { oid, is_stale, .. } = &mut running.kind {
                        *is_stale |= oids.contains(oid);
                    }
                }
                let notice = Notice::Invalidate { tid, oids }.into_message();
                for (connection, client) in &mut self.connections {
                    let connection = *connection;
                    if client.storage != Some(storage) {
                        continue;
                    }
                    if Origin(connection.0) == origin {
                        // The answer to its finish tells it.
                        client.backlog = Some(Vec::new());
                    } else if let Some(backlog) = &mut client.backlog {
                        backlog.push((tid, notice.clone()));
                    } else {
                        let message = notice.clone();
                        self.effects.push(Effect::Send { connection, message });
                        let answers = client.told(tid);
                        self.effects.extend(answers.into_iter().map(|message| Effect::Send { connection, message }));
                    }
                }
            }
            // Nobody can say what they changed; so each client has to ask, and learns that nobody knows.
            vellum_storage::Event::Copied { last, .. } if last > self.storages[storage.0].last => {
                self.storages[storage.0].forget(last);
                let of_storage = self.connections.iter().filter(|(_, client)| client.storage == Some(storage));
                for connection in of_storage.map(|(connection, _)| *connection).collect::<Vec<_>>() {
                    self.close(connection, "transactions were copied into its storage".to_owned());
                }
            }
            _ => {}
        }
    }

    fn job_done(&mut self, job: JobId, outcome: Outcome) {
        let Some(Running { connection, storage, reply, kind }) = self.jobs.remove(&job) else { return };
        if let Outcome::Packed { info } = outcome {
            self.inform(storage, info);
        }
        if !self.connections.contains_key(&connection) {
            // Its client is gone, and what the storage has of it goes now.
            if matches!(kind, Kind::Transaction) {
                self.effects.push(Effect::Forget { connection });
            }
            return;
        }
        match (kind, outcome) {
            (Kind::Load { oid, before, is_stale: true }, _) => {
                // The object was changed meanwhile: whatever was read may not be what this client should see.
                let kind = Kind::Load { oid, before, is_stale: false };
                self.run(connection, reply, kind, Work::Load { oid, before });
            }
            (Kind::Load { .. }, Outcome::Loaded(loaded)) => self.loaded(connection, reply, loaded),
            (Kind::Info, Outcome::Measured(info)) => {
                let value = answers::info(info, &self.storages[storage.0].description);
                self.answer(connection, reply, Ok(value));
            }
            (Kind::Ask, Outcome::Answer(value)) => self.answer(connection, reply, Ok(value)),
            (Kind::Pack { waits: true }, Outcome::Packed { .. }) => self.answer(connection, reply, Ok(Value::None)),
            (Kind::Pack { waits: false }, _) => {}
            (Kind::Transaction, outcome) => {
                self.transaction_done(connection, job, outcome);
                self.go_on(connection);
            }
            (_, Outcome::Failed(fault)) => self.answer(connection, reply, Err(fault)),
            (kind, outcome) => unreachable!("{kind:?} does not result in {outcome:?}"),
        }
    }

    /// Answers a load, unless its answer is from the future: then it is sent after the invalidation.
    fn loaded(&mut self, connection: ConnectionId, reply: Option<MessageId>, loaded: Option<LoadedAt>) {
        let of = loaded.as_ref().map_or(Tid::ZERO, |loaded| loaded.next.unwrap_or(loaded.tid).max(loaded.tid));
        let value = answers::loaded(loaded);
        let client = self.connections.get_mut(&connection).expect("it waits for the load");
        match reply {
            Some(MessageId(id)) if of > client.last => client.held.push((of, Message::reply(id, value))),
            reply => self.answer(connection, reply, Ok(value)),
        }
    }

    /// Tells a client what was finished after its own transaction, before the answer to that.
    fn catch_up(&mut self, connection: ConnectionId, tid: Tid) {
        let Some(client) = self.connections.get_mut(&connection) else { return };
        let mut messages = client.told(tid);
        for (tid, notice) in client.backlog.take().unwrap_or_default() {
            messages.push(notice);
            messages.extend(client.told(tid));
        }
        self.effects.extend(messages.into_iter().map(|message| Effect::Send { connection, message }));
    }

    fn transaction_done(&mut self, connection: ConnectionId, job: JobId, outcome: Outcome) {
        let client = self.connections.get_mut(&connection).expect("it is there");
        let Some(transaction) = &mut client.transaction else { return };
        let stage = std::mem::replace(&mut transaction.stage, Stage::Open);
        match (stage, outcome) {
            (Stage::Voting { reply, .. }, Outcome::Voted { merged }) => {
                transaction.stage = Stage::Voted { since: self.now };
                self.answer(connection, reply, Ok(answers::oids(merged)));
            }
            (Stage::Voting { reply, is_woken: true, .. }, Outcome::Waits { .. }) => self.retry(connection, reply),
            (Stage::Voting { reply, .. }, Outcome::Waits { on }) => {
                transaction.stage = Stage::Waiting { job, reply, on };
                let storage = client.storage.expect("it has a transaction");
                let waiting = Running { connection, storage, reply: None, kind: Kind::Transaction };
                self.jobs.insert(job, waiting);
            }
            (Stage::Voting { reply, .. }, Outcome::Failed(fault)) => self.refused(connection, reply, fault),
            (Stage::Finishing { reply, .. }, Outcome::Finished { tid, info }) => {
                client.transaction = None;
                self.counters(connection).commits += 1;
                let Info { length, size } = info;
                let info = Notice::Info { length: length as i64, size: size as i64 };
                self.send(connection, info.into_message());
                self.answer(connection, reply, Ok(eight(tid)));
                self.catch_up(connection, tid);
            }
            (Stage::Finishing { reply, .. }, Outcome::Failed(fault)) => {
                client.transaction = None;
                let last = client.last;
                self.answer(connection, reply, Err(fault));
                // It may have been finished all the same, and what it held back must not stay.
                self.catch_up(connection, last);
            }
            (stage, outcome) => unreachable!("{stage:?} does not end with {outcome:?}"),
        }
    }

    /// A vote was refused. A conflict that the client can resolve leaves it its transaction.
    fn refused(&mut self, connection: ConnectionId, reply: Option<MessageId>, fault: Fault) {
        let is_conflict = matches!(fault, Fault::Conflict { .. } | Fault::ReadConflict { .. });
        if let (Fault::Conflict { oid, committed, serial, .. }, true) = (&fault, self.config.clients_resolve) {
            let client = self.connections.get_mut(&connection).expect("it voted");
            let transaction = client.transaction.as_mut().expect("it was voted on");
            let stored = transaction.draft.changes().iter().rev().find_map(|change| match change {
                Change::Store { oid: stored, data, .. } if stored == oid => data.bytes().ok(),
                _ => None,
            });
            if let Some(data) = stored {
                transaction.resolving.insert(*oid);
                let serials = Value::Tuple(vec![eight(*committed), eight(*serial)]);
                let pairs = [("oid", eight(*oid)), ("serials", serials), ("data", Value::Bytes(data))];
                let conflict = pairs.map(|(key, value)| (answers::text(key), value)).to_vec();
                return self.answer(connection, reply, Ok(Value::List(vec![Value::Dict(conflict)])));
            }
        }
        let client = self.connections.get_mut(&connection).expect("it voted");
        client.transaction = None;
        if is_conflict {
            self.counters(connection).conflicts += 1;
        }
        self.answer(connection, reply, Err(fault));
    }

    /// Carries out the calls that waited for the storage.
    fn go_on(&mut self, connection: ConnectionId) {
        while let Some(client) = self.connections.get_mut(&connection) {
            let is_running =
                client.transaction.as_ref().is_some_and(|transaction| transaction.stage.running().is_some());
            if is_running {
                return;
            }
            let Some(Queued { reply, call }) = client.queue.pop_front() else { return };
            self.call(connection, reply, call);
        }
    }

    fn woken(&mut self, job: JobId) {
        let Some(&Running { connection, .. }) = self.jobs.get(&job) else { return };
        let client = self.connections.get_mut(&connection);
        let transaction = client.and_then(|client| client.transaction.as_mut());
        match transaction.map(|transaction| &mut transaction.stage) {
            Some(Stage::Voting { is_woken, .. }) => *is_woken = true,
            Some(Stage::Waiting { reply, .. }) => {
                let reply = reply.clone();
                self.jobs.remove(&job);
                self.retry(connection, reply);
            }
            _ => {}
        }
    }

    /// Has the storage try again to vote.
    fn retry(&mut self, connection: ConnectionId, reply: Option<MessageId>) {
        let job = self.run(connection, None, Kind::Transaction, Work::Retry);
        self.set_stage(connection, Stage::Voting { job, reply, is_woken: false });
    }

    /// Tells every client of a storage how large it is now.
    fn inform(&mut self, storage: StorageId, info: Info) {
        let message = Notice::Info { length: info.length as i64, size: info.size as i64 }.into_message();
        for (connection, client) in &self.connections {
            if client.storage == Some(storage) {
                self.effects.push(Effect::Send { connection: *connection, message: message.clone() });
            }
        }
    }

    fn tick(&mut self, now: Duration) {
        self.now = now;
        let Some(timeout) = self.config.transaction_timeout else { return };
        let late = self.connections.iter().filter(|(_, client)| match &client.transaction {
            Some(Transaction { stage: Stage::Voted { since }, .. }) => now.saturating_sub(*since) >= timeout,
            _ => false,
        });
        for connection in late.map(|(connection, _)| *connection).collect::<Vec<_>>() {
            self.close(
                connection,
                format!("its transaction was voted {} s ago, and not finished", timeout.as_secs_f64()),
            );
        }
    }

    // Status.

    /// The status of one storage, by ZEO's keys in ZEO's order.
    fn status_of(&self, storage: StorageId) -> Value {
        let served = &self.storages[storage.0];
        let of_storage = || self.connections.values().filter(|client| client.storage == Some(storage));
        let transactions = || of_storage().filter_map(|client| client.transaction.as_ref());
        let waiting = transactions().filter(|transaction| matches!(transaction.stage, Stage::Waiting { .. })).count();
        let Counters { loads, stores, commits, aborts, conflicts, conflicts_resolved } = served.counters;
        let int = |number: u64| Value::Int(number as i64);
        let pairs = [
            ("connections", int(of_storage().count() as u64)),
            ("loads", int(loads)),
            ("stores", int(stores)),
            ("commits", int(commits)),
            ("aborts", int(aborts)),
            ("active_txns", int(transactions().count() as u64)),
            ("lock_time", Value::None),
            ("conflicts", int(conflicts)),
            ("conflicts_resolved", int(conflicts_resolved)),
            ("start", Value::Text(self.config.started.clone())),
            ("waiting", int(waiting as u64)),
            (
                "timeout-thread-is-alive",
                match self.config.transaction_timeout {
                    Some(_) => Value::Bool(true),
                    None => answers::text("stub"),
                },
            ),
            ("last-transaction", Value::Text(served.last.to_string())),
        ];
        Value::Dict(pairs.map(|(key, value)| (answers::text(key), value)).to_vec())
    }

    /// The status of all storages as JSON.
    fn status(&self) -> String {
        let each = self.storages.iter().enumerate().map(|(n, served)| {
            let Value::Dict(pairs) = self.status_of(StorageId(n)) else { unreachable!("it is a dict") };
            let pairs = pairs.iter().map(|(key, value)| format!("{}: {}", json(key), json(value)));
            format!("{}: {{{}}}", json(&Value::Text(served.name.clone())), pairs.collect::<Vec<_>>().join(", "))
        });
        format!("{{{}}}", each.collect::<Vec<_>>().join(", "))
    }

    /// Who waits for what: of each client whose vote waits, its name, and what it waits for.
    pub fn waiting(&self) -> Vec<(String, Busy)> {
        let waiting =
            self.connections.values().filter_map(|client| match client.transaction.as_ref().map(|t| &t.stage) {
                Some(Stage::Waiting { on, .. }) => {
                    Some((client.label.clone().unwrap_or(client.peer.clone()), on.clone()))
                }
                _ => None,
            });
        waiting.collect()
    }
}

/// A status's value as JSON, in ASCII as Python writes it.
fn json(value: &Value) -> String {
    match value {
        Value::None => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Text(text) => {
            let escaped = text.encode_utf16().map(|unit| match unit {
                0x22 => "\\\"".to_owned(),
                0x5c => "\\\\".to_owned(),
                0x20..=0x7e => char::from(unit as u8).to_string(),
                unit => format!("\\u{unit:04x}"),
            });
            format!("\"{}\"", escaped.collect::<String>())
        }
        other => unreachable!("a status has no {other:?}"),
    }
}
