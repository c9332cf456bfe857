//! The simplest storage that keeps every promise: a list of transactions in memory.
//!
//! Everything else is a fold over that list. To be quick where it costs nothing, it also keeps, for each object, the list
//! of places where its revisions are.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use crate::{
    Clock, CurrentRecord, Error, Held, HistoryEntry, Invalidation, Loaded, LoadedAt, NoResolver, Notify, ObjectLocks,
    Oid, Order, Resolver, Result, Revision, Storage, SystemClock, Tid, TidRange, Transaction, TransactionMeta,
    TransactionRecord, Version, Vote, Voted, Want, Wants, judge, merge,
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
}

#[derive(Debug, Default)]
struct State {
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

    /// The object's revisions, newest first, each with its transaction.
    fn past(&self, oid: Oid) -> Result<impl Iterator<Item = (&TransactionRecord, &Revision)>> {
        let places = self.revisions.get(&oid).ok_or_else(|| Error::key(oid))?;
        Ok(places.iter().rev().map(|&(t, r)| (&*self.transactions[t], &self.transactions[t].revisions[r])))
    }

    fn newest(&self, oid: Oid) -> Option<(Tid, Version)> {
        let (transaction, revision) = self.past(oid).ok()?.next()?;
        Some((transaction.tid, revision.version.clone()))
    }

    fn load_serial(&self, oid: Oid, tid: Tid) -> Result<Bytes> {
        let missing = || Error::KeyError { oid, tid: Some(tid) };
        let (_, revision) = self.past(oid)?.find(|(t, _)| t.tid == tid).ok_or_else(missing)?;
        revision.data.clone().ok_or_else(missing)
    }
}

impl MemoryStorage {
    /// An empty storage, with the machine's clock and no conflict resolution.
    pub fn new(name: impl Into<String>) -> MemoryStorage {
        MemoryStorage::with(name, Box::new(SystemClock), Box::new(NoResolver))
    }

    /// An empty storage with this clock and this resolver.
    pub fn with(name: impl Into<String>, clock: Box<dyn Clock>, resolver: Box<dyn Resolver>) -> MemoryStorage {
        let (locks, state) = (Arc::default(), RwLock::default());
        MemoryStorage { shared: Arc::new(Shared { name: name.into(), clock, resolver, locks, state }) }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.shared.state.read().unwrap_or_else(|e| e.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.shared.state.write().unwrap_or_else(|e| e.into_inner())
    }
}

impl Storage for MemoryStorage {
    fn name(&self) -> String {
        self.shared.name.clone()
    }

    fn load(&self, oid: Oid, version: &Version) -> Result<Loaded> {
        let state = self.read();
        let mut past = state.past(oid)?.peekable();
        let tid = past.peek().map(|(t, _)| t.tid).ok_or_else(|| Error::key(oid))?;
        let seen = past.enumerate().find(|(n, (_, r))| r.version.is_trunk() || (*n == 0 && r.version == *version));
        let data = seen.and_then(|(_, (_, r))| r.data.clone()).ok_or_else(|| Error::key(oid))?;
        Ok(Loaded { data, tid })
    }

    fn load_before(&self, oid: Oid, before: Tid) -> Result<Option<LoadedAt>> {
        let state = self.read();
        let mut next = None;
        for (transaction, revision) in state.past(oid)?.filter(|(_, r)| r.version.is_trunk()) {
            if transaction.tid < before {
                let data = revision.data.clone().ok_or(Error::KeyError { oid, tid: Some(before) })?;
                return Ok(Some(LoadedAt { data, tid: transaction.tid, next }));
            }
            next = Some(transaction.tid);
        }
        Ok(None)
    }

    fn load_serial(&self, oid: Oid, tid: Tid) -> Result<Bytes> {
        self.read().load_serial(oid, tid)
    }

    fn history(&self, oid: Oid, limit: usize) -> Result<Vec<HistoryEntry>> {
        let state = self.read();
        let entries = state.past(oid)?.take(limit).map(|(t, r)| HistoryEntry {
            tid: t.tid,
            size: if r.source.is_some() { 0 } else { r.data.as_ref().map_or(0, |d| d.len() as u64) },
            version: r.version.clone(),
            user: t.user.clone(),
            description: t.description.clone(),
            extension: t.extension.clone(),
        });
        Ok(entries.collect())
    }

