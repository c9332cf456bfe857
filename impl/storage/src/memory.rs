//! The simplest storage that keeps every promise: a list of transactions in memory.
//!
//! Everything else is a fold over that list. To be quick where it costs nothing, it also keeps, for each object, the list
//! of places where its revisions are.
//!
//! It takes copies ([`CopyChange`]), with what was done in versions, and answers as the rules say what the trunk shows
//! meanwhile; but it has no versions of its own, and does not undo. Packing is in `memory/pack.rs`.

mod pack;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use crate::{
    Clock, CopyChange, CurrentRecord, Error, Held, HistoryEntry, Invalidation, Loaded, LoadedAt, NoResolver, Notify,
    ObjectLocks, Oid, Order, Pack, Place, Resolver, Result, Revision, Status, Storage, SystemClock, Tid, TidRange,
    Transaction, TransactionMeta, TransactionRecord, Version, Vote, Voted, Want, Wants, judge, merge,
};

/// A storage in memory: gone when its last handle is. Cloning gives another handle.
#[derive(Clone, Debug)]
pub struct MemoryStorage {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    clock: Box<dyn Clock>,
    resolver: Box<dyn Resolver>,
    locks: Arc<ObjectLocks>,
    state: RwLock<State>,
    /// What transactions between vote and finish will write, for a pack to see. Taken when `state` is, not before it.
    voted: Mutex<BTreeMap<u64, Arc<Vec<Revision>>>>,
    /// Held by a pack.
    packing: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Where a revision shares its data, its source is the one that it was made from, which may share it in turn; who asks
    /// is told the one that holds it ([`State::told`]).
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

