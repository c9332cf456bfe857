//! The specification as the server's storage: a value that can be cloned and hashed.
//!
//! A call takes two steps, as with threads: the storage does the work, and later the server hears of it. A finished
//! transaction can be read as soon as the work is done. The server is told of it before it hears that the finish is
//! done, and in the order of the tids.
//!
//! ```text
//!   Effect::Run ──▶ tasks ── work ──▶ results ──▶ Event::Done
//!                              ├────▶ told ─────▶ Event::Told     before the result of its finish
//!                              └────▶ woken ────▶ Event::Woken    a lock was given back
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use vellum_server::{ConnectionId, Event, Info, Job, JobId, Outcome, Question, StorageId, Walk, Work};
use vellum_spec::{Begin, Change, Database, Refusal};
use vellum_storage::{Busy, Error, LoadedAt, Oid, Origin, Tid};
use vellum_wire::{Ahead, Fault, Found, Value};

use crate::part::{Part, Unseen};
use crate::situation::Lie;

/// The storage, and its calls that are under way.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Store {
    /// The database that a reader finds.
    pub database: Part<Database>,
    /// All that was finished and not lost, whether it was packed since or not.
    pub history: Part<Database>,
    /// The connections that are known here.
    known: BTreeSet<ConnectionId>,
    /// Transactions that hold what they touch.
    voted: BTreeMap<ConnectionId, Vec<Change>>,
    /// Transactions that wait for one of those, the first one first.
    waiting: Vec<(ConnectionId, Vec<Change>, Unseen<JobId>)>,
    /// Calls that nothing was done for yet. Those of one connection are in their order.
    tasks: Vec<Task>,
    /// Calls that are done, and the server was not told.
    results: Vec<Finished>,
    /// Finished transactions that the server was not told of.
    pub told: VecDeque<(Tid, Vec<Oid>, Origin)>,
    /// Votes that may be tried again, which the server was not told.
    woken: Vec<(ConnectionId, Unseen<JobId>)>,
    tid_last: u64,
    lie: Option<Lie>,
}

/// A call of the storage.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Task {
    connection: ConnectionId,
    job: Unseen<JobId>,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum What {
    Load { oid: Oid, before: Tid },
    LoadMany { oids: Vec<Oid>, before: Tid },
    Reach(Walk),
    Since,
    Vote { changes: Vec<Change> },
    Retry,
    Finish,
    Pack,
}

/// A call that is done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Finished {
    connection: ConnectionId,
    job: Unseen<JobId>,
    result: Result,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Result {
    Loaded(Option<LoadedAt>),
    NoObject(Oid),
    LoadedMany(Vec<Found>),
    Reached(Walk, Vec<Ahead>),
    Unknown,
    Voted { judged_by: Tid },
    Refused { refusal: Refusal, judged_by: Tid },
    Waits { on: Oid },
    Finished { tid: Tid },
    Nothing,
    Packed,
}

const NO_SIZE: Info = Info { length: 0, size: 0 };

/// The name of a call for people: a connection, and the place among the calls of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The connection.
    pub connection: u64,
    /// The place.
    pub place: usize,
}

impl Store {
    /// A storage in which each of these objects was written by one transaction.
    pub fn new(objects: u64) -> Store {
        let empty = || Part::new(Database::default());
        let mut store = Store {
            database: empty(),
            history: empty(),
            known: BTreeSet::new(),
            voted: BTreeMap::new(),
            waiting: Vec::new(),
            tasks: Vec::new(),
            results: Vec::new(),
            told: VecDeque::new(),
            woken: Vec::new(),
            tid_last: 0,
            lie: None,
        };
        for oid in 0..objects {
            store.commit(&[Change::store(oid, 0, format!("old {oid}").as_bytes())]);
        }
        store
    }

    /// From now on the storage lies.
    pub fn lie(&mut self, lie: Option<Lie>) {
        self.lie = lie;
    }

    /// A connection is known from now on.
    pub fn connected(&mut self, connection: ConnectionId) {
        self.known.insert(connection);
    }

