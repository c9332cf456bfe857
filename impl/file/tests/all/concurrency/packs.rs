//! Commits while the file is packed: each tricky moment by itself, as often as it takes; and many threads at once.
//! Every acknowledged commit is there, and relinked objects are not lost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::packs::*;
use crate::common::told::{Before, told};
use crate::common::*;
use vellum_disk::SimDisk;
use vellum_file::{FileStorage, Options, Packing};
use vellum_harness::node::Node;
use vellum_storage::{
    Bulk, Draft, Error, Oid, Order, Refusal, Result, Revision, Status, Tid, TidRange, TransactionMeta,
    TransactionRecord, Version, Voted,
};

const COLLECT: Packing = Packing::new().collect(true);
const MOMENTS: [At; 5] = [At::Begins, At::Transaction, At::Record, At::Ends, At::Ready];
const DRAFT: &str = "draft";

/// The revision that the trunk shows: a number, and references; or a tombstone.
type Shown = Option<(u8, Vec<u64>)>;

/// A database with garbage: the root knows 1 and 6, and 1 knows 5; no object knows 2, 3 and 4. 1, 5, 2 and 6 were
/// changed, and 5 and 4 are in a version, and the trunk shows other revisions of them.
struct Garbage {
    disk: SimDisk,
    storage: FileStorage,
    /// When 1 was changed, and 2, and 6; and the last before the pack's time.
    first: Tid,
    second: Tid,
    sixth: Tid,
    to: Tid,
    /// After the pack's time 1 was changed.
    later: Tid,
}

impl Garbage {
    fn new() -> Garbage {
        let (disk, clock) = (SimDisk::new(1), SharedClock::new());
        let storage = alone(&disk, &clock).create(PATH).unwrap();
        link(&storage, 1, &[(0, &[1, 6]), (1, &[5]), (2, &[3]), (3, &[]), (4, &[3]), (5, &[]), (6, &[])]).unwrap();
        let first = link(&storage, 2, &[(1, &[5]), (5, &[])]).unwrap();
        let second = link(&storage, 2, &[(2, &[3])]).unwrap();
        let sixth = link(&storage, 2, &[(6, &[])]).unwrap();
        store_in(&storage, DRAFT, 5, 3, &[]).unwrap();
        let to = store_in(&storage, "other", 4, 3, &[3]).unwrap();
        let later = link(&storage, 3, &[(1, &[5])]).unwrap();
        Garbage { disk, storage, first, second, sixth, to, later }
    }

    /// Packs, and does this once, at this moment of the first attempt; how often the pack began.
    fn meanwhile(&self, at: At, mut what: impl FnMut(&FileStorage)) -> u32 {
        let (mut begun, mut done) = (0, false);
        let mut watch = Meanwhile::new(|seen| {
            begun = seen.begins;
            if seen.begins == 1 && seen.at == at && !done {
                done = true;
                what(&self.storage);
            }
            Ok(())
        });
        self.storage.pack_with(self.to, COLLECT, &mut watch).unwrap_or_else(|e| panic!("{at:?}: {e}"));
        drop(watch);
        assert!(done, "there was no such moment: {at:?}");
        begun
    }

    /// Nothing is wrong with it, and it is found again as it is.
    fn is_sound(&self, what: &str) {
        let (answers, clock) = (dump(&self.storage), SharedClock::new());
        for found in [self.disk.crash_losing_everything(), self.disk.crash_keeping_everything()] {
            let options = alone(&found, &clock);
            assert_eq!(problems(&options.clone().read_only(), PATH), [], "{what}");
            assert_eq!(dump(&options.open(PATH).unwrap()), answers, "{what}");
            remove(&found, "Data.fs.index");
            assert_eq!(dump(&options.open(PATH).unwrap()), answers, "{what}: without the index");
        }
        // Commits, and packs, go on.
        link(&self.storage, 77, &[(60, &[])]).unwrap();
        unwatched(&self.storage, self.storage.last_transaction(), COLLECT).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(loaded(&self.storage, 1), Some((loaded(&self.storage, 1).unwrap().0, vec![5])), "{what}");
    }
}

/// Does it in another thread, which must end while this one waits.
fn elsewhere(what: impl FnOnce() + Send) {
    std::thread::scope(|scope| scope.spawn(what).join().unwrap());
}

