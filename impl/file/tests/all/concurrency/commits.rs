//! Many threads at once: nothing is lost, nothing is seen half, and no thread waits for ever.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use crate::common::told::{Before, told};
use crate::common::*;
use bytes::Bytes;
use vellum_disk::SimDisk;
use vellum_file::{Durability, FileStorage, Options};
use vellum_storage::{
    Blobs, Busy, Contested, Error, Event, Oid, Order, Origin, Refusal, Resolver, Result, Tid, TidRange,
    TransactionMeta, Version, Vote, Voted,
};

const THREADS: u64 = 4;

fn new(disk: &SimDisk) -> FileStorage {
    options(disk, &SharedClock::new()).create(PATH).unwrap()
}

fn number(data: &[u8]) -> u64 {
    u64::from_be_bytes(data[data.len() - 9..data.len() - 1].try_into().unwrap())
}

fn of_number(number: u64) -> Bytes {
    record(&number.to_be_bytes())
}

fn load(storage: &FileStorage, oid: u64) -> (u64, Tid) {
    let loaded = storage.load(Oid(oid), &Version::TRUNK).unwrap();
    (number(&loaded.data), loaded.tid)
}

/// A vote on storing these numbers, whatever is there.
fn vote(storage: &FileStorage, numbers: &[(u64, u64)]) -> Result<Voted> {
    let mut transaction = storage.begin(TransactionMeta::new())?;
    for (oid, number) in numbers {
        transaction.store(Oid(*oid), serial(storage, Oid(*oid)), of_number(*number))?;
    }
    storage.vote(transaction)
}

fn tids(storage: &FileStorage) -> Vec<Tid> {
    storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap().map(|t| t.unwrap().tid).collect()
}

#[test]
fn writers_of_different_objects_do_not_meet() {
    for durability in [Durability::Full, Durability::Relaxed] {
        let disk = SimDisk::new(1);
        let options = options(&disk, &SharedClock::new()).durability(durability);
        let storage = options.create(PATH).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let storage = &storage;
                scope.spawn(move || {
                    for n in 0..100 {
                        let tid = vote(storage, &[(thread, n), (100 + thread, n)]).unwrap().finish().unwrap();
                        assert_eq!(load(storage, thread), (n, tid), "an acknowledged commit is there");
                    }
                });
            }
        });
        assert_eq!(tids(&storage).len() as u64, THREADS * 100);
        assert!(tids(&storage).is_sorted_by(|a, b| a < b));
        for thread in 0..THREADS {
            let past = storage.history(Oid(thread), 1000).unwrap();
            let past: Vec<_> = past.iter().map(|e| number(&storage.load_serial(Oid(thread), e.tid).unwrap())).collect();
            assert_eq!(past, (0..100).rev().collect::<Vec<_>>());
        }
        let answers = dump(&storage);
        drop(storage);
        assert_eq!(problems(&options, PATH).iter().filter(|p| p.oid.is_none()).count(), 0);
        disk.write_file("Data.fs.index", b"");
        assert_eq!(dump(&options.open(PATH).unwrap()), answers);
    }
}

#[test]
fn without_a_resolver_whoever_is_late_tries_again() {
    let disk = SimDisk::new(1);
    let storage = new(&disk);
    vote(&storage, &[(0, 0), (1, 0)]).unwrap().finish().unwrap();
    let conflicts = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..100 {
                    loop {
                        let (one, other) = (load(&storage, 0), load(&storage, 1));
                        let mut transaction = storage.begin(TransactionMeta::new()).unwrap();
                        transaction.store(Oid(0), one.1, of_number(one.0 + 1)).unwrap();
                        // It depends on an object that all of them change now and then.
                        transaction.check_current(Oid(1), other.1).unwrap();
                        if one.0 % 10 == 0 {
                            transaction.store(Oid(1), other.1, of_number(other.0 + 1)).unwrap();
                        }
                        match storage.vote(transaction).and_then(|voted| voted.finish()) {
                            Ok(_) => break,
                            Err(
                                Error::Refused(Refusal::Conflict { .. }) | Error::Refused(Refusal::ReadConflict { .. }),
                            ) => {
                                conflicts.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(other) => panic!("{other}"),
                        }
                    }
                }
            });
        }
    });
    assert_eq!((load(&storage, 0).0, load(&storage, 1).0), (THREADS * 100, THREADS * 10));
    println!("{} conflicts", conflicts.into_inner());
}

