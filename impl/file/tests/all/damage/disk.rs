//! The disk fills up, fails, reads badly, or belongs to another user: acknowledged commits stay, others are not there,
//! and the error says so.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::common::*;
use bytes::Bytes;
use vellum_disk::{Disk, Open, SimDisk};
use vellum_file::{Durability, FileStorage, OpenError, Options, Scanner, recover};
use vellum_storage::{Error, Oid, Order, Tid, TidRange, TransactionMeta, Version};

const COMMITS: u64 = 8;

/// The changes of the nth commit.
fn changes(n: u64) -> Vec<(u64, Option<Bytes>)> {
    let state = vec![n as u8; [10, 700, 3000][n as usize % 3]];
    let mut changes = vec![(0, Some(record(&state))), (n + 1, Some(record(&state[..state.len() / 2])))];
    if n % 4 == 3 {
        changes.push((n - 1, None));
    }
    changes
}

fn nth_commit(storage: &FileStorage, clock: &SharedClock, n: u64) -> vellum_storage::Result<Tid> {
    clock.tick();
    commit(storage, &format!("commit {n}"), &changes(n))
}

fn all_commits(storage: &FileStorage, clock: &SharedClock) {
    for n in 0..COMMITS {
        nth_commit(storage, clock, n).unwrap();
    }
}

fn is_io(error: &Error, kind: io::ErrorKind) -> bool {
    matches!(error, Error::Io { path, source, .. } if path == Path::new(PATH) && source.kind() == kind)
}

#[test]
fn the_disk_fills_up_at_every_write() {
    let clock = SharedClock::new();
    let whole = SimDisk::new(1);
    let storage = options(&whole, &clock).create(PATH).unwrap();
    all_commits(&storage, &clock);
    let size = storage.size();
    drop(storage);
    let (mut cases, mut refused) = (0, 0);
    for capacity in (10..size + 400).step_by(29) {
        for durability in [Durability::Full, Durability::Relaxed] {
            let (disk, clock) = (SimDisk::new(1), SharedClock::new());
            disk.set_capacity(Some(capacity));
            let options = options(&disk, &clock).durability(durability);
            let storage = options.create(PATH).unwrap();
            for n in 0..COMMITS {
                let (bytes, answers) = (disk.read_file(PATH).unwrap(), dump(&storage));
                match nth_commit(&storage, &clock, n) {
                    Ok(_) => continue,
                    Err(error) => {
                        assert!(is_io(&error, io::ErrorKind::StorageFull), "{error}");
                        assert!(error.to_string().contains("of which nothing was kept"), "{error}");
                    }
                }
                refused += 1;
                assert!(disk.read_file(PATH).unwrap() == bytes, "{capacity}: the file is not as it was");
                assert_eq!(dump(&storage), answers, "{capacity}");
                // Something small may still fit.
                let small = commit(&storage, "", &[]);
                assert!(small.is_ok() || disk.read_file(PATH).unwrap() == bytes);
                // Then there is space again, for all behaviours of the machine in between.
                disk.set_capacity(None);
                let there = all_transactions(&storage).len();
                nth_commit(&storage, &clock, n).unwrap_or_else(|e| panic!("{capacity}, after there was room: {e}"));
                assert_eq!(all_transactions(&storage).len(), there + 1);
                let found = disk.crash_losing_everything();
                let again = crate::common::options(&found, &clock).open(PATH).unwrap();
                assert_eq!(all_transactions(&again), all_transactions(&storage), "{capacity}");
                disk.set_capacity(Some(capacity));
            }
            disk.set_capacity(None);
            drop(storage);
            assert_eq!(format_problems(&options, PATH), []);
            cases += 1;
        }
    }
    println!("{cases} sizes, {refused} commits refused");
    assert!(refused > 500);
}

