//! The specification as a storage: slow, and right by definition.
//!
//! Everything that works on a [`Storage`] runs on the rules themselves: the harness (which so tests itself), a client, a
//! server, a copy. One big lock; every answer is the specification's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use vellum_spec::{self as spec, Begin, Change, Content, Database, Status};
use vellum_storage::{
    Bulk, Busy, Clock, CopyChange, CurrentRecord, Error, Held, HistoryEntry, Invalidation, Loaded, LoadedAt, NotUndone,
    Notify, ObjectLocks, Oid, Order, Pack, PackOptions, PackReport, Resolver, Result, Revision, Storage, Tid, TidRange,
    Transaction, TransactionMeta, TransactionRecord, UndoChange, UndoEntry, UndoLog, Version, VersionChange, Versions,
    Vote, Voted, Want, Wants,
};

/// Which objects a record refers to, weak references and those into other databases left out.
pub type References = fn(&[u8]) -> Vec<u64>;

/// The rules, as a storage in memory. Cloning gives another handle.
#[derive(Clone)]
pub struct Rules {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Box<dyn Clock>,
    resolver: Box<dyn Resolver>,
    references: References,
    locks: Arc<ObjectLocks>,
    state: Mutex<State>,
    read_only: bool,
}

#[derive(Default)]
struct State {
    database: Database,
    /// Transactions between vote and finish: a pack counts them as later than its time.
    voted: BTreeMap<u64, spec::Transaction>,
    /// How many were voted: no two have one number, or the end of one would take the other with it.
    votes: u64,
    last_oid: u64,
}

/// Later than every transaction: the tid of one that is not finished.
const UNDER_WAY: u64 = u64::MAX - (1 << 32);

impl Rules {
    /// What is in `database`, which may be empty.
    pub fn new(
        database: Database,
        clock: Box<dyn Clock>,
        resolver: Box<dyn Resolver>,
        references: References,
    ) -> Rules {
        let last_oid = database.oids().last().copied().unwrap_or(0);
        let state = Mutex::new(State { database, voted: BTreeMap::new(), votes: 0, last_oid });
        Rules {
            shared: Arc::new(Shared { clock, resolver, references, locks: Arc::default(), state, read_only: false }),
        }
    }

    /// The same database, for reading only; what is under way does not come along.
    pub fn reopened(&self, read_only: bool, clock: Box<dyn Clock>, resolver: Box<dyn Resolver>) -> Rules {
        let database = self.state().database.clone();
        let Rules { shared } = Rules::new(database, clock, resolver, self.shared.references);
        let shared = Arc::into_inner(shared).map(|shared| Arc::new(Shared { read_only, ..shared }));
        shared.map_or_else(|| self.clone(), |shared| Rules { shared })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn writable(&self) -> Result<()> {
        if self.shared.read_only { Err(Error::ReadOnly { name: self.name() }) } else { Ok(()) }
    }
}

fn key(oid: Oid) -> impl Fn(spec::KeyError) -> Error {
    move |spec::KeyError| Error::key(oid)
}

fn bytes(data: &[u8]) -> Bytes {
    Bytes::copy_from_slice(data)
}

fn version(name: &str) -> Version {
    Version::named(name.to_owned())
}

fn name(version: &Version) -> String {
    version.to_string()
}

impl Storage for Rules {
    fn name(&self) -> String {
        "the rules".to_owned()
    }

    fn load(&self, oid: Oid, version: &Version) -> Result<Loaded> {
        let state = self.state();
        let (data, tid) = state.database.load(oid.0, &name(version)).map_err(key(oid))?;
        Ok(Loaded { data: bytes(data), tid: Tid(tid) })
    }

    fn load_before(&self, oid: Oid, before: Tid) -> Result<Option<LoadedAt>> {
        let state = self.state();
        let shown = state.database.load_before(oid.0, before.0).map_err(key(oid))?;
        Ok(shown.map(|s| LoadedAt { data: bytes(s.data), tid: Tid(s.tid), next: s.next.map(Tid) }))
    }

    fn load_serial(&self, oid: Oid, tid: Tid) -> Result<Bytes> {
        self.state().database.load_serial(oid.0, tid.0).map(bytes).map_err(key(oid))
    }