#[derive(Debug, Default)]
struct Counter {
    asked: AtomicU64,
}

impl Resolver for Counter {
    fn resolve(&self, contested: Contested<'_>) -> Option<Bytes> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let Contested { ancestor, committed, new, .. } = contested;
        Some(of_number(number(committed) + number(new) - number(ancestor)))
    }
}

#[test]
fn with_a_resolver_everybody_is_counted() {
    let disk = SimDisk::new(1);
    let counter = Arc::new(Counter::default());
    let storage = options(&disk, &SharedClock::new()).resolver(Arc::clone(&counter) as _).create(PATH).unwrap();
    let first = vote(&storage, &[(0, 0)]).unwrap().finish().unwrap();
    let resolved = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (storage, resolved) = (&storage, &resolved);
            scope.spawn(move || {
                for n in 0..100 {
                    // Some read the present state, some the first one.
                    let (was, serial) = if (thread + n) % 2 == 0 { load(storage, 0) } else { (0, first) };
                    let mut transaction = storage.begin(TransactionMeta::new()).unwrap();
                    transaction.store(Oid(0), serial, of_number(was + 1)).unwrap();
                    let voted = storage.vote(transaction).unwrap();
                    resolved.fetch_add(voted.merged().len() as u64, Ordering::Relaxed);
                    voted.finish().unwrap();
                }
            });
        }
    });
    assert_eq!(load(&storage, 0).0, THREADS * 100);
    assert_eq!(resolved.into_inner(), counter.asked.load(Ordering::Relaxed));
    assert!(counter.asked.load(Ordering::Relaxed) >= THREADS * 50 - 1);
}

