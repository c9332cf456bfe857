//! Carries out what the machine wants of a storage. It blocks: on disks, and on the syncs of a commit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use vellum_storage::{
    Blob, BlobWriter, Blobs, Busy, Change, Clock, Error, Loaded, Oid, Order, PackOptions, Result, Storage, Tid,
    TidRange, Version, Versions, Vote, Voted, Waiting,
};
use vellum_sync::{Mutex, MutexGuard};
use vellum_wire::{Fault, Found, Value};

use crate::answers::{self, eight};
use crate::event::{ConnectionId, Info, Job, JobId, Outcome, Question, StorageId, Work};
use crate::iterators::Iterators;
use crate::report::Report;
use crate::{OidMark, background, faults};

/// A storage that is served.
#[derive(Clone)]
pub struct Store {
    /// The storage.
    pub storage: Arc<dyn Storage>,
    /// The mark of its oids. Without one, oids may be given out a second time after a restart.
    pub oids: Option<Arc<OidMark>>,
    /// How it is packed when a client asks for it.
    pub packing: PackOptions,
}

impl Store {
    /// A storage without a mark, which is packed as ZODB packs one: garbage is collected, and the old file kept.
    pub fn new(storage: Arc<dyn Storage>) -> Store {
        Store { storage, oids: None, packing: PackOptions::default().collect(true).keep_old(true) }
    }
}

/// The storages, and what they keep for clients: voted transactions and iterators. Shared by threads.
pub struct Worker {
    storages: Vec<Store>,
    clock: Arc<dyn Clock>,
    /// A client that missed more than the machine remembers is told what it missed if that is not older than this.
    invalidation_age: Option<Duration>,
    clients: Mutex<BTreeMap<ConnectionId, Kept>>,
    pieces: Arc<Pieces>,
    wake: Arc<dyn Fn(JobId) + Send + Sync>,
}

/// A transaction that is kept for a client.
#[derive(Default)]
struct Kept {
    transaction: Option<Phase>,
    iterators: Iterators,
    /// The blob that the client is sending.
    blob: Option<Box<dyn BlobWriter>>,
}

enum Phase {
    Waits(Box<Waiting>),
    Voted(Voted),
}

impl Worker {
    /// These storages. `wake` is called with the job of a vote when it is worth trying again, from any thread and
    /// without any lock: it should only pass that on.
    pub fn new(
        storages: Vec<Store>,
        clock: Arc<dyn Clock>,
        invalidation_age: Option<Duration>,
        wake: impl Fn(JobId) + Send + Sync + 'static,
    ) -> Worker {
        let (clients, pieces) = (Mutex::default(), Arc::default());
        Worker { storages, clock, invalidation_age, clients, pieces, wake: Arc::new(wake) }
    }

    /// Whether nothing is kept for anybody.
    pub fn is_quiet(&self) -> bool {
        self.clients().is_empty()
    }

    /// Blobs that clients are sending, and that no storage call is at.
    pub fn uploads(&self) -> usize {
        self.clients().values().filter(|kept| kept.blob.is_some()).count()
    }

    /// Makes room for a client, before its first job.
    pub fn connected(&self, connection: ConnectionId) {
        self.clients().insert(connection, Kept::default());
    }

    /// Drops all that is kept for a client.
    pub fn forget(&self, connection: ConnectionId) {
        // Transactions are dropped without the lock, which those that they wake will want.
        let kept = self.clients().remove(&connection);
        drop(kept);
    }

    /// Drops a client's transaction, and the blob that it is sending.
    pub fn abort(&self, connection: ConnectionId) {
        let kept = self.clients().get_mut(&connection).map(|kept| (kept.transaction.take(), kept.blob.take()));
        drop(kept);
    }

