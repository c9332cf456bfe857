//! The simplest storage that keeps every promise: a list of transactions in memory.
//!
//! Everything else is a fold over that list. To be quick where it costs nothing, it also keeps, for each object, the
//! list of places where its revisions are.
//!
//! Part 3 of the rules is judged for it by [`lock_and_judge`], through its answers in `memory/past.rs`. Packing is in
//! `memory/pack.rs`, blobs in `memory/blobs.rs`.

mod blobs;
mod pack;
mod past;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use vellum_sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use self::blobs::scratch_blob;
use crate::{
    Blobs, Change, Clock, CurrentRecord, Draft, Error, Event, Held, HistoryEntry, Invalidation, Judged, Limits,
    Listener, Listeners, Listening, Loaded, LoadedAt, NoResolver, ObjectLocks, Oid, Order, Origin, Pack, Place,
    Prepared, Resolver, Result, Revision, Scratch, Status, Storage, SystemClock, Tid, TidRange, TransactionMeta,
    TransactionRecord, UndoLog, Verdict, Version, Versions, Vote, Voted, Waiting, lock_and_judge,
};
use past::Now;

/// A storage in memory: gone when its last handle is. Cloning gives another handle.
#[derive(Clone, Debug)]
pub struct MemoryStorage {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    clock: Arc<dyn Clock>,
    resolver: Arc<dyn Resolver>,
    locks: Arc<ObjectLocks>,
    /// Held by a finish or a pack until the listeners were told, so that they hear all events in one order.
    turn: Mutex<()>,
    state: RwLock<State>,
    /// The revisions that transactions between vote and finish will write, for a pack to see. Taken while `state` is
    /// held, never before.
    voted: Mutex<BTreeMap<u64, Arc<Vec<Revision>>>>,
    listeners: Listeners,
    /// Held by a pack.
    packing: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Where a revision shares what an earlier one holds, its source is that one, which may share it in turn; so it is
    /// for tombstones. [`State::told`] names the revision that holds the data.
    transactions: Vec<Arc<TransactionRecord>>,
    /// For each object, oldest first: which transaction, which of its revisions.
    revisions: BTreeMap<Oid, Vec<(usize, usize)>>,
    last_oid: Oid,
    size: u64,
}

impl State {
    fn last(&self) -> Tid {
        self.transactions.last().map_or(Tid::ZERO, |t| t.tid)
    }

    /// The last transaction that a pack left something of.
    fn packed_to(&self) -> Tid {
        self.transactions.iter().rfind(|t| t.status == Status::Packed).map_or(Tid::ZERO, |t| t.tid)
    }

    /// Every revision of the object, newest first.
    fn revisions(&self, oid: Oid) -> impl Iterator<Item = At<'_>> {
        let places = self.revisions.get(&oid).map(Vec::as_slice).unwrap_or_default();
        places.iter().rev().map(|&(t, r)| {
            let transaction = &*self.transactions[t];
            At { transaction, revision: &transaction.revisions[r], place: place(t, r) }
        })
    }

    fn newest(&self, oid: Oid) -> Option<At<'_>> {
        self.revisions(oid).next()
    }

    fn at(&self, oid: Oid, tid: Tid) -> Option<At<'_>> {
        self.revisions(oid).find(|at| at.transaction.tid == tid)
    }

    /// The readable past of the object, newest first: a packed revision ends it, with its base revision (rule 4.5).
    fn past(&self, oid: Oid) -> Result<Vec<At<'_>>> {
        let mut past = Vec::new();
        for at in self.revisions(oid) {
            past.push(at);
            if at.transaction.status == Status::Packed {
                past.extend(at.revision.base.and_then(|base| self.at(oid, base)));
                break;
            }
        }
        if past.is_empty() { Err(Error::key(oid)) } else { Ok(past) }
    }

    /// Rule 1.6: the revision that the trunk shows from this one on: itself, or its base revision.
    fn on_trunk<'a>(&'a self, at: At<'a>) -> Option<At<'a>> {
        if at.revision.version.is_trunk() { Some(at) } else { self.at(at.revision.oid, at.revision.base?) }
    }

    fn load(&self, oid: Oid, version: &Version) -> Result<Loaded> {
        let newest = self.newest(oid).ok_or_else(|| Error::key(oid))?;
        let seen = if newest.revision.version == *version { Some(newest) } else { self.on_trunk(newest) };
        let data = seen.and_then(|at| at.revision.data.clone()).ok_or_else(|| Error::key(oid))?;
        Ok(Loaded { data, tid: newest.transaction.tid })
    }

    /// The tid of the revision that holds the data of one that shares it.
    fn holder(&self, revision: &Revision) -> Option<Tid> {
        let mut holder = revision.source?;
        while let Some(source) = self.at(revision.oid, holder).and_then(|at| at.revision.source) {
            holder = source;
        }
        Some(holder)
    }

    /// A transaction as it is told: rule 2.6.
    fn told(&self, transaction: &Arc<TransactionRecord>) -> Arc<TransactionRecord> {
        let mut told = Arc::clone(transaction);
        if transaction.revisions.iter().any(|revision| revision.source.is_some()) {
            for revision in &mut Arc::make_mut(&mut told).revisions {
                revision.source = if revision.data.is_some() { self.holder(revision) } else { None };
            }
        }
        told
    }

    /// Adds a transaction after all others.
    fn push(&mut self, transaction: Arc<TransactionRecord>) {
        let number = self.transactions.len();
        let mut seen = HashSet::new();
        for (n, revision) in transaction.revisions.iter().enumerate().rev() {
            let own = if revision.source.is_none() { revision.data.as_ref() } else { None };
            self.size += own.map_or(0, |d| d.len() as u64);
            if seen.insert(revision.oid) {
                self.revisions.entry(revision.oid).or_default().push((number, n));
            }
        }
        self.transactions.push(transaction);
    }
}

