//! The specification as a storage: slow, and right by definition.
//!
//! Everything that works on a [`Storage`] runs on the rules themselves: the harness (which so tests itself), a client,
//! a server, a copy. One big lock; every answer is the specification's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use vellum_spec::{self as spec, Begin, Content, Database, Status};
use vellum_storage::{
    Blob, BlobWriter, Blobs, Bulk, Change, Clock, Counts, CurrentRecord, Draft, Error, Event, Held, HistoryEntry,
    Invalidation, Limits, Listener, Listeners, Listening, Loaded, LoadedAt, ObjectLocks, Oid, Order, Origin, Pack,
    PackOptions, PackReport, Prepared, Resolver, Result, Scratch, Storage, Tid, TidRange, TransactionMeta,
    TransactionRecord, UndoEntry, UndoLog, Verdict, Version, Versions, Vote, Voted, Waiting, Want, Wants,
};
use vellum_sync::{Mutex, MutexGuard};

use self::words::{begin, bytes, change, key, name, pairs, record, refused, refused_pack, version, write};
use crate::node::Node;

mod words;

/// Which objects a record refers to, weak references and those into other databases left out.
pub type References = fn(&[u8]) -> Vec<u64>;

/// The rules, as a storage in memory. Cloning gives another handle.
#[derive(Clone)]
pub struct Rules {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    resolver: Arc<dyn Resolver>,
    references: References,
    locks: Arc<ObjectLocks>,
    /// Held by a finish, a copy or a pack until the listeners were told, so that they hear all events in one order.
    turn: Mutex<()>,
    state: Mutex<State>,
    listeners: Listeners,
    read_only: bool,
    /// Rule 4.12: of a history-free database.
    grace: Option<Duration>,
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
    /// A storage of `database`, which may be empty.
    pub fn new(
        database: Database,
        clock: Arc<dyn Clock>,
        resolver: Arc<dyn Resolver>,
        references: References,
    ) -> Rules {
        Rules::with(database, None, false, clock, resolver, references)
    }

    /// An empty storage that is history-free (rule 4.12): each commit forgets what was made old so long before it, and
    /// nothing can be undone.
    pub fn history_free(
        grace: Duration,
        clock: Arc<dyn Clock>,
        resolver: Arc<dyn Resolver>,
        references: References,
    ) -> Rules {
        Rules::with(Database::default(), Some(grace), false, clock, resolver, references)
    }

    /// The same database, for reading only or not; without the unfinished transactions.
    pub fn reopened(&self, read_only: bool, clock: Arc<dyn Clock>, resolver: Arc<dyn Resolver>) -> Rules {
        let database = self.state().database.clone();
        Rules::with(database, self.shared.grace, read_only, clock, resolver, self.shared.references)
    }

    fn with(
        database: Database,
        grace: Option<Duration>,
        read_only: bool,
        clock: Arc<dyn Clock>,
        resolver: Arc<dyn Resolver>,
        references: References,
    ) -> Rules {
        let last_oid = database.oids().last().copied().unwrap_or(0);
        let state = Mutex::new(State { database, voted: BTreeMap::new(), votes: 0, last_oid });
        Rules {
            shared: Arc::new(Shared {
                clock,
                resolver,
                references,
                locks: Arc::default(),
                turn: Mutex::default(),
                state,
                listeners: Listeners::default(),
                read_only,
                grace,
            }),
        }
    }

    /// Changes in the specification's words.
    fn changes(&self, database: &Database, changes: &[Change]) -> Result<Vec<spec::Change>> {
        let all = changes.iter().map(change).collect::<Result<Vec<_>>>()?;
        let is_history_free = self.shared.grace.is_some();
        Ok(all.into_iter().map(|one| if is_history_free { database.lasting(one) } else { one }).collect())
    }

    /// The status that a transaction of such metadata has.
    fn status(&self, meta: &TransactionMeta) -> Status {
        let is_packed = meta.status == vellum_storage::Status::Packed && self.shared.grace.is_none();
        if is_packed { Status::Packed } else { Status::Complete }
    }

    /// The database after its last transaction finished.
    fn finished(&self, database: Database) -> Database {
        let last = Tid(database.last_transaction());
        match self.shared.grace {
            Some(grace) => database.forget(last.earlier_by(grace).0),
            None => database,
        }
    }

    /// The time of a pack: in a history-free database, a forgotten time counts as the last packed one.
    fn pack_time(&self, database: &Database, to: Tid) -> u64 {
        if self.shared.grace.is_some() { to.0.max(database.packed_to()) } else { to.0 }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock()
    }

    fn writable(&self) -> Result<()> {
        if self.shared.read_only { Err(Error::ReadOnly { name: self.name() }) } else { Ok(()) }
    }
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

    fn begin(&self, meta: TransactionMeta) -> Result<Draft> {
        self.writable()?;
        meta.check(self.last_transaction())?;
        Ok(Draft::within(meta, Arc::clone(&self.shared) as Arc<dyn Limits>, 0))
    }