#[test]
fn every_operation_fails_once() {
    let (mut cases, mut failed, mut refused, mut harmless, mut at_create) = (0, 0, 0, 0, 0);
    for durability in [Durability::Full, Durability::Relaxed] {
        let total = {
            let (disk, clock) = (SimDisk::new(1), SharedClock::new());
            let storage = options(&disk, &clock).durability(durability).create(PATH).unwrap();
            all_commits(&storage, &clock);
            drop(storage);
            disk.operations()
        };
        for operation in 0..total {
            for (partial, seed) in [(false, 1), (true, 1), (true, 2), (true, 3)] {
                cases += 1;
                let (disk, clock) = (SimDisk::new(seed), SharedClock::new());
                disk.keep_trace(500);
                disk.fail_at(operation, io::ErrorKind::Other, partial);
                let options = options(&disk, &clock).durability(durability);
                let case = || format!("{durability:?} {operation} {partial} {seed}\n{}", disk.trace().join("\n"));
                let storage = match options.create(PATH) {
                    Ok(storage) => storage,
                    Err(error) => {
                        at_create += 1;
                        assert!(error.to_string().contains("creating the database"), "{error}");
                        // Every operation can be done again, or is done.
                        options.open_or_create(PATH).unwrap_or_else(|e| panic!("{e}: {}", case()))
                    }
                };
                let mut acknowledged = 0;
                let mut error = None;
                for n in 0..COMMITS {
                    let (bytes, answers) = (disk.read_file(PATH).unwrap(), dump(&storage));
                    match nth_commit(&storage, &clock, n) {
                        Ok(_) => acknowledged += 1,
                        Err(e) => {
                            assert!(is_io(&e, io::ErrorKind::Other), "{e}: {}", case());
                            assert_eq!(dump(&storage), answers, "readers saw something: {}", case());
                            error = Some((e, bytes));
                            break;
                        }
                    }
                }
                let Some((error, bytes)) = error else {
                    // It was the index, or the creation.
                    harmless += 1;
                    drop(storage);
                    let storage = options.open(PATH).unwrap_or_else(|e| panic!("{e}: {}", case()));
                    assert_eq!(all_transactions(&storage).len() as u64, COMMITS, "{}", case());
                    assert_eq!(storage.recovery(), None);
                    continue;
                };
                let trace = disk.trace();
                let line = trace.iter().find(|line| line.contains(": done ")).unwrap();
                let is_first_write = line.contains("write") && !line.contains(" 1 bytes at ");
                match storage.begin(TransactionMeta::new()) {
                    Ok(_) => {
                        refused += 1;
                        assert!(is_first_write, "{line}: {}", case());
                        assert!(error.to_string().contains("of which nothing was kept"), "{error}");
                        assert!(disk.read_file(PATH).unwrap() == bytes, "something was kept: {}", case());
                        nth_commit(&storage, &clock, acknowledged).unwrap_or_else(|e| panic!("{e}: {}", case()));
                        acknowledged += 1;
                    }
                    Err(again) => {
                        failed += 1;
                        assert!(matches!(again, Error::Failed { .. }), "{again}");
                        assert!(again.to_string().contains("Data.fs takes no more commits"), "{again}");
                        assert!(!is_first_write, "{line}: {}", case());
                    }
                }
                let expected = all_transactions(&storage);
                assert_eq!(expected.len() as u64, acknowledged);
                dump(&storage);
                drop(storage);
                // Opened again on the running machine; and after a crash, at once or later.
                let crashed = [disk.crash_losing_everything(), disk.crash_keeping_everything(), disk.crash(operation)];
                for (n, disk) in [disk.clone()].into_iter().chain(crashed).enumerate() {
                    let options = crate::common::options(&disk, &clock).durability(durability);
                    let storage = options.open(PATH).unwrap_or_else(|e| panic!("{n}: {e}: {}", case()));
                    let there = all_transactions(&storage);
                    assert!(there.len() as u64 >= acknowledged, "{n}: {}", case());
                    assert!(there.len() as u64 <= acknowledged + 1, "{n}: {}", case());
                    assert_eq!(there[..expected.len()], expected[..], "{n}: {}", case());
                    commit(&storage, "afterwards", &changes(20)).unwrap();
                    let now = all_transactions(&storage);
                    drop(storage);
                    for found in [disk.crash_losing_everything(), disk.crash(operation + 7)] {
                        let options = crate::common::options(&found, &clock).durability(durability);
                        let storage =
                            options.open(PATH).unwrap_or_else(|e| panic!("{n}, and a crash: {e}: {}", case()));
                        assert_eq!(all_transactions(&storage), now, "{n}, and a crash: {}", case());
                        drop(storage);
                        assert_eq!(format_problems(&options, PATH), [], "{n}, and a crash: {}", case());
                    }
                }
            }
        }
    }
    println!(
        "{cases} failures: {at_create} of create, {refused} of a write, {failed} of a sync or mark, {harmless} harmless"
    );
    assert!(refused > 30 && failed > 100 && harmless > 10);
}