    /// The machine wants something done. A call that needs no time is done at once.
    pub fn ask(&mut self, job: Job) -> Option<Event> {
        let Job { id, connection, work, .. } = job;
        let what = match work {
            Work::Load { oid, before } => What::Load { oid, before },
            Work::LoadMany { oids, before, .. } => What::LoadMany { oids, before },
            Work::Reach { walk } => What::Reach(walk),
            Work::Measure => return Some(Event::Done { job: id, outcome: Outcome::Measured(NO_SIZE) }),
            Work::Ask(Question::Since { .. }) => What::Since,
            Work::Vote { draft } => What::Vote { changes: draft.changes().iter().map(change).collect() },
            Work::Retry => What::Retry,
            Work::Finish => What::Finish,
            Work::Pack { .. } => What::Pack,
            other => unreachable!("no client of an exploration asks for {other:?}"),
        };
        self.tasks.push(Task { connection, job: Unseen(id), what });
        // The order of calls of different connections says nothing.
        self.tasks.sort_by_key(|task| (task.connection, task.job.0));
        None
    }

    /// The calls that can be carried out.
    pub fn tasks(&self) -> Vec<Name> {
        names(self.tasks.iter().map(|task| task.connection))
    }

    /// The results that the server can be told.
    pub fn results(&self) -> Vec<Name> {
        let all = names(self.results.iter().map(|finished| finished.connection));
        let is_late = |finished: &Finished| match finished.result {
            Result::Finished { tid } => self.told.iter().any(|(told, ..)| *told == tid),
            _ => false,
        };
        all.into_iter().zip(&self.results).filter(|(_, finished)| !is_late(finished)).map(|(name, _)| name).collect()
    }

    /// The votes that the server can be told to try again.
    pub fn woken(&self) -> Vec<Name> {
        names(self.woken.iter().map(|(connection, _)| *connection))
    }

    /// The kind of a call, for people.
    pub fn show_task(&self, name: Name) -> String {
        match self.tasks.get(place(self.tasks.iter().map(|task| task.connection), name)).map(|task| &task.what) {
            Some(What::Load { oid, .. }) => format!("load of #{}", oid.0),
            Some(What::LoadMany { .. }) => "many loads".to_owned(),
            Some(What::Reach(_)) => "prefetch".to_owned(),
            Some(What::Since) => "question for changes".to_owned(),
            Some(What::Vote { .. }) => "vote".to_owned(),
            Some(What::Retry) => "vote once more".to_owned(),
            Some(What::Finish) => "finish".to_owned(),
            Some(What::Pack) => "pack".to_owned(),
            None => "nothing".to_owned(),
        }
    }

    /// Whether two finishes are under way.
    pub fn finishes(&self) -> usize {
        let tasks = self.tasks.iter().filter(|task| task.what == What::Finish).count();
        tasks + self.results.iter().filter(|done| matches!(done.result, Result::Finished { .. })).count()
    }

    /// Whether a load is under way that read the storage already.
    pub fn has_read(&self, oid: Oid) -> bool {
        let of = |found: &LoadedAt| found.data.ends_with(format!(" {}", oid.0).as_bytes());
        self.results.iter().any(|done| match &done.result {
            Result::Loaded(Some(found)) => of(found),
            Result::LoadedMany(found) => found.iter().any(|found| matches!(found, Found::Revision(found) if of(found))),
            _ => false,
        })
    }

    /// Whether a piece of a prefetch is under way that has read this object already.
    pub fn has_fetched_ahead(&self, oid: Oid) -> bool {
        let has = |done: &Finished| matches!(&done.result, Result::Reached(_, found) if found.iter().any(|ahead| ahead.oid == oid));
        self.results.iter().any(has)
    }

    /// Whether a result tells of a transaction that the server was not told of.
    pub fn is_ahead(&self, name: Name) -> bool {
        let at = place(self.results.iter().map(|finished| finished.connection), name);
        let first = self.told.front().map_or(Tid::MAX, |told| told.0);
        matches!(self.results.get(at).map(|finished| &finished.result),
            Some(Result::Loaded(Some(LoadedAt { tid, next, .. }))) if next.unwrap_or(*tid).max(*tid) >= first)
    }