#[test]
fn what_was_garbage_and_is_linked_again_makes_the_pack_begin_again() {
    for at in MOMENTS {
        for thread in [false, true] {
            let garbage = Garbage::new();
            let begun = garbage.meanwhile(at, |storage| {
                let relink = || {
                    link(storage, 9, &[(0, &[1, 2])]).unwrap();
                };
                if thread { elsewhere(relink) } else { relink() }
            });
            assert_eq!(begun, 2, "{at:?}");
            let storage = &garbage.storage;
            assert_eq!(loaded(storage, 0), Some((9, vec![1, 2])), "{at:?}");
            assert_eq!((loaded(storage, 2), loaded(storage, 3)), (Some((2, vec![3])), Some((1, vec![]))), "{at:?}");
            assert_eq!(loaded(storage, 4), None, "{at:?}: the other garbage went");
            garbage.is_sound(&format!("{at:?}"));
        }
    }
}

/// Each of these is done while the pack runs; and whether the pack has to restart.
#[test]
fn all_that_can_be_committed_during_a_pack_is_there_after_it() {
    type Done = fn(&Garbage) -> Result<Tid>;
    let cases: [(&str, u32, Done, u64, Shown); 12] = [
        ("a new object", 1, |g| link(&g.storage, 9, &[(50, &[])]), 50, Some((9, vec![]))),
        ("a new object that refers to what stays", 1, |g| link(&g.storage, 9, &[(50, &[5])]), 50, Some((9, vec![5]))),
        ("a new object that refers to garbage", 2, |g| link(&g.storage, 9, &[(50, &[2])]), 3, Some((1, vec![]))),
        ("a change of what is garbage", 2, |g| link(&g.storage, 9, &[(2, &[3])]), 3, Some((1, vec![]))),
        (
            "a change of what stays",
            1,
            |g| link(&g.storage, 9, &[(5, &[])]).or_else(|_| link(&g.storage, 9, &[(1, &[5])])),
            1,
            Some((9, vec![5])),
        ),
        ("the undo of what is as old as the pack", 2, |g| undo_of(&g.storage, g.second), 2, Some((1, vec![3]))),
        ("the undo of what is as old, and stays", 2, |g| undo_of(&g.storage, g.sixth), 6, Some((1, vec![]))),
        ("the undo of what is later", 1, |g| undo_of(&g.storage, g.later), 1, Some((2, vec![5]))),
        ("the end of a version that stays", 1, |g| end(&g.storage, DRAFT, true), 5, Some((3, vec![]))),
        ("a version is given up that stays", 1, |g| end(&g.storage, DRAFT, false), 5, Some((2, vec![]))),
        ("the end of a version that is garbage", 2, |g| end(&g.storage, "other", true), 4, Some((3, vec![3]))),
        ("a version is given up that is garbage", 2, |g| end(&g.storage, "other", false), 4, Some((1, vec![3]))),
    ];
    for (name, begins, what, oid, expected) in cases {
        for at in MOMENTS {
            let garbage = Garbage::new();
            let mut tid = Tid::ZERO;
            let begun = garbage.meanwhile(at, |_| tid = what(&garbage).unwrap());
            let what = format!("{name}, {at:?}");
            assert_eq!(begun, begins, "{what}");
            assert_eq!(loaded(&garbage.storage, oid), expected, "{what}");
            assert_eq!(garbage.storage.last_transaction(), tid, "{what}");
            garbage.is_sound(&what);
        }
    }
}

fn undo_of(storage: &FileStorage, tid: Tid) -> Result<Tid> {
    storage.commit(drafted_undo(storage, tid)?)
}

fn drafted_undo(storage: &FileStorage, tid: Tid) -> Result<Draft> {
    let mut draft = storage.begin(TransactionMeta::new())?;
    draft.undo(tid)?;
    Ok(draft)
}

fn end(storage: &FileStorage, version: &str, commits: bool) -> Result<Tid> {
    ended(storage, version, commits)?.finish()
}

fn ended(storage: &FileStorage, version: &str, commits: bool) -> Result<Voted> {
    let mut draft = storage.begin(TransactionMeta::new())?;
    let version = Version::named(version.to_owned());
    if commits {
        draft.commit_version(&version, &Version::TRUNK)?
    } else {
        draft.abort_version(&version)?
    }
    storage.vote(draft)
}

fn voted(storage: &FileStorage, objects: &[(u64, &[u64])]) -> Result<Voted> {
    let mut draft = storage.begin(TransactionMeta::new())?;
    for (oid, to) in objects {
        draft.store(Oid(*oid), serial(storage, Oid(*oid)), node(9, to))?;
    }
    storage.vote(draft)
}

