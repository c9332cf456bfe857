//! Corners where several things meet: packed revisions and readers, read-only openings beside a copy, crashes of a copy.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::told::{Before, told};
use crate::common::{Dice, PATH, SharedClock, commit, options, record};
use vellum_disk::{SimDisk, Tear};
use vellum_file::{FileStorage, PackWatch, Packing};
use vellum_storage::{
    Bulk, Error, Oid, Order, Revision, Status, Storage, Tid, TidRange, TransactionMeta, TransactionRecord, Version,
    Voted,
};

fn transaction(tid: u64, status: Status, revisions: &[(u64, &[u8])]) -> TransactionRecord {
    let revision = |&(oid, data): &(u64, &[u8])| Revision {
        oid: Oid(oid),
        version: Version::TRUNK,
        data: Some(record(data)),
        source: None,
        base: None,
    };
    TransactionRecord {
        tid: Tid(tid),
        status,
        user: "ann".into(),
        description: "".into(),
        extension: "".into(),
        revisions: revisions.iter().map(revision).collect(),
    }
}

fn all(storage: &FileStorage) -> Vec<TransactionRecord> {
    storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap().map(|t| t.unwrap()).collect()
}

/// A packed record names none before it. Who began to read before it was there, or reads while it is being shown, must
/// find what was there before all the same.
#[test]
fn a_packed_revision_hides_nothing_from_earlier_readers() {
    let (disk, clock) = (SimDisk::new(0), SharedClock::new());
    let voted: Arc<Mutex<Option<Voted>>> = Arc::default();
    let finish = Arc::clone(&voted);
    let storage = told(
        &disk,
        &clock,
        Arc::new(move |what, _, _| {
            // While an index is being saved that ends before it.
            if let Some(voted) = finish.lock().unwrap().take_if(|_| what == "open beside") {
                voted.finish().unwrap();
            }
        }),
    );
    let storage = storage.create(PATH).unwrap();
    commit(&storage, "first", &[(1, Some(record(b"1"))), (2, Some(record(b"2")))]).unwrap();
    let early = storage.current_records(Oid::ROOT);
    let meta = TransactionMeta { status: Status::Packed, ..TransactionMeta::new() };
    let mut change = storage.begin(meta).unwrap();
    for oid in [1, 1, 2] {
        let revision =
            Revision { oid: Oid(oid), version: Version::TRUNK, data: Some(record(b"new")), source: None, base: None };
        change.restore(revision).unwrap();
    }
    *voted.lock().unwrap() = Some(storage.vote(change).unwrap());
    storage.save_index().unwrap();
    assert!(voted.lock().unwrap().is_none());
    let found: Vec<_> = early.map(|found| found.unwrap().data).collect();
    assert_eq!(found, [record(b"1"), record(b"2")]);
    assert_eq!(storage.load(Oid(1), &Version::TRUNK).unwrap().data, record(b"new"));
    assert_eq!(storage.history(Oid(1), 9).unwrap().len(), 1);
}

/// A copy appends a part while the marks of the one before are synced: so whoever opens the file for reading finds whole
/// transactions that are not finished, and they may be finished while he is still looking at them.
#[test]
fn opening_beside_a_copy_finds_no_damage() {
    let clock = SharedClock::new();
    let disk = SimDisk::new(0);
    let storage = options(&disk, &clock).create(PATH).unwrap();
    let first = commit(&storage, "first", &[(1, Some(record(b"1")))]).unwrap();
    let part = storage.size();
    let later = [1, 2, 3].map(|n| transaction(first.0 + n, Status::Complete, &[(n, &[b'x'; 5000])]));
    storage.copy_in(later.to_vec()).unwrap();
    let expected = all(&storage);
    drop(storage);
    let finished = disk.read_file(PATH).unwrap();
    let (mut position, mut marks) = (part as usize, Vec::new());
    while position < finished.len() {
        marks.push(position + 16);
        position += u64::from_be_bytes(finished[position + 8..position + 16].try_into().unwrap()) as usize + 8;
    }
    let mut unfinished = finished.clone();
    marks.iter().for_each(|&at| unfinished[at] = b'c');
    // At which of the reader's operations the copy makes its marks, and how far it had come in appending.
    let mut operation = 0;
    let mut cuts = (part as usize..unfinished.len()).step_by(97).chain([unfinished.len()]);
    let mut cut = cuts.next().unwrap();
    loop {
        let disk = SimDisk::new(0);
        disk.write_file(PATH, &unfinished[..cut]);
        let (count, done) = (AtomicU64::new(0), Arc::new(AtomicBool::new(false)));
        let (other, bytes, marked) = (disk.clone(), finished.clone(), Arc::clone(&done));
        let before: Before = Arc::new(move |_, _, _| {
            if count.fetch_add(1, Ordering::Relaxed) == operation {
                other.write_file(PATH, &bytes);
                marked.store(true, Ordering::Relaxed);
            }
        });
        let opened = told(&disk, &clock, before).threads(1).read_only().open(PATH);
        let storage = opened.unwrap_or_else(|error| panic!("operation {operation}, {cut} bytes: {error}"));
        if !done.load(Ordering::Relaxed) {
            assert!(operation > 1, "{operation}");
            operation = 0;
            match cuts.next() {
                Some(next) => cut = next,
                None => break,
            }
            continue;
        }
        let found = all(&storage);
        assert_eq!(found, expected[..found.len()], "operation {operation}");
        assert!(!found.is_empty());
        operation += 1;
    }
}