/// A revision's place for the collector: the number of its transaction, counted from one, and its own in that.
fn place(transaction: usize, revision: usize) -> Place {
    assert!(revision >> 32 == 0, "a transaction of more than 2^32 revisions");
    (transaction as u64 + 1) << 32 | revision as u64
}

/// A revision with its transaction.
#[derive(Clone, Copy, PartialEq)]
struct At<'a> {
    transaction: &'a TransactionRecord,
    revision: &'a Revision,
    place: Place,
}

impl MemoryStorage {
    /// An empty storage, with the machine's clock and no conflict resolution.
    pub fn new(name: impl Into<String>) -> MemoryStorage {
        MemoryStorage::with(name, Arc::new(SystemClock), Arc::new(NoResolver))
    }

    /// An empty storage with this clock and this resolver.
    pub fn with(name: impl Into<String>, clock: Arc<dyn Clock>, resolver: Arc<dyn Resolver>) -> MemoryStorage {
        MemoryStorage {
            shared: Arc::new(Shared {
                name: name.into(),
                clock,
                resolver,
                locks: Arc::default(),
                turn: Mutex::default(),
                state: RwLock::default(),
                voted: Mutex::default(),
                listeners: Listeners::default(),
                packing: Mutex::default(),
            }),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.shared.state.read()
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.shared.state.write()
    }

    fn voted(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Vec<Revision>>>> {
        self.shared.voted.lock()
    }
}

impl Storage for MemoryStorage {
    fn name(&self) -> String {
        self.shared.name.clone()
    }

    /// Rule 2.1.
    fn load(&self, oid: Oid, version: &Version) -> Result<Loaded> {
        self.read().load(oid, version)
    }

    /// Rule 2.2.
    fn load_before(&self, oid: Oid, before: Tid) -> Result<Option<LoadedAt>> {
        let state = self.read();
        let past = state.past(oid)?;
        let Some(n) = past.iter().position(|at| at.transaction.tid < before) else { return Ok(None) };
        let Some(shown) = state.on_trunk(past[n]) else { return Ok(None) };
        let same = |at: &&At<'_>| state.on_trunk(**at).is_some_and(|at| at.transaction.tid == shown.transaction.tid);
        let next = past[..n].iter().rev().find(|at| !same(at)).map(|at| at.transaction.tid);
        let tid = past[n..].iter().take_while(same).last().unwrap_or(&past[n]).transaction.tid;
        let data = shown.revision.data.clone().ok_or(Error::KeyError { oid, tid: Some(before) })?;
        Ok(Some(LoadedAt { data, tid, next }))
    }

    /// Rule 2.3.
    fn load_serial(&self, oid: Oid, tid: Tid) -> Result<Bytes> {
        let state = self.read();
        let found = state.past(oid)?.into_iter().find(|at| at.transaction.tid == tid);
        let data = found.and_then(|at| state.on_trunk(at)).and_then(|at| at.revision.data.clone());
        data.ok_or(Error::KeyError { oid, tid: Some(tid) })
    }

    /// Rule 2.4.
    fn history(&self, oid: Oid, limit: usize) -> Result<Vec<HistoryEntry>> {
        let state = self.read();
        let entry = |At { transaction: t, revision: r, .. }: At<'_>| HistoryEntry {
            tid: t.tid,
            size: if r.source.is_some() { 0 } else { r.data.as_ref().map_or(0, |d| d.len() as u64) },
            version: r.version.clone(),
            user: t.user.clone(),
            description: t.description.clone(),
            extension: t.extension.clone(),
        };
        Ok(state.past(oid)?.into_iter().take(limit).map(entry).collect())
    }

    /// Rule 2.6.
    fn transactions(
        &self,
        range: TidRange,
        order: Order,
    ) -> Result<Box<dyn Iterator<Item = Result<TransactionRecord>> + Send>> {
        let state = self.read();
        let mut found: Vec<_> =
            state.transactions.iter().filter(|t| range.contains(t.tid)).map(|t| state.told(t)).collect();
        if order == Order::NewestFirst {
            found.reverse();
        }
        Ok(Box::new(found.into_iter().map(|t| Ok((*t).clone()))))
    }

    /// Rule 2.7.
    fn last_transaction(&self) -> Tid {
        self.read().last()
    }

    /// Rule 2.8.
    fn last_invalidations(&self, count: usize) -> Result<Vec<Invalidation>> {
        let state = self.read();
        let first = state.transactions.len().saturating_sub(count);
        let seen =
            |t: &Arc<TransactionRecord>| Invalidation { tid: t.tid, oids: t.revisions.iter().map(|r| r.oid).collect() };
        Ok(state.transactions[first..].iter().map(seen).collect())
    }

    /// Rule 2.9.
    fn current_records(&self, first: Oid) -> Box<dyn Iterator<Item = Result<CurrentRecord>> + Send> {
        // All at one moment: later ones would show transactions by halves.
        let state = self.read();
        let current = |oid: &Oid| {
            let Loaded { data, tid } = state.load(*oid, &Version::TRUNK).ok()?;
            Some(Ok(CurrentRecord { oid: *oid, tid, data }))
        };
        let records: Vec<_> = state.revisions.range(first..).filter_map(|(oid, _)| current(oid)).collect();
        Box::new(records.into_iter())
    }

    fn new_oids(&self, count: u32) -> Result<Vec<Oid>> {
        let mut state = self.write();
        let first = state.last_oid.0;
        let last = first.checked_add(u64::from(count)).ok_or(Error::Exhausted { what: "oids" })?;
        state.last_oid = Oid(last);
        Ok((first..last).map(|n| Oid(n + 1)).collect())
    }

    fn size(&self) -> u64 {
        self.read().size
    }

    fn object_count(&self) -> u64 {
        self.read().revisions.len() as u64
    }

    /// Rule 3.0.
    fn begin(&self, meta: TransactionMeta) -> Result<Draft> {
        meta.check(self.last_transaction())?;
        Ok(Draft::within(meta, Arc::clone(&self.shared) as Arc<dyn Limits>, 0))
    }

    fn attempt(&self, waiting: Waiting) -> Result<Vote> {
        let now = || Now::new(self.read());
        Ok(match lock_and_judge(&self.shared.locks, now, &*self.shared.resolver, waiting)? {
            Err(waiting) => Vote::Busy(waiting),
            Ok(Judged { draft, held, past, verdict }) => {
                let revisions = Arc::new(past.revisions_of(&verdict)?);
                let mut voted = self.voted();
                let number = voted.last_key_value().map_or(0, |(last, _)| last + 1);
                voted.insert(number, Arc::clone(&revisions));
                drop((voted, past));
                // A draft that another program made, such as a server, knows nothing of this storage's limits.
                self.shared.used(verdict.writes.iter().map(|write| write.oid).max());
                let (meta, origin, _) = draft.into_parts();
                let storage = self.clone();
                let (touched, merged) = (verdict.touched(), verdict.merged.clone());
                let ready = Ready { storage, meta, origin, revisions, verdict, number, held: Some(held) };
                Vote::Voted(Voted::new(touched, merged, ready))
            }
        })
    }

    fn listen(&self, listener: Arc<dyn Listener>) -> Listening {
        self.shared.listeners.add(listener)
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

    fn blobs(&self) -> Option<&dyn Blobs> {
        Some(self)
    }
}

/// Large transactions wait on the disk even here: hundreds may be under way that are never finished.
const SPILL_AFTER: u64 = 32 << 20;

impl Shared {
    /// No oid is given out that a transaction used.
    fn used(&self, oid: Option<Oid>) {
        if let Some(oid) = oid {
            let mut state = self.state.write();
            state.last_oid = state.last_oid.max(oid);
        }
    }
}

impl Limits for Shared {
    fn admit(&self, length: u64, change: &Change) -> Result<u64> {
        if let Change::Store { oid, .. } | Change::Restore { oid, .. } = change {
            self.used(Some(*oid));
        }
        Ok(length)
    }

    fn spill_after(&self) -> u64 {
        SPILL_AFTER
    }

    fn scratch(&self) -> Result<Scratch> {
        Scratch::temporary()
    }
}

/// A transaction after its vote.
struct Ready {
    storage: MemoryStorage,
    meta: TransactionMeta,
    origin: Origin,
    revisions: Arc<Vec<Revision>>,
    verdict: Verdict,
    /// Its number among the voted.
    number: u64,
    held: Option<Held>,
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.storage.voted().remove(&self.number);
    }
}

impl Prepared for Ready {
    fn verdict(&self) -> Result<Verdict> {
        Ok(self.verdict.clone())
    }

    fn finish(mut self: Box<Self>) -> Result<Tid> {
        let storage = self.storage.clone();
        let _turn = storage.shared.turn.lock();
        let mut state = storage.write();
        let tid = self.meta.tid_after(state.last(), &*storage.shared.clock)?;
        storage.voted().remove(&self.number);
        let TransactionMeta { status, user, description, extension, .. } = std::mem::take(&mut self.meta);
        let revisions = Arc::unwrap_or_clone(std::mem::take(&mut self.revisions));
        state.push(Arc::new(TransactionRecord { tid, status, user, description, extension, revisions }));
        drop(state);
        drop(self.held.take());
        storage.shared.listeners.tell(|| Event::Committed { tid, oids: self.verdict.touched(), origin: self.origin });
        Ok(tid)
    }
}