    /// The connections that something is kept for: a voted transaction, or a waiting one.
    pub fn holders(&self) -> impl Iterator<Item = ConnectionId> {
        self.voted.keys().copied().chain(self.waiting.iter().map(|(connection, ..)| *connection))
    }

    /// Whether a call of the connection is under way.
    pub fn is_at_work_for(&self, connection: ConnectionId) -> bool {
        self.tasks.iter().any(|task| task.connection == connection)
            || self.results.iter().any(|finished| finished.connection == connection)
    }

    /// Whether the server was not told yet that a vote waits.
    pub fn waits_untold(&self, connection: u64) -> bool {
        let waits = |done: &Finished| matches!(done.result, Result::Waits { .. });
        self.results.iter().any(|done| done.connection.0 == connection && waits(done))
    }

    /// Whether a load was asked for, and did not read yet.
    pub fn is_to_load(&self) -> bool {
        self.tasks.iter().any(|task| matches!(task.what, What::Load { .. }))
    }

    /// Whether nothing is under way.
    pub fn is_quiet(&self) -> bool {
        self.voted.is_empty() && self.waiting.is_empty() && self.tasks.is_empty() && self.results.is_empty()
    }

    /// Carries out a call.
    pub fn work(&mut self, name: Name) {
        let at = place(self.tasks.iter().map(|task| task.connection), name);
        let Task { connection, job, what } = self.tasks.remove(at);
        let result = match what {
            What::Load { oid, before } => self.load_before(oid, before).map_or(Result::NoObject(oid), Result::Loaded),
            What::LoadMany { oids, before } => {
                let found = |oid| match self.load_before(oid, before) {
                    Ok(found) => found.map_or(Found::NotYet, Found::Revision),
                    Err(_) => Found::NoObject,
                };
                Result::LoadedMany(oids.into_iter().map(found).collect())
            }
            What::Reach(mut walk) => {
                let found = walk.go_on(|oid, before| self.load_before(oid, before));
                Result::Reached(walk, found.expect("a database in memory can be read"))
            }
            What::Since => Result::Unknown,
            What::Vote { changes } => self.vote(connection, job, changes),
            What::Retry => {
                let at = self.waiting.iter().position(|(of, ..)| *of == connection);
                match at.map(|at| self.waiting.remove(at)) {
                    Some((_, changes, _)) => self.vote(connection, job, changes),
                    None => Result::Nothing,
                }
            }
            What::Finish => self.finish(connection),
            What::Pack => self.pack(),
        };
        self.results.push(Finished { connection, job, result });
        self.results.sort_by_key(|finished| (finished.connection, finished.job.0));
    }

    fn load_before(&self, oid: Oid, before: Tid) -> vellum_storage::Result<Option<LoadedAt>> {
        match self.database.load_before(oid.0, before.0) {
            Ok(shown) => Ok(shown.map(|shown| LoadedAt {
                data: Bytes::copy_from_slice(shown.data),
                tid: Tid(shown.tid),
                next: shown.next.map(Tid),
            })),
            Err(vellum_spec::KeyError) => Err(Error::KeyError { oid, tid: None }),
        }
    }

    fn vote(&mut self, connection: ConnectionId, job: Unseen<JobId>, changes: Vec<Change>) -> Result {
        let judged_by = Tid(self.database.last_transaction());
        if let Some(on) = self.held(&changes) {
            if self.known.contains(&connection) {
                self.waiting.push((connection, changes, job));
            }
            return Result::Waits { on: Oid(on) };
        }
        match self.database.commit(Begin::at(self.tid_last + 1), &changes, &|_| None) {
            Err(refusal) => Result::Refused { refusal, judged_by },
            Ok(_) => {
                if self.known.contains(&connection) {
                    self.voted.insert(connection, changes);
                }
                Result::Voted { judged_by }
            }
        }
    }

    /// An object that others hold.
    fn held(&self, changes: &[Change]) -> Option<u64> {
        let wanted = oids(changes);
        self.voted.values().flat_map(|held| oids(held)).find(|oid| wanted.contains(oid))
    }