#[test]
fn short_reads() {
    let play = |short: bool| {
        let (disk, clock) = (SimDisk::new(1), SharedClock::new());
        disk.short_reads(short);
        let options = options(&disk, &clock).spill_after(100);
        let mut storage = options.create(PATH).unwrap();
        let mut answers = Vec::new();
        for n in 0..COMMITS {
            nth_commit(&storage, &clock, n).unwrap();
            answers.push(dump(&storage));
            drop(storage);
            if n % 2 == 0 {
                disk.remove(Path::new("Data.fs.index")).unwrap();
            }
            storage = options.open(PATH).unwrap();
            assert_eq!(storage.recovery(), None);
        }
        drop(storage);
        assert_eq!(format_problems(&options, PATH), []);
        recover(&options, PATH, "out").unwrap();
        let files = everything(&disk);
        assert_eq!(files[Path::new("out")], files[Path::new(PATH)]);
        (answers, files)
    };
    assert!(play(true) == play(false));
}

const SECTOR: u64 = 512;

/// A database whose records are longer than sectors.
fn long_records() -> (SimDisk, SharedClock, FileStorage) {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = options(&disk, &clock).create(PATH).unwrap();
    for n in 0..COMMITS {
        clock.tick();
        let state = vec![n as u8; 1100 + 317 * n as usize];
        let changes = [(n + 1, Some(record(&state))), (0, Some(record(&state[..1050]))), (20 + n, None)];
        let with_delete = if n > 3 { 3 } else { 2 };
        commit(&storage, "first", &[(20 + n, Some(record(b"short")))]).unwrap();
        commit(&storage, "then", &changes[..with_delete]).unwrap();
    }
    (disk, clock, storage)
}

#[test]
fn a_bad_sector_under_a_record() {
    let mut cases = 0;
    let (disk, clock, storage) = long_records();
    let oids: Vec<_> = (0..=COMMITS).chain(20..20 + COMMITS).collect();
    let loads = |storage: &FileStorage| -> Vec<Result<(Tid, Bytes), Error>> {
        oids.iter().map(|n| storage.load(Oid(*n), &Version::TRUNK).map(|l| (l.tid, l.data))).collect()
    };
    let whole = loads(&storage);
    let all = all_transactions(&storage).len() as u64;
    drop(storage);
    for (with_index, short) in [(true, false), (false, false), (true, true), (false, true)] {
        for bad in 0..=COMMITS {
            let disk = disk.crash_keeping_everything();
            let options = crate::common::options(&disk, &clock);
            if !with_index {
                disk.remove(Path::new("Data.fs.index")).unwrap();
            }
            let storage = options.open(PATH).unwrap();
            let at = storage.newest_record(Oid(bad)).unwrap().unwrap();
            let first = at.body().next_multiple_of(SECTOR);
            assert!(first + SECTOR <= at.body() + at.header.data_length, "a sector lies in the data of {bad}");
            disk.read_fail(PATH, first..first + SECTOR);
            disk.short_reads(short);
            for ((found, whole), n) in loads(&storage).into_iter().zip(&whole).zip(&oids) {
                if *n == bad {
                    let error = found.unwrap_err();
                    assert!(matches!(error, Error::Io { .. } | Error::Damaged(_)), "{error}");
                    let text = error.to_string();
                    assert!(text.contains("Data.fs") && text.contains(&at.position.to_string()), "{text}");
                } else {
                    assert_eq!(found.ok(), whole.as_ref().ok().cloned(), "{n}, with {bad} unreadable");
                }
            }
            // It keeps working.
            commit(&storage, "and on", &[(50, Some(record(b"fifty")))]).unwrap();
            drop(storage);
            let found = format_problems(&options, PATH);
            assert_eq!(found.iter().map(|p| p.position).collect::<Vec<_>>(), [at.position], "{found:?}");
            let salvage = recover(&options, PATH, "out").unwrap();
            assert_eq!(salvage.records_lost, [(Oid(bad), at.header.tid)]);
            assert_eq!((salvage.transactions, salvage.lost.len()), (all + 1, 0));
            assert_eq!(format_problems(&options, "out"), [], "{bad}: {salvage:?}");
            let saved = options.clone().read_only().open("out").unwrap();
            for ((found, whole), n) in loads(&saved).into_iter().zip(&whole).zip(&oids) {
                if *n != bad {
                    assert_eq!(found.ok(), whole.as_ref().ok().cloned(), "{n}, with {bad} unreadable");
                }
            }
            cases += 1;
        }
    }
    println!("{cases} bad sectors");
}