    fn history(&self, oid: Oid, limit: usize) -> Result<Vec<HistoryEntry>> {
        let state = self.state();
        let lines = state.database.history(oid.0, limit).map_err(key(oid))?;
        let entry = |line: spec::HistoryEntry<'_>| HistoryEntry {
            tid: Tid(line.transaction.tid),
            size: line.size as u64,
            version: version(line.version),
            user: bytes(&line.transaction.user),
            description: bytes(&line.transaction.description),
            extension: bytes(&line.transaction.extension),
        };
        Ok(lines.into_iter().map(entry).collect())
    }

    fn transactions(
        &self,
        range: TidRange,
        order: Order,
    ) -> Result<Box<dyn Iterator<Item = Result<TransactionRecord>> + Send>> {
        let state = self.state();
        let database = &state.database;
        let found = database.transactions(range.first.0, range.last.0).map(|t| Ok(record(database, t)));
        let mut found: Vec<_> = found.collect();
        if order == Order::NewestFirst {
            found.reverse();
        }
        Ok(Box::new(found.into_iter()))
    }

    fn last_transaction(&self) -> Tid {
        Tid(self.state().database.last_transaction())
    }

    fn last_invalidations(&self, count: usize) -> Result<Vec<Invalidation>> {
        let changed = self.state().database.last_invalidations(count).into_iter();
        let one =
            |(tid, oids): (u64, Vec<u64>)| Invalidation { tid: Tid(tid), oids: oids.into_iter().map(Oid).collect() };
        Ok(changed.map(one).collect())
    }

    fn current_records(&self, first: Oid) -> Box<dyn Iterator<Item = Result<CurrentRecord>> + Send> {
        let state = self.state();
        let records = state.database.current_records();
        let one = |(oid, (data, tid)): (&u64, &(&[u8], u64))| {
            Ok(CurrentRecord { oid: Oid(*oid), tid: Tid(*tid), data: bytes(data) })
        };
        Box::new(records.range(first.0..).map(one).collect::<Vec<_>>().into_iter())
    }

    fn new_oids(&self, count: u32) -> Result<Vec<Oid>> {
        self.writable()?;
        let mut state = self.state();
        let first = state.last_oid;
        state.last_oid = first.checked_add(u64::from(count)).ok_or(Error::Exhausted { what: "oids" })?;
        Ok((first..state.last_oid).map(|n| Oid(n + 1)).collect())
    }

    fn size(&self) -> u64 {
        let state = self.state();
        let revisions = state.database.transactions.iter().flat_map(|t| &t.revisions);
        revisions.map(|r| if let Content::Data(data) = &r.content { data.len() as u64 } else { 0 }).sum()
    }

    fn object_count(&self) -> u64 {
        self.state().database.oids().len() as u64
    }

    fn begin(&self, meta: TransactionMeta) -> Result<Box<dyn Transaction>> {
        self.writable()?;
        meta.check()?;
        let last = self.last_transaction();
        match meta.tid {
            Some(tid) if tid <= last => Err(Error::TidNotLater { tid, last }),
            _ => Ok(Box::new(Draft { rules: self.clone(), meta, changes: Vec::new() })),
        }
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
}

fn record(database: &Database, transaction: &spec::Transaction) -> TransactionRecord {
    let revision = |revision| {
        let at = spec::At { transaction, revision };
        let source = match revision.content {
            Content::Source(_) => database.holder(at).map(Tid),
            _ => None,
        };
        Revision {
            oid: Oid(revision.oid),
            version: version(&revision.version),
            data: database.data(at).map(bytes),
            source,
            under: revision.base.map(Tid),
        }
    };
    TransactionRecord {
        tid: Tid(transaction.tid),
        status: match transaction.status {
            Status::Complete => vellum_storage::Status::Complete,
            Status::Packed => vellum_storage::Status::Packed,
        },
        user: bytes(&transaction.user),
        description: bytes(&transaction.description),
        extension: bytes(&transaction.extension),
        revisions: transaction.revisions.iter().map(revision).collect(),
    }
}

impl UndoLog for Rules {
    fn undo_log_where(
        &self,
        first: usize,
        last: usize,
        filter: &mut dyn FnMut(&UndoEntry) -> bool,
    ) -> Result<Vec<UndoEntry>> {
        let state = self.state();
        let entry = |t: &spec::Transaction| UndoEntry {
            tid: Tid(t.tid),
            user: bytes(&t.user),
            description: bytes(&t.description),
            extension: bytes(&t.extension),
        };
        let all = state.database.undo_log(0, usize::MAX).into_iter().map(entry);
        Ok(all.filter(|entry| filter(entry)).take(last).skip(first).collect())
    }