/// Each transaction writes one number to five objects. Every reader sees one number in all of them.
#[test]
fn a_transaction_is_seen_whole_and_never_goes_away() {
    let disk = SimDisk::new(1);
    let storage = new(&disk);
    let all = |n: u64, first: u64| (first..first + 5).map(|oid| (oid, n)).collect::<Vec<_>>();
    vote(&storage, &all(0, 0)).unwrap().finish().unwrap();
    vote(&storage, &all(0, 300)).unwrap().finish().unwrap();
    let (done, looks, changes) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let writers: Vec<_> = [0, 300]
            .into_iter()
            .map(|first| {
                let (storage, changes) = (&storage, &changes);
                scope.spawn(move || {
                    let mut n = 0;
                    // Until readers had a look at many.
                    while n < 300 || (changes.load(Ordering::Relaxed) < 50 && n < 20_000) {
                        n += 1;
                        vote(storage, &all(n, first)).unwrap().finish().unwrap();
                    }
                })
            })
            .collect();
        for reader in 0..2 {
            let (storage, done, looks, changes) = (&storage, &done, &looks, &changes);
            scope.spawn(move || {
                let first = reader * 300;
                let (mut newest, mut seen) = ([(0, Tid::ZERO); 5], 0);
                while !done.load(Ordering::Relaxed) {
                    let last = storage.last_transaction();
                    let found: Vec<_> = (first..first + 5)
                        .map(|oid| {
                            let found = storage.load_before(Oid(oid), last.next()).unwrap().unwrap();
                            assert!(found.tid <= last && found.next.is_none_or(|next| next > last));
                            (number(&found.data), found.tid)
                        })
                        .collect();
                    assert!(found.iter().all(|f| *f == found[0]), "{found:?}");
                    assert!(found[0].0 >= seen, "{found:?} after {seen}");
                    changes.fetch_add(u64::from(found[0].0 > seen), Ordering::Relaxed);
                    seen = found[0].0;
                    for (n, newest) in newest.iter_mut().enumerate() {
                        let now = load(storage, first + n as u64);
                        assert!(now.0 >= seen && now >= *newest, "{now:?} after {newest:?}, {seen} before");
                        assert!(now.1 <= storage.last_transaction());
                        *newest = now;
                    }
                    let recent = storage.last_invalidations(1).unwrap().pop().unwrap();
                    assert!(recent.tid >= last && recent.oids.len() == 5);
                    looks.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
    });
    println!("{looks:?} looks, {changes:?} of them at something new");
    assert!(changes.into_inner() >= 50);
}

/// The index of a transaction of many objects takes a while to change. A reader has time enough to look at its first
/// object.
#[test]
fn a_large_transaction_is_not_seen_before_it_is_there() {
    const OBJECTS: u64 = 4000;
    let storage = new(&SimDisk::new(1));
    let all = |n: u64| (0..OBJECTS).map(|oid| (oid, n)).collect::<Vec<_>>();
    vote(&storage, &all(0)).unwrap().finish().unwrap();
    let (done, changes) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut n = 0;
            // Until the reader had a look at some.
            while n < 20 || (changes.load(Ordering::Relaxed) < 3 && n < 1000) {
                n += 1;
                vote(&storage, &all(n)).unwrap().finish().unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut seen = 0;
        while !done.load(Ordering::Relaxed) && !writer.is_finished() {
            let (n, tid) = load(&storage, 0);
            assert!(tid <= storage.last_transaction(), "{n} is shown before its transaction");
            changes.fetch_add(u64::from(n != seen), Ordering::Relaxed);
            seen = n;
        }
    });
    assert!(changes.into_inner() >= 3);
}

/// Rule 3.0.
#[test]
fn votes_hold_their_objects_and_only_these() {
    let disk = SimDisk::new(1);
    let storage = new(&disk);
    vote(&storage, &[(0, 0), (1, 0), (2, 0)]).unwrap().finish().unwrap();
    let begin = |changed: &[u64], kept: &[u64]| {
        let mut transaction = storage.begin(TransactionMeta::new()).unwrap();
        changed.iter().for_each(|&n| transaction.store(Oid(n), serial(&storage, Oid(n)), of_number(9)).unwrap());
        kept.iter().for_each(|&n| transaction.check_current(Oid(n), serial(&storage, Oid(n))).unwrap());
        transaction
    };
    let first = storage.vote(begin(&[0], &[2])).unwrap();
    // Side by side: on another object, and depending on the same.
    let second = storage.vote(begin(&[1], &[2])).unwrap();
    // Not on an object that is changed, nor on one that must stay.
    let mut busy = Vec::new();
    for (changed, kept, on) in [(&[0][..], &[][..], 0), (&[2], &[], 2), (&[7], &[1], 1), (&[7, 0], &[2], 0)] {
        match storage.try_vote(begin(changed, kept)).unwrap() {
            Vote::Voted(_) => panic!("{changed:?} {kept:?}"),
            Vote::Busy(waiting) => {
                assert_eq!(waiting.busy(), Some(&Busy::Object(Oid(on))));
                busy.push(waiting.into_draft());
            }
        }
    }
    // Refused votes took no locks.
    assert!(matches!(storage.try_vote(begin(&[7], &[])).unwrap(), Vote::Voted(_)));
    // The second is finished before the first, and gets the earlier tid.
    let tid = second.finish().unwrap();
    drop(first);
    assert_eq!(storage.last_transaction(), tid);
    // Waiting votes continue, each when the one before has released its locks: by finishing, and by going away.
    let mut outcomes = Vec::new();
    for transaction in busy {
        outcomes.push(match storage.try_vote(transaction) {
            Ok(Vote::Voted(voted)) => voted.finish().map(drop),
            Ok(Vote::Busy(waiting)) => panic!("{waiting:?}"),
            Err(error) => Err(error),
        });
    }
    assert!(outcomes[0].is_ok() && outcomes[1].is_ok());
    assert!(matches!(outcomes[2], Err(Error::Refused(Refusal::ReadConflict { oid: Oid(1), .. }))), "{:?}", outcomes[2]);
    assert!(matches!(outcomes[3], Err(Error::Refused(Refusal::Conflict { oid: Oid(0), .. }))), "{:?}", outcomes[3]);
    // A vote that failed holds nothing, nor does one that waits in vain: it is woken.
    let held = storage.vote(begin(&[0, 1, 2], &[])).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| storage.commit(begin(&[1], &[])));
        drop(held);
        waiting.join().unwrap().unwrap();
    });
}