/// A read that fails after it has brought some bytes must not leave them where others are looked for.
#[test]
fn a_failed_read_leaves_nothing_behind() {
    let (disk, _, storage) = long_records();
    let (file, end) = storage.data_file();
    let at = storage.newest_record(Oid(3)).unwrap().unwrap().header.transaction;
    disk.read_fail(PATH, at + 10..at + 12);
    disk.short_reads(true);
    let mut scanner = Scanner::new(&*file, end);
    let first = scanner.header(4).unwrap();
    for _ in 0..100 {
        scanner.header(at).unwrap_err();
        assert_eq!(scanner.header(4), Ok(first));
    }
}

/// Opening must read every header, so it cannot skip an unreadable one: it reports the place, and changes nothing.
#[test]
fn a_bad_sector_anywhere() {
    let (disk, clock, storage) = long_records();
    let all = all_transactions(&storage);
    let size = storage.size();
    drop(storage);
    disk.remove(Path::new("Data.fs.index")).unwrap();
    let (mut cases, mut refused) = (0, 0);
    for sector in 1..size / SECTOR {
        for durability in [Durability::Full, Durability::Relaxed] {
            let disk = disk.crash_keeping_everything();
            let bad = sector * SECTOR..(sector + 1) * SECTOR;
            disk.read_fail(PATH, bad.clone());
            disk.short_reads(durability == Durability::Full);
            let options = options(&disk, &clock).durability(durability);
            let before = everything_but_the_lock(&disk);
            cases += 1;
            let opened = options.clone().read_only().open(PATH).map(drop);
            if let Err(error) = opened {
                refused += 1;
                assert_eq!(options.open(PATH).unwrap_err().to_string(), error.to_string());
                assert!(matches!(error, OpenError::Storage(Error::Damaged(_))), "{error}");
                assert!(error.to_string().contains("cannot be read"), "{error}");
                assert!(everything_but_the_lock(&disk) == before);
            }
            let found = format_problems(&options, PATH);
            assert!(found.iter().any(|p| (bad.start.saturating_sub(4000)..bad.end).contains(&p.position)), "{found:?}");
            let salvage = recover(&options, PATH, "out").unwrap();
            // A transaction of each kind may be touched, and no third.
            assert!(salvage.transactions as usize + 3 >= all.len(), "{sector}: {salvage:?}");
            assert!(!salvage.lost.is_empty() || salvage.records_lost.len() == 1, "{sector}: {salvage:?}");
            assert_eq!(format_problems(&options, "out"), []);
        }
    }
    println!("{cases} bad sectors, {refused} of them under a header");
    assert!(refused > 10 && cases > 2 * refused);
}

#[test]
fn a_bad_sector_under_the_index() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let options = options(&disk, &clock);
    let storage = options.create(PATH).unwrap();
    all_commits(&storage, &clock);
    let answers = dump(&storage);
    drop(storage);
    let length = disk.read_file("Data.fs.index").unwrap().len() as u64;
    for at in 0..length {
        let disk = disk.crash_keeping_everything();
        disk.read_fail("Data.fs.index", at..at + 1);
        let options = crate::common::options(&disk, &clock);
        let storage = options.open(PATH).unwrap();
        assert_eq!(dump(&storage), answers, "{at}");
        drop(storage);
        // It was written anew: under another name, so not on the bad sector.
        assert_eq!(disk.read_file("Data.fs.index").unwrap().len() as u64, length);
    }
}

#[test]
fn what_does_not_stay_in_memory_is_written_the_same() {
    let play = |spill_after| {
        let (disk, clock) = (SimDisk::new(1), SharedClock::new());
        let storage = options(&disk, &clock).spill_after(spill_after).create(PATH).unwrap();
        all_commits(&storage, &clock);
        commit(&storage, "large", &[(70, Some(record(&[1; 3_000_000]))), (71, Some(record(&[2; 1 << 20])))]).unwrap();
        for (oid, length, fill) in [(70, 3_000_000, 1), (71, 1 << 20, 2)] {
            assert!(storage.load(Oid(oid), &Version::TRUNK).unwrap().data == record(&vec![fill; length]));
        }
        drop(storage);
        everything(&disk)
    };
    let unspilled = play(u64::MAX);
    for spill_after in [0, 1, 100, 5000, 1 << 20] {
        assert!(play(spill_after) == unspilled, "{spill_after}");
    }
}