    fn finish(&mut self, connection: ConnectionId) -> Result {
        let Some(changes) = self.voted.remove(&connection) else { return Result::Nothing };
        let touched = match (self.lie, changes.first()) {
            (Some(Lie::WritesAnother), Some(Change::Store { oid, serial, .. })) => {
                self.commit(&[Change::store(*oid, *serial, format!("another {oid}").as_bytes())])
            }
            _ => self.commit(&changes),
        };
        let tid = Tid(self.tid_last);
        let mut told = (tid, touched.into_iter().map(Oid).collect::<Vec<_>>(), Origin(connection.0));
        if self.lie == Some(Lie::NamesTooFew) {
            told.1.pop();
        }
        match self.lie {
            Some(Lie::WrongOrder) => self.told.push_front(told),
            _ => self.told.push_back(told),
        }
        self.wake();
        Result::Finished { tid }
    }

    fn commit(&mut self, changes: &[Change]) -> Vec<u64> {
        self.tid_last += 1;
        let committed = self.database.commit(Begin::at(self.tid_last), changes, &|_| None);
        let (database, touched) = committed.expect("a voted transaction can be finished");
        self.history.edit().transactions.extend(database.transactions.last().cloned());
        self.history.seal();
        self.database = Part::new(database);
        touched
    }

    /// Packs to the last transaction: of each object the newest revision stays.
    fn pack(&mut self) -> Result {
        let revisions = self.voted.values().filter_map(|changes| {
            let (changed, _) = self.database.commit(Begin::at(self.tid_last + 1), changes, &|_| None).ok()?;
            changed.transactions.last().map(|last| last.revisions.clone())
        });
        let under_way: Vec<_> = revisions.flatten().collect();
        let how = vellum_spec::How { under_way: &under_way, ..vellum_spec::How::default() };
        if self.lie == Some(Lie::PackLosesObject) {
            let database = self.database.edit();
            database
                .transactions
                .iter_mut()
                .for_each(|transaction| transaction.revisions.retain(|found| found.oid != 0));
            self.database.seal();
            return Result::Packed;
        }
        let packed = self.database.pack(self.database.last_transaction(), how, &|_| Vec::new());
        self.database = Part::new(packed.expect("nothing is broken").database);
        Result::Packed
    }

    /// Drops what is kept for a connection, which goes on if `stays`.
    pub fn drop_of(&mut self, connection: ConnectionId, stays: bool) {
        if self.lie == Some(Lie::KeepsLocks) {
            return;
        }
        if !stays {
            self.known.remove(&connection);
        }
        self.waiting.retain(|(of, ..)| *of != connection);
        if self.voted.remove(&connection).is_some() {
            self.wake();
        }
    }

    /// Wakes those whose objects are free now.
    fn wake(&mut self) {
        for (connection, changes, job) in &self.waiting {
            let is_woken = self.woken.iter().any(|(of, _)| of == connection);
            if self.held(changes).is_none() && !is_woken {
                self.woken.push((*connection, *job));
            }
        }
        self.woken.sort_by_key(|(connection, _)| *connection);
    }

    /// Takes what the server is to be told next: a finished transaction.
    pub fn take_told(&mut self) -> Option<Event> {
        let (tid, oids, origin) = self.told.pop_front()?;
        let told = vellum_storage::Event::Committed { tid, oids, origin };
        Some(Event::Told { storage: StorageId(0), told })
    }

    /// Takes a vote to try again.
    pub fn take_woken(&mut self, name: Name) -> Event {
        let at = place(self.woken.iter().map(|(connection, _)| *connection), name);
        let (_, Unseen(job)) = self.woken.remove(at);
        Event::Woken { job }
    }

    /// Takes a result.
    pub fn take_result(&mut self, name: Name) -> Event {
        let at = place(self.results.iter().map(|finished| finished.connection), name);
        let Finished { job: Unseen(job), result, .. } = self.results.remove(at);
        let outcome = match result {
            Result::Loaded(found) => Outcome::Loaded(found),
            Result::LoadedMany(found) => Outcome::LoadedMany(found),
            Result::Reached(walk, revisions) => Outcome::Reached { walk, revisions },
            Result::NoObject(oid) => Outcome::Failed(Fault::NoObject { oid }),
            Result::Unknown => Outcome::Answer(Value::None),
            Result::Voted { judged_by } => Outcome::Voted { merged: vec![], judged_by },
            Result::Refused { refusal, judged_by } => Outcome::Refused { fault: fault(&refusal), judged_by },
            Result::Waits { on } => Outcome::Waits { on: Busy::Object(on) },
            Result::Finished { tid } => Outcome::Finished { tid, info: NO_SIZE },
            Result::Nothing => Outcome::Failed(Fault::text("builtins.AssertionError", "no transaction is voted")),
            Result::Packed => Outcome::Packed { info: NO_SIZE },
        };
        Event::Done { job, outcome }
    }