    fn transactions(
        &self,
        range: TidRange,
        order: Order,
    ) -> Result<Box<dyn Iterator<Item = Result<TransactionRecord>> + Send>> {
        let mut found: Vec<_> =
            self.read().transactions.iter().filter(|t| range.contains(t.tid)).map(Arc::clone).collect();
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
        let current = |(oid, places): (&Oid, &Vec<(usize, usize)>)| {
            let &(transaction, revision) = places.last()?;
            let transaction = state.transactions.get(transaction)?;
            let data = transaction.revisions.get(revision)?.data.clone()?;
            Some(Ok(CurrentRecord { oid: *oid, tid: transaction.tid, data }))
        };
        let records: Vec<_> = state.revisions.range(first..).filter_map(current).collect();
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
}

/// A transaction before its vote.
struct Draft {
    storage: MemoryStorage,
    meta: TransactionMeta,
    /// The object, the revision that its writer had read, and what it is to be: none for nothing.
    changes: Vec<(Oid, Tid, Option<Bytes>)>,
    checks: Vec<(Oid, Tid)>,
}

impl Draft {
    fn wants(&self) -> Wants {
        let kept = self.checks.iter().map(|check| (check.0, Want::Keep));
        let objects = kept.chain(self.changes.iter().map(|change| (change.0, Want::Change))).collect();
        Wants { objects, ..Wants::default() }
    }

    fn settle(mut self, held: Held) -> Result<Box<dyn Voted>> {
        let mut resolved = Vec::new();
        let state = self.storage.read();
        for (oid, serial, data) in &mut self.changes {
            let Some(committed) = judge(*oid, *serial, &Version::TRUNK, state.newest(*oid))? else {
                continue;
            };
            let Some(new) = data else {
                return Err(Error::Conflict { oid: *oid, committed, serial: *serial });
            };
            let load = |oid, tid| state.load_serial(oid, tid);
            *new = merge(&*self.storage.shared.resolver, load, (*oid, *serial, committed), new)?;
            resolved.push(*oid);
        }
        for &(oid, serial) in &self.checks {
            let (committed, _) = state.newest(oid).ok_or_else(|| Error::key(oid))?;
            if committed != serial {
                return Err(Error::ReadConflict { oid, committed, serial });
            }
        }
        drop(state);
        Ok(Box::new(Ready { draft: self, resolved, _held: held }))
    }
}

impl Transaction for Draft {
    fn store(&mut self, oid: Oid, serial: Tid, data: Bytes) -> Result<()> {
        if data.is_empty() {
            return Err(Error::EmptyRecord { oid });
        }
        let mut state = self.storage.write();
        state.last_oid = state.last_oid.max(oid);
        drop(state);
        self.changes.push((oid, serial, Some(data)));
        Ok(())
    }

    fn delete(&mut self, oid: Oid, serial: Tid) -> Result<()> {
        self.storage.read().newest(oid).ok_or_else(|| Error::key(oid))?;
        self.changes.push((oid, serial, None));
        Ok(())
    }

    fn check_current(&mut self, oid: Oid, serial: Tid) -> Result<()> {
        self.checks.push((oid, serial));
        Ok(())
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

/// A transaction after its vote.
struct Ready {
    draft: Draft,
    resolved: Vec<Oid>,
    _held: Held,
}

impl Voted for Ready {
    fn resolved(&self) -> &[Oid] {
        &self.resolved
    }

    fn touched(&self) -> Vec<Oid> {
        let mut seen = HashSet::new();
        self.draft.changes.iter().map(|change| change.0).filter(|oid| seen.insert(*oid)).collect()
    }

    fn finish_with(self: Box<Self>, notify: Notify) -> Result<Tid> {
        let Draft { storage, meta, changes, .. } = self.draft;
        let mut state = storage.write();
        let last = state.last();
        let tid = match meta.tid {
            Some(tid) if tid <= last => return Err(Error::TidNotLater { tid, last }),
            Some(tid) => tid,
            None if last == Tid::MAX => return Err(Error::Exhausted { what: "tids" }),
            None => Tid::at(storage.shared.clock.now()).max(last.next()),
        };
        notify(tid);
        let number = state.transactions.len();
        let revisions: Vec<_> = changes
            .into_iter()
            .map(|(oid, _, data)| Revision { oid, version: Version::TRUNK, data, source: None, under: None })
            .collect();
        let mut seen = HashSet::new();
        for (n, revision) in revisions.iter().enumerate().rev() {
            state.size += revision.data.as_ref().map_or(0, |d| d.len() as u64);
            if seen.insert(revision.oid) {
                state.revisions.entry(revision.oid).or_default().push((number, n));
            }
        }
        state.transactions.push(Arc::new(TransactionRecord {
            tid,
            status: meta.status,
            user: meta.user,
            description: meta.description,
            extension: meta.extension,
            revisions,
        }));
        Ok(tid)
    }
}