/// A failed store changes nothing: the transaction continues without it, and writes the other stores.
#[test]
fn the_disk_fills_up_with_what_does_not_stay_in_memory() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let options = options(&disk, &clock).spill_after(1);
    let storage = options.create(PATH).unwrap();
    nth_commit(&storage, &clock, 0).unwrap();
    let taken: u64 = everything(&disk).values().map(|bytes| bytes.len() as u64).sum();
    let mut refused = 0;
    for room in (0..6000).step_by(250) {
        let before = disk.read_file(PATH).unwrap();
        disk.set_capacity(Some(taken + room));
        let mut transaction = storage.begin(TransactionMeta::new()).unwrap();
        let mut stored = Vec::new();
        for n in 0..4 {
            let data = record(&vec![n as u8; 600 * n as usize]);
            match transaction.store(Oid(100 * (room + 1) + n), Tid::ZERO, data.clone()) {
                Ok(()) => stored.push((Oid(100 * (room + 1) + n), data)),
                Err(error) => {
                    refused += 1;
                    assert!(is_io(&error, io::ErrorKind::StorageFull), "{error}");
                    assert!(error.to_string().contains("scratch file"), "{error}");
                }
            }
        }
        assert!(disk.read_file(PATH).unwrap() == before);
        disk.set_capacity(None);
        let tid = storage.vote(transaction).unwrap().finish().unwrap();
        let written = all_transactions(&storage).pop().unwrap();
        assert_eq!(written.tid, tid);
        let written: Vec<_> = written.revisions.into_iter().map(|r| (r.oid, r.data.unwrap())).collect();
        assert_eq!(written, stored);
        disk.set_capacity(Some(taken));
        // With no room at all, too, the commit after it fails as a whole.
        let error = commit(&storage, "", &[(room + 1, Some(record(&[1; 900])))]).unwrap_err();
        assert!(is_io(&error, io::ErrorKind::StorageFull), "{error}");
        disk.set_capacity(None);
    }
    assert!(refused > 20, "{refused}");
    drop(storage);
    disk.remove(Path::new("Data.fs.index")).unwrap();
    assert_eq!(options.open(PATH).unwrap().recovery(), None);
    assert_eq!(format_problems(&options, PATH), []);
}

#[test]
fn an_index_that_can_not_be_saved_is_harmless() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let options = options(&disk, &clock);
    let storage = options.create(PATH).unwrap();
    let mut count = 0;
    for fails in 0..4 {
        for partial in [false, true] {
            nth_commit(&storage, &clock, count).unwrap();
            count += 1;
            let before = everything(&disk);
            disk.fail_at(disk.operations() + fails, io::ErrorKind::Other, partial);
            let error = storage.save_index().unwrap_err().to_string();
            assert!(error.contains("Data.fs.index") && error.contains("walks over the file instead"), "{error}");
            let mut after = everything(&disk);
            // A rename that is done in spite of its error is done.
            if !(fails == 3 && partial) {
                after.retain(|path, _| before.contains_key(path));
                assert!(after == before, "{fails} {partial}");
            }
            let found = disk.crash_keeping_everything();
            let again = crate::common::options(&found, &clock).open(PATH).unwrap();
            assert_eq!(dump(&again), dump(&storage));
        }
    }
    storage.save_index().unwrap();
}

#[test]
fn a_file_is_locked_once_and_given_back() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let options = options(&disk, &clock);
    let storage = options.create(PATH).unwrap();
    let handle = storage.clone();
    let iterator = storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap();
    let draft = storage.begin(TransactionMeta::new()).unwrap();
    drop(storage);
    assert!(matches!(options.open(PATH), Err(OpenError::Locked { .. })));
    drop(handle);
    // A transaction under way keeps it.
    assert!(matches!(options.open(PATH), Err(OpenError::Locked { .. })));
    drop(draft);
    options.open(PATH).unwrap();
    drop(iterator);
    // A failed opening gives the lock back, too.
    disk.write_file("bad", b"FS30 and then nothing that makes sense");
    for _ in 0..2 {
        assert!(matches!(options.open("bad"), Err(OpenError::Storage(Error::Damaged(_)))));
    }
    let failing: Arc<dyn Disk> = Arc::new(disk.clone());
    disk.fail_at(disk.operations(), io::ErrorKind::Other, false);
    let other = Options::new().disk(failing);
    assert!(other.create("new").is_err());
    assert!(disk.open(Path::new("new.new"), Open::Read).is_err(), "something was left");
    other.create("new").unwrap();
}