/// A vote is a promise: whenever it is given, and whenever it is kept, before, during or after a pack.
#[test]
fn what_was_voted_is_finished_as_it_was_voted() {
    type Vote = fn(&Garbage) -> Result<Voted>;
    let cases: [(&str, Vote, u64, Shown); 10] = [
        ("a link to garbage", |g| voted(&g.storage, &[(0, &[1, 2])]), 3, Some((1, vec![]))),
        ("a change of garbage", |g| voted(&g.storage, &[(2, &[3])]), 3, Some((1, vec![]))),
        ("a new object", |g| voted(&g.storage, &[(50, &[51]), (51, &[50])]), 51, Some((9, vec![50]))),
        ("an undo of what is as old", |g| g.storage.vote(drafted_undo(&g.storage, g.second)?), 2, Some((1, vec![3]))),
        (
            "an undo of what is as old, and stays",
            |g| g.storage.vote(drafted_undo(&g.storage, g.sixth)?),
            6,
            Some((1, vec![])),
        ),
        ("an undo of what is later", |g| g.storage.vote(drafted_undo(&g.storage, g.later)?), 1, Some((2, vec![5]))),
        ("the end of a version", |g| ended(&g.storage, DRAFT, true), 5, Some((3, vec![]))),
        ("a version given up", |g| ended(&g.storage, DRAFT, false), 5, Some((2, vec![]))),
        ("the end of a version of garbage", |g| ended(&g.storage, "other", true), 4, Some((3, vec![3]))),
        ("a version of garbage given up", |g| ended(&g.storage, "other", false), 4, Some((1, vec![3]))),
    ];
    // None: before the pack, or after it.
    let moments = || [None].into_iter().chain(MOMENTS.map(Some));
    let mut counted = 0;
    for (name, vote, oid, expected) in cases {
        for votes in moments() {
            for finishes in moments().filter(|finishes| finishes.is_none() || *finishes >= votes) {
                let garbage = Garbage::new();
                let what = format!("{name}, voted at {votes:?}, finished at {finishes:?}");
                let mut ready = if votes.is_none() { Some(vote(&garbage).unwrap()) } else { None };
                let (mut has_voted, mut tid) = (votes.is_none(), None);
                let mut watch = Meanwhile::new(|seen| {
                    if !has_voted && votes == Some(seen.at) {
                        has_voted = true;
                        ready = Some(vote(&garbage).unwrap());
                    }
                    if finishes == Some(seen.at)
                        && let Some(voted) = ready.take()
                    {
                        tid = Some(voted.finish().unwrap());
                    }
                    Ok(())
                });
                garbage.storage.pack_with(garbage.to, COLLECT, &mut watch).unwrap_or_else(|e| panic!("{what}: {e}"));
                drop(watch);
                let tid =
                    tid.unwrap_or_else(|| ready.take().unwrap().finish().unwrap_or_else(|e| panic!("{what}: {e}")));
                assert_eq!(garbage.storage.last_transaction(), tid, "{what}");
                assert_eq!(loaded(&garbage.storage, oid), expected, "{what}");
                garbage.is_sound(&what);
                counted += 1;
            }
        }
        // One that is given up leaves nothing, and what it held goes with the next pack at the latest.
        let garbage = Garbage::new();
        let ready = vote(&garbage).unwrap();
        unwatched(&garbage.storage, garbage.to, COLLECT).unwrap();
        let before = dump(&garbage.storage);
        drop(ready);
        assert_eq!(dump(&garbage.storage), before, "{name}");
        unwatched(&garbage.storage, garbage.to, COLLECT).unwrap();
        assert!([2, 3, 4, 50].into_iter().all(|oid| loaded(&garbage.storage, oid).is_none()), "{name}");
        garbage.is_sound(name);
    }
    println!("{counted} votes");
}