    /// Adds to each waiting vote the client whose transaction it waits for.
    pub fn name_holders(&self, report: &mut Report) {
        let clients = self.clients();
        let holders = |busy: &Busy| {
            let holds = |kept: &Kept| match (&kept.transaction, busy) {
                (Some(Phase::Voted(voted)), Busy::Object(oid)) => voted.touched().contains(oid),
                (Some(Phase::Voted(_)), _) => true,
                _ => false,
            };
            clients.iter().find(|(_, kept)| holds(kept)).map(|(connection, _)| connection.0)
        };
        for client in &mut report.clients {
            if let Some(transaction) = &mut client.transaction
                && let Some(Phase::Waits(waiting)) =
                    clients.get(&ConnectionId(client.connection)).and_then(|kept| kept.transaction.as_ref())
            {
                transaction.held_by = waiting.busy().and_then(holders);
            }
        }
    }

    fn clients(&self) -> MutexGuard<'_, BTreeMap<ConnectionId, Kept>> {
        self.clients.lock()
    }

    fn store(&self, storage: StorageId) -> &Store {
        &self.storages[storage.0]
    }

    /// Carries out a job.
    pub fn run(&self, job: Job) -> Outcome {
        let store = self.store(job.storage);
        let storage = &store.storage;
        let failed = |error| Outcome::Failed(faults::fault(error));
        match job.work {
            Work::Load { oid, before } => load(&**storage, oid, before).map_or_else(failed, Outcome::Loaded),
            Work::LoadMany { oids, before, bytes_max } => {
                load_many(&**storage, oids, before, bytes_max).map_or_else(failed, Outcome::LoadedMany)
            }
            Work::Reach { mut walk } => match walk.go_on(|oid, before| storage.load_before(oid, before)) {
                Ok(revisions) => Outcome::Reached { walk, revisions },
                Err(error) => failed(error),
            },
            Work::Measure => Outcome::Measured(measure(&**storage)),
            Work::Ask(question) if question.is_of_now() => {
                let answer = self.answer(store, job.connection, question);
                Outcome::AnswerAfter(answer, storage.last_transaction())
            }
            Work::Ask(question) => match self.answer(store, job.connection, question) {
                Ok(value) => Outcome::Answer(value),
                Err(fault) => Outcome::Failed(fault),
            },
            Work::Spill { mut draft } => {
                // A draft of the storage knows where its scratch files are.
                let spilled = storage.begin(draft.meta().clone()).and_then(|beside| draft.spill(&beside));
                spilled.map_or_else(failed, |()| Outcome::Spilled { draft })
            }
            Work::AppendBlob { chunks } => {
                let appended = self.append_blob(&**storage, job.connection, &chunks);
                appended.map_or_else(failed, |()| Outcome::Appended)
            }
            Work::EndBlob => {
                let ended = self.end_blob(&**storage, job.connection);
                ended.map_or_else(failed, |blob| Outcome::BlobStored { blob })
            }
            Work::AdoptBlob { oid, name } => match blobs(&**storage).map(Blobs::shared) {
                Ok(Some(shared)) => shared.adopt(oid, &name).map_or_else(failed, |blob| Outcome::BlobStored { blob }),
                Ok(None) => Outcome::Failed(Fault::text("builtins.TypeError", "the server shares no blob folder")),
                Err(error) => failed(error),
            },
            Work::OpenBlob { oid, serial } => {
                let blob = blobs(&**storage).and_then(|blobs| blobs.load_blob(oid, serial));
                let opened = blob.and_then(|blob| Ok(Outcome::BlobOpened { length: blob.length()?, blob }));
                opened.unwrap_or_else(|error| Outcome::Failed(faults::of_blob(error, oid, serial)))
            }
            Work::ReadBlob { blob, offset, length } => read_blob(&blob, offset, self.pieces.take(length as usize)),
            Work::Vote { draft } => self.vote(&**storage, job.connection, job.id, draft.into()),
            Work::Retry => {
                let kept = self.clients().get_mut(&job.connection).and_then(|kept| kept.transaction.take());
                match kept {
                    Some(Phase::Waits(waiting)) => self.vote(&**storage, job.connection, job.id, *waiting),
                    _ => Outcome::Failed(Fault::text("builtins.AssertionError", "no transaction waits")),
                }
            }
            Work::Finish => {
                self.finish(job.storage, &[job.connection]).pop().expect("there is an outcome for each transaction")
            }
            Work::Pack { time } => background::run("vellum-pack", || pack(store, time)),
        }
    }

    /// Finishes the transactions of these clients of a storage, which share syncs.
    pub fn finish(&self, storage: StorageId, connections: &[ConnectionId]) -> Vec<Outcome> {
        let take = |connection| self.clients().get_mut(connection).and_then(|kept| kept.transaction.take());
        let mut is_voted = Vec::new();
        let mut voted = Vec::new();
        for connection in connections {
            let kept = take(connection);
            is_voted.push(matches!(kept, Some(Phase::Voted(_))));
            if let Some(Phase::Voted(transaction)) = kept {
                voted.push(transaction);
            }
        }
        let mut finished = Voted::finish_all(voted).into_iter();
        let info = measure(&*self.store(storage).storage);
        let outcome = |is_voted| match is_voted {
            false => Outcome::Failed(Fault::text("builtins.AssertionError", "no transaction is voted")),
            true => match finished.next().expect("there is a result for each transaction") {
                Ok(tid) => Outcome::Finished { tid, info },
                Err(error) => Outcome::Failed(faults::fault(error)),
            },
        };
        is_voted.into_iter().map(outcome).collect()
    }

    /// Adds to the blob that a client is sending, which is gone if that fails. None is kept for a client that is gone.
    fn append_blob(&self, storage: &dyn Storage, connection: ConnectionId, chunks: &[Bytes]) -> Result<()> {
        let mut writer = self.take_blob(storage, connection)?;
        chunks.iter().try_for_each(|chunk| writer.append(chunk))?;
        let mut clients = self.clients();
        let left = match clients.get_mut(&connection) {
            Some(kept) => kept.blob.replace(writer),
            None => Some(writer),
        };
        drop(clients);
        drop(left);
        Ok(())
    }

    fn end_blob(&self, storage: &dyn Storage, connection: ConnectionId) -> Result<Blob> {
        self.take_blob(storage, connection)?.finish()
    }

    /// The blob that a client is sending, or a new one.
    fn take_blob(&self, storage: &dyn Storage, connection: ConnectionId) -> Result<Box<dyn BlobWriter>> {
        let kept = self.clients().get_mut(&connection).and_then(|kept| kept.blob.take());
        kept.map_or_else(|| blobs(storage)?.new_blob(), Ok)
    }

    fn vote(&self, storage: &dyn Storage, connection: ConnectionId, job: JobId, waiting: Waiting) -> Outcome {
        let changes = waiting.draft().changes().to_vec();
        match storage.attempt(waiting) {
            Err(error) => {
                let fault = faults::of_vote(error, &changes);
                Outcome::Refused { fault, judged_by: storage.last_transaction() }
            }
            Ok(Vote::Busy(mut waiting)) => {
                let on = waiting.busy().cloned().unwrap_or(vellum_storage::Busy::Everything);
                let wake = Arc::new(Wakes { job, wake: Arc::clone(&self.wake) });
                waiting.wake(Waker::from(wake));
                self.keep(connection, Phase::Waits(waiting));
                Outcome::Waits { on }
            }
            Ok(Vote::Voted(voted)) => {
                let merged = to_load_again(&voted, &changes);
                self.keep(connection, Phase::Voted(voted));
                Outcome::Voted { merged, judged_by: storage.last_transaction() }
            }
        }
    }

    /// Keeps a transaction for a client, unless that is gone.
    fn keep(&self, connection: ConnectionId, phase: Phase) {
        let mut clients = self.clients();
        match clients.get_mut(&connection) {
            Some(kept) => kept.transaction = Some(phase),
            None => {
                drop(clients);
                drop(phase);
            }
        }
    }

    fn answer(&self, store: &Store, connection: ConnectionId, question: Question) -> Result<Value, Fault> {
        let storage = &*store.storage;
        let trunk = Version::TRUNK;
        Ok(match question {
            Question::LoadSerial { oid, tid } => Value::Bytes(storage.load_serial(oid, tid).map_err(faults::fault)?),
            Question::NewestTid { oid } => eight(storage.load(oid, &trunk).map_err(faults::fault)?.tid),
            Question::History { oid, size } => {
                let entries = storage.history(oid, size.max(0) as usize).map_err(faults::fault)?;
                Value::List(entries.into_iter().map(answers::history).collect())
            }
            Question::NextRecord { next } => next_record(storage, next.unwrap_or(Oid::ROOT))?,
            Question::NewOids { count } => {
                let oids = match &store.oids {
                    Some(mark) => mark.new_oids(storage, count),
                    None => storage.new_oids(count),
                };
                answers::oids(oids.map_err(faults::fault)?)
            }
            Question::UndoLog { first, last, specification } => undo_log(storage, first, last, &specification)?,
            Question::Since { tid } => self.since(storage, tid).map_err(faults::fault)?,
            Question::Iterate { range } => {
                let transactions = storage.transactions(range, Order::OldestFirst).map_err(faults::fault)?;
                let number = self.with_iterators(connection, |iterators| iterators.over_transactions(transactions));
                number.transpose()?.map_or(Value::None, Value::Int)
            }
            Question::NextTransaction { iterator } => {
                let lend = |iterators: &mut Iterators| iterators.lend(iterator);
                let Some(rest) = self.with_iterators(connection, lend) else { return Ok(Value::None) };
                let mut rest = rest?;
                let found = rest.next().transpose();
                let give_back = |iterators: &mut Iterators| iterators.give_back(iterator, rest, &found);
                self.with_iterators(connection, give_back);
                found.map_err(faults::fault)?.as_ref().map_or(Value::None, answers::transaction)
            }
            Question::Revisions { iterator, tid } => {
                let number = self.with_iterators(connection, |iterators| iterators.over_revisions(iterator, tid));
                number.transpose()?.map_or(Value::None, Value::Int)
            }
            Question::NextRevision { iterator, in_version } => {
                let next = self.with_iterators(connection, |iterators| iterators.next_revision(iterator));
                let next = next.transpose()?.flatten();
                next.map_or(Value::None, |(tid, revision)| match in_version {
                    true => answers::revision_in_version(tid, revision),
                    false => answers::revision(tid, revision),
                })
            }
            Question::LoadInVersion { oid, version } => {
                let Loaded { data, tid } = storage.load(oid, &version).map_err(faults::fault)?;
                Value::Tuple(vec![Value::Bytes(data), eight(tid)])
            }
            Question::ModifiedInVersion { oid } => {
                let version = versions(storage)?.modified_in_version(oid).map_err(faults::fault)?;
                Value::Bytes(version.name().clone())
            }
            Question::Versions => {
                let versions = versions(storage)?.versions().map_err(faults::fault)?;
                Value::List(versions.iter().map(|version| Value::Bytes(version.name().clone())).collect())
            }
            Question::ForgetIterators { iterators: numbers } => {
                let gone = self.with_iterators(connection, |iterators| iterators.forget(&numbers));
                drop(gone);
                Value::None
            }
        })
    }

    /// Does something with a client's iterators, under the lock; nothing if the client is gone.
    fn with_iterators<T>(&self, connection: ConnectionId, work: impl FnOnce(&mut Iterators) -> T) -> Option<T> {
        self.clients().get_mut(&connection).map(|kept| work(&mut kept.iterators))
    }

    /// The changes after a transaction, from every later one, if that is not too long ago.
    fn since(&self, storage: &dyn Storage, tid: Tid) -> Result<Value> {
        let age = tid.time().map(|time| self.clock.now().duration_since(time));
        let is_young = self.invalidation_age.zip(age).is_some_and(|(max, age)| age.unsigned_abs() < max);
        if !is_young || tid == Tid::ZERO {
            return Ok(Value::None);
        }
        let mut found = std::collections::BTreeSet::new();
        let mut last = None;
        for transaction in storage.transactions(TidRange::from(tid.next()), Order::OldestFirst)? {
            let transaction = transaction?;
            found.extend(transaction.revisions.iter().map(|revision| revision.oid));
            last = Some(transaction.tid);
        }
        Ok(last.map_or(Value::None, |last| Value::Tuple(vec![eight(last), answers::oids(found)])))
    }
}