    /// What can be read of the object's past, newest first: a packed revision ends it, with what is under that (rule 4.5).
    fn past(&self, oid: Oid) -> Result<Vec<At<'_>>> {
        let mut past = Vec::new();
        for at in self.revisions(oid) {
            past.push(at);
            if at.transaction.status == Status::Packed {
                past.extend(at.revision.under.and_then(|under| self.at(oid, under)));
                break;
            }
        }
        if past.is_empty() { Err(Error::key(oid)) } else { Ok(past) }
    }

    /// Rule 1.6: the revision that the trunk shows from this one on: itself, or the one under it.
    fn on_trunk<'a>(&'a self, at: At<'a>) -> Option<At<'a>> {
        if at.revision.version.is_trunk() { Some(at) } else { self.at(at.revision.oid, at.revision.under?) }
    }

    fn load(&self, oid: Oid, version: &Version) -> Result<Loaded> {
        let newest = self.newest(oid).ok_or_else(|| Error::key(oid))?;
        let seen = if newest.revision.version == *version { Some(newest) } else { self.on_trunk(newest) };
        let data = seen.and_then(|at| at.revision.data.clone()).ok_or_else(|| Error::key(oid))?;
        Ok(Loaded { data, tid: newest.transaction.tid })
    }

    /// Rule 3.7: how a revision of another storage is written down here.
    fn restore(&self, revision: Revision) -> Revision {
        let Revision { oid, version, data, source, under } = revision;
        let shared = |tid: Tid| self.at(oid, tid).filter(|at| data.is_some() && at.revision.data == data);
        let source = source.and_then(shared).map(|at| at.transaction.tid);
        let is_here = |tid: &Tid| self.at(oid, *tid).is_some_and(|at| at.revision.version.is_trunk());
        let shown = || self.newest(oid).and_then(|at| self.on_trunk(at)).map(|at| at.transaction.tid);
        let under = under.filter(|_| !version.is_trunk()).and_then(|tid| Some(tid).filter(is_here).or_else(shown));
        Revision { oid, version, data, source, under }
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
                revision.source = self.holder(revision);
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
        MemoryStorage::with(name, Box::new(SystemClock), Box::new(NoResolver))
    }

    /// An empty storage with this clock and this resolver.
    pub fn with(name: impl Into<String>, clock: Box<dyn Clock>, resolver: Box<dyn Resolver>) -> MemoryStorage {
        MemoryStorage {
            shared: Arc::new(Shared {
                name: name.into(),
                clock,
                resolver,
                locks: Arc::default(),
                state: RwLock::default(),
                voted: Mutex::default(),
                packing: Mutex::default(),
            }),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.shared.state.read().unwrap_or_else(|e| e.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.shared.state.write().unwrap_or_else(|e| e.into_inner())
    }

    fn voted(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Vec<Revision>>>> {
        self.shared.voted.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Storage for MemoryStorage {
    fn name(&self) -> String {
        self.shared.name.clone()
    }

    fn load(&self, oid: Oid, version: &Version) -> Result<Loaded> {
        self.read().load(oid, version)
    }

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

    fn load_serial(&self, oid: Oid, tid: Tid) -> Result<Bytes> {
        let state = self.read();
        let found = state.past(oid)?.into_iter().find(|at| at.transaction.tid == tid);
        let data = found.and_then(|at| state.on_trunk(at)).and_then(|at| at.revision.data.clone());
        data.ok_or(Error::KeyError { oid, tid: Some(tid) })
    }

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

    fn last_transaction(&self) -> Tid {
        self.read().last()
    }

    fn last_invalidations(&self, count: usize) -> Result<Vec<Invalidation>> {
        let state = self.read();
        let first = state.transactions.len().saturating_sub(count);
        let seen =
            |t: &Arc<TransactionRecord>| Invalidation { tid: t.tid, oids: t.revisions.iter().map(|r| r.oid).collect() };
        Ok(state.transactions[first..].iter().map(seen).collect())
    }

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

    fn begin(&self, meta: TransactionMeta) -> Result<Box<dyn Transaction>> {
        meta.check()?;
        let last = self.last_transaction();
        match meta.tid {
            Some(tid) if tid <= last => Err(Error::TidNotLater { tid, last }),
            _ => Ok(Box::new(Draft { storage: self.clone(), meta, changes: Vec::new(), checks: Vec::new() })),
        }
    }

    fn pack(&self) -> Option<&dyn Pack> {
        Some(self)
    }
}

/// A transaction before its vote.
struct Draft {
    storage: MemoryStorage,
    meta: TransactionMeta,
    changes: Vec<Change>,
    checks: Vec<(Oid, Tid)>,
}

/// What a transaction is to write.
enum Change {
    /// The object, the revision that its writer had read, and what it is to be: none for nothing.
    Made(Oid, Tid, Option<Bytes>),
    /// What another storage has.
    Restored(Revision),
}

impl Change {
    fn oid(&self) -> Oid {
        match self {
            Change::Made(oid, ..) => *oid,
            Change::Restored(revision) => revision.oid,
        }
    }
}

impl Draft {
    fn wants(&self) -> Wants {
        let kept = self.checks.iter().map(|check| (check.0, Want::Keep));
        let objects = kept.chain(self.changes.iter().map(|change| (change.oid(), Want::Change))).collect();
        Wants { objects, ..Wants::default() }
    }

    /// What a change writes, and whether it was merged for that.
    fn judge(&self, state: &State, change: Change) -> Result<(Revision, bool)> {
        let (oid, serial, data) = match change {
            Change::Restored(revision) => return Ok((state.restore(revision), false)),
            Change::Made(oid, serial, data) => (oid, serial, data),
        };
        let newest = state.newest(oid).map(|at| (at.transaction.tid, at.revision.version.clone()));
        // It was here when its deletion was asked for; a pack may have been between.
        if data.is_none() && newest.is_none() {
            return Err(Error::key(oid));
        }
        let mut revision = Revision { oid, version: Version::TRUNK, data, source: None, under: None };
        let Some(committed) = judge(oid, serial, &Version::TRUNK, newest)? else { return Ok((revision, false)) };
        let new = revision.data.take().ok_or(Error::Conflict { oid, committed, serial })?;
        let record = |oid, tid| {
            let found = state.past(oid)?.into_iter().find(|at| at.transaction.tid == tid);
            found.and_then(|at| at.revision.data.clone()).ok_or_else(|| Error::key(oid))
        };
        let merged = merge(&*self.storage.shared.resolver, record, (oid, serial, committed), &new)?;
        Ok((Revision { data: Some(merged), ..revision }, true))
    }

    fn settle(mut self, held: Held) -> Result<Box<dyn Voted>> {
        let (mut revisions, mut resolved) = (Vec::new(), Vec::new());
        let storage = self.storage.clone();
        let state = storage.read();
        for change in std::mem::take(&mut self.changes) {
            let (revision, merged) = self.judge(&state, change)?;
            resolved.extend(merged.then_some(revision.oid));
            revisions.push(revision);
        }
        for &(oid, serial) in &self.checks {
            let committed = state.newest(oid).ok_or_else(|| Error::key(oid))?.transaction.tid;
            if committed != serial {
                return Err(Error::ReadConflict { oid, committed, serial });
            }
        }
        let revisions = Arc::new(revisions);
        let mut voted = storage.voted();
        let number = voted.last_key_value().map_or(0, |(last, _)| last + 1);
        voted.insert(number, Arc::clone(&revisions));
        drop((voted, state));
        Ok(Box::new(Ready { storage: self.storage, meta: self.meta, revisions, resolved, number, _held: held }))
    }

    /// No oid is given out that somebody used.
    fn used(&self, oid: Oid) {
        let mut state = self.storage.write();
        state.last_oid = state.last_oid.max(oid);
    }
}

impl Transaction for Draft {
    fn store(&mut self, oid: Oid, serial: Tid, data: Bytes) -> Result<()> {
        if data.is_empty() {
            return Err(Error::EmptyRecord { oid });
        }
        self.used(oid);
        self.changes.push(Change::Made(oid, serial, Some(data)));
        Ok(())
    }

    fn delete(&mut self, oid: Oid, serial: Tid) -> Result<()> {
        self.storage.read().newest(oid).ok_or_else(|| Error::key(oid))?;
        self.changes.push(Change::Made(oid, serial, None));
        Ok(())
    }

    fn check_current(&mut self, oid: Oid, serial: Tid) -> Result<()> {
        self.checks.push((oid, serial));
        Ok(())
    }

    fn copy(&mut self) -> Option<&mut dyn CopyChange> {
        Some(self)
    }

    fn vote(self: Box<Self>) -> Result<Box<dyn Voted>> {
        let held = self.storage.shared.locks.take(self.wants());
        self.settle(held)
    }

    fn try_vote(self: Box<Self>) -> Result<Vote> {
        match self.storage.shared.locks.try_take(self.wants()) {
            Ok(held) => self.settle(held).map(Vote::Voted),
            Err((_, busy)) => Ok(Vote::Busy(self, busy)),
        }
    }
}

impl CopyChange for Draft {
    fn restore(&mut self, revision: Revision) -> Result<()> {
        if revision.data.as_ref().is_some_and(Bytes::is_empty) {
            return Err(Error::EmptyRecord { oid: revision.oid });
        }
        self.used(revision.oid);
        self.changes.push(Change::Restored(revision));
        Ok(())
    }
}

/// A transaction after its vote.
struct Ready {
    storage: MemoryStorage,
    meta: TransactionMeta,
    revisions: Arc<Vec<Revision>>,
    resolved: Vec<Oid>,
    /// Its number among the voted.
    number: u64,
    _held: Held,
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.storage.voted().remove(&self.number);
    }
}

impl Voted for Ready {
    fn resolved(&self) -> &[Oid] {
        &self.resolved
    }

    fn touched(&self) -> Vec<Oid> {
        let mut seen = HashSet::new();
        self.revisions.iter().map(|revision| revision.oid).filter(|oid| seen.insert(*oid)).collect()
    }

    fn finish_with(mut self: Box<Self>, notify: Notify) -> Result<Tid> {
        let storage = self.storage.clone();
        let mut state = storage.write();
        let last = state.last();
        let tid = match self.meta.tid {
            Some(tid) if tid <= last => return Err(Error::TidNotLater { tid, last }),
            Some(tid) => tid,
            None if last == Tid::MAX => return Err(Error::Exhausted { what: "tids" }),
            None => Tid::at(storage.shared.clock.now()).max(last.next()),
        };
        notify(tid);
        storage.voted().remove(&self.number);
        let TransactionMeta { status, user, description, extension, .. } = std::mem::take(&mut self.meta);
        let revisions = Arc::unwrap_or_clone(std::mem::take(&mut self.revisions));
        state.push(Arc::new(TransactionRecord { tid, status, user, description, extension, revisions }));
        Ok(tid)
    }
}