/// A draft from before a pack that is voted on after it is judged by the database after it.
#[test]
fn a_draft_that_a_pack_overtook_is_judged_by_what_is_there() {
    let garbage = Garbage::new();
    let storage = &garbage.storage;
    let mut of_garbage = storage.begin(TransactionMeta::new()).unwrap();
    of_garbage.store(Oid(2), garbage.second, node(9, &[])).unwrap();
    let mut deletes = storage.begin(TransactionMeta::new()).unwrap();
    deletes.delete(Oid(3), serial(storage, Oid(3))).unwrap();
    let mut depends = storage.begin(TransactionMeta::new()).unwrap();
    depends.check_current(Oid(2), garbage.second).unwrap();
    depends.store(Oid(60), Tid::ZERO, node(9, &[])).unwrap();
    let mut fine = storage.begin(TransactionMeta::new()).unwrap();
    fine.check_current(Oid(1), garbage.later).unwrap();
    fine.store(Oid(0), serial(storage, Oid(0)), node(9, &[1])).unwrap();
    let old = drafted_undo(storage, garbage.first).unwrap();
    let later = drafted_undo(storage, garbage.later).unwrap();
    unwatched(storage, garbage.to, COLLECT).unwrap();
    assert!(matches!(storage.vote(of_garbage).map(drop), Err(Error::Refused(Refusal::Conflict { oid: Oid(2), .. }))));
    assert!(matches!(
        storage.vote(deletes).map(drop),
        Err(Error::Refused(Refusal::UnknownObject { oid: Oid(3) } | Refusal::Conflict { oid: Oid(3), .. }))
    ));
    assert!(matches!(storage.vote(depends).map(drop), Err(Error::Refused(Refusal::UnknownObject { oid: Oid(2) }))));
    match storage.vote(old).map(drop) {
        Err(Error::Refused(Refusal::NotUndoable { tid })) => assert_eq!(tid, garbage.first),
        other => panic!("{other:?}"),
    }
    storage.commit(later).unwrap();
    assert_eq!(loaded(storage, 1), Some((2, vec![5])));
    assert!(matches!(storage.vote(fine).map(drop), Err(Error::Refused(Refusal::ReadConflict { oid: Oid(1), .. }))));
    garbage.is_sound("");
}

/// Transactions are copied in while the file is packed; also ones that were packed elsewhere, which have no past.
#[test]
fn transactions_that_are_copied_in_during_a_pack() {
    for status in [Status::Complete, Status::Packed] {
        for at in MOMENTS {
            // An existing, needed object; garbage; and a new one.
            for oid in [1, 5, 2, 70] {
                for last in [false, true] {
                    let garbage = Garbage::new();
                    let what = format!("{status:?}, {at:?}, object {oid}, at the last such moment: {last}");
                    let transaction = |tid| TransactionRecord {
                        tid,
                        status,
                        user: Default::default(),
                        description: Default::default(),
                        extension: Default::default(),
                        revisions: vec![Revision {
                            oid: Oid(oid),
                            version: Version::TRUNK,
                            data: Some(node(8, &[5])),
                            blob: None,
                            source: None,
                            base: None,
                        }],
                    };
                    let mut left = if last { 1 + moments_of(at) } else { 1 };
                    let mut tid = Tid::ZERO;
                    let mut watch = Meanwhile::new(|seen| {
                        if seen.at == at {
                            left -= i32::from(left > 0);
                            if left == i32::from(last) && tid == Tid::ZERO {
                                tid = garbage.storage.last_transaction().next();
                                garbage.storage.copy_in(vec![transaction(tid)])?;
                            }
                        }
                        Ok(())
                    });
                    let packed = garbage.storage.pack_with(garbage.to, COLLECT, &mut watch);
                    packed.unwrap_or_else(|e| panic!("{what}: {e}"));
                    drop(watch);
                    assert_eq!(
                        (garbage.storage.last_transaction(), loaded(&garbage.storage, oid)),
                        (tid, Some((8, vec![5]))),
                        "{what}"
                    );
                    let newest =
                        garbage.storage.transactions(TidRange::ALL, Order::NewestFirst).unwrap().next().unwrap();
                    assert_eq!(newest.unwrap().status, status, "{what}");
                    assert_eq!(loaded(&garbage.storage, 0), Some((1, vec![1, 6])), "{what}");
                    let options = alone(&garbage.disk, &SharedClock::new()).read_only();
                    assert_eq!(format_problems(&options, PATH), [], "{what}");
                }
            }
        }
    }
}

/// The number of such moments in a pack of that database.
fn moments_of(at: At) -> i32 {
    let garbage = Garbage::new();
    let mut count = 0;
    let mut watch = Meanwhile::new(|seen| {
        count += i32::from(seen.at == at);
        Ok(())
    });
    garbage.storage.pack_with(garbage.to, COLLECT, &mut watch).unwrap();
    drop(watch);
    count
}

