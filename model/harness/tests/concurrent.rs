//! Many threads on the storage in memory and on the rules; and on storages that are wrong on purpose, each of which must
//! be found out.

use std::collections::HashMap;

use bytes::Bytes;
use jiff::Timestamp;
use vellum_harness::concurrent::{Plan, Report, run};
use vellum_harness::hosted::Merger;
use vellum_harness::node::Node;
use vellum_harness::rules::Rules;
use vellum_harness::subject::Can;
use vellum_harness::tick::tick;
use vellum_storage::{
    Busy, CurrentRecord, Error, HistoryEntry, Invalidation, Loaded, LoadedAt, ManualClock, MemoryStorage, Notify, Oid,
    Order, Pack, PackOptions, PackReport, Result, Storage, Tid, TidRange, Transaction, TransactionMeta,
    TransactionRecord, Version, Vote, Voted,
};
use vellum_sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vellum_sync::{Arc, Mutex};

fn clock() -> Box<ManualClock> {
    Box::new(ManualClock::at(tick(1).time().unwrap_or(Timestamp::UNIX_EPOCH)))
}

fn memory() -> MemoryStorage {
    MemoryStorage::with("memory", clock(), Box::new(Merger))
}

fn can() -> Can {
    Can { concurrent: true, repeat: true, delete: true, check_current: true, resolve: true, ..Can::default() }
}

fn plan(seed: u64) -> Plan {
    Plan { seed, threads: 4, transactions: 40, objects: 4, packs: 0 }
}

fn hold(can: Can, seeds: u64, storage: impl Fn() -> Box<dyn Storage>) {
    hold_to(can, seeds, 0, storage);
}

fn hold_to(can: Can, seeds: u64, packs: u64, storage: impl Fn() -> Box<dyn Storage>) {
    let mut total = Report::default();
    for seed in 0..seeds {
        total.add(&run(&*storage(), can, &Plan { packs, ..plan(seed) }).unwrap_or_else(|failure| panic!("{failure}")));
    }
    println!("{total}");
    assert_eq!(total.never(can), [""; 0], "{total}");
}

/// Rule 3.0.
#[test]
fn what_the_storage_in_memory_tells_many_threads_has_an_explanation() {
    hold(can(), 30, || Box::new(memory()));
}

#[test]
fn what_the_rules_tell_many_threads_has_an_explanation() {
    let rules = || Rules::new(Default::default(), clock(), Box::new(Merger), Node::references);
    hold(Can { undo: true, ..can() }, 10, || Box::new(rules()));
}

fn packing() -> Can {
    Can { pack: true, collect: true, ..can() }
}

#[test]
fn what_is_told_while_the_storage_in_memory_is_packed_has_an_explanation() {
    hold_to(packing(), 30, 6, || Box::new(memory()));
}

#[test]
fn what_is_told_while_the_rules_are_packed_has_an_explanation() {
    let rules = || Rules::new(Default::default(), clock(), Box::new(Merger), Node::references);
    hold_to(Can { undo: true, ..packing() }, 20, 6, || Box::new(rules()));
}

/// What is wrong with a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// A record that was loaded once is loaded again a few times, whatever was committed meanwhile.
    StaleLoad,
    /// Stores say that they were made to whatever is there.
    LostConflict,
    /// Dependencies are forgotten.
    LostCheck,
    /// Others are told after the transaction was shown, not before.
    LateNotify,
    /// A try finds everything busy once.
    BusyForNothing,
    /// The last transaction's tid is said before the transaction is shown.
    EarlyTid,
    /// The same oids are given out again.
    OldOids,
    /// A pack goes to the last transaction, whatever it is told.
    PacksTooFar,
    /// A pack says that it is done, and does nothing.
    PacksNothing,
    /// After a pack, an object that can be reached is not there.
    PackLoses,
    /// After a pack, the last commit before it is not there.
    PackForgetsACommit,
}

/// The storage in memory, with something wrong.
struct Wrong {
    inner: MemoryStorage,
    bug: Bug,
    calls: AtomicU64,
    cache: Mutex<HashMap<Oid, (Loaded, u64)>>,
    last: Arc<AtomicU64>,
    packed: AtomicBool,
}

impl Pack for Wrong {
    fn pack(&self, to: Tid, how: PackOptions) -> Result<PackReport> {
        self.packed.store(true, Ordering::SeqCst);
        match self.bug {
            Bug::PacksNothing => Ok(PackReport { dangling: Vec::new() }),
            Bug::PacksTooFar => Pack::pack(&self.inner, self.inner.last_transaction(), how),
            _ => Pack::pack(&self.inner, to, how),
        }
    }
}