    fn nothing_of(&self, oid: Oid, tid: Tid) -> Result<Option<Tid>> {
        let state = self.state();
        let at = state.database.at(oid.0, tid.0).filter(|at| state.database.data(*at).is_none());
        Ok(at.and_then(|at| if let Content::Source(tid) = at.revision.content { Some(Tid(tid)) } else { None }))
    }
}

impl Versions for Rules {
    fn versions(&self) -> Result<Vec<Version>> {
        Ok(self.state().database.versions().into_iter().map(version).collect())
    }

    fn modified_in_version(&self, oid: Oid) -> Result<Version> {
        Ok(version(self.state().database.modified_in_version(oid.0)))
    }
}

impl Bulk for Rules {
    fn copy_in(&self, transactions: Vec<TransactionRecord>) -> Result<()> {
        let mut drafts = Vec::new();
        let mut last = self.last_transaction();
        for TransactionRecord { tid, status, user, description, extension, revisions } in transactions {
            if tid <= last {
                return Err(Error::TidNotLater { tid, last });
            }
            last = tid;
            let mut draft = self.begin(TransactionMeta { user, description, extension, tid: Some(tid), status })?;
            let copy = draft.copy().ok_or(Error::ReadOnly { name: self.name() })?;
            revisions.into_iter().try_for_each(|revision| copy.restore(revision))?;
            drafts.push(draft);
        }
        drafts.into_iter().try_for_each(|draft| draft.vote()?.finish().map(drop))
    }
}

impl Pack for Rules {
    fn pack(&self, to: Tid, how: PackOptions) -> Result<PackReport> {
        self.writable()?;
        let mut state = self.state();
        let under_way: Vec<_> = state.voted.values().flat_map(|t| t.revisions.iter().cloned()).collect();
        let pairs = |dangling: spec::Dangling| dangling.into_iter().map(|(from, to)| (Oid(from), Oid(to))).collect();
        let how = spec::How { collect: how.collect, go_on: how.go_on, under_way: &under_way };
        let packed = state
            .database
            .pack(to.0, how, &self.shared.references)
            .map_err(|refused| Error::Dangling { references: pairs(refused.dangling) })?;
        state.database = packed.database;
        Ok(PackReport { dangling: pairs(packed.dangling) })
    }
}

/// A transaction before its vote.
struct Draft {
    rules: Rules,
    meta: TransactionMeta,
    changes: Vec<Change>,
}

impl Draft {
    /// What it would write.
    fn judge(&self, state: &State) -> Result<Vec<spec::Revision>> {
        let resolver = |contested: spec::Contested<'_>| {
            let spec::Contested { oid, ancestor, committed, new } = contested;
            let contested = vellum_storage::Contested { oid: Oid(oid), ancestor, committed, new };
            self.rules.shared.resolver.resolve(contested).map(|merged| merged.to_vec())
        };
        let judged = state.database.commit(Begin::at(UNDER_WAY), &self.changes, &resolver);
        let (mut database, _) = judged.map_err(error)?;
        Ok(database.transactions.pop().map(|t| t.revisions).unwrap_or_default())
    }