/// `loadBefore` of the last moment is how clients load.
fn load(storage: &dyn Storage, oid: Oid, before: Tid) -> Result<Option<vellum_storage::LoadedAt>> {
    storage.load_before(oid, before)
}

/// Rule 9.2: the answers to the first of these loads, and to all of them if the records are small.
fn load_many(storage: &dyn Storage, oids: Vec<Oid>, before: Tid, bytes_max: u64) -> Result<Vec<Found>> {
    let (mut found, mut bytes) = (Vec::with_capacity(oids.len()), 0);
    for oid in oids {
        found.push(match storage.load_before(oid, before) {
            Ok(Some(revision)) => {
                bytes += revision.data.len() as u64;
                Found::Revision(revision)
            }
            Ok(None) => Found::NotYet,
            Err(Error::KeyError { .. }) => Found::NoObject,
            Err(error) => return Err(error),
        });
        if bytes >= bytes_max {
            break;
        }
    }
    Ok(found)
}

fn versions(storage: &dyn Storage) -> Result<&dyn Versions, Fault> {
    storage.versions().ok_or_else(|| Fault::text("builtins.TypeError", "Versions are not supported"))
}

fn blobs(storage: &dyn Storage) -> Result<&dyn Blobs> {
    let lacks = || Error::Unfit { name: storage.name(), why: "it keeps no blobs".to_owned() };
    storage.blobs().ok_or_else(lacks)
}