/// Rule 2.8.
#[test]
fn a_listener_hears_of_each_commit_in_order_and_can_read_it() {
    let disk = SimDisk::new(1);
    let storage = new(&disk);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (reader, hears) = (storage.clone(), Arc::clone(&heard));
    let listening = storage.listen(Arc::new(move |event: &Event| {
        let Event::Committed { tid, oids, origin } = event else { panic!("{event:?}") };
        hears.lock().unwrap().push(*tid);
        // One thread changes each object, and has not returned from its finish.
        assert_eq!(*oids, [Oid(origin.0)]);
        assert_eq!(load(&reader, origin.0).1, *tid);
        assert_eq!(reader.last_transaction(), *tid);
        assert_eq!(reader.last_invalidations(1).unwrap()[0].tid, *tid);
        // Its objects are free.
        let mut draft = reader.begin(TransactionMeta::new()).unwrap();
        draft.store(oids[0], *tid, of_number(0)).unwrap();
        assert!(matches!(reader.try_vote(draft).unwrap(), Vote::Voted(_)));
    }));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (storage, heard) = (&storage, &heard);
            scope.spawn(move || {
                for n in 0..100 {
                    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
                    draft.set_origin(Origin(thread));
                    draft.store(Oid(thread), serial(storage, Oid(thread)), of_number(n)).unwrap();
                    let tid = storage.commit(draft).unwrap();
                    assert!(heard.lock().unwrap().contains(&tid), "finish returned before the listener heard of it");
                    assert!(storage.last_transaction() >= tid);
                    assert_eq!(load(storage, thread), (n, tid));
                }
            });
        }
    });
    drop(listening);
    vote(&storage, &[(0, 1)]).unwrap().finish().unwrap();
    let heard = heard.lock().unwrap();
    assert_eq!(heard[..], tids(&storage)[..THREADS as usize * 100]);
}

/// Finishes the first alone, and the others together: they queue up while the first is being told. `hear` gets the
/// number of each of the others, and may panic.
fn finish_together(
    storage: &FileStorage,
    voted: Vec<Voted>,
    hear: impl Fn(usize) + Send + Sync + 'static,
) -> Vec<bool> {
    let outcomes = Mutex::new(vec![false; voted.len()]);
    let (shown, is_shown) = mpsc::channel();
    let (go_on, gone_on) = mpsc::channel::<()>();
    let first = Mutex::new(Some((shown, gone_on)));
    let count = AtomicUsize::new(0);
    let _listening = storage.listen(Arc::new(move |_: &Event| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let first = first.lock().unwrap().take();
        match first {
            Some((shown, gone_on)) => {
                shown.send(()).unwrap();
                let _ = gone_on.recv();
            }
            None => hear(number),
        }
    }));
    std::thread::scope(|scope| {
        let outcomes = &outcomes;
        for (n, next) in voted.into_iter().enumerate() {
            scope.spawn(move || {
                let outcome = catch_unwind(AssertUnwindSafe(|| next.finish()));
                outcomes.lock().unwrap()[n] = matches!(outcome, Ok(Ok(_)));
            });
            if n == 0 {
                is_shown.recv().unwrap();
            }
            while storage.commits_waiting() < n {
                std::thread::yield_now();
            }
        }
        drop(go_on);
    });
    outcomes.into_inner().unwrap()
}

#[test]
fn those_who_come_together_share_the_syncs() {
    for (durability, syncs) in [(Durability::Full, 2 + 2), (Durability::Relaxed, 5)] {
        let disk = SimDisk::new(1);
        let storage = options(&disk, &SharedClock::new()).durability(durability).create(PATH).unwrap();
        let voted = (0..5).map(|n| vote(&storage, &[(n, n)]).unwrap()).collect();
        disk.keep_trace(1000);
        assert_eq!(finish_together(&storage, voted, |_| ()), [true; 5]);
        let trace = disk.trace();
        let count = trace.iter().filter(|line| line.contains(" sync ")).count();
        assert_eq!(count, syncs, "{durability:?}: {trace:#?}");
        assert_eq!(tids(&storage).len(), 5);
    }
}