/// As the crashes of [`copying`](super::copying), but with the sync of a part before the next one is appended, so that the marks of the one
/// meet a part that is torn.
#[test]
fn marks_may_reach_the_disk_while_the_next_part_is_torn() {
    let (mut crashes, mut more) = (0, 0);
    for seed in 0..6_u64 {
        let clock = SharedClock::new();
        let mut dice = Dice(seed);
        let transactions: Vec<_> = (0..20)
            .map(|n| {
                let status = if n < dice.roll(20) { Status::Packed } else { Status::Complete };
                let data = vec![n as u8; 1 + dice.roll(900) as usize];
                transaction(1000 + n, status, &[(dice.roll(5), &data), (dice.roll(5), &data)])
            })
            .collect();
        let copy = |disk: &SimDisk| {
            let synced = Arc::new(AtomicU64::new(0));
            // An append of many bytes waits a little for a sync that may be under way.
            let before: Before = Arc::new(move |what, _, length| match what {
                "synced" => {
                    synced.fetch_add(1, Ordering::SeqCst);
                }
                "write" if length > 1 => {
                    let had = synced.load(Ordering::SeqCst);
                    for _ in 0..1000 {
                        if synced.load(Ordering::SeqCst) != had {
                            break;
                        }
                        std::thread::yield_now();
                    }
                }
                _ => {}
            });
            let Ok(storage) = told(disk, &clock, before).threads(2).copy_part(1500).create(PATH) else { return 0 };
            let mut done = 0;
            for batch in transactions.chunks(10) {
                if storage.copy_in(batch.to_vec()).is_err() {
                    break;
                }
                done += batch.len();
            }
            done
        };
        let whole = SimDisk::new(seed);
        assert_eq!(copy(&whole), 20);
        for operation in 0..whole.operations() {
            for tear in [Tear::NotAtAll, Tear::Partly, Tear::Wholly] {
                let disk = SimDisk::new(seed);
                disk.stop_at(operation, tear);
                let acknowledged = copy(&disk);
                for n in 0..4 {
                    let disk = disk.crash(seed ^ operation << 8 ^ n << 32);
                    crashes += 1;
                    let opened = options(&disk, &clock).threads(1).open_or_create(PATH);
                    let storage = match opened {
                        Ok(storage) => storage,
                        Err(error) => {
                            assert_eq!(acknowledged, 0, "seed {seed}, operation {operation}: {error}");
                            continue;
                        }
                    };
                    let found = all(&storage);
                    assert!(found.len() >= acknowledged, "seed {seed}, operation {operation}, {tear:?}");
                    assert_eq!(found, transactions[..found.len()], "seed {seed}, operation {operation}, {tear:?}");
                    more += u64::from(found.len() > acknowledged);
                    storage.copy_in(transactions[found.len()..].to_vec()).unwrap();
                    assert_eq!(all(&storage), transactions, "seed {seed}, operation {operation}, {tear:?}");
                }
            }
        }
    }
    println!("{crashes} crashes, {more} with more than was acknowledged");
    assert!(crashes > 500 && more > 0, "{crashes}, {more}");
}