/// Reads a piece of a blob, all of which is there unless something cut the file.
fn read_blob(blob: &Blob, offset: u64, mut piece: Piece) -> Outcome {
    let mut filled = 0;
    while filled < piece.memory.len() {
        match blob.read_at(&mut piece.memory[filled..], offset + filled as u64) {
            Ok(0) => {
                let end = offset + filled as u64;
                let why = format!("the file of a blob was cut while it was sent: it ends at {end}");
                return Outcome::Failed(Fault::text("ZODB.POSException.StorageError", why));
            }
            Ok(read) => filled += read,
            Err(error) => return Outcome::Failed(faults::fault(error)),
        }
    }
    Outcome::Piece(Bytes::from_owner(piece))
}

/// Memory for pieces of blobs. It is used again: pieces are read on many threads and freed on others, and an allocator
/// keeps some memory for each of them.
#[derive(Default)]
struct Pieces(Mutex<Vec<Vec<u8>>>);

/// So many are kept for later.
const PIECES_KEPT: usize = 64;

impl Pieces {
    fn take(self: &Arc<Self>, length: usize) -> Piece {
        let mut memory = self.0.lock().pop().unwrap_or_default();
        memory.resize(length, 0);
        Piece { memory, home: Arc::clone(self) }
    }
}

/// A piece of a blob, whose memory goes back where it is from.
struct Piece {
    memory: Vec<u8>,
    home: Arc<Pieces>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        let mut kept = self.home.0.lock();
        if kept.len() < PIECES_KEPT {
            kept.push(memory);
        }
    }
}