/// Rule 3.0: a transaction whose blob cannot have its name fails alone; those that came with it are committed, each
/// with its blob.
#[test]
fn a_blob_without_a_name_fails_no_commit_that_came_with_it() {
    const BLOB: &[u8] = b"\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N.";
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = options(&disk, &clock).blobs(BLOBS).create(PATH).unwrap();
    let vote = |oid: u64| {
        let mut writer = storage.new_blob().unwrap();
        writer.append(&oid.to_be_bytes()).unwrap();
        let mut draft = storage.begin(TransactionMeta::new()).unwrap();
        draft.store_blob(Oid(oid), Tid::ZERO, BLOB.into(), writer.finish().unwrap()).unwrap();
        storage.vote(draft).unwrap()
    };
    let voted = (0..5).map(vote).collect();
    // A file where the folder of the third object's blobs is to be.
    disk.write_file("blobs/0x00/0x00/0x00/0x00/0x00/0x00/0x00/0x02", b"");
    assert_eq!(finish_together(&storage, voted, |_| ()), [true, true, false, true, true]);
    let committed = tids(&storage);
    for (oid, tid) in [0, 1, 3, 4].into_iter().zip(&committed) {
        let blob = storage.load_blob(Oid(oid), *tid).unwrap();
        assert_eq!(blob.bytes().unwrap(), oid.to_be_bytes()[..]);
    }
    assert_eq!(committed.len(), 4);
    drop(storage);
    let storage = options(&disk.crash(1), &clock).blobs(BLOBS).open(PATH).unwrap();
    assert_eq!(tids(&storage), committed);
    assert!(committed.iter().zip([0, 1, 3, 4]).all(|(tid, oid)| storage.load_blob(Oid(oid), *tid).is_ok()));
    let left = |path: &std::path::PathBuf| path.starts_with("blobs/tmp");
    assert_eq!(disk.paths().iter().filter(|path| left(path)).count(), 0);
}

/// The transaction is committed when the listener hears of it. The panic goes to the thread that finished it, and to no
/// other.
#[test]
fn a_panic_of_a_listener_goes_to_the_thread_that_finished() {
    for panics in 1..5 {
        let disk = SimDisk::new(1);
        let storage = new(&disk);
        let voted = (0..5).map(|n| vote(&storage, &[(n, n)]).unwrap()).collect();
        let outcomes = finish_together(&storage, voted, move |n| assert_ne!(n, panics, "a panic that the test wants"));
        let mut expected = [true; 5];
        expected[panics] = false;
        assert_eq!(outcomes, expected);
        (0..5).for_each(|n| assert_eq!(load(&storage, n).0, n));
        // Its objects are free, and commits go on.
        vote(&storage, &[(panics as u64, 77)]).unwrap().finish().unwrap();
        assert_eq!(tids(&storage).len(), 6);
        drop(storage);
        let options = options(&disk.crash_losing_everything(), &SharedClock::new());
        assert_eq!(tids(&options.open(PATH).unwrap()).len(), 6);
    }
    // Alone, in the thread that finishes.
    let disk = SimDisk::new(1);
    let storage = new(&disk);
    let voted = vote(&storage, &[(0, 1)]).unwrap();
    let listening = storage.listen(Arc::new(|_: &Event| panic!("a panic that the test wants")));
    let panicked = catch_unwind(AssertUnwindSafe(|| voted.finish()));
    drop(listening);
    assert!(panicked.is_err());
    assert_eq!(load(&storage, 0).0, 1);
    vote(&storage, &[(0, 2)]).unwrap().finish().unwrap();
}

/// A commit is finished while an index is saved that ends before it: the index must know the objects that the commit
/// changes as they were before.
#[test]
fn an_index_saved_during_a_commit() {
    let disk = SimDisk::new(1);
    let voted: Arc<Mutex<Option<Voted>>> = Arc::default();
    let finish = Arc::clone(&voted);
    let (send, receive) = mpsc::channel();
    let during: Before = Arc::new(move |what, _, _| {
        // Not in one expression: finishing is a disk operation, too.
        let voted = finish.lock().unwrap().take_if(|_| what == "open beside");
        if let Some(voted) = voted {
            send.send(voted.finish().unwrap()).unwrap();
        }
    });
    let storage = told(&disk, &SharedClock::new(), during).create(PATH).unwrap();
    for n in 0..3 {
        vote(&storage, &[(0, n), (1, n), (2, n)]).unwrap().finish().unwrap();
    }
    // So many that the newest transactions do not show what the index lacks.
    for n in 0..40 {
        vote(&storage, &[(10 + n, n)]).unwrap().finish().unwrap();
    }
    let size = storage.size();
    *voted.lock().unwrap() = Some(vote(&storage, &[(0, 10), (5, 10)]).unwrap());
    storage.save_index().unwrap();
    let (found, tid) = (disk.crash_keeping_everything(), receive.recv().unwrap());
    // All of it is there, with that index; and also if the commit is not.
    let index = found.read_file("Data.fs.index").unwrap();
    let options = |disk: &SimDisk| -> Options { crate::common::options(disk, &SharedClock::new()) };
    let again = options(&found).open(PATH).unwrap();
    assert_eq!((load(&again, 0), load(&again, 1).0, load(&again, 5)), ((10, tid), 2, (10, tid)));
    drop(again);
    let mut bytes = found.read_file(PATH).unwrap();
    bytes.truncate(size as usize);
    found.write_file(PATH, &bytes);
    found.write_file("Data.fs.index", &index);
    let again = options(&found).open(PATH).unwrap();
    assert_eq!((load(&again, 0).0, load(&again, 1).0), (2, 2));
    // The index saved last has the commit that was finished while an earlier one was saved.
    drop(storage);
    assert_eq!(problems(&options(&disk), PATH).iter().filter(|p| p.oid == Some(Oid(0))).count(), 0);
    let storage = options(&disk).open(PATH).unwrap();
    let before = disk.operations();
    assert_eq!(load(&storage, 0), (10, tid));
    drop(storage);
    assert_eq!(disk.operations(), before, "the index was not up to date");
}

