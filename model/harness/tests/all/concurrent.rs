//! Many threads on the storage in memory and on the rules; and on storages that are wrong on purpose, each of which
//! must be found out.

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
    Busy, Change, CurrentRecord, Draft, Error, Event, HistoryEntry, Invalidation, Listener, Listeners, Listening,
    Loaded, LoadedAt, ManualClock, MemoryStorage, Oid, Order, Origin, Pack, PackOptions, PackReport, Prepared, Result,
    Storage, Tid, TidRange, TransactionMeta, TransactionRecord, Verdict, Version, Vote, Voted, Waiting,
};
use vellum_sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vellum_sync::{Arc, Mutex};

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(tick(1).time().unwrap_or(Timestamp::UNIX_EPOCH)))
}

fn memory() -> MemoryStorage {
    MemoryStorage::with("memory", clock(), Arc::new(Merger))
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
    hold(Can { undo: true, versions: true, ..can() }, 30, || Box::new(memory()));
}

#[test]
fn what_the_rules_tell_many_threads_has_an_explanation() {
    let rules = || Rules::new(Default::default(), clock(), Arc::new(Merger), Node::references);
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
    let rules = || Rules::new(Default::default(), clock(), Arc::new(Merger), Node::references);
    hold_to(Can { undo: true, ..packing() }, 20, 6, || Box::new(rules()));
}

/// A fault of a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// A record that was loaded once is loaded again a few times, whatever was committed in between.
    StaleLoad,
    /// Stores say that they were made to whatever is there.
    LostConflict,
    /// Dependencies are forgotten.
    LostCheck,
    /// The listener is told when `finish` has returned.
    LateEvent,
    /// The listener is told before the transaction can be read.
    EarlyEvent,
    /// The event names the objects of the transaction before.
    OldEvent,
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
    events: Arc<Events>,
}

/// The fate of the events of the storage in memory.
#[derive(Default)]
struct Events {
    listeners: Listeners,
    /// Held during a finish.
    turn: Mutex<()>,
    kept: Mutex<Vec<Event>>,
}

impl Events {
    fn tell(&self, event: &Event) {
        self.listeners.tell(|| event.clone());
    }
}

impl Pack for Wrong {
    fn pack(&self, to: Tid, how: PackOptions) -> Result<PackReport> {
        self.packed.store(true, Ordering::SeqCst);
        match self.bug {
            Bug::PacksNothing => Ok(PackReport::default()),
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
            events: Arc::default(),
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

    fn begin(&self, meta: TransactionMeta) -> Result<Draft> {
        self.inner.begin(meta)
    }

    fn attempt(&self, waiting: Waiting) -> Result<Vote> {
        let oid = waiting.draft().changes().iter().find_map(Change::target).map_or(Oid::ROOT, |(oid, _)| oid);
        if self.bug == Bug::BusyForNothing && self.calls.fetch_add(1, Ordering::SeqCst).is_multiple_of(3) {
            return Ok(Vote::Busy(Box::new(Waiting::unqueued(waiting.into_draft(), Busy::Object(oid)))));
        }
        let waiting = if [Bug::LostConflict, Bug::LostCheck].contains(&self.bug) {
            self.without_looking(waiting.into_draft())?.into()
        } else {
            waiting
        };
        let (bug, origin) = (self.bug, waiting.draft().origin());
        let (storage, last, events) = (self.inner.clone(), Arc::clone(&self.last), Arc::clone(&self.events));
        Ok(match self.inner.attempt(waiting)? {
            Vote::Voted(inner) => {
                let (touched, merged) = (inner.touched().to_vec(), inner.merged().to_vec());
                Vote::Voted(Voted::new(touched, merged, WrongVoted { inner, storage, bug, origin, last, events }))
            }
            busy => busy,
        })
    }

    fn listen(&self, listener: Arc<dyn Listener>) -> Listening {
        match self.bug {
            Bug::LateEvent | Bug::EarlyEvent | Bug::OldEvent => self.events.listeners.add(listener),
            _ => self.inner.listen(listener),
        }
    }
}

impl Wrong {
    /// The same draft for the newest serials, or without what it depends on.
    fn without_looking(&self, draft: Draft) -> Result<Draft> {
        let newest = |oid| self.inner.history(oid, 1).map_or(Tid::ZERO, |entries| entries[0].tid);
        let origin = draft.origin();
        let (meta, _, changes) = draft.into_parts();
        let mut wrong = Draft::new(meta);
        wrong.set_origin(origin);
        for change in changes {
            match change {
                Change::CheckCurrent { .. } if self.bug == Bug::LostCheck => {}
                Change::Store { oid, version, data, .. } if self.bug == Bug::LostConflict => {
                    wrong.push(Change::Store { oid, serial: newest(oid), version, data })?;
                }
                other => wrong.push(other)?,
            }
        }
        Ok(wrong)
    }
}

struct WrongVoted {
    inner: Voted,
    storage: MemoryStorage,
    bug: Bug,
    origin: Origin,
    last: Arc<AtomicU64>,
    events: Arc<Events>,
}

impl Prepared for WrongVoted {
    fn verdict(&self) -> Result<Verdict> {
        self.inner.verdict()
    }

    fn finish(self: Box<Self>) -> Result<Tid> {
        let WrongVoted { inner, storage, bug, origin, last, events } = *self;
        let _turn = events.turn.lock();
        let tid = TransactionMeta::new().tid_after(storage.last_transaction(), &*clock())?;
        let event = Event::Committed { tid, oids: inner.touched().to_vec(), origin };
        let mut kept = events.kept.lock();
        match bug {
            Bug::EarlyTid => last.store(tid.0, Ordering::SeqCst),
            Bug::EarlyEvent => events.tell(&event),
            Bug::LateEvent => kept.drain(..).for_each(|earlier| events.tell(&earlier)),
            _ => {}
        }
        std::thread::yield_now();
        inner.finish()?;
        match (bug, &event) {
            (Bug::LateEvent, _) => kept.push(event),
            (Bug::OldEvent, Event::Committed { oids, .. }) => {
                let earlier = kept.pop();
                if let Some(Event::Committed { oids, .. }) = earlier {
                    events.tell(&Event::Committed { tid, oids, origin });
                } else {
                    events.tell(&event);
                }
                kept.push(Event::Committed { tid, oids: oids.clone(), origin });
            }
            _ => {}
        }
        Ok(tid)
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
        (Bug::LateEvent, 10, "the listener was told"),
        (Bug::EarlyEvent, 100, ""),
        (Bug::OldEvent, 10, "the listener was told"),
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
        storage.vote(draft).unwrap().finish().unwrap()
    };
    let first = commit(Tid::ZERO, 1);
    let walk = storage.current_records(Oid::ROOT);
    commit(first, 2);
    assert_eq!(walk.map(|record| record.unwrap().tid).collect::<Vec<_>>(), [first, first]);
}