    fn attempt(&self, waiting: Waiting) -> Result<Vote> {
        let mut state = self.state();
        let draft = waiting.draft();
        let changes = self.changes(&state.database, draft.changes())?;
        let revisions = self.judge(&state, &changes)?;
        let wants = wants(&state.database, &changes, &revisions);
        Ok(match waiting.take(&self.shared.locks, wants) {
            Ok((draft, held)) => Vote::Voted(self.settle(&mut state, draft, &changes, revisions, held)),
            Err(waiting) => Vote::Busy(waiting),
        })
    }

    fn listen(&self, listener: Arc<dyn Listener>) -> Listening {
        self.shared.listeners.add(listener)
    }

    fn undo_log(&self) -> Option<&dyn UndoLog> {
        self.shared.grace.is_none().then_some(self as &dyn UndoLog)
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
        Some(self)
    }
}

impl Blobs for Rules {
    fn new_blob(&self) -> Result<Box<dyn BlobWriter>> {
        self.writable()?;
        Ok(Box::new(Collected(Vec::new())))
    }

    fn load_blob(&self, oid: Oid, tid: Tid) -> Result<Blob> {
        self.state().database.load_blob(oid.0, tid.0).map(|blob| bytes(blob).into()).map_err(key(oid))
    }
}

/// A blob that is being written.
struct Collected(Vec<u8>);

impl BlobWriter for Collected {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn length(&self) -> u64 {
        self.0.len() as u64
    }

    fn finish(self: Box<Self>) -> Result<Blob> {
        Ok(Bytes::from(self.0).into())
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
            size: 0,
        };
        let all = state.database.undo_log(0, usize::MAX).into_iter().map(entry);
        Ok(all.filter(|entry| filter(entry)).take(last).skip(first).collect())
    }

    fn tombstone_source(&self, oid: Oid, tid: Tid) -> Result<Option<Tid>> {
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
        self.writable()?;
        let _held = self.shared.locks.take(&Wants { everything: true, ..Wants::default() });
        let _turn = self.shared.turn.lock();
        let mut state = self.state();
        let (mut database, mut tids) = (state.database.clone(), Vec::new());
        for TransactionRecord { tid, status, user, description, extension, revisions } in transactions {
            let meta = TransactionMeta { user, description, extension, tid: Some(tid), status };
            meta.check(Tid(database.last_transaction()))?;
            state.last_oid = revisions.iter().map(|revision| revision.oid.0).fold(state.last_oid, u64::max);
            let changes: Vec<_> = revisions.into_iter().map(Change::from).collect();
            changes.iter().try_for_each(Change::check)?;
            let changes = self.changes(&database, &changes)?;
            let written = database.commit(begin(&meta, tid, self.status(&meta)), &changes, &|_| None);
            database = self.finished(written.map_err(refused)?.0);
            tids.push(tid);
        }
        state.database = database;
        drop(state);
        if let (Some(first), Some(last)) = (tids.first(), tids.last()) {
            self.shared.listeners.tell(|| Event::Copied { first: *first, last: *last });
        }
        Ok(())
    }
}

impl Pack for Rules {
    fn pack(&self, to: Tid, how: PackOptions) -> Result<PackReport> {
        self.writable()?;
        let _turn = self.shared.turn.lock();
        let mut state = self.state();
        let under_way: Vec<_> = state.voted.values().flat_map(|t| t.revisions.iter().cloned()).collect();
        let (collect, go_on) = (how.collect, how.go_on);
        let how = spec::How { collect, go_on, under_way: &under_way, untold: Some(Node::is_untold) };
        let time = self.pack_time(&state.database, to);
        let packed = state.database.pack(time, how, &self.shared.references).map_err(refused_pack)?;
        state.database = packed.database;
        let to = to.min(Tid(state.database.last_transaction()));
        drop(state);
        self.shared.listeners.tell(|| Event::Packed { to });
        Ok(pairs(packed.dangling).into())
    }

    fn counts(&self) -> Option<&dyn Counts> {
        Some(self)
    }
}

impl Counts for Rules {
    fn pack_by_counts(&self, to: Tid) -> Result<()> {
        self.writable()?;
        let _turn = self.shared.turn.lock();
        let mut state = self.state();
        let under_way: Vec<_> = state.voted.values().flat_map(|t| t.revisions.iter().cloned()).collect();
        let time = self.pack_time(&state.database, to);
        let packed = state.database.pack_by_counts(time, &under_way, Some(Node::is_untold), &self.shared.references);
        state.database = packed.map_err(refused_pack)?;
        let to = to.min(Tid(state.database.last_transaction()));
        drop(state);
        self.shared.listeners.tell(|| Event::Packed { to });
        Ok(())
    }
}