/// Each of two transactions fits, both together do not: the one that is written second is refused.
#[test]
fn the_quota_holds_for_commits_that_come_together() {
    let disk = SimDisk::new(1);
    let storage = options(&disk, &SharedClock::new()).quota(150).create(PATH).unwrap();
    let (one, other) = (vote(&storage, &[(1, 1)]).unwrap(), vote(&storage, &[(2, 2)]).unwrap());
    one.finish().unwrap();
    let size = storage.size();
    assert!(matches!(other.finish(), Err(Error::Quota { quota: 150, needed, .. }) if needed > 150));
    assert_eq!((storage.size(), tids(&storage).len()), (size, 1));
}

#[test]
fn what_is_finished_at_once_shares_its_syncs() {
    let (disk, clock, syncs) = (SimDisk::new(1), SharedClock::new(), Arc::new(AtomicU64::new(0)));
    let counts = Arc::clone(&syncs);
    let before: Before = Arc::new(move |what, _, _| {
        counts.fetch_add(u64::from(what == "synced"), Ordering::SeqCst);
    });
    let storage = told(&disk, &clock, before).create(PATH).unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let _listening = storage.listen(Arc::new(move |event: &Event| {
        if let Event::Committed { tid, .. } = event {
            hears.lock().unwrap().push(*tid);
        }
    }));
    let first = vote(&storage, &[(0, 0)]).unwrap().finish().unwrap();
    let mut voted: Vec<_> = (1..8).map(|oid| vote(&storage, &[(oid, oid)]).unwrap()).collect();
    // One whose tid is too early when its turn comes does not affect the others.
    let mut too_early = storage.begin(TransactionMeta { tid: Some(first.next()), ..TransactionMeta::new() }).unwrap();
    too_early.store(Oid(100), Tid::ZERO, of_number(100)).unwrap();
    voted.insert(3, storage.vote(too_early).unwrap());
    syncs.store(0, Ordering::SeqCst);
    let outcomes = Voted::finish_all(voted);
    assert_eq!(syncs.load(Ordering::SeqCst), 2);
    assert!(outcomes[3].is_err());
    let finished: Vec<Tid> = outcomes.into_iter().flatten().collect();
    assert_eq!(finished.len(), 7);
    assert_eq!(tids(&storage), [&[first], &finished[..]].concat());
    assert_eq!(*heard.lock().unwrap(), tids(&storage));
    assert_eq!((1..8).map(|oid| load(&storage, oid).0).collect::<Vec<_>>(), (1..8).collect::<Vec<_>>());
    assert!(storage.load(Oid(100), &Version::TRUNK).is_err());
}

#[test]
fn a_listener_that_panics_keeps_nothing_from_being_finished() {
    let storage = new(&SimDisk::new(1));
    let voted: Vec<_> = (0..5).map(|oid| vote(&storage, &[(oid, oid)]).unwrap()).collect();
    let listening = storage.listen(Arc::new(|_: &Event| panic!("as planned")));
    catch_unwind(AssertUnwindSafe(|| Voted::finish_all(voted))).unwrap_err();
    drop(listening);
    assert_eq!(tids(&storage).len(), 5);
    vote(&storage, &[(0, 7)]).unwrap().finish().unwrap();
}