/// Twice a transaction needs a revision that would have been discarded. The third time all commits have to wait, and
/// then the pack ends.
#[test]
fn the_third_attempt_holds_back_the_commits() {
    let garbage = Garbage::new();
    let (storage, begun) = (&garbage.storage, AtomicU64::new(0));
    std::thread::scope(|scope| {
        let (mut waiting, mut last) = (Vec::new(), Tid::ZERO);
        let mut watch = Meanwhile::new(|seen| {
            begun.store(seen.begins.into(), Ordering::SeqCst);
            match (seen.begins, seen.at) {
                (1, At::Ready) => {
                    link(storage, 9, &[(0, &[1, 4])]).unwrap();
                }
                (2, At::Ready) => {
                    // In a thread that must end before this one continues.
                    elsewhere(|| {
                        link(storage, 9, &[(50, &[2])]).unwrap();
                    });
                }
                (3, At::Begins) => {
                    last = storage.last_transaction();
                    // They wait, whatever they want.
                    waiting.push(scope.spawn(|| link(storage, 9, &[(51, &[])])));
                    waiting.push(scope.spawn(|| link(storage, 9, &[(1, &[5])])));
                    waiting.push(scope.spawn(|| undo_of(storage, garbage.later)));
                }
                (3, _) => {
                    // Loads do not.
                    assert_eq!(storage.last_transaction(), last);
                    assert_eq!(loaded(storage, 0), Some((9, vec![1, 4])));
                }
                _ => {}
            }
            Ok(())
        });
        storage.pack_with(garbage.to, COLLECT, &mut watch).unwrap();
        drop(watch);
        let done: Vec<_> = waiting.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(done[0].is_ok() && (done[1].is_ok() || done[2].is_ok()), "{done:?}");
    });
    assert_eq!(begun.into_inner(), 3);
    assert_eq!(loaded(storage, 51), Some((9, vec![])));
    assert_eq!(
        (loaded(storage, 4), loaded(storage, 2), loaded(storage, 3)),
        (Some((1, vec![3])), Some((2, vec![3])), Some((1, vec![])))
    );
    garbage.is_sound("");
}

/// A walk over the file ends with the file in which it began.
#[test]
fn walks_that_a_pack_overtakes_go_on() {
    let garbage = Garbage::new();
    let storage = &garbage.storage;
    let whole =
        || -> Vec<_> { storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap().map(|t| t.unwrap()).collect() };
    let records = || -> Vec<_> { storage.current_records(Oid::ROOT).map(|r| r.unwrap()).collect() };
    let expected = (whole(), records());
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let mut walk = storage.transactions(TidRange::ALL, order).unwrap();
        let mut current = storage.current_records(Oid::ROOT);
        let (first, record) = (walk.next().unwrap().unwrap(), current.next().unwrap().unwrap());
        unwatched(storage, garbage.to, COLLECT).unwrap();
        let mut all: Vec<_> = [first].into_iter().chain(walk.map(|t| t.unwrap())).collect();
        let now: Vec<_> = [record].into_iter().chain(current.map(|r| r.unwrap())).collect();
        if order == Order::OldestFirst {
            assert_eq!((all, now), expected);
        } else {
            all.reverse();
            assert_eq!((all, now), (whole(), records()));
        }
    }
    assert!(whole().len() < expected.0.len());
}

// Many threads.

const THREADS: u64 = 8;
const ITEMS: u64 = 6;

/// The state of a thread's own part of the database, which no other thread changes: a folder, known to the root, and
/// items, each of which knows a leaf.
#[derive(Clone, Debug, Default)]
struct Part {
    number: u8,
    linked: BTreeSet<u64>,
    /// The numbers of items; of those that are not linked, if they are still there.
    numbers: BTreeMap<u64, u8>,
    in_version: Option<(u64, u8)>,
}

struct Worker<'a> {
    storage: &'a FileStorage,
    clock: &'a SharedClock,
    /// The times of the packs so far, announced before they begin.
    packed: &'a AtomicU64,
    thread: u64,
    dice: Dice,
    part: Part,
    /// The acknowledged states, and those before.
    past: Vec<(Tid, Part)>,
    counts: BTreeMap<&'static str, u64>,
}