impl Limits for Shared {
    /// No oid is given out that a transaction used.
    fn admit(&self, length: u64, change: &Change) -> Result<u64> {
        if let Change::Store { oid, .. } | Change::Restore { oid, .. } = change {
            let mut state = self.state.lock();
            state.last_oid = state.last_oid.max(oid.0);
        }
        Ok(length)
    }

    fn spill_after(&self) -> u64 {
        u64::MAX
    }

    fn scratch(&self) -> Result<Scratch> {
        Scratch::temporary()
    }
}

/// The locks that a transaction must hold, by the specification alone: this checks `vellum_storage::wants`.
fn wants(database: &Database, changes: &[spec::Change], revisions: &[spec::Revision]) -> Wants {
    let mut wants = Wants::default();
    for change in changes {
        match change {
            spec::Change::CheckCurrent { oid, .. } => wants.object(Oid(*oid), Want::Keep),
            spec::Change::CommitVersion { from, to } => {
                wants.version(&version(from), Want::Change);
                // Even if no object goes there.
                wants.version(&version(to), Want::Keep);
            }
            spec::Change::AbortVersion { from } => wants.version(&version(from), Want::Change),
            spec::Change::Undo { tid } => {
                let undone = database.transactions.iter().filter(|t| t.tid == *tid);
                for oid in undone.flat_map(|t| t.oids()) {
                    let past = database.past(oid);
                    for at in past.iter().skip_while(|at| at.tid() != *tid).take(2) {
                        wants.version(&version(&at.revision.version), Want::Keep);
                    }
                }
            }
            _ => {}
        }
    }
    for revision in revisions {
        wants.object(Oid(revision.oid), Want::Change);
        wants.version(&version(&revision.version), Want::Keep);
    }
    wants
}

impl Rules {
    /// The revisions that a transaction would write.
    fn judge(&self, state: &State, changes: &[spec::Change]) -> Result<Vec<spec::Revision>> {
        let resolver = |contested: spec::Contested<'_>| {
            let spec::Contested { oid, ancestor, committed, new } = contested;
            let contested = vellum_storage::Contested { oid: Oid(oid), ancestor, committed, new };
            self.shared.resolver.resolve(contested).map(|merged| merged.to_vec())
        };
        let judged = state.database.commit(Begin::at(UNDER_WAY), changes, &resolver);
        let (mut database, _) = judged.map_err(refused)?;
        Ok(database.transactions.pop().map(|t| t.revisions).unwrap_or_default())
    }

    fn settle(
        &self,
        state: &mut State,
        draft: Draft,
        changes: &[spec::Change],
        revisions: Vec<spec::Revision>,
        held: Held,
    ) -> Voted {
        let number = state.votes;
        state.votes += 1;
        let old = |change: &spec::Change| match change {
            spec::Change::Store { oid, serial, .. } => {
                let committed = state.database.newest(*oid).map_or(0, |newest| newest.tid());
                (committed != *serial).then_some(Oid(*oid))
            }
            _ => None,
        };
        let merged = changes.iter().filter_map(old).collect();
        let writes = revisions.iter().map(write).collect();
        state.last_oid = revisions.iter().map(|revision| revision.oid).fold(state.last_oid, u64::max);
        let (meta, origin, _) = draft.into_parts();
        let Begin { tid, status, user, description, extension } =
            begin(&meta, Tid(UNDER_WAY + number), self.status(&meta));
        state.voted.insert(number, spec::Transaction { tid, status, user, description, extension, revisions });
        let verdict = Verdict { writes, merged, wants: held.wants().clone() };
        let (touched, merged) = (verdict.touched(), verdict.merged.clone());
        let ready = Ready { rules: self.clone(), meta, origin, number, verdict, held: Some(held) };
        Voted::new(touched, merged, ready)
    }
}

/// A transaction after its vote.
struct Ready {
    rules: Rules,
    meta: TransactionMeta,
    origin: Origin,
    number: u64,
    verdict: Verdict,
    held: Option<Held>,
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.rules.state().voted.remove(&self.number);
    }
}

impl Prepared for Ready {
    fn verdict(&self) -> Result<Verdict> {
        Ok(self.verdict.clone())
    }

    fn finish(mut self: Box<Self>) -> Result<Tid> {
        let shared = Arc::clone(&self.rules.shared);
        let _turn = shared.turn.lock();
        let mut state = shared.state.lock();
        let tid = self.meta.tid_after(Tid(state.database.last_transaction()), &*shared.clock);
        // Dropping this transaction takes the lock.
        let Ok(tid) = tid else {
            drop(state);
            return tid;
        };
        if let Some(transaction) = state.voted.remove(&self.number) {
            state.database.transactions.push(spec::Transaction { tid: tid.0, ..transaction });
            state.database = self.rules.finished(std::mem::take(&mut state.database));
        }
        drop(state);
        drop(self.held.take());
        shared.listeners.tell(|| Event::Committed { tid, oids: self.verdict.touched(), origin: self.origin });
        Ok(tid)
    }
}