/// Revisions that name sources which are not there: looking for each costs no walk over a large transaction.
#[test]
fn a_source_that_is_not_here_costs_little() {
    const OBJECTS: u64 = 3000;
    let (disk, clock) = (SimDisk::new(0), SharedClock::new());
    let reads = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&reads);
    let before: Before = Arc::new(move |what, _, _| {
        counted.fetch_add((what == "read").into(), Ordering::Relaxed);
    });
    let storage = told(&disk, &clock, before).create(PATH).unwrap();
    let many: Vec<(u64, &[u8])> = (0..OBJECTS).map(|oid| (oid, &b"x"[..])).collect();
    storage.copy_in(vec![transaction(1000, Status::Complete, &many)]).unwrap();
    let mut later = transaction(2000, Status::Complete, &many[..100]);
    later.revisions.iter_mut().for_each(|revision| revision.source = Some(Tid(10)));
    reads.store(0, Ordering::Relaxed);
    storage.copy_in(vec![later]).unwrap();
    let reads = reads.load(Ordering::Relaxed);
    assert!(reads < 1000, "{reads} reads");
}

/// A commit of several that was cut among its marks, seen read-only: what the undo log names can be undone.
#[test]
fn what_the_undo_log_names_can_be_undone() {
    let clock = SharedClock::new();
    let disk = SimDisk::new(0);
    let storage = options(&disk, &clock).create(PATH).unwrap();
    let start = storage.size() as usize;
    storage.copy_in([1, 2].map(|n| transaction(1000 + n, Status::Complete, &[(n, b"x")])).to_vec()).unwrap();
    drop(storage);
    let mut bytes = disk.read_file(PATH).unwrap();
    bytes[start + 16] = b'c';
    let disk = SimDisk::new(0);
    disk.write_file(PATH, &bytes);
    let storage = options(&disk, &clock).read_only().open(PATH).unwrap();
    let log = storage.undo_log().unwrap().undo_log(0, 9).unwrap();
    assert_eq!(log.len(), 2);
    for entry in log {
        let mut change = storage.rehearse(TransactionMeta::new()).unwrap();
        change.undo(entry.tid).unwrap();
        assert_eq!(storage.vote(change).map(|voted| voted.touched().len()).unwrap(), 1);
    }
}

/// A commit of several that was cut among its marks, seen as of a moment in it: what it is to be is known from what follows.
#[test]
fn as_of_a_moment_among_the_marks() {
    let (disk, clock) = (SimDisk::new(0), SharedClock::new());
    let storage = options(&disk, &clock).create(PATH).unwrap();
    let start = storage.size() as usize;
    storage.copy_in([1, 2].map(|n| transaction(1000 + n, Status::Packed, &[(n, b"x")])).to_vec()).unwrap();
    drop(storage);
    let mut bytes = disk.read_file(PATH).unwrap();
    bytes[start + 16] = b'c';
    let disk = SimDisk::new(0);
    disk.write_file(PATH, &bytes);
    let storage = options(&disk, &clock).as_of(Tid(1001)).open(PATH).unwrap();
    assert_eq!(all(&storage).iter().map(|found| found.status).collect::<Vec<_>>(), [Status::Packed]);
    assert_eq!(storage.undo_log().unwrap().undo_log(0, 9).unwrap(), []);
}

/// The end of a version with nothing in it takes the room of a transaction with nothing in it.
#[test]
fn the_quota_counts_what_the_end_of_a_version_writes() {
    let (disk, clock) = (SimDisk::new(0), SharedClock::new());
    let storage = options(&disk, &clock).create(PATH).unwrap();
    commit(&storage, "made", &[(1, Some(record(b"1")))]).unwrap();
    let size = storage.size();
    drop(storage);
    let storage = options(&disk, &clock).quota(size + 31).open(PATH).unwrap();
    let mut change = storage.begin(TransactionMeta::new()).unwrap();
    change.commit_version(&Version::named("draft"), &Version::TRUNK).unwrap();
    storage.vote(change).unwrap().finish().unwrap();
    assert_eq!(storage.size(), size + 31);
}