fn pack(store: &Store, time: f64) -> Outcome {
    let Some(pack) = store.storage.pack() else {
        return Outcome::Failed(Fault::text("builtins.AttributeError", "this storage does not pack"));
    };
    let to = jiff::Timestamp::from_nanosecond((time * 1e9) as i128).map(Tid::at);
    let Ok(to) = to else {
        return Outcome::Failed(Fault::text("builtins.ValueError", "no time to pack to"));
    };
    match pack.pack(to, store.packing.one_thread(true)) {
        Ok(_) => Outcome::Packed { info: measure(&*store.storage) },
        Err(error) => Outcome::Failed(faults::fault(error)),
    }
}

fn measure(storage: &dyn Storage) -> Info {
    Info { length: storage.object_count(), size: storage.size() }
}

/// The objects that the client must load again: those with a merged record, and all that a transaction with an undo or
/// the end of a version writes. The undo may have written over what was stored.
fn to_load_again(voted: &Voted, changes: &[Change]) -> Vec<Oid> {
    let is_unknown = |change: &Change| {
        matches!(change, Change::Undo { .. } | Change::CommitVersion { .. } | Change::AbortVersion { .. })
    };
    match changes.iter().any(is_unknown) {
        true => voted.touched().to_vec(),
        false => voted.merged().to_vec(),
    }
}