    /// The server ends. The transactions that it was not told of may be lost. Returns how many of them are.
    pub fn restart(&mut self, loses: bool) -> usize {
        self.known.clear();
        self.voted.clear();
        self.waiting.clear();
        self.tasks.clear();
        self.results.clear();
        self.woken.clear();
        if self.lie == Some(Lie::LosesTheTold) {
            self.lose_from(self.last_told());
        }
        let told = std::mem::take(&mut self.told);
        match told.front() {
            Some((first, ..)) if loses => {
                self.lose_from(*first);
                told.len()
            }
            _ => 0,
        }
    }

    /// Loses this transaction and all later ones.
    pub fn lose_from(&mut self, first: Tid) {
        for part in [&mut self.database, &mut self.history] {
            part.edit().transactions.retain(|transaction| transaction.tid < first.0);
            part.seal();
        }
    }

    /// The last transaction that the server was told of.
    pub fn last_told(&self) -> Tid {
        let last = Tid(self.database.last_transaction());
        self.told.front().map_or(last, |(first, ..)| {
            let earlier = self.history.transactions.iter().rev().find(|transaction| transaction.tid < first.0);
            earlier.map_or(Tid::ZERO, |transaction| Tid(transaction.tid))
        })
    }

    /// Whether a revision was discarded by a pack, which leaves the newest one of each object.
    pub fn is_packed_away(&self, oid: Oid, tid: Tid) -> bool {
        let is_newest = self.history.newest(oid.0).is_none_or(|newest| newest.tid() == tid.0);
        !is_newest && self.database.at(oid.0, tid.0).is_none()
    }
}

/// Names of things, each of a connection.
fn names(connections: impl Iterator<Item = ConnectionId>) -> Vec<Name> {
    let mut seen = BTreeMap::new();
    let name = |connection: ConnectionId| {
        let place = seen.entry(connection).and_modify(|place| *place += 1).or_insert(0_usize);
        Name { connection: connection.0, place: *place }
    };
    connections.map(name).collect()
}

fn place(connections: impl Iterator<Item = ConnectionId>, name: Name) -> usize {
    names(connections).iter().position(|other| *other == name).unwrap_or(usize::MAX)
}

fn oids(changes: &[Change]) -> BTreeSet<u64> {
    let oid = |change: &Change| match change {
        Change::Store { oid, .. } | Change::Delete { oid, .. } | Change::CheckCurrent { oid, .. } => Some(*oid),
        _ => None,
    };
    changes.iter().filter_map(oid).collect()
}

fn change(change: &vellum_storage::Change) -> Change {
    match change {
        vellum_storage::Change::Store { oid, serial, data, .. } => {
            let bytes: Bytes = data.bytes().expect("it is in memory");
            Change::store(oid.0, serial.0, &bytes)
        }
        vellum_storage::Change::CheckCurrent { oid, serial } => Change::CheckCurrent { oid: oid.0, serial: serial.0 },
        other => unreachable!("no client of an exploration does {other:?}"),
    }
}

fn fault(refusal: &Refusal) -> Fault {
    match refusal {
        Refusal::Conflict { oid, committed, serial } => {
            Fault::Conflict { oid: Oid(*oid), committed: Tid(*committed), serial: Tid(*serial), class: None }
        }
        Refusal::ReadConflict { oid, committed, serial } => {
            Fault::ReadConflict { oid: Oid(*oid), committed: Tid(*committed), serial: Tid(*serial) }
        }
        Refusal::Key(oid) => Fault::NoObject { oid: Oid(*oid) },
        other => Fault::text("ZODB.POSException.StorageError", format!("{other:?}")),
    }
}