/// Every operation of a copy fails, once: what is shown is the beginning of the history and survives a crash; the copy goes
/// on from there, at once or after the file was opened again.
#[test]
fn every_operation_of_a_copy_fails_once() {
    let clock = SharedClock::new();
    let transactions: Vec<_> = (0..24)
        .map(|n| {
            let status = if n < 9 { Status::Packed } else { Status::Complete };
            transaction(1000 + n, status, &[(n % 5, &[n as u8; 150])])
        })
        .collect();
    let copy = |disk: &SimDisk, threads| {
        let storage = options(disk, &clock).threads(threads).copy_part(600).create(PATH).ok()?;
        let trouble = transactions.chunks(12).find_map(|batch| storage.copy_in(batch.to_vec()).err());
        Some((storage, trouble))
    };
    let (mut refusing, mut usable) = (0, 0);
    for threads in [1, 2] {
        let whole = SimDisk::new(0);
        copy(&whole, threads).unwrap();
        for operation in 0..whole.operations() {
            for (kind, partial) in [(io::ErrorKind::StorageFull, true), (io::ErrorKind::Other, false)] {
                let disk = SimDisk::new(0);
                disk.fail_at(operation, kind, partial);
                let Some((storage, Some(trouble))) = copy(&disk, threads) else { continue };
                let case = format!("operation {operation}, {threads} threads: {trouble}");
                let shown = all(&storage);
                assert_eq!(shown, transactions[..shown.len()], "{case}");
                for seed in 0..4 {
                    let found = all(&options(&disk.crash(seed), &clock).open(PATH).unwrap());
                    assert!(found.len() >= shown.len() && found == transactions[..found.len()], "{case}");
                }
                let storage = match storage.copy_in(transactions[shown.len()..].to_vec()) {
                    Err(Error::Failed { .. }) => {
                        refusing += 1;
                        drop(storage);
                        let storage = options(&disk, &clock).open(PATH).unwrap();
                        let found = all(&storage);
                        assert!(found.len() >= shown.len(), "{case}");
                        storage.copy_in(transactions[found.len()..].to_vec()).unwrap();
                        storage
                    }
                    other => {
                        usable += 1;
                        other.unwrap_or_else(|error| panic!("{case}; then {error}"));
                        storage
                    }
                };
                assert_eq!(all(&storage), transactions, "{case}");
                assert_eq!(all(&options(&disk.crash(0), &clock).open(PATH).unwrap()), transactions, "{case}");
            }
        }
    }
    assert!(refusing > 20 && usable > 5, "{refusing}, {usable}");
}

/// A commit's sync has to wait for all that the disk was given before. So a pack beside which somebody commits gives it little
/// at a time.
#[test]
fn a_pack_beside_commits_gives_the_disk_little_at_a_time() {
    struct Committing<'a>(&'a FileStorage, bool);
    impl PackWatch for Committing<'_> {
        fn begins(&mut self) {
            if self.1 {
                commit(self.0, "beside", &[(1, Some(record(b"beside")))]).unwrap();
            }
        }
    }
    const OBJECTS: u64 = 400;
    for commits in [false, true] {
        let (disk, clock) = (SimDisk::new(0), SharedClock::new());
        // Of the file that is being made: what was written and not synced, and the most of it.
        let unsynced = Arc::new(Mutex::new((0, 0)));
        let (packing, counted) = (Arc::new(AtomicBool::new(false)), Arc::clone(&unsynced));
        let is_packing = Arc::clone(&packing);
        let before: Before = Arc::new(move |what, _, length| {
            let mut unsynced = counted.lock().unwrap();
            match what {
                "write" if is_packing.load(Ordering::Relaxed) => unsynced.0 += length,
                "synced" => unsynced.0 = 0,
                _ => {}
            }
            unsynced.1 = unsynced.1.max(unsynced.0);
        });
        let storage = told(&disk, &clock, before).threads(2).create(PATH).unwrap();
        let large = record(&[7; 20_000]);
        for oid in 0..OBJECTS {
            commit(&storage, "large", &[(oid, Some(large.clone()))]).unwrap();
        }
        packing.store(true, Ordering::Relaxed);
        let how = Packing::new().collect(false);
        storage.pack_with(Tid::MAX, how, &mut Committing(&storage, commits)).unwrap();
        let most = unsynced.lock().unwrap().1;
        println!("commits: {commits}, at most {most} bytes");
        assert!(storage.size() > 8_000_000);
        assert!(if commits { most < 2 << 20 } else { most > 2 << 20 }, "{commits}: {most} bytes");
    }
}