/// The room of the file that a pack replaced is given back, but not while a reader has it.
#[test]
fn a_replaced_file_is_given_back_after_its_last_reader() {
    let (disk, clock) = (SimDisk::new(0), SharedClock::new());
    let (gives, hears) = channel();
    let gives = Mutex::new(gives);
    let before: Before = Arc::new(move |what, _, _| {
        if what == "give back" {
            gives.lock().unwrap().send(()).unwrap();
        }
    });
    let storage = told(&disk, &clock, before).threads(2).create(PATH).unwrap();
    for number in [b"1", b"2"] {
        commit(&storage, "", &[(0, Some(record(number)))]).unwrap();
    }
    let mut reader = storage.current_records(Oid::ROOT);
    let packed = unwatched(&storage, Tid::MAX, Packing::default()).unwrap();
    assert!(packed.after.bytes < packed.before.bytes);
    // The reader has the old generation, so no thread could give anything back.
    assert!(hears.try_recv().is_err());
    assert_eq!(reader.next().unwrap().unwrap().data, record(b"2"));
    drop(reader);
    hears.recv_timeout(Duration::from_secs(60)).unwrap();
    drop(storage);
    assert!(hears.try_recv().is_err());
}

fn folder(thread: u64) -> u64 {
    100 * (thread + 1)
}