    /// What it must have for itself: the objects, and the versions that it ends; and what must stay as it is.
    fn wants(&self, state: &State, revisions: &[spec::Revision]) -> Wants {
        let mut wants = Wants::default();
        for change in &self.changes {
            match change {
                Change::CheckCurrent { oid, .. } => drop(wants.objects.insert(Oid(*oid), Want::Keep)),
                Change::CommitVersion { from, to } => {
                    wants.versions.insert(version(from), Want::Change);
                    // Even if there is nothing to go there.
                    if !to.is_empty() {
                        wants.versions.entry(version(to)).or_insert(Want::Keep);
                    }
                }
                Change::AbortVersion { from } => drop(wants.versions.insert(version(from), Want::Change)),
                Change::Undo { tid } => {
                    let undone = state.database.transactions.iter().filter(|t| t.tid == *tid);
                    for oid in undone.flat_map(|t| t.oids()) {
                        let past = state.database.past(oid);
                        for at in past.iter().skip_while(|at| at.tid() != *tid).take(2) {
                            let version = Version::named(at.revision.version.clone());
                            if !version.is_trunk() {
                                wants.versions.entry(version).or_insert(Want::Keep);
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        for revision in revisions {
            wants.objects.insert(Oid(revision.oid), Want::Change);
            if !revision.version.is_empty() {
                wants.versions.entry(version(&revision.version)).or_insert(Want::Keep);
            }
        }
        wants
    }

    fn settle(self, state: &mut State, revisions: Vec<spec::Revision>, held: Held) -> Box<dyn Voted> {
        let number = state.votes;
        state.votes += 1;
        let old = |change: &Change| match change {
            Change::Store { oid, serial, .. } => {
                let committed = state.database.newest(*oid).map_or(0, |newest| newest.tid());
                (committed != *serial).then_some(Oid(*oid))
            }
            _ => None,
        };
        let resolved = self.changes.iter().filter_map(old).collect();
        let meta = &self.meta;
        let transaction = spec::Transaction {
            tid: UNDER_WAY + number,
            status: if meta.status == vellum_storage::Status::Packed { Status::Packed } else { Status::Complete },
            user: meta.user.to_vec(),
            description: meta.description.to_vec(),
            extension: meta.extension.to_vec(),
            revisions,
        };
        state.voted.insert(number, transaction);
        Box::new(Ready { rules: self.rules, tid: self.meta.tid, number, resolved, _held: held })
    }

    fn add(&mut self, change: Change) -> Result<()> {
        self.changes.push(change);
        Ok(())
    }
}

fn error(refusal: spec::Refusal) -> Error {
    use spec::Refusal as R;
    match refusal {
        R::Key(oid) => Error::key(Oid(oid)),
        R::Conflict { oid, committed, serial } => {
            Error::Conflict { oid: Oid(oid), committed: Tid(committed), serial: Tid(serial) }
        }
        R::ReadConflict { oid, committed, serial } => {
            Error::ReadConflict { oid: Oid(oid), committed: Tid(committed), serial: Tid(serial) }
        }
        R::VersionLock(oid) => Error::VersionLock { oid: Oid(oid), version: Version::TRUNK },
        R::Version => Error::VersionEnd { version: Version::TRUNK },
        R::NotUndoable(tid) => Error::NotUndoable { tid: Tid(tid) },
        R::Undo(oids) => Error::UndoConflict {
            objects: oids.into_iter().map(|oid| NotUndone { oid: Oid(oid), why: "the rules say so" }).collect(),
        },
        R::Empty(oid) => Error::EmptyRecord { oid: Oid(oid) },
        R::TooLong => Error::MetadataTooLong { field: "user, description or extension", length: 0 },
        R::NotLater => Error::TidNotLater { tid: Tid::ZERO, last: Tid::ZERO },
    }
}

impl Transaction for Draft {
    fn store(&mut self, oid: Oid, serial: Tid, data: Bytes) -> Result<()> {
        self.store_in(&Version::TRUNK, oid, serial, data)
    }

    fn delete(&mut self, oid: Oid, serial: Tid) -> Result<()> {
        self.add(Change::Delete { oid: oid.0, serial: serial.0 })
    }

    fn check_current(&mut self, oid: Oid, serial: Tid) -> Result<()> {
        self.add(Change::CheckCurrent { oid: oid.0, serial: serial.0 })
    }

    fn undo(&mut self) -> Option<&mut dyn UndoChange> {
        Some(self)
    }

    fn versions(&mut self) -> Option<&mut dyn VersionChange> {
        Some(self)
    }

    fn copy(&mut self) -> Option<&mut dyn CopyChange> {
        Some(self)
    }

    fn vote(mut self: Box<Self>) -> Result<Box<dyn Voted>> {
        let rules = self.rules.clone();
        loop {
            match self.attempt()? {
                Attempt::Voted(voted) => return Ok(voted),
                Attempt::Busy(draft, wants, _) => {
                    // Until they are free; by the time they are, others may be wanted.
                    drop(rules.shared.locks.take(wants));
                    self = draft;
                }
            }
        }
    }

    fn try_vote(self: Box<Self>) -> Result<Vote> {
        Ok(match self.attempt()? {
            Attempt::Voted(voted) => Vote::Voted(voted),
            Attempt::Busy(draft, _, busy) => Vote::Busy(draft, busy),
        })
    }
}

enum Attempt {
    Voted(Box<dyn Voted>),
    Busy(Box<Draft>, Wants, Busy),
}

impl Draft {
    fn attempt(self: Box<Self>) -> Result<Attempt> {
        let rules = self.rules.clone();
        let mut state = rules.state();
        let revisions = self.judge(&state)?;
        Ok(match rules.shared.locks.try_take(self.wants(&state, &revisions)) {
            Ok(held) => Attempt::Voted(self.settle(&mut state, revisions, held)),
            Err((wants, busy)) => Attempt::Busy(self, wants, busy),
        })
    }
}

impl UndoChange for Draft {
    fn undo(&mut self, tid: Tid) -> Result<()> {
        self.add(Change::Undo { tid: tid.0 })
    }
}

impl VersionChange for Draft {
    fn store_in(&mut self, version: &Version, oid: Oid, serial: Tid, data: Bytes) -> Result<()> {
        if data.is_empty() {
            return Err(Error::EmptyRecord { oid });
        }
        let mut state = self.rules.state();
        state.last_oid = state.last_oid.max(oid.0);
        drop(state);
        self.add(Change::Store { oid: oid.0, serial: serial.0, data: data.to_vec(), version: name(version) })
    }

    fn commit_version(&mut self, from: &Version, to: &Version) -> Result<()> {
        self.add(Change::CommitVersion { from: name(from), to: name(to) })
    }

    fn abort_version(&mut self, from: &Version) -> Result<()> {
        self.add(Change::AbortVersion { from: name(from) })
    }
}

impl CopyChange for Draft {
    fn restore(&mut self, revision: Revision) -> Result<()> {
        let Revision { oid, version, data, source, under } = revision;
        if data.as_ref().is_some_and(Bytes::is_empty) {
            return Err(Error::EmptyRecord { oid });
        }
        let mut state = self.rules.state();
        state.last_oid = state.last_oid.max(oid.0);
        drop(state);
        self.add(Change::Restore {
            oid: oid.0,
            data: data.map(|data| data.to_vec()),
            version: name(&version),
            source: source.map(|tid| tid.0),
            base: under.map(|tid| tid.0),
        })
    }
}

/// A transaction after its vote.
struct Ready {
    rules: Rules,
    tid: Option<Tid>,
    number: u64,
    resolved: Vec<Oid>,
    _held: Held,
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.rules.state().voted.remove(&self.number);
    }
}

impl Voted for Ready {
    fn resolved(&self) -> &[Oid] {
        &self.resolved
    }

    fn touched(&self) -> Vec<Oid> {
        let state = self.rules.state();
        let transaction = state.voted.get(&self.number);
        transaction.map(|t| t.oids().into_iter().map(Oid).collect()).unwrap_or_default()
    }

    fn finish_with(self: Box<Self>, notify: Notify) -> Result<Tid> {
        let rules = self.rules.clone();
        let mut state = rules.state();
        let last = Tid(state.database.last_transaction());
        let tid = match self.tid {
            Some(tid) if tid <= last => {
                // Dropping it takes the lock.
                drop(state);
                return Err(Error::TidNotLater { tid, last });
            }
            Some(tid) => tid,
            None => Tid::at(rules.shared.clock.now()).max(last.next()),
        };
        if let Some(transaction) = state.voted.remove(&self.number) {
            notify(tid);
            state.database.transactions.push(spec::Transaction { tid: tid.0, ..transaction });
        }
        drop(state);
        Ok(tid)
    }
}