fn next_record(storage: &dyn Storage, first: Oid) -> Result<Value, Fault> {
    let mut records = storage.current_records(first);
    let Some(record) = records.next() else {
        return Err(Fault::text("builtins.ValueError", "no key satisfies the conditions"));
    };
    let record = record.map_err(faults::fault)?;
    let next = records.next().transpose().map_err(faults::fault)?.map(|next| next.oid);
    Ok(answers::record(record, next))
}

/// `undoLog` and `undoInfo`: a negative `last` counts from `first`.
fn undo_log(storage: &dyn Storage, first: i64, last: i64, specification: &Value) -> Result<Value, Fault> {
    let Some(log) = storage.undo_log() else { return Ok(Value::Tuple(vec![])) };
    let last = if last < 0 { first.saturating_sub(last) } else { last };
    let (first, last) = (first.max(0) as usize, last.max(0) as usize);
    let wanted = |entry: &vellum_storage::UndoEntry| matches_specification(entry, specification);
    let entries = log.undo_log_where(first, last, &mut |entry| wanted(entry)).map_err(faults::fault)?;
    Ok(Value::List(entries.into_iter().map(answers::undo).collect()))
}

/// Whether an entry has all attributes of a dict, where a `ZopeUndo.Prefix` stands for every text that begins with it.
fn matches_specification(entry: &vellum_storage::UndoEntry, specification: &Value) -> bool {
    let Value::Dict(wanted) = specification else { return true };
    let Value::Dict(has) = answers::undo(entry.clone()) else { return false };
    wanted.iter().all(|(name, wanted)| {
        let found = has.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        found.is_some_and(|found| is_like(found, wanted))
    })
}

fn is_like(found: &Value, wanted: &Value) -> bool {
    let bytes = |value: &Value| match value {
        Value::Bytes(bytes) => Some(bytes.clone()),
        Value::Text(text) => Some(bytes::Bytes::from(text.clone())),
        _ => None,
    };
    match wanted {
        Value::Object(object) => {
            let Some(Value::Dict(state)) = &object.state else { return false };
            let value = state.iter().find(|(key, _)| matches!(key, Value::Text(key) if key == "value"));
            match (value.and_then(|(_, prefix)| bytes(prefix)), bytes(found)) {
                (Some(prefix), Some(found)) => {
                    found.strip_prefix(&*prefix).is_some_and(|rest| matches!(rest.first(), None | Some(b'/' | b' ')))
                }
                _ => false,
            }
        }
        wanted => found == wanted || bytes(found).is_some_and(|found| bytes(wanted) == Some(found)),
    }
}

/// Wakes a vote that waits.
struct Wakes {
    job: JobId,
    wake: Arc<dyn Fn(JobId) + Send + Sync>,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        (self.wake)(self.job);
    }
}