impl Worker<'_> {
    fn version(&self) -> Version {
        Version::named(format!("of {}", self.thread))
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn folder_record(part: &Part) -> bytes::Bytes {
        node(part.number, &part.linked.iter().copied().collect::<Vec<_>>())
    }

    fn store(&self, draft: &mut Draft, oid: u64, record: bytes::Bytes) -> Result<()> {
        draft.store(Oid(oid), serial(self.storage, Oid(oid)), record)
    }

    /// Changes something; none if there is nothing to change.
    fn change(&mut self) -> Option<(&'static str, Part, Result<Tid>)> {
        let item = folder(self.thread) + 1 + self.dice.roll(ITEMS);
        let (leaf, number) = (item + 50, self.dice.roll(250) as u8);
        let mut part = self.part.clone();
        let linked = part.linked.contains(&item);
        let in_version = part.in_version.is_some_and(|(other, _)| other == item);
        let mut draft = self.storage.begin(TransactionMeta::new()).unwrap();
        let roll = self.dice.roll(12);
        let (what, asked): (_, Result<()>) = match roll {
            0..4 if !linked => {
                part.linked.insert(item);
                part.number = number;
                match self.storage.load(Oid(item), &Version::TRUNK) {
                    Ok(found) => {
                        // It is garbage, or will be: only if it is still there may it be linked.
                        assert_eq!(Some(&Node::decode(&found.data).unwrap().number), part.numbers.get(&item));
                        let asked = draft.check_current(Oid(item), found.tid);
                        let record = Self::folder_record(&part);
                        ("linked again", asked.and_then(|()| self.store(&mut draft, folder(self.thread), record)))
                    }
                    Err(Error::KeyError { .. }) => {
                        part.numbers.insert(item, number);
                        let asked = self.store(&mut draft, item, node(number, &[leaf]));
                        let asked = asked.and_then(|()| self.store(&mut draft, leaf, node(1, &[])));
                        let record = Self::folder_record(&part);
                        ("made", asked.and_then(|()| self.store(&mut draft, folder(self.thread), record)))
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            4..6 if linked && !in_version => {
                part.linked.remove(&item);
                part.number = number;
                ("unlinked", self.store(&mut draft, folder(self.thread), Self::folder_record(&part)))
            }
            6..8 if linked && !in_version => {
                part.numbers.insert(item, number);
                ("changed", self.store(&mut draft, item, node(number, &[leaf])))
            }
            8 if linked && part.in_version.is_none_or(|(other, _)| other == item) => {
                part.in_version = Some((item, number));
                let serial = serial(self.storage, Oid(item));
                ("in a version", draft.store_in(&self.version(), Oid(item), serial, node(number, &[leaf])))
            }
            9 => {
                let (item, number) = part.in_version.take()?;
                if self.dice.roll(2) == 0 {
                    part.numbers.insert(item, number);
                    ("version committed", draft.commit_version(&self.version(), &Version::TRUNK))
                } else {
                    ("version aborted", draft.abort_version(&self.version()))
                }
            }
            10..12 => {
                let (tid, before) = self.past.last()?.clone();
                part = before;
                ("undone", draft.undo(tid))
            }
            _ => return None,
        };
        let done = asked.and_then(|()| {
            let voted = self.storage.vote(draft)?;
            (0..self.dice.roll(4)).for_each(|_| std::thread::yield_now());
            voted.finish()
        });
        Some((what, part, done))
    }

    fn step(&mut self) {
        self.clock.tick();
        let Some((what, part, done)) = self.change() else { return };
        match done {
            Ok(tid) => {
                let before = std::mem::replace(&mut self.part, part);
                self.past.push((tid, before));
                self.count(what);
            }
            Err(error) => {
                // A pack may have removed garbage, and the past of an undone transaction. There is no other reason.
                let packed = Tid(self.packed.load(Ordering::SeqCst));
                let may = match (what, &error) {
                    ("linked again" | "made", Error::KeyError { .. } | Error::Refused(Refusal::Conflict { .. })) => {
                        true
                    }
                    ("linked again", Error::Refused(Refusal::ReadConflict { .. } | Refusal::UnknownObject { .. })) => {
                        true
                    }
                    (
                        "undone",
                        Error::Refused(Refusal::NotUndoable { .. }) | Error::Refused(Refusal::UndoConflict { .. }),
                    ) => self.past.last().is_some_and(|(tid, _)| *tid <= packed),
                    _ => false,
                };
                assert!(may, "{what}, packed to {packed}: {error}");
                if what == "undone" {
                    self.past.clear();
                }
                self.count("refused");
            }
        }
        self.look();
        if self.dice.roll(4) == 0 {
            self.walk();
        }
    }

    /// Every acknowledged commit is there.
    fn look(&self) {
        let found = self.storage.load(Oid(folder(self.thread)), &Version::TRUNK).unwrap();
        assert!(
            found.data == Self::folder_record(&self.part),
            "{:?} instead of {:?}",
            Node::decode(&found.data),
            self.part
        );
        for item in &self.part.linked {
            let number = |version: &Version| {
                let found = self.storage.load(Oid(*item), version);
                Node::decode(&found.unwrap_or_else(|e| panic!("{e}: {:?}", self.part)).data).unwrap().number
            };
            assert_eq!(number(&Version::TRUNK), self.part.numbers[item], "{item} {:?}", self.part);
            if let Some((_, there)) = self.part.in_version.filter(|(other, _)| other == item) {
                assert_eq!(number(&self.version()), there, "{item} {:?}", self.part);
            }
            self.storage.load(Oid(item + 50), &Version::TRUNK).unwrap_or_else(|e| panic!("{e}: the leaf of {item}"));
        }
    }

    /// Every object that can be reached from the root at this moment is there, unless a later pack has passed it.
    fn walk(&mut self) {
        let moment = self.storage.last_transaction();
        match reach(self.storage, moment) {
            Ok(count) => {
                self.count("walks");
                assert!(count > THREADS as usize);
            }
            Err(lost) => {
                let packed = Tid(self.packed.load(Ordering::SeqCst));
                assert!(packed > moment, "at {moment}, packed to {packed}: {lost}");
                self.count("overtaken walks");
            }
        }
    }
}

/// How many objects the root leads to at a moment; or which is not there.
fn reach(storage: &FileStorage, moment: Tid) -> Result<usize, String> {
    let (mut seen, mut next) = (BTreeSet::from([0]), vec![0]);
    while let Some(oid) = next.pop() {
        match storage.load_before(Oid(oid), moment.next()) {
            Ok(Some(found)) => next.extend(Node::references(&found.data).into_iter().filter(|oid| seen.insert(*oid))),
            other => return Err(format!("{oid}: {other:?}")),
        }
    }
    Ok(seen.len())
}

/// Runs them; returns the state of each at the end, the acknowledged commits, and the time of the last pack.
fn loose(
    storage: &FileStorage,
    clock: &SharedClock,
    seed: u64,
    steps: u64,
    packs_max: u64,
) -> BTreeMap<&'static str, u64> {
    let folders: Vec<u64> = (0..THREADS).map(folder).collect();
    let mut first: Vec<(u64, &[u64])> = folders.iter().map(|oid| (*oid, &[][..])).collect();
    first.push((0, &folders));
    link(storage, 0, &first).unwrap();
    let (packed, working) = (AtomicU64::new(0), AtomicU64::new(THREADS));
    let all = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        let (packed, working, all) = (&packed, &working, &all);
        for thread in 0..THREADS {
            scope.spawn(move || {
                struct Leaves<'a>(&'a AtomicU64);
                impl Drop for Leaves<'_> {
                    fn drop(&mut self) {
                        self.0.fetch_sub(1, Ordering::SeqCst);
                    }
                }
                let _leaves = Leaves(working);
                let (part, dice) = (Part::default(), Dice(seed << 8 | thread));
                let mut worker =
                    Worker { storage, clock, packed, thread, dice, part, past: Vec::new(), counts: BTreeMap::new() };
                for _ in 0..steps {
                    worker.step();
                }
                // Nothing is left in its version.
                if let Some((item, number)) = worker.part.in_version.take() {
                    let tid = end(storage, &format!("of {thread}"), true).unwrap();
                    worker.past.push((tid, worker.part.clone()));
                    worker.part.numbers.insert(item, number);
                }
                worker.look();
                let mut all = all.lock().unwrap();
                worker.counts.into_iter().for_each(|(what, count)| *all.entry(what).or_default() += count);
                *all.entry("acknowledged").or_default() += worker.past.len() as u64;
                let there: BTreeSet<Tid> = tids(storage).into_iter().collect();
                let packed = Tid(packed.load(Ordering::SeqCst));
                for (tid, _) in worker.past.iter().filter(|(tid, _)| *tid > packed) {
                    assert!(there.contains(tid), "{tid} is not there, packed to {packed}");
                }
            });
        }
        let mut dice = Dice(seed ^ 0xabcd);
        let mut packs = 0;
        while working.load(Ordering::SeqCst) > 0 && packs < packs_max {
            let last = storage.last_transaction();
            let known = tids(storage);
            let to = if dice.roll(2) == 0 { last } else { known[dice.roll(known.len() as u64) as usize] };
            packed.fetch_max(to.0, Ordering::SeqCst);
            let how = Packing::new().collect(dice.roll(4) > 0).keep_old(dice.roll(5) == 0);
            let mut begun = 0;
            let mut watch = Meanwhile::new(|seen| {
                begun = seen.begins;
                std::thread::yield_now();
                Ok(())
            });
            let report = storage.pack_with(to, how, &mut watch).unwrap_or_else(|e| panic!("pack {packs} to {to}: {e}"));
            drop(watch);
            assert_eq!(report.dangling, []);
            packs += 1;
            let mut all = all.lock().unwrap();
            *all.entry("packs").or_default() += 1;
            *all.entry("packs that began again").or_default() += u64::from(begun > 1);
            *all.entry("packs that made it smaller").or_default() +=
                u64::from(report.after.bytes < report.before.bytes);
        }
    });
    // All that is reachable at each moment since the last pack.
    let packed = Tid(packed.into_inner());
    for moment in tids(storage).into_iter().filter(|tid| *tid >= packed) {
        reach(storage, moment).unwrap_or_else(|lost| panic!("at {moment}, packed to {packed}: {lost}"));
    }
    all.into_inner().unwrap()
}