impl Wrong {
    fn new(bug: Bug) -> Wrong {
        Wrong {
            inner: memory(),
            bug,
            calls: AtomicU64::new(0),
            cache: Mutex::default(),
            last: Arc::default(),
            packed: AtomicBool::new(false),
        }
    }
}

impl Storage for Wrong {
    fn name(&self) -> String {
        format!("with {:?}", self.bug)
    }

    fn load(&self, oid: Oid, version: &Version) -> Result<Loaded> {
        if self.bug == Bug::PackForgetsACommit && self.packed.load(Ordering::SeqCst) && oid == Oid(2) {
            let before = self.inner.load(oid, version)?.tid;
            if let Ok(Some(earlier)) = self.inner.load_before(oid, before) {
                return Ok(Loaded { data: earlier.data, tid: earlier.tid });
            }
        }
        if self.bug != Bug::StaleLoad {
            return self.inner.load(oid, version);
        }
        let mut cache = self.cache.lock();
        if let Some((loaded, left)) = cache.get_mut(&oid).filter(|(_, left)| *left > 0) {
            *left -= 1;
            return Ok(loaded.clone());
        }
        let loaded = self.inner.load(oid, version)?;
        cache.insert(oid, (loaded.clone(), 3));
        Ok(loaded)
    }

    fn load_before(&self, oid: Oid, before: Tid) -> Result<Option<LoadedAt>> {
        if self.bug == Bug::PackLoses && self.packed.load(Ordering::SeqCst) && oid.0 > 100 {
            return Err(Error::key(oid));
        }
        self.inner.load_before(oid, before)
    }

    fn load_serial(&self, oid: Oid, tid: Tid) -> Result<Bytes> {
        self.inner.load_serial(oid, tid)
    }

    fn history(&self, oid: Oid, limit: usize) -> Result<Vec<HistoryEntry>> {
        self.inner.history(oid, limit)
    }

    fn transactions(
        &self,
        range: TidRange,
        order: Order,
    ) -> Result<Box<dyn Iterator<Item = Result<TransactionRecord>> + Send>> {
        self.inner.transactions(range, order)
    }

    fn last_transaction(&self) -> Tid {
        match self.bug {
            Bug::EarlyTid => Tid(self.last.load(Ordering::SeqCst)),
            _ => self.inner.last_transaction(),
        }
    }

    fn last_invalidations(&self, count: usize) -> Result<Vec<Invalidation>> {
        self.inner.last_invalidations(count)
    }

    fn current_records(&self, first: Oid) -> Box<dyn Iterator<Item = Result<CurrentRecord>> + Send> {
        self.inner.current_records(first)
    }

    fn new_oids(&self, count: u32) -> Result<Vec<Oid>> {
        let oids = self.inner.new_oids(count)?;
        Ok(if self.bug == Bug::OldOids { oids.into_iter().map(|oid| Oid(100 + oid.0 / 4)).collect() } else { oids })
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn object_count(&self) -> u64 {
        self.inner.object_count()
    }

    fn pack(&self) -> Option<&dyn Pack> {
        Some(self)
    }

    fn begin(&self, meta: TransactionMeta) -> Result<Box<dyn Transaction>> {
        let busy = self.bug == Bug::BusyForNothing && self.calls.fetch_add(1, Ordering::SeqCst).is_multiple_of(3);
        let (inner, storage) = (self.inner.begin(meta)?, self.inner.clone());
        Ok(Box::new(WrongDraft { inner, storage, bug: self.bug, busy, last: Arc::clone(&self.last), oid: Oid::ROOT }))
    }
}

struct WrongDraft {
    inner: Box<dyn Transaction>,
    storage: MemoryStorage,
    bug: Bug,
    busy: bool,
    last: Arc<AtomicU64>,
    oid: Oid,
}

impl Transaction for WrongDraft {
    fn store(&mut self, oid: Oid, serial: Tid, data: Bytes) -> Result<()> {
        self.oid = oid;
        let newest = || self.storage.history(oid, 1).map_or(Tid::ZERO, |entries| entries[0].tid);
        let serial = if self.bug == Bug::LostConflict { newest() } else { serial };
        self.inner.store(oid, serial, data)
    }

    fn delete(&mut self, oid: Oid, serial: Tid) -> Result<()> {
        self.oid = oid;
        self.inner.delete(oid, serial)
    }

    fn check_current(&mut self, oid: Oid, serial: Tid) -> Result<()> {
        self.oid = oid;
        if self.bug == Bug::LostCheck { Ok(()) } else { self.inner.check_current(oid, serial) }
    }