fn is_found_again(storage: FileStorage, options: &Options, path: &Path) {
    let answers = dump(&storage);
    drop(storage);
    assert_eq!(problems(&options.clone().read_only(), path.to_str().unwrap()), []);
    let open = || options.open(path).unwrap();
    assert_eq!(dump(&open()), answers, "with the index");
    let mut index = path.as_os_str().to_owned();
    index.push(".index");
    vellum_disk::Disk::remove(&vellum_disk::RealDisk, Path::new(&index)).ok();
    assert_eq!(dump(&open()), answers);
}

#[test]
fn many_threads_commit_while_one_packs() {
    let mut total: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..60 {
        let (disk, clock) = (SimDisk::new(seed), SharedClock::new());
        let options = options(&disk, &clock).threads(2);
        let storage = options.create(PATH).unwrap();
        let counts = loose(&storage, &clock, seed, 80, u64::MAX);
        counts.into_iter().for_each(|(what, count)| *total.entry(what).or_default() += count);
        let answers = dump(&storage);
        assert_eq!(dump(&crate::common::options(&disk.crash_losing_everything(), &clock).open(PATH).unwrap()), answers);
        drop(storage);
        assert_eq!(problems(&options.clone().read_only(), PATH), [], "seed {seed}");
        assert_eq!(dump(&options.open(PATH).unwrap()), answers, "seed {seed}: with the index");
        remove(&disk, "Data.fs.index");
        assert_eq!(dump(&options.open(PATH).unwrap()), answers, "seed {seed}: without the index");
    }
    println!("{total:?}");
    for what in [
        "linked again",
        "made",
        "unlinked",
        "undone",
        "version committed",
        "version aborted",
        "packs that made it smaller",
    ] {
        assert!(total.get(what).is_some_and(|count| *count > 0), "never: {what}");
    }
}

#[test]
fn many_threads_commit_while_one_packs_on_a_real_disk() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), SharedClock::new());
    let path = folder.path().join(PATH);
    let options = Options::new().clock(std::sync::Arc::new(clock.clone())).threads(2);
    let storage = options.create(&path).unwrap();
    let counts = loose(&storage, &clock, 99, 20, 30);
    println!("{counts:?}");
    is_found_again(storage, &options, &path);
}