    fn vote(self: Box<Self>) -> Result<Box<dyn Voted>> {
        let WrongDraft { inner, bug, last, .. } = *self;
        Ok(Box::new(WrongVoted { inner: inner.vote()?, bug, last }))
    }

    fn try_vote(mut self: Box<Self>) -> Result<Vote> {
        if std::mem::take(&mut self.busy) {
            let busy = Busy::Object(self.oid);
            return Ok(Vote::Busy(self, busy));
        }
        let WrongDraft { inner, storage, bug, busy, last, oid } = *self;
        Ok(match inner.try_vote()? {
            Vote::Voted(inner) => Vote::Voted(Box::new(WrongVoted { inner, bug, last })),
            Vote::Busy(inner, held) => Vote::Busy(Box::new(WrongDraft { inner, storage, bug, busy, last, oid }), held),
        })
    }
}

struct WrongVoted {
    inner: Box<dyn Voted>,
    bug: Bug,
    last: Arc<AtomicU64>,
}

impl Voted for WrongVoted {
    fn resolved(&self) -> &[Oid] {
        self.inner.resolved()
    }

    fn touched(&self) -> Vec<Oid> {
        self.inner.touched()
    }

    fn finish_with(self: Box<Self>, notify: Notify) -> Result<Tid> {
        let WrongVoted { inner, bug, last } = *self;
        match bug {
            Bug::LateNotify => {
                let tid = inner.finish()?;
                std::thread::yield_now();
                notify(tid);
                Ok(tid)
            }
            Bug::EarlyTid => inner.finish_with(Box::new(move |tid| {
                last.store(tid.0, Ordering::SeqCst);
                notify(tid);
            })),
            _ => inner.finish_with(notify),
        }
    }
}

/// Whether the bug is found within so many runs.
fn found(bug: Bug, runs: u64) -> Option<String> {
    (0..runs).find_map(|seed| run(&Wrong::new(bug), can(), &plan(seed)).err()).map(|failure| failure.to_string())
}

#[test]
fn a_wrapper_without_a_bug_passes() {
    assert_eq!(found(Bug::None, 10), None);
}

#[test]
fn every_bug_is_found() {
    for (bug, runs, says) in [
        (Bug::StaleLoad, 10, ", load "),
        (Bug::LostConflict, 10, "conflict"),
        (Bug::LostCheck, 10, "the rules say of its vote: refused"),
        (Bug::LateNotify, 100, ""),
        (Bug::BusyForNothing, 10, "busy, which nobody held"),
        (Bug::EarlyTid, 100, "last_transaction"),
        (Bug::OldOids, 10, "given out as new twice"),
    ] {
        let Some(failure) = found(bug, runs) else { panic!("{bug:?} was not found") };
        assert!(failure.contains(says), "{bug:?} was found, but by this:\n{failure}");
        println!("{bug:?}:\n{failure}\n");
    }
}

fn found_packing(bug: Bug, runs: u64) -> Option<String> {
    let plan = |seed| Plan { packs: 6, ..plan(seed) };
    (0..runs).find_map(|seed| run(&Wrong::new(bug), packing(), &plan(seed)).err()).map(|failure| failure.to_string())
}

#[test]
fn every_bug_of_a_pack_is_found() {
    assert_eq!(found_packing(Bug::None, 20), None);
    for (bug, says) in [
        (Bug::PacksTooFar, ""),
        (Bug::PacksNothing, ""),
        (Bug::PackLoses, "which can be reached"),
        (Bug::PackForgetsACommit, "load 2"),
        // Those that have nothing to do with packs are found in spite of them.
        (Bug::LostConflict, "conflict"),
        (Bug::LostCheck, "the rules say of its vote: refused"),
        (Bug::StaleLoad, ", load "),
    ] {
        let Some(failure) = found_packing(bug, 20) else { panic!("{bug:?} was not found") };
        assert!(failure.contains(says), "{bug:?} was found, but by this:\n{failure}");
        println!("{bug:?}:\n{failure}\n");
    }
}

/// Found by the threads: a walk over the records that was overtaken by commits showed each record as of another moment.
#[test]
fn a_walk_over_the_records_in_memory_is_of_one_moment() {
    let storage = memory();
    let commit = |serial, number| {
        let mut draft = storage.begin(TransactionMeta::new()).unwrap();
        for oid in [Oid(0), Oid(1)] {
            draft.store(oid, serial, Node { number, ..Node::default() }.encode()).unwrap();
        }
        draft.vote().unwrap().finish().unwrap()
    };
    let first = commit(Tid::ZERO, 1);
    let walk = storage.current_records(Oid::ROOT);
    commit(first, 2);
    assert_eq!(walk.map(|record| record.unwrap().tid).collect::<Vec<_>>(), [first, first]);
}
